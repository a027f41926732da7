package metaadamw

import (
	"fmt"
	"testing"
)

// A step allocates the same for few tensors and for many.
func TestAllocationsDoNotGrowWithTensors(t *testing.T) {
	perStep := func(n int) float64 {
		var tensors []Tensor
		var params, grads Float32s
		for i := range n {
			tensors = append(tensors, Tensor{Name: fmt.Sprintf("layers.%d.weight", i), Shape: []int{2, 2}})
			params, grads = append(params, make([]float32, 4)), append(grads, []float32{1, 2, 3, 4})
		}
		o := newOptimizer(t, small(), tensors...)
		return testing.AllocsPerRun(20, func() {
			if _, err := o.Step(params, grads); err != nil {
				t.Fatal(err)
			}
		})
	}
	few, many := perStep(2), perStep(1000)
	if many > few+2 { // the collector may have taken a pinner
		t.Errorf("%v allocations with 1000 tensors, %v with 2", many, few)
	}
}
