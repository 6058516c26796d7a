/* The short way in: bodies whose events are all plain become journal rows without an object made of any of them.
 *
 * A dialect describes its bodies as a form: which members it knows, at which level, and the role of each. Members that a
 * form does not name are passed over. A body is plain when it is storable JSON without a key twice, no key that is read
 * has an escape, and every event in it is a track, a page or a screen with nothing unusual, or, where the form is BY_NAME, an identify or
 * a change of traits, which is no event (IDENTIFY, TRAITS):
 *
 *   AROUND_LEVEL       an envelope's members, or those of the one event that a body is
 *   EVENT_LEVEL        an event's               PROPERTIES_LEVEL  its properties', where the form is WALKED
 *   TYPES_LEVEL        what TYPE may say        NAMES_LEVEL       events that are no track, where the form is BY_NAME
 *   CHANNELS_LEVEL     what CHANNEL may say
 *
 *   EVENT, NAME        what happened: NAME of a page or screen where the form is not BY_NAME. Strings of up to 512 bytes;
 *                      these, and what follows, have no escapes
 *   ID, ID_ELSE        the event's id, 1 to 512 bytes; the second where there is not the first
 *   USER, ANONYMOUS    ids of up to 128 bytes, not both empty; of a form that is DEVICE_ID: the user's and the device's;
 *                      none that is reserved: `cookieless-…`, or `$posthog_cookieless`
 *   DISTINCT, …_ELSE   ONE_ID: whoever it was, a user where KNOWN is true or SAME is the same. DEVICE_ID: a user where it
 *                      is not the device, unless HAD is true; see dialects/mixpanel.py. MARKED_ID: a user where it does
 *                      not begin with `anon-`
 *   JOINED             of an identify, the anonymous id that its distinct id is joined with, if it is another; of up to 128
 *                      bytes; of anything else than an identify, anything
 *   SET, SET_ONCE, UNSET, …_BESIDE   ONE_ID: changes of traits, in the properties and beside them: any value, which
 *                      `told` gives. Of an event those beside become members of the properties, `$set`, `$set_once` and
 *                      `$unset`, which are then written anew, without white space; none may hold an address
 *   PROFILE            anything; `told` says whether it is false, or "false": then nothing changes traits
 *   TIME, TIME_ELSE    null, or YYYY-MM-DDTHH:MM:SS.mmm (or .mmmmmm) with Z or +00:00; where the form has NUMBERS, also one
 *                      of seconds or milliseconds; after 1970
 *   AGE                milliseconds before receipt, where there is no time
 *   SENT               null, or a time: by how much it differs from receipt, beyond 60 s, the times of its body's events
 *                      are moved, or of its own event where neither the body nor `add` has one; UNSKEWED  anything: the
 *                      times of an event where it is true are not. What is then before 1970, or more than 24 h ahead,
 *                      becomes the time of receipt (enrich/clock.py)
 *   KEY, TOKEN         the write key, one and the same in the whole body; a TOKEN is left out of the properties
 *   PROPERTIES         null, or an object; where the form has OPERATIONS, without `ip"` anywhere, and without what could be
 *                      a key that changes traits: "$set…", "$unset…" or "$add…", escaped or not. Where it is WALKED, such
 *                      keys are its own to name
 *   CONTEXT            null, or an object; where the form is TOGETHER, instead, an object put together of all members
 *                      whose role is marked SAYS. 4096 bytes at most
 *   TYPE, CHANNEL      one of their level; LIST  the events; TEXT  any string; EMPTY  null or {}; NULL  null; FALSE
 *                      null or false; URL  anything, a page's where it is a string; ODD  nothing
 *
 * Everything else is not plain and goes the long way (its dialect's module), which says what a plain body means too: the
 * rows of both are the same bytes, and tests hold them together. What a context says, together with a browser's own user
 * agent and what else a request says beside its body, is learnt from there, by its bytes: `pugd_plain_learn`.
 *
 *   body ──add──► events ──own──event_keys, ids──► (duplicates, actors) ──rows──► MessagePack rows
 *                    └──changing, told──► what asks for more than a row, one by one
 *
 * Events hold pointers into their bodies, agents and places, which must stay until `reset`. Source of the row:
 * pugd/model.py, Batch.
 * cost    about 1 ns a byte, twice: once for the scan, once here; contexts are found by a keyed hash
 * memory  grows with the most events between two resets; contexts are forgotten together beyond 4096 or 16 MB
 */
#ifndef PUGD_PLAIN_H
#define PUGD_PLAIN_H

#include <stddef.h>
#include <stdint.h>

struct pugd_plain;

enum pugd_plain_level {
    PUGD_PLAIN_AROUND_LEVEL,
    PUGD_PLAIN_EVENT_LEVEL,
    PUGD_PLAIN_PROPERTIES_LEVEL,
    PUGD_PLAIN_TYPES_LEVEL,
    PUGD_PLAIN_NAMES_LEVEL,
    PUGD_PLAIN_CHANNELS_LEVEL,
};

enum pugd_plain_call {
    PUGD_PLAIN_TRACK = 1,
    PUGD_PLAIN_PAGE = 2,
    PUGD_PLAIN_SCREEN = 3,
    PUGD_PLAIN_OTHER = 4,
    PUGD_PLAIN_IDENTIFY = 5, /* this and the next are no events, and have no rows here */
    PUGD_PLAIN_TRAITS = 6,
};

enum pugd_plain_role {
    PUGD_PLAIN_TYPE = 1,
    PUGD_PLAIN_EVENT,
    PUGD_PLAIN_NAME,
    PUGD_PLAIN_ID,
    PUGD_PLAIN_ID_ELSE,
    PUGD_PLAIN_USER,
    PUGD_PLAIN_ANONYMOUS,
    PUGD_PLAIN_DISTINCT,
    PUGD_PLAIN_DISTINCT_ELSE,
    PUGD_PLAIN_SAME,
    PUGD_PLAIN_KNOWN,
    PUGD_PLAIN_HAD,
    PUGD_PLAIN_TIME,
    PUGD_PLAIN_TIME_ELSE,
    PUGD_PLAIN_AGE,
    PUGD_PLAIN_SENT,
    PUGD_PLAIN_KEY,
    PUGD_PLAIN_TOKEN,
    PUGD_PLAIN_TEXT,
    PUGD_PLAIN_PROPERTIES,
    PUGD_PLAIN_CONTEXT,
    PUGD_PLAIN_CHANNEL,
    PUGD_PLAIN_LIST,
    PUGD_PLAIN_EMPTY,
    PUGD_PLAIN_NULL,
    PUGD_PLAIN_ODD,
    PUGD_PLAIN_FALSE,
    PUGD_PLAIN_URL,
    PUGD_PLAIN_NONE, /* passed over, as what the form does not name */
    PUGD_PLAIN_JOINED,
    PUGD_PLAIN_PROFILE,
    PUGD_PLAIN_SET, /* in the properties: in the order of OPERATIONS below */
    PUGD_PLAIN_SET_ONCE,
    PUGD_PLAIN_UNSET,
    PUGD_PLAIN_SET_BESIDE, /* beside them */
    PUGD_PLAIN_SET_ONCE_BESIDE,
    PUGD_PLAIN_UNSET_BESIDE,
    PUGD_PLAIN_UNSKEWED,
};
#define PUGD_PLAIN_OPERATIONS_COUNT 6
#define PUGD_PLAIN_ROLE 0x3f
#define PUGD_PLAIN_SAYS 0x40 /* beside a role, or alone: the member is a part of the context */
#define PUGD_PLAIN_CHANNEL_MAX 7

enum pugd_plain_flag {
    PUGD_PLAIN_BY_NAME = 1,    /* an event's name says whether it is a track, a page or a screen */
    PUGD_PLAIN_BARE_LIST = 2,  /* a body may be a list of events */
    PUGD_PLAIN_WALKED = 4,     /* members of properties have roles */
    PUGD_PLAIN_TOGETHER = 8,   /* the context is put together */
    PUGD_PLAIN_OPERATIONS = 16, /* properties may change traits */
    PUGD_PLAIN_NUMBERS = 32,   /* times may be numbers */
    PUGD_PLAIN_ONE_ID = 64,
    PUGD_PLAIN_DEVICE_ID = 128,
    PUGD_PLAIN_CUT = 256, /* "token" among the properties is left out of them */
    PUGD_PLAIN_MARKED_ID = 512,
    PUGD_PLAIN_PAGE_HAS_URL = 1024, /* what is called a page and has no URL is a track */
};

/* Numbers from the first on, and up to the second, are times in ms: enrich/clock.py. */
#define PUGD_PLAIN_SECONDS_BELOW 100000000000
#define PUGD_PLAIN_TIME_MAX_MS 9000000000000

/* How a body holds its events. */
enum pugd_plain_shape { PUGD_PLAIN_SINGLE = 1, PUGD_PLAIN_BATCHED = 2, PUGD_PLAIN_LISTED = 3 };

/* What one event says; texts lie in its body. */
struct pugd_plain_event {
    const uint8_t *event, *event_id, *user, *anonymous, *properties, *context;
    uint32_t event_length, event_id_length, user_length, anonymous_length, properties_length, context_length;
    const uint8_t *agent; /* what its context is known by besides */
    const uint8_t *place; /* the last fields of its row, in MessagePack */
    uint32_t agent_length, place_length;
    const uint8_t *cut; /* what is left out of the properties */
    uint32_t cut_length;
    uint32_t project;
    uint8_t call, channel;
    uint8_t variant;      /* of its context: of which kind of form, and its channel */
    uint8_t put_together; /* its context is not in its body */
    uint8_t written;      /* its properties are not in its body, but where `properties_at` says */
    uint32_t known;       /* index of its context, or PUGD_PLAIN_UNKNOWN */
    uint32_t change;      /* number of what it changes + 1; 0: nothing */
    uint64_t hash;        /* of its context, agent and variant */
    int64_t occurred_at;  /* ms */
    int64_t received_at, original_at;
    int64_t sent_at;      /* by its own account; -1: it has none */
    uint8_t said_time;    /* and has not just its receipt's, or an age */
    uint8_t unskewed;
    uint8_t time_note;    /* of TIME_NOTES in plain.c */
    size_t said_at; /* where what was put together for it begins, or would */
    size_t properties_at;
};

#define PUGD_PLAIN_UNKNOWN 0xffffffffu

/* NULL: no memory. `fields` is how many an event's row has; `seed` is secret and random. */
struct pugd_plain *pugd_plain_new(uint32_t fields, uint64_t seed);
void pugd_plain_free(struct pugd_plain *p);

/* A form. `kind`: forms of one kind mean the same by the same context, below 32. `marker`: whether it stands in the
 * properties decides what the context says; may be empty. returns  its number, -1: too many, or the marker too long */
int pugd_plain_form(struct pugd_plain *p, uint32_t kind, uint32_t flags, const uint8_t *marker, uint32_t length);

/* A member that a form names, and its role at that level. returns  0, -1: named before, too long, or too many */
int pugd_plain_member(struct pugd_plain *p, uint32_t form, uint32_t level, const uint8_t *name, uint32_t length,
                      uint32_t role);

/* Forget the events. */
void pugd_plain_reset(struct pugd_plain *p);

/* Added to what `pugd_plain_add` returns where a context is not known: ask `pugd_plain_unknown` which. */
#define PUGD_PLAIN_LEARN ((int64_t)1 << 40)

/* Add the events of a body, of project 0 until `own` says otherwise. `call`: what the path says that each is; 0: the body
 * says it. `sent_at`: when it was sent, where the body does not say so; -1: not known. `agent`: what its contexts are known
 * by besides, such as a browser's own user agent. `place`: the last fields of each row, in MessagePack.
 * returns  how many; 0 where the body is not plain, -1 without memory: then nothing was added */
int64_t pugd_plain_add(struct pugd_plain *p, uint32_t form, const uint8_t *body, size_t length, int call,
                       int64_t received_at, int64_t sent_at, const uint8_t *agent, uint32_t agent_length,
                       const uint8_t *place, uint32_t place_length);

/* What is said of each body of many, in this order: how it is read, as in `add`; of the texts that lie before it, how
 * long they are; whose its events are; how long the next two are. A form of PUGD_PLAIN_ALONE: it is not among them. */
enum pugd_plain_said {
    PUGD_PLAIN_SAID_FORM,
    PUGD_PLAIN_SAID_CALL,
    PUGD_PLAIN_SAID_SENT_AT,
    PUGD_PLAIN_SAID_AGENT_LENGTH,
    PUGD_PLAIN_SAID_PROJECT,
    PUGD_PLAIN_SAID_PLACE_LENGTH,
    PUGD_PLAIN_SAID_LENGTH,
    PUGD_PLAIN_SAID_COUNT,
};
#define PUGD_PLAIN_ALONE (-1)

/* Add many small bodies in one call, as `add` and `own` do one by one:
 *
 *   bytes   [ agent 0 ][ place 0 ][ body 0 ][ agent 1 ] …
 *   said    SAID_COUNT numbers of each of `count`
 *   took    2 numbers of each that was added: how many events, and its shape
 *
 * It stops at the first that is not plain (*alone: 0), or that must be added by itself
 * (*alone: 1): one that is not among them, has more than `events_max` events, a context that is not known, or changes; or
 * there is no memory for it. Of that one nothing was added.
 * returns  how many bodies were added */
size_t pugd_plain_add_many(struct pugd_plain *p, const uint8_t *bytes, const int64_t *said, size_t count,
                           int64_t received_at, uint32_t events_max, uint32_t *took, int *alone);

/* The key that the body named which was added last, and its shape; NULL: none. */
const uint8_t *pugd_plain_key(const struct pugd_plain *p, size_t *length, int *shape);

/* The last `count` events are of this project. */
void pugd_plain_own(struct pugd_plain *p, size_t count, uint32_t project);

/* The next event of those added since the last `reset` whose context is not known; -1: there is none. */
int64_t pugd_plain_unknown(struct pugd_plain *p);

/* What an event's context says: parts 11 and 13, without the place, of all events that have it. -1: no memory, or too
 * many. */
int pugd_plain_learn(struct pugd_plain *p, size_t event, const uint8_t *middle, uint32_t middle_length,
                     const uint8_t *start, uint32_t start_length);

/* Take the last `count` events back. */
void pugd_plain_drop(struct pugd_plain *p, size_t count);

size_t pugd_plain_count(const struct pugd_plain *p);

/* An event, its context where it lies until the next `add`; NULL: there is none of this number. */
const struct pugd_plain_event *pugd_plain_at(struct pugd_plain *p, size_t index);

/* Which of the events from number `from` on are an identify, or change traits, ascending; valid until the next `add` or
 * `drop`. NULL: none. */
const uint32_t *pugd_plain_changing(const struct pugd_plain *p, size_t from, size_t *count);

/* What `count` events say, one MessagePack array after another: number, call, event id, user id, anonymous id,
 * occurred_at, received_at, original_at, time_note, whether PROFILE denies it, SET … UNSET_BESIDE as they stand, '' where absent, and the
 * `middle` of its context, which must be known. Valid until the next call; NULL without memory. */
const uint8_t *pugd_plain_told(struct pugd_plain *p, const uint32_t *events, size_t count, size_t *length);

/* How long the rows of all events are together at most, in bytes. Every context must be known. */
size_t pugd_plain_most(const struct pugd_plain *p);

/* MessagePack arrays: project, event id, occurred_at, name of each event; project, user id, anonymous id. Valid until the
 * next call. NULL without memory. */
const uint8_t *pugd_plain_event_keys(struct pugd_plain *p, size_t *length);
const uint8_t *pugd_plain_ids(struct pugd_plain *p, size_t *length);

/* The rows of all events but those at `skip` and those that are none, one after another; of those at `old` as of old events. Both ascend. Every
 * context must be known.
 * returns  NULL without memory; valid until the next call */
const uint8_t *pugd_plain_rows(struct pugd_plain *p, const uint64_t *actors, const uint32_t *skip, size_t skip_count,
                               const uint32_t *old, size_t old_count, size_t *length);

#endif
