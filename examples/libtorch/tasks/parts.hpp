// Which of a data set's examples are in which part.
#pragma once

#include "task.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace tasks {

class Parts {
  public:
    using Examples = std::vector<std::size_t>;

    // Published in three: so many examples for training, validation and tests, numbered one after the other. Disjoint
    // parts: the first half of the validation data is meta, the second is selection.
    static Parts of_three(Setup const& setup, std::size_t least, std::size_t train, std::size_t valid,
                          std::size_t test) {
        auto const validation = range(train, valid);
        auto const middle = validation.begin() + static_cast<std::ptrdiff_t>(valid / 2);
        if (setup.disjoint)
            return {setup,
                    least,
                    range(0, train),
                    {validation.begin(), middle},
                    {middle, validation.end()},
                    range(train + valid, test)};
        return {setup, least, range(0, train), validation, validation, validation};
    }

    // Published in two. Disjoint parts: of the training data, shuffled, 10 % are meta and 10 % selection.
    static Parts of_two(Setup const& setup, std::size_t least, std::size_t train, std::size_t test) {
        auto const tests = range(train, test);
        if (!setup.disjoint)
            return {setup, least, range(0, train), tests, tests, tests};
        auto const all = shuffled(range(0, train));
        auto const tenth = static_cast<std::ptrdiff_t>(train / 10);
        return {setup,
                least,
                {all.begin(), all.end() - 2 * tenth},
                {all.end() - 2 * tenth, all.end() - tenth},
                {all.end() - tenth, all.end()},
                tests};
    }

    Examples const& operator[](Part part) const { return parts_[static_cast<std::size_t>(part)]; }

    // All that is in a part, in ascending order; from here on the parts number these only.
    Examples renumber() {
        Examples kept;
        for (auto const& part : parts_)
            kept.insert(kept.end(), part.begin(), part.end());
        std::sort(kept.begin(), kept.end());
        kept.erase(std::unique(kept.begin(), kept.end()), kept.end());
        for (auto& part : parts_)
            for (auto& example : part)
                example = static_cast<std::size_t>(std::lower_bound(kept.begin(), kept.end(), example) - kept.begin());
        return kept;
    }

  private:
    Parts(Setup const& setup, std::size_t least, Examples train, Examples meta, Examples selection, Examples test)
        : parts_{std::move(train), std::move(meta), std::move(selection), std::move(test)} {
        if (!(setup.limit > 0.0 && setup.limit <= 1.0))
            throw std::runtime_error("the fraction of the data is " + std::to_string(setup.limit) + ", not in (0, 1]");
        for (auto& part : parts_)
            limit(part, setup.limit, least);
    }

    // A fraction of the examples, but not fewer than `least` if there are so many. Smaller fractions are parts of
    // larger ones.
    static void limit(Examples& part, double fraction, std::size_t least) {
        if (part.empty())
            throw std::runtime_error("there are too few examples for a training, a validation and a test set");
        auto const wanted = static_cast<std::size_t>(std::llround(fraction * static_cast<double>(part.size())));
        auto const size = std::min(part.size(), std::max(wanted, least));
        part = shuffled(std::move(part));
        part.resize(size);
        part.shrink_to_fit();
    }

    static Examples range(std::size_t first, std::size_t count) {
        Examples examples(count);
        std::iota(examples.begin(), examples.end(), first);
        return examples;
    }

    // The same order in each run and with each standard library (std::shuffle's is not).
    static Examples shuffled(Examples examples) {
        std::mt19937_64 random(1);
        for (std::size_t i = examples.size(); i > 1; --i)
            std::swap(examples[i - 1], examples[static_cast<std::size_t>(random() % i)]);
        return examples;
    }

    std::array<Examples, 4> parts_;
};

// A size of a model times the width's factor, as a multiple of `multiple`.
inline std::int64_t scaled(std::int64_t size, double width, std::int64_t multiple = 1) {
    if (!(width > 0.0 && width <= 64.0))
        throw std::runtime_error("the factor of the width is " + std::to_string(width) + ", not in (0, 64]");
    auto const times = std::llround(static_cast<double>(size) * width / static_cast<double>(multiple));
    return multiple * std::max<std::int64_t>(1, times);
}

}  // namespace tasks
