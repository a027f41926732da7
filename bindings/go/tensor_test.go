package metaadamw

import (
	"math"
	"slices"
	"syscall"
	"testing"
	"unsafe"
)

func TestSlicesThatDoNotFitAreRefused(t *testing.T) {
	o := newOptimizer(t, small(),
		Tensor{Name: "w", Shape: []int{2, 3}}, Tensor{Name: "b", DType: Float64}, Tensor{Name: "none", Shape: []int{3, 0}})
	w, b, none := make([]float32, 6), make([]float64, 1), F32{}
	for text, slices := range map[string][2]Slices{
		"params is nil, expected 3 slices":                        {nil, Mixed{nil, nil, nil}},
		"grads is nil, expected 3 slices":                         {Mixed{F32(w), F64(b), none}, nil},
		"params has 2 slices, expected one for each of 3 tensors": {Mixed{F32(w), F64(b)}, Mixed{nil, nil, nil}},
		"grads has 0 slices, expected one for each of 3 tensors":  {Mixed{F32(w), F64(b), none}, Float32s(nil)},
		"params[0] ('w') is nil":                                  {Mixed{nil, F64(b), none}, Mixed{nil, nil, nil}},
		"params[0] ('w') has 5 elements, expected 6":              {Mixed{F32(w[:5]), F64(b), none}, Mixed{nil, nil, nil}},
		"params[1] ('b') is float32, expected float64":            {Float32s{w, w[:1], nil}, Mixed{nil, nil, nil}},
		"grads[0] ('w') is float64, expected float32":             {Mixed{F32(w), F64(b), none}, Float64s{make([]float64, 6), nil, nil}},
		"grads[1] ('b') has 0 elements, expected 1":               {Mixed{F32(w), F64(b), none}, Mixed{nil, F64{}, nil}},
		"grads[2] ('none') has 1 elements, expected 0":            {Mixed{F32(w), F64(b), none}, Mixed{nil, nil, F32{0}}},
	} {
		_, err := o.Step(slices[0], slices[1])
		says(t, err, ErrInvalidArgument, text)
	}
	if steps, _ := o.StepCount(); steps != 0 {
		t.Errorf("%d steps", steps)
	}
	_, err := o.Step(Mixed{F32(w), F64(b), nil}, Mixed{F32(w), nil, nil})
	wants(t, err, ErrInvalidArgument) // a parameter that is its own gradient: the library refuses it
}

func TestTensorsThatAreRefused(t *testing.T) {
	o, err := New(Options{})
	must(t, err)
	defer o.Close()
	for _, tensor := range []Tensor{
		{Name: ""}, {Name: "a\x00b"}, {Name: "a\nb"}, {Name: "\xff"}, {Name: "w", ModulationGroup: "g\x00"},
		{Name: "w", ModulationGroup: "g"}, {Name: "w", Shape: []int{2, -1}}, {Name: "w", DType: 9}, {Name: "w", GradDType: 9}, {Name: "w", LayerKind: 9},
		{Name: "w", LayerIndex: -1}, {Name: "w", LayerIndex: 1000001},
		{Name: "w", Shape: []int{math.MaxInt, 2}}, {Name: "w", Shape: []int{math.MaxInt, 3}}, {Name: "w", Shape: make([]int, 65)},
	} {
		_, err := o.AddParamGroup(ParamGroup{}, tensor)
		wants(t, err, ErrInvalidArgument)
	}
	_, err = o.AddParamGroup(ParamGroup{})
	wants(t, err, ErrInvalidArgument)
	_, err = o.AddParamGroup(ParamGroup{}, Tensor{Name: "w"}, Tensor{Name: "w"})
	wants(t, err, ErrInvalidArgument)

	// Nothing was registered: indices begin at 0.
	for want := range 2 {
		group, err := o.AddParamGroup(ParamGroup{}, Tensor{Name: string(rune('a' + want))})
		must(t, err)
		if group != want {
			t.Errorf("group %d, want %d", group, want)
		}
	}
	names, err := o.TensorNames()
	must(t, err)
	if len(names) != 2 || names[0] != "a" || names[1] != "b" || len(o.tensors) != 2 {
		t.Errorf("got %q", names)
	}
}

func TestLayerKindAndIndexComeBeforeTheName(t *testing.T) {
	shape := []int{2, 2}
	o := newOptimizer(t, small(),
		Tensor{Name: "0.attn.norm", Shape: shape, LayerKind: LayerLayerNorm, LayerIndex: 1},
		Tensor{Name: "3", Shape: shape, LayerKind: LayerConvolution, LayerIndex: 4},
		Tensor{Name: "norm", Shape: shape, LayerKind: LayerBatchNorm}, Tensor{Name: "x", Shape: shape, LayerKind: LayerRecurrent})
	must(t, o.Prepare())
	groups, err := o.Groups()
	must(t, err)
	want := []string{
		"layernorm.shallow.weight", "convolution.deep.weight", "batchnorm.middle.weight", "recurrent.middle.weight"}
	if !slices.Equal(groups, want) {
		t.Errorf("got %q, want %q", groups, want)
	}
}

func TestScalarsEmptyTensorsAndBothTypes(t *testing.T) {
	o := newOptimizer(t, small(), Tensor{Name: "scalar"}, Tensor{Name: "head", Shape: []int{2}, DType: Float64},
		Tensor{Name: "none", Shape: []int{0, 7}}, Tensor{Name: "never", Shape: []int{7, 0}})
	scalar, head := F32{1}, F64{1, 1}
	_, err := o.Step(Mixed{scalar, head, F32(nil), nil}, Mixed{F32{1}, F64{1, 1}, F32{}, F32(nil)})
	must(t, err)
	if scalar[0] >= 1 || head[0] >= 1 {
		t.Errorf("not moved: %v %v", scalar, head)
	}
	for tensor, want := range []int{1, 1, 1, 0} { // an empty gradient is one, a nil gradient is none
		if step, err := o.TensorState(tensor, nil, nil); err != nil || step != want {
			t.Errorf("tensor %d: step %d, %v", tensor, step, err)
		}
	}
}

var global [15]float32

// Parameters may be in memory that the garbage collector does not manage, or be parts of one allocation.
func TestAnyMemoryWillDo(t *testing.T) {
	mapped, err := syscall.Mmap(-1, 0, 4096, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	must(t, err)
	defer syscall.Munmap(mapped)
	outside := unsafe.Slice((*float32)(unsafe.Pointer(&mapped[0])), 5)
	arena := make([]float32, 25)

	m, plain := newToy(), newToy()
	for i, place := range [][]float32{global[:], outside, arena[:10:10]} {
		copy(place, m.params[i])
		m.params[i] = place
	}
	m.grads[1], m.grads[2] = arena[10:15], arena[15:25]
	for _, m := range []*toy{m, plain} {
		o := newToyOptimizer(t, small())
		for range 4 {
			m.step(t, o)
		}
		_, err := o.MetaUpdate(Float32s(m.params), Float32s(m.grads), m.answer)
		must(t, err)
		m.step(t, o)
	}
	same(t, m.bits(), plain.bits())
}
