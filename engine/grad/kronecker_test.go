package grad_test

import (
	"fmt"
	"strings"
	"testing"

	"tare/engine/grad"
)

// The reference builds the Kronecker product: K[p·o2 + q, a·i2 + b] = Σ_k U_k[p, a] V_k[q, b].
func TestAddKronecker(t *testing.T) {
	for _, s := range []struct{ n, terms, o1, i1, o2, i2 int }{{1, 1, 1, 1, 1, 1}, {3, 2, 2, 3, 4, 5}, {7, 3, 5, 2, 3, 4}, {2500, 2, 8, 2, 2, 8}} {
		out, in := s.o1*s.o2, s.i1*s.i2
		for _, frozen := range []string{"none", "x", "u", "v", "uv", "xv"} {
			if s.n > 100 && frozen != "none" {
				continue
			}
			opCase{
				name: fmt.Sprintf("AddKronecker/%v/frozen %s", s, frozen),
				in: []input{
					{rows: s.n, cols: out}, {rows: s.n, cols: in, frozen: strings.Contains(frozen, "x")},
					{rows: s.terms * s.o1, cols: s.i1, frozen: strings.Contains(frozen, "u")}, {rows: s.terms * s.o2, cols: s.i2, frozen: strings.Contains(frozen, "v")},
				},
				tape: func(tp *grad.Tape, x []*grad.Value, _ []*grad.Param) *grad.Value {
					return tp.AddKronecker(x[0], x[1], x[2], x[3], s.terms)
				},
				ref: func(x [][]float64) []float64 {
					k := make([]float64, out*in)
					for term := range s.terms {
						for p := range out {
							for c := range in {
								k[p*in+c] += x[2][(term*s.o1+p/s.o2)*s.i1+c/s.i2] * x[3][(term*s.o2+p%s.o2)*s.i2+c%s.i2]
							}
						}
					}
					y := append([]float64(nil), x[0]...)
					for r := range s.n {
						for p := range out {
							for c := range in {
								y[r*out+p] += k[p*in+c] * x[1][r*in+c]
							}
						}
					}
					return y
				},
			}.check(t)
		}
	}
}
