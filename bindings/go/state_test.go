package metaadamw

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
)

// train makes steps and, when they are due, meta-updates.
func (m *toy) train(t testing.TB, o *Optimizer, steps int) {
	t.Helper()
	for range steps {
		m.step(t, o)
		if o.MetaDue() {
			_, err := o.MetaUpdate(Float32s(m.params), Float32s(m.grads), m.answer)
			must(t, err)
		}
	}
}

func (m *toy) clone() *toy {
	copied := newToy()
	for i := range m.params {
		copy(copied.params[i], m.params[i])
	}
	return copied
}

func TestARunGoesOnBitForBit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run.safetensors")
	o, m := newToyOptimizer(t, small()), newToy()
	m.train(t, o, 7)
	must(t, o.Save(path))
	saved, err := o.SaveBytes()
	must(t, err)
	if file, err := os.ReadFile(path); err != nil || !slices.Equal(file, saved) {
		t.Errorf("file and bytes differ, %v", err)
	}

	fromFile, first := newToyOptimizer(t, small()), m.clone()
	must(t, fromFile.Load(path))
	fromBytes, second := newToyOptimizer(t, small()), m.clone()
	must(t, fromBytes.LoadBytes(saved))
	m.train(t, o, 7)
	first.train(t, fromFile, 7)
	second.train(t, fromBytes, 7)
	same(t, first.bits(), m.bits())
	same(t, second.bits(), m.bits())
	same(t, attention(t, fromFile), attention(t, o))
	same(t, attention(t, fromBytes), attention(t, o))
}

func TestFlags(t *testing.T) {
	o, m := trained(t, small())
	m.train(t, o, 3)
	must(t, o.SetLR(0, 0.5))
	run, err := o.SaveBytes()
	must(t, err)
	module, err := o.SaveBytes(AttentionOnly)
	must(t, err)

	options := small()
	options.MetaInterval = 9
	load := func(data []byte, flags ...Flag) (*Optimizer, float64) {
		o := newToyOptimizer(t, options)
		must(t, o.LoadBytes(data, flags...))
		lr, err := o.LR(0)
		must(t, err)
		return o, lr
	}
	wants(t, newToyOptimizer(t, options).LoadBytes(run), ErrMismatch) // MetaInterval
	wants(t, newToyOptimizer(t, small()).LoadBytes(run, Strict), ErrMismatch)
	scheduled := newToyOptimizer(t, small())
	must(t, scheduled.LoadBytes(run))
	if lr, _ := scheduled.LR(0); lr != 0.5 {
		t.Errorf("the scheduled lr is %v", lr)
	}
	if _, lr := load(run, FileWins); lr != 0.5 {
		t.Errorf("the file's lr is %v", lr)
	}
	if _, lr := load(run, OwnWins); lr != 1e-2 {
		t.Errorf("the own lr is %v", lr)
	}
	for _, data := range [][]byte{run, module} {
		other, _ := load(data, AttentionOnly)
		same(t, attention(t, other), attention(t, o))
		if steps, _ := other.StepCount(); steps != 0 {
			t.Errorf("%d steps", steps)
		}
	}
	other := newOptimizer(t, small(), toyTensors[0], Tensor{Name: "head", Shape: []int{2}})
	must(t, other.SetBetas(0, 0.5, 0.5))
	must(t, other.LoadBytes(run, Partial))
	report, err := other.LoadReport()
	must(t, err)
	if want := (LoadReport{
		MissingTensors: []string{"head"}, UnexpectedTensors: []string{"layers.0.bias", "layers.9.weight"},
		MissingGroups:    []string{"other.middle.weight", "other.middle.bias"}, // without numbers of other layers there is no depth
		UnexpectedGroups: []string{"other.shallow.weight", "other.shallow.bias", "other.deep.weight"},
	}); !reflect.DeepEqual(report, want) {
		t.Errorf("%+v", report)
	}
	if beta1, beta2, _ := other.Betas(0); beta1 != 0.9 || beta2 != 0.999 {
		t.Errorf("the betas are %v and %v", beta1, beta2)
	}
	must(t, other.LoadBytes(run, Partial, AttentionOnly))
	wants(t, o.LoadBytes(module), ErrMismatch)
	must(t, o.LoadBytes(run))
	if report, err := o.LoadReport(); err != nil || !reflect.DeepEqual(report, LoadReport{}) {
		t.Errorf("%+v, %v", report, err)
	}
	wants(t, o.LoadBytes(run, FileWins, OwnWins), ErrInvalidArgument)
	wants(t, o.LoadBytes(run, FileWins, Strict), ErrInvalidArgument)
	wants(t, o.LoadBytes(run, Flag(1<<20)), ErrInvalidArgument)
}

func TestInvalidCheckpointsAreRefused(t *testing.T) {
	o, m := trained(t, small())
	data, err := o.SaveBytes()
	must(t, err)
	damaged := slices.Clone(data)
	damaged[len(damaged)/2] ^= 1
	for _, bad := range [][]byte{nil, {}, {1}, data[:len(data)-1], damaged} {
		wants(t, o.LoadBytes(bad), ErrCorrupt)
	}
	folder := t.TempDir()
	wants(t, o.Load(filepath.Join(folder, "nothing")), ErrIO)
	wants(t, o.Save(filepath.Join(folder, "no folder", "x")), ErrIO)
	wants(t, o.Save("a\x00b"), ErrInvalidArgument)
	wants(t, o.Load("a\x00b"), ErrInvalidArgument)
	same(t, m.bits(), m.clone().bits())
	if steps, _ := o.StepCount(); steps != 3 {
		t.Errorf("%d steps", steps)
	}
}

func TestDump(t *testing.T) {
	o, m := trained(t, small())
	m.train(t, o, 3)
	dump, err := o.Dump()
	must(t, err)
	var state struct {
		Schema  string
		Step    int
		Options map[string]any
		Meta    struct{ Updates int }
	}
	must(t, json.Unmarshal(dump, &state))
	if state.Schema != "metaadamw.state" || state.Step != 6 || state.Meta.Updates != 1 || state.Options["attn_layers"] != 1.0 {
		t.Errorf("%+v", state)
	}
	empty, err := New(Options{})
	must(t, err)
	defer empty.Close()
	_, err = empty.Dump()
	wants(t, err, ErrInvalidState)
}

func TestMomentsMoveFromOneOptimizerToAnother(t *testing.T) {
	o, m := newToyOptimizer(t, small()), newToy()
	m.train(t, o, 2)
	moved, n := newToyOptimizer(t, small()), m.clone()
	for i, tensor := range m.params {
		expAvg, expAvgSq := make(F32, len(tensor)), make(F32, len(tensor))
		step, err := o.TensorState(i, expAvg, expAvgSq)
		must(t, err)
		if step != 2 || slices.Max(expAvgSq) == 0 {
			t.Errorf("step %d, %v", step, expAvgSq)
		}
		must(t, moved.SetTensorState(i, expAvg, expAvgSq, step))
	}
	m.step(t, o)
	n.step(t, moved)
	same(t, n.bits(), m.bits())

	five := make(F32, 5)
	_, err := o.TensorState(1, nil, five)
	must(t, err)
	_, err = o.TensorState(1, five[:4], nil)
	says(t, err, ErrInvalidArgument, "expAvg[1] ('layers.0.bias') has 4 elements, expected 5")
	_, err = o.TensorState(1, nil, make(F64, 5))
	says(t, err, ErrInvalidArgument, "expAvgSq[1] ('layers.0.bias') is float64, expected float32")
	_, err = o.TensorState(3, nil, nil)
	wants(t, err, ErrNotFound)
	wants(t, o.SetTensorState(1, five, F32(nil), 1), ErrInvalidArgument)
	wants(t, o.SetTensorState(1, five, five, -1), ErrInvalidArgument)
	wants(t, o.SetTensorState(1, five, F32{0, 0, 0, 0, float32(math.Inf(1))}, 1), ErrInvalidArgument)
}

func TestCountersMoveToAnotherOptimizer(t *testing.T) {
	o, _ := trained(t, small())
	counters, err := o.Counters()
	must(t, err)
	if counters.Step != 3 || counters.MetaDoneAt < -1 {
		t.Errorf("%+v", counters)
	}
	other := newToyOptimizer(t, small())
	counters.SkippedFeature = 7
	must(t, other.SetCounters(counters))
	got, err := other.Counters()
	must(t, err)
	if got != counters {
		t.Errorf("%+v, not %+v", got, counters)
	}
	wants(t, other.SetCounters(Counters{Step: -1}), ErrInvalidArgument)
	wants(t, other.SetCounters(Counters{MetaDoneAt: 5}), ErrInvalidArgument)
	wants(t, o.SetCounters(Counters{Step: 1, MetaDoneAt: -1}), ErrInvalidArgument) // fewer than a tensor's
}
