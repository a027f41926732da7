/// @file
/// Registration: parameter tensors, and param groups, which share hyper-parameters.
#ifndef METAADAMW_TENSOR_HPP
#define METAADAMW_TENSOR_HPP

#include <metaadamw.h>

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "buffer.hpp"
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

/// A parameter tensor: its name, its shape, the types of its elements and its gradient's, and, if they are to be kept,
/// their addresses. `{}` is the shape of a scalar.
///
/// - `Tensor{"layers.0.weight", metaadamw::DType::float32, {64, 96}}`: no address. They are passed to each step.
/// - `Tensor{"layers.0.weight", w, grad_w, {64, 96}}`: the optimizer reads and writes at these addresses in every later
///   call, until others are set. For buffers that stay where they are; `nullptr` if there is no gradient.
class Tensor {
  public:
    Tensor(std::string name, DType dtype, std::vector<std::uint64_t> shape)
        : Tensor(std::move(name), dtype, dtype, std::move(shape)) {}
    Tensor(std::string name, DType dtype, DType grad_dtype, std::vector<std::uint64_t> shape)
        : Tensor(std::move(name), Buffer(nullptr, dtype, nullptr, grad_dtype), std::move(shape)) {
        addressed_ = false;
    }

    Tensor(std::string name, Buffer const& buffer, std::vector<std::uint64_t> shape)
        : name_(std::move(name)), shape_(std::move(shape)), buffer_(buffer) {}

    template <class T, detail::if_element<T> = 0>
    Tensor(std::string name, T* param, detail::same_t<T> const* gradient, std::vector<std::uint64_t> shape)
        : Tensor(std::move(name), Buffer(param, gradient), std::move(shape)) {}

    /// With a gradient of another type. If there is none, pass a null pointer of that type.
    template <class T, class G, detail::if_elements<T, G> = 0>
    Tensor(std::string name, T* param, G const* gradient, std::vector<std::uint64_t> shape)
        : Tensor(std::move(name), Buffer(param, gradient), std::move(shape)) {}

    /// With types that are known at run time only.
    Tensor(std::string name, void* param, void const* gradient, DType dtype, std::vector<std::uint64_t> shape)
        : Tensor(std::move(name), Buffer(param, gradient, dtype), std::move(shape)) {}
    Tensor(std::string name, void* param, DType dtype, void const* gradient, DType grad_dtype,
           std::vector<std::uint64_t> shape)
        : Tensor(std::move(name), Buffer(param, dtype, gradient, grad_dtype), std::move(shape)) {}

#ifdef __cpp_lib_span
    /// The spans' lengths are compared with the shape when the tensor is registered. An empty span means no gradient.
    Tensor(std::string name, std::span<float> param, std::span<float const> gradient, std::vector<std::uint64_t> shape)
        : Tensor(std::move(name), Buffer(param, gradient), std::move(shape)) {}
    Tensor(std::string name, std::span<double> param, std::span<double const> gradient,
           std::vector<std::uint64_t> shape)
        : Tensor(std::move(name), Buffer(param, gradient), std::move(shape)) {}
#endif

    /// The kind of layer that the tensor belongs to. Without it words in the name decide (`maw_tensor.layer_kind`).
    Tensor& layer_kind(LayerKind kind) & noexcept {
        layer_kind_ = kind;
        return *this;
    }
    Tensor&& layer_kind(LayerKind kind) && noexcept { return std::move(layer_kind(kind)); }

    /// Number of the layer that the tensor belongs to plus 1: 1 for the first, up to 1,000,000. 0, the default: the number
    /// in the name.
    Tensor& layer_index(std::uint32_t index) & noexcept {
        layer_index_ = index;
        return *this;
    }
    Tensor&& layer_index(std::uint32_t index) && noexcept { return std::move(layer_index(index)); }

    /// Under `Grouping::custom`: the name of its modulation group.
    Tensor& modulation_group(std::string group) & {
        modulation_group_ = std::move(group);
        return *this;
    }
    Tensor&& modulation_group(std::string group) && { return std::move(modulation_group(std::move(group))); }

    /// How this tensor is updated, if it has 16 bits; without it, as its param group says.
    Tensor& precision(Precision value) & noexcept {
        precision_ = value == Precision::nearest ? MAW_PRECISION_TENSOR_NEAREST : static_cast<std::int32_t>(value);
        return *this;
    }
    Tensor&& precision(Precision value) && noexcept { return std::move(precision(value)); }

    /// This process has only these elements of the tensor, in row-major order, and others have the rest
    /// (`Optimizer::set_reduction`): `count` from `offset` on, both ends at multiples of `shard_alignment` or at the
    /// tensor's end; 0 if it has none. The shape is still that of the whole, buffers and state are those of the part.
    Tensor& shard(std::uint64_t offset, std::uint64_t count) & noexcept {
        shard_ = Shard{offset, count};
        return *this;
    }
    Tensor&& shard(std::uint64_t offset, std::uint64_t count) && noexcept { return std::move(shard(offset, count)); }

    [[nodiscard]] std::string const& name() const noexcept { return name_; }
    [[nodiscard]] std::vector<std::uint64_t> const& shape() const noexcept { return shape_; }

  private:
    friend class Optimizer;

    struct Shard {
        std::uint64_t offset, count;
    };

    std::string name_;
    std::vector<std::uint64_t> shape_;
    Buffer buffer_;
    bool addressed_ = true;  // whether the buffer has the addresses
    LayerKind layer_kind_ = LayerKind::unknown;
    std::uint32_t layer_index_ = 0;
    std::int32_t precision_ = 0;  // as the param group
    std::optional<std::string> modulation_group_{};
    std::optional<Shard> shard_{};  // none: all of it
};

}  // namespace metaadamw

#endif
