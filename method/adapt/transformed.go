package adapt

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"gonum.org/v1/gonum/mat"

	"tare/engine/grad"
	"tare/engine/nn"
	"tare/engine/tensor"
)

// Transformed turns the inputs of a frozen weight by a transform close to the identity
// and adds a residual (Tao et al. 2025, "Transformed Low-rank Adaptation via Tensor
// Decomposition and Its Applications to Text-to-image Models", arXiv:2501.08727):
//
//	y = W (T x) + R x
//
// T = I + a tensor ring, see ring.go, is full and dense with few entries: the turned
// weight comes near the wanted one, and what is left for R has a lower rank. The backward
// pass computes a ring's products again, so that it keeps nothing but x. R is s·B A
// as in LoRA, or a ring of its own. Both rings start at zero. T is built for merging, and
// where there are more rows than a small dimension has entries. Further transforms and
// residuals make other methods special cases:
//
//	none, lowrank       LoRA
//	magnitude, lowrank  DoRA, whose transform scales the outputs to lengths of their own
//	orthogonal, none    OFT-like: T = diag(Q_1, …), Q = (I + K)(I − K)⁻¹, K skew from zero
//
// "train" is a ring that is cut open: its closing bond is 1. The paper applies its
// transforms on either side; here it is the inputs' throughout, and T = I + ring with a
// last core of zeros, not a product of identity cores, since equal cores of the start
// would stay equal. Trained entries: of a ring Σ_k ρ² o_k i_k, with o_k = i_k in T; of B
// A r·(in + out); of the blocks in·(block − 1)/2. Files hold transform_core_1 …, or
// transform_blocks, and residual_core_1 …, or LoRA's and DoRA's tensors.
type Transformed struct {
	Transform string  `yaml:"transform" help:"ring, train, orthogonal, magnitude or none." default:"ring"`
	Residual  string  `yaml:"residual" help:"lowrank, ring, train or none." default:"lowrank"`
	Rank      int     `yaml:"rank" help:"Rank of a lowrank residual." default:"8"`
	Alpha     float64 `yaml:"alpha" help:"Scale numerator of a lowrank residual; it is scaled by alpha/rank." default:"16"`
	Modes     int     `yaml:"modes" help:"Factors that a ring or train splits a dimension into." default:"3"`
	Bond      int     `yaml:"bond" help:"Bond dimension of a ring or train." default:"2"`
	Block     int     `yaml:"block" help:"Size of the blocks of an orthogonal transform." default:"32"`
}

// The transforms and residuals.
const (
	ringed     = "ring"
	trained    = "train"
	orthogonal = "orthogonal"
	magnitude  = "magnitude"
	lowRank    = "lowrank"
	absent     = "none"
)

// NewTransformed returns the defaults: a ring of three modes with bonds of 2, and a
// residual of rank 8.
func NewTransformed() *Transformed {
	return &Transformed{Transform: ringed, Residual: lowRank, Rank: 8, Alpha: 16, Modes: 3, Bond: 2, Block: 32}
}

// Validate implements Options.
func (o *Transformed) Validate() error {
	var errs []error
	say := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("adapt: transformed: "+format, args...))
	}
	if !slices.Contains([]string{ringed, trained, orthogonal, magnitude, absent}, o.Transform) {
		say("transform %q, want ring, train, orthogonal, magnitude or none", o.Transform)
	}
	if !slices.Contains([]string{lowRank, ringed, trained, absent}, o.Residual) {
		say("residual %q, want lowrank, ring, train or none", o.Residual)
	}
	if o.Transform == absent && o.Residual == absent {
		say("neither transform nor residual: nothing would train")
	}
	if o.Transform == magnitude && o.Residual != lowRank {
		say("transform magnitude takes the lengths of W plus a lowrank residual, not %q", o.Residual)
	}
	if o.Modes < 2 || o.Bond < 1 {
		say("modes %d and bond %d, want at least 2 and 1", o.Modes, o.Bond)
	}
	if o.Block < 2 {
		say("block %d, want at least 2", o.Block)
	}
	if o.Residual == lowRank {
		if err := o.pair().validate("transformed"); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// pair returns the options of a lowrank residual.
func (o *Transformed) pair() *LoRA { return &LoRA{Rank: o.Rank, Alpha: o.Alpha} }

// Attach implements Options: the residual goes over the turned weight.
func (o *Transformed) Attach(l *nn.Linear, seed uint64) (Attached, error) {
	if o.Transform == magnitude {
		return (*DoRA)(o.pair()).Attach(l, seed)
	}
	base := l.Weight
	var parts transformed
	turn, err := o.turn(l, seed)
	if err == nil && turn != nil {
		w := &turnedWeight{base: base, transform: turn}
		l.Weight, parts = w, append(parts, w)
	}
	if err == nil && o.Residual != absent {
		var r Attached
		if r, err = o.residual(l, seed); err == nil {
			parts = append(parts, r)
		}
	}
	if err != nil {
		l.Weight = base
		return nil, err
	}
	return parts, nil
}

// turn returns the transform of a layer's inputs; nil for I.
func (o *Transformed) turn(l *nn.Linear, seed uint64) (transform, error) {
	_, in := l.Weight.Dims()
	switch o.Transform {
	case ringed, trained:
		r, err := o.ring(l, "transform", o.Transform, in, in, seed^1)
		if err != nil {
			return nil, err
		}
		return nearIdentity{r}, nil
	case orthogonal:
		if in%o.Block != 0 {
			return nil, fmt.Errorf("adapt: transformed: block %d does not divide the %d inputs of layer %s; the nearest size that does is %d", o.Block, in, l.Name, nearestDivisor(in, o.Block))
		}
		k := grad.NewParam(l.Name+".transform_blocks", tensor.New(in/o.Block, o.Block*(o.Block-1)/2))
		k.Part = grad.Whole
		return &blockRotation{k: k, size: o.Block}, nil
	}
	return nil, nil
}

// residual puts R over the layer's weight.
func (o *Transformed) residual(l *nn.Linear, seed uint64) (Attached, error) {
	if o.Residual == lowRank {
		w, err := o.pair().pair("transformed", l, seed)
		if err != nil {
			return nil, err
		}
		l.Weight = w
		return w, nil
	}
	out, in := l.Weight.Dims()
	r, err := o.ring(l, "residual", o.Residual, out, in, seed^2)
	if err != nil {
		return nil, err
	}
	w := &ringResidual{base: l.Weight, ring: r}
	l.Weight = w
	return w, nil
}

// ring returns a ring or train of a layer that starts at zero.
func (o *Transformed) ring(l *nn.Linear, part, kind string, out, in int, seed uint64) (*ring, error) {
	closing := o.Bond
	if kind == trained {
		closing = 1
	}
	outs, err := modes(out, o.Modes)
	ins, err2 := modes(in, o.Modes)
	if err = errors.Join(err, err2); err != nil {
		return nil, fmt.Errorf("adapt: transformed: layer %s: %w", l.Name, err)
	}
	return newRing(l.Name+"."+part+"_core_", outs, ins, o.Bond, closing, seed), nil
}

// Config implements Options.
func (o *Transformed) Config() map[string]any {
	return map[string]any{"transform": o.Transform, "residual": o.Residual, "r": o.Rank, "lora_alpha": o.Alpha, "modes": o.Modes, "bond": o.Bond, "block": o.Block}
}

// SetConfig implements Options.
func (o *Transformed) SetConfig(c map[string]any) error {
	o.Transform, _ = c["transform"].(string)
	o.Residual, _ = c["residual"].(string)
	o.Rank, o.Alpha = integer(c, "r", 8), number(c, "lora_alpha", 16)
	o.Modes, o.Bond, o.Block = integer(c, "modes", 3), integer(c, "bond", 2), integer(c, "block", 32)
	return nil
}

// transformed is the hold on a layer: the turned weight, what is over it, or both.
type transformed []Attached

func (t transformed) Params() []*grad.Param { return t[len(t)-1].Params() } // the outer holds the inner

func (t transformed) State() (s []Named) {
	for _, part := range t {
		s = append(s, part.State()...)
	}
	return s
}

func (t transformed) Restore(state map[string]*tensor.Tensor) error {
	for _, part := range t {
		if err := part.Restore(state); err != nil {
			return err
		}
	}
	return nil
}

// Unmerge takes the residual away and turns back.
func (t transformed) Unmerge(w *tensor.Tensor) error {
	for _, part := range slices.Backward(t) {
		if err := part.(Unmerger).Unmerge(w); err != nil {
			return err
		}
	}
	return nil
}

// transform is a T: it turns x [n, in] and trains.
type transform interface {
	turn(tp *grad.Tape, x *grad.Value) *grad.Value
	params() []*grad.Param
	state() []Named
}

// nearIdentity is T = I + ring.
type nearIdentity struct{ *ring }

func (t nearIdentity) turn(tp *grad.Tape, x *grad.Value) *grad.Value {
	return tp.AddTo(x, t.times(tp, x))
}

// blockRotation is T = diag(Q_1, …) with Q the Cayley map of a skew-symmetric K.
type blockRotation struct {
	k    *grad.Param // entries above the diagonals [in/size, size·(size − 1)/2]
	size int
}

func (t *blockRotation) turn(tp *grad.Tape, x *grad.Value) *grad.Value {
	return tp.BlockLinear(x, tp.Cayley(tp.Skew(tp.Use(t.k), t.size)), t.k.Value.Dim(0))
}

func (t *blockRotation) params() []*grad.Param { return []*grad.Param{t.k} }

func (t *blockRotation) state() []Named { return []Named{{"transform_blocks", t.k.Value}} }

// turnedWeight is the Weight W T.
type turnedWeight struct {
	base nn.Weight
	transform
}

func (w *turnedWeight) Dims() (out, in int) { return w.base.Dims() }

func (w *turnedWeight) Apply(tp *grad.Tape, x *grad.Value) *grad.Value {
	return w.base.Apply(tp, w.turn(tp, x))
}

// matrix returns Tᵀ [in, in]: T's columns are what it makes of the unit vectors.
func (w *turnedWeight) matrix() *tensor.Tensor {
	_, in := w.Dims()
	return columns(in, w.turn)
}

// columns returns f of the unit vectors, one a row: the transpose of f's matrix.
func columns(in int, f func(tp *grad.Tape, x *grad.Value) *grad.Value) *tensor.Tensor {
	var t *tensor.Tensor
	tp := grad.NewTape(nil)
	tp.NoGrad(func() {
		y := f(tp, tp.Const(unitVectors(in), in, in))
		t = tensor.FromF32(slices.Clone(y.Data), y.Rows, y.Cols)
	})
	tp.Reset()
	return t
}

func (w *turnedWeight) Dense(dst *tensor.Tensor) error {
	plain, err := nn.Materialize(w.base)
	if err != nil {
		return err
	}
	out, in := w.Dims()
	turned := mat.NewDense(out, in, nil)
	turned.Mul(wide(plain.F32(), out, in), wide(w.matrix().F32(), in, in).T())
	copy(dst.F32(), narrow(turned))
	return nil
}

func (w *turnedWeight) Params() []*grad.Param { return append(w.base.Params(), w.params()...) }

func (w *turnedWeight) State() []Named { return w.state() }

func (w *turnedWeight) Restore(state map[string]*tensor.Tensor) error {
	return restoreAll(w.state(), state)
}

func restoreAll(own []Named, state map[string]*tensor.Tensor) error {
	for _, s := range own {
		if err := restore(s.Tensor, state, s.Name); err != nil {
			return err
		}
	}
	return nil
}

// Unmerge solves X T = W T for X, unless T has become singular.
func (w *turnedWeight) Unmerge(t *tensor.Tensor) error {
	out, in := w.Dims()
	var lu mat.LU
	lu.Factorize(wide(w.matrix().F32(), in, in)) // Tᵀ Xᵀ = (W T)ᵀ
	if c := lu.Cond(); c > 1e6 || math.IsNaN(c) {
		return fmt.Errorf("adapt: transformed: the transform cannot be undone: its condition is %.2g", c)
	}
	var x mat.Dense
	if err := lu.SolveTo(&x, false, wide(t.F32(), out, in).T()); err != nil {
		return fmt.Errorf("adapt: transformed: undoing the transform: %w", err)
	}
	copy(t.F32(), narrow(mat.DenseCopyOf(x.T())))
	return nil
}

// ringResidual is a Weight that adds a ring to another.
type ringResidual struct {
	base nn.Weight
	*ring
}

func (w *ringResidual) Dims() (out, in int) { return w.base.Dims() }

func (w *ringResidual) Apply(tp *grad.Tape, x *grad.Value) *grad.Value {
	return tp.AddTo(w.times(tp, x), w.base.Apply(tp, x))
}

func (w *ringResidual) Dense(dst *tensor.Tensor) error {
	if err := w.base.Dense(dst); err != nil {
		return err
	}
	w.addTo(dst, 1)
	return nil
}

// addTo adds sign·R to dst.
func (w *ringResidual) addTo(dst *tensor.Tensor, sign float32) {
	out, in := w.Dims()
	for i, v := range columns(in, w.apply).F32() {
		dst.F32()[i%out*in+i/out] += sign * v
	}
}

func (w *ringResidual) Params() []*grad.Param { return append(w.base.Params(), w.params()...) }

func (w *ringResidual) State() []Named { return w.state() }

func (w *ringResidual) Restore(state map[string]*tensor.Tensor) error {
	return restoreAll(w.state(), state)
}

func (w *ringResidual) Unmerge(t *tensor.Tensor) error {
	w.addTo(t, -1)
	return nil
}
