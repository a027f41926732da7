package metaadamw

import (
	"fmt"
	"math"
	"reflect"
	"testing"
)

// fieldsOf prints the fields of a C struct, by name.
func fieldsOf(c any) map[string]string {
	fields := map[string]string{}
	v := reflect.ValueOf(c)
	for i := range v.NumField() {
		fields[v.Type().Field(i).Name] = fmt.Sprint(v.Field(i))
	}
	return fields
}

func TestZeroMeansDefault(t *testing.T) {
	c, err := (&Options{}).toC()
	must(t, err)
	fields := fieldsOf(c)
	for name, want := range map[string]string{
		"seed": "0", "total_steps": "0", "meta_interval": "200", "meta_warmup": "0", "alpha_range": "1", "beta_range": "1",
		"meta_lr": "0.0001", "meta_weight_decay": "0.0001", "feature_gating_sparsity": "0.0001", "priorities": "[1 1 1]",
		"fixed_weights": "[1 1 1]", "log_var_limit": "10", "modulation": "1", "use_v_norms": "1", "include_time_step": "1",
		"group_embed_dim": "4", "attn_heads": "6", "attn_layers": "8", "attn_hidden_dim": "16", "threads": "0",
	} {
		if fields[name] != want {
			t.Errorf("%s = %s, want %s", name, fields[name], want)
		}
	}
	group := fieldsOf((&ParamGroup{}).toC())
	for name, want := range map[string]string{
		"lr": "0.0005", "beta1": "0.9", "beta2": "0.999", "eps": "1e-08", "weight_decay": "0.01",
	} {
		if group[name] != want {
			t.Errorf("%s = %s, want %s", name, group[name], want)
		}
	}
}

// A field that a later header adds and that is missing here fails this test.
func TestEveryFieldReachesTheLibrary(t *testing.T) {
	options := Options{
		Seed: 5, TotalSteps: 6, MetaInterval: 7, MetaWarmup: 8, AlphaRange: new(0.25), BetaRange: new(0.5), MetaLR: new(2.0),
		MetaWeightDecay: new(3.0), FeatureGatingSparsity: new(4.0), Priorities: &[3]float64{2, 5, 0},
		FixedWeights: &[3]float64{0, 2, 3}, HUWInitialLogVar: -0.5, LogVarLimit: new(6.0), DifferenceScale: 0.125,
		MaxGradNorm: 9, Semantics: Reference, FeatureVersion: FeaturesEnhanced, Grouping: GroupingCustom, Init: InitIdentity,
		Objective: ObjectiveLossDecrease, Weighting: WeightingSum,
		HUWKinds: [3]TermKind{KindClassification, KindRegression, KindClassification}, Difference: DifferenceForward,
		Nonfinite: NonfiniteError, DisableModulation: true, DisableVNorms: true, DisableTimeStep: true, UseFeatureGating: true,
		GroupEmbedDim: 11, FeatureDim: 12, AttnHeads: 13, AttnLayers: 14, AttnHiddenDim: 15, Threads: 16, VerifyParams: true,
		Device: CUDA, DeviceIndex: 17, AlphaLogRange: 18, BetaLogRange: 19, Horizon: 20, MetaOptimizer: MetaAdamW,
		AverageDType: BFloat16,
	}
	for i, v := 0, reflect.ValueOf(options); i < v.NumField(); i++ {
		if v.Field(i).IsZero() {
			t.Errorf("this test does not set %s", v.Type().Field(i).Name)
		}
	}
	c, err := options.toC()
	must(t, err)
	zero, _ := (&Options{}).toC()
	defaults := fieldsOf(zero)
	for name, value := range fieldsOf(c) {
		left := name == "struct_size"
		if (value == defaults[name]) != left {
			t.Errorf("%s is %s, the default is %s", name, value, defaults[name])
		}
	}
	group := fieldsOf((&ParamGroup{new(1.0), new(2.0), new(3.0), 4, new(5.0), PrecisionRemainder, BFloat16}).toC())
	delete(group, "struct_size")
	want := map[string]string{"lr": "1", "beta1": "2", "beta2": "3", "eps": "4", "weight_decay": "5",
		"precision": "2", "moment_dtype": "3"}
	if !reflect.DeepEqual(group, want) {
		t.Errorf("got %v", group)
	}
}

func TestHorizonOptionsAreTheLibrarysPreset(t *testing.T) {
	options := HorizonOptions()
	c, err := options.toC()
	must(t, err)
	got, want := fieldsOf(c), fieldsOf(horizonPreset())
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	if zero, _ := (&Options{}).toC(); zero == c {
		t.Error("the preset is the defaults")
	}
}

func TestAnExplicitZeroIsZero(t *testing.T) {
	zero := new(0.0)
	c, err := (&Options{AlphaRange: zero, BetaRange: zero, MetaLR: zero, MetaWeightDecay: zero, FeatureGatingSparsity: zero,
		LogVarLimit: zero, Priorities: &[3]float64{}, FixedWeights: &[3]float64{}}).toC()
	must(t, err)
	for _, name := range []string{"alpha_range", "beta_range", "meta_lr", "meta_weight_decay", "feature_gating_sparsity", "log_var_limit"} {
		if got := fieldsOf(c)[name]; got != "0" {
			t.Errorf("%s = %s", name, got)
		}
	}
	for _, name := range []string{"priorities", "fixed_weights"} {
		if got := fieldsOf(c)[name]; got != "[0 0 0]" {
			t.Errorf("%s = %s", name, got)
		}
	}

	o, err := New(Options{})
	must(t, err)
	defer o.Close()
	group, err := o.AddParamGroup(ParamGroup{LR: zero, Beta1: zero, Beta2: zero, WeightDecay: zero}, Tensor{Name: "w"})
	must(t, err)
	lr, err := o.LR(group)
	must(t, err)
	decay, err := o.WeightDecay(group)
	must(t, err)
	if lr != 0 || decay != 0 {
		t.Errorf("lr %v, weight decay %v", lr, decay)
	}
}

func TestOptionsThatAreRefused(t *testing.T) {
	_, err := New(Options{MetaInterval: -1})
	says(t, err, ErrInvalidArgument, "MetaInterval = -1: expected 0 to 9223372036854775807")
	_, err = New(Options{Threads: math.MaxUint32 + 1})
	says(t, err, ErrInvalidArgument, "Threads = 4294967296: expected 0 to 4294967295")
	_, err = New(Options{AlphaRange: new(2.5)})
	wants(t, err, ErrInvalidArgument)
	_, err = New(Options{Semantics: 9})
	wants(t, err, ErrInvalidArgument)
	_, err = New(Options{MaxGradNorm: math.NaN()})
	wants(t, err, ErrInvalidArgument)
}

func TestOptionsPrintWhatWasGiven(t *testing.T) {
	options := Options{TotalSteps: 1000, AlphaRange: new(0.0), Priorities: &[3]float64{1, 2, 0}, Semantics: Reference, DisableVNorms: true}
	group := ParamGroup{LR: new(1e-3), MomentDType: BFloat16}
	for want, got := range map[string]string{
		"{TotalSteps: 1000, AlphaRange: 0, Priorities: [1 2 0], Semantics: reference, DisableVNorms: true}": fmt.Sprint(options),
		"{LR: 0.001, MomentDType: bfloat16}": fmt.Sprintf("%+v", &group),
		"{}":                                 fmt.Sprint(Options{}),
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
