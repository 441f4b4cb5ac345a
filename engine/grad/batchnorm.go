package grad

import (
	"fmt"
	"math"

	"tare/engine/tensor/kernel"
)

// Running is the mean and variance [c] that a batch norm has seen in training: each
// step moves them by Momentum towards the batch's.
type Running struct {
	Mean, Var []float32
	Momentum  float32
}

// BatchNorm returns (x − µ)/σ ⊙ w + b by columns, w and b [c] (Ioffe and Szegedy
// 2015, arXiv:1502.03167). With batch, µ and σ² are those of the rows of x, and the
// running ones learn from them (the variance as n/(n−1)·σ²); without, they are the
// running ones. It keeps x.
func (tp *Tape) BatchNorm(x *Value, w, b *Param, run Running, eps float32, batch bool) *Value {
	_, c := w.rowsCols()
	mustCols("BatchNorm", w, x, c)
	if len(run.Mean) != c || len(run.Var) != c {
		panic(fmt.Sprintf("grad: BatchNorm %s: running mean of %d and variance of %d for %d channels", w.Name, len(run.Mean), len(run.Var), c))
	}
	if tp.moving() {
		return tp.spelledBatchNorm(x, w, b, run, eps, batch)
	}
	stats := tp.newValue(2, c)
	mean, rstd := stats.row(0), stats.row(1)
	if batch {
		variance := rstd
		tp.columnMoments(mean, variance, x.Data, x.Rows, c)
		if !tp.replay {
			learn(run, mean, variance, x.Rows)
		}
	} else {
		copy(mean, run.Mean)
		copy(rstd, run.Var)
	}
	inverseRoots(rstd, eps)
	z := tp.newValue(x.Rows, c)
	scale, shift := affine(mean, rstd, tp.weights(w), tp.weights(b))
	s := newStrips(c)
	parallelStrips(s, x.Rows, func(lo, hi int) { s.affine(z.Data[lo*c:hi*c], x.Data[lo*c:hi*c], s.repeat(scale), s.repeat(shift)) })
	if !tp.recording || !x.needs && !w.Trains() && !b.Trains() {
		tp.count(w)
		tp.count(b)
		return z
	}
	tp.recordNorm(z, w, b, func(dz []float32) {
		sums := tp.alloc(Scratch, 2*c)
		sum, dot := sums[:c], sums[c:] // Σ dz, Σ dz x̂
		tp.columnSums(sums, x.Rows, c, func(part []float32, lo, hi int) {
			s.gradSums(part[:c], part[c:], dz[lo*c:hi*c], x.Data[lo*c:hi*c], mean)
		})
		kernel.Mul(dot, dot, rstd)
		tp.normGrads(w, b, dot, sum)
		if x.needs {
			n := float32(x.Rows)
			if !batch {
				n = float32(math.Inf(1)) // µ and σ do not depend on x
			}
			tp.normInput(x, dz, s, normTerms(mean, rstd, tp.weights(w), sum, dot, n))
		}
		tp.release(Scratch, sums)
	}, x, stats)
	return z
}

// GroupNorm returns (x − µ)/σ ⊙ w + b for images x of grid g, w and b [c], with µ
// and σ² over the pixels of an image and the channels of a group (Wu and He 2018,
// arXiv:1803.08494). It keeps x.
func (tp *Tape) GroupNorm(x *Value, w, b *Param, g Grid, groups int, eps float32) *Value {
	_, c := w.rowsCols()
	mustShape("GroupNorm", w, x, g.Rows(), c)
	if groups < 1 || c%groups != 0 {
		panic(fmt.Sprintf("grad: GroupNorm %s: %d channels in %d groups", w.Name, c, groups))
	}
	if tp.moving() {
		return tp.spelledNorm(x, w, b, func(x *Value) *Value { return tp.groupMean(x, g, groups) }, eps)
	}
	area, s := g.Height*g.Width, newStrips(c)
	n := float32(area * (c / groups))
	z, stats := tp.newValue(x.Rows, c), tp.newValue(2*g.Images, c)
	weight, bias := tp.weights(w), tp.weights(b)
	kernel.Parallel(g.Images, 1, func(first, last int) {
		for i := first; i < last; i++ {
			data := x.Data[i*area*c : (i+1)*area*c]
			mean, rstd := stats.row(2*i), stats.row(2*i+1)
			s.sum(mean, data)
			spread(mean, groups, 1/n)
			s.squares(rstd, data, mean)
			spread(rstd, groups, 1/n)
			inverseRoots(rstd, eps)
			scale, shift := affine(mean, rstd, weight, bias)
			s.affine(z.Data[i*area*c:(i+1)*area*c], data, s.repeat(scale), s.repeat(shift))
		}
	})
	if !tp.recording || !x.needs && !w.Trains() && !b.Trains() {
		tp.count(w)
		tp.count(b)
		return z
	}
	tp.recordNorm(z, w, b, func(dz []float32) {
		sums := tp.alloc(Scratch, 2*g.Images*c)
		kernel.Parallel(g.Images, 1, func(first, last int) {
			for i := first; i < last; i++ {
				sum, dot := sums[2*i*c:(2*i+1)*c], sums[(2*i+1)*c:(2*i+2)*c]
				at, end := i*area, (i+1)*area
				s.gradSums(sum, dot, dz[at*c:end*c], x.Data[at*c:end*c], stats.row(2*i))
				kernel.Mul(dot, dot, stats.row(2*i+1))
			}
		})
		total := tp.zeros(Scratch, 2*c)
		for i := range g.Images {
			kernel.Add(total, total, sums[2*i*c:(2*i+2)*c])
		}
		tp.normGrads(w, b, total[c:], total[:c])
		tp.release(Scratch, total)
		if x.needs {
			dx, add := tp.into(x)
			kernel.Parallel(g.Images, 1, func(first, last int) {
				for i := first; i < last; i++ {
					sum, dot := sums[2*i*c:(2*i+1)*c], sums[(2*i+1)*c:(2*i+2)*c]
					at, end := i*area*c, (i+1)*area*c
					t := groupTerms(stats.row(2*i), stats.row(2*i+1), weight, sum, dot, groups, n)
					s.normGrad(dx[at:end], dz[at:end], x.Data[at:end], t, add)
				}
			})
		}
		tp.release(Scratch, sums)
	}, x, stats)
	return z
}

// recordNorm records a norm whose backward also gathers the bias's gradient.
func (tp *Tape) recordNorm(z *Value, w, b *Param, back func(dz []float32), saved ...*Value) {
	if b.Trains() { // completed by back, which runs first
		tp.record(z, b, func([]float32) {})
	}
	tp.record(z, w, back, saved...)
	if b.Trains() {
		tp.nodes[len(tp.nodes)-1].keep = true
	}
}

// normGrads adds the gradients of a norm's weight and bias.
func (tp *Tape) normGrads(w, b *Param, dw, db []float32) {
	if w.Trains() {
		tp.addPart(w, dw)
	}
	if b.Trains() {
		tp.addPart(b, db)
	}
}

// terms are the rows of dx = dy·a + x·b + c, by channel.
type terms struct{ dy, x, one []float32 }

// normTerms writes out dx = w/σ (dz − Σdz/n − x̂ Σ(dz x̂)/n) with x̂ = (x − µ)/σ.
func normTerms(mean, rstd, w, sum, dot []float32, n float32) terms {
	t := terms{make([]float32, len(w)), make([]float32, len(w)), make([]float32, len(w))}
	for i := range w {
		a := w[i] * rstd[i]
		t.dy[i], t.x[i] = a, -a*rstd[i]*dot[i]/n
		t.one[i] = -a*sum[i]/n - t.x[i]*mean[i]
	}
	return t
}

// groupTerms is normTerms where the sums run over the channels of a group too, each
// weighted by its w.
func groupTerms(mean, rstd, w, sum, dot []float32, groups int, n float32) terms {
	c := len(w)
	weighted := make([]float32, 2*c)
	sums, dots := weighted[:c], weighted[c:]
	kernel.Mul(sums, sum, w)
	kernel.Mul(dots, dot, w)
	spread(sums, groups, 1)
	spread(dots, groups, 1)
	t := terms{make([]float32, c), make([]float32, c), make([]float32, c)}
	for i := range w {
		t.dy[i], t.x[i] = w[i]*rstd[i], -rstd[i]*rstd[i]*dots[i]/n
		t.one[i] = -rstd[i]*sums[i]/n - t.x[i]*mean[i]
	}
	return t
}

func (tp *Tape) normInput(x *Value, dz []float32, s strips, t terms) {
	dx, add := tp.into(x)
	parallelStrips(s, x.Rows, func(lo, hi int) {
		at, end := lo*s.cols, hi*s.cols
		s.normGrad(dx[at:end], dz[at:end], x.Data[at:end], t, add)
	})
}

// columnMoments writes the mean and the variance of each column of x [rows, c].
func (tp *Tape) columnMoments(mean, variance, x []float32, rows, c int) {
	s := newStrips(c)
	tp.columnSums(mean, rows, c, func(part []float32, lo, hi int) { s.sum(part, x[lo*c:hi*c]) })
	kernel.Scale(1/float32(rows), mean)
	tp.columnSums(variance, rows, c, func(part []float32, lo, hi int) { s.squares(part, x[lo*c:hi*c], mean) })
	kernel.Scale(1/float32(rows), variance)
}

// columnSums writes to dst the sum of what f writes for ranges of rows, which do
// not depend on the number of threads.
func (tp *Tape) columnSums(dst []float32, rows, c int, f func(part []float32, lo, hi int)) {
	parts := max(1, min(64, rows*c>>14))
	n := len(dst)
	buf := tp.alloc(Scratch, parts*n)
	kernel.Parallel(parts, 1, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			f(buf[i*n:(i+1)*n], i*rows/parts, (i+1)*rows/parts)
		}
	})
	copy(dst, buf[:n])
	for i := 1; i < parts; i++ {
		kernel.Add(dst, dst, buf[i*n:(i+1)*n])
	}
	tp.release(Scratch, buf)
}

// learn moves the running statistics towards a batch's.
func learn(run Running, mean, variance []float32, n int) {
	m, unbias := run.Momentum, float32(n)/float32(max(n-1, 1))
	for i := range mean {
		run.Mean[i] += m * (mean[i] - run.Mean[i])
		run.Var[i] += m * (unbias*variance[i] - run.Var[i])
	}
}

// inverseRoots turns variances into 1/√(variance + eps).
func inverseRoots(v []float32, eps float32) {
	for i := range v {
		v[i] = float32(1 / math.Sqrt(float64(v[i])+float64(eps)))
	}
}

// affine writes a norm out as x·scale + shift.
func affine(mean, rstd, w, b []float32) (scale, shift []float32) {
	scale, shift = make([]float32, len(w)), make([]float32, len(w))
	for i := range w {
		scale[i] = w[i] * rstd[i]
		shift[i] = b[i] - mean[i]*scale[i]
	}
	return scale, shift
}

// spread replaces each group of v by its scaled sum.
func spread(v []float32, groups int, scale float32) {
	n := len(v) / groups
	for at := 0; at < len(v); at += n {
		sum := scale * kernel.Sum(v[at:at+n])
		for i := range n {
			v[at+i] = sum
		}
	}
}
