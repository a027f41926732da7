/// @file
/// Options and report of a step.
#ifndef METAADAMW_STEP_HPP
#define METAADAMW_STEP_HPP

#include <cstddef>
#include <cstdint>
#include <optional>

#include "constants.hpp"

namespace metaadamw {

/// `maw_step_options`: options of a single step.
struct StepOptions {
    double grad_scale = 1.0;
    bool params_changed = false;
    float const* device_grad_scale = nullptr;  ///< CUDA: in device memory, replaces grad_scale
    float const* found_inf = nullptr;          ///< CUDA: in device memory; the step is skipped unless it is 0
};

/// `maw_step_report`: what a step did.
struct StepReport {
    std::uint64_t step, skipped_steps;
    double grad_norm, clip_factor;
    std::optional<std::size_t> nonfinite_tensor;  ///< the first one, in registration order
    bool skipped;
    SkipReason skip_reason;
};

}  // namespace metaadamw

#endif
