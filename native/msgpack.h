/* Reading MessagePack in place, for rows that msgspec wrote: a cursor that never passes its end.
 * Every function returns 0 and moves the cursor past one whole value, or returns -1 and leaves the cursor undefined
 * (damaged, truncated, or of another type). Nothing is copied and nothing is allocated.
 * Source: the MessagePack specification, "formats" table.
 */
#ifndef PUGD_MSGPACK_H
#define PUGD_MSGPACK_H

#include <stdint.h>
#include <stddef.h>
#include <string.h>

struct mp {
    const uint8_t *at;
    const uint8_t *end;
};

static inline size_t mp_left(const struct mp *m) { return (size_t)(m->end - m->at); }

static inline uint16_t mp_be16(const uint8_t *p) { return (uint16_t)((p[0] << 8) | p[1]); }

static inline uint32_t mp_be32(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, 4);
    return __builtin_bswap32(v);
}

static inline uint64_t mp_be64(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, 8);
    return __builtin_bswap64(v);
}

/* The header of an array: how many values follow. */
static inline int mp_array(struct mp *m, uint32_t *count)
{
    if (mp_left(m) < 1) return -1;
    uint8_t tag = m->at[0];
    if ((tag & 0xf0) == 0x90) {
        *count = tag & 0x0f;
        m->at += 1;
        return 0;
    }
    if (tag == 0xdc && mp_left(m) >= 3) {
        *count = mp_be16(m->at + 1);
        m->at += 3;
        return 0;
    }
    if (tag == 0xdd && mp_left(m) >= 5) {
        *count = mp_be32(m->at + 1);
        m->at += 5;
        return 0;
    }
    return -1;
}

/* An integer of either sign, as 64 bits: two's complement where it is negative (*negative is then 1). */
static inline int mp_int(struct mp *m, uint64_t *value, int *negative)
{
    size_t left = mp_left(m);
    if (left < 1) return -1;
    uint8_t tag = m->at[0];
    const uint8_t *p = m->at + 1;
    int64_t s;
    *negative = 0;
    if (tag < 0x80) {
        *value = tag;
        m->at += 1;
        return 0;
    }
    if (tag >= 0xe0) {
        *value = (uint64_t)(int64_t)(int8_t)tag;
        *negative = 1;
        m->at += 1;
        return 0;
    }
    switch (tag) {
    case 0xcc:
        if (left < 2) return -1;
        *value = p[0];
        m->at += 2;
        return 0;
    case 0xcd:
        if (left < 3) return -1;
        *value = mp_be16(p);
        m->at += 3;
        return 0;
    case 0xce:
        if (left < 5) return -1;
        *value = mp_be32(p);
        m->at += 5;
        return 0;
    case 0xcf:
        if (left < 9) return -1;
        *value = mp_be64(p);
        m->at += 9;
        return 0;
    case 0xd0:
        if (left < 2) return -1;
        s = (int8_t)p[0];
        m->at += 2;
        break;
    case 0xd1:
        if (left < 3) return -1;
        s = (int16_t)mp_be16(p);
        m->at += 3;
        break;
    case 0xd2:
        if (left < 5) return -1;
        s = (int32_t)mp_be32(p);
        m->at += 5;
        break;
    case 0xd3:
        if (left < 9) return -1;
        s = (int64_t)mp_be64(p);
        m->at += 9;
        break;
    default:
        return -1;
    }
    *value = (uint64_t)s;
    *negative = s < 0;
    return 0;
}

/* A string or a byte string: where its bytes lie. */
static inline int mp_bytes(struct mp *m, const uint8_t **text, uint32_t *length)
{
    size_t left = mp_left(m);
    if (left < 1) return -1;
    uint8_t tag = m->at[0];
    size_t head;
    uint32_t n;
    if ((tag & 0xe0) == 0xa0) {
        head = 1;
        n = tag & 0x1f;
    } else if (tag == 0xd9 || tag == 0xc4) {
        if (left < 2) return -1;
        head = 2;
        n = m->at[1];
    } else if (tag == 0xda || tag == 0xc5) {
        if (left < 3) return -1;
        head = 3;
        n = mp_be16(m->at + 1);
    } else if (tag == 0xdb || tag == 0xc6) {
        if (left < 5) return -1;
        head = 5;
        n = mp_be32(m->at + 1);
    } else {
        return -1;
    }
    if (left - head < n) return -1;
    *text = m->at + head;
    *length = n;
    m->at += head + n;
    return 0;
}

static inline int mp_float(struct mp *m, double *value)
{
    if (mp_left(m) >= 9 && m->at[0] == 0xcb) {
        uint64_t bits = mp_be64(m->at + 1);
        memcpy(value, &bits, 8);
        m->at += 9;
        return 0;
    }
    if (mp_left(m) >= 5 && m->at[0] == 0xca) {
        uint32_t bits = mp_be32(m->at + 1);
        float f;
        memcpy(&f, &bits, 4);
        *value = (double)f;
        m->at += 5;
        return 0;
    }
    return -1;
}

static inline int mp_is_nil(const struct mp *m) { return mp_left(m) >= 1 && m->at[0] == 0xc0; }

/* Past one value of any type that rows use (nil, bool, number, string, bytes, array of these), without recursion. */
static inline int mp_skip(struct mp *m)
{
    uint64_t pending = 1;
    while (pending) {
        if (mp_left(m) < 1) return -1;
        uint8_t tag = m->at[0];
        const uint8_t *text;
        uint32_t n;
        uint64_t v;
        double d;
        int negative;
        pending -= 1;
        if (tag == 0xc0 || tag == 0xc2 || tag == 0xc3) {
            m->at += 1;
        } else if ((tag & 0xf0) == 0x90 || tag == 0xdc || tag == 0xdd) {
            if (mp_array(m, &n)) return -1;
            pending += n;
        } else if (tag == 0xca || tag == 0xcb) {
            if (mp_float(m, &d)) return -1;
        } else if ((tag & 0xe0) == 0xa0 || (tag >= 0xd9 && tag <= 0xdb) || (tag >= 0xc4 && tag <= 0xc6)) {
            if (mp_bytes(m, &text, &n)) return -1;
        } else {
            if (mp_int(m, &v, &negative)) return -1;
        }
    }
    return 0;
}

#endif
