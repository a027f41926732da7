package metaadamw

import (
	"math"
	"strings"
	"testing"
)

// skip makes a step that the library skips, with a message.
func skip(o *Optimizer) error {
	m := newToy()
	m.loss(10)
	m.grads[0][0] = float32(math.NaN())
	_, err := o.Step(Float32s(m.params), Float32s(m.grads))
	return err
}

func TestTheLogReceivesMessages(t *testing.T) {
	o := newToyOptimizer(t, small())
	var heard []string
	must(t, o.SetLog(func(level LogLevel, message string) {
		_, err := o.StepCount() // the optimizer can be used in it
		must(t, err)
		heard = append(heard, level.String()+": "+message)
	}))
	must(t, skip(o))
	if len(heard) != 1 || !strings.Contains(heard[0], "layers.0.weight") {
		t.Errorf("heard %q", heard)
	}
	must(t, o.SetLog(nil))
	must(t, skip(o))
	if len(heard) != 1 {
		t.Errorf("heard %q", heard)
	}
	again := 0
	must(t, o.SetLog(func(LogLevel, string) { again++ }))
	must(t, skip(o))
	if again != 1 || len(heard) != 1 {
		t.Errorf("heard %d", again)
	}
}

func TestALogThatPanicsHarmsNothing(t *testing.T) {
	o := newToyOptimizer(t, small())
	must(t, o.SetLog(func(LogLevel, string) { panic(errOfHost) }))
	func() {
		defer func() {
			if caught := recover(); caught != errOfHost {
				t.Errorf("caught %v", caught)
			}
		}()
		_ = skip(o)
		t.Error("did not panic")
	}()
	must(t, o.SetLog(nil))
	m := newToy()
	m.step(t, o)

	// The last message of a meta-update, sent when it is no longer open.
	must(t, o.SetLog(func(LogLevel, string) { panic(errOfHost) }))
	before := m.bits()
	func() {
		defer func() { _ = recover() }()
		_, _ = o.MetaUpdate(Float32s(m.params), Float32s(m.grads), func(Request) (float64, error) { return math.NaN(), nil })
	}()
	same(t, m.bits(), before)
	must(t, o.SetLog(nil))
	m.step(t, o)
}
