package data

import (
	"fmt"
	"math/rand/v2"
)

// Samples are texts or images of known classes.
type Samples struct {
	Tokens [][]int32 // of texts; nil for images
	Pixels []float32 // of images [n, channels, height, width]; nil for texts
	Labels []int32
}

// Len returns how many there are.
func (s *Samples) Len() int { return len(s.Labels) }

// Pick returns the samples at those places; pixels are copied.
func (s *Samples) Pick(at []int) *Samples {
	out := &Samples{Labels: make([]int32, len(at))}
	width := len(s.Pixels) / max(1, s.Len())
	for i, x := range at {
		out.Labels[i] = s.Labels[x]
		if s.Tokens != nil {
			out.Tokens = append(out.Tokens, s.Tokens[x])
		}
		out.Pixels = append(out.Pixels, s.Pixels[x*width:(x+1)*width]...)
	}
	return out
}

// HoldOut divides the samples in two: every n-th goes to the second.
func (s *Samples) HoldOut(n int) (kept, held *Samples) {
	var first, second []int
	for i := range s.Len() {
		if i%n == n-1 {
			second = append(second, i)
		} else {
			first = append(first, i)
		}
	}
	return s.Pick(first), s.Pick(second)
}

// ShuffledSamples is samples in shuffled order, every batch full. Every epoch is
// shuffled anew, and a saved position goes on with the same batches.
type ShuffledSamples struct {
	cursor
	samples *Samples
	batch   int
}

// NewShuffledSamples returns batches of batch samples.
func NewShuffledSamples(s *Samples, batch int, seed uint64) (*ShuffledSamples, error) {
	switch n := s.Len(); {
	case batch < 1:
		return nil, fmt.Errorf("data: %d samples a batch: must be at least 1", batch)
	case n == 0:
		return nil, fmt.Errorf("data: no samples: %w", ErrEmpty)
	case s.Tokens != nil && len(s.Tokens) != n || len(s.Pixels)%n != 0 || s.Tokens == nil && len(s.Pixels) == 0:
		return nil, fmt.Errorf("data: %d labels of %d texts and %d pixels: %w", n, len(s.Tokens), len(s.Pixels), ErrFormat)
	}
	l := &ShuffledSamples{samples: s, batch: batch}
	l.cursor = cursor{
		state: state{Seed: seed, Size: s.Len()}, what: "samples",
		begin: func(*rand.Rand) int { return s.Len() },
	}
	l.start()
	return l, nil
}

// Next returns the next batch.
func (l *ShuffledSamples) Next() *Samples {
	at := make([]int, l.batch)
	for i := range at {
		at[i] = l.next()
	}
	return l.samples.Pick(at)
}

// CheckLabels is that of the samples.
func (l *ShuffledSamples) CheckLabels(n int) error { return l.samples.CheckLabels(n) }

// CheckLabels refuses labels that are none of n classes.
func (s *Samples) CheckLabels(n int) error {
	for i, label := range s.Labels {
		if label < 0 || int(label) >= n {
			return fmt.Errorf("data: sample %d has the label %d, the model has %d classes: %w", i+1, label, n, ErrFormat)
		}
	}
	return nil
}
