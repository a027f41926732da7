package metaadamw

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"
)

// world is the processes of these tests, goroutines, and the all-reduce between them.
type world struct {
	mu             sync.Mutex
	changed        *sync.Cond
	ranks          int
	brought, taken int // how many brought their values, and have not yet taken the sums
	sum            []float64
	left           bool // one has ended, so that nobody may wait for it

	onDevice reducer // on CUDA, in place of allReduce
}

func newWorld(ranks int) *world {
	w := &world{ranks: ranks}
	w.changed = sync.NewCond(&w.mu)
	return w
}

var errLeft = errors.New("a process has ended")

func (w *world) allReduce(values []float64) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.taken > 0 { // the sums of the call before
		w.changed.Wait()
	}
	if w.brought == 0 {
		w.sum = make([]float64, len(values))
	}
	if len(w.sum) != len(values) {
		return fmt.Errorf("%d values, others have %d", len(values), len(w.sum))
	}
	for i, value := range values {
		w.sum[i] += value
	}
	if w.brought++; w.brought == w.ranks {
		w.brought, w.taken = 0, w.ranks
		w.changed.Broadcast()
	}
	for w.taken == 0 {
		if w.left {
			return errLeft
		}
		w.changed.Wait()
	}
	copy(values, w.sum)
	if w.taken--; w.taken == 0 {
		w.changed.Broadcast()
	}
	return nil
}

func (w *world) leave() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.left = true
	w.changed.Broadcast()
}

// together runs a goroutine for each process.
func together(t *testing.T, ranks int, f func(rank int, w *world) error) {
	t.Helper()
	w := newWorld(ranks)
	failed := make([]error, ranks)
	var group sync.WaitGroup
	for rank := range ranks {
		group.Go(func() {
			defer w.leave()
			failed[rank] = f(rank, w)
		})
	}
	group.Wait()
	for rank, err := range failed {
		if err != nil {
			t.Errorf("process %d: %v", rank, err)
		}
	}
	if t.Failed() {
		t.FailNow()
	}
}

// Tensors of several blocks, one that fits into one, and one whose last block is not full.
var wideTensors = []Tensor{
	{Name: "layers.0.weight", Shape: []int{3, ShardAlignment}},
	{Name: "layers.0.bias", Shape: []int{5}},
	{Name: "layers.9.weight", Shape: []int{2, 40_000}},
	{Name: "head.weight", Shape: []int{2, 50_000}, DType: BFloat16, Precision: new(PrecisionMaster)},
}

// process has a part of every tensor, in float32 and in bfloat16.
type process struct {
	*Optimizer
	offsets       []int
	params, grads Mixed
}

// newProcess registers the parts; w nil: the whole tensors.
func newProcess(options Options, w *world, rank int) (*process, error) {
	o, err := New(options)
	if err != nil {
		return nil, err
	}
	p := &process{Optimizer: o}
	tensors := slices.Clone(wideTensors)
	for i := range tensors {
		numel := 1
		for _, n := range tensors[i].Shape {
			numel *= n
		}
		shard := Shard{0, numel}
		if w != nil {
			// Another process has the most of each.
			blocks := (numel + ShardAlignment - 1) / ShardAlignment
			border := func(k int) int { return min((k*blocks+i%w.ranks)/w.ranks*ShardAlignment, numel) }
			from, to := border(rank), border(rank+1)
			if rank == 0 {
				from = 0
			}
			shard = Shard{from, to - from}
			tensors[i].Shard = &shard
		}
		p.offsets = append(p.offsets, shard.Offset)
		if tensors[i].DType == BFloat16 {
			param := make(BF16, shard.Numel)
			for k := range param {
				param[k] = uint16(math.Float32bits(start(i, shard.Offset+k)) >> 16)
			}
			p.params, p.grads = append(p.params, param), append(p.grads, make(BF16, shard.Numel))
			continue
		}
		param := make(F32, shard.Numel)
		for k := range param {
			param[k] = start(i, shard.Offset+k)
		}
		p.params, p.grads = append(p.params, param), append(p.grads, make(F32, shard.Numel))
	}
	if _, err = o.AddParamGroup(ParamGroup{LR: new(1e-2)}, tensors...); err != nil {
		return nil, err
	}
	if w != nil {
		set := func() error { return o.SetReduction(w.allReduce) }
		if options.Device == CUDA {
			set = func() error { return o.SetDeviceReduction(w.onDevice) }
		}
		if err := set(); err != nil {
			return nil, err
		}
	}
	return p, o.Prepare()
}

// start is a parameter at the beginning.
func start(tensor, element int) float32 {
	return float32(((element+tensor)*7919)%100_003)/100_003 - 0.5
}

// evaluate fills the gradients, from each element's parameter; the loss is made up, as it must be that of the whole model.
func (p *process) evaluate(batch int) float64 {
	for i := range p.params {
		gradient := func(k int, x float32) float32 {
			element := p.offsets[i] + k
			return (1 + float32((element*13+batch*7)%17)/17) * (x - float32((element*29+batch*11)%89)/89 + 0.5)
		}
		switch param := p.params[i].(type) {
		case F32:
			for k, x := range param {
				p.grads[i].(F32)[k] = gradient(k, x)
			}
		case BF16:
			for k, bits := range param {
				x := gradient(k, math.Float32frombits(uint32(bits)<<16))
				p.grads[i].(BF16)[k] = uint16(math.Float32bits(x) >> 16)
			}
		}
	}
	return 1 + float64(batch)/4
}

func (p *process) step() (Report, error) {
	p.evaluate(10)
	return p.Step(p.params, p.grads)
}

// trace is what a run made: elements of all tensors, and what all processes have alike.
type trace struct {
	params  [][]float32
	moments [][]float32
	extra   [][]float32 // masters, or averages
	common  []float64
}

func (p *process) run(steps int) (tr *trace, err error) {
	tr = &trace{}
	for range steps {
		p.evaluate(10)
		if err := p.ObserveGradient(0, p.grads[0]); err != nil {
			return nil, err
		}
		report, err := p.Step(p.params, p.grads)
		if err != nil {
			return nil, err
		}
		tr.common = append(tr.common, report.GradNorm)
		if p.MetaDue() {
			result, err := p.MetaUpdate(p.params, p.grads, func(r Request) (float64, error) { return p.evaluate(int(r.Batch)), nil })
			if err != nil {
				return nil, err
			}
			tr.common = append(tr.common, result.LossMeta)
		}
	}
	factors, err := p.Factors()
	if err != nil {
		return nil, err
	}
	for _, f := range factors {
		tr.common = append(tr.common, f.Alpha, f.Beta, f.Lambda1, f.Lambda2)
	}
	for i, param := range p.params {
		n := param.buffer().length
		m, v, extra := make(F32, n), make(F32, n), make(F32, n)
		if _, err := p.TensorState(i, m, v); err != nil {
			return nil, err
		}
		tr.moments = append(tr.moments, m, v)
		switch param := param.(type) {
		case F32:
			tr.params = append(tr.params, param)
		case BF16:
			wide := make([]float32, n)
			for k, bits := range param {
				wide[k] = math.Float32frombits(uint32(bits) << 16)
			}
			tr.params = append(tr.params, wide)
			if err := p.Masters(i, param, extra); err != nil {
				return nil, err
			}
		}
		if err := p.Average(i, extra); err != nil && !errors.Is(err, ErrInvalidState) { // without a horizon there is none
			return nil, err
		}
		tr.extra = append(tr.extra, extra)
	}
	return tr, nil
}

func TestShardsHaveTheBitsOfOneProcess(t *testing.T) {
	for name, options := range map[string]Options{"meta-updates": small(), "horizon": horizon()} {
		whole, err := newProcess(options, nil, 0)
		must(t, err)
		want, err := whole.run(8)
		must(t, err)
		must(t, whole.Close())
		for ranks := 1; ranks <= 3; ranks++ {
			got := make([]*trace, ranks)
			together(t, ranks, func(rank int, w *world) error {
				p, err := newProcess(options, w, rank)
				if err != nil {
					return err
				}
				if got[rank], err = p.run(8); err != nil {
					return err
				}
				return p.Close()
			})
			joined := &trace{common: got[0].common}
			for _, lists := range []func(*trace) *[][]float32{
				func(tr *trace) *[][]float32 { return &tr.params },
				func(tr *trace) *[][]float32 { return &tr.moments },
				func(tr *trace) *[][]float32 { return &tr.extra },
			} {
				for i := range *lists(want) {
					var all []float32
					for rank := range ranks {
						all = append(all, (*lists(got[rank]))[i]...)
					}
					*lists(joined) = append(*lists(joined), all)
				}
			}
			if !reflect.DeepEqual(joined, want) {
				t.Errorf("%s: %d processes are not one", name, ranks)
			}
			for rank := range ranks {
				same(t, got[rank].common, want.common)
			}
		}
	}
}

func TestProcessesSaveOneFileTogether(t *testing.T) {
	folder := t.TempDir()
	for ranks := 1; ranks <= 2; ranks++ {
		together(t, ranks, func(rank int, w *world) error {
			p, err := newProcess(small(), w, rank)
			if err != nil {
				return err
			}
			if _, err = p.step(); err != nil {
				return err
			}
			path := filepath.Join(folder, fmt.Sprint(ranks))
			if err = p.Save(path); err != nil {
				return err
			}
			if _, err = p.step(); err != nil {
				return err
			}
			if err = p.Load(path); err != nil {
				return err
			}
			if steps, err := p.StepCount(); steps != 1 {
				return fmt.Errorf("%d steps, %v", steps, err)
			}
			return p.Close()
		})
	}
	one, err := os.ReadFile(filepath.Join(folder, "1"))
	must(t, err)
	two, err := os.ReadFile(filepath.Join(folder, "2"))
	must(t, err)
	if !bytes.Equal(one, two) {
		t.Error("the files differ")
	}
}

// alone is a process that is the whole world.
func alone(t *testing.T, options Options) *process {
	t.Helper()
	p, err := newProcess(options, newWorld(1), 0)
	must(t, err)
	t.Cleanup(func() { must(t, p.Close()) })
	return p
}

// failing is such a process whose reduction can be made to fail.
func failing(t *testing.T, fail *func() error) *process {
	t.Helper()
	o, err := New(small())
	must(t, err)
	p := &process{Optimizer: o, offsets: []int{0}, params: Mixed{F32{1, 2, 3}}, grads: Mixed{make(F32, 3)}}
	_, err = o.AddParamGroup(ParamGroup{}, Tensor{Name: "w", Shape: []int{3}, Shard: &Shard{0, 3}})
	must(t, err)
	must(t, o.SetReduction(func([]float64) error {
		if *fail == nil {
			return nil
		}
		return (*fail)()
	}))
	must(t, o.Prepare())
	t.Cleanup(func() { must(t, o.Close()) })
	return p
}

func TestAReductionsErrorComesBackFromTheCall(t *testing.T) {
	var fail func() error
	p := failing(t, &fail)
	before := slices.Clone(p.params[0].(F32))

	fail = func() error { return fmt.Errorf("all-reduce: %w", errOfHost) }
	_, err := p.step()
	wants(t, err, errOfHost)
	says(t, err, ErrReduction,
		"the reduction callback returned 1, expected 0; nothing was changed on this process: all-reduce: no data")
	var e *Error
	if !errors.As(err, &e) || e.Status != ErrReduction || !errors.Is(e.Cause, errOfHost) {
		t.Errorf("got %#v", e)
	}

	fail = func() error { panic(errOfHost) }
	_, err = p.step()
	wants(t, err, errOfHost)
	wants(t, err, ErrReduction)
	fail = func() error { var nothing []int; return fmt.Errorf("%d", nothing[3]) }
	_, err = p.step()
	var crash runtime.Error
	if !errors.As(err, &crash) {
		t.Errorf("got %v", err)
	}
	for _, part := range []string{"panic: runtime error: index out of range", "reduction_test.go"} { // where it was
		if !strings.Contains(err.Error(), part) {
			t.Errorf("no %q in %v", part, err)
		}
	}

	// When the other processes are told of an error of this one's.
	fail = func() error { return errOfHost }
	for _, params := range []Slices{Float32s{{1}}, p.params} {
		_, err = p.StepWith(params, p.grads, StepOptions{GradScale: -1})
		wants(t, err, ErrInvalidArgument)
		wants(t, err, ErrReduction)
		wants(t, err, errOfHost)
	}
	same(t, p.params[0].(F32), before)

	fail = nil
	report, err := p.step()
	must(t, err)
	if report.Step != 1 {
		t.Errorf("step %d", report.Step)
	}
	// In a meta-update, in each of its calls.
	for k := range 10 {
		before = slices.Clone(p.params[0].(F32))
		calls := 0
		fail = func() error {
			if calls++; calls > k {
				return errOfHost
			}
			return nil
		}
		_, err = p.MetaUpdate(p.params, p.grads, func(r Request) (float64, error) { return p.evaluate(int(r.Batch)), nil })
		wants(t, err, errOfHost)
		wants(t, err, ErrReduction)
		same(t, p.params[0].(F32), before)
	}
	fail = nil
	_, err = p.step()
	must(t, err)
}

func TestTheOptimizerIsBusyInItsReduction(t *testing.T) {
	var inside func() error
	p := failing(t, &inside)
	called := 0
	inside = func() error {
		called++
		if _, err := p.StepCount(); !errors.Is(err, ErrBusy) {
			t.Errorf("StepCount: %v", err)
		}
		if _, err := p.Step(p.params, p.grads); !errors.Is(err, ErrBusy) {
			t.Errorf("Step: %v", err)
		}
		if err := p.Close(); !errors.Is(err, ErrBusy) {
			t.Errorf("Close: %v", err)
		}
		if p.MetaDue() {
			t.Error("a meta-update is due")
		}
		return nil
	}
	for range 3 {
		_, err := p.step()
		must(t, err)
	}
	if called != 3 || !p.MetaDue() {
		t.Errorf("called %d times; due %v", called, p.MetaDue())
	}

	// Another goroutine waits for the answer.
	due := make(chan bool)
	inside = func() error {
		go func() { due <- p.MetaDue() }()
		time.Sleep(10 * time.Millisecond)
		return nil
	}
	_, err := p.MetaUpdate(p.params, p.grads, func(Request) (float64, error) { inside = nil; return 0, errOfHost })
	wants(t, err, errOfHost)
	<-due
}

// What one process does wrong, its own error, and what the other one gets.
func TestACallThatFailsOnOneProcessFailsOnAll(t *testing.T) {
	step := func(p *process) error { _, err := p.step(); return err }
	update := func(p *process) error {
		_, err := p.MetaUpdate(p.params, p.grads, func(r Request) (float64, error) { return p.evaluate(int(r.Batch)), nil })
		return err
	}
	begin := func(p *process) error { _, err := p.MetaBegin(p.params); return err }
	short := func(p *process) Mixed {
		cut := slices.Clone(p.params)
		cut[0] = cut[0].(F32)[1:]
		return cut
	}
	for name, c := range map[string]struct {
		other, wrong func(p *process) error
		want         error
		say          string
	}{
		"parameter": {step, func(p *process) error { _, err := p.Step(short(p), p.grads); return err }, ErrInvalidArgument,
			"params[0] ('layers.0.weight') has 65535 elements, expected 65536"},
		"gradient": {step, func(p *process) error { _, err := p.Step(p.params, short(p)); return err }, ErrInvalidArgument,
			"grads[0] ('layers.0.weight') has 65535 elements, expected 65536"},
		"option": {step, func(p *process) error {
			_, err := p.StepWith(p.params, p.grads, StepOptions{FoundInf: F32{1, 2}})
			return err
		}, ErrInvalidArgument, "FoundInf"},
		"begin": {update, func(p *process) error { _, err := p.MetaUpdate(short(p), p.grads, nil); return err }, ErrInvalidArgument,
			"params[0]"},
		"begin alone": {begin, func(p *process) error { _, err := p.MetaBegin(short(p)); return err }, ErrInvalidArgument, "params[0]"},
		"answer": {update, func(p *process) error {
			_, err := p.MetaUpdate(p.params, short(p), func(Request) (float64, error) { return 1, nil })
			return err
		}, ErrInvalidArgument, "grads[0]"},
		"closure": {update, func(p *process) error {
			_, err := p.MetaUpdate(p.params, p.grads, func(r Request) (float64, error) {
				if r.ID == 3 {
					return 0, errOfHost
				}
				return p.evaluate(int(r.Batch)), nil
			})
			return err
		}, errOfHost, "meta-update aborted"},
		"panic of the closure": {update, func(p *process) (err error) {
			defer func() { err, _ = recover().(error) }()
			_, err = p.MetaUpdate(p.params, p.grads, func(Request) (float64, error) { panic(errOfHost) })
			return err
		}, errOfHost, "no data"},
	} {
		together(t, 2, func(rank int, w *world) error {
			p, err := newProcess(small(), w, rank)
			if err != nil {
				return err
			}
			if err := step(p); err != nil {
				return err
			}
			before := bitsOfAll([][]float32{p.params[0].(F32)})
			if len(p.params[0].(F32)) == 2*ShardAlignment {
				if err := c.wrong(p); !errors.Is(err, c.want) || errors.Is(err, ErrReduction) || !strings.Contains(err.Error(), c.say) {
					return fmt.Errorf("%s: got %v", name, err)
				}
			} else if err := c.other(p); !errors.Is(err, ErrReduction) || !strings.Contains(err.Error(), "failed on another process") {
				return fmt.Errorf("%s, the other: got %v", name, err)
			}
			if !slices.Equal(bitsOfAll([][]float32{p.params[0].(F32)}), before) {
				return fmt.Errorf("%s: parameters have changed", name)
			}
			if err := step(p); err != nil { // they go on together
				return err
			}
			return p.Close()
		})
	}
}

func TestLengthsAreThoseOfTheShard(t *testing.T) {
	together(t, 2, func(rank int, w *world) error {
		p, err := newProcess(small(), w, rank)
		if err != nil {
			return err
		}
		if _, err := p.step(); err != nil {
			return err
		}
		whole := make(F32, 3*ShardAlignment)
		param := p.params[3].(BF16)
		for name, err := range map[string]error{
			"TensorState":    func() error { _, err := p.TensorState(0, whole, nil); return err }(),
			"SetTensorState": p.SetTensorState(0, nil, whole, 1),
			"Masters":        p.Masters(3, param, whole),
			"SetMasters":     p.SetMasters(3, whole, param),
			"observed":       p.ObserveGradient(0, whole),
			"Average":        p.Average(0, whole),
		} {
			if !errors.Is(err, ErrInvalidArgument) || !strings.Contains(err.Error(), "expected") {
				return fmt.Errorf("%s: got %v", name, err)
			}
		}
		// What a process has nothing of may be nil.
		if len(p.params[1].(F32)) == 0 {
			p.params[1], p.grads[1] = nil, nil
		}
		if _, err := p.Step(p.params, p.grads); err != nil {
			return err
		}
		masters := make([]float32, len(param))
		if err := errors.Join(p.Masters(3, param, masters), p.SetMasters(3, masters, param)); err != nil {
			return err
		}
		return p.Close()
	})
}

func TestMisuseOfShards(t *testing.T) {
	o, err := New(small())
	must(t, err)
	defer o.Close()
	for _, c := range []struct {
		shard Shard
		say   string
	}{
		{Shard{-1, 0}, "negative"}, {Shard{0, -1}, "negative"}, {Shard{11, 0}, "shard"}, {Shard{0, 9}, "shard"},
		{Shard{0, ShardAlignment}, "shard"},
	} {
		_, err := o.AddParamGroup(ParamGroup{}, Tensor{Name: "w", Shape: []int{10}, Shard: &c.shard})
		wants(t, err, ErrInvalidArgument)
		if !strings.Contains(err.Error(), c.say) || !strings.Contains(err.Error(), "'w'") {
			t.Errorf("%+v: got %v", c.shard, err)
		}
	}
	sum := func([]float64) error { return nil }
	_, err = o.AddParamGroup(ParamGroup{}, Tensor{Name: "w", Shape: []int{10}, Shard: &Shard{0, 10}})
	must(t, err)
	wants(t, o.Prepare(), ErrInvalidState) // no reduction
	says(t, o.SetDeviceReduction(func(unsafe.Pointer, int) error { return nil }), ErrInvalidArgument,
		"the reduction's values are in CUDA memory, expected those of Options.Device, CPU: use SetReduction")
	wants(t, o.Prepare(), ErrInvalidState)
	must(t, o.SetReduction(sum))
	must(t, o.SetReduction(nil))
	wants(t, o.Prepare(), ErrInvalidState)
	must(t, o.SetReduction(sum))
	_, err = o.Step(Float32s{make([]float32, 10)}, Float32s{make([]float32, 10)})
	wants(t, err, ErrInvalidState) // not prepared
	must(t, o.Prepare())
	wants(t, o.SetReduction(sum), ErrInvalidState)
	wants(t, o.SetReduction(nil), ErrInvalidState)
	wants(t, o.AddTensors(0, Tensor{Name: "v", Shape: []int{3}, Shard: &Shard{0, 3}}), ErrUnsupported)
	_, err = o.SaveBytes()
	wants(t, err, ErrUnsupported)
	_, err = o.SaveBytes(AttentionOnly)
	must(t, err)

	whole := newToyOptimizer(t, small())
	must(t, whole.SetReduction(sum))
	err = whole.Prepare()
	wants(t, err, ErrInvalidArgument)
	if !strings.Contains(err.Error(), "sharded of tensor 'layers.0.weight'") {
		t.Error(err)
	}

	zeros := alone(t, small())
	zeros.reduce = func(values unsafe.Pointer, count int) error {
		clear(unsafe.Slice((*float64)(values), count))
		return nil
	}
	_, err = zeros.step()
	wants(t, err, ErrReduction)
	must(t, o.Close())
	wants(t, o.SetReduction(sum), ErrClosed)
}

// A reduction that refers to its optimizer does not keep it alive.
func TestAnOptimizerWithAReductionIsFreed(t *testing.T) {
	var freed atomic.Int32
	for range 10 {
		o, err := New(small())
		must(t, err)
		_, err = o.AddParamGroup(ParamGroup{}, Tensor{Name: "w", Shape: []int{3}, Shard: &Shard{0, 3}})
		must(t, err)
		must(t, o.SetReduction(func([]float64) error { _ = o.Prepare(); return nil })) // a cycle is allowed
		must(t, o.Prepare())
		runtime.AddCleanup(o.native.reduction, func(int) { freed.Add(1) }, 0)
	}
	eventually(t, "optimizers or handles leak", func() bool { return freed.Load() == 10 })
}
