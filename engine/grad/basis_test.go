package grad_test

import (
	"fmt"
	"testing"

	"tare/engine/grad"
)

func TestScaledBasis(t *testing.T) {
	for _, s := range [][3]int{{1, 1, 1}, {2, 3, 5}, {4, 1, 17}, {3, 33, 70}} {
		r, bases, m := s[0], s[1], s[2]
		const wider = 2 // entries of a basis row that do not count
		rows := normal(newRand(fmt.Sprint("basis", s)), r*bases*(m+wider), 1)
		row := func(k, n int) []float32 { return rows[(k*bases+n)*(m+wider):][:m+wider] }
		for frozen := range 3 {
			opCase{
				name: fmt.Sprintf("ScaledBasis/%v/frozen %d", s, frozen),
				in:   []input{{rows: r, cols: bases, frozen: frozen == 1}, {rows: bases, cols: m, frozen: frozen == 2}},
				tape: func(tp *grad.Tape, x []*grad.Value, _ []*grad.Param) *grad.Value {
					return tp.ScaledBasis(x[0], x[1], 1.5, row)
				},
				ref: func(x [][]float64) []float64 {
					y := make([]float64, r*bases*m)
					for i := range y {
						at, j := i/m, i%m
						y[i] = 1.5 * x[0][at] * float64(row(at/bases, at%bases)[j]) * x[1][at%bases*m+j]
					}
					return y
				},
			}.check(t)
		}
	}
}

// Between the passes nothing of the result is held, and its readers get it again.
func TestScaledBasisIsNotHeld(t *testing.T) {
	ledger := &grad.Ledger{}
	tp := grad.NewTape(ledger)
	ones := func(n int) []float32 {
		v := make([]float32, n)
		for i := range v {
			v[i] = 1
		}
		return v
	}
	const r, bases, m = 4, 8, 32
	basis := ones(m)
	lambda, gamma, x := tp.Leaf(ones(r*bases), r, bases), tp.Leaf(ones(bases*m), bases, m), tp.Leaf(ones(m), 1, m)
	y := tp.Scope(func() *grad.Value {
		return tp.MatMul(x, tp.ScaledBasis(lambda, gamma, 1, func(k, n int) []float32 { return basis }), false, true)
	})
	if held, want := ledger.Now(grad.Activations), int64(4*r*bases); held != want {
		t.Errorf("%d bytes of activations are held, want the product's %d", held, want)
	}
	if err := tp.Backward(tp.Sum(y), nil); err != nil {
		t.Fatal(err)
	}
	for i, g := range x.Grad() {
		if g != r*bases {
			t.Fatalf("gradient %d of the input is %g, want the number of rows, %d", i, g, r*bases)
		}
	}
	mustBeClean(t, ledger)
}
