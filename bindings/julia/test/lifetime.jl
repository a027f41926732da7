# Closing, the garbage collector, tasks and threads.

@testset "closed" begin
    model = new_model()
    state = new_state(model)
    close(state)
    close(state)
    @test !isopen(state) && repr(state) == "MetaAdamW.State(closed)"
    for use in (
        () -> MetaAdamW.update!(state, model, nothing), () -> MetaAdamW.meta_due(state),
        () -> MetaAdamW.meta_update!(r -> 1.0, state, model), () -> MetaAdamW.adjust!(state, 1),
        () -> MetaAdamW.freeze!(state), () -> MetaAdamW.factors(state), () -> MetaAdamW.features(state),
        () -> MetaAdamW.attention(state), () -> MetaAdamW.dump_state(state), () -> MetaAdamW.save(tempname(), state),
        () -> MetaAdamW.load!(state, tempname()), () -> MetaAdamW.set_log!(nothing, state),
        () -> MetaAdamW.reset!(state; moments = true), () -> MetaAdamW.step_count(state),
        () -> MetaAdamW.observe_gradient!(state, "head", model.head), () -> MetaAdamW.tensor_state(state, "head"),
    )
        @test fails(use, :invalid_state, "closed")
    end
end

@testset "a handle is not copied" begin
    state = new_state(new_model())
    @test throws(() -> deepcopy(state), ArgumentError, "cannot be copied")
    @test throws(() -> deepcopy((state = state,)), ArgumentError, "cannot be copied")
end

@testset "a handle is not serialized" begin
    state = new_state(new_model())
    serialize(x) = MetaAdamW.Serialization.serialize(IOBuffer(), x)
    @test throws(() -> serialize(state), ArgumentError, "MetaAdamW.save(io, state)")
    @test throws(() -> serialize((model = [1], state = [state])), ArgumentError, "cannot be serialized")
    # A rule is plain data.
    io = IOBuffer()
    MetaAdamW.Serialization.serialize(io, MetaAdamW.Rule(lr = 0.25, seed = 3))
    @test MetaAdamW.Serialization.deserialize(seekstart(io)) === MetaAdamW.Rule(lr = 0.25, seed = 3)
end

@testset "handles that are dropped are freed" begin
    for _ in 1:500
        new_state(new_model())
    end
    GC.gc()
    GC.gc()
    @test true # that it does not crash
end

@testset "the garbage collector may come at any time" begin
    heard = Ref(0)
    function run_collecting(collect_garbage)
        model = new_model()
        state = MetaAdamW.setup(MetaAdamW.Rule(meta_interval = 2, attn_layers = 2), model;
                                log = (level, message) -> (collect_garbage(); heard[] += 1))
        for step in 1:10
            # Float64 gradients are converted: temporaries whose addresses are given to C.
            gradient = like(x -> Float64.(x), last(quadratic(model, step)))
            collect_garbage()
            MetaAdamW.update!(state, model, gradient)
            step == 5 && MetaAdamW.update!(state, model, (head = fill(NaN, 4),))
            MetaAdamW.meta_due(state) && MetaAdamW.meta_update!(state, model) do request
                collect_garbage()
                loss, gradient = answer(model, request)
                (loss, like(x -> Float64.(x), gradient))
            end
            collect_garbage()
        end
        (arrays(model), MetaAdamW.attention(state))
    end
    @test run_collecting(() -> GC.gc()) == run_collecting(() -> nothing)
    @test heard[] >= 2
end

@testset "a second call meanwhile is refused" begin
    state = new_state(new_model())
    MetaAdamW.locked(state) do handle
        @test fails(() -> MetaAdamW.step_count(state), :busy)
        @test fails(() -> close(state), :busy)
    end
    @test MetaAdamW.step_count(state) == 0
end

@testset "many tasks: one at a time, each state by itself ($(Threads.nthreads()) threads)" begin
    shared_model = new_model()
    shared = new_state(shared_model)
    busy, done = Threads.Atomic{Int}(0), Threads.Atomic{Int}(0)
    results = Vector{Any}(undef, 8)
    @sync for i in 1:8
        Threads.@spawn begin
            model = new_model()
            own = new_state(model)
            for step in 1:50
                MetaAdamW.update!(own, model, last(quadratic(model, step)))
                try
                    MetaAdamW.update!(shared, shared_model, (head = ones(Float32, 4),))
                    Threads.atomic_add!(done, 1)
                catch e
                    e isa MetaAdamW.MetaAdamWError && e.status === :busy || rethrow()
                    Threads.atomic_add!(busy, 1)
                end
            end
            results[i] = arrays(model)
        end
    end
    @test all(==(results[1]), results)
    @test busy[] + done[] == 400 && MetaAdamW.step_count(shared) == done[]
end
