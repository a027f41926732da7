/// @file
/// A meta-update: its requests, your program's answers, and the result.
#ifndef METAADAMW_META_HPP
#define METAADAMW_META_HPP

#include <metaadamw.h>

#include <cstdint>

#include "constants.hpp"

namespace metaadamw {

/// `maw_meta_request`: what to evaluate, at the parameters that are in your buffers now.
class Request {
  public:
    /// Counts from 1; an optimizer never uses a number twice.
    [[nodiscard]] std::uint64_t id() const noexcept { return request_.id; }
    /// The earlier request whose batch and random numbers (dropout) must be used again; 0 if you are free to choose.
    [[nodiscard]] std::uint64_t replay() const noexcept { return request_.replay; }
    /// For your random number generator: the same for requests that replay one another, another for all others. If you
    /// seed with it, `replay` need not be looked at for dropout.
    [[nodiscard]] std::uint64_t seed() const noexcept { return request_.seed; }
    [[nodiscard]] RequestKind kind() const noexcept { return static_cast<RequestKind>(request_.kind); }
    [[nodiscard]] Batch batch() const noexcept { return static_cast<Batch>(request_.batch); }
    /// Whether the gradients must be written to the gradient buffers; if not, the loss is enough.
    [[nodiscard]] bool wants_gradient() const noexcept { return request_.kind == MAW_META_GRADIENT; }

    [[nodiscard]] maw_meta_request const& capi() const noexcept { return request_; }

  private:
    friend class Optimizer;
    Request() noexcept { maw_meta_request_init(&request_, sizeof request_); }

    maw_meta_request request_{};
};

/// The answer to a request: the loss without scaling, and the factor by which the gradients are scaled. A loss alone
/// converts to it.
struct Answer {
    Answer(double loss_, double grad_scale_ = 1.0) noexcept : loss(loss_), grad_scale(grad_scale_) {}

    double loss, grad_scale;
};

/// `maw_meta_result`: how the last meta-update ended. Terms and losses that the objective does not use are NaN.
struct MetaResult {
    std::uint64_t step, updates;
    double loss_train, loss_validation, loss_train_moved, loss_validation_moved;
    double term_gradient, term_loss_decrease, term_gen_gap, loss_meta;
    std::uint32_t evaluations, idle_groups;
    Outcome outcome;
};

}  // namespace metaadamw

#endif
