# The optimizer's handle and the data that Julia stores with it.

"""
    State

The optimizer of one model, made by [`setup`](@ref). `close(state)` frees it, else the garbage collector does. It cannot be
copied; use [`save`](@ref) and [`load!`](@ref).

A state may be used from any task, by one call at a time: a second call meanwhile throws `MetaAdamWError(:busy, …)` and does
nothing.
"""
mutable struct State
    handle::Ptr{Raw.maw_optimizer}
    busy::Threads.Atomic{Bool}
    in_meta_update::Bool
    log::Any                        # function (level, message), or nothing
    queue::LogQueue
    trainable::Any                  # function
    first_index::Int
    names::Vector{String}           # of the tensors, in the order of registration
    types::Vector{DataType}
    gradient_type::Any              # function
    sizes::Vector{Any}
    entries::Vector{Int}            # tensor -> number of the array in a walk
    lookup::Dict{String, Int}       # every name, further places of shared arrays included -> tensor
    groups::Vector{Any}             # what named each param group; `:rest` for the tensors that no group named
    group_of::Vector{Int}           # tensor -> number of its param group
    tied::BitArray{1}
    frozen::BitArray{1}
    report::Union{Raw.maw_step_report, Nothing} # of the last step; nothing: to be fetched

    function State(handle::Ptr{Raw.maw_optimizer}, log)
        state = new(handle, Threads.Atomic{Bool}(false), false, log, LogQueue([]), trainable, 1, [], [], identity, [], [],
                    Dict{String, Int}(), [], [], falses(0), falses(0), defaults(Raw.maw_step_report, Raw.maw_step_report_init))
        return finalizer(free, state)
    end
end

"The finalizer: frees the handle."
function free(state::State)
    handle, state.handle = state.handle, Ptr{Raw.maw_optimizer}(C_NULL)
    handle == C_NULL || Raw.maw_optimizer_free(handle)
    return nothing
end

"""
    close(state)

Frees the optimizer. A second `close` does nothing; any other use afterwards is an error.
"""
function Base.close(state::State)
    state.in_meta_update && throw(MetaAdamWError(:invalid_state, "a meta-update is open: the state cannot be closed"))
    Threads.atomic_cas!(state.busy, false, true) && throw_busy()
    try
        free(state)
    finally
        state.busy[] = false
    end
    return nothing
end

Base.isopen(state::State) = state.handle != C_NULL

throw_busy() = throw(MetaAdamWError(:busy, "another task is inside a call on this state"))

"""
Runs `f(handle)` with exclusive use of the handle, then passes its messages to the log. An interrupt (Ctrl-C) waits until `f`
is done: it must not leave the state busy, nor what `f` notes undone.
"""
function locked(f, state::State)
    taken = Ref(false)
    try
        return disable_sigint() do
            Threads.atomic_cas!(state.busy, false, true) && throw_busy()
            taken[] = true
            try
                state.handle == C_NULL && throw(MetaAdamWError(:invalid_state, "the state is closed"))
                GC.@preserve state f(state.handle)
            finally
                state.busy[] = false
            end
        end
    finally
        taken[] && !isempty(state.queue.messages) && tell_messages(state)
    end
end

function tell_messages(state::State)
    messages = copy(state.queue.messages)
    empty!(state.queue.messages)
    state.log === nothing && return
    for (level, message) in messages
        try
            state.log(get(LOG_LEVELS, level, :info), message)
        catch e
            # The call has succeeded already, so an error of the log must not make it fail.
            @error "MetaAdamW: the log function threw" exception = (e, catch_backtrace())
        end
    end
    return
end

Base.deepcopy_internal(::State, ::IdDict) =
    throw(ArgumentError("a MetaAdamW.State cannot be copied; set up a second one and load! what the first one saved"))

# The handle is an address in this process; what is read back elsewhere would be a closed state.
Serialization.serialize(::Serialization.AbstractSerializer, ::State) = throw(ArgumentError(
    "a MetaAdamW.State cannot be serialized; write it with MetaAdamW.save(io, state), and read it with load! into a state " *
    "that setup made for the same model"))

function Base.show(io::IO, state::State)
    isopen(state) || return print(io, "MetaAdamW.State(closed)")
    parameters = sum(prod, state.sizes)
    print(io, "MetaAdamW.State(", length(state.names), " tensors, ", parameters, " parameters")
    any(state.frozen) && print(io, ", ", count(state.frozen), " tensors frozen")
    known = shown(state)
    known === nothing ? print(io, ", in use") :
        print(io, ", step ", known.step, ", lr ", join(unique(known.lr), ", "), ", ", length(known.groups), " modulation groups")
    print(io, ")")
end

"The same, and a line for each param group and each modulation group."
function Base.show(io::IO, ::MIME"text/plain", state::State)
    show(io, state)
    known = isopen(state) ? shown(state) : nothing
    known === nothing && return
    for (number, (what, names)) in enumerate(param_groups(state))
        print(io, "\n  param group ", number, ", ", repr(what), ": lr ", known.lr[number], ", weight decay ",
              known.weight_decay[number], ", ", of_tensors(names))
    end
    for (name, names) in known.groups
        print(io, "\n  modulation group ", repr(name), ": ", of_tensors(names))
        factor = get(known.factors, name, nothing)
        factor === nothing || print(io, ", alpha ", round(factor.alpha, digits = 3), ", beta ", round(factor.beta, digits = 3))
    end
end

of_tensors(names) = length(names) == 1 ? "1 tensor" : "$(length(names)) tensors"

"What `show` asks the library, or nothing while another call runs: showing must not fail."
function shown(state::State)
    try
        step = step_count(state)
        return (step = step, lr = learning_rates(state), weight_decay = weight_decays(state), groups = groups(state),
                factors = step == 0 ? Dict{String, Any}() : factors(state))
    catch e
        e isa MetaAdamWError || rethrow()
        return nothing
    end
end

# ----------------------------------------------------------------------------------------------------------- setup ----

"Whether a tensor's name matches: the path of the tensor or of a part of the model above it, a Regex, or a function."
chosen(path::AbstractString, name) = name == path || startswith(name, path * ".")
chosen(path::Symbol, name) = chosen(string(path), name)
chosen(pattern::Regex, name) = occursin(pattern, name)
chosen(predicate::Function, name) = predicate(name)::Bool

"""
    setup(rule, model; keywords…) -> State

Registers the arrays of `model`: nested NamedTuples, tuples, structs, Dicts and arrays of such; parameters are the
arrays of Float32, Float64, Float16 and [`BFloat16`](@ref) (and contiguous views) in it, with `Rule(device = :cuda)`
those in device memory ([`DeviceArray`](@ref)). An array that occurs in several places (`===`) is
registered once, and its gradients are summed. [`trainable`](@ref) can be overloaded to leave fields of a struct out.

Names are paths: `"layers.1.weight"`. Modulation groups, [`freeze!`](@ref) and checkpoints use them.

- `first_index = 1`: number of a tuple's or array's first element in names; 0 as in other languages.
- `rename = identity`: function from the path to the name.
- `groups = []`: param groups with hyper-parameters of their own, as `what => (weight_decay = 0, …)`; what is not named
  comes from `rule`. `what` is a path, a Regex or a function of the name; the first that fits counts. Each must get a
  tensor. The rest of the tensors, if any, are param group 1, those given here follow; see [`param_groups`](@ref).
- `modulation_group = nothing`: function from the name to a modulation group's name; with `Rule(grouping = :custom)`.
- `layer_kind = nothing`: function from the name to `:linear`, `:embedding`, `:attention`, `:layernorm`, `:convolution`,
  `:batchnorm`, `:recurrent` or `:unknown`: the last is decided by words in the name.
- `layer_index = nothing`: function from the name to the number of its layer plus 1, 1 for the first; 0: the number in the name.
- `gradient_type = identity`: function from the type of a parameter's elements to that of its gradients: `T -> Float32`.
- `log`: function of a level (`:info`, `:warning`) and a message, run after the call that caused the message;
  by default Julia's logging, `nothing` for silence.
- `trainable = MetaAdamW.trainable`: used instead of that function.
"""
function setup(rule::Rule, model; first_index::Integer = 1, rename = identity, groups = (), modulation_group = nothing,
               layer_kind = nothing, layer_index = nothing, gradient_type = identity, log = log_to_julia,
               trainable = trainable)
    found = walk(model; trainable = trainable, first_index = Int(first_index))
    isempty(found.arrays) &&
        throw(ArgumentError("the model has no array of Float32, Float64, Float16 or bfloat16: there is nothing to train"))
    name(path) = String(rename(spelled(path, found.first_index)))
    names = map(name, found.paths)
    for (array, its_name) in zip(found.arrays, names)
        address(array, its_name)
    end

    group_of = map(its_name -> group_index(groups, its_name), names)
    check_groups(groups, group_of, names)
    entries = sortperm(group_of)            # stable: walk order within a group
    state = State(create(rule.options), log)
    try
        state.trainable, state.first_index = trainable, found.first_index
        state.entries = entries
        state.names = names[entries]
        state.types = eltype.(found.arrays[entries])
        state.gradient_type = gradient_type
        for type in unique(state.types)
            is_element(gradient_type(type)) ||
                throw(ArgumentError("gradient_type($type) is $(gradient_type(type)): no type of gradients"))
        end
        state.sizes = size.(found.arrays[entries])
        state.tied, state.frozen = falses(length(entries)), falses(length(entries))
        tensor_of = invperm(entries)
        for (tensor, its_name) in enumerate(state.names)
            state.lookup[its_name] = tensor
        end
        for (entry, path) in found.ties
            state.tied[tensor_of[entry]] = true
            get!(state.lookup, name(path), tensor_of[entry])
        end

        log === nothing || set_log!(log, state)
        for group in 0:length(groups)
            members = findall(tensor -> group_of[entries[tensor]] == group, 1:length(entries))
            isempty(members) && continue
            settings = group == 0 ? rule.group : hyperparameters(rule.group, last(groups[group]))
            register(state, settings, members, modulation_group, layer_kind, layer_index)
            push!(state.groups, group == 0 ? :rest : first(groups[group]))
            append!(state.group_of, fill(length(state.groups), length(members)))
        end
        locked(handle -> call(Raw.maw_prepare, handle), state)
    catch
        close(state)
        rethrow()
    end
    return state
end

setup(rule, model; keywords...) = throw(ArgumentError("setup expects a MetaAdamW.Rule first, not a $(typeof(rule))"))

group_index(groups, name) = something(findfirst(group -> chosen(first(group), name), collect(groups)), 0)

"An error for the first group that gets no tensor: its settings would be lost, and the numbers of the others shifted."
function check_groups(groups, group_of, names)
    for (number, (what, _)) in enumerate(groups)
        number in group_of && continue
        taken = filter(name -> chosen(what, name), names)
        throw(ArgumentError(
            "groups[$number], $(repr(what)), gets no tensor: " *
            (isempty(taken) ? "there are $(join(names, ", "))" : "groups before it have $(join(taken, ", "))")))
    end
end

function create(options::Raw.maw_options)
    optimizer = Ref{Ptr{Raw.maw_optimizer}}(C_NULL)
    call(Raw.maw_optimizer_create, Ref(options), optimizer)
    return optimizer[]
end

"Registers some of the state's tensors as a param group."
function register(state::State, settings, members, modulation_group, layer_kind, layer_index)
    empty_tensor = defaults(Raw.maw_tensor, Raw.maw_tensor_init)
    names = state.names[members]
    # Julia's first dimension varies fastest, the library's last.
    shapes = [UInt64[reverse(state.sizes[tensor])...] for tensor in members]
    modulation_groups = modulation_group === nothing ? fill("", length(names)) : map(String ∘ modulation_group, names)
    check_text(text) = '\0' in text ? throw(ArgumentError("the name $(repr(text)) has a NUL in it")) : text
    foreach(check_text, names)
    foreach(check_text, modulation_groups)
    GC.@preserve names shapes modulation_groups begin
        text(x) = Base.unsafe_convert(Cstring, x)
        tensors = map(enumerate(members)) do (i, tensor)
            change(empty_tensor;
                   name = text(names[i]),
                   shape = pointer(shapes[i]),
                   ndim = length(shapes[i]),
                   dtype = element_dtype(state.types[tensor]),
                   grad_dtype = element_dtype(state.gradient_type(state.types[tensor])),
                   modulation_group = modulation_group === nothing ? Cstring(C_NULL) : text(modulation_groups[i]),
                   layer_kind = layer_kind === nothing ? Raw.MAW_LAYER_UNKNOWN :
                                enumerated("layer_kind of $(names[i])", LAYER_KINDS, layer_kind(names[i])),
                   layer_index = layer_index === nothing ? UInt32(0) :
                                 as_field(UInt32, Symbol("layer_index of $(names[i])"), layer_index(names[i])))
        end
        locked(state) do handle
            call(Raw.maw_add_param_group, handle, Ref(settings), tensors, length(tensors), C_NULL)
        end
    end
end

"""
    set_log!(f, state)

Sets the function `f(level, message)` that receives the library's messages: skipped steps, abandoned meta-updates, options
that are probably unintended. It runs on the calling task when the call that caused the message has returned; its exceptions
are reported to Julia's logging. `nothing` turns messages off.
"""
function set_log!(f, state::State)
    locked(state) do handle
        callback = f === nothing ? C_NULL : LOG_TRAMPOLINE[]
        call(Raw.maw_set_log, handle, callback, f === nothing ? C_NULL : pointer_from_objref(state.queue))
        state.log = f
    end
    return nothing
end
