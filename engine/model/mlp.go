package model

import (
	"fmt"
	"math"
	"math/rand/v2"

	"tare/engine/grad"
	"tare/engine/nn"
	"tare/engine/tensor"
)

// MLP is a classifier of points: linear layers with ReLU between them.
type MLP struct{ Layers []*nn.Linear }

// NewMLP returns a network with random weights from sizes[0] inputs to as many
// classes as the last size: W ~ N(0, 2/in), which keeps the variance through ReLU
// (He et al. 2015, arXiv:1502.01852, equation 10), and biases zero. All is frozen,
// as everywhere: set Part to train.
func NewMLP(sizes []int, seed uint64) (*MLP, error) {
	if len(sizes) < 2 {
		return nil, fmt.Errorf("model: an MLP of sizes %v: want inputs, any hidden sizes, classes", sizes)
	}
	for _, n := range sizes {
		if n < 1 {
			return nil, fmt.Errorf("model: an MLP of sizes %v: a layer of %d", sizes, n)
		}
	}
	rng := rand.New(rand.NewPCG(seed, 0))
	m := &MLP{}
	for i, out := range sizes[1:] {
		in := sizes[i]
		w := tensor.New(out, in)
		std := math.Sqrt(2 / float64(in))
		for k := range w.F32() {
			w.F32()[k] = float32(std * rng.NormFloat64())
		}
		name := fmt.Sprintf("layers.%d", i)
		m.Layers = append(m.Layers, &nn.Linear{
			Name:   name,
			Weight: nn.NewDense(name+".weight", w),
			Bias:   grad.NewParam(name+".bias", tensor.New(out)),
		})
	}
	return m, nil
}

// Logits returns the scores [n, classes] of points x [n, in].
func (m *MLP) Logits(tp *grad.Tape, x *grad.Value) *grad.Value {
	for i, l := range m.Layers {
		if i > 0 {
			x = tp.ReLU(x)
		}
		x = l.Apply(tp, x)
	}
	return x
}

// Loss returns the summed cross-entropy in nats of the labels over denom [1, 1].
func (m *MLP) Loss(tp *grad.Tape, x *grad.Value, labels []int32, denom float64) *grad.Value {
	return tp.CrossEntropy(m.Logits(tp, x), labels, denom)
}

// Linears returns the layers, from the input on.
func (m *MLP) Linears() []*nn.Linear { return m.Layers }

// Params returns every parameter, a layer's weight before its bias.
func (m *MLP) Params() []*grad.Param {
	var ps []*grad.Param
	for _, l := range m.Layers {
		ps = append(ps, l.Params()...)
	}
	return ps
}
