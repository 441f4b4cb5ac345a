package train

import (
	"context"
	"strings"
	"testing"

	"tare/engine/grad"
	"tare/engine/tensor"
)

// slope is a Task and a Batch with the loss Σ (x wᵀ), whose gradient of w is x.
type slope struct{ w *grad.Param }

func (s slope) Next() (Batch, error)   { return s, nil }
func (s slope) State() ([]byte, error) { return nil, nil }
func (s slope) Restore([]byte) error   { return nil }
func (s slope) Count() int             { return 1 }
func (s slope) Loss(tp *grad.Tape, denom float64) *grad.Value {
	return tp.Scale(tp.Sum(tp.Linear(tp.Const([]float32{1, 2, 3}, 1, 3), s.w)), 1/float32(denom))
}

// follow is a descent that can follow a part.
type follow struct{}

func (follow) Step(p *grad.Param, g *tensor.Tensor, lr float64) error {
	w := make([]float32, p.PartLen())
	p.Gather(w)
	for i, v := range g.F32() {
		w[i] -= float32(lr) * v
	}
	p.Scatter(w)
	return nil
}
func (follow) State() State                             { return nil }
func (follow) Restore(State) error                      { return nil }
func (follow) Reindex(p *grad.Param, _ grad.Part) error { return nil }

// mover widens the part after the first step.
type mover struct{ p *grad.Param }

func (m mover) EndStep(l *Loop) error {
	if l.Step == 1 {
		return l.SetPart(m.p, grad.Whole)
	}
	return nil
}

// Gradients that are held for accumulation follow a part that changes, and are
// accounted for.
func TestHeldGradientsFollowThePart(t *testing.T) {
	w := grad.NewParam("w", tensor.New(1, 3))
	w.Part = grad.EntriesOf([]int{1})
	ledger := &grad.Ledger{}
	l := &Loop{Task: slope{w}, Params: []*grad.Param{w}, Optimizer: follow{}, Hooks: []any{mover{w}}, Tape: grad.NewTape(ledger),
		Options: Options{Steps: 2, LR: 1, Accumulate: 2}}
	if err := l.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	// Step one takes 2 off entry 1 alone, step two 1, 2 and 3.
	if got := w.Value.F32(); got[0] != -1 || got[1] != -4 || got[2] != -3 {
		t.Errorf("weights %v, want -1, -4, -3", got)
	}
	if n := ledger.Now(grad.Gradients); n != 12 {
		t.Errorf("%d bytes of gradients are held, want 12", n)
	}
}

func TestSetPartRefuses(t *testing.T) {
	w := grad.NewParam("w", tensor.New(1, 3))
	w.Part = grad.Whole
	l := &Loop{Optimizer: descent{}, Tape: grad.NewTape(nil)}
	if err := l.SetPart(w, grad.EntriesOf([]int{0})); err == nil || !strings.Contains(err.Error(), "cannot follow") {
		t.Errorf("an optimizer that cannot follow: %v", err)
	}
	l.Optimizer = follow{}
	if err := l.SetPart(w, grad.EntriesOf([]int{3})); err == nil {
		t.Error("a position outside is taken")
	}
	if w.Part.Kind != grad.All {
		t.Errorf("part %v after refusals, want the old one", w.Part)
	}
}
