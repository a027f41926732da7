# CUDA: arrays in device memory for programs that do not use CUDA themselves, and the stream.

"""
    DeviceArray{T}(size…; device_index = 0)
    DeviceArray(array; device_index = 0)

An array in the memory of a CUDA device: zeros, or a copy. With `device = :cuda` in the rule it may be part of a model and
of gradients. `copyto!` copies between it and an `Array` of the same type and size, on the default stream; `Array(x)` copies
it to the host. Single elements cannot be read. `close(x)` frees it at once, else the garbage collector does.
"""
mutable struct DeviceArray{T, N} <: DenseArray{T, N}
    buffer::Ptr{Raw.maw_device_buffer}
    size::NTuple{N, Int}

    function DeviceArray{T, N}(size::NTuple{N, Int}; device_index::Integer = 0) where {T, N}
        is_element(T) || throw(ArgumentError("a DeviceArray of $T: Float32, Float64, Float16 or bfloat16 is expected"))
        buffer = Ref{Ptr{Raw.maw_device_buffer}}(C_NULL)
        call(Raw.maw_device_buffer_create, device_index, prod(size) * sizeof(T), buffer)
        return finalizer(close, new(buffer[], size))
    end
end

DeviceArray{T}(size::Integer...; keywords...) where {T} = DeviceArray{T, length(size)}(map(Int, size); keywords...)
DeviceArray(array::AbstractArray{T, N}; keywords...) where {T, N} =
    copyto!(DeviceArray{T, N}(size(array); keywords...), array)

function Base.close(x::DeviceArray)
    buffer, x.buffer = x.buffer, Ptr{Raw.maw_device_buffer}(C_NULL)
    Raw.maw_device_buffer_free(buffer)
    return nothing
end

Base.size(x::DeviceArray) = x.size
Base.strides(x::DeviceArray) = Base.size_to_strides(1, x.size...)
Base.elsize(::Type{<:DeviceArray{T}}) where {T} = sizeof(T)
Base.getindex(x::DeviceArray, ::Int...) = throw(ArgumentError("a DeviceArray's elements cannot be read singly: use Array(x)"))
Base.setindex!(x::DeviceArray, _, ::Int...) = throw(ArgumentError("a DeviceArray's elements cannot be set singly: use copyto!"))
Base.show(io::IO, ::MIME"text/plain", x::DeviceArray) = show(io, x)
Base.show(io::IO, x::DeviceArray) = print(io, join(x.size, "×"), " ", typeof(x))

address(x::DeviceArray) = Raw.maw_device_buffer_pointer(open_buffer(x))

open_buffer(x::DeviceArray) =
    x.buffer == C_NULL ? throw(MetaAdamWError(:invalid_state, "the device array is closed")) : x.buffer

Serialization.serialize(::Serialization.AbstractSerializer, ::DeviceArray) =
    throw(ArgumentError("a DeviceArray cannot be serialized, only a copy on the host: serialize(io, Array(x))"))

function Base.copyto!(x::DeviceArray{T}, from::AbstractArray) where {T}
    same_size(x, from)
    values = convert(Array{T}, from)
    GC.@preserve x values call(Raw.maw_device_buffer_upload, open_buffer(x), 0, pointer(values), sizeof(values))
    return x
end

function Base.copyto!(into::Array{T}, x::DeviceArray{T}) where {T}
    same_size(x, into)
    GC.@preserve x into call(Raw.maw_device_buffer_download, open_buffer(x), 0, pointer(into), sizeof(into))
    return into
end

same_size(x, other) = size(x) == size(other) ||
    throw(DimensionMismatch("the device array has size $(size(x)), the other $(size(other))"))

Base.Array(x::DeviceArray{T, N}) where {T, N} = copyto!(Array{T, N}(undef, size(x)), x)

"Whether there is a CUDA device that `Rule(device = :cuda)` can use."
cuda_available() = Raw.maw_cuda_available() != 0

"""
    set_stream!(state, stream)

Sets the CUDA stream (a `Ptr`, CUDA.jl's `stream.handle`) on which all later calls of this state enqueue their work; `C_NULL`,
the default, is the legacy default stream. It must not be destroyed while it is set.
"""
function set_stream!(state::State, stream::Ptr)
    locked(handle -> call(Raw.maw_set_stream, handle, Ptr{Cvoid}(stream)), state)
    return nothing
end
