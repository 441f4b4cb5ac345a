package adapt

import (
	"errors"
	"fmt"
	"math/rand/v2"

	"tare/engine/checkpoint"
	"tare/engine/grad"
	"tare/engine/nn"
	"tare/engine/tensor"
)

// LoRAXS trains a small square matrix between two frozen factors that span the principal
// part of the weight (Bałazy et al. 2024, "LoRA-XS: Low-Rank Adaptation with Extremely
// Small Number of Parameters", arXiv:2405.17604). With W ≈ U_r S_r V_rᵀ and s = alpha/r:
//
//	y = W x + s·B R A x,   A = S_r V_rᵀ [r, in],   B = U_r [out, r],   R [r, r]
//
// R starts Gaussian with deviation 1e-5, so that the start is the base up to about that.
// Trained entries: r² a layer; A and B take as much room as LoRA's and have no gradient.
// Files hold A, B and R. The singular values stand on A as in the authors' code.
type LoRAXS struct {
	Rank    int     `yaml:"rank" help:"Side of the square matrix that trains." default:"16"`
	Alpha   float64 `yaml:"alpha" help:"Scale numerator; the update is scaled by alpha/rank." default:"16"`
	Dropout float64 `yaml:"dropout" help:"Probability of dropping an input of the update."`

	stored bool // a file brings the factors
}

// NewLoRAXS returns the defaults: rank 16, alpha 16.
func NewLoRAXS() *LoRAXS { return &LoRAXS{Rank: 16, Alpha: 16} }

// xsDeviation is that of R's entries at the start.
const xsDeviation = 1e-5

// Validate implements Options.
func (o *LoRAXS) Validate() error {
	return (&LoRA{Rank: o.Rank, Alpha: o.Alpha, Dropout: o.Dropout}).validate("lora-xs")
}

// Attach implements Options.
func (o *LoRAXS) Attach(l *nn.Linear, seed uint64) (Attached, error) {
	w, err := newCoreWeight("lora-xs", l, o.Rank)
	if err != nil {
		return nil, err
	}
	w.scale, w.dropout = float32(o.Alpha/float64(o.Rank)), float32(o.Dropout)
	if !o.stored {
		if err := w.principalFactors(l, seed); err != nil {
			return nil, fmt.Errorf("adapt: lora-xs: layer %s: %w", l.Name, err)
		}
	}
	rng := rand.New(rand.NewPCG(seed, 0))
	for i := range w.r.Value.F32() {
		w.r.Value.F32()[i] = float32(xsDeviation * rng.NormFloat64())
	}
	l.Weight = w
	return w, nil
}

// principalFactors sets A and B from the layer's weight.
func (w *coreWeight) principalFactors(l *nn.Linear, seed uint64) error {
	t, err := nn.Materialize(l.Weight)
	if err != nil {
		return err
	}
	if at := t.FirstNonFinite(); at >= 0 {
		return fmt.Errorf("entry %d is NaN or Inf: %w", at, checkpoint.ErrNonFinite)
	}
	u, s, v, err := principal(t, w.rank(), seed)
	if err != nil {
		return err
	}
	copy(w.b.Value.F32(), narrow(u))
	in := w.a.Value.Dim(1)
	for k, x := range s {
		for i := range in {
			w.a.Value.F32()[k*in+i] = float32(x * v.At(i, k))
		}
	}
	return nil
}

// Config implements Options.
func (o *LoRAXS) Config() map[string]any {
	return map[string]any{"r": o.Rank, "lora_alpha": o.Alpha, "lora_dropout": o.Dropout}
}

// SetConfig implements Options.
func (o *LoRAXS) SetConfig(c map[string]any) error {
	o.Rank, o.Alpha, o.Dropout, o.stored = integer(c, "r", 16), number(c, "lora_alpha", 16), number(c, "lora_dropout", 0), true
	return nil
}

// coreWeight is a Weight that adds s·B R A to another, of which R trains.
type coreWeight struct {
	base           nn.Weight
	a, b, r        *grad.Param // A [r, in], B [out, r], R [r, r]
	scale, dropout float32
}

// newCoreWeight returns a weight whose factors and core are zero.
func newCoreWeight(method string, l *nn.Linear, r int) (*coreWeight, error) {
	out, in := l.Weight.Dims()
	if err := checkRank(method, l, r, min(out, in)); err != nil {
		return nil, err
	}
	w := &coreWeight{
		base: l.Weight, scale: 1,
		a: grad.NewParam(l.Name+".lora_A.weight", tensor.New(r, in)), b: grad.NewParam(l.Name+".lora_B.weight", tensor.New(out, r)),
		r: grad.NewParam(l.Name+".lora_R.weight", tensor.New(r, r)),
	}
	w.r.Part = grad.Whole
	return w, nil
}

func (w *coreWeight) rank() int { return w.r.Value.Dim(0) }

func (w *coreWeight) Dims() (out, in int) { return w.base.Dims() }

func (w *coreWeight) Apply(tp *grad.Tape, x *grad.Value) *grad.Value {
	y := w.base.Apply(tp, x)
	z := tp.Linear(tp.Linear(tp.Dropout(x, w.dropout), w.a), w.r) // R A x [n, r], of which A x is kept
	return tp.AddLinear(y, z, w.b, w.scale)                       // y + s·B R A x
}

func (w *coreWeight) Dense(dst *tensor.Tensor) error {
	if err := w.base.Dense(dst); err != nil {
		return err
	}
	return w.addDelta(dst, w.scale)
}

func (w *coreWeight) addDelta(dst *tensor.Tensor, scale float32) error {
	br := tensor.New(w.b.Value.Shape()...) // B R
	return errors.Join(addProduct(br, w.b.Value, w.r.Value, 1), addProduct(dst, br, w.a.Value, scale))
}

func (w *coreWeight) Unmerge(t *tensor.Tensor) error { return w.addDelta(t, -w.scale) }

func (w *coreWeight) Params() []*grad.Param { return append(w.base.Params(), w.a, w.b, w.r) }

func (w *coreWeight) State() []Named {
	return []Named{{"lora_A.weight", w.a.Value}, {"lora_B.weight", w.b.Value}, {"lora_R.weight", w.r.Value}}
}

func (w *coreWeight) Restore(state map[string]*tensor.Tensor) error {
	return errors.Join(restore(w.a.Value, state, "lora_A.weight"), restore(w.b.Value, state, "lora_B.weight"), restore(w.r.Value, state, "lora_R.weight"))
}
