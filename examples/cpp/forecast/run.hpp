// Results of a run, epoch by epoch.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

// MSE in the series' own unit, squared.
struct Run {
    std::string name;  // of the optimizer
    std::uint64_t seed = 0, meta_updates = 0;
    std::vector<double> train, validation;         // of each epoch
    std::vector<std::string> groups;               // modulation groups
    std::vector<std::vector<double>> alpha, beta;  // of each group, means over the steps of each epoch
    double seconds = 0.0;                          // of the processor, for training alone
    std::string log;                               // its lines of the log, if there is one

    std::size_t epochs() const { return train.size(); }
    std::size_t best_epoch() const {  // from 1 on
        auto const best = std::min_element(validation.begin(), validation.end());
        return static_cast<std::size_t>(best - validation.begin()) + 1;
    }
    double best() const { return validation[best_epoch() - 1]; }
    double last() const { return validation.back(); }
};
