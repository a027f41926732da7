// maw_update: AdamW on parameter and moments, and into slots the sums of the state that it leaves. Averages follow in the
// same pass, by kernels of their own.
#pragma once
#include "adamw.cuh"
#include "average.cuh"

// Where a chunk's operands lie, and its coefficients, for shared memory: in registers they would leave too few for the
// elements.
template <class A> struct ChunkOperands {
    u64 model, master, g, m, v;
    u64 element; // of the whole tensor, the first
    Scalars<A> scalars;

    __device__ ChunkOperands() {}
    __device__ ChunkOperands(const World& w, const Tensor& t, const Piece& piece)
        : scalars(w.coefficients[piece.tensor], is_exact(t, w.coefficients[piece.tensor])) {
        Weights p = Weights::of_chunk(t, w.params[piece.tensor], piece.start);
        Moments moments = Moments::of_chunk(t, piece.start);
        model = p.model.address;
        master = p.master.address;
        g = Operand(w.grads[piece.tensor], t.grad_dtype, piece.start).address;
        m = moments.m.address;
        v = moments.v.address;
        COMPILER_BARRIER; // so that its offset is in no register before
        element = w.tensors[piece.tensor].offset + piece.start;
    }
};

// WANTED: how many sums of what it leaves: none, Σ θ², Σ m² and Σ v², or also the zeros of m and Σ g·m of the effective
// gradient with the new m. AVERAGES: 1 where there are averages; with sums, the last is then Σ g·(θ − θ̄) of the host's
// gradient before the update.
template <int WANTED, int AVERAGES> struct Update {
    enum { SUMS = WANTED > 0 ? WANTED + AVERAGES : 1, LOOPS = WANTED <= 3 ? 2 : 1 };

    __device__ bool wants(const World& w, u32 tensor) const {
        return w.coefficients[tensor].active != 0 || begins(w, tensor);
    }
    // Masters or averages that begin do so element by element, once in a run.
    __device__ bool begins(const World& w, u32 tensor) const {
        return w.init_master[tensor] != 0 || (AVERAGES && w.init_average[tensor] != 0);
    }
    __device__ bool is_aligned(const World& w, const Tensor& t, u32 tensor) const {
        return is_pack_aligned(w.params[tensor], t.dtype) && is_pack_aligned(w.grads[tensor], t.grad_dtype) &&
               !begins(w, tensor);
    }
    __device__ bool sums() const { return WANTED > 0; }
    __device__ void put(const World& w, u32 chunk, const double (&sums)[SUMS]) const {
        if (!w.coefficients[w.chunk_tensor[chunk]].active) return; // something of it began, no more
        for (int k = 0; k < WANTED; k++) w.state_slots[(u64)chunk * STATE_SUMS + k] = sums[k % SUMS];
        if (AVERAGES && w.displacement_slots) w.displacement_slots[chunk] = sums[SUMS - 1];
    }
    template <class A, int N>
    __device__ inline void load(const ChunkOperands<A>& chunk, const ChunkAverage<A>& average, const Tensor& t, u32 at,
                                bool from_model, A (&ps)[N], A (&gs)[N], A (&ms)[N], A (&vs)[N], A (&as)[N]) const {
        Weights p(t, chunk.model, chunk.master);
        Operand g(chunk.g, t.grad_dtype);
        Moments moments(t, chunk.m, chunk.v);
        Bits p_bits = {}, remainder = {}, a_bits = {};
        p.template fetch_both<A, N>(at, from_model, p_bits, remainder);
        Bits g_bits = fetch<A, N>(g, at);
        Bits m_bits = fetch<A, N>(moments.m, at), v_bits = fetch<A, N>(moments.v, at);
        if (AVERAGES) a_bits = fetch<A, N>(average.elements(), at);
        p.values_of(p_bits, remainder, from_model, ps);
        values(g_bits, g.type, gs);
        values(m_bits, moments.m.type, ms);
        values(v_bits, moments.v.type, vs);
        if (AVERAGES) values(a_bits, average.type, as);
        if (AVERAGES && N == 1 && average.begins) average.begin(as, ps);
    }
    template <class A, int N>
    __device__ inline void run(const World& w, const Tensor& t, const Piece& piece, double (&sums)[SUMS]) const {
        bool from_model = N == 1 && w.init_master[piece.tensor] != 0;
        bool begins_average = AVERAGES && N == 1 && w.init_average[piece.tensor] != 0;
        if ((from_model || begins_average) && !w.coefficients[piece.tensor].active) {
            if (from_model) init_masters<A, N>(Weights::of_chunk(t, w.params[piece.tensor], piece.start), piece);
            if (begins_average) init_averages<A, N>(w, t, piece, from_model);
            return;
        }
        SHARED_ARRAY(ChunkOperands<A>, shared, 1);
        SHARED_ARRAY(ChunkAverage<A>, averages, 1);
        __syncthreads();
        if (threadIdx.x == 0) shared[0] = ChunkOperands<A>(w, t, piece);
        if (AVERAGES && threadIdx.x == 0) averages[0] = ChunkAverage<A>(w, piece);
        __syncthreads();
        u32 zeros = 0;
        for_each_pack<A, N>(piece, [&](u32 at) {
            const ChunkOperands<A>& chunk = shared[0];
            const ChunkAverage<A>& average = averages[0];
            const Scalars<A>& s = chunk.scalars;
            A ps[N], gs[N], ms[N], vs[N], as[N];
            COMPILER_BARRIER;
            load(chunk, average, t, at, from_model, ps, gs, ms, vs, as);
            COMPILER_BARRIER;
            if (AVERAGES && WANTED > 0 && average.displaced) {
#pragma unroll
                for (int i = 0; i < N; i++) sums[SUMS - 1] += (double)gs[i] * (double)(ps[i] - as[i]);
            }
            bool exact = is_long(t) || s.exact; // the first is known when this is compiled
#pragma unroll
            for (int i = 0; i < N; i++) s.moments(gs[i], ms[i], vs[i], exact);
#pragma unroll
            for (int i = 0; i < N; i++) ps[i] = s.param(ps[i], s.ratio(ms[i], vs[i]), exact);
            COMPILER_BARRIER;
            Moments(t, chunk.m, chunk.v).store(ms, vs, at, s.key, chunk.element + at);
            if (WANTED > 0) {
                add_squares(ms, sums[1 % SUMS]);
                add_squares(vs, sums[2 % SUMS]);
            }
            if (WANTED > 3) {
                zeros += count_zeros(ms);
#pragma unroll
                for (int i = 0; i < N; i++) sums[4 % SUMS] += (double)gs[i] * (double)ms[i];
            }
            COMPILER_BARRIER;
            Weights(t, chunk.model, chunk.master).store(ps, at, s.key, chunk.element + at);
            if (WANTED > 0) add_squares(ps, sums[0]);
            if (AVERAGES) average.follow(as, ps, at, chunk.element + at);
        });
        if (WANTED > 3) sums[3 % SUMS] += zeros;
    }
};

// At most 64 registers, for 1024 threads on a multiprocessor: scripts/ptxas.py.
extern "C" __global__ void __launch_bounds__(BLOCK, 4) maw_update(const World* arguments) {
    if (arguments->state->apply) over_chunks(*arguments, Update<3, 0>());
}

// The same for `enhanced` features and for `reference`.
extern "C" __global__ void __launch_bounds__(BLOCK, 4) maw_update_counting(const World* arguments) {
    if (arguments->state->apply) over_chunks(*arguments, Update<5, 0>());
}

// The same without sums, where nothing is checked and no feature wants them.
extern "C" __global__ void __launch_bounds__(BLOCK, 4) maw_update_unseen(const World* arguments) {
    if (arguments->state->apply) over_chunks(*arguments, Update<0, 0>());
}

// The three with averages: at most 80 registers, for 768 threads on a multiprocessor.

extern "C" __global__ void __launch_bounds__(BLOCK, 3) maw_update_averaging(const World* arguments) {
    if (arguments->state->apply) over_chunks(*arguments, Update<3, 1>());
}

extern "C" __global__ void __launch_bounds__(BLOCK, 3) maw_update_averaging_counting(const World* arguments) {
    if (arguments->state->apply) over_chunks(*arguments, Update<5, 1>());
}

extern "C" __global__ void __launch_bounds__(BLOCK, 3) maw_update_averaging_unseen(const World* arguments) {
    if (arguments->state->apply) over_chunks(*arguments, Update<0, 1>());
}
