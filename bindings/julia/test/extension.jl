# The extension for Optimisers.jl: its methods against a stand-in with the names and signatures of Optimisers.jl 0.4.8 and
# ChainRulesCore, as Julia 1.5 cannot run that release; and against the real packages where they can be loaded, for example
# from a folder in JULIA_LOAD_PATH.

const EXTENSION = joinpath(@__DIR__, "..", "ext", "MetaAdamWOptimisersExt.jl")

@testset "its syntax" begin
    @test Meta.parse(read(EXTENSION, String)).head === :module
end

@testset "without Optimisers.jl, the rule says what is missing" begin
    @test throws(() -> MetaAdamW.optimisers_rule(MetaAdamW.Rule()), ArgumentError, "Optimisers.jl must be loaded")
end

struct Layer
    weight::Matrix{Float32}
    mean::Vector{Float32}
end

"A layer that is not trained at all."
struct Encoding
    table::Vector{Float32}
end

"The same, as it is said in Flux of former times; and one whose tuple has a field."
struct OldEncoding
    table::Vector{Float32}
end
struct OldLayer
    weight::Vector{Float32}
    mean::Vector{Float32}
end

module StandIn

module Optimisers
abstract type AbstractRule end
struct Leaf end
setup(rule::AbstractRule, model) = Leaf()
update!(tree, model, grad, higher...) = error("not ours")
update(tree, model, grad, higher...) = error("not ours")
adjust!(tree, eta::Real) = error("not ours")
adjust!(tree; kw...) = error("not ours")
adjust(tree, eta::Real) = error("not ours")
adjust(tree; kw...) = error("not ours")
freeze!(tree) = error("not ours")
thaw!(tree) = error("not ours")
function init end
function apply! end
trainable(x) = NamedTuple{fieldnames(typeof(x))}(ntuple(i -> getfield(x, i), fieldcount(typeof(x))))
trainable(x::Union{Tuple, NamedTuple, AbstractDict}) = x
trainable(x::AbstractArray) = x
trainable(x::AbstractArray{<:Number}) = ()
end

module ChainRulesCore
abstract type AbstractZero end
struct NoTangent <: AbstractZero end
abstract type AbstractThunk end
struct Thunk <: AbstractThunk; f; end
unthunk(thunk::Thunk) = thunk.f()
struct Tangent{P}; backing; end
Tangent{P}(; fields...) where {P} = Tangent{P}((; fields...))
backing(tangent::NamedTuple) = tangent
canonicalize(tangent::Tangent) = tangent.backing
end

end # module StandIn

"Defines the layers' hooks."
function define_trainable(optimisers)
    Core.eval(optimisers, quote
        trainable(layer::$Layer) = (weight = layer.weight,)
        trainable(::$Encoding) = (;)
        trainable(::$OldEncoding) = ()
        trainable(layer::$OldLayer) = (layer.weight,)
    end)
end

let text = read(EXTENSION, String)
    for name in ("ChainRulesCore", "Optimisers")
        text = replace(text, "import $name\n" => "import ..$name\n")
    end
    Base.include_string(StandIn, text)
    define_trainable(StandIn.Optimisers)
end

const IMPLEMENTATIONS = Any["the stand-in" => (StandIn.Optimisers, StandIn.ChainRulesCore, StandIn.MetaAdamWOptimisersExt)]

if all(name -> Base.find_package(name) !== nothing, ("Optimisers", "ChainRulesCore"))
    import ChainRulesCore, Optimisers
    by_itself = isdefined(Base, :get_extension) ? Base.get_extension(MetaAdamW, :MetaAdamWOptimisersExt) : nothing
    by_itself === nothing && include(EXTENSION)
    define_trainable(Optimisers)
    # What Functors.jl, before 0.5, does for types that @functor names.
    for type in (Layer, Encoding, OldEncoding, OldLayer)
        Core.eval(parentmodule(Optimisers.functor), :(functor(::Type{<:$type}, x) =
            (NamedTuple{$(fieldnames(type))}(map(name -> getfield(x, name), $(fieldnames(type)))), y -> $type(y...))))
    end
    push!(IMPLEMENTATIONS, "Optimisers.jl" => (
        Optimisers, ChainRulesCore, by_itself === nothing ? MetaAdamWOptimisersExt : by_itself))
end

@testset "against $what" for (what, (optimisers, chain, extension)) in IMPLEMENTATIONS
    make(; keywords...) = extension.OptRule(MetaAdamW.Rule(lr = 1e-2), (; log = nothing, keywords...))
    rule = make(first_index = 0)
    @test rule isa optimisers.AbstractRule && repr(rule) == "MetaAdamW.optimisers_rule(MetaAdamW.Rule(lr = 0.01))"
    model = (layers = [Layer(ones(2, 2), zeros(2)), Layer(ones(2, 2), zeros(2))], scale = Float32[1])
    state = optimisers.setup(rule, model)
    @test state isa MetaAdamW.State
    @test MetaAdamW.tensor_names(state) == ["layers.0.weight", "layers.1.weight", "scale"]
    gradient = (layers = [chain.Tangent{Layer}(weight = ones(Float32, 2, 2), mean = chain.NoTangent()),
                          chain.NoTangent()],
                scale = chain.Thunk(() -> Float32[1]))
    new_state, new_model = optimisers.update!(state, model, gradient)
    @test new_state === state && new_model === model
    @test all(model.layers[1].weight .< 1) && all(model.layers[2].weight .== 1) && model.scale[1] < 1
    @test model.layers[1].mean == zeros(2)
    optimisers.adjust!(state, 0.5)
    optimisers.adjust!(state; weight_decay = 0.25)
    @test MetaAdamW.learning_rates(state) == [0.5] && MetaAdamW.weight_decays(state) == [0.25]
    optimisers.freeze!(state)
    before = copy(model.scale)
    optimisers.update!(state, model, gradient)
    @test model.scale == before
    optimisers.thaw!(state)
    optimisers.update!(state, model, gradient)
    @test model.scale != before
    @test throws(() -> optimisers.update(state, model, gradient), ArgumentError, "use update!")
    @test throws(() -> optimisers.adjust(state, 1), ArgumentError, "use adjust!")
    @test throws(() -> optimisers.adjust(state; lr = 1), ArgumentError, "use adjust!")
    @test throws(() -> optimisers.init(rule, [1.0]), ArgumentError, "max_grad_norm")
    @test throws(() -> optimisers.apply!(rule, nothing, [1.0], [1.0]), ArgumentError, "max_grad_norm")

    # What is trained is what Optimisers.jl trains: nothing of a layer whose `trainable` is empty.
    model = (encoding = Encoding(ones(2)), old = [OldEncoding(ones(3)), OldLayer([2, 3], ones(2))],
             dict = Dict("layer" => Layer(fill(4, 1, 2), ones(2))), scale = Float32[5], missing_layer = nothing)
    state = optimisers.setup(make(), model)
    @test MetaAdamW.tensor_names(state) == ["old.2.weight", "dict.layer.weight", "scale"]
    trained = MetaAdamW.walk(model; trainable = extension.trainable).arrays
    @test reduce(vcat, vec.(trained)) == [2, 3, 4, 4, 5]
    isdefined(optimisers, :destructure) &&        # of release 0.3 without a Dict
        @test first(optimisers.destructure((model.encoding, model.old, model.scale))) == [2, 3, 5]
    gradient = (encoding = (table = ones(2),), old = [(table = ones(3),), (weight = ones(2), mean = ones(2))],
                dict = nothing, scale = ones(1), missing_layer = nothing)
    optimisers.update!(state, model, gradient)
    @test model.encoding.table == ones(2) && model.old[1].table == ones(3) && model.old[2].mean == ones(2)
    @test all(model.old[2].weight .< [2, 3]) && model.scale[1] < 5
end
