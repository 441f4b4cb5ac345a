package adapt

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"

	"tare/engine/grad"
	"tare/engine/nn"
	"tare/engine/tensor"
	"tare/engine/train"
)

// Magnitude trains whole matrices and prunes them: the costly tuning of sparse models
// that [DSEE] is measured against. In one of rounds cuts, spread evenly up to prune_at
// of the steps, cut k leaves the largest |W| of all layers together,
//
//	a fraction (1 − sparsity)^(k/rounds),
//
// and what it sets to zero stays zero. One round is pruning once in the middle of
// tuning; several are iterative magnitude pruning (Han et al. 2015, arXiv:1506.02626),
// where survivors go on from where they are; they are not rewound, which would spend
// the same steps several times. Trained entries: in·out a layer. Files hold the matrices.
type Magnitude struct {
	Sparsity float64 `yaml:"sparsity" help:"Fraction of the entries that are zero in the end." default:"0.5"`
	Rounds   int     `yaml:"rounds" help:"Cuts that it takes to get there." default:"1"`
	PruneAt  float64 `yaml:"prune_at" help:"Fraction of the steps at which the last cut is made." default:"0.5"`

	fromFile bool
}

// NewMagnitude returns the defaults: half of the entries, pruned once at half of the
// steps.
func NewMagnitude() *Magnitude { return &Magnitude{Sparsity: 0.5, Rounds: 1, PruneAt: 0.5} }

// Validate implements Options.
func (o *Magnitude) Validate() error {
	var errs []error
	if !(o.Sparsity >= 0 && o.Sparsity < 1) {
		errs = append(errs, fmt.Errorf("adapt: magnitude: sparsity %g, want 0 up to but not including 1", o.Sparsity))
	}
	if o.Rounds < 1 {
		errs = append(errs, fmt.Errorf("adapt: magnitude: rounds %d, want at least 1", o.Rounds))
	}
	if !(o.PruneAt > 0 && o.PruneAt <= 1) {
		errs = append(errs, fmt.Errorf("adapt: magnitude: prune_at %g, want above 0 and at most 1", o.PruneAt))
	}
	return errors.Join(errs...)
}

// Attach implements Options.
func (o *Magnitude) Attach(l *nn.Linear, _ uint64) (Attached, error) {
	s, err := newSparse("magnitude", l)
	if err != nil {
		return nil, err
	}
	s.p.Part = grad.Whole
	return &wholeMatrix{s.p}, nil
}

// Config implements Options.
func (o *Magnitude) Config() map[string]any {
	return map[string]any{"sparsity": o.Sparsity, "rounds": o.Rounds}
}

// SetConfig implements Options.
func (o *Magnitude) SetConfig(c map[string]any) error {
	o.Sparsity, o.Rounds, o.fromFile = number(c, "sparsity", 0.5), integer(c, "rounds", 1), true
	return nil
}

// Hooks implements Hooked.
func (o *Magnitude) Hooks(a *Adapter, s Setup) []any {
	if o.fromFile || o.Sparsity == 0 {
		return nil
	}
	h := &cutting{o: o, steps: s.Steps}
	for _, hold := range a.Holds {
		h.ps = append(h.ps, hold.(*wholeMatrix).p)
	}
	return []any{h}
}

// Figures implements Figured: what is left.
func (o *Magnitude) Figures(a *Adapter) map[string]float64 { return zeroFigures(a) }

// wholeMatrix is a hold on a dense weight that trains whole.
type wholeMatrix struct{ p *grad.Param }

func (h *wholeMatrix) weight() *grad.Param { return h.p }

func (h *wholeMatrix) Params() []*grad.Param { return []*grad.Param{h.p} }

func (h *wholeMatrix) State() []Named { return []Named{{"weight", h.p.Value}} }

func (h *wholeMatrix) Restore(state map[string]*tensor.Tensor) error {
	return restore(h.p.Value, state, "weight")
}

// cutting is Magnitude's hook in the loop.
type cutting struct {
	o     *Magnitude
	ps    []*grad.Param
	steps int
	cuts  int      // made so far
	zero  [][]bool // entries that stay zero; nil before the first cut
}

// EndStep implements train.StepEnder.
func (h *cutting) EndStep(l *train.Loop) error {
	for i, zero := range h.zero {
		w := h.ps[i].Value.F32()
		for at, z := range zero {
			if z {
				w[at] = 0
			}
		}
	}
	for h.cuts < h.o.Rounds && l.Step >= h.due(h.cuts+1) {
		h.cuts++
		h.cut(1 - math.Pow(1-h.o.Sparsity, float64(h.cuts)/float64(h.o.Rounds)))
	}
	return nil
}

// due returns the step of cut k.
func (h *cutting) due(k int) int {
	return max(1, int(h.o.PruneAt*float64(h.steps)*float64(k)/float64(h.o.Rounds)+1e-9))
}

// cut sets the smallest entries to zero, that share of all.
func (h *cutting) cut(share float64) {
	var all []float32
	for _, p := range h.ps {
		all = append(all, magnitudes(p.Value.F32())...)
	}
	keep := max(1, int(math.Round((1-share)*float64(len(all)))))
	least := nthLargest(all, keep)
	for _, p := range h.ps {
		for i, v := range p.Value.F32() {
			if max(v, -v) < least {
				p.Value.F32()[i] = 0
			}
		}
	}
	h.note()
}

// note remembers what is zero.
func (h *cutting) note() {
	h.zero = nil
	for _, p := range h.ps {
		zero := make([]bool, p.Value.Len())
		for i, v := range p.Value.F32() {
			zero[i] = v == 0
		}
		h.zero = append(h.zero, zero)
	}
}

// HookName implements train.Stateful.
func (h *cutting) HookName() string { return "magnitude" }

// HookState implements train.Stateful.
func (h *cutting) HookState() ([]byte, error) { return json.Marshal(h.cuts) }

// RestoreHook implements train.Stateful: the matrices have been restored, and their
// zeros are the entries that have been cut.
func (h *cutting) RestoreHook(state []byte) error {
	if err := json.Unmarshal(state, &h.cuts); err != nil {
		return fmt.Errorf("adapt: magnitude: saved state: %w", err)
	}
	if h.cuts > 0 {
		h.note()
	}
	return nil
}
