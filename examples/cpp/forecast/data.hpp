// A series, cut into windows: the repository's CO₂ figures, or a column of a CSV file.
#pragma once

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "../../data/co2_weekly.h"

constexpr std::size_t WINDOW = 96;  // values that the network sees

struct Sample {
    std::array<float, WINDOW> past;  // oldest first
    float next;                      // what is to be predicted
};

// Indices of windows, stored elsewhere.
struct Numbers {
    std::size_t const *first, *last;

    std::size_t const* begin() const { return first; }
    std::size_t const* end() const { return last; }
    std::size_t size() const { return static_cast<std::size_t>(last - first); }
};

// splitmix64: small, and the same numbers on every platform.
class Random {
  public:
    explicit Random(std::uint64_t seed) : state_(seed) {}

    // For one purpose in one epoch: its numbers depend only on the seed and these, so a run can be resumed at any
    // epoch.
    Random(std::uint64_t seed, std::uint64_t epoch, std::uint64_t purpose)
        : state_(Random(Random(seed).bits() + epoch).bits() + purpose) {}

    std::uint64_t bits() {
        std::uint64_t z = state_ += 0x9e3779b97f4a7c15u;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        return z ^ (z >> 31);
    }
    double unit() { return static_cast<double>(bits() >> 11) * 0x1p-53; }

    // Puts `count` of the numbers, drawn at random, in front.
    void draw(std::vector<std::size_t>& numbers, std::size_t count) {
        for (std::size_t i = 0; i < count; i++)
            std::swap(numbers[i], numbers[i + static_cast<std::size_t>(bits() % (numbers.size() - i))]);
    }

  private:
    std::uint64_t state_;
};

struct Series {
    std::string name, unit;
    std::vector<float> values;
};

inline Series co2() {
    return {"CO₂ at Mauna Loa, weekly", "ppm", {std::begin(CO2_WEEKLY), std::end(CO2_WEEKLY)}};
}

// The column with this name in the first line. Commas within quotes are not understood.
inline Series csv(std::string const& file, std::string const& column) {
    std::ifstream in(file);
    std::string line, cell;
    if (!std::getline(in, line))
        throw std::runtime_error(file + ": cannot be read, or is empty");
    auto const cells = [](std::string text) {
        if (!text.empty() && text.back() == '\r')
            text.pop_back();
        return std::istringstream(text);
    };
    std::size_t wanted = 0;
    auto header = cells(line);
    while (std::getline(header, cell, ',') && cell != column)
        wanted++;
    if (cell != column)
        throw std::runtime_error(file + ": no column '" + column + "' in: " + line);
    Series series{column, column + "'s unit", {}};
    for (std::size_t number = 2; std::getline(in, line); number++) {
        auto row = cells(line);
        for (std::size_t i = 0; i <= wanted && std::getline(row, cell, ','); i++) {
            if (i < wanted)
                continue;
            char* end = nullptr;
            series.values.push_back(std::strtof(cell.c_str(), &end));
            if (end == cell.c_str() || !std::isfinite(series.values.back()))
                throw std::runtime_error(file + ":" + std::to_string(number) + ": not a number: '" + cell + "'");
        }
        if (series.values.size() != number - 1)
            throw std::runtime_error(file + ":" + std::to_string(number) + ": too few columns");
    }
    return series;
}

// The windows, in the order of time:
//     first 70 %  training: both optimizers; also B1 and B2 of the meta-updates
//     next 10 %   held out: the validation batches of the meta-updates; AdamW does not use them
//     last 20 %   validation: no optimizer uses it; printed and drawn losses are measured here
struct Data {
    std::vector<Sample> windows;
    std::vector<std::size_t> train, held_out, validation;
    double squared_unit;  // one unit of the network's squared error in the series' own unit, squared
    double persistence;   // mean squared error of "as the last value", in the series' own unit, squared

    // Every window minus its last value (a rising series has changes that hardly rise), divided by the training
    // windows' root mean square. The mean stays: a prediction of 0 is "as the last value".
    Data(Series const& series, std::size_t least) {
        std::size_t const count = series.values.size() < WINDOW + 1 ? 0 : series.values.size() - WINDOW;
        for (std::size_t w = 0; w < count; w++)
            (w < count * 7 / 10 ? train : w < count * 7 / 10 + count / 10 ? held_out : validation).push_back(w);
        if (train.size() < 2 * least || held_out.size() < least)
            throw std::runtime_error("the series is too short: " + std::to_string(series.values.size()) + " values");
        double past = 0.0, next = 0.0;
        for (std::size_t w = 0; w < count; w++) {
            float const* values = &series.values[w];
            Sample sample{};
            for (std::size_t i = 0; i < WINDOW; i++)
                sample.past[i] = values[i] - values[WINDOW - 1];
            sample.next = values[WINDOW] - values[WINDOW - 1];
            if (w < train.size()) {
                for (float const value : sample.past)
                    past += static_cast<double>(value) * static_cast<double>(value);
                next += static_cast<double>(sample.next) * static_cast<double>(sample.next);
            }
            windows.push_back(sample);
        }
        past /= static_cast<double>(WINDOW * train.size());
        next /= static_cast<double>(train.size());
        if (!(past > 0.0 && next > 0.0))
            throw std::runtime_error("the series never changes");
        for (Sample& sample : windows) {
            for (float& value : sample.past)
                value /= static_cast<float>(std::sqrt(past));
            sample.next /= static_cast<float>(std::sqrt(next));
        }
        squared_unit = next;
        persistence = 0.0;
        for (std::size_t const w : validation)
            persistence += next * std::pow(windows[w].next, 2.0) / static_cast<double>(validation.size());
    }
};
