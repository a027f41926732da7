// What all exported functions of the driver begin with: the lock, the count, forced failures, and what must be there.
#pragma once
#include "context.h"
#include "control.h"
#include "memory.h"
#include <mutex>

namespace emu {

extern std::recursive_mutex lock; // for all that the emulator holds
extern bool initialized;

/// A function that works at any time.
template <class Body> Result always(const char* function, Body body) {
    std::lock_guard<std::recursive_mutex> held(lock);
    Result forced = control.enter(function);
    return forced ? forced : body();
}

/// A function that needs cuInit.
template <class Body> Result after_init(const char* function, Body body) {
    return always(function, [&] { return initialized ? body() : NOT_INITIALIZED; });
}

/// A function that needs a current context, and one without an error that sticks.
template <class Body> Result in_context(const char* function, Body body) {
    return after_init(function, [&]() -> Result {
        auto context = current_context();
        if (!context) return context_stack.empty() ? INVALID_CONTEXT : CONTEXT_IS_DESTROYED;
        return context->sticky ? context->sticky : body(*context);
    });
}

} // namespace emu
