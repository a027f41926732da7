/// @file
///
/// # libmetaadamw: the MetaAdamW optimizer behind a C ABI
///
/// MetaAdamW (Zhao & Liu, arXiv:2605.04055) is AdamW whose learning rate and weight decay are modulated for each
/// group of parameters: a small attention module reads statistics of the gradients, moments and parameters of all
/// groups and answers with two factors for each, alpha (learning rate) and beta (weight decay), around 1. The module
/// itself is trained while the model is, by a meta-update now and then. The library sees buffers of parameters,
/// gradients and losses, never the model.
///
/// # The life of an optimizer
///
/// ```c
/// maw_optimizer *optimizer = NULL;
/// maw_error *error = NULL;                        /* every call may be checked: status != MAW_OK */
/// maw_options options;
/// maw_options_init(&options, sizeof options);     /* the defaults, then your changes */
/// options.total_steps = 10000;
/// maw_optimizer_create(&options, &optimizer, &error);
///
/// maw_param_group group;
/// maw_param_group_init(&group, sizeof group);
/// group.lr = 5e-4;
/// maw_add_param_group(optimizer, &group, tensors, n, NULL, &error);   /* names, shapes, dtypes */
///
/// for (uint64_t step = 0; step < 10000; step++) {
///     backward(params, grads);                    /* yours */
///     maw_step(optimizer, params, grads, n, NULL, NULL, &error);
///     if (maw_meta_due(optimizer))
///         meta_update();                          /* the loop that stands at maw_meta_request */
/// }
/// maw_optimizer_free(optimizer);
/// ```
///
/// # Ownership
///
/// - `maw_optimizer_create` gives an optimizer, which `maw_optimizer_free` takes back. A call that fails gives an
///   error object, which `maw_error_free` takes back. Nothing else needs freeing.
/// - Names, shapes and options are copied. No pointer of yours is kept after a call returns, except the log
///   callback and its user data.
/// - Parameters and gradients are handed to each call as arrays of pointers, one entry for each tensor in the order
///   of registration. The buffers are contiguous and aligned to their element; the parameters overlap neither each
///   other nor a gradient; addresses may change from call to call. A gradient that is NULL means: none this step.
///   A tensor without elements may have NULL.
/// - Strings handed out are lent: NUL-terminated UTF-8, unchanging, valid until the optimizer (or error) is freed.
/// - Names given are NUL-terminated UTF-8, 1 to 1,024 bytes without control characters.
/// - A pointer argument that is NULL where its function does not say "may be NULL" is `MAW_INVALID_ARGUMENT`. Any other
///   pointer must be valid for what its function says is read or written: no library can check that.
///
/// # Threads
///
/// An optimizer may move between threads, and different optimizers are independent. A second call on an optimizer
/// that is inside a call gets `MAW_BUSY` at once and does nothing, freeing included. Using an optimizer after it is
/// freed is undefined. There is no global state, and a host function (the log callback) runs on the calling thread
/// only, inside the call. A step may use several threads of its own (`maw_options.threads`); any number gives the
/// same bits.
///
/// # Errors
///
/// Functions that can fail answer a `maw_status`: `MAW_OK` (0), or a negative number. On failure outputs are
/// untouched and the optimizer is as it was. Their last argument `error`, which the init functions and freeing do not
/// have, may be NULL; else `*error` is set to NULL on entry (an error that was there is not freed) and to an object on
/// failure, which holds the status and a message that names the argument, tensor or group. A panic inside the library,
/// which would be a bug, is caught: that call and all later ones on the optimizer answer `MAW_PANIC`; freeing still
/// works. Nothing is printed.
///
/// # Versions
///
/// `MAW_ABI_VERSION` is the number in the shared object's SONAME. Under one ABI number a program keeps working with
/// every later library without being compiled again: functions and constants are added, never changed; numbers are
/// never used twice; structs grow at their end only. `maw_version` and `maw_abi_version` tell what is loaded.
///
/// # Structs that grow
///
/// Every struct begins with `struct_size`. Call `maw_X_init(&x, sizeof x)` first: it zeroes your struct and fills in
/// the defaults. Fields added later mean their default when 0. Given to the library, a struct shorter than version
/// 1's is `MAW_INVALID_ARGUMENT`; one longer than the library knows must be zero beyond that, else
/// `MAW_UNSUPPORTED`. The library writes the part of a struct that both know and zeroes the rest. In an array of
/// structs all elements have the `struct_size` of the first.
///
/// Generated from src/ffi by `make header`; not to be edited.


#ifndef METAADAMW_H
#define METAADAMW_H

#include <stddef.h>
#include <stdint.h>

#if UINTPTR_MAX != UINT64_MAX
#error "libmetaadamw is for 64-bit targets only"
#endif

/// The library's version as text.
#define MAW_VERSION "0.1.0"

/// Number of the ABI and of the shared object's name (libmetaadamw.so.1). Under one number functions, and fields whose
/// default is 0, may be added; nothing is taken away.
#define MAW_ABI_VERSION 1

/// First number of the library's version.
#define MAW_VERSION_MAJOR 0

/// Second number of the library's version.
#define MAW_VERSION_MINOR 1

/// Third number of the library's version.
#define MAW_VERSION_PATCH 0

/// Success.
#define MAW_OK 0

/// An argument is NULL, out of range, of the wrong count or otherwise unusable; the message names it.
#define MAW_INVALID_ARGUMENT (-1)

/// The call does not fit the state of the handle, for example a step while a meta-update is open.
#define MAW_INVALID_STATE (-2)

/// This version of the library cannot do what was asked.
#define MAW_UNSUPPORTED (-3)

/// Another call on the same handle is running (or this one comes from its log callback). Nothing was done.
#define MAW_BUSY (-4)

/// Not finite, under `MAW_NONFINITE_ERROR`: a gradient, parameter, moment, feature or factor.
#define MAW_NOT_FINITE (-5)

/// Memory ran out. The error object is a static one.
#define MAW_OUT_OF_MEMORY (-6)

/// A bug inside the library; the handle is poisoned: every later call but free and the error functions answers this.
#define MAW_PANIC (-7)

/// No tensor, group or entry of that name or index.
#define MAW_NOT_FOUND (-8)

/// `verify_params` is on and the parameters changed since the last step without `MAW_STEP_PARAMS_CHANGED`.
#define MAW_PARAMS_CHANGED (-9)

/// The operating system refused a file operation; the message says which.
#define MAW_IO (-10)

/// A checkpoint is damaged, or the file is none.
#define MAW_CORRUPT (-11)

/// A checkpoint belongs to another model or to other options; the message lists the first differences.
#define MAW_MISMATCH (-12)

/// The CUDA driver refused a call, or tells that a kernel failed; the message names the driver's function and its error.
/// After a kernel failed, the process cannot use the device any more.
#define MAW_CUDA_ERROR (-13)

/// 32-bit IEEE float.
#define MAW_FLOAT32 1

/// 64-bit IEEE float.
#define MAW_FLOAT64 2

/// bfloat16: the upper half of a 32-bit float. As `uint16_t`.
#define MAW_BFLOAT16 3

/// 16-bit IEEE float. As `uint16_t`.
#define MAW_FLOAT16 4

/// Each new value of a 16-bit parameter is rounded to nearest, and an update below half a unit of its last place is lost.
#define MAW_PRECISION_NEAREST 0

/// The library keeps float32 masters, which the updates move; the host's 16-bit parameter shows them, rounded to nearest.
/// 4 bytes more an element.
#define MAW_PRECISION_MASTER 1

/// The same float32 masters, bit for bit, in 2 + 2 bytes: the host's bfloat16 parameter, and in the library the 16 bits that
/// it lacks. bfloat16 only; 2 bytes more an element.
#define MAW_PRECISION_REMAINDER 2

/// Each new value of a 16-bit parameter is rounded up or down by chance, so that the mean is right: no more memory. The
/// chance depends on `maw_options.seed`, the tensor's name, its step and the element alone.
#define MAW_PRECISION_STOCHASTIC 3

/// Host memory.
#define MAW_CPU 0

/// CUDA device memory. Needs a driver for CUDA 11.8 or newer and a device of compute capability 7.0 or newer.
#define MAW_CUDA 1

/// The paper's equations.
#define MAW_PAPER 0

/// The authors' published program, where it differs from the paper.
#define MAW_REFERENCE 1

/// Mean norms of gradient, moments and parameters, mean cosine of gradient and momentum.
#define MAW_FEATURES_BASIC 0

/// `BASIC` and the standard deviations over the group's tensors.
#define MAW_FEATURES_BASIC_PLUS 1

/// Means and variances, shares of zeros, size, kind and depth of the tensors, a learned embedding.
#define MAW_FEATURES_ENHANCED 2

/// `BASIC`, each statistical column standardised over the groups.
#define MAW_FEATURES_NORM_BASIC 3

/// `BASIC_PLUS`, each statistical column standardised over the groups.
#define MAW_FEATURES_NORM_BASIC_PLUS 4

/// One modulation group for each (layer kind, depth bucket, bias or not), found from the tensors' names.
#define MAW_GROUPING_FINE_GRAINED 0

/// The modulation groups are the param groups.
#define MAW_GROUPING_BY_PARAM_GROUP 1

/// `maw_tensor.modulation_group` names the modulation group of each tensor.
#define MAW_GROUPING_CUSTOM 2

/// Every weight matrix Xavier-uniform.
#define MAW_INIT_XAVIER 0

/// The output projection starts at 0, so that alpha = beta = 1, that is AdamW, until the first meta-update.
#define MAW_INIT_IDENTITY 1

/// Gradient alignment, loss decrease and generalization gap together.
#define MAW_OBJECTIVE_COMBINED 0

/// Gradient alignment alone (eq. 10).
#define MAW_OBJECTIVE_GRADIENT 1

/// Loss decrease on the validation batch alone (eq. 11).
#define MAW_OBJECTIVE_LOSS_DECREASE 2

/// Generalization gap alone (eq. 12): does not depend on the attention module, which then moves by its regularisation only.
#define MAW_OBJECTIVE_GEN_GAP 3

/// Homoscedastic uncertainty weighting with the user's priorities (eq. 13).
#define MAW_WEIGHTING_HUW 0

/// The weights of `maw_options.fixed_weights`.
#define MAW_WEIGHTING_FIXED 1

/// The plain sum of the three terms.
#define MAW_WEIGHTING_SUM 2

/// HUW weighs the term by exp(-s)/2.
#define MAW_KIND_REGRESSION 0

/// HUW weighs the term by exp(-s).
#define MAW_KIND_CLASSIFICATION 1

/// Hessian-vector product by central differences: two more gradients on the second training batch.
#define MAW_DIFFERENCE_CENTRAL 0

/// By a forward difference: one more gradient.
#define MAW_DIFFERENCE_FORWARD 1

/// Counted as 0: no more gradients; alpha and beta learn nothing from the gradient alignment.
#define MAW_DIFFERENCE_FIRST_ORDER 2

/// A step with something not finite changes nothing but the count of skipped steps; the report says why.
#define MAW_NONFINITE_SKIP 0

/// Such a step fails with `MAW_NOT_FINITE` and changes nothing at all.
#define MAW_NONFINITE_ERROR 1

/// Nobody looks, as in PyTorch's AdamW: what is not finite spreads. Only with `modulation` = 0; saves a reading of the
/// gradients, and the report's `grad_norm` is NaN unless clipping needs it.
#define MAW_NONFINITE_PROPAGATE 2

/// The name says what the layer is, or nothing does.
#define MAW_LAYER_UNKNOWN 0

/// A linear (fully connected) layer.
#define MAW_LAYER_LINEAR 1

/// An embedding table.
#define MAW_LAYER_EMBEDDING 2

/// A part of an attention layer.
#define MAW_LAYER_ATTENTION 3

/// A part of a layer norm.
#define MAW_LAYER_LAYERNORM 4

/// Every param group, where a param group's index is asked for.
#define MAW_ALL_GROUPS UINT32_MAX

/// `maw_step_options.flags`: the host changed parameters since the last step, so that carried sums are recomputed.
#define MAW_STEP_PARAMS_CHANGED 1

/// `maw_step_report_fetch`: wait for every step that was enqueued.
#define MAW_FETCH_WAIT 1

/// `maw_reset`: first and second moments and step counts, of every tensor and of the optimizer, back to 0.
#define MAW_RESET_MOMENTS 1

/// `maw_reset`: the attention module back to its initial values.
#define MAW_RESET_ATTENTION 2

/// Saving and loading: the attention module alone.
#define MAW_ATTENTION_ONLY 1

/// Loading: options that only steer the future may differ; the file's hold afterwards.
#define MAW_LOAD_FILE_WINS 2

/// Loading: options that only steer the future may differ; the optimizer's own hold afterwards.
#define MAW_LOAD_OWN_WINS 4

/// `maw_step_report.skip_reason`: the step was applied.
#define MAW_SKIP_NONE 0

/// A gradient is not finite, or so large that the second moment or its norm would not be.
#define MAW_SKIP_GRADIENT 1

/// A parameter, or its norm, is not finite.
#define MAW_SKIP_PARAMETER 2

/// A first or second moment, or its norm, is not finite.
#define MAW_SKIP_MOMENT 3

/// A feature is not finite.
#define MAW_SKIP_FEATURE 4

/// A factor (alpha, beta, lambda1, lambda2) is not finite.
#define MAW_SKIP_FACTOR 5

/// `maw_step_report.nonfinite_tensor`: no tensor is to blame.
#define MAW_NO_TENSOR UINT64_MAX

/// Nothing more to evaluate; the host's parameters hold the exact bits they held at `maw_meta_begin`.
#define MAW_META_DONE 0

/// Evaluate the loss.
#define MAW_META_LOSS 1

/// Evaluate the loss and the gradients.
#define MAW_META_GRADIENT 2

/// The first training batch B1 (training mode).
#define MAW_BATCH_TRAIN_1 1

/// The second training batch B2, disjoint from B1 (training mode).
#define MAW_BATCH_TRAIN_2 2

/// The validation batch (evaluation mode).
#define MAW_BATCH_VALIDATION 3

/// `maw_meta_result.outcome`: no meta-update has ended yet.
#define MAW_OUTCOME_NONE 0

/// The attention module was updated.
#define MAW_OUTCOME_UPDATED 1

/// The host called `maw_meta_abort`.
#define MAW_OUTCOME_ABORTED 2

/// A loss that the host told is not finite.
#define MAW_OUTCOME_LOSS_NOT_FINITE 3

/// A gradient that the host told is not finite.
#define MAW_OUTCOME_GRADIENT_NOT_FINITE 4

/// A parameter, moment, feature, factor or moved parameter is not finite.
#define MAW_OUTCOME_STATE_NOT_FINITE 5

/// The direction w of the Hessian product is not finite, or its step vanished in rounding.
#define MAW_OUTCOME_DIRECTION_NOT_FINITE 6

/// The gradient of the attention module is not finite.
#define MAW_OUTCOME_META_GRADIENT_NOT_FINITE 7

/// `maw_log_callback`: something worth knowing.
#define MAW_LOG_INFO 1

/// `maw_log_callback`: something that probably was not meant.
#define MAW_LOG_WARNING 2

/// Bytes that the library made and the caller owns; freed with `maw_bytes_free`.
typedef struct maw_bytes maw_bytes;

/// Memory of a CUDA device, lent to a host that has no CUDA of its own. Opaque: created by `maw_device_buffer_create`,
/// freed by `maw_device_buffer_free`. One call at a time.
typedef struct maw_device_buffer maw_device_buffer;

/// Why a call failed: a status and a text that names the argument, what was expected and what came.
///
/// A function that fails stores one through its last parameter, unless that is NULL; the caller owns it and frees it
/// with `maw_error_free`. It belongs to no handle and to no thread.
typedef struct maw_error maw_error;

/// An optimizer. Opaque: created by `maw_optimizer_create`, freed by `maw_optimizer_free`.
///
/// It may move between threads, and different handles are independent. A call on a handle that is inside another call
/// answers `MAW_BUSY` at once and does nothing.
typedef struct maw_optimizer maw_optimizer;

/// What a call answers: `MAW_OK` (0) or a negative number, one of `MAW_INVALID_ARGUMENT` and the following.
typedef int32_t maw_status;

/// The optimizer's options, fixed at creation except where a setter exists. `maw_options_init` fills the defaults.
typedef struct {
    /// `sizeof(maw_options)` of the caller; set by `maw_options_init`.
    size_t struct_size;
    /// Seed of the attention module's initial values and of rounding by chance: the same on every platform. Default 0.
    uint64_t seed;
    /// Steps of the whole run for the time feature, or 0 if unknown (default): then 2·sigmoid(step/1000) − 1.
    uint64_t total_steps;
    /// Steps between two meta-updates, at least 1. Default 200.
    uint64_t meta_interval;
    /// First step at which a meta-update can be due. Default 0.
    uint64_t meta_warmup;
    /// Width of alpha's range around 1, 0 to 2: alpha in 1 ± range/2. Default 1.
    double alpha_range;
    /// Width of beta's range around 1, 0 to 2. Default 1.
    double beta_range;
    /// Learning rate of the attention module's SGD step, ≥ 0. Default 1e-4.
    double meta_lr;
    /// Weight of the norms of the attention module's tensors in the meta-objective, ≥ 0. Default 1e-4.
    double meta_weight_decay;
    /// Weight of the sum of |gate| in the meta-objective, ≥ 0; with `use_feature_gating`. Default 1e-4.
    double feature_gating_sparsity;
    /// HUW priorities p of gradient alignment, loss decrease, generalization gap, each ≥ 0. Default 1, 1, 1.
    double priorities[3];
    /// Weights of the three terms under `MAW_WEIGHTING_FIXED`. Default 1, 1, 1.
    double fixed_weights[3];
    /// Start of HUW's three log-variances s. Default 0.
    double huw_initial_log_var;
    /// |s| is kept at or below this after each meta-update, ≥ 0; 0 = no limit, as the paper. Default 10.
    double log_var_limit;
    /// Relative size of the step for the Hessian product; 0 (default) = 6e-6 for float64 (forward: 1.5e-8), 3e-3 for float32,
    /// 3e-2 for 16-bit parameters.
    double difference_scale;
    /// Gradients are scaled down to this global norm as by torch's clip_grad_norm_; 0 (default) = no clipping.
    double max_grad_norm;
    /// `MAW_PAPER` (default) or `MAW_REFERENCE`.
    int32_t semantics;
    /// `MAW_FEATURES_…`. Default `MAW_FEATURES_BASIC`.
    int32_t feature_version;
    /// `MAW_GROUPING_…`. Default `MAW_GROUPING_FINE_GRAINED`.
    int32_t grouping;
    /// `MAW_INIT_…`. Default `MAW_INIT_XAVIER`.
    int32_t init;
    /// `MAW_OBJECTIVE_…`. Default `MAW_OBJECTIVE_COMBINED`.
    int32_t objective;
    /// `MAW_WEIGHTING_…`, of the combined objective. Default `MAW_WEIGHTING_HUW`.
    int32_t weighting;
    /// `MAW_KIND_…` of the three terms under HUW. Default `MAW_KIND_REGRESSION`.
    int32_t huw_kinds[3];
    /// `MAW_DIFFERENCE_…`. Default `MAW_DIFFERENCE_CENTRAL`.
    int32_t difference;
    /// `MAW_NONFINITE_…`. Default `MAW_NONFINITE_SKIP`.
    int32_t nonfinite;
    /// `MAW_CPU` (default) or `MAW_CUDA`: where parameters, gradients and moments lie.
    int32_t device;
    /// Index of the CUDA device; 0 on the CPU.
    int32_t device_index;
    /// 1 (default): MetaAdamW. 0: alpha = beta = 1 always, no features, no meta-updates: plain AdamW.
    uint32_t modulation;
    /// 1 (default): the norm of the second moment is a feature. Not used by `MAW_FEATURES_ENHANCED`.
    uint32_t use_v_norms;
    /// 1 (default): the time step is a feature.
    uint32_t include_time_step;
    /// 1: each feature column is scaled by a learned gate. Default 0.
    uint32_t use_feature_gating;
    /// Columns of the learned group embedding, 1 to 4,096; `MAW_FEATURES_ENHANCED` only. Default 4.
    uint32_t group_embed_dim;
    /// Width D of a token, up to 65,536; 0 (default) = the features' own length. Rounded up to a multiple of `attn_heads`.
    uint32_t feature_dim;
    /// Heads of the encoder, 1 to 1,024. Default 6.
    uint32_t attn_heads;
    /// Layers of the encoder, 1 to 4,096. Default 8.
    uint32_t attn_layers;
    /// Width of the encoder's feed-forward layers, 1 to 65,536. Default 16.
    uint32_t attn_hidden_dim;
    /// Threads of a step, up to 1,024; 0 (default) = the cores at hand; 1 = the caller's thread only. Any number gives the same bits.
    uint32_t threads;
    /// 1: each step recomputes what could be carried over, and finds parameters that changed unannounced. Default 0.
    uint32_t verify_params;
} maw_options;

/// Hyper-parameters that tensors share. `maw_param_group_init` fills the defaults.
typedef struct {
    /// `sizeof(maw_param_group)` of the caller; set by `maw_param_group_init`.
    size_t struct_size;
    /// Learning rate, ≥ 0. Default 5e-4 (the paper's).
    double lr;
    /// Decay of the first moment, 0 ≤ beta1 < 1. Default 0.9.
    double beta1;
    /// Decay of the second moment, 0 ≤ beta2 < 1. Default 0.999.
    double beta2;
    /// Added to the root of the second moment, > 0 in what the tensors are computed in. Default 1e-8.
    double eps;
    /// Decoupled weight decay, ≥ 0. Default 1e-2.
    double weight_decay;
    /// `MAW_PRECISION_…`: how 16-bit parameters keep precision; for other tensors `MAW_PRECISION_NEAREST`, the default.
    int32_t precision;
    /// Of both moments: 0 (default) = float64 for float64 tensors, else float32; `MAW_FLOAT32`; or `MAW_BFLOAT16`, rounded
    /// by chance as under `MAW_PRECISION_STOCHASTIC`.
    int32_t moment_dtype;
} maw_param_group;

/// A parameter tensor as it is registered. `maw_tensor_init` zeroes it and sets `dtype` to `MAW_FLOAT32`.
typedef struct {
    /// `sizeof(maw_tensor)` of the caller; set by `maw_tensor_init`.
    size_t struct_size;
    /// Unique in the optimizer: 1 to 1,024 bytes of UTF-8 without control characters, as in "layers.0.attn.weight". Copied.
    const char *name;
    /// `ndim` lengths; may be NULL when `ndim` is 0 (a scalar of one element). A length may be 0. Copied.
    const uint64_t *shape;
    /// Under `MAW_GROUPING_CUSTOM`: the name of the tensor's modulation group (rules as for `name`). Else NULL. Copied.
    const char *modulation_group;
    /// Number of dimensions, at most 64.
    uint32_t ndim;
    /// The parameter's dtype, `MAW_FLOAT32` …; float64 is computed in float64, all else in float32.
    int32_t dtype;
    /// The gradient's dtype: 0 (default) = `dtype`, or any other.
    int32_t grad_dtype;
    /// `MAW_LAYER_…`: what the tensor belongs to, where its name does not tell. Default `MAW_LAYER_UNKNOWN`.
    int32_t layer_kind;
} maw_tensor;

/// What a single step is told. `maw_step_options_init` fills the defaults.
typedef struct {
    /// `sizeof(maw_step_options)` of the caller; set by `maw_step_options_init`.
    size_t struct_size;
    /// The gradients are this many times too large (loss scaling); > 0. Default 1. A step that is captured into a CUDA graph
    /// keeps it: there use `device_grad_scale`.
    double grad_scale;
    /// 0 or `MAW_STEP_PARAMS_CHANGED`. Captured, it holds for every replay.
    uint32_t flags;
    /// Must be 0.
    uint32_t reserved;
    /// CUDA: a float in device memory that takes the place of `grad_scale`, read when the step runs; a value that is not
    /// finite or not above 0 skips the step (`MAW_SKIP_GRADIENT`), whatever `nonfinite` says. Must be NULL on the CPU,
    /// with `verify_params` and under `MAW_NONFINITE_ERROR`. Default NULL.
    const float *device_grad_scale;
    /// CUDA: a float in device memory, read when the step runs; the step is skipped (`MAW_SKIP_GRADIENT`) unless it is 0,
    /// whatever `nonfinite` says. NULL where `device_grad_scale` must be. Default NULL: the library's own check alone.
    const float *found_inf;
} maw_step_options;

/// What a step did. `maw_step_report_init` sets `struct_size`.
typedef struct {
    /// `sizeof(maw_step_report)` of the caller; set by `maw_step_report_init`.
    size_t struct_size;
    /// Applied steps so far, this one included.
    uint64_t step;
    /// Skipped steps so far, this one included.
    uint64_t skipped_steps;
    /// Euclidean norm of all gradients after `grad_scale`, before clipping.
    double grad_norm;
    /// What clipping multiplied the gradients by; 1 without clipping.
    double clip_factor;
    /// First tensor (in registration order) that is not finite, or `MAW_NO_TENSOR`.
    uint64_t nonfinite_tensor;
    /// 1 if the step was skipped, else 0.
    uint32_t skipped;
    /// `MAW_SKIP_…`.
    int32_t skip_reason;
} maw_step_report;

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
typedef struct {
    /// `sizeof(maw_meta_request)` of the caller; set by `maw_meta_request_init`.
    size_t struct_size;
    /// Number of this request, from 1 on, never used twice by a handle. 0 at `MAW_META_DONE`.
    uint64_t id;
    /// Number of an earlier request whose batch and random numbers (dropout) must be used again; 0 = free choice.
    uint64_t replay;
    /// `MAW_META_…`.
    int32_t kind;
    /// `MAW_BATCH_…`; 0 at `MAW_META_DONE`.
    int32_t batch;
} maw_meta_request;

/// What the host answers to a request. `maw_meta_answer_init` fills the defaults.
typedef struct {
    /// `sizeof(maw_meta_answer)` of the caller; set by `maw_meta_answer_init`.
    size_t struct_size;
    /// `maw_meta_request.id` of the request that is answered.
    uint64_t request_id;
    /// The plain loss (never scaled).
    double loss;
    /// The gradients are this many times too large; > 0. Default 1.
    double grad_scale;
} maw_meta_answer;

/// How the last meta-update ended. Terms and losses that the objective does not need are NaN.
/// `maw_meta_result_init` sets `struct_size`.
typedef struct {
    /// `sizeof(maw_meta_result)` of the caller; set by `maw_meta_result_init`.
    size_t struct_size;
    /// Applied steps when it began.
    uint64_t step;
    /// Meta-updates that ended with `MAW_OUTCOME_UPDATED` so far.
    uint64_t updates;
    /// Loss on B1.
    double loss_train;
    /// Loss on the validation batch.
    double loss_validation;
    /// Loss on B2 at the moved parameters.
    double loss_train_moved;
    /// Loss on the validation batch at the moved parameters.
    double loss_validation_moved;
    /// Gradient alignment (eq. 10).
    double term_gradient;
    /// Loss decrease (eq. 11).
    double term_loss_decrease;
    /// Generalization gap (eq. 12).
    double term_gen_gap;
    /// The objective with its regularisation.
    double loss_meta;
    /// Evaluations that the host made.
    uint32_t evaluations;
    /// Modulation groups whose gradient on B2 is below 1e-5 of the largest group's.
    uint32_t idle_groups;
    /// `MAW_OUTCOME_…`.
    int32_t outcome;
    /// 0.
    uint32_t reserved;
} maw_meta_result;

/// Receives a handle's messages on the thread that is inside the call that caused them.
///
/// `message` is NUL-terminated UTF-8 and valid during the callback only. The callback must not unwind (no C++
/// exception, no longjmp); calls on the same handle from inside it get `MAW_BUSY`.
typedef void (*maw_log_callback)(int32_t level, const char *message, void *user_data);

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/// The library's version as text, "0.1.0". Static; never NULL.
const char *maw_version(void);

/// `MAW_ABI_VERSION` of the library that is loaded; a program compares it with its header's.
uint32_t maw_abi_version(void);

/// The name of a status, "MAW_BUSY", or "unknown status". Static; never NULL.
const char *maw_status_name(maw_status status);

/// Fills the defaults of options. `size` is the caller's `sizeof(maw_options)`.
///
/// `MAW_OK`; `MAW_INVALID_ARGUMENT` for NULL or a size below version 1's, and nothing is written then. Any thread.
maw_status maw_options_init(maw_options *options, size_t size);

/// Fills the defaults of a param group. As `maw_options_init`.
maw_status maw_param_group_init(maw_param_group *group, size_t size);

/// Fills the defaults of a tensor's description. As `maw_options_init`.
maw_status maw_tensor_init(maw_tensor *tensor, size_t size);

/// Fills the defaults of a step's options. As `maw_options_init`.
maw_status maw_step_options_init(maw_step_options *options, size_t size);

/// Zeroes a step's report and sets its size. As `maw_options_init`.
maw_status maw_step_report_init(maw_step_report *report, size_t size);

/// Zeroes a request and sets its size. As `maw_options_init`.
maw_status maw_meta_request_init(maw_meta_request *request, size_t size);

/// Fills the defaults of an answer. As `maw_options_init`.
maw_status maw_meta_answer_init(maw_meta_answer *answer, size_t size);

/// Zeroes a meta-update's result and sets its size. As `maw_options_init`.
maw_status maw_meta_result_init(maw_meta_result *result, size_t size);

/// Creates an optimizer without tensors.
///
/// `options`: NULL for all defaults. `optimizer`: out, freed with `maw_optimizer_free`; untouched on failure.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT` names the field that is not usable; `MAW_UNSUPPORTED` for a device or a field of a
/// newer header. Any thread.
maw_status maw_optimizer_create(const maw_options *options, maw_optimizer **optimizer, maw_error **error);

/// Frees an optimizer and all that it lent; does nothing for NULL.
///
/// `MAW_OK`; `MAW_BUSY` while another call runs, and nothing is freed then; `MAW_INVALID_ARGUMENT` for a handle that was
/// freed before, where that can be told. A meta-update that is open leaves the host's parameters where they are: call
/// `maw_meta_abort` first. On CUDA the stream's work is waited for, so it must not be being captured, and a graph with a
/// step of this optimizer must not be replayed afterwards.
maw_status maw_optimizer_free(maw_optimizer *optimizer);

/// Registers tensors that share hyper-parameters.
///
/// `tensors`: `count` descriptions, at least one; names and shapes are copied. Each later call passes one pointer for
/// every registered tensor, in the order of registration over all groups. `index`: out, the group's number from 0 on;
/// may be NULL.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT` names the field, and the tensor that it does not suit, or both groups of a duplicate
/// name; `MAW_UNSUPPORTED` for a field of a newer header;
/// `MAW_INVALID_STATE` after registration ended. On failure none of the tensors is registered.
maw_status maw_add_param_group(maw_optimizer *optimizer,
                               const maw_param_group *group,
                               const maw_tensor *tensors,
                               size_t count,
                               uint32_t *index,
                               maw_error **error);

/// Ends registration: forms the modulation groups, draws the attention module from the seed, allocates everything.
///
/// The first step or meta-update does it by itself; a second call does nothing. Afterwards a step with `threads` = 1
/// allocates nothing. Memory: two moments of float32 (float64 for float64 tensors; bfloat16 where the group says so),
/// masters or remainders where the group has them, and little more.
/// `MAW_OK`; `MAW_INVALID_STATE` without tensors or while a meta-update is open; `MAW_INVALID_ARGUMENT` for a
/// `feature_dim` below the features' length; `MAW_OUT_OF_MEMORY`. On failure registration stays open.
maw_status maw_prepare(maw_optimizer *optimizer, maw_error **error);

/// One step: updates, in place, every parameter whose gradient is given.
///
/// `params`, `grads`: `count` pointers each, one a tensor in registration order, to contiguous elements of the tensor's
/// `dtype` and `grad_dtype`, aligned to them; `count` must be the number of registered tensors. A NULL gradient: none in this step, the
/// tensor is not updated and counts as 0 in the features. A tensor without elements may have NULL. Parameters overlap
/// neither each other nor a gradient. No pointer is kept; addresses may differ from call to call.
/// On CUDA they are pointers to memory of the handle's device, managed memory included, and the step is enqueued on the
/// handle's stream. A pointer is looked up when it is new to its tensor and not again: if that memory was freed and the
/// host has other memory there now, a kernel fails, or worse. A step captured into a CUDA graph keeps its pointers.
/// `options`: may be NULL. `report`: out, may be NULL; untouched on failure.
/// `MAW_OK`, also for a step that was skipped because something is not finite (the report says what);
/// `MAW_NOT_FINITE` instead under `MAW_NONFINITE_ERROR`; `MAW_INVALID_ARGUMENT` names the pointer;
/// `MAW_INVALID_STATE` while a meta-update is open; `MAW_PARAMS_CHANGED` under `verify_params`. On failure nothing is
/// changed.
maw_status maw_step(maw_optimizer *optimizer,
                    void *const *params,
                    const void *const *grads,
                    size_t count,
                    const maw_step_options *options,
                    maw_step_report *report,
                    maw_error **error);

/// The report of a step after it was enqueued: on CUDA a step runs later, and `maw_step` waits for it only if it is
/// given a report. Counts tell which step it is of: `step` + `skipped_steps` steps were made.
///
/// `flags`: 0 = of the newest step that is decided by now, without waiting; `MAW_FETCH_WAIT` = of the last that was
/// enqueued, or replayed in a CUDA graph, on the handle's stream; no other stream is waited for. On the CPU both are the
/// last step's. `report`: out; untouched on failure.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_INVALID_STATE` before any step is decided, and with `MAW_FETCH_WAIT` while the
/// stream is being captured; `MAW_CUDA_ERROR`.
maw_status maw_step_report_fetch(maw_optimizer *optimizer,
                                 uint32_t flags,
                                 maw_step_report *report,
                                 maw_error **error);

/// Announces a gradient as soon as the backward pass has it, while it is still in the cache: the next step then need
/// not read it ahead of the update. Optional, and the same bits either way.
///
/// `tensor`: its number in registration order. `gradient`: as in `maw_step`, not NULL, final: it must be unchanged when
/// it is passed to the step. Not kept. A second call for a tensor replaces the first; any call but this one, the step
/// and getters discards what was announced.
/// `MAW_OK`; `MAW_NOT_FOUND`; `MAW_INVALID_ARGUMENT`; `MAW_INVALID_STATE` while a meta-update is open.
maw_status maw_observe_gradient(maw_optimizer *optimizer, size_t tensor, const void *gradient, maw_error **error);

/// Sets the learning rate of one param group, or of every one for `MAW_ALL_GROUPS`. Takes effect at the next step.
///
/// `lr`: finite, ≥ 0.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_NOT_FOUND`; `MAW_INVALID_STATE` while a meta-update is open.
maw_status maw_set_lr(maw_optimizer *optimizer, uint32_t group, double lr, maw_error **error);

/// Sets the weight decay of one param group, or of every one for `MAW_ALL_GROUPS`. As `maw_set_lr`.
maw_status maw_set_weight_decay(maw_optimizer *optimizer, uint32_t group, double weight_decay, maw_error **error);

/// Sets HUW's priorities of gradient alignment, loss decrease and generalization gap. Takes effect at the next meta-update.
///
/// `priorities`: three numbers, each finite and ≥ 0; copied.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_INVALID_STATE` while a meta-update is open.
maw_status maw_set_priorities(maw_optimizer *optimizer,
                              const double *priorities,
                              maw_error **error);

/// Starts anew.
///
/// `what`: `MAW_RESET_MOMENTS` (moments and all step counts), `MAW_RESET_ATTENTION` (the attention module as the seed
/// made it), or both.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT` for 0 or other bits; `MAW_INVALID_STATE` before preparation or while a meta-update is
/// open.
maw_status maw_reset(maw_optimizer *optimizer,
                     uint32_t what,
                     maw_error **error);

/// The CUDA stream (`CUstream`, `cudaStream_t`) on which every later call of this handle enqueues its work, setters
/// included; NULL (the start) is the legacy default stream. On the CPU it must stay NULL.
///
/// The stream is the host's: it must live as long as it is set. What this handle enqueued on the stream that it leaves is
/// waited for. Setters, getters and `MAW_FETCH_WAIT` come after what is on this stream and know of no other: a graph with
/// a step of this handle is replayed here, or the host orders the streams by events of its own.
/// `MAW_OK`; `MAW_UNSUPPORTED` for a stream on the CPU; `MAW_INVALID_STATE` with work in a capture of the stream that is
/// left; `MAW_CUDA_ERROR` for what is no stream.
maw_status maw_set_stream(maw_optimizer *optimizer,
                          void *stream,
                          maw_error **error);

/// Hears this handle's messages from now on: skipped steps, abandoned meta-updates, options that are probably not meant.
///
/// `callback`: NULL silences. It runs on the thread of the call that caused the message, must not unwind, and gets
/// `MAW_BUSY` from calls on the same handle. `user_data`: passed on, not touched; it must stay valid, and usable from
/// whichever thread calls, until another callback is set or the handle is freed.
/// `MAW_OK`; `MAW_INVALID_STATE` while a meta-update is open.
maw_status maw_set_log(maw_optimizer *optimizer,
                       maw_log_callback callback,
                       void *user_data,
                       maw_error **error);

/// 1 if a meta-update should be made now, else 0 (also for NULL, a busy and a poisoned handle).
///
/// Due: `step` ≥ `meta_warmup`, `step` a multiple of `meta_interval` and not 0, and no meta-update was done, aborted or
/// abandoned at this `step`. On CUDA it waits for the steps that were enqueued if the answer could be 1 after them.
uint32_t maw_meta_due(const maw_optimizer *optimizer);

/// Begins a meta-update, due or not, and says what to evaluate first.
///
/// `params`: as in `maw_step`; copied, and written to from now on. `request`: out; its comment shows the loop.
/// Memory during a meta-update: a copy of the parameters and up to two of the gradients. Afterwards it is the system's
/// to take when it needs some (`MADV_FREE`; such pages count as resident until then), and the next meta-update's.
/// `MAW_OK`, also when the state is not finite and the request is `MAW_META_DONE` at once; `MAW_INVALID_ARGUMENT`;
/// `MAW_INVALID_STATE` when one is open or modulation is off; `MAW_PARAMS_CHANGED` under `verify_params`;
/// `MAW_OUT_OF_MEMORY`. On failure nothing is begun.
maw_status maw_meta_begin(maw_optimizer *optimizer,
                          void *const *params,
                          size_t count,
                          maw_meta_request *request,
                          maw_error **error);

/// Answers the open request and says what to evaluate next.
///
/// `answer`: the request's id, the loss, and the scale of the gradients. `params`: as in `maw_step`; written, not read.
/// `grads`: as in `maw_step`; NULL is allowed where only the loss was asked for. `request`: out.
/// A loss, a gradient or a direction that is not finite abandons the meta-update: the parameters are put back, the
/// attention module stays, the request is `MAW_META_DONE` and the result says why.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT` for a wrong or repeated id and for unusable pointers: the request stays open and
/// nothing is written; `MAW_INVALID_STATE` when none is open.
maw_status maw_meta_tell(maw_optimizer *optimizer,
                         const maw_meta_answer *answer,
                         void *const *params,
                         const void *const *grads,
                         size_t count,
                         maw_meta_request *request,
                         maw_error **error);

/// Ends the open meta-update: the parameters hold the exact bits of before, the attention module stays.
///
/// `params`: as in `maw_step`.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_INVALID_STATE` when none is open.
maw_status maw_meta_abort(maw_optimizer *optimizer, void *const *params, size_t count, maw_error **error);

/// How the last meta-update ended; before the first one `MAW_OUTCOME_NONE`.
///
/// `result`: out.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_INVALID_STATE` before preparation.
maw_status maw_meta_result_get(const maw_optimizer *optimizer, maw_meta_result *result, maw_error **error);

/// Derivatives of the meta-objective (regularisation included) in the last meta-update that was completed.
///
/// `name`: a tensor of the attention module, or "alpha", "beta", "lambda1", "lambda2" (one value a modulation group).
/// `values`: out, `count` doubles, row-major; `count` must be the tensor's size.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_NOT_FOUND`; `MAW_INVALID_STATE` before the first.
maw_status maw_meta_gradient(const maw_optimizer *optimizer,
                             const char *name,
                             double *values,
                             size_t count,
                             maw_error **error);

/// The learning rate of a param group as it is now.
///
/// `lr`: out. `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_NOT_FOUND`.
maw_status maw_get_lr(const maw_optimizer *optimizer, uint32_t group, double *lr, maw_error **error);

/// The weight decay of a param group as it is now.
///
/// `weight_decay`: out. `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_NOT_FOUND`.
maw_status maw_get_weight_decay(const maw_optimizer *optimizer,
                                uint32_t group,
                                double *weight_decay,
                                maw_error **error);

/// HUW's priorities as they are now.
///
/// `priorities`: out, three doubles. `MAW_OK`; `MAW_INVALID_ARGUMENT`.
maw_status maw_get_priorities(const maw_optimizer *optimizer, double *priorities, maw_error **error);

/// Applied steps so far; skipped ones do not count.
///
/// `steps`: out. `MAW_OK`; `MAW_INVALID_ARGUMENT`.
maw_status maw_step_count(const maw_optimizer *optimizer, uint64_t *steps, maw_error **error);

/// Param groups registered so far.
///
/// `count`: out. `MAW_OK`; `MAW_INVALID_ARGUMENT`.
maw_status maw_param_group_count(const maw_optimizer *optimizer, size_t *count, maw_error **error);

/// Tensors registered so far.
///
/// `count`: out. `MAW_OK`; `MAW_INVALID_ARGUMENT`.
maw_status maw_tensor_count(const maw_optimizer *optimizer, size_t *count, maw_error **error);

/// The name of a tensor.
///
/// `tensor`: its number in registration order. `name`: out, borrowed: unchanging, valid until the handle is freed.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_NOT_FOUND`.
maw_status maw_tensor_name(const maw_optimizer *optimizer, size_t tensor, const char **name, maw_error **error);

/// The modulation group of a tensor.
///
/// `tensor`: its number in registration order. `group`: out.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_NOT_FOUND`; `MAW_INVALID_STATE` before preparation.
maw_status maw_tensor_group(const maw_optimizer *optimizer, size_t tensor, size_t *group, maw_error **error);

/// Modulation groups: tokens of the attention module.
///
/// `count`: out. `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_INVALID_STATE` before preparation.
maw_status maw_group_count(const maw_optimizer *optimizer, size_t *count, maw_error **error);

/// The name of a modulation group: "attention.shallow.weight" (kind, depth, bias or weight), "param_group.0", or what the
/// host called it.
///
/// `group`: its number. `name`: out, borrowed: unchanging, valid until the handle is freed.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_NOT_FOUND`; `MAW_INVALID_STATE` before preparation.
maw_status maw_group_name(const maw_optimizer *optimizer,
                          size_t group,
                          const char **name,
                          maw_error **error);

/// What scaled each modulation group: of the last applied step or begun meta-update, whichever came last. With
/// modulation off all are 1.
///
/// `alpha` (learning rate), `beta` (weight decay), `lambda1`, `lambda2` (of eq. 10): out, `count` doubles each, any of
/// them NULL if not wanted; `count` must be the number of modulation groups.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_INVALID_STATE` before the first step.
maw_status maw_factors(const maw_optimizer *optimizer,
                       double *alpha,
                       double *beta,
                       double *lambda1,
                       double *lambda2,
                       size_t count,
                       maw_error **error);

/// D, the width of a token of the attention module: columns of `maw_features`.
///
/// `dim`: out. `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_INVALID_STATE` before preparation or with modulation off.
maw_status maw_feature_dim(const maw_optimizer *optimizer, size_t *dim, maw_error **error);

/// The features that the attention module read, before standardisation and gating: of the last applied step or begun
/// meta-update, whichever came last.
///
/// `features`: out, row-major, one row a modulation group, `maw_feature_dim` columns; `count` must be their product.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_INVALID_STATE` before the first step or with modulation off.
maw_status maw_features(const maw_optimizer *optimizer, double *features, size_t count, maw_error **error);

/// Tensors of the attention module; 0 with modulation off.
///
/// `count`: out. `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_INVALID_STATE` before preparation.
maw_status maw_attention_count(const maw_optimizer *optimizer, size_t *count, maw_error **error);

/// The name of a tensor of the attention module, as torch names it in a TransformerEncoder:
/// "encoder.layers.0.self_attn.in_proj_weight" …, then "output_proj.weight", "output_proj.bias", and where used
/// "group_embeddings", "feature_gates", "log_vars".
///
/// `index`: its number. `name`: out, borrowed: unchanging, valid until the handle is freed.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_NOT_FOUND`; `MAW_INVALID_STATE` before preparation.
maw_status maw_attention_name(const maw_optimizer *optimizer, size_t index, const char **name, maw_error **error);

/// The shape of a tensor of the attention module.
///
/// `index`: its number. `rows`, `columns`: out; a vector has one column.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_NOT_FOUND`; `MAW_INVALID_STATE` before preparation.
maw_status maw_attention_shape(const maw_optimizer *optimizer,
                               size_t index,
                               uint64_t *rows,
                               uint64_t *columns,
                               maw_error **error);

/// Copies a tensor of the attention module.
///
/// `name`: as `maw_attention_name` tells. `values`: out, `count` doubles, row-major; `count` must be its size.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_NOT_FOUND`; `MAW_INVALID_STATE` before preparation.
maw_status maw_attention_get(const maw_optimizer *optimizer,
                             const char *name,
                             double *values,
                             size_t count,
                             maw_error **error);

/// Sets a tensor of the attention module; the next step uses it.
///
/// `name`: as `maw_attention_name` tells. `values`: `count` finite doubles, row-major, copied; `count` must be its size.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_NOT_FOUND`; `MAW_INVALID_STATE` before preparation or while a meta-update is
/// open. On failure nothing is changed.
maw_status maw_attention_set(maw_optimizer *optimizer,
                             const char *name,
                             const double *values,
                             size_t count,
                             maw_error **error);

/// The first byte; NULL for NULL. Borrowed: valid until the object is freed. JSON has a NUL behind its last byte.
const uint8_t *maw_bytes_data(const maw_bytes *bytes);

/// The number of bytes, without the NUL behind JSON; 0 for NULL.
size_t maw_bytes_size(const maw_bytes *bytes);

/// Frees bytes; does nothing for NULL. Any thread, once.
void maw_bytes_free(maw_bytes *bytes);

/// Saves the run to a safetensors file: moments, step counts, the attention module, options, hyper-parameters as they are
/// now, counters. The parameters are the host's to save. Prepares an optimizer that is not.
///
/// `path`: NUL-terminated; its folder must exist. `flags`: 0, or `MAW_ATTENTION_ONLY` for the attention module alone.
/// Durable: written beside the old file, synced, renamed over it, and the folder synced. Whatever fails, the file is the
/// old one or the new one. A symbolic link is followed; permissions are kept. The format: docs/checkpoint_format.md.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_IO` says which operation failed; `MAW_INVALID_STATE` while a meta-update is open.
maw_status maw_save_file(maw_optimizer *optimizer,
                         const char *path,
                         uint32_t flags,
                         maw_error **error);

/// As `maw_save_file`, into memory.
///
/// `bytes`: out, freed with `maw_bytes_free`; untouched on failure.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_INVALID_STATE` while a meta-update is open.
maw_status maw_save_bytes(maw_optimizer *optimizer, uint32_t flags, maw_bytes **bytes, maw_error **error);

/// Loads a run that any language saved into an optimizer with the same tensors, registered in any order; a run that is
/// trained on equals the uninterrupted one bit for bit if the order is the same. Prepares an optimizer that is not.
///
/// `path`: NUL-terminated. `flags`: 0 = names, shapes, dtypes, param groups, modulation groups and options must be equal;
/// `MAW_LOAD_FILE_WINS` or `MAW_LOAD_OWN_WINS` allow options that only steer the future to differ (hyper-parameters of
/// param groups, ranges, intervals, the meta-objective's weights and priorities, clipping …) and say whose hold
/// afterwards; `MAW_ATTENTION_ONLY`: nothing but the attention module is loaded, from either kind of file, and what it
/// reads must be equal (feature columns, heads, the shapes of its tensors; with embeddings the groups).
/// `threads` and `verify_params` are not saved. The file must not be written to meanwhile.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_IO`; `MAW_CORRUPT` for a damaged file (a checksum covers all of it) or another
/// kind of file; `MAW_UNSUPPORTED` for another format version; `MAW_MISMATCH` lists the first differences;
/// `MAW_INVALID_STATE` while a meta-update is open, and under `MAW_LOAD_FILE_WINS` after a step was captured into a CUDA
/// graph whose replays could not follow the file's options: under a file with clipping or checks where it was captured
/// without any, or with `MAW_NONFINITE_ERROR`. Everything is checked before anything is changed; only if the disk
/// fails between the check and the second reading is the optimizer reset.
maw_status maw_load_file(maw_optimizer *optimizer,
                         const char *path,
                         uint32_t flags,
                         maw_error **error);

/// As `maw_load_file`, from memory.
///
/// `data`: `size` bytes; not kept.
maw_status maw_load_bytes(maw_optimizer *optimizer,
                          const uint8_t *data,
                          size_t size,
                          uint32_t flags,
                          maw_error **error);

/// What the optimizer is doing, as JSON (docs/state.md is its schema): options, param groups, modulation groups with their
/// tensors, features and factors, meta-updates, uncertainty weights, skipped steps and why, time by part. Works while a
/// meta-update is open. Prepares an optimizer that is not.
///
/// `json`: out, UTF-8, freed with `maw_bytes_free`; untouched on failure.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_INVALID_STATE` without tensors.
maw_status maw_dump_state(maw_optimizer *optimizer,
                          maw_bytes **json,
                          maw_error **error);

/// Copies the moments and the step count of one tensor, so that a run can move to another Adam.
///
/// `tensor`: its number in registration order. `exp_avg`, `exp_avg_sq`: out, `count` floats, or doubles for a float64 tensor,
/// whatever the moments' own dtype; may be NULL if not wanted. `step`: out, updates of this tensor so far; may be NULL.
/// `MAW_OK`; `MAW_NOT_FOUND`; `MAW_INVALID_ARGUMENT`; `MAW_INVALID_STATE` before preparation or while a meta-update is open;
/// `MAW_CUDA_ERROR`. On failure nothing is written.
maw_status maw_tensor_state_get(maw_optimizer *optimizer,
                                size_t tensor,
                                void *exp_avg,
                                void *exp_avg_sq,
                                size_t count,
                                uint64_t *step,
                                maw_error **error);

/// Sets the moments and the step count of one tensor, so that a run can move here from another Adam. The optimizer's own
/// step count becomes at least `step`. Prepares an optimizer that is not.
///
/// `tensor`: its number in registration order. `exp_avg`, `exp_avg_sq`: `count` floats, or doubles for a float64 tensor, finite,
/// the second ≥ 0; copied, and rounded to nearest where the moments are bfloat16. `step`: updates of this tensor so far, at most 2^53.
/// `MAW_OK`; `MAW_NOT_FOUND`; `MAW_INVALID_ARGUMENT` names the value; `MAW_INVALID_STATE` while a meta-update is open. On
/// failure nothing is changed.
maw_status maw_tensor_state_set(maw_optimizer *optimizer,
                                size_t tensor,
                                const void *exp_avg,
                                const void *exp_avg_sq,
                                size_t count,
                                uint64_t step,
                                maw_error **error);

/// Sets the float32 masters of one tensor, so that a run can start from float32 weights, and writes the 16-bit parameter that
/// shows them. Under `MAW_PRECISION_MASTER` or `MAW_PRECISION_REMAINDER`. Prepares an optimizer that is not.
///
/// `tensor`: its number in registration order. `values`: `count` finite floats, copied; `count` must be the number of its
/// elements. `param`: out, the host's parameter as in `maw_step`.
/// `MAW_OK`; `MAW_NOT_FOUND`, also for a tensor without masters; `MAW_INVALID_ARGUMENT` names the value; `MAW_INVALID_STATE`
/// while a meta-update is open. On failure nothing is changed.
maw_status maw_master_set(maw_optimizer *optimizer,
                          size_t tensor,
                          const float *values,
                          void *param,
                          size_t count,
                          maw_error **error);

/// Copies the float32 masters of one tensor, under `MAW_PRECISION_MASTER` or `MAW_PRECISION_REMAINDER`.
///
/// `tensor`: its number in registration order. `param`: the host's parameter as in `maw_step`, read under
/// `MAW_PRECISION_REMAINDER`, whose masters are half in it; else it may be NULL. `values`: out, `count` floats; `count` must be
/// the number of its elements.
/// `MAW_OK`; `MAW_NOT_FOUND`, also for a tensor without masters; `MAW_INVALID_ARGUMENT`; `MAW_INVALID_STATE` before they have
/// begun (with the first step, as the widened parameters, or with `maw_master_set`) or while a meta-update is open;
/// `MAW_CUDA_ERROR`. On failure nothing is written.
maw_status maw_master_get(maw_optimizer *optimizer,
                          size_t tensor,
                          const void *param,
                          float *values,
                          size_t count,
                          maw_error **error);

/// 1 if there is a CUDA device that an optimizer can be created on, else 0. Any thread.
uint32_t maw_cuda_available(void);

/// Allocates device memory, all zeros.
///
/// `device_index`: number of the CUDA device. `bytes`: its size; 0 is allowed. `buffer`: out, freed with
/// `maw_device_buffer_free`; untouched on failure.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_UNSUPPORTED` without a CUDA driver or device that will do;
/// `MAW_OUT_OF_MEMORY`; `MAW_CUDA_ERROR`. Any thread.
maw_status maw_device_buffer_create(int32_t device_index, size_t bytes, maw_device_buffer **buffer, maw_error **error);

/// Copies host memory into a buffer, after the work that was enqueued before on the legacy default stream (an
/// optimizer's, unless `maw_set_stream` was called), and waits for it.
///
/// `offset`: where in the buffer, in bytes. `data`: `bytes` bytes; may be NULL when there are none.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`, also for a part that reaches beyond the buffer; `MAW_CUDA_ERROR`.
maw_status maw_device_buffer_upload(maw_device_buffer *buffer,
                                    size_t offset,
                                    const void *data,
                                    size_t bytes,
                                    maw_error **error);

/// Copies a buffer into host memory, after the work that was enqueued before on the legacy default stream, and waits.
///
/// As `maw_device_buffer_upload`; `data`: out. After MAW_CUDA_ERROR it may hold a part.
maw_status maw_device_buffer_download(const maw_device_buffer *buffer,
                                      size_t offset,
                                      void *data,
                                      size_t bytes,
                                      maw_error **error);

/// The buffer's address in device memory, to be passed to `maw_step` and the like; aligned to 256 bytes. NULL for NULL.
void *maw_device_buffer_pointer(const maw_device_buffer *buffer);

/// The buffer's size in bytes; 0 for NULL.
size_t maw_device_buffer_size(const maw_device_buffer *buffer);

/// Frees a buffer, after the work on the device that uses it; does nothing for NULL. Any thread, once.
void maw_device_buffer_free(maw_device_buffer *buffer);

/// The status of an error; `MAW_OK` for NULL. Any thread.
maw_status maw_error_code(const maw_error *error);

/// The text of an error: one line of UTF-8, "" for NULL. Borrowed: valid until the error is freed. Any thread.
const char *maw_error_message(const maw_error *error);

/// Frees an error; does nothing for NULL. Any thread, once.
void maw_error_free(maw_error *error);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* METAADAMW_H */
