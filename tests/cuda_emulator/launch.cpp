#include "launch.h"
#include "block.h"
#include "control.h"
#include "memory.h"
#include "watch.h"
#include "shared_memory.h"
#include <csetjmp>
#include <csignal>
#include <pthread.h>

namespace emu {
namespace {

sigjmp_buf fault;
volatile sig_atomic_t running;
pthread_t runner;
int fault_signal;
const void* fault_address;

/// A stack for the handler of signals, for threads that have none: the fiber's may have overflowed.
class SignalStack {
  public:
    SignalStack() {
        stack_t now;
        sigaltstack(nullptr, &now);
        installed = now.ss_flags & SS_DISABLE;
        stack_t ours{};
        ours.ss_sp = memory;
        ours.ss_size = sizeof memory;
        if (installed) sigaltstack(&ours, nullptr);
    }
    ~SignalStack() {
        stack_t none{};
        none.ss_flags = SS_DISABLE;
        if (installed) sigaltstack(&none, nullptr);
    }

  private:
    static char memory[64 << 10];
    bool installed;
};
char SignalStack::memory[64 << 10];

Failure run_blocks(const Launch& launch) {
    Ordering ordering(control.order);
    static std::vector<uint32_t> order;
    auto [x, y, z] = launch.grid;
    ordering.arrange(x * y * z, order);
    watch::begin_launch(launch.arguments.data(), 8 * launch.arguments.size());
    for (uint32_t i : order) {
        block_index = {i % x, i / x % y, i / x / y};
        watch::begin_block(i);
        void* arguments = const_cast<uint64_t*>(launch.arguments.data());
        Failure failure = run_block(launch.kernel->call, arguments, ordering);
        if (failure.result) return failure;
    }
    std::string trampled = memory::trampled();
    return {trampled.empty() ? SUCCESS : ILLEGAL_ADDRESS, trampled};
}

std::string where(const Launch& launch) {
    auto show = [](unsigned x, unsigned y, unsigned z) {
        return "(" + std::to_string(x) + ", " + std::to_string(y) + ", " + std::to_string(z) + ")";
    };
    uint3 thread = current->index;
    return launch.kernel->name + ", block " + show(block_index.x, block_index.y, block_index.z) + ", thread " +
           show(thread.x, thread.y, thread.z) + ": ";
}

std::string fault_text() {
    if (fault_signal == SIGFPE) return "an integer division by zero";
    if (Fiber::overflowed(fault_address)) return "stack overflow: a thread has more than 60 KiB of local variables";
    std::string text = "illegal " + memory::describe(fault_address);
    bool live = memory::find(reinterpret_cast<DevicePointer>(fault_address));
    return live ? text + " of another device" : text;
}

} // namespace

Result run(const Launch& launch) {
    block_size = launch.block;
    grid_size = launch.grid;
    shared_memory::reserve_dynamic(launch.dynamic_bytes);
    SignalStack stack;
    runner = pthread_self();
    if (sigsetjmp(fault, 1)) {
        running = 0;
        watch::end_launch();
        return control.refuse(fault_signal == SIGFPE ? LAUNCH_FAILED : ILLEGAL_ADDRESS, where(launch) + fault_text());
    }
    running = 1;
    Failure failure = run_blocks(launch);
    running = 0;
    watch::end_launch();
    return failure.result ? control.refuse(failure.result, where(launch) + failure.why) : SUCCESS;
}

void abort_launch(int signal, const void* address) {
    if (!running || !pthread_equal(runner, pthread_self())) return;
    fault_signal = signal;
    fault_address = address;
    siglongjmp(fault, 1);
}

} // namespace emu
