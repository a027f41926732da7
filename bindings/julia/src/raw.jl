# Generated from include/metaadamw.h by gen/generate.jl; not to be edited.

"""
The C API as it is: structs of the header's layout, its constants, and one function a C function, which calls
the pointer that `load!` found in the library. Nothing is checked here; `include/metaadamw.h` is the manual.
"""
module Raw

"""
The library's version as text.
"""
const MAW_VERSION = "0.1.0"

"""
Number of the ABI and of the shared object's name (libmetaadamw.so.1). Under one number functions, and fields whose
default is 0, may be added; nothing is taken away.
"""
const MAW_ABI_VERSION = 1

"""
First number of the library's version.
"""
const MAW_VERSION_MAJOR = 0

"""
Second number of the library's version.
"""
const MAW_VERSION_MINOR = 1

"""
Third number of the library's version.
"""
const MAW_VERSION_PATCH = 0

"""
Success.
"""
const MAW_OK = 0

"""
An argument is NULL, out of range, of the wrong count or otherwise unusable; the message names it.
"""
const MAW_INVALID_ARGUMENT = -1

"""
The call does not fit the state of the handle, for example a step while a meta-update is open.
"""
const MAW_INVALID_STATE = -2

"""
This version of the library cannot do what was asked.
"""
const MAW_UNSUPPORTED = -3

"""
Another call on the same handle is running (or this one comes from its log callback). Nothing was done.
"""
const MAW_BUSY = -4

"""
Not finite, under `MAW_NONFINITE_ERROR`: a gradient, parameter, moment, feature or factor.
"""
const MAW_NOT_FINITE = -5

"""
Memory ran out. The error object is a static one.
"""
const MAW_OUT_OF_MEMORY = -6

"""
A bug inside the library; the handle is poisoned: every later call but free and the error functions answers this.
"""
const MAW_PANIC = -7

"""
No tensor, group or entry of that name or index.
"""
const MAW_NOT_FOUND = -8

"""
`verify_params` is on and the parameters changed since the last step without `MAW_STEP_PARAMS_CHANGED`.
"""
const MAW_PARAMS_CHANGED = -9

"""
The operating system refused a file operation; the message says which.
"""
const MAW_IO = -10

"""
A checkpoint is damaged, or the file is none.
"""
const MAW_CORRUPT = -11

"""
A checkpoint belongs to another model or to other options; the message lists the first differences.
"""
const MAW_MISMATCH = -12

"""
The CUDA driver refused a call, or tells that a kernel failed; the message names the driver's function and its error.
After a kernel failed, the process cannot use the device any more.
"""
const MAW_CUDA_ERROR = -13

"""
32-bit IEEE float.
"""
const MAW_FLOAT32 = 1

"""
64-bit IEEE float.
"""
const MAW_FLOAT64 = 2

"""
bfloat16: the upper half of a 32-bit float. As `uint16_t`.
"""
const MAW_BFLOAT16 = 3

"""
16-bit IEEE float. As `uint16_t`.
"""
const MAW_FLOAT16 = 4

"""
Each new value of a 16-bit parameter is rounded to nearest, and an update below half a unit of its last place is lost.
"""
const MAW_PRECISION_NEAREST = 0

"""
The library keeps float32 masters, which the updates move; the host's 16-bit parameter shows them, rounded to nearest.
4 bytes more an element.
"""
const MAW_PRECISION_MASTER = 1

"""
The same float32 masters, bit for bit, in 2 + 2 bytes: the host's bfloat16 parameter, and in the library the 16 bits that
it lacks. bfloat16 only; 2 bytes more an element.
"""
const MAW_PRECISION_REMAINDER = 2

"""
Each new value of a 16-bit parameter is rounded up or down by chance, so that the mean is right: no more memory. The
chance depends on `maw_options.seed`, the tensor's name, its step and the element alone.
"""
const MAW_PRECISION_STOCHASTIC = 3

"""
Host memory.
"""
const MAW_CPU = 0

"""
CUDA device memory. Needs a driver for CUDA 11.8 or newer and a device of compute capability 7.0 or newer.
"""
const MAW_CUDA = 1

"""
The paper's equations.
"""
const MAW_PAPER = 0

"""
The authors' published program, where it differs from the paper.
"""
const MAW_REFERENCE = 1

"""
Mean norms of gradient, moments and parameters, mean cosine of gradient and momentum.
"""
const MAW_FEATURES_BASIC = 0

"""
`BASIC` and the standard deviations over the group's tensors.
"""
const MAW_FEATURES_BASIC_PLUS = 1

"""
Means and variances, shares of zeros, size, kind and depth of the tensors, a learned embedding.
"""
const MAW_FEATURES_ENHANCED = 2

"""
`BASIC`, each statistical column standardised over the groups.
"""
const MAW_FEATURES_NORM_BASIC = 3

"""
`BASIC_PLUS`, each statistical column standardised over the groups.
"""
const MAW_FEATURES_NORM_BASIC_PLUS = 4

"""
One modulation group for each (layer kind, depth bucket, bias or not), found from the tensors' names.
"""
const MAW_GROUPING_FINE_GRAINED = 0

"""
The modulation groups are the param groups.
"""
const MAW_GROUPING_BY_PARAM_GROUP = 1

"""
`maw_tensor.modulation_group` names the modulation group of each tensor.
"""
const MAW_GROUPING_CUSTOM = 2

"""
Every weight matrix Xavier-uniform.
"""
const MAW_INIT_XAVIER = 0

"""
The output projection starts at 0, so that alpha = beta = 1, that is AdamW, until the first meta-update.
"""
const MAW_INIT_IDENTITY = 1

"""
Gradient alignment, loss decrease and generalization gap together.
"""
const MAW_OBJECTIVE_COMBINED = 0

"""
Gradient alignment alone (eq. 10).
"""
const MAW_OBJECTIVE_GRADIENT = 1

"""
Loss decrease on the validation batch alone (eq. 11).
"""
const MAW_OBJECTIVE_LOSS_DECREASE = 2

"""
Generalization gap alone (eq. 12): does not depend on the attention module, which then moves by its regularisation only.
"""
const MAW_OBJECTIVE_GEN_GAP = 3

"""
Homoscedastic uncertainty weighting with the user's priorities (eq. 13).
"""
const MAW_WEIGHTING_HUW = 0

"""
The weights of `maw_options.fixed_weights`.
"""
const MAW_WEIGHTING_FIXED = 1

"""
The plain sum of the three terms.
"""
const MAW_WEIGHTING_SUM = 2

"""
HUW weighs the term by exp(-s)/2.
"""
const MAW_KIND_REGRESSION = 0

"""
HUW weighs the term by exp(-s).
"""
const MAW_KIND_CLASSIFICATION = 1

"""
Hessian-vector product by central differences: two more gradients on the second training batch.
"""
const MAW_DIFFERENCE_CENTRAL = 0

"""
By a forward difference: one more gradient.
"""
const MAW_DIFFERENCE_FORWARD = 1

"""
Counted as 0: no more gradients; alpha and beta learn nothing from the gradient alignment.
"""
const MAW_DIFFERENCE_FIRST_ORDER = 2

"""
A step with something not finite changes nothing but the count of skipped steps; the report says why.
"""
const MAW_NONFINITE_SKIP = 0

"""
Such a step fails with `MAW_NOT_FINITE` and changes nothing at all.
"""
const MAW_NONFINITE_ERROR = 1

"""
Nobody looks, as in PyTorch's AdamW: what is not finite spreads. Only with `modulation` = 0; saves a reading of the
gradients, and the report's `grad_norm` is NaN unless clipping needs it.
"""
const MAW_NONFINITE_PROPAGATE = 2

"""
The name says what the layer is, or nothing does.
"""
const MAW_LAYER_UNKNOWN = 0

"""
A linear (fully connected) layer.
"""
const MAW_LAYER_LINEAR = 1

"""
An embedding table.
"""
const MAW_LAYER_EMBEDDING = 2

"""
A part of an attention layer.
"""
const MAW_LAYER_ATTENTION = 3

"""
A part of a layer norm.
"""
const MAW_LAYER_LAYERNORM = 4

"""
Every param group, where a param group's index is asked for.
"""
const MAW_ALL_GROUPS = typemax(UInt32)

"""
`maw_step_options.flags`: the host changed parameters since the last step, so that carried sums are recomputed.
"""
const MAW_STEP_PARAMS_CHANGED = 1

"""
`maw_step_report_fetch`: wait for every step that was enqueued.
"""
const MAW_FETCH_WAIT = 1

"""
`maw_reset`: first and second moments and step counts, of every tensor and of the optimizer, back to 0.
"""
const MAW_RESET_MOMENTS = 1

"""
`maw_reset`: the attention module back to its initial values.
"""
const MAW_RESET_ATTENTION = 2

"""
Saving and loading: the attention module alone.
"""
const MAW_ATTENTION_ONLY = 1

"""
Loading: options that only steer the future may differ; the file's hold afterwards.
"""
const MAW_LOAD_FILE_WINS = 2

"""
Loading: options that only steer the future may differ; the optimizer's own hold afterwards.
"""
const MAW_LOAD_OWN_WINS = 4

"""
`maw_step_report.skip_reason`: the step was applied.
"""
const MAW_SKIP_NONE = 0

"""
A gradient is not finite, or so large that the second moment or its norm would not be.
"""
const MAW_SKIP_GRADIENT = 1

"""
A parameter, or its norm, is not finite.
"""
const MAW_SKIP_PARAMETER = 2

"""
A first or second moment, or its norm, is not finite.
"""
const MAW_SKIP_MOMENT = 3

"""
A feature is not finite.
"""
const MAW_SKIP_FEATURE = 4

"""
A factor (alpha, beta, lambda1, lambda2) is not finite.
"""
const MAW_SKIP_FACTOR = 5

"""
`maw_step_report.nonfinite_tensor`: no tensor is to blame.
"""
const MAW_NO_TENSOR = typemax(UInt64)

"""
Nothing more to evaluate; the host's parameters hold the exact bits they held at `maw_meta_begin`.
"""
const MAW_META_DONE = 0

"""
Evaluate the loss.
"""
const MAW_META_LOSS = 1

"""
Evaluate the loss and the gradients.
"""
const MAW_META_GRADIENT = 2

"""
The first training batch B1 (training mode).
"""
const MAW_BATCH_TRAIN_1 = 1

"""
The second training batch B2, disjoint from B1 (training mode).
"""
const MAW_BATCH_TRAIN_2 = 2

"""
The validation batch (evaluation mode).
"""
const MAW_BATCH_VALIDATION = 3

"""
`maw_meta_result.outcome`: no meta-update has ended yet.
"""
const MAW_OUTCOME_NONE = 0

"""
The attention module was updated.
"""
const MAW_OUTCOME_UPDATED = 1

"""
The host called `maw_meta_abort`.
"""
const MAW_OUTCOME_ABORTED = 2

"""
A loss that the host told is not finite.
"""
const MAW_OUTCOME_LOSS_NOT_FINITE = 3

"""
A gradient that the host told is not finite.
"""
const MAW_OUTCOME_GRADIENT_NOT_FINITE = 4

"""
A parameter, moment, feature, factor or moved parameter is not finite.
"""
const MAW_OUTCOME_STATE_NOT_FINITE = 5

"""
The direction w of the Hessian product is not finite, or its step vanished in rounding.
"""
const MAW_OUTCOME_DIRECTION_NOT_FINITE = 6

"""
The gradient of the attention module is not finite.
"""
const MAW_OUTCOME_META_GRADIENT_NOT_FINITE = 7

"""
`maw_log_callback`: something worth knowing.
"""
const MAW_LOG_INFO = 1

"""
`maw_log_callback`: something that probably was not meant.
"""
const MAW_LOG_WARNING = 2

"""
Bytes that the library made and the caller owns; freed with `maw_bytes_free`.
"""
struct maw_bytes end

"""
Memory of a CUDA device, lent to a host that has no CUDA of its own. Opaque: created by `maw_device_buffer_create`,
freed by `maw_device_buffer_free`. One call at a time.
"""
struct maw_device_buffer end

"""
Why a call failed: a status and a text that names the argument, what was expected and what came.

A function that fails stores one through its last parameter, unless that is NULL; the caller owns it and frees it
with `maw_error_free`. It belongs to no handle and to no thread.
"""
struct maw_error end

"""
An optimizer. Opaque: created by `maw_optimizer_create`, freed by `maw_optimizer_free`.

It may move between threads, and different handles are independent. A call on a handle that is inside another call
answers `MAW_BUSY` at once and does nothing.
"""
struct maw_optimizer end

"""
What a call answers: `MAW_OK` (0) or a negative number, one of `MAW_INVALID_ARGUMENT` and the following.
"""
const maw_status = Int32

"""
The optimizer's options, fixed at creation except where a setter exists. `maw_options_init` fills the defaults.
"""
struct maw_options
    # `sizeof(maw_options)` of the caller; set by `maw_options_init`.
    struct_size::Csize_t
    # Seed of the attention module's initial values and of rounding by chance: the same on every platform. Default 0.
    seed::UInt64
    # Steps of the whole run for the time feature, or 0 if unknown (default): then 2·sigmoid(step/1000) − 1.
    total_steps::UInt64
    # Steps between two meta-updates, at least 1. Default 200.
    meta_interval::UInt64
    # First step at which a meta-update can be due. Default 0.
    meta_warmup::UInt64
    # Width of alpha's range around 1, 0 to 2: alpha in 1 ± range/2. Default 1.
    alpha_range::Cdouble
    # Width of beta's range around 1, 0 to 2. Default 1.
    beta_range::Cdouble
    # Learning rate of the attention module's SGD step, ≥ 0. Default 1e-4.
    meta_lr::Cdouble
    # Weight of the norms of the attention module's tensors in the meta-objective, ≥ 0. Default 1e-4.
    meta_weight_decay::Cdouble
    # Weight of the sum of |gate| in the meta-objective, ≥ 0; with `use_feature_gating`. Default 1e-4.
    feature_gating_sparsity::Cdouble
    # HUW priorities p of gradient alignment, loss decrease, generalization gap, each ≥ 0. Default 1, 1, 1.
    priorities::NTuple{3, Cdouble}
    # Weights of the three terms under `MAW_WEIGHTING_FIXED`. Default 1, 1, 1.
    fixed_weights::NTuple{3, Cdouble}
    # Start of HUW's three log-variances s. Default 0.
    huw_initial_log_var::Cdouble
    # |s| is kept at or below this after each meta-update, ≥ 0; 0 = no limit, as the paper. Default 10.
    log_var_limit::Cdouble
    # Relative size of the step for the Hessian product; 0 (default) = 6e-6 for float64 (forward: 1.5e-8), 3e-3 for float32,
    # 3e-2 for 16-bit parameters.
    difference_scale::Cdouble
    # Gradients are scaled down to this global norm as by torch's clip_grad_norm_; 0 (default) = no clipping.
    max_grad_norm::Cdouble
    # `MAW_PAPER` (default) or `MAW_REFERENCE`.
    semantics::Int32
    # `MAW_FEATURES_…`. Default `MAW_FEATURES_BASIC`.
    feature_version::Int32
    # `MAW_GROUPING_…`. Default `MAW_GROUPING_FINE_GRAINED`.
    grouping::Int32
    # `MAW_INIT_…`. Default `MAW_INIT_XAVIER`.
    init::Int32
    # `MAW_OBJECTIVE_…`. Default `MAW_OBJECTIVE_COMBINED`.
    objective::Int32
    # `MAW_WEIGHTING_…`, of the combined objective. Default `MAW_WEIGHTING_HUW`.
    weighting::Int32
    # `MAW_KIND_…` of the three terms under HUW. Default `MAW_KIND_REGRESSION`.
    huw_kinds::NTuple{3, Int32}
    # `MAW_DIFFERENCE_…`. Default `MAW_DIFFERENCE_CENTRAL`.
    difference::Int32
    # `MAW_NONFINITE_…`. Default `MAW_NONFINITE_SKIP`.
    nonfinite::Int32
    # `MAW_CPU` (default) or `MAW_CUDA`: where parameters, gradients and moments lie.
    device::Int32
    # Index of the CUDA device; 0 on the CPU.
    device_index::Int32
    # 1 (default): MetaAdamW. 0: alpha = beta = 1 always, no features, no meta-updates: plain AdamW.
    modulation::UInt32
    # 1 (default): the norm of the second moment is a feature. Not used by `MAW_FEATURES_ENHANCED`.
    use_v_norms::UInt32
    # 1 (default): the time step is a feature.
    include_time_step::UInt32
    # 1: each feature column is scaled by a learned gate. Default 0.
    use_feature_gating::UInt32
    # Columns of the learned group embedding, 1 to 4,096; `MAW_FEATURES_ENHANCED` only. Default 4.
    group_embed_dim::UInt32
    # Width D of a token, up to 65,536; 0 (default) = the features' own length. Rounded up to a multiple of `attn_heads`.
    feature_dim::UInt32
    # Heads of the encoder, 1 to 1,024. Default 6.
    attn_heads::UInt32
    # Layers of the encoder, 1 to 4,096. Default 8.
    attn_layers::UInt32
    # Width of the encoder's feed-forward layers, 1 to 65,536. Default 16.
    attn_hidden_dim::UInt32
    # Threads of a step, up to 1,024; 0 (default) = the cores at hand; 1 = the caller's thread only. Any number gives the same bits.
    threads::UInt32
    # 1: each step recomputes what could be carried over, and finds parameters that changed unannounced. Default 0.
    verify_params::UInt32
end

"""
Hyper-parameters that tensors share. `maw_param_group_init` fills the defaults.
"""
struct maw_param_group
    # `sizeof(maw_param_group)` of the caller; set by `maw_param_group_init`.
    struct_size::Csize_t
    # Learning rate, ≥ 0. Default 5e-4 (the paper's).
    lr::Cdouble
    # Decay of the first moment, 0 ≤ beta1 < 1. Default 0.9.
    beta1::Cdouble
    # Decay of the second moment, 0 ≤ beta2 < 1. Default 0.999.
    beta2::Cdouble
    # Added to the root of the second moment, > 0 in what the tensors are computed in. Default 1e-8.
    eps::Cdouble
    # Decoupled weight decay, ≥ 0. Default 1e-2.
    weight_decay::Cdouble
    # `MAW_PRECISION_…`: how 16-bit parameters keep precision; for other tensors `MAW_PRECISION_NEAREST`, the default.
    precision::Int32
    # Of both moments: 0 (default) = float64 for float64 tensors, else float32; `MAW_FLOAT32`; or `MAW_BFLOAT16`, rounded
    # by chance as under `MAW_PRECISION_STOCHASTIC`.
    moment_dtype::Int32
end

"""
A parameter tensor as it is registered. `maw_tensor_init` zeroes it and sets `dtype` to `MAW_FLOAT32`.
"""
struct maw_tensor
    # `sizeof(maw_tensor)` of the caller; set by `maw_tensor_init`.
    struct_size::Csize_t
    # Unique in the optimizer: 1 to 1,024 bytes of UTF-8 without control characters, as in "layers.0.attn.weight". Copied.
    name::Cstring
    # `ndim` lengths; may be NULL when `ndim` is 0 (a scalar of one element). A length may be 0. Copied.
    shape::Ptr{UInt64}
    # Under `MAW_GROUPING_CUSTOM`: the name of the tensor's modulation group (rules as for `name`). Else NULL. Copied.
    modulation_group::Cstring
    # Number of dimensions, at most 64.
    ndim::UInt32
    # The parameter's dtype, `MAW_FLOAT32` …; float64 is computed in float64, all else in float32.
    dtype::Int32
    # The gradient's dtype: 0 (default) = `dtype`, or any other.
    grad_dtype::Int32
    # `MAW_LAYER_…`: what the tensor belongs to, where its name does not tell. Default `MAW_LAYER_UNKNOWN`.
    layer_kind::Int32
end

"""
What a single step is told. `maw_step_options_init` fills the defaults.
"""
struct maw_step_options
    # `sizeof(maw_step_options)` of the caller; set by `maw_step_options_init`.
    struct_size::Csize_t
    # The gradients are this many times too large (loss scaling); > 0. Default 1. A step that is captured into a CUDA graph
    # keeps it: there use `device_grad_scale`.
    grad_scale::Cdouble
    # 0 or `MAW_STEP_PARAMS_CHANGED`. Captured, it holds for every replay.
    flags::UInt32
    # Must be 0.
    reserved::UInt32
    # CUDA: a float in device memory that takes the place of `grad_scale`, read when the step runs; a value that is not
    # finite or not above 0 skips the step (`MAW_SKIP_GRADIENT`), whatever `nonfinite` says. Must be NULL on the CPU,
    # with `verify_params` and under `MAW_NONFINITE_ERROR`. Default NULL.
    device_grad_scale::Ptr{Cfloat}
    # CUDA: a float in device memory, read when the step runs; the step is skipped (`MAW_SKIP_GRADIENT`) unless it is 0,
    # whatever `nonfinite` says. NULL where `device_grad_scale` must be. Default NULL: the library's own check alone.
    found_inf::Ptr{Cfloat}
end

"""
What a step did. `maw_step_report_init` sets `struct_size`.
"""
struct maw_step_report
    # `sizeof(maw_step_report)` of the caller; set by `maw_step_report_init`.
    struct_size::Csize_t
    # Applied steps so far, this one included.
    step::UInt64
    # Skipped steps so far, this one included.
    skipped_steps::UInt64
    # Euclidean norm of all gradients after `grad_scale`, before clipping.
    grad_norm::Cdouble
    # What clipping multiplied the gradients by; 1 without clipping.
    clip_factor::Cdouble
    # First tensor (in registration order) that is not finite, or `MAW_NO_TENSOR`.
    nonfinite_tensor::UInt64
    # 1 if the step was skipped, else 0.
    skipped::UInt32
    # `MAW_SKIP_…`.
    skip_reason::Int32
end

"""
What the host is to evaluate next, at the parameters now in its buffers:

```c
maw_meta_begin(optimizer, params, n, &request, &error);
while (request.kind != MAW_META_DONE) {
    answer.request_id = request.id;
    answer.loss = evaluate(request.kind, request.batch, request.replay);   /* gradients into grads */
    maw_meta_tell(optimizer, &answer, params, grads, n, &request, &error);
}
```

While a request is open, do not write to the parameters, and do not let the evaluations move anything that
later steps depend on (running statistics of a batch norm). `maw_meta_request_init` sets `struct_size`.
"""
struct maw_meta_request
    # `sizeof(maw_meta_request)` of the caller; set by `maw_meta_request_init`.
    struct_size::Csize_t
    # Number of this request, from 1 on, never used twice by a handle. 0 at `MAW_META_DONE`.
    id::UInt64
    # Number of an earlier request whose batch and random numbers (dropout) must be used again; 0 = free choice.
    replay::UInt64
    # `MAW_META_…`.
    kind::Int32
    # `MAW_BATCH_…`; 0 at `MAW_META_DONE`.
    batch::Int32
end

"""
What the host answers to a request. `maw_meta_answer_init` fills the defaults.
"""
struct maw_meta_answer
    # `sizeof(maw_meta_answer)` of the caller; set by `maw_meta_answer_init`.
    struct_size::Csize_t
    # `maw_meta_request.id` of the request that is answered.
    request_id::UInt64
    # The plain loss (never scaled).
    loss::Cdouble
    # The gradients are this many times too large; > 0. Default 1.
    grad_scale::Cdouble
end

"""
How the last meta-update ended. Terms and losses that the objective does not need are NaN.
`maw_meta_result_init` sets `struct_size`.
"""
struct maw_meta_result
    # `sizeof(maw_meta_result)` of the caller; set by `maw_meta_result_init`.
    struct_size::Csize_t
    # Applied steps when it began.
    step::UInt64
    # Meta-updates that ended with `MAW_OUTCOME_UPDATED` so far.
    updates::UInt64
    # Loss on B1.
    loss_train::Cdouble
    # Loss on the validation batch.
    loss_validation::Cdouble
    # Loss on B2 at the moved parameters.
    loss_train_moved::Cdouble
    # Loss on the validation batch at the moved parameters.
    loss_validation_moved::Cdouble
    # Gradient alignment (eq. 10).
    term_gradient::Cdouble
    # Loss decrease (eq. 11).
    term_loss_decrease::Cdouble
    # Generalization gap (eq. 12).
    term_gen_gap::Cdouble
    # The objective with its regularisation.
    loss_meta::Cdouble
    # Evaluations that the host made.
    evaluations::UInt32
    # Modulation groups whose gradient on B2 is below 1e-5 of the largest group's.
    idle_groups::UInt32
    # `MAW_OUTCOME_…`.
    outcome::Int32
    # 0.
    reserved::UInt32
end

"""
Receives a handle's messages on the thread that is inside the call that caused them.

`message` is NUL-terminated UTF-8 and valid during the callback only. The callback must not unwind (no C++
exception, no longjmp); calls on the same handle from inside it get `MAW_BUSY`.

    typedef void (*maw_log_callback)(int32_t level, const char *message, void *user_data);
"""
const maw_log_callback = Ptr{Cvoid}

const POINTER_maw_version = Ref{Ptr{Cvoid}}(C_NULL)
"""
The library's version as text, "0.1.0". Static; never NULL.

    const char *maw_version(void);
"""
maw_version() =
    ccall(POINTER_maw_version[], Cstring,
          ())

const POINTER_maw_abi_version = Ref{Ptr{Cvoid}}(C_NULL)
"""
`MAW_ABI_VERSION` of the library that is loaded; a program compares it with its header's.

    uint32_t maw_abi_version(void);
"""
maw_abi_version() =
    ccall(POINTER_maw_abi_version[], UInt32,
          ())

const POINTER_maw_status_name = Ref{Ptr{Cvoid}}(C_NULL)
"""
The name of a status, "MAW_BUSY", or "unknown status". Static; never NULL.

    const char *maw_status_name(maw_status status);
"""
maw_status_name(status) =
    ccall(POINTER_maw_status_name[], Cstring,
          (maw_status,),
          status)

const POINTER_maw_options_init = Ref{Ptr{Cvoid}}(C_NULL)
"""
Fills the defaults of options. `size` is the caller's `sizeof(maw_options)`.

`MAW_OK`; `MAW_INVALID_ARGUMENT` for NULL or a size below version 1's, and nothing is written then. Any thread.

    maw_status maw_options_init(maw_options *options, size_t size);
"""
maw_options_init(options, size) =
    ccall(POINTER_maw_options_init[], maw_status,
          (Ptr{maw_options}, Csize_t),
          options, size)

const POINTER_maw_param_group_init = Ref{Ptr{Cvoid}}(C_NULL)
"""
Fills the defaults of a param group. As `maw_options_init`.

    maw_status maw_param_group_init(maw_param_group *group, size_t size);
"""
maw_param_group_init(group, size) =
    ccall(POINTER_maw_param_group_init[], maw_status,
          (Ptr{maw_param_group}, Csize_t),
          group, size)

const POINTER_maw_tensor_init = Ref{Ptr{Cvoid}}(C_NULL)
"""
Fills the defaults of a tensor's description. As `maw_options_init`.

    maw_status maw_tensor_init(maw_tensor *tensor, size_t size);
"""
maw_tensor_init(tensor, size) =
    ccall(POINTER_maw_tensor_init[], maw_status,
          (Ptr{maw_tensor}, Csize_t),
          tensor, size)

const POINTER_maw_step_options_init = Ref{Ptr{Cvoid}}(C_NULL)
"""
Fills the defaults of a step's options. As `maw_options_init`.

    maw_status maw_step_options_init(maw_step_options *options, size_t size);
"""
maw_step_options_init(options, size) =
    ccall(POINTER_maw_step_options_init[], maw_status,
          (Ptr{maw_step_options}, Csize_t),
          options, size)

const POINTER_maw_step_report_init = Ref{Ptr{Cvoid}}(C_NULL)
"""
Zeroes a step's report and sets its size. As `maw_options_init`.

    maw_status maw_step_report_init(maw_step_report *report, size_t size);
"""
maw_step_report_init(report, size) =
    ccall(POINTER_maw_step_report_init[], maw_status,
          (Ptr{maw_step_report}, Csize_t),
          report, size)

const POINTER_maw_meta_request_init = Ref{Ptr{Cvoid}}(C_NULL)
"""
Zeroes a request and sets its size. As `maw_options_init`.

    maw_status maw_meta_request_init(maw_meta_request *request, size_t size);
"""
maw_meta_request_init(request, size) =
    ccall(POINTER_maw_meta_request_init[], maw_status,
          (Ptr{maw_meta_request}, Csize_t),
          request, size)

const POINTER_maw_meta_answer_init = Ref{Ptr{Cvoid}}(C_NULL)
"""
Fills the defaults of an answer. As `maw_options_init`.

    maw_status maw_meta_answer_init(maw_meta_answer *answer, size_t size);
"""
maw_meta_answer_init(answer, size) =
    ccall(POINTER_maw_meta_answer_init[], maw_status,
          (Ptr{maw_meta_answer}, Csize_t),
          answer, size)

const POINTER_maw_meta_result_init = Ref{Ptr{Cvoid}}(C_NULL)
"""
Zeroes a meta-update's result and sets its size. As `maw_options_init`.

    maw_status maw_meta_result_init(maw_meta_result *result, size_t size);
"""
maw_meta_result_init(result, size) =
    ccall(POINTER_maw_meta_result_init[], maw_status,
          (Ptr{maw_meta_result}, Csize_t),
          result, size)

const POINTER_maw_optimizer_create = Ref{Ptr{Cvoid}}(C_NULL)
"""
Creates an optimizer without tensors.

`options`: NULL for all defaults. `optimizer`: out, freed with `maw_optimizer_free`; untouched on failure.
`MAW_OK`; `MAW_INVALID_ARGUMENT` names the field that is not usable; `MAW_UNSUPPORTED` for a device or a field of a
newer header. Any thread.

    maw_status maw_optimizer_create(const maw_options *options, maw_optimizer **optimizer, maw_error **error);
"""
maw_optimizer_create(options, optimizer, error) =
    ccall(POINTER_maw_optimizer_create[], maw_status,
          (Ptr{maw_options}, Ptr{Ptr{maw_optimizer}}, Ptr{Ptr{maw_error}}),
          options, optimizer, error)

const POINTER_maw_optimizer_free = Ref{Ptr{Cvoid}}(C_NULL)
"""
Frees an optimizer and all that it lent; does nothing for NULL.

`MAW_OK`; `MAW_BUSY` while another call runs, and nothing is freed then; `MAW_INVALID_ARGUMENT` for a handle that was
freed before, where that can be told. A meta-update that is open leaves the host's parameters where they are: call
`maw_meta_abort` first. On CUDA the stream's work is waited for, so it must not be being captured, and a graph with a
step of this optimizer must not be replayed afterwards.

    maw_status maw_optimizer_free(maw_optimizer *optimizer);
"""
maw_optimizer_free(optimizer) =
    ccall(POINTER_maw_optimizer_free[], maw_status,
          (Ptr{maw_optimizer},),
          optimizer)

const POINTER_maw_add_param_group = Ref{Ptr{Cvoid}}(C_NULL)
"""
Registers tensors that share hyper-parameters.

`tensors`: `count` descriptions, at least one; names and shapes are copied. Each later call passes one pointer for
every registered tensor, in the order of registration over all groups. `index`: out, the group's number from 0 on;
may be NULL.
`MAW_OK`; `MAW_INVALID_ARGUMENT` names the field, and the tensor that it does not suit, or both groups of a duplicate
name; `MAW_UNSUPPORTED` for a field of a newer header;
`MAW_INVALID_STATE` after registration ended. On failure none of the tensors is registered.

    maw_status maw_add_param_group(
        maw_optimizer *optimizer,
        const maw_param_group *group,
        const maw_tensor *tensors,
        size_t count,
        uint32_t *index,
        maw_error **error);
"""
maw_add_param_group(optimizer, group, tensors, count, index, error) =
    ccall(POINTER_maw_add_param_group[], maw_status,
          (Ptr{maw_optimizer}, Ptr{maw_param_group}, Ptr{maw_tensor}, Csize_t, Ptr{UInt32}, Ptr{Ptr{maw_error}}),
          optimizer, group, tensors, count, index, error)

const POINTER_maw_prepare = Ref{Ptr{Cvoid}}(C_NULL)
"""
Ends registration: forms the modulation groups, draws the attention module from the seed, allocates everything.

The first step or meta-update does it by itself; a second call does nothing. Afterwards a step with `threads` = 1
allocates nothing. Memory: two moments of float32 (float64 for float64 tensors; bfloat16 where the group says so),
masters or remainders where the group has them, and little more.
`MAW_OK`; `MAW_INVALID_STATE` without tensors or while a meta-update is open; `MAW_INVALID_ARGUMENT` for a
`feature_dim` below the features' length; `MAW_OUT_OF_MEMORY`. On failure registration stays open.

    maw_status maw_prepare(maw_optimizer *optimizer, maw_error **error);
"""
maw_prepare(optimizer, error) =
    ccall(POINTER_maw_prepare[], maw_status,
          (Ptr{maw_optimizer}, Ptr{Ptr{maw_error}}),
          optimizer, error)

const POINTER_maw_step = Ref{Ptr{Cvoid}}(C_NULL)
"""
One step: updates, in place, every parameter whose gradient is given.

`params`, `grads`: `count` pointers each, one a tensor in registration order, to contiguous elements of the tensor's
`dtype` and `grad_dtype`, aligned to them; `count` must be the number of registered tensors. A NULL gradient: none in this step, the
tensor is not updated and counts as 0 in the features. A tensor without elements may have NULL. Parameters overlap
neither each other nor a gradient. No pointer is kept; addresses may differ from call to call.
On CUDA they are pointers to memory of the handle's device, managed memory included, and the step is enqueued on the
handle's stream. A pointer is looked up when it is new to its tensor and not again: if that memory was freed and the
host has other memory there now, a kernel fails, or worse. A step captured into a CUDA graph keeps its pointers.
`options`: may be NULL. `report`: out, may be NULL; untouched on failure.
`MAW_OK`, also for a step that was skipped because something is not finite (the report says what);
`MAW_NOT_FINITE` instead under `MAW_NONFINITE_ERROR`; `MAW_INVALID_ARGUMENT` names the pointer;
`MAW_INVALID_STATE` while a meta-update is open; `MAW_PARAMS_CHANGED` under `verify_params`. On failure nothing is
changed.

    maw_status maw_step(
        maw_optimizer *optimizer,
        void *const *params,
        const void *const *grads,
        size_t count,
        const maw_step_options *options,
        maw_step_report *report,
        maw_error **error);
"""
maw_step(optimizer, params, grads, count, options, report, error) =
    ccall(POINTER_maw_step[], maw_status,
          (Ptr{maw_optimizer}, Ptr{Ptr{Cvoid}}, Ptr{Ptr{Cvoid}}, Csize_t, Ptr{maw_step_options}, Ptr{maw_step_report},
           Ptr{Ptr{maw_error}}),
          optimizer, params, grads, count, options, report, error)

const POINTER_maw_step_report_fetch = Ref{Ptr{Cvoid}}(C_NULL)
"""
The report of a step after it was enqueued: on CUDA a step runs later, and `maw_step` waits for it only if it is
given a report. Counts tell which step it is of: `step` + `skipped_steps` steps were made.

`flags`: 0 = of the newest step that is decided by now, without waiting; `MAW_FETCH_WAIT` = of the last that was
enqueued, or replayed in a CUDA graph, on the handle's stream; no other stream is waited for. On the CPU both are the
last step's. `report`: out; untouched on failure.
`MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_INVALID_STATE` before any step is decided, and with `MAW_FETCH_WAIT` while the
stream is being captured; `MAW_CUDA_ERROR`.

    maw_status maw_step_report_fetch(
        maw_optimizer *optimizer,
        uint32_t flags,
        maw_step_report *report,
        maw_error **error);
"""
maw_step_report_fetch(optimizer, flags, report, error) =
    ccall(POINTER_maw_step_report_fetch[], maw_status,
          (Ptr{maw_optimizer}, UInt32, Ptr{maw_step_report}, Ptr{Ptr{maw_error}}),
          optimizer, flags, report, error)

const POINTER_maw_observe_gradient = Ref{Ptr{Cvoid}}(C_NULL)
"""
Announces a gradient as soon as the backward pass has it, while it is still in the cache: the next step then need
not read it ahead of the update. Optional, and the same bits either way.

`tensor`: its number in registration order. `gradient`: as in `maw_step`, not NULL, final: it must be unchanged when
it is passed to the step. Not kept. A second call for a tensor replaces the first; any call but this one, the step
and getters discards what was announced.
`MAW_OK`; `MAW_NOT_FOUND`; `MAW_INVALID_ARGUMENT`; `MAW_INVALID_STATE` while a meta-update is open.

    maw_status maw_observe_gradient(
        maw_optimizer *optimizer,
        size_t tensor,
        const void *gradient,
        maw_error **error);
"""
maw_observe_gradient(optimizer, tensor, gradient, error) =
    ccall(POINTER_maw_observe_gradient[], maw_status,
          (Ptr{maw_optimizer}, Csize_t, Ptr{Cvoid}, Ptr{Ptr{maw_error}}),
          optimizer, tensor, gradient, error)

const POINTER_maw_set_lr = Ref{Ptr{Cvoid}}(C_NULL)
"""
Sets the learning rate of one param group, or of every one for `MAW_ALL_GROUPS`. Takes effect at the next step.

`lr`: finite, ≥ 0.
`MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_NOT_FOUND`; `MAW_INVALID_STATE` while a meta-update is open.

    maw_status maw_set_lr(maw_optimizer *optimizer, uint32_t group, double lr, maw_error **error);
"""
maw_set_lr(optimizer, group, lr, error) =
    ccall(POINTER_maw_set_lr[], maw_status,
          (Ptr{maw_optimizer}, UInt32, Cdouble, Ptr{Ptr{maw_error}}),
          optimizer, group, lr, error)

const POINTER_maw_set_weight_decay = Ref{Ptr{Cvoid}}(C_NULL)
"""
Sets the weight decay of one param group, or of every one for `MAW_ALL_GROUPS`. As `maw_set_lr`.

    maw_status maw_set_weight_decay(
        maw_optimizer *optimizer,
        uint32_t group,
        double weight_decay,
        maw_error **error);
"""
maw_set_weight_decay(optimizer, group, weight_decay, error) =
    ccall(POINTER_maw_set_weight_decay[], maw_status,
          (Ptr{maw_optimizer}, UInt32, Cdouble, Ptr{Ptr{maw_error}}),
          optimizer, group, weight_decay, error)

const POINTER_maw_set_priorities = Ref{Ptr{Cvoid}}(C_NULL)
"""
Sets HUW's priorities of gradient alignment, loss decrease and generalization gap. Takes effect at the next meta-update.

`priorities`: three numbers, each finite and ≥ 0; copied.
`MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_INVALID_STATE` while a meta-update is open.

    maw_status maw_set_priorities(maw_optimizer *optimizer, const double *priorities, maw_error **error);
"""
maw_set_priorities(optimizer, priorities, error) =
    ccall(POINTER_maw_set_priorities[], maw_status,
          (Ptr{maw_optimizer}, Ptr{Cdouble}, Ptr{Ptr{maw_error}}),
          optimizer, priorities, error)

const POINTER_maw_reset = Ref{Ptr{Cvoid}}(C_NULL)
"""
Starts anew.

`what`: `MAW_RESET_MOMENTS` (moments and all step counts), `MAW_RESET_ATTENTION` (the attention module as the seed
made it), or both.
`MAW_OK`; `MAW_INVALID_ARGUMENT` for 0 or other bits; `MAW_INVALID_STATE` before preparation or while a meta-update is
open.

    maw_status maw_reset(maw_optimizer *optimizer, uint32_t what, maw_error **error);
"""
maw_reset(optimizer, what, error) =
    ccall(POINTER_maw_reset[], maw_status,
          (Ptr{maw_optimizer}, UInt32, Ptr{Ptr{maw_error}}),
          optimizer, what, error)

const POINTER_maw_set_stream = Ref{Ptr{Cvoid}}(C_NULL)
"""
The CUDA stream (`CUstream`, `cudaStream_t`) on which every later call of this handle enqueues its work, setters
included; NULL (the start) is the legacy default stream. On the CPU it must stay NULL.

The stream is the host's: it must live as long as it is set. What this handle enqueued on the stream that it leaves is
waited for. Setters, getters and `MAW_FETCH_WAIT` come after what is on this stream and know of no other: a graph with
a step of this handle is replayed here, or the host orders the streams by events of its own.
`MAW_OK`; `MAW_UNSUPPORTED` for a stream on the CPU; `MAW_INVALID_STATE` with work in a capture of the stream that is
left; `MAW_CUDA_ERROR` for what is no stream.

    maw_status maw_set_stream(maw_optimizer *optimizer, void *stream, maw_error **error);
"""
maw_set_stream(optimizer, stream, error) =
    ccall(POINTER_maw_set_stream[], maw_status,
          (Ptr{maw_optimizer}, Ptr{Cvoid}, Ptr{Ptr{maw_error}}),
          optimizer, stream, error)

const POINTER_maw_set_log = Ref{Ptr{Cvoid}}(C_NULL)
"""
Hears this handle's messages from now on: skipped steps, abandoned meta-updates, options that are probably not meant.

`callback`: NULL silences. It runs on the thread of the call that caused the message, must not unwind, and gets
`MAW_BUSY` from calls on the same handle. `user_data`: passed on, not touched; it must stay valid, and usable from
whichever thread calls, until another callback is set or the handle is freed.
`MAW_OK`; `MAW_INVALID_STATE` while a meta-update is open.

    maw_status maw_set_log(
        maw_optimizer *optimizer,
        maw_log_callback callback,
        void *user_data,
        maw_error **error);
"""
maw_set_log(optimizer, callback, user_data, error) =
    ccall(POINTER_maw_set_log[], maw_status,
          (Ptr{maw_optimizer}, maw_log_callback, Ptr{Cvoid}, Ptr{Ptr{maw_error}}),
          optimizer, callback, user_data, error)

const POINTER_maw_meta_due = Ref{Ptr{Cvoid}}(C_NULL)
"""
1 if a meta-update should be made now, else 0 (also for NULL, a busy and a poisoned handle).

Due: `step` ≥ `meta_warmup`, `step` a multiple of `meta_interval` and not 0, and no meta-update was done, aborted or
abandoned at this `step`. On CUDA it waits for the steps that were enqueued if the answer could be 1 after them.

    uint32_t maw_meta_due(const maw_optimizer *optimizer);
"""
maw_meta_due(optimizer) =
    ccall(POINTER_maw_meta_due[], UInt32,
          (Ptr{maw_optimizer},),
          optimizer)

const POINTER_maw_meta_begin = Ref{Ptr{Cvoid}}(C_NULL)
"""
Begins a meta-update, due or not, and says what to evaluate first.

`params`: as in `maw_step`; copied, and written to from now on. `request`: out; its comment shows the loop.
Memory during a meta-update: a copy of the parameters and up to two of the gradients. Afterwards it is the system's
to take when it needs some (`MADV_FREE`; such pages count as resident until then), and the next meta-update's.
`MAW_OK`, also when the state is not finite and the request is `MAW_META_DONE` at once; `MAW_INVALID_ARGUMENT`;
`MAW_INVALID_STATE` when one is open or modulation is off; `MAW_PARAMS_CHANGED` under `verify_params`;
`MAW_OUT_OF_MEMORY`. On failure nothing is begun.

    maw_status maw_meta_begin(
        maw_optimizer *optimizer,
        void *const *params,
        size_t count,
        maw_meta_request *request,
        maw_error **error);
"""
maw_meta_begin(optimizer, params, count, request, error) =
    ccall(POINTER_maw_meta_begin[], maw_status,
          (Ptr{maw_optimizer}, Ptr{Ptr{Cvoid}}, Csize_t, Ptr{maw_meta_request}, Ptr{Ptr{maw_error}}),
          optimizer, params, count, request, error)

const POINTER_maw_meta_tell = Ref{Ptr{Cvoid}}(C_NULL)
"""
Answers the open request and says what to evaluate next.

`answer`: the request's id, the loss, and the scale of the gradients. `params`: as in `maw_step`; written, not read.
`grads`: as in `maw_step`; NULL is allowed where only the loss was asked for. `request`: out.
A loss, a gradient or a direction that is not finite abandons the meta-update: the parameters are put back, the
attention module stays, the request is `MAW_META_DONE` and the result says why.
`MAW_OK`; `MAW_INVALID_ARGUMENT` for a wrong or repeated id and for unusable pointers: the request stays open and
nothing is written; `MAW_INVALID_STATE` when none is open.

    maw_status maw_meta_tell(
        maw_optimizer *optimizer,
        const maw_meta_answer *answer,
        void *const *params,
        const void *const *grads,
        size_t count,
        maw_meta_request *request,
        maw_error **error);
"""
maw_meta_tell(optimizer, answer, params, grads, count, request, error) =
    ccall(POINTER_maw_meta_tell[], maw_status,
          (Ptr{maw_optimizer}, Ptr{maw_meta_answer}, Ptr{Ptr{Cvoid}}, Ptr{Ptr{Cvoid}}, Csize_t, Ptr{maw_meta_request},
           Ptr{Ptr{maw_error}}),
          optimizer, answer, params, grads, count, request, error)

const POINTER_maw_meta_abort = Ref{Ptr{Cvoid}}(C_NULL)
"""
Ends the open meta-update: the parameters hold the exact bits of before, the attention module stays.

`params`: as in `maw_step`.
`MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_INVALID_STATE` when none is open.

    maw_status maw_meta_abort(maw_optimizer *optimizer, void *const *params, size_t count, maw_error **error);
"""
maw_meta_abort(optimizer, params, count, error) =
    ccall(POINTER_maw_meta_abort[], maw_status,
          (Ptr{maw_optimizer}, Ptr{Ptr{Cvoid}}, Csize_t, Ptr{Ptr{maw_error}}),
          optimizer, params, count, error)

const POINTER_maw_meta_result_get = Ref{Ptr{Cvoid}}(C_NULL)
"""
How the last meta-update ended; before the first one `MAW_OUTCOME_NONE`.

`result`: out.
`MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_INVALID_STATE` before preparation.

    maw_status maw_meta_result_get(const maw_optimizer *optimizer, maw_meta_result *result, maw_error **error);
"""
maw_meta_result_get(optimizer, result, error) =
    ccall(POINTER_maw_meta_result_get[], maw_status,
          (Ptr{maw_optimizer}, Ptr{maw_meta_result}, Ptr{Ptr{maw_error}}),
          optimizer, result, error)

const POINTER_maw_meta_gradient = Ref{Ptr{Cvoid}}(C_NULL)
"""
Derivatives of the meta-objective (regularisation included) in the last meta-update that was completed.

`name`: a tensor of the attention module, or "alpha", "beta", "lambda1", "lambda2" (one value a modulation group).
`values`: out, `count` doubles, row-major; `count` must be the tensor's size.
`MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_NOT_FOUND`; `MAW_INVALID_STATE` before the first.

    maw_status maw_meta_gradient(
        const maw_optimizer *optimizer,
        const char *name,
        double *values,
        size_t count,
        maw_error **error);
"""
maw_meta_gradient(optimizer, name, values, count, error) =
    ccall(POINTER_maw_meta_gradient[], maw_status,
          (Ptr{maw_optimizer}, Cstring, Ptr{Cdouble}, Csize_t, Ptr{Ptr{maw_error}}),
          optimizer, name, values, count, error)

const POINTER_maw_get_lr = Ref{Ptr{Cvoid}}(C_NULL)
"""
The learning rate of a param group as it is now.

`lr`: out. `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_NOT_FOUND`.

    maw_status maw_get_lr(const maw_optimizer *optimizer, uint32_t group, double *lr, maw_error **error);
"""
maw_get_lr(optimizer, group, lr, error) =
    ccall(POINTER_maw_get_lr[], maw_status,
          (Ptr{maw_optimizer}, UInt32, Ptr{Cdouble}, Ptr{Ptr{maw_error}}),
          optimizer, group, lr, error)

const POINTER_maw_get_weight_decay = Ref{Ptr{Cvoid}}(C_NULL)
"""
The weight decay of a param group as it is now.

`weight_decay`: out. `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_NOT_FOUND`.

    maw_status maw_get_weight_decay(
        const maw_optimizer *optimizer,
        uint32_t group,
        double *weight_decay,
        maw_error **error);
"""
maw_get_weight_decay(optimizer, group, weight_decay, error) =
    ccall(POINTER_maw_get_weight_decay[], maw_status,
          (Ptr{maw_optimizer}, UInt32, Ptr{Cdouble}, Ptr{Ptr{maw_error}}),
          optimizer, group, weight_decay, error)

const POINTER_maw_get_priorities = Ref{Ptr{Cvoid}}(C_NULL)
"""
HUW's priorities as they are now.

`priorities`: out, three doubles. `MAW_OK`; `MAW_INVALID_ARGUMENT`.

    maw_status maw_get_priorities(const maw_optimizer *optimizer, double *priorities, maw_error **error);
"""
maw_get_priorities(optimizer, priorities, error) =
    ccall(POINTER_maw_get_priorities[], maw_status,
          (Ptr{maw_optimizer}, Ptr{Cdouble}, Ptr{Ptr{maw_error}}),
          optimizer, priorities, error)

const POINTER_maw_step_count = Ref{Ptr{Cvoid}}(C_NULL)
"""
Applied steps so far; skipped ones do not count.

`steps`: out. `MAW_OK`; `MAW_INVALID_ARGUMENT`.

    maw_status maw_step_count(const maw_optimizer *optimizer, uint64_t *steps, maw_error **error);
"""
maw_step_count(optimizer, steps, error) =
    ccall(POINTER_maw_step_count[], maw_status,
          (Ptr{maw_optimizer}, Ptr{UInt64}, Ptr{Ptr{maw_error}}),
          optimizer, steps, error)

const POINTER_maw_param_group_count = Ref{Ptr{Cvoid}}(C_NULL)
"""
Param groups registered so far.

`count`: out. `MAW_OK`; `MAW_INVALID_ARGUMENT`.

    maw_status maw_param_group_count(const maw_optimizer *optimizer, size_t *count, maw_error **error);
"""
maw_param_group_count(optimizer, count, error) =
    ccall(POINTER_maw_param_group_count[], maw_status,
          (Ptr{maw_optimizer}, Ptr{Csize_t}, Ptr{Ptr{maw_error}}),
          optimizer, count, error)

const POINTER_maw_tensor_count = Ref{Ptr{Cvoid}}(C_NULL)
"""
Tensors registered so far.

`count`: out. `MAW_OK`; `MAW_INVALID_ARGUMENT`.

    maw_status maw_tensor_count(const maw_optimizer *optimizer, size_t *count, maw_error **error);
"""
maw_tensor_count(optimizer, count, error) =
    ccall(POINTER_maw_tensor_count[], maw_status,
          (Ptr{maw_optimizer}, Ptr{Csize_t}, Ptr{Ptr{maw_error}}),
          optimizer, count, error)

const POINTER_maw_tensor_name = Ref{Ptr{Cvoid}}(C_NULL)
"""
The name of a tensor.

`tensor`: its number in registration order. `name`: out, borrowed: unchanging, valid until the handle is freed.
`MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_NOT_FOUND`.

    maw_status maw_tensor_name(
        const maw_optimizer *optimizer,
        size_t tensor,
        const char **name,
        maw_error **error);
"""
maw_tensor_name(optimizer, tensor, name, error) =
    ccall(POINTER_maw_tensor_name[], maw_status,
          (Ptr{maw_optimizer}, Csize_t, Ptr{Cstring}, Ptr{Ptr{maw_error}}),
          optimizer, tensor, name, error)

const POINTER_maw_tensor_group = Ref{Ptr{Cvoid}}(C_NULL)
"""
The modulation group of a tensor.

`tensor`: its number in registration order. `group`: out.
`MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_NOT_FOUND`; `MAW_INVALID_STATE` before preparation.

    maw_status maw_tensor_group(const maw_optimizer *optimizer, size_t tensor, size_t *group, maw_error **error);
"""
maw_tensor_group(optimizer, tensor, group, error) =
    ccall(POINTER_maw_tensor_group[], maw_status,
          (Ptr{maw_optimizer}, Csize_t, Ptr{Csize_t}, Ptr{Ptr{maw_error}}),
          optimizer, tensor, group, error)

const POINTER_maw_group_count = Ref{Ptr{Cvoid}}(C_NULL)
"""
Modulation groups: tokens of the attention module.

`count`: out. `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_INVALID_STATE` before preparation.

    maw_status maw_group_count(const maw_optimizer *optimizer, size_t *count, maw_error **error);
"""
maw_group_count(optimizer, count, error) =
    ccall(POINTER_maw_group_count[], maw_status,
          (Ptr{maw_optimizer}, Ptr{Csize_t}, Ptr{Ptr{maw_error}}),
          optimizer, count, error)

const POINTER_maw_group_name = Ref{Ptr{Cvoid}}(C_NULL)
"""
The name of a modulation group: "attention.shallow.weight" (kind, depth, bias or weight), "param_group.0", or what the
host called it.

`group`: its number. `name`: out, borrowed: unchanging, valid until the handle is freed.
`MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_NOT_FOUND`; `MAW_INVALID_STATE` before preparation.

    maw_status maw_group_name(const maw_optimizer *optimizer, size_t group, const char **name, maw_error **error);
"""
maw_group_name(optimizer, group, name, error) =
    ccall(POINTER_maw_group_name[], maw_status,
          (Ptr{maw_optimizer}, Csize_t, Ptr{Cstring}, Ptr{Ptr{maw_error}}),
          optimizer, group, name, error)

const POINTER_maw_factors = Ref{Ptr{Cvoid}}(C_NULL)
"""
What scaled each modulation group: of the last applied step or begun meta-update, whichever came last. With
modulation off all are 1.

`alpha` (learning rate), `beta` (weight decay), `lambda1`, `lambda2` (of eq. 10): out, `count` doubles each, any of
them NULL if not wanted; `count` must be the number of modulation groups.
`MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_INVALID_STATE` before the first step.

    maw_status maw_factors(
        const maw_optimizer *optimizer,
        double *alpha,
        double *beta,
        double *lambda1,
        double *lambda2,
        size_t count,
        maw_error **error);
"""
maw_factors(optimizer, alpha, beta, lambda1, lambda2, count, error) =
    ccall(POINTER_maw_factors[], maw_status,
          (Ptr{maw_optimizer}, Ptr{Cdouble}, Ptr{Cdouble}, Ptr{Cdouble}, Ptr{Cdouble}, Csize_t, Ptr{Ptr{maw_error}}),
          optimizer, alpha, beta, lambda1, lambda2, count, error)

const POINTER_maw_feature_dim = Ref{Ptr{Cvoid}}(C_NULL)
"""
D, the width of a token of the attention module: columns of `maw_features`.

`dim`: out. `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_INVALID_STATE` before preparation or with modulation off.

    maw_status maw_feature_dim(const maw_optimizer *optimizer, size_t *dim, maw_error **error);
"""
maw_feature_dim(optimizer, dim, error) =
    ccall(POINTER_maw_feature_dim[], maw_status,
          (Ptr{maw_optimizer}, Ptr{Csize_t}, Ptr{Ptr{maw_error}}),
          optimizer, dim, error)

const POINTER_maw_features = Ref{Ptr{Cvoid}}(C_NULL)
"""
The features that the attention module read, before standardisation and gating: of the last applied step or begun
meta-update, whichever came last.

`features`: out, row-major, one row a modulation group, `maw_feature_dim` columns; `count` must be their product.
`MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_INVALID_STATE` before the first step or with modulation off.

    maw_status maw_features(const maw_optimizer *optimizer, double *features, size_t count, maw_error **error);
"""
maw_features(optimizer, features, count, error) =
    ccall(POINTER_maw_features[], maw_status,
          (Ptr{maw_optimizer}, Ptr{Cdouble}, Csize_t, Ptr{Ptr{maw_error}}),
          optimizer, features, count, error)

const POINTER_maw_attention_count = Ref{Ptr{Cvoid}}(C_NULL)
"""
Tensors of the attention module; 0 with modulation off.

`count`: out. `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_INVALID_STATE` before preparation.

    maw_status maw_attention_count(const maw_optimizer *optimizer, size_t *count, maw_error **error);
"""
maw_attention_count(optimizer, count, error) =
    ccall(POINTER_maw_attention_count[], maw_status,
          (Ptr{maw_optimizer}, Ptr{Csize_t}, Ptr{Ptr{maw_error}}),
          optimizer, count, error)

const POINTER_maw_attention_name = Ref{Ptr{Cvoid}}(C_NULL)
"""
The name of a tensor of the attention module, as torch names it in a TransformerEncoder:
"encoder.layers.0.self_attn.in_proj_weight" …, then "output_proj.weight", "output_proj.bias", and where used
"group_embeddings", "feature_gates", "log_vars".

`index`: its number. `name`: out, borrowed: unchanging, valid until the handle is freed.
`MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_NOT_FOUND`; `MAW_INVALID_STATE` before preparation.

    maw_status maw_attention_name(
        const maw_optimizer *optimizer,
        size_t index,
        const char **name,
        maw_error **error);
"""
maw_attention_name(optimizer, index, name, error) =
    ccall(POINTER_maw_attention_name[], maw_status,
          (Ptr{maw_optimizer}, Csize_t, Ptr{Cstring}, Ptr{Ptr{maw_error}}),
          optimizer, index, name, error)

const POINTER_maw_attention_shape = Ref{Ptr{Cvoid}}(C_NULL)
"""
The shape of a tensor of the attention module.

`index`: its number. `rows`, `columns`: out; a vector has one column.
`MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_NOT_FOUND`; `MAW_INVALID_STATE` before preparation.

    maw_status maw_attention_shape(
        const maw_optimizer *optimizer,
        size_t index,
        uint64_t *rows,
        uint64_t *columns,
        maw_error **error);
"""
maw_attention_shape(optimizer, index, rows, columns, error) =
    ccall(POINTER_maw_attention_shape[], maw_status,
          (Ptr{maw_optimizer}, Csize_t, Ptr{UInt64}, Ptr{UInt64}, Ptr{Ptr{maw_error}}),
          optimizer, index, rows, columns, error)

const POINTER_maw_attention_get = Ref{Ptr{Cvoid}}(C_NULL)
"""
Copies a tensor of the attention module.

`name`: as `maw_attention_name` tells. `values`: out, `count` doubles, row-major; `count` must be its size.
`MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_NOT_FOUND`; `MAW_INVALID_STATE` before preparation.

    maw_status maw_attention_get(
        const maw_optimizer *optimizer,
        const char *name,
        double *values,
        size_t count,
        maw_error **error);
"""
maw_attention_get(optimizer, name, values, count, error) =
    ccall(POINTER_maw_attention_get[], maw_status,
          (Ptr{maw_optimizer}, Cstring, Ptr{Cdouble}, Csize_t, Ptr{Ptr{maw_error}}),
          optimizer, name, values, count, error)

const POINTER_maw_attention_set = Ref{Ptr{Cvoid}}(C_NULL)
"""
Sets a tensor of the attention module; the next step uses it.

`name`: as `maw_attention_name` tells. `values`: `count` finite doubles, row-major, copied; `count` must be its size.
`MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_NOT_FOUND`; `MAW_INVALID_STATE` before preparation or while a meta-update is
open. On failure nothing is changed.

    maw_status maw_attention_set(
        maw_optimizer *optimizer,
        const char *name,
        const double *values,
        size_t count,
        maw_error **error);
"""
maw_attention_set(optimizer, name, values, count, error) =
    ccall(POINTER_maw_attention_set[], maw_status,
          (Ptr{maw_optimizer}, Cstring, Ptr{Cdouble}, Csize_t, Ptr{Ptr{maw_error}}),
          optimizer, name, values, count, error)

const POINTER_maw_bytes_data = Ref{Ptr{Cvoid}}(C_NULL)
"""
The first byte; NULL for NULL. Borrowed: valid until the object is freed. JSON has a NUL behind its last byte.

    const uint8_t *maw_bytes_data(const maw_bytes *bytes);
"""
maw_bytes_data(bytes) =
    ccall(POINTER_maw_bytes_data[], Ptr{UInt8},
          (Ptr{maw_bytes},),
          bytes)

const POINTER_maw_bytes_size = Ref{Ptr{Cvoid}}(C_NULL)
"""
The number of bytes, without the NUL behind JSON; 0 for NULL.

    size_t maw_bytes_size(const maw_bytes *bytes);
"""
maw_bytes_size(bytes) =
    ccall(POINTER_maw_bytes_size[], Csize_t,
          (Ptr{maw_bytes},),
          bytes)

const POINTER_maw_bytes_free = Ref{Ptr{Cvoid}}(C_NULL)
"""
Frees bytes; does nothing for NULL. Any thread, once.

    void maw_bytes_free(maw_bytes *bytes);
"""
maw_bytes_free(bytes) =
    ccall(POINTER_maw_bytes_free[], Cvoid,
          (Ptr{maw_bytes},),
          bytes)

const POINTER_maw_save_file = Ref{Ptr{Cvoid}}(C_NULL)
"""
Saves the run to a safetensors file: moments, step counts, the attention module, options, hyper-parameters as they are
now, counters. The parameters are the host's to save. Prepares an optimizer that is not.

`path`: NUL-terminated; its folder must exist. `flags`: 0, or `MAW_ATTENTION_ONLY` for the attention module alone.
Durable: written beside the old file, synced, renamed over it, and the folder synced. Whatever fails, the file is the
old one or the new one. A symbolic link is followed; permissions are kept. The format: docs/checkpoint_format.md.
`MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_IO` says which operation failed; `MAW_INVALID_STATE` while a meta-update is open.

    maw_status maw_save_file(maw_optimizer *optimizer, const char *path, uint32_t flags, maw_error **error);
"""
maw_save_file(optimizer, path, flags, error) =
    ccall(POINTER_maw_save_file[], maw_status,
          (Ptr{maw_optimizer}, Cstring, UInt32, Ptr{Ptr{maw_error}}),
          optimizer, path, flags, error)

const POINTER_maw_save_bytes = Ref{Ptr{Cvoid}}(C_NULL)
"""
As `maw_save_file`, into memory.

`bytes`: out, freed with `maw_bytes_free`; untouched on failure.
`MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_INVALID_STATE` while a meta-update is open.

    maw_status maw_save_bytes(maw_optimizer *optimizer, uint32_t flags, maw_bytes **bytes, maw_error **error);
"""
maw_save_bytes(optimizer, flags, bytes, error) =
    ccall(POINTER_maw_save_bytes[], maw_status,
          (Ptr{maw_optimizer}, UInt32, Ptr{Ptr{maw_bytes}}, Ptr{Ptr{maw_error}}),
          optimizer, flags, bytes, error)

const POINTER_maw_load_file = Ref{Ptr{Cvoid}}(C_NULL)
"""
Loads a run that any language saved into an optimizer with the same tensors, registered in any order; a run that is
trained on equals the uninterrupted one bit for bit if the order is the same. Prepares an optimizer that is not.

`path`: NUL-terminated. `flags`: 0 = names, shapes, dtypes, param groups, modulation groups and options must be equal;
`MAW_LOAD_FILE_WINS` or `MAW_LOAD_OWN_WINS` allow options that only steer the future to differ (hyper-parameters of
param groups, ranges, intervals, the meta-objective's weights and priorities, clipping …) and say whose hold
afterwards; `MAW_ATTENTION_ONLY`: nothing but the attention module is loaded, from either kind of file, and what it
reads must be equal (feature columns, heads, the shapes of its tensors; with embeddings the groups).
`threads` and `verify_params` are not saved. The file must not be written to meanwhile.
`MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_IO`; `MAW_CORRUPT` for a damaged file (a checksum covers all of it) or another
kind of file; `MAW_UNSUPPORTED` for another format version; `MAW_MISMATCH` lists the first differences;
`MAW_INVALID_STATE` while a meta-update is open, and under `MAW_LOAD_FILE_WINS` after a step was captured into a CUDA
graph whose replays could not follow the file's options: under a file with clipping or checks where it was captured
without any, or with `MAW_NONFINITE_ERROR`. Everything is checked before anything is changed; only if the disk
fails between the check and the second reading is the optimizer reset.

    maw_status maw_load_file(maw_optimizer *optimizer, const char *path, uint32_t flags, maw_error **error);
"""
maw_load_file(optimizer, path, flags, error) =
    ccall(POINTER_maw_load_file[], maw_status,
          (Ptr{maw_optimizer}, Cstring, UInt32, Ptr{Ptr{maw_error}}),
          optimizer, path, flags, error)

const POINTER_maw_load_bytes = Ref{Ptr{Cvoid}}(C_NULL)
"""
As `maw_load_file`, from memory.

`data`: `size` bytes; not kept.

    maw_status maw_load_bytes(
        maw_optimizer *optimizer,
        const uint8_t *data,
        size_t size,
        uint32_t flags,
        maw_error **error);
"""
maw_load_bytes(optimizer, data, size, flags, error) =
    ccall(POINTER_maw_load_bytes[], maw_status,
          (Ptr{maw_optimizer}, Ptr{UInt8}, Csize_t, UInt32, Ptr{Ptr{maw_error}}),
          optimizer, data, size, flags, error)

const POINTER_maw_dump_state = Ref{Ptr{Cvoid}}(C_NULL)
"""
What the optimizer is doing, as JSON (docs/state.md is its schema): options, param groups, modulation groups with their
tensors, features and factors, meta-updates, uncertainty weights, skipped steps and why, time by part. Works while a
meta-update is open. Prepares an optimizer that is not.

`json`: out, UTF-8, freed with `maw_bytes_free`; untouched on failure.
`MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_INVALID_STATE` without tensors.

    maw_status maw_dump_state(maw_optimizer *optimizer, maw_bytes **json, maw_error **error);
"""
maw_dump_state(optimizer, json, error) =
    ccall(POINTER_maw_dump_state[], maw_status,
          (Ptr{maw_optimizer}, Ptr{Ptr{maw_bytes}}, Ptr{Ptr{maw_error}}),
          optimizer, json, error)

const POINTER_maw_tensor_state_get = Ref{Ptr{Cvoid}}(C_NULL)
"""
Copies the moments and the step count of one tensor, so that a run can move to another Adam.

`tensor`: its number in registration order. `exp_avg`, `exp_avg_sq`: out, `count` floats, or doubles for a float64 tensor,
whatever the moments' own dtype; may be NULL if not wanted. `step`: out, updates of this tensor so far; may be NULL.
`MAW_OK`; `MAW_NOT_FOUND`; `MAW_INVALID_ARGUMENT`; `MAW_INVALID_STATE` before preparation or while a meta-update is open;
`MAW_CUDA_ERROR`. On failure nothing is written.

    maw_status maw_tensor_state_get(
        maw_optimizer *optimizer,
        size_t tensor,
        void *exp_avg,
        void *exp_avg_sq,
        size_t count,
        uint64_t *step,
        maw_error **error);
"""
maw_tensor_state_get(optimizer, tensor, exp_avg, exp_avg_sq, count, step, error) =
    ccall(POINTER_maw_tensor_state_get[], maw_status,
          (Ptr{maw_optimizer}, Csize_t, Ptr{Cvoid}, Ptr{Cvoid}, Csize_t, Ptr{UInt64}, Ptr{Ptr{maw_error}}),
          optimizer, tensor, exp_avg, exp_avg_sq, count, step, error)

const POINTER_maw_tensor_state_set = Ref{Ptr{Cvoid}}(C_NULL)
"""
Sets the moments and the step count of one tensor, so that a run can move here from another Adam. The optimizer's own
step count becomes at least `step`. Prepares an optimizer that is not.

`tensor`: its number in registration order. `exp_avg`, `exp_avg_sq`: `count` floats, or doubles for a float64 tensor, finite,
the second ≥ 0; copied, and rounded to nearest where the moments are bfloat16. `step`: updates of this tensor so far, at most 2^53.
`MAW_OK`; `MAW_NOT_FOUND`; `MAW_INVALID_ARGUMENT` names the value; `MAW_INVALID_STATE` while a meta-update is open. On
failure nothing is changed.

    maw_status maw_tensor_state_set(
        maw_optimizer *optimizer,
        size_t tensor,
        const void *exp_avg,
        const void *exp_avg_sq,
        size_t count,
        uint64_t step,
        maw_error **error);
"""
maw_tensor_state_set(optimizer, tensor, exp_avg, exp_avg_sq, count, step, error) =
    ccall(POINTER_maw_tensor_state_set[], maw_status,
          (Ptr{maw_optimizer}, Csize_t, Ptr{Cvoid}, Ptr{Cvoid}, Csize_t, UInt64, Ptr{Ptr{maw_error}}),
          optimizer, tensor, exp_avg, exp_avg_sq, count, step, error)

const POINTER_maw_master_set = Ref{Ptr{Cvoid}}(C_NULL)
"""
Sets the float32 masters of one tensor, so that a run can start from float32 weights, and writes the 16-bit parameter that
shows them. Under `MAW_PRECISION_MASTER` or `MAW_PRECISION_REMAINDER`. Prepares an optimizer that is not.

`tensor`: its number in registration order. `values`: `count` finite floats, copied; `count` must be the number of its
elements. `param`: out, the host's parameter as in `maw_step`.
`MAW_OK`; `MAW_NOT_FOUND`, also for a tensor without masters; `MAW_INVALID_ARGUMENT` names the value; `MAW_INVALID_STATE`
while a meta-update is open. On failure nothing is changed.

    maw_status maw_master_set(
        maw_optimizer *optimizer,
        size_t tensor,
        const float *values,
        void *param,
        size_t count,
        maw_error **error);
"""
maw_master_set(optimizer, tensor, values, param, count, error) =
    ccall(POINTER_maw_master_set[], maw_status,
          (Ptr{maw_optimizer}, Csize_t, Ptr{Cfloat}, Ptr{Cvoid}, Csize_t, Ptr{Ptr{maw_error}}),
          optimizer, tensor, values, param, count, error)

const POINTER_maw_master_get = Ref{Ptr{Cvoid}}(C_NULL)
"""
Copies the float32 masters of one tensor, under `MAW_PRECISION_MASTER` or `MAW_PRECISION_REMAINDER`.

`tensor`: its number in registration order. `param`: the host's parameter as in `maw_step`, read under
`MAW_PRECISION_REMAINDER`, whose masters are half in it; else it may be NULL. `values`: out, `count` floats; `count` must be
the number of its elements.
`MAW_OK`; `MAW_NOT_FOUND`, also for a tensor without masters; `MAW_INVALID_ARGUMENT`; `MAW_INVALID_STATE` before they have
begun (with the first step, as the widened parameters, or with `maw_master_set`) or while a meta-update is open;
`MAW_CUDA_ERROR`. On failure nothing is written.

    maw_status maw_master_get(
        maw_optimizer *optimizer,
        size_t tensor,
        const void *param,
        float *values,
        size_t count,
        maw_error **error);
"""
maw_master_get(optimizer, tensor, param, values, count, error) =
    ccall(POINTER_maw_master_get[], maw_status,
          (Ptr{maw_optimizer}, Csize_t, Ptr{Cvoid}, Ptr{Cfloat}, Csize_t, Ptr{Ptr{maw_error}}),
          optimizer, tensor, param, values, count, error)

const POINTER_maw_cuda_available = Ref{Ptr{Cvoid}}(C_NULL)
"""
1 if there is a CUDA device that an optimizer can be created on, else 0. Any thread.

    uint32_t maw_cuda_available(void);
"""
maw_cuda_available() =
    ccall(POINTER_maw_cuda_available[], UInt32,
          ())

const POINTER_maw_device_buffer_create = Ref{Ptr{Cvoid}}(C_NULL)
"""
Allocates device memory, all zeros.

`device_index`: number of the CUDA device. `bytes`: its size; 0 is allowed. `buffer`: out, freed with
`maw_device_buffer_free`; untouched on failure.
`MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_UNSUPPORTED` without a CUDA driver or device that will do;
`MAW_OUT_OF_MEMORY`; `MAW_CUDA_ERROR`. Any thread.

    maw_status maw_device_buffer_create(
        int32_t device_index,
        size_t bytes,
        maw_device_buffer **buffer,
        maw_error **error);
"""
maw_device_buffer_create(device_index, bytes, buffer, error) =
    ccall(POINTER_maw_device_buffer_create[], maw_status,
          (Int32, Csize_t, Ptr{Ptr{maw_device_buffer}}, Ptr{Ptr{maw_error}}),
          device_index, bytes, buffer, error)

const POINTER_maw_device_buffer_upload = Ref{Ptr{Cvoid}}(C_NULL)
"""
Copies host memory into a buffer, after the work that was enqueued before on the legacy default stream (an
optimizer's, unless `maw_set_stream` was called), and waits for it.

`offset`: where in the buffer, in bytes. `data`: `bytes` bytes; may be NULL when there are none.
`MAW_OK`; `MAW_INVALID_ARGUMENT`, also for a part that reaches beyond the buffer; `MAW_CUDA_ERROR`.

    maw_status maw_device_buffer_upload(
        maw_device_buffer *buffer,
        size_t offset,
        const void *data,
        size_t bytes,
        maw_error **error);
"""
maw_device_buffer_upload(buffer, offset, data, bytes, error) =
    ccall(POINTER_maw_device_buffer_upload[], maw_status,
          (Ptr{maw_device_buffer}, Csize_t, Ptr{Cvoid}, Csize_t, Ptr{Ptr{maw_error}}),
          buffer, offset, data, bytes, error)

const POINTER_maw_device_buffer_download = Ref{Ptr{Cvoid}}(C_NULL)
"""
Copies a buffer into host memory, after the work that was enqueued before on the legacy default stream, and waits.

As `maw_device_buffer_upload`; `data`: out. After MAW_CUDA_ERROR it may hold a part.

    maw_status maw_device_buffer_download(
        const maw_device_buffer *buffer,
        size_t offset,
        void *data,
        size_t bytes,
        maw_error **error);
"""
maw_device_buffer_download(buffer, offset, data, bytes, error) =
    ccall(POINTER_maw_device_buffer_download[], maw_status,
          (Ptr{maw_device_buffer}, Csize_t, Ptr{Cvoid}, Csize_t, Ptr{Ptr{maw_error}}),
          buffer, offset, data, bytes, error)

const POINTER_maw_device_buffer_pointer = Ref{Ptr{Cvoid}}(C_NULL)
"""
The buffer's address in device memory, to be passed to `maw_step` and the like; aligned to 256 bytes. NULL for NULL.

    void *maw_device_buffer_pointer(const maw_device_buffer *buffer);
"""
maw_device_buffer_pointer(buffer) =
    ccall(POINTER_maw_device_buffer_pointer[], Ptr{Cvoid},
          (Ptr{maw_device_buffer},),
          buffer)

const POINTER_maw_device_buffer_size = Ref{Ptr{Cvoid}}(C_NULL)
"""
The buffer's size in bytes; 0 for NULL.

    size_t maw_device_buffer_size(const maw_device_buffer *buffer);
"""
maw_device_buffer_size(buffer) =
    ccall(POINTER_maw_device_buffer_size[], Csize_t,
          (Ptr{maw_device_buffer},),
          buffer)

const POINTER_maw_device_buffer_free = Ref{Ptr{Cvoid}}(C_NULL)
"""
Frees a buffer, after the work on the device that uses it; does nothing for NULL. Any thread, once.

    void maw_device_buffer_free(maw_device_buffer *buffer);
"""
maw_device_buffer_free(buffer) =
    ccall(POINTER_maw_device_buffer_free[], Cvoid,
          (Ptr{maw_device_buffer},),
          buffer)

const POINTER_maw_error_code = Ref{Ptr{Cvoid}}(C_NULL)
"""
The status of an error; `MAW_OK` for NULL. Any thread.

    maw_status maw_error_code(const maw_error *error);
"""
maw_error_code(error) =
    ccall(POINTER_maw_error_code[], maw_status,
          (Ptr{maw_error},),
          error)

const POINTER_maw_error_message = Ref{Ptr{Cvoid}}(C_NULL)
"""
The text of an error: one line of UTF-8, "" for NULL. Borrowed: valid until the error is freed. Any thread.

    const char *maw_error_message(const maw_error *error);
"""
maw_error_message(error) =
    ccall(POINTER_maw_error_message[], Cstring,
          (Ptr{maw_error},),
          error)

const POINTER_maw_error_free = Ref{Ptr{Cvoid}}(C_NULL)
"""
Frees an error; does nothing for NULL. Any thread, once.

    void maw_error_free(maw_error *error);
"""
maw_error_free(error) =
    ccall(POINTER_maw_error_free[], Cvoid,
          (Ptr{maw_error},),
          error)

"Structs whose layout is the header's."
const STRUCTS = (
    maw_options,
    maw_param_group,
    maw_tensor,
    maw_step_options,
    maw_step_report,
    maw_meta_request,
    maw_meta_answer,
    maw_meta_result,
)

"Every C function's name and the place of its pointer."
const FUNCTIONS = (
    (:maw_version, POINTER_maw_version),
    (:maw_abi_version, POINTER_maw_abi_version),
    (:maw_status_name, POINTER_maw_status_name),
    (:maw_options_init, POINTER_maw_options_init),
    (:maw_param_group_init, POINTER_maw_param_group_init),
    (:maw_tensor_init, POINTER_maw_tensor_init),
    (:maw_step_options_init, POINTER_maw_step_options_init),
    (:maw_step_report_init, POINTER_maw_step_report_init),
    (:maw_meta_request_init, POINTER_maw_meta_request_init),
    (:maw_meta_answer_init, POINTER_maw_meta_answer_init),
    (:maw_meta_result_init, POINTER_maw_meta_result_init),
    (:maw_optimizer_create, POINTER_maw_optimizer_create),
    (:maw_optimizer_free, POINTER_maw_optimizer_free),
    (:maw_add_param_group, POINTER_maw_add_param_group),
    (:maw_prepare, POINTER_maw_prepare),
    (:maw_step, POINTER_maw_step),
    (:maw_step_report_fetch, POINTER_maw_step_report_fetch),
    (:maw_observe_gradient, POINTER_maw_observe_gradient),
    (:maw_set_lr, POINTER_maw_set_lr),
    (:maw_set_weight_decay, POINTER_maw_set_weight_decay),
    (:maw_set_priorities, POINTER_maw_set_priorities),
    (:maw_reset, POINTER_maw_reset),
    (:maw_set_stream, POINTER_maw_set_stream),
    (:maw_set_log, POINTER_maw_set_log),
    (:maw_meta_due, POINTER_maw_meta_due),
    (:maw_meta_begin, POINTER_maw_meta_begin),
    (:maw_meta_tell, POINTER_maw_meta_tell),
    (:maw_meta_abort, POINTER_maw_meta_abort),
    (:maw_meta_result_get, POINTER_maw_meta_result_get),
    (:maw_meta_gradient, POINTER_maw_meta_gradient),
    (:maw_get_lr, POINTER_maw_get_lr),
    (:maw_get_weight_decay, POINTER_maw_get_weight_decay),
    (:maw_get_priorities, POINTER_maw_get_priorities),
    (:maw_step_count, POINTER_maw_step_count),
    (:maw_param_group_count, POINTER_maw_param_group_count),
    (:maw_tensor_count, POINTER_maw_tensor_count),
    (:maw_tensor_name, POINTER_maw_tensor_name),
    (:maw_tensor_group, POINTER_maw_tensor_group),
    (:maw_group_count, POINTER_maw_group_count),
    (:maw_group_name, POINTER_maw_group_name),
    (:maw_factors, POINTER_maw_factors),
    (:maw_feature_dim, POINTER_maw_feature_dim),
    (:maw_features, POINTER_maw_features),
    (:maw_attention_count, POINTER_maw_attention_count),
    (:maw_attention_name, POINTER_maw_attention_name),
    (:maw_attention_shape, POINTER_maw_attention_shape),
    (:maw_attention_get, POINTER_maw_attention_get),
    (:maw_attention_set, POINTER_maw_attention_set),
    (:maw_bytes_data, POINTER_maw_bytes_data),
    (:maw_bytes_size, POINTER_maw_bytes_size),
    (:maw_bytes_free, POINTER_maw_bytes_free),
    (:maw_save_file, POINTER_maw_save_file),
    (:maw_save_bytes, POINTER_maw_save_bytes),
    (:maw_load_file, POINTER_maw_load_file),
    (:maw_load_bytes, POINTER_maw_load_bytes),
    (:maw_dump_state, POINTER_maw_dump_state),
    (:maw_tensor_state_get, POINTER_maw_tensor_state_get),
    (:maw_tensor_state_set, POINTER_maw_tensor_state_set),
    (:maw_master_set, POINTER_maw_master_set),
    (:maw_master_get, POINTER_maw_master_get),
    (:maw_cuda_available, POINTER_maw_cuda_available),
    (:maw_device_buffer_create, POINTER_maw_device_buffer_create),
    (:maw_device_buffer_upload, POINTER_maw_device_buffer_upload),
    (:maw_device_buffer_download, POINTER_maw_device_buffer_download),
    (:maw_device_buffer_pointer, POINTER_maw_device_buffer_pointer),
    (:maw_device_buffer_size, POINTER_maw_device_buffer_size),
    (:maw_device_buffer_free, POINTER_maw_device_buffer_free),
    (:maw_error_code, POINTER_maw_error_code),
    (:maw_error_message, POINTER_maw_error_message),
    (:maw_error_free, POINTER_maw_error_free),
)

"Looks the functions up with `find(name)`; answers the names for which that gives `C_NULL`."
function load!(find)
    missing_functions = Symbol[]
    for (name, pointer) in FUNCTIONS
        pointer[] = find(name)
        pointer[] == C_NULL && push!(missing_functions, name)
    end
    return missing_functions
end

end # module Raw
