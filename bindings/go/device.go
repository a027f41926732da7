package metaadamw

// #include <metaadamw.h>
import "C"

import (
	"math"
	"runtime"
	"unsafe"
)

// Device says where parameters, gradients and moments are.
type Device int32

const (
	CPU  Device = C.MAW_CPU
	CUDA Device = C.MAW_CUDA // memory of an NVIDIA device: DeviceArrays, or pointers of the host's own CUDA
)

func (d Device) String() string { return nameOf(int(d), "CPU", "CUDA") }

// CUDAAvailable reports whether there is a CUDA device on which an optimizer can be created.
func CUDAAvailable() bool { return C.maw_cuda_available() != 0 }

// A DeviceArray is an array in the memory of a CUDA device, for programs that do not use CUDA themselves. It is a
// [Slice]: Mixed{weight, bias}. Create it with [NewDeviceArray] and Close it; one call at a time.
type DeviceArray struct {
	native  *C.maw_device_buffer // nil once closed
	cleanup runtime.Cleanup
	dtype   DType
	length  int
}

// NewDeviceArray allocates an array of zeros on the CUDA device of this number.
func NewDeviceArray(deviceIndex int, dtype DType, length int) (*DeviceArray, error) {
	size := dtype.size()
	if size == 0 {
		return nil, invalid("dtype %d is unknown", int32(dtype))
	}
	if length < 0 || length > math.MaxInt/size {
		return nil, invalid("length = %d: expected 0 to %d", length, math.MaxInt/size)
	}
	index, err := deviceNumber(deviceIndex)
	if err != nil {
		return nil, err
	}
	a := &DeviceArray{dtype: dtype, length: length}
	if a.dtype == 0 {
		a.dtype = Float32
	}
	var failure *C.maw_error
	status := C.maw_device_buffer_create(index, C.size_t(length*size), &a.native, &failure)
	if err := toError(status, failure); err != nil {
		return nil, err
	}
	a.cleanup = runtime.AddCleanup(a, func(native *C.maw_device_buffer) { C.maw_device_buffer_free(native) }, a.native)
	return a, nil
}

// Close frees the array after waiting for the device's work that uses it; a second Close does nothing. An array that is
// not closed is freed some time after the garbage collector finds it unreachable.
func (a *DeviceArray) Close() error {
	if a.native != nil {
		a.cleanup.Stop()
		C.maw_device_buffer_free(a.native)
		a.native = nil
	}
	return nil
}

// Len is the number of elements.
func (a *DeviceArray) Len() int { return a.length }

// Pointer is the address in device memory, for the host's own kernels; nil after Close.
func (a *DeviceArray) Pointer() unsafe.Pointer {
	defer runtime.KeepAlive(a)
	return C.maw_device_buffer_pointer(a.native)
}

// Upload copies a slice of the same type and length into the array, on the default stream, and waits for the copy.
func (a *DeviceArray) Upload(from Slice) error {
	return a.copy("from", from, func(host unsafe.Pointer, bytes C.size_t, failure **C.maw_error) C.maw_status {
		return C.maw_device_buffer_upload(a.native, 0, host, bytes, failure)
	})
}

// Download copies the array into a slice of the same type and length, on the default stream, and waits for the copy.
func (a *DeviceArray) Download(into Slice) error {
	return a.copy("into", into, func(host unsafe.Pointer, bytes C.size_t, failure **C.maw_error) C.maw_status {
		return C.maw_device_buffer_download(a.native, 0, host, bytes, failure)
	})
}

func (a *DeviceArray) copy(what string, slice Slice, f func(host unsafe.Pointer, bytes C.size_t, failure **C.maw_error) C.maw_status) error {
	if a.native == nil {
		return &Error{Status: ErrInvalidState, Message: "the device array is closed"}
	}
	var host buffer
	if slice != nil {
		host = slice.buffer()
	}
	if host.dtype != a.dtype || host.length != a.length {
		return invalid("%s is %v of %d elements, expected %v of %d", what, host.dtype, host.length, a.dtype, a.length)
	}
	if _, onDevice := slice.(*DeviceArray); onDevice {
		return invalid("%s is a device array, expected a slice in the host's memory", what)
	}
	var pinner runtime.Pinner
	defer pinner.Unpin()
	pinner.Pin(host.address)
	var failure *C.maw_error
	status := f(host.address, C.size_t(a.length*a.dtype.size()), &failure)
	runtime.KeepAlive(a)
	return toError(status, failure)
}

func (a *DeviceArray) buffer() buffer {
	if a == nil {
		return buffer{}
	}
	return buffer{a.Pointer(), a.length, a.dtype}
}

func (d DType) size() int {
	switch d {
	case 0, Float32:
		return 4
	case Float64:
		return 8
	case BFloat16, Float16:
		return 2
	}
	return 0
}

func deviceNumber(index int) (C.int32_t, error) {
	if index < 0 || index > math.MaxInt32 {
		return 0, invalid("device index = %d: expected 0 to %d", index, math.MaxInt32)
	}
	return C.int32_t(index), nil
}

// SetStream sets the CUDA stream (CUstream, cudaStream_t) on which all later calls enqueue their work; nil, the
// default, is the legacy default stream. The host must not destroy it while it is set.
func (o *Optimizer) SetStream(stream unsafe.Pointer) error {
	return o.call(func(handle *C.maw_optimizer, failure **C.maw_error) C.maw_status {
		return C.maw_set_stream(handle, stream, failure)
	})
}

// Launch is [Optimizer.StepWith] without a report: on CUDA the step is only enqueued. [Optimizer.LastReport] returns
// its report later.
func (o *Optimizer) Launch(params, grads Slices, options StepOptions) error {
	return o.step(params, grads, options, nil)
}

// LastReport returns the report of the newest step that the device has decided so far; with wait, of the last one
// launched, for which it waits.
func (o *Optimizer) LastReport(wait bool) (Report, error) {
	var report C.maw_step_report
	C.maw_step_report_init(&report, C.sizeof_maw_step_report)
	var flags C.uint32_t
	if wait {
		flags = C.MAW_FETCH_WAIT
	}
	err := o.call(func(handle *C.maw_optimizer, failure **C.maw_error) C.maw_status {
		return C.maw_step_report_fetch(handle, flags, &report, failure)
	})
	if err != nil {
		return Report{}, err
	}
	return reportOf(&report), nil
}

// deviceFloat is the address of a float32 in device memory, nil for none.
func deviceFloat(what string, slice Slice) (*C.float, error) {
	if slice == nil {
		return nil, nil
	}
	b := slice.buffer()
	if b.dtype != Float32 || b.length != 1 || b.address == nil {
		return nil, invalid("%s is %v of %d elements, expected float32 of 1", what, b.dtype, b.length)
	}
	return (*C.float)(b.address), nil
}
