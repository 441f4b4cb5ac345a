package adapt

import (
	"errors"
	"fmt"
	"math"

	"gonum.org/v1/gonum/mathext/prng"

	"tare/engine/grad"
	"tare/engine/nn"
	"tare/engine/tensor"
)

// VeRA trains two vectors a layer, which scale one pair of frozen random matrices that
// all layers share (Kopiczko et al. 2023, "VeRA: Vector-based Random Matrix Adaptation",
// arXiv:2310.11454):
//
//	y = W x + λ_b ⊙ B (λ_d ⊙ A x),   A [r, in],  B [out, r],  λ_d [r],  λ_b [out]
//
// λ_b starts at zero and λ_d at d_initial; A and B are uniform in ±√(6/fan-in). The pair
// is drawn once for the largest layer, and a layer takes the first columns of A and rows
// of B. Of the activations A x [n, r] is kept, and B's product is made again in the
// backward pass. Trained entries: r + out a layer, so that ranks are chosen higher than
// LoRA's.
//
// Files are PEFT's. A and B are the numbers that PEFT draws from the same key, since its
// version 0.18.1 stores them but does not read them.
type VeRA struct {
	Rank    int     `yaml:"rank" help:"Rank of the shared random matrices." default:"256"`
	Initial float64 `yaml:"d_initial" help:"Start of the inner vector's entries." default:"0.1"`
	Dropout float64 `yaml:"dropout" help:"Probability of dropping an input of the update."`

	Projections `yaml:",inline"`
}

// NewVeRA returns the defaults, PEFT's: rank 256, the inner vector from 0.1.
func NewVeRA() *VeRA {
	return &VeRA{Rank: 256, Initial: 0.1, Projections: Projections{Save: true}}
}

// Validate implements Options.
func (o *VeRA) Validate() error {
	errs := []error{checkDropout("vera", o.Dropout), o.Projections.validate("vera")}
	if o.Rank < 1 {
		errs = append(errs, fmt.Errorf("adapt: vera: rank %d, want at least 1", o.Rank))
	}
	if math.IsNaN(o.Initial) || math.IsInf(o.Initial, 0) {
		errs = append(errs, fmt.Errorf("adapt: vera: d_initial %g, want a finite number", o.Initial))
	}
	return errors.Join(errs...)
}

// Couple implements Coupler: the pair is made for the largest layer. A rank above the
// layer's sides is of use, as in the paper; one out of all proportion is refused.
func (o *VeRA) Couple(_ Model, layers []*nn.Linear, seed uint64) (func(l *nn.Linear, seed uint64) (Attached, error), error) {
	out, in := mostSides(layers)
	for _, l := range layers {
		if err := checkRank("vera", l, o.Rank, 16*max(out, in)); err != nil {
			return nil, err
		}
	}
	a, b := tensor.New(o.Rank, in), tensor.New(out, o.Rank)
	o.draw("vera", a, b, seed, func(seed uint64) {
		mt := prng.NewMT19937()
		mt.Seed(seed)
		torchUniform(mt, a.F32(), math.Sqrt(6/float64(in)))
		torchUniform(mt, b.F32(), math.Sqrt(6/float64(o.Rank)))
	})
	first := true
	return func(l *nn.Linear, _ uint64) (Attached, error) {
		w := o.weight(l)
		w.counts, first = first, false
		l.Weight = w
		return w, nil
	}, nil
}

// torchUniform fills dst uniformly in ±bound with the numbers that PyTorch's uniform_
// draws on a CPU: 24 bits of the generator's 32, in f32.
func torchUniform(mt *prng.MT19937, dst []float32, bound float64) {
	b := float32(bound)
	for i := range dst {
		u := float32(mt.Uint32()&(1<<24-1)) * 0x1p-24
		dst[i] = float32(float64(u)*float64(2*b) - float64(b)) // rounded once
	}
}

// weight returns the layer's weight with fresh vectors.
func (o *VeRA) weight(l *nn.Linear) *veraWeight {
	out, _ := l.Weight.Dims()
	d := tensor.New(o.Rank)
	for i := range d.F32() {
		d.F32()[i] = float32(o.Initial)
	}
	w := &veraWeight{
		base: l.Weight, a: o.a, b: o.b, dropout: float32(o.Dropout),
		inner: grad.NewParam(l.Name+".vera_lambda_d", d), outer: grad.NewParam(l.Name+".vera_lambda_b", tensor.New(out)),
	}
	w.inner.Part, w.outer.Part = grad.Whole, grad.Whole
	return w
}

// Attach implements Options, for a layer by itself.
func (o *VeRA) Attach(l *nn.Linear, seed uint64) (Attached, error) {
	attach, err := o.Couple(nil, []*nn.Linear{l}, seed)
	if err != nil {
		return nil, err
	}
	return attach(l, seed)
}

// Config implements Options.
func (o *VeRA) Config() map[string]any {
	return o.config(map[string]any{"r": o.Rank, "vera_dropout": o.Dropout, "d_initial": o.Initial, "fan_in_fan_out": false, "init_weights": true})
}

// SetConfig implements Options.
func (o *VeRA) SetConfig(c map[string]any) error {
	o.Rank, o.Dropout, o.Initial = integer(c, "r", 256), number(c, "vera_dropout", 0), number(c, "d_initial", 0.1)
	o.Projections.setConfig(c)
	return plainConfig("vera", c)
}

// veraWeight is a Weight that adds diag(λ_b) B diag(λ_d) A to another.
type veraWeight struct {
	base         nn.Weight
	a, b         *grad.Param // shared: A [r, in'], B [out', r]
	inner, outer *grad.Param // λ_d [r], λ_b [out]
	dropout      float32
	counts       bool // a and b are counted here
}

func (w *veraWeight) Dims() (out, in int) { return w.base.Dims() }

func (w *veraWeight) Apply(tp *grad.Tape, x *grad.Value) *grad.Value {
	y := w.base.Apply(tp, x)
	out, in := w.Dims()
	r := w.a.Value.Dim(0)
	return tp.Scope(func() *grad.Value {
		z := tp.LinearFixed(tp.Dropout(x, w.dropout), w.a.Value.Operand(true), r, in) // A x [n, r]
		return tp.AddTo(tp.Checkpoint(z, func(tp *grad.Tape, z *grad.Value) *grad.Value {
			z = tp.LinearFixed(tp.Mul(z, tp.Use(w.inner)), w.b.Value.Operand(true), out, r)
			return tp.Mul(z, tp.Use(w.outer))
		}), y)
	})
}

func (w *veraWeight) Dense(dst *tensor.Tensor) error {
	if err := w.base.Dense(dst); err != nil {
		return err
	}
	return w.addDelta(dst, 1)
}

// addDelta adds sign·ΔW to dst [out, in].
func (w *veraWeight) addDelta(dst *tensor.Tensor, sign float32) error {
	out, in, r, wide := dst.Dim(0), dst.Dim(1), w.a.Value.Dim(0), w.a.Value.Dim(1)
	a, b := tensor.New(r, in), tensor.New(out, r)
	for k, d := range w.inner.Value.F32() {
		for i, v := range w.a.Value.F32()[k*wide : k*wide+in] {
			a.F32()[k*in+i] = d * v
		}
	}
	for p, d := range w.outer.Value.F32() {
		for k, v := range w.b.Value.F32()[p*r : (p+1)*r] {
			b.F32()[p*r+k] = d * v
		}
	}
	return addProduct(dst, b, a, sign)
}

func (w *veraWeight) Unmerge(t *tensor.Tensor) error { return w.addDelta(t, -1) }

// Params returns the random matrices in one layer of all that share them.
func (w *veraWeight) Params() []*grad.Param {
	ps := w.base.Params()
	if w.counts {
		ps = append(ps, w.a, w.b)
	}
	return append(ps, w.inner, w.outer)
}

func (w *veraWeight) State() []Named {
	return []Named{{"vera_lambda_b", w.outer.Value}, {"vera_lambda_d", w.inner.Value}}
}

func (w *veraWeight) Restore(state map[string]*tensor.Tensor) error {
	return errors.Join(restore(w.outer.Value, state, "vera_lambda_b"), restore(w.inner.Value, state, "vera_lambda_d"))
}
