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

// How a series becomes windows.
struct Preparation {
    // Percentages of the windows, in the order of time. The rest is for validation: no optimizer uses it; printed and drawn
    // losses are measured there.
    std::size_t train = 70;     // for all optimizers; also B1 and B2 of the meta-updates
    std::size_t held_out = 10;  // the validation batches of the meta-updates; AdamW does not use them
    // What is subtracted from a window: its last value (a rising series has changes that hardly rise; a prediction of 0 is
    // "as the last value"), or the mean of all values for training.
    bool differences = true;
};

struct Data {
    std::vector<Sample> windows;
    std::vector<std::size_t> train, held_out, validation;
    double squared_unit;       // one unit of the network's squared error in the series' own unit, squared
    double persistence = 0.0;  // mean squared error of "as the last value", in the series' own unit, squared

    // The windows, divided by the training windows' root mean square.
    Data(Series const& series, std::size_t least, Preparation const& how = {}) {
        std::size_t const count = series.values.size() < WINDOW + 1 ? 0 : series.values.size() - WINDOW;
        std::size_t const last = count * how.train / 100, last_held_out = last + count * how.held_out / 100;
        for (std::size_t w = 0; w < count; w++)
            (w < last ? train : w < last_held_out ? held_out : validation).push_back(w);
        if (train.size() < 2 * least || held_out.size() < least)
            throw std::runtime_error("the series is too short: " + std::to_string(series.values.size()) + " values");
        double mean = 0.0, past = 0.0, next = 0.0;
        for (std::size_t i = 0; i < train.size() + WINDOW; i++)
            mean += static_cast<double>(series.values[i]) / static_cast<double>(train.size() + WINDOW);
        for (std::size_t w = 0; w < count; w++) {
            float const* values = &series.values[w];
            float const base = how.differences ? values[WINDOW - 1] : static_cast<float>(mean);
            Sample sample{};
            for (std::size_t i = 0; i < WINDOW; i++)
                sample.past[i] = values[i] - base;
            sample.next = values[WINDOW] - base;
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
        for (std::size_t const w : validation) {
            float const* values = &series.values[w];
            persistence += std::pow(values[WINDOW] - values[WINDOW - 1], 2.0) / static_cast<double>(validation.size());
        }
    }
};
