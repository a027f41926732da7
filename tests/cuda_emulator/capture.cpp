#include "capture.h"
#include "block.h"
#include "control.h"
#include <algorithm>

namespace emu {

thread_local CaptureMode thread_capture_mode = CaptureMode::Global;

namespace {

Result invalidate(Capture& capture, Result result, const char* why) {
    capture.invalid = true;
    return control.refuse(result, why);
}

void add_tips(std::vector<size_t>& tips, const std::vector<size_t>& more) {
    for (size_t tip : more)
        if (std::find(tips.begin(), tips.end(), tip) == tips.end()) tips.push_back(tip);
}

/// Whether all nodes lead to these.
bool joined(const Graph& graph, const std::vector<size_t>& tips) {
    std::vector<bool> reached(graph.nodes.size());
    for (size_t tip : tips) reached[tip] = true;
    for (size_t i = graph.nodes.size(); i-- > 0;)
        if (reached[i])
            for (size_t before : graph.nodes[i].after) reached[before] = true;
    return std::find(reached.begin(), reached.end(), false) == reached.end();
}

/// Whether the calling thread must not make risky calls because of this capture.
bool forbids(const Capture& capture) {
    if (capture.mode == CaptureMode::Relaxed || thread_capture_mode == CaptureMode::Relaxed) return false;
    if (capture.thread == std::this_thread::get_id()) return true;
    return capture.mode == CaptureMode::Global && thread_capture_mode == CaptureMode::Global;
}

} // namespace

Result begin_capture(Stream& stream, CaptureMode mode) {
    if (stream.legacy()) return control.refuse(STREAM_CAPTURE_UNSUPPORTED, "the legacy stream cannot be captured");
    if (stream.capture) return control.refuse(ILLEGAL_STATE, "the stream is captured already");
    static uint64_t captures = 0;
    stream.capture = std::make_shared<Capture>();
    stream.capture->id = ++captures;
    stream.capture->mode = mode;
    stream.capture->thread = std::this_thread::get_id();
    stream.capture->origin = &stream;
    stream.tips.clear();
    return SUCCESS;
}

Result end_capture(Stream& stream, Graph* out) {
    auto capture = stream.capture;
    if (!capture) return control.refuse(ILLEGAL_STATE, "the stream is not captured");
    if (capture->origin != &stream)
        return invalidate(*capture, STREAM_CAPTURE_UNMATCHED, "the capture began in another stream");
    if (capture->mode != CaptureMode::Relaxed && capture->thread != std::this_thread::get_id())
        return invalidate(*capture, STREAM_CAPTURE_WRONG_THREAD, "the capture began in another thread");
    bool all_joined = joined(capture->graph, stream.tips);
    for (const auto& [handle, other] : objects.streams.all())
        if (other->capture == capture) other->capture.reset();
    stream.capture.reset();
    if (capture->invalid) return STREAM_CAPTURE_INVALIDATED;
    capture->invalid = true; // events that were recorded in it are of no use any more
    if (!all_joined) return control.refuse(STREAM_CAPTURE_UNJOINED, "a captured stream was not joined");
    *out = std::move(capture->graph);
    return SUCCESS;
}

Result capture_work(Stream& stream, Run run) {
    Capture& capture = *stream.capture;
    if (capture.invalid) return STREAM_CAPTURE_INVALIDATED;
    capture.graph.nodes.push_back({std::move(run), stream.tips});
    stream.tips = {capture.graph.nodes.size() - 1};
    return SUCCESS;
}

Result record(Event& event, Stream& stream) {
    if (stream.capture && stream.capture->invalid) return STREAM_CAPTURE_INVALIDATED;
    if (!stream.capture)
        if (Result failed = enqueue(stream, [] { return SUCCESS; })) return failed;
    event.capture = stream.capture;
    event.tips = stream.tips;
    event.recorded = {stream.ticket()};
    return SUCCESS;
}

Result wait(Stream& stream, const Event& event) {
    Capture *mine = stream.capture.get(), *other = event.capture.get();
    if (mine && mine->invalid) return STREAM_CAPTURE_INVALIDATED;
    if (!other && event.recorded.empty()) return SUCCESS;
    if (!other && !mine) return enqueue(stream, [] { return SUCCESS; }, event.recorded);
    if (!other) return invalidate(*mine, STREAM_CAPTURE_ISOLATION, "a captured stream waits for an uncaptured event");
    if (mine && mine != other) {
        other->invalid = true;
        return invalidate(*mine, STREAM_CAPTURE_MERGE, "a captured stream waits for an event of another capture");
    }
    if (other->invalid) return control.refuse(INVALID_VALUE, "the event's capture has ended or was invalidated");
    if (!mine && stream.legacy())
        return invalidate(*other, STREAM_CAPTURE_UNSUPPORTED, "the legacy stream cannot be captured");
    if (!mine) {
        stream.capture = event.capture;
        stream.tips.clear();
    }
    add_tips(stream.tips, event.tips);
    return SUCCESS;
}

Result refuse_while_capturing() {
    Result refused = SUCCESS;
    for (const auto& [handle, stream] : objects.streams.all())
        if (stream->capture && forbids(*stream->capture))
            refused = invalidate(*stream->capture, STREAM_CAPTURE_UNSUPPORTED, "a call that is forbidden in a capture");
    return refused;
}

Result refuse_if_captured(Stream& stream) {
    if (stream.legacy()) return refuse_legacy_work(*stream.context);
    if (!stream.capture) return SUCCESS;
    return invalidate(*stream.capture, STREAM_CAPTURE_UNSUPPORTED, "a captured stream cannot be waited for");
}

Result refuse_legacy_work(const Context& context) {
    Result refused = SUCCESS;
    for (const auto& [handle, stream] : objects.streams.all())
        if (stream->context == &context && stream->blocking() && stream->capture)
            refused = invalidate(*stream->capture, STREAM_CAPTURE_IMPLICIT,
                                 "the legacy stream would wait for a blocking stream that is captured");
    return refused;
}

Result refuse_if_captured(const Event& event) {
    if (!event.capture) return refuse_while_capturing();
    return invalidate(*event.capture, CAPTURED_EVENT, "an event of a captured stream cannot be waited for");
}

Result replay(const Graph& graph, Stream& stream) {
    // Any order that keeps what follows what is right; which one, the ordering of threads says too.
    std::vector<uint32_t> order;
    Ordering(control.order).arrange(static_cast<uint32_t>(graph.nodes.size()), order);
    std::vector<bool> queued(graph.nodes.size());
    auto ready = [&](uint32_t i) {
        const auto& after = graph.nodes[i].after;
        return !queued[i] && std::all_of(after.begin(), after.end(), [&](size_t before) { return queued[before]; });
    };
    for (size_t left = graph.nodes.size(); left > 0; left--) {
        uint32_t next = *std::find_if(order.begin(), order.end(), ready);
        if (Result failed = enqueue(stream, graph.nodes[next].run)) return failed;
        queued[next] = true;
    }
    return SUCCESS;
}

} // namespace emu
