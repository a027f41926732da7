package metaadamw

// #include <metaadamw.h>
import "C"

import (
	"unsafe"
)

// Factors of a modulation group.
type Factors struct {
	Group            string  // "attention.shallow.weight", "param_group.0", or the host's name for it
	Alpha, Beta      float64 // multiply the learning rate and the weight decay
	Lambda1, Lambda2 float64 // of the gradient alignment (eq. 10)
}

// Factors returns the factors of each modulation group, from the last applied step or meta-update, whichever was later.
func (o *Optimizer) Factors() ([]Factors, error) {
	var factors []Factors
	err := o.call(func(handle *C.maw_optimizer, failure **C.maw_error) C.maw_status {
		names, status := groupNames(handle, failure)
		if status != C.MAW_OK || len(names) == 0 {
			return status
		}
		n := len(names)
		values := make([]C.double, 4*n)
		status = C.maw_factors(handle, &values[0], &values[n], &values[2*n], &values[3*n], C.size_t(n), failure)
		if status != C.MAW_OK {
			return status
		}
		for i, name := range names {
			factors = append(factors, Factors{name, float64(values[i]), float64(values[n+i]), float64(values[2*n+i]), float64(values[3*n+i])})
		}
		return status
	})
	return factors, err
}

// Groups returns the names of the modulation groups, which are the tokens of the attention module.
func (o *Optimizer) Groups() (names []string, err error) {
	err = o.call(func(handle *C.maw_optimizer, failure **C.maw_error) (status C.maw_status) {
		names, status = groupNames(handle, failure)
		return status
	})
	return names, err
}

func groupNames(handle *C.maw_optimizer, failure **C.maw_error) ([]string, C.maw_status) {
	var count C.size_t
	status := C.maw_group_count(handle, &count, failure)
	var names []string
	for g := C.size_t(0); status == C.MAW_OK && g < count; g++ {
		var name *C.char
		if status = C.maw_group_name(handle, g, &name, failure); status == C.MAW_OK {
			names = append(names, C.GoString(name))
		}
	}
	return names, status
}

// TensorGroup returns the index of a tensor's modulation group.
func (o *Optimizer) TensorGroup(tensor int) (int, error) {
	var group C.size_t
	err := o.checked(func(handle *C.maw_optimizer, failure **C.maw_error) (C.maw_status, error) {
		if _, err := o.tensor(tensor); err != nil {
			return C.MAW_OK, err
		}
		return C.maw_tensor_group(handle, C.size_t(tensor), &group, failure), nil
	})
	return int(group), err
}

// Features returns the input of the attention module, one row per modulation group, before standardization and gating,
// from the last applied step or meta-update, whichever was later.
func (o *Optimizer) Features() ([][]float64, error) {
	var rows [][]float64
	err := o.call(func(handle *C.maw_optimizer, failure **C.maw_error) C.maw_status {
		var groups, dim C.size_t
		if status := C.maw_group_count(handle, &groups, failure); status != C.MAW_OK {
			return status
		}
		if status := C.maw_feature_dim(handle, &dim, failure); status != C.MAW_OK {
			return status
		}
		values := make([]float64, groups*dim)
		status := C.maw_features(handle, doubles(values), groups*dim, failure)
		for ; status == C.MAW_OK && len(values) > 0; values = values[dim:] {
			rows = append(rows, values[:dim:dim])
		}
		return status
	})
	return rows, err
}

// An AttentionTensor is a tensor of the attention module. A vector has one column.
type AttentionTensor struct {
	Name          string // as in PyTorch's TransformerEncoder: "encoder.layers.0.self_attn.in_proj_weight" …
	Rows, Columns int
}

// AttentionTensors returns the tensors of the attention module; none with DisableModulation.
func (o *Optimizer) AttentionTensors() (tensors []AttentionTensor, err error) {
	err = o.call(func(handle *C.maw_optimizer, failure **C.maw_error) (status C.maw_status) {
		tensors, status = attentionTensors(handle, failure)
		return status
	})
	return tensors, err
}

func attentionTensors(handle *C.maw_optimizer, failure **C.maw_error) ([]AttentionTensor, C.maw_status) {
	var count C.size_t
	status := C.maw_attention_count(handle, &count, failure)
	var tensors []AttentionTensor
	for i := C.size_t(0); status == C.MAW_OK && i < count; i++ {
		var name *C.char
		var rows, columns C.uint64_t
		if status = C.maw_attention_name(handle, i, &name, failure); status != C.MAW_OK {
			break
		}
		if status = C.maw_attention_shape(handle, i, &rows, &columns, failure); status == C.MAW_OK {
			tensors = append(tensors, AttentionTensor{C.GoString(name), int(rows), int(columns)})
		}
	}
	return tensors, status
}

// Attention copies a tensor of the attention module, row-major.
func (o *Optimizer) Attention(name string) ([]float64, error) {
	return o.named(name, func(handle *C.maw_optimizer, name *C.char, values []float64, failure **C.maw_error) C.maw_status {
		return C.maw_attention_get(handle, name, doubles(values), C.size_t(len(values)), failure)
	})
}

// SetAttention sets a tensor of the attention module, row-major, from the next step on.
func (o *Optimizer) SetAttention(name string, values []float64) error {
	c, err := text("name", name)
	if err != nil {
		return err
	}
	return o.call(func(handle *C.maw_optimizer, failure **C.maw_error) C.maw_status {
		return C.maw_attention_set(handle, c, doubles(values), C.size_t(len(values)), failure)
	})
}

// MetaGradient returns the gradient of the meta-objective, regularization included, in the last completed meta-update:
// with respect to a tensor of the attention module, or to "alpha", "beta", "lambda1" or "lambda2" (one value
// for each modulation group).
func (o *Optimizer) MetaGradient(name string) ([]float64, error) {
	return o.named(name, func(handle *C.maw_optimizer, name *C.char, values []float64, failure **C.maw_error) C.maw_status {
		return C.maw_meta_gradient(handle, name, doubles(values), C.size_t(len(values)), failure)
	})
}

// named lets f fill as many values as that name has; for an unknown name f gets the library's error.
func (o *Optimizer) named(name string, f func(handle *C.maw_optimizer, name *C.char, values []float64, failure **C.maw_error) C.maw_status) ([]float64, error) {
	c, err := text("name", name)
	if err != nil {
		return nil, err
	}
	var values []float64
	err = o.call(func(handle *C.maw_optimizer, failure **C.maw_error) C.maw_status {
		size := 0
		switch name {
		case "alpha", "beta", "lambda1", "lambda2":
			var groups C.size_t
			if status := C.maw_group_count(handle, &groups, failure); status != C.MAW_OK {
				return status
			}
			size = int(groups)
		default:
			tensors, status := attentionTensors(handle, failure)
			if status != C.MAW_OK {
				return status
			}
			for _, t := range tensors {
				if t.Name == name {
					size = t.Rows * t.Columns
				}
			}
		}
		values = make([]float64, size)
		return f(handle, c, values, failure)
	})
	if err != nil {
		return nil, err
	}
	return values, nil
}

// noDoubles is the address of an empty slice, which must not be NULL.
var noDoubles C.double

func doubles(values []float64) *C.double {
	if len(values) == 0 {
		return &noDoubles
	}
	return (*C.double)(unsafe.Pointer(&values[0]))
}
