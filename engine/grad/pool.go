package grad

import (
	"fmt"
	"math"

	"tare/engine/tensor/kernel"
)

// MaxPool returns the largest value of each window by channel [out grid's rows,
// cols]; padding never wins. Of each window it keeps which pixel won.
func (tp *Tape) MaxPool(x *Value, g Grid, win Window) *Value {
	s := newSweep("MaxPool", x, g, win)
	if s.Padding[0] > s.Kernel[0]/2 || s.Padding[1] > s.Kernel[1]/2 {
		panic(fmt.Sprintf("grad: MaxPool: padding %v is more than half of the window %v", s.Padding, s.Kernel))
	}
	c := x.Cols
	z := tp.newValue(s.out.Rows(), c)
	var won *Value // the bits of the winning pixel's number
	if tp.needsAny(x) {
		won = tp.newValue(z.Rows, c)
	}
	kernel.Parallel(z.Rows, 1+(1<<13)/s.width(), func(lo, hi int) {
		for at := lo; at < hi; at++ {
			best, first := z.row(at), true
			s.eachTap(at, func(_, pixel int) {
				switch mark := math.Float32frombits(uint32(pixel)); {
				case first && won == nil:
					copy(best, x.row(pixel))
				case first:
					copy(best, x.row(pixel))
					fill(won.row(at), mark)
				case won == nil:
					maxInto(best, x.row(pixel))
				default:
					winInto(best, won.row(at), x.row(pixel), mark)
				}
				first = false
			})
		}
	})
	if won != nil {
		tp.recordWon(z, x, won, s)
		tp.linearTangent(z, x, func(t *Value) *Value { return tp.pick(t, won, s) })
	}
	return z
}

// recordWon records z as the winning pixels of x.
func (tp *Tape) recordWon(z, x, won *Value, s sweep) {
	c := x.Cols
	tp.record(z, nil, func(dz []float32) {
		dx, add := tp.into(x)
		if !add {
			clear(dx)
		}
		area := s.out.Height * s.out.Width
		kernel.Parallel(s.in.Images, 1, func(lo, hi int) {
			for at := lo * area * c; at < hi*area*c; at++ {
				dx[int(math.Float32bits(won.Data[at]))*c+at%c] += dz[at]
			}
		})
	}, won)
}

// pick returns the pixels of x that won: MaxPool where the winners are known.
func (tp *Tape) pick(x, won *Value, s sweep) *Value {
	z, c := tp.newValue(won.Rows, x.Cols), x.Cols
	parallelVec(len(z.Data), func(lo, hi int) {
		for at := lo; at < hi; at++ {
			z.Data[at] = x.Data[int(math.Float32bits(won.Data[at]))*c+at%c]
		}
	})
	if tp.needsAny(x) {
		tp.recordWon(z, x, won, s)
	}
	return z
}

// maxInto sets best to the larger of best and row.
func maxInto(best, row []float32) {
	row = row[:len(best)]
	for i, v := range row {
		best[i] = max(best[i], v)
	}
}

// winInto is maxInto that notes mark where row wins. It compares the bits as integers
// in the order of the numbers, which needs no branch that a processor must guess.
func winInto(best, by, row []float32, mark float32) {
	row, by = row[:len(best)], by[:len(best)]
	m := math.Float32bits(mark)
	for i, v := range row {
		bits, top, who := math.Float32bits(v), math.Float32bits(best[i]), math.Float32bits(by[i])
		if ordered(bits) > ordered(top) {
			top = bits
			who = m
		}
		best[i], by[i] = math.Float32frombits(top), math.Float32frombits(who)
	}
}

// ordered maps the bits of a number to an integer that is larger for larger numbers.
func ordered(bits uint32) int32 { return int32(bits) ^ int32(bits)>>31&math.MaxInt32 }

func fill(dst []float32, v float32) {
	for i := range dst {
		dst[i] = v
	}
}

// AvgPool returns the mean of each window by channel [out grid's rows, cols]. The
// padding counts as zeros, as it does in PyTorch unless told otherwise.
func (tp *Tape) AvgPool(x *Value, g Grid, win Window) *Value {
	s := newSweep("AvgPool", x, g, win)
	c, scale := x.Cols, 1/float32(s.Area())
	z := tp.newValue(s.out.Rows(), c)
	kernel.Parallel(z.Rows, 1+(1<<13)/s.width(), func(lo, hi int) {
		for at := lo; at < hi; at++ {
			row := z.row(at)
			clear(row)
			s.eachTap(at, func(_, pixel int) { kernel.Axpy(scale, x.row(pixel), row) })
		}
	})
	if tp.needsAny(x) {
		tp.record(z, nil, func(dz []float32) {
			dx, add := tp.into(x)
			if !add {
				clear(dx)
			}
			area := s.out.Height * s.out.Width
			kernel.Parallel(s.in.Images, 1, func(lo, hi int) {
				for at := lo * area; at < hi*area; at++ {
					s.eachTap(at, func(_, pixel int) { kernel.Axpy(scale, dz[at*c:(at+1)*c], dx[pixel*c:(pixel+1)*c]) })
				}
			})
		})
	}
	tp.linearTangent(z, x, func(t *Value) *Value { return tp.AvgPool(t, g, win) })
	return z
}

// GlobalAvgPool returns the mean of each image by channel [images, cols].
func (tp *Tape) GlobalAvgPool(x *Value, g Grid) *Value {
	return tp.AvgPool(x, g, Window{Kernel: [2]int{g.Height, g.Width}})
}
