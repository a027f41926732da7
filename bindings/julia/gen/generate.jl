# Writes src/raw.jl, the raw layer, from the C header:
#
#     julia gen/generate.jl            write src/raw.jl
#     julia gen/generate.jl --check    fail if src/raw.jl is not what would be written
#
# It parses the regular output of cbindgen line by line. A line that it does not understand is an error, so that no part of
# the ABI can be missed.

const HEADER = normpath(joinpath(@__DIR__, "..", "..", "..", "include", "metaadamw.h"))
const TARGET = normpath(joinpath(@__DIR__, "..", "src", "raw.jl"))

const SCALARS = Dict(
    "int32_t" => "Int32", "uint32_t" => "UInt32", "uint64_t" => "UInt64", "uint8_t" => "UInt8",
    "size_t" => "Csize_t", "double" => "Cdouble", "float" => "Cfloat", "void" => "Cvoid",
)

"The Julia type of a C type such as \"const void *const *\"; `known`: typedefs read so far."
function julia_type(c::AbstractString, known)
    stars = count(isequal('*'), c)
    base = strip(replace(replace(c, r"\bconst\b" => ""), "*" => ""))
    if base == "char" && stars > 0
        julia, stars = "Cstring", stars - 1
    elseif haskey(SCALARS, base)
        julia = SCALARS[base]
    elseif base in known
        julia = base
    else
        error("type that generate.jl does not know: \"$c\"")
    end
    return "Ptr{"^stars * julia * "}"^stars
end

"\"size_t count\" or \"double priorities[3]\" as (name, Julia type)."
function declaration(text::AbstractString, known)
    found = match(r"^(.*?)(\w+)(?:\[(\d+)\])?$", strip(text))
    found === nothing && error("declaration that generate.jl does not know: \"$text\"")
    type = julia_type(found[1], known)
    return String(found[2]), found[3] === nothing ? type : "NTuple{$(found[3]), $type}"
end

"What is between the brackets of a prototype."
arguments_of(text::AbstractString, known) =
    text == "void" ? Tuple{String, String}[] : [declaration(argument, known) for argument in split(text, ',')]

"How Julia makes a pointer to a function of these types."
cfunction(result, arguments...) =
    "    @cfunction(f, $result, (" * join(arguments, ", ") * (length(arguments) == 1 ? ",))" : "))")

function constant(value::AbstractString)
    value == "UINT32_MAX" && return "typemax(UInt32)"
    value == "UINT64_MAX" && return "typemax(UInt64)"
    plain = replace(replace(value, "(" => ""), ")" => "")
    occursin(r"^(-?\d+|\"[^\"]*\")$", plain) || error("constant that generate.jl does not know: \"$value\"")
    return plain
end

quoted(text) = replace(replace(replace(text, "\\" => "\\\\"), "\$" => "\\\$"), "\"\"\"" => "\\\"\\\"\\\"")

"A docstring; without text, none."
docstring(lines) = isempty(lines) ? "" : string("\"\"\"\n", quoted(join(lines, "\n")), "\n\"\"\"\n")

"Words between brackets, in lines of 120 characters at most, which begin behind 10 blanks."
function wrapped(left, words, right)
    lines = [left]
    for word in words
        length(lines[end]) + length(word) > 108 && push!(lines, "")
        lines[end] *= (length(lines[end]) <= 1 ? "" : " ") * word
    end
    return join(rstrip.(lines), "\n           ") * right
end

"A C prototype as a block of code in a docstring, an argument a line if it is long."
indented_prototype(prototype) =
    length(prototype) <= 110 ? "    $prototype" :
    "    " * replace(replace(prototype, "(" => "(\n        "; count = 1), ", " => ",\n        ")

"Lines of the header without meaning for Julia."
irrelevant(line) =
    occursin(r"^#(ifndef|ifdef|if|endif|include|error)\b", line) || line == "#define METAADAMW_H" ||
    occursin(r"^extern \"C\" \{$|^\}  // extern \"C\"$", line)

function generate(header::AbstractString)
    lines = split(header, '\n')
    known = Set{String}()
    structs, functions = String[], String[]
    out = IOBuffer()
    doc = String[]
    at = 1
    while at <= length(lines)
        line = rstrip(lines[at])
        at += 1
        if startswith(line, "///")
            push!(doc, chopped(line))
            continue
        elseif isempty(line)
            empty!(doc)                          # a comment that no declaration follows: the header's own
            continue
        elseif irrelevant(line)
            continue
        end
        if (m = match(r"^#define (MAW_\w+) (.*)$", line)) !== nothing
            print(out, docstring(doc), "const $(m[1]) = $(constant(m[2]))\n\n")
        elseif (m = match(r"^typedef struct (\w+) (\w+);$", line)) !== nothing
            push!(known, m[1])
            print(out, docstring(doc), "struct $(m[1]) end\n\n")
        elseif (m = match(r"^typedef (\w+) (\w+);$", line)) !== nothing
            print(out, docstring(doc), "const $(m[2]) = $(julia_type(m[1], known))\n\n")
            push!(known, m[2])
        elseif (m = match(r"^typedef ([\w ]+?\**) ?\(\*(\w+)\)\((.*)\);$", line)) !== nothing
            # A pointer to a function is one of Julia's @cfunction, whose types the docstring says.
            signature = julia_type(m[1], known), last.(arguments_of(m[3], known))...
            print(out, docstring([doc; ""; indented_prototype(line); ""; cfunction(signature...)]), "const $(m[2]) = Ptr{Cvoid}\n\n")
            push!(known, m[2])
        elseif occursin(r"^typedef struct \w+ \{$", line)
            fields = IOBuffer()
            list = String[]                      # what `?` shows for the struct; for a field it shows the field's own
            field_doc = String[]
            while (m = match(r"^\} (\w+);$", lines[at])) === nothing
                field = strip(lines[at])
                at += 1
                if startswith(field, "///")
                    push!(field_doc, chopped(field))
                else
                    name, type = declaration(chop(field), known)
                    isempty(field_doc) || push!(list, "- `$name`: " * join(field_doc, "\n  "))
                    print(fields, replace(docstring(field_doc), r"^(?=.)"m => "    "), "    ", name, "::", type, "\n")
                    empty!(field_doc)
                end
            end
            at += 1
            push!(known, m[1])
            push!(structs, m[1])
            print(out, docstring(isempty(list) ? doc : [doc; ""; list]), "struct $(m[1])\n", String(take!(fields)), "end\n\n")
        else
            prototype = line
            while !endswith(prototype, ";")
                prototype *= " " * strip(lines[at])
                at += 1
            end
            m = match(r"^([\w ]+?\**)(maw_\w+)\((.*)\);$", prototype)
            m === nothing && error("line that generate.jl does not know: \"$prototype\"")
            result, name = julia_type(m[1], known), String(m[2])
            arguments = arguments_of(m[3], known)
            push!(functions, name)
            names = join(first.(arguments), ", ")
            types = last.(arguments)
            commas = [i < length(types) || length(types) == 1 ? "," : "" for i in eachindex(types)]
            types = wrapped("(", string.(types, commas), ")")
            print(out, "const POINTER_$name = Ref{Ptr{Cvoid}}(C_NULL)\n",
                  docstring([doc; ""; indented_prototype(prototype)]),
                  "$name($names) =\n    ccall(POINTER_$name[], $result,\n          ", types,
                  isempty(names) ? ")" : string(",\n          ", names, ")"), "\n\n")
        end
        empty!(doc)
    end
    return string("""
        # Generated from include/metaadamw.h by gen/generate.jl; not to be edited.

        \"\"\"
        The C API as it is: structs of the header's layout, its constants, and one function a C function, which calls
        the pointer that `load!` found in the library. Nothing is checked here; `include/metaadamw.h` is the manual.
        \"\"\"
        module Raw

        """, String(take!(out)), """
        "Structs whose layout is the header's."
        const STRUCTS = (
        """, join(("    $name,\n" for name in structs)), """)

        "Every C function's name and the place of its pointer."
        const FUNCTIONS = (
        """, join(("    (:$name, POINTER_$name),\n" for name in functions)), """)

        "Looks the functions up with `find(name)`; answers the names for which that gives `C_NULL`."
        function load!(find)
            missing_functions = Symbol[]
            for (name, pointer) in FUNCTIONS
                pointer[] = find(name)
                pointer[] == C_NULL && push!(missing_functions, name)
            end
            return missing_functions
        end

        end # module Raw
        """)
end

"The text of a line of comment."
chopped(line) = startswith(line, "/// ") ? line[5:end] : line[4:end]

function main(arguments)
    text = generate(read(HEADER, String))
    if arguments == ["--check"]
        if !isfile(TARGET) || read(TARGET, String) != text
            println(stderr, "generate.jl: src/raw.jl is stale; run: julia bindings/julia/gen/generate.jl")
            return 1
        end
    elseif isempty(arguments)
        write(TARGET, text)
    else
        println(stderr, "usage: julia gen/generate.jl [--check]")
        return 2
    end
    return 0
end

abspath(PROGRAM_FILE) == @__FILE__() && exit(main(ARGS))
