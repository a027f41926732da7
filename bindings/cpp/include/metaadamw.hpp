/// @file
///
/// # MetaAdamW for C++: a header over the C ABI
///
/// C++17 or later, nothing but this file, metaadamw.h and the library. It holds no arithmetic: types, ownership,
/// exceptions and closures only. What a call means, which units it takes and how it can fail stands in metaadamw.h at
/// the C function of the same name.
///
/// ```cpp
/// metaadamw::Options options;                       // the library's defaults, then your changes
/// options.meta_interval = 200;
/// metaadamw::Optimizer optimizer{options};
/// optimizer.add_param_group(metaadamw::ParamGroup{}.lr(5e-4).weight_decay(1e-2),
///                           {{"layers.0.weight", w, grad_w, {64, 96}}, {"layers.0.bias", b, grad_b, {64}}});
/// for (auto const& batch : batches) {
///     model.backward(batch);                        // yours: fills grad_w and grad_b
///     optimizer.step();
///     if (optimizer.meta_due())
///         optimizer.meta_update([&](metaadamw::Request const& request) {
///             auto const& wanted = batch_for(request.batch(), request.replay());
///             return request.wants_gradient() ? model.backward(wanted) : model.loss(wanted);
///         });
/// }
/// optimizer.save("run.safetensors");
/// ```
///
/// - **Buffers** stay yours. Their pointers are told once, with the tensor, and kept by the `Optimizer` object;
///   `rebind` tells new ones, `set_gradient(tensor, nullptr)` says that there is none in the next steps.
/// - **Errors** are thrown as `metaadamw::Error`, which carries the status. Each such call has a form that begins with
///   `try_` and answers a `Result` instead; `std::bad_alloc`, and what your closures throw, still come as exceptions.
/// - **Ownership**: an `Optimizer` can be moved, not copied. One that was moved from can be assigned to and destroyed;
///   its other calls fail.
/// - **Threads**: as the C handle, but for the pointers that it keeps: one thread at a time.
#ifndef METAADAMW_HPP
#define METAADAMW_HPP

#include <metaadamw.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#if __cplusplus >= 202002L && defined(__has_include)
#if __has_include(<span>)
#include <span>
#endif
#endif

namespace metaadamw {

// ------------------------------------------------------------------------------------------------ constants ----

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
};

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
};

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

/// `MAW_FLOAT32` …; `automatic` is the library's choice.
enum class DType : std::int32_t {
    automatic = 0,
    float32 = MAW_FLOAT32,
    float64 = MAW_FLOAT64,
    bfloat16 = MAW_BFLOAT16,
    float16 = MAW_FLOAT16,
};

/// `MAW_PRECISION_…`: how 16-bit parameters keep precision.
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

/// `MAW_META_LOSS`, `MAW_META_GRADIENT`: what a meta-update asks for.
enum class RequestKind : std::int32_t { loss = MAW_META_LOSS, gradient = MAW_META_GRADIENT };

/// `MAW_BATCH_…`: on which data.
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

/// What is loaded, and whose options hold where they may differ; `strict`: they may not.
enum class Load : std::uint32_t {
    strict = 0,
    attention_only = MAW_ATTENTION_ONLY,
    file_wins = MAW_LOAD_FILE_WINS,
    own_wins = MAW_LOAD_OWN_WINS,
};

/// `MAW_LOG_…`.
enum class LogLevel : std::int32_t { info = MAW_LOG_INFO, warning = MAW_LOG_WARNING };

// --------------------------------------------------------------------------------------------------- errors ----

/// Why a call failed. `what()` begins with the status's name and names the argument, tensor or group.
class Error : public std::runtime_error {
  public:
    Error(Status status, std::string const& message)
        : std::runtime_error(std::string(maw_status_name(static_cast<maw_status>(status))) + ": " + message),
          status_(status) {}

    [[nodiscard]] Status status() const noexcept { return status_; }

  private:
    Status status_;
};

/// What a `try_` form answers: a value, or an `Error`. (std::expected, which C++17 has not.)
template <class T>
class [[nodiscard]] Result {
  public:
    Result(T value) : content_(std::in_place_index<0>, std::move(value)) {}
    Result(Error error) : content_(std::in_place_index<1>, std::move(error)) {}

    [[nodiscard]] bool ok() const noexcept { return content_.index() == 0; }
    explicit operator bool() const noexcept { return ok(); }
    [[nodiscard]] Status status() const noexcept { return ok() ? Status::ok : std::get_if<1>(&content_)->status(); }

    /// The value; throws the error if there is none.
    [[nodiscard]] T& value() & {
        require();
        return *std::get_if<0>(&content_);
    }
    [[nodiscard]] T const& value() const& {
        require();
        return *std::get_if<0>(&content_);
    }
    [[nodiscard]] T value() && {
        require();
        return std::move(*std::get_if<0>(&content_));
    }

    /// The error; only if not `ok()`, else std::bad_variant_access.
    [[nodiscard]] Error const& error() const { return std::get<1>(content_); }

    /// The value; only if `ok()`.
    [[nodiscard]] T& operator*() noexcept { return *std::get_if<0>(&content_); }
    [[nodiscard]] T const& operator*() const noexcept { return *std::get_if<0>(&content_); }
    [[nodiscard]] T* operator->() noexcept { return std::get_if<0>(&content_); }
    [[nodiscard]] T const* operator->() const noexcept { return std::get_if<0>(&content_); }

  private:
    void require() const {
        if (!ok())
            throw error();
    }

    std::variant<T, Error> content_;
};

/// What a `try_` form without a value answers.
template <>
class [[nodiscard]] Result<void> {
  public:
    Result() = default;
    Result(Error error) : error_(std::move(error)) {}

    [[nodiscard]] bool ok() const noexcept { return !error_; }
    explicit operator bool() const noexcept { return ok(); }
    [[nodiscard]] Status status() const noexcept { return ok() ? Status::ok : error_->status(); }

    /// Throws the error if there is one.
    void value() const {
        if (error_)
            throw *error_;
    }

    /// The error; only if not `ok()`, else std::bad_optional_access.
    [[nodiscard]] Error const& error() const { return error_.value(); }

  private:
    std::optional<Error> error_;
};

/// The bits of a bfloat16, for programs without a type of their own for it.
struct bfloat16 {
    std::uint16_t bits;
};

/// The bits of a 16-bit IEEE float, likewise.
struct float16 {
    std::uint16_t bits;
};

/// What elements of type `T` are to the library. To be specialised for a program's own types of the same layout:
/// `template <> struct metaadamw::Element<c10::BFloat16> : metaadamw::Element<metaadamw::bfloat16> {};`
template <class T>
struct Element {
    static constexpr DType dtype = DType::automatic;  // is none
};
template <>
struct Element<float> {
    static constexpr DType dtype = DType::float32;
};
template <>
struct Element<double> {
    static constexpr DType dtype = DType::float64;
};
template <>
struct Element<bfloat16> {
    static constexpr DType dtype = DType::bfloat16;
};
template <>
struct Element<float16> {
    static constexpr DType dtype = DType::float16;
};

namespace detail {

/// Not deduced from, so that `nullptr` fits beside a pointer that says what `T` is.
template <class T>
struct same {
    using type = T;
};
template <class T>
using same_t = typename same<T>::type;

template <class T>
using if_element = std::enable_if_t<Element<T>::dtype != DType::automatic, int>;

/// Two types of elements that differ: a parameter's and its gradient's.
template <class T, class G>
using if_elements = std::enable_if_t<Element<T>::dtype != DType::automatic && Element<G>::dtype != DType::automatic &&
                                         !std::is_same_v<T, G>,
                                     int>;

/// The type of a tensor's moments as they are read and set.
template <class T>
using if_state = std::enable_if_t<std::is_same_v<T, float> || std::is_same_v<T, double>, int>;

template <class T>
constexpr std::int32_t dtype = static_cast<std::int32_t>(Element<T>::dtype);

inline char const* name_of(std::int32_t dtype) noexcept {
    switch (dtype) {
    case MAW_FLOAT32:
        return "float";
    case MAW_FLOAT64:
        return "double";
    case MAW_BFLOAT16:
        return "bfloat16";
    default:
        return "float16";
    }
}

/// Calls the library with a place for an error object, and takes what came.
template <class Call>
[[nodiscard]] Result<void> call(Call&& function) {
    maw_error* raw = nullptr;
    maw_status const status = function(&raw);
    std::unique_ptr<maw_error, void (*)(maw_error*)> const error(raw, maw_error_free);
    if (status == MAW_OK)
        return {};
    return Error(static_cast<Status>(status), maw_error_message(error.get()));
}

/// A value that the library writes.
template <class T, class Call>
[[nodiscard]] Result<T> value(T initial, Call&& function) {
    Result<void> const called = call([&](maw_error** error) { return function(&initial, error); });
    if (!called)
        return called.error();
    return initial;
}

struct Free {
    void operator()(maw_optimizer* optimizer) const noexcept { maw_optimizer_free(optimizer); }
    void operator()(maw_bytes* bytes) const noexcept { maw_bytes_free(bytes); }
    void operator()(maw_device_buffer* buffer) const noexcept { maw_device_buffer_free(buffer); }
};

}  // namespace detail

// -------------------------------------------------------------------------------------------------- options ----

/// `maw_options`: fields of the same names, with the defaults of the library that is loaded.
struct Options {
    std::uint64_t seed, total_steps, meta_interval, meta_warmup;
    double alpha_range, beta_range;
    double meta_lr, meta_weight_decay, feature_gating_sparsity;
    std::array<double, 3> priorities, fixed_weights;
    double huw_initial_log_var, log_var_limit, difference_scale, max_grad_norm;
    Semantics semantics;
    FeatureVersion feature_version;
    Grouping grouping;
    Init init;
    Objective objective;
    Weighting weighting;
    std::array<TermKind, 3> huw_kinds;
    Difference difference;
    Nonfinite nonfinite;
    Device device;
    std::int32_t device_index;
    bool modulation, use_v_norms, include_time_step, use_feature_gating;
    std::uint32_t group_embed_dim, feature_dim, attn_heads, attn_layers, attn_hidden_dim, threads;
    bool verify_params;

    Options() {
        maw_options from;
        maw_options_init(&from, sizeof from);
        exchange(from, [](auto const& theirs, auto& ours) {
            ours = static_cast<std::decay_t<decltype(ours)>>(theirs);
        });
    }

    [[nodiscard]] maw_options capi() const {
        maw_options to;
        maw_options_init(&to, sizeof to);
        Options copy = *this;
        copy.exchange(to, [](auto& theirs, auto const& ours) {
            theirs = static_cast<std::decay_t<decltype(theirs)>>(ours);
        });
        return to;
    }

  private:
    /// Names every field once, for both directions.
    template <class Assign>
    void exchange(maw_options& c, Assign assign) {
        assign(c.seed, seed);
        assign(c.total_steps, total_steps);
        assign(c.meta_interval, meta_interval);
        assign(c.meta_warmup, meta_warmup);
        assign(c.alpha_range, alpha_range);
        assign(c.beta_range, beta_range);
        assign(c.meta_lr, meta_lr);
        assign(c.meta_weight_decay, meta_weight_decay);
        assign(c.feature_gating_sparsity, feature_gating_sparsity);
        for (std::size_t term = 0; term < 3; term++) {
            assign(c.priorities[term], priorities[term]);
            assign(c.fixed_weights[term], fixed_weights[term]);
            assign(c.huw_kinds[term], huw_kinds[term]);
        }
        assign(c.huw_initial_log_var, huw_initial_log_var);
        assign(c.log_var_limit, log_var_limit);
        assign(c.difference_scale, difference_scale);
        assign(c.max_grad_norm, max_grad_norm);
        assign(c.semantics, semantics);
        assign(c.feature_version, feature_version);
        assign(c.grouping, grouping);
        assign(c.init, init);
        assign(c.objective, objective);
        assign(c.weighting, weighting);
        assign(c.difference, difference);
        assign(c.nonfinite, nonfinite);
        assign(c.device, device);
        assign(c.device_index, device_index);
        assign(c.modulation, modulation);
        assign(c.use_v_norms, use_v_norms);
        assign(c.include_time_step, include_time_step);
        assign(c.use_feature_gating, use_feature_gating);
        assign(c.group_embed_dim, group_embed_dim);
        assign(c.feature_dim, feature_dim);
        assign(c.attn_heads, attn_heads);
        assign(c.attn_layers, attn_layers);
        assign(c.attn_hidden_dim, attn_hidden_dim);
        assign(c.threads, threads);
        assign(c.verify_params, verify_params);
    }
};

/// `maw_param_group`: hyper-parameters that tensors share. `ParamGroup{}.lr(5e-4).weight_decay(1e-2)`.
class ParamGroup {
  public:
    ParamGroup() noexcept { maw_param_group_init(&group_, sizeof group_); }

    ParamGroup& lr(double value) noexcept { return set(group_.lr, value); }
    ParamGroup& beta1(double value) noexcept { return set(group_.beta1, value); }
    ParamGroup& beta2(double value) noexcept { return set(group_.beta2, value); }
    ParamGroup& eps(double value) noexcept { return set(group_.eps, value); }
    ParamGroup& weight_decay(double value) noexcept { return set(group_.weight_decay, value); }
    ParamGroup& precision(Precision value) noexcept {
        group_.precision = static_cast<std::int32_t>(value);
        return *this;
    }
    ParamGroup& moment_dtype(DType value) noexcept {
        group_.moment_dtype = static_cast<std::int32_t>(value);
        return *this;
    }

    [[nodiscard]] double lr() const noexcept { return group_.lr; }
    [[nodiscard]] double beta1() const noexcept { return group_.beta1; }
    [[nodiscard]] double beta2() const noexcept { return group_.beta2; }
    [[nodiscard]] double eps() const noexcept { return group_.eps; }
    [[nodiscard]] double weight_decay() const noexcept { return group_.weight_decay; }
    [[nodiscard]] Precision precision() const noexcept { return static_cast<Precision>(group_.precision); }
    [[nodiscard]] DType moment_dtype() const noexcept { return static_cast<DType>(group_.moment_dtype); }

    [[nodiscard]] maw_param_group const& capi() const noexcept { return group_; }

  private:
    ParamGroup& set(double& field, double value) noexcept {
        field = value;
        return *this;
    }

    maw_param_group group_{};
};

/// A parameter tensor: its name, where its values and gradient are, its shape. Elements are float, double, `bfloat16`,
/// `float16` or types of which `Element` knows; a gradient's may be others than the parameter's.
///
/// `Tensor{"layers.0.weight", w, grad_w, {64, 96}}`; `{}` is the shape of a scalar. Without a gradient `nullptr`.
class Tensor {
  public:
    template <class T, detail::if_element<T> = 0>
    Tensor(std::string name, T* param, detail::same_t<T> const* gradient, std::vector<std::uint64_t> shape)
        : Tensor(std::move(name), param, gradient, std::move(shape), detail::dtype<T>) {}

    /// With a gradient of another type. Without one: a null pointer of that type.
    template <class T, class G, detail::if_elements<T, G> = 0>
    Tensor(std::string name, T* param, G const* gradient, std::vector<std::uint64_t> shape)
        : Tensor(std::move(name), param, gradient, std::move(shape), detail::dtype<T>) {
        grad_dtype_ = detail::dtype<G>;
    }

#ifdef __cpp_lib_span
    /// The spans' lengths are compared with the shape when the tensor is registered. An empty gradient: none.
    Tensor(std::string name, std::span<float> param, std::span<float const> gradient, std::vector<std::uint64_t> shape)
        : Tensor(std::move(name), param.data(), gradient.empty() ? nullptr : gradient.data(), std::move(shape)) {
        lengths_ = {param.size(), gradient.empty() ? param.size() : gradient.size()};
    }
    Tensor(std::string name, std::span<double> param, std::span<double const> gradient,
           std::vector<std::uint64_t> shape)
        : Tensor(std::move(name), param.data(), gradient.empty() ? nullptr : gradient.data(), std::move(shape)) {
        lengths_ = {param.size(), gradient.empty() ? param.size() : gradient.size()};
    }
#endif

    /// What the tensor belongs to, where its name does not tell.
    Tensor& layer_kind(LayerKind kind) & noexcept {
        layer_kind_ = kind;
        return *this;
    }
    Tensor&& layer_kind(LayerKind kind) && noexcept { return std::move(layer_kind(kind)); }

    /// Under `Grouping::custom`: the name of its modulation group.
    Tensor& modulation_group(std::string group) & {
        modulation_group_ = std::move(group);
        return *this;
    }
    Tensor&& modulation_group(std::string group) && { return std::move(modulation_group(std::move(group))); }

    [[nodiscard]] std::string const& name() const noexcept { return name_; }
    [[nodiscard]] std::vector<std::uint64_t> const& shape() const noexcept { return shape_; }

  private:
    friend class Optimizer;

    Tensor(std::string name, void* param, void const* gradient, std::vector<std::uint64_t> shape, std::int32_t dtype)
        : name_(std::move(name)), shape_(std::move(shape)), param_(param), gradient_(gradient), dtype_(dtype),
          grad_dtype_(dtype) {}

    std::string name_;
    std::vector<std::uint64_t> shape_;
    void* param_;
    void const* gradient_;
    std::int32_t dtype_, grad_dtype_;
    LayerKind layer_kind_ = LayerKind::unknown;
    std::optional<std::string> modulation_group_;
    std::optional<std::pair<std::size_t, std::size_t>> lengths_;  // of both buffers, where they are known
};

/// `maw_step_options`: what a single step is told.
struct StepOptions {
    double grad_scale = 1.0;
    bool params_changed = false;
    float const* device_grad_scale = nullptr;  ///< CUDA: in device memory, takes the place of grad_scale
    float const* found_inf = nullptr;          ///< CUDA: in device memory; the step is skipped unless it is 0
};

// -------------------------------------------------------------------------------------------------- answers ----

/// `maw_step_report`: what a step did.
struct StepReport {
    std::uint64_t step, skipped_steps;
    double grad_norm, clip_factor;
    std::optional<std::size_t> nonfinite_tensor;  ///< the first one, in registration order
    bool skipped;
    SkipReason skip_reason;
};

/// `maw_meta_result`: how the last meta-update ended. Terms and losses that the objective does not need are NaN.
struct MetaResult {
    std::uint64_t step, updates;
    double loss_train, loss_validation, loss_train_moved, loss_validation_moved;
    double term_gradient, term_loss_decrease, term_gen_gap, loss_meta;
    std::uint32_t evaluations, idle_groups;
    Outcome outcome;
};

/// What scaled one modulation group: alpha the learning rate, beta the weight decay; lambda1 and lambda2 are of eq. 10.
struct Factors {
    std::string group;
    double alpha, beta, lambda1, lambda2;
};

/// Row-major; a vector has one column.
struct Matrix {
    std::size_t rows = 0, columns = 0;
    std::vector<double> values;

    [[nodiscard]] double operator()(std::size_t row, std::size_t column) const {
        return values.at(row * columns + column);
    }
};

/// `maw_bytes`: bytes that the library made.
class Bytes {
  public:
    explicit Bytes(maw_bytes* bytes) noexcept : bytes_(bytes) {}

    [[nodiscard]] std::uint8_t const* data() const noexcept { return maw_bytes_data(bytes_.get()); }
    [[nodiscard]] std::size_t size() const noexcept { return maw_bytes_size(bytes_.get()); }

  private:
    std::unique_ptr<maw_bytes, detail::Free> bytes_;
};

/// Moments of one tensor, and how often it was updated.
template <class T>
struct TensorState {
    std::vector<T> exp_avg, exp_avg_sq;
    std::uint64_t step = 0;
};

/// `maw_meta_request`: what the host is to evaluate, at the parameters that now are in its buffers.
class Request {
  public:
    /// From 1 on, never used twice by an optimizer.
    [[nodiscard]] std::uint64_t id() const noexcept { return request_.id; }
    /// The earlier request whose batch and random numbers (dropout) must be used again; 0 = free choice.
    [[nodiscard]] std::uint64_t replay() const noexcept { return request_.replay; }
    [[nodiscard]] RequestKind kind() const noexcept { return static_cast<RequestKind>(request_.kind); }
    [[nodiscard]] Batch batch() const noexcept { return static_cast<Batch>(request_.batch); }
    /// The gradients are to stand in the gradient buffers; else the loss is enough.
    [[nodiscard]] bool wants_gradient() const noexcept { return request_.kind == MAW_META_GRADIENT; }

    [[nodiscard]] maw_meta_request const& capi() const noexcept { return request_; }

  private:
    friend class Optimizer;
    Request() noexcept { maw_meta_request_init(&request_, sizeof request_); }

    maw_meta_request request_{};
};

/// `maw_device_buffer`: memory of a CUDA device, for programs without a CUDA of their own. Zeros at first.
class DeviceBuffer {
  public:
    explicit DeviceBuffer(std::size_t bytes, std::int32_t device_index = 0)
        : DeviceBuffer(try_create(bytes, device_index).value()) {}
    [[nodiscard]] static Result<DeviceBuffer> try_create(std::size_t bytes, std::int32_t device_index = 0) {
        maw_device_buffer* buffer = nullptr;
        auto const called = detail::call(
            [&](maw_error** error) { return maw_device_buffer_create(device_index, bytes, &buffer, error); });
        if (!called)
            return called.error();
        return DeviceBuffer(buffer);
    }

    /// Copies in (or out), after all work on the default stream, and waits. `offset` is in bytes.
    void upload(void const* data, std::size_t bytes, std::size_t offset = 0) { try_upload(data, bytes, offset).value(); }
    Result<void> try_upload(void const* data, std::size_t bytes, std::size_t offset = 0) {
        return detail::call(
            [&](maw_error** error) { return maw_device_buffer_upload(capi(), offset, data, bytes, error); });
    }
    void download(void* data, std::size_t bytes, std::size_t offset = 0) const {
        try_download(data, bytes, offset).value();
    }
    Result<void> try_download(void* data, std::size_t bytes, std::size_t offset = 0) const {
        return detail::call(
            [&](maw_error** error) { return maw_device_buffer_download(capi(), offset, data, bytes, error); });
    }

    /// The address in device memory, to be registered as a parameter or a gradient. Not to be followed.
    template <class T>
    [[nodiscard]] T* pointer() const noexcept {
        return static_cast<T*>(maw_device_buffer_pointer(capi()));
    }
    [[nodiscard]] std::size_t size() const noexcept { return maw_device_buffer_size(capi()); }
    [[nodiscard]] maw_device_buffer* capi() const noexcept { return buffer_.get(); }

  private:
    explicit DeviceBuffer(maw_device_buffer* buffer) noexcept : buffer_(buffer) {}

    std::unique_ptr<maw_device_buffer, detail::Free> buffer_;
};

/// What the host answers: the plain loss, and how many times too large the gradients are. A number will do.
struct Answer {
    Answer(double loss_, double grad_scale_ = 1.0) noexcept : loss(loss_), grad_scale(grad_scale_) {}

    double loss, grad_scale;
};

/// Hears messages. What it throws is dropped.
using Log = std::function<void(LogLevel, std::string_view)>;

// ------------------------------------------------------------------------------------------------ optimizer ----

/// An optimizer: `maw_optimizer`, and the pointers to the host's buffers.
class Optimizer {
  public:
    explicit Optimizer(Options const& options = Options()) : Optimizer(try_create(options).value()) {}
    [[nodiscard]] static Result<Optimizer> try_create(Options const& options = Options()) {
        maw_options const c = options.capi();
        maw_optimizer* handle = nullptr;
        auto const called =
            detail::call([&](maw_error** error) { return maw_optimizer_create(&c, &handle, error); });
        if (!called)
            return called.error();
        return Optimizer(handle);
    }

    Optimizer(Optimizer&& other) noexcept = default;
    Optimizer& operator=(Optimizer&& other) noexcept {
        Optimizer moved(std::move(other));
        swap(moved);
        return *this;  // what was here goes with `moved`, the handle before its log
    }
    Optimizer(Optimizer const&) = delete;
    Optimizer& operator=(Optimizer const&) = delete;
    ~Optimizer() = default;

    void swap(Optimizer& other) noexcept {
        std::swap(log_, other.log_);
        std::swap(handle_, other.handle_);
        std::swap(tensors_, other.tensors_);
    }
    friend void swap(Optimizer& a, Optimizer& b) noexcept { a.swap(b); }

    /// The C handle, still owned by this object. NULL after a move.
    [[nodiscard]] maw_optimizer* capi() noexcept { return handle_.get(); }
    [[nodiscard]] maw_optimizer const* capi() const noexcept { return handle_.get(); }
    /// The C handle, now the caller's to free. Its log is silenced; this object is as if moved from.
    [[nodiscard]] maw_optimizer* capi_release() noexcept {
        if (handle_ && log_)
            maw_set_log(handle_.get(), nullptr, nullptr, nullptr);
        tensors_ = Tensors();
        return handle_.release();
    }

    /// The pointers as the C functions want them, in the order of registration.
    [[nodiscard]] std::vector<void*> const& params() const noexcept { return tensors_.params; }
    [[nodiscard]] std::vector<void const*> const& gradients() const noexcept { return tensors_.gradients; }

    // ---- registration

    /// `maw_add_param_group`; answers the group's number.
    std::uint32_t add_param_group(ParamGroup const& group, std::vector<Tensor> const& tensors) {
        return try_add_param_group(group, tensors).value();
    }
    [[nodiscard]] Result<std::uint32_t> try_add_param_group(ParamGroup const& group,
                                                            std::vector<Tensor> const& tensors) {
        Tensors all = tensors_;  // so that what fails, fails before or after both have the tensors
        std::vector<maw_tensor> c(tensors.size());
        for (std::size_t t = 0; t < tensors.size(); t++) {
            Tensor const& tensor = tensors[t];
            if (auto error = unusable(tensor))
                return *std::move(error);
            maw_tensor_init(&c[t], sizeof c[t]);
            c[t].name = tensor.name_.c_str();
            c[t].shape = tensor.shape_.data();
            c[t].ndim = static_cast<std::uint32_t>(std::min<std::size_t>(tensor.shape_.size(), UINT32_MAX));
            c[t].dtype = tensor.dtype_;
            c[t].grad_dtype = tensor.grad_dtype_;
            c[t].layer_kind = static_cast<std::int32_t>(tensor.layer_kind_);
            c[t].modulation_group = tensor.modulation_group_ ? tensor.modulation_group_->c_str() : nullptr;
            all.numbers.emplace(tensor.name_, all.params.size());
            all.params.push_back(tensor.param_);
            all.gradients.push_back(tensor.gradient_);
            all.kinds.push_back({tensor.dtype_, tensor.grad_dtype_, elements(tensor.shape_)});
        }
        auto added = detail::value<std::uint32_t>(0, [&](std::uint32_t* index, maw_error** error) {
            return maw_add_param_group(capi(), &group.capi(), c.data(), c.size(), index, error);
        });
        if (added)
            tensors_ = std::move(all);
        return added;
    }

    /// `maw_prepare`. The first step does it by itself.
    void prepare() { try_prepare().value(); }
    Result<void> try_prepare() {
        return detail::call([&](maw_error** error) { return maw_prepare(capi(), error); });
    }

    // ---- buffers

    /// Number of the tensor of that name, in the order of registration.
    [[nodiscard]] std::size_t tensor_index(std::string_view name) const { return try_tensor_index(name).value(); }
    [[nodiscard]] Result<std::size_t> try_tensor_index(std::string_view name) const {
        auto const found = tensors_.numbers.find(std::string(name));
        if (found == tensors_.numbers.end())
            return Error(Status::not_found, "no tensor is named '" + std::string(name) + "'");
        return found->second;
    }

    /// The tensor's values and gradient are elsewhere from now on; a gradient of `nullptr`: there is none.
    template <class T, detail::if_element<T> = 0>
    void rebind(std::string_view name, T* param, detail::same_t<T> const* gradient) {
        rebind(tensor_index(name), param, gradient);
    }
    template <class T, detail::if_element<T> = 0>
    void rebind(std::size_t tensor, T* param, detail::same_t<T> const* gradient) {
        try_rebind(tensor, param, gradient).value();
    }
    template <class T, detail::if_element<T> = 0>
    Result<void> try_rebind(std::size_t tensor, T* param, detail::same_t<T> const* gradient) {
        return rebind_to(tensor, param, gradient, detail::dtype<T>, gradient == nullptr ? 0 : detail::dtype<T>);
    }
    /// The same where the gradient is of another type.
    template <class T, class G, detail::if_elements<T, G> = 0>
    void rebind(std::string_view name, T* param, G const* gradient) {
        rebind(tensor_index(name), param, gradient);
    }
    template <class T, class G, detail::if_elements<T, G> = 0>
    void rebind(std::size_t tensor, T* param, G const* gradient) {
        try_rebind(tensor, param, gradient).value();
    }
    template <class T, class G, detail::if_elements<T, G> = 0>
    Result<void> try_rebind(std::size_t tensor, T* param, G const* gradient) {
        return rebind_to(tensor, param, gradient, detail::dtype<T>, detail::dtype<G>);
    }

    /// The tensor's gradient is elsewhere from now on.
    template <class T, detail::if_element<std::remove_const_t<T>> = 0>
    void set_gradient(std::string_view name, T* gradient) {
        set_gradient(tensor_index(name), gradient);
    }
    template <class T, detail::if_element<std::remove_const_t<T>> = 0>
    void set_gradient(std::size_t tensor, T* gradient) {
        try_set_gradient(tensor, gradient).value();
    }
    template <class T, detail::if_element<std::remove_const_t<T>> = 0>
    Result<void> try_set_gradient(std::size_t tensor, T* gradient) {
        auto checked = fits_gradient(tensor, detail::dtype<std::remove_const_t<T>>);
        if (checked)
            tensors_.gradients[tensor] = gradient;
        return checked;
    }
    /// There is no gradient from now on: steps leave the tensor alone.
    void set_gradient(std::string_view name, std::nullptr_t) { set_gradient(tensor_index(name), nullptr); }
    void set_gradient(std::size_t tensor, std::nullptr_t) { try_set_gradient(tensor, nullptr).value(); }
    Result<void> try_set_gradient(std::size_t tensor, std::nullptr_t) {
        auto checked = fits(tensor, std::nullopt, std::nullopt);
        if (checked)
            tensors_.gradients[tensor] = nullptr;
        return checked;
    }

#ifdef __cpp_lib_span
    /// As with pointers; the lengths are checked. An empty gradient: none.
    void rebind(std::string_view name, std::span<float> param, std::span<float const> gradient) {
        try_rebind(tensor_index(name), param, gradient).value();
    }
    void rebind(std::string_view name, std::span<double> param, std::span<double const> gradient) {
        try_rebind(tensor_index(name), param, gradient).value();
    }
    void rebind(std::size_t tensor, std::span<float> param, std::span<float const> gradient) {
        try_rebind(tensor, param, gradient).value();
    }
    void rebind(std::size_t tensor, std::span<double> param, std::span<double const> gradient) {
        try_rebind(tensor, param, gradient).value();
    }
    Result<void> try_rebind(std::size_t tensor, std::span<float> param, std::span<float const> gradient) {
        return rebind_spans(tensor, param, gradient);
    }
    Result<void> try_rebind(std::size_t tensor, std::span<double> param, std::span<double const> gradient) {
        return rebind_spans(tensor, param, gradient);
    }
#endif

    // ---- training

    /// `maw_step`: updates every parameter that has a gradient, in place. On CUDA it waits for the step.
    StepReport step(StepOptions const& options = StepOptions()) { return try_step(options).value(); }
    [[nodiscard]] Result<StepReport> try_step(StepOptions const& options = StepOptions()) {
        maw_step_report report;
        maw_step_report_init(&report, sizeof report);
        auto const called = step_with(options, &report);
        if (!called)
            return called.error();
        return told(report);
    }

    /// `maw_step` without a report: on CUDA the step is enqueued and not waited for.
    void launch(StepOptions const& options = StepOptions()) { try_launch(options).value(); }
    Result<void> try_launch(StepOptions const& options = StepOptions()) { return step_with(options, nullptr); }

    /// `maw_step_report_fetch`: of the last step; without `wait`, of the newest that a device has decided by now.
    [[nodiscard]] StepReport step_report(bool wait = true) { return try_step_report(wait).value(); }
    [[nodiscard]] Result<StepReport> try_step_report(bool wait = true) {
        maw_step_report report;
        maw_step_report_init(&report, sizeof report);
        auto const called = detail::call([&](maw_error** error) {
            return maw_step_report_fetch(capi(), wait ? MAW_FETCH_WAIT : 0, &report, error);
        });
        if (!called)
            return called.error();
        return told(report);
    }

    /// `maw_observe_gradient`: the tensor's gradient is final, and still in the cache.
    void observe_gradient(std::string_view name) { observe_gradient(tensor_index(name)); }
    void observe_gradient(std::size_t tensor) { try_observe_gradient(tensor).value(); }
    Result<void> try_observe_gradient(std::size_t tensor) {
        auto const known = fits(tensor, std::nullopt, std::nullopt);
        if (!known)
            return known;
        return detail::call([&](maw_error** error) {
            return maw_observe_gradient(capi(), tensor, tensors_.gradients[tensor], error);
        });
    }

    /// `maw_meta_due`: 'true' if a meta-update should be made now.
    [[nodiscard]] bool meta_due() const noexcept { return maw_meta_due(capi()) != 0; }

    /// A whole meta-update. `evaluate(Request const&)` answers the loss (or an `Answer`) at the parameters that it then
    /// finds in its buffers, with the gradients in theirs where `request.wants_gradient()`.
    ///
    /// Afterwards the parameters hold the exact bits of before, however it ended. An exception of `evaluate` aborts the
    /// meta-update and arrives here unchanged; so it does through `try_meta_update`. Something that is not finite is no
    /// failure: the result's `outcome` tells.
    template <class Evaluate>
    MetaResult meta_update(Evaluate&& evaluate) {
        return try_meta_update(std::forward<Evaluate>(evaluate)).value();
    }
    template <class Evaluate>
    [[nodiscard]] Result<MetaResult> try_meta_update(Evaluate&& evaluate) {
        Request request;
        auto called = detail::call([&](maw_error** error) {
            return maw_meta_begin(capi(), tensors_.params.data(), tensors_.params.size(), &request.request_, error);
        });
        if (!called)
            return called.error();
        AbortUnlessDone open{*this, request.request_};
        while (request.request_.kind != MAW_META_DONE) {
            Answer const answer = evaluate(static_cast<Request const&>(request));
            called = tell(request, answer);
            if (!called)
                return called.error();
        }
        return try_meta_result();
    }

    /// `maw_meta_result_get`: how the last meta-update ended.
    [[nodiscard]] MetaResult meta_result() const { return try_meta_result().value(); }
    [[nodiscard]] Result<MetaResult> try_meta_result() const {
        maw_meta_result r;
        maw_meta_result_init(&r, sizeof r);
        auto const called = detail::call([&](maw_error** error) { return maw_meta_result_get(capi(), &r, error); });
        if (!called)
            return called.error();
        return MetaResult{r.step, r.updates, r.loss_train, r.loss_validation, r.loss_train_moved,
                          r.loss_validation_moved, r.term_gradient, r.term_loss_decrease, r.term_gen_gap, r.loss_meta,
                          r.evaluations, r.idle_groups, static_cast<Outcome>(r.outcome)};
    }

    // ---- what can be changed on the way

    /// `maw_set_lr`, of every param group.
    void set_lr(double lr) { set_lr(MAW_ALL_GROUPS, lr); }
    /// `maw_set_lr`, of one.
    void set_lr(std::uint32_t group, double lr) { try_set_lr(group, lr).value(); }
    Result<void> try_set_lr(std::uint32_t group, double lr) {
        return detail::call([&](maw_error** error) { return maw_set_lr(capi(), group, lr, error); });
    }
    [[nodiscard]] double lr(std::uint32_t group = 0) const { return try_lr(group).value(); }
    [[nodiscard]] Result<double> try_lr(std::uint32_t group = 0) const {
        return detail::value(0.0, [&](double* lr, maw_error** error) { return maw_get_lr(capi(), group, lr, error); });
    }

    /// `maw_set_weight_decay`, of every param group.
    void set_weight_decay(double decay) { set_weight_decay(MAW_ALL_GROUPS, decay); }
    /// `maw_set_weight_decay`, of one.
    void set_weight_decay(std::uint32_t group, double decay) { try_set_weight_decay(group, decay).value(); }
    Result<void> try_set_weight_decay(std::uint32_t group, double decay) {
        return detail::call([&](maw_error** error) { return maw_set_weight_decay(capi(), group, decay, error); });
    }
    [[nodiscard]] double weight_decay(std::uint32_t group = 0) const { return try_weight_decay(group).value(); }
    [[nodiscard]] Result<double> try_weight_decay(std::uint32_t group = 0) const {
        return detail::value(0.0, [&](double* decay, maw_error** error) {
            return maw_get_weight_decay(capi(), group, decay, error);
        });
    }

    /// `maw_set_priorities`: of gradient alignment, loss decrease, generalization gap.
    void set_priorities(std::array<double, 3> const& priorities) { try_set_priorities(priorities).value(); }
    Result<void> try_set_priorities(std::array<double, 3> const& priorities) {
        return detail::call([&](maw_error** error) { return maw_set_priorities(capi(), priorities.data(), error); });
    }
    [[nodiscard]] std::array<double, 3> priorities() const { return try_priorities().value(); }
    [[nodiscard]] Result<std::array<double, 3>> try_priorities() const {
        return detail::value(std::array<double, 3>(), [&](std::array<double, 3>* priorities, maw_error** error) {
            return maw_get_priorities(capi(), priorities->data(), error);
        });
    }

    /// `maw_reset`: moments and step counts, the attention module, or both start anew.
    void reset(Reset what) { try_reset(what).value(); }
    Result<void> try_reset(Reset what) {
        return detail::call(
            [&](maw_error** error) { return maw_reset(capi(), static_cast<std::uint32_t>(what), error); });
    }

    /// `maw_set_stream`: the CUDA stream that everything is enqueued on. On the CPU it must stay NULL.
    void set_stream(void* stream) { try_set_stream(stream).value(); }
    Result<void> try_set_stream(void* stream) {
        return detail::call([&](maw_error** error) { return maw_set_stream(capi(), stream, error); });
    }

    /// `maw_set_log`: hears this optimizer's messages, inside the call that caused them; an empty function silences.
    /// Calls on the same optimizer from inside it fail with `Status::busy`.
    void set_log(Log log) { try_set_log(std::move(log)).value(); }
    Result<void> try_set_log(Log log) {
        auto heard = log ? std::make_unique<Log>(std::move(log)) : nullptr;
        auto called = detail::call([&](maw_error** error) {
            return maw_set_log(capi(), heard ? &Optimizer::hear : nullptr, heard.get(), error);
        });
        if (called)
            log_ = std::move(heard);
        return called;
    }

    // ---- a run on disk, and on its way from and to other optimizers

    /// `maw_save_file`: durable; the parameters are yours to save.
    void save(std::string const& path, Save what = Save::run) { try_save(path, what).value(); }
    Result<void> try_save(std::string const& path, Save what = Save::run) {
        return detail::call([&](maw_error** error) {
            return maw_save_file(capi(), path.c_str(), static_cast<std::uint32_t>(what), error);
        });
    }
    /// `maw_load_file`: into an optimizer with the same tensors.
    void load(std::string const& path, Load how = Load::strict) { try_load(path, how).value(); }
    Result<void> try_load(std::string const& path, Load how = Load::strict) {
        return detail::call([&](maw_error** error) {
            return maw_load_file(capi(), path.c_str(), static_cast<std::uint32_t>(how), error);
        });
    }

    /// As `save` and `load`, in memory.
    [[nodiscard]] Bytes save_bytes(Save what = Save::run) { return try_save_bytes(what).value(); }
    [[nodiscard]] Result<Bytes> try_save_bytes(Save what = Save::run) {
        return bytes([&](maw_bytes** made, maw_error** error) {
            return maw_save_bytes(capi(), static_cast<std::uint32_t>(what), made, error);
        });
    }
    void load_bytes(std::uint8_t const* data, std::size_t size, Load how = Load::strict) {
        try_load_bytes(data, size, how).value();
    }
    Result<void> try_load_bytes(std::uint8_t const* data, std::size_t size, Load how = Load::strict) {
        return detail::call([&](maw_error** error) {
            return maw_load_bytes(capi(), data, size, static_cast<std::uint32_t>(how), error);
        });
    }

    /// `maw_dump_state`: what the optimizer is doing, as JSON.
    [[nodiscard]] std::string dump_state() { return try_dump_state().value(); }
    [[nodiscard]] Result<std::string> try_dump_state() {
        auto const json = bytes([&](maw_bytes** made, maw_error** error) {
            return maw_dump_state(capi(), made, error);
        });
        if (!json)
            return json.error();
        return std::string(json->data(), json->data() + json->size());
    }

    /// `maw_tensor_state_get`; `T` is double for a tensor of double, else float.
    template <class T, detail::if_state<T> = 0>
    [[nodiscard]] TensorState<T> tensor_state(std::size_t tensor) {
        return try_tensor_state<T>(tensor).value();
    }
    template <class T, detail::if_state<T> = 0>
    [[nodiscard]] Result<TensorState<T>> try_tensor_state(std::size_t tensor) {
        auto const known = fits_state(tensor, detail::dtype<T>, std::nullopt);
        if (!known)
            return known.error();
        auto const length = static_cast<std::size_t>(tensors_.kinds[tensor].elements.value_or(0));
        TensorState<T> state{std::vector<T>(length), std::vector<T>(length), 0};
        auto const called = detail::call([&](maw_error** error) {
            return maw_tensor_state_get(capi(), tensor, state.exp_avg.data(), state.exp_avg_sq.data(), length,
                                        &state.step, error);
        });
        if (!called)
            return called.error();
        return state;
    }
    /// `maw_tensor_state_set`.
    template <class T, detail::if_state<T> = 0>
    void set_tensor_state(std::size_t tensor, TensorState<T> const& state) {
        try_set_tensor_state(tensor, state).value();
    }
    template <class T, detail::if_state<T> = 0>
    Result<void> try_set_tensor_state(std::size_t tensor, TensorState<T> const& state) {
        auto const known = fits_state(tensor, detail::dtype<T>, std::pair(state.exp_avg.size(), state.exp_avg_sq.size()));
        if (!known)
            return known;
        return detail::call([&](maw_error** error) {
            return maw_tensor_state_set(capi(), tensor, state.exp_avg.data(), state.exp_avg_sq.data(),
                                        state.exp_avg.size(), state.step, error);
        });
    }

    /// `maw_master_get`: the float32 masters of a 16-bit tensor.
    [[nodiscard]] std::vector<float> masters(std::size_t tensor) { return try_masters(tensor).value(); }
    [[nodiscard]] Result<std::vector<float>> try_masters(std::size_t tensor) {
        auto const known = fits(tensor, std::nullopt, std::nullopt);
        if (!known)
            return known.error();
        std::vector<float> values(static_cast<std::size_t>(tensors_.kinds[tensor].elements.value_or(0)));
        auto const called = detail::call([&](maw_error** error) {
            return maw_master_get(capi(), tensor, tensors_.params[tensor], values.data(), values.size(), error);
        });
        if (!called)
            return called.error();
        return values;
    }
    /// `maw_master_set`: a run starts from float32 weights, and the parameter shows them.
    void set_masters(std::size_t tensor, std::vector<float> const& values) { try_set_masters(tensor, values).value(); }
    Result<void> try_set_masters(std::size_t tensor, std::vector<float> const& values) {
        auto const known = fits(tensor, std::nullopt, std::pair(values.size(), values.size()));
        if (!known)
            return known;
        return detail::call([&](maw_error** error) {
            return maw_master_set(capi(), tensor, values.data(), tensors_.params[tensor], values.size(), error);
        });
    }

    // ---- what can be asked

    /// Applied steps so far.
    [[nodiscard]] std::uint64_t step_count() const { return try_step_count().value(); }
    [[nodiscard]] Result<std::uint64_t> try_step_count() const {
        return detail::value<std::uint64_t>(
            0, [&](std::uint64_t* n, maw_error** error) { return maw_step_count(capi(), n, error); });
    }

    [[nodiscard]] std::size_t param_group_count() const { return try_param_group_count().value(); }
    [[nodiscard]] Result<std::size_t> try_param_group_count() const { return count(maw_param_group_count); }

    [[nodiscard]] std::size_t tensor_count() const { return try_tensor_count().value(); }
    [[nodiscard]] Result<std::size_t> try_tensor_count() const { return count(maw_tensor_count); }

    [[nodiscard]] std::string tensor_name(std::size_t tensor) const { return try_tensor_name(tensor).value(); }
    [[nodiscard]] Result<std::string> try_tensor_name(std::size_t tensor) const {
        return text(maw_tensor_name, tensor);
    }

    /// The modulation group of a tensor.
    [[nodiscard]] std::size_t tensor_group(std::size_t tensor) const { return try_tensor_group(tensor).value(); }
    [[nodiscard]] Result<std::size_t> try_tensor_group(std::size_t tensor) const {
        return detail::value<std::size_t>(0, [&](std::size_t* group, maw_error** error) {
            return maw_tensor_group(capi(), tensor, group, error);
        });
    }

    /// Modulation groups.
    [[nodiscard]] std::size_t group_count() const { return try_group_count().value(); }
    [[nodiscard]] Result<std::size_t> try_group_count() const { return count(maw_group_count); }

    [[nodiscard]] std::string group_name(std::size_t group) const { return try_group_name(group).value(); }
    [[nodiscard]] Result<std::string> try_group_name(std::size_t group) const { return text(maw_group_name, group); }

    /// `maw_factors`: one entry a modulation group, of the last applied step or begun meta-update.
    [[nodiscard]] std::vector<Factors> factors() const { return try_factors().value(); }
    [[nodiscard]] Result<std::vector<Factors>> try_factors() const {
        auto const groups = try_group_count();
        if (!groups)
            return groups.error();
        std::vector<double> alpha(*groups), beta(*groups), lambda1(*groups), lambda2(*groups);
        auto const called = detail::call([&](maw_error** error) {
            return maw_factors(capi(), alpha.data(), beta.data(), lambda1.data(), lambda2.data(), *groups, error);
        });
        if (!called)
            return called.error();
        std::vector<Factors> all;
        for (std::size_t g = 0; g < *groups; g++) {
            auto name = try_group_name(g);
            if (!name)
                return name.error();
            all.push_back({*std::move(name), alpha[g], beta[g], lambda1[g], lambda2[g]});
        }
        return all;
    }

    /// `maw_features`: one row a modulation group.
    [[nodiscard]] Matrix features() const { return try_features().value(); }
    [[nodiscard]] Result<Matrix> try_features() const {
        auto const groups = try_group_count();
        if (!groups)
            return groups.error();
        auto const dim = count(maw_feature_dim);
        if (!dim)
            return dim.error();
        return filled({*groups, *dim, {}}, [&](double* values, std::size_t n, maw_error** error) {
            return maw_features(capi(), values, n, error);
        });
    }

    /// Names of the attention module's tensors.
    [[nodiscard]] std::vector<std::string> attention_names() const { return try_attention_names().value(); }
    [[nodiscard]] Result<std::vector<std::string>> try_attention_names() const {
        auto const n = count(maw_attention_count);
        if (!n)
            return n.error();
        std::vector<std::string> names;
        for (std::size_t i = 0; i < *n; i++) {
            auto name = text(maw_attention_name, i);
            if (!name)
                return name.error();
            names.push_back(*std::move(name));
        }
        return names;
    }

    /// `maw_attention_get`.
    [[nodiscard]] Matrix attention(std::string const& name) const { return try_attention(name).value(); }
    [[nodiscard]] Result<Matrix> try_attention(std::string const& name) const {
        auto shape = attention_shape(name);
        if (!shape)
            return shape;
        return filled(*std::move(shape), [&](double* values, std::size_t n, maw_error** error) {
            return maw_attention_get(capi(), name.c_str(), values, n, error);
        });
    }

    /// `maw_attention_set`: row-major values.
    void set_attention(std::string const& name, std::vector<double> const& values) {
        try_set_attention(name, values).value();
    }
    Result<void> try_set_attention(std::string const& name, std::vector<double> const& values) {
        return detail::call([&](maw_error** error) {
            return maw_attention_set(capi(), name.c_str(), values.data(), values.size(), error);
        });
    }

    /// `maw_meta_gradient`: for a tensor of the attention module, or "alpha", "beta", "lambda1", "lambda2".
    [[nodiscard]] Matrix meta_gradient(std::string const& name) const { return try_meta_gradient(name).value(); }
    [[nodiscard]] Result<Matrix> try_meta_gradient(std::string const& name) const {
        bool const factor = name == "alpha" || name == "beta" || name == "lambda1" || name == "lambda2";
        auto const groups = try_group_count();
        if (!groups)
            return groups.error();
        auto shape = factor ? Result<Matrix>(Matrix{*groups, 1, {}}) : attention_shape(name);
        if (!shape)
            return shape;
        return filled(*std::move(shape), [&](double* values, std::size_t n, maw_error** error) {
            return maw_meta_gradient(capi(), name.c_str(), values, n, error);
        });
    }

  private:
    /// A tensor's dtypes and how many elements it has, where that can be said in 64 bits.
    struct Kind {
        std::int32_t dtype, grad_dtype;
        std::optional<std::uint64_t> elements;
    };
    /// All tensors in the order of registration.
    struct Tensors {
        std::vector<void*> params;
        std::vector<void const*> gradients;
        std::vector<Kind> kinds;
        std::unordered_map<std::string, std::size_t> numbers;
    };
    /// Leaves no meta-update open, whichever way the scope is left.
    struct AbortUnlessDone {
        Optimizer& optimizer;
        maw_meta_request const& request;

        ~AbortUnlessDone() {
            auto const& params = optimizer.tensors_.params;
            if (request.kind != MAW_META_DONE)
                maw_meta_abort(optimizer.capi(), params.data(), params.size(), nullptr);
        }
    };

    explicit Optimizer(maw_optimizer* handle) noexcept : handle_(handle) {}

    Result<void> step_with(StepOptions const& options, maw_step_report* report) {
        maw_step_options c;
        maw_step_options_init(&c, sizeof c);
        c.grad_scale = options.grad_scale;
        c.flags = options.params_changed ? MAW_STEP_PARAMS_CHANGED : 0;
        c.device_grad_scale = options.device_grad_scale;
        c.found_inf = options.found_inf;
        return detail::call([&](maw_error** error) {
            return maw_step(capi(), tensors_.params.data(), tensors_.gradients.data(), tensors_.params.size(), &c,
                            report, error);
        });
    }

    static StepReport told(maw_step_report const& report) {
        StepReport told{report.step, report.skipped_steps, report.grad_norm, report.clip_factor,
                        std::nullopt, report.skipped != 0, static_cast<SkipReason>(report.skip_reason)};
        if (report.nonfinite_tensor != MAW_NO_TENSOR)
            told.nonfinite_tensor = static_cast<std::size_t>(report.nonfinite_tensor);
        return told;
    }

    static void hear(std::int32_t level, char const* message, void* log) noexcept {
        try {
            (*static_cast<Log const*>(log))(static_cast<LogLevel>(level), message);
        } catch (...) {  // must not unwind through the library, and has nobody to go to
        }
    }

    static std::optional<std::uint64_t> elements(std::vector<std::uint64_t> const& shape) noexcept {
        if (std::find(shape.begin(), shape.end(), 0u) != shape.end())
            return 0;
        std::uint64_t product = 1;
        for (std::uint64_t const length : shape) {
            if (product > UINT64_MAX / length)
                return std::nullopt;
            product *= length;
        }
        return product;
    }

    /// What the C ABI cannot see: a name that goes on after a NUL, and lengths of spans.
    static std::optional<Error> unusable(Tensor const& tensor) {
        auto const cut = [](std::string const& text) { return text.find('\0') != std::string::npos; };
        if (cut(tensor.name_) || (tensor.modulation_group_ && cut(*tensor.modulation_group_)))
            return Error(Status::invalid_argument,
                         "a name of tensor '" + std::string(tensor.name_.c_str()) + "…' has a NUL inside");
        if (!tensor.lengths_)
            return std::nullopt;
        return wrong_length("tensor '" + tensor.name_ + "'", elements(tensor.shape_), *tensor.lengths_);
    }

    static std::optional<Error> wrong_length(std::string const& whose, std::optional<std::uint64_t> wanted,
                                             std::pair<std::size_t, std::size_t> given) {
        for (std::size_t const length : {given.first, given.second})
            if (wanted != length)
                return Error(Status::invalid_argument,
                             "a buffer of " + std::to_string(length) + " elements for " + whose +
                                 ", whose shape has " + (wanted ? std::to_string(*wanted) : "too many"));
        return std::nullopt;
    }

    /// The tensor exists and has this dtype, and this many elements.
    Result<void> fits(std::size_t tensor, std::optional<std::int32_t> dtype,
                      std::optional<std::pair<std::size_t, std::size_t>> lengths) const {
        if (tensor >= tensors_.kinds.size())
            return Error(Status::not_found, "tensor " + std::to_string(tensor) + " of " +
                                                std::to_string(tensors_.kinds.size()));
        Kind const& kind = tensors_.kinds[tensor];
        if (dtype && *dtype != kind.dtype)
            return wrong_type("tensor " + std::to_string(tensor), kind.dtype);
        if (lengths)
            if (auto error = wrong_length("tensor " + std::to_string(tensor), kind.elements, *lengths))
                return *std::move(error);
        return {};
    }

    static Error wrong_type(std::string const& whose, std::int32_t registered) {
        return Error(Status::invalid_argument, whose + " was registered as " + detail::name_of(registered));
    }

    /// The tensor exists and its gradients have this dtype.
    Result<void> fits_gradient(std::size_t tensor, std::int32_t dtype) const {
        auto const known = fits(tensor, std::nullopt, std::nullopt);
        if (known && dtype != tensors_.kinds[tensor].grad_dtype)
            return wrong_type("the gradient of tensor " + std::to_string(tensor), tensors_.kinds[tensor].grad_dtype);
        return known;
    }

    /// The tensor exists, and its moments are told in this dtype and are so many.
    Result<void> fits_state(std::size_t tensor, std::int32_t dtype,
                            std::optional<std::pair<std::size_t, std::size_t>> lengths) const {
        auto const known = fits(tensor, std::nullopt, lengths);
        if (!known)
            return known;
        std::int32_t const wide = tensors_.kinds[tensor].dtype == MAW_FLOAT64 ? MAW_FLOAT64 : MAW_FLOAT32;
        if (dtype != wide)
            return wrong_type("the state of tensor " + std::to_string(tensor), wide);
        return {};
    }

    /// `grad_dtype` 0: there is no gradient whose type could be wrong.
    Result<void> rebind_to(std::size_t tensor, void* param, void const* gradient, std::int32_t dtype,
                           std::int32_t grad_dtype) {
        auto checked = fits(tensor, dtype, std::nullopt);
        if (checked && grad_dtype != 0)
            checked = fits_gradient(tensor, grad_dtype);
        if (checked) {
            tensors_.params[tensor] = param;
            tensors_.gradients[tensor] = gradient;
        }
        return checked;
    }

#ifdef __cpp_lib_span
    template <class T>
    Result<void> rebind_spans(std::size_t tensor, std::span<T> param, std::span<T const> gradient) {
        std::size_t const length = gradient.empty() ? param.size() : gradient.size();
        auto checked = fits(tensor, detail::dtype<T>, std::pair(param.size(), length));
        if (!checked)
            return checked;
        return try_rebind(tensor, param.data(), gradient.empty() ? nullptr : gradient.data());
    }
#endif

    Result<void> tell(Request& request, Answer const& answer) {
        maw_meta_answer c;
        maw_meta_answer_init(&c, sizeof c);
        c.request_id = request.request_.id;
        c.loss = answer.loss;
        c.grad_scale = answer.grad_scale;
        return detail::call([&](maw_error** error) {
            return maw_meta_tell(capi(), &c, tensors_.params.data(), tensors_.gradients.data(), tensors_.params.size(),
                                 &request.request_, error);
        });
    }

    template <class Make>
    [[nodiscard]] static Result<Bytes> bytes(Make&& make) {
        auto const made = detail::value<maw_bytes*>(nullptr, std::forward<Make>(make));
        if (!made)
            return made.error();
        return Bytes(*made);
    }

    using CountFunction = maw_status (*)(maw_optimizer const*, std::size_t*, maw_error**);
    [[nodiscard]] Result<std::size_t> count(CountFunction function) const {
        return detail::value<std::size_t>(
            0, [&](std::size_t* n, maw_error** error) { return function(capi(), n, error); });
    }

    using TextFunction = maw_status (*)(maw_optimizer const*, std::size_t, char const**, maw_error**);
    [[nodiscard]] Result<std::string> text(TextFunction function, std::size_t index) const {
        auto const lent = detail::value<char const*>(
            "", [&](char const** name, maw_error** error) { return function(capi(), index, name, error); });
        if (!lent)
            return lent.error();
        return std::string(*lent);
    }

    /// Rows and columns of a tensor of the attention module, without values.
    [[nodiscard]] Result<Matrix> attention_shape(std::string const& name) const {
        auto const names = try_attention_names();
        if (!names)
            return names.error();
        auto const found = std::find(names->begin(), names->end(), name);
        if (found == names->end())
            return Error(Status::not_found, "the attention module has no tensor '" + name + "'");
        std::uint64_t rows = 0, columns = 0;
        auto const called = detail::call([&](maw_error** error) {
            return maw_attention_shape(capi(), static_cast<std::size_t>(found - names->begin()), &rows, &columns,
                                       error);
        });
        if (!called)
            return called.error();
        return Matrix{static_cast<std::size_t>(rows), static_cast<std::size_t>(columns), {}};
    }

    template <class Fill>
    [[nodiscard]] static Result<Matrix> filled(Matrix matrix, Fill&& fill) {
        matrix.values.resize(matrix.rows * matrix.columns);
        auto const called = detail::call(
            [&](maw_error** error) { return fill(matrix.values.data(), matrix.values.size(), error); });
        if (!called)
            return called.error();
        return matrix;
    }

    std::unique_ptr<Log> log_;  // before the handle, which is destroyed first: the library may still know the log
    std::unique_ptr<maw_optimizer, detail::Free> handle_;
    Tensors tensors_;
};

/// The library's version as text.
[[nodiscard]] inline std::string version() { return maw_version(); }

/// `MAW_ABI_VERSION` of the library that is loaded.
[[nodiscard]] inline std::uint32_t abi_version() noexcept { return maw_abi_version(); }

/// 'true' if CUDA tensors can be used.
[[nodiscard]] inline bool cuda_available() noexcept { return maw_cuda_available() != 0; }

}  // namespace metaadamw

#endif
