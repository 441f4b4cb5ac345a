package adapt

import (
	"encoding/json"
	"fmt"
	"math"

	"tare/engine/grad"
	"tare/engine/train"
)

// Hooks implements Hooked.
func (o *DSEE) Hooks(a *Adapter, s Setup) []any {
	if o.Prune == "none" || o.fromFile {
		return nil
	}
	p := &dseePhases{o: o, at: max(1, int(o.PruneAt*float64(s.Steps)+1e-9))}
	for _, h := range a.Holds {
		p.holds = append(p.holds, h.(*dsee))
	}
	if o.removal != nil {
		p.learnGates()
	}
	return []any{p}
}

// dseePhases is DSEE's hook in the loop.
type dseePhases struct {
	o     *DSEE
	holds []*dsee
	at    int // the step of phase 2
	done  bool
}

// learnGates makes the gates train.
func (p *dseePhases) learnGates() {
	for _, g := range p.o.removal.gates {
		g.c.Part, g.c.Decay = grad.Whole, false
	}
}

// Penalty implements train.Penalizer: λ·Σ|c| while the gates learn.
func (p *dseePhases) Penalty(_ *train.Loop, tp *grad.Tape) *grad.Value {
	if p.done || p.o.removal == nil || p.o.Lambda == 0 {
		return nil
	}
	var sum *grad.Value
	for _, g := range p.o.removal.gates {
		sign := make([]float32, g.c.Value.Len())
		for i, v := range g.c.Value.F32() {
			sign[i] = float32(math.Copysign(p.o.Lambda, float64(v)))
		}
		term := tp.Sum(tp.Mul(tp.Use(g.c), tp.Const(sign, 1, len(sign))))
		if sum != nil {
			term = tp.Add(sum, term)
		}
		sum = term
	}
	return sum
}

// EndStep implements train.StepEnder: phase 2 at its step.
func (p *dseePhases) EndStep(l *train.Loop) error {
	if p.done || l.Step < p.at {
		return nil
	}
	p.done = true
	if p.o.removal == nil {
		p.pruneEntries()
		return nil
	}
	p.pruneGroups()
	for _, g := range p.o.removal.gates {
		if err := l.SetPart(g.c, grad.Part{}); err != nil {
			return fmt.Errorf("dsee: %w", err)
		}
	}
	return nil
}

// pruneEntries sets the smallest |W| of all layers to zero.
func (p *dseePhases) pruneEntries() {
	var all []float32
	for _, h := range p.holds {
		all = append(all, magnitudes(h.original())...)
	}
	keep := int(math.Round((1 - p.o.Sparsity) * float64(len(all))))
	if keep == len(all) {
		return
	}
	p.o.threshold = float64(nthLargest(all, max(1, keep)))
	for _, h := range p.holds {
		h.cut(float32(p.o.threshold))
	}
}

// pruneGroups closes the gates of smallest |c| of every block.
func (p *dseePhases) pruneGroups() {
	r := p.o.removal
	score := make([]float64, len(r.units))
	for i, u := range r.units {
		score[i] = math.Abs(float64(r.gates[u.gate].c.Value.F32()[u.at]))
	}
	stays := make([]bool, len(r.units))
	for g, gate := range r.gates {
		leave := p.o.Channels
		if g%2 == 0 {
			leave = p.o.Heads
		}
		n := gate.c.Value.Len()
		r.best(stays, score, g, clamp((1-leave)*float64(n), n))
	}
	for i, u := range r.units {
		if !stays[i] {
			r.gates[u.gate].c.Value.F32()[u.at] = 0
		}
	}
}

// HookName implements train.Stateful and train.Keeper.
func (p *dseePhases) HookName() string { return "dsee" }

// dseeState is what a saved run knows of the phases.
type dseeState struct {
	Done      bool    `json:"done"`
	Threshold float64 `json:"threshold"`
}

// HookState implements train.Stateful.
func (p *dseePhases) HookState() ([]byte, error) {
	return json.Marshal(dseeState{p.done, p.o.threshold})
}

// RestoreHook implements train.Stateful: what trains has its values already, and W
// beside it is pruned again.
func (p *dseePhases) RestoreHook(saved []byte) error {
	var s dseeState
	if err := json.Unmarshal(saved, &s); err != nil {
		return fmt.Errorf("adapt: dsee: saved state: %w", err)
	}
	p.done, p.o.threshold = s.Done, s.Threshold
	for _, h := range p.holds {
		values := make([]float32, h.s.p.PartLen())
		h.s.p.Gather(values)
		h.cutRest(float32(s.Threshold))
		h.s.p.Scatter(values)
	}
	return nil
}

// HookTensors implements train.Keeper: the gates, once they no longer train.
func (p *dseePhases) HookTensors() train.State {
	if !p.done || p.o.removal == nil {
		return nil
	}
	return p.o.removal.gateState()
}

// RestoreTensors implements train.Keeper.
func (p *dseePhases) RestoreTensors(s train.State) error {
	if len(s) == 0 {
		return nil
	}
	if p.o.removal == nil {
		return fmt.Errorf("adapt: dsee: the saved run pruned groups; resume with the same settings")
	}
	for _, g := range p.o.removal.gates {
		g.c.Part = grad.Part{}
	}
	return p.o.removal.restoreGates(s)
}
