# CUDA: device arrays, steps that are not waited for. METAADAMW_TEST_CUDA: a driver to be used, scripts/test-julia.sh's
# emulator for example; it is found by its name once it is loaded.

if haskey(ENV, "METAADAMW_TEST_CUDA")
    MetaAdamW.Libdl.dlopen(ENV["METAADAMW_TEST_CUDA"])
    @test MetaAdamW.cuda_available()
end

if !MetaAdamW.cuda_available()
    @testset "without a device" begin
        @test fails(() -> MetaAdamW.DeviceArray{Float32}(1), :unsupported)
    end
else
    device_rule(; keywords...) =
        MetaAdamW.Rule(; device = :cuda, meta_interval = 2, attn_layers = 2, threads = 1, keywords...)

    @testset "a device array is filled and read as a whole" begin
        x = MetaAdamW.DeviceArray{Float32}(2, 3)
        @test Array(x) == zeros(Float32, 2, 3) && size(x) == (2, 3) && strides(x) == (1, 2)
        @test copyto!(x, [1 2 3; 4 5 6]) === x && Array(x) == Float32[1 2 3; 4 5 6]
        @test Array(MetaAdamW.DeviceArray(Float64[1, 2])) == [1.0, 2.0]
        @test sprint(show, x) == "2×3 $(typeof(x))"
        @test throws(() -> x[1], ArgumentError, "use Array(x)") && throws(() -> x[1] = 2, ArgumentError, "use copyto!")
        @test throws(() -> copyto!(x, [1]), DimensionMismatch, "(2, 3)")
        @test throws(() -> MetaAdamW.DeviceArray{Int}(1), ArgumentError, "Int64")
        @test fails(() -> MetaAdamW.DeviceArray{Float32}(1; device_index = 1000), :invalid_argument)
        @test throws(() -> MetaAdamW.Serialization.serialize(IOBuffer(), x), ArgumentError, "Array(x)")
        close(x)
        close(x)
        @test fails(() -> Array(x), :invalid_state)
    end

    @testset "steps and meta-updates are those of the CPU" begin
        host = new_model()
        model = like(MetaAdamW.DeviceArray, host)
        oracle, state = new_state(host), new_state(model; rule = device_rule())
        MetaAdamW.set_stream!(state, C_NULL)
        scale = MetaAdamW.DeviceArray(Float32[2])
        for step in 1:4
            _, gradient = quadratic(host, 0.1step)
            on_device = like(MetaAdamW.DeviceArray, gradient)
            MetaAdamW.update!(oracle, host, gradient; grad_scale = 2)
            MetaAdamW.update!(state, model, on_device; grad_scale = scale, wait = false)
            @test MetaAdamW.report(state).step == step
            MetaAdamW.meta_due(oracle) || continue
            @test MetaAdamW.meta_due(state)
            expected = MetaAdamW.meta_update!(request -> answer(host, request), oracle, host)
            result = MetaAdamW.meta_update!(state, model) do request
                loss, gradient = answer(like(Array, model), request)
                return loss, like(MetaAdamW.DeviceArray, gradient)
            end
            @test result.outcome === expected.outcome === :updated
        end
        for (x, expected) in zip(arrays(model), arrays(host))
            @test isapprox(Array(x), expected; rtol = 1e-6)
        end
        for (name, expected) in MetaAdamW.attention(oracle)
            @test isapprox(MetaAdamW.attention(state, name), expected; rtol = 1e-6)
        end

        _, gradient = quadratic(host, 0.1)
        MetaAdamW.update!(state, model, like(MetaAdamW.DeviceArray, gradient); wait = false,
                          found_inf = MetaAdamW.DeviceArray(Float32[1]))
        @test MetaAdamW.report(state).skipped && MetaAdamW.report(state).skip_reason === :gradient
    end

    @testset "what does not fit is refused" begin
        model = new_model()
        @test fails(() -> MetaAdamW.update!(new_state(model; rule = device_rule()), model, quadratic(model, 0)[2]),
                    :invalid_argument, "'layers.1.weight') is a pointer to host memory")
        @test throws(() -> MetaAdamW.update!(new_state(model), model, nothing; found_inf = Float32[1, 2]),
                     DimensionMismatch, "found_inf has 2 elements")
        @test fails(() -> MetaAdamW.update!(new_state(model), model, nothing; found_inf = Float32[0]), :invalid_argument,
                    "found_inf")
    end

    # Arrays of two chunks and of one; the second is registered with the size of the whole.
    chunk = Int(MetaAdamW.Raw.MAW_SHARD_ALIGNMENT)
    start = (w = Float32[sin(i) for i in 1:chunk + 5], b = Float32[0.5, -0.5])
    whole(name, array) = name == "w" ? (1:length(array)) : (1:length(array) => (2,))

    function on_device(; keywords...)
        model = like(MetaAdamW.DeviceArray, start)
        return MetaAdamW.setup(device_rule(), model; log = quiet, keywords...), model
    end
    device_gradient(model, target) = like(MetaAdamW.DeviceArray, last(quadratic(like(Array, model), target)))
    step!(state, model, step; keywords...) =
        MetaAdamW.update!(state, model, device_gradient(model, sin(step)); keywords...)
    meta_update!(state, model) =
        MetaAdamW.meta_update!(request -> (1.0, device_gradient(model, TARGETS[request.batch])), state, model)

    @testset "shards of a process that is alone have the bits of whole arrays" begin
        function train!(state, model)
            for step in 1:5
                step!(state, model, step; wait = isodd(step))
                MetaAdamW.meta_due(state) && @test meta_update!(state, model).outcome === :updated
            end
            states = [MetaAdamW.tensor_state(state, name) for name in MetaAdamW.tensor_names(state)]
            return (arrays(like(Array, model)), [(vec(s.exp_avg), vec(s.exp_avg_sq), s.step) for s in states],
                    MetaAdamW.factors(state), MetaAdamW.attention(state), MetaAdamW.report(state))
        end
        expected = train!(on_device()...)
        @test expected[1][1] != start.w
        seen, prepared = [], Ref{Any}(nothing)
        own = current_task()
        # What the only process brings are the sums already.
        function reduction(pointer, count)
            push!(seen, pointer isa Ptr{Float64} && pointer != C_NULL && count isa Int && current_task() === own)
            prepared[] === nothing || push!(seen, fails(() -> MetaAdamW.step_count(prepared[]), :busy))
        end
        legacy_stream = Ptr{Cvoid}(1)
        state, model = on_device(; reduction = reduction, shard = whole, stream = legacy_stream)
        @test length(seen) == 2
        prepared[] = state
        @test train!(state, model) == expected
        @test length(seen) > 2 + 2 * 5 && all(seen)
    end

    @testset "what the reduction throws, the call throws" begin
        failing = Ref(false)
        state, model = on_device(; reduction = (pointer, count) -> failing[] && error("lost"), shard = whole)
        failing[] = true
        for call in (() -> step!(state, model, 1), () -> step!(state, model, 1; wait = false), () -> meta_update!(state, model),
                     () -> MetaAdamW.update!(state, model, (w = ones(Float32, 4),)))  # the others are told of an error
            @test throws(call, ErrorException, "lost")
            @test arrays(like(Array, model)) == arrays(start)
        end
        failing[] = false
        step!(state, model, 1)
        step!(state, model, 2; wait = false)
        @test meta_update!(state, model).outcome === :updated && MetaAdamW.step_count(state) == 2
        @test throws(() -> on_device(; reduction = values -> nothing, shard = whole), ArgumentError,
                     "with Rule(device = :cuda): reduction(pointer, count)")
    end
end
