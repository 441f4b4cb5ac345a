package train

import (
	"errors"
	"fmt"

	"tare/engine/grad"
	"tare/engine/tensor"
)

// Optimizer turns a complete gradient into an update of a parameter's trained
// part. State is per parameter, by name, so that chains of optimizers compose and
// saving needs no knowledge of which they are.
type Optimizer interface {
	// Step applies the gradient g, which has p's part's shape, at rate lr.
	Step(p *grad.Param, g *tensor.Tensor, lr float64) error
	// State returns live views of everything that must be saved to go on later.
	State() State
	// Restore replaces the state by a saved one.
	Restore(State) error
}

// Reindexer is an Optimizer whose state can follow a parameter of which another part
// trains than before.
type Reindexer interface {
	// Reindex moves p's state from the part that trained to p.Part: entries in both
	// keep theirs, new ones start at zero, and steps are counted on.
	Reindex(p *grad.Param, from grad.Part) error
}

// SetPart changes what of p trains, between two steps: from a StepBeginner or a
// StepEnder. The optimizer's state and the loop's own buffers follow.
func (l *Loop) SetPart(p *grad.Param, part grad.Part) error {
	from := p.Part
	p.Part = part
	if err := p.Check(); err != nil {
		p.Part = from
		return err
	}
	o, ok := l.Optimizer.(Reindexer)
	if !ok {
		p.Part = from
		return fmt.Errorf("train: %s: the state of %T cannot follow a part that changes; use adamw or sgd", p.Name, l.Optimizer)
	}
	if g, held := l.held[p]; held && len(g) != p.PartLen() {
		l.Tape.Ledger.Add(grad.Gradients, -4*int64(len(g)))
		delete(l.held, p)
	}
	return o.Reindex(p, from)
}

// Rest freezes p until its Part is set again, from a StepBeginner: it has no gradient,
// the loop holds none for it, and the optimizer's state waits.
func (l *Loop) Rest(p *grad.Param) {
	p.Part = grad.Part{}
	if g, held := l.held[p]; held {
		l.Tape.Ledger.Add(grad.Gradients, -4*int64(len(g)))
		delete(l.held, p)
	}
}

// State is named tensors in a stable order.
type State []Named

// Named is one tensor of a State.
type Named struct {
	Name   string
	Tensor *tensor.Tensor
}

// Bytes returns what the tensors take.
func (s State) Bytes() int64 {
	var n int64
	for _, t := range s {
		n += int64(len(t.Tensor.Bytes()))
	}
	return n
}

// ErrDiverged marks a loss or gradient that is not a finite number.
var ErrDiverged = errors.New("training diverged")

func diverged(what string, step int, lr float64) error {
	return fmt.Errorf("train: step %d: %s is not finite at learning rate %.3g: %w; lower the rate, lengthen the warm-up or clip gradients", step, what, lr, ErrDiverged)
}
