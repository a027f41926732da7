// Tables in Markdown from the lines of a study, and the data of its picture.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <fstream>
#include <map>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "../shared/json.hpp"
#include "plans.hpp"
#include "record.hpp"

namespace detail {

using Lines = std::vector<Line const*>;
using Measure = double (*)(Line const&);

// A row of the tables: a method, and where its loss is measured.
struct Row {
    std::string method, title;
    Measure last, best;
};

inline double last_here(Line const& line) { return line.last.parameters; }
inline double last_average(Line const& line) { return line.last.average; }
inline double best_here(Line const& line) { return line.best.parameters; }
inline double best_average(Line const& line) { return line.best.average; }

inline std::vector<Row> rows() {
    std::vector<Row> rows;
    for (MethodKind const& method : METHODS) {
        rows.push_back({method.name, method.title, last_here, best_here});
        if (method.name != "schedule_free")  // whose parameters are an average
            rows.push_back({method.name, method.title + ", averages", last_average, best_average});
    }
    return rows;
}

// Values that are not finite are above all others.
inline std::vector<double> sorted(Lines const& lines, Measure measure) {
    std::vector<double> values;
    for (Line const* line : lines)
        values.push_back(std::isfinite(measure(*line)) ? measure(*line) : HUGE_VAL);
    std::sort(values.begin(), values.end());
    return values;
}

inline double median(std::vector<double> const& sorted) {
    std::size_t const n = sorted.size();
    return n == 0 ? NONE : (sorted[(n - 1) / 2] + sorted[n / 2]) / 2.0;
}

// Four digits, or what is not a number.
inline std::string digits(double value) {
    if (!(value > 0.0) || std::isinf(value))
        return std::isnan(value) ? "" : value > 0.0 ? "diverged" : "0";
    char text[32];
    int const after_point = 3 - static_cast<int>(std::floor(std::log10(value)));
    std::snprintf(text, sizeof text, "%.*f", std::clamp(after_point, 0, 6), value);
    return text;
}

// "median (least–most)"
inline std::string spread(Lines const& lines, Measure measure) {
    auto const values = sorted(lines, measure);
    if (values.empty())
        return "";
    return digits(median(values)) + " (" + digits(values.front()) + "–" + digits(values.back()) + ")";
}

inline std::string fraction(double factor) {
    char text[32];
    std::snprintf(text, sizeof text, factor < 1.0 ? "1/%g" : "%g", factor < 1.0 ? 1.0 / factor : factor);
    return text;
}

inline void row(std::vector<std::string> const& cells) {
    for (std::string const& cell : cells)
        std::printf("| %s ", cell.c_str());
    std::printf("|\n");
}

inline void head(std::vector<std::string> const& cells) {
    row(cells);
    row(std::vector<std::string>(cells.size(), "---"));
}

// The lines of one task.
class TaskReport {
  public:
    TaskReport(std::string const& task, std::vector<Line> const& all) {
        std::set<std::size_t> steps;
        for (Line const& line : all)
            if (line.plan.task == task && line.plan.part != "sweep") {
                lines_.push_back(&line);
                steps.insert(line.plan.steps);
            }
        if (steps.size() > 1)
            throw std::runtime_error(task + ": runs of different numbers of steps");
    }

    bool empty() const { return lines_.empty(); }

    // The runs of a method at a factor of AdamW's best rate.
    Lines select(std::string const& method, std::string const& setting, double factor) const {
        Lines found;
        for (Line const* line : lines_)
            if (line->plan.method == method && line->plan.setting == setting && line->plan.factor == factor)
                found.push_back(line);
        return found;
    }

    double rate() const { return lines_.front()->plan.lr / lines_.front()->plan.factor; }

    void print(std::string const& title, std::string const& unit) const {
        std::printf("## %s\n\n%zu steps; loss in %s; median of the seeds (least–most); rates as factors of AdamW's best, "
                    "%g\n\n",
                    title.c_str(), lines_.front()->plan.steps, unit.c_str(), rate());
        print_rates();
        print_summary();
        print_settings();
        print_factors();
    }

  private:
    void print_rates() const {
        std::printf("Loss after the last step\n\n");
        std::vector<std::string> cells{""};
        for (double const factor : FACTORS)
            cells.push_back("× " + fraction(factor));
        head(cells);
        for (Row const& of : rows()) {
            cells = {of.title};
            for (double const factor : FACTORS)
                cells.push_back(spread(select(of.method, "", factor), of.last));
            row(cells);
        }
    }

    void print_summary() const {
        std::printf("\nOver all rates (medians): the best, the worst as a multiple of the best; at AdamW's best rate: the "
                    "best of %zu evaluations, CPU seconds of training\n\n",
                    EVALUATIONS);
        head({"", "best", "at", "worst/best", "best evaluation", "seconds"});
        for (Row const& of : rows()) {
            double best = HUGE_VAL, worst = 0.0, at = 0.0;
            for (double const factor : FACTORS) {
                Lines const lines = select(of.method, "", factor);
                double const loss = median(sorted(lines, of.last));
                if (loss < best)
                    best = loss, at = factor;
                worst = lines.empty() ? worst : std::max(worst, loss);
            }
            Lines const lines = select(of.method, "", 1.0);
            row({of.title, digits(best), "× " + fraction(at), digits(worst / best), spread(lines, of.best),
                 digits(median(sorted(lines, [](Line const& line) { return line.seconds; })))});
        }
    }

    void print_settings() const {
        std::printf("\nSettings of the horizon objective; bound: share of factors that end within 1 %% of a bound\n\n");
        std::vector<std::string> cells{"setting"};
        for (double const factor : SETTINGS_FACTORS)
            for (char const* what : {"", ", averages", ", bound"})
                cells.push_back("× " + fraction(factor) + what);
        head(cells);
        std::vector<std::string> settings{""};
        settings.insert(settings.end(), SETTINGS.begin(), SETTINGS.end());
        for (std::string const& setting : settings) {
            cells = {setting.empty() ? "(preset)" : setting};
            for (double const factor : SETTINGS_FACTORS) {
                Lines const lines = select("horizon", setting, factor);
                cells.push_back(spread(lines, last_here));
                cells.push_back(spread(lines, last_average));
                double bounded = 0.0;
                for (Line const* line : lines)
                    bounded += line->at_bound / static_cast<double>(lines.size());
                char text[32];
                std::snprintf(text, sizeof text, "%.0f %%", 100.0 * bounded);
                cells.push_back(lines.empty() ? "" : text);
            }
            row(cells);
        }
    }

    void print_factors() const {
        std::printf("\nα at the end, medians\n\n");
        std::map<std::string, std::map<double, std::vector<double>>> values;
        std::vector<std::string> cells{"group"};
        for (double const factor : FACTORS) {
            cells.push_back("× " + fraction(factor));
            for (Line const* line : select("horizon", "", factor))
                for (auto const& [group, alpha] : line->alpha)
                    values[group][factor].push_back(alpha);
        }
        head(cells);
        for (auto& [group, by_factor] : values) {
            cells = {group};
            for (double const factor : FACTORS) {
                std::sort(by_factor[factor].begin(), by_factor[factor].end());
                cells.push_back(digits(median(by_factor[factor])));
            }
            row(cells);
        }
        std::printf("\n");
    }

    Lines lines_;
};

// What `metaadamw-plot rates` reads.
inline void write_picture(std::ofstream& to, TaskReport const& task, std::string const& title,
                          std::string const& unit) {
    std::set<std::string> const drawn{"AdamW",     "AdamW, averages", "AdamW, cosine schedule", "Schedule-Free AdamW",
                                      "MetaAdamW", "horizon",         "horizon, averages"};
    for (Row const& of : rows()) {
        if (drawn.count(of.title) == 0)
            continue;
        for (double const factor : FACTORS) {
            std::string values;
            for (Line const* line : task.select(of.method, "", factor))
                values += (values.empty() ? "" : ", ") + json::number(of.last(*line));
            if (!values.empty())
                to << "{\"panel\": " << json::quoted(title) << ", \"unit\": " << json::quoted(unit)
                   << ", \"line\": " << json::quoted(of.title) << ", \"rate\": " << json::number(factor * task.rate())
                   << ", \"values\": [" << values << "]}\n";
        }
    }
}

}  // namespace detail

inline void report(std::string const& file, std::string const& picture) {
    std::vector<Line> lines;
    for (std::string const& line : whole_lines(file))
        lines.push_back(from_line(line));
    if (lines.empty())
        throw std::runtime_error(file + ": cannot be read, or has no lines");
    std::ofstream to;
    if (!picture.empty())
        to.open(picture);
    for (auto const& [task, title, unit] : TITLES) {
        detail::TaskReport const of(task, lines);
        if (of.empty())
            continue;
        of.print(title, unit);
        if (!picture.empty())
            detail::write_picture(to, of, title, unit);
    }
    to.close();
    if (!picture.empty() && !to)
        throw std::runtime_error(picture + ": cannot be written");
}
