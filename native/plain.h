/* The short way in: bodies whose events are all plain become journal rows without an object made of any of them.
 *
 * A body is plain when it is storable JSON without a key twice, and every event in it is a track with nothing unusual:
 *
 *   keys              without escapes; of those that Segment defines only type, event, messageId, userId, anonymousId,
 *                     timestamp, properties, context, writeKey and sentAt. What Segment does not define is passed over
 *   event, messageId  strings of 1 to 512 bytes without escapes
 *   userId            absent, null, or a string of up to 128 bytes without escapes; anonymousId likewise; not both empty
 *   timestamp         absent, null, or YYYY-MM-DDTHH:MM:SS.mmm (or .mmmmmm) with Z or +00:00, after 1970, at most 24 h ahead
 *   sentAt            likewise, within 60 s of receipt, so that no skew applies
 *   properties        absent, null, or an object without `ip"` anywhere, and without what could be a key that changes
 *                     traits: "$set…", "$unset…" or "$add…", escaped or not
 *   context           absent, null, or an object that was learnt
 *
 * Everything else is not plain and goes the long way (dialects/segment.py), which says what a plain body means too: the
 * rows of both are the same bytes, and a test holds them together. What a context says is learnt from there, by its
 * bytes: `pugd_plain_learn`.
 *
 *   body ──add──► events ──event_keys, ids──► (duplicates, actors) ──rows──► MessagePack rows
 *
 * Events hold pointers into their bodies, which must stay until `reset`. Source of the row: pugd/model.py, Batch.
 * cost    about 1 ns a byte, twice: once for the scan, once here; contexts are found by a keyed hash
 * memory  grows with the most events between two resets; contexts are forgotten together beyond 4096 or 16 MB
 */
#ifndef PUGD_PLAIN_H
#define PUGD_PLAIN_H

#include <stddef.h>
#include <stdint.h>

struct pugd_plain;

/* What one event says; texts lie in its body. */
struct pugd_plain_event {
    const uint8_t *event, *event_id, *user, *anonymous, *properties, *context;
    uint32_t event_length, event_id_length, user_length, anonymous_length, properties_length, context_length;
    uint32_t project;
    uint32_t known;      /* index of its context, or PUGD_PLAIN_UNKNOWN */
    uint64_t hash;       /* of its context */
    int64_t occurred_at; /* ms; the original time too */
    int64_t received_at;
    size_t keys_at, ids_at; /* where its part of event_keys and of ids begins */
};

#define PUGD_PLAIN_UNKNOWN 0xffffffffu

/* NULL: no memory. `fields` is how many an event's row has; `seed` is secret and random. */
struct pugd_plain *pugd_plain_new(uint32_t fields, uint64_t seed);
void pugd_plain_free(struct pugd_plain *p);

/* Forget the events. */
void pugd_plain_reset(struct pugd_plain *p);

/* Added to what `pugd_plain_add` returns where a context is not known: ask `pugd_plain_unknown` which. */
#define PUGD_PLAIN_LEARN ((int64_t)1 << 40)

/* Add the events of a body. `single`: the body is one message and its type is taken as track.
 * returns  how many; 0 where the body is not plain, -1 without memory: then nothing was added */
int64_t pugd_plain_add(struct pugd_plain *p, const uint8_t *body, size_t length, int single, uint32_t project,
                       int64_t received_at);

/* The next event of those added since the last `reset` whose context is not known; -1: there is none. */
int64_t pugd_plain_unknown(struct pugd_plain *p);

/* What a context says: parts 11 and 13 of its events. -1 without memory. */
int pugd_plain_learn(struct pugd_plain *p, const uint8_t *context, uint32_t length, const uint8_t *middle,
                     uint32_t middle_length, const uint8_t *tail, uint32_t tail_length);

/* Take the last `count` events back. */
void pugd_plain_drop(struct pugd_plain *p, size_t count);

size_t pugd_plain_count(const struct pugd_plain *p);
const struct pugd_plain_event *pugd_plain_at(const struct pugd_plain *p, size_t index);

/* MessagePack arrays: project, event id, occurred_at, name of each event; project, user id, anonymous id. Valid until the
 * next call. */
const uint8_t *pugd_plain_event_keys(struct pugd_plain *p, size_t *length);
const uint8_t *pugd_plain_ids(struct pugd_plain *p, size_t *length);

/* The rows of all events but those at `skip`, one after another; of those at `old` as of old events. Both ascend. Every context must be known.
 * returns  NULL without memory; valid until the next call */
const uint8_t *pugd_plain_rows(struct pugd_plain *p, const uint64_t *actors, const uint32_t *skip, size_t skip_count,
                               const uint32_t *old, size_t old_count, size_t *length);

#endif
