# Traverses a model and its gradient in parallel: which arrays are parameters, in which order, under which names.
#
#   node                                  what is done
#   DenseArray of Float32, Float64,
#     Float16 or a bfloat16               a parameter
#   contiguous view or reinterpretation
#     of such                             a parameter
#   Transpose, Adjoint, PermutedDimsArray,
#     reshaped array                      its parent, under the wrapper's own name
#   other array of floats                 refused, with its name: it cannot be updated in place
#   NamedTuple, Tuple, struct, Dict,
#     array of anything but numbers       its parts, in order (a Dict's: sorted by key)
#   numbers, functions, text, random
#     number generators, arrays of
#     integers, `nothing` …               left out

const Inexact = Union{AbstractFloat, Complex}
const Transposed{T} = Union{LinearAlgebra.Transpose{T}, LinearAlgebra.Adjoint{T}}
const Wrapper{T} = Union{Transposed{T}, PermutedDimsArray{T}, Base.ReshapedArray{T}}
const Plain = Union{Nothing, Missing, Number, AbstractString, AbstractChar, Symbol, Function, Type, Module, Regex, IO,
                    Task, Ptr, Random.AbstractRNG, Base.AbstractLock}

const DEEPEST = 1_000

"What names a tensor, a group or a tensor of the attention module."
const Name = Union{AbstractString, Symbol}

"The path of a node. The name is built only when it is needed."
struct Path
    parent::Union{Path, Nothing}
    key::Union{Symbol, Int, String}
    depth::Int
end

below(::Nothing, key) = Path(nothing, key, 1)
below(path::Path, key) = Path(path, key, path.depth + 1)

"\"layers.1.weight\"; `first_index` is the number of a tuple's or array's first element."
function spelled(path::Path, first_index::Int)
    text = path.key isa Int ? string(path.key - 1 + first_index) : string(path.key)
    return path.parent === nothing ? text : string(spelled(path.parent, first_index), ".", text)
end
spelled(::Nothing, ::Int) = "parameters"     # the model is an array itself

"""
    trainable(x)

The part of `x` that is trained: `x` itself, or a NamedTuple of some of its fields, `(;)` for none. Overload it for a type with
arrays that are not trained (running statistics):

    MetaAdamW.trainable(layer::BatchNorm) = (scale = layer.scale, bias = layer.bias)
"""
trainable(x) = x

"""
    unwrap(gradient)

The gradient of a node from automatic differentiation, as arrays, NamedTuples, tuples, Dicts, structs or `nothing`. Overload it
for other types; here a `Ref(x)` (Zygote's for mutable structs) is unwrapped.
"""
unwrap(gradient) = gradient
unwrap(gradient::Base.RefValue) = unwrap(gradient[])

"The result of a walk: an entry for each distinct array, in order."
struct Walk
    trainable::Any                          # function
    gradient_type::Any                      # function: a parameter's type -> its gradient's
    first_index::Int
    arrays::Vector{Any}
    gradients::Vector{Any}                  # each an array like its parameter, or nothing
    paths::Vector{Union{Path, Nothing}}     # of the first place
    ties::Vector{Pair{Int, Path}}           # entry => a further place
    seen::IdDict{Any, Int}
end

function walk(model, gradient = nothing; trainable = trainable, gradient_type = identity, first_index = 1)
    found = Walk(trainable, gradient_type, first_index, [], [], [], [], IdDict{Any, Int}())
    collect_arrays!(found, model, gradient, nothing)
    return found
end

place(found::Walk, path) = spelled(path, found.first_index)

function collect_arrays!(found::Walk, x, dx, path)
    if x isa Plain
        return
    elseif x isa DenseArray && is_element(eltype(x))
        leaf!(found, x, dx, path)
    elseif x isa Wrapper && is_element(eltype(x))
        collect_arrays!(found, parent(x), parent_gradient(found, x, unwrap(dx), path), path)
    elseif x isa Union{SubArray, Base.ReinterpretArray} && is_element(eltype(x)) && contiguous(x)
        leaf!(found, x, dx, path)
    elseif x isa AbstractArray{<:Number}
        eltype(x) <: Inexact && !(x isa AbstractRange) && throw(ArgumentError(
            "$(place(found, path)) is a $(typeof(x)), which cannot be trained in place: parameters are contiguous " *
            "arrays of Float32, Float64, Float16 or bfloat16; leave it out by a method of MetaAdamW.trainable, or make it an Array"))
    else
        branch!(found, x, unwrap(dx), path)
    end
    return
end

"Whether the elements are contiguous in memory, in order."
function contiguous(x::AbstractArray)
    x isa StridedArray || return false
    expected = 1
    for dimension in 1:ndims(x)
        size(x, dimension) == 1 && continue
        stride(x, dimension) == expected || return false
        expected *= size(x, dimension)
    end
    return true
end

function leaf!(found::Walk, x, dx, path)
    gradient = leaf_gradient(found, x, unwrap(dx), path)
    entry = get(found.seen, x, 0)
    if entry == 0
        push!(found.arrays, x)
        push!(found.gradients, gradient)
        push!(found.paths, path)
        found.seen[x] = length(found.arrays)
    else
        push!(found.ties, entry => path)
        sum = found.gradients[entry]
        gradient === nothing ||
            (found.gradients[entry] = sum === nothing ? gradient : convert(Array{found.gradient_type(eltype(x))}, sum .+ gradient))
    end
    return
end

"The gradient as an array like `x`: itself where that is possible, else a copy."
function leaf_gradient(found, x, dx, path)
    dx === nothing && return nothing
    dx isa AbstractArray{<:Real} || throw(ArgumentError(
        "the gradient of $(place(found, path)) is a $(typeof(dx)); an array of numbers or `nothing` is expected"))
    size(dx) == size(x) || throw(DimensionMismatch(
        "the gradient of $(place(found, path)) has size $(size(dx)), the parameter $(size(x))"))
    type = found.gradient_type(eltype(x))
    eltype(dx) === type && contiguous(dx) && return dx
    return convert(Array{type}, collect(dx))
end

"A wrapper's gradient as one of its parent."
function parent_gradient(found, x::Wrapper, dx, path)
    dx === nothing && return nothing
    dx isa AbstractArray || return hasproperty(dx, :parent) ? getproperty(dx, :parent) : throw(ArgumentError(
        "the gradient of $(place(found, path)), a $(typeof(x)), is a $(typeof(dx)); an array is expected"))
    size(dx) == size(x) || throw(DimensionMismatch(
        "the gradient of $(place(found, path)) has size $(size(dx)), the parameter $(size(x))"))
    return unpermuted(x, dx)
end

unpermuted(x::Base.ReshapedArray, dx) = reshape(dx, size(parent(x)))
unpermuted(::PermutedDimsArray{T, N, P, Q}, dx) where {T, N, P, Q} = permutedims(dx, Q)
unpermuted(x::Transposed, dx) = dx isa Transposed ? parent(dx) : reshape(permutedims(dx), size(parent(x)))

function branch!(found::Walk, x, dx, path)
    path isa Path && path.depth > DEEPEST &&
        throw(ArgumentError("the model is nested more than $DEEPEST deep; does a $(typeof(x)) in it contain itself?"))
    part = found.trainable(x)
    part isa Union{Tuple, NamedTuple} && isempty(part) && return
    if x isa AbstractDict
        check_kind(found, x, dx, path, AbstractDict)
        check_keys(found, x, dx, dx === nothing ? () : keys(dx), keys(x), path)
        for key in sort!(collect(keys(part)), by = string)
            collect_arrays!(found, part[key], dx === nothing ? nothing : get(dx, key, nothing), below(path, string(key)))
        end
    elseif x isa Union{Tuple, AbstractArray}
        check_kind(found, x, dx, path, Union{Tuple, AbstractArray})
        dx === nothing || length(dx) == length(x) || throw(DimensionMismatch(
            "the gradient of $(place(found, path)) has $(length(dx)) elements, the model $(length(x))"))
        for (number, index) in enumerate(eachindex(x))
            x isa AbstractArray && !isassigned(x, index) && continue
            collect_arrays!(found, part[index], dx === nothing ? nothing : dx[number], below(path, number))
        end
    elseif part isa NamedTuple
        check_fields(found, x, dx, path)
        for name in keys(part)
            collect_arrays!(found, part[name], field_gradient(dx, name), below(path, name))
        end
    else
        check_fields(found, x, dx, path)
        for name in fieldnames(typeof(part))
            isdefined(part, name) || continue
            collect_arrays!(found, getfield(part, name), field_gradient(dx, name), below(path, name))
        end
    end
    return
end

field_gradient(::Nothing, name) = nothing
field_gradient(dx, name) = hasproperty(dx, name) ? getproperty(dx, name) : nothing

check_kind(found, x, dx, path, expected) = dx === nothing || dx isa expected || throw(ArgumentError(
    "the gradient of $(place(found, path)), a $(typeof(x)), is a $(typeof(dx)), which does not mirror it"))

function check_keys(found, x, dx, given, known, path)
    for key in given
        key in known || throw(ArgumentError(
            "the gradient of $(path === nothing ? "the model" : place(found, path)) has a part $(repr(key)), which " *
            "the model lacks; it has $(join(repr.(known), ", "))"))
    end
end

function check_fields(found, x, dx, path)
    dx === nothing && return
    dx isa Union{Plain, Tuple, AbstractArray, AbstractDict} && throw(ArgumentError(
        "the gradient of $(path === nothing ? "the model" : place(found, path)), a $(typeof(x)), is a $(typeof(dx)), " *
        "which does not mirror it"))
    dx isa NamedTuple && check_keys(found, x, dx, keys(dx), fieldnames(typeof(x)), path)
    return
end

"""
    address(array)

The address of an array's first element. Overload it for arrays in device memory:

    MetaAdamW.address(x::CuArray) = reinterpret(Ptr{Cvoid}, pointer(x))
"""
address(x::AbstractArray{T}) where {T} = Ptr{Cvoid}(Base.unsafe_convert(Ptr{T}, x))

"The same; the error names `name` if the array has no address."
function address(x::AbstractArray, name)
    isempty(x) && return C_NULL
    try
        return address(x)
    catch
        throw(ArgumentError("$name is a $(typeof(x)): its address in memory is unknown"))
    end
end
