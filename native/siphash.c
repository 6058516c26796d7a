#include "siphash.h"

#include <string.h>

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

/* The last word: the total length above what is left of the text, at most 7 bytes. */
static inline uint64_t sip_last(const uint8_t *text, size_t length, size_t total)
{
    uint64_t last = (uint64_t)total << 56;
    for (size_t i = 0; i < length; i++) last |= (uint64_t)text[i] << (8 * i);
    return last;
}

static inline uint64_t sip_end(struct sip *s, const uint8_t *text, size_t length, size_t total)
{
    for (; length >= 8; text += 8, length -= 8) sip_word(s, load64(text));
    sip_word(s, sip_last(text, length, total));
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

#if defined(__x86_64__) && defined(__GNUC__)

/* Eight at once: two vectors of four, so that one's waits are the other's work. */
#include <immintrin.h>

#define LANES 8
#define AVX2 __attribute__((target("avx2"), always_inline)) static inline

struct sip_lanes {
    __m256i v0, v1, v2, v3;
};

AVX2 __m256i lanes_rotate(__m256i v, int bits)
{
    return _mm256_or_si256(_mm256_slli_epi64(v, bits), _mm256_srli_epi64(v, 64 - bits));
}

AVX2 __m256i lanes_rotate16(__m256i v)
{
    const __m256i order = _mm256_setr_epi8(6, 7, 0, 1, 2, 3, 4, 5, 14, 15, 8, 9, 10, 11, 12, 13, 6, 7, 0, 1, 2, 3, 4, 5,
                                           14, 15, 8, 9, 10, 11, 12, 13);
    return _mm256_shuffle_epi8(v, order);
}

AVX2 __m256i lanes_rotate32(__m256i v) { return _mm256_shuffle_epi32(v, 0xb1); }

AVX2 void lanes_round(struct sip_lanes *s)
{
    s->v0 = _mm256_add_epi64(s->v0, s->v1);
    s->v2 = _mm256_add_epi64(s->v2, s->v3);
    s->v1 = _mm256_xor_si256(lanes_rotate(s->v1, 13), s->v0);
    s->v3 = _mm256_xor_si256(lanes_rotate16(s->v3), s->v2);
    s->v0 = _mm256_add_epi64(lanes_rotate32(s->v0), s->v3);
    s->v2 = _mm256_add_epi64(s->v2, s->v1);
    s->v3 = _mm256_xor_si256(lanes_rotate(s->v3, 21), s->v0);
    s->v1 = _mm256_xor_si256(lanes_rotate(s->v1, 17), s->v2);
    s->v2 = lanes_rotate32(s->v2);
}

AVX2 void lanes_word(struct sip_lanes s[2], __m256i low, __m256i high)
{
    s[0].v3 = _mm256_xor_si256(s[0].v3, low);
    s[1].v3 = _mm256_xor_si256(s[1].v3, high);
    for (int i = 0; i < 2; i++) {
        lanes_round(&s[0]);
        lanes_round(&s[1]);
    }
    s[0].v0 = _mm256_xor_si256(s[0].v0, low);
    s[1].v0 = _mm256_xor_si256(s[1].v0, high);
}

AVX2 __m256i lanes_load(const uint8_t *const text[4], size_t at)
{
    return _mm256_set_epi64x((int64_t)load64(text[3] + at), (int64_t)load64(text[2] + at),
                             (int64_t)load64(text[1] + at), (int64_t)load64(text[0] + at));
}

/* The actors of eight texts of as many words each, and of 8 bytes at least. */
__attribute__((target("avx2"))) static void lanes_hash(const struct pugd_key *key, const struct pugd_text *const t[LANES],
                                                       uint64_t actors[LANES])
{
    struct sip_lanes s[2];
    const uint8_t *text[LANES];
    uint64_t word[LANES];
    for (int i = 0; i < 2; i++) {
        s[i].v0 = _mm256_set1_epi64x((int64_t)(key->k0 ^ 0x736f6d6570736575u));
        s[i].v1 = _mm256_set1_epi64x((int64_t)(key->k1 ^ 0x646f72616e646f6du));
        s[i].v2 = _mm256_set1_epi64x((int64_t)(key->k0 ^ 0x6c7967656e657261u));
        s[i].v3 = _mm256_set1_epi64x((int64_t)(key->k1 ^ 0x7465646279746573u));
    }
    for (int i = 0; i < LANES; i++) {
        text[i] = t[i]->text;
        word[i] = t[i]->project | load64(text[i]) << 32;
    }
    lanes_word(s, _mm256_loadu_si256((const __m256i *)word), _mm256_loadu_si256((const __m256i *)(word + 4)));
    size_t words = (t[0]->length + 4) / 8;
    for (size_t at = 4; --words; at += 8) lanes_word(s, lanes_load(text, at), lanes_load(text + 4, at));
    for (int i = 0; i < LANES; i++) {
        uint32_t length = t[i]->length, left = (length + 4) % 8;
        uint64_t end = load64(text[i] + length - 8); /* read backwards, never past the text */
        word[i] = (uint64_t)(length + 4) << 56 | (left ? end >> (64 - 8 * left) : 0);
    }
    lanes_word(s, _mm256_loadu_si256((const __m256i *)word), _mm256_loadu_si256((const __m256i *)(word + 4)));
    for (int i = 0; i < 2; i++) s[i].v2 = _mm256_xor_si256(s[i].v2, _mm256_set1_epi64x(0xff));
    for (int i = 0; i < 4; i++) {
        lanes_round(&s[0]);
        lanes_round(&s[1]);
    }
    for (int i = 0; i < 2; i++)
        _mm256_storeu_si256((__m256i *)(actors + 4 * i), _mm256_xor_si256(_mm256_xor_si256(s[i].v0, s[i].v1),
                                                                         _mm256_xor_si256(s[i].v2, s[i].v3)));
}

/* Texts wait, by their number of words, until eight can go together. */
#define LANES_WORDS 10 /* texts of up to 83 bytes; longer ones are rare and go alone */

void pugd_siphash_many(const struct pugd_key *key, const struct pugd_text *texts, size_t count, uint64_t *actors)
{
    const struct pugd_text *waiting[LANES_WORDS][LANES];
    uint8_t wait[LANES_WORDS] = {0};
    uint64_t found[LANES];
    int lanes = count >= LANES / 2 && __builtin_cpu_supports("avx2");
    for (size_t i = 0; i < count; i++) {
        size_t words = ((size_t)texts[i].length + 4) / 8 - 1;
        if (!lanes || texts[i].length < 8 || words >= LANES_WORDS) {
            actors[i] = pugd_siphash_project(key, texts[i].project, texts[i].text, texts[i].length);
            continue;
        }
        waiting[words][wait[words]++] = &texts[i];
        if (wait[words] < LANES) continue;
        lanes_hash(key, waiting[words], found);
        for (int k = 0; k < LANES; k++) actors[waiting[words][k] - texts] = found[k];
        wait[words] = 0;
    }
    for (size_t words = 0; words < LANES_WORDS; words++) {
        int n = wait[words];
        if (n >= LANES / 2) {
            for (int k = n; k < LANES; k++) waiting[words][k] = waiting[words][0];
            lanes_hash(key, waiting[words], found);
            for (int k = 0; k < n; k++) actors[waiting[words][k] - texts] = found[k];
        } else {
            for (int k = 0; k < n; k++) {
                const struct pugd_text *t = waiting[words][k];
                actors[t - texts] = pugd_siphash_project(key, t->project, t->text, t->length);
            }
        }
    }
}

#else

void pugd_siphash_many(const struct pugd_key *key, const struct pugd_text *texts, size_t count, uint64_t *actors)
{
    for (size_t i = 0; i < count; i++)
        actors[i] = pugd_siphash_project(key, texts[i].project, texts[i].text, texts[i].length);
}

#endif
