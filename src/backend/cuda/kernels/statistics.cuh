// maw_statistics: chunks → slots, the sums of the gradients and of the state.
#pragma once
#include "passes.cuh"

struct Gradients {
    enum { SUMS = GRADIENT_SUMS, LOOPS = 2 };
    u32 momentum;

    __device__ bool wants(const World& w, u32 tensor) const { return w.grads[tensor] != 0; }
    __device__ bool is_aligned(const World& w, const Tensor& t, u32 tensor) const {
        return is_pack_aligned(w.grads[tensor], t.grad_dtype);
    }
    __device__ bool sums() const { return true; }
    __device__ void put(const World& w, u32 chunk, const double (&sums)[SUMS]) const {
        for (int k = 0; k < SUMS; k++) w.gradient_slots[(u64)chunk * SUMS + k] = sums[k];
    }
    template <class A, int N>
    __device__ inline void run(const World& w, const Tensor& t, const Piece& piece, double (&sums)[SUMS]) const {
        Operand g(w.grads[piece.tensor], t.grad_dtype, piece.start);
        Operand m(t.exp_avg, t.moment_dtype, piece.start);
        u32 counted = w.count_zeros, with = momentum, zeros = 0;
        for_each_pack<A, N>(piece, [&](u32 at) {
            A gs[N], ms[N] = {};
            Bits g_bits = fetch<A, N>(g, at), m_bits = {};
            if (with) m_bits = fetch<A, N>(m, at);
            values(g_bits, g.type, gs);
            if (with) values(m_bits, m.type, ms);
#pragma unroll
            for (int i = 0; i < N; i++) {
                sums[0] += (double)gs[i] * (double)gs[i];
                if (with) sums[1] += (double)gs[i] * (double)ms[i];
            }
            if (counted) zeros += count_zeros(gs);
        });
        sums[2] += zeros;
    }
};

struct StateOf {
    enum { SUMS = 4, LOOPS = 1 };
    u32 flags;

    __device__ bool wants(const World&, u32) const { return true; }
    __device__ bool is_aligned(const World& w, const Tensor& t, u32 tensor) const {
        return is_pack_aligned(w.params[tensor], t.dtype);
    }
    __device__ bool sums() const { return true; }
    __device__ void put(const World& w, u32 chunk, const double (&sums)[SUMS]) const {
        double* slot = w.state_slots + (u64)chunk * STATE_SUMS;
        if (w.kept_state_slots && w.state->sums_current)
            for (int k = 0; k < SUMS; k++) w.kept_state_slots[(u64)chunk * STATE_SUMS + k] = slot[k];
        for (int k = 0; k < SUMS; k++) slot[k] = sums[k];
    }
    template <class A, int N>
    __device__ inline void run(const World& w, const Tensor& t, const Piece& piece, double (&sums)[SUMS]) const {
        Weights p = Weights::of_chunk(t, w.params[piece.tensor], piece.start);
        Moments moments = Moments::of_chunk(t, piece.start);
        bool from_model = is_from_model(w, piece.tensor, flags);
        u32 counted = w.count_zeros, zeros = 0;
        for_each_pack<A, N>(piece, [&](u32 at) {
            A ps[N], ms[N], vs[N];
            Bits p_bits = {}, remainder = {};
            p.template fetch_both<A, N>(at, from_model, p_bits, remainder);
            Bits m_bits = fetch<A, N>(moments.m, at), v_bits = fetch<A, N>(moments.v, at);
            p.values_of(p_bits, remainder, from_model, ps);
            values(m_bits, moments.m.type, ms);
            values(v_bits, moments.v.type, vs);
            add_squares(ps, sums[0]);
            add_squares(ms, sums[1]);
            add_squares(vs, sums[2]);
            if (counted) zeros += count_zeros(ms);
        });
        sums[3] += zeros;
    }
};

extern "C" __global__ void __launch_bounds__(BLOCK) maw_statistics(const World* arguments, u32 flags) {
    const World& w = *arguments;
    if (flags & GRADIENTS) {
        Gradients work;
        work.momentum = flags & MOMENTUM;
        over_chunks(w, work);
    }
    if (wants_state(w, flags)) {
        StateOf work;
        work.flags = flags;
        over_chunks(w, work);
    }
}
