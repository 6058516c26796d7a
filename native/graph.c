#include "graph.h"

#include "extras.h"
#include "memory.h"
#include "msgpack.h"
#include "saving.h"

#include <string.h>

#define USER 0x80000000u
#define BLOCK PUGD_IDS_BLOCK

struct rest {
    union {
        uint32_t size;
        uint32_t proof;
    };
    uint32_t rank;
    union {
        uint64_t order;
        uint64_t extras; /* at a root */
    };
};

_Static_assert(sizeof(struct rest) + sizeof(struct pugd_id) == PUGD_GRAPH_RECORD, "a record is an id's memory");

struct pugd_graph {
    struct pugd_key key;
    struct pugd_ids ids;
    struct pugd_extras extras;
    uint32_t users;
    uint32_t joins;
    struct pugd_saving *saving; /* NULL where nobody is; and what there was when it began: */
    uint32_t saved_ids;
    uint32_t saved_places;
};

static inline struct pugd_id *id_at(const struct pugd_graph *g, uint32_t handle)
{
    return pugd_ids_at(&g->ids, handle);
}

static inline struct rest *rest_at(const struct pugd_graph *g, uint32_t handle)
{
    return pugd_ids_beside(&g->ids, handle);
}

/* ---- a picture for whoever saves it ---- */

#define SAVED_IDS_BITS 8 /* ids of a block: 8 KiB */
#define SAVED_EXTRAS_BITS 9

static inline uint32_t id_blocks(uint32_t ids) { return (ids >> SAVED_IDS_BITS) + 1; }

/* Before anything of an id is changed. */
static inline void keep_id(const struct pugd_graph *g, uint32_t handle)
{
    if (__builtin_expect(g->saving != NULL, 0) && handle <= g->saved_ids)
        pugd_saving_keep(g->saving, handle >> SAVED_IDS_BITS);
}

/* Before an extra link is taken out. */
static inline void keep_extra(const struct pugd_graph *g, uint32_t place)
{
    if (__builtin_expect(g->saving != NULL, 0) && place <= g->saved_places)
        pugd_saving_keep(g->saving, id_blocks(g->saved_ids) + (place >> SAVED_EXTRAS_BITS));
}

static inline uint32_t next_of(const struct pugd_id *id) { return id->next & ~USER; }

struct pugd_graph *pugd_graph_new(const uint8_t key[16])
{
    struct pugd_graph *g = pugd_calloc(1, sizeof *g);
    if (!g) return NULL;
    g->key = pugd_key_read(key);
    if (!pugd_extras_open(&g->extras)) {
        if (!pugd_ids_open(&g->ids)) return g;
        pugd_extras_close(&g->extras);
    }
    pugd_free(g);
    return NULL;
}

void pugd_graph_free(struct pugd_graph *g)
{
    if (!g) return;
    pugd_extras_close(&g->extras);
    pugd_ids_close(&g->ids);
    pugd_saving_free(g->saving);
    pugd_free(g);
}

uint64_t pugd_graph_actor(const struct pugd_graph *g, uint32_t project, const uint8_t *text, size_t length)
{
    return pugd_siphash_project(&g->key, project, text, length);
}

/* ---- what is asked of one id ---- */

uint64_t pugd_graph_find(const struct pugd_graph *g, uint64_t actor)
{
    uint32_t handle = pugd_ids_find(&g->ids, actor);
    return handle ? id_at(g, id_at(g, handle)->person)->actor : actor;
}

uint32_t pugd_graph_size(const struct pugd_graph *g, uint64_t actor)
{
    uint32_t handle = pugd_ids_find(&g->ids, actor);
    return handle ? rest_at(g, id_at(g, handle)->person)->size : 1;
}

uint64_t pugd_graph_extras_of(const struct pugd_graph *g, uint64_t actor)
{
    uint32_t handle = pugd_ids_find(&g->ids, actor);
    return handle ? rest_at(g, id_at(g, handle)->person)->extras : 0;
}

uint32_t pugd_graph_handle(const struct pugd_graph *g, uint64_t actor) { return pugd_ids_find(&g->ids, actor); }

uint32_t pugd_graph_rank(const struct pugd_graph *g, uint64_t actor)
{
    uint32_t handle = pugd_ids_find(&g->ids, actor);
    return handle ? rest_at(g, handle)->rank : 0;
}

int pugd_graph_owns_user(const struct pugd_graph *g, uint64_t actor)
{
    uint32_t handle = pugd_ids_find(&g->ids, actor);
    return handle && rest_at(g, id_at(g, handle)->person)->rank;
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
    if (handle) return (uint32_t)circle(g, handle, rest_at(g, id_at(g, handle)->person)->size, actors, 0, max);
    if (max) actors[0] = actor;
    return 1;
}

/* ---- what changes it ---- */

static inline uint32_t alone(struct pugd_graph *g, uint32_t handle)
{
    *rest_at(g, handle) = (struct rest){.size = 1};
    return handle;
}

/* A handle for an actor that has none; 0 where memory is short. */
static inline uint32_t put(struct pugd_graph *g, uint64_t actor)
{
    uint32_t handle = pugd_ids_add(&g->ids, actor);
    return handle ? alone(g, handle) : 0;
}

int pugd_graph_reserve(struct pugd_graph *g, uint64_t a, uint64_t b)
{
    uint32_t ha = pugd_ids_find(&g->ids, a), hb = pugd_ids_find(&g->ids, b);
    if (ha && hb && ha != hb && pugd_extras_reserve(&g->extras, ha, hb)) return -1;
    return pugd_ids_reserve(&g->ids, a) || pugd_ids_reserve(&g->ids, b) ? -1 : 0;
}

/* Hang the proof tree of `root` by its id `handle` onto `onto`; 0: onto nothing, it is the new root. The root's size is
 * read before. */
static void turn(struct pugd_graph *g, uint32_t handle, uint32_t root, uint32_t onto, uint64_t order)
{
    for (;;) {
        keep_id(g, handle);
        struct rest *r = rest_at(g, handle);
        uint32_t proof = r->proof;
        uint64_t before = r->order;
        r->proof = onto;
        r->order = order;
        if (handle == root) return;
        onto = handle;
        handle = proof;
        order = before;
    }
}

/* Point `size` ids of a circle at `person`. */
static void point(struct pugd_graph *g, uint32_t handle, uint32_t size, uint32_t person)
{
    for (uint32_t i = 0; i < size; i++) {
        keep_id(g, handle);
        struct pugd_id *id = id_at(g, handle);
        id->person = person;
        handle = next_of(id);
    }
}

/* pugd_graph_user of an actor whose handle is known; 0: it has none, and gets one. */
static int64_t user(struct pugd_graph *g, uint64_t actor, uint32_t *known, uint64_t *moved, uint32_t max)
{
    uint32_t handle = *known ? *known : (*known = put(g, actor));
    if (!handle) return -1;
    struct pugd_id *id = id_at(g, handle);
    if (id->next & USER) return 0;
    keep_id(g, handle);
    id->next |= USER;
    rest_at(g, handle)->rank = ++g->users;
    uint32_t root = id->person, size = rest_at(g, root)->size;
    if (root == handle || rest_at(g, root)->rank) return 0;
    uint64_t extras = rest_at(g, root)->extras;
    turn(g, handle, root, 0, 0);
    rest_at(g, handle)->size = size;
    rest_at(g, handle)->extras = extras;
    point(g, handle, size, handle);
    return (int64_t)circle(g, handle, size, moved, 0, max);
}

int64_t pugd_graph_user(struct pugd_graph *g, uint64_t actor, uint64_t *moved, uint32_t max)
{
    uint32_t handle = pugd_ids_find(&g->ids, actor);
    return user(g, actor, &handle, moved, max);
}

/* Does person `one` keep its representative where it is joined with `other`? */
static int leads(const struct pugd_graph *g, uint32_t one, uint32_t other)
{
    uint32_t rank = rest_at(g, one)->rank, beside = rest_at(g, other)->rank;
    if (rank && beside) return rank < beside;
    return rank || beside ? rank != 0 : one < other;
}

static int linked(const struct pugd_graph *g, uint32_t a, uint32_t b)
{
    uint32_t root = id_at(g, a)->person;
    if (root != id_at(g, b)->person) return 0;
    return (a != root && rest_at(g, a)->proof == b) || (b != root && rest_at(g, b)->proof == a) ||
           pugd_extras_find(&g->extras, a, b);
}

/* Join a new id, alone, with the person of `onto`: what `join` would do, whose person never leads. */
static int64_t attach(struct pugd_graph *g, uint32_t handle, uint32_t onto, uint64_t order, uint64_t *moved,
                      uint32_t max)
{
    uint32_t root = id_at(g, onto)->person;
    struct pugd_id *one = id_at(g, root), *id = id_at(g, handle);
    struct rest *top = rest_at(g, root);
    uint64_t count = top->size == 1 ? circle(g, root, 1, moved, 0, max) : 0;
    count = circle(g, handle, 1, moved, count, max);
    keep_id(g, root);
    top->size += 1;
    *rest_at(g, handle) = (struct rest){.proof = onto, .order = order};
    id->person = root;
    id->next = next_of(one);
    one->next = handle | (one->next & USER);
    g->joins += 1;
    return (int64_t)count;
}

/* pugd_graph_link of two actors whose handles are known; 0: it has none, and gets one. */
static int64_t join(struct pugd_graph *g, uint64_t a, uint32_t *known_a, uint64_t b, uint32_t *known_b, uint64_t order,
                    uint64_t *moved, uint32_t max)
{
    uint32_t ha = *known_a, hb = *known_b;
    if (!ha || !hb) {
        if (ha) return (*known_b = put(g, b)) ? attach(g, *known_b, ha, order, moved, max) : -1;
        if (hb) return (*known_a = put(g, a)) ? attach(g, *known_a, hb, order, moved, max) : -1;
        /* Both or none: an id that is linked to nobody is not in the graph. */
        if (pugd_ids_reserve(&g->ids, a) || pugd_ids_reserve(&g->ids, b)) return -1;
        *known_a = alone(g, pugd_ids_put(&g->ids, a));
        *known_b = alone(g, pugd_ids_put(&g->ids, b));
        return attach(g, *known_b, *known_a, order, moved, max);
    }
    uint32_t keep = id_at(g, ha)->person, give = id_at(g, hb)->person, beside = ha, end = hb;
    if (keep == give) {
        if (linked(g, ha, hb)) return 0;
        if (pugd_extras_reserve(&g->extras, ha, hb)) return -1;
        pugd_extras_put(&g->extras, ha, hb, order);
        keep_id(g, keep);
        rest_at(g, keep)->extras += 1;
        return 0;
    }
    if (leads(g, give, keep)) {
        uint32_t root = keep;
        keep = give;
        give = root;
        beside = hb;
        end = ha;
    }
    uint32_t kept = rest_at(g, keep)->size, given = rest_at(g, give)->size;
    uint64_t count = 0;
    if (kept == 1) count = circle(g, keep, 1, moved, count, max);
    count = circle(g, give, given, moved, count, max);

    keep_id(g, keep); /* and the others in `turn` and `point` */
    rest_at(g, keep)->extras += rest_at(g, give)->extras;
    turn(g, end, give, beside, order);
    point(g, give, given, keep);
    struct pugd_id *one = id_at(g, keep), *other = id_at(g, give);
    uint32_t next = next_of(one);
    one->next = next_of(other) | (one->next & USER);
    other->next = next | (other->next & USER);
    rest_at(g, keep)->size = kept + given;
    g->joins += 1;
    return (int64_t)count;
}

int64_t pugd_graph_link(struct pugd_graph *g, uint64_t a, uint64_t b, uint64_t order, uint64_t *moved, uint32_t max)
{
    if (a == b) return 0;
    uint32_t ha = pugd_ids_find(&g->ids, a), hb = pugd_ids_find(&g->ids, b);
    return join(g, a, &ha, b, &hb, order, moved, max);
}

int pugd_graph_linked(const struct pugd_graph *g, uint64_t a, uint64_t b)
{
    uint32_t ha = pugd_ids_find(&g->ids, a), hb = pugd_ids_find(&g->ids, b);
    return ha && hb && ha != hb && linked(g, ha, hb);
}

uint32_t pugd_graph_links(const struct pugd_graph *g, uint64_t actor, struct pugd_graph_entry *links, uint32_t max)
{
    uint32_t handle = pugd_ids_find(&g->ids, actor), count = 0;
    if (!handle) return 0;
    uint32_t root = id_at(g, handle)->person, size = rest_at(g, root)->size;
    uint64_t extras = rest_at(g, root)->extras; /* yet to be met: ids are paired only as long as there are any */
    for (uint32_t i = 0; i < size; i++, handle = next_of(id_at(g, handle))) {
        const struct rest *r = rest_at(g, handle);
        if (handle != root) {
            if (count < max)
                links[count] = (struct pugd_graph_entry){r->order, id_at(g, handle)->actor, id_at(g, r->proof)->actor, 0};
            count += 1;
        }
        uint32_t other = next_of(id_at(g, handle));
        for (uint32_t k = i + 1; k < size && extras; k++, other = next_of(id_at(g, other))) {
            uint32_t place = pugd_extras_find(&g->extras, handle, other);
            if (!place) continue;
            if (count < max)
                links[count] = (struct pugd_graph_entry){pugd_extras_at(&g->extras, place)->order,
                                                         id_at(g, handle)->actor, id_at(g, other)->actor, 0};
            count += 1;
            extras -= 1;
        }
    }
    return count;
}

void pugd_graph_scatter(struct pugd_graph *g, uint64_t actor)
{
    uint32_t handle = pugd_ids_find(&g->ids, actor);
    if (!handle) return;
    uint32_t size = rest_at(g, id_at(g, handle)->person)->size;
    uint64_t extras = rest_at(g, id_at(g, handle)->person)->extras;
    g->joins -= size - 1;
    for (uint32_t left = size; left; left--) {
        struct pugd_id *id = id_at(g, handle);
        uint32_t next = next_of(id), other = next;
        for (uint32_t k = 1; k < left && extras; k++, other = next_of(id_at(g, other))) {
            uint32_t place = pugd_extras_find(&g->extras, handle, other);
            if (!place) continue;
            keep_extra(g, place);
            pugd_extras_take(&g->extras, place);
            extras -= 1;
        }
        keep_id(g, handle);
        id->person = handle;
        id->next = handle | (id->next & USER);
        struct rest *r = rest_at(g, handle);
        *r = (struct rest){.size = 1, .rank = r->rank};
        handle = next;
    }
}

/* Ask for what a change of a known id looks at: its own fields, and then those of its person's root. */
static inline void prefetch_rests(const struct pugd_graph *g, const uint32_t *handle, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        if (!handle[i]) continue;
        __builtin_prefetch(rest_at(g, handle[i]), 1);
        uint32_t person = id_at(g, handle[i])->person;
        if (person == handle[i]) continue;
        __builtin_prefetch(id_at(g, person), 1);
        __builtin_prefetch(rest_at(g, person), 1);
    }
    /* Reads beside one another, of what a join would else wait for one by one: a sixth of its time. */
    uint32_t sum = 0;
    for (uint32_t i = 0; i < n; i++)
        if (handle[i]) sum += rest_at(g, id_at(g, handle[i])->person)->size;
    __asm__ volatile("" : : "r"(sum));
}

/* first[i]: the first of these actors that is the same as the i-th, where that has no handle yet: it may get one in
 * between, and then all of them have it. */
static void same_as(const uint64_t *actor, const uint32_t *handle, uint32_t n, uint8_t *first)
{
    uint8_t slots[2 * BLOCK] = {0}; /* index + 1 */
    _Static_assert(BLOCK < 256 && !(BLOCK & (BLOCK - 1)), "an index and one fit into a byte");
    for (uint32_t i = 0; i < n; i++) {
        first[i] = (uint8_t)i;
        if (handle[i]) continue;
        uint32_t slot = (uint32_t)((actor[i] * 0x9e3779b97f4a7c15u) >> 32) & (2 * BLOCK - 1);
        while (slots[slot] && actor[slots[slot] - 1] != actor[i]) slot = (slot + 1) & (2 * BLOCK - 1);
        if (slots[slot])
            first[i] = (uint8_t)(slots[slot] - 1);
        else
            slots[slot] = (uint8_t)(i + 1);
    }
}

size_t pugd_graph_link_many(struct pugd_graph *g, const struct pugd_graph_entry *entries, size_t count)
{
    for (size_t start = 0; start < count; start += BLOCK / 2) {
        uint32_t n = count - start < BLOCK / 2 ? (uint32_t)(count - start) : BLOCK / 2;
        const struct pugd_graph_entry *e = &entries[start];
        uint64_t actor[BLOCK];
        uint32_t handle[BLOCK], ids = 0;
        uint8_t first[BLOCK];
        for (uint32_t i = 0; i < n; i++) {
            actor[ids++] = e[i].a;
            if (!e[i].user) actor[ids++] = e[i].b;
        }
        pugd_ids_find_many(&g->ids, actor, ids, handle);
        prefetch_rests(g, handle, ids);
        same_as(actor, handle, ids, first);
        const uint8_t *at = first;
        for (uint32_t i = 0; i < n; i++, e++) {
            uint32_t *a = &handle[*at++], *b = e->user ? NULL : &handle[*at++];
            int64_t done = e->user          ? user(g, e->a, a, NULL, 0)
                           : e->a == e->b ? 0
                                            : join(g, e->a, a, e->b, b, e->order, NULL, 0);
            if (done < 0) return start + i;
        }
    }
    return count;
}

static uint32_t depth_of(const struct pugd_graph *g, uint32_t handle)
{
    uint32_t depth = 0, root = id_at(g, handle)->person;
    for (; handle != root; depth++) handle = rest_at(g, handle)->proof;
    return depth;
}

int64_t pugd_graph_explain(const struct pugd_graph *g, uint64_t a, uint64_t b, uint64_t *orders, uint32_t max)
{
    uint32_t ha = pugd_ids_find(&g->ids, a), hb = pugd_ids_find(&g->ids, b);
    if (a == b) return 0;
    if (!ha || !hb || id_at(g, ha)->person != id_at(g, hb)->person) return -1;
    uint32_t deep_a = depth_of(g, ha), deep_b = depth_of(g, hb), meet = ha, other = hb, above = deep_a, below = deep_b;
    for (; above > below; above--) meet = rest_at(g, meet)->proof;
    for (; below > above; below--) other = rest_at(g, other)->proof;
    for (; meet != other; above--) {
        meet = rest_at(g, meet)->proof;
        other = rest_at(g, other)->proof;
    }
    uint32_t count = 0, total = (deep_a - above) + (deep_b - above);
    for (; ha != meet; ha = rest_at(g, ha)->proof, count++)
        if (count < max) orders[count] = rest_at(g, ha)->order;
    for (uint32_t at = total; hb != meet; hb = rest_at(g, hb)->proof)
        if (--at < max) orders[at] = rest_at(g, hb)->order;
    return total;
}

/* The next text of a batch into `text`. returns its length, 0 where it is ''; -1 where it is no text. */
static inline int64_t read_text(struct mp *m, uint32_t project, struct pugd_text *text)
{
    if (mp_bytes(m, &text->text, &text->length)) return -1;
    text->project = project;
    return text->length;
}

static inline int read_project(struct mp *m, uint32_t *project)
{
    uint64_t value;
    int negative;
    if (mp_int(m, &value, &negative) || negative || value > UINT32_MAX) return -1;
    *project = (uint32_t)value;
    return 0;
}

int64_t pugd_graph_resolve_many(const struct pugd_graph *g, const uint8_t *packed, size_t length, uint32_t count,
                                uint64_t *actors, uint32_t *look)
{
    struct mp m = {packed, packed + length};
    uint32_t values, project;
    int64_t looks = 0;
    if (mp_array(&m, &values) || values != 3 * (uint64_t)count) return -1;
    for (uint32_t start = 0; start < count; start += BLOCK / 2) {
        uint32_t n = count - start < BLOCK / 2 ? count - start : BLOCK / 2;
        /* Ids to look for come first: of events with a user id, this and then the anonymous one if there is one. An
         * anonymous id alone is its own actor, whoever owns it: there is nothing to look at, and it fills from the end. */
        struct pugd_text text[BLOCK];
        uint64_t actor[BLOCK];
        uint32_t handle[BLOCK], sought = 0, alone = BLOCK;
        uint8_t at[BLOCK / 2], both[BLOCK / 2];
        for (uint32_t i = 0; i < n; i++) {
            struct pugd_text one, other;
            if (read_project(&m, &project)) return -1;
            int64_t user = read_text(&m, project, &one), anonymous = read_text(&m, project, &other);
            if (user < 0 || anonymous < 0 || user + anonymous == 0) return -1;
            both[i] = user && anonymous;
            if (user) {
                at[i] = (uint8_t)sought;
                text[sought++] = one;
                if (anonymous) text[sought++] = other;
            } else {
                at[i] = (uint8_t)--alone;
                text[alone] = other;
            }
        }
        pugd_siphash_many(&g->key, text, sought, actor);
        pugd_siphash_many(&g->key, text + alone, BLOCK - alone, actor + alone);
        pugd_ids_find_many(&g->ids, actor, sought, handle);
        for (uint32_t i = 0; i < n; i++) {
            actors[start + i] = actor[at[i]];
            if (at[i] >= alone) continue;
            uint32_t user = handle[at[i]];
            int known = user && (id_at(g, user)->next & USER);
            if (known && both[i] && actor[at[i]] != actor[at[i] + 1]) {
                uint32_t anonymous = handle[at[i] + 1];
                known = anonymous && id_at(g, user)->person == id_at(g, anonymous)->person;
            }
            if (!known) look[looks++] = start + i;
        }
    }
    return mp_left(&m) ? -1 : looks;
}

int pugd_graph_persons_many(const struct pugd_graph *g, const uint8_t *packed, size_t length, uint32_t count,
                            uint64_t *persons)
{
    struct mp m = {packed, packed + length};
    uint32_t values, project;
    if (mp_array(&m, &values) || values != 2 * (uint64_t)count) return -1;
    for (uint32_t start = 0; start < count; start += BLOCK) {
        uint32_t n = count - start < BLOCK ? count - start : BLOCK;
        struct pugd_text text[BLOCK];
        uint64_t actor[BLOCK];
        uint32_t handle[BLOCK];
        for (uint32_t i = 0; i < n; i++)
            if (read_project(&m, &project) || read_text(&m, project, &text[i]) < 0) return -1;
        pugd_siphash_many(&g->key, text, n, actor);
        pugd_ids_find_many(&g->ids, actor, n, handle);
        for (uint32_t i = 0; i < n; i++)
            if (handle[i]) __builtin_prefetch(id_at(g, id_at(g, handle[i])->person));
        for (uint32_t i = 0; i < n; i++)
            persons[start + i] = handle[i] ? id_at(g, id_at(g, handle[i])->person)->actor : actor[i];
    }
    return mp_left(&m) ? -1 : 0;
}

void pugd_graph_find_many(const struct pugd_graph *g, const uint64_t *actors, uint32_t count, uint64_t *persons,
                          uint32_t *handles)
{
    for (uint32_t start = 0; start < count; start += BLOCK) {
        uint32_t n = count - start < BLOCK ? count - start : BLOCK, *handle = handles + start;
        pugd_ids_find_many(&g->ids, actors + start, n, handle);
        for (uint32_t i = 0; i < n; i++)
            if (handle[i]) __builtin_prefetch(id_at(g, id_at(g, handle[i])->person));
        for (uint32_t i = 0; i < n; i++)
            persons[start + i] = handle[i] ? id_at(g, id_at(g, handle[i])->person)->actor : actors[start + i];
    }
}

static uint32_t read32(const uint8_t *p)
{
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static uint64_t read64(const uint8_t *p) { return read32(p) | (uint64_t)read32(p + 4) << 32; }

#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
#define WORD_64(v) __builtin_bswap64(v)
#define WORD_32_32(v) (__builtin_bswap64((v) << 32 | (v) >> 32))
#else
#define WORD_64(v) (v)
#define WORD_32_32(v) (v)
#endif

/* Two 64-bit words of memory that another thread may be changing: what comes of that is thrown away (saving.h), but it
 * must come word by word. A record's first is a u64, or two u32 (`halves`), and so is its second. */
__attribute__((no_sanitize_thread)) static inline uint8_t *copy_words(uint8_t *out, const void *from, int first_halves,
                                                                     int second_halves)
{
    const volatile uint64_t *word = from;
    uint64_t first = word[0], second = word[1];
    first = first_halves ? WORD_32_32(first) : WORD_64(first);
    second = second_halves ? WORD_32_32(second) : WORD_64(second);
    memcpy(out, &first, 8);
    memcpy(out + 8, &second, 8);
    return out + 16;
}

__attribute__((no_sanitize_thread)) static uint32_t copy_block(const void *of, uint32_t block, uint8_t *out)
{
    const struct pugd_graph *g = of;
    uint32_t blocks = id_blocks(g->saved_ids);
    uint8_t *begin = out;
    if (block < blocks) {
        uint32_t handle = block << SAVED_IDS_BITS, end = handle + (1u << SAVED_IDS_BITS);
        if (!handle) handle = 1;
        for (; handle < end && handle <= g->saved_ids; handle++)
            out = copy_words(copy_words(out, id_at(g, handle), 0, 1), rest_at(g, handle), 1, 0);
    } else {
        uint32_t place = (block - blocks) << SAVED_EXTRAS_BITS, end = place + (1u << SAVED_EXTRAS_BITS);
        if (!place) place = 1;
        for (; place < end && place <= g->saved_places; place++) {
            uint8_t *next = copy_words(out, pugd_extras_at(&g->extras, place), 1, 0);
            if (read32(out)) out = next; /* else it was taken out */
        }
    }
    return (uint32_t)(out - begin);
}

int pugd_graph_save_begin(struct pugd_graph *g)
{
    g->saved_ids = g->ids.count;
    g->saved_places = g->extras.end;
    uint32_t blocks = id_blocks(g->saved_ids) + (g->saved_places >> SAVED_EXTRAS_BITS) + 1;
    g->saving = pugd_saving_new(g, blocks, copy_block);
    return g->saving ? 0 : -1;
}

int64_t pugd_graph_save_next(const struct pugd_graph *g, uint8_t *out, size_t room)
{
    return g->saving ? pugd_saving_next(g->saving, out, room) : -1;
}

void pugd_graph_save_end(struct pugd_graph *g)
{
    pugd_saving_free(g->saving);
    g->saving = NULL;
}

/* Take a block of records in, each checked alone. */
static int load_block(struct pugd_graph *g, const uint8_t *records, uint32_t n, uint32_t count)
{
    uint64_t actor[BLOCK] = {0};
    for (uint32_t i = 0; i < n; i++) actor[i] = read64(records + (size_t)i * PUGD_GRAPH_RECORD);
    uint32_t handle = g->ids.count + 1;
    int done = pugd_ids_put_many(&g->ids, actor, n);
    if (done) return done;
    for (const uint8_t *p = records; n; n--, handle++, p += PUGD_GRAPH_RECORD) {
        uint32_t person = read32(p + 8), next = read32(p + 12);
        struct rest r = {.size = read32(p + 16), .rank = read32(p + 20), .order = read64(p + 24)};
        if (!person || person > count || !(next & ~USER) || (next & ~USER) > count) return -2;
        if (!r.size || r.size > count || r.rank > count || !r.rank != !(next & USER)) return -2;
        if (person == handle) r.extras = 0; /* counted as they are loaded */
        id_at(g, handle)->person = person;
        id_at(g, handle)->next = next;
        *rest_at(g, handle) = r;
        g->users += next >> 31;
        g->joins += person != handle;
    }
    return 0;
}

/* Is it one step to a root, does no walk leave its person, and does the proof lead to the root? */
static int check_id(const struct pugd_graph *g, uint32_t handle, uint32_t count)
{
    const struct pugd_id *id = id_at(g, handle);
    if (id_at(g, id->person)->person != id->person || id_at(g, next_of(id))->person != id->person) return -2;
    uint32_t left = rest_at(g, id->person)->size, at = handle;
    for (; at != id->person; at = rest_at(g, at)->proof) {
        uint32_t proof = rest_at(g, at)->proof;
        if (!left-- || proof > count || id_at(g, proof)->person != id->person) return -2;
    }
    return 0;
}

static int load_ids(struct pugd_graph *g, const uint8_t *records, uint32_t count)
{
    for (uint32_t i = 0; i < count; i += BLOCK) {
        int done = load_block(g, records + (size_t)i * PUGD_GRAPH_RECORD, count - i < BLOCK ? count - i : BLOCK, count);
        if (done) return done;
    }
    for (uint32_t handle = 1; handle <= count; handle++) {
        if (handle + BLOCK <= count) { /* what will be looked at */
            const struct pugd_id *far = id_at(g, handle + BLOCK);
            __builtin_prefetch(id_at(g, far->person));
            __builtin_prefetch(id_at(g, next_of(far)));
            __builtin_prefetch(rest_at(g, far->person));
        }
        int done = check_id(g, handle, count);
        if (done) return done;
    }
    return 0;
}

int pugd_graph_load(struct pugd_graph *g, const uint8_t *records, uint32_t count, const uint8_t *extras,
                    uint32_t extra_count)
{
    if (g->ids.count || count >= PUGD_IDS_MAX - 2) return -2;
    g->ids.pages.patient = 1;
    int done = pugd_ids_expect(&g->ids, count) ? -1 : load_ids(g, records, count);
    g->ids.pages.patient = 0;
    for (uint32_t i = 0; !done && i < extra_count; i++, extras += PUGD_GRAPH_EXTRA) {
        uint32_t low = read32(extras), high = read32(extras + 4);
        if (!low || low >= high || high > count || id_at(g, low)->person != id_at(g, high)->person) return -2;
        if (pugd_extras_find(&g->extras, low, high)) return -2;
        if (pugd_extras_reserve(&g->extras, low, high)) return -1;
        pugd_extras_put(&g->extras, low, high, read64(extras + 8));
        rest_at(g, id_at(g, low)->person)->extras += 1;
    }
    return done;
}

struct pugd_graph_numbers pugd_graph_statistics(const struct pugd_graph *g)
{
    return (struct pugd_graph_numbers){g->ids.count, g->users, g->joins, g->extras.count,
                                       sizeof *g + g->extras.bytes + pugd_ids_bytes(&g->ids)};
}
