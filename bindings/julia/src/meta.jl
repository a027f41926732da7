# The meta-update: the library's requests, answered by a function of the user.

"""
    Request

What to evaluate next in a meta-update, at the parameters now in the model's arrays:

- `batch`: `:train_1` or `:train_2` (two disjoint training batches, training mode) or `:validation` (evaluation mode);
- `wants_gradient`: whether the answer must be `(loss, gradient)`; if not, the loss is enough;
- `id`: the number of this request, counted from 1;
- `replay`: the number of an earlier request whose batch and random numbers (dropout) must be used again; 0 = any;
- `seed`: for the generator of these numbers, `Random.seed!(rng, request.seed)`: the same for requests that replay one another
  and else another, so that `replay` need not be remembered. A resumed run gets the same.
"""
struct Request
    batch::Symbol
    wants_gradient::Bool
    id::Int
    replay::Int
    seed::UInt64
end

const BATCHES = Dict{Int32, Symbol}(Raw.MAW_BATCH_TRAIN_1 => :train_1, Raw.MAW_BATCH_TRAIN_2 => :train_2,
                                    Raw.MAW_BATCH_VALIDATION => :validation)

Request(r::Raw.maw_meta_request) = Request(BATCHES[r.batch], r.kind == Raw.MAW_META_GRADIENT, r.id, r.replay, r.seed)

"""
    meta_due(state)

Whether a meta-update is due: every `meta_interval` steps, from step `meta_warmup` on; never with
`Rule(preset = :horizon)`.
"""
meta_due(state::State) = locked(handle -> Raw.maw_meta_due(handle) == 1, state)

"""
    meta_update!(f, state, model; grad_scale = 1)

Trains the attention module. `f(request)` is called several times, each time with other values in the arrays of
`model`; it evaluates the batch that the [`Request`](@ref) names and returns the loss, or `(loss, gradient)` if the
request wants a gradient (both are always allowed, and so is what Zygote.withgradient returns). It must not write to the
parameters nor change anything else that later steps depend on, such as running statistics.

    meta_update!(state, model) do request
        loss_and_gradient(model, batch_for(request))
    end

Afterwards the arrays are restored bit for bit, and the attention module is updated; returns [`meta_result`](@ref). If `f`
throws, or is interrupted (Ctrl-C), the meta-update is aborted: the arrays are restored, the attention module is unchanged, and
the exception is rethrown. The library counts it as ended, so that [`meta_due`](@ref) is false until the next interval, also
after [`save`](@ref) and [`load!`](@ref). To go on as without the interruption, call `meta_update!` again before the next step:

    catch e
        e isa InterruptException || rethrow()
        MetaAdamW.save(path, state)     # and the model; after load!: meta_update!(f, state, model), then the next step
"""
function meta_update!(f, state::State, model; grad_scale::Real = 1)
    arrays, empty_answer = or_refuse(state, refuse_begin) do
        (first(matched(state, model, nothing)),
         change(defaults(Raw.maw_meta_answer, Raw.maw_meta_answer_init); grad_scale = grad_scale))
    end
    none = Ptr{Cvoid}[C_NULL for _ in arrays]
    request = Ref(defaults(Raw.maw_meta_request, Raw.maw_meta_request_init))
    begun = Ref(false)      # of this call: one that is open already is not ours to abort
    GC.@preserve arrays begin
        try
            locked(state) do handle
                call(Raw.maw_meta_begin, handle, addresses(state, arrays), length(arrays), request)
                begun[] = state.in_meta_update = true
            end
            while request[].kind != Raw.MAW_META_DONE
                asked = Request(request[])
                gradients, answer = or_refuse(state, refuse_answer) do
                    loss, gradient = loss_and_gradient(f(asked), asked)
                    (asked.wants_gradient ? last(matched(state, model, gradient)) : nothing,
                     change(empty_answer; request_id = request[].id, loss = loss))
                end
                locked(state) do handle
                    GC.@preserve gradients call(
                        Raw.maw_meta_tell, handle, Ref(answer), addresses(state, arrays),
                        gradients === nothing ? none : gradient_addresses(state, gradients), length(arrays), request)
                end
            end
        catch
            begun[] || rethrow()
            try
                locked(handle -> call(Raw.maw_meta_abort, handle, addresses(state, arrays), length(arrays)), state)
            catch e
                # An error inside the library has closed the meta-update already.
                e isa MetaAdamWError || rethrow()
            end
            rethrow()
        finally
            begun[] && (state.in_meta_update = false)
        end
    end
    return meta_result(state)
end

loss_and_gradient(loss::Real, asked::Request) = asked.wants_gradient ? throw(ArgumentError(
    "the function given to meta_update! answered a loss; request $(asked.id) wants (loss, gradient)")) : (loss, nothing)
loss_and_gradient(answer::Tuple{Real, Any}, asked::Request) = answer
loss_and_gradient(answer::NamedTuple{(:val, :grad), <:Tuple{Real, Any}}, asked::Request) = (answer.val, answer.grad)
loss_and_gradient(answer, asked::Request) = throw(ArgumentError(
    "the function given to meta_update! answered a $(typeof(answer)); a loss or (loss, gradient) is expected"))

const OUTCOMES = Dict{Int32, Symbol}(
    Raw.MAW_OUTCOME_NONE => :none, Raw.MAW_OUTCOME_UPDATED => :updated, Raw.MAW_OUTCOME_ABORTED => :aborted,
    Raw.MAW_OUTCOME_LOSS_NOT_FINITE => :loss_not_finite, Raw.MAW_OUTCOME_GRADIENT_NOT_FINITE => :gradient_not_finite,
    Raw.MAW_OUTCOME_STATE_NOT_FINITE => :state_not_finite,
    Raw.MAW_OUTCOME_DIRECTION_NOT_FINITE => :direction_not_finite,
    Raw.MAW_OUTCOME_META_GRADIENT_NOT_FINITE => :meta_gradient_not_finite)

"""
    meta_result(state)

The result of the last meta-update, or of the last time that the attention module learned from steps, as a NamedTuple. `outcome` is `:updated`, `:aborted`, or says what was not finite;
`:none` before the first one. `updates` is the number of completed meta-updates; the other fields are those of
`MetaAdamW.Raw.maw_meta_result`. What the objective does not need is NaN.
"""
function meta_result(state::State)
    result = Ref(defaults(Raw.maw_meta_result, Raw.maw_meta_result_init))
    locked(handle -> call(Raw.maw_meta_result_get, handle, result), state)
    r = result[]
    return (outcome = get(OUTCOMES, r.outcome, :unknown), step = Int(r.step), updates = Int(r.updates),
            loss_train = r.loss_train, loss_validation = r.loss_validation, loss_train_moved = r.loss_train_moved,
            loss_validation_moved = r.loss_validation_moved, term_gradient = r.term_gradient,
            term_loss_decrease = r.term_loss_decrease, term_gen_gap = r.term_gen_gap, loss_meta = r.loss_meta,
            evaluations = Int(r.evaluations), idle_groups = Int(r.idle_groups))
end
