# Saving and loading.

@testset "a run that is loaded goes on bit for bit, from $what" for what in ("a file", "memory")
    whole, first_half, second_half = new_model(), new_model(), new_model()
    whole_state, state = new_state(whole), new_state(first_half)
    train!(whole_state, whole, 1:9)
    train!(state, first_half, 1:5)
    second_state = new_state(second_half)
    if what == "a file"
        path = joinpath(mktempdir(), "run.safetensors")
        MetaAdamW.save(path, state)
        @test MetaAdamW.load!(second_state, path) === second_state
    else
        io = IOBuffer()
        MetaAdamW.save(io, state)
        MetaAdamW.load!(second_state, seekstart(io))
    end
    foreach((to, from) -> to .= from, arrays(second_half), arrays(first_half))
    train!(second_state, second_half, 6:9)
    @test everything(second_state, second_half) == everything(whole_state, whole)
end

@testset "the attention module alone, and whose options hold" begin
    model = new_model()
    state = new_state(model)
    train!(state, model, 1:4)
    folder = mktempdir()
    run_file, attention_file = joinpath(folder, "run.safetensors"), joinpath(folder, "attention.safetensors")
    MetaAdamW.save(run_file, state)
    MetaAdamW.save(attention_file, state; attention_only = true)
    other = new_state(new_model(); rule = MetaAdamW.Rule(lr = 1, meta_interval = 3, attn_layers = 2, threads = 1))
    MetaAdamW.load!(other, attention_file; attention_only = true)
    @test MetaAdamW.attention(other) == MetaAdamW.attention(state) && MetaAdamW.step_count(other) == 0
    @test fails(() -> MetaAdamW.load!(other, run_file), :mismatch, "meta_interval")
    MetaAdamW.load!(other, run_file; options = :own)
    @test MetaAdamW.learning_rates(other) == [1] && MetaAdamW.step_count(other) == 4
    MetaAdamW.load!(other, run_file; options = :file)
    @test MetaAdamW.learning_rates(other) == [5e-4]
    @test throws(() -> MetaAdamW.load!(other, run_file; options = :theirs), ArgumentError, ":equal, :file, :own")
end

@testset "what both have, and the names that only one has" begin
    model = new_model()
    state = new_state(model)
    train!(state, model, 1:4)
    io = IOBuffer()
    MetaAdamW.save(io, state)
    part = (head = model.head, embedding = (weight = ones(Float32, 2, 3),))
    other = new_state(part)
    MetaAdamW.adjust!(other; beta = (0.5, 0.5), eps = 1, max_grad_norm = 1)
    @test fails(() -> MetaAdamW.load!(other, seekstart(io)), :mismatch)
    MetaAdamW.load!(other, seekstart(io); partial = true)
    report = MetaAdamW.load_report(other)
    @test report.missing_tensors == ["embedding.weight"]
    @test report.unexpected_tensors == ["layers.1.weight", "layers.1.bias"]
    of_modulation(state) = first.(MetaAdamW.groups(state))
    @test report.missing_groups == setdiff(of_modulation(other), of_modulation(state))
    @test report.unexpected_groups == setdiff(of_modulation(state), of_modulation(other)) != String[]
    @test MetaAdamW.tensor_state(other, "head") == MetaAdamW.tensor_state(state, "head")
    @test MetaAdamW.step_count(other) == 4 && MetaAdamW.tensor_state(other, "embedding.weight").step == 0
    @test MetaAdamW.betas(other) == [(0.9, 0.999)] && MetaAdamW.epsilons(other) == [1e-8] && MetaAdamW.max_grad_norm(other) == 0
    MetaAdamW.load!(state, seekstart(io))
    @test all(isempty, MetaAdamW.load_report(state))
end

@testset "files that cannot be loaded" begin
    state = new_state(new_model())
    folder = mktempdir()
    @test fails(() -> MetaAdamW.load!(state, joinpath(folder, "none")), :io, "none")
    @test fails(() -> MetaAdamW.save(joinpath(folder, "none", "run"), state), :io)
    write(joinpath(folder, "text"), "not a checkpoint")
    @test fails(() -> MetaAdamW.load!(state, joinpath(folder, "text")), :corrupt)
    @test fails(() -> MetaAdamW.load!(state, IOBuffer(UInt8[])), :corrupt)
    other = new_state((head = ones(Float32, 5),))
    io = IOBuffer()
    MetaAdamW.save(io, other)
    @test fails(() -> MetaAdamW.load!(state, seekstart(io)), :mismatch, "head")
end

@testset "column-major: a Julia matrix is the transpose of the C matrix in the same memory" begin
    model = (weight = Float32[1 2 3; 4 5 6],)              # 2×3 in Julia
    state = new_state(model)
    io = IOBuffer()
    MetaAdamW.save(io, state)
    @test occursin("[3,2]", replace(String(take!(io)), " " => ""))   # rows × columns as C sees them
    @test vec(model.weight) == [1, 4, 2, 5, 3, 6]          # C's rows: (1 4), (2 5), (3 6)
end

@testset "moments from another Adam" begin
    model = new_model()
    state = new_state(model)
    exp_avg = Float64[i + 10j for i in 1:4, j in 1:3]
    MetaAdamW.set_tensor_state!(state, "layers.1.weight"; exp_avg = exp_avg, exp_avg_sq = exp_avg .^ 2, step = 7)
    @test MetaAdamW.tensor_state(state, "layers.1.weight") ==
          (exp_avg = Float32.(exp_avg), exp_avg_sq = Float32.(exp_avg .^ 2), step = 7)
    @test MetaAdamW.step_count(state) == 7
    @test throws(() -> MetaAdamW.set_tensor_state!(state, "head"; exp_avg = exp_avg, exp_avg_sq = exp_avg, step = 1),
                 DimensionMismatch, "the moments of head")
    @test fails(() -> MetaAdamW.tensor_state(state, "tail"), :not_found, "tail")
end
