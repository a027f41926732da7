package metaadamw

// #include <metaadamw.h>
import "C"

import (
	"runtime"
	"slices"
	"unsafe"
)

// AddParamGroup registers tensors that share hyper-parameters and returns the group's index, from 0. Later calls take
// slices in the order of registration over all groups. After preparation too: see [Optimizer.AddTensors]. On failure none
// of the tensors is registered.
func (o *Optimizer) AddParamGroup(group ParamGroup, tensors ...Tensor) (int, error) {
	c := group.toC()
	var index C.uint32_t
	err := o.register(tensors, func(handle *C.maw_optimizer, first *C.maw_tensor, count C.size_t, failure **C.maw_error) C.maw_status {
		return C.maw_add_param_group(handle, &c, first, count, &index, failure)
	})
	return int(index), err
}

// AddTensors registers more tensors of a param group, for what is unfrozen or added to a model. Their slices come behind
// those of all other tensors, whatever their group.
//
// After preparation too, between two steps: what is there keeps its moments, masters and counts, and the attention module
// its values; new tensors start at step 0. The modulation groups are formed anew, and keep their embeddings by name. If they
// are others, factors and features are unknown until the next step. [ErrInvalidState] while a meta-update is open and, on
// CUDA, once a step was captured into a graph. On failure none of the tensors is registered.
func (o *Optimizer) AddTensors(group int, tensors ...Tensor) error {
	number, err := groupNumber(group, false)
	if err != nil {
		return err
	}
	return o.register(tensors, func(handle *C.maw_optimizer, first *C.maw_tensor, count C.size_t, failure **C.maw_error) C.maw_status {
		return C.maw_add_tensors(handle, number, first, count, failure)
	})
}

// register lets f register tensors, and notes them if it did.
func (o *Optimizer) register(tensors []Tensor, f func(handle *C.maw_optimizer, first *C.maw_tensor, count C.size_t, failure **C.maw_error) C.maw_status) error {
	descriptions := make([]C.maw_tensor, len(tensors))
	added := make([]registered, len(tensors))
	var pinner runtime.Pinner
	defer pinner.Unpin()
	for i := range tensors {
		var err error
		if added[i], err = tensors[i].toC(&pinner, &descriptions[i]); err != nil {
			return err
		}
	}
	return o.call(func(handle *C.maw_optimizer, failure **C.maw_error) C.maw_status {
		status := f(handle, unsafe.SliceData(descriptions), C.size_t(len(descriptions)), failure)
		if status == C.MAW_OK {
			o.tensors = append(slices.Clip(o.tensors), added...)
		}
		return status
	})
}

// RemoveTensor removes a tensor, with its moments, master and count. The slices of the tensors behind it move up by one
// place; its param group stays, even without tensors. A name that comes again starts at step 0. As [Optimizer.AddTensors];
// [ErrInvalidState] also for the last tensor of a prepared optimizer. On failure nothing is changed.
func (o *Optimizer) RemoveTensor(tensor int) error {
	return o.checked(func(handle *C.maw_optimizer, failure **C.maw_error) (C.maw_status, error) {
		if _, err := o.tensor(tensor); err != nil {
			return C.MAW_OK, err
		}
		status := C.maw_remove_tensor(handle, C.size_t(tensor), failure)
		if status == C.MAW_OK {
			o.tensors = slices.Delete(o.tensors, tensor, tensor+1)
		}
		return status, nil
	})
}

// Prepare forms the modulation groups, draws the attention module and allocates all memory. Optional: the first call that
// needs it does the same; but with a reduction over several processes ([Optimizer.SetReduction]) all call it together, before
// anything else. A second call does nothing. Tensors can still be added and removed.
func (o *Optimizer) Prepare() error {
	return o.call(func(handle *C.maw_optimizer, failure **C.maw_error) C.maw_status {
		return C.maw_prepare(handle, failure)
	})
}
