# Options by keyword.

@testset "defaults are the library's" begin
    rule = MetaAdamW.Rule()
    @test rule.group.lr == 5e-4 && rule.group.weight_decay == 1e-2
    @test rule.options.meta_interval == 200 && rule.options.priorities == (1.0, 1.0, 1.0)
    @test repr(rule) == "MetaAdamW.Rule()"
end

@testset "keywords reach the library's structs" begin
    rule = MetaAdamW.Rule(lr = 5f-4, beta2 = 0.99, seed = 3, modulation = false, init = :identity,
                          feature_version = :norm_basic_plus, priorities = [2, 5, 1],
                          huw_kinds = (:regression, :classification, :regression))
    @test rule.group.lr == Float64(5f-4) && rule.group.beta2 == 0.99
    @test rule.options.seed == 3 && rule.options.modulation == 0
    @test rule.options.init == MetaAdamW.Raw.MAW_INIT_IDENTITY
    @test rule.options.feature_version == MetaAdamW.Raw.MAW_FEATURES_NORM_BASIC_PLUS
    @test rule.options.priorities == (2.0, 5.0, 1.0) && rule.options.huw_kinds == (0, 1, 0)
end

@testset "a rule is shown as it would be written" begin
    text = "MetaAdamW.Rule(lr = 0.001, meta_interval = 100, priorities = (2.0, 5.0, 1.0), init = :identity)"
    @test repr(eval(Meta.parse(text))) == text
end

@testset "every enumeration of the header has its names" begin
    for (field, names) in MetaAdamW.ENUMERATIONS
        @test field in (fieldnames(MetaAdamW.Raw.maw_options)..., fieldnames(MetaAdamW.Raw.maw_param_group)...)
        # Consecutive numbers from 0 on, as in the header: none is forgotten in between. Of dtypes some are meant.
        @test field in (:moment_dtype, :average_dtype) || collect(values(names)) == 0:length(names) - 1
    end
end

@testset "the preset is the library's, and keywords change it" begin
    wanted = MetaAdamW.defaults(MetaAdamW.Raw.maw_options, (options, size) ->
        MetaAdamW.Raw.maw_options_preset(options, size, MetaAdamW.Raw.MAW_PRESET_HORIZON))
    rule = MetaAdamW.Rule(preset = :horizon)
    @test rule.options === wanted && rule.group === MetaAdamW.Rule().group
    @test occursin("objective = :horizon", repr(rule)) && eval(Meta.parse(repr(rule))) === rule
    changed = MetaAdamW.Rule(lr = 1e-3, horizon = 10, average_dtype = :bfloat16, preset = :horizon, beta_log_range = 4)
    @test changed.options === MetaAdamW.change(wanted; horizon = 10, average_dtype = MetaAdamW.Raw.MAW_BFLOAT16,
                                               beta_log_range = 4)
    @test changed.group.lr == 1e-3
    @test throws(() -> MetaAdamW.Rule(preset = :fast), ArgumentError, "preset = :fast: it is one of :horizon")
    for wrong in ((meta_optimizer = :sgd,), (horizon = 0,), (alpha_log_range = 1,))
        rule = MetaAdamW.Rule(; preset = :horizon, wrong...)
        @test fails(() -> MetaAdamW.setup(rule, new_model()), :invalid_argument, string(only(keys(wrong))))
    end
end

@testset "mistakes are named" begin
    @test throws(() -> MetaAdamW.Rule(rate = 1), ArgumentError, "Rule has no keyword `rate`; it knows lr,")
    for (name, ours) in (:eta => "lr", :learning_rate => "lr", :beta => "beta1 and beta2", :epsilon => "eps",
                         :lambda => "weight_decay")
        @test throws(() -> MetaAdamW.Rule(; name => 1), ArgumentError, "no keyword `$name` (here it is $ours); it")
    end
    @test throws(() -> MetaAdamW.adjust!(new_state(new_model()); eta = 1), ArgumentError, "`eta` (here it is lr)")
    @test throws(() -> new_state(new_model(); groups = [:head => (eta = 1,)]), ArgumentError, "`eta` (here it is lr)")
    @test throws(() -> MetaAdamW.Rule(struct_size = 1), ArgumentError, "no keyword `struct_size`")
    @test throws(() -> MetaAdamW.Rule(init = :zero), ArgumentError, "init = :zero: it is one of :xavier, :identity")
    @test throws(() -> MetaAdamW.Rule(init = "identity"), ArgumentError, "a Symbol is expected")
    @test throws(() -> MetaAdamW.Rule(meta_interval = -1), ArgumentError, "meta_interval = -1 is not usable")
    @test throws(() -> MetaAdamW.Rule(lr = "fast"), ArgumentError, "lr = \"fast\" is not usable")
    @test throws(() -> MetaAdamW.Rule(priorities = (1, 2)), ArgumentError, "priorities = (1, 2) is not usable")
    @test throws(() -> MetaAdamW.Rule(huw_kinds = :regression), ArgumentError, "huw_kinds")
    # Values are checked by the library, which names the field.
    @test fails(() -> MetaAdamW.setup(MetaAdamW.Rule(alpha_range = 3), new_model()), :invalid_argument, "alpha_range")
    @test fails(() -> MetaAdamW.setup(MetaAdamW.Rule(lr = -1), new_model()), :invalid_argument, "lr")
    MetaAdamW.cuda_available() || @test fails(() -> new_state(new_model(); rule = MetaAdamW.Rule(device = :cuda)), :unsupported)
    @test throws(() -> MetaAdamW.setup(:adam, new_model()), ArgumentError, "expects a MetaAdamW.Rule")
end
