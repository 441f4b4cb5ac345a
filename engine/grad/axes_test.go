package grad_test

import (
	"fmt"
	"testing"

	"tare/engine/grad"
)

func TestSwap(t *testing.T) {
	for _, s := range [][4]int{{1, 1, 1, 1}, {2, 3, 4, 1}, {3, 2, 5, 3}, {130, 8, 9, 2}, {3, 4, 5, 16}, {2, 3, 2, 12}, {2, 2, 3, 48}} {
		n, a, b, c := s[0], s[1], s[2], s[3]
		opCase{
			name: fmt.Sprintf("Swap/%v", s), in: []input{{rows: n, cols: a * b * c}},
			tape: func(tp *grad.Tape, x []*grad.Value, _ []*grad.Param) *grad.Value { return tp.Swap(x[0], a, b, c) },
			ref: func(x [][]float64) []float64 {
				y := make([]float64, len(x[0]))
				for i, v := range x[0] {
					l, q, p, r := i%c, i/c%b, i/c/b%a, i/c/b/a
					y[((r*b+q)*a+p)*c+l] = v
				}
				return y
			},
		}.check(t)
	}
}
