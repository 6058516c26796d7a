// The C++ peer of bench_identity.py: boost::unordered_flat_map where its header is there, else std::unordered_map, from a
// 64-bit hash of the text to a place, and union-find over places. It knows no key, no explanation and no undo.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <unistd.h>
#include <vector>

#if __has_include(<boost/unordered/unordered_flat_map.hpp>)
#include <boost/unordered/unordered_flat_map.hpp>
template <class H> using Map = boost::unordered_flat_map<uint64_t, uint32_t, H>;
#else
#include <unordered_map>
template <class H> using Map = std::unordered_map<uint64_t, uint32_t, H>;
#endif

extern "C" {
#include "workload.h"
}

struct Same {
    size_t operator()(uint64_t v) const { return v * 0x9e3779b97f4a7c15u; }
};

// As FxHash: a rotation, an xor and a product for each word.
static uint64_t hash(const char *text)
{
    uint64_t h = 0;
    for (int at = 0; at < 32; at += 8) {
        uint64_t word;
        memcpy(&word, text + at, 8);
        h = ((h << 5 | h >> 59) ^ word) * 0x517cc1b727220a95u;
    }
    uint32_t last;
    memcpy(&last, text + 32, 4);
    return work_mix(((h << 5 | h >> 59) ^ last) * 0x517cc1b727220a95u);
}

struct Id {
    uint64_t actor;
    uint32_t parent, next, size;
};

static Map<Same> places;
static std::vector<Id> ids;
static uint64_t joins;

static uint32_t root(uint32_t at)
{
    while (ids[at].parent != at) at = ids[at].parent = ids[ids[at].parent].parent;
    return at;
}

static uint32_t enter(uint64_t actor)
{
    auto [place, fresh] = places.try_emplace(actor, (uint32_t)ids.size());
    if (fresh) ids.push_back({actor, place->second, place->second, 1});
    return place->second;
}

static void join(const char *user, const char *anonymous)
{
    uint32_t a = root(enter(hash(user))), b = root(enter(hash(anonymous)));
    if (a == b) return;
    if (ids[a].size < ids[b].size) std::swap(a, b);
    ids[b].parent = a;
    ids[a].size += ids[b].size;
    std::swap(ids[a].next, ids[b].next);
    joins += 1;
}

static uint64_t person(const char *text)
{
    uint64_t actor = hash(text);
    auto place = places.find(actor);
    return place == places.end() ? actor : ids[root(place->second)].actor;
}

static uint64_t now()
{
    timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t resident()
{
    FILE *file = fopen("/proc/self/statm", "r");
    unsigned long size = 0, pages = 0;
    if (!file || fscanf(file, "%lu %lu", &size, &pages) != 2) exit(1);
    fclose(file);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

int main()
{
    enum { CHUNK = 1000, BATCH = 256 };
    static char text[CHUNK][2 * TEXT];
    static int links[CHUNK];
    struct work work = {1, 0, 0};
    uint64_t before = resident(), all = 0;
    unsigned long count;
    char what[16];
    while (scanf("%15s %lu", what, &count) == 2) {
        uint64_t total = 0, worst = 0;
        size_t step = what[0] == 'g' ? CHUNK : BATCH;
        for (size_t done = 0; done < count; done += step) {
            for (size_t i = 0; i < step; i++) {
                if (what[0] == 'g')
                    links[i] = work_next(&work, text[i], text[i] + TEXT);
                else
                    work_uniform(&work, text[i]), links[i] = 0;
            }
            uint64_t start = now();
            for (size_t i = 0; i < step; i++) {
                if (links[i])
                    join(text[i], text[i] + TEXT);
                else
                    all += person(text[i]);
            }
            uint64_t took = now() - start;
            total += took;
            if (took > worst) worst = took;
        }
        printf("%lu %lu %zu %lu %lu %lu\n", total, worst, ids.size(), joins, resident() - before, all & 1);
        fflush(stdout);
    }
}
