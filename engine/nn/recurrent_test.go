package nn

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// The layout holds every row once, a sequence's rows in order, one a step, each at the
// same place of a step.
func TestSteps(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		lengths := make([]int, rng.IntN(6))
		rows := 0
		for i := range lengths {
			lengths[i] = rng.IntN(5)
			rows += lengths[i]
		}
		s := NewSteps(lengths)
		if len(s.Order) != rows || len(s.Inverse) != rows {
			t.Fatalf("%v: %d places, %d rows", lengths, len(s.Order), len(s.Inverse))
		}
		first, at := 0, 0
		starts := make([]int, len(lengths))
		for i, n := range lengths {
			starts[i] = first
			first += n
		}
		for step, n := range s.Counts {
			for place := range n {
				q := s.Seqs[place]
				if want := starts[q] + step; step >= lengths[q] || s.Order[at] != want || s.Inverse[want] != at {
					t.Fatalf("%v: step %d, place %d: row %d of sequence %d", lengths, step, place, s.Order[at], q)
				}
				at++
			}
		}
		if at != rows || len(s.Counts) != slices.Max(append(lengths, 0)) {
			t.Fatalf("%v: %d rows in %d steps", lengths, at, len(s.Counts))
		}
	}
}

func TestCellNames(t *testing.T) {
	for _, c := range []Cell{Tanh, ReLU, LSTM, GRU} {
		if got, err := ParseCell(c.String()); err != nil || got != c {
			t.Errorf("%v: %v, %v", c, got, err)
		}
	}
	if _, err := ParseCell("peephole"); err == nil {
		t.Error("an unknown cell: no error")
	}
}

// A checkpoint's order of kernels and the model's turn into one another.
func TestImageOrder(t *testing.T) {
	disk := []float32{0, 1, 2, 10, 11, 12, 100, 101, 102, 110, 111, 112} // [2 out, 2 channels, 3 pixels]
	want := []float32{0, 10, 1, 11, 2, 12, 100, 110, 101, 111, 102, 112}
	got := FromImages(disk, 3, 2)
	if !slices.Equal(got, want) || !slices.Equal(ToImages(got, 3, 2), disk) {
		t.Errorf("%v, want %v", got, want)
	}
}
