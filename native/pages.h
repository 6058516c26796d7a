/* Memory for what is looked up at random, in chunks of 2 MiB on boundaries of 2 MiB, zeroed.
 *
 * A look-up at random in hundreds of megabytes waits twice: for the line, and for the page table of 4 KiB pages that no
 * cache holds either. With huge pages only the first wait is left (measured: 38 → 25 ns a read, 222 → 157 ns where each
 * waits for the one before). But the first touch of a huge page zeroes all of it, 0.2 ms, and in a virtual machine
 * whose host must find the memory first, 6 ms. So a thread keeps a few chunks touched ahead:
 *
 *   chunks 0 … 3         ordinary pages, touched as they are used: a small graph stays small and has no thread
 *   later, one is ready  huge pages
 *   later, none is       ordinary pages, so that nobody waits, which the system may make huge in its own time; while
 *                        `patient`, at a restart, a huge one all the same
 *
 * Chunks are given back all at once. With PUGD_TEST_MEMORY they come from the test's heap, without a thread.
 */
#ifndef PUGD_PAGES_H
#define PUGD_PAGES_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#define PUGD_PAGES_CHUNK (2u << 20)
#define PUGD_PAGES_PLAIN 4 /* chunks of ordinary pages, before the thread begins */
#define PUGD_PAGES_READY 4 /* chunks that it keeps touched: 8 MiB */

struct pugd_pages {
    uint32_t taken;
    uint32_t huge; /* of these, how many are of huge pages, as far as the system has any */
    int patient;   /* rather wait for a huge page than take ordinary ones */
    void *plain;   /* the last chunk of ordinary pages that was taken for want of a huge one */
    uint32_t ready_count; /* from here on: under `lock` */
    void *ready[PUGD_PAGES_READY];
    int running, stopping;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wanted;
};

/* All zero is a valid beginning but for the lock. returns 0, or -1 where the system refuses a lock. */
int pugd_pages_open(struct pugd_pages *pages);

/* After every chunk that was taken has been given back. */
void pugd_pages_close(struct pugd_pages *pages);

/* A chunk; NULL where memory is short. One thread at a time. */
void *pugd_pages_take(struct pugd_pages *pages);
void pugd_pages_give(void *chunk);

/* Bytes of chunks, taken or ready. */
uint64_t pugd_pages_bytes(const struct pugd_pages *pages);

#endif
