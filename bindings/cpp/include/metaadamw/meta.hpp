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
    /// Whether a loss is wanted, or a loss and gradients.
    [[nodiscard]] RequestKind kind() const noexcept { return static_cast<RequestKind>(request_.kind); }
    /// The batch to evaluate on: of the training (training mode) or of the validation (evaluation mode).
    [[nodiscard]] Batch batch() const noexcept { return static_cast<Batch>(request_.batch); }
    /// Whether the gradients must be written to the gradient buffers; if not, the loss is enough.
    [[nodiscard]] bool wants_gradient() const noexcept { return request_.kind == MAW_META_GRADIENT; }

    /// The C struct.
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

/// `maw_meta_result`: how the last meta-update ended, or how the attention module last learned from steps
/// (`Objective::horizon`). Terms and losses that the objective does not use are NaN.
struct MetaResult {
    std::uint64_t step;                ///< the number of applied steps when it began
    std::uint64_t updates;             ///< how often the attention module has learned so far
    double loss_train;                 ///< on the first training batch
    double loss_validation;            ///< on the validation batch
    double loss_train_moved;           ///< after the trial step, on the second training batch
    double loss_validation_moved;      ///< after the trial step, on the validation batch
    double term_gradient;              ///< gradient alignment (eq. 10)
    double term_loss_decrease;         ///< loss decrease (eq. 11)
    double term_gen_gap;               ///< generalization gap (eq. 12)
    double loss_meta;                  ///< the objective, regularization included
    std::uint32_t evaluations;         ///< of your program
    std::uint32_t idle_groups;         ///< whose gradient on the second training batch is below 1e-5 of the largest
    Outcome outcome;                   ///< whether the module learned, and if not, why
};

}  // namespace metaadamw

#endif
