// Streams and events. A stream runs its work as late as it may: when somebody waits for it. So who forgot to wait reads
// what was there before.
#pragma once
#include "context.h"
#include "results.h"
#include <deque>
#include <functional>
#include <vector>

namespace emu {

struct Capture;

using Run = std::function<Result()>;

/// All work of a stream up to this number.
struct Ticket {
    std::shared_ptr<Stream> stream;
    uint64_t number;
};

struct Work {
    Run run;
    std::vector<Ticket> after;
};

struct Stream : std::enable_shared_from_this<Stream> {
    Stream(Context* context, unsigned flags) : context(context), flags(flags) {}
    bool blocking() const { return !(flags & 1); } // waits for the legacy stream, which waits for it
    bool legacy() const { return context->legacy.get() == this; }
    Ticket ticket() { return {shared_from_this(), queued}; }

    Context* context;
    unsigned flags;
    std::deque<Work> queue;
    uint64_t queued = 0, done = 0;
    std::shared_ptr<Capture> capture; // while it is captured
    std::vector<size_t> tips;         // the nodes that its next one follows
};

struct Event {
    Context* context;
    std::vector<Ticket> recorded;     // one, or none before the first record
    std::shared_ptr<Capture> capture; // of the stream that it was last recorded in
    std::vector<size_t> tips;
};

/// The stream of a CUstream: 0 and 1 are the legacy one, 2 is the thread's own. Null: no such stream.
std::shared_ptr<Stream> find_stream(void* handle);

/// Queues work, or captures it.
Result enqueue(Stream&, Run, std::vector<Ticket> after = {});
/// Runs a stream until this much is done.
Result run_until(Stream&, uint64_t number);
Result finish(Stream&);
Result finish(const Context&);
/// Asked without waiting: does one piece of work, so that who asks often enough gets a yes.
Result poll(Stream&, uint64_t number);
/// What is queued and not done.
size_t pending();
/// Forgets all that is queued.
void drop_pending();

} // namespace emu
