// The five tasks, with the paper's settings for each.
#pragma once

#include <stdexcept>

#include "task.hpp"

inline std::vector<TaskKind> const KINDS{
    {"etth1", Metric::mse, 64, 217, 8, 6, 16, false, true, {1, 1, 1}, make_etth1},
    {"wikitext2", Metric::perplexity, 64, 123, 8, 6, 16, false, false, {1, 1, 1}, make_wikitext2},
    {"multi30k", Metric::perplexity, 64, 454, 128, 6, 64, false, false, {2, 5, 1}, make_multi30k},
    {"cifar10", Metric::accuracy, 128, 190, 64, 6, 64, false, false, {5, 2, 1}, make_cifar10},
    {"imdb", Metric::accuracy, 64, 39, 64, 11, 64, true, true, {1, 3, 5}, make_imdb},
};

inline TaskKind const& kind_of(std::string const& name) {
    std::string names;
    for (TaskKind const& kind : KINDS) {
        if (kind.name == name)
            return kind;
        names += (names.empty() ? "" : ", ") + kind.name;
    }
    throw std::runtime_error("--task '" + name + "': expected one of " + names);
}
