package metaadamw

import "testing"

// first is the model of the first tensors of m, whose slices are those of m.
func (m *toy) first(tensors int) *toy { return &toy{m.params[:tensors], m.grads[:tensors]} }

func TestARunThatGrewIsOneThatWasRegisteredWholeAndLoadedWhatThereWas(t *testing.T) {
	grown, m := newOptimizer(t, small(), toyTensors[0]), newToy()
	m.first(1).train(t, grown, 4)
	file, err := grown.SaveBytes()
	must(t, err)
	must(t, grown.AddTensors(0, toyTensors[1]))
	group, err := grown.AddParamGroup(ParamGroup{LR: new(1e-3)}, toyTensors[2])
	must(t, err)
	if group != 1 {
		t.Errorf("group %d", group)
	}
	_, err = grown.Factors()
	wants(t, err, ErrInvalidState) // those of before are of other groups

	whole, n := newOptimizer(t, small(), toyTensors[:2]...), m.clone()
	_, err = whole.AddParamGroup(ParamGroup{LR: new(1e-3)}, toyTensors[2])
	must(t, err)
	wants(t, whole.LoadBytes(file), ErrMismatch)
	must(t, whole.LoadBytes(file, Partial))
	report, err := whole.LoadReport()
	must(t, err)
	same(t, report.MissingTensors, []string{"layers.0.bias", "layers.9.weight"})
	same(t, report.UnexpectedTensors, nil)

	m.train(t, grown, 5)
	n.train(t, whole, 5)
	same(t, m.bits(), n.bits())
	same(t, attention(t, grown), attention(t, whole))
	names, err := grown.Groups()
	must(t, err)
	expected, err := whole.Groups()
	must(t, err)
	same(t, names, expected)
	for tensor, want := range []int{9, 5, 5} {
		if step, err := grown.TensorState(tensor, nil, nil); err != nil || step != want {
			t.Errorf("tensor %d: step %d, %v", tensor, step, err)
		}
	}
}

func TestTensorsBehindARemovedOneMoveUp(t *testing.T) {
	o := newOptimizer(t, small(), Tensor{Name: "a", Shape: []int{2}}, Tensor{Name: "b", DType: Float64}, Tensor{Name: "c", Shape: []int{3}})
	must(t, o.RemoveTensor(0)) // before preparation
	must(t, o.AddTensors(0, Tensor{Name: "d", Shape: []int{4}, DType: BFloat16, GradDType: Float32}))
	b, c, d := F64{1}, F32{1, 2, 3}, BF16{bf16(1), bf16(2), bf16(3), bf16(4)}
	gradB, gradC, gradD := F64{1}, F32{1, 1, 1}, F32{1, 1, 1, 1}
	_, err := o.Step(Mixed{b, c, d}, Mixed{gradB, gradC, gradD})
	must(t, err)
	must(t, o.RemoveTensor(1)) // and after it
	names, err := o.TensorNames()
	must(t, err)
	same(t, names, []string{"b", "d"})
	_, err = o.Step(Mixed{b, c, d}, Mixed{gradB, gradC, gradD})
	says(t, err, ErrInvalidArgument, "params has 3 slices, expected one for each of 2 tensors")
	_, err = o.Step(Mixed{b, c}, Mixed{gradB, gradC})
	says(t, err, ErrInvalidArgument, "params[1] ('d') is float32, expected bfloat16")
	_, err = o.Step(Mixed{b, d}, Mixed{gradB, gradD})
	must(t, err)
	moments := make(F32, 4)
	if step, err := o.TensorState(1, moments, nil); err != nil || step != 2 || moments[3] == 0 {
		t.Errorf("step %d, %v, %v", step, moments, err)
	}
	_, err = o.TensorGroup(2)
	wants(t, err, ErrNotFound)

	must(t, o.AddTensors(0, Tensor{Name: "c", Shape: []int{3}})) // its name is free again
	if step, err := o.TensorState(2, nil, nil); err != nil || step != 0 {
		t.Errorf("step %d, %v", step, err)
	}
	_, err = o.Step(Mixed{b, d, c}, Mixed{gradB, gradD, gradC})
	must(t, err)
}

func TestAChangeThatFailsChangesNothing(t *testing.T) {
	o, m := newToyOptimizer(t, small()), newToy()
	m.step(t, o)
	before, err := o.SaveBytes()
	must(t, err)
	unchanged := func() {
		t.Helper()
		after, err := o.SaveBytes()
		must(t, err)
		same(t, after, before)
		if len(o.tensors) != 3 || o.tensors[0].name != "layers.0.weight" {
			t.Fatalf("%v", o.tensors)
		}
	}
	good := Tensor{Name: "new", Shape: []int{1}}
	wants(t, o.AddTensors(0), ErrInvalidArgument)
	wants(t, o.AddTensors(0, good, Tensor{Name: "layers.0.bias", Shape: []int{5}}), ErrInvalidArgument)
	wants(t, o.AddTensors(0, good, Tensor{Name: "wrong", Shape: []int{-1}}), ErrInvalidArgument)
	says(t, o.AddTensors(-1, good), ErrNotFound, "no param group -1")
	wants(t, o.AddTensors(1, good), ErrNotFound)
	_, err = o.AddParamGroup(ParamGroup{LR: new(-1.0)}, good)
	wants(t, err, ErrInvalidArgument)
	says(t, o.RemoveTensor(3), ErrNotFound, "no tensor 3: 3 are registered")
	wants(t, o.RemoveTensor(-1), ErrNotFound)
	unchanged()

	_, err = o.MetaUpdate(Float32s(m.params), Float32s(m.grads), func(r Request) (float64, error) {
		wants(t, o.AddTensors(0, good), ErrInvalidState)
		wants(t, o.RemoveTensor(0), ErrInvalidState)
		return 0, errOfHost
	})
	wants(t, err, errOfHost)
	m.step(t, o)

	must(t, o.RemoveTensor(2))
	must(t, o.RemoveTensor(0))
	wants(t, o.RemoveTensor(0), ErrInvalidState) // the last one
	must(t, o.AddTensors(0, good))
}
