// sources: sockets.c heads.c
// define: PUGD_TEST_MEMORY
/* Bytes of random lengths over real connections come out whole and in order, however many are read at a time; what cannot
 * be read or sent, at its end, gone or full, is told of that one alone. */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"
#include "failing_memory.h"
#include "sockets.h"

enum { COUNT = 20, BYTES = 5000, LEAST = 2000 };

static uint64_t seed = 20261127;

static uint32_t rnd(uint32_t below) { return (uint32_t)(failing_random(&seed) % below); }

static int pairs(int ours[COUNT], int theirs[COUNT])
{
    for (int i = 0; i < COUNT; i++) {
        int two[2];
        CHECK(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, two));
        ours[i] = two[0];
        theirs[i] = two[1];
    }
    return 0;
}

static void end(const int fds[COUNT])
{
    for (int i = 0; i < COUNT; i++) close(fds[i]);
}

static int receiving(const struct pugd_heads *h)
{
    static const char request[] = "POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\nbody";
    int ours[COUNT], theirs[COUNT], known = 0, none = 0, ended = 0;
    if (pairs(ours, theirs)) return 1;
    uint8_t *buffer = malloc(BYTES);
    int32_t *came = malloc(PUGD_SOCKETS_CAME * COUNT * sizeof *came);
    CHECK(buffer && came);
    int open[COUNT];
    for (int i = 0; i < COUNT; i++) open[i] = 1;
    for (int round = 0; round < 400; round++) {
        uint8_t sent[COUNT][LEAST];
        size_t lengths[COUNT];
        int whole[COUNT];
        for (int i = 0; i < COUNT; i++) {
            lengths[i] = rnd(3) ? rnd(LEAST) : 0;
            whole[i] = !rnd(4);
            for (size_t j = 0; j < lengths[i]; j++) sent[i][j] = (uint8_t)rnd(256);
            if (whole[i]) memcpy(sent[i], request, lengths[i] = sizeof request - 1);
            if (open[i] && lengths[i]) CHECK(write(theirs[i], sent[i], lengths[i]) == (ssize_t)lengths[i]);
            if (round == 300 && i % 2) {
                CHECK(!shutdown(theirs[i], SHUT_WR));
            }
        }
        size_t begin = 0;
        while (begin < COUNT) {
            size_t done = pugd_sockets_receive(h, ours + begin, COUNT - begin, buffer, BYTES, LEAST, came), at = 0;
            CHECK(done && done <= COUNT - begin);
            for (size_t k = 0; k < done; k++) {
                size_t i = begin + k;
                const int32_t *one = came + PUGD_SOCKETS_CAME * k;
                if (!open[i]) {
                    CHECK(one[0] == 0 && one[2] == -1);
                    ended++;
                } else if (!lengths[i]) {
                    CHECK((one[0] == -EAGAIN || (round == 300 && !one[0])) && one[2] == -1);
                    none++;
                } else {
                    CHECK(one[0] == (int32_t)lengths[i] && one[1] == (int32_t)at && !memcmp(buffer + at, sent[i], lengths[i]));
                    CHECK((one[2] >= 0) == whole[i]);
                    if (whole[i]) CHECK(!memcmp(buffer + one[3], "body", 4));
                    known += whole[i];
                    at += lengths[i];
                }
            }
            CHECK(begin + done == COUNT || BYTES - at < LEAST);
            begin += done;
        }
        if (round == 300)
            for (int i = 1; i < COUNT; i += 2) open[i] = 0;
    }
    CHECK(known > 1000 && none > 100 && ended > 100);
    /* One that is no socket spoils its own. */
    int32_t fds[3] = {ours[0], -1, ours[2]};
    CHECK(write(theirs[0], "a", 1) == 1 && write(theirs[2], "c", 1) == 1);
    CHECK(pugd_sockets_receive(h, fds, 3, buffer, BYTES, LEAST, came) == 3);
    CHECK(came[0] == 1 && came[PUGD_SOCKETS_CAME] == -EBADF && came[2 * PUGD_SOCKETS_CAME] == 1 && buffer[1] == 'c');
    CHECK(!pugd_sockets_receive(h, fds, 3, buffer, LEAST - 1, LEAST, came));
    end(ours);
    end(theirs);
    free(buffer);
    free(came);
    return 0;
}

static int sending(void)
{
    int ours[COUNT], theirs[COUNT];
    if (pairs(ours, theirs)) return 1;
    int small = 4096, full = 0;
    size_t room = (size_t)8 << 20;
    uint8_t *bytes = malloc(room), *got = malloc(room);
    uint32_t lengths[COUNT];
    int32_t sent[COUNT];
    CHECK(bytes && got);
    close(theirs[3]);
    for (int i = 0; i < COUNT; i++) CHECK(!setsockopt(ours[i], SOL_SOCKET, SO_SNDBUF, &small, sizeof small));
    for (int round = 0; round < 50; round++) {
        size_t at = 0, short_of = 0;
        for (int i = 0; i < COUNT; i++) {
            lengths[i] = rnd(10) ? 1 + rnd(300) : 1 + rnd(400000);
            for (uint32_t j = 0; j < lengths[i]; j++) bytes[at++] = (uint8_t)(i + (int)(j * 7));
        }
        size_t told = pugd_sockets_send(ours, COUNT, bytes, lengths, sent);
        at = 0;
        for (int i = 0; i < COUNT; i++) {
            short_of += sent[i] < 0 || (uint32_t)sent[i] < lengths[i];
            if (i == 3) {
                CHECK(sent[i] == -EPIPE); /* and no signal */
            } else {
                size_t came = 0;
                ssize_t n;
                while ((n = read(theirs[i], got + came, room - came)) > 0) came += (size_t)n;
                CHECK(sent[i] > 0 && came == (size_t)sent[i] && !memcmp(got, bytes + at, came));
                full += came < lengths[i];
            }
            at += lengths[i];
        }
        CHECK(told == short_of);
    }
    CHECK(full > 10);
    /* Where nothing has room, nothing goes. */
    uint32_t most = 1 << 20;
    CHECK(pugd_sockets_send(ours, 1, bytes, &most, sent) == 1 && sent[0] > 0);
    CHECK(pugd_sockets_send(ours, 1, bytes, &most, sent) == 1 && sent[0] == -EAGAIN);
    end(ours);
    for (int i = 0; i < COUNT; i++)
        if (i != 3) close(theirs[i]);
    free(bytes);
    free(got);
    return 0;
}

int main(void)
{
    static const uint8_t head[] = "POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\n";
    struct pugd_heads *h = pugd_heads_new(64, 2048, 7);
    CHECK(h && pugd_heads_learn(h, head, sizeof head - 1, 4) >= 0);
    int failed = receiving(h) || sending();
    pugd_heads_free(h);
    CHECK(failing_held == 0);
    return failed;
}
