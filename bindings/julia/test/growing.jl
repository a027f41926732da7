# Models that gain and lose arrays while they are trained.

"Saved to memory."
function saved(state)
    io = IOBuffer()
    MetaAdamW.save(io, state)
    return take!(io)
end

# Arrays of one size, so that a gradient given to another one is not found by its size.
body() = (layers = [(weight = Float32[0.1 0.2; 0.3 0.4], bias = Float32[0.5, -0.5, 0.25, 1])],)

@testset "a run that grew is one that was set up whole and loaded what there was: $where" for where in ("behind", "in front")
    part = body()
    state = new_state(part)
    train!(state, part, 1:5)
    file = saved(state)
    added = Float32[1 2; 3 4]
    # In front the walk's order is not that of registration.
    grow(part) = where == "behind" ? (layers = part.layers, attn = copy(added)) : (attn = copy(added), layers = part.layers)
    groups = where == "behind" ? [] : ["attn" => (lr = 1e-3,)]
    grown, whole = grow(part), grow(deepcopy(part))
    @test throws(() -> MetaAdamW.update!(state, grown, nothing), ArgumentError, "setup!(state, model)")
    @test MetaAdamW.setup!(state, grown; groups = groups) === state
    @test MetaAdamW.tensor_names(state) == ["layers.1.weight", "layers.1.bias", "attn"]
    @test fails(() -> MetaAdamW.factors(state), :invalid_state)
    @test occursin("step 5", repr(state)) && !occursin("alpha", repr(MIME"text/plain"(), state))
    whole_state = new_state(whole; groups = groups)
    @test fails(() -> MetaAdamW.load!(whole_state, IOBuffer(file)), :mismatch)
    MetaAdamW.load!(whole_state, IOBuffer(file); partial = true)
    report = MetaAdamW.load_report(whole_state)
    @test report.missing_tensors == ["attn"] && isempty(report.unexpected_tensors)
    @test first.(MetaAdamW.groups(state)) == first.(MetaAdamW.groups(whole_state))
    train!(state, grown, 6:10)
    train!(whole_state, whole, 6:10)
    @test everything(state, grown) == everything(whole_state, whole)
    @test [MetaAdamW.tensor_state(state, name).step for name in MetaAdamW.tensor_names(state)] == [10, 10, 5]
    # Learning rates of this state are those of its groups, as the file has another number of them, or the same one.
    @test MetaAdamW.learning_rates(state) == MetaAdamW.learning_rates(whole_state) ==
          (where == "behind" ? [5e-4] : [5e-4, 1e-3])
    # And it is loaded like any other.
    again = new_state(deepcopy(grown); groups = groups)
    MetaAdamW.load!(again, IOBuffer(saved(state)); options = :equal)
    @test saved(again) == saved(state) && all(isempty, MetaAdamW.load_report(again))
end

@testset "what is gone is forgotten, what stays keeps its moments" begin
    model = new_model()
    state = new_state(model)
    train!(state, model, 1:3)
    MetaAdamW.freeze!(state, "head")
    expected = MetaAdamW.tensor_state(state, "head")
    model = (layers = [(bias = model.layers[1].bias,)], head = model.head)
    MetaAdamW.setup!(state, model)
    @test MetaAdamW.tensor_names(state) == ["layers.1.bias", "head"] && MetaAdamW.tensor_state(state, "head") == expected
    @test fails(() -> MetaAdamW.tensor_state(state, "layers.1.weight"), :not_found)
    @test fails(() -> MetaAdamW.report(state), :invalid_state)
    before = snapshot(model)
    MetaAdamW.update!(state, model, last(quadratic(model, 1)))
    @test model.head == before[2] && model.layers[1].bias != before[1]        # it is frozen still
    @test MetaAdamW.report(state).step == 4
    MetaAdamW.update!(state, model, (layers = [(bias = Float32[1, NaN, 1, 1],)], head = nothing))
    @test MetaAdamW.report(state).nonfinite_tensor == "layers.1.bias"
    # One of another size or type is new, and so is one that comes again.
    model = (layers = model.layers, head = ones(Float32, 2, 5), more = ones(3))
    MetaAdamW.setup!(state, model)
    @test MetaAdamW.tensor_names(state) == ["layers.1.bias", "head", "more"]
    @test MetaAdamW.tensor_state(state, "head") == (exp_avg = zeros(Float32, 2, 5), exp_avg_sq = zeros(Float32, 2, 5), step = 0)
    MetaAdamW.update!(state, model, last(quadratic(model, 1)))
    @test all(model.head .!= 1) && all(model.more .!= 1)
    # Another object of the same name, type and size.
    model = deepcopy(model)
    MetaAdamW.setup!(state, model)
    @test MetaAdamW.tensor_state(state, "more").step == 1 && MetaAdamW.report(state).step == 5
end

@testset "arrays come into the param group that names them" begin
    part = body()
    state = new_state(part; groups = [r"bias$" => (lr = 1,), "layers" => (lr = 2,)])
    MetaAdamW.adjust!(state, 4; group = "layers")
    model = (layers = [part.layers[1], (weight = ones(Float32, 2), bias = ones(Float32, 3))], head = ones(Float32, 5))
    MetaAdamW.setup!(state, model)
    @test MetaAdamW.param_groups(state) == [r"bias$" => ["layers.1.bias", "layers.2.bias"],
                                            "layers" => ["layers.1.weight", "layers.2.weight"], :rest => ["head"]]
    @test MetaAdamW.learning_rates(state) == [1, 4, 5e-4]
    model = (model..., tail = ones(Float32, 6), adapter = ones(Float32, 7), bottom = ones(Float32, 8))
    MetaAdamW.setup!(state, model; groups = ["adapter" => (lr = 3,)])
    @test MetaAdamW.param_groups(state)[3:4] == [:rest => ["head", "tail", "bottom"], "adapter" => ["adapter"]]
    @test MetaAdamW.learning_rates(state) == [1, 4, 5e-4, 3]
    MetaAdamW.update!(state, model, last(quadratic(model, 1)))
    for name in MetaAdamW.tensor_names(state)
        @test MetaAdamW.tensor_state(state, name).step == 1
    end
    # A group that is empty stays, for what comes later.
    MetaAdamW.setup!(state, (head = model.head,))
    @test length.(last.(MetaAdamW.param_groups(state))) == [0, 0, 1, 0]
    MetaAdamW.setup!(state, (head = model.head, adapter = ones(Float32, 2)))
    @test last.(MetaAdamW.param_groups(state)) == [[], [], ["head"], ["adapter"]]
end

@testset "shared arrays" begin
    x, y = Float32[1, 2], Float32[3, 4]
    state = new_state((a = x, b = x))
    step(model) = MetaAdamW.update!(state, model, map(_ -> ones(Float32, 2), model))
    step((a = x, b = x))
    @test MetaAdamW.tensor_state(state, "b").exp_avg ≈ [0.2, 0.2]
    # No longer shared: the array of the name stays, the other is new.
    MetaAdamW.setup!(state, (a = x, b = y))
    @test MetaAdamW.tensor_names(state) == ["a", "b"] && MetaAdamW.tensor_state(state, "b").step == 0
    step((a = x, b = y))
    MetaAdamW.observe_gradient!(state, "a", ones(Float32, 2))
    @test MetaAdamW.tensor_state(state, "a").exp_avg ≈ [0.28, 0.28]
    # Shared again: gradients are summed.
    MetaAdamW.setup!(state, (a = x, b = x))
    step((a = x, b = x))
    @test MetaAdamW.tensor_names(state) == ["a"] && MetaAdamW.tensor_state(state, "b").exp_avg ≈ [0.452, 0.452]
    @test throws(() -> MetaAdamW.observe_gradient!(state, "a", ones(Float32, 2)), ArgumentError, "shared")
    # Only a further place is left: the array stays, under the name that it has.
    MetaAdamW.setup!(state, (b = x, c = y))
    @test MetaAdamW.tensor_names(state) == ["a", "c"] && MetaAdamW.tensor_state(state, "b").step == 3
    step((b = x, c = y))
    @test MetaAdamW.tensor_state(state, "b").step == 4
    # Under which no other array can then be registered.
    @test throws(() -> MetaAdamW.setup!(state, (b = x, c = y, a = ones(Float32, 3))), ArgumentError, "a is the name of")
end

@testset "a change that is refused changes nothing" begin
    model = new_model()
    state = new_state(model; precision = name -> name == "half" ? :remainder : nothing)
    train!(state, model, 1:2)
    before, names, groups = saved(state), MetaAdamW.tensor_names(state), MetaAdamW.param_groups(state)
    grown = (head = model.head, new = ones(Float32, 2))      # one is gone as well
    for (change, type, text) in (
            (() -> MetaAdamW.setup!(state, (a = ones(Float32, 2),)), ArgumentError, "use setup"),
            (() -> MetaAdamW.setup!(state, NamedTuple()), ArgumentError, "nothing to train"),
            (() -> MetaAdamW.setup!(state, grown; groups = ["old" => (lr = 1,)]), ArgumentError, "gets no tensor"),
            (() -> MetaAdamW.setup!(state, grown; groups = ["new" => (rate = 1,)]), ArgumentError, "no keyword `rate`"),
            (() -> MetaAdamW.setup!(state, grown; groups = ["new" => (lr = -1,)]), MetaAdamW.MetaAdamWError, "lr"),
            (() -> MetaAdamW.setup!(state, (head = model.head, half = ones(Float16, 2))), MetaAdamW.MetaAdamWError, "half"))
        @test throws(change, type, text)
        @test saved(state) == before && MetaAdamW.tensor_names(state) == names && MetaAdamW.param_groups(state) == groups
    end
    # An eps that was set, and is too small for the new array's type.
    wide = (a = ones(2), b = ones(2))
    state = new_state(wide)
    MetaAdamW.adjust!(state; eps = 1e-100)
    @test fails(() -> MetaAdamW.setup!(state, (a = ones(2), c = ones(Float32, 2))), :invalid_argument, "eps")
    @test MetaAdamW.tensor_names(state) == ["a", "b"]
end

@testset "not while a meta-update is open" begin
    x, y = ones(Float32, 2), ones(Float32, 3)
    model = (a = x, b = x, c = y)
    state = new_state(model)
    train!(state, model, 1:3)
    report = MetaAdamW.report(state)
    for grown in ((a = x, b = x, c = y, d = ones(Float32, 4)), (a = x, b = x))
        @test fails(:invalid_state) do
            MetaAdamW.meta_update!(request -> MetaAdamW.setup!(state, grown), state, model)
        end
        @test MetaAdamW.tensor_names(state) == ["a", "c"] && MetaAdamW.report(state) == report
        @test MetaAdamW.tensor_state(state, "b").step == 3
    end
    train!(state, model, 4:5)
    @test MetaAdamW.step_count(state) == 5
end
