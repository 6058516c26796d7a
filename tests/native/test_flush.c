// sources: record.c
/* The flush thread on a real directory, with calls that fail, fall short or are interrupted on purpose: what is called
 * flushed is in the files, in order; the first error stays for ever, nothing is tried again, and flushed stands still. */
#define _GNU_SOURCE
#define PUGD_TEST_FLUSH

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

/* Which call of a kind fails, counted from now; -1 never. Atomic, for the thread and the test both look. */
static _Atomic int write_fails, sync_fails, directory_fails, rename_fails, allocate_fails, awkward;
static _Atomic int writes, syncs;
static _Atomic uint64_t chance;

static int due(_Atomic int *countdown) { return atomic_load(countdown) >= 0 && atomic_fetch_sub(countdown, 1) == 0; }

static ssize_t call_pwrite(int fd, const void *bytes, size_t length, off_t at)
{
    atomic_fetch_add(&writes, 1);
    if (due(&write_fails)) {
        errno = EIO;
        return -1;
    }
    if (atomic_load(&awkward)) {
        uint64_t z = atomic_fetch_add(&chance, 0x9e3779b97f4a7c15u) * 0xbf58476d1ce4e5b9u >> 40;
        if (z % 4 == 0) {
            errno = EINTR;
            return -1;
        }
        if (z % 4 < 3 && length > 1) length = 1 + z % (length - 1); /* short */
    }
    return pwrite(fd, bytes, length, at);
}

static int call_fdatasync(int fd)
{
    atomic_fetch_add(&syncs, 1);
    if (due(&sync_fails)) {
        errno = EIO;
        return -1;
    }
    return fdatasync(fd);
}

static int call_fsync(int fd)
{
    if (due(&directory_fails)) {
        errno = EIO;
        return -1;
    }
    return fsync(fd);
}

static int call_renameat(int from, const char *old, int to, const char *name)
{
    if (due(&rename_fails)) {
        errno = EROFS;
        return -1;
    }
    return renameat(from, old, to, name);
}

static int call_fallocate(int fd, int mode, off_t at, off_t length)
{
    if (due(&allocate_fails)) {
        errno = EOPNOTSUPP;
        return -1;
    }
    return fallocate(fd, mode, at, length);
}

#include "check.h"
#include "flush.c"

#define TIMEOUT_MS 20000
#define HEADER 32

static char place[] = "/tmp/pugd-flush-XXXXXX";
static int directory, event;
static _Atomic uint64_t page[512];
static uint64_t state = 20261124;

static uint32_t next(void)
{
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(state >> 33);
}

static void settle(void)
{
    atomic_store(&write_fails, -1);
    atomic_store(&sync_fails, -1);
    atomic_store(&directory_fails, -1);
    atomic_store(&rename_fails, -1);
    atomic_store(&allocate_fails, -1);
    atomic_store(&awkward, 0);
}

static struct pugd_flush *begin(uint64_t position, uint64_t file_bytes)
{
    uint64_t ignored;
    while (read(event, &ignored, sizeof ignored) > 0) {
    }
    return pugd_flush_open(directory, event, (void *)page, 7, position, file_bytes, 0, 1 << 20);
}

/* Begin a file at the present position, named for it. */
static int64_t turn(struct pugd_flush *f, uint64_t position)
{
    char name[PUGD_FLUSH_NAME];
    uint8_t header[HEADER];
    snprintf(name, sizeof name, "%llu", (unsigned long long)position);
    memset(header, 'h', sizeof header);
    int made = pugd_flush_spare(f, 1);
    return made ? made : pugd_flush_switch(f, name, header, HEADER);
}

/* What the file at `position` holds from its header on; its size to *size. */
static uint8_t *content(uint64_t position, size_t *size)
{
    char name[PUGD_FLUSH_NAME];
    snprintf(name, sizeof name, "%llu", (unsigned long long)position);
    int fd = openat(directory, name, O_RDONLY);
    if (fd < 0) return NULL;
    struct stat info;
    fstat(fd, &info);
    uint8_t *bytes = malloc((size_t)info.st_size + 1);
    *size = (size_t)read(fd, bytes, (size_t)info.st_size);
    close(fd);
    unlinkat(directory, name, 0);
    return bytes;
}

static int put(struct pugd_flush *f, uint64_t *position, uint32_t length)
{
    static uint8_t payload[70000];
    for (uint32_t i = 0; i < length; i += 1 + i / 8) payload[i] = (uint8_t)next();
    int64_t end;
    while ((end = pugd_flush_append(f, payload, length, 1)) == -EAGAIN) usleep(200);
    CHECK(end == (int64_t)(*position + PUGD_RECORD_HEADER + length));
    *position = (uint64_t)end;
    return 0;
}

/* Random appends and switches, with awkward writes; then every byte is where it belongs. */
static int order(int is_awkward)
{
    enum { FILES = 12 };
    uint64_t position = 1000, starts[FILES], records = 0, seen = 0, rows;
    struct pugd_flush *f = begin(position, 300000);
    CHECK(f && page[0] == 1000 && page[1] == 7);
    settle();
    atomic_store(&awkward, is_awkward);
    for (int file = 0; file < FILES; file++) {
        starts[file] = position;
        CHECK(turn(f, position) == (int64_t)(position + HEADER));
        position += HEADER;
        for (unsigned n = next() % 60; n; n--) {
            if (put(f, &position, 1 + next() % (n % 10 ? 3000 : 70000))) return 1;
            records++;
            uint64_t flushed = pugd_flush_flushed(f);
            CHECK(flushed >= seen && flushed <= position);
            CHECK(atomic_load(&page[0]) >= flushed);
            seen = flushed;
        }
        if (file % 3 == 0) CHECK(pugd_flush_wait(f, position, TIMEOUT_MS) == 0);
    }
    CHECK(pugd_flush_wait(f, position, TIMEOUT_MS) == 0);
    CHECK(pugd_flush_flushed(f) == position && atomic_load(&page[0]) == position);
    CHECK(pugd_flush_wait(f, position + 1, 5) == -ETIMEDOUT);
    uint64_t signals = 0;
    CHECK(read(event, &signals, sizeof signals) == sizeof signals && signals > 0);
    struct pugd_flush_statistics statistics;
    pugd_flush_statistics(f, &statistics);
    CHECK(statistics.files == FILES && statistics.bytes == position - 1000 && statistics.preallocated == 1);
    CHECK(statistics.syncs > 0 && statistics.sync_ns_max <= statistics.sync_ns_total);
    CHECK(pugd_flush_close(f) == 0);
    uint64_t found = 0;
    for (int file = 0; file < FILES; file++) {
        uint64_t end = file + 1 < FILES ? starts[file + 1] : position;
        size_t size;
        int status;
        uint8_t *bytes = content(starts[file], &size);
        CHECK(bytes && size == end - starts[file]);
        for (int i = 0; i < HEADER; i++) CHECK(bytes[i] == 'h');
        CHECK(pugd_records_check(bytes + HEADER, size - HEADER, starts[file] + HEADER, &rows, &status) == size - HEADER);
        found += rows;
        free(bytes);
    }
    CHECK(found == records);
    return 0;
}

/* What is appended while the tail is full is refused whole, and taken later. */
static int full_tail(void)
{
    static uint8_t large[1 << 20];
    uint64_t position = 0;
    struct pugd_flush *f = begin(0, 8 << 20);
    CHECK(turn(f, 0) == HEADER);
    position = HEADER;
    CHECK(pugd_flush_append(f, large, sizeof large, 1) == -EAGAIN);
    CHECK(pugd_flush_wait(f, position, TIMEOUT_MS) == 0);
    int64_t end = pugd_flush_append(f, large, sizeof large - PUGD_RECORD_HEADER, 1);
    CHECK(end == (int64_t)(position + sizeof large));
    CHECK(pugd_flush_wait(f, (uint64_t)end, TIMEOUT_MS) == 0);
    CHECK(pugd_flush_close(f) == 0);
    size_t size;
    free(content(0, &size));
    CHECK(size == (size_t)end);
    return 0;
}

/* Each kind of failure: it stays, flushed stands still, nothing more is written or synced. */
static int failures(void)
{
    static const struct {
        _Atomic int *which;
        int when, error, operation, by_switch;
    } cases[] = {
        {&write_fails, 0, EIO, PUGD_FLUSH_WRITE, 0},      {&sync_fails, 0, EIO, PUGD_FLUSH_SYNC, 0},
        {&write_fails, 0, EIO, PUGD_FLUSH_WRITE, 1},      {&sync_fails, 0, EIO, PUGD_FLUSH_SYNC, 1},
        {&sync_fails, 1, EIO, PUGD_FLUSH_SYNC, 1},        {&rename_fails, 0, EROFS, PUGD_FLUSH_DIRECTORY, 1},
        {&directory_fails, 0, EIO, PUGD_FLUSH_DIRECTORY, 1},
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        uint64_t position = 5000, ignored;
        size_t size;
        settle();
        struct pugd_flush *f = begin(position, 100000);
        CHECK(turn(f, position) > 0);
        position += HEADER;
        if (put(f, &position, 100)) return 1;
        CHECK(pugd_flush_wait(f, position, TIMEOUT_MS) == 0);
        uint64_t good = position;
        CHECK(read(event, &ignored, sizeof ignored) == sizeof ignored);
        CHECK(pugd_flush_spare(f, 1) == 0);

        atomic_store(cases[c].which, cases[c].when);
        if (cases[c].by_switch) {
            CHECK(turn(f, position) > 0);
            position += HEADER;
        } else if (put(f, &position, 100)) {
            return 1;
        }
        CHECK(pugd_flush_wait(f, position, TIMEOUT_MS) == -cases[c].error);
        settle();
        int before_writes = atomic_load(&writes), before_syncs = atomic_load(&syncs), operation = 0;
        for (int again = 0; again < 3; again++) {
            CHECK(pugd_flush_append(f, (const uint8_t *)"x", 1, 1) == -cases[c].error);
            CHECK(turn(f, position) == -cases[c].error);
            CHECK(pugd_flush_error(f, &operation) == cases[c].error && operation == cases[c].operation);
            CHECK(pugd_flush_wait(f, position, 1) == -cases[c].error);
            CHECK(pugd_flush_flushed(f) == good && atomic_load(&page[0]) == good);
        }
        CHECK(read(event, &ignored, sizeof ignored) == sizeof ignored);
        CHECK(pugd_flush_close(f) == -cases[c].error);
        CHECK(atomic_load(&writes) == before_writes && atomic_load(&syncs) == before_syncs);
        CHECK(atomic_load(&page[0]) == good);
        free(content(5000, &size));
        CHECK(size >= good - 5000);
        free(content(good, &size));
    }
    return 0;
}

/* A file system that cannot allocate ahead still serves; a spare of a switch never taken is removed at the end. */
static int spares(void)
{
    uint64_t position = 0;
    struct pugd_flush_statistics statistics;
    size_t size;
    settle();
    struct pugd_flush *f = begin(0, 100000);
    CHECK(pugd_flush_switch(f, "x", (const uint8_t *)"h", 1) == -EAGAIN);
    char longest[PUGD_FLUSH_NAME + 1];
    memset(longest, 'n', sizeof longest - 1);
    longest[sizeof longest - 1] = 0;
    CHECK(pugd_flush_switch(f, longest, (const uint8_t *)"h", 1) == -ENAMETOOLONG);
    atomic_store(&allocate_fails, 0);
    CHECK(turn(f, 0) == HEADER);
    position = HEADER;
    if (put(f, &position, 5000)) return 1;
    CHECK(pugd_flush_wait(f, position, TIMEOUT_MS) == 0);
    pugd_flush_statistics(f, &statistics);
    CHECK(statistics.preallocated == 0);
    CHECK(pugd_flush_close(f) == 0);
    free(content(0, &size));
    CHECK(size == position);

    /* a reserve that no disk has */
    f = pugd_flush_open(directory, event, NULL, 7, 0, 100000, UINT64_MAX / 2, 1 << 20);
    CHECK(pugd_flush_spare(f, 1) == -ENOSPC && turn(f, 0) == -ENOSPC);
    CHECK(pugd_flush_error(f, NULL) == 0);
    CHECK(pugd_flush_close(f) == 0);

    /* more switches than can wait, though nothing may be lost by it */
    f = begin(0, 4096);
    position = 0;
    int files = 0, refused = 0;
    while (files < 300) {
        int64_t end = turn(f, position);
        CHECK(end == -EAGAIN || end == (int64_t)(position + HEADER));
        refused += end < 0;
        if (end < 0) {
            usleep(200);
            continue;
        }
        files++;
        position = (uint64_t)end;
    }
    CHECK(pugd_flush_wait(f, position, TIMEOUT_MS) == 0);
    CHECK(pugd_flush_close(f) == 0);
    for (uint64_t at = 0; at < position; at += HEADER) {
        free(content(at, &size));
        CHECK(size == HEADER);
    }
    return 0;
}

/* Closing flushes what is left. */
static int closing(void)
{
    for (int round = 0; round < 30; round++) {
        uint64_t position = HEADER;
        size_t size;
        settle();
        struct pugd_flush *f = begin(0, 100000);
        CHECK(turn(f, 0) == HEADER);
        for (unsigned n = next() % 5; n; n--)
            if (put(f, &position, 1 + next() % 1000)) return 1;
        CHECK(pugd_flush_close(f) == 0);
        CHECK(atomic_load(&page[0]) == position);
        free(content(0, &size));
        CHECK(size == position);
    }
    return 0;
}

int main(void)
{
    if (!mkdtemp(place)) return 2;
    directory = open(place, O_RDONLY | O_DIRECTORY);
    event = eventfd(0, EFD_NONBLOCK);
    settle();
    int failed = order(0) || order(1) || full_tail() || failures() || spares() || closing();
    close(directory);
    close(event);
    if (!failed && rmdir(place)) {
        perror("something was left in the directory");
        return 3;
    }
    return failed;
}
