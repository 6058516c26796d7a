#include "ids.h"

#include "memory.h"

#include <string.h>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#define SEGMENTS (1u << (31 - PUGD_IDS_SEGMENT_BITS))
#define UNIT_LINES_BITS 7
#define UNIT_LINES (1u << UNIT_LINES_BITS)
#define CHUNK_UNITS_BITS 8
#define CHUNK_UNITS (1u << CHUNK_UNITS_BITS)
#define CHUNKS (1u << 14) /* 2³¹ ids at the least load */
#define GROUP_UNITS_MAX 4
#define BITS_MAX 24 /* more than 2³¹ ids need */

_Static_assert(UNIT_LINES * CHUNK_UNITS * sizeof(struct pugd_ids_line) == PUGD_PAGES_CHUNK, "units fill a chunk");
_Static_assert(2 * PUGD_IDS_SEGMENT * sizeof(struct pugd_id) == PUGD_PAGES_CHUNK, "a segment fills a chunk");
_Static_assert(sizeof(struct pugd_ids_group) == 20, "five words");

static inline uint64_t mix(uint64_t actor) { return actor * 0x9e3779b97f4a7c15u; }

static inline uint32_t tag_of(uint64_t h) { return (uint32_t)(h >> 32); }

static inline struct pugd_ids_group *group_of(const struct pugd_ids *ids, uint32_t tag)
{
    return &ids->directory[tag >> (32 - ids->bits)];
}

static inline uint32_t line_of(const struct pugd_ids_group *g, uint32_t tag)
{
    return (uint32_t)((uint64_t)(uint32_t)(tag << g->depth) * (g->units * UNIT_LINES) >> 32);
}

static inline struct pugd_ids_line *line_at(const struct pugd_ids *ids, const struct pugd_ids_group *g, uint32_t at)
{
    uint32_t unit = g->unit[at >> UNIT_LINES_BITS];
    struct pugd_ids_line *lines = (struct pugd_ids_line *)ids->chunk[unit >> CHUNK_UNITS_BITS];
    return lines + ((unit & (CHUNK_UNITS - 1)) << UNIT_LINES_BITS) + (at & (UNIT_LINES - 1));
}

static inline struct pugd_ids_line *line_next(const struct pugd_ids *ids, const struct pugd_ids_group *g, uint32_t *at)
{
    if (++*at == g->units * UNIT_LINES) *at = 0;
    return line_at(ids, g, *at);
}

/* Places of a line whose tag is this one and which are taken, as bits. */
static inline uint32_t line_match(const struct pugd_ids_line *line, uint32_t tag)
{
#ifdef __SSE2__
    __m128i want = _mm_set1_epi32((int)tag), none = _mm_setzero_si128();
    const __m128i *tags = (const __m128i *)line->tag, *handles = (const __m128i *)line->handle;
    __m128i low = _mm_andnot_si128(_mm_cmpeq_epi32(handles[0], none), _mm_cmpeq_epi32(tags[0], want));
    __m128i high = _mm_andnot_si128(_mm_cmpeq_epi32(handles[1], none), _mm_cmpeq_epi32(tags[1], want));
    return (uint32_t)_mm_movemask_ps(_mm_castsi128_ps(low)) | (uint32_t)_mm_movemask_ps(_mm_castsi128_ps(high)) << 4;
#else
    uint32_t bits = 0;
    for (int i = 0; i < 8; i++) bits |= (uint32_t)(line->tag[i] == tag && line->handle[i] != 0) << i;
    return bits;
#endif
}

/* How many places of a line are taken; it is not full. */
static inline uint32_t line_used(const struct pugd_ids_line *line)
{
#ifdef __SSE2__
    const __m128i *handles = (const __m128i *)line->handle;
    __m128i none = _mm_setzero_si128();
    uint32_t low = (uint32_t)_mm_movemask_ps(_mm_castsi128_ps(_mm_cmpeq_epi32(handles[0], none)));
    uint32_t high = (uint32_t)_mm_movemask_ps(_mm_castsi128_ps(_mm_cmpeq_epi32(handles[1], none)));
    return (uint32_t)__builtin_ctz(low | high << 4);
#else
    uint32_t i = 0;
    while (line->handle[i]) i++;
    return i;
#endif
}

uint32_t pugd_ids_find(const struct pugd_ids *ids, uint64_t actor)
{
    uint32_t tag = tag_of(mix(actor));
    const struct pugd_ids_group *g = group_of(ids, tag);
    uint32_t at = line_of(g, tag);
    for (const struct pugd_ids_line *line = line_at(ids, g, at);; line = line_next(ids, g, &at)) {
        for (uint32_t bits = line_match(line, tag); bits; bits &= bits - 1) {
            uint32_t handle = line->handle[__builtin_ctz(bits)];
            if (pugd_ids_at(ids, handle)->actor == actor) return handle;
        }
        if (!line->handle[7]) return 0;
    }
}

void pugd_ids_find_many(const struct pugd_ids *ids, const uint64_t *actors, uint32_t count, uint32_t *handles)
{
    const struct pugd_ids_line *home[PUGD_IDS_BLOCK];
    uint8_t full[PUGD_IDS_BLOCK];
    uint32_t fulls = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t tag = tag_of(mix(actors[i]));
        const struct pugd_ids_group *g = group_of(ids, tag);
        home[i] = line_at(ids, g, line_of(g, tag));
        __builtin_prefetch(home[i]);
    }
    for (uint32_t i = 0; i < count; i++) {
        uint32_t bits = line_match(home[i], tag_of(mix(actors[i])));
        handles[i] = bits ? home[i]->handle[__builtin_ctz(bits)] : 0;
        if (handles[i]) {
            __builtin_prefetch(pugd_ids_at(ids, handles[i]));
        } else if (home[i]->handle[7]) {
            __builtin_prefetch(home[i] + 1); /* nearly always the line that the search goes on with */
            full[fulls++] = (uint8_t)i;
        }
    }
    for (uint32_t k = 0; k < fulls; k++) handles[full[k]] = pugd_ids_find(ids, actors[full[k]]);
    for (uint32_t i = 0; i < count; i++) /* another actor may have the same tag */
        if (handles[i] && pugd_ids_at(ids, handles[i])->actor != actors[i]) handles[i] = pugd_ids_find(ids, actors[i]);
}

static inline uint32_t capacity(const struct pugd_ids_group *g) { return g->units * UNIT_LINES * 7; }

static inline void group_put(const struct pugd_ids *ids, const struct pugd_ids_group *g, uint32_t tag, uint32_t handle)
{
    uint32_t at = line_of(g, tag);
    struct pugd_ids_line *line = line_at(ids, g, at);
    while (line->handle[7]) line = line_next(ids, g, &at);
    uint32_t i = line_used(line);
    line->tag[i] = tag;
    line->handle[i] = handle;
}

/* Make sure of `count` more units: a chunk holds many, so one chunk more is enough. */
static int have_units(struct pugd_ids *ids, uint32_t count)
{
    uint32_t chunk = (ids->units + count - 1) >> CHUNK_UNITS_BITS;
    if (chunk >= CHUNKS) return -1;
    if (ids->chunk[chunk]) return 0;
    ids->chunk[chunk] = pugd_pages_take(&ids->pages);
    return ids->chunk[chunk] ? 0 : -1;
}

static inline void add_unit(struct pugd_ids *ids, struct pugd_ids_group *g) { g->unit[g->units++] = ids->units++; }

/* The directory's entries of a group: how many, and from the first of them on. */
static struct pugd_ids_group *entries_of(const struct pugd_ids *ids, uint32_t tag, uint32_t depth, uint32_t *count)
{
    *count = 1u << (ids->bits - depth);
    return &ids->directory[(tag >> (32 - ids->bits)) & ~(*count - 1)];
}

struct pair {
    uint32_t tag, handle;
};

/* Take everything out of a group. */
static uint32_t empty(const struct pugd_ids *ids, const struct pugd_ids_group *g, struct pair *out)
{
    uint32_t count = 0;
    for (uint32_t at = 0; at < g->units * UNIT_LINES; at++) {
        struct pugd_ids_line *line = line_at(ids, g, at);
        for (int i = 0; i < 8 && line->handle[i]; i++) out[count++] = (struct pair){line->tag[i], line->handle[i]};
        memset(line, 0, sizeof *line);
    }
    return count;
}

static int directory_double(struct pugd_ids *ids)
{
    uint32_t old = 1u << ids->bits;
    if (ids->bits >= BITS_MAX || old > ids->count + 64) return -1; /* ids that fall together so were never hashed */
    struct pugd_ids_group *fresh = pugd_malloc(2 * (size_t)old * sizeof *fresh);
    if (!fresh) return -1;
    for (uint32_t i = 0; i < old; i++) fresh[2 * i] = fresh[2 * i + 1] = ids->directory[i];
    pugd_free(ids->directory);
    ids->directory = fresh;
    ids->bits += 1;
    return 0;
}

/* A group that is full, of the most units, becomes two. */
static int split(struct pugd_ids *ids, uint32_t tag)
{
    struct pugd_ids_group old = *group_of(ids, tag);
    if (old.depth == ids->bits && directory_double(ids)) return -1;
    if (have_units(ids, GROUP_UNITS_MAX)) return -1;
    struct pair moved[GROUP_UNITS_MAX * UNIT_LINES * 8];
    uint32_t count = empty(ids, &old, moved), high = 0;
    for (uint32_t i = 0; i < count; i++) high += moved[i].tag >> (31 - old.depth) & 1;
    struct pugd_ids_group half[2];
    uint32_t reused = 0;
    for (int side = 0; side < 2; side++) {
        struct pugd_ids_group *g = &half[side];
        *g = (struct pugd_ids_group){.used = (uint16_t)(side ? high : count - high), .depth = (uint8_t)(old.depth + 1)};
        while (g->units < 3 || (g->units < GROUP_UNITS_MAX && g->used + 2u > capacity(g)))
            if (reused < old.units)
                g->unit[g->units++] = old.unit[reused++];
            else
                add_unit(ids, g);
    }
    for (uint32_t i = 0; i < count; i++)
        group_put(ids, &half[moved[i].tag >> (31 - old.depth) & 1], moved[i].tag, moved[i].handle);
    uint32_t entries;
    struct pugd_ids_group *entry = entries_of(ids, tag, old.depth, &entries);
    for (uint32_t i = 0; i < entries; i++) entry[i] = half[i >= entries / 2];
    return 0;
}

/* Write a changed group into every entry of the directory that is a copy of it. */
static inline void group_write(struct pugd_ids *ids, uint32_t tag, struct pugd_ids_group group)
{
    uint32_t entries;
    struct pugd_ids_group *entry = entries_of(ids, tag, group.depth, &entries);
    for (uint32_t i = 0; i < entries; i++) entry[i] = group;
}

/* Another unit for a group. */
static int widen(struct pugd_ids *ids, uint32_t tag)
{
    if (have_units(ids, 1)) return -1;
    struct pugd_ids_group g = *group_of(ids, tag);
    struct pair moved[GROUP_UNITS_MAX * UNIT_LINES * 8];
    uint32_t count = empty(ids, &g, moved);
    add_unit(ids, &g);
    for (uint32_t i = 0; i < count; i++) group_put(ids, &g, moved[i].tag, moved[i].handle);
    group_write(ids, tag, g);
    return 0;
}

int pugd_ids_reserve(struct pugd_ids *ids, uint64_t actor)
{
    if (ids->count >= PUGD_IDS_MAX - 2) return -1;
    while (ids->segments <= (ids->count + 2) >> PUGD_IDS_SEGMENT_BITS) {
        if (!(ids->segment[ids->segments] = pugd_pages_take(&ids->pages))) return -1;
        ids->segments += 1;
    }
    uint32_t tag = tag_of(mix(actor));
    for (;;) {
        const struct pugd_ids_group *g = group_of(ids, tag);
        if (g->used + 2u <= capacity(g)) return 0;
        if (g->units < GROUP_UNITS_MAX ? widen(ids, tag) : split(ids, tag)) return -1;
    }
}

static inline uint32_t put(struct pugd_ids *ids, uint64_t actor, uint32_t tag)
{
    uint32_t handle = ++ids->count, entries;
    *pugd_ids_at(ids, handle) = (struct pugd_id){.actor = actor, .person = handle, .next = handle};
    struct pugd_ids_group *entry = entries_of(ids, tag, group_of(ids, tag)->depth, &entries);
    group_put(ids, entry, tag, handle);
    for (uint32_t i = 0; i < entries; i++) entry[i].used += 1;
    return handle;
}

uint32_t pugd_ids_put(struct pugd_ids *ids, uint64_t actor) { return put(ids, actor, tag_of(mix(actor))); }

uint32_t pugd_ids_add(struct pugd_ids *ids, uint64_t actor)
{
    uint32_t tag = tag_of(mix(actor));
    const struct pugd_ids_group *g = group_of(ids, tag);
    int room = g->used + 2u <= capacity(g) && ids->segments > (ids->count + 2) >> PUGD_IDS_SEGMENT_BITS &&
               ids->count < PUGD_IDS_MAX - 2;
    if (!room && pugd_ids_reserve(ids, actor)) return 0;
    return put(ids, actor, tag);
}

int pugd_ids_put_many(struct pugd_ids *ids, const uint64_t *actors, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        uint32_t tag = tag_of(mix(actors[i]));
        const struct pugd_ids_group *g = group_of(ids, tag);
        __builtin_prefetch(line_at(ids, g, line_of(g, tag)), 1);
    }
    for (uint32_t i = 0; i < count; i++) {
        if (pugd_ids_find(ids, actors[i])) return -2;
        if (pugd_ids_reserve(ids, actors[i])) return -1;
        pugd_ids_put(ids, actors[i]);
    }
    return 0;
}

/* A directory of 1 << bits groups of `units` each, for an index without ids. */
static int lay_out(struct pugd_ids *ids, uint32_t bits, uint32_t units)
{
    struct pugd_ids_group *fresh = pugd_calloc((size_t)1 << bits, sizeof *fresh);
    if (!fresh) return -1;
    ids->units = 0;
    for (uint32_t i = 0; i < 1u << bits; i++) {
        fresh[i].depth = (uint8_t)bits;
        if (have_units(ids, units)) {
            pugd_free(fresh);
            return -1;
        }
        for (uint32_t k = 0; k < units; k++) add_unit(ids, &fresh[i]);
    }
    pugd_free(ids->directory);
    ids->directory = fresh;
    ids->bits = bits;
    return 0;
}

int pugd_ids_expect(struct pugd_ids *ids, uint32_t count)
{
    uint32_t bits = 1, units = 2;
    if (ids->count) return 0;
    while (((uint64_t)GROUP_UNITS_MAX * UNIT_LINES * 7 << bits) < count + count / 16) bits += 1;
    while (units < GROUP_UNITS_MAX && ((uint64_t)units * UNIT_LINES * 7 << bits) < count + count / 16) units += 1;
    return bits > BITS_MAX ? -1 : lay_out(ids, bits, units);
}

int pugd_ids_open(struct pugd_ids *ids)
{
    memset(ids, 0, sizeof *ids);
    if (pugd_pages_open(&ids->pages)) return -1;
    ids->chunk = pugd_calloc(CHUNKS, sizeof *ids->chunk);
    ids->segment = pugd_calloc(SEGMENTS, sizeof *ids->segment);
    if (ids->chunk && ids->segment && lay_out(ids, 1, 2) == 0) return 0;
    pugd_ids_close(ids);
    return -1;
}

void pugd_ids_close(struct pugd_ids *ids)
{
    for (uint32_t i = 0; ids->chunk && i < CHUNKS && ids->chunk[i]; i++) pugd_pages_give(ids->chunk[i]);
    for (uint32_t i = 0; i < ids->segments; i++) pugd_pages_give(ids->segment[i]);
    pugd_free(ids->chunk);
    pugd_free(ids->segment);
    pugd_free(ids->directory);
    pugd_pages_close(&ids->pages);
    memset(ids, 0, sizeof *ids);
}

uint64_t pugd_ids_bytes(const struct pugd_ids *ids)
{
    return pugd_pages_bytes(&ids->pages) + CHUNKS * sizeof *ids->chunk + SEGMENTS * sizeof *ids->segment +
           ((uint64_t)sizeof *ids->directory << ids->bits);
}
