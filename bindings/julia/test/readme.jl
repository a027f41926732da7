# Every ```julia block of README.md runs, in order, in one module.

@testset "the snippets of README.md" begin
    text = read(joinpath(@__DIR__, "..", "README.md"), String)
    blocks = [String(m[1]) for m in eachmatch(r"^```julia\n(.*?)^```"ms, text)]
    @test length(blocks) >= 3
    cd(mktempdir()) do
        reader = Module()
        for block in blocks
            Base.include_string(reader, block, "README.md")
        end
        @test isfile("run.safetensors")
    end
end
