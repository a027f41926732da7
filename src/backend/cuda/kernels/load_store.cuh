// Elements in whatever type they lie in memory, as values of A, the type that is computed in: double for float64 tensors,
// else float. They are read in two moves, first the bits of all operands, then their values: else each operand's
// conversion would wait for its own memory.
//
// A thread handles a pack at a time, 16 bytes of A. Four float32 or bfloat16 elements, N = 4, are read and written in one
// access of 16 or 8 bytes; what is not aligned, not a whole pack or of other types goes element by element, N = 1. Which
// thread handles an element does not depend on that.
#pragma once
#include "half.cuh"
#include "random.cuh"

// What was read from memory is not kept in registers beyond this line.
#define COMPILER_BARRIER asm volatile("" ::: "memory")

template <class A> struct Pack {
    enum { N = 16 / sizeof(A) };
};
template <class A> struct TypeOf {
    enum { TYPE = sizeof(A) == 8 ? F64 : F32 };
};

// The bits of up to a pack. Elements that are wider than A are here already rounded to A.
struct Bits { u32 v[4]; };

__device__ inline void put_half(Bits& bits, int i, u16 half) {
    bits.v[i / 2] = i % 2 ? (bits.v[i / 2] & 0xFFFFu) | (u32)half << 16 : (bits.v[i / 2] & 0xFFFF0000u) | half;
}
__device__ inline u16 get_half(const Bits& bits, int i) {
    return (u16)(i % 2 ? bits.v[i / 2] >> 16 : bits.v[i / 2] & 0xFFFFu);
}
__device__ inline void put(Bits& bits, int i, float x) { bits.v[i] = bits_of(x); }
__device__ inline void put(Bits& bits, int i, double x) {
    bits.v[2 * i] = (u32)bits_of(x);
    bits.v[2 * i + 1] = (u32)(bits_of(x) >> 32);
}
__device__ inline void get(const Bits& bits, int i, float& x) { x = float_of(bits.v[i]); }
__device__ inline void get(const Bits& bits, int i, double& x) {
    x = double_of((u64)bits.v[2 * i + 1] << 32 | bits.v[2 * i]);
}

__device__ inline u32 size_of(u32 type) { return type == F64 ? 8 : type == F32 ? 4 : 2; }

// Whether packs can be read from there at once.
__device__ inline bool is_pack_aligned(u64 address, u32 type) { return address % (4 * size_of(type)) == 0; }

// Elements in memory.
struct Operand {
    u64 address; // of the chunk's first
    u32 type;

    __device__ Operand(u64 base, u32 type, u64 start = 0) : address(base), type(type) { advance(start); }
    __device__ void advance(u64 start) { address += start * size_of(type); }
    __device__ u64 address_of(u32 at) const { return address + (u64)at * size_of(type); }
};

// N elements from the `at`-th on.
template <class A, int N> __device__ inline Bits fetch(const Operand& o, u32 at) {
    const void* from = (const void*)o.address_of(at);
    Bits bits = {};
    if (N > 1 && o.type == F32) {
        uint4 x = *(const uint4*)from;
        bits.v[0] = x.x, bits.v[1] = x.y, bits.v[2] = x.z, bits.v[3] = x.w;
    } else if (N > 1) {
        uint2 x = *(const uint2*)from;
        bits.v[0] = x.x, bits.v[1] = x.y;
    } else if (o.type == F64) {
        put(bits, 0, (A)*(const double*)from);
    } else {
        bits.v[0] = o.type == F32 ? *(const u32*)from : *(const u16*)from;
    }
    return bits;
}

template <class A, int N> __device__ inline void values(const Bits& bits, u32 type, A (&to)[N]) {
    if (is_half(type)) {
#pragma unroll
        for (int i = 0; i < N; i++) to[i] = (A)widen_half(get_half(bits, i), type);
    } else if (sizeof(A) == 8 && type == F32) {
#pragma unroll
        for (int i = 0; i < N; i++) to[i] = (A)float_of(bits.v[i]);
    } else {
#pragma unroll
        for (int i = 0; i < N; i++) get(bits, i, to[i]);
    }
}

template <class A, int N> __device__ inline void read(A (&to)[N], const Operand& o, u32 at) {
    values(fetch<A, N>(o, at), o.type, to);
}

// Writes bits that are of the operand's type. Of an ordinary assignment the compiler may make four.
template <int N> __device__ inline void write_bits(const Operand& o, u32 at, const Bits& bits) {
    void* to = (void*)o.address_of(at);
    if (N > 1 && o.type == F32) {
        __stwb((uint4*)to, make_uint4(bits.v[0], bits.v[1], bits.v[2], bits.v[3]));
    } else if (N > 1) {
        __stwb((uint2*)to, make_uint2(bits.v[0], bits.v[1]));
    } else if (o.type == F64) {
        *(u64*)to = (u64)bits.v[1] << 32 | bits.v[0];
    } else if (o.type == F32) {
        *(u32*)to = bits.v[0];
    } else {
        *(u16*)to = get_half(bits, 0);
    }
}

template <class A, int N> __device__ inline void write(const Operand& o, u32 at, const A (&from)[N]) {
    Bits bits = {};
#pragma unroll
    for (int i = 0; i < N; i++) put(bits, i, from[i]);
    write_bits<N>(o, at, bits);
}

// Rounds to a 16-bit type, writes, and leaves what was written. ROUND: round(i, float) → bits.
template <class A, int N, class ROUND>
__device__ inline void write_halves(const Operand& o, u32 at, A (&x)[N], ROUND round) {
    Bits bits = {};
#pragma unroll
    for (int i = 0; i < N; i++) {
        u16 half = round(i, (float)x[i]);
        put_half(bits, i, half);
        x[i] = (A)widen_half(half, o.type);
    }
    write_bits<N>(o, at, bits);
}

// A parameter as the model has it, of 16 bits where there are masters or remainders, and those.
struct Weights {
    Operand model, master;
    u32 precision;

    __device__ Weights(const Tensor& t, u64 model, u64 master)
        : model(model, t.dtype), master(master, t.precision == MASTER ? (u32)F32 : t.dtype), precision(t.precision) {}
    __device__ static Weights of_chunk(const Tensor& t, u64 params, u64 start) {
        Weights p(t, params, t.master);
        p.model.advance(start);
        p.master.advance(start);
        return p;
    }

    __device__ bool has_master() const { return precision == MASTER || precision == REMAINDER; }

    // The bits of what an update starts from: the masters where there are any, unless the model's are wanted.
    template <class A, int N>
    __device__ inline void fetch_both(u32 at, bool from_model, Bits& p, Bits& remainder) const {
        bool from_master = precision == MASTER && !from_model;
        p = fetch<A, N>(from_master ? master : model, at);
        if (precision == REMAINDER && !from_model) remainder = fetch<A, N>(master, at);
    }
    template <class A, int N>
    __device__ inline void values_of(const Bits& p, const Bits& remainder, bool from_model, A (&to)[N]) const {
        if (precision == REMAINDER && !from_model) {
#pragma unroll
            for (int i = 0; i < N; i++) to[i] = (A)join(get_half(p, i), get_half(remainder, i));
        } else {
            values(p, precision == MASTER && !from_model ? (u32)F32 : model.type, to);
        }
    }
    template <class A, int N> __device__ inline void load(A (&to)[N], u32 at, bool from_model) const {
        Bits p = {}, remainder = {};
        fetch_both<A, N>(at, from_model, p, remainder);
        values_of(p, remainder, from_model, to);
    }

    // Stores what was made of such values. Without masters, they then are what was stored.
    template <class A, int N> __device__ inline void store(A (&x)[N], u32 at, u64 key, u64 element) const {
        u32 type = model.type;
        if (!is_half(type)) {
            write(model, at, x);
        } else if (precision == NEAREST) {
            write_halves(model, at, x, [=](int, float v) { return round_half(v, type); });
        } else if (precision == STOCHASTIC) {
            u32 random[N];
            random_bits<N>(key, element, FOR_PARAM, random);
            write_halves(model, at, x, [&](int i, float v) { return round_half_stochastic(v, random[i], type); });
        } else {
            A copy[N];
            Bits remainder = {};
#pragma unroll
            for (int i = 0; i < N; i++) {
                copy[i] = x[i];
                put_half(remainder, i, remainder_of((float)x[i]));
            }
            write_halves(model, at, copy, [=](int, float v) { return half_from_master(v, type); });
            if (precision == REMAINDER)
                write_bits<N>(master, at, remainder);
            else
                write(master, at, x);
        }
    }

    // Rounds to the model's type: to nearest, or as a master is rounded.
    template <class A, int N> __device__ inline void round_to_model(A (&x)[N], bool as_master) const {
        if (!is_half(model.type)) return;
#pragma unroll
        for (int i = 0; i < N; i++) {
            float v = (float)x[i];
            x[i] = (A)widen_half(as_master ? half_from_master(v, model.type) : round_half(v, model.type), model.type);
        }
    }

    // Writes the model's parameter, rounded to nearest.
    template <class A, int N> __device__ inline void write_model(A (&x)[N], u32 at) const {
        u32 type = model.type;
        if (is_half(type))
            write_halves(model, at, x, [=](int, float v) { return round_half(v, type); });
        else
            write(model, at, x);
    }
};

// Both moments. Bfloat16 ones are rounded stochastically.
struct Moments {
    Operand m, v;

    __device__ Moments(const Tensor& t, u64 m, u64 v) : m(m, t.moment_dtype), v(v, t.moment_dtype) {}
    __device__ static Moments of_chunk(const Tensor& t, u64 start) {
        Moments moments(t, t.exp_avg, t.exp_avg_sq);
        moments.m.advance(start);
        moments.v.advance(start);
        return moments;
    }

    template <class A, int N>
    __device__ inline void store(A (&ms)[N], A (&vs)[N], u32 at, u64 key, u64 element) const {
        if (m.type == TypeOf<A>::TYPE) {
            write(m, at, ms);
            write(v, at, vs);
        } else {
            u32 random[N];
            random_bits<N>(key, element, FOR_MOMENTS, random);
            write_halves(m, at, ms, [&](int i, float x) { return bf16_round_stochastic(x, random[i]); });
            write_halves(v, at, vs, [&](int i, float x) { return bf16_round_stochastic(x, random[i]); });
        }
    }
};
