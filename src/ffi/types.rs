//! What crosses the C boundary: constants and structs, laid out without holes.
//!
//! Every struct begins with `struct_size` and may grow at its end; `structs.rs` holds the rules.
#![allow(non_camel_case_types)]

use std::ffi::{c_char, c_void};

/// What a call answers: `MAW_OK` (0) or a negative number, one of `MAW_INVALID_ARGUMENT` and the following.
pub type maw_status = i32;

/// Success.
pub const MAW_OK: i32 = 0;
/// An argument is NULL, out of range, of the wrong count or otherwise unusable; the message names it.
pub const MAW_INVALID_ARGUMENT: i32 = -1;
/// The call does not fit the state of the handle, for example a step while a meta-update is open.
pub const MAW_INVALID_STATE: i32 = -2;
/// This version of the library cannot do what was asked.
pub const MAW_UNSUPPORTED: i32 = -3;
/// Another call on the same handle is running (or this one comes from its log callback). Nothing was done.
pub const MAW_BUSY: i32 = -4;
/// Not finite, under `MAW_NONFINITE_ERROR`: a gradient, parameter, moment, feature or factor.
pub const MAW_NOT_FINITE: i32 = -5;
/// Memory ran out. The error object is a static one.
pub const MAW_OUT_OF_MEMORY: i32 = -6;
/// A bug inside the library; the handle is poisoned: every later call but free and the error functions answers this.
pub const MAW_PANIC: i32 = -7;
/// No tensor, group or entry of that name or index.
pub const MAW_NOT_FOUND: i32 = -8;
/// `verify_params` is on and the parameters changed since the last step without `MAW_STEP_PARAMS_CHANGED`.
pub const MAW_PARAMS_CHANGED: i32 = -9;
/// The operating system refused a file operation; the message says which.
pub const MAW_IO: i32 = -10;
/// A checkpoint is damaged, or the file is none.
pub const MAW_CORRUPT: i32 = -11;
/// A checkpoint belongs to another model or to other options; the message lists the first differences.
pub const MAW_MISMATCH: i32 = -12;
/// The CUDA driver refused a call, or tells that a kernel failed; the message names the driver's function and its error.
/// After a kernel failed, the process cannot use the device any more.
pub const MAW_CUDA_ERROR: i32 = -13;

/// 32-bit IEEE float.
pub const MAW_FLOAT32: i32 = 1;
/// 64-bit IEEE float.
pub const MAW_FLOAT64: i32 = 2;
/// bfloat16: the upper half of a 32-bit float. As `uint16_t`.
pub const MAW_BFLOAT16: i32 = 3;
/// 16-bit IEEE float. As `uint16_t`.
pub const MAW_FLOAT16: i32 = 4;

/// Each new value of a 16-bit parameter is rounded to nearest, and an update below half a unit of its last place is lost.
pub const MAW_PRECISION_NEAREST: i32 = 0;
/// The library keeps float32 masters, which the updates move; the host's 16-bit parameter shows them, rounded to nearest.
/// 4 bytes more an element.
pub const MAW_PRECISION_MASTER: i32 = 1;
/// The same float32 masters, bit for bit, in 2 + 2 bytes: the host's bfloat16 parameter, and in the library the 16 bits that
/// it lacks. bfloat16 only; 2 bytes more an element.
pub const MAW_PRECISION_REMAINDER: i32 = 2;
/// Each new value of a 16-bit parameter is rounded up or down by chance, so that the mean is right: no more memory. The
/// chance depends on `maw_options.seed`, the tensor's name, its step and the element alone.
pub const MAW_PRECISION_STOCHASTIC: i32 = 3;

/// Host memory.
pub const MAW_CPU: i32 = 0;
/// CUDA device memory. Needs a driver for CUDA 11.8 or newer and a device of compute capability 7.0 or newer.
pub const MAW_CUDA: i32 = 1;

/// The paper's equations.
pub const MAW_PAPER: i32 = 0;
/// The authors' published program, where it differs from the paper.
pub const MAW_REFERENCE: i32 = 1;

/// Mean norms of gradient, moments and parameters, mean cosine of gradient and momentum.
pub const MAW_FEATURES_BASIC: i32 = 0;
/// `BASIC` and the standard deviations over the group's tensors.
pub const MAW_FEATURES_BASIC_PLUS: i32 = 1;
/// Means and variances, shares of zeros, size, kind and depth of the tensors, a learned embedding.
pub const MAW_FEATURES_ENHANCED: i32 = 2;
/// `BASIC`, each statistical column standardised over the groups.
pub const MAW_FEATURES_NORM_BASIC: i32 = 3;
/// `BASIC_PLUS`, each statistical column standardised over the groups.
pub const MAW_FEATURES_NORM_BASIC_PLUS: i32 = 4;

/// One modulation group for each (layer kind, depth bucket, bias or not), found from the tensors' names.
pub const MAW_GROUPING_FINE_GRAINED: i32 = 0;
/// The modulation groups are the param groups.
pub const MAW_GROUPING_BY_PARAM_GROUP: i32 = 1;
/// `maw_tensor.modulation_group` names the modulation group of each tensor.
pub const MAW_GROUPING_CUSTOM: i32 = 2;

/// Every weight matrix Xavier-uniform.
pub const MAW_INIT_XAVIER: i32 = 0;
/// The output projection starts at 0, so that alpha = beta = 1, that is AdamW, until the first meta-update.
pub const MAW_INIT_IDENTITY: i32 = 1;

/// Gradient alignment, loss decrease and generalization gap together.
pub const MAW_OBJECTIVE_COMBINED: i32 = 0;
/// Gradient alignment alone (eq. 10).
pub const MAW_OBJECTIVE_GRADIENT: i32 = 1;
/// Loss decrease on the validation batch alone (eq. 11).
pub const MAW_OBJECTIVE_LOSS_DECREASE: i32 = 2;
/// Generalization gap alone (eq. 12): does not depend on the attention module, which then moves by its regularisation only.
pub const MAW_OBJECTIVE_GEN_GAP: i32 = 3;

/// Homoscedastic uncertainty weighting with the user's priorities (eq. 13).
pub const MAW_WEIGHTING_HUW: i32 = 0;
/// The weights of `maw_options.fixed_weights`.
pub const MAW_WEIGHTING_FIXED: i32 = 1;
/// The plain sum of the three terms.
pub const MAW_WEIGHTING_SUM: i32 = 2;

/// HUW weighs the term by exp(-s)/2.
pub const MAW_KIND_REGRESSION: i32 = 0;
/// HUW weighs the term by exp(-s).
pub const MAW_KIND_CLASSIFICATION: i32 = 1;

/// Hessian-vector product by central differences: two more gradients on the second training batch.
pub const MAW_DIFFERENCE_CENTRAL: i32 = 0;
/// By a forward difference: one more gradient.
pub const MAW_DIFFERENCE_FORWARD: i32 = 1;
/// Counted as 0: no more gradients; alpha and beta learn nothing from the gradient alignment.
pub const MAW_DIFFERENCE_FIRST_ORDER: i32 = 2;

/// A step with something not finite changes nothing but the count of skipped steps; the report says why.
pub const MAW_NONFINITE_SKIP: i32 = 0;
/// Such a step fails with `MAW_NOT_FINITE` and changes nothing at all.
pub const MAW_NONFINITE_ERROR: i32 = 1;
/// Nobody looks, as in PyTorch's AdamW: what is not finite spreads. Only with `modulation` = 0; saves a reading of the
/// gradients, and the report's `grad_norm` is NaN unless clipping needs it.
pub const MAW_NONFINITE_PROPAGATE: i32 = 2;

/// The name says what the layer is, or nothing does.
pub const MAW_LAYER_UNKNOWN: i32 = 0;
/// A linear (fully connected) layer.
pub const MAW_LAYER_LINEAR: i32 = 1;
/// An embedding table.
pub const MAW_LAYER_EMBEDDING: i32 = 2;
/// A part of an attention layer.
pub const MAW_LAYER_ATTENTION: i32 = 3;
/// A part of a layer norm.
pub const MAW_LAYER_LAYERNORM: i32 = 4;

/// Every param group, where a param group's index is asked for.
pub const MAW_ALL_GROUPS: u32 = u32::MAX;
/// `maw_step_options.flags`: the host changed parameters since the last step, so that carried sums are recomputed.
pub const MAW_STEP_PARAMS_CHANGED: u32 = 1;
/// `maw_step_report_fetch`: wait for every step that was enqueued.
pub const MAW_FETCH_WAIT: u32 = 1;
/// `maw_reset`: first and second moments and step counts, of every tensor and of the optimizer, back to 0.
pub const MAW_RESET_MOMENTS: u32 = 1;
/// `maw_reset`: the attention module back to its initial values.
pub const MAW_RESET_ATTENTION: u32 = 2;

/// Saving and loading: the attention module alone.
pub const MAW_ATTENTION_ONLY: u32 = 1;
/// Loading: options that only steer the future may differ; the file's hold afterwards. Without one of the three flags this is
/// so for what has a setter, and anything else must be equal.
pub const MAW_LOAD_FILE_WINS: u32 = 2;
/// Loading: options that only steer the future may differ; the optimizer's own hold afterwards.
pub const MAW_LOAD_OWN_WINS: u32 = 4;
/// Loading: nothing may differ, not even what has a setter.
pub const MAW_LOAD_STRICT: u32 = 8;

/// `maw_counters.meta_done_at`: no meta-update was done or abandoned so far.
pub const MAW_NO_STEP: u64 = u64::MAX;

/// `maw_step_report.skip_reason`: the step was applied.
pub const MAW_SKIP_NONE: i32 = 0;
/// A gradient is not finite, or so large that the second moment or its norm would not be.
pub const MAW_SKIP_GRADIENT: i32 = 1;
/// A parameter, or its norm, is not finite.
pub const MAW_SKIP_PARAMETER: i32 = 2;
/// A first or second moment, or its norm, is not finite.
pub const MAW_SKIP_MOMENT: i32 = 3;
/// A feature is not finite.
pub const MAW_SKIP_FEATURE: i32 = 4;
/// A factor (alpha, beta, lambda1, lambda2) is not finite.
pub const MAW_SKIP_FACTOR: i32 = 5;
/// `maw_step_report.nonfinite_tensor`: no tensor is to blame.
pub const MAW_NO_TENSOR: u64 = u64::MAX;

/// Nothing more to evaluate; the host's parameters hold the exact bits they held at `maw_meta_begin`.
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
/// A loss that the host told is not finite.
pub const MAW_OUTCOME_LOSS_NOT_FINITE: i32 = 3;
/// A gradient that the host told is not finite.
pub const MAW_OUTCOME_GRADIENT_NOT_FINITE: i32 = 4;
/// A parameter, moment, feature, factor or moved parameter is not finite.
pub const MAW_OUTCOME_STATE_NOT_FINITE: i32 = 5;
/// The direction w of the Hessian product is not finite, or its step vanished in rounding.
pub const MAW_OUTCOME_DIRECTION_NOT_FINITE: i32 = 6;
/// The gradient of the attention module is not finite.
pub const MAW_OUTCOME_META_GRADIENT_NOT_FINITE: i32 = 7;

/// `maw_log_callback`: something worth knowing.
pub const MAW_LOG_INFO: i32 = 1;
/// `maw_log_callback`: something that probably was not meant.
pub const MAW_LOG_WARNING: i32 = 2;

/// Receives a handle's messages on the thread that is inside the call that caused them.
///
/// `message` is NUL-terminated UTF-8 and valid during the callback only. The callback must not unwind (no C++
/// exception, no longjmp); calls on the same handle from inside it get `MAW_BUSY`.
pub type maw_log_callback = Option<unsafe extern "C" fn(level: i32, message: *const c_char, user_data: *mut c_void)>;

/// The optimizer's options, fixed at creation except where a setter exists. `maw_options_init` fills the defaults.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct maw_options {
    /// `sizeof(maw_options)` of the caller; set by `maw_options_init`.
    pub struct_size: usize,
    /// Seed of the attention module's initial values and of rounding by chance: the same on every platform. Default 0.
    pub seed: u64,
    /// Steps of the whole run for the time feature, or 0 if unknown (default): then 2·sigmoid(step/1000) − 1.
    pub total_steps: u64,
    /// Steps between two meta-updates, at least 1. Default 200.
    pub meta_interval: u64,
    /// First step at which a meta-update can be due. Default 0.
    pub meta_warmup: u64,
    /// Width of alpha's range around 1, 0 to 2: alpha in 1 ± range/2. Default 1.
    pub alpha_range: f64,
    /// Width of beta's range around 1, 0 to 2. Default 1.
    pub beta_range: f64,
    /// Learning rate of the attention module's SGD step, ≥ 0. Default 1e-4.
    pub meta_lr: f64,
    /// Weight of the norms of the attention module's tensors in the meta-objective, ≥ 0. Default 1e-4.
    pub meta_weight_decay: f64,
    /// Weight of the sum of |gate| in the meta-objective, ≥ 0; with `use_feature_gating`. Default 1e-4.
    pub feature_gating_sparsity: f64,
    /// HUW priorities p of gradient alignment, loss decrease, generalization gap, each ≥ 0. Default 1, 1, 1.
    pub priorities: [f64; 3],
    /// Weights of the three terms under `MAW_WEIGHTING_FIXED`. Default 1, 1, 1.
    pub fixed_weights: [f64; 3],
    /// Start of HUW's three log-variances s. Default 0.
    pub huw_initial_log_var: f64,
    /// |s| is kept at or below this after each meta-update, ≥ 0; 0 = no limit, as the paper. Default 10.
    pub log_var_limit: f64,
    /// Relative size of the step for the Hessian product; 0 (default) = 6e-6 for float64 (forward: 1.5e-8), 3e-3 for float32,
    /// 3e-2 for 16-bit parameters.
    pub difference_scale: f64,
    /// Gradients are scaled down to this global norm as by torch's clip_grad_norm_; 0 (default) = no clipping.
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
    /// `MAW_WEIGHTING_…`, of the combined objective. Default `MAW_WEIGHTING_HUW`.
    pub weighting: i32,
    /// `MAW_KIND_…` of the three terms under HUW. Default `MAW_KIND_REGRESSION`.
    pub huw_kinds: [i32; 3],
    /// `MAW_DIFFERENCE_…`. Default `MAW_DIFFERENCE_CENTRAL`.
    pub difference: i32,
    /// `MAW_NONFINITE_…`. Default `MAW_NONFINITE_SKIP`.
    pub nonfinite: i32,
    /// `MAW_CPU` (default) or `MAW_CUDA`: where parameters, gradients and moments lie.
    pub device: i32,
    /// Index of the CUDA device; 0 on the CPU.
    pub device_index: i32,
    /// 1 (default): MetaAdamW. 0: alpha = beta = 1 always, no features, no meta-updates: plain AdamW.
    pub modulation: u32,
    /// 1 (default): the norm of the second moment is a feature. Not used by `MAW_FEATURES_ENHANCED`.
    pub use_v_norms: u32,
    /// 1 (default): the time step is a feature.
    pub include_time_step: u32,
    /// 1: each feature column is scaled by a learned gate. Default 0.
    pub use_feature_gating: u32,
    /// Columns of the learned group embedding, 1 to 4,096; `MAW_FEATURES_ENHANCED` only. Default 4.
    pub group_embed_dim: u32,
    /// Width D of a token, up to 65,536; 0 (default) = the features' own length. Rounded up to a multiple of `attn_heads`.
    pub feature_dim: u32,
    /// Heads of the encoder, 1 to 1,024. Default 6.
    pub attn_heads: u32,
    /// Layers of the encoder, 1 to 4,096. Default 8.
    pub attn_layers: u32,
    /// Width of the encoder's feed-forward layers, 1 to 65,536. Default 16.
    pub attn_hidden_dim: u32,
    /// Threads of a step, up to 1,024; 0 (default) = the cores at hand; 1 = the caller's thread only. Any number gives the same bits.
    pub threads: u32,
    /// 1: each step recomputes what could be carried over, and finds parameters that changed unannounced. Default 0.
    pub verify_params: u32,
}

/// Hyper-parameters that tensors share. `maw_param_group_init` fills the defaults.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct maw_param_group {
    /// `sizeof(maw_param_group)` of the caller; set by `maw_param_group_init`.
    pub struct_size: usize,
    /// Learning rate, ≥ 0. Default 5e-4 (the paper's).
    pub lr: f64,
    /// Decay of the first moment, 0 ≤ beta1 < 1. Default 0.9.
    pub beta1: f64,
    /// Decay of the second moment, 0 ≤ beta2 < 1. Default 0.999.
    pub beta2: f64,
    /// Added to the root of the second moment, > 0 in what the tensors are computed in. Default 1e-8.
    pub eps: f64,
    /// Decoupled weight decay, ≥ 0. Default 1e-2.
    pub weight_decay: f64,
    /// `MAW_PRECISION_…`: how 16-bit parameters keep precision; for other tensors `MAW_PRECISION_NEAREST`, the default.
    pub precision: i32,
    /// Of both moments: 0 (default) = float64 for float64 tensors, else float32; `MAW_FLOAT32`; or `MAW_BFLOAT16`, rounded
    /// by chance as under `MAW_PRECISION_STOCHASTIC`.
    pub moment_dtype: i32,
}

/// A parameter tensor as it is registered. `maw_tensor_init` zeroes it and sets `dtype` to `MAW_FLOAT32`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct maw_tensor {
    /// `sizeof(maw_tensor)` of the caller; set by `maw_tensor_init`.
    pub struct_size: usize,
    /// Unique in the optimizer: 1 to 1,024 bytes of UTF-8 without control characters, as in "layers.0.attn.weight". Copied.
    pub name: *const c_char,
    /// `ndim` lengths; may be NULL when `ndim` is 0 (a scalar of one element). A length may be 0. Copied.
    pub shape: *const u64,
    /// Under `MAW_GROUPING_CUSTOM`: the name of the tensor's modulation group (rules as for `name`). Else NULL. Copied.
    pub modulation_group: *const c_char,
    /// Number of dimensions, at most 64.
    pub ndim: u32,
    /// The parameter's dtype, `MAW_FLOAT32` …; float64 is computed in float64, all else in float32.
    pub dtype: i32,
    /// The gradient's dtype: 0 (default) = `dtype`, or any other.
    pub grad_dtype: i32,
    /// `MAW_LAYER_…`: what the tensor belongs to, where its name does not tell. Default `MAW_LAYER_UNKNOWN`.
    pub layer_kind: i32,
}

/// What a single step is told. `maw_step_options_init` fills the defaults.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct maw_step_options {
    /// `sizeof(maw_step_options)` of the caller; set by `maw_step_options_init`.
    pub struct_size: usize,
    /// The gradients are this many times too large (loss scaling); > 0. Default 1. A step that is captured into a CUDA graph
    /// keeps it: there use `device_grad_scale`.
    pub grad_scale: f64,
    /// 0 or `MAW_STEP_PARAMS_CHANGED`. Captured, it holds for every replay.
    pub flags: u32,
    /// Must be 0.
    pub reserved: u32,
    /// CUDA: a float in device memory that takes the place of `grad_scale`, read when the step runs; a value that is not
    /// finite or not above 0 skips the step (`MAW_SKIP_GRADIENT`), whatever `nonfinite` says. Must be NULL on the CPU,
    /// with `verify_params` and under `MAW_NONFINITE_ERROR`. Default NULL.
    pub device_grad_scale: *const f32,
    /// CUDA: a float in device memory, read when the step runs; the step is skipped (`MAW_SKIP_GRADIENT`) unless it is 0,
    /// whatever `nonfinite` says. NULL where `device_grad_scale` must be. Default NULL: the library's own check alone.
    pub found_inf: *const f32,
}

/// What a step did. `maw_step_report_init` sets `struct_size`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct maw_step_report {
    /// `sizeof(maw_step_report)` of the caller; set by `maw_step_report_init`.
    pub struct_size: usize,
    /// Applied steps so far, this one included.
    pub step: u64,
    /// Skipped steps so far, this one included.
    pub skipped_steps: u64,
    /// Euclidean norm of all gradients after `grad_scale`, before clipping.
    pub grad_norm: f64,
    /// What clipping multiplied the gradients by; 1 without clipping.
    pub clip_factor: f64,
    /// First tensor (in registration order) that is not finite, or `MAW_NO_TENSOR`.
    pub nonfinite_tensor: u64,
    /// 1 if the step was skipped, else 0.
    pub skipped: u32,
    /// `MAW_SKIP_…`.
    pub skip_reason: i32,
}

/// What the host is to evaluate next, at the parameters now in its buffers:
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
/// While a request is open, do not write to the parameters, and do not let the evaluations move anything that
/// later steps depend on (running statistics of a batch norm). `maw_meta_request_init` sets `struct_size`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct maw_meta_request {
    /// `sizeof(maw_meta_request)` of the caller; set by `maw_meta_request_init`.
    pub struct_size: usize,
    /// Number of this request, from 1 on, never used twice by a handle. 0 at `MAW_META_DONE`.
    pub id: u64,
    /// Number of an earlier request whose batch and random numbers (dropout) must be used again; 0 = free choice.
    pub replay: u64,
    /// `MAW_META_…`.
    pub kind: i32,
    /// `MAW_BATCH_…`; 0 at `MAW_META_DONE`.
    pub batch: i32,
}

/// What the host answers to a request. `maw_meta_answer_init` fills the defaults.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct maw_meta_answer {
    /// `sizeof(maw_meta_answer)` of the caller; set by `maw_meta_answer_init`.
    pub struct_size: usize,
    /// `maw_meta_request.id` of the request that is answered.
    pub request_id: u64,
    /// The plain loss (never scaled).
    pub loss: f64,
    /// The gradients are this many times too large; > 0. Default 1.
    pub grad_scale: f64,
}

/// How the last meta-update ended. Terms and losses that the objective does not need are NaN.
/// `maw_meta_result_init` sets `struct_size`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct maw_meta_result {
    /// `sizeof(maw_meta_result)` of the caller; set by `maw_meta_result_init`.
    pub struct_size: usize,
    /// Applied steps when it began.
    pub step: u64,
    /// Meta-updates that ended with `MAW_OUTCOME_UPDATED` so far.
    pub updates: u64,
    /// Loss on B1.
    pub loss_train: f64,
    /// Loss on the validation batch.
    pub loss_validation: f64,
    /// Loss on B2 at the moved parameters.
    pub loss_train_moved: f64,
    /// Loss on the validation batch at the moved parameters.
    pub loss_validation_moved: f64,
    /// Gradient alignment (eq. 10).
    pub term_gradient: f64,
    /// Loss decrease (eq. 11).
    pub term_loss_decrease: f64,
    /// Generalization gap (eq. 12).
    pub term_gen_gap: f64,
    /// The objective with its regularisation.
    pub loss_meta: f64,
    /// Evaluations that the host made.
    pub evaluations: u32,
    /// Modulation groups whose gradient on B2 is below 1e-5 of the largest group's.
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
