//! Constants and structs of the C ABI, laid out without padding.
//!
//! Every struct begins with `struct_size` and may grow at its end; the rules are in `structs.rs`.
#![allow(non_camel_case_types)]

use std::ffi::{c_char, c_void};

/// The result of a call: `MAW_OK` (0) or a negative number, `MAW_INVALID_ARGUMENT` and the following.
pub type maw_status = i32;

/// Success.
pub const MAW_OK: i32 = 0;
/// An argument is NULL, out of range, of the wrong length or otherwise invalid; the message names it.
pub const MAW_INVALID_ARGUMENT: i32 = -1;
/// The call is not allowed in the handle's state, for example a step while a meta-update is open.
pub const MAW_INVALID_STATE: i32 = -2;
/// This version of the library, or this machine, does not support it.
pub const MAW_UNSUPPORTED: i32 = -3;
/// Another call on the same handle is running (or this call comes from its log callback). Nothing was done.
pub const MAW_BUSY: i32 = -4;
/// Under `MAW_NONFINITE_ERROR`: a gradient, parameter, moment, feature or factor is not finite.
pub const MAW_NOT_FINITE: i32 = -5;
/// Out of memory. The error object is static; freeing it does nothing.
pub const MAW_OUT_OF_MEMORY: i32 = -6;
/// A bug in the library. The handle is poisoned: every later call on it returns this, except freeing.
pub const MAW_PANIC: i32 = -7;
/// No tensor or group has that name or index.
pub const MAW_NOT_FOUND: i32 = -8;
/// Parameters changed since the last step without `MAW_STEP_PARAMS_CHANGED`: under `verify_params`, or after a load if they
/// are not those that the file has the remainders of.
pub const MAW_PARAMS_CHANGED: i32 = -9;
/// A file operation failed; the message names it and the system's reason.
pub const MAW_IO: i32 = -10;
/// The data is not a checkpoint, or a damaged one.
pub const MAW_CORRUPT: i32 = -11;
/// The checkpoint is of another model or of other options; the message lists the first differences.
pub const MAW_MISMATCH: i32 = -12;
/// A call of the CUDA driver failed, or a kernel did; the message names the driver's function and its error. After a
/// failed kernel the process cannot use the device any more.
pub const MAW_CUDA_ERROR: i32 = -13;
/// With `maw_set_reduction`: the callback failed, its result is no sum over the processes, the call failed on another
/// process, or the processes differ in options, tensors, step or arguments; the message says which. Unless it says
/// otherwise nothing was changed on this process; others may have made the step, so go on from a checkpoint.
pub const MAW_REDUCTION: i32 = -14;

/// `maw_tensor.shard_offset` and the end of a shard are multiples of it, or the tensor's end.
pub const MAW_SHARD_ALIGNMENT: u64 = 32768;

/// 32-bit IEEE float.
pub const MAW_FLOAT32: i32 = 1;
/// 64-bit IEEE float.
pub const MAW_FLOAT64: i32 = 2;
/// bfloat16: the upper half of a 32-bit float. As `uint16_t`.
pub const MAW_BFLOAT16: i32 = 3;
/// 16-bit IEEE float. As `uint16_t`.
pub const MAW_FLOAT16: i32 = 4;

/// Each new value of a 16-bit parameter is rounded to nearest. An update below half a unit in the last place is lost.
pub const MAW_PRECISION_NEAREST: i32 = 0;
/// The library stores a float32 master of each element, which steps update; the host's 16-bit parameter is the master
/// rounded to nearest. 4 more bytes per element.
pub const MAW_PRECISION_MASTER: i32 = 1;
/// The same masters, bit for bit, in 2 + 2 bytes: the host's bfloat16 parameter, and the other 16 bits (the remainder)
/// in the library. bfloat16 only; 2 more bytes per element.
pub const MAW_PRECISION_REMAINDER: i32 = 2;
/// Stochastic rounding: each new value of a 16-bit parameter is rounded up or down at random, with the exact value as
/// its expectation. No more memory. The random bits depend on `maw_options.seed`, the tensor's name, its step count and
/// the element's index only.
pub const MAW_PRECISION_STOCHASTIC: i32 = 3;
/// `maw_tensor.precision` alone: `MAW_PRECISION_NEAREST` for this tensor, where 0 is the precision of its param group.
pub const MAW_PRECISION_TENSOR_NEAREST: i32 = 4;

/// Host memory.
pub const MAW_CPU: i32 = 0;
/// Memory of a CUDA device. Needs a driver for CUDA 11.8 or later and compute capability 7.0 or higher.
pub const MAW_CUDA: i32 = 1;

/// The paper's equations.
pub const MAW_PAPER: i32 = 0;
/// The authors' published program, where it differs from the paper.
pub const MAW_REFERENCE: i32 = 1;

/// Mean norms of gradients, moments and parameters, mean cosine of gradient and first moment.
pub const MAW_FEATURES_BASIC: i32 = 0;
/// `BASIC`, and the standard deviations over the tensors of the group.
pub const MAW_FEATURES_BASIC_PLUS: i32 = 1;
/// Means and variances of norms, fractions of zeros, sizes, fraction of biases, depth, and a learned embedding.
pub const MAW_FEATURES_ENHANCED: i32 = 2;
/// `BASIC`, each column of statistics standardized over the groups.
pub const MAW_FEATURES_NORM_BASIC: i32 = 3;
/// `BASIC_PLUS`, each column of statistics standardized over the groups.
pub const MAW_FEATURES_NORM_BASIC_PLUS: i32 = 4;
/// `NORM_BASIC` with the mean of ln(max(1e20·norm, 1)) in place of the mean norm. Not in the paper.
pub const MAW_FEATURES_NORM_LOG: i32 = 5;

/// One modulation group per (layer kind, depth bucket, bias or not): chapter "Modulation groups".
pub const MAW_GROUPING_FINE_GRAINED: i32 = 0;
/// The modulation groups are the param groups.
pub const MAW_GROUPING_BY_PARAM_GROUP: i32 = 1;
/// `maw_tensor.modulation_group` names each tensor's modulation group.
pub const MAW_GROUPING_CUSTOM: i32 = 2;

/// Weight matrices are Xavier-uniform, as in the paper. So the factors start at random: a small Transformer's mean alpha
/// after ten steps was, over seeds 1 to 20, anything from 0.50 to 1.49, and a quarter of all factors was at a bound.
pub const MAW_INIT_XAVIER: i32 = 0;
/// As `XAVIER`, but the output projection is 0: alpha = beta = 1 (AdamW) until the first meta-update.
pub const MAW_INIT_IDENTITY: i32 = 1;

/// Gradient alignment, loss decrease and generalization gap, weighted.
pub const MAW_OBJECTIVE_COMBINED: i32 = 0;
/// Gradient alignment alone (eq. 10).
pub const MAW_OBJECTIVE_GRADIENT: i32 = 1;
/// Loss decrease on the validation batch alone (eq. 11).
pub const MAW_OBJECTIVE_LOSS_DECREASE: i32 = 2;
/// Generalization gap alone (eq. 12). It does not depend on the attention module: only the regularization trains it.
pub const MAW_OBJECTIVE_GEN_GAP: i32 = 3;
/// The gradient against the displacement of the last `maw_options.horizon` steps: chapter "Learning from steps". Needs no
/// meta-update of the host. Not in the paper.
pub const MAW_OBJECTIVE_HORIZON: i32 = 4;

/// The attention module learns by plain steps along the gradient (SGD), as in the paper.
pub const MAW_META_SGD: i32 = 0;
/// It learns by AdamW with betas 0.9 and 0.99, eps 1e-8 and decay `maw_options.meta_weight_decay` (of log-variances
/// without); the norms of its tensors are not part of the objective. Not in the paper.
pub const MAW_META_ADAMW: i32 = 1;

/// `maw_options_preset`: learning from steps alone. `MAW_OBJECTIVE_HORIZON` with `horizon` 1000, `MAW_META_ADAMW`,
/// `meta_lr` 1e-2, `meta_weight_decay` 1e-4, `meta_interval` 5, `meta_warmup` 20, `MAW_INIT_IDENTITY`,
/// `MAW_FEATURES_NORM_LOG`, `attn_layers` 2, `alpha_log_range` 8; all else as `maw_options_init` sets it. Experimental:
/// docs/horizon.md says what it is worth, and a later version may choose other values.
pub const MAW_PRESET_HORIZON: i32 = 1;

/// Homoscedastic uncertainty weighting (HUW) with priorities (eq. 13).
pub const MAW_WEIGHTING_HUW: i32 = 0;
/// The weights in `maw_options.fixed_weights`.
pub const MAW_WEIGHTING_FIXED: i32 = 1;
/// The unweighted sum of the three terms.
pub const MAW_WEIGHTING_SUM: i32 = 2;

/// HUW multiplies the term by exp(-s)/2.
pub const MAW_KIND_REGRESSION: i32 = 0;
/// HUW multiplies the term by exp(-s).
pub const MAW_KIND_CLASSIFICATION: i32 = 1;

/// Hessian-vector product by central differences: two more gradients on the second training batch.
pub const MAW_DIFFERENCE_CENTRAL: i32 = 0;
/// Hessian-vector product by a forward difference: one more gradient.
pub const MAW_DIFFERENCE_FORWARD: i32 = 1;
/// Hessian-vector product taken as 0: no more gradients; the gradient alignment does not train alpha and beta.
pub const MAW_DIFFERENCE_FIRST_ORDER: i32 = 2;

/// A step in which a value is not finite is skipped: only the count of skipped steps changes. The report gives the
/// reason.
pub const MAW_NONFINITE_SKIP: i32 = 0;
/// Such a step fails with `MAW_NOT_FINITE` and changes nothing.
pub const MAW_NONFINITE_ERROR: i32 = 1;
/// No check, as in PyTorch's AdamW: NaN and infinity propagate. Only with `modulation` = 0. Saves one pass over the
/// gradients; the report's `grad_norm` is NaN unless clipping needs it.
pub const MAW_NONFINITE_PROPAGATE: i32 = 2;

/// Not given: the tensor's name decides.
pub const MAW_LAYER_UNKNOWN: i32 = 0;
/// A linear (fully connected) layer.
pub const MAW_LAYER_LINEAR: i32 = 1;
/// An embedding table.
pub const MAW_LAYER_EMBEDDING: i32 = 2;
/// Part of an attention layer.
pub const MAW_LAYER_ATTENTION: i32 = 3;
/// Part of a layer norm.
pub const MAW_LAYER_LAYERNORM: i32 = 4;
/// Part of a convolution.
pub const MAW_LAYER_CONVOLUTION: i32 = 5;
/// Part of a batch norm.
pub const MAW_LAYER_BATCHNORM: i32 = 6;
/// Part of a recurrent layer, such as LSTM or GRU.
pub const MAW_LAYER_RECURRENT: i32 = 7;

/// In place of a param group's index: every param group.
pub const MAW_ALL_GROUPS: u32 = u32::MAX;
/// `maw_step_options.flags`: the host changed parameters since the last step. The library recomputes its norms and sets
/// masters to the new parameters.
pub const MAW_STEP_PARAMS_CHANGED: u32 = 1;
/// `maw_step_report_fetch`: wait for all enqueued steps.
pub const MAW_FETCH_WAIT: u32 = 1;
/// `maw_reset`: set both moments and all step counts to 0.
pub const MAW_RESET_MOMENTS: u32 = 1;
/// `maw_reset`: set the attention module to its initial values.
pub const MAW_RESET_ATTENTION: u32 = 2;

/// Saving and loading: only the attention module.
pub const MAW_ATTENTION_ONLY: u32 = 1;
/// Loading: options that affect only later steps may differ; the file's are used. Without one of the three flags this holds
/// for options that have a setter, and all others must be equal.
pub const MAW_LOAD_FILE_WINS: u32 = 2;
/// Loading: options that affect only later steps may differ; the optimizer's own are used.
pub const MAW_LOAD_OWN_WINS: u32 = 4;
/// Loading: nothing may differ, not even what has a setter.
pub const MAW_LOAD_STRICT: u32 = 8;

/// Loading: the file may have more or fewer tensors, param groups and modulation groups. What both have is loaded; a tensor
/// that the file does not have starts at step 0; `maw_load_report_count` tells the names. May be combined with one of the
/// three flags above, and with `MAW_ATTENTION_ONLY`.
pub const MAW_LOAD_PARTIAL: u32 = 16;

/// `maw_load_report_count`: tensors that the file does not have.
pub const MAW_LOAD_MISSING_TENSORS: u32 = 1;
/// `maw_load_report_count`: tensors of the file that are not registered.
pub const MAW_LOAD_UNEXPECTED_TENSORS: u32 = 2;
/// `maw_load_report_count`: modulation groups that the file does not have.
pub const MAW_LOAD_MISSING_GROUPS: u32 = 3;
/// `maw_load_report_count`: modulation groups that only the file has.
pub const MAW_LOAD_UNEXPECTED_GROUPS: u32 = 4;

/// `maw_counters.meta_done_at`: no meta-update was done or abandoned so far.
pub const MAW_NO_STEP: u64 = u64::MAX;

/// `maw_step_report.skip_reason`: the step was applied.
pub const MAW_SKIP_NONE: i32 = 0;
/// A gradient is not finite, or so large that the second moment or the norm would not be.
pub const MAW_SKIP_GRADIENT: i32 = 1;
/// A parameter, or its norm, is not finite.
pub const MAW_SKIP_PARAMETER: i32 = 2;
/// A first or second moment, or its norm, is not finite.
pub const MAW_SKIP_MOMENT: i32 = 3;
/// A feature is not finite.
pub const MAW_SKIP_FEATURE: i32 = 4;
/// A factor (alpha, beta, lambda1, lambda2) is not finite.
pub const MAW_SKIP_FACTOR: i32 = 5;
/// `maw_step_report.nonfinite_tensor`: no tensor.
pub const MAW_NO_TENSOR: u64 = u64::MAX;

/// The meta-update has ended; the host's parameters have the same bits as at `maw_meta_begin`.
pub const MAW_META_DONE: i32 = 0;
/// Evaluate the loss.
pub const MAW_META_LOSS: i32 = 1;
/// Evaluate the loss and the gradients.
pub const MAW_META_GRADIENT: i32 = 2;

/// The first training batch B1 (training mode).
pub const MAW_BATCH_TRAIN_1: i32 = 1;
/// The second training batch B2, disjoint from B1 (training mode).
pub const MAW_BATCH_TRAIN_2: i32 = 2;
/// The validation batch (evaluation mode).
pub const MAW_BATCH_VALIDATION: i32 = 3;

/// `maw_meta_result.outcome`: no meta-update has ended yet.
pub const MAW_OUTCOME_NONE: i32 = 0;
/// The attention module was updated.
pub const MAW_OUTCOME_UPDATED: i32 = 1;
/// The host called `maw_meta_abort`.
pub const MAW_OUTCOME_ABORTED: i32 = 2;
/// A loss from the host is not finite.
pub const MAW_OUTCOME_LOSS_NOT_FINITE: i32 = 3;
/// A gradient from the host is not finite.
pub const MAW_OUTCOME_GRADIENT_NOT_FINITE: i32 = 4;
/// A parameter, moment, feature or factor is not finite, or a parameter after the trial step.
pub const MAW_OUTCOME_STATE_NOT_FINITE: i32 = 5;
/// The direction w of the Hessian-vector product is not finite, or the step along it rounds to 0.
pub const MAW_OUTCOME_DIRECTION_NOT_FINITE: i32 = 6;
/// The gradient of the attention module is not finite.
pub const MAW_OUTCOME_META_GRADIENT_NOT_FINITE: i32 = 7;

/// `maw_log_callback`: information.
pub const MAW_LOG_INFO: i32 = 1;
/// `maw_log_callback`: something probably unintended.
pub const MAW_LOG_WARNING: i32 = 2;

/// Receives the messages of a handle, on the thread of the call that caused them and during that call.
///
/// `message` is NUL-terminated UTF-8, valid during the callback only. The callback must not unwind (no C++ exception,
/// no longjmp). Calls on the same handle from inside the callback return `MAW_BUSY`.
pub type maw_log_callback = Option<unsafe extern "C" fn(level: i32, message: *const c_char, user_data: *mut c_void)>;

/// Sums `count` doubles over all processes in place, as `MPI_Allreduce(MPI_IN_PLACE, values, count, MPI_DOUBLE, MPI_SUM,
/// comm)` does: afterwards each process has the same numbers. 0 is success, anything else a failure, which the call that
/// it happens in reports.
///
/// With `MAW_CUDA` `values` is an address in device memory, and the callback enqueues the sum on the optimizer's stream
/// (`maw_set_stream`), as `ncclAllReduce(values, values, count, ncclDouble, ncclSum, comm, stream)` does. That stream may be
/// under capture in a step. A host that sums on the CPU copies the numbers out and back, and waits for both.
///
/// Called on the thread of the call that needs the sums and during that call, as often on each process, with the same
/// `count`. The order of the additions does not matter, for none rounds: of each number at most one process has another value
/// than 0, or all have whole numbers, which count processes and compare what they must have in common. The callback must not
/// unwind. Calls on the same handle from inside it return `MAW_BUSY`.
pub type maw_reduction_callback =
    Option<unsafe extern "C" fn(values: *mut f64, count: usize, user_data: *mut c_void) -> i32>;

/// Options of an optimizer, fixed at creation unless there is a setter. `maw_options_init` sets the defaults.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct maw_options {
    /// `sizeof(maw_options)` of the caller; set by `maw_options_init`.
    pub struct_size: usize,
    /// Seed of the attention module's initial values and of stochastic rounding; the same on every platform. Default 0.
    pub seed: u64,
    /// Steps of the whole run: the time feature is step/total_steps. 0 (default) = unknown: the time feature is
    /// 2·sigmoid(step/1000) − 1.
    pub total_steps: u64,
    /// Steps between two meta-updates, at least 1. With `MAW_OBJECTIVE_HORIZON`: steps after which the attention module
    /// learns. Default 200.
    pub meta_interval: u64,
    /// First step at which a meta-update can be due. With `MAW_OBJECTIVE_HORIZON`: steps that the module does not learn from.
    /// Default 0.
    pub meta_warmup: u64,
    /// Width of alpha's range, 0 to 2: alpha is within 1 ± alpha_range/2. Not used with `alpha_log_range`. Default 1.
    pub alpha_range: f64,
    /// Width of beta's range, 0 to 2: beta is within 1 ± beta_range/2. Not used with `beta_log_range`. Default 1.
    pub beta_range: f64,
    /// Learning rate of the attention module, ≥ 0. Default 1e-4.
    pub meta_lr: f64,
    /// Weight of the norms of the attention module's tensors in the meta-objective, ≥ 0; with `MAW_META_ADAMW` its decoupled
    /// weight decay. Default 1e-4.
    pub meta_weight_decay: f64,
    /// Weight of Σ|gate| in the meta-objective, ≥ 0; with `use_feature_gating`. Default 1e-4.
    pub feature_gating_sparsity: f64,
    /// HUW's priorities p of gradient alignment, loss decrease and generalization gap, each ≥ 0. Default 1, 1, 1.
    pub priorities: [f64; 3],
    /// Weights of the three terms under `MAW_WEIGHTING_FIXED`. Default 1, 1, 1.
    pub fixed_weights: [f64; 3],
    /// Initial value of HUW's three log-variances s. Default 0.
    pub huw_initial_log_var: f64,
    /// s is clamped to ±log_var_limit after each meta-update, ≥ 0; 0 = no limit, as in the paper. Default 10.
    pub log_var_limit: f64,
    /// Relative step size of the differences for the Hessian-vector product, ≥ 0; 0 (default) = 6e-6 for float64
    /// (forward: 1.5e-8), 3e-3 for float32, 3e-2 for 16-bit parameters.
    pub difference_scale: f64,
    /// Gradients are clipped to this global norm, as by PyTorch's clip_grad_norm_; 0 (default) = no clipping.
    pub max_grad_norm: f64,
    /// `MAW_PAPER` (default) or `MAW_REFERENCE`.
    pub semantics: i32,
    /// `MAW_FEATURES_…`. Default `MAW_FEATURES_BASIC`.
    pub feature_version: i32,
    /// `MAW_GROUPING_…`. Default `MAW_GROUPING_FINE_GRAINED`.
    pub grouping: i32,
    /// `MAW_INIT_…`. Default `MAW_INIT_XAVIER`.
    pub init: i32,
    /// `MAW_OBJECTIVE_…`. Default `MAW_OBJECTIVE_COMBINED`.
    pub objective: i32,
    /// `MAW_WEIGHTING_…` of the combined objective. Default `MAW_WEIGHTING_HUW`.
    pub weighting: i32,
    /// `MAW_KIND_…` of the three terms under HUW. Default `MAW_KIND_REGRESSION`.
    pub huw_kinds: [i32; 3],
    /// `MAW_DIFFERENCE_…`. Default `MAW_DIFFERENCE_CENTRAL`.
    pub difference: i32,
    /// `MAW_NONFINITE_…`. Default `MAW_NONFINITE_SKIP`.
    pub nonfinite: i32,
    /// `MAW_CPU` (default) or `MAW_CUDA`: where parameters, gradients and moments are.
    pub device: i32,
    /// Index of the CUDA device; 0 on the CPU.
    pub device_index: i32,
    /// 1 (default): MetaAdamW. 0: plain AdamW; alpha = beta = 1, no features, no meta-updates.
    pub modulation: u32,
    /// 1 (default): the norm of the second moment is a feature. `MAW_FEATURES_ENHANCED` never has it.
    pub use_v_norms: u32,
    /// 1 (default): the time step is a feature.
    pub include_time_step: u32,
    /// 1: each feature column is multiplied by the sigmoid of a learned gate. Default 0.
    pub use_feature_gating: u32,
    /// Columns of the learned group embedding, 1 to 4,096; `MAW_FEATURES_ENHANCED` only. Default 4.
    pub group_embed_dim: u32,
    /// Width D of a token, up to 65,536; 0 (default) = the number of features. Rounded up to a multiple of
    /// `attn_heads`.
    pub feature_dim: u32,
    /// Attention heads of the encoder, 1 to 1,024. Default 6.
    pub attn_heads: u32,
    /// Layers of the encoder, 1 to 4,096. Default 8.
    pub attn_layers: u32,
    /// Width of the encoder's feed-forward layers, 1 to 65,536. Default 16.
    pub attn_hidden_dim: u32,
    /// Threads of a step on the CPU, up to 1,024; 0 (default) = one per available core; 1 = the caller's thread only. A
    /// model with fewer than 262,144 elements uses the caller's thread only. Any number gives the same bits.
    pub threads: u32,
    /// 1: each step checks that no parameter changed since the last one without `MAW_STEP_PARAMS_CHANGED`. Default 0.
    pub verify_params: u32,
    /// R, 1 < R ≤ 1e6: alpha = R^(2·sigmoid − 1), between 1/R and R, in place of `alpha_range`. 0 (default): not used. Not in
    /// the paper.
    pub alpha_log_range: f64,
    /// The same for beta.
    pub beta_log_range: f64,
    /// N, 2 to 2^32: the library keeps an average of each parameter, average ← average + (parameter − average)/N after each
    /// update, and learns from it under `MAW_OBJECTIVE_HORIZON` (`maw_average_get`, `maw_average_swap`). 0 (default): no
    /// averages. In float32 an average stands still once parameter − average is below N/2 units in its last place.
    pub horizon: u64,
    /// `MAW_META_…`: how the attention module learns. Default `MAW_META_SGD`; `MAW_OBJECTIVE_HORIZON` needs
    /// `MAW_META_ADAMW`.
    pub meta_optimizer: i32,
    /// dtype of the averages: 0 (default) = float32, and float64 of float64 tensors; `MAW_BFLOAT16` = bfloat16 with
    /// stochastic rounding, but float64 of float64 tensors.
    pub average_dtype: i32,
}

/// Hyper-parameters that tensors share. `maw_param_group_init` sets the defaults.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct maw_param_group {
    /// `sizeof(maw_param_group)` of the caller; set by `maw_param_group_init`.
    pub struct_size: usize,
    /// Learning rate, ≥ 0. Default 5e-4 (the paper's).
    pub lr: f64,
    /// Decay rate of the first moment, 0 ≤ beta1 < 1. Default 0.9.
    pub beta1: f64,
    /// Decay rate of the second moment, 0 ≤ beta2 < 1. Default 0.999.
    pub beta2: f64,
    /// Added to the square root of the second moment; > 0 in the precision of the computation. Default 1e-8.
    pub eps: f64,
    /// Decoupled weight decay, ≥ 0. Default 1e-2.
    pub weight_decay: f64,
    /// `MAW_PRECISION_…`: how 16-bit parameters are updated, if the tensor does not say so itself. Default
    /// `MAW_PRECISION_NEAREST`. For float32 and float64 tensors it has no meaning, so that they can share a group with
    /// 16-bit ones. `MAW_PRECISION_REMAINDER` with a float16 tensor is an error.
    pub precision: i32,
    /// dtype of both moments: 0 (default, and required for float64 tensors) = float64 for float64 tensors, else
    /// float32; `MAW_FLOAT32`; or `MAW_BFLOAT16`, with stochastic rounding.
    pub moment_dtype: i32,
}

/// A parameter tensor to register. `maw_tensor_init` zeroes it and sets `dtype` to `MAW_FLOAT32`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct maw_tensor {
    /// `sizeof(maw_tensor)` of the caller; set by `maw_tensor_init`.
    pub struct_size: usize,
    /// Unique in the optimizer: 1 to 1,024 bytes of UTF-8 without control characters, "layers.0.attn.weight". Copied.
    pub name: *const c_char,
    /// `ndim` lengths; may be NULL if `ndim` is 0 (a scalar, which has one element). A length may be 0. Copied.
    pub shape: *const u64,
    /// Under `MAW_GROUPING_CUSTOM`: the name of the tensor's modulation group, same rules as `name`. Else NULL. Copied.
    pub modulation_group: *const c_char,
    /// Number of dimensions, at most 64.
    pub ndim: u32,
    /// The parameter's dtype, `MAW_FLOAT32` …. A float64 tensor is computed in float64, any other in float32.
    pub dtype: i32,
    /// The gradient's dtype; it may differ from `dtype`. 0 (default) = `dtype`.
    pub grad_dtype: i32,
    /// `MAW_LAYER_…`: the kind of layer (chapter "Modulation groups"). Default `MAW_LAYER_UNKNOWN`: the name decides.
    pub layer_kind: i32,
    /// `MAW_PRECISION_…` of this tensor, which must allow it; 0 (default) = that of its param group.
    pub precision: i32,
    /// Number of the layer plus 1: 1 = the first layer, which counts as "layers.0.weight" does. At most 1,000,000. 0
    /// (default) = the number in the name, if there is one.
    pub layer_index: u32,
    /// With `sharded`: the first element that this process has, in the flattened (row-major) tensor; a multiple of
    /// `MAW_SHARD_ALIGNMENT`. Default 0.
    pub shard_offset: u64,
    /// With `sharded`: how many elements this process has; 0 = none. `shard_offset` + `shard_numel` is a multiple of
    /// `MAW_SHARD_ALIGNMENT` or the tensor's size. Default 0.
    pub shard_numel: u64,
    /// 1: this process has a part of the tensor, others have the rest (`maw_set_reduction`). `shape`, names and groups are
    /// those of the whole; buffers and counts of elements those of the part. 0 (default): all of it.
    pub sharded: u32,
    /// Must be 0.
    pub reserved: u32,
}

/// Options of a single step. `maw_step_options_init` sets the defaults.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct maw_step_options {
    /// `sizeof(maw_step_options)` of the caller; set by `maw_step_options_init`.
    pub struct_size: usize,
    /// Loss scale: the gradients are divided by it; > 0. Default 1. A CUDA graph has the value of the capture; use
    /// `device_grad_scale` there.
    pub grad_scale: f64,
    /// 0 or `MAW_STEP_PARAMS_CHANGED`. A CUDA graph has the value of the capture.
    pub flags: u32,
    /// Must be 0.
    pub reserved: u32,
    /// CUDA: a float in device memory that replaces `grad_scale`, read when the step runs. The step is skipped
    /// (`MAW_SKIP_GRADIENT`) unless it is finite and > 0, whatever `nonfinite` is. Must be NULL on the CPU, with
    /// `verify_params` and under `MAW_NONFINITE_ERROR`. Default NULL.
    pub device_grad_scale: *const f32,
    /// CUDA: a float in device memory, read when the step runs. The step is skipped (`MAW_SKIP_GRADIENT`) unless it is
    /// 0, whatever `nonfinite` is. Must be NULL where `device_grad_scale` must. Default NULL: only the library's own
    /// check.
    pub found_inf: *const f32,
}

/// Report of a step. `maw_step_report_init` sets `struct_size`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct maw_step_report {
    /// `sizeof(maw_step_report)` of the caller; set by `maw_step_report_init`.
    pub struct_size: usize,
    /// Number of applied steps, this one included.
    pub step: u64,
    /// Number of skipped steps, this one included.
    pub skipped_steps: u64,
    /// Euclidean norm of all gradients, after division by `grad_scale` and before clipping.
    pub grad_norm: f64,
    /// The factor by which clipping multiplied the gradients; 1 without clipping.
    pub clip_factor: f64,
    /// Index, in registration order, of the first tensor that is not finite, or `MAW_NO_TENSOR`.
    pub nonfinite_tensor: u64,
    /// 1 if the step was skipped, else 0.
    pub skipped: u32,
    /// `MAW_SKIP_…`.
    pub skip_reason: i32,
}

/// What the host must evaluate next, at the parameters now in its buffers:
///
/// ```c
/// maw_meta_begin(optimizer, params, n, &request, &error);
/// while (request.kind != MAW_META_DONE) {
///     answer.request_id = request.id;
///     answer.loss = evaluate(request.kind, request.batch, request.replay);   /* gradients into grads */
///     maw_meta_tell(optimizer, &answer, params, grads, n, &request, &error);
/// }
/// ```
///
/// While a request is open, do not write to the parameters, and do not let the evaluations change anything that later
/// steps depend on (running statistics of a batch norm). `maw_meta_request_init` sets `struct_size`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct maw_meta_request {
    /// `sizeof(maw_meta_request)` of the caller; set by `maw_meta_request_init`.
    pub struct_size: usize,
    /// Number of this request, counted from 1 over the handle's lifetime. 0 at `MAW_META_DONE`.
    pub id: u64,
    /// Number of an earlier request whose batch and random numbers (dropout) must be used again; 0 = any.
    pub replay: u64,
    /// `MAW_META_…`.
    pub kind: i32,
    /// `MAW_BATCH_…`; 0 at `MAW_META_DONE`.
    pub batch: i32,
    /// For the host's random number generator (dropout): the same for requests that replay one another, another for all
    /// others, so that a host which seeds with it need not remember `replay`. A function of `options.seed`, the step and the
    /// number of meta-updates: a resumed run gets the same. 0 at `MAW_META_DONE`.
    pub seed: u64,
}

/// The host's answer to a request. `maw_meta_answer_init` sets the defaults.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct maw_meta_answer {
    /// `sizeof(maw_meta_answer)` of the caller; set by `maw_meta_answer_init`.
    pub struct_size: usize,
    /// `maw_meta_request.id` of the request being answered.
    pub request_id: u64,
    /// The loss, without loss scaling.
    pub loss: f64,
    /// Loss scale of the gradients, which are divided by it; > 0. Default 1.
    pub grad_scale: f64,
}

/// Result of the last meta-update. Terms and losses that the objective does not need are NaN.
/// `maw_meta_result_init` sets `struct_size`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct maw_meta_result {
    /// `sizeof(maw_meta_result)` of the caller; set by `maw_meta_result_init`.
    pub struct_size: usize,
    /// Number of applied steps when it began.
    pub step: u64,
    /// Number of meta-updates that ended with `MAW_OUTCOME_UPDATED`.
    pub updates: u64,
    /// Loss on B1, before the trial step.
    pub loss_train: f64,
    /// Loss on the validation batch, before the trial step.
    pub loss_validation: f64,
    /// Loss on B2, after the trial step.
    pub loss_train_moved: f64,
    /// Loss on the validation batch, after the trial step.
    pub loss_validation_moved: f64,
    /// Gradient alignment (eq. 10).
    pub term_gradient: f64,
    /// Loss decrease (eq. 11).
    pub term_loss_decrease: f64,
    /// Generalization gap (eq. 12).
    pub term_gen_gap: f64,
    /// The objective, regularization included.
    pub loss_meta: f64,
    /// Number of the host's evaluations.
    pub evaluations: u32,
    /// Number of modulation groups whose gradient norm on B2 is below 1e-5 of the largest.
    pub idle_groups: u32,
    /// `MAW_OUTCOME_…`.
    pub outcome: i32,
    /// 0.
    pub reserved: u32,
}

/// The optimizer's own counts, so that a run can move here from another optimizer: what `maw_tensor_state_get` and
/// `maw_tensor_state_set` do not say. `maw_counters_init` sets `struct_size` and the counts of a run that has not begun.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct maw_counters {
    /// `sizeof(maw_counters)` of the caller; set by `maw_counters_init`.
    pub struct_size: usize,
    /// Applied steps: at least those of every tensor, at most 2^53 - 1.
    pub step: u64,
    /// Meta-updates that changed the attention module; at most 2^53 - 1.
    pub meta_updates: u64,
    /// The step at which the last meta-update was done or abandoned, at most `step`; `MAW_NO_STEP` if there was none.
    pub meta_done_at: u64,
    /// Steps skipped because a gradient, or the moment that it would make, was not finite; at most 2^53 - 1, as the
    /// following.
    pub skipped_gradient: u64,
    /// Steps skipped because a parameter was not finite.
    pub skipped_parameter: u64,
    /// Steps skipped because a moment was not finite.
    pub skipped_moment: u64,
    /// Steps skipped because a feature was not finite.
    pub skipped_feature: u64,
    /// Steps skipped because a factor was not finite.
    pub skipped_factor: u64,
}
