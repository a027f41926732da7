// The driver's functions for devices and contexts.
#include "driver.h"
#include "capture.h"
#include "module.h"
#include "settings.h"
#include "shared_memory.h"
#include "signals.h"
#include <cstdio>

using namespace emu;

namespace emu {
std::recursive_mutex lock;
bool initialized;
} // namespace emu

static int devices() { return static_cast<int>(setting("DEVICES", 1)); }
static bool exists(int device) { return device >= 0 && device < devices(); }

EMU_EXPORT Result cuInit(unsigned flags) {
    return always(__func__, [&]() -> Result {
        if (flags) return INVALID_VALUE;
        if (long forced = setting("INIT", 0)) return static_cast<Result>(forced);
        if (!devices()) return NO_DEVICE;
        if (initialized) return SUCCESS;
        memory::set_up();
        handle_signals();
        initialized = true;
        return SUCCESS;
    });
}

EMU_EXPORT Result cuDriverGetVersion(int* version) {
    return always(__func__, [&] { return version ? (*version = driver_version(), SUCCESS) : INVALID_VALUE; });
}

EMU_EXPORT Result cuDeviceGetCount(int* count) {
    return after_init(__func__, [&] { return count ? (*count = devices(), SUCCESS) : INVALID_VALUE; });
}

EMU_EXPORT Result cuDeviceGet(int* device, int ordinal) {
    return after_init(__func__, [&] {
        if (!device) return INVALID_VALUE;
        if (!exists(ordinal)) return INVALID_DEVICE;
        *device = ordinal;
        return SUCCESS;
    });
}

EMU_EXPORT Result cuDeviceGetName(char* name, int size, int device) {
    return after_init(__func__, [&] {
        if (!name || size <= 0) return INVALID_VALUE;
        if (!exists(device)) return INVALID_DEVICE;
        snprintf(name, static_cast<size_t>(size), "CUDA emulator");
        return SUCCESS;
    });
}

EMU_EXPORT Result cuDeviceTotalMem_v2(size_t* bytes, int device) {
    return after_init(__func__, [&] {
        if (!bytes) return INVALID_VALUE;
        if (!exists(device)) return INVALID_DEVICE;
        *bytes = memory::total_bytes();
        return SUCCESS;
    });
}

EMU_EXPORT Result cuDeviceGetAttribute(int* value, int attribute, int device) {
    return after_init(__func__, [&]() -> Result {
        static const std::map<int, long> attributes = {
            {1, 1024},                                // MAX_THREADS_PER_BLOCK
            {2, 1024}, {3, 1024}, {4, 64},            // MAX_BLOCK_DIM_X, Y, Z
            {5, 0x7fffffff}, {6, 65535}, {7, 65535},  // MAX_GRID_DIM_X, Y, Z
            {8, shared_memory::DEFAULT_BYTES},        // MAX_SHARED_MEMORY_PER_BLOCK
            {10, 32},                                 // WARP_SIZE
            {12, 65536},                              // MAX_REGISTERS_PER_BLOCK
            {16, setting("MULTIPROCESSORS", 4)},      // MULTIPROCESSOR_COUNT
            {31, 0},                                  // CONCURRENT_KERNELS
            {39, 2048},                               // MAX_THREADS_PER_MULTIPROCESSOR
            {41, 1},                                  // UNIFIED_ADDRESSING
            {75, compute_capability() / 10},          // COMPUTE_CAPABILITY_MAJOR
            {76, compute_capability() % 10},          // COMPUTE_CAPABILITY_MINOR
            {81, shared_memory::LARGEST_BYTES},       // MAX_SHARED_MEMORY_PER_MULTIPROCESSOR
            {97, shared_memory::LARGEST_BYTES},       // MAX_SHARED_MEMORY_PER_BLOCK_OPTIN
            {106, 32},                                // MAX_BLOCKS_PER_MULTIPROCESSOR
            {115, 0},                                 // MEMORY_POOLS_SUPPORTED
        };
        if (!value) return INVALID_VALUE;
        if (!exists(device)) return INVALID_DEVICE;
        auto found = attributes.find(attribute);
        if (found == attributes.end())
            return control.refuse(INVALID_VALUE, "unknown to the emulator: attribute " + std::to_string(attribute));
        *value = static_cast<int>(found->second);
        return SUCCESS;
    });
}

EMU_EXPORT Result cuDevicePrimaryCtxRetain(void** context, int device) {
    return after_init(__func__, [&] {
        if (!context) return INVALID_VALUE;
        if (!exists(device)) return INVALID_DEVICE;
        void*& handle = objects.primary[device];
        if (!handle) handle = objects.contexts.add(new_context(device, true));
        objects.contexts.find(handle)->references++;
        *context = handle;
        return SUCCESS;
    });
}

EMU_EXPORT Result cuDevicePrimaryCtxRelease_v2(int device) {
    return after_init(__func__, [&] {
        if (!exists(device)) return INVALID_DEVICE;
        auto found = objects.primary.find(device);
        if (found == objects.primary.end()) return INVALID_CONTEXT;
        void* handle = found->second;
        if (--objects.contexts.find(handle)->references == 0) destroy_context(handle);
        return SUCCESS;
    });
}

EMU_EXPORT Result cuDevicePrimaryCtxGetState(int device, unsigned* flags, int* active) {
    return after_init(__func__, [&] {
        if (!flags || !active) return INVALID_VALUE;
        if (!exists(device)) return INVALID_DEVICE;
        *flags = 0;
        *active = objects.primary.count(device) > 0;
        return SUCCESS;
    });
}

EMU_EXPORT Result cuCtxCreate_v2(void** context, unsigned, int device) {
    return after_init(__func__, [&] {
        if (!context) return INVALID_VALUE;
        if (!exists(device)) return INVALID_DEVICE;
        *context = objects.contexts.add(new_context(device, false));
        context_stack.push_back(*context);
        return SUCCESS;
    });
}

EMU_EXPORT Result cuCtxDestroy_v2(void* handle) {
    return after_init(__func__, [&] {
        auto context = objects.contexts.find(handle);
        if (!context || context->primary) return INVALID_CONTEXT;
        destroy_context(handle);
        if (!context_stack.empty() && context_stack.back() == handle) context_stack.pop_back();
        return SUCCESS;
    });
}

EMU_EXPORT Result cuCtxGetCurrent(void** context) {
    return after_init(__func__, [&] {
        if (!context) return INVALID_VALUE;
        *context = context_stack.empty() ? nullptr : context_stack.back();
        return SUCCESS;
    });
}

EMU_EXPORT Result cuCtxSetCurrent(void* handle) {
    return after_init(__func__, [&] {
        if (handle && !objects.contexts.find(handle)) return INVALID_CONTEXT;
        if (!context_stack.empty()) context_stack.pop_back();
        if (handle) context_stack.push_back(handle);
        return SUCCESS;
    });
}

EMU_EXPORT Result cuCtxPushCurrent_v2(void* handle) {
    return after_init(__func__, [&] {
        if (!objects.contexts.find(handle)) return INVALID_CONTEXT;
        context_stack.push_back(handle);
        return SUCCESS;
    });
}

EMU_EXPORT Result cuCtxPopCurrent_v2(void** context) {
    return after_init(__func__, [&] {
        if (context_stack.empty()) return INVALID_CONTEXT;
        if (context) *context = context_stack.back();
        context_stack.pop_back();
        return SUCCESS;
    });
}

EMU_EXPORT Result cuCtxGetDevice(int* device) {
    return in_context(__func__, [&](Context& context) {
        return device ? (*device = context.device, SUCCESS) : INVALID_VALUE;
    });
}

EMU_EXPORT Result cuCtxSynchronize() {
    return in_context(__func__, [&](Context& context) -> Result {
        for (const auto& [handle, stream] : objects.streams.all())
            if (stream->context == &context)
                if (Result refused = refuse_if_captured(*stream)) return refused;
        return finish(context);
    });
}
