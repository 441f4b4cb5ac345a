package grad_test

import (
	"fmt"
	"math"
	"testing"

	"tare/engine/grad"
)

func TestBlockLinear(t *testing.T) {
	for _, s := range [][4]int{{1, 1, 1, 1}, {5, 3, 2, 4}, {70, 2, 17, 3}} {
		n, blocks, in, out := s[0], s[1], s[2], s[3]
		for _, frozen := range []int{-1, 0, 1} {
			opCase{
				name: fmt.Sprintf("BlockLinear/%v/frozen %d", s, frozen),
				in:   []input{{rows: n, cols: blocks * in, frozen: frozen == 0}, {rows: blocks * out, cols: in, frozen: frozen == 1}},
				tape: func(tp *grad.Tape, x []*grad.Value, _ []*grad.Param) *grad.Value {
					return tp.BlockLinear(x[0], x[1], blocks)
				},
				ref: func(x [][]float64) []float64 {
					y := make([]float64, n*blocks*out)
					for r := range n {
						for p := range blocks * out {
							for j := range in {
								y[r*blocks*out+p] += x[0][r*blocks*in+p/out*in+j] * x[1][p*in+j]
							}
						}
					}
					return y
				},
			}.check(t)
		}
	}
}

// The reference takes the Neumann series Σ Kʲ, which converges for the small K drawn.
func TestCayley(t *testing.T) {
	for _, s := range [][2]int{{1, 2}, {3, 4}, {2, 7}} {
		blocks, n := s[0], s[1]
		opCase{
			name: fmt.Sprintf("Cayley/%v", s), in: []input{{rows: blocks, cols: n * (n - 1) / 2}},
			tape: func(tp *grad.Tape, x []*grad.Value, _ []*grad.Param) *grad.Value {
				return tp.Cayley(tp.Skew(tp.Scale(x[0], 0.1), n))
			},
			ref: func(x [][]float64) (q []float64) {
				for b := range blocks {
					k, from := make([]float64, n*n), b*n*(n-1)/2
					for i := range n {
						for j := i + 1; j < n; j++ {
							k[i*n+j], k[j*n+i] = 0.1*x[0][from], -0.1*x[0][from]
							from++
						}
					}
					sum, power := make([]float64, n*n), make([]float64, n*n)
					for i := range n {
						power[i*n+i] = 1
					}
					for range 60 {
						next := make([]float64, n*n)
						for i := range n * n {
							sum[i] += power[i]
							for j := range n {
								next[i] += power[i/n*n+j] * k[j*n+i%n]
							}
						}
						power = next
					}
					for i := range n {
						for j := range n {
							v := 2 * sum[i*n+j]
							if i == j {
								v--
							}
							q = append(q, v)
						}
					}
				}
				return q
			},
		}.check(t)
	}
}

// QQᵀ = I however large K is, and Q = I at 0.
func TestCayleyIsOrthogonal(t *testing.T) {
	const blocks, n = 2, 9
	for _, scale := range []float32{0, 0.3, 30} {
		tp := grad.NewTape(nil)
		x := normal(newRand("cayley"), blocks*n*(n-1)/2, float64(scale))
		q := tp.Cayley(tp.Skew(tp.Const(x, blocks, n*(n-1)/2), n)).Data
		for b := range blocks {
			for i := range n {
				for j := range n {
					var dot float64
					for k := range n {
						dot += float64(q[b*n*n+i*n+k]) * float64(q[b*n*n+j*n+k])
					}
					want := 0.0
					if i == j {
						want = 1
					}
					if math.Abs(dot-want) > 1e-5 || scale == 0 && float64(q[b*n*n+i*n+j]) != want {
						t.Errorf("scale %g: (QQᵀ)[%d, %d] = %g", scale, i, j, dot)
					}
				}
			}
		}
		tp.Reset()
	}
}
