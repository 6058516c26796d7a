// sources: datagrams.c
// define: PUGD_TEST_MEMORY
/* Datagrams of random lengths through a real socket come out whole and in order, packed as drawn; a flood's losses are
 * counted; out of memory and out of order calls change nothing. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "datagrams.h"
#include "failing_memory.h"

#define CHECK(what)                                                       \
    do {                                                                  \
        if (!(what)) {                                                    \
            printf("%s:%d: not so: %s\n", __FILE__, __LINE__, #what);     \
            exit(1);                                                      \
        }                                                                 \
    } while (0)

static uint64_t seed = 20261124;

static int open_pair(int *theirs, int buffer_bytes)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int ours = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    CHECK(ours >= 0);
    CHECK(setsockopt(ours, SOL_SOCKET, SO_RCVBUF, &buffer_bytes, sizeof buffer_bytes) == 0);
    CHECK(bind(ours, (struct sockaddr *)&address, sizeof address) == 0);
    CHECK(getsockname(ours, (struct sockaddr *)&address, &length) == 0);
    *theirs = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    CHECK(*theirs >= 0);
    CHECK(connect(*theirs, (struct sockaddr *)&address, sizeof address) == 0);
    CHECK(pugd_datagrams_count_drops(ours) == 0);
    return ours;
}

static void test_random(void)
{
    int theirs;
    int ours = open_pair(&theirs, 8 << 20);
    struct pugd_datagrams *d = pugd_datagrams_new();
    CHECK(d != NULL);
    uint8_t *out = malloc(PUGD_DATAGRAMS_OUT_BYTES);
    uint8_t *sent = malloc(4 << 20);
    uint32_t *offsets = malloc((PUGD_DATAGRAMS_SLOTS + 1) * sizeof *offsets); /* the sanitizer guards its end */
    uint32_t taken;
    for (int round = 0; round < 300; round++) {
        uint32_t lengths[200];
        size_t at = 0;
        int count = (int)(failing_random(&seed) % 20);
        if (round % 50 == 0) count = 200; /* more than the slots */
        for (int i = 0; i < count; i++) {
            uint64_t kind = failing_random(&seed) % 10;
            uint32_t length = (uint32_t)(failing_random(&seed) % (kind == 0 && count < 20 ? 65508 : 400));
            if (kind == 1) length = 0;
            if (kind == 2 && count < 20) length = 65507;
            for (uint32_t j = 0; j < length; j++) sent[at + j] = (uint8_t)failing_random(&seed);
            CHECK(send(theirs, sent + at, length, 0) == (ssize_t)length);
            lengths[i] = length;
            at += length;
        }
        /* Little room now and then: fewer a call, and none is lost. */
        size_t room = round % 3 ? PUGD_DATAGRAMS_OUT_BYTES : (size_t)(1 + failing_random(&seed) % 5) * 65537;
        at = 0;
        for (int i = 0; i < count;) {
            int kept = pugd_datagrams_receive(d, ours, out, room, offsets, &taken);
            CHECK(kept >= 0 && taken > 0 && taken <= PUGD_DATAGRAMS_SLOTS && (uint32_t)kept <= taken);
            CHECK(offsets[0] == 0);
            int k = 0;
            for (uint32_t t = 0; t < taken; t++, i++) {
                CHECK(i < count);
                if (lengths[i] == 0) continue;
                CHECK(k < kept);
                CHECK(offsets[k + 1] - offsets[k] == lengths[i] + 1);
                CHECK(memcmp(out + offsets[k], sent + at, lengths[i]) == 0);
                CHECK(out[offsets[k + 1] - 1] == '\n');
                CHECK(offsets[k + 1] <= room);
                at += lengths[i];
                k += 1;
            }
            CHECK(k == kept);
        }
        CHECK(pugd_datagrams_receive(d, ours, out, room, offsets, &taken) == 0 && taken == 0);
    }
    CHECK(pugd_datagrams_truncated(d) == 0);
    CHECK(pugd_datagrams_dropped(d) == 0);
    free(out);
    free(sent);
    free(offsets);
    pugd_datagrams_free(d);
    close(ours);
    close(theirs);
}

static void test_flood(void)
{
    int theirs;
    int ours = open_pair(&theirs, 4096);
    struct pugd_datagrams *d = pugd_datagrams_new();
    CHECK(d != NULL);
    uint8_t *out = malloc(PUGD_DATAGRAMS_OUT_BYTES);
    uint32_t offsets[PUGD_DATAGRAMS_SLOTS + 1], taken;
    uint64_t came = 0, sent = 0;
    for (int round = 0; round < 5; round++) {
        char data[300] = {0};
        for (int i = 0; i < 500; i++) sent += send(theirs, data, sizeof data, 0) == (ssize_t)sizeof data;
        int kept;
        while ((kept = pugd_datagrams_receive(d, ours, out, PUGD_DATAGRAMS_OUT_BYTES, offsets, &taken)) > 0)
            came += (uint64_t)kept;
        CHECK(kept == 0);
    }
    CHECK(send(theirs, "tells", 5, 0) == 5);
    CHECK(pugd_datagrams_receive(d, ours, out, PUGD_DATAGRAMS_OUT_BYTES, offsets, &taken) == 1);
    CHECK(came > 0 && came < sent);
    CHECK(pugd_datagrams_dropped(d) == sent - came);
    free(out);
    pugd_datagrams_free(d);
    close(ours);
    close(theirs);
}

static void test_wrong_calls(void)
{
    int theirs;
    int ours = open_pair(&theirs, 1 << 20);
    struct pugd_datagrams *d = pugd_datagrams_new();
    CHECK(d != NULL);
    uint8_t *out = malloc(PUGD_DATAGRAMS_OUT_BYTES);
    uint32_t offsets[PUGD_DATAGRAMS_SLOTS + 1], taken;
    CHECK(send(theirs, "kept", 4, 0) == 4);
    CHECK(pugd_datagrams_receive(d, ours, out, PUGD_DATAGRAMS_SLOT_BYTES, offsets, &taken) == -EINVAL);
    CHECK(pugd_datagrams_receive(d, ours, out, 0, offsets, &taken) == -EINVAL);
    CHECK(pugd_datagrams_receive(d, -1, out, PUGD_DATAGRAMS_OUT_BYTES, offsets, &taken) == -EBADF && taken == 0);
    CHECK(pugd_datagrams_count_drops(-1) == EBADF);
    CHECK(pugd_datagrams_receive(d, ours, out, PUGD_DATAGRAMS_OUT_BYTES, offsets, &taken) == 1);
    CHECK(offsets[1] == 5 && memcmp(out, "kept\n", 5) == 0);
    free(out);
    pugd_datagrams_free(d);
    pugd_datagrams_free(NULL);
    failing_of = 1000;
    CHECK(pugd_datagrams_new() == NULL);
    failing_of = 0;
    close(ours);
    close(theirs);
}

int main(void)
{
    test_random();
    test_flood();
    test_wrong_calls();
    CHECK(failing_held == 0);
    return 0;
}
