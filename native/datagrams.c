#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "datagrams.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "memory.h"

union control {
    struct cmsghdr header; /* for its alignment */
    char room[CMSG_SPACE(sizeof(uint32_t)) + 64];
};

struct pugd_datagrams {
    uint8_t *slots;
    uint64_t truncated;
    uint64_t dropped;
    uint32_t dropped_seen; /* the kernel's count when we last looked */
    struct mmsghdr messages[PUGD_DATAGRAMS_SLOTS];
    struct iovec places[PUGD_DATAGRAMS_SLOTS];
    union control controls[PUGD_DATAGRAMS_SLOTS];
};

struct pugd_datagrams *pugd_datagrams_new(void)
{
    struct pugd_datagrams *d = pugd_calloc(1, sizeof *d);
    if (d == NULL) return NULL;
    /* Mapped, not from the heap: pages that no datagram reached are never backed. */
    d->slots = mmap(NULL, (size_t)PUGD_DATAGRAMS_SLOTS * PUGD_DATAGRAMS_SLOT_BYTES, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (d->slots == MAP_FAILED) {
        pugd_free(d);
        return NULL;
    }
    for (int i = 0; i < PUGD_DATAGRAMS_SLOTS; i++) {
        d->places[i].iov_base = d->slots + (size_t)i * PUGD_DATAGRAMS_SLOT_BYTES;
        d->places[i].iov_len = PUGD_DATAGRAMS_SLOT_BYTES;
        d->messages[i].msg_hdr.msg_iov = &d->places[i];
        d->messages[i].msg_hdr.msg_iovlen = 1;
    }
    return d;
}

void pugd_datagrams_free(struct pugd_datagrams *d)
{
    if (d == NULL) return;
    munmap(d->slots, (size_t)PUGD_DATAGRAMS_SLOTS * PUGD_DATAGRAMS_SLOT_BYTES);
    pugd_free(d);
}

int pugd_datagrams_count_drops(int fd)
{
    int on = 1;
    return setsockopt(fd, SOL_SOCKET, SO_RXQ_OVFL, &on, sizeof on) ? errno : 0;
}

static void count_drops(struct pugd_datagrams *d, struct msghdr *message)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c != NULL; c = CMSG_NXTHDR(message, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SO_RXQ_OVFL || c->cmsg_len < CMSG_LEN(sizeof(uint32_t)))
            continue;
        uint32_t seen;
        memcpy(&seen, CMSG_DATA(c), sizeof seen);
        d->dropped += (uint32_t)(seen - d->dropped_seen);
        d->dropped_seen = seen;
    }
}

int pugd_datagrams_receive(struct pugd_datagrams *d, int fd, uint8_t *out, size_t out_bytes, uint32_t *offsets,
                           uint32_t *taken)
{
    *taken = 0;
    offsets[0] = 0;
    if (out_bytes < PUGD_DATAGRAMS_SLOT_BYTES + 1 || out_bytes > UINT32_MAX) return -EINVAL;
    /* No more than surely fit: what left the socket cannot be put back. */
    size_t room = out_bytes / (PUGD_DATAGRAMS_SLOT_BYTES + 1);
    unsigned int most = room < PUGD_DATAGRAMS_SLOTS ? (unsigned int)room : PUGD_DATAGRAMS_SLOTS;
    for (unsigned int i = 0; i < most; i++) {
        d->messages[i].msg_hdr.msg_control = &d->controls[i];
        d->messages[i].msg_hdr.msg_controllen = sizeof d->controls[i];
        d->messages[i].msg_hdr.msg_flags = 0;
    }
    int got;
    do {
        got = recvmmsg(fd, d->messages, most, MSG_DONTWAIT, NULL);
    } while (got < 0 && errno == EINTR);
    if (got < 0) return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -errno;
    *taken = (uint32_t)got;
    int kept = 0;
    uint32_t at = 0;
    for (int i = 0; i < got; i++) {
        struct msghdr *message = &d->messages[i].msg_hdr;
        count_drops(d, message);
        if (message->msg_flags & MSG_TRUNC) {
            d->truncated += 1;
            continue;
        }
        uint32_t length = d->messages[i].msg_len;
        if (length == 0) continue;
        memcpy(out + at, d->places[i].iov_base, length);
        out[at + length] = '\n';
        at += length + 1;
        offsets[++kept] = at;
    }
    return kept;
}

uint64_t pugd_datagrams_truncated(const struct pugd_datagrams *d) { return d->truncated; }
uint64_t pugd_datagrams_dropped(const struct pugd_datagrams *d) { return d->dropped; }
