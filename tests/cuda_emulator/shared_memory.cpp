#include "shared_memory.h"
#include "block.h"
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sys/mman.h>
#include <vector>

namespace emu::shared_memory {
namespace {

constexpr size_t PAGE = 4 << 10;
constexpr size_t GAP = 64;
constexpr size_t STATIC = 2 * DEFAULT_BYTES; // with the gaps
constexpr size_t DYNAMIC = LARGEST_BYTES;
constexpr unsigned char POISON = 0xff; // a NaN in every float type

struct Array {
    const void* declaration;
    size_t offset, bytes;
};
std::vector<Array> arrays;
size_t used, declared, dynamic_bytes;

/// Static arrays from the bottom; a guard page; dynamic memory, which ends before another one.
unsigned char* memory() {
    static unsigned char* const base = [] {
        constexpr size_t size = STATIC + PAGE + DYNAMIC + PAGE;
        void* all = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (all == MAP_FAILED) {
            perror("cuda emulator: shared memory");
            abort();
        }
        auto* bytes = static_cast<unsigned char*>(all);
        mprotect(bytes + STATIC, PAGE, PROT_NONE);
        mprotect(bytes + size - PAGE, PAGE, PROT_NONE);
        memset(bytes, POISON, STATIC);
        return bytes;
    }();
    return base;
}

} // namespace

void reserve_dynamic(size_t bytes) { dynamic_bytes = bytes; }

void begin_block() {
    memset(memory(), POISON, used);
    arrays.clear();
    used = declared = 0;
    if (dynamic_bytes) memset(dynamic(), POISON, dynamic_bytes);
}

std::string end_block() {
    size_t gap = 0;
    for (const Array& array : arrays) {
        for (; gap < array.offset; gap++)
            if (memory()[gap] != POISON) break;
        if (gap < array.offset) break;
        gap = array.offset + array.bytes;
    }
    while (gap < used && memory()[gap] == POISON) gap++;
    if (gap >= used) return "";
    used = STATIC; // all of it is poisoned again
    return "a write outside of a shared array";
}

void* array(const void* declaration, size_t bytes, size_t alignment) {
    for (const Array& known : arrays)
        if (known.declaration == declaration) return memory() + known.offset;
    declared += bytes;
    if (declared + dynamic_bytes > LARGEST_BYTES || declared > DEFAULT_BYTES) fail("too much shared memory");
    size_t offset = (used + GAP + alignment - 1) / alignment * alignment;
    if (offset + bytes + GAP > STATIC) fail("too many shared arrays for the emulator");
    arrays.push_back({declaration, offset, bytes});
    used = offset + bytes + GAP;
    return memory() + offset;
}

bool contains(const void* address) {
    auto* place = static_cast<const unsigned char*>(address);
    return place >= memory() && place < memory() + STATIC + PAGE + DYNAMIC + PAGE;
}

void* dynamic() { return memory() + STATIC + PAGE + DYNAMIC - (dynamic_bytes + 15) / 16 * 16; }

} // namespace emu::shared_memory
