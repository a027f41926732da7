// Kernels that are there to test the emulator.
typedef unsigned int u32;
typedef unsigned long long u64;

extern "C" {

// What kernels may do.

__global__ void fill(u32* out, u32 n, u32 value) {
    u32 i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) out[i] = value;
}

__global__ void add_one(u32* counter) { *counter += 1; }

__global__ void last_block(u32* out) { *out = blockIdx.x; }

__global__ void coordinates(u32* out) {
    u32 block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
    u32 thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
    u32 i = block * (blockDim.x * blockDim.y * blockDim.z) + thread;
    out[i] = i;
}

__global__ void reverse(const u32* in, u32* out) {
    SHARED_ARRAY(u32, staged, 256);
    staged[threadIdx.x] = in[threadIdx.x];
    __syncthreads();
    out[threadIdx.x] = staged[blockDim.x - 1 - threadIdx.x];
}

__global__ void reverse_dynamic(u32* inout) {
    DYNAMIC_SHARED(u32, staged);
    staged[threadIdx.x] = inout[threadIdx.x];
    __syncthreads();
    inout[threadIdx.x] = staged[blockDim.x - 1 - threadIdx.x];
}

// 8 numbers a thread.
__global__ void warp_operations(int* out) {
    int lane = threadIdx.x & 31, i = 8 * threadIdx.x;
    out[i] = __shfl_sync(~0u, lane, 5);
    out[i + 1] = __shfl_sync(~0u, lane, 5, 8);
    out[i + 2] = __shfl_up_sync(~0u, lane, 3, 16);
    out[i + 3] = __shfl_down_sync(~0u, lane, 3, 16);
    out[i + 4] = __shfl_xor_sync(~0u, lane, 9);
    out[i + 5] = (int)__ballot_sync(~0u, lane % 3 == 0);
    out[i + 6] = __any_sync(~0u, lane == 7) + 2 * __any_sync(~0u, lane == 99);
    out[i + 7] = __all_sync(~0u, lane < 32) + 2 * __all_sync(~0u, lane < 31);
}

// The halves of a warp meet apart, not equally often, and then together.
__global__ void partial_masks(double* out) {
    int lane = threadIdx.x & 31;
    double v = lane;
    if (lane < 16) {
        for (int d = 8; d > 0; d >>= 1) v += __shfl_xor_sync(0xffffu, v, d);
    } else {
        v = __shfl_sync(0xffff0000u, v, 31);
    }
    out[threadIdx.x] = v + __shfl_xor_sync(~0u, v, 16);
}

__global__ void atomics(u32* sums, float* real) {
    atomicAdd(&sums[0], threadIdx.x);
    atomicMax(&sums[1], threadIdx.x);
    atomicMin(&sums[2], threadIdx.x + 1);
    atomicOr(&sums[3], 1u << (threadIdx.x & 31));
    atomicCAS(&sums[4], threadIdx.x, threadIdx.x + 1);
    atomicInc(&sums[5], 2);
    atomicAdd(real, 0.5f);
}

struct Pair {
    double real;
    u32 whole;
};
__global__ void arguments(Pair pair, float single, const u32* const* table, double2* out) {
    out[threadIdx.x] = make_double2(pair.real + single, pair.whole + table[1][threadIdx.x]);
}

// What is wrong with them.

__global__ void read(const float* in, float* out, long long i) { out[0] = in[i]; }
__global__ void write(u32* out, long long i) { out[i] = 0; }

__global__ void shared_not_written(double* out) {
    SHARED_ARRAY(double, staged, 4);
    out[threadIdx.x] = staged[threadIdx.x];
}

__global__ void shared_overrun(u32 i) {
    SHARED_ARRAY(u32, a, 4);
    SHARED_ARRAY(u32, b, 4);
    a[i] = 1;
    b[0] = 2;
}

__global__ void dynamic_overrun(u32 i) {
    DYNAMIC_SHARED(u32, a);
    a[i] = 1;
}

// The second half of each warp waits for the first, which waits at a barrier for the second.
__global__ void deadlock() {
    if ((threadIdx.x & 31) < 16) {
        __syncthreads();
    } else {
        __syncwarp();
    }
}

__global__ void full_mask() { __syncwarp(); }

__global__ void outside_mask() { __syncwarp(0xffffu); }

__global__ void exits_early() {
    if (threadIdx.x == 31) return;
    __syncwarp();
}

__global__ void different_operations(int* out) {
    if (threadIdx.x & 1) {
        out[threadIdx.x] = __shfl_xor_sync(~0u, 1, 1);
    } else {
        out[threadIdx.x] = (int)__ballot_sync(~0u, 1);
    }
}

__global__ void different_barriers() {
    if (threadIdx.x < 32) {
        __syncthreads();
    } else {
        __syncthreads();
    }
}

__global__ void outside_mask_value(double* out) {
    double v = threadIdx.x;
    if (threadIdx.x < 16) out[threadIdx.x] = __shfl_sync(0xffffu, v, 20);
}

__global__ void divide(int* inout) { inout[0] = inout[1] / inout[0]; }

__global__ void large_frame(u32* out) {
    volatile u32 frame[32768];
    for (u32 i = 0; i < 32768; i++) frame[i] = i;
    out[0] = frame[out[0] & 32767];
}

} // extern "C"

// A sum over a grid as the project's kernels have it, and with mistakes. Each must be found by an order of threads.

enum Mistake {
    NONE,
    NO_BARRIER,
    NO_SECOND_BARRIER,
    SHORT_TAIL,
    LONG_TAIL,
    COUNTER_KEPT,
    WRONG_LAST,
    NO_FENCE,
    DIVERGENT_SHUFFLE,
    NO_SYNCWARP
};

template <Mistake mistake> __device__ void sum_of(const double* in, u32 n, double* partial, u32* arrived, double* out) {
    SHARED_ARRAY(double, warps, 8);
    SHARED_ARRAY(double, lanes, 256);
    SHARED_ARRAY(u32, last, 1);
    u32 lane = threadIdx.x & 31, warp = threadIdx.x >> 5, end = n;
    if (mistake == SHORT_TAIL) end = n - 1;
    if (mistake == LONG_TAIL) end = n + 1;
    double v = 0;
    for (u32 i = blockIdx.x * 256 + threadIdx.x; i < end; i += gridDim.x * 256) v += in[i];
    for (u32 round = 0; round < 2; round++) {
        // Neighbours by shared memory, the rest by shuffles.
        lanes[threadIdx.x] = v;
        if (mistake != NO_SYNCWARP) __syncwarp();
        v += lanes[threadIdx.x ^ 1];
        __syncwarp();
        if (mistake == DIVERGENT_SHUFFLE) {
            if (lane < 16) v += __shfl_down_sync(~0u, v, 2);
        } else {
            v += __shfl_down_sync(~0u, v, 2);
        }
        for (u32 d = 4; d < 32; d *= 2) v += __shfl_down_sync(~0u, v, d);
        if (lane == 0) warps[warp] = v;
        if (mistake != NO_BARRIER) __syncthreads();
        if (threadIdx.x == 0) {
            v = 0;
            for (u32 i = 0; i < 8; i++) v += warps[i];
            if (round == 1) {
                *out = v;
                if (mistake != COUNTER_KEPT) *arrived = 0;
            } else {
                partial[blockIdx.x] = v;
                if (mistake != NO_FENCE) __threadfence();
                u32 before = atomicAdd(arrived, 1u);
                last[0] = mistake == WRONG_LAST ? blockIdx.x == gridDim.x - 1 : before == gridDim.x - 1;
            }
        }
        if (mistake != NO_SECOND_BARRIER) __syncthreads();
        if (!last[0]) return;
        v = threadIdx.x < gridDim.x ? partial[threadIdx.x] : 0;
    }
}

#define SUM(name, mistake)                                                                                             \
    extern "C" __global__ void __launch_bounds__(256) name(const double* in, u32 n, double* partial, u32* arrived,     \
                                                           double* out) {                                              \
        sum_of<mistake>(in, n, partial, arrived, out);                                                                 \
    }
SUM(sum, NONE)
SUM(sum_no_barrier, NO_BARRIER)
SUM(sum_no_second_barrier, NO_SECOND_BARRIER)
SUM(sum_short_tail, SHORT_TAIL)
SUM(sum_long_tail, LONG_TAIL)
SUM(sum_counter_kept, COUNTER_KEPT)
SUM(sum_wrong_last, WRONG_LAST)
SUM(sum_no_fence, NO_FENCE)
SUM(sum_divergent_shuffle, DIVERGENT_SHUFFLE)
SUM(sum_no_syncwarp, NO_SYNCWARP)
