// Meta-updates: the meta-gradient against exact Hessian products, and everything that must be as before afterwards.
#include "common.hpp"

#include <map>
#include <set>
#include <stdexcept>

using namespace tests;
using metaadamw::Request;

namespace {

// ------------------------------------------------------------------------------------------- the meta-gradient ----

struct EncoderImpl : nn::Module {
    EncoderImpl() {
        embed = register_module("embed", nn::Linear(3, 16));
        // Smooth: a difference across the corner of a ReLU is not the derivative.
        auto layer = nn::TransformerEncoderLayer(
            nn::TransformerEncoderLayerOptions(16, 2).dim_feedforward(32).dropout(0).activation(torch::kGELU));
        encoder = register_module("encoder", nn::TransformerEncoder(nn::TransformerEncoderOptions(layer, 2)));
        head = register_module("head", nn::Linear(16, 1));
    }
    Tensor forward(Tensor const& x) { return head(encoder(embed(x)).mean(0)); }
    nn::Linear embed{nullptr}, head{nullptr};
    nn::TransformerEncoder encoder{nullptr};
};
TORCH_MODULE(Encoder);

Tensor loss_of(Encoder& model, std::vector<Tensor> const& x, Batch batch, torch::Dtype dtype) {
    Tensor const input = x[static_cast<std::size_t>(batch) - 1].to(dtype);
    return torch::mse_loss(model(input), input.sin().sum(0).sum(1, true));
}

/// What the derivatives by alpha and beta need of a run, in float64.
struct Before {
    std::vector<Tensor> params, exp_avg, exp_avg_sq;
    std::vector<double> step;

    Before(Encoder& model, MetaAdamW& optimizer) {
        auto const& state = optimizer.state();
        EXPECT_EQ(state.size(), model->parameters().size());
        for (auto const& param : model->parameters()) {
            params.push_back(param.detach().to(torch::kDouble).clone());
            std::size_t const i = params.size() - 1;
            auto const get = [&](auto zero) {
                auto const moments = optimizer.core().template tensor_state<decltype(zero)>(i);
                auto const made = [&](auto const& values) {
                    return torch::tensor(values, param.scalar_type()).to(torch::kDouble).reshape(param.sizes());
                };
                exp_avg.push_back(made(moments.exp_avg));
                exp_avg_sq.push_back(made(moments.exp_avg_sq));
                step.push_back(double(moments.step));
            };
            if (param.scalar_type() == torch::kDouble)
                get(0.0);
            else
                get(0.0F);
        }
    }
};

/// The derivatives of term_gradient + term_loss_decrease by alpha and beta, by double backward in float64.
std::vector<double> exact(Before const& before, std::vector<Tensor> const& x, metaadamw::Optimizer& core, double lr,
                          double decay) {
    Encoder model;
    model->to(torch::kDouble);
    auto const params = model->parameters();
    auto const set = [&](std::vector<Tensor> const& values) {
        torch::NoGradGuard const no_graph;
        for (std::size_t i = 0; i < params.size(); i++)
            params[i].copy_(values[i]);
    };
    set(before.params);
    auto const g = torch::autograd::grad({loss_of(model, x, Batch::train_1, torch::kDouble)}, params);
    auto const factors = core.factors();
    std::vector<Tensor> by_alpha, by_beta, moved;
    for (std::size_t i = 0; i < params.size(); i++) {
        auto const& group = factors[core.tensor_group(i)];
        double const t = before.step[i] + 1;
        Tensor const m = (0.9 * before.exp_avg[i] + 0.1 * g[i]) / (1 - std::pow(0.9, t));
        Tensor const v = (0.999 * before.exp_avg_sq[i] + 0.001 * g[i] * g[i]) / (1 - std::pow(0.999, t));
        by_alpha.push_back(-lr * (m / (v.sqrt() + 1e-8) + group.beta * decay * before.params[i]));
        by_beta.push_back(-lr * group.alpha * decay * before.params[i]);
        moved.push_back(before.params[i] + group.alpha * by_alpha.back());
    }
    set(moved);
    auto const h = torch::autograd::grad({loss_of(model, x, Batch::validation, torch::kDouble)}, params);
    auto const moved_g = torch::autograd::grad({loss_of(model, x, Batch::train_2, torch::kDouble)}, params, {},
                                               /*retain_graph=*/true, /*create_graph=*/true);
    Tensor alignment = torch::zeros({}, torch::kDouble);
    for (std::size_t k = 0; k < factors.size(); k++) {
        Tensor dot = torch::zeros({}, torch::kDouble), a = dot.clone(), b = dot.clone();
        for (std::size_t i = 0; i < params.size(); i++)
            if (core.tensor_group(i) == k) {
                dot = dot + (g[i] * moved_g[i]).sum();
                a = a + (g[i] * g[i]).sum();
                b = b + (moved_g[i] * moved_g[i]).sum();
            }
        alignment = alignment + (factors[k].lambda1 * b - factors[k].lambda2 * dot / (a.sqrt() * b.sqrt())) /
                                    double(factors.size());
    }
    auto const product = torch::autograd::grad({alignment}, params);
    std::vector<double> all(2 * factors.size(), 0);
    for (std::size_t i = 0; i < params.size(); i++) {
        std::size_t const k = core.tensor_group(i);
        all[k] += ((h[i] + product[i]) * by_alpha[i]).sum().item<double>();
        all[factors.size() + k] += ((h[i] + product[i]) * by_beta[i]).sum().item<double>();
    }
    return all;
}

void meta_gradient_is_exact(torch::Dtype dtype, double tolerance) {
    torch::manual_seed(6);
    std::vector<Tensor> x;
    for (int i = 0; i < 3; i++)
        x.push_back(torch::randn({5, 8, 3}, torch::kDouble));
    Encoder model;
    model->to(dtype);
    auto options = every(1000);
    options.init = metaadamw::Init::xavier;  // factors that differ from 1 and from each other
    options.weighting = metaadamw::Weighting::sum;
    options.meta_weight_decay = 0;
    options.difference_scale = dtype == torch::kFloat ? 1e-3 : 0;  // the default, 3e-3, has nine times the error
    double const lr = 1e-3, decay = 0.1;
    MetaAdamW optimizer(*model, MetaAdamWOptions(lr).weight_decay(decay), options);
    for (int i = 0; i < 5; i++) {
        optimizer.zero_grad();
        loss_of(model, x, Batch::train_2, dtype).backward();
        optimizer.step();
    }
    Before const before(model, optimizer);
    auto const result = optimizer.meta_update([&](Batch batch) { return loss_of(model, x, batch, dtype); });
    ASSERT_EQ(result.outcome, metaadamw::Outcome::updated);
    auto const groups = optimizer.core().group_count();
    EXPECT_GE(groups, 5u);
    auto const wanted = exact(before, x, optimizer.core(), lr, decay);
    auto found = optimizer.core().meta_gradient("alpha").values;
    auto const beta = optimizer.core().meta_gradient("beta").values;
    found.insert(found.end(), beta.begin(), beta.end());
    for (std::size_t part : {std::size_t(0), groups}) {
        double off = 0, size = 0;
        for (std::size_t k = part; k < part + groups; k++) {
            off += std::pow(found[k] - wanted[k], 2);
            size += std::pow(wanted[k], 2);
                }
        EXPECT_LE(std::sqrt(off / size), tolerance) << (part == 0 ? "alpha" : "beta");
    }
}

TEST(MetaGradient, TheMetaGradientIsThatOfExactHessianProducts) { meta_gradient_is_exact(torch::kFloat, 1e-3); }

TEST(MetaGradient, TheMetaGradientInFloat64IsThatOfExactHessianProducts) { meta_gradient_is_exact(torch::kDouble, 1e-7); }

// --------------------------------------------------------------------------------------------------- as before ----

/// Everything that a meta-update may touch.
struct Snapshot {
    std::vector<Tensor> params, gradients, buffers;
    std::vector<c10::TensorImpl*> identities;
    std::vector<bool> modes;
    Tensor generator;

    explicit Snapshot(Net& net)
        : params(copies(net->parameters())), buffers(copies(net->buffers())),
          generator(at::detail::getDefaultCPUGenerator().get_state()) {
        for (auto const& param : net->parameters()) {
            gradients.push_back(param.grad().defined() ? param.grad().clone() : Tensor());
            identities.push_back(param.grad().unsafeGetTensorImpl());
        }
        for (auto const& module : net->modules())
            modes.push_back(module->is_training());
    }
};

void expect_same(Snapshot const& a, Snapshot const& b) {
    expect_equal(a.params, b.params);
    expect_equal(a.buffers, b.buffers);
    EXPECT_TRUE(torch::equal(a.generator, b.generator));
    EXPECT_EQ(a.modes, b.modes);
    EXPECT_EQ(a.identities, b.identities);
    for (std::size_t i = 0; i < a.gradients.size(); i++)
        EXPECT_TRUE(a.gradients[i].defined() == b.gradients[i].defined() &&
                    (!a.gradients[i].defined() || torch::equal(a.gradients[i], b.gradients[i])));
}

struct MetaUpdate : ::testing::Test {
    MetaUpdate() { torch::manual_seed(7); }
    Data data{};
    Net net{};
    MetaAdamW optimizer{*net, MetaAdamWOptions(1e-2), every(1000)};
};

TEST_F(MetaUpdate, ChangesNothingButTheAttentionModule) {
    net->first->bias.set_requires_grad(false);
    train(net, data, optimizer, 3);
    net->norm->eval();
    Snapshot const before(net);
    Tensor const unseen = data.loss(net, 0);
    Snapshot const with_statistics(net);
    auto const result = optimizer.meta_update([&](Batch batch) { return data.loss(net, batch); });
    EXPECT_EQ(result.outcome, metaadamw::Outcome::updated);
    EXPECT_EQ(result.evaluations, 6u);
    expect_same(Snapshot(net), with_statistics);
    EXPECT_THROW(unseen.backward(), c10::Error) << "a graph from before is refused as after a step";
    auto const projection = optimizer.core().attention("output_proj.weight").values;
    EXPECT_TRUE(std::any_of(projection.begin(), projection.end(), [](double value) { return value != 0; }));
}

TEST_F(MetaUpdate, ModesAreThoseOfTheBatch) {
    train(net, data, optimizer, 1);
    std::map<Batch, std::set<std::pair<bool, bool>>> seen;
    auto const watch = [&](Batch batch) {
        seen[batch].emplace(net->is_training(), net->norm->is_training());
        return data.loss(net, batch);
    };
    net->norm->eval();  // frozen by the user
    optimizer.meta_update(watch);
    std::set<std::pair<bool, bool>> const frozen{{true, false}}, evaluation{{false, false}}, training{{true, true}};
    EXPECT_EQ(seen[Batch::train_1], frozen);
    EXPECT_EQ(seen[Batch::train_2], frozen);
    EXPECT_EQ(seen[Batch::validation], evaluation);
    EXPECT_TRUE(net->is_training() && !net->norm->is_training());
    net->eval();
    seen.clear();
    optimizer.meta_update(watch);
    EXPECT_EQ(seen[Batch::train_1], training);
    EXPECT_FALSE(net->is_training() || net->norm->is_training());
}

TEST_F(MetaUpdate, DropoutRepeatsInReplaysAndOnlyThere) {
    train(net, data, optimizer, 1);
    std::map<std::uint64_t, std::vector<Tensor>> masks;  // by the request that is replayed
    optimizer.meta_update([&](Request const& request) {
        Tensor const loss = data.loss(net, request.batch());
        if (request.batch() != Batch::validation)
            masks[request.replay() != 0 ? request.replay() : request.id()].push_back(net->mask);
        return loss;
    });
    ASSERT_EQ(masks.size(), 2u) << "B1 and B2";
    for (auto const& [id, same] : masks)
        for (auto const& mask : same)
            EXPECT_TRUE(torch::equal(mask, same.front())) << id;
    EXPECT_EQ(masks.rbegin()->second.size(), 3u) << "B2, and twice for the difference";
    EXPECT_FALSE(torch::equal(masks.begin()->second[0], masks.rbegin()->second[0]));
    Tensor const first = masks.begin()->second[0];
    train(net, data, optimizer, 1);
    optimizer.meta_update([&](Request const& request) {
        Tensor const loss = data.loss(net, request.batch());
        EXPECT_FALSE(request.batch() == Batch::train_1 && torch::equal(net->mask, first)) << "at another step";
        return loss;
    });
}

TEST_F(MetaUpdate, AnExceptionAtAnyRequestLeavesEverythingAsItWas) {
    train(net, data, optimizer, 3);
    Net twin;
    Data const& same = data;
    for (std::size_t i = 0; i < net->parameters().size(); i++)
        twin->parameters()[i].set_data(net->parameters()[i].detach().clone());
    for (std::size_t i = 0; i < net->buffers().size(); i++)
        twin->buffers()[i].copy_(net->buffers()[i]);
    MetaAdamW undisturbed(*twin, MetaAdamWOptions(1e-2), every(1000));
    auto const bytes = optimizer.core().save_bytes();
    undisturbed.core().load_bytes(bytes.data(), bytes.size());
    int asked = 0;
    for (int fails = 1; fails <= 6; fails++) {
        Snapshot const before(net);
        int request = 0;
        EXPECT_THROW(optimizer.meta_update([&](Batch batch) {
            Tensor const loss = data.loss(net, batch);
            asked++;
            if (++request == fails)
                throw std::runtime_error("no more data");
            return loss;
        }), std::runtime_error);
        expect_same(Snapshot(net), before);
    }
    EXPECT_EQ(asked, 1 + 2 + 3 + 4 + 5 + 6);
    torch::manual_seed(9);
    train(net, data, optimizer, 4);
    torch::manual_seed(9);
    train(twin, same, undisturbed, 4);
    expect_equal(net->parameters(), twin->parameters());
    expect_equal(net->buffers(), twin->buffers());
    auto const a = optimizer.core().tensor_state<float>(0), b = undisturbed.core().tensor_state<float>(0);
    EXPECT_EQ(a.exp_avg, b.exp_avg);
}

TEST_F(MetaUpdate, AClosureMayCallBackwardAndZeroGradWithoutEffect) {
    train(net, data, optimizer, 3);
    Snapshot const before(net);
    auto const plain = optimizer.meta_update([&](Batch batch) { return data.loss(net, batch); });
    EXPECT_EQ(plain.outcome, metaadamw::Outcome::updated);
    optimizer.meta_update([&](Batch batch) {
        optimizer.zero_grad();
        Tensor const loss = data.loss(net, batch);
        if (loss.requires_grad())
            loss.backward({}, /*retain_graph=*/true);
        return loss;
    });
    expect_same(Snapshot(net), before);
}

TEST_F(MetaUpdate, AutogradIsOnForGradientsAloneWhateverTheCallersModeIs) {
    train(net, data, optimizer, 1);
    torch::NoGradGuard const no_graph;
    std::size_t gradients = 0, losses = 0;
    auto const result = optimizer.meta_update([&](Request const& request) {
        EXPECT_EQ(torch::GradMode::is_enabled(), request.wants_gradient());
        (request.wants_gradient() ? gradients : losses)++;
        return data.loss(net, request.batch());
    });
    EXPECT_EQ(result.outcome, metaadamw::Outcome::updated);
    EXPECT_EQ(gradients, 5u);
    EXPECT_EQ(losses, 1u);
    EXPECT_FALSE(torch::GradMode::is_enabled());
}

TEST_F(MetaUpdate, WritingToParametersInAClosureIsAnError) {
    train(net, data, optimizer, 1);
    auto const before = copies(net->parameters());
    expect_error(Status::params_changed, "'last.bias' was written to", [&] {
        optimizer.meta_update([&](Batch batch) {
            Tensor const loss = data.loss(net, batch);
            torch::NoGradGuard const no_graph;
            net->last->bias.add_(1);
            return loss;
        });
    });
    expect_equal(net->parameters(), before);
    expect_error(Status::invalid_argument, "one element", [&] {
        optimizer.meta_update([&](Batch batch) { return net(data.x[std::size_t(batch) - 1]); });
    });
    expect_equal(net->parameters(), before);
}

TEST_F(MetaUpdate, AChangeBeforeAMetaUpdateIsStillToldToTheNextStep) {
    auto options = every(1000);
    options.verify_params = true;
    MetaAdamW careful(*net, {}, options);
    train(net, data, careful, 2);
    {
        torch::NoGradGuard const no_graph;
        net->last->weight.mul_(2);
    }
    train(net, data, careful, 1);
    careful.meta_update([&](Batch batch) { return data.loss(net, batch); });
    train(net, data, careful, 1);
}

TEST_F(MetaUpdate, TheLossScaleDoesNotChangeTheResult) {
    train(net, data, optimizer, 3);
    auto const plain = optimizer.meta_update([&](Batch batch) { return data.loss(net, batch); });
    auto const alpha = optimizer.core().meta_gradient("alpha").values;
    Net twin;
    optimizer.core().reset(metaadamw::Reset::attention);
    optimizer.set_grad_scale(1024);
    auto const scaled = optimizer.meta_update([&](Batch batch) { return data.loss(net, batch); });
    EXPECT_EQ(scaled.outcome, metaadamw::Outcome::updated);
    EXPECT_NEAR(scaled.loss_validation, plain.loss_validation, 1e-9);
    EXPECT_NEAR(scaled.loss_train, plain.loss_train, 0.5 * plain.loss_train) << "other dropout, the same scale";
}

TEST_F(MetaUpdate, OtherTensorsThatTheLossUsesGetNoGradient) {
    train(net, data, optimizer, 1);
    Tensor const other = torch::ones({}).requires_grad_();
    optimizer.meta_update([&](Batch batch) { return data.loss(net, batch) * other; });
    EXPECT_FALSE(other.grad().defined());
}

}  // namespace
