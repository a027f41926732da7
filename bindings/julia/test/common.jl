# Helpers of several tests.

"A little model: names layers.1.weight, layers.1.bias, head."
new_model(::Type{T} = Float32) where {T} = (
    layers = [(weight = T[0.1i - 0.2j for i in 1:4, j in 1:3], bias = T[0.5, -0.5, 0.25, 1])],
    head = T[0.3i for i in 1:4],
)

"Every array of a tree, in order."
arrays(model) = MetaAdamW.walk(model).arrays

"A copy of every array, to compare with later."
snapshot(model) = deepcopy(arrays(model))

"A tree like the model whose arrays are what `f` makes of the model's."
like(f, x::AbstractArray{<:Number}) = f(x)
like(f, x::Union{Tuple, NamedTuple, AbstractArray}) = map(part -> like(f, part), x)

"Loss ½ Σ (x - target)² with its gradient; batches differ by their target."
function quadratic(model, target)
    gradient = like(x -> x .- eltype(x)(target), model)
    return 0.5 * sum(sum(abs2, g) for g in arrays(gradient)), gradient
end

const TARGETS = (train_1 = 0.1, train_2 = 0.2, validation = 0.15)

"Answers a request of a meta-update on the quadratic."
answer(model, request) = quadratic(model, TARGETS[request.batch])

"What `f` throws."
function thrown(f)
    try
        f()
    catch e
        return e
    end
    return nothing
end

"Whether `f` throws a MetaAdamWError of this status, with this text in its message."
function fails(f, status::Symbol, text = "")
    e = thrown(f)
    return e isa MetaAdamW.MetaAdamWError && e.status === status && occursin(text, e.message)
end

"Whether `f` throws an exception of this type with this text in what it shows."
function throws(f, type::Type, text)
    e = thrown(f)
    return e isa type && occursin(text, sprint(showerror, e))
end

quiet(level, message) = nothing

new_state(model; rule = MetaAdamW.Rule(meta_interval = 2, attn_layers = 2, threads = 1), keywords...) =
    MetaAdamW.setup(rule, model; log = quiet, keywords...)

"Steps, with a meta-update where due."
function train!(state, model, steps)
    for step in steps
        MetaAdamW.update!(state, model, last(quadratic(model, sin(step))))
        MetaAdamW.meta_due(state) && MetaAdamW.meta_update!(r -> answer(model, r), state, model)
    end
end

everything(state, model) = (arrays(model), MetaAdamW.attention(state), MetaAdamW.factors(state),
                            [MetaAdamW.tensor_state(state, name) for name in MetaAdamW.tensor_names(state)])
