/* The workload as MessagePack, for the engines in Python: what the daemon has at that point of an event's way. */
#include "workload.h"

static uint8_t *head(uint8_t *out, uint32_t values)
{
    *out++ = 0xdd;
    for (int shift = 24; shift >= 0; shift -= 8) *out++ = (uint8_t)(values >> shift);
    return out;
}

static uint8_t *put(uint8_t *out, const char *text)
{
    *out++ = 0xd9;
    *out++ = TEXT;
    memcpy(out, text, TEXT);
    return out + TEXT;
}

/* `count` operations: of the links, in `ids`, project, user id, '' and project, '', anonymous id; of the look-ups, in
 * `sought`, project, id. room: 96 bytes an operation in each. lengths[] gets theirs; returns how many links. */
uint32_t packed_grow(struct work *w, uint32_t count, uint8_t *ids, uint8_t *sought, size_t lengths[2])
{
    uint8_t *link = ids + 5, *look = sought + 5;
    uint32_t links = 0;
    for (uint32_t i = 0; i < count; i++) {
        char user[TEXT], anonymous[TEXT];
        if (work_next(w, user, anonymous)) {
            links += 1;
            *link++ = 1;
            link = put(link, user);
            *link++ = 0xa0;
            *link++ = 1;
            *link++ = 0xa0;
            link = put(link, anonymous);
        } else {
            *look++ = 1;
            look = put(look, user);
        }
    }
    head(ids, 6 * links);
    head(sought, 2 * (count - links));
    lengths[0] = (size_t)(link - ids);
    lengths[1] = (size_t)(look - sought);
    return links;
}

/* `count` ids at random: project, id; or, as events have them, project, user id, anonymous id, one of them ''. */
size_t packed_uniform(struct work *w, uint32_t count, uint8_t *sought, int events)
{
    uint8_t *out = sought + 5;
    for (uint32_t i = 0; i < count; i++) {
        char text[TEXT];
        work_uniform(w, text);
        *out++ = 1;
        out = put(out, text);
        if (events) *out++ = 0xa0;
    }
    head(sought, (events ? 3 : 2) * count);
    return (size_t)(out - sought);
}
