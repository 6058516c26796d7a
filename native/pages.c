#define _GNU_SOURCE
#include "pages.h"

#include "memory.h"

#include <string.h>

#ifdef PUGD_TEST_MEMORY

/* The chunk on a boundary of 64 inside its allocation; where that begins is kept behind it. */
static void *map(int huge)
{
    uint8_t *memory = pugd_calloc(1, PUGD_PAGES_CHUNK + 64 + sizeof memory);
    if (!memory) return NULL;
    uint8_t *chunk = (uint8_t *)(((uintptr_t)memory + 63) & ~(uintptr_t)63);
    memcpy(chunk + PUGD_PAGES_CHUNK, &memory, sizeof memory);
    return chunk;
}

void pugd_pages_give(void *chunk)
{
    void *memory;
    if (!chunk) return;
    memcpy(&memory, (uint8_t *)chunk + PUGD_PAGES_CHUNK, sizeof memory);
    pugd_free(memory);
}

static void make_huge(void *chunk) {}
static int begin(struct pugd_pages *p) { return -1; }

#else

#include <signal.h>
#include <sys/mman.h>

static void make_huge(void *chunk)
{
    madvise(chunk, PUGD_PAGES_CHUNK, MADV_HUGEPAGE); /* a wish: a system without huge pages refuses it */
}

static void *map(int huge)
{
    uint8_t *memory = mmap(NULL, 2 * (size_t)PUGD_PAGES_CHUNK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return NULL;
    uint8_t *chunk = (uint8_t *)(((uintptr_t)memory + PUGD_PAGES_CHUNK - 1) & ~(uintptr_t)(PUGD_PAGES_CHUNK - 1));
    if (chunk > memory) munmap(memory, (size_t)(chunk - memory));
    munmap(chunk + PUGD_PAGES_CHUNK, (size_t)(memory + PUGD_PAGES_CHUNK - chunk));
    if (huge)
        make_huge(chunk);
    else
        madvise(chunk, PUGD_PAGES_CHUNK, MADV_NOHUGEPAGE);
    return chunk;
}

void pugd_pages_give(void *chunk)
{
    if (chunk) munmap(chunk, PUGD_PAGES_CHUNK);
}

/* The thread: keep chunks ready. */
static void *touch(void *argument)
{
    struct pugd_pages *p = argument;
    pthread_mutex_lock(&p->lock);
    while (!p->stopping) {
        if (p->ready_count == PUGD_PAGES_READY) {
            pthread_cond_wait(&p->wanted, &p->lock);
            continue;
        }
        pthread_mutex_unlock(&p->lock);
        uint8_t *chunk = map(1);
        if (chunk)
            for (size_t at = 0; at < PUGD_PAGES_CHUNK; at += 4096) *(volatile uint8_t *)(chunk + at) = 0;
        pthread_mutex_lock(&p->lock);
        if (chunk)
            p->ready[p->ready_count++] = chunk;
        else if (!p->stopping)
            pthread_cond_wait(&p->wanted, &p->lock); /* memory is short: again when the next chunk is taken */
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

static int begin(struct pugd_pages *p)
{
    sigset_t all, before;
    sigfillset(&all); /* signals are for the process's own threads */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&p->thread, NULL, touch, p);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return failed;
}

#endif

int pugd_pages_open(struct pugd_pages *p)
{
    memset(p, 0, sizeof *p);
    if (pthread_mutex_init(&p->lock, NULL)) return -1;
    if (pthread_cond_init(&p->wanted, NULL) == 0) return 0;
    pthread_mutex_destroy(&p->lock);
    return -1;
}

void pugd_pages_close(struct pugd_pages *p)
{
    if (p->running) {
        pthread_mutex_lock(&p->lock);
        p->stopping = 1;
        pthread_cond_signal(&p->wanted);
        pthread_mutex_unlock(&p->lock);
        pthread_join(p->thread, NULL);
    }
    for (uint32_t i = 0; i < p->ready_count; i++) pugd_pages_give(p->ready[i]);
    pthread_cond_destroy(&p->wanted);
    pthread_mutex_destroy(&p->lock);
}

void *pugd_pages_take(struct pugd_pages *p)
{
    uint8_t *chunk = NULL;
    if (p->taken >= PUGD_PAGES_PLAIN) {
        if (!p->running) p->running = begin(p) == 0;
        pthread_mutex_lock(&p->lock);
        if (p->ready_count) chunk = p->ready[--p->ready_count];
        pthread_cond_signal(&p->wanted);
        pthread_mutex_unlock(&p->lock);
        if (!chunk && p->patient) chunk = map(1);
        p->huge += chunk != NULL;
        if (!chunk && (chunk = map(0))) {
            if (p->plain) make_huge(p->plain); /* it has been touched nearly everywhere by now */
            p->plain = chunk;
        }
    } else {
        chunk = map(0);
    }
    p->taken += chunk != NULL;
    return chunk;
}

uint64_t pugd_pages_bytes(const struct pugd_pages *p)
{
    return (uint64_t)PUGD_PAGES_CHUNK * (p->taken + (p->running ? PUGD_PAGES_READY : 0));
}
