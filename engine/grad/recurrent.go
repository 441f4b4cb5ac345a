package grad

import (
	"fmt"

	"tare/engine/tensor/kernel"
)

// Range returns rows [lo, hi) of x, a copy.
func (tp *Tape) Range(x *Value, lo, hi int) *Value {
	z := tp.newValue(hi-lo, x.Cols)
	copy(z.Data, x.Data[lo*x.Cols:hi*x.Cols])
	if tp.needsAny(x) {
		tp.record(z, nil, func(dz []float32) {
			dx, add := tp.into(x)
			if !add {
				clear(dx)
			}
			kernel.Axpy(1, dz, dx[lo*x.Cols:hi*x.Cols])
		})
	}
	tp.linearTangent(z, x, func(t *Value) *Value { return tp.Range(t, lo, hi) })
	return z
}

// Stack returns the rows of all parts, one below another.
func (tp *Tape) Stack(parts ...*Value) *Value {
	rows := 0
	for _, p := range parts {
		mustCols("Stack", nil, p, parts[0].Cols)
		rows += p.Rows
	}
	z := tp.newValue(rows, parts[0].Cols)
	at := 0
	for _, p := range parts {
		at += copy(z.Data[at:], p.Data)
	}
	if tp.needsAny(parts...) {
		tp.record(z, nil, func(dz []float32) {
			at := 0
			for _, p := range parts {
				if n := p.Rows * p.Cols; p.needs {
					tp.contribute(p, 1, dz[at:at+n])
				}
				at += p.Rows * p.Cols
			}
		})
	}
	tp.tangent(z, func() *Value { return tp.stackMoved(parts) })
	return z
}

// stackMoved stacks the tangents of parts, zeros where one has none.
func (tp *Tape) stackMoved(parts []*Value) *Value {
	tangents, any := make([]*Value, len(parts)), false
	for i, p := range parts {
		any = any || p.tan != nil
		if tangents[i] = p.tan; p.tan == nil {
			tangents[i] = tp.blank(p.Rows, p.Cols)
		}
	}
	if !any {
		return nil
	}
	return tp.Stack(tangents...)
}

// LSTMGates returns the gates σ(i), σ(f), tanh(g), σ(o) of x [n, 4h] in x's buffer,
// which x gives up.
func (tp *Tape) LSTMGates(x *Value) *Value {
	h := x.Cols / 4
	if x.Cols%4 != 0 {
		panic(fmt.Sprintf("grad: LSTMGates of %d columns", x.Cols))
	}
	if tp.moving() {
		return tp.spelledLSTMGates(x)
	}
	z := tp.take(x)
	parallelRows(z.Rows, 8*z.Cols, func(r int) {
		row := z.row(r)
		kernel.Sigmoid(row[:2*h], row[:2*h])
		kernel.Tanh(row[2*h:3*h], row[2*h:3*h])
		kernel.Sigmoid(row[3*h:], row[3*h:])
	})
	if tp.needsAny(x) {
		tp.record(z, nil, func(dz []float32) {
			dx := tp.alloc(Scratch, len(dz))
			parallelRows(z.Rows, 4*z.Cols, func(r int) {
				d, g, row := dx[r*z.Cols:(r+1)*z.Cols], dz[r*z.Cols:(r+1)*z.Cols], z.row(r)
				kernel.SigmoidBackward(d[:2*h], g[:2*h], row[:2*h])
				kernel.TanhBackward(d[2*h:3*h], g[2*h:3*h], row[2*h:3*h])
				kernel.SigmoidBackward(d[3*h:], g[3*h:], row[3*h:])
			})
			tp.give(x, dx)
		}, z)
	}
	return z
}

// LSTMCell returns the next memory f ⊙ c + i ⊙ g [n, h] for the gates a of LSTMGates
// and the memory c.
func (tp *Tape) LSTMCell(a, c *Value) *Value {
	h := c.Cols
	mustShape("LSTMCell", nil, a, c.Rows, 4*h)
	if tp.moving() {
		return tp.spelledLSTMCell(a, c)
	}
	z := tp.newValue(c.Rows, h)
	parallelRows(c.Rows, 4*h, func(r int) {
		row, dst := a.row(r), z.row(r)
		kernel.Mul(dst, row[:h], row[2*h:3*h])
		kernel.MulAdd(dst, row[h:2*h], c.row(r))
	})
	if tp.needsAny(a, c) {
		tp.record(z, nil, func(dz []float32) {
			if a.needs {
				da, add := tp.into(a)
				if !add {
					clear(da)
				}
				parallelRows(c.Rows, 4*h, func(r int) {
					d, g, row := da[r*4*h:(r+1)*4*h], dz[r*h:(r+1)*h], a.row(r)
					kernel.MulAdd(d[:h], g, row[2*h:3*h])
					kernel.MulAdd(d[h:2*h], g, c.row(r))
					kernel.MulAdd(d[2*h:3*h], g, row[:h])
				})
			}
			if c.needs {
				dc, add := tp.into(c)
				if !add {
					clear(dc)
				}
				parallelRows(c.Rows, 4*h, func(r int) { kernel.MulAdd(dc[r*h:(r+1)*h], dz[r*h:(r+1)*h], a.row(r)[h:2*h]) })
			}
		}, a, c)
	}
	return z
}

// LSTMOut returns the next state o ⊙ tanh(c) [n, h] for the gates a of LSTMGates and
// the memory c.
func (tp *Tape) LSTMOut(a, c *Value) *Value {
	h := c.Cols
	mustShape("LSTMOut", nil, a, c.Rows, 4*h)
	if tp.moving() {
		return tp.spelledLSTMOut(a, c)
	}
	z := tp.newValue(c.Rows, h)
	parallelRows(c.Rows, 8*h, func(r int) {
		kernel.Tanh(z.row(r), c.row(r))
		kernel.Mul(z.row(r), z.row(r), a.row(r)[3*h:])
	})
	if tp.needsAny(a, c) {
		tp.record(z, nil, func(dz []float32) {
			da, addA := tp.room(a)
			dc, addC := tp.room(c)
			if a.needs && !addA {
				clear(da)
			}
			if c.needs && !addC {
				clear(dc)
			}
			buf := tp.alloc(Scratch, 2*len(dz))
			parallelRows(c.Rows, 8*h, func(r int) {
				t, d := buf[2*r*h:(2*r+1)*h], buf[(2*r+1)*h:(2*r+2)*h]
				g := dz[r*h : (r+1)*h]
				kernel.Tanh(t, c.row(r))
				if a.needs {
					kernel.MulAdd(da[(4*r+3)*h:(4*r+4)*h], g, t)
				}
				if c.needs { // dc = dh ⊙ o (1 − tanh²c)
					kernel.TanhBackward(d, g, t)
					kernel.MulAdd(dc[r*h:(r+1)*h], d, a.row(r)[3*h:])
				}
			})
			tp.release(Scratch, buf)
		}, a, c)
	}
	return z
}

// room is into for an operand that may need no gradient.
func (tp *Tape) room(v *Value) (buf []float32, add bool) {
	if !v.needs {
		return nil, false
	}
	return tp.into(v)
}

// GRUCell returns the next state (1 − z) ⊙ n + z ⊙ h [n, h], where with the inputs'
// part x [n, 3h] and the state's part s [n, 3h], biases included,
//
//	r, z = σ(x + s) of the first and second third;  n = tanh(x₃ + r ⊙ s₃)
//
// (Cho et al. 2014, arXiv:1406.1078, in PyTorch's form.)
func (tp *Tape) GRUCell(x, s, h *Value) *Value {
	n := h.Cols
	mustShape("GRUCell", nil, x, h.Rows, 3*n)
	mustShape("GRUCell", nil, s, h.Rows, 3*n)
	if tp.moving() {
		return tp.spelledGRU(x, s, h)
	}
	gates, y := tp.newValue(h.Rows, 3*n), tp.newValue(h.Rows, n)
	parallelRows(h.Rows, 16*n, func(r int) {
		g, a, b, dst := gates.row(r), x.row(r), s.row(r), y.row(r)
		kernel.Add(g[:2*n], a[:2*n], b[:2*n])
		kernel.Sigmoid(g[:2*n], g[:2*n])
		next := g[2*n:]
		copy(next, a[2*n:])
		kernel.MulAdd(next, g[:n], b[2*n:])
		kernel.Tanh(next, next)
		kernel.Sub(dst, h.row(r), next) // n + z (h − n)
		kernel.Mul(dst, dst, g[n:2*n])
		kernel.Add(dst, dst, next)
	})
	if tp.needsAny(x, s, h) {
		tp.record(y, nil, func(dy []float32) { tp.gruBackward(x, s, h, gates, dy) }, s, h, gates)
	}
	return y
}

func (tp *Tape) gruBackward(x, s, h, gates *Value, dy []float32) {
	n := h.Cols
	dx, ds := tp.alloc(Scratch, h.Rows*3*n), tp.alloc(Scratch, h.Rows*3*n)
	dh, add := tp.room(h)
	if h.needs && !add {
		clear(dh)
	}
	parallelRows(h.Rows, 16*n, func(row int) {
		g, d := gates.row(row), dy[row*n:(row+1)*n]
		r, z, next := g[:n], g[n:2*n], g[2*n:]
		a, b := dx[row*3*n:(row+1)*3*n], ds[row*3*n:(row+1)*3*n]
		old, part := h.row(row), s.row(row)[2*n:]
		for i, v := range d {
			dn := v * (1 - z[i]) * (1 - next[i]*next[i])
			dr := dn * part[i] * r[i] * (1 - r[i])
			dz := v * (old[i] - next[i]) * z[i] * (1 - z[i])
			a[i], a[n+i], a[2*n+i] = dr, dz, dn
			b[i], b[n+i], b[2*n+i] = dr, dz, dn*r[i]
		}
		if h.needs {
			kernel.MulAdd(dh[row*n:(row+1)*n], d, z)
		}
	})
	for _, side := range []struct {
		v *Value
		d []float32
	}{{x, dx}, {s, ds}} {
		if side.v.needs {
			tp.give(side.v, side.d)
		} else {
			tp.release(Scratch, side.d)
		}
	}
}
