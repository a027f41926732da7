// The "engine": a perceptron with tanh, forward and backward pass written out, in float32 (in float64 too, to check
// them). It does not depend on the optimizer: parameters and gradients are plain buffers.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "random.hpp"
#include "windows.hpp"

template <class Real>
class BasicMlp {
  public:
    struct Layer {
        std::size_t inputs, outputs;
        std::vector<Real> weight, bias;                    // outputs x inputs, row-major; outputs
        std::vector<Real> weight_gradient, bias_gradient;  // the same
    };

    // Every parameter uniform in ±1/√inputs; two hidden layers of this width.
    explicit BasicMlp(std::uint64_t seed, std::size_t hidden = 64) : widths_{WINDOW, hidden, hidden, 1} {
        Random random(seed);
        for (std::size_t l = 0; l + 1 < widths_.size(); l++) {
            auto const in = widths_[l], out = widths_[l + 1];
            layers.push_back({in, out, std::vector<Real>(in * out), std::vector<Real>(out),
                              std::vector<Real>(in * out), std::vector<Real>(out)});
            double const bound = 1.0 / std::sqrt(static_cast<double>(in));
            for (auto* values : {&layers[l].weight, &layers[l].bias})
                for (Real& value : *values)
                    value = static_cast<Real>(bound * (2.0 * random.unit() - 1.0));
        }
    }

    // Mean squared error of the windows with these numbers.
    double loss(std::vector<Sample> const& windows, Numbers numbers) const {
        auto y = activations();
        double sum = 0.0;
        for (std::size_t const number : numbers) {
            forward(windows[number], y);
            double const off = y.back()[0] - windows[number].next;
            sum += off * off;
        }
        return sum / static_cast<double>(numbers.size());
    }

    // The same, and its gradients into the layers.
    double backward(std::vector<Sample> const& windows, Numbers numbers) {
        auto y = activations();
        double sum = 0.0;
        for (Layer& layer : layers) {
            std::fill(layer.weight_gradient.begin(), layer.weight_gradient.end(), Real(0));
            std::fill(layer.bias_gradient.begin(), layer.bias_gradient.end(), Real(0));
        }
        for (std::size_t const number : numbers) {
            forward(windows[number], y);
            Real const off = y.back()[0] - windows[number].next;
            sum += static_cast<double>(off) * static_cast<double>(off);
            add_gradients(y, 2 * off / static_cast<Real>(numbers.size()));
        }
        return sum / static_cast<double>(numbers.size());
    }

    std::vector<Layer> layers;

  private:
    // [l] is the input of layer l, the last one the prediction.
    using Activations = std::vector<std::vector<Real>>;

    Activations activations() const {
        Activations y;
        for (std::size_t const width : widths_)
            y.emplace_back(width);
        return y;
    }

    // Eight partial sums, so that the compiler may use vector registers.
    static Real dot(std::size_t n, Real const* a, Real const* b) {
        Real sum[8] = {};
        std::size_t i = 0;
        for (; i + 8 <= n; i += 8)
            for (std::size_t k = 0; k < 8; k++)
                sum[k] += a[i + k] * b[i + k];
        for (; i < n; i++)
            sum[0] += a[i] * b[i];
        return ((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7]));
    }

    // y += a x
    static void add(std::size_t n, Real a, Real const* x, Real* y) {
        for (std::size_t i = 0; i < n; i++)
            y[i] += a * x[i];
    }

    void forward(Sample const& sample, Activations& y) const {
        std::copy(sample.past.begin(), sample.past.end(), y[0].begin());
        for (std::size_t l = 0; l < layers.size(); l++) {
            Layer const& layer = layers[l];
            for (std::size_t o = 0; o < layer.outputs; o++) {
                Real const sum =
                    layer.bias[o] + dot(layer.inputs, &layer.weight[o * layer.inputs], y[l].data());
                y[l + 1][o] = l + 1 < layers.size() ? std::tanh(sum) : sum;
            }
        }
    }

    // Adds the gradients of a loss whose derivative with respect to the prediction is `slope`.
    void add_gradients(Activations const& y, Real slope) {
        std::vector<Real> above{slope};  // the derivative with respect to the layer's sums
        for (std::size_t l = layers.size(); l-- > 0;) {
            Layer& layer = layers[l];
            std::vector<Real> below(layer.inputs);  // … with respect to its input y[l]
            for (std::size_t o = 0; o < layer.outputs; o++) {
                layer.bias_gradient[o] += above[o];
                add(layer.inputs, above[o], y[l].data(), &layer.weight_gradient[o * layer.inputs]);
                add(layer.inputs, above[o], &layer.weight[o * layer.inputs], below.data());
            }
            for (std::size_t i = 0; i < layer.inputs; i++)
                below[i] *= 1 - y[l][i] * y[l][i];
            above = std::move(below);
        }
    }

    std::array<std::size_t, 4> widths_;
};

using Mlp = BasicMlp<float>;
