# Messages of the library.

nan_gradient() = (head = fill(NaN32, 4),)

@testset "messages arrive on the calling task, when the call has returned" begin
    model = new_model()
    heard = []
    note(level, message) = push!(heard, (level, message, current_task()))
    state = MetaAdamW.setup(MetaAdamW.Rule(), model; log = note)
    MetaAdamW.update!(state, model, nan_gradient())
    level, message, task = only(heard)
    @test level === :warning && occursin("head", message) && task === current_task()
    # The state can be used inside; a C callback could not.
    steps = []
    MetaAdamW.set_log!((level, message) -> push!(steps, MetaAdamW.step_count(state)), state)
    MetaAdamW.update!(state, model, nan_gradient())
    @test steps == [0] && length(heard) == 1
    MetaAdamW.set_log!(nothing, state)
    MetaAdamW.update!(state, model, nan_gradient())
    @test steps == [0]
end

@testset "by default, Julia's logging" begin
    model = new_model()
    state = MetaAdamW.setup(MetaAdamW.Rule(), model)
    @test_logs (:warn, r"head") MetaAdamW.update!(state, model, nan_gradient())
    silent = MetaAdamW.setup(MetaAdamW.Rule(), model; log = nothing)
    @test_logs MetaAdamW.update!(silent, model, nan_gradient())
end

@testset "a log function that throws is reported and does no harm" begin
    model = new_model()
    state = MetaAdamW.setup(MetaAdamW.Rule(), model; log = (level, message) -> error("from the log"))
    @test_logs (:error, r"log function threw") MetaAdamW.update!(state, model, nan_gradient())
    @test MetaAdamW.report(state).skipped_steps == 1
end
