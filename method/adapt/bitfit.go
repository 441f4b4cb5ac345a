package adapt

import (
	"errors"
	"strings"

	"tare/engine/grad"
	"tare/engine/nn"
	"tare/engine/tensor"
)

// BitFit trains the biases and nothing else (Ben Zaken et al. 2022, "BitFit: Simple
// Parameter-efficient Fine-tuning for Transformer-based Masked Language-models",
// arXiv:2106.10199): those of the target layers, and those of all norms. With Norms the
// norms' weights train too. Of a layer's input nothing is kept.
//
// Models shaped like llama have no biases; with Norms their norms' weights are left.
// Trained entries: out for each target with a bias, and the width of each vector of a
// norm. Merging is the identity. Files hold the trained vectors under the names that
// they have in the checkpoint.
type BitFit struct {
	Norms bool `yaml:"norms" help:"Train the norms' weights too."`
}

// NewBitFit returns the default: biases alone.
func NewBitFit() *BitFit { return &BitFit{} }

// Validate implements Options.
func (o *BitFit) Validate() error { return nil }

// Attach implements Options.
func (o *BitFit) Attach(l *nn.Linear, _ uint64) (Attached, error) {
	if l.Bias == nil {
		return nil, nil
	}
	if err := makeTrainable(l.Bias); err != nil {
		return nil, err
	}
	l.Bias.Part = grad.Whole
	return bias{l.Bias}, nil
}

// Beside implements Companion: the norms' vectors.
func (o *BitFit) Beside(m Model) ([]*grad.Param, error) {
	ofLayer := map[*grad.Param]bool{}
	for _, l := range m.Linears() {
		ofLayer[l.Bias] = true
	}
	var vectors []*grad.Param
	found := false
	for _, p := range m.Params() {
		isBias := strings.HasSuffix(p.Name, "bias")
		found = found || isBias
		if len(p.Value.Shape()) == 1 && !ofLayer[p] && (isBias || o.Norms) {
			vectors = append(vectors, p)
		}
	}
	if !found && !o.Norms {
		return nil, errors.New("adapt: bitfit: the model has no biases, so that there is nothing to train; set norms=true to train its norms' weights, or choose another method")
	}
	return vectors, nil
}

// Config implements Options.
func (o *BitFit) Config() map[string]any { return map[string]any{"norms": o.Norms} }

// SetConfig implements Options.
func (o *BitFit) SetConfig(c map[string]any) error {
	o.Norms = truth(c, "norms")
	return nil
}

// bias is a hold on a layer's bias.
type bias struct{ p *grad.Param }

func (b bias) Params() []*grad.Param { return []*grad.Param{b.p} }

func (b bias) State() []Named { return []Named{{"bias", b.p.Value}} }

func (b bias) Restore(state map[string]*tensor.Tensor) error {
	return restore(b.p.Value, state, "bias")
}
