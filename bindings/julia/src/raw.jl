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
ABI number, part of the shared object's name (libmetaadamw.so.1). Under one number functions, constants, and fields
whose default is 0 may be added; nothing is removed.
"""
const MAW_ABI_VERSION = 1

"""
Major version of the library.
"""
const MAW_VERSION_MAJOR = 0

"""
Minor version of the library.
"""
const MAW_VERSION_MINOR = 1

"""
Patch version of the library.
"""
const MAW_VERSION_PATCH = 0

"""
Success.
"""
const MAW_OK = 0

"""
An argument is NULL, out of range, of the wrong length or otherwise invalid; the message names it.
"""
const MAW_INVALID_ARGUMENT = -1

"""
The call is not allowed in the handle's state, for example a step while a meta-update is open.
"""
const MAW_INVALID_STATE = -2

"""
This version of the library, or this machine, does not support it.
"""
const MAW_UNSUPPORTED = -3

"""
Another call on the same handle is running (or this call comes from its log callback). Nothing was done.
"""
const MAW_BUSY = -4

"""
Under `MAW_NONFINITE_ERROR`: a gradient, parameter, moment, feature or factor is not finite.
"""
const MAW_NOT_FINITE = -5

"""
Out of memory. The error object is static; freeing it does nothing.
"""
const MAW_OUT_OF_MEMORY = -6

"""
A bug in the library. The handle is poisoned: every later call on it returns this, except freeing.
"""
const MAW_PANIC = -7

"""
No tensor or group has that name or index.
"""
const MAW_NOT_FOUND = -8

"""
Parameters changed since the last step without `MAW_STEP_PARAMS_CHANGED`: under `verify_params`, or after a load if they
are not those that the file has the remainders of.
"""
const MAW_PARAMS_CHANGED = -9

"""
A file operation failed; the message names it and the system's reason.
"""
const MAW_IO = -10

"""
The data is not a checkpoint, or a damaged one.
"""
const MAW_CORRUPT = -11

"""
The checkpoint is of another model or of other options; the message lists the first differences.
"""
const MAW_MISMATCH = -12

"""
A call of the CUDA driver failed, or a kernel did; the message names the driver's function and its error. After a
failed kernel the process cannot use the device any more.
"""
const MAW_CUDA_ERROR = -13

"""
With `maw_set_reduction`: the callback failed, its result is no sum over the processes, the call failed on another
process, or the processes differ in options, tensors, step or arguments; the message says which. Unless it says
otherwise nothing was changed on this process; others may have made the step, so go on from a checkpoint.
"""
const MAW_REDUCTION = -14

"""
`maw_tensor.shard_offset` and the end of a shard are multiples of it, or the tensor's end.
"""
const MAW_SHARD_ALIGNMENT = 32768

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
Each new value of a 16-bit parameter is rounded to nearest. An update below half a unit in the last place is lost.
"""
const MAW_PRECISION_NEAREST = 0

"""
The library stores a float32 master of each element, which steps update; the host's 16-bit parameter is the master
rounded to nearest. 4 more bytes per element.
"""
const MAW_PRECISION_MASTER = 1

"""
The same masters, bit for bit, in 2 + 2 bytes: the host's bfloat16 parameter, and the other 16 bits (the remainder)
in the library. bfloat16 only; 2 more bytes per element.
"""
const MAW_PRECISION_REMAINDER = 2

"""
Stochastic rounding: each new value of a 16-bit parameter is rounded up or down at random, with the exact value as
its expectation. No more memory. The random bits depend on `maw_options.seed`, the tensor's name, its step count and
the element's index only.
"""
const MAW_PRECISION_STOCHASTIC = 3

"""
`maw_tensor.precision` alone: `MAW_PRECISION_NEAREST` for this tensor, where 0 is the precision of its param group.
"""
const MAW_PRECISION_TENSOR_NEAREST = 4

"""
Host memory.
"""
const MAW_CPU = 0

"""
Memory of a CUDA device. Needs a driver for CUDA 11.8 or later and compute capability 7.0 or higher.
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
Mean norms of gradients, moments and parameters, mean cosine of gradient and first moment.
"""
const MAW_FEATURES_BASIC = 0

"""
`BASIC`, and the standard deviations over the tensors of the group.
"""
const MAW_FEATURES_BASIC_PLUS = 1

"""
Means and variances of norms, fractions of zeros, sizes, fraction of biases, depth, and a learned embedding.
"""
const MAW_FEATURES_ENHANCED = 2

"""
`BASIC`, each column of statistics standardized over the groups.
"""
const MAW_FEATURES_NORM_BASIC = 3

"""
`BASIC_PLUS`, each column of statistics standardized over the groups.
"""
const MAW_FEATURES_NORM_BASIC_PLUS = 4

"""
`NORM_BASIC` with the mean of ln(max(1e20·norm, 1)) in place of the mean norm. Not in the paper.
"""
const MAW_FEATURES_NORM_LOG = 5

"""
One modulation group per (layer kind, depth bucket, bias or not): chapter "Modulation groups".
"""
const MAW_GROUPING_FINE_GRAINED = 0

"""
The modulation groups are the param groups.
"""
const MAW_GROUPING_BY_PARAM_GROUP = 1

"""
`maw_tensor.modulation_group` names each tensor's modulation group.
"""
const MAW_GROUPING_CUSTOM = 2

"""
Weight matrices are Xavier-uniform, as in the paper. So the factors start at random: a small Transformer's mean alpha
after ten steps was, over seeds 1 to 20, anything from 0.50 to 1.49, and a quarter of all factors was at a bound.
"""
const MAW_INIT_XAVIER = 0

"""
As `XAVIER`, but the output projection is 0: alpha = beta = 1 (AdamW) until the first meta-update.
"""
const MAW_INIT_IDENTITY = 1

"""
Gradient alignment, loss decrease and generalization gap, weighted.
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
Generalization gap alone (eq. 12). It does not depend on the attention module: only the regularization trains it.
"""
const MAW_OBJECTIVE_GEN_GAP = 3

"""
The gradient against the displacement of the last `maw_options.horizon` steps: chapter "Learning from steps". Needs no
meta-update of the host. Not in the paper.
"""
const MAW_OBJECTIVE_HORIZON = 4

"""
The attention module learns by plain steps along the gradient (SGD), as in the paper.
"""
const MAW_META_SGD = 0

"""
It learns by AdamW with betas 0.9 and 0.99, eps 1e-8 and decay `maw_options.meta_weight_decay` (of log-variances
without); the norms of its tensors are not part of the objective. Not in the paper.
"""
const MAW_META_ADAMW = 1

"""
`maw_options_preset`: learning from steps alone. `MAW_OBJECTIVE_HORIZON` with `horizon` 1000, `MAW_META_ADAMW`,
`meta_lr` 1e-2, `meta_weight_decay` 1e-4, `meta_interval` 5, `meta_warmup` 20, `MAW_INIT_IDENTITY`,
`MAW_FEATURES_NORM_LOG`, `attn_layers` 2, `alpha_log_range` 8; all else as `maw_options_init` sets it. Experimental:
docs/horizon.md says what it is worth, and a later version may choose other values.
"""
const MAW_PRESET_HORIZON = 1

"""
Homoscedastic uncertainty weighting (HUW) with priorities (eq. 13).
"""
const MAW_WEIGHTING_HUW = 0

"""
The weights in `maw_options.fixed_weights`.
"""
const MAW_WEIGHTING_FIXED = 1

"""
The unweighted sum of the three terms.
"""
const MAW_WEIGHTING_SUM = 2

"""
HUW multiplies the term by exp(-s)/2.
"""
const MAW_KIND_REGRESSION = 0

"""
HUW multiplies the term by exp(-s).
"""
const MAW_KIND_CLASSIFICATION = 1

"""
Hessian-vector product by central differences: two more gradients on the second training batch.
"""
const MAW_DIFFERENCE_CENTRAL = 0

"""
Hessian-vector product by a forward difference: one more gradient.
"""
const MAW_DIFFERENCE_FORWARD = 1

"""
Hessian-vector product taken as 0: no more gradients; the gradient alignment does not train alpha and beta.
"""
const MAW_DIFFERENCE_FIRST_ORDER = 2

"""
A step in which a value is not finite is skipped: only the count of skipped steps changes. The report gives the
reason.
"""
const MAW_NONFINITE_SKIP = 0

"""
Such a step fails with `MAW_NOT_FINITE` and changes nothing.
"""
const MAW_NONFINITE_ERROR = 1

"""
No check, as in PyTorch's AdamW: NaN and infinity propagate. Only with `modulation` = 0. Saves one pass over the
gradients; the report's `grad_norm` is NaN unless clipping needs it.
"""
const MAW_NONFINITE_PROPAGATE = 2

"""
Not given: the tensor's name decides.
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
Part of an attention layer.
"""
const MAW_LAYER_ATTENTION = 3

"""
Part of a layer norm.
"""
const MAW_LAYER_LAYERNORM = 4

"""
Part of a convolution.
"""
const MAW_LAYER_CONVOLUTION = 5

"""
Part of a batch norm.
"""
const MAW_LAYER_BATCHNORM = 6

"""
Part of a recurrent layer, such as LSTM or GRU.
"""
const MAW_LAYER_RECURRENT = 7

"""
In place of a param group's index: every param group.
"""
const MAW_ALL_GROUPS = typemax(UInt32)

"""
`maw_step_options.flags`: the host changed parameters since the last step. The library recomputes its norms and sets
masters to the new parameters.
"""
const MAW_STEP_PARAMS_CHANGED = 1

"""
`maw_step_report_fetch`: wait for all enqueued steps.
"""
const MAW_FETCH_WAIT = 1

"""
`maw_reset`: set both moments and all step counts to 0.
"""
const MAW_RESET_MOMENTS = 1

"""
`maw_reset`: set the attention module to its initial values.
"""
const MAW_RESET_ATTENTION = 2

"""
Saving and loading: only the attention module.
"""
const MAW_ATTENTION_ONLY = 1

"""
Loading: options that affect only later steps may differ; the file's are used. Without one of the three flags this holds
for options that have a setter, and all others must be equal.
"""
const MAW_LOAD_FILE_WINS = 2

"""
Loading: options that affect only later steps may differ; the optimizer's own are used.
"""
const MAW_LOAD_OWN_WINS = 4

"""
Loading: nothing may differ, not even what has a setter.
"""
const MAW_LOAD_STRICT = 8

"""
Loading: the file may have more or fewer tensors, param groups and modulation groups. What both have is loaded; a tensor
that the file does not have starts at step 0; `maw_load_report_count` tells the names. May be combined with one of the
three flags above, and with `MAW_ATTENTION_ONLY`.
"""
const MAW_LOAD_PARTIAL = 16

"""
`maw_load_report_count`: tensors that the file does not have.
"""
const MAW_LOAD_MISSING_TENSORS = 1

"""
`maw_load_report_count`: tensors of the file that are not registered.
"""
const MAW_LOAD_UNEXPECTED_TENSORS = 2

"""
`maw_load_report_count`: modulation groups that the file does not have.
"""
const MAW_LOAD_MISSING_GROUPS = 3

"""
`maw_load_report_count`: modulation groups that only the file has.
"""
const MAW_LOAD_UNEXPECTED_GROUPS = 4

"""
`maw_counters.meta_done_at`: no meta-update was done or abandoned so far.
"""
const MAW_NO_STEP = typemax(UInt64)

"""
`maw_step_report.skip_reason`: the step was applied.
"""
const MAW_SKIP_NONE = 0

"""
A gradient is not finite, or so large that the second moment or the norm would not be.
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
`maw_step_report.nonfinite_tensor`: no tensor.
"""
const MAW_NO_TENSOR = typemax(UInt64)

"""
The meta-update has ended; the host's parameters have the same bits as at `maw_meta_begin`.
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
A loss from the host is not finite.
"""
const MAW_OUTCOME_LOSS_NOT_FINITE = 3

"""
A gradient from the host is not finite.
"""
const MAW_OUTCOME_GRADIENT_NOT_FINITE = 4

"""
A parameter, moment, feature or factor is not finite, or a parameter after the trial step.
"""
const MAW_OUTCOME_STATE_NOT_FINITE = 5

"""
The direction w of the Hessian-vector product is not finite, or the step along it rounds to 0.
"""
const MAW_OUTCOME_DIRECTION_NOT_FINITE = 6

"""
The gradient of the attention module is not finite.
"""
const MAW_OUTCOME_META_GRADIENT_NOT_FINITE = 7

"""
`maw_log_callback`: information.
"""
const MAW_LOG_INFO = 1

"""
`maw_log_callback`: something probably unintended.
"""
const MAW_LOG_WARNING = 2

"""
Bytes allocated by the library and owned by the caller, who frees them with `maw_bytes_free`.
"""
struct maw_bytes end

"""
Device memory allocated by the library, for hosts that do not use CUDA themselves. Opaque: created by
`maw_device_buffer_create`, freed by `maw_device_buffer_free`. Not thread-safe: one call at a time.
"""
struct maw_device_buffer end

"""
Why a call failed: a status, and a message that names the argument, what was expected and what was given.

A function that fails stores one through its last parameter, unless that is NULL; the caller owns it and frees it
with `maw_error_free`. It does not depend on any handle or thread.
"""
struct maw_error end

"""
An optimizer. Opaque: created by `maw_optimizer_create`, freed by `maw_optimizer_free`.

It may be used from any thread, by one call at a time: a second call meanwhile returns `MAW_BUSY` at once and does
nothing. Different optimizers are independent.
"""
struct maw_optimizer end

"""
The result of a call: `MAW_OK` (0) or a negative number, `MAW_INVALID_ARGUMENT` and the following.
"""
const maw_status = Int32

"""
Options of an optimizer, fixed at creation unless there is a setter. `maw_options_init` sets the defaults.

- `struct_size`: `sizeof(maw_options)` of the caller; set by `maw_options_init`.
- `seed`: Seed of the attention module's initial values and of stochastic rounding; the same on every platform. Default 0.
- `total_steps`: Steps of the whole run: the time feature is step/total_steps. 0 (default) = unknown: the time feature is
  2·sigmoid(step/1000) − 1.
- `meta_interval`: Steps between two meta-updates, at least 1. With `MAW_OBJECTIVE_HORIZON`: steps after which the attention module
  learns. Default 200.
- `meta_warmup`: First step at which a meta-update can be due. With `MAW_OBJECTIVE_HORIZON`: steps that the module does not learn from.
  Default 0.
- `alpha_range`: Width of alpha's range, 0 to 2: alpha is within 1 ± alpha_range/2. Not used with `alpha_log_range`. Default 1.
- `beta_range`: Width of beta's range, 0 to 2: beta is within 1 ± beta_range/2. Not used with `beta_log_range`. Default 1.
- `meta_lr`: Learning rate of the attention module, ≥ 0. Default 1e-4.
- `meta_weight_decay`: Weight of the norms of the attention module's tensors in the meta-objective, ≥ 0; with `MAW_META_ADAMW` its decoupled
  weight decay. Default 1e-4.
- `feature_gating_sparsity`: Weight of Σ|gate| in the meta-objective, ≥ 0; with `use_feature_gating`. Default 1e-4.
- `priorities`: HUW's priorities p of gradient alignment, loss decrease and generalization gap, each ≥ 0. Default 1, 1, 1.
- `fixed_weights`: Weights of the three terms under `MAW_WEIGHTING_FIXED`. Default 1, 1, 1.
- `huw_initial_log_var`: Initial value of HUW's three log-variances s. Default 0.
- `log_var_limit`: s is clamped to ±log_var_limit after each meta-update, ≥ 0; 0 = no limit, as in the paper. Default 10.
- `difference_scale`: Relative step size of the differences for the Hessian-vector product, ≥ 0; 0 (default) = 6e-6 for float64
  (forward: 1.5e-8), 3e-3 for float32, 3e-2 for 16-bit parameters.
- `max_grad_norm`: Gradients are clipped to this global norm, as by PyTorch's clip_grad_norm_; 0 (default) = no clipping.
- `semantics`: `MAW_PAPER` (default) or `MAW_REFERENCE`.
- `feature_version`: `MAW_FEATURES_…`. Default `MAW_FEATURES_BASIC`.
- `grouping`: `MAW_GROUPING_…`. Default `MAW_GROUPING_FINE_GRAINED`.
- `init`: `MAW_INIT_…`. Default `MAW_INIT_XAVIER`.
- `objective`: `MAW_OBJECTIVE_…`. Default `MAW_OBJECTIVE_COMBINED`.
- `weighting`: `MAW_WEIGHTING_…` of the combined objective. Default `MAW_WEIGHTING_HUW`.
- `huw_kinds`: `MAW_KIND_…` of the three terms under HUW. Default `MAW_KIND_REGRESSION`.
- `difference`: `MAW_DIFFERENCE_…`. Default `MAW_DIFFERENCE_CENTRAL`.
- `nonfinite`: `MAW_NONFINITE_…`. Default `MAW_NONFINITE_SKIP`.
- `device`: `MAW_CPU` (default) or `MAW_CUDA`: where parameters, gradients and moments are.
- `device_index`: Index of the CUDA device; 0 on the CPU.
- `modulation`: 1 (default): MetaAdamW. 0: plain AdamW; alpha = beta = 1, no features, no meta-updates.
- `use_v_norms`: 1 (default): the norm of the second moment is a feature. `MAW_FEATURES_ENHANCED` never has it.
- `include_time_step`: 1 (default): the time step is a feature.
- `use_feature_gating`: 1: each feature column is multiplied by the sigmoid of a learned gate. Default 0.
- `group_embed_dim`: Columns of the learned group embedding, 1 to 4,096; `MAW_FEATURES_ENHANCED` only. Default 4.
- `feature_dim`: Width D of a token, up to 65,536; 0 (default) = the number of features. Rounded up to a multiple of
  `attn_heads`.
- `attn_heads`: Attention heads of the encoder, 1 to 1,024. Default 6.
- `attn_layers`: Layers of the encoder, 1 to 4,096. Default 8.
- `attn_hidden_dim`: Width of the encoder's feed-forward layers, 1 to 65,536. Default 16.
- `threads`: Threads of a step on the CPU, up to 1,024; 0 (default) = one per available core; 1 = the caller's thread only. A
  model with fewer than 262,144 elements uses the caller's thread only. Any number gives the same bits.
- `verify_params`: 1: each step checks that no parameter changed since the last one without `MAW_STEP_PARAMS_CHANGED`. Default 0.
- `alpha_log_range`: R, 1 < R ≤ 1e6: alpha = R^(2·sigmoid − 1), between 1/R and R, in place of `alpha_range`. 0 (default): not used. Not in
  the paper.
- `beta_log_range`: The same for beta.
- `horizon`: N, 2 to 2^32: the library keeps an average of each parameter, average ← average + (parameter − average)/N after each
  update, and learns from it under `MAW_OBJECTIVE_HORIZON` (`maw_average_get`, `maw_average_swap`). 0 (default): no
  averages. In float32 an average stands still once parameter − average is below N/2 units in its last place.
- `meta_optimizer`: `MAW_META_…`: how the attention module learns. Default `MAW_META_SGD`; `MAW_OBJECTIVE_HORIZON` needs
  `MAW_META_ADAMW`.
- `average_dtype`: dtype of the averages: 0 (default) = float32, and float64 of float64 tensors; `MAW_BFLOAT16` = bfloat16 with
  stochastic rounding, but float64 of float64 tensors.
"""
struct maw_options
    """
    `sizeof(maw_options)` of the caller; set by `maw_options_init`.
    """
    struct_size::Csize_t
    """
    Seed of the attention module's initial values and of stochastic rounding; the same on every platform. Default 0.
    """
    seed::UInt64
    """
    Steps of the whole run: the time feature is step/total_steps. 0 (default) = unknown: the time feature is
    2·sigmoid(step/1000) − 1.
    """
    total_steps::UInt64
    """
    Steps between two meta-updates, at least 1. With `MAW_OBJECTIVE_HORIZON`: steps after which the attention module
    learns. Default 200.
    """
    meta_interval::UInt64
    """
    First step at which a meta-update can be due. With `MAW_OBJECTIVE_HORIZON`: steps that the module does not learn from.
    Default 0.
    """
    meta_warmup::UInt64
    """
    Width of alpha's range, 0 to 2: alpha is within 1 ± alpha_range/2. Not used with `alpha_log_range`. Default 1.
    """
    alpha_range::Cdouble
    """
    Width of beta's range, 0 to 2: beta is within 1 ± beta_range/2. Not used with `beta_log_range`. Default 1.
    """
    beta_range::Cdouble
    """
    Learning rate of the attention module, ≥ 0. Default 1e-4.
    """
    meta_lr::Cdouble
    """
    Weight of the norms of the attention module's tensors in the meta-objective, ≥ 0; with `MAW_META_ADAMW` its decoupled
    weight decay. Default 1e-4.
    """
    meta_weight_decay::Cdouble
    """
    Weight of Σ|gate| in the meta-objective, ≥ 0; with `use_feature_gating`. Default 1e-4.
    """
    feature_gating_sparsity::Cdouble
    """
    HUW's priorities p of gradient alignment, loss decrease and generalization gap, each ≥ 0. Default 1, 1, 1.
    """
    priorities::NTuple{3, Cdouble}
    """
    Weights of the three terms under `MAW_WEIGHTING_FIXED`. Default 1, 1, 1.
    """
    fixed_weights::NTuple{3, Cdouble}
    """
    Initial value of HUW's three log-variances s. Default 0.
    """
    huw_initial_log_var::Cdouble
    """
    s is clamped to ±log_var_limit after each meta-update, ≥ 0; 0 = no limit, as in the paper. Default 10.
    """
    log_var_limit::Cdouble
    """
    Relative step size of the differences for the Hessian-vector product, ≥ 0; 0 (default) = 6e-6 for float64
    (forward: 1.5e-8), 3e-3 for float32, 3e-2 for 16-bit parameters.
    """
    difference_scale::Cdouble
    """
    Gradients are clipped to this global norm, as by PyTorch's clip_grad_norm_; 0 (default) = no clipping.
    """
    max_grad_norm::Cdouble
    """
    `MAW_PAPER` (default) or `MAW_REFERENCE`.
    """
    semantics::Int32
    """
    `MAW_FEATURES_…`. Default `MAW_FEATURES_BASIC`.
    """
    feature_version::Int32
    """
    `MAW_GROUPING_…`. Default `MAW_GROUPING_FINE_GRAINED`.
    """
    grouping::Int32
    """
    `MAW_INIT_…`. Default `MAW_INIT_XAVIER`.
    """
    init::Int32
    """
    `MAW_OBJECTIVE_…`. Default `MAW_OBJECTIVE_COMBINED`.
    """
    objective::Int32
    """
    `MAW_WEIGHTING_…` of the combined objective. Default `MAW_WEIGHTING_HUW`.
    """
    weighting::Int32
    """
    `MAW_KIND_…` of the three terms under HUW. Default `MAW_KIND_REGRESSION`.
    """
    huw_kinds::NTuple{3, Int32}
    """
    `MAW_DIFFERENCE_…`. Default `MAW_DIFFERENCE_CENTRAL`.
    """
    difference::Int32
    """
    `MAW_NONFINITE_…`. Default `MAW_NONFINITE_SKIP`.
    """
    nonfinite::Int32
    """
    `MAW_CPU` (default) or `MAW_CUDA`: where parameters, gradients and moments are.
    """
    device::Int32
    """
    Index of the CUDA device; 0 on the CPU.
    """
    device_index::Int32
    """
    1 (default): MetaAdamW. 0: plain AdamW; alpha = beta = 1, no features, no meta-updates.
    """
    modulation::UInt32
    """
    1 (default): the norm of the second moment is a feature. `MAW_FEATURES_ENHANCED` never has it.
    """
    use_v_norms::UInt32
    """
    1 (default): the time step is a feature.
    """
    include_time_step::UInt32
    """
    1: each feature column is multiplied by the sigmoid of a learned gate. Default 0.
    """
    use_feature_gating::UInt32
    """
    Columns of the learned group embedding, 1 to 4,096; `MAW_FEATURES_ENHANCED` only. Default 4.
    """
    group_embed_dim::UInt32
    """
    Width D of a token, up to 65,536; 0 (default) = the number of features. Rounded up to a multiple of
    `attn_heads`.
    """
    feature_dim::UInt32
    """
    Attention heads of the encoder, 1 to 1,024. Default 6.
    """
    attn_heads::UInt32
    """
    Layers of the encoder, 1 to 4,096. Default 8.
    """
    attn_layers::UInt32
    """
    Width of the encoder's feed-forward layers, 1 to 65,536. Default 16.
    """
    attn_hidden_dim::UInt32
    """
    Threads of a step on the CPU, up to 1,024; 0 (default) = one per available core; 1 = the caller's thread only. A
    model with fewer than 262,144 elements uses the caller's thread only. Any number gives the same bits.
    """
    threads::UInt32
    """
    1: each step checks that no parameter changed since the last one without `MAW_STEP_PARAMS_CHANGED`. Default 0.
    """
    verify_params::UInt32
    """
    R, 1 < R ≤ 1e6: alpha = R^(2·sigmoid − 1), between 1/R and R, in place of `alpha_range`. 0 (default): not used. Not in
    the paper.
    """
    alpha_log_range::Cdouble
    """
    The same for beta.
    """
    beta_log_range::Cdouble
    """
    N, 2 to 2^32: the library keeps an average of each parameter, average ← average + (parameter − average)/N after each
    update, and learns from it under `MAW_OBJECTIVE_HORIZON` (`maw_average_get`, `maw_average_swap`). 0 (default): no
    averages. In float32 an average stands still once parameter − average is below N/2 units in its last place.
    """
    horizon::UInt64
    """
    `MAW_META_…`: how the attention module learns. Default `MAW_META_SGD`; `MAW_OBJECTIVE_HORIZON` needs
    `MAW_META_ADAMW`.
    """
    meta_optimizer::Int32
    """
    dtype of the averages: 0 (default) = float32, and float64 of float64 tensors; `MAW_BFLOAT16` = bfloat16 with
    stochastic rounding, but float64 of float64 tensors.
    """
    average_dtype::Int32
end

"""
Hyper-parameters that tensors share. `maw_param_group_init` sets the defaults.

- `struct_size`: `sizeof(maw_param_group)` of the caller; set by `maw_param_group_init`.
- `lr`: Learning rate, ≥ 0. Default 5e-4 (the paper's).
- `beta1`: Decay rate of the first moment, 0 ≤ beta1 < 1. Default 0.9.
- `beta2`: Decay rate of the second moment, 0 ≤ beta2 < 1. Default 0.999.
- `eps`: Added to the square root of the second moment; > 0 in the precision of the computation. Default 1e-8.
- `weight_decay`: Decoupled weight decay, ≥ 0. Default 1e-2.
- `precision`: `MAW_PRECISION_…`: how 16-bit parameters are updated, if the tensor does not say so itself. Default
  `MAW_PRECISION_NEAREST`. For float32 and float64 tensors it has no meaning, so that they can share a group with
  16-bit ones. `MAW_PRECISION_REMAINDER` with a float16 tensor is an error.
- `moment_dtype`: dtype of both moments: 0 (default, and required for float64 tensors) = float64 for float64 tensors, else
  float32; `MAW_FLOAT32`; or `MAW_BFLOAT16`, with stochastic rounding.
"""
struct maw_param_group
    """
    `sizeof(maw_param_group)` of the caller; set by `maw_param_group_init`.
    """
    struct_size::Csize_t
    """
    Learning rate, ≥ 0. Default 5e-4 (the paper's).
    """
    lr::Cdouble
    """
    Decay rate of the first moment, 0 ≤ beta1 < 1. Default 0.9.
    """
    beta1::Cdouble
    """
    Decay rate of the second moment, 0 ≤ beta2 < 1. Default 0.999.
    """
    beta2::Cdouble
    """
    Added to the square root of the second moment; > 0 in the precision of the computation. Default 1e-8.
    """
    eps::Cdouble
    """
    Decoupled weight decay, ≥ 0. Default 1e-2.
    """
    weight_decay::Cdouble
    """
    `MAW_PRECISION_…`: how 16-bit parameters are updated, if the tensor does not say so itself. Default
    `MAW_PRECISION_NEAREST`. For float32 and float64 tensors it has no meaning, so that they can share a group with
    16-bit ones. `MAW_PRECISION_REMAINDER` with a float16 tensor is an error.
    """
    precision::Int32
    """
    dtype of both moments: 0 (default, and required for float64 tensors) = float64 for float64 tensors, else
    float32; `MAW_FLOAT32`; or `MAW_BFLOAT16`, with stochastic rounding.
    """
    moment_dtype::Int32
end

"""
A parameter tensor to register. `maw_tensor_init` zeroes it and sets `dtype` to `MAW_FLOAT32`.

- `struct_size`: `sizeof(maw_tensor)` of the caller; set by `maw_tensor_init`.
- `name`: Unique in the optimizer: 1 to 1,024 bytes of UTF-8 without control characters, "layers.0.attn.weight". Copied.
- `shape`: `ndim` lengths; may be NULL if `ndim` is 0 (a scalar, which has one element). A length may be 0. Copied.
- `modulation_group`: Under `MAW_GROUPING_CUSTOM`: the name of the tensor's modulation group, same rules as `name`. Else NULL. Copied.
- `ndim`: Number of dimensions, at most 64.
- `dtype`: The parameter's dtype, `MAW_FLOAT32` …. A float64 tensor is computed in float64, any other in float32.
- `grad_dtype`: The gradient's dtype; it may differ from `dtype`. 0 (default) = `dtype`.
- `layer_kind`: `MAW_LAYER_…`: the kind of layer (chapter "Modulation groups"). Default `MAW_LAYER_UNKNOWN`: the name decides.
- `precision`: `MAW_PRECISION_…` of this tensor, which must allow it; 0 (default) = that of its param group.
- `layer_index`: Number of the layer plus 1: 1 = the first layer, which counts as "layers.0.weight" does. At most 1,000,000. 0
  (default) = the number in the name, if there is one.
- `shard_offset`: With `sharded`: the first element that this process has, in the flattened (row-major) tensor; a multiple of
  `MAW_SHARD_ALIGNMENT`. Default 0.
- `shard_numel`: With `sharded`: how many elements this process has; 0 = none. `shard_offset` + `shard_numel` is a multiple of
  `MAW_SHARD_ALIGNMENT` or the tensor's size. Default 0.
- `sharded`: 1: this process has a part of the tensor, others have the rest (`maw_set_reduction`). `shape`, names and groups are
  those of the whole; buffers and counts of elements those of the part. 0 (default): all of it.
- `reserved`: Must be 0.
"""
struct maw_tensor
    """
    `sizeof(maw_tensor)` of the caller; set by `maw_tensor_init`.
    """
    struct_size::Csize_t
    """
    Unique in the optimizer: 1 to 1,024 bytes of UTF-8 without control characters, "layers.0.attn.weight". Copied.
    """
    name::Cstring
    """
    `ndim` lengths; may be NULL if `ndim` is 0 (a scalar, which has one element). A length may be 0. Copied.
    """
    shape::Ptr{UInt64}
    """
    Under `MAW_GROUPING_CUSTOM`: the name of the tensor's modulation group, same rules as `name`. Else NULL. Copied.
    """
    modulation_group::Cstring
    """
    Number of dimensions, at most 64.
    """
    ndim::UInt32
    """
    The parameter's dtype, `MAW_FLOAT32` …. A float64 tensor is computed in float64, any other in float32.
    """
    dtype::Int32
    """
    The gradient's dtype; it may differ from `dtype`. 0 (default) = `dtype`.
    """
    grad_dtype::Int32
    """
    `MAW_LAYER_…`: the kind of layer (chapter "Modulation groups"). Default `MAW_LAYER_UNKNOWN`: the name decides.
    """
    layer_kind::Int32
    """
    `MAW_PRECISION_…` of this tensor, which must allow it; 0 (default) = that of its param group.
    """
    precision::Int32
    """
    Number of the layer plus 1: 1 = the first layer, which counts as "layers.0.weight" does. At most 1,000,000. 0
    (default) = the number in the name, if there is one.
    """
    layer_index::UInt32
    """
    With `sharded`: the first element that this process has, in the flattened (row-major) tensor; a multiple of
    `MAW_SHARD_ALIGNMENT`. Default 0.
    """
    shard_offset::UInt64
    """
    With `sharded`: how many elements this process has; 0 = none. `shard_offset` + `shard_numel` is a multiple of
    `MAW_SHARD_ALIGNMENT` or the tensor's size. Default 0.
    """
    shard_numel::UInt64
    """
    1: this process has a part of the tensor, others have the rest (`maw_set_reduction`). `shape`, names and groups are
    those of the whole; buffers and counts of elements those of the part. 0 (default): all of it.
    """
    sharded::UInt32
    """
    Must be 0.
    """
    reserved::UInt32
end

"""
Options of a single step. `maw_step_options_init` sets the defaults.

- `struct_size`: `sizeof(maw_step_options)` of the caller; set by `maw_step_options_init`.
- `grad_scale`: Loss scale: the gradients are divided by it; > 0. Default 1. A CUDA graph has the value of the capture; use
  `device_grad_scale` there.
- `flags`: 0 or `MAW_STEP_PARAMS_CHANGED`. A CUDA graph has the value of the capture.
- `reserved`: Must be 0.
- `device_grad_scale`: CUDA: a float in device memory that replaces `grad_scale`, read when the step runs. The step is skipped
  (`MAW_SKIP_GRADIENT`) unless it is finite and > 0, whatever `nonfinite` is. Must be NULL on the CPU, with
  `verify_params` and under `MAW_NONFINITE_ERROR`. Default NULL.
- `found_inf`: CUDA: a float in device memory, read when the step runs. The step is skipped (`MAW_SKIP_GRADIENT`) unless it is
  0, whatever `nonfinite` is. Must be NULL where `device_grad_scale` must. Default NULL: only the library's own
  check.
"""
struct maw_step_options
    """
    `sizeof(maw_step_options)` of the caller; set by `maw_step_options_init`.
    """
    struct_size::Csize_t
    """
    Loss scale: the gradients are divided by it; > 0. Default 1. A CUDA graph has the value of the capture; use
    `device_grad_scale` there.
    """
    grad_scale::Cdouble
    """
    0 or `MAW_STEP_PARAMS_CHANGED`. A CUDA graph has the value of the capture.
    """
    flags::UInt32
    """
    Must be 0.
    """
    reserved::UInt32
    """
    CUDA: a float in device memory that replaces `grad_scale`, read when the step runs. The step is skipped
    (`MAW_SKIP_GRADIENT`) unless it is finite and > 0, whatever `nonfinite` is. Must be NULL on the CPU, with
    `verify_params` and under `MAW_NONFINITE_ERROR`. Default NULL.
    """
    device_grad_scale::Ptr{Cfloat}
    """
    CUDA: a float in device memory, read when the step runs. The step is skipped (`MAW_SKIP_GRADIENT`) unless it is
    0, whatever `nonfinite` is. Must be NULL where `device_grad_scale` must. Default NULL: only the library's own
    check.
    """
    found_inf::Ptr{Cfloat}
end

"""
Report of a step. `maw_step_report_init` sets `struct_size`.

- `struct_size`: `sizeof(maw_step_report)` of the caller; set by `maw_step_report_init`.
- `step`: Number of applied steps, this one included.
- `skipped_steps`: Number of skipped steps, this one included.
- `grad_norm`: Euclidean norm of all gradients, after division by `grad_scale` and before clipping.
- `clip_factor`: The factor by which clipping multiplied the gradients; 1 without clipping.
- `nonfinite_tensor`: Index, in registration order, of the first tensor that is not finite, or `MAW_NO_TENSOR`.
- `skipped`: 1 if the step was skipped, else 0.
- `skip_reason`: `MAW_SKIP_…`.
"""
struct maw_step_report
    """
    `sizeof(maw_step_report)` of the caller; set by `maw_step_report_init`.
    """
    struct_size::Csize_t
    """
    Number of applied steps, this one included.
    """
    step::UInt64
    """
    Number of skipped steps, this one included.
    """
    skipped_steps::UInt64
    """
    Euclidean norm of all gradients, after division by `grad_scale` and before clipping.
    """
    grad_norm::Cdouble
    """
    The factor by which clipping multiplied the gradients; 1 without clipping.
    """
    clip_factor::Cdouble
    """
    Index, in registration order, of the first tensor that is not finite, or `MAW_NO_TENSOR`.
    """
    nonfinite_tensor::UInt64
    """
    1 if the step was skipped, else 0.
    """
    skipped::UInt32
    """
    `MAW_SKIP_…`.
    """
    skip_reason::Int32
end

"""
What the host must evaluate next, at the parameters now in its buffers:

```c
maw_meta_begin(optimizer, params, n, &request, &error);
while (request.kind != MAW_META_DONE) {
    answer.request_id = request.id;
    answer.loss = evaluate(request.kind, request.batch, request.replay);   /* gradients into grads */
    maw_meta_tell(optimizer, &answer, params, grads, n, &request, &error);
}
```

While a request is open, do not write to the parameters, and do not let the evaluations change anything that later
steps depend on (running statistics of a batch norm). `maw_meta_request_init` sets `struct_size`.

- `struct_size`: `sizeof(maw_meta_request)` of the caller; set by `maw_meta_request_init`.
- `id`: Number of this request, counted from 1 over the handle's lifetime. 0 at `MAW_META_DONE`.
- `replay`: Number of an earlier request whose batch and random numbers (dropout) must be used again; 0 = any.
- `kind`: `MAW_META_…`.
- `batch`: `MAW_BATCH_…`; 0 at `MAW_META_DONE`.
- `seed`: For the host's random number generator (dropout): the same for requests that replay one another, another for all
  others, so that a host which seeds with it need not remember `replay`. A function of `options.seed`, the step and the
  number of meta-updates: a resumed run gets the same. 0 at `MAW_META_DONE`.
"""
struct maw_meta_request
    """
    `sizeof(maw_meta_request)` of the caller; set by `maw_meta_request_init`.
    """
    struct_size::Csize_t
    """
    Number of this request, counted from 1 over the handle's lifetime. 0 at `MAW_META_DONE`.
    """
    id::UInt64
    """
    Number of an earlier request whose batch and random numbers (dropout) must be used again; 0 = any.
    """
    replay::UInt64
    """
    `MAW_META_…`.
    """
    kind::Int32
    """
    `MAW_BATCH_…`; 0 at `MAW_META_DONE`.
    """
    batch::Int32
    """
    For the host's random number generator (dropout): the same for requests that replay one another, another for all
    others, so that a host which seeds with it need not remember `replay`. A function of `options.seed`, the step and the
    number of meta-updates: a resumed run gets the same. 0 at `MAW_META_DONE`.
    """
    seed::UInt64
end

"""
The host's answer to a request. `maw_meta_answer_init` sets the defaults.

- `struct_size`: `sizeof(maw_meta_answer)` of the caller; set by `maw_meta_answer_init`.
- `request_id`: `maw_meta_request.id` of the request being answered.
- `loss`: The loss, without loss scaling.
- `grad_scale`: Loss scale of the gradients, which are divided by it; > 0. Default 1.
"""
struct maw_meta_answer
    """
    `sizeof(maw_meta_answer)` of the caller; set by `maw_meta_answer_init`.
    """
    struct_size::Csize_t
    """
    `maw_meta_request.id` of the request being answered.
    """
    request_id::UInt64
    """
    The loss, without loss scaling.
    """
    loss::Cdouble
    """
    Loss scale of the gradients, which are divided by it; > 0. Default 1.
    """
    grad_scale::Cdouble
end

"""
Result of the last meta-update. Terms and losses that the objective does not need are NaN.
`maw_meta_result_init` sets `struct_size`.

- `struct_size`: `sizeof(maw_meta_result)` of the caller; set by `maw_meta_result_init`.
- `step`: Number of applied steps when it began.
- `updates`: Number of meta-updates that ended with `MAW_OUTCOME_UPDATED`.
- `loss_train`: Loss on B1, before the trial step.
- `loss_validation`: Loss on the validation batch, before the trial step.
- `loss_train_moved`: Loss on B2, after the trial step.
- `loss_validation_moved`: Loss on the validation batch, after the trial step.
- `term_gradient`: Gradient alignment (eq. 10).
- `term_loss_decrease`: Loss decrease (eq. 11).
- `term_gen_gap`: Generalization gap (eq. 12).
- `loss_meta`: The objective, regularization included.
- `evaluations`: Number of the host's evaluations.
- `idle_groups`: Number of modulation groups whose gradient norm on B2 is below 1e-5 of the largest.
- `outcome`: `MAW_OUTCOME_…`.
- `reserved`: 0.
"""
struct maw_meta_result
    """
    `sizeof(maw_meta_result)` of the caller; set by `maw_meta_result_init`.
    """
    struct_size::Csize_t
    """
    Number of applied steps when it began.
    """
    step::UInt64
    """
    Number of meta-updates that ended with `MAW_OUTCOME_UPDATED`.
    """
    updates::UInt64
    """
    Loss on B1, before the trial step.
    """
    loss_train::Cdouble
    """
    Loss on the validation batch, before the trial step.
    """
    loss_validation::Cdouble
    """
    Loss on B2, after the trial step.
    """
    loss_train_moved::Cdouble
    """
    Loss on the validation batch, after the trial step.
    """
    loss_validation_moved::Cdouble
    """
    Gradient alignment (eq. 10).
    """
    term_gradient::Cdouble
    """
    Loss decrease (eq. 11).
    """
    term_loss_decrease::Cdouble
    """
    Generalization gap (eq. 12).
    """
    term_gen_gap::Cdouble
    """
    The objective, regularization included.
    """
    loss_meta::Cdouble
    """
    Number of the host's evaluations.
    """
    evaluations::UInt32
    """
    Number of modulation groups whose gradient norm on B2 is below 1e-5 of the largest.
    """
    idle_groups::UInt32
    """
    `MAW_OUTCOME_…`.
    """
    outcome::Int32
    """
    0.
    """
    reserved::UInt32
end

"""
The optimizer's own counts, so that a run can move here from another optimizer: what `maw_tensor_state_get` and
`maw_tensor_state_set` do not say. `maw_counters_init` sets `struct_size` and the counts of a run that has not begun.

- `struct_size`: `sizeof(maw_counters)` of the caller; set by `maw_counters_init`.
- `step`: Applied steps: at least those of every tensor, at most 2^53 - 1.
- `meta_updates`: Meta-updates that changed the attention module; at most 2^53 - 1.
- `meta_done_at`: The step at which the last meta-update was done or abandoned, at most `step`; `MAW_NO_STEP` if there was none.
- `skipped_gradient`: Steps skipped because a gradient, or the moment that it would make, was not finite; at most 2^53 - 1, as the
  following.
- `skipped_parameter`: Steps skipped because a parameter was not finite.
- `skipped_moment`: Steps skipped because a moment was not finite.
- `skipped_feature`: Steps skipped because a feature was not finite.
- `skipped_factor`: Steps skipped because a factor was not finite.
"""
struct maw_counters
    """
    `sizeof(maw_counters)` of the caller; set by `maw_counters_init`.
    """
    struct_size::Csize_t
    """
    Applied steps: at least those of every tensor, at most 2^53 - 1.
    """
    step::UInt64
    """
    Meta-updates that changed the attention module; at most 2^53 - 1.
    """
    meta_updates::UInt64
    """
    The step at which the last meta-update was done or abandoned, at most `step`; `MAW_NO_STEP` if there was none.
    """
    meta_done_at::UInt64
    """
    Steps skipped because a gradient, or the moment that it would make, was not finite; at most 2^53 - 1, as the
    following.
    """
    skipped_gradient::UInt64
    """
    Steps skipped because a parameter was not finite.
    """
    skipped_parameter::UInt64
    """
    Steps skipped because a moment was not finite.
    """
    skipped_moment::UInt64
    """
    Steps skipped because a feature was not finite.
    """
    skipped_feature::UInt64
    """
    Steps skipped because a factor was not finite.
    """
    skipped_factor::UInt64
end

"""
Receives the messages of a handle, on the thread of the call that caused them and during that call.

`message` is NUL-terminated UTF-8, valid during the callback only. The callback must not unwind (no C++ exception,
no longjmp). Calls on the same handle from inside the callback return `MAW_BUSY`.

    typedef void (*maw_log_callback)(int32_t level, const char *message, void *user_data);

    @cfunction(f, Cvoid, (Int32, Cstring, Ptr{Cvoid}))
"""
const maw_log_callback = Ptr{Cvoid}

"""
Sums `count` doubles over all processes in place, as `MPI_Allreduce(MPI_IN_PLACE, values, count, MPI_DOUBLE, MPI_SUM,
comm)` does: afterwards each process has the same numbers. 0 is success, anything else a failure, which the call that
it happens in reports.

With `MAW_CUDA` `values` is an address in device memory, and the callback enqueues the sum on the optimizer's stream
(`maw_set_stream`), as `ncclAllReduce(values, values, count, ncclDouble, ncclSum, comm, stream)` does. That stream may be
under capture in a step. A host that sums on the CPU copies the numbers out and back, and waits for both.

Called on the thread of the call that needs the sums and during that call, as often on each process, with the same
`count`. The order of the additions does not matter, for none rounds: of each number at most one process has another value
than 0, or all have whole numbers, which count processes and compare what they must have in common. The callback must not
unwind. Calls on the same handle from inside it return `MAW_BUSY`.

    typedef int32_t (*maw_reduction_callback)(double *values, size_t count, void *user_data);

    @cfunction(f, Int32, (Ptr{Cdouble}, Csize_t, Ptr{Cvoid}))
"""
const maw_reduction_callback = Ptr{Cvoid}

const POINTER_maw_version = Ref{Ptr{Cvoid}}(C_NULL)
"""
The version of the loaded library, "0.1.0". Static, never NULL. Any thread.

    const char *maw_version(void);
"""
maw_version() =
    ccall(POINTER_maw_version[], Cstring,
          ())

const POINTER_maw_abi_version = Ref{Ptr{Cvoid}}(C_NULL)
"""
The `MAW_ABI_VERSION` of the loaded library, to be compared with the header's. Any thread.

    uint32_t maw_abi_version(void);
"""
maw_abi_version() =
    ccall(POINTER_maw_abi_version[], UInt32,
          ())

const POINTER_maw_status_name = Ref{Ptr{Cvoid}}(C_NULL)
"""
The name of a status, for example "MAW_BUSY", or "unknown status". Static, never NULL. Any thread.

    const char *maw_status_name(maw_status status);
"""
maw_status_name(status) =
    ccall(POINTER_maw_status_name[], Cstring,
          (maw_status,),
          status)

const POINTER_maw_options_init = Ref{Ptr{Cvoid}}(C_NULL)
"""
Sets the defaults of options. `size`: the caller's `sizeof(maw_options)`.

`MAW_OK`; `MAW_INVALID_ARGUMENT` for NULL or a size below version 1's: nothing is written. Any thread.

    maw_status maw_options_init(maw_options *options, size_t size);
"""
maw_options_init(options, size) =
    ccall(POINTER_maw_options_init[], maw_status,
          (Ptr{maw_options}, Csize_t),
          options, size)

const POINTER_maw_options_preset = Ref{Ptr{Cvoid}}(C_NULL)
"""
Sets options that belong together: the defaults, but for what the preset changes. As `maw_options_init`.

`preset`: `MAW_PRESET_HORIZON`.
`MAW_OK`; `MAW_INVALID_ARGUMENT` also for another preset: nothing is written. Any thread.

    maw_status maw_options_preset(maw_options *options, size_t size, int32_t preset);
"""
maw_options_preset(options, size, preset) =
    ccall(POINTER_maw_options_preset[], maw_status,
          (Ptr{maw_options}, Csize_t, Int32),
          options, size, preset)

const POINTER_maw_param_group_init = Ref{Ptr{Cvoid}}(C_NULL)
"""
Sets the defaults of a param group. As `maw_options_init`.

    maw_status maw_param_group_init(maw_param_group *group, size_t size);
"""
maw_param_group_init(group, size) =
    ccall(POINTER_maw_param_group_init[], maw_status,
          (Ptr{maw_param_group}, Csize_t),
          group, size)

const POINTER_maw_tensor_init = Ref{Ptr{Cvoid}}(C_NULL)
"""
Sets the defaults of a tensor's description. As `maw_options_init`.

    maw_status maw_tensor_init(maw_tensor *tensor, size_t size);
"""
maw_tensor_init(tensor, size) =
    ccall(POINTER_maw_tensor_init[], maw_status,
          (Ptr{maw_tensor}, Csize_t),
          tensor, size)

const POINTER_maw_step_options_init = Ref{Ptr{Cvoid}}(C_NULL)
"""
Sets the defaults of a step's options. As `maw_options_init`.

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
Sets the defaults of an answer. As `maw_options_init`.

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

const POINTER_maw_counters_init = Ref{Ptr{Cvoid}}(C_NULL)
"""
Fills the counts of a run that has not begun. As `maw_options_init`.

    maw_status maw_counters_init(maw_counters *counters, size_t size);
"""
maw_counters_init(counters, size) =
    ccall(POINTER_maw_counters_init[], maw_status,
          (Ptr{maw_counters}, Csize_t),
          counters, size)

const POINTER_maw_add_param_group = Ref{Ptr{Cvoid}}(C_NULL)
"""
Registers tensors that share hyper-parameters: a param group.

`tensors`: `count` descriptions, at least one; names and shapes are copied. Later calls take one pointer per
registered tensor, in the order of registration over all groups. `index`: out, the param group's index, from 0; may
be NULL.
Also after preparation, between two steps, for what is unfrozen or added to a model: see `maw_add_tensors`.
`MAW_OK`; `MAW_INVALID_ARGUMENT` names the invalid field and its tensor, or both groups of a duplicate name;
`MAW_UNSUPPORTED` for a field of a newer header, after preparation with shards, and as for `maw_prepare`; `MAW_INVALID_STATE` while a meta-update is
open and, on CUDA, once a step was captured into a graph; `MAW_OUT_OF_MEMORY`; `MAW_CUDA_ERROR`. On failure none of the
tensors is registered.

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

const POINTER_maw_add_tensors = Ref{Ptr{Cvoid}}(C_NULL)
"""
Registers more tensors of a param group.

`group`: its index. `tensors`, `count`: as in `maw_add_param_group`. The new tensors come behind all others, whatever
their group.
After preparation too, between two steps: what is there keeps its moments, masters and step counts, the attention module
its values, the optimizer its counts; new tensors start at step 0. The modulation groups are formed anew from all
tensors, as if they had been registered together: under `MAW_GROUPING_FINE_GRAINED` a deeper layer can move others to
another third of the model. A group keeps its embedding by its name; that of a new one is drawn from the seed and the
name, so that the order in which groups come does not matter. The last step's report and the last meta-gradient are
unknown until the next, and so are features and factors if there are other groups than before; borrowed names become
invalid. Takes time and memory in proportion to the new tensors.
`MAW_OK`; `MAW_NOT_FOUND`. As `maw_add_param_group`.

    maw_status maw_add_tensors(
        maw_optimizer *optimizer,
        uint32_t group,
        const maw_tensor *tensors,
        size_t count,
        maw_error **error);
"""
maw_add_tensors(optimizer, group, tensors, count, error) =
    ccall(POINTER_maw_add_tensors[], maw_status,
          (Ptr{maw_optimizer}, UInt32, Ptr{maw_tensor}, Csize_t, Ptr{Ptr{maw_error}}),
          optimizer, group, tensors, count, error)

const POINTER_maw_remove_tensor = Ref{Ptr{Cvoid}}(C_NULL)
"""
Removes a tensor, and its moments, master and step count with it. Its param group stays, even without tensors.

`tensor`: its index; the tensors behind it move up by one place in the arrays of pointers. After preparation as for
`maw_add_tensors`: all else stays, modulation groups are formed anew, a group without tensors is gone with its
embedding. Memory is given back to the system by pages; on CUDA when all tensors that were registered together are
removed.
`MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_NOT_FOUND`; `MAW_UNSUPPORTED` after preparation with shards; `MAW_INVALID_STATE`
for the last tensor of a prepared optimizer, while a
meta-update is open and, on CUDA, once a step was captured into a graph; `MAW_OUT_OF_MEMORY`; `MAW_CUDA_ERROR`. On failure
nothing is changed.

    maw_status maw_remove_tensor(maw_optimizer *optimizer, size_t tensor, maw_error **error);
"""
maw_remove_tensor(optimizer, tensor, error) =
    ccall(POINTER_maw_remove_tensor[], maw_status,
          (Ptr{maw_optimizer}, Csize_t, Ptr{Ptr{maw_error}}),
          optimizer, tensor, error)

const POINTER_maw_optimizer_create = Ref{Ptr{Cvoid}}(C_NULL)
"""
Creates an optimizer without tensors.

`options`: NULL for the defaults. `optimizer`: out, freed with `maw_optimizer_free`; untouched on failure.
`MAW_OK`; `MAW_INVALID_ARGUMENT` names the invalid field; `MAW_UNSUPPORTED` for a field of a newer header, and
without a suitable CUDA driver or device; `MAW_CUDA_ERROR`. Any thread.

    maw_status maw_optimizer_create(const maw_options *options, maw_optimizer **optimizer, maw_error **error);
"""
maw_optimizer_create(options, optimizer, error) =
    ccall(POINTER_maw_optimizer_create[], maw_status,
          (Ptr{maw_options}, Ptr{Ptr{maw_optimizer}}, Ptr{Ptr{maw_error}}),
          options, optimizer, error)

const POINTER_maw_optimizer_free = Ref{Ptr{Cvoid}}(C_NULL)
"""
Frees an optimizer and everything borrowed from it; does nothing for NULL.

An open meta-update leaves trial values in the host's parameters: call `maw_meta_abort` first. On CUDA this waits
for the stream, which must not be being captured; graphs with a step of this optimizer must not be replayed
afterwards.
`MAW_OK`; `MAW_BUSY` while another call runs: nothing is freed; `MAW_INVALID_ARGUMENT` for a handle that was freed
before, if that can be detected.

    maw_status maw_optimizer_free(maw_optimizer *optimizer);
"""
maw_optimizer_free(optimizer) =
    ccall(POINTER_maw_optimizer_free[], maw_status,
          (Ptr{maw_optimizer},),
          optimizer)

const POINTER_maw_prepare = Ref{Ptr{Cvoid}}(C_NULL)
"""
Prepares the registered tensors: forms the modulation groups, draws the attention module from the seed, allocates all
memory.

Optional, but with `maw_set_reduction`, whose processes call it together: the first call that needs it does the same. A
second call does nothing. Tensors can still be added and removed
(`maw_add_tensors`). Afterwards a step on the CPU with
`threads` = 1 does not allocate. Memory: the two moments in their dtype, masters or remainders if the param group
has them, and less than 1 % more for large models.
`MAW_OK`; `MAW_INVALID_STATE` without tensors or while a meta-update is open; `MAW_INVALID_ARGUMENT` for a
`feature_dim` below the features' length, and where shards and a reduction do not go together; `MAW_UNSUPPORTED` for
names and options that are too long for the header of a checkpoint (100 MB), so that saving cannot fail for that;
`MAW_REDUCTION`; `MAW_OUT_OF_MEMORY`. On failure nothing is changed.

    maw_status maw_prepare(maw_optimizer *optimizer, maw_error **error);
"""
maw_prepare(optimizer, error) =
    ccall(POINTER_maw_prepare[], maw_status,
          (Ptr{maw_optimizer}, Ptr{Ptr{maw_error}}),
          optimizer, error)

const POINTER_maw_step = Ref{Ptr{Cvoid}}(C_NULL)
"""
One step: updates in place every parameter that has a gradient. Prepares the optimizer if needed.

`params`, `grads`: `count` pointers each, one per tensor in registration order, to contiguous elements of the
tensor's `dtype` and `grad_dtype`, aligned to their size. `count`: the number of registered tensors. A NULL
gradient: the tensor is not updated in this step and has gradient 0 in the features. A tensor without elements, or a
shard without, may have NULL. Parameters must not overlap each other or a gradient. Pointers are not stored; they may differ from call
to call.
A moment that would be subnormal becomes 0: subnormal moments never decay to 0 and make a step slow.
On CUDA the pointers are to memory of the handle's device, managed memory included, and the step is enqueued on the
handle's stream; with a report, the call waits for it. Under `MAW_OBJECTIVE_HORIZON` it also waits after each
`meta_interval`-th step, since the attention module learns on the host, and no step can be captured into a CUDA
graph (`MAW_INVALID_STATE`). A pointer is checked only when it is new to its tensor: if its memory was freed in
between, the kernel fails or accesses whatever is there now. A CUDA graph has the pointers of the capture.
`options`: may be NULL. `report`: out, may be NULL; untouched on failure.
`MAW_OK`, also for a skipped step (the report gives the reason); `MAW_NOT_FINITE` instead under
`MAW_NONFINITE_ERROR`; `MAW_INVALID_ARGUMENT` names the pointer; `MAW_INVALID_STATE` while a meta-update is open and
after 2^53 - 1 steps; `MAW_PARAMS_CHANGED` under `verify_params`, and in the first step after a load if a
parameter is not the one that the file has the remainder of (`MAW_PRECISION_REMAINDER`), unless `options` say that it
changed; `MAW_UNSUPPORTED` for a field of a newer header; `MAW_REDUCTION`. On failure nothing is changed, but gradients
that were announced are discarded.

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
The report of the last step. For CUDA, where `maw_step` without a report only enqueues the step; on the CPU it is the
report of the last call. `step` + `skipped_steps` is the number of the step that the report is of.

`flags`: 0 = the newest step for which the device has decided whether to apply it, without waiting; `MAW_FETCH_WAIT`
= the last step enqueued, or replayed in a CUDA graph, on the handle's stream; it waits for this stream only.
`report`: out; untouched on failure.
`MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_INVALID_STATE` if there is no such step, and with `MAW_FETCH_WAIT` while the
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
Computes the norms of a gradient as soon as the backward pass has it, while it is still in the cache; the next step
then need not read it twice. Optional; the result has the same bits with and without. Prepares the optimizer if
needed.

`tensor`: its index in registration order. `gradient`: as in `maw_step`, not NULL; its values must be the same when
it is passed to the step. The pointer is not stored. A second call for a tensor replaces the first. A step, also one
that fails, setters, loading and saving, meta-updates and reading a tensor's state or masters discard it.
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

const POINTER_maw_reset = Ref{Ptr{Cvoid}}(C_NULL)
"""
Resets the optimizer.

`what`: `MAW_RESET_MOMENTS` (moments and all step counts to 0), `MAW_RESET_ATTENTION` (the attention module to its
initial values), or both.
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
Sets the CUDA stream on which all later calls of this handle enqueue their work, setters included.

`stream`: a `CUstream` or `cudaStream_t`, owned by the host, which must not destroy it while it is set; NULL (the
default) is the legacy default stream. On the CPU it must be NULL. The call waits for this handle's work on the
previous stream. Setters, getters and `MAW_FETCH_WAIT` are ordered after the work on this stream only: replay graphs
with steps of this handle on it, or order the streams by events.
`MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_UNSUPPORTED` for a stream on the CPU; `MAW_INVALID_STATE` while this handle has
work in a capture of the previous stream; `MAW_CUDA_ERROR` if it is not a stream.

    maw_status maw_set_stream(maw_optimizer *optimizer, void *stream, maw_error **error);
"""
maw_set_stream(optimizer, stream, error) =
    ccall(POINTER_maw_set_stream[], maw_status,
          (Ptr{maw_optimizer}, Ptr{Cvoid}, Ptr{Ptr{maw_error}}),
          optimizer, stream, error)

const POINTER_maw_set_log = Ref{Ptr{Cvoid}}(C_NULL)
"""
Sets the callback that receives this handle's messages: skipped steps, changes of parameters that a step overwrote,
abandoned meta-updates, options that are probably unintended, layers without a number.

`callback`: see `maw_log_callback`; NULL turns messages off (the default). `user_data`: passed to the callback; it must
stay valid, and usable from any thread that calls, until another callback is set or the handle is freed.
`MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_INVALID_STATE` while a meta-update is open.

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

const POINTER_maw_set_reduction = Ref{Ptr{Cvoid}}(C_NULL)
"""
Makes this process one of several that share a model, each with a part of every tensor (`maw_tensor.sharded`): ZeRO-1,
FSDP. Before preparation; chapter "Several processes".

`callback`: see `maw_reduction_callback`; NULL: this process is alone (the default). `user_data`: passed to the callback;
both must stay valid until the handle is freed or another callback is set.
Every process registers the same tensors in the same order, all with `sharded` = 1, under the same options (`threads` may
differ), calls `maw_prepare`, which finds out whether the parts make up the whole, and then makes the same steps and
meta-updates with the same losses, learning rates and scales; gradients are those of the parts. The parameters, factors and
attention module then have the bits of a single process that has all. A process that has none of a tensor's
elements passes NULL for its gradient, or any pointer; it follows those that have some. (Of a tensor that has none at all,
all pass the same.)
The callback is called twice by `maw_prepare`; once a step, twice if `MAW_OBJECTIVE_HORIZON` or `MAW_REFERENCE` needs it,
and on CUDA in the first step after a file with `MAW_PRECISION_REMAINDER` was loaded;
once by `maw_meta_begin`; a few times by `maw_meta_tell`; four times by `maw_save_file`; once by `maw_load_file`. The buffer
has 8 doubles per 32,768 elements of the whole model (on CUDA per 4,096 if the model is small), 1 per tensor and 44. Where a
call fails on one process because of its arguments, it fails on all others with `MAW_REDUCTION`, so that none waits for it;
not so a call with an unusable or busy handle.
Setters are called on all processes, those of a tensor's state also where a process has nothing of it. A callback that
fails must fail on all: where some got their sums, they have made the step.
Not with shards: `verify_params`, `maw_save_bytes` of a run, tensors that come or go after preparation. Under
`MAW_NONFINITE_PROPAGATE` no pass is saved, and the report has the gradients' norm. On CUDA a step under
`MAW_OBJECTIVE_HORIZON` or `MAW_REFERENCE` waits for the device: it cannot be captured, and takes no `device_grad_scale` or
`found_inf`.
`MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_INVALID_STATE` after preparation.

    maw_status maw_set_reduction(
        maw_optimizer *optimizer,
        maw_reduction_callback callback,
        void *user_data,
        maw_error **error);
"""
maw_set_reduction(optimizer, callback, user_data, error) =
    ccall(POINTER_maw_set_reduction[], maw_status,
          (Ptr{maw_optimizer}, maw_reduction_callback, Ptr{Cvoid}, Ptr{Ptr{maw_error}}),
          optimizer, callback, user_data, error)

const POINTER_maw_set_lr = Ref{Ptr{Cvoid}}(C_NULL)
"""
Sets the learning rate of one param group, or of all with `MAW_ALL_GROUPS`, from the next step on.

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
Sets the weight decay of one param group, or of all with `MAW_ALL_GROUPS`. As `maw_set_lr`.

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

const POINTER_maw_set_betas = Ref{Ptr{Cvoid}}(C_NULL)
"""
Sets the decay rates of both moments of one param group, or of all with `MAW_ALL_GROUPS`, from the next step on.

`beta1`, `beta2`: 0 ≤ value < 1. The bias correction is computed with the new values and the tensor's step count, as in
PyTorch. As `maw_set_lr`.

    maw_status maw_set_betas(
        maw_optimizer *optimizer,
        uint32_t group,
        double beta1,
        double beta2,
        maw_error **error);
"""
maw_set_betas(optimizer, group, beta1, beta2, error) =
    ccall(POINTER_maw_set_betas[], maw_status,
          (Ptr{maw_optimizer}, UInt32, Cdouble, Cdouble, Ptr{Ptr{maw_error}}),
          optimizer, group, beta1, beta2, error)

const POINTER_maw_set_eps = Ref{Ptr{Cvoid}}(C_NULL)
"""
Sets what is added to the square root of the second moment, of one param group or of all with `MAW_ALL_GROUPS`.

`eps`: finite and at least the smallest normal number that the group's tensors are computed in. As `maw_set_lr`.

    maw_status maw_set_eps(maw_optimizer *optimizer, uint32_t group, double eps, maw_error **error);
"""
maw_set_eps(optimizer, group, eps, error) =
    ccall(POINTER_maw_set_eps[], maw_status,
          (Ptr{maw_optimizer}, UInt32, Cdouble, Ptr{Ptr{maw_error}}),
          optimizer, group, eps, error)

const POINTER_maw_set_max_grad_norm = Ref{Ptr{Cvoid}}(C_NULL)
"""
Sets the norm to which all gradients together are clipped, from the next step or meta-update on; 0: no clipping.

`max_grad_norm`: finite, ≥ 0.
`MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_INVALID_STATE` while a meta-update is open and, on CUDA, if a step was captured
into a graph that has no pass for clipping; `MAW_CUDA_ERROR`.

    maw_status maw_set_max_grad_norm(maw_optimizer *optimizer, double max_grad_norm, maw_error **error);
"""
maw_set_max_grad_norm(optimizer, max_grad_norm, error) =
    ccall(POINTER_maw_set_max_grad_norm[], maw_status,
          (Ptr{maw_optimizer}, Cdouble, Ptr{Ptr{maw_error}}),
          optimizer, max_grad_norm, error)

const POINTER_maw_set_priorities = Ref{Ptr{Cvoid}}(C_NULL)
"""
Sets HUW's three priorities, of gradient alignment, loss decrease and generalization gap, from the next meta-update on.

`priorities`: three numbers, each finite and ≥ 0; copied.
`MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_INVALID_STATE` while a meta-update is open.

    maw_status maw_set_priorities(maw_optimizer *optimizer, const double *priorities, maw_error **error);
"""
maw_set_priorities(optimizer, priorities, error) =
    ccall(POINTER_maw_set_priorities[], maw_status,
          (Ptr{maw_optimizer}, Ptr{Cdouble}, Ptr{Ptr{maw_error}}),
          optimizer, priorities, error)

const POINTER_maw_get_lr = Ref{Ptr{Cvoid}}(C_NULL)
"""
The current learning rate of a param group.

`lr`: out.
`MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_NOT_FOUND`.

    maw_status maw_get_lr(const maw_optimizer *optimizer, uint32_t group, double *lr, maw_error **error);
"""
maw_get_lr(optimizer, group, lr, error) =
    ccall(POINTER_maw_get_lr[], maw_status,
          (Ptr{maw_optimizer}, UInt32, Ptr{Cdouble}, Ptr{Ptr{maw_error}}),
          optimizer, group, lr, error)

const POINTER_maw_get_weight_decay = Ref{Ptr{Cvoid}}(C_NULL)
"""
The current weight decay of a param group.

`weight_decay`: out.
`MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_NOT_FOUND`.

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

const POINTER_maw_get_betas = Ref{Ptr{Cvoid}}(C_NULL)
"""
The current decay rates of a param group's moments.

`beta1`, `beta2`: out.
`MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_NOT_FOUND`.

    maw_status maw_get_betas(
        const maw_optimizer *optimizer,
        uint32_t group,
        double *beta1,
        double *beta2,
        maw_error **error);
"""
maw_get_betas(optimizer, group, beta1, beta2, error) =
    ccall(POINTER_maw_get_betas[], maw_status,
          (Ptr{maw_optimizer}, UInt32, Ptr{Cdouble}, Ptr{Cdouble}, Ptr{Ptr{maw_error}}),
          optimizer, group, beta1, beta2, error)

const POINTER_maw_get_eps = Ref{Ptr{Cvoid}}(C_NULL)
"""
The current eps of a param group.

`eps`: out.
`MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_NOT_FOUND`.

    maw_status maw_get_eps(const maw_optimizer *optimizer, uint32_t group, double *eps, maw_error **error);
"""
maw_get_eps(optimizer, group, eps, error) =
    ccall(POINTER_maw_get_eps[], maw_status,
          (Ptr{maw_optimizer}, UInt32, Ptr{Cdouble}, Ptr{Ptr{maw_error}}),
          optimizer, group, eps, error)

const POINTER_maw_get_max_grad_norm = Ref{Ptr{Cvoid}}(C_NULL)
"""
The norm to which all gradients together are clipped; 0: no clipping.

`max_grad_norm`: out.
`MAW_OK`; `MAW_INVALID_ARGUMENT`.

    maw_status maw_get_max_grad_norm(const maw_optimizer *optimizer, double *max_grad_norm, maw_error **error);
"""
maw_get_max_grad_norm(optimizer, max_grad_norm, error) =
    ccall(POINTER_maw_get_max_grad_norm[], maw_status,
          (Ptr{maw_optimizer}, Ptr{Cdouble}, Ptr{Ptr{maw_error}}),
          optimizer, max_grad_norm, error)

const POINTER_maw_get_priorities = Ref{Ptr{Cvoid}}(C_NULL)
"""
HUW's current priorities of gradient alignment, loss decrease and generalization gap.

`priorities`: out, three doubles.
`MAW_OK`; `MAW_INVALID_ARGUMENT`.

    maw_status maw_get_priorities(const maw_optimizer *optimizer, double *priorities, maw_error **error);
"""
maw_get_priorities(optimizer, priorities, error) =
    ccall(POINTER_maw_get_priorities[], maw_status,
          (Ptr{maw_optimizer}, Ptr{Cdouble}, Ptr{Ptr{maw_error}}),
          optimizer, priorities, error)

const POINTER_maw_meta_due = Ref{Ptr{Cvoid}}(C_NULL)
"""
1 if a meta-update is due, else 0 (also for NULL and for a busy or poisoned handle).

Due: the number of applied steps is ≥ `meta_warmup` and a multiple of `meta_interval`, not 0, and no meta-update has
ended at this number; never under `MAW_OBJECTIVE_HORIZON`. On CUDA it waits for the enqueued steps if one could be due
after them. What it then finds to have failed it cannot tell: it returns 0, and the next call that waits tells it.

    uint32_t maw_meta_due(const maw_optimizer *optimizer);
"""
maw_meta_due(optimizer) =
    ccall(POINTER_maw_meta_due[], UInt32,
          (Ptr{maw_optimizer},),
          optimizer)

const POINTER_maw_meta_begin = Ref{Ptr{Cvoid}}(C_NULL)
"""
Begins a meta-update, due or not, and returns the first request. Prepares the optimizer if needed.

`params`: as in `maw_step`; copied now, and overwritten until the meta-update ends. `request`: out; see
`maw_meta_request` for the loop.
Memory during a meta-update: a copy of the parameters and up to two copies of the gradients. The next meta-update
uses it again; until then the system may reclaim it (on Linux by `MADV_FREE`: the pages count as resident until
reclaimed).
`MAW_OK`, also if the state is not finite: the request is then `MAW_META_DONE`; `MAW_INVALID_ARGUMENT`;
`MAW_INVALID_STATE` if one is open, modulation is off or the module learns from steps (`MAW_OBJECTIVE_HORIZON`); `MAW_PARAMS_CHANGED` under `verify_params`, and after a load as
for `maw_step`; `MAW_REDUCTION`; `MAW_OUT_OF_MEMORY`. On failure no meta-update is open.

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
Answers the open request and returns the next one.

`answer`: the request's id, the loss, and the loss scale of the gradients. `params`: as in `maw_step`; written, not
read. `grads`: as in `maw_step`; may be NULL if the request was for the loss only. `request`: out.
If a loss, gradient or direction is not finite, the meta-update is abandoned: the parameters are restored, the
attention module is unchanged, the request is `MAW_META_DONE`, and the result gives the reason.
`MAW_OK`; `MAW_INVALID_ARGUMENT` for a wrong or repeated id and for invalid pointers: the request stays open and
nothing is written; `MAW_UNSUPPORTED` for a field of a newer header; `MAW_INVALID_STATE` if none is open;
`MAW_REDUCTION`: if the processes' answers differ or one was refused, the request stays open, as after any other failure;
if sums are missing, the meta-update is aborted (`MAW_OUTCOME_ABORTED`) and the parameters are restored.

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
Aborts the open meta-update: the parameters are restored bit for bit, the attention module is unchanged.

With shards it is each process's own. Where one cannot evaluate, it passes NULL for `answer` to `maw_meta_tell`, so that the
others hear of it, and then all abort.

`params`: as in `maw_step`.
`MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_INVALID_STATE` if none is open.

    maw_status maw_meta_abort(maw_optimizer *optimizer, void *const *params, size_t count, maw_error **error);
"""
maw_meta_abort(optimizer, params, count, error) =
    ccall(POINTER_maw_meta_abort[], maw_status,
          (Ptr{maw_optimizer}, Ptr{Ptr{Cvoid}}, Csize_t, Ptr{Ptr{maw_error}}),
          optimizer, params, count, error)

const POINTER_maw_meta_result_get = Ref{Ptr{Cvoid}}(C_NULL)
"""
The result of the last meta-update; its outcome is `MAW_OUTCOME_NONE` before the first.

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
The gradient of the meta-objective, regularization included, in the last meta-update with `MAW_OUTCOME_UPDATED`.

`name`: a tensor of the attention module, or "alpha", "beta", "lambda1", "lambda2" (one value per modulation group).
`values`: out, `count` doubles, row-major; `count` = the size of that tensor.
`MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_NOT_FOUND`; `MAW_INVALID_STATE` before the first such meta-update.

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

const POINTER_maw_step_count = Ref{Ptr{Cvoid}}(C_NULL)
"""
The number of applied steps; skipped steps do not count.

`steps`: out.
`MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_INVALID_STATE` while the stream is being captured.

    maw_status maw_step_count(const maw_optimizer *optimizer, uint64_t *steps, maw_error **error);
"""
maw_step_count(optimizer, steps, error) =
    ccall(POINTER_maw_step_count[], maw_status,
          (Ptr{maw_optimizer}, Ptr{UInt64}, Ptr{Ptr{maw_error}}),
          optimizer, steps, error)

const POINTER_maw_param_group_count = Ref{Ptr{Cvoid}}(C_NULL)
"""
The number of registered param groups.

`count`: out.
`MAW_OK`; `MAW_INVALID_ARGUMENT`.

    maw_status maw_param_group_count(const maw_optimizer *optimizer, size_t *count, maw_error **error);
"""
maw_param_group_count(optimizer, count, error) =
    ccall(POINTER_maw_param_group_count[], maw_status,
          (Ptr{maw_optimizer}, Ptr{Csize_t}, Ptr{Ptr{maw_error}}),
          optimizer, count, error)

const POINTER_maw_tensor_count = Ref{Ptr{Cvoid}}(C_NULL)
"""
The number of registered tensors.

`count`: out.
`MAW_OK`; `MAW_INVALID_ARGUMENT`.

    maw_status maw_tensor_count(const maw_optimizer *optimizer, size_t *count, maw_error **error);
"""
maw_tensor_count(optimizer, count, error) =
    ccall(POINTER_maw_tensor_count[], maw_status,
          (Ptr{maw_optimizer}, Ptr{Csize_t}, Ptr{Ptr{maw_error}}),
          optimizer, count, error)

const POINTER_maw_tensor_name = Ref{Ptr{Cvoid}}(C_NULL)
"""
The name of a tensor.

`tensor`: its index in registration order. `name`: out, borrowed: valid until the optimizer is freed, or tensors are added
or removed.
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

`tensor`: its index in registration order. `group`: out, the modulation group's index.
`MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_NOT_FOUND`; `MAW_INVALID_STATE` before preparation.

    maw_status maw_tensor_group(const maw_optimizer *optimizer, size_t tensor, size_t *group, maw_error **error);
"""
maw_tensor_group(optimizer, tensor, group, error) =
    ccall(POINTER_maw_tensor_group[], maw_status,
          (Ptr{maw_optimizer}, Csize_t, Ptr{Csize_t}, Ptr{Ptr{maw_error}}),
          optimizer, tensor, group, error)

const POINTER_maw_group_count = Ref{Ptr{Cvoid}}(C_NULL)
"""
The number of modulation groups, which are the tokens of the attention module.

`count`: out.
`MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_INVALID_STATE` before preparation.

    maw_status maw_group_count(const maw_optimizer *optimizer, size_t *count, maw_error **error);
"""
maw_group_count(optimizer, count, error) =
    ccall(POINTER_maw_group_count[], maw_status,
          (Ptr{maw_optimizer}, Ptr{Csize_t}, Ptr{Ptr{maw_error}}),
          optimizer, count, error)

const POINTER_maw_group_name = Ref{Ptr{Cvoid}}(C_NULL)
"""
The name of a modulation group: "attention.shallow.weight" (layer kind, depth, bias or weight), "param_group.0", or the
host's name for it.

`group`: its index. `name`: out, borrowed: valid until the optimizer is freed, or tensors are added or removed.
`MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_NOT_FOUND`; `MAW_INVALID_STATE` before preparation.

    maw_status maw_group_name(const maw_optimizer *optimizer, size_t group, const char **name, maw_error **error);
"""
maw_group_name(optimizer, group, name, error) =
    ccall(POINTER_maw_group_name[], maw_status,
          (Ptr{maw_optimizer}, Csize_t, Ptr{Cstring}, Ptr{Ptr{maw_error}}),
          optimizer, group, name, error)

const POINTER_maw_factors = Ref{Ptr{Cvoid}}(C_NULL)
"""
The factors of the modulation groups, from the last applied step or meta-update, whichever was later. All are 1 with
modulation off.

`alpha` (multiplies the learning rate), `beta` (multiplies the weight decay), `lambda1`, `lambda2` (eq. 10): out,
`count` doubles each; any may be NULL. `count`: the number of modulation groups.
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
The width D of a token of the attention module: the number of columns of `maw_features`.

`dim`: out.
`MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_INVALID_STATE` before preparation or with modulation off.

    maw_status maw_feature_dim(const maw_optimizer *optimizer, size_t *dim, maw_error **error);
"""
maw_feature_dim(optimizer, dim, error) =
    ccall(POINTER_maw_feature_dim[], maw_status,
          (Ptr{maw_optimizer}, Ptr{Csize_t}, Ptr{Ptr{maw_error}}),
          optimizer, dim, error)

const POINTER_maw_features = Ref{Ptr{Cvoid}}(C_NULL)
"""
The input features of the attention module, before standardization and gating, from the last applied step or
meta-update, whichever was later.

`features`: out, `count` doubles, row-major: one row per modulation group, `maw_feature_dim` columns. `count`: their
product.
`MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_INVALID_STATE` before the first step or with modulation off.

    maw_status maw_features(const maw_optimizer *optimizer, double *features, size_t count, maw_error **error);
"""
maw_features(optimizer, features, count, error) =
    ccall(POINTER_maw_features[], maw_status,
          (Ptr{maw_optimizer}, Ptr{Cdouble}, Csize_t, Ptr{Ptr{maw_error}}),
          optimizer, features, count, error)

const POINTER_maw_attention_count = Ref{Ptr{Cvoid}}(C_NULL)
"""
The number of the attention module's tensors; 0 with modulation off.

`count`: out.
`MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_INVALID_STATE` before preparation.

    maw_status maw_attention_count(const maw_optimizer *optimizer, size_t *count, maw_error **error);
"""
maw_attention_count(optimizer, count, error) =
    ccall(POINTER_maw_attention_count[], maw_status,
          (Ptr{maw_optimizer}, Ptr{Csize_t}, Ptr{Ptr{maw_error}}),
          optimizer, count, error)

const POINTER_maw_attention_name = Ref{Ptr{Cvoid}}(C_NULL)
"""
The name of a tensor of the attention module, as in PyTorch's TransformerEncoder:
"encoder.layers.0.self_attn.in_proj_weight" …, then "output_proj.weight", "output_proj.bias", and if used
"group_embeddings", "feature_gates", "log_vars".

`index`: below `maw_attention_count`. `name`: out, borrowed: valid until the optimizer is freed.
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

`index`: below `maw_attention_count`. `rows`, `columns`: out; a vector has one column.
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

`name`: as from `maw_attention_name`. `values`: out, `count` doubles, row-major; `count` = rows × columns.
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
Sets a tensor of the attention module, from the next step on.

`name`: as from `maw_attention_name`. `values`: `count` finite doubles, row-major, copied; `count` = rows × columns.
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
A pointer to the bytes, borrowed: valid until the object is freed. A NUL follows the last byte. NULL for NULL.

    const uint8_t *maw_bytes_data(const maw_bytes *bytes);
"""
maw_bytes_data(bytes) =
    ccall(POINTER_maw_bytes_data[], Ptr{UInt8},
          (Ptr{maw_bytes},),
          bytes)

const POINTER_maw_bytes_size = Ref{Ptr{Cvoid}}(C_NULL)
"""
The number of bytes, the NUL not included; 0 for NULL.

    size_t maw_bytes_size(const maw_bytes *bytes);
"""
maw_bytes_size(bytes) =
    ccall(POINTER_maw_bytes_size[], Csize_t,
          (Ptr{maw_bytes},),
          bytes)

const POINTER_maw_bytes_free = Ref{Ptr{Cvoid}}(C_NULL)
"""
Frees bytes; does nothing for NULL. Any thread.

    void maw_bytes_free(maw_bytes *bytes);
"""
maw_bytes_free(bytes) =
    ccall(POINTER_maw_bytes_free[], Cvoid,
          (Ptr{maw_bytes},),
          bytes)

const POINTER_maw_save_file = Ref{Ptr{Cvoid}}(C_NULL)
"""
Saves the run to a safetensors file: moments, masters, step counts, attention module, options, current
hyper-parameters, counters. Parameters are not saved; that is up to the host. Prepares the optimizer if needed.

`path`: NUL-terminated; its folder must exist. `flags`: 0, or `MAW_ATTENTION_ONLY` to save only the attention module.
Atomic and durable: the data is written to a temporary file in the same folder, synced, and renamed over the old
file; then the folder is synced. On failure the old file is unchanged, or the new one is complete. A symbolic link is
followed, also to a file that does not exist yet; permissions, and where that is allowed the owner, are preserved. A
folder that cannot be read or synced is no failure. A process that is killed may leave `.metaadamw-…` in the folder;
the next save to that path removes it. Format: docs/checkpoint_format.md.
With shards (`maw_set_reduction`) all processes call it for a file that all see under this path: each writes the part that
it has, and the file has the bytes that one process with the whole model would write. If one fails or is killed, the file
is the old one. With `MAW_ATTENTION_ONLY`, which is the same on all, one process saves alone.
`MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_IO` names the operation that failed; `MAW_REDUCTION`; `MAW_INVALID_STATE` while a
meta-update is open.

    maw_status maw_save_file(maw_optimizer *optimizer, const char *path, uint32_t flags, maw_error **error);
"""
maw_save_file(optimizer, path, flags, error) =
    ccall(POINTER_maw_save_file[], maw_status,
          (Ptr{maw_optimizer}, Cstring, UInt32, Ptr{Ptr{maw_error}}),
          optimizer, path, flags, error)

const POINTER_maw_save_bytes = Ref{Ptr{Cvoid}}(C_NULL)
"""
As `maw_save_file`, to memory.

`bytes`: out, freed with `maw_bytes_free`; untouched on failure.
`MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_UNSUPPORTED` for the run of shards, of which no process has the whole;
`MAW_INVALID_STATE` while a meta-update is open; `MAW_OUT_OF_MEMORY`.

    maw_status maw_save_bytes(maw_optimizer *optimizer, uint32_t flags, maw_bytes **bytes, maw_error **error);
"""
maw_save_bytes(optimizer, flags, bytes, error) =
    ccall(POINTER_maw_save_bytes[], maw_status,
          (Ptr{maw_optimizer}, UInt32, Ptr{Ptr{maw_bytes}}, Ptr{Ptr{maw_error}}),
          optimizer, flags, bytes, error)

const POINTER_maw_load_file = Ref{Ptr{Cvoid}}(C_NULL)
"""
Loads a saved run, whichever language saved it, into an optimizer with the same tensors, registered in any order. If
the order is the same, training continues with the same bits as without the interruption. Prepares the optimizer if
needed.

`path`: NUL-terminated. `flags`: 0 or a combination of the flags below. Names, shapes, dtypes, param groups,
modulation groups and options must be equal. With 0, options that have a setter (those of param groups,
clipping, priorities: a schedule may have changed them) are taken from the file, and the log lists those that differed.
- `MAW_LOAD_FILE_WINS` or `MAW_LOAD_OWN_WINS`: options that affect only later steps may differ (hyper-parameters of
  param groups, clipping, ranges, intervals, weights and priorities of the meta-objective …). The file's, or the
  optimizer's own, are used afterwards.
- `MAW_LOAD_STRICT`: all options must be equal. At most one of these three.
- `MAW_ATTENTION_ONLY`: only the attention module is loaded, from either kind of file. What it reads must be equal:
  feature columns, heads, the shapes of its tensors; with embeddings the groups.
- `MAW_LOAD_PARTIAL`: for a model that has gained or lost tensors. Those of one name must have the same shape, dtype,
  moments and precision. Tensors that the file does not have start at step 0, and the optimizer's counts are the file's.
  Embeddings go by the names of modulation groups; those that the file does not have are drawn from the seed and the
  name, as in `maw_add_tensors`. Where the file has another number of param groups, the optimizer's hyper-parameters of
  param groups stay. If the modulation groups are not the same, factors are unknown until the next step.

Under `MAW_PRECISION_REMAINDER` the host's parameters must be those of the file's step: the next step or meta-update
compares them, and returns `MAW_PARAMS_CHANGED` if they are not. `device`, `device_index`, `threads` and `verify_params`
are not saved. With shards all processes load the same file together, whichever number of processes, or one with the whole
model, saved it; each reads all of it and takes its part. The file must not change during the call. The
whole file is checked before anything is changed; only if reading it the second time fails is the optimizer reset.
`MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_IO`; `MAW_CORRUPT` for a damaged file (a checksum covers all of it) or another
kind of file; `MAW_UNSUPPORTED` for another format version; `MAW_MISMATCH` lists the first differences and the flag or call
that resolves them; `MAW_REDUCTION`; `MAW_INVALID_STATE` while a meta-update is open, and under `MAW_LOAD_FILE_WINS` if a step
was captured into a CUDA graph whose replays could not follow the file's options: clipping or checks where the
capture had none, or `MAW_NONFINITE_ERROR`.

    maw_status maw_load_file(maw_optimizer *optimizer, const char *path, uint32_t flags, maw_error **error);
"""
maw_load_file(optimizer, path, flags, error) =
    ccall(POINTER_maw_load_file[], maw_status,
          (Ptr{maw_optimizer}, Cstring, UInt32, Ptr{Ptr{maw_error}}),
          optimizer, path, flags, error)

const POINTER_maw_load_bytes = Ref{Ptr{Cvoid}}(C_NULL)
"""
As `maw_load_file`, from memory.

`data`: `size` bytes, used during the call only.

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

const POINTER_maw_load_report_count = Ref{Ptr{Cvoid}}(C_NULL)
"""
The number of names that only the file or only the optimizer had in the last load with `MAW_LOAD_PARTIAL`; 0 after
another load, and before one.

`which`: `MAW_LOAD_MISSING_TENSORS` …. `count`: out.
`MAW_OK`; `MAW_INVALID_ARGUMENT`.

    maw_status maw_load_report_count(
        const maw_optimizer *optimizer,
        uint32_t which,
        size_t *count,
        maw_error **error);
"""
maw_load_report_count(optimizer, which, count, error) =
    ccall(POINTER_maw_load_report_count[], maw_status,
          (Ptr{maw_optimizer}, UInt32, Ptr{Csize_t}, Ptr{Ptr{maw_error}}),
          optimizer, which, count, error)

const POINTER_maw_load_report_name = Ref{Ptr{Cvoid}}(C_NULL)
"""
One of the names that `maw_load_report_count` counts.

`which`: as there. `index`: from 0, in the order of registration or of the file. `name`: out, borrowed: valid until the
next load, or the optimizer is freed.
`MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_NOT_FOUND`.

    maw_status maw_load_report_name(
        const maw_optimizer *optimizer,
        uint32_t which,
        size_t index,
        const char **name,
        maw_error **error);
"""
maw_load_report_name(optimizer, which, index, name, error) =
    ccall(POINTER_maw_load_report_name[], maw_status,
          (Ptr{maw_optimizer}, UInt32, Csize_t, Ptr{Cstring}, Ptr{Ptr{maw_error}}),
          optimizer, which, index, name, error)

const POINTER_maw_dump_state = Ref{Ptr{Cvoid}}(C_NULL)
"""
The state of the optimizer as JSON, for people, plots and logs: options, param groups, modulation groups with their
tensors, features and factors, meta-updates, uncertainty weights, skipped steps with their reasons, times. The schema
is docs/state.md. Allowed while a meta-update is open. Prepares the optimizer if needed.

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
Copies the moments and the step count of one tensor, to continue its run with another Adam implementation.

`tensor`: its index in registration order. `exp_avg`, `exp_avg_sq`: out, `count` floats, or doubles for a float64
tensor, whatever the moments' own dtype; each may be NULL. `count`: the tensor's number of elements. `step`: out,
the tensor's number of updates so far; may be NULL.
`MAW_OK`; `MAW_NOT_FOUND`; `MAW_INVALID_ARGUMENT`; `MAW_INVALID_STATE` before preparation or while a meta-update is
open; `MAW_CUDA_ERROR`. On failure nothing is written.

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
Sets the moments and the step count of one tensor, to continue a run of another Adam implementation. The optimizer's
own step count becomes at least `step`. Prepares the optimizer if needed.

`tensor`: its index in registration order. `exp_avg`, `exp_avg_sq`: `count` floats, or doubles for a float64 tensor,
finite, `exp_avg_sq` ≥ 0; copied, and rounded to nearest if the moments are bfloat16. `count`: the tensor's number
of elements. `step`: the tensor's number of updates so far, at most 2^53 - 1.
`MAW_OK`; `MAW_NOT_FOUND`; `MAW_INVALID_ARGUMENT` names the value; `MAW_INVALID_STATE` while a meta-update is open.
On failure nothing is changed.

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
Sets the float32 masters of one tensor, to start from float32 weights, and writes them, rounded, to the host's
16-bit parameter. For `MAW_PRECISION_MASTER` and `MAW_PRECISION_REMAINDER`. Prepares the optimizer if needed.

`tensor`: its index in registration order. `values`: `count` finite floats, copied. `count`: the tensor's number of
elements. `param`: out, the host's parameter as in `maw_step`.
`MAW_OK`; `MAW_NOT_FOUND`, also for a tensor without masters; `MAW_INVALID_ARGUMENT` names the value;
`MAW_INVALID_STATE` while a meta-update is open. On failure nothing is changed.

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
Copies the float32 masters of one tensor. For `MAW_PRECISION_MASTER` and `MAW_PRECISION_REMAINDER`.

`tensor`: its index in registration order. `param`: the host's parameter as in `maw_step`; read under
`MAW_PRECISION_REMAINDER`, where it is half of each master, else it may be NULL. `values`: out, `count` floats.
`count`: the tensor's number of elements.
`MAW_OK`; `MAW_NOT_FOUND`, also for a tensor without masters; `MAW_INVALID_ARGUMENT`; `MAW_INVALID_STATE` while a
meta-update is open, and before the masters are initialized, by the first step (from the parameters) or by
`maw_master_set`; `MAW_CUDA_ERROR`. On failure nothing is written.

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

const POINTER_maw_average_get = Ref{Ptr{Cvoid}}(C_NULL)
"""
Copies the average of one tensor's parameter, or of its masters. For `maw_options.horizon` ≥ 2.

`tensor`: its index in registration order. `values`: out, `count` floats, or doubles for a float64 tensor, whatever the
average's own dtype. `count`: the tensor's number of elements.
`MAW_OK`; `MAW_NOT_FOUND`; `MAW_INVALID_ARGUMENT`; `MAW_INVALID_STATE` without averages, before the first step after the
tensor came (its average begins as the parameter), and while a meta-update is open; `MAW_CUDA_ERROR`. On failure nothing
is written.

    maw_status maw_average_get(
        maw_optimizer *optimizer,
        size_t tensor,
        void *values,
        size_t count,
        maw_error **error);
"""
maw_average_get(optimizer, tensor, values, count, error) =
    ccall(POINTER_maw_average_get[], maw_status,
          (Ptr{maw_optimizer}, Csize_t, Ptr{Cvoid}, Csize_t, Ptr{Ptr{maw_error}}),
          optimizer, tensor, values, count, error)

const POINTER_maw_average_swap = Ref{Ptr{Cvoid}}(C_NULL)
"""
Writes the averages into the host's parameters, rounded to nearest, for an evaluation; the next call writes the
parameters back, bit for bit. For `maw_options.horizon` ≥ 2. Prepares the optimizer if needed.

`params`: as in `maw_step`; read by the first call, overwritten by the second, whatever is in them then. The averages
themselves do not change. A tensor that has made no step yet keeps its parameter.
Between the two calls only getters, `maw_average_get` and freeing work; other calls return `MAW_INVALID_STATE`. Freeing
leaves the averages in the host's parameters. Memory: a copy of the parameters, which the library uses again as that of a
meta-update (`maw_meta_begin`).
`MAW_OK`; `MAW_INVALID_ARGUMENT` names the pointer; `MAW_INVALID_STATE` without averages and while a meta-update is open;
`MAW_OUT_OF_MEMORY`. On failure nothing is changed.

    maw_status maw_average_swap(maw_optimizer *optimizer, void *const *params, size_t count, maw_error **error);
"""
maw_average_swap(optimizer, params, count, error) =
    ccall(POINTER_maw_average_swap[], maw_status,
          (Ptr{maw_optimizer}, Ptr{Ptr{Cvoid}}, Csize_t, Ptr{Ptr{maw_error}}),
          optimizer, params, count, error)

const POINTER_maw_counters_get = Ref{Ptr{Cvoid}}(C_NULL)
"""
The optimizer's own counts, of steps, meta-updates and skipped steps.

`counters`: out. Before preparation all are 0.
`MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_INVALID_STATE` while the stream is being captured; `MAW_CUDA_ERROR`.

    maw_status maw_counters_get(const maw_optimizer *optimizer, maw_counters *counters, maw_error **error);
"""
maw_counters_get(optimizer, counters, error) =
    ccall(POINTER_maw_counters_get[], maw_status,
          (Ptr{maw_optimizer}, Ptr{maw_counters}, Ptr{Ptr{maw_error}}),
          optimizer, counters, error)

const POINTER_maw_counters_set = Ref{Ptr{Cvoid}}(C_NULL)
"""
Sets the optimizer's own counts, after the state of its tensors was set (`maw_tensor_state_set`): a run that moves here
then goes on as it would have there. Prepares the optimizer if needed. What the last meta-update was is forgotten.

`counters`: every field is taken.
`MAW_OK`; `MAW_INVALID_ARGUMENT` names the count; `MAW_INVALID_STATE` while a meta-update is open, without tensors or
while the stream is being captured; `MAW_CUDA_ERROR`; `MAW_OUT_OF_MEMORY`. On failure nothing is changed.

    maw_status maw_counters_set(maw_optimizer *optimizer, const maw_counters *counters, maw_error **error);
"""
maw_counters_set(optimizer, counters, error) =
    ccall(POINTER_maw_counters_set[], maw_status,
          (Ptr{maw_optimizer}, Ptr{maw_counters}, Ptr{Ptr{maw_error}}),
          optimizer, counters, error)

const POINTER_maw_cuda_available = Ref{Ptr{Cvoid}}(C_NULL)
"""
1 if there is a CUDA device on which an optimizer can be created, else 0. Any thread.

    uint32_t maw_cuda_available(void);
"""
maw_cuda_available() =
    ccall(POINTER_maw_cuda_available[], UInt32,
          ())

const POINTER_maw_device_buffer_create = Ref{Ptr{Cvoid}}(C_NULL)
"""
Allocates device memory, filled with zeros.

`device_index`: index of the CUDA device. `bytes`: size of the buffer; may be 0. `buffer`: out, freed with
`maw_device_buffer_free`; untouched on failure.
`MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_UNSUPPORTED` without a suitable CUDA driver or device; `MAW_INVALID_STATE` while a
stream that the default stream waits for is being captured; `MAW_OUT_OF_MEMORY`; `MAW_CUDA_ERROR`. Any thread.

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
Copies host memory into a buffer and waits for the copy. It is enqueued on the legacy default stream, which is also
an optimizer's stream unless `maw_set_stream` was called.

`offset`: start in the buffer, in bytes. `data`: `bytes` bytes; may be NULL if `bytes` is 0.
`MAW_OK`; `MAW_INVALID_ARGUMENT`, also if the range exceeds the buffer; `MAW_INVALID_STATE` while a stream that the
default stream waits for is being captured; `MAW_CUDA_ERROR`.

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
Copies a buffer into host memory and waits for the copy. As `maw_device_buffer_upload`.

`data`: out, `bytes` bytes; after `MAW_CUDA_ERROR` some of them may have been written.

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
The buffer's address in device memory, for `maw_step` and other calls; aligned to 256 bytes. NULL for NULL.

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
Frees a buffer after waiting for the device's work that uses it; does nothing for NULL. Any thread.

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
The message of an error: one line of UTF-8, "" for NULL. Borrowed: valid until the error is freed. Any thread.

    const char *maw_error_message(const maw_error *error);
"""
maw_error_message(error) =
    ccall(POINTER_maw_error_message[], Cstring,
          (Ptr{maw_error},),
          error)

const POINTER_maw_error_free = Ref{Ptr{Cvoid}}(C_NULL)
"""
Frees an error; does nothing for NULL. Any thread.

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
    maw_counters,
)

"Every C function's name and the place of its pointer."
const FUNCTIONS = (
    (:maw_version, POINTER_maw_version),
    (:maw_abi_version, POINTER_maw_abi_version),
    (:maw_status_name, POINTER_maw_status_name),
    (:maw_options_init, POINTER_maw_options_init),
    (:maw_options_preset, POINTER_maw_options_preset),
    (:maw_param_group_init, POINTER_maw_param_group_init),
    (:maw_tensor_init, POINTER_maw_tensor_init),
    (:maw_step_options_init, POINTER_maw_step_options_init),
    (:maw_step_report_init, POINTER_maw_step_report_init),
    (:maw_meta_request_init, POINTER_maw_meta_request_init),
    (:maw_meta_answer_init, POINTER_maw_meta_answer_init),
    (:maw_meta_result_init, POINTER_maw_meta_result_init),
    (:maw_counters_init, POINTER_maw_counters_init),
    (:maw_add_param_group, POINTER_maw_add_param_group),
    (:maw_add_tensors, POINTER_maw_add_tensors),
    (:maw_remove_tensor, POINTER_maw_remove_tensor),
    (:maw_optimizer_create, POINTER_maw_optimizer_create),
    (:maw_optimizer_free, POINTER_maw_optimizer_free),
    (:maw_prepare, POINTER_maw_prepare),
    (:maw_step, POINTER_maw_step),
    (:maw_step_report_fetch, POINTER_maw_step_report_fetch),
    (:maw_observe_gradient, POINTER_maw_observe_gradient),
    (:maw_reset, POINTER_maw_reset),
    (:maw_set_stream, POINTER_maw_set_stream),
    (:maw_set_log, POINTER_maw_set_log),
    (:maw_set_reduction, POINTER_maw_set_reduction),
    (:maw_set_lr, POINTER_maw_set_lr),
    (:maw_set_weight_decay, POINTER_maw_set_weight_decay),
    (:maw_set_betas, POINTER_maw_set_betas),
    (:maw_set_eps, POINTER_maw_set_eps),
    (:maw_set_max_grad_norm, POINTER_maw_set_max_grad_norm),
    (:maw_set_priorities, POINTER_maw_set_priorities),
    (:maw_get_lr, POINTER_maw_get_lr),
    (:maw_get_weight_decay, POINTER_maw_get_weight_decay),
    (:maw_get_betas, POINTER_maw_get_betas),
    (:maw_get_eps, POINTER_maw_get_eps),
    (:maw_get_max_grad_norm, POINTER_maw_get_max_grad_norm),
    (:maw_get_priorities, POINTER_maw_get_priorities),
    (:maw_meta_due, POINTER_maw_meta_due),
    (:maw_meta_begin, POINTER_maw_meta_begin),
    (:maw_meta_tell, POINTER_maw_meta_tell),
    (:maw_meta_abort, POINTER_maw_meta_abort),
    (:maw_meta_result_get, POINTER_maw_meta_result_get),
    (:maw_meta_gradient, POINTER_maw_meta_gradient),
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
    (:maw_load_report_count, POINTER_maw_load_report_count),
    (:maw_load_report_name, POINTER_maw_load_report_name),
    (:maw_dump_state, POINTER_maw_dump_state),
    (:maw_tensor_state_get, POINTER_maw_tensor_state_get),
    (:maw_tensor_state_set, POINTER_maw_tensor_state_set),
    (:maw_master_set, POINTER_maw_master_set),
    (:maw_master_get, POINTER_maw_master_get),
    (:maw_average_get, POINTER_maw_average_get),
    (:maw_average_swap, POINTER_maw_average_swap),
    (:maw_counters_get, POINTER_maw_counters_get),
    (:maw_counters_set, POINTER_maw_counters_set),
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
