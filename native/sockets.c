#include "sockets.h"

#include <errno.h>
#include <sys/socket.h>

size_t pugd_sockets_receive(const struct pugd_heads *h, const int32_t *fds, size_t count, uint8_t *buffer, size_t bytes,
                            size_t least, int32_t *came)
{
    size_t at = 0, done = 0;
    for (; done < count && bytes - at >= least; done++, came += PUGD_SOCKETS_CAME) {
        size_t room = bytes - at < INT32_MAX ? bytes - at : INT32_MAX;
        ssize_t got;
        do got = recv(fds[done], buffer + at, room, MSG_DONTWAIT);
        while (got < 0 && errno == EINTR);
        uint32_t body = 0;
        came[0] = got < 0 ? -errno : (int32_t)got;
        came[1] = (int32_t)at;
        came[2] = got > 0 ? pugd_heads_find(h, buffer + at, (size_t)got, &body) : -1;
        came[3] = (int32_t)(at + body);
        if (got > 0) at += (size_t)got;
    }
    return done;
}

size_t pugd_sockets_send(const int32_t *fds, size_t count, const uint8_t *bytes, const uint32_t *lengths, int32_t *sent)
{
    size_t short_of = 0;
    for (size_t i = 0; i < count; bytes += lengths[i++]) {
        ssize_t went;
        do went = send(fds[i], bytes, lengths[i], MSG_DONTWAIT | MSG_NOSIGNAL);
        while (went < 0 && errno == EINTR);
        sent[i] = went < 0 ? -errno : (int32_t)went;
        short_of += went < 0 || (size_t)went < lengths[i];
    }
    return short_of;
}
