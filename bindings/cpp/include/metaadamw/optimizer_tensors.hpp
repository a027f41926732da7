/// @file
/// The optimizer's tensors: registration, addresses, and checks of types and lengths that the C ABI cannot make.
#ifndef METAADAMW_OPTIMIZER_TENSORS_HPP
#define METAADAMW_OPTIMIZER_TENSORS_HPP

#include <metaadamw.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "call.hpp"
#include "optimizer.hpp"

namespace metaadamw {

// --------------------------------------------------------------------------------------------- registration ----

inline Result<std::uint32_t> Optimizer::try_add_param_group(ParamGroup const& group,
                                                            std::vector<Tensor> const& tensors) {
    std::uint32_t index = 0;
    auto const added = with_tensors(tensors, [&](std::vector<maw_tensor> const& c) {
        return detail::call([&](maw_error** error) {
            return maw_add_param_group(capi(), &group.capi(), c.data(), c.size(), &index, error);
        });
    });
    if (!added)
        return added.error();
    return index;
}

inline Result<void> Optimizer::try_add_tensors(std::uint32_t group, std::vector<Tensor> const& tensors) {
    return with_tensors(tensors, [&](std::vector<maw_tensor> const& c) {
        return detail::call(
            [&](maw_error** error) { return maw_add_tensors(capi(), group, c.data(), c.size(), error); });
    });
}

inline Result<void> Optimizer::try_remove_tensor(std::size_t tensor) {
    Tensors left = tensors_;
    if (tensor < left.params.size()) {
        auto const at = static_cast<std::ptrdiff_t>(tensor);
        left.params.erase(left.params.begin() + at);
        left.gradients.erase(left.gradients.begin() + at);
        left.kinds.erase(left.kinds.begin() + at);
        for (auto number = left.numbers.begin(); number != left.numbers.end();) {
            if (number->second == tensor) {
                number = left.numbers.erase(number);
                continue;
            }
            if (number->second > tensor)
                number->second--;
            ++number;
        }
    }
    auto removed = detail::call([&](maw_error** error) { return maw_remove_tensor(capi(), tensor, error); });
    if (removed)
        tensors_ = std::move(left);
    return removed;
}

/// Calls with the C descriptions of tensors, and keeps their addresses if the call succeeds.
template <class Add>
Result<void> Optimizer::with_tensors(std::vector<Tensor> const& tensors, Add&& add) {
    Tensors all = tensors_;  // a copy, so that on failure neither this object nor the library has the new tensors
    std::vector<maw_tensor> c(tensors.size());
    for (std::size_t t = 0; t < tensors.size(); t++) {
        Tensor const& tensor = tensors[t];
        if (auto error = unusable(tensor))
            return *std::move(error);
        maw_tensor_init(&c[t], sizeof c[t]);
        c[t].name = tensor.name_.c_str();
        c[t].shape = tensor.shape_.data();
        c[t].ndim = static_cast<std::uint32_t>(std::min<std::size_t>(tensor.shape_.size(), UINT32_MAX));
        Buffer const& buffer = tensor.buffer_;
        c[t].dtype = buffer.dtype_;
        c[t].grad_dtype = buffer.grad_dtype_;
        c[t].layer_kind = static_cast<std::int32_t>(tensor.layer_kind_);
        c[t].layer_index = tensor.layer_index_;
        c[t].precision = tensor.precision_;
        c[t].modulation_group = tensor.modulation_group_ ? tensor.modulation_group_->c_str() : nullptr;
        if (tensor.shard_) {
            c[t].sharded = 1;
            c[t].shard_offset = tensor.shard_->offset;
            c[t].shard_numel = tensor.shard_->count;
        }
        all.numbers.emplace(tensor.name_, all.params.size());
        all.params.push_back(buffer.param_);
        all.gradients.push_back(buffer.gradient_);
        all.kinds.push_back({buffer.dtype_, buffer.grad_dtype_, elements(tensor), tensor.addressed_});
    }
    auto added = add(c);
    if (added)
        tensors_ = std::move(all);
    return added;
}

inline Result<void> Optimizer::try_prepare() {
    return together([&](maw_error** error) { return maw_prepare(capi(), error); });
}

// -------------------------------------------------------------------------------------------------- buffers ----

inline Result<std::size_t> Optimizer::try_tensor_index(std::string_view name) const {
    auto const found = tensors_.numbers.find(std::string(name));
    if (found == tensors_.numbers.end())
        return Error(Status::not_found, "no tensor is named '" + std::string(name) + "'");
    return found->second;
}

inline Result<void> Optimizer::try_rebind(std::size_t tensor, Buffer const& buffer) {
    auto checked = fits_buffer(tensor, buffer);
    if (checked)
        set_addresses(tensor, buffer.param_, buffer.gradient_);
    return checked;
}

inline Result<void> Optimizer::rebind_all(Buffer const* buffers, std::size_t count) {
    if (count != tensors_.kinds.size())
        return Error(Status::invalid_argument, std::to_string(count) + " buffers for " +
                                                   std::to_string(tensors_.kinds.size()) + " tensors");
    for (std::size_t t = 0; t < count; t++)
        if (auto checked = fits_buffer(t, buffers[t]); !checked)
            return checked;
    for (std::size_t t = 0; t < count; t++)
        set_addresses(t, buffers[t].param_, buffers[t].gradient_);
    return {};
}

template <class T, detail::if_element<T>>
Result<void> Optimizer::try_rebind(std::size_t tensor, T* param, detail::same_t<T> const* gradient) {
    return try_rebind(tensor, Buffer(param, gradient));
}

/// The type of a null pointer is checked too.
template <class T, class G, detail::if_elements<T, G>>
Result<void> Optimizer::try_rebind(std::size_t tensor, T* param, G const* gradient) {
    auto checked = fits_gradient(tensor, detail::dtype<G>);
    return checked ? try_rebind(tensor, Buffer(param, gradient)) : checked;
}

template <class T, detail::if_element<std::remove_const_t<T>>>
Result<void> Optimizer::try_set_gradient(std::size_t tensor, T* gradient) {
    auto checked = fits_gradient(tensor, detail::dtype<std::remove_const_t<T>>);
    if (checked)
        set_addresses(tensor, tensors_.params[tensor], gradient);
    return checked;
}

inline Result<void> Optimizer::try_set_gradient(std::size_t tensor, std::nullptr_t) {
    auto checked = fits(tensor, std::nullopt, std::nullopt);
    if (checked)
        set_addresses(tensor, tensors_.params[tensor], nullptr);
    return checked;
}

inline void Optimizer::set_addresses(std::size_t tensor, void* param, void const* gradient) {
    tensors_.params[tensor] = param;
    tensors_.gradients[tensor] = gradient;
    tensors_.kinds[tensor].knows_gradient = true;
}

#ifdef __cpp_lib_span
inline Result<void> Optimizer::try_rebind(std::size_t tensor, std::span<float> param,
                                          std::span<float const> gradient) {
    return try_rebind(tensor, Buffer(param, gradient));
}

inline Result<void> Optimizer::try_rebind(std::size_t tensor, std::span<double> param,
                                          std::span<double const> gradient) {
    return try_rebind(tensor, Buffer(param, gradient));
}
#endif

// --------------------------------------------------------------------------------------------------- checks ----

/// How many elements its buffers have: those of this process, or the product of the shape if it fits in 64 bits.
inline std::optional<std::uint64_t> Optimizer::elements(Tensor const& tensor) noexcept {
    if (tensor.shard_)
        return tensor.shard_->count;
    auto const& shape = tensor.shape_;
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

/// Checks what the C ABI cannot: a NUL inside a name, and the lengths of spans.
inline std::optional<Error> Optimizer::unusable(Tensor const& tensor) {
    auto const cut = [](std::string const& text) { return text.find('\0') != std::string::npos; };
    if (cut(tensor.name_) || (tensor.modulation_group_ && cut(*tensor.modulation_group_)))
        return Error(Status::invalid_argument,
                     "a name of tensor '" + std::string(tensor.name_.c_str()) + "…' has a NUL inside");
    if (!tensor.buffer_.lengths_)
        return std::nullopt;
    return wrong_length("tensor '" + tensor.name_ + "'", elements(tensor), *tensor.buffer_.lengths_);
}

inline std::optional<Error> Optimizer::wrong_length(std::string const& whose, std::optional<std::uint64_t> wanted,
                                                    std::pair<std::size_t, std::size_t> given) {
    for (std::size_t const length : {given.first, given.second})
        if (wanted != length)
            return Error(Status::invalid_argument,
                         "a buffer of " + std::to_string(length) + " elements for " + whose + ", which has " +
                             (wanted ? std::to_string(*wanted) : "too many"));
    return std::nullopt;
}

inline Error Optimizer::wrong_type(std::string const& whose, std::int32_t registered) {
    return Error(Status::invalid_argument, whose + " was registered as " + detail::name_of(registered));
}

/// Checks that the tensor exists, its dtype (if given) and its number of elements (if given).
inline Result<void> Optimizer::fits(std::size_t tensor, std::optional<std::int32_t> dtype,
                                    std::optional<std::pair<std::size_t, std::size_t>> lengths) const {
    if (tensor >= tensors_.kinds.size())
        return Error(Status::not_found,
                     "tensor " + std::to_string(tensor) + " of " + std::to_string(tensors_.kinds.size()));
    Kind const& kind = tensors_.kinds[tensor];
    if (dtype && *dtype != kind.dtype)
        return wrong_type("tensor " + std::to_string(tensor), kind.dtype);
    if (lengths)
        if (auto error = wrong_length("tensor " + std::to_string(tensor), kind.elements, *lengths))
            return *std::move(error);
    return {};
}

/// Checks that the tensor exists, and the types and lengths of its buffer.
inline Result<void> Optimizer::fits_buffer(std::size_t tensor, Buffer const& buffer) const {
    auto checked = fits(tensor, buffer.dtype_, buffer.lengths_);
    if (!checked || buffer.gradient_ == nullptr)
        return checked;
    return fits_gradient(tensor, buffer.grad_dtype_);
}

/// Fails if a tensor was registered without addresses, or those of its last step were for that step only.
inline Result<void> Optimizer::knows_gradients() const {
    for (std::size_t t = 0; t < tensors_.kinds.size(); t++)
        if (!tensors_.kinds[t].knows_gradient)
            return Error(Status::invalid_state, "the address of the gradient of tensor " + std::to_string(t) +
                                                    " is not known now: pass buffers to step, or call rebind before");
    return {};
}

/// Checks that the tensor exists and the dtype of its gradients.
inline Result<void> Optimizer::fits_gradient(std::size_t tensor, std::int32_t dtype) const {
    auto const known = fits(tensor, std::nullopt, std::nullopt);
    if (known && dtype != tensors_.kinds[tensor].grad_dtype)
        return wrong_type("the gradient of tensor " + std::to_string(tensor), tensors_.kinds[tensor].grad_dtype);
    return known;
}

}  // namespace metaadamw

#endif
