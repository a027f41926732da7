#include "signals.h"
#include "launch.h"
#include "memory.h"
#include <csignal>
#include <unistd.h>

namespace emu {
namespace {

constexpr int HANDLED[] = {SIGSEGV, SIGBUS, SIGFPE};
struct sigaction before[3];

void pass_on(int signal, siginfo_t* info, void* context) {
    const struct sigaction& other = before[signal == SIGSEGV ? 0 : signal == SIGBUS ? 1 : 2];
    if (other.sa_flags & SA_SIGINFO) return other.sa_sigaction(signal, info, context);
    if (other.sa_handler != SIG_DFL && other.sa_handler != SIG_IGN) return other.sa_handler(signal);
    ::signal(signal, SIG_DFL); // the instruction is tried again and ends the program
}

void on_fault(int signal, siginfo_t* info, void* context) {
    abort_launch(signal, info->si_addr);
    if (signal != SIGFPE && memory::contains(info->si_addr)) {
        static const char text[] = "cuda emulator: host code touches device memory\n";
        (void)!write(STDERR_FILENO, text, sizeof text - 1);
        ::signal(signal, SIG_DFL);
        return;
    }
    pass_on(signal, info, context);
}

} // namespace

void handle_signals() {
    struct sigaction ours {};
    ours.sa_sigaction = on_fault;
    // A launch is left by a jump out of the handler, so the signal must not stay blocked in it.
    ours.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    for (int i = 0; i < 3; i++) sigaction(HANDLED[i], &ours, &before[i]);
}

} // namespace emu
