#include "slices.h"

#include <string.h>

struct walk {
    const uint8_t *data, *at, *end;
    uint64_t *cuts;
    size_t room;
    uint64_t events, events_max, piece_events, piece_bytes;
    int64_t pieces;
    uint64_t in_piece; /* events of the last piece */
};

static void white(struct walk *w)
{
    while (w->at < w->end && (*w->at == ' ' || *w->at == '\n' || *w->at == '\r' || *w->at == '\t')) w->at++;
}

/* From the opening quote past the closing one. returns 0 where there is none; `escaped` where there is a backslash */
static int string(struct walk *w, int *escaped)
{
    const uint8_t *p = w->at + 1, *quote = p - 1;
    for (;;) {
        if (quote < p) quote = memchr(p, '"', (size_t)(w->end - p));
        if (!quote) return 0;
        const uint8_t *slash = memchr(p, '\\', (size_t)(quote - p));
        if (!slash) {
            w->at = quote + 1;
            return 1;
        }
        *escaped = 1;
        p = slash + 2;
        if (p > w->end) return 0;
    }
}

/* Past one value. returns 0 where it has no end */
static int value(struct walk *w)
{
    uint64_t depth = 0;
    const uint8_t *begin = w->at;
    int escaped = 0;
    while (w->at < w->end) {
        switch (*w->at) {
        case '"':
            if (!string(w, &escaped)) return 0;
            if (!depth) return 1;
            continue;
        case '[':
        case '{':
            depth++;
            break;
        case ']':
        case '}':
            if (!depth) return w->at > begin; /* of what is around it */
            w->at++;
            if (!--depth) return 1;
            continue;
        case ',':
        case ' ':
        case '\n':
        case '\r':
        case '\t':
            if (!depth) return w->at > begin;
            break;
        default:
            break;
        }
        w->at++;
    }
    return !depth && w->at > begin;
}

/* One event, from `begin` to here. returns 0, or PUGD_SLICES_TOO_MANY */
static int64_t event(struct walk *w, const uint8_t *begin)
{
    if (++w->events > w->events_max) return PUGD_SLICES_TOO_MANY;
    uint64_t from = (uint64_t)(begin - w->data), to = (uint64_t)(w->at - w->data);
    if (w->pieces && w->in_piece < w->piece_events) {
        uint64_t *last = w->cuts + 2 + 3 * (w->pieces - 1);
        if (to - last[0] <= w->piece_bytes) {
            last[1] = to;
            last[2] = ++w->in_piece;
            return 0;
        }
    }
    if (2 + 3 * (size_t)(w->pieces + 1) > w->room) return PUGD_SLICES_TOO_MANY;
    uint64_t *next = w->cuts + 2 + 3 * w->pieces;
    next[0] = from;
    next[1] = to;
    next[2] = w->in_piece = 1;
    w->pieces++;
    return 0;
}

/* The elements of an array, from its bracket past the other one. returns 0 or why not */
static int64_t array(struct walk *w)
{
    w->at++;
    w->cuts[0] = (uint64_t)(w->at - w->data);
    white(w);
    if (w->at < w->end && *w->at == ']') {
        w->cuts[1] = (uint64_t)(w->at - w->data);
        w->at++;
        return 0;
    }
    for (;;) {
        white(w);
        const uint8_t *begin = w->at;
        if (!value(w)) return PUGD_SLICES_BROKEN;
        int64_t wrong = event(w, begin);
        if (wrong) return wrong;
        white(w);
        if (w->at >= w->end) return PUGD_SLICES_BROKEN;
        if (*w->at == ']') {
            w->cuts[1] = (uint64_t)(w->at - w->data);
            w->at++;
            return 0;
        }
        if (*w->at != ',') return PUGD_SLICES_BROKEN;
        w->at++;
    }
}

/* The outermost object. returns 0 or why not */
static int64_t object(struct walk *w, const uint8_t *name, size_t name_length)
{
    int named = 0;
    w->at++;
    white(w);
    if (w->at < w->end && *w->at == '}') {
        w->at++;
        return 0;
    }
    for (;;) {
        white(w);
        if (w->at >= w->end || *w->at != '"') return PUGD_SLICES_BROKEN;
        const uint8_t *key = w->at + 1;
        int escaped = 0;
        if (!string(w, &escaped)) return PUGD_SLICES_BROKEN;
        if (escaped) return PUGD_SLICES_AMBIGUOUS;
        size_t length = (size_t)(w->at - 1 - key);
        white(w);
        if (w->at >= w->end || *w->at != ':') return PUGD_SLICES_BROKEN;
        w->at++;
        white(w);
        int64_t wrong = 0;
        if (length == name_length && !memcmp(key, name, length)) {
            if (named++) return PUGD_SLICES_AMBIGUOUS;
            if (w->at < w->end && *w->at == '[') {
                if ((wrong = array(w))) return wrong;
            } else if (!value(w)) {
                return PUGD_SLICES_BROKEN;
            }
        } else if (!value(w)) {
            return PUGD_SLICES_BROKEN;
        }
        white(w);
        if (w->at >= w->end) return PUGD_SLICES_BROKEN;
        if (*w->at == '}') {
            w->at++;
            return 0;
        }
        if (*w->at != ',') return PUGD_SLICES_BROKEN;
        w->at++;
    }
}

int64_t pugd_slices(const uint8_t *data, size_t length, const uint8_t *name, size_t name_length, int list, int lines,
                    uint64_t events_max, uint64_t piece_events, uint64_t piece_bytes, uint64_t *cuts, size_t room)
{
    struct walk w = {
        .data = data, .at = data, .end = data + length, .cuts = cuts, .room = room,
        .events_max = events_max, .piece_events = piece_events, .piece_bytes = piece_bytes,
    };
    int64_t wrong = 0;
    white(&w);
    if (w.at >= w.end || room < 2) return PUGD_SLICES_BROKEN;
    if (*w.at == '[' && list) {
        wrong = array(&w);
    } else if (*w.at == '{' && lines) {
        cuts[0] = 0;
        cuts[1] = length;
        while (w.at < w.end && *w.at == '{') {
            const uint8_t *begin = w.at;
            if (!value(&w)) return PUGD_SLICES_BROKEN;
            if ((wrong = event(&w, begin))) return wrong;
            white(&w);
        }
    } else if (*w.at == '{') {
        wrong = object(&w, name, name_length);
    } else if (!value(&w)) {
        return PUGD_SLICES_BROKEN;
    }
    if (wrong) return wrong;
    white(&w);
    return w.at == w.end ? w.pieces : PUGD_SLICES_BROKEN;
}
