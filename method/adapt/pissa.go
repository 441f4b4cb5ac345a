package adapt

import (
	"errors"
	"fmt"
	"math"

	"gonum.org/v1/gonum/mat"

	"tare/engine/nn"
	"tare/engine/tensor"
)

// PiSSA trains the principal part of a weight and freezes the rest (Meng et al. 2024,
// "PiSSA: Principal Singular Values and Singular Vectors Adaptation of Large Language
// Models", arXiv:2404.02948). With W = U S Vᵀ and s = alpha/r:
//
//	y = W' x + s·B A x,   A = √(S_r/s) V_rᵀ [r, in],   B = U_r √(S_r/s) [out, r]
//
// where the residual W' = W − s·B A of the start is frozen, in f32 whatever the base
// is held in; the base itself stays beside it. Trained entries: r·(in + out) a layer.
// The decomposition is exact up to a smaller side of 512, randomized beyond.
//
// Files are plain LoRA of rank 2r, as PEFT converts them, so that they fit the base
// without its decomposition; A₀ and B₀ are the start's:
//
//	ΔW = s·(B A − B₀ A₀) = s·[B, −B₀] [A; A₀]
//
// Loading such a file gives a LoRA of rank 2r, all of which trains. Files that hold A
// and B alone (init_lora_weights "pissa") are read as PiSSA; a dropout that they name
// is left out, since it would drop principal parts of W.
type PiSSA struct {
	Rank  int     `yaml:"rank" help:"Rank of the principal part." default:"8"`
	Alpha float64 `yaml:"alpha" help:"Scale numerator; the trained part is scaled by alpha/rank. 0 means the rank, as in the paper." default:"0"`
}

// NewPiSSA returns the defaults: rank 8, alpha the rank.
func NewPiSSA() *PiSSA { return &PiSSA{Rank: 8} }

// Validate implements Options.
func (o *PiSSA) Validate() error {
	var errs []error
	if o.Rank < 1 {
		errs = append(errs, fmt.Errorf("adapt: pissa: rank %d, want at least 1", o.Rank))
	}
	if !(o.Alpha >= 0) || math.IsInf(o.Alpha, 0) {
		errs = append(errs, fmt.Errorf("adapt: pissa: alpha %g, want a positive number, or 0 for the rank", o.Alpha))
	}
	return errors.Join(errs...)
}

func (o *PiSSA) alpha() float64 {
	if o.Alpha == 0 {
		return float64(o.Rank)
	}
	return o.Alpha
}

// Attach implements Options.
func (o *PiSSA) Attach(l *nn.Linear, seed uint64) (Attached, error) {
	out, in := l.Weight.Dims()
	if err := checkRank("pissa", l, o.Rank, min(out, in)); err != nil {
		return nil, err
	}
	residual, err := finite("pissa", l)
	if err != nil {
		return nil, err
	}
	u, sigma, v, err := principal(residual, o.Rank, seed)
	if err != nil {
		return nil, fmt.Errorf("adapt: pissa: layer %s: %w", l.Name, err)
	}
	scale := o.alpha() / float64(o.Rank)
	root := mat.NewDiagDense(o.Rank, nil) // √(S_r/s)
	for k, x := range sigma {
		root.SetDiag(k, math.Sqrt(x/scale))
	}
	var am, bm mat.Dense
	am.Mul(root, v.T())
	bm.Mul(u, root)
	a, b := tensor.FromF32(narrow(&am), o.Rank, in), tensor.FromF32(narrow(&bm), out, o.Rank)
	w := &pissaWeight{loraWeight: newLoRAWeight(l, a, b, float32(scale), 0), a0: a.Clone(), b0: b.Clone()}
	if err := addProduct(residual, b, a, -w.scale); err != nil {
		return nil, err
	}
	w.base = nn.NewDense(l.Name+".weight", residual)
	l.Weight = w
	return w, nil
}

// Config implements Options: that of the LoRA which the file holds.
func (o *PiSSA) Config() map[string]any {
	return (&LoRA{Rank: 2 * o.Rank, Alpha: 2 * o.alpha()}).Config()
}

// SetConfig implements Options. It takes files that hold A and B alone; those that
// Save writes are LoRA's.
func (o *PiSSA) SetConfig(c map[string]any) error {
	if c["init_lora_weights"] != "pissa" || truth(c, "use_dora") {
		return errors.New(`adapt: pissa: init_lora_weights is not "pissa", or use_dora is set`)
	}
	var file LoRA
	if err := file.setConfig("pissa", c); err != nil {
		return err
	}
	if len(file.RankPattern)+len(file.AlphaPattern) > 0 {
		return errors.New("adapt: pissa: rank_pattern or alpha_pattern is set, which is not supported; save the adapter as the LoRA that it converts to")
	}
	o.Rank, o.Alpha = file.Rank, file.Alpha
	if file.RSLoRA { // alpha/√r = (alpha·√r)/r
		o.Alpha *= math.Sqrt(float64(max(file.Rank, 0)))
	}
	return nil
}

// pissaWeight is a loraWeight over the residual, which knows where it started.
type pissaWeight struct {
	*loraWeight
	a0, b0 *tensor.Tensor
}

// State returns the change against the plain base, [A; A₀] and [B, −B₀].
func (w *pissaWeight) State() []Named {
	r, in, out := w.a0.Dim(0), w.a0.Dim(1), w.b0.Dim(0)
	a, b := tensor.New(2*r, in), tensor.New(out, 2*r)
	copy(a.F32(), w.a.Value.F32())
	copy(a.F32()[r*in:], w.a0.F32())
	for p := range out {
		row := b.F32()[2*r*p : 2*r*(p+1)]
		copy(row, w.b.Value.F32()[r*p:r*(p+1)])
		for k, v := range w.b0.F32()[r*p : r*(p+1)] {
			row[r+k] = -v
		}
	}
	return []Named{{"lora_A.weight", a}, {"lora_B.weight", b}}
}

// Unmerge takes s·(B A − B₀ A₀) away.
func (w *pissaWeight) Unmerge(t *tensor.Tensor) error {
	if err := w.loraWeight.Unmerge(t); err != nil {
		return err
	}
	return addProduct(t, w.b0, w.a0, w.scale)
}
