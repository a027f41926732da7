// Schedule-Free AdamW (Defazio et al., "The Road Less Scheduled", 2024, arXiv:2405.15682), without warm-up:
//     y = (1 − β₁) z + β₁ x          the gradient g is taken here
//     v ← β₂ v + (1 − β₂) g²
//     z ← z − γ (g / (√(v/(1 − β₂ᵗ)) + ε) + λ y)
//     x ← (1 − 1/t) x + z / t        the loss is measured here
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

#include "method.hpp"

class ScheduleFree : public Method {
  public:
    ScheduleFree(Task& task, double lr) : Method(task), lr_(lr) {
        for (Parameter const& parameter : task.parameters)
            states_.push_back({*parameter.value, *parameter.value, std::vector<float>(parameter.value->size())});
    }

    // The model's parameters are y.
    void step(std::size_t step) override {
        task_.backward(task_.training(step));
        double const t = static_cast<double>(step + 1), beta1 = group_.beta1(), beta2 = group_.beta2();
        double const correction = 1.0 - std::pow(beta2, t);
        for (std::size_t p = 0; p < states_.size(); p++) {
            auto& [z, x, v] = states_[p];
            std::vector<float>& y = *task_.parameters[p].value;
            std::vector<float> const& gradient = *task_.parameters[p].gradient;
            for (std::size_t i = 0; i < y.size(); i++) {
                double const g = gradient[i];
                v[i] = static_cast<float>(beta2 * v[i] + (1.0 - beta2) * g * g);
                double const direction = g / (std::sqrt(v[i] / correction) + group_.eps());
                z[i] = static_cast<float>(z[i] - lr_ * (direction + group_.weight_decay() * y[i]));
                x[i] = static_cast<float>(x[i] + (z[i] - x[i]) / t);
                y[i] = static_cast<float>((1.0 - beta1) * z[i] + beta1 * x[i]);
            }
        }
    }

    Losses losses() override {
        exchange();
        double const loss = task_.validation();
        exchange();
        return {loss, NONE};
    }

  private:
    struct State {
        std::vector<float> z, x, v;
    };

    // The model's parameters and x.
    void exchange() {
        for (std::size_t p = 0; p < states_.size(); p++)
            std::swap_ranges(states_[p].x.begin(), states_[p].x.end(), task_.parameters[p].value->begin());
    }

    double const lr_;
    metaadamw::ParamGroup const group_;  // betas, eps and weight decay are those of all ways to train
    std::vector<State> states_;
};
