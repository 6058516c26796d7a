// sources: record.c
/* The checksum against its published values and itself in parts; records read back, and under any damage never read
 * wrongly nor past their buffer; the search behind damage; rows split, and never past the payload. */
#include "check.h"
#include "record.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t state = 20261124;

static uint32_t next(void)
{
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(state >> 33);
}

static uint32_t plain_crc(uint32_t crc, const uint8_t *data, size_t length)
{
    crc = ~crc;
    for (size_t i = 0; i < length; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
    }
    return ~crc;
}

static int checksum(void)
{
    static uint8_t data[40000];
    CHECK(pugd_crc32c(0, (const uint8_t *)"123456789", 9) == 0xe3069283);
    for (size_t i = 0; i < sizeof data; i++) data[i] = (uint8_t)next();
    for (int round = 0; round < 600; round++) {
        size_t length = round < 100 ? (size_t)round : next() % (round < 500 ? 4000 : sizeof data);
        size_t begin = next() % (sizeof data - length + 1);
        uint8_t *exact = malloc(length ? length : 1);
        memcpy(exact, data + begin, length);
        uint32_t first = next();
        CHECK(pugd_crc32c(first, exact, length) == plain_crc(first, exact, length));
        size_t cut = length ? next() % length : 0;
        CHECK(pugd_crc32c(pugd_crc32c(0, exact, cut), exact + cut, length - cut) == pugd_crc32c(0, exact, length));
        free(exact);
    }
    return 0;
}

/* Records of random lengths to `out`; returns the bytes they take, bounds[] the end of each. */
static size_t lay(uint8_t *out, uint64_t position, size_t *bounds, int count)
{
    size_t at = 0;
    for (int i = 0; i < count; i++) {
        uint32_t length = 1 + next() % 200;
        uint8_t *payload = out + at + PUGD_RECORD_HEADER;
        for (uint32_t k = 0; k < length; k++) payload[k] = next() % 3 ? (uint8_t)next() : (uint8_t)(next() % 2);
        pugd_record_head(out + at, payload, length, (uint32_t)i, position + at);
        at += PUGD_RECORD_HEADER + length;
        bounds[i] = at;
    }
    return at;
}

static int damage(void)
{
    enum { COUNT = 6 };
    static uint8_t laid[COUNT * 300];
    for (int round = 0; round < 20000; round++) {
        size_t bounds[COUNT];
        uint64_t position = (uint64_t)next() << 20 | next(), rows;
        int status;
        size_t length = lay(laid, position, bounds, COUNT);
        CHECK(pugd_records_check(laid, length, position, &rows, &status) == length);
        CHECK(rows == COUNT * (COUNT - 1) / 2 && status == PUGD_RECORD_END);

        size_t at = next() % length, cut = length;
        int kind = (int)(next() % 3);
        if (kind == 0) {
            cut = at;
        } else if (kind == 1) {
            laid[at] ^= (uint8_t)(1u << next() % 8);
        } else {
            size_t n = 1 + next() % 40;
            for (size_t i = at; i < length && i < at + n; i++) laid[i] = (uint8_t)next();
            laid[at] ^= 0; /* may by chance be what it was */
        }
        uint8_t *exact = malloc(cut ? cut : 1);
        memcpy(exact, laid, cut);
        size_t whole = pugd_records_check(exact, cut, position, &rows, &status);
        CHECK(status == PUGD_RECORD_END || status == PUGD_RECORD_TORN || status == PUGD_RECORD_CORRUPT);
        size_t least = 0;
        int is_bound = whole == 0;
        for (int i = 0; i < COUNT; i++) {
            if (bounds[i] <= at) least = bounds[i];
            if (bounds[i] == whole) is_bound = 1;
        }
        CHECK(whole >= least && is_bound);
        if (kind == 1) CHECK(whole == least);
        size_t found = pugd_record_find(exact + whole, cut - whole, position + whole);
        CHECK(found <= cut - whole);
        if (kind == 1) {
            size_t after = length;
            for (int i = COUNT - 1; i >= 0; i--)
                if (bounds[i] > at) after = bounds[i];
            CHECK(whole + found == after);
        }
        struct pugd_record record;
        CHECK(pugd_record_read(exact + whole + found, cut - whole - found, position + whole + found, &record) ==
              (whole + found < cut ? PUGD_RECORD_WHOLE : PUGD_RECORD_END));
        free(exact);
    }
    return 0;
}

static int noise(void)
{
    for (int round = 0; round < 20000; round++) {
        size_t length = next() % 200;
        uint8_t *exact = malloc(length ? length : 1);
        uint64_t rows;
        int status;
        uint32_t ends[32];
        for (size_t i = 0; i < length; i++) exact[i] = next() % 2 ? (uint8_t)next() : (uint8_t)(next() % 3);
        CHECK(pugd_records_check(exact, length, next(), &rows, &status) == 0);
        CHECK(pugd_record_find(exact, length, next()) == length);
        int64_t count = pugd_rows_split(exact, length, ends, 32);
        CHECK(count >= -1 && count <= 32);
        for (int64_t i = 0; i < count; i++) CHECK(ends[i] > (i ? ends[i - 1] : 0) && ends[i] <= length);
        if (count > 0) CHECK(ends[count - 1] == length);
        free(exact);
    }
    return 0;
}

/* Bytes that look like headers, one behind another: the search stays near linear. */
static int lures(void)
{
    size_t length = 4u << 20;
    uint8_t *data = malloc(length);
    static const uint8_t lure[16] = {64, 0, 0, 0, 1, 2, 3, 4, 1, 0, 0, 0, 9, 0, 0, 0};
    for (size_t i = 0; i < length; i++) data[i] = lure[i % 16];
    CHECK(pugd_record_find(data, length, 0) == length);
    for (size_t i = 0; i < length; i++) data[i] = i % 16 == 2 ? 16 : lure[i % 16]; /* each says it is 1 MiB long */
    CHECK(pugd_record_find(data, length, 0) == length);
    uint8_t one[PUGD_RECORD_HEADER + 5] = {0};
    memcpy(one + PUGD_RECORD_HEADER, "whole", 5);
    pugd_record_head(one, one + PUGD_RECORD_HEADER, 5, 1, 3u << 20 | 1);
    memcpy(data + (3u << 20 | 1), one, sizeof one);
    CHECK(pugd_record_find(data, length, 0) == (3u << 20 | 1));
    memset(data, PUGD_RECORD_ROWS, length);
    CHECK(pugd_record_find(data, length, 0) == length);
    free(data);
    return 0;
}

int main(void) { return checksum() || damage() || noise() || lures(); }
