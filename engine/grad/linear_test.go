package grad_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"tare/engine/grad"
	"tare/engine/tensor"
	"tare/engine/tensor/kernel"
)

// product is op(a) op(b) with a and b as they are stored: a [m, k] or [k, m].
func product(a, b []float64, m, n, k int, transA, transB bool) []float64 {
	c := make([]float64, m*n)
	for i := range m {
		for j := range n {
			for p := range k {
				ia, ib := i*k+p, p*n+j
				if transA {
					ia = p*m + i
				}
				if transB {
					ib = j*k + p
				}
				c[i*n+j] += a[ia] * b[ib]
			}
		}
	}
	return c
}

// matrixParts are the ways in which W [out, in] can train.
func matrixParts(out, in int) map[string]grad.Part {
	spread := func(n, limit int) []int { return rand.New(rand.NewPCG(uint64(n), 5)).Perm(limit)[:n] }
	return map[string]grad.Part{
		"frozen":  {},
		"whole":   grad.Whole,
		"rows":    grad.RowsOf(spread((out+2)/3, out)),
		"columns": grad.ColumnsOf(spread((in+2)/3, in)),
		"entries": grad.EntriesOf(spread((out*in+4)/5, out*in)),
	}
}

var linearShapes = [][3]int{{1, 1, 1}, {3, 17, 33}, {65, 33, 17}, {17, 130, 3}} // rows of x, out, in

func TestLinear(t *testing.T) {
	for _, s := range linearShapes {
		n, out, in := s[0], s[1], s[2]
		for pn, part := range matrixParts(out, in) {
			for _, frozen := range []bool{false, true} {
				if frozen && part.Kind == grad.None {
					continue
				}
				opCase{
					name: fmt.Sprintf("Linear/%v/%s/frozen x %v", s, pn, frozen), in: []input{{rows: n, cols: in, frozen: frozen}},
					weights: []weight{{shape: []int{out, in}, part: part}},
					tape:    func(tp *grad.Tape, x []*grad.Value, p []*grad.Param) *grad.Value { return tp.Linear(x[0], p[0]) },
					ref:     func(x [][]float64) []float64 { return product(x[0], x[1], n, out, in, false, true) },
				}.check(t)
			}
		}
	}
}

func TestLinearOverHalfStorage(t *testing.T) {
	for _, dtype := range []tensor.DType{tensor.BF16, tensor.F16} {
		for _, s := range linearShapes {
			n, out, in := s[0], s[1], s[2]
			opCase{
				name: fmt.Sprintf("Linear/%v/%v", s, dtype), in: []input{{rows: n, cols: in}},
				weights: []weight{{shape: []int{out, in}, dtype: dtype}},
				tape:    func(tp *grad.Tape, x []*grad.Value, p []*grad.Param) *grad.Value { return tp.Linear(x[0], p[0]) },
				ref:     func(x [][]float64) []float64 { return product(x[0], x[1], n, out, in, false, true) },
			}.check(t)
		}
	}
}

func TestAddLinear(t *testing.T) {
	const scale = -0.75
	for _, s := range linearShapes {
		n, out, in := s[0], s[1], s[2]
		for pn, part := range matrixParts(out, in) {
			for frozen := range 4 { // bit 0: y is constant, bit 1: x is
				if frozen == 3 && part.Kind == grad.None {
					continue
				}
				opCase{
					name:    fmt.Sprintf("AddLinear/%v/%s/frozen %d", s, pn, frozen),
					in:      []input{{rows: n, cols: out, frozen: frozen&1 != 0}, {rows: n, cols: in, frozen: frozen&2 != 0}},
					weights: []weight{{shape: []int{out, in}, part: part}},
					tape: func(tp *grad.Tape, x []*grad.Value, p []*grad.Param) *grad.Value {
						return tp.AddLinear(x[0], x[1], p[0], scale)
					},
					ref: func(x [][]float64) []float64 {
						z := product(x[1], x[2], n, out, in, false, true)
						for i := range z {
							z[i] = x[0][i] + scale*z[i]
						}
						return z
					},
				}.check(t)
			}
		}
	}
}

func TestMatMul(t *testing.T) {
	const scale = 0.5
	shape := func(r, c int, trans bool) input {
		if trans {
			r, c = c, r
		}
		return input{rows: r, cols: c}
	}
	for _, s := range [][3]int{{1, 1, 1}, {3, 17, 33}, {65, 3, 17}, {17, 65, 1}} {
		m, n, k := s[0], s[1], s[2]
		for mode := range 4 {
			transA, transB := mode&1 != 0, mode&2 != 0
			for frozen := range 3 {
				a, b := shape(m, k, transA), shape(k, n, transB)
				a.frozen, b.frozen = frozen == 1, frozen == 2
				name := fmt.Sprintf("%v/%v,%v/frozen %d", s, transA, transB, frozen)
				run(t, []opCase{{
					name: "MatMul/" + name, in: []input{a, b},
					tape: func(tp *grad.Tape, x []*grad.Value, _ []*grad.Param) *grad.Value {
						return tp.MatMul(x[0], x[1], transA, transB)
					},
					ref: func(x [][]float64) []float64 { return product(x[0], x[1], m, n, k, transA, transB) },
				}, {
					name: "AddMatMul/" + name, in: []input{a, b, {rows: m, cols: n, frozen: frozen == 1}},
					tape: func(tp *grad.Tape, x []*grad.Value, _ []*grad.Param) *grad.Value {
						return tp.AddMatMul(x[2], x[0], x[1], transA, transB, scale)
					},
					ref: func(x [][]float64) []float64 {
						z := product(x[0], x[1], m, n, k, transA, transB)
						for i := range z {
							z[i] = x[2][i] + scale*z[i]
						}
						return z
					},
				}})
			}
		}
	}
}

// Use makes a parameter an ordinary matrix: its gradient is that of a leaf.
func TestUse(t *testing.T) {
	opCase{
		name: "Use", in: []input{{rows: 3, cols: 17}}, weights: []weight{{shape: []int{17, 5}, part: grad.Whole}, {shape: []int{3, 5}, part: grad.Whole}, {shape: []int{5}}},
		tape: func(tp *grad.Tape, x []*grad.Value, p []*grad.Param) *grad.Value {
			y := tp.AddMatMul(tp.Use(p[1]), x[0], tp.Use(p[0]), false, false, 1)
			return tp.Mul(tp.AddTo(tp.Use(p[1]), y), tp.Use(p[2]))
		},
		ref: func(x [][]float64) []float64 {
			z := product(x[0], x[1], 3, 5, 17, false, false)
			for i := range z {
				z[i] = (z[i] + 2*x[2][i]) * x[3][i%5]
			}
			return z
		},
	}.check(t)
}

func TestEmbed(t *testing.T) {
	const vocab, d = 33, 17
	ids := []int32{0, 32, 5, 5, 7, 0, 5}
	for pn, part := range map[string]grad.Part{"whole": grad.Whole, "rows": grad.RowsOf([]int{7, 1, 5, 32})} {
		opCase{
			name: "Embed/" + pn, weights: []weight{{shape: []int{vocab, d}, part: part}},
			tape: func(tp *grad.Tape, _ []*grad.Value, p []*grad.Param) *grad.Value { return tp.Embed(ids, p[0]) },
			ref: func(x [][]float64) []float64 {
				var y []float64
				for _, id := range ids {
					y = append(y, x[0][int(id)*d:(int(id)+1)*d]...)
				}
				return y
			},
		}.check(t)
	}
}

func TestEmbedOverHalfStorage(t *testing.T) {
	table := newParam(t, "table", normal(newRand("table"), 5*3, 1), tensor.BF16, 5, 3)
	y := grad.NewTape(nil).Embed([]int32{4, 0}, table)
	v := wide(float32s(t, table.Value))
	near(t, "rows", y.Data, append(append([]float64(nil), v[12:15]...), v[0:3]...), 0)
}

// packed returns random 4-bit groups of W [rows, cols] and W by the definition of
// the format. Scales are powers of two, whose f16 pattern is the exponent alone.
func packed(r *rand.Rand, rows, cols, group int) (*kernel.Q4, []float64) {
	blocks, groups := (cols+31)/32, (cols+group-1)/group
	q := &kernel.Q4{Rows: rows, Cols: cols, Group: group, Codes: make([]byte, rows*blocks*16), Scales: make([]uint16, rows*groups), Zeros: make([]uint8, rows*groups)}
	exp := make([]int, len(q.Scales))
	for i := range exp {
		exp[i] = r.IntN(4)
		q.Scales[i] = uint16(15-exp[i]) << 10
		q.Zeros[i] = uint8(r.IntN(16))
	}
	w := make([]float64, rows*cols)
	for row := range rows {
		for c := range cols {
			code, g := r.IntN(16), row*groups+c/group
			q.Codes[row*blocks*16+c/32*16+c%16] |= byte(code << (c % 32 / 16 * 4))
			w[row*cols+c] = float64(code-int(q.Zeros[g])) / float64(int(1)<<exp[g])
		}
	}
	return q, w
}

func TestLinearFixedOverPackedCodes(t *testing.T) {
	for _, s := range [][4]int{{1, 1, 32, 32}, {3, 17, 65, 32}, {65, 33, 160, 64}, {17, 3, 33, 128}} {
		n, out, in := s[0], s[1], s[2]
		q, w := packed(newRand(fmt.Sprint(s)), out, in, s[3])
		opCase{
			name: fmt.Sprintf("LinearFixed/%v", s), in: []input{{rows: n, cols: in}},
			tape: func(tp *grad.Tape, x []*grad.Value, _ []*grad.Param) *grad.Value {
				return tp.LinearFixed(x[0], kernel.Operand{Q4: q, Trans: true}, out, in)
			},
			ref: func(x [][]float64) []float64 { return product(x[0], w, n, out, in, false, true) },
		}.check(t)
	}
}
