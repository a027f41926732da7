// Package metaadamw is the MetaAdamW optimizer (Zhao & Liu, arXiv:2605.04055) for programs that train in Go: a thin layer
// over libmetaadamw, a shared library with a C ABI.
//
// MetaAdamW is AdamW whose learning rate and weight decay are modulated for each group of parameters: a small attention
// module reads statistics of the gradients, moments and parameters of all groups and answers with two factors for each,
// alpha (learning rate) and beta (weight decay), around 1. The module itself is trained while the model is, by a
// meta-update now and then. The library sees slices of parameters and gradients, and losses, never the model.
//
// # The life of an optimizer
//
//	optimizer, err := metaadamw.New(metaadamw.Options{TotalSteps: 10000})
//	defer optimizer.Close()
//	_, err = optimizer.AddParamGroup(metaadamw.ParamGroup{LR: new(5e-4)},
//		metaadamw.Tensor{Name: "layers.0.weight", Shape: []int{64, 96}},
//		metaadamw.Tensor{Name: "layers.0.bias", Shape: []int{64}})
//
//	params := metaadamw.Float32s{weight, bias} // [][]float32
//	grads := metaadamw.Float32s{weightGrad, biasGrad}
//	for range 10000 {
//		backward() // yours
//		report, err := optimizer.Step(params, grads)
//		if optimizer.MetaDue() {
//			result, err := optimizer.MetaUpdate(params, grads, func(r metaadamw.Request) (float64, error) {
//				return evaluate(r.Batch, r.WantsGradient), nil // the loss, and the gradients into grads
//			})
//		}
//	}
//	err = optimizer.Save("run.safetensors")
//
// [Optimizer.MetaUpdate] moves the parameters on trial, asks the closure for losses and gradients there, puts the
// parameters back bit for bit, and trains the attention module. Hosts that cannot answer in a closure use
// [Optimizer.MetaBegin], [Optimizer.MetaTell] and [Optimizer.MetaAbort].
//
// # Defaults and zeros
//
// The zero [Options] and the zero [ParamGroup] are the library's defaults, and a field left out means its default. Where 0
// is a value of its own and not the default (a learning rate, a weight decay, a range), the field is a pointer: nil is the
// default, and new(0.0) is 0. A plain 0 does not compile there, so none is ever misread. new with a value is Go 1.26; write
// a float constant, new(1.0), since new(1) is a *int. A switch that is on by default is named by its opposite, as in
// DisableModulation.
//
// # Slices
//
// Parameters and gradients are given to each call: [Float32s], [Float64s], [BFloat16s] and [Float16s] (as bits), or
// [Mixed] for tensors of several types, one slice for each tensor in the order of registration. They are pinned while the
// call runs, used in place, and not kept; the next call may bring others. Any memory will do, Go's, mapped or C's. Lengths
// and types are checked against the registered tensors first. A nil slice among gradients means: no gradient this time.
// Row-major or not is the host's affair: the library treats a tensor as a list of elements.
//
// # Errors
//
// An error is an [*Error], which carries a [Status] and a text that names the argument or tensor; errors.Is compares with
// [ErrBusy] and its like, errors.As gets the whole. On failure nothing has changed. After Close it is [ErrClosed]. What the
// closure of a MetaUpdate returns comes back wrapped.
//
// # Goroutines
//
// Any goroutine may call an optimizer, one at a time: a call that meets another one gets [ErrBusy] at once and does
// nothing. Different optimizers are independent. While a MetaUpdate's closure runs, the optimizer can be read by others, but
// not be stepped, changed, saved or closed. A step may use several threads of the library's own
// (Options.Threads); any number gives the same bits.
//
// # Memory
//
// [Optimizer.Close] frees at once. An optimizer that was dropped is freed some time after the garbage collector finds it,
// which does not see how much memory the moments take: Close is better.
//
// # Where the library is found
//
// By default pkg-config finds it under the name metaadamw. With the build tag metaadamw_dir its folders come from the
// environment:
//
//	CGO_CFLAGS="-I…/include" CGO_LDFLAGS="-L…/lib -Wl,-rpath,…/lib" go build -tags metaadamw_dir
//
// # CUDA
//
// With Options{Device: CUDA} parameters and gradients lie in device memory: [DeviceArray], or a slice that unsafe.Slice
// makes of a device pointer of the host's own CUDA, which nobody reads in Go. [Optimizer.Step] waits for its report;
// [Optimizer.Launch] does not, and can be captured in a CUDA graph.
//
// The C header metaadamw.h is the manual of what the library does; names here follow it.
package metaadamw
