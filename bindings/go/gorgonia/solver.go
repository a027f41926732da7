// Package solver is MetaAdamW as a Solver of gorgonia (gorgonia.org/gorgonia), on the CPU.
package solver

import (
	"fmt"
	"unsafe"

	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"libmetaadamw.example/metaadamw"
)

var _ G.Solver = (*Solver)(nil)

// A Solver trains the nodes of one model, in place. Close it.
type Solver struct {
	// Optimizer has everything else: learning rates, factors, saving and loading.
	Optimizer *metaadamw.Optimizer
	// Report of the last step. A step with a value that is not finite is skipped, which is no error.
	Report metaadamw.Report

	params, grads metaadamw.Mixed
}

// New registers the nodes of a model, which must have values, as one param group. A node's name is its tensor's; use
// names as in "layers.0.weight", from which the modulation groups are derived.
func New(options metaadamw.Options, group metaadamw.ParamGroup, model []G.ValueGrad) (*Solver, error) {
	var tensors []metaadamw.Tensor
	for i, node := range model {
		value := node.Value()
		if value == nil {
			return nil, fmt.Errorf("%s has no value", nameOf(node, i))
		}
		t := metaadamw.Tensor{Name: nameOf(node, i), Shape: value.Shape()}
		if value.Dtype() == tensor.Float64 {
			t.DType = metaadamw.Float64
		}
		if _, err := elements(value, t.Name); err != nil {
			return nil, err
		}
		tensors = append(tensors, t)
	}
	optimizer, err := metaadamw.New(options)
	if err != nil {
		return nil, err
	}
	if _, err := optimizer.AddParamGroup(group, tensors...); err != nil {
		optimizer.Close()
		return nil, err
	}
	return &Solver{Optimizer: optimizer}, nil
}

// Close frees the optimizer.
func (s *Solver) Close() error { return s.Optimizer.Close() }

// Step makes a step with the gradients of the nodes, in the order of [New], and sets the gradients to 0, as gorgonia's
// solvers do. On failure nothing is changed.
func (s *Solver) Step(model []G.ValueGrad) error {
	if err := s.collect(model); err != nil {
		return err
	}
	report, err := s.Optimizer.Step(s.params, s.grads)
	if err != nil {
		return err
	}
	s.Report = report
	s.zeroGradients()
	return nil
}

// MetaDue reports whether a meta-update is due, after a step.
func (s *Solver) MetaDue() bool { return s.Optimizer.MetaDue() }

// MetaUpdate makes a meta-update. evaluate sets the input to the request's batch, runs the machine, which must compute
// the gradients, and returns the loss. The gradients are 0 before each call and at the end.
func (s *Solver) MetaUpdate(model []G.ValueGrad, evaluate func(metaadamw.Request) (loss float64, err error)) (metaadamw.Result, error) {
	if err := s.collect(model); err != nil {
		return metaadamw.Result{}, err
	}
	defer s.zeroGradients()
	params := s.params // stay where they are until the meta-update has ended
	grads := append(metaadamw.Mixed(nil), s.grads...)
	return s.Optimizer.MetaUpdate(params, grads, func(r metaadamw.Request) (float64, error) {
		s.zeroGradients()
		loss, err := evaluate(r)
		if err == nil {
			err = s.collect(model) // the run may have moved the gradients
			copy(grads, s.grads)
		}
		return loss, err
	})
}

// WithAverages calls f while the averages of the parameters are in the nodes, for an evaluation; afterwards the parameters are
// there again. For options with a Horizon, as of [metaadamw.HorizonOptions].
func (s *Solver) WithAverages(model []G.ValueGrad, f func() error) error {
	if err := s.collect(model); err != nil {
		return err
	}
	return s.Optimizer.WithAverages(s.params, f)
}

// collect finds the elements of parameters and gradients.
func (s *Solver) collect(model []G.ValueGrad) error {
	params, grads := make(metaadamw.Mixed, len(model)), make(metaadamw.Mixed, len(model))
	for i, node := range model {
		name := nameOf(node, i)
		gradient, err := node.Grad()
		if err != nil {
			return fmt.Errorf("no gradient of %s: %w", name, err)
		}
		if params[i], err = elements(node.Value(), name); err != nil {
			return err
		}
		if grads[i], err = elements(gradient, "the gradient of "+name); err != nil {
			return err
		}
	}
	s.params, s.grads = params, grads
	return nil
}

func (s *Solver) zeroGradients() {
	for _, gradient := range s.grads {
		switch g := gradient.(type) {
		case metaadamw.F32:
			clear(g)
		case metaadamw.F64:
			clear(g)
		}
	}
}

// elements are the elements of a value, in place.
func elements(value G.Value, name string) (metaadamw.Slice, error) {
	switch v := value.(type) {
	case *G.F32:
		return metaadamw.F32(unsafe.Slice((*float32)(v), 1)), nil
	case *G.F64:
		return metaadamw.F64(unsafe.Slice((*float64)(v), 1)), nil
	case *tensor.Dense:
		if v.RequiresIterator() || !v.IsNativelyAccessible() {
			return nil, fmt.Errorf("%s is a view or not in the host's memory", name)
		}
		switch v.Dtype() {
		case tensor.Float32:
			return metaadamw.F32(v.Float32s()), nil
		case tensor.Float64:
			return metaadamw.F64(v.Float64s()), nil
		}
		return nil, fmt.Errorf("%s is %v, expected float32 or float64", name, v.Dtype())
	}
	return nil, fmt.Errorf("%s is a %T, expected a dense tensor or a scalar of float32 or float64", name, value)
}

func nameOf(node G.ValueGrad, i int) string {
	if named, ok := node.(G.Namer); ok && named.Name() != "" {
		return named.Name()
	}
	return fmt.Sprintf("param.%d", i)
}
