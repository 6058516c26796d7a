#include "seen.h"

#include "memory.h"
#include "msgpack.h"
#include "record.h"
#include "siphash.h"

#include <string.h>

#define TABLES_BITS 12
#define TABLES (1u << TABLES_BITS)
#define DAY_MS 86400000u
#define HORIZON 49152u            /* granules between now and the latest that is kept */
#define LAG_MAX (65534 - HORIZON) /* granules that base may lie behind now */
#define SWEEP_OF_GRANULE 2        /* tables walked for each granule of time: all of them in 2 048 granules */
#define SWEEP_OF_CALL 32          /* and at most for one call */
#define MARK_BITS TABLES_BITS     /* the mark stands where the table's number would */
#define ID_MASK (UINT64_MAX >> MARK_BITS)

struct table {
    uint64_t *hash; /* lines × 8, on a 64-byte boundary inside `memory`; the granules follow */
    void *memory;
    uint32_t lines;
    uint32_t used;
};

struct pugd_seen {
    struct pugd_key key;
    uint64_t window_ms, granule_ms, bytes_max, bytes;
    uint64_t now;       /* granule: never goes back */
    uint64_t floor;     /* granule: what is kept until before it is forgotten */
    uint64_t lost;      /* granule: of what is kept until it or before, some may be missing */
    uint64_t base;      /* granule: none stored is before it */
    uint64_t sweep_to;  /* base, once the walk under way has ended */
    uint64_t sweep_due; /* tables */
    uint32_t sweep_at;
    int began;
    uint64_t forgotten;
    struct table *table;
    struct held *held;
};

/* Ids stored of each granule, by its low 16 bits, and of each 256 granules. */
struct held {
    uint32_t one[65536];
    uint32_t many[256];
};

struct pugd_seen *pugd_seen_new(const uint8_t key[16], uint64_t window_ms, uint64_t bytes_max)
{
    struct pugd_seen *s = pugd_calloc(1, sizeof *s);
    if (!s) return NULL;
    s->key = pugd_key_read(key);
    s->window_ms = window_ms;
    s->granule_ms = (window_ms + DAY_MS) / (HORIZON - 1) + 1;
    s->bytes_max = bytes_max;
    s->table = pugd_calloc(TABLES, sizeof *s->table);
    s->held = pugd_calloc(1, sizeof *s->held);
    s->bytes = sizeof *s + TABLES * sizeof *s->table + sizeof *s->held;
    if (s->table && s->held) return s;
    pugd_free(s->table);
    pugd_free(s->held);
    pugd_free(s);
    return NULL;
}

void pugd_seen_free(struct pugd_seen *s)
{
    if (!s) return;
    for (uint32_t i = 0; i < TABLES; i++) pugd_free(s->table[i].memory);
    pugd_free(s->table);
    pugd_free(s->held);
    pugd_free(s);
}

static inline uint16_t *granules(const struct table *t) { return (uint16_t *)(t->hash + (size_t)t->lines * 8); }

static inline uint32_t home(const struct table *t, uint64_t h)
{
    return (uint32_t)((uint64_t)(uint32_t)(h >> (32 - TABLES_BITS)) * t->lines >> 32);
}

static inline uint64_t alive_from(const struct pugd_seen *s) { return s->now > s->floor ? s->now : s->floor; }

static inline uint64_t granule_of(const struct pugd_seen *s, uint16_t low)
{
    return s->base + (uint16_t)(low - (uint16_t)s->base);
}

static inline void hold(struct pugd_seen *s, uint16_t low, int change)
{
    s->held->one[low] += (uint32_t)change;
    s->held->many[low >> 8] += (uint32_t)change;
}

/* How many are stored of the granule, or of it and the 255 after it where those begin with it and end before `end`. */
static inline uint64_t held_from(const struct pugd_seen *s, uint64_t granule, uint64_t end, uint64_t *step)
{
    uint16_t low = (uint16_t)granule;
    *step = !(low & 255) && end - granule >= 256 ? 256 : 1;
    return *step == 1 ? s->held->one[low] : s->held->many[low >> 8];
}

/* How many are alive. */
static uint64_t alive(const struct pugd_seen *s)
{
    uint64_t all = 0, step;
    for (uint64_t g = alive_from(s), end = s->base + 65536; g < end; g += step) all += held_from(s, g, end, &step);
    return all;
}

static inline uint32_t line_used(const uint64_t *line)
{
    uint32_t n = 0;
    while (n < 8 && line[n]) n++;
    return n;
}

/* Into the first line from its home that has room; there is room. */
static void table_put(struct table *t, uint64_t h, uint16_t low)
{
    uint32_t at = home(t, h);
    while (t->hash[(size_t)at * 8 + 7])
        if (++at == t->lines) at = 0;
    size_t place = (size_t)at * 8 + line_used(&t->hash[(size_t)at * 8]);
    t->hash[place] = h;
    granules(t)[place] = low;
    t->used += 1;
}

static size_t table_bytes(uint32_t lines) { return lines ? (size_t)lines * 80 + 63 : 0; }

/* To another number of lines, which holds it. returns -1 where memory or the bound is short, and it is as it was. */
static int table_resize(struct pugd_seen *s, struct table *t, uint32_t lines)
{
    if (lines > t->lines && s->bytes - table_bytes(t->lines) + table_bytes(lines) > s->bytes_max) return -1;
    void *memory = pugd_calloc(1, table_bytes(lines));
    if (!memory) return -1;
    struct table fresh = {.memory = memory, .lines = lines};
    fresh.hash = (uint64_t *)(((uintptr_t)memory + 63) & ~(uintptr_t)63);
    for (size_t place = 0; place < (size_t)t->lines * 8; place++)
        if (t->hash[place]) table_put(&fresh, t->hash[place], granules(t)[place]);
    s->bytes += table_bytes(lines);
    s->bytes -= table_bytes(t->lines);
    pugd_free(t->memory);
    *t = fresh;
    return 0;
}

static inline void take(struct table *t, size_t line, uint32_t i)
{
    uint64_t *hash = &t->hash[line * 8];
    uint16_t *low = &granules(t)[line * 8];
    uint32_t last = line_used(hash) - 1;
    hash[i] = hash[last];
    low[i] = low[last];
    hash[last] = 0;
    t->used -= 1;
}

/* Take out what is kept until before `from`, and `extra` of what is kept until `from` itself, in place. Beginning
 * behind a line with room, nothing overflows into the first line; each id that was pushed out of its home moves back
 * as far as there is room now, so that every search still finds it. returns how many it took. */
static uint32_t table_purge(struct pugd_seen *s, struct table *t, uint64_t from, uint32_t extra)
{
    if (!t->used) return 0;
    uint32_t before = t->used, start = 0;
    while (t->hash[(size_t)start * 8 + 7]) start++; /* at most 7/8 are taken */
    uint32_t at = start;
    do {
        if (++at >= t->lines) at = 0;
        uint64_t *line = &t->hash[(size_t)at * 8];
        for (uint32_t i = 0; i < 8 && line[i];) {
            uint16_t low = granules(t)[(size_t)at * 8 + i];
            uint64_t granule = granule_of(s, low), h = line[i];
            if (granule < from || (granule == from && extra)) {
                extra -= granule == from;
                hold(s, low, -1);
                take(t, at, i);
                continue;
            }
            uint32_t to = home(t, h);
            while (to != at && t->hash[(size_t)to * 8 + 7])
                if (++to == t->lines) to = 0;
            if (to == at) {
                i++;
                continue;
            }
            take(t, at, i);
            table_put(t, h, low);
        }
    } while (at != start);
    return before - t->used;
}

/* Let a 32nd of all that is alive be past: those kept least long. returns 0 where one granule has most of them. */
static int raise_floor(struct pugd_seen *s)
{
    uint64_t to = alive_from(s), end = s->base + 65536, all = alive(s), gone = 0;
    while (to < end && gone <= all / 32) {
        uint64_t step, here = held_from(s, to, end, &step);
        if (step > 1 && gone + here > all / 32) {
            step = 1;
            here = s->held->one[(uint16_t)to];
        }
        if (gone + here > all / 2) break;
        gone += here;
        to += step;
    }
    if (!gone) return 0;
    s->floor = to;
    s->forgotten += gone;
    return 1;
}

/* An eighth of one table, those kept least long; of those kept equally long, any. */
static void table_forget(struct pugd_seen *s, struct table *t)
{
    uint64_t low = UINT64_MAX, high = 0;
    for (size_t place = 0; place < (size_t)t->lines * 8; place++) {
        if (!t->hash[place]) continue;
        uint64_t g = granule_of(s, granules(t)[place]);
        if (g < low) low = g;
        if (g > high) high = g;
    }
    uint32_t wanted = t->used / 8 + 1;
    while (low < high) { /* the granule below which fewer than `wanted` lie, and up to which enough do */
        uint64_t middle = low + (high - low) / 2;
        uint32_t count = 0;
        for (size_t place = 0; place < (size_t)t->lines * 8; place++)
            count += t->hash[place] && granule_of(s, granules(t)[place]) <= middle;
        if (count >= wanted)
            high = middle;
        else
            low = middle + 1;
    }
    uint32_t below = 0;
    for (size_t place = 0; place < (size_t)t->lines * 8; place++)
        below += t->hash[place] && granule_of(s, granules(t)[place]) < low;
    s->forgotten += table_purge(s, t, low, wanted - below);
    if (low > s->lost) s->lost = low;
}

/* Room for one more in a full table. returns 0 only where it has no lines and gets none. */
static int table_room(struct pugd_seen *s, struct table *t)
{
    table_purge(s, t, alive_from(s), 0);
    if (t->lines && t->used <= t->lines * 13 / 2) return 1; /* a sixteenth is free: worth the walk */
    if (!table_resize(s, t, t->lines + t->lines / 4 + 1)) return 1;
    if (!t->lines) return 0;
    while (t->used > t->lines * 13 / 2 && raise_floor(s)) table_purge(s, t, alive_from(s), 0);
    if (t->used > t->lines * 13 / 2) table_forget(s, t);
    return 1;
}

/* A place as it is stored: the id, without the number of its table, and its mark. */
static inline uint64_t marked(uint64_t h, uint16_t mark) { return (h & ID_MASK) | (uint64_t)mark << (64 - MARK_BITS); }

static inline uint16_t mark_in(uint64_t stored) { return (uint16_t)(stored >> (64 - MARK_BITS)); }

static inline void prefetch(const struct pugd_seen *s, uint64_t h)
{
    const struct table *t = &s->table[h >> (64 - TABLES_BITS)];
    if (!t->lines) return;
    size_t place = (size_t)home(t, h) * 8;
    __builtin_prefetch(&t->hash[place], 1);
    __builtin_prefetch(&granules(t)[place], 1);
}

enum { NOT_KEPT = -1, ADDED = 0, KNOWN = 1 };

/* returns KNOWN, and *before, its mark until now; ADDED where it is known from now on; NOT_KEPT: past, or forgotten at once.
 * A mark replaces none; where `learning`, what the journal says later of an id, any. */
static int add(struct pugd_seen *s, uint64_t h, uint16_t mark, uint64_t granule, int learning, uint16_t *before)
{
    struct table *t = &s->table[h >> (64 - TABLES_BITS)];
    uint16_t low = (uint16_t)granule;
    if (t->lines) {
        uint32_t at = home(t, h);
        for (;;) {
            uint64_t *line = &t->hash[(size_t)at * 8];
            for (uint32_t i = 0; i < 8; i++) {
                if ((line[i] ^ h) & ID_MASK) continue;
                uint16_t *kept = &granules(t)[(size_t)at * 8 + i];
                if (granule_of(s, *kept) >= alive_from(s)) {
                    *before = mark_in(line[i]);
                    if (mark && (learning || !*before)) line[i] = marked(h, mark);
                    return KNOWN;
                }
                if (granule < alive_from(s)) break;
                hold(s, *kept, -1);
                hold(s, low, 1);
                *kept = low;
                line[i] = marked(h, mark);
                return ADDED;
            }
            if (!line[7]) break;
            if (++at == t->lines) at = 0;
        }
    }
    if (granule < alive_from(s) || (t->used + 1 > t->lines * 7 && (!table_room(s, t) || granule < alive_from(s)))) {
        s->forgotten += granule >= s->now;
        if (granule > s->lost && granule >= s->now) s->lost = granule;
        return NOT_KEPT;
    }
    table_put(t, marked(h, mark), low);
    hold(s, low, 1);
    return ADDED;
}

static void sweep(struct pugd_seen *s, uint64_t tables)
{
    while (tables--) {
        if (s->sweep_at == 0) s->sweep_to = alive_from(s);
        struct table *t = &s->table[s->sweep_at];
        table_purge(s, t, alive_from(s), 0);
        if (t->lines > 8 && t->used < t->lines * 3) table_resize(s, t, t->lines / 2);
        if (++s->sweep_at == TABLES) {
            s->sweep_at = 0;
            s->base = s->sweep_to;
        }
    }
}

static void advance(struct pugd_seen *s, uint64_t now_ms)
{
    uint64_t now = now_ms / s->granule_ms;
    if (!s->began) {
        s->began = 1;
        s->now = s->base = s->sweep_to = now;
    }
    if (now > s->now) {
        s->sweep_due += (now - s->now) * SWEEP_OF_GRANULE;
        s->now = now;
    }
    if (s->sweep_due > TABLES) s->sweep_due = TABLES;
    if (s->now > s->base + LAG_MAX) { /* long idle: what is left of the walk under way, and a whole one */
        sweep(s, TABLES - s->sweep_at);
        if (s->now > s->base + LAG_MAX) sweep(s, TABLES);
        s->sweep_due = 0;
        return;
    }
    uint64_t tables = s->sweep_due < SWEEP_OF_CALL ? s->sweep_due : SWEEP_OF_CALL;
    sweep(s, tables);
    s->sweep_due -= tables;
}

/* From when on an event is kept for a window, that came at now_ms and says own_ms of itself. */
static uint64_t kept_from(uint64_t now_ms, int64_t own_ms)
{
    uint64_t ahead = now_ms + DAY_MS;
    if (own_ms <= 0 || (uint64_t)own_ms <= now_ms) return now_ms;
    return (uint64_t)own_ms < ahead ? (uint64_t)own_ms : ahead;
}

/* The granule until which what is kept from then on is known. */
static uint64_t kept_until(const struct pugd_seen *s, uint64_t from_ms)
{
    return (from_ms + s->window_ms + s->granule_ms - 1) / s->granule_ms;
}

/* Might an event with this time of its own have come before, and its id be forgotten? */
static int out_of_reach(const struct pugd_seen *s, uint64_t now_ms, int64_t own_ms)
{
    if (own_ms < 0) own_ms = 0;
    if ((uint64_t)own_ms > now_ms + DAY_MS) return 1;
    uint64_t until = kept_until(s, (uint64_t)own_ms);
    return until < alive_from(s) || until <= s->lost;
}

static uint64_t hash_of(struct pugd_key key, uint64_t project, const uint8_t *text, uint32_t length)
{
    uint64_t h = pugd_siphash_project(&key, (uint32_t)project, text, length);
    return h & ID_MASK ? h : h | 1; /* 0 is a free place */
}

/* Of an event's name and actor; never 0. */
static uint16_t mark_of(struct pugd_key key, uint64_t actor, const uint8_t *name, uint32_t length)
{
    key.k0 ^= actor;
    return (uint16_t)(1 + (pugd_siphash(&key, name, length) >> 32) * ((1u << MARK_BITS) - 1) / (UINT64_C(1) << 32));
}

#define BLOCK 32

int pugd_seen_add_many(struct pugd_seen *s, const uint8_t *packed, size_t length, uint32_t count,
                       const uint64_t *actors, uint64_t now_ms, struct pugd_seen_found *found)
{
    struct mp m = {packed, packed + length};
    uint32_t values;
    found->duplicates_count = found->reused_count = found->old_count = 0;
    if (mp_array(&m, &values) || values != 4 * (uint64_t)count) return -1;
    advance(s, now_ms);
    if (now_ms < s->now * s->granule_ms) now_ms = s->now * s->granule_ms; /* the clock went back: time here does not */
    for (uint32_t start = 0; start < count; start += BLOCK) {
        uint32_t n = count - start < BLOCK ? count - start : BLOCK;
        uint64_t hash[BLOCK], granule[BLOCK];
        int64_t said[BLOCK];
        uint16_t mark[BLOCK];
        for (uint32_t i = 0; i < n; i++) {
            uint64_t project, own;
            uint32_t bytes, name_bytes;
            const uint8_t *text, *name;
            int negative;
            if (mp_int(&m, &project, &negative) || negative || project > UINT32_MAX) return -1;
            if (mp_bytes(&m, &text, &bytes) || mp_int(&m, &own, &negative) || mp_bytes(&m, &name, &name_bytes)) return -1;
            if (!negative && own > INT64_MAX) own = INT64_MAX;
            hash[i] = bytes ? hash_of(s->key, project, text, bytes) : 0;
            said[i] = (int64_t)own;
            granule[i] = kept_until(s, kept_from(now_ms, said[i]));
            if (!bytes) continue;
            prefetch(s, hash[i]);
            mark[i] = mark_of(s->key, actors[start + i], name, name_bytes);
        }
        for (uint32_t i = 0; i < n; i++) {
            if (!hash[i]) continue;
            uint16_t before;
            /* Before it is added: what is forgotten to make room for it was known until now. */
            int far = out_of_reach(s, now_ms, said[i]);
            if (add(s, hash[i], mark[i], granule[i], 0, &before) == KNOWN) {
                found->duplicates[found->duplicates_count++] = start + i;
                if (before && before != mark[i]) found->reused[found->reused_count++] = start + i;
            } else if (far) {
                found->old[found->old_count++] = start + i;
            }
        }
    }
    return mp_left(&m) ? -1 : 0;
}

/* Where each kind of row (model.py) has its event id, its receipt, its own time, its actor and its name. */
static const struct {
    uint32_t event_id, received_at, original_at, actor, name;
} places[] = {
    [1] = {9, 4, 5, 2, 8},    /* EventRow */
    [2] = {7, 4, 5, 2, 0},    /* TraitRow: of an identify, or the event's row follows */
    [3] = {15, 12, 13, 4, 7}, /* LinkRow: its call, which is the name of an identify and of an alias */
    [4] = {0},                /* MergeRow */
    [5] = {9, 4, 5, 2, 8},    /* EventRow of an old event */
    [6] = {7, 4, 5, 2, 0},    /* TraitRow of an old event */
};
#define KINDS (sizeof places / sizeof *places)
enum { LINK_ROW = 3 };

struct row {
    const uint8_t *event_id, *name;
    uint32_t length, name_length;
    uint64_t kind, project, received, original, actor;
};

static int is(const struct row *row, const char *name)
{
    return row->name_length == strlen(name) && !memcmp(row->name, name, row->name_length);
}

/* What a row tells of its call's name and actor: as `mark_of` has it, 0 where it does not. */
static uint16_t mark_of_row(struct pugd_key key, const struct row *row)
{
    if (row->kind == LINK_ROW && !is(row, "identify") && !is(row, "alias")) return 0;
    if (!places[row->kind].name) return mark_of(key, row->actor, (const uint8_t *)"identify", 8);
    return mark_of(key, row->actor, row->name, row->name_length);
}

/* One row: the cursor moves past it. Its event_id is empty where it has none. returns -1 if damaged. */
static int read_row(struct mp *m, struct row *row)
{
    uint32_t fields;
    uint64_t kind, v;
    int negative;
    *row = (struct row){.name = (const uint8_t *)""};
    if (mp_array(m, &fields) || fields < 1 || mp_int(m, &kind, &negative)) return -1;
    int known = !negative && kind < KINDS && places[kind].event_id;
    if (known) row->kind = kind;
    for (uint32_t i = 1; i < fields; i++) {
        if (known && i == places[kind].event_id) {
            if (mp_bytes(m, &row->event_id, &row->length)) return -1;
        } else if (known && places[kind].name && i == places[kind].name) {
            if (mp_bytes(m, &row->name, &row->name_length)) return -1;
        } else if (known && i == places[kind].actor) {
            if (mp_int(m, &row->actor, &negative)) return -1;
        } else if (known && (i == 1 || i == places[kind].received_at || i == places[kind].original_at)) {
            if (mp_int(m, &v, &negative)) return -1;
            if (negative) v = 0;
            if (v > INT64_MAX) v = INT64_MAX;
            if (i == 1) row->project = v;
            if (i == places[kind].received_at) row->received = v;
            if (i == places[kind].original_at) row->original = v;
        } else if (mp_skip(m)) {
            return -1;
        }
    }
    return 0;
}

/* The rows of whole records, one after another. */
struct rows {
    const uint8_t *data;
    size_t length, at;
    uint64_t position;
    struct mp m;
    uint32_t left;
};

/* returns 1 and a row, 0 behind the last, -1 where the bytes are not whole records of rows */
static int next_row(struct rows *r, struct row *row)
{
    while (!r->left) {
        struct pugd_record record;
        if (mp_left(&r->m)) return -1;
        if (r->at == r->length) return 0;
        if (pugd_record_read(r->data + r->at, r->length - r->at, r->position + r->at, &record) != PUGD_RECORD_WHOLE)
            return -1;
        r->m = (struct mp){record.payload, record.payload + record.length};
        r->left = record.rows;
        r->at += PUGD_RECORD_HEADER + (size_t)record.length;
    }
    r->left -= 1;
    return read_row(&r->m, row) ? -1 : 1;
}

int64_t pugd_seen_add_records(struct pugd_seen *s, const uint8_t *data, size_t length, uint64_t position)
{
    struct rows rows = {.data = data, .length = length, .position = position};
    struct row row;
    int64_t added = 0;
    int one;
    while ((one = next_row(&rows, &row)) > 0) {
        if (!row.length) continue;
        advance(s, row.received);
        uint64_t until = kept_until(s, kept_from(row.received, (int64_t)row.original));
        uint16_t before;
        added += add(s, hash_of(s->key, row.project, row.event_id, row.length), mark_of_row(s->key, &row), until, 1,
                     &before) == ADDED;
    }
    return one < 0 ? -1 : added;
}

int64_t pugd_seen_digest(const uint8_t key[16], const uint8_t *data, size_t length, uint64_t position, uint8_t *out,
                         size_t room, uint64_t *first_ms, uint64_t *last_ms)
{
    struct pugd_key k = pugd_key_read(key);
    struct rows rows = {.data = data, .length = length, .position = position};
    struct row row;
    uint64_t last = 0;
    int64_t count = 0;
    int one;
    *first_ms = *last_ms = 0;
    while ((one = next_row(&rows, &row)) > 0) {
        if (row.received && (!*first_ms || row.received < *first_ms)) *first_ms = row.received;
        if (row.received > *last_ms) *last_ms = row.received;
        if (!row.length) continue;
        uint64_t h = hash_of(k, row.project, row.event_id, row.length);
        uint16_t mark = mark_of_row(k, &row);
        if (h == last) { /* the last row that tells is right: an event's own */
            if (mark && (size_t)count <= room) memcpy(out + (size_t)(count - 1) * PUGD_SEEN_ID_BYTES + 12, &mark, 2);
            continue;
        }
        last = h;
        if ((size_t)count < room) {
            uint64_t seconds = (kept_from(row.received, (int64_t)row.original) + 999) / 1000;
            uint32_t from = seconds < UINT32_MAX ? (uint32_t)seconds : UINT32_MAX;
            memcpy(out + (size_t)count * PUGD_SEEN_ID_BYTES, &h, 8);
            memcpy(out + (size_t)count * PUGD_SEEN_ID_BYTES + 8, &from, 4);
            memcpy(out + (size_t)count * PUGD_SEEN_ID_BYTES + 12, &mark, 2);
        }
        count += 1;
    }
    return one < 0 ? -1 : count;
}

int64_t pugd_seen_add_ids(struct pugd_seen *s, const uint8_t *ids, size_t count, uint64_t now_ms)
{
    int64_t added = 0;
    advance(s, now_ms);
    uint64_t most = kept_until(s, s->now * s->granule_ms + DAY_MS);
    for (size_t start = 0; start < count; start += BLOCK) {
        size_t n = count - start < BLOCK ? count - start : BLOCK;
        uint64_t hash[BLOCK];
        for (size_t i = 0; i < n; i++) {
            memcpy(&hash[i], ids + (start + i) * PUGD_SEEN_ID_BYTES, 8);
            hash[i] = hash[i] & ID_MASK ? hash[i] : hash[i] | 1;
            prefetch(s, hash[i]);
        }
        for (size_t i = 0; i < n; i++) {
            uint32_t from;
            uint16_t mark, before;
            memcpy(&from, ids + (start + i) * PUGD_SEEN_ID_BYTES + 8, 4);
            memcpy(&mark, ids + (start + i) * PUGD_SEEN_ID_BYTES + 12, 2);
            uint64_t until = kept_until(s, (uint64_t)from * 1000);
            mark &= (1u << MARK_BITS) - 1;
            added += add(s, hash[i], mark, until < most ? until : most, 1, &before) == ADDED;
        }
    }
    return added;
}

void pugd_seen_missing(struct pugd_seen *s, uint64_t from_ms)
{
    uint64_t until = kept_until(s, from_ms);
    if (until > s->lost) s->lost = until;
}

struct pugd_seen_numbers pugd_seen_statistics(const struct pugd_seen *s)
{
    return (struct pugd_seen_numbers){
        .ids = alive(s),
        .bytes = s->bytes,
        .forgotten = s->forgotten,
        .floor_ms = s->floor * s->granule_ms,
        .lost_ms = s->lost ? (s->lost + 1) * s->granule_ms : 0,
        .granule_ms = s->granule_ms,
    };
}
