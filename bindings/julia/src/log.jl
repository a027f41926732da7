# Messages of the library. The C callback only stores a message; the user's function gets it when the call of the library has
# returned, on the same task. So it may call the library, wait or throw.

mutable struct LogQueue
    messages::Vector{Tuple{Int32, String}}
end

const LOG_TRAMPOLINE = Ref{Ptr{Cvoid}}(C_NULL)

"Called by the library, on the thread of the call that caused the message; must not throw through it."
function receive_log(level::Int32, message::Ptr{UInt8}, queue::Ptr{Cvoid})::Cvoid
    try
        push!((unsafe_pointer_to_objref(queue)::LogQueue).messages, (level, unsafe_string(message)))
    catch
        # Only if memory runs out: the message is lost.
    end
    return nothing
end

const LOG_LEVELS = Dict{Int32, Symbol}(Raw.MAW_LOG_INFO => :info, Raw.MAW_LOG_WARNING => :warning)

"Passes a message of the library to Julia's logging."
function log_to_julia(level::Symbol, message::AbstractString)
    level === :warning ? (@warn message _module = MetaAdamW _file = nothing _line = nothing) :
                         (@info message _module = MetaAdamW _file = nothing _line = nothing)
    return nothing
end
