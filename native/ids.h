/* Distinct ids: the keyed hash that makes an actor of one, and the index from an actor to its handle.
 *
 * An actor is SipHash-2-4 (Aumasson and Bernstein 2012) under the installation's key of: the project as four
 * little-endian bytes, then the id's UTF-8. Nobody without the key can choose where an id falls.
 *
 * A handle is a u32, counted from 1 in the order in which ids entered the link log; it never changes. What belongs to
 * a handle lies in segments of 65 536, which are allocated when they are first needed and never move:
 *
 *   segment[handle >> 16][handle & 65535] = { u64 actor, u32 person, u32 next }        the last two: graph.h
 *
 * The index is 8 192 small tables, each growing by a quarter on its own, so that an insertion never moves more than
 * one table (1 200 ids of 10 M: 3 µs). With h = actor × an odd constant (for actors that a
 * test counts up; hashed ones need no mixing):
 *
 *   bits of h   63 … 51  which table          50 … 19  tag: where in the table, and what is compared there
 *
 *   table: lines of 64 bytes, | tag × 8 | handle × 8 |, filled from the left; a handle of 0 is a free place.
 *          A full line overflows into the next one. At most 7/8 of the places are taken, so every search ends.
 *
 * A miss costs one cache line (rarely two), a hit one more for the actor. Memory an id: 16 + 8 ÷ load (0.70 … 0.875),
 * 25 to 28 bytes. Nothing is ever taken out: erasing an id builds the graph anew from the log.
 */
#ifndef PUGD_IDS_H
#define PUGD_IDS_H

#include <stddef.h>
#include <stdint.h>

struct pugd_key {
    uint64_t k0, k1;
};

/* The 16 key bytes as SipHash reads them. */
struct pugd_key pugd_key_read(const uint8_t bytes[16]);

/* SipHash-2-4 of data[0 … length). */
uint64_t pugd_siphash(const struct pugd_key *key, const uint8_t *data, size_t length);

/* The same of (project, 4 bytes little-endian ‖ text), without putting them together. About 20 ns for a UUID. */
uint64_t pugd_siphash_project(const struct pugd_key *key, uint32_t project, const uint8_t *text, size_t length);

#define PUGD_IDS_TABLES_BITS 13
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

struct pugd_ids_table {
    struct pugd_ids_line *line; /* on a 64-byte boundary inside `memory` */
    void *memory;
    uint32_t lines;
    uint32_t used;
};

struct pugd_ids {
    struct pugd_ids_table *table; /* 8 192 of them */
    struct pugd_id **segment;     /* room for every segment there can be; NULL where none is yet */
    uint32_t count;               /* handles 1 … count are taken */
    uint64_t bytes;               /* allocated, all in */
};

/* returns 0, or -1 where memory is short; then *ids holds nothing. */
int pugd_ids_open(struct pugd_ids *ids);
void pugd_ids_close(struct pugd_ids *ids);

static inline struct pugd_id *pugd_ids_at(const struct pugd_ids *ids, uint32_t handle)
{
    return &ids->segment[handle >> PUGD_IDS_SEGMENT_BITS][handle & (PUGD_IDS_SEGMENT - 1)];
}

/* The actor's handle, or 0. */
uint32_t pugd_ids_find(const struct pugd_ids *ids, uint64_t actor);

/* The two halves of it, for batches: ask for the line early; then the handle, by tag alone (45 bits of h): the caller
 * compares the actor once it has arrived, and asks pugd_ids_find where they differ. */
void pugd_ids_prefetch(const struct pugd_ids *ids, uint64_t actor);
uint32_t pugd_ids_guess(const struct pugd_ids *ids, uint64_t actor);

/* Make room in the actor's table, and for two more handles, so that the next two pugd_ids_put cannot fail.
 * returns 0; -1 where memory is short or the ids are all used up: nothing changed that can be seen. */
int pugd_ids_reserve(struct pugd_ids *ids, uint64_t actor);

/* The next handle, for an actor that has none; its room is reserved. person = next = itself. */
uint32_t pugd_ids_put(struct pugd_ids *ids, uint64_t actor);

/* Make tables for `count` ids at once, before that many are put. returns 0 or -1. */
int pugd_ids_expect(struct pugd_ids *ids, uint32_t count);

#endif
