package metaadamw

// #include <metaadamw.h>
import "C"

import (
	"errors"
	"runtime"
	"unsafe"
)

// WithAverages calls f while the averages of the parameters are in params, for an evaluation; Options.Horizon must be set.
// Then the parameters are there again, bit for bit, even if f panics or ends its goroutine. It returns f's error.
//
// Inside f getters and [Optimizer.Average] work; other calls return [ErrInvalidState], Close, SwapAverages and a second
// WithAverages [ErrBusy]. What f writes to params is lost. A tensor that has made no step yet keeps its parameter.
func (o *Optimizer) WithAverages(params Slices, f func() error) (err error) {
	err = o.checked(func(handle *C.maw_optimizer, failure **C.maw_error) (C.maw_status, error) {
		if o.averaged && !o.averaging { // a second swap would bring the parameters back
			return C.MAW_OK, &Error{Status: ErrInvalidState, Message: "SwapAverages has put the averages into the host's parameters already"}
		}
		status, wrong := o.swapAverages(handle, params, failure)
		if wrong == nil && status == C.MAW_OK {
			o.averaging = true
		}
		return status, wrong
	})
	if err != nil {
		return err
	}
	defer func() {
		o.mu.Lock() // waits, so that a getter meanwhile does not leave the averages there
		var wrong error
		failed := o.locked(func(handle *C.maw_optimizer, failure **C.maw_error) (status C.maw_status) {
			o.averaging = false
			status, wrong = o.swapAverages(handle, params, failure)
			return status
		})
		if failed != nil || wrong != nil {
			err = errors.Join(err, failed, wrong)
		}
	}()
	return f()
}

// SwapAverages writes the averages of the parameters into params; the next SwapAverages writes the parameters back, bit for
// bit. In between only getters, [Optimizer.Average] and Close work. [Optimizer.WithAverages] is this for a closure.
func (o *Optimizer) SwapAverages(params Slices) error {
	return o.checked(func(handle *C.maw_optimizer, failure **C.maw_error) (C.maw_status, error) {
		return o.swapAverages(handle, params, failure)
	})
}

func (o *Optimizer) swapAverages(handle *C.maw_optimizer, params Slices, failure **C.maw_error) (C.maw_status, error) {
	if o.averaging {
		return C.MAW_OK, busy("WithAverages")
	}
	var pinner runtime.Pinner
	defer pinner.Unpin()
	defer runtime.KeepAlive(params) // a DeviceArray is not pinned
	pointers, err := pinParams(&pinner, o.tensors, params, nil)
	if err != nil {
		return C.MAW_OK, err
	}
	status := C.maw_average_swap(handle, unsafe.SliceData(pointers), C.size_t(len(pointers)), failure)
	if status == C.MAW_OK {
		o.averaged = !o.averaged
	}
	return status, nil
}

// Average copies the average of a tensor's parameter into a slice of its length, F64 for a Float64 tensor and else F32.
// Before the tensor's first step it returns [ErrInvalidState].
func (o *Optimizer) Average(tensor int, values Slice) error {
	return o.withTensor(tensor, func(handle *C.maw_optimizer, t *registered, pinner *runtime.Pinner, failure **C.maw_error) (C.maw_status, error) {
		if values == nil {
			return C.MAW_OK, invalid("values ('%s') is nil", t.name)
		}
		address, err := t.pin(pinner, "values", tensor, values.buffer(), t.stateDType())
		if err != nil {
			return C.MAW_OK, err
		}
		return C.maw_average_get(handle, C.size_t(tensor), address, C.size_t(t.length), failure), nil
	})
}
