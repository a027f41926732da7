# One file a theme. With names as arguments, only those: julia --project=.. runtests.jl walk meta
using MetaAdamW
using LinearAlgebra
using Test

include("common.jl")

const THEMES = ["raw", "library", "rule", "walk", "update", "half", "meta", "averages", "reduction", "lifetime", "log", "checkpoint", "growing", "inspect",
                "extension", "device", "readme"]

for argument in ARGS
    argument in THEMES || error("no theme $argument; there are $(join(THEMES, ", "))")
end

@testset "MetaAdamW" begin
    @testset "$theme" for theme in (isempty(ARGS) ? THEMES : ARGS)
        include("$theme.jl")
    end
end
