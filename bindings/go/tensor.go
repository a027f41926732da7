package metaadamw

// #include <metaadamw.h>
import "C"

import (
	"math"
	"math/bits"
	"runtime"
	"strings"
	"unsafe"
)

// DType is the type of a tensor's elements, of its gradient or of its moments.
type DType int32

const (
	Float32  DType = C.MAW_FLOAT32 // the default (0)
	Float64  DType = C.MAW_FLOAT64
	BFloat16 DType = C.MAW_BFLOAT16 // the upper half of a float32
	Float16  DType = C.MAW_FLOAT16  // IEEE binary16
)

func (d DType) String() string {
	switch d {
	case 0, Float32:
		return "float32"
	case Float64:
		return "float64"
	case BFloat16:
		return "bfloat16"
	case Float16:
		return "float16"
	}
	return "unknown dtype"
}

// LayerKind is the kind of layer of a tensor. If it is not given, words in the tensor's name decide.
type LayerKind int32

const (
	LayerUnknown     LayerKind = C.MAW_LAYER_UNKNOWN     // not given: the tensor's name decides
	LayerLinear      LayerKind = C.MAW_LAYER_LINEAR      // a linear (fully connected) layer
	LayerEmbedding   LayerKind = C.MAW_LAYER_EMBEDDING   // an embedding table
	LayerAttention   LayerKind = C.MAW_LAYER_ATTENTION   // part of an attention layer
	LayerLayerNorm   LayerKind = C.MAW_LAYER_LAYERNORM   // part of a layer norm
	LayerConvolution LayerKind = C.MAW_LAYER_CONVOLUTION // part of a convolution
	LayerBatchNorm   LayerKind = C.MAW_LAYER_BATCHNORM   // part of a batch norm
	LayerRecurrent   LayerKind = C.MAW_LAYER_RECURRENT   // part of a recurrent layer, such as LSTM or GRU
)

func (k LayerKind) String() string {
	return nameOf(int(k), "unknown", "linear", "embedding", "attention", "layernorm", "convolution", "batchnorm",
		"recurrent")
}

// A Tensor describes a parameter tensor to register. Its elements are passed to each call.
type Tensor struct {
	// Name is unique in the optimizer, as in "layers.0.attn.weight": 1 to 1,024 bytes without control characters.
	Name string
	// Shape is the lengths of the dimensions; a length may be 0. No dimensions: a scalar, which has one element.
	Shape []int
	// DType of the elements; 0 = Float32.
	DType DType
	// GradDType of the gradients; 0 = DType.
	GradDType DType
	// LayerKind; 0 = what words in Name say.
	LayerKind LayerKind
	// LayerIndex is the number of the layer plus 1: 1 for the first, up to 1,000,000; 0 = the number in Name.
	LayerIndex int
	// ModulationGroup of the tensor, under GroupingCustom.
	ModulationGroup string
	// Precision of this tensor, of 16-bit elements; nil = that of its param group. new(PrecisionNearest) is nearest.
	Precision *Precision
	// Shard is what this process has of the tensor, with SetReduction or SetDeviceReduction; nil = all of it. Slices and counts of
	// elements are then those of the part; Shape is that of the whole.
	Shard *Shard
}

// ShardAlignment: a [Shard] begins and ends at a multiple of it, or at the tensor's end.
const ShardAlignment = C.MAW_SHARD_ALIGNMENT

// A Shard is a part of a tensor, the Numel elements from Offset on in the list of all its elements. Numel may be 0.
type Shard struct{ Offset, Numel int }

// registered is what a call's slices are checked against.
type registered struct {
	name      string
	length    uint64
	dtype     DType
	gradDType DType
}

// stateDType is the type of the moments as they are read and set.
func (t *registered) stateDType() DType {
	if t.dtype == Float64 {
		return Float64
	}
	return Float32
}

// Slices are the buffers of all tensors, one slice for each in the order of registration: [Float32s], [Float64s],
// [BFloat16s], [Float16s], or [Mixed] for several types. They are used in place and not stored. Parameters must not
// overlap each other or a gradient.
type Slices interface {
	count() int
	at(i int) buffer
}

// Float32s are the buffers of tensors that are all float32. A nil slice among gradients means no gradient.
type Float32s [][]float32

// Float64s are the buffers of tensors that are all float64. A nil slice among gradients means no gradient.
type Float64s [][]float64

// BFloat16s are the buffers of tensors that are all bfloat16, as bits. A nil slice among gradients means no gradient.
type BFloat16s [][]uint16

// Float16s are the buffers of tensors that are all float16, as bits. A nil slice among gradients means no gradient.
type Float16s [][]uint16

// Mixed are the buffers of tensors of several types: Mixed{BF16(weight), F32(norm)}. A nil among gradients means no
// gradient.
type Mixed []Slice

// A Slice is the buffer of one tensor: [F32], [F64], [BF16] or [F16].
type Slice interface{ buffer() buffer }

// F32 is the buffer of a float32 tensor.
type F32 []float32

// F64 is the buffer of a float64 tensor.
type F64 []float64

// BF16 is the buffer of a bfloat16 tensor: the upper halves of float32 numbers.
type BF16 []uint16

// F16 is the buffer of a float16 tensor: the bits of IEEE binary16 numbers.
type F16 []uint16

// buffer is a slice of any type; its address is nil for a nil slice only.
type buffer struct {
	address unsafe.Pointer
	length  int
	dtype   DType
}

func (s Float32s) count() int       { return len(s) }
func (s Float64s) count() int       { return len(s) }
func (s Mixed) count() int          { return len(s) }
func (s BFloat16s) count() int      { return len(s) }
func (s Float16s) count() int       { return len(s) }
func (s Float32s) at(i int) buffer  { return F32(s[i]).buffer() }
func (s Float64s) at(i int) buffer  { return F64(s[i]).buffer() }
func (s BFloat16s) at(i int) buffer { return BF16(s[i]).buffer() }
func (s Float16s) at(i int) buffer  { return F16(s[i]).buffer() }
func (s Mixed) at(i int) buffer {
	if s[i] == nil {
		return buffer{}
	}
	return s[i].buffer()
}

func (s F32) buffer() buffer {
	return buffer{unsafe.Pointer(unsafe.SliceData(s)), len(s), Float32}
}

func (s F64) buffer() buffer {
	return buffer{unsafe.Pointer(unsafe.SliceData(s)), len(s), Float64}
}

func (s BF16) buffer() buffer {
	return buffer{unsafe.Pointer(unsafe.SliceData(s)), len(s), BFloat16}
}

func (s F16) buffer() buffer {
	return buffer{unsafe.Pointer(unsafe.SliceData(s)), len(s), Float16}
}

// noElements is the address of the gradient of a tensor without elements; nil would mean "no gradient".
var noElements float64

// pinner is a [runtime.Pinner] or pins.
type pinner interface{ Pin(pointer any) }

// pins are Pinners that are used again: each Pinner has room for a few pointers, and what it allocates for more it drops
// when it is unpinned, in every step.
type pins struct {
	pinners []runtime.Pinner
	count   int
}

// room of a Pinner; a wrong number would only be slower.
const room = 5

func (p *pins) Pin(pointer any) {
	i := p.count / room
	if i == len(p.pinners) {
		p.pinners = append(p.pinners, runtime.Pinner{})
	}
	p.pinners[i].Pin(pointer)
	p.count++
}

func (p *pins) Unpin() {
	for i := 0; i*room < p.count; i++ {
		p.pinners[i].Unpin()
	}
	p.count = 0
}

// pin checks a buffer against its tensor and pins it.
func (t *registered) pin(pinner pinner, what string, i int, b buffer, dtype DType) (unsafe.Pointer, error) {
	if b.dtype != dtype {
		return nil, invalid("%s[%d] ('%s') is %v, expected %v", what, i, t.name, b.dtype, dtype)
	}
	if uint64(b.length) != t.length {
		return nil, invalid("%s[%d] ('%s') has %d elements, expected %d", what, i, t.name, b.length, t.length)
	}
	if b.length == 0 {
		return unsafe.Pointer(&noElements), nil
	}
	pinner.Pin(b.address)
	return b.address, nil
}

// pinParams pins every parameter and appends the addresses to pointers.
func pinParams(pinner pinner, tensors []registered, params Slices, pointers []unsafe.Pointer) ([]unsafe.Pointer, error) {
	if err := checkCount("params", params, len(tensors)); err != nil {
		return pointers, err
	}
	for i := range tensors {
		t, b := &tensors[i], params.at(i)
		if t.length == 0 { // nothing is read, and two of these would have the same address
			pointers = append(pointers, nil)
			continue
		}
		if b.address == nil {
			return pointers, invalid("params[%d] ('%s') is nil", i, t.name)
		}
		pointer, err := t.pin(pinner, "params", i, b, t.dtype)
		if err != nil {
			return pointers, err
		}
		pointers = append(pointers, pointer)
	}
	return pointers, nil
}

// pinGrads pins every gradient that is there and appends the addresses, nil for none, to pointers.
func pinGrads(pinner pinner, tensors []registered, grads Slices, pointers []unsafe.Pointer) ([]unsafe.Pointer, error) {
	if err := checkCount("grads", grads, len(tensors)); err != nil {
		return pointers, err
	}
	for i := range tensors {
		b := grads.at(i)
		if b.address == nil {
			pointers = append(pointers, nil)
			continue
		}
		pointer, err := tensors[i].pin(pinner, "grads", i, b, tensors[i].gradDType)
		if err != nil {
			return pointers, err
		}
		pointers = append(pointers, pointer)
	}
	return pointers, nil
}

func checkCount(what string, slices Slices, tensors int) error {
	if slices == nil {
		return invalid("%s is nil, expected %d slices", what, tensors)
	}
	if slices.count() != tensors {
		return invalid("%s has %d slices, expected one for each of %d tensors", what, slices.count(), tensors)
	}
	return nil
}

// toC fills in the library's description, which points to pinned Go memory.
func (t *Tensor) toC(pinner *runtime.Pinner, c *C.maw_tensor) (registered, error) {
	C.maw_tensor_init(c, C.sizeof_maw_tensor)
	name, err := text("Tensor.Name", t.Name)
	if err != nil {
		return registered{}, err
	}
	pinner.Pin(name)
	c.name = name
	if t.ModulationGroup != "" {
		group, err := text("Tensor.ModulationGroup", t.ModulationGroup)
		if err != nil {
			return registered{}, err
		}
		pinner.Pin(group)
		c.modulation_group = group
	}
	length := uint64(1)
	if len(t.Shape) > 0 {
		shape := make([]C.uint64_t, len(t.Shape))
		for i, n := range t.Shape {
			if n < 0 {
				return registered{}, invalid("shape %v of tensor '%s' has a negative length", t.Shape, t.Name)
			}
			shape[i] = C.uint64_t(n)
			var high uint64
			if high, length = bits.Mul64(length, uint64(n)); high != 0 {
				return registered{}, invalid("shape %v of tensor '%s' has too many elements", t.Shape, t.Name)
			}
		}
		pinner.Pin(&shape[0])
		c.shape = &shape[0]
	}
	c.ndim = C.uint32_t(len(t.Shape))
	if t.DType != 0 {
		c.dtype = C.int32_t(t.DType)
	}
	gradDType := DType(c.dtype)
	if t.GradDType != 0 {
		gradDType = t.GradDType
		c.grad_dtype = C.int32_t(t.GradDType)
	}
	c.layer_kind = C.int32_t(t.LayerKind)
	if t.LayerIndex < 0 {
		return registered{}, invalid("LayerIndex %d of tensor '%s' is negative", t.LayerIndex, t.Name)
	}
	c.layer_index = C.uint32_t(min(uint64(t.LayerIndex), math.MaxUint32))
	if t.Precision != nil {
		c.precision = C.int32_t(*t.Precision)
		if *t.Precision == PrecisionNearest { // whose 0 means the group's here
			c.precision = C.MAW_PRECISION_TENSOR_NEAREST
		}
	}
	if t.Shard != nil {
		if t.Shard.Offset < 0 || t.Shard.Numel < 0 {
			return registered{}, invalid("Shard %+v of tensor '%s' has a negative number", *t.Shard, t.Name)
		}
		c.sharded = 1
		c.shard_offset = C.uint64_t(t.Shard.Offset)
		c.shard_numel = C.uint64_t(t.Shard.Numel)
		length = uint64(t.Shard.Numel)
	}
	return registered{t.Name, length, DType(c.dtype), gradDType}, nil
}

// text is s as a NUL-terminated string in Go memory; s must not contain a NUL.
func text(what, s string) (*C.char, error) {
	if strings.IndexByte(s, 0) >= 0 {
		return nil, invalid("%s %q contains a NUL", what, s)
	}
	terminated := append([]byte(s), 0)
	return (*C.char)(unsafe.Pointer(&terminated[0])), nil
}
