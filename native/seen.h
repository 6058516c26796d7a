/* Event ids taken lately: a set of 64-bit keyed hashes (SipHash-2-4 of project ‖ event id, as in ids.h), each with the
 * time until which it is kept: max(receipt, the event's own time, but at most a day ahead) + window; and with a mark, 12
 * bits of a keyed hash of the event's name and actor, which tells a retry from another event that was given a used id. Such
 * a one is missed once in 4 095. No mark, 0, where they are not known (a link's row tells neither): it is like any.
 *
 * Times are granules of (window + 1 day) ÷ 49 152, rounded up: 3.5 s for a window of a day. An id is known as long as
 * the granule of now is not past its own. Only the low 16 bits are stored; that is enough while every stored granule
 * lies in [base, base + 65 535], which a slow walk over the tables sees to: it takes out what is past, two tables a
 * granule, and then moves base up.
 *
 * 4 096 small tables, each growing by a quarter on its own, so that an addition moves at most one (2 400 ids of 10 M):
 *
 *   bits of the hash   63 … 52  which table, so that the mark may stand there        51 … 20  where in it
 *   table: | line of 8 hashes | … | then u16 × 8 for each line: the granules |       0 is a free place
 *          A line is filled from the left; a full one overflows into the next; at most 7/8 are taken.
 *
 * 10 bytes a place at a load of 0.70 … 0.875: 11.4 to 14.3 bytes an id. A full table first loses what is past, and
 * grows only if that is little.
 *
 * Bound: where growth would pass bytes_max (or memory is short), `floor` rises, so that of all ids the few that
 * would go first go now: the window shrinks, and what is past floor is as if past. If one granule holds more than half
 * of all ids, only the table at hand loses an eighth. `forgotten` counts what was lost so. So an addition never fails.
 * At the bound the fullest table decides: 15 bytes an id at 64 MiB, 20 at 12 MiB.
 *
 * Reach: an event's own time tells whether its id, had it come before, would be known still: it was kept until own + window
 * at least. Where that is past (or past floor, or not past `lost`, up to which some were forgotten or never learnt), or own
 * is more than a day ahead, the set cannot tell a new event from an old one that comes again: the event is *old*, and
 * whoever keeps it looks further (drain.py).
 *
 * Cost: two cache lines an id, asked for ahead in batches; nothing pauses as it grows. One thread at a time.
 */
#ifndef PUGD_SEEN_H
#define PUGD_SEEN_H

#include <stddef.h>
#include <stdint.h>

struct pugd_seen;

struct pugd_seen_numbers {
    uint64_t ids;        /* known now */
    uint64_t bytes;      /* allocated, all in */
    uint64_t forgotten;  /* ids that the bound on bytes cost, since the start */
    uint64_t floor_ms;   /* ids kept until earlier than this are forgotten; 0 where the bound was never met */
    uint64_t lost_ms;    /* of ids kept until earlier than this, some may be missing; 0 where none is */
    uint64_t granule_ms; /* see above */
};

/* NULL where memory is short. bytes_max is at least 1 MiB. */
struct pugd_seen *pugd_seen_new(const uint8_t key[16], uint64_t window_ms, uint64_t bytes_max);
void pugd_seen_free(struct pugd_seen *seen);

/* A batch that came at now_ms. `packed` is a MessagePack array of 4 × count values: project, event id, the event's own
 * time in ms, its name; actors[] are its actors. Adds each; found->duplicates[] gets, in order, those that were known, or
 * came before in the batch; ->reused[] those of them that came with another name or actor; ->old[] those that were not
 * known, and are out of reach (see above). An event without an id ('') is none of it. returns 0; -1 where `packed` is not of
 * that form: some may be added. */
struct pugd_seen_found {
    uint32_t *duplicates, *reused, *old; /* room for count each */
    uint32_t duplicates_count, reused_count, old_count;
};
int pugd_seen_add_many(struct pugd_seen *seen, const uint8_t *packed, size_t length, uint32_t count,
                       const uint64_t *actors, uint64_t now_ms, struct pugd_seen_found *found);

/* The event ids of whole journal records (record.h), with the times their rows give. returns how many were added, or -1
 * where the bytes are not whole records of rows: some may have been added. */
int64_t pugd_seen_add_records(struct pugd_seen *seen, const uint8_t *data, size_t length, uint64_t position);

/* What is to be remembered of journal records when they go: 14 bytes an id, little-endian: its hash; the second, rounded up,
 * from which on it is kept for a window: max(receipt, the event's own time, but at most a day ahead); its mark. Rows of one
 * event that follow one another count once. `out` gets them where it has room for them. returns how many, or -1 as above;
 * *first_ms and *last_ms, the least and the greatest receipt; both 0 where no row has one. */
#define PUGD_SEEN_ID_BYTES 14
int64_t pugd_seen_digest(const uint8_t key[16], const uint8_t *data, size_t length, uint64_t position, uint8_t *out,
                         size_t room, uint64_t *first_ms, uint64_t *last_ms);
/* Adds such ids, received at now_ms at the latest. returns how many were added. */
int64_t pugd_seen_add_ids(struct pugd_seen *seen, const uint8_t *ids, size_t count, uint64_t now_ms);
/* Ids that were to be kept for a window from before `from_ms` on may be missing. */
void pugd_seen_missing(struct pugd_seen *seen, uint64_t from_ms);

struct pugd_seen_numbers pugd_seen_statistics(const struct pugd_seen *seen);

#endif
