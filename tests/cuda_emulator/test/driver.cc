// Devices, contexts, modules, launches, and what tests can force.
#include "emulated.h"
#include <cstring>

using namespace emu;

[[noreturn]] static void in_a_fresh_process(const char* variable, const char* value, int (*body)()) {
    setenv(variable, value, 1);
    exit(body());
}

TEST(Settings, say_what_cuInit_and_the_versions_are) {
    testing::GTEST_FLAG(death_test_style) = "threadsafe"; // in a process of its own
    auto init = [] { return int(cuInit(0)); };
    EXPECT_EXIT(in_a_fresh_process("CUDA_EMULATOR_DEVICES", "0", init), testing::ExitedWithCode(NO_DEVICE), "");
    EXPECT_EXIT(in_a_fresh_process("CUDA_EMULATOR_INIT", "3", init), testing::ExitedWithCode(NOT_INITIALIZED), "");
    auto version = [] {
        int version = 0;
        return cuDriverGetVersion(&version) || version != 11040 ? 1 : 0;
    };
    EXPECT_EXIT(in_a_fresh_process("CUDA_EMULATOR_VERSION", "11040", version), testing::ExitedWithCode(0), "");
    auto devices = [] {
        int count = 0, device = -1;
        if (cuInit(0) || cuDeviceGetCount(&count) || count != 3) return 1;
        return cuDeviceGet(&device, 2) || device != 2 || cuDeviceGet(&device, 3) != INVALID_DEVICE ? 2 : 0;
    };
    EXPECT_EXIT(in_a_fresh_process("CUDA_EMULATOR_DEVICES", "3", devices), testing::ExitedWithCode(0), "");
    EXPECT_EXIT(in_a_fresh_process("CUDA_EMULATOR_DEVICES", "many", init), testing::KilledBySignal(SIGABRT),
                "CUDA_EMULATOR_DEVICES is 'many', not a whole number");
}

TEST(Settings, of_a_driver_that_is_too_old_refuse_the_module) {
    testing::GTEST_FLAG(death_test_style) = "threadsafe"; // in a process of its own
    auto load = [] {
        void *context, *module;
        if (cuInit(0) || cuDevicePrimaryCtxRetain(&context, 0) || cuCtxSetCurrent(context)) return 1;
        return cuModuleLoadData(&module, cuda_emulator_ptx()) - 200;
    };
    EXPECT_EXIT(in_a_fresh_process("CUDA_EMULATOR_VERSION", "10020", load), testing::ExitedWithCode(22), "");
    EXPECT_EXIT(in_a_fresh_process("CUDA_EMULATOR_COMPUTE", "61", load), testing::ExitedWithCode(9), "");
}

TEST(Settings, name_a_file_for_what_is_left_alive) {
    char path[] = "/tmp/cuda-emulator-leaks-XXXXXX";
    int file = mkstemp(path);
    ASSERT_GE(file, 0);
    EXPECT_EXIT(
        {
            setenv("CUDA_EMULATOR_LEAKS", path, 1);
            void* context;
            Pointer pointer;
            exit(cuInit(0) || cuDevicePrimaryCtxRetain(&context, 0) || cuCtxSetCurrent(context) ||
                 cuMemAlloc_v2(&pointer, 4));
        },
        testing::ExitedWithCode(0), "");
    char text[200] = {};
    EXPECT_GT(pread(file, text, sizeof text - 1, 0), 0);
    EXPECT_STREQ(text, "allocations=1 contexts=1 events=0 graphs=0 modules=0 pinned=0 streams=0 \n");
    unlink(path);
    close(file);
}

class Driver : public Emulated {};

TEST_F(Driver, runs_blocks_in_the_order_that_the_environment_asks_for) {
    const char* order = getenv("CUDA_EMULATOR_ORDER");
    Pointer out = allocate(4);
    ASSERT_EQ(run("last_block", {100}, {1}, out), SUCCESS);
    uint32_t last = download<uint32_t>(out, 1)[0];
    if (!order || !strcmp(order, "ascending")) {
        EXPECT_EQ(last, 99u);
    } else if (!strcmp(order, "descending")) {
        EXPECT_EQ(last, 0u);
    } else {
        EXPECT_TRUE(last > 0 && last < 99) << "shuffled: " << last;
    }
}

TEST_F(Driver, needs_a_current_context) {
    Pointer pointer;
    void *current = nullptr, *handle = nullptr;
    ASSERT_EQ(cuCtxGetCurrent(&current), SUCCESS);
    EXPECT_EQ(current, context);
    ASSERT_EQ(cuCtxSetCurrent(nullptr), SUCCESS);
    EXPECT_EQ(cuCtxGetCurrent(&current), SUCCESS);
    EXPECT_EQ(current, nullptr);
    EXPECT_EQ(cuMemAlloc_v2(&pointer, 4), INVALID_CONTEXT);
    EXPECT_EQ(cuStreamCreate(&handle, 0), INVALID_CONTEXT);
    EXPECT_EQ(cuCtxPopCurrent_v2(&current), INVALID_CONTEXT);
    ASSERT_EQ(cuCtxPushCurrent_v2(context), SUCCESS);
    ASSERT_EQ(cuCtxCreate_v2(&handle, 0, 0), SUCCESS);
    EXPECT_EQ(cuMemAlloc_v2(&pointer, 4), SUCCESS);
    ASSERT_EQ(cuCtxDestroy_v2(handle), SUCCESS) << "its memory goes with it";
    EXPECT_EQ(cuCtxGetCurrent(&current), SUCCESS);
    EXPECT_EQ(current, context);
    EXPECT_EQ(cuMemFree_v2(pointer), INVALID_VALUE);
    EXPECT_EQ(cuCtxSetCurrent(handle), INVALID_CONTEXT);
}

TEST_F(Driver, ends_all_of_a_primary_context_with_its_last_release) {
    void *again = nullptr, *handle = nullptr;
    ASSERT_EQ(cuDevicePrimaryCtxRetain(&again, 0), SUCCESS);
    EXPECT_EQ(again, context);
    EXPECT_EQ(cuDevicePrimaryCtxRelease_v2(0), SUCCESS);
    EXPECT_EQ(cuStreamCreate(&handle, 0), SUCCESS);
    EXPECT_EQ(cuDevicePrimaryCtxRelease_v2(0), SUCCESS);
    EXPECT_EQ(cuda_emulator_count("live"), 0);
    EXPECT_EQ(cuStreamSynchronize(handle), CONTEXT_IS_DESTROYED);
    EXPECT_EQ(cuDevicePrimaryCtxRelease_v2(0), INVALID_CONTEXT);
    ASSERT_EQ(cuDevicePrimaryCtxRetain(&context, 0), SUCCESS); // for TearDown
    ASSERT_EQ(cuCtxSetCurrent(context), SUCCESS);
    ASSERT_EQ(cuModuleLoadData(&module, cuda_emulator_ptx()), SUCCESS);
}

TEST_F(Driver, loads_only_ptx_that_has_the_kernels_that_were_compiled_in) {
    auto load = [](std::string ptx, const std::string& from, const std::string& to) {
        size_t at = ptx.find(from);
        EXPECT_NE(at, ptx.npos);
        ptx.replace(at, from.size(), to);
        void* loaded = nullptr;
        char log[300] = {};
        int options[] = {5, 6}; // CU_JIT_ERROR_LOG_BUFFER and its size
        void* values[] = {log, reinterpret_cast<void*>(sizeof log)};
        Result result = cuModuleLoadDataEx(&loaded, ptx.c_str(), 2, options, values);
        return std::to_string(result) + ": " + log;
    };
    std::string ptx = cuda_emulator_ptx();
    EXPECT_EQ(load(ptx, ".version", "version"), "200: the image is no PTX: it has no .version and .target");
    EXPECT_EQ(load(ptx, "entry fill(", "entry full("), "218: the PTX has full, the kernels compiled in have not");
    EXPECT_EQ(load(ptx, ".u32 fill_param_1", ".u64 fill_param_1"),
              "218: fill has the parameters u64 u64 u32 in the PTX and u64 u32 u32 in the kernels compiled in");
    EXPECT_EQ(load(ptx, ".b8 arguments_param_0[16]", ".b8 arguments_param_0[24]").substr(0, 43),
              "218: arguments has the parameters b8[24] f3");
    EXPECT_EQ(load(ptx, ".visible .entry deadlock()\n{\nret;\n}\n", ""),
              "218: the kernels compiled in have deadlock, the PTX has not");
    void* handle = nullptr;
    EXPECT_EQ(cuModuleGetFunction(&handle, module, "full"), NOT_FOUND);
}

TEST_F(Driver, refuses_launches_that_no_device_can_do) {
    Pointer n = allocate(4);
    for (Size grid : {Size{0, 1, 1}, {1, 65536, 1}, {1, 1, 65536}, {0x80000000u, 1, 1}})
        EXPECT_EQ(run("add_one", grid, {1}, n), INVALID_VALUE);
    for (Size block : {Size{0, 1, 1}, {1025, 1, 1}, {32, 33, 1}, {1, 1, 65}})
        EXPECT_EQ(run("add_one", {}, block, n), INVALID_VALUE);
    dynamic = 49153;
    EXPECT_EQ(run("add_one", {}, {1}, n), INVALID_VALUE);
    EXPECT_EQ(cuFuncSetAttribute(function("add_one"), 8, 65536), SUCCESS);
    EXPECT_EQ(run("add_one", {}, {1}, n), SUCCESS);
    int blocks = 0;
    EXPECT_EQ(cuOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, function("add_one"), 256, 0), SUCCESS);
    EXPECT_EQ(blocks, 8);
}

TEST_F(Driver, fails_at_the_call_that_a_test_names) {
    Pointer pointer;
    cuda_emulator_fail("cuMemAlloc_v2", 2, OUT_OF_MEMORY);
    allocate(4);
    EXPECT_EQ(cuMemAlloc_v2(&pointer, 4), OUT_OF_MEMORY);
    EXPECT_EQ(last_error(), "cuMemAlloc_v2 was made to fail");
    allocate(4);
    long calls = cuda_emulator_count("*"), allocations = cuda_emulator_count("cuMemAlloc_v2");
    cuda_emulator_fail("*", 2, 12345);
    const char* name = nullptr;
    EXPECT_EQ(cuGetErrorName(1, &name), SUCCESS) << "does not count";
    EXPECT_STREQ(name, "CUDA_ERROR_INVALID_VALUE");
    allocate(4);
    EXPECT_EQ(cuCtxSynchronize(), 12345) << "any number can be forced";
    EXPECT_EQ(cuGetErrorName(12345, &name), INVALID_VALUE);
    EXPECT_EQ(name, nullptr);
    EXPECT_EQ(cuda_emulator_count("*") - calls, 2);
    EXPECT_EQ(cuda_emulator_count("cuMemAlloc_v2") - allocations, 1);
    cuda_emulator_fail("cuMemAlloc_v2", 1, OUT_OF_MEMORY);
    cuda_emulator_fail("cuMemAlloc_v2", 0, 0);
    allocate(4);
}

TEST_F(Driver, counts_what_is_left_alive) {
    Pointer pointer;
    void *handle, *graph;
    ASSERT_EQ(cuMemAlloc_v2(&pointer, 100), SUCCESS);
    EXPECT_EQ(cuda_emulator_count("allocations"), 1);
    EXPECT_EQ(cuda_emulator_count("allocated_bytes"), 100);
    ASSERT_EQ(cuStreamCreate(&handle, NON_BLOCKING), SUCCESS);
    ASSERT_EQ(cuStreamBeginCapture_v2(handle, 0), SUCCESS);
    ASSERT_EQ(cuStreamEndCapture(handle, &graph), SUCCESS);
    EXPECT_EQ(cuda_emulator_count("streams"), 1);
    EXPECT_EQ(cuda_emulator_count("graphs"), 1);
    EXPECT_EQ(cuda_emulator_count("live"), 5) << "allocation, stream, graph, module, context";
    EXPECT_EQ(cuGraphDestroy(graph), SUCCESS);
    EXPECT_EQ(cuStreamDestroy_v2(handle), SUCCESS);
    EXPECT_EQ(cuMemFree_v2(pointer), SUCCESS);
}
