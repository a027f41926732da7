// A run and its results, as a JSON line, and back.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <regex>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "../shared/json.hpp"
#include "method.hpp"

// What is run. `part`: "sweep" (for AdamW's best rate), "rates" (the comparison) or "settings" (of the horizon objective).
struct Plan {
    std::string part, task, method, setting;
    double factor, lr;  // factor: of AdamW's best rate; 0 in the sweep
    std::uint64_t seed;
    std::size_t steps;

    // Two runs with the same text are the same.
    std::string text() const {
        char numbers[96];
        std::snprintf(numbers, sizeof numbers, "%.6g/%llu/%zu", lr, static_cast<unsigned long long>(seed), steps);
        return part + "/" + task + "/" + method + "/" + setting + "/" + numbers;
    }
};

struct Record {
    Plan plan;
    Outcome outcome;
};

inline std::string to_line(Record const& record) {
    auto const& [plan, outcome] = record;
    double bounded = 0.0;
    std::string factors;
    for (Alpha const& alpha : outcome.alphas) {
        bounded += alpha.at_bound ? 1.0 / static_cast<double>(outcome.alphas.size()) : 0.0;
        factors += (factors.empty() ? "" : ", ") + json::quoted(alpha.group) + ": " + json::number(alpha.value);
    }
    auto const text = [](char const* name, std::string const& value) {
        return json::quoted(name) + ": " + json::quoted(value) + ", ";
    };
    auto const number = [](char const* name, double value) {
        return json::quoted(name) + ": " + json::number(value) + ", ";
    };
    return "{" + text("part", plan.part) + text("task", plan.task) + text("method", plan.method) +
           text("setting", plan.setting) + number("factor", plan.factor) + number("lr", plan.lr) +
           number("seed", static_cast<double>(plan.seed)) + number("steps", static_cast<double>(plan.steps)) +
           number("last", outcome.last.parameters) + number("last_average", outcome.last.average) +
           number("best", outcome.best.parameters) + number("best_average", outcome.best.average) +
           number("seconds", outcome.seconds) + number("at_bound", outcome.alphas.empty() ? NONE : bounded) +
           "\"alpha\": {" + factors + "}}\n";
}

// What a line says. `at_bound` is the share of the factors that end at a bound.
struct Line {
    Plan plan;
    Losses last, best;
    double seconds, at_bound;
    std::vector<std::pair<std::string, double>> alpha;
};

inline Line from_line(std::string const& text) {
    // No string of ours has escapes.
    static std::regex const pair("\"([^\"]*)\": (?:\"([^\"]*)\"|([-+.0-9e]+|null))");
    auto const each_pair = [](std::string const& part, auto&& take) {
        for (std::sregex_iterator match(part.begin(), part.end(), pair), end; match != end; ++match)
            take((*match)[1].str(), (*match)[2].str() + (*match)[3].str());
    };
    auto const number = [](std::string const& value) {
        return value == "null" ? NONE : std::strtod(value.c_str(), nullptr);
    };
    std::string const separator = "\"alpha\": {";
    auto const middle = text.find(separator);
    std::map<std::string, std::string> fields;
    each_pair(text.substr(0, middle), [&](auto const& name, auto const& value) { fields[name] = value; });
    auto const field = [&](char const* name) {
        auto const found = fields.find(name);
        if (found == fields.end() || middle == std::string::npos)
            throw std::runtime_error("not a line of this program, without \"" + std::string(name) + "\": " + text);
        return found->second;
    };
    Plan const plan{field("part"),
                    field("task"),
                    field("method"),
                    field("setting"),
                    number(field("factor")),
                    number(field("lr")),
                    static_cast<std::uint64_t>(number(field("seed"))),
                    static_cast<std::size_t>(number(field("steps")))};
    Line line{plan,
              {number(field("last")), number(field("last_average"))},
              {number(field("best")), number(field("best_average"))},
              number(field("seconds")),
              number(field("at_bound")),
              {}};
    each_pair(text.substr(middle + separator.size()), [&](auto const& group, auto const& value) {
        line.alpha.push_back({group, number(value)});
    });
    return line;
}

// The lines of a file; none if it does not exist. A last line that is not whole, after a kill, is left out.
inline std::vector<std::string> whole_lines(std::string const& file) {
    std::ifstream in(file);
    std::vector<std::string> lines;
    for (std::string line; std::getline(in, line) && !in.eof();)
        lines.push_back(line);
    return lines;
}
