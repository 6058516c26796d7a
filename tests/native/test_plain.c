// sources: plain.c scan.c
// define: PUGD_TEST_MEMORY
/* Bodies of every kind through the short way, with allocations that fail: no byte outside a body is read, what is taken
 * back leaves no trace, and what is counted comes out. Bodies lie in buffers of their exact length, so that the sanitizer
 * sees a byte too far. */

#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "failing_memory.h"
#include "plain.h"

#define AT "2026-11-24T06:39:59.123Z"
#define NOW 1795502400000

static uint64_t state = 20261124;

static uint32_t rnd(uint32_t below)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)((state >> 11) % below);
}

static const char *const MESSAGES[] = {
    "{\"type\":\"track\",\"event\":\"x\",\"messageId\":\"m\",\"userId\":\"u\",\"timestamp\":\"" AT "\"}",
    "{\"messageId\":\"m2\",\"event\":\"page \xc3\xa4\",\"anonymousId\":\"a\",\"properties\":{\"a\":[1,{\"b\":\"}\\\"]\"}]},"
    "\"context\":{\"page\":{\"url\":\"https://x/\"}},\"type\":\"track\"}",
    "{ \"type\" : \"track\" , \"event\" : \"e\", \"messageId\":\"m3\", \"userId\":null, \"anonymousId\":\"b\",\n"
    "\"timestamp\":\"2024-02-29T10:01:00.123456+00:00\",\"context\":null,\"properties\":null,\"more\":[[],{},-1.5e3,true] }",
    "{\"type\":\"page\",\"name\":\"n\",\"userId\":\"u\"}",
    "{\"type\":\"track\",\"event\":\"x\",\"messageId\":\"m\",\"userId\":\"u\",\"context\":{\"locale\":\"%u\"}}",
};
static const char *const PIECES[] = {"", "\"", "{", "}", "[", "]", ",", ":", "\\", " ", "null", "0", "\xff", "track", "9"};

static char text[1 << 16];

static size_t make_body(int single)
{
    size_t n = 0;
    char one[1024];
    int count = single ? 1 : 1 + (int)rnd(4);
    if (!single) n += (size_t)sprintf(text, "{\"sentAt\":\"%s\",\"batch\":[", AT);
    for (int i = 0; i < count; i++) {
        snprintf(one, sizeof one, MESSAGES[rnd(rnd(4) ? 3 : 5)], rnd(9000)); /* NOLINT: all are ours */
        n += (size_t)sprintf(text + n, "%s%s", i ? "," : "", one);
    }
    if (!single) n += (size_t)sprintf(text + n, "]}");
    if (rnd(2)) return n;
    for (int changes = 1 + (int)rnd(3); changes; changes--) {
        size_t at = rnd((uint32_t)n), cut = rnd(4);
        const char *piece = PIECES[rnd(sizeof PIECES / sizeof *PIECES)];
        size_t add = strlen(piece);
        if (cut > n - at) cut = n - at;
        memmove(text + at + add, text + at + cut, n - at - cut);
        memcpy(text + at, piece, add);
        n = n - cut + add;
    }
    return n;
}

enum { BODIES = 40 };

int main(void)
{
    uint64_t taken = 0, refused = 0, starved = 0;
    struct pugd_plain *p = pugd_plain_new(25, 1);
    assert(p);
    for (int round = 0; round < 3000; round++) {
        uint8_t *bodies[BODIES];
        int held = 0;
        size_t expected = 0;
        failing_of = 0;
        if (round % 20 == 0) { /* small buffers again, which must grow */
            pugd_plain_free(p);
            p = pugd_plain_new(25, (uint64_t)round);
            assert(p);
        }
        failing_of = rnd(2) ? 200 : 0;
        pugd_plain_reset(p);
        for (int b = 0; b < BODIES; b++) {
            int single = (int)rnd(2);
            size_t length = make_body(single);
            uint8_t *body = malloc(length ? length : 1);
            assert(body);
            memcpy(body, text, length);
            bodies[held++] = body;
            int64_t count = pugd_plain_add(p, body, length, single, 1 + rnd(300), NOW);
            if (count > 0) {
                taken++;
                count &= PUGD_PLAIN_LEARN - 1;
                int64_t at;
                int learnt = 1;
                while (learnt && (at = pugd_plain_unknown(p)) >= 0) {
                    const struct pugd_plain_event *e = pugd_plain_at(p, (size_t)at);
                    learnt = !pugd_plain_learn(p, e->context, e->context_length, (const uint8_t *)"mid", 3,
                                               (const uint8_t *)"tail", 4);
                }
                if (learnt && rnd(10)) {
                    expected += (size_t)count;
                } else {
                    pugd_plain_drop(p, (size_t)count);
                }
            } else {
                refused += count == 0;
                starved += count < 0;
            }
            assert(pugd_plain_count(p) == expected);
        }
        if (expected) {
            uint64_t *actors = calloc(expected, sizeof *actors);
            uint32_t *skip = calloc(expected, sizeof *skip);
            assert(actors && skip);
            size_t skipped = 0, length;
            for (size_t i = 0; i < expected; i++) {
                actors[i] = state ^ i;
                if (!rnd(5)) skip[skipped++] = (uint32_t)i;
                const struct pugd_plain_event *e = pugd_plain_at(p, i);
                assert(e->event_length && e->event_id_length && (e->user_length || e->anonymous_length));
            }
            const uint8_t *keys = pugd_plain_event_keys(p, &length);
            assert(keys[0] == 0xdd && length > 5 && keys[4] == (uint8_t)(4 * expected));
            const uint8_t *ids = pugd_plain_ids(p, &length);
            assert(ids[0] == 0xdd && ids[4] == (uint8_t)(3 * expected));
            const uint8_t *rows = pugd_plain_rows(p, actors, skip, skipped, skip, 0, &length);
            size_t heads = 0;
            if (rows) {
                for (size_t i = 0; i + 3 <= length; i++) heads += rows[i] == 0xdc && rows[i + 1] == 0 && rows[i + 2] == 25;
                assert(heads >= expected - skipped);
            }
            free(actors);
            free(skip);
        }
        assert(pugd_plain_at(p, expected) == NULL);
        for (int b = 0; b < held; b++) free(bodies[b]);
    }
    failing_of = 0;
    pugd_plain_free(p);
    pugd_plain_free(NULL);
    assert(failing_held == 0);
    printf("%llu taken, %llu not plain, %llu without memory\n", (unsigned long long)taken, (unsigned long long)refused,
           (unsigned long long)starved);
    assert(taken > 10000 && refused > 10000 && starved > 10);
    return 0;
}
