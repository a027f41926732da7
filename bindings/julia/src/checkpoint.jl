# Checkpoints, which any language of this library reads and writes, and the dump for people.

attention_flag(attention_only::Bool) = attention_only ? Raw.MAW_ATTENTION_ONLY : 0

"""
    save(path, state; attention_only = false)
    save(io, state; attention_only = false)

Saves the run, or the attention module alone, as a safetensors file: moments, step counts, the attention module,
options, hyper-parameters as they are now. The parameters are the caller's to save. The file is the old one or the new
one, whatever fails.
"""
function save(path::AbstractString, state::State; attention_only::Bool = false)
    locked(handle -> call(Raw.maw_save_file, handle, path, attention_flag(attention_only)), state)
    return nothing
end

function save(io::IO, state::State; attention_only::Bool = false)
    flags = attention_flag(attention_only)
    write(io, bytes((handle, out, error) -> Raw.maw_save_bytes(handle, flags, out, error), state))
    return nothing
end

"A copy of the bytes that a function of the library makes."
function bytes(f, state::State)
    out = Ref{Ptr{Raw.maw_bytes}}(C_NULL)
    locked(handle -> call(f, handle, out), state)
    try
        count = Raw.maw_bytes_size(out[])
        return copy(unsafe_wrap(Array, Raw.maw_bytes_data(out[]), count))
    finally
        Raw.maw_bytes_free(out[])
    end
end

const LOAD_OPTIONS = (settable = 0, equal = Raw.MAW_LOAD_STRICT, file = Raw.MAW_LOAD_FILE_WINS, own = Raw.MAW_LOAD_OWN_WINS)

"""
    load!(state, path; options = :settable, attention_only = false)
    load!(state, io; …)

Loads a run that any language saved, into a state for a model with the same names and shapes; the parameters are the
caller's to load, before the next step. Trained on, it equals the uninterrupted run bit for bit. Shapes are those of the
C side, Julia's reversed.

`options`: with `:settable` what has a setter (learning rate, weight decay, priorities: a schedule has moved them) may
differ, the file's values hold afterwards and the log tells which; all else must be equal. With `:equal` nothing may differ.
With `:file` or `:own` all that only steers the future may, and the file's or this state's hold afterwards. `attention_only`: nothing but the attention module is loaded, from either kind of file.
"""
function load!(state::State, path::AbstractString; options::Symbol = :settable, attention_only::Bool = false)
    flags = load_flags(options, attention_only)
    locked(handle -> call(Raw.maw_load_file, handle, path, flags), state)
    return state
end

function load!(state::State, io::IO; options::Symbol = :settable, attention_only::Bool = false)
    flags, data = load_flags(options, attention_only), read(io)
    locked(handle -> call(Raw.maw_load_bytes, handle, data, length(data), flags), state)
    return state
end

load_flags(options, attention_only) = enumerated("options", LOAD_OPTIONS, options) | attention_flag(attention_only)

"""
    dump_state(state)

What the optimizer is doing, as JSON text (docs/state.md is its schema).
"""
dump_state(state::State) = String(bytes(Raw.maw_dump_state, state))
