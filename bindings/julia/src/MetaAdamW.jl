"""
MetaAdamW for Julia: AdamW with learned factors on the learning rate and the weight decay of each group of parameters. A
small attention module computes them, and meta-updates train it. libmetaadamw does the work, in place, on the model's
arrays.

    state = MetaAdamW.setup(MetaAdamW.Rule(lr = 5e-4, meta_interval = 200), model)
    MetaAdamW.update!(state, model, gradient)
    if MetaAdamW.meta_due(state)
        MetaAdamW.meta_update!(state, model) do request
            evaluate(model, batch(request))             # the loss, or (loss, gradient)
        end
    end
    MetaAdamW.save("run.safetensors", state)

With `Rule(preset = :horizon)` the module learns from the steps themselves, and [`update!`](@ref) is all that is called.

Nothing is exported, as most names are those of Optimisers.jl. See the package's README.md; options and calls are documented
in detail in `include/metaadamw.h`, and in the docstrings of `MetaAdamW.Raw`.
"""
module MetaAdamW

import LinearAlgebra
import Libdl
import Random
import Serialization

include("raw.jl")
include("errors.jl")
include("library.jl")
include("half.jl")
include("rule.jl")
include("walk.jl")
include("log.jl")
include("reduction.jl")
include("state.jl")
include("setup.jl")
include("device.jl")
include("update.jl")
include("meta.jl")
include("averages.jl")
include("inspect.jl")
include("checkpoint.jl")

"""
    optimisers_rule(rule; setup's keywords…)

A rule for `Optimisers.setup`, `Flux.setup` and Lux's `TrainState`: an `Optimisers.AbstractRule` that updates the whole
tree. Needs Optimisers.jl to be loaded and Julia 1.9 (a package extension).
"""
optimisers_rule(arguments...; keywords...) =
    throw(ArgumentError("optimisers_rule takes a MetaAdamW.Rule; Optimisers.jl must be loaded (Julia 1.9 or later)"))

function __init__()
    load_library_or_precompile()
    LOG_TRAMPOLINE[] = @cfunction(receive_log, Cvoid, (Int32, Ptr{UInt8}, Ptr{Cvoid}))
    REDUCTION_TRAMPOLINE[] = @cfunction(receive_reduction, Int32, (Ptr{Float64}, Csize_t, Ptr{Cvoid}))
    return nothing
end

@static if VERSION >= v"1.11.0-DEV.469"
    eval(Expr(:public, :Rule, :setup, :setup!, :State, :update!, :adjust!, :freeze!, :thaw!, :meta_due, :meta_update!, :Request,
              :meta_result, :report, :save, :load!, :load_report, :dump_state, :factors, :features, :attention, :set_attention!,
              :meta_gradient, :reset!, :observe_gradient!, :set_log!, :tensor_names, :groups, :param_groups, :tensor_state,
              :set_tensor_state!, :counters, :set_counters!, :average, :with_averages, :swap_averages!, :masters, :set_masters!, :BFloat16, :element_dtype, :step_count,
              :learning_rates, :weight_decays, :betas, :epsilons, :max_grad_norm, :priorities, :trainable, :unwrap,
              :optimisers_rule, :DeviceArray, :cuda_available, :set_stream!, :shard_range, :library_path, :library_version, :MetaAdamWError, :Raw))
end

end # module MetaAdamW
