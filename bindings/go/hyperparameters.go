package metaadamw

// #include <metaadamw.h>
import "C"

import (
	"fmt"
	"math"
)

// AllGroups stands for every param group in the setters of their hyper-parameters.
const AllGroups = -1

// SetLR sets the learning rate of a param group, or of [AllGroups], from the next step on.
func (o *Optimizer) SetLR(group int, lr float64) error {
	return o.ofGroup(group, true, func(handle *C.maw_optimizer, number C.uint32_t, failure **C.maw_error) C.maw_status {
		return C.maw_set_lr(handle, number, C.double(lr), failure)
	})
}

// LR returns the current learning rate of a param group.
func (o *Optimizer) LR(group int) (lr float64, err error) {
	err = o.ofGroup(group, false, func(handle *C.maw_optimizer, number C.uint32_t, failure **C.maw_error) C.maw_status {
		return C.maw_get_lr(handle, number, (*C.double)(&lr), failure)
	})
	return lr, err
}

// SetWeightDecay sets the weight decay of a param group, or of [AllGroups], from the next step on.
func (o *Optimizer) SetWeightDecay(group int, weightDecay float64) error {
	return o.ofGroup(group, true, func(handle *C.maw_optimizer, number C.uint32_t, failure **C.maw_error) C.maw_status {
		return C.maw_set_weight_decay(handle, number, C.double(weightDecay), failure)
	})
}

// WeightDecay returns the current weight decay of a param group.
func (o *Optimizer) WeightDecay(group int) (weightDecay float64, err error) {
	err = o.ofGroup(group, false, func(handle *C.maw_optimizer, number C.uint32_t, failure **C.maw_error) C.maw_status {
		return C.maw_get_weight_decay(handle, number, (*C.double)(&weightDecay), failure)
	})
	return weightDecay, err
}

// SetBetas sets the decay rates of both moments of a param group, or of [AllGroups], from the next step on; 0 ≤ beta < 1.
// The bias correction is computed with the new values and the tensor's number of updates, as in PyTorch.
func (o *Optimizer) SetBetas(group int, beta1, beta2 float64) error {
	return o.ofGroup(group, true, func(handle *C.maw_optimizer, number C.uint32_t, failure **C.maw_error) C.maw_status {
		return C.maw_set_betas(handle, number, C.double(beta1), C.double(beta2), failure)
	})
}

// Betas returns the current decay rates of a param group's moments.
func (o *Optimizer) Betas(group int) (beta1, beta2 float64, err error) {
	err = o.ofGroup(group, false, func(handle *C.maw_optimizer, number C.uint32_t, failure **C.maw_error) C.maw_status {
		return C.maw_get_betas(handle, number, (*C.double)(&beta1), (*C.double)(&beta2), failure)
	})
	return beta1, beta2, err
}

// SetEps sets what is added to the square root of the second moment, of a param group or of [AllGroups], from the next step
// on; > 0 in the precision of the computation.
func (o *Optimizer) SetEps(group int, eps float64) error {
	return o.ofGroup(group, true, func(handle *C.maw_optimizer, number C.uint32_t, failure **C.maw_error) C.maw_status {
		return C.maw_set_eps(handle, number, C.double(eps), failure)
	})
}

// Eps returns the current eps of a param group.
func (o *Optimizer) Eps(group int) (eps float64, err error) {
	err = o.ofGroup(group, false, func(handle *C.maw_optimizer, number C.uint32_t, failure **C.maw_error) C.maw_status {
		return C.maw_get_eps(handle, number, (*C.double)(&eps), failure)
	})
	return eps, err
}

// ofGroup is call with the number of a param group, or of all of them if that is allowed.
func (o *Optimizer) ofGroup(group int, all bool, f func(handle *C.maw_optimizer, number C.uint32_t, failure **C.maw_error) C.maw_status) error {
	number, err := groupNumber(group, all)
	if err != nil {
		return err
	}
	return o.call(func(handle *C.maw_optimizer, failure **C.maw_error) C.maw_status {
		return f(handle, number, failure)
	})
}

func groupNumber(group int, all bool) (C.uint32_t, error) {
	if all && group == AllGroups {
		return C.MAW_ALL_GROUPS, nil
	}
	if group < 0 || group >= math.MaxUint32 {
		return 0, &Error{Status: ErrNotFound, Message: fmt.Sprintf("no param group %d", group)}
	}
	return C.uint32_t(group), nil
}

// SetMaxGradNorm sets the norm to which all gradients together are clipped, from the next step or meta-update on; 0 = no
// clipping. [ErrInvalidState] on CUDA if a step was captured into a graph that has no pass for clipping.
func (o *Optimizer) SetMaxGradNorm(maxGradNorm float64) error {
	return o.call(func(handle *C.maw_optimizer, failure **C.maw_error) C.maw_status {
		return C.maw_set_max_grad_norm(handle, C.double(maxGradNorm), failure)
	})
}

// MaxGradNorm returns the norm to which all gradients together are clipped; 0 = no clipping.
func (o *Optimizer) MaxGradNorm() (maxGradNorm float64, err error) {
	err = o.call(func(handle *C.maw_optimizer, failure **C.maw_error) C.maw_status {
		return C.maw_get_max_grad_norm(handle, (*C.double)(&maxGradNorm), failure)
	})
	return maxGradNorm, err
}

// SetPriorities sets HUW's priorities of gradient alignment, loss decrease and generalization gap, from the next
// meta-update on.
func (o *Optimizer) SetPriorities(priorities [3]float64) error {
	return o.call(func(handle *C.maw_optimizer, failure **C.maw_error) C.maw_status {
		return C.maw_set_priorities(handle, (*C.double)(&priorities[0]), failure)
	})
}

// Priorities returns HUW's current priorities.
func (o *Optimizer) Priorities() (priorities [3]float64, err error) {
	err = o.call(func(handle *C.maw_optimizer, failure **C.maw_error) C.maw_status {
		return C.maw_get_priorities(handle, (*C.double)(&priorities[0]), failure)
	})
	return priorities, err
}
