// Exponentials, logarithms, the logistic function and powers: math.rs, operation by operation.
#pragma once
#include "number.cuh"

// x = n ln 2 + r.
__device__ inline u64 reduce(double x, double& r) {
    const double magic = 6755399441055744.0;
    const double ln2_high = double_of(0x3FE62E42FEE00000ull), ln2_low = 1.9082149292705877e-10;
    double shifted = x * 1.4426950408889634 + magic;
    double n = shifted - magic;
    r = (x - n * ln2_high) - n * ln2_low;
    return (u64)__double_as_longlong(shifted) - (u64)__double_as_longlong(magic);
}

__device__ inline double exp_near_zero(double r) {
    double r2 = r * r, r4 = r2 * r2, r8 = r4 * r4;
    double q0 = (0.5000000000000001 + 0.16666666666666669 * r) + (0.041666666666624164 + 0.008333333333330065 * r) * r2;
    double q4 = (0.0013888888917196736 + 0.00019841269863040559 * r) +
                (2.480152132234228e-5 + 2.7557268480289716e-6 * r) * r2;
    double q8 = 2.7620075892548164e-7 + 2.51003758422237e-8 * r;
    return 1.0 + (r + r2 * (q0 + q4 * r4 + q8 * r8));
}

__device__ inline double power_of_two(u64 n) { return double_of((n + 1023) << 52); }

// eˣ.
__device__ __noinline__ double exponential(double x) {
    double r;
    x = x < -746.0 ? -746.0 : x;
    x = x > 710.0 ? 710.0 : x;
    u64 n = reduce(x, r), half = ((n + 2048) >> 1) - 1024;
    return exp_near_zero(r) * power_of_two(half) * power_of_two(n - half);
}

// 2ˣ for x ≤ 0.
__device__ __noinline__ double exp2_of_negative(double x) {
    const double magic = 6755399441055744.0;
    x = x < -1021.0 ? -1021.0 : x;
    double shifted = x + magic;
    double f = x - (shifted - magic);
    double f2 = f * f, f4 = f2 * f2, f8 = f4 * f4;
    double p0 = (0.6931471805599516 + 0.24022650695910472 * f) + (0.05550410866434658 + 0.009618129107380712 * f) * f2;
    double p4 = (0.0013333558246480897 + 0.00015403530800821882 * f) +
                (1.5252647747584307e-5 + 1.3215235632510224e-6 * f) * f2;
    double p8 = 1.0210506481451753e-7 + 7.111759146587492e-9 * f;
    u64 n = (u64)__double_as_longlong(shifted) - (u64)__double_as_longlong(magic);
    return (1.0 + f * (p0 + p4 * f4 + p8 * f8)) * power_of_two(n);
}

__device__ __noinline__ double sigmoid(double x) { return 1.0 / (1.0 + exponential(-x)); }

// ln x of a positive finite number.
__device__ __noinline__ double logarithm(double x) {
    const double ln2_high = double_of(0x3FE62E42FEE00000ull), ln2_low = 1.9082149292705877e-10;
    double exponent = 0.0;
    if (x < 2.2250738585072014e-308) {
        x *= 18014398509481984.0; // 2⁵⁴
        exponent = -54.0;
    }
    exponent += (double)((int)(bits_of(x) >> 52) - 1023);
    double fraction = double_of((bits_of(x) & 0xFFFFFFFFFFFFFull) | 0x3FF0000000000000ull);
    if (!(fraction < 1.4142135623730951)) {
        fraction = 0.5 * fraction;
        exponent += 1.0;
    }
    double f = fraction - 1.0, s = f / (2.0 + f), z = s * s, series = 0.0;
#pragma unroll
    for (int k = 11; k >= 1; k--) series = (series + 2.0 / (2 * k + 1)) * z;
    double half_square = 0.5 * f * f;
    return exponent * ln2_high - ((half_square - (s * (half_square + series) + exponent * ln2_low)) - f);
}

// xⁿ.
__device__ __noinline__ double power(double x, u64 n) {
    double result = 1.0, square = x;
    for (;;) {
        if (n & 1) result *= square;
        n >>= 1;
        if (n == 0) return result;
        square *= square;
    }
}
