/* The C library's allocation functions, of which a test lets the n-th call fail, or all from the n-th on; and the number
 * of blocks and mappings that are in use.
 *
 * They take the place of the C library's in the whole program. Not every call fails: those of the CUDA emulator, which stand
 * for a driver's own memory; those of the loader, which loads a driver, and in pthread_create makes the new thread's
 * variables; and those on other threads than the caller's, since a thread that starts without memory is ended by the C
 * library itself, with its process. */
#define _GNU_SOURCE
#include "failing_memory.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);
extern void __libc_free(void *);

static atomic_int armed;
static pthread_t arming; /* the thread whose allocations fail */
static atomic_long calls, failing_from, failing_to;

/* The addresses in use: a hash table without deletion marks would lose some, so a freed place is 1. */
enum { PLACES = 1 << 20 };
static atomic_uintptr_t places[PLACES];
static atomic_long used;

static size_t first_place(const void *block) {
    return (size_t)(((uintptr_t)block >> 4) * 0x9E3779B97F4A7C15u >> 44) % PLACES;
}

static void *enter(void *block) {
    if (block == NULL)
        return NULL;
    for (size_t i = first_place(block);; i = (i + 1) % PLACES) {
        uintptr_t free_place = atomic_load(&places[i]);
        if (free_place <= 1 && atomic_compare_exchange_strong(&places[i], &free_place, (uintptr_t)block))
            break;
    }
    atomic_fetch_add(&used, 1);
    return block;
}

static void leave(void *block) {
    if (block == NULL)
        return;
    for (size_t i = first_place(block);; i = (i + 1) % PLACES) {
        uintptr_t there = atomic_load(&places[i]);
        if (there == 0)
            return; /* not entered: it is the driver's */
        if (there == (uintptr_t)block) {
            atomic_store(&places[i], 1);
            atomic_fetch_sub(&used, 1);
            return;
        }
    }
}

/* Called by the arming thread alone, which remembers its callers: dladdr is slow. */
static int is_drivers(const void *caller) {
    static struct {
        const void *caller;
        int is_drivers;
    } known[4096];
    size_t i = (uintptr_t)caller % 4096;
    Dl_info info;
    if (known[i].caller != caller) {
        const char *name = dladdr(caller, &info) == 0 || info.dli_fname == NULL ? "" : info.dli_fname;
        known[i].is_drivers = strstr(name, "libcuda") != NULL || strstr(name, "libstdc++") != NULL ||
                              strstr(name, "ld-linux") != NULL;
        known[i].caller = caller;
    }
    return known[i].is_drivers;
}

enum fate { GIVEN, REFUSED, DRIVERS };

static enum fate fate(const void *caller) {
    if (!atomic_load(&armed) || !pthread_equal(arming, pthread_self()))
        return GIVEN;
    if (is_drivers(caller))
        return DRIVERS;
    long call = atomic_fetch_add(&calls, 1) + 1;
    return call >= atomic_load(&failing_from) && call <= atomic_load(&failing_to) ? REFUSED : GIVEN;
}

/* Evaluates the call of the C library's function, or refuses. */
#define ALLOCATION(call)                                                                                               \
    switch (fate(__builtin_return_address(0))) {                                                                       \
    case DRIVERS:                                                                                                      \
        return call;                                                                                                   \
    case REFUSED:                                                                                                      \
        errno = ENOMEM;                                                                                                \
        return NULL;                                                                                                   \
    default:                                                                                                           \
        return enter(call);                                                                                            \
    }

void *malloc(size_t size) { ALLOCATION(__libc_malloc(size)) }

void *calloc(size_t count, size_t size) { ALLOCATION(__libc_calloc(count, size)) }

void *memalign(size_t align, size_t size) { ALLOCATION(__libc_memalign(align, size)) }

void *aligned_alloc(size_t align, size_t size) { ALLOCATION(__libc_memalign(align, size)) }

int posix_memalign(void **block, size_t align, size_t size) {
    enum fate own = fate(__builtin_return_address(0));
    void *made = own == REFUSED ? NULL : __libc_memalign(align, size);
    if (made == NULL)
        return ENOMEM;
    *block = own == DRIVERS ? made : enter(made);
    return 0;
}

void *realloc(void *block, size_t size) {
    enum fate own = fate(__builtin_return_address(0));
    if (own == REFUSED && size > 0) {
        errno = ENOMEM;
        return NULL;
    }
    /* Out before it moves: another thread may get the old address at once. */
    leave(block);
    void *moved = __libc_realloc(block, size);
    if (moved == NULL && size > 0)
        enter(block);
    return own == DRIVERS ? moved : enter(moved);
}

void free(void *block) {
    leave(block);
    __libc_free(block);
}

static void *map(void *caller, void *at, size_t size, int protection, int flags, int file, off_t offset) {
    enum fate own = flags & MAP_ANONYMOUS ? fate(caller) : DRIVERS;
    if (own == REFUSED) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    void *made = (void *)syscall(SYS_mmap, at, size, protection, flags, file, offset);
    return made == MAP_FAILED || own == DRIVERS ? made : enter(made);
}

void *mmap(void *at, size_t size, int protection, int flags, int file, off_t offset) {
    return map(__builtin_return_address(0), at, size, protection, flags, file, offset);
}

void *mmap64(void *at, size_t size, int protection, int flags, int file, off_t offset);
void *mmap64(void *at, size_t size, int protection, int flags, int file, off_t offset) {
    return map(__builtin_return_address(0), at, size, protection, flags, file, offset);
}

int munmap(void *at, size_t size) {
    leave(at);
    return (int)syscall(SYS_munmap, at, size);
}

void fail_allocations(long from, long to) {
    atomic_store(&calls, 0);
    atomic_store(&failing_from, from);
    atomic_store(&failing_to, to);
    arming = pthread_self();
    atomic_store(&armed, 1);
}

long stop_failing(void) {
    atomic_store(&armed, 0);
    return atomic_load(&calls);
}

long blocks_in_use(void) { return atomic_load(&used); }
