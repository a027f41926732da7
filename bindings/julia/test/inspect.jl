# Getters, and the attention module.

@testset "groups, factors, features" begin
    model = new_model()
    state = new_state(model)
    @test fails(() -> MetaAdamW.factors(state), :invalid_state)
    MetaAdamW.update!(state, model, last(quadratic(model, 1)))
    groups, factors = MetaAdamW.groups(state), MetaAdamW.factors(state)
    @test Set(first.(groups)) == Set(keys(factors))
    @test sort(vcat(last.(groups)...)) == sort(MetaAdamW.tensor_names(state))
    @test all(f -> 0.5 <= f.alpha <= 1.5 && 0.5 <= f.beta <= 1.5, values(factors))
    @test size(MetaAdamW.features(state), 1) == length(groups)
    # Basic features begin with a norm for each group: none is negative, and rows are groups.
    @test all(MetaAdamW.features(state)[:, 1] .> 0)
    @test occursin("\"schema\"", MetaAdamW.dump_state(state))
end

@testset "a state shows its step, learning rates and groups" begin
    model = new_model()
    state = new_state(model; groups = [r"bias" => (lr = 0.25, weight_decay = 0)])
    long() = sprint(show, MIME("text/plain"), state)
    number = length(MetaAdamW.groups(state))
    @test repr(state) == "MetaAdamW.State(3 tensors, 20 parameters, step 0, lr 0.0005, 0.25, $number modulation groups)"
    @test occursin("\n  param group 1, :rest: lr 0.0005, weight decay 0.01, 2 tensors\n", long())
    @test occursin("\n  param group 2, r\"bias\": lr 0.25, weight decay 0.0, 1 tensor\n", long()) && !occursin("alpha", long())
    MetaAdamW.update!(state, model, last(quadratic(model, 1)))
    MetaAdamW.adjust!(state, 0.5)
    name, names = MetaAdamW.groups(state)[1]
    alpha = round(MetaAdamW.factors(state)[name].alpha, digits = 3)
    @test occursin("step 1, lr 0.5, ", repr(state))
    @test occursin("\n  modulation group $(repr(name)): $(MetaAdamW.of_tensors(names)), alpha $alpha, beta ", long())
    # While a call runs, for example when a log function prints it.
    MetaAdamW.locked(_ -> (@test repr(state) == "MetaAdamW.State(3 tensors, 20 parameters, in use)"), state)
    close(state)
    @test long() == "MetaAdamW.State(closed)"
end

@testset "the attention module's tensors are matrices, read and set" begin
    model = new_model()
    state = new_state(model)
    attention = MetaAdamW.attention(state)
    @test attention["output_proj.weight"] == MetaAdamW.attention(state, "output_proj.weight")
    weight = attention["encoder.layers.0.linear1.weight"]
    @test size(weight, 1) == 16 && size(attention["encoder.layers.0.linear1.bias"]) == (16, 1)
    other = [10.0i + j for i in 1:size(weight, 1), j in 1:size(weight, 2)]
    MetaAdamW.set_attention!(state, "encoder.layers.0.linear1.weight", other)
    @test MetaAdamW.attention(state, "encoder.layers.0.linear1.weight") == other
    MetaAdamW.set_attention!(state, "encoder.layers.0.linear1.bias", 1:16)
    @test vec(MetaAdamW.attention(state, "encoder.layers.0.linear1.bias")) == 1:16
    @test throws(() -> MetaAdamW.set_attention!(state, "encoder.layers.0.linear1.weight", permutedims(other)),
                 DimensionMismatch, "has size")
    @test fails(() -> MetaAdamW.attention(state, "unknown"), :not_found, "unknown")
    @test fails(() -> MetaAdamW.set_attention!(state, "output_proj.bias", fill(NaN, 4)), :invalid_argument)
    # Row-major on the C side: the first row comes first.
    first_row = Vector{Float64}(undef, length(other))
    MetaAdamW.locked(state) do handle
        MetaAdamW.call(MetaAdamW.Raw.maw_attention_get, handle, "encoder.layers.0.linear1.weight", first_row,
                       length(other))
    end
    @test first_row[1:size(other, 2)] == other[1, :]
end

@testset "a step of the attention module goes along meta_gradient" begin
    model = new_model()
    state = new_state(model; rule = MetaAdamW.Rule(attn_layers = 2, meta_lr = 1e-2))
    MetaAdamW.update!(state, model, last(quadratic(model, 1)))
    @test fails(() -> MetaAdamW.meta_gradient(state, "alpha"), :invalid_state)
    before = MetaAdamW.attention(state)
    MetaAdamW.meta_update!(r -> answer(model, r), state, model)
    for (name, values) in before
        @test MetaAdamW.attention(state, name) ≈ values .- 1e-2 .* MetaAdamW.meta_gradient(state, name)
    end
    @test length(MetaAdamW.meta_gradient(state, "alpha")) == length(MetaAdamW.groups(state))
    @test fails(() -> MetaAdamW.meta_gradient(state, "unknown"), :not_found)
end

@testset "names may be Symbols" begin
    model = new_model()
    state = new_state(model; groups = [:head => (lr = 1e-3,)], rename = path -> Symbol(path), modulation_group = Symbol,
                      rule = MetaAdamW.Rule(grouping = :custom, attn_layers = 2, threads = 1))
    gradient = last(quadratic(model, 1))
    MetaAdamW.observe_gradient!(state, :head, gradient.head)
    MetaAdamW.update!(state, model, gradient)
    @test MetaAdamW.tensor_state(state, :head) == MetaAdamW.tensor_state(state, "head")
    MetaAdamW.set_tensor_state!(state, :head; exp_avg = ones(4), exp_avg_sq = ones(4), step = 1)
    @test MetaAdamW.tensor_state(state, :head).exp_avg == ones(4)
    bias = Symbol("output_proj.bias")
    MetaAdamW.set_attention!(state, bias, 2 .* MetaAdamW.attention(state, bias))
    MetaAdamW.meta_update!(r -> answer(model, r), state, model)
    @test MetaAdamW.meta_gradient(state, bias) == MetaAdamW.meta_gradient(state, "output_proj.bias")
    @test MetaAdamW.meta_gradient(state, :alpha) == MetaAdamW.meta_gradient(state, "alpha")
    @test fails(() -> MetaAdamW.tensor_state(state, :tail), :not_found, ":tail")
    half = (w = Float16[1, 2],)
    half_state = new_state(half; rule = MetaAdamW.Rule(precision = :master))
    MetaAdamW.set_masters!(half_state, :w, half.w, [1, 0.1])
    @test MetaAdamW.masters(half_state, :w, half.w) == Float32[1, 0.1]
end

@testset "an error shows status and message" begin
    e = MetaAdamW.MetaAdamWError(:busy, "later")
    @test sprint(showerror, e) == "MetaAdamWError (busy): later" && e isa Exception
    @test MetaAdamW.status_symbol(MetaAdamW.Raw.MAW_BUSY) === :busy
    @test MetaAdamW.status_symbol(-99) === :unknown_status || MetaAdamW.status_symbol(-99) === Symbol("unknown_-99")
end

@testset "no method is ambiguous" begin
    @test isempty(detect_ambiguities(MetaAdamW))
end
