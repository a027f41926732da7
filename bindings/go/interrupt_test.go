package metaadamw

import (
	"context"
	"errors"
	"slices"
	"testing"
)

// A meta-update that is interrupted counts as done: the next one is due an interval later. With the counters from before,
// it is due again, and the run that is saved then goes on as one without the interruption.
func TestAnInterruptedMetaUpdateCanBeDoneAfterAResume(t *testing.T) {
	run := func(o *Optimizer, m *toy, steps int) {
		for range steps {
			if o.MetaDue() {
				_, err := o.MetaUpdate(Float32s(m.params), Float32s(m.grads), m.answer)
				must(t, err)
			}
			m.step(t, o)
		}
	}
	undisturbed, want := trained(t, small())
	run(undisturbed, want, 7)

	for name, interrupt := range map[string]func(stop context.CancelFunc){
		"cancelled": func(stop context.CancelFunc) { stop() },
		"panic":     func(context.CancelFunc) { panic("interrupted") },
	} {
		for _, again := range []bool{true, false} {
			o, m := trained(t, small())
			before, err := o.Counters()
			must(t, err)
			ctx, stop := context.WithCancel(t.Context())
			requests := 0
			func() {
				defer func() { _ = recover() }()
				_, err := o.MetaUpdate(Float32s(m.params), Float32s(m.grads), func(r Request) (float64, error) {
					if requests++; requests == 3 {
						interrupt(stop)
					}
					if ctx.Err() != nil {
						return 0, ctx.Err()
					}
					return m.answer(r)
				})
				if !errors.Is(err, context.Canceled) {
					t.Errorf("%s: %v", name, err)
				}
			}()
			stop()
			if o.MetaDue() {
				t.Errorf("%s: due again", name)
			}
			if again {
				must(t, o.SetCounters(before))
			}
			saved, err := o.SaveBytes()
			must(t, err)

			resumed := newToyOptimizer(t, small())
			must(t, resumed.LoadBytes(saved))
			if resumed.MetaDue() != again {
				t.Errorf("%s, again %v: due %v", name, again, !again)
			}
			run(resumed, m, 7)
			equal := slices.Equal(m.bits(), want.bits()) && slices.Equal(attention(t, resumed), attention(t, undisturbed))
			if equal != again {
				t.Errorf("%s, again %v: equal %v", name, again, equal)
			}
		}
	}
}
