// The average θ̄ of a parameter, or of its master: average.rs, operation by operation. Where it begins it is θ, rounded to
// nearest; what an update adds to one of bfloat16 is rounded stochastically.
#pragma once
#include "passes.cuh"

// Float64 for float64 tensors, for others as the options say.
template <class A> __device__ inline u32 average_type(const World& w) {
    return sizeof(A) == 8 ? (u32)F64 : w.average_dtype == BF16 ? (u32)BF16 : (u32)F32;
}

// That of a piece's chunk, and how it follows the parameter: for shared memory, as ChunkOperands.
template <class A> struct ChunkAverage {
    u64 address;
    u64 key; // of stochastic rounding
    A share; // 1/N
    u32 type;
    u32 begins;    // in this step
    u32 displaced; // Σ g·(θ − θ̄) is wanted

    __device__ ChunkAverage() {}
    __device__ ChunkAverage(const World& w, const Piece& piece)
        : key(average_key(w.coefficients[piece.tensor].key)), share((A)w.settings->average_share),
          type(average_type<A>(w)), begins(w.init_average[piece.tensor]), displaced(w.displacement_slots != 0) {
        address = Operand(w.averages[piece.tensor], type, piece.start).address;
    }

    __device__ Operand elements() const { return Operand(address, type); }

    // What it begins with.
    template <int N> __device__ inline void begin(A (&average)[N], const A (&ps)[N]) const {
#pragma unroll
        for (int i = 0; i < N; i++) average[i] = type == BF16 ? (A)bf16_widen(bf16_round((float)ps[i])) : ps[i];
    }

    // Follows the new parameters, from the `at`-th of the chunk, the `element`-th of the tensor, on.
    template <int N>
    __device__ inline void follow(A (&average)[N], const A (&ps)[N], u32 at, u64 element) const {
#pragma unroll
        for (int i = 0; i < N; i++) average[i] = average[i] + (ps[i] - average[i]) * share;
        if (type == BF16) {
            u32 random[N];
            random_bits<N>(key, element, FOR_PARAM, random);
            write_halves(elements(), at, average, [&](int i, float x) { return bf16_round_stochastic(x, random[i]); });
        } else {
            write(elements(), at, average);
        }
    }
};

// Makes a piece's averages what the parameters are, or the model's where their masters are just being initialised.
template <class A, int N>
__device__ inline void init_averages(const World& w, const Tensor& t, const Piece& piece, bool from_model) {
    Weights p = Weights::of_chunk(t, w.params[piece.tensor], piece.start);
    Operand average(w.averages[piece.tensor], average_type<A>(w), piece.start);
    for_each_pack<A, N>(piece, [&](u32 at) {
        A ps[N];
        p.load(ps, at, from_model);
        if (average.type == BF16)
            write_halves(average, at, ps, [](int, float x) { return bf16_round(x); });
        else
            write(average, at, ps);
    });
}
