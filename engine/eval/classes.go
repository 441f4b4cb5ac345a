package eval

import (
	"context"
	"fmt"
	"math"

	"tare/engine/data"
	"tare/engine/grad"
	"tare/engine/model"
)

// Classes measures a classifier on samples, batch at a time: the cross-entropy in nats a
// sample, which LossResult counts as tokens, and the fraction whose highest score is
// that of their class.
func Classes(ctx context.Context, m model.Classifier, s *data.Samples, batch int) (r LossResult, accuracy float64, err error) {
	if s.Len() == 0 {
		return r, 0, fmt.Errorf("eval: no sample to tell the class of: %w", data.ErrEmpty)
	}
	tp := grad.NewTape(nil)
	var sum float64
	right := 0
	for lo := 0; lo < s.Len(); lo += batch {
		if err := ctx.Err(); err != nil {
			return r, 0, err
		}
		at := make([]int, min(batch, s.Len()-lo))
		for i := range at {
			at[i] = lo + i
		}
		b := s.Pick(at)
		tp.NoGrad(func() {
			scores := m.Classify(tp, model.InputsOf(b))
			sum += float64(tp.CrossEntropy(scores, b.Labels, 1).Data[0])
			for i, label := range b.Labels {
				right += count(best(scores.Data[i*scores.Cols:(i+1)*scores.Cols]) == int(label))
			}
		})
		tp.Reset()
	}
	n := float64(s.Len())
	r = LossResult{Loss: sum / n, Perplexity: math.Exp(sum / n), Tokens: s.Len()}
	return r, float64(right) / n, nil
}

// best returns the place of the highest score, of equal ones the first.
func best(scores []float32) (at int) {
	for i, v := range scores {
		if v > scores[at] {
			at = i
		}
	}
	return at
}

func count(yes bool) int {
	if yes {
		return 1
	}
	return 0
}
