package train

import (
	"fmt"
	"maps"
	"slices"

	"tare/engine/grad"
	"tare/engine/tensor"
	"tare/engine/tensor/kernel"
)

// EMA keeps the exponential moving average of what trains (Polyak and Juditsky 1992; as
// in Tarvainen and Valpola 2017, arXiv:1703.01780). With w₀ the values before the first
// step and wₜ those after step t:
//
//	a₀ = w₀        aₜ = d aₜ₋₁ + (1 − d) wₜ
//
// It is a hook of the loop; stand it after those that change weights themselves. Training
// goes on with w; Swap lets the model hold a, to be evaluated or saved. Its memory is one
// f32 value a trained entry.
type EMA struct {
	Decay float64 // d, from 0 (no averaging) to below 1
	// Ledger, if set, is charged for the averages, as optimizer state.
	Ledger *grad.Ledger

	params   []*grad.Param
	averages map[string]*average
	swapped  bool
	buf      []float32
}

// average is a of one parameter, and the part of it that a stands for.
type average struct {
	part grad.Part
	a    []float32
	held []float32 // w while the model holds a
}

// BeginStep implements StepBeginner: the first step begins the averages.
func (e *EMA) BeginStep(l *Loop) error {
	if e.swapped {
		return fmt.Errorf("the model holds averaged weights; swap them back before training")
	}
	return e.follow(l.Params)
}

// EndStep implements StepEnder.
func (e *EMA) EndStep(l *Loop) error {
	if err := e.follow(l.Params); err != nil {
		return err
	}
	for _, p := range e.params {
		a := e.averages[p.Name].a
		e.buf = slices.Grow(e.buf[:0], len(a))
		w := e.buf[:len(a)]
		p.Gather(w)
		d := float32(e.Decay)
		kernel.Parallel(len(a), 1<<14, func(lo, hi int) {
			kernel.Scale(d, a[lo:hi])
			kernel.Axpy(1-d, w[lo:hi], a[lo:hi])
		})
	}
	return nil
}

// follow takes in parameters that are new, and parts that changed: entries that stay keep
// their average, new ones begin at their value, those that left keep what they trained to.
func (e *EMA) follow(params []*grad.Param) error {
	if e.averages == nil {
		e.averages = map[string]*average{}
	}
	e.params = e.params[:0]
	for _, p := range params {
		if !p.Trains() {
			continue
		}
		e.params = append(e.params, p)
		s := e.averages[p.Name]
		switch {
		case s == nil:
			s = &average{a: make([]float32, p.PartLen())}
			p.Gather(s.a)
			e.averages[p.Name] = s
			e.Ledger.Add(grad.Optimizer, 4*int64(len(s.a)))
		case s.part.Kind == grad.None: // restored
			if len(s.a) != p.PartLen() {
				return fmt.Errorf("saved average of %s has %d entries, %d train; resume with the same settings", p.Name, len(s.a), p.PartLen())
			}
		case !same(s.part, p.Part):
			e.move(p, s)
		}
		s.part = p.Part
	}
	return nil
}

func same(a, b grad.Part) bool { return a.Kind == b.Kind && slices.Equal(a.Index, b.Index) }

func (e *EMA) move(p *grad.Param, s *average) {
	a, known := make([]float32, p.PartLen()), make([]float32, p.PartLen())
	p.Carry(a, s.a, s.part)
	ones := slices.Repeat([]float32{1}, len(s.a))
	p.Carry(known, ones, s.part)
	w := make([]float32, len(a))
	p.Gather(w)
	for i, k := range known {
		if k == 0 {
			a[i] = w[i]
		}
	}
	e.Ledger.Add(grad.Optimizer, 4*int64(len(a)-len(s.a)))
	s.a, s.part = a, p.Part
}

// Swap exchanges the trained weights of params, the loop's, for their averages, rounded
// where the weights are stored in bf16; called again it puts exactly the same weights
// back. Before the first step it does nothing.
func (e *EMA) Swap(params []*grad.Param) error {
	if len(e.averages) == 0 {
		return nil
	}
	if !e.swapped {
		if err := e.follow(params); err != nil {
			return fmt.Errorf("train: averaged weights: %w", err)
		}
	}
	for _, p := range e.params {
		s := e.averages[p.Name]
		if e.swapped {
			p.Scatter(s.held)
			s.held = nil
			continue
		}
		s.held = make([]float32, len(s.a))
		p.Gather(s.held)
		p.Scatter(s.a)
	}
	e.swapped = !e.swapped
	return nil
}

// HookName implements Keeper.
func (e *EMA) HookName() string { return "ema" }

// HookTensors implements Keeper.
func (e *EMA) HookTensors() State {
	for _, p := range e.params { // a hook after this one may have changed a part
		if s := e.averages[p.Name]; p.Trains() && !same(s.part, p.Part) {
			e.move(p, s)
		}
	}
	var st State
	for _, name := range slices.Sorted(maps.Keys(e.averages)) {
		a := e.averages[name].a
		st = append(st, Named{name, tensor.FromF32(a, len(a))})
	}
	return st
}

// RestoreTensors implements Keeper. The averages stand for the parts that train when the
// next step begins.
func (e *EMA) RestoreTensors(st State) error {
	for _, s := range e.averages {
		e.Ledger.Add(grad.Optimizer, -4*int64(len(s.a)))
	}
	e.averages, e.params = map[string]*average{}, nil
	for _, t := range st {
		if t.Tensor.DType() != tensor.F32 {
			return fmt.Errorf("average of %s is %s, want F32", t.Name, t.Tensor.DType())
		}
		a := slices.Clone(t.Tensor.F32())
		e.averages[t.Name] = &average{a: a}
		e.Ledger.Add(grad.Optimizer, 4*int64(len(a)))
	}
	return nil
}
