# 16-bit parameters: which arrays they are, masters, gradients of another type.

const BF16 = MetaAdamW.BFloat16

half_rule(; keywords...) = MetaAdamW.Rule(; meta_interval = 2, attn_layers = 2, threads = 1, keywords...)

@testset "a bfloat16 is the upper half of a Float32, rounded to nearest" begin
    for bits in 0x0000:0xffff
        x = reinterpret(BF16, bits)
        isnan(x) || @test reinterpret(UInt16, BF16(Float32(x))) == bits
    end
    @test reinterpret(UInt16, BF16(1.0f0 + 2.0f0^-8)) == 0x3f80            # ties to even
    @test reinterpret(UInt16, BF16(1.0f0 + 3 * 2.0f0^-8)) == 0x3f82
    @test isnan(BF16(NaN32)) && BF16(3) == BF16(3.0) && BF16(1) + BF16(2) == BF16(3) && BF16(1) < BF16(2)
    @test Float32[1] .+ [BF16(1)] == Float32[2] && sprint(show, BF16(2)) == "BFloat16(2.0)"
end

@testset "a bfloat16 is a number like others" begin
    x = BF16(2)
    @test sqrt(x) === BF16(sqrt(2.0f0)) && exp(x) === BF16(exp(2.0f0)) && tanh(x) === BF16(tanh(2.0f0)) && x^x === BF16(4)
    @test abs(-x) === x && x^2 === BF16(4) && inv(x) === BF16(0.5) && x <= x && !(x <= BF16(1)) && x >= BF16(1)
    @test isfinite(x) && isinf(BF16(Inf)) && !isfinite(BF16(NaN)) && signbit(BF16(-0.0)) && !isequal(BF16(-0.0), BF16(0))
    # Equal numbers have equal hashes, so that they are one key.
    @test hash(x) == hash(2) && isequal(x, 2.0f0) && Dict(x => 1)[2.0] == 1 && length(unique([x, BF16(2), BF16(3)])) == 2
    # To and from other types.
    for T in (Float16, Float32, Float64, BigFloat, Int, UInt8, Rational{Int})
        @test convert(T, x) === T(2) || T === BigFloat && convert(T, x) == 2
        @test convert(BF16, T(2)) === x
    end
    @test BF16(1//3) === BF16(1 / 3f0) && BF16(π) === BF16(Float32(π)) && BF16(true) === BF16(1)
    @test x + big(1.0) == 3 && x * 1//2 == 1 && x + 1.0 === 3.0 && round(BF16(2.5)) === x && Int(x) == 2
    @test eps(BF16) == 2.0^-7 && BF16(1) + eps(BF16) > BF16(1) && [x] ≈ [BF16(2.01)]
    @test sqrt.(BF16[1, 4]) == BF16[1, 2] && sum(BF16[1, 2]) === BF16(3) && maximum(BF16[1, 2]) === x
    @test_throws DomainError sqrt(BF16(-1))
end

@testset "Float16 arrays and reinterpreted UInt16 are parameters" begin
    bits = reinterpret(UInt16, BF16.([1.0 2.0; 3.0 4.0]))
    bits = collect(bits)
    model = (weight = reinterpret(BF16, bits), bias = Float16[1, 2], norm = Float32[1])
    state = MetaAdamW.setup(half_rule(), model; log = quiet)
    @test MetaAdamW.tensor_names(state) == ["weight", "bias", "norm"]
    MetaAdamW.update!(state, model, (weight = ones(2, 2), bias = ones(2), norm = ones(1)))
    @test bits != reinterpret(UInt16, BF16.([1.0 2.0; 3.0 4.0])) || model.bias != [1, 2]
    @test eltype(MetaAdamW.tensor_state(state, "weight").exp_avg) === Float32
    result = MetaAdamW.meta_update!(state, model) do request
        answer((weight = Float32.(model.weight), bias = Float32.(model.bias), norm = model.norm), request)
    end
    @test result.outcome === :updated
end

@testset "masters are trained as Float32 with precision = $precision" for precision in (:master, :remainder)
    start = Float32[1, -2, 0.5, 3]
    bits = collect(reinterpret(UInt16, BF16.(start)))
    model, plain = (w = reinterpret(BF16, bits),), (w = copy(start),)
    state = MetaAdamW.setup(half_rule(; precision), model; gradient_type = T -> Float32, log = quiet)
    oracle = MetaAdamW.setup(half_rule(), plain; log = quiet)
    @test fails(() -> MetaAdamW.masters(state, "w", model.w), :invalid_state)
    for step in 1:10
        gradient = (w = Float32[0.1, -0.2, 0.3, step],)
        MetaAdamW.update!(state, model, gradient)
        MetaAdamW.update!(oracle, plain, gradient)
    end
    @test MetaAdamW.masters(state, "w", model.w) == plain.w
    @test all(abs.(Float32.(model.w) .- plain.w) .<= abs.(plain.w) ./ 256)
    MetaAdamW.set_masters!(state, "w", model.w, [1, 0.1, 2, 3])
    @test MetaAdamW.masters(state, "w", model.w) == Float32[1, 0.1, 2, 3] && bits[3] == 0x4000
    @test throws(() -> MetaAdamW.masters(state, "w", plain.w), ArgumentError, "w is registered as")
    @test throws(() -> MetaAdamW.set_masters!(state, "w", model.w, [1.0]), DimensionMismatch, "the masters have size")
end

@testset "an array's own precision goes before that of its group, which others than 16-bit ones ignore" begin
    model = (own = Float16[1], norm = Float32[1], group = Float16[1])
    state = MetaAdamW.setup(half_rule(precision = :master), model; log = quiet,
                            precision = name -> name == "own" ? :nearest : nothing)
    MetaAdamW.update!(state, model, map(x -> ones(1), model))
    @test MetaAdamW.masters(state, "group", model.group) isa Vector{Float32}
    @test fails(() -> MetaAdamW.masters(state, "own", model.own), :not_found)
    @test fails(() -> MetaAdamW.masters(state, "norm", model.norm), :not_found)
    other = MetaAdamW.setup(half_rule(), model; log = quiet, precision = name -> name == "own" ? :master : nothing)
    MetaAdamW.update!(other, model, map(x -> ones(1), model))
    @test MetaAdamW.masters(other, "own", model.own) isa Vector{Float32}
    @test fails(() -> MetaAdamW.masters(other, "group", model.group), :not_found)
end

@testset "what does not fit is refused" begin
    @test fails(() -> MetaAdamW.setup(half_rule(precision = :remainder), (w = Float16[1],); log = quiet),
                :invalid_argument, "'w'")
    @test fails(() -> MetaAdamW.setup(half_rule(), (w = Float32[1],); precision = name -> :master, log = quiet),
                :invalid_argument, "'w'")
    @test throws(() -> MetaAdamW.setup(half_rule(), (w = Float16[1],); precision = name -> :exact, log = quiet),
                 ArgumentError, "precision of w = :exact")
    @test throws(() -> MetaAdamW.setup(half_rule(), (w = Float16[1],); gradient_type = T -> Int, log = quiet),
                 ArgumentError, "gradient_type(Float16) is Int64")
    @test throws(() -> half_rule(precision = :exact), ArgumentError, "precision = :exact")
    @test sprint(show, MetaAdamW.Rule(precision = :remainder, moment_dtype = :bfloat16)) ==
          "MetaAdamW.Rule(precision = :remainder, moment_dtype = :bfloat16)"
end
