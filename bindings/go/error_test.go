package metaadamw

import (
	"errors"
	"fmt"
	"testing"
)

func TestErrorsCanBeComparedAndOpened(t *testing.T) {
	o := newToyOptimizer(t, small())
	err := fmt.Errorf("training: %w", o.SetLR(7, 1e-3))
	wants(t, err, ErrNotFound)
	if errors.Is(err, ErrBusy) {
		t.Error("it is not busy")
	}
	var e *Error
	if !errors.As(err, &e) || e.Status != ErrNotFound || e.Message == "" {
		t.Errorf("got %#v", e)
	}
	var status Status
	if !errors.As(err, &status) || status != ErrNotFound {
		t.Errorf("got %v", status)
	}
}

func TestEveryStatusHasAText(t *testing.T) {
	seen := map[string]bool{}
	for s := ErrCUDA; s <= ErrInvalidArgument; s++ {
		if _, ok := statusTexts[s]; !ok || seen[s.Error()] {
			t.Errorf("%d: %q", s, s.Error())
		}
		seen[s.Error()] = true
	}
	if got := Status(-99).Error(); got != "metaadamw: status -99" {
		t.Error(got)
	}
}

func TestNamesOfNumbers(t *testing.T) {
	for want, got := range map[string]fmt.Stringer{
		"float32": DType(0), "float64": Float64, "bfloat16": BFloat16, "float16": Float16, "unknown dtype": DType(9),
		"none": SkipNone, "factor": SkipFactor, "unknown 6": SkipReason(6),
		"meta-gradient not finite": OutcomeMetaGradientNotFinite, "unknown -1": Outcome(-1),
		"train 1": Train1, "validation": Validation,
		"info": LogInfo, "warning": LogWarning, "unknown level": LogLevel(0),
	} {
		if got.String() != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
