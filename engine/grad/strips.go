package grad

import "tare/engine/tensor/kernel"

// strips work by columns on matrices of few columns: several rows are taken as one
// long vector, and a row of coefficients is repeated to that length, so that the
// kernels see vectors worth their call.
type strips struct{ cols, rows int }

func newStrips(cols int) strips { return strips{cols, max(1, 1024/max(cols, 1))} }

// parallelStrips splits rows so that each range is worth a strip or more.
func parallelStrips(s strips, rows int, f func(lo, hi int)) {
	kernel.Parallel(rows, max(s.rows, (1<<14)/s.cols), f)
}

// repeat returns the row v as often as a strip has rows.
func (s strips) repeat(v []float32) []float32 {
	out := make([]float32, s.rows*s.cols)
	for at := 0; at < len(out); at += s.cols {
		copy(out[at:], v)
	}
	return out
}

// fold adds the rows of a strip together into dst.
func (s strips) fold(dst, strip []float32) {
	clear(dst)
	for at := 0; at < len(strip); at += s.cols {
		kernel.Add(dst, dst, strip[at:at+s.cols])
	}
}

// each calls f for pieces [lo, hi) of n numbers, each a strip or the rest.
func (s strips) each(n int, f func(lo, hi int)) {
	step := s.rows * s.cols
	for lo := 0; lo < n; lo += step {
		f(lo, min(lo+step, n))
	}
}

// affine writes x·scale + shift, the coefficients repeated.
func (s strips) affine(dst, x, scale, shift []float32) {
	s.each(len(x), func(lo, hi int) {
		kernel.Mul(dst[lo:hi], x[lo:hi], scale)
		kernel.Add(dst[lo:hi], dst[lo:hi], shift)
	})
}

// sum writes Σ x by column.
func (s strips) sum(dst, x []float32) {
	acc := make([]float32, s.rows*s.cols)
	s.each(len(x), func(lo, hi int) { kernel.Add(acc[:hi-lo], acc, x[lo:hi]) })
	s.fold(dst, acc)
}

// squares writes Σ (x − mean)² by column.
func (s strips) squares(dst, x, mean []float32) {
	acc, diff, means := make([]float32, s.rows*s.cols), make([]float32, s.rows*s.cols), s.repeat(mean)
	s.each(len(x), func(lo, hi int) {
		d := diff[:hi-lo]
		kernel.Sub(d, x[lo:hi], means)
		kernel.MulAdd(acc[:hi-lo], d, d)
	})
	s.fold(dst, acc)
}

// gradSums writes Σ dz and Σ dz (x − mean) by column.
func (s strips) gradSums(sum, dot, dz, x, mean []float32) {
	n := s.rows * s.cols
	buf, means := make([]float32, 3*n), s.repeat(mean)
	sums, dots, diff := buf[:n], buf[n:2*n], buf[2*n:]
	s.each(len(x), func(lo, hi int) {
		d := diff[:hi-lo]
		kernel.Sub(d, x[lo:hi], means)
		kernel.Add(sums[:hi-lo], sums, dz[lo:hi])
		kernel.MulAdd(dots[:hi-lo], d, dz[lo:hi])
	})
	s.fold(sum, sums)
	s.fold(dot, dots)
}

// normGrad writes (or adds) dz·t.dy + x·t.x + t.one.
func (s strips) normGrad(dx, dz, x []float32, t terms, add bool) {
	a, b, c := s.repeat(t.dy), s.repeat(t.x), s.repeat(t.one)
	s.each(len(x), func(lo, hi int) {
		d := dx[lo:hi]
		if add {
			kernel.MulAdd(d, dz[lo:hi], a)
		} else {
			kernel.Mul(d, dz[lo:hi], a)
		}
		kernel.MulAdd(d, x[lo:hi], b)
		kernel.Add(d, d, c)
	})
}
