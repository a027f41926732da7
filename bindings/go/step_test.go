package metaadamw

import (
	"math"
	"slices"
	"testing"
)

func TestWithoutModulationItIsAdamW(t *testing.T) {
	const lr, beta1, beta2, eps, decay = 1e-2, 0.8, 0.9, 1e-6, 0.3
	o, err := New(Options{DisableModulation: true})
	must(t, err)
	defer o.Close()
	_, err = o.AddParamGroup(ParamGroup{LR: new(lr), Beta1: new(beta1), Beta2: new(beta2), Eps: eps, WeightDecay: new(decay)},
		Tensor{Name: "w", Shape: []int{3}, DType: Float64})
	must(t, err)
	got, want, m, v := []float64{1, -2, 3}, []float64{1, -2, 3}, [3]float64{}, [3]float64{}
	for step := 1; step <= 20; step++ {
		gradient := []float64{math.Sin(float64(step)), math.Cos(float64(step)), 1e-3}
		report, err := o.Step(Float64s{got}, Float64s{gradient})
		must(t, err)
		if report.Step != step || report.Skipped || report.NonfiniteTensor != -1 || report.ClipFactor != 1 {
			t.Fatalf("%+v", report)
		}
		for i, g := range gradient {
			m[i] = beta1*m[i] + (1-beta1)*g
			v[i] = beta2*v[i] + (1-beta2)*g*g
			mHat, vHat := m[i]/(1-math.Pow(beta1, float64(step))), v[i]/(1-math.Pow(beta2, float64(step)))
			want[i] -= lr * (mHat/(math.Sqrt(vHat)+eps) + decay*want[i])
			if math.Abs(got[i]-want[i]) > 1e-13 {
				t.Fatalf("step %d: got %v, want %v", step, got, want)
			}
		}
	}
}

func TestAStepThatIsNotFiniteIsSkipped(t *testing.T) {
	m := newToy()
	o := newToyOptimizer(t, small())
	m.step(t, o)
	before := m.bits()
	m.grads[1][2] = float32(math.NaN())
	report, err := o.Step(Float32s(m.params), Float32s(m.grads))
	must(t, err)
	if !report.Skipped || report.SkipReason != SkipGradient || report.NonfiniteTensor != 1 || report.Step != 1 || report.SkippedSteps != 1 {
		t.Errorf("%+v", report)
	}
	same(t, m.bits(), before)

	options := small()
	options.Nonfinite = NonfiniteError
	_, err = newToyOptimizer(t, options).Step(Float32s(m.params), Float32s(m.grads))
	wants(t, err, ErrNotFinite)
	same(t, m.bits(), before)
}

func TestANilGradientLeavesItsTensor(t *testing.T) {
	m := newToy()
	o := newToyOptimizer(t, small())
	m.loss(10)
	first, second := slices.Clone(m.params[0]), slices.Clone(m.params[1])
	m.grads[0] = nil
	_, err := o.Step(Float32s(m.params), Float32s(m.grads))
	must(t, err)
	if !slices.Equal(m.params[0], first) || slices.Equal(m.params[1], second) {
		t.Error("the wrong tensors moved")
	}
}

func TestStepOptions(t *testing.T) {
	options := small()
	options.MaxGradNorm = 0.5
	plain, scaled := newToy(), newToy()
	report := plain.step(t, newToyOptimizer(t, options))
	scaled.loss(10)
	for _, grad := range scaled.grads {
		for i := range grad {
			grad[i] *= 1024
		}
	}
	o := newToyOptimizer(t, options)
	other, err := o.StepWith(Float32s(scaled.params), Float32s(scaled.grads), StepOptions{GradScale: 1024})
	must(t, err)
	if report != other || report.ClipFactor >= 1 || report.GradNorm <= 0.5 {
		t.Errorf("%+v\n%+v", report, other)
	}
	same(t, scaled.bits(), plain.bits())
	_, err = o.StepWith(Float32s(scaled.params), Float32s(scaled.grads), StepOptions{GradScale: -1})
	wants(t, err, ErrInvalidArgument)

	options.VerifyParams = true
	o, m := newToyOptimizer(t, options), newToy()
	m.step(t, o)
	m.params[0][0]++
	_, err = o.Step(Float32s(m.params), Float32s(m.grads))
	wants(t, err, ErrParamsChanged)
	_, err = o.StepWith(Float32s(m.params), Float32s(m.grads), StepOptions{ParamsChanged: true})
	must(t, err)
}

func TestAnAnnouncedGradientGivesTheSameBits(t *testing.T) {
	plain, announced := newToy(), newToy()
	first, second := newToyOptimizer(t, small()), newToyOptimizer(t, small())
	must(t, second.Prepare())
	for range 5 {
		plain.step(t, first)
		announced.loss(10)
		for i := range announced.grads {
			must(t, second.ObserveGradient(i, F32(announced.grads[i])))
		}
		_, err := second.Step(Float32s(announced.params), Float32s(announced.grads))
		must(t, err)
	}
	same(t, announced.bits(), plain.bits())

	says(t, second.ObserveGradient(-1, F32{1}), ErrNotFound, "no tensor -1: 3 are registered")
	says(t, second.ObserveGradient(3, F32{1}), ErrNotFound, "no tensor 3: 3 are registered")
	says(t, second.ObserveGradient(0, nil), ErrInvalidArgument, "gradient of 'layers.0.weight' is nil")
	says(t, second.ObserveGradient(0, F32{1}), ErrInvalidArgument, "gradient[0] ('layers.0.weight') has 1 elements, expected 15")
	says(t, second.ObserveGradient(0, F64{1}), ErrInvalidArgument, "gradient[0] ('layers.0.weight') is float64, expected float32")
}

func BenchmarkStep(b *testing.B) {
	for name, options := range map[string]Options{"AdamW": {DisableModulation: true, Threads: 1}, "MetaAdamW": {Threads: 1}} {
		b.Run(name, func(b *testing.B) {
			m := newToy()
			o := newToyOptimizer(b, options)
			m.step(b, o)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := o.Step(Float32s(m.params), Float32s(m.grads)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
