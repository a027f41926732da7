// What PyTorch demands of an optimizer of its C++ API: it converges, has param groups with options of their own, takes
// closures, adds groups, zeroes gradients, and obeys torch's schedulers.
#include "common.hpp"

using namespace tests;

namespace {

/// Steps until the loss on XOR stays below 0.1, at most 3,000; by closure, or not.
int steps_to_learn_xor(bool by_closure, std::function<std::unique_ptr<torch::optim::Optimizer>(nn::Sequential&)> make) {
    torch::manual_seed(0);
    nn::Sequential model(nn::Linear(2, 8), nn::Functional(torch::sigmoid), nn::Linear(8, 1), nn::Functional(torch::sigmoid));
    auto const optimizer = make(model);
    double running = 1;
    int step = 0;
    for (; step < 3000 && running > 0.1; step++) {
        Tensor const x = torch::randint(2, {16, 2}).to(torch::kFloat);
        Tensor const y = (x.select(1, 0) != x.select(1, 1)).to(torch::kFloat).unsqueeze(1);
        auto const loss_with_gradients = [&] {
            optimizer->zero_grad();
            Tensor const loss = torch::binary_cross_entropy(model->forward(x), y);
            loss.backward();
            return loss;
        };
        Tensor loss;
        if (by_closure) {
            loss = optimizer->step(loss_with_gradients);
        } else {
            loss = loss_with_gradients();
            optimizer->step();
        }
        running = 0.99 * running + 0.01 * loss.item<double>();
    }
    return step;
}

TEST(Demands, AModelLearnsXor) {
    EXPECT_LT(steps_to_learn_xor(false, [](nn::Sequential& model) {
        return std::make_unique<MetaAdamW>(*model, MetaAdamWOptions(0.1));
    }), 3000);
}

TEST(Demands, AModelLearnsXorByClosureFromAListOfTensors) {
    EXPECT_LT(steps_to_learn_xor(true, [](nn::Sequential& model) {
        return std::make_unique<MetaAdamW>(model->parameters(), MetaAdamWOptions(0.1).weight_decay(1e-6));
    }), 3000);
}

TEST(Demands, AClosureHasGradientsEvenWhereTheCallerHasNone) {
    Net net;
    Data data;
    MetaAdamW optimizer(*net);
    torch::NoGradGuard const no_graph;
    Tensor const before = net->first->weight.clone();
    Tensor const loss = optimizer.step([&] {
        Tensor const made = data.loss(net, 0);
        made.backward();
        return made;
    });
    EXPECT_GT(loss.item<double>(), 0);
    EXPECT_FALSE(torch::equal(net->first->weight, before));
}

TEST(Demands, GroupsHaveOptionsOfTheirOwnAndDefaultsWhereTheyHaveNone) {
    nn::Linear a(3, 3), b(3, 3), c(3, 3);
    std::vector<torch::optim::OptimizerParamGroup> groups;
    groups.emplace_back(a->parameters(), std::make_unique<MetaAdamWOptions>(MetaAdamWOptions(0.5).weight_decay(0)));
    groups.emplace_back(b->parameters(), std::make_unique<torch::optim::AdamWOptions>(
                                             torch::optim::AdamWOptions(0.25).betas(std::make_tuple(0.5, 0.75))));
    groups.emplace_back(c->parameters());
    MetaAdamW optimizer(groups, MetaAdamWOptions(0.125).weight_decay(0.75), unmodulated());
    EXPECT_EQ(optimizer.param_groups().size(), 3u);
    for (auto& layer : {a, b, c})
        for (auto& param : layer->parameters())
            param.mutable_grad() = torch::ones_like(param);
    Tensor const before[] = {a->bias.clone(), b->bias.clone(), c->bias.clone()};
    optimizer.step();
    EXPECT_NEAR((before[0] - a->bias).mean().item<double>(), 0.5, 1e-5);
    EXPECT_NEAR((before[1] * (1 - 0.25 * 0.01) - b->bias).mean().item<double>(), 0.25, 1e-5);
    EXPECT_NEAR((before[2] * (1 - 0.125 * 0.75) - c->bias).mean().item<double>(), 0.125, 1e-5);

    static_cast<MetaAdamWOptions&>(optimizer.param_groups()[0].options()).lr(2.0);
    optimizer.param_groups()[1].options().set_lr(0.0);
    Tensor const then[] = {a->bias.clone(), b->bias.clone()};
    optimizer.step();
    EXPECT_NEAR((then[0] - a->bias).mean().item<double>(), 2, 1e-4);
    EXPECT_TRUE(torch::equal(then[1], b->bias));
}

TEST(Demands, UnusableOptionsAreRefused) {
    nn::Linear layer(3, 3);
    auto const refused = [&](MetaAdamWOptions const& options, char const* text) {
        expect_error(Status::invalid_argument, text, [&] { MetaAdamW made(layer->parameters(), options); });
    };
    refused(MetaAdamWOptions(-1), "lr");
    refused(MetaAdamWOptions().eps(-1), "eps");
    refused(MetaAdamWOptions().weight_decay(-1), "weight_decay");
    refused(MetaAdamWOptions().betas(std::make_tuple(1.0, 0.999)), "beta1");
    refused(MetaAdamWOptions().betas(std::make_tuple(0.9, -0.5)), "beta2");
    expect_error(Status::unsupported, "amsgrad",
                 [&] { MetaAdamW made(layer->parameters(), torch::optim::AdamWOptions().amsgrad(true)); });
    std::vector<torch::optim::OptimizerParamGroup> groups;
    groups.emplace_back(layer->parameters(), std::make_unique<torch::optim::SGDOptions>(0.1));
    expect_error(Status::invalid_argument, "must be MetaAdamWOptions", [&] { MetaAdamW made(groups); });
    expect_error(Status::invalid_state, "no parameters", [] { MetaAdamW made(std::vector<Tensor>{}); });
}

TEST(Demands, ZeroGradZeroesOrRemovesAllGradients) {
    Net net;
    Data data;
    MetaAdamW optimizer(*net);
    data.loss(net, 0).backward();
    optimizer.zero_grad();
    for (auto const& param : net->parameters())
        EXPECT_TRUE(!param.grad().defined() || param.grad().abs().sum().item<double>() == 0);
}

TEST(Demands, AGroupMayBeAddedThroughTheBaseClass) {
    nn::Linear a(3, 3), b(3, 3);
    MetaAdamW optimizer(a->parameters());
    static_cast<torch::optim::Optimizer&>(optimizer).add_param_group(torch::optim::OptimizerParamGroup(b->parameters()));
    b(a(torch::ones({1, 3}))).sum().backward();
    Tensor const before = b->bias.clone();
    optimizer.step();
    EXPECT_FALSE(torch::equal(b->bias, before));
    EXPECT_EQ(optimizer.core().param_group_count(), 2u);
}

TEST(Demands, AGroupThatIsRefusedIsNotThere) {
    nn::Linear a(3, 3), b(3, 3);
    MetaAdamW optimizer(a->parameters());
    expect_error(Status::invalid_argument, "lr", [&] {
        optimizer.add_param_group({b->parameters(), std::make_unique<MetaAdamWOptions>(-1.0)});
    });
    EXPECT_EQ(optimizer.param_groups().size(), 1u);
    optimizer.add_param_group({b->parameters()});
    EXPECT_EQ(optimizer.core().tensor_count(), 4u);
    expect_error(Status::invalid_argument, "'param_group0_0' is in two param groups",
                 [&] { optimizer.add_param_group({a->parameters()}); });
    EXPECT_EQ(optimizer.param_groups().size(), 2u);
}

TEST(Demands, TorchsSchedulersSetTheLearningRate) {
    Net net;
    Data data;
    MetaAdamW optimizer(*net, MetaAdamWOptions(1.0), {}, Decay::matrices);
    ASSERT_EQ(optimizer.param_groups().size(), 2u);
    EXPECT_EQ(optimizer.core().weight_decay(0), 0.01);
    EXPECT_EQ(optimizer.core().weight_decay(1), 0);
    torch::optim::StepLR schedule(optimizer, 2, 0.5);
    for (int i = 0; i < 5; i++)
        schedule.step();
    EXPECT_EQ(optimizer.core().lr(0), 0.25);
    EXPECT_EQ(optimizer.core().lr(1), 0.25);
#if TORCH_VERSION_MAJOR >= 2
    torch::optim::ReduceLROnPlateauScheduler plateau(optimizer, torch::optim::ReduceLROnPlateauScheduler::min, 0.5F, 1);
    for (int i = 0; i < 3; i++)
        plateau.step(1.0F);
    EXPECT_EQ(optimizer.core().lr(0), 0.125);
#endif
}

}  // namespace
