// The passes of a meta-update, and of a step that the host drives: each followed by maw_totals. Sums go where the
// gradients' go.
#pragma once
#include "adamw.cuh"
#include "average.cuh"

// What they have in common.
struct Pass {
    enum { SUMS = GRADIENT_SUMS, LOOPS = 1 };
    const MetaArguments* meta;

    __device__ bool wants(const World&, u32) const { return true; }
    __device__ bool is_aligned(const World& w, const Tensor& t, u32 tensor) const {
        if (!is_pack_aligned(w.params[tensor], t.dtype) || !is_pack_aligned(w.grads[tensor], t.grad_dtype)) return false;
        return !meta || (is_pack_aligned(meta->saved_params[tensor], t.dtype) &&
                         is_pack_aligned(meta->gradients[0][tensor], t.grad_dtype) &&
                         is_pack_aligned(meta->gradients[1][tensor], t.grad_dtype));
    }
    __device__ bool sums() const { return true; }
    __device__ void put(const World& w, u32 chunk, const double (&sums)[SUMS]) const {
        for (int k = 0; k < SUMS; k++) w.gradient_slots[(u64)chunk * SUMS + k] = sums[k];
    }
};

// θ′ as it would be stored: rounded to nearest also where a step rounds stochastically; where there are masters, the
// low-precision copy of the new master. The same bits whenever it is asked for.
template <class A, int N> struct TrialPoint {
    Weights p;
    Operand g;
    Moments moments;
    u64 kind;
    Scalars<A> s;
    bool exact;

    __device__ TrialPoint(const MetaArguments& meta, const Tensor& t, const Piece& piece)
        : p(Weights::of_chunk(t, meta.saved_params[piece.tensor], piece.start)),
          g(meta.gradients[0][piece.tensor], t.grad_dtype, piece.start), moments(Moments::of_chunk(t, piece.start)),
          kind(meta.trials[piece.tensor].kind),
          s(meta.trials[piece.tensor].coefficients, is_exact(t, meta.trials[piece.tensor].coefficients)),
          exact(is_long(t) || s.exact) {}

    // θ or its masters, m′/(√v̂′ + ε), and θ′.
    __device__ void compute(u32 at, A (&ps)[N], A (&ratio)[N], A (&trial)[N]) const {
        p.load(ps, at, kind == TRIAL_NONE);
        if (kind == TRIAL_NONE) {
#pragma unroll
            for (int i = 0; i < N; i++) {
                trial[i] = ps[i];
                ratio[i] = A(0);
            }
            return;
        }
        A gs[N] = {}, ms[N], vs[N];
        read(ms, moments.m, at);
        read(vs, moments.v, at);
        if (kind == TRIAL_GRADIENT) read(gs, g, at);
#pragma unroll
        for (int i = 0; i < N; i++) {
            if (kind == TRIAL_GRADIENT) s.moments(gs[i], ms[i], vs[i], exact);
            ratio[i] = s.ratio(ms[i], vs[i]);
            trial[i] = s.param(ps[i], ratio[i], exact);
        }
        p.round_to_model(trial, p.has_master());
    }
};

// The direction w, in float64.
template <class A, int N> struct DirectionOperands {
    Operand g, g2;
    double train1, train2;

    __device__ DirectionOperands(const MetaArguments& meta, const Tensor& t, const Piece& piece)
        : g(meta.gradients[0][piece.tensor], t.grad_dtype, piece.start),
          g2(meta.gradients[1][piece.tensor], t.grad_dtype, piece.start),
          train1(meta.directions[piece.tensor].train1), train2(meta.directions[piece.tensor].train2) {}

    __device__ void compute(u32 at, double (&out)[N]) const {
        A a[N], b[N];
        read(a, g, at);
        read(b, g2, at);
#pragma unroll
        for (int i = 0; i < N; i++) out[i] = train2 * (double)b[i] + train1 * (double)a[i];
    }
};

struct Moved : Pass {
    template <class A, int N>
    __device__ inline void run(const World& w, const Tensor& t, const Piece& piece, double (&sums)[SUMS]) const {
        TrialPoint<A, N> point(*meta, t, piece);
        Weights out = Weights::of_chunk(t, w.params[piece.tensor], piece.start);
        for_each_pack<A, N>(piece, [&](u32 at) {
            A ps[N], ratio[N], trial[N];
            point.compute(at, ps, ratio, trial);
            for (int i = 0; i < N; i++)
                sums[0] += (double)trial[i] * (double)trial[i];
            out.write_model(trial, at);
        });
    }
};

struct Alignment : Pass {
    template <class A, int N>
    __device__ inline void run(const World&, const Tensor& t, const Piece& piece, double (&sums)[SUMS]) const {
        Operand g(meta->gradients[0][piece.tensor], t.grad_dtype, piece.start);
        Operand g2(meta->gradients[1][piece.tensor], t.grad_dtype, piece.start);
        for_each_pack<A, N>(piece, [&](u32 at) {
            A a[N], b[N];
            read(a, g, at);
            read(b, g2, at);
            for (int i = 0; i < N; i++) {
                sums[0] += (double)b[i] * (double)b[i];
                sums[1] += (double)a[i] * (double)b[i];
            }
        });
    }
};

struct DirectionSquare : Pass {
    template <class A, int N>
    __device__ inline void run(const World&, const Tensor& t, const Piece& piece, double (&sums)[SUMS]) const {
        DirectionOperands<A, N> direction(*meta, t, piece);
        for_each_pack<A, N>(piece, [&](u32 at) {
            double ws[N];
            direction.compute(at, ws);
            for (int i = 0; i < N; i++) sums[0] += ws[i] * ws[i];
        });
    }
};

// A perturbed point.
struct Neighbour : Pass {
    double radius;

    template <class A, int N>
    __device__ inline void run(const World& w, const Tensor& t, const Piece& piece, double (&sums)[SUMS]) const {
        TrialPoint<A, N> point(*meta, t, piece);
        DirectionOperands<A, N> direction(*meta, t, piece);
        Weights out = Weights::of_chunk(t, w.params[piece.tensor], piece.start);
        double r = radius;
        for_each_pack<A, N>(piece, [&](u32 at) {
            A ps[N], ratio[N], trial[N], stored[N];
            double ws[N];
            point.compute(at, ps, ratio, trial);
            direction.compute(at, ws);
            for (int i = 0; i < N; i++) stored[i] = (A)((double)trial[i] + r * ws[i]);
            out.round_to_model(stored, false);
            for (int i = 0; i < N; i++)
                sums[0] += ((double)stored[i] - (double)trial[i]) * ws[i];
            out.write_model(stored, at);
        });
    }
};

struct Project : Pass {
    u32 differs; // x = host·b − train2·g′; else host·b
    double host, train2;

    template <class A, int N>
    __device__ inline void run(const World& w, const Tensor& t, const Piece& piece, double (&sums)[SUMS]) const {
        TrialPoint<A, N> point(*meta, t, piece);
        Operand b(w.grads[piece.tensor], t.grad_dtype, piece.start);
        Operand g2(meta->gradients[1][piece.tensor], t.grad_dtype, piece.start);
        bool has = w.grads[piece.tensor] != 0, two = differs;
        double times_b = host, times_g2 = train2;
        for_each_pack<A, N>(piece, [&](u32 at) {
            A ps[N], ratio[N], trial[N], bs[N] = {}, g2s[N] = {};
            point.compute(at, ps, ratio, trial);
            if (has) read(bs, b, at);
            if (two) read(g2s, g2, at);
            for (int i = 0; i < N; i++) {
                double x = has ? times_b * (double)bs[i] : 0.0;
                if (two) x -= times_g2 * (double)g2s[i];
                if (point.kind != TRIAL_NONE) sums[0] += x * (double)ratio[i];
                sums[1] += x * (double)ps[i];
            }
        });
    }
};

// Initialises the masters of the tensors in init_master.
struct InitMasters : Pass {
    enum { LOOPS = 0 };

    __device__ bool wants(const World& w, u32 tensor) const { return w.init_master[tensor] != 0; }
    __device__ bool sums() const { return false; }
    template <class A, int N>
    __device__ inline void run(const World& w, const Tensor& t, const Piece& piece, double (&)[SUMS]) const {
        init_masters<A, N>(Weights::of_chunk(t, w.params[piece.tensor], piece.start), piece);
    }
};

// What the passes of averages have in common: they are for the tensors in init_average.
struct AveragePass : Pass {
    enum { LOOPS = 0 };

    __device__ bool wants(const World& w, u32 tensor) const { return w.init_average[tensor] != 0; }
    __device__ bool sums() const { return false; }
};

// Makes averages what the parameters, or masters, are.
struct InitAverages : AveragePass {
    template <class A, int N>
    __device__ inline void run(const World& w, const Tensor& t, const Piece& piece, double (&)[SUMS]) const {
        init_averages<A, N>(w, t, piece, false);
    }
};

// Writes averages into the model's parameters.
struct WriteAverages : AveragePass {
    template <class A, int N>
    __device__ inline void run(const World& w, const Tensor& t, const Piece& piece, double (&)[SUMS]) const {
        Weights out = Weights::of_chunk(t, w.params[piece.tensor], piece.start);
        Operand average(w.averages[piece.tensor], average_type<A>(w), piece.start);
        for_each_pack<A, N>(piece, [&](u32 at) {
            A as[N];
            read(as, average, at);
            out.write_model(as, at);
        });
    }
};

// The number of elements that are not the low-precision copies of their masters. Remainders do not tell.
struct DesyncedMasters : Pass {
    enum { LOOPS = 0 };

    template <class A, int N>
    __device__ inline void run(const World& w, const Tensor& t, const Piece& piece, double (&sums)[SUMS]) const {
        Weights p = Weights::of_chunk(t, w.params[piece.tensor], piece.start);
        if (p.precision != MASTER) return;
        for_each_pack<A, N>(piece, [&](u32 at) {
            Bits model = fetch<A, N>(p.model, at);
            A masters[N];
            read(masters, p.master, at);
            for (int i = 0; i < N; i++)
                if (half_from_master((float)masters[i], p.model.type) != get_half(model, i)) sums[0] += 1.0;
        });
    }
};

// Writes θ′; Σ θ′².
extern "C" __global__ void __launch_bounds__(BLOCK, 2) maw_moved(const World* arguments, const MetaArguments* meta) {
    Moved work;
    work.meta = meta;
    over_chunks(*arguments, work);
}

// Σ g′², Σ g·g′.
extern "C" __global__ void __launch_bounds__(BLOCK) maw_alignment(const World* arguments, const MetaArguments* meta) {
    Alignment work;
    work.meta = meta;
    over_chunks(*arguments, work);
}

// Σ w².
extern "C" __global__ void __launch_bounds__(BLOCK)
    maw_direction_square(const World* arguments, const MetaArguments* meta) {
    DirectionSquare work;
    work.meta = meta;
    over_chunks(*arguments, work);
}

// Writes θ′ + radius·w; ⟨δ, w⟩, δ = what was written − θ′.
extern "C" __global__ void __launch_bounds__(BLOCK, 2)
    maw_neighbour(const World* arguments, const MetaArguments* meta, double radius) {
    Neighbour work;
    work.meta = meta;
    work.radius = radius;
    over_chunks(*arguments, work);
}

// Σ x·r, Σ x·θ.
extern "C" __global__ void __launch_bounds__(BLOCK, 2)
    maw_project(const World* arguments, const MetaArguments* meta, u32 differs, double host, double train2) {
    Project work;
    work.meta = meta;
    work.differs = differs;
    work.host = host;
    work.train2 = train2;
    over_chunks(*arguments, work);
}

extern "C" __global__ void __launch_bounds__(BLOCK) maw_begin(const World* arguments) {
    InitMasters work;
    work.meta = 0;
    over_chunks(*arguments, work);
}

extern "C" __global__ void __launch_bounds__(BLOCK) maw_count_desynced(const World* arguments) {
    DesyncedMasters work;
    work.meta = 0;
    over_chunks(*arguments, work);
}

extern "C" __global__ void __launch_bounds__(BLOCK, 2) maw_begin_averages(const World* arguments) {
    InitAverages work;
    work.meta = 0;
    over_chunks(*arguments, work);
}

extern "C" __global__ void __launch_bounds__(BLOCK) maw_show_averages(const World* arguments) {
    WriteAverages work;
    work.meta = 0;
    over_chunks(*arguments, work);
}
