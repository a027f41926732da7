// The table "With libtorch" of docs/performance.md: training steps of a Transformer encoder of 3 M and of 30 M parameters,
// with 1 and with 2 threads, by torch's AdamW and by the adapter (modulation off and on). Times of one row are of one
// process, whose contestants take turns; peak memory is of a process for each.
#include <metaadamw/torch.hpp>
#include <torch/torch.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace {

namespace nn = torch::nn;
using metaadamw::torch::MetaAdamW;
using metaadamw::torch::MetaAdamWOptions;

struct Size {
    char const* name;
    int width, layers, steps;
};
constexpr Size sizes[] = {{"3 M", 256, 4, 25}, {"30 M", 512, 10, 9}};

struct ModelImpl : nn::Module {
    explicit ModelImpl(Size const& size) {
        auto const layer =
            nn::TransformerEncoderLayerOptions(size.width, 8).dim_feedforward(4 * size.width).dropout(0.1);
        encoder = register_module("encoder", nn::TransformerEncoder(nn::TransformerEncoderOptions(layer, size.layers)));
        head = register_module("head", nn::Linear(size.width, 1));
    }
    nn::TransformerEncoder encoder{nullptr};
    nn::Linear head{nullptr};
};
TORCH_MODULE(Model);

enum Kind { theirs, plain, modulated };

/// A model with an optimizer; 32 series of 8 tokens.
struct Contestant {
    Contestant(Size const& size, Kind kind) : model(size) {
        torch::manual_seed(1);
        x = torch::randn({32, 8, size.width});
        auto const options = torch::optim::AdamWOptions(1e-4);
        if (kind == theirs) {
            optimizer = std::make_unique<torch::optim::AdamW>(model->parameters(), options);
            return;
        }
        metaadamw::torch::Options ours;
        ours.modulation = kind == modulated;
        ours.meta_interval = 1'000'000;
        auto made = std::make_unique<MetaAdamW>(*model, options, ours);
        adapter = made.get();
        optimizer = std::move(made);
    }

    torch::Tensor loss() { return model->head(model->encoder(x)).pow(2).mean(); }
    void gradients() {
        optimizer->zero_grad();
        loss().backward();
    }
    void meta_update() {
        adapter->meta_update([&](metaadamw::Batch) { return loss(); });
    }

    Model model;
    torch::Tensor x;
    std::unique_ptr<torch::optim::Optimizer> optimizer;
    MetaAdamW* adapter = nullptr;
};

double milliseconds(std::function<void()> const& work) {
    auto const start = std::chrono::steady_clock::now();
    work();
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

double median(std::vector<double> values) {
    std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
    return values[values.size() / 2];
}

/// The library's step by itself, at the addresses that the adapter would pass.
void bare_step(MetaAdamW& adapter) {
    std::vector<void*> params;
    std::vector<void const*> gradients;
    for (auto const& param : adapter.param_groups()[0].params()) {
        params.push_back(param.data_ptr());
        gradients.push_back(param.grad().data_ptr());
    }
    auto* const handle = adapter.core().capi();
    if (maw_step(handle, params.data(), gradients.data(), params.size(), nullptr, nullptr, nullptr) != MAW_OK)
        std::abort();
}

void times(Size const& size, int threads) {
    std::array<Contestant, 3> all{Contestant(size, theirs), Contestant(size, plain), Contestant(size, modulated)};
    std::array<std::vector<double>, 3> whole, step;
    for (int i = -2; i < size.steps; i++)
        for (std::size_t c = 0; c < 3; c++) {
            double const backward = milliseconds([&] { all[c].gradients(); });
            double const update = milliseconds([&] { all[c].optimizer->step(); });
            if (i >= 0) {
                whole[c].push_back(backward + update);
                step[c].push_back(update);
            }
        }
    std::vector<double> meta, adapter, bare;
    for (int i = 0; i < 5; i++)
        meta.push_back(milliseconds([&] { all[modulated].meta_update(); }));
    all[modulated].gradients();
    for (int i = 0; i < 40; i++) {
        adapter.push_back(milliseconds([&] { all[modulated].optimizer->step(); }));
        bare.push_back(milliseconds([&] { bare_step(*all[modulated].adapter); }));
    }
    double const overhead = median(adapter) - median(bare), training = median(whole[modulated]);
    std::printf("| %s, %d | %.1f | %.3f | %.3f | %.2f | %.2f | %.2f | %.2f | %.2f |", size.name, threads,
                median(whole[theirs]), median(whole[plain]) / median(whole[theirs]), training / median(whole[theirs]),
                median(step[theirs]), median(step[plain]), median(step[modulated]), median(meta) / training,
                100 * overhead / training);
    std::fflush(stdout);
}

/// The process's peak, in MB, after a few steps and, where there is one, a meta-update.
void memory(Size const& size, Kind kind, bool with_meta) {
    Contestant contestant(size, kind);
    for (int i = 0; i < 3; i++) {
        contestant.gradients();
        contestant.optimizer->step();
    }
    if (with_meta)
        contestant.meta_update();
    std::ifstream status("/proc/self/status");
    for (std::string line; std::getline(status, line);)
        if (line.rfind("VmHWM:", 0) == 0)
            std::printf(" %ld", std::atol(line.c_str() + 6) / 1024);
}

}  // namespace

/// Without arguments: the table, each cell by a process of its own.
int main(int count, char** arguments) {
    if (count == 1) {
        std::printf("| parameters, threads | AdamW: training step, ms | off / AdamW | on / AdamW | step: AdamW, ms | off "
                    "| on | meta-update, training steps | adapter's own, %% of a training step | peak MB: AdamW, off, on, "
                    "with a meta-update |\n|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n");
        for (std::string const size : {"0", "1"})
            for (std::string const threads : {"1", "2"}) {
                std::fflush(stdout);
                for (std::string const what : {"times", "0", "1", "2", "3"})
                    if (std::system((std::string(arguments[0]) + " " + size + " " + threads + " " + what).c_str()) != 0)
                        return 1;
                std::printf(" |\n");
            }
        return 0;
    }
    Size const& size = sizes[std::atoi(arguments[1])];
    int const threads = std::atoi(arguments[2]);
    torch::set_num_threads(threads);
    if (std::string(arguments[3]) == "times")
        times(size, threads);
    else
        memory(size, static_cast<Kind>(std::min(2, std::atoi(arguments[3]))), arguments[3][0] == '3');
}
