package metaadamw

import (
	"errors"
	"math"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"
)

// trained is an optimizer that made three steps, and its model: a meta-update is due.
func trained(t testing.TB, options Options) (*Optimizer, *toy) {
	t.Helper()
	o, m := newToyOptimizer(t, options), newToy()
	for range 3 {
		if o.MetaDue() {
			t.Fatal("due too early")
		}
		m.step(t, o)
	}
	if !o.MetaDue() {
		t.Fatal("not due")
	}
	return o, m
}

// attention is the whole attention module.
func attention(t testing.TB, o *Optimizer) (all []float64) {
	t.Helper()
	tensors, err := o.AttentionTensors()
	must(t, err)
	for _, tensor := range tensors {
		values, err := o.Attention(tensor.Name)
		must(t, err)
		all = append(all, values...)
	}
	return all
}

func TestAMetaUpdateTrainsTheAttentionModule(t *testing.T) {
	o, m := trained(t, small())
	before, phi := m.bits(), attention(t, o)
	if result, err := o.MetaResult(); err != nil || result.Outcome != OutcomeNone {
		t.Errorf("%+v, %v", result, err)
	}
	var requests []Request
	result, err := o.MetaUpdate(Float32s(m.params), Float32s(m.grads), func(r Request) (float64, error) {
		requests = append(requests, r)
		return m.answer(r)
	})
	must(t, err)
	same(t, m.bits(), before)
	if slices.Equal(attention(t, o), phi) {
		t.Error("the attention module stayed")
	}
	if o.MetaDue() {
		t.Error("due again")
	}
	if result.Outcome != OutcomeUpdated || result.Step != 3 || result.Updates != 1 || result.Evaluations != len(requests) ||
		result.LossTrain != m.loss(1) || math.IsNaN(result.LossMeta) {
		t.Errorf("%+v", result)
	}
	for i, r := range requests {
		if r.ID != uint64(i+1) || r.Done || r.Replay >= r.ID || r.Batch < Train1 || r.Batch > Validation {
			t.Errorf("request %d: %+v", i, r)
		}
	}
	seeds := map[uint64]uint64{} // of what is replayed
	for _, r := range requests {
		first := r.ID
		if r.Replay != 0 {
			first = r.Replay
		}
		for other, seed := range seeds {
			if (other == first) != (seed == r.Seed) {
				t.Errorf("requests %d and %d: seeds %d and %d", other, r.ID, seed, r.Seed)
			}
		}
		seeds[first] = r.Seed
	}
	if len(seeds) == len(requests) {
		t.Error("nothing is replayed")
	}
	if again, err := o.MetaResult(); err != nil || again != result {
		t.Errorf("%+v, %v", again, err)
	}
}

func TestAskAndTellIsTheSameMetaUpdate(t *testing.T) {
	o, m := trained(t, small())
	result, err := o.MetaUpdate(Float32s(m.params), Float32s(m.grads), m.answer)
	must(t, err)

	other, n := trained(t, small())
	request, err := other.MetaBegin(Float32s(n.params))
	must(t, err)
	for !request.Done {
		loss := n.loss(int(request.Batch))
		scale := 1.0
		var grads Slices
		if request.WantsGradient { // as with loss scaling
			scale, grads = 256, Float32s(n.grads)
			for _, grad := range n.grads {
				for i := range grad {
					grad[i] *= 256
				}
			}
		}
		_, err = other.MetaTell(Answer{RequestID: request.ID + 1, Loss: loss}, Float32s(n.params), grads)
		wants(t, err, ErrInvalidArgument) // and the request stays open
		_, err = other.MetaBegin(Float32s(n.params))
		wants(t, err, ErrInvalidState)
		request, err = other.MetaTell(Answer{request.ID, loss, scale}, Float32s(n.params), grads)
		must(t, err)
	}
	if last, err := other.MetaResult(); err != nil || last != result {
		t.Errorf("%+v, %v\n%+v", last, err, result)
	}
	same(t, attention(t, other), attention(t, o))
	same(t, n.bits(), m.bits())
	_, err = other.MetaTell(Answer{}, Float32s(n.params), nil)
	wants(t, err, ErrInvalidState)
	wants(t, other.MetaAbort(Float32s(n.params)), ErrInvalidState)

	_, err = other.MetaBegin(Float32s(n.params))
	must(t, err)
	must(t, other.MetaAbort(Float32s(n.params)))
	same(t, n.bits(), m.bits())
	if result, _ := other.MetaResult(); result.Outcome != OutcomeAborted {
		t.Errorf("%+v", result)
	}
	_, err = other.MetaBegin(Float32s(n.params)) // left open: Close frees it
	must(t, err)
}

var errOfHost = errors.New("no data")

// Whatever ends the closure early, at any request: parameters and attention module are unchanged, the optimizer can be
// used, and the cause comes back.
func TestAClosureThatFailsAborts(t *testing.T) {
	ends := map[string]struct {
		fail  func() (float64, error)
		check func(t *testing.T, update func() error)
	}{
		"error": {
			func() (float64, error) { return 0, errOfHost },
			func(t *testing.T, update func() error) {
				err := update()
				wants(t, err, errOfHost)
				wants(t, err, ErrAborted)
				if err.Error() != "metaadamw: meta-update aborted: no data" {
					t.Error(err)
				}
			},
		},
		"panic": {
			func() (float64, error) { panic(errOfHost) },
			func(t *testing.T, update func() error) {
				defer func() {
					if caught := recover(); caught != errOfHost {
						t.Errorf("caught %v", caught)
					}
				}()
				update()
				t.Error("did not panic")
			},
		},
		"Goexit": {
			func() (float64, error) { runtime.Goexit(); return 0, nil },
			func(t *testing.T, update func() error) {
				var group sync.WaitGroup
				group.Go(func() {
					update()
					t.Error("went on")
				})
				group.Wait()
			},
		},
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			for at := 1; ; at++ {
				o, m := trained(t, small())
				before, phi, request := m.bits(), attention(t, o), 0
				reached := false
				update := func() error {
					_, err := o.MetaUpdate(Float32s(m.params), Float32s(m.grads), func(r Request) (float64, error) {
						if request++; request == at {
							reached = true
							return end.fail()
						}
						return m.answer(r)
					})
					return err
				}
				if at == 7 { // past the last of the six requests
					must(t, update())
					if reached {
						t.Fatal("more requests than expected")
					}
					break
				}
				end.check(t, update)
				same(t, m.bits(), before)
				same(t, attention(t, o), phi)
				if result, err := o.MetaResult(); err != nil || result.Outcome != OutcomeAborted {
					t.Fatalf("%+v, %v", result, err)
				}
				m.step(t, o)
				_, err := o.MetaUpdate(Float32s(m.params), Float32s(m.grads), m.answer)
				must(t, err)
			}
		})
	}
}

func TestValuesThatAreNotFiniteAbandonTheMetaUpdate(t *testing.T) {
	o, m := trained(t, small())
	before := m.bits()
	result, err := o.MetaUpdate(Float32s(m.params), Float32s(m.grads), func(r Request) (float64, error) {
		m.loss(int(r.Batch))
		return math.Inf(1), nil
	})
	must(t, err)
	if result.Outcome != OutcomeLossNotFinite || result.Evaluations != 1 {
		t.Errorf("%+v", result)
	}
	same(t, m.bits(), before)

	m.params[0][0] = float32(math.NaN()) // it ends at once
	result, err = o.MetaUpdate(Float32s(m.params), Float32s(m.grads), func(Request) (float64, error) {
		t.Error("asked")
		return 0, nil
	})
	must(t, err)
	if result.Outcome != OutcomeStateNotFinite {
		t.Errorf("%+v", result)
	}
}

func TestBadAnswersAbort(t *testing.T) {
	o, m := trained(t, small())
	before := m.bits()
	_, err := o.MetaUpdate(Float32s(m.params), nil, m.answer)
	says(t, err, ErrInvalidArgument, "grads is nil, expected 3 slices")
	same(t, m.bits(), before)
	_, err = o.MetaUpdate(Float32s(m.params), Float32s(m.grads[:1]), m.answer)
	wants(t, err, ErrInvalidArgument)
	same(t, m.bits(), before)
	_, err = o.MetaUpdate(Float32s(m.params[:1]), Float32s(m.grads), m.answer)
	wants(t, err, ErrInvalidArgument)
	_, err = o.MetaBegin(nil)
	wants(t, err, ErrInvalidArgument)
	if o.updating {
		t.Error("still updating")
	}

	options := small()
	options.DisableModulation = true
	o = newToyOptimizer(t, options)
	_, err = o.MetaUpdate(Float32s(m.params), Float32s(m.grads), m.answer)
	wants(t, err, ErrInvalidState)
}

func TestLossesAloneNeedNoGradients(t *testing.T) {
	options := small()
	options.Objective = ObjectiveGenGap
	o, m := trained(t, options)
	var wanted []bool
	_, err := o.MetaUpdate(Float32s(m.params), Float32s(m.grads), func(r Request) (float64, error) {
		wanted = append(wanted, r.WantsGradient)
		return m.answer(r)
	})
	must(t, err)
	if slices.Contains(wanted, true) {
		t.Skip("this objective asks for gradients")
	}
	_, err = o.MetaUpdate(Float32s(m.params), nil, m.answer)
	must(t, err)
}

func TestInsideAClosure(t *testing.T) {
	o, m := trained(t, small())
	_, err := o.MetaUpdate(Float32s(m.params), Float32s(m.grads), func(r Request) (float64, error) {
		says(t, o.Close(), ErrBusy, "a MetaUpdate on this optimizer is running")
		_, err := o.MetaUpdate(Float32s(m.params), Float32s(m.grads), m.answer)
		wants(t, err, ErrBusy)
		_, err = o.MetaBegin(Float32s(m.params))
		wants(t, err, ErrBusy)
		_, err = o.MetaTell(Answer{}, Float32s(m.params), nil)
		wants(t, err, ErrBusy)
		wants(t, o.MetaAbort(Float32s(m.params)), ErrBusy)
		_, err = o.Step(Float32s(m.params), Float32s(m.grads))
		wants(t, err, ErrInvalidState)
		wants(t, o.SetLR(0, 1), ErrInvalidState)
		_, err = o.SaveBytes()
		wants(t, err, ErrInvalidState)
		_, err = o.Factors()
		must(t, err)
		_, err = o.Dump()
		must(t, err)
		return m.answer(r)
	})
	must(t, err)
}

// Getters in other goroutines do not disturb.
func TestReadersDuringMetaUpdates(t *testing.T) {
	o, m := trained(t, small())
	other, n := trained(t, small())
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 3 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					if _, err := o.Dump(); err != nil && !errors.Is(err, ErrBusy) {
						t.Error(err)
					}
				}
			}
		})
	}
	for range 50 {
		var result Result
		err, open := error(ErrBusy), false
		for errors.Is(err, ErrBusy) && !open { // only the beginning may collide with a getter
			result, err = o.MetaUpdate(Float32s(m.params), Float32s(m.grads), func(r Request) (float64, error) {
				open = true
				return m.answer(r)
			})
		}
		must(t, err)
		undisturbed, err := other.MetaUpdate(Float32s(n.params), Float32s(n.grads), n.answer)
		must(t, err)
		if result != undisturbed {
			t.Fatalf("%+v\n%+v", result, undisturbed)
		}
	}
	close(stop)
	readers.Wait()
	same(t, m.bits(), n.bits())
	same(t, attention(t, o), attention(t, other))
}

// A "no" because of a reader would lose the meta-update.
func TestMetaDueWaitsForAReader(t *testing.T) {
	o, _ := trained(t, small())
	o.mu.Lock() // as a reader does
	time.AfterFunc(20*time.Millisecond, o.mu.Unlock)
	if !o.MetaDue() {
		t.Error("not due")
	}
	must(t, o.Close())
	if o.MetaDue() {
		t.Error("due after Close")
	}
}

func TestGradientsOfAClosureMayBeScaled(t *testing.T) {
	o, m := trained(t, small())
	want, err := o.MetaUpdate(Float32s(m.params), Float32s(m.grads), m.answer)
	must(t, err)
	other, n := trained(t, small())
	scaled := func(r Request) (Answer, error) {
		loss := n.loss(int(r.Batch))
		for _, grad := range n.grads {
			for i := range grad {
				grad[i] *= 256
			}
		}
		return Answer{Loss: loss, GradScale: 256}, nil
	}
	result, err := other.MetaUpdateWith(Float32s(n.params), Float32s(n.grads), scaled)
	must(t, err)
	if result != want {
		t.Errorf("%+v\n%+v", result, want)
	}
	same(t, attention(t, other), attention(t, o))

	before := n.bits()
	_, err = other.MetaUpdateWith(Float32s(n.params), Float32s(n.grads), func(r Request) (Answer, error) {
		return Answer{RequestID: r.ID + 1}, nil
	})
	wants(t, err, ErrInvalidArgument)
	same(t, n.bits(), before)
}

// An abort that failed would leave trial values in the parameters.
func TestAnAbortWaitsForAReader(t *testing.T) {
	o, m := trained(t, small())
	before, request := m.bits(), 0
	_, err := o.MetaUpdate(Float32s(m.params), Float32s(m.grads), func(r Request) (float64, error) {
		if request++; request == 4 {
			o.mu.Lock() // as a reader does
			time.AfterFunc(20*time.Millisecond, o.mu.Unlock)
			return 0, errOfHost
		}
		return m.answer(r)
	})
	wants(t, err, errOfHost)
	same(t, m.bits(), before)
}

func TestMetaGradient(t *testing.T) {
	o, m := trained(t, small())
	_, err := o.MetaGradient("alpha")
	wants(t, err, ErrInvalidState)
	_, err = o.MetaUpdate(Float32s(m.params), Float32s(m.grads), m.answer)
	must(t, err)
	groups, err := o.Groups()
	must(t, err)
	for _, name := range []string{"alpha", "beta", "lambda1", "lambda2"} {
		values, err := o.MetaGradient(name)
		must(t, err)
		if len(values) != len(groups) {
			t.Errorf("%s: %v", name, values)
		}
	}
	tensors, err := o.AttentionTensors()
	must(t, err)
	for _, tensor := range tensors {
		values, err := o.MetaGradient(tensor.Name)
		must(t, err)
		if len(values) != tensor.Rows*tensor.Columns {
			t.Errorf("%s: %d values", tensor.Name, len(values))
		}
	}
	_, err = o.MetaGradient("unknown")
	wants(t, err, ErrNotFound)
	_, err = o.MetaGradient("a\x00")
	wants(t, err, ErrInvalidArgument)
}
