// Steps: the same as torch's AdamW, and everything around parameters and gradients that the adapter sees to.
#include "common.hpp"

using namespace tests;

namespace {

std::vector<Tensor> leaves(torch::TensorOptions options = torch::kFloat) {
    torch::manual_seed(3);
    std::vector<Tensor> made;
    for (auto shape : std::vector<std::vector<std::int64_t>>{{7, 5}, {5}, {2, 3, 4, 5}, {}})
        made.push_back(torch::randn(shape, options).requires_grad_());
    made.push_back(torch::randn({6, 4}, options).t().detach().requires_grad_());  // columns first
    made.push_back(torch::randn({2, 3, 4, 5}, options).contiguous(at::MemoryFormat::ChannelsLast).requires_grad_());
    return made;
}

/// The same gradients for both, in another memory order than the parameters where `i` is odd.
void give_gradients(std::vector<Tensor>& a, std::vector<Tensor>& b, int i) {
    for (std::size_t t = 0; t < a.size(); t++) {
        Tensor gradient = torch::randn(a[t].sizes(), a[t].options().requires_grad(false)) * std::pow(10.0, i % 5 - 3);
        if (i % 2 == 1 && gradient.dim() == 4)
            gradient = gradient.contiguous(at::MemoryFormat::ChannelsLast);
        if (i % 2 == 1 && gradient.dim() == 2)
            gradient = gradient.t().contiguous().t();
        a[t].mutable_grad() = gradient;
        b[t].mutable_grad() = gradient.clone();
    }
}

void follows_adamw(torch::Dtype dtype, double tolerance) {
    auto ours = leaves(dtype), theirs = copies(ours);
    for (std::size_t t = 0; t < theirs.size(); t++) {
        ASSERT_EQ(theirs[t].strides(), ours[t].strides());
        theirs[t].requires_grad_();
    }
    auto const betas = std::make_tuple(0.8, 0.99);
    MetaAdamW optimizer(ours, MetaAdamWOptions(1e-2).weight_decay(0.1).betas(betas).eps(1e-6), unmodulated());
    torch::optim::AdamW reference(theirs, torch::optim::AdamWOptions(1e-2).weight_decay(0.1).betas(betas).eps(1e-6));
    torch::optim::StepLR schedule(optimizer, 100, 0.5), reference_schedule(reference, 100, 0.5);
    for (int i = 0; i < 500; i++) {
        give_gradients(ours, theirs, i);
        optimizer.step();
        reference.step();
        schedule.step();
        reference_schedule.step();
        ASSERT_LE(distance(ours, theirs), tolerance) << "step " << i;
    }
    EXPECT_EQ(optimizer.core().lr(), reference.param_groups()[0].options().get_lr());
    EXPECT_LT(optimizer.core().lr(), 1e-3);
}

TEST(Steps, FollowTorchsAdamWOver500StepsInAnyMemoryOrder) { follows_adamw(torch::kFloat, 1e-5); }

TEST(Steps, FollowTorchsAdamWInFloat64) { follows_adamw(torch::kDouble, 1e-12); }

TEST(Steps, AreAdamWsUntilTheFirstMetaUpdate) {
    auto ours = leaves(), theirs = copies(ours);
    for (auto& tensor : theirs)
        tensor.requires_grad_();
    MetaAdamW optimizer(ours, MetaAdamWOptions(1e-2));
    torch::optim::AdamW reference(theirs, torch::optim::AdamWOptions(1e-2));
    for (int i = 0; i < 50; i++) {
        give_gradients(ours, theirs, i);
        optimizer.step();
        reference.step();
    }
    EXPECT_LE(distance(ours, theirs), 1e-5);
    EXPECT_EQ(optimizer.core().factors().front().alpha, 1);
}

TEST(Steps, AnOldGraphIsRefusedByItsBackwardPassAsWithTorchsOptimizers) {
    Net net(0.0);
    Data data;
    MetaAdamW optimizer(*net);
    Tensor const loss = data.loss(net, 0);
    loss.backward({}, /*retain_graph=*/true);
    optimizer.step();
    EXPECT_THROW(loss.backward(), c10::Error);
    data.loss(net, 0).backward();
}

TEST(Steps, ASkippedStepLeavesGraphsValid) {
    Net net(0.0);
    Data data;
    MetaAdamW optimizer(*net);
    Tensor const loss = data.loss(net, 0);
    loss.backward({}, /*retain_graph=*/true);
    net->first->weight.mutable_grad()[0][0] = NAN;
    optimizer.step();
    EXPECT_TRUE(optimizer.core().step_report().skipped);
    loss.backward();
}

TEST(Steps, WritesByOthersAreNoticedByTheVersionCounter) {
    auto options = unmodulated();
    options.verify_params = true;
    Net net;
    Data data;
    MetaAdamW optimizer(*net, {}, options);
    train(net, data, optimizer, 2);
    {
        torch::NoGradGuard const no_graph;
        net->last->weight.mul_(2);
    }
    train(net, data, optimizer, 2);
    net->last->weight.set_data(net->last->weight.detach() * 2);
    train(net, data, optimizer, 2);
    net->last->weight.data().mul_(2);  // not counted by torch
    expect_error(Status::params_changed, "last.weight", [&] { train(net, data, optimizer, 1); });
}

TEST(Steps, MastersKeepWhatSixteenBitsLoseAndOnlyAChangedTensorGetsNewOnes) {
    auto a = torch::ones({64}, torch::kBFloat16).requires_grad_(), b = torch::ones({64}, torch::kBFloat16).requires_grad_();
    MetaAdamW optimizer(std::vector<Tensor>{a, b},
                        MetaAdamWOptions(1e-4).weight_decay(0).precision(metaadamw::Precision::master), unmodulated());
    auto const step = [&] {
        for (Tensor& tensor : {std::ref(a), std::ref(b)})
            tensor.mutable_grad() = torch::ones({64}, torch::kBFloat16);
        optimizer.step();
    };
    for (int i = 0; i < 10; i++)
        step();
    EXPECT_NEAR(optimizer.core().masters(0)[0], 1 - 10e-4, 1e-6);
    {
        torch::NoGradGuard const no_graph;
        b.fill_(3);
    }
    step();
    EXPECT_NEAR(optimizer.core().masters(0)[0], 1 - 11e-4, 1e-6) << "of a tensor that nobody changed";
    EXPECT_NEAR(optimizer.core().masters(1)[0], 3 - 1e-4, 1e-6);
    for (int i = 0; i < 40; i++)
        step();
    EXPECT_LT(a[0].item<float>(), 1.0F) << "fifty steps of 1e-4 are more than half a unit in the last place";
}

TEST(Steps, Float16GradientsAreDividedByTheScale) {
    auto ours = torch::ones({64}, torch::kHalf).requires_grad_();
    MetaAdamW optimizer(std::vector<Tensor>{ours}, MetaAdamWOptions(0.1).weight_decay(0), unmodulated());
    optimizer.set_grad_scale(1024);
    ours.mutable_grad() = torch::full({64}, 512.0, torch::kHalf);
    optimizer.step();
    EXPECT_NEAR(optimizer.core().step_report().grad_norm, 4, 1e-6);
    EXPECT_NEAR(ours[0].item<float>(), 0.9, 1e-3);
}

TEST(Steps, GradientsMayAppearAndVanish) {
    Net net;
    Data data;
    MetaAdamW optimizer(*net);
    train(net, data, optimizer, 3);
    auto const before = copies(net->parameters());
    for (auto& param : net->parameters())
        param.mutable_grad() = Tensor();
    net->last->weight.mutable_grad() = torch::ones_like(net->last->weight);
    optimizer.step();
    auto const now = net->named_parameters();
    for (std::size_t i = 0; i < now.size(); i++)
        EXPECT_EQ(torch::equal(now[i].value(), before[i]), now[i].key() != "last.weight") << now[i].key();
    EXPECT_EQ(optimizer.core().tensor_state<float>(optimizer.core().tensor_index("last.weight")).step, 4u);
    EXPECT_EQ(optimizer.core().tensor_state<float>(optimizer.core().tensor_index("last.bias")).step, 3u);
}

TEST(Steps, AccumulatedGradientsAreOneGradient) {
    torch::manual_seed(5);
    Data data;
    Net net(0.0), twin(0.0);
    net->eval();
    twin->eval();
    for (std::size_t i = 0; i < net->parameters().size(); i++)
        twin->parameters()[i].set_data(net->parameters()[i].detach().clone());
    MetaAdamW optimizer(*net), reference(*twin);
    for (int i = 0; i < 5; i++) {
        optimizer.zero_grad();
        data.loss(net, 0).backward();
        data.loss(net, 1).backward();
        optimizer.step();
        reference.zero_grad();
        (data.loss(twin, 0) + data.loss(twin, 1)).backward();
        reference.step();
    }
    EXPECT_LE(distance(net->parameters(), twin->parameters()), 1e-5);
}

TEST(Steps, FrozenParametersStayAndLearnOnceTheyAreUnfrozen) {
    Net net;
    Data data;
    net->first->weight.set_requires_grad(false);
    MetaAdamW optimizer(*net, {}, every(2));
    Tensor const before = net->first->weight.detach().clone();
    train(net, data, optimizer, 4);
    EXPECT_TRUE(torch::equal(net->first->weight, before));
    net->first->weight.set_requires_grad(true);
    train(net, data, optimizer, 1);
    EXPECT_FALSE(torch::equal(net->first->weight, before));
    EXPECT_EQ(optimizer.core().tensor_state<float>(0).step, 1u);
}

TEST(Steps, AHeadMayBeAddedAndRemovedInARun) {
    Net net;
    Data data;
    MetaAdamW optimizer(*net, MetaAdamWOptions(1e-2), every(4));
    train(net, data, optimizer, 6);
    auto const moments = optimizer.core().tensor_state<float>(0);
    nn::Linear head(1, 2);
    optimizer.attach(*head, "head.");
    optimizer.add_param_group(torch::optim::OptimizerParamGroup(head->parameters()));
    EXPECT_EQ(optimizer.core().tensor_name(6), "head.weight");
    EXPECT_EQ(optimizer.core().tensor_state<float>(0).exp_avg, moments.exp_avg);
    auto const step = [&] {
        optimizer.zero_grad();
        head(net(data.x[0])).pow(2).mean().backward();
        optimizer.step();
    };
    Tensor const before = head->weight.detach().clone();
    step();
    EXPECT_FALSE(torch::equal(head->weight, before));
    EXPECT_EQ(optimizer.core().tensor_state<float>(6).step, 1u);
    EXPECT_EQ(optimizer.core().tensor_state<float>(0).step, 7u);
    optimizer.meta_update([&](Batch batch) { return data.loss(net, batch) + head->weight.pow(2).sum(); });

    auto& group = optimizer.param_groups()[1].params();
    group.pop_back();  // the bias
    Tensor const bias = head->bias.detach().clone(), weight = head->weight.detach().clone();
    step();
    EXPECT_TRUE(torch::equal(head->bias, bias));
    EXPECT_FALSE(torch::equal(head->weight, weight));
    EXPECT_EQ(optimizer.core().tensor_count(), 7u);
    optimizer.param_groups()[0].params().push_back(head->bias);
    step();
    EXPECT_EQ(optimizer.core().tensor_name(7), "head.bias");
    EXPECT_EQ(optimizer.core().tensor_state<float>(7).step, 1u);
    EXPECT_FALSE(torch::equal(head->bias, bias));
}

TEST(Steps, BetasAndEpsMayChangeInARun) {
    auto ours = leaves(), theirs = copies(ours);
    for (auto& tensor : theirs)
        tensor.requires_grad_();
    MetaAdamW optimizer(ours, MetaAdamWOptions(1e-2), unmodulated());
    torch::optim::AdamW reference(theirs, torch::optim::AdamWOptions(1e-2));
    for (int i = 0; i < 20; i++) {
        if (i == 10) {
            auto const betas = std::make_tuple(0.5, 0.9);
            static_cast<MetaAdamWOptions&>(optimizer.param_groups()[0].options()).betas(betas).eps(1e-3);
            static_cast<torch::optim::AdamWOptions&>(reference.param_groups()[0].options()).betas(betas).eps(1e-3);
        }
        give_gradients(ours, theirs, i);
        optimizer.step();
        reference.step();
    }
    EXPECT_LE(distance(ours, theirs), 1e-5);
    static_cast<MetaAdamWOptions&>(optimizer.param_groups()[0].options()).precision(metaadamw::Precision::stochastic);
    expect_error(Status::unsupported, "precision", [&] { optimizer.step(); });
}

/// A linear layer whose weight is that of another.
struct TiedImpl : nn::LinearImpl {
    explicit TiedImpl(Tensor const& other) : nn::LinearImpl(nn::LinearOptions(4, 4).bias(false)) {
        parameters_["weight"] = weight = other;
    }
};
TORCH_MODULE(Tied);

TEST(Steps, TiedParametersAreRegisteredOnceAndUpdatedOnce) {
    nn::Linear first(nn::LinearOptions(4, 4).bias(false));
    nn::Sequential model(first, Tied(first->weight));
    Tensor const before = first->weight.detach().clone();
    MetaAdamW optimizer(*model, MetaAdamWOptions(1e-2).weight_decay(0), unmodulated());
    EXPECT_EQ(optimizer.core().tensor_count(), 1u);
    EXPECT_EQ(optimizer.core().tensor_name(0), "0.weight");
    model->forward(torch::ones({2, 4})).sum().backward();
    optimizer.step();
    EXPECT_NEAR((first->weight - before).abs().max().item<double>(), 1e-2, 1e-5) << "one step of lr";

    MetaAdamW from_list(std::vector<Tensor>{first->weight, first->weight});
    EXPECT_EQ(from_list.core().tensor_count(), 1u);
}

TEST(Steps, WhatCannotBeUpdatedIsRefusedByName) {
    auto table = nn::Embedding(nn::EmbeddingOptions(10, 4).sparse(true));
    MetaAdamW optimizer(*table);
    table(torch::tensor({1, 2})).sum().backward();
    auto const before = table->weight.detach().clone();
    expect_error(Status::unsupported, "'weight' has a sparse gradient", [&] { optimizer.step(); });
    EXPECT_TRUE(torch::equal(table->weight, before));
    EXPECT_EQ(optimizer.core().step_count(), 0u);

    auto const refused = [](Tensor const& tensor, Status status, char const* text) {
        expect_error(status, text, [&] { MetaAdamW made(std::vector<Tensor>{tensor.requires_grad_()}); });
    };
    refused(torch::zeros({3}, torch::kComplexFloat), Status::unsupported, "'param_group0_0' has elements of type Complex");
    refused(torch::zeros({8}).slice(0, 0, 8, 2).detach(), Status::unsupported, "'param_group0_0' has gaps");
    refused(torch::zeros({1}).expand({4}).detach(), Status::unsupported, "'param_group0_0' has gaps or overlaps");

    auto param = torch::zeros({4, 4}).requires_grad_();
    MetaAdamW other(std::vector<Tensor>{param});
    param.mutable_grad() = torch::zeros({4});
    expect_error(Status::invalid_argument, "another type, device or shape", [&] { other.step(); });
    param.mutable_grad() = Tensor();
    param.set_data(torch::zeros({4, 4}, torch::kBFloat16));
    expect_error(Status::invalid_argument, "'param_group0_0' has become BFloat16", [&] { other.step(); });
    param.set_data(torch::zeros({2, 8}));
    expect_error(Status::invalid_argument, "another shape", [&] { other.step(); });
    param.set_data(torch::zeros({4, 4}).t());
    expect_error(Status::invalid_argument, "another memory order", [&] { other.step(); });
}

}  // namespace
