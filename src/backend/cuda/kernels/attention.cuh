// The attention module, forward alone (layers.rs), in one block of DECIDER threads. G tokens of width D.
//
// Sums are taken in the host's order, so that the host's evaluation of a meta-update and this one have the same bits.
#pragma once
#include "math.cuh"
#include "sums.cuh"

// sum + Σ w x of n numbers.
__device__ double dot(double sum, const double* w, const double* x, u32 n) {
    for (u32 i = 0; i < n; i++) sum += x[i] * w[i];
    return sum;
}

enum After { ADD, RELU, SCALE };

// y = W x + b for each token, W: rows × columns and b behind one another at `phi`; or y += that, or its positive part,
// or its first rows (as many as columns) times `scale`.
template <int AFTER>
__device__ void linear(const double* phi, u32 rows, u32 columns, u32 tokens, const double* x, double* y,
                       double scale = 1.0) {
    const double* bias = phi + (u64)rows * columns;
    for (u32 i = threadIdx.x; i < tokens * rows; i += DECIDER) {
        u32 token = i / rows, row = i % rows;
        double sum = dot(bias[row], phi + (u64)row * columns, x + (u64)token * columns, columns);
        if (AFTER == ADD) sum += y[i];
        if (AFTER == RELU) sum = sum < 0.0 ? 0.0 : sum; // a NaN passes
        if (AFTER == SCALE && row < columns) sum *= scale;
        y[i] = sum;
    }
    __syncthreads();
}

// y = (x − mean)/√(variance + 1e-5) · w + b for each token; w and b behind one another at `phi`.
__device__ void layer_norm(const double* phi, u32 dim, u32 tokens, const double* x, double* y) {
    for (u32 token = threadIdx.x; token < tokens; token += DECIDER) {
        const double* from = x + (u64)token * dim;
        double sum = 0.0, squares = 0.0;
        for (u32 i = 0; i < dim; i++) sum += from[i];
        double mean = sum / dim;
        for (u32 i = 0; i < dim; i++) squares += (from[i] - mean) * (from[i] - mean);
        double inverse = 1.0 / sqrt(squares / dim + 1e-5);
        for (u32 i = 0; i < dim; i++) y[(u64)token * dim + i] = (from[i] - mean) * inverse * phi[i] + phi[dim + i];
    }
    __syncthreads();
}

// Each head's Σⱼ pⱼ vⱼ with p = softmaxⱼ(q · kⱼ ln 2), q already scaled. qkv: G × 3D. `parts` neighbouring lanes share the
// keys of one query: each computes every parts-th weight, and all of them add up all weights.
__device__ void attend(u32 tokens, u32 dim, u32 heads, const double* qkv, double* out) {
    u32 width = dim / heads, tasks = tokens * heads, parts = 1;
    while (parts < WARP && parts * 2 <= tokens && tasks * parts * 2 <= DECIDER) parts *= 2;
    for (u32 base = 0; base < tasks * parts; base += DECIDER) { // as often in every thread
        u32 id = base + threadIdx.x, part = id % parts, first_lane = threadIdx.x % WARP - part;
        bool real = id < tasks * parts;
        u32 task = real ? id / parts : 0, token = task / heads, head = task % heads;
        const double* q = qkv + (u64)token * 3 * dim + head * width;
        const double* k = qkv + dim + head * width;
        const double* v = qkv + 2 * dim + head * width;
        double largest = double_of(0xfff0000000000000ull); // −∞
        for (u32 j = part; j < tokens; j += parts) {
            double score = dot(0.0, k + (u64)j * 3 * dim, q, width);
            if (score > largest) largest = score;
        }
        for (u32 d = 1; d < parts; d *= 2) {
            double other = __shfl_xor_sync(FULL_MASK, largest, d);
            if (other > largest) largest = other;
        }
        // Four columns at a time; wide heads are rare and compute their weights anew for each four.
        for (u32 first = 0; first < width; first += 4) {
            double sum = 0.0, columns[4] = {};
            for (u32 start = 0; start < tokens; start += parts) {
                double own = 0.0;
                if (start + part < tokens) {
                    own = exp2_of_negative(dot(0.0, k + (u64)(start + part) * 3 * dim, q, width) - largest);
                }
                for (u32 p = 0; p < parts && start + p < tokens; p++) {
                    double weight = __shfl_sync(FULL_MASK, own, first_lane + p);
                    const double* value = v + (u64)(start + p) * 3 * dim + first;
                    sum += weight;
                    for (u32 c = 0; c < 4; c++)
                        if (first + c < width) columns[c] += weight * value[c];
                }
            }
            if (real && part == 0)
                for (u32 c = 0; c < 4; c++)
                    if (first + c < width)
                        out[(u64)token * dim + head * width + first + c] = columns[c] * (1.0 / sum);
        }
    }
    __syncthreads();
}

// The encoder. x: G × D tokens, changed in place by every layer; behind it the activations. Answers where Φ goes on.
__device__ const double* encode(const World& w, double* x) {
    u32 tokens = w.group_count, dim = w.dim, hidden = w.hidden;
    double* normed = x + tokens * dim;
    double* heads = normed + tokens * dim;
    double* qkv = heads + tokens * dim;
    double* inner = qkv + tokens * 3 * dim;
    const double* phi = w.phi;
    double scale = 1.0 / sqrt((double)(dim / w.heads)) * 1.4426950408889634; // log₂e/√C
    for (u32 layer = 0; layer < w.layers; layer++) {
        const double* in_proj = phi;
        const double* out_proj = in_proj + 3 * dim * dim + 3 * dim;
        const double* linear1 = out_proj + dim * dim + dim;
        const double* linear2 = linear1 + hidden * dim + hidden;
        const double* norm1 = linear2 + dim * hidden + dim;
        const double* norm2 = norm1 + 2 * dim;
        phi = norm2 + 2 * dim;
        layer_norm(norm1, dim, tokens, x, normed);
        linear<SCALE>(in_proj, 3 * dim, dim, tokens, normed, qkv, scale);
        attend(tokens, dim, w.heads, qkv, heads);
        linear<ADD>(out_proj, dim, dim, tokens, heads, x);
        layer_norm(norm2, dim, tokens, x, normed);
        linear<RELU>(linear1, hidden, dim, tokens, normed, inner);
        linear<ADD>(linear2, dim, hidden, tokens, inner, x);
    }
    return phi;
}
