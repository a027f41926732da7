// Device memory: who may touch it, its ends, its life.
#include "emulated.h"
#include <cmath>
#include <csetjmp>
#include <csignal>
#include <cstring>

using namespace emu;

class Memory : public Emulated {};

template <class T> static T* address(Pointer pointer) { return reinterpret_cast<T*>(pointer); }

TEST_F(Memory, is_closed_to_host_code) {
    Pointer pointer = upload(std::vector<int>{1});
    EXPECT_EXIT(printf("%d", *address<volatile int>(pointer)), testing::KilledBySignal(SIGSEGV),
                "host code touches device memory");
    EXPECT_EXIT(*address<volatile int>(pointer) = 2, testing::KilledBySignal(SIGSEGV),
                "host code touches device memory");
    Pointer out = allocate(4);
    ASSERT_EQ(run("add_one", {}, {1}, pointer), SUCCESS);
    EXPECT_EXIT(*address<volatile int>(out) = 2, testing::KilledBySignal(SIGSEGV), "host code") << "after a launch";
}

TEST_F(Memory, starts_as_nan) {
    Pointer pointer = allocate(4 * 100);
    for (float value : download<float>(pointer, 100)) EXPECT_TRUE(std::isnan(value));
}

TEST_F(Memory, ends_where_the_allocation_ends) {
    Pointer in = allocate(4 * 1000), out = allocate(4);
    for (long long i : {0LL, 999LL}) EXPECT_EQ(run("read", {}, {1}, in, out, i), SUCCESS) << last_error();
    expect_failure(ILLEGAL_ADDRESS, "bytes past the end of the 4000 bytes", "read", {1}, in, out, 1100LL);
    expect_failure(ILLEGAL_ADDRESS, "no live allocation", "read", {1}, in, out, 1LL << 24);
    expect_failure(ILLEGAL_ADDRESS, "no device memory", "read", {1}, Pointer(16), out, 0LL);
    // Too near for a closed page, but what lies between must not change.
    expect_failure(ILLEGAL_ADDRESS, "a write past the end of the 4000 bytes", "write", {1}, in, 1000LL);
    expect_failure(ILLEGAL_ADDRESS, "a write before the 4 bytes", "write", {1}, out, -1LL);
    EXPECT_EQ(run("write", {}, {1}, in, 999LL), SUCCESS) << "what was written beside is forgotten";
}

TEST_F(Memory, that_was_freed_is_never_touched_again) {
    Pointer in, out = allocate(4);
    ASSERT_EQ(cuMemAlloc_v2(&in, 4000), SUCCESS);
    ASSERT_EQ(cuMemFree_v2(in), SUCCESS);
    Pointer other = allocate(4000);
    EXPECT_NE(in, other);
    expect_failure(ILLEGAL_ADDRESS, "illegal address", "read", {1}, in, out, 0LL);
    EXPECT_EQ(cuMemFree_v2(in), INVALID_VALUE);
    EXPECT_EQ(cuMemFree_v2(other + 4), INVALID_VALUE);
    float value;
    EXPECT_EQ(cuMemcpyDtoH_v2(&value, in, 4), INVALID_VALUE);
}

TEST_F(Memory, copies_and_fills_stay_within_one_allocation) {
    Pointer a = upload(std::vector<uint32_t>{1, 2, 3, 4}), b = allocate(16);
    uint32_t host[8] = {};
    EXPECT_EQ(cuMemcpyHtoD_v2(a + 4, host, 16), INVALID_VALUE);
    EXPECT_EQ(cuMemcpyDtoH_v2(host, a, 17), INVALID_VALUE);
    EXPECT_EQ(cuMemcpyDtoD_v2(b, a, 32), INVALID_VALUE);
    EXPECT_EQ(cuMemsetD8_v2(b, 0, 17), INVALID_VALUE);
    EXPECT_EQ(cuMemsetD32Async(b + 2, 0, 1, nullptr), INVALID_VALUE) << "misaligned";
    EXPECT_EQ(cuMemcpyDtoD_v2(b, a + 8, 8), SUCCESS);
    EXPECT_EQ(cuMemsetD32Async(b + 8, 9, 2, nullptr), SUCCESS);
    EXPECT_EQ(download<uint32_t>(b, 4), (std::vector<uint32_t>{3, 4, 9, 9}));
}

TEST_F(Memory, is_limited) {
    size_t available, total, less;
    ASSERT_EQ(cuMemGetInfo_v2(&available, &total), SUCCESS);
    Pointer pointer;
    EXPECT_EQ(cuMemAlloc_v2(&pointer, total + 1), OUT_OF_MEMORY);
    EXPECT_EQ(cuMemAlloc_v2(&pointer, 0), INVALID_VALUE);
    allocate(1000);
    ASSERT_EQ(cuMemGetInfo_v2(&less, &total), SUCCESS);
    EXPECT_EQ(available - less, 1000u);
}

TEST_F(Memory, is_told_from_host_memory) {
    enum { MEMORY_TYPE = 2, DEVICE_ORDINAL = 9, RANGE_START = 11, RANGE_SIZE = 12 };
    Pointer pointer = allocate(1000);
    unsigned type = 0;
    int device = -1, local;
    Pointer start = 0;
    size_t size = 0;
    EXPECT_EQ(cuPointerGetAttribute(&type, MEMORY_TYPE, pointer + 999), SUCCESS);
    EXPECT_EQ(type, 2u);
    EXPECT_EQ(cuPointerGetAttribute(&device, DEVICE_ORDINAL, pointer), SUCCESS);
    EXPECT_EQ(device, 0);
    EXPECT_EQ(cuPointerGetAttribute(&start, RANGE_START, pointer + 8), SUCCESS);
    EXPECT_EQ(start, pointer);
    EXPECT_EQ(cuPointerGetAttribute(&size, RANGE_SIZE, pointer + 8), SUCCESS);
    EXPECT_EQ(size, 1000u);
    EXPECT_EQ(cuPointerGetAttribute(&type, MEMORY_TYPE, pointer + 1000), INVALID_VALUE);
    EXPECT_EQ(cuPointerGetAttribute(&type, MEMORY_TYPE, reinterpret_cast<Pointer>(&local)), INVALID_VALUE);
    void* pinned;
    ASSERT_EQ(cuMemAllocHost_v2(&pinned, 16), SUCCESS);
    EXPECT_EQ(cuPointerGetAttribute(&type, MEMORY_TYPE, reinterpret_cast<Pointer>(pinned)), SUCCESS);
    EXPECT_EQ(type, 1u);
    EXPECT_EQ(cuPointerGetAttribute(&device, DEVICE_ORDINAL, reinterpret_cast<Pointer>(pinned)), SUCCESS);
    EXPECT_EQ(device, 0) << "as if it were its memory";
    EXPECT_EQ(cuda_emulator_count("pinned"), 1);
    EXPECT_EQ(cuMemFreeHost(pinned), SUCCESS);
    EXPECT_EQ(cuMemFreeHost(pinned), INVALID_VALUE);
}

TEST_F(Memory, that_is_managed_is_the_hosts_too) {
    enum { IS_MANAGED = 8, ATTACH_GLOBAL = 1 };
    Pointer managed, out = allocate(4);
    int is = -1;
    ASSERT_EQ(cuMemAllocManaged(&managed, 4000, ATTACH_GLOBAL), SUCCESS);
    EXPECT_EQ(cuPointerGetAttribute(&is, IS_MANAGED, managed + 4), SUCCESS);
    EXPECT_EQ(is, 1);
    EXPECT_EQ(cuPointerGetAttribute(&is, IS_MANAGED, out), SUCCESS);
    EXPECT_EQ(is, 0);
    float* host = address<float>(managed);
    host[7] = 3;
    EXPECT_EQ(run("read", {}, {1}, managed, out, 7LL), SUCCESS) << last_error();
    EXPECT_EQ(download<float>(out, 1)[0], 3);
    EXPECT_EQ(run("write", {}, {1}, managed, 7LL), SUCCESS) << last_error();
    EXPECT_EQ(host[7], 0) << "after a launch";
    EXPECT_EQ(cuMemFree_v2(managed), SUCCESS);
    EXPECT_EXIT(host[7] = 1, testing::KilledBySignal(SIGSEGV), "host code") << "after its end";
}

TEST_F(Memory, of_the_host_is_refused_to_kernels_where_accesses_are_watched) {
    std::vector<uint32_t> counter = {1};
    auto host = reinterpret_cast<Pointer>(counter.data());
    EXPECT_EQ(run("add_one", {}, {1}, host), SUCCESS) << "without it this is not seen";
    cuda_emulator_watch(1);
    EXPECT_EQ(run("add_one", {}, {1}, host), ILLEGAL_ADDRESS);
    EXPECT_NE(last_error().find("host memory"), std::string::npos) << last_error();
    EXPECT_EQ(counter[0], 2u);
    cuda_emulator_reset();
    cuda_emulator_watch(1);
    void* pinned;
    ASSERT_EQ(cuMemAllocHost_v2(&pinned, 4), SUCCESS);
    EXPECT_EQ(run("add_one", {}, {1}, reinterpret_cast<Pointer>(pinned)), SUCCESS) << last_error();
    EXPECT_EQ(cuMemFreeHost(pinned), SUCCESS);
}

TEST_F(Memory, of_another_device_is_closed_to_a_kernel) {
    EXPECT_EXIT(
        {
            setenv("CUDA_EMULATOR_DEVICES", "2", 1);
            void* other;
            Pointer there;
            if (cuCtxCreate_v2(&other, 0, 1) || cuMemAlloc_v2(&there, 4) || cuCtxSetCurrent(context)) exit(1);
            Result result = run("add_one", {}, {1}, there);
            fprintf(stderr, "%s\n", last_error().c_str());
            exit(result == ILLEGAL_ADDRESS ? 0 : 2);
        },
        testing::ExitedWithCode(0), "of another device");
}

// The host's own handlers still work.

static sigjmp_buf recovered;
static volatile int* volatile nowhere = reinterpret_cast<int*>(8);
static void recover(int) { siglongjmp(recovered, 1); }

TEST(Signals, that_are_not_the_emulators_go_to_the_handler_that_was_there) {
    testing::GTEST_FLAG(death_test_style) = "threadsafe"; // in a process of its own
    EXPECT_EXIT(
        {
            signal(SIGSEGV, recover);
            int result = cuInit(0);
            if (!sigsetjmp(recovered, 1)) *nowhere = 1;
            exit(result ? result : 42);
        },
        testing::ExitedWithCode(42), "");
}

TEST(Signals, without_a_handler_end_the_program_as_before) {
    testing::GTEST_FLAG(death_test_style) = "threadsafe"; // in a process of its own
    EXPECT_EXIT(
        {
            signal(SIGSEGV, SIG_DFL);
            cuInit(0);
            *nowhere = 1;
        },
        testing::KilledBySignal(SIGSEGV), "");
}
