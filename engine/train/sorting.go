package train

import (
	"tare/engine/data"
	"tare/engine/grad"
	"tare/engine/model"
)

// Sorting is telling the classes of texts or images by cross-entropy, with a model that
// reads either.
type Sorting struct {
	Model  model.Classifier
	Source *data.ShuffledSamples
}

// Next implements Task.
func (t *Sorting) Next() (Batch, error) { return sortingBatch{t.Model, t.Source.Next()}, nil }

// State implements Task.
func (t *Sorting) State() ([]byte, error) { return t.Source.State() }

// Restore implements Task.
func (t *Sorting) Restore(state []byte) error { return t.Source.Restore(state) }

type sortingBatch struct {
	m model.Classifier
	s *data.Samples
}

func (b sortingBatch) Count() int { return b.s.Len() }

func (b sortingBatch) Loss(tp *grad.Tape, denom float64) *grad.Value {
	return model.ClassLoss(tp, b.m, model.InputsOf(b.s), b.s.Labels, denom)
}
