// A model that is small enough for tests: half the squared distance of its parameters to a batch's target.
#pragma once

#include <metaadamw.hpp>

#include <cstddef>
#include <stdexcept>
#include <vector>

struct Toy {
    std::vector<float> weight{0.5f, -0.25f, 1.0f, 0.125f, -1.0f, 0.75f}, weight_gradient = std::vector<float>(6);
    std::vector<double> bias{0.1, -0.2}, bias_gradient = std::vector<double>(2);

    static metaadamw::Options options() {
        metaadamw::Options options;
        options.meta_interval = 1;
        options.threads = 1;
        return options;
    }

    std::vector<metaadamw::Tensor> tensors() {
        return {{"layers.0.weight", weight.data(), weight_gradient.data(), {2, 3}},
                {"layers.0.bias", bias.data(), bias_gradient.data(), {2}}};
    }

    metaadamw::Optimizer optimizer(metaadamw::Options const& with = options()) {
        metaadamw::Optimizer made{with};
        made.add_param_group(metaadamw::ParamGroup{}.lr(0.01).weight_decay(0.1), tensors());
        return made;
    }

    static double target(metaadamw::Batch batch) { return 0.1 * static_cast<double>(batch); }

    double loss(double target) const {
        double sum = 0.0;
        for (float const w : weight)
            sum += 0.5 * (static_cast<double>(w) - target) * (static_cast<double>(w) - target);
        for (double const b : bias)
            sum += 0.5 * (b - target) * (b - target);
        return sum;
    }

    double backward(double target) {
        for (std::size_t i = 0; i < weight.size(); i++)
            weight_gradient[i] = weight[i] - static_cast<float>(target);
        for (std::size_t i = 0; i < bias.size(); i++)
            bias_gradient[i] = bias[i] - target;
        return loss(target);
    }

    double answer(metaadamw::Request const& request) {
        double const wanted = target(request.batch());
        return request.wants_gradient() ? backward(wanted) : loss(wanted);
    }

    void train(metaadamw::Optimizer& optimizer, int steps) {
        for (int step = 0; step < steps; step++) {
            backward(0.1);
            optimizer.step();
        }
    }
};

/// The status with which `call` fails.
template <class Call>
metaadamw::Status status_of(Call&& call) {
    try {
        call();
    } catch (metaadamw::Error const& error) {
        return error.status();
    }
    return metaadamw::Status::ok;
}
