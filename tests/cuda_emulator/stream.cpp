#include "stream.h"
#include "capture.h"
#include "memory.h"
#include "settings.h"

namespace emu {
namespace {

/// The streams of a context, the legacy one first.
std::vector<std::shared_ptr<Stream>> streams_of(const Context& context) {
    std::vector<std::shared_ptr<Stream>> all = {context.legacy};
    for (const auto& [thread, stream] : context.per_thread) all.push_back(stream);
    for (const auto& [handle, stream] : objects.streams.all())
        if (stream->context == &context) all.push_back(stream);
    return all;
}

/// The legacy stream and the blocking ones wait for each other.
Result order_with_legacy(Stream& stream, std::vector<Ticket>& after) {
    Stream& legacy = *stream.context->legacy;
    if (!stream.legacy()) {
        if (stream.blocking()) after.push_back(legacy.ticket());
        return SUCCESS;
    }
    if (Result refused = refuse_legacy_work(*stream.context)) return refused;
    for (const auto& other : streams_of(*stream.context))
        if (!other->legacy() && other->blocking()) after.push_back(other->ticket());
    return SUCCESS;
}

Result run_one(Stream& stream) {
    Work work = std::move(stream.queue.front());
    stream.queue.pop_front();
    stream.done++;
    for (const Ticket& ticket : work.after) run_until(*ticket.stream, ticket.number);
    Result& sticky = stream.context->sticky;
    if (!sticky) sticky = work.run();
    return sticky;
}

/// Device memory is closed again when the last of nested runs ends.
struct Closing {
    static int depth;
    Closing() { depth++; }
    ~Closing() {
        if (--depth == 0) memory::close();
    }
};
int Closing::depth = 0;

} // namespace

std::shared_ptr<Stream> find_stream(void* handle) {
    auto context = current_context();
    auto number = reinterpret_cast<uintptr_t>(handle);
    if (number <= 1) return context->legacy;
    if (number > 2) return objects.streams.find(handle);
    auto& stream = context->per_thread[std::this_thread::get_id()];
    if (!stream) stream = std::make_shared<Stream>(context.get(), 0u);
    return stream;
}

Result enqueue(Stream& stream, Run run, std::vector<Ticket> after) {
    if (stream.capture) return capture_work(stream, std::move(run));
    if (Result refused = order_with_legacy(stream, after)) return refused;
    stream.queue.push_back({std::move(run), std::move(after)});
    stream.queued++;
    return setting("LATE", 1) ? SUCCESS : finish(stream);
}

Result run_until(Stream& stream, uint64_t number) {
    Closing closing;
    while (stream.done < number && !stream.context->sticky) run_one(stream);
    return stream.context->sticky;
}

Result finish(Stream& stream) { return run_until(stream, stream.queued); }

Result finish(const Context& context) {
    for (const auto& stream : streams_of(context)) finish(*stream);
    return context.sticky;
}

Result poll(Stream& stream, uint64_t number) {
    if (stream.done >= number) return SUCCESS;
    Result failed = run_until(stream, stream.done + 1);
    return failed ? failed : NOT_READY;
}

static std::vector<std::shared_ptr<Stream>> all_streams() {
    std::vector<std::shared_ptr<Stream>> all;
    for (const auto& [handle, context] : objects.contexts.all())
        for (auto& stream : streams_of(*context)) all.push_back(stream);
    return all;
}

size_t pending() {
    size_t sum = 0;
    for (const auto& stream : all_streams()) sum += stream->queue.size();
    return sum;
}

void drop_pending() {
    for (const auto& stream : all_streams()) {
        stream->queue.clear();
        stream->done = stream->queued;
    }
}

} // namespace emu
