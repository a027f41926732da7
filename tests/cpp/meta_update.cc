// Closures for the meta-update.
#include "toy.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <set>
#include <tuple>

using metaadamw::Batch;
using metaadamw::Outcome;
using metaadamw::Request;
using metaadamw::Status;

namespace {

/// An exception type that nothing in the header knows.
struct OutOfData {
    int batch;
};

/// How often each kind of evaluation is requested in one meta-update.
std::map<std::tuple<Batch, bool>, int> asked(metaadamw::Objective objective) {
    Toy toy;
    auto options = Toy::options();
    options.objective = objective;
    auto optimizer = toy.optimizer(options);
    toy.train(optimizer, 2);
    std::map<std::tuple<Batch, bool>, int> counts;
    auto const result = optimizer.meta_update([&](Request const& request) {
        counts[{request.batch(), request.wants_gradient()}]++;
        EXPECT_EQ(request.wants_gradient(), request.kind() == metaadamw::RequestKind::gradient);
        return toy.answer(request);
    });
    EXPECT_EQ(result.outcome, Outcome::updated);
    EXPECT_EQ(result.updates, 1u);
    EXPECT_TRUE(std::isfinite(result.loss_meta));
    return counts;
}

}  // namespace

TEST(MetaUpdate, TheCombinedObjectiveAsksForAllThreeBatches) {
    std::set<Batch> batches;
    int evaluations = 0;
    for (auto const& [what, count] : asked(metaadamw::Objective::combined)) {
        batches.insert(std::get<Batch>(what));
        evaluations += count;
    }
    EXPECT_EQ(batches, (std::set<Batch>{Batch::train_1, Batch::train_2, Batch::validation}));
    EXPECT_EQ(evaluations, 6);
}

TEST(MetaUpdate, GradientAlignmentAloneAsksForGradientsOfTheTrainingBatchesOnly) {
    for (auto const& [what, count] : asked(metaadamw::Objective::gradient)) {
        EXPECT_NE(std::get<Batch>(what), Batch::validation);
        EXPECT_TRUE(std::get<bool>(what));
    }
}

TEST(MetaUpdate, LossDecreaseAloneDoesNotAskForTheSecondTrainingBatch) {
    for (auto const& [what, count] : asked(metaadamw::Objective::loss_decrease))
        EXPECT_NE(std::get<Batch>(what), Batch::train_2);
}

TEST(MetaUpdate, ItIsDueEveryIntervalAndLeavesTheParametersAsTheyWere) {
    Toy toy;
    auto options = Toy::options();
    options.meta_interval = 2;
    auto optimizer = toy.optimizer(options);
    EXPECT_FALSE(optimizer.meta_due());
    toy.train(optimizer, 1);
    EXPECT_FALSE(optimizer.meta_due());
    toy.train(optimizer, 1);
    ASSERT_TRUE(optimizer.meta_due());
    auto const weight = toy.weight;
    auto const bias = toy.bias;
    bool moved = false;
    std::set<std::uint64_t> ids;
    auto const result = optimizer.meta_update([&](Request const& request) {
        moved |= toy.weight != weight;
        EXPECT_TRUE(ids.insert(request.id()).second);
        EXPECT_TRUE(request.replay() == 0 || ids.count(request.replay()) == 1);
        EXPECT_FALSE(optimizer.try_step());  // not while it is open
        return toy.answer(request);
    });
    EXPECT_TRUE(moved);
    EXPECT_EQ(toy.weight, weight);
    EXPECT_EQ(toy.bias, bias);
    EXPECT_EQ(result.evaluations, ids.size());
    EXPECT_FALSE(optimizer.meta_due());
}

TEST(MetaUpdate, AnExceptionAtAnyRequestArrivesUnchangedAndLeavesEverythingAsItWas) {
    for (int fatal = 1; fatal <= 6; fatal++) {
        Toy toy;
        auto optimizer = toy.optimizer();
        toy.train(optimizer, 2);
        auto const weight = toy.weight;
        auto const bias = toy.bias;
        auto const attention = optimizer.attention("output_proj.weight").values;
        int request_number = 0;
        try {
            optimizer.meta_update([&](Request const& request) {
                if (++request_number == fatal)
                    throw OutOfData{fatal};
                return toy.answer(request);
            });
            FAIL() << "request " << fatal << " never came";
        } catch (OutOfData const& caught) {
            EXPECT_EQ(caught.batch, fatal);
        }
        EXPECT_EQ(toy.weight, weight) << "request " << fatal;
        EXPECT_EQ(toy.bias, bias) << "request " << fatal;
        EXPECT_EQ(optimizer.attention("output_proj.weight").values, attention);
        EXPECT_EQ(optimizer.meta_result().outcome, Outcome::aborted);
        toy.train(optimizer, 1);  // nothing is open
        EXPECT_EQ(optimizer.meta_update([&](Request const& r) { return toy.answer(r); }).outcome, Outcome::updated);
    }
}

TEST(MetaUpdate, AnExceptionComesThroughTheTryFormToo) {
    Toy toy;
    auto optimizer = toy.optimizer();
    toy.train(optimizer, 1);
    EXPECT_THROW((void)optimizer.try_meta_update([](Request const&) -> double { throw OutOfData{0}; }), OutOfData);
    EXPECT_EQ(optimizer.meta_result().outcome, Outcome::aborted);
}

TEST(MetaUpdate, AnErrorOfTheLibraryInsideClosesItAsWell) {
    Toy toy;
    auto optimizer = toy.optimizer();
    toy.train(optimizer, 2);
    auto const weight = toy.weight;
    auto const failed = optimizer.try_meta_update([&](Request const& request) {
        return metaadamw::Answer(toy.answer(request), -1.0);  // an invalid scale
    });
    EXPECT_EQ(failed.status(), Status::invalid_argument);
    EXPECT_EQ(toy.weight, weight);
    auto const steps_inside = [&](Request const&) -> double { return optimizer.step().grad_norm; };
    EXPECT_EQ(status_of([&] { optimizer.meta_update(steps_inside); }), Status::invalid_state);
    EXPECT_EQ(toy.weight, weight);
    toy.train(optimizer, 1);
}

TEST(MetaUpdate, ALossThatIsNotFiniteIsAnOutcomeAndNoFailure) {
    Toy toy;
    auto optimizer = toy.optimizer();
    toy.train(optimizer, 2);
    auto const weight = toy.weight;
    auto const result = optimizer.meta_update([](Request const&) { return std::nan(""); });
    EXPECT_EQ(result.outcome, Outcome::loss_not_finite);
    EXPECT_EQ(toy.weight, weight);
}

TEST(MetaUpdate, ScaledGradientsArePassedWithTheirScale) {
    Toy plain, scaled;
    auto a = plain.optimizer(), b = scaled.optimizer();
    plain.train(a, 2);
    scaled.train(b, 2);
    a.meta_update([&](Request const& request) { return plain.answer(request); });
    b.meta_update([&](Request const& request) {
        double const loss = scaled.answer(request);
        for (float& g : scaled.weight_gradient)
            g *= 1024.0f;
        for (double& g : scaled.bias_gradient)
            g *= 1024.0;
        return metaadamw::Answer(loss, 1024.0);
    });
    EXPECT_EQ(a.meta_gradient("alpha").values, b.meta_gradient("alpha").values);
}

TEST(MetaUpdate, WithoutModulationThereIsNone) {
    Toy toy;
    auto options = Toy::options();
    options.modulation = false;
    auto optimizer = toy.optimizer(options);
    toy.train(optimizer, 1);
    EXPECT_FALSE(optimizer.meta_due());
    EXPECT_EQ(optimizer.try_meta_update([&](Request const& r) { return toy.answer(r); }).status(),
              Status::invalid_state);
}
