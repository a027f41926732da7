# Meta-updates.

"Two steps, after which a meta-update is due."
function before_meta(; keywords...)
    model = new_model()
    state = new_state(model; keywords...)
    for step in 1:2
        MetaAdamW.update!(state, model, last(quadratic(model, step)))
    end
    return state, model
end

attention_bits(state) = MetaAdamW.attention(state)

@testset "a meta-update moves the attention module and nothing else" begin
    state, model = before_meta()
    @test MetaAdamW.meta_due(state)
    @test MetaAdamW.meta_result(state).outcome === :none
    before, attention = snapshot(model), attention_bits(state)
    requests, values = MetaAdamW.Request[], Any[]
    result = MetaAdamW.meta_update!(state, model) do request
        push!(requests, request)
        push!(values, snapshot(model))
        request.wants_gradient ? answer(model, request) : first(answer(model, request))
    end
    @test result.outcome === :updated && result.updates == 1 && result.step == 2
    @test result.evaluations == length(requests) && result.loss_train ≈ first(quadratic(model, TARGETS.train_1))
    @test snapshot(model) == before && attention_bits(state) != attention
    @test !MetaAdamW.meta_due(state)
    # It made a trial step, asked for all batches, and numbered its requests.
    @test length(unique(values)) > 1 && Set(r.batch for r in requests) == Set(keys(TARGETS))
    @test [r.id for r in requests] == 1:length(requests)
    @test all(r -> r.replay == 0 || requests[r.replay].batch === r.batch, requests)
    played(r) = r.replay == 0 ? r.id : r.replay
    @test all((played(a) == played(b)) == (a.seed == b.seed) for a in requests, b in requests)
    @test any(r -> r.replay != 0, requests) && any(r -> !r.wants_gradient, requests)
end

@testset "a gradient that was not asked for does no harm" begin
    (state, model), (other, other_model) = before_meta(), before_meta()
    MetaAdamW.meta_update!(r -> answer(model, r), state, model)
    MetaAdamW.meta_update!(other, other_model) do r
        r.wants_gradient ? answer(other_model, r) : first(answer(other_model, r))
    end
    @test attention_bits(state) == attention_bits(other)
end

@testset "an answer of Zygote.withgradient" begin
    (state, model), (other, other_model) = before_meta(), before_meta()
    MetaAdamW.meta_update!(r -> answer(model, r), state, model)
    MetaAdamW.meta_update!(other, other_model) do r
        loss, gradient = answer(other_model, r)
        (val = loss, grad = (gradient,))
    end
    @test attention_bits(state) == attention_bits(other)
end

@testset "an exception at request $at aborts, arrives, and leaves everything as before" for at in 1:6
    state, model = before_meta()
    before, attention = snapshot(model), attention_bits(state)
    e = thrown() do
        MetaAdamW.meta_update!(state, model) do request
            request.id == at && throw(DomainError(at, "from the user"))
            answer(model, request)
        end
    end
    @test e isa DomainError && e.val == at
    @test snapshot(model) == before && attention_bits(state) == attention
    @test MetaAdamW.meta_result(state).outcome === :aborted
    # Training continues as before.
    MetaAdamW.update!(state, model, last(quadratic(model, 3)))
    @test MetaAdamW.meta_update!(r -> answer(model, r), state, model).outcome === :updated
end

"A real Ctrl-C, which arrives while the caller's code runs."
function interrupt()
    Base.exit_on_sigint(false)
    ccall(:kill, Cint, (Cint, Cint), getpid(), 2)
    for _ in 1:1000
        sleep(0.01)
    end
    error("no interrupt came")
end

@testset "after $what, and a save, meta_update! makes it the uninterrupted run" for (what, fail) in (
    "an error" => () -> error("from the user"), "an interrupt" => () -> throw(InterruptException()),
    "a signal" => interrupt)
    whole_state, whole = before_meta()
    MetaAdamW.meta_update!(r -> answer(whole, r), whole_state, whole)
    foreach(step -> MetaAdamW.update!(whole_state, whole, last(quadratic(whole, step))), 3:5)

    state, model = before_meta()
    e = thrown(() -> MetaAdamW.meta_update!(r -> r.id == 3 ? fail() : answer(model, r), state, model))
    @test e isa (what == "an error" ? ErrorException : InterruptException)
    @test MetaAdamW.meta_result(state).outcome === :aborted && !MetaAdamW.meta_due(state)
    io = IOBuffer()
    MetaAdamW.save(io, state)
    resumed = new_state(model)
    MetaAdamW.load!(resumed, seekstart(io))
    @test !MetaAdamW.meta_due(resumed)              # it counts as ended
    @test MetaAdamW.meta_update!(r -> answer(model, r), resumed, model).outcome === :updated
    foreach(step -> MetaAdamW.update!(resumed, model, last(quadratic(model, step))), 3:5)
    @test snapshot(model) == snapshot(whole) && attention_bits(resumed) == attention_bits(whole_state)
end

@testset "an interrupt waits for the end of a call" begin
    state, model = before_meta()
    Base.exit_on_sigint(false)
    inside = Ref(false)
    e = thrown() do
        MetaAdamW.locked(state) do handle
            ccall(:kill, Cint, (Cint, Cint), getpid(), 2)
            Libc.systemsleep(0.1)
            GC.safepoint()                          # where an interrupt would come
            inside[] = true
        end
        sleep(5)
    end
    @test e isa InterruptException && inside[]
    @test MetaAdamW.step_count(state) == 2          # it is not busy for ever
end

@testset "a meta-update inside another is refused, and the outer one goes on" begin
    state, model = before_meta()
    inner = []
    result = MetaAdamW.meta_update!(state, model) do request
        push!(inner, thrown(() -> MetaAdamW.meta_update!(r -> answer(model, r), state, model)))
        @test fails(() -> close(state), :invalid_state, "a meta-update is open")
        answer(model, request)
    end
    @test result.outcome === :updated && all(e -> e isa MetaAdamW.MetaAdamWError, inner)
end

@testset "answers that do not fit abort as well" begin
    state, model = before_meta()
    before = snapshot(model)
    refused(f, type, text) =
        throws(() -> MetaAdamW.meta_update!(f, state, model), type, text) && snapshot(model) == before
    @test refused(r -> 1.0, ArgumentError, "request 1 wants (loss, gradient)")
    @test refused(r -> "low", ArgumentError, "answered a String")
    @test refused(r -> (1.0, (head = ones(Float32, 5),)), DimensionMismatch, "head")
    @test refused(r -> (1.0, (tail = ones(Float32, 5),)), ArgumentError, ":tail")
    @test refused(r -> MetaAdamW.update!(state, model, nothing), MetaAdamW.MetaAdamWError, "meta-update")
    @test refused(r -> MetaAdamW.save(tempname(), state), MetaAdamW.MetaAdamWError, "meta-update")
    @test refused(r -> close(state), MetaAdamW.MetaAdamWError, "a meta-update is open")
    @test refused(r -> MetaAdamW.meta_update!(r -> answer(model, r), state, model), MetaAdamW.MetaAdamWError, "")
    @test isopen(state) && MetaAdamW.meta_result(state).updates == 0
end

@testset "getters work in between" begin
    state, model = before_meta()
    MetaAdamW.meta_update!(state, model) do request
        @test MetaAdamW.step_count(state) == 2 && !isempty(MetaAdamW.factors(state))
        @test occursin("options", MetaAdamW.dump_state(state))
        answer(model, request)
    end
end

@testset "losses that are not finite abandon it" begin
    state, model = before_meta()
    before = snapshot(model)
    @test MetaAdamW.meta_update!(r -> (NaN, last(answer(model, r))), state, model).outcome === :loss_not_finite
    bad = like(x -> fill(eltype(x)(NaN), size(x)), model)
    @test MetaAdamW.meta_update!(r -> (1, bad), state, model).outcome === :gradient_not_finite
    @test snapshot(model) == before
end

@testset "gradients may be scaled, absent, of another type" begin
    (state, model), (other, other_model) = before_meta(), before_meta()
    MetaAdamW.meta_update!(r -> answer(model, r), state, model)
    MetaAdamW.meta_update!(other, other_model; grad_scale = 4) do r
        loss, gradient = answer(other_model, r)
        (Float32(loss) == loss ? loss : loss, like(x -> 4 .* Float64.(x), gradient))
    end
    @test attention_bits(state) == attention_bits(other)
    MetaAdamW.freeze!(state, "head")
    @test MetaAdamW.meta_update!(r -> (1f0, (layers = answer(model, r)[2].layers,)), state, model).outcome === :updated
end

@testset "without modulation there is none" begin
    model = new_model()
    state = new_state(model; rule = MetaAdamW.Rule(modulation = false))
    MetaAdamW.update!(state, model, nothing)
    @test !MetaAdamW.meta_due(state)
    @test fails(() -> MetaAdamW.meta_update!(r -> 1.0, state, model), :invalid_state)
end
