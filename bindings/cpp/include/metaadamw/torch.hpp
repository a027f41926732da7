/// @file
///
/// # MetaAdamW for libtorch: in place of `torch::optim::AdamW`
///
/// C++17 and libtorch 1.13, or what later versions of libtorch need. metaadamw.hpp does not include this file; CMake's
/// target is `MetaAdamW::torch` (component `torch`). docs/libtorch.md is the manual.
///
/// ```cpp
/// metaadamw::torch::MetaAdamW optimizer(*model, metaadamw::torch::MetaAdamWOptions(1e-3).weight_decay(0.01));
/// for (auto& batch : *loader) {
///     optimizer.zero_grad();
///     loss_of(*model, batch).backward();
///     optimizer.step();
///     if (optimizer.meta_due())  // the batches of a meta-update; the backward pass is the optimizer's
///         optimizer.meta_update([&](metaadamw::Batch which) { return loss_of(*model, batch_for(which)); });
/// }
/// ```
///
/// With `metaadamw::torch::Options::horizon()` `step()` is all that is called, and `optimizer.averaged()` puts the
/// parameters' averages into the model for a scope.
///
/// In this namespace `torch` is `metaadamw::torch`: with `using namespace metaadamw` libtorch's is `::torch`.
#ifndef METAADAMW_TORCH_HPP
#define METAADAMW_TORCH_HPP

#include "torch/cuda.hpp"
#include "torch/modules.hpp"
#include "torch/optimizer.hpp"
#include "torch/options.hpp"
#include "torch/scope.hpp"
#include "torch/tensors.hpp"

#endif
