/// @file
/// Options: of param groups, which schedulers change, and of the optimizer.
#ifndef METAADAMW_TORCH_OPTIONS_HPP
#define METAADAMW_TORCH_OPTIONS_HPP

#include <metaadamw.hpp>
#include <torch/torch.h>

#include <tuple>

namespace metaadamw::torch {

/// Hyper-parameters of a param group, with the defaults and the setters of `torch::optim::AdamWOptions`:
/// `MetaAdamWOptions(1e-3).weight_decay(0.01)`. `AdamWOptions` convert to them.
struct MetaAdamWOptions : public ::torch::optim::OptimizerCloneableOptions<MetaAdamWOptions> {
    MetaAdamWOptions(double lr = 1e-3) : lr_(lr) {}
    MetaAdamWOptions(::torch::optim::AdamWOptions const& options)
        : lr_(options.lr()), betas_(options.betas()), eps_(options.eps()), weight_decay_(options.weight_decay()) {
        if (options.amsgrad())
            metaadamw::detail::fail(Error(Status::unsupported, "amsgrad is not one of MetaAdamW's options"));
    }

    typedef std::tuple<double, double> betas_t;
    TORCH_ARG(double, lr);
    TORCH_ARG(betas_t, betas) = std::make_tuple(0.9, 0.999);
    TORCH_ARG(double, eps) = 1e-8;
    TORCH_ARG(double, weight_decay) = 1e-2;
    /// How 16-bit parameters are updated (docs/mixed_precision.md). Fixed once the group's tensors are registered.
    TORCH_ARG(Precision, precision) = Precision::nearest;
    /// `DType::bfloat16` halves the memory of the moments. Fixed likewise.
    TORCH_ARG(DType, moment_dtype) = DType::automatic;

  public:
    double get_lr() const override { return lr(); }
    void set_lr(const double value) override { lr(value); }
};

/// What is not a param group's: `metaadamw::Options`, but `init` is `Init::identity`, so that the first steps, up to the
/// first meta-update, are AdamW's. (`Init::xavier` starts with factors at random: docs/libtorch.md.) `threads` = 0 is
/// torch's number of threads, and `device` follows the parameters.
struct Options : public metaadamw::Options {
    Options() { init = Init::identity; }
    /// All of it as given, `init` too.
    explicit Options(metaadamw::Options const& options) : metaadamw::Options(options) {}

    /// `metaadamw::Options::horizon()`: the attention module learns from steps alone, so `step()` is all that a program
    /// calls: `MetaAdamW optimizer(*model, MetaAdamWOptions(1e-3), Options::horizon())`.
    [[nodiscard]] static Options horizon() { return Options(metaadamw::Options::horizon()); }
};

/// Which parameters of a module have weight decay: all of them, as in torch, or those with two or more dimensions
/// (weights, but neither biases nor the scales of norms). The others get a param group of their own, with decay 0.
enum class Decay { all, matrices };

namespace detail {

/// The hyper-parameters in a group's options: ours, or `AdamWOptions`.
inline MetaAdamWOptions read(::torch::optim::OptimizerOptions const& options) {
    if (auto const* ours = dynamic_cast<MetaAdamWOptions const*>(&options))
        return *ours;
    if (auto const* theirs = dynamic_cast<::torch::optim::AdamWOptions const*>(&options))
        return *theirs;
    metaadamw::detail::fail(
        Error(Status::invalid_argument, "the options of a param group must be MetaAdamWOptions or AdamWOptions"));
}

/// Writes what a checkpoint brings back into a group's options.
inline void write(::torch::optim::OptimizerOptions& options, MetaAdamWOptions const& from) {
    auto const assign = [&](auto& to) {
        to.lr(from.lr());
        to.betas(from.betas());
        to.eps(from.eps());
        to.weight_decay(from.weight_decay());
    };
    if (auto* ours = dynamic_cast<MetaAdamWOptions*>(&options))
        assign(*ours);
    else
        assign(dynamic_cast<::torch::optim::AdamWOptions&>(options));
}

inline ParamGroup to_param_group(MetaAdamWOptions const& options) {
    return ParamGroup{}
        .lr(options.lr())
        .beta1(std::get<0>(options.betas()))
        .beta2(std::get<1>(options.betas()))
        .eps(options.eps())
        .weight_decay(options.weight_decay())
        .precision(options.precision())
        .moment_dtype(options.moment_dtype());
}

}  // namespace detail

}  // namespace metaadamw::torch

#endif
