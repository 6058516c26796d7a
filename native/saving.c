#include "saving.h"

#include "memory.h"

#include <stdatomic.h>
#include <string.h>

struct pugd_saving {
    const void *of;
    pugd_saving_copy *copy;
    uint32_t blocks;
    uint32_t next; /* the writer's */
    atomic_int lost;
    _Atomic(uint8_t *) block[];
};

static uint8_t taken; /* only its address matters */

struct pugd_saving *pugd_saving_new(const void *of, uint32_t blocks, pugd_saving_copy *copy)
{
    struct pugd_saving *s = pugd_calloc(1, sizeof *s + (size_t)blocks * sizeof s->block[0]);
    if (!s) return NULL;
    s->of = of;
    s->copy = copy;
    s->blocks = blocks;
    return s;
}

void pugd_saving_free(struct pugd_saving *s)
{
    if (!s) return;
    for (uint32_t i = s->next; i < s->blocks; i++) pugd_free(atomic_load(&s->block[i]));
    pugd_free(s);
}

/* What is kept begins with its length. */
void pugd_saving_keep(struct pugd_saving *s, uint32_t block)
{
    if (block >= s->blocks || atomic_load_explicit(&s->block[block], memory_order_acquire)) return;
    uint8_t *kept = pugd_malloc(8 + PUGD_SAVING_BLOCK), *none = NULL;
    if (!kept) {
        atomic_store(&s->lost, 1);
    } else {
        uint32_t length = s->copy(s->of, block, kept + 8);
        memcpy(kept, &length, sizeof length);
        if (!atomic_compare_exchange_strong(&s->block[block], &none, kept)) pugd_free(kept);
    }
    atomic_thread_fence(memory_order_seq_cst); /* said before anything is changed */
}

int64_t pugd_saving_next(struct pugd_saving *s, uint8_t *out, size_t room)
{
    size_t length = 0;
    while (s->next < s->blocks && room - length >= PUGD_SAVING_BLOCK) {
        _Atomic(uint8_t *) *block = &s->block[s->next];
        uint8_t *kept = atomic_load(block);
        uint32_t bytes = 0;
        if (!kept) {
            bytes = s->copy(s->of, s->next, out + length);
            atomic_thread_fence(memory_order_seq_cst); /* read before it is asked whether anything was said */
            atomic_compare_exchange_strong(block, &kept, &taken);
        }
        if (kept) {
            memcpy(&bytes, kept, sizeof bytes);
            memcpy(out + length, kept + 8, bytes);
            atomic_store(block, &taken);
            pugd_free(kept);
        }
        length += bytes;
        s->next += 1;
    }
    return atomic_load(&s->lost) ? -1 : (int64_t)length;
}
