// The ways to train that are options of the library: AdamW, with a constant rate or a cosine schedule; MetaAdamW with the
// paper's settings; the horizon objective. All keep averages of the parameters.
#pragma once

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <metaadamw.hpp>
#include <string>
#include <vector>

#include "method.hpp"
#include "setting.hpp"

// Whether x is within 1 % of a bound of α.
inline bool at_bound(double alpha, metaadamw::Options const& options) {
    bool const log = options.alpha_log_range > 0.0;
    double const high = log ? options.alpha_log_range : 1.0 + options.alpha_range / 2.0;
    double const low = log ? 1.0 / options.alpha_log_range : 1.0 - options.alpha_range / 2.0;
    return alpha >= 0.99 * high || alpha <= 1.01 * low;
}

inline std::vector<metaadamw::Tensor> tensors(Task const& task) {
    std::vector<metaadamw::Tensor> tensors;
    for (Parameter const& parameter : task.parameters) {
        tensors.push_back({parameter.name, parameter.value->data(), parameter.gradient->data(), parameter.shape});
        tensors.back().layer_kind(parameter.kind);
    }
    return tensors;
}

// At the parameters and at their averages.
inline Losses losses_of(metaadamw::Optimizer& optimizer, Task& task) {
    double const here = task.validation();
    auto const averaged = optimizer.averaged();
    return {here, task.validation()};
}

class LibraryMethod : public Method {
  public:
    LibraryMethod(Task& task, metaadamw::Options const& options, double lr)
        : Method(task), options_(options), optimizer_(options) {
        optimizer_.add_param_group(metaadamw::ParamGroup{}.lr(lr), tensors(task));
    }

    void step(std::size_t step) override {
        task_.backward(task_.training(step));
        optimizer_.step();
        if (optimizer_.meta_due())
            meta_update(step);
    }

    Losses losses() override { return losses_of(optimizer_, task_); }

    std::vector<Alpha> alphas() override {
        std::vector<Alpha> alphas;
        if (options_.modulation)
            for (auto const& factors : optimizer_.factors())
                alphas.push_back({factors.group, factors.alpha, at_bound(factors.alpha, options_)});
        return alphas;
    }

  protected:
    metaadamw::Options const options_;
    metaadamw::Optimizer optimizer_;

  private:
    void meta_update(std::size_t step) {
        auto const batches = task_.for_meta(step);
        optimizer_.meta_update([&](metaadamw::Request const& request) {
            Batch const& batch = request.batch() == metaadamw::Batch::train_1   ? batches[0]
                                 : request.batch() == metaadamw::Batch::train_2 ? batches[1]
                                                                                : batches[2];
            return request.wants_gradient() ? task_.backward(batch) : task_.loss(batch);
        });
    }
};

// The rate falls from `lr` to 0 over all steps.
class Cosine : public LibraryMethod {
  public:
    Cosine(Task& task, metaadamw::Options const& options, double lr, std::size_t steps)
        : LibraryMethod(task, options, lr), lr_(lr), steps_(static_cast<double>(steps)) {}

    void step(std::size_t step) override {
        double const pi = 3.14159265358979323846;
        optimizer_.set_lr(lr_ * 0.5 * (1.0 + std::cos(pi * static_cast<double>(step) / steps_)));
        LibraryMethod::step(step);
    }

  private:
    double const lr_, steps_;
};
