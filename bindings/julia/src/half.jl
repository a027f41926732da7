# Element types, and a bfloat16 for versions of Julia without one.

"""
    BFloat16

The upper half of a Float32: `reinterpret(MetaAdamW.BFloat16, bits)` makes such parameters or gradients of an array of UInt16
without a copy. It has conversions, comparison, hash, the four operations and the usual functions, computed in Float32.
Core.BFloat16 and, by a method of [`element_dtype`](@ref), another package's type can be used instead.
"""
primitive type BFloat16 <: AbstractFloat 16 end

Base.Float32(x::BFloat16) = reinterpret(Float32, UInt32(reinterpret(UInt16, x)) << 16)
function BFloat16(x::Float32)
    bits = reinterpret(UInt32, x)
    isnan(x) && return reinterpret(BFloat16, UInt16(bits >> 16) | 0x0040)
    return reinterpret(BFloat16, UInt16(((UInt64(bits) + 0x7fff + ((bits >> 16) & 1)) >> 16) & 0xffff))
end
BFloat16(x::BFloat16) = x
BFloat16(x::Real) = BFloat16(Float32(x))
BFloat16(x::Rational) = BFloat16(Float32(x))
(::Type{T})(x::BFloat16) where {T <: Union{Float64, Float16, BigFloat, Integer}} = T(Float32(x))
Base.Rational{T}(x::BFloat16) where {T <: Integer} = Rational{T}(Float32(x))
Base.promote_rule(::Type{BFloat16}, ::Type{T}) where {T <: Union{Float32, Float64, BigFloat}} = T
Base.promote_rule(::Type{BFloat16}, ::Type{<:Union{Float16, Integer}}) = Float32
for op in (:+, :-, :*, :/)
    @eval Base.$op(a::BFloat16, b::BFloat16) = BFloat16($op(Float32(a), Float32(b)))
end
for f in (:-, :abs, :sqrt, :cbrt, :exp, :exp2, :expm1, :log, :log2, :log10, :log1p, :sin, :cos, :tan, :sinh, :cosh, :tanh)
    @eval Base.$f(a::BFloat16) = BFloat16($f(Float32(a)))
end
Base.:^(a::BFloat16, b::BFloat16) = BFloat16(Float32(a)^Float32(b))
Base.round(a::BFloat16, r::RoundingMode) = BFloat16(round(Float32(a), r))
Base.:(==)(a::BFloat16, b::BFloat16) = Float32(a) == Float32(b)
Base.:<(a::BFloat16, b::BFloat16) = Float32(a) < Float32(b)
Base.:<=(a::BFloat16, b::BFloat16) = Float32(a) <= Float32(b)
Base.hash(a::BFloat16, seed::UInt) = hash(Float32(a), seed)       # that of equal numbers of other types
Base.signbit(a::BFloat16) = signbit(Float32(a))
Base.isnan(a::BFloat16) = isnan(Float32(a))
Base.eps(::Type{BFloat16}) = reinterpret(BFloat16, 0x3c00)        # 2^-7
Base.show(io::IO, a::BFloat16) = print(io, "BFloat16(", Float32(a), ")")

"""
    element_dtype(T)

The library's number of the element type `T`, or 0 if arrays of it are not parameters. Overload it for a type of the same
layout:

    MetaAdamW.element_dtype(::Type{BFloat16s.BFloat16}) = MetaAdamW.Raw.MAW_BFLOAT16
"""
element_dtype(::Type) = Int32(0)
element_dtype(::Type{Float32}) = Raw.MAW_FLOAT32
element_dtype(::Type{Float64}) = Raw.MAW_FLOAT64
element_dtype(::Type{Float16}) = Raw.MAW_FLOAT16
element_dtype(::Type{BFloat16}) = Raw.MAW_BFLOAT16
@static if isdefined(Core, :BFloat16)
    element_dtype(::Type{Core.BFloat16}) = Raw.MAW_BFLOAT16
end
element_dtype(::Type{Union{}}) = Int32(0)

is_element(T) = element_dtype(T) != 0

"The type in which moments are read and set."
state_type(T) = T === Float64 ? Float64 : Float32
