/* Pug's messages, bytes of protobuf, as JSON text: the shape is drawn in pugd/dialects/protobuf.py, and its plain twin is
 * tests/reference/protobuf.py.
 *
 *   events    [{"event_id":"…","distinct_id":"…","kind":"…","session_id":"…","occur_time":"…","cookieless":true,
 *               "properties":{…}}, {"wrong":2}, …]
 *   identify  {"external_id":"…","anonymous_id":"…","device_id":"…","traits":{…}}
 *
 * A message is walked twice: once over its fields, where all that is wrong with its form is found and the last of each
 * field is noted, and once over the members of its maps, which are written as they come. So a key that stands twice on
 * the wire stands twice in the text. Of what is overridden nothing is read.
 *
 * Strings are checked as UTF-8 (Unicode 16, table 3-7) and escaped as JSON asks, eight bytes at a time where nothing is
 * to be escaped. A double is written so that it reads back as itself: digits and a point where at most 15 digits say it
 * (Clinger 1990: both are exact, and their quotient is rounded once), else the fewest of 15 to 17 that do.
 *
 * cost      about two nanoseconds a byte; a double of more than 15 digits half a microsecond
 * memory    none of its own; nesting, of traits and of groups, is bounded by PUGD_PROTOBUF_DEPTH_MAX
 * state     none
 */
#ifndef PUGD_PROTOBUF_H
#define PUGD_PROTOBUF_H

#include <stddef.h>
#include <stdint.h>

#define PUGD_PROTOBUF_DEPTH_MAX 60

/* What is wrong with a message; Python keys on these numbers. */
enum pugd_protobuf_code {
    PUGD_PROTOBUF_MALFORMED = 1,  /* a field ends beyond its message, a number is too long, a group is not closed */
    PUGD_PROTOBUF_NO_UTF8 = 2,
    PUGD_PROTOBUF_NOT_FINITE = 3, /* NaN or an infinity */
    PUGD_PROTOBUF_TOO_DEEP = 4,
    PUGD_PROTOBUF_TOO_MANY = 5,   /* cuts: more than `fields_max` fields */
    PUGD_PROTOBUF_NO_ROOM = 6     /* never, where `room` is as promised */
};

/* How long the text of a message of `length` bytes may be. An event of four bytes with nothing but a time in it makes
 * the most of them, 43; a control character makes six of one. */
size_t pugd_protobuf_room(size_t length);

/* Write a BatchCreateRequest, or an IdentifyRequest, to `out`, of pugd_protobuf_room(length) bytes.
 * returns  the text's length, or less the code where nothing can be read of it */
int64_t pugd_protobuf_events(const uint8_t *data, size_t length, uint8_t *out, size_t room);
int64_t pugd_protobuf_identify(const uint8_t *data, size_t length, uint8_t *out, size_t room);

/* Where a BatchCreateRequest may be cut into several: cuts[3i] to cuts[3i + 1] is a message of cuts[3i + 2] events, at most
 * `piece_events`, and as many as fit into `piece_bytes`, but one at least; end to end. Room, in numbers, for 3 of
 * 2·length/piece_bytes + fields_max/piece_events + 2.
 * returns  how many, at least one; or less the code */
int64_t pugd_protobuf_cuts(const uint8_t *data, size_t length, uint64_t fields_max, uint64_t piece_events,
                           uint64_t piece_bytes, uint64_t *cuts, size_t room);

#endif
