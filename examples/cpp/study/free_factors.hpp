// The horizon objective without the attention module: ln α of each modulation group is learned by itself, by the same rule
// from the same sums. The library runs plain AdamW with a param group for each modulation group, and keeps the averages.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <metaadamw.hpp>
#include <string>
#include <vector>

#include "library_method.hpp"

class FreeFactors : public Method {
  public:
    // `options`: those of the horizon objective.
    FreeFactors(Task& task, metaadamw::Options const& options, double lr)
        : Method(task), options_(options), lr_(lr), optimizer_(plain(options)) {
        metaadamw::Optimizer grouped{options};  // to learn the modulation groups
        grouped.add_param_group({}, tensors(task));
        grouped.prepare();
        groups_.resize(grouped.group_count());
        for (std::size_t g = 0; g < groups_.size(); g++)
            groups_[g].name = grouped.group_name(g);
        for (std::size_t t = 0; t < task.parameters.size(); t++)
            groups_[grouped.tensor_group(t)].members.push_back(t);
        auto const all = tensors(task);
        for (Group& group : groups_) {
            std::vector<metaadamw::Tensor> members;
            for (std::size_t const t : group.members)
                members.push_back(all[t]);
            optimizer_.add_param_group(metaadamw::ParamGroup{}.lr(lr), members);
        }
    }

    void step(std::size_t step) override {
        task_.backward(task_.training(step));
        if (step > 0 && step >= options_.meta_warmup)  // at the first step the averages are the parameters
            add_sums();
        optimizer_.step();
        if (step >= options_.meta_warmup && ++count_ == options_.meta_interval)
            learn();
    }

    Losses losses() override { return losses_of(optimizer_, task_); }

    std::vector<Alpha> alphas() override {
        std::vector<Alpha> alphas;
        for (Group const& group : groups_) {
            double const alpha = std::exp(group.log_alpha);
            alphas.push_back({group.name, alpha, at_bound(alpha, options_)});
        }
        return alphas;
    }

    // H/‖H‖ of each group, when the factors last learned.
    std::vector<double> slopes() const {
        std::vector<double> slopes;
        for (Group const& group : groups_)
            slopes.push_back(group.slope);
        return slopes;
    }

  private:
    struct Group {
        std::string name;
        std::vector<std::size_t> members;
        double sum = 0.0, slope = 0.0, log_alpha = 0.0, moment = 0.0, square = 0.0;  // sum: H
    };

    static metaadamw::Options plain(metaadamw::Options const& options) {
        metaadamw::Options adamw;
        adamw.modulation = false;
        adamw.horizon_steps = options.horizon_steps;
        adamw.threads = options.threads;
        return adamw;
    }

    // H += Σ g (θ − θ̄), before the update. The library's tensors are in the order of the groups.
    void add_sums() {
        std::size_t number = 0;
        for (Group& group : groups_)
            for (std::size_t const t : group.members) {
                Parameter const& parameter = task_.parameters[t];
                auto const average = optimizer_.average<float>(number++);
                for (std::size_t i = 0; i < average.size(); i++)
                    group.sum += static_cast<double>((*parameter.gradient)[i]) *
                                 (static_cast<double>((*parameter.value)[i]) - static_cast<double>(average[i]));
            }
    }

    void learn() {
        double squares = 0.0;
        for (Group const& group : groups_)
            squares += group.sum * group.sum;
        double const norm = std::sqrt(squares), range = std::log(options_.alpha_log_range);
        bool const usable = norm > 0.0 && std::isfinite(norm);
        updates_ += usable ? 1.0 : 0.0;
        for (std::size_t g = 0; g < groups_.size(); g++) {
            Group& group = groups_[g];
            if (usable) {
                double const slope = group.slope = group.sum / norm;
                group.moment = 0.9 * group.moment + 0.1 * slope;
                group.square = 0.99 * group.square + 0.01 * slope * slope;
                double const m = group.moment / (1.0 - std::pow(0.9, updates_));
                double const v = group.square / (1.0 - std::pow(0.99, updates_));
                group.log_alpha -= options_.meta_lr * (m / (std::sqrt(v) + 1e-8) +
                                                       options_.meta_weight_decay * group.log_alpha);
                group.log_alpha = std::clamp(group.log_alpha, -range, range);
                optimizer_.set_lr(static_cast<std::uint32_t>(g), lr_ * std::exp(group.log_alpha));
            }
            group.sum = 0.0;
        }
        count_ = 0;
    }

    metaadamw::Options const options_;
    double const lr_;
    metaadamw::Optimizer optimizer_;
    std::vector<Group> groups_;
    std::uint64_t count_ = 0;
    double updates_ = 0.0;
};
