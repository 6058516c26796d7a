/* What the identity benchmark asks of every engine (bench_identity.py): three links to seven look-ups, growing from
 * nothing; and look-ups at random over all. A link joins a new anonymous id with a user id, every second time a new one,
 * else one drawn by Zipf's law (exponent 1), as look-ups are. Ids are texts of 36 bytes, UUIDs. peer_rust has the same.
 */
#ifndef PUGD_WORKLOAD_H
#define PUGD_WORKLOAD_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#define TEXT 36

struct work {
    uint64_t state, users, anonymous;
};

static inline uint64_t work_mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static inline uint64_t work_any(struct work *w) { return work_mix(w->state += 0x9e3779b97f4a7c15u); }

/* 0 … n - 1, the k-th likely one with chance 1/k; the likely ones lie anywhere. */
static inline uint64_t work_zipf(struct work *w, uint64_t n)
{
    double u = (double)(work_any(w) >> 11) * 0x1p-53;
    uint64_t rank = (uint64_t)exp(u * log((double)n + 1)) - 1, power = 1ull << (63 - __builtin_clzll(n));
    if (rank >= n) rank = n - 1;
    return rank < power ? (rank * 0x9e3779b1u) & (power - 1) : rank;
}

static inline void work_text(char *out, uint64_t index, int is_user)
{
    static const char digits[] = "0123456789abcdef";
    uint64_t half[2] = {work_mix(2 * index + (uint64_t)is_user + 1), 0};
    half[1] = work_mix(half[0] + 0x9e3779b97f4a7c15u);
    for (int i = 0, at = 0; i < 32; i++) {
        if (i == 8 || i == 12 || i == 16 || i == 20) out[at++] = '-';
        out[at++] = digits[half[i >> 4] >> 4 * (i & 15) & 15];
    }
}

/* One operation: `user` and, of a link, `anonymous` get texts. returns 1 of a link; a look-up's one text is in `user`. */
static inline int work_next(struct work *w, char *user, char *anonymous)
{
    if (!w->users || work_any(w) % 10 < 3) {
        uint64_t index = !w->users || work_any(w) & 1 ? w->users++ : work_zipf(w, w->users);
        work_text(user, index, 1);
        work_text(anonymous, w->anonymous++, 0);
        return 1;
    }
    int is_user = (int)(work_any(w) & 1);
    work_text(user, work_zipf(w, is_user ? w->users : w->anonymous), is_user);
    return 0;
}

/* A look-up at random over all ids. */
static inline void work_uniform(struct work *w, char *text)
{
    uint64_t index = work_any(w) % (w->users + w->anonymous);
    int is_user = index < w->users;
    work_text(text, is_user ? index : index - w->users, is_user);
}

#endif
