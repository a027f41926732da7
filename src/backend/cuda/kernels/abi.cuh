// What host and kernels agree on: the numbers and structs that abi.rs mirrors, field by field.
#pragma once

typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

// Threads of a block: of passes over chunks, and of the one block that decides.
#define BLOCK 256
#define DECIDER 512
// Doubles of shared memory for the attention module's activations.
#define SHARED_ACTIVATIONS 4800

enum Type { F32 = 0, F64 = 1, BF16 = 2, F16 = 3 };
// How a 16-bit parameter keeps precision: dtype.rs.
enum Precision { NEAREST = 0, MASTER = 1, REMAINDER = 2, STOCHASTIC = 3 };
// Which types a tensor has: all float32; float32 or bfloat16 each; a float64 parameter; or others.
enum Kind { ANY = 0, FLOATS = 1, MIXED = 2, DOUBLES = 3 };
// Of features.
enum Version { BASIC = 0, BASIC_PLUS = 1, ENHANCED = 2, NORM_BASIC = 3, NORM_BASIC_PLUS = 4, NORM_LOG = 5 };

// Of maw_statistics, maw_decide, maw_totals and maw_pack.
enum Flags {
    GRADIENTS = 1,      // sums of the gradients
    STATE = 2,          // sums of the state
    STATE_IF_STALE = 4, // the same unless they are carried from the last update
    MOMENTUM = 8,       // Σ g·m too
    UNCHECKED = 16,     // no statistics were taken
    CHANGED = 32,       // the host changed its parameters: they count, not the masters
    DISPLACEMENTS = 64, // Σ g·(θ − θ̄)
    VOTES = 128,        // of maw_pack: which tensors have a gradient
    PRODUCTS = 256,     // of maw_pack: an update's, in the place of the gradients' sums
    PRESENT = 512,      // of maw_pack: no sums of tensors without a gradient
};

// Why a step is skipped, in the order of the host's checks.
enum Skip { GRADIENT = 0, PARAMETER = 1, MOMENT = 2, FEATURE = 3, FACTOR = 4, NOT_SKIPPED = 5 };
#define NO_TENSOR 0xffffffffu

#define GRADIENT_SUMS 3 // Σ g², Σ g·m, zeros of g
#define STATE_SUMS 5    // Σ θ², Σ m², Σ v², zeros of m, Σ g·m with the new m
#define STATISTICS 7    // as in stats.rs
#define OUTPUTS 4       // of the attention module, per group

// What processes that share a model must have in common: options, tensors, param groups, call, state. all_reduce.rs.
#define SUBJECTS 5
#define OF_HYPER 2
#define OF_CALL 3
#define OF_STATE 4
#define PIECES 4 // words of a hash
// Of a reduction's buffer: processes; those that refuse; those with what is not finite; those with found_inf; then the
// pieces of the hashes, and their squares. Behind it one vote a tensor, the gradients' sums and the state's.
#define HEADER (4 + 2 * PIECES * SUBJECTS)

// Why a step is not made on any process.
enum Failure { NO_FAILURE = 0, NO_SUM = 1, REFUSED = 2, DIFFER = 3, NOT_FINITE = 8, SOME_GRADIENTS = 9 };

// What this process brings to a reduction.
struct Agreement {
    u64 hashes[SUBJECTS];
    u64 device_scale, found_inf; // addresses of floats, or 0
    u64 of_device;               // the state's hash is made here
    u64 refuses;                 // it cannot make the call
};

struct Tensor {
    u64 numel;               // of what this process has
    u64 whole_numel, offset; // of the whole tensor, and where its part begins
    u64 exp_avg, exp_avg_sq; // addresses of the moments
    u64 master;              // and of the masters or remainders; 0 without
    double max_square;       // of a gradient that leaves the second moment finite
    u32 first_chunk, chunks;
    u32 param_group, group;
    u32 dtype, grad_dtype, moment_dtype, precision; // Type, and Precision
    u32 kind;                                       // Kind
    u32 first_sum, sums, own_sum; // among the sums of all chunks: the tensor's, and the first of its part
};

struct Coefficients { // of one tensor in this step: coefficients.rs
    double gradient, beta1, beta2, eps, step_size, decay;
    u64 key;    // of stochastic rounding
    u64 active; // it has a gradient
};

struct Hyper { // of a param group
    double lr, beta1, beta2, eps, weight_decay;
};

struct LastGradient { // `reference`: the effective gradient of the last applied step against the moments after it
    double square, with_momentum, zeros;
    u64 known;
};

struct Settings { // options that may change
    u64 total_steps;
    double alpha_range, beta_range, max_grad_norm;
    u64 propagate; // what is not finite is not looked for
    double alpha_ln_range, beta_ln_range; // of logarithmic ranges; 0: those above
    double average_share;                 // 1/N, a step's share in an average
    u64 meta_warmup;
};

struct State { // of the run
    u64 steps;
    u64 skips[5];
    u64 last_reason, last_tensor, last_steps; // of the last skipped step; NOT_SKIPPED: none
    u64 decided;                              // steps that were decided, applied or not
    u32 sums_current;                         // state_slots hold the sums of the state as it is
    u32 features_known;                       // features and factors of an applied step are there
    u32 apply;                                // verdict of the step under way
    u32 slots_have_momentum;                  // state_slots hold Σ g·m of the last applied step
    u64 horizon_steps;                        // steps that horizon_sums are of
    u64 failures;                             // steps that were not made since the processes do not agree
    u64 failure, failure_tensor;              // of the last: Failure
    double processes;                         // how many answered then
    u64 sums_kept;                            // kept_state_slots hold the sums of the state before the host changed it
    u64 agreed[SUBJECTS];                     // hashes of what this process brought to the last reduction
};

struct Report { // in host memory; `begun` and `done` differ while it is written
    u64 begun;
    u64 steps, skipped_steps;
    double grad_norm, clip;
    u64 reason, tensor;
    u64 failures, failure, failure_tensor;
    double processes;
    u64 done;
};

struct World { // the argument of every kernel: addresses and sizes
    // one a tensor
    const Tensor* tensors;
    const u64* params;
    const u64* grads;
    const double* fixed_features; // ln(numel + 1), is a bias, depth
    const u64* keys;              // of stochastic rounding
    u32* master_initialized;      // its masters have values, or it has none
    u32* init_master;             // its masters are initialised in this step with the host's parameter
    u64* steps;
    Coefficients* coefficients;
    LastGradient* last_gradients;
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
    u32 embed_dim, gates, version, basic_columns;
    u32 include_time, statistical_columns, modulation, count_zeros;
    u32 reference, average_dtype; // Type, of tensors that are not float64
    u32* overwritten; // one a tensor: a step found its parameter changed and wrote its master's copy over it
    // of the averages, one a tensor; NULL without
    const u64* averages;
    u32* average_initialized; // it has a value
    u32* init_average;        // it begins in this step, or it is one that a pass is for
    // of the horizon objective; NULL with others
    double* displacement_slots;  // Σ g·(θ − θ̄) of the host's gradient before the update, one a chunk
    double* displacement_totals; // one a tensor
    double* horizon_sums;        // H, one a modulation group: of effective gradients, of steps after meta_warmup
    // The sums of all chunks of the model: those above, or where processes share it, in the reduction's buffer.
    double* all_gradient_sums;
    double* all_state_sums;
    // Of several processes; NULL alone.
    double* reduction;
    double* votes;        // one a tensor, in the buffer: processes that have a gradient
    double* kept_state_slots;
    const double* owners; // one a tensor: processes that have elements
    const double* processes;
    u32 phi_len, all_chunks;
};

// How θ′ is made from θ: it stays, or is a step away with the stored gradient, or with the moments as they are.
enum TrialKind { TRIAL_NONE = 0, TRIAL_GRADIENT = 1, TRIAL_MOMENTS = 2 };

struct TrialStep {
    u64 kind; // TrialKind
    Coefficients coefficients;
};

struct Direction { // w = train2·g′ + train1·g
    double train2, train1;
};

struct MetaArguments { // of a meta-update's kernels: addresses, one a tensor each
    const u64* saved_params; // θ
    const u64* gradients[2]; // the stored g of B1, g′ of B2
    const TrialStep* trials;
    const Direction* directions;
};
