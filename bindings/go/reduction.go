package metaadamw

// #include <metaadamw.h>
//
// int32_t metaadamwGoReduce(double *values, size_t count, uintptr_t key);
//
// // The key of the innermost reduction on this thread.
// static _Thread_local uintptr_t metaadamw_go_reducing;
//
// static uintptr_t metaadamw_go_reducing_key(void) { return metaadamw_go_reducing; }
//
// static int32_t metaadamw_go_reduce(double *values, size_t count, void *key) {
//     uintptr_t outer = metaadamw_go_reducing;
//     metaadamw_go_reducing = (uintptr_t)key;
//     int32_t status = metaadamwGoReduce(values, count, (uintptr_t)key);
//     metaadamw_go_reducing = outer;
//     return status;
// }
//
// static maw_status metaadamw_go_set_reduction(maw_optimizer *optimizer, uintptr_t key, maw_error **error) {
//     return maw_set_reduction(optimizer, key ? metaadamw_go_reduce : NULL, (void *)key, error);
// }
import "C"

import (
	"errors"
	"fmt"
	"runtime/cgo"
	"runtime/debug"
	"unsafe"
)

// SetReduction makes this process one of several that share a model, each with a part of every tensor (Tensor.Shard): ZeRO-1,
// FSDP. reduce sums the values over all processes in place, as MPI_Allreduce does: afterwards each process has the same. nil,
// the default: this process is alone. With Options{Device: CUDA} the values are in device memory: [Optimizer.SetDeviceReduction].
// [ErrInvalidState] after preparation; [ErrInvalidArgument] for a function of the other device.
//
// Every process registers the same tensors in the same order, all with a Shard, under the same options (Threads may differ),
// and calls [Optimizer.Prepare], which finds out whether the parts make up the whole. Then all make the same steps and
// meta-updates, with the same learning rates, losses and scales; gradients are those of the parts. Parameters, factors and
// attention module have the bits of a single process with the whole tensors. A process that has nothing of a tensor passes nil
// for its gradient.
//
// reduce is called once or twice in a step, twice in [Optimizer.Prepare] and a few times in a meta-update, [Optimizer.Save] and
// [Optimizer.Load], on the goroutine and the thread of the call that needs the sums; the values are valid until it returns.
// Calls of this optimizer from inside it return [ErrBusy]. Its error, or its panic as an error with the stack, is the cause of
// the [ErrReduction] that the call returns. It must not end its goroutine (runtime.Goexit, so no t.Fatal): the optimizer would
// stay busy for ever.
//
// If the arguments of a call are unusable on one process, or the closure of its MetaUpdate fails, the call returns
// [ErrReduction] on the others. With shards there are no VerifyParams, no SaveBytes (but for [AttentionOnly]), and no tensors
// that come or go after preparation. All processes call Save together, for the same path, which then has the file of a single
// process; any number of processes can Load it.
func (o *Optimizer) SetReduction(reduce func(values []float64) error) error {
	if reduce == nil {
		return o.setReduction(nil, CPU)
	}
	return o.setReduction(func(values unsafe.Pointer, count int) error {
		return reduce(unsafe.Slice((*float64)(values), count))
	}, CPU)
}

// SetDeviceReduction is [Optimizer.SetReduction] with Options{Device: CUDA}: values is the address of count float64 in the memory
// of the optimizer's device, which Go code must not access. reduce enqueues their sum over all processes, in place, on the stream
// of [Optimizer.SetStream], and need not wait for it; the values are there when it runs:
//
//	ncclAllReduce(values, values, count, ncclDouble, ncclSum, communicator, stream)
//
// [Optimizer.Launch] calls it also while the stream is captured into a graph; replays repeat what it enqueued. Its error is that
// of the call, as with SetReduction. What the device finds out while it works, such as processes that differ, is the
// [ErrReduction] of the next call that waits for it: [Optimizer.LastReport], a getter. That step was made on no process.
func (o *Optimizer) SetDeviceReduction(reduce func(values unsafe.Pointer, count int) error) error {
	return o.setReduction(reduce, CUDA)
}

// setReduction takes a function for values in this device's memory.
func (o *Optimizer) setReduction(reduce reducer, device Device) error {
	return o.checked(func(handle *C.maw_optimizer, failure **C.maw_error) (C.maw_status, error) {
		if reduce != nil && device != o.device {
			use := "SetReduction"
			if o.device == CUDA {
				use = "SetDeviceReduction"
			}
			return C.MAW_OK, invalid("the reduction's values are in %v memory, expected those of Options.Device, %v: use %s",
				device, o.device, use)
		}
		n := o.native
		if n.reduction == nil {
			n.reduction = &reduction{}
			n.reductionKey = cgo.NewHandle(n.reduction)
			o.reductionKey.Store(uintptr(n.reductionKey))
		}
		key := n.reductionKey
		if reduce == nil {
			key = 0
		}
		status := C.metaadamw_go_set_reduction(handle, C.uintptr_t(key), failure)
		if status == C.MAW_OK {
			o.reduce = reduce
		}
		return status, nil
	})
}

// reducer is the host's sum over the processes, of values in the memory of the optimizer's device.
type reducer func(values unsafe.Pointer, count int) error

// reduction is what the library's callback finds by its key. Outside of calls it is empty: as a cgo.Handle keeps it alive, a
// function here that refers to the Optimizer would keep that alive, too.
type reduction struct {
	f       reducer
	failure error // of f, in this call
}

func (r *reduction) clear() { *r = reduction{} }

// run calls the host's function; a panic must not go through the library's frames.
func (r *reduction) run(values unsafe.Pointer, count int) (status C.int32_t) {
	defer func() {
		if value := recover(); value != nil {
			r.failure = &panicError{value, debug.Stack()}
			status = 1
		}
	}()
	if err := r.f(values, count); err != nil {
		r.failure = err
		return 1
	}
	return 0
}

// with is the error of a call in which the host's function may have failed.
func (r *reduction) with(err error) error {
	if r.failure == nil {
		return err
	}
	var e *Error
	if errors.As(err, &e) && e.Status == ErrReduction {
		e.Message += ": " + r.failure.Error()
		e.Cause = r.failure
		return err
	}
	// It failed when the others were told of this error.
	return joined(err, &Error{ErrReduction, "the reduction failed: " + r.failure.Error(), r.failure})
}

// A panicError is a panic as an error; errors.Is finds its value.
type panicError struct {
	value any
	stack []byte
}

func (p *panicError) Error() string { return fmt.Sprintf("panic: %v\n\n%s", p.value, p.stack) }

func (p *panicError) Unwrap() error {
	err, _ := p.value.(error)
	return err
}

// inReduction: the caller is the host's reduction. A goroutine stays on its thread while C waits for it.
func (o *Optimizer) inReduction() bool {
	key := o.reductionKey.Load()
	return key != 0 && key == uintptr(C.metaadamw_go_reducing_key())
}

// refuse lets the other processes know of a call that this one cannot make: f makes it with NULL, the library refuses that and
// tells them.
func (o *Optimizer) refuse(f func(failure **C.maw_error)) {
	if o.reduce == nil {
		return
	}
	var failure *C.maw_error
	f(&failure)
	C.maw_error_free(failure) // what this process returns is its own error
}

// refuseStep is refuse for a step whose options are wrong.
func (o *Optimizer) refuseStep(wrong error) error {
	return o.checked(func(handle *C.maw_optimizer, _ **C.maw_error) (C.maw_status, error) {
		o.refuseBuffers(handle)
		return C.MAW_OK, wrong
	})
}

func (o *Optimizer) refuseBuffers(handle *C.maw_optimizer) {
	o.refuse(func(failure **C.maw_error) { C.maw_step(handle, nil, nil, 0, nil, nil, failure) })
}

func (o *Optimizer) refuseBegin(handle *C.maw_optimizer) {
	o.refuse(func(failure **C.maw_error) { C.maw_meta_begin(handle, nil, 0, nil, failure) })
}

func (o *Optimizer) refuseAnswer(handle *C.maw_optimizer) {
	o.refuse(func(failure **C.maw_error) { C.maw_meta_tell(handle, nil, nil, nil, 0, nil, failure) })
}
