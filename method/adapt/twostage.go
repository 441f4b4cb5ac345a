package adapt

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"

	"tare/engine/grad"
	"tare/engine/model"
	"tare/engine/nn"
)

// TwoStage removes heads and channels first and tunes what is left with LoRA: the order
// that [ATP] is measured against. Before the first step it looks at batches of the
// training data and scores every group of heads and every channel by
//
//	magnitude:  Σ |W_pj| ‖x_j‖ over the group's columns j of O or Down
//	            (magnitude times activation; Sun et al. 2023, arXiv:2306.11695, An et al. 2023, arXiv:2312.11983)
//	taylor:     Σ_batches |∂L/∂c|, c the factor of the group's output
//	            (the first order of the loss; Ma et al. 2023, LLM-Pruner, arXiv:2305.11627)
//	random:     a random number
//
// over the entries that it costs. The best stay while their entries are at most keep of
// all; with scope layer each block keeps as many heads and channels as the others,
// which magnitudes need, as those of different layers are no measure for one another.
// The others' outputs are multiplied by zero, and [Adapter.Shrink] removes them.
// Trained entries: r·(in + out) a layer, as LoRA. Files hold the pairs, and of each
// layer that takes heads' or channels' outputs the factors, 1 or 0.
type TwoStage struct {
	LoRA    `yaml:",inline"`
	Share   float64 `yaml:"keep" help:"Fraction of the entries of all heads and channels that stay." default:"0.8"`
	Choice  string  `yaml:"choice" help:"What groups are chosen by: magnitude (times activation), taylor or random." default:"magnitude"`
	Scope   string  `yaml:"scope" help:"Where groups compete: layer, for as many in every block, or model." default:"layer"`
	Batches int     `yaml:"batches" help:"Micro-batches to look at." default:"8"`

	removal  *removal
	fromFile bool
}

// NewTwoStage returns the defaults: a fifth leaves, by magnitude times activation.
func NewTwoStage() *TwoStage {
	return &TwoStage{LoRA: *NewLoRA(), Share: 0.8, Choice: "magnitude", Scope: "layer", Batches: 8}
}

// Validate implements Options.
func (o *TwoStage) Validate() error {
	errs := []error{o.LoRA.validate("twostage"), checkShare("twostage", o.Share, o.Scope)}
	if o.Choice != "magnitude" && o.Choice != "taylor" && o.Choice != "random" {
		errs = append(errs, fmt.Errorf("adapt: twostage: choice %q, want magnitude, taylor or random", o.Choice))
	}
	if o.Batches < 1 {
		errs = append(errs, fmt.Errorf("adapt: twostage: batches %d, want at least 1", o.Batches))
	}
	return errors.Join(errs...)
}

// checkShare checks how much stays, and where groups compete.
func checkShare(method string, share float64, scope string) error {
	var errs []error
	if !(share > 0 && share <= 1) {
		errs = append(errs, fmt.Errorf("adapt: %s: keep %g, want above 0 and at most 1", method, share))
	}
	if scope != "layer" && scope != "model" {
		errs = append(errs, fmt.Errorf("adapt: %s: scope %q, want layer or model", method, scope))
	}
	return errors.Join(errs...)
}

// Attach implements Options: the layers must be seen together, so it refuses.
func (o *TwoStage) Attach(l *nn.Linear, seed uint64) (Attached, error) {
	return nil, fmt.Errorf("adapt: twostage: layer %s alone says nothing of the heads and channels it belongs to; use adapt.Attach", l.Name)
}

// Couple implements Coupler.
func (o *TwoStage) Couple(m Model, layers []*nn.Linear, _ uint64) (func(*nn.Linear, uint64) (Attached, error), error) {
	r, err := newRemoval("twostage", m, layers)
	if err != nil {
		return nil, err
	}
	o.removal = r
	return func(l *nn.Linear, seed uint64) (Attached, error) {
		h, err := r.holdPair(&o.LoRA, "twostage", l, seed)
		if err != nil {
			return nil, err
		}
		return h, nil
	}, nil
}

// Config implements Options.
func (o *TwoStage) Config() map[string]any {
	c := o.LoRA.Config()
	c["keep"], c["choice"], c["scope"] = o.Share, o.Choice, o.Scope
	return c
}

// SetConfig implements Options.
func (o *TwoStage) SetConfig(c map[string]any) error {
	o.Share, o.fromFile = number(c, "keep", 0.8), true
	for key, to := range map[string]*string{"choice": &o.Choice, "scope": &o.Scope} {
		if s, ok := c[key].(string); ok {
			*to = s
		}
	}
	return o.setConfig("twostage", c)
}

// Prepare implements Preparer.
func (o *TwoStage) Prepare(ctx context.Context, a *Adapter, s Setup) error {
	if o.fromFile {
		return nil
	}
	score, err := o.score(ctx, s)
	if err != nil {
		return fmt.Errorf("adapt: twostage: %w", err)
	}
	for i, u := range o.removal.units {
		score[i] /= float64(u.cost)
	}
	o.removal.set(o.removal.pick(score, o.Share, o.Scope == "layer"))
	return nil
}

// Keep implements Remover.
func (o *TwoStage) Keep(*Adapter) []model.Keep { return o.removal.keep() }

// Figures implements Figured: what is left.
func (o *TwoStage) Figures(*Adapter) map[string]float64 { return o.removal.figures() }

// score judges every group.
func (o *TwoStage) score(ctx context.Context, s Setup) ([]float64, error) {
	score := make([]float64, len(o.removal.units))
	if o.Choice == "random" {
		rng := rand.New(rand.NewPCG(s.Seed, 0x67726f757073))
		for i, u := range o.removal.units {
			score[i] = rng.Float64() * float64(u.cost)
		}
		return score, nil
	}
	batches, err := s.Batches(o.Batches)
	if err != nil {
		return nil, err
	}
	tp := grad.NewTape(nil)
	tp.Seed(s.Seed)
	if o.Choice == "taylor" {
		params := s.Model.Params()
		for _, b := range batches {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			slopes, err := o.removal.slopes(tp, params, b)
			if err != nil {
				return nil, err
			}
			for i, v := range slopes {
				score[i] += math.Abs(v)
			}
		}
		return score, nil
	}
	squares := o.removal.listen()
	for _, b := range batches {
		if err := ctx.Err(); err != nil {
			break
		}
		tp.NoGrad(func() { b.Loss(tp, 1) })
		tp.Reset()
	}
	o.removal.unlisten()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return score, o.removal.magnitudes(score, squares)
}

// listen makes every gated layer note the sums of squares of its inputs.
func (r *removal) listen() [][]float64 {
	squares := make([][]float64, len(r.gates))
	for g, gate := range r.gates {
		_, in := gate.layer.Weight.Dims()
		sum := make([]float64, in)
		squares[g] = sum
		gate.layer.Weight = listener{gate.layer.Weight, func(x *grad.Value) {
			for i, v := range x.Data {
				sum[i%in] += float64(v) * float64(v)
			}
		}}
	}
	return squares
}

func (r *removal) unlisten() {
	for _, g := range r.gates {
		g.layer.Weight = g.layer.Weight.(listener).Weight
	}
}

// magnitudes sums |W_pj|·‖x_j‖ over the columns of every group.
func (r *removal) magnitudes(score []float64, squares [][]float64) error {
	first := 0 // unit of the gate
	for g, gate := range r.gates {
		w, err := nn.Materialize(gate.layer.Weight)
		if err != nil {
			return err
		}
		in := w.Dim(1)
		for i, v := range w.F32() {
			score[first+i%in/gate.width] += math.Abs(float64(v)) * math.Sqrt(squares[g][i%in])
		}
		first += gate.c.Value.Len()
	}
	return nil
}
