// bfloat16 and float16 as bits: widening, rounding to nearest, stochastic rounding. half.rs, operation by operation.
#pragma once
#include "number.cuh"

#define SIGN 0x80000000u
#define INFINITE 0x7F800000u

__device__ inline bool is_nan(float x) { return (bits_of(x) & ~SIGN) > INFINITE; }

__device__ inline float bf16_widen(u16 bits) { return float_of((u32)bits << 16); }
// Adds `carry` below the upper half and cuts it off. To a NaN nothing may be carried.
__device__ inline u16 bf16_cut(float x, u32 carry) {
    u32 rounded = (bits_of(x) + (is_nan(x) ? 0u : carry)) >> 16;
    return (u16)(rounded | (is_nan(x) ? 0x40u : 0u));
}
__device__ inline u16 bf16_round(float x) { return bf16_cut(x, 0x7FFFu + ((bits_of(x) >> 16) & 1u)); }
__device__ inline u16 bf16_round_stochastic(float x, u32 random) { return bf16_cut(x, random); }
__device__ inline u16 bf16_from_master(float x) { return bf16_cut(x, 0x8000u); }

// A float32 master in 2 + 2 bytes: its bfloat16 copy and a remainder.
__device__ inline u16 remainder_of(float master) {
    return is_nan(master) ? (u16)0 : (u16)(bits_of(master) & 0xFFFFu);
}
__device__ inline float join(u16 copy, u16 remainder) {
    u32 with_sign = (u32)remainder - (((u32)remainder & 0x8000u) << 1);
    return float_of(((u32)copy << 16) + with_sign);
}

#define F16_SMALLEST_NORMAL 0x38800000u
#define F16_TOO_LARGE 0x47800000u

__device__ inline float f16_widen(u16 half) {
    u32 bits = half, magnitude = (bits & 0x7FFFu) << 13;
    u32 normal = magnitude + (112u << 23);
    u32 special = (magnitude + (224u << 23)) | (magnitude > 0x0F800000u ? 0x00400000u : 0u);
    u32 subnormal = bits_of(float_of(magnitude + F16_SMALLEST_NORMAL) - float_of(F16_SMALLEST_NORMAL));
    u32 finite = magnitude < 0x00800000u ? subnormal : normal;
    return float_of((magnitude >= 0x0F800000u ? special : finite) | ((bits & 0x8000u) << 16));
}
__device__ inline u32 f16_cut(u32 magnitude, u32 carry) {
    u32 rounded = ((magnitude + carry) >> 13) - (112u << 10);
    u32 large = magnitude > INFINITE ? 0x7E00u | ((magnitude >> 13) & 0x3FFu) : 0x7C00u;
    return magnitude >= F16_TOO_LARGE ? large : rounded;
}
__device__ inline u16 f16_signed(float x, u32 magnitude) { return (u16)(magnitude | ((bits_of(x) & SIGN) >> 16)); }
__device__ inline u16 f16_round(float x) {
    u32 magnitude = bits_of(x) & ~SIGN;
    u32 normal = f16_cut(magnitude, 0xFFFu + ((magnitude >> 13) & 1u));
    u32 subnormal = bits_of(float_of(magnitude) + 0.5f) - bits_of(0.5f);
    return f16_signed(x, magnitude < F16_SMALLEST_NORMAL ? subnormal : normal);
}
__device__ inline u16 f16_round_stochastic(float x, u32 random) {
    u32 magnitude = bits_of(x) & ~SIGN;
    u32 normal = f16_cut(magnitude, random >> 3);
    bool tiny = magnitude < F16_SMALLEST_NORMAL;
    float units = float_of(tiny ? magnitude : 0u) * 16777216.0f;
    int whole = (int)units;
    int rest = (int)((units - (float)whole) * 65536.0f);
    u32 subnormal = (u32)whole + (rest + (int)random > 0xFFFF ? 1u : 0u);
    return f16_signed(x, tiny ? subnormal : normal);
}

// By type, BF16 or F16.

__device__ inline bool is_half(u32 type) { return type >= BF16; }
__device__ inline float widen_half(u16 bits, u32 type) { return type == BF16 ? bf16_widen(bits) : f16_widen(bits); }
__device__ inline u16 round_half(float x, u32 type) { return type == BF16 ? bf16_round(x) : f16_round(x); }
__device__ inline u16 half_from_master(float x, u32 type) { return type == BF16 ? bf16_from_master(x) : f16_round(x); }
__device__ inline u16 round_half_stochastic(float x, u32 random, u32 type) {
    return type == BF16 ? bf16_round_stochastic(x, random) : f16_round_stochastic(x, random);
}
