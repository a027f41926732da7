// The shared memory of the running block. It starts as NaN; between arrays lie bytes that must not change.
#pragma once
#include <cstddef>
#include <string>

namespace emu::shared_memory {

constexpr size_t DEFAULT_BYTES = 48 << 10; // of static arrays, and together with dynamic memory unless a kernel opts in
constexpr size_t LARGEST_BYTES = 96 << 10; // of both

/// Before a launch: how much dynamic memory each block has.
void reserve_dynamic(size_t bytes);
void begin_block();
/// What was written outside of an array, or nothing.
std::string end_block();

/// The array that belongs to this declaration; the same for all threads of a block.
void* array(const void* declaration, size_t bytes, size_t alignment);
/// Whether the address is in shared memory, or just behind it.
bool contains(const void* address);
/// The dynamic memory; behind it nothing can be touched.
void* dynamic();

} // namespace emu::shared_memory
