/// @file
/// What the optimizer reads from modules: names and layer kinds of their parameters, param groups.
#ifndef METAADAMW_TORCH_MODULES_HPP
#define METAADAMW_TORCH_MODULES_HPP

#include <metaadamw.hpp>
#include <torch/torch.h>

#include <memory>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "options.hpp"

namespace metaadamw::torch::detail {

/// The module, kept alive if a shared pointer owns it; else that is up to the caller.
inline std::shared_ptr<::torch::nn::Module> keep(::torch::nn::Module& module) {
    if (auto owned = module.weak_from_this().lock())
        return owned;
    return {&module, [](::torch::nn::Module*) {}};
}

template <class... Types>
bool is_any(::torch::nn::Module const& module) {
    return ((dynamic_cast<Types const*>(&module) != nullptr) || ...);
}

/// The one place that maps libtorch's layers to kinds; parts of an attention layer are attention.
inline LayerKind kind_of(::torch::nn::Module const& module, LayerKind outer) {
    namespace nn = ::torch::nn;
    if (outer == LayerKind::attention || is_any<nn::MultiheadAttentionImpl>(module))
        return LayerKind::attention;
    if (is_any<nn::LinearImpl, nn::BilinearImpl>(module))
        return LayerKind::linear;
    if (is_any<nn::EmbeddingImpl, nn::EmbeddingBagImpl>(module))
        return LayerKind::embedding;
    if (is_any<nn::LayerNormImpl>(module))
        return LayerKind::layernorm;
    if (is_any<nn::Conv1dImpl, nn::Conv2dImpl, nn::Conv3dImpl, nn::ConvTranspose1dImpl, nn::ConvTranspose2dImpl,
               nn::ConvTranspose3dImpl>(module))
        return LayerKind::convolution;
    if (is_any<nn::BatchNorm1dImpl, nn::BatchNorm2dImpl, nn::BatchNorm3dImpl>(module))
        return LayerKind::batchnorm;
    if (is_any<nn::RNNImpl, nn::LSTMImpl, nn::GRUImpl, nn::RNNCellImpl, nn::LSTMCellImpl, nn::GRUCellImpl>(module))
        return LayerKind::recurrent;
    return LayerKind::unknown;
}

/// The place of a parameter in its module.
struct Place {
    std::string name;
    LayerKind kind;
};
using Places = std::unordered_map<c10::TensorImpl const*, Place>;

/// Calls `visit(parameter, Place)` in the order of `named_parameters()`, once for a parameter with several names.
template <class Visit>
void walk(::torch::nn::Module const& module, std::string const& prefix, Visit&& visit) {
    std::unordered_set<c10::TensorImpl const*> seen;
    auto const descend = [&](auto const& self, ::torch::nn::Module const& at, std::string const& before,
                             LayerKind outer) -> void {
        LayerKind const kind = kind_of(at, outer);
        for (auto const& item : at.named_parameters(/*recurse=*/false))
            if (seen.insert(item.value().unsafeGetTensorImpl()).second)
                visit(item.value(), Place{before + item.key(), kind});
        for (auto const& child : at.named_children())
            self(self, *child.value(), before + child.key() + ".", kind);
    };
    descend(descend, module, prefix, LayerKind::unknown);
}

/// One param group, or under `Decay::matrices` two, of which the second has no decay.
inline std::vector<::torch::optim::OptimizerParamGroup> groups_of(::torch::nn::Module const& module,
                                                                  MetaAdamWOptions const& defaults, Decay decay) {
    std::vector<at::Tensor> decayed, others;
    walk(module, "", [&](at::Tensor const& param, Place const&) {
        (decay == Decay::all || param.dim() >= 2 ? decayed : others).push_back(param);
    });
    std::vector<::torch::optim::OptimizerParamGroup> groups;
    if (!decayed.empty())
        groups.emplace_back(std::move(decayed), std::make_unique<MetaAdamWOptions>(defaults));
    if (!others.empty())
        groups.emplace_back(std::move(others), std::make_unique<MetaAdamWOptions>(
                                                   MetaAdamWOptions(defaults).weight_decay(0)));
    return groups;
}

}  // namespace metaadamw::torch::detail

#endif
