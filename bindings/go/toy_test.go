package metaadamw

import (
	"errors"
	"math"
	"testing"
)

// toy is the model of these tests: ½ Σ c (x − y)² over three tensors, c and y of a batch.
type toy struct{ params, grads [][]float32 }

var toyTensors = []Tensor{
	{Name: "layers.0.weight", Shape: []int{5, 3}},
	{Name: "layers.0.bias", Shape: []int{5}},
	{Name: "layers.9.weight", Shape: []int{2, 5}},
}

func newToy() *toy {
	m := &toy{}
	k := 0
	for _, n := range []int{15, 5, 10} {
		param := make([]float32, n)
		for i := range param {
			param[i] = float32((k*37)%101)/101 - 0.5
			k++
		}
		m.params = append(m.params, param)
		m.grads = append(m.grads, make([]float32, n))
	}
	return m
}

func (m *toy) loss(batch int) float64 {
	loss, k := 0.0, 0
	for t, param := range m.params {
		for i, x := range param {
			c := 1 + float64((k*13+batch*7)%17)/17
			off := float64(x) - (float64((k*29+batch*11)%89)/89 - 0.5)
			loss += 0.5 * c * off * off
			m.grads[t][i] = float32(c * off)
			k++
		}
	}
	return loss
}

func (m *toy) answer(r Request) (float64, error) { return m.loss(int(r.Batch)), nil }

func (m *toy) step(t testing.TB, o *Optimizer) Report {
	t.Helper()
	m.loss(10)
	report, err := o.Step(Float32s(m.params), Float32s(m.grads))
	must(t, err)
	return report
}

func (m *toy) bits() []uint32 { return bitsOfAll(m.params) }

func bitsOfAll(slices [][]float32) (all []uint32) {
	for _, s := range slices {
		for _, x := range s {
			all = append(all, math.Float32bits(x))
		}
	}
	return all
}

// small is quick options.
func small() Options {
	return Options{Seed: 1, AttnLayers: 1, AttnHiddenDim: 4, Threads: 1, MetaInterval: 3}
}

func newOptimizer(t testing.TB, options Options, tensors ...Tensor) *Optimizer {
	t.Helper()
	o, err := New(options)
	must(t, err)
	t.Cleanup(func() { must(t, o.Close()) })
	_, err = o.AddParamGroup(ParamGroup{LR: new(1e-2)}, tensors...)
	must(t, err)
	return o
}

func newToyOptimizer(t testing.TB, options Options) *Optimizer {
	t.Helper()
	return newOptimizer(t, options, toyTensors...)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wants(t testing.TB, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Fatalf("got %v, want %v", err, target)
	}
}

// says checks an error's status and text.
func says(t testing.TB, err error, status Status, text string) {
	t.Helper()
	wants(t, err, status)
	if got := err.Error(); got != "metaadamw: "+text {
		t.Fatalf("got  %q\nwant %q", got, "metaadamw: "+text)
	}
}
