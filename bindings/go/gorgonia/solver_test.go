package solver

import (
	"errors"
	"math"
	"slices"
	"testing"

	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"libmetaadamw.example/metaadamw"
)

// line is y = w x + b on four points, w a vector of one element and b a scalar; its loss is the mean square.
type line struct {
	machine G.VM
	x, y, l *G.Node
	model   []G.ValueGrad
	w, b    *G.Node
}

func newLine(t *testing.T) *line {
	g := G.NewGraph()
	m := &line{
		x: G.NewMatrix(g, G.Float32, G.WithShape(4, 1), G.WithName("x")),
		y: G.NewVector(g, G.Float32, G.WithShape(4), G.WithName("y")),
		w: G.NewVector(g, G.Float32, G.WithShape(1), G.WithName("layers.0.weight"), G.WithValue(tensor.New(tensor.WithShape(1), tensor.WithBacking([]float32{0.5})))),
		b: G.NewScalar(g, G.Float32, G.WithName("layers.0.bias"), G.WithValue(float32(0.25))),
	}
	product := G.Must(G.Mul(m.x, m.w))
	off := G.Must(G.Sub(G.Must(G.Add(product, m.b)), m.y))
	m.l = G.Must(G.Mean(G.Must(G.Square(off))))
	_, err := G.Grad(m.l, m.w, m.b)
	must(t, err)
	m.machine = G.NewTapeMachine(g, G.BindDualValues(m.w, m.b))
	t.Cleanup(func() { must(t, m.machine.Close()) })
	m.model = G.NodesToValueGrads(G.Nodes{m.w, m.b})
	return m
}

func batch(number int) (x, y []float32) {
	for i := range 4 {
		point := float32(i+number%5)/4 - 1
		x, y = append(x, point), append(y, 3*point+1)
	}
	return x, y
}

// run computes the loss and the gradients on a batch.
func (m *line) run(number int) (float64, error) {
	x, y := batch(number)
	defer m.machine.Reset()
	err := errors.Join(G.Let(m.x, tensor.New(tensor.WithShape(4, 1), tensor.WithBacking(x))),
		G.Let(m.y, tensor.New(tensor.WithShape(4), tensor.WithBacking(y))), m.machine.RunAll())
	if err != nil {
		return 0, err
	}
	return float64(m.l.Value().Data().(float32)), nil
}

func (m *line) params() []float32 {
	return []float32{m.w.Value().Data().([]float32)[0], m.b.Value().Data().(float32)}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var (
	options = metaadamw.Options{Seed: 1, AttnLayers: 1, MetaInterval: 5}
	group   = metaadamw.ParamGroup{LR: new(0.05), WeightDecay: new(0.0)}
)

// The same steps and meta-updates with slices and a gradient by hand.
func TestASolverIsTheOptimizer(t *testing.T) {
	m := newLine(t)
	s, err := New(options, group, m.model)
	must(t, err)
	defer s.Close()

	o, err := metaadamw.New(options)
	must(t, err)
	defer o.Close()
	_, err = o.AddParamGroup(group, metaadamw.Tensor{Name: "layers.0.weight", Shape: []int{1}}, metaadamw.Tensor{Name: "layers.0.bias"})
	must(t, err)
	params, grads := metaadamw.Float32s{{0.5}, {0.25}}, metaadamw.Float32s{{0}, {0}}
	byHand := func(number int) (loss float64) {
		x, y := batch(number)
		grads[0][0], grads[1][0] = 0, 0
		for i := range x {
			off := params[0][0]*x[i] + params[1][0] - y[i]
			loss += float64(off) * float64(off) / 4
			grads[0][0] += off * x[i] / 2
			grads[1][0] += off / 2
		}
		return loss
	}

	for step := range 200 {
		_, err := m.run(step)
		must(t, err)
		must(t, s.Step(m.model))
		byHand(step)
		_, err = o.Step(params, grads)
		must(t, err)
		if s.Report.Step != step+1 || s.Report.Skipped {
			t.Fatalf("%+v", s.Report)
		}
		if s.MetaDue() != o.MetaDue() {
			t.Fatal("due at another step")
		}
		if s.MetaDue() {
			before := m.params()
			result, err := s.MetaUpdate(m.model, func(r metaadamw.Request) (float64, error) { return m.run(int(r.Batch)) })
			must(t, err)
			if !slices.Equal(m.params(), before) {
				t.Fatalf("step %d: %v became %v", step, before, m.params())
			}
			want, err := o.MetaUpdate(params, grads, func(r metaadamw.Request) (float64, error) { return byHand(int(r.Batch)), nil })
			must(t, err)
			if result.Outcome != metaadamw.OutcomeUpdated || math.Abs(result.LossTrain-want.LossTrain) > 1e-4 ||
				math.Abs(result.TermGradient-want.TermGradient) > 1e-3 {
				t.Fatalf("step %d: %+v\n%+v", step, result, want)
			}
		}
		got := m.params()
		for i := range params {
			if math.Abs(float64(got[i]-params[i][0])) > 1e-3 {
				t.Fatalf("step %d: %v, want %v", step, got, params)
			}
		}
		for _, node := range m.model {
			gradient, err := node.Grad()
			must(t, err)
			if zero, err := elements(gradient, ""); err != nil || zero.(metaadamw.F32)[0] != 0 {
				t.Fatalf("the gradient is %v, %v", zero, err)
			}
		}
	}
	if got := m.params(); math.Abs(float64(got[0]-3)) > 0.1 || math.Abs(float64(got[1]-1)) > 0.1 {
		t.Errorf("got %v", got)
	}
}

func TestWhatASolverRefuses(t *testing.T) {
	g := G.NewGraph()
	if _, err := New(options, group, []G.ValueGrad{G.NewScalar(g, G.Float32, G.WithName("w"))}); err == nil || err.Error() != "w has no value" {
		t.Error(err)
	}
	of := G.NewScalar(g, G.Int, G.WithName("i"), G.WithValue(1))
	if _, err := New(options, group, []G.ValueGrad{of}); err == nil {
		t.Error("integers are trained")
	}
	m := newLine(t)
	s, err := New(options, group, m.model)
	must(t, err)
	defer s.Close()
	_, err = m.run(0)
	must(t, err)
	if err := s.Step(m.model[:1]); !errors.Is(err, metaadamw.ErrInvalidArgument) {
		t.Error(err)
	}
	before, cause := m.params(), errors.New("no data")
	_, err = s.MetaUpdate(m.model, func(metaadamw.Request) (float64, error) { return 0, cause })
	if !errors.Is(err, cause) || !slices.Equal(m.params(), before) {
		t.Errorf("%v, %v", err, m.params())
	}
}

func TestTheAveragesAreInTheNodesForAClosure(t *testing.T) {
	m := newLine(t)
	options := metaadamw.HorizonOptions()
	options.Horizon = 4
	s, err := New(options, group, m.model)
	must(t, err)
	defer s.Close()
	for step := range 20 {
		_, err := m.run(step)
		must(t, err)
		must(t, s.Step(m.model))
	}
	before, average := m.params(), make(metaadamw.F32, 1)
	must(t, s.WithAverages(m.model, func() error {
		must(t, s.Optimizer.Average(0, average))
		if now := m.params(); now[0] != average[0] || now[0] == before[0] {
			t.Errorf("the node has %v, the average is %v", now, average)
		}
		_, err := m.run(0)
		return err
	}))
	if now := m.params(); !slices.Equal(now, before) {
		t.Errorf("got %v, want %v", now, before)
	}
}
