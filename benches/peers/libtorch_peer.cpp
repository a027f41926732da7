// libtorch's AdamW as a peer of benches/peers.rs: 3 M float32 parameters in 40 tensors, so many threads as told.
// Prints the median of 30 steps in milliseconds as JSON.
#include <torch/torch.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <vector>

int main(int argc, char** argv) {
    constexpr int tensors = 40, length = 75'000, warm_up = 5, steps = 30;
    torch::set_num_threads(argc > 1 ? std::atoi(argv[1]) : 1);
    std::vector<torch::Tensor> params;
    for (int i = 0; i < tensors; i++) {
        params.push_back(torch::full({length}, 0.1, torch::requires_grad()));
        params.back().mutable_grad() = (torch::arange(length) * 37 % 101).to(torch::kFloat) * 1e-3 - 0.05;
    }
    torch::optim::AdamW optimizer(params, torch::optim::AdamWOptions(5e-4).weight_decay(1e-2));
    std::vector<double> times;
    for (int i = 0; i < warm_up + steps; i++) {
        auto const start = std::chrono::steady_clock::now();
        optimizer.step();
        std::chrono::duration<double, std::milli> const time = std::chrono::steady_clock::now() - start;
        if (i >= warm_up)
            times.push_back(time.count());
    }
    std::nth_element(times.begin(), times.begin() + steps / 2, times.end());
    std::printf("{\"libtorch\": \"%s\", \"milliseconds\": %.4f}\n", TORCH_VERSION, times[steps / 2]);
}
