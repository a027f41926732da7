# Averages of the parameters over the last steps: in place of the parameters for an evaluation, and read.

"""
    with_averages(f, state, model)

Returns `f(model)`, called while the averages of the parameters are in the model's arrays; for a `Rule` with a `horizon`, which is
about the number of steps that an average is over. Then the parameters are there again, bit for bit, even if `f` throws or is
interrupted (Ctrl-C).

    validation_loss = MetaAdamW.with_averages(state, model) do model
        loss(model, validation_batch)
    end

Inside `f` getters and [`average`](@ref) work; steps, setters, saving and loading are errors. What `f` writes to the arrays is
lost. An array that has made no step yet keeps its values.
"""
function with_averages(f, state::State, model)
    arrays, _ = matched(state, model, nothing)
    begun = Ref(false)      # of this call: what is swapped already is not ours to swap back
    try
        locked(state) do handle
            # A second swap would bring the parameters back.
            state.averaged && throw(MetaAdamWError(:invalid_state, "the averages are in the model's arrays already"))
            swap_averages!(handle, state, arrays)
            begun[] = state.with_averages = true
        end
        return f(model)
    finally
        begun[] && swap_back!(state, arrays)
    end
end

"""
    swap_averages!(state, model)

Puts the averages of the parameters into the model's arrays; the next call puts the parameters back, bit for bit. In between only
getters, [`average`](@ref) and `close` work. [`with_averages`](@ref) is this for a function.
"""
function swap_averages!(state::State, model)
    arrays, _ = matched(state, model, nothing)
    locked(state) do handle
        state.with_averages && throw(MetaAdamWError(:invalid_state, "with_averages is running, and swaps back at its end"))
        swap_averages!(handle, state, arrays)
    end
    return nothing
end

function swap_averages!(handle, state::State, arrays)
    GC.@preserve arrays call(Raw.maw_average_swap, handle, addresses(state, arrays), length(arrays))
    state.averaged = !state.averaged
end

"Waits for a getter of another task, so that the averages do not stay."
swap_back!(state::State, arrays) = disable_sigint() do
    while true
        try
            return locked(state) do handle
                state.with_averages = false
                swap_averages!(handle, state, arrays)
            end
        catch e
            e isa MetaAdamWError && e.status === :busy || rethrow()
            yield()
        end
    end
end

"""
    average(state, name)

The average of one tensor's parameter, as an array of its size (with `shard`: a vector of this process's part), of Float64
for a tensor of Float64 and else of Float32. It begins as the parameter at the tensor's first step; before, this is an error.
"""
function average(state::State, name::Name)
    tensor = tensor_number(state, name)
    values = Array{state_type(state.types[tensor])}(undef, part_size(state, tensor))
    locked(handle -> call(Raw.maw_average_get, handle, tensor - 1, values, length(values)), state)
    return values
end
