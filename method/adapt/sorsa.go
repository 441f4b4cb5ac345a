package adapt

import (
	"errors"
	"fmt"
	"math"

	"gonum.org/v1/gonum/mat"

	"tare/engine/grad"
	"tare/engine/nn"
	"tare/engine/tensor"
	"tare/engine/train"
)

// SORSA trains the principal singular values and vectors of a weight, holds the vectors
// near orthonormal and freezes the rest (Cao and Song 2024, "SORSA: Singular Values and
// Orthonormal Regularized Singular Vectors Adaptation of Large Language Models",
// arXiv:2409.00055). With W = U S Vᵀ and its r largest triplets U_p, s_p, V_p:
//
//	y = W_r x + U_p (s_p ⊙ V_pᵀ x),   W_r = W − U_p diag(s_p) V_pᵀ of the start
//	loss += γ/η · mean(‖U_pᵀ U_p − I‖_F, ‖V_pᵀ V_p − I‖_F)
//
// The mean is over all 2·layers matrices. γ is the regulariser's own learning rate and
// η the run's peak rate: a gradient step moves U_p by −η ∇loss − γ ∇regulariser, and
// both rates follow one schedule. The mean and γ/η are those of the authors' code, which
// leaves the scale alpha/r of the paper's first version at 1, as here. Without the
// regulariser and with √s_p in both factors this is PiSSA.
//
// The residual is f32 whatever the base is held in; the base itself stays beside it.
// Trained entries: r·(in + out + 1) a layer. The decomposition is exact up to a smaller
// side of 512, randomized beyond. Files hold V_pᵀ, s_p, U_p as sorsa_A, sorsa_S, sorsa_B
// and the same of the start, so that loading decomposes nothing.
type SORSA struct {
	Rank  int     `yaml:"rank" help:"Rank of the principal part." default:"8"`
	Gamma float64 `yaml:"gamma" help:"Learning rate of the regulariser, beside the run's own; 0 leaves it out." default:"0.0004"`

	saved bool // a file will say what the principal part is
}

// NewSORSA returns the defaults: rank 8, γ = 4e-4 as in the authors' code.
func NewSORSA() *SORSA { return &SORSA{Rank: 8, Gamma: 4e-4} }

// Validate implements Options.
func (o *SORSA) Validate() error {
	var errs []error
	if o.Rank < 1 {
		errs = append(errs, fmt.Errorf("adapt: sorsa: rank %d, want at least 1", o.Rank))
	}
	if !(o.Gamma >= 0) || math.IsInf(o.Gamma, 0) {
		errs = append(errs, fmt.Errorf("adapt: sorsa: gamma %g, want 0 or more", o.Gamma))
	}
	return errors.Join(errs...)
}

// Attach implements Options.
func (o *SORSA) Attach(l *nn.Linear, seed uint64) (Attached, error) {
	out, in := l.Weight.Dims()
	if err := checkRank("sorsa", l, o.Rank, min(out, in)); err != nil {
		return nil, err
	}
	residual, err := finite("sorsa", l)
	if err != nil {
		return nil, err
	}
	v, s, u := tensor.New(o.Rank, in), tensor.New(o.Rank), tensor.New(out, o.Rank)
	if !o.saved {
		um, sigma, vm, err := principal(residual, o.Rank, seed)
		if err != nil {
			return nil, fmt.Errorf("adapt: sorsa: layer %s: %w", l.Name, err)
		}
		copy(u.F32(), narrow(um))
		copy(v.F32(), narrow(mat.DenseCopyOf(vm.T())))
		for k, x := range sigma {
			s.F32()[k] = float32(x)
		}
	}
	w := &sorsaWeight{residual: residual, ada: triplets(l.Name+".sorsa_", v, s, u), start: triplets("", v.Clone(), s.Clone(), u.Clone())}
	w.p.Part, w.e.Part, w.q.Part = grad.Whole, grad.Whole, grad.Whole
	if err := w.start.addDelta(residual, -1); err != nil {
		return nil, err
	}
	w.base = nn.NewDense(l.Name+".weight", residual)
	l.Weight = w
	return w, nil
}

// triplets returns U diag(s) Vᵀ with V given by its rows, unscaled and over no base yet.
func triplets(prefix string, v, s, u *tensor.Tensor) *ada {
	return &ada{scale: 1, q: grad.NewParam(prefix+"A", v), e: grad.NewParam(prefix+"S", s), p: grad.NewParam(prefix+"B", u)}
}

// Config implements Options.
func (o *SORSA) Config() map[string]any { return map[string]any{"r": o.Rank, "gamma": o.Gamma} }

// SetConfig implements Options.
func (o *SORSA) SetConfig(c map[string]any) error {
	o.Rank, o.Gamma, o.saved = integer(c, "r", 8), number(c, "gamma", 0), true
	return nil
}

// sorsaWeight adds triplets to the residual and knows which it started from.
type sorsaWeight struct {
	*ada
	residual *tensor.Tensor // the base's
	start    *ada
}

func (w *sorsaWeight) State() []Named {
	return []Named{
		{"sorsa_A", w.q.Value}, {"sorsa_S", w.e.Value}, {"sorsa_B", w.p.Value},
		{"sorsa_A_start", w.start.q.Value}, {"sorsa_S_start", w.start.e.Value}, {"sorsa_B_start", w.start.p.Value},
	}
}

// Restore takes the triplets, and the residual that those of the file's start leave.
func (w *sorsaWeight) Restore(state map[string]*tensor.Tensor) error {
	if err := w.start.addDelta(w.residual, 1); err != nil {
		return err
	}
	for _, s := range w.State() {
		if err := restore(s.Tensor, state, s.Name); err != nil {
			return err
		}
	}
	return w.start.addDelta(w.residual, -1)
}

// Unmerge takes the trained triplets away and puts those of the start in their place.
func (w *sorsaWeight) Unmerge(t *tensor.Tensor) error {
	if err := w.addDelta(t, -1); err != nil {
		return err
	}
	return w.start.addDelta(t, 1)
}

// Hooks implements Hooked.
func (o *SORSA) Hooks(a *Adapter, _ Setup) []any {
	if o.Gamma == 0 {
		return nil
	}
	return []any{&orthonormalizer{gamma: o.Gamma, holds: a.Holds}}
}

// orthonormalizer is SORSA's regulariser.
type orthonormalizer struct {
	gamma float64
	holds []Attached
}

// Penalty implements train.Penalizer.
func (r *orthonormalizer) Penalty(l *train.Loop, tp *grad.Tape) *grad.Value {
	return tp.Scale(deviation(tp, r.holds), float32(r.gamma/l.Options.LR))
}

// deviation returns the mean of ‖U_pᵀ U_p − I‖_F and ‖V_pᵀ V_p − I‖_F [1, 1]. The root
// bends at rounding's size, so that it has a slope at exactly orthonormal vectors.
func deviation(tp *grad.Tape, holds []Attached) *grad.Value {
	const rounding = 1e-12
	var sum *grad.Value
	for _, h := range holds {
		w := h.(*sorsaWeight)
		u, v := tp.Use(w.p), tp.Use(w.q)
		for _, gram := range []*grad.Value{tp.MatMul(u, u, true, false), tp.MatMul(v, v, false, true)} {
			r := gram.Rows
			identity := make([]float32, r*r)
			for k := range r {
				identity[k*r+k] = 1
			}
			d := tp.Sub(gram, tp.Const(identity, r, r))
			term := tp.Sqrt(tp.Add(tp.Sum(tp.Mul(d, d)), tp.Const([]float32{rounding}, 1, 1)))
			if sum != nil {
				term = tp.Add(sum, term)
			}
			sum = term
		}
	}
	return tp.Scale(sum, 1/float32(2*len(holds)))
}

// Figures implements Figured: how far the vectors are from orthonormal.
func (o *SORSA) Figures(a *Adapter) map[string]float64 {
	var d float64
	tp := grad.NewTape(nil)
	tp.NoGrad(func() { d = float64(deviation(tp, a.Holds).Data[0]) })
	tp.Reset()
	return map[string]float64{"deviation from orthonormality": d, "regulariser's rate": o.Gamma}
}
