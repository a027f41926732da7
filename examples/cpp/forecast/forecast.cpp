// Forecasts a series from the 96 values before, with a small network (../shared/mlp.hpp) that is trained twice by
// libmetaadamw: as plain AdamW (modulation = false) and as MetaAdamW, from the same start and on the same batches, for a
// few seeds. Then it prints the results of both.
//
//     forecast [--csv FILE --column NAME] [--epochs N] [--seeds N] [--lr X] [--interval N]
//              [--log FILE] [--svg FILE] [--save DIR [--every N] [--until N]] [--resume DIR]
//
// --log writes losses and the optimizers' dumps (JSON lines; log.hpp); --svg draws them with examples/plot.rs. --save
// saves every run, --resume continues them (keep.hpp); --until stops a run of --epochs early.
//
// ../shared/windows.hpp says which windows are used for what. No optimizer uses the validation windows; but the best
// epoch is chosen there, and AdamW's default learning rate was, which favors both. So the last epoch's MSE is printed too.
#include <metaadamw.hpp>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <future>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "../shared/mlp.hpp"
#include "../shared/progress.hpp"
#include "../shared/random.hpp"
#include "../shared/windows.hpp"
#include "keep.hpp"
#include "log.hpp"
#include "run.hpp"

namespace {

constexpr std::size_t BATCH = 64;

struct Settings {
    std::string csv, column, log, svg, save, resume;
    std::size_t epochs = 60, seeds = 5;
    std::size_t every = 10, until = 0;  // epochs; 0: all
    double lr = 2e-3;  // AdamW's best of 3e-4, 5e-4, 1e-3, 2e-3, 4e-3 on the CO₂ figures; MetaAdamW is not tuned
    std::size_t interval = 15;  // steps between two meta-updates
};

// ------------------------------------------------------------------------------------- how the library is used ----

metaadamw::Optimizer make_optimizer(Mlp& net, bool modulation, std::uint64_t seed, std::size_t steps_per_epoch,
                                    Settings const& settings) {
    metaadamw::Options options;
    options.modulation = modulation;
    options.seed = seed;
    options.total_steps = settings.epochs * steps_per_epoch;
    options.meta_interval = settings.interval;
    options.meta_warmup = steps_per_epoch;
    options.threads = 1;  // 10,433 parameters are too few for a second thread

    std::vector<metaadamw::Tensor> tensors;
    for (std::size_t l = 0; l < net.layers.size(); l++) {
        auto& layer = net.layers[l];
        auto const name = "layers." + std::to_string(l);
        tensors.push_back({name + ".weight", layer.weight.data(), layer.weight_gradient.data(),
                           {layer.outputs, layer.inputs}});
        tensors.push_back({name + ".bias", layer.bias.data(), layer.bias_gradient.data(), {layer.outputs}});
    }
    for (auto& tensor : tensors)
        tensor.layer_kind(metaadamw::LayerKind::linear);  // "layers.0" does not say it

    metaadamw::Optimizer optimizer{options};
    optimizer.add_param_group(metaadamw::ParamGroup{}.lr(settings.lr), tensors);
    return optimizer;
}

// Answers the library's requests: the loss, and often the gradient, at the parameters now in the network's buffers. A
// request with `replay` wants the batch of an earlier request; here each kind has only one batch.
metaadamw::MetaResult meta_update(metaadamw::Optimizer& optimizer, Mlp& net, Data const& data, Random& random) {
    auto train = data.train, held_out = data.held_out;
    random.draw(train, 2 * BATCH);  // one draw, so that the two training batches are disjoint
    random.draw(held_out, BATCH);
    return optimizer.meta_update([&](metaadamw::Request const& request) {
        std::size_t const* first = request.batch() == metaadamw::Batch::train_1   ? &train[0]
                                   : request.batch() == metaadamw::Batch::train_2 ? &train[BATCH]
                                                                                  : &held_out[0];
        Numbers const batch{first, first + BATCH};
        return request.wants_gradient() ? net.backward(data.windows, batch) : net.loss(data.windows, batch);
    });
}

// The factors change with every step; their mean over an epoch is stored.
void note_factors(Run& run, std::vector<metaadamw::Factors> const& factors, std::size_t step, std::size_t steps) {
    run.alpha.resize(factors.size());
    run.beta.resize(factors.size());
    for (std::size_t g = 0; g < factors.size(); g++) {
        if (run.groups.size() == g)
            run.groups.push_back(factors[g].group);
        if (step == 0) {
            run.alpha[g].push_back(0.0);
            run.beta[g].push_back(0.0);
        }
        run.alpha[g].back() += factors[g].alpha / static_cast<double>(steps);
        run.beta[g].back() += factors[g].beta / static_cast<double>(steps);
    }
}

// Shared by all runs.
struct Task {
    Settings settings;
    Series series;
    Data data;
    Log log;
    Keep keep;
    Progress progress;
};

Run train(bool modulation, std::uint64_t seed, Task& task) {
    Settings const& settings = task.settings;
    Data const& data = task.data;
    std::size_t const steps = data.train.size() / BATCH;  // a last, smaller batch is left out
    char const* const name = modulation ? "MetaAdamW" : "AdamW";
    Mlp net(seed);
    auto optimizer = make_optimizer(net, modulation, seed, steps, settings);
    auto const all = [](std::vector<std::size_t> const& n) { return Numbers{n.data(), n.data() + n.size()}; };

    Run run;
    run.name = name;
    run.seed = seed;
    task.keep.resume(run, net, optimizer);  // a new run, if none was saved
    if (run.epochs() > settings.until)
        throw std::runtime_error(settings.resume + ": has " + std::to_string(run.epochs()) + " epochs of " + name +
                                 ", seed " + std::to_string(seed) + ", more than are wanted");
    task.log.put(run.log);
    task.progress.skip(static_cast<double>(run.epochs()));

    for (std::size_t epoch = run.epochs() + 1; epoch <= settings.until; epoch++) {
        // Both optimizers get the same batches, and a resumed run those of the uninterrupted one.
        Random order_random(seed, epoch, 0), meta_random(seed, epoch, 1);
        auto order = data.train;
        order_random.draw(order, order.size());
        double loss = 0.0;
        for (std::size_t step = 0; step < steps; step++) {
            double const start = cpu_seconds_now();
            std::size_t const* first = &order[step * BATCH];
            loss += net.backward(data.windows, {first, first + BATCH}) / static_cast<double>(steps);
            optimizer.step();
            note_factors(run, optimizer.factors(), step, steps);
            if (optimizer.meta_due())
                run.meta_updates = meta_update(optimizer, net, data, meta_random).updates;
            run.seconds += cpu_seconds_now() - start;
            // For the picture the steps of one seed are enough.
            if (task.log.wanted() && modulation && seed == 1 && step + 1 < steps)
                task.log.state(run, epoch, optimizer.dump_state());
        }

        run.train.push_back(data.squared_unit * loss);
        run.validation.push_back(data.squared_unit * net.loss(data.windows, all(data.validation)));
        if (task.log.wanted())
            task.log.epoch(run, optimizer.dump_state());
        char text[128];
        std::snprintf(text, sizeof text, "seed %llu, %-9s epoch %3zu  MSE: train %.4f, validation %.4f",
                      static_cast<unsigned long long>(seed), name, epoch, run.train.back(), run.validation.back());
        task.progress.advance(1.0, text);
        if (epoch % settings.every == 0 || epoch == settings.until)
            task.keep.save(run, net, optimizer);
    }
    return run;
}

// ------------------------------------------------------------------------------------------------------ results ----

struct Spread {
    double mean = 0.0, deviation = 0.0;
};

Spread spread(std::vector<double> const& values) {
    auto const n = static_cast<double>(values.size());
    Spread s{std::accumulate(values.begin(), values.end(), 0.0) / n, 0.0};
    for (double const value : values)
        s.deviation += (value - s.mean) * (value - s.mean);
    s.deviation = n > 1.0 ? std::sqrt(s.deviation / (n - 1.0)) : 0.0;
    return s;
}

template <class Measure>
std::vector<double> each(std::vector<Run> const& runs, Measure measure) {
    std::vector<double> values;
    for (Run const& run : runs)
        values.push_back(measure(run));
    return values;
}

void print_table(std::vector<Run> const& adamw, std::vector<Run> const& meta) {
    std::printf("%-9s  %19s  %19s  %15s  %22s  %12s\n", "", "best validation MSE", "last validation MSE",
                "CPU s per epoch", "epochs to AdamW's best", "meta-updates");
    for (auto const* runs : {&adamw, &meta}) {
        // The first epoch that is as good as AdamW's best one of the same seed; some runs have none.
        std::vector<double> reached;
        for (std::size_t s = 0; s < runs->size(); s++) {
            auto const& curve = (*runs)[s].validation;
            auto const found = std::find_if(curve.begin(), curve.end(), [&](double v) { return v <= adamw[s].best(); });
            if (found != curve.end())
                reached.push_back(static_cast<double>(found - curve.begin()) + 1.0);
        }
        auto const epochs = static_cast<double>((*runs)[0].validation.size());
        auto const best = spread(each(*runs, [](Run const& run) { return run.best(); }));
        auto const last = spread(each(*runs, [](Run const& run) { return run.last(); }));
        auto const seconds = spread(each(*runs, [&](Run const& run) { return run.seconds / epochs; }));
        char to_best[32] = "not reached";
        if (!reached.empty())
            std::snprintf(to_best, sizeof to_best, "%.1f (%zu of %zu seeds)", spread(reached).mean, reached.size(),
                          runs->size());
        std::printf("%-9s  %10.4f ± %.4f  %10.4f ± %.4f  %15.4f  %22s  %12llu\n",
                    runs == &adamw ? "AdamW" : "MetaAdamW", best.mean, best.deviation, last.mean, last.deviation,
                    seconds.mean, to_best, static_cast<unsigned long long>((*runs)[0].meta_updates));
    }
    std::printf("\nMetaAdamW − AdamW, best validation MSE, seed by seed:");
    for (std::size_t s = 0; s < adamw.size(); s++)
        std::printf(" %+.4f", meta[s].best() - adamw[s].best());
    std::printf("\n                    last validation MSE, seed by seed:");
    for (std::size_t s = 0; s < adamw.size(); s++)
        std::printf(" %+.4f", meta[s].last() - adamw[s].last());
}

void print_factors(Run const& run) {
    std::printf("\n\nMetaAdamW's factors, seed %llu, means over an epoch\n\n%-24s  %15s  %15s\n",
                static_cast<unsigned long long>(run.seed), "", "alpha (lr)", "beta (decay)");
    std::printf("%-24s  %7s %7s  %7s %7s\n", "group", "epoch 1", "last", "epoch 1", "last");
    for (std::size_t g = 0; g < run.groups.size(); g++)
        std::printf("%-24s  %7.4f %7.4f  %7.4f %7.4f\n", run.groups[g].c_str(), run.alpha[g].front(),
                    run.alpha[g].back(), run.beta[g].front(), run.beta[g].back());
}

// ----------------------------------------------------------------------------------------------------- arguments ----

[[noreturn]] void usage() {
    std::fprintf(stderr, "usage: forecast [--csv FILE --column NAME] [--epochs N] [--seeds N] [--lr X] [--interval N]"
                         "\n                [--log FILE] [--svg FILE] [--save DIR [--every N] [--until N]] [--resume DIR]\n");
    std::exit(EXIT_FAILURE);
}

Settings parse(int argc, char** argv) {
    Settings settings;
    for (int i = 1; i < argc; i += 2) {
        std::string const name = argv[i], value = i + 1 < argc ? argv[i + 1] : "";
        char* end = nullptr;
        double const number = std::strtod(value.c_str(), &end);
        bool const positive = !value.empty() && *end == '\0' && number > 0.0 && number <= 1e6;
        bool const whole = positive && number == std::floor(number);
        if (name == "--csv" && !value.empty())
            settings.csv = value;
        else if (name == "--column" && !value.empty())
            settings.column = value;
        else if (name == "--log" && !value.empty())
            settings.log = value;
        else if (name == "--svg" && !value.empty())
            settings.svg = value;
        else if (name == "--save" && !value.empty())
            settings.save = value;
        else if (name == "--resume" && !value.empty())
            settings.resume = value;
        else if (name == "--every" && whole)
            settings.every = static_cast<std::size_t>(number);
        else if (name == "--until" && whole)
            settings.until = static_cast<std::size_t>(number);
        else if (name == "--lr" && positive)
            settings.lr = number;
        else if (name == "--epochs" && whole)
            settings.epochs = static_cast<std::size_t>(number);
        else if (name == "--seeds" && whole)
            settings.seeds = static_cast<std::size_t>(number);
        else if (name == "--interval" && whole)
            settings.interval = static_cast<std::size_t>(number);
        else
            usage();
    }
    if (settings.until == 0)
        settings.until = settings.epochs;
    if (settings.csv.empty() != settings.column.empty() || settings.until > settings.epochs)
        usage();
    if (!settings.svg.empty() && settings.log.empty())
        settings.log = std::filesystem::path(settings.svg).replace_extension(".jsonl").string();
    return settings;
}

void forecast(Settings const& settings) {
    Series const series = settings.csv.empty() ? co2() : csv(settings.csv, settings.column);
    Task task{settings,
              series,
              Data(series, BATCH),
              Log(settings.log, !settings.save.empty(), series.name, series.unit),
              Keep(settings.save, settings.resume, fingerprint(series.values)),
              Progress(static_cast<double>(2 * settings.seeds * settings.until))};
    Data const& data = task.data;
    if (!settings.svg.empty())
        plot_tool();  // so that a missing tool is found before the training
    std::printf("libmetaadamw %s. %s: %zu values, windows of %zu: %zu to train, %zu held out, %zu to validate\n",
                metaadamw::version().c_str(), series.name.c_str(), series.values.size(), WINDOW, data.train.size(),
                data.held_out.size(), data.validation.size());
    std::fflush(stdout);

    // Each thread takes the next run from the list, in which AdamW and MetaAdamW of a seed are adjacent.
    std::vector<Run> runs[2] = {std::vector<Run>(settings.seeds), std::vector<Run>(settings.seeds)};
    std::atomic<std::size_t> next{0};
    auto const work = [&] {
        for (std::size_t job = next++; job < 2 * settings.seeds; job = next++)
            runs[job % 2][job / 2] = train(job % 2 == 1, job / 2 + 1, task);
    };
    std::vector<std::future<void>> workers;
    auto const cores = std::max<std::size_t>(1, std::thread::hardware_concurrency());
    for (std::size_t w = 0; w < std::min(cores, 2 * settings.seeds); w++)
        workers.push_back(std::async(std::launch::async, work));
    for (auto& worker : workers)
        worker.get();

    auto const& [adamw, meta] = runs;
    std::printf("\n%zu seeds (mean ± standard deviation), %zu epochs, lr %g, a meta-update every %zu steps; MSE in\n"
                "%s²; \"as the last value\" has %.4f; both optimizers are libmetaadamw's, AdamW without modulation\n\n",
                settings.seeds, settings.until, settings.lr, settings.interval, series.unit.c_str(), data.persistence);
    print_table(adamw, meta);
    print_factors(meta.front());
    if (!settings.log.empty())
        std::printf("\nLosses and states are in %s\n", settings.log.c_str());
    if (!settings.svg.empty()) {
        plot(settings.log, settings.svg);
        std::printf("The curves are in %s\n", settings.svg.c_str());
    }
    if (!settings.save.empty())
        std::printf("The runs are in %s\n", settings.save.c_str());
}

}  // namespace

int main(int argc, char** argv) {
    try {
        forecast(parse(argc, argv));
    } catch (std::exception const& error) {  // metaadamw::Error among them
        std::fprintf(stderr, "forecast: %s\n", error.what());
        return EXIT_FAILURE;
    }
}
