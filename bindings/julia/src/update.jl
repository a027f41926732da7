# A step, and what changes between steps.

"Arrays and gradients of a model in the order of registration, checked against what was registered."
function matched(state::State, model, gradient)
    describe = state.describe
    found = walk(model, of_model(model, gradient); trainable = describe.trainable,
                 gradient_type = describe.gradient_type, first_index = describe.first_index)
    length(found.arrays) == length(state.entries) || throw(ArgumentError(
        "the model has $(length(found.arrays)) arrays; $(length(state.names)) were registered by setup; " *
        "setup!(state, model) registers what a model gained or lost"))
    arrays, gradients = found.arrays[state.entries], found.gradients[state.entries]
    for (tensor, array) in enumerate(arrays)
        eltype(array) === state.types[tensor] && size(array) == state.sizes[tensor] || throw(DimensionMismatch(
            "$(state.names[tensor]) is $(eltype(array)) of size $(size(array)); registered by setup was " *
            "$(state.types[tensor]) of size $(state.sizes[tensor])"))
        state.frozen[tensor] && (gradients[tensor] = nothing)
    end
    return arrays, gradients
end

"""
A gradient that mirrors the model, of what Zygote's functions return: `gradient` a tuple with one gradient an argument,
`withgradient` a NamedTuple of the value and that tuple. A model that has such a form itself counts first.
"""
function of_model(model, gradient)
    if gradient isa NamedTuple{(:val, :grad)} && !(hasproperty(model, :val) && hasproperty(model, :grad))
        return of_model(model, gradient.grad)
    elseif gradient isa Tuple && !(model isa Union{Tuple, AbstractArray} && length(model) == length(gradient))
        length(gradient) == 1 && return only(gradient)
        throw(ArgumentError(
            "the gradient is a tuple of $(length(gradient)), which does not mirror the model; of several gradients, or a loss " *
            "and a gradient, pass the one of the model: gradients[1]"))
    end
    return gradient
end

"Addresses of the parameters; the caller must keep the arrays alive while they are used."
addresses(state::State, arrays) =
    Ptr{Cvoid}[part_address(state, tensor, array, state.names[tensor]) for (tensor, array) in enumerate(arrays)]

"Addresses of the gradients; NULL means none. An empty one may be NULL as well."
gradient_addresses(state::State, gradients) =
    Ptr{Cvoid}[gradient === nothing ? C_NULL : part_address(state, tensor, gradient, "the gradient of $(state.names[tensor])")
               for (tensor, gradient) in enumerate(gradients)]

"""
    update!(state, model, gradient; grad_scale = 1, params_changed = false, wait = true, found_inf = nothing)
        -> (state, model)

One step: updates the arrays of `model` in place. `gradient` mirrors the model, as Zygote's does: NamedTuples (also for
structs), tuples, arrays, Dicts; where it is `nothing` or absent there is no gradient, and the tensors below are not
updated. What Zygote.gradient and Zygote.withgradient return is understood as well: `(g,)` and `(val = …, grad = (g,))`. A
gradient that is a contiguous array of the parameter's type is used in place; any other is converted first.

`grad_scale`: loss scale, by which the gradients are divided. `params_changed = true`: the parameters were changed by other
code since the last step. [`report`](@ref) returns the report of the step, for example that it was skipped.

On a CUDA device `wait = false` only enqueues the step: `model` and `gradient` must stay alive until it has run; `report`
waits for it. `grad_scale` may be an array of one Float32 in device memory, read when the step runs, and so may
`found_inf`, which skips the step unless it is 0.

With `setup(…; shard)` only the ranges that this process has are read and updated; then put the parts of all processes together.
"""
function update!(state::State, model, gradient; grad_scale::Union{Real, AbstractArray{Float32}} = 1,
                 params_changed::Bool = false, wait::Bool = true, found_inf::Union{Nothing, AbstractArray{Float32}} = nothing)
    arrays, gradients, options = or_refuse(state, refuse_step) do
        on_device = grad_scale isa AbstractArray
        options = change(defaults(Raw.maw_step_options, Raw.maw_step_options_init);
                         grad_scale = on_device ? 1 : grad_scale, flags = params_changed ? Raw.MAW_STEP_PARAMS_CHANGED : 0,
                         device_grad_scale = on_device ? device_float(grad_scale, "grad_scale") : C_NULL,
                         found_inf = found_inf === nothing ? C_NULL : device_float(found_inf, "found_inf"))
        (matched(state, model, gradient)..., options)
    end
    report = Ref(defaults(Raw.maw_step_report, Raw.maw_step_report_init))
    locked(state) do handle
        GC.@preserve arrays gradients grad_scale found_inf call(
            Raw.maw_step, handle, addresses(state, arrays), gradient_addresses(state, gradients), length(arrays),
            Ref(options), wait ? report : C_NULL)
        state.report = wait ? report[] : nothing
    end
    return state, model
end

function device_float(x, name)
    length(x) == 1 || throw(DimensionMismatch("$name has $(length(x)) elements, 1 is expected"))
    return address(x, name)
end

const SKIP_REASONS = Dict{Int32, Symbol}(
    Raw.MAW_SKIP_NONE => :none, Raw.MAW_SKIP_GRADIENT => :gradient, Raw.MAW_SKIP_PARAMETER => :parameter,
    Raw.MAW_SKIP_MOMENT => :moment, Raw.MAW_SKIP_FEATURE => :feature, Raw.MAW_SKIP_FACTOR => :factor)

"""
    report(state)

The report of the last step, as a NamedTuple: `step` and `skipped_steps` so far, `grad_norm` (before clipping),
`clip_factor`, `skipped`, `skip_reason` (`:none`, `:gradient`, `:parameter`, `:moment`, `:feature`, `:factor`) and
`nonfinite_tensor`, the name of the first tensor that is not finite, or `nothing`. Waits for a step on a device.
"""
function report(state::State)
    if state.report === nothing
        fetched = Ref(defaults(Raw.maw_step_report, Raw.maw_step_report_init))
        locked(handle -> call(Raw.maw_step_report_fetch, handle, Raw.MAW_FETCH_WAIT, fetched), state)
        state.report = fetched[]
    end
    r = state.report
    blamed = r.skipped == 1 && r.nonfinite_tensor != Raw.MAW_NO_TENSOR
    return (step = Int(r.step), skipped_steps = Int(r.skipped_steps), grad_norm = r.grad_norm,
            clip_factor = r.clip_factor, skipped = r.skipped == 1,
            skip_reason = get(SKIP_REASONS, r.skip_reason, :unknown),
            nonfinite_tensor = blamed ? state.names[r.nonfinite_tensor + 1] : nothing)
end

"""
    observe_gradient!(state, name, gradient)

Computes the norms of one tensor's gradient as soon as the backward pass has it, while it is still in the cache. The next
[`update!`](@ref) must get the same values. Optional; the result has the same bits with and without.
"""
function observe_gradient!(state::State, name::Name, gradient::AbstractArray)
    tensor = tensor_number(state, name)
    state.tied[tensor] &&
        throw(ArgumentError("$name is shared by several places, so its gradient is known only when they are summed"))
    type = state.describe.gradient_type(state.types[tensor])
    eltype(gradient) === type && contiguous(gradient) || throw(ArgumentError(
        "the gradient of $name is a $(typeof(gradient)); a contiguous array of $type is expected"))
    size(gradient) == state.sizes[tensor] || throw(DimensionMismatch(
        "the gradient of $name has size $(size(gradient)), the parameter $(state.sizes[tensor])"))
    (state.frozen[tensor] || isempty(state.ranges[tensor])) && return nothing
    locked(state) do handle
        GC.@preserve gradient call(
            Raw.maw_observe_gradient, handle, tensor - 1, part_address(state, tensor, gradient, "the gradient of $name"))
    end
    return nothing
end

tensor_number(state::State, name) = get(state.lookup, string(name)) do
    throw(MetaAdamWError(:not_found, "no tensor is named $(repr(name)); there are $(join(state.names, ", "))"))
end

# ------------------------------------------------------------------------------------------------ hyper-parameters ----

"""
    adjust!(state, lr; group = nothing)
    adjust!(state; lr, weight_decay, beta1, beta2, eps, max_grad_norm, priorities, group = nothing)

Changes hyper-parameters of param groups, the norm to which all gradients together are clipped, the priorities of the
meta-objective's three terms; what is not given stays. `beta = (0.9, 0.999)` is both decay rates, as in Optimisers.jl.
`group`: what named a param group in `setup(…; groups)`, `:rest` for the tensors that no group named, or its number,
from 1 on (see [`param_groups`](@ref)); by default all. An unknown keyword is an error. On failure nothing has changed.
"""
adjust!(state::State, lr::Real; group = nothing) = adjust!(state; lr = lr, group = group)

function adjust!(state::State; keywords...)
    known = (:lr, :weight_decay, :beta1, :beta2, :beta, :eps, :max_grad_norm, :priorities, :group)
    for (name, _) in keywords
        name in known || unknown_keyword("adjust!", name, known)
    end
    given(name) = haskey(keywords, name)
    any(given, known[1:end - 1]) ||
        throw(ArgumentError("adjust! must be given something to change: $(join(known[1:end - 1], ", "))"))
    given(:beta) && (given(:beta1) || given(:beta2)) &&
        throw(ArgumentError("adjust! is given beta, which is beta1 and beta2, and one of these"))
    value(name, type = Float64) = as_field(type, name, keywords[name])
    group = get(keywords, :group, nothing)
    numbers = group === nothing ? (1:length(state.groups)) : [param_group_number(state, group)]

    # The setter, and what it is given before and afterwards.
    changes = Tuple{Any, Tuple, Tuple}[]
    of_groups(setter, before, after) = append!(changes, [
        (setter, (number - 1, before[number]...), (number - 1, after(before[number])...)) for number in numbers])
    given(:lr) && of_groups(Raw.maw_set_lr, learning_rates(state), _ -> value(:lr))
    given(:weight_decay) && of_groups(Raw.maw_set_weight_decay, weight_decays(state), _ -> value(:weight_decay))
    given(:beta) && of_groups(Raw.maw_set_betas, betas(state), _ -> value(:beta, NTuple{2, Float64}))
    (given(:beta1) || given(:beta2)) && of_groups(Raw.maw_set_betas, betas(state), before ->
        (given(:beta1) ? value(:beta1) : before[1], given(:beta2) ? value(:beta2) : before[2]))
    given(:eps) && of_groups(Raw.maw_set_eps, epsilons(state), _ -> value(:eps))
    given(:max_grad_norm) &&
        push!(changes, (Raw.maw_set_max_grad_norm, (max_grad_norm(state),), (value(:max_grad_norm),)))
    given(:priorities) && push!(changes, (
        Raw.maw_set_priorities, (collect(priorities(state)),), (collect(value(:priorities, NTuple{3, Float64})),)))

    # All or none.
    locked(state) do handle
        done = 0
        try
            for (setter, _, after) in changes
                call(setter, handle, after...)
                done += 1
            end
        catch
            foreach(((setter, before, _),) -> call(setter, handle, before...), reverse(changes[1:done]))
            rethrow()
        end
    end
    return nothing
end

param_group_number(state::State, number::Integer) = number in eachindex(state.groups) ? Int(number) : throw(
    MetaAdamWError(:not_found, "no param group $number; there are $(length(state.groups))"))

function param_group_number(state::State, what)
    same(known) = known == what || known isa Name && what isa Name && string(known) == string(what)
    number = findfirst(same, state.groups)
    number === nothing && throw(MetaAdamWError(
        :not_found, "no param group was named by $(repr(what)); there are $(join(repr.(state.groups), ", "))"))
    return number
end

"""
    freeze!(state, what = everything)

From now on the tensors that `what` names get no gradient: their values and moments do not change, and in the features their
gradients count as 0. `what` is a path (`"layers.1"`, all that is below), a Regex, or a function of the
name. [`thaw!`](@ref) undoes it. Checkpoints do not record which tensors are frozen.
"""
freeze!(state::State, what = name -> true) = mark_frozen!(state, what, true)

"""
    thaw!(state, what = everything)

The reverse of [`freeze!`](@ref).
"""
thaw!(state::State, what = name -> true) = mark_frozen!(state, what, false)

function mark_frozen!(state::State, what, frozen::Bool)
    isopen(state) || throw(MetaAdamWError(:invalid_state, "the state is closed"))
    tensors = [tensor for (name, tensor) in state.lookup if chosen(what, name)]
    isempty(tensors) &&
        throw(MetaAdamWError(:not_found, "no tensor is meant by $(repr(what)); there are $(join(state.names, ", "))"))
    state.frozen[tensors] .= frozen
    return nothing
end

"""
    reset!(state; moments = false, attention = false)

Resets the moments and all step counts, the attention module to its initial values, or both.
"""
function reset!(state::State; moments::Bool = false, attention::Bool = false)
    what = (moments ? Raw.MAW_RESET_MOMENTS : 0) | (attention ? Raw.MAW_RESET_ATTENTION : 0)
    locked(handle -> call(Raw.maw_reset, handle, what), state)
    return nothing
end
