# One model over several processes, each with a part of every array: the user's sum over the processes, which the library calls
# inside of its calls.

"What the library's callback finds: the user's function (or nothing), and what it threw in this call."
mutable struct Reduction
    f::Any
    failure::Any                    # nothing, or Some(exception)
    on_device::Bool                 # where the values are: `f(pointer, count)`, else `f(values)`
end

const REDUCTION_TRAMPOLINE = Ref{Ptr{Cvoid}}(C_NULL)

"Called by the library, on the thread and task of the call that needs the sums; must not throw through it."
function receive_reduction(values::Ptr{Float64}, count::Csize_t, reduction::Ptr{Cvoid})::Int32
    box = unsafe_pointer_to_objref(reduction)::Reduction
    # A task that waits must go on in the thread in which the library was called.
    task = current_task()
    sticky = task.sticky
    task.sticky = true
    try
        box.on_device ? box.f(values, Int(count)) : box.f(unsafe_wrap(Array, values, Int(count)))
        return Int32(0)
    catch e
        box.failure = Some(e)
        return Int32(1)
    finally
        task.sticky = sticky
    end
end

function set_reduction!(f, state)
    state.reduction.on_device ? check_called(f, ":cuda", "(pointer, count)", Ptr{Float64}(C_NULL), 0) :
        check_called(f, ":cpu", "(values)", Float64[])
    locked(state) do handle
        call(Raw.maw_set_reduction, handle, REDUCTION_TRAMPOLINE[], pointer_from_objref(state.reduction))
        state.reduction.f = f
    end
    return
end

check_called(f, device, call, arguments...) = applicable(f, arguments...) || throw(ArgumentError(
    "reduction has no method for how it is called with Rule(device = $device): reduction$call"))

"Throws what the user's function threw in this call, if it did."
function throw_failure(reduction::Reduction)
    failure, reduction.failure = reduction.failure, nothing
    failure === nothing || throw(something(failure))
    return
end

"""
    shard_range(length, rank, processes)

The range of an array's elements that process `rank`, from 0 on as in MPI, has: parts of about the same size, cut where the
library allows it, at multiples of `MetaAdamW.Raw.MAW_SHARD_ALIGNMENT` elements. It may be empty.
"""
function shard_range(length::Integer, rank::Integer, processes::Integer)
    length >= 0 || throw(ArgumentError("length = $length: at least 0 is expected"))
    0 <= rank < processes || throw(ArgumentError("rank = $rank: 0 to $(processes - 1) is expected, one less than processes"))
    blocks = cld(Int(length), Raw.MAW_SHARD_ALIGNMENT)
    border(rank) = min(div(blocks * Int(rank), Int(processes)) * Raw.MAW_SHARD_ALIGNMENT, Int(length))
    return border(rank) + 1:border(rank + 1)
end

"What this process has of an array."
struct Part
    whole::Dims                     # size of the whole array
    offset::Int                     # in the whole array
    range::UnitRange{Int}           # in the array in memory, which is the whole one or the part
end

"The same, as the user's function says it."
function registered_part(describe, name, array)
    describe.shard === nothing && return Part(size(array), 0, 1:length(array))
    answer = describe.shard(name, array)
    range, whole = answer isa Pair ? (first(answer), last(answer)) : (answer, size(array))
    range isa AbstractUnitRange{<:Integer} && whole isa Tuple{Vararg{Integer}} || throw(ArgumentError(
        "shard of $name is $(repr(answer)); a range of its elements, such as 1:$(length(array)), is expected, or, if the array " *
        "is a part, the range and the size of the whole array, such as 1:$(length(array)) => (300, 200)"))
    first(range) >= 1 && last(range) <= prod(whole) || throw(ArgumentError(
        "shard of $name is $range, which is not within its $(prod(whole)) elements"))
    answer isa Pair && length(range) != length(array) && throw(DimensionMismatch(
        "shard of $name is $range, which has $(length(range)) elements; the array in memory, its part, has $(length(array))"))
    offset = Int(first(range)) - 1
    return Part(Dims(whole), offset, answer isa Pair ? (1:length(array)) : offset .+ (1:length(range)))
end

"Of an array of a model, or its gradient: the address of the first element that this process has."
function part_address(state, tensor, array, name)
    range = state.ranges[tensor]
    isempty(range) && return C_NULL
    return address(array, name) + (first(range) - 1) * sizeof(eltype(array))
end

"The size of a copy of something that each element of this process has: the array's, or that of its part."
part_size(state, tensor) = state.describe.shard === nothing ? state.sizes[tensor] : (length(state.ranges[tensor]),)

"""
Runs `f`, which finds errors before the library is called. With shards other processes may be in that call already:
`refuse(handle)` then makes it with NULL, so that the library fails and tells them.
"""
function or_refuse(f, state, refuse)
    try
        return f()
    catch
        state.reduction.f === nothing || !isopen(state) || locked(refuse, state)
        rethrow()
    end
end

refuse_step(handle) = Raw.maw_step(handle, C_NULL, C_NULL, 0, C_NULL, C_NULL, C_NULL)
refuse_begin(handle) = Raw.maw_meta_begin(handle, C_NULL, 0, C_NULL, C_NULL)
refuse_answer(handle) = Raw.maw_meta_tell(handle, C_NULL, C_NULL, C_NULL, 0, C_NULL, C_NULL)
