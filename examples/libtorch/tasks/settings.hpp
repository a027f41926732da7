// The settings of a run: flags of the command line, with the paper's values for each task as defaults.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <functional>
#include <metaadamw/torch.hpp>
#include <stdexcept>
#include <string>
#include <vector>

#include "../../cpp/shared/json.hpp"
#include "kinds.hpp"

enum class Kind { adamw, torch_adamw, schedule_free, metaadamw };
enum class Schedule { constant, cosine };

struct Settings {
    // What is run, and where; not part of what decides the numbers.
    std::string data, log;
    bool resume = false;

    std::string task, device = "cpu";
    Kind optimizer = Kind::adamw;
    std::uint64_t seed = 1, epochs = 50, patience = 2, batch = 0, steps = 0, threads = 1;
    double limit = 1.0, width = 1.0, lr = 5e-4, lr_factor = 1.0, weight_decay = 1e-2;
    Schedule schedule = Schedule::constant;
    bool disjoint = true;
    std::string preset = "paper", factors;
    metaadamw::torch::Options options;
};

// Names of flags and where their values go.
class Flags {
  public:
    template <class Value>
    void number(std::string const& name, Value& value) {
        add(name, [&value, name](std::string const& text) { read(name, text, value); },
            [&value] { return json::number(static_cast<double>(value)); });
    }
    void text(std::string const& name, std::string& value) {
        add(name, [&value](std::string const& text) { value = text; }, [&value] { return json::quoted(value); });
    }
    template <class Value>
    void choice(std::string const& name, Value& value, std::vector<std::pair<std::string, Value>> const& choices) {
        auto const set = [&value, name, choices](std::string const& text) {
            std::string names;
            for (auto const& [known, meaning] : choices) {
                if (known == text)
                    return void(value = meaning);
                names += (names.empty() ? "" : ", ") + known;
            }
            throw std::runtime_error("--" + name + " '" + text + "': expected one of " + names);
        };
        auto const get = [&value, choices] {
            for (auto const& [known, meaning] : choices)
                if (meaning == value)
                    return json::quoted(known);
            return std::string("null");
        };
        add(name, set, get);
    }
    void on_off(std::string const& name, bool& value) { choice<bool>(name, value, {{"on", true}, {"off", false}}); }
    void numbers(std::string const& name, std::array<double, 3>& values) {
        auto const set = [&values, name](std::string const& text) {
            auto const first = text.find(','), second = text.find(',', first + 1);
            if (first == std::string::npos || second == std::string::npos)
                throw std::runtime_error("--" + name + " '" + text + "': expected three numbers, A,B,C");
            read(name, text.substr(0, first), values[0]);
            read(name, text.substr(first + 1, second - first - 1), values[1]);
            read(name, text.substr(second + 1), values[2]);
        };
        add(name, set, [&values] {
            return "[" + json::number(values[0]) + ", " + json::number(values[1]) + ", " + json::number(values[2]) + "]";
        });
    }

    void set(std::string const& name, std::string const& text) const {
        for (Flag const& flag : flags_)
            if (flag.name == name)
                return flag.set(text);
        std::string names;
        for (Flag const& flag : flags_)
            names += " --" + flag.name;
        throw std::runtime_error("--" + name + ": no such flag; there are --resume and" + names);
    }

    [[nodiscard]] std::string json() const {
        std::string all;
        for (Flag const& flag : flags_)
            all += (all.empty() ? "" : ", ") + json::quoted(flag.name) + ": " + flag.get();
        return "{" + all + "}";
    }

  private:
    struct Flag {
        std::string name;
        std::function<void(std::string const&)> set;
        std::function<std::string()> get;
    };

    void add(std::string const& name, std::function<void(std::string const&)> set, std::function<std::string()> get) {
        flags_.push_back({name, std::move(set), std::move(get)});
    }

    template <class Value>
    static void read(std::string const& name, std::string const& text, Value& value) {
        char* end = nullptr;
        double const number = std::strtod(text.c_str(), &end);
        // Of a number that does not fit the cast is undefined.
        double const most = std::is_integral_v<Value> && sizeof(Value) < 8 ? 1e9 : 1e15;
        bool const fits = !text.empty() && *end == '\0' && number >= 0.0 && number <= most;
        value = fits ? static_cast<Value>(number) : Value{};
        if (!fits || static_cast<double>(value) != number)
            throw std::runtime_error("--" + name + " '" + text + "': expected a " +
                                     (std::is_integral_v<Value> ? "whole " : "") + "number from 0 to " + (most > 1e9 ? "1e15" : "1e9"));
    }

    std::vector<Flag> flags_;
};

inline Flags flags_of(Settings& s) {
    using namespace metaadamw;
    auto& o = s.options;
    Flags f;
    f.text("task", s.task);
    f.choice<Kind>("optimizer", s.optimizer,
                   {{"adamw", Kind::adamw},
                    {"torch_adamw", Kind::torch_adamw},
                    {"schedule_free", Kind::schedule_free},
                    {"metaadamw", Kind::metaadamw}});
    f.number("seed", s.seed);
    f.text("device", s.device);
    f.number("threads", s.threads);
    f.number("limit", s.limit);
    f.number("width", s.width);
    f.choice<bool>("split", s.disjoint, {{"disjoint", true}, {"paper", false}});
    f.number("epochs", s.epochs);
    f.number("patience", s.patience);
    f.number("steps", s.steps);
    f.number("batch", s.batch);
    f.number("lr", s.lr);
    f.number("lr-factor", s.lr_factor);
    f.number("weight-decay", s.weight_decay);
    f.choice<Schedule>("schedule", s.schedule, {{"constant", Schedule::constant}, {"cosine", Schedule::cosine}});
    f.number("average", o.horizon_steps);
    f.text("preset", s.preset);
    f.text("factors", s.factors);
    // MetaAdamW's, named as in maw_options.
    f.choice<Init>("init", o.init, {{"xavier", Init::xavier}, {"identity", Init::identity}});
    f.choice<Semantics>("semantics", o.semantics, {{"paper", Semantics::paper}, {"reference", Semantics::reference}});
    f.choice<FeatureVersion>("features", o.feature_version,
                             {{"basic", FeatureVersion::basic},
                              {"basic_plus", FeatureVersion::basic_plus},
                              {"enhanced", FeatureVersion::enhanced},
                              {"norm_basic", FeatureVersion::norm_basic},
                              {"norm_basic_plus", FeatureVersion::norm_basic_plus},
                              {"norm_log", FeatureVersion::norm_log}});
    f.choice<Grouping>("grouping", o.grouping,
                       {{"fine_grained", Grouping::fine_grained}, {"by_param_group", Grouping::by_param_group}});
    f.choice<Objective>("objective", o.objective,
                        {{"combined", Objective::combined},
                         {"gradient", Objective::gradient},
                         {"loss_decrease", Objective::loss_decrease},
                         {"gen_gap", Objective::gen_gap},
                         {"horizon", Objective::horizon}});
    f.choice<Weighting>("uncertainty", o.weighting,
                        {{"huw", Weighting::huw}, {"fixed", Weighting::fixed}, {"sum", Weighting::sum}});
    f.numbers("priorities", o.priorities);
    f.numbers("fixed-weights", o.fixed_weights);
    f.on_off("gating", o.use_feature_gating);
    f.on_off("v-norms", o.use_v_norms);
    f.on_off("time-step", o.include_time_step);
    f.number("meta-interval", o.meta_interval);
    f.number("meta-warmup", o.meta_warmup);
    f.number("meta-lr", o.meta_lr);
    f.number("meta-weight-decay", o.meta_weight_decay);
    f.choice<MetaOptimizer>("meta-optimizer", o.meta_optimizer,
                            {{"sgd", MetaOptimizer::sgd}, {"adamw", MetaOptimizer::adamw}});
    f.number("layers", o.attn_layers);
    f.number("heads", o.attn_heads);
    f.number("feed-forward", o.attn_hidden_dim);
    f.number("alpha-range", o.alpha_range);
    f.number("beta-range", o.beta_range);
    f.number("alpha-log-range", o.alpha_log_range);
    f.number("beta-log-range", o.beta_log_range);
    f.number("difference-scale", o.difference_scale);
    f.number("max-grad-norm", o.max_grad_norm);
    return f;
}

// What is 0 here is derived from the data: meta-interval and meta-warmup.
inline void take_defaults(Settings& s, TaskKind const& kind) {
    s.batch = kind.batch_size;
    auto& o = s.options;
    if (s.preset == "horizon") {
        o = metaadamw::torch::Options::horizon();
        return;
    }
    if (s.preset != "paper")
        throw std::runtime_error("--preset '" + s.preset + "': expected paper or horizon");
    o = metaadamw::torch::Options(metaadamw::Options());
    o.meta_interval = 0;
    o.meta_warmup = 0;
    o.attn_layers = kind.layers;
    o.attn_heads = kind.heads;
    o.attn_hidden_dim = kind.feed_forward;
    o.use_feature_gating = kind.gating;
    o.feature_version =
        kind.basic_plus ? metaadamw::FeatureVersion::basic_plus : metaadamw::FeatureVersion::basic;
    for (std::size_t term = 0; term < 3; term++)
        o.priorities[term] = kind.priorities[term];
}

inline Settings settings_from(int argc, char** argv) {
    Settings s;
    std::vector<std::pair<std::string, std::string>> given;
    for (int i = 1; i < argc; i++) {
        std::string const name = argv[i];
        if (name == "--resume") {
            s.resume = true;
            continue;
        }
        if (name.substr(0, 2) != "--" || i + 1 == argc)
            throw std::runtime_error("'" + name + "': expected a flag and its value, --NAME VALUE");
        std::string const value = argv[++i];
        if (name == "--data")
            s.data = value;
        else if (name == "--log")
            s.log = value;
        else
            given.push_back({name.substr(2), value});
    }
    for (auto const& [name, value] : given)
        if (name == "task")
            s.task = value;
        else if (name == "preset")
            s.preset = value;
    take_defaults(s, kind_of(s.task));
    Flags const flags = flags_of(s);
    for (auto const& [name, value] : given)
        flags.set(name, value);
    auto const require = [](bool holds, char const* text) {
        if (!holds)
            throw std::runtime_error(text);
    };
    require(!s.data.empty(), "--data: expected the folder of the data set");
    require(!s.log.empty(), "--log: expected a file");
    require(s.limit > 0.0 && s.limit <= 1.0, "--limit: expected a fraction of the data, above 0 and at most 1");
    require(s.width > 0.0 && s.width <= 8.0, "--width: expected a factor, above 0 and at most 8");
    require(s.epochs > 0 && s.epochs <= 1000000, "--epochs: expected 1 to 1000000");
    require(s.batch > 0, "--batch: expected 1 or more");
    require(s.threads > 0 && s.threads <= 1024, "--threads: expected 1 to 1024");
    return s;
}
