/// @file
/// The optimizer: creation, ownership, and the list of its calls. The `try_` forms do the work; they are defined in the
/// files `optimizer_*.hpp`, one a subject, which this file includes at its end.
#ifndef METAADAMW_OPTIMIZER_HPP
#define METAADAMW_OPTIMIZER_HPP

#include <metaadamw.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

#include "buffer.hpp"
#include "call.hpp"
#include "constants.hpp"
#include "element.hpp"
#include "error.hpp"
#include "meta.hpp"
#include "options.hpp"
#include "state.hpp"
#include "step.hpp"
#include "tensor.hpp"

namespace metaadamw {

/// Receives log messages. Exceptions that it throws are dropped.
using Log = std::function<void(LogLevel, std::string_view)>;

/// Sums the numbers over all processes in place, as `maw_reduction_callback` says. 0 is success. An exception that it
/// throws reaches the caller of the optimizer's call that it happened in. On CUDA `values` is an address in device
/// memory, and the sum is enqueued on the stream of `Optimizer::set_stream`, as `ncclAllReduce` does; that stream may be
/// in a capture.
using Reduction = std::function<std::int32_t(double* values, std::size_t count)>;

/// An optimizer: `maw_optimizer`, and addresses of the host's buffers.
class Optimizer {
    struct SwapBack {
        void operator()(Optimizer* optimizer) const noexcept;
    };

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
        return *this;  // what was here goes with `moved`, the handle before its functions
    }
    Optimizer(Optimizer const&) = delete;
    Optimizer& operator=(Optimizer const&) = delete;
    ~Optimizer() = default;

    void swap(Optimizer& other) noexcept {
        std::swap(log_, other.log_);
        std::swap(reduction_, other.reduction_);
        std::swap(handle_, other.handle_);
        std::swap(tensors_, other.tensors_);
        std::swap(holds_averages_, other.holds_averages_);
    }
    friend void swap(Optimizer& a, Optimizer& b) noexcept { a.swap(b); }

    /// The C handle, still owned by this object. NULL after a move.
    [[nodiscard]] maw_optimizer* capi() noexcept { return handle_.get(); }
    [[nodiscard]] maw_optimizer const* capi() const noexcept { return handle_.get(); }
    /// The C handle, which you now own and must free. Its log is turned off, and so is its reduction, unless it is
    /// prepared: then the reduction stays with the handle and is never freed. This object is as if moved from.
    [[nodiscard]] maw_optimizer* capi_release() noexcept {
        if (handle_ && log_)
            maw_set_log(handle_.get(), nullptr, nullptr, nullptr);
        release_reduction();
        tensors_ = Tensors();
        return handle_.release();
    }

    /// The addresses as the C functions want them, in the order of registration. NULL where there is none.
    [[nodiscard]] std::vector<void*> const& params() const noexcept { return tensors_.params; }
    [[nodiscard]] std::vector<void const*> const& gradients() const noexcept { return tensors_.gradients; }

    // ---- registration (optimizer_tensors.hpp)

    /// `maw_add_param_group`; returns the group's number. Also between two steps.
    std::uint32_t add_param_group(ParamGroup const& group, std::vector<Tensor> const& tensors) {
        return try_add_param_group(group, tensors).value();
    }
    [[nodiscard]] Result<std::uint32_t> try_add_param_group(ParamGroup const& group,
                                                            std::vector<Tensor> const& tensors);

    /// `maw_add_tensors`: more tensors of a param group, behind all others. Also between two steps.
    void add_tensors(std::uint32_t group, std::vector<Tensor> const& tensors) {
        try_add_tensors(group, tensors).value();
    }
    Result<void> try_add_tensors(std::uint32_t group, std::vector<Tensor> const& tensors);

    /// `maw_remove_tensor`: the tensors behind it move up by one number.
    void remove_tensor(std::size_t tensor) { try_remove_tensor(tensor).value(); }
    Result<void> try_remove_tensor(std::size_t tensor);

    /// `maw_prepare`. The first step does it by itself, but not with a reduction.
    void prepare() { try_prepare().value(); }
    Result<void> try_prepare();

    // ---- buffers (optimizer_tensors.hpp)
    //
    // `step(buffers)` is given the addresses. The calls of this section, and tensors registered with addresses, have
    // them kept: every later call reads and writes there, so the buffers must stay where they are until other addresses
    // are set. That suits buffers allocated once for the whole run. In a host whose gradients move between steps kept
    // addresses are those of freed memory (libtorch's `zero_grad` frees the gradients).

    /// The number of the tensor of that name, in the order of registration.
    [[nodiscard]] std::size_t tensor_index(std::string_view name) const { return try_tensor_index(name).value(); }
    [[nodiscard]] Result<std::size_t> try_tensor_index(std::string_view name) const;

    /// Sets the addresses of all tensors: a vector, array or list of one `Buffer` a tensor, in the order of
    /// registration. Number and types are checked; on failure all stay as they were. For the closure of a meta-update,
    /// and before `observe_gradient` and `launch`.
    template <class List, detail::if_buffers<List> = 0>
    void rebind(List const& buffers) {
        try_rebind(buffers).value();
    }
    template <std::size_t N>
    void rebind(Buffer const (&buffers)[N]) {
        try_rebind(buffers).value();
    }
    template <class List, detail::if_buffers<List> = 0>
    Result<void> try_rebind(List const& buffers) {
        return rebind_all(std::data(buffers), std::size(buffers));
    }
    template <std::size_t N>
    Result<void> try_rebind(Buffer const (&buffers)[N]) {
        return rebind_all(buffers, N);
    }

    /// Sets the addresses of one tensor.
    void rebind(std::string_view name, Buffer const& buffer) { rebind(tensor_index(name), buffer); }
    void rebind(std::size_t tensor, Buffer const& buffer) { try_rebind(tensor, buffer).value(); }
    Result<void> try_rebind(std::size_t tensor, Buffer const& buffer);

    /// Sets the addresses of the tensor's values and gradient; `nullptr` means no gradient.
    template <class T, detail::if_element<T> = 0>
    void rebind(std::string_view name, T* param, detail::same_t<T> const* gradient) {
        rebind(tensor_index(name), param, gradient);
    }
    template <class T, detail::if_element<T> = 0>
    void rebind(std::size_t tensor, T* param, detail::same_t<T> const* gradient) {
        try_rebind(tensor, param, gradient).value();
    }
    template <class T, detail::if_element<T> = 0>
    Result<void> try_rebind(std::size_t tensor, T* param, detail::same_t<T> const* gradient);
    /// The same with a gradient of another type.
    template <class T, class G, detail::if_elements<T, G> = 0>
    void rebind(std::string_view name, T* param, G const* gradient) {
        rebind(tensor_index(name), param, gradient);
    }
    template <class T, class G, detail::if_elements<T, G> = 0>
    void rebind(std::size_t tensor, T* param, G const* gradient) {
        try_rebind(tensor, param, gradient).value();
    }
    template <class T, class G, detail::if_elements<T, G> = 0>
    Result<void> try_rebind(std::size_t tensor, T* param, G const* gradient);

    /// Sets the address of the tensor's gradient.
    template <class T, detail::if_element<std::remove_const_t<T>> = 0>
    void set_gradient(std::string_view name, T* gradient) {
        set_gradient(tensor_index(name), gradient);
    }
    template <class T, detail::if_element<std::remove_const_t<T>> = 0>
    void set_gradient(std::size_t tensor, T* gradient) {
        try_set_gradient(tensor, gradient).value();
    }
    template <class T, detail::if_element<std::remove_const_t<T>> = 0>
    Result<void> try_set_gradient(std::size_t tensor, T* gradient);
    /// The tensor has no gradient from now on; steps do not update it.
    void set_gradient(std::string_view name, std::nullptr_t) { set_gradient(tensor_index(name), nullptr); }
    void set_gradient(std::size_t tensor, std::nullptr_t) { try_set_gradient(tensor, nullptr).value(); }
    Result<void> try_set_gradient(std::size_t tensor, std::nullptr_t);

#ifdef __cpp_lib_span
    /// As with pointers; the lengths are checked. An empty span means no gradient.
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
    Result<void> try_rebind(std::size_t tensor, std::span<float> param, std::span<float const> gradient);
    Result<void> try_rebind(std::size_t tensor, std::span<double> param, std::span<double const> gradient);
#endif

    // ---- training (optimizer_training.hpp)

    /// `maw_step` at these addresses, given as to `rebind`. It updates every parameter that has a gradient, in place.
    /// On CUDA it waits for the step.
    ///
    /// The gradients' addresses are for this step only; a later call that needs them fails with `Status::invalid_state`
    /// unless it is given new ones. The parameters' are also used by `meta_update`, `masters` and `set_masters`.
    template <class List, detail::if_buffers<List> = 0>
    StepReport step(List const& buffers, StepOptions const& options = StepOptions()) {
        return try_step(buffers, options).value();
    }
    template <std::size_t N>
    StepReport step(Buffer const (&buffers)[N], StepOptions const& options = StepOptions()) {
        return try_step(buffers, options).value();
    }
    template <class List, detail::if_buffers<List> = 0>
    [[nodiscard]] Result<StepReport> try_step(List const& buffers, StepOptions const& options = StepOptions()) {
        return step_at(std::data(buffers), std::size(buffers), options);
    }
    template <std::size_t N>
    [[nodiscard]] Result<StepReport> try_step(Buffer const (&buffers)[N],
                                              StepOptions const& options = StepOptions()) {
        return step_at(buffers, N, options);
    }

    /// The same at the addresses that are kept.
    StepReport step(StepOptions const& options = StepOptions()) { return try_step(options).value(); }
    [[nodiscard]] Result<StepReport> try_step(StepOptions const& options = StepOptions());

    /// `maw_step` without a report, at the addresses that are kept: on CUDA the step is enqueued and not waited for.
    void launch(StepOptions const& options = StepOptions()) { try_launch(options).value(); }
    Result<void> try_launch(StepOptions const& options = StepOptions());

    /// `maw_step_report_fetch`: of the last step; without `wait`, of the newest that the device has decided so far.
    [[nodiscard]] StepReport step_report(bool wait = true) { return try_step_report(wait).value(); }
    [[nodiscard]] Result<StepReport> try_step_report(bool wait = true);

    /// `maw_observe_gradient`: the tensor's gradient is final. Call it while the gradient is still in the cache.
    void observe_gradient(std::string_view name) { observe_gradient(tensor_index(name)); }
    void observe_gradient(std::size_t tensor) { try_observe_gradient(tensor).value(); }
    Result<void> try_observe_gradient(std::size_t tensor);

    /// `maw_meta_due`: whether a meta-update should be made now.
    [[nodiscard]] bool meta_due() const noexcept { return maw_meta_due(capi()) != 0; }

    /// A complete meta-update. `evaluate(Request const&)` returns the loss (or an `Answer`) at the parameters that are
    /// in your buffers when it is called, and writes the gradients to theirs if `request.wants_gradient()`. Where
    /// addresses are not kept, it calls `rebind` after each backward pass; they are forgotten again after the request.
    ///
    /// However it ends, the parameters have the same bits afterwards as before. An exception of `evaluate` aborts the
    /// meta-update and reaches you unchanged, through `try_meta_update` too. A value that is not finite is no failure:
    /// see the result's `outcome`.
    template <class Evaluate>
    MetaResult meta_update(Evaluate&& evaluate) {
        return try_meta_update(std::forward<Evaluate>(evaluate)).value();
    }
    template <class Evaluate>
    [[nodiscard]] Result<MetaResult> try_meta_update(Evaluate&& evaluate);

    /// `maw_meta_result_get`: how the last meta-update ended, or how the attention module last learned from steps.
    [[nodiscard]] MetaResult meta_result() const { return try_meta_result().value(); }
    [[nodiscard]] Result<MetaResult> try_meta_result() const;

    // ---- averages of the parameters, for `Options::horizon_steps` of 2 or more (optimizer_averages.hpp)

    /// While it exists, the averages are in your buffers. At its end, or by `swap_back`, the parameters are there again,
    /// bit for bit, at the addresses that are known then.
    class Averaged {
      public:
        /// Ends it; unlike the destructor it throws if that fails.
        void swap_back() { try_swap_back().value(); }
        Result<void> try_swap_back();

      private:
        friend class Optimizer;
        explicit Averaged(Optimizer& optimizer) noexcept : optimizer_(&optimizer) {}

        std::unique_ptr<Optimizer, SwapBack> optimizer_;
    };

    /// `maw_average_swap` for a scope: `{ auto const averaged = optimizer.averaged(); evaluate(model); }`. At the
    /// addresses that are kept, or those of the last step. In between only queries and `average` work, and the optimizer
    /// must be neither moved nor destroyed.
    [[nodiscard]] Averaged averaged() { return try_averaged().value(); }
    [[nodiscard]] Result<Averaged> try_averaged();

    /// `maw_average_swap` at the same addresses: the averages into your buffers, and with the next call the parameters
    /// back.
    void swap_averages() { try_swap_averages().value(); }
    Result<void> try_swap_averages();
    /// Whether the averages are in your buffers.
    [[nodiscard]] bool holds_averages() const noexcept { return holds_averages_; }

    /// `maw_average_get`: the average of a tensor's parameter; `T` is double for a tensor of double, else float.
    template <class T, detail::if_state<T> = 0>
    [[nodiscard]] std::vector<T> average(std::size_t tensor) {
        return try_average<T>(tensor).value();
    }
    template <class T, detail::if_state<T> = 0>
    [[nodiscard]] Result<std::vector<T>> try_average(std::size_t tensor);

    // ---- settings that can change during a run (optimizer_settings.hpp)

    /// `maw_set_lr`, of every param group.
    void set_lr(double lr) { set_lr(MAW_ALL_GROUPS, lr); }
    /// `maw_set_lr`, of one param group.
    void set_lr(std::uint32_t group, double lr) { try_set_lr(group, lr).value(); }
    Result<void> try_set_lr(std::uint32_t group, double lr);
    /// `maw_get_lr`: the learning rate of a param group.
    [[nodiscard]] double lr(std::uint32_t group = 0) const { return try_lr(group).value(); }
    [[nodiscard]] Result<double> try_lr(std::uint32_t group = 0) const;

    /// `maw_set_weight_decay`, of every param group.
    void set_weight_decay(double decay) { set_weight_decay(MAW_ALL_GROUPS, decay); }
    /// `maw_set_weight_decay`, of one param group.
    void set_weight_decay(std::uint32_t group, double decay) { try_set_weight_decay(group, decay).value(); }
    Result<void> try_set_weight_decay(std::uint32_t group, double decay);
    /// `maw_get_weight_decay`: the weight decay of a param group.
    [[nodiscard]] double weight_decay(std::uint32_t group = 0) const { return try_weight_decay(group).value(); }
    [[nodiscard]] Result<double> try_weight_decay(std::uint32_t group = 0) const;

    /// `maw_set_betas`, of every param group.
    void set_betas(std::array<double, 2> const& betas) { set_betas(MAW_ALL_GROUPS, betas); }
    /// `maw_set_betas`, of one param group.
    void set_betas(std::uint32_t group, std::array<double, 2> const& betas) { try_set_betas(group, betas).value(); }
    Result<void> try_set_betas(std::uint32_t group, std::array<double, 2> const& betas);
    /// `maw_get_betas`: the decay rates of the moments of a param group.
    [[nodiscard]] std::array<double, 2> betas(std::uint32_t group = 0) const { return try_betas(group).value(); }
    [[nodiscard]] Result<std::array<double, 2>> try_betas(std::uint32_t group = 0) const;

    /// `maw_set_eps`, of every param group.
    void set_eps(double eps) { set_eps(MAW_ALL_GROUPS, eps); }
    /// `maw_set_eps`, of one param group.
    void set_eps(std::uint32_t group, double eps) { try_set_eps(group, eps).value(); }
    Result<void> try_set_eps(std::uint32_t group, double eps);
    /// `maw_get_eps`: what is added to the square root of the second moment in a param group.
    [[nodiscard]] double eps(std::uint32_t group = 0) const { return try_eps(group).value(); }
    [[nodiscard]] Result<double> try_eps(std::uint32_t group = 0) const;

    /// `maw_set_max_grad_norm`: the norm to which all gradients together are clipped; 0: no clipping.
    void set_max_grad_norm(double max_grad_norm) { try_set_max_grad_norm(max_grad_norm).value(); }
    Result<void> try_set_max_grad_norm(double max_grad_norm);
    /// `maw_get_max_grad_norm`: the norm to which all gradients together are clipped; 0: no clipping.
    [[nodiscard]] double max_grad_norm() const { return try_max_grad_norm().value(); }
    [[nodiscard]] Result<double> try_max_grad_norm() const;

    /// `maw_set_priorities`: of gradient alignment, loss decrease, generalization gap.
    void set_priorities(std::array<double, 3> const& priorities) { try_set_priorities(priorities).value(); }
    Result<void> try_set_priorities(std::array<double, 3> const& priorities);
    /// `maw_get_priorities`: of gradient alignment, loss decrease, generalization gap.
    [[nodiscard]] std::array<double, 3> priorities() const { return try_priorities().value(); }
    [[nodiscard]] Result<std::array<double, 3>> try_priorities() const;

    /// `maw_reset`: of moments and step counts, of the attention module, or of both.
    void reset(Reset what) { try_reset(what).value(); }
    Result<void> try_reset(Reset what);

    /// `maw_set_stream`: the CUDA stream that everything is enqueued on. On the CPU it must stay NULL.
    void set_stream(void* stream) { try_set_stream(stream).value(); }
    Result<void> try_set_stream(void* stream);

    /// `maw_set_log`: `log` receives this optimizer's messages, inside the call that caused them; an empty function
    /// turns them off. Calls on the same optimizer from inside `log` fail with `Status::busy`.
    void set_log(Log log) { try_set_log(std::move(log)).value(); }
    Result<void> try_set_log(Log log);

    // ---- several processes (optimizer_processes.hpp)

    /// `maw_set_reduction`: several processes share a model, each with a part of every tensor (`Tensor::shard`);
    /// `reduction` sums over them, inside `prepare`, `step`, `launch`, `meta_update`, `save` and `load`. Before
    /// preparation; an empty function: this process is alone. What it throws leaves the call unchanged, also from the
    /// `try_` form, and the other processes must learn of it by other means (`MPI_Abort`): they wait in their sum. On
    /// CUDA set the stream before `prepare`, which needs sums already. A `launch` there that the device does not make,
    /// as the processes differ, is the `Status::reduction` of the next call that waits for it.
    void set_reduction(Reduction reduction) { try_set_reduction(std::move(reduction)).value(); }
    Result<void> try_set_reduction(Reduction reduction);

    // ---- checkpoints and state (optimizer_state.hpp)

    /// `maw_save_file`: durable. The parameters are not in the file; saving them is up to you.
    void save(std::string const& path, Save what = Save::run) { try_save(path, what).value(); }
    Result<void> try_save(std::string const& path, Save what = Save::run);
    /// `maw_load_file`: into an optimizer with the same tensors, or with `Load::partial` with others.
    void load(std::string const& path, Load how = Load::run) { try_load(path, how).value(); }
    Result<void> try_load(std::string const& path, Load how = Load::run);

    /// As `save` and `load`, in memory.
    [[nodiscard]] Bytes save_bytes(Save what = Save::run) { return try_save_bytes(what).value(); }
    [[nodiscard]] Result<Bytes> try_save_bytes(Save what = Save::run);
    void load_bytes(std::uint8_t const* data, std::size_t size, Load how = Load::run) {
        try_load_bytes(data, size, how).value();
    }
    Result<void> try_load_bytes(std::uint8_t const* data, std::size_t size, Load how = Load::run);

    /// Which names only one of both had in the last load with `Load::partial`.
    [[nodiscard]] LoadReport load_report() const { return try_load_report().value(); }
    [[nodiscard]] Result<LoadReport> try_load_report() const;

    /// `maw_dump_state`: the state of the optimizer as JSON.
    [[nodiscard]] std::string dump_state() { return try_dump_state().value(); }
    [[nodiscard]] Result<std::string> try_dump_state();

    /// `maw_tensor_state_get`; `T` is double for a tensor of double, else float.
    template <class T, detail::if_state<T> = 0>
    [[nodiscard]] TensorState<T> tensor_state(std::size_t tensor) {
        return try_tensor_state<T>(tensor).value();
    }
    template <class T, detail::if_state<T> = 0>
    [[nodiscard]] Result<TensorState<T>> try_tensor_state(std::size_t tensor);
    /// `maw_tensor_state_set`.
    template <class T, detail::if_state<T> = 0>
    void set_tensor_state(std::size_t tensor, TensorState<T> const& state) {
        try_set_tensor_state(tensor, state).value();
    }
    template <class T, detail::if_state<T> = 0>
    Result<void> try_set_tensor_state(std::size_t tensor, TensorState<T> const& state);

    /// `maw_counters_get`: the optimizer's own counts.
    [[nodiscard]] Counters counters() const { return try_counters().value(); }
    [[nodiscard]] Result<Counters> try_counters() const;
    /// `maw_counters_set`: after `set_tensor_state`, so that a run which moves here goes on as it would have there.
    void set_counters(Counters const& counters) { try_set_counters(counters).value(); }
    Result<void> try_set_counters(Counters const& counters);

    /// `maw_master_get`: the float32 masters of a 16-bit tensor.
    [[nodiscard]] std::vector<float> masters(std::size_t tensor) { return try_masters(tensor).value(); }
    [[nodiscard]] Result<std::vector<float>> try_masters(std::size_t tensor);
    /// `maw_master_set`: a run starts from float32 weights; the 16-bit parameter is written to match.
    void set_masters(std::size_t tensor, std::vector<float> const& values) { try_set_masters(tensor, values).value(); }
    Result<void> try_set_masters(std::size_t tensor, std::vector<float> const& values);

    // ---- queries (optimizer_queries.hpp)

    /// The number of applied steps.
    [[nodiscard]] std::uint64_t step_count() const { return try_step_count().value(); }
    [[nodiscard]] Result<std::uint64_t> try_step_count() const;

    /// The number of param groups.
    [[nodiscard]] std::size_t param_group_count() const { return try_param_group_count().value(); }
    [[nodiscard]] Result<std::size_t> try_param_group_count() const;

    /// The number of registered tensors.
    [[nodiscard]] std::size_t tensor_count() const { return try_tensor_count().value(); }
    [[nodiscard]] Result<std::size_t> try_tensor_count() const;

    /// The name of a tensor, by its number in the order of registration.
    [[nodiscard]] std::string tensor_name(std::size_t tensor) const { return try_tensor_name(tensor).value(); }
    [[nodiscard]] Result<std::string> try_tensor_name(std::size_t tensor) const;

    /// The modulation group of a tensor.
    [[nodiscard]] std::size_t tensor_group(std::size_t tensor) const { return try_tensor_group(tensor).value(); }
    [[nodiscard]] Result<std::size_t> try_tensor_group(std::size_t tensor) const;

    /// The number of modulation groups.
    [[nodiscard]] std::size_t group_count() const { return try_group_count().value(); }
    [[nodiscard]] Result<std::size_t> try_group_count() const;

    /// The name of a modulation group.
    [[nodiscard]] std::string group_name(std::size_t group) const { return try_group_name(group).value(); }
    [[nodiscard]] Result<std::string> try_group_name(std::size_t group) const;

    /// `maw_factors`: one entry per modulation group, from the last applied step or meta-update, whichever was later.
    [[nodiscard]] std::vector<Factors> factors() const { return try_factors().value(); }
    [[nodiscard]] Result<std::vector<Factors>> try_factors() const;

    /// `maw_features`: one row per modulation group.
    [[nodiscard]] Matrix features() const { return try_features().value(); }
    [[nodiscard]] Result<Matrix> try_features() const;

    /// Names of the attention module's tensors.
    [[nodiscard]] std::vector<std::string> attention_names() const { return try_attention_names().value(); }
    [[nodiscard]] Result<std::vector<std::string>> try_attention_names() const;

    /// `maw_attention_get`.
    [[nodiscard]] Matrix attention(std::string const& name) const { return try_attention(name).value(); }
    [[nodiscard]] Result<Matrix> try_attention(std::string const& name) const;

    /// `maw_attention_set`: row-major values.
    void set_attention(std::string const& name, std::vector<double> const& values) {
        try_set_attention(name, values).value();
    }
    Result<void> try_set_attention(std::string const& name, std::vector<double> const& values);

    /// `maw_meta_gradient`: for a tensor of the attention module, or "alpha", "beta", "lambda1", "lambda2".
    [[nodiscard]] Matrix meta_gradient(std::string const& name) const { return try_meta_gradient(name).value(); }
    [[nodiscard]] Result<Matrix> try_meta_gradient(std::string const& name) const;

  private:
    /// A tensor's dtypes, and its number of elements if that fits in 64 bits.
    struct Kind {
        std::int32_t dtype, grad_dtype;
        std::optional<std::uint64_t> elements;
        bool knows_gradient;  // an address, or that there is none; else no call may read the gradient
    };
    /// All tensors in the order of registration.
    struct Tensors {
        std::vector<void*> params{};
        std::vector<void const*> gradients{};
        std::vector<Kind> kinds{};
        std::unordered_map<std::string, std::size_t> numbers{};
    };
    /// What the library knows the address of.
    struct Reducer {
        Reduction sum{};
        std::exception_ptr thrown{};  // by the last call, if it did
    };
    struct AbortUnlessDone;
    struct ForgetGradients;

    explicit Optimizer(maw_optimizer* handle) noexcept : handle_(handle) {}

    // ---- optimizer_tensors.hpp
    static std::optional<std::uint64_t> elements(Tensor const& tensor) noexcept;
    template <class Add>
    Result<void> with_tensors(std::vector<Tensor> const& tensors, Add&& add);
    static std::optional<Error> unusable(Tensor const& tensor);
    static std::optional<Error> wrong_length(std::string const& whose, std::optional<std::uint64_t> wanted,
                                             std::pair<std::size_t, std::size_t> given);
    static Error wrong_type(std::string const& whose, std::int32_t registered);
    Result<void> fits(std::size_t tensor, std::optional<std::int32_t> dtype,
                      std::optional<std::pair<std::size_t, std::size_t>> lengths) const;
    Result<void> fits_gradient(std::size_t tensor, std::int32_t dtype) const;
    Result<void> fits_buffer(std::size_t tensor, Buffer const& buffer) const;
    Result<void> rebind_all(Buffer const* buffers, std::size_t count);
    Result<void> knows_gradients() const;
    void set_addresses(std::size_t tensor, void* param, void const* gradient);

    // ---- optimizer_training.hpp
    Result<StepReport> step_at(Buffer const* buffers, std::size_t count, StepOptions const& options);
    Result<void> step_with(StepOptions const& options, maw_step_report* report);
    static StepReport to_report(maw_step_report const& report);
    Result<void> tell(Request& request, Answer const& answer);

    // ---- optimizer_settings.hpp
    static void on_message(std::int32_t level, char const* message, void* log) noexcept;

    // ---- optimizer_processes.hpp
    template <class Call>
    Result<void> together(Call&& function);
    Error refused(Error error);
    void release_reduction() noexcept;
    static std::int32_t on_reduction(double* values, std::size_t count, void* reducer) noexcept;

    // ---- optimizer_state.hpp
    Result<void> fits_state(std::size_t tensor, std::int32_t dtype,
                            std::optional<std::pair<std::size_t, std::size_t>> lengths) const;
    template <class Make>
    [[nodiscard]] static Result<Bytes> bytes(Make&& make);

    // ---- optimizer_queries.hpp
    using CountFunction = maw_status (*)(maw_optimizer const*, std::size_t*, maw_error**);
    using TextFunction = maw_status (*)(maw_optimizer const*, std::size_t, char const**, maw_error**);
    [[nodiscard]] Result<std::size_t> count(CountFunction function) const;
    [[nodiscard]] Result<std::string> text(TextFunction function, std::size_t index) const;
    [[nodiscard]] Result<Matrix> attention_shape(std::string const& name) const;
    template <class Fill>
    [[nodiscard]] static Result<Matrix> filled(Matrix matrix, Fill&& fill);

    // Before the handle, which is destroyed first: the library may still know them.
    std::unique_ptr<Log> log_{};
    std::unique_ptr<Reducer> reduction_{};
    std::unique_ptr<maw_optimizer, detail::Free> handle_;
    Tensors tensors_{};
    bool holds_averages_ = false;  // the averages are in the host's buffers
};

}  // namespace metaadamw

#include "optimizer_averages.hpp"
#include "optimizer_processes.hpp"
#include "optimizer_queries.hpp"
#include "optimizer_settings.hpp"
#include "optimizer_state.hpp"
#include "optimizer_tensors.hpp"
#include "optimizer_training.hpp"

#endif
