// 16-bit tensors: types of elements, masters, gradients of another type.
#include "toy.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

using metaadamw::bfloat16;
using metaadamw::float16;
using metaadamw::ParamGroup;
using metaadamw::Precision;
using metaadamw::Status;

/// A program's own type, as c10::BFloat16 is.
struct OwnHalf {
    std::uint16_t x;
};
template <>
struct metaadamw::Element<OwnHalf> : metaadamw::Element<metaadamw::bfloat16> {};

namespace {

float wide(std::uint16_t bits) {
    std::uint32_t const whole = std::uint32_t{bits} << 16;
    float value;
    std::memcpy(&value, &whole, sizeof value);
    return value;
}

/// 1, -2, 0.5, 3.
std::vector<bfloat16> const start{{0x3F80}, {0xC000}, {0x3F00}, {0x4040}};

}  // namespace

TEST(Halves, MastersAreTrainedAsFloat) {
    for (auto precision : {Precision::master, Precision::remainder}) {
        auto param = start;
        std::vector<float> expected{1.0f, -2.0f, 0.5f, 3.0f}, gradient{0.1f, -0.2f, 0.3f, 0.0f};
        metaadamw::Optimizer optimizer, plain;
        optimizer.add_param_group(ParamGroup{}.lr(0.01).precision(precision),
                                  {{"layers.0.weight", param.data(), gradient.data(), {4}}});
        plain.add_param_group(ParamGroup{}.lr(0.01), {{"layers.0.weight", expected.data(), gradient.data(), {4}}});
        for (int step = 0; step < 10; step++) {
            gradient[3] = static_cast<float>(step);
            optimizer.step();
            plain.step();
        }
        EXPECT_EQ(optimizer.masters(0), expected);
        for (std::size_t i = 0; i < 4; i++)
            EXPECT_NEAR(wide(param[i].bits), expected[i], std::abs(expected[i]) / 256);
    }
}

TEST(Halves, MastersCanBeSetAndRead) {
    std::vector<float16> param(3);
    std::vector<float> const weights{1.0f, 0.1f, -2.0f};
    metaadamw::Optimizer optimizer;
    ParamGroup const group = ParamGroup{}.precision(Precision::master).moment_dtype(metaadamw::DType::bfloat16);
    EXPECT_EQ(group.precision(), Precision::master);
    EXPECT_EQ(group.moment_dtype(), metaadamw::DType::bfloat16);
    optimizer.add_param_group(group, {{"w", param.data(), static_cast<float const*>(nullptr), {3}}});
    EXPECT_EQ(optimizer.try_masters(0).status(), Status::invalid_state);
    optimizer.set_masters(0, weights);
    EXPECT_EQ(optimizer.masters(0), weights);
    EXPECT_EQ(param[0].bits, 0x3C00);
    EXPECT_EQ(param[2].bits, 0xC000);
    EXPECT_EQ(optimizer.try_set_masters(0, {1.0f}).status(), Status::invalid_argument);
    EXPECT_EQ(optimizer.try_set_masters(1, weights).status(), Status::not_found);
    EXPECT_EQ(optimizer.tensor_state<float>(0).exp_avg, std::vector<float>(3));
    EXPECT_EQ(optimizer.try_tensor_state<double>(0).status(), Status::invalid_argument);
}

TEST(Halves, ParameterAndGradientKeepTheirTypes) {
    auto param = start;
    std::vector<float> gradient(4, 0.5f);
    std::vector<bfloat16> half(4, bfloat16{0x3F00});
    metaadamw::Optimizer optimizer;
    optimizer.add_param_group({}, {{"w", param.data(), gradient.data(), {4}}});
    auto const refused = optimizer.try_set_gradient(0, half.data());
    EXPECT_EQ(refused.status(), Status::invalid_argument);
    EXPECT_NE(std::string(refused.error().what()).find("the gradient of tensor 0 was registered as float"),
              std::string::npos);
    EXPECT_EQ(optimizer.try_rebind(0, param.data(), half.data()).status(), Status::invalid_argument);
    EXPECT_EQ(optimizer.try_rebind(0, gradient.data(), gradient.data()).status(), Status::invalid_argument);
    auto moved = param;
    optimizer.rebind("w", moved.data(), gradient.data());
    optimizer.step();
    EXPECT_EQ(param[0].bits, start[0].bits);
    optimizer.rebind(0, moved.data(), nullptr);
    EXPECT_EQ(optimizer.gradients()[0], nullptr);
}

TEST(Halves, AProgramsOwnTypeIsWhatElementSays) {
    std::vector<OwnHalf> param{{0x3F80}, {0x4000}}, gradient{{0x3F80}, {0x3F80}};
    metaadamw::Optimizer optimizer;
    optimizer.add_param_group(ParamGroup{}.lr(0.5), {{"w", param.data(), gradient.data(), {2}}});
    optimizer.step();
    EXPECT_LT(wide(param[0].x), 1.0f);
}
