# One model over several processes, which are tasks here, each with a part of every array.

const SHARD = Int(MetaAdamW.Raw.MAW_SHARD_ALIGNMENT)

"The all-reduce between the tasks. One that has ended lets nobody wait for it."
mutable struct World
    ranks::Int
    changed::Threads.Condition
    sum::Vector{Float64}
    brought::Int
    taken::Int
    left::Bool
end

World(ranks) = World(ranks, Threads.Condition(), Float64[], 0, 0, false)

function all_reduce!(values, world)
    lock(world.changed)
    try
        while world.taken > 0                           # the sums of the call before
            wait(world.changed)
        end
        world.brought == 0 && (world.sum = zeros(length(values)))
        world.sum .+= values
        world.brought += 1
        if world.brought == world.ranks
            world.brought, world.taken = 0, world.ranks
            notify(world.changed)
        end
        while world.taken == 0
            world.left && error("a process has ended")
            wait(world.changed)
        end
        values .= world.sum
        world.taken -= 1
        world.taken == 0 && notify(world.changed)
    finally
        unlock(world.changed)
    end
end

"What each process's `f(rank, world)` returns."
function together(f, ranks)
    world = World(ranks)
    tasks = map(0:ranks - 1) do rank
        Threads.@spawn try
            f(rank, world)
        finally
            lock(() -> (world.left = true; notify(world.changed)), world.changed)
        end
    end
    return fetch.(tasks)
end

"Arrays of several blocks, of one, and one whose last block is not full; the same on every process."
wide_model() = (
    layers = [(weight = Float32[sin(i * j) for i in 1:2, j in 1:SHARD + 5], bias = Float32[0.5, -0.5, 0.25])],
    head = MetaAdamW.BFloat16[cos(i) for i in 1:2SHARD],
)

"Of `vec(array)`, the ranges of all processes: the last has a short array."
part_of(rank, ranks) = (name, array) -> MetaAdamW.shard_range(length(array), rank, ranks)

shard_rule(; keywords...) =
    MetaAdamW.Rule(; meta_interval = 2, attn_layers = 1, threads = 1, precision = :master, lr = 1e-2, keywords...)

"A process; `world` nothing: it is alone, with all of each array."
function process(rank, world; rule = shard_rule())
    model = wide_model()
    world === nothing && return MetaAdamW.setup(rule, model; log = quiet), model
    state = MetaAdamW.setup(rule, model; log = quiet, reduction = values -> all_reduce!(values, world),
                            shard = part_of(rank, world.ranks))
    return state, model
end

"A gradient of the whole model, right only where the process has the parameters; the rest must not be read."
function part_gradient(state, model, target)
    _, gradient = quadratic(model, target)
    for (tensor, array) in enumerate(arrays(gradient))
        range = state.ranges[tensor]
        vec(array)[1:first(range) - 1] .= NaN
        vec(array)[last(range) + 1:end] .= NaN
    end
    return gradient
end

"Some steps and a meta-update: this process's parts of the parameters and of the state, and what all have alike."
function train_part!(state, model)
    norms = Float64[]
    for step in 1:5
        gradient = part_gradient(state, model, sin(step))
        MetaAdamW.observe_gradient!(state, "layers.1.weight", gradient.layers[1].weight)
        MetaAdamW.update!(state, model, gradient)
        push!(norms, MetaAdamW.report(state).grad_norm)
        MetaAdamW.meta_due(state) && MetaAdamW.meta_update!(state, model) do request
            # The loss must be that of the whole model: made up.
            (1 + 0.5TARGETS[request.batch], part_gradient(state, model, TARGETS[request.batch]))
        end
    end
    parts = [vec(array)[state.ranges[tensor]] for (tensor, array) in enumerate(arrays(model))]
    states = [MetaAdamW.tensor_state(state, name) for name in MetaAdamW.tensor_names(state)]
    masters = vec(MetaAdamW.masters(state, "head", model.head))
    MetaAdamW.set_masters!(state, "head", model.head, MetaAdamW.masters(state, "head", model.head))
    untouched = all(zip(arrays(model), arrays(wide_model()), state.ranges)) do (array, start, range)
        outside = setdiff(1:length(array), range)
        vec(array)[outside] == vec(start)[outside]
    end
    return (parts = parts, first = [vec(s.exp_avg) for s in states], second = [vec(s.exp_avg_sq) for s in states],
            masters = [masters], untouched = untouched,
            common = (norms, MetaAdamW.factors(state), MetaAdamW.attention(state), MetaAdamW.meta_result(state).loss_meta))
end

@testset "several processes make the bits of one" begin
    alone = train_part!(process(0, nothing)...)
    for ranks in 1:3
        runs = together((rank, world) -> train_part!(process(rank, world)...), ranks)
        @test all(run -> isequal(run.common, alone.common), runs)
        for what in (:parts, :first, :second, :masters), tensor in eachindex(getproperty(alone, what))
            joined = vcat((getproperty(run, what)[tensor] for run in runs)...)
            @test joined == getproperty(alone, what)[tensor]
        end
        @test all(run -> run.untouched, runs)
    end
end

@testset "averages are those of the part" begin
    rule = MetaAdamW.Rule(preset = :horizon, horizon = 4, meta_warmup = 2, threads = 1)
    model = (w = Float32[sin(i) for i in 1:2SHARD],)
    alone = MetaAdamW.setup(rule, model; log = quiet)
    parts = together(2) do rank, world
        own = deepcopy(model)
        state = MetaAdamW.setup(rule, own; log = quiet, reduction = values -> all_reduce!(values, world), shard = part_of(rank, 2))
        for step in 1:4
            MetaAdamW.update!(state, own, part_gradient(state, own, sin(step)))
        end
        swapped = MetaAdamW.with_averages(own -> own.w[state.ranges[1]], state, own)
        (MetaAdamW.average(state, "w"), swapped)
    end
    for step in 1:4
        MetaAdamW.update!(alone, model, last(quadratic(model, sin(step))))
    end
    @test vcat(first.(parts)...) == MetaAdamW.average(alone, "w") == vcat(last.(parts)...)
end

@testset "arrays that are the parts, with the size of the whole" begin
    start = (w = Float32[sin(i * j) for i in 1:3, j in 1:SHARD], b = Float32[1, 2])
    whole = deepcopy(start)
    sizes = Dict("w" => size(whole.w), "b" => size(whole.b))
    alone = MetaAdamW.setup(shard_rule(), whole; log = quiet)
    parts = together(2) do rank, world
        range(count) = MetaAdamW.shard_range(count, rank, 2)
        own = map(array -> vec(array)[range(length(array))], start)
        state = MetaAdamW.setup(shard_rule(), own; log = quiet, reduction = values -> all_reduce!(values, world),
                                shard = (name, part) -> range(prod(sizes[name])) => sizes[name])
        for step in 1:3
            gradient = last(quadratic(own, sin(step)))
            MetaAdamW.observe_gradient!(state, "w", gradient.w)
            MetaAdamW.update!(state, own, gradient)
        end
        MetaAdamW.meta_update!(r -> (1.0, last(quadratic(own, TARGETS[r.batch]))), state, own)
        (own, MetaAdamW.tensor_state(state, "w").exp_avg, MetaAdamW.factors(state))
    end
    for step in 1:3
        MetaAdamW.update!(alone, whole, last(quadratic(whole, sin(step))))
    end
    MetaAdamW.meta_update!(r -> (1.0, last(quadratic(whole, TARGETS[r.batch]))), alone, whole)
    @test length(parts[1][1].w) == SHARD && isempty(parts[1][1].b)
    @test vcat((part[1].w for part in parts)...) == vec(whole.w) && vcat((part[1].b for part in parts)...) == whole.b
    @test vcat((part[2] for part in parts)...) == vec(MetaAdamW.tensor_state(alone, "w").exp_avg)
    @test all(part -> part[3] == MetaAdamW.factors(alone), parts)
end

"A process that is the whole world, with a reduction that does `f`."
function small_process(f; rule = shard_rule())
    model = (w = Float32[1, 2, 3],)
    state = MetaAdamW.setup(rule, model; log = quiet, reduction = f, shard = (name, array) -> 1:length(array))
    return state, model
end

struct Lost <: Exception end

@testset "what the reduction throws, the call throws" begin
    failing = Ref(false)
    state, model = small_process(values -> failing[] && throw(Lost()))
    gradient = (w = ones(Float32, 3),)
    failing[] = true
    @test thrown(() -> MetaAdamW.update!(state, model, gradient)) isa Lost
    @test model.w == 1:3 && MetaAdamW.step_count(state) == 0
    # Also when the other processes are told of an error of this one's.
    @test thrown(() -> MetaAdamW.update!(state, model, (w = ones(Float32, 4),))) isa Lost
    @test thrown(() -> MetaAdamW.meta_update!(r -> quadratic(model, 0.1), state, model)) isa Lost
    failing[] = false
    @test throws(() -> MetaAdamW.update!(state, model, (w = ones(Float32, 4),)), DimensionMismatch, "size")
    @test fails(() -> MetaAdamW.update!(state, model, gradient; grad_scale = -1), :invalid_argument)
    MetaAdamW.update!(state, model, gradient)
    @test MetaAdamW.step_count(state) == 1
    MetaAdamW.meta_update!(r -> quadratic(model, 0.1), state, model)
    # At each call of a meta-update.
    for last_good in 0:9
        count, before = Ref(0), copy(model.w)
        state.reduction.f = values -> (count[] += 1) > last_good && throw(Lost())
        @test thrown(() -> MetaAdamW.meta_update!(r -> quadratic(model, 0.1), state, model)) isa Lost
        @test model.w == before
    end
    # What is no sum over the processes.
    state.reduction.f = values -> fill!(values, 0)
    @test fails(() -> MetaAdamW.update!(state, model, gradient), :reduction, "did not sum")
end

@testset "a state is busy in its reduction, which runs on the calling task" begin
    seen = []
    state, model = small_process(values -> nothing)
    state.reduction.f = function (values)
        push!(seen, current_task() === own)
        for use in (() -> MetaAdamW.step_count(state), () -> MetaAdamW.meta_due(state), () -> close(state),
                    () -> MetaAdamW.update!(state, model, nothing))
            push!(seen, fails(use, :busy))
        end
    end
    own = current_task()
    MetaAdamW.update!(state, model, (w = ones(Float32, 3),))
    @test length(seen) == 5 && all(seen)
end

@testset "a call that fails on one process fails on all, and they go on together" begin
    step(state, model) = MetaAdamW.update!(state, model, part_gradient(state, model, 0.5))
    update(state, model) = MetaAdamW.meta_update!(r -> (1.0, part_gradient(state, model, 0.5)), state, model)
    acts = [
        (step, (state, model) -> MetaAdamW.update!(state, (other = [1f0],), nothing), ArgumentError),
        (step, (state, model) -> MetaAdamW.update!(state, model, (head = [1f0],)), DimensionMismatch),
        (step, (state, model) -> MetaAdamW.update!(state, model, nothing; grad_scale = -1), MetaAdamW.MetaAdamWError),
        (update, (state, model) -> MetaAdamW.meta_update!(r -> 1.0, state, (other = [1f0],)), ArgumentError),
        (update, (state, model) -> MetaAdamW.meta_update!(r -> 1.0, state, model), ArgumentError),
        (update, (state, model) -> MetaAdamW.meta_update!(r -> throw(Lost()), state, model), Lost),
    ]
    for (other, act, type) in acts
        good = together(2) do rank, world
            state, model = process(rank, world)
            step(state, model)
            before = snapshot(model)
            refused = rank == 0 ? thrown(() -> act(state, model)) isa type :
                      fails(() -> other(state, model), :reduction, "failed on another process")
            kept = arrays(model) == before
            step(state, model)
            refused && kept && MetaAdamW.step_count(state) == 2
        end
        @test all(good)
    end
    # While it is set up.
    errors = together(2) do rank, world
        shard = rank == 0 ? part_of(0, 2) : (name, array) -> 1:length(array) + 1
        thrown(() -> MetaAdamW.setup(shard_rule(), wide_model(); log = quiet, shard = shard,
                                     reduction = values -> all_reduce!(values, world)))
    end
    @test errors[1] isa MetaAdamW.MetaAdamWError && errors[1].status === :reduction
    @test errors[2] isa ArgumentError && occursin("layers.1.weight", errors[2].msg)
end

@testset "ranges, and what does not fit" begin
    for count in (0, 1, SHARD, SHARD + 1, 7SHARD + 3), processes in 1:5
        ranges = [MetaAdamW.shard_range(count, rank, processes) for rank in 0:processes - 1]
        @test vcat(ranges...) == 1:count
        @test all(range -> isempty(range) || (first(range) - 1) % SHARD == 0, ranges)
    end
    @test throws(() -> MetaAdamW.shard_range(-1, 0, 1), ArgumentError, "length = -1")
    @test throws(() -> MetaAdamW.shard_range(5, 2, 2), ArgumentError, "rank = 2")

    set_up(; keywords...) = MetaAdamW.setup(shard_rule(), (w = ones(Float32, 3),); log = quiet, keywords...)
    sum = values -> nothing
    @test throws(() -> set_up(; shard = (name, array) -> [1], reduction = sum), ArgumentError, "shard of w is [1]")
    @test throws(() -> set_up(; shard = (name, array) -> 0:3, reduction = sum), ArgumentError, "not within its 3 elements")
    @test throws(() -> set_up(; shard = (name, array) -> 1:3 => 3, reduction = sum), ArgumentError, "the size of the whole array")
    @test throws(() -> set_up(; shard = (name, array) -> 1:2 => (4,), reduction = sum), DimensionMismatch, "its part, has 3")
    @test throws(() -> set_up(; shard = (name, array) -> 1:3 => (2,), reduction = sum), ArgumentError, "not within its 2 elements")
    @test fails(() -> set_up(; shard = (name, array) -> 1:2, reduction = sum), :invalid_argument, "'w'")
    @test fails(() -> set_up(; shard = (name, array) -> 1:3), :invalid_state, "reduction")
    @test fails(() -> set_up(; reduction = sum), :invalid_argument, "sharded of tensor 'w'")
    @test throws(() -> set_up(; reduction = (pointer, count) -> nothing, shard = (name, array) -> 1:3), ArgumentError,
                 "with Rule(device = :cpu): reduction(values)")
    @test fails(() -> set_up(; reduction = sum, shard = (name, array) -> 4:3), :reduction, "registered by 0 processes")

    state, model = small_process(sum)
    MetaAdamW.update!(state, model, (w = ones(Float32, 3),))
    @test fails(() -> MetaAdamW.save(IOBuffer(), state), :unsupported)
    io = IOBuffer()
    MetaAdamW.save(io, state; attention_only = true)
    MetaAdamW.load!(state, seekstart(io); attention_only = true)
    mktempdir() do folder
        path = joinpath(folder, "run.safetensors")
        MetaAdamW.save(path, state)
        MetaAdamW.update!(state, model, (w = ones(Float32, 3),))
        @test MetaAdamW.step_count(MetaAdamW.load!(state, path)) == 1
    end
    @test fails(() -> MetaAdamW.setup!(state, (w = model.w, v = ones(Float32, 3))), :unsupported)
    @test throws(() -> MetaAdamW.set_tensor_state!(state, "w"; exp_avg = [1], exp_avg_sq = [1], step = 1), DimensionMismatch, "w")
end

@testset "a state with a reduction that refers to it is freed" begin
    freed = Threads.Atomic{Int}(0)
    make() = let
        state, model = small_process(values -> nothing)
        state.reduction.f = values -> state
        finalizer(_ -> Threads.atomic_add!(freed, 1), state.reduction)
        nothing
    end
    foreach(_ -> make(), 1:10)
    foreach(_ -> GC.gc(), 1:3)
    @test freed[] >= 9
end
