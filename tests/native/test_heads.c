// sources: heads.c
// define: PUGD_TEST_MEMORY PUGD_TEST_HEADS
/* Heads of random lines, learnt and asked for among others that differ in a byte, against a list that is searched from end
 * to end; with allocations that fail. What is asked for lies in buffers of its exact length, so that the sanitizer sees a
 * byte too far. Hashes are made to meet (PUGD_TEST_HEADS), so that the bytes decide. What is found is exact: never a head of other bytes, whatever was learnt, or went, meanwhile. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "failing_memory.h"
#include "heads.h"

enum { COUNT = 64, HEAD_MAX = 400, KNOWN = 4000 };

static uint64_t seed = 20261127;

static uint32_t rnd(uint32_t below) { return (uint32_t)(failing_random(&seed) % below); }

/* A head without its digits: `%` stands for them, if it has any. */
static size_t make(char *out)
{
    static const char *const lines[] = {"Host: a\r\n", "Host: b\r\n", "Origin: https://shop.example\r\n", "Accept: */*\r\n",
                                        "Content-Type: text/plain\r\n", "User-Agent: Mozilla/5.0\r\n", "X: \r\n"};
    static const char *const lengths[] = {"Content-Length: %\r\n", "content-length: %\r\n", "CONTENT-LENGTH: 7\r\n",
                                          "X-Content-Length: 7\r\n", ""};
    size_t n = (size_t)sprintf(out, "POST /%u HTTP/1.1\r\n", rnd(4));
    uint32_t count = rnd(4), where = rnd(count + 1);
    const char *length = lengths[rnd(5)];
    for (uint32_t i = 0; i <= count; i++) {
        if (i == where) n += (size_t)sprintf(out + n, "%s", length);
        if (i < count) n += (size_t)sprintf(out + n, "%s", lines[rnd(7)]);
    }
    return n + (size_t)sprintf(out + n, "\r\n");
}

static size_t fill(char *out, const char *head, const char *digits)
{
    const char *mark = strchr(head, '%');
    if (!mark) return (size_t)sprintf(out, "%s", head);
    return (size_t)sprintf(out, "%.*s%s%s", (int)(mark - head), head, digits, mark + 1);
}

static struct {
    char head[HEAD_MAX];
    unsigned content_length;
} known[KNOWN];

/* What was learnt last under a number, which may be another head's by now. */
static int under[COUNT];

static int run(void)
{
    struct pugd_heads *h = pugd_heads_new(COUNT, HEAD_MAX, 42);
    CHECK(h);
    int count = 0, found = 0, missed = 0, starved = 0;
    for (int i = 0; i < COUNT; i++) under[i] = -1;
    for (int round = 0; round < 200000; round++) {
        char head[HEAD_MAX], digits[32], text[2 * HEAD_MAX];
        size_t body_length = rnd(30);
        sprintf(digits, "%s%zu", rnd(20) ? "" : "00", body_length);
        make(head);
        if (!rnd(8)) {
            size_t length = fill(text, head, digits);
            failing_of = rnd(2) ? 300 : 0;
            int32_t number = pugd_heads_learn(h, (const uint8_t *)text, length, 7);
            failing_of = 0;
            starved += number < 0;
            CHECK(number < COUNT);
            if (number >= 0 && count < KNOWN) {
                strcpy(known[count].head, head);
                known[count].content_length = 7;
                under[number] = count++;
            } else if (number >= 0) {
                CHECK(under[number] >= 0);
                strcpy(known[under[number]].head, head);
            }
            continue;
        }
        size_t length = fill(text, head, digits), head_length = length;
        memset(text + length, 'b', body_length);
        length += body_length;
        switch (rnd(6)) {
        case 0: text[rnd((uint32_t)length)] ^= (char)(1 << rnd(8)); break;
        case 1: length -= 1 + rnd((uint32_t)length - 1); break;
        case 2: text[length++] = 'b'; break;
        default: break;
        }
        uint8_t *exact = malloc(length);
        CHECK(exact);
        memcpy(exact, text, length);
        uint32_t body = 0;
        int32_t number = pugd_heads_find(h, exact, length, &body);
        if (number >= 0) {
            /* It is what was learnt there, with these digits and this body, byte for byte. */
            char wanted[2 * HEAD_MAX], said[32];
            CHECK(number < COUNT && under[number] >= 0 && body <= length);
            const char *mark = strchr(known[under[number]].head, '%');
            size_t told = length - body;
            if (mark) {
                size_t from = (size_t)(mark - known[under[number]].head), n = 0;
                while (n < 18 && exact[from + n] >= '0' && exact[from + n] <= '9') said[n] = (char)exact[from + n], n++;
                said[n] = 0;
                CHECK(n && strtoull(said, NULL, 10) == told);
            } else {
                CHECK(told == known[under[number]].content_length);
            }
            CHECK(fill(wanted, known[under[number]].head, said) == body && !memcmp(wanted, exact, body));
            found++;
        } else {
            missed++;
        }
        (void)head_length;
        free(exact);
    }
    pugd_heads_free(h);
    CHECK(found > 1000 && missed > 1000 && starved > 100);
    return 0;
}

static int bounds(void)
{
    static const uint8_t head[] = "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello";
    static const uint8_t long_digits[] = "POST / HTTP/1.1\r\nContent-Length: 0000000000000000005\r\n\r\nhello";
    static const uint8_t no_digits[] = "POST / HTTP/1.1\r\nContent-Length: \r\n\r\n";
    size_t length = sizeof head - 6;
    uint32_t body;
    CHECK(!pugd_heads_new(3, 100, 1) && !pugd_heads_new(2, 100, 1));
    struct pugd_heads *tight = pugd_heads_new(4, (uint32_t)length - 1, 1), *h = pugd_heads_new(4, (uint32_t)length, 1);
    CHECK(tight && h);
    CHECK(pugd_heads_learn(tight, head, length, 5) == -1);
    CHECK(pugd_heads_learn(h, head, length - 1, 5) == -1);
    CHECK(pugd_heads_learn(h, head, length + 1, 5) == -1);
    CHECK(pugd_heads_learn(h, no_digits, sizeof no_digits - 1, 5) == -1);
    int32_t number = pugd_heads_learn(h, head, length, 5);
    CHECK(number >= 0 && number == pugd_heads_learn(h, head, length, 5));
    CHECK(pugd_heads_find(h, head, sizeof head - 1, &body) == number && body == length);
    CHECK(pugd_heads_find(h, head, sizeof head - 2, &body) == -1);
    CHECK(pugd_heads_find(h, long_digits, sizeof long_digits - 1, &body) == -1);
    pugd_heads_free(tight);
    pugd_heads_free(h);
    /* A fifth takes the place of one of four; the others stay. */
    h = pugd_heads_new(4, 100, 1);
    char text[5][64];
    int left = 0;
    for (int i = 0; i < 5; i++) {
        sprintf(text[i], "GET /%d HTTP/1.1\r\n\r\n", i);
        CHECK(pugd_heads_learn(h, (const uint8_t *)text[i], strlen(text[i]), 0) >= 0);
    }
    for (int i = 0; i < 5; i++) left += pugd_heads_find(h, (const uint8_t *)text[i], strlen(text[i]), &body) >= 0;
    CHECK(left == 4 && pugd_heads_find(h, (const uint8_t *)text[4], strlen(text[4]), &body) >= 0);
    pugd_heads_free(h);
    pugd_heads_free(NULL);
    CHECK(failing_held == 0);
    return 0;
}

int main(void) { return run() || bounds(); }
