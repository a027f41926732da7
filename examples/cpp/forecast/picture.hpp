// Four diagrams in one SVG file: losses above, factors below. Lines differ by dashes and marks, not by colour alone.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

// A value for each epoch.
struct Line {
    std::string name;
    std::vector<double> values;
};

class Picture {
  public:
    explicit Picture(std::string const& title) {
        text(WIDTH / 2, 30, title, "middle", 17);
        // Of the losses; curves may need every corner of their diagrams.
        out("<path d=\"M215 53h40\" fill=\"none\" %s/>\n<path d=\"M355 53h40\" fill=\"none\" %s/>\n", ADAMW, META);
        text(263, 58, "AdamW", "start", 13);
        text(403, 58, "MetaAdamW", "start", 13);
        text(520, 58, "bold: mean of the seeds; thin: each seed", "start", 13);
    }

    // One thin line a run and one bold line for their mean, of two optimizers.
    void losses(std::string const& title, std::string const& unit, std::vector<std::vector<double>> const& adamw,
                std::vector<std::vector<double>> const& meta) {
        std::vector<double> all;
        for (auto const* runs : {&adamw, &meta})
            for (auto const& run : *runs)
                all.insert(all.end(), run.begin(), run.end());
        Axes const axes = panel(title, unit, all, adamw.front().size());
        for (auto const& run : adamw)
            path(axes, run, "stroke=\"#d55e00\" stroke-width=\"0.8\" stroke-opacity=\"0.35\" stroke-dasharray=\"5 3\"");
        for (auto const& run : meta)
            path(axes, run, "stroke=\"#00436b\" stroke-width=\"0.8\" stroke-opacity=\"0.35\"");
        path(axes, mean(adamw), ADAMW);
        path(axes, mean(meta), META);
    }

    // One line a modulation group; the line at 1 is AdamW.
    void factors(std::string const& title, std::string const& unit, std::vector<Line> const& groups) {
        std::vector<double> all{1.0};
        for (Line const& group : groups)
            all.insert(all.end(), group.values.begin(), group.values.end());
        Axes const axes = panel(title, unit, all, groups.front().values.size());
        out("<path d=\"M%.1f %.1fh%.1f\" %s/>\n", axes.left, axes.y(1.0), axes.width, ONE);
        for (std::size_t g = 0; g < groups.size(); g++) {
            path(axes, groups[g].values, stroke(g));
            // Marks stand at different epochs, so that lines close to each other stay apart.
            std::size_t const n = groups[g].values.size(), apart = std::max<std::size_t>(1, n / 6);
            for (std::size_t e = apart * (g + 1) / (groups.size() + 1); e < n; e += apart)
                mark(axes.x(e + 1), axes.y(groups[g].values[e]), g);
        }
        if (panels_ != 4)
            return;
        auto const column = [](std::size_t number) { return 85 + 245.0 * static_cast<double>(number); };
        for (std::size_t g = 0; g < groups.size(); g++) {  // below both
            double const x = column(g / 2), y = 756 + 24.0 * static_cast<double>(g % 2);
            out("<path d=\"M%.1f %.1fh40\" fill=\"none\" %s/>\n", x, y, stroke(g).c_str());
            mark(x + 20, y, g);
            text(x + 50, y + 5, groups[g].name, "start", 13);
        }
        double const x = column((groups.size() + 1) / 2);
        out("<path d=\"M%.1f 756h40\" %s/>\n", x, ONE);
        text(x + 50, 761, "1 = AdamW's", "start", 13);
    }

    void save(std::string const& file) const {
        std::ofstream to(file);
        to << "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 1000 806\" width=\"1000\" height=\"806\" "
              "font-family=\"Helvetica, Arial, DejaVu Sans, sans-serif\">\n"
              "<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
           << body_ << "</svg>\n";
        if (!to.flush())
            throw std::runtime_error(file + ": cannot be written");
    }

  private:
    static constexpr double WIDTH = 1000;
    static constexpr char const* ADAMW = "stroke=\"#d55e00\" stroke-width=\"2.4\" stroke-dasharray=\"7 4\"";
    static constexpr char const* META = "stroke=\"#00436b\" stroke-width=\"2.4\"";
    static constexpr char const* ONE = "stroke=\"#000\" stroke-width=\"1.2\" stroke-dasharray=\"1.5 3\"";

    struct Axes {
        double left, top, width, height, low, high;
        std::size_t epochs;

        double x(std::size_t epoch) const {
            return left + width * static_cast<double>(epoch) / static_cast<double>(epochs);
        }
        double y(double value) const { return top + height * (high - value) / (high - low); }
    };

    template <class... Arguments>
    void out(char const* format, Arguments... arguments) {
        char buffer[512];
        std::snprintf(buffer, sizeof buffer, format, arguments...);
        body_ += buffer;
    }

    void text(double x, double y, std::string const& content, char const* anchor, int size) {
        std::string safe;
        for (char const c : content)
            safe += c == '&' ? "&amp;" : c == '<' ? "&lt;" : c == '>' ? "&gt;" : std::string(1, c);
        out("<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\" font-size=\"%d\">", x, y, anchor, size);
        body_ += safe + "</text>\n";
    }

    // 1, 2 or 5 times a power of ten: about `wanted` steps in `length`.
    static double tick(double length, double wanted) {
        double const raw = length / wanted, power = std::pow(10.0, std::floor(std::log10(raw)));
        for (double const factor : {1.0, 2.0, 5.0})
            if (raw <= factor * power)
                return factor * power;
        return 10.0 * power;
    }

    // Frame, axes with numbers and names; the next free place of four.
    Axes panel(std::string const& title, std::string const& unit, std::vector<double> const& values,
               std::size_t epochs) {
        auto const [least, most] = std::minmax_element(values.begin(), values.end());
        double const range = std::max(*most - *least, 1e-9), step = tick(range, 5);
        double const low = std::floor((*least - 0.02 * range) / step) * step;
        double const high = std::ceil((*most + 0.02 * range) / step) * step;
        Axes const axes{panels_ % 2 ? 580.0 : 85.0, panels_ / 2 ? 436.0 : 96.0, 395, 250, low, high, epochs};
        panels_++;

        text(axes.left, axes.top - 12, title, "start", 15);
        for (std::size_t n = 0; low + static_cast<double>(n) * step <= high + 0.5 * step; n++) {
            double const value = low + static_cast<double>(n) * step, y = axes.y(value);
            out("<path d=\"M%.1f %.1fh%.1f\" stroke=\"#ddd\"/>\n", axes.left, y, axes.width);
            char number[32];
            int const digits = std::max(0, static_cast<int>(-std::floor(std::log10(step) + 1e-9)));
            std::snprintf(number, sizeof number, "%.*f", digits, value);
            text(axes.left - 7, y + 4, number, "end", 12);
        }
        auto const along = static_cast<std::size_t>(std::max(1.0, tick(static_cast<double>(epochs), 6)));
        for (std::size_t epoch = 0; epoch <= epochs; epoch += along) {
            out("<path d=\"M%.1f %.1fv5\" stroke=\"#000\"/>\n", axes.x(epoch), axes.top + axes.height);
            text(axes.x(epoch), axes.top + axes.height + 19, std::to_string(epoch), "middle", 12);
        }
        out("<path d=\"M%.1f %.1fv%.1fh%.1f\" fill=\"none\" stroke=\"#000\"/>\n", axes.left, axes.top, axes.height,
            axes.width);
        text(axes.left + axes.width / 2, axes.top + axes.height + 38, "epoch", "middle", 13);
        out("<g transform=\"translate(%.1f %.1f) rotate(-90)\">", axes.left - 58, axes.top + axes.height / 2);
        text(0, 0, unit, "middle", 13);
        body_ += "</g>\n";
        return axes;
    }

    static std::vector<double> mean(std::vector<std::vector<double>> const& runs) {
        std::vector<double> sum(runs.front().size());
        for (auto const& run : runs)
            for (std::size_t e = 0; e < sum.size(); e++)
                sum[e] += run[e] / static_cast<double>(runs.size());
        return sum;
    }

    void path(Axes const& axes, std::vector<double> const& values, std::string const& look) {
        for (std::size_t e = 0; e < values.size(); e++)
            out(e == 0 ? "<path d=\"M%.1f %.1f" : "L%.1f %.1f", axes.x(e + 1), axes.y(values[e]));
        body_ += "\" fill=\"none\" " + look + "/>\n";
    }

    // Groups come in pairs, weight and bias of the same depth: solid and dashed, with the same colour and mark.
    static char const* colour(std::size_t group) {
        static char const* const colours[] = {"#00436b", "#c04a00", "#007a5a", "#8a3a76"};
        return colours[group / 2 % 4];
    }

    static std::string stroke(std::size_t group) {
        return std::string("stroke-width=\"1.6\" stroke=\"") + colour(group) +
               (group % 2 ? "\" stroke-dasharray=\"6 3\"" : "\"");
    }

    // Full for weights, hollow for biases: circle, square, triangle, diamond by depth.
    void mark(double x, double y, std::size_t group) {
        char const *line = colour(group), *fill = group % 2 ? "#fff" : line;
        switch (group / 2 % 4) {
        case 0: out("<circle cx=\"%.1f\" cy=\"%.1f\" r=\"4.2\" ", x, y); break;
        case 1: out("<rect x=\"%.1f\" y=\"%.1f\" width=\"8\" height=\"8\" ", x - 4, y - 4); break;
        case 2: out("<path d=\"M%.1f %.1fl5 9h-10z\" ", x, y - 5.5); break;
        default: out("<path d=\"M%.1f %.1fl5 5l-5 5l-5 -5z\" ", x, y - 5); break;
        }
        out("stroke=\"%s\" stroke-width=\"1.4\" fill=\"%s\"/>\n", line, fill);
    }

    std::string body_;
    int panels_ = 0;
};
