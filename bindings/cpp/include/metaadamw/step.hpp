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
    double grad_scale = 1.0;                   ///< the gradients are divided by it
    bool params_changed = false;               ///< by you, since the last step
    float const* device_grad_scale = nullptr;  ///< CUDA: in device memory, replaces grad_scale
    float const* found_inf = nullptr;          ///< CUDA: in device memory; the step is skipped unless it is 0
};

/// `maw_step_report`: what a step did.
struct StepReport {
    std::uint64_t step;                           ///< the number of applied steps, this one included
    std::uint64_t skipped_steps;                  ///< the number of skipped steps, this one included
    double grad_norm;                             ///< of all gradients, divided by `grad_scale`, before clipping
    double clip_factor;                           ///< by which clipping multiplied the gradients; 1: none
    std::optional<std::size_t> nonfinite_tensor;  ///< the first one, in registration order
    bool skipped;                                 ///< the step was not applied, because a value is not finite
    SkipReason skip_reason;                       ///< of a skipped step
};

}  // namespace metaadamw

#endif
