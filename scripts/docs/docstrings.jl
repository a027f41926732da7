# Writes one page of the docstrings of the Julia package's public names, which MetaAdamW.jl lists: `docstrings.jl PAGE`.

using MetaAdamW

const SOURCE = joinpath(@__DIR__, "..", "..", "bindings", "julia", "src", "MetaAdamW.jl")

function public_names()
    list = match(r"Expr\(:public, (.*?)\)\)"s, read(SOURCE, String))
    list === nothing && error("$SOURCE has no list of public names")
    return [Symbol(name[1]) for name in eachmatch(r":([\w!]+)", list[1])]
end

"All docstrings of a name, in the order of the sources."
function docstrings(of::Module, name::Symbol)
    found = get(Base.Docs.meta(of), Base.Docs.Binding(of, name), nothing)
    found === nothing && return String[]
    return [join(found.docs[signature].text) for signature in found.order]
end

# A docstring's own headings are below that of its name. A block in its first line is the call.
function shown(text)
    text = replace(strip(text, '\n'), r"^#+ "m => "#### ")
    text = replace(text, "```jldoctest" => "```jlcon")
    text = replace(text, r"\[`([^`]+)`\]\(@ref\)" => s"[`\1`](#\1)")
    call = match(r"\A((?:    .*\n?)+)", text)
    call === nothing && return text
    lines = replace(rstrip(call[1]), r"^    "m => "")
    return "```julia\n$lines\n```\n\n" * lstrip(text[(sizeof(call[1]) + 1):end], '\n')
end

function fields(of::Module, name::Symbol)
    found = Base.Docs.meta(of)[Base.Docs.Binding(of, name)]
    described = first(values(found.docs)).data[:fields]
    rows = ["| `$field` | $(replace(join(strip.(split(text, '\n')), " "), '|' => "\\|")) |"
            for field in fieldnames(getfield(of, name)) if haskey(described, field)
            for text in (string(described[field]),)]
    return join(["| option | |", "| --- | --- |", rows...], "\n")
end

undocumented = Symbol[]
open(ARGS[1], "w") do page
    println(page, "# Julia: MetaAdamW\n\nThis page is made from the docstrings in `bindings/julia`.\n")
    foreach(text -> println(page, shown(text), "\n"), docstrings(MetaAdamW, :MetaAdamW))
    for name in public_names()
        name === :Raw && continue
        texts = docstrings(MetaAdamW, name)
        isempty(texts) && push!(undocumented, name)
        println(page, "## `$name` { #$name }\n")
        foreach(text -> println(page, shown(text), "\n"), texts)
    end
    println(page, "## Options { #options }\n\nThe keywords of `Rule`, which are the fields of the C struct:\n")
    println(page, fields(MetaAdamW.Raw, :maw_options))
end
isempty(undocumented) || error("without a docstring: ", join(undocumented, ", "))
