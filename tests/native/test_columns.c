// sources: columns.c record.c
// define: PUGD_TEST_MEMORY
/* The encoder under sanitizers: rows of every shape, cut, flipped and random, with memory that fails at any allocation.
 * A block that comes out must read back as a Native block with the number of rows it says; every position once. */
#include "columns.h"
#include "failing_memory.h"
#include "record.h"

#include <stdio.h>
#include <string.h>

#define CHECK(what)                                                        \
    do {                                                                   \
        if (!(what)) {                                                     \
            printf("line %d, round %ld: %s\n", __LINE__, round_now, #what); \
            exit(1);                                                       \
        }                                                                  \
    } while (0)

static long round_now;
static uint64_t seed = 88172645463325252ull;

static uint64_t draw(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

static uint32_t below(uint32_t n) { return (uint32_t)(draw() % n); }

/* ---- writing MessagePack ---- */

static uint8_t journal[1 << 20];
static size_t journal_length;

static void byte(uint8_t b) { journal[journal_length++] = b; }

static void big(uint64_t value, int bytes)
{
    while (bytes--) byte((uint8_t)(value >> (8 * bytes)));
}

static void number(uint64_t value)
{
    switch (below(3)) {
    case 0:
        if (value < 128) {
            byte((uint8_t)value);
            return;
        }
        /* fall through */
    case 1:
        byte(0xcf);
        big(value, 8);
        return;
    default:
        byte(0xd3);
        big(value, 8);
    }
}

static void text(uint32_t length)
{
    if (length < 32) {
        byte((uint8_t)(0xa0 | length));
    } else if (length < 256) {
        byte(below(2) ? 0xd9 : 0xc4);
        big(length, 1);
    } else {
        byte(below(2) ? 0xda : 0xc5);
        big(length, 2);
    }
    for (uint32_t i = 0; i < length; i++) byte((uint8_t)('a' + below(3)));
}

static const struct pugd_column every[] = {
    {"u8", "UInt8", PUGD_UINT8, 1},
    {"u16", "UInt16", PUGD_UINT16, 2},
    {"u32", "UInt32", PUGD_UINT32, 3},
    {"u64", "UInt64", PUGD_UINT64, 4},
    {"i64", "Int64", PUGD_INT64, 5},
    {"f64", "Float64", PUGD_FLOAT64, 6},
    {"time", "DateTime64(3, 'UTC')", PUGD_TIME, 7},
    {"text", "String", PUGD_STRING, 8},
    {"low", "LowCardinality(String)", PUGD_LOW_CARDINALITY, 9},
    {"json", "JSON", PUGD_JSON, 11},
    {"json_text", "String", PUGD_STRING, 11},
    {"collector", "LowCardinality(String)", PUGD_LOW_CARDINALITY, PUGD_SOURCE_COLLECTOR},
    {"collector_text", "String", PUGD_STRING, PUGD_SOURCE_COLLECTOR},
    {"epoch", "UInt64", PUGD_UINT64, PUGD_SOURCE_EPOCH},
    {"position", "UInt64", PUGD_UINT64, PUGD_SOURCE_POSITION},
};
static const struct pugd_column small[] = {
    {"low", "LowCardinality(String)", PUGD_LOW_CARDINALITY, 1},
    {"position", "UInt64", PUGD_UINT64, PUGD_SOURCE_POSITION},
};
static uint64_t skip[64];
static struct pugd_table tables[] = {
    {1, sizeof every / sizeof *every, every, 6, NULL, 0},
    {2, sizeof small / sizeof *small, small, -1, skip, 0},
};

static void row(void)
{
    if (below(3) == 0) {
        byte(0x92);
        byte(2);
        text(below(4) ? below(6) : below(600));
        return;
    }
    uint32_t fields = 1 + below(14);
    byte((uint8_t)(0x90 | fields));
    byte(below(40) ? 1 : (uint8_t)below(128));
    for (uint32_t i = 1; i < fields; i++) {
        if (!below(60)) {
            byte(0xc0);
        } else if (i == 6) {
            byte(0xcb);
            big(draw(), 8);
        } else if (i == 7) {
            number(draw() % 5000000000000ull);
        } else if (i < 8) {
            number(draw() % 300);
        } else {
            text(below(6) ? below(20) : below(400));
        }
    }
}

static void records(void)
{
    journal_length = 0;
    for (uint32_t n = below(6); n; n--) {
        size_t head = journal_length;
        for (int i = 0; i < PUGD_RECORD_HEADER; i++) byte(0);
        for (uint32_t rows = 1 + below(30); rows; rows--) row();
        uint32_t payload = (uint32_t)(journal_length - head - PUGD_RECORD_HEADER);
        memcpy(journal + head, &payload, 4);
        journal[head + 8] = PUGD_RECORD_ROWS;
    }
}

/* ---- reading a block back ---- */

static const uint8_t *at, *end;

static uint64_t varint(void)
{
    uint64_t value = 0;
    for (int shift = 0;; shift += 7) {
        CHECK(at < end && shift < 64);
        value |= (uint64_t)(*at & 0x7f) << shift;
        if (!(*at++ & 0x80)) return value;
    }
}

static void pass(uint64_t bytes)
{
    CHECK(bytes <= (uint64_t)(end - at));
    at += bytes;
}

static uint64_t word(void)
{
    uint64_t value;
    CHECK(end - at >= 8);
    memcpy(&value, at, 8);
    at += 8;
    return value;
}

static void read_column(const struct pugd_column *c, uint64_t rows)
{
    uint64_t keys, index;
    uint64_t length = varint();
    CHECK(length == strlen(c->name) && !memcmp(at, c->name, length));
    pass(length);
    length = varint();
    CHECK(length == strlen(c->type) && !memcmp(at, c->type, length));
    pass(length);
    switch (c->code) {
    case PUGD_UINT8:
        pass(rows);
        break;
    case PUGD_UINT16:
        pass(2 * rows);
        break;
    case PUGD_UINT32:
        pass(4 * rows);
        break;
    case PUGD_JSON:
        CHECK(word() == 1);
        /* fall through */
    case PUGD_STRING:
        for (uint64_t i = 0; i < rows; i++) pass(varint());
        break;
    case PUGD_LOW_CARDINALITY:
        CHECK(word() == 1);
        index = word();
        CHECK((index & ~3ull) == 0x600);
        keys = word();
        CHECK(keys && keys <= rows);
        for (uint64_t i = 0; i < keys; i++) pass(varint());
        CHECK(word() == rows);
        for (uint64_t i = 0; i < rows; i++) {
            uint64_t value = 0;
            size_t bytes = (size_t)1 << (index & 3);
            CHECK((size_t)(end - at) >= bytes);
            memcpy(&value, at, bytes);
            CHECK(value < keys);
            at += bytes;
        }
        break;
    default:
        pass(8 * rows);
    }
}

static void read_block(const struct pugd_block *block, const struct pugd_limits *limits)
{
    static uint8_t joined[16 << 20];
    size_t length = 0;
    for (size_t i = 0; i < block->piece_count; i++) {
        CHECK(length + block->pieces[i].length <= sizeof joined);
        memcpy(joined + length, block->pieces[i].data, block->pieces[i].length);
        length += block->pieces[i].length;
    }
    CHECK(length == block->bytes);
    CHECK(block->rows && block->rows <= limits->rows_max);
    at = joined;
    end = joined + length;
    const struct pugd_table *t = &tables[block->table];
    CHECK(varint() == t->count);
    CHECK(varint() == block->rows);
    for (uint32_t i = 0; i < t->count; i++) read_column(&t->columns[i], block->rows);
    CHECK(at == end);
}

/* returns how many rows were taken or reported; -1 without memory, -2 where the records are not whole. */
static long run(uint64_t position)
{
    const char *why;
    struct pugd_limits limits = {0, UINT64_MAX, 200 + below(1 << 20), 1 + below(40), 1 + below(PUGD_MONTHS_MAX)};
    if (!below(4)) limits.from = position + below(2000), limits.until = limits.from + below(4000);
    struct pugd_table *given = malloc(sizeof tables);
    memcpy(given, tables, sizeof tables);
    struct pugd_columns *c = pugd_columns_open(given, 2, (const uint8_t *)"name", 4, 77, &limits, &why);
    free(given);
    CHECK(!why);
    if (!c) return -1;
    int done = pugd_columns_add(c, journal, journal_length, position);
    if (!done) done = pugd_columns_finish(c);
    long rows = done;
    if (!done) {
        size_t blocks, faults;
        const struct pugd_block *b = pugd_columns_blocks(c, &blocks);
        const struct pugd_fault *f = pugd_columns_faults(c, &faults);
        for (size_t i = 0; i < blocks; i++) {
            uint64_t last = 0;
            read_block(&b[i], &limits);
            rows += b[i].rows;
            for (uint32_t r = 0; r < b[i].rows; r++) {
                uint64_t place = b[i].positions[r];
                CHECK(place > last && place >= limits.from && place < limits.until);
                CHECK(pugd_row_length(journal + (place - position), journal_length - (place - position)));
                last = place;
                for (size_t s = 0; b[i].table == 1 && s < tables[1].skip_count; s++) CHECK(skip[s] != place);
            }
        }
        for (size_t i = 0; i < faults; i++) {
            CHECK(f[i].position >= position && f[i].position - position + f[i].length <= journal_length);
            CHECK(f[i].length && f[i].reason >= PUGD_FAULT_DAMAGED && f[i].reason <= PUGD_FAULT_RANGE);
            rows += 1;
        }
    }
    pugd_columns_close(c);
    return rows;
}

static void refused_tables(void)
{
    const char *why;
    struct pugd_limits limits = {0, 1, 1, 1, 1};
    struct pugd_column wrong[] = {{"a", "String", PUGD_STRING, 1}, {"b", "UInt8", PUGD_UINT8, 1}};
    struct pugd_table table = {1, 2, wrong, -1, NULL, 0};
    CHECK(!pugd_columns_open(&table, 1, NULL, 0, 1, &limits, &why) && why);
    table.count = 1;
    CHECK(!pugd_columns_open(&table, 1, NULL, 0, 1, &limits, &why) && why); /* no position */
    wrong[0].source = PUGD_FIELDS_MAX;
    CHECK(!pugd_columns_open(&table, 1, NULL, 0, 1, &limits, &why) && why);
    wrong[0].code = 99;
    CHECK(!pugd_columns_open(&table, 1, NULL, 0, 1, &limits, &why) && why);
    struct pugd_table twice[] = {tables[0], tables[0]};
    CHECK(!pugd_columns_open(twice, 2, NULL, 0, 1, &limits, &why) && why);
    limits.months_max = PUGD_MONTHS_MAX + 1;
    CHECK(!pugd_columns_open(tables, 2, NULL, 0, 1, &limits, &why) && why);
}

int main(void)
{
    refused_tables();
    long rows = 0;
    for (round_now = 0; round_now < 6000; round_now++) {
        records();
        uint64_t position = draw() >> 8;
        tables[1].skip_count = below(3) ? 0 : below(64);
        uint64_t place = position;
        for (size_t i = 0; i < tables[1].skip_count; i++) skip[i] = place += 1 + below(60);
        if (round_now % 3 == 1) /* damage that the checksum would have caught */
            for (uint32_t n = below(8); n && journal_length; n--) journal[below((uint32_t)journal_length)] = (uint8_t)draw();
        if (round_now % 7 == 1) journal_length = below((uint32_t)journal_length + 1);
        long got = run(position);
        CHECK(got != -1);
        if (round_now % 3 != 1 && round_now % 7 != 1) CHECK(got >= 0);
        if (got > 0) rows += got;
        for (unsigned n = 0; round_now % 5 == 0 && n < 8; n++) { /* now with a heap that fails */
            failing_of = 5 << n;
            CHECK(run(position) >= -2);
            failing_of = 0;
            CHECK(failing_held == 0);
        }
    }
    CHECK(rows > 100000);
    CHECK(failing_held == 0);
    return 0;
}
