// One model over several processes, which are threads here: the reduction, what it throws, and shards of tensors.
#include "toy.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <fstream>
#include <future>
#include <iterator>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

using metaadamw::Optimizer;
using metaadamw::Outcome;
using metaadamw::Status;

namespace {

/// Of a process that is alone, which has the sums already.
std::int32_t alone(double*, std::size_t) { return 0; }

/// The toy as the only one of several processes.
struct Whole : Toy {
    Optimizer optimizer(metaadamw::Reduction reduction) {
        Optimizer made{options()};
        made.set_reduction(std::move(reduction));
        auto all = tensors();
        all[0].shard(0, 6), all[1].shard(0, 2);
        made.add_param_group(metaadamw::ParamGroup{}.lr(0.01).weight_decay(0.1), all);
        return made;
    }
};

/// Sums over two threads. A thread that waits for one that has ended gives up.
class Pair {
  public:
    std::int32_t sum(double* values, std::size_t count) {
        std::unique_lock lock(mutex_);
        if (!first_) {
            first_ = values, count_ = count;
            auto const summed = [this, before = sums_] { return sums_ != before; };
            return changed_.wait_for(lock, std::chrono::seconds(60), summed) ? status_ : 1;
        }
        status_ = count == count_ ? 0 : 2;
        for (std::size_t i = 0; status_ == 0 && i < count; i++)
            first_[i] = values[i] += first_[i];
        first_ = nullptr, sums_++;
        changed_.notify_all();
        return status_;
    }

  private:
    std::mutex mutex_{};
    std::condition_variable changed_{};
    double* first_ = nullptr;  // of the one that came first and waits
    std::size_t count_ = 0;
    int sums_ = 0;
    std::int32_t status_ = 0;
};

/// A tensor that can be cut in two and one that cannot; what a process has of them.
struct Cut {
    static constexpr std::size_t block = metaadamw::shard_alignment, length = block + 5;

    std::size_t begin, end;  // of the first tensor
    bool has_bias;
    std::vector<float> weight{}, weight_gradient{};
    std::vector<double> bias{}, bias_gradient{};

    Cut(std::size_t first, std::size_t last, bool with_bias) : begin(first), end(last), has_bias(with_bias) {
        for (std::size_t i = begin; i < end; i++)
            weight.push_back(0.001f * static_cast<float>(i % 1009));
        bias.assign(has_bias ? 3 : 0, 0.5);
        weight_gradient.resize(weight.size()), bias_gradient.resize(bias.size());
    }

    /// Six steps, each with a meta-update, at gradients towards a target.
    void train(Optimizer& optimizer) {
        auto const backward = [&](float target) {
            for (std::size_t i = 0; i < weight.size(); i++)
                weight_gradient[i] = weight[i] - target * static_cast<float>((begin + i) % 7);
            for (std::size_t i = 0; i < bias.size(); i++)
                bias_gradient[i] = bias[i] - static_cast<double>(target);
        };
        for (int step = 0; step < 6; step++) {
            backward(0.1f);
            optimizer.step();
            auto const result = optimizer.meta_update([&](metaadamw::Request const& request) {
                backward(0.2f * static_cast<float>(request.batch()));
                return 1.0 + 0.5 * static_cast<double>(request.batch());  // the same everywhere
            });
            EXPECT_EQ(result.outcome, Outcome::updated);
        }
    }

    Optimizer optimizer(Pair* pair) {
        Optimizer made{Toy::options()};
        metaadamw::Tensor w{"layers.0.weight", weight.data(), weight_gradient.data(), {length}};
        metaadamw::Tensor b{"layers.0.bias", bias.data(), bias_gradient.data(), {3}};
        if (pair) {
            made.set_reduction([pair](double* values, std::size_t count) { return pair->sum(values, count); });
            w.shard(begin, end - begin), b.shard(0, bias.size());
        }
        made.add_param_group(metaadamw::ParamGroup{}.lr(0.01), {w, b});
        made.prepare();
        return made;
    }
};

/// What a reduction throws.
struct Thrown : std::exception {};

}  // namespace

TEST(Processes, TwoMakeTheBitsOfOne) {
    Cut whole{0, Cut::length, true};
    auto optimizer = whole.optimizer(nullptr);
    whole.train(optimizer);

    Pair pair;
    Cut first{0, Cut::block, false}, second{Cut::block, Cut::length, true};
    auto const attention = [](Optimizer const& of) { return of.attention("output_proj.weight").values; };
    auto other = std::async(std::launch::async, [&] {
        auto its = second.optimizer(&pair);
        second.train(its);
        return attention(its);
    });
    auto own = first.optimizer(&pair);
    first.train(own);
    EXPECT_EQ(attention(own), attention(optimizer));
    EXPECT_EQ(other.get(), attention(optimizer));
    first.weight.insert(first.weight.end(), second.weight.begin(), second.weight.end());
    EXPECT_EQ(first.weight, whole.weight);
    EXPECT_EQ(second.bias, whole.bias);
    EXPECT_EQ(own.tensor_state<float>(0).exp_avg.size(), Cut::block) << "its own part";
}

TEST(Processes, OneThatIsAloneTrainsAsWithoutAReduction) {
    Toy plain;
    Whole whole;
    auto a = plain.optimizer();
    std::size_t calls = 0;
    auto b = whole.optimizer([&](double*, std::size_t count) { return calls += count > 0, 0; });
    EXPECT_EQ(b.try_step().status(), Status::invalid_state) << "all prepare together";
    b.prepare();
    EXPECT_EQ(calls, 2u);
    plain.train(a, 3), whole.train(b, 3);
    EXPECT_EQ(calls, 5u);
    EXPECT_EQ(plain.weight, whole.weight);
    EXPECT_EQ(b.try_set_reduction(nullptr).status(), Status::invalid_state);
    whole.train(b, 1);
    EXPECT_EQ(calls, 6u) << "it is still there";
}

TEST(Processes, WhatTheReductionThrowsReachesTheCallerOfEachCallAndNothingIsChanged) {
    auto const file = testing::TempDir() + "metaadamw_processes.safetensors";
    // Preparation has 2 calls, a step 1, a meta-update with the usual options 13, to save 4, to load 1.
    for (int nth = 1; nth <= 22; nth++) {
        Whole toy;
        int calls = 0, thrown = 0;
        auto optimizer = toy.optimizer([&](double*, std::size_t) -> std::int32_t {
            if (++calls == nth)
                throw Thrown();
            return 0;
        });
        auto const tried = [&](auto&& call) {  // and again if it threw
            auto const weight = toy.weight;
            try {
                return call();
            } catch (Thrown const&) {
                thrown++;
                EXPECT_EQ(calls, nth);
                EXPECT_EQ(toy.weight, weight) << nth;
            }
            return call();
        };
        EXPECT_TRUE(tried([&] { return optimizer.try_prepare(); }));
        toy.backward(0.1);
        EXPECT_TRUE(tried([&] { return optimizer.try_step(); }));
        auto const result = tried([&] {
            return optimizer.try_meta_update([&](auto const& request) { return toy.answer(request); });
        });
        EXPECT_EQ(result->outcome, Outcome::updated) << nth;
        EXPECT_TRUE(tried([&] { return optimizer.try_save(file); })) << nth;
        EXPECT_TRUE(tried([&] { return optimizer.try_load(file); })) << nth;
        std::ifstream in(file, std::ios::binary);
        std::vector<std::uint8_t> const bytes{std::istreambuf_iterator<char>(in), {}};
        EXPECT_TRUE(tried([&] { return optimizer.try_load_bytes(bytes.data(), bytes.size()); })) << nth;
        EXPECT_EQ(thrown, 1) << nth;
    }
}

TEST(Processes, AStatusOfTheReductionIsAnError) {
    Whole toy;
    std::int32_t status = 0;
    auto optimizer = toy.optimizer([&](double*, std::size_t) { return status; });
    optimizer.prepare();
    status = 7;
    toy.backward(0.1);
    auto const step = optimizer.try_step();
    EXPECT_EQ(step.status(), Status::reduction);
    EXPECT_NE(std::string(step.error().what()).find("MAW_REDUCTION: "), std::string::npos) << step.error().what();
    EXPECT_NE(std::string(step.error().what()).find("returned 7"), std::string::npos) << step.error().what();
    status = 0;
    optimizer.step();
    EXPECT_EQ(optimizer.step_count(), 1u);
}

TEST(Processes, AnOptimizerIsMovedWithItsReduction) {
    Whole toy, assigned_over;
    auto token = std::make_shared<int>(0);
    auto const counting = [token](double*, std::size_t) { return ++*token, 0; };
    {
        auto first = toy.optimizer(counting);
        Optimizer second(std::move(first));
        second.prepare();
        EXPECT_EQ(first.try_set_reduction(alone).status(), Status::invalid_argument);
        Optimizer third = assigned_over.optimizer(alone);
        third.prepare();
        third = std::move(second);
        toy.train(third, 1);
        EXPECT_EQ(*token, 3);
        Optimizer fourth = assigned_over.optimizer(alone);
        swap(third, fourth);
        toy.train(fourth, 1);
        EXPECT_EQ(*token, 4);
        EXPECT_EQ(token.use_count(), 3);
    }
    EXPECT_EQ(token.use_count(), 2) << "it is gone with its optimizer";
}

TEST(Processes, AnotherReductionTakesThePlaceOfTheFirstAndAReleasedHandleHasNone) {
    Whole toy;
    auto optimizer = toy.optimizer([](double*, std::size_t) -> std::int32_t { throw Thrown(); });
    optimizer.set_reduction(alone);
    maw_optimizer* const handle = optimizer.capi_release();
    EXPECT_EQ(maw_prepare(handle, nullptr), MAW_INVALID_STATE) << "shards need one";
    EXPECT_EQ(maw_optimizer_free(handle), MAW_OK);
}

TEST(Processes, CallsFromInsideTheReductionFindTheOptimizerBusy) {
    Whole toy;
    Optimizer* itself = nullptr;
    int calls = 0;
    auto optimizer = toy.optimizer([&](double*, std::size_t) {
        EXPECT_EQ(itself->try_step().status(), Status::busy);
        EXPECT_EQ(itself->try_set_reduction(nullptr).status(), Status::busy);  // and this function lives on
        return ++calls, 0;
    });
    itself = &optimizer;
    optimizer.prepare();
    toy.train(optimizer, 1);
    EXPECT_EQ(calls, 3);
}

TEST(Processes, TheOthersHearOfACallThatThisObjectRefuses) {
    Whole toy;
    int calls = 0;
    double refused = 0.0;
    auto optimizer = toy.optimizer([&](double* values, std::size_t) { return calls++, refused += values[1], 0; });
    optimizer.prepare();
    EXPECT_EQ(optimizer.try_step({{toy.weight.data(), toy.weight_gradient.data()}}).status(),
              Status::invalid_argument);
    EXPECT_EQ(calls, 3);
    toy.backward(0.1);
    optimizer.step({{toy.weight.data(), toy.weight_gradient.data()}, {toy.bias.data(), toy.bias_gradient.data()}});
    EXPECT_EQ(optimizer.try_step().status(), Status::invalid_state) << "gradients of the step before";
    EXPECT_EQ(optimizer.try_launch().status(), Status::invalid_state);
    EXPECT_EQ(calls, 6);
    auto const told = optimizer.try_meta_update([&](auto const& request) { return toy.answer(request); });
    EXPECT_EQ(told.status(), Status::invalid_state) << "and has not called rebind";
    EXPECT_EQ(calls, 8);
    EXPECT_EQ(refused, 4.0);
}

TEST(Processes, AShardThatIsNoneIsRefused) {
    std::vector<float> weight(3);
    auto const add = [&](std::uint64_t offset, std::uint64_t count) {
        return Optimizer{}.try_add_param_group(
            {}, {metaadamw::Tensor("w", weight.data(), nullptr, {2, 50'000}).shard(offset, count)});
    };
    EXPECT_TRUE(add(98'304, 1'696));
    EXPECT_TRUE(add(0, 0));
    for (auto const& failed : {add(0, 3), add(1, 32'767), add(98'304, 1'697)}) {
        EXPECT_EQ(failed.status(), Status::invalid_argument);
        EXPECT_NE(std::string(failed.error().what()).find("of tensor 'w'"), std::string::npos)
            << failed.error().what();
    }
}

#ifdef __cpp_lib_span
TEST(Processes, SpansAreAsLongAsTheShard) {
    std::vector<float> weight(5), gradient(5);
    Optimizer optimizer;
    auto const add = [&](std::size_t length) {
        return optimizer.try_add_param_group(
            {}, {metaadamw::Tensor("w", std::span(weight).first(length), std::span(gradient).first(length),
                                   {metaadamw::shard_alignment + 5})
                     .shard(metaadamw::shard_alignment, 5)});
    };
    auto const failed = add(4);
    EXPECT_EQ(failed.status(), Status::invalid_argument);
    EXPECT_NE(std::string(failed.error().what()).find("4 elements for tensor 'w', which has 5"), std::string::npos)
        << failed.error().what();
    EXPECT_TRUE(add(5));
    EXPECT_EQ(optimizer.try_rebind(0, std::span(weight).first(4), {}).status(), Status::invalid_argument);
    EXPECT_TRUE(optimizer.try_rebind(0, std::span(weight), {}));
}
#endif
