package metaadamw

import (
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"slices"
	"testing"
	"unsafe"
)

// deviceProcess is a process whose buffers are on the device; those of the process are copies.
type deviceProcess struct {
	*process
	onDevice, gradients Mixed
}

// newDeviceProcess has the whole tensors; with a reduction as the only one of several processes.
func newDeviceProcess(t *testing.T, reduction reducer) *deviceProcess {
	t.Helper()
	options := small()
	options.Device = CUDA
	var w *world
	if reduction != nil {
		w = newWorld(1)
		w.onDevice = reduction
	}
	p, err := newProcess(options, w, 0)
	must(t, err)
	t.Cleanup(func() { must(t, p.Close()) })
	d := &deviceProcess{process: p}
	for i := range p.params {
		d.onDevice = append(d.onDevice, device(t, p.params[i]))
		d.gradients = append(d.gradients, device(t, p.grads[i]))
	}
	return d
}

func (d *deviceProcess) evaluate(batch int) (loss float64, err error) {
	if err := d.fetch(); err != nil {
		return 0, err
	}
	loss = d.process.evaluate(batch)
	for i, gradient := range d.gradients {
		err = errors.Join(err, gradient.(*DeviceArray).Upload(d.grads[i]))
	}
	return loss, err
}

// fetch copies the parameters from the device.
func (d *deviceProcess) fetch() (err error) {
	for i, param := range d.onDevice {
		err = errors.Join(err, param.(*DeviceArray).Download(d.params[i]))
	}
	return err
}

func (d *deviceProcess) step() error {
	if _, err := d.evaluate(10); err != nil {
		return err
	}
	_, err := d.Step(d.onDevice, d.gradients)
	return err
}

func (d *deviceProcess) launch() error {
	if _, err := d.evaluate(10); err != nil {
		return err
	}
	return d.Launch(d.onDevice, d.gradients, StepOptions{})
}

func (d *deviceProcess) update() error {
	_, err := d.MetaUpdate(d.onDevice, d.gradients, func(r Request) (float64, error) { return d.evaluate(int(r.Batch)) })
	return err
}

// run makes steps, every other one launched, and a meta-update after each third.
func (d *deviceProcess) run(t *testing.T) (params Mixed, moments [][]float32, factors any, report Report) {
	t.Helper()
	for step := range 5 {
		if step%2 == 0 {
			must(t, d.step())
		} else {
			must(t, d.launch())
		}
		if d.MetaDue() {
			must(t, d.update())
		}
	}
	must(t, d.fetch())
	for i, param := range d.params {
		m, v := make(F32, param.buffer().length), make(F32, param.buffer().length)
		_, err := d.TensorState(i, m, v)
		must(t, err)
		moments = append(moments, m, v)
	}
	factors, err := d.Factors()
	must(t, err)
	report, err = d.LastReport(true)
	must(t, err)
	return d.params, moments, factors, report
}

func TestShardsOnCUDAHaveTheBitsOfAProcessThatIsAlone(t *testing.T) {
	onDevice(t)
	alone := newDeviceProcess(t, nil)
	start := slices.Clone(alone.params[0].(F32))
	params, moments, factors, report := alone.run(t)
	if report.Step != 5 || slices.Equal(params[0].(F32), start) {
		t.Fatalf("it does not train: %+v", report)
	}

	calls, strange := 0, ""
	var size int
	var own *deviceProcess
	// What the only process brings are the sums already.
	sum := func(values unsafe.Pointer, count int) error {
		if calls++; values == nil || count <= 0 {
			strange = fmt.Sprintf("%d values at %v", count, values)
		}
		if own != nil { // it is prepared
			if _, err := own.StepCount(); !errors.Is(err, ErrBusy) {
				strange = fmt.Sprintf("StepCount inside of the reduction: %v", err)
			}
		}
		size = count
		return nil
	}
	shards := newDeviceProcess(t, sum)
	own = shards
	if calls != 2 {
		t.Errorf("called %d times by Prepare", calls)
	}
	for _, step := range []func() error{shards.step, shards.launch} {
		calls = 0
		must(t, step())
		if calls != 1 {
			t.Errorf("called %d times in a step", calls)
		}
	}
	// A chunk of 32,768 elements has 8 numbers: 3 chunks, 1, 3, 4.
	if least := 8 * (3 + 1 + 3 + 4); size < least {
		t.Errorf("%d values, expected at least %d", size, least)
	}

	own = nil
	shards = newDeviceProcess(t, sum)
	own = shards
	gotParams, gotMoments, gotFactors, gotReport := shards.run(t)
	if strange != "" {
		t.Error(strange)
	}
	if !reflect.DeepEqual(gotParams, params) || !reflect.DeepEqual(gotMoments, moments) ||
		!reflect.DeepEqual(gotFactors, factors) || gotReport != report {
		t.Error("shards have other bits")
	}
}

func TestAReductionsErrorOnCUDAComesBackFromTheCall(t *testing.T) {
	onDevice(t)
	var fail func() error
	p := newDeviceProcess(t, func(unsafe.Pointer, int) error {
		if fail == nil {
			return nil
		}
		return fail()
	})
	unchanged := func() {
		t.Helper()
		before := slices.Clone(p.params[0].(F32))
		must(t, p.fetch())
		same(t, p.params[0].(F32), before)
	}
	for name, call := range map[string]func() error{"step": p.step, "launch": p.launch, "meta-update": p.update} {
		fail = func() error { return fmt.Errorf("all-reduce: %w", errOfHost) }
		err := call()
		says(t, err, ErrReduction,
			"the reduction callback returned 1, expected 0; nothing was changed on this process: all-reduce: no data")
		wants(t, err, errOfHost)
		unchanged()

		fail = func() error { var nothing []int; return fmt.Errorf("%d", nothing[3]) }
		err = call()
		wants(t, err, ErrReduction)
		var crash runtime.Error
		if !errors.As(err, &crash) {
			t.Errorf("%s: got %v", name, err)
		}
		unchanged()
	}
	// When the other processes are told of an error of this one's.
	fail = func() error { return errOfHost }
	err := p.Launch(p.onDevice, p.gradients[1:], StepOptions{})
	wants(t, err, ErrInvalidArgument)
	wants(t, err, ErrReduction)
	wants(t, err, errOfHost)

	fail = nil
	must(t, p.step())
	must(t, p.launch())
	must(t, p.update())
	steps, err := p.StepCount()
	must(t, err)
	if steps != 2 {
		t.Errorf("%d steps", steps)
	}
}

func TestAReductionOfHostMemoryIsRefusedOnCUDA(t *testing.T) {
	onDevice(t)
	o := newOptimizer(t, Options{Device: CUDA}, Tensor{Name: "w", Shape: []int{3}, Shard: &Shard{0, 3}})
	says(t, o.SetReduction(func([]float64) error { return nil }), ErrInvalidArgument,
		"the reduction's values are in CPU memory, expected those of Options.Device, CUDA: use SetDeviceReduction")
	wants(t, o.Prepare(), ErrInvalidState) // no reduction
	sum := func(unsafe.Pointer, int) error { return nil }
	must(t, o.SetDeviceReduction(sum))
	must(t, o.SetReduction(nil))
	wants(t, o.Prepare(), ErrInvalidState)
	must(t, o.SetDeviceReduction(sum))
	must(t, o.Prepare())
	wants(t, o.SetDeviceReduction(nil), ErrInvalidState)
}
