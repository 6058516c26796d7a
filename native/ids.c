#include "ids.h"

#include "memory.h"

#include <string.h>

/* ---- the hash ---- */

static inline uint64_t load64(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, 8);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    v = __builtin_bswap64(v);
#endif
    return v;
}

static inline uint64_t rotate(uint64_t v, int bits) { return (v << bits) | (v >> (64 - bits)); }

struct sip {
    uint64_t v0, v1, v2, v3;
};

static inline void sip_round(struct sip *s)
{
    s->v0 += s->v1;
    s->v1 = rotate(s->v1, 13) ^ s->v0;
    s->v0 = rotate(s->v0, 32);
    s->v2 += s->v3;
    s->v3 = rotate(s->v3, 16) ^ s->v2;
    s->v0 += s->v3;
    s->v3 = rotate(s->v3, 21) ^ s->v0;
    s->v2 += s->v1;
    s->v1 = rotate(s->v1, 17) ^ s->v2;
    s->v2 = rotate(s->v2, 32);
}

static inline void sip_word(struct sip *s, uint64_t word)
{
    s->v3 ^= word;
    sip_round(s);
    sip_round(s);
    s->v0 ^= word;
}

static inline struct sip sip_begin(const struct pugd_key *key)
{
    return (struct sip){key->k0 ^ 0x736f6d6570736575u, key->k1 ^ 0x646f72616e646f6du, key->k0 ^ 0x6c7967656e657261u,
                        key->k1 ^ 0x7465646279746573u};
}

/* The last words: whole ones of text, then what is left of it above the total length. */
static inline uint64_t sip_end(struct sip *s, const uint8_t *text, size_t length, size_t total)
{
    while (length >= 8) {
        sip_word(s, load64(text));
        text += 8;
        length -= 8;
    }
    uint64_t last = (uint64_t)total << 56;
    for (size_t i = 0; i < length; i++) last |= (uint64_t)text[i] << (8 * i);
    sip_word(s, last);
    s->v2 ^= 0xff;
    for (int i = 0; i < 4; i++) sip_round(s);
    return s->v0 ^ s->v1 ^ s->v2 ^ s->v3;
}

struct pugd_key pugd_key_read(const uint8_t bytes[16]) { return (struct pugd_key){load64(bytes), load64(bytes + 8)}; }

uint64_t pugd_siphash(const struct pugd_key *key, const uint8_t *data, size_t length)
{
    struct sip s = sip_begin(key);
    return sip_end(&s, data, length, length);
}

uint64_t pugd_siphash_project(const struct pugd_key *key, uint32_t project, const uint8_t *text, size_t length)
{
    struct sip s = sip_begin(key);
    uint8_t first[8] = {(uint8_t)project, (uint8_t)(project >> 8), (uint8_t)(project >> 16), (uint8_t)(project >> 24)};
    if (length < 4) {
        if (length) memcpy(first + 4, text, length);
        return sip_end(&s, first, 4 + length, 4 + length);
    }
    memcpy(first + 4, text, 4);
    sip_word(&s, load64(first));
    return sip_end(&s, text + 4, length - 4, 4 + length);
}

/* ---- the index ---- */

#define TABLES (1u << PUGD_IDS_TABLES_BITS)
#define SEGMENTS (1u << (31 - PUGD_IDS_SEGMENT_BITS))

static inline uint64_t mix(uint64_t actor) { return actor * 0x9e3779b97f4a7c15u; }

static inline struct pugd_ids_table *table_of(const struct pugd_ids *ids, uint64_t h)
{
    return &ids->table[h >> (64 - PUGD_IDS_TABLES_BITS)];
}

static inline uint32_t tag_of(uint64_t h) { return (uint32_t)(h >> (32 - PUGD_IDS_TABLES_BITS)); }

static inline uint32_t line_of(uint32_t tag, uint32_t lines) { return (uint32_t)((uint64_t)tag * lines >> 32); }

int pugd_ids_open(struct pugd_ids *ids)
{
    ids->count = 0;
    ids->bytes = TABLES * sizeof *ids->table + SEGMENTS * sizeof *ids->segment;
    ids->table = pugd_calloc(TABLES, sizeof *ids->table);
    ids->segment = pugd_calloc(SEGMENTS, sizeof *ids->segment);
    if (ids->table && ids->segment) return 0;
    pugd_free(ids->table);
    pugd_free(ids->segment);
    memset(ids, 0, sizeof *ids);
    return -1;
}

void pugd_ids_close(struct pugd_ids *ids)
{
    if (!ids->table) return;
    for (uint32_t i = 0; i < TABLES; i++) pugd_free(ids->table[i].memory);
    for (uint32_t i = 0; i < SEGMENTS && ids->segment[i]; i++) pugd_free(ids->segment[i]);
    pugd_free(ids->table);
    pugd_free(ids->segment);
    memset(ids, 0, sizeof *ids);
}

void pugd_ids_prefetch(const struct pugd_ids *ids, uint64_t actor)
{
    uint64_t h = mix(actor);
    const struct pugd_ids_table *t = table_of(ids, h);
    if (t->lines) __builtin_prefetch(&t->line[line_of(tag_of(h), t->lines)]);
}

/* Places of a line whose tag is this one and which are taken, as bits. */
static inline uint32_t line_match(const struct pugd_ids_line *line, uint32_t tag)
{
    uint32_t bits = 0;
    for (int i = 0; i < 8; i++) bits |= (uint32_t)(line->tag[i] == tag && line->handle[i] != 0) << i;
    return bits;
}

uint32_t pugd_ids_guess(const struct pugd_ids *ids, uint64_t actor)
{
    uint64_t h = mix(actor);
    const struct pugd_ids_table *t = table_of(ids, h);
    if (!t->lines) return 0;
    uint32_t tag = tag_of(h), at = line_of(tag, t->lines);
    for (;;) {
        const struct pugd_ids_line *line = &t->line[at];
        uint32_t bits = line_match(line, tag);
        if (bits) return line->handle[__builtin_ctz(bits)];
        if (!line->handle[7]) return 0;
        if (++at == t->lines) at = 0;
    }
}

uint32_t pugd_ids_find(const struct pugd_ids *ids, uint64_t actor)
{
    uint64_t h = mix(actor);
    const struct pugd_ids_table *t = table_of(ids, h);
    if (!t->lines) return 0;
    uint32_t tag = tag_of(h), at = line_of(tag, t->lines);
    for (;;) {
        const struct pugd_ids_line *line = &t->line[at];
        for (uint32_t bits = line_match(line, tag); bits; bits &= bits - 1) {
            uint32_t handle = line->handle[__builtin_ctz(bits)];
            if (pugd_ids_at(ids, handle)->actor == actor) return handle;
        }
        if (!line->handle[7]) return 0;
        if (++at == t->lines) at = 0;
    }
}

static inline void table_put(struct pugd_ids_table *t, uint32_t tag, uint32_t handle)
{
    uint32_t at = line_of(tag, t->lines);
    while (t->line[at].handle[7])
        if (++at == t->lines) at = 0;
    struct pugd_ids_line *line = &t->line[at];
    int i = 0;
    while (line->handle[i]) i++;
    line->tag[i] = tag;
    line->handle[i] = handle;
    t->used += 1;
}

static int table_grow(struct pugd_ids *ids, struct pugd_ids_table *t, uint32_t lines)
{
    void *memory = pugd_calloc(1, (size_t)lines * 64 + 63);
    if (!memory) return -1;
    struct pugd_ids_table fresh = {.memory = memory, .lines = lines};
    fresh.line = (struct pugd_ids_line *)(((uintptr_t)memory + 63) & ~(uintptr_t)63);
    for (uint32_t at = 0; at < t->lines; at++)
        for (int i = 0; i < 8 && t->line[at].handle[i]; i++)
            table_put(&fresh, t->line[at].tag[i], t->line[at].handle[i]);
    ids->bytes += (uint64_t)(lines - t->lines) * 64 + (t->memory ? 0 : 63);
    pugd_free(t->memory);
    *t = fresh;
    return 0;
}

int pugd_ids_reserve(struct pugd_ids *ids, uint64_t actor)
{
    if (ids->count >= PUGD_IDS_MAX - 2) return -1;
    for (uint32_t handle = ids->count + 1; handle <= ids->count + 2; handle++) {
        struct pugd_id **segment = &ids->segment[handle >> PUGD_IDS_SEGMENT_BITS];
        if (*segment) continue;
        *segment = pugd_calloc(PUGD_IDS_SEGMENT, sizeof **segment);
        if (!*segment) return -1;
        ids->bytes += PUGD_IDS_SEGMENT * sizeof **segment;
    }
    struct pugd_ids_table *t = table_of(ids, mix(actor));
    if (t->used + 2 <= t->lines * 7) return 0;
    return table_grow(ids, t, t->lines + t->lines / 4 + 1);
}

uint32_t pugd_ids_put(struct pugd_ids *ids, uint64_t actor)
{
    uint64_t h = mix(actor);
    uint32_t handle = ++ids->count;
    *pugd_ids_at(ids, handle) = (struct pugd_id){.actor = actor, .person = handle, .next = handle};
    table_put(table_of(ids, h), tag_of(h), handle);
    return handle;
}

int pugd_ids_expect(struct pugd_ids *ids, uint32_t count)
{
    uint32_t lines = count / TABLES * 8 / 7 / 8 + 1; /* about full; tables above the mean grow once more */
    for (uint32_t i = 0; i < TABLES; i++)
        if (ids->table[i].lines < lines && table_grow(ids, &ids->table[i], lines)) return -1;
    return 0;
}
