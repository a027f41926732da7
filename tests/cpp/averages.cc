// Learning from steps alone, and the averages of the parameters.
#include "toy.hpp"

#include <gtest/gtest.h>

#include <stdexcept>
#include <type_traits>
#include <utility>

using metaadamw::Optimizer;
using metaadamw::Status;

namespace {

metaadamw::Options horizon() {
    auto options = metaadamw::Options::horizon();
    options.horizon_steps = 4;
    options.meta_warmup = 2;
    options.threads = 1;
    return options;
}

static_assert(std::is_nothrow_destructible_v<Optimizer::Averaged>);
static_assert(!std::is_copy_constructible_v<Optimizer::Averaged>);

}  // namespace

TEST(Horizon, TheAttentionModuleLearnsFromStepsAlone) {
    Toy toy;
    auto optimizer = toy.optimizer(horizon());
    toy.train(optimizer, 1);
    EXPECT_EQ(optimizer.factors()[0].alpha, 1.0) << "it begins as AdamW";
    for (int step = 0; step < 40; step++) {
        toy.train(optimizer, 1);
        EXPECT_FALSE(optimizer.meta_due());
    }
    EXPECT_NE(optimizer.factors()[0].alpha, 1.0);
    auto const result = optimizer.meta_result();
    EXPECT_EQ(result.outcome, metaadamw::Outcome::updated);
    EXPECT_EQ(result.updates, (41u - 2u) / 5u);
    EXPECT_EQ(result.evaluations, 0u);
    auto const never = [](metaadamw::Request const&) -> double { throw std::logic_error("nobody asks"); };
    EXPECT_EQ(optimizer.try_meta_update(never).status(), Status::invalid_state);
}

TEST(Horizon, TheObjectiveNeedsAdamWAndAHorizon) {
    auto options = horizon();
    options.meta_optimizer = metaadamw::MetaOptimizer::sgd;
    EXPECT_EQ(Optimizer::try_create(options).status(), Status::invalid_argument);
    options = horizon();
    options.horizon_steps = 0;
    EXPECT_EQ(Optimizer::try_create(options).status(), Status::invalid_argument);
}

TEST(Averages, AnAverageFollowsItsParameter) {
    Toy toy;
    auto options = horizon();
    options.modulation = false;  // averages alone
    auto optimizer = toy.optimizer(options);
    EXPECT_EQ(optimizer.try_average<float>(0).status(), Status::invalid_state) << "before the first step";
    std::vector<double> wanted = toy.bias;
    for (int step = 0; step < 6; step++) {
        toy.train(optimizer, 1);
        for (std::size_t i = 0; i < wanted.size(); i++)
            wanted[i] += (toy.bias[i] - wanted[i]) / 4;
    }
    auto const average = optimizer.average<double>(1);
    ASSERT_EQ(average.size(), wanted.size());
    for (std::size_t i = 0; i < wanted.size(); i++)
        EXPECT_NEAR(average[i], wanted[i], 1e-15);
    EXPECT_EQ(optimizer.average<float>(0).size(), toy.weight.size());
    EXPECT_EQ(optimizer.try_average<float>(1).status(), Status::invalid_argument) << "of a tensor of double";
    EXPECT_EQ(optimizer.try_average<float>(2).status(), Status::not_found);
}

TEST(Averages, AScopeHasThemAndLeavesTheParametersAsTheyWere) {
    Toy toy;
    auto optimizer = toy.optimizer(horizon());
    toy.train(optimizer, 5);
    auto const weight = toy.weight;
    auto const bias = toy.bias;
    {
        auto const averaged = optimizer.averaged();
        EXPECT_EQ(toy.weight, optimizer.average<float>(0));
        EXPECT_EQ(toy.bias, optimizer.average<double>(1));
        EXPECT_NE(toy.weight, weight);
        toy.weight[0] = 9;  // whatever is there is not kept
        EXPECT_EQ(optimizer.try_step().status(), Status::invalid_state);
        EXPECT_EQ(optimizer.try_averaged().status(), Status::invalid_state) << "not twice";
        EXPECT_EQ(optimizer.step_count(), 5u);
        EXPECT_TRUE(optimizer.holds_averages());
    }
    EXPECT_FALSE(optimizer.holds_averages());
    EXPECT_EQ(toy.weight, weight);
    EXPECT_EQ(toy.bias, bias);
    EXPECT_TRUE(optimizer.try_step());
}

TEST(Averages, AnExceptionBringsTheParametersBackAndTheRunIsAsUndisturbed) {
    Toy toy, undisturbed;
    auto optimizer = toy.optimizer(horizon()), other = undisturbed.optimizer(horizon());
    toy.train(optimizer, 9);
    undisturbed.train(other, 9);
    EXPECT_THROW(
        {
            auto const averaged = optimizer.averaged();
            throw std::runtime_error("no more data");
        },
        std::runtime_error);
    toy.train(optimizer, 9);
    undisturbed.train(other, 9);
    EXPECT_EQ(toy.weight, undisturbed.weight);
    EXPECT_EQ(toy.bias, undisturbed.bias);
    EXPECT_EQ(optimizer.factors()[0].alpha, other.factors()[0].alpha);
}

TEST(Averages, AScopeCanBeMovedAndEndedEarly) {
    Toy toy;
    auto optimizer = toy.optimizer(horizon());
    toy.train(optimizer, 3);
    auto const weight = toy.weight;
    auto first = optimizer.averaged();
    auto second = std::move(first);
    EXPECT_NE(toy.weight, weight);
    second.swap_back();
    EXPECT_EQ(toy.weight, weight);
    second.swap_back();  // nothing more to do
    EXPECT_EQ(toy.weight, weight);
    toy.train(optimizer, 1);
    auto const third = optimizer.averaged();
    optimizer.swap_averages();  // by hand: the scope has nothing left to do
    EXPECT_TRUE(optimizer.try_step());
}

TEST(Averages, TheyComeToTheAddressesThatAreKnown) {
    Toy toy;
    auto optimizer = toy.optimizer(horizon());
    toy.train(optimizer, 3);
    auto moved = toy.weight;
    optimizer.rebind("layers.0.weight", moved.data(), toy.weight_gradient.data());
    auto const weight = toy.weight;
    optimizer.swap_averages();
    EXPECT_EQ(toy.weight, weight);
    EXPECT_EQ(moved, optimizer.average<float>(0));
    optimizer.swap_averages();
    EXPECT_EQ(moved, weight);
}

TEST(Averages, WithoutAHorizonThereAreNone) {
    Toy toy;
    auto optimizer = toy.optimizer();
    toy.train(optimizer, 1);
    EXPECT_EQ(status_of([&] { (void)optimizer.averaged(); }), Status::invalid_state);
    EXPECT_EQ(optimizer.try_swap_averages().status(), Status::invalid_state);
    EXPECT_EQ(optimizer.try_average<float>(0).status(), Status::invalid_state);
}
