/* Receiving many datagrams in one system call (Linux recvmmsg), and counting those that nobody will see.
 *
 *   slots     SLOTS × SLOT_BYTES, one mapping, touched by the kernel only as far as datagrams reach:
 *             [ slot 0 ………… ][ slot 1 ………… ] …
 *   out       [ datagram 0 \n ][ datagram 1 \n ] …          packed end to end, each with a line feed behind it
 *   offsets   0, end of 0, end of 1, …                      count + 1 numbers
 *
 * A slot holds the longest datagram that UDP has (65 507 bytes over IPv4, 65 527 over IPv6), so none is cut short but
 * a jumbogram, which is counted as truncated and left out. 128 slots of 64 KiB are 8 MiB at the very most; small
 * datagrams touch one page each.
 *
 * The kernel tells with every datagram how many it dropped on this socket for want of room (SO_RXQ_OVFL, 32 bits that
 * wrap around) since it was opened, by whichever process; `dropped` adds up the differences. A drop is seen with the
 * next datagram that gets through.
 *
 * One of the files of native/ that make system calls. Nothing is ever sent.
 */
#ifndef PUGD_DATAGRAMS_H
#define PUGD_DATAGRAMS_H

#include <stdint.h>
#include <stddef.h>

#define PUGD_DATAGRAMS_SLOTS 128
#define PUGD_DATAGRAMS_SLOT_BYTES 65536
/* What `out` must hold: every slot full, with its line feed. */
#define PUGD_DATAGRAMS_OUT_BYTES (PUGD_DATAGRAMS_SLOTS * (PUGD_DATAGRAMS_SLOT_BYTES + 1))

struct pugd_datagrams;

/* returns NULL when memory is out. */
struct pugd_datagrams *pugd_datagrams_new(void);
void pugd_datagrams_free(struct pugd_datagrams *d);

/* Ask the kernel to count its drops on socket `fd`. returns 0 or errno. */
int pugd_datagrams_count_drops(int fd);

/* Receive what is there, at most SLOTS datagrams and at most `out_bytes`, without waiting.
 * out: at least one slot and its line feed, else EINVAL; offsets: SLOTS + 1 numbers.
 * returns how many lie in out (0: none was there; empty and truncated datagrams are left out but counted in *taken),
 *         or -errno. *taken gets how many left the socket. cost: one system call and one copy a datagram. */
int pugd_datagrams_receive(struct pugd_datagrams *d, int fd, uint8_t *out, size_t out_bytes, uint32_t *offsets,
                           uint32_t *taken);

uint64_t pugd_datagrams_truncated(const struct pugd_datagrams *d);
uint64_t pugd_datagrams_dropped(const struct pugd_datagrams *d);

#endif
