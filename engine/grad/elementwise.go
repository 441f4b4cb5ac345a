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
	type operands struct {
		z, x, y *Value
		scale   float32
	}
	o := operands{z, x, y, scale}
	kernel.Spread(rows, rowGrain(cols), o, func(o *operands, lo, hi int) {
		for r := lo; r < hi; r++ {
			dst := o.z.row(r)
			expandRow(dst, o.x, r)
			if o.y.Cols == len(dst) {
				kernel.Axpy(o.scale, o.y.rowOf(r), dst)
				continue
			}
			v := o.scale * o.y.rowOf(r)[0]
			for i := range dst {
				dst[i] += v
			}
		}
	})
	if tp.needsAny(x, y) {
		record(tp, z, nil, o, func(tp *Tape, o *operands, dz []float32) {
			if o.x.needs {
				tp.reduceInto(o.x, 1, dz, o.z.Rows, o.z.Cols)
			}
			if o.y.needs {
				tp.reduceInto(o.y, o.scale, dz, o.z.Rows, o.z.Cols)
			}
		})
	}
	tp.tangent(z, func() *Value { return tp.repeated(tp.plus(x.tan, tp.times(y.tan, scale)), rows, cols) })
	return z
}

// AddTo returns x + y for equal shapes in y's buffer, which y gives up: the
// residual connection without a third buffer.
func (tp *Tape) AddTo(x, y *Value) *Value {
	mustShape("AddTo", nil, y, x.Rows, x.Cols)
	z := tp.take(y)
	axpy(1, x.Data, z.Data)
	if tp.needsAny(x) {
		record(tp, z, nil, x, func(tp *Tape, x **Value, dz []float32) { tp.contribute(*x, 1, dz) })
	}
	tp.passOn(z, y)
	tp.tangent(z, func() *Value { return tp.plus(x.tan, y.tan) })
	return z
}

// Mul returns x ⊙ y. A dimension of 1 in either is repeated to the other's.
func (tp *Tape) Mul(x, y *Value) *Value {
	rows, cols := broadcast("Mul", x, y)
	z := tp.newValue(rows, cols)
	type operands struct{ z, x, y *Value }
	o := operands{z, x, y}
	kernel.Spread(rows, rowGrain(cols), o, func(o *operands, lo, hi int) {
		for r := lo; r < hi; r++ {
			expandRow(o.z.row(r), o.x, r)
			mulRow(o.z.row(r), o.y, r)
		}
	})
	if tp.needsAny(x, y) {
		record(tp, z, nil, o, func(tp *Tape, o *operands, dz []float32) {
			part := tp.alloc(Scratch, len(dz))
			for _, side := range [2][2]*Value{{o.x, o.y}, {o.y, o.x}} {
				to, other := side[0], side[1]
				if to.needs {
					mulRows(part, dz, other, o.z.Rows, o.z.Cols)
					tp.reduceInto(to, 1, part, o.z.Rows, o.z.Cols)
				}
			}
			tp.release(Scratch, part)
		}, crossed(x, y)...)
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
	type operands struct {
		z, x *Value
		a    float32
	}
	o := operands{z, x, a}
	kernel.Spread(len(z.Data), vecGrain, o, func(o *operands, lo, hi int) {
		copy(o.z.Data[lo:hi], o.x.Data[lo:hi])
		kernel.Scale(o.a, o.z.Data[lo:hi])
	})
	if tp.needsAny(x) {
		record(tp, z, nil, o, func(tp *Tape, o *operands, dz []float32) { tp.contribute(o.x, o.a, dz) })
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

// mulRows writes x [rows, cols] times y, which may repeat, to dst.
func mulRows(dst, x []float32, y *Value, rows, cols int) {
	type operands struct {
		dst, x []float32
		y      *Value
		cols   int
	}
	kernel.Spread(rows, rowGrain(cols), operands{dst, x, y, cols}, func(o *operands, lo, hi int) {
		for r := lo; r < hi; r++ {
			row := o.dst[r*o.cols : (r+1)*o.cols]
			copy(row, o.x[r*o.cols:])
			mulRow(row, o.y, r)
		}
	})
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

// rowGrain is how many rows of a loop over rows are worth a thread's call.
func rowGrain(cols int) int { return 1 + vecGrain/max(cols, 1) }

func parallelRows(rows, cols int, f func(r int)) {
	kernel.Parallel(rows, rowGrain(cols), func(lo, hi int) {
		for r := lo; r < hi; r++ {
			f(r)
		}
	})
}

// SiLUMul returns SiLU(gate) ⊙ up, the heart of a gated MLP, keeping only its two
// inputs: what reads the result in its backward has it made again.
func (tp *Tape) SiLUMul(gate, up *Value) *Value {
	mustShape("SiLUMul", nil, up, gate.Rows, gate.Cols)
	if tp.moving() {
		return tp.spelledSiLUMul(gate, up)
	}
	z := tp.newValue(gate.Rows, gate.Cols)
	type operands struct {
		gate, up *Value
		dst      []float32    // forward
		dz       []float32    // backward
		x, d     [2][]float32 // of gate and of up
	}
	o := operands{gate: gate, up: up}
	forward := func(o *operands, dst []float32) {
		o.dst = dst
		kernel.Spread(len(dst), vecGrain, *o, func(o *operands, lo, hi int) {
			kernel.SiLUMul(o.dst[lo:hi], o.gate.Data[lo:hi], o.up.Data[lo:hi])
		})
		o.dst = nil
	}
	forward(&o, z.Data)
	if tp.needsAny(gate, up) {
		recordCheap(tp, z, nil, o, forward, func(tp *Tape, o *operands, dz []float32) {
			o.dz, o.x = dz, [2][]float32{o.gate.Data, o.up.Data}
			o.d[0], _ = tp.surrender(o.gate)
			o.d[1], _ = tp.surrender(o.up)
			kernel.Spread(len(dz), vecGrain, *o, func(o *operands, lo, hi int) {
				kernel.SiLUMulBackward(o.d[0][lo:hi], o.d[1][lo:hi], o.dz[lo:hi], o.x[0][lo:hi], o.x[1][lo:hi])
			})
			tp.giveNeeded(o.gate, o.d[0])
			tp.giveNeeded(o.up, o.d[1])
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
	z := tp.newValue(x.Rows, x.Cols)
	drop(z.Data, x.Data, p, seed)
	if tp.needsAny(x) {
		type operands struct {
			x    *Value
			p    float32
			seed uint64
		}
		record(tp, z, nil, operands{x, p, seed}, func(tp *Tape, o *operands, dz []float32) {
			dx := tp.alloc(Scratch, len(dz))
			drop(dx, dz, o.p, o.seed)
			tp.give(o.x, dx)
		})
	}
	tp.linearTangent(z, x, func(t *Value) *Value { return tp.dropped(t, p, seed) })
	return z
}

// drop writes src to dst, zero where the mask that seed stands for says so.
func drop(dst, src []float32, p float32, seed uint64) {
	type operands struct {
		dst, src    []float32
		keep        float32
		limit, seed uint64
	}
	o := operands{dst, src, 1 / (1 - p), uint64(float64(p) * (1 << 32)), seed}
	kernel.Spread(len(dst), vecGrain, o, func(o *operands, lo, hi int) {
		for i := lo; i < hi; i++ {
			if mix(o.seed+uint64(i))>>32 >= o.limit {
				o.dst[i] = o.src[i] * o.keep
			} else {
				o.dst[i] = 0
			}
		}
	})
}

// mix is the finaliser of SplitMix64 (Steele, Lea, Flood 2014).
func mix(z uint64) uint64 {
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}
