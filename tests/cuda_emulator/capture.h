// Captures of streams into graphs, with the driver's rules, and the graphs' replay.
#pragma once
#include "stream.h"

namespace emu {

struct Node {
    Run run;
    std::vector<size_t> after; // earlier nodes
};

struct Graph {
    std::vector<Node> nodes;
};

/// CUstreamCaptureMode: whose risky calls a capture forbids.
enum class CaptureMode { Global, ThreadLocal, Relaxed };

struct Capture {
    uint64_t id;
    CaptureMode mode;
    std::thread::id thread;
    const Stream* origin;
    bool invalid = false;
    Graph graph;
};

/// The mode of cuThreadExchangeStreamCaptureMode.
extern thread_local CaptureMode thread_capture_mode;

Result begin_capture(Stream&, CaptureMode);
/// Ends it, successful or not.
Result end_capture(Stream&, Graph* out);
Result capture_work(Stream&, Run);

Result record(Event&, Stream&);
Result wait(Stream&, const Event&);

/// For calls that may wait for the device behind the program's back, allocations for example.
Result refuse_while_capturing();
/// For calls that wait for this stream.
Result refuse_if_captured(Stream&);
/// For work in the legacy stream, which would wait for captured streams.
Result refuse_legacy_work(const Context&);
/// For calls that wait for this event.
Result refuse_if_captured(const Event&);

/// Queues all nodes, each after those that it follows.
Result replay(const Graph&, Stream&);

} // namespace emu
