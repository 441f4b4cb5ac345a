package grad

import (
	"fmt"

	"tare/engine/tensor/kernel"
)

// depthwise is Conv2d where every channel is a group of its own: no product of
// matrices but one of rows, y[p, :] = Σ_ij x[p + ij, :] ⊙ W[:, ij].
func (tp *Tape) depthwise(y, x *Value, w *Param, s sweep) {
	c := x.Cols
	taps := tp.tapRows(w)
	kernel.Parallel(y.Rows, 1+(1<<12)/s.width(), func(lo, hi int) {
		for at := lo; at < hi; at++ {
			row := y.row(at)
			clear(row)
			s.eachTap(at, func(tap, pixel int) { kernel.MulAdd(row, x.row(pixel), taps[tap*c:(tap+1)*c]) })
		}
	})
	tp.release(Scratch, taps)
	if !tp.needsAny(x) && !w.Trains() {
		return
	}
	var saved []*Value
	if w.Trains() {
		saved = append(saved, x)
	}
	tp.record(y, w, func(dy []float32) {
		tp.depthwiseInput(x, w, dy, s)
		if w.Trains() {
			tp.depthwiseWeight(x, w, dy, s)
		}
	}, saved...)
}

// eachTap calls f with the number of every window position on the image and the
// pixel under it.
func (s *sweep) eachTap(at int, f func(tap, pixel int)) {
	s.taps(at, func(i, lo, hi, from int) {
		for j := lo; j < hi; j++ {
			f(i*s.Kernel[1]+j, from+(j-lo)*s.Dilation[1])
		}
	})
}

// tapRows returns W [c, taps] as [taps, c].
func (tp *Tape) tapRows(w *Param) []float32 {
	c, n := w.rowsCols()
	taps, row := tp.alloc(Scratch, c*n), tp.alloc(Scratch, n)
	for r := range c {
		if err := w.Value.ReadF32(row, r*n); err != nil {
			panic(fmt.Sprintf("grad: Conv2d %s: %v", w.Name, err))
		}
		for i, v := range row {
			taps[i*c+r] = v
		}
	}
	tp.release(Scratch, row)
	return taps
}

func (tp *Tape) depthwiseInput(x *Value, w *Param, dy []float32, s sweep) {
	if !x.needs {
		return
	}
	dx, add := tp.into(x)
	if !add {
		clear(dx)
	}
	c, area := x.Cols, s.out.Height*s.out.Width
	taps := tp.tapRows(w)
	kernel.Parallel(s.in.Images, 1, func(lo, hi int) {
		for at := lo * area; at < hi*area; at++ {
			d := dy[at*c : (at+1)*c]
			s.eachTap(at, func(tap, pixel int) { kernel.MulAdd(dx[pixel*c:(pixel+1)*c], d, taps[tap*c:(tap+1)*c]) })
		}
	})
	tp.release(Scratch, taps)
}

// depthwiseWeight sums over ranges of pixels that do not depend on the threads.
func (tp *Tape) depthwiseWeight(x *Value, w *Param, dy []float32, s sweep) {
	c, n := w.rowsCols()
	g, add := tp.paramGrad(w)
	if !add {
		clear(g)
	}
	rows := s.out.Rows()
	parts := max(1, min(8, rows/256))
	sums := tp.zeros(Scratch, parts*n*c)
	kernel.Parallel(parts, 1, func(first, last int) {
		for part := first; part < last; part++ {
			sum := sums[part*n*c : (part+1)*n*c]
			for at := part * rows / parts; at < (part+1)*rows/parts; at++ {
				d := dy[at*c : (at+1)*c]
				s.eachTap(at, func(tap, pixel int) { kernel.MulAdd(sum[tap*c:(tap+1)*c], d, x.row(pixel)) })
			}
		}
	})
	addTransposed(g, sums, parts, c, n)
	tp.release(Scratch, sums)
}
