// Statistics of tensors → features of groups → tokens of the attention module (stats.rs, features.rs), in one block of
// DECIDER threads.
#pragma once
#include "math.cuh"
#include "sums.cuh"

__device__ inline double norm_floor(double x) { return x < 1e-8 ? 1e-8 : x; }

// ln(max(10²⁰·x, 1)).
__device__ inline double ln_norm(double norm) {
    double scaled = 1e20 * norm;
    if (scaled < 1.0) return 0.0;
    return is_finite(scaled) ? logarithm(scaled) : scaled; // no feature
}

// Totals → statistics of each tensor, of the effective gradient; of norm_log, the logarithms of norms.
__device__ inline void fill_statistics(const World& w, double factor) {
    for (u32 i = threadIdx.x; i < w.tensor_count; i += DECIDER) {
        const double* gradient = w.gradient_totals + (u64)i * GRADIENT_SUMS;
        const double* state = w.state_totals + (u64)i * STATE_SUMS;
        double* out = w.statistics + (u64)i * STATISTICS;
        u64 numel = w.tensors[i].whole_numel;
        bool has = has_gradient(w, i);
        double g = has ? sqrt(gradient[0] * factor * factor) : 0.0, m = sqrt(state[1]);
        double product = has ? gradient[1] * factor : 0.0;
        out[0] = g;
        out[1] = m;
        out[2] = sqrt(state[0]);
        out[3] = product / (norm_floor(g) * norm_floor(m));
        out[4] = sqrt(state[2]);
        out[5] = numel == 0 ? 0.0 : (has ? gradient[2] : (double)numel) / (double)numel;
        out[6] = numel == 0 ? 0.0 : state[3] / (double)numel;
        if (w.version == NORM_LOG) {
#pragma unroll 1
            for (u32 k = 0; k < 5; k++)
                if (k != 3) out[k] = ln_norm(out[k]); // the cosine stays
        }
    }
    __syncthreads();
}

// Mean and variance (divisor N) over a group's tensors, in every lane of a warp.
__device__ void mean_and_variance(const u32* members, u32 count, const double* values, u32 stride, double& mean,
                                  double& variance) {
    u32 lane = threadIdx.x % WARP;
    double sum = -0.0, squares = -0.0; // the sum of nothing on the host
    for (u32 start = 0; start < count; start += WARP) {
        u32 here = count - start < WARP ? count - start : WARP;
        double value = lane < here ? values[(u64)members[start + lane] * stride] : 0.0;
        sum = add_in_order(sum, value, here);
    }
    mean = sum / count;
    for (u32 start = 0; start < count; start += WARP) {
        u32 here = count - start < WARP ? count - start : WARP;
        double d = lane < here ? values[(u64)members[start + lane] * stride] - mean : 0.0;
        squares = add_in_order(squares, d * d, here);
    }
    variance = squares / count;
}

// The columns before standardisation and gating, into next_features.
__device__ void fill_features(const World& w, double time) {
    u32 lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, dim = w.dim;
    bool enhanced = w.version == ENHANCED, plus = w.version == BASIC_PLUS || w.version == NORM_BASIC_PLUS;
    const double* embeddings = w.phi + w.layers * ((u64)4 * dim * dim + 2 * dim * w.hidden + 9 * dim + w.hidden) +
                               OUTPUTS * dim + OUTPUTS;
    // What no statistic fills.
    for (u32 i = threadIdx.x; i < w.group_count * dim; i += DECIDER) {
        u32 group = i / dim, column = i % dim, behind = dim - w.embed_dim;
        if (column < w.statistical_columns) continue;
        double value = 0.0;
        if (w.include_time && column == w.statistical_columns) value = time;
        if (column >= behind) value = embeddings[(u64)group * w.embed_dim + column - behind];
        w.next_features[i] = value;
    }
    // Of `enhanced`: which statistic, and whether its variance follows.
    u32 tasks = enhanced ? 7 : w.basic_columns;
    for (u32 i = warp; i < w.group_count * tasks; i += DECIDER_WARPS) {
        u32 group = i / tasks, task = i % tasks;
        const u32* members = w.group_tensors + w.group_first[group];
        u32 count = w.group_first[group + 1] - w.group_first[group];
        double mean, variance;
        if (enhanced && task >= 4)
            mean_and_variance(members, count, w.fixed_features + (task - 4), 3, mean, variance);
        else
            mean_and_variance(members, count, w.statistics + (enhanced && task >= 2 ? task + 3 : task), STATISTICS,
                              mean, variance);
        if (lane == 0) {
            double* row = w.next_features + (u64)group * dim;
            if (!enhanced) {
                row[task] = mean;
                if (plus) row[w.basic_columns + task] = sqrt(variance);
            } else if (task < 2) {
                row[2 * task] = mean;
                row[2 * task + 1] = variance;
            } else {
                row[task + 2] = mean;
            }
        }
    }
    __syncthreads();
}

// next_features → what the encoder reads: standardised where the version says so, and gated.
__device__ void make_tokens(const World& w, double* tokens) {
    u32 groups = w.group_count, dim = w.dim;
    bool norm = w.version >= NORM_BASIC;
    const double* gates = w.phi + w.layers * ((u64)4 * dim * dim + 2 * dim * w.hidden + 9 * dim + w.hidden) +
                          OUTPUTS * dim + OUTPUTS + (u64)groups * w.embed_dim;
    for (u32 column = threadIdx.x; column < dim; column += DECIDER) {
        double mean = 0.0, deviation = 0.0;
        bool standardise = norm && column < w.statistical_columns;
        if (standardise) {
            double sum = -0.0, squares = -0.0;
#pragma unroll 1
            for (u32 g = 0; g < groups; g++) sum += w.next_features[(u64)g * dim + column];
            mean = sum / groups;
#pragma unroll 1
            for (u32 g = 0; g < groups; g++) {
                double d = w.next_features[(u64)g * dim + column] - mean;
                squares += d * d;
            }
            deviation = groups > 1 ? sqrt(squares / (groups - 1)) : 0.0;
        }
        double gate = w.gates ? sigmoid(gates[column]) : 1.0;
#pragma unroll 1
        for (u32 g = 0; g < groups; g++) {
            double x = w.next_features[(u64)g * dim + column];
            if (standardise) x = groups > 1 ? (x - mean) / (deviation + 1e-8) : 0.0;
            tokens[(u64)g * dim + column] = w.gates ? x * gate : x;
        }
    }
    __syncthreads();
}
