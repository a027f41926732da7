// What the tests of the emulator share: the driver's functions as its headers declare them, with plain types, and a
// context with the test kernels for each test.
#pragma once
#include "../control.h"
#include <cstdint>
#include <gtest/gtest.h>
#include <string>
#include <vector>

using Pointer = uint64_t;
using emu::Result;

extern "C" {
Result cuInit(unsigned);
Result cuDriverGetVersion(int*);
Result cuDeviceGetCount(int*);
Result cuDeviceGet(int*, int);
Result cuDeviceGetName(char*, int, int);
Result cuDeviceGetAttribute(int*, int, int);
Result cuDevicePrimaryCtxRetain(void**, int);
Result cuDevicePrimaryCtxRelease_v2(int);
Result cuCtxCreate_v2(void**, unsigned, int);
Result cuCtxDestroy_v2(void*);
Result cuCtxGetCurrent(void**);
Result cuCtxSetCurrent(void*);
Result cuCtxPushCurrent_v2(void*);
Result cuCtxPopCurrent_v2(void**);
Result cuCtxSynchronize();
Result cuMemAlloc_v2(Pointer*, size_t);
Result cuMemAllocManaged(Pointer*, size_t, unsigned);
Result cuMemFree_v2(Pointer);
Result cuMemGetInfo_v2(size_t*, size_t*);
Result cuMemAllocHost_v2(void**, size_t);
Result cuMemFreeHost(void*);
Result cuMemcpyHtoD_v2(Pointer, const void*, size_t);
Result cuMemcpyDtoH_v2(void*, Pointer, size_t);
Result cuMemcpyDtoD_v2(Pointer, Pointer, size_t);
Result cuMemsetD8_v2(Pointer, unsigned char, size_t);
Result cuMemcpyHtoDAsync_v2(Pointer, const void*, size_t, void*);
Result cuMemcpyDtoHAsync_v2(void*, Pointer, size_t, void*);
Result cuMemcpyDtoDAsync_v2(Pointer, Pointer, size_t, void*);
Result cuMemsetD32Async(Pointer, unsigned, size_t, void*);
Result cuPointerGetAttribute(void*, int, Pointer);
Result cuStreamCreate(void**, unsigned);
Result cuStreamDestroy_v2(void*);
Result cuStreamSynchronize(void*);
Result cuStreamQuery(void*);
Result cuStreamWaitEvent(void*, void*, unsigned);
Result cuEventCreate(void**, unsigned);
Result cuEventDestroy_v2(void*);
Result cuEventRecord(void*, void*);
Result cuEventSynchronize(void*);
Result cuEventQuery(void*);
Result cuStreamBeginCapture_v2(void*, int);
Result cuStreamEndCapture(void*, void**);
Result cuStreamIsCapturing(void*, int*);
Result cuStreamGetCaptureInfo_v2(void*, int*, uint64_t*, void**, const void***, size_t*);
Result cuThreadExchangeStreamCaptureMode(int*);
Result cuGraphInstantiateWithFlags(void**, void*, unsigned long long);
Result cuGraphLaunch(void*, void*);
Result cuGraphExecDestroy(void*);
Result cuGraphDestroy(void*);
Result cuModuleLoadData(void**, const void*);
Result cuModuleLoadDataEx(void**, const void*, unsigned, int*, void**);
Result cuModuleUnload(void*);
Result cuModuleGetFunction(void**, void*, const char*);
Result cuFuncGetAttribute(int*, int, void*);
Result cuFuncSetAttribute(void*, int, int);
Result cuLaunchKernel(void*, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void*, void**,
                      void**);
Result cuOccupancyMaxActiveBlocksPerMultiprocessor(int*, void*, int, size_t);
Result cuGetErrorName(int, const char**);
Result cuGetErrorString(int, const char**);
}

constexpr unsigned NON_BLOCKING = 1;

struct Size {
    unsigned x = 1, y = 1, z = 1;
};

/// A current primary context, the kernels of kernels.cu, and the check that a test leaves nothing behind.
class Emulated : public testing::Test {
  protected:
    void SetUp() override {
        cuda_emulator_reset();
        ASSERT_EQ(cuInit(0), emu::SUCCESS);
        ASSERT_EQ(cuDevicePrimaryCtxRetain(&context, 0), emu::SUCCESS);
        ASSERT_EQ(cuCtxSetCurrent(context), emu::SUCCESS);
        ASSERT_EQ(cuModuleLoadData(&module, cuda_emulator_ptx()), emu::SUCCESS) << last_error();
    }

    void TearDown() override {
        cuda_emulator_reset();
        for (Pointer pointer : pointers) EXPECT_EQ(cuMemFree_v2(pointer), emu::SUCCESS);
        for (void* stream : streams) EXPECT_EQ(cuStreamDestroy_v2(stream), emu::SUCCESS);
        for (void* event : events) EXPECT_EQ(cuEventDestroy_v2(event), emu::SUCCESS);
        EXPECT_EQ(cuModuleUnload(module), emu::SUCCESS);
        EXPECT_EQ(cuda_emulator_count("live"), 1) << "the primary context is all that is left";
        EXPECT_EQ(cuDevicePrimaryCtxRelease_v2(0), emu::SUCCESS);
        EXPECT_EQ(cuCtxSetCurrent(nullptr), emu::SUCCESS);
    }

    static std::string last_error() { return cuda_emulator_last_error(); }

    Pointer allocate(size_t size) {
        Pointer pointer = 0;
        EXPECT_EQ(cuMemAlloc_v2(&pointer, size), emu::SUCCESS);
        pointers.push_back(pointer);
        return pointer;
    }

    template <class T> Pointer upload(const std::vector<T>& values) {
        Pointer pointer = allocate(values.size() * sizeof(T));
        EXPECT_EQ(cuMemcpyHtoD_v2(pointer, values.data(), values.size() * sizeof(T)), emu::SUCCESS);
        return pointer;
    }

    template <class T> std::vector<T> download(Pointer pointer, size_t count) {
        std::vector<T> values(count);
        EXPECT_EQ(cuMemcpyDtoH_v2(values.data(), pointer, count * sizeof(T)), emu::SUCCESS) << last_error();
        return values;
    }

    void* stream(unsigned flags = NON_BLOCKING) {
        void* handle = nullptr;
        EXPECT_EQ(cuStreamCreate(&handle, flags), emu::SUCCESS);
        streams.push_back(handle);
        return handle;
    }

    void* event() {
        void* handle = nullptr;
        EXPECT_EQ(cuEventCreate(&handle, 2), emu::SUCCESS);
        events.push_back(handle);
        return handle;
    }

    void* function(const char* name) {
        void* handle = nullptr;
        EXPECT_EQ(cuModuleGetFunction(&handle, module, name), emu::SUCCESS) << name;
        return handle;
    }

    template <class... T> Result launch_in(void* stream, const char* name, Size grid, Size block, T... arguments) {
        void* values[] = {static_cast<void*>(&arguments)..., nullptr};
        void* f = function(name);
        return cuLaunchKernel(f, grid.x, grid.y, grid.z, block.x, block.y, block.z, dynamic, stream, values, nullptr);
    }

    /// Launches it in the legacy stream and waits.
    template <class... T> Result run(const char* name, Size grid, Size block, T... arguments) {
        Result result = launch_in(nullptr, name, grid, block, arguments...);
        return result ? result : cuCtxSynchronize();
    }

    /// For a kernel that must fail: in each order it says so, and the next one can run.
    template <class... T>
    void expect_failure(Result result, const std::string& why, const char* name, Size block, T... arguments) {
        for (uint64_t order = 0; order < 8; order++) {
            cuda_emulator_order(order);
            EXPECT_EQ(run(name, {}, block, arguments...), result) << name;
            EXPECT_NE(last_error().find(why), std::string::npos) << last_error();
            EXPECT_NE(last_error().find(name), std::string::npos) << last_error();
            EXPECT_EQ(cuCtxSynchronize(), result) << "the error sticks";
            cuda_emulator_reset();
        }
    }

    void *context = nullptr, *module = nullptr;
    unsigned dynamic = 0; // bytes of shared memory

  private:
    std::vector<Pointer> pointers;
    std::vector<void*> streams, events;
};
