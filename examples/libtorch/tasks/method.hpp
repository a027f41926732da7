// The optimizer of a run.
#pragma once

#include <fstream>
#include <map>
#include <memory>
#include <sstream>
#include <utility>

#include "schedule_free.hpp"
#include "settings.hpp"

// AdamW is the library's, without modulation; torch_adamw is torch's own.
struct Method {
    std::unique_ptr<torch::optim::Optimizer> optimizer;
    metaadamw::torch::MetaAdamW* library = nullptr;  // one of these is the optimizer, or none
    ScheduleFree* schedule_free = nullptr;
    std::vector<double> rates{};  // of the param groups, before a schedule

    void set_schedule(double factor) {
        auto& groups = optimizer->param_groups();
        for (std::size_t g = 0; g < groups.size(); g++)
            groups[g].options().set_lr(rates[g] * factor);
    }
};

// Lines "group alpha beta".
inline std::map<std::string, std::pair<double, double>> read_factors(std::string const& file) {
    std::ifstream in(file);
    if (!in)
        throw std::runtime_error("--factors " + file + ": cannot be read");
    std::map<std::string, std::pair<double, double>> factors;
    std::string line;
    for (std::size_t number = 1; std::getline(in, line); number++) {
        std::istringstream fields(line);
        std::string group, more;
        double alpha = 0.0, beta = 0.0;
        if (!(fields >> group >> alpha >> beta) || fields >> more || !(alpha >= 0.0) || !(beta >= 0.0))
            throw std::runtime_error(file + ":" + std::to_string(number) + ": expected \"GROUP ALPHA BETA\"");
        factors[group] = {alpha, beta};
    }
    return factors;
}

// A param group for each modulation group, whose rate and decay are multiplied by the factors of the file.
inline std::vector<torch::optim::OptimizerParamGroup> groups_with_factors(
    torch::nn::Module& model, metaadamw::torch::MetaAdamWOptions const& usual, Settings const& settings) {
    auto factors = read_factors(settings.factors);
    auto options = settings.options;
    options.modulation = true;
    metaadamw::torch::MetaAdamW grouping(model, usual, options);  // says which tensor is in which group
    auto& core = grouping.core();
    core.prepare();
    auto const parameters = model.parameters();
    std::vector<torch::optim::OptimizerParamGroup> groups;
    for (std::size_t g = 0; g < core.group_count(); g++) {
        auto const found = factors.find(core.group_name(g));
        if (found == factors.end())
            throw std::runtime_error("--factors " + settings.factors + ": no line for the group " + core.group_name(g));
        std::vector<torch::Tensor> members;
        for (std::size_t i = 0; i < parameters.size(); i++)
            if (core.tensor_group(i) == g)
                members.push_back(parameters[i]);
        auto changed = usual;
        changed.lr(usual.lr() * found->second.first);
        changed.weight_decay(usual.weight_decay() * found->second.second);
        groups.emplace_back(members, std::make_unique<metaadamw::torch::MetaAdamWOptions>(changed));
        factors.erase(found);
    }
    if (!factors.empty())
        throw std::runtime_error("--factors " + settings.factors + ": the model has no group " + factors.begin()->first);
    return groups;
}

inline Method make_method(Settings const& settings, torch::nn::Module& model) {
    double const lr = settings.lr * settings.lr_factor;
    Method method;
    auto const own = [&](auto optimizer) {
        auto* const pointer = optimizer.get();
        method.optimizer = std::move(optimizer);
        return pointer;
    };
    auto const torchs = torch::optim::AdamWOptions(lr).weight_decay(settings.weight_decay);
    auto const usual = metaadamw::torch::MetaAdamWOptions(lr).weight_decay(settings.weight_decay);
    auto options = settings.options;
    options.modulation = settings.optimizer == Kind::metaadamw && settings.factors.empty();
    switch (settings.optimizer) {
    case Kind::torch_adamw:
        own(std::make_unique<torch::optim::AdamW>(model.parameters(), torchs));
        break;
    case Kind::schedule_free:
        method.schedule_free = own(std::make_unique<ScheduleFree>(model.parameters(), torchs));
        break;
    case Kind::adamw:
    case Kind::metaadamw:
        method.library =
            settings.factors.empty()
                ? own(std::make_unique<metaadamw::torch::MetaAdamW>(model, usual, options))
                : own(std::make_unique<metaadamw::torch::MetaAdamW>(
                      model, groups_with_factors(model, usual, settings), usual, options));
        break;
    }
    for (auto const& group : method.optimizer->param_groups())
        method.rates.push_back(group.options().get_lr());
    return method;
}
