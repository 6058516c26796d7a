// sources: ids.c siphash.c pages.c graph.c extras.c saving.c
// define: PUGD_TEST_MEMORY
/* The graph against a table of labels, while allocations fail: representatives, sizes, members, who moved, why two are
 * one, which links there are, persons taken apart; pictures that load to the same picture; and bytes of any kind as a packed batch or as records. */
#include "check.h"
#include "failing_memory.h"
#include "graph.h"
#include "picture.h"

#include <stdio.h>
#include <string.h>

#define IDS 120
#define LINKS 1500

static const uint8_t key[16] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
static uint64_t actor[IDS];
static int label[IDS];          /* which person, the twin's way */
static uint32_t entered[IDS];   /* when it came into the graph; 0: it is not */
static uint32_t user[IDS];      /* when it became a user id; 0: it is none */
static uint32_t clock_;
static int linked_a[LINKS + 1], linked_b[LINKS + 1]; /* by order */
static uint64_t pair[IDS][IDS]; /* the order of the link of two ids that stands; 0: there is none */
static uint8_t pictures[2][IDS * PUGD_GRAPH_RECORD + LINKS * PUGD_GRAPH_EXTRA];

static int representative(int person)
{
    int best = -1;
    for (int i = 0; i < IDS; i++) {
        if (label[i] != person || !entered[i]) continue;
        if (best < 0)
            best = i;
        else if (user[i] && (!user[best] || user[i] < user[best]))
            best = i;
        else if (!user[i] && !user[best] && entered[i] < entered[best])
            best = i;
    }
    return best;
}

static uint64_t person_of(int i) { return entered[i] ? actor[representative(label[i])] : actor[i]; }

static uint32_t size_of(int person)
{
    uint32_t n = 0;
    for (int i = 0; i < IDS; i++) n += label[i] == person;
    return n;
}

static int index_of(uint64_t a)
{
    for (int i = 0; i < IDS; i++)
        if (actor[i] == a) return i;
    return -1;
}

static int same(struct pugd_graph *g)
{
    static int turn;
    turn += 1;
    for (int i = 0; i < IDS; i++) {
        uint64_t members[IDS];
        CHECK(pugd_graph_find(g, actor[i]) == person_of(i));
        CHECK(pugd_graph_size(g, actor[i]) == size_of(label[i]));
        CHECK((pugd_graph_handle(g, actor[i]) != 0) == (entered[i] != 0));
        CHECK((pugd_graph_rank(g, actor[i]) != 0) == (user[i] != 0));
        int leader = entered[i] ? representative(label[i]) : i;
        CHECK(pugd_graph_owns_user(g, actor[i]) == (user[leader] != 0));
        uint32_t n = pugd_graph_members(g, actor[i], members, IDS);
        CHECK(n == size_of(label[i]) && members[0] == actor[i]);
        uint8_t met[IDS] = {0};
        for (uint32_t k = 0; k < n; k++) {
            int one = index_of(members[k]);
            CHECK(one >= 0 && label[one] == label[i] && !met[one]++);
        }
        if (i % 8 != turn % 8) continue; /* the rest costs its square */
        for (int k = 0; k < IDS; k++) {
            CHECK(pugd_graph_linked(g, actor[i], actor[k]) == (pair[i][k] != 0));
            if (entered[i] && entered[k])
                CHECK((pugd_graph_handle(g, actor[i]) < pugd_graph_handle(g, actor[k])) == (entered[i] < entered[k]));
            if (user[i] && user[k])
                CHECK((pugd_graph_rank(g, actor[i]) < pugd_graph_rank(g, actor[k])) == (user[i] < user[k]));
        }
        struct pugd_graph_entry links[IDS * 4];
        uint32_t count = pugd_graph_links(g, actor[i], links, IDS * 4), among = 0;
        for (uint32_t k = 0; k < count && k < IDS * 4; k++) {
            int a = index_of(links[k].a), b = index_of(links[k].b);
            CHECK(a >= 0 && b >= 0 && label[a] == label[i] && links[k].order && pair[a][b] == links[k].order);
            for (uint32_t l = 0; l < k; l++) CHECK(links[l].order != links[k].order);
        }
        for (int a = 0; a < IDS; a++)
            for (int b = 0; b < a; b++) among += label[a] == label[i] && pair[a][b] != 0;
        CHECK(count == among);
        CHECK(pugd_graph_extras_of(g, actor[i]) == count + 1 - size_of(label[i]));
    }
    return 0;
}

/* The links that explain a and b must lead from one to the other, each used once. */
static int explained(struct pugd_graph *g, int a, int b)
{
    uint64_t orders[IDS];
    int64_t n = pugd_graph_explain(g, actor[a], actor[b], orders, IDS);
    if (label[a] != label[b]) {
        CHECK(n == -1);
        return 0;
    }
    CHECK(n >= 0 && n < IDS && (n > 0) == (a != b));
    int at = a;
    for (int64_t k = 0; k < n; k++) {
        CHECK(orders[k] >= 1 && orders[k] <= LINKS);
        int one = linked_a[orders[k]], other = linked_b[orders[k]];
        CHECK(at == one || at == other);
        at = at == one ? other : one;
    }
    CHECK(at == b);
    return 0;
}

/* A picture of the graph, begun now and then, taken piece by piece while it changes: what there was when it began, or
 * lost for want of memory. */
static struct {
    int begun;
    size_t bytes, taken;
    uint8_t then[(IDS + 2 * LINKS) * PUGD_GRAPH_RECORD], piece[2 * 8192];
} picture;

static int picture_begin(struct pugd_graph *g)
{
    struct pugd_graph_numbers numbers = pugd_graph_statistics(g);
    unsigned of = failing_of;
    failing_of = 0;
    picture.bytes = picture_of(g, picture.then, sizeof picture.then);
    failing_of = of;
    CHECK(picture.bytes == (size_t)numbers.ids * PUGD_GRAPH_RECORD + (size_t)numbers.extras * PUGD_GRAPH_EXTRA);
    picture.taken = 0;
    picture.begun = !pugd_graph_save_begin(g);
    return 0;
}

static int picture_step(struct pugd_graph *g)
{
    int64_t n = pugd_graph_save_next(g, picture.piece, picture.taken % 2 ? sizeof picture.piece : 8192);
    CHECK(n >= 0 || failing_of);
    if (n > 0) {
        CHECK(picture.taken + (size_t)n <= picture.bytes);
        CHECK(!memcmp(picture.piece, picture.then + picture.taken, (size_t)n));
        picture.taken += (size_t)n;
        return 0;
    }
    CHECK(n == -1 || picture.taken == picture.bytes);
    pugd_graph_save_end(g);
    picture.begun = 0;
    return 0;
}

static int world(uint64_t seed, unsigned failing, int with_scatter)
{
    uint64_t state = seed;
    failing_seed = seed;
    failing_of = failing;
    clock_ = 0;
    for (int i = 0; i < IDS; i++) {
        actor[i] = failing_random(&state);
        label[i] = i;
        entered[i] = user[i] = 0;
    }
    memset(pair, 0, sizeof pair);
    struct pugd_graph *g;
    struct pugd_graph_entry *log = calloc(LINKS, sizeof *log);
    size_t logged = 0;
    while (!(g = pugd_graph_new(key))) CHECK(failing_held == 0);
    for (uint64_t order = 1; order <= LINKS; order++) {
        int a = (int)(failing_random(&state) % IDS), b = (int)(failing_random(&state) % IDS);
        int as_user = failing_random(&state) % 8 == 0;
        if (order % 3) { /* small persons for a while, so that every size meets every other */
            int span = 1 + (int)(order * IDS / LINKS);
            b = (a / span) * span + b % span;
            if (b >= IDS) b = IDS - 1;
        }
        if (!picture.begun && order % 10 == 0) CHECK(picture_begin(g) == 0);
        if (picture.begun && order % 40 == 7) CHECK(picture_step(g) == 0);
        uint64_t before[IDS], moved[IDS];
        uint8_t first[IDS];
        if (with_scatter && order % 200 == 0) { /* taken apart, and some of its links put back: those who stay are one again */
            pugd_graph_scatter(g, actor[a]);
            int from = label[a];
            for (int i = 0; i < IDS; i++) {
                if (label[i] != from) continue;
                label[i] = from == i ? from : -1;
                for (int k = 0; k < IDS; k++) pair[i][k] = pair[k][i] = 0;
            }
            for (int i = 0; i < IDS; i++) /* labels nobody has: an id's own, where it is free */
                if (label[i] == -1) {
                    int used[IDS] = {0};
                    for (int k = 0; k < IDS; k++)
                        if (label[k] >= 0) used[label[k]] = 1;
                    label[i] = 0;
                    while (used[label[i]]) label[i]++;
                }
            CHECK(same(g) == 0);
            continue;
        }
        for (int i = 0; i < IDS; i++) before[i] = person_of(i);
        for (int i = 0; i < IDS; i++) first[i] = size_of(label[i]) == 1;
        int reserved = failing_random(&state) % 2 && !pugd_graph_reserve(g, actor[a], actor[b]);
        reserved = reserved && !picture.begun; /* that one may allocate, and is lost where it cannot */
        unsigned of = failing_of;
        if (reserved) failing_of = 1000;
        int64_t n = as_user ? pugd_graph_user(g, actor[a], moved, IDS)
                            : pugd_graph_link(g, actor[a], actor[b], order, moved, IDS);
        failing_of = of;
        CHECK(!reserved || n >= 0);
        if (n < 0) {
            CHECK(same(g) == 0);
            continue;
        }
        log[logged++] = (struct pugd_graph_entry){order, actor[a], actor[b], (uint64_t)as_user};
        if (as_user) {
            if (!entered[a]) entered[a] = ++clock_;
            if (!user[a]) user[a] = ++clock_;
        } else if (a != b) {
            linked_a[order] = a;
            linked_b[order] = b;
            if (!entered[a]) entered[a] = ++clock_;
            if (!entered[b]) entered[b] = ++clock_;
            int from = label[b], to = label[a];
            for (int i = 0; i < IDS; i++)
                if (label[i] == from) label[i] = to;
            if (!pair[a][b]) pair[a][b] = pair[b][a] = order;
        }
        uint8_t listed[IDS] = {0};
        for (int64_t k = 0; k < n; k++) {
            int one = index_of(moved[k]);
            CHECK(one >= 0 && !listed[one]++);
        }
        for (int i = 0; i < IDS; i++)
            CHECK(listed[i] == (before[i] != person_of(i) || (first[i] && size_of(label[i]) > 1)));
        if (order % 50 == 0) CHECK(same(g) == 0);
        CHECK(explained(g, (int)(failing_random(&state) % IDS), (int)(failing_random(&state) % IDS)) == 0);
        CHECK(explained(g, a, b) == 0);
    }

    if (picture.begun) pugd_graph_save_end(g); /* given up halfway */
    picture.begun = 0;
    struct pugd_graph_numbers numbers = pugd_graph_statistics(g);
    failing_of = 0;
    CHECK(numbers.extras > (with_scatter ? 0 : 100) && numbers.extras <= LINKS);
    size_t id_bytes = numbers.ids * PUGD_GRAPH_RECORD, bytes = id_bytes + numbers.extras * PUGD_GRAPH_EXTRA;
    uint8_t *whole = pictures[0], *other = pictures[1];
    CHECK(picture_of(g, whole, sizeof pictures[0]) == bytes);
    if (!with_scatter) {
        struct pugd_graph *replayed = pugd_graph_new(key);
        CHECK(pugd_graph_link_many(replayed, log, logged) == logged);
        CHECK(picture_of(replayed, other, sizeof pictures[1]) == bytes);
        CHECK(!memcmp(whole, other, bytes));
        pugd_graph_free(replayed);
    }

    struct pugd_graph *loaded = pugd_graph_new(key);
    CHECK(pugd_graph_load(loaded, whole, numbers.ids, whole + id_bytes, numbers.extras) == 0);
    CHECK(same(loaded) == 0);
    CHECK(picture_of(loaded, other, sizeof pictures[1]) == bytes);
    CHECK(!memcmp(whole, other, bytes));
    struct pugd_graph_numbers again = pugd_graph_statistics(loaded);
    CHECK(again.ids == numbers.ids && again.users == numbers.users && again.joins == numbers.joins);
    CHECK(again.extras == numbers.extras);
    pugd_graph_free(loaded);

    for (int round = 0; round < 150; round++) { /* any record may be damaged: refused or loaded, never a wild read */
        memcpy(other, whole, bytes);
        for (int k = 0; k < 3; k++) other[failing_random(&state) % id_bytes] ^= (uint8_t)failing_random(&state);
        if (round % 3 == 0)
            other[id_bytes + failing_random(&state) % (bytes - id_bytes)] ^= (uint8_t)failing_random(&state);
        failing_of = round % 2 ? 0 : 20;
        struct pugd_graph *damaged = pugd_graph_new(key);
        if (!damaged) continue;
        if (pugd_graph_load(damaged, other, numbers.ids, other + id_bytes, numbers.extras) == 0)
            for (int i = 0; i < IDS; i++) {
                uint64_t members[IDS];
                struct pugd_graph_entry links[IDS];
                int b = (int)(failing_random(&state) % IDS);
                pugd_graph_find(damaged, actor[i]);
                pugd_graph_members(damaged, actor[i], members, IDS);
                pugd_graph_links(damaged, actor[i], links, IDS);
                pugd_graph_explain(damaged, actor[i], actor[b], members, IDS);
                if (round % 10 == 0) pugd_graph_link(damaged, actor[i], actor[b], 1, members, IDS);
                if (round % 20 == 0) pugd_graph_scatter(damaged, actor[i]);
            }
        pugd_graph_free(damaged);
    }
    pugd_graph_free(g);
    free(log);
    CHECK(failing_held == 0);
    return 0;
}

static uint8_t *write_text(uint8_t *out, const char *text)
{
    size_t n = strlen(text);
    *out++ = 0xd9;
    *out++ = (uint8_t)n;
    memcpy(out, text, n);
    return out + n;
}

/* A batch whose answer is known; then the same with any byte changed, and cut off anywhere. */
static int packed(void)
{
    enum { EVENTS = 100 };
    uint8_t bytes[EVENTS * 24 + 3], *out = bytes;
    uint64_t actors[EVENTS], expected[EVENTS];
    uint32_t look[EVENTS], looks = 0;
    failing_of = 0;
    struct pugd_graph *g = pugd_graph_new(key);
    *out++ = 0xdc;
    *out++ = (uint8_t)(3 * EVENTS >> 8);
    *out++ = (uint8_t)(3 * EVENTS);
    for (uint32_t i = 0; i < EVENTS; i++) {
        char u[8], a[8];
        snprintf(u, sizeof u, "u%u", i % 40);
        snprintf(a, sizeof a, "a%u", i % 60);
        uint64_t ua = pugd_graph_actor(g, i % 3, (uint8_t *)u, strlen(u));
        uint64_t aa = pugd_graph_actor(g, i % 3, (uint8_t *)a, strlen(a));
        int has_u = i % 4 != 0, has_a = i % 4 == 0 || i % 5 != 0;
        if (i % 7 < 5) pugd_graph_user(g, ua, NULL, 0);
        if (i % 7 < 3 && has_u && has_a && i < 40) pugd_graph_link(g, aa, ua, i + 1, NULL, 0);
        *out++ = (uint8_t)(i % 3);
        out = write_text(out, has_u ? u : "");
        out = write_text(out, has_a ? a : "");
        expected[i] = has_u ? ua : aa;
    }
    size_t length = (size_t)(out - bytes);
    struct mp_twin {
        int user, both;
    } twin[EVENTS];
    for (uint32_t i = 0; i < EVENTS; i++) {
        char u[8], a[8];
        snprintf(u, sizeof u, "u%u", i % 40);
        snprintf(a, sizeof a, "a%u", i % 60);
        uint64_t ua = pugd_graph_actor(g, i % 3, (uint8_t *)u, strlen(u));
        uint64_t aa = pugd_graph_actor(g, i % 3, (uint8_t *)a, strlen(a));
        int has_u = i % 4 != 0, has_a = i % 4 == 0 || i % 5 != 0;
        twin[i].user = has_u && !pugd_graph_rank(g, ua);
        twin[i].both = has_u && has_a && pugd_graph_find(g, ua) != pugd_graph_find(g, aa);
    }
    int64_t n = pugd_graph_resolve_many(g, bytes, length, EVENTS, actors, look);
    CHECK(n > 0 && n < EVENTS);
    for (uint32_t i = 0; i < EVENTS; i++) {
        CHECK(actors[i] == expected[i]);
        int listed = looks < n && look[looks] == i;
        looks += (uint32_t)listed;
        CHECK(listed == (twin[i].user || twin[i].both));
    }
    uint64_t state = 5;
    for (int round = 0; round < 20000; round++) {
        size_t cut = failing_random(&state) % 2 ? length : failing_random(&state) % length;
        uint8_t *exact = malloc(cut + 1);
        memcpy(exact, bytes, cut);
        for (int k = 0; cut && k < round % 4; k++)
            exact[failing_random(&state) % cut] = (uint8_t)failing_random(&state);
        uint8_t *tight = realloc(exact, cut ? cut : 1);
        n = pugd_graph_resolve_many(g, tight, cut, EVENTS, actors, look);
        CHECK(n >= -1 && n <= EVENTS);
        CHECK(cut == length || n == -1 || round % 4);
        free(tight);
    }
    pugd_graph_free(g);
    return 0;
}

int main(void)
{
    if (packed()) return 1;
    for (uint64_t seed = 1; seed <= 2; seed++)
        if (world(seed, 0, 0) || world(seed + 10, 300, 0) || world(seed + 20, 300, 1)) return 1;
    return 0;
}
