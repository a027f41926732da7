// Compares ways to train on three small tasks (series_task.hpp, text_task.hpp): AdamW with a constant rate and with a
// cosine schedule, Schedule-Free AdamW, MetaAdamW with the paper's settings, and the horizon objective (methods.hpp), each
// at rates from 1/8 to 8 times AdamW's best, which a sweep with other seeds finds; and settings of the horizon objective
// (plans.hpp).
//
//     study run FILE.jsonl --etth1 ETTh1.csv [--jobs N] [--steps N] [--only FIELD=VALUE,VALUE…]…
//     study report FILE.jsonl [--picture DATA.jsonl]
//     study check
//
// `run` appends a line a run to the file (record.hpp), and skips runs that the file has. --only restricts part (sweep,
// rates, settings), task (co2, etth1, text), method, setting, factor or seed. `report` prints tables in Markdown, and
// writes what `metaadamw-plot rates` draws. `check` tests this program in a few seconds.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <fstream>
#include <future>
#include <map>
#include <mutex>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "../shared/progress.hpp"
#include "check.hpp"
#include "methods.hpp"
#include "plans.hpp"
#include "record.hpp"
#include "report.hpp"
#include "series_task.hpp"
#include "text_task.hpp"

namespace {

struct Settings {
    std::string file, etth1;
    std::size_t jobs = 1, steps = 0;  // 0: the task's
    Only only;
};

Outcome run(TaskKind const& kind, Plan const& plan) {
    auto const task = kind.start(plan.seed);
    auto const method = start_method({kind, *task, plan.method, plan.setting, plan.lr, plan.seed, plan.steps});
    return train(*method, plan.steps);
}

// The file of lines, and the runs that it has.
class Results {
  public:
    explicit Results(std::string const& file) : file_(file) {
        std::string text;
        for (std::string const& line : whole_lines(file)) {
            lines.push_back(from_line(line));
            done_.insert(lines.back().plan.text());
            text += line + "\n";
        }
        if (std::filesystem::exists(file) && std::filesystem::file_size(file) != text.size())
            std::filesystem::resize_file(file, text.size());
        to_.open(file, std::ios::app);
        check();
    }

    bool has(Plan const& plan) const { return done_.count(plan.text()) > 0; }

    void add(Record const& record) {
        std::string const line = to_line(record);
        std::lock_guard<std::mutex> const lock(mutex_);
        to_ << line << std::flush;
        check();
        lines.push_back(from_line(line));
        done_.insert(record.plan.text());
    }

    std::vector<Line> lines;

  private:
    void check() const {
        if (!to_)
            throw std::runtime_error(file_ + ": cannot be written");
    }

    std::string const file_;
    std::mutex mutex_;
    std::ofstream to_;
    std::set<std::string> done_;
};

// Runs what the file does not have. Each thread takes the next one.
void run_all(std::vector<Plan> const& all, std::map<std::string, TaskKind const*> const& kinds, Results& results,
             std::size_t jobs) {
    std::vector<Plan> plans;
    double work = 0.0;
    for (Plan const& plan : all)
        if (!results.has(plan)) {
            plans.push_back(plan);
            work += kinds.at(plan.task)->seconds;
        }
    std::fprintf(stderr, "%zu runs, %zu of them in the file\n", all.size(), all.size() - plans.size());
    Progress progress(work);
    std::atomic<std::size_t> next{0};
    auto const take = [&] {
        try {
            for (std::size_t i = next++; i < plans.size(); i = next++) {
                TaskKind const& kind = *kinds.at(plans[i].task);
                results.add({plans[i], run(kind, plans[i])});
                progress.advance(kind.seconds, plans[i].text().c_str());
            }
        } catch (...) {
            next = plans.size();
            throw;
        }
    };
    std::vector<std::future<void>> threads;
    for (std::size_t job = 0; job < std::min(jobs, plans.size()); job++)
        threads.push_back(std::async(std::launch::async, take));
    for (auto& thread : threads)
        thread.get();
}

void study(Settings const& settings) {
    std::vector<TaskKind> tasks;
    if (settings.only.allows("task", "co2"))
        tasks.push_back(co2_kind());
    if (settings.only.allows("task", "etth1"))
        tasks.push_back(etth1_kind(settings.etth1));
    if (settings.only.allows("task", "text"))
        tasks.push_back(text_kind());
    std::map<std::string, TaskKind const*> kinds;
    for (TaskKind& task : tasks) {
        if (settings.steps > 0)
            task.steps = settings.steps;
        kinds[task.name] = &task;
    }
    Results results(settings.file);

    std::vector<Plan> sweeps;
    for (TaskKind const& task : tasks)
        for (Plan const& plan : sweep(task))
            sweeps.push_back(plan);
    run_all(sweeps, kinds, results, settings.jobs);
    std::map<std::string, double> rates;
    for (TaskKind const& task : tasks) {
        rates[task.name] = best_rate(task, results.lines);
        std::fprintf(stderr, "%s: AdamW's best rate is %g\n", task.name.c_str(), rates[task.name]);
    }
    std::vector<Plan> plans;
    for (Plan const& plan : comparison(tasks, rates))
        if (settings.only.allows(plan))
            plans.push_back(plan);
    run_all(plans, kinds, results, settings.jobs);
}

[[noreturn]] void usage() {
    std::fprintf(stderr, "usage: study run FILE.jsonl --etth1 ETTh1.csv [--jobs N] [--steps N]\n"
                         "                 [--only FIELD=VALUE,VALUE…]…\n"
                         "       study report FILE.jsonl [--picture DATA.jsonl]\n"
                         "       study check\n");
    std::exit(EXIT_FAILURE);
}

std::size_t count(std::string const& text) {
    char* end = nullptr;
    double const number = std::strtod(text.c_str(), &end);
    if (text.empty() || *end != '\0' || !(number >= 1.0 && number <= 1e6) || number != std::floor(number))
        usage();
    return static_cast<std::size_t>(number);
}

Settings parse(std::vector<std::string> const& arguments) {
    Settings settings;
    if (arguments.size() % 2 != 0)
        usage();
    settings.file = arguments[1];
    for (std::size_t i = 2; i < arguments.size(); i += 2) {
        std::string const &name = arguments[i], &value = arguments[i + 1];
        if (name == "--etth1")
            settings.etth1 = value;
        else if (name == "--jobs")
            settings.jobs = count(value);
        else if (name == "--steps")
            settings.steps = count(value);
        else if (name == "--only")
            settings.only.add(value);
        else
            usage();
    }
    return settings;
}

}  // namespace

int main(int argc, char** argv) {
    std::vector<std::string> const arguments(argv + 1, argv + argc);
    std::string const mode = arguments.empty() ? "" : arguments[0];
    try {
        if (mode == "run" && arguments.size() >= 2)
            study(parse(arguments));
        else if (mode == "report" && arguments.size() == 2)
            report(arguments[1], "");
        else if (mode == "report" && arguments.size() == 4 && arguments[2] == "--picture")
            report(arguments[1], arguments[3]);
        else if (mode == "check" && arguments.size() == 1)
            check();
        else
            usage();
    } catch (std::exception const& error) {  // metaadamw::Error among them
        std::fprintf(stderr, "study: %s\n", error.what());
        return EXIT_FAILURE;
    }
}
