package grad

import (
	"fmt"

	"tare/engine/tensor/kernel"
)

// Swap returns x, its entries seen as [n, a, b, c], with the middle two axes exchanged,
// as the matrix [n·b, a·c]: what brings the mode of a tensor that a product contracts
// to the end of the rows.
func (tp *Tape) Swap(x *Value, a, b, c int) *Value {
	size := a * b * c
	if len(x.Data)%size != 0 {
		panic(fmt.Sprintf("grad: Swap of [%d, %d] as [n, %d, %d, %d]", x.Rows, x.Cols, a, b, c))
	}
	n := len(x.Data) / size
	z := tp.newValue(n*b, a*c)
	swapped(z.Data, x.Data, n, a, b, c)
	if tp.needsAny(x) {
		tp.record(z, nil, func(dz []float32) {
			dx := tp.alloc(Scratch, len(dz))
			swapped(dx, dz, n, b, a, c)
			tp.give(x, dx)
		})
	}
	tp.linearTangent(z, x, func(t *Value) *Value { return tp.Swap(t, a, b, c) })
	return z
}

// turned writes src [a, b] as dst [b, a], four rows of dst at a time.
func turned(dst, src []float32, a, b int) {
	q := 0
	for ; q+4 <= b; q += 4 {
		d0, d1, d2, d3 := dst[q*a:][:a], dst[(q+1)*a:][:a], dst[(q+2)*a:][:a], dst[(q+3)*a:][:a]
		for p := range d0 {
			s := src[p*b+q:][:4]
			d0[p], d1[p], d2[p], d3[p] = s[0], s[1], s[2], s[3]
		}
	}
	for ; q < b; q++ {
		d := dst[q*a:][:a]
		for p := range d {
			d[p] = src[p*b+q]
		}
	}
}

// swapped writes src [n, a, b, c] as dst [n, b, a, c].
func swapped(dst, src []float32, n, a, b, c int) {
	size := a * b * c
	kernel.Parallel(n, 1+(1<<13)/size, func(lo, hi int) {
		for at := lo * size; at < hi*size; at += size {
			from, to := src[at:at+size], dst[at:at+size]
			if c == 1 {
				turned(to, from, a, b)
				continue
			}
			for q := range b {
				moveRuns(to[q*a*c:][:a*c], from[q*c:], c, b*c)
			}
		}
	})
}

// moveRuns fills dst with runs of c entries that lie stride apart in src. A copy of
// known length is one move, and c is often a small bond.
func moveRuns(dst, src []float32, c, stride int) {
	switch {
	case c == 2:
		for len(dst) >= 2 {
			*(*[2]float32)(dst) = *(*[2]float32)(src)
			dst, src = dst[2:], src[min(stride, len(src)):]
		}
	case c%8 == 0 && c <= 32:
		for len(dst) >= c {
			for i := 0; i < c; i += 8 {
				*(*[8]float32)(dst[i:]) = *(*[8]float32)(src[i:])
			}
			dst, src = dst[c:], src[min(stride, len(src)):]
		}
	case c%4 == 0 && c <= 16:
		for len(dst) >= c {
			for i := 0; i < c; i += 4 {
				*(*[4]float32)(dst[i:]) = *(*[4]float32)(src[i:])
			}
			dst, src = dst[c:], src[min(stride, len(src)):]
		}
	default:
		for len(dst) >= c {
			copy(dst[:c], src)
			dst, src = dst[c:], src[min(stride, len(src)):]
		}
	}
}
