// What tests see of the emulator and force on it: the functions below, found by name in the library.
// Each may be called at any time, from any thread.
#pragma once
#include "results.h"
#include "settings.h"
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
/// Whether each access of kernels to memory is watched from now on: a race, as watch.h defines it, fails with 719, an
/// access to host memory with 700.
EMU_EXPORT void cuda_emulator_watch(int wanted);
/// Takes back all of the above, forgets errors that stick, and drops what streams have not run. Objects stay alive.
EMU_EXPORT void cuda_emulator_reset();
/// A number by its name:
///   "allocations" "pinned" "streams" "events" "modules" "graphs" "contexts"
///                       what is alive; a primary context counts as often as it is retained
///   "live"              the sum of these
///   "allocated_bytes"   of device memory
///   "pending"           pieces of work that streams have not run
///   "launches"          kernels that have run
///   "*"                 calls of the driver, as cuda_emulator_fail counts them
///   "cuMemAlloc_v2", …  calls of this function
EMU_EXPORT long cuda_emulator_count(const char* name);
/// What the last refusal or failure was about; empty if there was none since the last reset. The text lives until the
/// next call by the same thread.
EMU_EXPORT const char* cuda_emulator_last_error();
/// A module for cuModuleLoadData with the entries of all kernels that were compiled in, without their code.
EMU_EXPORT const char* cuda_emulator_ptx();

namespace emu {

struct Forced {
    long nth;
    Result result;
};

struct Control {
    uint64_t order = order_setting();
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
