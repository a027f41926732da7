# What the library has to say. Its callback only notes a message down; the user's function hears it when the library's
# call is over, on the same task. So it may do what it likes: call the library, wait, throw.

mutable struct LogQueue
    messages::Vector{Tuple{Int32, String}}
end

const LOG_TRAMPOLINE = Ref{Ptr{Cvoid}}(C_NULL)

"Called by the library, on the thread of the call that caused the message; must not throw through it."
function receive_log(level::Int32, message::Ptr{UInt8}, queue::Ptr{Cvoid})::Cvoid
    try
        push!((unsafe_pointer_to_objref(queue)::LogQueue).messages, (level, unsafe_string(message)))
    catch
        # Only for want of memory; a message is lost.
    end
    return nothing
end

const LOG_LEVELS = Dict{Int32, Symbol}(Raw.MAW_LOG_INFO => :info, Raw.MAW_LOG_WARNING => :warning)

"Passes a message of the library on to Julia's logging."
function log_to_julia(level::Symbol, message::AbstractString)
    level === :warning ? (@warn message _module = MetaAdamW _file = nothing _line = nothing) :
                         (@info message _module = MetaAdamW _file = nothing _line = nothing)
    return nothing
end
