// sources: siphash.c seen.c record.c
// define: PUGD_TEST_MEMORY
/* The set of event ids against an array of times, with clocks that step, stand and leap; its bound on bytes; memory that
 * fails; and bytes of any kind as a packed batch or as journal records. */
#include "check.h"
#include "failing_memory.h"
#include "record.h"
#include "seen.h"

#include <stdio.h>
#include <string.h>

#define HOUR 3600000u
#define DAY (24u * HOUR)
#define BATCH_MAX 200

static const uint8_t key[16] = {9, 8, 7, 6, 5, 4, 3, 2, 1};

static uint8_t *put64(uint8_t *out, uint8_t tag, uint64_t v)
{
    *out++ = tag;
    for (int i = 7; i >= 0; i--) *out++ = (uint8_t)(v >> (8 * i));
    return out;
}

static uint8_t *put_name(uint8_t *out, uint32_t name)
{
    *out++ = 0xa4;
    for (int i = 3; i >= 0; i--) *out++ = (uint8_t)(name >> (8 * i));
    return out;
}

/* The time that ends a value's row of three, and the event's name. */
static uint8_t *put_end(uint8_t *out, uint8_t tag, uint64_t own, uint8_t called)
{
    out = put64(out, tag, own);
    *out++ = 0xa1;
    *out++ = called;
    return out;
}

static uint8_t *put_head(uint8_t *out, uint32_t count)
{
    *out++ = 0xdd;
    for (int i = 3; i >= 0; i--) *out++ = (uint8_t)(4 * count >> (8 * i));
    return out;
}

/* Names 0 … NAMES, each with the granule until which the twin knows it (0: never met). */
#define NAMES 40000
static uint64_t kept[2][NAMES];
static uint32_t mark[2][NAMES]; /* and what it was called, by whom */

static int against_twin(uint64_t seed, uint64_t window, unsigned failing)
{
    uint64_t state = seed, now = 1700000000000u;
    static uint8_t bytes[BATCH_MAX * 32 + 5];
    uint32_t duplicates[BATCH_MAX], old[BATCH_MAX], reused[BATCH_MAX];
    uint64_t actors[BATCH_MAX] = {0};
    struct pugd_seen_found f = {duplicates, reused, old, 0, 0, 0};
    failing_seed = seed;
    failing_of = 0;
    memset(kept, 0, sizeof kept);
    struct pugd_seen *s = pugd_seen_new(key, window, 64u << 20);
    uint64_t granule = pugd_seen_statistics(s).granule_ms, latest = now;
    failing_of = failing;
    uint64_t met = 0, lost = 0, again = 0, missed = 0;
    for (int round = 0; round < 3000; round++) {
        switch (failing_random(&state) % 40) {
        case 0: now += failing_random(&state) % (5 * HOUR); break;
        case 1: now -= failing_random(&state) % HOUR; break;
        case 2: now += round % 500 == 0 ? 3 * window + failing_random(&state) % (9 * (uint64_t)DAY) : window / 3; break;
        default: now += failing_random(&state) % 60000;
        }
        if (now / granule > latest / granule) latest = now;
        uint64_t taken = now > latest / granule * granule ? now : latest / granule * granule;
        uint32_t n = (uint32_t)(failing_random(&state) % BATCH_MAX);
        uint32_t known[BATCH_MAX], knowns = 0, others = 0, other[BATCH_MAX];
        uint8_t *out = put_head(bytes, n);
        for (uint32_t i = 0; i < n; i++) {
            uint32_t name = (uint32_t)(failing_random(&state) % NAMES), project = name % 2;
            uint64_t own = now;
            if (name % 5 == 0) own = now - failing_random(&state) % (40 * (uint64_t)DAY);
            if (name % 5 == 1) own = now + failing_random(&state) % (3 * (uint64_t)DAY);
            *out++ = (uint8_t)project;
            out = put_name(out, name);
            uint8_t called = failing_random(&state) % 40 ? 'x' : 'y';
            actors[i] = failing_random(&state) % 40 ? 1 : failing_random(&state) & 0xffffff;
            out = name % 11 == 0 ? put_end(out, 0xd3, (uint64_t)-5, called) : put_end(out, 0xcf, own, called);
            uint32_t means = (uint32_t)actors[i] << 8 | called;
            if (name % 11 == 0) own = 0;
            uint64_t from = own > taken ? own : taken;
            if (from > taken + DAY) from = taken + DAY;
            uint64_t until = (from + window + granule - 1) / granule;
            if (kept[project][name] >= latest / granule && kept[project][name]) {
                known[knowns++] = i;
                if (mark[project][name] != means) other[others++] = i;
            } else {
                kept[project][name] = until;
                mark[project][name] = means;
            }
            if (failing && kept[project][name] < until) kept[project][name] = until; /* it may have been added anew */
        }
        CHECK(!pugd_seen_add_many(s, bytes, (size_t)(out - bytes), n, actors, now, &f));
        uint32_t found = f.duplicates_count;
        met += knowns;
        if (!failing) {
            CHECK(found == knowns);
            CHECK(!memcmp(known, duplicates, knowns * sizeof *known));
            for (uint32_t i = 0, k = 0; i < f.reused_count; i++, k++) {
                while (k < others && other[k] != reused[i]) k++;
                CHECK(k < others);
            }
            again += others;
            missed += others - f.reused_count;
        } else { /* what memory cost is forgotten, and nothing is known that never came */
            CHECK(found <= knowns);
            lost += knowns - (uint64_t)found;
            for (uint32_t i = 0, k = 0; i < found; i++, k++) {
                while (k < knowns && known[k] != duplicates[i]) k++;
                CHECK(k < knowns);
            }
        }
        if (round % 300 == 0) {
            uint64_t alive = 0;
            for (uint32_t name = 0; name < NAMES; name++)
                alive += kept[name % 2][name] >= latest / granule && kept[name % 2][name];
            struct pugd_seen_numbers numbers = pugd_seen_statistics(s);
            if (!failing) CHECK(numbers.ids == alive && numbers.forgotten == 0);
        }
    }
    CHECK(met > 10000);
    CHECK(failing || (again > 1000 && missed * 2000 <= again)); /* a mark has 12 bits */
    if (failing) CHECK(lost > 0 && pugd_seen_statistics(s).forgotten > 0);
    pugd_seen_free(s);
    CHECK(failing_held == 0);
    return 0;
}

/* More than fits, a granule at a time or all in one: bounded; the newest stay; what is gone was counted. */
static int bounded(uint64_t step_ms)
{
    failing_of = 0;
    uint64_t max = 12u << 20, now = 1700000000000u, total = 2000000;
    struct pugd_seen *s = pugd_seen_new(key, DAY, max);
    static uint8_t bytes[BATCH_MAX * 32 + 5];
    uint32_t duplicates[BATCH_MAX], old[BATCH_MAX], reused[BATCH_MAX];
    uint64_t actors[BATCH_MAX] = {0};
    struct pugd_seen_found f = {duplicates, reused, old, 0, 0, 0};
    for (uint32_t name = 0; name < total; name += 100, now += step_ms) {
        uint8_t *out = put_head(bytes, 100);
        for (uint32_t i = 0; i < 100; i++) {
            *out++ = 1;
            out = put_name(out, name + i);
            out = put_end(out, 0xcf, now, 'x');
        }
        CHECK(!pugd_seen_add_many(s, bytes, (size_t)(out - bytes), 100, actors, now, &f) && f.duplicates_count == 0);
        if (name % 10000) continue;
        struct pugd_seen_numbers numbers = pugd_seen_statistics(s);
        CHECK(numbers.bytes <= max);
        CHECK(numbers.ids + numbers.forgotten == name + 100);
    }
    struct pugd_seen_numbers numbers = pugd_seen_statistics(s);
    CHECK(numbers.ids * 21 > max);
    if (step_ms) CHECK(numbers.floor_ms > 1700000000000u + DAY);
    uint64_t known = 0, first = total;
    for (uint32_t name = (uint32_t)total - 100; name < total; name -= 100) {
        uint8_t *out = put_head(bytes, 100);
        for (uint32_t i = 0; i < 100; i++) {
            *out++ = 1;
            out = put_name(out, name + i);
            out = put_end(out, 0xcf, now, 'x');
        }
        CHECK(!pugd_seen_add_many(s, bytes, (size_t)(out - bytes), 100, actors, now, &f) && f.reused_count == 0);
        uint32_t found = f.duplicates_count;
        if (step_ms && found < 100) break;
        known += found;
        first = name;
        if (!step_ms && name < 100 + total / 2) break;
    }
    if (step_ms) CHECK(known + 3 * 1000 >= numbers.ids && first < total - 10000); /* the newest, without a gap */
    CHECK(known > 10000);
    pugd_seen_free(s);
    CHECK(failing_held == 0);
    return 0;
}

/* Every event that came before is known, or said to be old, however little memory there is: none is taken for new. */
static int reach(uint64_t seed, uint64_t window, uint64_t max, unsigned failing)
{
    static uint64_t own[NAMES];
    static uint8_t drawn[NAMES], met[NAMES], bytes[BATCH_MAX * 32 + 5];
    uint32_t duplicates[BATCH_MAX], old[BATCH_MAX], reused[BATCH_MAX], names[BATCH_MAX];
    uint64_t actors[BATCH_MAX] = {0};
    struct pugd_seen_found f = {duplicates, reused, old, 0, 0, 0};
    uint64_t state = seed, now = 1700000000000u, again = 0, looked = 0, needless = 0;
    failing_seed = seed;
    failing_of = 0;
    memset(met, 0, sizeof met);
    memset(drawn, 0, sizeof drawn);
    struct pugd_seen *s = pugd_seen_new(key, window, max);
    failing_of = failing;
    for (int round = 0; round < 3000; round++) {
        now += round % 100 == 0 ? failing_random(&state) % (2 * window) : failing_random(&state) % (window / 2000);
        uint32_t n = 1 + (uint32_t)(failing_random(&state) % (BATCH_MAX - 1));
        uint8_t *out = put_head(bytes, n);
        for (uint32_t i = 0; i < n; i++) {
            names[i] = (uint32_t)(failing_random(&state) % NAMES);
            if (!drawn[names[i]]) {
                drawn[names[i]] = 1;
                uint64_t kind = failing_random(&state) % 10;
                own[names[i]] = kind < 6   ? now
                                : kind < 9 ? now - failing_random(&state) % (3 * window)
                                           : now + failing_random(&state) % DAY;
            }
            *out++ = 1;
            out = put_end(put_name(out, names[i]), 0xcf, own[names[i]], 'x');
        }
        CHECK(!pugd_seen_add_many(s, bytes, (size_t)(out - bytes), n, actors, now, &f));
        uint32_t found = f.duplicates_count, olds = f.old_count;
        uint64_t floor = pugd_seen_statistics(s).floor_ms, lost = pugd_seen_statistics(s).lost_ms;
        for (uint32_t i = 0, d = 0, o = 0; i < n; i++) {
            int is_known = d < found && duplicates[d] == i, is_old = o < olds && old[o] == i;
            d += (uint32_t)is_known;
            o += (uint32_t)is_old;
            CHECK(!(is_known && is_old));
            if (met[names[i]]) CHECK(is_known || is_old);
            again += met[names[i]];
            looked += (uint64_t)is_old;
            uint64_t until = own[names[i]] + window;
            needless += is_old && until > now && until > floor && until > lost && own[names[i]] <= now + DAY;
            met[names[i]] = 1;
        }
    }
    CHECK(again > 10000 && looked > 1000 && needless == 0);
    pugd_seen_free(s);
    CHECK(failing_held == 0);
    return 0;
}

static uint8_t *put_row(uint8_t *out, int kind, uint32_t name, uint64_t received, uint64_t own)
{
    static const uint32_t fields[] = {0, 25, 17, 18, 5, 25, 17};
    /* event id, receipt, own time, actor, name */
    static const uint32_t at[][5] = {{0}, {9, 4, 5, 2, 8}, {7, 4, 5, 2, 0}, {15, 12, 13, 4, 7},
                                     {0}, {9, 4, 5, 2, 8}, {7, 4, 5, 2, 0}};
    *out++ = 0xdc;
    *out++ = 0;
    *out++ = (uint8_t)fields[kind];
    *out++ = (uint8_t)kind;
    for (uint32_t i = 1; i < fields[kind]; i++) {
        if (i == 1)
            *out++ = 1;
        else if (kind != 4 && i == at[kind][0])
            out = put_name(out, name);
        else if (kind != 4 && i == at[kind][1])
            out = put64(out, 0xcf, received);
        else if (kind != 4 && i == at[kind][2])
            out = put64(out, 0xcf, own);
        else if (kind != 4 && i == at[kind][3])
            *out++ = 1;
        else if (kind == 3 && i == at[kind][4]) {
            memcpy(out, name & 8 ? "\xa8identify" : "\xa5""event", name & 8 ? 9 : 6);
            out += name & 8 ? 9 : 6;
        } else if (kind != 4 && i == at[kind][4]) {
            memcpy(out, "\xa3pay", 4);
            out += 4;
        } else if (i % 3)
            *out++ = 0xa0;
        else
            out = put64(out, 0xcf, name);
    }
    return out;
}

static void seal(uint8_t *record, size_t payload, uint32_t rows, uint64_t position)
{
    uint8_t place[8];
    memset(record, 0, PUGD_RECORD_HEADER);
    for (int i = 0; i < 4; i++) record[i] = (uint8_t)(payload >> (8 * i));
    for (int i = 0; i < 4; i++) record[12 + i] = (uint8_t)(rows >> (8 * i));
    record[8] = PUGD_RECORD_ROWS;
    for (int i = 0; i < 8; i++) place[i] = (uint8_t)(position >> (8 * i));
    uint32_t crc = pugd_crc32c(0, place, 8);
    crc = pugd_crc32c(crc, record, 4);
    crc = pugd_crc32c(crc, record + 8, PUGD_RECORD_HEADER - 8 + payload);
    for (int i = 0; i < 4; i++) record[4 + i] = (uint8_t)(crc >> (8 * i));
}

static const int KINDS[] = {1, 2, 3, 4, 5, 6, 3, 4};

/* Ask for one id. returns 0 new, 1 known, 2 known from another event */
static int asked(struct pugd_seen *s, uint32_t name, const char *called, uint64_t actor, uint64_t own, uint64_t now)
{
    static uint8_t batch[64];
    uint32_t duplicates[1], old[1], reused[1];
    struct pugd_seen_found f = {duplicates, reused, old, 0, 0, 0};
    uint8_t *end = put_head(batch, 1);
    *end++ = 1;
    end = put64(put_name(end, name), 0xcf, own);
    *end++ = (uint8_t)(0xa0 + strlen(called));
    memcpy(end, called, strlen(called));
    end += strlen(called);
    if (pugd_seen_add_many(s, batch, (size_t)(end - batch), 1, &actor, now, &f)) return -1;
    if (f.old_count) return 3;
    return (int)(f.duplicates_count + f.reused_count);
}

/* What the rows below say of each name: 0 an event, 1 a trait, 2 an identify's link, or only an event's (8 apart). */
static int marks(struct pugd_seen *s, uint64_t now)
{
    for (uint32_t name = 0; name < 40; name++) {
        int event = name % 8 == 0, link = name % 16 == 2, known = name % 8 < 3;
        CHECK(asked(s, name, "pay", 2, now, now) == (!known ? 0 : link ? 1 : 2)); /* a link without a mark learns one */
        CHECK(asked(s, name, "pay", 1, now, now) == (!known || link ? 2 : event ? 1 : 2));
        CHECK(asked(s, name, "identify", 1, now, now) == (!known || link || event ? 2 : 1));
    }
    return 0;
}

/* Rows of every kind learnt from two records; then damaged ones, sealed again so that only the walk can refuse them. */
static int records(void)
{
    static uint8_t bytes[1 << 16], damaged[1 << 16];
    uint64_t now = 1700000000000u, position = 4096, actors[3] = {0};
    uint32_t duplicates[3], old[3], reused[3];
    struct pugd_seen_found f = {duplicates, reused, old, 0, 0, 0};
    failing_of = 0;
    struct pugd_seen *s = pugd_seen_new(key, DAY, 1u << 20);
    uint8_t *out = bytes + PUGD_RECORD_HEADER;
    for (uint32_t i = 0; i < 40; i++) out = put_row(out, KINDS[i % 8], i / 8 * 8 + i % 4, now + i, now - i);
    size_t one = (size_t)(out - bytes);
    seal(bytes, one - PUGD_RECORD_HEADER, 40, position);
    uint8_t *second = out;
    out = put_row(out + PUGD_RECORD_HEADER, 1, 1000, now, now);
    seal(second, (size_t)(out - second) - PUGD_RECORD_HEADER, 1, position + one);
    size_t length = (size_t)(out - bytes);
    CHECK(pugd_seen_add_records(s, bytes, length, position) == 15 + 1);
    CHECK(pugd_seen_add_records(s, bytes, length, position) == 0);
    CHECK(pugd_seen_add_records(s, bytes, length, position + 1) == -1);
    CHECK(pugd_seen_add_records(s, bytes, length - 1, position) == -1);
    CHECK(pugd_seen_statistics(s).ids == 16);
    if (marks(s, now + 100)) return 1;
    for (uint32_t name = 40; name <= 1000; name++) CHECK(asked(s, name, "pay", 1, now, now + 100) == (name == 1000));
    /* The same by way of a digest; an id stays known a second longer at most. */
    static uint8_t ids[64 * PUGD_SEEN_ID_BYTES];
    uint64_t first, last;
    int64_t digested = pugd_seen_digest(key, bytes, length, position, ids, 64, &first, &last);
    CHECK(digested >= 16 && first == now && last == now + 38);
    CHECK(pugd_seen_digest(key, bytes, length, position, ids, 3, &first, &last) == digested);
    CHECK(pugd_seen_digest(key, bytes, length - 1, position, ids, 64, &first, &last) == -1);
    CHECK(pugd_seen_digest(key, bytes, length, position, ids, 64, &first, &last) == digested);
    struct pugd_seen *again = pugd_seen_new(key, DAY, 1u << 20);
    CHECK(pugd_seen_add_ids(again, ids, (size_t)digested, last) == 16);
    CHECK(pugd_seen_add_ids(again, ids, (size_t)digested, last + DAY - 1000) == 0);
    CHECK(pugd_seen_add_ids(again, ids, (size_t)digested, last + DAY + 20000) == 0); /* past: not kept */
    CHECK(pugd_seen_add_records(again, bytes, length, position) == 0);
    pugd_seen_missing(again, now + 500 * DAY);
    CHECK(asked(again, 2000, "pay", 1, now + 400 * DAY, now + 400 * DAY) == 3);
    CHECK(pugd_seen_statistics(again).lost_ms > now + 501 * DAY);
    pugd_seen_free(again);
    again = pugd_seen_new(key, DAY, 1u << 20);
    CHECK(pugd_seen_add_ids(again, ids, (size_t)digested, last) == 16);
    if (marks(again, now + 100)) return 1;
    pugd_seen_free(again);
    uint64_t state = 3;
    for (int round = 0; round < 5000; round++) {
        memcpy(damaged, bytes, one);
        for (int k = 0; k < 1 + round % 3; k++)
            damaged[PUGD_RECORD_HEADER + failing_random(&state) % (one - PUGD_RECORD_HEADER)] =
                (uint8_t)failing_random(&state);
        size_t cut = failing_random(&state) % 2 ? one : PUGD_RECORD_HEADER + 1 + failing_random(&state) % (one - 17);
        seal(damaged, cut - PUGD_RECORD_HEADER, 40, position);
        uint8_t *tight = malloc(cut);
        memcpy(tight, damaged, cut);
        struct pugd_seen *fresh = pugd_seen_new(key, DAY, 1u << 20);
        int64_t added = pugd_seen_add_records(fresh, tight, cut, position);
        CHECK(added >= -1 && added <= 40);
        CHECK((pugd_seen_digest(key, tight, cut, position, ids, 64, &first, &last) < 0) == (added < 0));
        CHECK(pugd_seen_add_many(fresh, tight, cut, 3, actors, now, &f) == -1);
        pugd_seen_free(fresh);
        free(tight);
    }
    pugd_seen_free(s);
    CHECK(failing_held == 0);
    return 0;
}

int main(void)
{
    if (records()) return 1;
    if (against_twin(1, DAY, 0) || against_twin(2, HOUR, 0) || against_twin(3, 30 * (uint64_t)DAY, 0)) return 1;
    if (against_twin(4, DAY, 500)) return 1;
    if (reach(5, DAY, 64u << 20, 0) || reach(6, HOUR, 64u << 20, 0) || reach(7, 3 * (uint64_t)DAY, 1u << 20, 0)) return 1;
    if (reach(8, DAY, 64u << 20, 300) || reach(9, 20 * (uint64_t)DAY, 700u << 10, 0)) return 1;
    if (bounded(4000) || bounded(40) || bounded(0)) return 1;
    return 0;
}
