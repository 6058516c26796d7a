#include "extras.h"

#include "memory.h"

#include <string.h>

#define SEGMENT (1u << PUGD_EXTRAS_SEGMENT_BITS)
#define SEGMENTS (1u << 16)
#define TABLES 256u

struct pugd_extras_table {
    uint32_t *place; /* 0 is free */
    uint32_t room;   /* a power of two */
    uint32_t used;
};

int pugd_extras_open(struct pugd_extras *x)
{
    *x = (struct pugd_extras){.segment = pugd_calloc(SEGMENTS, sizeof *x->segment)};
    x->table = pugd_calloc(TABLES, sizeof *x->table);
    x->bytes = SEGMENTS * sizeof *x->segment + TABLES * sizeof *x->table;
    if (x->segment && x->table) return 0;
    pugd_free(x->segment);
    pugd_free(x->table);
    memset(x, 0, sizeof *x);
    return -1;
}

void pugd_extras_close(struct pugd_extras *x)
{
    if (!x->table) return;
    for (uint32_t i = 0; i < SEGMENTS && x->segment[i]; i++) pugd_free(x->segment[i]);
    for (uint32_t i = 0; i < TABLES; i++) pugd_free(x->table[i].place);
    pugd_free(x->segment);
    pugd_free(x->table);
    memset(x, 0, sizeof *x);
}

static inline uint64_t pair_of(uint32_t a, uint32_t b)
{
    return a < b ? (uint64_t)a << 32 | b : (uint64_t)b << 32 | a;
}

static inline uint64_t pair_at(const struct pugd_extras *x, uint32_t place)
{
    const struct pugd_extra *e = pugd_extras_at(x, place);
    return pair_of(e->low, e->high);
}

static inline uint64_t hash_of(uint64_t pair)
{
    uint64_t h = pair * 0x9e3779b97f4a7c15u;
    return (h ^ h >> 32) * 0xd6e8feb86659fd93u;
}

static inline struct pugd_extras_table *table_of(const struct pugd_extras *x, uint64_t hash)
{
    return &x->table[hash >> 56];
}

static inline uint32_t home(const struct pugd_extras_table *t, uint64_t hash)
{
    return (uint32_t)(hash >> 16) & (t->room - 1);
}

uint32_t pugd_extras_find(const struct pugd_extras *x, uint32_t a, uint32_t b)
{
    uint64_t pair = pair_of(a, b), hash = hash_of(pair);
    const struct pugd_extras_table *t = table_of(x, hash);
    if (!t->room) return 0;
    for (uint32_t slot = home(t, hash); t->place[slot]; slot = (slot + 1) & (t->room - 1))
        if (pair_at(x, t->place[slot]) == pair) return t->place[slot];
    return 0;
}

static void enter(struct pugd_extras_table *t, uint64_t hash, uint32_t place)
{
    uint32_t slot = home(t, hash);
    while (t->place[slot]) slot = (slot + 1) & (t->room - 1);
    t->place[slot] = place;
    t->used += 1;
}

int pugd_extras_reserve(struct pugd_extras *x, uint32_t a, uint32_t b)
{
    if (x->end + 1 >= (SEGMENTS - 1) * SEGMENT) return -1;
    struct pugd_extra **segment = &x->segment[(x->end + 1) >> PUGD_EXTRAS_SEGMENT_BITS];
    if (!*segment) {
        *segment = pugd_calloc(SEGMENT, sizeof **segment);
        if (!*segment) return -1;
        x->bytes += SEGMENT * sizeof **segment;
    }
    struct pugd_extras_table *t = table_of(x, hash_of(pair_of(a, b)));
    if ((t->used + 1) * 4 <= t->room * 3) return 0;
    struct pugd_extras_table fresh = {.room = t->room ? t->room * 2 : 8};
    fresh.place = pugd_calloc(fresh.room, sizeof *fresh.place);
    if (!fresh.place) return -1;
    for (uint32_t slot = 0; slot < t->room; slot++)
        if (t->place[slot]) enter(&fresh, hash_of(pair_at(x, t->place[slot])), t->place[slot]);
    x->bytes += (uint64_t)(fresh.room - t->room) * sizeof *fresh.place;
    pugd_free(t->place);
    *t = fresh;
    return 0;
}

void pugd_extras_put(struct pugd_extras *x, uint32_t a, uint32_t b, uint64_t order)
{
    uint64_t pair = pair_of(a, b), hash = hash_of(pair);
    *pugd_extras_at(x, ++x->end) = (struct pugd_extra){(uint32_t)(pair >> 32), (uint32_t)pair, order};
    enter(table_of(x, hash), hash, x->end);
    x->count += 1;
}

void pugd_extras_take(struct pugd_extras *x, uint32_t place)
{
    uint64_t hash = hash_of(pair_at(x, place));
    struct pugd_extras_table *t = table_of(x, hash);
    uint32_t mask = t->room - 1, slot = home(t, hash);
    while (t->place[slot] != place) slot = (slot + 1) & mask;
    for (uint32_t next = (slot + 1) & mask; t->place[next]; next = (next + 1) & mask) {
        uint32_t begin = home(t, hash_of(pair_at(x, t->place[next])));
        if (((next - begin) & mask) < ((next - slot) & mask)) continue; /* it would move before its home */
        t->place[slot] = t->place[next];
        slot = next;
    }
    t->place[slot] = 0;
    *pugd_extras_at(x, place) = (struct pugd_extra){0, 0, 0};
    t->used -= 1;
    x->count -= 1;
}
