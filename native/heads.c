#include "heads.h"

#include <string.h>

#include "memory.h"

#define DIGITS_MAX 18

struct head {
    uint64_t hash;
    uint8_t *bytes; /* what stands before the digits, and behind; NULL: none is here */
    uint32_t before, rest;
    uint64_t content_length; /* where it has no digits */
};

struct pugd_heads {
    uint64_t seed;
    uint32_t count, head_max;
    uint32_t next; /* which way goes next */
    struct head heads[];
};

struct pugd_heads *pugd_heads_new(uint32_t count, uint32_t head_max, uint64_t seed)
{
    if (count < PUGD_HEADS_WAYS || count & (count - 1)) return NULL;
    struct pugd_heads *h = pugd_calloc(1, sizeof *h + count * sizeof h->heads[0]);
    if (!h) return NULL;
    h->seed = seed;
    h->count = count;
    h->head_max = head_max;
    return h;
}

void pugd_heads_free(struct pugd_heads *h)
{
    if (!h) return;
    for (uint32_t i = 0; i < h->count; i++) pugd_free(h->heads[i].bytes);
    pugd_free(h);
}

/* A head, cut where its digits are. */
struct cut {
    const uint8_t *rest;
    size_t length;            /* of all of it */
    uint32_t before, rest_length;
    int has_digits;
    uint64_t content_length;  /* that the digits say */
    uint64_t hash;
};

static uint64_t mixed(uint64_t h, uint64_t seed, const uint8_t *bytes, size_t length)
{
    h ^= length;
    for (; length >= 8; bytes += 8, length -= 8) {
        uint64_t word;
        memcpy(&word, bytes, 8);
        __uint128_t wide = (__uint128_t)(h ^ word) * (seed | 1);
        h = (uint64_t)wide ^ (uint64_t)(wide >> 64) ^ word;
    }
    uint64_t word = 0;
    if (length) memcpy(&word, bytes, length);
    __uint128_t wide = (__uint128_t)(h ^ word) * 0xd6e8feb86659fd93u;
    return (uint64_t)wide ^ (uint64_t)(wide >> 64);
}

static int take_length(const uint8_t *line, const uint8_t *end, struct cut *c)
{
    const uint8_t *at = line + sizeof "Content-Length: " - 1;
    int digits = 0;
    c->content_length = 0;
    for (; at < end && *at >= '0' && *at <= '9'; at++) {
        if (++digits > DIGITS_MAX) return -1;
        c->content_length = c->content_length * 10 + (uint64_t)(*at - '0');
    }
    if (!digits || at == end || *at != '\r') return -1;
    c->has_digits = 1;
    c->rest = at;
    return 0;
}

/* returns  0; -1: it has no end, or its length is none */
static int cut(const struct pugd_heads *h, const uint8_t *bytes, size_t length, struct cut *c)
{
    static const char names[2][17] = {"Content-Length: ", "content-length: "};
    const uint8_t *end = bytes + (length < h->head_max ? length : h->head_max), *line = bytes;
    const uint8_t *before_end = NULL;
    *c = (struct cut){0};
    for (;;) {
        const uint8_t *next = memchr(line, '\n', (size_t)(end - line));
        if (!next) return -1;
        next++;
        if (next - line == 2 && line[0] == '\r') {
            line = next;
            break;
        }
        if (!c->has_digits && next - line > 17 && (!memcmp(line, names[0], 16) || !memcmp(line, names[1], 16))) {
            before_end = line + 16;
            if (take_length(line, next, c)) return -1;
        }
        line = next;
    }
    c->length = (size_t)(line - bytes);
    if (!c->has_digits) before_end = c->rest = line;
    c->before = (uint32_t)(before_end - bytes);
    c->rest_length = (uint32_t)(line - c->rest);
    c->hash = mixed(mixed(h->seed, h->seed, bytes, c->before), h->seed, c->rest, c->rest_length);
#ifdef PUGD_TEST_HEADS
    c->hash &= 63; /* as if many met */
#endif
    return 0;
}

static int32_t found(const struct pugd_heads *h, const uint8_t *bytes, const struct cut *c)
{
    uint32_t set = (uint32_t)c->hash & (h->count - 1) & ~(uint32_t)(PUGD_HEADS_WAYS - 1);
    for (uint32_t i = set; i < set + PUGD_HEADS_WAYS; i++) {
        const struct head *one = &h->heads[i];
        if (one->bytes && one->hash == c->hash && one->before == c->before && one->rest == c->rest_length &&
            !memcmp(one->bytes, bytes, c->before) && !memcmp(one->bytes + c->before, c->rest, c->rest_length))
            return (int32_t)i;
    }
    return -1;
}

int32_t pugd_heads_learn(struct pugd_heads *h, const uint8_t *head, size_t length, uint64_t content_length)
{
    struct cut c;
    if (cut(h, head, length, &c) || c.length != length) return -1;
    int32_t known = found(h, head, &c);
    if (known >= 0) return known;
    uint8_t *bytes = pugd_malloc((size_t)c.before + c.rest_length);
    if (!bytes) return -1;
    memcpy(bytes, head, c.before);
    memcpy(bytes + c.before, c.rest, c.rest_length);
    uint32_t way = (uint32_t)c.hash & (h->count - 1) & ~(uint32_t)(PUGD_HEADS_WAYS - 1), last = way + PUGD_HEADS_WAYS;
    while (way < last && h->heads[way].bytes) way++;
    if (way == last) way -= 1 + h->next++ % PUGD_HEADS_WAYS;
    pugd_free(h->heads[way].bytes);
    h->heads[way] = (struct head){c.hash, bytes, c.before, c.rest_length, c.has_digits ? 0 : content_length};
    return (int32_t)way;
}

int32_t pugd_heads_find(const struct pugd_heads *h, const uint8_t *bytes, size_t length, uint32_t *body)
{
    struct cut c;
    if (cut(h, bytes, length, &c)) return -1;
    size_t left = length - c.length;
    if (c.has_digits && c.content_length != left) return -1;
    int32_t known = found(h, bytes, &c);
    if (known < 0 || (!c.has_digits && h->heads[known].content_length != left)) return -1;
    *body = (uint32_t)c.length;
    return known;
}
