/// @file
/// Getters: counts and names, factors and features, the attention module, its gradient.
#ifndef METAADAMW_OPTIMIZER_QUERIES_HPP
#define METAADAMW_OPTIMIZER_QUERIES_HPP

#include <metaadamw.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "call.hpp"
#include "optimizer.hpp"

namespace metaadamw {

// ----------------------------------------------------------------------------------------- counts and names ----

inline Result<std::uint64_t> Optimizer::try_step_count() const {
    return detail::value<std::uint64_t>(
        0, [&](std::uint64_t* n, maw_error** error) { return maw_step_count(capi(), n, error); });
}

inline Result<std::size_t> Optimizer::try_param_group_count() const { return count(maw_param_group_count); }

inline Result<std::size_t> Optimizer::try_tensor_count() const { return count(maw_tensor_count); }

inline Result<std::string> Optimizer::try_tensor_name(std::size_t tensor) const {
    return text(maw_tensor_name, tensor);
}

inline Result<std::size_t> Optimizer::try_tensor_group(std::size_t tensor) const {
    return detail::value<std::size_t>(0, [&](std::size_t* group, maw_error** error) {
        return maw_tensor_group(capi(), tensor, group, error);
    });
}

inline Result<std::size_t> Optimizer::try_group_count() const { return count(maw_group_count); }

inline Result<std::string> Optimizer::try_group_name(std::size_t group) const { return text(maw_group_name, group); }

inline Result<std::size_t> Optimizer::count(CountFunction function) const {
    return detail::value<std::size_t>(
        0, [&](std::size_t* n, maw_error** error) { return function(capi(), n, error); });
}

inline Result<std::string> Optimizer::text(TextFunction function, std::size_t index) const {
    auto const found = detail::value<char const*>(
        "", [&](char const** name, maw_error** error) { return function(capi(), index, name, error); });
    if (!found)
        return found.error();
    return std::string(*found);
}

// ------------------------------------------------------------------------------------- factors and features ----

inline Result<std::vector<Factors>> Optimizer::try_factors() const {
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

/// A matrix of this size whose values `fill` writes.
template <class Fill>
Result<Matrix> Optimizer::filled(Matrix matrix, Fill&& fill) {
    matrix.values.resize(matrix.rows * matrix.columns);
    auto const called = detail::call(
        [&](maw_error** error) { return fill(matrix.values.data(), matrix.values.size(), error); });
    if (!called)
        return called.error();
    return matrix;
}

inline Result<Matrix> Optimizer::try_features() const {
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

// ------------------------------------------------------------------------------------- the attention module ----

inline Result<std::vector<std::string>> Optimizer::try_attention_names() const {
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

/// Rows and columns of a tensor of the attention module, without values.
inline Result<Matrix> Optimizer::attention_shape(std::string const& name) const {
    auto const names = try_attention_names();
    if (!names)
        return names.error();
    auto const found = std::find(names->begin(), names->end(), name);
    if (found == names->end())
        return Error(Status::not_found, "the attention module has no tensor '" + name + "'");
    std::uint64_t rows = 0, columns = 0;
    auto const called = detail::call([&](maw_error** error) {
        return maw_attention_shape(capi(), static_cast<std::size_t>(found - names->begin()), &rows, &columns, error);
    });
    if (!called)
        return called.error();
    return Matrix{rows, columns, {}};
}

inline Result<Matrix> Optimizer::try_attention(std::string const& name) const {
    auto shape = attention_shape(name);
    if (!shape)
        return shape;
    return filled(*std::move(shape), [&](double* values, std::size_t n, maw_error** error) {
        return maw_attention_get(capi(), name.c_str(), values, n, error);
    });
}

inline Result<void> Optimizer::try_set_attention(std::string const& name, std::vector<double> const& values) {
    return detail::call([&](maw_error** error) {
        return maw_attention_set(capi(), name.c_str(), values.data(), values.size(), error);
    });
}

inline Result<Matrix> Optimizer::try_meta_gradient(std::string const& name) const {
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

}  // namespace metaadamw

#endif
