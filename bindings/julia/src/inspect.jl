# Getters, and setters of the attention module and of a tensor's state.

"The number that a getter of the library returns."
function number(::Type{T}, getter, state::State, arguments...) where {T}
    value = Ref{T}()
    locked(handle -> call(getter, handle, arguments..., value), state)
    return value[]
end

counted(getter, state::State) = Int(number(Csize_t, getter, state))

"The text that a getter of the library returns."
function text(getter, state::State, index)
    value = Ref(Cstring(C_NULL))
    locked(state) do handle
        call(getter, handle, index, value)
        borrowed(value[])
    end
end

"Row-major numbers as a matrix."
from_rows(values, rows, columns) = permutedims(reshape(values, Int(columns), Int(rows)))

"The number of applied steps; skipped steps do not count."
step_count(state::State) = Int(number(UInt64, Raw.maw_step_count, state))

of_each_param_group(getter, state::State) =
    [number(Float64, getter, state, group - 1) for group in 1:counted(Raw.maw_param_group_count, state)]

"The learning rate of each param group."
learning_rates(state::State) = of_each_param_group(Raw.maw_get_lr, state)

"The weight decay of each param group."
weight_decays(state::State) = of_each_param_group(Raw.maw_get_weight_decay, state)

"The decay rates of the moments of each param group: `(beta1, beta2)`."
betas(state::State) = map(1:counted(Raw.maw_param_group_count, state)) do group
    beta1, beta2 = Ref{Float64}(), Ref{Float64}()
    locked(handle -> call(Raw.maw_get_betas, handle, group - 1, beta1, beta2), state)
    (beta1[], beta2[])
end

"The eps of each param group."
epsilons(state::State) = of_each_param_group(Raw.maw_get_eps, state)

"The norm to which all gradients together are clipped; 0: no clipping."
max_grad_norm(state::State) = number(Float64, Raw.maw_get_max_grad_norm, state)

"The priorities of gradient alignment, loss decrease and generalization gap."
priorities(state::State) = Tuple(filled(Raw.maw_get_priorities, state, 3))

"The `count` doubles that a getter of the library returns."
function filled(getter, state::State, count::Int)
    values = Vector{Float64}(undef, count)
    locked(handle -> call(getter, handle, values), state)
    return values
end

"Names of the tensors, in the order of registration."
tensor_names(state::State) = copy(state.names)

"""
    param_groups(state)

The param groups in the order of their numbers, as pairs of what named them in `setup(…; groups)` (`:rest`: the tensors that
no group named) and the names of the tensors in them.
"""
param_groups(state::State) =
    Pair{Any, Vector{String}}[what => state.names[state.group_of .== number] for (number, what) in enumerate(state.groups)]

group_names(state::State) =
    [text(Raw.maw_group_name, state, group - 1) for group in 1:counted(Raw.maw_group_count, state)]

"""
    groups(state)

The modulation groups in their order, as pairs of a name and the names of the tensors in it.
"""
function groups(state::State)
    of_tensor = [Int(number(Csize_t, Raw.maw_tensor_group, state, tensor - 1)) + 1 for tensor in eachindex(state.names)]
    return [name => state.names[of_tensor .== group] for (group, name) in enumerate(group_names(state))]
end

"""
    factors(state)

The factors of each modulation group, from the last applied step or meta-update, whichever was later: a Dict from its name
to `alpha` (multiplies the learning rate), `beta` (multiplies the weight decay), `lambda1` and `lambda2`. All are 1 with
modulation off.
"""
function factors(state::State)
    names = group_names(state)
    alpha, beta, lambda1, lambda2 = (Vector{Float64}(undef, length(names)) for _ in 1:4)
    locked(handle -> call(Raw.maw_factors, handle, alpha, beta, lambda1, lambda2, length(names)), state)
    return Dict(name => (alpha = alpha[i], beta = beta[i], lambda1 = lambda1[i], lambda2 = lambda2[i])
                for (i, name) in enumerate(names))
end

"""
    features(state)

The input of the attention module in the last applied step or meta-update, whichever was later: a matrix with one row per
modulation group, in the order of [`groups`](@ref).
"""
function features(state::State)
    rows, columns = counted(Raw.maw_group_count, state), counted(Raw.maw_feature_dim, state)
    values = Vector{Float64}(undef, rows * columns)
    locked(handle -> call(Raw.maw_features, handle, values, length(values)), state)
    return from_rows(values, rows, columns)
end

"Rows and columns of each tensor of the attention module, by name."
function attention_shapes(state::State)
    shapes = Pair{String, Tuple{Int, Int}}[]
    for index in 1:counted(Raw.maw_attention_count, state)
        rows, columns = Ref{UInt64}(), Ref{UInt64}()
        locked(handle -> call(Raw.maw_attention_shape, handle, index - 1, rows, columns), state)
        push!(shapes, text(Raw.maw_attention_name, state, index - 1) => (Int(rows[]), Int(columns[])))
    end
    return shapes
end

function attention_shape(state::State, name)
    name = string(name)
    for (known, shape) in attention_shapes(state)
        known == name && return shape
    end
    throw(MetaAdamWError(:not_found, "the attention module has no tensor $(repr(name)); see keys(attention(state))"))
end

"""
    attention(state)
    attention(state, name)

The tensors of the attention module by name, or one of them: copies, as matrices in the mathematical sense (rows are
outputs); a vector has one column. The names are those of torch's TransformerEncoder.
"""
attention(state::State) =
    Dict(name => attention_values(state, name, shape) for (name, shape) in attention_shapes(state))
attention(state::State, name::Name) = attention_values(state, name, attention_shape(state, name))

function attention_values(state::State, name, (rows, columns))
    values = Vector{Float64}(undef, rows * columns)
    locked(handle -> call(Raw.maw_attention_get, handle, string(name), values, length(values)), state)
    return from_rows(values, rows, columns)
end

"""
    set_attention!(state, name, values)

Sets a tensor of the attention module, from the next step on; `values` has the size that [`attention`](@ref) returns.
"""
function set_attention!(state::State, name::Name, values::AbstractVecOrMat{<:Real})
    rows, columns = attention_shape(state, name)
    (size(values, 1), size(values, 2)) == (rows, columns) || throw(DimensionMismatch(
        "$name has size $((rows, columns)); given were values of size $(size(values))"))
    in_rows = vec(permutedims(convert(Matrix{Float64}, reshape(values, rows, columns))))
    locked(handle -> call(Raw.maw_attention_set, handle, string(name), in_rows, length(in_rows)), state)
    return nothing
end

"""
    meta_gradient(state, name)

The gradient of the meta-objective in the last completed meta-update: with respect to a tensor of the attention module (a
matrix as from [`attention`](@ref)), or to `"alpha"`, `"beta"`, `"lambda1"`, `"lambda2"` (a vector, in the
order of [`groups`](@ref)).
"""
function meta_gradient(state::State, name::Name)
    name = string(name)
    of_factor = name in ("alpha", "beta", "lambda1", "lambda2")
    rows, columns = of_factor ? (counted(Raw.maw_group_count, state), 1) : attention_shape(state, name)
    values = Vector{Float64}(undef, rows * columns)
    locked(handle -> call(Raw.maw_meta_gradient, handle, name, values, length(values)), state)
    return of_factor ? values : from_rows(values, rows, columns)
end

"""
    tensor_state(state, name)

The moments of one tensor as arrays of its size (with `shard`: vectors of this process's part), of Float64 for a tensor of
Float64 and else of Float32, and the number of its updates: `(exp_avg, exp_avg_sq, step)`.
"""
function tensor_state(state::State, name::Name)
    tensor = tensor_number(state, name)
    exp_avg, exp_avg_sq = (Array{state_type(state.types[tensor])}(undef, part_size(state, tensor)) for _ in 1:2)
    step = Ref{UInt64}()
    locked(state) do handle
        call(Raw.maw_tensor_state_get, handle, tensor - 1, exp_avg, exp_avg_sq, length(exp_avg), step)
    end
    return (exp_avg = exp_avg, exp_avg_sq = exp_avg_sq, step = Int(step[]))
end

"""
    set_tensor_state!(state, name; exp_avg, exp_avg_sq, step)

Sets what [`tensor_state`](@ref) returns, to continue a run of another Adam implementation.
"""
function set_tensor_state!(state::State, name::Name; exp_avg::AbstractArray, exp_avg_sq::AbstractArray,
                           step::Integer)
    tensor = tensor_number(state, name)
    size(exp_avg) == size(exp_avg_sq) == part_size(state, tensor) || throw(DimensionMismatch(
        "the moments of $name have sizes $(size(exp_avg)) and $(size(exp_avg_sq)), the parameter " *
        "$(part_size(state, tensor))"))
    first, second = (convert(Array{state_type(state.types[tensor])}, moment) for moment in (exp_avg, exp_avg_sq))
    locked(state) do handle
        call(Raw.maw_tensor_state_set, handle, tensor - 1, first, second, length(first), step)
    end
    return nothing
end

"""
    counters(state)

The optimizer's own counts, which [`tensor_state`](@ref) does not tell: applied steps, meta-updates that changed the attention
module, the step at which the last one was done or abandoned (`nothing` if there was none), and skipped steps by what was
not finite.
"""
function counters(state::State)
    out = Ref(defaults(Raw.maw_counters, Raw.maw_counters_init))
    locked(handle -> call(Raw.maw_counters_get, handle, out), state)
    c = out[]
    return (step = Int(c.step), meta_updates = Int(c.meta_updates),
            meta_done_at = c.meta_done_at == Raw.MAW_NO_STEP ? nothing : Int(c.meta_done_at),
            skipped_gradient = Int(c.skipped_gradient), skipped_parameter = Int(c.skipped_parameter),
            skipped_moment = Int(c.skipped_moment), skipped_feature = Int(c.skipped_feature),
            skipped_factor = Int(c.skipped_factor))
end

"""
    set_counters!(state; step, meta_updates, meta_done_at, skipped_gradient, …)

Sets what [`counters`](@ref) gives, after [`set_tensor_state!`](@ref): a run that moves here from another optimizer then goes
on as it would have there. What is left out is 0, `meta_done_at` nothing.
"""
function set_counters!(state::State; meta_done_at = nothing, keywords...)
    c = change(defaults(Raw.maw_counters, Raw.maw_counters_init);
               meta_done_at = meta_done_at === nothing ? Raw.MAW_NO_STEP : meta_done_at, keywords...)
    locked(handle -> call(Raw.maw_counters_set, handle, Ref(c)), state)
    return nothing
end

"""
    masters(state, name, parameter)

The Float32 masters of a 16-bit tensor under `precision = :master` or `:remainder`; `parameter` is its array in the model,
which under `:remainder` is half of each master. With `shard` they are a vector of this process's part.
"""
function masters(state::State, name::Name, parameter::AbstractArray)
    tensor = checked_parameter(state, name, parameter)
    values = Array{Float32}(undef, part_size(state, tensor))
    locked(state) do handle
        GC.@preserve parameter call(
            Raw.maw_master_get, handle, tensor - 1, part_address(state, tensor, parameter, name), values, length(values))
    end
    return values
end

"""
    set_masters!(state, name, parameter, values)

Sets the masters, to start from Float32 weights, and writes them, rounded, to `parameter`.
"""
function set_masters!(state::State, name::Name, parameter::AbstractArray, values::AbstractArray)
    tensor = checked_parameter(state, name, parameter)
    size(values) == part_size(state, tensor) ||
        throw(DimensionMismatch("the masters have size $(size(values)), $name $(part_size(state, tensor))"))
    wide = convert(Array{Float32}, values)
    locked(state) do handle
        GC.@preserve parameter call(
            Raw.maw_master_set, handle, tensor - 1, wide, part_address(state, tensor, parameter, name), length(wide))
    end
    return nothing
end

function checked_parameter(state::State, name, parameter)
    tensor = tensor_number(state, name)
    eltype(parameter) === state.types[tensor] && size(parameter) == state.sizes[tensor] && contiguous(parameter) ||
        throw(ArgumentError("$name is registered as $(state.types[tensor]) of size $(state.sizes[tensor]), not as a " *
                            "$(typeof(parameter)) of size $(size(parameter))"))
    return tensor
end
