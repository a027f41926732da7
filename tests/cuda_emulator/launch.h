// One launch of a kernel: its blocks run one after the other, in the order of the threads' ordering.
#pragma once
#include "cuda_types.h"
#include "kernels.h"
#include "results.h"
#include <vector>

namespace emu {

struct Launch {
    const Kernel* kernel;
    dim3 grid, block;
    size_t dynamic_bytes;
    std::vector<uint64_t> arguments; // laid out as `kernel->parameters` say
};

/// Runs it on the open device. On failure `last_error` says what, who and where.
Result run(const Launch&);

/// For the handler of signals: ends the launch that this thread runs; returns if it runs none.
void abort_launch(int signal, const void* address);

} // namespace emu
