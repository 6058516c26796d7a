#define _GNU_SOURCE
#include "plain.h"

#include <stdlib.h>
#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "memory.h"
#include "scan.h"

enum {
    NAME_MAX_BYTES = 512,
    ID_MAX_BYTES = 128,
    KEY_MAX_BYTES = 512,
    SLOTS = 16384, /* four times the contexts kept: short probes */
    CONTEXTS_MAX = 4096,
    CONTEXT_MAX_BYTES = 4096,
    AGENT_MAX_BYTES = 1024,
    FORMS_MAX = 8,
    MEMBERS_MAX = 120,  /* that a form may name; below 255, since a slot is a byte */
    MEMBER_SLOTS = 512, /* a power of two */
    MEMBER_MAX_BYTES = 40,
    MARKER_MAX_BYTES = 40,
    KIND_EVENT = 1,
    KIND_OLD_EVENT = 5,
};
#define CONTEXTS_BYTES_MAX ((size_t)16 << 20)
#define FUTURE_MAX_MS 86400000
#define SKEW_DEAD_BAND_MS 60000
#define AGE_MAX_MS ((int64_t)366 * 86400000)

struct buffer {
    uint8_t *bytes;
    size_t length, room;
};

struct context {
    uint64_t hash;
    uint8_t *bytes; /* the context, its user agent, its middle, its start, one after another; owned */
    uint32_t length, agent_length, middle_length, start_length;
    uint8_t variant;
};

/* A name's first and last bytes, which are all of it up to 16. */
struct ends {
    uint64_t head, tail;
};

/* A member that a form names. */
struct member {
    struct ends ends;
    uint8_t length, level, role;
    uint8_t name[MEMBER_MAX_BYTES];
};

struct form {
    uint32_t kind, flags;
    uint8_t marker[MARKER_MAX_BYTES];
    uint32_t marker_length;
    uint32_t count;
    uint8_t slots[MEMBER_SLOTS]; /* index of a member + 1; 0 empty */
    struct member members[MEMBERS_MAX];
};

/* What an event asks of traits: each operation as it stands. */
struct change {
    const uint8_t *at[PUGD_PLAIN_OPERATIONS_COUNT];
    uint32_t length[PUGD_PLAIN_OPERATIONS_COUNT];
    uint8_t denied;
};

struct pugd_plain {
    uint64_t seed;
    uint32_t fields;
    struct pugd_plain_event *events;
    size_t count, room;
    size_t looked; /* events before this have their context */
    struct buffer keys, ids, rows, told;
    struct buffer said; /* what is put together of contexts that lie among properties; properties written anew */
    struct change *changes;
    uint32_t *changing; /* of which event each is */
    size_t changes_count, changes_room;
    struct form *forms;
    uint32_t forms_count;
    const uint8_t *key; /* that the last body named */
    uint32_t key_length;
    int shape;
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
    p->forms = pugd_calloc(FORMS_MAX, sizeof *p->forms);
    if (!p->contexts || !p->forms) {
        pugd_plain_free(p);
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
    pugd_free(p->told.bytes);
    pugd_free(p->changes);
    pugd_free(p->changing);
    pugd_free(p->said.bytes);
    pugd_free(p->forms);
    pugd_free(p);
}

void pugd_plain_reset(struct pugd_plain *p)
{
    p->count = p->looked = p->changes_count = 0;
    p->said.length = 0;
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

static uint8_t *put_word(uint8_t *at, const char *word)
{
    return put_text(at, (const uint8_t *)word, (uint32_t)strlen(word));
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
    if (length) memcpy(at, bytes, length);
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

/* The first quote or backslash from `at` on, or the end. */
static const uint8_t *to_quote(const uint8_t *at, const uint8_t *end)
{
#ifdef __SSE2__
    for (; end - at >= 16; at += 16) {
        __m128i x = _mm_loadu_si128((const __m128i *)(const void *)at);
        __m128i hit = _mm_or_si128(_mm_cmpeq_epi8(x, _mm_set1_epi8('"')), _mm_cmpeq_epi8(x, _mm_set1_epi8('\\')));
        int mask = _mm_movemask_epi8(hit);
        if (mask) return at + __builtin_ctz((unsigned)mask);
    }
#endif
    while (at < end && *at != '"' && *at != '\\') at++;
    return at;
}

/* The first quote, brace or bracket from `at` on, or the end. */
static const uint8_t *to_bracket(const uint8_t *at, const uint8_t *end)
{
#ifdef __SSE2__
    for (; end - at >= 16; at += 16) {
        __m128i x = _mm_loadu_si128((const __m128i *)(const void *)at), low = _mm_or_si128(x, _mm_set1_epi8(0x20));
        __m128i hit = _mm_or_si128(_mm_cmpeq_epi8(low, _mm_set1_epi8('{')), _mm_cmpeq_epi8(low, _mm_set1_epi8('}')));
        int mask = _mm_movemask_epi8(_mm_or_si128(hit, _mm_cmpeq_epi8(x, _mm_set1_epi8('"'))));
        if (mask) return at + __builtin_ctz((unsigned)mask);
    }
#endif
    while (at < end && *at != '"' && (*at | 0x20) != '{' && (*at | 0x20) != '}') at++;
    return at;
}

static int take_string(struct text *t, struct string *s)
{
    const uint8_t *at = t->at + 1;
    s->at = at;
    s->plain = 1;
    for (;;) {
        at = to_quote(at, t->end);
        if (at == t->end) return -1;
        if (*at == '"') break;
        s->plain = 0;
        if (t->end - at < 2) return -1;
        at += 2;
    }
    if ((size_t)(at - s->at) > UINT32_MAX) return -1;
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
            t->at = to_bracket(t->at, t->end);
            if (t->at == t->end) return -1;
            uint8_t c = *t->at;
            if (c == '"') {
                if (take_string(t, &s)) return -1;
                continue;
            }
            /* Braces and brackets, each with the bit that tells its end from its beginning; the grammar pairs them. */
            depth = (c | 0x20) == '{' ? depth + 1 : depth - 1;
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

/* A time as a number of seconds or milliseconds, in ms; -1 where it is written otherwise, or too late to be meant. */
static int64_t time_of_number(const uint8_t *at, size_t length)
{
    char digits[32];
    size_t whole = 0, n = 0;
    while (whole < length && at[whole] >= '0' && at[whole] <= '9') whole++;
    if (!whole || whole > 15) return -1;
    if (whole == length) {
        int64_t value = 0;
        for (size_t i = 0; i < length; i++) value = value * 10 + (at[i] - '0');
        return value > PUGD_PLAIN_TIME_MAX_MS ? -1 : value < PUGD_PLAIN_SECONDS_BELOW ? value * 1000 : value;
    }
    if (at[whole] != '.' || length >= sizeof digits) return -1;
    for (; n < length; n++) {
        if (n != whole && (at[n] < '0' || at[n] > '9')) return -1;
        digits[n] = (char)at[n];
    }
    digits[n] = 0;
    char *end;
    double value = strtod(digits, &end); /* which stops at the point in a locale that has a comma there */
    if (end != digits + n || !(value <= (double)PUGD_PLAIN_TIME_MAX_MS)) return -1;
    return (int64_t)(value < (double)PUGD_PLAIN_SECONDS_BELOW ? value * 1000.0 : value);
}

/* ---- forms ------------------------------------------------------------------------------------------------------- */

static inline struct ends ends_of(const uint8_t *name, uint32_t length)
{
    struct ends e = {0, 0};
    if (length >= 8) {
        memcpy(&e.head, name, 8);
        memcpy(&e.tail, name + length - 8, 8);
    } else if (length >= 4) {
        memcpy(&e.head, name, 4);
        memcpy(&e.tail, name + length - 4, 4);
    } else if (length) {
        e.head = name[0] | (uint64_t)name[length / 2] << 8 | (uint64_t)name[length - 1] << 16;
    }
    return e;
}

static inline uint32_t slot_of(uint32_t level, struct ends e, uint32_t length)
{
    uint64_t h = (e.head ^ (uint64_t)(length << 8 | level) << 48) * 0x9e3779b97f4a7c15u;
    h = (h ^ h >> 29 ^ e.tail) * 0xd6e8feb86659fd93u;
    return (uint32_t)(h >> 32) & (MEMBER_SLOTS - 1);
}

/* The role of a name at a level; 0 for one that the form does not name. */
static inline int role_of(const struct form *f, uint32_t level, const uint8_t *name, uint32_t length)
{
    if (length > MEMBER_MAX_BYTES) return 0;
    struct ends e = ends_of(name, length);
    for (uint32_t slot = slot_of(level, e, length); f->slots[slot]; slot = (slot + 1) & (MEMBER_SLOTS - 1)) {
        const struct member *m = &f->members[f->slots[slot] - 1];
        if (m->ends.head == e.head && m->ends.tail == e.tail && m->length == length && m->level == level &&
            (length <= 16 || memcmp(m->name, name, length) == 0))
            return m->role;
    }
    return 0;
}

int pugd_plain_form(struct pugd_plain *p, uint32_t kind, uint32_t flags, const uint8_t *marker, uint32_t length)
{
    if (p->forms_count == FORMS_MAX || length > MARKER_MAX_BYTES || kind > 31) return -1;
    struct form *f = &p->forms[p->forms_count];
    f->kind = kind;
    f->flags = flags;
    if (length) memcpy(f->marker, marker, length);
    f->marker_length = length;
    return (int)p->forms_count++;
}

int pugd_plain_member(struct pugd_plain *p, uint32_t form, uint32_t level, const uint8_t *name, uint32_t length,
                      uint32_t role)
{
    if (form >= p->forms_count || !length || length > MEMBER_MAX_BYTES || !role || role > 0xff || level > 0xff) return -1;
    struct form *f = &p->forms[form];
    if (f->count == MEMBERS_MAX || role_of(f, level, name, length)) return -1;
    struct member *m = &f->members[f->count++];
    memcpy(m->name, name, length);
    m->ends = ends_of(name, length);
    m->length = (uint8_t)length;
    m->level = (uint8_t)level;
    m->role = (uint8_t)role;
    uint32_t slot = slot_of(level, m->ends, length);
    while (f->slots[slot]) slot = (slot + 1) & (MEMBER_SLOTS - 1);
    f->slots[slot] = (uint8_t)f->count;
    return 0;
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

/* What an event says of where it happened; NULL: nothing. */
static const uint8_t *context_of(const struct pugd_plain *p, const struct pugd_plain_event *e)
{
    return e->put_together ? p->said.bytes + e->said_at : e->context;
}

static uint32_t find_context(const struct pugd_plain *p, const struct pugd_plain_event *e)
{
    const uint8_t *bytes = context_of(p, e);
    uint32_t length = e->context_length;
    for (uint32_t slot = e->hash & (SLOTS - 1);; slot = (slot + 1) & (SLOTS - 1)) {
        uint32_t index = p->slots[slot];
        if (!index) return PUGD_PLAIN_UNKNOWN;
        const struct context *c = &p->contexts[index - 1];
        if (c->hash == e->hash && c->length == length && c->variant == e->variant && c->agent_length == e->agent_length &&
            (!length || memcmp(c->bytes, bytes, length) == 0) &&
            (!c->agent_length || memcmp(c->bytes + length, e->agent, c->agent_length) == 0))
            return index - 1;
    }
}

int pugd_plain_learn(struct pugd_plain *p, size_t event, const uint8_t *middle, uint32_t middle_length,
                     const uint8_t *start, uint32_t start_length)
{
    if (p->contexts_count == CONTEXTS_MAX || event >= p->count) return -1;
    const struct pugd_plain_event *e = &p->events[event];
    if (find_context(p, e) != PUGD_PLAIN_UNKNOWN) return 0;
    uint32_t length = e->context_length, agent_length = e->agent_length;
    size_t bytes = (size_t)length + agent_length + middle_length + start_length;
    uint8_t *copy = pugd_malloc(bytes ? bytes : 1), *at = copy;
    if (!copy) return -1;
    if (length) memcpy(at, context_of(p, e), length);
    at += length;
    if (agent_length) memcpy(at, e->agent, agent_length);
    at += agent_length;
    if (middle_length) memcpy(at, middle, middle_length);
    at += middle_length;
    if (start_length) memcpy(at, start, start_length);
    p->contexts[p->contexts_count++] =
        (struct context){e->hash, copy, length, agent_length, middle_length, start_length, e->variant};
    p->contexts_bytes += bytes;
    uint32_t slot = e->hash & (SLOTS - 1);
    while (p->slots[slot]) slot = (slot + 1) & (SLOTS - 1);
    p->slots[slot] = p->contexts_count;
    return 0;
}

int64_t pugd_plain_unknown(struct pugd_plain *p)
{
    for (; p->looked < p->count; p->looked++) {
        struct pugd_plain_event *e = &p->events[p->looked];
        if (e->known == PUGD_PLAIN_UNKNOWN) e->known = find_context(p, e);
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

/* A body while it is read. */
struct body {
    const struct form *form;
    int64_t received_at;
    const uint8_t *agent, *place;
    uint32_t agent_length, place_length;
    uint64_t agent_hash;
    int64_t sent_at; /* by its own account or its request's; -1: unknown */
    int call;    /* that the path names; 0: events do */
    int starved; /* no memory */
};

struct piece {
    const uint8_t *at;
    uint32_t length;
};

/* An event while it is read. */
struct reading {
    struct pugd_plain_event e;
    struct piece event, name, id, id_else, user, anonymous, distinct, distinct_else, same, joined;
    struct change change;
    int64_t time, time_else, age; /* ms; -1: none */
    uint64_t met;                 /* a bit for each role */
    int known, had, has_url, changes, odd_joined, odd_denied;
    int call;
};

static int take_event(struct pugd_plain *p, struct body *b, struct text *t);

static int take_piece(struct text *t, uint32_t most, struct piece *piece)
{
    return take_text(t, 0, most, &piece->at, &piece->length);
}

static int same(struct piece a, struct piece b)
{
    return a.length == b.length && (!a.length || !memcmp(a.at, b.at, a.length));
}

static int holds(const uint8_t *bytes, size_t length, const uint8_t *what, size_t what_length)
{
    return length && memmem(bytes, length, what, what_length) != NULL;
}

/* A time: -1 in `ms` where it is null. */
static int take_time(struct text *t, int numbers, int64_t *ms)
{
    const uint8_t *value;
    size_t length;
    *ms = -1;
    if (next(t) == '"') {
        uint32_t n;
        if (take_text(t, 1, 64, &value, &n)) return -1;
        *ms = time_of(value, n);
    } else {
        if (take_value(t, &value, &length)) return -1;
        if (is_null(value, length)) return 0;
        if (!numbers) return -1;
        *ms = time_of_number(value, length);
    }
    if (*ms > PUGD_PLAIN_TIME_MAX_MS) *ms = PUGD_PLAIN_TIME_MAX_MS;
    return *ms < 0 ? -1 : 0;
}

/* The key that opens a project: of several in a body all must be the same. */
static int take_key(struct pugd_plain *p, struct text *t, struct piece *key)
{
    if (take_piece(t, KEY_MAX_BYTES, key)) return -1;
    if (!key->at) return 0;
    if (!key->length) return -1;
    if (p->key && !same(*key, (struct piece){p->key, p->key_length})) return -1;
    p->key = key->at;
    p->key_length = key->length;
    return 0;
}

/* Put a member to what the event says of where it happened. */
static int put_together(struct pugd_plain *p, struct body *b, struct reading *r, const struct string *key,
                        const uint8_t *value, size_t length)
{
    size_t had = p->said.length - r->e.said_at;
    if (had + key->length + length + 5 > CONTEXT_MAX_BYTES) return -1;
    if (reserve(&p->said, key->length + length + 5)) {
        b->starved = 1;
        return -1;
    }
    uint8_t *at = p->said.bytes + p->said.length;
    *at++ = had ? ',' : '{';
    *at++ = '"';
    memcpy(at, key->at, key->length);
    at += key->length;
    *at++ = '"';
    *at++ = ':';
    memcpy(at, value, length);
    p->said.length = (size_t)(at + length - p->said.bytes);
    return 0;
}

static uint8_t *put_member(uint8_t *at, int some, struct piece key, struct piece value)
{
    if (some) *at++ = ',';
    *at++ = '"';
    if (key.length) memcpy(at, key.at, key.length);
    at += key.length;
    *at++ = '"';
    *at++ = ':';
    memcpy(at, value.at, value.length);
    return at + value.length;
}

/* Leave the member that names the key out of the properties: with the comma behind it, or, as the last, before it. */
static int cut_token(struct reading *r, const struct string *key, const struct text *t)
{
    const uint8_t *begin = key->at - 1, *end = t->at;
    if (key->at[key->length + 1] != ':' || key->at[key->length + 2] != '"' || end >= t->end) return -1;
    if (*end == ',' && (begin[-1] == ',' || begin[-1] == '{')) {
        end++;
    } else if (*end == '}' && begin[-1] == ',') {
        begin--;
    } else {
        return -1;
    }
    r->e.cut = begin;
    r->e.cut_length = (uint32_t)(end - begin);
    return 0;
}

static int take_list(struct pugd_plain *p, struct body *b, struct text *t)
{
    if (next(t) != '[') return -1;
    t->at++;
    for (;;) {
        if (next(t) != '{' || take_event(p, b, t)) return -1;
        uint8_t c = next(t);
        t->at++;
        if (c == ']') return 0;
        if (c != ',') return -1;
    }
}

static int take_members(struct pugd_plain *p, struct body *b, struct reading *r, struct text *t, int level);

static int take_properties(struct pugd_plain *p, struct body *b, struct reading *r, struct text *t)
{
    const struct form *f = b->form;
    const uint8_t *begin, *value;
    size_t length;
    if (next(t) != '{') return take_value(t, &value, &length) || !is_null(value, length) ? -1 : 0;
    begin = t->at;
    if (f->flags & PUGD_PLAIN_WALKED) {
        if (take_members(p, b, r, t, PUGD_PLAIN_PROPERTIES_LEVEL)) return -1;
    } else if (take_value(t, &value, &length)) {
        return -1;
    }
    length = (size_t)(t->at - begin);
    if (length > UINT32_MAX) return -1;
    if (f->flags & PUGD_PLAIN_OPERATIONS && (memmem(begin, length, "ip\"", 3) || may_change_traits(begin, length)))
        return -1;
    if (f->flags & PUGD_PLAIN_CUT) {
        /* The key's own, and no other, which would have the properties written anew. */
        const uint8_t *first = memmem(begin, length, "\"token\"", 7);
        if (!first != !r->e.cut_length) return -1;
        if (first && holds(first + 1, length - (size_t)(first + 1 - begin), (const uint8_t *)"\"token\"", 7)) return -1;
    }
    r->e.properties = begin;
    r->e.properties_length = (uint32_t)length;
    return 0;
}

/* A member's value, by its role. returns 0; -1: the body is not plain, or there is no memory */
static int take_role(struct pugd_plain *p, struct body *b, struct reading *r, struct text *t, const struct string *key,
                     int role)
{
    const uint8_t *value;
    size_t length;
    struct piece piece;
    switch (role) {
    case 0:
    case PUGD_PLAIN_NONE: return take_value(t, &value, &length);
    case PUGD_PLAIN_TYPE:
        if (take_piece(t, 64, &piece)) return -1;
        if (b->call) return 0;
        if (!piece.at) return -1;
        r->call = role_of(b->form, PUGD_PLAIN_TYPES_LEVEL, piece.at, piece.length);
        return r->call ? 0 : -1;
    case PUGD_PLAIN_EVENT: return take_piece(t, NAME_MAX_BYTES, &r->event);
    case PUGD_PLAIN_NAME: return take_piece(t, NAME_MAX_BYTES, &r->name);
    case PUGD_PLAIN_ID: return take_piece(t, NAME_MAX_BYTES, &r->id);
    case PUGD_PLAIN_ID_ELSE: return take_piece(t, NAME_MAX_BYTES, &r->id_else);
    case PUGD_PLAIN_USER: return take_piece(t, ID_MAX_BYTES, &r->user);
    case PUGD_PLAIN_ANONYMOUS: return take_piece(t, ID_MAX_BYTES, &r->anonymous);
    case PUGD_PLAIN_DISTINCT: return take_piece(t, ID_MAX_BYTES, &r->distinct);
    case PUGD_PLAIN_DISTINCT_ELSE: return take_piece(t, ID_MAX_BYTES, &r->distinct_else);
    case PUGD_PLAIN_SAME: return take_piece(t, UINT32_MAX, &r->same);
    case PUGD_PLAIN_KNOWN:
    case PUGD_PLAIN_HAD:
        if (take_value(t, &value, &length)) return -1;
        *(role == PUGD_PLAIN_HAD ? &r->had : &r->known) = length == 4 && memcmp(value, "true", 4) == 0;
        return 0;
    case PUGD_PLAIN_TIME: return take_time(t, b->form->flags & PUGD_PLAIN_NUMBERS, &r->time);
    case PUGD_PLAIN_TIME_ELSE: return take_time(t, b->form->flags & PUGD_PLAIN_NUMBERS, &r->time_else);
    case PUGD_PLAIN_AGE:
        if (take_value(t, &value, &length)) return -1;
        if (is_null(value, length)) return 0;
        if (length > 15) return -1;
        r->age = 0;
        for (size_t i = 0; i < length; i++) {
            if (value[i] < '0' || value[i] > '9') return -1;
            r->age = r->age * 10 + (value[i] - '0');
        }
        if (r->age > AGE_MAX_MS) r->age = AGE_MAX_MS;
        return 0;
    case PUGD_PLAIN_SENT:
        return take_time(t, 0, &r->e.sent_at);
    case PUGD_PLAIN_UNSKEWED:
        if (take_value(t, &value, &length)) return -1;
        r->e.unskewed = length == 4 && !memcmp(value, "true", 4);
        return 0;
    case PUGD_PLAIN_KEY: return take_key(p, t, &piece);
    case PUGD_PLAIN_TOKEN: return take_key(p, t, &piece) || !piece.at ? -1 : cut_token(r, key, t);
    case PUGD_PLAIN_TEXT: return take_piece(t, UINT32_MAX, &piece);
    case PUGD_PLAIN_PROPERTIES: return take_properties(p, b, r, t);
    case PUGD_PLAIN_CONTEXT:
        if (take_value(t, &value, &length)) return -1;
        if (length > CONTEXT_MAX_BYTES || (value[0] != '{' && !is_null(value, length))) return -1;
        r->e.context = value;
        r->e.context_length = (uint32_t)length;
        return 0;
    case PUGD_PLAIN_CHANNEL:
        if (take_piece(t, 64, &piece)) return -1;
        if (!piece.at) return 0;
        r->e.channel = (uint8_t)role_of(b->form, PUGD_PLAIN_CHANNELS_LEVEL, piece.at, piece.length);
        return r->e.channel && r->e.channel <= PUGD_PLAIN_CHANNEL_MAX ? 0 : -1;
    case PUGD_PLAIN_LIST: return take_list(p, b, t);
    case PUGD_PLAIN_EMPTY:
        if (take_value(t, &value, &length)) return -1;
        return is_null(value, length) || (length == 2 && memcmp(value, "{}", 2) == 0) ? 0 : -1;
    case PUGD_PLAIN_FALSE:
        if (take_value(t, &value, &length)) return -1;
        return is_null(value, length) || (length == 5 && memcmp(value, "false", 5) == 0) ? 0 : -1;
    case PUGD_PLAIN_URL: r->has_url = next(t) == '"'; return take_value(t, &value, &length);
    case PUGD_PLAIN_NULL: return take_value(t, &value, &length) || !is_null(value, length) ? -1 : 0;
    case PUGD_PLAIN_JOINED:
        if (next(t) == '"') {
            struct string s;
            if (take_string(t, &s)) return -1;
            r->odd_joined = !s.plain || s.length > ID_MAX_BYTES;
            r->joined = (struct piece){s.at, s.length};
            return 0;
        }
        if (take_value(t, &value, &length)) return -1;
        r->odd_joined = !is_null(value, length);
        return 0;
    case PUGD_PLAIN_PROFILE:
        if (take_value(t, &value, &length)) return -1;
        r->odd_denied = value[0] == '"' && memchr(value, '\\', length);
        r->change.denied = (length == 5 && !memcmp(value, "false", 5)) || (length == 7 && !memcmp(value, "\"false\"", 7));
        return 0;
    case PUGD_PLAIN_SET:
    case PUGD_PLAIN_SET_ONCE:
    case PUGD_PLAIN_UNSET:
    case PUGD_PLAIN_SET_BESIDE:
    case PUGD_PLAIN_SET_ONCE_BESIDE:
    case PUGD_PLAIN_UNSET_BESIDE:
        if (take_value(t, &value, &length) || length > UINT32_MAX) return -1;
        r->change.at[role - PUGD_PLAIN_SET] = value;
        r->change.length[role - PUGD_PLAIN_SET] = (uint32_t)length;
        r->changes = 1;
        return 0;
    default: return -1; /* PUGD_PLAIN_ODD */
    }
}

/* An object's members, at its '{'. */
static int take_members(struct pugd_plain *p, struct body *b, struct reading *r, struct text *t, int level)
{
    t->at++;
    if (next(t) == '}') {
        t->at++;
        return 0;
    }
    for (;;) {
        struct string key;
        if (next(t) != '"' || take_string(t, &key) || !key.plain || next(t) != ':') return -1;
        t->at++;
        int role = role_of(b->form, (uint32_t)level, key.at, key.length);
        next(t);
        const uint8_t *value = t->at;
        r->met |= (uint64_t)1 << (role & PUGD_PLAIN_ROLE);
        if (take_role(p, b, r, t, &key, role & PUGD_PLAIN_ROLE)) return -1;
        if (role & PUGD_PLAIN_SAYS && put_together(p, b, r, &key, value, (size_t)(t->at - value))) return -1;
        uint8_t c = next(t);
        t->at++;
        if (c == '}') return 0;
        if (c != ',') return -1;
    }
}

static int begins(struct piece id, const char *with)
{
    size_t n = strlen(with);
    return id.length >= n && memcmp(id.at, with, n) == 0;
}

static struct piece bare(struct piece id)
{
    const uint32_t n = 8;
    return begins(id, "$device:") ? (struct piece){id.at + n, id.length - n} : id;
}

/* Is it no id of a client's: one that we give, or what stands for none? */
static int is_reserved(const uint8_t *id, uint32_t length)
{
    static const char given[] = "cookieless-", none[] = "$posthog_cookieless";
    if (length >= sizeof given - 1 && !memcmp(id, given, sizeof given - 1)) return 1;
    return length == sizeof none - 1 && !memcmp(id, none, length);
}

/* Who it was, of the ids that the event names. */
static void decide_who(const struct form *f, struct reading *r)
{
    struct piece user = r->user, anonymous = r->anonymous;
    if (f->flags & PUGD_PLAIN_ONE_ID) {
        struct piece who = r->distinct.length ? r->distinct : r->distinct_else;
        int identifies = r->call == PUGD_PLAIN_IDENTIFY;
        int known = identifies || r->known || (r->same.length && same(r->same, who));
        user = anonymous = (struct piece){NULL, 0};
        *(known ? &user : &anonymous) = who;
        if (identifies && who.length && !same(r->joined, who)) anonymous = r->joined;
    } else if (f->flags & PUGD_PLAIN_DEVICE_ID) {
        struct piece device = bare(r->anonymous), distinct = bare(r->distinct);
        int is_device = distinct.at != r->distinct.at;
        user = bare(r->user);
        anonymous = device;
        if (!user.length && distinct.length) {
            int is_user = !is_device && !r->had && device.length && !same(distinct, device);
            user = is_user ? distinct : (struct piece){NULL, 0};
            anonymous = is_user ? (struct piece){NULL, 0} : distinct;
        }
    }
    if (f->flags & PUGD_PLAIN_MARKED_ID)
        *(begins(r->distinct, "anon-") ? &anonymous : &user) = r->distinct;
    r->e.user = user.at;
    r->e.user_length = user.length;
    r->e.anonymous = anonymous.at;
    r->e.anonymous_length = anonymous.length;
}

/* May an operation have the key "ip" or "$ip", however it is escaped? */
static int may_hold_address(const uint8_t *json, size_t length)
{
    const uint8_t *end = json + length, *at = json;
    for (; (at = memmem(at, (size_t)(end - at), "ip\"", 3)); at += 3)
        if (at > json && (at[-1] == '"' || at[-1] == '$')) return 1;
    for (at = json; (at = memmem(at, (size_t)(end - at), "\\u00", 4)); at += 4)
        if (end - at >= 6 && (!memcmp(at + 4, "69", 2) || !memcmp(at + 4, "70", 2) || !memcmp(at + 4, "24", 2))) return 1;
    return 0;
}

/* Write the properties anew, with the operations beside them in the place of those that they have, or behind them. */
static int put_beside(struct pugd_plain *p, struct body *b, struct reading *r)
{
    static const struct piece names[] = {
        {(const uint8_t *)"$set", 4}, {(const uint8_t *)"$set_once", 9}, {(const uint8_t *)"$unset", 6}};
    struct pugd_plain_event *e = &r->e;
    const uint8_t *const *beside = r->change.at + 3;
    const uint32_t *lengths = r->change.length + 3;
    struct text t = {e->properties, e->properties + e->properties_length};
    size_t most = (size_t)e->properties_length + 2, begin = p->said.length;
    int put[3] = {0, 0, 0}, some = 0;
    for (int i = 0; i < 3; i++) most += (size_t)lengths[i] + names[i].length + 4;
    if (e->cut_length || most > UINT32_MAX) return -1;
    if (reserve(&p->said, most)) {
        b->starved = 1;
        return -1;
    }
    uint8_t *at = p->said.bytes + begin;
    *at++ = '{';
    t.at++;
    while (next(&t) == '"') {
        struct piece key, value;
        struct string s;
        const uint8_t *from;
        size_t length;
        if (take_string(&t, &s) || !s.plain || next(&t) != ':') return -1;
        t.at++;
        if (take_value(&t, &from, &length)) return -1;
        key = (struct piece){s.at, s.length};
        value = (struct piece){from, (uint32_t)length};
        for (int i = 0; i < 3; i++)
            if (beside[i] && same(key, names[i])) {
                value = (struct piece){beside[i], lengths[i]};
                put[i] = 1;
            }
        at = put_member(at, some++, key, value);
        if (next(&t) == ',') t.at++;
    }
    for (int i = 0; i < 3; i++)
        if (beside[i] && !put[i]) at = put_member(at, some++, names[i], (struct piece){beside[i], lengths[i]});
    *at++ = '}';
    p->said.length = (size_t)(at - p->said.bytes);
    e->written = 1;
    e->properties_at = begin;
    e->properties_length = (uint32_t)(p->said.length - begin);
    return 0;
}

/* Keep what an event asks beside its row; give its properties what it has of that beside them. */
static int add_change(struct pugd_plain *p, struct body *b, struct reading *r, int is_event)
{
    const struct change *c = &r->change;
    if (r->changes && r->odd_denied) return -1;
    if (is_event) {
        for (int i = 0; i < PUGD_PLAIN_OPERATIONS_COUNT; i++)
            if (c->at[i] && may_hold_address(c->at[i], c->length[i])) return -1;
        if ((c->at[3] || c->at[4] || c->at[5]) && put_beside(p, b, r)) return -1;
    }
    if (p->changes_count == p->changes_room) {
        size_t room = p->changes_room ? 2 * p->changes_room : 64;
        struct change *changes = pugd_realloc(p->changes, room * sizeof *changes);
        if (changes) p->changes = changes;
        uint32_t *changing = pugd_realloc(p->changing, room * sizeof *changing);
        if (changing) p->changing = changing;
        if (!changes || !changing) {
            b->starved = 1;
            return -1;
        }
        p->changes_room = room;
    }
    p->changing[p->changes_count] = (uint32_t)p->count;
    p->changes[p->changes_count++] = *c;
    r->e.change = (uint32_t)p->changes_count;
    return 0;
}

/* What the members that were read say together; add the event. returns 0; -1: not plain, or no memory */
static int finish(struct pugd_plain *p, struct body *b, struct reading *r)
{
    static const struct piece views[] = {{(const uint8_t *)"page_view", 9}, {(const uint8_t *)"screen_view", 11}};
    static const struct piece calls[] = {{(const uint8_t *)"identify", 8}, {(const uint8_t *)"traits", 6}};
    const struct form *f = b->form;
    struct pugd_plain_event *e = &r->e;
    struct piece name = r->event, id = r->id.length ? r->id : r->id_else;
    int call = b->call ? b->call : r->call;
    if (f->flags & PUGD_PLAIN_BY_NAME) {
        call = name.length ? role_of(f, PUGD_PLAIN_NAMES_LEVEL, name.at, name.length) : 0;
        if (!call || (call == PUGD_PLAIN_PAGE && f->flags & PUGD_PLAIN_PAGE_HAS_URL && !r->has_url)) call = PUGD_PLAIN_TRACK;
        if (call >= PUGD_PLAIN_IDENTIFY && call <= PUGD_PLAIN_TRAITS && f->flags & PUGD_PLAIN_ONE_ID)
            name = calls[call - PUGD_PLAIN_IDENTIFY];
        else if (call > PUGD_PLAIN_SCREEN)
            return -1;
        r->call = call;
    } else if (call == PUGD_PLAIN_PAGE || call == PUGD_PLAIN_SCREEN) {
        name = r->name.length ? r->name : views[call - PUGD_PLAIN_PAGE];
    }
    int is_event = call <= PUGD_PLAIN_SCREEN;
    if (call < PUGD_PLAIN_TRACK || !name.length || !id.length) return -1;
    if ((!is_event && !(f->flags & PUGD_PLAIN_BY_NAME)) || (call == PUGD_PLAIN_IDENTIFY && r->odd_joined)) return -1;
    decide_who(f, r);
    if (!e->user_length && !e->anonymous_length) return -1;
    if (is_reserved(e->user, e->user_length) || is_reserved(e->anonymous, e->anonymous_length)) return -1;
    if (r->time < 0 && r->time_else >= 0) r->time = r->time_else;
    e->said_time = r->time >= 0;
    e->original_at = r->time >= 0 ? r->time : r->age >= 0 ? b->received_at - r->age : b->received_at;
    if (e->original_at < 0) return -1;
    e->received_at = b->received_at;
    e->call = (uint8_t)call;
    e->event = name.at;
    e->event_length = name.length;
    e->event_id = id.at;
    e->event_id_length = id.length;
    e->agent = b->agent;
    e->agent_length = b->agent_length;
    e->place = b->place;
    e->place_length = b->place_length;
    e->variant = (uint8_t)(f->kind << 3 | e->channel);
    if (f->flags & PUGD_PLAIN_TOGETHER) {
        if (reserve(&p->said, 2)) goto starved;
        if (p->said.length == e->said_at) p->said.bytes[p->said.length++] = '{';
        p->said.bytes[p->said.length++] = '}';
        e->put_together = 1;
        e->context_length = (uint32_t)(p->said.length - e->said_at);
    }
    /* What the mark decides is decided by what was put together: it stands in both or in neither. */
    if (f->marker_length && holds(e->properties, e->properties_length, f->marker, f->marker_length) !=
                                holds(context_of(p, e), e->context_length, f->marker, f->marker_length))
        return -1;
    if ((r->changes || !is_event) && add_change(p, b, r, is_event)) return -1;
    e->hash = hash_of(p->seed ^ b->agent_hash ^ (uint64_t)e->variant << 32, context_of(p, e), e->context_length);
    e->known = find_context(p, e);
    if (p->count == p->room) {
        size_t room = p->room ? 2 * p->room : 256;
        struct pugd_plain_event *events = pugd_realloc(p->events, room * sizeof *events);
        if (!events) goto starved;
        p->events = events;
        p->room = room;
    }
    p->events[p->count++] = *e;
    return 0;
starved:
    b->starved = 1;
    return -1;
}

static struct reading begin(const struct pugd_plain *p)
{
    static const uint8_t nothing[] = "{}";
    return (struct reading){
        .e = {.properties = nothing, .properties_length = 2, .known = PUGD_PLAIN_UNKNOWN, .said_at = p->said.length,
              .sent_at = -1},
        .time = -1, .time_else = -1, .age = -1,
    };
}

static int take_event(struct pugd_plain *p, struct body *b, struct text *t)
{
    struct reading r = begin(p);
    return take_members(p, b, &r, t, PUGD_PLAIN_EVENT_LEVEL) || finish(p, b, &r) ? -1 : 0;
}

static int take_body(struct pugd_plain *p, struct body *b, struct text *t)
{
    uint8_t first = next(t);
    p->shape = PUGD_PLAIN_LISTED;
    if (first == '[') return b->form->flags & PUGD_PLAIN_BARE_LIST ? take_list(p, b, t) : -1;
    if (first != '{') return -1;
    struct reading r = begin(p);
    size_t before = p->count;
    if (take_members(p, b, &r, t, PUGD_PLAIN_AROUND_LEVEL)) return -1;
    if (r.e.sent_at >= 0) b->sent_at = r.e.sent_at;
    p->shape = PUGD_PLAIN_BATCHED;
    if (r.met & (uint64_t)1 << PUGD_PLAIN_LIST) {
        /* Beside its list an envelope has nothing of an event's. */
        const uint64_t one = 1, around = one << PUGD_PLAIN_LIST | one << PUGD_PLAIN_KEY | one << PUGD_PLAIN_SENT | one;
        return r.met & ~around || p->count == before ? -1 : 0;
    }
    p->shape = PUGD_PLAIN_SINGLE;
    return finish(p, b, &r);
}

static const char *const TIME_NOTES[] = {"", "skew", "future", "past"};

/* When the events from number `from` on happened, by when their body was sent: as enrich/clock.py says. */
static void correct_times(struct pugd_plain *p, const struct body *b, size_t from)
{
    for (size_t i = from; i < p->count; i++) {
        struct pugd_plain_event *e = &p->events[i];
        int64_t sent_at = b->sent_at >= 0 ? b->sent_at : e->sent_at;
        int64_t skew = sent_at >= 0 && e->said_time && !e->unskewed ? b->received_at - sent_at : 0;
        if (skew >= -SKEW_DEAD_BAND_MS && skew <= SKEW_DEAD_BAND_MS) skew = 0;
        e->occurred_at = e->original_at + skew;
        e->time_note = skew != 0;
        if (!e->said_time || (e->occurred_at >= 0 && e->occurred_at <= b->received_at + FUTURE_MAX_MS)) continue;
        e->time_note = e->occurred_at < 0 ? 3 : 2;
        e->occurred_at = b->received_at;
    }
}

/* Those of events that are no more. */
static void forget_changes(struct pugd_plain *p)
{
    while (p->changes_count && p->changing[p->changes_count - 1] >= p->count) p->changes_count--;
}

int64_t pugd_plain_add(struct pugd_plain *p, uint32_t form, const uint8_t *body, size_t length, int call,
                       int64_t received_at, int64_t sent_at, const uint8_t *agent, uint32_t agent_length,
                       const uint8_t *place, uint32_t place_length)
{
    p->key = NULL;
    p->key_length = 0;
    if (form >= p->forms_count || agent_length > AGENT_MAX_BYTES || received_at < 0) return 0;
    uint64_t found = pugd_scan(body, length, p->seed);
    if ((found & 0xff) == PUGD_SCAN_MEMORY) return -1;
    if ((found & 0xff) != PUGD_SCAN_STORABLE || found & PUGD_SCAN_DUPLICATE_KEYS) return 0;
    size_t before = p->count, said = p->said.length;
    struct text t = {body, body + length};
    struct body b = {.form = &p->forms[form], .received_at = received_at, .agent = agent, .agent_length = agent_length,
                     .place = place, .place_length = place_length, .sent_at = sent_at, .call = call};
    if (agent_length) b.agent_hash = hash_of(p->seed, agent, agent_length);
    if (take_body(p, &b, &t)) {
        pugd_plain_drop(p, p->count - before);
        p->said.length = said;
        forget_changes(p);
        p->key = NULL;
        p->key_length = 0;
        return b.starved ? -1 : 0;
    }
    correct_times(p, &b, before);
    int64_t count = (int64_t)(p->count - before);
    for (size_t i = before; i < p->count; i++)
        if (p->events[i].known == PUGD_PLAIN_UNKNOWN) return count + PUGD_PLAIN_LEARN;
    return count;
}

void pugd_plain_drop(struct pugd_plain *p, size_t count)
{
    if (!count || count > p->count) return;
    p->count -= count;
    p->said.length = p->events[p->count].said_at;
    if (p->looked > p->count) p->looked = p->count;
    forget_changes(p);
}

const uint8_t *pugd_plain_key(const struct pugd_plain *p, size_t *length, int *shape)
{
    *length = p->key_length;
    *shape = p->shape;
    return p->key;
}

void pugd_plain_own(struct pugd_plain *p, size_t count, uint32_t project)
{
    for (size_t i = p->count - (count < p->count ? count : p->count); i < p->count; i++) p->events[i].project = project;
}

size_t pugd_plain_add_many(struct pugd_plain *p, const uint8_t *bytes, const int64_t *said, size_t count,
                           int64_t received_at, uint32_t events_max, uint32_t *took, int *alone)
{
    *alone = 1;
    for (size_t i = 0; i < count; i++, said += PUGD_PLAIN_SAID_COUNT) {
        if (said[PUGD_PLAIN_SAID_FORM] == PUGD_PLAIN_ALONE) return i;
        const uint8_t *agent = bytes, *place = agent + said[PUGD_PLAIN_SAID_AGENT_LENGTH];
        const uint8_t *body = place + said[PUGD_PLAIN_SAID_PLACE_LENGTH];
        bytes = body + said[PUGD_PLAIN_SAID_LENGTH];
        int64_t found = pugd_plain_add(
            p, (uint32_t)said[PUGD_PLAIN_SAID_FORM], body, (size_t)said[PUGD_PLAIN_SAID_LENGTH],
            (int)said[PUGD_PLAIN_SAID_CALL], received_at, said[PUGD_PLAIN_SAID_SENT_AT], agent,
            (uint32_t)said[PUGD_PLAIN_SAID_AGENT_LENGTH], place, (uint32_t)said[PUGD_PLAIN_SAID_PLACE_LENGTH]);
        if (found <= 0) {
            *alone = found < 0;
            return i;
        }
        size_t events = (size_t)(found & (PUGD_PLAIN_LEARN - 1)), changes;
        if (found >= PUGD_PLAIN_LEARN || events > events_max || pugd_plain_changing(p, p->count - events, &changes)) {
            pugd_plain_drop(p, events);
            return i;
        }
        pugd_plain_own(p, events, (uint32_t)said[PUGD_PLAIN_SAID_PROJECT]);
        *took++ = (uint32_t)events;
        *took++ = (uint32_t)p->shape;
    }
    return count;
}

/* ---- what comes of it -------------------------------------------------------------------------------------------- */

size_t pugd_plain_count(const struct pugd_plain *p) { return p->count; }

const struct pugd_plain_event *pugd_plain_at(struct pugd_plain *p, size_t index)
{
    if (index >= p->count) return NULL;
    p->events[index].context = context_of(p, &p->events[index]);
    return &p->events[index];
}

static const uint8_t *array_of(struct buffer *b, uint64_t values, size_t *length)
{
    b->bytes[0] = 0xdd;
    put_be(b->bytes + 1, values, 4);
    *length = b->length;
    return b->bytes;
}

const uint8_t *pugd_plain_event_keys(struct pugd_plain *p, size_t *length)
{
    struct buffer *b = &p->keys;
    b->length = 0;
    if (reserve(b, 5)) return NULL;
    b->length = 5;
    for (size_t i = 0; i < p->count; i++) {
        const struct pugd_plain_event *e = &p->events[i];
        if (reserve(b, (size_t)e->event_id_length + e->event_length + 32)) return NULL;
        uint8_t *at = put_uint(b->bytes + b->length, e->project);
        at = put_text(at, e->event_id, e->event_id_length);
        at = put_uint(at, (uint64_t)e->original_at);
        at = put_text(at, e->event, e->event_length);
        b->length = (size_t)(at - b->bytes);
    }
    return array_of(b, 4 * (uint64_t)p->count, length);
}

const uint32_t *pugd_plain_changing(const struct pugd_plain *p, size_t from, size_t *count)
{
    size_t at = p->changes_count;
    while (at && p->changing[at - 1] >= from) at--;
    *count = p->changes_count - at;
    return *count ? p->changing + at : NULL;
}

const uint8_t *pugd_plain_told(struct pugd_plain *p, const uint32_t *events, size_t count, size_t *length)
{
    static const struct change nothing;
    struct buffer *b = &p->told;
    b->length = 0;
    if (reserve(b, 5)) return NULL;
    b->length = 5;
    for (size_t i = 0; i < count; i++) {
        const struct pugd_plain_event *e = &p->events[events[i]];
        const struct context *c = &p->contexts[e->known];
        const struct change *asks = e->change ? &p->changes[e->change - 1] : &nothing;
        size_t most = 128 + (size_t)e->event_id_length + e->user_length + e->anonymous_length + c->middle_length;
        for (int j = 0; j < PUGD_PLAIN_OPERATIONS_COUNT; j++) most += asks->length[j];
        if (reserve(b, most)) return NULL;
        uint8_t *at = b->bytes + b->length;
        *at++ = 0xdc;
        at = put_be(at, 11 + PUGD_PLAIN_OPERATIONS_COUNT, 2);
        at = put_uint(at, events[i]);
        at = put_uint(at, e->call);
        at = put_text(at, e->event_id, e->event_id_length);
        at = put_text(at, e->user, e->user_length);
        at = put_text(at, e->anonymous, e->anonymous_length);
        at = put_uint(at, (uint64_t)e->occurred_at);
        at = put_uint(at, (uint64_t)e->received_at);
        at = put_uint(at, (uint64_t)e->original_at);
        at = put_word(at, TIME_NOTES[e->time_note]);
        at = put_uint(at, asks->denied);
        for (int j = 0; j < PUGD_PLAIN_OPERATIONS_COUNT; j++) at = put_bytes(at, asks->at[j], asks->length[j]);
        at = put_bytes(at, c->bytes + c->length + c->agent_length, c->middle_length);
        b->length = (size_t)(at - b->bytes);
    }
    return array_of(b, count, length);
}

const uint8_t *pugd_plain_ids(struct pugd_plain *p, size_t *length)
{
    struct buffer *b = &p->ids;
    b->length = 0;
    if (reserve(b, 5)) return NULL;
    b->length = 5;
    for (size_t i = 0; i < p->count; i++) {
        const struct pugd_plain_event *e = &p->events[i];
        if (reserve(b, (size_t)e->user_length + e->anonymous_length + 32)) return NULL;
        uint8_t *at = put_uint(b->bytes + b->length, e->project);
        at = put_text(at, e->user, e->user_length);
        at = put_text(at, e->anonymous, e->anonymous_length);
        b->length = (size_t)(at - b->bytes);
    }
    return array_of(b, 3 * (uint64_t)p->count, length);
}

/* How long an event's row is at most. */
static size_t most_of(const struct pugd_plain *p, const struct pugd_plain_event *e)
{
    const struct context *c = &p->contexts[e->known];
    return 96 + (size_t)e->event_length + e->event_id_length + e->user_length + e->anonymous_length +
           e->properties_length + c->middle_length + c->start_length + e->place_length;
}

size_t pugd_plain_most(const struct pugd_plain *p)
{
    size_t most = 0;
    for (size_t i = 0; i < p->count; i++) most += most_of(p, &p->events[i]);
    return most;
}

static uint8_t *put_properties(uint8_t *at, const struct pugd_plain *p, const struct pugd_plain_event *e)
{
    const uint8_t *whole = e->written ? p->said.bytes + e->properties_at : e->properties;
    if (!e->cut_length) return put_bytes(at, whole, e->properties_length);
    uint32_t before = (uint32_t)(e->cut - whole), length = e->properties_length - e->cut_length;
    /* The head and the first part; the second goes over what is too much of it. */
    at = put_bytes(at, whole, length) - length;
    memcpy(at + before, e->cut + e->cut_length, length - before);
    return at + length;
}

const uint8_t *pugd_plain_rows(struct pugd_plain *p, const uint64_t *actors, const uint32_t *skip, size_t skip_count,
                               const uint32_t *old, size_t old_count, size_t *length)
{
    static const char *const calls[] = {"", "track", "page", "screen"};
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
        if (e->call > PUGD_PLAIN_SCREEN) continue;
        const struct context *c = &p->contexts[e->known];
        if (reserve(b, most_of(p, e))) return NULL;
        uint8_t *at = b->bytes + b->length;
        *at++ = 0xdc;
        at = put_be(at, p->fields, 2);
        while (olds < old_count && old[olds] < i) olds++;
        int is_old = olds < old_count && old[olds] == i;
        *at++ = is_old ? KIND_OLD_EVENT : KIND_EVENT;
        at = put_uint(at, e->project);
        at = put_uint(at, actors[i]);
        at = put_uint(at, (uint64_t)e->occurred_at);
        at = put_uint(at, (uint64_t)e->received_at);
        at = put_uint(at, (uint64_t)e->original_at);
        at = put_word(at, TIME_NOTES[e->time_note]);
        at = put_word(at, calls[e->call]);
        at = put_text(at, e->event, e->event_length);
        at = put_text(at, e->event_id, e->event_id_length);
        at = put_text(at, e->user, e->user_length);
        at = put_text(at, e->anonymous, e->anonymous_length);
        const uint8_t *told = c->bytes + c->length + c->agent_length;
        memcpy(at, told, c->middle_length);
        at += c->middle_length;
        at = put_properties(at, p, e);
        memcpy(at, told + c->middle_length, c->start_length);
        at += c->start_length;
        if (e->place_length) memcpy(at, e->place, e->place_length);
        at += e->place_length;
        b->length = (size_t)(at - b->bytes);
    }
    *length = b->length;
    return b->bytes;
}
