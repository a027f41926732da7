package metaadamw

import (
	"errors"
	"math"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func same[T comparable](t testing.TB, got, want []T) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Fatalf("got  %v\nwant %v", got, want)
	}
}

func TestVersion(t *testing.T) {
	if strings.Count(Version(), ".") != 2 {
		t.Errorf("got %q", Version())
	}
}

func TestASecondCloseDoesNothing(t *testing.T) {
	o, err := New(Options{})
	must(t, err)
	must(t, o.Close())
	must(t, o.Close())
	must(t, new(Optimizer).Close())
}

// Calls every method, with zeros.
func TestUseAfterCloseIsAnError(t *testing.T) {
	closed := newToyOptimizer(t, small())
	must(t, closed.Close())
	for _, o := range []*Optimizer{closed, new(Optimizer)} {
		v := reflect.ValueOf(o)
		for i := range v.NumMethod() {
			name, method := v.Type().Method(i).Name, v.Method(i)
			if name == "Close" {
				continue
			}
			var arguments []reflect.Value
			for j := range method.Type().NumIn() {
				if in := method.Type().In(j); !method.Type().IsVariadic() || j+1 < method.Type().NumIn() {
					arguments = append(arguments, reflect.Zero(in))
				}
			}
			results := method.Call(arguments)
			last := results[len(results)-1].Interface()
			if name == "MetaDue" {
				if last != false {
					t.Error("due after Close")
				}
			} else if err, _ := last.(error); !errors.Is(err, ErrClosed) {
				t.Errorf("%s: got %v", name, last)
			}
		}
	}
}

func TestSettersAndGetters(t *testing.T) {
	o := newToyOptimizer(t, small())
	second, err := o.AddParamGroup(ParamGroup{}, Tensor{Name: "other.weight"})
	must(t, err)
	must(t, o.SetLR(AllGroups, 0.5))
	must(t, o.SetLR(second, 0.25))
	must(t, o.SetWeightDecay(AllGroups, 0))
	must(t, o.SetWeightDecay(0, 0.125))
	must(t, o.SetPriorities([3]float64{2, 5, 1}))
	must(t, o.SetBetas(AllGroups, 0.5, 0.75))
	must(t, o.SetBetas(second, 0, 0.25))
	must(t, o.SetEps(AllGroups, 0.125))
	must(t, o.SetEps(0, 0.5))
	must(t, o.SetMaxGradNorm(2))
	for group, want := range [][3]float64{{0.5, 0.75, 0.5}, {0, 0.25, 0.125}} {
		beta1, beta2, err := o.Betas(group)
		must(t, err)
		eps, err := o.Eps(group)
		must(t, err)
		if got := [3]float64{beta1, beta2, eps}; got != want {
			t.Errorf("group %d: %v", group, got)
		}
	}
	if norm, err := o.MaxGradNorm(); err != nil || norm != 2 {
		t.Errorf("%v, %v", norm, err)
	}
	for group, want := range [][2]float64{{0.5, 0.125}, {0.25, 0}} {
		lr, err := o.LR(group)
		must(t, err)
		decay, err := o.WeightDecay(group)
		must(t, err)
		if lr != want[0] || decay != want[1] {
			t.Errorf("group %d: %v, %v", group, lr, decay)
		}
	}
	if priorities, err := o.Priorities(); err != nil || priorities != [3]float64{2, 5, 1} {
		t.Errorf("%v, %v", priorities, err)
	}
	if count, err := o.ParamGroupCount(); err != nil || count != 2 {
		t.Errorf("%d, %v", count, err)
	}

	says(t, o.SetLR(-2, 1), ErrNotFound, "no param group -2")
	says(t, o.SetLR(math.MaxUint32, 1), ErrNotFound, "no param group 4294967295")
	wants(t, o.SetWeightDecay(2, 1), ErrNotFound)
	wants(t, o.SetWeightDecay(-5, 1), ErrNotFound)
	_, err = o.LR(AllGroups)
	wants(t, err, ErrNotFound)
	_, err = o.WeightDecay(AllGroups)
	wants(t, err, ErrNotFound)
	_, _, err = o.Betas(2)
	wants(t, err, ErrNotFound)
	_, err = o.Eps(AllGroups)
	wants(t, err, ErrNotFound)
	wants(t, o.SetLR(0, math.NaN()), ErrInvalidArgument)
	wants(t, o.SetBetas(0, 0.5, 1), ErrInvalidArgument)
	wants(t, o.SetEps(AllGroups, 0), ErrInvalidArgument)
	wants(t, o.SetMaxGradNorm(-1), ErrInvalidArgument)
	wants(t, o.SetPriorities([3]float64{-1, 0, 0}), ErrInvalidArgument)
	wants(t, o.ResetMoments(), ErrInvalidState)
	must(t, o.Prepare())
	must(t, o.Prepare())
}

func TestWhatIsSetIsUsedByTheNextStep(t *testing.T) {
	options := small()
	options.MaxGradNorm = 0.25
	created, err := New(options)
	must(t, err)
	defer created.Close()
	_, err = created.AddParamGroup(ParamGroup{LR: new(1e-2), Beta1: new(0.5), Beta2: new(0.75), Eps: 0.125}, toyTensors...)
	must(t, err)
	set := newToyOptimizer(t, small())
	must(t, set.SetBetas(0, 0.5, 0.75))
	must(t, set.SetEps(0, 0.125))
	must(t, set.SetMaxGradNorm(0.25))
	m, n := newToy(), newToy()
	for range 3 {
		if report := m.step(t, created); report.ClipFactor >= 1 {
			t.Errorf("%+v", report)
		}
		n.step(t, set)
	}
	same(t, n.bits(), m.bits())
}

func TestResetStartsAnew(t *testing.T) {
	o := newToyOptimizer(t, small())
	must(t, o.Prepare())
	before, err := o.SaveBytes()
	must(t, err)
	m := newToy()
	for range 3 {
		m.step(t, o)
	}
	_, err = o.MetaUpdate(Float32s(m.params), Float32s(m.grads), m.answer)
	must(t, err)
	must(t, o.ResetMoments())
	must(t, o.ResetAttention())
	if steps, err := o.StepCount(); err != nil || steps != 0 {
		t.Errorf("%d steps, %v", steps, err)
	}
	fresh := newToyOptimizer(t, small())
	must(t, fresh.LoadBytes(before))
	m, other := newToy(), newToy()
	m.step(t, o)
	other.step(t, fresh)
	same(t, m.bits(), other.bits())
}

func TestABusyOptimizerReturnsErrBusy(t *testing.T) {
	o := newToyOptimizer(t, small())
	o.mu.Lock() // as a call does
	says(t, o.Prepare(), ErrBusy, "another call on this optimizer is running")
	wants(t, o.Close(), ErrBusy)
	o.mu.Unlock()
	must(t, o.Prepare())
}

// Many goroutines use, and then close, one optimizer: each answer is a result, ErrBusy or ErrClosed.
func TestManyGoroutines(t *testing.T) {
	o := newToyOptimizer(t, Options{Seed: 1, AttnLayers: 1, AttnHiddenDim: 4, Threads: 2, MetaInterval: 3})
	must(t, o.Prepare())
	shared := newToy()
	var steps, busyCalls atomic.Int64
	var group sync.WaitGroup
	allowed := func(err error) {
		switch {
		case errors.Is(err, ErrBusy):
			busyCalls.Add(1)
			runtime.Gosched()
		case err != nil && !errors.Is(err, ErrClosed) && !errors.Is(err, ErrInvalidState):
			t.Error(err)
		}
	}
	for worker := range 8 {
		group.Go(func() {
			m := newToy() // each goroutine has its own parameters
			m.loss(worker)
			for i := range 400 {
				switch (worker + i) % 8 {
				case 0, 1, 2:
					_, err := o.Step(Float32s(m.params), Float32s(m.grads))
					if err == nil {
						steps.Add(1)
					}
					allowed(err)
				case 3:
					_, err := o.Dump()
					allowed(err)
				case 4:
					_, err := o.MetaUpdate(Float32s(m.params), Float32s(m.grads), m.answer)
					allowed(err)
				case 5:
					allowed(o.SetLR(0, 1e-3))
				case 6:
					_, err := o.SaveBytes()
					allowed(err)
				case 7:
					_, err := o.TensorState(0, F32(shared.grads[0][:0:0]), nil)
					if errors.Is(err, ErrInvalidArgument) {
						err = nil // the wrong length, on purpose
					}
					allowed(err)
				}
				if worker == 0 && i == 350 {
					for errors.Is(o.Close(), ErrBusy) {
						runtime.Gosched()
					}
				}
			}
		})
	}
	group.Wait()
	_, err := o.StepCount()
	wants(t, err, ErrClosed)
	t.Logf("%d steps, %d calls found it busy", steps.Load(), busyCalls.Load())
}

// Buffers that are new at each step, found through slices of slices only, while the collector runs all the time.
func TestBuffersStayWhereTheyAreDuringACall(t *testing.T) {
	stop := make(chan struct{})
	var collector sync.WaitGroup
	collector.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				runtime.GC()
			}
		}
	})
	defer collector.Wait()
	defer close(stop)

	o, undisturbed := newToyOptimizer(t, small()), newToyOptimizer(t, small())
	m, plain := newToy(), newToy()
	for range 60 {
		for i := range m.params {
			m.params[i] = slices.Clone(m.params[i])
			m.grads[i] = slices.Clone(m.grads[i])
			_ = make([]byte, 1<<10) // garbage
		}
		m.step(t, o)
		plain.step(t, undisturbed)
		if o.MetaDue() {
			_, err := o.MetaUpdate(Float32s(m.params), Float32s(m.grads), func(r Request) (float64, error) {
				for i := range m.grads {
					m.grads[i] = make([]float32, len(m.grads[i])) // gradients may move between two answers
				}
				return m.answer(r)
			})
			must(t, err)
			_, err = undisturbed.MetaUpdate(Float32s(plain.params), Float32s(plain.grads), plain.answer)
			must(t, err)
		}
	}
	same(t, m.bits(), plain.bits())
}

// eventually runs the collector until done returns true.
func eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	for range 200 {
		runtime.GC()
		if done() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatal(what)
}

// Optimizers that are not closed are freed. The mailbox of an optimizer is held only by its cgo.Handle, which is
// deleted with the library's handle; so counting mailboxes counts what was freed.
func TestUnreachableOptimizersAreFreed(t *testing.T) {
	const many = 20
	var freed atomic.Int64
	for i := range many {
		o, err := New(small())
		must(t, err)
		_, err = o.AddParamGroup(ParamGroup{}, toyTensors...)
		must(t, err)
		must(t, o.SetLog(func(LogLevel, string) { _ = o.Prepare() })) // a cycle is allowed
		runtime.AddCleanup(o.native.mail, func(int) { freed.Add(1) }, 0)
		newToy().step(t, o)
		if i%2 == 0 {
			must(t, o.Close())
		}
	}
	eventually(t, "optimizers or handles leak", func() bool { return freed.Load() == many })
}

func TestBuffersAreNotStored(t *testing.T) {
	o := newToyOptimizer(t, small())
	var freed atomic.Int64
	func() {
		m := newToy()
		for i := range m.params {
			runtime.AddCleanup(&m.params[i][0], func(int) { freed.Add(1) }, 0)
			runtime.AddCleanup(&m.grads[i][0], func(int) { freed.Add(1) }, 0)
		}
		m.step(t, o)
		_, err := o.MetaUpdate(Float32s(m.params), Float32s(m.grads), m.answer)
		must(t, err)
		_, err = o.Step(Float32s(m.params), Float32s(m.grads[:2])) // one that fails
		wants(t, err, ErrInvalidArgument)
	}()
	eventually(t, "buffers are stored", func() bool { return freed.Load() == 6 })
	must(t, o.Prepare())
}
