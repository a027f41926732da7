// The study's own test: each model's gradient, Schedule-Free AdamW, the lines of results, and that every way to train
// learns.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "../shared/mlp.hpp"
#include "../shared/random.hpp"
#include "methods.hpp"
#include "plans.hpp"
#include "record.hpp"
#include "series_task.hpp"
#include "text_task.hpp"
#include "transformer.hpp"

namespace detail {

inline void require(bool holds, std::string const& what) {
    std::printf("%s: %s\n", holds ? "holds" : "FAILS", what.c_str());
    if (!holds)
        throw std::runtime_error("check failed: " + what);
}

// The largest deviation of a tensor's gradient from central differences, relative to its largest element.
template <class Loss>
double deviation(std::vector<double>& value, std::vector<double> const& gradient, Loss loss) {
    double largest = 0.0, worst = 0.0;
    for (double const g : gradient)
        largest = std::max(largest, std::abs(g));
    for (std::size_t i = 0; i < value.size(); i += 1 + value.size() / 100) {
        double const at = value[i], reach = 1e-5;
        value[i] = at + reach;
        double const above = loss();
        value[i] = at - reach;
        double const below = loss();
        value[i] = at;
        worst = std::max(worst, std::abs((above - below) / (2.0 * reach) - gradient[i]));
    }
    return largest > 0.0 ? worst / largest : 1.0;
}

// The largest deviation of the float32 gradient, relative to the largest element.
inline double deviation(std::vector<float> const& gradient, std::vector<double> const& wanted) {
    double largest = 0.0, worst = 0.0;
    for (std::size_t i = 0; i < wanted.size(); i++) {
        largest = std::max(largest, std::abs(wanted[i]));
        worst = std::max(worst, std::abs(static_cast<double>(gradient[i]) - wanted[i]));
    }
    return worst / largest;
}

inline void check_perceptron() {
    std::vector<Sample> windows(8);
    Random random(1);
    for (Sample& sample : windows) {
        for (float& value : sample.past)
            value = static_cast<float>(2.0 * random.unit() - 1.0);
        sample.next = static_cast<float>(2.0 * random.unit() - 1.0);
    }
    std::vector<std::size_t> const all{0, 1, 2, 3, 4, 5, 6, 7};
    Numbers const numbers{all.data(), all.data() + all.size()};
    BasicMlp<double> net(3);
    BasicMlp<float> single(3);
    net.backward(windows, numbers);
    single.backward(windows, numbers);
    double worst = 0.0, rounding = 0.0;
    for (std::size_t l = 0; l < net.layers.size(); l++) {
        auto& layer = net.layers[l];
        auto const loss = [&] { return net.loss(windows, numbers); };
        worst = std::max({worst, deviation(layer.weight, layer.weight_gradient, loss),
                          deviation(layer.bias, layer.bias_gradient, loss)});
        rounding = std::max({rounding, deviation(single.layers[l].weight_gradient, layer.weight_gradient),
                             deviation(single.layers[l].bias_gradient, layer.bias_gradient)});
    }
    require(worst < 1e-7, "the perceptron's gradients are those of central differences");
    require(rounding < 1e-4, "the perceptron's float32 gradients are those in float64 but for rounding");
}

inline void check_transformer() {
    TransformerSizes const sizes{11, 5, 16, 2, 2};
    std::vector<std::uint8_t> text(3 * (sizes.context + 1));
    Random random(5);
    for (std::uint8_t& character : text)
        character = static_cast<std::uint8_t>(random.bits() % sizes.vocabulary);
    Transformer<double> net(sizes, 3);
    Transformer<float> single(sizes, 3);
    net.backward(text);
    single.backward(text);
    double worst = 0.0, rounding = 0.0;
    for (std::size_t t = 0; t < net.tensors.size(); t++) {
        auto& tensor = net.tensors[t];
        worst = std::max(worst, deviation(tensor.value, tensor.gradient, [&] { return net.loss(text); }));
        rounding = std::max(rounding, deviation(single.tensors[t].gradient, tensor.gradient));
    }
    require(worst < 1e-7, "the Transformer's gradients are those of central differences");
    require(rounding < 1e-4, "the Transformer's float32 gradients are those in float64 but for rounding");
}

// With Σ exp(−loss of the last token) over all last tokens = 1, the loss of all tokens before follows from the mean loss
// for each last token; a model with a shorter context must have the same.
inline void check_causality() {
    TransformerSizes const sizes{11, 5, 16, 2, 2};
    TransformerSizes shorter = sizes;
    shorter.context--;
    Transformer<double> net(sizes, 3), prefix(shorter, 3);
    for (std::size_t t = 0; t < net.tensors.size(); t++)
        std::copy_n(net.tensors[t].value.begin(), prefix.tensors[t].value.size(), prefix.tensors[t].value.begin());
    std::vector<std::uint8_t> text{4, 0, 9, 2, 7, 0};
    double sum = 0.0;
    for (std::uint8_t last = 0; last < sizes.vocabulary; last++) {
        text.back() = last;
        sum += std::exp(-static_cast<double>(sizes.context) * net.loss(text));
    }
    text.pop_back();
    double const wanted = static_cast<double>(shorter.context) * prefix.loss(text);
    require(std::abs(-std::log(sum) - wanted) < 1e-12 * wanted, "what follows a character does not change its loss");
}

// Σ cᵢ (θᵢ − i)² / 2 over four parameters.
class Bowl : public Task {
  public:
    Bowl() {
        parameters.push_back({"bowl.weight", {4}, &value_, &gradient_});
    }

    Batch training(std::size_t) override { return {}; }
    std::array<Batch, 3> for_meta(std::size_t) override { return {}; }
    double loss(Batch const&) override {
        double sum = 0.0;
        for (std::size_t i = 0; i < 4; i++)
            sum += 0.5 * CURVE[i] * std::pow(value_[i] - static_cast<double>(i), 2.0);
        return sum;
    }
    double backward(Batch const& batch) override {
        for (std::size_t i = 0; i < 4; i++)
            gradient_[i] = static_cast<float>(CURVE[i] * (value_[i] - static_cast<double>(i)));
        return loss(batch);
    }
    double validation() override { return loss({}); }

    static constexpr std::array<double, 4> CURVE{0.5, 1.0, 3.0, 10.0};

  private:
    std::vector<float> value_{2.0f, -1.0f, 0.5f, 4.0f}, gradient_{0.0f, 0.0f, 0.0f, 0.0f};
};

// x is the plain mean of all z but the start, since the rate is constant.
inline void check_schedule_free() {
    double const lr = 0.05, decay = metaadamw::ParamGroup{}.weight_decay();
    Bowl bowl;
    ScheduleFree method(bowl, lr);
    double wanted = 0.0;
    std::size_t const steps = 50;
    for (std::size_t i = 0; i < 4; i++) {
        double z = (*bowl.parameters[0].value)[i], mean = z, v = 0.0, sum = 0.0;
        for (std::size_t t = 1; t <= steps; t++) {
            double const y = 0.1 * z + 0.9 * mean, g = Bowl::CURVE[i] * (y - static_cast<double>(i));
            v = 0.999 * v + 0.001 * g * g;
            z -= lr * (g / (std::sqrt(v / (1.0 - std::pow(0.999, t))) + 1e-8) + decay * y);
            sum += z;
            mean = sum / static_cast<double>(t);
        }
        wanted += 0.5 * Bowl::CURVE[i] * std::pow(mean - static_cast<double>(i), 2.0);
    }
    for (std::size_t step = 0; step < steps; step++)
        method.step(step);
    double const loss = method.losses().parameters;
    require(std::abs(loss - wanted) < 1e-6 * wanted, "Schedule-Free AdamW is that of the formula");
}

inline void check_lines() {
    Plan const plan{"settings", "text", "horizon", "meta_lr=0.1", 4.0, 1.0 / 3.0, 5, 1500};
    std::vector<Alpha> const alphas{{"a.b", 8.0, true}, {"c", 1.0 / 9.0, false}};
    Record const record{plan, {{1.25, HUGE_VAL}, {1.0 / 7.0, NONE}, 2.5, alphas}};
    Line const line = from_line(to_line(record));
    bool const same = line.plan.text() == plan.text() && line.plan.lr == plan.lr && line.plan.factor == 4.0 &&
                      line.last.parameters == 1.25 && std::isnan(line.last.average) &&
                      line.best.parameters == 1.0 / 7.0 && line.seconds == 2.5 && line.at_bound == 0.5 &&
                      line.alpha.size() == 2 && line.alpha[1].first == "c" && line.alpha[1].second == 1.0 / 9.0;
    require(same, "a line of results is read as it was written");
}

// Until the factors first learn both are AdamW, so the sums are the same.
inline void check_free_factors(TaskKind const& kind) {
    auto options = metaadamw::Options::horizon();
    options.threads = 1;
    auto const task = kind.start(1), twin = kind.start(1);
    FreeFactors free(*task, options, 2e-3);
    metaadamw::Optimizer optimizer{options};
    optimizer.add_param_group(metaadamw::ParamGroup{}.lr(2e-3), tensors(*twin));
    for (std::size_t step = 0; step < options.meta_warmup + options.meta_interval; step++) {
        free.step(step);
        twin->backward(twin->training(step));
        optimizer.step();
    }
    auto const wanted = optimizer.meta_gradient("alpha").values, slopes = free.slopes();
    double worst = wanted.size() == slopes.size() ? 0.0 : 1.0;
    for (std::size_t g = 0; g < std::min(wanted.size(), slopes.size()); g++)
        worst = std::max(worst, std::abs(wanted[g] - slopes[g]));
    require(worst < 1e-6, kind.name + ": free factors learn from the sums that the attention module learns from");
}

inline void check_learning(TaskKind const& kind, double lr) {
    std::vector<std::pair<std::string, std::string>> all{{"horizon", "encoder=none"}};
    for (MethodKind const& method : METHODS)
        all.push_back({method.name, ""});
    for (auto const& [name, setting] : all) {
        auto const task = kind.start(1);
        double const before = task->validation();
        std::size_t const steps = 40;
        auto const method = start_method({kind, *task, name, setting, lr, 1, steps});
        for (std::size_t step = 0; step < steps; step++)
            method->step(step);
        Losses const after = method->losses();
        require(after.parameters < 0.9 * before && !(after.average >= before),
                kind.name + ": " + name + " " + setting + " lowers the loss");
    }
}

}  // namespace detail

inline void check() {
    detail::check_perceptron();
    detail::check_transformer();
    detail::check_causality();
    detail::check_schedule_free();
    detail::check_lines();
    for (TaskKind const& kind : {co2_kind(), text_kind()}) {
        detail::check_free_factors(kind);
        detail::check_learning(kind, 2e-3);
    }
}
