// Learning from steps alone, and the averages of the parameters.
#include "common.hpp"

#include <sstream>
#include <stdexcept>

using namespace tests;

namespace {

Options horizon() {
    Options options = Options::horizon();
    options.horizon_steps = 4;
    options.meta_warmup = 2;
    return options;
}

struct Horizon : ::testing::Test {
    Horizon() { torch::manual_seed(8); }
    Data data{};
    Net net{};
    MetaAdamW optimizer{*net, MetaAdamWOptions(1e-2), horizon()};
};

TEST_F(Horizon, TheAttentionModuleLearnsWithoutAMetaUpdate) {
    train(net, data, optimizer, 1);
    EXPECT_EQ(optimizer.core().factors()[0].alpha, 1.0);
    for (int i = 0; i < 40; i++) {
        train(net, data, optimizer, 1);
        EXPECT_FALSE(optimizer.meta_due());
    }
    EXPECT_NE(optimizer.core().factors()[0].alpha, 1.0);
    EXPECT_EQ(optimizer.core().meta_result().updates, (41u - 2u) / 5u);
    expect_error(Status::invalid_state, "HORIZON",
                 [&] { optimizer.meta_update([&](Batch batch) { return data.loss(net, batch); }); });
}

TEST_F(Horizon, AnAverageFollowsItsParameterInAnyMemoryOrder) {
    for (auto const dtype : {torch::kFloat, torch::kDouble}) {
        auto const last = torch::randn({2, 3, 4, 5}, dtype).contiguous(at::MemoryFormat::ChannelsLast);
        std::vector<Tensor> const params{torch::randn({6, 4}, dtype).t().detach().requires_grad_(), last.requires_grad_()};
        MetaAdamW own(params, MetaAdamWOptions(1e-2), horizon());
        auto wanted = copies(params);
        for (int i = 0; i < 6; i++) {
            for (std::size_t t = 0; t < params.size(); t++)
                params[t].mutable_grad() = torch::randn_like(params[t]);
            own.step();
            for (std::size_t t = 0; t < params.size(); t++)
                wanted[t] += (params[t].detach() - wanted[t]) / 4;
        }
        for (std::size_t t = 0; t < params.size(); t++) {
            Tensor const average = own.average(params[t]);
            EXPECT_EQ(average.scalar_type(), dtype);
            EXPECT_LE(distance({average}, {wanted[t]}), dtype == torch::kFloat ? 1e-6 : 1e-14);
        }
    }
    expect_error(Status::not_found, "no parameter", [&] { (void)optimizer.average(torch::randn({2})); });
}

TEST_F(Horizon, AScopeEvaluatesTheAveragesAndLeavesEverythingAsItWas) {
    train(net, data, optimizer, 7);
    auto const before = copies(net->parameters());
    Tensor const unseen = data.loss(net, 0);
    double loss = 0;
    {
        auto const averaged = optimizer.averaged();
        for (auto const& param : net->parameters())
            EXPECT_TRUE(torch::equal(param, optimizer.average(param)));
        EXPECT_GT(distance(net->parameters(), before), 0);
        net->eval();
        torch::NoGradGuard const no_graph;
        loss = data.loss(net, 2).item<double>();
        net->train();
        expect_error(Status::invalid_state, "averages", [&] { optimizer.step(); });
        expect_error(Status::invalid_state, "averages", [&] { (void)optimizer.averaged(); });
    }
    EXPECT_TRUE(std::isfinite(loss));
    expect_equal(net->parameters(), before);
    EXPECT_THROW(unseen.backward(), c10::Error) << "a graph from before is refused as after a step";
}

TEST_F(Horizon, AScopeDisturbsNoRunEvenIfItEndsByAnExceptionOrASchedulerSteps) {
    Net twin;
    for (std::size_t i = 0; i < net->parameters().size(); i++)
        twin->parameters()[i].set_data(net->parameters()[i].detach().clone());
    MetaAdamW undisturbed(*twin, MetaAdamWOptions(1e-2), horizon());
    for (int i = 0; i < 3; i++) {
        torch::manual_seed(std::uint64_t(i));
        train(net, data, optimizer, 5);
        torch::manual_seed(std::uint64_t(i));
        train(twin, data, undisturbed, 5);
        EXPECT_THROW(
            {
                auto const averaged = optimizer.averaged();
                optimizer.param_groups()[0].options().set_lr(5e-3);
                throw std::runtime_error("no more data");
            },
            std::runtime_error);
        undisturbed.param_groups()[0].options().set_lr(5e-3);
    }
    expect_equal(net->parameters(), twin->parameters());
    EXPECT_EQ(optimizer.core().factors()[0].alpha, undisturbed.core().factors()[0].alpha);
}

TEST_F(Horizon, AScopeCanBeEndedEarlyAndSaysWhatIsWrong) {
    train(net, data, optimizer, 3);
    auto const before = copies(net->parameters());
    auto first = optimizer.averaged();
    auto second = std::move(first);
    second.swap_back();
    expect_equal(net->parameters(), before);
    second.swap_back();  // nothing more to do
    expect_equal(net->parameters(), before);
    auto third = optimizer.averaged();
    Tensor const kept = net->last->bias.detach();
    net->last->bias.set_data(torch::randn({3}));
    expect_error(Status::invalid_argument, "'last.bias' has another shape", [&] { third.swap_back(); });
    net->last->bias.set_data(kept);
    third.swap_back();
    expect_equal(net->parameters(), before);
}

TEST_F(Horizon, AnArchiveBringsBackAveragesAndWhatWasLearned) {
    train(net, data, optimizer, 13);
    std::stringstream stream;
    torch::save(optimizer, stream);
    Net twin;
    for (std::size_t i = 0; i < net->parameters().size(); i++)
        twin->parameters()[i].set_data(net->parameters()[i].detach().clone());
    for (std::size_t i = 0; i < net->buffers().size(); i++)
        twin->buffers()[i].copy_(net->buffers()[i]);
    MetaAdamW resumed(*twin, MetaAdamWOptions(1e-2), horizon());
    torch::load(resumed, stream);
    torch::manual_seed(9);
    train(net, data, optimizer, 9);
    torch::manual_seed(9);
    train(twin, data, resumed, 9);
    expect_equal(net->parameters(), twin->parameters());
    for (std::size_t i = 0; i < net->parameters().size(); i++)
        EXPECT_TRUE(torch::equal(optimizer.average(net->parameters()[i]), resumed.average(twin->parameters()[i])));
}

TEST(Averages, WithoutAHorizonThereAreNone) {
    Net net;
    MetaAdamW optimizer(*net);
    train(net, Data(), optimizer, 1);
    auto const before = copies(net->parameters());
    expect_error(Status::invalid_state, "horizon", [&] { (void)optimizer.averaged(); });
    expect_error(Status::invalid_state, "horizon", [&] { (void)optimizer.average(net->parameters()[0]); });
    expect_equal(net->parameters(), before);
    train(net, Data(), optimizer, 1);
}

}  // namespace
