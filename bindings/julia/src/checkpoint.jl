# Checkpoints, which all languages of this library read and write, and the JSON dump.

attention_flag(attention_only::Bool) = attention_only ? Raw.MAW_ATTENTION_ONLY : 0

"""
    save(path, state; attention_only = false)
    save(io, state; attention_only = false)

Saves the run, or only the attention module, as a safetensors file: moments, masters, step counts, attention module,
options, current hyper-parameters. Parameters are not saved; that is up to the caller. Saving to a path is atomic and
durable: on failure the old file is unchanged, or the new one is complete.
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

"A copy of the bytes that a function of the library allocates."
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
    load!(state, path; options = :settable, attention_only = false, partial = false)
    load!(state, io; …)

Loads a saved run, whichever language saved it, into a state for a model with the same names and shapes. Parameters are not
in the file; load them before the next step. Training then continues with the same bits as without the interruption. Shapes
are those of C, Julia's reversed.

`options`: with `:settable` options that have a setter (what [`adjust!`](@ref) changes: a schedule may have changed
them) are taken from the file, and the log lists those that differed; the others must be equal. With `:equal` all must be
equal. With `:file` or `:own` options that affect only later steps may differ, and those of the file or of this state are
used afterwards. `attention_only`: only the attention module is loaded, from either kind of file.

`partial`: for a model that has gained or lost arrays. What the file and the state both have is loaded; arrays that the file
does not have start at step 0. Where the numbers of param groups differ, this state's hyper-parameters of param groups stay.
[`load_report`](@ref) returns the names that only one of them has.
"""
function load!(state::State, path::AbstractString; options::Symbol = :settable, attention_only::Bool = false,
               partial::Bool = false)
    flags = load_flags(options, attention_only, partial)
    locked(handle -> call(Raw.maw_load_file, handle, path, flags), state)
    return state
end

function load!(state::State, io::IO; options::Symbol = :settable, attention_only::Bool = false, partial::Bool = false)
    flags, data = load_flags(options, attention_only, partial), read(io)
    locked(handle -> call(Raw.maw_load_bytes, handle, data, length(data), flags), state)
    return state
end

load_flags(options, attention_only, partial) = enumerated("options", LOAD_OPTIONS, options) |
    attention_flag(attention_only) | (partial ? Raw.MAW_LOAD_PARTIAL : 0)

"""
    load_report(state)

The names that only the file or only the state had in the last `load!(…; partial = true)`, as a NamedTuple: `missing_tensors`
(not in the file) and `unexpected_tensors` (in the file only), `missing_groups` and `unexpected_groups` (modulation groups).
Empty after another load, and before one.
"""
load_report(state::State) = locked(state) do handle
    map(LOAD_REPORT) do which
        count = Ref{Csize_t}()
        call(Raw.maw_load_report_count, handle, which, count)
        return map(0:Int(count[]) - 1) do index
            name = Ref(Cstring(C_NULL))
            call(Raw.maw_load_report_name, handle, which, index, name)
            borrowed(name[])
        end
    end
end

const LOAD_REPORT = (missing_tensors = Raw.MAW_LOAD_MISSING_TENSORS, unexpected_tensors = Raw.MAW_LOAD_UNEXPECTED_TENSORS,
                     missing_groups = Raw.MAW_LOAD_MISSING_GROUPS, unexpected_groups = Raw.MAW_LOAD_UNEXPECTED_GROUPS)

"""
    dump_state(state)

The state of the optimizer as JSON text (schema: docs/state.md).
"""
dump_state(state::State) = String(bytes(Raw.maw_dump_state, state))
