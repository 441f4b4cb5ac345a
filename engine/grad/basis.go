package grad

import (
	"fmt"

	"tare/engine/tensor/kernel"
)

// ScaledBasis returns rows of a fixed basis between two trained diagonals, for λ [r, N]
// and γ [N, m]:
//
//	y[k·N + n] = scale·λ[k, n]·(basis(k, n) ⊙ γ[n])   [r·N, m]
//
// basis gives row (k, n), of which the first m entries count, and must give the same
// rows until the backward pass is over. Of y nothing is held meanwhile: it is made again
// from λ and γ when a backward reads it.
func (tp *Tape) ScaledBasis(lambda, gamma *Value, scale float32, basis func(k, n int) []float32) *Value {
	r, bases, m := lambda.Rows, lambda.Cols, gamma.Cols
	if gamma.Rows != bases {
		panic(fmt.Sprintf("grad: ScaledBasis of λ [%d, %d] and γ [%d, %d]", r, bases, gamma.Rows, m))
	}
	fill := func(dst []float32) {
		parallelRows(r*bases, m, func(row int) {
			k, n := row/bases, row%bases
			y := dst[row*m : (row+1)*m]
			kernel.Mul(y, basis(k, n)[:m], gamma.row(n))
			kernel.Scale(scale*lambda.Data[row], y)
		})
	}
	z := tp.newValue(r*bases, m)
	fill(z.Data)
	if tp.needsAny(lambda, gamma) {
		tp.record(z, nil, func(dz []float32) { tp.scaledBasisBackward(lambda, gamma, scale, basis, dz) }, lambda, gamma)
		tp.cheap(z, filler(fill))
	}
	tp.tangent(z, func() (t *Value) {
		if lambda.tan != nil {
			t = tp.ScaledBasis(lambda.tan, gamma, scale, basis)
		}
		if gamma.tan != nil {
			t = tp.plus(t, tp.ScaledBasis(lambda, gamma.tan, scale, basis))
		}
		return t
	})
	return z
}

// scaledBasisBackward adds, with D = scale·dy ⊙ basis,
//
//	dλ[k, n] = ⟨D[k, n], γ[n]⟩,   dγ[n] = Σ_k λ[k, n]·D[k, n]
func (tp *Tape) scaledBasisBackward(lambda, gamma *Value, scale float32, basis func(k, n int) []float32, dz []float32) {
	r, bases, m := lambda.Rows, lambda.Cols, gamma.Cols
	var dl, dg []float32
	for _, side := range []struct {
		v *Value
		d *[]float32
	}{{lambda, &dl}, {gamma, &dg}} {
		if side.v.needs {
			var add bool
			if *side.d, add = tp.into(side.v); !add {
				clear(*side.d)
			}
		}
	}
	rows := tp.alloc(Scratch, bases*m)
	kernel.Parallel(bases, 1+(1<<14)/(r*m), func(lo, hi int) {
		for n := lo; n < hi; n++ {
			d := rows[n*m : (n+1)*m]
			for k := range r {
				at := k*bases + n
				kernel.Mul(d, dz[at*m:(at+1)*m], basis(k, n)[:m])
				if dl != nil {
					dl[at] += scale * kernel.Dot(d, gamma.row(n))
				}
				if dg != nil {
					kernel.Axpy(scale*lambda.Data[at], d, dg[n*m:(n+1)*m])
				}
			}
		}
	})
	tp.release(Scratch, rows)
}
