// What the two models on Transformer layers share.
#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <limits>

namespace tasks {

// Tokens [examples, length] to the sums of their and their positions' embeddings, [length, examples, width]: libtorch's
// layers want the length first.
class EmbeddingsImpl : public torch::nn::Module {
  public:
    EmbeddingsImpl(std::int64_t words, std::int64_t length, std::int64_t width, double dropout) {
        words_ = register_module("words", torch::nn::Embedding(words, width));
        positions_ = register_module("positions", torch::nn::Embedding(length, width));
        dropout_ = register_module("dropout", torch::nn::Dropout(dropout));
    }

    torch::Tensor forward(torch::Tensor const& tokens) {
        auto const places = torch::arange(tokens.size(1), tokens.options());
        return dropout_(words_(tokens.t()) + positions_(places).unsqueeze(1));
    }

  private:
    torch::nn::Embedding words_{nullptr}, positions_{nullptr};
    torch::nn::Dropout dropout_{nullptr};
};
TORCH_MODULE(Embeddings);

// Added to the scores of attention: no position sees a later one.
inline torch::Tensor causal_mask(std::int64_t length, torch::Device device) {
    auto const never = -std::numeric_limits<float>::infinity();
    return torch::full({length, length}, never, torch::TensorOptions(torch::kFloat32).device(device)).triu(1);
}

// The cross-entropy of scores [.., words] and the words [..] that come next, as a mean or a sum over all of them but
// `ignored`.
template <class Reduction>
torch::Tensor next_word_loss(torch::Tensor const& scores, torch::Tensor const& next, Reduction reduction,
                             std::int64_t ignored = -100) {
    auto const options = torch::nn::functional::CrossEntropyFuncOptions().reduction(reduction).ignore_index(ignored);
    return torch::nn::functional::cross_entropy(scores.flatten(0, -2), next.flatten(), options);
}

}  // namespace tasks
