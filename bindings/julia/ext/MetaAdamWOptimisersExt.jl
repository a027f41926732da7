# MetaAdamW behind the verbs of Optimisers.jl, and so of Flux and Lux:
#
#     opt = Flux.setup(MetaAdamW.optimisers_rule(MetaAdamW.Rule(lr = 5e-4)), model)
#     loss, gradients = Flux.withgradient(m -> loss_of(m, batch), model)
#     Flux.update!(opt, model, gradients[1])
#     MetaAdamW.meta_due(opt) && MetaAdamW.meta_update!(opt, model) do request … end
#
# Optimisers.jl 0.4 needs Julia 1.10. The package's tests, which run with Julia 1.5, use a stand-in with the same function names;
# where the real packages can be loaded, they run with those too (so far with Optimisers.jl 0.3.0).
module MetaAdamWOptimisersExt

import ChainRulesCore
import MetaAdamW
import Optimisers

"A rule without `apply!`: MetaAdamW couples all tensors, so it updates the whole tree at once."
struct OptRule{K} <: Optimisers.AbstractRule
    rule::MetaAdamW.Rule
    keywords::K
end

MetaAdamW.optimisers_rule(rule::MetaAdamW.Rule; keywords...) = OptRule(rule, (; keywords...))

Base.show(io::IO, rule::OptRule) = print(io, "MetaAdamW.optimisers_rule(", rule.rule, ")")

"""
Optimisers' own hook says which fields are trained: none where it answers `(;)` or `()`. A method of MetaAdamW.trainable for
the type goes first.
"""
function trainable(x)
    own = MetaAdamW.trainable(x)
    own === x || return own
    part = Optimisers.trainable(x)
    return part isa Tuple && !(x isa Tuple) ? named_fields(x, part) : part
end

"A tuple of fields' values, as Flux had it in former times, with their names."
function named_fields(x, values)
    names = filter(name -> isdefined(x, name) && any(value -> value === getfield(x, name), values), fieldnames(typeof(x)))
    return NamedTuple{names}(map(name -> getfield(x, name), names))
end

# The tree is a MetaAdamW.State: one handle for all, whose finalizer frees it.
Optimisers.setup(rule::OptRule, model) = MetaAdamW.setup(rule.rule, model; trainable = trainable, rule.keywords...)

Optimisers.update!(state::MetaAdamW.State, model, gradient) = MetaAdamW.update!(state, model, gradient)

Optimisers.adjust!(state::MetaAdamW.State, lr::Real) = MetaAdamW.adjust!(state, lr)
Optimisers.adjust!(state::MetaAdamW.State; keywords...) = MetaAdamW.adjust!(state; keywords...)

Optimisers.freeze!(state::MetaAdamW.State) = MetaAdamW.freeze!(state)
Optimisers.thaw!(state::MetaAdamW.State) = MetaAdamW.thaw!(state)

# Functions that would copy the handle, or apply the rule to single arrays.
no_copy(verb) = throw(ArgumentError(
    "$verb copies the optimizer's state, which a MetaAdamW.State does not allow; use $(verb)! (Lux: apply_gradients!)"))
Optimisers.update(::MetaAdamW.State, model, gradients...) = no_copy("update")
Optimisers.adjust(::MetaAdamW.State, lr::Real) = no_copy("adjust")
Optimisers.adjust(::MetaAdamW.State; keywords...) = no_copy("adjust")

no_parts() = throw(ArgumentError(
    "MetaAdamW updates all tensors together, so it cannot be one rule among others, as in an OptimiserChain; " *
    "clipping is its own option: MetaAdamW.Rule(max_grad_norm = 1)"))
Optimisers.init(::OptRule, x::AbstractArray) = no_parts()
Optimisers.apply!(::OptRule, state, x::AbstractArray, gradient) = no_parts()

# Gradients of ChainRules' own types.
MetaAdamW.unwrap(::ChainRulesCore.AbstractZero) = nothing
MetaAdamW.unwrap(gradient::ChainRulesCore.Tangent) =
    MetaAdamW.unwrap(ChainRulesCore.backing(ChainRulesCore.canonicalize(gradient)))
MetaAdamW.unwrap(gradient::ChainRulesCore.AbstractThunk) = MetaAdamW.unwrap(ChainRulesCore.unthunk(gradient))

end # module MetaAdamWOptimisersExt
