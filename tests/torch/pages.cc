// The fragments of docs/libtorch.md, compiled and not run: tests/docs.rs compares them.
#include <metaadamw/torch.hpp>

namespace {

[[maybe_unused]] void learning_from_steps(torch::nn::Linear model, void (*validate)(torch::nn::LinearImpl&)) {
    metaadamw::torch::MetaAdamW optimizer(*model, metaadamw::torch::MetaAdamWOptions(1e-3),
                                          metaadamw::torch::Options::horizon());
    {
        auto const averaged = optimizer.averaged();  // the model's parameters are the averages
        model->eval();
        validate(*model);
    }                                                // the parameters again, bit for bit, also after an exception
}

}  // namespace
