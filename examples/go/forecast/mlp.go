package main

import "math"

// The "engine": a perceptron 96-64-64-1 with tanh, forward and backward pass written out, in float32. It does not
// depend on the optimizer: parameters and gradients are plain slices. Same operations in the same order as
// examples/c/mlp.h.

const (
	inputs  = 96
	widest  = 96
	layers  = 3
	tensors = 2 * layers
)

// width has the lengths of the layers' inputs and outputs: layer l goes from width[l] to width[l+1].
var width = [layers + 1]int{inputs, 64, 64, 1}

type sample struct {
	past [inputs]float32 // oldest first
	next float32         // what is to be predicted
}

// mlp has, layer by layer, a weight (out × in, row-major) and a bias (out), and the gradient of each.
type mlp struct{ param, grad [][]float32 }

// random is splitmix64: small, and the same numbers on every platform.
type random uint64

func (r *random) bits() uint64 {
	*r += 0x9e3779b97f4a7c15
	z := uint64(*r)
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// newMLP draws every parameter uniformly from ±1/√(inputs of its layer).
func newMLP(seed uint64) *mlp {
	net, random := &mlp{}, random(seed)
	for t := range tensors {
		length := width[t/2+1]
		if t%2 == 0 {
			length *= width[t/2]
		}
		bound := 1 / math.Sqrt(float64(width[t/2]))
		param := make([]float32, length)
		for i := range param {
			unit := float64(random.bits()>>11) * 0x1p-53
			param[i] = float32(bound * (2*unit - 1))
		}
		net.param = append(net.param, param)
		net.grad = append(net.grad, make([]float32, length))
	}
	return net
}

// dot has eight partial sums, in the order of mlp.h. The conversions forbid fused operations.
func dot(a, b []float32) float32 {
	var sum [8]float32
	for ; len(a) >= 8 && len(b) >= 8; a, b = a[8:], b[8:] {
		sum[0] += float32(a[0] * b[0])
		sum[1] += float32(a[1] * b[1])
		sum[2] += float32(a[2] * b[2])
		sum[3] += float32(a[3] * b[3])
		sum[4] += float32(a[4] * b[4])
		sum[5] += float32(a[5] * b[5])
		sum[6] += float32(a[6] * b[6])
		sum[7] += float32(a[7] * b[7])
	}
	return ((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7]))
}

// add is y += a x.
func add(a float32, x, y []float32) {
	y = y[:len(x)]
	for i, x := range x {
		y[i] += float32(a * x)
	}
}

// forward fills y: y[l] is the input of layer l, y[layers] the prediction.
func (net *mlp) forward(input *[inputs]float32, y *[layers + 1][widest]float32) {
	copy(y[0][:], input[:])
	for l := range layers {
		in := width[l]
		weight, bias := net.param[2*l], net.param[2*l+1]
		for o := range width[l+1] {
			sum := bias[o] + dot(weight[o*in:(o+1)*in], y[l][:in])
			if l+1 < layers {
				sum = float32(math.Tanh(float64(sum)))
			}
			y[l+1][o] = sum
		}
	}
}

// backward adds the gradients of a loss whose derivative with respect to the prediction is slope.
func (net *mlp) backward(y *[layers + 1][widest]float32, slope float32) {
	above := [widest]float32{slope} // the derivative with respect to the layer's sums
	for l := layers - 1; l >= 0; l-- {
		in := width[l]
		var below [widest]float32 // ... with respect to its input y[l]
		for o := range width[l+1] {
			net.grad[2*l+1][o] += above[o]
			add(above[o], y[l][:in], net.grad[2*l][o*in:(o+1)*in])
			add(above[o], net.param[2*l][o*in:(o+1)*in], below[:])
		}
		for i := range in {
			above[i] = below[i] * (1 - float32(y[l][i]*y[l][i]))
		}
	}
}

// loss is the mean squared error of the samples with the given numbers; with gradients, it also fills net.grad.
func (net *mlp) loss(samples []sample, numbers []int, gradients bool) float64 {
	var y [layers + 1][widest]float32
	loss, count := 0.0, len(numbers)
	if gradients {
		for _, grad := range net.grad {
			clear(grad)
		}
	}
	for _, number := range numbers {
		s := &samples[number]
		net.forward(&s.past, &y)
		off := y[layers][0] - s.next
		loss += float64(float64(off) * float64(off))
		if gradients {
			net.backward(&y, 2*off/float32(count))
		}
	}
	return loss / float64(count)
}
