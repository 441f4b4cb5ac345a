// Package optim holds the optimizers: what turns a gradient into an update, with
// state by parameter. One file a method, one row a method in Methods. The loop that
// calls them is engine/train.
package optim

import (
	"fmt"
	"strings"

	"tare/engine/grad"
	"tare/engine/tensor"
	"tare/engine/train"
)

// Options are the settings that recipes give; a method takes those it knows.
type Options struct {
	Beta1    float64 `yaml:"beta1" help:"Decay of the first moment."`
	Beta2    float64 `yaml:"beta2" help:"Decay of the second moment."`
	Eps      float64 `yaml:"eps" help:"Added to the root of the second moment."`
	Decay    float64 `yaml:"weight_decay" help:"Decoupled weight decay."`
	Momentum float64 `yaml:"momentum" help:"Momentum of SGD."`
}

// Method is one row of the family.
type Method struct {
	Name  string // as recipes and flags say it
	Paper string // where it comes from
	New   func(o Options, ledger *grad.Ledger) train.Optimizer
}

// Methods lists the optimizers.
func Methods() []Method {
	return []Method{
		{"adamw", "arXiv:1711.05101", func(o Options, l *grad.Ledger) train.Optimizer {
			return &AdamW{Beta1: o.Beta1, Beta2: o.Beta2, Eps: o.Eps, Decay: o.Decay, Ledger: l}
		}},
		{"sgd", "", func(o Options, l *grad.Ledger) train.Optimizer {
			return &SGD{Momentum: o.Momentum, Decay: o.Decay, Ledger: l}
		}},
	}
}

// ByName returns the method with that name.
func ByName(name string) (Method, error) {
	var known []string
	for _, m := range Methods() {
		if m.Name == name {
			return m, nil
		}
		known = append(known, m.Name)
	}
	return Method{}, fmt.Errorf("optim: optimizer %q is not known (known: %s)", name, strings.Join(known, ", "))
}

// onPart calls f on the trained part's values: in place when the whole parameter
// trains, gathered into buf and scattered back otherwise.
func onPart(p *grad.Param, buf *[]float32, f func(w []float32)) error {
	if p.Value.DType() != tensor.F32 {
		return fmt.Errorf("optim: %s: trains in %s, where small updates vanish in rounding; put the optimizer into Mixed", p.Name, p.Value.DType())
	}
	if p.Part.Kind == grad.All {
		f(p.Value.F32())
		return nil
	}
	n := p.PartLen()
	if cap(*buf) < n {
		*buf = make([]float32, n)
	}
	w := (*buf)[:n]
	p.Gather(w)
	f(w)
	p.Scatter(w)
	return nil
}

// carry returns state of the part from in the order of the part of p that trains now.
func carry(p *grad.Param, state *tensor.Tensor, from grad.Part) *tensor.Tensor {
	now := tensor.New(p.PartShape()...)
	p.Carry(now.F32(), state.F32(), from)
	return now
}

// grouped is one parameter's tensors of a saved state, in the order asked for.
type grouped struct {
	name    string
	tensors []*tensor.Tensor
}

// group sorts a saved state by parameter; each must have all the suffixes.
func group(st train.State, suffixes ...string) ([]grouped, error) {
	var out []grouped
	at := map[string]int{}
	for _, n := range st {
		i := strings.LastIndexByte(n.Name, '.')
		if i < 0 {
			return nil, fmt.Errorf("optim: saved state %q belongs to no parameter", n.Name)
		}
		name, suffix := n.Name[:i], n.Name[i+1:]
		k, ok := at[name]
		if !ok {
			k = len(out)
			at[name] = k
			out = append(out, grouped{name, make([]*tensor.Tensor, len(suffixes))})
		}
		for j, s := range suffixes {
			if s == suffix {
				out[k].tensors[j] = n.Tensor
			}
		}
	}
	for _, g := range out {
		for j, t := range g.tensors {
			if t == nil {
				return nil, fmt.Errorf("optim: saved state of %s lacks %q: it was written by another optimizer", g.name, suffixes[j])
			}
		}
	}
	return out, nil
}
