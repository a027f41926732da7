// One float or double: its bits, and operations that both types have under one name.
#pragma once
#include "abi.cuh"

__device__ inline u32 bits_of(float x) { return __float_as_uint(x); }
__device__ inline u64 bits_of(double x) { return (u64)__double_as_longlong(x); }
__device__ inline float float_of(u32 bits) { return __uint_as_float(bits); }
__device__ inline double double_of(u64 bits) { return __longlong_as_double((long long)bits); }

__device__ inline bool is_finite(double x) { return fabs(x) <= 1.7976931348623157e308; }

__device__ inline float root(float x) { return sqrtf(x); }
__device__ inline double root(double x) { return sqrt(x); }
// 0 where x is subnormal: then the bits of its exponent are 0.
__device__ inline float normal_or_zero(float x) {
#ifdef __CUDA_ARCH__
    // An addition that flushes takes neither a predicate nor a register.
    asm("add.ftz.f32 %0, %0, 0f00000000;" : "+f"(x));
    return x;
#else
    return bits_of(x) << 1 < 0x01000000u ? 0.0f : x;
#endif
}
__device__ inline double normal_or_zero(double x) { return bits_of(x) << 1 < 0x0020000000000000ull ? 0.0 : x; }
// a·b + c, rounded once.
__device__ inline float fused(float a, float b, float c) { return __fmaf_rn(a, b, c); }
__device__ inline double fused(double a, double b, double c) { return __fma_rn(a, b, c); }
