package grad_test

import (
	"fmt"
	"math"
	"testing"

	"tare/engine/grad"
)

func logistic(v float64) float64 { return 1 / (1 + math.Exp(-v)) }

func TestRecurrentCells(t *testing.T) {
	for _, s := range [][2]int{{1, 1}, {3, 5}, {9, 17}} {
		n, h := s[0], s[1]
		for mask := range 7 { // which operands are frozen; not all of them
			frozen := func(i int) bool { return mask>>i&1 == 1 }
			name := func(op string) string { return fmt.Sprintf("%s/%v/frozen %b", op, s, mask) }
			opCase{
				name: name("GRUCell"), in: []input{{rows: n, cols: 3 * h, frozen: frozen(0)}, {rows: n, cols: 3 * h, frozen: frozen(1)}, {rows: n, cols: h, frozen: frozen(2)}},
				tape: func(tp *grad.Tape, x []*grad.Value, _ []*grad.Param) *grad.Value {
					return tp.GRUCell(x[0], x[1], x[2])
				},
				ref: func(x [][]float64) []float64 {
					y := make([]float64, n*h)
					for i := range y {
						at := i/h*3*h + i%h
						r, z := logistic(x[0][at]+x[1][at]), logistic(x[0][at+h]+x[1][at+h])
						next := math.Tanh(x[0][at+2*h] + r*x[1][at+2*h])
						y[i] = (1-z)*next + z*x[2][i]
					}
					return y
				},
			}.check(t)
			if mask > 2 {
				continue
			}
			opCase{
				name: name("LSTM"), in: []input{{rows: n, cols: 4 * h, frozen: frozen(0)}, {rows: n, cols: h, frozen: frozen(1)}},
				tape: func(tp *grad.Tape, x []*grad.Value, _ []*grad.Param) *grad.Value {
					a := tp.LSTMGates(x[0])
					c := tp.LSTMCell(a, x[1])
					return tp.Stack(c, tp.LSTMOut(a, c))
				},
				ref: func(x [][]float64) []float64 {
					y := make([]float64, 2*n*h)
					for i := range n * h {
						at := i/h*4*h + i%h
						y[i] = logistic(x[0][at+h])*x[1][i] + logistic(x[0][at])*math.Tanh(x[0][at+2*h])
						y[n*h+i] = logistic(x[0][at+3*h]) * math.Tanh(y[i])
					}
					return y
				},
			}.check(t)
		}
	}
}

func TestRangeAndStack(t *testing.T) {
	opCase{
		name: "Range and Stack", in: []input{{rows: 5, cols: 3}, {rows: 2, cols: 3}},
		tape: func(tp *grad.Tape, x []*grad.Value, _ []*grad.Param) *grad.Value {
			return tp.Stack(tp.Range(x[0], 1, 4), x[1], tp.Range(x[0], 3, 5))
		},
		ref: func(x [][]float64) []float64 {
			return append(append(append([]float64{}, x[0][3:12]...), x[1]...), x[0][9:15]...)
		},
	}.check(t)
}
