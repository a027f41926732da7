/// @file
/// The constants of metaadamw.h as scoped enums. Every header of the folder includes this one before its own code.
#ifndef METAADAMW_CONSTANTS_HPP
#define METAADAMW_CONSTANTS_HPP

#if (defined(_MSVC_LANG) ? _MSVC_LANG : __cplusplus) < 201703L
#error "metaadamw.hpp needs C++17 or later: compile with -std=c++17 (MSVC: /std:c++17)"
#endif

#include <metaadamw.h>

#include <cstdint>

namespace metaadamw {

/// `maw_status`.
enum class Status : maw_status {
    ok = MAW_OK,
    invalid_argument = MAW_INVALID_ARGUMENT,
    invalid_state = MAW_INVALID_STATE,
    unsupported = MAW_UNSUPPORTED,
    busy = MAW_BUSY,
    not_finite = MAW_NOT_FINITE,
    out_of_memory = MAW_OUT_OF_MEMORY,
    panic = MAW_PANIC,
    not_found = MAW_NOT_FOUND,
    params_changed = MAW_PARAMS_CHANGED,
    io = MAW_IO,
    corrupt = MAW_CORRUPT,
    mismatch = MAW_MISMATCH,
    cuda_error = MAW_CUDA_ERROR,
    reduction = MAW_REDUCTION,
};

/// The same under a name for code in which `Status` is a macro (after <X11/Xlib.h>).
using StatusCode = Status;

/// `MAW_CPU`, `MAW_CUDA`.
enum class Device : std::int32_t { cpu = MAW_CPU, cuda = MAW_CUDA };

/// `MAW_PAPER`, `MAW_REFERENCE`.
enum class Semantics : std::int32_t { paper = MAW_PAPER, reference = MAW_REFERENCE };

/// `MAW_FEATURES_…`.
enum class FeatureVersion : std::int32_t {
    basic = MAW_FEATURES_BASIC,
    basic_plus = MAW_FEATURES_BASIC_PLUS,
    enhanced = MAW_FEATURES_ENHANCED,
    norm_basic = MAW_FEATURES_NORM_BASIC,
    norm_basic_plus = MAW_FEATURES_NORM_BASIC_PLUS,
    norm_log = MAW_FEATURES_NORM_LOG,
};

/// `MAW_GROUPING_…`.
enum class Grouping : std::int32_t {
    fine_grained = MAW_GROUPING_FINE_GRAINED,
    by_param_group = MAW_GROUPING_BY_PARAM_GROUP,
    custom = MAW_GROUPING_CUSTOM,
};

/// `MAW_INIT_…`.
enum class Init : std::int32_t { xavier = MAW_INIT_XAVIER, identity = MAW_INIT_IDENTITY };

/// `MAW_OBJECTIVE_…`.
enum class Objective : std::int32_t {
    combined = MAW_OBJECTIVE_COMBINED,
    gradient = MAW_OBJECTIVE_GRADIENT,
    loss_decrease = MAW_OBJECTIVE_LOSS_DECREASE,
    gen_gap = MAW_OBJECTIVE_GEN_GAP,
    horizon = MAW_OBJECTIVE_HORIZON,
};

/// `MAW_META_SGD`, `MAW_META_ADAMW`: how the attention module learns.
enum class MetaOptimizer : std::int32_t { sgd = MAW_META_SGD, adamw = MAW_META_ADAMW };

/// `MAW_WEIGHTING_…`.
enum class Weighting : std::int32_t { huw = MAW_WEIGHTING_HUW, fixed = MAW_WEIGHTING_FIXED, sum = MAW_WEIGHTING_SUM };

/// `MAW_KIND_…`, of a term of the meta-objective.
enum class TermKind : std::int32_t { regression = MAW_KIND_REGRESSION, classification = MAW_KIND_CLASSIFICATION };

/// `MAW_DIFFERENCE_…`.
enum class Difference : std::int32_t {
    central = MAW_DIFFERENCE_CENTRAL,
    forward = MAW_DIFFERENCE_FORWARD,
    first_order = MAW_DIFFERENCE_FIRST_ORDER,
};

/// `MAW_FLOAT32` …; `automatic` leaves the choice to the library.
enum class DType : std::int32_t {
    automatic = 0,
    float32 = MAW_FLOAT32,
    float64 = MAW_FLOAT64,
    bfloat16 = MAW_BFLOAT16,
    float16 = MAW_FLOAT16,
};

/// `MAW_PRECISION_…`: how 16-bit parameters are updated.
enum class Precision : std::int32_t {
    nearest = MAW_PRECISION_NEAREST,
    master = MAW_PRECISION_MASTER,
    remainder = MAW_PRECISION_REMAINDER,
    stochastic = MAW_PRECISION_STOCHASTIC,
};

/// `MAW_NONFINITE_…`.
enum class Nonfinite : std::int32_t {
    skip = MAW_NONFINITE_SKIP,
    error = MAW_NONFINITE_ERROR,
    propagate = MAW_NONFINITE_PROPAGATE,
};

/// `MAW_LAYER_…`.
enum class LayerKind : std::int32_t {
    unknown = MAW_LAYER_UNKNOWN,
    linear = MAW_LAYER_LINEAR,
    embedding = MAW_LAYER_EMBEDDING,
    attention = MAW_LAYER_ATTENTION,
    layernorm = MAW_LAYER_LAYERNORM,
    convolution = MAW_LAYER_CONVOLUTION,
    batchnorm = MAW_LAYER_BATCHNORM,
    recurrent = MAW_LAYER_RECURRENT,
};

/// `MAW_SKIP_…`: why a step was skipped.
enum class SkipReason : std::int32_t {
    none = MAW_SKIP_NONE,
    gradient = MAW_SKIP_GRADIENT,
    parameter = MAW_SKIP_PARAMETER,
    moment = MAW_SKIP_MOMENT,
    feature = MAW_SKIP_FEATURE,
    factor = MAW_SKIP_FACTOR,
};

/// `MAW_META_LOSS`, `MAW_META_GRADIENT`: what a request of a meta-update wants.
enum class RequestKind : std::int32_t { loss = MAW_META_LOSS, gradient = MAW_META_GRADIENT };

/// `MAW_BATCH_…`: the batch of a request.
enum class Batch : std::int32_t {
    train_1 = MAW_BATCH_TRAIN_1,
    train_2 = MAW_BATCH_TRAIN_2,
    validation = MAW_BATCH_VALIDATION,
};

/// `MAW_OUTCOME_…`: how a meta-update ended.
enum class Outcome : std::int32_t {
    none = MAW_OUTCOME_NONE,
    updated = MAW_OUTCOME_UPDATED,
    aborted = MAW_OUTCOME_ABORTED,
    loss_not_finite = MAW_OUTCOME_LOSS_NOT_FINITE,
    gradient_not_finite = MAW_OUTCOME_GRADIENT_NOT_FINITE,
    state_not_finite = MAW_OUTCOME_STATE_NOT_FINITE,
    direction_not_finite = MAW_OUTCOME_DIRECTION_NOT_FINITE,
    meta_gradient_not_finite = MAW_OUTCOME_META_GRADIENT_NOT_FINITE,
};

/// `MAW_RESET_…`.
enum class Reset : std::uint32_t {
    moments = MAW_RESET_MOMENTS,
    attention = MAW_RESET_ATTENTION,
    all = MAW_RESET_MOMENTS | MAW_RESET_ATTENTION,
};

/// What is saved: the whole run, or the attention module alone (`MAW_ATTENTION_ONLY`).
enum class Save : std::uint32_t { run = 0, attention_only = MAW_ATTENTION_ONLY };

/// What is loaded, and whose options are used where they differ. `run`: the file's for options that have a setter (those
/// of param groups, clipping, priorities); the others must be equal. `strict`: all must be equal. `partial`: the file may
/// have more or fewer tensors and groups (`MAW_LOAD_PARTIAL`); can be combined with another: `Load::partial |
/// Load::file_wins`.
enum class Load : std::uint32_t {
    run = 0,
    strict = MAW_LOAD_STRICT,
    attention_only = MAW_ATTENTION_ONLY,
    file_wins = MAW_LOAD_FILE_WINS,
    own_wins = MAW_LOAD_OWN_WINS,
    partial = MAW_LOAD_PARTIAL,
};

[[nodiscard]] constexpr Load operator|(Load one, Load other) noexcept {
    return static_cast<Load>(static_cast<std::uint32_t>(one) | static_cast<std::uint32_t>(other));
}

/// `MAW_SHARD_ALIGNMENT`: where a tensor may be cut, see `Tensor::shard`.
inline constexpr std::uint64_t shard_alignment = MAW_SHARD_ALIGNMENT;

/// `MAW_LOG_…`.
enum class LogLevel : std::int32_t { info = MAW_LOG_INFO, warning = MAW_LOG_WARNING };

}  // namespace metaadamw

#endif
