package model

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"

	"tare/engine/grad"
	"tare/engine/nn"
	"tare/engine/tensor"
)

// slots are the tensors of a checkpoint, in order, and what holds each in a model
// whose shape its options say. PyTorch's modules name them.
type slots []slot

// slot is one tensor: a parameter, or the matrix of a layer.
type slot struct {
	name   string
	shape  []int // in the checkpoint
	param  *grad.Param
	linear *nn.Linear
	// buffer says that no gradient reaches the tensor: running statistics.
	buffer bool
	// area and channels order the columns of a layer over images: the checkpoint has
	// [out, channels, area], the model [out, area·channels]. Zero for other layers.
	area, channels int
}

// vector adds a parameter of n numbers v and returns it. Decay leaves it alone.
func (s *slots) vector(name string, n int, v float32) *grad.Param {
	t := tensor.New(n)
	for i := range t.F32() {
		t.F32()[i] = v
	}
	p := grad.NewParam(name, t)
	*s = append(*s, slot{name: name, shape: []int{n}, param: p})
	return p
}

// running adds a norm's running statistic.
func (s *slots) running(name string, n int, v float32) *grad.Param {
	p := s.vector(name, n, v)
	(*s)[len(*s)-1].buffer = true
	return p
}

// matrix adds a layer with the weight tensor weight of normal numbers, and a zero bias
// unless bias is empty.
func (s *slots) matrix(name, weight, bias string, out, in int, std float64, rng *rand.Rand) *nn.Linear {
	w := tensor.New(out, in)
	for i := range w.F32() {
		w.F32()[i] = float32(std * rng.NormFloat64())
	}
	l := &nn.Linear{Name: name, Weight: nn.NewDense(weight, w)}
	*s = append(*s, slot{name: weight, shape: []int{out, in}, linear: l})
	if bias != "" {
		l.Bias = s.vector(bias, out, 0)
	}
	return l
}

// layer adds a linear layer with W ~ N(0, 1/in).
func (s *slots) layer(name string, out, in int, rng *rand.Rand) *nn.Linear {
	return s.matrix(name, name+".weight", name+".bias", out, in, math.Sqrt(1/float64(in)), rng)
}

// conv adds a convolution with W ~ N(0, 2/fan-in), which keeps the variance through
// ReLU (He et al. 2015, arXiv:1502.01852, equation 10).
func (s *slots) conv(name string, out, in int, w grad.Window, bias bool, rng *rand.Rand) *nn.Conv2d {
	biasName := ""
	if bias {
		biasName = name + ".bias"
	}
	at, fan := len(*s), w.Area()*in/max(1, w.Groups)
	c := &nn.Conv2d{Linear: s.matrix(name, name+".weight", biasName, out, fan, math.Sqrt(2/float64(fan)), rng)}
	c.Window = w
	k := &(*s)[at]
	k.area, k.channels = w.Area(), in/max(1, w.Groups)
	k.shape = []int{out, k.channels, w.Kernel[0], w.Kernel[1]}
	return c
}

// batchNorm adds a batch norm that does nothing yet, with PyTorch's constants.
func (s *slots) batchNorm(name string, c int) *nn.BatchNorm {
	return &nn.BatchNorm{
		Weight: s.vector(name+".weight", c, 1), Bias: s.vector(name+".bias", c, 0),
		Mean: s.running(name+".running_mean", c, 0), Var: s.running(name+".running_var", c, 1),
		Eps: 1e-5, Momentum: 0.1,
	}
}

// Params returns every parameter that can train, in checkpoint order, with those that
// methods put into the layers.
func (s slots) Params() []*grad.Param {
	var ps []*grad.Param
	for _, k := range s {
		switch {
		case k.linear != nil:
			ps = append(ps, k.linear.Weight.Params()...)
		case !k.buffer:
			ps = append(ps, k.param)
		}
	}
	return ps
}

// Buffers returns the running statistics, which a run must save beside what trains.
func (s slots) Buffers() []*grad.Param {
	var ps []*grad.Param
	for _, k := range s {
		if k.buffer {
			ps = append(ps, k.param)
		}
	}
	return ps
}

// Linears returns the layers that hold a matrix, convolutions among them unless their
// channels are grouped.
func (s slots) Linears() []*nn.Linear {
	var ls []*nn.Linear
	for _, k := range s {
		if k.linear != nil {
			ls = append(ls, k.linear)
		}
	}
	return ls
}

// Export lists the tensors of a checkpoint in PyTorch's layout, stored as dtype.
// Adapted weights are folded in.
func (s slots) Export(dtype tensor.DType) []Entry {
	var entries []Entry
	for _, k := range s {
		entries = append(entries, Entry{Name: k.name, DType: dtype, Shape: k.shape, Read: func() (*tensor.Tensor, error) { return k.read(dtype) }})
	}
	return entries
}

func (k *slot) read(dtype tensor.DType) (*tensor.Tensor, error) {
	var data []float32
	if k.linear == nil {
		data = k.param.Value.F32()
	} else {
		w, err := nn.Materialize(k.linear.Weight)
		if err != nil {
			return nil, fmt.Errorf("model: %s: %w", k.name, err)
		}
		data = w.F32()
	}
	if k.area > 0 {
		data = nn.ToImages(data, k.area, k.channels)
	}
	return tensor.FromF32(slices.Clone(data), k.shape...).To(dtype)
}

// Load sets every tensor to a checkpoint's, in f32. Tensors that the model has no place
// for are refused, but for the counters num_batches_tracked.
func (s slots) Load(src Tensors) error {
	have := map[string]bool{}
	for _, name := range src.Names() {
		have[name] = !strings.HasSuffix(name, "num_batches_tracked")
	}
	for _, k := range s {
		if !have[k.name] {
			return fmt.Errorf("model: %s: %w; the checkpoint has %d tensors", k.name, ErrMissing, len(have))
		}
		t, err := src.Tensor(k.name)
		if err != nil {
			return err
		}
		if err := k.write(t); err != nil {
			return fmt.Errorf("model: %s: %w", k.name, err)
		}
		delete(have, k.name)
	}
	for _, name := range slices.Sorted(maps.Keys(have)) {
		if have[name] {
			return fmt.Errorf("model: the checkpoint's %s has no place in a model of these options", name)
		}
	}
	return nil
}

func (k *slot) write(t *tensor.Tensor) error {
	if !slices.Equal(t.Shape(), k.shape) {
		return fmt.Errorf("%w: %v, want %v", ErrShape, t.Shape(), k.shape)
	}
	if !t.DType().IsFloat() {
		return fmt.Errorf("%s, want a floating-point type", t.DType())
	}
	if i := t.FirstNonFinite(); i >= 0 {
		return fmt.Errorf("%w: entry %d is NaN or Inf", ErrNonFinite, i)
	}
	data, err := t.Float32s()
	if err != nil {
		return err
	}
	if k.area > 0 {
		data = nn.FromImages(data, k.area, k.channels)
	}
	p := k.param
	if k.linear != nil {
		d, ok := k.linear.Weight.(nn.Dense)
		if !ok {
			return fmt.Errorf("the layer holds a %T; load before adapting or packing", k.linear.Weight)
		}
		p = d.P
	}
	copy(p.Value.F32(), data)
	return nil
}
