#include "record.h"

#include "msgpack.h"

#include <string.h>

#if defined(__x86_64__)
#include <nmmintrin.h>
#include <wmmintrin.h>
#endif

/* The table way, a byte at a time: for CPUs without the instruction, and the twin that tests hold the other against. */
static uint32_t crc32c_plain(uint32_t crc, const uint8_t *data, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++) crc = (crc >> 1) ^ (0x82f63b78u & (0u - (crc & 1u)));
    }
    return crc;
}

#if defined(__x86_64__)
static inline uint64_t word_at(const uint8_t *p)
{
    uint64_t word;
    memcpy(&word, p, 8);
    return word;
}

/* The instruction takes three cycles and can begin one each cycle, so three stretches of the data are summed side by
 * side. A sum is then moved over the bytes that follow its stretch by one carry-less multiplication with
 * x^(8·bytes - 33) mod P (bits reflected; the other 33 come from the product's place and its reduction).
 * Source: Gopal et al., "Fast CRC Computation for iSCSI Polynomial Using CRC32 Instruction", Intel 2011. */
#define THREE(DATA, LENGTH, STRETCH, OVER_ONE, OVER_TWO)                                                               \
    while (LENGTH >= 3 * (STRETCH)) {                                                                                  \
        uint64_t one = wide, two = 0, three = 0;                                                                       \
        for (size_t i = 0; i < (STRETCH); i += 8) {                                                                    \
            one = _mm_crc32_u64(one, word_at(DATA + i));                                                               \
            two = _mm_crc32_u64(two, word_at(DATA + (STRETCH) + i));                                                   \
            three = _mm_crc32_u64(three, word_at(DATA + 2 * (STRETCH) + i));                                           \
        }                                                                                                              \
        wide = moved(one, OVER_TWO) ^ moved(two, OVER_ONE) ^ three;                                                    \
        DATA += 3 * (STRETCH);                                                                                         \
        LENGTH -= 3 * (STRETCH);                                                                                       \
    }

__attribute__((target("sse4.2,pclmul"))) static inline uint64_t moved(uint64_t crc, uint32_t over)
{
    __m128i product = _mm_clmulepi64_si128(_mm_cvtsi64_si128((int64_t)crc), _mm_cvtsi64_si128(over), 0);
    return _mm_crc32_u64(0, (uint64_t)_mm_cvtsi128_si64(product));
}

__attribute__((target("sse4.2,pclmul"))) static uint32_t crc32c_fast(uint32_t crc, const uint8_t *data, size_t length)
{
    uint64_t wide = crc;
    THREE(data, length, 4096, 0x82f89c77, 0x54a86326)
    THREE(data, length, 256, 0xb9e02b86, 0xdd7e3b0c)
    for (; length >= 8; data += 8, length -= 8) wide = _mm_crc32_u64(wide, word_at(data));
    crc = (uint32_t)wide;
    while (length--) crc = _mm_crc32_u8(crc, *data++);
    return crc;
}
#endif

uint32_t pugd_crc32c(uint32_t crc, const uint8_t *data, size_t length)
{
    crc = ~crc;
#if defined(__x86_64__)
    if (__builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("pclmul")) return ~crc32c_fast(crc, data, length);
#endif
    return ~crc32c_plain(crc, data, length);
}

static uint32_t le32(const uint8_t *p)
{
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static void put_le32(uint8_t *p, uint32_t value)
{
    for (int i = 0; i < 4; i++) p[i] = (uint8_t)(value >> (8 * i));
}

/* What bytes 4 to 7 of the record must hold. `head` is its header, the payload may lie elsewhere. */
static uint32_t record_sum(const uint8_t *head, const uint8_t *payload, size_t length, uint64_t position)
{
    uint8_t first[20];
    for (int i = 0; i < 8; i++) first[i] = (uint8_t)(position >> (8 * i));
    memcpy(first + 8, head, 4);
    memcpy(first + 12, head + 8, PUGD_RECORD_HEADER - 8);
    return pugd_crc32c(pugd_crc32c(0, first, sizeof first), payload, length);
}

void pugd_record_head(uint8_t *out, const uint8_t *payload, uint32_t length, uint32_t rows, uint64_t position)
{
    put_le32(out, length);
    put_le32(out + 8, PUGD_RECORD_ROWS);
    put_le32(out + 12, rows);
    put_le32(out + 4, record_sum(out, payload, length, position));
}

enum pugd_record_status pugd_record_read(const uint8_t *data, size_t length, uint64_t position,
                                         struct pugd_record *out)
{
    if (length == 0) return PUGD_RECORD_END;
    if (length < 4) return PUGD_RECORD_TORN;
    uint32_t payload = le32(data);
    if (payload == 0) return PUGD_RECORD_END;
    if (payload > PUGD_RECORD_LENGTH_MAX) return PUGD_RECORD_CORRUPT;
    if (length < PUGD_RECORD_HEADER || length - PUGD_RECORD_HEADER < payload) return PUGD_RECORD_TORN;
    if (data[8] != PUGD_RECORD_ROWS || data[9] || data[10] || data[11]) return PUGD_RECORD_CORRUPT;
    if (le32(data + 4) != record_sum(data, data + PUGD_RECORD_HEADER, payload, position)) return PUGD_RECORD_CORRUPT;
    out->payload = data + PUGD_RECORD_HEADER;
    out->length = payload;
    out->rows = le32(data + 12);
    return PUGD_RECORD_WHOLE;
}

size_t pugd_records_check(const uint8_t *data, size_t length, uint64_t position, uint64_t *rows, int *status)
{
    size_t at = 0;
    uint64_t sum = 0;
    for (;;) {
        struct pugd_record record;
        enum pugd_record_status s = pugd_record_read(data + at, length - at, position + at, &record);
        if (s != PUGD_RECORD_WHOLE) {
            *rows = sum;
            *status = (int)s;
            return at;
        }
        at += PUGD_RECORD_HEADER + (size_t)record.length;
        sum += record.rows;
    }
}

size_t pugd_record_find(const uint8_t *data, size_t length, uint64_t position)
{
    static const uint8_t kind[4] = {PUGD_RECORD_ROWS, 0, 0, 0};
    size_t summed = 0;
    if (length < PUGD_RECORD_HEADER) return length;
    for (size_t at = 0; at <= length - PUGD_RECORD_HEADER; at++) {
        const uint8_t *hit = memchr(data + at + 8, PUGD_RECORD_ROWS, length - PUGD_RECORD_HEADER - at + 1);
        if (!hit) return length;
        at = (size_t)(hit - data) - 8;
        if (memcmp(hit, kind, 4)) continue;
        struct pugd_record record;
        if (le32(data + at) > PUGD_RECORD_SHORT && summed / PUGD_RECORD_PATIENCE >= length) continue;
        enum pugd_record_status status = pugd_record_read(data + at, length - at, position + at, &record);
        if (status == PUGD_RECORD_WHOLE) return at;
        if (status == PUGD_RECORD_CORRUPT) summed += le32(data + at);
    }
    return length;
}

int64_t pugd_rows_split(const uint8_t *payload, size_t length, uint32_t *ends, size_t room)
{
    struct mp m = {payload, payload + length};
    size_t count = 0;
    while (mp_left(&m)) {
        if (count == room || mp_skip(&m)) return -1;
        ends[count++] = (uint32_t)(m.at - payload);
    }
    return (int64_t)count;
}
