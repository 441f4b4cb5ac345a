package adapt

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"tare/engine/grad"
	"tare/engine/nn"
	"tare/engine/tensor"
	"tare/engine/train"
)

// The decisions of ATP. The attentions and MLPs of the model are a sequence of 2·blocks
// tokens, each with a learned embedding e of width h; a GRU reads them, and a matrix
// F_t [groups, h] for each token t turns its state into the logits of its groups:
//
//	z_1 … z_2L = GRU(e_1 … e_2L),   o_t = F_t z_t + offset
//	hard m = [o + g > 0],   soft m = σ((o + g)/τ),   g = ln u − ln(1 − u), u uniform
//
// g is the difference of two Gumbel numbers; the offset keeps everything at first, as
// in the authors' network. The loss is taken at the hard m, and its gradient goes to
// the soft one (straight through). Since both are known before the generator's own
// backward pass, the generator's loss is the linear
//
//	Σ_g soft m_g·(∂L/∂m_g + λ·sign(T − p·T₀)·cost_g/T)
//
// whose gradient is that of L + λ·|ln T − ln p·T₀| at the hard m; it joins the loop's
// loss, so that the loop's optimizer trains the generator. Pairs are trained at the
// decision without g. Entries: 2L·h + 6h² + 6h + h·groups.
const decisionOffset = 3

// generator is the network that decides.
type generator struct {
	r     *removal
	embed *grad.Param // [tokens, h]
	gru   *nn.Recurrent
	heads []*grad.Param // F_t [groups of the token, h]
}

func newGenerator(r *removal, h int, seed uint64) *generator {
	rng := rand.New(rand.NewPCG(seedFor(seed, "atp.generator"), 0))
	const at = "atp.generator."
	drawn := func(name string, std float64, shape ...int) *grad.Param {
		t := tensor.New(shape...)
		for i := range t.F32() {
			t.F32()[i] = float32(std * rng.NormFloat64())
		}
		return grad.NewParam(at+name, t)
	}
	spread := 1 / math.Sqrt(float64(h))
	g := &generator{r: r, embed: drawn("embed", 1, len(r.gates), h)}
	layer := func(name string) *nn.Linear {
		return &nn.Linear{Name: at + name, Weight: nn.Dense{P: drawn(name+".weight", spread, 3*h, h)}, Bias: drawn(name+".bias", 0, 3*h)}
	}
	g.gru = &nn.Recurrent{Cell: nn.GRU, Input: layer("gru_input"), State: layer("gru_state")}
	for i, gate := range r.gates {
		g.heads = append(g.heads, drawn(fmt.Sprintf("logits.%d", i), 0.1*spread, gate.c.Value.Len(), h))
	}
	return g
}

func (g *generator) params() []*grad.Param {
	ps := []*grad.Param{g.embed}
	for _, l := range g.gru.Linears() {
		ps = append(ps, l.Params()...)
	}
	return append(ps, g.heads...)
}

// logits returns o for every token [1, groups].
func (g *generator) logits(tp *grad.Tape) []*grad.Value {
	z := g.gru.Apply(tp, tp.Use(g.embed), nn.NewSteps([]int{len(g.heads)}), nil)
	out := make([]*grad.Value, len(g.heads))
	for i, f := range g.heads {
		row := tp.Linear(tp.Range(z, i, i+1), f)
		offset := make([]float32, row.Cols)
		for j := range offset {
			offset[j] = decisionOffset
		}
		out[i] = tp.AddTo(row, tp.Const(offset, 1, row.Cols))
	}
	return out
}

// scores returns the logits of all groups in order.
func (g *generator) scores(tp *grad.Tape) (score []float64) {
	tp.NoGrad(func() {
		for _, o := range g.logits(tp) {
			for _, v := range o.Data {
				score = append(score, float64(v))
			}
		}
	})
	tp.Reset()
	return score
}

// Hooks implements Hooked.
func (o *ATP) Hooks(a *Adapter, s Setup) []any {
	if o.generator == nil {
		return nil
	}
	for _, p := range o.generator.params() {
		p.Part = grad.Whole
	}
	d := &deciding{o: o, s: s, last: max(1, int(o.Freeze*float64(s.Steps)+1e-9)), tape: grad.NewTape(nil)}
	return []any{d}
}

// deciding is ATP's hook in the loop.
type deciding struct {
	o    *ATP
	s    Setup
	last int // step after which the decision is final
	tape *grad.Tape

	frozen bool
	noise  []float32 // g of this step; nil once the decision is final
	coef   []float32 // ∂(loss)/∂m of this step
}

// BeginStep implements train.StepBeginner: it decides, and finds out what decisions cost.
func (d *deciding) BeginStep(l *train.Loop) error {
	if d.frozen {
		return nil
	}
	score := d.o.generator.scores(d.tape)
	if err := d.explore(l.Step, score); err != nil {
		return fmt.Errorf("atp: %w", err)
	}
	d.o.removal.set(d.decided(score, nil))
	return nil
}

// decided returns the hard decision, of which at least the best group of each kind in
// each block is one.
func (d *deciding) decided(score []float64, noise []float32) []bool {
	r := d.o.removal
	marks := make([]bool, len(score))
	any := make([]bool, len(r.gates))
	for i, v := range score {
		if noise != nil {
			v += float64(noise[i])
		}
		marks[i] = v > 0
		any[r.units[i].gate] = any[r.units[i].gate] || marks[i]
	}
	for g, some := range any {
		if !some {
			r.best(marks, score, g, 1)
		}
	}
	return marks
}

// explore draws a decision and notes the gradient by it.
func (d *deciding) explore(step int, score []float64) error {
	r := d.o.removal
	rng := rand.New(rand.NewPCG(d.s.Seed^0x617470, uint64(step)))
	d.noise = make([]float32, len(score))
	for i := range d.noise {
		u := min(max(rng.Float64(), 1e-9), 1-1e-9)
		d.noise[i] = float32(math.Log(u) - math.Log1p(-u))
	}
	marks := d.decided(score, d.noise)
	r.set(marks)
	d.tape.Seed(d.s.Seed ^ uint64(step))
	slopes, err := r.slopes(d.tape, d.s.Model.Params(), d.o.aside[step%len(d.o.aside)])
	if err != nil {
		return err
	}
	left, want := float64(r.cost(marks)), d.o.Share*float64(r.total())
	pull := 0.0
	if left != want {
		pull = d.o.Lambda * math.Copysign(1, left-want) / left
	}
	d.coef = make([]float32, len(slopes))
	for i, v := range slopes {
		d.coef[i] = float32(v + pull*float64(r.units[i].cost))
	}
	return nil
}

// Penalty implements train.Penalizer: the generator's loss.
func (d *deciding) Penalty(_ *train.Loop, tp *grad.Tape) *grad.Value {
	if d.noise == nil {
		return nil
	}
	var sum *grad.Value
	first := 0
	for _, o := range d.o.generator.logits(tp) {
		n := first + o.Cols
		soft := tp.Sigmoid(tp.Scale(tp.Add(o, tp.Const(d.noise[first:n], 1, o.Cols)), float32(1/d.o.Tau)))
		term := tp.Sum(tp.Mul(soft, tp.Const(d.coef[first:n], 1, o.Cols)))
		if first = n; sum != nil {
			term = tp.Add(sum, term)
		}
		sum = term
	}
	return sum
}

// EndStep implements train.StepEnder: the lasso's step, and at their times the final
// decision and the projection.
func (d *deciding) EndStep(l *train.Loop) error {
	if !d.frozen && l.Step >= d.last {
		r := d.o.removal
		r.set(r.pick(d.o.generator.scores(d.tape), d.o.Share, d.o.Scope == "layer"))
		d.frozen, d.noise, d.coef = true, nil, nil
		d.tape.Trim()
		for _, p := range d.o.generator.params() {
			if err := l.SetPart(p, grad.Part{}); err != nil {
				return fmt.Errorf("atp: %w", err)
			}
		}
	}
	amount := l.LR * d.o.Lasso * float64(l.Step) / float64(max(1, l.Options.Steps))
	if l.Step >= l.Options.Steps {
		amount = math.Inf(1)
	}
	d.o.shrinkGroups(amount)
	return nil
}

// HookName implements train.Keeper.
func (d *deciding) HookName() string { return "atp" }

// decidedName marks a saved run whose decision is final.
const decidedName = "decided"

// HookTensors implements train.Keeper: the gates.
func (d *deciding) HookTensors() train.State {
	s := d.o.removal.gateState()
	if d.frozen {
		s = append(s, train.Named{Name: decidedName, Tensor: tensor.New(1)})
	}
	return s
}

// RestoreTensors implements train.Keeper.
func (d *deciding) RestoreTensors(s train.State) error {
	if slices.ContainsFunc(s, func(n train.Named) bool { return n.Name == decidedName }) {
		d.frozen = true
		for _, p := range d.o.generator.params() {
			p.Part = grad.Part{}
		}
	}
	return d.o.removal.restoreGates(s)
}

// gateState lists the gates' factors for a saved run.
func (r *removal) gateState() (s train.State) {
	for _, g := range r.gates {
		s = append(s, train.Named{Name: g.c.Name, Tensor: g.c.Value})
	}
	return s
}

func (r *removal) restoreGates(s train.State) error {
	saved := map[string]*tensor.Tensor{}
	for _, t := range s {
		saved[t.Name] = t.Tensor
	}
	for _, g := range r.gates {
		if err := restore(g.c.Value, saved, g.c.Name); err != nil {
			return err
		}
	}
	return nil
}
