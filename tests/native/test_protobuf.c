// sources: protobuf.c scan.c
/* Messages grown of fields, known ones and others, then cut short anywhere and with bytes changed, in buffers of exactly
 * their size and of exactly the room that was promised; what comes of them is JSON that can be stored. Then what is
 * deep, wide and long. */
#include "check.h"
#include "protobuf.h"
#include "scan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BAD (-1000)
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

struct text {
    uint8_t bytes[1 << 16];
    size_t length;
};

static void byte(struct text *t, unsigned value)
{
    if (t->length < sizeof t->bytes) t->bytes[t->length++] = (uint8_t)value;
}

static void varint(struct text *t, uint64_t value)
{
    while (value > 0x7f) {
        byte(t, (unsigned)(value & 0x7f) | 0x80);
        value >>= 7;
    }
    byte(t, (unsigned)value);
}

static void grow(struct text *t, unsigned depth);

static void block(struct text *t, const struct text *inner)
{
    varint(t, inner->length);
    for (size_t i = 0; i < inner->length; i++) byte(t, inner->bytes[i]);
}

static void one(struct text *t, unsigned depth)
{
    static const unsigned wires[] = {0, 0, 1, 2, 2, 2, 2, 2, 3, 5};
    static const char *words[] = {"", "a", "\"\\\n", "0123456789abcdef", "\xc3\xa9\xf0\x9f\x98\x80", "\xff", "$url", "\x7f"};
    unsigned number = 1 + below(9), wire = wires[below(10)];
    varint(t, number << 3 | wire);
    if (wire == 0) {
        varint(t, below(2) ? below(3) : (uint64_t)below(1u << 31) << below(34));
    } else if (wire == 1 || wire == 5) {
        for (unsigned i = 0; i < (wire == 1 ? 8 : 4); i++) byte(t, below(256));
    } else if (wire == 3) {
        if (depth) grow(t, depth - 1);
        varint(t, number << 3 | 4);
    } else if (depth && below(3)) {
        struct text *inner = malloc(sizeof *inner);
        inner->length = 0;
        grow(inner, depth - 1);
        block(t, inner);
        free(inner);
    } else {
        const char *word = words[below(8)];
        varint(t, strlen(word));
        while (*word) byte(t, (uint8_t)*word++);
    }
}

static void grow(struct text *t, unsigned depth)
{
    for (unsigned i = below(4); i; i--) one(t, depth);
}

/* returns  how long the text is, or less the code; BAD where a promise was broken */
static int64_t wrote(const uint8_t *data, size_t length, int is_identify)
{
    uint8_t *exact = malloc(length ? length : 1), *out;
    size_t room = pugd_protobuf_room(length);
    out = malloc(room);
    memcpy(exact, data, length);
    int64_t found = is_identify ? pugd_protobuf_identify(exact, length, out, room)
                                : pugd_protobuf_events(exact, length, out, room);
    MUST(found > 0 || (found < 0 && found > -PUGD_PROTOBUF_TOO_MANY));
    if (found > 0) MUST((pugd_scan(out, (size_t)found, 7) & 0xff) == PUGD_SCAN_STORABLE);
    /* In less room it says so, and writes nothing beyond. */
    size_t less = below((unsigned)room);
    uint8_t *small = malloc(less ? less : 1);
    int64_t told = is_identify ? pugd_protobuf_identify(exact, length, small, less)
                               : pugd_protobuf_events(exact, length, small, less);
    MUST(told == found || told == -PUGD_PROTOBUF_NO_ROOM);
    free(small);
    free(out);
    free(exact);
    return found;
}

static int64_t cut(const uint8_t *data, size_t length)
{
    enum { FIELDS = 9, EVENTS = 2, BYTES = 8 };
    size_t room = 3 * (2 * length / BYTES + FIELDS / EVENTS + 2);
    uint8_t *exact = malloc(length ? length : 1);
    uint64_t *cuts = malloc(room * sizeof *cuts), at = 0;
    memcpy(exact, data, length);
    int64_t found = pugd_protobuf_cuts(exact, length, FIELDS, EVENTS, BYTES, cuts, room);
    MUST(found > 0 || (found < 0 && found >= -PUGD_PROTOBUF_TOO_MANY));
    for (int64_t i = 0; i < found; i++) {
        MUST(cuts[3 * i] == at && cuts[3 * i + 1] >= at && cuts[3 * i + 2] <= EVENTS);
        at = cuts[3 * i + 1];
    }
    MUST(found < 0 || at == length);
    free(cuts);
    free(exact);
    return found;
}

/* A Struct with so many within it. */
static size_t nest(uint8_t *out, size_t room, unsigned depth)
{
    size_t length = 0;
    for (unsigned i = 0; i < depth && length + 32 < room; i++) {
        /* It is value 5, which is value 2 of member 1 of the next. */
        uint8_t head[32];
        struct text t = {.length = 0};
        for (unsigned tag = 0; tag < 3; tag++) {
            static const unsigned tags[] = {5 << 3 | 2, 2 << 3 | 2, 1 << 3 | 2};
            t.length = 0;
            varint(&t, tags[tag]);
            varint(&t, length);
            memcpy(head, t.bytes, t.length);
            memmove(out + t.length, out, length);
            memcpy(out, head, t.length);
            length += t.length;
        }
    }
    return length;
}

int main(void)
{
    struct text *t = malloc(sizeof *t), *all = malloc(sizeof *all);
    for (int round = 0; round < 100000; round++) {
        t->length = all->length = 0;
        for (unsigned i = below(4); i; i--) {
            t->length = 0;
            grow(t, 4);
            varint(all, 1 << 3 | 2);
            block(all, t);
        }
        if (below(4) == 0) grow(all, 3);
        for (unsigned i = below(3); i && all->length; i--) all->bytes[below((unsigned)all->length)] = (uint8_t)below(256);
        if (all->length && below(4) == 0) all->length = below((unsigned)all->length);
        CHECK(wrote(all->bytes, all->length, 0) != BAD);
        CHECK(wrote(all->bytes, all->length, 1) != BAD);
        CHECK(cut(all->bytes, all->length) != BAD);
    }
    CHECK(wrote((const uint8_t *)"", 0, 0) == 2);
    CHECK(wrote((const uint8_t *)"\x0a\x00", 2, 0) == 4);
    CHECK(wrote((const uint8_t *)"\x0a\x01", 2, 0) == -PUGD_PROTOBUF_MALFORMED);

    size_t room = 1 << 20;
    uint8_t *deep = malloc(room);
    for (unsigned depth = 1; depth < 3000; depth += depth < 100 ? 1 : 1000) {
        size_t length = nest(deep, room, depth);
        t->length = 0;
        varint(t, 2 << 3 | 2);
        varint(t, length);
        for (size_t i = 0; i < length; i++) byte(t, deep[i]);
        int64_t found = wrote(t->bytes, t->length, 1);
        CHECK(depth < PUGD_PROTOBUF_DEPTH_MAX ? found > 0 : found == -PUGD_PROTOBUF_TOO_DEEP);
    }
    memset(deep, 9 << 3 | 3, room);
    CHECK(wrote(deep, room, 0) == -PUGD_PROTOBUF_TOO_DEEP);
    CHECK(cut(deep, room) == -PUGD_PROTOBUF_TOO_DEEP);
    for (size_t i = 0; i < room; i += 2) deep[i] = 0x0a, deep[i + 1] = 0;
    CHECK(wrote(deep, room, 0) == (int64_t)(room / 2 * 3 + 1));
    CHECK(cut(deep, room) == -PUGD_PROTOBUF_TOO_MANY);
    memset(deep, 1, room); /* control characters: six bytes of one */
    deep[0] = 0x0a, deep[1] = 0xfc, deep[2] = 0xff, deep[3] = 0x3f;
    CHECK(wrote(deep, room, 1) == (int64_t)(6 * (room - 4) + 18));
    free(deep);
    free(t);
    free(all);
    return 0;
}
