/// @file
/// Averages of the parameters: swapped into the host's buffers, for a scope or by hand, and read.
#ifndef METAADAMW_OPTIMIZER_AVERAGES_HPP
#define METAADAMW_OPTIMIZER_AVERAGES_HPP

#include <metaadamw.h>

#include <cstddef>
#include <optional>
#include <vector>

#include "call.hpp"
#include "optimizer.hpp"

namespace metaadamw {

inline Result<void> Optimizer::try_swap_averages() {
    auto swapped = detail::call([&](maw_error** error) {
        return maw_average_swap(capi(), tensors_.params.data(), tensors_.params.size(), error);
    });
    if (swapped)
        holds_averages_ = !holds_averages_;
    return swapped;
}

/// What `Averaged` does at its end. A destructor cannot say that it failed: the averages are then still in the buffers.
inline void Optimizer::SwapBack::operator()(Optimizer* optimizer) const noexcept {
    auto const& params = optimizer->tensors_.params;
    if (optimizer->holds_averages_ &&
        maw_average_swap(optimizer->capi(), params.data(), params.size(), nullptr) == MAW_OK)
        optimizer->holds_averages_ = false;
}

inline Result<Optimizer::Averaged> Optimizer::try_averaged() {
    if (holds_averages_)  // a second swap would bring the parameters back
        return Error(Status::invalid_state, "the averages are in the buffers already");
    auto const swapped = try_swap_averages();
    if (!swapped)
        return swapped.error();
    return Averaged(*this);
}

inline Result<void> Optimizer::Averaged::try_swap_back() {
    if (!optimizer_ || !optimizer_->holds_averages_)
        return {};
    auto swapped = optimizer_->try_swap_averages();
    if (swapped)
        optimizer_.reset();
    return swapped;
}

template <class T, detail::if_state<T>>
Result<std::vector<T>> Optimizer::try_average(std::size_t tensor) {
    auto const known = fits_state(tensor, detail::dtype<T>, std::nullopt);
    if (!known)
        return known.error();
    std::vector<T> values(tensors_.kinds[tensor].elements.value_or(0));
    auto const called = detail::call([&](maw_error** error) {
        return maw_average_get(capi(), tensor, values.data(), values.size(), error);
    });
    if (!called)
        return called.error();
    return values;
}

}  // namespace metaadamw

#endif
