package grad

import (
	"fmt"

	"tare/engine/tensor/kernel"
)

// Reshape returns x's values in the same order as [rows, cols], in x's buffer, which
// x gives up: [n, heads·headDim] seen as [n·heads, headDim] and back.
func (tp *Tape) Reshape(x *Value, rows, cols int) *Value {
	if rows*cols != x.Rows*x.Cols {
		panic(fmt.Sprintf("grad: Reshape of [%d, %d] to [%d, %d]", x.Rows, x.Cols, rows, cols))
	}
	z := tp.take(x)
	z.Rows, z.Cols = rows, cols
	tp.passOn(z, x)
	tp.linearTangent(z, x, func(t *Value) *Value { return tp.Reshape(tp.fresh(t), rows, cols) })
	return z
}

// Slice returns the columns lo ≤ c < hi of x, a copy: one of the parts of a layer that
// computes several at once.
func (tp *Tape) Slice(x *Value, lo, hi int) *Value {
	n := hi - lo
	z := tp.newValue(x.Rows, n)
	parallelRows(x.Rows, n, func(r int) { copy(z.row(r), x.row(r)[lo:hi]) })
	if tp.needsAny(x) {
		tp.record(z, nil, func(dz []float32) {
			dx, add := tp.into(x)
			if !add {
				clear(dx)
			}
			parallelRows(x.Rows, n, func(r int) {
				row := dx[r*x.Cols+lo : r*x.Cols+hi]
				kernel.Add(row, row, dz[r*n:(r+1)*n])
			})
		})
	}
	tp.linearTangent(z, x, func(t *Value) *Value { return tp.Slice(t, lo, hi) })
	return z
}
