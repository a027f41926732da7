// The driver's functions for modules, kernels and errors.
#include "capture.h"
#include "driver.h"
#include "launch.h"
#include "module.h"
#include "shared_memory.h"
#include <algorithm>
#include <cstring>

using namespace emu;

namespace {

constexpr size_t MOST_BLOCKS = 1 << 24; // more would take the emulator minutes

Result load(const char* function, void** out, const void* image) {
    return in_context(function, [&](Context& context) -> Result {
        if (!out || !image) return INVALID_VALUE;
        if (Result refused = refuse_while_capturing()) return refused;
        std::map<std::string, Function> functions;
        if (Result failed = read_ptx(static_cast<const char*>(image), functions)) return failed;
        auto module = std::make_shared<Module>(Module{&context, {}});
        *out = objects.modules.add(module);
        for (auto& [name, each] : functions) {
            each.module = module;
            module->functions[name] = objects.functions.add(std::make_shared<Function>(each));
        }
        return SUCCESS;
    });
}

template <class Body> Result with_function(const char* name, void* handle, Body body) {
    return in_context(name, [&](Context&) -> Result {
        auto function = objects.functions.find(handle);
        return function ? body(*function) : INVALID_HANDLE;
    });
}

size_t most_dynamic(const Function& function) {
    size_t usual = shared_memory::DEFAULT_BYTES - std::min(function.static_shared, shared_memory::DEFAULT_BYTES);
    return std::max(usual, function.most_dynamic_shared);
}

/// What the driver refuses at once; the rest goes wrong while the kernel runs.
Result check(const Function& function, const dim3& grid, const dim3& block, size_t dynamic) {
    size_t threads = size_t(block.x) * block.y * block.z, blocks = size_t(grid.x) * grid.y * grid.z;
    if (!threads || threads > 1024 || block.z > 64)
        return control.refuse(INVALID_VALUE, "a block has 1 to 1024 threads, 64 at most in z");
    if (threads > function.most_threads)
        return control.refuse(INVALID_VALUE, function.kernel->name + " was compiled for blocks of at most " +
                                                 std::to_string(function.most_threads) + " threads");
    if (!blocks || grid.x > 0x7fffffff || grid.y > 65535 || grid.z > 65535)
        return control.refuse(INVALID_VALUE, "a grid has 1 to 2147483647, 65535 and 65535 blocks in x, y and z");
    if (dynamic > most_dynamic(function)) return control.refuse(INVALID_VALUE, "too much dynamic shared memory");
    if (blocks > MOST_BLOCKS) return control.refuse(NOT_SUPPORTED, "too many blocks for the emulator");
    return SUCCESS;
}

/// The arguments are copied when the kernel is launched.
std::vector<uint64_t> pack(const Kernel& kernel, void** values) {
    std::vector<uint64_t> packed((kernel.bytes + 7) / 8);
    for (size_t i = 0; i < kernel.parameters.size(); i++) {
        const Parameter& parameter = kernel.parameters[i];
        memcpy(reinterpret_cast<char*>(packed.data()) + parameter.offset, values[i], parameter.size);
    }
    return packed;
}

} // namespace

EMU_EXPORT Result cuModuleLoadData(void** out, const void* image) { return load(__func__, out, image); }

EMU_EXPORT Result cuModuleLoadDataEx(void** out, const void* image, unsigned count, int* options, void** values) {
    constexpr int ERROR_LOG = 5, ERROR_LOG_SIZE = 6; // CUjit_option
    Result result = load(__func__, out, image);
    char* log = nullptr;
    size_t size = 0;
    for (unsigned i = 0; i < count; i++) {
        if (options[i] == ERROR_LOG) log = static_cast<char*>(values[i]);
        if (options[i] == ERROR_LOG_SIZE) size = reinterpret_cast<size_t>(values[i]);
    }
    if (log && size) {
        std::lock_guard<std::recursive_mutex> held(lock);
        log[(result ? control.last_error : std::string()).copy(log, size - 1)] = 0;
    }
    return result;
}

EMU_EXPORT Result cuModuleUnload(void* handle) {
    return in_context(__func__, [&](Context& context) -> Result {
        auto module = objects.modules.find(handle);
        if (!module) return INVALID_HANDLE;
        if (Result refused = refuse_while_capturing()) return refused;
        if (Result failed = finish(context)) return failed;
        for (const auto& [name, function] : module->functions) objects.functions.remove(function);
        objects.modules.remove(handle);
        return SUCCESS;
    });
}

EMU_EXPORT Result cuModuleGetFunction(void** out, void* handle, const char* name) {
    return in_context(__func__, [&](Context&) {
        auto module = objects.modules.find(handle);
        if (!out || !name) return INVALID_VALUE;
        if (!module) return INVALID_HANDLE;
        auto found = module->functions.find(name);
        if (found == module->functions.end()) return NOT_FOUND;
        *out = found->second;
        return SUCCESS;
    });
}

enum FunctionAttribute { MAX_THREADS_PER_BLOCK, SHARED_SIZE_BYTES, MAX_DYNAMIC_SHARED_SIZE_BYTES = 8 };

EMU_EXPORT Result cuFuncGetAttribute(int* value, int attribute, void* handle) {
    return with_function(__func__, handle, [&](Function& function) {
        if (!value) return INVALID_VALUE;
        switch (attribute) {
        case MAX_THREADS_PER_BLOCK: return *value = static_cast<int>(function.most_threads), SUCCESS;
        case SHARED_SIZE_BYTES: return *value = static_cast<int>(function.static_shared), SUCCESS;
        case MAX_DYNAMIC_SHARED_SIZE_BYTES: return *value = static_cast<int>(most_dynamic(function)), SUCCESS;
        default: return control.refuse(INVALID_VALUE, "the emulator does not know this attribute of a kernel");
        }
    });
}

EMU_EXPORT Result cuFuncSetAttribute(void* handle, int attribute, int value) {
    return with_function(__func__, handle, [&](Function& function) {
        if (attribute != MAX_DYNAMIC_SHARED_SIZE_BYTES)
            return control.refuse(INVALID_VALUE, "the emulator cannot set this attribute of a kernel");
        if (value < 0 || static_cast<size_t>(value) + function.static_shared > shared_memory::LARGEST_BYTES)
            return INVALID_VALUE;
        function.most_dynamic_shared = static_cast<size_t>(value);
        return SUCCESS;
    });
}

EMU_EXPORT Result cuOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, void* handle, int threads, size_t dynamic) {
    return with_function(__func__, handle, [&](Function& function) {
        if (!blocks || threads <= 0) return INVALID_VALUE;
        size_t by_threads = 2048 / ((static_cast<size_t>(threads) + 31) / 32 * 32);
        size_t shared = dynamic + function.static_shared;
        size_t by_shared = shared ? shared_memory::LARGEST_BYTES / shared : 32;
        bool fits = static_cast<unsigned>(threads) <= function.most_threads && dynamic <= most_dynamic(function);
        *blocks = fits ? static_cast<int>(std::min({by_threads, by_shared, size_t(32)})) : 0;
        return SUCCESS;
    });
}

EMU_EXPORT Result cuLaunchKernel(void* handle, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                                 unsigned block_y, unsigned block_z, unsigned dynamic, void* stream_handle,
                                 void** values, void** extra) {
    return with_function(__func__, handle, [&](Function& function) -> Result {
        auto stream = find_stream(stream_handle);
        if (!stream || stream->context != function.module->context || stream->context != current_context().get())
            return control.refuse(INVALID_HANDLE, "kernel, stream and current context do not belong together");
        if (extra) return control.refuse(NOT_SUPPORTED, "the emulator takes arguments only as kernelParams");
        if (!values && !function.kernel->parameters.empty()) return INVALID_VALUE;
        dim3 grid{grid_x, grid_y, grid_z}, block{block_x, block_y, block_z};
        if (Result refused = check(function, grid, block, dynamic)) return refused;
        Launch launch{function.kernel, grid, block, dynamic, pack(*function.kernel, values)};
        std::weak_ptr<Module> module = function.module;
        int device = stream->context->device;
        return enqueue(*stream, [launch = std::move(launch), module, device]() -> Result {
            if (Result forced = control.enter_launch()) return forced;
            if (module.expired())
                return control.refuse(LAUNCH_FAILED, launch.kernel->name + ": its module was unloaded");
            memory::open(device);
            return run(launch);
        });
    });
}

static Result describe(const char* function, int code, const char** out, bool name) {
    return always(function, [&]() -> Result {
        if (!out) return INVALID_VALUE;
        *out = nullptr;
        switch (code) {
#define EMU_RESULT(number, id, text)                                                                                   \
    case number: *out = !name ? text : number ? "CUDA_ERROR_" #id : "CUDA_" #id; return SUCCESS;
            EMU_RESULTS(EMU_RESULT)
#undef EMU_RESULT
        default: return INVALID_VALUE;
        }
    });
}
EMU_EXPORT Result cuGetErrorName(int code, const char** out) { return describe(__func__, code, out, true); }
EMU_EXPORT Result cuGetErrorString(int code, const char** out) { return describe(__func__, code, out, false); }
