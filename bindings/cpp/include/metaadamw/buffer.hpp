/// @file
/// Where the values and the gradient of a tensor are.
#ifndef METAADAMW_BUFFER_HPP
#define METAADAMW_BUFFER_HPP

#include <metaadamw.h>

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <optional>
#include <type_traits>
#include <utility>

#if __cplusplus >= 202002L && defined(__has_include)
#if __has_include(<span>)
#include <span>
#endif
#endif

#include "constants.hpp"
#include "element.hpp"

namespace metaadamw {

/// The addresses of a tensor's values and of its gradient, with the types of their elements: `Buffer(w, grad_w)`, or
/// `Buffer(w, grad_w, dtype)` where the type is known at run time only. Elements are float, double, `bfloat16`,
/// `float16`, or a type that `Element` is specialized for. `nullptr` means that there is no gradient.
class Buffer {
  public:
    template <class T, detail::if_element<T> = 0>
    Buffer(T* param, detail::same_t<T> const* gradient) noexcept
        : Buffer(param, gradient, Element<T>::dtype) {}

    /// With a gradient of another type.
    template <class T, class G, detail::if_elements<T, G> = 0>
    Buffer(T* param, G const* gradient) noexcept
        : Buffer(param, Element<T>::dtype, gradient, Element<G>::dtype) {}

    Buffer(void* param, void const* gradient, DType dtype) noexcept : Buffer(param, dtype, gradient, dtype) {}

    /// `DType::automatic` for the gradient: as the values.
    Buffer(void* param, DType dtype, void const* gradient, DType grad_dtype) noexcept
        : param_(param), gradient_(gradient), dtype_(static_cast<std::int32_t>(dtype)),
          grad_dtype_(static_cast<std::int32_t>(grad_dtype == DType::automatic ? dtype : grad_dtype)) {}

#ifdef __cpp_lib_span
    /// The spans' lengths are compared with the tensor's shape. An empty span means no gradient.
    Buffer(std::span<float> param, std::span<float const> gradient) noexcept : Buffer(spans(), param, gradient) {}
    Buffer(std::span<double> param, std::span<double const> gradient) noexcept : Buffer(spans(), param, gradient) {}
#endif

    Buffer(Buffer const&) = default;
    Buffer& operator=(Buffer const&) = default;
    ~Buffer() = default;

    [[nodiscard]] void* param() const noexcept { return param_; }
    [[nodiscard]] void const* gradient() const noexcept { return gradient_; }

  private:
    friend class Optimizer;
    friend class Tensor;

#ifdef __cpp_lib_span
    struct spans {};
    template <class T>
    Buffer(spans, std::span<T> param, std::span<T const> gradient) noexcept
        : Buffer(param.data(), gradient.empty() ? nullptr : gradient.data()) {
        lengths_ = {param.size(), gradient.empty() ? param.size() : gradient.size()};
    }
#endif

    void* param_;
    void const* gradient_;
    std::int32_t dtype_, grad_dtype_;
    std::optional<std::pair<std::size_t, std::size_t>> lengths_{};  // of values and gradient, where known
};

namespace detail {

/// A vector, array or other contiguous range of buffers.
template <class List>
using if_buffers = std::enable_if_t<
    std::is_same_v<std::remove_cv_t<std::remove_pointer_t<decltype(std::data(std::declval<List const&>()))>>, Buffer>,
    int>;

}  // namespace detail

}  // namespace metaadamw

#endif
