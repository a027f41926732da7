# Where the library comes from.

"Runs Julia code in a new process with another library; answers whether it succeeded and what it printed."
function with_library(path, code = "using MetaAdamW")
    project = dirname(@__DIR__) # not inside the backticks, where @__DIR__ is another folder
    command = `$(Base.julia_cmd()) --startup-file=no --project=$project -e $code`
    printed = tempname()
    environment = merge(Dict(ENV), Dict("METAADAMW_LIBRARY" => path))
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
