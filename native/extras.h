/* Extra links: accepted links of two ids that were one person already and had no link between them (graph.h). They
 * prove nothing now, and count when another link is taken out.
 *
 *   places 1 … end   in segments of 4 096, which never move: { u32 low, u32 high, u64 order }, in the order in which they
 *                    came; low < high are the handles of the two; 0 in both: taken out, and the place stays empty
 *   index            the pair's hash → its place, in 256 tables that double each on its own, at most 3/4 taken
 *
 * Cost: one cache line of the index and one of the place; 16 + 6 to 11 bytes a link. Any allocation may fail, and then
 * all is as it was. No order of growth shows in what is read: places alone are saved.
 */
#ifndef PUGD_EXTRAS_H
#define PUGD_EXTRAS_H

#include <stdint.h>

struct pugd_extra {
    uint32_t low;
    uint32_t high;
    uint64_t order;
};

struct pugd_extras_table;

struct pugd_extras {
    struct pugd_extra **segment;
    struct pugd_extras_table *table;
    uint32_t end;   /* places 1 … end were given out, of which */
    uint32_t count; /* are taken now */
    uint64_t bytes; /* allocated, all in */
};

#define PUGD_EXTRAS_SEGMENT_BITS 12

/* returns 0, or -1 where memory is short; then *extras holds nothing. */
int pugd_extras_open(struct pugd_extras *extras);
void pugd_extras_close(struct pugd_extras *extras);

static inline struct pugd_extra *pugd_extras_at(const struct pugd_extras *extras, uint32_t place)
{
    return &extras->segment[place >> PUGD_EXTRAS_SEGMENT_BITS][place & ((1u << PUGD_EXTRAS_SEGMENT_BITS) - 1)];
}

/* The place of the link of two handles, whichever way round; 0 where there is none. */
uint32_t pugd_extras_find(const struct pugd_extras *extras, uint32_t a, uint32_t b);

/* Room for the link of these two. returns 0, or -1 where memory is short and nothing changed that can be seen. */
int pugd_extras_reserve(struct pugd_extras *extras, uint32_t a, uint32_t b);

/* A link that is not there yet; its room is reserved. */
void pugd_extras_put(struct pugd_extras *extras, uint32_t a, uint32_t b, uint64_t order);

/* Take out the link at a place. Links are taken out by hand, one at a time: so the place is not used again. */
void pugd_extras_take(struct pugd_extras *extras, uint32_t place);

#endif
