# Finds libmetaadamw: by an environment variable, a preference, or the loader's path.

const LIBRARY = Ref{Ptr{Cvoid}}(C_NULL)

const LIBRARY_HINT = "Set the environment variable METAADAMW_LIBRARY to the path of the library (cargo build " *
                     "--release makes target/release/libmetaadamw.so), or install it in the loader's path."

"""
The preference `library` of this package (LocalPreferences.toml; Julia 1.6 and later), or nothing. Not tested: the tests
run with Julia 1.5, which has no preferences.
"""
function preferred_library()
    isdefined(Base, :get_preferences) || return nothing
    id = Base.PkgId(@__MODULE__)
    id.uuid === nothing && return nothing
    found = get(Base.get_preferences(id.uuid), "library", nothing)
    return found isa AbstractString ? String(found) : nothing
end

"(where the name comes from, names to try in this order)"
function library_candidates()
    path = get(ENV, "METAADAMW_LIBRARY", "")
    isempty(path) || return "the environment variable METAADAMW_LIBRARY", [path]
    path = preferred_library()
    path === nothing || return "the preference \"library\"", [path]
    versioned = Sys.isapple() ? "libmetaadamw.$(Raw.MAW_ABI_VERSION).dylib" : "libmetaadamw.so.$(Raw.MAW_ABI_VERSION)"
    return "the loader's path", [versioned, "libmetaadamw"]
end

function open_library()
    source, names = library_candidates()
    reasons = String[]
    for name in names
        try
            return Libdl.dlopen(name, Libdl.RTLD_LAZY), name
        catch e
            push!(reasons, sprint(showerror, e))
        end
    end
    error("MetaAdamW: libmetaadamw cannot be loaded; looked for by $source.\n  ", join(reasons, "\n  "), "\n",
          LIBRARY_HINT)
end

function load_library()
    handle, name = open_library()
    find(symbol) = something(Libdl.dlsym(handle, symbol; throw_error = false), C_NULL)
    abi_version = find(:maw_abi_version)
    abi_version == C_NULL && error("MetaAdamW: $name is not libmetaadamw: it has no maw_abi_version.\n", LIBRARY_HINT)
    abi = ccall(abi_version, UInt32, ())
    abi == Raw.MAW_ABI_VERSION ||
        error("MetaAdamW: $name has ABI version $abi; this package is for $(Raw.MAW_ABI_VERSION). Use a library and a ",
              "package of the same release.\n", LIBRARY_HINT)
    absent = Raw.load!(find)
    isempty(absent) ||
        error("MetaAdamW: $name is older than this package, which is for $(Raw.MAW_VERSION): it lacks ",
              join(absent, ", "), ".\n", LIBRARY_HINT)
    LIBRARY[] = handle
    return nothing
end

"Whether this process only precompiles a package, one that depends on this one for example."
precompiling() = ccall(:jl_generating_output, Cint, ()) == 1

"What every function of the library is while a package is precompiled without it."
not_loaded() = error("MetaAdamW: libmetaadamw could not be loaded for the precompilation of a package that calls it. ",
                     LIBRARY_HINT)

"Loads the library. To precompile a package it isn't needed: if it cannot be loaded then, only calls of it are errors."
function load_library_or_precompile()
    try
        load_library()
    catch
        precompiling() || rethrow()
        thrower = @cfunction(not_loaded, Cvoid, ())
        Raw.load!(name -> thrower)
    end
    return nothing
end

"Path of the library that is loaded."
library_path() = Libdl.dlpath(LIBRARY[])

"Version of the library that is loaded."
library_version() = VersionNumber(borrowed(Raw.maw_version()))
