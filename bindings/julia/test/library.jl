# Where the library comes from.

"Runs Julia code in a new process with another library; answers whether it succeeded and what it printed."
function with_library(path, code = "using MetaAdamW"; changes...)
    project = dirname(@__DIR__) # not inside the backticks, where @__DIR__ is another folder
    command = `$(Base.julia_cmd()) --startup-file=no --project=$project -e $code`
    printed = tempname()
    environment = merge(Dict(ENV), Dict("METAADAMW_LIBRARY" => path), Dict(string(name) => value for (name, value) in changes))
    process = run(pipeline(ignorestatus(setenv(command, environment)), stdout = printed, stderr = printed))
    return success(process), read(printed, String)
end

@testset "the library that the environment variable names is loaded" begin
    @test MetaAdamW.library_version() == VersionNumber(MetaAdamW.Raw.MAW_VERSION)
    @test isfile(MetaAdamW.library_path())
    path = get(ENV, "METAADAMW_LIBRARY", "")
    isempty(path) || @test realpath(path) == realpath(MetaAdamW.library_path())
end

@testset "a library that is not there" begin
    ok, text = with_library("/nowhere/libmetaadamw.so")
    @test !ok && occursin("looked for by the environment variable METAADAMW_LIBRARY", text)
    @test occursin("/nowhere/libmetaadamw.so", text) && occursin("cargo build --release", text)
end

@testset "packages are precompiled without the library" begin
    folder = mktempdir()
    symlink(dirname(@__DIR__), joinpath(folder, "MetaAdamW"))
    mkpath(joinpath(folder, "Downstream", "src"))
    write(joinpath(folder, "Downstream", "Project.toml"), """
        name = "Downstream"
        uuid = "7d9d9a52-2f0c-4a83-9d9c-3a0d3c1b9b57"
        [deps]
        MetaAdamW = "fd663f99-fa16-4b5d-8fd4-e78f77672723"
        """)
    write(joinpath(folder, "Downstream", "src", "Downstream.jl"), """
        module Downstream
        import MetaAdamW
        const CALLED = try
            MetaAdamW.Rule()
        catch e
            sprint(showerror, e)
        end
        rule() = MetaAdamW.Rule(lr = 0.25)
        end
        """)
    environment = (JULIA_DEPOT_PATH = joinpath(folder, "depot"), JULIA_LOAD_PATH = "$folder:@stdlib")
    ok, text = with_library("/nowhere/libmetaadamw.so", "Base.compilecache(Base.identify_package(\"Downstream\"))";
                            environment...)
    @test ok
    ok, text = with_library(MetaAdamW.library_path(), "import Downstream; print(Downstream.CALLED, Downstream.rule())";
                            environment...)
    @test ok && occursin("could not be loaded for the precompilation", text) && occursin("Rule(lr = 0.25)", text)
    ok, text = with_library("/nowhere/libmetaadamw.so", "import Downstream"; environment...)
    @test !ok && occursin("libmetaadamw cannot be loaded", text)
end

@testset "it is installed into a project, as the README says" begin
    folder = mktempdir()
    registry = mkpath(joinpath(folder, "depot", "registries", "Empty"))      # so that Pkg needs no network
    write(joinpath(registry, "Registry.toml"),
          "name = \"Empty\"\nuuid = \"c6f3a1de-5d3b-4c68-9f46-0a1b2c3d4e5f\"\nrepo = \"\"\n\n[packages]\n")
    ok, text = with_library(
        MetaAdamW.library_path(),
        "using Pkg; Pkg.activate(raw\"$folder\"); Pkg.develop(path = raw\"$(dirname(@__DIR__))\"); " *
        "using MetaAdamW; print(MetaAdamW.Rule(lr = 0.25))"; JULIA_DEPOT_PATH = joinpath(folder, "depot"),
        JULIA_LOAD_PATH = "@:@stdlib")
    @test ok && occursin("Rule(lr = 0.25)", text)
    @test occursin("MetaAdamW", read(joinpath(folder, "Manifest.toml"), String))
end

@testset "the loader's path is the last resort" begin
    names = withenv(() -> MetaAdamW.library_candidates()[2], "METAADAMW_LIBRARY" => nothing)
    @test length(names) == 2 && occursin("libmetaadamw", names[1]) && names[2] == "libmetaadamw"
end

if Sys.which("cc") !== nothing
    library_of(code) = begin
        folder = mktempdir()
        write(joinpath(folder, "fake.c"), code)
        run(`cc -shared -fPIC $(joinpath(folder, "fake.c")) -o $(joinpath(folder, "fake.so"))`)
        joinpath(folder, "fake.so")
    end

    @testset "a library of another ABI version" begin
        ok, text = with_library(library_of("unsigned maw_abi_version(void) { return 99; }"))
        @test !ok && occursin("has ABI version 99; this package is for $(MetaAdamW.Raw.MAW_ABI_VERSION)", text)
    end

    @testset "an older library of the same ABI version" begin
        version = MetaAdamW.Raw.MAW_ABI_VERSION
        ok, text = with_library(library_of("unsigned maw_abi_version(void) { return $version; }"))
        @test !ok && occursin("is older than this package", text) && occursin("maw_step", text)
    end

    @testset "another library altogether" begin
        ok, text = with_library(library_of("int nothing(void) { return 0; }"))
        @test !ok && occursin("is not libmetaadamw", text)
    end
end
