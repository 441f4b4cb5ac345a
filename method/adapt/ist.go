package adapt

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"tare/engine/model"
	"tare/engine/nn"
)

// IST trains the adapters of a few layers at each step, more often those of layers that
// have turned out to matter (Yao et al. 2024, "Layer-wise Importance Matters: Less
// Memory for Better Performance in Parameter-efficient Fine-tuning of Large Language
// Models", arXiv:2410.11772). It goes over any method that acts layer by layer: over
// names it, and options that are not IST's own are that method's.
//
// Each of the N layers (a transformer's blocks) has a score a_i from 0, high where it
// does not matter, and p_i = σ(a_i). A step draws N_u layers with weights 1 − p_i; the
// adapters of the others are frozen in it, so that they have no gradient, keep no
// activations, and their optimizer state waits. How the scores are learnt is in
// ist_scores.go. Adapters of layers outside the blocks, such as a head, train always.
//
// Trained entries and files are those of the method below. As in the authors' code N_u
// is N/4 and N_v N/2, rounded down; here at least 1. A method that trains the weight in
// place keeps a copy of its trained entries as they started, to weaken what was learnt.
type IST struct {
	Over     string  `yaml:"over" help:"The method that it goes over: bat, bone, dora, eva, lora, paca, pissa, sparse." default:"lora"`
	Train    int     `yaml:"train_layers" help:"Layers of which the adapters train in a step; 0 for a quarter of them." default:"0"`
	Suppress int     `yaml:"suppress_layers" help:"Layers of which the adapters are weakened to see what they are worth; 0 for half of them." default:"0"`
	To       float64 `yaml:"suppress_to" help:"What is left of a weakened adapter, as a fraction." default:"0.25"`
	Sets     int     `yaml:"sets" help:"Choices of weakened layers that are compared for one update of the scores." default:"3"`
	Every    int     `yaml:"score_every" help:"Steps between updates of the scores." default:"10"`
	Rate     float64 `yaml:"score_rate" help:"Rate of the scores' updates." default:"10"`
	Uniform  bool    `yaml:"uniform" help:"Learn no scores: draw all layers alike."`

	// Inner holds the settings of the method that it goes over; nil for its defaults.
	Inner Options `yaml:"-"`

	layers []*istLayer // of the model that it is attached to, from Prepare on
}

// istLayer is what IST knows of a layer.
type istLayer struct {
	name  string
	holds []Attached
	score float64
}

// NewIST returns the defaults, the authors': over LoRA, a quarter of the layers at each
// step.
func NewIST() *IST { return &IST{Over: "lora", To: 0.25, Sets: 3, Every: 10, Rate: 10} }

// Outer is an Options that goes over another method, whose settings stand among its own.
type Outer interface {
	// Inside returns the settings of the method below, to be read and set.
	Inside() (Options, error)
}

// Inside implements Outer.
func (o *IST) Inside() (Options, error) {
	if o.Inner != nil {
		return o.Inner, nil
	}
	var fit []string
	for _, m := range Methods() {
		if below := m.New(); layerwise(below) {
			if m.Name == o.Over {
				o.Inner = below
				return below, nil
			}
			fit = append(fit, m.Name)
		}
	}
	return nil, fmt.Errorf("adapt: ist: it cannot go over %q, but over methods that act layer by layer: %s", o.Over, strings.Join(fit, ", "))
}

// layerwise reports whether what a method does to one layer has nothing to do with the
// others, nor changes between steps.
func layerwise(o Options) bool {
	_, couples := o.(Coupler)
	_, hooks := o.(Hooked)
	_, more := o.(Companion)
	return !couples && !hooks && !more
}

// Validate implements Options.
func (o *IST) Validate() error {
	var errs []error
	say := func(format string, args ...any) { errs = append(errs, fmt.Errorf("adapt: ist: "+format, args...)) }
	if o.Train < 0 || o.Suppress < 0 {
		say("train_layers %d and suppress_layers %d, want 0 or more", o.Train, o.Suppress)
	}
	if !(o.To >= 0 && o.To < 1) {
		say("suppress_to %g, want 0 up to but not including 1", o.To)
	}
	if o.Sets < 2 && !o.Uniform {
		say("sets %d, want at least 2 to compare", o.Sets)
	}
	if o.Every < 1 {
		say("score_every %d, want at least 1", o.Every)
	}
	if !(o.Rate >= 0) || math.IsInf(o.Rate, 0) {
		say("score_rate %g, want 0 or more", o.Rate)
	}
	below, err := o.Inside()
	if err == nil {
		err = below.Validate()
	}
	return errors.Join(append(errs, err)...)
}

// DefaultTargets implements Targeter.
func (o *IST) DefaultTargets(m Model) []string {
	if below, err := o.Inside(); err == nil {
		if t, ok := below.(Targeter); ok {
			return t.DefaultTargets(m)
		}
	}
	return nil
}

// Attach implements Options.
func (o *IST) Attach(l *nn.Linear, seed uint64) (Attached, error) {
	below, err := o.Inside()
	if err != nil {
		return nil, err
	}
	hold, err := below.Attach(l, seed)
	if err != nil {
		return nil, err
	}
	if _, ok := hold.(Scaler); !ok && hold != nil && !o.Uniform {
		return nil, fmt.Errorf("adapt: ist: what %s has learnt cannot be weakened; with uniform the layers are drawn without scores", o.Over)
	}
	return hold, nil
}

// Config implements Options: that of the method below, whose files it writes.
func (o *IST) Config() map[string]any {
	below, err := o.Inside()
	if err != nil {
		return nil
	}
	c := below.Config()
	if _, ok := c["peft_type"]; !ok {
		for _, m := range Methods() {
			if fmt.Sprintf("%T", m.New()) == fmt.Sprintf("%T", below) {
				c["peft_type"] = m.PEFT[0]
			}
		}
	}
	return c
}

// SetConfig implements Options.
func (o *IST) SetConfig(map[string]any) error {
	return errors.New("adapt: ist: its files are those of the method that it went over")
}

// layered is what IST asks of a model.
type layered interface{ Blocks() []model.Block }

// Prepare implements Preparer.
func (o *IST) Prepare(ctx context.Context, a *Adapter, s Setup) error {
	below, err := o.Inside()
	if err != nil {
		return err
	}
	if p, ok := below.(Preparer); ok {
		if err := p.Prepare(ctx, a, s); err != nil {
			return err
		}
	}
	m, ok := s.Model.(layered)
	if !ok {
		return fmt.Errorf("adapt: ist: %T has no layers to draw from", s.Model)
	}
	o.layers = nil
	for i, b := range m.Blocks() {
		l := &istLayer{name: fmt.Sprint(i)}
		for _, linear := range b.Linears() {
			if at := slices.Index(a.Layers, linear); at >= 0 {
				l.holds = append(l.holds, a.Holds[at])
			}
		}
		if l.holds != nil {
			o.layers = append(o.layers, l)
		}
	}
	if n := len(o.layers); n == 0 || o.Train > n || o.Suppress > n {
		return unfit{fmt.Errorf("adapt: ist: train_layers %d and suppress_layers %d of %d layers with adapters; lower them or name more targets", o.Train, o.Suppress, n)}
	}
	return nil
}

// share returns n, or where it is 0 that share of the layers.
func (o *IST) share(n int, of float64) int {
	if n > 0 {
		return n
	}
	return max(1, int(of*float64(len(o.layers))))
}

// Figures implements Figured: the scores that the layers end with, and the figures of
// the method below.
func (o *IST) Figures(a *Adapter) map[string]float64 {
	f := map[string]float64{}
	if below, ok := o.Inner.(Figured); ok {
		f = below.Figures(a)
	}
	if !o.Uniform {
		for _, l := range o.layers {
			f["score of layer "+l.name] = l.score
		}
	}
	return f
}
