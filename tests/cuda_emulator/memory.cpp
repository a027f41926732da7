#include "memory.h"
#include "context.h"
#include "settings.h"
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <map>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

namespace emu::memory {
namespace {

constexpr size_t PAGE = 4 << 10;
constexpr unsigned char POISON = 0xff; // a NaN in every float type

int file = -1;
char *device_range, *driver_view;
size_t span, next_page;
std::map<DevicePointer, Allocation> allocations;
std::map<const char*, size_t> pinned_blocks;
int opened = -1;

char* map(int protection) {
    void* range = mmap(nullptr, span, protection, MAP_SHARED | MAP_NORESERVE, file, 0);
    if (range == MAP_FAILED) {
        perror("cuda emulator: addresses for the device (see CUDA_EMULATOR_SPAN_MB)");
        abort();
    }
    return static_cast<char*>(range);
}

DevicePointer page_address(size_t page) { return reinterpret_cast<DevicePointer>(device_range + page * PAGE); }
char* view(DevicePointer address) { return driver_view + (address - reinterpret_cast<DevicePointer>(device_range)); }

void protect(const Allocation& allocation, int protection) {
    if (mprotect(device_range + allocation.first_page * PAGE, allocation.pages * PAGE, protection)) {
        perror("cuda emulator: protection of device memory (each allocation needs two of vm.max_map_count)");
        abort();
    }
}

bool poisoned(const char* from, const char* to) {
    while (from < to && static_cast<unsigned char>(*from) == POISON) from++;
    return from == to;
}

void give_back(const Allocation& allocation) {
    protect(allocation, PROT_NONE);
    fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(allocation.first_page * PAGE),
              static_cast<off_t>(allocation.pages * PAGE));
}

/// Files larger than the limit end the program by a signal, without a word.
void check_file_limit() {
    rlimit limit;
    if (getrlimit(RLIMIT_FSIZE, &limit) || limit.rlim_cur == RLIM_INFINITY || limit.rlim_cur >= span) return;
    fprintf(stderr,
            "cuda emulator: the memory file needs %zu MB, the limit for files (ulimit -f) is %zu MB; raise it, or set "
            "CUDA_EMULATOR_SPAN_MB\n",
            span >> 20, static_cast<size_t>(limit.rlim_cur) >> 20);
    abort();
}

std::string bytes_of(const Allocation& allocation) {
    return "the " + std::to_string(allocation.size) + " bytes at " + std::to_string(allocation.start);
}

} // namespace

void set_up() {
    span = static_cast<size_t>(setting("SPAN_MB", 65536)) << 20;
    check_file_limit();
    file = memfd_create("cuda emulator", MFD_CLOEXEC);
    if (file < 0 || ftruncate(file, static_cast<off_t>(span))) {
        perror("cuda emulator: memory file");
        abort();
    }
    device_range = map(PROT_NONE);
    driver_view = map(PROT_READ | PROT_WRITE);
}

Result allocate(Context& context, size_t size, bool managed, DevicePointer* out) {
    if (!out || !size) return INVALID_VALUE;
    if (size > total_bytes() - live_bytes()) return OUT_OF_MEMORY;
    // 256 as the driver has it; fewer bring the end nearer to the closed page.
    static const auto alignment = static_cast<size_t>(setting("ALIGNMENT", 256));
    size_t rounded = (size + alignment - 1) / alignment * alignment, pages = (rounded + PAGE - 1) / PAGE;
    if ((next_page + pages + 2) * PAGE > span) return OUT_OF_MEMORY; // all addresses were given out once
    size_t first = next_page + 1;
    next_page = first + pages;
    DevicePointer start = page_address(first + pages) - rounded;
    memset(view(page_address(first)), POISON, pages * PAGE);
    allocations[start] = {start, size, first, pages, &context, managed};
    if (managed) protect(allocations[start], PROT_READ | PROT_WRITE);
    *out = start;
    return SUCCESS;
}

Result release(DevicePointer start) {
    auto found = allocations.find(start);
    if (found == allocations.end()) return INVALID_VALUE;
    give_back(found->second);
    allocations.erase(found);
    return SUCCESS;
}

void release_all(const Context& context) {
    for (auto at = allocations.begin(); at != allocations.end();)
        if (at->second.context == &context) {
            give_back(at->second);
            at = allocations.erase(at);
        } else {
            ++at;
        }
}

const Allocation* find(DevicePointer start, size_t size) {
    auto after = allocations.upper_bound(start);
    if (after == allocations.begin()) return nullptr;
    const Allocation& allocation = std::prev(after)->second;
    size_t offset = start - allocation.start;
    return offset < allocation.size && size <= allocation.size - offset ? &allocation : nullptr;
}

char* host_view(DevicePointer start, size_t size) { return find(start, size) ? view(start) : nullptr; }

void open(int device) {
    if (opened == device) return;
    close();
    for (const auto& [start, allocation] : allocations)
        if (allocation.context->device == device) protect(allocation, PROT_READ | PROT_WRITE);
    opened = device;
}

void close() {
    if (opened < 0) return;
    for (const auto& [start, allocation] : allocations)
        if (allocation.context->device == opened && !allocation.managed) protect(allocation, PROT_NONE);
    opened = -1;
}

std::string trampled() {
    for (const auto& [start, allocation] : allocations) {
        if (allocation.context->device != opened) continue;
        const char *data = view(start), *page = view(page_address(allocation.first_page));
        bool before = poisoned(page, data);
        if (before && poisoned(data + allocation.size, page + allocation.pages * PAGE)) continue;
        memset(view(page_address(allocation.first_page)), POISON, static_cast<size_t>(data - page));
        memset(view(start + allocation.size), POISON,
               allocation.pages * PAGE - static_cast<size_t>(data - page) - allocation.size);
        return std::string("a write ") + (before ? "past the end of " : "before ") + bytes_of(allocation);
    }
    return "";
}

bool contains(const void* address) {
    const char* place = static_cast<const char*>(address);
    return device_range && place >= device_range && place < device_range + span;
}

std::string describe(const void* address) {
    auto place = reinterpret_cast<DevicePointer>(address);
    std::string text = "address " + std::to_string(place);
    if (!contains(address)) return text + ", which is no device memory";
    auto after = allocations.upper_bound(place);
    const Allocation* before = after == allocations.begin() ? nullptr : &std::prev(after)->second;
    DevicePointer closed = before ? page_address(before->first_page + before->pages) : 0; // the page behind it
    if (place < closed) return text + ", in " + bytes_of(*before);
    if (place < closed + PAGE && before) {
        auto distance = std::to_string(place - before->start - before->size);
        return text + ", " + distance + " bytes past the end of " + bytes_of(*before);
    }
    if (after != allocations.end() && place >= page_address(after->second.first_page - 1))
        return text + ", " + std::to_string(after->second.start - place) + " bytes before " + bytes_of(after->second);
    return text + ", which is in no live allocation";
}

size_t live_allocations() { return allocations.size(); }

size_t live_bytes() {
    size_t sum = 0;
    for (const auto& [start, allocation] : allocations) sum += allocation.size;
    return sum;
}

size_t total_bytes() { return static_cast<size_t>(setting("MEMORY_MB", 2048)) << 20; }

Result pin(size_t size, void** out) {
    if (!out || !size) return INVALID_VALUE;
    void* block = aligned_alloc(PAGE, (size + PAGE - 1) / PAGE * PAGE);
    if (!block) return OUT_OF_MEMORY;
    memset(block, POISON, size);
    pinned_blocks[static_cast<char*>(block)] = size;
    *out = block;
    return SUCCESS;
}

Result unpin(void* start) {
    if (!pinned_blocks.erase(static_cast<char*>(start))) return INVALID_VALUE;
    free(start);
    return SUCCESS;
}

bool pinned(const void* address) {
    const char* place = static_cast<const char*>(address);
    auto after = pinned_blocks.upper_bound(place);
    if (after == pinned_blocks.begin()) return false;
    const auto& [start, size] = *std::prev(after);
    return place < start + size;
}

size_t live_pinned() { return pinned_blocks.size(); }

} // namespace emu::memory
