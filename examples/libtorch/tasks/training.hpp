// The training loop: epochs, early stopping, the log, a checkpoint after each epoch.
//
// Batches and random numbers depend on the seed and the epoch alone, so that every optimizer gets the same, and a resumed run
// the same bits as one that was never interrupted.
#pragma once

#include <time.h>

#include <algorithm>
#include <limits>
#include <numeric>
#include <optional>

#include "../../cpp/shared/progress.hpp"
#include "../../cpp/shared/random.hpp"
#include "log.hpp"
#include "method.hpp"

class Training {
  public:
    Training(Settings const& settings, std::string const& settings_json)
        : settings_(settings), kind_(kind_of(settings.task)), settings_json_(settings_json), device_(settings.device) {
        torch::manual_seed(settings_.seed);
        task_ = kind_.make({settings_.data, settings_.limit, settings_.width, settings_.disjoint});
        task_->model().to(device_);
        steps_per_epoch_ = std::max<std::uint64_t>(1, task_->size(Part::train) / settings_.batch);
        auto& options = settings_.options;
        options.seed = settings_.seed;
        options.threads = static_cast<std::uint32_t>(settings_.threads);
        options.total_steps = settings_.epochs * steps_per_epoch_;
        // The paper's: as many meta-updates an epoch as on the whole data, and none in the first epoch.
        if (options.meta_interval == 0)
            options.meta_interval = std::max<std::uint64_t>(
                1, static_cast<std::uint64_t>(std::llround(double(kind_.meta_interval) * settings_.limit *
                                                           double(kind_.batch_size) / double(settings_.batch))));
        if (options.meta_warmup == 0)
            options.meta_warmup = steps_per_epoch_;
        method_ = make_method(settings_, task_->model());
    }

    void run() {
        std::uintmax_t const size = settings_.resume ? load() : 0;
        Log log(settings_.log, size);
        if (size == 0)
            log.write(start());
        Progress progress(double(settings_.epochs * steps_per_epoch_));
        progress.skip(double(now_.epoch) * double(steps_per_epoch_));
        std::string reason;
        while (reason.empty()) {
            Epoch const epoch = train_epoch(progress);
            log.write(evaluated(epoch));
            reason = reason_to_end(epoch);
            if (reason.empty())
                save(log.size());
        }
        log.write(end(reason));
        std::filesystem::remove(checkpoint());
        std::fprintf(stderr, "\n%s %s seed %llu: %s after %d epochs, best epoch %d: test %s %.6g\n", kind_.name.c_str(),
                     settings_.log.c_str(), static_cast<unsigned long long>(settings_.seed), reason.c_str(), int(now_.epoch),
                     int(now_.best_epoch), name_of(kind_.metric), now_.best_test);
    }

  private:
    static constexpr double NONE = std::numeric_limits<double>::quiet_NaN();

    // What a checkpoint holds beside model and optimizer; all of it doubles, so that it is one tensor.
    struct Now {
        double epoch = 0, step = 0, best_epoch = 0, best = NONE, best_test = NONE, best_test_average = NONE;
        double seconds = 0, optimizer_seconds = 0, meta_seconds = 0;
    };
    using Factors = std::vector<std::pair<double, double>>;

    struct Epoch {
        double train_loss = 0.0;
        Factors factors{};  // sums over steps
        std::uint64_t steps = 0;
    };

    // ------------------------------------------------------------------------------------------------- an epoch ----

    // Examples of a part in the epoch's order.
    [[nodiscard]] std::vector<std::size_t> order(Part part) const {
        std::vector<std::size_t> examples(task_->size(part));
        std::iota(examples.begin(), examples.end(), std::size_t{0});
        Random(settings_.seed, static_cast<std::uint64_t>(now_.epoch), part == Part::train ? 1 : 2)
            .draw(examples, examples.size());
        return examples;
    }

    // The number-th batch of an order, over and over again.
    [[nodiscard]] Batch batch(Part part, std::vector<std::size_t> const& order, std::uint64_t number) const {
        std::size_t const size = std::min<std::size_t>(settings_.batch, order.size()), first = number % (order.size() / size) * size;
        return task_->batch(part, {order.begin() + std::ptrdiff_t(first), order.begin() + std::ptrdiff_t(first + size)}).to(device_);
    }

    Epoch train_epoch(Progress& progress) {
        torch::manual_seed(Random(settings_.seed, static_cast<std::uint64_t>(now_.epoch), 3).bits() >> 1);
        auto const train = order(Part::train), held_out = order(Part::meta);
        Epoch epoch;
        std::uint64_t metas = 0;
        task_->model().train();
        for (std::uint64_t i = 0; i < steps_per_epoch_ && !stops(); i++) {
            double const begin = seconds();
            if (settings_.schedule == Schedule::cosine)
                method_.set_schedule(0.5 * (1.0 + std::cos(3.14159265358979323846 * now_.step /
                                                           double(settings_.epochs * steps_per_epoch_))));
            Batch const now = batch(Part::train, train, i);
            method_.optimizer->zero_grad();
            auto const loss = task_->loss(now);
            loss.backward();
            double const evaluated = seconds();
            method_.optimizer->step();
            now_.step++;
            double const stepped = seconds();
            if (method_.library != nullptr && method_.library->meta_due())
                meta_update(now, batch(Part::train, train, i + 1), batch(Part::meta, held_out, metas++));
            double const done = seconds();
            now_.optimizer_seconds += stepped - evaluated;
            now_.meta_seconds += done - stepped;
            now_.seconds += done - begin;
            epoch.train_loss += loss.item<double>();
            epoch.steps++;
            note_factors(epoch.factors);
            char text[96], best[48] = "";
            if (now_.best_epoch > 0)
                std::snprintf(best, sizeof best, ", best %s %.5g", name_of(kind_.metric), now_.best);
            std::snprintf(text, sizeof text, "epoch %d, loss %.4g%s", int(now_.epoch) + 1,
                          epoch.train_loss / double(epoch.steps), best);
            progress.advance(1.0, text);
        }
        epoch.train_loss /= double(epoch.steps);
        now_.epoch++;
        return epoch;
    }

    void meta_update(Batch const& first, Batch const& second, Batch const& held_out) {
        method_.library->meta_update([&](metaadamw::Batch which) {
            return task_->loss(which == metaadamw::Batch::train_1   ? first
                               : which == metaadamw::Batch::train_2 ? second
                                                                    : held_out);
        });
    }

    void note_factors(Factors& sums) {
        if (method_.library == nullptr || !modulates())
            return;
        auto const factors = method_.library->core().factors();
        sums.resize(factors.size());
        sums_.resize(factors.size());
        groups_.resize(factors.size());
        for (std::size_t g = 0; g < factors.size(); g++) {
            groups_[g] = factors[g].group;
            for (auto* to : {&sums[g], &sums_[g]})
                to->first += factors[g].alpha, to->second += factors[g].beta;
        }
    }

    [[nodiscard]] bool modulates() const {
        return settings_.optimizer == Kind::metaadamw && settings_.factors.empty();
    }

    [[nodiscard]] bool stops() const { return settings_.steps > 0 && now_.step >= double(settings_.steps); }

    [[nodiscard]] std::string reason_to_end(Epoch const& epoch) const {
        if (!std::isfinite(epoch.train_loss))
            return "not finite";
        if (stops())
            return "steps";
        if (now_.epoch >= double(settings_.epochs))
            return "epochs";
        if (settings_.schedule == Schedule::constant && settings_.patience > 0 &&
            now_.epoch - now_.best_epoch >= double(settings_.patience))
            return "patience";
        return "";
    }

    // ----------------------------------------------------------------------------------------------- evaluation ----

    Score score(Part part) {
        torch::NoGradGuard const no_graph;
        task_->model().eval();
        Score sum;
        std::size_t const all = task_->size(part);
        for (std::size_t first = 0; first < all; first += settings_.batch) {
            std::vector<std::size_t> examples(std::min<std::size_t>(settings_.batch, all - first));
            std::iota(examples.begin(), examples.end(), first);
            sum += task_->score(task_->batch(part, examples).to(device_));
        }
        return sum;
    }

    // {selection, test}
    std::pair<Score, Score> scores() {
        Score const selection = score(Part::selection);
        return {selection, settings_.disjoint ? score(Part::test) : selection};
    }

    [[nodiscard]] double metric(Score const& score) const { return value_of(kind_.metric, score); }

    // Schedule-Free AdamW is evaluated at x. Where there are averages these are evaluated too.
    Object evaluated(Epoch const& epoch) {
        if (method_.schedule_free != nullptr)
            method_.schedule_free->swap();
        auto const [selection, test] = scores();
        if (method_.schedule_free != nullptr)
            method_.schedule_free->swap();
        std::string average = "null";
        double test_average = NONE;
        if (method_.library != nullptr && settings_.options.horizon_steps >= 2) {
            auto const averaged = method_.library->averaged();
            auto const [selection_average, at_average] = scores();
            test_average = metric(at_average);
            average = Object().number("selection", metric(selection_average)).number("test", test_average).json();
        }
        double const value = metric(selection);
        if (now_.best_epoch == 0 || better(kind_.metric, value, now_.best)) {
            now_.best_epoch = now_.epoch, now_.best = value;
            now_.best_test = metric(test), now_.best_test_average = test_average;
        }
        return Object()
            .text("event", "epoch")
            .text("run", json_name())
            .number("seed", double(settings_.seed))
            .number("epoch", now_.epoch)
            .number("step", now_.step)
            .number("lr", method_.optimizer->param_groups()[0].options().get_lr())
            .number("train_loss", epoch.train_loss)
            .number("validation_loss", selection.loss / selection.count)
            .number("selection", value)
            .number("test_loss", test.loss / test.count)
            .number("test", metric(test))
            .raw("average", average)
            .number("seconds", now_.seconds)
            .number("optimizer_seconds", now_.optimizer_seconds)
            .number("meta_seconds", now_.meta_seconds)
            .raw("mean_factors", mean(epoch.factors, double(epoch.steps)))
            .raw("state", modulates() ? on_one_line(method_.library->core().dump_state()) : "null");
    }

    // ------------------------------------------------------------------------------------------------ the lines ----

    [[nodiscard]] std::string json_name() const {
        char const* const names[] = {"adamw", "torch_adamw", "schedule_free", "metaadamw"};
        return names[std::size_t(settings_.optimizer)];
    }

    [[nodiscard]] std::string mean(Factors const& sums, double count) const {
        if (sums.empty())
            return "null";
        Object factors;
        for (std::size_t g = 0; g < sums.size(); g++)
            factors.raw(groups_[g].c_str(),
                        "[" + json::number(sums[g].first / count) + ", " + json::number(sums[g].second / count) + "]");
        return factors.json();
    }

    Object start() {
        std::size_t count = 0, tensors = 0;
        for (auto const& parameter : task_->model().parameters())
            count += std::size_t(parameter.numel()), tensors++;
        Object examples;
        std::pair<char const*, Part> const parts[] = {
            {"train", Part::train}, {"meta", Part::meta}, {"selection", Part::selection}, {"test", Part::test}};
        for (auto const& [name, part] : parts)
            examples.number(name, double(task_->size(part)));
        return Object()
            .text("event", "start")
            .text("task", kind_.name)
            .text("metric", name_of(kind_.metric))
            .number("seed", double(settings_.seed))
            .raw("settings", settings_json_)
            .number("meta_interval", double(settings_.options.meta_interval))
            .number("parameters", double(count))
            .number("tensors", double(tensors))
            .raw("examples", examples.json())
            .number("steps_per_epoch", double(steps_per_epoch_))
            .text("library", metaadamw::version())
            .text("torch", TORCH_VERSION)
            .number("threads", double(settings_.threads))
            .text("clock", uses_cpu_time() ? "cpu" : "wall");
    }

    Object end(std::string const& reason) const {
        return Object()
            .text("event", "end")
            .text("reason", reason)
            .number("epochs", now_.epoch)
            .number("best_epoch", now_.best_epoch)
            .number("selection", now_.best)
            .number("test", now_.best_test)
            .number("test_average", now_.best_test_average)
            .number("seconds", now_.seconds)
            .number("optimizer_seconds", now_.optimizer_seconds)
            .number("meta_seconds", now_.meta_seconds)
            .raw("mean_factors", mean(sums_, now_.step));
    }

    // --------------------------------------------------------------------------------------------- the checkpoint ----

    [[nodiscard]] std::string checkpoint() const { return settings_.log + ".checkpoint"; }

    void save(std::uintmax_t log_size) {
        torch::serialize::OutputArchive archive, model, optimizer;
        task_->model().save(model);
        method_.optimizer->save(optimizer);
        archive.write("model", model);
        archive.write("optimizer", optimizer);
        std::vector<double> factors;
        for (auto const& [alpha, beta] : sums_)
            factors.insert(factors.end(), {alpha, beta});
        archive.write("now", torch::from_blob(&now_, {std::int64_t(sizeof now_ / sizeof(double))}, torch::kDouble).clone());
        archive.write("factors", torch::tensor(factors, torch::kDouble));
        archive.write("log_size", torch::tensor(std::int64_t(log_size), torch::kLong));
        archive.write("settings", c10::IValue(settings_json_));
        archive.save_to(checkpoint() + ".new");
        std::filesystem::rename(checkpoint() + ".new", checkpoint());
    }

    // The size of the log then; 0 without a checkpoint.
    std::uintmax_t load() {
        if (!std::filesystem::exists(checkpoint()))
            return 0;
        torch::serialize::InputArchive archive, model, optimizer;
        archive.load_from(checkpoint(), device_);
        c10::IValue settings;
        archive.read("settings", settings);
        if (settings.toStringRef() != settings_json_)
            throw std::runtime_error(checkpoint() + ": of other settings: " + settings.toStringRef());
        archive.read("model", model);
        archive.read("optimizer", optimizer);
        task_->model().load(model);
        method_.optimizer->load(optimizer);
        torch::Tensor now, factors, log_size;
        archive.read("now", now);
        archive.read("factors", factors);
        archive.read("log_size", log_size);
        now = now.cpu().contiguous();
        if (now.nbytes() != sizeof now_)
            throw std::runtime_error(checkpoint() + ": of another version of this program");
        std::memcpy(&now_, now.data_ptr(), sizeof now_);
        factors = factors.cpu();
        for (std::int64_t g = 0; g + 1 < factors.numel(); g += 2)
            sums_.push_back({factors[g].item<double>(), factors[g + 1].item<double>()});
        return static_cast<std::uintmax_t>(log_size.item<std::int64_t>());
    }

    // With one thread the processor's time, which other work on the machine does not change.
    [[nodiscard]] bool uses_cpu_time() const { return device_.is_cpu() && settings_.threads == 1; }

    [[nodiscard]] double seconds() const {
        if (!uses_cpu_time())
            return seconds_now();
        timespec now{};
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
        return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
    }

    Settings settings_;
    TaskKind const& kind_;
    std::string const settings_json_;
    torch::Device const device_;
    std::unique_ptr<Task> task_;
    std::uint64_t steps_per_epoch_ = 0;
    Method method_;
    Now now_;
    Factors sums_{};  // over all steps
    std::vector<std::string> groups_{};
};
