package grad

import (
	"fmt"

	"tare/engine/tensor/kernel"
)

// Skew returns the skew-symmetric matrices [B·n, n], one below another, whose entries
// above the diagonal are the rows of x [B, n·(n − 1)/2].
func (tp *Tape) Skew(x *Value, n int) *Value {
	if x.Cols != n*(n-1)/2 {
		panic(fmt.Sprintf("grad: Skew of [%d, %d] to matrices of %d", x.Rows, x.Cols, n))
	}
	z := tp.newValue(x.Rows*n, n)
	clear(z.Data)
	above(x.Rows, n, func(from, i, j int) { z.Data[i], z.Data[j] = x.Data[from], -x.Data[from] })
	if tp.needsAny(x) {
		tp.record(z, nil, func(dz []float32) {
			dx := tp.alloc(Scratch, x.Rows*x.Cols)
			above(x.Rows, n, func(from, i, j int) { dx[from] = dz[i] - dz[j] })
			tp.give(x, dx)
		})
	}
	tp.linearTangent(z, x, func(t *Value) *Value { return tp.Skew(t, n) })
	return z
}

// above calls f for every entry above the diagonals of blocks matrices of n: its
// number, its position and that of its mirror.
func above(blocks, n int, f func(from, i, j int)) {
	from := 0
	for b := range blocks {
		for r := range n {
			for c := r + 1; c < n; c++ {
				f(from, b*n*n+r*n+c, b*n*n+c*n+r)
				from++
			}
		}
	}
}

// Cayley returns Q = (I + K)(I − K)⁻¹ for each of the skew-symmetric matrices K in x
// [B·n, n]: orthogonal, and I at 0. With M = (I − K)⁻¹
//
//	Q = 2M − I,   dQ = 2 M dK M
//
// M is computed in float64, without pivots, which I − K never needs.
func (tp *Tape) Cayley(x *Value) *Value {
	n := x.Cols
	if x.Rows%n != 0 {
		panic(fmt.Sprintf("grad: Cayley of [%d, %d]", x.Rows, n))
	}
	z := tp.newValue(x.Rows, n)
	blocks := x.Rows / n
	kernel.Parallel(blocks, 1, func(lo, hi int) {
		work := make([]float64, 2*n*n)
		for b := lo; b < hi; b++ {
			at := b * n * n
			cayley(z.Data[at:at+n*n], x.Data[at:at+n*n], n, work)
		}
	})
	if tp.needsAny(x) {
		tp.record(z, nil, func(dz []float32) { // dK = 2 Mᵀ dQ Mᵀ = ½ (Q + I)ᵀ dQ (Q + I)ᵀ
			m, part, dx := tp.alloc(Scratch, n*n), tp.alloc(Scratch, n*n), tp.alloc(Scratch, len(dz))
			for b := range blocks {
				at := b * n * n
				copy(m, z.Data[at:at+n*n])
				for i := range n {
					m[i*n+i]++
				}
				kernel.Gemm(part, n, n, n, n, dense(m, n, true), dense(dz[at:], n, false), kernel.GemmOptions{})
				kernel.Gemm(dx[at:], n, n, n, n, dense(part, n, false), dense(m, n, true), kernel.GemmOptions{Alpha: 0.5})
			}
			tp.release(Scratch, m)
			tp.release(Scratch, part)
			tp.give(x, dx)
		}, z)
	}
	tp.linearTangent(z, x, func(t *Value) *Value { return tp.cayleyMoved(z, t) })
	return z
}

// cayleyMoved returns the tangent 2 M K̇ M, a block at a time.
func (tp *Tape) cayleyMoved(z, t *Value) (moved *Value) {
	n := z.Cols
	identity := tp.blank(n, n)
	for i := range n {
		identity.Data[i*n+i] = 1
	}
	for b := range z.Rows / n {
		index := make([]int, n)
		for i := range index {
			index[i] = b*n + i
		}
		m := tp.Add(tp.GatherRows(z, index), identity)
		block := tp.Scale(tp.MatMul(tp.MatMul(m, tp.GatherRows(t, index), false, false), m, false, false), 0.5)
		moved = tp.plus(moved, tp.ScatterRows(block, index, z.Rows))
	}
	return moved
}

// cayley writes 2(I − K)⁻¹ − I by Gauss-Jordan elimination on [I − K | I].
func cayley(q, k []float32, n int, work []float64) {
	a := func(i int) []float64 { return work[2*n*i : 2*n*(i+1)] }
	for i := range n {
		row := a(i)
		clear(row)
		for j := range n {
			row[j] = -float64(k[i*n+j])
		}
		row[i]++
		row[n+i] = 1
	}
	for p := range n {
		pivot := a(p)
		scale := 1 / pivot[p]
		for j := range pivot {
			pivot[j] *= scale
		}
		for i := range n {
			row := a(i)
			by := row[p]
			if i == p || by == 0 {
				continue
			}
			for j, v := range pivot {
				row[j] -= by * v
			}
		}
	}
	for i := range n {
		for j, v := range a(i)[n:] {
			q[i*n+j] = float32(2 * v)
		}
		q[i*n+i]--
	}
}

// BlockLinear returns x diag(Q_1, …, Q_B)ᵀ for x [n, B·i] and the blocks q [B·o, i] one
// below another: block k of the columns times Q_kᵀ [n, B·o].
func (tp *Tape) BlockLinear(x, q *Value, blocks int) *Value {
	in, out := q.Cols, q.Rows/blocks
	if q.Rows%blocks != 0 || x.Cols != blocks*in {
		panic(fmt.Sprintf("grad: BlockLinear of [%d, %d] by %d blocks in [%d, %d]", x.Rows, x.Cols, blocks, q.Rows, q.Cols))
	}
	z := tp.newValue(x.Rows, blocks*out)
	o := kernel.GemmOptions{BF16: tp.BF16}
	for k := range blocks {
		kernel.Gemm(z.Data[k*out:], z.Cols, x.Rows, out, in, dense(x.Data[k*in:], x.Cols, false), dense(q.Data[k*out*in:], in, true), o)
	}
	if tp.needsAny(x, q) {
		var saved []*Value
		if x.needs {
			saved = append(saved, q)
		}
		if q.needs {
			saved = append(saved, x)
		}
		tp.record(z, nil, func(dz []float32) {
			for _, v := range []*Value{x, q} {
				if !v.needs {
					continue
				}
				d, add := tp.into(v)
				o.Accumulate = add
				for k := range blocks {
					dy := dz[k*out:]
					if v == x {
						kernel.Gemm(d[k*in:], x.Cols, x.Rows, in, out, dense(dy, z.Cols, false), dense(q.Data[k*out*in:], in, false), o)
					} else {
						kernel.Gemm(d[k*out*in:], in, out, in, x.Rows, dense(dy, z.Cols, true), dense(x.Data[k*in:], x.Cols, false), o)
					}
				}
			}
		}, saved...)
	}
	tp.tangent(z, func() (t *Value) {
		if x.tan != nil {
			t = tp.BlockLinear(x.tan, q, blocks)
		}
		if q.tan != nil {
			t = tp.plus(t, tp.BlockLinear(x, q.tan, blocks))
		}
		return t
	})
	return z
}
