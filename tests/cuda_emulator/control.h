// What tests see of the emulator and force on it: the functions below, found by name in the library.
// Each may be called at any time, from any thread.
#pragma once
#include "results.h"
#include <cstdint>
#include <map>
#include <string>

#define EMU_EXPORT extern "C" __attribute__((visibility("default")))

/// The nth call from now of this function of the driver ("cuMemAlloc_v2"), or with "*" of any but cuGetErrorName and
/// cuGetErrorString, does nothing and returns `result`. One such order a name; nth = 0 takes it back.
EMU_EXPORT void cuda_emulator_fail(const char* function, long nth, int result);
/// The nth kernel from now fails while it runs: the launch succeeds, what waits for it returns `result`, and so does
/// everything after that.
EMU_EXPORT void cuda_emulator_fail_launch(long nth, int result);
/// The order of threads and blocks: 0 ascending, 1 descending, any other number is the seed of a shuffle.
EMU_EXPORT void cuda_emulator_order(uint64_t order);
/// Takes back what was forced, forgets errors that stick, and drops what streams have not run. Objects stay alive.
EMU_EXPORT void cuda_emulator_reset();
/// A number by name: "allocations", "allocated_bytes", "pinned", "streams", "events", "modules", "graphs", "contexts" that
/// are alive, primary contexts counted as often as they are retained; "live", the sum of all but the bytes; "pending", what
/// streams have not run; "launches", kernels that have run; "*", calls of the driver as cuda_emulator_fail counts them;
/// else calls of the function with this name.
EMU_EXPORT long cuda_emulator_count(const char* name);
/// What the last refusal was about; empty if nothing was refused since the start or the last reset. Valid until the next
/// call of this thread.
EMU_EXPORT const char* cuda_emulator_last_error();
/// A module for cuModuleLoadData with the entries of all kernels that were compiled in, without their code.
EMU_EXPORT const char* cuda_emulator_ptx();

namespace emu {

struct Forced {
    long nth;
    Result result;
};

struct Control {
    uint64_t order = 0;
    std::string last_error;
    std::map<std::string, long> calls;
    std::map<std::string, Forced> failures;
    Forced launch_failure = {0, SUCCESS};
    long launches = 0;

    /// Counts and traces a call; the result that was forced on it, or SUCCESS.
    Result enter(const char* function);
    /// Counts a kernel that runs.
    Result enter_launch();
    /// Keeps the text and returns the result.
    Result refuse(Result result, const std::string& why);
};

extern Control control;

} // namespace emu
