# Learning from steps alone, and averages of the parameters.

"A state that has learned from nothing yet, and its model."
function of_horizon(; keywords...)
    model = new_model()
    rule = MetaAdamW.Rule(; preset = :horizon, horizon = 4, meta_warmup = 2, threads = 1, keywords...)
    return new_state(model; rule = rule), model
end

steps!(state, model, steps) = foreach(steps) do step
    MetaAdamW.update!(state, model, last(quadratic(model, sin(step))))
end

@testset "the attention module learns from steps alone" begin
    state, model = of_horizon()
    alpha() = first(values(MetaAdamW.factors(state))).alpha
    steps!(state, model, 1:1)
    @test alpha() == 1                              # it begins as AdamW
    for step in 2:41
        steps!(state, model, step:step)
        @test !MetaAdamW.meta_due(state)
    end
    @test alpha() != 1
    result = MetaAdamW.meta_result(state)
    @test result.outcome === :updated && result.updates == (41 - 2) ÷ 5 && result.evaluations == 0
    @test fails(() -> MetaAdamW.meta_update!(r -> error("nobody asks"), state, model), :invalid_state)
end

@testset "an average follows its parameter" begin
    model = new_model(Float64)
    state = new_state(model; rule = MetaAdamW.Rule(modulation = false, horizon = 4))    # averages alone
    @test fails(() -> MetaAdamW.average(state, "head"), :invalid_state)                  # before the first step
    wanted = copy(model.head)
    for step in 1:6
        steps!(state, model, step:step)
        wanted .+= (model.head .- wanted) ./ 4
    end
    @test MetaAdamW.average(state, :head) ≈ wanted rtol = 1e-14
    weight = MetaAdamW.average(state, "layers.1.weight")
    @test weight isa Matrix{Float64} && size(weight) == (4, 3)
    @test fails(() -> MetaAdamW.average(state, "tail"), :not_found)
    narrow, its_model = of_horizon()
    steps!(narrow, its_model, 1:1)
    @test MetaAdamW.average(narrow, "head") isa Vector{Float32}
end

@testset "with_averages leaves the parameters as they were" begin
    state, model = of_horizon()
    steps!(state, model, 1:5)
    before = snapshot(model)
    answered = MetaAdamW.with_averages(state, model) do same
        @test same === model && snapshot(model) != before
        @test model.head == MetaAdamW.average(state, "head")
        model.head[1] = 9                           # is lost
        @test fails(() -> steps!(state, model, 6:6), :invalid_state, "averages")
        @test fails(() -> MetaAdamW.with_averages(identity, state, model), :invalid_state, "already")
        @test fails(() -> MetaAdamW.swap_averages!(state, model), :invalid_state, "with_averages is running")
        @test fails(() -> close(state), :invalid_state, "with_averages is running")
        @test MetaAdamW.step_count(state) == 5
        "answer"
    end
    @test answered == "answer" && snapshot(model) == before
    for e in (DomainError(1, "from the user"), InterruptException())
        @test thrown(() -> MetaAdamW.with_averages(_ -> throw(e), state, model)) === e
        @test snapshot(model) == before
    end
    other, undisturbed = of_horizon()
    steps!(other, undisturbed, 1:12)
    steps!(state, model, 6:12)
    @test snapshot(model) == snapshot(undisturbed) && MetaAdamW.attention(state) == MetaAdamW.attention(other)
    close(state)
end

@testset "averages are swapped by hand" begin
    state, model = of_horizon()
    steps!(state, model, 1:3)
    before = snapshot(model)
    MetaAdamW.swap_averages!(state, model)
    @test model.head == MetaAdamW.average(state, "head") && snapshot(model) != before
    @test fails(() -> MetaAdamW.with_averages(identity, state, model), :invalid_state, "already")
    MetaAdamW.swap_averages!(state, model)
    @test snapshot(model) == before
    @test throws(() -> MetaAdamW.swap_averages!(state, (head = model.head,)), ArgumentError, "the model has 1 arrays")
end

@testset "without a horizon there are none" begin
    model = new_model()
    state = new_state(model)
    steps!(state, model, 1:1)
    called = Ref(false)
    @test fails(() -> MetaAdamW.with_averages(_ -> called[] = true, state, model), :invalid_state, "horizon")
    @test !called[] && fails(() -> MetaAdamW.average(state, "head"), :invalid_state)
    steps!(state, model, 2:2)
end
