/* A library for LD_PRELOAD that makes one system call of a program fail, or kills the program there. tests/faults.rs
 * uses it.
 *
 * FAULT_FOLDER   only calls on files in this folder, and on the folder, count
 * FAULT_AT       the number of the call, from 1 on
 * FAULT_HOW      an errno as a number; "short": a write takes half of its bytes; "kill": SIGKILL before the call;
 *                "full": this call and all writes after it find no space
 *
 * When the call is reached, "fault: NAME" goes to standard error. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

enum { PASS, FAIL, SHORT };

static char watched[1024]; /* by descriptor */
static long calls;

static int in_folder(const char *path) {
    const char *folder = getenv("FAULT_FOLDER");
    return folder && path && strncmp(path, folder, strlen(folder)) == 0;
}

static int is_watched(int fd) {
    return fd >= 0 && fd < (int)sizeof watched && watched[fd];
}

static int watch(int fd) {
    if (fd >= 0 && fd < (int)sizeof watched)
        watched[fd] = 1;
    return fd;
}

/* Whether and how this call, which counts, is to fail. */
static int fate(const char *name) {
    static int full;
    const char *at = getenv("FAULT_AT"), *how = getenv("FAULT_HOW");
    ++calls;
    if (!at || !how)
        return PASS;
    if (full && strcmp(name, "write") == 0) {
        errno = ENOSPC;
        return FAIL;
    }
    if (calls != atol(at))
        return PASS;
    dprintf(2, "fault: %s\n", name);
    if (strcmp(how, "kill") == 0)
        raise(SIGKILL);
    if (strcmp(how, "short") == 0)
        return SHORT;
    full = strcmp(how, "full") == 0;
    errno = full ? ENOSPC : atoi(how);
    return FAIL;
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

#define OPENING(name)                                                                                                  \
    int name(const char *path, int flags, ...) {                                                                       \
        va_list rest;                                                                                                  \
        va_start(rest, flags);                                                                                         \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;                                        \
        va_end(rest);                                                                                                  \
        if (!in_folder(path))                                                                                          \
            return NEXT(name)(path, flags, mode);                                                                      \
        if (fate(#name) == FAIL)                                                                                       \
            return -1;                                                                                                 \
        return watch(NEXT(name)(path, flags, mode));                                                                   \
    }
OPENING(open)
OPENING(open64)

#define OPENING_AT(name)                                                                                               \
    int name(int at, const char *path, int flags, ...) {                                                               \
        va_list rest;                                                                                                  \
        va_start(rest, flags);                                                                                         \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;                                        \
        va_end(rest);                                                                                                  \
        if (!in_folder(path))                                                                                          \
            return NEXT(name)(at, path, flags, mode);                                                                  \
        if (fate(#name) == FAIL)                                                                                       \
            return -1;                                                                                                 \
        return watch(NEXT(name)(at, path, flags, mode));                                                               \
    }
OPENING_AT(openat)
OPENING_AT(openat64)

#define CREATING(name)                                                                                                 \
    int name(const char *path, mode_t mode) {                                                                          \
        if (!in_folder(path))                                                                                          \
            return NEXT(name)(path, mode);                                                                             \
        if (fate(#name) == FAIL)                                                                                       \
            return -1;                                                                                                 \
        return watch(NEXT(name)(path, mode));                                                                          \
    }
CREATING(creat)
CREATING(creat64)

ssize_t write(int fd, const void *bytes, size_t size) {
    if (is_watched(fd)) {
        switch (fate("write")) {
        case FAIL:
            return -1;
        case SHORT:
            size = (size + 1) / 2;
        }
    }
    return NEXT(write)(fd, bytes, size);
}

#define ON_DESCRIPTOR(name)                                                                                            \
    int name(int fd) {                                                                                                 \
        if (is_watched(fd) && fate(#name) == FAIL)                                                                     \
            return -1;                                                                                                 \
        return NEXT(name)(fd);                                                                                         \
    }
ON_DESCRIPTOR(fsync)
ON_DESCRIPTOR(fdatasync)

int close(int fd) {
    int failed = 0, error = 0;
    if (is_watched(fd)) {
        failed = fate("close") == FAIL;
        error = errno;
        watched[fd] = 0;
    }
    int result = NEXT(close)(fd); /* a failing close closes, too */
    if (!failed)
        return result;
    errno = error;
    return -1;
}

int fchmod(int fd, mode_t mode) {
    if (is_watched(fd) && fate("fchmod") == FAIL)
        return -1;
    return NEXT(fchmod)(fd, mode);
}

int rename(const char *from, const char *to) {
    if (in_folder(to) && fate("rename") == FAIL)
        return -1;
    return NEXT(rename)(from, to);
}

char *realpath(const char *path, char *resolved) {
    if (in_folder(path) && fate("realpath") == FAIL)
        return NULL;
    return NEXT(realpath)(path, resolved);
}

int statx(int at, const char *path, int flags, unsigned mask, struct statx *result) {
    if (in_folder(path) && fate("statx") == FAIL)
        return -1;
    return NEXT(statx)(at, path, flags, mask, result);
}
