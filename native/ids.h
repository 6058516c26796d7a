/* Distinct ids: the index from an actor to its handle.
 *
 * An actor is the keyed hash (siphash.h) of the project as four little-endian bytes, then the id's UTF-8.
 *
 * A handle is a u32, counted from 1 in the order in which ids entered the link log; it never changes. What belongs to
 * a handle lies in segments of 65 536, one chunk (pages.h) each, which are taken when first needed and never move:
 *
 *   segment[handle >> 16]   { u64 actor, u32 person, u32 next } × 65 536    person, next: graph.h
 *                           16 bytes × 65 536                               for graph.h
 *
 * The index is a directory of groups, chosen by the top bits of h = actor × an odd constant (for actors that a test
 * counts up; hashed ones need no mixing). A group is 2 to 4 units of 8 KiB, taken from chunks:
 *
 *   directory[top bits of h]      { u32 unit[4], u16 used, u8 units, u8 depth }     20 bytes
 *   unit: 128 lines of 64 bytes   | tag × 8 | handle × 8 |, filled from the left; a handle of 0 is a free place
 *   tag: the top 32 bits of h. The first `depth` of them chose the group, the next choose the line;
 *        a full line overflows into the next one, the group's last into its first
 *
 * A group of which 7/8 is taken gets another unit; one of 4 units becomes two of 3. Where `depth` is less than the
 * directory's bits, several of its entries are copies of one group; where it would be more, the directory doubles. So an
 * insertion moves at most 3 584 places (10 µs), no memory is ever given back or lies idle in between, and a line is
 * found by two reads that the second cache holds (the directory is 100 KB for 10 M ids) and one that it does not.
 *
 * A miss costs one line (rarely two), a hit one more for the actor. Memory an id: 32 + 8 ÷ load (0.58 … 0.875), 41 to
 * 46 bytes. Nothing is ever taken out: erasing an id builds the graph anew from the log.
 */
#ifndef PUGD_IDS_H
#define PUGD_IDS_H

#include "pages.h"
#include "siphash.h"

#include <stddef.h>
#include <stdint.h>

#define PUGD_IDS_SEGMENT_BITS 16
#define PUGD_IDS_SEGMENT (1u << PUGD_IDS_SEGMENT_BITS)
#define PUGD_IDS_MAX ((1u << 31) - 2) /* the top bit of a handle is free for a flag */

struct pugd_id {
    uint64_t actor;
    uint32_t person;
    uint32_t next;
};

struct pugd_ids_line {
    uint32_t tag[8];
    uint32_t handle[8];
};

struct pugd_ids_group {
    uint32_t unit[4];
    uint16_t used;
    uint8_t units;
    uint8_t depth;
};

struct pugd_ids {
    struct pugd_ids_group *directory; /* 1 << bits of them */
    uint32_t bits;
    uint32_t units;           /* units that are taken, from the chunks one after another */
    uint32_t segments;        /* segments that there are */
    uint32_t count;           /* handles 1 … count are taken */
    uint8_t **chunk;          /* of the index: room for all that there can be */
    struct pugd_id **segment; /* likewise */
    struct pugd_pages pages;
};

/* returns 0, or -1 where memory is short; then *ids holds nothing. */
int pugd_ids_open(struct pugd_ids *ids);
void pugd_ids_close(struct pugd_ids *ids);

static inline struct pugd_id *pugd_ids_at(const struct pugd_ids *ids, uint32_t handle)
{
    return &ids->segment[handle >> PUGD_IDS_SEGMENT_BITS][handle & (PUGD_IDS_SEGMENT - 1)];
}

/* The 16 bytes of a handle that are the graph's. */
static inline void *pugd_ids_beside(const struct pugd_ids *ids, uint32_t handle)
{
    return pugd_ids_at(ids, handle) + PUGD_IDS_SEGMENT;
}

/* The actor's handle, or 0. */
uint32_t pugd_ids_find(const struct pugd_ids *ids, uint64_t actor);

/* The handles of at most PUGD_IDS_BLOCK actors, 0 where there is none: all lines are asked for, then all ids, so that many
 * are on their way at once. About 25 ns each at 10 M ids. */
#define PUGD_IDS_BLOCK 128
void pugd_ids_find_many(const struct pugd_ids *ids, const uint64_t *actors, uint32_t count, uint32_t *handles);

/* Make room in the actor's group, and for two more handles, so that the next two pugd_ids_put cannot fail.
 * returns 0; -1 where memory is short or the ids are all used up: nothing changed that can be seen. */
int pugd_ids_reserve(struct pugd_ids *ids, uint64_t actor);

/* The next handle, for an actor that has none; its room is reserved. person = next = itself. */
uint32_t pugd_ids_put(struct pugd_ids *ids, uint64_t actor);

/* Both of these at once, for one actor: 0 where memory is short. */
uint32_t pugd_ids_add(struct pugd_ids *ids, uint64_t actor);

/* Handles for at most PUGD_IDS_BLOCK actors, in order, as a restart has them: unknown, and each another. returns 0; -1
 * where memory is short; -2 where an actor is known. After either *ids may only be closed. */
int pugd_ids_put_many(struct pugd_ids *ids, const uint64_t *actors, uint32_t count);

/* Make groups for `count` ids at once, in an empty index. returns 0 or -1. */
int pugd_ids_expect(struct pugd_ids *ids, uint32_t count);

/* Bytes allocated, all in. */
uint64_t pugd_ids_bytes(const struct pugd_ids *ids);

#endif
