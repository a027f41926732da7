// The AdamW rule on one element: adamw.rs, operation by operation.
#pragma once
#include "half.cuh"

// Whether gradients and moments have float32's precision or more.
__device__ inline bool is_long(const Tensor& t) {
    return t.dtype == F64 || (!is_half(t.grad_dtype) && !is_half(t.moment_dtype));
}

// The same, or whether averages keep less than half of what they were.
__device__ inline bool is_exact(const Tensor& t, const Coefficients& c) {
    return is_long(t) || c.beta1 < 0.5 || c.beta2 < 0.5;
}

// A tensor's coefficients in its arithmetic; each rounded at most once.
template <class A> struct Scalars {
    double beta1, one_minus_beta1;
    A beta2, one_minus_beta2, eps, step_size;
    A decay; // if not exact, over the step size: by itself it may be less than θ's last place
    A gradient;
    bool exact;
    u64 key;

    __device__ Scalars() {}
    __device__ Scalars(const Coefficients& c, bool exact)
        : beta1(c.beta1), one_minus_beta1(1.0 - c.beta1), beta2((A)c.beta2), one_minus_beta2((A)(1.0 - c.beta2)),
          eps((A)c.eps), step_size((A)c.step_size),
          decay((A)(exact || c.step_size == 0.0 ? c.decay : c.decay / c.step_size)), gradient((A)c.gradient),
          exact(exact), key(c.key) {}

    // An exact m is rounded once: its cosine with g is a feature, and small differences of it decide there. Else averages
    // move towards g and g², which is half the operations, and loses what is left of one that keeps next to nothing. g
    // becomes the effective gradient.
    __device__ inline void moments(A& g, A& m, A& v, bool exact) const {
        g = g * gradient;
        m = exact ? (A)(beta1 * (double)m + one_minus_beta1 * (double)g) : fused(-(A)one_minus_beta1, m - g, m);
        v = exact ? beta2 * v + one_minus_beta2 * (g * g) : fused(-one_minus_beta2, fused(-g, g, v), v);
        m = normal_or_zero(m);
        v = normal_or_zero(v);
    }
    __device__ inline A ratio(A m, A v) const { return m / (root(v) + eps); }
    __device__ inline A param(A p, A ratio, bool exact) const {
        return exact ? p - (step_size * ratio + decay * p) : fused(-step_size, fused(decay, p, ratio), p);
    }
};
