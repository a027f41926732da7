/// @file
/// Tensors as the library wants them: dtypes, memory order, gradients in the order of their parameters.
#ifndef METAADAMW_TORCH_TENSORS_HPP
#define METAADAMW_TORCH_TENSORS_HPP

#include <metaadamw.hpp>
#include <torch/torch.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <optional>
#include <string>
#include <vector>

namespace metaadamw::torch::detail {

[[noreturn]] inline void refuse(Status status, std::string const& name, std::string const& why) {
    metaadamw::detail::fail(Error(status, "parameter '" + name + "' " + why));
}

inline std::string text(at::ScalarType type) { return c10::toString(type); }

inline DType to_dtype(at::ScalarType type, std::string const& name) {
    switch (type) {
    case at::kFloat:
        return DType::float32;
    case at::kDouble:
        return DType::float64;
    case at::kBFloat16:
        return DType::bfloat16;
    case at::kHalf:
        return DType::float16;
    default:
        refuse(Status::unsupported, name, "has elements of type " + text(type));
    }
}

/// Whether an element has the same place in both memories.
inline bool same_order(at::Tensor const& a, at::Tensor const& b) {
    return a.strides() == b.strides() || (a.is_contiguous() && b.is_contiguous());
}

/// The lengths of the dimensions in the order of the memory, so that a checkpoint of a channels_last weight says what it
/// holds. `param` has no gaps and no overlap.
inline std::vector<std::uint64_t> shape_in_memory(at::Tensor const& param) {
    std::vector<std::int64_t> order(static_cast<std::size_t>(param.dim()));
    std::iota(order.begin(), order.end(), 0);
    if (!param.is_contiguous())
        std::stable_sort(order.begin(), order.end(),
                         [&](std::int64_t a, std::int64_t b) { return param.stride(a) > param.stride(b); });
    std::vector<std::uint64_t> shape;
    for (std::int64_t const dimension : order)
        shape.push_back(static_cast<std::uint64_t>(param.size(dimension)));
    return shape;
}

/// A registered parameter: what it was then, and what the optimizer last left in it.
struct Registered {
    at::Tensor param;
    std::string name;
    std::size_t group;  // of `param_groups()`
    DType dtype;
    std::vector<std::int64_t> sizes, strides;
    bool contiguous, has_master;
    std::optional<std::int64_t> version{};  // after the optimizer's last write; none: whatever is there is right
    void* data = nullptr;                   // likewise
    bool changed = false;                   // by others, since the last step

    Registered(at::Tensor const& tensor, std::string const& name_, std::size_t group_, Precision precision)
        : param(tensor), name(name_), group(group_), dtype(to_dtype(checked(tensor, name_), name_)),
          sizes(tensor.sizes().vec()), strides(tensor.strides().vec()), contiguous(tensor.is_contiguous()),
          has_master((precision == Precision::master || precision == Precision::remainder) &&
                     (dtype == DType::bfloat16 || dtype == DType::float16)) {}

    /// Fails unless the parameter is still of the type, shape, memory order and device that it was registered with.
    void require_same(at::Device device) const {
        checked(param, name);
        if (param.device() != device)
            refuse(Status::invalid_argument, name, "is on " + param.device().str() + ", the first one on " + device.str());
        if (to_dtype(param.scalar_type(), name) != dtype)
            refuse(Status::invalid_argument, name, "has become " + text(param.scalar_type()));
        if (param.sizes() != at::IntArrayRef(sizes))
            refuse(Status::invalid_argument, name, "has another shape than when it was registered");
        if (param.strides() != at::IntArrayRef(strides) && !(contiguous && param.is_contiguous()))
            refuse(Status::invalid_argument, name, "has another memory order than when it was registered");
    }

    /// Notes whether somebody else wrote to the parameter.
    void look() {
        changed = changed || (version && (*version != param._version() || data != param.data_ptr()));
    }

    /// Remembers the parameter as it is now.
    void remember() {
        version = param._version();
        data = param.data_ptr();
    }

    /// The optimizer wrote to it: graphs that use the old values are refused by their backward pass.
    void wrote() {
        param.unsafeGetTensorImpl()->bump_version();
        remember();
    }

    /// A gradient with the elements in the parameter's order: itself, or a copy.
    [[nodiscard]] at::Tensor ordered(at::Tensor const& gradient) const {
        if (!gradient.defined())
            return gradient;
        if (gradient.layout() != at::kStrided)
            refuse(Status::unsupported, name, "has a sparse gradient; use dense ones (Embedding: sparse(false))");
        if (gradient.scalar_type() != param.scalar_type() || gradient.device() != param.device() ||
            gradient.sizes() != param.sizes())
            refuse(Status::invalid_argument, name, "has a gradient of another type, device or shape");
        if (same_order(gradient, param) && !gradient.is_neg())
            return gradient;
        at::NoGradGuard const no_graph;
        return at::empty_strided(param.sizes(), param.strides(), param.options().requires_grad(false)).copy_(gradient);
    }

  private:
    static at::ScalarType checked(at::Tensor const& tensor, std::string const& name) {
        if (tensor.layout() != at::kStrided)
            refuse(Status::unsupported, name, "is sparse");
        if (tensor.is_inference())
            refuse(Status::unsupported, name, "was made in inference mode");
        if (!tensor.is_cpu() && !tensor.is_cuda())
            refuse(Status::unsupported, name, "is on " + tensor.device().str());
        if (!tensor.is_non_overlapping_and_dense())
            refuse(Status::unsupported, name, "has gaps or overlaps in its memory; make it contiguous()");
        return tensor.scalar_type();
    }
};

}  // namespace metaadamw::torch::detail

#endif
