// Tensors that come after preparation and that go, partial loads, hyper-parameters that are set later.

#include <metaadamw.hpp>

#include <array>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

namespace {
namespace maw = metaadamw;

/// Three tensors of two elements with fixed gradients.
struct Growing {
    std::vector<std::vector<float>> params{{1, 2}, {3, 4}, {5, 6}};
    std::vector<std::vector<float>> gradients{{0.5F, -1}, {2, 0.25F}, {-1, 1}};

    maw::Tensor tensor(std::size_t t) {
        return {"layers." + std::to_string(t) + ".weight", params[t].data(), gradients[t].data(), {2}};
    }
};

std::vector<std::uint8_t> saved(maw::Optimizer& optimizer) {
    auto const bytes = optimizer.save_bytes();
    return {bytes.data(), bytes.data() + bytes.size()};
}

TEST(Growing, NewTensorsStartAtStep0AndTheRestStays) {
    Growing model;
    maw::Optimizer optimizer{maw::Options{}};
    optimizer.add_param_group(maw::ParamGroup{}, {model.tensor(0)});
    optimizer.step();
    auto const before = optimizer.tensor_state<float>(0);
    EXPECT_EQ(optimizer.add_param_group(maw::ParamGroup{}.lr(0.1), {model.tensor(1)}), 1U);
    optimizer.add_tensors(0, {model.tensor(2)});
    EXPECT_EQ(optimizer.tensor_state<float>(0).exp_avg, before.exp_avg);
    EXPECT_EQ(optimizer.tensor_state<float>(2).step, 0U);
    EXPECT_EQ(optimizer.tensor_index("layers.2.weight"), 2U);
    optimizer.step();
    EXPECT_EQ(optimizer.tensor_state<float>(0).step, 2U);
    EXPECT_EQ(optimizer.tensor_state<float>(2).step, 1U);
}

TEST(Growing, RemovingATensorMovesTheOthersUp) {
    Growing model;
    maw::Optimizer optimizer{maw::Options{}};
    optimizer.add_param_group(maw::ParamGroup{}, {model.tensor(0), model.tensor(1), model.tensor(2)});
    optimizer.step();
    auto const last = optimizer.tensor_state<float>(2);
    optimizer.remove_tensor(0);
    EXPECT_EQ(optimizer.tensor_state<float>(1).exp_avg, last.exp_avg);
    EXPECT_EQ(optimizer.tensor_index("layers.2.weight"), 1U);
    EXPECT_FALSE(optimizer.try_tensor_index("layers.0.weight"));
    auto const untouched = model.params[0];
    optimizer.step();
    EXPECT_EQ(model.params[0], untouched);
    EXPECT_EQ(optimizer.try_remove_tensor(2).error().status(), maw::Status::not_found);
    optimizer.remove_tensor(1);
    EXPECT_EQ(optimizer.try_remove_tensor(0).error().status(), maw::Status::invalid_state);
    optimizer.add_tensors(0, {model.tensor(0)});
    EXPECT_EQ(optimizer.tensor_index("layers.0.weight"), 1U);
    optimizer.step();
    EXPECT_NE(model.params[0], untouched);
}

TEST(Growing, WhatIsRefusedLeavesTheOptimizerAsItWas) {
    Growing model;
    maw::Optimizer optimizer{maw::Options{}};
    optimizer.add_param_group(maw::ParamGroup{}, {model.tensor(0)});
    optimizer.step();
    auto const before = saved(optimizer);
    EXPECT_EQ(optimizer.try_add_tensors(0, {model.tensor(1), model.tensor(0)}).error().status(),
              maw::Status::invalid_argument);
    EXPECT_EQ(optimizer.try_add_tensors(7, {model.tensor(1)}).error().status(), maw::Status::not_found);
    EXPECT_EQ(saved(optimizer), before);
    EXPECT_FALSE(optimizer.try_tensor_index("layers.1.weight"));
    optimizer.step();
}

TEST(Growing, APartialLoadTellsWhatOnlyOneOfBothHas) {
    Growing model;
    maw::Optimizer first{maw::Options{}};
    first.add_param_group(maw::ParamGroup{}, {model.tensor(0), model.tensor(1)});
    first.step();
    auto const file = saved(first);
    maw::Optimizer second{maw::Options{}};
    second.add_param_group(maw::ParamGroup{}, {model.tensor(1), model.tensor(2)});
    EXPECT_EQ(second.try_load_bytes(file.data(), file.size()).error().status(), maw::Status::mismatch);
    second.load_bytes(file.data(), file.size(), maw::Load::partial | maw::Load::file_wins);
    auto const report = second.load_report();
    EXPECT_EQ(report.missing_tensors, std::vector<std::string>{"layers.2.weight"});
    EXPECT_EQ(report.unexpected_tensors, std::vector<std::string>{"layers.0.weight"});
    EXPECT_EQ(second.tensor_state<float>(0).exp_avg, first.tensor_state<float>(1).exp_avg);
    EXPECT_EQ(second.tensor_state<float>(1).step, 0U);
    EXPECT_EQ(second.step_count(), 1U);
}

TEST(HyperParameters, CanBeSetAndRead) {
    Growing model;
    maw::Optimizer optimizer{maw::Options{}};
    optimizer.add_param_group(maw::ParamGroup{}, {model.tensor(0)});
    optimizer.add_param_group(maw::ParamGroup{}, {model.tensor(1)});
    optimizer.set_betas({0.8, 0.95});
    optimizer.set_betas(1, {0.7, 0.9});
    optimizer.set_eps(1, 1e-6);
    optimizer.set_max_grad_norm(0.5);
    EXPECT_EQ(optimizer.betas(), (std::array<double, 2>{0.8, 0.95}));
    EXPECT_EQ(optimizer.betas(1), (std::array<double, 2>{0.7, 0.9}));
    EXPECT_EQ(optimizer.eps(1), 1e-6);
    EXPECT_EQ(optimizer.max_grad_norm(), 0.5);
    EXPECT_LT(optimizer.step().clip_factor, 1.0);
    EXPECT_EQ(optimizer.try_set_eps(0, 0).error().status(), maw::Status::invalid_argument);
}

TEST(Precision, OfATensorIsNotThatOfItsGroup) {
    std::vector<std::uint16_t> matrix{0x3F80, 0x4000}, gradient{0x3F80, 0x3F80};
    std::vector<float> norm{1, 2}, norm_gradient{0.5F, 0.5F};
    maw::Optimizer optimizer{maw::Options{}};
    auto const bf16 = [&](std::string name) {
        return maw::Tensor{std::move(name), matrix.data(), gradient.data(), maw::DType::bfloat16, {2}};
    };
    optimizer.add_param_group(maw::ParamGroup{}.precision(maw::Precision::master),
                              {bf16("matrix"), {"norm", norm.data(), norm_gradient.data(), {2}}});
    optimizer.step();
    EXPECT_TRUE(optimizer.try_masters(0));
    EXPECT_FALSE(optimizer.try_masters(1));
    maw::Optimizer other{maw::Options{}};
    other.add_param_group(maw::ParamGroup{}.precision(maw::Precision::master),
                          {bf16("matrix").precision(maw::Precision::nearest)});
    other.step();
    EXPECT_FALSE(other.try_masters(0));
}

TEST(MetaUpdate, SeedsAreEqualForReplaysAlone) {
    Growing model;
    maw::Optimizer optimizer{maw::Options{}};
    optimizer.add_param_group(maw::ParamGroup{}, {model.tensor(0)});
    optimizer.step();
    std::set<std::pair<std::uint64_t, std::uint64_t>> seeds;  // of what is replayed, and the seed
    std::set<std::uint64_t> distinct;
    optimizer.meta_update([&](maw::Request const& request) {
        seeds.emplace(request.replay() ? request.replay() : request.id(), request.seed());
        distinct.insert(request.seed());
        return 1.0;
    });
    EXPECT_EQ(seeds.size(), 3U);
    EXPECT_EQ(distinct.size(), 3U);
}

}  // namespace
