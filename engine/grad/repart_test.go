package grad_test

import (
	"slices"
	"testing"

	"tare/engine/grad"
	"tare/engine/tensor"
)

// What entry (r, c) of a 3×4 matrix had in one part it has in the other, whatever kinds
// of parts they are.
func TestCarryKeepsTheEntriesOfBothParts(t *testing.T) {
	parts := map[string]grad.Part{
		"none": {}, "all": grad.Whole, "rows": grad.RowsOf([]int{2, 0}), "columns": grad.ColumnsOf([]int{3, 1}),
		"entries": grad.EntriesOf([]int{11, 0, 5, 7}), "others": grad.EntriesOf([]int{1, 5, 6, 11}),
	}
	trains := func(part grad.Part, at int) bool {
		switch part.Kind {
		case grad.All:
			return true
		case grad.Rows:
			return slices.Contains(part.Index, at/4)
		case grad.Columns:
			return slices.Contains(part.Index, at%4)
		}
		return slices.Contains(part.Index, at)
	}
	for fromName, from := range parts {
		for toName, to := range parts {
			var src, want []float32
			for at := range 12 {
				if trains(from, at) {
					src = append(src, float32(100+at))
				}
				if trains(to, at) {
					if trains(from, at) {
						want = append(want, float32(100+at))
					} else {
						want = append(want, 0)
					}
				}
			}
			p := grad.NewParam("w", tensor.New(3, 4))
			p.Part = to
			dst := slices.Repeat([]float32{-1}, p.PartLen())
			p.Carry(dst, src, from)
			if !slices.Equal(dst, want) {
				t.Errorf("%s to %s: %v, want %v", fromName, toName, dst, want)
			}
		}
	}
}
