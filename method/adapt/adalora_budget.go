package adapt

import (
	"encoding/json"
	"fmt"
	"math"
	"sort"
	"strings"

	"tare/engine/grad"
	"tare/engine/tensor"
	"tare/engine/train"
)

// The budget of AdaLoRA (sections 3.2 and 3.3 of the paper). Of every entry w of P, λ
// and Q the sensitivity I = |w·∂L/∂w| is smoothed, and so is how far it strays:
//
//	Ī ← β1·Ī + (1 − β1)·I,   U ← β2·U + (1 − β2)·|I − Ī|,   s(w) = Ī·U
//	S_k = s(λ_k) + mean_j s(P_jk) + mean_j s(Q_kj)
//
// Every ΔT steps the b(t) triplets of largest S over all layers are left and the other
// λ set to 0. b falls from b0 = r0·layers to bT = r·layers:
//
//	b(t) = bT + (b0 − bT)·(1 − (t − t_i)/(T − t_i − t_f))³
//
// It is b0 for the first t_i steps, and bT for the last t_f, when what is left stays.
// The paper's I is taken where the gradient is; the authors' code takes it after the
// optimizer's step.

// plan says where the phases of a run lie, in steps.
type plan struct{ begin, finish, steps int } // t_i, t_f, T

// last is the step whose pruning is final.
func (p plan) last() int { return p.steps - p.finish }

// budget returns b(t).
func (p plan) budget(t, b0, bT int) int {
	switch {
	case t <= p.begin:
		return b0
	case t >= p.last():
		return bT
	}
	left := 1 - float64(t-p.begin)/float64(p.last()-p.begin)
	return bT + int(float64(b0-bT)*left*left*left)
}

// Hooks implements Hooked.
func (o *AdaLoRA) Hooks(a *Adapter, s Setup) []any {
	share := func(f float64) int { return int(f*float64(s.Steps) + 1e-9) }
	o.plan = plan{share(o.Begin), share(o.Finish), s.Steps}
	b := &budgeter{o: o, weights: map[*grad.Param]*importance{}, final: o.Rank * len(a.Holds)}
	for i, h := range a.Holds {
		w := h.(*ada)
		b.layers, b.names = append(b.layers, w), append(b.names, a.Layers[i].Name)
		b.start += w.rank()
		for _, p := range h.Params() {
			if p == w.p || p == w.e || p == w.q {
				b.weights[p] = &importance{}
			}
		}
	}
	return []any{b}
}

// budgeter is AdaLoRA's hook in the loop.
type budgeter struct {
	o            *AdaLoRA
	layers       []*ada
	names        []string
	start, final int // b0 and bT
	weights      map[*grad.Param]*importance
	charged      bool
}

// importance is what is known of the entries of a parameter; empty when not watched.
type importance struct {
	mean  []float32 // Ī
	stray []float32 // U
}

// score returns s of entry i.
func (m *importance) score(i int) float64 { return float64(m.mean[i]) * float64(m.stray[i]) }

// eachWeight goes through what is watched in a fixed order.
func (b *budgeter) eachWeight(f func(p *grad.Param, m *importance)) {
	for _, w := range b.layers {
		for _, p := range []*grad.Param{w.q, w.e, w.p} {
			f(p, b.weights[p])
		}
	}
}

// BeginStep implements train.StepBeginner: it makes room before the first step.
func (b *budgeter) BeginStep(l *train.Loop) error {
	if b.charged || l.Step >= b.o.plan.last() {
		return nil
	}
	b.charged = true
	b.eachWeight(func(p *grad.Param, m *importance) {
		if m.mean == nil {
			m.mean, m.stray = make([]float32, p.Value.Len()), make([]float32, p.Value.Len())
		}
		l.Tape.Ledger.Add(grad.Optimizer, 8*int64(len(m.mean)))
	})
	return nil
}

// Penalty implements train.Penalizer.
func (b *budgeter) Penalty(_ *train.Loop, tp *grad.Tape) *grad.Value {
	if b.o.Gamma == 0 {
		return nil
	}
	var sum *grad.Value
	add := func(gram *grad.Value) { // ‖gram − I‖²
		r := gram.Rows
		identity := make([]float32, r*r)
		for k := range r {
			identity[k*r+k] = 1
		}
		d := tp.Sub(gram, tp.Const(identity, r, r))
		term := tp.Sum(tp.Mul(d, d))
		if sum != nil {
			term = tp.Add(sum, term)
		}
		sum = term
	}
	for _, w := range b.layers {
		if w.rank() > 0 {
			p, q := tp.Use(w.p), tp.Use(w.q)
			add(tp.MatMul(p, p, true, false))
			add(tp.MatMul(q, q, false, true))
		}
	}
	if sum == nil {
		return nil
	}
	return tp.Scale(sum, float32(b.o.Gamma)/float32(2*len(b.layers)))
}

// Gradient implements train.GradWatcher.
func (b *budgeter) Gradient(l *train.Loop, p *grad.Param, g *tensor.Tensor) error {
	m := b.weights[p]
	if m == nil || m.mean == nil {
		return nil
	}
	w, d := p.Value.F32(), g.F32()
	b1, b2 := float32(b.o.Beta1), float32(b.o.Beta2)
	for i := range d {
		s := float32(math.Abs(float64(w[i] * d[i])))
		m.mean[i] = b1*m.mean[i] + (1-b1)*s
		m.stray[i] = b2*m.stray[i] + (1-b2)*float32(math.Abs(float64(s-m.mean[i])))
	}
	return nil
}

// EndStep implements train.StepEnder.
func (b *budgeter) EndStep(l *train.Loop) error {
	t, last := l.Step, b.o.plan.last()
	if t == last || t > b.o.plan.begin && t < last && t%b.o.Every == 0 {
		b.prune(b.o.plan.budget(t, b.start, b.final))
	}
	if t >= last {
		b.mask()
	}
	if t == last {
		b.forget(l.Tape.Ledger)
	}
	return nil
}

// prune leaves the n triplets of largest score.
func (b *budgeter) prune(n int) {
	if n >= b.start {
		return
	}
	type triplet struct {
		layer, k int
		score    float64
	}
	all := make([]triplet, 0, b.start)
	for i, w := range b.layers {
		for k, s := range b.scores(w) {
			all = append(all, triplet{i, k, s})
		}
		w.kept = make([]bool, w.rank())
	}
	sort.SliceStable(all, func(i, j int) bool { return all[i].score > all[j].score })
	for _, t := range all[:n] {
		b.layers[t.layer].kept[t.k] = true
	}
	b.mask()
}

// scores returns S of a layer's triplets.
func (b *budgeter) scores(w *ada) []float64 {
	r, in, out := w.rank(), w.q.Value.Dim(1), w.p.Value.Dim(0)
	s := make([]float64, r)
	p, e, q := b.weights[w.p], b.weights[w.e], b.weights[w.q]
	for k := range s {
		s[k] = e.score(k)
		for i := range in {
			s[k] += q.score(k*in+i) / float64(in)
		}
		for i := range out {
			s[k] += p.score(i*r+k) / float64(out)
		}
	}
	return s
}

// mask sets λ of the pruned triplets to 0.
func (b *budgeter) mask() {
	for _, w := range b.layers {
		for k, keep := range w.kept {
			if !keep {
				w.e.Value.F32()[k] = 0
			}
		}
	}
}

// forget drops the importances once nothing is pruned any more.
func (b *budgeter) forget(ledger *grad.Ledger) {
	b.eachWeight(func(p *grad.Param, m *importance) {
		ledger.Add(grad.Optimizer, -8*int64(len(m.mean)))
		*m = importance{}
	})
}

// HookName implements train.Stateful.
func (b *budgeter) HookName() string { return "adalora" }

// HookState implements train.Stateful: what is left of each layer.
func (b *budgeter) HookState() ([]byte, error) {
	kept := map[string][]bool{}
	for i, w := range b.layers {
		if w.kept != nil {
			kept[b.names[i]] = w.kept
		}
	}
	return json.Marshal(kept)
}

// RestoreHook implements train.Stateful.
func (b *budgeter) RestoreHook(state []byte) error {
	kept := map[string][]bool{}
	if err := json.Unmarshal(state, &kept); err != nil {
		return fmt.Errorf("adapt: adalora: saved state: %w", err)
	}
	for i, w := range b.layers {
		if w.kept = kept[b.names[i]]; w.kept != nil && len(w.kept) != w.rank() {
			return fmt.Errorf("adapt: adalora: saved state: layer %s has %d triplets, want %d", b.names[i], len(w.kept), w.rank())
		}
	}
	return nil
}

// HookTensors implements train.Keeper: Ī and U of every parameter.
func (b *budgeter) HookTensors() train.State {
	var s train.State
	b.eachWeight(func(p *grad.Param, m *importance) {
		if m.mean != nil {
			s = append(s, train.Named{Name: p.Name + ".mean", Tensor: tensor.FromF32(m.mean, len(m.mean))},
				train.Named{Name: p.Name + ".stray", Tensor: tensor.FromF32(m.stray, len(m.stray))})
		}
	})
	return s
}

// RestoreTensors implements train.Keeper.
func (b *budgeter) RestoreTensors(s train.State) error {
	saved := map[string]*tensor.Tensor{}
	for _, t := range s {
		saved[t.Name] = t.Tensor
	}
	var wrong []string
	b.eachWeight(func(p *grad.Param, m *importance) {
		mean, stray := saved[p.Name+".mean"], saved[p.Name+".stray"]
		if mean == nil && stray == nil {
			return
		}
		*m = importance{make([]float32, p.Value.Len()), make([]float32, p.Value.Len())}
		for dst, t := range map[*[]float32]*tensor.Tensor{&m.mean: mean, &m.stray: stray} {
			if t == nil || t.DType() != tensor.F32 || t.Len() != len(*dst) {
				wrong = append(wrong, p.Name)
				continue
			}
			copy(*dst, t.F32())
		}
	})
	if wrong != nil {
		sort.Strings(wrong)
		return fmt.Errorf("adapt: adalora: saved importances do not fit %s", strings.Join(wrong, ", "))
	}
	return nil
}

// Figures implements Figured: the ranks that the layers are left with.
func (o *AdaLoRA) Figures(a *Adapter) map[string]float64 {
	return rankFigures(a, func(h Attached) int { return count(h.(*ada).held()) })
}
