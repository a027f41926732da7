// All device code. A step is three launches, whatever the number of tensors:
//
//     maw_statistics   chunks → slots: sums of the gradients and, unless they are carried, of the state
//     maw_decide       one block: slots → tensors → features → attention module → verdict, coefficients, counts
//     maw_update       chunks: AdamW, and into slots the sums of the state that it leaves
//
// and a meta-update is made of passes over chunks, each followed by maw_totals. Nothing is atomic: every sum has a slot
// of its own, slots are added in a fixed order, and kernels hand over at their borders. So a step has the same bits
// every time, whatever the device, the number of blocks or the alignment of the buffers. Arithmetic on elements is
// that of the CPU backend's kernels.rs, operation by operation; it must be compiled without contraction (--fmad=false).
//
// The structs are mirrored in world.rs. No includes: the runtime compiler has every builtin that is used.

typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#ifndef SHARED_ARRAY // an emulation supplies its own
#define SHARED_ARRAY(T, name, n) __shared__ T name[n]
#endif

// What was read from memory is not kept in registers beyond this line.
#define READ_AGAIN asm volatile("" ::: "memory")

#define WARP 32
#define ALL 0xffffffffu
// Threads of a block: of passes over chunks, and of the one that decides.
#define BLOCK 256
#define DECIDER 512
#define WARPS (BLOCK / WARP)

// ---- What lives on the device ------------------------------------------------------------------------------------

// How a tensor's elements are stored: parameter, gradient.
enum Kind { F32 = 0, F64 = 1 };

struct Tensor {
    u64 numel;
    u64 exp_avg, exp_avg_sq; // first elements of the moments
    double max_square;       // of a gradient that leaves the second moment finite
    u32 first_chunk, chunks;
    u32 param_group, group;
    u32 kind, reserved;
};

struct Coefficients { // of one tensor in this step; the mirror of update.rs
    double gradient, beta1, beta2, second_moment, eps, step_size, decay;
    u64 active;
};

struct Hyper { // of a param group
    double lr, beta1, beta2, eps, weight_decay;
};

struct Kept { // `reference`: the effective gradient of the last applied step against the moments that it left
    double square, with_momentum, zeros;
    u64 known;
};

struct Settings { // options that may change
    u64 total_steps;
    double alpha_range, beta_range, max_grad_norm;
    u64 propagate; // nobody looks for what is not finite
};

// Why a step is skipped, in the order of step.rs.
enum Skip { GRADIENT = 0, PARAMETER = 1, MOMENT = 2, FEATURE = 3, FACTOR = 4, NOT_SKIPPED = 5 };
#define NO_TENSOR ALL

struct State { // of the run
    u64 steps;
    u64 skips[5];
    u64 last_reason, last_tensor, last_steps; // of the last skipped step; NOT_SKIPPED: none
    u64 decided;                              // steps that were decided, applied or not
    u32 carried;                              // the slots hold the sums of the state as it is
    u32 known;                                // features and factors of an applied step are there
    u32 apply;                                // verdict of the step under way
    u32 momentum;                             // the slots hold Σ g·m of the last applied step
};

struct Report { // in host memory; `begun` and `done` differ while it is written
    u64 begun;
    u64 steps, skipped_steps;
    double grad_norm, clip;
    u64 reason, tensor;
    u64 done;
};

#define GRADIENT_SUMS 3 // Σ g², Σ g·m, zeros of g
#define STATE_SUMS 5    // Σ θ², Σ m², Σ v², zeros of m, Σ g·m with the new m
#define STATISTICS 7    // as in stats.rs
#define OUTPUTS 4

struct World {
    // one a tensor
    const Tensor* tensors;
    const u64* params;
    const u64* grads;
    const double* fixed; // ln(numel + 1), is a bias, depth
    u64* steps;
    Coefficients* coefficients;
    Kept* kept;
    double* gradient_totals;
    double* state_totals;
    double* statistics;
    // one a chunk
    const u32* chunk_tensor;
    double* gradient_slots;
    double* state_slots;
    // groups
    const Hyper* hyper;
    const u32* group_first; // where a modulation group's tensors begin in the list; one more
    const u32* group_tensors;
    double* features; // G × D, of the last applied step
    double* factors;  // 4 × G
    double* next_features;
    double* next_factors;
    const double* phi;
    double* scratch; // for an attention module that is too large for shared memory
    const Settings* settings;
    State* state;
    Report* report;
    u32 tensor_count, chunk_count, chunk_size, group_count;
    u32 dim, heads, layers, hidden;
    u32 embed_dim, gates, version, used; // used: columns of basic features
    u32 time, statistical, modulation, zeros;
    u32 reference, reserved;
};

// ---- Elements ----------------------------------------------------------------------------------------------------

template <class T> struct Arithmetic { typedef float type; };
template <> struct Arithmetic<double> { typedef double type; };

__device__ inline float widen(float x) { return x; }
__device__ inline double widen(double x) { return x; }
__device__ inline void narrow(float x, float* to) { *to = x; }
__device__ inline void narrow(double x, float* to) { *to = (float)x; }
__device__ inline void narrow(double x, double* to) { *to = x; }

__device__ inline float root(float x) { return sqrtf(x); }
__device__ inline double root(double x) { return sqrt(x); }

// 16 bytes of elements: one access.
template <class T> struct __align__(16) Word { T v[16 / sizeof(T)]; };

template <class T> __device__ inline bool is_wide(const T* p) { return (u64)p % 16 == 0; }

// A pack is what a thread handles at a time: the fewest elements that fill 16 bytes of the parameter and the gradient.
template <class P, class G> struct Pack {
    enum { N = 16 / (sizeof(P) < sizeof(G) ? sizeof(P) : sizeof(G)) };
};

// The first `count` of N elements. Which thread handles an element does not hang on the width of the accesses.
template <int N, class T, class A> __device__ inline void load(A (&to)[N], const T* from, int count) {
    if (count == N && is_wide(from)) {
        enum { W = 16 / sizeof(T) };
#pragma unroll
        for (int w = 0; w < N / W; w++) {
            Word<T> word = ((const Word<T>*)from)[w];
#pragma unroll
            for (int i = 0; i < W; i++) to[w * W + i] = widen(word.v[i]);
        }
    } else {
#pragma unroll
        for (int i = 0; i < N; i++) to[i] = i < count ? widen(from[i]) : A(0);
    }
}

template <int N, class T> __device__ inline void store(T* to, const T (&from)[N], int count) {
    if (count == N && is_wide(to)) {
        enum { W = 16 / sizeof(T) };
#pragma unroll
        for (int w = 0; w < N / W; w++) {
            Word<T> word;
#pragma unroll
            for (int i = 0; i < W; i++) word.v[i] = from[w * W + i];
            ((Word<T>*)to)[w] = word;
        }
    } else {
#pragma unroll
        for (int i = 0; i < N; i++)
            if (i < count) to[i] = from[i];
    }
}

// A tensor's coefficients in its arithmetic; each rounded at most once.
template <class A> struct Scalars {
    A gradient;
    double beta1, one_minus_beta1;
    A beta2, one_minus_beta2, second_moment, eps, step_size, decay;

    __device__ Scalars() {}
    __device__ explicit Scalars(const Coefficients& c)
        : gradient((A)c.gradient), beta1(c.beta1), one_minus_beta1(1.0 - c.beta1), beta2((A)c.beta2),
          one_minus_beta2((A)(1.0 - c.beta2)), second_moment((A)c.second_moment), eps((A)c.eps),
          step_size((A)c.step_size), decay((A)c.decay) {}

    // m is rounded once: its cosine with g is a feature, and small differences of it decide there.
    __device__ inline void moments(A g, A& m, A& v) const {
        g = g * gradient;
        m = (A)(beta1 * (double)m + one_minus_beta1 * (double)g);
        v = beta2 * v + one_minus_beta2 * (g * g);
    }
    __device__ inline A ratio(A m, A v) const { return m / (root(v) * second_moment + eps); }
    __device__ inline A param(A p, A m, A v) const { return p - (step_size * ratio(m, v) + decay * p); }
};

// ---- Sums --------------------------------------------------------------------------------------------------------

// The same in every lane.
__device__ inline double warp_sum(double v) {
#pragma unroll
    for (int d = WARP / 2; d > 0; d /= 2) v += __shfl_xor_sync(ALL, v, d);
    return v;
}

// The sums over the block, in the first thread. `shared`: N × WARPS.
template <int N> __device__ inline void block_sums(double (&v)[N], double* shared) {
    u32 lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
#pragma unroll
    for (int k = 0; k < N; k++) {
        double sum = warp_sum(v[k]);
        if (lane == 0) shared[k * WARPS + warp] = sum;
    }
    __syncthreads();
    if (warp == 0) {
#pragma unroll
        for (int k = 0; k < N; k++) v[k] = warp_sum(lane < WARPS ? shared[k * WARPS + lane] : 0.0);
    }
    __syncthreads(); // before anyone writes to `shared` again
}

// ---- Passes over chunks ------------------------------------------------------------------------------------------

// A chunk of a tensor.
struct Piece {
    u32 tensor;
    u64 start;
    u32 len;
};

#define BY_KIND(kind, call)                                                                                            \
    switch (kind) {                                                                                                    \
    case F32: {                                                                                                        \
        typedef float P;                                                                                               \
        typedef float G;                                                                                               \
        call;                                                                                                          \
        break;                                                                                                         \
    }                                                                                                                  \
    case F64: {                                                                                                        \
        typedef double P;                                                                                              \
        typedef double G;                                                                                              \
        call;                                                                                                          \
        break;                                                                                                         \
    }                                                                                                                  \
    }

// Calls work.chunk<P, G> for every chunk that work.wants, and hands its sums to work.put.
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
        piece.len = rest < w.chunk_size ? (u32)rest : w.chunk_size;
        double sums[Work::SUMS] = {};
        BY_KIND(t.kind, (work.template chunk<P, G>(w, t, piece, sums)))
        if (work.sums()) {
            block_sums(sums, shared);
            if (threadIdx.x == 0) work.put(w, chunk, sums);
        }
    }
}

// Calls f(at, count) for the packs of a chunk that are this thread's.
template <int N, class F> __device__ inline void packs(u32 len, F f) {
    for (u32 at = threadIdx.x * N; at < len; at += BLOCK * N) f(at, len - at < N ? (int)(len - at) : N);
}

#define ADDRESS(T, address, piece) ((T*)(address) + (piece).start)

// A tensor's Σ θ², Σ m², Σ v², zeros of m: one definition, so that carried sums have the bits of recomputed ones.
template <int N, class A>
__device__ inline void add_state(const A (&p)[N], const A (&m)[N], const A (&v)[N], double* sums) {
#pragma unroll
    for (int i = 0; i < N; i++) {
        sums[0] += (double)p[i] * (double)p[i]; // what lies beyond the end is 0
        sums[1] += (double)m[i] * (double)m[i];
        sums[2] += (double)v[i] * (double)v[i];
    }
}

// How many of the first `count` are 0.
template <int N, class A> __device__ inline u32 count_zeros(const A (&x)[N], int count) {
    u32 zeros = 0;
#pragma unroll
    for (int i = 0; i < N; i++) zeros += i < count && x[i] == A(0);
    return zeros;
}

// Flags of maw_statistics and maw_decide.
enum Flags {
    GRADIENTS = 1,      // sums of the gradients
    STATE = 2,          // sums of the state
    STATE_IF_STALE = 4, // the same unless they are carried
    MOMENTUM = 8,       // Σ g·m too
    UNSEEN = 16,        // no statistics were taken
};

__device__ inline bool wants_state(const World& w, u32 flags) {
    return flags & STATE || (flags & STATE_IF_STALE && !w.state->carried);
}

struct Gradients {
    enum { SUMS = GRADIENT_SUMS };
    u32 momentum;

    __device__ bool wants(const World& w, u32 tensor) const { return w.grads[tensor] != 0; }
    __device__ bool sums() const { return true; }
    __device__ void put(const World& w, u32 chunk, const double (&sums)[SUMS]) const {
        for (int k = 0; k < SUMS; k++) w.gradient_slots[(u64)chunk * SUMS + k] = sums[k];
    }
    template <class P, class G>
    __device__ void chunk(const World& w, const Tensor& t, const Piece& piece, double (&sums)[SUMS]) const {
        typedef typename Arithmetic<P>::type A;
        enum { N = Pack<P, G>::N };
        const G* g = ADDRESS(const G, w.grads[piece.tensor], piece);
        const A* m = ADDRESS(const A, t.exp_avg, piece);
        u32 counted = w.zeros, with = momentum, zeros = 0;
        packs<N>(piece.len, [&](u32 at, int count) {
            A gs[N], ms[N];
            load(gs, g + at, count);
            if (with) load(ms, m + at, count);
#pragma unroll
            for (int i = 0; i < N; i++) {
                sums[0] += (double)gs[i] * (double)gs[i];
                if (with) sums[1] += (double)gs[i] * (double)ms[i];
            }
            if (counted) zeros += count_zeros(gs, count);
        });
        sums[2] = zeros;
    }
};

struct StateOf {
    enum { SUMS = 4 };

    __device__ bool wants(const World&, u32) const { return true; }
    __device__ bool sums() const { return true; }
    __device__ void put(const World& w, u32 chunk, const double (&sums)[SUMS]) const {
        for (int k = 0; k < SUMS; k++) w.state_slots[(u64)chunk * STATE_SUMS + k] = sums[k];
    }
    template <class P, class G>
    __device__ void chunk(const World& w, const Tensor& t, const Piece& piece, double (&sums)[SUMS]) const {
        typedef typename Arithmetic<P>::type A;
        enum { N = Pack<P, G>::N };
        const P* p = ADDRESS(const P, w.params[piece.tensor], piece);
        const A* m = ADDRESS(const A, t.exp_avg, piece);
        const A* v = ADDRESS(const A, t.exp_avg_sq, piece);
        u32 counted = w.zeros, zeros = 0;
        packs<N>(piece.len, [&](u32 at, int count) {
            A ps[N], ms[N], vs[N];
            load(ps, p + at, count);
            load(ms, m + at, count);
            load(vs, v + at, count);
            add_state(ps, ms, vs, sums);
            if (counted) zeros += count_zeros(ms, count);
        });
        sums[3] = zeros;
    }
};

extern "C" __global__ void __launch_bounds__(BLOCK) maw_statistics(const World* world, u32 flags) {
    const World& w = *world;
    if (flags & GRADIENTS) {
        Gradients work;
        work.momentum = flags & MOMENTUM;
        over_chunks(w, work);
    }
    if (wants_state(w, flags)) over_chunks(w, StateOf());
}

// WANTED: how many sums of what it leaves: none, Σ θ², Σ m² and Σ v², or also the zeros of m and Σ g·m of the effective
// gradient with the new m.
template <int WANTED> struct Update {
    enum { SUMS = WANTED > 0 ? WANTED : 1 };

    __device__ bool wants(const World& w, u32 tensor) const { return w.coefficients[tensor].active != 0; }
    __device__ bool sums() const { return WANTED > 0; }
    __device__ void put(const World& w, u32 chunk, const double (&sums)[SUMS]) const {
        for (int k = 0; k < SUMS; k++) w.state_slots[(u64)chunk * STATE_SUMS + k] = sums[k];
    }
    template <class P, class G>
    __device__ void chunk(const World& w, const Tensor& t, const Piece& piece, double (&sums)[SUMS]) const {
        typedef typename Arithmetic<P>::type A;
        enum { N = Pack<P, G>::N };
        // Not in registers: too few would be left for the elements.
        SHARED_ARRAY(Scalars<A>, scalars, 1);
        __syncthreads();
        if (threadIdx.x == 0) scalars[0] = Scalars<A>(w.coefficients[piece.tensor]);
        __syncthreads();
        P* p = ADDRESS(P, w.params[piece.tensor], piece);
        const G* g = ADDRESS(const G, w.grads[piece.tensor], piece);
        A* m = ADDRESS(A, t.exp_avg, piece);
        A* v = ADDRESS(A, t.exp_avg_sq, piece);
        u32 zeros = 0;
        packs<N>(piece.len, [&](u32 at, int count) {
            A ps[N], gs[N], ms[N], vs[N];
            load(ps, p + at, count);
            load(gs, g + at, count);
            load(ms, m + at, count);
            load(vs, v + at, count);
            READ_AGAIN;
            const Scalars<A>& s = scalars[0];
            P stored[N];
#pragma unroll
            for (int i = 0; i < N; i++) {
                s.moments(gs[i], ms[i], vs[i]);
                narrow(s.param(ps[i], ms[i], vs[i]), &stored[i]);
                ps[i] = widen(stored[i]);
                if (WANTED > 4) sums[4 % SUMS] += (double)(gs[i] * s.gradient) * (double)ms[i];
            }
            store(p + at, stored, count);
            store(m + at, ms, count);
            store(v + at, vs, count);
            if (WANTED > 0) add_state(ps, ms, vs, sums);
            if (WANTED > 3) zeros += count_zeros(ms, count);
        });
        if (WANTED > 3) sums[3 % SUMS] = zeros;
    }
};

extern "C" __global__ void __launch_bounds__(BLOCK, 4) maw_update(const World* world) {
    if (world->state->apply) over_chunks(*world, Update<3>());
}

// The same for `enhanced` features and for `reference`.
extern "C" __global__ void __launch_bounds__(BLOCK) maw_update_counting(const World* world) {
    if (world->state->apply) over_chunks(*world, Update<5>());
}

// The same without sums, where nobody looks.
extern "C" __global__ void __launch_bounds__(BLOCK, 4) maw_update_unseen(const World* world) {
    if (world->state->apply) over_chunks(*world, Update<0>());
}

// ---- The one block that decides ----------------------------------------------------------------------------------

// Tensors with more chunks than this are added up by the whole block, the others by a warp each.
#define MANY_CHUNKS 512

// Slots of chunks → totals of tensors, `WIDTH` of `STRIDE` numbers each. `shared`: WIDTH × DECIDER / WARP.
template <int WIDTH, int STRIDE>
__device__ void total_up(const World& w, const double* slots, double* totals, double* shared) {
    enum { DECIDER_WARPS = DECIDER / WARP };
    u32 lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    for (u32 tensor = warp; tensor < w.tensor_count; tensor += DECIDER_WARPS) {
        const Tensor& t = w.tensors[tensor];
        if (t.chunks > MANY_CHUNKS) continue;
        double sums[WIDTH] = {};
        for (u32 i = lane; i < t.chunks; i += WARP)
            for (int k = 0; k < WIDTH; k++) sums[k] += slots[(u64)(t.first_chunk + i) * STRIDE + k];
        for (int k = 0; k < WIDTH; k++) {
            double sum = warp_sum(sums[k]);
            if (lane == 0) totals[(u64)tensor * STRIDE + k] = sum;
        }
    }
    for (u32 tensor = 0; tensor < w.tensor_count; tensor++) {
        const Tensor& t = w.tensors[tensor];
        if (t.chunks <= MANY_CHUNKS) continue; // the whole block
        double sums[WIDTH] = {};
        for (u32 i = threadIdx.x; i < t.chunks; i += DECIDER)
            for (int k = 0; k < WIDTH; k++) sums[k] += slots[(u64)(t.first_chunk + i) * STRIDE + k];
        for (int k = 0; k < WIDTH; k++) {
            double sum = warp_sum(sums[k]);
            if (lane == 0) shared[k * DECIDER_WARPS + warp] = sum;
        }
        __syncthreads();
        if (threadIdx.x < WIDTH) {
            double sum = 0.0;
            for (u32 i = 0; i < DECIDER_WARPS; i++) sum += shared[threadIdx.x * DECIDER_WARPS + i];
            totals[(u64)tensor * STRIDE + threadIdx.x] = sum;
        }
        __syncthreads();
    }
}

// sum + the numbers of the first `count` lanes, in their order; the same in every lane.
__device__ inline double add_in_order(double sum, double v, u32 count) {
    for (u32 lane = 0; lane < count; lane++) sum += __shfl_sync(ALL, v, lane);
    return sum;
}

// The least over the block, in every thread. `shared`: DECIDER / WARP.
__device__ u32 least(u32 v, u32* shared) {
    for (int d = WARP / 2; d > 0; d /= 2) {
        u32 other = __shfl_xor_sync(ALL, v, d);
        v = other < v ? other : v;
    }
    __syncthreads();
    if (threadIdx.x % WARP == 0) shared[threadIdx.x / WARP] = v;
    __syncthreads();
    for (u32 i = 0; i < DECIDER / WARP; i++) v = shared[i] < v ? shared[i] : v;
    return v;
}

// What is shared while deciding.
#define ROOM 4800 // doubles for the attention module's activations
struct Shared {
    double* room;
    double* sums;   // WIDTH × DECIDER / WARP
    u32* indices;   // DECIDER / WARP
};

__device__ inline bool is_finite(double x) { return fabs(x) <= 1.7976931348623157e308; }
__device__ inline double at_least_tiny(double x) { return x < 1e-8 ? 1e-8 : x; }

__device__ inline double from_bits(u64 bits) { return __longlong_as_double((long long)bits); }

// math.rs, operation by operation: x = n ln 2 + r.
__device__ inline u64 reduce(double x, double& r) {
    const double magic = 6755399441055744.0;
    const double ln2_high = from_bits(0x3FE62E42FEE00000ull), ln2_low = 1.9082149292705877e-10;
    double shifted = x * 1.4426950408889634 + magic;
    double n = shifted - magic;
    r = (x - n * ln2_high) - n * ln2_low;
    return (u64)__double_as_longlong(shifted) - (u64)__double_as_longlong(magic);
}

__device__ inline double exp_near_zero(double r) {
    double r2 = r * r, r4 = r2 * r2, r8 = r4 * r4;
    double q0 = (0.5000000000000001 + 0.16666666666666669 * r) + (0.041666666666624164 + 0.008333333333330065 * r) * r2;
    double q4 = (0.0013888888917196736 + 0.00019841269863040559 * r) +
                (2.480152132234228e-5 + 2.7557268480289716e-6 * r) * r2;
    double q8 = 2.7620075892548164e-7 + 2.51003758422237e-8 * r;
    return 1.0 + (r + r2 * (q0 + q4 * r4 + q8 * r8));
}

__device__ inline double power_of_two(u64 n) { return from_bits((n + 1023) << 52); }

// eˣ.
__device__ double exponential(double x) {
    double r;
    x = x < -746.0 ? -746.0 : x;
    x = x > 710.0 ? 710.0 : x;
    u64 n = reduce(x, r), half = ((n + 2048) >> 1) - 1024;
    return exp_near_zero(r) * power_of_two(half) * power_of_two(n - half);
}

// eˣ for x ≤ 0.
__device__ double exp_of_negative(double x) {
    double r;
    x = x < -708.0 ? -708.0 : x;
    u64 n = reduce(x, r);
    return exp_near_zero(r) * power_of_two(n);
}

__device__ double sigmoid(double x) { return 1.0 / (1.0 + exponential(-x)); }

// xⁿ: math.rs.
__device__ double power(double x, u64 n) {
    double result = 1.0, square = x;
    for (;;) {
        if (n & 1) result *= square;
        n >>= 1;
        if (n == 0) return result;
        square *= square;
    }
}

// -- The attention module: layers.rs, forward alone, tasks spread over the threads. G tokens of width D.
//
// Sums are taken in the host's order, so that the host's evaluation of a meta-update and this one have the same bits.

// sum + Σ w x of n numbers.
__device__ double dot(double sum, const double* w, const double* x, u32 n) {
    for (u32 i = 0; i < n; i++) sum += x[i] * w[i];
    return sum;
}

enum After { ADD, RELU, SCALE };

// y = W x + b for each token, W: rows × columns and b behind one another at `phi`; or y += that, or its positive part, or
// its first rows (as many as columns) times `scale`.
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

// Each head's Σⱼ pⱼ vⱼ with p = softmaxⱼ(q · kⱼ), q already scaled. qkv: G × 3D. Neighbouring lanes share the keys of one
// query: each computes every so manieth weight, and all of them add up all weights.
__device__ void attend(u32 tokens, u32 dim, u32 heads, const double* qkv, double* out) {
    u32 width = dim / heads, tasks = tokens * heads, parts = 1;
    while (parts < WARP && parts * 2 <= tokens && tasks * parts * 2 <= DECIDER) parts *= 2;
    for (u32 base = 0; base < tasks * parts; base += DECIDER) { // as often in every thread
        u32 id = base + threadIdx.x, part = id % parts, neighbours = threadIdx.x % WARP - part;
        bool real = id < tasks * parts;
        u32 task = real ? id / parts : 0, token = task / heads, head = task % heads;
        const double* q = qkv + (u64)token * 3 * dim + head * width;
        const double* k = qkv + dim + head * width;
        const double* v = qkv + 2 * dim + head * width;
        double largest = from_bits(0xfff0000000000000ull); // −∞
        for (u32 j = part; j < tokens; j += parts) {
            double score = dot(0.0, k + (u64)j * 3 * dim, q, width);
            if (score > largest) largest = score;
        }
        for (u32 d = 1; d < parts; d *= 2) {
            double other = __shfl_xor_sync(ALL, largest, d);
            if (other > largest) largest = other;
        }
        // Four columns at a time; wide heads are rare and compute their weights anew for each four.
        for (u32 first = 0; first < width; first += 4) {
            double sum = 0.0, columns[4] = {};
            for (u32 start = 0; start < tokens; start += parts) {
                double own = 0.0;
                if (start + part < tokens) {
                    own = exp_of_negative(dot(0.0, k + (u64)(start + part) * 3 * dim, q, width) - largest);
                }
                for (u32 p = 0; p < parts && start + p < tokens; p++) {
                    double weight = __shfl_sync(ALL, own, neighbours + p);
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

// x: G × D tokens, changed in place by every layer; behind it the activations. Answers where Φ goes on.
__device__ const double* encode(const World& w, double* x) {
    u32 tokens = w.group_count, dim = w.dim, hidden = w.hidden;
    double* normed = x + tokens * dim;
    double* heads = normed + tokens * dim;
    double* qkv = heads + tokens * dim;
    double* inner = qkv + tokens * 3 * dim;
    const double* phi = w.phi;
    double scale = 1.0 / sqrt((double)(dim / w.heads)); // 1/√C
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

// -- Features: features.rs

enum Version { BASIC = 0, BASIC_PLUS = 1, ENHANCED = 2, NORM_BASIC = 3, NORM_BASIC_PLUS = 4 };

// Mean and variance (divisor N) over a group's tensors, in every lane of a warp.
__device__ void spread(const u32* members, u32 count, const double* values, u32 stride, double& mean, double& variance) {
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
        if (column < w.statistical) continue;
        double value = 0.0;
        if (w.time && column == w.statistical) value = time;
        if (column >= behind) value = embeddings[(u64)group * w.embed_dim + column - behind];
        w.next_features[i] = value;
    }
    // Of `enhanced`: which statistic, and whether its variance follows.
    u32 tasks = enhanced ? 7 : w.used;
    for (u32 i = warp; i < w.group_count * tasks; i += DECIDER / WARP) {
        u32 group = i / tasks, task = i % tasks;
        const u32* members = w.group_tensors + w.group_first[group];
        u32 count = w.group_first[group + 1] - w.group_first[group];
        double mean, variance;
        if (enhanced && task >= 4)
            spread(members, count, w.fixed + (task - 4), 3, mean, variance);
        else
            spread(members, count, w.statistics + (enhanced && task >= 2 ? task + 3 : task), STATISTICS, mean, variance);
        if (lane == 0) {
            double* row = w.next_features + (u64)group * dim;
            if (!enhanced) {
                row[task] = mean;
                if (plus) row[w.used + task] = sqrt(variance);
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
    bool norm = w.version == NORM_BASIC || w.version == NORM_BASIC_PLUS;
    const double* gates = w.phi + w.layers * ((u64)4 * dim * dim + 2 * dim * w.hidden + 9 * dim + w.hidden) +
                          OUTPUTS * dim + OUTPUTS + (u64)groups * w.embed_dim;
    for (u32 column = threadIdx.x; column < dim; column += DECIDER) {
        double mean = 0.0, deviation = 0.0;
        bool standardise = norm && column < w.statistical;
        if (standardise) {
            double sum = -0.0, squares = -0.0;
            for (u32 g = 0; g < groups; g++) sum += w.next_features[(u64)g * dim + column];
            mean = sum / groups;
            for (u32 g = 0; g < groups; g++) {
                double d = w.next_features[(u64)g * dim + column] - mean;
                squares += d * d;
            }
            deviation = groups > 1 ? sqrt(squares / (groups - 1)) : 0.0;
        }
        double gate = w.gates ? sigmoid(gates[column]) : 1.0;
        for (u32 g = 0; g < groups; g++) {
            double x = w.next_features[(u64)g * dim + column];
            if (standardise) x = groups > 1 ? (x - mean) / (deviation + 1e-8) : 0.0;
            tokens[(u64)g * dim + column] = w.gates ? x * gate : x;
        }
    }
    __syncthreads();
}

// Statistics → features → factors; NOT_SKIPPED, or what is not finite.
__device__ u32 evaluate(const World& w, double factor, u64 step, const Shared& shared) {
    for (u32 i = threadIdx.x; i < w.tensor_count; i += DECIDER) { // stats.rs
        const double* gradient = w.gradient_totals + (u64)i * GRADIENT_SUMS;
        const double* state = w.state_totals + (u64)i * STATE_SUMS;
        double* out = w.statistics + (u64)i * STATISTICS;
        u64 numel = w.tensors[i].numel;
        bool has = w.grads[i] != 0;
        double g = has ? sqrt(gradient[0] * factor * factor) : 0.0, m = sqrt(state[1]);
        double product = has ? gradient[1] * factor : 0.0;
        out[0] = g;
        out[1] = m;
        out[2] = sqrt(state[0]);
        out[3] = product / (at_least_tiny(g) * at_least_tiny(m));
        out[4] = sqrt(state[2]);
        out[5] = numel == 0 ? 0.0 : (has ? gradient[2] : (double)numel) / (double)numel;
        out[6] = numel == 0 ? 0.0 : state[3] / (double)numel;
    }
    __syncthreads();
    u64 total_steps = w.settings->total_steps;
    double time = total_steps > 0 ? (double)step / (double)total_steps : 2.0 * sigmoid((double)step / 1000.0) - 1.0;
    fill_features(w, time);
    u32 broken = NO_TENSOR;
    for (u32 i = threadIdx.x; i < w.group_count * w.dim; i += DECIDER)
        if (!is_finite(w.next_features[i])) broken = 0;
    if (least(broken, shared.indices) != NO_TENSOR) return FEATURE;

    u32 groups = w.group_count, dim = w.dim;
    double* x = groups * (6 * dim + w.hidden) <= ROOM ? shared.room : w.scratch;
    make_tokens(w, x);
    const double* output = encode(w, x);
    for (u32 i = threadIdx.x; i < groups * OUTPUTS; i += DECIDER) {
        u32 group = i / OUTPUTS, row = i % OUTPUTS;
        double raw = dot(output[OUTPUTS * dim + row], output + row * dim, x + (u64)group * dim, dim);
        double range = row == 0 ? w.settings->alpha_range : w.settings->beta_range, s = sigmoid(raw);
        double value = row < 2 ? 1.0 + range * (s - 0.5) : s; // eq. 7–9
        w.next_factors[row * groups + group] = value;
        if (!is_finite(value)) broken = 0;
    }
    return least(broken, shared.indices) != NO_TENSOR ? FACTOR : NOT_SKIPPED;
}

// The gradient's norm, and what brings the host's to the effective one: step.rs.
struct Effective {
    double norm, clip, factor;
    u32 reason, tensor; // what is not finite
};

__device__ Effective look(const World& w, double unscale, bool unseen, const Shared& shared) {
    Effective e;
    e.norm = from_bits(0x7ff8000000000000ull);
    e.clip = 1.0;
    e.reason = NOT_SKIPPED;
    e.tensor = NO_TENSOR;
    if (unseen) {
        e.factor = unscale;
        return e;
    }
    if (threadIdx.x < WARP) {
        double square = 0.0;
        for (u32 start = 0; start < w.tensor_count; start += WARP) {
            u32 here = w.tensor_count - start < WARP ? w.tensor_count - start : WARP, i = start + threadIdx.x;
            bool has = threadIdx.x < here && w.grads[i] != 0;
            square = add_in_order(square, has ? w.gradient_totals[(u64)i * GRADIENT_SUMS] : 0.0, here);
        }
        if (threadIdx.x == 0) shared.sums[0] = square;
    }
    __syncthreads();
    double max = w.settings->max_grad_norm;
    e.norm = sqrt(shared.sums[0]) * unscale;
    if (max > 0.0) {
        double c = max / (e.norm + 1e-6);
        e.clip = c < 1.0 ? c : (c >= 1.0 ? 1.0 : c); // a NaN stays one
    }
    e.factor = e.clip * unscale;
    if (w.settings->propagate) return e;

    u32 gradient = NO_TENSOR, param = NO_TENSOR, moment = NO_TENSOR;
    for (u32 i = threadIdx.x; i < w.tensor_count; i += DECIDER) {
        const double* state = w.state_totals + (u64)i * STATE_SUMS;
        double g = w.grads[i] != 0 ? w.gradient_totals[(u64)i * GRADIENT_SUMS] : 0.0;
        bool usable = is_finite(g) && g * e.factor * e.factor <= w.tensors[i].max_square;
        if (!usable && gradient == NO_TENSOR) gradient = i;
        if (!is_finite(state[0]) && param == NO_TENSOR) param = i;
        if (!(is_finite(state[1]) && is_finite(state[2])) && moment == NO_TENSOR) moment = i;
    }
    gradient = least(gradient, shared.indices);
    param = least(param, shared.indices);
    moment = least(moment, shared.indices);
    if (gradient != NO_TENSOR || !is_finite(e.norm) || !is_finite(e.factor)) {
        e.reason = GRADIENT;
        e.tensor = gradient;
    } else if (param != NO_TENSOR) {
        e.reason = PARAMETER;
        e.tensor = param;
    } else if (moment != NO_TENSOR) {
        e.reason = MOMENT;
        e.tensor = moment;
    }
    return e;
}

// The scalars of every tensor that has a gradient (update.rs), its count, and what `reference` keeps.
__device__ void prepare_update(const World& w, double factor) {
    for (u32 i = threadIdx.x; i < w.tensor_count; i += DECIDER) {
        Coefficients c = {};
        if (w.grads[i] != 0) {
            const Tensor& t = w.tensors[i];
            const Hyper& h = w.hyper[t.param_group];
            double alpha = w.modulation ? w.next_factors[t.group] : 1.0;
            double beta = w.modulation ? w.next_factors[w.group_count + t.group] : 1.0;
            u64 step = w.steps[i] + 1;
            double correction1 = 1.0 - power(h.beta1, step), correction2 = 1.0 - power(h.beta2, step);
            double decay = h.lr * alpha * beta * h.weight_decay;
            c.gradient = factor;
            c.beta1 = h.beta1;
            c.beta2 = h.beta2;
            c.second_moment = 1.0 / sqrt(correction2);
            c.eps = h.eps;
            c.step_size = h.lr * alpha / correction1;
            c.decay = w.reference ? decay / correction1 : decay;
            c.active = 1;
            w.steps[i] = step;
        }
        w.coefficients[i] = c;
        if (w.reference) {
            const double* g = w.gradient_totals + (u64)i * GRADIENT_SUMS;
            Kept kept = {};
            if (c.active) {
                kept.square = g[0] * factor * factor;
                kept.zeros = g[2];
                kept.known = 1;
            }
            w.kept[i] = kept;
        }
    }
}

__device__ void write_report(const World& w, const Effective& e) {
    State& state = *w.state;
    Report& report = *w.report;
    volatile u64* begun = &report.begun;
    volatile u64* done = &report.done;
    *begun = state.decided;
    __threadfence_system();
    report.steps = state.steps;
    report.skipped_steps = state.skips[0] + state.skips[1] + state.skips[2] + state.skips[3] + state.skips[4];
    report.grad_norm = e.norm;
    report.clip = e.clip;
    report.reason = e.reason;
    report.tensor = e.tensor;
    __threadfence_system();
    *done = state.decided;
}

// device_scale: the gradients' scale as a float on the device, or 0: grad_scale. found_inf: 0, or a float on the
// device that is not 0 when the step must be skipped.
extern "C" __global__ void __launch_bounds__(DECIDER)
    maw_decide(const World* world, double grad_scale, const float* device_scale, const float* found_inf, u32 flags) {
    SHARED_ARRAY(double, room, ROOM);
    SHARED_ARRAY(double, sums, STATE_SUMS * DECIDER / WARP);
    SHARED_ARRAY(u32, indices, DECIDER / WARP);
    Shared shared;
    shared.room = room;
    shared.sums = sums;
    shared.indices = indices;
    const World& w = *world;
    State& state = *w.state;
    bool unseen = flags & UNSEEN, anew = wants_state(w, flags);
    u64 steps = state.steps;
    if (!unseen) {
        total_up<GRADIENT_SUMS, GRADIENT_SUMS>(w, w.gradient_slots, w.gradient_totals, sums);
        total_up<4, STATE_SUMS>(w, w.state_slots, w.state_totals, sums);
        __syncthreads();
    }
    double scale = device_scale ? (double)*device_scale : grad_scale;
    Effective e = look(w, 1.0 / scale, unseen, shared);
    if (e.reason == NOT_SKIPPED && ((found_inf && *found_inf != 0.0f) || !(w.settings->propagate || (scale > 0.0 && is_finite(scale))))) e.reason = GRADIENT;
    if (e.reason == NOT_SKIPPED && w.modulation) e.reason = evaluate(w, e.factor, steps + 1, shared);
    bool apply = e.reason == NOT_SKIPPED;
    if (apply) {
        prepare_update(w, e.factor);
        if (w.modulation) {
            u32 groups = w.group_count;
            for (u32 i = threadIdx.x; i < groups * w.dim; i += DECIDER) w.features[i] = w.next_features[i];
            for (u32 i = threadIdx.x; i < groups * OUTPUTS; i += DECIDER) w.factors[i] = w.next_factors[i];
        }
    }
    __syncthreads(); // everyone has read the state
    if (threadIdx.x != 0) return;
    state.decided += 1;
    state.apply = apply;
    if (apply) {
        state.steps = steps + 1;
        state.carried = !unseen;
        state.known = 1;
        state.momentum = w.reference;
    } else {
        state.skips[e.reason] += 1;
        state.last_reason = e.reason;
        state.last_tensor = e.tensor;
        state.last_steps = steps;
        if (anew) state.carried = 0; // the host may take back what it changed
    }
    write_report(w, e);
}

// Slots → totals, for the host: of the gradients' (or of a pass of a meta-update), of the state's.
extern "C" __global__ void __launch_bounds__(DECIDER) maw_totals(const World* world, u32 flags) {
    SHARED_ARRAY(double, sums, STATE_SUMS * DECIDER / WARP);
    const World& w = *world;
    if (flags & GRADIENTS) total_up<GRADIENT_SUMS, GRADIENT_SUMS>(w, w.gradient_slots, w.gradient_totals, sums);
    if (flags & STATE) total_up<STATE_SUMS, STATE_SUMS>(w, w.state_slots, w.state_totals, sums);
    if (!(flags & STATE && w.state->momentum)) return;
    __syncthreads();
    for (u32 i = threadIdx.x; i < w.tensor_count; i += DECIDER)
        if (w.kept[i].known) w.kept[i].with_momentum = w.state_totals[(u64)i * STATE_SUMS + 4];
}

// ---- The meta-update ---------------------------------------------------------------------------------------------

enum How { STAY = 0, STEP = 1, DRIFT = 2 };

struct Move {
    u64 how;
    Coefficients coefficients;
};

struct Direction { // w = train2·g′ + train1·g
    double train2, train1;
};

struct Meta { // one a tensor each
    const u64* saved;   // θ
    const u64* kept[3]; // gradients: g of B1, g′ of B2, that of B2 at θ′ + r·w
    const Move* moves;
    const Direction* directions;
};

// What a pass of the meta-update starts from; sums go where the gradients' go.
struct Pass {
    enum { SUMS = GRADIENT_SUMS };
    const Meta* meta;

    __device__ bool wants(const World&, u32) const { return true; }
    __device__ bool sums() const { return true; }
    __device__ void put(const World& w, u32 chunk, const double (&sums)[SUMS]) const {
        for (int k = 0; k < SUMS; k++) w.gradient_slots[(u64)chunk * SUMS + k] = sums[k];
    }
};

// θ′ in the tensor's dtype: the same bits whenever it is asked for.
template <class P, class G> struct Origin {
    typedef typename Arithmetic<P>::type A;
    enum { N = Pack<P, G>::N };
    const P* p;
    const G* g;
    const A* m;
    const A* v;
    u64 how;
    Scalars<A> s;

    __device__ Origin(const Meta& meta, const Tensor& t, const Piece& piece)
        : p(ADDRESS(const P, meta.saved[piece.tensor], piece)), g(0), m(ADDRESS(const A, t.exp_avg, piece)),
          v(ADDRESS(const A, t.exp_avg_sq, piece)), how(meta.moves[piece.tensor].how),
          s(meta.moves[piece.tensor].coefficients) {
        if (how == STEP) g = ADDRESS(const G, meta.kept[0][piece.tensor], piece);
    }

    __device__ void moved(u32 at, int count, P (&out)[N]) const {
        A ps[N], gs[N], ms[N], vs[N];
        load(ps, p + at, count);
        if (how != STAY) {
            load(ms, m + at, count);
            load(vs, v + at, count);
            if (how == STEP) load(gs, g + at, count);
        }
#pragma unroll
        for (int i = 0; i < N; i++) {
            if (how == STEP) s.moments(gs[i], ms[i], vs[i]);
            narrow(how == STAY ? ps[i] : s.param(ps[i], ms[i], vs[i]), &out[i]);
        }
    }
};

// The direction w, in float64.
template <class P, class G> struct Way {
    enum { N = Pack<P, G>::N };
    const G* g;
    const G* g2;
    double train1, train2;

    __device__ Way(const Meta& meta, const Piece& piece)
        : g(ADDRESS(const G, meta.kept[0][piece.tensor], piece)), g2(ADDRESS(const G, meta.kept[1][piece.tensor], piece)),
          train1(meta.directions[piece.tensor].train1), train2(meta.directions[piece.tensor].train2) {}

    __device__ void w(u32 at, int count, double (&out)[N]) const {
        typename Arithmetic<G>::type a[N], b[N];
        load(a, g + at, count);
        load(b, g2 + at, count);
#pragma unroll
        for (int i = 0; i < N; i++) out[i] = train2 * (double)b[i] + train1 * (double)a[i];
    }
};

// θ′ + radius·w, rounded to the dtype.
template <class P> __device__ inline P stored(P moved, double w, double radius) {
    P out;
    narrow((double)widen(moved) + radius * w, &out);
    return out;
}

struct Moved : Pass {
    template <class P, class G>
    __device__ void chunk(const World& w, const Tensor& t, const Piece& piece, double (&sums)[SUMS]) const {
        enum { N = Pack<P, G>::N };
        Origin<P, G> origin(*meta, t, piece);
        P* out = ADDRESS(P, w.params[piece.tensor], piece);
        packs<N>(piece.len, [&](u32 at, int count) {
            P ps[N];
            origin.moved(at, count, ps);
            store(out + at, ps, count);
            for (int i = 0; i < N; i++)
                if (i < count) sums[0] += (double)widen(ps[i]) * (double)widen(ps[i]);
        });
    }
};

struct Alignment : Pass {
    template <class P, class G>
    __device__ void chunk(const World&, const Tensor&, const Piece& piece, double (&sums)[SUMS]) const {
        typedef typename Arithmetic<G>::type A;
        enum { N = Pack<P, G>::N };
        const G* g = ADDRESS(const G, meta->kept[0][piece.tensor], piece);
        const G* g2 = ADDRESS(const G, meta->kept[1][piece.tensor], piece);
        packs<N>(piece.len, [&](u32 at, int count) {
            A a[N], b[N];
            load(a, g + at, count);
            load(b, g2 + at, count);
            for (int i = 0; i < N; i++) {
                sums[0] += (double)b[i] * (double)b[i];
                sums[1] += (double)a[i] * (double)b[i];
            }
        });
    }
};

struct DirectionSquare : Pass {
    template <class P, class G>
    __device__ void chunk(const World&, const Tensor&, const Piece& piece, double (&sums)[SUMS]) const {
        enum { N = Pack<P, G>::N };
        Way<P, G> way(*meta, piece);
        packs<N>(piece.len, [&](u32 at, int count) {
            double ws[N];
            way.w(at, count, ws);
            for (int i = 0; i < N; i++) sums[0] += ws[i] * ws[i];
        });
    }
};

struct Perturbed : Pass {
    double radius;

    __device__ bool sums() const { return false; }
    template <class P, class G>
    __device__ void chunk(const World& w, const Tensor& t, const Piece& piece, double (&)[SUMS]) const {
        enum { N = Pack<P, G>::N };
        Origin<P, G> origin(*meta, t, piece);
        Way<P, G> way(*meta, piece);
        P* out = ADDRESS(P, w.params[piece.tensor], piece);
        double r = radius;
        packs<N>(piece.len, [&](u32 at, int count) {
            P ps[N];
            double ws[N];
            origin.moved(at, count, ps);
            way.w(at, count, ws);
            for (int i = 0; i < N; i++) ps[i] = stored(ps[i], ws[i], r);
            store(out + at, ps, count);
        });
    }
};

struct StepMade : Pass {
    double plus, minus;

    template <class P, class G>
    __device__ void chunk(const World&, const Tensor& t, const Piece& piece, double (&sums)[SUMS]) const {
        enum { N = Pack<P, G>::N };
        Origin<P, G> origin(*meta, t, piece);
        Way<P, G> way(*meta, piece);
        double r = plus, back = minus;
        packs<N>(piece.len, [&](u32 at, int count) {
            P ps[N];
            double ws[N];
            origin.moved(at, count, ps);
            way.w(at, count, ws);
            for (int i = 0; i < N; i++) { // w is 0 beyond `count`
                double step = (double)widen(stored(ps[i], ws[i], r)) - (double)widen(stored(ps[i], ws[i], back));
                if (i < count) sums[0] += step * ws[i];
            }
        });
    }
};

struct Project : Pass {
    u32 of; // NOTHING: x = host·b; else x = kept·(that gradient) − host·b
    double kept, host;
    enum { NOTHING = 3 };

    template <class P, class G>
    __device__ void chunk(const World& w, const Tensor& t, const Piece& piece, double (&sums)[SUMS]) const {
        typedef typename Arithmetic<P>::type A;
        typedef typename Arithmetic<G>::type B;
        enum { N = Pack<P, G>::N };
        const Move& move = meta->moves[piece.tensor];
        const Scalars<double> s(move.coefficients);
        const P* p = ADDRESS(const P, meta->saved[piece.tensor], piece);
        const A* m = ADDRESS(const A, t.exp_avg, piece);
        const A* v = ADDRESS(const A, t.exp_avg_sq, piece);
        const G* g = move.how == STEP ? ADDRESS(const G, meta->kept[0][piece.tensor], piece) : 0;
        const G* a = of != NOTHING ? ADDRESS(const G, meta->kept[of][piece.tensor], piece) : 0;
        const G* b = w.grads[piece.tensor] ? ADDRESS(const G, w.grads[piece.tensor], piece) : 0;
        double times_a = kept, times_b = host;
        packs<N>(piece.len, [&](u32 at, int count) {
            A ps[N], ms[N], vs[N];
            B gs[N], as[N], bs[N];
            load(ps, p + at, count);
            load(ms, m + at, count);
            load(vs, v + at, count);
            if (g) load(gs, g + at, count);
            if (a) load(as, a + at, count);
            if (b) load(bs, b + at, count);
            for (int i = 0; i < N; i++) {
                double x = b ? times_b * (double)bs[i] : 0.0;
                if (a) x = times_a * (double)as[i] - x;
                double mi = ms[i], vi = vs[i];
                if (g) s.moments((double)gs[i], mi, vi);
                if (i < count) {
                    sums[0] += x * x;
                    sums[1] += x * s.ratio(mi, vi);
                    sums[2] += x * (double)ps[i];
                }
            }
        });
    }
};

// Writes θ′; Σ θ′².
extern "C" __global__ void __launch_bounds__(BLOCK) maw_moved(const World* world, const Meta* meta) {
    Moved work;
    work.meta = meta;
    over_chunks(*world, work);
}

// Σ g′², Σ g·g′.
extern "C" __global__ void __launch_bounds__(BLOCK) maw_alignment(const World* world, const Meta* meta) {
    Alignment work;
    work.meta = meta;
    over_chunks(*world, work);
}

// Σ w².
extern "C" __global__ void __launch_bounds__(BLOCK) maw_direction_square(const World* world, const Meta* meta) {
    DirectionSquare work;
    work.meta = meta;
    over_chunks(*world, work);
}

// Writes θ′ + radius·w.
extern "C" __global__ void __launch_bounds__(BLOCK) maw_perturbed(const World* world, const Meta* meta, double radius) {
    Perturbed work;
    work.meta = meta;
    work.radius = radius;
    over_chunks(*world, work);
}

// ⟨δ, w⟩, δ = stored(θ′ + plus·w) − stored(θ′ + minus·w).
extern "C" __global__ void __launch_bounds__(BLOCK)
    maw_step_made(const World* world, const Meta* meta, double plus, double minus) {
    StepMade work;
    work.meta = meta;
    work.plus = plus;
    work.minus = minus;
    over_chunks(*world, work);
}

// Σ x², Σ x·r, Σ x·θ.
extern "C" __global__ void __launch_bounds__(BLOCK)
    maw_project(const World* world, const Meta* meta, u32 of, double kept, double host) {
    Project work;
    work.meta = meta;
    work.of = of;
    work.kept = kept;
    work.host = host;
    over_chunks(*world, work);
}
