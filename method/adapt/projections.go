package adapt

import (
	"fmt"
	"math"

	"tare/engine/grad"
	"tare/engine/nn"
	"tare/engine/tensor"
)

// Projections are two frozen random matrices A and B that all layers of an adapter
// share. They are made once, for the largest layer, and every layer takes the leading
// part that it needs; the first layer counts them among its parameters and no other
// does. A file holds them once, as base_model.NAME, or their seed alone.
type Projections struct {
	Key  int  `yaml:"projection_prng_key" help:"Seed of the shared random matrices; 0 takes the run's."`
	Save bool `yaml:"save_projection" help:"Store the random matrices in the file, not only their seed." default:"true"`

	a, b   *grad.Param
	stored bool // a file brings them
}

// draw sets A and B, which fill fills from a seed unless a file brings them. A key of 0
// becomes the run's seed.
func (p *Projections) draw(prefix string, a, b *tensor.Tensor, seed uint64, fill func(seed uint64)) {
	p.a, p.b = grad.NewParam(prefix+"_A", a), grad.NewParam(prefix+"_B", b)
	if p.stored {
		return
	}
	if p.Key == 0 {
		p.Key = int(seed & math.MaxInt64)
	}
	fill(uint64(p.Key))
}

// Shared implements Sharer.
func (p *Projections) Shared() []Named {
	if !p.Save || p.a == nil {
		return nil
	}
	return []Named{{p.a.Name, p.a.Value}, {p.b.Name, p.b.Value}}
}

// config adds the keys of a file.
func (p *Projections) config(c map[string]any) map[string]any {
	c["save_projection"], c["projection_prng_key"] = p.Save, p.Key
	return c
}

// setConfig takes them from a file.
func (p *Projections) setConfig(c map[string]any) {
	save, said := c["save_projection"].(bool)
	p.Save = save || !said
	p.Key, p.stored = integer(c, "projection_prng_key", 0), p.Save
}

// validate checks the key.
func (p *Projections) validate(method string) error {
	if p.Key < 0 {
		return fmt.Errorf("adapt: %s: projection_prng_key %d, want 0 or more", method, p.Key)
	}
	return nil
}

// mostSides returns the most rows and the most columns that a layer has.
func mostSides(layers []*nn.Linear) (out, in int) {
	for _, l := range layers {
		o, i := l.Weight.Dims()
		out, in = max(out, o), max(in, i)
	}
	return out, in
}

// Sharer is an Options with tensors that all layers use.
type Sharer interface {
	// Shared returns them live; a file holds them once, as base_model.NAME. It returns
	// none where the file goes without.
	Shared() []Named
}

// sharedPrefix stands before the names of shared tensors in a file.
const sharedPrefix = "base_model."

// restoreShared takes the shared tensors out of what a file holds: left by layers' names
// that are none, or repeated in every layer, as PEFT saves RandLoRA's.
func (a *Adapter) restoreShared(states []map[string]*tensor.Tensor, left map[string]*tensor.Tensor) error {
	s, ok := a.Options.(Sharer)
	if !ok {
		return nil
	}
	for _, n := range s.Shared() {
		found := map[string]*tensor.Tensor{}
		if t, ok := left[sharedPrefix+n.Name]; ok {
			found[n.Name] = t
			delete(left, sharedPrefix+n.Name)
		}
		for i, state := range states {
			t, ok := state[n.Name]
			if !ok {
				continue
			}
			if first, ok := found[n.Name]; ok && string(first.Bytes()) != string(t.Bytes()) {
				return fmt.Errorf("layer %s has a %s of its own, where all layers share one", a.Layers[i].Name, n.Name)
			}
			found[n.Name] = t
			delete(state, n.Name)
		}
		if err := restore(n.Tensor, found, n.Name); err != nil {
			return err
		}
	}
	return nil
}

// checkDropout refuses a probability that is none.
func checkDropout(method string, p float64) error {
	if !(p >= 0 && p < 1) {
		return fmt.Errorf("adapt: %s: dropout %g, want 0 up to but not including 1", method, p)
	}
	return nil
}

// plainConfig refuses settings of a file that change what its vectors mean.
func plainConfig(method string, c map[string]any) error {
	if truth(c, "fan_in_fan_out") {
		return fmt.Errorf("adapt: %s: fan_in_fan_out is set, which is not supported", method)
	}
	return nil
}
