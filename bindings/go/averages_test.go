package metaadamw

import (
	"errors"
	"math"
	"runtime"
	"slices"
	"testing"
)

// horizon is quick options that learn from steps.
func horizon() Options {
	options := HorizonOptions()
	options.Horizon, options.MetaWarmup, options.Threads = 4, 2, 1
	return options
}

func TestTheAttentionModuleLearnsFromStepsAlone(t *testing.T) {
	m := newToy()
	o := newToyOptimizer(t, horizon())
	alpha := func() float64 {
		factors, err := o.Factors()
		must(t, err)
		return factors[0].Alpha
	}
	m.step(t, o)
	if alpha() != 1 {
		t.Errorf("alpha %v: it begins as AdamW", alpha())
	}
	for range 40 {
		m.step(t, o)
		if o.MetaDue() {
			t.Fatal("a meta-update is due")
		}
	}
	if alpha() == 1 {
		t.Error("alpha is still 1")
	}
	result, err := o.MetaResult()
	must(t, err)
	if result.Outcome != OutcomeUpdated || result.Updates != (41-2)/5 || result.Evaluations != 0 {
		t.Errorf("%+v", result)
	}
	_, err = o.MetaUpdate(Float32s(m.params), Float32s(m.grads), m.answer)
	wants(t, err, ErrInvalidState)
}

func TestHorizonOptionsThatAreRefused(t *testing.T) {
	for _, change := range []func(*Options){
		func(o *Options) { o.MetaOptimizer = MetaSGD },
		func(o *Options) { o.Horizon = 0 },
		func(o *Options) { o.Horizon = -1 },
		func(o *Options) { o.AlphaLogRange = 1 },
		func(o *Options) { o.BetaLogRange = -8 },
		func(o *Options) { o.AverageDType = Float64 },
	} {
		options := horizon()
		change(&options)
		_, err := New(options)
		wants(t, err, ErrInvalidArgument)
	}
}

func TestAnAverageFollowsItsParameter(t *testing.T) {
	o, err := New(Options{DisableModulation: true, Horizon: 4}) // averages alone
	must(t, err)
	defer o.Close()
	_, err = o.AddParamGroup(ParamGroup{}, Tensor{Name: "w", Shape: []int{3}, DType: Float64})
	must(t, err)
	w, got := []float64{1, -2, 3}, make(F64, 3)
	want := slices.Clone(w)
	must(t, o.Prepare())
	wants(t, o.Average(0, got), ErrInvalidState) // before the first step
	for step := range 6 {
		_, err := o.Step(Float64s{w}, Float64s{{math.Sin(float64(step)), 1, -1}})
		must(t, err)
		for i := range want {
			want[i] += (w[i] - want[i]) / 4
		}
	}
	must(t, o.Average(0, got))
	for i := range want {
		if math.Abs(got[i]-want[i]) > 1e-15 {
			t.Errorf("got %v, want %v", got, want)
		}
	}
	says(t, o.Average(0, F32{1, 2, 3}), ErrInvalidArgument, "values[0] ('w') is float32, expected float64")
	says(t, o.Average(0, F64{1}), ErrInvalidArgument, "values[0] ('w') has 1 elements, expected 3")
	says(t, o.Average(0, nil), ErrInvalidArgument, "values ('w') is nil")
	wants(t, o.Average(1, got), ErrNotFound)
}

func TestWithAveragesLeavesTheParametersAsTheyWere(t *testing.T) {
	m := newToy()
	o := newToyOptimizer(t, horizon())
	for range 5 {
		m.step(t, o)
	}
	params, before := Float32s(m.params), m.bits()
	average := make(F32, len(m.params[0]))
	ran := false
	evaluate := func() error {
		ran = true
		must(t, o.Average(0, average))
		if !slices.Equal(m.params[0], average) || slices.Equal(m.bits(), before) {
			t.Error("the averages are not in the parameters")
		}
		m.params[0][0] = 9
		_, err := o.Step(params, Float32s(m.grads))
		wants(t, err, ErrInvalidState)
		wants(t, o.Close(), ErrBusy)
		wants(t, o.SwapAverages(params), ErrBusy)
		wants(t, o.WithAverages(params, func() error { return nil }), ErrBusy)
		steps, err := o.StepCount()
		must(t, err)
		if steps != 5 {
			t.Error(steps)
		}
		return nil
	}
	must(t, o.WithAverages(params, evaluate))
	if !ran || !slices.Equal(m.bits(), before) {
		t.Error("the parameters are others")
	}

	// However the closure ends.
	failure := errors.New("no more data")
	if err := o.WithAverages(params, func() error { return failure }); err != failure {
		t.Errorf("got %v", err)
	}
	func() {
		defer func() {
			if recover() != "panic" {
				t.Error("the panic did not arrive")
			}
		}()
		o.WithAverages(params, func() error { panic("panic") })
	}()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		o.WithAverages(params, func() error { runtime.Goexit(); return nil })
	}()
	<-ended
	if !slices.Equal(m.bits(), before) {
		t.Error("the parameters are others")
	}
	m.step(t, o)
}

func TestTheAveragesAreSwappedByHand(t *testing.T) {
	m := newToy()
	o := newToyOptimizer(t, horizon())
	m.step(t, o)
	params, before := Float32s(m.params), m.bits()
	must(t, o.SwapAverages(params))
	wants(t, o.WithAverages(params, func() error { return nil }), ErrInvalidState)
	must(t, o.SwapAverages(params))
	if !slices.Equal(m.bits(), before) {
		t.Error("the parameters are others")
	}
	says(t, o.SwapAverages(params[:1]), ErrInvalidArgument, "params has 1 slices, expected one for each of 3 tensors")
	says(t, o.WithAverages(nil, nil), ErrInvalidArgument, "params is nil, expected 3 slices")
}

func TestWithoutAHorizonThereAreNoAverages(t *testing.T) {
	m := newToy()
	o := newToyOptimizer(t, small())
	m.step(t, o)
	wants(t, o.Average(0, make(F32, 15)), ErrInvalidState)
	wants(t, o.WithAverages(Float32s(m.params), func() error { t.Error("called"); return nil }), ErrInvalidState)
}
