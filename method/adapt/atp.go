package adapt

import (
	"context"
	"errors"
	"fmt"
	"math"

	"tare/engine/model"
	"tare/engine/nn"
	"tare/engine/train"
)

// ATP tunes and prunes at once: while LoRA trains, a small network learns which heads
// and channels the tuned model can do without (Lu et al. 2024, "All-in-One Tuning and
// Structural Pruning for Domain-Specific LLMs", arXiv:2412.14426):
//
//	y = (W + s·B A)(m ⊙ x),   m ∈ {0, 1} for each group of heads and each channel
//	generator:  min over θ of  L(m(θ)) + λ·log(max(T, p·T₀)/min(T, p·T₀)),  T = Σ m_g·cost_g
//	pairs:      min over A, B of  L + ρ_t·Σ over groups with m = 0 of ‖rows of B, columns of A‖₂
//
// m stands on the inputs of o and down, which is where a group's output passes; base
// and pair are masked alike. How decisions are made and learned is in
// atp_generator.go. Both problems take turns in every step, the generator on batches set
// aside. After freeze of the steps the
// decision is final: the groups of highest logit whose entries are at most p of all
// (p = keep). The group lasso is a proximal step after the optimizer's, its weight ρ
// growing linearly; the last step sets what it has shrunk to zero exactly.
//
// Trained entries: r·(in + out) a layer, and until the decision the generator's (see
// there). Files hold the pairs and each gate's m. Adapter.Shrink writes m into the
// model's shape. With keep = 1 this is LoRA.
type ATP struct {
	LoRA    `yaml:",inline"`
	Share   float64 `yaml:"keep" help:"Fraction of the entries of all heads and channels that stay." default:"0.8"`
	Scope   string  `yaml:"scope" help:"Where groups compete in the final decision: model, or layer for as many in every block." default:"model"`
	Freeze  float64 `yaml:"freeze" help:"Fraction of the steps after which the decision is final." default:"0.4"`
	Lambda  float64 `yaml:"lambda" help:"Weight of the penalty for keeping more or fewer entries than asked for." default:"1"`
	Lasso   float64 `yaml:"lasso" help:"Weight that the group lasso on what is masked grows to." default:"1"`
	Tau     float64 `yaml:"tau" help:"Temperature of the decisions." default:"0.4"`
	Hidden  int     `yaml:"hidden" help:"Width of the generator." default:"32"`
	Batches int     `yaml:"batches" help:"Micro-batches set aside for the generator." default:"16"`

	removal   *removal
	aside     []train.Batch // the generator's
	generator *generator    // nil where everything stays, or a file says what does
	holds     map[*nn.Linear]*gatedHold
	fromFile  bool
}

// NewATP returns the defaults: a fifth of the blocks' entries leaves; τ is the paper's.
func NewATP() *ATP {
	return &ATP{LoRA: *NewLoRA(), Share: 0.8, Scope: "model", Freeze: 0.4, Lambda: 1, Lasso: 1, Tau: 0.4, Hidden: 32, Batches: 16}
}

// Validate implements Options.
func (o *ATP) Validate() error {
	errs := []error{o.LoRA.validate("atp"), checkShare("atp", o.Share, o.Scope)}
	say := func(format string, args ...any) { errs = append(errs, fmt.Errorf("adapt: atp: "+format, args...)) }
	if !(o.Freeze > 0 && o.Freeze <= 1) {
		say("freeze %g, want above 0 and at most 1", o.Freeze)
	}
	if o.Hidden < 1 || o.Batches < 1 {
		say("hidden %d and batches %d, want at least 1", o.Hidden, o.Batches)
	}
	if !(o.Lambda >= 0 && o.Lasso >= 0) || math.IsInf(o.Lambda+o.Lasso, 0) {
		say("lambda %g and lasso %g, want 0 or more", o.Lambda, o.Lasso)
	}
	if !(o.Tau > 0) || math.IsInf(o.Tau, 0) {
		say("tau %g, want a positive number", o.Tau)
	}
	return errors.Join(errs...)
}

// Attach implements Options: the layers must be seen together, so it refuses.
func (o *ATP) Attach(l *nn.Linear, seed uint64) (Attached, error) {
	return nil, fmt.Errorf("adapt: atp: layer %s alone says nothing of the heads and channels it belongs to; use adapt.Attach", l.Name)
}

// Couple implements Coupler.
func (o *ATP) Couple(m Model, layers []*nn.Linear, seed uint64) (func(*nn.Linear, uint64) (Attached, error), error) {
	r, err := newRemoval("atp", m, layers)
	if err != nil {
		return nil, err
	}
	o.removal, o.generator, o.holds = r, nil, map[*nn.Linear]*gatedHold{}
	if o.Share < 1 && !o.fromFile {
		o.generator = newGenerator(r, o.Hidden, seed)
	}
	return func(l *nn.Linear, seed uint64) (Attached, error) {
		h, err := r.holdPair(&o.LoRA, "atp", l, seed)
		if err != nil {
			return nil, err
		}
		if l == r.gates[0].layer && o.generator != nil { // the model trains what its layers hold
			l.Weight.(*gated).extra = o.generator.params()
		}
		o.holds[l] = h
		return h, nil
	}, nil
}

// Prepare implements Preparer: it sets the generator's batches aside, the first of the
// training data.
func (o *ATP) Prepare(_ context.Context, _ *Adapter, s Setup) (err error) {
	if o.generator != nil {
		o.aside, err = s.Batches(o.Batches)
	}
	return err
}

// Config implements Options.
func (o *ATP) Config() map[string]any {
	c := o.LoRA.Config()
	c["keep"], c["scope"] = o.Share, o.Scope
	return c
}

// SetConfig implements Options.
func (o *ATP) SetConfig(c map[string]any) error {
	o.Share, o.fromFile = number(c, "keep", 0.8), true
	if s, ok := c["scope"].(string); ok {
		o.Scope = s
	}
	return o.setConfig("atp", c)
}

// Keep implements Remover.
func (o *ATP) Keep(*Adapter) []model.Keep { return o.removal.keep() }

// Figures implements Figured: what is left.
func (o *ATP) Figures(*Adapter) map[string]float64 { return o.removal.figures() }

// shrinkGroups takes the proximal step of the group lasso: the norm of what the pairs
// add to a group whose gate is closed falls by amount, to 0 at the least.
//
//	v ← v·max(0, 1 − amount/‖v‖₂)
func (o *ATP) shrinkGroups(amount float64) {
	for g, gate := range o.removal.gates {
		b := o.removal.blocks[g/2]
		outputs := b.Up
		if g%2 == 0 {
			outputs = []*nn.Linear{b.Q, b.K, b.V}
		}
		for at, c := range gate.c.Value.F32() {
			if c != 0 {
				continue
			}
			for _, l := range outputs {
				p := o.holds[l].b.Value // rows of B [out, r]
				n := p.Len() / gate.c.Value.Len()
				shrinkNorm([][]float32{p.F32()[at*n : (at+1)*n]}, amount)
			}
			a := o.holds[gate.layer].a.Value // columns of A [r, in]
			in, columns := a.Dim(1), [][]float32(nil)
			for k := range a.Dim(0) {
				columns = append(columns, a.F32()[k*in+at*gate.width:k*in+(at+1)*gate.width])
			}
			shrinkNorm(columns, amount)
		}
	}
}

// shrinkNorm shrinks a vector that lies in pieces.
func shrinkNorm(v [][]float32, amount float64) {
	var squares float64
	for _, piece := range v {
		for _, x := range piece {
			squares += float64(x) * float64(x)
		}
	}
	factor := float32(0)
	if norm := math.Sqrt(squares); norm > amount {
		factor = float32(1 - amount/norm)
	}
	for _, piece := range v {
		for i := range piece {
			piece[i] *= factor
		}
	}
}
