package grad

import (
	"fmt"
	"slices"

	"tare/engine/tensor/kernel"
)

// operand describes v's data as a GEMM operand.
func (v *Value) operand(trans bool) kernel.Operand {
	return kernel.Operand{F32: v.Data, LD: v.Cols, Trans: trans}
}

func dense(data []float32, cols int, trans bool) kernel.Operand {
	return kernel.Operand{F32: data, LD: cols, Trans: trans}
}

// Linear returns y = x Wᵀ for x [n, in] and the parameter W [out, in], which may
// be stored in any type. Of x it keeps what the trained part's gradient needs:
// nothing if W is frozen, the columns if columns train, x itself otherwise.
func (tp *Tape) Linear(x *Value, w *Param) *Value {
	out, in := w.rowsCols()
	mustCols("Linear", w, x, in)
	y := tp.newValue(x.Rows, out)
	if tp.rounds() {
		if b := w.InBytes(); b != nil {
			kernel.MulBytes(y.Data, out, x.Rows, out, in, x.Data, x.Cols, b)
			return y
		}
	}
	kernel.Gemm(y.Data, out, x.Rows, out, in, x.operand(false), w.Value.Operand(true), kernel.GemmOptions{BF16: tp.BF16})
	tp.recordLinear(y, x, w, 1)
	tp.tangent(y, func() *Value { return tp.linearMoved(nil, x, w, 1) })
	return y
}

// rounds reports whether products may be taken of rows in 8 bits: nothing that a gradient
// or a tangent goes through.
func (tp *Tape) rounds() bool { return tp.Int8 && !tp.Training() && !tp.moving() }

// AddLinear returns y + scale·x Wᵀ in y's buffer, which y gives up.
func (tp *Tape) AddLinear(y, x *Value, w *Param, scale float32) *Value {
	out, in := w.rowsCols()
	mustCols("AddLinear", w, x, in)
	mustShape("AddLinear", w, y, x.Rows, out)
	z := tp.take(y)
	kernel.Gemm(z.Data, out, x.Rows, out, in, x.operand(false), w.Value.Operand(true), kernel.GemmOptions{Accumulate: true, Alpha: scale, BF16: tp.BF16})
	tp.recordLinear(z, x, w, scale)
	tp.passOn(z, y)
	tp.tangent(z, func() *Value { return tp.linearMoved(y.tan, x, w, scale) })
	return z
}

// linearMoved returns the tangent t + scale·(ẋ Wᵀ + x Ẇᵀ).
func (tp *Tape) linearMoved(t, x *Value, w *Param, scale float32) *Value {
	if x.tan != nil {
		t = tp.plus(t, tp.times(tp.Linear(x.tan, w), scale))
	}
	if d := tp.moved(w); d != nil {
		t = tp.plus(t, tp.times(tp.Linear(x, d), scale))
	}
	return t
}

func (tp *Tape) recordLinear(y, x *Value, w *Param, scale float32) {
	type operands struct {
		x, keep *Value
		w       *Param
		scale   float32
	}
	if !w.Trains() {
		if tp.needsAny(x) {
			record(tp, y, nil, operands{x, nil, w, scale}, func(tp *Tape, o *operands, dy []float32) { tp.linearInput(o.x, o.w, dy, o.scale) })
		}
		return
	}
	keep := x
	if w.Part.Kind == Columns && tp.recording {
		keep = tp.Scope(func() *Value { return tp.gatherCols(x, w.Part.Index) })
	}
	record(tp, y, w, operands{x, keep, w, scale}, func(tp *Tape, o *operands, dy []float32) {
		tp.linearWeight(o.keep, o.w, dy, o.scale)
		tp.readLast(o.keep)
		tp.linearInput(o.x, o.w, dy, o.scale)
	}, keep)
	if keep != x {
		tp.close(keep)
	}
}

// linearInput adds scale·dy W to x's gradient.
func (tp *Tape) linearInput(x *Value, w *Param, dy []float32, scale float32) {
	if !x.needs {
		return
	}
	out, in := w.rowsCols()
	dx, add := tp.into(x)
	kernel.Gemm(dx, in, x.Rows, in, out, dense(dy, out, false), w.Value.Operand(false), kernel.GemmOptions{Accumulate: add, Alpha: scale, BF16: tp.BF16})
}

// linearWeight adds the gradient of w's trained part, scale·(dyᵀ x) there. keep is
// the gathered columns of x when columns train, x otherwise.
func (tp *Tape) linearWeight(keep *Value, w *Param, dy []float32, scale float32) {
	out, in := w.rowsCols()
	g, add := tp.paramGrad(w)
	o := kernel.GemmOptions{Accumulate: add, Alpha: scale, BF16: tp.BF16}
	n := keep.Rows
	if tp.Watch != nil {
		tp.watch(Factors{Param: w, X: keep.Data, DY: dy, Rows: n, XCols: keep.Cols, DYCols: out, Scale: scale})
	}
	switch w.Part.Kind {
	case All, Columns:
		kernel.Gemm(g, keep.Cols, out, keep.Cols, n, dense(dy, out, true), keep.operand(false), o)
	case Rows:
		rows := w.Part.Index
		picked := tp.alloc(Scratch, n*len(rows))
		gatherColumns(picked, dy, n, out, rows)
		kernel.Gemm(g, in, len(rows), in, n, dense(picked, len(rows), true), keep.operand(false), o)
		tp.release(Scratch, picked)
	case Entries:
		tp.linearEntries(g, add, keep, w.Part.Index, dy, out, in, scale)
	}
}

// linearEntries computes dW[p,q] = Σ_n dy[n,p] x[n,q] at listed positions: a tile
// of rows of dW at a time, of which the listed entries are kept. It costs the
// whole product's arithmetic and one tile of memory.
func (tp *Tape) linearEntries(g []float32, add bool, x *Value, index []int, dy []float32, out, in int, scale float32) {
	const tileRows = 64
	tile := tp.alloc(Scratch, min(tileRows, out)*in)
	defer tp.release(Scratch, tile)
	for at := 0; at < len(index); {
		lo := index[at] / in
		hi := min(lo+tileRows, out)
		a := kernel.Operand{F32: dy[lo:], LD: out, Trans: true}
		kernel.Gemm(tile, in, hi-lo, in, x.Rows, a, x.operand(false), kernel.GemmOptions{Alpha: scale, BF16: tp.BF16})
		for ; at < len(index) && index[at] < hi*in; at++ {
			v := tile[index[at]-lo*in]
			if add {
				v += g[at]
			}
			g[at] = v
		}
	}
}

// gatherCols returns x[:, index], a plain copy that no gradient flows through.
func (tp *Tape) gatherCols(x *Value, index []int) *Value {
	y := tp.newValue(x.Rows, len(index))
	gatherColumns(y.Data, x.Data, x.Rows, x.Cols, index)
	return y
}

func gatherColumns(dst, src []float32, rows, cols int, index []int) {
	type operands struct {
		dst, src []float32
		cols     int
		index    []int
	}
	kernel.Spread(rows, rowGrain(len(index)), operands{dst, src, cols, index}, func(o *operands, lo, hi int) {
		n := len(o.index)
		for r := lo; r < hi; r++ {
			from, to := o.src[r*o.cols:(r+1)*o.cols], o.dst[r*n:(r+1)*n]
			for i, c := range o.index {
				to[i] = from[c]
			}
		}
	})
}

// Columns returns x[:, index], x [n, c]; the gradient is scattered back.
func (tp *Tape) Columns(x *Value, index []int) *Value {
	y := tp.gatherCols(x, index)
	if tp.needsAny(x) {
		type operands struct {
			x     *Value
			index []int
		}
		record(tp, y, nil, operands{x, index}, func(tp *Tape, o *operands, dy []float32) {
			dx, add := tp.into(o.x)
			if !add {
				clear(dx)
			}
			cols := o.x.Cols
			for r := range o.x.Rows {
				row, g := dx[r*cols:(r+1)*cols], dy[r*len(o.index):]
				for i, c := range o.index {
					row[c] += g[i]
				}
			}
		})
	}
	tp.linearTangent(y, x, func(t *Value) *Value { return tp.Columns(t, index) })
	return y
}

// LinearFixed returns x Wᵀ for a matrix that never trains and has its own
// storage, such as a packed 4-bit one: W [out, in] as the operand w, transposed
// by the caller's choice of w.Trans = true. Nothing is kept. Without a gradient it may
// be rounded, see Int8.
func (tp *Tape) LinearFixed(x *Value, w kernel.Operand, out, in int) *Value {
	mustCols("LinearFixed", nil, x, in)
	y := tp.newValue(x.Rows, out)
	if tp.rounds() && w.Q4 != nil && w.Trans {
		kernel.MulInt8(y.Data, out, x.Rows, out, in, x.Data, x.Cols, w.Q4)
		return y
	}
	kernel.Gemm(y.Data, out, x.Rows, out, in, x.operand(false), w, kernel.GemmOptions{BF16: tp.BF16})
	if tp.needsAny(x) {
		type operands struct {
			x *Value
			w kernel.Operand // transposed
		}
		record(tp, y, nil, operands{x, trans(w)}, func(tp *Tape, o *operands, dy []float32) {
			dx, add := tp.into(o.x)
			in, out := o.x.Cols, len(dy)/max(o.x.Rows, 1)
			kernel.Gemm(dx, in, o.x.Rows, in, out, dense(dy, out, false), o.w, kernel.GemmOptions{Accumulate: add, BF16: tp.BF16})
		})
	}
	tp.linearTangent(y, x, func(t *Value) *Value { return tp.LinearFixed(t, w, out, in) })
	return y
}

// MatMul returns op(a) op(b), each transposed if asked.
func (tp *Tape) MatMul(a, b *Value, transA, transB bool) *Value {
	m, k := dims(a, transA)
	k2, n := dims(b, transB)
	if k != k2 {
		panic(fmt.Sprintf("grad: MatMul of [%d, %d] and [%d, %d]", m, k, k2, n))
	}
	y := tp.newValue(m, n)
	kernel.Gemm(y.Data, n, m, n, k, a.operand(transA), b.operand(transB), kernel.GemmOptions{BF16: tp.BF16})
	tp.recordMatMul(y, a, b, transA, transB, 1)
	tp.tangent(y, func() *Value { return tp.matMulMoved(nil, a, b, transA, transB, 1) })
	return y
}

// AddMatMul returns y + scale·op(a) op(b) in y's buffer, which y gives up.
func (tp *Tape) AddMatMul(y, a, b *Value, transA, transB bool, scale float32) *Value {
	m, k := dims(a, transA)
	_, n := dims(b, transB)
	mustShape("AddMatMul", nil, y, m, n)
	z := tp.take(y)
	kernel.Gemm(z.Data, n, m, n, k, a.operand(transA), b.operand(transB), kernel.GemmOptions{Accumulate: true, Alpha: scale, BF16: tp.BF16})
	tp.recordMatMul(z, a, b, transA, transB, scale)
	tp.passOn(z, y)
	tp.tangent(z, func() *Value { return tp.matMulMoved(y.tan, a, b, transA, transB, scale) })
	return z
}

// matMulMoved returns the tangent t + scale·(ȧ b + a ḃ).
func (tp *Tape) matMulMoved(t, a, b *Value, transA, transB bool, scale float32) *Value {
	if a.tan != nil {
		t = tp.plus(t, tp.times(tp.MatMul(a.tan, b, transA, transB), scale))
	}
	if b.tan != nil {
		t = tp.plus(t, tp.times(tp.MatMul(a, b.tan, transA, transB), scale))
	}
	return t
}

func (tp *Tape) recordMatMul(y, a, b *Value, transA, transB bool, scale float32) {
	if !tp.needsAny(a, b) {
		return
	}
	type operands struct {
		a, b           *Value
		transA, transB bool
		scale          float32
	}
	record(tp, y, nil, operands{a, b, transA, transB, scale}, func(tp *Tape, p *operands, dy []float32) {
		a, b, transA, transB := p.a, p.b, p.transA, p.transB
		m, k := dims(a, transA)
		_, n := dims(b, transB)
		if a.needs { // d op(a) = dy op(b)ᵀ
			da, add := tp.into(a)
			o := kernel.GemmOptions{Accumulate: add, Alpha: p.scale, BF16: tp.BF16}
			if transA {
				kernel.Gemm(da, m, k, m, n, b.operand(transB), dense(dy, n, true), o)
			} else {
				kernel.Gemm(da, k, m, k, n, dense(dy, n, false), b.operand(!transB), o)
			}
		}
		if b.needs { // d op(b) = op(a)ᵀ dy
			db, add := tp.into(b)
			o := kernel.GemmOptions{Accumulate: add, Alpha: p.scale, BF16: tp.BF16}
			if transB {
				kernel.Gemm(db, k, n, k, m, dense(dy, n, true), a.operand(transA), o)
			} else {
				kernel.Gemm(db, n, k, n, m, a.operand(!transA), dense(dy, n, false), o)
			}
		}
	}, crossed(a, b)...)
}

// crossed returns what the backward of a product a·b reads: of each, if the other needs a
// gradient. It is inlined, so that the list stays on the stack.
func crossed(a, b *Value) []*Value {
	switch {
	case a.needs && b.needs:
		return []*Value{b, a}
	case a.needs:
		return []*Value{b}
	}
	return []*Value{a}
}

func dims(v *Value, trans bool) (int, int) {
	if trans {
		return v.Cols, v.Rows
	}
	return v.Rows, v.Cols
}

// mustCols panics when x does not have that many columns. p, if not nil, is named.
func mustCols(op string, p *Param, x *Value, cols int) {
	if x.Cols != cols {
		panic(fmt.Sprintf("grad: %s: input [%d, %d], want %d columns", of(op, p), x.Rows, x.Cols, cols))
	}
}

// mustShape panics when x is not [rows, cols]. p, if not nil, is named.
func mustShape(op string, p *Param, x *Value, rows, cols int) {
	if x.Rows != rows || x.Cols != cols {
		panic(fmt.Sprintf("grad: %s: got [%d, %d], want [%d, %d]", of(op, p), x.Rows, x.Cols, rows, cols))
	}
}

// of names an operation and its parameter, for messages.
func of(op string, p *Param) string {
	if p == nil {
		return op
	}
	return op + " " + p.Name
}

// Embed returns the rows of the table w [vocab, d] named by ids. The gradient
// goes to the whole table, or to those of its rows that train. ids must stay as they are
// until the backward pass is over.
func (tp *Tape) Embed(ids []int32, w *Param) *Value {
	vocab, d := w.rowsCols()
	y := tp.newValue(len(ids), d)
	type operands struct {
		dst      []float32
		ids      []int32
		w        *Param
		vocab, d int
	}
	o := operands{ids: ids, w: w, vocab: vocab, d: d}
	forward := func(o *operands, dst []float32) {
		o.dst = dst
		kernel.Spread(len(o.ids), 1+(1<<13)/o.d, *o, func(o *operands, lo, hi int) {
			for i := lo; i < hi; i++ {
				if err := o.w.Value.ReadF32(o.dst[i*o.d:(i+1)*o.d], int(o.ids[i])*o.d); err != nil {
					panic(fmt.Sprintf("grad: Embed %s: id %d of %d rows: %v", o.w.Name, o.ids[i], o.vocab, err))
				}
			}
		})
		o.dst = nil
	}
	forward(&o, y.Data)
	if !w.Trains() {
		return y
	}
	if k := w.Part.Kind; k != All && k != Rows {
		panic("grad: Embed trains whole tables or rows, not part of the columns of " + w.Name)
	}
	recordCheap(tp, y, w, o, forward, func(tp *Tape, o *operands, dy []float32) {
		g, add := tp.paramGrad(o.w)
		if !add {
			clear(g)
		}
		d := o.d
		for i, id := range o.ids {
			row, trains := int(id), true
			if o.w.Part.Kind == Rows {
				row, trains = slices.BinarySearch(o.w.Part.Index, row)
			}
			if trains {
				kernel.Axpy(1, dy[i*d:(i+1)*d], g[row*d:(row+1)*d])
			}
		}
	})
	tp.tangent(y, func() *Value {
		if e := tp.moved(w); e != nil {
			return tp.Embed(ids, e)
		}
		return nil
	})
	return y
}
