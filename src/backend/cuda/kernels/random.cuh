// Random bits for stochastic rounding, a function of the element: stochastic_rounding.rs, operation by operation.
#pragma once
#include "abi.cuh"

// Elements that share a key.
#define SPAN 32768
// What the bits are for: each use has its own.
enum Use { FOR_PARAM = 0, FOR_MOMENTS = 1 }; // and, with average_key, the average

__device__ inline u64 mix(u64 x) {
    x ^= x >> 32;
    x *= 0xD6E8FEB86659FD93ull;
    x ^= x >> 32;
    x *= 0xD6E8FEB86659FD93ull;
    return x ^ (x >> 32);
}

// The key of the average's bits, given the others'.
__device__ inline u64 average_key(u64 key) { return mix(~key); }

// 16 bits for each of N elements from the `element`-th of a tensor on; N is 1, or even and divides `element`.
template <int N> __device__ inline void random_bits(u64 key, u64 element, u64 use, u32 (&out)[N]) {
    const int pair = N == 1 ? 1 : 2;
    u32 first = (u32)mix(key ^ mix((element / SPAN) << 1 | use)), within = (u32)(element % SPAN);
#pragma unroll
    for (int i = 0; i < N; i += pair) {
        u32 x = first + (within + i) / 2 * 0x7FEB352Du;
        x ^= x >> 15;
        x *= 0x846CA68Bu;
        x ^= x >> 16;
        out[i] = x & 0xFFFFu;
        if (N > 1 || within % 2) out[i + pair - 1] = x >> 16;
    }
}
