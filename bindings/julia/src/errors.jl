# A status of the library becomes an exception.

"""
    MetaAdamWError(status, message)

A failure of the library. `status` is a Symbol, the C constant without its prefix:
`:invalid_argument`, `:invalid_state`, `:unsupported`, `:busy`, `:not_finite`, `:out_of_memory`, `:panic`,
`:not_found`, `:params_changed`, `:io`, `:corrupt`, `:mismatch`, `:cuda_error`, `:reduction`. `message` names the argument, tensor or group.
Nothing has changed when it is thrown, unless the message of a `:reduction` says that a step was made.

Errors that the package itself detects, such as an unknown keyword or a gradient of another size, are `ArgumentError` or
`DimensionMismatch`.
"""
struct MetaAdamWError <: Exception
    status::Symbol
    message::String
end

Base.showerror(io::IO, e::MetaAdamWError) = print(io, "MetaAdamWError (", e.status, "): ", e.message)

"`MAW_BUSY` as `:busy`."
function status_symbol(status::Integer)
    name = unsafe_string(Raw.maw_status_name(status))
    return startswith(name, "MAW_") ? Symbol(lowercase(name[5:end])) : Symbol("unknown_", status)
end

"Calls a function of the raw layer that takes an error last; a failure is thrown."
function call(f, arguments...)
    error = Ref{Ptr{Raw.maw_error}}(C_NULL)
    status = f(arguments..., error)
    status == Raw.MAW_OK && return nothing
    message = borrowed(Raw.maw_error_message(error[]))
    Raw.maw_error_free(error[])
    throw(MetaAdamWError(status_symbol(status), message))
end

"A struct with its library's defaults."
function defaults(::Type{T}, init) where {T}
    value = Ref{T}()
    status = init(value, sizeof(T))
    status == Raw.MAW_OK || throw(MetaAdamWError(status_symbol(status), "the library does not know this $T"))
    return value[]
end

"A copy of a struct with some fields changed."
change(value::T; fields...) where {T} = T((get(fields, name, getfield(value, name)) for name in fieldnames(T))...)

"A copy of the text of a borrowed `Cstring`."
borrowed(text::Cstring) = unsafe_string(text)
