package metaadamw

// #include <metaadamw.h>
import "C"

import (
	"bytes"
	"runtime"
	"unsafe"
)

// A Flag says what is saved or loaded, and what holds afterwards.
type Flag uint32

const (
	// AttentionOnly: saving and loading: the attention module alone.
	AttentionOnly Flag = C.MAW_ATTENTION_ONLY
	// FileWins: loading: options that only steer the future may differ; the file's hold afterwards.
	FileWins Flag = C.MAW_LOAD_FILE_WINS
	// OwnWins: loading: options that only steer the future may differ; the optimizer's own hold afterwards.
	OwnWins Flag = C.MAW_LOAD_OWN_WINS
	// Strict: loading: nothing may differ, not even what has a setter.
	Strict Flag = C.MAW_LOAD_STRICT
)

func bitsOf(flags []Flag) (bits C.uint32_t) {
	for _, flag := range flags {
		bits |= C.uint32_t(flag)
	}
	return bits
}

// Save saves the run to a safetensors file: moments, step counts, the attention module, options, hyper-parameters as they
// are now, counters. The parameters are the host's to save. With [AttentionOnly]: the attention module alone.
//
// Whatever fails, the file is the old one or the new one.
func (o *Optimizer) Save(path string, flags ...Flag) error {
	c, err := text("path", path)
	if err != nil {
		return err
	}
	return o.call(func(handle *C.maw_optimizer, failure **C.maw_error) C.maw_status {
		return C.maw_save_file(handle, c, bitsOf(flags), failure)
	})
}

// SaveBytes is [Optimizer.Save] into memory.
func (o *Optimizer) SaveBytes(flags ...Flag) ([]byte, error) {
	return o.bytes(func(handle *C.maw_optimizer, made **C.maw_bytes, failure **C.maw_error) C.maw_status {
		return C.maw_save_bytes(handle, bitsOf(flags), made, failure)
	})
}

// Load loads a run that any language saved into an optimizer with the same tensors. If they are registered in the same
// order, a run that is trained on equals the uninterrupted one bit for bit.
//
// Names, shapes, dtypes, groups and options must be equal, else [ErrMismatch] lists the differences; but of what has a setter
// (learning rate, weight decay, priorities: a schedule has moved them) the file's values hold, and the log tells which
// differed. With [Strict] nothing may differ. With [FileWins] or [OwnWins] all that only steers the future may differ:
// hyper-parameters of param groups, ranges, intervals, weights, clipping. With [AttentionOnly] nothing but the attention module is loaded, from either kind of file. Threads and
// VerifyParams are not saved. Everything is checked before anything is changed.
func (o *Optimizer) Load(path string, flags ...Flag) error {
	c, err := text("path", path)
	if err != nil {
		return err
	}
	return o.call(func(handle *C.maw_optimizer, failure **C.maw_error) C.maw_status {
		return C.maw_load_file(handle, c, bitsOf(flags), failure)
	})
}

// noBytes stands for an empty slice, so that the library calls it damaged and not missing.
var noBytes C.uint8_t

// LoadBytes is [Optimizer.Load] from memory. The bytes are not kept.
func (o *Optimizer) LoadBytes(data []byte, flags ...Flag) error {
	first := &noBytes
	if len(data) > 0 {
		first = (*C.uint8_t)(unsafe.Pointer(&data[0]))
	}
	return o.call(func(handle *C.maw_optimizer, failure **C.maw_error) C.maw_status {
		return C.maw_load_bytes(handle, first, C.size_t(len(data)), bitsOf(flags), failure)
	})
}

// Dump says as JSON what the optimizer is doing: options, param groups, modulation groups with their tensors, features and
// factors, meta-updates, uncertainty weights, skipped steps and why, time by part. docs/state.md is its schema.
func (o *Optimizer) Dump() ([]byte, error) {
	return o.bytes(func(handle *C.maw_optimizer, made **C.maw_bytes, failure **C.maw_error) C.maw_status {
		return C.maw_dump_state(handle, made, failure)
	})
}

func (o *Optimizer) bytes(f func(handle *C.maw_optimizer, made **C.maw_bytes, failure **C.maw_error) C.maw_status) ([]byte, error) {
	var copied []byte
	err := o.call(func(handle *C.maw_optimizer, failure **C.maw_error) C.maw_status {
		var made *C.maw_bytes
		status := f(handle, &made, failure)
		if status == C.MAW_OK {
			defer C.maw_bytes_free(made)
			copied = bytes.Clone(unsafe.Slice((*byte)(C.maw_bytes_data(made)), C.maw_bytes_size(made)))
		}
		return status
	})
	return copied, err
}

// TensorState copies the moments of a tensor into slices of its length, F64 for a Float64 tensor and else F32, so that a run
// can move to another Adam, and returns how often the tensor was updated. A slice that is not wanted may be nil.
func (o *Optimizer) TensorState(tensor int, expAvg, expAvgSq Slice) (step int, err error) {
	var count C.uint64_t
	err = o.moments(tensor, expAvg, expAvgSq, func(handle *C.maw_optimizer, t *registered, m, v unsafe.Pointer, failure **C.maw_error) C.maw_status {
		return C.maw_tensor_state_get(handle, C.size_t(tensor), m, v, C.size_t(t.length), &count, failure)
	})
	return int(count), err
}

// SetTensorState sets the moments of a tensor and how often it was updated, so that a run can move here from another
// Adam. The optimizer's own step count becomes at least step.
func (o *Optimizer) SetTensorState(tensor int, expAvg, expAvgSq Slice, step int) error {
	if step < 0 {
		return invalid("step = %d: expected at least 0", step)
	}
	return o.moments(tensor, expAvg, expAvgSq, func(handle *C.maw_optimizer, t *registered, m, v unsafe.Pointer, failure **C.maw_error) C.maw_status {
		return C.maw_tensor_state_set(handle, C.size_t(tensor), m, v, C.size_t(t.length), C.uint64_t(step), failure)
	})
}

// Counters are the optimizer's own counts, which [Optimizer.TensorState] does not tell.
type Counters struct {
	// Step counts applied steps, MetaUpdates meta-updates that changed the attention module.
	Step, MetaUpdates int
	// MetaDoneAt is the step at which the last meta-update was done or abandoned; -1 if there was none.
	MetaDoneAt int
	// Skipped steps, by what was not finite.
	SkippedGradient, SkippedParameter, SkippedMoment, SkippedFeature, SkippedFactor int
}

// Counters tells the optimizer's own counts.
func (o *Optimizer) Counters() (Counters, error) {
	var c C.maw_counters
	C.maw_counters_init(&c, C.sizeof_maw_counters)
	err := o.call(func(handle *C.maw_optimizer, failure **C.maw_error) C.maw_status {
		return C.maw_counters_get(handle, &c, failure)
	})
	if err != nil {
		return Counters{}, err
	}
	done := -1
	if c.meta_done_at != C.MAW_NO_STEP {
		done = int(c.meta_done_at)
	}
	return Counters{
		Step: int(c.step), MetaUpdates: int(c.meta_updates), MetaDoneAt: done,
		SkippedGradient: int(c.skipped_gradient), SkippedParameter: int(c.skipped_parameter),
		SkippedMoment: int(c.skipped_moment), SkippedFeature: int(c.skipped_feature), SkippedFactor: int(c.skipped_factor),
	}, nil
}

// SetCounters sets the optimizer's own counts, after [Optimizer.SetTensorState]: a run that moves here from another optimizer
// then goes on as it would have there.
func (o *Optimizer) SetCounters(counters Counters) error {
	var c C.maw_counters
	C.maw_counters_init(&c, C.sizeof_maw_counters)
	for _, field := range []struct {
		name string
		from int
		to   *C.uint64_t
	}{
		{"Step", counters.Step, &c.step},
		{"MetaUpdates", counters.MetaUpdates, &c.meta_updates},
		{"SkippedGradient", counters.SkippedGradient, &c.skipped_gradient},
		{"SkippedParameter", counters.SkippedParameter, &c.skipped_parameter},
		{"SkippedMoment", counters.SkippedMoment, &c.skipped_moment},
		{"SkippedFeature", counters.SkippedFeature, &c.skipped_feature},
		{"SkippedFactor", counters.SkippedFactor, &c.skipped_factor},
	} {
		if field.from < 0 {
			return invalid("counters.%s = %d: expected at least 0", field.name, field.from)
		}
		*field.to = C.uint64_t(field.from)
	}
	if counters.MetaDoneAt < -1 {
		return invalid("counters.MetaDoneAt = %d: expected at least -1", counters.MetaDoneAt)
	}
	if counters.MetaDoneAt >= 0 {
		c.meta_done_at = C.uint64_t(counters.MetaDoneAt)
	}
	return o.call(func(handle *C.maw_optimizer, failure **C.maw_error) C.maw_status {
		return C.maw_counters_set(handle, &c, failure)
	})
}

func (o *Optimizer) moments(tensor int, expAvg, expAvgSq Slice, f func(handle *C.maw_optimizer, t *registered, m, v unsafe.Pointer, failure **C.maw_error) C.maw_status) error {
	return o.withTensor(tensor, func(handle *C.maw_optimizer, t *registered, pinner *runtime.Pinner, failure **C.maw_error) (C.maw_status, error) {
		address := func(what string, s Slice) (unsafe.Pointer, error) {
			if s == nil || s.buffer().address == nil {
				return nil, nil
			}
			return t.pin(pinner, what, tensor, s.buffer(), t.stateDType())
		}
		m, err := address("expAvg", expAvg)
		if err != nil {
			return C.MAW_OK, err
		}
		v, err := address("expAvgSq", expAvgSq)
		if err != nil {
			return C.MAW_OK, err
		}
		return f(handle, t, m, v, failure), nil
	})
}

// Masters copies the float32 masters of a tensor, under [PrecisionMaster] or [PrecisionRemainder], into a slice of its
// length. param is the tensor's parameter: half of each master is in it under [PrecisionRemainder].
func (o *Optimizer) Masters(tensor int, param Slice, values []float32) error {
	return o.masters(tensor, param, values, func(handle *C.maw_optimizer, t *registered, param, values unsafe.Pointer, failure **C.maw_error) C.maw_status {
		return C.maw_master_get(handle, C.size_t(tensor), param, (*C.float)(values), C.size_t(t.length), failure)
	})
}

// SetMasters sets the float32 masters of a tensor, so that a run can start from float32 weights, and writes what they show
// into param, the tensor's parameter.
func (o *Optimizer) SetMasters(tensor int, values []float32, param Slice) error {
	return o.masters(tensor, param, values, func(handle *C.maw_optimizer, t *registered, param, values unsafe.Pointer, failure **C.maw_error) C.maw_status {
		return C.maw_master_set(handle, C.size_t(tensor), (*C.float)(values), param, C.size_t(t.length), failure)
	})
}

func (o *Optimizer) masters(tensor int, param Slice, values []float32, f func(handle *C.maw_optimizer, t *registered, param, values unsafe.Pointer, failure **C.maw_error) C.maw_status) error {
	return o.withTensor(tensor, func(handle *C.maw_optimizer, t *registered, pinner *runtime.Pinner, failure **C.maw_error) (C.maw_status, error) {
		if param == nil {
			return C.MAW_OK, invalid("param ('%s') is nil", t.name)
		}
		shown, err := t.pin(pinner, "param", tensor, param.buffer(), t.dtype)
		if err != nil {
			return C.MAW_OK, err
		}
		masters, err := t.pin(pinner, "values", tensor, F32(values).buffer(), Float32)
		if err != nil {
			return C.MAW_OK, err
		}
		return f(handle, t, shown, masters, failure), nil
	})
}
