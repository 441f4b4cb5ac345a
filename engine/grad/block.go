package grad

import (
	"fmt"

	"tare/engine/tensor/kernel"
)

// BlockAffine returns W' [o, i] with W'_ab = W_ab (I + D_a) + D_a, where W [o, i] is
// cut into r×r blocks and D [o, r] holds one block D_a for each row of blocks.
// r divides both o and i.
func (tp *Tape) BlockAffine(w, d *Value) *Value {
	o, i, r := w.Rows, w.Cols, d.Cols
	if d.Rows != o || o%r != 0 || i%r != 0 {
		panic(fmt.Sprintf("grad: BlockAffine of [%d, %d] with blocks [%d, %d]", o, i, d.Rows, r))
	}
	z := tp.newValue(o, i)
	blocks(o, i, r, func(a, at int) {
		copyBlock(z.Data[at:], w.Data[at:], i, i, r)
		addBlock(z.Data[at:], d.Data[a*r*r:], i, r, r)
		kernel.GemmSerial(z.Data[at:], i, r, r, r, dense(w.Data[at:], i, false), dense(d.Data[a*r*r:], r, false), kernel.GemmOptions{Accumulate: true})
	})
	if !tp.needsAny(w, d) {
		return z
	}
	tp.record(z, nil, func(dz []float32) {
		if w.needs { // dW_ab = dW'_ab (I + D_a)ᵀ
			dw := tp.alloc(Scratch, o*i)
			blocks(o, i, r, func(a, at int) {
				copyBlock(dw[at:], dz[at:], i, i, r)
				kernel.GemmSerial(dw[at:], i, r, r, r, dense(dz[at:], i, false), dense(d.Data[a*r*r:], r, true), kernel.GemmOptions{Accumulate: true})
			})
			tp.give(w, dw)
		}
		if d.needs { // dD_a = Σ_b (W_ab + I)ᵀ dW'_ab
			dd, add := tp.into(d)
			if !add {
				clear(dd)
			}
			kernel.Parallel(o/r, 1, func(lo, hi int) {
				for a := lo; a < hi; a++ {
					for b := range i / r {
						at := a*r*i + b*r
						kernel.GemmSerial(dd[a*r*r:], r, r, r, r, dense(w.Data[at:], i, true), dense(dz[at:], i, false), kernel.GemmOptions{Accumulate: true})
						addBlock(dd[a*r*r:], dz[at:], r, i, r)
					}
				}
			})
		}
	}, w, d)
	tp.tangent(z, func() *Value { return tp.blockMoved(w, d) })
	return z
}

// blockMoved returns the tangent of f(W, D) = BlockAffine, affine in W and in D:
// f(Ẇ, D) − f(0, D) + f(W, Ḋ) − W.
func (tp *Tape) blockMoved(w, d *Value) (t *Value) {
	if w.tan != nil {
		t = tp.Sub(tp.BlockAffine(w.tan, d), tp.BlockAffine(tp.blank(w.Rows, w.Cols), d))
	}
	if d.tan != nil {
		t = tp.plus(t, tp.Sub(tp.BlockAffine(w, d.tan), w))
	}
	return t
}

// blocks calls f for every r×r block with its row of blocks and its offset.
func blocks(o, i, r int, f func(a, at int)) {
	across := i / r
	kernel.Parallel(o/r*across, 1, func(lo, hi int) {
		for k := lo; k < hi; k++ {
			f(k/across, k/across*r*i+k%across*r)
		}
	})
}

func copyBlock(dst, src []float32, ldd, lds, r int) {
	for k := range r {
		copy(dst[k*ldd:k*ldd+r], src[k*lds:k*lds+r])
	}
}

func addBlock(dst, src []float32, ldd, lds, r int) {
	for k := range r {
		kernel.Axpy(1, src[k*lds:k*lds+r], dst[k*ldd:k*ldd+r])
	}
}

// Fill returns a value [rows, cols] that no gradient flows to, written by f.
func (tp *Tape) Fill(rows, cols int, f func(dst []float32) error) (*Value, error) {
	v := tp.newValue(rows, cols)
	return v, f(v.Data)
}
