// Crosslanguage is the Go program of tests/cross_language.rs: one run that goes on in another language.
//
//	crosslanguage train STEPS LEARNING LOAD SAVE PARAMS_IN PARAMS_OUT     ("-" for none)
//
// LEARNING: the step that a meta-update follows, or "horizon".
package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"strconv"

	"libmetaadamw.example/metaadamw"
)

// model is two float32 tensors and a float64 one, or their gradients.
type model struct {
	Weight [24]float32
	Bias   [6]float32
	Head   [6]float64
}

func (m *model) slices() metaadamw.Mixed {
	return metaadamw.Mixed{metaadamw.F32(m.Weight[:]), metaadamw.F32(m.Bias[:]), metaadamw.F64(m.Head[:])}
}

// forEach replaces every element, in order, by the result of replace for its flat index and value.
func (m *model) forEach(replace func(k int, x float64) float64) {
	k := 0
	for _, narrow := range [][]float32{m.Weight[:], m.Bias[:]} {
		for i, x := range narrow {
			narrow[i] = float32(replace(k, float64(x)))
			k++
		}
	}
	for i, x := range m.Head {
		m.Head[i] = replace(k, x)
		k++
	}
}

// loss is ½ Σ c (x − y)² on a batch; the gradient is c (x − y). The conversions forbid fused operations, which some
// processors would use.
func (m *model) loss(batch int, gradient *model) float64 {
	loss := 0.0
	*gradient = *m
	gradient.forEach(func(k int, x float64) float64 {
		c := 1 + float64((k*13+batch*7)%17)/17
		y := float64((k*29+batch*11)%89)/89 - 0.5
		distance := x - y
		loss += float64(0.5 * c * distance * distance)
		return c * distance
	})
	return loss
}

func train(steps int, learning, load, save, paramsIn, paramsOut string) error {
	options, metaAfter := metaadamw.HorizonOptions(), 0
	if learning == "horizon" {
		options.MetaInterval, options.MetaWarmup, options.Horizon = 3, 2, 4
	} else {
		var err error
		if metaAfter, err = strconv.Atoi(learning); err != nil {
			return err
		}
		options = metaadamw.Options{MetaInterval: 7, AttnLayers: 2}
	}
	options.Seed, options.TotalSteps, options.AttnHiddenDim, options.Threads = 7, 14, 8, 1
	optimizer, err := metaadamw.New(options)
	if err != nil {
		return err
	}
	defer optimizer.Close()
	_, err = optimizer.AddParamGroup(metaadamw.ParamGroup{LR: new(1e-2), WeightDecay: new(1e-1)},
		metaadamw.Tensor{Name: "layers.0.weight", Shape: []int{6, 4}},
		metaadamw.Tensor{Name: "layers.0.bias", Shape: []int{6}},
		metaadamw.Tensor{Name: "head.weight", Shape: []int{1, 6}, DType: metaadamw.Float64})
	if err != nil {
		return err
	}

	var params, grads model
	params.forEach(func(k int, _ float64) float64 { return float64((k*37)%101)/101 - 0.5 })
	if load != "-" {
		if err := optimizer.Load(load); err != nil {
			return err
		}
		saved, err := os.ReadFile(paramsIn)
		if err != nil {
			return err
		}
		if _, err := binary.Decode(saved, binary.LittleEndian, &params); err != nil {
			return err
		}
	}

	for i := 1; i <= steps; i++ {
		t, err := optimizer.StepCount()
		if err != nil {
			return err
		}
		params.loss(10+t, &grads)
		if _, err := optimizer.Step(params.slices(), grads.slices()); err != nil {
			return err
		}
		if i == metaAfter {
			_, err := optimizer.MetaUpdate(params.slices(), grads.slices(), func(r metaadamw.Request) (float64, error) {
				return params.loss(int(r.Batch), &grads), nil
			})
			if err != nil {
				return err
			}
		}
	}

	if save != "-" {
		if err := optimizer.Save(save); err != nil {
			return err
		}
	}
	var out bytes.Buffer
	if err := binary.Write(&out, binary.LittleEndian, &params); err != nil {
		return err
	}
	return os.WriteFile(paramsOut, out.Bytes(), 0o666)
}

func run(args []string) error {
	if len(args) != 7 || args[0] != "train" {
		return fmt.Errorf("usage: crosslanguage train STEPS LEARNING LOAD SAVE PARAMS_IN PARAMS_OUT")
	}
	steps, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	return train(steps, args[2], args[3], args[4], args[5], args[6])
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
