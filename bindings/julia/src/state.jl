# The optimizer's handle and the data that Julia stores with it.

"What `setup` was told about the model's arrays: functions of a path, a name or a type."
struct Description
    trainable::Any
    first_index::Int
    rename::Any
    modulation_group::Any           # or nothing
    layer_kind::Any                 # or nothing
    layer_index::Any                # or nothing
    precision::Any                  # or nothing
    gradient_type::Any
    shard::Any                      # or nothing
end

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
    averaged::Bool                  # the averages are in the model's arrays
    with_averages::Bool             # the function of `with_averages` is running
    log::Any                        # function (level, message), or nothing
    queue::LogQueue
    reduction::Reduction
    rule::Rule
    describe::Description           # the keywords of setup
    names::Vector{String}           # of the tensors, in the order of registration
    types::Vector{DataType}
    sizes::Vector{Any}
    ranges::Vector{UnitRange{Int}}  # of the array's elements that this process has: all but with `shard`
    entries::Vector{Int}            # tensor -> number of the array in a walk
    lookup::Dict{String, Int}       # every name, further places of shared arrays included -> tensor
    groups::Vector{Any}             # what named each param group; `:rest` for the tensors that no group named
    settings::Vector{Raw.maw_param_group} # with which each was registered
    rest::Int                       # number of the param group `:rest`; 0: there is none
    group_of::Vector{Int}           # tensor -> number of its param group
    tied::BitArray{1}
    frozen::BitArray{1}
    report::Union{Raw.maw_step_report, Nothing} # of the last step; nothing: to be fetched

    function State(rule::Rule, describe, log)
        state = new(create(rule.options), Threads.Atomic{Bool}(false), false, false, false, log, LogQueue([]),
                    Reduction(nothing, nothing, rule.options.device == Raw.MAW_CUDA), rule, describe, [], [], [], [], [],
                    Dict{String, Int}(), [], [], 0, [], falses(0), falses(0),
                    defaults(Raw.maw_step_report, Raw.maw_step_report_init))
        return finalizer(free, state)
    end
end

function create(options::Raw.maw_options)
    optimizer = Ref{Ptr{Raw.maw_optimizer}}(C_NULL)
    call(Raw.maw_optimizer_create, Ref(options), optimizer)
    return optimizer[]
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
    state.with_averages && throw(MetaAdamWError(:invalid_state, "with_averages is running: the state cannot be closed"))
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
                result = GC.@preserve state f(state.handle)
                throw_failure(state.reduction)
                return result
            catch
                throw_failure(state.reduction)          # rather than what the library says of it
                rethrow()
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

"The factors, none where they are unknown: after `setup!`."
function known_factors(state::State)
    try
        return factors(state)
    catch e
        e isa MetaAdamWError && e.status === :invalid_state || rethrow()
        return Dict{String, Any}()
    end
end

"What `show` asks the library, or nothing while another call runs: showing must not fail."
function shown(state::State)
    try
        step = step_count(state)
        return (step = step, lr = learning_rates(state), weight_decay = weight_decays(state), groups = groups(state),
                factors = step == 0 ? Dict{String, Any}() : known_factors(state))
    catch e
        e isa MetaAdamWError || rethrow()
        return nothing
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
