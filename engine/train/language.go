package train

import (
	"tare/engine/data"
	"tare/engine/grad"
	"tare/engine/model"
)

// Language is next-token prediction of a causal model on a source of batches.
type Language struct {
	Model  model.Causal
	Source data.Source
}

// Next implements Task.
func (t *Language) Next() (Batch, error) {
	b, err := t.Source.Next()
	if err != nil {
		return nil, err
	}
	return languageBatch{t.Model, b}, nil
}

// Release implements Releaser, for sources that use a batch's memory again.
func (t *Language) Release(b Batch) {
	s, reuses := t.Source.(data.Reuser)
	if l, ok := b.(languageBatch); ok && reuses {
		s.Reuse(l.b)
	}
}

// State implements Task.
func (t *Language) State() ([]byte, error) { return t.Source.State() }

// Restore implements Task.
func (t *Language) Restore(state []byte) error { return t.Source.Restore(state) }

type languageBatch struct {
	m model.Causal
	b *data.Batch
}

// Targets returns the next token of every row, −1 where it has no loss.
func (b languageBatch) Targets() []int32 { return b.b.Targets }

func (b languageBatch) Count() int { return b.b.Count() }

func (b languageBatch) Loss(tp *grad.Tape, denom float64) *grad.Value {
	return model.Loss(tp, b.m, b.b.Tokens, b.b.Targets, grad.Sequences{Lengths: b.b.Lengths}, denom)
}
