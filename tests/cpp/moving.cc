// Addresses that are told anew for each step, and types of elements that are known at run time only.
#include "toy.hpp"

#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <utility>

using metaadamw::Buffer;
using metaadamw::DType;
using metaadamw::Outcome;
using metaadamw::Status;
using metaadamw::Tensor;

namespace {

/// A host that allocates its gradients in each backward pass and frees them before the next, as libtorch does.
struct Moving : Toy {
    std::unique_ptr<std::vector<float>> weight_grad{};
    std::unique_ptr<std::vector<double>> bias_grad{};

    metaadamw::Optimizer optimizer(metaadamw::Options const& with = options()) {
        metaadamw::Optimizer made{with};
        made.add_param_group(metaadamw::ParamGroup{}.lr(0.01).weight_decay(0.1),
                             {{"layers.0.weight", DType::float32, {2, 3}}, {"layers.0.bias", DType::float64, {2}}});
        return made;
    }

    double backward(double target) {
        weight_grad.reset(), bias_grad.reset();
        double const loss = Toy::backward(target);
        weight_grad = std::make_unique<std::vector<float>>(weight_gradient);
        bias_grad = std::make_unique<std::vector<double>>(bias_gradient);
        return loss;
    }

    std::vector<Buffer> buffers() {
        return {{weight.data(), weight_grad->data()}, {bias.data(), bias_grad->data()}};
    }

    void train(metaadamw::Optimizer& optimizer, int steps) {
        for (int step = 0; step < steps; step++) {
            backward(0.1);
            optimizer.step(buffers());
        }
    }
};

}  // namespace

TEST(MovingBuffers, GradientsThatAreFreedAfterEachStepGiveTheSameBits) {
    Toy still;
    Moving moving;
    auto a = still.optimizer();
    auto b = moving.optimizer();
    for (int round = 0; round < 2; round++) {
        still.train(a, 2);
        a.meta_update([&](metaadamw::Request const& request) { return still.answer(request); });
        moving.train(b, 2);
        auto const result = b.meta_update([&](metaadamw::Request const& request) {
            double const loss = moving.backward(Toy::target(request.batch()));
            b.rebind(moving.buffers());
            return loss;
        });
        EXPECT_EQ(result.outcome, Outcome::updated);
        EXPECT_EQ(still.weight, moving.weight);
        EXPECT_EQ(still.bias, moving.bias);
    }
}

TEST(MovingBuffers, AddressesOfAStepAreForgottenAndNothingReadsThem) {
    Moving toy;
    auto optimizer = toy.optimizer();
    EXPECT_EQ(optimizer.try_step().status(), Status::invalid_state);  // never told
    toy.train(optimizer, 1);
    EXPECT_EQ(optimizer.gradients()[0], nullptr);
    EXPECT_EQ(optimizer.params()[0], toy.weight.data());
    toy.weight_grad.reset(), toy.bias_grad.reset();
    auto const weight = toy.weight;
    auto const failed = optimizer.try_step();
    EXPECT_EQ(failed.status(), Status::invalid_state);
    EXPECT_NE(std::string(failed.error().what()).find("rebind"), std::string::npos) << failed.error().what();
    EXPECT_EQ(optimizer.try_launch().status(), Status::invalid_state);
    EXPECT_EQ(optimizer.try_observe_gradient(0).status(), Status::invalid_state);
    EXPECT_EQ(toy.weight, weight);

    toy.backward(0.1);
    EXPECT_EQ(status_of([&] { optimizer.meta_update([&](auto const& r) { return toy.answer(r); }); }),
              Status::invalid_state);
    int requests = 0;
    auto const once = [&](metaadamw::Request const& request) {  // the second gradient is elsewhere
        if (requests++ == 0)
            optimizer.rebind(toy.buffers());
        return toy.answer(request);
    };
    EXPECT_EQ(status_of([&] { optimizer.meta_update(once); }), Status::invalid_state);
    EXPECT_GT(requests, 1);
    EXPECT_EQ(toy.weight, weight);
    EXPECT_EQ(optimizer.try_step().status(), Status::invalid_state);
    toy.train(optimizer, 1);
    EXPECT_EQ(optimizer.step_count(), 2u);
}

TEST(MovingBuffers, NumberAndTypesAreCheckedAndAFailureChangesNothing) {
    Toy toy;
    auto optimizer = toy.optimizer();
    Toy other;
    Buffer const weight{other.weight.data(), other.weight_gradient.data()};
    Buffer const bias{other.bias.data(), other.bias_gradient.data()};
    Buffer const wrong{other.bias.data(), DType::float64, other.weight_gradient.data(), DType::float32};
    EXPECT_EQ(optimizer.try_rebind({weight}).status(), Status::invalid_argument);
    EXPECT_EQ(optimizer.try_rebind({weight, bias, bias}).status(), Status::invalid_argument);
    EXPECT_EQ(optimizer.try_rebind({bias, weight}).status(), Status::invalid_argument);
    EXPECT_EQ(optimizer.try_rebind({weight, wrong}).status(), Status::invalid_argument);
    EXPECT_EQ(optimizer.try_step({weight, wrong}).status(), Status::invalid_argument);
    EXPECT_EQ(optimizer.try_rebind(1, wrong).status(), Status::invalid_argument);
    EXPECT_EQ(optimizer.try_rebind(2, bias).status(), Status::not_found);
    EXPECT_EQ(optimizer.params()[0], toy.weight.data());
    EXPECT_EQ(optimizer.gradients()[1], toy.bias_gradient.data());
    toy.train(optimizer, 1);  // at the addresses that are kept
    EXPECT_EQ(optimizer.step_count(), 1u);
}

TEST(MovingBuffers, ListsArraysAndVectorsAreTakenAndOptionsGoWithThem) {
    Toy plain, scaled;
    auto a = plain.optimizer(), b = scaled.optimizer();
    metaadamw::StepOptions options;
    options.grad_scale = 2.0;
    for (int step = 0; step < 3; step++) {
        plain.backward(0.1), scaled.backward(0.1);
        for (float& g : scaled.weight_gradient)
            g *= 2.0f;
        for (double& g : scaled.bias_gradient)
            g *= 2.0;
        Buffer const weight{scaled.weight.data(), scaled.weight_gradient.data()};
        Buffer const bias{scaled.bias.data(), scaled.bias_gradient.data()};
        std::array<Buffer, 2> const array{weight, bias};
        Buffer const plain_array[] = {weight, bias};
        switch (step) {
        case 0:
            a.step({});  // options, as ever
            b.step({{scaled.weight.data(), scaled.weight_gradient.data()},
                    {scaled.bias.data(), scaled.bias_gradient.data()}},
                   options);
            break;
        case 1:
            a.step({1.0, false});
            b.step(array, options);
            break;
        default:
            a.step();
            b.rebind(plain_array);
            b.observe_gradient(0);
            b.launch(options);
        }
        EXPECT_EQ(plain.weight, scaled.weight) << step;
        EXPECT_EQ(plain.bias, scaled.bias) << step;
    }
}

TEST(MovingBuffers, WithoutAGradientATensorIsLeftAlone) {
    Toy toy;
    auto optimizer = toy.optimizer();
    toy.backward(0.1);
    auto const weight = toy.weight;
    auto const bias = toy.bias;
    optimizer.step({{toy.weight.data(), nullptr}, {toy.bias.data(), toy.bias_gradient.data()}});
    EXPECT_EQ(toy.weight, weight);
    EXPECT_NE(toy.bias, bias);
}

TEST(RuntimeTypes, TensorsAndAddressesHaveTypesThatAreKnownAtRunTimeOnly) {
    Toy typed, untyped;
    auto a = typed.optimizer();
    void* const weight = untyped.weight.data();
    void* const bias = untyped.bias.data();
    metaadamw::Optimizer b{Toy::options()};
    b.add_param_group(metaadamw::ParamGroup{}.lr(0.01).weight_decay(0.1),
                      {{"layers.0.weight", weight, untyped.weight_gradient.data(), DType::float32, {2, 3}},
                       {"layers.0.bias", bias, DType::float64, untyped.bias_gradient.data(), DType::automatic, {2}}});
    typed.train(a, 1), untyped.train(b, 1);
    EXPECT_EQ(typed.weight, untyped.weight);

    auto moved = untyped.bias;
    b.rebind("layers.0.bias", {moved.data(), untyped.bias_gradient.data(), DType::float64});
    b.rebind(0, Buffer(weight, DType::float32, untyped.weight_gradient.data(), DType::float32));
    untyped.backward(0.1), typed.backward(0.1);
    a.step(), b.step();
    EXPECT_EQ(typed.bias, moved);
    EXPECT_EQ(b.try_rebind(0, Buffer(weight, nullptr, DType::float16)).status(), Status::invalid_argument);
    EXPECT_EQ(b.try_rebind(0, Buffer(weight, nullptr, DType::automatic)).status(), Status::invalid_argument);
    EXPECT_EQ(b.try_add_param_group({}, {Tensor("x", weight, nullptr, DType::automatic, {6})}).status(),
              Status::invalid_argument);
}

TEST(RuntimeTypes, TheGradientsTypeIsRegisteredWithoutAddresses) {
    std::vector<metaadamw::bfloat16> weight(4, metaadamw::bfloat16{0x3f80});
    std::vector<float> gradient(4, 1.0f);
    metaadamw::Optimizer optimizer;
    optimizer.add_param_group(metaadamw::ParamGroup{}.lr(0.5),
                              {{"w", DType::bfloat16, DType::float32, {4}}});
    EXPECT_EQ(optimizer.try_step({{weight.data(), weight.data()}}).status(), Status::invalid_argument);
    optimizer.step({{weight.data(), gradient.data()}});
    EXPECT_NE(weight[0].bits, 0x3f80);
}

#ifdef __cpp_lib_span
TEST(MovingBuffers, LengthsOfSpansAreChecked) {
    Toy toy;
    auto optimizer = toy.optimizer();
    toy.backward(0.1);
    EXPECT_EQ(optimizer.try_step({{std::span(toy.weight).first(5), toy.weight_gradient},
                                  {toy.bias, toy.bias_gradient}})
                  .status(),
              Status::invalid_argument);
    optimizer.step({{toy.weight, toy.weight_gradient}, {toy.bias, {}}});
    EXPECT_EQ(optimizer.step_count(), 1u);
}
#endif
