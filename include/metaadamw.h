/// @file
///
/// # libmetaadamw: the MetaAdamW optimizer behind a C ABI
///
/// MetaAdamW (Zhao & Liu, arXiv:2605.04055) is AdamW with learned factors on the learning rate (alpha) and the weight
/// decay (beta) of each group of parameters. A small attention module computes them from statistics of the gradients,
/// moments and parameters of all groups. A meta-update every `meta_interval` steps trains the module. The library works
/// on buffers of parameters and gradients, and on losses; it does not need the model. The program that uses the library
/// is called the host.
///
/// C99 or later. The header is also C++, for which the headers around metaadamw.hpp are made. Every type can be declared
/// without this header, as `struct maw_options;`, `struct maw_optimizer;` and so on.
///
/// # Example
///
/// ```c
/// maw_optimizer *optimizer = NULL;
/// maw_error *error = NULL;                        /* check every call: status != MAW_OK */
/// maw_options options;
/// maw_options_init(&options, sizeof options);     /* sets the defaults; then change fields */
/// options.total_steps = 10000;
/// maw_optimizer_create(&options, &optimizer, &error);
///
/// maw_param_group group;
/// maw_param_group_init(&group, sizeof group);
/// group.lr = 5e-4;
/// maw_add_param_group(optimizer, &group, tensors, n, NULL, &error);   /* names, shapes, dtypes */
///
/// for (uint64_t step = 0; step < 10000; step++) {
///     backward(params, grads);                    /* the host's own */
///     maw_step(optimizer, params, grads, n, NULL, NULL, &error);
///     if (maw_meta_due(optimizer))
///         meta_update();                          /* the loop shown at maw_meta_request */
/// }
/// maw_optimizer_free(optimizer);
/// ```
///
/// # Ownership
///
/// - The caller owns each object that a call returns, and frees it with `maw_optimizer_free`, `maw_error_free`,
///   `maw_bytes_free` or `maw_device_buffer_free`, once.
/// - Names, shapes and options are copied. No pointer of the caller is stored after a call returns, except the
///   callbacks, their user data and the CUDA stream. (A step on CUDA runs later: its buffers must stay valid until it has
///   run.)
/// - Parameters and gradients are passed to each call as arrays of pointers, one per tensor in the order of
///   registration. Buffers are contiguous and aligned to the size of their elements. Parameters must not overlap each
///   other or a gradient. Addresses may change from call to call. A NULL gradient means that the tensor has none in
///   this step. A tensor without elements may have NULL.
/// - Strings from the library are borrowed: NUL-terminated UTF-8 that does not change, valid until the optimizer (or
///   error) is freed.
/// - Names passed in are NUL-terminated UTF-8, 1 to 1,024 bytes without control characters.
/// - Pointer arguments must not be NULL unless the function says "may be NULL"; NULL is `MAW_INVALID_ARGUMENT`. Other
///   invalid pointers are undefined behavior.
///
/// # Modulation groups
///
/// Tensors of the same modulation group have the same alpha and beta. Under `MAW_GROUPING_FINE_GRAINED` (the default) the
/// groups are named KIND.DEPTH.ROLE, such as "attention.shallow.weight":
///
/// - KIND is what `maw_tensor.layer_kind` says: linear, embedding, attention, layernorm, convolution, batchnorm or
///   recurrent. If it says nothing, words in the tensor's name decide, in lower case, the first that occurs in this order:
///   `embed` = embedding; `attn`, `attention` = attention; `ffn`, `mlp`, `feed_forward` = ffn; `norm` = layernorm. Without
///   such a word it is other. With `MAW_REFERENCE` the words come first, and `layer_kind` counts if the name has none.
/// - DEPTH is shallow, middle or deep: the layer's number is below a third of the largest in the model, between, or above
///   two thirds. The number is `maw_tensor.layer_index` - 1, or else that in the name: the first whole number between dots
///   ("layers.3.weight"), or else the last part ("weight.3"). A number at the start does not count ("3.weight"). Without
///   a number, and if the largest is 0 or 1, DEPTH is middle.
/// - ROLE is bias for a tensor with one dimension or a name that ends in "bias", else weight.
///
/// If three tensors or more are weights and no tensor has a layer's number, the log says so (`MAW_LOG_INFO`).
///
/// # Learning from steps
///
/// Under `MAW_OBJECTIVE_HORIZON` (`maw_options_preset`) `maw_step` is all that a host calls: the attention module learns
/// without meta-updates. `maw_meta_due` is 0 then, and `maw_meta_begin` returns `MAW_INVALID_STATE`. The library keeps an
/// average of each parameter over about the last N = `maw_options.horizon` steps, and sums for each modulation group the
/// products of the gradient with (parameter - average): is today's gradient with or against the way that the parameters
/// came? After every `meta_interval` steps the module takes one AdamW step that lowers alpha where the sum is positive (the
/// group went too far) and raises it where it is negative. This is not in the paper.
///
/// The averages begin as the parameters at the first step. `MAW_STEP_PARAMS_CHANGED` lets them begin anew, and so does
/// `MAW_RESET_MOMENTS`, which also sets the sums to 0, as `MAW_RESET_ATTENTION` does. A tensor without a gradient keeps its
/// average in that step. `maw_meta_result_get` and `maw_meta_gradient` tell how the module last learned.
///
/// On CUDA sums and averages are made on the device, and the module learns on the host: after each `meta_interval`-th step,
/// one that may be the last of its interval, `maw_step` waits for the device and copies the small part of its state to the
/// host and back. All other steps do not wait. No step can be captured into a CUDA graph under this objective:
/// `MAW_INVALID_STATE`.
///
/// Averages without this objective, also with `modulation` = 0, are for the host's evaluations: `maw_average_swap`. On CUDA
/// steps with them neither wait nor need another launch, and can be captured.
///
/// # Several processes
///
/// Data parallel training needs nothing of this: sum the gradients over the processes, and the losses of meta-updates, and
/// call the library as with one; all processes then have the same bits.
///
/// To have the moments once and not on every process (ZeRO-1), or the parameters too (FSDP), each process registers its
/// part of every tensor (`maw_tensor.sharded`, `shard_offset`, `shard_numel`) and gives the library a sum over the processes,
/// such as `MPI_Allreduce` (`maw_set_reduction`). Names, shapes, groups and features are those of the whole tensors; buffers,
/// and counts of elements in calls, are those of the part. Parts are cut at multiples of `MAW_SHARD_ALIGNMENT` elements: the
/// library sums the chunks of that size in a fixed order, so that any number of processes makes the same bits.
///
/// In each call the processes also compare options, tensors, hyper-parameters, state and arguments. If they differ, or if a
/// call fails on one of them, all return an error and change nothing.
///
/// With `MAW_CUDA` the sum is one of numbers in device memory, which the host enqueues on the optimizer's stream, as
/// `ncclAllReduce` does: a step does not wait for it, and can be captured. Whether the processes agree the device finds out
/// then. A step that fails for this is made on none of them and does not count, and the first call that waits for the device
/// afterwards returns `MAW_REDUCTION`, once: a step with a report, `maw_step_report_fetch`, or what reads the state. That call
/// does nothing else, and may be repeated.
///
/// # Threads
///
/// An optimizer may be used from any thread, by one call at a time: a second call meanwhile, freeing included, returns
/// `MAW_BUSY` at once and does nothing. Different optimizers are independent. Using an optimizer after it was freed is
/// undefined behavior. Callbacks run on the calling thread, during the call.
///
/// A step or meta-update on the CPU may use several threads (`maw_options.threads`); any number gives the same bits. One
/// is the calling thread. The others form a pool, which the optimizers of the process that ask for the same number share:
/// `maw_prepare`, or the first call that prepares, starts its threads for the first of these optimizers, and
/// `maw_optimizer_free` ends and joins them with the last. Optimizers with fewer than 262,144 elements, with `threads` = 1
/// or on CUDA start none. Calls on different optimizers at once divide the pool's threads, and do not wait for each other.
/// If the system refuses threads, those that started are used; the log says so, and `maw_dump_state` has the number.
///
/// Threads of the pool are named `metaadamw-0`, `metaadamw-1` and so on, run no code of the host, and sleep between calls.
/// They block all signals except those that a fault raises in the thread itself (`SIGBUS`, `SIGFPE`, `SIGILL`, `SIGSEGV`,
/// `SIGSYS`, `SIGTRAP`). CPU affinity and scheduling policy are those of the thread that started them.
///
/// On the CPU a call needs less than 48 KiB of the calling thread's stack, beside what the callbacks need.
///
/// Process-wide state: the pools; a panic hook of Rust's runtime, set once, which silences panics inside the library; a
/// handler for `fork`'s child (`pthread_atfork`), set once; the CUDA driver, loaded once and never unloaded; a table of the
/// CUDA devices in use, whose primary context and compiled kernels are shared by optimizers and buffers; the CPU's
/// instruction set, queried once; a counter for names of temporary files. The library installs no signal handler.
///
/// # Fork
///
/// After `fork` parent and child each have the optimizer. The parent's continues as if nothing had happened. The child may
/// use and free its own; its steps then use the calling thread only, with the same bits, since the child has none of the
/// parent's threads. Optimizers that the child creates have a pool of its own. An optimizer that another thread was using
/// during the fork is lost to the child: calls return `MAW_INVALID_STATE`, and freeing it leaves its memory. On CUDA the
/// child must not use the parent's optimizers, nor free them.
///
/// # Floating-point mode
///
/// On x86-64 and aarch64 every call computes in the default mode of IEEE 754 (round to nearest, subnormal numbers kept, no
/// traps) on all its threads, whatever the mode of the calling thread is, and restores that. Callbacks run in the
/// default mode. On other processors call with the default mode.
///
/// # Errors
///
/// Functions that can fail return a `maw_status`: `MAW_OK` (0) or a negative number. On failure outputs are untouched
/// and the optimizer is unchanged. Their last argument `error` (the init functions and `maw_optimizer_free` have none)
/// may be NULL. Otherwise `*error` is set to NULL on entry, without freeing an error that was there, and on failure to
/// an object with the status and a message that names the argument, tensor or group. Nothing is printed.
///
/// The comment of a function lists the statuses that it can return; a function that "prepares the optimizer if needed" can
/// also return those of `maw_prepare`. Any call on an optimizer may also return `MAW_BUSY`, `MAW_PANIC` after a bug in the
/// library (panics are caught, and afterwards the optimizer can only be freed), and with `MAW_CUDA` `MAW_CUDA_ERROR`, or
/// `MAW_REDUCTION` for a step before it (chapter "Several processes"). With `MAW_CUDA` a call that must wait for the device
/// returns `MAW_INVALID_STATE` while its stream is being captured (docs/cuda.md), and so does any call in a child process if
/// another thread was inside a call during `fork`.
///
/// Out of memory: any call that has an `error` argument may return `MAW_OUT_OF_MEMORY` where `malloc` or `mmap` fails.
/// Nothing has changed then, and the call may be repeated. An error object without memory for its message has the status
/// and a fixed text. Freeing needs no memory. To keep this promise a call first reserves as much memory as its small
/// allocations can need, and touches it only where `malloc` fails; an optimizer keeps some 100 KiB of this kind. So
/// `ulimit -v` and strict overcommit count more than what is used. `maw_cuda_available` and `maw_meta_due` return 0
/// without memory. Not in the library's hands are: memory that the system promises and does not have (Linux ends a
/// process then); a thread's first call into a library that was loaded by `dlopen`, for which the C library allocates the
/// thread's variables; the start of an optimizer's threads in `maw_prepare`; loading the CUDA driver, and the driver itself.
///
/// # Versions
///
/// `MAW_ABI_VERSION` is the number in the shared object's SONAME. A program works with every later library of the same
/// ABI number without recompilation: functions and constants are added but not changed, numbers are never reused, and
/// structs grow only at their end. `maw_version` and `maw_abi_version` return the versions of the loaded library.
///
/// # Structs that grow
///
/// Every struct begins with `struct_size`. Call `maw_X_init(&x, sizeof x)` first: it zeroes the struct and sets the
/// defaults. In fields added by later versions 0 means the default. As input, a struct shorter than in version 1 is
/// `MAW_INVALID_ARGUMENT`; one longer than the library knows must be zero beyond the known fields, else
/// `MAW_UNSUPPORTED`. As output, the library writes the fields that both sides know and zeroes the rest. In an array of
/// structs all elements have the `struct_size` of the first.
///
/// Generated from src/ffi by `make header`; do not edit.


#ifndef METAADAMW_H
#define METAADAMW_H

#include <stddef.h>
#include <stdint.h>

#if UINTPTR_MAX != UINT64_MAX
#error "libmetaadamw is for 64-bit targets only"
#endif

/// The library's version as text.
#define MAW_VERSION "0.1.0"

/// ABI number, part of the shared object's name (libmetaadamw.so.1). Under one number functions, constants, and fields
/// whose default is 0 may be added; nothing is removed.
#define MAW_ABI_VERSION 1

/// Major version of the library.
#define MAW_VERSION_MAJOR 0

/// Minor version of the library.
#define MAW_VERSION_MINOR 1

/// Patch version of the library.
#define MAW_VERSION_PATCH 0

/// Success.
#define MAW_OK 0

/// An argument is NULL, out of range, of the wrong length or otherwise invalid; the message names it.
#define MAW_INVALID_ARGUMENT (-1)

/// The call is not allowed in the handle's state, for example a step while a meta-update is open.
#define MAW_INVALID_STATE (-2)

/// This version of the library, or this machine, does not support it.
#define MAW_UNSUPPORTED (-3)

/// Another call on the same handle is running (or this call comes from its log callback). Nothing was done.
#define MAW_BUSY (-4)

/// Under `MAW_NONFINITE_ERROR`: a gradient, parameter, moment, feature or factor is not finite.
#define MAW_NOT_FINITE (-5)

/// Out of memory. The error object is static; freeing it does nothing.
#define MAW_OUT_OF_MEMORY (-6)

/// A bug in the library. The handle is poisoned: every later call on it returns this, except freeing.
#define MAW_PANIC (-7)

/// No tensor or group has that name or index.
#define MAW_NOT_FOUND (-8)

/// Parameters changed since the last step without `MAW_STEP_PARAMS_CHANGED`: under `verify_params`, or after a load if they
/// are not those that the file has the remainders of.
#define MAW_PARAMS_CHANGED (-9)

/// A file operation failed; the message names it and the system's reason.
#define MAW_IO (-10)

/// The data is not a checkpoint, or a damaged one.
#define MAW_CORRUPT (-11)

/// The checkpoint is of another model or of other options; the message lists the first differences.
#define MAW_MISMATCH (-12)

/// A call of the CUDA driver failed, or a kernel did; the message names the driver's function and its error. After a
/// failed kernel the process cannot use the device any more.
#define MAW_CUDA_ERROR (-13)

/// With `maw_set_reduction`: the callback failed, its result is no sum over the processes, the call failed on another
/// process, or the processes differ in options, tensors, step or arguments; the message says which. Unless it says
/// otherwise nothing was changed on this process; others may have made the step, so go on from a checkpoint.
#define MAW_REDUCTION (-14)

/// `maw_tensor.shard_offset` and the end of a shard are multiples of it, or the tensor's end.
#define MAW_SHARD_ALIGNMENT 32768

/// 32-bit IEEE float.
#define MAW_FLOAT32 1

/// 64-bit IEEE float.
#define MAW_FLOAT64 2

/// bfloat16: the upper half of a 32-bit float. As `uint16_t`.
#define MAW_BFLOAT16 3

/// 16-bit IEEE float. As `uint16_t`.
#define MAW_FLOAT16 4

/// Each new value of a 16-bit parameter is rounded to nearest. An update below half a unit in the last place is lost.
#define MAW_PRECISION_NEAREST 0

/// The library stores a float32 master of each element, which steps update; the host's 16-bit parameter is the master
/// rounded to nearest. 4 more bytes per element.
#define MAW_PRECISION_MASTER 1

/// The same masters, bit for bit, in 2 + 2 bytes: the host's bfloat16 parameter, and the other 16 bits (the remainder)
/// in the library. bfloat16 only; 2 more bytes per element.
#define MAW_PRECISION_REMAINDER 2

/// Stochastic rounding: each new value of a 16-bit parameter is rounded up or down at random, with the exact value as
/// its expectation. No more memory. The random bits depend on `maw_options.seed`, the tensor's name, its step count and
/// the element's index only.
#define MAW_PRECISION_STOCHASTIC 3

/// `maw_tensor.precision` alone: `MAW_PRECISION_NEAREST` for this tensor, where 0 is the precision of its param group.
#define MAW_PRECISION_TENSOR_NEAREST 4

/// Host memory.
#define MAW_CPU 0

/// Memory of a CUDA device. Needs a driver for CUDA 11.8 or later and compute capability 7.0 or higher.
#define MAW_CUDA 1

/// The paper's equations.
#define MAW_PAPER 0

/// The authors' published program, where it differs from the paper.
#define MAW_REFERENCE 1

/// Mean norms of gradients, moments and parameters, mean cosine of gradient and first moment.
#define MAW_FEATURES_BASIC 0

/// `BASIC`, and the standard deviations over the tensors of the group.
#define MAW_FEATURES_BASIC_PLUS 1

/// Means and variances of norms, fractions of zeros, sizes, fraction of biases, depth, and a learned embedding.
#define MAW_FEATURES_ENHANCED 2

/// `BASIC`, each column of statistics standardized over the groups.
#define MAW_FEATURES_NORM_BASIC 3

/// `BASIC_PLUS`, each column of statistics standardized over the groups.
#define MAW_FEATURES_NORM_BASIC_PLUS 4

/// `NORM_BASIC` with the mean of ln(max(1e20·norm, 1)) in place of the mean norm. Not in the paper.
#define MAW_FEATURES_NORM_LOG 5

/// One modulation group per (layer kind, depth bucket, bias or not): chapter "Modulation groups".
#define MAW_GROUPING_FINE_GRAINED 0

/// The modulation groups are the param groups.
#define MAW_GROUPING_BY_PARAM_GROUP 1

/// `maw_tensor.modulation_group` names each tensor's modulation group.
#define MAW_GROUPING_CUSTOM 2

/// Weight matrices are Xavier-uniform, as in the paper. So the factors start at random: a small Transformer's mean alpha
/// after ten steps was, over seeds 1 to 20, anything from 0.50 to 1.49, and a quarter of all factors was at a bound.
#define MAW_INIT_XAVIER 0

/// As `XAVIER`, but the output projection is 0: alpha = beta = 1 (AdamW) until the first meta-update.
#define MAW_INIT_IDENTITY 1

/// Gradient alignment, loss decrease and generalization gap, weighted.
#define MAW_OBJECTIVE_COMBINED 0

/// Gradient alignment alone (eq. 10).
#define MAW_OBJECTIVE_GRADIENT 1

/// Loss decrease on the validation batch alone (eq. 11).
#define MAW_OBJECTIVE_LOSS_DECREASE 2

/// Generalization gap alone (eq. 12). It does not depend on the attention module: only the regularization trains it.
#define MAW_OBJECTIVE_GEN_GAP 3

/// The gradient against the displacement of the last `maw_options.horizon` steps: chapter "Learning from steps". Needs no
/// meta-update of the host. Not in the paper.
#define MAW_OBJECTIVE_HORIZON 4

/// The attention module learns by plain steps along the gradient (SGD), as in the paper.
#define MAW_META_SGD 0

/// It learns by AdamW with betas 0.9 and 0.99, eps 1e-8 and decay `maw_options.meta_weight_decay` (of log-variances
/// without); the norms of its tensors are not part of the objective. Not in the paper.
#define MAW_META_ADAMW 1

/// `maw_options_preset`: learning from steps alone. `MAW_OBJECTIVE_HORIZON` with `horizon` 1000, `MAW_META_ADAMW`,
/// `meta_lr` 1e-2, `meta_weight_decay` 1e-4, `meta_interval` 5, `meta_warmup` 20, `MAW_INIT_IDENTITY`,
/// `MAW_FEATURES_NORM_LOG`, `attn_layers` 2, `alpha_log_range` 8; all else as `maw_options_init` sets it. Experimental:
/// docs/horizon.md says what it is worth, and a later version may choose other values.
#define MAW_PRESET_HORIZON 1

/// Homoscedastic uncertainty weighting (HUW) with priorities (eq. 13).
#define MAW_WEIGHTING_HUW 0

/// The weights in `maw_options.fixed_weights`.
#define MAW_WEIGHTING_FIXED 1

/// The unweighted sum of the three terms.
#define MAW_WEIGHTING_SUM 2

/// HUW multiplies the term by exp(-s)/2.
#define MAW_KIND_REGRESSION 0

/// HUW multiplies the term by exp(-s).
#define MAW_KIND_CLASSIFICATION 1

/// Hessian-vector product by central differences: two more gradients on the second training batch.
#define MAW_DIFFERENCE_CENTRAL 0

/// Hessian-vector product by a forward difference: one more gradient.
#define MAW_DIFFERENCE_FORWARD 1

/// Hessian-vector product taken as 0: no more gradients; the gradient alignment does not train alpha and beta.
#define MAW_DIFFERENCE_FIRST_ORDER 2

/// A step in which a value is not finite is skipped: only the count of skipped steps changes. The report gives the
/// reason.
#define MAW_NONFINITE_SKIP 0

/// Such a step fails with `MAW_NOT_FINITE` and changes nothing.
#define MAW_NONFINITE_ERROR 1

/// No check, as in PyTorch's AdamW: NaN and infinity propagate. Only with `modulation` = 0. Saves one pass over the
/// gradients; the report's `grad_norm` is NaN unless clipping needs it.
#define MAW_NONFINITE_PROPAGATE 2

/// Not given: the tensor's name decides.
#define MAW_LAYER_UNKNOWN 0

/// A linear (fully connected) layer.
#define MAW_LAYER_LINEAR 1

/// An embedding table.
#define MAW_LAYER_EMBEDDING 2

/// Part of an attention layer.
#define MAW_LAYER_ATTENTION 3

/// Part of a layer norm.
#define MAW_LAYER_LAYERNORM 4

/// Part of a convolution.
#define MAW_LAYER_CONVOLUTION 5

/// Part of a batch norm.
#define MAW_LAYER_BATCHNORM 6

/// Part of a recurrent layer, such as LSTM or GRU.
#define MAW_LAYER_RECURRENT 7

/// In place of a param group's index: every param group.
#define MAW_ALL_GROUPS UINT32_MAX

/// `maw_step_options.flags`: the host changed parameters since the last step. The library recomputes its norms and sets
/// masters to the new parameters.
#define MAW_STEP_PARAMS_CHANGED 1

/// `maw_step_report_fetch`: wait for all enqueued steps.
#define MAW_FETCH_WAIT 1

/// `maw_reset`: set both moments and all step counts to 0.
#define MAW_RESET_MOMENTS 1

/// `maw_reset`: set the attention module to its initial values.
#define MAW_RESET_ATTENTION 2

/// Saving and loading: only the attention module.
#define MAW_ATTENTION_ONLY 1

/// Loading: options that affect only later steps may differ; the file's are used. Without one of the three flags this holds
/// for options that have a setter, and all others must be equal.
#define MAW_LOAD_FILE_WINS 2

/// Loading: options that affect only later steps may differ; the optimizer's own are used.
#define MAW_LOAD_OWN_WINS 4

/// Loading: nothing may differ, not even what has a setter.
#define MAW_LOAD_STRICT 8

/// Loading: the file may have more or fewer tensors, param groups and modulation groups. What both have is loaded; a tensor
/// that the file does not have starts at step 0; `maw_load_report_count` tells the names. May be combined with one of the
/// three flags above, and with `MAW_ATTENTION_ONLY`.
#define MAW_LOAD_PARTIAL 16

/// `maw_load_report_count`: tensors that the file does not have.
#define MAW_LOAD_MISSING_TENSORS 1

/// `maw_load_report_count`: tensors of the file that are not registered.
#define MAW_LOAD_UNEXPECTED_TENSORS 2

/// `maw_load_report_count`: modulation groups that the file does not have.
#define MAW_LOAD_MISSING_GROUPS 3

/// `maw_load_report_count`: modulation groups that only the file has.
#define MAW_LOAD_UNEXPECTED_GROUPS 4

/// `maw_counters.meta_done_at`: no meta-update was done or abandoned so far.
#define MAW_NO_STEP UINT64_MAX

/// `maw_step_report.skip_reason`: the step was applied.
#define MAW_SKIP_NONE 0

/// A gradient is not finite, or so large that the second moment or the norm would not be.
#define MAW_SKIP_GRADIENT 1

/// A parameter, or its norm, is not finite.
#define MAW_SKIP_PARAMETER 2

/// A first or second moment, or its norm, is not finite.
#define MAW_SKIP_MOMENT 3

/// A feature is not finite.
#define MAW_SKIP_FEATURE 4

/// A factor (alpha, beta, lambda1, lambda2) is not finite.
#define MAW_SKIP_FACTOR 5

/// `maw_step_report.nonfinite_tensor`: no tensor.
#define MAW_NO_TENSOR UINT64_MAX

/// The meta-update has ended; the host's parameters have the same bits as at `maw_meta_begin`.
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

/// A loss from the host is not finite.
#define MAW_OUTCOME_LOSS_NOT_FINITE 3

/// A gradient from the host is not finite.
#define MAW_OUTCOME_GRADIENT_NOT_FINITE 4

/// A parameter, moment, feature or factor is not finite, or a parameter after the trial step.
#define MAW_OUTCOME_STATE_NOT_FINITE 5

/// The direction w of the Hessian-vector product is not finite, or the step along it rounds to 0.
#define MAW_OUTCOME_DIRECTION_NOT_FINITE 6

/// The gradient of the attention module is not finite.
#define MAW_OUTCOME_META_GRADIENT_NOT_FINITE 7

/// `maw_log_callback`: information.
#define MAW_LOG_INFO 1

/// `maw_log_callback`: something probably unintended.
#define MAW_LOG_WARNING 2

/// Bytes allocated by the library and owned by the caller, who frees them with `maw_bytes_free`.
typedef struct maw_bytes maw_bytes;

/// Device memory allocated by the library, for hosts that do not use CUDA themselves. Opaque: created by
/// `maw_device_buffer_create`, freed by `maw_device_buffer_free`. Not thread-safe: one call at a time.
typedef struct maw_device_buffer maw_device_buffer;

/// Why a call failed: a status, and a message that names the argument, what was expected and what was given.
///
/// A function that fails stores one through its last parameter, unless that is NULL; the caller owns it and frees it
/// with `maw_error_free`. It does not depend on any handle or thread.
typedef struct maw_error maw_error;

/// An optimizer. Opaque: created by `maw_optimizer_create`, freed by `maw_optimizer_free`.
///
/// It may be used from any thread, by one call at a time: a second call meanwhile returns `MAW_BUSY` at once and does
/// nothing. Different optimizers are independent.
typedef struct maw_optimizer maw_optimizer;

/// The result of a call: `MAW_OK` (0) or a negative number, `MAW_INVALID_ARGUMENT` and the following.
typedef int32_t maw_status;

/// Options of an optimizer, fixed at creation unless there is a setter. `maw_options_init` sets the defaults.
typedef struct maw_options {
    /// `sizeof(maw_options)` of the caller; set by `maw_options_init`.
    size_t struct_size;
    /// Seed of the attention module's initial values and of stochastic rounding; the same on every platform. Default 0.
    uint64_t seed;
    /// Steps of the whole run: the time feature is step/total_steps. 0 (default) = unknown: the time feature is
    /// 2·sigmoid(step/1000) − 1.
    uint64_t total_steps;
    /// Steps between two meta-updates, at least 1. With `MAW_OBJECTIVE_HORIZON`: steps after which the attention module
    /// learns. Default 200.
    uint64_t meta_interval;
    /// First step at which a meta-update can be due. With `MAW_OBJECTIVE_HORIZON`: steps that the module does not learn from.
    /// Default 0.
    uint64_t meta_warmup;
    /// Width of alpha's range, 0 to 2: alpha is within 1 ± alpha_range/2. Not used with `alpha_log_range`. Default 1.
    double alpha_range;
    /// Width of beta's range, 0 to 2: beta is within 1 ± beta_range/2. Not used with `beta_log_range`. Default 1.
    double beta_range;
    /// Learning rate of the attention module, ≥ 0. Default 1e-4.
    double meta_lr;
    /// Weight of the norms of the attention module's tensors in the meta-objective, ≥ 0; with `MAW_META_ADAMW` its decoupled
    /// weight decay. Default 1e-4.
    double meta_weight_decay;
    /// Weight of Σ|gate| in the meta-objective, ≥ 0; with `use_feature_gating`. Default 1e-4.
    double feature_gating_sparsity;
    /// HUW's priorities p of gradient alignment, loss decrease and generalization gap, each ≥ 0. Default 1, 1, 1.
    double priorities[3];
    /// Weights of the three terms under `MAW_WEIGHTING_FIXED`. Default 1, 1, 1.
    double fixed_weights[3];
    /// Initial value of HUW's three log-variances s. Default 0.
    double huw_initial_log_var;
    /// s is clamped to ±log_var_limit after each meta-update, ≥ 0; 0 = no limit, as in the paper. Default 10.
    double log_var_limit;
    /// Relative step size of the differences for the Hessian-vector product, ≥ 0; 0 (default) = 6e-6 for float64
    /// (forward: 1.5e-8), 3e-3 for float32, 3e-2 for 16-bit parameters.
    double difference_scale;
    /// Gradients are clipped to this global norm, as by PyTorch's clip_grad_norm_; 0 (default) = no clipping.
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
    /// `MAW_WEIGHTING_…` of the combined objective. Default `MAW_WEIGHTING_HUW`.
    int32_t weighting;
    /// `MAW_KIND_…` of the three terms under HUW. Default `MAW_KIND_REGRESSION`.
    int32_t huw_kinds[3];
    /// `MAW_DIFFERENCE_…`. Default `MAW_DIFFERENCE_CENTRAL`.
    int32_t difference;
    /// `MAW_NONFINITE_…`. Default `MAW_NONFINITE_SKIP`.
    int32_t nonfinite;
    /// `MAW_CPU` (default) or `MAW_CUDA`: where parameters, gradients and moments are.
    int32_t device;
    /// Index of the CUDA device; 0 on the CPU.
    int32_t device_index;
    /// 1 (default): MetaAdamW. 0: plain AdamW; alpha = beta = 1, no features, no meta-updates.
    uint32_t modulation;
    /// 1 (default): the norm of the second moment is a feature. `MAW_FEATURES_ENHANCED` never has it.
    uint32_t use_v_norms;
    /// 1 (default): the time step is a feature.
    uint32_t include_time_step;
    /// 1: each feature column is multiplied by the sigmoid of a learned gate. Default 0.
    uint32_t use_feature_gating;
    /// Columns of the learned group embedding, 1 to 4,096; `MAW_FEATURES_ENHANCED` only. Default 4.
    uint32_t group_embed_dim;
    /// Width D of a token, up to 65,536; 0 (default) = the number of features. Rounded up to a multiple of
    /// `attn_heads`.
    uint32_t feature_dim;
    /// Attention heads of the encoder, 1 to 1,024. Default 6.
    uint32_t attn_heads;
    /// Layers of the encoder, 1 to 4,096. Default 8.
    uint32_t attn_layers;
    /// Width of the encoder's feed-forward layers, 1 to 65,536. Default 16.
    uint32_t attn_hidden_dim;
    /// Threads of a step on the CPU, up to 1,024; 0 (default) = one per available core; 1 = the caller's thread only. A
    /// model with fewer than 262,144 elements uses the caller's thread only. Any number gives the same bits.
    uint32_t threads;
    /// 1: each step checks that no parameter changed since the last one without `MAW_STEP_PARAMS_CHANGED`. Default 0.
    uint32_t verify_params;
    /// R, 1 < R ≤ 1e6: alpha = R^(2·sigmoid − 1), between 1/R and R, in place of `alpha_range`. 0 (default): not used. Not in
    /// the paper.
    double alpha_log_range;
    /// The same for beta.
    double beta_log_range;
    /// N, 2 to 2^32: the library keeps an average of each parameter, average ← average + (parameter − average)/N after each
    /// update, and learns from it under `MAW_OBJECTIVE_HORIZON` (`maw_average_get`, `maw_average_swap`). 0 (default): no
    /// averages. In float32 an average stands still once parameter − average is below N/2 units in its last place.
    uint64_t horizon;
    /// `MAW_META_…`: how the attention module learns. Default `MAW_META_SGD`; `MAW_OBJECTIVE_HORIZON` needs
    /// `MAW_META_ADAMW`.
    int32_t meta_optimizer;
    /// dtype of the averages: 0 (default) = float32, and float64 of float64 tensors; `MAW_BFLOAT16` = bfloat16 with
    /// stochastic rounding, but float64 of float64 tensors.
    int32_t average_dtype;
} maw_options;

/// Hyper-parameters that tensors share. `maw_param_group_init` sets the defaults.
typedef struct maw_param_group {
    /// `sizeof(maw_param_group)` of the caller; set by `maw_param_group_init`.
    size_t struct_size;
    /// Learning rate, ≥ 0. Default 5e-4 (the paper's).
    double lr;
    /// Decay rate of the first moment, 0 ≤ beta1 < 1. Default 0.9.
    double beta1;
    /// Decay rate of the second moment, 0 ≤ beta2 < 1. Default 0.999.
    double beta2;
    /// Added to the square root of the second moment; > 0 in the precision of the computation. Default 1e-8.
    double eps;
    /// Decoupled weight decay, ≥ 0. Default 1e-2.
    double weight_decay;
    /// `MAW_PRECISION_…`: how 16-bit parameters are updated, if the tensor does not say so itself. Default
    /// `MAW_PRECISION_NEAREST`. For float32 and float64 tensors it has no meaning, so that they can share a group with
    /// 16-bit ones. `MAW_PRECISION_REMAINDER` with a float16 tensor is an error.
    int32_t precision;
    /// dtype of both moments: 0 (default, and required for float64 tensors) = float64 for float64 tensors, else
    /// float32; `MAW_FLOAT32`; or `MAW_BFLOAT16`, with stochastic rounding.
    int32_t moment_dtype;
} maw_param_group;

/// A parameter tensor to register. `maw_tensor_init` zeroes it and sets `dtype` to `MAW_FLOAT32`.
typedef struct maw_tensor {
    /// `sizeof(maw_tensor)` of the caller; set by `maw_tensor_init`.
    size_t struct_size;
    /// Unique in the optimizer: 1 to 1,024 bytes of UTF-8 without control characters, "layers.0.attn.weight". Copied.
    const char *name;
    /// `ndim` lengths; may be NULL if `ndim` is 0 (a scalar, which has one element). A length may be 0. Copied.
    const uint64_t *shape;
    /// Under `MAW_GROUPING_CUSTOM`: the name of the tensor's modulation group, same rules as `name`. Else NULL. Copied.
    const char *modulation_group;
    /// Number of dimensions, at most 64.
    uint32_t ndim;
    /// The parameter's dtype, `MAW_FLOAT32` …. A float64 tensor is computed in float64, any other in float32.
    int32_t dtype;
    /// The gradient's dtype; it may differ from `dtype`. 0 (default) = `dtype`.
    int32_t grad_dtype;
    /// `MAW_LAYER_…`: the kind of layer (chapter "Modulation groups"). Default `MAW_LAYER_UNKNOWN`: the name decides.
    int32_t layer_kind;
    /// `MAW_PRECISION_…` of this tensor, which must allow it; 0 (default) = that of its param group.
    int32_t precision;
    /// Number of the layer plus 1: 1 = the first layer, which counts as "layers.0.weight" does. At most 1,000,000. 0
    /// (default) = the number in the name, if there is one.
    uint32_t layer_index;
    /// With `sharded`: the first element that this process has, in the flattened (row-major) tensor; a multiple of
    /// `MAW_SHARD_ALIGNMENT`. Default 0.
    uint64_t shard_offset;
    /// With `sharded`: how many elements this process has; 0 = none. `shard_offset` + `shard_numel` is a multiple of
    /// `MAW_SHARD_ALIGNMENT` or the tensor's size. Default 0.
    uint64_t shard_numel;
    /// 1: this process has a part of the tensor, others have the rest (`maw_set_reduction`). `shape`, names and groups are
    /// those of the whole; buffers and counts of elements those of the part. 0 (default): all of it.
    uint32_t sharded;
    /// Must be 0.
    uint32_t reserved;
} maw_tensor;

/// Options of a single step. `maw_step_options_init` sets the defaults.
typedef struct maw_step_options {
    /// `sizeof(maw_step_options)` of the caller; set by `maw_step_options_init`.
    size_t struct_size;
    /// Loss scale: the gradients are divided by it; > 0. Default 1. A CUDA graph has the value of the capture; use
    /// `device_grad_scale` there.
    double grad_scale;
    /// 0 or `MAW_STEP_PARAMS_CHANGED`. A CUDA graph has the value of the capture.
    uint32_t flags;
    /// Must be 0.
    uint32_t reserved;
    /// CUDA: a float in device memory that replaces `grad_scale`, read when the step runs. The step is skipped
    /// (`MAW_SKIP_GRADIENT`) unless it is finite and > 0, whatever `nonfinite` is. Must be NULL on the CPU, with
    /// `verify_params` and under `MAW_NONFINITE_ERROR`. Default NULL.
    const float *device_grad_scale;
    /// CUDA: a float in device memory, read when the step runs. The step is skipped (`MAW_SKIP_GRADIENT`) unless it is
    /// 0, whatever `nonfinite` is. Must be NULL where `device_grad_scale` must. Default NULL: only the library's own
    /// check.
    const float *found_inf;
} maw_step_options;

/// Report of a step. `maw_step_report_init` sets `struct_size`.
typedef struct maw_step_report {
    /// `sizeof(maw_step_report)` of the caller; set by `maw_step_report_init`.
    size_t struct_size;
    /// Number of applied steps, this one included.
    uint64_t step;
    /// Number of skipped steps, this one included.
    uint64_t skipped_steps;
    /// Euclidean norm of all gradients, after division by `grad_scale` and before clipping.
    double grad_norm;
    /// The factor by which clipping multiplied the gradients; 1 without clipping.
    double clip_factor;
    /// Index, in registration order, of the first tensor that is not finite, or `MAW_NO_TENSOR`.
    uint64_t nonfinite_tensor;
    /// 1 if the step was skipped, else 0.
    uint32_t skipped;
    /// `MAW_SKIP_…`.
    int32_t skip_reason;
} maw_step_report;

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
typedef struct maw_meta_request {
    /// `sizeof(maw_meta_request)` of the caller; set by `maw_meta_request_init`.
    size_t struct_size;
    /// Number of this request, counted from 1 over the handle's lifetime. 0 at `MAW_META_DONE`.
    uint64_t id;
    /// Number of an earlier request whose batch and random numbers (dropout) must be used again; 0 = any.
    uint64_t replay;
    /// `MAW_META_…`.
    int32_t kind;
    /// `MAW_BATCH_…`; 0 at `MAW_META_DONE`.
    int32_t batch;
    /// For the host's random number generator (dropout): the same for requests that replay one another, another for all
    /// others, so that a host which seeds with it need not remember `replay`. A function of `options.seed`, the step and the
    /// number of meta-updates: a resumed run gets the same. 0 at `MAW_META_DONE`.
    uint64_t seed;
} maw_meta_request;

/// The host's answer to a request. `maw_meta_answer_init` sets the defaults.
typedef struct maw_meta_answer {
    /// `sizeof(maw_meta_answer)` of the caller; set by `maw_meta_answer_init`.
    size_t struct_size;
    /// `maw_meta_request.id` of the request being answered.
    uint64_t request_id;
    /// The loss, without loss scaling.
    double loss;
    /// Loss scale of the gradients, which are divided by it; > 0. Default 1.
    double grad_scale;
} maw_meta_answer;

/// Result of the last meta-update. Terms and losses that the objective does not need are NaN.
/// `maw_meta_result_init` sets `struct_size`.
typedef struct maw_meta_result {
    /// `sizeof(maw_meta_result)` of the caller; set by `maw_meta_result_init`.
    size_t struct_size;
    /// Number of applied steps when it began.
    uint64_t step;
    /// Number of meta-updates that ended with `MAW_OUTCOME_UPDATED`.
    uint64_t updates;
    /// Loss on B1, before the trial step.
    double loss_train;
    /// Loss on the validation batch, before the trial step.
    double loss_validation;
    /// Loss on B2, after the trial step.
    double loss_train_moved;
    /// Loss on the validation batch, after the trial step.
    double loss_validation_moved;
    /// Gradient alignment (eq. 10).
    double term_gradient;
    /// Loss decrease (eq. 11).
    double term_loss_decrease;
    /// Generalization gap (eq. 12).
    double term_gen_gap;
    /// The objective, regularization included.
    double loss_meta;
    /// Number of the host's evaluations.
    uint32_t evaluations;
    /// Number of modulation groups whose gradient norm on B2 is below 1e-5 of the largest.
    uint32_t idle_groups;
    /// `MAW_OUTCOME_…`.
    int32_t outcome;
    /// 0.
    uint32_t reserved;
} maw_meta_result;

/// The optimizer's own counts, so that a run can move here from another optimizer: what `maw_tensor_state_get` and
/// `maw_tensor_state_set` do not say. `maw_counters_init` sets `struct_size` and the counts of a run that has not begun.
typedef struct maw_counters {
    /// `sizeof(maw_counters)` of the caller; set by `maw_counters_init`.
    size_t struct_size;
    /// Applied steps: at least those of every tensor, at most 2^53 - 1.
    uint64_t step;
    /// Meta-updates that changed the attention module; at most 2^53 - 1.
    uint64_t meta_updates;
    /// The step at which the last meta-update was done or abandoned, at most `step`; `MAW_NO_STEP` if there was none.
    uint64_t meta_done_at;
    /// Steps skipped because a gradient, or the moment that it would make, was not finite; at most 2^53 - 1, as the
    /// following.
    uint64_t skipped_gradient;
    /// Steps skipped because a parameter was not finite.
    uint64_t skipped_parameter;
    /// Steps skipped because a moment was not finite.
    uint64_t skipped_moment;
    /// Steps skipped because a feature was not finite.
    uint64_t skipped_feature;
    /// Steps skipped because a factor was not finite.
    uint64_t skipped_factor;
} maw_counters;

/// Receives the messages of a handle, on the thread of the call that caused them and during that call.
///
/// `message` is NUL-terminated UTF-8, valid during the callback only. The callback must not unwind (no C++ exception,
/// no longjmp). Calls on the same handle from inside the callback return `MAW_BUSY`.
typedef void (*maw_log_callback)(int32_t level, const char *message, void *user_data);

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
typedef int32_t (*maw_reduction_callback)(double *values, size_t count, void *user_data);

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/// The version of the loaded library, "0.1.0". Static, never NULL. Any thread.
const char *maw_version(void);

/// The `MAW_ABI_VERSION` of the loaded library, to be compared with the header's. Any thread.
uint32_t maw_abi_version(void);

/// The name of a status, for example "MAW_BUSY", or "unknown status". Static, never NULL. Any thread.
const char *maw_status_name(maw_status status);

/// Sets the defaults of options. `size`: the caller's `sizeof(maw_options)`.
///
/// `MAW_OK`; `MAW_INVALID_ARGUMENT` for NULL or a size below version 1's: nothing is written. Any thread.
maw_status maw_options_init(maw_options *options, size_t size);

/// Sets options that belong together: the defaults, but for what the preset changes. As `maw_options_init`.
///
/// `preset`: `MAW_PRESET_HORIZON`.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT` also for another preset: nothing is written. Any thread.
maw_status maw_options_preset(maw_options *options, size_t size, int32_t preset);

/// Sets the defaults of a param group. As `maw_options_init`.
maw_status maw_param_group_init(maw_param_group *group, size_t size);

/// Sets the defaults of a tensor's description. As `maw_options_init`.
maw_status maw_tensor_init(maw_tensor *tensor, size_t size);

/// Sets the defaults of a step's options. As `maw_options_init`.
maw_status maw_step_options_init(maw_step_options *options, size_t size);

/// Zeroes a step's report and sets its size. As `maw_options_init`.
maw_status maw_step_report_init(maw_step_report *report, size_t size);

/// Zeroes a request and sets its size. As `maw_options_init`.
maw_status maw_meta_request_init(maw_meta_request *request, size_t size);

/// Sets the defaults of an answer. As `maw_options_init`.
maw_status maw_meta_answer_init(maw_meta_answer *answer, size_t size);

/// Zeroes a meta-update's result and sets its size. As `maw_options_init`.
maw_status maw_meta_result_init(maw_meta_result *result, size_t size);

/// Fills the counts of a run that has not begun. As `maw_options_init`.
maw_status maw_counters_init(maw_counters *counters, size_t size);

/// Registers tensors that share hyper-parameters: a param group.
///
/// `tensors`: `count` descriptions, at least one; names and shapes are copied. Later calls take one pointer per
/// registered tensor, in the order of registration over all groups. `index`: out, the param group's index, from 0; may
/// be NULL.
/// Also after preparation, between two steps, for what is unfrozen or added to a model: see `maw_add_tensors`.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT` names the invalid field and its tensor, or both groups of a duplicate name;
/// `MAW_UNSUPPORTED` for a field of a newer header, after preparation with shards, and as for `maw_prepare`; `MAW_INVALID_STATE` while a meta-update is
/// open and, on CUDA, once a step was captured into a graph; `MAW_OUT_OF_MEMORY`; `MAW_CUDA_ERROR`. On failure none of the
/// tensors is registered.
maw_status maw_add_param_group(maw_optimizer *optimizer,
                               const maw_param_group *group,
                               const maw_tensor *tensors,
                               size_t count,
                               uint32_t *index,
                               maw_error **error);

/// Registers more tensors of a param group.
///
/// `group`: its index. `tensors`, `count`: as in `maw_add_param_group`. The new tensors come behind all others, whatever
/// their group.
/// After preparation too, between two steps: what is there keeps its moments, masters and step counts, the attention module
/// its values, the optimizer its counts; new tensors start at step 0. The modulation groups are formed anew from all
/// tensors, as if they had been registered together: under `MAW_GROUPING_FINE_GRAINED` a deeper layer can move others to
/// another third of the model. A group keeps its embedding by its name; that of a new one is drawn from the seed and the
/// name, so that the order in which groups come does not matter. The last step's report and the last meta-gradient are
/// unknown until the next, and so are features and factors if there are other groups than before; borrowed names become
/// invalid. Takes time and memory in proportion to the new tensors.
/// `MAW_OK`; `MAW_NOT_FOUND`. As `maw_add_param_group`.
maw_status maw_add_tensors(maw_optimizer *optimizer,
                           uint32_t group,
                           const maw_tensor *tensors,
                           size_t count,
                           maw_error **error);

/// Removes a tensor, and its moments, master and step count with it. Its param group stays, even without tensors.
///
/// `tensor`: its index; the tensors behind it move up by one place in the arrays of pointers. After preparation as for
/// `maw_add_tensors`: all else stays, modulation groups are formed anew, a group without tensors is gone with its
/// embedding. Memory is given back to the system by pages; on CUDA when all tensors that were registered together are
/// removed.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_NOT_FOUND`; `MAW_UNSUPPORTED` after preparation with shards; `MAW_INVALID_STATE`
/// for the last tensor of a prepared optimizer, while a
/// meta-update is open and, on CUDA, once a step was captured into a graph; `MAW_OUT_OF_MEMORY`; `MAW_CUDA_ERROR`. On failure
/// nothing is changed.
maw_status maw_remove_tensor(maw_optimizer *optimizer,
                             size_t tensor,
                             maw_error **error);

/// Creates an optimizer without tensors.
///
/// `options`: NULL for the defaults. `optimizer`: out, freed with `maw_optimizer_free`; untouched on failure.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT` names the invalid field; `MAW_UNSUPPORTED` for a field of a newer header, and
/// without a suitable CUDA driver or device; `MAW_CUDA_ERROR`. Any thread.
maw_status maw_optimizer_create(const maw_options *options, maw_optimizer **optimizer, maw_error **error);

/// Frees an optimizer and everything borrowed from it; does nothing for NULL.
///
/// An open meta-update leaves trial values in the host's parameters: call `maw_meta_abort` first. On CUDA this waits
/// for the stream, which must not be being captured; graphs with a step of this optimizer must not be replayed
/// afterwards.
/// `MAW_OK`; `MAW_BUSY` while another call runs: nothing is freed; `MAW_INVALID_ARGUMENT` for a handle that was freed
/// before, if that can be detected.
maw_status maw_optimizer_free(maw_optimizer *optimizer);

/// Prepares the registered tensors: forms the modulation groups, draws the attention module from the seed, allocates all
/// memory.
///
/// Optional, but with `maw_set_reduction`, whose processes call it together: the first call that needs it does the same. A
/// second call does nothing. Tensors can still be added and removed
/// (`maw_add_tensors`). Afterwards a step on the CPU with
/// `threads` = 1 does not allocate. Memory: the two moments in their dtype, masters or remainders if the param group
/// has them, and less than 1 % more for large models.
/// `MAW_OK`; `MAW_INVALID_STATE` without tensors or while a meta-update is open; `MAW_INVALID_ARGUMENT` for a
/// `feature_dim` below the features' length, and where shards and a reduction do not go together; `MAW_UNSUPPORTED` for
/// names and options that are too long for the header of a checkpoint (100 MB), so that saving cannot fail for that;
/// `MAW_REDUCTION`; `MAW_OUT_OF_MEMORY`. On failure nothing is changed.
maw_status maw_prepare(maw_optimizer *optimizer,
                       maw_error **error);

/// One step: updates in place every parameter that has a gradient. Prepares the optimizer if needed.
///
/// `params`, `grads`: `count` pointers each, one per tensor in registration order, to contiguous elements of the
/// tensor's `dtype` and `grad_dtype`, aligned to their size. `count`: the number of registered tensors. A NULL
/// gradient: the tensor is not updated in this step and has gradient 0 in the features. A tensor without elements, or a
/// shard without, may have NULL. Parameters must not overlap each other or a gradient. Pointers are not stored; they may differ from call
/// to call.
/// A moment that would be subnormal becomes 0: subnormal moments never decay to 0 and make a step slow.
/// On CUDA the pointers are to memory of the handle's device, managed memory included, and the step is enqueued on the
/// handle's stream; with a report, the call waits for it. Under `MAW_OBJECTIVE_HORIZON` it also waits after each
/// `meta_interval`-th step, since the attention module learns on the host, and no step can be captured into a CUDA
/// graph (`MAW_INVALID_STATE`). A pointer is checked only when it is new to its tensor: if its memory was freed in
/// between, the kernel fails or accesses whatever is there now. A CUDA graph has the pointers of the capture.
/// `options`: may be NULL. `report`: out, may be NULL; untouched on failure.
/// `MAW_OK`, also for a skipped step (the report gives the reason); `MAW_NOT_FINITE` instead under
/// `MAW_NONFINITE_ERROR`; `MAW_INVALID_ARGUMENT` names the pointer; `MAW_INVALID_STATE` while a meta-update is open and
/// after 2^53 - 1 steps; `MAW_PARAMS_CHANGED` under `verify_params`, and in the first step after a load if a
/// parameter is not the one that the file has the remainder of (`MAW_PRECISION_REMAINDER`), unless `options` say that it
/// changed; `MAW_UNSUPPORTED` for a field of a newer header; `MAW_REDUCTION`. On failure nothing is changed, but gradients
/// that were announced are discarded.
maw_status maw_step(maw_optimizer *optimizer,
                    void *const *params,
                    const void *const *grads,
                    size_t count,
                    const maw_step_options *options,
                    maw_step_report *report,
                    maw_error **error);

/// The report of the last step. For CUDA, where `maw_step` without a report only enqueues the step; on the CPU it is the
/// report of the last call. `step` + `skipped_steps` is the number of the step that the report is of.
///
/// `flags`: 0 = the newest step for which the device has decided whether to apply it, without waiting; `MAW_FETCH_WAIT`
/// = the last step enqueued, or replayed in a CUDA graph, on the handle's stream; it waits for this stream only.
/// `report`: out; untouched on failure.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_INVALID_STATE` if there is no such step, and with `MAW_FETCH_WAIT` while the
/// stream is being captured; `MAW_CUDA_ERROR`.
maw_status maw_step_report_fetch(maw_optimizer *optimizer,
                                 uint32_t flags,
                                 maw_step_report *report,
                                 maw_error **error);

/// Computes the norms of a gradient as soon as the backward pass has it, while it is still in the cache; the next step
/// then need not read it twice. Optional; the result has the same bits with and without. Prepares the optimizer if
/// needed.
///
/// `tensor`: its index in registration order. `gradient`: as in `maw_step`, not NULL; its values must be the same when
/// it is passed to the step. The pointer is not stored. A second call for a tensor replaces the first. A step, also one
/// that fails, setters, loading and saving, meta-updates and reading a tensor's state or masters discard it.
/// `MAW_OK`; `MAW_NOT_FOUND`; `MAW_INVALID_ARGUMENT`; `MAW_INVALID_STATE` while a meta-update is open.
maw_status maw_observe_gradient(maw_optimizer *optimizer, size_t tensor, const void *gradient, maw_error **error);

/// Resets the optimizer.
///
/// `what`: `MAW_RESET_MOMENTS` (moments and all step counts to 0), `MAW_RESET_ATTENTION` (the attention module to its
/// initial values), or both.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT` for 0 or other bits; `MAW_INVALID_STATE` before preparation or while a meta-update is
/// open.
maw_status maw_reset(maw_optimizer *optimizer,
                     uint32_t what,
                     maw_error **error);

/// Sets the CUDA stream on which all later calls of this handle enqueue their work, setters included.
///
/// `stream`: a `CUstream` or `cudaStream_t`, owned by the host, which must not destroy it while it is set; NULL (the
/// default) is the legacy default stream. On the CPU it must be NULL. The call waits for this handle's work on the
/// previous stream. Setters, getters and `MAW_FETCH_WAIT` are ordered after the work on this stream only: replay graphs
/// with steps of this handle on it, or order the streams by events.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_UNSUPPORTED` for a stream on the CPU; `MAW_INVALID_STATE` while this handle has
/// work in a capture of the previous stream; `MAW_CUDA_ERROR` if it is not a stream.
maw_status maw_set_stream(maw_optimizer *optimizer,
                          void *stream,
                          maw_error **error);

/// Sets the callback that receives this handle's messages: skipped steps, changes of parameters that a step overwrote,
/// abandoned meta-updates, options that are probably unintended, layers without a number.
///
/// `callback`: see `maw_log_callback`; NULL turns messages off (the default). `user_data`: passed to the callback; it must
/// stay valid, and usable from any thread that calls, until another callback is set or the handle is freed.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_INVALID_STATE` while a meta-update is open.
maw_status maw_set_log(maw_optimizer *optimizer,
                       maw_log_callback callback,
                       void *user_data,
                       maw_error **error);

/// Makes this process one of several that share a model, each with a part of every tensor (`maw_tensor.sharded`): ZeRO-1,
/// FSDP. Before preparation; chapter "Several processes".
///
/// `callback`: see `maw_reduction_callback`; NULL: this process is alone (the default). `user_data`: passed to the callback;
/// both must stay valid until the handle is freed or another callback is set.
/// Every process registers the same tensors in the same order, all with `sharded` = 1, under the same options (`threads` may
/// differ), calls `maw_prepare`, which finds out whether the parts make up the whole, and then makes the same steps and
/// meta-updates with the same losses, learning rates and scales; gradients are those of the parts. The parameters, factors and
/// attention module then have the bits of a single process that has all. A process that has none of a tensor's
/// elements passes NULL for its gradient, or any pointer; it follows those that have some. (Of a tensor that has none at all,
/// all pass the same.)
/// The callback is called twice by `maw_prepare`; once a step, twice if `MAW_OBJECTIVE_HORIZON` or `MAW_REFERENCE` needs it,
/// and on CUDA in the first step after a file with `MAW_PRECISION_REMAINDER` was loaded;
/// once by `maw_meta_begin`; a few times by `maw_meta_tell`; four times by `maw_save_file`; once by `maw_load_file`. The buffer
/// has 8 doubles per 32,768 elements of the whole model (on CUDA per 4,096 if the model is small), 1 per tensor and 44. Where a
/// call fails on one process because of its arguments, it fails on all others with `MAW_REDUCTION`, so that none waits for it;
/// not so a call with an unusable or busy handle.
/// Setters are called on all processes, those of a tensor's state also where a process has nothing of it. A callback that
/// fails must fail on all: where some got their sums, they have made the step.
/// Not with shards: `verify_params`, `maw_save_bytes` of a run, tensors that come or go after preparation. Under
/// `MAW_NONFINITE_PROPAGATE` no pass is saved, and the report has the gradients' norm. On CUDA a step under
/// `MAW_OBJECTIVE_HORIZON` or `MAW_REFERENCE` waits for the device: it cannot be captured, and takes no `device_grad_scale` or
/// `found_inf`.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_INVALID_STATE` after preparation.
maw_status maw_set_reduction(maw_optimizer *optimizer,
                             maw_reduction_callback callback,
                             void *user_data,
                             maw_error **error);

/// Sets the learning rate of one param group, or of all with `MAW_ALL_GROUPS`, from the next step on.
///
/// `lr`: finite, ≥ 0.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_NOT_FOUND`; `MAW_INVALID_STATE` while a meta-update is open.
maw_status maw_set_lr(maw_optimizer *optimizer, uint32_t group, double lr, maw_error **error);

/// Sets the weight decay of one param group, or of all with `MAW_ALL_GROUPS`. As `maw_set_lr`.
maw_status maw_set_weight_decay(maw_optimizer *optimizer, uint32_t group, double weight_decay, maw_error **error);

/// Sets the decay rates of both moments of one param group, or of all with `MAW_ALL_GROUPS`, from the next step on.
///
/// `beta1`, `beta2`: 0 ≤ value < 1. The bias correction is computed with the new values and the tensor's step count, as in
/// PyTorch. As `maw_set_lr`.
maw_status maw_set_betas(maw_optimizer *optimizer,
                         uint32_t group,
                         double beta1,
                         double beta2,
                         maw_error **error);

/// Sets what is added to the square root of the second moment, of one param group or of all with `MAW_ALL_GROUPS`.
///
/// `eps`: finite and at least the smallest normal number that the group's tensors are computed in. As `maw_set_lr`.
maw_status maw_set_eps(maw_optimizer *optimizer, uint32_t group, double eps, maw_error **error);

/// Sets the norm to which all gradients together are clipped, from the next step or meta-update on; 0: no clipping.
///
/// `max_grad_norm`: finite, ≥ 0.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_INVALID_STATE` while a meta-update is open and, on CUDA, if a step was captured
/// into a graph that has no pass for clipping; `MAW_CUDA_ERROR`.
maw_status maw_set_max_grad_norm(maw_optimizer *optimizer,
                                 double max_grad_norm,
                                 maw_error **error);

/// Sets HUW's three priorities, of gradient alignment, loss decrease and generalization gap, from the next meta-update on.
///
/// `priorities`: three numbers, each finite and ≥ 0; copied.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_INVALID_STATE` while a meta-update is open.
maw_status maw_set_priorities(maw_optimizer *optimizer,
                              const double *priorities,
                              maw_error **error);

/// The current learning rate of a param group.
///
/// `lr`: out.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_NOT_FOUND`.
maw_status maw_get_lr(const maw_optimizer *optimizer, uint32_t group, double *lr, maw_error **error);

/// The current weight decay of a param group.
///
/// `weight_decay`: out.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_NOT_FOUND`.
maw_status maw_get_weight_decay(const maw_optimizer *optimizer,
                                uint32_t group,
                                double *weight_decay,
                                maw_error **error);

/// The current decay rates of a param group's moments.
///
/// `beta1`, `beta2`: out.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_NOT_FOUND`.
maw_status maw_get_betas(const maw_optimizer *optimizer,
                         uint32_t group,
                         double *beta1,
                         double *beta2,
                         maw_error **error);

/// The current eps of a param group.
///
/// `eps`: out.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_NOT_FOUND`.
maw_status maw_get_eps(const maw_optimizer *optimizer, uint32_t group, double *eps, maw_error **error);

/// The norm to which all gradients together are clipped; 0: no clipping.
///
/// `max_grad_norm`: out.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`.
maw_status maw_get_max_grad_norm(const maw_optimizer *optimizer, double *max_grad_norm, maw_error **error);

/// HUW's current priorities of gradient alignment, loss decrease and generalization gap.
///
/// `priorities`: out, three doubles.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`.
maw_status maw_get_priorities(const maw_optimizer *optimizer, double *priorities, maw_error **error);

/// 1 if a meta-update is due, else 0 (also for NULL and for a busy or poisoned handle).
///
/// Due: the number of applied steps is ≥ `meta_warmup` and a multiple of `meta_interval`, not 0, and no meta-update has
/// ended at this number; never under `MAW_OBJECTIVE_HORIZON`. On CUDA it waits for the enqueued steps if one could be due
/// after them. What it then finds to have failed it cannot tell: it returns 0, and the next call that waits tells it.
uint32_t maw_meta_due(const maw_optimizer *optimizer);

/// Begins a meta-update, due or not, and returns the first request. Prepares the optimizer if needed.
///
/// `params`: as in `maw_step`; copied now, and overwritten until the meta-update ends. `request`: out; see
/// `maw_meta_request` for the loop.
/// Memory during a meta-update: a copy of the parameters and up to two copies of the gradients. The next meta-update
/// uses it again; until then the system may reclaim it (on Linux by `MADV_FREE`: the pages count as resident until
/// reclaimed).
/// `MAW_OK`, also if the state is not finite: the request is then `MAW_META_DONE`; `MAW_INVALID_ARGUMENT`;
/// `MAW_INVALID_STATE` if one is open, modulation is off or the module learns from steps (`MAW_OBJECTIVE_HORIZON`); `MAW_PARAMS_CHANGED` under `verify_params`, and after a load as
/// for `maw_step`; `MAW_REDUCTION`; `MAW_OUT_OF_MEMORY`. On failure no meta-update is open.
maw_status maw_meta_begin(maw_optimizer *optimizer,
                          void *const *params,
                          size_t count,
                          maw_meta_request *request,
                          maw_error **error);

/// Answers the open request and returns the next one.
///
/// `answer`: the request's id, the loss, and the loss scale of the gradients. `params`: as in `maw_step`; written, not
/// read. `grads`: as in `maw_step`; may be NULL if the request was for the loss only. `request`: out.
/// If a loss, gradient or direction is not finite, the meta-update is abandoned: the parameters are restored, the
/// attention module is unchanged, the request is `MAW_META_DONE`, and the result gives the reason.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT` for a wrong or repeated id and for invalid pointers: the request stays open and
/// nothing is written; `MAW_UNSUPPORTED` for a field of a newer header; `MAW_INVALID_STATE` if none is open;
/// `MAW_REDUCTION`: if the processes' answers differ or one was refused, the request stays open, as after any other failure;
/// if sums are missing, the meta-update is aborted (`MAW_OUTCOME_ABORTED`) and the parameters are restored.
maw_status maw_meta_tell(maw_optimizer *optimizer,
                         const maw_meta_answer *answer,
                         void *const *params,
                         const void *const *grads,
                         size_t count,
                         maw_meta_request *request,
                         maw_error **error);

/// Aborts the open meta-update: the parameters are restored bit for bit, the attention module is unchanged.
///
/// With shards it is each process's own. Where one cannot evaluate, it passes NULL for `answer` to `maw_meta_tell`, so that the
/// others hear of it, and then all abort.
///
/// `params`: as in `maw_step`.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_INVALID_STATE` if none is open.
maw_status maw_meta_abort(maw_optimizer *optimizer,
                          void *const *params,
                          size_t count,
                          maw_error **error);

/// The result of the last meta-update; its outcome is `MAW_OUTCOME_NONE` before the first.
///
/// `result`: out.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_INVALID_STATE` before preparation.
maw_status maw_meta_result_get(const maw_optimizer *optimizer, maw_meta_result *result, maw_error **error);

/// The gradient of the meta-objective, regularization included, in the last meta-update with `MAW_OUTCOME_UPDATED`.
///
/// `name`: a tensor of the attention module, or "alpha", "beta", "lambda1", "lambda2" (one value per modulation group).
/// `values`: out, `count` doubles, row-major; `count` = the size of that tensor.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_NOT_FOUND`; `MAW_INVALID_STATE` before the first such meta-update.
maw_status maw_meta_gradient(const maw_optimizer *optimizer,
                             const char *name,
                             double *values,
                             size_t count,
                             maw_error **error);

/// The number of applied steps; skipped steps do not count.
///
/// `steps`: out.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_INVALID_STATE` while the stream is being captured.
maw_status maw_step_count(const maw_optimizer *optimizer, uint64_t *steps, maw_error **error);

/// The number of registered param groups.
///
/// `count`: out.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`.
maw_status maw_param_group_count(const maw_optimizer *optimizer, size_t *count, maw_error **error);

/// The number of registered tensors.
///
/// `count`: out.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`.
maw_status maw_tensor_count(const maw_optimizer *optimizer, size_t *count, maw_error **error);

/// The name of a tensor.
///
/// `tensor`: its index in registration order. `name`: out, borrowed: valid until the optimizer is freed, or tensors are added
/// or removed.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_NOT_FOUND`.
maw_status maw_tensor_name(const maw_optimizer *optimizer,
                           size_t tensor,
                           const char **name,
                           maw_error **error);

/// The modulation group of a tensor.
///
/// `tensor`: its index in registration order. `group`: out, the modulation group's index.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_NOT_FOUND`; `MAW_INVALID_STATE` before preparation.
maw_status maw_tensor_group(const maw_optimizer *optimizer, size_t tensor, size_t *group, maw_error **error);

/// The number of modulation groups, which are the tokens of the attention module.
///
/// `count`: out.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_INVALID_STATE` before preparation.
maw_status maw_group_count(const maw_optimizer *optimizer, size_t *count, maw_error **error);

/// The name of a modulation group: "attention.shallow.weight" (layer kind, depth, bias or weight), "param_group.0", or the
/// host's name for it.
///
/// `group`: its index. `name`: out, borrowed: valid until the optimizer is freed, or tensors are added or removed.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_NOT_FOUND`; `MAW_INVALID_STATE` before preparation.
maw_status maw_group_name(const maw_optimizer *optimizer,
                          size_t group,
                          const char **name,
                          maw_error **error);

/// The factors of the modulation groups, from the last applied step or meta-update, whichever was later. All are 1 with
/// modulation off.
///
/// `alpha` (multiplies the learning rate), `beta` (multiplies the weight decay), `lambda1`, `lambda2` (eq. 10): out,
/// `count` doubles each; any may be NULL. `count`: the number of modulation groups.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_INVALID_STATE` before the first step.
maw_status maw_factors(const maw_optimizer *optimizer,
                       double *alpha,
                       double *beta,
                       double *lambda1,
                       double *lambda2,
                       size_t count,
                       maw_error **error);

/// The width D of a token of the attention module: the number of columns of `maw_features`.
///
/// `dim`: out.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_INVALID_STATE` before preparation or with modulation off.
maw_status maw_feature_dim(const maw_optimizer *optimizer, size_t *dim, maw_error **error);

/// The input features of the attention module, before standardization and gating, from the last applied step or
/// meta-update, whichever was later.
///
/// `features`: out, `count` doubles, row-major: one row per modulation group, `maw_feature_dim` columns. `count`: their
/// product.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_INVALID_STATE` before the first step or with modulation off.
maw_status maw_features(const maw_optimizer *optimizer, double *features, size_t count, maw_error **error);

/// The number of the attention module's tensors; 0 with modulation off.
///
/// `count`: out.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_INVALID_STATE` before preparation.
maw_status maw_attention_count(const maw_optimizer *optimizer, size_t *count, maw_error **error);

/// The name of a tensor of the attention module, as in PyTorch's TransformerEncoder:
/// "encoder.layers.0.self_attn.in_proj_weight" …, then "output_proj.weight", "output_proj.bias", and if used
/// "group_embeddings", "feature_gates", "log_vars".
///
/// `index`: below `maw_attention_count`. `name`: out, borrowed: valid until the optimizer is freed.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_NOT_FOUND`; `MAW_INVALID_STATE` before preparation.
maw_status maw_attention_name(const maw_optimizer *optimizer, size_t index, const char **name, maw_error **error);

/// The shape of a tensor of the attention module.
///
/// `index`: below `maw_attention_count`. `rows`, `columns`: out; a vector has one column.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_NOT_FOUND`; `MAW_INVALID_STATE` before preparation.
maw_status maw_attention_shape(const maw_optimizer *optimizer,
                               size_t index,
                               uint64_t *rows,
                               uint64_t *columns,
                               maw_error **error);

/// Copies a tensor of the attention module.
///
/// `name`: as from `maw_attention_name`. `values`: out, `count` doubles, row-major; `count` = rows × columns.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_NOT_FOUND`; `MAW_INVALID_STATE` before preparation.
maw_status maw_attention_get(const maw_optimizer *optimizer,
                             const char *name,
                             double *values,
                             size_t count,
                             maw_error **error);

/// Sets a tensor of the attention module, from the next step on.
///
/// `name`: as from `maw_attention_name`. `values`: `count` finite doubles, row-major, copied; `count` = rows × columns.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_NOT_FOUND`; `MAW_INVALID_STATE` before preparation or while a meta-update is
/// open. On failure nothing is changed.
maw_status maw_attention_set(maw_optimizer *optimizer,
                             const char *name,
                             const double *values,
                             size_t count,
                             maw_error **error);

/// A pointer to the bytes, borrowed: valid until the object is freed. A NUL follows the last byte. NULL for NULL.
const uint8_t *maw_bytes_data(const maw_bytes *bytes);

/// The number of bytes, the NUL not included; 0 for NULL.
size_t maw_bytes_size(const maw_bytes *bytes);

/// Frees bytes; does nothing for NULL. Any thread.
void maw_bytes_free(maw_bytes *bytes);

/// Saves the run to a safetensors file: moments, masters, step counts, attention module, options, current
/// hyper-parameters, counters. Parameters are not saved; that is up to the host. Prepares the optimizer if needed.
///
/// `path`: NUL-terminated; its folder must exist. `flags`: 0, or `MAW_ATTENTION_ONLY` to save only the attention module.
/// Atomic and durable: the data is written to a temporary file in the same folder, synced, and renamed over the old
/// file; then the folder is synced. On failure the old file is unchanged, or the new one is complete. A symbolic link is
/// followed, also to a file that does not exist yet; permissions, and where that is allowed the owner, are preserved. A
/// folder that cannot be read or synced is no failure. A process that is killed may leave `.metaadamw-…` in the folder;
/// the next save to that path removes it. Format: docs/checkpoint_format.md.
/// With shards (`maw_set_reduction`) all processes call it for a file that all see under this path: each writes the part that
/// it has, and the file has the bytes that one process with the whole model would write. If one fails or is killed, the file
/// is the old one. With `MAW_ATTENTION_ONLY`, which is the same on all, one process saves alone.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_IO` names the operation that failed; `MAW_REDUCTION`; `MAW_INVALID_STATE` while a
/// meta-update is open.
maw_status maw_save_file(maw_optimizer *optimizer,
                         const char *path,
                         uint32_t flags,
                         maw_error **error);

/// As `maw_save_file`, to memory.
///
/// `bytes`: out, freed with `maw_bytes_free`; untouched on failure.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_UNSUPPORTED` for the run of shards, of which no process has the whole;
/// `MAW_INVALID_STATE` while a meta-update is open; `MAW_OUT_OF_MEMORY`.
maw_status maw_save_bytes(maw_optimizer *optimizer, uint32_t flags, maw_bytes **bytes, maw_error **error);

/// Loads a saved run, whichever language saved it, into an optimizer with the same tensors, registered in any order. If
/// the order is the same, training continues with the same bits as without the interruption. Prepares the optimizer if
/// needed.
///
/// `path`: NUL-terminated. `flags`: 0 or a combination of the flags below. Names, shapes, dtypes, param groups,
/// modulation groups and options must be equal. With 0, options that have a setter (those of param groups,
/// clipping, priorities: a schedule may have changed them) are taken from the file, and the log lists those that differed.
/// - `MAW_LOAD_FILE_WINS` or `MAW_LOAD_OWN_WINS`: options that affect only later steps may differ (hyper-parameters of
///   param groups, clipping, ranges, intervals, weights and priorities of the meta-objective …). The file's, or the
///   optimizer's own, are used afterwards.
/// - `MAW_LOAD_STRICT`: all options must be equal. At most one of these three.
/// - `MAW_ATTENTION_ONLY`: only the attention module is loaded, from either kind of file. What it reads must be equal:
///   feature columns, heads, the shapes of its tensors; with embeddings the groups.
/// - `MAW_LOAD_PARTIAL`: for a model that has gained or lost tensors. Those of one name must have the same shape, dtype,
///   moments and precision. Tensors that the file does not have start at step 0, and the optimizer's counts are the file's.
///   Embeddings go by the names of modulation groups; those that the file does not have are drawn from the seed and the
///   name, as in `maw_add_tensors`. Where the file has another number of param groups, the optimizer's hyper-parameters of
///   param groups stay. If the modulation groups are not the same, factors are unknown until the next step.
///
/// Under `MAW_PRECISION_REMAINDER` the host's parameters must be those of the file's step: the next step or meta-update
/// compares them, and returns `MAW_PARAMS_CHANGED` if they are not. `device`, `device_index`, `threads` and `verify_params`
/// are not saved. With shards all processes load the same file together, whichever number of processes, or one with the whole
/// model, saved it; each reads all of it and takes its part. The file must not change during the call. The
/// whole file is checked before anything is changed; only if reading it the second time fails is the optimizer reset.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_IO`; `MAW_CORRUPT` for a damaged file (a checksum covers all of it) or another
/// kind of file; `MAW_UNSUPPORTED` for another format version; `MAW_MISMATCH` lists the first differences and the flag or call
/// that resolves them; `MAW_REDUCTION`; `MAW_INVALID_STATE` while a meta-update is open, and under `MAW_LOAD_FILE_WINS` if a step
/// was captured into a CUDA graph whose replays could not follow the file's options: clipping or checks where the
/// capture had none, or `MAW_NONFINITE_ERROR`.
maw_status maw_load_file(maw_optimizer *optimizer,
                         const char *path,
                         uint32_t flags,
                         maw_error **error);

/// As `maw_load_file`, from memory.
///
/// `data`: `size` bytes, used during the call only.
maw_status maw_load_bytes(maw_optimizer *optimizer,
                          const uint8_t *data,
                          size_t size,
                          uint32_t flags,
                          maw_error **error);

/// The number of names that only the file or only the optimizer had in the last load with `MAW_LOAD_PARTIAL`; 0 after
/// another load, and before one.
///
/// `which`: `MAW_LOAD_MISSING_TENSORS` …. `count`: out.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`.
maw_status maw_load_report_count(const maw_optimizer *optimizer, uint32_t which, size_t *count, maw_error **error);

/// One of the names that `maw_load_report_count` counts.
///
/// `which`: as there. `index`: from 0, in the order of registration or of the file. `name`: out, borrowed: valid until the
/// next load, or the optimizer is freed.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_NOT_FOUND`.
maw_status maw_load_report_name(const maw_optimizer *optimizer,
                                uint32_t which,
                                size_t index,
                                const char **name,
                                maw_error **error);

/// The state of the optimizer as JSON, for people, plots and logs: options, param groups, modulation groups with their
/// tensors, features and factors, meta-updates, uncertainty weights, skipped steps with their reasons, times. The schema
/// is docs/state.md. Allowed while a meta-update is open. Prepares the optimizer if needed.
///
/// `json`: out, UTF-8, freed with `maw_bytes_free`; untouched on failure.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_INVALID_STATE` without tensors.
maw_status maw_dump_state(maw_optimizer *optimizer,
                          maw_bytes **json,
                          maw_error **error);

/// Copies the moments and the step count of one tensor, to continue its run with another Adam implementation.
///
/// `tensor`: its index in registration order. `exp_avg`, `exp_avg_sq`: out, `count` floats, or doubles for a float64
/// tensor, whatever the moments' own dtype; each may be NULL. `count`: the tensor's number of elements. `step`: out,
/// the tensor's number of updates so far; may be NULL.
/// `MAW_OK`; `MAW_NOT_FOUND`; `MAW_INVALID_ARGUMENT`; `MAW_INVALID_STATE` before preparation or while a meta-update is
/// open; `MAW_CUDA_ERROR`. On failure nothing is written.
maw_status maw_tensor_state_get(maw_optimizer *optimizer,
                                size_t tensor,
                                void *exp_avg,
                                void *exp_avg_sq,
                                size_t count,
                                uint64_t *step,
                                maw_error **error);

/// Sets the moments and the step count of one tensor, to continue a run of another Adam implementation. The optimizer's
/// own step count becomes at least `step`. Prepares the optimizer if needed.
///
/// `tensor`: its index in registration order. `exp_avg`, `exp_avg_sq`: `count` floats, or doubles for a float64 tensor,
/// finite, `exp_avg_sq` ≥ 0; copied, and rounded to nearest if the moments are bfloat16. `count`: the tensor's number
/// of elements. `step`: the tensor's number of updates so far, at most 2^53 - 1.
/// `MAW_OK`; `MAW_NOT_FOUND`; `MAW_INVALID_ARGUMENT` names the value; `MAW_INVALID_STATE` while a meta-update is open.
/// On failure nothing is changed.
maw_status maw_tensor_state_set(maw_optimizer *optimizer,
                                size_t tensor,
                                const void *exp_avg,
                                const void *exp_avg_sq,
                                size_t count,
                                uint64_t step,
                                maw_error **error);

/// Sets the float32 masters of one tensor, to start from float32 weights, and writes them, rounded, to the host's
/// 16-bit parameter. For `MAW_PRECISION_MASTER` and `MAW_PRECISION_REMAINDER`. Prepares the optimizer if needed.
///
/// `tensor`: its index in registration order. `values`: `count` finite floats, copied. `count`: the tensor's number of
/// elements. `param`: out, the host's parameter as in `maw_step`.
/// `MAW_OK`; `MAW_NOT_FOUND`, also for a tensor without masters; `MAW_INVALID_ARGUMENT` names the value;
/// `MAW_INVALID_STATE` while a meta-update is open. On failure nothing is changed.
maw_status maw_master_set(maw_optimizer *optimizer,
                          size_t tensor,
                          const float *values,
                          void *param,
                          size_t count,
                          maw_error **error);

/// Copies the float32 masters of one tensor. For `MAW_PRECISION_MASTER` and `MAW_PRECISION_REMAINDER`.
///
/// `tensor`: its index in registration order. `param`: the host's parameter as in `maw_step`; read under
/// `MAW_PRECISION_REMAINDER`, where it is half of each master, else it may be NULL. `values`: out, `count` floats.
/// `count`: the tensor's number of elements.
/// `MAW_OK`; `MAW_NOT_FOUND`, also for a tensor without masters; `MAW_INVALID_ARGUMENT`; `MAW_INVALID_STATE` while a
/// meta-update is open, and before the masters are initialized, by the first step (from the parameters) or by
/// `maw_master_set`; `MAW_CUDA_ERROR`. On failure nothing is written.
maw_status maw_master_get(maw_optimizer *optimizer,
                          size_t tensor,
                          const void *param,
                          float *values,
                          size_t count,
                          maw_error **error);

/// Copies the average of one tensor's parameter, or of its masters. For `maw_options.horizon` ≥ 2.
///
/// `tensor`: its index in registration order. `values`: out, `count` floats, or doubles for a float64 tensor, whatever the
/// average's own dtype. `count`: the tensor's number of elements.
/// `MAW_OK`; `MAW_NOT_FOUND`; `MAW_INVALID_ARGUMENT`; `MAW_INVALID_STATE` without averages, before the first step after the
/// tensor came (its average begins as the parameter), and while a meta-update is open; `MAW_CUDA_ERROR`. On failure nothing
/// is written.
maw_status maw_average_get(maw_optimizer *optimizer,
                           size_t tensor,
                           void *values,
                           size_t count,
                           maw_error **error);

/// Writes the averages into the host's parameters, rounded to nearest, for an evaluation; the next call writes the
/// parameters back, bit for bit. For `maw_options.horizon` ≥ 2. Prepares the optimizer if needed.
///
/// `params`: as in `maw_step`; read by the first call, overwritten by the second, whatever is in them then. The averages
/// themselves do not change. A tensor that has made no step yet keeps its parameter.
/// Between the two calls only getters, `maw_average_get` and freeing work; other calls return `MAW_INVALID_STATE`. Freeing
/// leaves the averages in the host's parameters. Memory: a copy of the parameters, which the library uses again as that of a
/// meta-update (`maw_meta_begin`).
/// `MAW_OK`; `MAW_INVALID_ARGUMENT` names the pointer; `MAW_INVALID_STATE` without averages and while a meta-update is open;
/// `MAW_OUT_OF_MEMORY`. On failure nothing is changed.
maw_status maw_average_swap(maw_optimizer *optimizer,
                            void *const *params,
                            size_t count,
                            maw_error **error);

/// The optimizer's own counts, of steps, meta-updates and skipped steps.
///
/// `counters`: out. Before preparation all are 0.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_INVALID_STATE` while the stream is being captured; `MAW_CUDA_ERROR`.
maw_status maw_counters_get(const maw_optimizer *optimizer, maw_counters *counters, maw_error **error);

/// Sets the optimizer's own counts, after the state of its tensors was set (`maw_tensor_state_set`): a run that moves here
/// then goes on as it would have there. Prepares the optimizer if needed. What the last meta-update was is forgotten.
///
/// `counters`: every field is taken.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT` names the count; `MAW_INVALID_STATE` while a meta-update is open, without tensors or
/// while the stream is being captured; `MAW_CUDA_ERROR`; `MAW_OUT_OF_MEMORY`. On failure nothing is changed.
maw_status maw_counters_set(maw_optimizer *optimizer,
                            const maw_counters *counters,
                            maw_error **error);

/// 1 if there is a CUDA device on which an optimizer can be created, else 0. Any thread.
uint32_t maw_cuda_available(void);

/// Allocates device memory, filled with zeros.
///
/// `device_index`: index of the CUDA device. `bytes`: size of the buffer; may be 0. `buffer`: out, freed with
/// `maw_device_buffer_free`; untouched on failure.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`; `MAW_UNSUPPORTED` without a suitable CUDA driver or device; `MAW_INVALID_STATE` while a
/// stream that the default stream waits for is being captured; `MAW_OUT_OF_MEMORY`; `MAW_CUDA_ERROR`. Any thread.
maw_status maw_device_buffer_create(int32_t device_index,
                                    size_t bytes,
                                    maw_device_buffer **buffer,
                                    maw_error **error);

/// Copies host memory into a buffer and waits for the copy. It is enqueued on the legacy default stream, which is also
/// an optimizer's stream unless `maw_set_stream` was called.
///
/// `offset`: start in the buffer, in bytes. `data`: `bytes` bytes; may be NULL if `bytes` is 0.
/// `MAW_OK`; `MAW_INVALID_ARGUMENT`, also if the range exceeds the buffer; `MAW_INVALID_STATE` while a stream that the
/// default stream waits for is being captured; `MAW_CUDA_ERROR`.
maw_status maw_device_buffer_upload(maw_device_buffer *buffer,
                                    size_t offset,
                                    const void *data,
                                    size_t bytes,
                                    maw_error **error);

/// Copies a buffer into host memory and waits for the copy. As `maw_device_buffer_upload`.
///
/// `data`: out, `bytes` bytes; after `MAW_CUDA_ERROR` some of them may have been written.
maw_status maw_device_buffer_download(const maw_device_buffer *buffer,
                                      size_t offset,
                                      void *data,
                                      size_t bytes,
                                      maw_error **error);

/// The buffer's address in device memory, for `maw_step` and other calls; aligned to 256 bytes. NULL for NULL.
void *maw_device_buffer_pointer(const maw_device_buffer *buffer);

/// The buffer's size in bytes; 0 for NULL.
size_t maw_device_buffer_size(const maw_device_buffer *buffer);

/// Frees a buffer after waiting for the device's work that uses it; does nothing for NULL. Any thread.
void maw_device_buffer_free(maw_device_buffer *buffer);

/// The status of an error; `MAW_OK` for NULL. Any thread.
maw_status maw_error_code(const maw_error *error);

/// The message of an error: one line of UTF-8, "" for NULL. Borrowed: valid until the error is freed. Any thread.
const char *maw_error_message(const maw_error *error);

/// Frees an error; does nothing for NULL. Any thread.
void maw_error_free(maw_error *error);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* METAADAMW_H */
