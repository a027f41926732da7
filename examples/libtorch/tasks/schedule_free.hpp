// Schedule-Free AdamW (Defazio et al., "The Road Less Scheduled", 2024, arXiv:2405.15682), without warm-up:
//     y = (1 − β₁) z + β₁ x          the gradient g is taken here
//     v ← β₂ v + (1 − β₂) g²
//     z ← z − γ (g / (√(v/(1 − β₂ᵗ)) + ε) + λ y)
//     x ← (1 − 1/t) x + z / t        the loss is measured here
// The parameters are y.
#pragma once

#include <torch/torch.h>

#include <cmath>
#include <tuple>
#include <vector>

class ScheduleFree : public torch::optim::Optimizer {
  public:
    ScheduleFree(std::vector<torch::Tensor> params, torch::optim::AdamWOptions const& options)
        : Optimizer({torch::optim::OptimizerParamGroup(std::move(params))},
                    std::make_unique<torch::optim::AdamWOptions>(options)) {
        for (auto const& param : this->params()) {
            z_.push_back(param.detach().clone());
            x_.push_back(param.detach().clone());
            v_.push_back(torch::zeros_like(param));
        }
    }

    torch::Tensor step(LossClosure closure = nullptr) override {
        TORCH_CHECK(!closure, "a step has no closure here");
        torch::NoGradGuard const no_graph;
        auto const& options = static_cast<torch::optim::AdamWOptions const&>(param_groups_[0].options());
        auto const [beta1, beta2] = options.betas();
        double const t = ++steps_, correction = 1.0 - std::pow(beta2, t);
        for (std::size_t p = 0; p < z_.size(); p++) {
            auto& y = params()[p];
            auto const& g = y.grad();
            if (!g.defined())
                continue;
            v_[p].mul_(beta2).addcmul_(g, g, 1.0 - beta2);
            z_[p].add_(g / ((v_[p] / correction).sqrt_() + options.eps()) + options.weight_decay() * y, -options.lr());
            x_[p].lerp_(z_[p], 1.0 / t);
            y.copy_(z_[p].lerp(x_[p], beta1));
        }
        return {};
    }

    // Exchanges the parameters and x, for an evaluation; a second time brings them back.
    void swap() {
        torch::NoGradGuard const no_graph;
        for (std::size_t p = 0; p < x_.size(); p++) {
            auto const y = params()[p].clone();
            params()[p].copy_(x_[p]);
            x_[p] = y;
        }
    }

    void save(torch::serialize::OutputArchive& archive) const override {
        archive.write("steps", torch::tensor(steps_, torch::kDouble));
        each([&](std::string const& name, torch::Tensor const& tensor) { archive.write(name, tensor); });
    }
    void load(torch::serialize::InputArchive& archive) override {
        torch::Tensor steps;
        archive.read("steps", steps);
        steps_ = steps.item<double>();
        each([&](std::string const& name, torch::Tensor tensor) { archive.read(name, tensor); });
    }

  private:
    std::vector<torch::Tensor>& params() { return param_groups_[0].params(); }

    template <class Visit>
    void each(Visit visit) const {
        for (std::size_t p = 0; p < z_.size(); p++) {
            visit("z" + std::to_string(p), z_[p]);
            visit("x" + std::to_string(p), x_[p]);
            visit("v" + std::to_string(p), v_[p]);
        }
    }

    double steps_ = 0.0;
    std::vector<torch::Tensor> z_, x_, v_;
};
