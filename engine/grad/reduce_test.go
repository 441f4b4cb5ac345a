package grad_test

import (
	"fmt"
	"math"
	"testing"

	"tare/engine/grad"
)

type tapeFunc = func(tp *grad.Tape, x []*grad.Value, p []*grad.Param) *grad.Value

func TestReductions(t *testing.T) {
	for _, s := range [][2]int{{1, 1}, {3, 17}, {33, 65}, {65, 1}, {1, 300}} {
		rows, cols := s[0], s[1]
		in := []input{{rows: rows, cols: cols}}
		unary := func(f func(tp *grad.Tape, x *grad.Value) *grad.Value) tapeFunc {
			return func(tp *grad.Tape, x []*grad.Value, _ []*grad.Param) *grad.Value { return f(tp, x[0]) }
		}
		total := func(x []float64) (sum float64) {
			for _, v := range x {
				sum += v
			}
			return sum
		}
		name := func(op string) string { return fmt.Sprintf("%s/%dx%d", op, rows, cols) }
		run(t, []opCase{
			{name: name("Sum"), in: []input{{rows: rows, cols: cols, draw: positive}}, tape: unary((*grad.Tape).Sum), ref: func(x [][]float64) []float64 { return []float64{total(x[0])} }},
			{name: name("Mean"), in: []input{{rows: rows, cols: cols, draw: positive}}, tape: unary((*grad.Tape).Mean), ref: func(x [][]float64) []float64 { return []float64{total(x[0]) / float64(rows*cols)} }},
			{name: name("SumRows"), in: in, tape: unary((*grad.Tape).SumRows), ref: func(x [][]float64) []float64 {
				y := make([]float64, cols)
				for i, v := range x[0] {
					y[i%cols] += v
				}
				return y
			}},
			{name: name("SumCols"), in: in, tape: unary((*grad.Tape).SumCols), ref: func(x [][]float64) []float64 {
				y := make([]float64, rows)
				for i, v := range x[0] {
					y[i/cols] += v
				}
				return y
			}},
			{name: name("Softmax"), in: in, tape: unary((*grad.Tape).Softmax), ref: func(x [][]float64) []float64 { return softmaxRows(x[0], cols) }},
		})
	}
}

func softmaxRows(x []float64, cols int) []float64 {
	y := make([]float64, len(x))
	for at := 0; at < len(x); at += cols {
		var sum float64
		for c := range cols {
			y[at+c] = math.Exp(x[at+c])
			sum += y[at+c]
		}
		for c := range cols {
			y[at+c] /= sum
		}
	}
	return y
}

// A row far from zero must neither overflow nor lose its digits.
func TestSoftmaxOfLargeNumbers(t *testing.T) {
	tp := grad.NewTape(nil)
	y := tp.Softmax(tp.Const([]float32{1e4, 1e4 - 1, -1e4, 3e38, -3e38, 0}, 2, 3))
	near(t, "softmax", y.Data, []float64{1 / (1 + math.Exp(-1)), 1 / (1 + math.E), 0, 1, 0, 0}, 1e-6)
}

func TestRowMovement(t *testing.T) {
	gather := []int{4, 0, 4, 2, 4}
	scatter := []int{6, 1, 1, 0, 6}
	run(t, []opCase{{
		name: "GatherRows", in: []input{{rows: 5, cols: 17}},
		tape: func(tp *grad.Tape, x []*grad.Value, _ []*grad.Param) *grad.Value { return tp.GatherRows(x[0], gather) },
		ref: func(x [][]float64) []float64 {
			var y []float64
			for _, r := range gather {
				y = append(y, x[0][r*17:(r+1)*17]...)
			}
			return y
		},
	}, {
		name: "ScatterRows", in: []input{{rows: 5, cols: 17}},
		tape: func(tp *grad.Tape, x []*grad.Value, _ []*grad.Param) *grad.Value {
			return tp.ScatterRows(x[0], scatter, 8)
		},
		ref: func(x [][]float64) []float64 {
			y := make([]float64, 8*17)
			for i, r := range scatter {
				for c := range 17 {
					y[r*17+c] += x[0][i*17+c]
				}
			}
			return y
		},
	}, {
		name: "Columns", in: []input{{rows: 33, cols: 17}},
		tape: func(tp *grad.Tape, x []*grad.Value, _ []*grad.Param) *grad.Value {
			return tp.Columns(x[0], []int{0, 3, 16})
		},
		ref: func(x [][]float64) []float64 {
			var y []float64
			for r := range 33 {
				for _, c := range []int{0, 3, 16} {
					y = append(y, x[0][r*17+c])
				}
			}
			return y
		},
	}})
}

func TestFoldColumns(t *testing.T) {
	for _, s := range [][3]int{{1, 1, 1}, {3, 17, 17}, {3, 17, 5}, {17, 33, 64}, {65, 33, 8}, {3, 32, 8}, {3, 9, 1}} {
		rows, cols, width := s[0], s[1], s[2]
		opCase{
			name: fmt.Sprintf("FoldColumns/%v", s), in: []input{{rows: rows, cols: cols}},
			tape: func(tp *grad.Tape, x []*grad.Value, _ []*grad.Param) *grad.Value { return tp.FoldColumns(x[0], width) },
			ref: func(x [][]float64) []float64 {
				y := make([]float64, rows*width)
				for r := range rows {
					for c := range cols {
						y[r*width+c%width] += x[0][r*cols+c]
					}
				}
				return y
			},
		}.check(t)
	}
}

func TestBlockAffine(t *testing.T) {
	for _, s := range [][3]int{{1, 1, 1}, {3, 6, 3}, {6, 4, 2}, {15, 35, 5}, {34, 17, 17}} {
		o, in, r := s[0], s[1], s[2]
		for frozen := range 3 {
			opCase{
				name: fmt.Sprintf("BlockAffine/%v/frozen %d", s, frozen),
				in:   []input{{rows: o, cols: in, frozen: frozen == 1}, {rows: o, cols: r, frozen: frozen == 2}},
				tape: func(tp *grad.Tape, x []*grad.Value, _ []*grad.Param) *grad.Value { return tp.BlockAffine(x[0], x[1]) },
				ref: func(x [][]float64) []float64 {
					w, d := x[0], x[1]
					y := make([]float64, o*in)
					for p := range o {
						for q := range in {
							a, b := p/r*r, q/r*r // first row and column of the block
							v := w[p*in+q] + d[p*r+q-b]
							for k := range r {
								v += w[p*in+b+k] * d[(a+k)*r+q-b]
							}
							y[p*in+q] = v
						}
					}
					return y
				},
			}.check(t)
		}
	}
}
