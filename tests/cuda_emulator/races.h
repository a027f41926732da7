// Finds two threads that touch the same memory, one of them writing, with nothing that orders them: in whatever order they
// ran. Slow, so it is switched on by CUDA_EMULATOR_RACES or cuda_emulator_races.
//
// Ordered are: what a thread does itself; threads of a block, by a barrier between; lanes of a warp, by a __syncwarp of
// both between (a shuffle orders no memory); threads of different blocks, if the first one's block made it public, by
// __threadfence and then an atomic operation, and the second one's block did an atomic operation after that.
#pragma once
#include <cstddef>
#include <cstdint>

namespace emu::races {

extern bool wanted; // from the next launch on

void begin_launch();
void begin_block(uint32_t block);

// By the running thread.

void barrier(); // once for all threads of the block
void warp_barrier(uint32_t mask);
void fence();
void atomic(const void* place, size_t size);

} // namespace emu::races
