/// @file
/// Reading and writing an optimizer's state: checkpoints, the JSON dump, moments and masters.
#ifndef METAADAMW_OPTIMIZER_STATE_HPP
#define METAADAMW_OPTIMIZER_STATE_HPP

#include <metaadamw.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "call.hpp"
#include "optimizer.hpp"

namespace metaadamw {

// ---------------------------------------------------------------------------------------------- checkpoints ----

inline Result<void> Optimizer::try_save(std::string const& path, Save what) {
    return together([&](maw_error** error) {
        return maw_save_file(capi(), path.c_str(), static_cast<std::uint32_t>(what), error);
    });
}

inline Result<void> Optimizer::try_load(std::string const& path, Load how) {
    return together([&](maw_error** error) {
        return maw_load_file(capi(), path.c_str(), static_cast<std::uint32_t>(how), error);
    });
}

inline Result<LoadReport> Optimizer::try_load_report() const {
    LoadReport report;
    std::pair<std::uint32_t, std::vector<std::string>*> const lists[] = {
        {MAW_LOAD_MISSING_TENSORS, &report.missing_tensors},
        {MAW_LOAD_UNEXPECTED_TENSORS, &report.unexpected_tensors},
        {MAW_LOAD_MISSING_GROUPS, &report.missing_groups},
        {MAW_LOAD_UNEXPECTED_GROUPS, &report.unexpected_groups},
    };
    for (auto const& [which, names] : lists) {
        auto const list = which;
        auto const count = detail::value<std::size_t>(0, [&](std::size_t* out, maw_error** error) {
            return maw_load_report_count(capi(), list, out, error);
        });
        if (!count)
            return count.error();
        for (std::size_t i = 0; i < *count; i++) {
            auto const name = detail::value<char const*>(nullptr, [&](char const** out, maw_error** error) {
                return maw_load_report_name(capi(), list, i, out, error);
            });
            if (!name)
                return name.error();
            names->emplace_back(*name);
        }
    }
    return report;
}

template <class Make>
Result<Bytes> Optimizer::bytes(Make&& make) {
    auto const made = detail::value<maw_bytes*>(nullptr, std::forward<Make>(make));
    if (!made)
        return made.error();
    return Bytes(*made);
}

inline Result<Bytes> Optimizer::try_save_bytes(Save what) {
    return bytes([&](maw_bytes** made, maw_error** error) {
        return maw_save_bytes(capi(), static_cast<std::uint32_t>(what), made, error);
    });
}

inline Result<void> Optimizer::try_load_bytes(std::uint8_t const* data, std::size_t size, Load how) {
    return together([&](maw_error** error) {
        return maw_load_bytes(capi(), data, size, static_cast<std::uint32_t>(how), error);
    });
}

inline Result<std::string> Optimizer::try_dump_state() {
    auto const json = bytes([&](maw_bytes** made, maw_error** error) { return maw_dump_state(capi(), made, error); });
    if (!json)
        return json.error();
    return std::string(json->data(), json->data() + json->size());
}

// -------------------------------------------------------------------------------------- moments and masters ----

template <class T, detail::if_state<T>>
Result<TensorState<T>> Optimizer::try_tensor_state(std::size_t tensor) {
    auto const known = fits_state(tensor, detail::dtype<T>, std::nullopt);
    if (!known)
        return known.error();
    std::size_t const length = tensors_.kinds[tensor].elements.value_or(0);
    TensorState<T> state{std::vector<T>(length), std::vector<T>(length), 0};
    auto const called = detail::call([&](maw_error** error) {
        return maw_tensor_state_get(capi(), tensor, state.exp_avg.data(), state.exp_avg_sq.data(), length, &state.step,
                                    error);
    });
    if (!called)
        return called.error();
    return state;
}

template <class T, detail::if_state<T>>
Result<void> Optimizer::try_set_tensor_state(std::size_t tensor, TensorState<T> const& state) {
    auto const lengths = std::pair(state.exp_avg.size(), state.exp_avg_sq.size());
    auto const known = fits_state(tensor, detail::dtype<T>, lengths);
    if (!known)
        return known;
    return detail::call([&](maw_error** error) {
        return maw_tensor_state_set(capi(), tensor, state.exp_avg.data(), state.exp_avg_sq.data(),
                                    state.exp_avg.size(), state.step, error);
    });
}

/// Checks that the tensor exists, the dtype of its moments, and their number (if given).
inline Result<void> Optimizer::fits_state(std::size_t tensor, std::int32_t dtype,
                                          std::optional<std::pair<std::size_t, std::size_t>> lengths) const {
    auto const known = fits(tensor, std::nullopt, lengths);
    if (!known)
        return known;
    std::int32_t const wide = tensors_.kinds[tensor].dtype == MAW_FLOAT64 ? MAW_FLOAT64 : MAW_FLOAT32;
    if (dtype != wide)
        return wrong_type("the state of tensor " + std::to_string(tensor), wide);
    return {};
}

inline Result<Counters> Optimizer::try_counters() const {
    maw_counters c;
    maw_counters_init(&c, sizeof c);
    auto const called = detail::call([&](maw_error** error) { return maw_counters_get(capi(), &c, error); });
    if (!called)
        return called.error();
    Counters counters;
    counters.step = c.step;
    counters.meta_updates = c.meta_updates;
    if (c.meta_done_at != MAW_NO_STEP)
        counters.meta_done_at = c.meta_done_at;
    counters.skipped_gradient = c.skipped_gradient;
    counters.skipped_parameter = c.skipped_parameter;
    counters.skipped_moment = c.skipped_moment;
    counters.skipped_feature = c.skipped_feature;
    counters.skipped_factor = c.skipped_factor;
    return counters;
}

inline Result<void> Optimizer::try_set_counters(Counters const& counters) {
    maw_counters c;
    maw_counters_init(&c, sizeof c);
    c.step = counters.step;
    c.meta_updates = counters.meta_updates;
    c.meta_done_at = counters.meta_done_at.value_or(MAW_NO_STEP);
    c.skipped_gradient = counters.skipped_gradient;
    c.skipped_parameter = counters.skipped_parameter;
    c.skipped_moment = counters.skipped_moment;
    c.skipped_feature = counters.skipped_feature;
    c.skipped_factor = counters.skipped_factor;
    return detail::call([&](maw_error** error) { return maw_counters_set(capi(), &c, error); });
}

inline Result<std::vector<float>> Optimizer::try_masters(std::size_t tensor) {
    auto const known = fits(tensor, std::nullopt, std::nullopt);
    if (!known)
        return known.error();
    std::vector<float> values(tensors_.kinds[tensor].elements.value_or(0));
    auto const called = detail::call([&](maw_error** error) {
        return maw_master_get(capi(), tensor, tensors_.params[tensor], values.data(), values.size(), error);
    });
    if (!called)
        return called.error();
    return values;
}

inline Result<void> Optimizer::try_set_masters(std::size_t tensor, std::vector<float> const& values) {
    auto const known = fits(tensor, std::nullopt, std::pair(values.size(), values.size()));
    if (!known)
        return known;
    return detail::call([&](maw_error** error) {
        return maw_master_set(capi(), tensor, values.data(), tensors_.params[tensor], values.size(), error);
    });
}

}  // namespace metaadamw

#endif
