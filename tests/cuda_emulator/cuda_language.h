// What kernels.cu finds when the host's compiler reads it instead of CUDA's: the qualifiers, built-in variables and
// functions of CUDA C++. A function that is missing here is a compile error; those whose results differ between devices
// and the host (__expf, rsqrtf, …) are left out on purpose.
//
// One concession is asked of kernels: shared memory is declared by
//     SHARED_ARRAY(T, name, n);   on the device  __shared__ T name[n]
//     DYNAMIC_SHARED(T, name);    on the device  extern __shared__ T name[]   (aligned to 16 bytes)
#pragma once
#include "block.h"
#include "watch.h"
#include "shared_memory.h"
#include <cstring>
#include <math.h>
#include <type_traits>

#ifndef EMU_LISTING // the build lists the kernels by this word
#define __global__
#endif
#define __device__
#define __host__
#define __constant__ static const
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __align__(n) alignas(n)
#define __launch_bounds__(...)

#define SHARED_ARRAY(T, name, n)                                                                                       \
    static const char emu_declaration_of_##name = 0;                                                                   \
    T* const name = static_cast<T*>(emu::shared_memory::array(&emu_declaration_of_##name, sizeof(T) * (n), alignof(T)))
#define DYNAMIC_SHARED(T, name) T* const name = static_cast<T*>(emu::shared_memory::dynamic())

#define threadIdx (emu::current->index)
#define blockIdx (emu::block_index)
#define blockDim (emu::block_size)
#define gridDim (emu::grid_size)
constexpr int warpSize = 32;

// Barriers and fences. Threads run one at a time: a fence matters only where accesses are watched.

inline void __syncthreads(int line = __builtin_LINE()) { emu::synchronize_block(line); }
inline void __threadfence() { emu::watch::fence(); }
inline void __threadfence_system() { emu::watch::fence(); }
inline void __threadfence_block() {}

// Warp operations.

namespace emu {

template <class T> uint64_t to_bits(T value) {
    static_assert(sizeof(T) <= 8 && std::is_arithmetic<T>::value, "shuffles take numbers of up to 8 bytes");
    uint64_t bits = 0;
    memcpy(&bits, &value, sizeof value);
    return bits;
}

/// The value that the lane `source` brought. Of a lane outside the mask it is undefined: all ones, a NaN.
template <class T> T shuffle(unsigned mask, T value, int source, WarpOperation operation, int line) {
    Meeting& meeting = meet(mask, to_bits(value), operation, line);
    uint64_t bits = mask >> source & 1 ? meeting.values[source] : ~uint64_t(0);
    leave(meeting);
    memcpy(&value, &bits, sizeof value);
    return value;
}

/// The first lane of the current one's segment.
inline int segment(int width) { return static_cast<int>(current->lane) & ~(width - 1); }

} // namespace emu

inline void __syncwarp(unsigned mask = ~0u, int line = __builtin_LINE()) {
    emu::leave(emu::meet(mask, 0, emu::WarpOperation::Synchronize, line));
}

inline unsigned __ballot_sync(unsigned mask, int predicate, int line = __builtin_LINE()) {
    emu::Meeting& meeting = emu::meet(mask, predicate != 0, emu::WarpOperation::Ballot, line);
    unsigned votes = 0;
    for (int lane = 0; lane < 32; lane++)
        if (mask >> lane & 1 && meeting.values[lane]) votes |= 1u << lane;
    emu::leave(meeting);
    return votes;
}
inline int __any_sync(unsigned mask, int predicate, int line = __builtin_LINE()) {
    return __ballot_sync(mask, predicate, line) != 0;
}
inline int __all_sync(unsigned mask, int predicate, int line = __builtin_LINE()) {
    return __ballot_sync(mask, predicate, line) == mask;
}

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, int line = __builtin_LINE()) {
    int lane = emu::segment(width) + (source & (width - 1));
    return emu::shuffle(mask, value, lane, emu::WarpOperation::Shuffle, line);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, int line = __builtin_LINE()) {
    int lane = static_cast<int>(emu::current->lane - delta);
    if (lane < emu::segment(width)) lane = static_cast<int>(emu::current->lane);
    return emu::shuffle(mask, value, lane, emu::WarpOperation::ShuffleUp, line);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, int line = __builtin_LINE()) {
    int lane = static_cast<int>(emu::current->lane + delta);
    if (lane >= emu::segment(width) + width) lane = static_cast<int>(emu::current->lane);
    return emu::shuffle(mask, value, lane, emu::WarpOperation::ShuffleDown, line);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, int line = __builtin_LINE()) {
    int lane = static_cast<int>(emu::current->lane) ^ bits;
    if (lane >= emu::segment(width) + width) lane = static_cast<int>(emu::current->lane);
    return emu::shuffle(mask, value, lane & 31, emu::WarpOperation::ShuffleXor, line);
}

// Atomics. Threads run one at a time, so plain code is atomic.

namespace emu {
template <class T> struct Exactly { using type = T; }; // keeps T from being deduced from this argument
template <class T, class F> __attribute__((no_sanitize("thread"))) T replace(T* place, F f) {
    watch::atomic(place, sizeof(T));
    T old = *place;
    *place = f(old);
    return old;
}
} // namespace emu

#define EMU_ATOMIC(name, expression)                                                                                   \
    template <class T> T name(T* place, typename emu::Exactly<T>::type value) {                                        \
        return emu::replace(place, [=](T old) -> T { return expression; });                                            \
    }
EMU_ATOMIC(atomicAdd, old + value)
EMU_ATOMIC(atomicSub, old - value)
EMU_ATOMIC(atomicMax, old < value ? value : old)
EMU_ATOMIC(atomicMin, value < old ? value : old)
EMU_ATOMIC(atomicAnd, old & value)
EMU_ATOMIC(atomicOr, old | value)
EMU_ATOMIC(atomicXor, old ^ value)
EMU_ATOMIC(atomicInc, old >= value ? 0 : old + 1)
#undef EMU_ATOMIC
template <class T> T atomicExch(T* place, typename emu::Exactly<T>::type value) {
    return emu::replace(place, [=](T) { return value; });
}
template <class T>
T atomicCAS(T* place, typename emu::Exactly<T>::type expected, typename emu::Exactly<T>::type value) {
    return emu::replace(place, [=](T old) { return old == expected ? value : old; });
}

// Numbers.

#define EMU_BITS(name, From, To)                                                                                       \
    inline To name(From value) {                                                                                       \
        static_assert(sizeof(From) == sizeof(To), "a change of type, not of bits");                                    \
        To bits;                                                                                                       \
        memcpy(&bits, &value, sizeof bits);                                                                            \
        return bits;                                                                                                   \
    }
EMU_BITS(__float_as_uint, float, unsigned)
EMU_BITS(__float_as_int, float, int)
EMU_BITS(__uint_as_float, unsigned, float)
EMU_BITS(__int_as_float, int, float)
EMU_BITS(__double_as_longlong, double, long long)
EMU_BITS(__longlong_as_double, long long, double)
#undef EMU_BITS

template <class T> T __ldg(const T* place) { return *place; }
template <class T> void __stwb(T* place, T value) { *place = value; }

inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fsqrt_rn(float a) { return sqrtf(a); }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dsub_rn(double a, double b) { return a - b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __ddiv_rn(double a, double b) { return a / b; }
inline double __dsqrt_rn(double a) { return sqrt(a); }
inline double __fma_rn(double a, double b, double c) { return fma(a, b, c); }
inline float __double2float_rn(double a) { return static_cast<float>(a); }

inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline int __popcll(unsigned long long bits) { return __builtin_popcountll(bits); }
inline int __clz(int bits) { return bits ? __builtin_clz(static_cast<unsigned>(bits)) : 32; }
inline int __clzll(long long bits) { return bits ? __builtin_clzll(static_cast<unsigned long long>(bits)) : 64; }
inline int __ffs(int bits) { return __builtin_ffs(bits); }
inline unsigned __umulhi(unsigned a, unsigned b) { return static_cast<unsigned>(uint64_t(a) * b >> 32); }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    __extension__ typedef unsigned __int128 wide;
    return static_cast<unsigned long long>(wide(a) * b >> 64);
}

template <class A, class B> typename std::common_type<A, B>::type min(A a, B b) {
    using T = typename std::common_type<A, B>::type;
    if constexpr (std::is_floating_point<T>::value) return fmin(T(a), T(b)); // a number, where one is NaN
    return T(b) < T(a) ? T(b) : T(a);
}
template <class A, class B> typename std::common_type<A, B>::type max(A a, B b) {
    using T = typename std::common_type<A, B>::type;
    if constexpr (std::is_floating_point<T>::value) return fmax(T(a), T(b));
    return T(a) < T(b) ? T(b) : T(a);
}
