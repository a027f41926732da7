package metaadamw

import (
	"math"
	"slices"
	"testing"
)

// bf16 is x as bfloat16, for an x that it holds exactly.
func bf16(x float32) uint16 { return uint16(math.Float32bits(x) >> 16) }

func wide(bits uint16) float32 { return math.Float32frombits(uint32(bits) << 16) }

// halves is an optimizer of one tensor of 16-bit elements and float32 gradients, with a small attention module.
func halves(t *testing.T, dtype DType, precision Precision) *Optimizer {
	t.Helper()
	o, err := New(small())
	must(t, err)
	t.Cleanup(func() { o.Close() })
	group := ParamGroup{LR: new(0.01), Precision: precision, MomentDType: Float32}
	_, err = o.AddParamGroup(group, Tensor{Name: "layers.0.weight", Shape: []int{4}, DType: dtype, GradDType: Float32})
	must(t, err)
	return o
}

func TestMastersAreTrainedAsFloat32(t *testing.T) {
	for _, precision := range []Precision{PrecisionMaster, PrecisionRemainder} {
		o := halves(t, BFloat16, precision)
		plain, err := New(small())
		must(t, err)
		defer plain.Close()
		_, err = plain.AddParamGroup(ParamGroup{LR: new(0.01)}, Tensor{Name: "layers.0.weight", Shape: []int{4}})
		must(t, err)

		param := BF16{bf16(1), bf16(-2), bf16(0.5), bf16(3)}
		expected := F32{1, -2, 0.5, 3}
		for step := range 10 {
			grads := Float32s{{0.1, -0.2, 0.3, float32(step)}}
			_, err = o.Step(BFloat16s{param}, grads)
			must(t, err)
			_, err = plain.Step(Float32s{expected}, grads)
			must(t, err)
		}
		masters := make([]float32, 4)
		must(t, o.Masters(0, param, masters))
		if !slices.Equal(masters, expected) {
			t.Errorf("masters %v, expected %v", masters, expected)
		}
		for i, master := range masters {
			if rounded := wide(param[i]); math.Abs(float64(rounded-master)) > math.Abs(float64(master))/256 {
				t.Errorf("%v is not %v rounded", rounded, master)
			}
		}
	}
}

func TestMastersCanBeSet(t *testing.T) {
	o := halves(t, Float16, PrecisionMaster)
	param, got := make(F16, 4), make([]float32, 4)
	want := []float32{1, 0.1, -2, 1e-3}
	must(t, o.SetMasters(0, want, param))
	must(t, o.Masters(0, param, got))
	if !slices.Equal(got, want) || param[0] != 0x3c00 || param[2] != 0xc000 {
		t.Errorf("masters %v, param %#x", got, param)
	}
	says(t, o.SetMasters(0, []float32{1}, param), ErrInvalidArgument, "values[0] ('layers.0.weight') has 1 elements, expected 4")
	says(t, o.Masters(0, F32(want), got), ErrInvalidArgument, "param[0] ('layers.0.weight') is float32, expected float16")
	says(t, o.Masters(0, nil, got), ErrInvalidArgument, "param ('layers.0.weight') is nil")
	wants(t, o.Masters(1, param, got), ErrNotFound)
	wants(t, halves(t, BFloat16, PrecisionStochastic).Masters(0, BF16(param), got), ErrNotFound)
}

func TestSixteenBitSlicesMustBeOfTheRegisteredType(t *testing.T) {
	o := halves(t, BFloat16, PrecisionNearest)
	params, grads := Mixed{BF16{1, 2, 3, 4}}, Mixed{F32{1, 2, 3, 4}}
	_, err := o.Step(Float16s{{1, 2, 3, 4}}, grads)
	says(t, err, ErrInvalidArgument, "params[0] ('layers.0.weight') is float16, expected bfloat16")
	_, err = o.Step(params, BFloat16s{{1, 2, 3, 4}})
	says(t, err, ErrInvalidArgument, "grads[0] ('layers.0.weight') is bfloat16, expected float32")
	_, err = o.Step(params, grads)
	must(t, err)
	m, v := make(F32, 4), make(F32, 4)
	step, err := o.TensorState(0, m, v) // moments are float32
	must(t, err)
	if step != 1 || m[3] == 0 || v[3] == 0 {
		t.Errorf("step %d, m %v, v %v", step, m, v)
	}
}

func TestATensorsPrecisionGoesBeforeThatOfItsGroup(t *testing.T) {
	o, err := New(small())
	must(t, err)
	defer o.Close()
	tensor := func(name string, dtype DType, precision *Precision) Tensor {
		return Tensor{Name: name, Shape: []int{2}, DType: dtype, Precision: precision}
	}
	_, err = o.AddParamGroup(ParamGroup{Precision: PrecisionMaster},
		tensor("as the group", BFloat16, nil),
		tensor("norm", Float32, nil), // for which the group's has no meaning
		tensor("nearest", BFloat16, new(PrecisionNearest)),
		tensor("remainder", BFloat16, new(PrecisionRemainder)))
	must(t, err)
	_, err = o.Step(Mixed{BF16{1, 2}, F32{1, 2}, BF16{1, 2}, BF16{1, 2}}, Mixed{BF16{1, 1}, F32{1, 1}, BF16{1, 1}, BF16{1, 1}})
	must(t, err)
	masters := make([]float32, 2)
	must(t, o.Masters(0, BF16{1, 2}, masters))
	wants(t, o.Masters(1, F32{1, 2}, masters), ErrNotFound)
	wants(t, o.Masters(2, BF16{1, 2}, masters), ErrNotFound)
	must(t, o.Masters(3, BF16{1, 2}, masters))

	for _, refused := range []Tensor{
		tensor("norm.weight", Float32, new(PrecisionMaster)),
		tensor("half", Float16, new(PrecisionRemainder)),
		tensor("unknown", BFloat16, new(Precision(9))),
	} {
		wants(t, o.AddTensors(0, refused), ErrInvalidArgument)
	}
}
