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
	type operands struct {
		z, x   *Value
		lo, hi int
		dx, dz []float32
	}
	o := operands{z: z, x: x, lo: lo, hi: hi}
	kernel.Spread(x.Rows, rowGrain(n), o, func(o *operands, first, last int) {
		for r := first; r < last; r++ {
			copy(o.z.row(r), o.x.row(r)[o.lo:o.hi])
		}
	})
	if tp.needsAny(x) {
		record(tp, z, nil, o, func(tp *Tape, o *operands, dz []float32) {
			dx, add := tp.into(o.x)
			if !add {
				clear(dx)
			}
			o.dx, o.dz = dx, dz
			kernel.Spread(o.x.Rows, rowGrain(o.hi-o.lo), *o, func(o *operands, first, last int) {
				cols, n := o.x.Cols, o.hi-o.lo
				for r := first; r < last; r++ {
					row := o.dx[r*cols+o.lo : r*cols+o.hi]
					kernel.Add(row, row, o.dz[r*n:(r+1)*n])
				}
			})
		})
	}
	tp.linearTangent(z, x, func(t *Value) *Value { return tp.Slice(t, lo, hi) })
	return z
}
