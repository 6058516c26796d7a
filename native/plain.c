#define _GNU_SOURCE
#include "plain.h"

#include <string.h>

#include "memory.h"
#include "scan.h"

enum {
    NAME_MAX_BYTES = 512,
    ID_MAX_BYTES = 128,
    SLOTS = 16384, /* four times the contexts kept: short probes */
    CONTEXTS_MAX = 4096,
    CONTEXT_MAX_BYTES = 4096,
    KIND_EVENT = 1,
    KIND_OLD_EVENT = 5,
};
#define CONTEXTS_BYTES_MAX ((size_t)16 << 20)
#define SKEW_DEAD_BAND_MS 60000
#define FUTURE_MAX_MS 86400000

struct buffer {
    uint8_t *bytes;
    size_t length, room;
};

struct context {
    uint64_t hash;
    uint8_t *bytes; /* the context, its middle, its tail, one after another; owned */
    uint32_t length, middle_length, tail_length;
};

struct pugd_plain {
    uint64_t seed;
    uint32_t fields;
    struct pugd_plain_event *events;
    size_t count, room;
    size_t looked; /* events before this have their context */
    struct buffer keys, ids, rows;
    uint32_t slots[SLOTS]; /* index of a context + 1; 0 empty */
    struct context *contexts;
    uint32_t contexts_count;
    size_t contexts_bytes;
};

/* ---- memory ------------------------------------------------------------------------------------------------------ */

static int reserve(struct buffer *b, size_t more)
{
    if (b->room - b->length >= more) return 0;
    size_t room = b->room ? b->room : 4096;
    while (room - b->length < more) room *= 2;
    uint8_t *bytes = pugd_realloc(b->bytes, room);
    if (!bytes) return -1;
    b->bytes = bytes;
    b->room = room;
    return 0;
}

struct pugd_plain *pugd_plain_new(uint32_t fields, uint64_t seed)
{
    struct pugd_plain *p = pugd_calloc(1, sizeof *p);
    if (!p) return NULL;
    p->contexts = pugd_calloc(CONTEXTS_MAX, sizeof *p->contexts);
    if (!p->contexts) {
        pugd_free(p);
        return NULL;
    }
    p->fields = fields;
    p->seed = seed | 1;
    return p;
}

static void forget_contexts(struct pugd_plain *p)
{
    for (uint32_t i = 0; i < p->contexts_count; i++) pugd_free(p->contexts[i].bytes);
    memset(p->slots, 0, sizeof p->slots);
    p->contexts_count = 0;
    p->contexts_bytes = 0;
}

void pugd_plain_free(struct pugd_plain *p)
{
    if (!p) return;
    forget_contexts(p);
    pugd_free(p->contexts);
    pugd_free(p->events);
    pugd_free(p->keys.bytes);
    pugd_free(p->ids.bytes);
    pugd_free(p->rows.bytes);
    pugd_free(p);
}

void pugd_plain_reset(struct pugd_plain *p)
{
    p->count = p->looked = 0;
    p->keys.length = p->ids.length = 0;
    /* Only here, where no event refers to one. A quarter free, so that a group of bodies finds room. */
    if (p->contexts_count > CONTEXTS_MAX / 4 * 3 || p->contexts_bytes > CONTEXTS_BYTES_MAX) forget_contexts(p);
}

/* ---- MessagePack ------------------------------------------------------------------------------------------------- */

static uint8_t *put_be(uint8_t *at, uint64_t value, int bytes)
{
    for (int shift = (bytes - 1) * 8; shift >= 0; shift -= 8) *at++ = (uint8_t)(value >> shift);
    return at;
}

static uint8_t *put_uint(uint8_t *at, uint64_t value)
{
    if (value < 0x80) {
        *at++ = (uint8_t)value;
        return at;
    }
    if (value <= 0xff) {
        *at++ = 0xcc;
        return put_be(at, value, 1);
    }
    if (value <= 0xffff) {
        *at++ = 0xcd;
        return put_be(at, value, 2);
    }
    if (value <= 0xffffffff) {
        *at++ = 0xce;
        return put_be(at, value, 4);
    }
    *at++ = 0xcf;
    return put_be(at, value, 8);
}

static uint8_t *put_text(uint8_t *at, const uint8_t *text, uint32_t length)
{
    if (length < 32) {
        *at++ = (uint8_t)(0xa0 | length);
    } else if (length <= 0xff) {
        *at++ = 0xd9;
        at = put_be(at, length, 1);
    } else {
        *at++ = 0xda;
        at = put_be(at, length, 2);
    }
    if (length) memcpy(at, text, length);
    return at + length;
}

static uint8_t *put_bytes(uint8_t *at, const uint8_t *bytes, uint32_t length)
{
    if (length <= 0xff) {
        *at++ = 0xc4;
        at = put_be(at, length, 1);
    } else if (length <= 0xffff) {
        *at++ = 0xc5;
        at = put_be(at, length, 2);
    } else {
        *at++ = 0xc6;
        at = put_be(at, length, 4);
    }
    memcpy(at, bytes, length);
    return at + length;
}

/* ---- JSON that the scan let through ------------------------------------------------------------------------------ */

struct text {
    const uint8_t *at, *end;
};

struct string {
    const uint8_t *at;
    uint32_t length;
    int plain; /* holds no escape */
};

/* Past white space; 0 at the end. The grammar is known to hold, but no byte is read beyond the end all the same. */
static uint8_t next(struct text *t)
{
    while (t->at < t->end && (*t->at == ' ' || *t->at == '\n' || *t->at == '\r' || *t->at == '\t')) t->at++;
    return t->at < t->end ? *t->at : 0;
}

static int take_string(struct text *t, struct string *s)
{
    const uint8_t *at = t->at + 1;
    s->at = at;
    s->plain = 1;
    while (at < t->end && *at != '"') {
        if (*at == '\\') {
            s->plain = 0;
            at++;
            if (at == t->end) return -1;
        }
        at++;
    }
    if (at >= t->end || (size_t)(at - s->at) > UINT32_MAX) return -1;
    s->length = (uint32_t)(at - s->at);
    t->at = at + 1;
    return 0;
}

/* Past a value; where it lies, without white space around it. */
static int take_value(struct text *t, const uint8_t **value, size_t *length)
{
    uint8_t first = next(t);
    const uint8_t *begin = t->at;
    struct string s;
    if (first == '"') {
        if (take_string(t, &s)) return -1;
    } else if (first == '{' || first == '[') {
        size_t depth = 0;
        do {
            if (t->at >= t->end) return -1;
            uint8_t c = *t->at;
            if (c == '"') {
                if (take_string(t, &s)) return -1;
                continue;
            }
            depth += (c == '{') | (c == '[');
            depth -= (c == '}') | (c == ']');
            t->at++;
        } while (depth);
    } else {
        while (t->at < t->end && *t->at != ',' && *t->at != '}' && *t->at != ']' && *t->at > ' ') t->at++;
        if (t->at == begin) return -1;
    }
    *value = begin;
    *length = (size_t)(t->at - begin);
    return 0;
}

static int is(const struct string *s, const char *word)
{
    return s->length == strlen(word) && memcmp(s->at, word, s->length) == 0;
}

static int is_null(const uint8_t *value, size_t length) { return length == 4 && memcmp(value, "null", 4) == 0; }

/* A string without escapes of `least` to `most` bytes, or null where `least` is 0; else -1. */
static int take_text(struct text *t, uint32_t least, uint32_t most, const uint8_t **text, uint32_t *length)
{
    struct string s;
    if (next(t) != '"') {
        const uint8_t *value;
        size_t n;
        if (take_value(t, &value, &n) || least || !is_null(value, n)) return -1;
        *text = NULL;
        *length = 0;
        return 0;
    }
    if (take_string(t, &s) || !s.plain || s.length < least || s.length > most) return -1;
    *text = s.at;
    *length = s.length;
    return 0;
}

static int digits(const uint8_t *at, int count)
{
    int value = 0;
    for (int i = 0; i < count; i++) {
        if (at[i] < '0' || at[i] > '9') return -1;
        value = value * 10 + (at[i] - '0');
    }
    return value;
}

/* A time as client libraries write it, in ms; -1 where it is written otherwise or lies before 1970. */
static int64_t time_of(const uint8_t *s, uint32_t length)
{
    static const uint8_t days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    if (length < 24) return -1;
    uint32_t zone = 19 + 4;
    if (s[19] != '.') return -1;
    if (length == 27 || length == 32) zone = 19 + 7;
    if (!(length == zone + 1 && s[zone] == 'Z') && !(length == zone + 6 && memcmp(s + zone, "+00:00", 6) == 0)) return -1;
    if (s[4] != '-' || s[7] != '-' || s[10] != 'T' || s[13] != ':' || s[16] != ':') return -1;
    int year = digits(s, 4), month = digits(s + 5, 2), day = digits(s + 8, 2);
    int hour = digits(s + 11, 2), minute = digits(s + 14, 2), second = digits(s + 17, 2), ms = digits(s + 20, 3);
    if (zone == 19 + 7 && digits(s + 23, 3) < 0) return -1;
    if (year < 1970 || month < 1 || month > 12 || day < 1 || hour < 0 || hour > 23 || minute < 0 || minute > 59 ||
        second < 0 || second > 59 || ms < 0)
        return -1;
    int leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    if (day > days[month - 1] + (month == 2 && leap)) return -1;
    /* Days since 1970 by a year that begins in March (Howard Hinnant, days_from_civil). */
    int y = year - (month <= 2);
    int era = y / 400, of_era = y - era * 400;
    int of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    int64_t since = (int64_t)era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
    return ((since * 24 + hour) * 60 + minute) * 60000 + (int64_t)second * 1000 + ms;
}

/* A sentAt that changes nothing: null, or within the dead band. */
static int take_sent_at(struct text *t, int64_t received_at, int *given)
{
    const uint8_t *s;
    uint32_t length;
    if (take_text(t, 0, 64, &s, &length)) return -1;
    *given = s != NULL;
    if (!s) return 0;
    int64_t sent = time_of(s, length);
    if (sent < 0) return -1;
    int64_t behind = received_at - sent;
    return behind > SKEW_DEAD_BAND_MS || behind < -SKEW_DEAD_BAND_MS ? -1 : 0;
}

/* ---- contexts ---------------------------------------------------------------------------------------------------- */

/* Keyed, so that nobody can choose contexts that meet in one place; equality is decided on the bytes. */
static uint64_t hash_of(uint64_t seed, const uint8_t *bytes, uint32_t length)
{
    uint64_t h = seed ^ length;
    while (length >= 8) {
        uint64_t word;
        memcpy(&word, bytes, 8);
        __uint128_t wide = (__uint128_t)(h ^ word) * (seed ^ 0x9e3779b97f4a7c15u);
        h = (uint64_t)wide ^ (uint64_t)(wide >> 64) ^ word;
        bytes += 8;
        length -= 8;
    }
    uint64_t word = 0;
    if (length) memcpy(&word, bytes, length);
    __uint128_t wide = (__uint128_t)(h ^ word) * 0xd6e8feb86659fd93u;
    return (uint64_t)wide ^ (uint64_t)(wide >> 64);
}

static uint32_t find_context(const struct pugd_plain *p, uint64_t hash, const uint8_t *bytes, uint32_t length)
{
    for (uint32_t slot = hash & (SLOTS - 1);; slot = (slot + 1) & (SLOTS - 1)) {
        uint32_t index = p->slots[slot];
        if (!index) return PUGD_PLAIN_UNKNOWN;
        const struct context *c = &p->contexts[index - 1];
        if (c->hash == hash && c->length == length && (!length || memcmp(c->bytes, bytes, length) == 0)) return index - 1;
    }
}

int pugd_plain_learn(struct pugd_plain *p, const uint8_t *context, uint32_t length, const uint8_t *middle,
                     uint32_t middle_length, const uint8_t *tail, uint32_t tail_length)
{
    if (p->contexts_count == CONTEXTS_MAX) return -1;
    uint64_t hash = hash_of(p->seed, context, length);
    if (find_context(p, hash, context, length) != PUGD_PLAIN_UNKNOWN) return 0;
    size_t bytes = (size_t)length + middle_length + tail_length;
    uint8_t *copy = pugd_malloc(bytes ? bytes : 1);
    if (!copy) return -1;
    if (length) memcpy(copy, context, length);
    if (middle_length) memcpy(copy + length, middle, middle_length);
    if (tail_length) memcpy(copy + length + middle_length, tail, tail_length);
    p->contexts[p->contexts_count++] = (struct context){hash, copy, length, middle_length, tail_length};
    p->contexts_bytes += bytes;
    uint32_t slot = hash & (SLOTS - 1);
    while (p->slots[slot]) slot = (slot + 1) & (SLOTS - 1);
    p->slots[slot] = p->contexts_count;
    return 0;
}

int64_t pugd_plain_unknown(struct pugd_plain *p)
{
    for (; p->looked < p->count; p->looked++) {
        struct pugd_plain_event *e = &p->events[p->looked];
        if (e->known == PUGD_PLAIN_UNKNOWN) e->known = find_context(p, e->hash, e->context, e->context_length);
        if (e->known == PUGD_PLAIN_UNKNOWN) return (int64_t)p->looked;
    }
    return -1;
}

/* ---- reading ----------------------------------------------------------------------------------------------------- */

/* Could one of these be a key that changes traits: "$set", "$set_once", "$unset", "$add", however it is escaped? */
static int may_change_traits(const uint8_t *json, size_t length)
{
    static const char *const operations[] = {"set", "unset", "add"};
    const uint8_t *end = json + length, *at = json;
    while ((at = memchr(at, '$', (size_t)(end - at)))) {
        at++;
        if (at[-2] != '"') continue; /* an object begins with a brace: there is a byte before */
        for (int i = 0; i < 3; i++) {
            const uint8_t *c = at;
            const char *wanted = operations[i];
            while (c < end && *wanted && *c == (uint8_t)*wanted) c++, wanted++;
            if (c < end && (!*wanted || *c == '\\')) return 1;
        }
    }
    return memchr(json, '\\', length) && memmem(json, length, "\"\\u0024", 7);
}

/* One message at '{'. returns 0 and an event, or -1: not plain */
static int take_message(struct pugd_plain *p, struct text *t, int single, int64_t received_at, struct pugd_plain_event *e,
                        int *sent)
{
    static const uint8_t nothing[] = "{}";
    int typed = single;
    *e = (struct pugd_plain_event){.properties = nothing, .properties_length = 2, .occurred_at = received_at,
                                   .received_at = received_at, .known = PUGD_PLAIN_UNKNOWN};
    t->at++;
    if (next(t) == '}') return -1;
    for (;;) {
        struct string key;
        const uint8_t *value;
        size_t length;
        if (next(t) != '"' || take_string(t, &key) || !key.plain || next(t) != ':') return -1;
        t->at++;
        switch (key.length) {
        case 4:
            if (is(&key, "type")) {
                uint32_t n;
                if (take_text(t, 0, 64, &value, &n)) return -1;
                if (!single) {
                    if (n != 5 || memcmp(value, "track", 5)) return -1;
                    typed = 1;
                }
                goto taken;
            }
            if (is(&key, "name")) return -1;
            break;
        case 5:
            if (is(&key, "event")) {
                if (take_text(t, 1, NAME_MAX_BYTES, &e->event, &e->event_length)) return -1;
                goto taken;
            }
            break;
        case 6:
            if (is(&key, "userId")) {
                if (take_text(t, 0, ID_MAX_BYTES, &e->user, &e->user_length)) return -1;
                goto taken;
            }
            if (is(&key, "sentAt")) {
                if (take_sent_at(t, received_at, sent)) return -1;
                goto taken;
            }
            if (is(&key, "traits")) return -1;
            break;
        case 7:
            if (is(&key, "context")) {
                if (take_value(t, &value, &length)) return -1;
                if (value[0] != '{' && !is_null(value, length)) return -1;
                if (length > CONTEXT_MAX_BYTES) return -1;
                e->context = value;
                e->context_length = (uint32_t)length;
                goto taken;
            }
            if (is(&key, "channel") || is(&key, "groupId")) return -1;
            break;
        case 8:
            if (is(&key, "writeKey")) {
                uint32_t n;
                if (take_text(t, 0, UINT32_MAX, &value, &n)) return -1;
                goto taken;
            }
            if (is(&key, "category")) return -1;
            break;
        case 9:
            if (is(&key, "messageId")) {
                if (take_text(t, 1, NAME_MAX_BYTES, &e->event_id, &e->event_id_length)) return -1;
                goto taken;
            }
            if (is(&key, "timestamp")) {
                uint32_t n;
                if (take_text(t, 0, 64, &value, &n)) return -1;
                if (value) {
                    e->occurred_at = time_of(value, n);
                    if (e->occurred_at < 0 || e->occurred_at > received_at + FUTURE_MAX_MS) return -1;
                }
                goto taken;
            }
            break;
        case 10:
            if (is(&key, "properties")) {
                if (take_value(t, &value, &length) || length > UINT32_MAX) return -1;
                if (value[0] == '{') {
                    if (memmem(value, length, "ip\"", 3) || may_change_traits(value, length)) return -1;
                    e->properties = value;
                    e->properties_length = (uint32_t)length;
                } else if (!is_null(value, length)) {
                    return -1;
                }
                goto taken;
            }
            if (is(&key, "previousId")) return -1;
            break;
        case 11:
            if (is(&key, "anonymousId")) {
                if (take_text(t, 0, ID_MAX_BYTES, &e->anonymous, &e->anonymous_length)) return -1;
                goto taken;
            }
            break;
        case 17:
            if (is(&key, "originalTimestamp")) return -1;
            break;
        default:
            break;
        }
        if (take_value(t, &value, &length)) return -1;
    taken:;
        uint8_t c = next(t);
        t->at++;
        if (c == '}') break;
        if (c != ',') return -1;
    }
    if (!typed || !e->event_length || !e->event_id_length || !(e->user_length || e->anonymous_length)) return -1;
    e->hash = hash_of(p->seed, e->context, e->context_length);
    e->known = find_context(p, e->hash, e->context, e->context_length);
    return 0;
}

/* returns 0, -1 without memory */
static int keep(struct pugd_plain *p, struct pugd_plain_event *e, uint32_t project)
{
    if (p->count == p->room) {
        size_t room = p->room ? 2 * p->room : 256;
        struct pugd_plain_event *events = pugd_realloc(p->events, room * sizeof *events);
        if (!events) return -1;
        p->events = events;
        p->room = room;
    }
    if (!p->keys.length) {
        if (reserve(&p->keys, 5) || reserve(&p->ids, 5)) return -1;
        p->keys.length = p->ids.length = 5; /* the array's header, written when it is asked for */
    }
    if (reserve(&p->keys, (size_t)e->event_id_length + e->event_length + 32)) return -1;
    if (reserve(&p->ids, (size_t)e->user_length + e->anonymous_length + 32)) return -1;
    e->project = project;
    e->keys_at = p->keys.length;
    e->ids_at = p->ids.length;
    uint8_t *at = put_uint(p->keys.bytes + p->keys.length, project);
    at = put_text(at, e->event_id, e->event_id_length);
    at = put_uint(at, (uint64_t)e->occurred_at);
    at = put_text(at, e->event, e->event_length);
    p->keys.length = (size_t)(at - p->keys.bytes);
    at = put_uint(p->ids.bytes + p->ids.length, project);
    at = put_text(at, e->user, e->user_length);
    at = put_text(at, e->anonymous, e->anonymous_length);
    p->ids.length = (size_t)(at - p->ids.bytes);
    p->events[p->count++] = *e;
    return 0;
}

/* returns how many events, 0 not plain, -1 without memory */
static int64_t take_body(struct pugd_plain *p, struct text *t, int single, uint32_t project, int64_t received_at)
{
    struct pugd_plain_event e;
    int sent = 0;
    if (next(t) != '{') return 0;
    if (single) {
        if (take_message(p, t, 1, received_at, &e, &sent)) return 0;
        return keep(p, &e, project) ? -1 : 1;
    }
    int64_t count = 0;
    t->at++;
    if (next(t) == '}') return 0;
    for (;;) {
        struct string key;
        const uint8_t *value;
        size_t length;
        uint32_t n;
        if (next(t) != '"' || take_string(t, &key) || !key.plain || next(t) != ':') return 0;
        t->at++;
        if (is(&key, "batch")) {
            if (next(t) != '[') return 0;
            t->at++;
            for (;;) {
                if (next(t) != '{' || take_message(p, t, 0, received_at, &e, &sent)) return 0;
                if (keep(p, &e, project)) return -1;
                count++;
                uint8_t c = next(t);
                t->at++;
                if (c == ']') break;
                if (c != ',') return 0;
            }
        } else if (is(&key, "sentAt")) {
            if (take_sent_at(t, received_at, &sent)) return 0;
        } else if (is(&key, "writeKey")) {
            if (take_text(t, 0, UINT32_MAX, &value, &n)) return 0;
        } else if (is(&key, "context")) {
            return 0;
        } else if (take_value(t, &value, &length)) {
            return 0;
        }
        uint8_t c = next(t);
        t->at++;
        if (c == '}') return count;
        if (c != ',') return 0;
    }
}

int64_t pugd_plain_add(struct pugd_plain *p, const uint8_t *body, size_t length, int single, uint32_t project,
                       int64_t received_at)
{
    uint64_t found = pugd_scan(body, length, p->seed);
    if ((found & 0xff) == PUGD_SCAN_MEMORY) return -1;
    if ((found & 0xff) != PUGD_SCAN_STORABLE || (found & PUGD_SCAN_DUPLICATE_KEYS) || received_at < 0) return 0;
    size_t before = p->count;
    struct text t = {body, body + length};
    int64_t count = take_body(p, &t, single, project, received_at);
    if (count <= 0) {
        pugd_plain_drop(p, p->count - before);
        return count;
    }
    for (size_t i = before; i < p->count; i++)
        if (p->events[i].known == PUGD_PLAIN_UNKNOWN) return count + PUGD_PLAIN_LEARN;
    return count;
}

void pugd_plain_drop(struct pugd_plain *p, size_t count)
{
    if (!count) return;
    p->count -= count;
    p->keys.length = p->events[p->count].keys_at;
    p->ids.length = p->events[p->count].ids_at;
    if (p->looked > p->count) p->looked = p->count;
}

/* ---- what comes of it -------------------------------------------------------------------------------------------- */

size_t pugd_plain_count(const struct pugd_plain *p) { return p->count; }

const struct pugd_plain_event *pugd_plain_at(const struct pugd_plain *p, size_t index)
{
    return index < p->count ? &p->events[index] : NULL;
}

static const uint8_t *array_of(struct pugd_plain *p, struct buffer *b, uint64_t values, size_t *length)
{
    b->bytes[0] = 0xdd;
    put_be(b->bytes + 1, values * (uint64_t)p->count, 4);
    *length = b->length;
    return b->bytes;
}

const uint8_t *pugd_plain_event_keys(struct pugd_plain *p, size_t *length) { return array_of(p, &p->keys, 4, length); }

const uint8_t *pugd_plain_ids(struct pugd_plain *p, size_t *length) { return array_of(p, &p->ids, 3, length); }

const uint8_t *pugd_plain_rows(struct pugd_plain *p, const uint64_t *actors, const uint32_t *skip, size_t skip_count,
                               const uint32_t *old, size_t old_count, size_t *length)
{
    struct buffer *b = &p->rows;
    size_t skipped = 0, olds = 0;
    b->length = 0;
    if (reserve(b, 1)) return NULL;
    for (size_t i = 0; i < p->count; i++) {
        if (skipped < skip_count && skip[skipped] == i) {
            skipped++;
            continue;
        }
        const struct pugd_plain_event *e = &p->events[i];
        const struct context *c = &p->contexts[e->known];
        size_t most = 96 + (size_t)e->event_length + e->event_id_length + e->user_length + e->anonymous_length +
                      e->properties_length + c->middle_length + c->tail_length;
        if (reserve(b, most)) return NULL;
        uint8_t *at = b->bytes + b->length;
        *at++ = 0xdc;
        at = put_be(at, p->fields, 2);
        int is_old = olds < old_count && old[olds] == i;
        olds += (size_t)is_old;
        *at++ = is_old ? KIND_OLD_EVENT : KIND_EVENT;
        at = put_uint(at, e->project);
        at = put_uint(at, actors[i]);
        at = put_uint(at, (uint64_t)e->occurred_at);
        at = put_uint(at, (uint64_t)e->received_at);
        at = put_uint(at, (uint64_t)e->occurred_at);
        at = put_text(at, NULL, 0); /* time_note */
        at = put_text(at, (const uint8_t *)"track", 5);
        at = put_text(at, e->event, e->event_length);
        at = put_text(at, e->event_id, e->event_id_length);
        at = put_text(at, e->user, e->user_length);
        at = put_text(at, e->anonymous, e->anonymous_length);
        memcpy(at, c->bytes + c->length, c->middle_length);
        at += c->middle_length;
        at = put_bytes(at, e->properties, e->properties_length);
        memcpy(at, c->bytes + c->length + c->middle_length, c->tail_length);
        at += c->tail_length;
        b->length = (size_t)(at - b->bytes);
    }
    *length = b->length;
    return b->bytes;
}
