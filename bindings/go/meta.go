package metaadamw

// #include <metaadamw.h>
import "C"

import (
	"errors"
	"runtime"
	"unsafe"
)

// Batch says what a request is to be evaluated on.
type Batch int32

const (
	Train1     Batch = C.MAW_BATCH_TRAIN_1    // the first training batch (training mode)
	Train2     Batch = C.MAW_BATCH_TRAIN_2    // the second training batch, disjoint from the first (training mode)
	Validation Batch = C.MAW_BATCH_VALIDATION // the validation batch (evaluation mode)
)

func (b Batch) String() string { return nameOf(int(b), "none", "train 1", "train 2", "validation") }

// A Request says what to evaluate next, at the parameters now in the host's slices.
//
// While it is open, do not write to the parameters, and do not let the evaluation change anything that later steps
// depend on (running statistics of a batch norm).
type Request struct {
	// ID of this request, counted from 1 over the optimizer's lifetime.
	ID uint64
	// Replay is the ID of an earlier request whose batch and random numbers (dropout) must be used again; 0 = any.
	Replay uint64
	// Seed for the generator of the random numbers (dropout), rand.New(rand.NewPCG(r.Seed, 0)): the same for requests that
	// replay one another and else another, so that a host which seeds with it need not remember Replay. A resumed run gets
	// the same.
	Seed uint64
	// Batch to evaluate on.
	Batch Batch
	// WantsGradient: the gradients are wanted in addition to the loss.
	WantsGradient bool
	// Done: the meta-update has ended; the parameters have the same bits as at [Optimizer.MetaBegin].
	Done bool
}

// An Answer to a request.
type Answer struct {
	// RequestID is the ID of the request being answered.
	RequestID uint64
	// Loss, without loss scaling.
	Loss float64
	// GradScale: loss scale of the gradients, which are divided by it; > 0. 0 = 1.
	GradScale float64
}

// A Result of the last meta-update, or of how the attention module last learned from steps ([ObjectiveHorizon]). Terms and
// losses that the objective does not need are NaN.
type Result struct {
	// Step is the number of applied steps when it began.
	Step int
	// Updates is the number of meta-updates so far that ended with OutcomeUpdated.
	Updates int
	// LossTrain, LossValidation: on the first training batch and on the validation batch.
	LossTrain, LossValidation float64
	// LossTrainMoved, LossValidationMoved: after the trial step, on the second training batch and the validation batch.
	LossTrainMoved, LossValidationMoved float64
	// Gradient alignment (eq. 10), loss decrease (eq. 11), generalization gap (eq. 12).
	TermGradient, TermLossDecrease, TermGenGap float64
	// LossMeta is the objective, regularization included.
	LossMeta float64
	// Evaluations is the number of the host's evaluations.
	Evaluations int
	// IdleGroups is the number of modulation groups whose gradient norm on the second training batch is below 1e-5 of
	// the largest.
	IdleGroups int
	// Outcome of the meta-update.
	Outcome Outcome
}

// Outcome of a meta-update.
type Outcome int32

const (
	OutcomeNone                  Outcome = C.MAW_OUTCOME_NONE                     // none has ended yet
	OutcomeUpdated               Outcome = C.MAW_OUTCOME_UPDATED                  // the attention module was updated
	OutcomeAborted               Outcome = C.MAW_OUTCOME_ABORTED                  // the host aborted it
	OutcomeLossNotFinite         Outcome = C.MAW_OUTCOME_LOSS_NOT_FINITE          // a loss from the host
	OutcomeGradientNotFinite     Outcome = C.MAW_OUTCOME_GRADIENT_NOT_FINITE      // a gradient from the host
	OutcomeStateNotFinite        Outcome = C.MAW_OUTCOME_STATE_NOT_FINITE         // a parameter, moment, feature or factor, or a parameter after the trial step
	OutcomeDirectionNotFinite    Outcome = C.MAW_OUTCOME_DIRECTION_NOT_FINITE     // the direction of the Hessian-vector product, or the step along it rounds to 0
	OutcomeMetaGradientNotFinite Outcome = C.MAW_OUTCOME_META_GRADIENT_NOT_FINITE // the gradient of the attention module
)

func (o Outcome) String() string {
	return nameOf(int(o), "none", "updated", "aborted", "loss not finite", "gradient not finite", "state not finite",
		"direction not finite", "meta-gradient not finite")
}

// MetaDue reports whether a meta-update is due; false after Close, and always
// with [ObjectiveHorizon]. While another goroutine is inside a call it waits, as a
// false "no" would lose the meta-update: the question is about this step only.
//
// In the function of [Optimizer.SetReduction] or [Optimizer.SetDeviceReduction], which runs inside a call, it is false.
func (o *Optimizer) MetaDue() bool {
	if o.inReduction() {
		return false
	}
	o.mu.Lock() // not for long
	due := false
	err := o.locked(func(handle *C.maw_optimizer, _ **C.maw_error) C.maw_status {
		due = C.maw_meta_due(handle) != 0
		return C.MAW_OK
	})
	return due && err == nil
}

// MetaUpdate makes a meta-update, due or not. It calls evaluate several times, with different values in params, for the
// loss and, if the request wants them, for the gradients in grads. Then it restores the parameters bit for bit and
// updates the attention module.
//
// If evaluate returns an error, the meta-update is aborted: the parameters are restored, the attention module is
// unchanged, and the error comes back as the cause of [ErrAborted]. The same happens if it panics or ends the goroutine. A loss or gradient
// that is not finite abandons the meta-update without an error: the result gives the reason.
//
// An aborted meta-update counts as done: [Optimizer.MetaDue] is true again an interval later, and so it is in a run that is
// saved now and resumed. To do it again, here or after the resume, with the same bits as without the interruption, call
// [Optimizer.SetCounters] with the counters from before it.
//
// evaluate may replace the slices in grads, and may call getters; other calls return [ErrInvalidState], Close and a
// second MetaUpdate [ErrBusy]. grads may be nil if the objective needs losses only.
func (o *Optimizer) MetaUpdate(params, grads Slices, evaluate func(Request) (loss float64, err error)) (Result, error) {
	return o.MetaUpdateWith(params, grads, func(r Request) (Answer, error) {
		loss, err := evaluate(r)
		return Answer{Loss: loss}, err
	})
}

// MetaUpdateWith is [Optimizer.MetaUpdate] with a closure that gives the whole answer, for gradients with a loss scale:
// Answer{Loss: loss, GradScale: 1024}. A RequestID of 0 is the request's.
func (o *Optimizer) MetaUpdateWith(params, grads Slices, evaluate func(Request) (Answer, error)) (result Result, err error) {
	var pinner runtime.Pinner // of the parameters, until the end
	defer pinner.Unpin()
	var pointers []unsafe.Pointer
	var request C.maw_meta_request
	C.maw_meta_request_init(&request, C.sizeof_maw_meta_request)

	open, evaluating := false, false
	defer func() { // whatever ends this early: an error, a panic, Goexit
		if open {
			o.mu.Lock()
			if failed := o.locked(func(handle *C.maw_optimizer, failure **C.maw_error) C.maw_status {
				o.updating = false
				if evaluating { // other processes wait for the answer
					o.refuseAnswer(handle)
				}
				return C.maw_meta_abort(handle, unsafe.SliceData(pointers), C.size_t(len(pointers)), failure)
			}); failed != nil && !errors.Is(failed, ErrInvalidState) { // ErrInvalidState: the library has ended it already
				err = errors.Join(err, failed)
			}
		}
	}()

	// Under the lock of the same call, so that the result is this meta-update's.
	next := func(handle *C.maw_optimizer, failure **C.maw_error) (status C.maw_status) {
		open = request.kind != C.MAW_META_DONE
		o.updating = open
		if !open {
			result, status = metaResult(handle, failure)
		}
		return status
	}
	err = o.checked(func(handle *C.maw_optimizer, failure **C.maw_error) (C.maw_status, error) {
		if o.updating {
			return C.MAW_OK, busy("a MetaUpdate")
		}
		var err error
		if pointers, err = pinParams(&pinner, o.tensors, params, nil); err != nil {
			o.refuseBegin(handle)
			return C.MAW_OK, err
		}
		status := C.maw_meta_begin(handle, unsafe.SliceData(pointers), C.size_t(len(pointers)), &request, failure)
		if status != C.MAW_OK {
			return status, nil
		}
		return next(handle, failure), nil
	})
	for err == nil && open {
		asked := toRequest(&request)
		evaluating = true
		answer, failed := evaluate(asked)
		if failed != nil {
			return Result{}, &Error{ErrAborted, "meta-update aborted: " + failed.Error(), failed}
		}
		if answer.RequestID == 0 {
			answer.RequestID = asked.ID
		}
		o.mu.Lock() // waits, so that a getter meanwhile does not end the meta-update
		var wrong error
		err = o.locked(func(handle *C.maw_optimizer, failure **C.maw_error) (status C.maw_status) {
			evaluating = false
			status, wrong = o.tell(handle, answer, asked.WantsGradient, pointers, grads, &request, failure)
			if wrong != nil || status != C.MAW_OK {
				return status
			}
			return next(handle, failure)
		})
		err = joined(wrong, err)
	}
	return result, err
}

// tell answers a request, with gradients if they are wanted or given.
func (o *Optimizer) tell(handle *C.maw_optimizer, answer Answer, wanted bool, params []unsafe.Pointer, grads Slices, request *C.maw_meta_request, failure **C.maw_error) (C.maw_status, error) {
	defer func() {
		o.pinner.Unpin()
		clear(o.grads)
	}()
	o.grads = o.grads[:0]
	if wanted {
		var err error
		if o.grads, err = pinGrads(&o.pinner, o.tensors, grads, o.grads); err != nil {
			o.refuseAnswer(handle)
			return C.MAW_OK, err
		}
	}
	var raw C.maw_meta_answer
	C.maw_meta_answer_init(&raw, C.sizeof_maw_meta_answer)
	raw.request_id = C.uint64_t(answer.RequestID)
	raw.loss = C.double(answer.Loss)
	if answer.GradScale != 0 {
		raw.grad_scale = C.double(answer.GradScale)
	}
	var gradients *unsafe.Pointer
	if wanted {
		gradients = unsafe.SliceData(o.grads)
	}
	return C.maw_meta_tell(handle, &raw, unsafe.SliceData(params), gradients, C.size_t(len(params)), request, failure), nil
}

func toRequest(c *C.maw_meta_request) Request {
	return Request{
		ID:            uint64(c.id),
		Replay:        uint64(c.replay),
		Seed:          uint64(c.seed),
		Batch:         Batch(c.batch),
		WantsGradient: c.kind == C.MAW_META_GRADIENT,
		Done:          c.kind == C.MAW_META_DONE,
	}
}

func metaResult(handle *C.maw_optimizer, failure **C.maw_error) (Result, C.maw_status) {
	var c C.maw_meta_result
	C.maw_meta_result_init(&c, C.sizeof_maw_meta_result)
	status := C.maw_meta_result_get(handle, &c, failure)
	if status != C.MAW_OK {
		return Result{}, status
	}
	return Result{
		Step:                int(c.step),
		Updates:             int(c.updates),
		LossTrain:           float64(c.loss_train),
		LossValidation:      float64(c.loss_validation),
		LossTrainMoved:      float64(c.loss_train_moved),
		LossValidationMoved: float64(c.loss_validation_moved),
		TermGradient:        float64(c.term_gradient),
		TermLossDecrease:    float64(c.term_loss_decrease),
		TermGenGap:          float64(c.term_gen_gap),
		LossMeta:            float64(c.loss_meta),
		Evaluations:         int(c.evaluations),
		IdleGroups:          int(c.idle_groups),
		Outcome:             Outcome(c.outcome),
	}, status
}

// MetaBegin begins a meta-update without a closure:
//
//	request, err := optimizer.MetaBegin(params)
//	for err == nil && !request.Done {
//		loss := evaluate(request) // gradients into grads
//		request, err = optimizer.MetaTell(metaadamw.Answer{RequestID: request.ID, Loss: loss}, params, grads)
//	}
//
// To stop earlier, call [Optimizer.MetaAbort], which restores the parameters; Close does not.
func (o *Optimizer) MetaBegin(params Slices) (Request, error) {
	return o.ask(params, (*Optimizer).refuseBegin, func(handle *C.maw_optimizer, pointers []unsafe.Pointer, request *C.maw_meta_request, failure **C.maw_error) (C.maw_status, error) {
		return C.maw_meta_begin(handle, unsafe.SliceData(pointers), C.size_t(len(pointers)), request, failure), nil
	})
}

// MetaTell answers the open request and returns the next one. grads may be nil if only the loss is wanted. After
// [ErrInvalidArgument] the request is still open.
func (o *Optimizer) MetaTell(answer Answer, params, grads Slices) (Request, error) {
	return o.ask(params, (*Optimizer).refuseAnswer, func(handle *C.maw_optimizer, pointers []unsafe.Pointer, request *C.maw_meta_request, failure **C.maw_error) (C.maw_status, error) {
		return o.tell(handle, answer, grads != nil, pointers, grads, request, failure)
	})
}

// MetaAbort aborts an open meta-update: the parameters are restored bit for bit, the attention module is unchanged.
func (o *Optimizer) MetaAbort(params Slices) error {
	alone := func(*Optimizer, *C.maw_optimizer) {} // the others do not take part
	_, err := o.ask(params, alone, func(handle *C.maw_optimizer, pointers []unsafe.Pointer, _ *C.maw_meta_request, failure **C.maw_error) (C.maw_status, error) {
		return C.maw_meta_abort(handle, unsafe.SliceData(pointers), C.size_t(len(pointers)), failure), nil
	})
	return err
}

// ask calls f with pinned parameters; refuse, if they are unusable.
func (o *Optimizer) ask(params Slices, refuse func(*Optimizer, *C.maw_optimizer), f func(handle *C.maw_optimizer, pointers []unsafe.Pointer, request *C.maw_meta_request, failure **C.maw_error) (C.maw_status, error)) (Request, error) {
	var request C.maw_meta_request
	C.maw_meta_request_init(&request, C.sizeof_maw_meta_request)
	var pinner runtime.Pinner
	defer pinner.Unpin()
	err := o.checked(func(handle *C.maw_optimizer, failure **C.maw_error) (C.maw_status, error) {
		if o.updating {
			return C.MAW_OK, busy("a MetaUpdate")
		}
		pointers, err := pinParams(&pinner, o.tensors, params, nil)
		if err != nil {
			refuse(o, handle)
			return C.MAW_OK, err
		}
		return f(handle, pointers, &request, failure)
	})
	if err != nil {
		return Request{}, err
	}
	return toRequest(&request), nil
}

// MetaResult returns the result of the last meta-update, or of the last time that the attention module learned from steps.
func (o *Optimizer) MetaResult() (result Result, err error) {
	err = o.call(func(handle *C.maw_optimizer, failure **C.maw_error) (status C.maw_status) {
		result, status = metaResult(handle, failure)
		return status
	})
	return result, err
}
