// Watches each access of kernels to memory, for races and for host memory that a kernel was given by mistake. Slow, so
// it is switched on by CUDA_EMULATOR_WATCH or cuda_emulator_watch.
//
// A race is memory that two threads touch, one of them writing, with nothing that orders them: it is found in whatever
// order they ran. Ordered are: what a thread does itself; threads of a block, by a barrier between; lanes of a warp, by
// a __syncwarp of both between (a shuffle orders no memory); threads of different blocks, if the first one's block made
// it public, by __threadfence and then an atomic operation, and the second one's block did an atomic operation after
// that.
#pragma once
#include <cstddef>
#include <cstdint>

namespace emu::watch {

extern bool wanted; // from the next launch on

/// The arguments of the launch are what a kernel may read of the emulator's heap.
void begin_launch(const void* arguments, size_t size);
void begin_block(uint32_t block);
void end_launch();

// By the running thread.

void barrier(); // once for all threads of the block
void warp_barrier(uint32_t mask);
void fence();
void atomic(const void* place, size_t size);

} // namespace emu::watch
