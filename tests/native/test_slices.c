// sources: slices.c
/* Cutting in buffers of exactly their size: grown texts, cut short anywhere and with bytes changed, in every shape; and the
 * cuts lie inside the text, in order, one behind the other, within the room that was promised. */
#include "check.h"
#include "slices.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX 50
#define EVENTS 4
#define BYTES 16
#define BAD (-100)
#define MUST(what)                                                                                                     \
    do {                                                                                                               \
        if (!(what)) {                                                                                                 \
            fprintf(stderr, "line %d: %s\n", __LINE__, #what);                                                         \
            return BAD;                                                                                                \
        }                                                                                                              \
    } while (0)

static uint64_t seed = 20261126;

static unsigned below(unsigned n)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)((seed >> 33) % n);
}

static const char *parts[] = {"{", "}", "[", "]", ",", ":", "\"batch\"", "\"a\\\"b\"", "\"\\\\\"", "1", " ", "\n", "null",
                              "{\"a\":[1,{}]}", "\"", "\\", "[{\"x\":1},{\"y\":2}]", "{\"batch\":[1,2,3"};

static size_t grow(char *out, size_t room)
{
    size_t length = 0;
    unsigned count = below(24);
    for (unsigned i = 0; i < count; i++) {
        const char *part = parts[below(sizeof parts / sizeof *parts)];
        size_t n = strlen(part);
        if (length + n > room) break;
        memcpy(out + length, part, n);
        length += n;
    }
    return length;
}

static int64_t cut(const char *text, size_t length, int list, int lines)
{
    uint8_t *exact = malloc(length ? length : 1);
    size_t room = 2 + 3 * (2 * length / BYTES + MAX / EVENTS + 2);
    uint64_t *cuts = malloc(room * sizeof *cuts);
    memcpy(exact, text, length);
    int64_t found = pugd_slices(exact, length, (const uint8_t *)"batch", 5, list, lines, MAX, EVENTS, BYTES, cuts, room);
    MUST(found >= PUGD_SLICES_AMBIGUOUS);
    uint64_t at = found > 0 ? cuts[0] : 0, events = 0;
    for (int64_t i = 0; i < found; i++) {
        const uint64_t *one = cuts + 2 + 3 * i;
        MUST(one[0] >= at && one[1] > one[0] && one[2] >= 1 && one[2] <= EVENTS);
        MUST(one[2] == 1 || one[1] - one[0] <= BYTES);
        at = one[1];
        events += one[2];
    }
    MUST(found <= 0 || (at <= cuts[1] && cuts[1] <= length && events <= MAX));
    free(cuts);
    free(exact);
    return found;
}

int main(void)
{
    char text[4096];
    for (int round = 0; round < 200000; round++) {
        size_t length = grow(text, sizeof text);
        if (length && below(3) == 0) text[below((unsigned)length)] = (char)below(256);
        if (length && below(3) == 0) length = below((unsigned)length);
        CHECK(cut(text, length, (int)below(2), (int)below(2)) != BAD);
    }
    CHECK(cut("{\"batch\":[1,2,3]}", 17, 1, 0) == 1);
    CHECK(cut("{\"batch\":[1,2,3,4,5]}", 21, 1, 0) == 2);
    CHECK(cut("[1,2,3]", 7, 0, 0) == 0);
    CHECK(cut("{\"a\":1}\n{\"a\":2}", 15, 0, 1) == 1);
    /* A long string of escapes is walked once, not once for each. */
    size_t length = 8u << 20;
    char *escapes = malloc(length);
    memset(escapes, '\\', length);
    memcpy(escapes, "[\"", 2);
    memcpy(escapes + length - 2, "\"]", 2);
    CHECK(cut(escapes, length, 1, 0) == 1);
    free(escapes);
    return 0;
}
