// The driver's functions for streams, events, captures and graphs.
#include "capture.h"
#include "driver.h"

using namespace emu;

namespace {

template <class Body> Result in_stream(const char* function, void* handle, Body body) {
    return in_context(function, [&](Context&) -> Result {
        auto stream = find_stream(handle);
        return stream ? body(*stream) : INVALID_HANDLE;
    });
}

template <class Body> Result with_event(const char* function, void* handle, Body body) {
    return in_context(function, [&](Context&) -> Result {
        auto event = objects.events.find(handle);
        return event ? body(*event) : INVALID_HANDLE;
    });
}

enum CaptureStatus { NONE, ACTIVE, INVALIDATED }; // CUstreamCaptureStatus

CaptureStatus status_of(const Stream& stream) {
    return !stream.capture ? NONE : stream.capture->invalid ? INVALIDATED : ACTIVE;
}

Result create_stream(const char* function, void** out, unsigned flags) {
    return in_context(function, [&](Context& context) {
        if (!out || flags > 1) return INVALID_VALUE;
        *out = objects.streams.add(std::make_shared<Stream>(&context, flags));
        return SUCCESS;
    });
}

} // namespace

EMU_EXPORT Result cuStreamCreate(void** out, unsigned flags) { return create_stream(__func__, out, flags); }
EMU_EXPORT Result cuStreamCreateWithPriority(void** out, unsigned flags, int) {
    return create_stream(__func__, out, flags);
}

EMU_EXPORT Result cuStreamDestroy_v2(void* handle) {
    return in_context(__func__, [&](Context&) -> Result {
        auto stream = objects.streams.find(handle);
        if (!stream) return INVALID_HANDLE;
        Result refused = refuse_if_captured(*stream);
        objects.streams.remove(handle);
        return refused ? refused : finish(*stream);
    });
}

EMU_EXPORT Result cuStreamSynchronize(void* handle) {
    return in_stream(__func__, handle, [](Stream& stream) {
        Result refused = refuse_if_captured(stream);
        return refused ? refused : finish(stream);
    });
}

EMU_EXPORT Result cuStreamQuery(void* handle) {
    return in_stream(__func__, handle, [](Stream& stream) {
        Result refused = refuse_if_captured(stream);
        return refused ? refused : poll(stream, stream.queued);
    });
}

EMU_EXPORT Result cuStreamGetCtx(void* handle, void** out) {
    return in_stream(__func__, handle, [&](Stream& stream) {
        if (!out) return INVALID_VALUE;
        for (const auto& [number, context] : objects.contexts.all())
            if (context.get() == stream.context) *out = number;
        return SUCCESS;
    });
}

EMU_EXPORT Result cuStreamGetFlags(void* handle, unsigned* flags) {
    return in_stream(__func__, handle, [&](Stream& stream) {
        return flags ? (*flags = stream.flags, SUCCESS) : INVALID_VALUE;
    });
}

EMU_EXPORT Result cuStreamWaitEvent(void* handle, void* event, unsigned) {
    return in_stream(__func__, handle, [&](Stream& stream) -> Result {
        auto found = objects.events.find(event);
        return found ? wait(stream, *found) : INVALID_HANDLE;
    });
}

EMU_EXPORT Result cuEventCreate(void** out, unsigned) {
    return in_context(__func__, [&](Context& context) {
        if (!out) return INVALID_VALUE;
        *out = objects.events.add(std::make_shared<Event>(Event{&context, {}, nullptr, {}}));
        return SUCCESS;
    });
}

EMU_EXPORT Result cuEventDestroy_v2(void* handle) {
    return in_context(__func__, [&](Context&) { return objects.events.remove(handle) ? SUCCESS : INVALID_HANDLE; });
}

EMU_EXPORT Result cuEventRecord(void* handle, void* stream) {
    return with_event(__func__, handle, [&](Event& event) -> Result {
        auto found = find_stream(stream);
        return found && found->context == event.context ? record(event, *found) : INVALID_HANDLE;
    });
}

EMU_EXPORT Result cuEventSynchronize(void* handle) {
    return with_event(__func__, handle, [](Event& event) -> Result {
        if (Result refused = refuse_if_captured(event)) return refused;
        for (const Ticket& ticket : event.recorded)
            if (Result failed = run_until(*ticket.stream, ticket.number)) return failed;
        return SUCCESS;
    });
}

EMU_EXPORT Result cuEventQuery(void* handle) {
    return with_event(__func__, handle, [](Event& event) -> Result {
        if (Result refused = refuse_if_captured(event)) return refused;
        for (const Ticket& ticket : event.recorded)
            if (Result failed = poll(*ticket.stream, ticket.number)) return failed;
        return SUCCESS;
    });
}

// Captures.

EMU_EXPORT Result cuStreamBeginCapture_v2(void* handle, int mode) {
    return in_stream(__func__, handle, [&](Stream& stream) {
        return mode < 0 || mode > 2 ? INVALID_VALUE : begin_capture(stream, static_cast<CaptureMode>(mode));
    });
}

EMU_EXPORT Result cuStreamEndCapture(void* handle, void** out) {
    return in_stream(__func__, handle, [&](Stream& stream) -> Result {
        if (!out) return INVALID_VALUE;
        *out = nullptr;
        Graph graph;
        if (Result failed = end_capture(stream, &graph)) return failed;
        *out = objects.graphs.add(std::make_shared<Graph>(std::move(graph)));
        return SUCCESS;
    });
}

EMU_EXPORT Result cuStreamIsCapturing(void* handle, int* status) {
    return in_stream(__func__, handle, [&](Stream& stream) {
        if (!status) return INVALID_VALUE;
        if (stream.legacy())
            if (Result refused = refuse_legacy_work(*stream.context)) return refused;
        *status = status_of(stream);
        return SUCCESS;
    });
}

static Result capture_info(const char* function, void* handle, int* status, uint64_t* id) {
    return in_stream(function, handle, [&](Stream& stream) {
        if (!status) return INVALID_VALUE;
        *status = status_of(stream);
        if (id && stream.capture) *id = stream.capture->id;
        return SUCCESS;
    });
}

EMU_EXPORT Result cuStreamGetCaptureInfo(void* handle, int* status, uint64_t* id) {
    return capture_info(__func__, handle, status, id);
}

EMU_EXPORT Result cuStreamGetCaptureInfo_v2(void* handle, int* status, uint64_t* id, void** graph,
                                            const void*** dependencies, size_t* count) {
    if (!graph && !dependencies && !count) return capture_info(__func__, handle, status, id);
    return always(__func__, [] { return control.refuse(NOT_SUPPORTED, "only status and id of a capture are told"); });
}

EMU_EXPORT Result cuThreadExchangeStreamCaptureMode(int* mode) {
    return after_init(__func__, [&] {
        if (!mode || *mode < 0 || *mode > 2) return INVALID_VALUE;
        auto old = static_cast<int>(thread_capture_mode);
        thread_capture_mode = static_cast<CaptureMode>(*mode);
        *mode = old;
        return SUCCESS;
    });
}

// Graphs.

EMU_EXPORT Result cuGraphInstantiateWithFlags(void** out, void* handle, unsigned long long flags) {
    return in_context(__func__, [&](Context&) {
        auto graph = objects.graphs.find(handle);
        if (!out || !graph || flags) return INVALID_VALUE;
        *out = objects.executables.add(std::make_shared<Graph>(*graph));
        return SUCCESS;
    });
}

EMU_EXPORT Result cuGraphLaunch(void* handle, void* stream) {
    return in_stream(__func__, stream, [&](Stream& target) -> Result {
        auto graph = objects.executables.find(handle);
        return graph ? replay(*graph, target) : INVALID_VALUE;
    });
}

EMU_EXPORT Result cuGraphExecDestroy(void* handle) {
    return in_context(__func__, [&](Context&) { return objects.executables.remove(handle) ? SUCCESS : INVALID_VALUE; });
}

EMU_EXPORT Result cuGraphDestroy(void* handle) {
    return in_context(__func__, [&](Context&) { return objects.graphs.remove(handle) ? SUCCESS : INVALID_VALUE; });
}
