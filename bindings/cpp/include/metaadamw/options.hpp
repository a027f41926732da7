/// @file
/// Options of an optimizer.
#ifndef METAADAMW_OPTIONS_HPP
#define METAADAMW_OPTIONS_HPP

#include <metaadamw.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "constants.hpp"

namespace metaadamw {

/// `maw_options`: fields of the same names, but `horizon_steps` for `horizon`, with the defaults of the library that
/// is loaded.
struct Options {
    std::uint64_t seed{}, total_steps{}, meta_interval{}, meta_warmup{};
    double alpha_range{}, beta_range{};
    double meta_lr{}, meta_weight_decay{}, feature_gating_sparsity{};
    std::array<double, 3> priorities{}, fixed_weights{};
    double huw_initial_log_var{}, log_var_limit{}, difference_scale{}, max_grad_norm{};
    Semantics semantics{};
    FeatureVersion feature_version{};
    Grouping grouping{};
    Init init{};
    Objective objective{};
    Weighting weighting{};
    std::array<TermKind, 3> huw_kinds{};
    Difference difference{};
    Nonfinite nonfinite{};
    Device device{};
    std::int32_t device_index{};
    bool modulation{}, use_v_norms{}, include_time_step{}, use_feature_gating{};
    std::uint32_t group_embed_dim{}, feature_dim{}, attn_heads{}, attn_layers{}, attn_hidden_dim{}, threads{};
    bool verify_params{};
    double alpha_log_range{}, beta_log_range{};
    std::uint64_t horizon_steps{};
    MetaOptimizer meta_optimizer{};
    DType average_dtype{};

    Options() {
        maw_options from;
        maw_options_init(&from, sizeof from);
        take(from);
    }

    /// `MAW_PRESET_HORIZON`: the attention module learns from steps alone, so `step` is all that a program calls.
    [[nodiscard]] static Options horizon() {
        maw_options from;
        maw_options_preset(&from, sizeof from, MAW_PRESET_HORIZON);
        Options options;
        options.take(from);
        return options;
    }

    [[nodiscard]] maw_options capi() const {
        maw_options to;
        maw_options_init(&to, sizeof to);
        Options copy = *this;
        copy.exchange(to, [](auto& theirs, auto const& ours) {
            theirs = static_cast<std::decay_t<decltype(theirs)>>(ours);
        });
        return to;
    }

  private:
    void take(maw_options& from) {
        exchange(from, [](auto const& theirs, auto& ours) {
            ours = static_cast<std::decay_t<decltype(ours)>>(theirs);
        });
    }

    /// Lists every field once, for both directions.
    template <class Assign>
    void exchange(maw_options& c, Assign assign) {
        assign(c.seed, seed);
        assign(c.total_steps, total_steps);
        assign(c.meta_interval, meta_interval);
        assign(c.meta_warmup, meta_warmup);
        assign(c.alpha_range, alpha_range);
        assign(c.beta_range, beta_range);
        assign(c.meta_lr, meta_lr);
        assign(c.meta_weight_decay, meta_weight_decay);
        assign(c.feature_gating_sparsity, feature_gating_sparsity);
        for (std::size_t term = 0; term < 3; term++) {
            assign(c.priorities[term], priorities[term]);
            assign(c.fixed_weights[term], fixed_weights[term]);
            assign(c.huw_kinds[term], huw_kinds[term]);
        }
        assign(c.huw_initial_log_var, huw_initial_log_var);
        assign(c.log_var_limit, log_var_limit);
        assign(c.difference_scale, difference_scale);
        assign(c.max_grad_norm, max_grad_norm);
        assign(c.semantics, semantics);
        assign(c.feature_version, feature_version);
        assign(c.grouping, grouping);
        assign(c.init, init);
        assign(c.objective, objective);
        assign(c.weighting, weighting);
        assign(c.difference, difference);
        assign(c.nonfinite, nonfinite);
        assign(c.device, device);
        assign(c.device_index, device_index);
        assign(c.modulation, modulation);
        assign(c.use_v_norms, use_v_norms);
        assign(c.include_time_step, include_time_step);
        assign(c.use_feature_gating, use_feature_gating);
        assign(c.group_embed_dim, group_embed_dim);
        assign(c.feature_dim, feature_dim);
        assign(c.attn_heads, attn_heads);
        assign(c.attn_layers, attn_layers);
        assign(c.attn_hidden_dim, attn_hidden_dim);
        assign(c.threads, threads);
        assign(c.verify_params, verify_params);
        assign(c.alpha_log_range, alpha_log_range);
        assign(c.beta_log_range, beta_log_range);
        assign(c.horizon, horizon_steps);
        assign(c.meta_optimizer, meta_optimizer);
        assign(c.average_dtype, average_dtype);
    }
};

}  // namespace metaadamw

#endif
