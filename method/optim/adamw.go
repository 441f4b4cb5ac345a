package optim

import (
	"fmt"
	"math"

	"tare/engine/grad"
	"tare/engine/tensor"
	"tare/engine/tensor/kernel"
	"tare/engine/train"
)

// AdamW is Adam with decoupled weight decay (Loshchilov and Hutter 2019,
// arXiv:1711.05101), in PyTorch's form. With gradient g, step t of the parameter
// and rate η:
//
//	w ← (1 − η·decay) w
//	m ← β1 m + (1 − β1) g        v ← β2 v + (1 − β2) g²
//	w ← w − η · (m / (1 − β1ᵗ)) / (√(v / (1 − β2ᵗ)) + ε)
//
// Its memory is two f32 values a trained entry. The zero value of a field means
// its default.
type AdamW struct {
	Beta1 float64 // 0.9
	Beta2 float64 // 0.999
	Eps   float64 // 1e-8
	Decay float64 // 0: decay of parameters that allow it
	// Ledger, if set, is charged for the state.
	Ledger *grad.Ledger

	moments map[string]*moments
	order   []string
	buf     []float32
}

type moments struct {
	t    *tensor.Tensor // I64 [1], steps taken
	m, v *tensor.Tensor // the part's shape
}

// NewAdamW returns AdamW with the given decay and otherwise default settings.
func NewAdamW(decay float64, ledger *grad.Ledger) *AdamW {
	return &AdamW{Beta1: 0.9, Beta2: 0.999, Eps: 1e-8, Decay: decay, Ledger: ledger}
}

// Step implements train.Optimizer.
func (o *AdamW) Step(p *grad.Param, g *tensor.Tensor, lr float64) error {
	s := o.moments[p.Name]
	if s == nil {
		s = &moments{tensor.NewOf(tensor.I64, 1), tensor.New(g.Shape()...), tensor.New(g.Shape()...)}
		o.add(p.Name, s)
	}
	if s.m.Len() != g.Len() {
		return fmt.Errorf("optim: %s: gradient of %d entries, state of %d", p.Name, g.Len(), s.m.Len())
	}
	t := s.t.I64()
	t[0]++
	// The kernel works with β in f32; 1 − βᵗ of the same β makes the first step exact.
	beta1, beta2 := float32(or(o.Beta1, 0.9)), float32(or(o.Beta2, 0.999))
	c1, c2 := 1-math.Pow(float64(beta1), float64(t[0])), 1-math.Pow(float64(beta2), float64(t[0]))
	decay := o.Decay
	if !p.Decay {
		decay = 0
	}
	return onPart(p, &o.buf, func(w []float32) {
		gs, m, v := g.F32(), s.m.F32(), s.v.F32()
		type operands struct {
			w, g, m, v                           []float32
			lr, beta1, beta2, eps, decay, c1, c2 float32
		}
		kernel.Spread(len(w), 1<<14, operands{w, gs, m, v, float32(lr), beta1, beta2, float32(or(o.Eps, 1e-8)), float32(decay), float32(c1), float32(c2)}, func(o *operands, lo, hi int) {
			kernel.AdamW(o.w[lo:hi], o.g[lo:hi], o.m[lo:hi], o.v[lo:hi], o.lr, o.beta1, o.beta2, o.eps, o.decay, o.c1, o.c2)
		})
	})
}

func (o *AdamW) add(name string, s *moments) {
	if o.moments == nil {
		o.moments = map[string]*moments{}
	}
	o.moments[name] = s
	o.order = append(o.order, name)
	o.Ledger.Add(grad.Optimizer, int64(len(s.m.Bytes())+len(s.v.Bytes())))
}

// Reindex implements train.Reindexer: the moments of entries that stay are kept, and t
// counts on, so that the bias correction of new entries is that of the others.
func (o *AdamW) Reindex(p *grad.Param, from grad.Part) error {
	s := o.moments[p.Name]
	if s == nil {
		return nil
	}
	m, v := carry(p, s.m, from), carry(p, s.v, from)
	o.Ledger.Add(grad.Optimizer, int64(len(m.Bytes())+len(v.Bytes())-len(s.m.Bytes())-len(s.v.Bytes())))
	s.m, s.v = m, v
	return nil
}

// State implements train.Optimizer.
func (o *AdamW) State() train.State {
	var st train.State
	for _, name := range o.order {
		s := o.moments[name]
		st = append(st, train.Named{Name: name + ".step", Tensor: s.t}, train.Named{Name: name + ".exp_avg", Tensor: s.m}, train.Named{Name: name + ".exp_avg_sq", Tensor: s.v})
	}
	return st
}

// Restore implements train.Optimizer.
func (o *AdamW) Restore(st train.State) error {
	o.Ledger.Add(grad.Optimizer, -o.bytes())
	o.moments, o.order = nil, nil
	parts, err := group(st, "step", "exp_avg", "exp_avg_sq")
	if err != nil {
		return err
	}
	for _, p := range parts {
		t, m, v := p.tensors[0], p.tensors[1], p.tensors[2]
		if t.DType() != tensor.I64 || t.Len() != 1 || m.DType() != tensor.F32 || v.DType() != tensor.F32 || m.Len() != v.Len() {
			return fmt.Errorf("optim: saved state of %s: step %s %v, exp_avg %s %v and exp_avg_sq %s %v; want one i64 and two f32 of a shape",
				p.name, t.DType(), t.Shape(), m.DType(), m.Shape(), v.DType(), v.Shape())
		}
		o.add(p.name, &moments{t.Clone(), m.Clone(), v.Clone()})
	}
	return nil
}

func (o *AdamW) bytes() int64 {
	var n int64
	for _, s := range o.moments {
		n += int64(len(s.m.Bytes()) + len(s.v.Bytes()))
	}
	return n
}

func or(v, standard float64) float64 {
	if v == 0 {
		return standard
	}
	return v
}
