// Options, setters, getters, checkpoints.
#include "toy.hpp"

#include <gtest/gtest.h>

#include <cstdio>
#include <cstring>
#include <numeric>

using metaadamw::Status;

TEST(State, DefaultsAreTheLibrarys) {
    maw_options c;
    maw_options_init(&c, sizeof c);
    metaadamw::Options const options;
    EXPECT_EQ(options.meta_interval, c.meta_interval);
    EXPECT_EQ(options.meta_lr, c.meta_lr);
    EXPECT_EQ(options.attn_layers, c.attn_layers);
    EXPECT_TRUE(options.modulation);
    maw_options const back = options.capi();
    EXPECT_EQ(std::memcmp(&back, &c, sizeof c), 0);
    maw_param_group g;
    maw_param_group_init(&g, sizeof g);
    EXPECT_EQ(metaadamw::ParamGroup{}.eps(), g.eps);
    EXPECT_EQ(metaadamw::ParamGroup{}.beta1(0.5).beta2(0.25).beta1(), 0.5);
}

TEST(State, EveryOptionArrives) {
    // A C struct with another value in each field goes into the options and comes out as it was.
    metaadamw::Options options;
    options.seed = 1, options.total_steps = 2, options.meta_interval = 3, options.meta_warmup = 4;
    options.alpha_range = 0.5, options.beta_range = 0.6, options.meta_lr = 0.7, options.meta_weight_decay = 0.8;
    options.feature_gating_sparsity = 0.9, options.priorities = {1, 2, 3}, options.fixed_weights = {4, 5, 6};
    options.huw_initial_log_var = 0.1, options.log_var_limit = 0.2, options.difference_scale = 0.3;
    options.max_grad_norm = 0.4, options.semantics = metaadamw::Semantics::reference;
    options.feature_version = metaadamw::FeatureVersion::enhanced, options.grouping = metaadamw::Grouping::custom;
    options.init = metaadamw::Init::identity, options.objective = metaadamw::Objective::gen_gap;
    options.weighting = metaadamw::Weighting::sum;
    options.huw_kinds = {metaadamw::TermKind::regression, metaadamw::TermKind::classification,
                         metaadamw::TermKind::regression};
    options.difference = metaadamw::Difference::forward, options.nonfinite = metaadamw::Nonfinite::error;
    options.device_index = 7, options.modulation = false, options.use_v_norms = false;
    options.include_time_step = false, options.use_feature_gating = true, options.group_embed_dim = 8;
    options.feature_dim = 9, options.attn_heads = 10, options.attn_layers = 11, options.attn_hidden_dim = 12;
    options.threads = 13, options.verify_params = true, options.device = metaadamw::Device::cuda;
    options.alpha_log_range = 14, options.beta_log_range = 15, options.horizon_steps = 16;
    options.meta_optimizer = metaadamw::MetaOptimizer::adamw, options.average_dtype = metaadamw::DType::bfloat16;
    maw_options const c = options.capi();
    EXPECT_EQ(c.seed, 1u);
    EXPECT_EQ(c.total_steps, 2u);
    EXPECT_EQ(c.meta_interval, 3u);
    EXPECT_EQ(c.meta_warmup, 4u);
    EXPECT_EQ(c.alpha_range, 0.5);
    EXPECT_EQ(c.beta_range, 0.6);
    EXPECT_EQ(c.meta_lr, 0.7);
    EXPECT_EQ(c.meta_weight_decay, 0.8);
    EXPECT_EQ(c.feature_gating_sparsity, 0.9);
    EXPECT_EQ(c.priorities[1], 2.0);
    EXPECT_EQ(c.fixed_weights[2], 6.0);
    EXPECT_EQ(c.huw_initial_log_var, 0.1);
    EXPECT_EQ(c.log_var_limit, 0.2);
    EXPECT_EQ(c.difference_scale, 0.3);
    EXPECT_EQ(c.max_grad_norm, 0.4);
    EXPECT_EQ(c.semantics, MAW_REFERENCE);
    EXPECT_EQ(c.feature_version, MAW_FEATURES_ENHANCED);
    EXPECT_EQ(c.grouping, MAW_GROUPING_CUSTOM);
    EXPECT_EQ(c.init, MAW_INIT_IDENTITY);
    EXPECT_EQ(c.objective, MAW_OBJECTIVE_GEN_GAP);
    EXPECT_EQ(c.weighting, MAW_WEIGHTING_SUM);
    EXPECT_EQ(c.huw_kinds[1], MAW_KIND_CLASSIFICATION);
    EXPECT_EQ(c.difference, MAW_DIFFERENCE_FORWARD);
    EXPECT_EQ(c.nonfinite, MAW_NONFINITE_ERROR);
    EXPECT_EQ(c.device, MAW_CUDA);
    EXPECT_EQ(c.device_index, 7);
    EXPECT_EQ(c.modulation + c.use_v_norms + c.include_time_step, 0u);
    EXPECT_EQ(c.use_feature_gating, 1u);
    EXPECT_EQ(c.group_embed_dim, 8u);
    EXPECT_EQ(c.feature_dim, 9u);
    EXPECT_EQ(c.attn_heads, 10u);
    EXPECT_EQ(c.attn_layers, 11u);
    EXPECT_EQ(c.attn_hidden_dim, 12u);
    EXPECT_EQ(c.threads, 13u);
    EXPECT_EQ(c.verify_params, 1u);
    EXPECT_EQ(c.alpha_log_range, 14.0);
    EXPECT_EQ(c.beta_log_range, 15.0);
    EXPECT_EQ(c.horizon, 16u);
    EXPECT_EQ(c.meta_optimizer, MAW_META_ADAMW);
    EXPECT_EQ(c.average_dtype, MAW_BFLOAT16);
}

TEST(State, ThePresetIsTheLibrarys) {
    maw_options c;
    maw_options_preset(&c, sizeof c, MAW_PRESET_HORIZON);
    auto const options = metaadamw::Options::horizon();
    EXPECT_EQ(options.objective, metaadamw::Objective::horizon);
    EXPECT_EQ(options.feature_version, metaadamw::FeatureVersion::norm_log);
    EXPECT_GE(options.horizon_steps, 2u);
    maw_options const back = options.capi();
    EXPECT_EQ(std::memcmp(&back, &c, sizeof c), 0);
}

TEST(State, SettersAreReadBack) {
    Toy toy;
    auto optimizer = toy.optimizer();
    EXPECT_EQ(optimizer.lr(), 0.01);
    optimizer.set_lr(0.5);
    EXPECT_EQ(optimizer.lr(0), 0.5);
    optimizer.set_lr(0, 0.25);
    EXPECT_EQ(optimizer.lr(), 0.25);
    optimizer.set_weight_decay(0.75);
    EXPECT_EQ(optimizer.weight_decay(), 0.75);
    optimizer.set_weight_decay(0, 0.125);
    EXPECT_EQ(optimizer.weight_decay(0), 0.125);
    optimizer.set_priorities({3, 2, 1});
    EXPECT_EQ(optimizer.priorities(), (std::array<double, 3>{3, 2, 1}));
    EXPECT_EQ(status_of([&] { optimizer.set_lr(-1.0); }), Status::invalid_argument);
    EXPECT_EQ(status_of([&] { (void)optimizer.lr(1); }), Status::not_found);
    EXPECT_NO_THROW(optimizer.set_stream(nullptr));
}

TEST(State, FactorsAndFeaturesHaveARowForEachNamedGroup) {
    Toy toy;
    auto optimizer = toy.optimizer();
    toy.train(optimizer, 1);
    auto const factors = optimizer.factors();
    ASSERT_EQ(factors.size(), optimizer.group_count());
    ASSERT_EQ(factors.size(), 2u);
    for (std::size_t g = 0; g < factors.size(); g++) {
        EXPECT_EQ(factors[g].group, optimizer.group_name(g));
        EXPECT_GE(factors[g].alpha, 0.5);
        EXPECT_LE(factors[g].alpha, 1.5);
        EXPECT_GE(factors[g].beta, 0.5);
        EXPECT_LE(factors[g].beta, 1.5);
    }
    auto const features = optimizer.features();
    EXPECT_EQ(features.rows, 2u);
    EXPECT_EQ(features.values.size(), features.rows * features.columns);
    EXPECT_EQ(features(1, 0), features.values[features.columns]);
    EXPECT_THROW((void)features(2, 0), std::out_of_range);
}

TEST(State, TheAttentionModuleIsReadWrittenAndReset) {
    Toy toy;
    auto optimizer = toy.optimizer();
    optimizer.prepare();
    for (auto const& name : optimizer.attention_names()) {
        auto const drawn = optimizer.attention(name);
        EXPECT_EQ(drawn.values.size(), drawn.rows * drawn.columns) << name;
        optimizer.set_attention(name, std::vector<double>(drawn.values.size(), 0.25));
        EXPECT_EQ(optimizer.attention(name).values[0], 0.25);
        optimizer.reset(metaadamw::Reset::attention);
        EXPECT_EQ(optimizer.attention(name).values, drawn.values) << name;
    }
    EXPECT_EQ(optimizer.try_attention("nothing").status(), Status::not_found);
    EXPECT_EQ(optimizer.try_set_attention("output_proj.bias", {}).status(), Status::invalid_argument);
}

TEST(State, TheMetaGradientHasTheShapeOfItsTensor) {
    Toy toy;
    auto optimizer = toy.optimizer();
    toy.train(optimizer, 2);
    EXPECT_EQ(optimizer.try_meta_gradient("alpha").status(), Status::invalid_state);
    optimizer.meta_update([&](metaadamw::Request const& request) { return toy.answer(request); });
    EXPECT_EQ(optimizer.meta_gradient("alpha").values.size(), optimizer.group_count());
    auto const gradient = optimizer.meta_gradient("output_proj.weight");
    EXPECT_EQ(gradient.rows, optimizer.attention("output_proj.weight").rows);
    EXPECT_EQ(optimizer.try_meta_gradient("nothing").status(), Status::not_found);
}

TEST(State, ResettingTheMomentsStartsTheCountAnew) {
    Toy toy;
    auto optimizer = toy.optimizer();
    toy.train(optimizer, 3);
    optimizer.reset(metaadamw::Reset::moments);
    EXPECT_EQ(optimizer.step_count(), 0u);
    optimizer.reset(metaadamw::Reset::all);
}

TEST(State, StepOptionsScaleGradients) {
    Toy plain, scaled;
    auto a = plain.optimizer(), b = scaled.optimizer();
    plain.backward(0.1);
    scaled.backward(0.1);
    for (float& g : scaled.weight_gradient)
        g *= 4.0f;
    for (double& g : scaled.bias_gradient)
        g *= 4.0;
    a.step();
    metaadamw::StepOptions options;
    options.grad_scale = 4.0;
    options.params_changed = true;
    b.step(options);
    EXPECT_EQ(plain.weight, scaled.weight);
}

TEST(State, ASavedRunGoesOnWithTheSameBits) {
    Toy first, second;
    auto a = first.optimizer();
    first.train(a, 2);
    auto const saved = a.save_bytes();
    auto const file = testing::TempDir() + "metaadamw_state.safetensors";
    a.save(file);
    second.weight = first.weight;
    second.bias = first.bias;
    auto b = second.optimizer(), c = second.optimizer();
    b.load_bytes(saved.data(), saved.size());
    c.load(file);
    std::remove(file.c_str());
    EXPECT_EQ(c.step_count(), 2u);
    first.train(a, 2);
    second.train(b, 2);
    EXPECT_EQ(first.weight, second.weight);
    EXPECT_EQ(first.bias, second.bias);
    EXPECT_EQ(b.try_load(file).status(), Status::io);
    EXPECT_EQ(b.try_load_bytes(saved.data(), saved.size() / 2).status(), Status::corrupt);
    auto options = Toy::options();
    options.meta_lr = 0.5;
    auto d = second.optimizer(options);
    EXPECT_EQ(d.try_load_bytes(saved.data(), saved.size()).status(), Status::mismatch);
    EXPECT_TRUE(d.try_load_bytes(saved.data(), saved.size(), metaadamw::Load::own_wins));
    auto const attention = a.save_bytes(metaadamw::Save::attention_only);
    EXPECT_TRUE(d.try_load_bytes(attention.data(), attention.size(), metaadamw::Load::attention_only));
}

TEST(State, TheDumpIsJson) {
    Toy toy;
    auto optimizer = toy.optimizer();
    toy.train(optimizer, 1);
    auto const json = optimizer.dump_state();
    EXPECT_EQ(json.front(), '{');
    EXPECT_NE(json.find("layers.0.weight"), std::string::npos);
}

TEST(State, MomentsMoveToAnotherOptimizer) {
    Toy first, second;
    auto options = Toy::options();
    options.modulation = false;
    auto a = first.optimizer(options), b = second.optimizer(options);
    first.train(a, 3);
    second.weight = first.weight;
    second.bias = first.bias;
    b.set_tensor_state(0, a.tensor_state<float>(0));
    b.set_tensor_state(1, a.tensor_state<double>(1));
    EXPECT_EQ(b.tensor_state<double>(1).step, 3u);
    first.train(a, 2);
    second.train(b, 2);
    EXPECT_EQ(first.weight, second.weight);
    EXPECT_EQ(first.bias, second.bias);
    EXPECT_EQ(a.try_tensor_state<float>(1).status(), Status::invalid_argument);
    EXPECT_EQ(b.try_set_tensor_state(1, metaadamw::TensorState<double>{{1.0}, {1.0}, 1}).status(),
              Status::invalid_argument);
}

TEST(State, VersionsAreTheHeaders) {
    EXPECT_EQ(metaadamw::version(), MAW_VERSION);
    EXPECT_EQ(metaadamw::abi_version(), static_cast<std::uint32_t>(MAW_ABI_VERSION));
}
