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

// swapped writes src [n, a, b, c] as dst [n, b, a, c].
func swapped(dst, src []float32, n, a, b, c int) {
	size := a * b * c
	kernel.Parallel(n, 1+(1<<13)/size, func(lo, hi int) {
		for at := lo * size; at < hi*size; at += size {
			for p := range a {
				for q := range b {
					to, from := dst[at+(q*a+p)*c:][:c], src[at+(p*b+q)*c:][:c]
					if c == 1 {
						to[0] = from[0]
					} else {
						copy(to, from)
					}
				}
			}
		}
	})
}
