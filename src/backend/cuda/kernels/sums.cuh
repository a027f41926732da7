// Sums in a fixed order: over a thread's elements, a warp, a block, the chunks of a tensor.
#pragma once
#include "abi.cuh"

#define WARP 32
#define FULL_MASK 0xffffffffu
#define WARPS (BLOCK / WARP)
#define DECIDER_WARPS (DECIDER / WARP)

#ifndef SHARED_ARRAY // the emulator has its own
#define SHARED_ARRAY(T, name, n) __shared__ T name[n]
#endif

// Whether a tensor has a gradient in this step, on whatever process.
__device__ inline bool has_gradient(const World& w, u32 tensor) {
    return w.reduction ? w.votes[tensor] != 0.0 : w.grads[tensor] != 0;
}

// One definition, so that carried sums have the bits of recomputed ones.
template <int N, class A> __device__ inline void add_squares(const A (&x)[N], double& sum) {
#pragma unroll
    for (int i = 0; i < N; i++) sum += (double)x[i] * (double)x[i];
}

template <int N, class A> __device__ inline u32 count_zeros(const A (&x)[N]) {
    u32 zeros = 0;
#pragma unroll
    for (int i = 0; i < N; i++) zeros += x[i] == A(0);
    return zeros;
}

// The same in every lane.
__device__ inline double warp_sum(double v) {
#pragma unroll 1
    for (int d = WARP / 2; d > 0; d /= 2) v += __shfl_xor_sync(FULL_MASK, v, d);
    return v;
}

// sum + the numbers of the first `count` lanes, in their order; the same in every lane.
__device__ inline double add_in_order(double sum, double v, u32 count) {
#pragma unroll 1
    for (u32 lane = 0; lane < count; lane++) sum += __shfl_sync(FULL_MASK, v, lane);
    return sum;
}

// The sums over a block of BLOCK threads, in the first thread. `shared`: N × WARPS.
template <int N> __device__ inline void block_sums(double (&v)[N], double* shared) {
    u32 lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
#pragma unroll
    for (int k = 0; k < N; k++) {
        double sum = warp_sum(v[k]);
        if (lane == 0) shared[k * WARPS + warp] = sum;
    }
    __syncthreads();
    if (warp == 0) {
#pragma unroll
        for (int k = 0; k < N; k++) v[k] = warp_sum(lane < WARPS ? shared[k * WARPS + lane] : 0.0);
    }
    __syncthreads(); // before anyone writes to `shared` again
}

// The least over the block, in every thread. `shared`: DECIDER_WARPS.
__device__ u32 block_min(u32 v, u32* shared) {
    for (int d = WARP / 2; d > 0; d /= 2) {
        u32 other = __shfl_xor_sync(FULL_MASK, v, d);
        v = other < v ? other : v;
    }
    __syncthreads();
    if (threadIdx.x % WARP == 0) shared[threadIdx.x / WARP] = v;
    __syncthreads();
#pragma unroll 1
    for (u32 i = 0; i < DECIDER_WARPS; i++) v = shared[i] < v ? shared[i] : v;
    return v;
}

// Tensors with more chunks than this are added up by the whole block, the others by a warp each.
#define MANY_CHUNKS 512

// Sums of all chunks → totals of tensors, `WIDTH` of `STRIDE` numbers each, in one block of DECIDER threads. `shared`:
// WIDTH × DECIDER_WARPS.
template <int WIDTH, int STRIDE>
__device__ void total_up(const World& w, const double* slots, double* totals, double* shared) {
    u32 lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    for (u32 tensor = warp; tensor < w.tensor_count; tensor += DECIDER_WARPS) {
        const Tensor& t = w.tensors[tensor];
        if (t.sums > MANY_CHUNKS) continue;
        double sums[WIDTH] = {};
        for (u32 i = lane; i < t.sums; i += WARP)
            for (int k = 0; k < WIDTH; k++) sums[k] += slots[(u64)(t.first_sum + i) * STRIDE + k];
        for (int k = 0; k < WIDTH; k++) {
            double sum = warp_sum(sums[k]);
            if (lane == 0) totals[(u64)tensor * STRIDE + k] = sum;
        }
    }
    for (u32 tensor = 0; tensor < w.tensor_count; tensor++) {
        const Tensor& t = w.tensors[tensor];
        if (t.sums <= MANY_CHUNKS) continue; // the whole block
        double sums[WIDTH] = {};
        for (u32 i = threadIdx.x; i < t.sums; i += DECIDER)
            for (int k = 0; k < WIDTH; k++) sums[k] += slots[(u64)(t.first_sum + i) * STRIDE + k];
        for (int k = 0; k < WIDTH; k++) {
            double sum = warp_sum(sums[k]);
            if (lane == 0) shared[k * DECIDER_WARPS + warp] = sum;
        }
        __syncthreads();
        if (threadIdx.x < WIDTH) {
            double sum = 0.0;
#pragma unroll 1
            for (u32 i = 0; i < DECIDER_WARPS; i++) sum += shared[threadIdx.x * DECIDER_WARPS + i];
            totals[(u64)tensor * STRIDE + threadIdx.x] = sum;
        }
        __syncthreads();
    }
}
