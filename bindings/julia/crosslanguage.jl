# The Julia side of tests/cross_language.rs: trains a fixed little model, from a checkpoint or from the start.
#
#     julia crosslanguage.jl train STEPS LEARNING LOAD SAVE PARAMS_IN PARAMS_OUT
#
# STEPS steps. LEARNING: the step that a meta-update follows (0: none), or "horizon". LOAD, SAVE: checkpoints; PARAMS_IN,
# PARAMS_OUT: the parameters' bytes, tensor after tensor; "-": none.

push!(LOAD_PATH, @__DIR__)
using MetaAdamW

# The C side's shapes are [6, 4], [6] and [1, 6], row-major; in Julia the same memory is 4×6, 6 and 6×1.
new_model() = (
    layers = ((weight = Array{Float32}(undef, 4, 6), bias = Array{Float32}(undef, 6)),),
    head = (weight = Array{Float64}(undef, 6, 1),),
)
tensors(tree) = (tree.layers[1].weight, tree.layers[1].bias, tree.head.weight)

"Numbers every element in the order of memory, from 0 on."
function each_element(f, tree)
    k = 0
    for tensor in tensors(tree), i in eachindex(tensor)
        f(tensor, i, k)
        k += 1
    end
end

function start!(model)
    each_element(model) do tensor, i, k
        tensor[i] = (k * 37 % 101) / 101 - 0.5
    end
end

"The loss ½ Σ c (x - y)² of batch b; fills the gradient."
function evaluate!(gradient, model, b)
    slopes = Float64[]
    loss = 0.0
    each_element(model) do tensor, i, k
        c = 1 + ((k * 13 + b * 7) % 17) / 17
        y = ((k * 29 + b * 11) % 89) / 89 - 0.5
        off = Float64(tensor[i]) - y
        loss += 0.5 * c * off * off
        push!(slopes, c * off)
    end
    each_element(gradient) do tensor, i, k
        tensor[i] = slopes[k + 1]
    end
    return loss, gradient
end

const BATCH = Dict(:train_1 => 1, :train_2 => 2, :validation => 3)

function train(steps, learning, load, save, params_in, params_out)
    model, gradient = new_model(), new_model()
    start!(model)
    params_in == "-" || open(io -> foreach(tensor -> read!(io, tensor), tensors(model)), params_in)

    from_steps = learning == "horizon"
    meta_after = from_steps ? 0 : parse(Int, learning)
    options = from_steps ? (preset = :horizon, meta_interval = 3, meta_warmup = 2, horizon = 4) :
              (meta_interval = 7, attn_layers = 2)
    rule = MetaAdamW.Rule(; lr = 1e-2, weight_decay = 1e-1, seed = 7, total_steps = 14, attn_hidden_dim = 8, threads = 1,
                          options...)
    state = MetaAdamW.setup(rule, model; first_index = 0)
    load == "-" || MetaAdamW.load!(state, load)

    first_step = MetaAdamW.step_count(state)
    for step in 1:steps
        evaluate!(gradient, model, 10 + first_step + step - 1)
        MetaAdamW.update!(state, model, gradient)
        if step == meta_after
            MetaAdamW.meta_update!(request -> evaluate!(gradient, model, BATCH[request.batch]), state, model)
        end
    end

    save == "-" || MetaAdamW.save(save, state)
    params_out == "-" || open(io -> foreach(tensor -> write(io, tensor), tensors(model)), params_out, "w")
    close(state)
end

if length(ARGS) == 7 && ARGS[1] == "train"
    train(parse(Int, ARGS[2]), ARGS[3:7]...)
else
    println(stderr, "usage: crosslanguage.jl train STEPS LEARNING LOAD SAVE PARAMS_IN PARAMS_OUT")
    exit(2)
end
