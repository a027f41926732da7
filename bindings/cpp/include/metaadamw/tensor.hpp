/// @file
/// Registration: parameter tensors, and param groups, which share hyper-parameters.
#ifndef METAADAMW_TENSOR_HPP
#define METAADAMW_TENSOR_HPP

#include <metaadamw.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#if __cplusplus >= 202002L && defined(__has_include)
#if __has_include(<span>)
#include <span>
#endif
#endif

#include "constants.hpp"
#include "element.hpp"

namespace metaadamw {

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
/// `float16`, or a type that `Element` is specialized for; a gradient's may be of another type than the parameter's.
///
/// `Tensor{"layers.0.weight", w, grad_w, {64, 96}}`; `{}` is the shape of a scalar. Pass `nullptr` if there
/// is no gradient.
class Tensor {
  public:
    template <class T, detail::if_element<T> = 0>
    Tensor(std::string name, T* param, detail::same_t<T> const* gradient, std::vector<std::uint64_t> shape)
        : Tensor(std::move(name), param, gradient, std::move(shape), detail::dtype<T>) {}

    /// With a gradient of another type. If there is none, pass a null pointer of that type.
    template <class T, class G, detail::if_elements<T, G> = 0>
    Tensor(std::string name, T* param, G const* gradient, std::vector<std::uint64_t> shape)
        : Tensor(std::move(name), param, gradient, std::move(shape), detail::dtype<T>) {
        grad_dtype_ = detail::dtype<G>;
    }

#ifdef __cpp_lib_span
    /// The spans' lengths are compared with the shape when the tensor is registered. An empty span means no gradient.
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

    /// The kind of layer that the tensor belongs to, used if its name does not say it.
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
    std::optional<std::pair<std::size_t, std::size_t>> lengths_;  // of values and gradient, where known
};

}  // namespace metaadamw

#endif
