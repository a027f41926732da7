// Sequences of tokens of different lengths, without padding until a batch is made.
#pragma once

#include <torch/torch.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace tasks {

class Sequences {
  public:
    void add(std::vector<std::int32_t> const& sequence) {
        tokens_.insert(tokens_.end(), sequence.begin(), sequence.end());
        ends_.push_back(tokens_.size());
    }

    // [examples, longest], padded at the end.
    [[nodiscard]] torch::Tensor padded(std::vector<std::size_t> const& examples, std::int32_t padding) const {
        std::size_t longest = 0;
        for (auto const example : examples)
            longest = std::max(longest, length(example));
        auto const rows = static_cast<std::int64_t>(examples.size());
        auto batch = torch::full({rows, static_cast<std::int64_t>(longest)}, padding, torch::kInt64);
        auto* row = batch.data_ptr<std::int64_t>();
        for (auto const example : examples) {
            auto const* first = tokens_.data() + begin(example);
            std::copy(first, first + length(example), row);
            row += longest;
        }
        return batch;
    }

    [[nodiscard]] torch::Tensor lengths(std::vector<std::size_t> const& examples) const {
        std::vector<std::int64_t> lengths;
        for (auto const example : examples)
            lengths.push_back(static_cast<std::int64_t>(length(example)));
        return torch::tensor(lengths);
    }

  private:
    [[nodiscard]] std::size_t begin(std::size_t example) const { return example == 0 ? 0 : ends_[example - 1]; }
    [[nodiscard]] std::size_t length(std::size_t example) const { return ends_.at(example) - begin(example); }

    std::vector<std::int32_t> tokens_;
    std::vector<std::size_t> ends_;
};

}  // namespace tasks
