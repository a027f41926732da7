# The extension for Optimisers.jl, which needs a later Julia: its syntax, and its methods against a stand-in with the names
# and signatures of Optimisers.jl 0.4.8 and ChainRulesCore.

const EXTENSION = joinpath(@__DIR__, "..", "ext", "MetaAdamWOptimisersExt.jl")

@testset "its syntax" begin
    @test Meta.parse(read(EXTENSION, String)).head === :module
end

@testset "without Optimisers.jl, the rule says what is missing" begin
    @test throws(() -> MetaAdamW.optimisers_rule(MetaAdamW.Rule()), ArgumentError, "Optimisers.jl must be loaded")
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
trainable(x::AbstractArray) = ()
end

module ChainRulesCore
abstract type AbstractZero end
struct NoTangent <: AbstractZero end
abstract type AbstractThunk end
struct Thunk <: AbstractThunk; f; end
unthunk(thunk::Thunk) = thunk.f()
struct Tangent; backing; end
backing(tangent::NamedTuple) = tangent
canonicalize(tangent::Tangent) = tangent.backing
end

end # module StandIn

let text = read(EXTENSION, String)
    for name in ("ChainRulesCore", "Optimisers")
        text = replace(text, "import $name\n" => "import ..$name\n")
    end
    Base.include_string(StandIn, text)
end

struct Layer
    weight::Matrix{Float32}
    mean::Vector{Float32}
end
StandIn.Optimisers.trainable(layer::Layer) = (weight = layer.weight,)

@testset "against the stand-in" begin
    optimisers, chain = StandIn.Optimisers, StandIn.ChainRulesCore
    rule = MetaAdamW.optimisers_rule(MetaAdamW.Rule(lr = 1e-2); first_index = 0, log = nothing)
    @test rule isa optimisers.AbstractRule && repr(rule) == "MetaAdamW.optimisers_rule(MetaAdamW.Rule(lr = 0.01))"
    model = (layers = [Layer(ones(2, 2), zeros(2)), Layer(ones(2, 2), zeros(2))], scale = Float32[1])
    state = optimisers.setup(rule, model)
    @test state isa MetaAdamW.State
    @test MetaAdamW.tensor_names(state) == ["layers.0.weight", "layers.1.weight", "scale"]
    gradient = (layers = [chain.Tangent((weight = ones(Float32, 2, 2), mean = chain.NoTangent())), chain.NoTangent()],
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
end
