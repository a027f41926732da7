// Trains a small Transformer encoder on sums of sines with libtorch and MetaAdamW, and continues the run from a file.
#include <metaadamw/torch.hpp>
#include <torch/torch.h>

#include <cstdio>

struct ForecasterImpl : torch::nn::Module {
    ForecasterImpl() {
        auto const layer = torch::nn::TransformerEncoderLayerOptions(32, 4).dim_feedforward(64).dropout(0.1);
        embed = register_module("embed", torch::nn::Linear(1, 32));
        encoder = register_module("encoder", torch::nn::TransformerEncoder(torch::nn::TransformerEncoderOptions(layer, 2)));
        head = register_module("head", torch::nn::Linear(32, 1));
    }
    torch::Tensor forward(torch::Tensor const& x) { return head(encoder(embed(x))[-1]); }

    torch::nn::Linear embed{nullptr}, head{nullptr};
    torch::nn::TransformerEncoder encoder{nullptr};
};
TORCH_MODULE(Forecaster);

/// Series of 24 values, and the next value of each.
struct Batch {
    explicit Batch(std::int64_t series) {
        auto const phase = torch::rand({1, series}) * 6, speed = torch::rand({1, series}) * 0.5 + 0.2;
        auto const all = torch::sin(phase + speed * torch::arange(25).unsqueeze(1)).unsqueeze(2);
        x = all.slice(0, 0, 24);
        y = all[24];
    }
    torch::Tensor x, y;
};

int main() {
    torch::manual_seed(1);
    Forecaster model;
    Batch const validation(64);
    auto const loss_of = [&](Batch const& batch) { return torch::mse_loss(model(batch.x), batch.y); };

    metaadamw::torch::Options options;
    options.meta_interval = 50;
    metaadamw::torch::MetaAdamW optimizer(*model, metaadamw::torch::MetaAdamWOptions(1e-3).weight_decay(0.01), options);
    torch::optim::StepLR schedule(optimizer, 200, 0.5);

    for (int step = 0; step <= 400; step++) {
        Batch const batch(32), next(32);
        optimizer.zero_grad();
        auto const loss = loss_of(batch);
        loss.backward();
        optimizer.step();
        schedule.step();
        if (optimizer.meta_due())
            optimizer.meta_update([&](metaadamw::Batch which) {
                return loss_of(which == metaadamw::Batch::train_1   ? batch
                               : which == metaadamw::Batch::train_2 ? next
                                                                    : validation);
            });
        if (step % 100 == 0)
            std::printf("step %3d: loss %.4f, lr %.2e\n", step, loss.item<double>(), optimizer.core().lr());
    }
    for (auto const& factors : optimizer.core().factors())
        std::printf("%-24s alpha %.4f, beta %.4f\n", factors.group.c_str(), factors.alpha, factors.beta);
    torch::save(model, "model.pt");
    torch::save(optimizer, "optimizer.pt");  // torch's archive; optimizer.save("run.safetensors") is for every language
}
