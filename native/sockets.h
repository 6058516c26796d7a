/* A wake-up's connections in one call: all that came over them, and all that goes.
 *
 *   fds      connections, non-blocking stream sockets
 *   buffer   [ what came over fd 0 ][ over fd 1 ] …         each is read once, into what is left of the buffer
 *   came     PUGD_SOCKETS_CAME numbers of each: how many bytes, or -errno; where they begin; the number of its head, where
 *            they are one whole request with a head that is known (heads.h), else -1; where its body begins
 *
 * An interrupted call is made again; everything else is the caller's to judge. One of the files of native/ that make
 * system calls: it neither opens nor closes anything.
 */
#ifndef PUGD_SOCKETS_H
#define PUGD_SOCKETS_H

#include <stddef.h>
#include <stdint.h>

#include "heads.h"

#define PUGD_SOCKETS_CAME 4

/* Read once from each of `count` sockets, as long as at least `least` bytes of the buffer are left for one.
 * returns  from how many it read; at least one where count and bytes >= least */
size_t pugd_sockets_receive(const struct pugd_heads *h, const int32_t *fds, size_t count, uint8_t *buffer, size_t bytes,
                            size_t least, int32_t *came);

/* Send once over each: `lengths[i]` bytes to fds[i], which lie end to end in `bytes`. sent[i]: how many went, or -errno.
 * returns  over how many not all of it went */
size_t pugd_sockets_send(const int32_t *fds, size_t count, const uint8_t *bytes, const uint32_t *lengths, int32_t *sent);

#endif
