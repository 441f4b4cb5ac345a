package train

import (
	"encoding/json"
	"fmt"

	"tare/engine/data"
	"tare/engine/grad"
	"tare/engine/tensor"
)

// Classifier scores rows: an MLP, a CNN, a ResNet.
type Classifier interface {
	// Logits returns the scores [n, classes] of x [n, width].
	Logits(tp *grad.Tape, x *grad.Value) *grad.Value
}

// buffered is a Classifier with values that training changes without a gradient, such
// as a batch norm's running statistics.
type buffered interface{ Buffers() []*grad.Param }

// Classify is telling the labels of rows by cross-entropy.
type Classify struct {
	Model  Classifier
	Source *data.Labelled
	// Smoothing of the labels: the target of a label is 1 − Smoothing, and the rest is
	// shared by all classes. 0 to below 1.
	Smoothing float32
}

// Next implements Task.
func (t *Classify) Next() (Batch, error) {
	rows, labels := t.Source.Next()
	return &labelledBatch{t, rows, labels}, nil
}

// Release implements Releaser.
func (t *Classify) Release(b Batch) {
	if l, ok := b.(*labelledBatch); ok {
		t.Source.Reuse(l.rows, l.labels)
	}
}

// classifyState is what a saved run keeps: the position in the data, and buffers as
// little-endian f32.
type classifyState struct {
	Source  []byte            `json:"source"`
	Buffers map[string][]byte `json:"buffers,omitempty"`
}

// State implements Task; the model's buffers are saved with the position.
func (t *Classify) State() ([]byte, error) {
	source, err := t.Source.State()
	if err != nil {
		return nil, err
	}
	s := classifyState{Source: source, Buffers: map[string][]byte{}}
	if m, ok := t.Model.(buffered); ok {
		for _, p := range m.Buffers() {
			s.Buffers[p.Name] = p.Value.Bytes()
		}
	}
	return json.Marshal(s)
}

// Restore implements Task.
func (t *Classify) Restore(saved []byte) error {
	var s classifyState
	if err := json.Unmarshal(saved, &s); err != nil {
		return fmt.Errorf("train: state of a classification: %w", err)
	}
	if m, ok := t.Model.(buffered); ok {
		for _, p := range m.Buffers() {
			b, err := tensor.FromBytes(tensor.F32, s.Buffers[p.Name], p.Value.Shape()...)
			if err != nil {
				return fmt.Errorf("train: state of a classification: %s: %w; resume with the model that the run began with", p.Name, err)
			}
			copy(p.Value.F32(), b.F32())
		}
	}
	return t.Source.Restore(s.Source)
}

type labelledBatch struct {
	t      *Classify
	rows   []float32
	labels []int32
}

func (b *labelledBatch) Count() int { return len(b.labels) }

func (b *labelledBatch) Loss(tp *grad.Tape, denom float64) *grad.Value {
	n := len(b.labels)
	logits := b.t.Model.Logits(tp, tp.Const(b.rows, n, len(b.rows)/n))
	if b.t.Smoothing == 0 {
		return tp.CrossEntropy(logits, b.labels, denom)
	}
	// Σ (1 − s)·(−log p_label) + s·mean(−log p): the mean is the label's loss plus the
	// label's score less the scores' mean.
	return tp.Add(tp.Scale(b.gap(tp, logits, denom), b.t.Smoothing), tp.CrossEntropy(logits, b.labels, denom))
}

// gap returns the sum over denom of the label's score less the mean of the scores.
func (b *labelledBatch) gap(tp *grad.Tape, logits *grad.Value, denom float64) *grad.Value {
	c := logits.Cols
	pick := make([]float32, logits.Rows*c)
	for i := range pick {
		pick[i] = -float32(1 / (float64(c) * denom))
	}
	for r, label := range b.labels {
		pick[r*c+int(label)] += float32(1 / denom)
	}
	return tp.Sum(tp.Mul(logits, tp.Const(pick, logits.Rows, c)))
}

// Scores returns the model's scores [n, classes] of rows [n, width], batch rows at a
// time, without recording.
func Scores(m Classifier, rows []float32, n, batch int) (scores []float32, classes int) {
	tp := grad.NewTape(nil)
	width := len(rows) / max(n, 1)
	for lo := 0; lo < n; lo += batch {
		hi := min(lo+batch, n)
		tp.NoGrad(func() {
			y := m.Logits(tp, tp.Const(rows[lo*width:hi*width], hi-lo, width))
			scores, classes = append(scores, y.Data...), y.Cols
		})
		tp.Reset()
	}
	return scores, classes
}
