// Which runs the study has.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <map>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "methods.hpp"
#include "record.hpp"

inline std::vector<std::uint64_t> const SEEDS{1, 2, 3, 4, 5}, SWEEP_SEEDS{101, 102};
inline std::vector<double> const FACTORS{0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0};

// Of the horizon objective, each with the rate at AdamW's best and at four times that.
inline std::vector<std::string> const SETTINGS{
    "horizon=100",         "horizon=300",       "horizon=3000",      "encoder=none",       "features=norm_basic",
    "alpha_range=1",       "alpha_range=1.8",   "alpha_log_range=2", "alpha_log_range=32", "meta_lr=0.003",
    "meta_lr=0.03",        "meta_lr=0.1",       "meta_lr=0.3",       "meta_lr=1"};
inline std::vector<double> const SETTINGS_FACTORS{1.0, 4.0};

// --only: the values that a field may have; fields that are not named may have any.
struct Only {
    std::map<std::string, std::set<std::string>> wanted;

    // "FIELD=VALUE,VALUE…"
    void add(std::string const& text) {
        auto const equals = text.find('=');
        std::string const field = text.substr(0, equals);
        std::set<std::string> const fields{"part", "task", "method", "setting", "factor", "seed"};
        if (equals == std::string::npos || fields.count(field) == 0)
            throw std::runtime_error("--only " + text +
                                     ": expected part, task, method, setting, factor or seed, '=', and values");
        std::istringstream values(text.substr(equals + 1) + ",");
        for (std::string value; std::getline(values, value, ',');)
            wanted[field].insert(value);
    }

    bool allows(std::string const& field, std::string const& value) const {
        auto const found = wanted.find(field);
        return found == wanted.end() || found->second.count(value) > 0;
    }

    bool allows(Plan const& plan) const {
        char factor[32];
        std::snprintf(factor, sizeof factor, "%g", plan.factor);
        return allows("part", plan.part) && allows("task", plan.task) && allows("method", plan.method) &&
               allows("setting", plan.setting) && allows("factor", factor) &&
               allows("seed", std::to_string(plan.seed));
    }
};

// AdamW with rates 1e-4, 2e-4, … 0.0512.
inline std::vector<Plan> sweep(TaskKind const& task) {
    std::vector<Plan> plans;
    for (std::uint64_t const seed : SWEEP_SEEDS)
        for (int i = 0; i < 10; i++)
            plans.push_back({"sweep", task.name, "adamw", "", 0.0, std::ldexp(1e-4, i), seed, task.steps});
    return plans;
}

// The rate with the least mean of the last losses.
inline double best_rate(TaskKind const& task, std::vector<Line> const& lines) {
    std::map<double, std::vector<double>> losses;
    for (Line const& line : lines)
        if (line.plan.part == "sweep" && line.plan.task == task.name && line.plan.steps == task.steps)
            losses[line.plan.lr].push_back(line.last.parameters);
    double best = 0.0, least = std::numeric_limits<double>::infinity();
    for (auto const& [lr, values] : losses) {
        double sum = 0.0;
        for (double const value : values)
            sum += value;
        if (values.size() == SWEEP_SEEDS.size() && sum < least)
            best = lr, least = sum;
    }
    if (losses.empty() || best == losses.begin()->first || best == losses.rbegin()->first)
        throw std::runtime_error(task.name + ": AdamW's best rate is not within those of the sweep");
    return best;
}

inline std::vector<Plan> comparison(std::vector<TaskKind> const& tasks, std::map<std::string, double> const& rates) {
    std::vector<Plan> plans;
    for (std::uint64_t const seed : SEEDS)  // outermost, so that a study that is not finished has all of some seeds
        for (TaskKind const& task : tasks) {
            double const rate = rates.at(task.name);
            for (MethodKind const& method : METHODS)
                for (double const factor : FACTORS)
                    plans.push_back({"rates", task.name, method.name, "", factor, factor * rate, seed, task.steps});
            for (std::string const& setting : SETTINGS)
                for (double const factor : SETTINGS_FACTORS)
                    plans.push_back(
                        {"settings", task.name, "horizon", setting, factor, factor * rate, seed, task.steps});
        }
    return plans;
}
