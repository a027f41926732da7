// Device memory: a range of addresses that only kernels can touch, and pinned host memory.
//
// One memory file is mapped twice. Device addresses are in the first mapping, which is closed to everybody unless a
// kernel runs (but for managed memory); the driver's copies go through the second. Each allocation ends at a page that stays closed, no address
// is given out twice, and fresh memory is NaN.
#pragma once
#include "results.h"
#include <cstddef>
#include <cstdint>
#include <string>

namespace emu {

using DevicePointer = uint64_t; // CUdeviceptr

struct Context;

namespace memory {

struct Allocation {
    DevicePointer start;
    size_t size, first_page, pages;
    Context* context;
    bool managed; // the host may touch it, too
};

void set_up();
Result allocate(Context&, size_t size, bool managed, DevicePointer* out);
/// Of a pointer that is not the start of a live allocation: INVALID_VALUE.
Result release(DevicePointer);
/// Frees all of a context that goes away.
void release_all(const Context&);

/// The live allocation that [start, start + size) lies in, or null.
const Allocation* find(DevicePointer start, size_t size = 1);
/// Where the driver finds [start, start + size), or null if it is not in one live allocation.
char* host_view(DevicePointer start, size_t size);

/// Lets kernels touch the allocations of this device.
void open(int device);
void close();
/// What a kernel wrote beside an allocation of the open device, or nothing.
std::string trampled();
/// Whether the address belongs to the device range.
bool contains(const void* address);
/// Where an address lies, for a message.
std::string describe(const void* address);

size_t live_allocations();
size_t live_bytes();
size_t total_bytes();

/// Pinned host memory.
Result pin(size_t size, void** out);
Result unpin(void* start);
bool pinned(const void* address);
size_t live_pinned();

} // namespace memory
} // namespace emu
