/// @file
/// Training: steps, observed gradients, meta-updates.
#ifndef METAADAMW_OPTIMIZER_TRAINING_HPP
#define METAADAMW_OPTIMIZER_TRAINING_HPP

#include <metaadamw.h>

#include <cstddef>
#include <optional>
#include <utility>

#include "call.hpp"
#include "optimizer.hpp"

namespace metaadamw {

// ---------------------------------------------------------------------------------------------------- steps ----

/// Forgets the gradients' addresses at the end of the scope, if `armed`.
struct Optimizer::ForgetGradients {
    Optimizer& optimizer;
    bool armed;

    void now() const noexcept {
        Tensors& tensors = optimizer.tensors_;
        for (std::size_t t = 0; armed && t < tensors.kinds.size(); t++) {
            tensors.gradients[t] = nullptr;
            tensors.kinds[t].knows_gradient = false;
        }
    }
    ~ForgetGradients() { now(); }
};

inline Result<StepReport> Optimizer::step_at(Buffer const* buffers, std::size_t count, StepOptions const& options) {
    auto const rebound = rebind_all(buffers, count);
    if (!rebound)
        return refused(rebound.error());
    ForgetGradients const forget{*this, true};
    return try_step(options);
}

inline Result<StepReport> Optimizer::try_step(StepOptions const& options) {
    maw_step_report report;
    maw_step_report_init(&report, sizeof report);
    auto const called = step_with(options, &report);
    if (!called)
        return called.error();
    return to_report(report);
}

inline Result<void> Optimizer::try_launch(StepOptions const& options) { return step_with(options, nullptr); }

inline Result<void> Optimizer::step_with(StepOptions const& options, maw_step_report* report) {
    if (auto const known = knows_gradients(); !known)
        return refused(known.error());
    maw_step_options c;
    maw_step_options_init(&c, sizeof c);
    c.grad_scale = options.grad_scale;
    c.flags = options.params_changed ? MAW_STEP_PARAMS_CHANGED : 0;
    c.device_grad_scale = options.device_grad_scale;
    c.found_inf = options.found_inf;
    return together([&](maw_error** error) {
        return maw_step(capi(), tensors_.params.data(), tensors_.gradients.data(), tensors_.params.size(), &c, report,
                        error);
    });
}

inline Result<StepReport> Optimizer::try_step_report(bool wait) {
    maw_step_report report;
    maw_step_report_init(&report, sizeof report);
    auto const called = detail::call([&](maw_error** error) {
        return maw_step_report_fetch(capi(), wait ? MAW_FETCH_WAIT : 0, &report, error);
    });
    if (!called)
        return called.error();
    return to_report(report);
}

inline StepReport Optimizer::to_report(maw_step_report const& report) {
    StepReport result{report.step, report.skipped_steps, report.grad_norm, report.clip_factor,
                      std::nullopt, report.skipped != 0, static_cast<SkipReason>(report.skip_reason)};
    if (report.nonfinite_tensor != MAW_NO_TENSOR)
        result.nonfinite_tensor = static_cast<std::size_t>(report.nonfinite_tensor);
    return result;
}

inline Result<void> Optimizer::try_observe_gradient(std::size_t tensor) {
    auto const known = fits(tensor, std::nullopt, std::nullopt);
    if (!known)
        return known;
    if (!tensors_.kinds[tensor].knows_gradient)
        return knows_gradients();
    return detail::call([&](maw_error** error) {
        return maw_observe_gradient(capi(), tensor, tensors_.gradients[tensor], error);
    });
}

// --------------------------------------------------------------------------------------------- meta-updates ----

/// Leaves no meta-update open, whichever way the scope is left.
struct Optimizer::AbortUnlessDone {
    Optimizer& optimizer;
    maw_meta_request const& request;

    ~AbortUnlessDone() {
        auto const& params = optimizer.tensors_.params;
        if (request.kind != MAW_META_DONE)
            maw_meta_abort(optimizer.capi(), params.data(), params.size(), nullptr);
    }
};

template <class Evaluate>
Result<MetaResult> Optimizer::try_meta_update(Evaluate&& evaluate) {
    Request request;
    auto called = together([&](maw_error** error) {
        return maw_meta_begin(capi(), tensors_.params.data(), tensors_.params.size(), &request.request_, error);
    });
    if (!called)
        return called.error();
    ForgetGradients const forget{*this, !knows_gradients()};
    AbortUnlessDone const open{*this, request.request_};
    while (request.request_.kind != MAW_META_DONE) {
        Answer const answer = evaluate(std::as_const(request));
        called = tell(request, answer);
        forget.now();
        if (!called)
            return called.error();
    }
    return try_meta_result();
}

inline Result<void> Optimizer::tell(Request& request, Answer const& answer) {
    if (request.wants_gradient())
        if (auto const known = knows_gradients(); !known)
            return refused(known.error());
    maw_meta_answer c;
    maw_meta_answer_init(&c, sizeof c);
    c.request_id = request.request_.id;
    c.loss = answer.loss;
    c.grad_scale = answer.grad_scale;
    return together([&](maw_error** error) {
        return maw_meta_tell(capi(), &c, tensors_.params.data(), tensors_.gradients.data(), tensors_.params.size(),
                             &request.request_, error);
    });
}

inline Result<MetaResult> Optimizer::try_meta_result() const {
    maw_meta_result r;
    maw_meta_result_init(&r, sizeof r);
    auto const called = detail::call([&](maw_error** error) { return maw_meta_result_get(capi(), &r, error); });
    if (!called)
        return called.error();
    return MetaResult{r.step, r.updates, r.loss_train, r.loss_validation, r.loss_train_moved,
                      r.loss_validation_moved, r.term_gradient, r.term_loss_decrease, r.term_gen_gap, r.loss_meta,
                      r.evaluations, r.idle_groups, static_cast<Outcome>(r.outcome)};
}

}  // namespace metaadamw

#endif
