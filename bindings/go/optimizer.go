package metaadamw

// #include <metaadamw.h>
import "C"

import (
	"fmt"
	"runtime"
	"runtime/cgo"
	"sync"
	"sync/atomic"
	"unsafe"
)

// Version returns the version of the loaded library, "0.1.0".
func Version() string { return C.GoString(C.maw_version()) }

// An Optimizer trains the parameters of one model. Create it with [New] and Close it.
//
// Any goroutine may call it, one at a time: a second call meanwhile returns [ErrBusy] at once and does nothing.
// Different optimizers are independent.
type Optimizer struct {
	mu      sync.Mutex // held during a call; of the host's code only its reduction runs meanwhile
	native  *native    // nil once closed
	cleanup runtime.Cleanup
	tensors []registered
	// updating: the closure of a MetaUpdate is running.
	updating bool
	// averaging: that of a WithAverages is running; averaged: the averages are in the host's slices.
	averaging, averaged bool
	log                 func(LogLevel, string)
	device              Device
	reduce              reducer        // nil: this process is alone
	reductionKey        atomic.Uintptr // of native, for those who do not hold the lock

	// Workspace of a call; empty outside of one.
	pinner        pins
	params, grads []unsafe.Pointer
}

// native is what the garbage collector does not free. It does not refer to the Optimizer.
type native struct {
	handle *C.maw_optimizer
	mail   *mailbox
	key    cgo.Handle // of mail; 0 before SetLog

	reduction    *reduction
	reductionKey cgo.Handle // of reduction; 0 before setReduction
}

func (n *native) free() C.maw_status {
	status := C.maw_optimizer_free(n.handle)
	if status == C.MAW_OK {
		for _, key := range []cgo.Handle{n.key, n.reductionKey} {
			if key != 0 {
				key.Delete()
			}
		}
	}
	return status
}

// New creates an optimizer without tensors.
func New(options Options) (*Optimizer, error) {
	if abi := C.maw_abi_version(); abi != C.MAW_ABI_VERSION {
		return nil, &Error{Status: ErrUnsupported, Message: fmt.Sprintf("the library that is loaded has ABI %d, this program was built for %d", abi, C.MAW_ABI_VERSION)}
	}
	c, err := options.toC()
	if err != nil {
		return nil, err
	}
	n := &native{}
	var failure *C.maw_error
	status := C.maw_optimizer_create(&c, &n.handle, &failure)
	if err := toError(status, failure); err != nil {
		return nil, err
	}
	o := &Optimizer{native: n, device: options.Device}
	o.cleanup = runtime.AddCleanup(o, func(n *native) { n.free() }, n)
	return o, nil
}

// Close frees the optimizer; a second Close does nothing. While another call runs, a MetaUpdate or WithAverages included,
// nothing is freed and the error is [ErrBusy]. An optimizer that is not closed is freed some time after the garbage collector
// finds it unreachable.
func (o *Optimizer) Close() error {
	if !o.mu.TryLock() {
		return busy("another call")
	}
	defer o.mu.Unlock()
	if o.native == nil {
		return nil
	}
	if o.updating {
		return busy("a MetaUpdate")
	}
	if o.averaging {
		return busy("WithAverages")
	}
	if status := o.native.free(); status != C.MAW_OK {
		return toError(status, nil)
	}
	o.cleanup.Stop()
	o.native = nil
	return nil
}

// call runs f, which calls the library, with exclusive use of the handle; then it passes the call's messages to the
// log.
func (o *Optimizer) call(f func(handle *C.maw_optimizer, failure **C.maw_error) C.maw_status) error {
	if !o.mu.TryLock() {
		return busy("another call")
	}
	return o.locked(f)
}

// locked is call for a caller that holds the lock; it unlocks.
func (o *Optimizer) locked(f func(handle *C.maw_optimizer, failure **C.maw_error) C.maw_status) error {
	heard, log, err := o.enter(f)
	if log != nil {
		for _, m := range heard {
			log(m.level, m.text)
		}
	}
	return err
}

func (o *Optimizer) enter(f func(*C.maw_optimizer, **C.maw_error) C.maw_status) (heard []message, log func(LogLevel, string), err error) {
	defer o.mu.Unlock() // also keeps o, and so the handle, alive until f returns
	if o.native == nil {
		return nil, nil, ErrClosed
	}
	r := o.native.reduction
	if r != nil {
		r.f = o.reduce
		defer r.clear()
	}
	var failure *C.maw_error
	status := f(o.native.handle, &failure)
	err = toError(status, failure)
	if r != nil {
		err = r.with(err)
	}
	if o.native.mail != nil {
		heard = o.native.mail.take()
	}
	return heard, o.log, err
}

// ResetMoments sets the moments and all step counts back to 0.
func (o *Optimizer) ResetMoments() error { return o.reset(C.MAW_RESET_MOMENTS) }

// ResetAttention sets the attention module to its initial values.
func (o *Optimizer) ResetAttention() error { return o.reset(C.MAW_RESET_ATTENTION) }

func (o *Optimizer) reset(what C.uint32_t) error {
	return o.call(func(handle *C.maw_optimizer, failure **C.maw_error) C.maw_status {
		return C.maw_reset(handle, what, failure)
	})
}

// StepCount returns the number of applied steps; skipped steps do not count.
func (o *Optimizer) StepCount() (int, error) {
	var steps C.uint64_t
	err := o.call(func(handle *C.maw_optimizer, failure **C.maw_error) C.maw_status {
		return C.maw_step_count(handle, &steps, failure)
	})
	return int(steps), err
}

// ParamGroupCount returns the number of param groups.
func (o *Optimizer) ParamGroupCount() (int, error) {
	var count C.size_t
	err := o.call(func(handle *C.maw_optimizer, failure **C.maw_error) C.maw_status {
		return C.maw_param_group_count(handle, &count, failure)
	})
	return int(count), err
}

// TensorNames returns the names of the tensors in the order of registration.
func (o *Optimizer) TensorNames() ([]string, error) {
	var names []string
	err := o.call(func(handle *C.maw_optimizer, failure **C.maw_error) C.maw_status {
		var count C.size_t
		status := C.maw_tensor_count(handle, &count, failure)
		for i := C.size_t(0); status == C.MAW_OK && i < count; i++ {
			var name *C.char
			if status = C.maw_tensor_name(handle, i, &name, failure); status == C.MAW_OK {
				names = append(names, C.GoString(name))
			}
		}
		return status
	})
	return names, err
}
