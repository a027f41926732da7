// Models, comparisons and runs that the tests share.
#pragma once

#include <gtest/gtest.h>
#include <metaadamw/torch.hpp>
#include <torch/torch.h>

#include <functional>
#include <string>
#include <vector>

namespace tests {

using metaadamw::Batch;
using metaadamw::Status;
using metaadamw::torch::Decay;
using metaadamw::torch::MetaAdamW;
using metaadamw::torch::MetaAdamWOptions;
using metaadamw::torch::Options;
using torch::Tensor;
namespace nn = torch::nn;

/// Two linear layers with a batch norm and dropout between them.
struct NetImpl : nn::Module {
    explicit NetImpl(double dropout_ = 0.2) : dropout(dropout_) {
        first = register_module("first", nn::Linear(4, 16));
        norm = register_module("norm", nn::BatchNorm1d(16));
        last = register_module("last", nn::Linear(16, 1));
    }
    Tensor forward(Tensor const& x) {
        mask = torch::dropout(torch::ones({x.size(0), 16}), dropout, is_training());
        return last(torch::relu(norm(first(x))) * mask);
    }
    double dropout;
    Tensor mask;
    nn::Linear first{nullptr}, last{nullptr};
    nn::BatchNorm1d norm{nullptr};
};
TORCH_MODULE(Net);

/// Three batches of one task.
struct Data {
    Data() {
        for (int i = 0; i < 3; i++) {
            x.push_back(torch::randn({32, 4}));
            y.push_back(x.back().sin().sum(1, true));
        }
    }
    Tensor loss(Net& net, std::size_t i) const { return torch::mse_loss(net(x[i]), y[i]); }
    Tensor loss(Net& net, Batch batch) const { return loss(net, static_cast<std::size_t>(batch) - 1); }
    std::vector<Tensor> x, y;
};

/// Plain AdamW.
inline Options unmodulated() {
    Options options;
    options.modulation = false;
    return options;
}

inline Options every(std::uint64_t steps) {
    Options options;
    options.meta_interval = steps;
    options.meta_lr = 1e-2;
    return options;
}

inline std::vector<Tensor> copies(std::vector<Tensor> const& tensors) {
    std::vector<Tensor> made;
    for (Tensor const& tensor : tensors)
        made.push_back(tensor.detach().clone());
    return made;
}

inline void expect_equal(std::vector<Tensor> const& a, std::vector<Tensor> const& b) {
    ASSERT_EQ(a.size(), b.size());
    for (std::size_t i = 0; i < a.size(); i++)
        EXPECT_TRUE(torch::equal(a[i], b[i])) << "tensor " << i << ", difference "
                                              << (a[i] - b[i]).abs().max().item<double>();
}

inline double distance(std::vector<Tensor> const& a, std::vector<Tensor> const& b) {
    double most = 0;
    for (std::size_t i = 0; i < a.size(); i++)
        most = std::max(most, (a[i].detach().to(torch::kDouble) - b[i].detach().to(torch::kDouble))
                                  .abs()
                                  .max()
                                  .item<double>());
    return most;
}

/// The status and the text of the error that `call` throws.
inline void expect_error(Status status, std::string const& text, std::function<void()> const& call) {
    try {
        call();
        ADD_FAILURE() << "no error; expected " << text;
    } catch (metaadamw::Error const& error) {
        EXPECT_EQ(error.status(), status) << error.what();
        EXPECT_NE(std::string(error.what()).find(text), std::string::npos) << error.what();
    }
}

inline void train(Net& net, Data const& data, MetaAdamW& optimizer, int steps) {
    for (int i = 0; i < steps; i++) {
        optimizer.zero_grad();
        data.loss(net, std::size_t(i) % 2).backward();
        optimizer.step();
        if (optimizer.meta_due())
            optimizer.meta_update([&](Batch batch) { return data.loss(net, batch); });
    }
}

}  // namespace tests
