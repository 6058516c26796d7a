#define _GNU_SOURCE
#include "flush.h"

#include "memory.h"
#include "record.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

/* The calls that a test may make fail. */
#ifndef PUGD_TEST_FLUSH
#define call_pwrite pwrite
#define call_fdatasync fdatasync
#define call_fsync fsync
#define call_renameat renameat
#define call_fallocate fallocate
#endif

#define SWITCHES 64            /* that may wait in one buffer; files of the usual size fill it with one or two */
#define KEPT ((size_t)4 << 20) /* of a buffer that stays in memory after a burst */

struct mark {
    size_t at;      /* offset in the buffer where the new file begins */
    int fd;
    uint64_t start; /* the new file's position */
    char spare[PUGD_FLUSH_NAME];
    char name[PUGD_FLUSH_NAME];
};

struct buffer {
    uint8_t *bytes;
    size_t length;
    struct mark marks[SWITCHES];
    unsigned marks_count;
};

struct pugd_flush {
    /* set at the start */
    int directory, event;
    _Atomic uint64_t *page;
    uint64_t file_bytes, reserve;
    size_t pending;
    pthread_t thread;

    /* the appender's own */
    uint64_t position;

    /* under `lock` */
    pthread_mutex_t lock;
    pthread_cond_t wake; /* the thread has something to do */
    pthread_cond_t done; /* flushed or error changed */
    struct buffer *tail;
    int closing, spare_wanted;

    /* under `spare_lock`, which is never taken while `lock` is held */
    pthread_mutex_t spare_lock;
    int spare_fd; /* -1: none */
    uint64_t spare_bytes;
    uint64_t spare_number;
    char spare_name[PUGD_FLUSH_NAME];

    /* the thread's own */
    int fd;         /* the open journal file, -1 before the first switch */
    uint64_t start; /* its position */
    uint64_t end;   /* position up to which is written */

    _Atomic uint64_t flushed;
    _Atomic int error, operation;
    _Atomic uint64_t syncs, written, sync_ns_total, sync_ns_max, files;
    _Atomic int cannot_allocate;

    struct buffer buffers[2];
};

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void signal_event(struct pugd_flush *f)
{
    uint64_t one = 1;
    ssize_t n;
    do n = write(f->event, &one, sizeof one);
    while (n < 0 && errno == EINTR);
    /* EAGAIN: the counter is full, so it is readable */
}

static int set_error(struct pugd_flush *f, int error, int operation)
{
    atomic_store_explicit(&f->operation, operation, memory_order_relaxed);
    atomic_store_explicit(&f->error, error ? error : EIO, memory_order_release);
    return -1;
}

/* ---- the thread ------------------------------------------------------------------------------------------------- */

static int write_all(struct pugd_flush *f, const uint8_t *bytes, size_t length)
{
    while (length) {
        ssize_t n = call_pwrite(f->fd, bytes, length, (off_t)(f->end - f->start));
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return set_error(f, n < 0 ? errno : EIO, PUGD_FLUSH_WRITE);
        bytes += n;
        length -= (size_t)n;
        f->end += (uint64_t)n;
        atomic_fetch_add_explicit(&f->written, (uint64_t)n, memory_order_relaxed);
    }
    return 0;
}

/* Not tried again where a signal interrupts it: what became of the pages is then unknown, and no signal comes here. */
static int sync_file(struct pugd_flush *f)
{
    atomic_fetch_add_explicit(&f->syncs, 1, memory_order_relaxed);
    if (call_fdatasync(f->fd)) return set_error(f, errno, PUGD_FLUSH_SYNC);
    return 0;
}

static int finish_file(struct pugd_flush *f)
{
    if (f->fd < 0) return 0;
    if (sync_file(f)) return -1;
    /* what was allocated and not used is given back; the data's end is known without it */
    if (ftruncate(f->fd, (off_t)(f->end - f->start))) { /* costs disk space, nothing else */
    }
    close(f->fd);
    f->fd = -1;
    return 0;
}

/* Bring a buffer to the disk. */
static int store(struct pugd_flush *f, struct buffer *b)
{
    size_t at = 0;
    for (unsigned i = 0; i <= b->marks_count; i++) {
        size_t until = i < b->marks_count ? b->marks[i].at : b->length;
        if (until > at && write_all(f, b->bytes + at, until - at)) return -1;
        at = until;
        if (i > 0) {
            struct mark *mark = &b->marks[i - 1];
            if (sync_file(f)) return -1;
            if (call_renameat(f->directory, mark->spare, f->directory, mark->name) || call_fsync(f->directory))
                return set_error(f, errno, PUGD_FLUSH_DIRECTORY);
            atomic_fetch_add_explicit(&f->files, 1, memory_order_relaxed);
        }
        if (i < b->marks_count) {
            if (finish_file(f)) return -1;
            f->fd = b->marks[i].fd;
            b->marks[i].fd = -1;
            f->start = f->end = b->marks[i].start;
        }
    }
    if (!b->marks_count) return sync_file(f);
    return 0;
}

static void empty(struct buffer *b)
{
    if (b->length > KEPT) madvise(b->bytes + KEPT, b->length - KEPT, MADV_DONTNEED);
    b->length = 0;
    b->marks_count = 0;
}

static void *run(void *argument)
{
    struct pugd_flush *f = argument;
    pthread_mutex_lock(&f->lock);
    for (;;) {
        while (!f->tail->length && !f->closing && !f->spare_wanted) pthread_cond_wait(&f->wake, &f->lock);
        if (f->tail->length) {
            struct buffer *full = f->tail;
            f->tail = full == &f->buffers[0] ? &f->buffers[1] : &f->buffers[0];
            pthread_mutex_unlock(&f->lock);

            uint64_t begun = now_ns();
            int failed = store(f, full);
            uint64_t took = now_ns() - begun;
            atomic_fetch_add_explicit(&f->sync_ns_total, took, memory_order_relaxed);
            if (took > atomic_load_explicit(&f->sync_ns_max, memory_order_relaxed))
                atomic_store_explicit(&f->sync_ns_max, took, memory_order_relaxed);
            if (!failed) {
                if (f->page) atomic_store_explicit(f->page, f->end, memory_order_release);
                atomic_store_explicit(&f->flushed, f->end, memory_order_release);
                empty(full);
            }
            signal_event(f);

            pthread_mutex_lock(&f->lock);
            pthread_cond_broadcast(&f->done);
            if (failed) break;
        } else if (f->closing) {
            break;
        } else {
            f->spare_wanted = 0;
            pthread_mutex_unlock(&f->lock);
            pugd_flush_spare(f, f->file_bytes); /* if it cannot be had now, the appender asks again */
            pthread_mutex_lock(&f->lock);
        }
    }
    pthread_mutex_unlock(&f->lock);
    return NULL;
}

/* ---- spares ----------------------------------------------------------------------------------------------------- */

static void drop_spare(struct pugd_flush *f)
{
    if (f->spare_fd < 0) return;
    close(f->spare_fd);
    unlinkat(f->directory, f->spare_name, 0);
    f->spare_fd = -1;
    f->spare_bytes = 0;
}

/* As pugd_flush_spare, spare_lock held. */
static int make_spare(struct pugd_flush *f, uint64_t bytes)
{
    if (f->spare_fd >= 0 && f->spare_bytes >= bytes) return 0;
    if (bytes < f->file_bytes) bytes = f->file_bytes;
    struct statvfs disk;
    if (fstatvfs(f->directory, &disk)) return -errno;
    if ((uint64_t)disk.f_bavail * disk.f_frsize < f->reserve + (bytes - f->spare_bytes)) return -ENOSPC;
    if (f->spare_fd < 0) {
        snprintf(f->spare_name, sizeof f->spare_name, "spare-%llu", (unsigned long long)f->spare_number);
        int fd = openat(f->directory, f->spare_name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
        if (fd < 0) return -errno;
        f->spare_number++;
        f->spare_fd = fd;
    }
    int failed;
    do failed = call_fallocate(f->spare_fd, 0, 0, (off_t)bytes);
    while (failed && errno == EINTR);
    if (failed && (errno == EOPNOTSUPP || errno == ENOSYS)) {
        /* some file systems cannot; then the reserve alone keeps the disk from filling up */
        atomic_store_explicit(&f->cannot_allocate, 1, memory_order_relaxed);
    } else if (failed) {
        int error = errno;
        if (!f->spare_bytes) drop_spare(f); /* a smaller one stays good */
        return -error;
    }
    f->spare_bytes = bytes;
    return 0;
}

int pugd_flush_spare(struct pugd_flush *f, uint64_t bytes)
{
    pthread_mutex_lock(&f->spare_lock);
    pthread_mutex_lock(&f->lock);
    int busy = f->tail->marks_count == SWITCHES;
    pthread_mutex_unlock(&f->lock);
    int result = busy ? -EAGAIN : make_spare(f, bytes);
    pthread_mutex_unlock(&f->spare_lock);
    return result;
}

/* ---- the appender ----------------------------------------------------------------------------------------------- */

/* The tail, `lock` held, with room for `length` bytes; NULL where it has none. */
static struct buffer *tail_with(struct pugd_flush *f, size_t length)
{
    struct buffer *tail = f->tail;
    return f->pending - tail->length < length ? NULL : tail;
}

int64_t pugd_flush_append(struct pugd_flush *f, const uint8_t *payload, uint32_t length, uint32_t rows)
{
    uint8_t head[PUGD_RECORD_HEADER];
    int error = atomic_load_explicit(&f->error, memory_order_acquire);
    if (error) return -error;
    pugd_record_head(head, payload, length, rows, f->position);

    pthread_mutex_lock(&f->lock);
    struct buffer *tail = tail_with(f, sizeof head + length);
    if (!tail) {
        pthread_mutex_unlock(&f->lock);
        return -EAGAIN;
    }
    memcpy(tail->bytes + tail->length, head, sizeof head);
    memcpy(tail->bytes + tail->length + sizeof head, payload, length);
    tail->length += sizeof head + length;
    pthread_cond_signal(&f->wake);
    pthread_mutex_unlock(&f->lock);
    f->position += sizeof head + length;
    return (int64_t)f->position;
}

int64_t pugd_flush_switch(struct pugd_flush *f, const char *name, const uint8_t *header, uint32_t length)
{
    int error = atomic_load_explicit(&f->error, memory_order_acquire);
    if (error) return -error;
    if (strlen(name) >= PUGD_FLUSH_NAME) return -ENAMETOOLONG;
    pthread_mutex_lock(&f->spare_lock);
    if (f->spare_fd < 0) {
        pthread_mutex_unlock(&f->spare_lock);
        return -EAGAIN;
    }
    pthread_mutex_lock(&f->lock);
    struct buffer *tail = tail_with(f, length);
    if (!tail || tail->marks_count == SWITCHES) {
        pthread_mutex_unlock(&f->lock);
        pthread_mutex_unlock(&f->spare_lock);
        return -EAGAIN;
    }
    struct mark *mark = &tail->marks[tail->marks_count++];
    mark->at = tail->length;
    mark->fd = f->spare_fd;
    mark->start = f->position;
    memcpy(mark->spare, f->spare_name, sizeof mark->spare);
    strcpy(mark->name, name);
    memcpy(tail->bytes + tail->length, header, length);
    tail->length += length;
    f->spare_wanted = 1;
    pthread_cond_signal(&f->wake);
    pthread_mutex_unlock(&f->lock);
    f->spare_fd = -1;
    f->spare_bytes = 0;
    pthread_mutex_unlock(&f->spare_lock);
    f->position += length;
    return (int64_t)f->position;
}

/* ---- from any thread -------------------------------------------------------------------------------------------- */

uint64_t pugd_flush_flushed(struct pugd_flush *f) { return atomic_load_explicit(&f->flushed, memory_order_acquire); }

int pugd_flush_error(struct pugd_flush *f, int *operation)
{
    int error = atomic_load_explicit(&f->error, memory_order_acquire);
    if (operation) *operation = atomic_load_explicit(&f->operation, memory_order_relaxed);
    return error;
}

int pugd_flush_wait(struct pugd_flush *f, uint64_t position, int64_t timeout_ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += timeout_ms / 1000;
    until.tv_nsec += timeout_ms % 1000 * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    int result = 0;
    pthread_mutex_lock(&f->lock);
    while (!result && pugd_flush_flushed(f) < position) {
        int error = atomic_load_explicit(&f->error, memory_order_acquire);
        if (error)
            result = -error;
        else
            result = -pthread_cond_timedwait(&f->done, &f->lock, &until);
    }
    pthread_mutex_unlock(&f->lock);
    return result;
}

void pugd_flush_statistics(struct pugd_flush *f, struct pugd_flush_statistics *out)
{
    out->syncs = atomic_load_explicit(&f->syncs, memory_order_relaxed);
    out->bytes = atomic_load_explicit(&f->written, memory_order_relaxed);
    out->sync_ns_total = atomic_load_explicit(&f->sync_ns_total, memory_order_relaxed);
    out->sync_ns_max = atomic_load_explicit(&f->sync_ns_max, memory_order_relaxed);
    out->files = atomic_load_explicit(&f->files, memory_order_relaxed);
    out->preallocated = !atomic_load_explicit(&f->cannot_allocate, memory_order_relaxed);
}

/* ---- beginning and end ------------------------------------------------------------------------------------------ */

static void unmap(struct pugd_flush *f)
{
    for (int i = 0; i < 2; i++)
        if (f->buffers[i].bytes) munmap(f->buffers[i].bytes, f->pending);
}

struct pugd_flush *pugd_flush_open(int directory, int event, void *page, uint64_t epoch, uint64_t position,
                                   uint64_t file_bytes, uint64_t reserve, uint64_t pending)
{
    struct pugd_flush *f = pugd_calloc(1, sizeof *f);
    if (!f) {
        errno = ENOMEM;
        return NULL;
    }
    f->directory = directory;
    f->event = event;
    f->page = page;
    f->file_bytes = file_bytes;
    f->reserve = reserve;
    f->pending = (size_t)pending;
    f->position = f->start = f->end = position;
    f->fd = f->spare_fd = -1;
    f->tail = &f->buffers[0];
    atomic_init(&f->flushed, position);
    for (int i = 0; i < 2; i++) {
        int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
        void *bytes = mmap(NULL, f->pending, PROT_READ | PROT_WRITE, flags, -1, 0);
        if (bytes == MAP_FAILED) {
            unmap(f);
            pugd_free(f);
            errno = ENOMEM;
            return NULL;
        }
        f->buffers[i].bytes = bytes;
    }

    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&f->lock, NULL);
    pthread_mutex_init(&f->spare_lock, NULL);
    pthread_cond_init(&f->wake, NULL);
    pthread_cond_init(&f->done, &monotonic);
    pthread_condattr_destroy(&monotonic);

    /* signals are for Python's threads */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&f->thread, NULL, run, f);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error) {
        unmap(f);
        pugd_free(f);
        errno = error;
        return NULL;
    }
    pthread_setname_np(f->thread, "pugd-flush");
    if (f->page) {
        /* whoever has the page mapped never sees a position of another epoch with this one */
        if (atomic_load(&f->page[1]) != epoch) atomic_store(f->page, 0);
        atomic_store(&f->page[1], epoch);
        atomic_store(f->page, position);
    }
    return f;
}

int pugd_flush_close(struct pugd_flush *f)
{
    pthread_mutex_lock(&f->lock);
    f->closing = 1;
    pthread_cond_signal(&f->wake);
    pthread_mutex_unlock(&f->lock);
    pthread_join(f->thread, NULL);

    int error = atomic_load(&f->error);
    if (f->fd >= 0) {
        if (!error && ftruncate(f->fd, (off_t)(f->end - f->start))) { /* as in finish_file */
        }
        close(f->fd);
    }
    for (int i = 0; i < 2; i++)
        for (unsigned k = 0; k < f->buffers[i].marks_count; k++)
            if (f->buffers[i].marks[k].fd >= 0) close(f->buffers[i].marks[k].fd);
    drop_spare(f);
    pthread_cond_destroy(&f->wake);
    pthread_cond_destroy(&f->done);
    pthread_mutex_destroy(&f->lock);
    pthread_mutex_destroy(&f->spare_lock);
    unmap(f);
    pugd_free(f);
    return -error;
}
