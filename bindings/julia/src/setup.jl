# Which arrays of a model are registered: at first, and when the model has gained or lost some.

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
- `precision = nothing`: function from the name to `:nearest`, `:master`, `:remainder` or `:stochastic`, or `nothing` for that
  of the tensor's param group, which is ignored where the elements are not of 16 bits.
- `gradient_type = identity`: function from the type of a parameter's elements to that of its gradients: `T -> Float32`.
- `log`: function of a level (`:info`, `:warning`) and a message, run after the call that caused the message;
  by default Julia's logging, `nothing` for silence.
- `reduction = nothing`, `shard = nothing`: for several processes with the same model, each of which has the moments of a part of
  every array and updates that part (ZeRO-1). `reduction`: function that sums a vector of Float64 over the processes in place:
  `values -> MPI.Allreduce!(values, +, comm)`. It runs inside calls of the library, on their task, and must not use the state;
  the vector is valid until it returns. What it throws, the call throws. With `Rule(device = :cuda)` the values are in device
  memory: `reduction(pointer, count)`, see below. `shard`: function from a name and an array to the range
  of the array's elements, in the order of `vec(array)`, that this process has, such as
  `(name, array) -> MetaAdamW.shard_range(length(array), rank, processes)`. If the model's array is that part alone (FSDP), the
  function also returns the size of the whole array: `range => (300, 200)`. Every process calls `setup` with the same model, and
  then the same functions in the same order; see the README.
- `stream = C_NULL`: the CUDA stream from the beginning on, as [`set_stream!`](@ref) sets it.
- `trainable = MetaAdamW.trainable`: used instead of that function.

[`setup!`](@ref) is for a model that has gained or lost arrays.

# Several processes on CUDA

`reduction(pointer, count)` gets the address of the values in device memory, a `Ptr{Float64}`, and their number, an `Int`. It
enqueues their sum over the processes, in place, on the state's stream, and need not wait for it. With CUDA.jl and NCCL.jl, which
have not been run:

    function sum_over_processes(pointer, count)
        values = unsafe_wrap(CuArray, reinterpret(CuPtr{Float64}, pointer), count)
        NCCL.Allreduce!(values, +, comm; stream = stream)
    end
    state = MetaAdamW.setup(rule, model; reduction = sum_over_processes, stream = stream.handle, shard = …)

`update!(…; wait = false)` calls it also while the stream is captured into a graph; replays repeat what it enqueued. What the device
finds out while it works, such as processes that differ, is a `MetaAdamWError` with `:reduction` of the next call that waits for it,
such as [`report`](@ref); that step was made on no process.
"""
function setup(rule::Rule, model; first_index::Integer = 1, rename = identity, groups = (), modulation_group = nothing,
               layer_kind = nothing, layer_index = nothing, precision = nothing, gradient_type = identity, log = log_to_julia,
               trainable = trainable, reduction = nothing, shard = nothing, stream::Ptr = C_NULL)
    describe = Description(trainable, Int(first_index), rename, modulation_group, layer_kind, layer_index, precision,
                           gradient_type, shard)
    state = State(rule, describe, log)
    try
        log === nothing || set_log!(log, state)
        stream == C_NULL || set_stream!(state, stream)
        reduction === nothing || set_reduction!(reduction, state)
        or_refuse(() -> register!(state, model, groups), state, handle -> Raw.maw_prepare(handle, C_NULL))
        locked(handle -> call(Raw.maw_prepare, handle), state)
    catch
        close(state)
        rethrow()
    end
    return state
end

setup(rule, model; keywords...) = throw(ArgumentError("setup expects a MetaAdamW.Rule first, not a $(typeof(rule))"))

"""
    setup!(state, model; groups = []) -> state

For a model that has gained or lost arrays, between two steps: registers those that are new, and forgets those that are gone.
What stays keeps its moments, masters, counts and whether it is frozen, and the attention module its values; new arrays start
at step 0. The modulation groups are formed anew; until the next step [`report`](@ref) is unknown, and so are
[`factors`](@ref) and [`features`](@ref) if the groups are others.

    model = (body = model.body, head = new_head, adapter = adapter)
    MetaAdamW.setup!(state, model; groups = ["adapter" => (lr = 1e-3,)])

An array stays if there is one of its name, type and size, whichever object it is; a shared one also by the name of another of
its places, and it then keeps the name it had. One of another type or size is a new one. The keywords of [`setup`](@ref)
still hold: a new array comes into the param group that names it, or into `:rest`. `groups`: more param groups, of which
each must get a new array; they go first, and their numbers follow the others. A param group stays even without arrays.

Something must stay, else use `setup`. On failure nothing has changed, except that after `:out_of_memory` some of the arrays
may be registered or forgotten: call it again.
"""
function setup!(state::State, model; groups = ())
    register!(state, model, groups)
    return state
end

"Tensors to register in one param group, with what their descriptions point to."
struct Batch
    group::Int                      # number of the param group
    entries::Vector{Int}            # numbers of the arrays in a walk
    names::Vector{String}
    types::Vector{DataType}
    sizes::Vector{Any}
    parts::Vector{Part}             # what this process has of each
    shapes::Vector{Vector{UInt64}}
    modulation_groups::Vector{String}
    tensors::Vector{Raw.maw_tensor}
end

"Registers what the state does not know of the model, and removes what the model does not have."
function register!(state::State, model, groups)
    describe = state.describe
    found = walk(model; trainable = describe.trainable, first_index = describe.first_index)
    isempty(found.arrays) &&
        throw(ArgumentError("the model has no array of Float32, Float64, Float16 or bfloat16: there is nothing to train"))
    name(path) = String(describe.rename(spelled(path, found.first_index)))
    names = map(name, found.paths)
    ties = Pair{Int, String}[entry => name(path) for (entry, path) in found.ties]
    for (array, its_name) in zip(found.arrays, names)
        address(array, its_name)
    end

    tensor_of = known_tensors(state, found.arrays, vcat(collect(pairs(names)), ties))
    gone = setdiff(eachindex(state.names), tensor_of)
    !isempty(gone) && length(gone) == length(state.names) && throw(ArgumentError(
        "none of the arrays that are registered ($(join(state.names, ", "))) is in the model: use setup"))
    new = findall(iszero, tensor_of)
    group_of, added, rest = param_groups_of(state, names[new], groups)
    settings = vcat(state.settings, Raw.maw_param_group[last(group) for group in added])
    batches = [Batch(describe, group, new[group_of .== group], found.arrays, names) for group in sort!(unique(group_of))]
    isempty(state.names) || check_registration(state, setdiff(eachindex(state.names), gone), batches, settings)
    entry_of = Dict(tensor => entry for (entry, tensor) in enumerate(tensor_of) if tensor != 0)
    kept = [entry_of[tensor] for tensor in eachindex(state.names) if haskey(entry_of, tensor)]

    locked(state) do handle
        at_first, known_groups = isempty(state.names), length(state.groups)
        try
            for tensor in reverse(gone)
                call(Raw.maw_remove_tensor, handle, tensor - 1)
                forget!(state, tensor)
            end
            for batch in batches
                add(handle, batch, settings[batch.group], batch.group <= known_groups)
                if batch.group > known_groups
                    what, its_settings = added[batch.group - known_groups]
                    push!(state.groups, what)
                    push!(state.settings, its_settings)
                    batch.group == rest && (state.rest = rest)
                end
                note!(state, batch)
            end
        finally
            if isempty(state.entries)       # something was changed
                look_up_names!(state)
                at_first || (state.report = nothing)
            end
        end
        number_arrays!(state, vcat(kept, (batch.entries for batch in batches)...), names, ties)
    end
    return
end

"The registered tensor of each array; 0 for none. `names`: pairs of an array's number and a name of one of its places."
function known_tensors(state::State, arrays, names)
    tensor_of, taken = zeros(Int, length(arrays)), falses(length(state.names))
    registered = Dict(name => tensor for (tensor, name) in enumerate(state.names))
    # First by the names that were registered, then by those of further places.
    for lookup in (registered, state.lookup), (entry, name) in names
        tensor, array = get(lookup, name, 0), arrays[entry]
        (tensor == 0 || taken[tensor] || tensor_of[entry] != 0) && continue
        eltype(array) === state.types[tensor] && size(array) == state.sizes[tensor] || continue
        tensor_of[entry], taken[tensor] = tensor, true
    end
    return tensor_of
end

"""
The number of each new tensor's param group, the groups that are new (what names them, their hyper-parameters), and the number
of the group of the tensors that no group names.
"""
function param_groups_of(state::State, names, groups)
    chosen_by = Int[group_index(groups, name) for name in names]
    check_groups(groups, chosen_by, names)
    named(name) = something(findfirst(group -> group != state.rest && chosen(state.groups[group], name),
                                      eachindex(state.groups)), 0)
    known = Int[named(name) for name in names]
    rest_is_new = state.rest == 0 && any((chosen_by .== 0) .& (known .== 0))
    rest = rest_is_new ? length(state.groups) + 1 : state.rest
    first_added = length(state.groups) + rest_is_new
    group_of = Int[by != 0 ? first_added + by : group != 0 ? group : rest for (by, group) in zip(chosen_by, known)]
    added = Pair{Any, Raw.maw_param_group}[
        what => hyperparameters(state.rule.group, changes) for (what, changes) in groups]
    rest_is_new && pushfirst!(added, :rest => state.rule.group)
    return group_of, added, rest
end

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

"Describes some of a walk's arrays to the library."
function Batch(describe::Description, group, entries, arrays, all_names)
    names, types, sizes = all_names[entries], DataType[eltype(arrays[entry]) for entry in entries], size.(arrays[entries])
    for type in unique(types)
        gradients = describe.gradient_type(type)
        is_element(gradients) || throw(ArgumentError("gradient_type($type) is $gradients: no type of gradients"))
    end
    parts = Part[registered_part(describe, all_names[entry], arrays[entry]) for entry in entries]
    # Julia's first dimension varies fastest, the library's last.
    shapes = [UInt64[reverse(part.whole)...] for part in parts]
    modulation_group = something(describe.modulation_group, name -> "")
    modulation_groups = String[String(modulation_group(name)) for name in names]
    check_text(text) = '\0' in text ? throw(ArgumentError("the name $(repr(text)) has a NUL in it")) : text
    foreach(check_text, names)
    foreach(check_text, modulation_groups)
    empty_tensor = defaults(Raw.maw_tensor, Raw.maw_tensor_init)
    text(x) = Base.unsafe_convert(Cstring, x)
    tensors = map(eachindex(names)) do i
        precision = describe.precision === nothing ? nothing : describe.precision(names[i])
        change(empty_tensor;
               name = text(names[i]),
               shape = pointer(shapes[i]),
               ndim = length(shapes[i]),
               dtype = element_dtype(types[i]),
               grad_dtype = element_dtype(describe.gradient_type(types[i])),
               modulation_group = describe.modulation_group === nothing ? Cstring(C_NULL) : text(modulation_groups[i]),
               layer_kind = describe.layer_kind === nothing ? Raw.MAW_LAYER_UNKNOWN :
                            enumerated("layer_kind of $(names[i])", LAYER_KINDS, describe.layer_kind(names[i])),
               layer_index = describe.layer_index === nothing ? UInt32(0) :
                             as_field(UInt32, Symbol("layer_index of $(names[i])"), describe.layer_index(names[i])),
               precision = precision === nothing ? 0 :
                           enumerated("precision of $(names[i])", TENSOR_PRECISIONS, precision),
               sharded = describe.shard === nothing ? 0 : 1,
               shard_offset = describe.shard === nothing ? 0 : parts[i].offset,
               shard_numel = describe.shard === nothing ? 0 : length(parts[i].range))
    end
    return Batch(group, entries, names, types, sizes, parts, shapes, modulation_groups, tensors)
end

"Registers a batch, in a param group that the library has or in a new one."
function add(handle, batch::Batch, settings, known::Bool)
    count = length(batch.tensors)
    GC.@preserve batch begin
        known ? call(Raw.maw_add_tensors, handle, batch.group - 1, batch.tensors, count) :
            call(Raw.maw_add_param_group, handle, Ref(settings), batch.tensors, count, C_NULL)
    end
end

"Finds what the library would refuse before anything is changed: another optimizer gets the same descriptions."
function check_registration(state::State, kept, batches, settings)
    for batch in batches, name in batch.names
        name in view(state.names, kept) && throw(ArgumentError(
            "$name is the name of an array that is new and of one that stays, which is shared and was registered under it"))
    end
    other = create(change(state.rule.options; device = Raw.MAW_CPU, device_index = 0))
    try
        for batch in batches
            own = settings[batch.group]
            batch.group <= length(state.groups) &&
                (own = change(own; eps = number(Float64, Raw.maw_get_eps, state, batch.group - 1)))
            add(other, batch, own, false)
        end
    finally
        Raw.maw_optimizer_free(other)
    end
end

"Follows the library: a tensor is gone."
function forget!(state::State, tensor)
    for list in (state.names, state.types, state.sizes, state.ranges, state.group_of, state.tied, state.frozen)
        deleteat!(list, tensor)
    end
    empty!(state.entries)           # until `number_arrays!`
end

"Follows the library: there are more tensors."
function note!(state::State, batch::Batch)
    append!(state.names, batch.names)
    append!(state.types, batch.types)
    append!(state.sizes, batch.sizes)
    append!(state.ranges, [part.range for part in batch.parts])
    append!(state.group_of, fill(batch.group, length(batch.names)))
    for list in (state.tied, state.frozen)
        append!(list, falses(length(batch.names)))
    end
    empty!(state.entries)           # until `number_arrays!`
end

function look_up_names!(state::State)
    empty!(state.lookup)
    foreach(tensor -> state.lookup[state.names[tensor]] = tensor, eachindex(state.names))
end

"Sets where in a walk each tensor's array is, and the names of all its places."
function number_arrays!(state::State, entries, names, ties)
    state.entries = entries
    look_up_names!(state)
    tensor_of = invperm(entries)
    for (entry, name) in vcat(collect(pairs(names)), ties)
        get!(state.lookup, name, tensor_of[entry])
    end
    state.tied .= false
    state.tied[Int[tensor_of[entry] for (entry, _) in ties]] .= true
    return
end
