package metaadamw

// #include <metaadamw.h>
import "C"

import (
	"fmt"
	"math"
	"reflect"
	"strings"
)

// Options of an optimizer, fixed at creation except where a setter exists. The zero value is the library's defaults.
//
// A field that is left out means its default. Where 0 is a value different from the default, the field is a pointer:
// AlphaRange: new(0.0).
type Options struct {
	// Seed of the attention module's initial values and of stochastic rounding; the same on every platform.
	Seed uint64
	// TotalSteps of the whole run: the time feature is step/TotalSteps. 0 = unknown: it is 2·sigmoid(step/1000) − 1.
	TotalSteps int
	// MetaInterval is the number of steps between two meta-updates; with ObjectiveHorizon, of steps after which the
	// attention module learns. Default 200.
	MetaInterval int
	// MetaWarmup is the first step at which a meta-update can be due; with ObjectiveHorizon, the number of steps that the
	// attention module does not learn from.
	MetaWarmup int
	// AlphaRange is the width of alpha's range, 0 to 2: alpha is within 1 ± AlphaRange/2. Default 1.
	AlphaRange *float64
	// BetaRange is the width of beta's range, 0 to 2: beta is within 1 ± BetaRange/2. Default 1.
	BetaRange *float64
	// MetaLR is the learning rate of the attention module, ≥ 0. Default 1e-4.
	MetaLR *float64
	// MetaWeightDecay is the weight of the norms of the attention module's tensors in the meta-objective, ≥ 0; with
	// MetaAdamW its decoupled weight decay. Default 1e-4.
	MetaWeightDecay *float64
	// FeatureGatingSparsity is the weight of the sum of |gate| in the meta-objective, ≥ 0; with UseFeatureGating.
	// Default 1e-4.
	FeatureGatingSparsity *float64
	// Priorities of gradient alignment, loss decrease and generalization gap under WeightingHUW, each ≥ 0.
	// Default 1, 1, 1.
	Priorities *[3]float64
	// FixedWeights of the three terms under WeightingFixed. Default 1, 1, 1.
	FixedWeights *[3]float64
	// HUWInitialLogVar is the initial value of HUW's three log-variances.
	HUWInitialLogVar float64
	// LogVarLimit: the log-variances are clamped to ± this, ≥ 0; new(0.0) = no limit, as in the paper. Default 10.
	LogVarLimit *float64
	// DifferenceScale is the relative step size of the differences for the Hessian-vector product; 0 = 6e-6 for float64
	// (forward: 1.5e-8), 3e-3 for float32, 3e-2 for 16-bit parameters.
	DifferenceScale float64
	// MaxGradNorm is the global norm to which gradients are clipped; 0 = no clipping. SetMaxGradNorm changes it.
	MaxGradNorm float64

	Semantics      Semantics
	FeatureVersion FeatureVersion
	Grouping       Grouping
	Init           Init
	Objective      Objective
	Weighting      Weighting
	// HUWKinds of the three terms.
	HUWKinds   [3]TermKind
	Difference Difference
	Nonfinite  Nonfinite

	// Device where parameters, gradients and moments are. Default CPU.
	Device Device
	// DeviceIndex is the number of the CUDA device.
	DeviceIndex int

	// DisableModulation makes it plain AdamW: alpha = beta = 1, no features, no meta-updates.
	DisableModulation bool
	// DisableVNorms leaves the norm of the second moment out of the features. FeaturesEnhanced never has it.
	DisableVNorms bool
	// DisableTimeStep leaves the time step out of the features.
	DisableTimeStep bool
	// UseFeatureGating multiplies each feature column by the sigmoid of a learned gate.
	UseFeatureGating bool
	// GroupEmbedDim is the number of columns of the learned group embedding; FeaturesEnhanced only. Default 4.
	GroupEmbedDim int
	// FeatureDim is the width of a token; 0 = the number of features. Rounded up to a multiple of AttnHeads.
	FeatureDim int
	// AttnHeads of the encoder, up to 1,024. Default 6.
	AttnHeads int
	// AttnLayers of the encoder, up to 4,096. Default 8.
	AttnLayers int
	// AttnHiddenDim is the width of the encoder's feed-forward layers, up to 65,536. Default 16.
	AttnHiddenDim int
	// Threads of a step on the CPU, up to 1,024; 0 = one per available core; 1 = the calling thread only. A model with
	// fewer than 262,144 elements uses the calling thread only. Any number gives the same bits.
	Threads int
	// VerifyParams makes each step check that no parameter changed since the last one without ParamsChanged.
	VerifyParams bool

	// AlphaLogRange R, 1 < R ≤ 1e6, puts alpha between 1/R and R, evenly in its logarithm, in place of AlphaRange. 0: not
	// used. Not in the paper.
	AlphaLogRange float64
	// BetaLogRange is the same for beta.
	BetaLogRange float64
	// Horizon N, 2 to 2³²: the library keeps an average of each parameter over about N steps, for
	// [Optimizer.WithAverages], and learns from it under ObjectiveHorizon. 0: no averages.
	Horizon int
	// MetaOptimizer is how the attention module learns; ObjectiveHorizon needs MetaAdamW.
	MetaOptimizer MetaOptimizer
	// AverageDType of the averages: 0 = Float32, and Float64 for Float64 tensors; or BFloat16, with stochastic rounding.
	AverageDType DType
}

// HorizonOptions are options with which the attention module learns from steps alone, without a MetaUpdate: the library's
// preset, which is not in the paper. Change fields as in other Options; one that is set to zero again means its default in
// [Options].
func HorizonOptions() Options {
	c := horizonPreset()
	return Options{
		MetaInterval:    int(c.meta_interval),
		MetaWarmup:      int(c.meta_warmup),
		MetaLR:          new(float64(c.meta_lr)),
		MetaWeightDecay: new(float64(c.meta_weight_decay)),
		FeatureVersion:  FeatureVersion(c.feature_version),
		Init:            Init(c.init),
		Objective:       Objective(c.objective),
		AttnLayers:      int(c.attn_layers),
		AlphaLogRange:   float64(c.alpha_log_range),
		Horizon:         int(c.horizon),
		MetaOptimizer:   MetaOptimizer(c.meta_optimizer),
	}
}

func horizonPreset() (c C.maw_options) {
	C.maw_options_preset(&c, C.sizeof_maw_options, C.MAW_PRESET_HORIZON)
	return c
}

// Semantics says whether the paper or the authors' program is followed where they differ.
type Semantics int32

const (
	Paper     Semantics = C.MAW_PAPER     // the paper's equations
	Reference Semantics = C.MAW_REFERENCE // the authors' published program
)

func (s Semantics) String() string { return nameOf(int(s), "paper", "reference") }

// FeatureVersion selects the features of each modulation group.
type FeatureVersion int32

const (
	FeaturesBasic         FeatureVersion = C.MAW_FEATURES_BASIC           // mean norms, mean cosine of gradient and first moment
	FeaturesBasicPlus     FeatureVersion = C.MAW_FEATURES_BASIC_PLUS      // and the standard deviations over the tensors
	FeaturesEnhanced      FeatureVersion = C.MAW_FEATURES_ENHANCED        // means, variances, zeros, size, kind, depth, a learned embedding
	FeaturesNormBasic     FeatureVersion = C.MAW_FEATURES_NORM_BASIC      // basic, standardized over the groups
	FeaturesNormBasicPlus FeatureVersion = C.MAW_FEATURES_NORM_BASIC_PLUS // basic plus, standardized over the groups
	FeaturesNormLog       FeatureVersion = C.MAW_FEATURES_NORM_LOG        // normalized basic, of the norms' logarithms; not in the paper
)

func (f FeatureVersion) String() string {
	return nameOf(int(f), "basic", "basic plus", "enhanced", "normalized basic", "normalized basic plus", "normalized logarithms")
}

// Grouping selects the modulation groups.
type Grouping int32

const (
	GroupingFineGrained  Grouping = C.MAW_GROUPING_FINE_GRAINED   // one for each (layer kind, depth, bias or not), from the tensors' names
	GroupingByParamGroup Grouping = C.MAW_GROUPING_BY_PARAM_GROUP // the param groups
	GroupingCustom       Grouping = C.MAW_GROUPING_CUSTOM         // Tensor.ModulationGroup names each tensor's
)

func (g Grouping) String() string { return nameOf(int(g), "fine-grained", "by param group", "custom") }

// Init selects the initial values of the attention module.
//
// Xavier's start is a random learning rate: after ten steps of a small Transformer the mean alpha over seeds 1…20 lies
// between 0.50 and 1.49, and a quarter of all factors is at a bound. Identity starts as AdamW.
type Init int32

const (
	// InitXavier: weight matrices are Xavier-uniform. The factors start at random: a small Transformer's mean alpha after
	// ten steps was, over seeds 1 to 20, anything from 0.50 to 1.49, and a quarter of all factors was at a bound.
	InitXavier   Init = C.MAW_INIT_XAVIER
	InitIdentity Init = C.MAW_INIT_IDENTITY // alpha = beta = 1 (AdamW) until the first meta-update
)

func (i Init) String() string { return nameOf(int(i), "Xavier", "identity") }

// Objective that the attention module is trained for.
type Objective int32

const (
	ObjectiveCombined     Objective = C.MAW_OBJECTIVE_COMBINED      // the three terms together
	ObjectiveGradient     Objective = C.MAW_OBJECTIVE_GRADIENT      // gradient alignment alone (eq. 10)
	ObjectiveLossDecrease Objective = C.MAW_OBJECTIVE_LOSS_DECREASE // loss decrease on the validation batch alone (eq. 11)
	ObjectiveGenGap       Objective = C.MAW_OBJECTIVE_GEN_GAP       // generalization gap alone (eq. 12); only the regularization trains the attention module
	ObjectiveHorizon      Objective = C.MAW_OBJECTIVE_HORIZON       // the gradient against the displacement of the last Options.Horizon steps, without meta-updates; not in the paper
)

func (o Objective) String() string {
	return nameOf(int(o), "combined", "gradient", "loss decrease", "generalization gap", "horizon")
}

// MetaOptimizer selects how the attention module learns.
type MetaOptimizer int32

const (
	MetaSGD   MetaOptimizer = C.MAW_META_SGD   // plain steps along the gradient, as in the paper
	MetaAdamW MetaOptimizer = C.MAW_META_ADAMW // AdamW with betas 0.9 and 0.99; not in the paper
)

func (m MetaOptimizer) String() string { return nameOf(int(m), "SGD", "AdamW") }

// Weighting of the three terms of ObjectiveCombined.
type Weighting int32

const (
	WeightingHUW   Weighting = C.MAW_WEIGHTING_HUW   // homoscedastic uncertainty, with priorities (eq. 13)
	WeightingFixed Weighting = C.MAW_WEIGHTING_FIXED // Options.FixedWeights
	WeightingSum   Weighting = C.MAW_WEIGHTING_SUM   // the plain sum
)

func (w Weighting) String() string { return nameOf(int(w), "HUW", "fixed", "sum") }

// TermKind selects HUW's weight of a term with log-variance s.
type TermKind int32

const (
	KindRegression     TermKind = C.MAW_KIND_REGRESSION     // exp(−s)/2
	KindClassification TermKind = C.MAW_KIND_CLASSIFICATION // exp(−s)
)

func (t TermKind) String() string { return nameOf(int(t), "regression", "classification") }

// Difference selects how the Hessian-vector product of the gradient alignment is computed.
type Difference int32

const (
	DifferenceCentral    Difference = C.MAW_DIFFERENCE_CENTRAL     // two more gradients
	DifferenceForward    Difference = C.MAW_DIFFERENCE_FORWARD     // one more gradient
	DifferenceFirstOrder Difference = C.MAW_DIFFERENCE_FIRST_ORDER // taken as 0: no more gradients
)

func (d Difference) String() string { return nameOf(int(d), "central", "forward", "first order") }

// Nonfinite selects what a step with an infinity or a NaN does.
type Nonfinite int32

const (
	NonfiniteSkip  Nonfinite = C.MAW_NONFINITE_SKIP  // is skipped: only the count of skipped steps changes; the report gives the reason
	NonfiniteError Nonfinite = C.MAW_NONFINITE_ERROR // fails with ErrNotFinite and changes nothing
	// NonfinitePropagate: no check, as in PyTorch's AdamW; only with DisableModulation.
	NonfinitePropagate Nonfinite = C.MAW_NONFINITE_PROPAGATE
)

func (n Nonfinite) String() string { return nameOf(int(n), "skip", "error", "propagate") }

// Precision selects how 16-bit parameters are updated.
type Precision int32

const (
	PrecisionNearest    Precision = C.MAW_PRECISION_NEAREST    // each new value is rounded to nearest; small updates are lost
	PrecisionMaster     Precision = C.MAW_PRECISION_MASTER     // float32 masters in the library
	PrecisionRemainder  Precision = C.MAW_PRECISION_REMAINDER  // the same in 2 + 2 bytes, beside bfloat16
	PrecisionStochastic Precision = C.MAW_PRECISION_STOCHASTIC // stochastic rounding of each new value
)

func (p Precision) String() string {
	return nameOf(int(p), "nearest", "master", "remainder", "stochastic")
}

// A ParamGroup has the hyper-parameters that tensors share. As in [Options], the zero value is the defaults, and fields
// in which 0 differs from the default are pointers: ParamGroup{LR: new(1e-3), WeightDecay: new(0.0)}.
type ParamGroup struct {
	// LR is the learning rate, ≥ 0. Default 5e-4, the paper's.
	LR *float64
	// Beta1 is the decay rate of the first moment, 0 ≤ beta1 < 1. Default 0.9.
	Beta1 *float64
	// Beta2 is the decay rate of the second moment, 0 ≤ beta2 < 1. Default 0.999.
	Beta2 *float64
	// Eps is added to the square root of the second moment; > 0 in the precision of the computation. Default 1e-8.
	Eps float64
	// WeightDecay is decoupled, ≥ 0. Default 1e-2.
	WeightDecay *float64
	// Precision of 16-bit parameters that do not have one of their own; without meaning for others, which may be in the same
	// group.
	Precision Precision
	// MomentDType of both moments: 0, required for Float64 tensors, = Float64 for Float64 tensors, else Float32; or
	// BFloat16, with stochastic rounding.
	MomentDType DType
}

// String lists the fields that differ from the zero value: "{TotalSteps: 1000, AlphaRange: 0.5, Semantics: reference}".
func (o Options) String() string { return given(o) }

// String lists the fields that differ from the zero value.
func (g ParamGroup) String() string { return given(g) }

// given lists the fields of a struct that are not zero, and what pointers point to.
func given(options any) string {
	var fields []string
	v := reflect.ValueOf(options)
	for i := range v.NumField() {
		if value := v.Field(i); !value.IsZero() {
			fields = append(fields, fmt.Sprintf("%s: %v", v.Type().Field(i).Name, reflect.Indirect(value)))
		}
	}
	return "{" + strings.Join(fields, ", ") + "}"
}

// toC starts from the library's defaults, so that they are defined in one place.
func (o *Options) toC() (c C.maw_options, err error) {
	C.maw_options_init(&c, C.sizeof_maw_options)
	c.seed = C.uint64_t(o.Seed)
	give(&c.alpha_range, o.AlphaRange)
	give(&c.beta_range, o.BetaRange)
	give(&c.meta_lr, o.MetaLR)
	give(&c.meta_weight_decay, o.MetaWeightDecay)
	give(&c.feature_gating_sparsity, o.FeatureGatingSparsity)
	give(&c.log_var_limit, o.LogVarLimit)
	for i := range 3 {
		if o.Priorities != nil {
			c.priorities[i] = C.double(o.Priorities[i])
		}
		if o.FixedWeights != nil {
			c.fixed_weights[i] = C.double(o.FixedWeights[i])
		}
		c.huw_kinds[i] = C.int32_t(o.HUWKinds[i])
	}
	c.huw_initial_log_var = C.double(o.HUWInitialLogVar)
	c.difference_scale = C.double(o.DifferenceScale)
	c.max_grad_norm = C.double(o.MaxGradNorm)

	c.semantics = C.int32_t(o.Semantics)
	c.feature_version = C.int32_t(o.FeatureVersion)
	c.grouping = C.int32_t(o.Grouping)
	c.init = C.int32_t(o.Init)
	c.objective = C.int32_t(o.Objective)
	c.weighting = C.int32_t(o.Weighting)
	c.difference = C.int32_t(o.Difference)
	c.nonfinite = C.int32_t(o.Nonfinite)
	c.device = C.int32_t(o.Device)
	if c.device_index, err = deviceNumber(o.DeviceIndex); err != nil {
		return c, err
	}

	c.modulation = bit(!o.DisableModulation)
	c.use_v_norms = bit(!o.DisableVNorms)
	c.include_time_step = bit(!o.DisableTimeStep)
	c.use_feature_gating = bit(o.UseFeatureGating)
	c.verify_params = bit(o.VerifyParams)
	c.alpha_log_range = C.double(o.AlphaLogRange)
	c.beta_log_range = C.double(o.BetaLogRange)
	c.meta_optimizer = C.int32_t(o.MetaOptimizer)
	c.average_dtype = C.int32_t(o.AverageDType)

	counts := counts{}
	counts.give64(&c.total_steps, "TotalSteps", o.TotalSteps)
	counts.give64(&c.meta_interval, "MetaInterval", o.MetaInterval)
	counts.give64(&c.meta_warmup, "MetaWarmup", o.MetaWarmup)
	counts.give32(&c.group_embed_dim, "GroupEmbedDim", o.GroupEmbedDim)
	counts.give32(&c.feature_dim, "FeatureDim", o.FeatureDim)
	counts.give32(&c.attn_heads, "AttnHeads", o.AttnHeads)
	counts.give32(&c.attn_layers, "AttnLayers", o.AttnLayers)
	counts.give32(&c.attn_hidden_dim, "AttnHiddenDim", o.AttnHiddenDim)
	counts.give32(&c.threads, "Threads", o.Threads)
	counts.give64(&c.horizon, "Horizon", o.Horizon)
	return c, counts.err
}

func (g *ParamGroup) toC() (c C.maw_param_group) {
	C.maw_param_group_init(&c, C.sizeof_maw_param_group)
	give(&c.lr, g.LR)
	give(&c.beta1, g.Beta1)
	give(&c.beta2, g.Beta2)
	give(&c.weight_decay, g.WeightDecay)
	if g.Eps != 0 {
		c.eps = C.double(g.Eps)
	}
	c.precision = C.int32_t(g.Precision)
	c.moment_dtype = C.int32_t(g.MomentDType)
	return c
}

func give(field *C.double, value *float64) {
	if value != nil {
		*field = C.double(*value)
	}
}

func bit(on bool) C.uint32_t {
	if on {
		return 1
	}
	return 0
}

// counts writes ints into unsigned fields, leaves the default where they are 0, and records the first that does not
// fit.
type counts struct{ err error }

func (c *counts) fits(name string, value, most int) bool {
	if c.err == nil && (value < 0 || value > most) {
		c.err = invalid("%s = %d: expected 0 to %d", name, value, most)
	}
	return c.err == nil && value != 0
}

func (c *counts) give64(field *C.uint64_t, name string, value int) {
	if c.fits(name, value, math.MaxInt) {
		*field = C.uint64_t(value)
	}
}

func (c *counts) give32(field *C.uint32_t, name string, value int) {
	if c.fits(name, value, math.MaxUint32) {
		*field = C.uint32_t(value)
	}
}
