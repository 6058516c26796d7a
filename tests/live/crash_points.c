/* Preloaded into a daemon: ends a process by SIGKILL at a named point of its work with the disk.
 *
 * The file that CRASH_ARM names arms it: "<point> <n>", and the nth time from then on that a process comes to the point,
 * the file is removed and the process is no more. Points of the journal's flush thread (by its name):
 *
 *     before-write  torn-write  after-write  before-sync  after-sync  before-name  after-name
 *
 * of whoever inserts into the embedded ClickHouse, and of ClickHouse itself, whose part becomes visible by a rename
 * after its deduplication token was recorded, one partition after the other:
 *
 *     before-insert  before-commit  after-commit
 *
 * and of the position that the drain writes once an insert is done:
 *
 *     before-stored  after-stored
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

static void *real(const char *name) { return dlsym(RTLD_NEXT, name); }

static _Atomic int seen;
static _Atomic unsigned long armed;

static int due(const char *point)
{
    static int (*really_open)(const char *, int, ...);
    const char *path = getenv("CRASH_ARM");
    if (!path) return 0;
    if (!really_open) really_open = (int (*)(const char *, int, ...))real("open");
    int fd = really_open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    char text[64] = "", wanted[32] = "";
    int n = 1;
    struct stat about;
    ssize_t got = read(fd, text, sizeof text - 1);
    fstat(fd, &about);
    close(fd);
    if (got <= 0 || sscanf(text, "%31s %d", wanted, &n) < 1 || strcmp(wanted, point)) return 0;
    unsigned long now = (unsigned long)about.st_ino ^ (unsigned long)about.st_mtim.tv_nsec;
    if (armed != now) {
        armed = now;
        seen = 0;
    }
    if (++seen < n) return 0;
    return unlink(path) == 0;
}

static void end(const char *point)
{
    if (due(point)) {
        kill(getpid(), SIGKILL);
        for (;;) pause();
    }
}

static int flushing(void)
{
    char name[17] = "";
    prctl(PR_GET_NAME, name);
    return !strcmp(name, "pugd-flush");
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t at)
{
    ssize_t (*really)(int, const void *, size_t, off_t) = (ssize_t(*)(int, const void *, size_t, off_t))real("pwrite");
    if (!flushing()) return really(fd, bytes, length, at);
    end("before-write");
    if (due("torn-write")) {
        really(fd, bytes, length / 2, at);
        kill(getpid(), SIGKILL);
    }
    ssize_t done = really(fd, bytes, length, at);
    end("after-write");
    return done;
}

int fdatasync(int fd)
{
    int (*really)(int) = (int (*)(int))real("fdatasync");
    if (!flushing()) return really(fd);
    end("before-sync");
    int done = really(fd);
    end("after-sync");
    return done;
}

int renameat(int from, const char *old, int to, const char *new)
{
    int (*really)(int, const char *, int, const char *) =
        (int (*)(int, const char *, int, const char *))real("renameat");
    if (!flushing()) return really(from, old, to, new);
    end("before-name");
    int done = really(from, old, to, new);
    end("after-name");
    return done;
}

int rename(const char *old, const char *new)
{
    int (*really)(const char *, const char *) = (int (*)(const char *, const char *))real("rename");
    size_t length = strlen(new);
    int stored = length > 7 && !strcmp(new + length - 7, "/stored"), commit = !!strstr(old, "/tmp_insert_");
    if (stored) end("before-stored");
    if (commit) end("before-commit");
    int done = really(old, new);
    if (stored) end("after-stored");
    if (commit) end("after-commit");
    return done;
}

/* The engine is loaded so that it would find the C library before us: not so here. */
void *dlopen(const char *path, int flags)
{
    return ((void *(*)(const char *, int))real("dlopen"))(path, flags & ~RTLD_DEEPBIND);
}

static void opening(const char *path)
{
    const char *directory = getenv("CRASH_TMP");
    if (directory && !strncmp(path, directory, strlen(directory))) end("before-insert");
}

int open(const char *path, int flags, ...)
{
    va_list more;
    va_start(more, flags);
    int mode = va_arg(more, int);
    va_end(more);
    opening(path);
    return ((int (*)(const char *, int, ...))real("open"))(path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
    va_list more;
    va_start(more, flags);
    int mode = va_arg(more, int);
    va_end(more);
    opening(path);
    return ((int (*)(const char *, int, ...))real("open64"))(path, flags, mode);
}
