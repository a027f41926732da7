// The driver's functions for memory: allocations, copies, fills.
#include "capture.h"
#include "driver.h"
#include <cstring>

using namespace emu;

namespace {

/// A copy or fill checks its device addresses when it is called, and again when it runs.
char* still_there(DevicePointer place, size_t size) {
    char* view = memory::host_view(place, size);
    if (!view) control.refuse(ILLEGAL_ADDRESS, "a queued copy or fill finds its memory freed");
    return view;
}

Result no_such_memory(const char* what) {
    return control.refuse(INVALID_VALUE, std::string("the ") + what + " is not in one live allocation");
}

Result upload(DevicePointer to, const void* from, size_t size, Stream& stream) {
    if (!size) return SUCCESS;
    if (!from) return INVALID_VALUE;
    if (!memory::find(to, size)) return no_such_memory("destination");
    auto copy = [to, size](const void* source) {
        char* view = still_there(to, size);
        return view ? (memcpy(view, source, size), SUCCESS) : ILLEGAL_ADDRESS;
    };
    if (memory::pinned(from) || stream.capture) return enqueue(stream, [=] { return copy(from); });
    auto bytes = static_cast<const char*>(from); // pageable: the driver takes it away at once
    auto staged = std::make_shared<std::vector<char>>(bytes, bytes + size);
    return enqueue(stream, [=] { return copy(staged->data()); });
}

Result download(void* to, DevicePointer from, size_t size, Stream& stream) {
    if (!size) return SUCCESS;
    if (!to) return INVALID_VALUE;
    if (!memory::find(from, size)) return no_such_memory("source");
    Result failed = enqueue(stream, [=] {
        char* view = still_there(from, size);
        return view ? (memcpy(to, view, size), SUCCESS) : ILLEGAL_ADDRESS;
    });
    // Pageable memory is there when the call returns.
    return failed || memory::pinned(to) || stream.capture ? failed : finish(stream);
}

Result copy(DevicePointer to, DevicePointer from, size_t size, Stream& stream) {
    if (!size) return SUCCESS;
    if (!memory::find(to, size)) return no_such_memory("destination");
    if (!memory::find(from, size)) return no_such_memory("source");
    return enqueue(stream, [=] {
        char *target = still_there(to, size), *source = still_there(from, size);
        return target && source ? (memmove(target, source, size), SUCCESS) : ILLEGAL_ADDRESS;
    });
}

template <class T> Result fill(DevicePointer to, T value, size_t count, Stream& stream) {
    if (!count) return SUCCESS;
    size_t size = count * sizeof(T);
    if (to % sizeof(T) || size / sizeof(T) != count) return INVALID_VALUE;
    if (!memory::find(to, size)) return no_such_memory("destination");
    return enqueue(stream, [=] {
        char* view = still_there(to, size);
        if (!view) return ILLEGAL_ADDRESS;
        for (size_t i = 0; i < count; i++) memcpy(view + i * sizeof(T), &value, sizeof(T));
        return SUCCESS;
    });
}

/// A function of the driver that works in a stream.
template <class Body> Result in_stream(const char* function, void* handle, Body body) {
    return in_context(function, [&](Context&) -> Result {
        auto stream = find_stream(handle);
        return stream ? body(*stream) : INVALID_HANDLE;
    });
}

/// One that works in the legacy stream and may wait for it.
template <class Body> Result at_once(const char* function, Body body) {
    return in_context(function, [&](Context& context) -> Result {
        Result refused = refuse_while_capturing();
        return refused ? refused : body(*context.legacy);
    });
}

} // namespace

EMU_EXPORT Result cuMemAlloc_v2(DevicePointer* out, size_t size) {
    return in_context(__func__, [&](Context& context) {
        Result refused = refuse_while_capturing();
        return refused ? refused : memory::allocate(context, size, false, out);
    });
}

EMU_EXPORT Result cuMemAllocManaged(DevicePointer* out, size_t size, unsigned) {
    return in_context(__func__, [&](Context& context) {
        Result refused = refuse_while_capturing();
        return refused ? refused : memory::allocate(context, size, true, out);
    });
}

EMU_EXPORT Result cuMemFree_v2(DevicePointer start) {
    return in_context(__func__, [&](Context& context) -> Result {
        if (Result refused = refuse_while_capturing()) return refused;
        if (!start) return SUCCESS;
        if (Result failed = finish(context)) return failed; // the driver waits for the device, too
        return memory::release(start);
    });
}

EMU_EXPORT Result cuMemGetInfo_v2(size_t* available, size_t* total) {
    return in_context(__func__, [&](Context&) {
        if (!available || !total) return INVALID_VALUE;
        *total = memory::total_bytes();
        *available = *total - memory::live_bytes();
        return SUCCESS;
    });
}

static Result allocate_host(const char* function, void** out, size_t size) {
    return in_context(function, [&](Context&) {
        Result refused = refuse_while_capturing();
        return refused ? refused : memory::pin(size, out);
    });
}
EMU_EXPORT Result cuMemAllocHost_v2(void** out, size_t size) { return allocate_host(__func__, out, size); }
EMU_EXPORT Result cuMemHostAlloc(void** out, size_t size, unsigned) { return allocate_host(__func__, out, size); }

EMU_EXPORT Result cuMemFreeHost(void* start) {
    return in_context(__func__, [&](Context& context) -> Result {
        if (Result refused = refuse_while_capturing()) return refused;
        if (Result failed = finish(context)) return failed;
        return memory::unpin(start);
    });
}

EMU_EXPORT Result cuMemcpyHtoDAsync_v2(DevicePointer to, const void* from, size_t size, void* stream) {
    return in_stream(__func__, stream, [&](Stream& s) { return upload(to, from, size, s); });
}
EMU_EXPORT Result cuMemcpyDtoHAsync_v2(void* to, DevicePointer from, size_t size, void* stream) {
    return in_stream(__func__, stream, [&](Stream& s) { return download(to, from, size, s); });
}
EMU_EXPORT Result cuMemcpyDtoDAsync_v2(DevicePointer to, DevicePointer from, size_t size, void* stream) {
    return in_stream(__func__, stream, [&](Stream& s) { return copy(to, from, size, s); });
}
EMU_EXPORT Result cuMemsetD8Async(DevicePointer to, unsigned char value, size_t count, void* stream) {
    return in_stream(__func__, stream, [&](Stream& s) { return fill(to, value, count, s); });
}
EMU_EXPORT Result cuMemsetD32Async(DevicePointer to, unsigned value, size_t count, void* stream) {
    return in_stream(__func__, stream, [&](Stream& s) { return fill(to, value, count, s); });
}

EMU_EXPORT Result cuMemcpyHtoD_v2(DevicePointer to, const void* from, size_t size) {
    return at_once(__func__, [&](Stream& legacy) {
        Result failed = upload(to, from, size, legacy);
        return failed ? failed : finish(legacy);
    });
}
EMU_EXPORT Result cuMemcpyDtoH_v2(void* to, DevicePointer from, size_t size) {
    return at_once(__func__, [&](Stream& legacy) {
        Result failed = download(to, from, size, legacy);
        return failed ? failed : finish(legacy);
    });
}
EMU_EXPORT Result cuMemcpyDtoD_v2(DevicePointer to, DevicePointer from, size_t size) {
    return at_once(__func__, [&](Stream& legacy) { return copy(to, from, size, legacy); }); // does not wait
}
EMU_EXPORT Result cuMemsetD8_v2(DevicePointer to, unsigned char value, size_t count) {
    return at_once(__func__, [&](Stream& legacy) { return fill(to, value, count, legacy); }); // nor this
}

EMU_EXPORT Result cuPointerGetAttribute(void* out, int attribute, DevicePointer address) {
    return in_context(__func__, [&](Context& current) -> Result {
        enum { CONTEXT = 1, MEMORY_TYPE, DEVICE_POINTER, IS_MANAGED = 8, DEVICE_ORDINAL, RANGE_START = 11, RANGE_SIZE };
        enum { HOST = 1, DEVICE };
        if (!out) return INVALID_VALUE;
        if (memory::pinned(reinterpret_cast<void*>(address))) switch (attribute) {
            case MEMORY_TYPE: return *static_cast<unsigned*>(out) = HOST, SUCCESS;
            case IS_MANAGED: return *static_cast<int*>(out) = 0, SUCCESS;
            case DEVICE_ORDINAL: return *static_cast<int*>(out) = current.device, SUCCESS;
            }
        const memory::Allocation* found = memory::find(address);
        if (!found) return control.refuse(INVALID_VALUE, "the pointer is to no live allocation of the driver's");
        switch (attribute) {
        case CONTEXT:
            for (const auto& [handle, context] : objects.contexts.all())
                if (context.get() == found->context) *static_cast<void**>(out) = handle;
            return SUCCESS;
        case MEMORY_TYPE: // where managed memory happens to be; nobody should build on it
            return *static_cast<unsigned*>(out) = found->managed ? HOST : DEVICE, SUCCESS;
        case DEVICE_POINTER: return *static_cast<DevicePointer*>(out) = address, SUCCESS;
        case IS_MANAGED: return *static_cast<int*>(out) = found->managed, SUCCESS;
        case DEVICE_ORDINAL: return *static_cast<int*>(out) = found->context->device, SUCCESS;
        case RANGE_START: return *static_cast<DevicePointer*>(out) = found->start, SUCCESS;
        case RANGE_SIZE: return *static_cast<size_t*>(out) = found->size, SUCCESS;
        default: return control.refuse(INVALID_VALUE, "the emulator does not know this attribute of a pointer");
        }
    });
}
