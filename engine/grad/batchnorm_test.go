package grad_test

import (
	"fmt"
	"math"
	"testing"

	"tare/engine/grad"
)

// standardRef is (x − µ)/√(σ² + ε) ⊙ w + b for x [rows, c] with the moments over the
// entries that cell gives the same number.
func standardRef(x, w, b []float64, cells int, cell func(row, col int) int) []float64 {
	c := len(w)
	n, mean, square := make([]float64, cells), make([]float64, cells), make([]float64, cells)
	for i, v := range x {
		at := cell(i/c, i%c)
		n[at]++
		mean[at] += v
	}
	for i, v := range x {
		at := cell(i/c, i%c)
		d := v - mean[at]/n[at]
		square[at] += d * d
	}
	y := make([]float64, len(x))
	for i, v := range x {
		at := cell(i/c, i%c)
		y[i] = (v-mean[at]/n[at])/math.Sqrt(square[at]/n[at]+normEps)*w[i%c] + b[i%c]
	}
	return y
}

func TestBatchNorm(t *testing.T) {
	for _, s := range [][2]int{{4, 1}, {9, 17}, {300, 3}, {70, 1030}} {
		rows, c := s[0], s[1]
		run := grad.Running{Mean: make([]float32, c), Var: make([]float32, c)}
		for i := range c {
			run.Mean[i], run.Var[i] = float32(i%5)-2, 0.5+float32(i%3)
		}
		mean, variance := wide(run.Mean), wide(run.Var)
		for wn, part := range vectorParts(c) {
			for _, batch := range []bool{true, false} {
				for _, frozen := range []bool{false, true} {
					if frozen && part.Kind == grad.None || c > 100 && part.Kind != grad.All {
						continue
					}
					opCase{
						name: fmt.Sprintf("BatchNorm/%v/%s/batch %v/frozen x %v", s, wn, batch, frozen), in: []input{{rows: rows, cols: c, frozen: frozen}},
						weights: []weight{{shape: []int{c}, part: part}, {shape: []int{c}, part: part}},
						tape: func(tp *grad.Tape, x []*grad.Value, p []*grad.Param) *grad.Value {
							return tp.BatchNorm(x[0], p[0], p[1], run, normEps, batch)
						},
						ref: func(x [][]float64) []float64 {
							if batch {
								return standardRef(x[0], x[1], x[2], c, func(_, col int) int { return col })
							}
							y := make([]float64, len(x[0]))
							for i, v := range x[0] {
								y[i] = (v-mean[i%c])/math.Sqrt(variance[i%c]+normEps)*x[1][i%c] + x[2][i%c]
							}
							return y
						},
					}.check(t)
				}
			}
		}
	}
}

func TestGroupNorm(t *testing.T) {
	for _, s := range []struct {
		g         grad.Grid
		c, groups int
	}{{grad.Grid{Images: 1, Height: 1, Width: 2}, 2, 1}, {grad.Grid{Images: 3, Height: 4, Width: 5}, 6, 3}, {grad.Grid{Images: 2, Height: 7, Width: 3}, 17, 17}, {grad.Grid{Images: 2, Height: 3, Width: 3}, 33, 11}} {
		for wn, part := range vectorParts(s.c) {
			for _, frozen := range []bool{false, true} {
				if frozen && part.Kind == grad.None {
					continue
				}
				opCase{
					name: fmt.Sprintf("GroupNorm/%v/%s/frozen x %v", s, wn, frozen), in: []input{{rows: s.g.Rows(), cols: s.c, frozen: frozen}},
					weights: []weight{{shape: []int{s.c}, part: part}, {shape: []int{s.c}, part: part}},
					tape: func(tp *grad.Tape, x []*grad.Value, p []*grad.Param) *grad.Value {
						return tp.GroupNorm(x[0], p[0], p[1], s.g, s.groups, normEps)
					},
					ref: func(x [][]float64) []float64 {
						return standardRef(x[0], x[1], x[2], s.g.Images*s.groups, func(row, col int) int {
							return row/(s.g.Height*s.g.Width)*s.groups + col/(s.c/s.groups)
						})
					},
				}.check(t)
			}
		}
	}
}

// Running statistics move by the momentum, the variance as an unbiased estimate, once
// a pass also when the pass is checkpointed.
func TestRunningStatistics(t *testing.T) {
	data := []float32{1, 10, 2, 30, 6, 20} // means 3 and 20, unbiased variances 7 and 100
	for _, checkpointed := range []bool{false, true} {
		run := grad.Running{Mean: []float32{1, 0}, Var: []float32{1, 4}, Momentum: 0.25}
		w, b := newParam(t, "w", []float32{1, 1}, 0, 2), newParam(t, "b", []float32{0, 0}, 0, 2)
		w.Part = grad.Whole
		tp := grad.NewTape(nil)
		f := func(tp *grad.Tape, x *grad.Value) *grad.Value {
			return tp.BatchNorm(x, w, b, run, normEps, tp.Training())
		}
		x := tp.Leaf(data, 3, 2)
		y := x
		if checkpointed {
			y = tp.Checkpoint(x, f)
		} else {
			y = f(tp, x)
		}
		if err := tp.Backward(tp.Sum(y), nil); err != nil {
			t.Fatal(err)
		}
		near(t, "running mean", run.Mean, []float64{1.5, 5}, 1e-6)
		near(t, "running variance", run.Var, []float64{2.5, 28}, 1e-6)
		tp.NoGrad(func() { f(tp, tp.Const(data, 3, 2)) })
		near(t, "running mean after evaluation", run.Mean, []float64{1.5, 5}, 1e-6)
	}
}

// A large mean costs no digits of the variance.
func TestBatchNormOfLargeMean(t *testing.T) {
	const rows = 4096
	x := make([]float32, rows)
	for i := range x {
		x[i] = 1000 + float32(i%2)
	}
	run := grad.Running{Mean: make([]float32, 1), Var: make([]float32, 1), Momentum: 1}
	tp := grad.NewTape(nil)
	tp.BatchNorm(tp.Const(x, rows, 1), newParam(t, "w", []float32{1}, 0, 1), newParam(t, "b", []float32{0}, 0, 1), run, 0, true)
	near(t, "variance", run.Var, []float64{0.25 * rows / (rows - 1)}, 1e-5)
}
