package grad

import (
	"fmt"
	"math"

	"tare/engine/tensor/kernel"
)

// Sum returns the sum of all entries [1, 1], gathered in float64.
func (tp *Tape) Sum(x *Value) *Value {
	z := tp.newValue(1, 1)
	var s float64
	for r := range x.Rows {
		s += float64(kernel.Sum(x.row(r)))
	}
	z.Data[0] = float32(s)
	if tp.needsAny(x) {
		tp.record(z, nil, func(dz []float32) {
			dx, add := tp.into(x)
			if !add {
				clear(dx)
			}
			for i := range dx {
				dx[i] += dz[0]
			}
		})
	}
	tp.linearTangent(z, x, tp.Sum)
	return z
}

// Mean returns the mean of all entries [1, 1].
func (tp *Tape) Mean(x *Value) *Value { return tp.Scale(tp.Sum(x), 1/float32(x.Rows*x.Cols)) }

// SumRows returns the sum over rows [1, cols].
func (tp *Tape) SumRows(x *Value) *Value {
	z := tp.newValue(1, x.Cols)
	clear(z.Data)
	for r := range x.Rows {
		kernel.Add(z.Data, z.Data, x.row(r))
	}
	if tp.needsAny(x) {
		tp.record(z, nil, func(dz []float32) {
			dx, add := tp.into(x)
			if !add {
				clear(dx)
			}
			for r := range x.Rows {
				kernel.Axpy(1, dz, dx[r*x.Cols:(r+1)*x.Cols])
			}
		})
	}
	tp.linearTangent(z, x, tp.SumRows)
	return z
}

// SumCols returns the sum over columns [rows, 1].
func (tp *Tape) SumCols(x *Value) *Value {
	z := tp.newValue(x.Rows, 1)
	for r := range x.Rows {
		z.Data[r] = kernel.Sum(x.row(r))
	}
	if tp.needsAny(x) {
		tp.record(z, nil, func(dz []float32) {
			dx, add := tp.into(x)
			if !add {
				clear(dx)
			}
			for r := range x.Rows {
				row := dx[r*x.Cols : (r+1)*x.Cols]
				for i := range row {
					row[i] += dz[r]
				}
			}
		})
	}
	tp.linearTangent(z, x, tp.SumCols)
	return z
}

// Softmax returns the softmax of each row.
func (tp *Tape) Softmax(x *Value) *Value {
	z := tp.newValue(x.Rows, x.Cols)
	parallelRows(x.Rows, x.Cols, func(r int) {
		row := z.row(r)
		kernel.Scale(1/kernel.ExpSum(row, x.row(r), kernel.Max(x.row(r))), row)
	})
	if tp.needsAny(x) {
		tp.record(z, nil, func(dz []float32) { // dx = z ⊙ (dz − Σ dz z)
			dx := tp.alloc(Scratch, len(dz))
			parallelRows(x.Rows, x.Cols, func(r int) {
				p, d, g := z.row(r), dx[r*x.Cols:(r+1)*x.Cols], dz[r*x.Cols:(r+1)*x.Cols]
				s := kernel.Dot(g, p)
				for i := range d {
					d[i] = p[i] * (g[i] - s)
				}
			})
			tp.give(x, dx)
		}, z)
	}
	tp.linearTangent(z, x, func(t *Value) *Value { // ż = z ⊙ ẋ − z Σ z ẋ
		a := tp.Mul(z, t)
		return tp.Sub(a, tp.Mul(z, tp.SumCols(a)))
	})
	return z
}

// GatherRows returns the rows of x named by index, which may repeat; the gradient
// is scattered back and added.
func (tp *Tape) GatherRows(x *Value, index []int) *Value {
	z := tp.newValue(len(index), x.Cols)
	for i, r := range index {
		copy(z.row(i), x.row(r))
	}
	if tp.needsAny(x) {
		tp.record(z, nil, func(dz []float32) {
			dx, add := tp.into(x)
			if !add {
				clear(dx)
			}
			for i, r := range index {
				kernel.Axpy(1, dz[i*x.Cols:(i+1)*x.Cols], dx[r*x.Cols:(r+1)*x.Cols])
			}
		})
	}
	tp.linearTangent(z, x, func(t *Value) *Value { return tp.GatherRows(t, index) })
	return z
}

// ScatterRows returns [rows, cols] with row index[i] the sum of the rows i of x
// that name it, and zero elsewhere.
func (tp *Tape) ScatterRows(x *Value, index []int, rows int) *Value {
	z := tp.newValue(rows, x.Cols)
	clear(z.Data)
	for i, r := range index {
		kernel.Axpy(1, x.row(i), z.row(r))
	}
	if tp.needsAny(x) {
		tp.record(z, nil, func(dz []float32) {
			dx, add := tp.into(x)
			if !add {
				clear(dx)
			}
			for i, r := range index {
				kernel.Axpy(1, dz[r*x.Cols:(r+1)*x.Cols], dx[i*x.Cols:(i+1)*x.Cols])
			}
		})
	}
	tp.linearTangent(z, x, func(t *Value) *Value { return tp.ScatterRows(t, index, rows) })
	return z
}

// FoldColumns returns z [rows, width] with z[:, k] = Σ_j x[:, j·width + k]: the
// sum of x's chunks of width columns, the last padded with zeros.
func (tp *Tape) FoldColumns(x *Value, width int) *Value {
	z := tp.newValue(x.Rows, width)
	chunks := func(r int, f func(lo, hi int)) {
		for lo := 0; lo < x.Cols; lo += width {
			f(lo, min(lo+width, x.Cols))
		}
	}
	parallelRows(x.Rows, x.Cols, func(r int) {
		dst, src := z.row(r), x.row(r)
		clear(dst)
		chunks(r, func(lo, hi int) { kernel.Add(dst[:hi-lo], dst[:hi-lo], src[lo:hi]) })
	})
	if tp.needsAny(x) {
		tp.record(z, nil, func(dz []float32) {
			dx, add := tp.into(x)
			parallelRows(x.Rows, x.Cols, func(r int) {
				row, g := dx[r*x.Cols:(r+1)*x.Cols], dz[r*width:(r+1)*width]
				chunks(r, func(lo, hi int) {
					if add {
						kernel.Axpy(1, g[:hi-lo], row[lo:hi])
					} else {
						copy(row[lo:hi], g)
					}
				})
			})
		})
	}
	tp.linearTangent(z, x, func(t *Value) *Value { return tp.FoldColumns(t, width) })
	return z
}

// CrossEntropy returns Σ −log softmax(logits)[target] / denom [1, 1] over the rows
// whose target is not negative. The gradient overwrites logits, which must not be
// used again.
func (tp *Tape) CrossEntropy(logits *Value, targets []int32, denom float64) *Value {
	mustTargets(targets, logits)
	z := tp.newValue(1, 1)
	needs := tp.needsAny(logits)
	from := logits
	if needs && tp.motion != nil { // the tangent reads them too
		logits = tp.newValue(from.Rows, from.Cols)
		copy(logits.Data, from.Data)
	}
	losses := tp.alloc(Scratch, logits.Rows)
	type scores struct {
		logits   *Value
		targets  []int32
		losses   []float32
		scale    float32
		gradient bool
	}
	kernel.Spread(logits.Rows, rowGrain(logits.Cols), scores{logits, targets, losses, float32(1 / denom), needs}, func(o *scores, lo, hi int) {
		for r := lo; r < hi; r++ {
			o.losses[r] = rowCrossEntropy(o.logits.row(r), o.targets[r], o.scale, o.gradient)
		}
	})
	var s float64
	for _, v := range losses {
		s += float64(v)
	}
	tp.release(Scratch, losses)
	z.Data[0] = float32(s / denom)
	if needs {
		type operands struct{ from, logits *Value }
		record(tp, z, nil, operands{from, logits}, func(tp *Tape, o *operands, dz []float32) {
			slopes := o.logits.Data
			d, own := tp.surrender(o.logits)
			if !own {
				copy(d, slopes)
			}
			if dz[0] != 1 {
				kernel.Scale(dz[0], d)
			}
			tp.give(o.from, d)
		}, logits)
	}
	tp.linearTangent(z, from, func(t *Value) *Value { return tp.crossEntropySlope(from, t, targets, denom) })
	return z
}

// rowCrossEntropy returns one row's loss and, when gradient is asked for, leaves
// scale·(softmax − onehot) in the row. A negative target has no loss.
func rowCrossEntropy(row []float32, target int32, scale float32, gradient bool) float32 {
	if target < 0 {
		if gradient {
			clear(row)
		}
		return 0
	}
	top, at := kernel.Max(row), row[target]
	sum := kernel.ExpSum(row, row, top)
	if gradient {
		kernel.Scale(scale/sum, row)
		row[target] -= scale
	}
	return float32(math.Log(float64(sum))) + top - at
}

// crossEntropySlope returns the tangent Σ ⟨softmax(x) − onehot, ẋ⟩ / denom over the
// rows that have a target.
func (tp *Tape) crossEntropySlope(x, t *Value, targets []int32, denom float64) *Value {
	onehot, counts := tp.blank(x.Rows, x.Cols), tp.blank(x.Rows, 1)
	for r, target := range targets {
		if target >= 0 {
			onehot.row(r)[target], counts.Data[r] = 1, 1
		}
	}
	rows := tp.SumCols(tp.Mul(tp.Sub(tp.Softmax(x), onehot), t))
	return tp.Scale(tp.Sum(tp.Mul(rows, counts)), float32(1/denom))
}

func mustTargets(targets []int32, x *Value) {
	if len(targets) != x.Rows {
		panic(fmt.Sprintf("grad: %d targets for %d rows", len(targets), x.Rows))
	}
}

// ChunkedCrossEntropy returns the cross-entropy of head(x) without ever holding
// the logits [n, vocab]: rows go through head in chunks whose logits fit in about
// logitBytes, and each chunk is differentiated at once, so that nothing is
// computed twice. Every chunk goes through the head's whole matrix, which costs as much
// as the products of a hundred rows; so a chunk has 256 rows where that is not more than
// sixteen times as much. Sum of losses over denom, as CrossEntropy. x gives up its buffer.
//
// The gradient reaching this loss must be 1: add terms to it, but do not scale it;
// scale through denom.
func (tp *Tape) ChunkedCrossEntropy(x *Value, targets []int32, denom float64, vocab, logitBytes int, head func(tp *Tape, x *Value) *Value) *Value {
	mustTargets(targets, x)
	if tp.recording && (tp.motion != nil || tp.Watch != nil) {
		return tp.CrossEntropy(head(tp, x), targets, denom)
	}
	z := tp.newValue(1, 1)
	chunk := max(16, logitBytes/(4*vocab), min(256, 16*logitBytes/(4*vocab)))
	recording := tp.recording
	rows := x.Data
	var dx []float32 // over the rows that are done with, unless somebody reads x again
	switch {
	case !recording || !x.needs:
	case x.owned && x.saves == 0:
		dx = rows
		x.Data, x.owned = nil, false
		tp.Ledger.Add(Activations, -4*int64(len(dx)))
		tp.Ledger.Add(Scratch, 4*int64(len(dx)))
	default:
		dx = tp.alloc(Scratch, len(rows))
	}
	var total float64
	wasHold := tp.hold
	tp.hold = true
	for lo := 0; lo < x.Rows; lo += chunk {
		hi := min(lo+chunk, x.Rows)
		s := tp.sub(recording)
		in := s.entry(rows[lo*x.Cols:hi*x.Cols], hi-lo, x.Cols, dx != nil)
		loss := s.CrossEntropy(head(s, in), targets[lo:hi], denom)
		total += float64(loss.Data[0])
		if loss.needs {
			loss.grad = s.zeros(Scratch, 1)
			loss.grad[0] = 1
			s.run()
		}
		if dx != nil {
			copy(dx[lo*x.Cols:], in.grad)
			tp.release(Scratch, in.grad)
			in.grad = nil
		}
		tp.done(s)
	}
	tp.hold = wasHold
	z.Data[0] = float32(total)
	if recording {
		type operands struct {
			x  *Value
			dx []float32
		}
		record(tp, z, nil, operands{x, dx}, func(tp *Tape, o *operands, dz []float32) {
			if dz[0] != 1 {
				panic("grad: a chunked loss was scaled; scale it through denom")
			}
			if o.dx != nil {
				tp.give(o.x, o.dx)
			}
			for _, p := range tp.deferred {
				if p.uses == 0 {
					tp.handOver(p)
				}
			}
			tp.deferred = tp.deferred[:0]
		})
	}
	return z
}
