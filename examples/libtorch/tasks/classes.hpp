// What the two tasks that tell classes apart share.
#pragma once

#include "task.hpp"

namespace tasks {

// Of the classes' scores [examples, classes] and the right ones [examples].
inline Score score_of_classes(torch::Tensor const& scores, torch::Tensor const& labels) {
    auto const options = torch::nn::functional::CrossEntropyFuncOptions().reduction(torch::kSum);
    return {torch::nn::functional::cross_entropy(scores, labels, options).item<double>(),
            (scores.argmax(1) == labels).sum().item<double>(), static_cast<double>(labels.size(0))};
}

}  // namespace tasks
