// A way to train, and the runs' common loop.
#pragma once

#include <cmath>
#include <cstddef>
#include <limits>
#include <string>
#include <vector>

#include "../shared/progress.hpp"
#include "task.hpp"

constexpr double NONE = std::numeric_limits<double>::quiet_NaN();

struct Losses {
    double parameters = NONE, average = NONE;  // validation; at an average only where there is one
};

// Of a modulation group.
struct Alpha {
    std::string group;
    double value;
    bool at_bound;  // within 1 %
};

class Method {
  public:
    explicit Method(Task& task) : task_(task) {}
    Method(Method const&) = delete;
    Method& operator=(Method const&) = delete;
    virtual ~Method() = default;

    virtual void step(std::size_t step) = 0;  // steps count from 0
    virtual Losses losses() = 0;
    virtual std::vector<Alpha> alphas() { return {}; }

  protected:
    Task& task_;
};

struct Outcome {
    Losses last, best;
    double seconds = 0.0;  // of the processor, for training alone
    std::vector<Alpha> alphas{};
};

// The validation losses are measured this many times a run.
constexpr std::size_t EVALUATIONS = 20;

inline Outcome train(Method& method, std::size_t steps) {
    Outcome outcome;
    auto const keep_best = [](double loss, double& best) {
        if (std::isnan(best) || loss < best)
            best = loss;
    };
    for (std::size_t step = 0; step < steps; step++) {
        double const start = cpu_seconds_now();
        method.step(step);
        outcome.seconds += cpu_seconds_now() - start;
        if ((step + 1) * EVALUATIONS / steps == step * EVALUATIONS / steps)
            continue;
        outcome.last = method.losses();
        keep_best(outcome.last.parameters, outcome.best.parameters);
        keep_best(outcome.last.average, outcome.best.average);
    }
    outcome.alphas = method.alphas();
    return outcome;
}
