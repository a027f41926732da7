// Captures of streams, what is forbidden in them, and the graphs' replay.
#include "emulated.h"
#include <thread>

using namespace emu;

enum { GLOBAL, THREAD_LOCAL, RELAXED };
enum { NO_CAPTURE, ACTIVE, INVALIDATED };

class Captures : public Emulated {
  protected:
    void SetUp() override {
        Emulated::SetUp();
        s = stream();
        n = upload(std::vector<uint32_t>{0});
    }

    void begin(int mode = GLOBAL) { ASSERT_EQ(cuStreamBeginCapture_v2(s, mode), SUCCESS); }
    Result end() {
        void* graph = nullptr;
        Result result = cuStreamEndCapture(s, &graph);
        EXPECT_EQ(graph != nullptr, result == SUCCESS);
        EXPECT_EQ(graph ? cuGraphDestroy(graph) : SUCCESS, SUCCESS);
        return result;
    }
    Result add_one(void* where) { return launch_in(where, "add_one", {}, {1}, n); }
    int status(void* of) {
        int status = -1;
        EXPECT_EQ(cuStreamIsCapturing(of, &status), SUCCESS);
        return status;
    }
    uint32_t value() { return download<uint32_t>(n, 1)[0]; }

    /// The call must be refused with this and spoil the capture.
    void expect_forbidden(Result result, Result actual) {
        EXPECT_EQ(actual, result);
        EXPECT_EQ(status(s), INVALIDATED);
        EXPECT_EQ(add_one(s), STREAM_CAPTURE_INVALIDATED);
        EXPECT_EQ(end(), STREAM_CAPTURE_INVALIDATED);
        EXPECT_EQ(status(s), NO_CAPTURE) << "the stream can be used again";
    }

    void* s;
    Pointer n;
};

TEST_F(Captures, record_work_that_only_a_graphs_launch_runs) {
    begin();
    EXPECT_EQ(status(s), ACTIVE);
    ASSERT_EQ(add_one(s), SUCCESS);
    ASSERT_EQ(add_one(s), SUCCESS);
    void *graph, *executable;
    ASSERT_EQ(cuStreamEndCapture(s, &graph), SUCCESS);
    ASSERT_EQ(cuGraphInstantiateWithFlags(&executable, graph, 0), SUCCESS);
    EXPECT_EQ(cuGraphDestroy(graph), SUCCESS);
    ASSERT_EQ(cuStreamSynchronize(s), SUCCESS);
    EXPECT_EQ(value(), 0u);
    for (int i = 0; i < 3; i++) ASSERT_EQ(cuGraphLaunch(executable, s), SUCCESS);
    EXPECT_EQ(value(), 0u) << "launched, but nobody has waited";
    ASSERT_EQ(cuStreamSynchronize(s), SUCCESS);
    EXPECT_EQ(value(), 6u);
    EXPECT_EQ(cuGraphExecDestroy(executable), SUCCESS);
    EXPECT_EQ(cuGraphLaunch(executable, s), INVALID_VALUE);
}

TEST_F(Captures, fork_and_join_other_streams_by_events) {
    void *other = stream(), *forked = event(), *joined = event();
    Pointer copy = upload(std::vector<uint32_t>{9});
    for (uint64_t order = 0; order < 6; order++) {
        cuda_emulator_order(order);
        ASSERT_EQ(cuMemsetD8_v2(n, 0, 4), SUCCESS);
        ASSERT_EQ(cuMemsetD8_v2(copy, 9, 4), SUCCESS);
        ASSERT_EQ(cuCtxSynchronize(), SUCCESS);
        begin();
        ASSERT_EQ(add_one(s), SUCCESS);
        ASSERT_EQ(cuEventRecord(forked, s), SUCCESS);
        ASSERT_EQ(cuStreamWaitEvent(other, forked, 0), SUCCESS);
        EXPECT_EQ(status(other), ACTIVE);
        ASSERT_EQ(cuMemcpyDtoDAsync_v2(copy, n, 4, other), SUCCESS);
        ASSERT_EQ(cuEventRecord(joined, other), SUCCESS);
        ASSERT_EQ(cuStreamWaitEvent(s, joined, 0), SUCCESS);
        ASSERT_EQ(add_one(s), SUCCESS);
        void *graph, *executable;
        ASSERT_EQ(cuStreamEndCapture(s, &graph), SUCCESS);
        EXPECT_EQ(status(other), NO_CAPTURE);
        ASSERT_EQ(cuGraphInstantiateWithFlags(&executable, graph, 0), SUCCESS);
        ASSERT_EQ(cuGraphLaunch(executable, s), SUCCESS);
        ASSERT_EQ(cuStreamSynchronize(s), SUCCESS);
        EXPECT_EQ(value(), 2u);
        EXPECT_EQ(download<uint32_t>(copy, 1)[0], 1u);
        EXPECT_EQ(cuGraphDestroy(graph), SUCCESS);
        EXPECT_EQ(cuGraphExecDestroy(executable), SUCCESS);
    }
}

TEST_F(Captures, refuse_to_wait_to_allocate_and_to_free) {
    Pointer pointer = 0;
    void* block = nullptr;
    uint32_t host;
    for (int mode : {GLOBAL, THREAD_LOCAL, RELAXED}) {
        begin(mode);
        expect_forbidden(STREAM_CAPTURE_UNSUPPORTED, cuStreamSynchronize(s));
        begin(mode);
        expect_forbidden(STREAM_CAPTURE_UNSUPPORTED, cuStreamQuery(s));
        begin(mode);
        expect_forbidden(STREAM_CAPTURE_UNSUPPORTED, cuCtxSynchronize());
    }
    for (int mode : {GLOBAL, THREAD_LOCAL}) {
        begin(mode);
        expect_forbidden(STREAM_CAPTURE_UNSUPPORTED, cuMemAlloc_v2(&pointer, 4));
        begin(mode);
        expect_forbidden(STREAM_CAPTURE_UNSUPPORTED, cuMemFree_v2(n));
        begin(mode);
        expect_forbidden(STREAM_CAPTURE_UNSUPPORTED, cuMemAllocHost_v2(&block, 4));
        begin(mode);
        expect_forbidden(STREAM_CAPTURE_UNSUPPORTED, cuMemcpyDtoH_v2(&host, n, 4));
        begin(mode);
        expect_forbidden(STREAM_CAPTURE_UNSUPPORTED, cuModuleLoadData(&block, cuda_emulator_ptx()));
    }
    begin(RELAXED);
    EXPECT_EQ(cuMemAlloc_v2(&pointer, 4), SUCCESS);
    EXPECT_EQ(cuMemFree_v2(pointer), SUCCESS);
    EXPECT_EQ(end(), SUCCESS);
}

TEST_F(Captures, forbid_risky_calls_of_other_threads_if_they_are_global) {
    auto elsewhere = [&](int own_mode) {
        Result result = UNKNOWN;
        std::thread([&] {
            Pointer pointer = 0;
            EXPECT_EQ(cuCtxSetCurrent(context), SUCCESS);
            EXPECT_EQ(cuThreadExchangeStreamCaptureMode(&own_mode), SUCCESS);
            result = cuMemAlloc_v2(&pointer, 4);
            EXPECT_EQ(result ? SUCCESS : cuMemFree_v2(pointer), SUCCESS);
        }).join();
        return result;
    };
    begin(THREAD_LOCAL);
    EXPECT_EQ(elsewhere(GLOBAL), SUCCESS);
    EXPECT_EQ(end(), SUCCESS);
    begin(GLOBAL);
    EXPECT_EQ(elsewhere(RELAXED), SUCCESS);
    EXPECT_EQ(elsewhere(THREAD_LOCAL), SUCCESS);
    EXPECT_EQ(elsewhere(GLOBAL), STREAM_CAPTURE_UNSUPPORTED);
    EXPECT_EQ(end(), STREAM_CAPTURE_INVALIDATED);
}

TEST_F(Captures, end_where_they_began) {
    void *other = stream(), *e = event(), *graph = nullptr;
    EXPECT_EQ(cuStreamEndCapture(s, &graph), ILLEGAL_STATE);
    begin();
    EXPECT_EQ(cuStreamBeginCapture_v2(s, GLOBAL), ILLEGAL_STATE);
    ASSERT_EQ(cuEventRecord(e, s), SUCCESS);
    ASSERT_EQ(cuStreamWaitEvent(other, e, 0), SUCCESS);
    expect_forbidden(STREAM_CAPTURE_UNMATCHED, cuStreamEndCapture(other, &graph));
    begin();
    Result result = UNKNOWN;
    std::thread([&] {
        EXPECT_EQ(cuCtxSetCurrent(context), SUCCESS);
        result = cuStreamEndCapture(s, &graph);
    }).join();
    expect_forbidden(STREAM_CAPTURE_WRONG_THREAD, result);
    begin();
    ASSERT_EQ(cuEventRecord(e, s), SUCCESS);
    ASSERT_EQ(cuStreamWaitEvent(other, e, 0), SUCCESS);
    ASSERT_EQ(add_one(other), SUCCESS);
    EXPECT_EQ(end(), STREAM_CAPTURE_UNJOINED);
    EXPECT_EQ(status(other), NO_CAPTURE);
}

TEST_F(Captures, depend_on_nothing_outside_and_nothing_outside_on_them) {
    void *other = stream(), *blocking = stream(0), *e = event(), *graph = nullptr;
    ASSERT_EQ(cuEventRecord(e, other), SUCCESS);
    begin();
    expect_forbidden(STREAM_CAPTURE_ISOLATION, cuStreamWaitEvent(s, e, 0));
    begin();
    ASSERT_EQ(cuEventRecord(e, s), SUCCESS);
    expect_forbidden(CAPTURED_EVENT, cuEventQuery(e));
    begin();
    ASSERT_EQ(cuEventRecord(e, s), SUCCESS);
    expect_forbidden(CAPTURED_EVENT, cuEventSynchronize(e));
    begin();
    ASSERT_EQ(cuEventRecord(e, s), SUCCESS);
    ASSERT_EQ(cuStreamBeginCapture_v2(other, GLOBAL), SUCCESS);
    expect_forbidden(STREAM_CAPTURE_MERGE, cuStreamWaitEvent(other, e, 0));
    EXPECT_EQ(cuStreamEndCapture(other, &graph), STREAM_CAPTURE_INVALIDATED);
    EXPECT_EQ(cuStreamWaitEvent(other, e, 0), INVALID_VALUE) << "the event's capture is over";
    EXPECT_EQ(cuStreamBeginCapture_v2(nullptr, GLOBAL), STREAM_CAPTURE_UNSUPPORTED);
    ASSERT_EQ(cuStreamBeginCapture_v2(blocking, GLOBAL), SUCCESS);
    EXPECT_EQ(add_one(nullptr), STREAM_CAPTURE_IMPLICIT);
    EXPECT_EQ(cuStreamEndCapture(blocking, &graph), STREAM_CAPTURE_INVALIDATED);
    begin();
    EXPECT_EQ(add_one(nullptr), SUCCESS) << "a non-blocking stream is no concern of the legacy one";
    EXPECT_EQ(end(), SUCCESS);
}

TEST_F(Captures, know_their_number) {
    uint64_t first = 0, second = 0;
    int status = -1;
    for (uint64_t* id : {&first, &second}) {
        begin();
        ASSERT_EQ(cuStreamGetCaptureInfo_v2(s, &status, id, nullptr, nullptr, nullptr), SUCCESS);
        EXPECT_EQ(status, ACTIVE);
        EXPECT_EQ(end(), SUCCESS);
    }
    EXPECT_NE(first, second);
    EXPECT_EQ(cuStreamGetCaptureInfo_v2(s, &status, &first, nullptr, nullptr, nullptr), SUCCESS);
    EXPECT_EQ(status, NO_CAPTURE);
}

TEST_F(Captures, whose_memory_was_freed_fail_at_the_replay) {
    Pointer freed;
    void *graph, *executable;
    ASSERT_EQ(cuMemAlloc_v2(&freed, 4), SUCCESS);
    begin();
    ASSERT_EQ(launch_in(s, "add_one", {}, {1}, freed), SUCCESS);
    ASSERT_EQ(cuStreamEndCapture(s, &graph), SUCCESS);
    ASSERT_EQ(cuGraphInstantiateWithFlags(&executable, graph, 0), SUCCESS);
    ASSERT_EQ(cuMemFree_v2(freed), SUCCESS);
    ASSERT_EQ(cuGraphLaunch(executable, s), SUCCESS);
    EXPECT_EQ(cuStreamSynchronize(s), ILLEGAL_ADDRESS);
    cuda_emulator_reset();
    EXPECT_EQ(cuGraphDestroy(graph), SUCCESS);
    EXPECT_EQ(cuGraphExecDestroy(executable), SUCCESS);
}
