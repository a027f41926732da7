// Addresses of parameters and gradients.
#include "toy.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>

using metaadamw::Status;

namespace {

/// The parameters after `steps` steps of a toy whose buffers move before each step if `moving`.
std::vector<float> trained(bool moving, int steps) {
    Toy toy;
    auto optimizer = toy.optimizer();
    std::vector<Toy> past;
    for (int step = 0; step < steps; step++) {
        if (moving) {
            past.push_back(toy);  // so that the new buffers are elsewhere
            std::vector<float> weight(toy.weight), gradient(toy.weight_gradient);
            toy.weight.swap(weight);
            toy.weight_gradient.swap(gradient);
            std::fill(weight.begin(), weight.end(), 1e30f);
            optimizer.rebind("layers.0.weight", toy.weight.data(), toy.weight_gradient.data());
        }
        toy.train(optimizer, 1);
    }
    return toy.weight;
}

}  // namespace

TEST(Buffers, MovedBuffersGiveTheSameBits) { EXPECT_EQ(trained(false, 5), trained(true, 5)); }

TEST(Buffers, ATensorWithoutGradientIsLeftAlone) {
    Toy toy;
    auto optimizer = toy.optimizer();
    auto const weight = toy.weight;
    auto const bias = toy.bias;
    optimizer.set_gradient("layers.0.weight", nullptr);
    toy.train(optimizer, 1);
    EXPECT_EQ(toy.weight, weight);
    EXPECT_NE(toy.bias, bias);
    optimizer.set_gradient("layers.0.weight", toy.weight_gradient.data());
    toy.train(optimizer, 1);
    EXPECT_NE(toy.weight, weight);
}

TEST(Buffers, TensorsAreFoundByNameAndByNumber) {
    Toy toy;
    auto optimizer = toy.optimizer();
    EXPECT_EQ(optimizer.tensor_index("layers.0.bias"), 1u);
    EXPECT_EQ(optimizer.tensor_name(1), "layers.0.bias");
    optimizer.set_gradient(1, nullptr);
    EXPECT_EQ(optimizer.gradients()[1], nullptr);
    optimizer.rebind(1, toy.bias.data(), toy.bias_gradient.data());
    EXPECT_EQ(optimizer.gradients()[1], toy.bias_gradient.data());
    EXPECT_EQ(status_of([&] { optimizer.set_gradient("layers.9.bias", nullptr); }), Status::not_found);
    EXPECT_EQ(status_of([&] { optimizer.set_gradient(2, nullptr); }), Status::not_found);
}

TEST(Buffers, AnotherTypeThanTheRegisteredOneIsRefused) {
    Toy toy;
    auto optimizer = toy.optimizer();
    auto const failed = optimizer.try_rebind(0, toy.bias.data(), toy.bias_gradient.data());
    EXPECT_EQ(failed.status(), Status::invalid_argument);
    EXPECT_NE(std::string(failed.error().what()).find("float"), std::string::npos);
    EXPECT_EQ(optimizer.try_set_gradient(1, toy.weight_gradient.data()).status(), Status::invalid_argument);
    EXPECT_EQ(optimizer.params()[0], toy.weight.data());
}

TEST(Buffers, ArraysScalarsAndEmptyTensorsAreTensorsToo) {
    std::array<float, 2> values{1.0f, 2.0f};
    float gradients[2] = {0.5f, 0.5f};
    double scalar = 1.0, scalar_gradient = 1.0;
    metaadamw::Optimizer optimizer;
    optimizer.add_param_group({}, {{"array", values.data(), gradients, {2}},
                                   {"scalar", &scalar, &scalar_gradient, {}},
                                   {"empty", static_cast<float*>(nullptr), nullptr, {0, 3}}});
    optimizer.step();
    EXPECT_LT(values[0], 1.0f);
    EXPECT_LT(scalar, 1.0);
}

TEST(Buffers, AnObservedGradientGivesTheSameBits) {
    Toy plain, observed;
    auto a = plain.optimizer(), b = observed.optimizer();
    for (int step = 0; step < 3; step++) {
        plain.backward(0.1);
        a.step();
        observed.backward(0.1);
        b.observe_gradient("layers.0.bias");
        b.observe_gradient(0);
        b.step();
    }
    EXPECT_EQ(plain.weight, observed.weight);
    EXPECT_EQ(plain.bias, observed.bias);
    b.set_gradient(0, nullptr);
    EXPECT_EQ(status_of([&] { b.observe_gradient(0); }), Status::invalid_argument);
    EXPECT_EQ(b.try_observe_gradient(5).status(), Status::not_found);
}

TEST(Buffers, CustomGroupsAndLayerKindsReachTheLibrary) {
    Toy toy;
    auto options = Toy::options();
    options.grouping = metaadamw::Grouping::custom;
    metaadamw::Optimizer optimizer{options};
    auto tensors = toy.tensors();
    tensors[0].modulation_group("mine").layer_kind(metaadamw::LayerKind::linear);
    tensors[1].modulation_group("yours");
    optimizer.add_param_group({}, tensors);
    optimizer.prepare();
    EXPECT_EQ(optimizer.group_count(), 2u);
    EXPECT_EQ(optimizer.group_name(0), "mine");
    EXPECT_EQ(optimizer.tensor_group(1), 1u);

    metaadamw::Optimizer fine{Toy::options()};
    auto const tensor = [](char const* name) {
        return metaadamw::Tensor(name, metaadamw::DType::float32, {2, 3});
    };
    auto attn_norm = tensor("0.attn.norm");
    attn_norm.layer_kind(metaadamw::LayerKind::layernorm).layer_index(1);
    fine.add_param_group({}, {attn_norm, tensor("3").layer_kind(metaadamw::LayerKind::convolution).layer_index(4),
                              tensor("norm").layer_kind(metaadamw::LayerKind::batchnorm),
                              tensor("x").layer_kind(metaadamw::LayerKind::recurrent)});
    fine.prepare();
    EXPECT_EQ(fine.group_name(0), "layernorm.shallow.weight");
    EXPECT_EQ(fine.group_name(1), "convolution.deep.weight");
    EXPECT_EQ(fine.group_name(2), "batchnorm.middle.weight");
    EXPECT_EQ(fine.group_name(3), "recurrent.middle.weight");

    auto const refused = metaadamw::Optimizer{}.try_add_param_group({}, {tensor("x").layer_index(1000001)});
    EXPECT_EQ(refused.status(), Status::invalid_argument);
}

#ifdef __cpp_lib_span
TEST(Buffers, SpansAreTensorsWhoseLengthsAreChecked) {
    Toy toy;
    metaadamw::Optimizer optimizer;
    EXPECT_EQ(optimizer.try_add_param_group({}, {{"w", toy.weight, toy.weight_gradient, {7}}}).status(),
              Status::invalid_argument);
    EXPECT_EQ(optimizer
                  .try_add_param_group({}, {{"w", toy.weight, std::span(toy.weight_gradient).first(5), {6}}})
                  .status(),
              Status::invalid_argument);
    EXPECT_EQ(optimizer.tensor_count(), 0u);
    optimizer.add_param_group({}, {{"w", toy.weight, toy.weight_gradient, {6}}, {"b", toy.bias, {}, {2}}});
    EXPECT_EQ(optimizer.gradients()[1], nullptr);
    optimizer.rebind("b", toy.bias, toy.bias_gradient);
    toy.train(optimizer, 1);
    auto const bias = toy.bias;
    optimizer.rebind(1, std::span(toy.bias), std::span<double const>());
    toy.train(optimizer, 1);
    EXPECT_EQ(toy.bias, bias);
    EXPECT_EQ(optimizer.try_rebind(0, std::span(toy.weight).first(3), toy.weight_gradient).status(),
              Status::invalid_argument);
    EXPECT_EQ(optimizer.try_rebind(0, std::span(toy.bias), toy.bias_gradient).status(), Status::invalid_argument);
}
#elif __cplusplus >= 202002L
#error "std::span is missing in C++20"
#endif
