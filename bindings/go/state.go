package metaadamw

// #include <metaadamw.h>
import "C"

import (
	"bytes"
	"fmt"
	"runtime"
	"strings"
	"unsafe"
)

// A Flag selects what is saved or loaded, and whose options are used afterwards.
type Flag uint32

const (
	// AttentionOnly: saving and loading: only the attention module.
	AttentionOnly Flag = C.MAW_ATTENTION_ONLY
	// FileWins: loading: options that affect only later steps may differ; the file's are used.
	FileWins Flag = C.MAW_LOAD_FILE_WINS
	// OwnWins: loading: options that affect only later steps may differ; the optimizer's own are used.
	OwnWins Flag = C.MAW_LOAD_OWN_WINS
	// Strict: loading: nothing may differ, not even what has a setter.
	Strict Flag = C.MAW_LOAD_STRICT
	// Partial: loading: the file may have more or fewer tensors and groups; [Optimizer.LoadReport] tells which.
	Partial Flag = C.MAW_LOAD_PARTIAL
)

// String names each bit: "attention only|strict".
func (f Flag) String() string {
	var names []string
	for _, flag := range []struct {
		bit  Flag
		name string
	}{{AttentionOnly, "attention only"}, {FileWins, "file wins"}, {OwnWins, "own wins"}, {Strict, "strict"}, {Partial, "partial"}} {
		if f&flag.bit != 0 {
			names = append(names, flag.name)
			f &^= flag.bit
		}
	}
	if f != 0 || names == nil {
		names = append(names, fmt.Sprintf("%#x", uint32(f)))
	}
	return strings.Join(names, "|")
}

func bitsOf(flags []Flag) (bits C.uint32_t) {
	for _, flag := range flags {
		bits |= C.uint32_t(flag)
	}
	return bits
}

// Save saves the run to a safetensors file: moments, masters, step counts, attention module, options, current
// hyper-parameters, counters. Parameters are not saved; that is up to the host. With [AttentionOnly] only the attention
// module is saved.
//
// Saving is atomic and durable: on failure the old file is unchanged, or the new one is complete.
func (o *Optimizer) Save(path string, flags ...Flag) error {
	c, err := text("path", path)
	if err != nil {
		return err
	}
	return o.call(func(handle *C.maw_optimizer, failure **C.maw_error) C.maw_status {
		return C.maw_save_file(handle, c, bitsOf(flags), failure)
	})
}

// SaveBytes is [Optimizer.Save] to memory.
func (o *Optimizer) SaveBytes(flags ...Flag) ([]byte, error) {
	return o.bytes(func(handle *C.maw_optimizer, made **C.maw_bytes, failure **C.maw_error) C.maw_status {
		return C.maw_save_bytes(handle, bitsOf(flags), made, failure)
	})
}

// Load loads a saved run, whichever language saved it, into an optimizer with the same tensors. If they are registered
// in the same order, training continues with the same bits as without the interruption.
//
// Names, shapes, dtypes, groups and options must be equal, else [ErrMismatch] lists the differences; but options that
// have a setter (those of param groups, clipping, priorities: a schedule may have changed them) are taken from the file,
// and the log lists those that differed. With [Strict] all must be equal. With [FileWins] or [OwnWins] options that affect
// only later steps may differ: those, and ranges, intervals, weights of the meta-objective. With
// [AttentionOnly] only the attention module is loaded, from either kind of file. Device, DeviceIndex, Threads and
// VerifyParams are not saved. The whole file is checked before anything is changed.
//
// [Partial], with or without the others, is for a model that has gained or lost tensors. What the file and the optimizer
// both have is loaded; tensors that the file does not have start at step 0, and the optimizer's counts are the file's.
// Where the numbers of param groups differ, the optimizer's hyper-parameters of param groups stay.
func (o *Optimizer) Load(path string, flags ...Flag) error {
	c, err := text("path", path)
	if err != nil {
		return err
	}
	return o.call(func(handle *C.maw_optimizer, failure **C.maw_error) C.maw_status {
		return C.maw_load_file(handle, c, bitsOf(flags), failure)
	})
}

// noBytes is the address of an empty slice, so that the library reports it as damaged and not as NULL.
var noBytes C.uint8_t

// LoadBytes is [Optimizer.Load] from memory. The bytes are used during the call only.
func (o *Optimizer) LoadBytes(data []byte, flags ...Flag) error {
	first := &noBytes
	if len(data) > 0 {
		first = (*C.uint8_t)(unsafe.Pointer(&data[0]))
	}
	return o.call(func(handle *C.maw_optimizer, failure **C.maw_error) C.maw_status {
		return C.maw_load_bytes(handle, first, C.size_t(len(data)), bitsOf(flags), failure)
	})
}

// A LoadReport has the names that only the file or only the optimizer had.
type LoadReport struct {
	// MissingTensors are registered, but not in the file. They start at step 0.
	MissingTensors []string
	// UnexpectedTensors are in the file, but not registered.
	UnexpectedTensors []string
	// MissingGroups are modulation groups that the file does not have.
	MissingGroups []string
	// UnexpectedGroups are modulation groups that only the file has.
	UnexpectedGroups []string
}

// LoadReport returns the report of the last load with [Partial]; it is empty after another load, and before one.
func (o *Optimizer) LoadReport() (report LoadReport, err error) {
	err = o.call(func(handle *C.maw_optimizer, failure **C.maw_error) C.maw_status {
		for _, list := range []struct {
			which C.uint32_t
			names *[]string
		}{
			{C.MAW_LOAD_MISSING_TENSORS, &report.MissingTensors},
			{C.MAW_LOAD_UNEXPECTED_TENSORS, &report.UnexpectedTensors},
			{C.MAW_LOAD_MISSING_GROUPS, &report.MissingGroups},
			{C.MAW_LOAD_UNEXPECTED_GROUPS, &report.UnexpectedGroups},
		} {
			var count C.size_t
			if status := C.maw_load_report_count(handle, list.which, &count, failure); status != C.MAW_OK {
				return status
			}
			for i := range count {
				var name *C.char
				if status := C.maw_load_report_name(handle, list.which, i, &name, failure); status != C.MAW_OK {
					return status
				}
				*list.names = append(*list.names, C.GoString(name))
			}
		}
		return C.MAW_OK
	})
	return report, err
}

// Dump returns the state of the optimizer as JSON, for people, plots and logs. The schema is docs/state.md.
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

// TensorState copies the moments of a tensor into slices of its length, F64 for a Float64 tensor and else F32, to
// continue its run with another Adam implementation, and returns the tensor's number of updates. Either slice may be
// nil.
func (o *Optimizer) TensorState(tensor int, expAvg, expAvgSq Slice) (step int, err error) {
	var count C.uint64_t
	err = o.moments(tensor, expAvg, expAvgSq, func(handle *C.maw_optimizer, t *registered, m, v unsafe.Pointer, failure **C.maw_error) C.maw_status {
		return C.maw_tensor_state_get(handle, C.size_t(tensor), m, v, C.size_t(t.length), &count, failure)
	})
	return int(count), err
}

// SetTensorState sets the moments and the number of updates of a tensor, to continue a run of another Adam
// implementation. The optimizer's own step count becomes at least step.
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
// length. param is the tensor's parameter, which is half of each master under [PrecisionRemainder].
func (o *Optimizer) Masters(tensor int, param Slice, values []float32) error {
	return o.masters(tensor, param, values, func(handle *C.maw_optimizer, t *registered, param, values unsafe.Pointer, failure **C.maw_error) C.maw_status {
		return C.maw_master_get(handle, C.size_t(tensor), param, (*C.float)(values), C.size_t(t.length), failure)
	})
}

// SetMasters sets the float32 masters of a tensor, to start from float32 weights, and writes them, rounded, to param,
// the tensor's parameter.
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
		rounded, err := t.pin(pinner, "param", tensor, param.buffer(), t.dtype)
		if err != nil {
			return C.MAW_OK, err
		}
		masters, err := t.pin(pinner, "values", tensor, F32(values).buffer(), Float32)
		if err != nil {
			return C.MAW_OK, err
		}
		return f(handle, t, rounded, masters, failure), nil
	})
}
