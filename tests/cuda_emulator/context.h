// Contexts, the current one of each thread, and what belongs to them.
#pragma once
#include "handles.h"
#include "results.h"
#include <map>
#include <memory>
#include <thread>
#include <vector>

namespace emu {

struct Stream;
struct Event;
struct Module;
struct Function;
struct Graph;

struct Context {
    int device;
    bool primary;
    int references = 0;      // of a primary one
    Result sticky = SUCCESS; // after a kernel failed, everything does
    std::shared_ptr<Stream> legacy;
    std::map<std::thread::id, std::shared_ptr<Stream>> per_thread;
};

/// Everything that is alive. Guarded by the lock that each call of the driver holds.
struct Objects {
    Handles<Context> contexts;
    Handles<Stream> streams;
    Handles<Event> events;
    Handles<Module> modules;
    Handles<Function> functions;
    Handles<Graph> graphs, executables;
    std::map<int, void*> primary; // the handle of each device's
};
extern Objects objects;

std::shared_ptr<Context> new_context(int device, bool primary);
/// Ends it and all that belongs to it.
void destroy_context(void* handle);

/// The thread's stack of contexts; its last is current.
extern thread_local std::vector<void*> context_stack;
/// Null: none, or one that was destroyed.
std::shared_ptr<Context> current_context();

} // namespace emu
