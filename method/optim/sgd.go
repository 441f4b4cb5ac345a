package optim

import (
	"fmt"

	"tare/engine/grad"
	"tare/engine/tensor"
	"tare/engine/tensor/kernel"
	"tare/engine/train"
)

// SGD is stochastic gradient descent with optional momentum µ and decay, in
// PyTorch's form:
//
//	g ← g + decay·w;   b ← µ b + g  (b = g at the first step);   w ← w − η b
//
// Without momentum it keeps no state.
type SGD struct {
	Momentum float64
	Decay    float64
	Ledger   *grad.Ledger // if set, is charged for the state

	velocity map[string]*tensor.Tensor
	order    []string
	buf      []float32
}

// Step implements train.Optimizer.
func (o *SGD) Step(p *grad.Param, g *tensor.Tensor, lr float64) error {
	decay := float32(o.Decay)
	if !p.Decay {
		decay = 0
	}
	var b []float32
	first := false
	if o.Momentum != 0 {
		v := o.velocity[p.Name]
		if first = v == nil; first {
			v = tensor.New(g.Shape()...)
			o.add(p.Name, v)
		}
		if v.Len() != g.Len() {
			return fmt.Errorf("optim: %s: gradient of %d entries, state of %d", p.Name, g.Len(), v.Len())
		}
		b = v.F32()
	}
	return onPart(p, &o.buf, func(w []float32) {
		type operands struct {
			w, d, b             []float32
			lr, momentum, decay float32
			first               bool
		}
		kernel.Spread(len(w), 1<<14, operands{w, g.F32(), b, float32(lr), float32(o.Momentum), decay, first}, func(o *operands, lo, hi int) {
			w, d := o.w[lo:hi], o.d[lo:hi]
			if o.decay != 0 {
				kernel.Axpy(o.decay, w, d)
			}
			if o.b != nil {
				b := o.b[lo:hi]
				if !o.first {
					kernel.Scale(o.momentum, b)
				}
				kernel.Axpy(1, d, b)
				d = b
			}
			kernel.Axpy(-o.lr, d, w)
		})
	})
}

func (o *SGD) add(name string, v *tensor.Tensor) {
	if o.velocity == nil {
		o.velocity = map[string]*tensor.Tensor{}
	}
	o.velocity[name] = v
	o.order = append(o.order, name)
	o.Ledger.Add(grad.Optimizer, int64(len(v.Bytes())))
}

// Reindex implements train.Reindexer.
func (o *SGD) Reindex(p *grad.Param, from grad.Part) error {
	b := o.velocity[p.Name]
	if b == nil {
		return nil
	}
	now := carry(p, b, from)
	o.Ledger.Add(grad.Optimizer, int64(len(now.Bytes())-len(b.Bytes())))
	o.velocity[p.Name] = now
	return nil
}

// State implements train.Optimizer.
func (o *SGD) State() train.State {
	var st train.State
	for _, name := range o.order {
		st = append(st, train.Named{Name: name + ".momentum", Tensor: o.velocity[name]})
	}
	return st
}

// Restore implements train.Optimizer.
func (o *SGD) Restore(st train.State) error {
	o.Ledger.Add(grad.Optimizer, -o.State().Bytes())
	o.velocity, o.order = nil, nil
	parts, err := group(st, "momentum")
	if err != nil {
		return err
	}
	for _, p := range parts {
		b := p.tensors[0]
		if b.DType() != tensor.F32 {
			return fmt.Errorf("optim: saved state of %s: momentum is %s, want f32", p.name, b.DType())
		}
		o.add(p.name, b.Clone())
	}
	return nil
}
