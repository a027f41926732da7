# The raw layer: fresh, and of the C compiler's layout.

import REPL

const Raw = MetaAdamW.Raw
const GENERATOR = joinpath(@__DIR__, "..", "gen", "generate.jl")

@testset "src/raw.jl is what generate.jl makes of the header" begin
    @test success(pipeline(`$(Base.julia_cmd()) --startup-file=no $GENERATOR --check`, stderr = stderr))
end

@testset "the generator refuses lines that it does not know" begin
    generator = Module()
    Base.include(generator, GENERATOR)
    @test throws(() -> generator.generate("typedef union { int x; } maw_x;"), ErrorException, "maw_x")
    @test throws(() -> generator.generate("typedef int32_t maw_status;\nmaw_status maw_f(long x);"), ErrorException,
                 "long")
    @test throws(() -> generator.generate("#define MAW_X (1 << 3)"), ErrorException, "1 << 3")
end

@testset "a pointer to a function is one of Julia's, whose types are told" begin
    generator = Module()
    Base.include(generator, GENERATOR)
    made = generator.generate("typedef const double *(*maw_f)(uint8_t *bytes, size_t count);\ntypedef void (*maw_g)(void);")
    @test occursin("@cfunction(f, Ptr{Cdouble}, (Ptr{UInt8}, Csize_t))", made) && occursin("const maw_f = Ptr{Cvoid}", made)
    @test occursin("@cfunction(f, Cvoid, ())", made) && occursin("const maw_g = Ptr{Cvoid}", made)
    @test throws(() -> generator.generate("typedef long (*maw_f)(void);"), ErrorException, "long")
end

@testset "every function of the library's export list is there" begin
    exports = joinpath(@__DIR__, "..", "..", "..", "tests", "exports.txt")
    @test Set(readlines(exports)) == Set(string.(first.(Raw.FUNCTIONS)))
end

if Sys.which("cc") !== nothing
    @testset "structs have the C compiler's layout" begin
        folder = mktempdir()
        source = joinpath(folder, "layout.c")
        open(source, "w") do io
            println(io, "#include <metaadamw.h>\n#include <stdio.h>\nint main(void) {")
            for type in Raw.STRUCTS
                name = nameof(type)
                println(io, "printf(\"$name %zu\\n\", sizeof($name));")
                for field in fieldnames(type)
                    println(io, "printf(\"$name.$field %zu %zu\\n\", offsetof($name, $field), ",
                            "sizeof((($name *)0)->$field));")
                end
            end
            println(io, "return 0; }")
        end
        include_folder = joinpath(@__DIR__, "..", "..", "..", "include")
        run(`cc -I $include_folder $source -o $(joinpath(folder, "layout"))`)
        expected = String[]
        for type in Raw.STRUCTS
            push!(expected, "$(nameof(type)) $(sizeof(type))")
            for (i, field) in enumerate(fieldnames(type))
                push!(expected, "$(nameof(type)).$field $(fieldoffset(type, i)) $(sizeof(fieldtype(type, i)))")
            end
        end
        @test readlines(`$(joinpath(folder, "layout"))`) == expected
    end
end

@testset "documentation comes along" begin
    @test occursin("One step", string(@doc MetaAdamW.Raw.maw_step))
    options = string(@doc MetaAdamW.Raw.maw_options)
    @test occursin("fixed at creation", options)
    # What `?` shows for the struct, and for a field alone.
    @test all(field -> occursin("`$field`: ", options) || occursin("<code>$field</code>: ", options), MetaAdamW.OPTION_NAMES)
    @test occursin("Steps between two meta-updates", string(REPL.fielddoc(MetaAdamW.Raw.maw_options, :meta_interval)))
    @test occursin("Learning rate", string(REPL.fielddoc(MetaAdamW.Raw.maw_param_group, :lr)))
end
