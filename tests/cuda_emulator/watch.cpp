#include "watch.h"
#include "block.h"
#include "memory.h"
#include "settings.h"
#include "shared_memory.h"
#include <algorithm>
#include <array>
#include <unordered_map>
#include <vector>

// The ends of this library, by the linker.
extern "C" __attribute__((visibility("hidden"))) const char __ehdr_start, _end;

namespace emu::watch {

bool wanted = setting("WATCH", 0) != 0;

namespace {

using Time = uint32_t; // counts what orders threads, in one launch

struct Access {
    uint32_t block, thread;
    Time when; // 0: none
    bool atomic;
};

/// What was last done to 4 bytes, or to the 1 or 2 that are accessed alone.
struct Cell {
    Access write, reads[2]; // since the write, by two threads
};

/// What a thread did last, of what makes its block's work public.
struct Clock {
    Time fence = 0, barrier_before_fence = 0, atomic = 0;
};

/// An atomic operation after a fence: the thread's own work before the fence is public from then on, and the block's
/// before the last barrier.
struct Release {
    uint32_t thread;
    Time at = 0, own = 0, all = 0;
};

bool active;
const char* arguments;
size_t arguments_size;
Time now;
uint32_t block;
Time last_barrier, acquired; // by atomic operations before the last barrier
std::array<Clock, 1024> clocks;
std::array<std::array<std::array<Time, 32>, 32>, 32> met; // in each warp: the last __syncwarp of these two lanes
std::vector<Release> releases;                            // of each block, the last
std::unordered_map<uintptr_t, Cell> cells, shared_cells;

bool public_since(const Access& earlier, Time seen) {
    if (earlier.block >= releases.size()) return false;
    const Release& release = releases[earlier.block];
    if (!release.at || release.at > seen) return false;
    if (earlier.atomic) return earlier.when < release.at;
    return earlier.when < (earlier.thread == release.thread ? release.own : release.all);
}

bool ordered(const Access& earlier, const Access& later) {
    if (!earlier.when || (earlier.atomic && later.atomic)) return true;
    if (earlier.block != later.block)
        return public_since(earlier, std::max(acquired, clocks[later.thread].atomic));
    if (earlier.thread == later.thread || earlier.when < last_barrier) return true;
    uint32_t warp = later.thread / 32;
    return earlier.thread / 32 == warp && earlier.when < met[warp][earlier.thread % 32][later.thread % 32];
}

std::string name(const Access& access) {
    return "thread " + std::to_string(access.thread) + " of block " + std::to_string(access.block);
}

[[noreturn]] void report(const Access& earlier, const char* did, const Access& later, const char* does,
                         const void* place) {
    fail("a race: " + name(later) + does + "what " + name(earlier) + did + ", and nothing orders them; " +
         (memory::contains(place) ? memory::describe(place) : "in shared memory"));
}

void check(Cell& cell, const Access& access, bool writes, const void* place) {
    if (!ordered(cell.write, access)) report(cell.write, " wrote", access, writes ? " overwrites " : " reads ", place);
    if (writes) {
        for (const Access& read : cell.reads)
            if (!ordered(read, access)) report(read, " read", access, " overwrites ", place);
        cell = {access, {}};
    } else {
        if (cell.reads[0].thread != access.thread || cell.reads[0].block != access.block) cell.reads[1] = cell.reads[0];
        cell.reads[0] = access;
    }
}

/// Whether it is the thread's own memory, of the program's code and constants, or pinned.
bool own(const void* place) {
    auto* at = static_cast<const char*>(place);
    return (at >= &__ehdr_start && at < &_end) || (at >= arguments && at < arguments + arguments_size) ||
           Fiber::on_a_stack(at) || memory::pinned(at);
}

void touch(const void* place, size_t size, bool writes, bool atomic = false) {
    bool shared = shared_memory::contains(place);
    if (!shared && !memory::contains(place)) {
        if (own(place)) return;
        fail("host memory, at address " + std::to_string(reinterpret_cast<uintptr_t>(place)), ILLEGAL_ADDRESS);
    }
    auto& touched = shared ? shared_cells : cells;
    Access access = {block, current->linear, now, atomic};
    auto address = reinterpret_cast<uintptr_t>(place);
    for (size_t i = 0; i < size; i += 4) check(touched[address + i], access, writes, place);
}

} // namespace

void begin_launch(const void* launch_arguments, size_t size) {
    active = wanted;
    if (!active) return;
    arguments = static_cast<const char*>(launch_arguments);
    arguments_size = size;
    cells.clear();
    shared_cells.clear();
    releases.clear();
    now = 1;
}

void begin_block(uint32_t number) {
    if (!active) return;
    block = number;
    last_barrier = acquired = 0;
    clocks.fill({});
    for (auto& warp : met)
        for (auto& lane : warp) lane.fill(0);
    now++;
    shared_cells.clear(); // another block's are other memory
}

void end_launch() { active = false; }

void barrier() {
    if (!active) return;
    last_barrier = ++now;
    for (const Clock& clock : clocks) acquired = std::max(acquired, clock.atomic);
}

void warp_barrier(uint32_t mask) {
    if (!active) return;
    now++;
    auto& lanes = met[current->warp];
    for (uint32_t a = 0; a < 32; a++)
        for (uint32_t b = 0; b < 32; b++)
            if (mask >> a & mask >> b & 1) lanes[a][b] = now;
}

void fence() {
    if (!active) return;
    clocks[current->linear].fence = ++now;
    clocks[current->linear].barrier_before_fence = last_barrier;
}

void atomic(const void* place, size_t size) {
    if (!active) return;
    touch(place, size, true, true);
    Clock& clock = clocks[current->linear];
    clock.atomic = ++now;
    if (!clock.fence) return;
    if (releases.size() <= block) releases.resize(block + 1);
    releases[block] = {current->linear, now, clock.fence, clock.barrier_before_fence};
}

} // namespace emu::watch

// The compiler calls these before each access of a kernel's (-fsanitize=thread; its own library is not linked).

#define EMU_HOOK(name, size, writes)                                                                                   \
    extern "C" void __tsan_##name(void* place) {                                                                       \
        if (emu::watch::active) emu::watch::touch(place, size, writes);                                                \
    }
#define EMU_HOOKS(size)                                                                                                \
    EMU_HOOK(read##size, size, false)                                                                                  \
    EMU_HOOK(write##size, size, true)                                                                                  \
    EMU_HOOK(unaligned_read##size, size, false)                                                                        \
    EMU_HOOK(unaligned_write##size, size, true)
EMU_HOOKS(1)
EMU_HOOKS(2)
EMU_HOOKS(4)
EMU_HOOKS(8)
EMU_HOOKS(16)
extern "C" void __tsan_read_range(void* place, size_t size) {
    if (emu::watch::active) emu::watch::touch(place, size, false);
}
extern "C" void __tsan_write_range(void* place, size_t size) {
    if (emu::watch::active) emu::watch::touch(place, size, true);
}
extern "C" void __tsan_vptr_update(void*, void*) {}
extern "C" void __tsan_func_entry(void*) {}
extern "C" void __tsan_func_exit() {}
extern "C" void __tsan_init() {}
