/// @file
/// Setters: hyper-parameters, a reset, the CUDA stream, the log.
#ifndef METAADAMW_OPTIMIZER_SETTINGS_HPP
#define METAADAMW_OPTIMIZER_SETTINGS_HPP

#include <metaadamw.h>

#include <array>
#include <cstdint>
#include <memory>
#include <utility>

#include "call.hpp"
#include "optimizer.hpp"

namespace metaadamw {

inline Result<void> Optimizer::try_set_lr(std::uint32_t group, double lr) {
    return detail::call([&](maw_error** error) { return maw_set_lr(capi(), group, lr, error); });
}

inline Result<double> Optimizer::try_lr(std::uint32_t group) const {
    return detail::value(0.0, [&](double* lr, maw_error** error) { return maw_get_lr(capi(), group, lr, error); });
}

inline Result<void> Optimizer::try_set_weight_decay(std::uint32_t group, double decay) {
    return detail::call([&](maw_error** error) { return maw_set_weight_decay(capi(), group, decay, error); });
}

inline Result<double> Optimizer::try_weight_decay(std::uint32_t group) const {
    return detail::value(
        0.0, [&](double* decay, maw_error** error) { return maw_get_weight_decay(capi(), group, decay, error); });
}

inline Result<void> Optimizer::try_set_betas(std::uint32_t group, std::array<double, 2> const& betas) {
    return detail::call(
        [&](maw_error** error) { return maw_set_betas(capi(), group, betas[0], betas[1], error); });
}

inline Result<std::array<double, 2>> Optimizer::try_betas(std::uint32_t group) const {
    return detail::value(std::array<double, 2>(), [&](std::array<double, 2>* betas, maw_error** error) {
        return maw_get_betas(capi(), group, &(*betas)[0], &(*betas)[1], error);
    });
}

inline Result<void> Optimizer::try_set_eps(std::uint32_t group, double eps) {
    return detail::call([&](maw_error** error) { return maw_set_eps(capi(), group, eps, error); });
}

inline Result<double> Optimizer::try_eps(std::uint32_t group) const {
    return detail::value(0.0, [&](double* eps, maw_error** error) { return maw_get_eps(capi(), group, eps, error); });
}

inline Result<void> Optimizer::try_set_max_grad_norm(double max_grad_norm) {
    return detail::call([&](maw_error** error) { return maw_set_max_grad_norm(capi(), max_grad_norm, error); });
}

inline Result<double> Optimizer::try_max_grad_norm() const {
    return detail::value(
        0.0, [&](double* norm, maw_error** error) { return maw_get_max_grad_norm(capi(), norm, error); });
}

inline Result<void> Optimizer::try_set_priorities(std::array<double, 3> const& priorities) {
    return detail::call([&](maw_error** error) { return maw_set_priorities(capi(), priorities.data(), error); });
}

inline Result<std::array<double, 3>> Optimizer::try_priorities() const {
    return detail::value(std::array<double, 3>(), [&](std::array<double, 3>* priorities, maw_error** error) {
        return maw_get_priorities(capi(), priorities->data(), error);
    });
}

inline Result<void> Optimizer::try_reset(Reset what) {
    return detail::call(
        [&](maw_error** error) { return maw_reset(capi(), static_cast<std::uint32_t>(what), error); });
}

inline Result<void> Optimizer::try_set_stream(void* stream) {
    return detail::call([&](maw_error** error) { return maw_set_stream(capi(), stream, error); });
}

inline Result<void> Optimizer::try_set_log(Log log) {
    auto receiver = log ? std::make_unique<Log>(std::move(log)) : nullptr;
    auto called = detail::call([&](maw_error** error) {
        return maw_set_log(capi(), receiver ? &Optimizer::on_message : nullptr, receiver.get(), error);
    });
    if (called)
        log_ = std::move(receiver);
    return called;
}

/// The C callback; `log` is the `Log`.
inline void Optimizer::on_message(std::int32_t level, char const* message, void* log) noexcept {
    auto const& receive = *static_cast<Log const*>(log);
#if defined(__cpp_exceptions) || defined(_CPPUNWIND)
    try {
        receive(static_cast<LogLevel>(level), message);
    } catch (...) {  // must not unwind through the library
    }
#else
    receive(static_cast<LogLevel>(level), message);
#endif
}

}  // namespace metaadamw

#endif
