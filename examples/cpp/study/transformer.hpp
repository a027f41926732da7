// A small causal Transformer, forward and backward pass written out: pre-norm, learned positions, ReLU, an output layer of
// its own. Its parameters have the names and the initial values (uniform in ±1/√inputs) of PyTorch's modules. `Real` is
// float to train and double to check the gradients.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "../shared/random.hpp"
#include "matrix.hpp"

struct TransformerSizes {
    std::size_t vocabulary, context, width, heads, layers;
    std::size_t hidden() const { return 4 * width; }
};

template <class Real>
class Transformer {
  public:
    struct Tensor {
        std::string name;
        std::vector<std::size_t> shape;
        std::vector<Real> value, gradient;
    };

    Transformer(TransformerSizes const& sizes, std::uint64_t seed) : sizes_(sizes) {
        Random random(seed);
        auto const [vocabulary, context, width, heads, layers] = sizes;
        auto const tensor = [&](std::string const& name, std::vector<std::size_t> const& shape, std::size_t inputs) {
            std::vector<Real> value(shape[0] * (shape.size() > 1 ? shape[1] : 1));
            double const bound = 1.0 / std::sqrt(static_cast<double>(inputs));
            for (Real& x : value)
                x = static_cast<Real>(bound * (2.0 * random.unit() - 1.0));
            tensors.push_back({name, shape, value, std::vector<Real>(value.size())});
            return tensors.size() - 1;
        };
        auto const linear = [&](std::string const& name, std::size_t inputs, std::size_t outputs) {
            auto const weight = tensor(name + ".weight", {outputs, inputs}, inputs);
            return Linear{weight, tensor(name + ".bias", {outputs}, inputs), inputs, outputs};
        };
        auto const norm = [&](std::string const& name) {
            auto const weight = tensor(name + ".weight", {width}, 1), bias = tensor(name + ".bias", {width}, 1);
            std::fill(tensors[weight].value.begin(), tensors[weight].value.end(), Real(1));
            std::fill(tensors[bias].value.begin(), tensors[bias].value.end(), Real(0));
            return Norm{weight, bias, {}, {}};
        };
        embed_ = tensor("embed.weight", {vocabulary, width}, width);
        position_ = tensor("position_embed.weight", {context, width}, width);
        for (std::size_t l = 0; l < layers; l++) {
            auto const name = "layers." + std::to_string(l);
            Layer layer;
            layer.norm1 = norm(name + ".norm1");
            layer.in = linear(name + ".attn.in_proj", width, 3 * width);
            layer.out = linear(name + ".attn.out_proj", width, width);
            layer.norm2 = norm(name + ".norm2");
            layer.up = linear(name + ".mlp.up", width, sizes.hidden());
            layer.down = linear(name + ".mlp.down", sizes.hidden(), width);
            layers_.push_back(layer);
        }
        norm_ = norm("norm");
        head_ = linear("head", width, vocabulary);
    }

    std::vector<Tensor> tensors;

    // Mean cross-entropy, in nats, of each next token. `text` has the windows one after the other, each of context + 1
    // tokens.
    double loss(std::vector<std::uint8_t> const& text) {
        forward(text);
        return cross_entropy(text, nullptr);
    }

    // The same, and its gradients into the tensors.
    double backward(std::vector<std::uint8_t> const& text) {
        for (Tensor& tensor : tensors)
            std::fill(tensor.gradient.begin(), tensor.gradient.end(), Real(0));
        forward(text);
        slope_.resize(logits_.size());
        double const loss = cross_entropy(text, slope_.data());
        dx_.resize(x_.size());
        branch_.assign(x_.size(), Real(0));
        backward(head_, last_, slope_, branch_);
        backward(norm_, branch_, dx_);
        for (std::size_t l = layers_.size(); l-- > 0;)
            backward(layers_[l], dx_);
        for (std::size_t row = 0; row < rows_; row++)
            for (std::size_t i = 0; i < sizes_.width; i++) {
                tensors[embed_].gradient[text[token(row)] * sizes_.width + i] += dx_[row * sizes_.width + i];
                tensors[position_].gradient[row % sizes_.context * sizes_.width + i] += dx_[row * sizes_.width + i];
            }
        return loss;
    }

  private:
    using Buffer = std::vector<Real>;

    struct Linear {
        std::size_t weight, bias, inputs, outputs;
    };
    struct Norm {
        std::size_t weight, bias;
        Buffer normal, scale;  // what the last forward pass leaves for the backward pass: rows × width; rows
    };
    struct Layer {
        Norm norm1, norm2;
        Linear in, out, up, down;
        Buffer a, qkv, shares, o, b, h;  // inputs and outputs of the last forward pass; `shares`: of attention
    };

    // The place in the text of an input token.
    std::size_t token(std::size_t row) const { return row / sizes_.context * (sizes_.context + 1) + row % sizes_.context; }

    void forward(std::vector<std::uint8_t> const& text) {
        std::size_t const width = sizes_.width;
        rows_ = text.size() / (sizes_.context + 1) * sizes_.context;
        x_.resize(rows_ * width);
        for (std::size_t row = 0; row < rows_; row++)
            for (std::size_t i = 0; i < width; i++)
                x_[row * width + i] = tensors[embed_].value[text[token(row)] * width + i] +
                                      tensors[position_].value[row % sizes_.context * width + i];
        for (Layer& layer : layers_) {
            forward(layer.norm1, x_, layer.a);
            forward(layer.in, layer.a, layer.qkv);
            attend(layer);
            forward(layer.out, layer.o, branch_);
            add(branch_, x_);
            forward(layer.norm2, x_, layer.b);
            forward(layer.up, layer.b, layer.h);
            for (Real& h : layer.h)
                h = std::max(h, Real(0));
            forward(layer.down, layer.h, branch_);
            add(branch_, x_);
        }
        forward(norm_, x_, last_);
        forward(head_, last_, logits_);
    }

    // `dx` is the derivative with respect to the layer's output, and then that to its input.
    void backward(Layer& layer, Buffer& dx) {
        dh_.assign(layer.h.size(), Real(0));
        backward(layer.down, layer.h, dx, dh_);
        for (std::size_t i = 0; i < dh_.size(); i++)
            dh_[i] = layer.h[i] > 0 ? dh_[i] : Real(0);
        branch_.assign(dx.size(), Real(0));
        backward(layer.up, layer.b, dh_, branch_);
        backward(layer.norm2, branch_, below_);
        add(below_, dx);
        branch_.assign(dx.size(), Real(0));
        backward(layer.out, layer.o, dx, branch_);
        attend_backward(layer, branch_, dqkv_);
        branch_.assign(dx.size(), Real(0));
        backward(layer.in, layer.a, dqkv_, branch_);
        backward(layer.norm1, branch_, below_);
        add(below_, dx);
    }

    static void add(Buffer const& from, Buffer& to) {
        for (std::size_t i = 0; i < to.size(); i++)
            to[i] += from[i];
    }

    // ---- linear layers: y = x Wᵀ + b

    void forward(Linear const& layer, Buffer const& x, Buffer& y) {
        Buffer const &weight = tensors[layer.weight].value, &bias = tensors[layer.bias].value;
        transposed_.resize(weight.size());
        transpose(layer.outputs, layer.inputs, {weight.data(), layer.inputs}, transposed_.data());
        y.resize(rows_ * layer.outputs);
        for (std::size_t row = 0; row < rows_; row++)
            std::copy(bias.begin(), bias.end(), &y[row * layer.outputs]);
        add_product<Real>(rows_, layer.outputs, layer.inputs, {x.data(), layer.inputs},
                          {transposed_.data(), layer.outputs}, {y.data(), layer.outputs});
    }

    // Adds to `dx` and to the gradients.
    void backward(Linear const& layer, Buffer const& x, Buffer const& dy, Buffer& dx) {
        Matrix<Real const> const slope{dy.data(), layer.outputs};
        add_product<Real>(rows_, layer.inputs, layer.outputs, slope,
                          {tensors[layer.weight].value.data(), layer.inputs}, {dx.data(), layer.inputs});
        add_product<Real>(layer.outputs, layer.inputs, rows_, slope.transposed(), {x.data(), layer.inputs},
                          {tensors[layer.weight].gradient.data(), layer.inputs});
        Buffer& bias = tensors[layer.bias].gradient;
        for (std::size_t row = 0; row < rows_; row++)
            for (std::size_t o = 0; o < layer.outputs; o++)
                bias[o] += dy[row * layer.outputs + o];
    }

    // `to` has `columns` contiguous rows.
    static void transpose(std::size_t rows, std::size_t columns, Matrix<Real const> from, Real* to) {
        for (std::size_t j = 0; j < columns; j++)
            for (std::size_t i = 0; i < rows; i++)
                to[j * rows + i] = from.at(i, j);
    }

    // ---- layer norm

    void forward(Norm& norm, Buffer const& x, Buffer& y) {
        std::size_t const width = sizes_.width;
        norm.normal.resize(x.size());
        norm.scale.resize(rows_);
        y.resize(x.size());
        Real const *weight = tensors[norm.weight].value.data(), *bias = tensors[norm.bias].value.data();
        for (std::size_t row = 0; row < rows_; row++) {
            Real const* in = &x[row * width];
            Real mean = 0, variance = 0;
            for (std::size_t i = 0; i < width; i++)
                mean += in[i];
            mean /= static_cast<Real>(width);
            for (std::size_t i = 0; i < width; i++)
                variance += (in[i] - mean) * (in[i] - mean);
            variance /= static_cast<Real>(width);
            Real const scale = norm.scale[row] = 1 / std::sqrt(variance + Real(1e-5));
            for (std::size_t i = 0; i < width; i++) {
                Real const normal = norm.normal[row * width + i] = (in[i] - mean) * scale;
                y[row * width + i] = normal * weight[i] + bias[i];
            }
        }
    }

    // Adds to the gradients; `dx` is overwritten.
    void backward(Norm const& norm, Buffer const& dy, Buffer& dx) {
        std::size_t const width = sizes_.width;
        dx.resize(dy.size());
        Real const* weight = tensors[norm.weight].value.data();
        Real *dweight = tensors[norm.weight].gradient.data(), *dbias = tensors[norm.bias].gradient.data();
        for (std::size_t row = 0; row < rows_; row++) {
            Real const *slope = &dy[row * width], *normal = &norm.normal[row * width];
            Real mean = 0, along = 0;  // of the slopes before the weight; of them times the normalized values
            for (std::size_t i = 0; i < width; i++) {
                dweight[i] += slope[i] * normal[i];
                dbias[i] += slope[i];
                mean += slope[i] * weight[i];
                along += slope[i] * weight[i] * normal[i];
            }
            mean /= static_cast<Real>(width);
            along /= static_cast<Real>(width);
            for (std::size_t i = 0; i < width; i++)
                dx[row * width + i] = norm.scale[row] * (slope[i] * weight[i] - mean - normal[i] * along);
        }
    }

    // ---- attention, one window and head at a time

    // Calls `head(q, k, v, shares, place of the head in rows of `width`)` for each window and head. q, k and v are
    // matrices of context × width of a head in `qkv`, `shares` has context × context.
    template <class Head>
    void each_head(Real* qkv, Real* shares, Head head) const {
        std::size_t const context = sizes_.context, width = sizes_.width, part = width / sizes_.heads;
        for (std::size_t window = 0; window < rows_ / context; window++)
            for (std::size_t h = 0; h < sizes_.heads; h++) {
                Matrix<Real> const q{qkv + window * context * 3 * width + h * part, 3 * width};
                head(q, q.block(0, width), q.block(0, 2 * width), Matrix<Real>{shares, context},
                     window * context * width + h * part);
                shares += context * context;
            }
    }

    static Matrix<Real const> constant(Matrix<Real> m) { return {m.first, m.row, m.column}; }

    void attend(Layer& layer) {
        std::size_t const context = sizes_.context, width = sizes_.width, part = width / sizes_.heads;
        Real const scale = 1 / std::sqrt(static_cast<Real>(part));
        layer.shares.assign(rows_ * sizes_.heads * context, Real(0));
        layer.o.assign(rows_ * width, Real(0));
        transposed_.resize(context * part);
        each_head(layer.qkv.data(), layer.shares.data(), [&](auto q, auto k, auto v, auto shares, std::size_t place) {
            transpose(context, part, constant(k), transposed_.data());
            add_product<Real>(context, context, part, constant(q), {transposed_.data(), context}, shares);
            for (std::size_t t = 0; t < context; t++) {
                Real* const row = &shares.at(t, 0);
                Real const most = *std::max_element(row, row + t + 1);
                Real sum = 0;
                for (std::size_t s = 0; s <= t; s++)
                    sum += row[s] = std::exp(scale * (row[s] - most));
                for (std::size_t s = 0; s < context; s++)
                    row[s] = s <= t ? row[s] / sum : Real(0);
            }
            add_product<Real>(context, part, context, constant(shares), constant(v), {&layer.o[place], width});
        });
    }

    // `dqkv` is overwritten.
    void attend_backward(Layer& layer, Buffer const& d_o, Buffer& dqkv) {
        std::size_t const context = sizes_.context, width = sizes_.width, part = width / sizes_.heads;
        Real const scale = 1 / std::sqrt(static_cast<Real>(part));
        transposed_.resize(context * part);
        dqkv.assign(layer.qkv.size(), Real(0));
        each_head(layer.qkv.data(), layer.shares.data(), [&](auto q, auto k, auto v, auto shares, std::size_t place) {
            Matrix<Real> const dq{&dqkv[static_cast<std::size_t>(q.first - layer.qkv.data())], 3 * width};
            Matrix<Real const> const out{&d_o[place], width};
            add_product<Real>(context, part, context, constant(shares).transposed(), out, dq.block(0, 2 * width));
            transpose(context, part, constant(v), transposed_.data());
            slope_.assign(context * context, Real(0));
            Matrix<Real> const d{slope_.data(), context};
            add_product<Real>(context, context, part, out, {transposed_.data(), context}, d);
            for (std::size_t t = 0; t < context; t++) {
                Real mean = 0;
                for (std::size_t s = 0; s <= t; s++)
                    mean += shares.at(t, s) * d.at(t, s);
                for (std::size_t s = 0; s < context; s++)
                    d.at(t, s) = scale * shares.at(t, s) * (d.at(t, s) - mean);
            }
            add_product<Real>(context, part, context, constant(d), constant(k), dq);
            add_product<Real>(context, part, context, constant(d).transposed(), constant(q), dq.block(0, width));
        });
    }

    // ---- the loss

    // With `slope`, its derivative with respect to the logits.
    double cross_entropy(std::vector<std::uint8_t> const& text, Real* slope) const {
        std::size_t const vocabulary = sizes_.vocabulary;
        double loss = 0.0;
        std::vector<Real> shares(vocabulary);
        for (std::size_t row = 0; row < rows_; row++) {
            Real const* logits = &logits_[row * vocabulary];
            Real const most = *std::max_element(logits, logits + vocabulary);
            Real sum = 0;
            for (std::size_t i = 0; i < vocabulary; i++)
                sum += shares[i] = std::exp(logits[i] - most);
            std::size_t const next = text[token(row) + 1];
            loss += (std::log(static_cast<double>(sum)) - static_cast<double>(logits[next] - most)) /
                    static_cast<double>(rows_);
            for (std::size_t i = 0; slope != nullptr && i < vocabulary; i++)
                slope[row * vocabulary + i] = (shares[i] / sum - (i == next ? 1 : 0)) / static_cast<Real>(rows_);
        }
        return loss;
    }

    TransformerSizes sizes_;
    std::size_t embed_, position_, rows_ = 0;  // rows: windows × context
    std::vector<Layer> layers_;
    Norm norm_;
    Linear head_;
    // Kept from pass to pass, so that no memory is allocated.
    Buffer x_, branch_, last_, logits_, transposed_, slope_, dx_, below_, dh_, dqkv_;
};
