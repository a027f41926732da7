package metaadamw

import (
	"math"
	"os"
	"testing"
)

// onDevice skips a test without a CUDA device. scripts/test-go.sh provides an emulator and sets the variable.
func onDevice(t *testing.T) {
	t.Helper()
	if !CUDAAvailable() {
		if os.Getenv("METAADAMW_TEST_CUDA") != "" {
			t.Fatal("no CUDA device")
		}
		t.Skip("no CUDA device")
	}
}

func device(t *testing.T, from Slice) *DeviceArray {
	t.Helper()
	b := from.buffer()
	a, err := NewDeviceArray(0, b.dtype, b.length)
	must(t, err)
	t.Cleanup(func() { a.Close() })
	must(t, a.Upload(from))
	return a
}

func TestStepsOnCUDAAreThoseOfTheCPU(t *testing.T) {
	onDevice(t)
	model := newToy()
	options := small()
	host, err := New(options)
	must(t, err)
	defer host.Close()
	options.Device = CUDA
	o, err := New(options)
	must(t, err)
	defer o.Close()
	for _, o := range []*Optimizer{host, o} {
		_, err := o.AddParamGroup(ParamGroup{}, toyTensors...)
		must(t, err)
	}
	must(t, o.SetStream(nil))
	var params, grads Mixed
	for i := range model.params {
		params = append(params, device(t, F32(model.params[i])))
		grads = append(grads, device(t, F32(model.grads[i])))
	}
	_, err = o.LastReport(true)
	wants(t, err, ErrInvalidState)

	scale := device(t, F32{4})
	for step := range 3 {
		model.loss(step)
		for i := range grads {
			must(t, grads[i].(*DeviceArray).Upload(F32(model.grads[i])))
		}
		_, err := host.StepWith(Float32s(model.params), Float32s(model.grads), StepOptions{GradScale: 4})
		must(t, err)
		must(t, o.Launch(params, grads, StepOptions{DeviceGradScale: scale}))
	}
	skipped := device(t, F32{1})
	must(t, o.Launch(params, grads, StepOptions{FoundInf: skipped}))
	report, err := o.LastReport(true)
	must(t, err)
	if report.Step != 3 || report.SkippedSteps != 1 || !report.Skipped || report.SkipReason != SkipGradient {
		t.Errorf("got %+v", report)
	}
	for i := range params {
		got := make(F32, len(model.params[i]))
		must(t, params[i].(*DeviceArray).Download(got))
		for k, want := range model.params[i] {
			if math.Abs(float64(got[k]-want)) > 1e-6 {
				t.Fatalf("tensor %d, element %d: %v, on the CPU %v", i, k, got[k], want)
			}
		}
	}
}

func TestErrorsOnCUDANameTheirCause(t *testing.T) {
	onDevice(t)
	o, err := New(Options{Device: CUDA})
	must(t, err)
	defer o.Close()
	_, err = o.AddParamGroup(ParamGroup{}, Tensor{Name: "w", Shape: []int{2}})
	must(t, err)
	_, err = o.Step(Float32s{{1, 2}}, Float32s{{3, 4}})
	says(t, err, ErrInvalidArgument, "params[0] (tensor 'w') is a pointer to host memory, or to none, expected memory of CUDA device 0")

	_, err = NewDeviceArray(1000, Float32, 1)
	wants(t, err, ErrInvalidArgument)
	_, err = NewDeviceArray(0, 9, 1)
	wants(t, err, ErrInvalidArgument)
	_, err = NewDeviceArray(0, Float32, -1)
	wants(t, err, ErrInvalidArgument)
	a := device(t, F64{1, 2})
	says(t, a.Upload(F32{1, 2}), ErrInvalidArgument, "from is float32 of 2 elements, expected float64 of 2")
	says(t, a.Download(F64{1}), ErrInvalidArgument, "into is float64 of 1 elements, expected float64 of 2")
	says(t, a.Upload(a), ErrInvalidArgument, "from is a device array, expected a slice in the host's memory")
	says(t, o.Launch(Mixed{a}, Mixed{nil}, StepOptions{FoundInf: a}), ErrInvalidArgument, "FoundInf is float64 of 2 elements, expected float32 of 1")
	onHost := StepOptions{FoundInf: F32{1}}
	w := device(t, F32{1, 2})
	says(t, o.Launch(Mixed{w}, Mixed{nil}, onHost), ErrInvalidArgument, "step_options.found_inf is a pointer to host memory, or to none, expected memory of CUDA device 0")
	says(t, o.Launch(Mixed{w}, Mixed{nil}, StepOptions{DeviceGradScale: F32{1}}), ErrInvalidArgument, "step_options.device_grad_scale is a pointer to host memory, or to none, expected memory of CUDA device 0")
	must(t, a.Close())
	must(t, a.Close())
	wants(t, a.Upload(F64{1, 2}), ErrInvalidState)
}

func TestCUDAIsRefusedWhereThereIsNone(t *testing.T) {
	if CUDAAvailable() {
		t.Skip("there is a CUDA device")
	}
	_, err := New(Options{Device: CUDA})
	wants(t, err, ErrUnsupported)
	_, err = NewDeviceArray(0, Float32, 1)
	wants(t, err, ErrUnsupported)
}
