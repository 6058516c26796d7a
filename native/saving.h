/* A picture of memory that goes on changing: every block as it was when the picture began, taken by one thread while
 * another changes the blocks.
 *
 *   block[i]   0       as it was. The writer copies it and then says `taken`, if it still is 0: a copy made while the
 *                      other thread changed the block is thrown away, for that one has said so before
 *              taken   the writer has it: the other may change it as it likes
 *              else    a copy, made by the other thread before its first change of the block: the writer takes this
 *
 * So neither waits for the other, and a change costs at most one copy of a block, 1 to 2 µs, once. Memory: 8 bytes a
 * block, and the copies that the writer has not come to.
 */
#ifndef PUGD_SAVING_H
#define PUGD_SAVING_H

#include <stddef.h>
#include <stdint.h>

#define PUGD_SAVING_BLOCK 8192 /* bytes of a copy, at most */

/* Copies a block as it stands to `out`; returns how many bytes. It may run while the block changes. */
typedef uint32_t pugd_saving_copy(const void *of, uint32_t block, uint8_t *out);

struct pugd_saving;

/* NULL where memory is short. */
struct pugd_saving *pugd_saving_new(const void *of, uint32_t blocks, pugd_saving_copy *copy);
void pugd_saving_free(struct pugd_saving *saving);

/* Whoever changes a block, before it does. Cannot fail: where memory is short the picture is lost instead. */
void pugd_saving_keep(struct pugd_saving *saving, uint32_t block);

/* The writer: the next whole blocks, as far as `room` holds them. returns how many bytes; 0 at the end; -1 where the
 * picture is lost. room ≥ PUGD_SAVING_BLOCK. */
int64_t pugd_saving_next(struct pugd_saving *saving, uint8_t *out, size_t room);

#endif
