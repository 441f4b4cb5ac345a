package train

import (
	"context"
	"testing"

	"tare/engine/grad"
	"tare/engine/tensor"
)

// rester freezes p in the second of three steps.
type rester struct{ p *grad.Param }

func (r rester) BeginStep(l *Loop) error {
	if l.Step == 1 {
		l.Rest(r.p)
	}
	return nil
}

func (r rester) EndStep(*Loop) error {
	r.p.Part = grad.Whole
	return nil
}

// A parameter at rest does not move, though the loop holds gradients for it from the
// step before, and is free to move again afterwards.
func TestRest(t *testing.T) {
	p := grad.NewParam("w", tensor.New(1, 3))
	other := grad.NewParam("v", tensor.New(1, 3))
	p.Part, other.Part = grad.Whole, grad.Whole
	ledger := &grad.Ledger{}
	var held []int64
	loop := &Loop{Task: both{p, other}, Params: []*grad.Param{p, other}, Optimizer: follow{}, Tape: grad.NewTape(ledger), Hooks: []any{rester{p}, counter{&held}},
		Options: Options{Steps: 3, LR: 1, Accumulate: 2}}
	if err := loop.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	if got := p.Value.F32(); got[0] != -2 || got[2] != -6 {
		t.Errorf("two of three steps of [1 2 3] end at %v", got)
	}
	if got := other.Value.F32(); got[0] != -3 {
		t.Errorf("three steps of [1 2 3] end at %v", got)
	}
	if held[0] != 24 || held[1] != 12 || held[2] != 24 {
		t.Errorf("%v bytes of gradients are held after the steps, want 24, 12, 24", held)
	}
}

// both is slope of two parameters.
type both struct{ a, b *grad.Param }

func (s both) Next() (Batch, error)   { return s, nil }
func (s both) State() ([]byte, error) { return nil, nil }
func (s both) Restore([]byte) error   { return nil }
func (s both) Count() int             { return 1 }
func (s both) Loss(tp *grad.Tape, denom float64) *grad.Value {
	return tp.Add(slope{s.a}.Loss(tp, denom), slope{s.b}.Loss(tp, denom))
}

// counter notes the bytes of gradients after each step.
type counter struct{ held *[]int64 }

func (c counter) EndStep(l *Loop) error {
	*c.held = append(*c.held, l.Tape.Ledger.Now(grad.Gradients))
	return nil
}
