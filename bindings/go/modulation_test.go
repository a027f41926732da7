package metaadamw

import (
	"strings"
	"testing"
)

func TestFactorsGroupsAndFeatures(t *testing.T) {
	o := newToyOptimizer(t, small())
	_, err := o.Groups()
	wants(t, err, ErrInvalidState)
	must(t, o.Prepare())
	_, err = o.Factors()
	wants(t, err, ErrInvalidState)
	newToy().step(t, o)

	groups, err := o.Groups()
	must(t, err)
	factors, err := o.Factors()
	must(t, err)
	features, err := o.Features()
	must(t, err)
	if len(groups) < 2 || len(factors) != len(groups) || len(features) != len(groups) || len(features[0]) < 4 {
		t.Fatalf("%q\n%+v\n%v", groups, factors, features)
	}
	for g, f := range factors {
		if f.Group != groups[g] || f.Alpha < 0.5 || f.Alpha > 1.5 || f.Beta < 0.5 || f.Beta > 1.5 || f.Lambda1 == 0 {
			t.Errorf("%+v", f)
		}
	}
	for tensor := range toyTensors {
		group, err := o.TensorGroup(tensor)
		must(t, err)
		if bias := strings.Contains(toyTensors[tensor].Name, "bias"); bias != strings.HasSuffix(groups[group], ".bias") {
			t.Errorf("%s is in %s", toyTensors[tensor].Name, groups[group])
		}
	}
	_, err = o.TensorGroup(-1)
	wants(t, err, ErrNotFound)
}

func TestCustomGroups(t *testing.T) {
	options := small()
	options.Grouping = GroupingCustom
	o := newOptimizer(t, options, Tensor{Name: "a", ModulationGroup: "first"}, Tensor{Name: "b", ModulationGroup: "second"},
		Tensor{Name: "c", ModulationGroup: "first"})
	must(t, o.Prepare())
	groups, err := o.Groups()
	must(t, err)
	same(t, groups, []string{"first", "second"})
}

func TestWithoutModulationThereIsNoModule(t *testing.T) {
	options := small()
	options.DisableModulation = true
	o := newToyOptimizer(t, options)
	newToy().step(t, o)
	tensors, err := o.AttentionTensors()
	must(t, err)
	factors, err := o.Factors()
	must(t, err)
	if len(tensors) != 0 || factors[0].Alpha != 1 || o.MetaDue() {
		t.Errorf("%v %v", tensors, factors)
	}
	_, err = o.Features()
	wants(t, err, ErrInvalidState)
	_, err = o.Attention("output_proj.weight")
	wants(t, err, ErrNotFound)
}

func TestTheAttentionModuleCanBeSet(t *testing.T) {
	o, m := newToyOptimizer(t, small()), newToy()
	_, err := o.AttentionTensors()
	wants(t, err, ErrInvalidState)
	must(t, o.Prepare())
	for _, name := range []string{"output_proj.weight", "output_proj.bias"} {
		values, err := o.Attention(name)
		must(t, err)
		must(t, o.SetAttention(name, make([]float64, len(values))))
		wants(t, o.SetAttention(name, values[1:]), ErrInvalidArgument)
		wants(t, o.SetAttention(name, nil), ErrInvalidArgument)
	}
	m.step(t, o)
	factors, err := o.Factors()
	must(t, err)
	for _, f := range factors {
		if f.Alpha != 1 || f.Beta != 1 { // the projection is 0: as InitIdentity
			t.Errorf("%+v", f)
		}
	}
	wants(t, o.SetAttention("unknown", nil), ErrNotFound)
	wants(t, o.SetAttention("\x00", nil), ErrInvalidArgument)
	_, err = o.Attention("unknown")
	wants(t, err, ErrNotFound)
}
