package adapt

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"

	"tare/engine/grad"
	"tare/engine/nn"
	"tare/engine/tensor"
)

// FLoRA keeps the change of a kernel of N dimensions as a Tucker decomposition, a small
// core G with a factor for each dimension, instead of flattening it into a matrix (Si et
// al. 2024, "FLoRA: Low-Rank Core Space for N-dimension", arXiv:2405.14739):
//
//	ΔW = s·G ×_1 A_1 ×_2 … ×_N A_N,   G [r_1, …, r_N],   A_n [d_n, r_n]
//
// A linear layer [o, i] has N = 2 and ΔW = s·A_1 G A_2ᵀ; a convolution [o, i, kh, kw] has
// N = 4. ΔW is built for merging alone. Of a layer that convolves, x goes from the i
// channels to r_2 by a 1×1 convolution, to r_1 by one of kh×kw whose small kernel is
// G ×_3 A_3 ×_4 A_4, and to o by a 1×1. r_1 and r_2 are the rank, r_3 and r_4 the kernel
// rank; a convolution's are never above their dimension, so that the 3 channels of a first
// layer or a 1×1 kernel need no rank of their own.
//
// G starts at zero and A_n as N(0, 1/(2 r_n)), which is the authors' Kaiming start
// (SJTU-DeepVisionLab/FLoRA); s is theirs too, tuned for each of their models. Trained
// entries: Σ d_n r_n + Π r_n a layer. Files hold flora_G, flora_A1, flora_A2, which is A_2ᵀ
// [r_2, i], the matrix of the product x A_2, and of a convolution flora_A3 and flora_A4.
type FLoRA struct {
	Rank        int     `yaml:"rank" help:"Rank of the core in the dimensions of outputs and inputs." default:"8"`
	KernelRank  int     `yaml:"kernel_rank" help:"Rank of the core in a kernel's height and width, at most their size; 0 takes rank." default:"0"`
	Scale       float64 `yaml:"scale" help:"Scale of a linear layer's update." default:"0.04"`
	KernelScale float64 `yaml:"kernel_scale" help:"Scale of a convolution's update." default:"4"`
	Dropout     float64 `yaml:"dropout" help:"Probability of dropping an input of the update."`
}

// NewFLoRA returns the defaults: rank 8 up to the kernel's size, scale 0.04 of linear
// layers and 4 of convolutions.
func NewFLoRA() *FLoRA { return &FLoRA{Rank: 8, Scale: 0.04, KernelScale: 4} }

// Validate implements Options.
func (o *FLoRA) Validate() error {
	var errs []error
	if o.Rank < 1 || o.KernelRank < 0 {
		errs = append(errs, fmt.Errorf("adapt: flora: rank %d and kernel_rank %d, want at least 1 and 0", o.Rank, o.KernelRank))
	}
	for _, s := range []struct {
		key string
		v   float64
	}{{"scale", o.Scale}, {"kernel_scale", o.KernelScale}} {
		if s.v == 0 || math.IsNaN(s.v) || math.IsInf(s.v, 0) {
			errs = append(errs, fmt.Errorf("adapt: flora: %s %g, want a finite number other than 0", s.key, s.v))
		}
	}
	if !(o.Dropout >= 0 && o.Dropout < 1) {
		errs = append(errs, fmt.Errorf("adapt: flora: dropout %g, want 0 up to but not including 1", o.Dropout))
	}
	return errors.Join(errs...)
}

// tucker are the sizes of a layer's decomposition: d_n and r_n, kernel height and width
// as the third and fourth dimension. Those of a linear layer are 1 and have no factors.
type tucker struct {
	d, r        [4]int
	convolution bool
}

// sizes returns the dimensions and ranks of a layer.
func (o *FLoRA) sizes(l *nn.Linear) (tucker, error) {
	out, in := l.Weight.Dims()
	area := l.Window.Area()
	if area == 0 {
		z := tucker{d: [4]int{out, in, 1, 1}, r: [4]int{o.Rank, o.Rank, 1, 1}}
		return z, checkRank("flora", l, o.Rank, min(out, in))
	}
	if l.Window.Groups > 1 {
		return tucker{}, fmt.Errorf("adapt: flora: the convolution %s keeps %d groups of channels apart, which a core would mix; leave the layer out of the targets", l.Name, l.Window.Groups)
	}
	kernel := o.KernelRank
	if kernel == 0 {
		kernel = o.Rank
	}
	z := tucker{d: [4]int{out, in / area, l.Window.Kernel[0], l.Window.Kernel[1]}, r: [4]int{o.Rank, o.Rank, kernel, kernel}, convolution: true}
	for n, d := range z.d {
		z.r[n] = min(z.r[n], d)
	}
	return z, checkRank("flora", l, o.Rank, max(z.d[0], z.d[1]))
}

// Attach implements Options.
func (o *FLoRA) Attach(l *nn.Linear, seed uint64) (Attached, error) {
	z, err := o.sizes(l)
	if err != nil {
		return nil, err
	}
	w := &floraWeight{base: l.Weight, tucker: z, scale: float32(o.Scale), dropout: float32(o.Dropout)}
	core, dims := z.r[:2], 2
	if z.convolution {
		core, dims, w.scale = z.r[:], 4, float32(o.KernelScale)
	}
	w.g = trainable(l.Name+".flora_G", tensor.New(core...))
	rng := rand.New(rand.NewPCG(seed, 0))
	for n := range dims {
		a := tensor.New(z.d[n], z.r[n])
		if n == 1 {
			a = tensor.New(z.r[n], z.d[n])
		}
		for i := range a.F32() {
			a.F32()[i] = float32(rng.NormFloat64() * math.Sqrt(0.5/float64(z.r[n])))
		}
		w.a = append(w.a, trainable(fmt.Sprintf("%s.flora_A%d", l.Name, n+1), a))
	}
	l.Weight = w
	return w, nil
}

// Config implements Options.
func (o *FLoRA) Config() map[string]any {
	return map[string]any{"r": o.Rank, "kernel_rank": o.KernelRank, "scale": o.Scale, "kernel_scale": o.KernelScale, "flora_dropout": o.Dropout}
}

// SetConfig implements Options.
func (o *FLoRA) SetConfig(c map[string]any) error {
	o.Rank, o.KernelRank = integer(c, "r", 8), integer(c, "kernel_rank", 0)
	o.Scale, o.KernelScale, o.Dropout = number(c, "scale", 0.04), number(c, "kernel_scale", 4), number(c, "flora_dropout", 0)
	return nil
}

// trainable returns a parameter that trains whole.
func trainable(name string, t *tensor.Tensor) *grad.Param {
	p := grad.NewParam(name, t)
	p.Part = grad.Whole
	return p
}

// floraWeight is a Weight that adds s·G ×_1 A_1 … ×_N A_N to another.
type floraWeight struct {
	base nn.Weight
	tucker
	g              *grad.Param
	a              []*grad.Param // A_1, A_2ᵀ, and of a convolution A_3, A_4
	scale, dropout float32
}

func (w *floraWeight) Dims() (out, in int) { return w.base.Dims() }

// Apply takes a convolution's patches pixel by pixel from i channels to r_2, and what is
// then a patch of r_2 channels to r_1.
func (w *floraWeight) Apply(tp *grad.Tape, x *grad.Value) *grad.Value {
	y := w.base.Apply(tp, x)
	x = tp.Dropout(x, w.dropout)
	if !w.convolution {
		z := tp.Linear(tp.Linear(x, w.a[1]), w.g)
		return tp.AddLinear(y, z, w.a[0], w.scale)
	}
	area := w.d[2] * w.d[3]
	z := tp.Linear(tp.Swap(x, 1, area, w.d[1]), w.a[1]) // a copy of x, a row a pixel
	return w.finish(tp, y, tp.Reshape(z, x.Rows, area*w.r[1]))
}

// Convolve implements nn.Convolver by the three small convolutions.
func (w *floraWeight) Convolve(tp *grad.Tape, x *grad.Value, g grad.Grid, win grad.Window) *grad.Value {
	y := nn.Convolve(w.base, tp, x, g, win)
	z := tp.Linear(tp.Dropout(x, w.dropout), w.a[1]) // [pixels, r_2]
	return w.finish(tp, y, tp.Patches(z, g, win))
}

// finish adds to y what the small kernel and A_1 make of patches of r_2 channels.
func (w *floraWeight) finish(tp *grad.Tape, y, patches *grad.Value) *grad.Value {
	k := tp.Reshape(w.kernel(tp), w.r[0], patches.Cols)
	z := tp.MatMul(patches, k, false, true) // [pixels, r_1]
	return tp.AddLinear(y, z, w.a[0], w.scale)
}

// kernel returns G ×_3 A_3 ×_4 A_4, the small convolution's weight, as [r_1·kh·kw, r_2]:
//
//	K[(p, a, b), q] = Σ_cd G[p, q, c, d] A_3[a, c] A_4[b, d]
func (w *floraWeight) kernel(tp *grad.Tape) *grad.Value {
	r2, r3, kh, kw := w.r[1], w.r[2], w.d[2], w.d[3]
	factor := func(x *grad.Value, a *grad.Param) *grad.Value { return tp.MatMul(x, tp.Use(a), false, true) }
	k := factor(tp.Use(w.g), w.a[3])          // rows p q c, columns b
	k = factor(tp.Swap(k, r3, kw, 1), w.a[2]) // p q b, a
	k = tp.Swap(k, r2*kw, kh, 1)              // p a, q b
	return tp.Swap(k, r2, kw, 1)              // p a b, q
}

func (w *floraWeight) Dense(dst *tensor.Tensor) error {
	if err := w.base.Dense(dst); err != nil {
		return err
	}
	return w.addTo(dst, w.scale)
}

// addTo adds s·G ×_1 A_1 … ×_N A_N to dst.
func (w *floraWeight) addTo(dst *tensor.Tensor, s float32) error {
	_, in := w.Dims()
	right := tensor.New(w.r[0], in) // [r_1, kh·kw·i]
	tp := grad.NewTape(nil)
	tp.NoGrad(func() {
		k := tp.Use(w.g)
		if w.convolution {
			k = w.kernel(tp)
		}
		copy(right.F32(), tp.MatMul(k, tp.Use(w.a[1]), false, false).Data)
	})
	tp.Reset()
	return addProduct(dst, w.a[0].Value, right, s)
}

func (w *floraWeight) Params() []*grad.Param { return append(append(w.base.Params(), w.g), w.a...) }

func (w *floraWeight) State() []Named {
	s := []Named{{"flora_G", w.g.Value}}
	for n, a := range w.a {
		s = append(s, Named{fmt.Sprintf("flora_A%d", n+1), a.Value})
	}
	return s
}

func (w *floraWeight) Restore(state map[string]*tensor.Tensor) error {
	return restoreAll(w.State(), state)
}

func (w *floraWeight) Unmerge(t *tensor.Tensor) error { return w.addTo(t, -w.scale) }
