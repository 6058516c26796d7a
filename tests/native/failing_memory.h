/* The heap that a C test supplies for PUGD_TEST_MEMORY: each allocation fails with the chance `failing_of` in 1 000,
 * decided by `failing_seed`; `failing_held` counts what is allocated and not yet freed.
 */
#ifndef FAILING_MEMORY_H
#define FAILING_MEMORY_H

#include <stdint.h>
#include <stdlib.h>

static unsigned failing_of;
static uint64_t failing_seed = 1;
static long failing_held;

static inline uint64_t failing_random(uint64_t *seed)
{
    uint64_t z = (*seed += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static inline int failing_now(void) { return failing_of && failing_random(&failing_seed) % 1000 < failing_of; }

void *pugd_malloc(size_t size)
{
    void *memory = failing_now() ? NULL : malloc(size);
    if (memory) failing_held += 1;
    return memory;
}

void *pugd_calloc(size_t count, size_t size)
{
    void *memory = failing_now() ? NULL : calloc(count, size);
    if (memory) failing_held += 1;
    return memory;
}

void *pugd_realloc(void *old, size_t size)
{
    void *memory = failing_now() ? NULL : realloc(old, size);
    if (memory && !old) failing_held += 1;
    return memory;
}

void pugd_free(void *old)
{
    if (old) failing_held -= 1;
    free(old);
}

#endif
