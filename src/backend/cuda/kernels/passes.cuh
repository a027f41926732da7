// A pass over all chunks: which block and which thread handle which elements, in which types.
//
// A pass is a struct. wants(w, tensor): whether it has work there; is_aligned(w, t, tensor): whether packs can be read
// there at once; run<A, N>(w, t, piece, sums): the work on a piece; sums(): whether it has sums, SUMS of them, which
// put(w, chunk, sums) gets. LOOPS: 0, all goes element by element; 1, packs of MIXED tensors, FLOATS among them; 2, those
// of FLOATS by a loop of their own.
#pragma once
#include "load_store.cuh"
#include "sums.cuh"

// The elements of a tensor that are handled in one go, counted from the first of their chunk.
struct Piece {
    u32 tensor;
    u64 start; // of the chunk
    u32 from, to;
};

// The same tensor with what its kind says as constants.
template <int KIND> __device__ inline Tensor with_kind(const Tensor& t) {
    Tensor out = t;
    if (KIND == DOUBLES) {
        out.dtype = out.moment_dtype = F64;
    } else {
        out.moment_dtype = KIND == FLOATS || t.moment_dtype == F32 ? F32 : BF16;
        if (KIND == FLOATS) out.dtype = out.grad_dtype = F32;
        if (KIND == MIXED) out.dtype = t.dtype == F32 ? F32 : BF16;
        if (KIND == MIXED) out.grad_dtype = t.grad_dtype == F32 ? F32 : BF16;
        if (KIND == ANY && t.dtype == F64) __builtin_unreachable();
    }
    if (KIND == DOUBLES || KIND == FLOATS) out.precision = NEAREST;
    return out;
}

template <class Work> __device__ inline void over_chunks(const World& w, const Work& work) {
    SHARED_ARRAY(double, shared, Work::SUMS * WARPS);
    for (u32 chunk = blockIdx.x; chunk < w.chunk_count; chunk += gridDim.x) {
        u32 tensor = w.chunk_tensor[chunk];
        if (!work.wants(w, tensor)) continue; // the whole block
        const Tensor& t = w.tensors[tensor];
        Piece piece;
        piece.tensor = tensor;
        piece.start = (u64)(chunk - t.first_chunk) * w.chunk_size;
        u64 rest = t.numel - piece.start;
        u32 len = rest < w.chunk_size ? (u32)rest : w.chunk_size;
        piece.from = piece.to = 0;
        double sums[Work::SUMS] = {};
        if (t.kind == DOUBLES) {
            piece.to = len;
            work.template run<double, 1>(w, with_kind<DOUBLES>(t), piece, sums);
        } else {
            enum { N = Pack<float>::N };
            if (Work::LOOPS > 0 && t.kind != ANY && work.is_aligned(w, t, tensor)) {
                piece.to = len - len % N;
                if (Work::LOOPS > 1 && t.kind == FLOATS)
                    work.template run<float, N>(w, with_kind<FLOATS>(t), piece, sums);
                else
                    work.template run<float, N>(w, with_kind<MIXED>(t), piece, sums);
            }
            piece.from = piece.to;
            piece.to = len;
            if (piece.from < len) work.template run<float, 1>(w, with_kind<ANY>(t), piece, sums);
        }
        if (work.sums()) {
            block_sums(sums, shared);
            if (threadIdx.x == 0) work.put(w, chunk, sums);
        }
    }
}

// Calls f(at) for what of a piece is this thread's: packs, which begin at multiples of their size.
template <class A, int N, class F> __device__ inline void for_each_pack(const Piece& piece, F f) {
    enum { PACK = Pack<A>::N, ROUND = BLOCK * PACK };
    u32 at = piece.from + (threadIdx.x * PACK - piece.from) % ROUND;
#pragma unroll 1
    for (; at < piece.to; at += ROUND) {
        if (N == PACK) {
            f(at);
        } else {
#pragma unroll 1
            for (u32 i = at; i < at + PACK && i < piece.to; i++) f(i);
        }
    }
}

// Whether sums of the state are wanted of a launch with these flags.
__device__ inline bool wants_state(const World& w, u32 flags) {
    return flags & (STATE | CHANGED) || (flags & STATE_IF_STALE && !w.state->sums_current);
}

// Whether the model's parameter counts, also where it has masters: they are initialised with it, once in a run and
// after the host changed it.
__device__ inline bool is_from_model(const World& w, u32 tensor, u32 flags) {
    return flags & CHANGED || !w.master_initialized[tensor];
}

// Makes a piece's masters what the model's parameter says.
template <class A, int N> __device__ inline void init_masters(const Weights& p, const Piece& piece) {
    for_each_pack<A, N>(piece, [&](u32 at) {
        A ps[N];
        Bits nothing = {};
        if (p.precision == MASTER) {
            p.load(ps, at, true);
            write(p.master, at, ps);
        } else {
            write_bits<N>(p.master, at, nothing);
        }
    });
}
