package grad

import (
	"fmt"

	"tare/engine/tensor/kernel"
)

// kronecker holds the sizes of Σ_k U_k ⊗ V_k, U_k [o1, i1] and V_k [o2, i2].
type kronecker struct{ terms, o1, i1, o2, i2 int }

// AddKronecker returns y + x Kᵀ in y's buffer, which y gives up, with K the sum of the
// Kronecker products U_k ⊗ V_k: x [n, i1·i2], u [terms·o1, i1], v [terms·o2, i2],
// y [n, o1·o2]. K is never built; a row of x, seen as the matrix X [i1, i2], becomes
//
//	Σ_k U_k X V_kᵀ
//
// as two products over all terms at once, a bounded number of rows at a time. x is kept,
// and U_k X computed again in the backward pass.
func (tp *Tape) AddKronecker(y, x, u, v *Value, terms int) *Value {
	k := kronecker{terms, u.Rows / terms, u.Cols, v.Rows / terms, v.Cols}
	if u.Rows%terms != 0 || v.Rows%terms != 0 || x.Cols != k.i1*k.i2 {
		panic(fmt.Sprintf("grad: AddKronecker of %d terms [%d, %d] and [%d, %d] on [%d, %d]", terms, u.Rows, u.Cols, v.Rows, v.Cols, x.Rows, x.Cols))
	}
	mustShape("AddKronecker", nil, y, x.Rows, k.o1*k.o2)
	z := tp.take(y)
	right := tp.alloc(Scratch, len(v.Data))
	k.factor(right, v.Data)
	tp.kroneckerRows(x, u, k, func(s kroneckerScratch, lo, hi int) {
		kernel.Gemm(z.Data[lo*z.Cols:hi*z.Cols], k.o2, (hi-lo)*k.o1, k.o2, terms*k.i2, dense(s.left, terms*k.i2, false), dense(right, k.o2, false),
			kernel.GemmOptions{Accumulate: true, BF16: tp.BF16})
	})
	tp.release(Scratch, right)
	if tp.needsAny(x, u, v) {
		tp.record(z, nil, func(dz []float32) { tp.kroneckerBack(dz, x, u, v, k) }, x, u, v)
	}
	tp.passOn(z, y)
	tp.tangent(z, func() *Value { return tp.kroneckerMoved(y.tan, x, u, v, terms, z.Cols) })
	return z
}

// kroneckerScratch is what the rows of a chunk need.
type kroneckerScratch struct {
	x    []float32 // [n·i2, i1]: the matrices X turned
	full []float32 // [n·i2, terms·o1]: (U_k X)ᵀ
	left []float32 // [n·o1, terms·i2]: U_k X side by side
}

// kroneckerRows goes through x's rows in chunks with U_k X computed.
func (tp *Tape) kroneckerRows(x, u *Value, k kronecker, f func(s kroneckerScratch, lo, hi int)) {
	const bound = 1 << 18 // entries of U_k X in a chunk
	wide := k.terms * k.o1
	rows := min(x.Rows, max(1, bound/(wide*k.i2)))
	s := kroneckerScratch{tp.alloc(Scratch, rows*x.Cols), tp.alloc(Scratch, rows*k.i2*wide), tp.alloc(Scratch, rows*k.i2*wide)}
	for lo := 0; lo < x.Rows; lo += rows {
		hi := min(lo+rows, x.Rows)
		n := hi - lo
		reversed(s.x, x.Data[lo*x.Cols:hi*x.Cols], n, k.i1, 1, k.i2)
		kernel.Gemm(s.full, wide, n*k.i2, wide, k.i1, dense(s.x, k.i1, false), dense(u.Data, k.i1, true), kernel.GemmOptions{BF16: tp.BF16})
		reversed(s.left, s.full, n, k.i2, k.terms, k.o1)
		f(s, lo, hi)
	}
	tp.release(Scratch, s.x)
	tp.release(Scratch, s.full)
	tp.release(Scratch, s.left)
}

// factor writes v [terms, o2, i2] as [terms·i2, o2].
func (k kronecker) factor(dst, v []float32) { reversed(dst, v, k.terms, k.o2, 1, k.i2) }

// kroneckerBack adds, with Z_k = U_k X and dY [o1, o2] a row of dy,
//
//	dV_kᵀ = Σ Z_kᵀ dY,   dZ_k = dY V_k,   dU_k = Σ dZ_k Xᵀ,   dX = Σ_k U_kᵀ dZ_k
func (tp *Tape) kroneckerBack(dy []float32, x, u, v *Value, k kronecker) {
	wide, deep := k.terms*k.o1, k.terms*k.i2
	out := k.o1 * k.o2
	right, dright := tp.alloc(Scratch, len(v.Data)), tp.zeros(Scratch, len(v.Data))
	k.factor(right, v.Data)
	var du, dx []float32
	if u.needs {
		var add bool
		if du, add = tp.into(u); !add {
			clear(du)
		}
	}
	if x.needs {
		dx = tp.alloc(Scratch, len(x.Data))
	}
	o := kernel.GemmOptions{BF16: tp.BF16}
	more := kernel.GemmOptions{BF16: tp.BF16, Accumulate: true}
	chunk := func(s kroneckerScratch, lo, hi int) {
		n, d := hi-lo, dy[lo*out:hi*out]
		if v.needs {
			kernel.Gemm(dright, k.o2, deep, k.o2, n*k.o1, dense(s.left, deep, true), dense(d, k.o2, false), more)
		}
		if !u.needs && !x.needs {
			return
		}
		kernel.Gemm(s.left, deep, n*k.o1, deep, k.o2, dense(d, k.o2, false), dense(right, k.o2, true), o)
		reversed(s.full, s.left, n, k.o1, k.terms, k.i2) // dZᵀ [n·i2, terms·o1]
		if u.needs {
			kernel.Gemm(du, k.i1, wide, k.i1, n*k.i2, dense(s.full, wide, true), dense(s.x, k.i1, false), more)
		}
		if x.needs {
			kernel.Gemm(s.x, k.i1, n*k.i2, k.i1, wide, dense(s.full, wide, false), dense(u.Data, k.i1, false), o)
			reversed(dx[lo*x.Cols:hi*x.Cols], s.x, n, k.i2, 1, k.i1)
		}
	}
	tp.kroneckerRows(x, u, k, chunk)
	if x.needs {
		tp.give(x, dx)
	}
	if v.needs {
		reversed(right, dright, k.terms, k.i2, 1, k.o2)
		tp.contribute(v, 1, right)
	}
	tp.release(Scratch, right)
	tp.release(Scratch, dright)
}

// kroneckerMoved returns the tangent t of y and what each moved factor adds.
func (tp *Tape) kroneckerMoved(t, x, u, v *Value, terms, cols int) *Value {
	add := func(x, u, v *Value) {
		if x != nil && u != nil && v != nil {
			t = tp.plus(t, tp.AddKronecker(tp.blank(x.Rows, cols), x, u, v, terms))
		}
	}
	add(x.tan, u, v)
	add(x, u.tan, v)
	add(x, u, v.tan)
	return t
}

// reversed writes src [n, a, b, c] as dst [n, c, b, a].
func reversed(dst, src []float32, n, a, b, c int) {
	size := a * b * c
	kernel.Parallel(n, 1+(1<<13)/size, func(lo, hi int) {
		for at := lo * size; at < hi*size; at += size {
			from, to := src[at:at+size], dst[at:at+size]
			if b == 1 {
				turned(to, from, a, c)
				continue
			}
			for q := range b {
				for r := 0; r < c; r++ {
					row, column := to[(r*b+q)*a:][:a], from[q*c+r:]
					for p := range row {
						row[p] = column[p*b*c]
					}
				}
			}
		}
	})
}
