// Streams run late, in their own order, and after what they wait for.
#include "emulated.h"

using namespace emu;

class Streams : public Emulated {
  protected:
    Pointer number(uint32_t value) { return upload(std::vector<uint32_t>{value}); }
    /// What is in device memory now: another stream's work is not waited for.
    uint32_t read(Pointer pointer) {
        uint32_t value;
        void* own = nullptr;
        EXPECT_EQ(cuStreamCreate(&own, NON_BLOCKING), SUCCESS);
        EXPECT_EQ(cuMemcpyDtoHAsync_v2(&value, pointer, 4, own), SUCCESS);
        EXPECT_EQ(cuStreamDestroy_v2(own), SUCCESS);
        return value;
    }
};

TEST_F(Streams, do_nothing_until_somebody_waits) {
    void* s = stream();
    Pointer n = number(1);
    ASSERT_EQ(launch_in(s, "add_one", {}, {1}, n), SUCCESS);
    EXPECT_EQ(cuda_emulator_count("pending"), 1);
    EXPECT_EQ(read(n), 1u) << "who does not wait reads what was there before";
    EXPECT_EQ(cuStreamSynchronize(s), SUCCESS);
    EXPECT_EQ(read(n), 2u);
    EXPECT_EQ(cuda_emulator_count("pending"), 0);
}

TEST_F(Streams, are_ordered_by_events) {
    void *a = stream(), *b = stream(), *e = event();
    Pointer from = number(1), to = number(0);
    ASSERT_EQ(launch_in(a, "add_one", {}, {1}, from), SUCCESS);
    ASSERT_EQ(cuMemcpyDtoDAsync_v2(to, from, 4, b), SUCCESS);
    ASSERT_EQ(cuStreamSynchronize(b), SUCCESS);
    EXPECT_EQ(read(to), 1u) << "without an event the copy comes too early";
    ASSERT_EQ(cuEventRecord(e, a), SUCCESS);
    ASSERT_EQ(cuStreamWaitEvent(b, e, 0), SUCCESS);
    ASSERT_EQ(cuMemcpyDtoDAsync_v2(to, from, 4, b), SUCCESS);
    ASSERT_EQ(cuStreamSynchronize(b), SUCCESS);
    EXPECT_EQ(read(to), 2u);
}

TEST_F(Streams, can_be_asked_until_they_are_done) {
    void *s = stream(), *e = event();
    Pointer n = number(0);
    EXPECT_EQ(cuStreamQuery(s), SUCCESS);
    for (int i = 0; i < 2; i++) ASSERT_EQ(launch_in(s, "add_one", {}, {1}, n), SUCCESS);
    ASSERT_EQ(cuEventRecord(e, s), SUCCESS);
    EXPECT_EQ(cuEventQuery(e), NOT_READY);
    EXPECT_EQ(cuStreamQuery(s), NOT_READY);
    EXPECT_EQ(cuEventQuery(e), NOT_READY);
    EXPECT_EQ(cuEventQuery(e), SUCCESS);
    EXPECT_EQ(read(n), 2u);
    EXPECT_EQ(cuEventSynchronize(e), SUCCESS);
}

TEST_F(Streams, that_block_wait_for_the_legacy_stream_and_it_for_them) {
    void *blocking = stream(0), *apart = stream();
    Pointer n = number(0), m = number(0);
    ASSERT_EQ(launch_in(nullptr, "add_one", {}, {1}, n), SUCCESS);
    ASSERT_EQ(launch_in(blocking, "add_one", {}, {1}, n), SUCCESS);
    ASSERT_EQ(launch_in(apart, "add_one", {}, {1}, m), SUCCESS);
    ASSERT_EQ(cuStreamSynchronize(blocking), SUCCESS);
    EXPECT_EQ(read(n), 2u);
    ASSERT_EQ(launch_in(blocking, "add_one", {}, {1}, n), SUCCESS);
    ASSERT_EQ(cuStreamSynchronize(nullptr), SUCCESS);
    EXPECT_EQ(read(n), 2u) << "waiting for the legacy stream is no work in it";
    ASSERT_EQ(launch_in(nullptr, "add_one", {}, {1}, n), SUCCESS);
    ASSERT_EQ(cuStreamSynchronize(nullptr), SUCCESS);
    EXPECT_EQ(read(n), 4u);
    EXPECT_EQ(read(m), 0u) << "a non-blocking stream stays apart";
    void *per_thread = reinterpret_cast<void*>(2), *legacy = reinterpret_cast<void*>(1);
    ASSERT_EQ(launch_in(per_thread, "add_one", {}, {1}, m), SUCCESS);
    ASSERT_EQ(cuStreamSynchronize(apart), SUCCESS);
    EXPECT_EQ(read(m), 1u);
    ASSERT_EQ(launch_in(legacy, "add_one", {}, {1}, m), SUCCESS);
    ASSERT_EQ(cuStreamSynchronize(legacy), SUCCESS);
    EXPECT_EQ(read(m), 3u);
}

TEST_F(Streams, copy_pageable_memory_at_the_call_and_pinned_memory_when_they_run) {
    void *s = stream(), *block = nullptr;
    ASSERT_EQ(cuMemAllocHost_v2(&block, 4), SUCCESS);
    auto* pinned = static_cast<volatile uint32_t*>(block);
    Pointer n = number(0);
    uint32_t pageable = 5;
    ASSERT_EQ(cuMemcpyHtoDAsync_v2(n, &pageable, 4, s), SUCCESS);
    pageable = 6;
    ASSERT_EQ(cuStreamSynchronize(s), SUCCESS);
    EXPECT_EQ(read(n), 5u);
    *pinned = 7;
    ASSERT_EQ(cuMemcpyHtoDAsync_v2(n, block, 4, s), SUCCESS);
    *pinned = 8; // too early
    ASSERT_EQ(cuStreamSynchronize(s), SUCCESS);
    EXPECT_EQ(read(n), 8u);
    *pinned = 0;
    ASSERT_EQ(cuMemcpyDtoHAsync_v2(block, n, 4, s), SUCCESS);
    EXPECT_EQ(*pinned, 0u) << "not there before the wait";
    ASSERT_EQ(cuStreamSynchronize(s), SUCCESS);
    EXPECT_EQ(*pinned, 8u);
    EXPECT_EQ(cuMemFreeHost(block), SUCCESS);
}

TEST_F(Streams, copy_arguments_at_the_launch) {
    void* s = stream();
    Pointer n = number(1), other = number(1);
    Pointer argument = n;
    void* values[] = {&argument};
    ASSERT_EQ(cuLaunchKernel(function("add_one"), 1, 1, 1, 1, 1, 1, 0, s, values, nullptr), SUCCESS);
    argument = other;
    ASSERT_EQ(cuStreamSynchronize(s), SUCCESS);
    EXPECT_EQ(read(n), 2u);
    EXPECT_EQ(read(other), 1u);
}

TEST_F(Streams, with_an_unknown_handle_are_refused) {
    Pointer n = number(0);
    void* wrong = reinterpret_cast<void*>(0xdead0);
    EXPECT_EQ(launch_in(wrong, "add_one", {}, {1}, n), INVALID_HANDLE);
    EXPECT_EQ(cuStreamSynchronize(wrong), INVALID_HANDLE);
    EXPECT_EQ(cuMemsetD32Async(n, 0, 1, wrong), INVALID_HANDLE);
    EXPECT_EQ(cuEventRecord(wrong, nullptr), INVALID_HANDLE);
    void *gone = nullptr, *event_of_gone = event();
    ASSERT_EQ(cuStreamCreate(&gone, 0), SUCCESS);
    ASSERT_EQ(cuEventRecord(event_of_gone, gone), SUCCESS);
    ASSERT_EQ(cuStreamDestroy_v2(gone), SUCCESS);
    EXPECT_EQ(cuStreamQuery(gone), INVALID_HANDLE);
    EXPECT_EQ(cuEventSynchronize(event_of_gone), SUCCESS) << "an event outlives its stream";
}

TEST_F(Streams, of_another_context_are_refused) {
    void *other = nullptr, *there = nullptr;
    Pointer n = number(0);
    ASSERT_EQ(cuCtxCreate_v2(&other, 0, 0), SUCCESS);
    ASSERT_EQ(cuStreamCreate(&there, 0), SUCCESS);
    void* popped = nullptr;
    ASSERT_EQ(cuCtxPopCurrent_v2(&popped), SUCCESS);
    EXPECT_EQ(popped, other);
    EXPECT_EQ(launch_in(there, "add_one", {}, {1}, n), INVALID_HANDLE);
    EXPECT_EQ(cuEventRecord(event(), there), INVALID_HANDLE);
    ASSERT_EQ(cuCtxDestroy_v2(other), SUCCESS);
    EXPECT_EQ(cuStreamSynchronize(there), INVALID_HANDLE) << "it ended with its context";
}

TEST_F(Streams, report_a_failed_kernel_to_who_waits_and_from_then_on_to_all) {
    void* s = stream();
    Pointer n = number(0), more;
    cuda_emulator_fail_launch(2, LAUNCH_FAILED);
    for (int i = 0; i < 3; i++) ASSERT_EQ(launch_in(s, "add_one", {}, {1}, n), SUCCESS);
    EXPECT_EQ(cuStreamSynchronize(s), LAUNCH_FAILED);
    EXPECT_EQ(cuStreamSynchronize(s), LAUNCH_FAILED);
    EXPECT_EQ(cuMemAlloc_v2(&more, 4), LAUNCH_FAILED);
    EXPECT_EQ(cuMemsetD32Async(n, 5, 1, s), LAUNCH_FAILED);
    cuda_emulator_reset();
    EXPECT_EQ(read(n), 1u) << "nothing ran after the failure";
}

TEST(StreamsOnRequest, run_at_once) {
    testing::GTEST_FLAG(death_test_style) = "threadsafe"; // in a process of its own
    EXPECT_EXIT(
        {
            setenv("CUDA_EMULATOR_LATE", "0", 1);
            void* context;
            void* s;
            Pointer n;
            if (cuInit(0) || cuDevicePrimaryCtxRetain(&context, 0) || cuCtxSetCurrent(context)) exit(1);
            if (cuStreamCreate(&s, NON_BLOCKING) || cuMemAlloc_v2(&n, 4) || cuMemsetD32Async(n, 0, 1, s)) exit(2);
            exit(cuda_emulator_count("pending") == 0 ? 0 : 3);
        },
        testing::ExitedWithCode(0), "");
}
