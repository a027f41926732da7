// All device code. A step is three launches, whatever the number of tensors:
//
//     maw_statistics   chunks → slots: sums of the gradients and, unless they are carried, of the state
//     maw_decide       one block: slots → tensors → features → attention module → verdict, coefficients, counts
//     maw_update       chunks: AdamW, and into slots the sums of the state that it leaves
//
// and a meta-update is made of passes over chunks, each followed by maw_totals. Nothing is atomic: every sum has a slot
// of its own, slots are added in a fixed order, and kernels hand over at their borders. So a step has the same bits
// every time, whatever the device, the number of blocks or the alignment of the buffers. Arithmetic on elements is
// that of the CPU backend's scalars.rs, operation by operation; it must be compiled without contraction (--fmad=false):
// fused are the products that say so.
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

enum Type { F32 = 0, F64 = 1, BF16 = 2, F16 = 3 };
// How a 16-bit parameter keeps precision: config.rs.
enum Precision { NEAREST = 0, MASTER = 1, REMAINDER = 2, STOCHASTIC = 3 };

struct Tensor {
    u64 numel;
    u64 exp_avg, exp_avg_sq; // first elements of the moments
    u64 master;              // and of masters or remainders; 0 without
    double max_square;       // of a gradient that leaves the second moment finite
    u32 first_chunk, chunks;
    u32 param_group, group;
    u32 dtype, grad_dtype, moment_dtype, precision; // Type, and Precision
    u32 kind, reserved;                             // Kind
};

// Which types a tensor has: all float32; float32 or bfloat16 each; a float64 parameter; or others.
enum Kind { ANY = 0, FLOATS = 1, MIXED = 2, DOUBLES = 3 };

struct Coefficients { // of one tensor in this step; the mirror of update.rs
    double gradient, beta1, beta2, eps, step_size, decay;
    u64 key;    // of the random bits
    u64 active; // it has a gradient
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
    const u64* keys;     // of the random bits
    u32* mastered;       // its masters have begun, or it has none
    u32* begin;          // they begin in this step with what the host has
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
//
// What is computed in is A: double for float64 tensors, else float. Memory may hold any Type. It is read in two moves,
// first the bits of all operands, then their values: else each operand's conversion would wait for its own memory.

__device__ inline u32 bits_of(float x) { return __float_as_uint(x); }
__device__ inline float float_of(u32 bits) { return __uint_as_float(bits); }
__device__ inline double from_bits(u64 bits) { return __longlong_as_double((long long)bits); }
__device__ inline u64 bits_of(double x) { return (u64)__double_as_longlong(x); }

__device__ inline float root(float x) { return sqrtf(x); }
__device__ inline double root(double x) { return sqrt(x); }
// a·b + c, rounded once.
__device__ inline float fused(float a, float b, float c) { return __fmaf_rn(a, b, c); }
__device__ inline double fused(double a, double b, double c) { return __fma_rn(a, b, c); }

// -- 16-bit floats: half.rs, operation by operation.

#define SIGN 0x80000000u
#define INFINITE 0x7F800000u

__device__ inline bool is_nan(float x) { return (bits_of(x) & ~SIGN) > INFINITE; }

__device__ inline float bf16_widen(u16 bits) { return float_of((u32)bits << 16); }
// Adds `carry` below the upper half and cuts it off. To a NaN nothing may be carried.
__device__ inline u16 bf16_cut(float x, u32 carry) {
    u32 rounded = (bits_of(x) + (is_nan(x) ? 0u : carry)) >> 16;
    return (u16)(rounded | (is_nan(x) ? 0x40u : 0u));
}
__device__ inline u16 bf16_round(float x) { return bf16_cut(x, 0x7FFFu + ((bits_of(x) >> 16) & 1u)); }
__device__ inline u16 bf16_of_master(float x) { return bf16_cut(x, 0x8000u); }

// A float32 master in 2 + 2 bytes.
__device__ inline u16 low_of_master(float x) { return is_nan(x) ? (u16)0 : (u16)(bits_of(x) & 0xFFFFu); }
__device__ inline float join(u16 shown, u16 low) {
    u32 with_sign = (u32)low - (((u32)low & 0x8000u) << 1);
    return float_of(((u32)shown << 16) + with_sign);
}

#define F16_SMALLEST_NORMAL 0x38800000u
#define F16_TOO_LARGE 0x47800000u

__device__ inline float f16_widen(u16 half) {
    u32 bits = half, magnitude = (bits & 0x7FFFu) << 13;
    u32 normal = magnitude + (112u << 23);
    u32 special = (magnitude + (224u << 23)) | (magnitude > 0x0F800000u ? 0x00400000u : 0u);
    u32 subnormal = bits_of(float_of(magnitude + F16_SMALLEST_NORMAL) - float_of(F16_SMALLEST_NORMAL));
    u32 finite = magnitude < 0x00800000u ? subnormal : normal;
    return float_of((magnitude >= 0x0F800000u ? special : finite) | ((bits & 0x8000u) << 16));
}
__device__ inline u32 f16_cut(u32 magnitude, u32 carry) {
    u32 rounded = ((magnitude + carry) >> 13) - (112u << 10);
    u32 large = magnitude > INFINITE ? 0x7E00u | ((magnitude >> 13) & 0x3FFu) : 0x7C00u;
    return magnitude >= F16_TOO_LARGE ? large : rounded;
}
__device__ inline u16 f16_signed(float x, u32 magnitude) { return (u16)(magnitude | ((bits_of(x) & SIGN) >> 16)); }
__device__ inline u16 f16_round(float x) {
    u32 magnitude = bits_of(x) & ~SIGN;
    u32 normal = f16_cut(magnitude, 0xFFFu + ((magnitude >> 13) & 1u));
    u32 subnormal = bits_of(float_of(magnitude) + 0.5f) - bits_of(0.5f);
    return f16_signed(x, magnitude < F16_SMALLEST_NORMAL ? subnormal : normal);
}
__device__ inline u16 f16_round_by(float x, u32 noise) {
    u32 magnitude = bits_of(x) & ~SIGN;
    u32 normal = f16_cut(magnitude, noise >> 3);
    bool tiny = magnitude < F16_SMALLEST_NORMAL;
    float units = float_of(tiny ? magnitude : 0u) * 16777216.0f;
    int whole = (int)units;
    int rest = (int)((units - (float)whole) * 65536.0f);
    u32 subnormal = (u32)whole + (rest + (int)noise > 0xFFFF ? 1u : 0u);
    return f16_signed(x, tiny ? subnormal : normal);
}

__device__ inline float widen_half(u16 bits, u32 type) { return type == BF16 ? bf16_widen(bits) : f16_widen(bits); }
__device__ inline u16 round_half(float x, u32 type) { return type == BF16 ? bf16_round(x) : f16_round(x); }
__device__ inline u16 half_of_master(float x, u32 type) { return type == BF16 ? bf16_of_master(x) : f16_round(x); }
__device__ inline u16 round_half_by(float x, u32 noise, u32 type) {
    return type == BF16 ? bf16_cut(x, noise) : f16_round_by(x, noise);
}
__device__ inline bool is_half(u32 type) { return type >= BF16; }

// -- Random bits: noise.rs, operation by operation.

#define SPAN 32768
enum Use { FOR_PARAM = 0, FOR_MOMENTS = 1 };

__device__ inline u64 mix(u64 x) {
    x ^= x >> 32;
    x *= 0xD6E8FEB86659FD93ull;
    x ^= x >> 32;
    x *= 0xD6E8FEB86659FD93ull;
    return x ^ (x >> 32);
}

// 16 bits for each of N elements from the `element`-th of a tensor on; N is 1, or even and divides `element`.
template <int N> __device__ inline void random_bits(u64 key, u64 element, u64 use, u32 (&out)[N]) {
    const int pair = N == 1 ? 1 : 2;
    u32 first = (u32)mix(key ^ mix((element / SPAN) << 1 | use)), within = (u32)(element % SPAN);
#pragma unroll
    for (int i = 0; i < N; i += pair) {
        u32 x = first + (within + i) / 2 * 0x7FEB352Du;
        x ^= x >> 15;
        x *= 0x846CA68Bu;
        x ^= x >> 16;
        out[i] = x & 0xFFFFu;
        if (N > 1 || within % 2) out[i + pair - 1] = x >> 16;
    }
}

// -- Packs: what a thread handles at a time, 16 bytes of what is computed in. Four float32 or bfloat16 elements, N = 4,
// are read and written in one access of 16 or 8 bytes; what is not aligned, not a whole pack or of other types goes
// element by element, N = 1. Which thread handles an element does not hang on that.

template <class A> struct Pack {
    enum { N = 16 / sizeof(A) };
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
    x = from_bits((u64)bits.v[2 * i + 1] << 32 | bits.v[2 * i]);
}

template <class A> struct Own { enum { TYPE = sizeof(A) == 8 ? F64 : F32 }; };

__device__ inline u32 size_of(u32 type) { return type == F64 ? 8 : type == F32 ? 4 : 2; }

// Elements in memory.
struct Operand {
    u64 address; // of the chunk's first
    u32 type;

    __device__ Operand(u64 base, u32 type, u64 start = 0) : address(base), type(type) { move(start); }
    __device__ void move(u64 start) { address += start * size_of(type); }
    __device__ u64 of(u32 at) const { return address + (u64)at * size_of(type); }
};

// Whether packs can be read from there at once.
__device__ inline bool fits_packs(u64 base, u32 type) { return base % (4 * size_of(type)) == 0; }

// N elements from the `at`-th on.
template <class A, int N> __device__ inline Bits fetch(const Operand& o, u32 at) {
    const void* from = (const void*)o.of(at);
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
    void* to = (void*)o.of(at);
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

// A parameter, and what is kept beside it for precision's sake: operand.rs.
struct Weights {
    Operand host, beside;
    u32 precision;

    __device__ Weights(const Tensor& t, u64 host, u64 beside)
        : host(host, t.dtype), beside(beside, t.precision == MASTER ? (u32)F32 : t.dtype), precision(t.precision) {}
    __device__ static Weights of_chunk(const Tensor& t, u64 params, u64 start) {
        Weights p(t, params, t.master);
        p.host.move(start);
        p.beside.move(start);
        return p;
    }

    __device__ bool has_master() const { return precision == MASTER || precision == REMAINDER; }

    // The bits of what an update starts from: the masters where there are any, unless the host's are `shown`.
    template <class A, int N> __device__ inline void fetch_both(u32 at, bool shown, Bits& p, Bits& low) const {
        bool master = precision == MASTER && !shown;
        p = fetch<A, N>(master ? beside : host, at);
        if (precision == REMAINDER && !shown) low = fetch<A, N>(beside, at);
    }
    template <class A, int N>
    __device__ inline void values_of(const Bits& p, const Bits& low, bool shown, A (&to)[N]) const {
        if (precision == REMAINDER && !shown) {
#pragma unroll
            for (int i = 0; i < N; i++) to[i] = (A)join(get_half(p, i), get_half(low, i));
        } else {
            values(p, precision == MASTER && !shown ? (u32)F32 : host.type, to);
        }
    }
    template <class A, int N> __device__ inline void load(A (&to)[N], u32 at, bool shown) const {
        Bits p = {}, low = {};
        fetch_both<A, N>(at, shown, p, low);
        values_of(p, low, shown, to);
    }

    // Stores what was made of such values. Without masters, they then are what was stored.
    template <class A, int N> __device__ inline void store(A (&x)[N], u32 at, u64 key, u64 element) const {
        u32 type = host.type;
        if (!is_half(type)) {
            write(host, at, x);
        } else if (precision == NEAREST) {
            write_halves(host, at, x, [=](int, float v) { return round_half(v, type); });
        } else if (precision == STOCHASTIC) {
            u32 noise[N];
            random_bits<N>(key, element, FOR_PARAM, noise);
            write_halves(host, at, x, [&](int i, float v) { return round_half_by(v, noise[i], type); });
        } else {
            A shown[N];
            Bits low = {};
#pragma unroll
            for (int i = 0; i < N; i++) {
                shown[i] = x[i];
                put_half(low, i, low_of_master((float)x[i]));
            }
            write_halves(host, at, shown, [=](int, float v) { return half_of_master(v, type); });
            if (precision == REMAINDER)
                write_bits<N>(beside, at, low);
            else
                write(beside, at, x);
        }
    }

    // What the host would see: rounded to nearest, as a master is shown where there is one.
    template <class A, int N> __device__ inline void round_as_shown(A (&x)[N], bool master) const {
        if (!is_half(host.type)) return;
#pragma unroll
        for (int i = 0; i < N; i++) {
            float v = (float)x[i];
            x[i] = (A)widen_half(master ? half_of_master(v, host.type) : round_half(v, host.type), host.type);
        }
    }

    // Writes to the host's parameter, rounded to nearest.
    template <class A, int N> __device__ inline void show(A (&x)[N], u32 at) const {
        u32 type = host.type;
        if (is_half(type))
            write_halves(host, at, x, [=](int, float v) { return round_half(v, type); });
        else
            write(host, at, x);
    }
};

// Both moments. Bfloat16 ones are rounded by chance.
struct Moments {
    Operand m, v;

    __device__ Moments(const Tensor& t, u64 m, u64 v) : m(m, t.moment_dtype), v(v, t.moment_dtype) {}
    __device__ static Moments of_chunk(const Tensor& t, u64 start) {
        Moments moments(t, t.exp_avg, t.exp_avg_sq);
        moments.m.move(start);
        moments.v.move(start);
        return moments;
    }

    template <class A, int N>
    __device__ inline void store(A (&ms)[N], A (&vs)[N], u32 at, u64 key, u64 element) const {
        if (m.type == Own<A>::TYPE) {
            write(m, at, ms);
            write(v, at, vs);
        } else {
            u32 noise[N];
            random_bits<N>(key, element, FOR_MOMENTS, noise);
            write_halves(m, at, ms, [&](int i, float x) { return bf16_cut(x, noise[i]); });
            write_halves(v, at, vs, [&](int i, float x) { return bf16_cut(x, noise[i]); });
        }
    }
};

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
    }
    __device__ inline A ratio(A m, A v) const { return m / (root(v) + eps); }
    __device__ inline A param(A p, A ratio, bool exact) const {
        return exact ? p - (step_size * ratio + decay * p) : fused(-step_size, fused(decay, p, ratio), p);
    }
};

// ---- Sums --------------------------------------------------------------------------------------------------------

// The same in every lane.
__device__ inline double warp_sum(double v) {
#pragma unroll 1
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

// The elements of a tensor that are handled in one go, counted from the first of their chunk.
struct Piece {
    u32 tensor;
    u64 start; // of the chunk
    u32 from, to;
};

// Whether gradients and moments have float32's precision or more.
__device__ inline bool is_long(const Tensor& t) {
    return t.dtype == F64 || (!is_half(t.grad_dtype) && !is_half(t.moment_dtype));
}

// The same, or whether averages keep less than half of what they were.
__device__ inline bool is_exact(const Tensor& t, const Coefficients& c) {
    return is_long(t) || c.beta1 < 0.5 || c.beta2 < 0.5;
}

// The same tensor with what its kind says as constants.
template <int KIND> __device__ inline Tensor known(const Tensor& t) {
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

// Calls work.run<A, N> for every chunk that work.wants, and hands its sums to work.put. Work::LOOPS: 0, all goes
// element by element; 1, packs of MIXED tensors, FLOATS among them; 2, those of FLOATS by a loop of their own.
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
            work.template run<double, 1>(w, known<DOUBLES>(t), piece, sums);
        } else {
            enum { N = Pack<float>::N };
            if (Work::LOOPS > 0 && t.kind != ANY && work.is_aligned(w, t, tensor)) {
                piece.to = len - len % N;
                if (Work::LOOPS > 1 && t.kind == FLOATS)
                    work.template run<float, N>(w, known<FLOATS>(t), piece, sums);
                else
                    work.template run<float, N>(w, known<MIXED>(t), piece, sums);
            }
            piece.from = piece.to;
            piece.to = len;
            if (piece.from < len) work.template run<float, 1>(w, known<ANY>(t), piece, sums);
        }
        if (work.sums()) {
            block_sums(sums, shared);
            if (threadIdx.x == 0) work.put(w, chunk, sums);
        }
    }
}

// Calls f(at) for what of a piece is this thread's: packs, which begin at multiples of their size.
template <class A, int N, class F> __device__ inline void packs(const Piece& piece, F f) {
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

// One definition, so that carried sums have the bits of recomputed ones.
template <int N, class A> __device__ inline void add_squares(const A (&x)[N], double& sum) {
#pragma unroll
    for (int i = 0; i < N; i++) sum += (double)x[i] * (double)x[i];
}

template <int N, class A> __device__ inline u32 count_zeros(const A (&x)[N]) {
    u32 zeros = 0;
#pragma unroll
    for (int i = 0; i < N; i++) zeros += x[i] == A(0);
    return zeros;
}

// Flags of maw_statistics and maw_decide.
enum Flags {
    GRADIENTS = 1,      // sums of the gradients
    STATE = 2,          // sums of the state
    STATE_IF_STALE = 4, // the same unless they are carried
    MOMENTUM = 8,       // Σ g·m too
    UNSEEN = 16,        // no statistics were taken
    CHANGED = 32,       // the host changed its parameters: what it has is what counts
};

// Whether a tensor's masters, if it has any, are to begin with what the host has.
__device__ inline bool is_shown(const World& w, u32 tensor, u32 flags) {
    return flags & CHANGED || !w.mastered[tensor];
}

__device__ inline bool wants_state(const World& w, u32 flags) {
    return flags & (STATE | CHANGED) || (flags & STATE_IF_STALE && !w.state->carried);
}

struct Gradients {
    enum { SUMS = GRADIENT_SUMS, LOOPS = 2 };
    u32 momentum;

    __device__ bool wants(const World& w, u32 tensor) const { return w.grads[tensor] != 0; }
    __device__ bool is_aligned(const World& w, const Tensor& t, u32 tensor) const {
        return fits_packs(w.grads[tensor], t.grad_dtype);
    }
    __device__ bool sums() const { return true; }
    __device__ void put(const World& w, u32 chunk, const double (&sums)[SUMS]) const {
        for (int k = 0; k < SUMS; k++) w.gradient_slots[(u64)chunk * SUMS + k] = sums[k];
    }
    template <class A, int N>
    __device__ inline void run(const World& w, const Tensor& t, const Piece& piece, double (&sums)[SUMS]) const {
        Operand g(w.grads[piece.tensor], t.grad_dtype, piece.start);
        Operand m(t.exp_avg, t.moment_dtype, piece.start);
        u32 counted = w.zeros, with = momentum, zeros = 0;
        packs<A, N>(piece, [&](u32 at) {
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
        return fits_packs(w.params[tensor], t.dtype);
    }
    __device__ bool sums() const { return true; }
    __device__ void put(const World& w, u32 chunk, const double (&sums)[SUMS]) const {
        for (int k = 0; k < SUMS; k++) w.state_slots[(u64)chunk * STATE_SUMS + k] = sums[k];
    }
    template <class A, int N>
    __device__ inline void run(const World& w, const Tensor& t, const Piece& piece, double (&sums)[SUMS]) const {
        Weights p = Weights::of_chunk(t, w.params[piece.tensor], piece.start);
        Moments moments = Moments::of_chunk(t, piece.start);
        bool shown = is_shown(w, piece.tensor, flags);
        u32 counted = w.zeros, zeros = 0;
        packs<A, N>(piece, [&](u32 at) {
            A ps[N], ms[N], vs[N];
            Bits p_bits = {}, low = {};
            p.template fetch_both<A, N>(at, shown, p_bits, low);
            Bits m_bits = fetch<A, N>(moments.m, at), v_bits = fetch<A, N>(moments.v, at);
            p.values_of(p_bits, low, shown, ps);
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

extern "C" __global__ void __launch_bounds__(BLOCK) maw_statistics(const World* world, u32 flags) {
    const World& w = *world;
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

// Makes the masters what the host's parameter says.
template <class A, int N> __device__ inline void begin_masters(const Weights& p, const Piece& piece) {
    packs<A, N>(piece, [&](u32 at) {
        A ps[N];
        Bits nothing = {};
        if (p.precision == MASTER) {
            p.load(ps, at, true);
            write(p.beside, at, ps);
        } else {
            write_bits<N>(p.beside, at, nothing);
        }
    });
}

// Where a chunk's operands lie and its coefficients, for shared memory: in registers they would leave too few for the
// elements.
template <class A> struct Place {
    u64 host, beside, g, m, v;
    u64 start;
    Scalars<A> scalars;

    __device__ Place() {}
    __device__ Place(const World& w, const Tensor& t, const Piece& piece)
        : start(piece.start), scalars(w.coefficients[piece.tensor], is_exact(t, w.coefficients[piece.tensor])) {
        Weights p = Weights::of_chunk(t, w.params[piece.tensor], start);
        Moments moments = Moments::of_chunk(t, start);
        host = p.host.address;
        beside = p.beside.address;
        g = Operand(w.grads[piece.tensor], t.grad_dtype, start).address;
        m = moments.m.address;
        v = moments.v.address;
    }
};

// WANTED: how many sums of what it leaves: none, Σ θ², Σ m² and Σ v², or also the zeros of m and Σ g·m of the effective
// gradient with the new m.
template <int WANTED> struct Update {
    enum { SUMS = WANTED > 0 ? WANTED : 1, LOOPS = WANTED <= 3 ? 2 : 1 };

    __device__ bool wants(const World& w, u32 tensor) const {
        return w.coefficients[tensor].active != 0 || w.begin[tensor] != 0;
    }
    // Masters begin element by element, once in a run.
    __device__ bool is_aligned(const World& w, const Tensor& t, u32 tensor) const {
        return fits_packs(w.params[tensor], t.dtype) && fits_packs(w.grads[tensor], t.grad_dtype) && !w.begin[tensor];
    }
    __device__ bool sums() const { return WANTED > 0; }
    __device__ void put(const World& w, u32 chunk, const double (&sums)[SUMS]) const {
        if (!w.coefficients[w.chunk_tensor[chunk]].active) return; // it only began
        for (int k = 0; k < SUMS; k++) w.state_slots[(u64)chunk * STATE_SUMS + k] = sums[k];
    }
    template <class A, int N>
    __device__ inline void load(const Place<A>& place, const Tensor& t, u32 at, bool shown, A (&ps)[N], A (&gs)[N],
                                A (&ms)[N], A (&vs)[N]) const {
        Weights p(t, place.host, place.beside);
        Operand g(place.g, t.grad_dtype);
        Moments moments(t, place.m, place.v);
        Bits p_bits = {}, low = {};
        p.template fetch_both<A, N>(at, shown, p_bits, low);
        Bits g_bits = fetch<A, N>(g, at);
        Bits m_bits = fetch<A, N>(moments.m, at), v_bits = fetch<A, N>(moments.v, at);
        p.values_of(p_bits, low, shown, ps);
        values(g_bits, g.type, gs);
        values(m_bits, moments.m.type, ms);
        values(v_bits, moments.v.type, vs);
    }
    template <class A, int N>
    __device__ inline void run(const World& w, const Tensor& t, const Piece& piece, double (&sums)[SUMS]) const {
        bool begins = N == 1 && w.begin[piece.tensor] != 0;
        if (begins && !w.coefficients[piece.tensor].active) {
            begin_masters<A, N>(Weights::of_chunk(t, w.params[piece.tensor], piece.start), piece);
            return;
        }
        SHARED_ARRAY(Place<A>, shared, 1);
        __syncthreads();
        if (threadIdx.x == 0) shared[0] = Place<A>(w, t, piece);
        __syncthreads();
        u32 zeros = 0;
        packs<A, N>(piece, [&](u32 at) {
            const Place<A>& place = shared[0];
            const Scalars<A>& s = place.scalars;
            A ps[N], gs[N], ms[N], vs[N];
            READ_AGAIN;
            load(place, t, at, begins, ps, gs, ms, vs);
            READ_AGAIN;
            bool exact = is_long(t) || s.exact; // the first is known when this is compiled
#pragma unroll
            for (int i = 0; i < N; i++) s.moments(gs[i], ms[i], vs[i], exact);
#pragma unroll
            for (int i = 0; i < N; i++) ps[i] = s.param(ps[i], s.ratio(ms[i], vs[i]), exact);
            READ_AGAIN;
            Moments(t, place.m, place.v).store(ms, vs, at, s.key, place.start + at);
            if (WANTED > 0) {
                add_squares(ms, sums[1 % SUMS]);
                add_squares(vs, sums[2 % SUMS]);
            }
            if (WANTED > 3) {
                zeros += count_zeros(ms);
#pragma unroll
                for (int i = 0; i < N; i++) sums[4 % SUMS] += (double)gs[i] * (double)ms[i];
            }
            READ_AGAIN;
            Weights(t, place.host, place.beside).store(ps, at, s.key, place.start + at);
            if (WANTED > 0) add_squares(ps, sums[0]);
        });
        if (WANTED > 3) sums[3 % SUMS] += zeros;
    }
};

// At most 64 registers, for 1024 threads on a multiprocessor: scripts/ptxas.py.
extern "C" __global__ void __launch_bounds__(BLOCK, 4) maw_update(const World* world) {
    if (world->state->apply) over_chunks(*world, Update<3>());
}

// The same for `enhanced` features and for `reference`.
extern "C" __global__ void __launch_bounds__(BLOCK, 4) maw_update_counting(const World* world) {
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
#pragma unroll 1
            for (u32 i = 0; i < DECIDER_WARPS; i++) sum += shared[threadIdx.x * DECIDER_WARPS + i];
            totals[(u64)tensor * STRIDE + threadIdx.x] = sum;
        }
        __syncthreads();
    }
}

// sum + the numbers of the first `count` lanes, in their order; the same in every lane.
__device__ inline double add_in_order(double sum, double v, u32 count) {
#pragma unroll 1
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
#pragma unroll 1
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
__device__ __noinline__ double exponential(double x) {
    double r;
    x = x < -746.0 ? -746.0 : x;
    x = x > 710.0 ? 710.0 : x;
    u64 n = reduce(x, r), half = ((n + 2048) >> 1) - 1024;
    return exp_near_zero(r) * power_of_two(half) * power_of_two(n - half);
}

// 2ˣ for x ≤ 0.
__device__ __noinline__ double exp2_of_negative(double x) {
    const double magic = 6755399441055744.0;
    x = x < -1021.0 ? -1021.0 : x;
    double shifted = x + magic;
    double f = x - (shifted - magic);
    double f2 = f * f, f4 = f2 * f2, f8 = f4 * f4;
    double p0 = (0.6931471805599516 + 0.24022650695910472 * f) + (0.05550410866434658 + 0.009618129107380712 * f) * f2;
    double p4 = (0.0013333558246480897 + 0.00015403530800821882 * f) +
                (1.5252647747584307e-5 + 1.3215235632510224e-6 * f) * f2;
    double p8 = 1.0210506481451753e-7 + 7.111759146587492e-9 * f;
    u64 n = (u64)__double_as_longlong(shifted) - (u64)__double_as_longlong(magic);
    return (1.0 + f * (p0 + p4 * f4 + p8 * f8)) * power_of_two(n);
}

__device__ __noinline__ double sigmoid(double x) { return 1.0 / (1.0 + exponential(-x)); }

// xⁿ: math.rs.
__device__ __noinline__ double power(double x, u64 n) {
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

// Each head's Σⱼ pⱼ vⱼ with p = softmaxⱼ(q · kⱼ ln 2), q already scaled. qkv: G × 3D. Neighbouring lanes share the keys of
// one query: each computes every so manieth weight, and all of them add up all weights.
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
                    own = exp2_of_negative(dot(0.0, k + (u64)(start + part) * 3 * dim, q, width) - largest);
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

// -- Features: features.rs

enum Version { BASIC = 0, BASIC_PLUS = 1, ENHANCED = 2, NORM_BASIC = 3, NORM_BASIC_PLUS = 4 };

// Mean and variance (divisor N) over a group's tensors, in every lane of a warp.
__device__ void spread(const u32* members, u32 count, const double* values, u32 stride, double& mean,
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
            spread(members, count, w.statistics + (enhanced && task >= 2 ? task + 3 : task), STATISTICS, mean,
                   variance);
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
__device__ void prepare_update(const World& w, double factor, u32 flags) {
    for (u32 i = threadIdx.x; i < w.tensor_count; i += DECIDER) {
        Coefficients c = {};
        if (w.grads[i] != 0) {
            const Tensor& t = w.tensors[i];
            const Hyper& h = w.hyper[t.param_group];
            double alpha = w.modulation ? w.next_factors[t.group] : 1.0;
            double beta = w.modulation ? w.next_factors[w.group_count + t.group] : 1.0;
            u64 step = w.steps[i] + 1;
            double correction1 = 1.0 - power(h.beta1, step), root2 = sqrt(1.0 - power(h.beta2, step));
            double decay = h.lr * alpha * beta * h.weight_decay;
            c.gradient = factor;
            c.beta1 = h.beta1;
            c.beta2 = h.beta2;
            c.eps = h.eps * root2;
            c.step_size = h.lr * alpha * root2 / correction1;
            c.decay = w.reference ? decay / correction1 : decay;
            c.key = mix(w.keys[i] ^ mix(step));
            c.active = 1;
            w.steps[i] = step;
        }
        w.coefficients[i] = c;
        u32 precision = w.tensors[i].precision;
        w.begin[i] = (precision == MASTER || precision == REMAINDER) && is_shown(w, i, flags);
        w.mastered[i] = 1;
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
    bool usable = scale > 0.0 && is_finite(scale); // of the host's argument this is asked whatever the policy
    if (e.reason == NOT_SKIPPED && ((found_inf && *found_inf != 0.0f) || !usable)) e.reason = GRADIENT;
    if (e.reason == NOT_SKIPPED && w.modulation) e.reason = evaluate(w, e.factor, steps + 1, shared);
    bool apply = e.reason == NOT_SKIPPED;
    if (apply) {
        prepare_update(w, e.factor, flags);
        if (w.modulation) {
            u32 groups = w.group_count;
            for (u32 i = threadIdx.x; i < groups * w.dim; i += DECIDER) w.features[i] = w.next_features[i];
            for (u32 i = threadIdx.x; i < groups * OUTPUTS; i += DECIDER) w.factors[i] = w.next_factors[i];
        }
    }
    if (!apply && flags & CHANGED) // it was told once and holds for the next step
        for (u32 i = threadIdx.x; i < w.tensor_count; i += DECIDER) w.mastered[i] = 0;
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
    const u64* saved;   // θ as the host had it
    const u64* kept[2]; // gradients: g of B1, g′ of B2
    const Move* moves;
    const Direction* directions;
};

// What a pass of the meta-update starts from; sums go where the gradients' go.
struct Pass {
    enum { SUMS = GRADIENT_SUMS, LOOPS = 1 };
    const Meta* meta;

    __device__ bool wants(const World&, u32) const { return true; }
    __device__ bool is_aligned(const World& w, const Tensor& t, u32 tensor) const {
        if (!fits_packs(w.params[tensor], t.dtype) || !fits_packs(w.grads[tensor], t.grad_dtype)) return false;
        return !meta || (fits_packs(meta->saved[tensor], t.dtype) &&
                         fits_packs(meta->kept[0][tensor], t.grad_dtype) &&
                         fits_packs(meta->kept[1][tensor], t.grad_dtype));
    }
    __device__ bool sums() const { return true; }
    __device__ void put(const World& w, u32 chunk, const double (&sums)[SUMS]) const {
        for (int k = 0; k < SUMS; k++) w.gradient_slots[(u64)chunk * SUMS + k] = sums[k];
    }
};

// θ′ as it would be stored: rounded to nearest also where a step rounds by chance; where there are masters, what the
// moved master shows. The same bits whenever it is asked for.
template <class A, int N> struct Origin {
    Weights p;
    Operand g;
    Moments moments;
    u64 how;
    Scalars<A> s;
    bool exact;

    __device__ Origin(const Meta& meta, const Tensor& t, const Piece& piece)
        : p(Weights::of_chunk(t, meta.saved[piece.tensor], piece.start)),
          g(meta.kept[0][piece.tensor], t.grad_dtype, piece.start), moments(Moments::of_chunk(t, piece.start)),
          how(meta.moves[piece.tensor].how),
          s(meta.moves[piece.tensor].coefficients, is_exact(t, meta.moves[piece.tensor].coefficients)),
          exact(is_long(t) || s.exact) {}

    // θ or its masters, m′/(√v̂′ + ε), and θ′.
    __device__ void point(u32 at, A (&ps)[N], A (&ratio)[N], A (&moved)[N]) const {
        p.load(ps, at, how == STAY);
        if (how == STAY) {
#pragma unroll
            for (int i = 0; i < N; i++) {
                moved[i] = ps[i];
                ratio[i] = A(0);
            }
            return;
        }
        A gs[N] = {}, ms[N], vs[N];
        read(ms, moments.m, at);
        read(vs, moments.v, at);
        if (how == STEP) read(gs, g, at);
#pragma unroll
        for (int i = 0; i < N; i++) {
            if (how == STEP) s.moments(gs[i], ms[i], vs[i], exact);
            ratio[i] = s.ratio(ms[i], vs[i]);
            moved[i] = s.param(ps[i], ratio[i], exact);
        }
        p.round_as_shown(moved, p.has_master());
    }
};

// The direction w, in float64.
template <class A, int N> struct Way {
    Operand g, g2;
    double train1, train2;

    __device__ Way(const Meta& meta, const Tensor& t, const Piece& piece)
        : g(meta.kept[0][piece.tensor], t.grad_dtype, piece.start),
          g2(meta.kept[1][piece.tensor], t.grad_dtype, piece.start),
          train1(meta.directions[piece.tensor].train1), train2(meta.directions[piece.tensor].train2) {}

    __device__ void w(u32 at, double (&out)[N]) const {
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
        Origin<A, N> origin(*meta, t, piece);
        Weights out = Weights::of_chunk(t, w.params[piece.tensor], piece.start);
        packs<A, N>(piece, [&](u32 at) {
            A ps[N], ratio[N], moved[N];
            origin.point(at, ps, ratio, moved);
            for (int i = 0; i < N; i++)
                sums[0] += (double)moved[i] * (double)moved[i];
            out.show(moved, at);
        });
    }
};

struct Alignment : Pass {
    template <class A, int N>
    __device__ inline void run(const World&, const Tensor& t, const Piece& piece, double (&sums)[SUMS]) const {
        Operand g(meta->kept[0][piece.tensor], t.grad_dtype, piece.start);
        Operand g2(meta->kept[1][piece.tensor], t.grad_dtype, piece.start);
        packs<A, N>(piece, [&](u32 at) {
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
        Way<A, N> way(*meta, t, piece);
        packs<A, N>(piece, [&](u32 at) {
            double ws[N];
            way.w(at, ws);
            for (int i = 0; i < N; i++) sums[0] += ws[i] * ws[i];
        });
    }
};

struct Neighbour : Pass {
    double radius;

    template <class A, int N>
    __device__ inline void run(const World& w, const Tensor& t, const Piece& piece, double (&sums)[SUMS]) const {
        Origin<A, N> origin(*meta, t, piece);
        Way<A, N> way(*meta, t, piece);
        Weights out = Weights::of_chunk(t, w.params[piece.tensor], piece.start);
        double r = radius;
        packs<A, N>(piece, [&](u32 at) {
            A ps[N], ratio[N], moved[N], stored[N];
            double ws[N];
            origin.point(at, ps, ratio, moved);
            way.w(at, ws);
            for (int i = 0; i < N; i++) stored[i] = (A)((double)moved[i] + r * ws[i]);
            out.round_as_shown(stored, false);
            for (int i = 0; i < N; i++)
                sums[0] += ((double)stored[i] - (double)moved[i]) * ws[i];
            out.show(stored, at);
        });
    }
};

struct Project : Pass {
    u32 differs; // x = host·b − train2·g′; else host·b
    double host, train2;

    template <class A, int N>
    __device__ inline void run(const World& w, const Tensor& t, const Piece& piece, double (&sums)[SUMS]) const {
        Origin<A, N> origin(*meta, t, piece);
        Operand b(w.grads[piece.tensor], t.grad_dtype, piece.start);
        Operand g2(meta->kept[1][piece.tensor], t.grad_dtype, piece.start);
        bool has = w.grads[piece.tensor] != 0, two = differs;
        double times_b = host, times_g2 = train2;
        packs<A, N>(piece, [&](u32 at) {
            A ps[N], ratio[N], moved[N], bs[N] = {}, g2s[N] = {};
            origin.point(at, ps, ratio, moved);
            if (has) read(bs, b, at);
            if (two) read(g2s, g2, at);
            for (int i = 0; i < N; i++) {
                double x = has ? times_b * (double)bs[i] : 0.0;
                if (two) x -= times_g2 * (double)g2s[i];
                if (origin.how != STAY) sums[0] += x * (double)ratio[i];
                sums[1] += x * (double)ps[i];
            }
        });
    }
};

// Makes the masters of the tensors in `begin` what the host's parameters say.
struct Begin : Pass {
    enum { LOOPS = 0 };

    __device__ bool wants(const World& w, u32 tensor) const { return w.begin[tensor] != 0; }
    __device__ bool sums() const { return false; }
    template <class A, int N>
    __device__ inline void run(const World& w, const Tensor& t, const Piece& piece, double (&)[SUMS]) const {
        begin_masters<A, N>(Weights::of_chunk(t, w.params[piece.tensor], piece.start), piece);
    }
};

// The number of elements that are not what their masters show. Of remainders nobody can tell.
struct Strangers : Pass {
    enum { LOOPS = 0 };

    template <class A, int N>
    __device__ inline void run(const World& w, const Tensor& t, const Piece& piece, double (&sums)[SUMS]) const {
        Weights p = Weights::of_chunk(t, w.params[piece.tensor], piece.start);
        if (p.precision != MASTER) return;
        packs<A, N>(piece, [&](u32 at) {
            Bits host = fetch<A, N>(p.host, at);
            A masters[N];
            read(masters, p.beside, at);
            for (int i = 0; i < N; i++)
                if (half_of_master((float)masters[i], p.host.type) != get_half(host, i)) sums[0] += 1.0;
        });
    }
};

// Writes θ′; Σ θ′².
extern "C" __global__ void __launch_bounds__(BLOCK, 2) maw_moved(const World* world, const Meta* meta) {
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

// Writes θ′ + radius·w; ⟨δ, w⟩, δ = what was written − θ′.
extern "C" __global__ void __launch_bounds__(BLOCK, 2)
    maw_neighbour(const World* world, const Meta* meta, double radius) {
    Neighbour work;
    work.meta = meta;
    work.radius = radius;
    over_chunks(*world, work);
}

// Σ x·r, Σ x·θ.
extern "C" __global__ void __launch_bounds__(BLOCK, 2)
    maw_project(const World* world, const Meta* meta, u32 differs, double host, double train2) {
    Project work;
    work.meta = meta;
    work.differs = differs;
    work.host = host;
    work.train2 = train2;
    over_chunks(*world, work);
}

extern "C" __global__ void __launch_bounds__(BLOCK) maw_begin(const World* world) {
    Begin work;
    work.meta = 0;
    over_chunks(*world, work);
}

extern "C" __global__ void __launch_bounds__(BLOCK) maw_strangers(const World* world) {
    Strangers work;
    work.meta = 0;
    over_chunks(*world, work);
}
