package nn

import (
	"fmt"

	"tare/engine/grad"
)

// Conv2d is a convolution of images by the layer's window. Its kernels are a Linear's
// weight [out, kernel·in/groups] over patches, the columns in the order kernel row,
// kernel column, input channel; so whatever can hold a linear layer's matrix can hold a
// convolution's. Name has a checkpoint's tensor [out, in/groups, height, width].
type Conv2d struct{ *Linear }

// Convolver is a Weight that convolves without being given the patches. One that
// isn't is applied to them.
type Convolver interface {
	// Convolve is Apply on the patches of images x under w.
	Convolve(tp *grad.Tape, x *grad.Value, g grad.Grid, w grad.Window) *grad.Value
}

// Apply returns the convolution of images x [g's pixels, in] and its grid. A grouped
// convolution needs a Weight that is a Convolver.
func (c *Conv2d) Apply(tp *grad.Tape, x *grad.Value, g grad.Grid) (*grad.Value, grad.Grid) {
	y := tp.Scope(func() *grad.Value {
		y := Convolve(c.Weight, tp, x, g, c.Window)
		if c.Bias != nil {
			y = tp.AddBias(y, c.Bias)
		}
		return y
	})
	return y, c.Window.Out(g)
}

// Convolve returns the convolution of images x by any weight.
func Convolve(w Weight, tp *grad.Tape, x *grad.Value, g grad.Grid, win grad.Window) *grad.Value {
	if c, ok := w.(Convolver); ok {
		return c.Convolve(tp, x, g, win)
	}
	return w.Apply(tp, tp.Patches(x, g, win))
}

// Convolve implements Convolver. A weight of which a part trains works on patches,
// of which it keeps what that part needs.
func (d Dense) Convolve(tp *grad.Tape, x *grad.Value, g grad.Grid, w grad.Window) *grad.Value {
	if w.Groups < 2 && d.P.Trains() && d.P.Part.Kind != grad.All {
		return tp.Linear(tp.Patches(x, g, w), d.P)
	}
	return tp.Conv2d(x, d.P, g, w)
}

// BatchNorm standardises each channel over the pixels of a batch while the tape
// trains, and by running statistics otherwise. (Ioffe and Szegedy 2015,
// arXiv:1502.03167.)
type BatchNorm struct {
	Weight, Bias *grad.Param // [c]
	Mean, Var    *grad.Param // running statistics [c]; no gradient reaches them
	Eps          float32
	Momentum     float32 // how far a batch moves the running statistics
	Frozen       bool    // use the running statistics in training too, and leave them
}

// Apply returns the standardised images x [pixels, c].
func (n *BatchNorm) Apply(tp *grad.Tape, x *grad.Value) *grad.Value {
	run := grad.Running{Mean: n.Mean.Value.F32(), Var: n.Var.Value.F32(), Momentum: n.Momentum}
	return tp.BatchNorm(x, n.Weight, n.Bias, run, n.Eps, tp.Training() && !n.Frozen)
}

// GroupNorm standardises groups of channels over each image. (Wu and He 2018,
// arXiv:1803.08494.)
type GroupNorm struct {
	Weight, Bias *grad.Param // [c]
	Groups       int
	Eps          float32
}

// Apply returns the standardised images x [g's pixels, c].
func (n *GroupNorm) Apply(tp *grad.Tape, x *grad.Value, g grad.Grid) *grad.Value {
	return tp.GroupNorm(x, n.Weight, n.Bias, g, n.Groups, n.Eps)
}

// ToImages returns the columns of a convolution's weight, which lie channel fastest,
// in the order of a checkpoint's [in, height, width]; FromImages is its inverse. w is
// [out, area·channels] row-major and is left alone.
func ToImages(w []float32, area, channels int) []float32 { return swapInner(w, area, channels) }

// FromImages returns a checkpoint's [out, channels, area] as [out, area·channels].
func FromImages(w []float32, area, channels int) []float32 { return swapInner(w, channels, area) }

// swapInner turns rows [a, b] into [b, a].
func swapInner(w []float32, a, b int) []float32 {
	if a*b == 0 || len(w)%(a*b) != 0 {
		panic(fmt.Sprintf("nn: %d numbers in rows of %d by %d", len(w), a, b))
	}
	out := make([]float32, len(w))
	for at := 0; at < len(w); at += a * b {
		for i := range a {
			for j := range b {
				out[at+j*a+i] = w[at+i*b+j]
			}
		}
	}
	return out
}
