package optim

import (
	"fmt"
	"hash/fnv"
	"math"
	"strings"

	"tare/engine/grad"
	"tare/engine/tensor"
	"tare/engine/tensor/kernel"
	"tare/engine/train"
)

// Mixed trains parameters that are stored in bfloat16, whose 8 bits of precision would
// swallow most updates: w + δ rounds back to w where |δ| < 2⁻⁹ |w|. Inner works on f32
// values w, and what the model holds is w rounded:
//
//   - with a master copy (Micikevicius et al. 2018, arXiv:1710.03740), w is kept in f32
//     beside the model, 4 bytes a trained entry, and the model holds its nearest bf16
//     value;
//
//   - with Stochastic (Gupta et al. 2015, arXiv:1502.02551; for bf16 training Zamirai et
//     al. 2020, arXiv:2010.06192), nothing is kept: w is read from the model, and
//     rounded so that its expectation is w,
//
//     P(up) = (w − ⌊w⌋) / (⌈w⌉ − ⌊w⌋).
//
// Which way a number goes depends on Seed, the parameter's name, its steps and the place
// of the entry alone. Parameters stored in f32 go through to Inner unchanged.
type Mixed struct {
	Inner      train.Optimizer
	Stochastic bool
	Seed       uint64
	Ledger     *grad.Ledger // if set, is charged for the master copies, or for the f32 values at work

	masters map[string]*tensor.Tensor // f32, in the shape of the trained part
	steps   map[string]*tensor.Tensor // I64 [1], of stochastic rounding
	order   []string
	buf     []float32
}

// What the state's names begin with, or end in.
const (
	innerPrefix = "inner."
	mixedPrefix = "mixed."
	masterKey   = "master"
	stepsKey    = "steps"
)

// Step implements train.Optimizer.
func (o *Mixed) Step(p *grad.Param, g *tensor.Tensor, lr float64) error {
	if p.Value.DType() == tensor.F32 {
		return o.Inner.Step(p, g, lr)
	}
	if o.Stochastic {
		return o.stepStochastic(p, g, lr)
	}
	w := o.masters[p.Name]
	if w == nil {
		w = tensor.New(p.PartShape()...)
		p.Gather(w.F32())
		o.keep(p.Name, &o.masters, w)
	}
	if w.Len() != g.Len() {
		return fmt.Errorf("optim: %s: gradient of %d entries, master copy of %d", p.Name, g.Len(), w.Len())
	}
	if err := o.Inner.Step(wide(p, w), g, lr); err != nil {
		return err
	}
	p.Scatter(w.F32())
	return nil
}

func (o *Mixed) stepStochastic(p *grad.Param, g *tensor.Tensor, lr float64) error {
	t := o.steps[p.Name]
	if t == nil {
		t = tensor.NewOf(tensor.I64, 1)
		o.keep(p.Name, &o.steps, t)
	}
	if n := p.PartLen(); len(o.buf) < n {
		o.Ledger.Add(grad.Scratch, 4*int64(n-len(o.buf)))
		o.buf = make([]float32, n)
	}
	w := o.buf[:p.PartLen()]
	p.Gather(w)
	if err := o.Inner.Step(wide(p, tensor.FromF32(w, p.PartShape()...)), g, lr); err != nil {
		return err
	}
	t.I64()[0]++
	name := fnv.New64a()
	name.Write([]byte(p.Name))
	RoundStochastic(w, mix(mix(o.Seed^name.Sum64())+uint64(t.I64()[0])))
	p.Scatter(w) // exact
	return nil
}

// wide is p's trained part by itself, in f32.
func wide(p *grad.Param, w *tensor.Tensor) *grad.Param {
	return &grad.Param{Name: p.Name, Value: w, Part: grad.Whole, Decay: p.Decay}
}

// RoundStochastic rounds every w to one of the two bfloat16 values around it, so that
// the expectation is w: it adds 16 random bits below the ones that stay and cuts them
// off. The bits depend on key and an entry's place alone, not on the threads.
func RoundStochastic(w []float32, key uint64) {
	const group = 4 // entries that share a draw of 64 bits
	kernel.Parallel((len(w)+group-1)/group, 1<<12, func(lo, hi int) {
		for k := lo; k < hi; k++ {
			bits := mix(key + uint64(k)*0x9e3779b97f4a7c15)
			part := w[k*group : min((k+1)*group, len(w))]
			for i, v := range part {
				u := math.Float32bits(v)
				if up := u + uint32(bits&0xffff); up&infinite != infinite {
					u = up
				}
				if u&infinite != infinite { // NaN and the infinities stay
					part[i] = math.Float32frombits(u &^ 0xffff)
				}
				bits >>= 16
			}
		}
	})
}

// infinite is the exponent of numbers that are not finite.
const infinite = 0x7f800000

// mix is the finalizer of SplitMix64 (Steele, Lea and Flood 2014): it sends neighbouring
// numbers to unrelated ones.
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// keep enters a parameter's state into a map of it.
func (o *Mixed) keep(name string, in *map[string]*tensor.Tensor, t *tensor.Tensor) {
	if *in == nil {
		*in = map[string]*tensor.Tensor{}
	}
	(*in)[name] = t
	o.order = append(o.order, name)
	if !o.Stochastic {
		o.Ledger.Add(grad.Optimizer, int64(len(t.Bytes())))
	}
}

// Reindex implements train.Reindexer. What rounding took off an entry that stays is put
// back: master − rounded and its sum with rounded are exact in f32.
func (o *Mixed) Reindex(p *grad.Param, from grad.Part) error {
	inner, ok := o.Inner.(train.Reindexer)
	if !ok {
		return fmt.Errorf("optim: %s: the state of %T cannot follow a part that changes", p.Name, o.Inner)
	}
	if w := o.masters[p.Name]; w != nil {
		was := *p
		was.Part = from
		rounded := make([]float32, w.Len())
		was.Gather(rounded)
		rest := w.F32()
		kernel.Axpy(-1, rounded, rest)
		now := carry(p, w, from)
		held := make([]float32, now.Len())
		p.Gather(held)
		kernel.Axpy(1, held, now.F32())
		o.Ledger.Add(grad.Optimizer, int64(len(now.Bytes())-len(w.Bytes())))
		o.masters[p.Name] = now
	}
	return inner.Reindex(p, from)
}

// State implements train.Optimizer.
func (o *Mixed) State() train.State {
	var st train.State
	for _, s := range o.Inner.State() {
		st = append(st, train.Named{Name: innerPrefix + s.Name, Tensor: s.Tensor})
	}
	for _, name := range o.order {
		if o.Stochastic {
			st = append(st, train.Named{Name: mixedPrefix + name + "." + stepsKey, Tensor: o.steps[name]})
		} else {
			st = append(st, train.Named{Name: mixedPrefix + name + "." + masterKey, Tensor: o.masters[name]})
		}
	}
	return st
}

// Restore implements train.Optimizer.
func (o *Mixed) Restore(st train.State) error {
	for _, w := range o.masters {
		o.Ledger.Add(grad.Optimizer, -int64(len(w.Bytes())))
	}
	o.masters, o.steps, o.order = nil, nil, nil
	var inner, own train.State
	for _, s := range st {
		if name, ok := strings.CutPrefix(s.Name, innerPrefix); ok {
			inner = append(inner, train.Named{Name: name, Tensor: s.Tensor})
		} else if name, ok := strings.CutPrefix(s.Name, mixedPrefix); ok {
			own = append(own, train.Named{Name: name, Tensor: s.Tensor})
		} else {
			return fmt.Errorf("optim: saved state %q is not of mixed storage; resume with the same settings", s.Name)
		}
	}
	key, in, dtype := masterKey, &o.masters, tensor.F32
	if o.Stochastic {
		key, in, dtype = stepsKey, &o.steps, tensor.I64
	}
	parts, err := group(own, key)
	if err != nil {
		return err
	}
	for _, p := range parts {
		t := p.tensors[0]
		if t.DType() != dtype || o.Stochastic && t.Len() != 1 {
			return fmt.Errorf("optim: saved %s of %s is %s %v: the file is damaged", key, p.name, t.DType(), t.Shape())
		}
		o.keep(p.name, in, t.Clone())
	}
	return o.Inner.Restore(inner)
}
