// One block of threads on the host. Each thread is a fiber, so that barriers and warp operations really wait.
//
// A thread runs until it has to wait, then another one of its warp does, and only then another warp: whoever reads what
// has not been written yet, because a barrier is missing, reads it. In which order, `ordering` says.
#pragma once
#include "cuda_types.h"
#include "fiber.h"
#include "results.h"
#include <cstdint>
#include <string>
#include <vector>

namespace emu {

/// Which thread and which block come first: 0 ascending, 1 descending, any other number is the seed of a shuffle.
class Ordering {
  public:
    explicit Ordering(uint64_t order) : order(order), state(order) {}
    /// The next to run among the set bits.
    unsigned pick(uint32_t bits);
    /// The numbers below `count` in this order.
    void arrange(uint32_t count, std::vector<uint32_t>& into);

  private:
    uint64_t random();
    uint64_t order, state;
};

enum class WarpOperation { Synchronize, Ballot, Shuffle, ShuffleUp, ShuffleDown, ShuffleXor };

/// Lanes of a warp that meet in one operation: each brings a value, and goes on when all of `mask` have come.
struct Meeting {
    uint32_t mask, arrived, unread;
    WarpOperation operation;
    int line;
    uint64_t values[32];
};

struct Thread {
    uint3 index;
    unsigned linear, lane, warp;
    enum { Running, AtBarrier, InWarpOperation, Exited } state;
    int line; // of the source, where it waits
    Fiber fiber;
};

extern Thread* current;
extern uint3 block_index;
extern dim3 block_size, grid_size;

struct Failure {
    Result result = SUCCESS;
    std::string why;
};

/// Runs one block; returns what went wrong, or SUCCESS.
Failure run_block(void (*body)(void*), void* argument, Ordering&);

// What follows is called by the running thread.

/// Ends the launch with this text.
[[noreturn]] void fail(const std::string& why, Result = LAUNCH_FAILED);
/// __syncthreads in this line of the source.
void synchronize_block(int line);
/// Brings a value and waits for the other lanes of the mask. Each lane must `leave` when it has read.
Meeting& meet(uint32_t mask, uint64_t value, WarpOperation, int line);
void leave(Meeting&);

} // namespace emu
