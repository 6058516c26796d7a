#include "protobuf.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { VARINT = 0, FIXED64 = 1, BLOCK = 2, GROUP = 3, GROUP_END = 4, FIXED32 = 5 };

/* ---- reading ------------------------------------------------------------------------------------------------------- */

struct walk {
    const uint8_t *at, *end;
};

struct span {
    const uint8_t *begin; /* NULL: it is not there */
    size_t length;
};

struct field {
    uint32_t number, wire;
    uint64_t value;   /* of a VARINT */
    struct span span; /* of any other */
};

static struct walk within(struct span span)
{
    return (struct walk){span.begin, span.begin + span.length};
}

static int varint(struct walk *w, uint64_t *out)
{
    const uint8_t *p = w->at;
    if (p < w->end && *p < 0x80) {
        *out = *p;
        w->at = p + 1;
        return 0;
    }
    uint64_t value = 0;
    for (unsigned i = 0; i < 10 && p + i < w->end; i++) {
        value |= (uint64_t)(p[i] & 0x7f) << (7 * i);
        if (p[i] < 0x80) {
            *out = value;
            w->at = p + i + 1;
            return 0;
        }
    }
    return -PUGD_PROTOBUF_MALFORMED;
}

/* One field, whatever it is; of a group its tag alone. */
static int take(struct walk *w, struct field *f)
{
    uint64_t tag, length;
    if (varint(w, &tag)) return -PUGD_PROTOBUF_MALFORMED;
    if (tag >> 32 || tag < 8) return -PUGD_PROTOBUF_MALFORMED;
    f->number = (uint32_t)(tag >> 3);
    f->wire = (uint32_t)(tag & 7);
    switch (f->wire) {
    case VARINT:
        return varint(w, &f->value);
    case BLOCK:
        if (varint(w, &length)) return -PUGD_PROTOBUF_MALFORMED;
        break;
    case FIXED64:
        length = 8;
        break;
    case FIXED32:
        length = 4;
        break;
    case GROUP:
    case GROUP_END:
        return 0;
    default:
        return -PUGD_PROTOBUF_MALFORMED;
    }
    if (length > (uint64_t)(w->end - w->at)) return -PUGD_PROTOBUF_MALFORMED;
    f->span = (struct span){w->at, (size_t)length};
    w->at += length;
    return 0;
}

/* Past the end of a group whose tag was read. */
static int pass_group(struct walk *w, uint32_t number)
{
    uint32_t open[PUGD_PROTOBUF_DEPTH_MAX] = {number};
    unsigned depth = 1;
    struct field f;
    while (w->at < w->end) {
        int wrong = take(w, &f);
        if (wrong) return wrong;
        if (f.wire == GROUP) {
            if (depth == PUGD_PROTOBUF_DEPTH_MAX) return -PUGD_PROTOBUF_TOO_DEEP;
            open[depth++] = f.number;
        } else if (f.wire == GROUP_END) {
            if (open[--depth] != f.number) return -PUGD_PROTOBUF_MALFORMED;
            if (!depth) return 0;
        }
    }
    return -PUGD_PROTOBUF_MALFORMED;
}

/* The next field that is no group. returns 1; 0 at the end; less than 0, what is wrong */
static int next(struct walk *w, struct field *f)
{
    while (w->at < w->end) {
        int wrong = take(w, f);
        if (wrong) return wrong;
        if (f->wire == GROUP_END) return -PUGD_PROTOBUF_MALFORMED;
        if (f->wire != GROUP) return 1;
        if ((wrong = pass_group(w, f->number))) return wrong;
    }
    return 0;
}

/* ---- writing ------------------------------------------------------------------------------------------------------- */

struct out {
    uint8_t *at, *end;
};

static int put(struct out *o, const char *text, size_t length)
{
    if ((size_t)(o->end - o->at) < length) return -PUGD_PROTOBUF_NO_ROOM;
    memcpy(o->at, text, length);
    o->at += length;
    return 0;
}

#define PUT(o, text) put(o, text, sizeof(text) - 1)
#define TRY(what)                                                                                                      \
    do {                                                                                                               \
        int wrong_ = (what);                                                                                           \
        if (wrong_ < 0) return wrong_;                                                                                 \
    } while (0)

/* How long the character at `p` is, which is no ASCII; 0 where it is none */
static unsigned character(const uint8_t *p, const uint8_t *end)
{
    size_t left = (size_t)(end - p);
    if (p[0] >= 0xc2 && p[0] <= 0xdf) return left >= 2 && (p[1] & 0xc0) == 0x80 ? 2 : 0;
    if (p[0] >= 0xe0 && p[0] <= 0xef) {
        uint8_t low = p[0] == 0xe0 ? 0xa0 : 0x80, high = p[0] == 0xed ? 0x9f : 0xbf;
        return left >= 3 && p[1] >= low && p[1] <= high && (p[2] & 0xc0) == 0x80 ? 3 : 0;
    }
    if (p[0] >= 0xf0 && p[0] <= 0xf4) {
        uint8_t low = p[0] == 0xf0 ? 0x90 : 0x80, high = p[0] == 0xf4 ? 0x8f : 0xbf;
        return left >= 4 && p[1] >= low && p[1] <= high && (p[2] & 0xc0) == 0x80 && (p[3] & 0xc0) == 0x80 ? 4 : 0;
    }
    return 0;
}

#define ONES 0x0101010101010101u
#define HIGHS 0x8080808080808080u

static int string(struct out *o, struct span span)
{
    static const char hex[] = "0123456789abcdef";
    const uint8_t *p = span.begin, *end = p + span.length;
    if ((size_t)(o->end - o->at) / 6 < span.length || (size_t)(o->end - o->at) < 6 * span.length + 2)
        return -PUGD_PROTOBUF_NO_ROOM;
    uint8_t *q = o->at;
    *q++ = '"';
    while (p < end) {
        uint64_t eight;
        while (end - p >= 8) {
            memcpy(&eight, p, 8);
            uint64_t quote = eight ^ ONES * '"', slash = eight ^ ONES * '\\';
            uint64_t odd = eight | (eight - ONES * 0x20) | (quote - ONES) | (slash - ONES);
            if (odd & HIGHS) break;
            memcpy(q, p, 8);
            p += 8, q += 8;
        }
        if (p == end) break;
        /* One character by itself, and then eight again. */
        uint8_t c = *p;
        if (c >= 0x80) {
            unsigned length = character(p, end);
            if (!length) return -PUGD_PROTOBUF_NO_UTF8;
            memcpy(q, p, length);
            p += length, q += length;
            continue;
        }
        p++;
        if (c == '"' || c == '\\') {
            *q++ = '\\', *q++ = c;
        } else if (c < 0x20) {
            memcpy(q, "\\u00", 4);
            q[4] = (uint8_t)hex[c >> 4], q[5] = (uint8_t)hex[c & 15];
            q += 6;
        } else {
            *q++ = c;
        }
    }
    *q++ = '"';
    o->at = q;
    return 0;
}

/* At least `digits` of them. */
static int digits(struct out *o, uint64_t value, unsigned at_least)
{
    char text[24];
    unsigned at = sizeof text;
    do text[--at] = (char)('0' + value % 10);
    while (value /= 10);
    while (sizeof text - at < at_least) text[--at] = '0';
    return put(o, text + at, sizeof text - at);
}

static int integer(struct out *o, int64_t value)
{
    if (value < 0) TRY(PUT(o, "-"));
    return digits(o, value < 0 ? -(uint64_t)value : (uint64_t)value, 1);
}

static int number(struct out *o, const uint8_t *eight)
{
    static const double tens[] = {1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15};
    uint64_t bits = 0;
    for (int i = 7; i >= 0; i--) bits = bits << 8 | eight[i];
    double value;
    memcpy(&value, &bits, 8);
    if (!isfinite(value)) return -PUGD_PROTOBUF_NOT_FINITE;
    double size = fabs(value);
    if (size < 9007199254740992.0 && size == (double)(int64_t)size) return integer(o, (int64_t)value);
    for (unsigned k = 1; k <= 15; k++) {
        double scaled = size * tens[k];
        if (scaled >= 1e15) break;
        uint64_t whole = (uint64_t)(scaled + 0.5);
        if ((double)whole / tens[k] != size) continue;
        uint64_t ten = 1;
        for (unsigned i = 0; i < k; i++) ten *= 10;
        if (value < 0) TRY(PUT(o, "-"));
        TRY(digits(o, whole / ten, 1));
        TRY(PUT(o, "."));
        return digits(o, whole % ten, k);
    }
    char text[40];
    int length = 0;
    for (int precision = 15; precision <= 17; precision++) {
        length = snprintf(text, sizeof text, "%.*g", precision, value);
        if (strtod(text, NULL) == value) break;
    }
    char *comma = strchr(text, ',');
    if (comma) *comma = '.'; /* of another locale */
    TRY(put(o, text, (size_t)length));
    return text[strcspn(text, ".e")] ? 0 : PUT(o, ".0"); /* it stays a double where whole numbers are not all exact */
}

/* A Timestamp as RFC 3339 writes it, with so many digits of a second; 0: as many as it takes, by threes. */
static int timestamp(struct out *o, struct span span, unsigned fraction)
{
    struct walk w = within(span);
    struct field f;
    int64_t seconds = 0, nanos = 0;
    int found;
    while ((found = next(&w, &f)) > 0) {
        if (f.wire != VARINT) continue;
        if (f.number == 1) seconds = (int64_t)f.value;
        if (f.number == 2) nanos = (int64_t)f.value;
    }
    if (found < 0) return found;
    TRY(PUT(o, "\""));
    if (seconds < -62135596800 || seconds > 253402300799 || nanos < 0 || nanos > 999999999) {
        TRY(integer(o, seconds));
        return PUT(o, "s\"");
    }
    /* Days since 0000-03-01, so that a leap day ends its year. Source: the Gregorian calendar's 400 years, 146 097 days. */
    uint64_t since = (uint64_t)(seconds + 62167219200); /* since 0000-01-01, which was 60 days before */
    uint64_t second = since % 86400, day = since / 86400 - 60;
    if (since / 86400 < 60) return -PUGD_PROTOBUF_MALFORMED; /* cannot be: year 1 begins later */
    uint64_t era = day / 146097, of_era = day % 146097;
    uint64_t year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    uint64_t of_year = of_era - (365 * year + year / 4 - year / 100);
    uint64_t month = (5 * of_year + 2) / 153; /* from March */
    uint64_t of_month = of_year - (153 * month + 2) / 5 + 1;
    TRY(digits(o, year + 400 * era + (month >= 10), 4));
    TRY(PUT(o, "-"));
    TRY(digits(o, month < 10 ? month + 3 : month - 9, 2));
    TRY(PUT(o, "-"));
    TRY(digits(o, of_month, 2));
    TRY(PUT(o, "T"));
    TRY(digits(o, second / 3600, 2));
    TRY(PUT(o, ":"));
    TRY(digits(o, second / 60 % 60, 2));
    TRY(PUT(o, ":"));
    TRY(digits(o, second % 60, 2));
    if (!fraction && nanos) fraction = nanos % 1000000 == 0 ? 3 : nanos % 1000 == 0 ? 6 : 9;
    if (fraction) {
        TRY(PUT(o, "."));
        TRY(digits(o, (uint64_t)nanos / (fraction == 3 ? 1000000 : fraction == 6 ? 1000 : 1), fraction));
    }
    return PUT(o, "Z\"");
}

/* A member of a map, but for its value: the key with its colon. `value`: the last that it has */
static int member(struct out *o, struct span span, int first, struct span *value)
{
    struct walk w = within(span);
    struct field f;
    struct span key = {(const uint8_t *)"", 0};
    int found;
    *value = (struct span){0};
    while ((found = next(&w, &f)) > 0) {
        if (f.wire != BLOCK) continue;
        if (f.number == 1) key = f.span;
        if (f.number == 2) *value = f.span;
    }
    if (found < 0) return found;
    if (!first) TRY(PUT(o, ","));
    TRY(string(o, key));
    return PUT(o, ":");
}

static int property(struct out *o, struct span span)
{
    struct walk w = within(span);
    struct field f, last = {0};
    int found;
    while ((found = next(&w, &f)) > 0) {
        int known = f.wire == BLOCK ? f.number == 1 || f.number == 5
                    : f.wire == VARINT ? f.number == 2 || f.number == 4
                                       : f.wire == FIXED64 && f.number == 3;
        if (known) last = f;
    }
    if (found < 0) return found;
    switch (last.number) {
    case 1:
        return string(o, last.span);
    case 2:
        return integer(o, (int64_t)last.value);
    case 3:
        return number(o, last.span.begin);
    case 4:
        return last.value ? PUT(o, "true") : PUT(o, "false");
    case 5:
        return timestamp(o, last.span, 0);
    default:
        return PUT(o, "null");
    }
}

static int object(struct out *o, struct span span, unsigned depth);

/* A Value of a Struct. */
static int value(struct out *o, struct span span, unsigned depth)
{
    struct walk w = within(span);
    struct field f, last = {0};
    int found;
    while ((found = next(&w, &f)) > 0) {
        int known = f.wire == BLOCK ? f.number == 3 || f.number == 5 || f.number == 6
                    : f.wire == VARINT ? f.number == 1 || f.number == 4
                                       : f.wire == FIXED64 && f.number == 2;
        if (known) last = f;
    }
    if (found < 0) return found;
    switch (last.number) {
    case 2:
        return number(o, last.span.begin);
    case 3:
        return string(o, last.span);
    case 4:
        return last.value ? PUT(o, "true") : PUT(o, "false");
    case 5:
        return object(o, last.span, depth + 1);
    case 6:
        break;
    default:
        return PUT(o, "null");
    }
    if (depth + 1 > PUGD_PROTOBUF_DEPTH_MAX) return -PUGD_PROTOBUF_TOO_DEEP;
    int first = 1;
    w = within(last.span);
    TRY(PUT(o, "["));
    while ((found = next(&w, &f)) > 0) {
        if (f.wire != BLOCK || f.number != 1) continue;
        if (!first) TRY(PUT(o, ","));
        first = 0;
        TRY(value(o, f.span, depth + 1));
    }
    if (found < 0) return found;
    return PUT(o, "]");
}

/* A Struct. */
static int object(struct out *o, struct span span, unsigned depth)
{
    if (depth > PUGD_PROTOBUF_DEPTH_MAX) return -PUGD_PROTOBUF_TOO_DEEP;
    struct walk w = within(span);
    struct field f;
    struct span inner;
    int found, first = 1;
    TRY(PUT(o, "{"));
    while ((found = next(&w, &f)) > 0) {
        if (f.wire != BLOCK || f.number != 1) continue;
        TRY(member(o, f.span, first, &inner));
        first = 0;
        if (inner.begin)
            TRY(value(o, inner, depth));
        else
            TRY(PUT(o, "null"));
    }
    if (found < 0) return found;
    return PUT(o, "}");
}

static int named(struct out *o, int *first, const char *name, size_t length)
{
    if (!*first) TRY(PUT(o, ","));
    *first = 0;
    return put(o, name, length);
}

#define NAMED(name) TRY(named(o, &first, "\"" name "\":", sizeof(name) + 2))

static int event(struct out *o, struct span span)
{
    struct walk w = within(span);
    struct field f;
    struct span texts[8] = {{0}};
    struct span when = {0}, inner;
    int found, properties = 0, cookieless = -1, first = 1;
    while ((found = next(&w, &f)) > 0) {
        if (f.wire == BLOCK && f.number <= 7) {
            if (f.number == 2 || f.number == 3)
                properties = 1;
            else if (f.number == 6)
                when = f.span;
            else
                texts[f.number] = f.span;
        } else if (f.wire == VARINT && f.number == 8) {
            cookieless = f.value != 0;
        }
    }
    if (found < 0) return found;
    TRY(PUT(o, "{"));
    if (texts[1].begin) {
        NAMED("event_id");
        TRY(string(o, texts[1]));
    }
    if (texts[4].begin) {
        NAMED("distinct_id");
        TRY(string(o, texts[4]));
    }
    if (texts[5].begin) {
        NAMED("kind");
        TRY(string(o, texts[5]));
    }
    if (texts[7].begin) {
        NAMED("session_id");
        TRY(string(o, texts[7]));
    }
    if (when.begin) {
        NAMED("occur_time");
        TRY(timestamp(o, when, 3));
    }
    if (cookieless >= 0) {
        NAMED("cookieless");
        TRY(cookieless ? PUT(o, "true") : PUT(o, "false"));
    }
    if (properties) {
        NAMED("properties");
        TRY(PUT(o, "{"));
        w = within(span);
        int before = 0;
        while (next(&w, &f) > 0) {
            if (f.wire != BLOCK || (f.number != 2 && f.number != 3)) continue;
            TRY(member(o, f.span, !before, &inner));
            before = 1;
            if (inner.begin)
                TRY(property(o, inner));
            else
                TRY(PUT(o, "null"));
        }
        TRY(PUT(o, "}"));
    }
    return PUT(o, "}");
}

/* ---- what others call ---------------------------------------------------------------------------------------------- */

size_t pugd_protobuf_room(size_t length) { return 12 * length + 64; }

static int events(struct walk *w, struct out *o)
{
    struct field f;
    int found, first = 1;
    TRY(PUT(o, "["));
    while ((found = next(w, &f)) > 0) {
        if (f.wire != BLOCK || f.number != 1) continue;
        if (!first) TRY(PUT(o, ","));
        first = 0;
        uint8_t *begin = o->at;
        int wrong = event(o, f.span);
        if (wrong == -PUGD_PROTOBUF_NO_ROOM) return wrong;
        if (wrong < 0) {
            o->at = begin;
            TRY(PUT(o, "{\"wrong\":"));
            TRY(integer(o, -wrong));
            TRY(PUT(o, "}"));
        }
    }
    if (found < 0) return found;
    return PUT(o, "]");
}

static int identify(struct walk *w, struct out *o)
{
    struct field f;
    struct span external = {0}, traits = {0}, anonymous = {0}, device = {0};
    int found, first = 1;
    while ((found = next(w, &f)) > 0) {
        if (f.wire != BLOCK) continue;
        if (f.number == 1) external = f.span;
        if (f.number == 2) traits = f.span;
        if (f.number == 3) anonymous = f.span;
        if (f.number == 4) device = f.span;
    }
    if (found < 0) return found;
    TRY(PUT(o, "{"));
    if (external.begin) {
        NAMED("external_id");
        TRY(string(o, external));
    }
    if (anonymous.begin) {
        NAMED("anonymous_id");
        TRY(string(o, anonymous));
    }
    if (device.begin) {
        NAMED("device_id");
        TRY(string(o, device));
    }
    if (traits.begin) {
        NAMED("traits");
        TRY(object(o, traits, 1));
    }
    return PUT(o, "}");
}

int64_t pugd_protobuf_events(const uint8_t *data, size_t length, uint8_t *out, size_t room)
{
    struct walk w = {data, data + length};
    struct out o = {out, out + room};
    TRY(events(&w, &o));
    return o.at - out;
}

int64_t pugd_protobuf_identify(const uint8_t *data, size_t length, uint8_t *out, size_t room)
{
    struct walk w = {data, data + length};
    struct out o = {out, out + room};
    TRY(identify(&w, &o));
    return o.at - out;
}

int64_t pugd_protobuf_cuts(const uint8_t *data, size_t length, uint64_t fields_max, uint64_t piece_events,
                           uint64_t piece_bytes, uint64_t *cuts, size_t room)
{
    struct walk w = {data, data + length};
    struct field f;
    uint64_t count = 0, begin = 0, last = 0, inside = 0;
    int64_t pieces = 0;
    int found;
    while ((found = next(&w, &f)) > 0) {
        if (++count > fields_max) return -PUGD_PROTOBUF_TOO_MANY;
        if (f.wire != BLOCK || f.number != 1) continue;
        uint64_t end = (uint64_t)(w.at - data);
        if (inside == piece_events || (inside && end - begin > piece_bytes)) {
            if (room < 3 * (size_t)(pieces + 1)) return -PUGD_PROTOBUF_NO_ROOM;
            memcpy(cuts + 3 * pieces++, (uint64_t[]){begin, last, inside}, 24);
            begin = last;
            inside = 0;
        }
        inside++;
        last = end;
    }
    if (found < 0) return found;
    if (room < 3 * (size_t)(pieces + 1)) return -PUGD_PROTOBUF_NO_ROOM;
    memcpy(cuts + 3 * pieces++, (uint64_t[]){begin, length, inside}, 24);
    return pieces;
}
