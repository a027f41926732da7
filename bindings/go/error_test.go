package metaadamw

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"syscall"
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

func TestASystemsErrorIsTheCause(t *testing.T) {
	o, m := newToyOptimizer(t, small()), newToy()
	m.step(t, o)
	missing := filepath.Join(t.TempDir(), "(os error 13)", "run.safetensors")
	file := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(file, nil, 0o600))
	for _, c := range []struct{ err, want error }{
		{o.Load(missing), os.ErrNotExist},
		{o.Save(missing), os.ErrNotExist},
		{o.Load(filepath.Join(file, "below")), syscall.ENOTDIR},
	} {
		wants(t, c.err, c.want)
		wants(t, c.err, ErrIO)
		if errors.Is(c.err, os.ErrPermission) {
			t.Errorf("%v is not about permission", c.err)
		}
	}
	for _, message := range []string{"", "(os error 2", "os error 2)", "(os error x)", "(os error -1)", "(os error 99999999999)"} {
		if err := systemError(message); err != nil {
			t.Errorf("%q: %v", message, err)
		}
	}
}

func TestErrClosedHasAStatus(t *testing.T) {
	o, err := New(Options{})
	must(t, err)
	must(t, o.Close())
	wants(t, o.Prepare(), ErrInvalidState)
	says(t, o.Prepare(), ErrInvalidState, "the optimizer is closed")
	if errors.Is(&Error{Status: ErrInvalidState}, ErrClosed) {
		t.Error("every invalid state is closed")
	}
}

func TestEveryStatusHasAText(t *testing.T) {
	seen := map[string]bool{}
	for s := ErrReduction; s <= ErrAborted; s++ {
		if s == 0 {
			continue
		}
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

// Every exported type that has constants prints their names.
func TestEnumerationsHaveNames(t *testing.T) {
	files, err := filepath.Glob("*.go")
	must(t, err)
	constants, named := map[string]int{}, map[string]bool{}
	for _, path := range files {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		must(t, err)
		for _, d := range file.Decls {
			switch d := d.(type) {
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					if value, ok := spec.(*ast.ValueSpec); ok && d.Tok == token.CONST {
						if of, ok := value.Type.(*ast.Ident); ok && of.IsExported() {
							constants[of.Name]++
						}
					}
				}
			case *ast.FuncDecl:
				if d.Recv != nil && (d.Name.Name == "String" || d.Name.Name == "Error") {
					if of, ok := d.Recv.List[0].Type.(*ast.Ident); ok {
						named[of.Name] = true
					}
				}
			}
		}
	}
	if constants["Semantics"] != 2 {
		t.Errorf("found %v", constants)
	}
	for name := range constants {
		if !named[name] {
			t.Errorf("%s has no String", name)
		}
	}

	for _, last := range []struct {
		value fmt.Stringer
		count string
	}{
		{Device(2), "2"}, {LayerKind(8), "8"}, {Semantics(2), "2"}, {FeatureVersion(6), "6"}, {Grouping(3), "3"}, {Init(2), "2"},
		{Objective(5), "5"}, {MetaOptimizer(2), "2"}, {Weighting(3), "3"}, {TermKind(2), "2"}, {Difference(3), "3"}, {Nonfinite(3), "3"}, {Precision(4), "4"},
	} {
		if got := last.value.String(); got != "unknown "+last.count {
			t.Errorf("%T: %s", last.value, got)
		}
	}
	for want, got := range map[string]fmt.Stringer{
		"CUDA": CUDA, "layernorm": LayerLayerNorm, "reference": Reference, "normalized logarithms": FeaturesNormLog,
		"custom": GroupingCustom, "identity": InitIdentity, "horizon": ObjectiveHorizon, "AdamW": MetaAdamW, "sum": WeightingSum,
		"classification": KindClassification, "first order": DifferenceFirstOrder, "propagate": NonfinitePropagate,
		"stochastic": PrecisionStochastic, "attention only|strict|partial": AttentionOnly | Strict | Partial, "0x0": Flag(0),
		"file wins|own wins|0x40000000": FileWins | OwnWins | 1<<30,
	} {
		if got.String() != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
