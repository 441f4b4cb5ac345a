package vi

import (
	"math"
	"math/rand/v2"

	"tare/engine/grad"
)

// Dist is a distribution over rows of Cols numbers. Its parameters are values on the tape
// with one row for each copy or one for all. What else it can do it says by being
// [Smooth], [Finite] or [Measured].
type Dist interface {
	// Cols is how many numbers a row of a draw has.
	Cols() int
	// Draw writes a draw to dst [rows, Cols].
	Draw(rng *rand.Rand, dst []float32)
	// LogDensity returns log p(x) summed over columns [rows or 1, 1].
	LogDensity(tp *grad.Tape, x *grad.Value) *grad.Value
	// Outside returns the position of the first number that is not in the support, −1
	// if all are.
	Outside(x []float32) int
}

// Smooth distributions draw x = g(θ, ε) with a noise ε that does not depend on θ, as
// [Reparam] needs.
type Smooth interface {
	Noise(rng *rand.Rand, dst []float32)
	Transform(tp *grad.Tape, noise *grad.Value) *grad.Value
}

// Finite distributions have few enough values to go through all, as [Enum] needs.
type Finite interface {
	Values() int
	// Value writes value number v to a row.
	Value(v int, row []float32)
}

// Measured distributions know their weak derivative, as [MVD] needs:
//
//	∂/∂θ E k(x) = Σ over the phantoms of θ of E[ Weight k(X) + Own k(x) ].
type Measured interface {
	// Phantoms returns the terms for a draw x [rows, Cols]. It may draw more from rng.
	Phantoms(tp *grad.Tape, rng *rand.Rand, x []float32) []Phantom
}

// Phantom is one term of a weak derivative: Theta [rows or 1, 1] is a parameter on the
// tape, X [rows, Cols] where else the rest of the program is to run, Weight and Own the
// factors of each row's cost there and at the draw itself.
type Phantom struct {
	Theta  *grad.Value
	X      []float32
	Weight []float32
	Own    []float32 // nil for zeros
}

// entry is v[r, c], where a single row or column stands for all.
func entry(v *grad.Value, r, c int) float64 {
	if v.Rows == 1 {
		r = 0
	}
	if v.Cols == 1 {
		c = 0
	}
	return float64(v.Data[r*v.Cols+c])
}

// column returns column c of v, the only one where that stands for all.
func column(tp *grad.Tape, v *grad.Value, c int) *grad.Value {
	if v.Cols == 1 {
		return v
	}
	return tp.Slice(v, c, c+1)
}

// sumTo sums v over cols columns, of which it may hold one for all.
func sumTo(tp *grad.Tape, v *grad.Value, cols int) *grad.Value {
	if v.Cols == 1 {
		return tp.Scale(v, float32(cols))
	}
	return tp.SumCols(v)
}

// scalar is a constant [1, 1].
func scalar(tp *grad.Tape, a float64) *grad.Value { return tp.Const([]float32{float32(a)}, 1, 1) }

// stop is v without its gradient.
func stop(tp *grad.Tape, v *grad.Value) *grad.Value {
	return tp.Const(append([]float32(nil), v.Data...), v.Rows, v.Cols)
}

// filled is n times a.
func filled(n int, a float32) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = a
	}
	return x
}

// each fills dst [rows, cols] by row and column.
func each(dst []float32, cols int, f func(r, c int) float64) {
	for i := range dst {
		dst[i] = float32(f(i/cols, i%cols))
	}
}

// first returns the position of the first number that ok refuses.
func first(x []float32, ok func(v float32) bool) int {
	for i, v := range x {
		if !ok(v) {
			return i
		}
	}
	return -1
}

func isFinite(v float32) bool { return v-v == 0 }

// isCount accepts 0, 1, 2, …
func isCount(v float32) bool {
	return v >= 0 && !math.IsInf(float64(v), 1) && float64(v) == math.Floor(float64(v))
}
