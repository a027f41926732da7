# The options of the library and the hyper-parameters of a param group, by keyword.

"For each option that is an enumeration, its names; the prefix of the C constants is left out."
const ENUMERATIONS = Dict{Symbol, NamedTuple}(
    :semantics => (paper = Raw.MAW_PAPER, reference = Raw.MAW_REFERENCE),
    :feature_version => (basic = Raw.MAW_FEATURES_BASIC, basic_plus = Raw.MAW_FEATURES_BASIC_PLUS,
                         enhanced = Raw.MAW_FEATURES_ENHANCED, norm_basic = Raw.MAW_FEATURES_NORM_BASIC,
                         norm_basic_plus = Raw.MAW_FEATURES_NORM_BASIC_PLUS, norm_log = Raw.MAW_FEATURES_NORM_LOG),
    :grouping => (fine_grained = Raw.MAW_GROUPING_FINE_GRAINED, by_param_group = Raw.MAW_GROUPING_BY_PARAM_GROUP,
                  custom = Raw.MAW_GROUPING_CUSTOM),
    :init => (xavier = Raw.MAW_INIT_XAVIER, identity = Raw.MAW_INIT_IDENTITY),
    :objective => (combined = Raw.MAW_OBJECTIVE_COMBINED, gradient = Raw.MAW_OBJECTIVE_GRADIENT,
                   loss_decrease = Raw.MAW_OBJECTIVE_LOSS_DECREASE, gen_gap = Raw.MAW_OBJECTIVE_GEN_GAP,
                   horizon = Raw.MAW_OBJECTIVE_HORIZON),
    :meta_optimizer => (sgd = Raw.MAW_META_SGD, adamw = Raw.MAW_META_ADAMW),
    :weighting => (huw = Raw.MAW_WEIGHTING_HUW, fixed = Raw.MAW_WEIGHTING_FIXED, sum = Raw.MAW_WEIGHTING_SUM),
    :huw_kinds => (regression = Raw.MAW_KIND_REGRESSION, classification = Raw.MAW_KIND_CLASSIFICATION),
    :difference => (central = Raw.MAW_DIFFERENCE_CENTRAL, forward = Raw.MAW_DIFFERENCE_FORWARD,
                    first_order = Raw.MAW_DIFFERENCE_FIRST_ORDER),
    :nonfinite => (skip = Raw.MAW_NONFINITE_SKIP, error = Raw.MAW_NONFINITE_ERROR,
                   propagate = Raw.MAW_NONFINITE_PROPAGATE),
    :precision => (nearest = Raw.MAW_PRECISION_NEAREST, master = Raw.MAW_PRECISION_MASTER,
                   remainder = Raw.MAW_PRECISION_REMAINDER, stochastic = Raw.MAW_PRECISION_STOCHASTIC),
    :moment_dtype => (automatic = Int32(0), float32 = Raw.MAW_FLOAT32, bfloat16 = Raw.MAW_BFLOAT16),
    :average_dtype => (automatic = Int32(0), bfloat16 = Raw.MAW_BFLOAT16),
    :device => (cpu = Raw.MAW_CPU, cuda = Raw.MAW_CUDA),
)

"Options that belong together, for `Rule(preset = …)`."
const PRESETS = (horizon = Raw.MAW_PRESET_HORIZON,)

"Of one tensor, where 0 is that of its param group."
const TENSOR_PRECISIONS = merge(ENUMERATIONS[:precision], (nearest = Raw.MAW_PRECISION_TENSOR_NEAREST,))

const LAYER_KINDS = (unknown = Raw.MAW_LAYER_UNKNOWN, linear = Raw.MAW_LAYER_LINEAR,
                     embedding = Raw.MAW_LAYER_EMBEDDING, attention = Raw.MAW_LAYER_ATTENTION,
                     layernorm = Raw.MAW_LAYER_LAYERNORM, convolution = Raw.MAW_LAYER_CONVOLUTION,
                     batchnorm = Raw.MAW_LAYER_BATCHNORM, recurrent = Raw.MAW_LAYER_RECURRENT)

"The number of an enumeration's name; `what` names it in an error."
function enumerated(what, names::NamedTuple, name::Symbol)
    haskey(names, name) || throw(ArgumentError("$what = $(repr(name)): it is one of $(join(repr.(keys(names)), ", "))"))
    return Int32(names[name])
end
enumerated(what, names::NamedTuple, name) =
    throw(ArgumentError("$what = $(repr(name)): a Symbol is expected, one of $(join(repr.(keys(names)), ", "))"))

"A keyword's value as the field of a C struct."
function as_field(::Type{T}, name::Symbol, value) where {T}
    try
        if haskey(ENUMERATIONS, name)
            names = ENUMERATIONS[name]
            T <: Tuple || return enumerated(name, names, value)
            return map(v -> enumerated(name, names, v), convert(NTuple{fieldcount(T), Any}, Tuple(value)))
        end
        return T <: Tuple ? convert(T, Tuple(value)) : convert(T, value)
    catch e
        e isa Union{MethodError, InexactError} || rethrow()
        throw(ArgumentError("$name = $(repr(value)) is not usable: a value for the C type $T is expected"))
    end
end

const OPTION_NAMES = filter(!=(:struct_size), fieldnames(Raw.maw_options))
const HYPERPARAMETER_NAMES = filter(!=(:struct_size), fieldnames(Raw.maw_param_group))

"Names of the same in Optimisers.jl and elsewhere."
const OTHER_NAMES = Dict(
    :eta => (:lr,), :η => (:lr,), :learning_rate => (:lr,), :beta => (:beta1, :beta2), :betas => (:beta1, :beta2),
    :epsilon => (:eps,), :ϵ => (:eps,), :lambda => (:weight_decay,), :decay => (:weight_decay,), :wd => (:weight_decay,))

function unknown_keyword(what, name, known)
    ours = get(OTHER_NAMES, name, ())
    hint = !isempty(ours) && all(in(known), ours) ? " (here it is $(join(ours, " and ")))" : ""
    throw(ArgumentError("$what has no keyword `$name`$hint; it knows $(join(known, ", "))"))
end

"A param group's hyper-parameters with some changed by keyword."
function hyperparameters(group::Raw.maw_param_group, keywords; what = "a param group")
    changes = Dict{Symbol, Any}()
    for (name, value) in pairs(keywords)
        name in HYPERPARAMETER_NAMES || unknown_keyword(what, name, HYPERPARAMETER_NAMES)
        changes[name] = as_field(fieldtype(Raw.maw_param_group, name), name, value)
    end
    return change(group; changes...)
end

"""
    Rule(; keywords…)

Options and hyper-parameters. The keywords, all optional, are

- a param group's hyper-parameters: `lr` (5e-4), `beta1`, `beta2`, `eps`, `weight_decay` (1e-2); for 16-bit parameters
  (others ignore it) `precision` (`:nearest`, `:master`, `:remainder`, `:stochastic`); `moment_dtype` (`:automatic`,
  `:float32`, `:bfloat16`);
- the options of the library, by their C names: `meta_interval`, `total_steps`, `seed`, `alpha_range`, `modulation` …
- `preset = :horizon`: options with which the attention module learns from steps alone, so that [`update!`](@ref) is all that a
  program calls; the other keywords change what they name (`?MetaAdamW.Raw.MAW_PRESET_HORIZON`).

Enumerations are Symbols, the C constants in lower case without their prefix: `feature_version = :basic_plus`,
`init = :identity`. The default, `init = :xavier`, starts with a random learning rate: after ten steps of a small Transformer
the mean alpha over seeds 1…20 lies between 0.50 and 1.49, and a quarter of all factors is at a bound; `init = :identity` starts
as AdamW. An unknown keyword is an error. The library checks values in [`setup`](@ref). For the meaning, range and
default of each see `?MetaAdamW.Raw.maw_options` and `?MetaAdamW.Raw.maw_param_group`, for one of them
`?MetaAdamW.Raw.maw_options.meta_interval`.

```jldoctest
julia> MetaAdamW.Rule(lr = 1e-3, meta_interval = 100, init = :identity)
MetaAdamW.Rule(lr = 0.001, meta_interval = 100, init = :identity)
```
"""
struct Rule
    options::Raw.maw_options
    group::Raw.maw_param_group

    function Rule(; keywords...)
        known = (HYPERPARAMETER_NAMES..., OPTION_NAMES..., :preset)
        changes, of_group = Dict{Symbol, Any}(), Dict{Symbol, Any}()
        init_options = Raw.maw_options_init
        for (name, value) in keywords
            if name === :preset
                preset = enumerated("preset", PRESETS, value)
                init_options = (options, size) -> Raw.maw_options_preset(options, size, preset)
            elseif name in OPTION_NAMES
                changes[name] = as_field(fieldtype(Raw.maw_options, name), name, value)
            elseif name in HYPERPARAMETER_NAMES
                of_group[name] = value
            else
                unknown_keyword("Rule", name, known)
            end
        end
        options = defaults(Raw.maw_options, init_options)
        group = defaults(Raw.maw_param_group, Raw.maw_param_group_init)
        return new(change(options; changes...), hyperparameters(group, of_group))
    end
end

"A field as the user would write it."
function as_keyword(name::Symbol, value)
    haskey(ENUMERATIONS, name) || return value
    names = ENUMERATIONS[name]
    named(v) = keys(names)[findfirst(==(v), collect(values(names)))]
    return value isa Tuple ? map(named, value) : named(value)
end

function Base.show(io::IO, rule::Rule)
    plain = Rule()
    texts = String[]
    for (now, default) in ((rule.group, plain.group), (rule.options, plain.options)), name in fieldnames(typeof(now))
        value = getfield(now, name)
        value === getfield(default, name) && continue
        push!(texts, "$name = $(repr(as_keyword(name, value isa Unsigned ? Int128(value) : value)))")
    end
    print(io, "MetaAdamW.Rule(", join(texts, ", "), ")")
end
