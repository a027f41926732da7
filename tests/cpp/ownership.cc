// Moving, releasing, destroying.
#include "toy.hpp"

#include <gtest/gtest.h>

#include <type_traits>

using metaadamw::Optimizer;
using metaadamw::Status;

metaadamw::Optimizer made_elsewhere(Toy& toy);

static_assert(!std::is_copy_constructible_v<Optimizer> && !std::is_copy_assignable_v<Optimizer>);
static_assert(std::is_nothrow_move_constructible_v<Optimizer> && std::is_nothrow_move_assignable_v<Optimizer>);

TEST(Ownership, AnOptimizerOfAnotherTranslationUnitGoesOn) {
    Toy toy;
    Optimizer optimizer = made_elsewhere(toy);
    toy.train(optimizer, 1);
    EXPECT_EQ(optimizer.step_count(), 2u);
    EXPECT_EQ(optimizer.meta_result().outcome, metaadamw::Outcome::updated);
}

TEST(Ownership, AMovedOptimizerTrainsOnWithItsBuffersAndItsLog) {
    Toy toy;
    int heard = 0;
    auto first = toy.optimizer();
    first.set_log([&](metaadamw::LogLevel, std::string_view) { heard++; });
    toy.train(first, 1);
    Optimizer second(std::move(first));
    toy.train(second, 1);
    Optimizer third;
    third = std::move(second);
    toy.train(third, 1);
    EXPECT_EQ(third.step_count(), 3u);
    toy.weight_gradient[0] = std::numeric_limits<float>::infinity();
    EXPECT_TRUE(third.step().skipped);
    EXPECT_EQ(heard, 1);
}

TEST(Ownership, AnOptimizerThatWasMovedFromFailsInEveryCall) {
    Toy toy;
    auto optimizer = toy.optimizer();
    Optimizer const kept(std::move(optimizer));
    EXPECT_EQ(optimizer.capi(), nullptr);
    EXPECT_FALSE(optimizer.meta_due());
    EXPECT_EQ(optimizer.try_step().status(), Status::invalid_argument);
    EXPECT_EQ(optimizer.try_prepare().status(), Status::invalid_argument);
    EXPECT_EQ(optimizer.try_add_param_group({}, toy.tensors()).status(), Status::invalid_argument);
    EXPECT_EQ(optimizer.try_meta_update([](metaadamw::Request const&) { return 0.0; }).status(),
              Status::invalid_argument);
    EXPECT_EQ(optimizer.try_factors().status(), Status::invalid_argument);
    EXPECT_EQ(optimizer.try_rebind(0, toy.weight.data(), nullptr).status(), Status::not_found);
    EXPECT_EQ(optimizer.try_tensor_index("layers.0.bias").status(), Status::not_found);
    EXPECT_EQ(optimizer.try_set_log(nullptr).status(), Status::invalid_argument);
    optimizer = toy.optimizer();
    toy.train(optimizer, 1);
    EXPECT_EQ(optimizer.step_count(), 1u);
    EXPECT_EQ(kept.step_count(), 0u);
}

TEST(Ownership, AReleasedHandleIsTheCallersAndHasNoLog) {
    Toy toy;
    maw_optimizer* handle = nullptr;
    {
        auto optimizer = toy.optimizer();
        optimizer.set_log([](metaadamw::LogLevel, std::string_view) { FAIL() << "the log is gone"; });
        toy.train(optimizer, 1);
        ASSERT_EQ(optimizer.capi(), static_cast<Optimizer const&>(optimizer).capi());
        handle = optimizer.capi_release();
        EXPECT_EQ(optimizer.capi(), nullptr);
        EXPECT_TRUE(optimizer.params().empty());
    }
    std::uint64_t steps = 0;
    EXPECT_EQ(maw_step_count(handle, &steps, nullptr), MAW_OK);
    EXPECT_EQ(steps, 1u);
    toy.weight_gradient[0] = std::numeric_limits<float>::infinity();
    void* const params[] = {toy.weight.data(), toy.bias.data()};
    void const* const gradients[] = {toy.weight_gradient.data(), toy.bias_gradient.data()};
    EXPECT_EQ(maw_step(handle, params, gradients, 2, nullptr, nullptr, nullptr), MAW_OK);
    EXPECT_EQ(maw_optimizer_free(handle), MAW_OK);
}

TEST(Ownership, TheCHandleAndItsPointerArraysGoIntoTheCFunctions) {
    Toy toy;
    auto optimizer = toy.optimizer();
    toy.backward(0.1);
    auto const& params = optimizer.params();
    EXPECT_EQ(maw_step(optimizer.capi(), params.data(), optimizer.gradients().data(), params.size(), nullptr, nullptr,
                       nullptr),
              MAW_OK);
    EXPECT_EQ(optimizer.step_count(), 1u);
}
