// A series, cut into windows: the repository's CO₂ figures, or a column of a CSV file.
#pragma once

#include <array>
#include <cmath>
#include <cstddef>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string>
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

// Percentages of the windows, in the order of time.
struct Split {
    std::size_t train = 70;     // for all optimizers; also B1 and B2 of the meta-updates
    std::size_t held_out = 10;  // the validation batches of the meta-updates; AdamW does not use them
    // The rest is for validation: no optimizer uses it; printed and drawn losses are measured there.
};

struct Data {
    std::vector<Sample> windows;
    std::vector<std::size_t> train, held_out, validation;
    double squared_unit;  // one unit of the network's squared error in the series' own unit, squared
    double persistence;   // mean squared error of "as the last value", in the series' own unit, squared

    // Every window minus its last value (a rising series has changes that hardly rise), divided by the training
    // windows' root mean square. The mean stays: a prediction of 0 is "as the last value".
    Data(Series const& series, std::size_t least, Split split = {}) {
        std::size_t const count = series.values.size() < WINDOW + 1 ? 0 : series.values.size() - WINDOW;
        std::size_t const last = count * split.train / 100, last_held_out = last + count * split.held_out / 100;
        for (std::size_t w = 0; w < count; w++)
            (w < last ? train : w < last_held_out ? held_out : validation).push_back(w);
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
