package grad

import "tare/engine/tensor/kernel"

// RMSNorm returns x / rms(x) ⊙ w by rows, w [d]. It keeps x and one number a row; what
// reads the result in its backward has it made again.
func (tp *Tape) RMSNorm(x *Value, w *Param, eps float32) *Value {
	if tp.moving() {
		return tp.spelledRMSNorm(x, w, 0, eps)
	}
	return tp.rmsNorm(x, w, tp.constant(w), eps)
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
	mustCols("RMSNorm", w, x, d)
	z := tp.newValue(x.Rows, d)
	rstd := tp.newValue(x.Rows, 1)
	o := normed{x: x, weight: weight, stats: rstd, eps: eps}
	rmsForward(&o, z.Data)
	if !tp.needsAny(x) && !w.Trains() || !tp.recording {
		tp.count(w)
		return z
	}
	o.w = w
	o.back = func(o *normed, r int, dx, dw, dz []float32) {
		kernel.RMSNormBackward(dx, dw, dz, o.x.row(r), o.weight.Data, o.stats.Data[r])
	}
	recordCheap(tp, z, w, o, rmsForward, normBackward, x, rstd, weight)
	return z
}

func rmsForward(o *normed, dst []float32) {
	o.dst = dst
	kernel.Spread(o.x.Rows, rowGrain(o.x.Cols), *o, func(o *normed, lo, hi int) {
		for r := lo; r < hi; r++ {
			o.stats.Data[r] = kernel.RMSNorm(o.row(r), o.x.row(r), o.weight.Data, o.eps)
		}
	})
	o.dst = nil
}

// LayerNorm returns (x − mean)/std ⊙ w + b by rows, w and b [d].
func (tp *Tape) LayerNorm(x *Value, w, b *Param, eps float32) *Value {
	_, d := w.rowsCols()
	mustCols("LayerNorm", w, x, d)
	if tp.moving() {
		return tp.spelledNorm(x, w, b, tp.rowMean, eps)
	}
	z := tp.newValue(x.Rows, d)
	stats := tp.newValue(x.Rows, 2)
	o := normed{x: x, weight: tp.constant(w), bias: tp.weights(b), stats: stats, eps: eps}
	layerForward(&o, z.Data)
	if !tp.needsAny(x) && !w.Trains() && !b.Trains() || !tp.recording {
		tp.count(w)
		tp.count(b)
		return z
	}
	if b.Trains() { // the bias sees dz as it is; recorded first, so run last
		record(tp, z, b, b, func(tp *Tape, b **Param, dz []float32) { tp.biasGrad(*b, dz) })
	}
	o.w = w
	o.back = func(o *normed, r int, dx, dw, dz []float32) {
		s := o.stats.row(r)
		kernel.LayerNormBackward(dx, dw, nil, dz, o.x.row(r), o.weight.Data, s[0], s[1])
	}
	recordCheap(tp, z, w, o, layerForward, normBackward, x, stats)
	if b.Trains() {
		tp.nodes[len(tp.nodes)-1].keep = true
	}
	return z
}

func layerForward(o *normed, dst []float32) {
	o.dst = dst
	kernel.Spread(o.x.Rows, rowGrain(o.x.Cols), *o, func(o *normed, lo, hi int) {
		for r := lo; r < hi; r++ {
			s := o.stats.row(r)
			s[0], s[1] = kernel.LayerNorm(o.row(r), o.x.row(r), o.weight.Data, o.bias, o.eps)
		}
	})
	o.dst = nil
}

// normed is what a norm by rows and its backward read.
type normed struct {
	x, weight *Value
	bias      []float32
	stats     *Value // of each row
	eps       float32
	dst       []float32 // in the forward

	w          *Param
	back       func(o *normed, r int, dx, dw, dz []float32) // the backward of a row
	dz, dx, dw []float32                                    // dw is by blocks of rows, nil if w is frozen
}

func (o *normed) row(r int) []float32 { return o.dst[r*o.x.Cols : (r+1)*o.x.Cols] }

// normBlock is how many rows a norm's weight gathers its gradient over at a time, so that
// its bits do not depend on the thread count.
const normBlock = 64

// normBackward runs a norm's backward by rows.
func normBackward(tp *Tape, o *normed, dz []float32) {
	d, w := o.x.Cols, o.w
	blocks := (o.x.Rows + normBlock - 1) / normBlock
	o.dz, o.dx = dz, tp.alloc(Scratch, len(dz))
	if w.Trains() {
		o.dw = tp.zeros(Scratch, blocks*d)
	}
	kernel.Spread(blocks, 1, *o, func(o *normed, lo, hi int) {
		d := o.x.Cols
		for b := lo; b < hi; b++ {
			var part []float32
			if o.dw != nil {
				part = o.dw[b*d : (b+1)*d]
			}
			for r := b * normBlock; r < min((b+1)*normBlock, o.x.Rows); r++ {
				o.back(o, r, o.dx[r*d:(r+1)*d], part, o.dz[r*d:(r+1)*d])
			}
		}
	})
	tp.giveNeeded(o.x, o.dx)
	if w.Trains() {
		g := tp.zeros(Scratch, d)
		for b := range blocks {
			kernel.Add(g, g, o.dw[b*d:(b+1)*d])
		}
		tp.addPart(w, g)
		tp.release(Scratch, g)
		tp.release(Scratch, o.dw)
	}
}

// AddBias returns x + b by rows in x's buffer, which x gives up; b [d].
func (tp *Tape) AddBias(x *Value, b *Param) *Value {
	_, d := b.rowsCols()
	mustCols("AddBias", b, x, d)
	z := tp.take(x)
	type operands struct {
		z    *Value
		bias []float32
	}
	kernel.Spread(z.Rows, rowGrain(d), operands{z, tp.weights(b)}, func(o *operands, lo, hi int) {
		for r := lo; r < hi; r++ {
			kernel.Add(o.z.row(r), o.z.row(r), o.bias)
		}
	})
	if b.Trains() {
		record(tp, z, b, b, func(tp *Tape, b **Param, dz []float32) {
			if tp.Watch != nil {
				_, d := (*b).rowsCols()
				tp.watch(Factors{Param: *b, DY: dz, Rows: len(dz) / d, DYCols: d, Scale: 1})
			}
			tp.biasGrad(*b, dz)
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

// biasGrad adds the sum of dz by rows to b's gradient.
func (tp *Tape) biasGrad(b *Param, dz []float32) {
	_, d := b.rowsCols()
	g := tp.zeros(Scratch, d)
	for at := 0; at < len(dz); at += d {
		kernel.Add(g, g, dz[at:at+d])
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
