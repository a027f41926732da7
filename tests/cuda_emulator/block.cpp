#include "block.h"
#include "watch.h"
#include "shared_memory.h"
#include <algorithm>
#include <array>
#include <numeric>
#include <vector>

namespace emu {

Thread* current;
uint3 block_index;
dim3 block_size, grid_size;

namespace {

struct Warp {
    uint32_t ready;  // lanes that can run
    uint32_t exited; // and those that the block never had
    uint32_t used;   // of `meetings`: each has a lane that is in no other
    std::array<Meeting, 32> meetings;
};

std::array<Thread, 1024> threads;
std::array<Warp, 32> warps;
unsigned count, alive, at_barrier;
int barrier_line; // where the first of them waits
Failure failure;
void (*kernel_body)(void*);
void* kernel_argument;

void wake(Thread& thread) {
    thread.state = Thread::Running;
    warps[thread.warp].ready |= 1u << thread.lane;
}

void release_barrier() {
    watch::barrier();
    at_barrier = 0;
    for (unsigned i = 0; i < count; i++)
        if (threads[i].state == Thread::AtBarrier) wake(threads[i]);
}

std::string place(const Thread& thread) {
    auto [x, y, z] = thread.index;
    return "thread (" + std::to_string(x) + ", " + std::to_string(y) + ", " + std::to_string(z) + "), line " +
           std::to_string(thread.line);
}

/// Why no thread can run although some have not exited.
std::string deadlock() {
    unsigned barrier = 0, warp = 0, exited = 0;
    const Thread* waiting = nullptr;
    for (unsigned i = 0; i < count; i++) {
        barrier += threads[i].state == Thread::AtBarrier;
        warp += threads[i].state == Thread::InWarpOperation;
        exited += threads[i].state == Thread::Exited;
        if (!waiting && threads[i].state != Thread::Exited) waiting = &threads[i];
    }
    return "deadlock: " + std::to_string(barrier) + " threads wait at a barrier, " + std::to_string(warp) +
           " in a warp operation, " + std::to_string(exited) + " have exited; the first waits in " + place(*waiting);
}

void thread_main() {
    kernel_body(kernel_argument);
    Warp& warp = warps[current->warp];
    uint32_t me = 1u << current->lane;
    current->state = Thread::Exited;
    warp.exited |= me;
    alive--;
    for (unsigned i = 0; i < 32; i++)
        if (warp.used >> i & 1 && warp.meetings[i].unread == 0 && warp.meetings[i].mask & me)
            fail("a lane exited while others of its warp wait for it in line " + std::to_string(warp.meetings[i].line));
    if (alive && at_barrier == alive) release_barrier();
    current->fiber.suspend();
}

void set_up_threads() {
    Fiber::abandon_all();
    count = alive = block_size.x * block_size.y * block_size.z;
    at_barrier = 0;
    failure = {};
    for (unsigned i = 0; i < (count + 31) / 32; i++) {
        unsigned lanes = std::min(32u, count - 32 * i);
        uint32_t all = lanes == 32 ? ~0u : (1u << lanes) - 1;
        warps[i].ready = all;
        warps[i].exited = ~all;
        warps[i].used = 0;
    }
    uint3 index = {0, 0, 0};
    for (unsigned i = 0; i < count; i++) {
        threads[i] = {index, i, i % 32, i / 32, Thread::Running, 0, Fiber()};
        if (++index.x == block_size.x) index.x = 0, index.y++;
        if (index.y == block_size.y) index.y = 0, index.z++;
    }
}

/// The first warp in this order that has a lane to run; none: nothing is left, or a deadlock.
Warp* next(const std::vector<uint32_t>& order) {
    for (uint32_t i : order)
        if (warps[i].ready) return &warps[i];
    return nullptr;
}

} // namespace

uint64_t Ordering::random() { // xorshift
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

unsigned Ordering::pick(uint32_t bits) {
    if (order == 0) return static_cast<unsigned>(__builtin_ctz(bits));
    if (order == 1) return 31 - static_cast<unsigned>(__builtin_clz(bits));
    for (auto skip = random() % static_cast<unsigned>(__builtin_popcount(bits)); skip; skip--) bits &= bits - 1;
    return static_cast<unsigned>(__builtin_ctz(bits));
}

void Ordering::arrange(uint32_t length, std::vector<uint32_t>& into) {
    into.resize(length);
    std::iota(into.begin(), into.end(), 0u);
    if (order == 1) std::reverse(into.begin(), into.end());
    if (order > 1)
        for (uint32_t i = length; i > 1; i--) std::swap(into[i - 1], into[random() % i]);
}

Failure run_block(void (*body)(void*), void* argument, Ordering& ordering) {
    static std::vector<uint32_t> order; // kept: no allocation in each block
    kernel_body = body;
    kernel_argument = argument;
    set_up_threads();
    shared_memory::begin_block();
    ordering.arrange((count + 31) / 32, order);
    while (Warp* warp = next(order)) {
        unsigned lane = ordering.pick(warp->ready);
        warp->ready &= ~(1u << lane);
        current = &threads[static_cast<unsigned>(warp - warps.data()) * 32 + lane];
        if (!current->fiber.started()) current->fiber.start(thread_main);
        current->fiber.resume();
        if (failure.result) return failure;
        if (current->state == Thread::Exited) current->fiber.finish();
    }
    if (alive) return {LAUNCH_FAILED, deadlock()};
    std::string overrun = shared_memory::end_block();
    return {overrun.empty() ? SUCCESS : ILLEGAL_ADDRESS, overrun};
}

void fail(const std::string& why, Result result) {
    failure = {result, why};
    for (;;) current->fiber.suspend();
}

void synchronize_block(int line) {
    if (at_barrier == 0) barrier_line = line;
    if (barrier_line != line)
        fail("threads wait at different barriers, in the lines " + std::to_string(barrier_line) + " and " +
             std::to_string(line));
    current->line = line;
    if (++at_barrier == alive) return release_barrier(); // the last one goes on
    current->state = Thread::AtBarrier;
    current->fiber.suspend();
}

Meeting& meet(uint32_t mask, uint64_t value, WarpOperation operation, int line) {
    Warp& warp = warps[current->warp];
    uint32_t me = 1u << current->lane;
    current->line = line;
    if (!(mask & me)) fail("a lane is not in the mask of its own warp operation: " + place(*current));
    if (mask & warp.exited)
        fail("the mask of a warp operation names a lane that has exited or does not exist: " + place(*current));
    Meeting* mine = nullptr;
    for (uint32_t used = warp.used; used; used &= used - 1) {
        Meeting& other = warp.meetings[static_cast<unsigned>(__builtin_ctz(used))];
        if (other.unread) continue; // over
        bool same = other.mask == mask, never = other.mask & me && mask & other.arrived;
        if (same ? other.operation != operation || other.line != line : never)
            fail("lanes of a warp meet in different operations or masks, in the lines " + std::to_string(other.line) +
                 " and " + std::to_string(line));
        if (same) mine = &other;
    }
    if (!mine) {
        unsigned unused = static_cast<unsigned>(__builtin_ctz(~warp.used));
        warp.used |= 1u << unused;
        mine = &warp.meetings[unused];
        mine->mask = mask, mine->arrived = 0, mine->unread = 0, mine->operation = operation, mine->line = line;
    }
    mine->arrived |= me;
    mine->values[current->lane] = value;
    if (mine->arrived == mask) { // the last one goes on
        mine->unread = mask;
        if (operation == WarpOperation::Synchronize) watch::warp_barrier(mask);
        for (uint32_t others = mask & ~me; others; others &= others - 1)
            wake(threads[current->linear - current->lane + static_cast<unsigned>(__builtin_ctz(others))]);
    } else {
        current->state = Thread::InWarpOperation;
        current->fiber.suspend();
    }
    return *mine;
}

void leave(Meeting& meeting) {
    meeting.unread &= ~(1u << current->lane);
    Warp& warp = warps[current->warp];
    if (!meeting.unread) warp.used &= ~(1u << static_cast<unsigned>(&meeting - warp.meetings.data()));
}

} // namespace emu
