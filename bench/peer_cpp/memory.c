/* What memory alone asks of a look-up: as many reads as one has that knows its answer (a line of the index, the id, its
 * person), each where the one before says, over as many bytes, a batch at once. No text, no hash, nothing compared.
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#define BLOCK 128
#define LINE 64
#define INDEX_BYTES 11 /* an id */
#define ID_BYTES 32

static uint8_t *index_, *ids_;
static uint64_t lines, count;
static uint64_t state = 1;

static uint64_t any(uint64_t below)
{
    uint64_t z = state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    return (uint64_t)((unsigned __int128)(z ^ (z >> 31)) * below >> 64);
}

static uint8_t *huge(uint64_t bytes)
{
    bytes = (bytes + (4 << 20)) & ~((2ull << 20) - 1);
    uint8_t *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) return NULL;
    madvise(at, bytes, MADV_HUGEPAGE);
    memset(at, 1, bytes); /* a page that nobody wrote to is one and the same page of zeros */
    memset(at, 0, bytes);
    return at;
}

int memory_open(uint64_t ids)
{
    count = ids;
    lines = ids * INDEX_BYTES / LINE;
    index_ = huge(lines * LINE);
    ids_ = huge(ids * ID_BYTES);
    return index_ && ids_ ? 0 : -1;
}

/* One batch; what is read is always 0, which the compiler does not know. */
uint64_t memory_look(uint32_t batch)
{
    uint64_t sum = 0, at[BLOCK];
    for (uint32_t start = 0; start < batch; start += BLOCK) {
        uint32_t n = batch - start < BLOCK ? batch - start : BLOCK;
        for (uint32_t i = 0; i < n; i++) __builtin_prefetch(index_ + (at[i] = LINE * any(lines)));
        for (uint32_t i = 0; i < n; i++)
            __builtin_prefetch(ids_ + (at[i] = ID_BYTES * any(count) + *(volatile uint64_t *)(index_ + at[i])));
        for (uint32_t i = 0; i < n; i++)
            __builtin_prefetch(ids_ + (at[i] = ID_BYTES * any(count) + *(volatile uint64_t *)(ids_ + at[i])));
        for (uint32_t i = 0; i < n; i++) sum += *(volatile uint64_t *)(ids_ + at[i]);
    }
    return sum;
}
