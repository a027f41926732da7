// The ways to train, by name.
#pragma once

#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "free_factors.hpp"
#include "library_method.hpp"
#include "schedule_free.hpp"

struct MethodKind {
    std::string name, title;
};

inline std::vector<MethodKind> const METHODS{{"adamw", "AdamW"},
                                             {"cosine", "AdamW, cosine schedule"},
                                             {"schedule_free", "Schedule-Free AdamW"},
                                             {"metaadamw", "MetaAdamW"},
                                             {"horizon", "horizon"}};

// A run of a way to train.
struct Start {
    TaskKind const& kind;
    Task& task;
    std::string method, setting;
    double lr;
    std::uint64_t seed;
    std::size_t steps;
};

inline std::unique_ptr<Method> start_method(Start const& start) {
    if (start.method == "schedule_free")
        return std::make_unique<ScheduleFree>(start.task, start.lr);
    Setting const setting(start.setting);
    auto options = metaadamw::Options::horizon();
    if (start.method != "horizon") {
        std::uint64_t const horizon_steps = options.horizon_steps;  // the averages are those of the preset
        options = metaadamw::Options();
        options.horizon_steps = horizon_steps;
        options.modulation = start.method == "metaadamw";
    }
    if (start.method == "metaadamw") {  // the rest is as in the paper by default
        options.total_steps = start.steps;
        options.meta_interval = start.kind.meta_interval;
        options.meta_warmup = start.kind.epoch;
        options.use_feature_gating = start.kind.feature_gating;
    }
    options.seed = start.seed;
    options.threads = 1;
    setting.apply(options);
    if (setting.free_factors())
        return std::make_unique<FreeFactors>(start.task, options, start.lr);
    if (start.method == "cosine")
        return std::make_unique<Cosine>(start.task, options, start.lr, start.steps);
    return std::make_unique<LibraryMethod>(start.task, options, start.lr);
}
