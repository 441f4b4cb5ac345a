package grad

import "math"

// Fused operations spelled out in operations that have a tangent rule each: what a
// tape in motion computes in their place. The results agree to rounding.

// constant returns a parameter's values, which no gradient flows to.
func (tp *Tape) constant(p *Param) *Value {
	rows, cols := p.rowsCols()
	return tp.Const(tp.weights(p), rows, cols)
}

// vector returns a norm's weight or bias [1, d] as a value whose gradient goes to the
// part that trains.
func (tp *Tape) vector(p *Param) *Value {
	v := tp.constant(p)
	if p.Trains() {
		tp.record(v, p, func(dv []float32) { tp.addPart(p, dv) })
		tp.tangent(v, func() *Value {
			if d := tp.moved(p); d != nil {
				return tp.constant(d)
			}
			return nil
		})
	}
	return v
}

func (tp *Tape) number(a float32) *Value { return tp.Const([]float32{a}, 1, 1) }

func (tp *Tape) spelledSiLUMul(gate, up *Value) *Value {
	return tp.Scope(func() *Value { return tp.Mul(tp.SiLU(gate), up) })
}

// spelledRMSNorm returns x / √(mean x² + eps) ⊙ (w + plus).
func (tp *Tape) spelledRMSNorm(x *Value, w *Param, plus, eps float32) *Value {
	_, d := w.rowsCols()
	mustCols("RMSNorm", w, x, d)
	return tp.Scope(func() *Value {
		weight := tp.vector(w)
		if plus != 0 {
			weight = tp.Add(weight, tp.number(plus))
		}
		return tp.Mul(tp.Mul(x, tp.rootInverse(tp.rowMean(tp.Mul(x, x)), eps)), weight)
	})
}

// spelledNorm returns (x − µ)/√(σ² + eps) ⊙ w + b, the moments taken by mean, whose
// result has x's shape or repeats to it.
func (tp *Tape) spelledNorm(x *Value, w, b *Param, mean func(x *Value) *Value, eps float32) *Value {
	return tp.Scope(func() *Value {
		d := tp.Sub(x, mean(x))
		return tp.scaleAndShift(tp.Mul(d, tp.rootInverse(mean(tp.Mul(d, d)), eps)), w, b)
	})
}

// spelledBatchNorm leaves the running statistics as they are: a derivative is not a
// training step.
func (tp *Tape) spelledBatchNorm(x *Value, w, b *Param, run Running, eps float32, batch bool) *Value {
	if batch {
		return tp.spelledNorm(x, w, b, tp.columnMean, eps)
	}
	return tp.Scope(func() *Value {
		rstd := tp.rootInverse(tp.Const(run.Var, 1, x.Cols), eps)
		return tp.scaleAndShift(tp.Mul(tp.Sub(x, tp.Const(run.Mean, 1, x.Cols)), rstd), w, b)
	})
}

func (tp *Tape) scaleAndShift(x *Value, w, b *Param) *Value {
	return tp.Add(tp.Mul(x, tp.vector(w)), tp.vector(b))
}

// rootInverse returns 1/√(x + eps).
func (tp *Tape) rootInverse(x *Value, eps float32) *Value {
	return tp.activate(tp.Add(x, tp.number(eps)), &inverseRoot)
}

func (tp *Tape) rowMean(x *Value) *Value    { return tp.Scale(tp.SumCols(x), 1/float32(x.Cols)) }
func (tp *Tape) columnMean(x *Value) *Value { return tp.Scale(tp.SumRows(x), 1/float32(x.Rows)) }

// groupMean returns the mean over the pixels of an image and the channels of a group,
// repeated to x's shape.
func (tp *Tape) groupMean(x *Value, g Grid, groups int) *Value {
	size := x.Cols / groups
	share := tp.blank(x.Cols, x.Cols) // 1/size where both channels are of one group
	for c := range x.Cols {
		fill(share.row(c)[c/size*size:c/size*size+size], 1/float32(size))
	}
	image := make([]int, x.Rows)
	for r := range image {
		image[r] = r / (g.Height * g.Width)
	}
	return tp.GatherRows(tp.MatMul(tp.GlobalAvgPool(x, g), share, false, false), image)
}

// spelledAttention holds the scores of every head and sequence.
func (tp *Tape) spelledAttention(q, k, v *Value, h Heads, seqs Sequences) *Value {
	if q.Rows == 0 {
		return tp.newValue(0, q.Cols)
	}
	hd := q.Cols / h.Q
	return tp.Scope(func() *Value {
		q, k, v := tp.byHead(q, hd), tp.byHead(k, hd), tp.byHead(v, hd)
		var outs []*Value
		place, row := make([]int, q.Rows), 0 // of q's rows among those of outs
		for s, start := range tp.starts(seqs) {
			n := seqs.Lengths[s]
			hidden := tp.hidden(n, h)
			for head := range h.Q {
				if n == 0 {
					continue
				}
				own, shared := make([]int, n), make([]int, n)
				for t := range n {
					own[t], shared[t] = (start+t)*h.Q+head, (start+t)*h.KV+head/(h.Q/h.KV)
					place[own[t]] = row
					row++
				}
				scores := tp.Scale(tp.MatMul(tp.GatherRows(q, own), tp.GatherRows(k, shared), false, true), h.Scale)
				if hidden != nil {
					scores = tp.Add(scores, hidden)
				}
				outs = append(outs, tp.MatMul(tp.Softmax(scores), tp.GatherRows(v, shared), false, false))
			}
		}
		return tp.Reshape(tp.GatherRows(tp.Stack(outs...), place), len(place)/h.Q, h.Q*hd)
	})
}

// byHead returns x [n, heads·hd] as [n·heads, hd].
func (tp *Tape) byHead(x *Value, hd int) *Value {
	return tp.Reshape(tp.fresh(x), x.Rows*(x.Cols/hd), hd)
}

// hidden returns what is added to scores [n, n]: −∞ where a row does not see a key.
func (tp *Tape) hidden(n int, h Heads) *Value {
	if h.Bidirectional {
		return nil
	}
	a := attendArgs{n: n, heads: h}
	mask := tp.newValue(n, n)
	fill(mask.Data, float32(math.Inf(-1)))
	for i := range n {
		from, to := a.seen(i, 0, n)
		clear(mask.row(i)[from:to])
	}
	return mask
}

func (tp *Tape) spelledLSTMGates(x *Value) *Value {
	h := x.Cols / 4
	return tp.Scope(func() *Value {
		// σ(i), σ(f) and σ(o) at their columns, tanh(g) at its own.
		inner, outer := tp.blank(1, 4*h), tp.blank(1, 4*h)
		fill(outer.Data, 1)
		fill(inner.Data[2*h:3*h], 1)
		clear(outer.Data[2*h : 3*h])
		return tp.Add(tp.Mul(tp.Sigmoid(x), outer), tp.Mul(tp.Tanh(x), inner))
	})
}

func (tp *Tape) spelledLSTMCell(a, c *Value) *Value {
	h := c.Cols
	return tp.Scope(func() *Value {
		return tp.Add(tp.Mul(tp.Slice(a, h, 2*h), c), tp.Mul(tp.Slice(a, 0, h), tp.Slice(a, 2*h, 3*h)))
	})
}

func (tp *Tape) spelledLSTMOut(a, c *Value) *Value {
	h := c.Cols
	return tp.Scope(func() *Value { return tp.Mul(tp.Slice(a, 3*h, 4*h), tp.Tanh(c)) })
}

func (tp *Tape) spelledGRU(x, s, h *Value) *Value {
	n := h.Cols
	return tp.Scope(func() *Value {
		gates := tp.Sigmoid(tp.Add(tp.Slice(x, 0, 2*n), tp.Slice(s, 0, 2*n)))
		r, z := tp.Slice(gates, 0, n), tp.Slice(gates, n, 2*n)
		next := tp.Tanh(tp.Add(tp.Slice(x, 2*n, 3*n), tp.Mul(r, tp.Slice(s, 2*n, 3*n))))
		return tp.Add(next, tp.Mul(z, tp.Sub(h, next)))
	})
}
