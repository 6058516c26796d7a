#include "graph.h"

#include "memory.h"
#include "msgpack.h"

#include <string.h>

#define USER 0x80000000u

struct rest {
    union {
        uint32_t size;
        uint32_t proof;
    };
    union {
        struct {
            uint32_t representative;
            uint32_t rank;
        };
        struct {
            uint32_t order_low;
            uint32_t order_high;
        };
    };
};

_Static_assert(sizeof(struct rest) == 12 && sizeof(struct pugd_id) == 16, "28 bytes an id");

#define SEGMENTS (1u << (31 - PUGD_IDS_SEGMENT_BITS))

struct pugd_graph {
    struct pugd_key key;
    struct pugd_ids ids;
    struct rest **rest; /* segments beside those of ids */
    uint32_t users;
    uint32_t joins;
    uint64_t bytes;
};

static inline struct pugd_id *id_at(const struct pugd_graph *g, uint32_t handle)
{
    return pugd_ids_at(&g->ids, handle);
}

static inline struct rest *rest_at(const struct pugd_graph *g, uint32_t handle)
{
    return &g->rest[handle >> PUGD_IDS_SEGMENT_BITS][handle & (PUGD_IDS_SEGMENT - 1)];
}

static inline uint64_t order_of(const struct rest *r) { return r->order_low | (uint64_t)r->order_high << 32; }

static inline uint32_t next_of(const struct pugd_id *id) { return id->next & ~USER; }

struct pugd_graph *pugd_graph_new(const uint8_t key[16])
{
    struct pugd_graph *g = pugd_calloc(1, sizeof *g);
    if (!g) return NULL;
    g->key = pugd_key_read(key);
    g->rest = pugd_calloc(SEGMENTS, sizeof *g->rest);
    if (!g->rest || pugd_ids_open(&g->ids)) {
        pugd_free(g->rest);
        pugd_free(g);
        return NULL;
    }
    g->bytes = sizeof *g + SEGMENTS * sizeof *g->rest;
    return g;
}

void pugd_graph_free(struct pugd_graph *g)
{
    if (!g) return;
    for (uint32_t i = 0; i < SEGMENTS && g->rest[i]; i++) pugd_free(g->rest[i]);
    pugd_free(g->rest);
    pugd_ids_close(&g->ids);
    pugd_free(g);
}

uint64_t pugd_graph_actor(const struct pugd_graph *g, uint32_t project, const uint8_t *text, size_t length)
{
    return pugd_siphash_project(&g->key, project, text, length);
}

/* Without halving, for those who must not write. */
static inline uint32_t root_seen(const struct pugd_graph *g, uint32_t handle)
{
    for (;;) {
        uint32_t parent = id_at(g, handle)->parent;
        if (parent == handle) return handle;
        handle = parent;
    }
}

static uint32_t root_of(struct pugd_graph *g, uint32_t handle)
{
    for (;;) {
        struct pugd_id *id = id_at(g, handle);
        if (id->parent == handle) return handle;
        handle = id->parent = id_at(g, id->parent)->parent;
    }
}

uint64_t pugd_graph_find(struct pugd_graph *g, uint64_t actor)
{
    uint32_t handle = pugd_ids_find(&g->ids, actor);
    if (!handle) return actor;
    return id_at(g, rest_at(g, root_of(g, handle))->representative)->actor;
}

uint32_t pugd_graph_size(const struct pugd_graph *g, uint64_t actor)
{
    uint32_t handle = pugd_ids_find(&g->ids, actor);
    return handle ? rest_at(g, root_seen(g, handle))->size : 1;
}

int pugd_graph_knows(const struct pugd_graph *g, uint64_t actor) { return pugd_ids_find(&g->ids, actor) != 0; }

int pugd_graph_is_user(const struct pugd_graph *g, uint64_t actor)
{
    uint32_t handle = pugd_ids_find(&g->ids, actor);
    return handle && (id_at(g, handle)->next & USER);
}

int pugd_graph_owns_user(const struct pugd_graph *g, uint64_t actor)
{
    uint32_t handle = pugd_ids_find(&g->ids, actor);
    return handle && rest_at(g, root_seen(g, handle))->rank;
}

/* The person's ids from `handle` on, into out[at …), as far as `max`. returns at + how many. */
static uint64_t circle(const struct pugd_graph *g, uint32_t handle, uint32_t size, uint64_t *out, uint64_t at,
                       uint32_t max)
{
    for (uint32_t i = 0; i < size && at + i < max; i++) {
        const struct pugd_id *id = id_at(g, handle);
        out[at + i] = id->actor;
        handle = next_of(id);
    }
    return at + size;
}

uint32_t pugd_graph_members(const struct pugd_graph *g, uint64_t actor, uint64_t *actors, uint32_t max)
{
    uint32_t handle = pugd_ids_find(&g->ids, actor);
    if (handle) return (uint32_t)circle(g, handle, rest_at(g, root_seen(g, handle))->size, actors, 0, max);
    if (max) actors[0] = actor;
    return 1;
}

/* Room for `actor` and one more id, in every part. */
static int reserve(struct pugd_graph *g, uint64_t actor)
{
    if (pugd_ids_reserve(&g->ids, actor)) return -1;
    for (uint32_t handle = g->ids.count + 1; handle <= g->ids.count + 2; handle++) {
        struct rest **segment = &g->rest[handle >> PUGD_IDS_SEGMENT_BITS];
        if (*segment) continue;
        *segment = pugd_calloc(PUGD_IDS_SEGMENT, sizeof **segment);
        if (!*segment) return -1;
        g->bytes += PUGD_IDS_SEGMENT * sizeof **segment;
    }
    return 0;
}

static uint32_t put(struct pugd_graph *g, uint64_t actor)
{
    uint32_t handle = pugd_ids_put(&g->ids, actor);
    *rest_at(g, handle) = (struct rest){.size = 1, .representative = handle, .rank = 0};
    return handle;
}

int pugd_graph_reserve(struct pugd_graph *g, uint64_t a, uint64_t b)
{
    return reserve(g, a) || reserve(g, b) ? -1 : 0;
}

int64_t pugd_graph_user(struct pugd_graph *g, uint64_t actor, uint64_t *moved, uint32_t max)
{
    uint32_t handle = pugd_ids_find(&g->ids, actor);
    if (!handle) {
        if (reserve(g, actor)) return -1;
        handle = put(g, actor);
    }
    struct pugd_id *id = id_at(g, handle);
    if (id->next & USER) return 0;
    id->next |= USER;
    g->users += 1;
    struct rest *root = rest_at(g, root_of(g, handle));
    if (root->rank) return 0;
    root->rank = g->users;
    if (root->representative == handle) return 0;
    root->representative = handle;
    return (int64_t)circle(g, handle, root->size, moved, 0, max);
}

/* Hang the proof tree of `root` by its id `handle` onto `onto`. The root's own fields are read before. */
static void turn(struct pugd_graph *g, uint32_t handle, uint32_t root, uint32_t onto, uint64_t order)
{
    for (;;) {
        struct rest *r = rest_at(g, handle);
        struct rest old = *r;
        *r = (struct rest){.proof = onto, .order_low = (uint32_t)order, .order_high = (uint32_t)(order >> 32)};
        if (handle == root) return;
        onto = handle;
        handle = old.proof;
        order = order_of(&old);
    }
}

int64_t pugd_graph_link(struct pugd_graph *g, uint64_t a, uint64_t b, uint64_t order, uint64_t *moved, uint32_t max)
{
    if (a == b) return 0;
    uint32_t ha = pugd_ids_find(&g->ids, a), hb = pugd_ids_find(&g->ids, b);
    if (!ha && reserve(g, a)) return -1;
    if (!hb && reserve(g, b)) return -1;
    if (!ha) ha = put(g, a);
    if (!hb) hb = put(g, b);
    uint32_t keep = root_of(g, ha), give = root_of(g, hb), beside = ha, end = hb;
    if (keep == give) return 0;
    uint32_t ids_a = rest_at(g, keep)->size, ids_b = rest_at(g, give)->size;
    if (ids_a < ids_b || (ids_a == ids_b && give < keep)) {
        uint32_t root = keep;
        keep = give;
        give = root;
        beside = hb;
        end = ha;
    }
    struct rest *large = rest_at(g, keep), small = *rest_at(g, give);

    int small_leads = small.rank && large->rank ? small.rank < large->rank
                      : small.rank || large->rank ? small.rank != 0
                                                  : small.representative < large->representative;
    uint64_t count = 0;
    if (small_leads || large->size == 1) count = circle(g, keep, large->size, moved, count, max);
    if (!small_leads || small.size == 1) count = circle(g, give, small.size, moved, count, max);

    turn(g, end, give, beside, order);
    struct pugd_id *one = id_at(g, keep), *other = id_at(g, give);
    uint32_t next = next_of(one);
    one->next = next_of(other) | (one->next & USER);
    other->next = next | (other->next & USER);
    other->parent = keep;
    large->size += small.size;
    if (small_leads) {
        large->representative = small.representative;
        large->rank = small.rank;
    }
    g->joins += 1;
    return (int64_t)count;
}

/* Entries ahead of the one applied: its lines are asked for twice as far ahead as its ids. */
#define REPLAY_AHEAD 12

static inline void prefetch_ids(const struct pugd_graph *g, uint64_t actor)
{
    uint32_t handle = pugd_ids_guess(&g->ids, actor);
    if (!handle) return;
    __builtin_prefetch(id_at(g, handle), 1);
    __builtin_prefetch(rest_at(g, handle), 1);
}

size_t pugd_graph_replay(struct pugd_graph *g, const struct pugd_graph_entry *entries, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (i + 2 * REPLAY_AHEAD < count) {
            const struct pugd_graph_entry *far = &entries[i + 2 * REPLAY_AHEAD];
            pugd_ids_prefetch(&g->ids, far->a);
            if (!far->user) pugd_ids_prefetch(&g->ids, far->b);
        }
        if (i + REPLAY_AHEAD < count) {
            const struct pugd_graph_entry *near = &entries[i + REPLAY_AHEAD];
            prefetch_ids(g, near->a);
            if (!near->user) prefetch_ids(g, near->b);
        }
        const struct pugd_graph_entry *e = &entries[i];
        int64_t done = e->user ? pugd_graph_user(g, e->a, NULL, 0) : pugd_graph_link(g, e->a, e->b, e->order, NULL, 0);
        if (done < 0) return i;
    }
    return count;
}

static uint32_t depth_of(const struct pugd_graph *g, uint32_t handle)
{
    uint32_t depth = 0;
    for (; id_at(g, handle)->parent != handle; depth++) handle = rest_at(g, handle)->proof;
    return depth;
}

int64_t pugd_graph_explain(const struct pugd_graph *g, uint64_t a, uint64_t b, uint64_t *orders, uint32_t max)
{
    uint32_t ha = pugd_ids_find(&g->ids, a), hb = pugd_ids_find(&g->ids, b);
    if (a == b) return 0;
    if (!ha || !hb || root_seen(g, ha) != root_seen(g, hb)) return -1;
    uint32_t deep_a = depth_of(g, ha), deep_b = depth_of(g, hb), meet = ha, other = hb, above = deep_a, below = deep_b;
    for (; above > below; above--) meet = rest_at(g, meet)->proof;
    for (; below > above; below--) other = rest_at(g, other)->proof;
    for (; meet != other; above--) {
        meet = rest_at(g, meet)->proof;
        other = rest_at(g, other)->proof;
    }
    uint32_t count = 0, total = (deep_a - above) + (deep_b - above);
    for (; ha != meet; ha = rest_at(g, ha)->proof, count++)
        if (count < max) orders[count] = order_of(rest_at(g, ha));
    for (uint32_t at = total; hb != meet; hb = rest_at(g, hb)->proof)
        if (--at < max) orders[at] = order_of(rest_at(g, hb));
    return total;
}

/* Events that travel together: enough for the memory to be busy, few enough for the first cache. */
#define BLOCK 32

int64_t pugd_graph_resolve_many(const struct pugd_graph *g, const uint8_t *packed, size_t length, uint32_t count,
                                uint64_t *actors, uint32_t *look)
{
    struct mp m = {packed, packed + length};
    uint32_t values;
    int64_t looks = 0;
    if (mp_array(&m, &values) || values != 3 * (uint64_t)count) return -1;
    for (uint32_t start = 0; start < count; start += BLOCK) {
        uint32_t n = count - start < BLOCK ? count - start : BLOCK;
        uint64_t actor[BLOCK][2];
        uint32_t handle[BLOCK][2], has[BLOCK][2];
        for (uint32_t i = 0; i < n; i++) {
            uint64_t project;
            int negative;
            if (mp_int(&m, &project, &negative) || negative || project > UINT32_MAX) return -1;
            for (int side = 0; side < 2; side++) {
                const uint8_t *text;
                if (mp_bytes(&m, &text, &has[i][side])) return -1;
                if (!has[i][side]) continue;
                actor[i][side] = pugd_siphash_project(&g->key, (uint32_t)project, text, has[i][side]);
            }
            if (!has[i][0] && !has[i][1]) return -1;
            actors[start + i] = actor[i][!has[i][0]];
        }
        for (uint32_t i = 0; i < n; i++) { /* apart from the hashing, so that many are on their way at once */
            if (!has[i][0]) continue;
            for (int side = 0; side < 2; side++)
                if (has[i][side]) pugd_ids_prefetch(&g->ids, actor[i][side]);
        }
        for (uint32_t i = 0; i < n; i++) {
            if (!has[i][0]) continue; /* an anonymous id alone is its own actor, whoever owns it: nothing to look at */
            for (int side = 0; side < 2; side++) {
                handle[i][side] = has[i][side] ? pugd_ids_guess(&g->ids, actor[i][side]) : 0;
                if (handle[i][side]) __builtin_prefetch(id_at(g, handle[i][side]));
            }
        }
        for (uint32_t i = 0; i < n; i++) {
            if (!has[i][0]) continue;
            for (int side = 0; side < 2; side++)
                if (handle[i][side] && id_at(g, handle[i][side])->actor != actor[i][side])
                    handle[i][side] = pugd_ids_find(&g->ids, actor[i][side]);
            uint32_t user = handle[i][0], anonymous = handle[i][1];
            int known = user && (id_at(g, user)->next & USER);
            if (known && has[i][1] && user != anonymous)
                known = anonymous && root_seen(g, user) == root_seen(g, anonymous);
            if (!known) look[looks++] = start + i;
        }
    }
    return mp_left(&m) ? -1 : looks;
}

static uint8_t *write32(uint8_t *out, uint32_t v)
{
    for (int i = 0; i < 4; i++) *out++ = (uint8_t)(v >> (8 * i));
    return out;
}

static uint32_t read32(const uint8_t *p)
{
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

uint32_t pugd_graph_dump(const struct pugd_graph *g, uint32_t from, uint32_t count, uint8_t *out)
{
    uint32_t handle = from + 1, done = 0;
    for (; done < count && handle <= g->ids.count; done++, handle++) {
        const struct pugd_id *id = id_at(g, handle);
        const struct rest *r = rest_at(g, handle);
        out = write32(out, (uint32_t)id->actor);
        out = write32(out, (uint32_t)(id->actor >> 32));
        out = write32(out, root_seen(g, handle));
        out = write32(out, id->next);
        out = write32(out, r->size);
        out = write32(out, r->order_low);
        out = write32(out, r->order_high);
    }
    return done;
}

int pugd_graph_load(struct pugd_graph *g, const uint8_t *records, uint32_t count)
{
    if (g->ids.count || count >= PUGD_IDS_MAX - 2) return -2;
    if (pugd_ids_expect(&g->ids, count)) return -1;
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *p = records + (size_t)i * PUGD_GRAPH_RECORD;
        if (i + REPLAY_AHEAD < count) {
            const uint8_t *far = p + REPLAY_AHEAD * PUGD_GRAPH_RECORD;
            pugd_ids_prefetch(&g->ids, read32(far) | (uint64_t)read32(far + 4) << 32);
        }
        uint64_t actor = read32(p) | (uint64_t)read32(p + 4) << 32;
        if (pugd_ids_find(&g->ids, actor)) return -2;
        if (reserve(g, actor)) return -1;
        uint32_t handle = put(g, actor), root = read32(p + 8), next = read32(p + 12), first = read32(p + 16);
        struct rest r = {.size = first, .order_low = read32(p + 20), .order_high = read32(p + 24)};
        if (!root || root > count || !(next & ~USER) || (next & ~USER) > count || !first || first > count) return -2;
        if (root == handle && (!r.representative || r.representative > count || r.rank > count)) return -2;
        id_at(g, handle)->parent = root;
        id_at(g, handle)->next = next;
        *rest_at(g, handle) = r;
        g->users += next >> 31;
        g->joins += root != handle;
    }
    for (uint32_t handle = 1; handle <= count; handle++) { /* one step to a root, and no walk leaves its person */
        const struct pugd_id *id = id_at(g, handle);
        if (id_at(g, id->parent)->parent != id->parent || id_at(g, next_of(id))->parent != id->parent) return -2;
        if (id->parent != handle && id_at(g, rest_at(g, handle)->proof)->parent != id->parent) return -2;
        if (id->parent == handle && id_at(g, rest_at(g, handle)->representative)->parent != handle) return -2;
    }
    return 0;
}

struct pugd_graph_numbers pugd_graph_statistics(const struct pugd_graph *g)
{
    return (struct pugd_graph_numbers){g->ids.count, g->users, g->joins, g->bytes + g->ids.bytes};
}
