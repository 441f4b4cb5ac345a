package grad

import (
	"fmt"

	"tare/engine/tensor/kernel"
)

// Add returns x + y. A dimension of 1 in either is repeated to the other's.
func (tp *Tape) Add(x, y *Value) *Value { return tp.addScaled(x, y, 1) }

// Sub returns x − y. A dimension of 1 in either is repeated to the other's.
func (tp *Tape) Sub(x, y *Value) *Value { return tp.addScaled(x, y, -1) }

func (tp *Tape) addScaled(x, y *Value, scale float32) *Value {
	rows, cols := broadcast("Add", x, y)
	z := tp.newValue(rows, cols)
	parallelRows(rows, cols, func(r int) {
		dst := z.row(r)
		expandRow(dst, x, r)
		if y.Cols == cols {
			kernel.Axpy(scale, y.rowOf(r), dst)
			return
		}
		v := scale * y.rowOf(r)[0]
		for i := range dst {
			dst[i] += v
		}
	})
	if tp.needsAny(x, y) {
		tp.record(z, nil, func(dz []float32) {
			if x.needs {
				tp.reduceInto(x, 1, dz, rows, cols)
			}
			if y.needs {
				tp.reduceInto(y, scale, dz, rows, cols)
			}
		})
	}
	tp.tangent(z, func() *Value { return tp.repeated(tp.plus(x.tan, tp.times(y.tan, scale)), rows, cols) })
	return z
}

// AddTo returns x + y for equal shapes in y's buffer, which y gives up: the
// residual connection without a third buffer.
func (tp *Tape) AddTo(x, y *Value) *Value {
	mustShape("AddTo", y, x.Rows, x.Cols)
	z := tp.take(y)
	parallelVec(len(z.Data), func(lo, hi int) { kernel.Axpy(1, x.Data[lo:hi], z.Data[lo:hi]) })
	if tp.needsAny(x) {
		tp.record(z, nil, func(dz []float32) { tp.contribute(x, 1, dz) })
	}
	tp.passOn(z, y)
	tp.tangent(z, func() *Value { return tp.plus(x.tan, y.tan) })
	return z
}

// Mul returns x ⊙ y. A dimension of 1 in either is repeated to the other's.
func (tp *Tape) Mul(x, y *Value) *Value {
	rows, cols := broadcast("Mul", x, y)
	z := tp.newValue(rows, cols)
	parallelRows(rows, cols, func(r int) {
		dst := z.row(r)
		expandRow(dst, x, r)
		mulRow(dst, y, r)
	})
	if tp.needsAny(x, y) {
		var saved []*Value
		if x.needs {
			saved = append(saved, y)
		}
		if y.needs {
			saved = append(saved, x)
		}
		tp.record(z, nil, func(dz []float32) {
			part := tp.alloc(Scratch, rows*cols)
			for _, side := range [2][2]*Value{{x, y}, {y, x}} {
				to, other := side[0], side[1]
				if !to.needs {
					continue
				}
				parallelRows(rows, cols, func(r int) {
					row := part[r*cols : (r+1)*cols]
					copy(row, dz[r*cols:])
					mulRow(row, other, r)
				})
				tp.reduceInto(to, 1, part, rows, cols)
			}
			tp.release(Scratch, part)
		}, saved...)
	}
	tp.tangent(z, func() (t *Value) {
		if x.tan != nil {
			t = tp.Mul(x.tan, y)
		}
		if y.tan != nil {
			t = tp.plus(t, tp.Mul(x, y.tan))
		}
		return t
	})
	return z
}

// Scale returns a·x.
func (tp *Tape) Scale(x *Value, a float32) *Value {
	z := tp.newValue(x.Rows, x.Cols)
	parallelVec(len(z.Data), func(lo, hi int) {
		copy(z.Data[lo:hi], x.Data[lo:hi])
		kernel.Scale(a, z.Data[lo:hi])
	})
	if tp.needsAny(x) {
		tp.record(z, nil, func(dz []float32) { tp.contribute(x, a, dz) })
	}
	tp.linearTangent(z, x, func(t *Value) *Value { return tp.Scale(t, a) })
	return z
}

func (v *Value) row(r int) []float32 { return v.Data[r*v.Cols : (r+1)*v.Cols] }

// rowOf is row r of v where a single row stands for all.
func (v *Value) rowOf(r int) []float32 {
	if v.Rows == 1 {
		return v.Data
	}
	return v.row(r)
}

func expandRow(dst []float32, x *Value, r int) {
	if x.Cols == len(dst) {
		copy(dst, x.rowOf(r))
		return
	}
	v := x.rowOf(r)[0]
	for i := range dst {
		dst[i] = v
	}
}

func mulRow(dst []float32, y *Value, r int) {
	if y.Cols == len(dst) {
		kernel.Mul(dst, dst, y.rowOf(r))
		return
	}
	kernel.Scale(y.rowOf(r)[0], dst)
}

func broadcast(op string, x, y *Value) (rows, cols int) {
	rows, cols = max(x.Rows, y.Rows), max(x.Cols, y.Cols)
	for _, v := range [2]*Value{x, y} {
		if (v.Rows != rows && v.Rows != 1) || (v.Cols != cols && v.Cols != 1) {
			panic(fmt.Sprintf("grad: %s of [%d, %d] and [%d, %d]", op, x.Rows, x.Cols, y.Rows, y.Cols))
		}
	}
	return rows, cols
}

// reduceInto adds scale·d [rows, cols] to v's gradient, summed over the
// dimensions that v was repeated along.
func (tp *Tape) reduceInto(v *Value, scale float32, d []float32, rows, cols int) {
	if v.Rows == rows && v.Cols == cols {
		tp.contribute(v, scale, d)
		return
	}
	g, add := tp.into(v)
	if !add {
		clear(g)
	}
	for r := range rows {
		row := d[r*cols : (r+1)*cols]
		at := g
		if v.Rows != 1 {
			at = g[r*v.Cols : (r+1)*v.Cols]
		}
		if v.Cols == cols {
			kernel.Axpy(scale, row, at[:cols])
		} else {
			at[0] += scale * kernel.Sum(row)
		}
	}
}

func parallelRows(rows, cols int, f func(r int)) {
	kernel.Parallel(rows, 1+(1<<14)/max(cols, 1), func(lo, hi int) {
		for r := lo; r < hi; r++ {
			f(r)
		}
	})
}

// SiLUMul returns SiLU(gate) ⊙ up, the heart of a gated MLP, keeping only its two
// inputs.
func (tp *Tape) SiLUMul(gate, up *Value) *Value {
	mustShape("SiLUMul", up, gate.Rows, gate.Cols)
	if tp.moving() {
		return tp.spelledSiLUMul(gate, up)
	}
	z := tp.newValue(gate.Rows, gate.Cols)
	parallelVec(len(z.Data), func(lo, hi int) { kernel.SiLUMul(z.Data[lo:hi], gate.Data[lo:hi], up.Data[lo:hi]) })
	if tp.needsAny(gate, up) {
		tp.record(z, nil, func(dz []float32) {
			dg, du := tp.alloc(Scratch, len(dz)), tp.alloc(Scratch, len(dz))
			parallelVec(len(dz), func(lo, hi int) {
				kernel.SiLUMulBackward(dg[lo:hi], du[lo:hi], dz[lo:hi], gate.Data[lo:hi], up.Data[lo:hi])
			})
			for _, side := range []struct {
				v *Value
				d []float32
			}{{gate, dg}, {up, du}} {
				if side.v.needs {
					tp.give(side.v, side.d)
				} else {
					tp.release(Scratch, side.d)
				}
			}
		}, gate, up)
	}
	return z
}

// Dropout zeroes entries with probability p and scales the others by 1/(1−p).
// The mask is drawn from the tape's seed and not stored. With p = 0, or when the
// tape does not record, it is the identity.
func (tp *Tape) Dropout(x *Value, p float32) *Value {
	if p <= 0 || !(tp.recording || tp.counting) {
		return x
	}
	tp.rng = mix(tp.rng + 0x9e3779b97f4a7c15)
	return tp.dropped(x, p, tp.rng)
}

// dropped is Dropout by the mask that seed stands for.
func (tp *Tape) dropped(x *Value, p float32, seed uint64) *Value {
	limit := uint64(float64(p) * (1 << 32))
	keep := 1 / (1 - p)
	apply := func(dst, src []float32) {
		parallelVec(len(dst), func(lo, hi int) {
			for i := lo; i < hi; i++ {
				if mix(seed+uint64(i))>>32 >= limit {
					dst[i] = src[i] * keep
				} else {
					dst[i] = 0
				}
			}
		})
	}
	z := tp.newValue(x.Rows, x.Cols)
	apply(z.Data, x.Data)
	if tp.needsAny(x) {
		tp.record(z, nil, func(dz []float32) {
			dx := tp.alloc(Scratch, len(dz))
			apply(dx, dz)
			tp.give(x, dx)
		})
	}
	tp.linearTangent(z, x, func(t *Value) *Value { return tp.dropped(t, p, seed) })
	return z
}

// mix is the finaliser of SplitMix64 (Steele, Lea, Flood 2014).
func mix(z uint64) uint64 {
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}
