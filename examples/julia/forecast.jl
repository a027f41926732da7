# Forecasts the weekly CO2 concentration at Mauna Loa from the 96 weeks before, with a small network that is trained
# twice by MetaAdamW.jl: as plain AdamW (modulation = false) and as MetaAdamW, from the same start and on the same
# batches, for a few seeds. Then it prints the results of both. The same program as examples/c/forecast.c.
#
#     julia examples/julia/forecast.jl [--epochs N] [--seeds N]
#
# The windows, in the order of time:
#     first 70 %  training: both optimizers; also the two training batches of the meta-updates
#     next 10 %   held out: the validation batches of the meta-updates; AdamW does not use them
#     last 20 %   validation: no optimizer uses it. The printed MSE is measured here after every epoch. The best epoch and
#                 AdamW's learning rate are chosen here as well, which favors both, so the last epoch's MSE is printed
#                 too.

push!(LOAD_PATH, joinpath(@__DIR__, "..", "..", "bindings", "julia"))
using LinearAlgebra
using Printf
using MetaAdamW

BLAS.set_num_threads(1) # the matrices are small

# ---------------------------------------------------------------------------------------------------------- data ----

"The data of examples/data/co2_weekly.h."
function co2_weekly()
    text = read(joinpath(@__DIR__, "..", "data", "co2_weekly.h"), String)
    figures = split(text, "CO2_WEEKLY[CO2_WEEKS] = {")[2]
    return [parse(Float32, m[1]) for m in eachmatch(r"(\d+\.\d+)f", figures)]
end

const INPUTS = 96
const SERIES = co2_weekly()
const WINDOWS = length(SERIES) - INPUTS
const TRAIN = 1:WINDOWS * 7 ÷ 10
const HELD_OUT = TRAIN[end] .+ (1:WINDOWS ÷ 10)
const VALIDATION = HELD_OUT[end] + 1:WINDOWS
const BATCH = 64
const STEPS_PER_EPOCH = length(TRAIN) ÷ BATCH # a last, smaller batch is left out
const META_INTERVAL = 15

"""
Every window minus its last value (the series rises, its changes hardly do), divided by the training windows' standard
deviation. The mean stays: a prediction of 0 is "as last week". A window is a column.
"""
function make_windows()
    last_of(w) = SERIES[w + INPUTS - 1]
    past = Float32[SERIES[w + i - 1] - last_of(w) for i in 1:INPUTS, w in 1:WINDOWS]
    next = Float32[SERIES[w + INPUTS] - last_of(w) for w in 1:WINDOWS]
    mean_square(x) = sum(abs2 ∘ Float64, x) / length(x)
    ppm2 = mean_square(next[TRAIN])
    past ./= Float32(sqrt(mean_square(past[:, TRAIN])))
    next ./= Float32(sqrt(ppm2))
    return past, next, ppm2
end

const PAST, NEXT, PPM2 = make_windows() # PPM2: one unit of the network's squared error in ppm²

"splitmix64: the same numbers in every version of Julia, and in C."
mutable struct Random64
    state::UInt64
end

function bits!(random::Random64)
    z = random.state += 0x9e3779b97f4a7c15
    z = (z ⊻ (z >> 30)) * 0xbf58476d1ce4e5b9
    z = (z ⊻ (z >> 27)) * 0x94d049bb133111eb
    return z ⊻ (z >> 31)
end

"Puts `count` of the numbers, drawn at random, in front."
function shuffle!(numbers, count, random)
    for i in 1:count
        j = i + Int(bits!(random) % (length(numbers) - i + 1))
        numbers[i], numbers[j] = numbers[j], numbers[i]
    end
    return numbers
end

# ---------------------------------------------------------------------------------------- the network ("engine") ----

# A perceptron 96-64-64-1 with tanh. It does not depend on the optimizer: parameters and gradients are plain arrays.

const WIDTHS = [INPUTS, 64, 64, 1]

"Every parameter uniform in ±1/√(inputs of its layer). Drawn row by row, as the program in C does."
function new_network(seed)
    random = Random64(seed)
    uniform(bound) = Float32(bound * (2 * ((bits!(random) >> 11) * 2.0^-53) - 1))
    layer(inputs, outputs) = (
        weight = permutedims([uniform(1 / sqrt(inputs)) for _ in 1:inputs, _ in 1:outputs]), # outputs × inputs
        bias = [uniform(1 / sqrt(inputs)) for _ in 1:outputs],
    )
    return (layers = [layer(WIDTHS[l], WIDTHS[l + 1]) for l in 1:length(WIDTHS) - 1],)
end

"Mean squared error of the windows with the given numbers; fills the gradient, if there is one to fill."
function loss!(gradient, network, numbers)
    outputs = [PAST[:, numbers]]
    for (l, layer) in enumerate(network.layers)
        sums = repeat(layer.bias, 1, length(numbers))
        mul!(sums, layer.weight, outputs[end], 1.0f0, 1.0f0)
        push!(outputs, l < length(network.layers) ? tanh.(sums) : sums)
    end
    off = outputs[end] .- NEXT[numbers]'
    if gradient !== nothing
        above = off .* (2.0f0 / length(numbers)) # the derivative with respect to the layer's sums
        for l in length(network.layers):-1:1
            input, to = outputs[l], gradient.layers[l]
            mul!(to.weight, above, input')
            to.bias .= vec(sum(above, dims = 2))
            l > 1 && (above = (network.layers[l].weight' * above) .* (1 .- input .^ 2))
        end
    end
    return sum(abs2 ∘ Float64, off) / length(numbers)
end

# ---------------------------------------------------------------------------------------- how the package is used ----

"Answers the library's requests, at the parameters now in the network's arrays."
function meta_update!(state, network, gradient, random)
    train = shuffle!(collect(TRAIN), 2BATCH, random) # one draw, so that the two training batches are disjoint
    batches = (train_1 = train[1:BATCH], train_2 = train[BATCH+1:2BATCH],
               validation = shuffle!(collect(HELD_OUT), BATCH, random)[1:BATCH])
    MetaAdamW.meta_update!(state, network) do request
        loss = loss!(request.wants_gradient ? gradient : nothing, network, batches[request.batch])
        request.wants_gradient ? (loss, gradient) : loss
    end
end

function train(name, modulation, seed, epochs; quiet = false)
    network = new_network(seed)
    gradient = deepcopy(network)
    order_random, meta_random = Random64(seed), Random64(~seed) # separate, so that both optimizers get the same batches
    order = collect(TRAIN)
    # The learning rate is AdamW's best of 3e-4, 5e-4, 1e-3, 2e-3 and 4e-3; MetaAdamW is not tuned.
    rule = MetaAdamW.Rule(lr = 2e-3, modulation = modulation, seed = seed, total_steps = epochs * STEPS_PER_EPOCH,
                          meta_interval = META_INTERVAL, meta_warmup = STEPS_PER_EPOCH, threads = 1)

    start = time()
    # Names as in the other languages, which count from 0.
    state = MetaAdamW.setup(rule, network; first_index = 0, layer_kind = name -> :linear)
    best = last = Inf
    for epoch in 1:epochs
        loss = 0.0
        shuffle!(order, length(order), order_random)
        for step in 1:STEPS_PER_EPOCH
            loss += loss!(gradient, network, order[(step-1)*BATCH+1:step*BATCH]) / STEPS_PER_EPOCH
            MetaAdamW.update!(state, network, gradient)
            MetaAdamW.meta_due(state) && meta_update!(state, network, gradient, meta_random)
        end
        last = PPM2 * loss!(nothing, network, VALIDATION)
        best = min(best, last)
        if !quiet && (epoch == 1 || epoch % 10 == 0 || epoch == epochs)
            @printf("seed %d  %-9s  epoch %3d  MSE: train %.4f  validation %.4f  meta-updates %d\n", seed, name, epoch,
                    PPM2 * loss, last, MetaAdamW.meta_result(state).updates)
        end
    end
    outcome = (best = best, last = last, seconds = time() - start, meta_updates = MetaAdamW.meta_result(state).updates,
               groups = first.(MetaAdamW.groups(state)), factors = MetaAdamW.factors(state))
    close(state)
    return outcome
end

# ------------------------------------------------------------------------------------------------------- results ----

"Mean and standard deviation."
function spread(values)
    mean = sum(values) / length(values)
    deviation = length(values) > 1 ? sqrt(sum(abs2, values .- mean) / (length(values) - 1)) : 0.0
    return @sprintf("%8.4f +- %6.4f", mean, deviation)
end

"The numbers that follow --epochs and --seeds."
function numbers_of(arguments)
    numbers = Dict("--epochs" => 60, "--seeds" => 5)
    for i in 1:2:length(arguments)
        number = tryparse(Int, get(arguments, i + 1, ""))
        if !haskey(numbers, arguments[i]) || number === nothing || number < 1
            println(stderr, "usage: forecast.jl [--epochs N] [--seeds N]")
            exit(1)
        end
        numbers[arguments[i]] = number
    end
    return numbers["--epochs"], numbers["--seeds"]
end

function main()
    epochs, seeds = numbers_of(ARGS)
    persistence = PPM2 * sum(abs2 ∘ Float64, NEXT[VALIDATION]) / length(VALIDATION)
    println("libmetaadamw $(MetaAdamW.library_version()): $(length(SERIES)) weeks, windows of $INPUTS: ",
            "$(length(TRAIN)) to train, $(length(HELD_OUT)) held out, $(length(VALIDATION)) to validate")
    kinds = ("AdamW" => false, "MetaAdamW" => true)
    train("", true, UInt64(0), 2; quiet = true) # so that compiling is not measured
    outcomes = [train(name, modulation, UInt64(seed), epochs) for (name, modulation) in kinds, seed in 1:seeds]

    @printf("\n%d seeds (mean +- standard deviation), %d epochs; MSE in ppm²; \"as last week\" has %.4f\n\n", seeds,
            epochs, persistence)
    @printf("%-9s  %18s  %18s  %18s  %12s\n", "", "best validation", "last validation", "seconds", "meta-updates")
    for (row, (name, _)) in enumerate(kinds)
        of(measure) = spread([getfield(outcome, measure) for outcome in outcomes[row, :]])
        @printf("%-9s  %18s  %18s  %18s  %12d\n", name, of(:best), of(:last), of(:seconds),
                outcomes[row, 1].meta_updates)
    end
    println("\nMetaAdamW - AdamW, best validation, seed by seed: ",
            join((@sprintf("%+.4f", outcomes[2, s].best - outcomes[1, s].best) for s in 1:seeds), " "))
    @printf("\nMetaAdamW's factors at the end, seed %d\n\n%-28s  %6s  %6s\n", seeds, "group", "alpha", "beta")
    for group in outcomes[2, end].groups
        factors = outcomes[2, end].factors[group]
        @printf("%-28s  %6.4f  %6.4f\n", group, factors.alpha, factors.beta)
    end
end

main()
