package metaadamw_test

import (
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"libmetaadamw.example/metaadamw"
)

// Fits y = a·x + b to points of y = 3x + 1, with a hand-written model.
func Example() {
	a, b := []float32{0}, []float32{0}
	gradA, gradB := []float32{0}, []float32{0}
	// The loss on the points x = from, from + 4, …, and the gradient.
	evaluate := func(from int) float64 {
		loss := float32(0)
		gradA[0], gradB[0] = 0, 0
		for i := from; i < 40; i += 4 {
			x := float32(i)/20 - 1
			off := a[0]*x + b[0] - (3*x + 1)
			loss += off * off / 10
			gradA[0] += off * x / 5
			gradB[0] += off / 5
		}
		return float64(loss)
	}

	optimizer, err := metaadamw.New(metaadamw.Options{TotalSteps: 400, MetaInterval: 50})
	if err != nil {
		log.Fatal(err)
	}
	defer optimizer.Close()
	_, err = optimizer.AddParamGroup(metaadamw.ParamGroup{LR: new(5e-2), WeightDecay: new(0.0)},
		metaadamw.Tensor{Name: "linear.weight", Shape: []int{1, 1}},
		metaadamw.Tensor{Name: "linear.bias", Shape: []int{1}})
	if err != nil {
		log.Fatal(err)
	}

	params, grads := metaadamw.Float32s{a, b}, metaadamw.Float32s{gradA, gradB} // used in place, not stored
	for step := range 400 {
		evaluate(step % 3)
		if _, err := optimizer.Step(params, grads); err != nil {
			log.Fatal(err)
		}
		if optimizer.MetaDue() {
			_, err := optimizer.MetaUpdate(params, grads, func(r metaadamw.Request) (float64, error) {
				return evaluate(int(r.Batch)), nil // 1, 2: training batches; 3: held out from the training
			})
			if err != nil {
				log.Fatal(err)
			}
		}
	}
	fmt.Printf("y = %.2f x + %.2f\n", a[0], b[0])
	// Output: y = 3.00 x + 1.00
}

// optimizerOfTwo is the optimizer of the examples below, with its parameters and gradients.
func optimizerOfTwo() (*metaadamw.Optimizer, metaadamw.Float32s, metaadamw.Float32s) {
	optimizer, err := metaadamw.New(metaadamw.Options{AttnLayers: 1, Init: metaadamw.InitIdentity})
	if err != nil {
		log.Fatal(err)
	}
	_, err = optimizer.AddParamGroup(metaadamw.ParamGroup{},
		metaadamw.Tensor{Name: "layers.0.weight", Shape: []int{2, 2}},
		metaadamw.Tensor{Name: "layers.0.bias", Shape: []int{2}})
	if err != nil {
		log.Fatal(err)
	}
	return optimizer, metaadamw.Float32s{{1, 2, 3, 4}, {5, 6}}, metaadamw.Float32s{{1, 1, 1, 1}, {1, 1}}
}

// The attention module learns from steps alone, and the averages of the parameters are evaluated.
func ExampleHorizonOptions() {
	optimizer, err := metaadamw.New(metaadamw.HorizonOptions())
	if err != nil {
		log.Fatal(err)
	}
	defer optimizer.Close()
	_, err = optimizer.AddParamGroup(metaadamw.ParamGroup{LR: new(0.1)}, metaadamw.Tensor{Name: "x", Shape: []int{1}})
	if err != nil {
		log.Fatal(err)
	}
	x, gradient := metaadamw.Float32s{{0}}, metaadamw.Float32s{{0}}
	for range 200 {
		gradient[0][0] = 2 * (x[0][0] - 3) // of (x − 3)²
		if _, err := optimizer.Step(x, gradient); err != nil {
			log.Fatal(err)
		}
	}
	before := x[0][0]
	err = optimizer.WithAverages(x, func() error {
		fmt.Println("the average is behind:", x[0][0] < before)
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("the parameter is as it was:", x[0][0] == before)
	// Output:
	// the average is behind: true
	// the parameter is as it was: true
}

// A field that is left out means its default. Fields in which 0 differs from the default are pointers.
func ExampleParamGroup() {
	optimizer, err := metaadamw.New(metaadamw.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer optimizer.Close()
	weights, err := optimizer.AddParamGroup(metaadamw.ParamGroup{LR: new(1e-3)}, metaadamw.Tensor{Name: "weight"})
	if err != nil {
		log.Fatal(err)
	}
	biases, err := optimizer.AddParamGroup(metaadamw.ParamGroup{WeightDecay: new(0.0)}, metaadamw.Tensor{Name: "bias"})
	if err != nil {
		log.Fatal(err)
	}
	for _, group := range []int{weights, biases} {
		lr, err := optimizer.LR(group)
		if err != nil {
			log.Fatal(err)
		}
		decay, err := optimizer.WeightDecay(group)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println("group", group, "lr", lr, "weight decay", decay)
	}
	// Output:
	// group 0 lr 0.001 weight decay 0.01
	// group 1 lr 0.0005 weight decay 0
}

// Errors are values: errors.Is compares the status, errors.As gets the text.
func ExampleError() {
	optimizer, params, grads := optimizerOfTwo()
	grads[1] = make([]float32, 3)
	_, err := optimizer.Step(params, grads)
	fmt.Println(errors.Is(err, metaadamw.ErrInvalidArgument))
	if e, ok := errors.AsType[*metaadamw.Error](err); ok {
		fmt.Println(e.Message)
	}
	optimizer.Close()
	_, err = optimizer.Step(params, grads)
	fmt.Println(errors.Is(err, metaadamw.ErrClosed))
	// Output:
	// true
	// grads[1] ('layers.0.bias') has 3 elements, expected 2
	// true
}

// Tensors of both types in one optimizer.
func ExampleMixed() {
	optimizer, err := metaadamw.New(metaadamw.Options{DisableModulation: true})
	if err != nil {
		log.Fatal(err)
	}
	defer optimizer.Close()
	_, err = optimizer.AddParamGroup(metaadamw.ParamGroup{LR: new(0.5), WeightDecay: new(0.0)},
		metaadamw.Tensor{Name: "body", Shape: []int{2}},
		metaadamw.Tensor{Name: "head", Shape: []int{1}, DType: metaadamw.Float64},
		metaadamw.Tensor{Name: "frozen", Shape: []int{1}})
	if err != nil {
		log.Fatal(err)
	}
	body, head, frozen := []float32{1, 1}, []float64{1}, []float32{1}
	_, err = optimizer.Step(
		metaadamw.Mixed{metaadamw.F32(body), metaadamw.F64(head), metaadamw.F32(frozen)},
		metaadamw.Mixed{metaadamw.F32{2, -2}, metaadamw.F64{3}, nil}) // nil: no gradient
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%.4f %.4f %.4f\n", body, head, frozen)
	// Output: [0.5000 1.5000] [0.5000] [1.0000]
}

// An error of the closure aborts: the parameters are as before, and the error comes back.
func ExampleOptimizer_MetaUpdate() {
	optimizer, params, grads := optimizerOfTwo()
	defer optimizer.Close()
	errNoData := errors.New("no data")
	evaluations := 0
	_, err := optimizer.MetaUpdate(params, grads, func(r metaadamw.Request) (float64, error) {
		if evaluations++; evaluations == 4 {
			return 0, errNoData
		}
		return 1.5, nil
	})
	fmt.Println(err)
	fmt.Println(errors.Is(err, errNoData), params)
	result, err := optimizer.MetaResult()
	fmt.Println(result.Outcome, err)
	// Output:
	// metaadamw: meta-update aborted: no data
	// true [[1 2 3 4] [5 6]]
	// aborted <nil>
}

// The meta-update without a closure.
func ExampleOptimizer_MetaBegin() {
	optimizer, params, grads := optimizerOfTwo()
	defer optimizer.Close()
	request, err := optimizer.MetaBegin(params)
	for err == nil && !request.Done {
		loss := 0.0
		for t, param := range params {
			for i, x := range param {
				loss += float64(x) * float64(x) / 2
				grads[t][i] = x
			}
		}
		fmt.Println(request.Batch, request.WantsGradient)
		request, err = optimizer.MetaTell(metaadamw.Answer{RequestID: request.ID, Loss: loss}, params, grads)
	}
	fmt.Println(params, err)
	// Output:
	// train 1 true
	// validation false
	// train 2 true
	// validation true
	// train 2 true
	// train 2 true
	// [[1 2 3 4] [5 6]] <nil>
}

// The factors of each modulation group.
func ExampleOptimizer_Factors() {
	optimizer, params, grads := optimizerOfTwo()
	defer optimizer.Close()
	if _, err := optimizer.Step(params, grads); err != nil {
		log.Fatal(err)
	}
	factors, err := optimizer.Factors()
	if err != nil {
		log.Fatal(err)
	}
	for _, f := range factors {
		fmt.Println(f.Group, f.Alpha, f.Beta)
	}
	// Output:
	// other.middle.weight 1 1
	// other.middle.bias 1 1
}

// A saved run can be continued, in this language or another. Parameters are not saved; that is up to the host.
func ExampleOptimizer_Save() {
	folder, err := os.MkdirTemp("", "metaadamw")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(folder)
	path := filepath.Join(folder, "run.safetensors")

	optimizer, params, grads := optimizerOfTwo()
	defer optimizer.Close()
	if _, err := optimizer.Step(params, grads); err != nil {
		log.Fatal(err)
	}
	if err := optimizer.Save(path); err != nil {
		log.Fatal(err)
	}

	resumed, _, _ := optimizerOfTwo()
	defer resumed.Close()
	if err := resumed.Load(path); err != nil {
		log.Fatal(err)
	}
	fmt.Println(resumed.StepCount())
	// Output: 1 <nil>
}

// A model gets another head: what stays keeps its moments.
func ExampleOptimizer_AddTensors() {
	optimizer, params, grads := optimizerOfTwo()
	defer optimizer.Close()
	if _, err := optimizer.Step(params, grads); err != nil {
		log.Fatal(err)
	}
	if err := optimizer.RemoveTensor(1); err != nil {
		log.Fatal(err)
	}
	if err := optimizer.AddTensors(0, metaadamw.Tensor{Name: "head.weight", Shape: []int{3}}); err != nil {
		log.Fatal(err)
	}
	fmt.Println(optimizer.TensorNames())
	params, grads = metaadamw.Float32s{params[0], {1, 2, 3}}, metaadamw.Float32s{grads[0], {1, 1, 1}}
	report, err := optimizer.Step(params, grads)
	fmt.Println("step", report.Step, err)
	// Output:
	// [layers.0.weight head.weight] <nil>
	// step 2 <nil>
}

// Messages of the library.
func ExampleOptimizer_SetLog() {
	optimizer, params, grads := optimizerOfTwo()
	defer optimizer.Close()
	err := optimizer.SetLog(func(level metaadamw.LogLevel, message string) { fmt.Println(level, message) })
	if err != nil {
		log.Fatal(err)
	}
	zero := float32(0)
	grads[1][0] = 1 / zero
	report, err := optimizer.Step(params, grads)
	fmt.Println(report.Skipped, report.SkipReason, report.NonfiniteTensor, err)
	// Output:
	// warning step skipped: the gradient of tensor 'layers.0.bias' is not finite
	// true gradient 1 <nil>
}
