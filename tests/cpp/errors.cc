// Exceptions, their forms without exceptions, and the log.
#include "toy.hpp"

#include <gtest/gtest.h>

#include <string>

using metaadamw::Error;
using metaadamw::Status;

TEST(Errors, AnExceptionCarriesTheStatusAndNamesWhatIsWrong) {
    metaadamw::Options options;
    options.meta_interval = 0;
    try {
        metaadamw::Optimizer const optimizer{options};
        FAIL() << "an interval of 0 was accepted";
    } catch (std::runtime_error const& caught) {
        auto const& error = dynamic_cast<Error const&>(caught);
        EXPECT_EQ(error.status(), Status::invalid_argument);
        EXPECT_NE(std::string(error.what()).find("MAW_INVALID_ARGUMENT: "), std::string::npos) << error.what();
        EXPECT_NE(std::string(error.what()).find("meta_interval"), std::string::npos) << error.what();
    }
}

TEST(Errors, ATryFormAnswersWhatTheOtherThrows) {
    metaadamw::Options options;
    options.meta_interval = 0;
    auto const made = metaadamw::Optimizer::try_create(options);
    EXPECT_FALSE(made);
    EXPECT_EQ(made.status(), Status::invalid_argument);
    EXPECT_NE(std::string(made.error().what()).find("meta_interval"), std::string::npos);
    EXPECT_THROW((void)made.value(), Error);

    Toy toy;
    auto optimizer = toy.optimizer();
    EXPECT_EQ(optimizer.try_factors().status(), Status::invalid_state);
    EXPECT_EQ(status_of([&] { (void)optimizer.factors(); }), Status::invalid_state);
    toy.backward(0.1);
    auto const step = optimizer.try_step();
    ASSERT_TRUE(step);
    EXPECT_EQ(step.status(), Status::ok);
    EXPECT_EQ(step->step, 1u);
    EXPECT_FALSE(step->skipped);
    auto const lr = optimizer.try_set_lr(7, 0.1);
    EXPECT_EQ(lr.status(), Status::not_found);
    EXPECT_THROW(lr.value(), Error);
    EXPECT_NO_THROW(optimizer.try_set_lr(0, 0.1).value());
}

TEST(Errors, ADuplicateNameRegistersNothing) {
    Toy toy;
    auto optimizer = toy.optimizer();
    auto tensors = toy.tensors();
    EXPECT_EQ(status_of([&] { optimizer.add_param_group({}, tensors); }), Status::invalid_argument);
    EXPECT_EQ(optimizer.tensor_count(), 2u);
    EXPECT_EQ(optimizer.params().size(), 2u);
    EXPECT_EQ(optimizer.param_group_count(), 1u);
    toy.train(optimizer, 1);
}

TEST(Errors, ANameWithANulInsideIsRefused) {
    Toy toy;
    metaadamw::Optimizer optimizer;
    std::vector<metaadamw::Tensor> const tensors{{std::string("a\0b", 3), toy.bias.data(), nullptr, {2}}};
    EXPECT_EQ(status_of([&] { optimizer.add_param_group({}, tensors); }), Status::invalid_argument);
}

TEST(Errors, UnderNonfiniteErrorAStepFailsAndChangesNothing) {
    Toy toy;
    auto options = Toy::options();
    options.nonfinite = metaadamw::Nonfinite::error;
    auto optimizer = toy.optimizer(options);
    toy.backward(0.1);
    toy.bias_gradient[1] = std::numeric_limits<double>::quiet_NaN();
    auto const before = toy.weight;
    EXPECT_EQ(status_of([&] { optimizer.step(); }), Status::not_finite);
    EXPECT_EQ(toy.weight, before);
}

TEST(Errors, ASkippedStepNamesTheTensor) {
    Toy toy;
    auto optimizer = toy.optimizer();
    toy.backward(0.1);
    EXPECT_EQ(optimizer.step().nonfinite_tensor, std::nullopt);
    toy.bias_gradient[1] = std::numeric_limits<double>::quiet_NaN();
    auto const report = optimizer.step();
    EXPECT_TRUE(report.skipped);
    EXPECT_EQ(report.skip_reason, metaadamw::SkipReason::gradient);
    EXPECT_EQ(report.nonfinite_tensor, std::size_t{1});
    EXPECT_EQ(report.skipped_steps, 1u);
}

TEST(Errors, WhatALogThrowsIsDroppedAndTheStepGoesOn) {
    Toy toy;
    auto optimizer = toy.optimizer();
    std::vector<std::string> heard;
    optimizer.set_log([&](metaadamw::LogLevel, std::string_view message) {
        heard.emplace_back(message);
        EXPECT_EQ(optimizer.try_step_count().status(), Status::busy);
        EXPECT_EQ(optimizer.try_set_log(nullptr).status(), Status::busy);  // and this function lives on
        throw std::runtime_error("from the log");
    });
    toy.backward(0.1);
    toy.weight_gradient[0] = std::numeric_limits<float>::quiet_NaN();
    EXPECT_TRUE(optimizer.step().skipped);
    ASSERT_EQ(heard.size(), 1u);
    EXPECT_NE(heard[0].find("layers.0.weight"), std::string::npos) << heard[0];
    optimizer.set_log(nullptr);
    EXPECT_TRUE(optimizer.step().skipped);
    EXPECT_EQ(heard.size(), 1u);
}
