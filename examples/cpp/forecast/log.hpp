// JSON lines with losses and with the optimizers' dumps, and the program that draws them (examples/plot.rs).
#pragma once

#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstddef>
#include <cstring>
#include <fstream>
#include <mutex>
#include <stdexcept>
#include <string>

#include "../shared/json.hpp"
#include "run.hpp"

class Log {
  public:
    // `file` may be empty. `keep`: collect the lines of each run anyway, to be saved with it.
    Log(std::string const& file, bool keep, std::string const& series, std::string const& unit)
        : file_(file), keep_(keep) {
        about_ = ", \"series\": " + json::quoted(series) + ", \"unit\": " + json::quoted(unit + "²");
        if (file.empty())
            return;
        to_.open(file);
        check();
    }

    bool wanted() const { return keep_ || !file_.empty(); }

    // Any thread: the state within an epoch.
    void state(Run& run, std::size_t epoch, std::string const& dump) { line(run, epoch, "", dump); }

    // Any thread: after an epoch.
    void epoch(Run& run, std::string const& dump) {
        line(run, run.epochs(),
             ", \"train_loss\": " + json::number(run.train.back()) +
                 ", \"validation_loss\": " + json::number(run.validation.back()),
             dump);
    }

    // Any thread: whole lines, which thus never mix.
    void put(std::string const& lines) {
        if (file_.empty() || lines.empty())
            return;
        std::lock_guard<std::mutex> const lock(mutex_);
        to_ << lines << std::flush;
        check();
    }

  private:
    void line(Run& run, std::size_t epoch, std::string const& losses, std::string const& dump) {
        std::string const line = "{\"run\": " + json::quoted(run.name) + ", \"seed\": " + std::to_string(run.seed) +
                                 ", \"epoch\": " + std::to_string(epoch) + about_ + losses + ", \"state\": " +
                                 one_line(dump) + "}\n";
        if (keep_)
            run.log += line;
        put(line);
    }

    void check() const {
        if (!to_)
            throw std::runtime_error(file_ + ": cannot be written");
    }

    // A dump comes with line breaks and indents; within strings JSON has no line breaks.
    static std::string one_line(std::string const& dump) {
        std::string line;
        for (std::size_t i = 0; i < dump.size(); i++) {
            if (dump[i] != '\n')
                line += dump[i];
            else
                while (i + 1 < dump.size() && dump[i + 1] == ' ')
                    i++;
        }
        return line;
    }

    std::string const file_;
    bool const keep_;
    std::string about_;
    std::mutex mutex_;
    std::ofstream to_;
};

// Where CMake has built the program that draws.
inline std::string plot_tool() {
    std::string const tool = PLOT_TOOL;
    if (access(tool.c_str(), X_OK) != 0)
        throw std::runtime_error("the program that draws is missing: " + tool + " (cargo build --release --bin " +
                                 "metaadamw-plot makes it; or use --log FILE alone)");
    return tool;
}

// Draws the log. The tool prints its own errors.
inline void plot(std::string log, std::string svg) {
    std::string tool = plot_tool();
    char* const arguments[] = {&tool[0], &log[0], &svg[0], nullptr};
    pid_t child = 0;
    int status = posix_spawn(&child, tool.c_str(), nullptr, nullptr, arguments, environ);
    if (status != 0)
        throw std::runtime_error(tool + ": " + std::strerror(status));
    if (waitpid(child, &status, 0) != child || status != 0)
        throw std::runtime_error(tool + " could not draw " + svg);
}
