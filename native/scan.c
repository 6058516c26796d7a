#include "scan.h"

#include "memory.h"

#include <string.h>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#define KEYS_STACK 512    /* 4 KiB: more than the keys of any usual event and all its parents */
#define KEYS_COMPARED 64  /* an object's keys up to here are compared as they come; beyond, in a table when it closes */
#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)

struct level {
    size_t keys;     /* where this object's hashes begin */
    uint64_t filter; /* a bit for each hash's low six bits */
};

struct scan {
    const uint8_t *begin;
    const uint8_t *end;
    const uint8_t *fault;
    uint64_t seed;
    uint64_t *keys; /* hashes of the keys of every open object, outermost first */
    size_t keys_count;
    size_t keys_room;
    size_t keys_met, values_met; /* in the whole text */
    uint32_t flags;
    int code;
};

static const uint8_t *fail(struct scan *s, int code, const uint8_t *at)
{
    s->code = code;
    s->fault = at;
    return NULL;
}

/* ---- strings ---------------------------------------------------------------------------------------------------- */

/* The first byte from p that a string cannot simply hold: a quote, a backslash, below 0x20 or above 0x7f. Or `end`. */
static inline const uint8_t *plain(const uint8_t *p, const uint8_t *end)
{
#if defined(__SSE2__)
    const __m128i quote = _mm_set1_epi8('"');
    const __m128i back = _mm_set1_epi8('\\');
    const __m128i space = _mm_set1_epi8(0x20);
    while (end - p >= 16) {
        __m128i x = _mm_loadu_si128((const __m128i *)(const void *)p);
        __m128i hit = _mm_or_si128(_mm_cmpeq_epi8(x, quote), _mm_cmpeq_epi8(x, back));
        /* signed: bytes above 0x7f are negative, so one comparison finds them and the control characters */
        int mask = _mm_movemask_epi8(_mm_or_si128(hit, _mm_cmplt_epi8(x, space)));
        if (mask) return p + __builtin_ctz((unsigned)mask);
        p += 16;
    }
#else
    const uint64_t ones = 0x0101010101010101u, high = 0x8080808080808080u;
    while (end - p >= 8) {
        uint64_t x;
        memcpy(&x, p, 8);
        uint64_t q = x ^ (ones * '"'), b = x ^ (ones * '\\');
        /* a borrow may mark bytes above the first hit, never below it; the loop after this looks closely */
        if ((x | (x - ones * 0x20) | (q - ones) | (b - ones)) & high) break;
        p += 8;
    }
#endif
    while (p < end && *p != '"' && *p != '\\' && *p >= 0x20 && *p < 0x80) p++;
    return p;
}

/* Past all bytes above 0x7f from p on, whole characters only. */
static const uint8_t *wide(struct scan *s, const uint8_t *p)
{
    const uint8_t *end = s->end;
    while (p < end && *p >= 0x80) {
        uint8_t c = p[0];
        size_t left = (size_t)(end - p);
        if (c >= 0xc2 && c <= 0xdf) {
            if (left < 2 || (p[1] & 0xc0) != 0x80) return fail(s, PUGD_SCAN_UTF8, p);
            p += 2;
        } else if ((c & 0xf0) == 0xe0) {
            if (left < 3 || (p[1] & 0xc0) != 0x80 || (p[2] & 0xc0) != 0x80) return fail(s, PUGD_SCAN_UTF8, p);
            if ((c == 0xe0 && p[1] < 0xa0) || (c == 0xed && p[1] > 0x9f)) return fail(s, PUGD_SCAN_UTF8, p);
            p += 3;
        } else if (c >= 0xf0 && c <= 0xf4) {
            if (left < 4 || (p[1] & 0xc0) != 0x80 || (p[2] & 0xc0) != 0x80 || (p[3] & 0xc0) != 0x80)
                return fail(s, PUGD_SCAN_UTF8, p);
            if ((c == 0xf0 && p[1] < 0x90) || (c == 0xf4 && p[1] > 0x8f)) return fail(s, PUGD_SCAN_UTF8, p);
            p += 4;
        } else {
            return fail(s, PUGD_SCAN_UTF8, p);
        }
    }
    return p;
}

static inline int hex(uint8_t c)
{
    if (c >= '0' && c <= '9') return c - '0';
    c |= 0x20;
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return -1;
}

/* The four hexadecimal digits at p, which has at least four bytes; -1 where they are none. */
static int hex4(const uint8_t *p)
{
    int a = hex(p[0]), b = hex(p[1]), c = hex(p[2]), d = hex(p[3]);
    if ((a | b | c | d) < 0) return -1;
    return a << 12 | b << 8 | c << 4 | d;
}

/* Past the escape at p, where a backslash stands. */
static const uint8_t *escape(struct scan *s, const uint8_t *p)
{
    const uint8_t *end = s->end;
    if (end - p < 2) return fail(s, PUGD_SCAN_ENDED, end);
    switch (p[1]) {
    case '"':
    case '\\':
    case '/':
    case 'b':
    case 'f':
    case 'n':
    case 'r':
    case 't':
        return p + 2;
    case 'u':
        break;
    default:
        return fail(s, PUGD_SCAN_ESCAPE, p);
    }
    if (end - p < 6) return fail(s, PUGD_SCAN_ENDED, end);
    int unit = hex4(p + 2);
    if (unit < 0) return fail(s, PUGD_SCAN_ESCAPE, p);
    if (unit == 0) s->flags |= PUGD_SCAN_NUL;
    if ((unit & 0xf800) != 0xd800) return p + 6;
    if (unit >= 0xdc00) return fail(s, PUGD_SCAN_SURROGATE, p);
    if (end - p < 12) {
        /* what is there may already rule the other half out */
        if ((end - p > 6 && p[6] != '\\') || (end - p > 7 && p[7] != 'u')) return fail(s, PUGD_SCAN_SURROGATE, p);
        return fail(s, PUGD_SCAN_ENDED, end);
    }
    if (p[6] != '\\' || p[7] != 'u') return fail(s, PUGD_SCAN_SURROGATE, p);
    int low = hex4(p + 8);
    if (low < 0) return fail(s, PUGD_SCAN_ESCAPE, p + 6);
    if ((low & 0xfc00) != 0xdc00) return fail(s, PUGD_SCAN_SURROGATE, p);
    return p + 12;
}

/* The closing quote of the string whose content begins at p. */
static inline const uint8_t *string(struct scan *s, const uint8_t *p, int *escaped)
{
    for (;;) {
        p = plain(p, s->end);
        if (UNLIKELY(p == s->end)) return fail(s, PUGD_SCAN_ENDED, p);
        if (LIKELY(*p == '"')) return p;
        if (*p == '\\') {
            *escaped = 1;
            p = escape(s, p);
        } else if (*p < 0x20) {
            return fail(s, PUGD_SCAN_CONTROL, p);
        } else {
            p = wide(s, p);
        }
        if (!p) return NULL;
    }
}

/* ---- numbers ---------------------------------------------------------------------------------------------------- */

/* 2^1024 - 2^970, half a step above the largest double: what is not below it rounds to infinity. */
static const char infinite[] =
    "1797693134862315807937289714053034150799341327100378269361737789804449682927647509466490179775872070"
    "9633028641669288791094655554785194040263065748867150582068190890200070838367627385484581771153176447"
    "5730270069855571366959622842914819860834936475292719074168444365510704342711559699508093042880177904"
    "174497792";

#define MAGNITUDE 309 /* digits of that number */

/* Is the number whose integer digits are whole[0..whole_length), its other digits after[0..after_length), times
 * 10^exponent, finite as a double? */
static int is_finite(const uint8_t *whole, size_t whole_length, const uint8_t *after, size_t after_length,
                     int64_t exponent)
{
    size_t digits = whole_length + after_length, first = 0;
#define DIGIT(i) ((i) < whole_length ? whole[i] : after[(i) - whole_length])
    while (first < digits && DIGIT(first) == '0') first++;
    if (first == digits) return 1; /* zero, whatever its exponent */
    /* 10^(magnitude-1) ≤ number < 10^magnitude */
    int64_t magnitude = (int64_t)whole_length - (int64_t)first + exponent;
    if (magnitude != MAGNITUDE) return magnitude < MAGNITUDE;
    for (size_t i = 0; i < MAGNITUDE; i++) {
        uint8_t digit = first + i < digits ? DIGIT(first + i) : '0';
        if (digit != (uint8_t)infinite[i]) return digit < (uint8_t)infinite[i];
    }
#undef DIGIT
    return 0;
}

static inline int is_digit(uint8_t c) { return (uint8_t)(c - '0') < 10; }

/* Past the number at p, where '-' or a digit stands. */
static const uint8_t *number(struct scan *s, const uint8_t *p)
{
    const uint8_t *end = s->end, *start = p, *whole, *after, *whole_end, *after_end;
    if (*p == '-') {
        p++;
        if (p == end) return fail(s, PUGD_SCAN_ENDED, p);
        if (*p == 'I' || *p == 'N') return fail(s, PUGD_SCAN_NOT_FINITE, start);
        if (!is_digit(*p)) return fail(s, PUGD_SCAN_NUMBER, start);
    }
    whole = p;
    p++;
    if (*whole == '0') {
        if (p < end && is_digit(*p)) return fail(s, PUGD_SCAN_LEADING_ZERO, start);
    } else {
        while (p < end && is_digit(*p)) p++;
    }
    whole_end = after = after_end = p;
    if (p == end) goto done;
    if (*p == '.') {
        p++;
        after = p;
        while (p < end && is_digit(*p)) p++;
        after_end = p;
        if (p == after) return p == end ? fail(s, PUGD_SCAN_ENDED, p) : fail(s, PUGD_SCAN_NUMBER, start);
    }
    if (p < end && (*p | 0x20) == 'e') {
        int64_t exponent = 0;
        int negative = 0;
        p++;
        if (p < end && (*p == '+' || *p == '-')) {
            negative = *p == '-';
            p++;
        }
        if (p == end) return fail(s, PUGD_SCAN_ENDED, p);
        if (!is_digit(*p)) return fail(s, PUGD_SCAN_NUMBER, start);
        /* bounded far beyond the digits that any text may have, so that it can neither overflow nor be made up for */
        for (; p < end && is_digit(*p); p++)
            if (exponent < INT64_C(1) << 56) exponent = exponent * 10 + (*p - '0');
        if (negative) exponent = -exponent;
        if (exponent + (whole_end - whole) >= MAGNITUDE &&
            !is_finite(whole, (size_t)(whole_end - whole), after, (size_t)(after_end - after), exponent))
            return fail(s, PUGD_SCAN_NOT_FINITE, start);
        return p;
    }
done:
    if (UNLIKELY(whole_end - whole >= MAGNITUDE) &&
        !is_finite(whole, (size_t)(whole_end - whole), after, (size_t)(after_end - after), 0))
        return fail(s, PUGD_SCAN_NOT_FINITE, start);
    return p;
}

/* ---- keys ------------------------------------------------------------------------------------------------------- */

static inline uint64_t mix(uint64_t a, uint64_t b)
{
    __uint128_t m = (__uint128_t)a * b;
    return (uint64_t)m ^ (uint64_t)(m >> 64);
}

/* A keyed hash of the key's bytes: multiply and fold, sixteen bytes a step, the last step padded with zeros and the
 * length mixed in. `readable` bytes from key on may be read. */
static inline uint64_t hash(const uint8_t *key, size_t length, size_t readable, uint64_t seed)
{
    uint64_t a, b, h = seed ^ length * UINT64_C(0x9e3779b97f4a7c15);
    while (UNLIKELY(length > 16)) {
        memcpy(&a, key, 8);
        memcpy(&b, key + 8, 8);
        h = mix(a ^ h, b ^ UINT64_C(0xe7037ed1a0b428db));
        key += 16;
        length -= 16;
        readable -= 16;
    }
    if (LIKELY(readable >= 16)) {
        memcpy(&a, key, 8);
        memcpy(&b, key + 8, 8);
        /* keep `length` bytes of the sixteen */
        if (length < 8) {
            a &= (UINT64_C(1) << (8 * length)) - 1;
            b = 0;
        } else if (length < 16) {
            b &= (UINT64_C(1) << (8 * (length - 8))) - 1;
        }
    } else {
        uint8_t last[16] = {0};
        memcpy(last, key, length);
        memcpy(&a, last, 8);
        memcpy(&b, last + 8, 8);
    }
    return mix(mix(a ^ h, b ^ UINT64_C(0x8ebc6af09c88c6e3)), seed ^ UINT64_C(0x589965cc75374cc3));
}

/* A valid string's content with its escapes resolved, to `out`, which has as much room. returns its length. */
static size_t unescape(const uint8_t *p, const uint8_t *end, uint8_t *out)
{
    uint8_t *o = out;
    while (p < end) {
        if (*p != '\\') {
            *o++ = *p++;
            continue;
        }
        uint32_t c = p[1];
        p += 2;
        switch (c) {
        case 'b': c = '\b'; break;
        case 'f': c = '\f'; break;
        case 'n': c = '\n'; break;
        case 'r': c = '\r'; break;
        case 't': c = '\t'; break;
        case 'u':
            c = (uint32_t)hex4(p);
            p += 4;
            if ((c & 0xf800) == 0xd800) {
                c = 0x10000 + ((c & 0x3ff) << 10) + ((uint32_t)hex4(p + 2) & 0x3ff);
                p += 6;
            }
            break;
        default: break;
        }
        if (c < 0x80) {
            *o++ = (uint8_t)c;
        } else if (c < 0x800) {
            *o++ = (uint8_t)(0xc0 | c >> 6);
            *o++ = (uint8_t)(0x80 | (c & 0x3f));
        } else if (c < 0x10000) {
            *o++ = (uint8_t)(0xe0 | c >> 12);
            *o++ = (uint8_t)(0x80 | (c >> 6 & 0x3f));
            *o++ = (uint8_t)(0x80 | (c & 0x3f));
        } else {
            *o++ = (uint8_t)(0xf0 | c >> 18);
            *o++ = (uint8_t)(0x80 | (c >> 12 & 0x3f));
            *o++ = (uint8_t)(0x80 | (c >> 6 & 0x3f));
            *o++ = (uint8_t)(0x80 | (c & 0x3f));
        }
    }
    return (size_t)(o - out);
}

static int hash_escaped(struct scan *s, const uint8_t *key, size_t length, uint64_t *out)
{
    uint8_t small[256], *text = small;
    if (length > sizeof small) {
        text = pugd_malloc(length);
        if (!text) return -1;
    }
    size_t n = unescape(key, key + length, text);
    *out = hash(text, n, n, s->seed);
    if (text != small) pugd_free(text);
    return 0;
}

static int keys_grow(struct scan *s, uint64_t *stack)
{
    size_t room = s->keys_room * 2;
    uint64_t *keys = pugd_realloc(s->keys == stack ? NULL : s->keys, room * sizeof *keys);
    if (!keys) return -1;
    if (s->keys == stack) memcpy(keys, stack, s->keys_count * sizeof *keys);
    s->keys = keys;
    s->keys_room = room;
    return 0;
}

/* Are two of the hashes equal? In a table of twice their number, for objects with many keys. -1 without memory. */
static int any_equal(const uint64_t *keys, size_t count)
{
    size_t room = 256;
    while (room < count * 2) room *= 2;
    uint64_t *table = pugd_calloc(room, sizeof *table);
    if (!table) return -1;
    int zero = 0, found = 0;
    for (size_t i = 0; i < count && !found; i++) {
        uint64_t h = keys[i];
        if (h == 0) { /* 0 marks a free place */
            found = zero;
            zero = 1;
            continue;
        }
        size_t slot = h >> 20 & (room - 1);
        while (table[slot] && table[slot] != h) slot = (slot + 1) & (room - 1);
        found = table[slot] == h;
        table[slot] = h;
    }
    pugd_free(table);
    return found;
}

/* ---- structure -------------------------------------------------------------------------------------------------- */

static inline const uint8_t *skip_white(const uint8_t *p, const uint8_t *end)
{
    while (p < end && *p <= 0x20 && (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t')) p++;
    return p;
}

/* Past the rest of a word that begins as `word`; p is where its first letter stands. */
static const uint8_t *literal(struct scan *s, const uint8_t *p, const char *word, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        if (p + i == s->end) return fail(s, PUGD_SCAN_ENDED, s->end);
        if (p[i] != (uint8_t)word[i]) return fail(s, PUGD_SCAN_UNEXPECTED, p);
    }
    return p + length;
}

static void walk(struct scan *s, uint64_t *stack)
{
    struct level levels[PUGD_SCAN_DEPTH_MAX + 1];
    uint64_t objects = 0; /* bit d - 1: what is open at depth d is an object */
    unsigned depth = 0;
    const uint8_t *p = skip_white(s->begin, s->end), *end = s->end;
    if (p == end) {
        fail(s, PUGD_SCAN_EMPTY, p);
        return;
    }
    if (end - p >= 3 && p[0] == 0xef && p[1] == 0xbb && p[2] == 0xbf) {
        fail(s, PUGD_SCAN_MARK, p);
        return;
    }
    if (*p == '{') s->flags |= PUGD_SCAN_OBJECT;

value: /* p is where a value must begin; white space is behind */
    if (UNLIKELY(p == end)) goto ended;
    s->values_met++;
    switch (*p) {
    case '"': {
        int escaped;
        p = string(s, p + 1, &escaped);
        if (UNLIKELY(!p)) return;
        p++;
        break;
    }
    case '{':
        if (depth == PUGD_SCAN_DEPTH_MAX) {
            fail(s, PUGD_SCAN_TOO_DEEP, p);
            return;
        }
        objects |= UINT64_C(1) << depth;
        depth++;
        levels[depth].keys = s->keys_count;
        levels[depth].filter = 0;
        p = skip_white(p + 1, end);
        if (UNLIKELY(p == end)) goto ended;
        if (*p != '}') goto key;
        depth--;
        p++;
        break;
    case '[':
        if (depth == PUGD_SCAN_DEPTH_MAX) {
            fail(s, PUGD_SCAN_TOO_DEEP, p);
            return;
        }
        objects &= ~(UINT64_C(1) << depth);
        depth++;
        p = skip_white(p + 1, end);
        if (UNLIKELY(p == end)) goto ended;
        if (*p != ']') goto value;
        depth--;
        p++;
        break;
    case 't':
        p = literal(s, p, "true", 4);
        if (UNLIKELY(!p)) return;
        break;
    case 'f':
        p = literal(s, p, "false", 5);
        if (UNLIKELY(!p)) return;
        break;
    case 'n':
        p = literal(s, p, "null", 4);
        if (UNLIKELY(!p)) return;
        break;
    case '-':
    case '0':
    case '1':
    case '2':
    case '3':
    case '4':
    case '5':
    case '6':
    case '7':
    case '8':
    case '9':
        p = number(s, p);
        if (UNLIKELY(!p)) return;
        break;
    case 'N':
    case 'I':
        fail(s, PUGD_SCAN_NOT_FINITE, p);
        return;
    case '+':
    case '.':
        fail(s, PUGD_SCAN_NUMBER, p);
        return;
    default:
        fail(s, *p >= 0x80 && !wide(s, p) ? PUGD_SCAN_UTF8 : PUGD_SCAN_UNEXPECTED, p);
        return;
    }

after: /* p is behind a value */
    p = skip_white(p, end);
    if (depth == 0) {
        if (p != end) fail(s, PUGD_SCAN_TRAILING, p);
        return;
    }
    if (UNLIKELY(p == end)) goto ended;
    if (objects >> (depth - 1) & 1) {
        if (*p == ',') {
            p = skip_white(p + 1, end);
            if (UNLIKELY(p == end)) goto ended;
            goto key;
        }
        if (UNLIKELY(*p != '}')) goto unexpected;
        size_t first = levels[depth].keys, count = s->keys_count - first;
        if (UNLIKELY(count > KEYS_COMPARED) && !(s->flags & PUGD_SCAN_DUPLICATE_KEYS)) {
            int found = any_equal(s->keys + first, count);
            if (found < 0) goto memory;
            if (found) s->flags |= PUGD_SCAN_DUPLICATE_KEYS;
        }
        s->keys_count = first;
    } else {
        if (*p == ',') {
            p = skip_white(p + 1, end);
            goto value;
        }
        if (UNLIKELY(*p != ']')) goto unexpected;
    }
    depth--;
    p++;
    goto after;

key: /* p is where a key must begin; p < end */
    if (UNLIKELY(*p != '"')) {
        fail(s, *p >= 0x80 && !wide(s, p) ? PUGD_SCAN_UTF8 : PUGD_SCAN_KEY, p);
        return;
    }
    {
        const uint8_t *text = p + 1;
        int escaped = 0;
        uint64_t h;
        p = string(s, text, &escaped);
        if (UNLIKELY(!p)) return;
        if (UNLIKELY(escaped)) {
            if (hash_escaped(s, text, (size_t)(p - text), &h)) goto memory;
        } else {
            h = hash(text, (size_t)(p - text), (size_t)(end - text), s->seed);
        }
        struct level *level = &levels[depth];
        uint64_t bit = UINT64_C(1) << (h & 63);
        if (UNLIKELY(level->filter & bit) && s->keys_count - level->keys < KEYS_COMPARED)
            for (size_t i = level->keys; i < s->keys_count; i++)
                if (s->keys[i] == h) s->flags |= PUGD_SCAN_DUPLICATE_KEYS;
        level->filter |= bit;
        if (UNLIKELY(s->keys_count == s->keys_room) && keys_grow(s, stack)) goto memory;
        s->keys[s->keys_count++] = h;
        s->keys_met++;
    }
    p = skip_white(p + 1, end);
    if (UNLIKELY(p == end)) goto ended;
    if (UNLIKELY(*p != ':')) goto unexpected;
    p = skip_white(p + 1, end);
    goto value;

unexpected:
    fail(s, *p >= 0x80 && !wide(s, p) ? PUGD_SCAN_UTF8 : PUGD_SCAN_UNEXPECTED, p);
    return;
ended:
    fail(s, PUGD_SCAN_ENDED, end);
    return;
memory:
    fail(s, PUGD_SCAN_MEMORY, p);
}

uint64_t pugd_scan(const uint8_t *data, size_t length, uint64_t seed)
{
    uint64_t stack[KEYS_STACK];
    struct scan s = {
        .begin = data,
        .end = data + length,
        .fault = data,
        .seed = seed,
        .keys = stack,
        .keys_room = KEYS_STACK,
    };
    walk(&s, stack);
    if (s.keys != stack) pugd_free(s.keys);
    if (s.keys_met > PUGD_SCAN_MANY_KEYS || s.values_met > PUGD_SCAN_MANY_VALUES) s.flags |= PUGD_SCAN_MANY;
    return (uint64_t)(s.fault - data) << 16 | s.flags | (uint64_t)s.code;
}
