# Which arrays of a model are parameters, and how gradients find them.

struct Dense
    weight::Matrix{Float32}
    bias::Vector{Float32}
    activation::Function
end

mutable struct Norm
    scale::Vector{Float64}
    mean::Vector{Float64}       # running statistics: not trained
    epsilon::Float64
    Norm(n) = new(ones(n), zeros(n), 1e-5)
end
MetaAdamW.trainable(norm::Norm) = (scale = norm.scale,)

struct Positions
    table::Vector{Float32}
end
MetaAdamW.trainable(::Positions) = (;)

mutable struct Half
    done::Vector{Float32}
    missing_part::Vector{Float32}
    Half() = new(Float32[1, 2])
end

names_of(model; keywords...) = MetaAdamW.tensor_names(new_state(model; keywords...))

@testset "names are paths, in the order of fields" begin
    @test names_of(new_model()) == ["layers.1.weight", "layers.1.bias", "head"]
    @test names_of(new_model(); first_index = 0) == ["layers.0.weight", "layers.0.bias", "head"]
    @test names_of(new_model(); rename = name -> replace(name, "head" => "output.weight"))[3] == "output.weight"
    @test names_of((Float32[1], (x = [2.0],))) == ["1", "2.x"]
    @test names_of([Float32[1], Float32[2]]) == ["1", "2"]
    @test names_of(Float32[1, 2]) == ["parameters"]
    @test names_of(Dict("b" => Float32[1], "a" => (w = Float32[2],))) == ["a.w", "b"]
    @test names_of(Dict(:b => Float32[1], :a => Float32[2])) == ["a", "b"]
end

@testset "structs, hooks, and what is left out" begin
    model = (dense = Dense(ones(2, 3), zeros(2), tanh), norm = Norm(3), count = 3, text = "x", nothing_here = nothing,
             steps = [1, 2, 3], grid = 0.0:0.1:1.0, half = Half(), flags = trues(3), closure = x -> x + 1)
    @test names_of(model) == ["dense.weight", "dense.bias", "norm.scale", "half.done"]
    @test names_of((encoding = Positions([1, 2]), w = Float32[1])) == ["w"]
    @test names_of((rng = MetaAdamW.Random.MersenneTwister(1), w = Float32[1])) == ["w"]
    @test names_of(model; trainable = x -> x isa Norm ? (mean = x.mean,) : x)[3] == "norm.mean"
    gradient = (dense = (weight = ones(Float32, 2, 3), bias = nothing, activation = nothing),
                norm = Ref((scale = ones(3), mean = nothing, epsilon = nothing)), half = nothing)
    state = new_state(model)
    MetaAdamW.update!(state, model, gradient)
    @test all(model.dense.weight .< 1) && model.dense.bias == zeros(2)
    @test all(model.norm.scale .< 1) && model.norm.mean == zeros(3)
    @test model.half.done == [1, 2]
end

@testset "an array in several places is one parameter, and its gradients are summed" begin
    w = Float32[1 2; 3 4]
    tied = (encoder = w, decoder = (weight = w,), flipped = transpose(w))
    alone = (encoder = copy(w),)
    @test names_of(tied) == ["encoder"]
    tied_state, state = new_state(tied), new_state(alone)
    MetaAdamW.update!(tied_state, tied, (encoder = Float32[1 0; 0 0], decoder = (weight = Float32[0 1; 0 0],),
                                         flipped = Float32[0 0; 0 1]))
    MetaAdamW.update!(state, alone, (encoder = Float32[1 1; 0 1],))
    @test w == alone.encoder
    MetaAdamW.update!(tied_state, tied, (encoder = nothing, decoder = (weight = Float32[0 1; 0 0],)))
    MetaAdamW.update!(state, alone, (encoder = Float32[0 1; 0 0],))
    @test w == alone.encoder
    # The ties may have been cut since.
    cut = (encoder = w, decoder = (weight = copy(w),), flipped = w')
    @test throws(() -> MetaAdamW.update!(tied_state, cut, nothing), ArgumentError,
                 "has 2 arrays; 1 were registered")
end

@testset "wrappers lead to what they wrap" begin
    base = Float32[1 2 3; 4 5 6]
    for (wrapped, gradient) in (
        (transpose(copy(base)), Float32[1 4; 2 5; 3 6]),
        (copy(base)', transpose(Float32[1 2 3; 4 5 6])),
        (PermutedDimsArray(copy(base), (2, 1)), Float32[1 4; 2 5; 3 6]),
        (reshape(view(copy(base), :, :), 3, 2), reshape(Float32[1 2 3; 4 5 6], 3, 2)),
        (transpose(copy(base)), (parent = Float32[1 2 3; 4 5 6],)),
    )
        plain = copy(base)
        state, wrapper_state = new_state((w = plain,)), new_state((w = wrapped,))
        @test MetaAdamW.tensor_names(wrapper_state) == ["w"]
        MetaAdamW.update!(state, (w = plain,), (w = Float32[1 2 3; 4 5 6],))
        MetaAdamW.update!(wrapper_state, (w = wrapped,), (w = gradient,))
        @test parent(wrapped) == plain
        @test throws(() -> MetaAdamW.update!(wrapper_state, (w = wrapped,), (w = ones(Float32, 4, 4),)),
                     DimensionMismatch, "the gradient of w has size (4, 4)")
    end
    row = Float32[1, 2, 3]'
    MetaAdamW.update!(new_state((w = row,)), (w = row,), (w = Float32[1 1 1],))
    @test parent(row) isa Vector && all(parent(row) .< [1, 2, 3])
end

@testset "contiguous views are parameters, others are refused by name" begin
    flat = Float32.(1:10)
    model = (a = view(flat, 1:4), b = reshape(view(flat, 5:10), 2, 3))
    MetaAdamW.update!(new_state(model), model, (a = ones(Float32, 4), b = nothing))
    @test all(flat[1:4] .< 1:4) && flat[5:10] == 5:10
    matrix = ones(Float32, 4, 4)
    @test names_of((w = view(matrix, :, 2:3),)) == ["w"]
    @test throws(() -> new_state((layers = (view(matrix, 1:2, :),),)), ArgumentError, "layers.1 is a SubArray")
    @test throws(() -> new_state((w = view(flat, 1:2:9),)), ArgumentError, "w is a SubArray")
    @test throws(() -> new_state((w = view(flat, [3, 1]),)), ArgumentError, "w is a SubArray")
    @test throws(() -> new_state((w = BigFloat[1],)), ArgumentError, "w is a Array{BigFloat,1}") ||
          throws(() -> new_state((w = BigFloat[1],)), ArgumentError, "w is a Vector{BigFloat}")
    @test throws(() -> new_state((w = Complex{Float32}[1],)), ArgumentError, "cannot be trained in place")
    @test throws(() -> new_state((w = Diagonal([1.0, 2.0]),)), ArgumentError, "w is a Diagonal")
    @test fails(() -> (m = (a = view(flat, 1:4), b = view(flat, 3:6)); MetaAdamW.update!(new_state(m), m, nothing)),
                :invalid_argument, "overlap")
end

@testset "models that cannot be" begin
    @test throws(() -> new_state((a = 1, b = "x")), ArgumentError, "there is nothing to train")
    loop = Any[Float32[1]]
    push!(loop, loop)
    @test throws(() -> new_state(loop), ArgumentError, "contain itself")
    @test fails(() -> new_state(new_model(); rename = name -> "same"), :invalid_argument, "same")
    @test throws(() -> new_state(Dict("a\0b" => Float32[1])), ArgumentError, "NUL")
    @test fails(() -> new_state(Dict("" => Float32[1])), :invalid_argument)
end

@testset "scalars and empty arrays" begin
    model = (scale = fill(2.0), empty = zeros(Float32, 0, 3), w = Float32[1])
    state = new_state(model)
    MetaAdamW.update!(state, model, (scale = fill(1.0), empty = zeros(Float32, 0, 3), w = Float32[1]))
    @test model.scale[] < 2 && MetaAdamW.report(state).step == 1
    MetaAdamW.update!(state, model, (scale = nothing, empty = nothing, w = Float32[1]))
    @test MetaAdamW.report(state).step == 2
end

@testset "gradients that do not fit are refused, and nothing happens" begin
    model = new_model()
    state = new_state(model)
    before = snapshot(model)
    weight, bias, head = ones(Float32, 4, 3), ones(Float32, 4), ones(Float32, 4)
    refused(gradient, type, text) = throws(() -> MetaAdamW.update!(state, model, gradient), type, text)
    @test refused((layers = [(weight = weight', bias = bias)], head = head), DimensionMismatch,
                  "the gradient of layers.1.weight has size (3, 4), the parameter (4, 3)")
    @test refused((layers = [(wieght = weight,)],), ArgumentError, "layers.1 has a part :wieght, which the model lacks")
    @test refused((layer = nothing,), ArgumentError, "the model has a part :layer")
    @test refused((layers = [(weight = weight,), (weight = weight,)],), DimensionMismatch,
                  "layers has 2 elements, the model 1")
    @test refused((layers = (weight = weight,),), ArgumentError, "the gradient of layers")
    @test refused((head = 1.0,), ArgumentError, "the gradient of head is a Float64")
    @test refused((head = ["a", "b", "c", "d"],), ArgumentError, "the gradient of head")
    @test refused([weight, bias, head], ArgumentError, "does not mirror it")
    @test fails(() -> MetaAdamW.update!(state, model, (head = model.head,)), :invalid_argument, "head")
    dict = Dict("a" => Float32[1])
    @test throws(() -> MetaAdamW.update!(new_state(dict), dict, Dict("b" => Float32[1])), ArgumentError, "\"b\"")
    @test snapshot(model) == before && MetaAdamW.step_count(state) == 0
end

@testset "what Zygote.gradient and Zygote.withgradient return" begin
    expected, model = new_model(), new_model()
    gradient = last(quadratic(model, 1))
    MetaAdamW.update!(new_state(expected), expected, gradient)
    for given in ((gradient,), (val = 0.5, grad = (gradient,)))
        model = new_model()
        MetaAdamW.update!(new_state(model), model, given)
        @test arrays(model) == arrays(expected)
    end
    state, before = new_state(model), snapshot(model)
    for given in ((0.5, gradient), (gradient, nothing), (val = 0.5, grad = (gradient, nothing)))
        @test throws(() -> MetaAdamW.update!(state, model, given), ArgumentError, "pass the one of the model: gradients[1]")
    end
    @test snapshot(model) == before
    # Models of the same form.
    for model in ((Float32[1],), (val = Float32[1], grad = Float32[1]), [Float32[1]])
        MetaAdamW.update!(new_state(model), model, map(x -> ones(Float32, 1), model))
        @test all(x -> x[1] < 1, Tuple(model))
    end
    pair = (Float32[1], Float32[1])
    MetaAdamW.update!(new_state(pair), pair, (([1.0], nothing),))
    @test pair[1][1] < 1 && pair[2] == [1]
end

@testset "another model than the one of setup is refused" begin
    state = new_state(new_model())
    other = (layers = [(weight = ones(Float32, 3, 4), bias = ones(Float32, 4))], head = ones(Float32, 4))
    @test throws(() -> MetaAdamW.update!(state, other, nothing), DimensionMismatch,
                 "layers.1.weight is Float32 of size (3, 4)")
    @test throws(() -> MetaAdamW.update!(state, new_model(Float64), nothing), DimensionMismatch, "is Float64 of size")
    @test throws(() -> MetaAdamW.update!(state, (head = ones(Float32, 4),), nothing), ArgumentError, "3 were reg")
end
