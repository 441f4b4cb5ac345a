package grad_test

import (
	"fmt"
	"math"
	"testing"

	"tare/engine/grad"
)

var oddShapes = [][2]int{{1, 1}, {3, 17}, {33, 65}, {17, 1}, {1, 33}}

func TestUnary(t *testing.T) {
	sigmoid := func(x float64) float64 { return 1 / (1 + math.Exp(-x)) }
	ops := []struct {
		name string
		op   func(tp *grad.Tape, x *grad.Value) *grad.Value
		f    func(x float64) float64
		pos  bool
	}{
		{"SiLU", (*grad.Tape).SiLU, func(x float64) float64 { return x * sigmoid(x) }, false},
		{"GELU", (*grad.Tape).GELU, func(x float64) float64 { return x * 0.5 * math.Erfc(-x/math.Sqrt2) }, false},
		{"GELUTanh", (*grad.Tape).GELUTanh, func(x float64) float64 {
			return 0.5 * x * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(x+0.044715*x*x*x)))
		}, false},
		{"ReLU", (*grad.Tape).ReLU, func(x float64) float64 { return math.Max(0, x) }, false},
		{"Tanh", (*grad.Tape).Tanh, math.Tanh, false},
		{"Sigmoid", (*grad.Tape).Sigmoid, sigmoid, false},
		{"Exp", (*grad.Tape).Exp, math.Exp, false},
		{"Log", (*grad.Tape).Log, math.Log, true},
		{"Softplus", (*grad.Tape).Softplus, func(x float64) float64 { return math.Log1p(math.Exp(x)) }, false},
		{"Sqrt", (*grad.Tape).Sqrt, math.Sqrt, true},
		{"Scale", func(tp *grad.Tape, x *grad.Value) *grad.Value { return tp.Scale(x, -1.5) }, func(x float64) float64 { return -1.5 * x }, false},
	}
	for _, op := range ops {
		for _, s := range oddShapes {
			in := input{rows: s[0], cols: s[1], draw: away}
			if op.pos {
				in.draw = positive
			}
			opCase{
				name: fmt.Sprintf("%s/%dx%d", op.name, s[0], s[1]), in: []input{in},
				tape: func(tp *grad.Tape, x []*grad.Value, _ []*grad.Param) *grad.Value { return op.op(tp, x[0]) },
				ref: func(x [][]float64) []float64 {
					y := make([]float64, len(x[0]))
					for i, v := range x[0] {
						y[i] = op.f(v)
					}
					return y
				},
			}.check(t)
		}
	}
}

func TestBinaryBroadcast(t *testing.T) {
	ops := []struct {
		name string
		op   func(tp *grad.Tape, x, y *grad.Value) *grad.Value
		f    func(x, y float64) float64
	}{
		{"Add", (*grad.Tape).Add, func(x, y float64) float64 { return x + y }},
		{"Sub", (*grad.Tape).Sub, func(x, y float64) float64 { return x - y }},
		{"Mul", (*grad.Tape).Mul, func(x, y float64) float64 { return x * y }},
	}
	pairs := [][4]int{
		{17, 33, 17, 33}, {17, 33, 1, 33}, {17, 33, 17, 1}, {17, 33, 1, 1},
		{1, 33, 17, 33}, {17, 1, 17, 33}, {1, 1, 17, 33}, {17, 1, 1, 33}, {1, 33, 17, 1}, {1, 1, 1, 1}, {65, 3, 65, 3},
	}
	for _, op := range ops {
		for _, s := range pairs {
			for frozen := range 3 { // 0: both train; 1, 2: one of them is constant
				a, b := input{rows: s[0], cols: s[1], frozen: frozen == 1}, input{rows: s[2], cols: s[3], frozen: frozen == 2}
				opCase{
					name: fmt.Sprintf("%s/%v/frozen %d", op.name, s, frozen), in: []input{a, b},
					tape: func(tp *grad.Tape, x []*grad.Value, _ []*grad.Param) *grad.Value { return op.op(tp, x[0], x[1]) },
					ref: func(x [][]float64) []float64 {
						rows, cols := max(s[0], s[2]), max(s[1], s[3])
						y := make([]float64, rows*cols)
						for r := range rows {
							for c := range cols {
								y[r*cols+c] = op.f(x[0][min(r, s[0]-1)*s[1]+min(c, s[1]-1)], x[1][min(r, s[2]-1)*s[3]+min(c, s[3]-1)])
							}
						}
						return y
					},
				}.check(t)
			}
		}
	}
}

func TestSelfProduct(t *testing.T) {
	opCase{
		name: "x*x", in: []input{{rows: 17, cols: 3}},
		tape: func(tp *grad.Tape, x []*grad.Value, _ []*grad.Param) *grad.Value { return tp.Mul(x[0], x[0]) },
		ref: func(x [][]float64) []float64 {
			y := make([]float64, len(x[0]))
			for i, v := range x[0] {
				y[i] = v * v
			}
			return y
		},
	}.check(t)
}

func TestAddToAndSiLUMul(t *testing.T) {
	pointwise := func(f func(x, y float64) float64) func(x [][]float64) []float64 {
		return func(x [][]float64) []float64 {
			z := make([]float64, len(x[0]))
			for i := range z {
				z[i] = f(x[0][i], x[1][i])
			}
			return z
		}
	}
	for _, s := range oddShapes {
		for frozen := range 3 {
			in := []input{{rows: s[0], cols: s[1], frozen: frozen == 1}, {rows: s[0], cols: s[1], frozen: frozen == 2}}
			run(t, []opCase{{
				name: fmt.Sprintf("AddTo/%v/frozen %d", s, frozen), in: in,
				tape: func(tp *grad.Tape, x []*grad.Value, _ []*grad.Param) *grad.Value { return tp.AddTo(x[0], x[1]) },
				ref:  pointwise(func(x, y float64) float64 { return x + y }),
			}, {
				name: fmt.Sprintf("SiLUMul/%v/frozen %d", s, frozen), in: in,
				tape: func(tp *grad.Tape, x []*grad.Value, _ []*grad.Param) *grad.Value { return tp.SiLUMul(x[0], x[1]) },
				ref:  pointwise(func(x, y float64) float64 { return x / (1 + math.Exp(-x)) * y }),
			}})
		}
	}
}
