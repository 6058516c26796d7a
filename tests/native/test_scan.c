// sources: scan.c
// define: PUGD_TEST_MEMORY
/* The scan against a plain recursive parser, over grown and then damaged texts in buffers of exactly their size, while
 * allocations fail; and over texts too deep, too wide and too long for any carelessness. */
#include "check.h"
#include "failing_memory.h"
#include "scan.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static uint64_t seed = 20261124;

static unsigned below(unsigned n) { return (unsigned)(failing_random(&seed) % n); }

/* ---- the plain parser: a NUL-terminated text, one function a rule -------------------------------------------------- */

struct plain {
    const uint8_t *p, *end;
    int duplicates, nul;
};

struct key {
    uint8_t text[4096];
    size_t length;
};

static int at(struct plain *s, char c) { return s->p < s->end && *s->p == (uint8_t)c; }

static void white(struct plain *s)
{
    while (at(s, ' ') || at(s, '\n') || at(s, '\r') || at(s, '\t')) s->p++;
}

static int put(struct key *key, uint32_t c)
{
    uint8_t *o = key->text + key->length;
    if (key->length > sizeof key->text - 4) return 0;
    if (c < 0x80) {
        o[0] = (uint8_t)c;
        key->length += 1;
    } else if (c < 0x800) {
        o[0] = (uint8_t)(0xc0 | c >> 6), o[1] = (uint8_t)(0x80 | (c & 0x3f));
        key->length += 2;
    } else if (c < 0x10000) {
        o[0] = (uint8_t)(0xe0 | c >> 12), o[1] = (uint8_t)(0x80 | (c >> 6 & 0x3f)), o[2] = (uint8_t)(0x80 | (c & 0x3f));
        key->length += 3;
    } else {
        o[0] = (uint8_t)(0xf0 | c >> 18), o[1] = (uint8_t)(0x80 | (c >> 12 & 0x3f));
        o[2] = (uint8_t)(0x80 | (c >> 6 & 0x3f)), o[3] = (uint8_t)(0x80 | (c & 0x3f));
        key->length += 4;
    }
    return 1;
}

static int unit(struct plain *s, uint32_t *out)
{
    if (s->end - s->p < 4) return 0;
    *out = 0;
    for (int i = 0; i < 4; i++) {
        const char *digits = "0123456789abcdef0123456789ABCDEF", *found = strchr(digits, *s->p);
        if (!*s->p || !found) return 0;
        *out = *out * 16 + (uint32_t)((found - digits) % 16);
        s->p++;
    }
    return 1;
}

static int character(struct plain *s, uint32_t *out)
{
    static const struct {
        uint32_t least, mask, first;
        int more;
    } forms[] = {{0, 0x7f, 0x00, 0}, {0x80, 0x1f, 0xc0, 1}, {0x800, 0x0f, 0xe0, 2}, {0x10000, 0x07, 0xf0, 3}};
    uint8_t c = *s->p;
    for (int f = 0; f < 4; f++) {
        if ((c & ~forms[f].mask & 0xff) != forms[f].first) continue;
        uint32_t code = c & forms[f].mask;
        if (s->end - s->p <= forms[f].more) return 0;
        for (int i = 1; i <= forms[f].more; i++) {
            if ((s->p[i] & 0xc0) != 0x80) return 0;
            code = code << 6 | (s->p[i] & 0x3f);
        }
        if (code < forms[f].least || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff)) return 0;
        s->p += 1 + forms[f].more;
        *out = code;
        return 1;
    }
    return 0;
}

static int text(struct plain *s, struct key *key)
{
    key->length = 0;
    if (!at(s, '"')) return 0;
    s->p++;
    while (!at(s, '"')) {
        uint32_t c;
        if (s->p >= s->end || *s->p < 0x20) return 0;
        if (*s->p != '\\') {
            if (!character(s, &c)) return 0;
        } else {
            static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
            s->p++;
            if (s->p >= s->end) return 0;
            const char *found = *s->p ? strchr(from, *s->p) : NULL;
            if (found) {
                c = (uint8_t)to[found - from];
                s->p++;
            } else {
                uint32_t low;
                if (*s->p++ != 'u' || !unit(s, &c)) return 0;
                if (c >= 0xdc00 && c <= 0xdfff) return 0;
                if (c >= 0xd800 && c <= 0xdbff) {
                    if (!at(s, '\\')) return 0;
                    s->p++;
                    if (!at(s, 'u')) return 0;
                    s->p++;
                    if (!unit(s, &low) || low < 0xdc00 || low > 0xdfff) return 0;
                    c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
                }
                if (c == 0) s->nul = 1;
            }
        }
        if (!put(key, c)) return 0;
    }
    s->p++;
    return 1;
}

static int digits(struct plain *s)
{
    const uint8_t *from = s->p;
    while (s->p < s->end && *s->p >= '0' && *s->p <= '9') s->p++;
    return s->p > from;
}

static int figure(struct plain *s)
{
    char copy[8192];
    const uint8_t *from = s->p;
    if (at(s, '-')) s->p++;
    if (at(s, '0')) {
        s->p++;
    } else if (!digits(s)) {
        return 0;
    }
    if (at(s, '.')) {
        s->p++;
        if (!digits(s)) return 0;
    }
    if (at(s, 'e') || at(s, 'E')) {
        s->p++;
        if (at(s, '+') || at(s, '-')) s->p++;
        if (!digits(s)) return 0;
    }
    memcpy(copy, from, (size_t)(s->p - from));
    copy[s->p - from] = 0;
    return !isinf(strtod(copy, NULL));
}

static int word(struct plain *s, const char *w)
{
    size_t n = strlen(w);
    if ((size_t)(s->end - s->p) < n || memcmp(s->p, w, n)) return 0;
    s->p += n;
    return 1;
}

static int value(struct plain *s, int depth)
{
    struct key ignored;
    white(s);
    if (s->p >= s->end) return 0;
    if (at(s, '"')) return text(s, &ignored);
    if (at(s, '[')) {
        if (depth == PUGD_SCAN_DEPTH_MAX) return 0;
        s->p++;
        white(s);
        if (at(s, ']')) return s->p++, 1;
        for (;;) {
            if (!value(s, depth + 1)) return 0;
            white(s);
            if (at(s, ']')) return s->p++, 1;
            if (!at(s, ',')) return 0;
            s->p++;
        }
    }
    if (at(s, '{')) {
        if (depth == PUGD_SCAN_DEPTH_MAX) return 0;
        s->p++;
        white(s);
        if (at(s, '}')) return s->p++, 1;
        struct key *keys = NULL;
        size_t count = 0;
        int good = 0;
        for (;;) {
            keys = realloc(keys, (count + 1) * sizeof *keys);
            white(s);
            if (!text(s, &keys[count])) break;
            for (size_t i = 0; i < count; i++)
                if (keys[i].length == keys[count].length && !memcmp(keys[i].text, keys[count].text, keys[i].length))
                    s->duplicates = 1;
            count++;
            white(s);
            if (!at(s, ':')) break;
            s->p++;
            if (!value(s, depth + 1)) break;
            white(s);
            if (at(s, '}')) {
                s->p++;
                good = 1;
                break;
            }
            if (!at(s, ',')) break;
            s->p++;
        }
        free(keys);
        return good;
    }
    return word(s, "true") || word(s, "false") || word(s, "null") || figure(s);
}

static int plain_scan(const uint8_t *data, size_t length, int *duplicates, int *nul)
{
    struct plain s = {data, data + length, 0, 0};
    if (!value(&s, 0)) return 0;
    white(&s);
    *duplicates = s.duplicates;
    *nul = s.nul;
    return s.p == s.end;
}

/* ---- texts -------------------------------------------------------------------------------------------------------- */

static uint8_t grown[4096];
static size_t grown_length;

static void add(const char *part)
{
    size_t n = strlen(part);
    if (grown_length + n <= sizeof grown) {
        memcpy(grown + grown_length, part, n);
        grown_length += n;
    }
}

static void grow_string(void)
{
    static const char *const parts[] = {"a",     "b",     "\\u0061", "\\n",       "\\\"", "\\\\",         "\xc3\xa4",
                                        "\\u00e4", "\\u0000", "\\ud83d\\ude00", "\xf0\x9f\x98\x80", "\\/", "\xe2\x82\xac",
                                        "some longer text without anything in it", "/", " "};
    add("\"");
    for (unsigned n = below(4); n; n--) add(parts[below(sizeof parts / sizeof *parts)]);
    add("\"");
}

static void grow_number(void)
{
    char digit[2] = "0";
    if (below(3) == 0) add("-");
    if (below(4) == 0) {
        add("0");
    } else {
        add("1");
        for (unsigned n = below(20) ? below(6) : below(400); n; n--) {
            digit[0] = (char)('0' + below(10));
            add(digit);
        }
    }
    if (below(3) == 0) {
        add(".");
        for (unsigned n = 1 + below(5); n; n--) {
            digit[0] = (char)('0' + below(10));
            add(digit);
        }
    }
    if (below(4) == 0) {
        char exponent[16];
        snprintf(exponent, sizeof exponent, "%s%s%u", below(2) ? "e" : "E", below(2) ? "" : below(2) ? "+" : "-",
                 below(3) ? below(400) : 290 + below(25));
        add(exponent);
    }
}

static void grow(int depth)
{
    static const char *const spaces[] = {"", "", "", " ", "\n\t"};
    unsigned kind = below(depth > 5 ? 5 : 8);
    add(spaces[below(5)]);
    if (kind < 2) {
        grow_string();
    } else if (kind < 4) {
        grow_number();
    } else if (kind == 4) {
        static const char *const words[] = {"true", "false", "null"};
        add(words[below(3)]);
    } else {
        int object = kind > 5;
        unsigned members = below(20) ? below(6) : below(100);
        add(object ? "{" : "[");
        for (unsigned i = 0; i < members; i++) {
            if (i) add(",");
            if (object) {
                add(spaces[below(5)]);
                if (below(2)) {
                    char name[16];
                    snprintf(name, sizeof name, "\"k%u\"", below(10) ? i : below(members));
                    add(name);
                } else {
                    grow_string();
                }
                add(spaces[below(5)]);
                add(":");
            }
            grow(depth + 1);
        }
        add(object ? "}" : "]");
    }
    add(spaces[below(5)]);
}

static void damage(void)
{
    static const uint8_t telling[] = "\"\\{}[]:,-+.eE0u \n\t\x1f\x7f\x80\xc0\xc3\xe0\xed\xa0\xf0\xf4\xff";
    for (unsigned n = 1 + below(3); n && grown_length; n--) {
        size_t place = below((unsigned)grown_length);
        uint8_t byte = below(2) ? telling[below(sizeof telling)] : (uint8_t)below(256);
        switch (below(4)) {
        case 0: grown_length = place; break;
        case 1: grown[place] = byte; break;
        case 2:
            memmove(grown + place, grown + place + 1, grown_length - place - 1);
            grown_length--;
            break;
        default:
            if (grown_length == sizeof grown) break;
            memmove(grown + place + 1, grown + place, grown_length - place);
            grown[place] = byte;
            grown_length++;
        }
    }
}

static int fuzz(unsigned rounds)
{
    unsigned storable = 0, doubled = 0;
    for (unsigned round = 0; round < rounds; round++) {
        int duplicates = 0, nul = 0;
        grown_length = 0;
        grow(0);
        if (round % 2) damage();
        uint8_t *exact = malloc(grown_length ? grown_length : 1);
        memcpy(exact, grown, grown_length);
        failing_of = round % 7 ? 0 : 500;
        uint64_t result = pugd_scan(exact, grown_length, failing_random(&seed));
        failing_of = 0;
        CHECK(failing_held == 0);
        int good = plain_scan(exact, grown_length, &duplicates, &nul);
        if ((result & 0xff) != PUGD_SCAN_MEMORY) {
            if (((result & 0xff) == PUGD_SCAN_STORABLE) != good)
                fprintf(stderr, "code %u at %u of: %.*s\n", (unsigned)(result & 0xff), (unsigned)(result >> 16),
                        (int)grown_length, grown);
            CHECK(((result & 0xff) == PUGD_SCAN_STORABLE) == good);
            CHECK(result >> 16 <= grown_length);
            if (good) {
                CHECK(!(result & PUGD_SCAN_DUPLICATE_KEYS) == !duplicates);
                CHECK(!(result & PUGD_SCAN_NUL) == !nul);
            }
        } else {
            CHECK(round % 7 == 0);
        }
        free(exact);
        storable += (unsigned)good;
        doubled += (unsigned)(good && duplicates);
    }
    CHECK(storable > rounds / 4 && storable < rounds && doubled > rounds / 100);
    return 0;
}

/* Every cut of one text, in a buffer of exactly that size: it ends too early, and nothing behind it is read. */
static int cuts(void)
{
    static const char whole[] = "{\"a\":[1.5e3,true,null,\"\\ud83d\\ude00 \xf0\x9f\x98\x80 long enough to fill sixteen\"],"
                                "\"a key of more than sixteen bytes\":{\"x\":false}}";
    for (size_t length = 1; length < sizeof whole - 1; length++) {
        uint8_t *exact = malloc(length);
        memcpy(exact, whole, length);
        uint64_t result = pugd_scan(exact, length, 1);
        unsigned code = result & 0xff;
        CHECK(code == PUGD_SCAN_ENDED || (code == PUGD_SCAN_UTF8 && exact[length - 1] >= 0x80));
        if (code == PUGD_SCAN_ENDED) CHECK(result >> 16 == length);
        free(exact);
    }
    CHECK((pugd_scan((const uint8_t *)whole, sizeof whole - 1, 1) & 0xff) == PUGD_SCAN_STORABLE);
    return 0;
}

/* Objects of many keys, around every bound of how they are compared, with and without one key twice. */
static int wide_objects(void)
{
    static const unsigned counts[] = {1, 2, 63, 64, 65, 66, 127, 128, 129, 511, 512, 513, 1024, 5000, 300000};
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
        unsigned count = counts[c];
        size_t room = (size_t)count * 16 + 64, n = 0;
        char *text = malloc(room);
        n += (size_t)snprintf(text + n, room - n, "[{\"k\":0");
        for (unsigned i = 1; i < count; i++) n += (size_t)snprintf(text + n, room - n, ",\"k%x\":0", i);
        size_t before = n;
        n += (size_t)snprintf(text + n, room - n, "}]");
        uint64_t many = count > PUGD_SCAN_MANY_KEYS ? PUGD_SCAN_MANY : 0;
        CHECK(pugd_scan((uint8_t *)text, n, seed) == (PUGD_SCAN_STORABLE | many));
        static const char *const again[] = {",\"\\u006b\":0}]", ",\"k\":0}]"};
        for (int i = 0; i < 2; i++) {
            n = before + (size_t)snprintf(text + before, room - before, "%s", again[i]);
            CHECK(pugd_scan((uint8_t *)text, n, seed) == (PUGD_SCAN_DUPLICATE_KEYS | many));
        }
        for (failing_of = 1000; failing_of; failing_of -= 100) {
            unsigned code = pugd_scan((uint8_t *)text, n, seed) & 0xff;
            CHECK(code == PUGD_SCAN_STORABLE || code == PUGD_SCAN_MEMORY);
            CHECK(failing_held == 0);
        }
        free(text);
    }
    return 0;
}

static int deep(void)
{
    size_t length = 20u << 20;
    uint8_t *text = malloc(length);
    memset(text, '[', length);
    CHECK(pugd_scan(text, length, 1) == ((uint64_t)64 << 16 | PUGD_SCAN_TOO_DEEP));
    memset(text + 64, ']', 64);
    CHECK(pugd_scan(text, 128, 1) == PUGD_SCAN_STORABLE);
    /* one number of 20 MiB */
    memset(text, '1', length);
    CHECK((pugd_scan(text, length, 1) & 0xff) == PUGD_SCAN_NOT_FINITE);
    text[1] = '.';
    CHECK(pugd_scan(text, length, 1) == PUGD_SCAN_STORABLE);
    memset(text, ' ', length);
    CHECK((pugd_scan(text, length, 1) & 0xff) == PUGD_SCAN_EMPTY);
    free(text);
    return 0;
}

int main(void) { return cuts() || wide_objects() || deep() || fuzz(60000); }
