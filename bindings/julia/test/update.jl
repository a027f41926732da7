# Steps.

"AdamW written out: what a state with modulation off must do."
mutable struct PlainAdamW
    m::Vector{Any}
    v::Vector{Any}
    t::Int
end
PlainAdamW(model) = PlainAdamW([zero(x) for x in arrays(model)], [zero(x) for x in arrays(model)], 0)

function step!(plain::PlainAdamW, model, gradient, lr, decay; beta1 = 0.9, beta2 = 0.999, eps = 1e-8)
    plain.t += 1
    for (x, g, m, v) in zip(arrays(model), arrays(gradient), plain.m, plain.v)
        @. m = beta1 * m + (1 - beta1) * g
        @. v = beta2 * v + (1 - beta2) * g^2
        @. x -= lr * (m / (1 - beta1^plain.t) / (sqrt(v / (1 - beta2^plain.t)) + eps) + decay * x)
    end
end

@testset "with modulation off it is AdamW: $T" for (T, tolerance) in ((Float32, 1e-6), (Float64, 1e-12))
    model, expected = new_model(T), new_model(T)
    state = new_state(model; rule = MetaAdamW.Rule(lr = 1e-2, weight_decay = 0.1, modulation = false))
    plain = PlainAdamW(expected)
    for step in 1:100
        MetaAdamW.update!(state, model, last(quadratic(model, sin(step))))
        step!(plain, expected, last(quadratic(expected, sin(step))), 1e-2, 0.1)
    end
    @test all(isapprox(a, b; atol = tolerance) for (a, b) in zip(arrays(model), arrays(expected)))
    @test MetaAdamW.step_count(state) == 100
end

@testset "the same bits as by the C functions themselves" begin
    model, expected = new_model(), new_model()
    rule = MetaAdamW.Rule(seed = 5, threads = 1)
    state = new_state(model; rule = rule, first_index = 0)
    optimizer = MetaAdamW.create(rule.options)
    raw = MetaAdamW.Raw
    names, shapes = ["layers.0.weight", "layers.0.bias", "head"], [UInt64[3, 4], UInt64[4], UInt64[4]]
    GC.@preserve names shapes begin
        tensors = [MetaAdamW.change(MetaAdamW.defaults(raw.maw_tensor, raw.maw_tensor_init);
                                    name = Base.unsafe_convert(Cstring, names[i]), shape = pointer(shapes[i]),
                                    ndim = length(shapes[i])) for i in 1:3]
        MetaAdamW.call(raw.maw_add_param_group, optimizer, Ref(rule.group), tensors, 3, C_NULL)
    end
    for step in 1:5
        MetaAdamW.update!(state, model, last(quadratic(model, step)))
        x, g = arrays(expected), arrays(last(quadratic(expected, step)))
        GC.@preserve x g MetaAdamW.call(raw.maw_step, optimizer, Ptr{Cvoid}[pointer(a) for a in x],
                                        Ptr{Cvoid}[pointer(a) for a in g], 3, C_NULL, C_NULL)
    end
    raw.maw_optimizer_free(optimizer)
    @test arrays(model) == arrays(expected)
end

@testset "state and model come back" begin
    model = new_model()
    state = new_state(model)
    new_state_, new_model_ = MetaAdamW.update!(state, model, last(quadratic(model, 1)))
    @test new_state_ === state && new_model_ === model
end

@testset "arrays may move between steps" begin
    model, moving = new_model(), new_model()
    state, moving_state = new_state(model), new_state(moving)
    for step in 1:3
        MetaAdamW.update!(state, model, last(quadratic(model, step)))
        MetaAdamW.update!(moving_state, moving, last(quadratic(moving, step)))
        moving = deepcopy(moving)
    end
    @test arrays(moving) == arrays(model)
end

@testset "gradients of other types are converted" begin
    model, other = new_model(), new_model()
    state, other_state = new_state(model), new_state(other)
    gradient = last(quadratic(model, 1))
    MetaAdamW.update!(state, model, gradient)
    widened = like(x -> view(Float64.(x), ntuple(_ -> :, ndims(x))...), gradient)
    MetaAdamW.update!(other_state, other, (layers = (widened.layers[1],), head = reverse(reverse(widened.head))))
    @test arrays(model) == arrays(other)
    integers = (layers = nothing, head = [1, 2, 3, 4])
    MetaAdamW.update!(state, model, integers)
    MetaAdamW.update!(other_state, other, (layers = nothing, head = Float32[1, 2, 3, 4]))
    @test arrays(model) == arrays(other)
end

@testset "without a gradient, a tensor stays" begin
    model = new_model()
    state = new_state(model)
    before = snapshot(model)
    MetaAdamW.update!(state, model, (layers = [(weight = nothing, bias = ones(Float32, 4))], head = nothing))
    @test model.layers[1].weight == before[1] && model.head == before[3] && model.layers[1].bias != before[2]
    MetaAdamW.update!(state, model, nothing)
    @test MetaAdamW.tensor_state(state, "head").step == 0 && MetaAdamW.tensor_state(state, "layers.1.bias").step == 1
end

@testset "a gradient that is not finite" begin
    model = new_model()
    state = new_state(model)
    before = snapshot(model)
    MetaAdamW.update!(state, model, (head = Float32[1, NaN, 1, 1],))
    report = MetaAdamW.report(state)
    @test report.skipped && report.skip_reason === :gradient && report.nonfinite_tensor == "head"
    @test report.step == 0 && report.skipped_steps == 1 && snapshot(model) == before
    strict = new_state(model; rule = MetaAdamW.Rule(nonfinite = :error))
    @test fails(() -> MetaAdamW.update!(strict, model, (head = Float32[1, NaN, 1, 1],)), :not_finite, "head")
    @test snapshot(model) == before
end

@testset "loss scaling, clipping, announced gradients" begin
    results = map((1, 1024)) do scale
        model = new_model()
        state = new_state(model; rule = MetaAdamW.Rule(max_grad_norm = 0.5))
        gradient = like(x -> x .* Float32(scale), last(quadratic(model, 1)))
        MetaAdamW.observe_gradient!(state, "head", gradient.head)
        MetaAdamW.update!(state, model, gradient; grad_scale = scale)
        (arrays(model), MetaAdamW.report(state))
    end
    @test results[1] == results[2]
    @test results[1][2].clip_factor < 1 && results[1][2].grad_norm > 0.5
    model = new_model()
    state = new_state(model)
    @test fails(() -> MetaAdamW.observe_gradient!(state, "tail", model.head), :not_found, "tail")
    @test throws(() -> MetaAdamW.observe_gradient!(state, "head", ones(4)), ArgumentError, "Float32 is expected")
    @test throws(() -> MetaAdamW.observe_gradient!(state, "head", ones(Float32, 5)), DimensionMismatch, "(5,)")
    tied = (a = model.head, b = model.head)
    @test throws(() -> MetaAdamW.observe_gradient!(new_state(tied), "b", ones(Float32, 4)), ArgumentError, "shared")
end

@testset "parameters that other code changed" begin
    model = new_model()
    state = new_state(model; rule = MetaAdamW.Rule(verify_params = true))
    MetaAdamW.update!(state, model, last(quadratic(model, 1)))
    model.head .= 0
    @test fails(() -> MetaAdamW.update!(state, model, last(quadratic(model, 1))), :params_changed)
    MetaAdamW.update!(state, model, last(quadratic(model, 1)); params_changed = true)
    @test MetaAdamW.step_count(state) == 2
end

@testset "adjust!" begin
    state = new_state(new_model(); groups = [r"bias$" => (weight_decay = 0, lr = 1e-3)])
    @test MetaAdamW.learning_rates(state) == [5e-4, 1e-3] && MetaAdamW.weight_decays(state) == [1e-2, 0]
    MetaAdamW.adjust!(state, 0.25)
    @test MetaAdamW.learning_rates(state) == [0.25, 0.25]
    MetaAdamW.adjust!(state, 0.5; group = 2)
    MetaAdamW.adjust!(state; weight_decay = 0.125, priorities = (2, 5, 1))
    @test MetaAdamW.learning_rates(state) == [0.25, 0.5] && MetaAdamW.weight_decays(state) == [0.125, 0.125]
    @test MetaAdamW.priorities(state) == (2.0, 5.0, 1.0)
    @test throws(() -> MetaAdamW.adjust!(state; lambda = 1), ArgumentError, "no keyword `lambda` (here it is weight_decay); it knows lr")
    @test throws(() -> MetaAdamW.adjust!(state), ArgumentError, "something to change")
    @test fails(() -> MetaAdamW.adjust!(state, 1; group = 3), :not_found, "no param group 3")
    MetaAdamW.adjust!(state; beta2 = 0.99, eps = 1e-4, max_grad_norm = 2)
    MetaAdamW.adjust!(state; beta = (0.5, 0.75), group = 2)
    @test MetaAdamW.betas(state) == [(0.9, 0.99), (0.5, 0.75)] && MetaAdamW.epsilons(state) == [1e-4, 1e-4]
    @test MetaAdamW.max_grad_norm(state) == 2
    @test throws(() -> MetaAdamW.adjust!(state; betas = (0.5, 0.5)), ArgumentError, "`betas` (here it is beta1 and beta2)")
    @test throws(() -> MetaAdamW.adjust!(state; beta = (0.5, 0.5), beta1 = 0.5), ArgumentError, "and one of these")
    @test throws(() -> MetaAdamW.adjust!(state; beta = 0.5), ArgumentError, "beta = 0.5 is not usable")
    # All or nothing: what was set before the failure is put back.
    @test fails(() -> MetaAdamW.adjust!(state; beta1 = 0.25, eps = 0), :invalid_argument, "eps")
    @test fails(() -> MetaAdamW.adjust!(state; beta1 = 0.25, eps = 1, max_grad_norm = 1, priorities = (-1, 0, 0)), :invalid_argument)
    @test MetaAdamW.betas(state) == [(0.9, 0.99), (0.5, 0.75)] && MetaAdamW.epsilons(state) == [1e-4, 1e-4]
    @test MetaAdamW.max_grad_norm(state) == 2
    @test fails(() -> MetaAdamW.adjust!(state; lr = 9, weight_decay = -1), :invalid_argument)
    @test fails(() -> MetaAdamW.adjust!(state; lr = 9, weight_decay = 9, priorities = (-1, 0, 0)), :invalid_argument)
    @test MetaAdamW.learning_rates(state) == [0.25, 0.5] && MetaAdamW.weight_decays(state) == [0.125, 0.125]
end

@testset "what is adjusted is used by the next step" begin
    model, expected = new_model(), new_model()
    rule = MetaAdamW.Rule(beta1 = 0.5, beta2 = 0.75, eps = 0.125, max_grad_norm = 0.25, attn_layers = 2, threads = 1)
    created, adjusted = new_state(expected; rule = rule), new_state(model; rule = MetaAdamW.Rule(attn_layers = 2, threads = 1))
    MetaAdamW.adjust!(adjusted; beta = (0.5, 0.75), eps = 0.125, max_grad_norm = 0.25)
    for step in 1:3
        MetaAdamW.update!(created, expected, last(quadratic(expected, step)))
        MetaAdamW.update!(adjusted, model, last(quadratic(model, step)))
    end
    @test arrays(model) == arrays(expected) && MetaAdamW.report(adjusted).clip_factor < 1
end

@testset "groups: the first that fits, the rest by the rule" begin
    model = new_model()
    groups = ["layers.1.bias" => (lr = 1,), :layers => (lr = 2,)]
    state = new_state(model; groups = groups)
    @test MetaAdamW.tensor_names(state) == ["head", "layers.1.bias", "layers.1.weight"]
    @test MetaAdamW.learning_rates(state) == [5e-4, 1, 2]
    gradient = last(quadratic(model, 1))
    MetaAdamW.update!(state, model, gradient)
    @test MetaAdamW.tensor_state(state, "head").exp_avg ≈ 0.1f0 .* gradient.head
    @test MetaAdamW.tensor_state(state, "layers.1.weight").exp_avg ≈ 0.1f0 .* gradient.layers[1].weight
    @test throws(() -> new_state(model; groups = ["head" => (rate = 1,)]), ArgumentError, "no keyword `rate`")
    # A group that gets no tensor would shift the numbers of the others.
    @test throws(() -> new_state(model; groups = [r"bais$" => (lr = 1,), :layers => (lr = 2,)]), ArgumentError,
                 "groups[1], r\"bais\$\", gets no tensor: there are layers.1.weight, layers.1.bias, head")
    @test throws(() -> new_state(model; groups = [:layers => (lr = 1,), r"bias" => (lr = 2,)]), ArgumentError,
                 "groups[2], r\"bias\", gets no tensor: groups before it have layers.1.bias")
    custom = new_state(model; rule = MetaAdamW.Rule(grouping = :custom), modulation_group = name -> name[1:4])
    @test Dict(MetaAdamW.groups(custom))["laye"] == ["layers.1.weight", "layers.1.bias"]
    linear = new_state(model; layer_kind = name -> :linear)
    @test all(startswith("linear"), first.(MetaAdamW.groups(linear))) ||
          all(name -> startswith(name, "linear"), first.(MetaAdamW.groups(linear)))
    @test throws(() -> new_state(model; layer_kind = name -> :conv), ArgumentError, "layers.1.weight = :conv")
    # What is said comes before the name.
    sequential = (ones(Float32, 2, 2), (attn = (norm = ones(Float32, 2, 2),),), ones(Float32, 2, 2))
    kinds = Dict("1" => :convolution, "2.attn.norm" => :batchnorm, "3" => :recurrent)
    said = new_state(sequential; layer_kind = name -> kinds[name], layer_index = name -> parse(Int, first(name)))
    @test first.(MetaAdamW.groups(said)) ==
          ["convolution.shallow.weight", "batchnorm.middle.weight", "recurrent.deep.weight"]
    @test throws(() -> new_state(model; layer_index = name -> -1), ArgumentError, "layer_index of layers.1.weight = -1")
    @test fails(() -> new_state(model; layer_index = name -> 1_000_001), :invalid_argument, "layer_index")
end

@testset "param groups go by what named them" begin
    is_weight(name) = occursin("weight", name)
    state = new_state(new_model(); groups = ["layers.1.bias" => (lr = 1,), r"head" => (lr = 2,), is_weight => (lr = 3,)])
    @test MetaAdamW.param_groups(state) ==
          ["layers.1.bias" => ["layers.1.bias"], r"head" => ["head"], is_weight => ["layers.1.weight"]]
    MetaAdamW.adjust!(state, 0.25; group = r"head")
    MetaAdamW.adjust!(state; lr = 0.5, group = is_weight)
    MetaAdamW.adjust!(state; weight_decay = 0.125, group = Symbol("layers.1.bias"))
    @test MetaAdamW.learning_rates(state) == [1, 0.25, 0.5] && MetaAdamW.weight_decays(state) == [0.125, 1e-2, 1e-2]
    @test fails(() -> MetaAdamW.adjust!(state, 1; group = :rest), :not_found, "no param group was named by :rest; there are")
    rest = new_state(new_model(); groups = [:head => (lr = 2,)])
    MetaAdamW.adjust!(rest, 0.25; group = :rest)
    MetaAdamW.adjust!(rest, 0.5; group = "head")
    @test MetaAdamW.learning_rates(rest) == [0.25, 0.5] && first.(MetaAdamW.param_groups(rest)) == [:rest, :head]
    @test MetaAdamW.param_groups(new_state((w = Float32[1],))) == [:rest => ["w"]]
end

@testset "freeze! and thaw!" begin
    model = new_model()
    state = new_state(model)
    gradient = last(quadratic(model, 1))
    moved(f) = (before = snapshot(model); f(); [a != b for (a, b) in zip(before, arrays(model))])
    update() = MetaAdamW.update!(state, model, gradient)
    MetaAdamW.freeze!(state, "layers.1")
    @test occursin("2 tensors frozen", repr(state))
    @test moved(update) == [false, false, true]
    MetaAdamW.thaw!(state, r"bias")
    @test moved(update) == [false, true, true]
    MetaAdamW.freeze!(state)
    @test moved(update) == [false, false, false]
    MetaAdamW.thaw!(state)
    @test moved(update) == [true, true, true]
    @test fails(() -> MetaAdamW.freeze!(state, "layers.2"), :not_found, "layers.2")
    @test fails(() -> MetaAdamW.freeze!(state, "lay"), :not_found, "lay")
    # A shared array goes by each of its names.
    tied = (a = model.head, b = (c = model.head,))
    tied_state = new_state(tied)
    MetaAdamW.freeze!(tied_state, "b")
    before = copy(model.head)
    MetaAdamW.update!(tied_state, tied, (a = ones(Float32, 4), b = nothing))
    @test model.head == before
end

@testset "reset!" begin
    model = new_model()
    state = new_state(model)
    MetaAdamW.update!(state, model, last(quadratic(model, 1)))
    MetaAdamW.reset!(state; moments = true)
    @test MetaAdamW.step_count(state) == 0 && iszero(MetaAdamW.tensor_state(state, "head").exp_avg)
    name = "output_proj.bias"
    start = MetaAdamW.attention(state, name)
    MetaAdamW.set_attention!(state, name, start .+ 1)
    MetaAdamW.reset!(state; attention = true)
    @test MetaAdamW.attention(state, name) == start
    @test fails(() -> MetaAdamW.reset!(state), :invalid_argument)
end
