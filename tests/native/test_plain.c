// sources: plain.c scan.c
// define: PUGD_TEST_MEMORY
/* Bodies of every kind through the short way, with allocations that fail: no byte outside a body is read, what is taken
 * back leaves no trace, and what is counted comes out. Bodies lie in buffers of their exact length, so that the sanitizer
 * sees a byte too far. */

#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "failing_memory.h"
#include "plain.h"

#define AT "2026-11-24T06:39:59.123Z"
#define NOW 1795502400000

static uint64_t state = 20261124;

static uint32_t rnd(uint32_t below)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)((state >> 11) % below);
}

static const char *const MESSAGES[3][7] = {
    {
        "{\"type\":\"track\",\"event\":\"x\",\"messageId\":\"m\",\"userId\":\"u\",\"timestamp\":\"" AT "\"}",
        "{\"messageId\":\"m2\",\"event\":\"page \xc3\xa4\",\"anonymousId\":\"a\",\"properties\":{\"a\":[1,{\"b\":\"}\\\"]\"}]},"
        "\"context\":{\"page\":{\"url\":\"https://x/\"}},\"type\":\"track\"}",
        "{ \"type\" : \"track\" , \"event\" : \"e\", \"messageId\":\"m3\", \"userId\":null, \"anonymousId\":\"b\",\n"
        "\"timestamp\":\"2024-02-29T10:01:00.123456+00:00\",\"context\":null,\"properties\":null,\"more\":[[],{},-1.5e3,true] }",
        "{\"type\":\"page\",\"userId\":\"u\",\"messageId\":\"m4\",\"channel\":\"web\",\"name\":null}",
        "{\"type\":\"track\",\"event\":\"x\",\"messageId\":\"m\",\"userId\":\"u\",\"context\":{\"locale\":\"%u\"}}",
        "{\"type\":\"group\",\"event\":\"x\",\"messageId\":\"m\",\"userId\":\"u\"}",
    },
    {
        "{\"event\":\"x\",\"uuid\":\"i\",\"properties\":{\"distinct_id\":\"a\",\"$lib\":\"web\",\"$known\":true,\"p\":[{}]}}",
        "{\"event\":\"$page\",\"no\":false,\"distinct_id\":\"a\",\"properties\":{\"$url\":\"/\",\"$id\":\"j\",\"$same\":\"a\",\"token\":\"k\"},\"offset\":15}",
        "{ \"event\" : \"y\", \"distinct_id\":\"a\",\"uuid\":\"i\",\"timestamp\":1790000000.25,\"offset\":null,\"$unset\":[\"%u\"] }",
        "{\"event\":\"$who\",\"uuid\":\"i\",\"distinct_id\":\"b\",\"properties\":{\"$was\":\"a\",\"$no\":\"false\",\"$once\":{\"c\":1}}}",
        "{\"event\":\"x\",\"uuid\":\"i\",\"distinct_id\":\"b\",\"properties\":{\"$os\":{\"a\":[1,\"MARK\"]},\"MARK\":1,\"$lib\":\"x\"}}",
        "{\"event\":\"x\",\"uuid\":\"i\",\"distinct_id\":\"b\",\"properties\":{\"$lib\":\"%u\"}}",
        "{\"event\":\"x\",\"uuid\":\"i\",\"distinct_id\":\"b\",\"$set\":{\"a\":[1]},\"properties\":{ \"$set\":{\"b\":2}, \"c\" : 3}}",
    },
    {
        "{\"event\":\"x\",\"properties\":{\"$id\":\"i\",\"token\":\"k\",\"distinct_id\":\"$device:a\",\"$device_id\":\"a\",\"time\":1790}}",
        "{\"event\":\"x\",\"properties\":{\"$id\":\"i\",\"distinct_id\":\"a\",\"$device_id\":\"b\",\"token\":\"k\"}}",
        "{\"event\":\"x\",\"properties\":{\"$id\":\"i\",\"$user_id\":\"a\",\"$os\":null,\"time\":1790000000123}}",
        "{\"event\":\"$view\",\"properties\":{\"$id\":\"i\",\"$had\":true,\"distinct_id\":\"a\",\"$device_id\":\"b\",\"token\":\"k\"}}",
        "{\"event\":\"x\",\"properties\":{\"$id\":\"i\",\"$os\":\"%u\",\"distinct_id\":\"a\"}}",
        "{\"event\":\"x\",\"properties\":{\"$id\":\"i\",\"distinct_id\":\"a\",\"of\":{\"token\":\"k\"}}}",
    },
};
static const char *const PIECES[] = {"",  "\"",   "{",     "}",       "[", "]",    ",",         ":",     "\\",
                                     " ", "null", "0",     "\xff",    "track", "9", "\"token\"", "$device:", "MARK"};

static char text[1 << 16];

static size_t make_body(int form, int single)
{
    size_t n = 0;
    char one[1024];
    int count = single ? 1 : 1 + (int)rnd(4), listed = form && rnd(2);
    if (!single && listed) n += (size_t)sprintf(text, "[");
    else if (!single) n += (size_t)sprintf(text, "{\"sentAt\":\"%s\",\"writeKey\":\"k\",\"batch\":[", AT);
    for (int i = 0; i < count; i++) {
        snprintf(one, sizeof one, MESSAGES[form][rnd(rnd(4) ? 4 : form == 1 ? 7 : 6)], rnd(9000)); /* NOLINT: all are ours */
        n += (size_t)sprintf(text + n, "%s%s", i ? "," : "", one);
    }
    if (!single) n += (size_t)sprintf(text + n, listed ? "]" : "]}");
    if (rnd(2)) return n;
    for (int changes = 1 + (int)rnd(3); changes; changes--) {
        size_t at = rnd((uint32_t)n), cut = rnd(4);
        const char *piece = PIECES[rnd(sizeof PIECES / sizeof *PIECES)];
        size_t add = strlen(piece);
        if (cut > n - at) cut = n - at;
        memmove(text + at + add, text + at + cut, n - at - cut);
        memcpy(text + at, piece, add);
        n = n - cut + add;
    }
    return n;
}

struct entry {
    const char *name;
    int level, role;
};

static void name_members(struct pugd_plain *p, int form, const struct entry *e)
{
    for (; e->name; e++)
        assert(!pugd_plain_member(p, (uint32_t)form, (uint32_t)e->level, (const uint8_t *)e->name,
                                  (uint32_t)strlen(e->name), (uint32_t)e->role));
}

enum { A = PUGD_PLAIN_AROUND_LEVEL, E = PUGD_PLAIN_EVENT_LEVEL, P = PUGD_PLAIN_PROPERTIES_LEVEL, SAYS = PUGD_PLAIN_SAYS };

/* Forms 0, 1 and 2 read bodies of several, 3, 4 and 5 the same events alone. */
static struct pugd_plain *make(uint64_t seed)
{
    static const struct entry types[] = {{"track", PUGD_PLAIN_TYPES_LEVEL, PUGD_PLAIN_TRACK},
                                         {"page", PUGD_PLAIN_TYPES_LEVEL, PUGD_PLAIN_PAGE},
                                         {"web", PUGD_PLAIN_CHANNELS_LEVEL, 1},
                                         {"$view", PUGD_PLAIN_NAMES_LEVEL, PUGD_PLAIN_SCREEN},
                                         {"$page", PUGD_PLAIN_NAMES_LEVEL, PUGD_PLAIN_PAGE},
                                         {"$set", PUGD_PLAIN_NAMES_LEVEL, PUGD_PLAIN_TRAITS},
                                         {"$who", PUGD_PLAIN_NAMES_LEVEL, PUGD_PLAIN_IDENTIFY},
                                         {0}};
    static const struct entry around[] = {{"batch", A, PUGD_PLAIN_LIST}, {"sentAt", A, PUGD_PLAIN_SENT},
                                          {"writeKey", A, PUGD_PLAIN_KEY}, {0}};
    static const struct entry events[3][28] = {
        {{"type", E, PUGD_PLAIN_TYPE}, {"event", E, PUGD_PLAIN_EVENT}, {"messageId", E, PUGD_PLAIN_ID},
         {"userId", E, PUGD_PLAIN_USER}, {"anonymousId", E, PUGD_PLAIN_ANONYMOUS}, {"timestamp", E, PUGD_PLAIN_TIME},
         {"properties", E, PUGD_PLAIN_PROPERTIES}, {"context", E, PUGD_PLAIN_CONTEXT}, {"name", E, PUGD_PLAIN_NAME},
         {"channel", E, PUGD_PLAIN_CHANNEL}, {0}},
        {{"event", E, PUGD_PLAIN_EVENT}, {"uuid", E, PUGD_PLAIN_ID}, {"$id", P, PUGD_PLAIN_ID_ELSE},
         {"distinct_id", E, PUGD_PLAIN_DISTINCT}, {"distinct_id", P, PUGD_PLAIN_DISTINCT_ELSE},
         {"timestamp", E, PUGD_PLAIN_TIME}, {"offset", E, PUGD_PLAIN_AGE}, {"properties", E, PUGD_PLAIN_PROPERTIES},
         {"$known", P, PUGD_PLAIN_KNOWN}, {"$same", P, PUGD_PLAIN_SAME}, {"token", P, PUGD_PLAIN_KEY},
         {"$lib", P, PUGD_PLAIN_NONE | SAYS}, {"$os", P, PUGD_PLAIN_NONE | SAYS}, {"no", E, PUGD_PLAIN_FALSE},
         {"$url", P, PUGD_PLAIN_URL | SAYS}, {"MARK", P, PUGD_PLAIN_NONE | SAYS},
         {"$set", E, PUGD_PLAIN_SET_BESIDE}, {"$unset", E, PUGD_PLAIN_UNSET_BESIDE}, {"$set", P, PUGD_PLAIN_SET},
         {"$once", P, PUGD_PLAIN_SET_ONCE}, {"$was", P, PUGD_PLAIN_JOINED}, {"$no", P, PUGD_PLAIN_PROFILE}, {0}},
        {{"event", E, PUGD_PLAIN_EVENT}, {"$id", P, PUGD_PLAIN_ID}, {"distinct_id", P, PUGD_PLAIN_DISTINCT},
         {"$device_id", P, PUGD_PLAIN_ANONYMOUS | SAYS}, {"$user_id", P, PUGD_PLAIN_USER}, {"$had", P, PUGD_PLAIN_HAD},
         {"time", P, PUGD_PLAIN_TIME}, {"token", P, PUGD_PLAIN_TOKEN}, {"properties", E, PUGD_PLAIN_PROPERTIES},
         {"$os", P, PUGD_PLAIN_NONE | SAYS}, {0}},
    };
    static const uint32_t flags[3] = {
        PUGD_PLAIN_OPERATIONS,
        PUGD_PLAIN_BY_NAME | PUGD_PLAIN_BARE_LIST | PUGD_PLAIN_WALKED | PUGD_PLAIN_TOGETHER | PUGD_PLAIN_NUMBERS |
            PUGD_PLAIN_ONE_ID | PUGD_PLAIN_PAGE_HAS_URL,
        PUGD_PLAIN_BY_NAME | PUGD_PLAIN_BARE_LIST | PUGD_PLAIN_WALKED | PUGD_PLAIN_TOGETHER | PUGD_PLAIN_NUMBERS |
            PUGD_PLAIN_DEVICE_ID | PUGD_PLAIN_CUT,
    };
    struct pugd_plain *p = pugd_plain_new(25, seed);
    assert(p);
    for (int form = 0; form < 6; form++) {
        int kind = form % 3;
        const uint8_t *marker = (const uint8_t *)"\"MARK";
        assert(pugd_plain_form(p, (uint32_t)kind, flags[kind], marker, kind == 1 ? 5 : 0) == form);
        name_members(p, form, types);
        if (form < 3) name_members(p, form, around);
        if (form < 3) name_members(p, form, events[kind]);
        struct entry alone[28] = {0};
        for (int i = 0; i < 28 && events[kind][i].name; i++) {
            alone[i] = events[kind][i];
            if (alone[i].level == E) alone[i].level = A;
        }
        if (form >= 3) name_members(p, form, alone);
    }
    return p;
}

enum { BODIES = 40 };

/* What two hold of the same events is the same. */
static void assert_same(struct pugd_plain *a, struct pugd_plain *b, size_t count)
{
    size_t n, m;
    assert(pugd_plain_count(a) == count && pugd_plain_count(b) == count);
    const uint8_t *x = pugd_plain_event_keys(a, &n), *y = pugd_plain_event_keys(b, &m);
    assert(x && y && n == m && !memcmp(x, y, n));
    x = pugd_plain_ids(a, &n), y = pugd_plain_ids(b, &m);
    assert(x && y && n == m && !memcmp(x, y, n));
    uint64_t *actors = calloc(count + 1, sizeof *actors);
    assert(actors);
    for (size_t i = 0; i < count; i++) actors[i] = i * 77;
    x = pugd_plain_rows(a, actors, NULL, 0, NULL, 0, &n), y = pugd_plain_rows(b, actors, NULL, 0, NULL, 0, &m);
    assert(x && y && n == m && !memcmp(x, y, n));
    free(actors);
}

/* Many bodies in one call are what they are one by one, up to the first that is not to be among them, and from any on. */
static void test_many(void)
{
    enum { EVENTS_MAX = 3 };
    static const char *const agents[] = {"", "Mozilla/5.0", "Mozilla/5.1"};
    static const char *const places[] = {"", "\xa0\xa0", "\xa2NZ"};
    static uint8_t room[1 << 20];
    struct pugd_plain *many = make(5), *one = make(5);
    uint64_t added = 0, not_plain = 0, alone_of[4] = {0};
    for (int round = 0; round < 4000; round++) {
        int64_t said[BODIES * PUGD_PLAIN_SAID_COUNT];
        size_t ends[BODIES + 1] = {0}, at = 0;
        int apart[BODIES];
        if (round % 5 == 0) { /* small buffers again, which must grow */
            pugd_plain_free(many);
            pugd_plain_free(one);
            many = make((uint64_t)round);
            one = make((uint64_t)round);
        }
        pugd_plain_reset(many);
        pugd_plain_reset(one);
        for (int b = 0; b < BODIES; b++) {
            int single = (int)rnd(2), form = (int)rnd(3);
            const char *agent = agents[rnd(3)], *place = places[rnd(3)];
            int64_t *s = said + b * PUGD_PLAIN_SAID_COUNT;
            apart[b] = !rnd(20);
            memset(s, 0, PUGD_PLAIN_SAID_COUNT * sizeof *s);
            s[PUGD_PLAIN_SAID_FORM] = apart[b] ? PUGD_PLAIN_ALONE : form + 3 * single;
            if (!apart[b]) {
                s[PUGD_PLAIN_SAID_CALL] = single && !form ? PUGD_PLAIN_TRACK : 0;
                s[PUGD_PLAIN_SAID_SENT_AT] = rnd(2) ? NOW - 61000 : -1;
                s[PUGD_PLAIN_SAID_PROJECT] = 1 + rnd(300);
                s[PUGD_PLAIN_SAID_AGENT_LENGTH] = (int64_t)strlen(agent);
                s[PUGD_PLAIN_SAID_PLACE_LENGTH] = (int64_t)strlen(place);
                size_t length = make_body(form, single);
                s[PUGD_PLAIN_SAID_LENGTH] = (int64_t)length;
                at += (size_t)sprintf((char *)room + at, "%s%s", agent, place);
                memcpy(room + at, text, length);
                at += length;
            }
            ends[b + 1] = at;
        }
        uint8_t *bytes = malloc(at ? at : 1); /* the sanitizer guards its end */
        uint32_t *took = malloc(2 * BODIES * sizeof *took);
        assert(bytes && took);
        memcpy(bytes, room, at);
        for (size_t begin = 0; begin < BODIES;) {
            int alone = -1;
            failing_of = rnd(3) ? 0 : 100;
            size_t count = pugd_plain_add_many(many, bytes + ends[begin], said + begin * PUGD_PLAIN_SAID_COUNT,
                                               BODIES - begin, NOW, EVENTS_MAX, took, &alone);
            failing_of = 0;
            assert(begin + count <= BODIES);
            size_t before = pugd_plain_count(one);
            for (size_t b = begin; b <= begin + count && b < BODIES; b++) {
                const int64_t *s = said + b * PUGD_PLAIN_SAID_COUNT;
                if (apart[b]) {
                    assert(b == begin + count && alone == 1);
                    alone_of[0]++;
                    break;
                }
                const uint8_t *body = bytes + ends[b] + s[PUGD_PLAIN_SAID_AGENT_LENGTH] + s[PUGD_PLAIN_SAID_PLACE_LENGTH];
                int64_t events = pugd_plain_add(
                    one, (uint32_t)s[PUGD_PLAIN_SAID_FORM], body, (size_t)s[PUGD_PLAIN_SAID_LENGTH],
                    (int)s[PUGD_PLAIN_SAID_CALL], NOW, s[PUGD_PLAIN_SAID_SENT_AT], bytes + ends[b],
                    (uint32_t)s[PUGD_PLAIN_SAID_AGENT_LENGTH], bytes + ends[b] + s[PUGD_PLAIN_SAID_AGENT_LENGTH],
                    (uint32_t)s[PUGD_PLAIN_SAID_PLACE_LENGTH]);
                size_t key_length, changes = 0, number = (size_t)(events & (PUGD_PLAIN_LEARN - 1));
                int shape, learns = events >= PUGD_PLAIN_LEARN;
                pugd_plain_key(one, &key_length, &shape);
                if (events) pugd_plain_changing(one, pugd_plain_count(one) - number, &changes);
                if (b < begin + count) {
                    assert(events > 0 && !learns && !changes && number <= EVENTS_MAX);
                    assert(took[2 * (b - begin)] == number && took[2 * (b - begin) + 1] == (uint32_t)shape);
                    pugd_plain_own(one, number, (uint32_t)s[PUGD_PLAIN_SAID_PROJECT]);
                    added++;
                } else if (!events) {
                    assert(alone == 0 || alone == 1); /* or there was no memory to see it */
                    not_plain += alone == 0;
                } else {
                    assert(alone == 1);
                    alone_of[1] += learns;
                    alone_of[2] += changes > 0;
                    alone_of[3] += number > EVENTS_MAX;
                    int64_t unknown;
                    while (learns && (unknown = pugd_plain_unknown(one)) >= 0)
                        if (pugd_plain_learn(one, (size_t)unknown, (const uint8_t *)"mid", 3, (const uint8_t *)"tail", 4)) break;
                    pugd_plain_drop(one, number);
                    /* What the one learnt, the other is to know. */
                    events = pugd_plain_add(
                        many, (uint32_t)s[PUGD_PLAIN_SAID_FORM], body, (size_t)s[PUGD_PLAIN_SAID_LENGTH],
                        (int)s[PUGD_PLAIN_SAID_CALL], NOW, s[PUGD_PLAIN_SAID_SENT_AT], bytes + ends[b],
                        (uint32_t)s[PUGD_PLAIN_SAID_AGENT_LENGTH], (const uint8_t *)"", 0);
                    assert((size_t)(events & (PUGD_PLAIN_LEARN - 1)) == number);
                    while ((unknown = pugd_plain_unknown(many)) >= 0)
                        if (pugd_plain_learn(many, (size_t)unknown, (const uint8_t *)"mid", 3, (const uint8_t *)"tail", 4)) break;
                    pugd_plain_drop(many, number);
                }
            }
            assert(pugd_plain_count(many) == pugd_plain_count(one) && pugd_plain_count(one) >= before);
            begin += count + 1;
        }
        assert_same(many, one, pugd_plain_count(one));
        free(bytes);
        free(took);
    }
    pugd_plain_free(many);
    pugd_plain_free(one);
    assert(added > 10000 && not_plain > 1000);
    for (int i = 0; i < 4; i++) assert(alone_of[i] > 100);
}

int main(void)
{
    test_many();
    uint64_t taken = 0, refused = 0, starved = 0, changes = 0, of[3] = {0};
    struct pugd_plain *p = make(1);
    const uint8_t *agents[] = {(const uint8_t *)"", (const uint8_t *)"Mozilla/5.0", (const uint8_t *)"Mozilla/5.1"};
    for (int round = 0; round < 3000; round++) {
        uint8_t *bodies[BODIES];
        int held = 0;
        size_t expected = 0;
        failing_of = 0;
        if (round % 20 == 0) { /* small buffers again, which must grow */
            pugd_plain_free(p);
            p = make((uint64_t)round);
        }
        failing_of = rnd(2) ? 200 : 0;
        pugd_plain_reset(p);
        for (int b = 0; b < BODIES; b++) {
            int single = (int)rnd(2), form = (int)rnd(3);
            size_t length = make_body(form, single);
            const uint8_t *agent = agents[rnd(3)];
            uint8_t *body = malloc(length ? length : 1);
            assert(body);
            memcpy(body, text, length);
            bodies[held++] = body;
            int64_t count = pugd_plain_add(p, (uint32_t)(form + 3 * single), body, length,
                                           single && !form ? PUGD_PLAIN_TRACK : 0, NOW, rnd(2) ? NOW - 61000 : -1, agent, (uint32_t)strlen((const char *)agent),
                                           (const uint8_t *)"\xa0\xa0", rnd(2) ? 2 : 0);
            if (count > 0) {
                taken++;
                of[form]++;
                count &= PUGD_PLAIN_LEARN - 1;
                pugd_plain_own(p, (size_t)count, 1 + rnd(300));
                size_t key_length;
                int shape;
                const uint8_t *key = pugd_plain_key(p, &key_length, &shape);
                assert(!key || (key > body && key + key_length < body + length));
                assert(single ? shape == PUGD_PLAIN_SINGLE : shape != PUGD_PLAIN_SINGLE || form);
                int64_t at;
                int learnt = 1;
                while (learnt && (at = pugd_plain_unknown(p)) >= 0) {
                    const struct pugd_plain_event *e = pugd_plain_at(p, (size_t)at);
                    assert(!e->context_length || e->context[e->context_length - 1]);
                    learnt = !pugd_plain_learn(p, (size_t)at, (const uint8_t *)"mid", 3, (const uint8_t *)"tail", 4);
                }
                if (learnt && rnd(10)) {
                    expected += (size_t)count;
                } else {
                    pugd_plain_drop(p, (size_t)count);
                }
            } else {
                refused += count == 0;
                starved += count < 0;
            }
            assert(pugd_plain_count(p) == expected);
        }
        if (expected) {
            uint64_t *actors = calloc(expected, sizeof *actors);
            uint32_t *skip = calloc(expected, sizeof *skip);
            assert(actors && skip);
            size_t skipped = 0, length, changing_count, none = 0;
            const uint32_t *changing = pugd_plain_changing(p, expected / 3, &changing_count);
            for (size_t i = 0; i < changing_count; i++)
                assert(changing[i] >= expected / 3 && changing[i] < expected && (!i || changing[i] > changing[i - 1]));
            const uint8_t *told = changing ? pugd_plain_told(p, changing, changing_count, &length) : NULL;
            assert(!told || (told[0] == 0xdd && told[4] == (uint8_t)changing_count && length > 20 * changing_count));
            changes += changing_count;
            for (size_t i = 0; i < expected; i++) {
                actors[i] = state ^ i;
                if (!rnd(5)) skip[skipped++] = (uint32_t)i;
                const struct pugd_plain_event *e = pugd_plain_at(p, i);
                none += e->call > PUGD_PLAIN_SCREEN && (!skipped || skip[skipped - 1] != i);
                assert(e->event_length && e->event_id_length && (e->user_length || e->anonymous_length));
            }
            const uint8_t *keys = pugd_plain_event_keys(p, &length);
            assert(!keys || (keys[0] == 0xdd && length > 5 && keys[4] == (uint8_t)(4 * expected)));
            const uint8_t *ids = pugd_plain_ids(p, &length);
            assert(!ids || (ids[0] == 0xdd && ids[4] == (uint8_t)(3 * expected)));
            const uint8_t *rows = pugd_plain_rows(p, actors, skip, skipped, skip, 0, &length);
            size_t heads = 0;
            if (rows) {
                for (size_t i = 0; i + 3 <= length; i++) heads += rows[i] == 0xdc && rows[i + 1] == 0 && rows[i + 2] == 25;
                assert(heads >= expected - skipped - none && length <= pugd_plain_most(p));
            }
            free(actors);
            free(skip);
        }
        assert(pugd_plain_at(p, expected) == NULL);
        for (int b = 0; b < held; b++) free(bodies[b]);
    }
    failing_of = 0;
    pugd_plain_free(p);
    pugd_plain_free(NULL);
    assert(failing_held == 0);
    printf("%llu taken, %llu not plain, %llu without memory\n", (unsigned long long)taken, (unsigned long long)refused,
           (unsigned long long)starved);
    for (int form = 0; form < 3; form++) assert(of[form] > 3000);
    assert(changes > 3000);
    assert(taken > 10000 && refused > 10000 && starved > 10);
    return 0;
}
