package grad

import "tare/engine/tensor/kernel"

// RMSNorm returns x / rms(x) ⊙ w by rows, w [d]. It keeps x and one number a row.
func (tp *Tape) RMSNorm(x *Value, w *Param, eps float32) *Value {
	if tp.moving() {
		return tp.spelledRMSNorm(x, w, 0, eps)
	}
	return tp.rmsNorm(x, w, &Value{Data: tp.weights(w)}, eps)
}

// RMSNormPlusOne returns x / rms(x) ⊙ (1 + w) by rows, w [d], as Gemma's norms do.
func (tp *Tape) RMSNormPlusOne(x *Value, w *Param, eps float32) *Value {
	if tp.moving() {
		return tp.spelledRMSNorm(x, w, 1, eps)
	}
	weight := tp.newValue(1, len(tp.weights(w)))
	for i, v := range tp.weights(w) {
		weight.Data[i] = 1 + v
	}
	return tp.rmsNorm(x, w, weight, eps)
}

// rmsNorm multiplies by weight, whose gradient is w's.
func (tp *Tape) rmsNorm(x *Value, w *Param, weight *Value, eps float32) *Value {
	_, d := w.rowsCols()
	mustCols("RMSNorm "+w.Name, x, d)
	z := tp.newValue(x.Rows, d)
	rstd := tp.newValue(x.Rows, 1)
	parallelRows(x.Rows, d, func(r int) { rstd.Data[r] = kernel.RMSNorm(z.row(r), x.row(r), weight.Data, eps) })
	if !tp.needsAny(x) && !w.Trains() || !tp.recording {
		tp.count(w)
		return z
	}
	tp.record(z, w, func(dz []float32) {
		tp.normBackward(x, dz, w, d, func(r int, dx, dw []float32) {
			kernel.RMSNormBackward(dx, dw, dz[r*d:(r+1)*d], x.row(r), weight.Data, rstd.Data[r])
		})
	}, x, rstd, weight)
	return z
}

// LayerNorm returns (x − mean)/std ⊙ w + b by rows, w and b [d].
func (tp *Tape) LayerNorm(x *Value, w, b *Param, eps float32) *Value {
	_, d := w.rowsCols()
	mustCols("LayerNorm "+w.Name, x, d)
	if tp.moving() {
		return tp.spelledNorm(x, w, b, tp.rowMean, eps)
	}
	weight, bias := tp.weights(w), tp.weights(b)
	z := tp.newValue(x.Rows, d)
	stats := tp.newValue(x.Rows, 2)
	parallelRows(x.Rows, d, func(r int) {
		stats.Data[2*r], stats.Data[2*r+1] = kernel.LayerNorm(z.row(r), x.row(r), weight, bias, eps)
	})
	if !tp.needsAny(x) && !w.Trains() && !b.Trains() || !tp.recording {
		tp.count(w)
		tp.count(b)
		return z
	}
	if b.Trains() { // the bias sees dz as it is; recorded first, so run last
		tp.record(z, b, func(dz []float32) { tp.biasGrad(b, dz, x.Rows) })
	}
	tp.record(z, w, func(dz []float32) {
		tp.normBackward(x, dz, w, d, func(r int, dx, dw []float32) {
			kernel.LayerNormBackward(dx, dw, nil, dz[r*d:(r+1)*d], x.row(r), weight, stats.Data[2*r], stats.Data[2*r+1])
		})
	}, x, stats)
	if b.Trains() {
		tp.nodes[len(tp.nodes)-1].keep = true
	}
	return z
}

// normBackward runs a norm's backward by rows. The weight's gradient is gathered
// over fixed blocks of rows, so that its bits do not depend on the thread count.
func (tp *Tape) normBackward(x *Value, dz []float32, w *Param, d int, row func(r int, dx, dw []float32)) {
	const block = 64
	blocks := (x.Rows + block - 1) / block
	var dw []float32
	if w.Trains() {
		dw = tp.zeros(Scratch, blocks*d)
	}
	dx := tp.alloc(Scratch, len(dz))
	kernel.Parallel(blocks, 1, func(lo, hi int) {
		for b := lo; b < hi; b++ {
			var part []float32
			if dw != nil {
				part = dw[b*d : (b+1)*d]
			}
			for r := b * block; r < min((b+1)*block, x.Rows); r++ {
				row(r, dx[r*d:(r+1)*d], part)
			}
		}
	})
	if x.needs {
		tp.give(x, dx)
	} else {
		tp.release(Scratch, dx)
	}
	if dw != nil {
		g := tp.zeros(Scratch, d)
		for b := range blocks {
			kernel.Add(g, g, dw[b*d:(b+1)*d])
		}
		tp.addPart(w, g)
		tp.release(Scratch, g)
		tp.release(Scratch, dw)
	}
}

// AddBias returns x + b by rows in x's buffer, which x gives up; b [d].
func (tp *Tape) AddBias(x *Value, b *Param) *Value {
	_, d := b.rowsCols()
	mustCols("AddBias "+b.Name, x, d)
	bias := tp.weights(b)
	z := tp.take(x)
	parallelRows(z.Rows, d, func(r int) { kernel.Add(z.row(r), z.row(r), bias) })
	if b.Trains() {
		tp.record(z, b, func(dz []float32) {
			if tp.Watch != nil {
				tp.watch(Factors{Param: b, DY: dz, Rows: z.Rows, DYCols: d, Scale: 1})
			}
			tp.biasGrad(b, dz, z.Rows)
		})
	}
	tp.passOn(z, x)
	tp.tangent(z, func() *Value {
		if e := tp.moved(b); e != nil {
			return tp.repeated(tp.plus(x.tan, tp.constant(e)), z.Rows, z.Cols)
		}
		return x.tan
	})
	return z
}

func (tp *Tape) biasGrad(b *Param, dz []float32, rows int) {
	_, d := b.rowsCols()
	g := tp.zeros(Scratch, d)
	for r := range rows {
		kernel.Add(g, g, dz[r*d:(r+1)*d])
	}
	tp.addPart(b, g)
	tp.release(Scratch, g)
}

// addPart adds the trained part of the whole gradient g of a vector parameter.
func (tp *Tape) addPart(p *Param, g []float32) {
	dst, add := tp.paramGrad(p)
	if !add {
		clear(dst)
	}
	if p.Part.Kind == All {
		kernel.Add(dst, dst, g)
		return
	}
	for i, at := range p.Part.Index { // a vector's columns and entries are the same
		dst[i] += g[at]
	}
}

// weights returns a vector parameter's values: models hold norms and biases in f32
// whatever the checkpoint stores.
func (tp *Tape) weights(p *Param) []float32 { return p.Value.F32() }

// count notes a use of p in a checkpoint's first pass.
func (tp *Tape) count(p *Param) {
	if p.Trains() && tp.counting && !tp.replay {
		tp.addUse(p)
	}
}
