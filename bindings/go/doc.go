// Package metaadamw is the MetaAdamW optimizer (Zhao & Liu, arXiv:2605.04055) for programs that train in Go: a thin
// layer over libmetaadamw, a shared library with a C ABI.
//
// MetaAdamW is AdamW with learned factors on the learning rate (alpha) and the weight decay (beta) of each group of
// parameters. A small attention module computes them from statistics of the gradients, moments and parameters of all
// groups. A meta-update every MetaInterval steps trains the module. The library works on slices of parameters and
// gradients, and on losses; it does not need the model. The program that uses the library is called the host.
//
// # Example
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
// [Optimizer.MetaUpdate] makes a trial step, calls the closure for losses and gradients there, restores the parameters
// bit for bit, and trains the attention module. Hosts that cannot answer in a closure use
// [Optimizer.MetaBegin], [Optimizer.MetaTell] and [Optimizer.MetaAbort].
//
// # Learning from steps
//
// With [HorizonOptions] the attention module learns from the steps themselves, and a program calls nothing but Step:
//
//	optimizer, err := metaadamw.New(metaadamw.HorizonOptions())
//	…
//	report, err := optimizer.Step(params, grads)
//	err = optimizer.WithAverages(params, func() error { return validate() })
//
// The library then keeps an average of each parameter over the last Options.Horizon steps. [Optimizer.WithAverages] puts them
// into the host's slices for an evaluation, which often is the better model to evaluate. This is not in the paper.
//
// # Defaults and zeros
//
// The zero [Options] and the zero [ParamGroup] are the library's defaults, and a field left out means its default.
// Where 0 is a value different from the default (a learning rate, a weight decay, a range), the field is a pointer: nil
// is the default, and new(0.0) is 0. new with a value is Go 1.26; write a float constant, new(1.0), since new(1) is a
// *int. An option that is on by default is named by its opposite, as in DisableModulation.
//
// # Slices
//
// Parameters and gradients are passed to each call: [Float32s], [Float64s], [BFloat16s] and [Float16s] (as bits), or
// [Mixed] for tensors of several types, one slice for each tensor in the order of registration. They are pinned while
// the call runs, used in place, and not stored; the next call may pass others. Any memory may be used: Go's, mapped or
// C's. Lengths and types are checked against the registered tensors. A nil slice among gradients means no gradient in
// this call. The order of elements (row-major or not) does not matter: the library treats a tensor as a list of
// elements.
//
// # A model that grows
//
// [Optimizer.AddParamGroup], [Optimizer.AddTensors] and [Optimizer.RemoveTensor] also work between two steps. What stays
// keeps its moments, and the attention module its values. Load with [Partial] takes what a file and the optimizer both
// have; [Optimizer.LoadReport] names the rest.
//
// # Several processes
//
// Data parallel training needs nothing of this: average gradients and losses over the processes and call as with one. To have
// the moments once and not in every process (ZeRO-1), or the parameters too (FSDP), each process registers its part of every
// tensor and gives the library a sum over the processes:
//
//	tensor.Shard = &metaadamw.Shard{Offset: from, Numel: to - from} // cut at multiples of ShardAlignment
//	err = optimizer.SetReduction(func(values []float64) error { return sumOverProcesses(values) }) // such as MPI_Allreduce
//	err = optimizer.Prepare()                                       // all processes together
//
// Slices are then those of the parts. Any number of processes makes the same bits. See [Optimizer.SetReduction]; on CUDA the sum
// is of device memory, [Optimizer.SetDeviceReduction].
//
// # Errors
//
// An error is an [*Error], with a [Status] and a message that names the argument or tensor; errors.Is compares with
// [ErrBusy] and the other statuses, errors.As gets the [*Error]. On failure nothing has changed. After Close the error
// is [ErrClosed]. After [ErrIO] errors.Is finds the system's error, such as os.ErrNotExist; after [ErrAborted], the error
// that the closure of a MetaUpdate returned; after [ErrReduction], that of the reduction.
//
// # Goroutines
//
// Any goroutine may call an optimizer, one at a time: a second call meanwhile returns [ErrBusy] at once and does
// nothing; only [Optimizer.MetaDue], which returns no error, waits. Different optimizers are independent. While a
// MetaUpdate's closure runs, getters work, but the optimizer cannot be stepped, changed, saved or closed. A step may use
// several threads of the library (Options.Threads); any number gives the same bits.
//
// # Memory
//
// [Optimizer.Close] frees the memory at once. An optimizer that is not closed is freed some time after the garbage
// collector finds it unreachable; since the collector does not know the size of the moments, that may be late.
//
// # Where the library is found
//
// By default pkg-config finds it under the name metaadamw. With the build tag metaadamw_dir its folder comes from the
// environment:
//
//	CGO_LDFLAGS="-L…/lib -Wl,-rpath,…/lib" go build -tags metaadamw_dir
//
// The header is in the module. The README has static linking.
//
// # CUDA
//
// With Options{Device: CUDA} parameters and gradients are in device memory: a [DeviceArray], or a slice made by
// unsafe.Slice from a device pointer of the host's, whose elements Go code must not access. [Optimizer.Step] waits for
// its report; [Optimizer.Launch] does not, and can be captured into a CUDA graph.
//
// The C header metaadamw.h documents the library in detail; names here follow it.
package metaadamw
