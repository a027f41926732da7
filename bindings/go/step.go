package metaadamw

// #include <metaadamw.h>
import "C"

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"
)

// StepOptions are the options of a single step. The zero value is the defaults.
type StepOptions struct {
	// GradScale: loss scale of the gradients, which are divided by it; > 0. 0 = 1.
	GradScale float64
	// ParamsChanged: the host changed parameters since the last step. The library recomputes its norms and sets masters to
	// the new parameters.
	ParamsChanged bool
	// DeviceGradScale replaces GradScale: a float32 in device memory, read when the step runs.
	DeviceGradScale Slice
	// FoundInf: a float32 in device memory, read when the step runs; the step is skipped unless it is 0.
	FoundInf Slice
}

// A Report of a step.
type Report struct {
	// Step is the number of applied steps, this one included.
	Step int
	// SkippedSteps is the number of skipped steps, this one included.
	SkippedSteps int
	// GradNorm is the Euclidean norm of all gradients after GradScale, before clipping.
	GradNorm float64
	// ClipFactor is the factor by which clipping multiplied the gradients; 1 without clipping.
	ClipFactor float64
	// Skipped: the step was not applied, because a value is not finite.
	Skipped bool
	// SkipReason of a skipped step.
	SkipReason SkipReason
	// NonfiniteTensor is the index of the first tensor that is not finite, or −1.
	NonfiniteTensor int
}

// SkipReason says what was not finite.
type SkipReason int32

const (
	SkipNone      SkipReason = C.MAW_SKIP_NONE      // the step was applied
	SkipGradient  SkipReason = C.MAW_SKIP_GRADIENT  // a gradient, or it is so large that the second moment or its norm would not be finite
	SkipParameter SkipReason = C.MAW_SKIP_PARAMETER // a parameter, or its norm
	SkipMoment    SkipReason = C.MAW_SKIP_MOMENT    // a first or second moment, or its norm
	SkipFeature   SkipReason = C.MAW_SKIP_FEATURE   // a feature
	SkipFactor    SkipReason = C.MAW_SKIP_FACTOR    // alpha, beta, lambda1 or lambda2
)

func (r SkipReason) String() string {
	return nameOf(int(r), "none", "gradient", "parameter", "moment", "feature", "factor")
}

func nameOf(i int, names ...string) string {
	if i >= 0 && i < len(names) {
		return names[i]
	}
	return fmt.Sprintf("unknown %d", i)
}

// Step updates in place every parameter that has a gradient. A tensor whose gradient is nil is not updated.
//
// A step that is skipped because a value is not finite is not an error, except under NonfiniteError; the report gives
// the reason. On failure nothing is changed.
func (o *Optimizer) Step(params, grads Slices) (Report, error) {
	return o.StepWith(params, grads, StepOptions{})
}

// StepWith is [Optimizer.Step] with options.
func (o *Optimizer) StepWith(params, grads Slices, options StepOptions) (Report, error) {
	var report C.maw_step_report
	C.maw_step_report_init(&report, C.sizeof_maw_step_report)
	if err := o.step(params, grads, options, &report); err != nil {
		return Report{}, err
	}
	return reportOf(&report), nil
}

// step makes a step, and waits for its report if one is wanted.
func (o *Optimizer) step(params, grads Slices, options StepOptions, report *C.maw_step_report) error {
	var raw C.maw_step_options
	C.maw_step_options_init(&raw, C.sizeof_maw_step_options)
	if options.GradScale != 0 {
		raw.grad_scale = C.double(options.GradScale)
	}
	if options.ParamsChanged {
		raw.flags = C.MAW_STEP_PARAMS_CHANGED
	}
	if options.DeviceGradScale != nil || options.FoundInf != nil {
		var err error
		if raw.device_grad_scale, err = deviceFloat("DeviceGradScale", options.DeviceGradScale); err != nil {
			return o.refuseStep(err)
		}
		if raw.found_inf, err = deviceFloat("FoundInf", options.FoundInf); err != nil {
			return o.refuseStep(err)
		}
		pinner := new(runtime.Pinner) // the library refuses a slice in host memory
		defer pinner.Unpin()
		pinner.Pin(raw.device_grad_scale)
		pinner.Pin(raw.found_inf)
		defer runtime.KeepAlive(options)
	}
	return o.withBuffers(params, grads, func(handle *C.maw_optimizer, params, grads *unsafe.Pointer, failure **C.maw_error) C.maw_status {
		return C.maw_step(handle, params, grads, C.size_t(len(o.tensors)), &raw, report, failure)
	})
}

func reportOf(report *C.maw_step_report) Report {
	nonfinite := -1
	if report.nonfinite_tensor != C.MAW_NO_TENSOR {
		nonfinite = int(report.nonfinite_tensor)
	}
	return Report{
		Step:            int(report.step),
		SkippedSteps:    int(report.skipped_steps),
		GradNorm:        float64(report.grad_norm),
		ClipFactor:      float64(report.clip_factor),
		Skipped:         report.skipped != 0,
		SkipReason:      SkipReason(report.skip_reason),
		NonfiniteTensor: nonfinite,
	}
}

// ObserveGradient computes the norms of a gradient as soon as the backward pass has it, while it is still in the cache;
// the next step then need not read it twice. Optional; the result has the same bits with and without.
//
// The values must be the same when the gradient is passed to the step. Setters, loading and saving, meta-updates and
// reading a tensor's state or masters discard it.
func (o *Optimizer) ObserveGradient(tensor int, gradient Slice) error {
	return o.withTensor(tensor, func(handle *C.maw_optimizer, t *registered, pinner *runtime.Pinner, failure **C.maw_error) (C.maw_status, error) {
		if gradient == nil || gradient.buffer().address == nil {
			return C.MAW_OK, invalid("gradient of '%s' is nil", t.name)
		}
		address, err := t.pin(pinner, "gradient", tensor, gradient.buffer(), t.gradDType)
		if err != nil {
			return C.MAW_OK, err
		}
		return C.maw_observe_gradient(handle, C.size_t(tensor), address, failure), nil
	})
}

// withTensor calls f with a registered tensor; what f pins is pinned until f returns.
func (o *Optimizer) withTensor(tensor int, f func(handle *C.maw_optimizer, t *registered, pinner *runtime.Pinner, failure **C.maw_error) (C.maw_status, error)) error {
	var pinner runtime.Pinner
	defer pinner.Unpin()
	return o.checked(func(handle *C.maw_optimizer, failure **C.maw_error) (C.maw_status, error) {
		t, err := o.tensor(tensor)
		if err != nil {
			return C.MAW_OK, err
		}
		return f(handle, t, &pinner, failure)
	})
}

// tensor finds a registered tensor by its number.
func (o *Optimizer) tensor(i int) (*registered, error) {
	if i < 0 || i >= len(o.tensors) {
		return nil, &Error{Status: ErrNotFound, Message: fmt.Sprintf("no tensor %d: %d are registered", i, len(o.tensors))}
	}
	return &o.tensors[i], nil
}

// checked is call for an f that may fail before it calls the library.
func (o *Optimizer) checked(f func(handle *C.maw_optimizer, failure **C.maw_error) (C.maw_status, error)) error {
	var wrong error
	err := o.call(func(handle *C.maw_optimizer, failure **C.maw_error) (status C.maw_status) {
		status, wrong = f(handle, failure)
		return status
	})
	return joined(wrong, err)
}

// joined is errors.Join that leaves a single error as it is.
func joined(a, b error) error {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	}
	return errors.Join(a, b)
}

// withBuffers calls f with the addresses of parameters and gradients, which are pinned until it returns.
func (o *Optimizer) withBuffers(params, grads Slices, f func(handle *C.maw_optimizer, params, grads *unsafe.Pointer, failure **C.maw_error) C.maw_status) error {
	return o.checked(func(handle *C.maw_optimizer, failure **C.maw_error) (C.maw_status, error) {
		defer func() {
			o.pinner.Unpin()
			clear(o.params) // so that the buffers do not stay alive
			clear(o.grads)
			runtime.KeepAlive(params) // a DeviceArray is not pinned
			runtime.KeepAlive(grads)
		}()
		var err error
		if o.params, err = pinParams(&o.pinner, o.tensors, params, o.params[:0]); err == nil {
			o.grads, err = pinGrads(&o.pinner, o.tensors, grads, o.grads[:0])
		}
		if err != nil {
			o.refuseBuffers(handle)
			return C.MAW_OK, err
		}
		return f(handle, unsafe.SliceData(o.params), unsafe.SliceData(o.grads), failure), nil
	})
}
