/* The journal's hand on the disk: bytes in from one thread without a system call, out by pwrite and fdatasync in
 * another.
 *
 *      appender (Python's loop)                    flush thread
 *      append: header, checksum, memcpy ─► tail ═swap═► pwrite all of it ─► fdatasync once ─► flushed ─► eventfd
 *                                           ▲                                                 (page, then atomic)
 *                                           └── what comes meanwhile is the next round: group commit
 *
 * Two buffers of fixed address space take turns as tail; memory is touched as it fills and given back after a burst,
 * so nothing is allocated per append and nothing moves. What stands in a buffer is the journal itself, in order of
 * positions: records, and at each switch of files a mark and the new file's header.
 *
 * Files. A file is made ahead of time as `spare-<n>`, with all its blocks allocated (fallocate, where the file system
 * can), so that appends never meet a full disk: what may be appended is what fits in the open file, else in the spare.
 * pugd_flush_switch takes the spare for what follows. The thread then writes and syncs the rest of the old file and
 * cuts it to its data, writes and syncs the new one's first bytes, and only then renames it and syncs the directory: a
 * file that bears a journal file's name has its header. Spares of a process that died are the next one's to remove.
 *
 * Failure. The first error of write, sync or rename is kept for ever: nothing is tried again, flushed stands still,
 * appends answer with it, the eventfd is signalled. (After a failed fsync the kernel may have dropped the dirty pages
 * and a second fsync would succeed: Rebello et al., "Can Applications Recover from fsync Failures?", USENIX ATC 2020.)
 *
 * Threads: append, switch, spare, close from one thread only; the rest from any.
 * Cost: an append is a checksum and a memcpy, a mutex held only for the copy and the swap, and a wake-up of the thread
 * if it sleeps.
 */
#ifndef PUGD_FLUSH_H
#define PUGD_FLUSH_H

#include <stddef.h>
#include <stdint.h>

#define PUGD_FLUSH_NAME 64 /* bytes of a file name, its end included */

struct pugd_flush;

/* What failed, for the message. */
enum pugd_flush_operation { PUGD_FLUSH_WRITE = 1, PUGD_FLUSH_SYNC = 2, PUGD_FLUSH_DIRECTORY = 3 };

struct pugd_flush_statistics {
    uint64_t syncs;           /* fdatasync calls */
    uint64_t bytes;           /* written */
    uint64_t sync_ns_total;   /* time in write and sync */
    uint64_t sync_ns_max;
    uint64_t files;           /* switched to */
    uint64_t preallocated;    /* 0 where the file system cannot allocate ahead, else 1 */
};

/* Start the thread. The journal ends at `position`; the first thing to do is a switch.
 *
 * directory    an open descriptor of the journal's directory; stays the caller's
 * event        an eventfd, likewise
 * page         NULL, or the mapped page: its first u64 is the flushed position, its second the epoch; both are set here
 * file_bytes   to allocate for each spare
 * reserve      bytes that must stay free on the disk: a spare that would take of them is not made
 * pending      bytes that each of the two buffers can hold: the largest record, header included, must fit
 * returns NULL with errno set */
struct pugd_flush *pugd_flush_open(int directory, int event, void *page, uint64_t epoch, uint64_t position,
                                   uint64_t file_bytes, uint64_t reserve, uint64_t pending);

/* Have a spare of at least `bytes` ready, making it if need be; a switch right after it will be taken. returns 0; or
 * -errno, and nothing is broken by it: -ENOSPC where the disk's reserve is reached, -EAGAIN while 64 switches wait. */
int pugd_flush_spare(struct pugd_flush *f, uint64_t bytes);

/* What follows goes to the spare, which becomes the file `name`; `header` are its first bytes, and count as positions.
 * returns the position behind it; -EAGAIN without a spare or while 64 switches wait; else the kept error, negative. */
int64_t pugd_flush_switch(struct pugd_flush *f, const char *name, const uint8_t *header, uint32_t length);

/* Append one record. returns the position behind it, durable once flushed has reached it; -EAGAIN where the tail cannot
 * hold it; else the kept error, negative. Whether the file has room is the caller's to know. */
int64_t pugd_flush_append(struct pugd_flush *f, const uint8_t *payload, uint32_t length, uint32_t rows);

/* Everything before this position is on disk. Acquires what the thread released. */
uint64_t pugd_flush_flushed(struct pugd_flush *f);

/* 0, or the error that is kept, as errno; *operation, where not NULL, says what met it. */
int pugd_flush_error(struct pugd_flush *f, int *operation);

/* Block until flushed has reached `position`. returns 0, -ETIMEDOUT, or the kept error, negative. */
int pugd_flush_wait(struct pugd_flush *f, uint64_t position, int64_t timeout_ms);

void pugd_flush_statistics(struct pugd_flush *f, struct pugd_flush_statistics *out);

/* Write and sync what is left, end the thread, free everything; the spare is removed. returns 0 or the kept error. */
int pugd_flush_close(struct pugd_flush *f);

#endif
