#include "columns.h"
#include "memory.h"
#include "msgpack.h"
#include "record.h"

#include <string.h>

#define KINDS 128
#define TIME_MIN (-2208988800000ll) /* 1900-01-01 00:00:00.000, the first DateTime64 */
#define TIME_MAX 10413791999999ll   /* 2299-12-31 23:59:59.999, the last */
#define DAY_MS 86400000ll

/* ---- a growing buffer ---- */

struct buffer {
    uint8_t *data;
    size_t length, room;
};

static int buffer_grow(struct buffer *b, size_t more)
{
    if (more > SIZE_MAX / 4 || b->length > SIZE_MAX / 4) return -1;
    size_t room = b->room ? b->room : 1024;
    while (room < b->length + more) room *= 2;
    uint8_t *data = pugd_realloc(b->data, room);
    if (!data) return -1;
    b->data = data;
    b->room = room;
    return 0;
}

static inline int buffer_reserve(struct buffer *b, size_t more)
{
    return b->room - b->length >= more ? 0 : buffer_grow(b, more);
}

static inline void put_u64(struct buffer *b, uint64_t value)
{
    memcpy(b->data + b->length, &value, 8);
    b->length += 8;
}

static inline void put_varint(struct buffer *b, uint64_t value)
{
    while (value >= 0x80) {
        b->data[b->length++] = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    b->data[b->length++] = (uint8_t)value;
}

/* A varint takes at most 10 bytes. */
static inline int put_string(struct buffer *b, const uint8_t *text, size_t length)
{
    if (buffer_reserve(b, length + 10)) return -1;
    put_varint(b, length);
    if (length) memcpy(b->data + b->length, text, length);
    b->length += length;
    return 0;
}

/* ---- a block's dictionary: each distinct text once, in order of appearance ---- */

struct key {
    uint64_t hash;
    size_t at; /* of its bytes in `keys` */
    uint32_t length;
};

struct dictionary {
    struct buffer keys;    /* as they are sent */
    struct buffer entries; /* struct key each */
    uint32_t *slots;       /* entry number + 1; 0 is empty; at most half full */
    uint32_t mask, count, last;
};

static inline uint64_t mix(uint64_t a, uint64_t b)
{
    __uint128_t product = (__uint128_t)(a ^ 0x9e3779b97f4a7c15ull) * (b ^ 0xe7037ed1a0b428dbull);
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* In the manner of wyhash. Seeded by the epoch, which no sender knows, so nobody can choose texts that collide. */
static uint64_t hash_text(const uint8_t *text, uint32_t length, uint64_t seed)
{
    uint64_t hash = mix(seed, length), word = 0;
    uint32_t left = length;
    for (; left >= 8; left -= 8, text += 8) {
        memcpy(&word, text, 8);
        hash = mix(hash, word);
    }
    word = 0;
    if (left) memcpy(&word, text, left);
    return mix(hash ^ word, seed);
}

static int dictionary_grow(struct dictionary *d)
{
    uint32_t room = d->slots ? (d->mask + 1) * 2 : 32;
    if (!room) return -1;
    uint32_t *slots = pugd_calloc(room, sizeof *slots);
    if (!slots) return -1;
    const struct key *entries = (const struct key *)d->entries.data;
    for (uint32_t i = 0; i < d->count; i++) {
        uint32_t at = (uint32_t)entries[i].hash & (room - 1);
        while (slots[at]) at = (at + 1) & (room - 1);
        slots[at] = i + 1;
    }
    pugd_free(d->slots);
    d->slots = slots;
    d->mask = room - 1;
    return 0;
}

static inline int key_is(const struct dictionary *d, uint32_t entry, const uint8_t *text, uint32_t length)
{
    const struct key *k = (const struct key *)d->entries.data + entry;
    return k->length == length && (!length || !memcmp(d->keys.data + k->at, text, length));
}

/* *index gets the text's place. returns -1 without memory. */
static inline int dictionary_place(struct dictionary *d, const uint8_t *text, uint32_t length, uint64_t seed,
                                   uint32_t *index)
{
    if (d->count && key_is(d, d->last, text, length)) {
        *index = d->last;
        return 0;
    }
    if ((!d->slots || d->count >= (d->mask + 1) / 2) && dictionary_grow(d)) return -1;
    uint64_t hash = hash_text(text, length, seed);
    uint32_t at = (uint32_t)hash & d->mask;
    for (; d->slots[at]; at = (at + 1) & d->mask) {
        uint32_t entry = d->slots[at] - 1;
        if (((const struct key *)d->entries.data)[entry].hash == hash && key_is(d, entry, text, length)) {
            *index = d->last = entry;
            return 0;
        }
    }
    if (buffer_reserve(&d->entries, sizeof(struct key)) || put_string(&d->keys, text, length)) return -1;
    struct key *k = (struct key *)d->entries.data + d->count;
    k->hash = hash;
    k->at = d->keys.length - length;
    k->length = length;
    d->entries.length += sizeof *k;
    d->slots[at] = d->count + 1;
    *index = d->last = d->count++;
    return 0;
}

static void dictionary_free(struct dictionary *d)
{
    pugd_free(d->keys.data);
    pugd_free(d->entries.data);
    pugd_free(d->slots);
}

/* ---- tables ---- */

enum { CLASS_NONE, CLASS_INT, CLASS_FLOAT, CLASS_BYTES };

struct value {
    union {
        uint64_t number;
        double real;
        const uint8_t *text;
    };
    uint32_t length;
};

/* What a row's field must be so that every column it fills can hold it. */
struct field {
    uint8_t class;
    uint8_t negative; /* allowed */
    uint64_t max;     /* of an integer; for CLASS_INT without `time` */
    uint8_t time;
};

struct column {
    struct buffer data; /* fixed width, String, JSON: as sent. LowCardinality: u32 indices, narrowed at the end */
    struct dictionary dictionary;
};

struct table {
    struct pugd_table spec; /* a copy: closing needs its count when whoever gave it is gone */
    struct column *columns;
    uint32_t field_count;
    struct field fields[PUGD_FIELDS_MAX];
    size_t skip_at;
    uint32_t position_column;
    /* the open block */
    uint32_t rows, rows_room;
    uint64_t bytes;
    uint32_t month_count;
    int32_t months[PUGD_MONTHS_MAX];
    int64_t month_begin, month_end; /* of the last row's month, in ms */
};

struct put_by {
    const uint8_t *row;
    size_t length;
    uint64_t position;
};

struct owned {
    struct pugd_piece *pieces;
    uint8_t **buffers;
    size_t buffer_count;
};

struct pugd_columns {
    struct table *tables;
    uint32_t count;
    struct pugd_limits limits;
    uint8_t *collector;
    uint32_t collector_length;
    uint64_t epoch;
    struct buffer blocks; /* struct pugd_block each */
    struct buffer owned;  /* struct owned each, one a block */
    struct buffer faults; /* struct pugd_fault each */
    struct buffer put_by; /* struct put_by each: rows of months that the open block has no room for */
    struct table *of_kind[KINDS];
};

static size_t width(int32_t code)
{
    switch (code) {
    case PUGD_UINT8:
        return 1;
    case PUGD_UINT16:
        return 2;
    case PUGD_UINT32:
    case PUGD_LOW_CARDINALITY: /* an index */
        return 4;
    case PUGD_UINT64:
    case PUGD_INT64:
    case PUGD_FLOAT64:
    case PUGD_TIME:
        return 8;
    default:
        return 0;
    }
}

static int class_of(int32_t code)
{
    if (code >= PUGD_UINT8 && code <= PUGD_INT64) return CLASS_INT;
    if (code == PUGD_TIME) return CLASS_INT;
    if (code == PUGD_FLOAT64) return CLASS_FLOAT;
    if (code >= PUGD_STRING && code <= PUGD_JSON) return CLASS_BYTES;
    return CLASS_NONE;
}

static const char *plan_column(struct table *t, const struct pugd_column *column, uint32_t index)
{
    int class = class_of(column->code);
    if (class == CLASS_NONE) return "unknown type code";
    if (column->source == PUGD_SOURCE_POSITION) {
        if (column->code != PUGD_UINT64) return "position must fill a UInt64";
        t->position_column = index;
        return NULL;
    }
    if (column->source == PUGD_SOURCE_EPOCH) return column->code == PUGD_UINT64 ? NULL : "epoch must fill a UInt64";
    if (column->source == PUGD_SOURCE_COLLECTOR)
        return column->code == PUGD_STRING || column->code == PUGD_LOW_CARDINALITY ? NULL : "collector must fill a text";
    if (column->source < 0 || column->source >= PUGD_FIELDS_MAX) return "unknown source";
    if (column->source == 0 && class != CLASS_INT) return "the kind is an integer";
    struct field *f = &t->fields[column->source];
    if (f->class == CLASS_NONE) {
        f->class = (uint8_t)class;
        f->negative = 1;
        f->max = UINT64_MAX;
    } else if (f->class != class) {
        return "a field fills columns of unlike types";
    }
    uint64_t max = UINT64_MAX;
    switch (column->code) {
    case PUGD_UINT8:
        max = UINT8_MAX;
        f->negative = 0;
        break;
    case PUGD_UINT16:
        max = UINT16_MAX;
        f->negative = 0;
        break;
    case PUGD_UINT32:
        max = UINT32_MAX;
        f->negative = 0;
        break;
    case PUGD_UINT64:
        f->negative = 0;
        break;
    case PUGD_INT64:
        max = INT64_MAX;
        break;
    case PUGD_TIME:
        max = INT64_MAX;
        f->time = 1;
        break;
    default:
        break;
    }
    if (max < f->max) f->max = max;
    if ((uint32_t)column->source + 1 > t->field_count) t->field_count = (uint32_t)column->source + 1;
    return NULL;
}

static const char *plan_table(struct pugd_columns *c, struct table *t)
{
    const struct pugd_table *spec = &t->spec;
    const char *why;
    t->position_column = UINT32_MAX;
    t->field_count = 1; /* the kind */
    for (uint32_t i = 0; i < spec->count; i++)
        if ((why = plan_column(t, &spec->columns[i], i))) return why;
    if (t->position_column == UINT32_MAX) return "a table needs its position";
    if (spec->month >= 0 && ((uint32_t)spec->month >= spec->count || spec->columns[spec->month].code != PUGD_TIME ||
                             spec->columns[spec->month].source < 0))
        return "the month must be of a time in the row";
    if (spec->kind >= KINDS || c->of_kind[spec->kind]) return "kinds must differ and be below 128";
    c->of_kind[spec->kind] = t;
    return NULL;
}

struct pugd_columns *pugd_columns_open(const struct pugd_table *tables, uint32_t count, const uint8_t *collector,
                                       uint32_t collector_length, uint64_t epoch, const struct pugd_limits *limits,
                                       const char **why)
{
    *why = NULL;
    struct pugd_columns *c = pugd_calloc(1, sizeof *c);
    if (!c) return NULL;
    c->epoch = epoch;
    c->limits = *limits;
    if (!c->limits.rows_max || c->limits.rows_max > PUGD_ROWS_MAX || !c->limits.months_max || c->limits.months_max > PUGD_MONTHS_MAX) {
        *why = "limits out of bounds";
        goto failed;
    }
    c->tables = pugd_calloc(count ? count : 1, sizeof *c->tables);
    c->collector = pugd_malloc(collector_length ? collector_length : 1);
    if (!c->tables || !c->collector) goto failed;
    if (collector_length) memcpy(c->collector, collector, collector_length);
    c->collector_length = collector_length;
    for (uint32_t i = 0; i < count; i++) {
        struct table *t = &c->tables[i];
        t->spec = tables[i];
        t->columns = pugd_calloc(tables[i].count ? tables[i].count : 1, sizeof *t->columns);
        c->count = i + 1; /* so that close frees it */
        if (!t->columns) goto failed;
        if ((*why = plan_table(c, t))) goto failed;
    }
    return c;
failed:
    pugd_columns_close(c);
    return NULL;
}

static void columns_free(struct table *t)
{
    if (!t->columns) return;
    for (uint32_t i = 0; i < t->spec.count; i++) {
        pugd_free(t->columns[i].data.data);
        dictionary_free(&t->columns[i].dictionary);
    }
    memset(t->columns, 0, t->spec.count * sizeof *t->columns);
}

static void owned_free(struct owned *o)
{
    for (size_t i = 0; i < o->buffer_count; i++) pugd_free(o->buffers[i]);
    pugd_free(o->buffers);
    pugd_free(o->pieces);
}

void pugd_columns_close(struct pugd_columns *c)
{
    if (!c) return;
    for (uint32_t i = 0; i < c->count; i++) {
        columns_free(&c->tables[i]);
        pugd_free(c->tables[i].columns);
    }
    struct owned *owned = (struct owned *)c->owned.data;
    for (size_t i = 0; i < c->owned.length / sizeof *owned; i++) owned_free(&owned[i]);
    pugd_free(c->owned.data);
    pugd_free(c->blocks.data);
    pugd_free(c->faults.data);
    pugd_free(c->put_by.data);
    pugd_free(c->collector);
    pugd_free(c->tables);
    pugd_free(c);
}

/* ---- the end of a block: buffers become pieces ---- */

/* Indices of a width that the number of keys needs. Narrowing goes front to back, so it may be done in place. */
static uint32_t narrow(struct buffer *indices, uint32_t rows, uint32_t keys)
{
    uint8_t *to = indices->data;
    uint32_t value;
    if (keys <= 256) {
        for (uint32_t i = 0; i < rows; i++) {
            memcpy(&value, indices->data + 4 * (size_t)i, 4);
            to[i] = (uint8_t)value;
        }
        indices->length = rows;
        return 0;
    }
    if (keys <= 65536) {
        for (uint32_t i = 0; i < rows; i++) {
            memcpy(&value, indices->data + 4 * (size_t)i, 4);
            uint16_t narrowed = (uint16_t)value;
            memcpy(to + 2 * (size_t)i, &narrowed, 2);
        }
        indices->length = 2 * (size_t)rows;
        return 1;
    }
    return 2;
}

/* Constants are filled in only now: the rows of a block share collector and epoch. */
static int fill_constant(struct pugd_columns *c, const struct pugd_column *spec, struct column *column, uint32_t rows)
{
    if (spec->source == PUGD_SOURCE_EPOCH) {
        if (buffer_reserve(&column->data, 8 * (size_t)rows)) return -1;
        for (uint32_t i = 0; i < rows; i++) put_u64(&column->data, c->epoch);
    } else if (spec->source == PUGD_SOURCE_COLLECTOR && spec->code == PUGD_STRING) {
        for (uint32_t i = 0; i < rows; i++)
            if (put_string(&column->data, c->collector, c->collector_length)) return -1;
    } else if (spec->source == PUGD_SOURCE_COLLECTOR) {
        uint32_t index;
        if (dictionary_place(&column->dictionary, c->collector, c->collector_length, c->epoch, &index)) return -1;
        if (buffer_reserve(&column->data, 4 * (size_t)rows)) return -1;
        memset(column->data.data, 0, 4 * (size_t)rows);
        column->data.length = 4 * (size_t)rows;
    }
    return 0;
}

static int finish_block(struct pugd_columns *c, struct table *t)
{
    if (!t->rows) return 0;
    const struct pugd_table *spec = &t->spec;
    struct buffer heads = {0};
    struct owned o = {0};
    size_t pieces = 0, at = 0;
    uint64_t bytes = 0;
    /* Enough for every column's head (and one a LowCardinality's rows), data and keys. */
    o.pieces = pugd_malloc((4 * (size_t)spec->count + 1) * sizeof *o.pieces);
    o.buffers = pugd_malloc((2 * (size_t)spec->count + 1) * sizeof *o.buffers);
    if (!o.pieces || !o.buffers) goto failed;
    if (buffer_reserve(&c->blocks, sizeof(struct pugd_block)) || buffer_reserve(&c->owned, sizeof o)) goto failed;
    if (buffer_reserve(&heads, 20)) goto failed;
    put_varint(&heads, spec->count);
    put_varint(&heads, t->rows);
    /* Heads share one buffer that may still move: a head is a piece without an address until all are written. */
    for (uint32_t i = 0; i < spec->count; i++) {
        const struct pugd_column *s = &spec->columns[i];
        struct column *column = &t->columns[i];
        if (s->source < 0 && fill_constant(c, s, column, t->rows)) goto failed;
        if (put_string(&heads, (const uint8_t *)s->name, strlen(s->name))) goto failed;
        if (put_string(&heads, (const uint8_t *)s->type, strlen(s->type))) goto failed;
        if (buffer_reserve(&heads, 40)) goto failed;
        if (s->code == PUGD_JSON) put_u64(&heads, 1);
        if (s->code == PUGD_LOW_CARDINALITY) {
            put_u64(&heads, 1);
            put_u64(&heads, narrow(&column->data, t->rows, column->dictionary.count) | 0x600);
            put_u64(&heads, column->dictionary.count);
            o.pieces[pieces++] = (struct pugd_piece){NULL, heads.length - at};
            at = heads.length;
            o.pieces[pieces++] = (struct pugd_piece){column->dictionary.keys.data, column->dictionary.keys.length};
            put_u64(&heads, t->rows);
        }
        o.pieces[pieces++] = (struct pugd_piece){NULL, heads.length - at};
        at = heads.length;
        o.pieces[pieces++] = (struct pugd_piece){column->data.data, column->data.length};
    }
    at = 0;
    for (size_t i = 0; i < pieces; i++) {
        bytes += o.pieces[i].length;
        if (o.pieces[i].data) continue;
        o.pieces[i].data = heads.data + at;
        at += o.pieces[i].length;
    }
    struct pugd_block block = {
        .table = (uint32_t)(t - c->tables),
        .rows = t->rows,
        .bytes = bytes,
        .positions = (const uint64_t *)t->columns[t->position_column].data.data,
        .pieces = o.pieces,
        .piece_count = pieces,
    };
    /* From here on nothing fails: the buffers change hands. */
    o.buffers[o.buffer_count++] = heads.data;
    for (uint32_t i = 0; i < spec->count; i++) {
        struct column *column = &t->columns[i];
        o.buffers[o.buffer_count++] = column->data.data;
        o.buffers[o.buffer_count++] = column->dictionary.keys.data;
        column->dictionary.keys.data = NULL;
        dictionary_free(&column->dictionary);
    }
    memset(t->columns, 0, spec->count * sizeof *t->columns);
    memcpy(c->blocks.data + c->blocks.length, &block, sizeof block);
    c->blocks.length += sizeof block;
    memcpy(c->owned.data + c->owned.length, &o, sizeof o);
    c->owned.length += sizeof o;
    t->rows = t->rows_room = t->month_count = 0;
    t->bytes = 0;
    t->month_begin = t->month_end = 0;
    return 0;
failed:
    pugd_free(heads.data);
    pugd_free(o.pieces);
    pugd_free(o.buffers);
    return -1;
}

/* ---- rows ---- */

/* Months since year 0, and the bounds of that month in ms. Source: Howard Hinnant, "chrono-compatible low-level date
 * algorithms": days_from_civil, civil_from_days. */
static int64_t days_from_civil(int64_t year, int64_t month)
{
    year -= month <= 2;
    int64_t era = (year >= 0 ? year : year - 399) / 400;
    int64_t year_of_era = year - era * 400;
    int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5;
    return era * 146097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719468;
}

static int32_t month_of(int64_t ms, int64_t *begin, int64_t *end)
{
    int64_t days = ms / DAY_MS - (ms % DAY_MS < 0);
    int64_t z = days + 719468;
    int64_t era = (z >= 0 ? z : z - 146096) / 146097;
    int64_t day_of_era = z - era * 146097;
    int64_t year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int64_t shifted = (5 * day_of_year + 2) / 153;
    int64_t month = shifted < 10 ? shifted + 3 : shifted - 9;
    int64_t year = year_of_era + era * 400 + (month <= 2);
    *begin = days_from_civil(year, month) * DAY_MS;
    *end = days_from_civil(month == 12 ? year + 1 : year, month == 12 ? 1 : month + 1) * DAY_MS;
    return (int32_t)(year * 12 + month - 1);
}

/* Notes the row's month. returns 1 where it is one too many for the open block. */
static int month_is_too_many(const struct pugd_columns *c, struct table *t, int64_t ms)
{
    if (ms >= t->month_begin && ms < t->month_end) return 0;
    int64_t begin, end;
    int32_t month = month_of(ms, &begin, &end);
    uint32_t i = 0;
    while (i < t->month_count && t->months[i] != month) i++;
    if (i == t->month_count) {
        if (t->month_count == c->limits.months_max) return 1;
        t->months[t->month_count++] = month;
    }
    t->month_begin = begin;
    t->month_end = end;
    return 0;
}

static int note_fault(struct pugd_columns *c, uint64_t position, uint64_t length, uint32_t kind, int reason, int field)
{
    struct pugd_fault fault = {position, length, kind, reason, field};
    if (buffer_reserve(&c->faults, sizeof fault)) return -1;
    memcpy(c->faults.data + c->faults.length, &fault, sizeof fault);
    c->faults.length += sizeof fault;
    return 0;
}

/* Read fields 1 to count - 1. returns 0, or why not; *wrong is then the field's index. */
static int read_fields(const struct table *t, struct mp *m, uint32_t count, struct value *values, int *wrong)
{
    uint32_t known = count < t->field_count ? count : t->field_count;
    for (uint32_t i = 1; i < known; i++) {
        const struct field *f = &t->fields[i];
        struct value *v = &values[i];
        int negative;
        *wrong = (int)i;
        switch (f->class) {
        case CLASS_BYTES:
            if (mp_bytes(m, &v->text, &v->length)) return PUGD_FAULT_TYPE;
            break;
        case CLASS_INT:
            if (mp_left(m) >= 1 && (m->at[0] & 0xfe) == 0xc2) { /* a boolean */
                v->number = m->at[0] & 1;
                m->at += 1;
            } else if (mp_int(m, &v->number, &negative)) {
                return PUGD_FAULT_TYPE;
            } else if (negative) {
                if (!f->negative) return PUGD_FAULT_RANGE;
            } else if (v->number > f->max) {
                return PUGD_FAULT_RANGE;
            }
            if (f->time && ((int64_t)v->number < TIME_MIN || (int64_t)v->number > TIME_MAX)) return PUGD_FAULT_RANGE;
            break;
        case CLASS_FLOAT:
            if (mp_float(m, &v->real)) {
                uint64_t number;
                if (mp_int(m, &number, &negative)) return PUGD_FAULT_TYPE;
                v->real = negative ? (double)(int64_t)number : (double)number;
            }
            break;
        default:
            if (mp_skip(m)) return PUGD_FAULT_DAMAGED;
        }
    }
    for (uint32_t i = known; i < t->field_count; i++) {
        values[i].length = 0; /* the default of every type */
        if (t->fields[i].class == CLASS_BYTES)
            values[i].text = NULL;
        else if (t->fields[i].class == CLASS_FLOAT)
            values[i].real = 0;
        else
            values[i].number = 0;
    }
    *wrong = -1;
    for (uint32_t i = known; i < count; i++)
        if (mp_skip(m)) return PUGD_FAULT_DAMAGED;
    return 0;
}

static int reserve_rows(struct table *t)
{
    uint32_t room = t->rows_room ? t->rows_room * 2 : 256;
    for (uint32_t i = 0; i < t->spec.count; i++) {
        size_t bytes = width(t->spec.columns[i].code) * (size_t)room;
        struct buffer *b = &t->columns[i].data;
        if (bytes > b->length && buffer_reserve(b, bytes - b->length)) return -1;
    }
    t->rows_room = room;
    return 0;
}

static int append_row(struct pugd_columns *c, struct table *t, const struct value *values, uint64_t position)
{
    if (t->rows == t->rows_room && reserve_rows(t)) return -1;
    const struct pugd_column *spec = t->spec.columns;
    for (uint32_t i = 0; i < t->spec.count; i++) {
        struct buffer *b = &t->columns[i].data;
        if (spec[i].source < 0) {
            if (spec[i].source == PUGD_SOURCE_POSITION) put_u64(b, position);
            continue;
        }
        const struct value *v = &values[spec[i].source];
        uint32_t index;
        switch (spec[i].code) {
        case PUGD_STRING:
            if (put_string(b, v->text, v->length)) return -1;
            break;
        case PUGD_JSON:
            if (v->length ? put_string(b, v->text, v->length) : put_string(b, (const uint8_t *)"{}", 2)) return -1;
            break;
        case PUGD_LOW_CARDINALITY:
            if (dictionary_place(&t->columns[i].dictionary, v->text, v->length, c->epoch, &index)) return -1;
            memcpy(b->data + b->length, &index, 4);
            b->length += 4;
            break;
        case PUGD_UINT8:
            b->data[b->length++] = (uint8_t)v->number;
            break;
        case PUGD_UINT16: {
            uint16_t number = (uint16_t)v->number;
            memcpy(b->data + b->length, &number, 2);
            b->length += 2;
            break;
        }
        case PUGD_UINT32: {
            uint32_t number = (uint32_t)v->number;
            memcpy(b->data + b->length, &number, 4);
            b->length += 4;
            break;
        }
        case PUGD_FLOAT64:
            memcpy(b->data + b->length, &v->real, 8);
            b->length += 8;
            break;
        default:
            put_u64(b, v->number);
        }
    }
    t->rows += 1;
    return 0;
}

static int is_skipped(struct table *t, uint64_t position)
{
    const uint64_t *skip = t->spec.skip;
    while (t->skip_at < t->spec.skip_count && skip[t->skip_at] < position) t->skip_at += 1;
    return t->skip_at < t->spec.skip_count && skip[t->skip_at] == position;
}

/* The rows of one record. returns 0, or -1 without memory. */
static int add_rows(struct pugd_columns *c, const uint8_t *payload, size_t length, uint64_t position)
{
    struct mp m = {payload, payload + length};
    struct value values[PUGD_FIELDS_MAX];
    while (m.at < m.end) {
        const uint8_t *begin = m.at;
        uint64_t here = position + (uint64_t)(begin - payload), kind = 0;
        uint32_t count;
        int negative, wrong = -1, why = 0;
        struct table *t = NULL;
        struct mp rest = m;
        int taken = here >= c->limits.from && here < c->limits.until;
        if (mp_array(&m, &count)) {
            why = PUGD_FAULT_DAMAGED;
        } else if (count < 1 || mp_int(&m, &kind, &negative)) {
            why = PUGD_FAULT_TYPE;
            wrong = 0;
            kind = 0;
        } else if (negative || kind >= KINDS || !(t = c->of_kind[kind])) {
            why = PUGD_FAULT_KIND;
            if (negative || kind > UINT32_MAX) kind = 0;
        } else if (taken && !is_skipped(t, here)) {
            values[0].number = kind;
            why = read_fields(t, &m, count, values, &wrong);
        } else {
            taken = 0;
        }
        if (why || !taken) {
            /* Past the row from its first byte; where that cannot be done, nothing after it can be found. */
            int lost = mp_skip(&rest);
            size_t span = lost ? (size_t)(m.end - begin) : (size_t)(rest.at - begin);
            m.at = begin + span;
            if (lost) why = PUGD_FAULT_DAMAGED;
            if (why && here >= c->limits.from && here < c->limits.until &&
                note_fault(c, here, span, (uint32_t)kind, why, lost ? -1 : wrong))
                return -1;
            continue;
        }
        uint64_t bytes = (uint64_t)(m.at - begin);
        int64_t ms = t->spec.month >= 0 ? (int64_t)values[t->spec.columns[t->spec.month].source].number : 0;
        if (t->rows && (t->rows == c->limits.rows_max || t->bytes + bytes > c->limits.bytes_max) && finish_block(c, t))
            return -1;
        if (t->spec.month >= 0 && month_is_too_many(c, t, ms)) {
            struct put_by row = {begin, (size_t)bytes, here};
            if (buffer_reserve(&c->put_by, sizeof row)) return -1;
            memcpy(c->put_by.data + c->put_by.length, &row, sizeof row);
            c->put_by.length += sizeof row;
            continue;
        }
        if (append_row(c, t, values, here)) return -1;
        t->bytes += bytes;
    }
    return 0;
}

/* The rows put by, each time as many months of them as a block may have. */
static int add_put_by(struct pugd_columns *c)
{
    while (c->put_by.length) {
        struct buffer rows = c->put_by;
        c->put_by = (struct buffer){0};
        int failed = 0;
        for (uint32_t i = 0; i < c->count && !failed; i++) {
            c->tables[i].skip_at = 0; /* positions begin anew */
            failed = c->tables[i].spec.month >= 0 && finish_block(c, &c->tables[i]);
        }
        for (size_t at = 0; at < rows.length && !failed; at += sizeof(struct put_by)) {
            struct put_by row;
            memcpy(&row, rows.data + at, sizeof row);
            failed = add_rows(c, row.row, row.length, row.position);
        }
        pugd_free(rows.data);
        if (failed) return -1;
    }
    return 0;
}

int pugd_columns_add(struct pugd_columns *c, const uint8_t *data, size_t length, uint64_t position)
{
    size_t at = 0;
    while (at < length) {
        uint32_t payload;
        if (length - at < PUGD_RECORD_HEADER) return -2;
        memcpy(&payload, data + at, 4);
        if (!payload || payload > PUGD_RECORD_LENGTH_MAX || payload > length - at - PUGD_RECORD_HEADER) return -2;
        if (data[at + 8] != PUGD_RECORD_ROWS) return -2;
        if (add_rows(c, data + at + PUGD_RECORD_HEADER, payload, position + at + PUGD_RECORD_HEADER)) return -1;
        at += PUGD_RECORD_HEADER + (size_t)payload;
    }
    return add_put_by(c);
}

int pugd_columns_finish(struct pugd_columns *c)
{
    for (uint32_t i = 0; i < c->count; i++)
        if (finish_block(c, &c->tables[i])) return -1;
    return 0;
}

const struct pugd_block *pugd_columns_blocks(const struct pugd_columns *c, size_t *count)
{
    *count = c->blocks.length / sizeof(struct pugd_block);
    return (const struct pugd_block *)c->blocks.data;
}

const struct pugd_fault *pugd_columns_faults(const struct pugd_columns *c, size_t *count)
{
    *count = c->faults.length / sizeof(struct pugd_fault);
    return (const struct pugd_fault *)c->faults.data;
}

size_t pugd_row_length(const uint8_t *data, size_t length)
{
    struct mp m = {data, data + length};
    return mp_skip(&m) ? 0 : (size_t)(m.at - data);
}
