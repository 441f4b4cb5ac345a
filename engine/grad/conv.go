package grad

import (
	"fmt"

	"tare/engine/tensor/kernel"
)

// A thread gathers patchFloats of patches at once, which its second-level cache keeps
// until the product has read them, or patchRows of them where those are more: a
// product of fewer rows would spend its time on packing the kernels.
const (
	patchFloats = 64 << 10
	patchRows   = 256
)

// Conv2d returns the convolution [out grid's rows, out] of images x [grid's rows,
// in] with the kernels W [out, Kernel·in/Groups], whose columns run over kernel
// row, kernel column and input channel, the channel fastest:
//
//	y[p, o] = Σ_ij Σ_c x[p·stride − padding + ij·dilation, c] W[o, ijc]
//
// Patches are gathered a tile at a time and never stand together. It keeps x when W
// trains, and nothing otherwise. W trains whole or not at all.
func (tp *Tape) Conv2d(x *Value, w *Param, g Grid, win Window) *Value {
	out, in := w.rowsCols()
	s := newSweep("Conv2d "+w.Name, x, g, win)
	if x.Cols%s.Groups != 0 || out%s.Groups != 0 || in != s.Area()*(x.Cols/s.Groups) {
		panic(fmt.Sprintf("grad: Conv2d %s: kernels [%d, %d] for %d channels in %d groups under a window of %v", w.Name, out, in, x.Cols, s.Groups, s.Kernel))
	}
	if w.Trains() && w.Part.Kind != All {
		panic("grad: Conv2d of a partly trained parameter " + w.Name + "; use Patches and Linear")
	}
	if s.still() && s.Groups == 1 {
		return tp.Linear(x, w)
	}
	if tp.Watch != nil && w.Trains() && s.Groups == 1 {
		return tp.Linear(tp.Patches(x, g, win), w)
	}
	y := tp.convolution(x, w, s)
	tp.tangent(y, func() (t *Value) {
		if x.tan != nil {
			t = tp.Conv2d(x.tan, w, g, win)
		}
		if d := tp.moved(w); d != nil {
			t = tp.plus(t, tp.Conv2d(x, d, g, win))
		}
		return t
	})
	return y
}

func (tp *Tape) convolution(x *Value, w *Param, s sweep) *Value {
	out, in := w.rowsCols()
	y := tp.newValue(s.out.Rows(), out)
	if s.Groups == x.Cols && out == x.Cols {
		tp.depthwise(y, x, w, s)
		return y
	}
	tp.eachGroup(s, out, func(s sweep, group, from, to int) {
		b := w.Value.Operand(true)
		tp.convolve(y.Data[to:], x.Data[from:], s, rowsFrom(b, group*(out/s.Groups), in), out/s.Groups, out, false)
	})
	if !tp.needsAny(x) && !w.Trains() {
		return y
	}
	if !w.Trains() {
		tp.record(y, nil, func(dy []float32) { tp.convInput(x, w, dy, s) })
		return y
	}
	tp.record(y, w, func(dy []float32) {
		tp.convInput(x, w, dy, s)
		tp.convWeight(x, w, dy, s)
	}, x)
	return y
}

// eachGroup calls f for every group of channels: the sweep over that group's
// channels, its number, and where its channels begin in a pixel of x and of y.
func (tp *Tape) eachGroup(s sweep, out int, f func(s sweep, group, from, to int)) {
	part := s
	part.channels = s.channels / s.Groups
	for i := range s.Groups {
		f(part, i, i*part.channels, i*(out/s.Groups))
	}
}

// rowsFrom returns the operand whose stored rows [.., cols] begin at row.
func rowsFrom(b kernel.Operand, row, cols int) kernel.Operand {
	switch at := row * cols; {
	case b.F32 != nil:
		b.F32 = b.F32[at:]
	case b.BF16 != nil:
		b.BF16 = b.BF16[at:]
	case b.F16 != nil:
		b.F16 = b.F16[at:]
	}
	return b
}

// tiles calls f on ranges of s's output pixels, of about equal length, that together
// are [lo, hi), with room for their patches.
func (tp *Tape) tiles(s *sweep, lo, hi int, f func(patches []float32, lo, hi int)) {
	k, n := s.width(), hi-lo
	parts := max(1, (n+s.tileRows()-1)/s.tileRows())
	buf := tp.alloc(Scratch, (n+parts-1)/parts*k)
	for i := range parts {
		from, to := lo+i*n/parts, lo+(i+1)*n/parts
		f(buf[:(to-from)*k], from, to)
	}
	tp.release(Scratch, buf)
}

// leastRows is more than the rows of which Gemm sums a product in an order of its own:
// a tile has as many unless there are fewer pixels in all, so that the bits of a
// convolution do not depend on how the threads share it.
const leastRows = 16

// parallelTiles is tiles over all output pixels, on all threads.
func (tp *Tape) parallelTiles(s *sweep, f func(patches []float32, lo, hi int)) {
	rows := s.out.Rows()
	kernel.Parallel(rows, max(leastRows, min(s.tileRows(), rows/kernel.Threads())), func(lo, hi int) { tp.tiles(s, lo, hi, f) })
}

// tileRows returns how many patches a tile has.
func (s *sweep) tileRows() int { return max(patchRows, patchFloats/s.width()) }

// convolve writes (or adds) patches·B to y, whose rows are ldy apart; b is [Area·channels, out].
func (tp *Tape) convolve(y, x []float32, s sweep, b kernel.Operand, out, ldy int, add bool) {
	k := s.width()
	tp.parallelTiles(&s, func(patches []float32, lo, hi int) {
		s.gather(patches, x, lo, hi)
		kernel.Gemm(y[lo*ldy:], ldy, hi-lo, out, k, dense(patches, k, false), b, kernel.GemmOptions{Accumulate: add})
	})
}

// convInput adds the gradient of the images. With stride 1 it is itself a
// convolution, of dy with the kernels turned by half a circle and padding
// dilation·(kernel−1) − padding; otherwise dy·W is the gradient of the patches,
// which are scattered back.
func (tp *Tape) convInput(x *Value, w *Param, dy []float32, s sweep) {
	if !x.needs {
		return
	}
	dx, add := tp.into(x)
	out, _ := w.rowsCols()
	turned := s
	turned.in, turned.out = s.out, s.in
	for d := range 2 {
		turned.Padding[d] = s.Dilation[d]*(s.Kernel[d]-1) - s.Padding[d]
	}
	if s.Groups == 1 && s.Stride == [2]int{1, 1} && turned.Padding[0] >= 0 && turned.Padding[1] >= 0 {
		turned.channels, turned.pitch = out, out
		b := tp.turn(w, s.Area(), s.channels)
		tp.convolve(dx, dy, turned, dense(b, s.channels, false), s.channels, s.channels, add)
		tp.release(Scratch, b)
		return
	}
	if !add {
		clear(dx)
	}
	tp.eachGroup(s, out, func(s sweep, group, from, to int) {
		tp.scatterPatches(dx[from:], dy[to:], &s, rowsFrom(w.Value.Operand(false), group*(out/s.Groups), s.width()), out/s.Groups, out)
	})
}

// turn returns W [out, area·c] as [area·out, c], the kernels turned by half a circle.
func (tp *Tape) turn(w *Param, area, c int) []float32 {
	out, k := w.rowsCols()
	turned, row := tp.alloc(Scratch, out*k), tp.alloc(Scratch, k)
	for o := range out {
		if err := w.Value.ReadF32(row, o*k); err != nil {
			panic(fmt.Sprintf("grad: Conv2d %s: %v", w.Name, err))
		}
		for ij := range area {
			copy(turned[((area-1-ij)*out+o)*c:][:c], row[ij*c:])
		}
	}
	tp.release(Scratch, row)
	return turned
}

// scatterPatches adds dy·B, the patches' gradient, to dx where the patches came
// from. An image is one thread's, because its patches overlap.
func (tp *Tape) scatterPatches(dx, dy []float32, s *sweep, b kernel.Operand, out, ldy int) {
	k, area := s.width(), s.out.Height*s.out.Width
	kernel.Parallel(s.in.Images, 1, func(first, last int) {
		tp.tiles(s, first*area, last*area, func(patches []float32, lo, hi int) {
			kernel.Gemm(patches, k, hi-lo, k, out, kernel.Operand{F32: dy[lo*ldy:], LD: ldy}, b, kernel.GemmOptions{})
			s.scatter(dx, patches, lo, hi)
		})
	})
}

// scatter adds the patches of output pixels [lo, hi) to the pixels they cover.
func (s *sweep) scatter(dst, patches []float32, lo, hi int) {
	k, c := s.width(), s.channels
	for at := lo; at < hi; at++ {
		patch := patches[(at-lo)*k:]
		s.taps(at, func(i, left, right, from int) {
			row := patch[i*s.Kernel[1]*c:]
			if s.Dilation[1] == 1 && s.pitch == c {
				kernel.Axpy(1, row[left*c:right*c], dst[from*c:])
				return
			}
			for j := left; j < right; j++ {
				kernel.Axpy(1, row[j*c:(j+1)*c], dst[from*s.pitch:])
				from += s.Dilation[1]
			}
		})
	}
}

// sumFloats bounds the partial sums of a kernel gradient that exist at once.
const sumFloats = 2 << 20

// convWeight adds dyᵀ·patches to the kernels' gradient. Ranges of pixels, which the
// number of threads has no part in, are summed apart and then together, so that
// the bits do not depend on it.
func (tp *Tape) convWeight(x *Value, w *Param, dy []float32, s sweep) {
	out, k := w.rowsCols()
	g, add := tp.paramGrad(w)
	if !add {
		clear(g)
	}
	rows, each := s.out.Rows(), out/s.Groups
	parts := max(1, min(8, sumFloats/(each*k), rows/256))
	sums := tp.alloc(Scratch, parts*each*k)
	tp.eachGroup(s, out, func(s sweep, group, from, to int) {
		kernel.Parallel(parts, 1, func(first, last int) {
			for part := first; part < last; part++ {
				sum := sums[part*each*k : (part+1)*each*k] // [k, each]
				begin := part * rows / parts
				tp.tiles(&s, begin, (part+1)*rows/parts, func(patches []float32, lo, hi int) {
					s.gather(patches, x.Data[from:], lo, hi)
					kernel.Gemm(sum, each, k, each, hi-lo, dense(patches, k, true), kernel.Operand{F32: dy[lo*out+to:], LD: out}, kernel.GemmOptions{Accumulate: lo > begin})
				})
			}
		})
		addTransposed(g[group*each*k:], sums, parts, each, k)
	})
	tp.release(Scratch, sums)
}

// addTransposed adds the sum of parts matrices [k, n], transposed, to g [n, k].
func addTransposed(g, sums []float32, parts, n, k int) {
	parallelRows(n, k*parts, func(r int) {
		row := g[r*k : (r+1)*k]
		for part := range parts {
			for i, at := 0, part*n*k+r; i < k; i, at = i+1, at+n {
				row[i] += sums[at]
			}
		}
	})
}

// Patches returns the windows that a convolution sees, one a row [out grid's rows,
// Kernel·channels], in the order of Conv2d's weight: what a Weight that is not one
// plain matrix is applied to. The patches are gathered again when a backward needs
// them; only x is kept meanwhile.
func (tp *Tape) Patches(x *Value, g Grid, win Window) *Value {
	s := newSweep("Patches", x, g, win)
	if s.Groups != 1 {
		panic(fmt.Sprintf("grad: Patches of %d groups", s.Groups))
	}
	if s.still() {
		return x
	}
	k := s.width()
	fill := func(dst []float32) {
		kernel.Parallel(s.out.Rows(), 1+(1<<14)/k, func(lo, hi int) { s.gather(dst[lo*k:hi*k], x.Data, lo, hi) })
	}
	z := tp.newValue(s.out.Rows(), k)
	fill(z.Data)
	if !tp.recording {
		return z
	}
	tp.record(z, nil, func(dz []float32) {
		if !x.needs {
			return
		}
		dx, add := tp.into(x)
		if !add {
			clear(dx)
		}
		area := s.out.Height * s.out.Width
		kernel.Parallel(s.in.Images, 1, func(lo, hi int) { s.scatter(dx, dz[lo*area*k:hi*area*k], lo*area, hi*area) })
	}, x)
	z.needs = x.needs
	tp.cheap(z, filler(fill))
	tp.linearTangent(z, x, func(t *Value) *Value { return tp.Patches(t, g, win) })
	return z
}
