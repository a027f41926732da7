// A fiber: a stack of its own and a place to go on, so that one CUDA thread can wait for another.
#pragma once
#include <cstddef>
#if !defined(__x86_64__) && !defined(EMU_UCONTEXT)
#define EMU_UCONTEXT // the slower way; can be asked for elsewhere, too
#endif
#if defined(EMU_UCONTEXT)
#include <ucontext.h>
#endif

namespace emu {

class Fiber {
  public:
    bool started() const { return stack >= 0; }
    /// Takes a stack; the first `resume` calls `entry`, which must end in `suspend`.
    void start(void (*entry)());
    /// Runs it until it suspends.
    void resume();
    /// From inside: goes back to whoever resumed it.
    void suspend();
    /// Gives the stack back; it is never resumed again.
    void finish();

    /// Takes all stacks back from fibers that will never be resumed.
    static void abandon_all();
    static bool on_a_stack(const void* address);
    /// Whether the address lies in a guard page: a fiber's stack has overflowed.
    static bool overflowed(const void* address);

  private:
    int stack = -1;
#if defined(EMU_UCONTEXT)
    ucontext_t position;
#else
    void* position = nullptr;
#endif
};

} // namespace emu
