// The "engine": a perceptron with tanh, forward and backward pass written out, in float32. It does not
// depend on the optimizer: parameters and gradients are plain buffers.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "data.hpp"

class Mlp {
  public:
    static constexpr std::array<std::size_t, 4> widths{WINDOW, 64, 64, 1};

    struct Layer {
        std::size_t inputs, outputs;
        std::vector<float> weight, bias;                    // outputs x inputs, row-major; outputs
        std::vector<float> weight_gradient, bias_gradient;  // the same
    };

    // Every parameter uniform in ±1/√inputs.
    explicit Mlp(std::uint64_t seed) {
        Random random(seed);
        for (std::size_t l = 0; l + 1 < widths.size(); l++) {
            auto const in = widths[l], out = widths[l + 1];
            layers.push_back({in, out, std::vector<float>(in * out), std::vector<float>(out),
                              std::vector<float>(in * out), std::vector<float>(out)});
            double const bound = 1.0 / std::sqrt(static_cast<double>(in));
            for (auto* values : {&layers[l].weight, &layers[l].bias})
                for (float& value : *values)
                    value = static_cast<float>(bound * (2.0 * random.unit() - 1.0));
        }
    }

    // Mean squared error of the windows with these numbers.
    double loss(std::vector<Sample> const& windows, Numbers numbers) const {
        Activations y;
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
        Activations y;
        double sum = 0.0;
        for (Layer& layer : layers) {
            std::fill(layer.weight_gradient.begin(), layer.weight_gradient.end(), 0.0f);
            std::fill(layer.bias_gradient.begin(), layer.bias_gradient.end(), 0.0f);
        }
        for (std::size_t const number : numbers) {
            forward(windows[number], y);
            float const off = y.back()[0] - windows[number].next;
            sum += static_cast<double>(off) * static_cast<double>(off);
            add_gradients(y, 2.0f * off / static_cast<float>(numbers.size()));
        }
        return sum / static_cast<double>(numbers.size());
    }

    std::vector<Layer> layers;

  private:
    // [l] is the input of layer l, the last one the prediction.
    using Activations = std::array<std::array<float, WINDOW>, widths.size()>;

    // Eight partial sums, so that the compiler may use vector registers.
    static float dot(std::size_t n, float const* a, float const* b) {
        float sum[8] = {};
        std::size_t i = 0;
        for (; i + 8 <= n; i += 8)
            for (std::size_t k = 0; k < 8; k++)
                sum[k] += a[i + k] * b[i + k];
        for (; i < n; i++)
            sum[0] += a[i] * b[i];
        return ((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7]));
    }

    // y += a x
    static void add(std::size_t n, float a, float const* x, float* y) {
        for (std::size_t i = 0; i < n; i++)
            y[i] += a * x[i];
    }

    void forward(Sample const& sample, Activations& y) const {
        y[0] = sample.past;
        for (std::size_t l = 0; l < layers.size(); l++) {
            Layer const& layer = layers[l];
            for (std::size_t o = 0; o < layer.outputs; o++) {
                float const sum =
                    layer.bias[o] + dot(layer.inputs, &layer.weight[o * layer.inputs], y[l].data());
                y[l + 1][o] = l + 1 < layers.size() ? std::tanh(sum) : sum;
            }
        }
    }

    // Adds the gradients of a loss whose derivative with respect to the prediction is `slope`.
    void add_gradients(Activations const& y, float slope) {
        std::array<float, WINDOW> above{slope};  // the derivative with respect to the layer's sums
        for (std::size_t l = layers.size(); l-- > 0;) {
            Layer& layer = layers[l];
            std::array<float, WINDOW> below{};  // … with respect to its input y[l]
            for (std::size_t o = 0; o < layer.outputs; o++) {
                layer.bias_gradient[o] += above[o];
                add(layer.inputs, above[o], y[l].data(), &layer.weight_gradient[o * layer.inputs]);
                add(layer.inputs, above[o], &layer.weight[o * layer.inputs], below.data());
            }
            for (std::size_t i = 0; i < layer.inputs; i++)
                above[i] = below[i] * (1.0f - y[l][i] * y[l][i]);
        }
    }
};
