// sources: ids.c siphash.c pages.c
// define: PUGD_TEST_MEMORY
/* The index against "the n-th actor put has handle n", while allocations fail. */
#include "check.h"
#include "failing_memory.h"
#include "ids.h"

#include <stdio.h>
#include <string.h>

#define ACTORS 120000
static uint64_t actors[ACTORS + 1];

static int index_of(uint64_t seed, unsigned failing, int counted_up)
{
    struct pugd_ids ids;
    failing_seed = seed;
    failing_of = failing;
    while (pugd_ids_open(&ids)) CHECK(failing_held == 0);
    uint64_t state = seed;
    uint32_t count = 0, failed = 0;
    while (count < ACTORS) {
        uint64_t actor = counted_up ? count : failing_random(&state);
        uint32_t before = ids.count;
        if (pugd_ids_find(&ids, actor)) continue;
        if (pugd_ids_reserve(&ids, actor)) {
            CHECK(ids.count == before);
            CHECK(pugd_ids_find(&ids, actor) == 0);
            failed += 1;
            continue;
        }
        unsigned of = failing_of;
        failing_of = 1000; /* reserved: it must not allocate */
        uint32_t handle = pugd_ids_put(&ids, actor);
        failing_of = of;
        count += 1;
        CHECK(handle == count);
        actors[handle] = actor;
        CHECK(pugd_ids_find(&ids, actor) == handle);
    }
    CHECK(failing == 0 || failed > 0);
    for (uint32_t handle = 1; handle <= count; handle++) {
        CHECK(pugd_ids_find(&ids, actors[handle]) == handle);
        CHECK(pugd_ids_at(&ids, handle)->actor == actors[handle]);
        CHECK(pugd_ids_at(&ids, handle)->person == handle);
        CHECK(pugd_ids_at(&ids, handle)->next == handle);
        if (!counted_up) CHECK(pugd_ids_find(&ids, ~actors[handle]) == 0);
    }
    for (int round = 0; round < 2000; round++) { /* known ones among unknown ones, several of them twice */
        uint64_t asked[PUGD_IDS_BLOCK];
        uint32_t found[PUGD_IDS_BLOCK], n = (uint32_t)(failing_random(&state) % (PUGD_IDS_BLOCK + 1));
        for (uint32_t i = 0; i < n; i++) {
            asked[i] = actors[1 + failing_random(&state) % count];
            if (i % 5 == 0) asked[i] = counted_up ? count + i : failing_random(&state);
            if (i % 7 == 0 && i) asked[i] = asked[i - 1];
        }
        pugd_ids_find_many(&ids, asked, n, found);
        for (uint32_t i = 0; i < n; i++) CHECK(found[i] == pugd_ids_find(&ids, asked[i]));
    }
    CHECK(pugd_ids_bytes(&ids) > 24 * (uint64_t)count);
    failing_of = 0;
    CHECK(pugd_ids_expect(&ids, 4 * ACTORS) == 0); /* it is not empty: nothing is done */
    for (uint32_t handle = 1; handle <= count; handle++) CHECK(pugd_ids_find(&ids, actors[handle]) == handle);
    pugd_ids_close(&ids);
    CHECK(failing_held == 0);
    pugd_ids_close(&ids);
    return 0;
}

/* An index made for its ids beforehand holds them without another unit, whatever their number. */
static int expected(void)
{
    uint64_t state = 9;
    failing_of = 0;
    for (uint32_t count = 1; count < ACTORS; count = count * 3 + 1) {
        struct pugd_ids ids;
        CHECK(pugd_ids_open(&ids) == 0);
        CHECK(pugd_ids_expect(&ids, count) == 0);
        uint32_t units = ids.units;
        for (uint32_t i = 1; i <= count; i++) {
            actors[i] = failing_random(&state);
            CHECK(pugd_ids_reserve(&ids, actors[i]) == 0);
            CHECK(pugd_ids_put(&ids, actors[i]) == i);
        }
        for (uint32_t i = 1; i <= count; i++) CHECK(pugd_ids_find(&ids, actors[i]) == i);
        CHECK(ids.units == units);
        pugd_ids_close(&ids);
    }
    CHECK(failing_held == 0);
    return 0;
}

/* Ids that were never hashed and all fall together: those of one tag fill a group, and then one is refused; those that
 * differ late in their tags make the directory deep. All that were taken are found. */
static int crowded(int shift)
{
    struct pugd_ids ids;
    const uint64_t inverse = 0xf1de83e19937733du; /* of the odd constant, so that h can be chosen */
    uint32_t count = 0;
    failing_of = 0;
    CHECK(pugd_ids_open(&ids) == 0);
    while (count < 20000) {
        uint64_t actor = (0x5ull << 60 | (uint64_t)count << shift) * inverse;
        if (pugd_ids_reserve(&ids, actor)) break;
        CHECK(pugd_ids_put(&ids, actor) == ++count);
        actors[count] = actor;
    }
    CHECK(shift ? count == 20000 : count > 3000 && count < 4096);
    for (uint32_t i = 1; i <= count; i++) CHECK(pugd_ids_find(&ids, actors[i]) == i);
    pugd_ids_close(&ids);
    CHECK(failing_held == 0);
    return 0;
}

int main(void)
{
    if (index_of(1, 0, 0) || index_of(2, 600, 0) || index_of(3, 0, 1) || index_of(4, 600, 1)) return 1;
    if (expected() || crowded(0) || crowded(44)) return 1;
    return 0;
}
