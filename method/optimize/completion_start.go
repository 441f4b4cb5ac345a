package optimize

import (
	"context"
	"math"
	"math/rand/v2"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas64"
	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/lapack/lapack64"
	"gonum.org/v1/gonum/mat"

	"tare/engine/tensor/kernel"
)

// The start looks for the leading singular vectors in a space of startExtra more dimensions
// than the rank, through startSteps products with the matrix and its transpose.
const startExtra, startSteps = 5, 4

// start sets V to the leading right singular vectors of P_Ω(M), clipped. The factor mn/|Ω|
// makes it an estimate of M and does not change them.
func (a *alternation) start(ctx context.Context) error {
	p := a.parts[0]
	l := min(a.Rank+startExtra, a.c.Rows, a.c.Columns)
	rng := rand.New(rand.NewPCG(a.Seed, 28))
	q := make([]float64, a.c.Columns*l)
	for i := range q {
		q[i] = rng.NormFloat64()
	}
	y := make([]float64, a.c.Rows*l)
	var r blas64.General
	for range startSteps {
		if err := ctx.Err(); err != nil {
			return err
		}
		product(y, p.rows, q, l)
		orthonormalise(y, l)
		product(q, p.columns, y, l)
		r = orthonormalise(q, l)
	}
	// P_Ω(M)ᵀY = Q R, so the right singular vectors are Q times R's left ones.
	var svd mat.SVD
	dense := mat.NewDense(l, l, r.Data)
	if !svd.Factorize(dense, mat.SVDThin) {
		return ErrData
	}
	var left mat.Dense
	svd.UTo(&left)
	lead := left.Slice(0, l, 0, a.Rank).(*mat.Dense)
	v := mat.NewDense(a.c.Columns, a.Rank, a.c.V)
	v.Mul(mat.NewDense(a.c.Columns, l, q), lead)
	a.clip()
	orthonormalise(a.c.V, a.Rank)
	return nil
}

// clip sets rows of V whose norm is above 2μ√(k/n) to zero.
func (a *alternation) clip() {
	if a.Incoherence == 0 {
		return
	}
	limit := 2 * a.Incoherence * math.Sqrt(float64(a.Rank)/float64(a.c.Columns))
	for j := range a.c.Columns {
		if row := a.c.V[j*a.Rank : (j+1)*a.Rank]; floats.Norm(row, 2) > limit {
			clear(row)
		}
	}
}

// product sets y [rows, l] = m x.
func product(y []float64, m *sparse, x []float64, l int) {
	grain := max(1, grainEntries*m.rows()/max(len(m.value), 1))
	kernel.Parallel(m.rows(), grain, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			row := y[i*l : (i+1)*l]
			clear(row)
			index, value := m.row(i)
			for e, j := range index {
				floats.AddScaled(row, value[e], x[int(j)*l:(int(j)+1)*l])
			}
		}
	})
}

// orthonormalise replaces x [n, k] by Q of x = Q R and returns R, by Cholesky twice
// (Yamamoto et al. 2015) and, where x is too near to losing rank for that, by reflections.
func orthonormalise(x []float64, k int) blas64.General {
	r := blas64.General{Rows: k, Cols: k, Stride: k, Data: make([]float64, k*k)}
	for i := range k {
		r.Data[i*k+i] = 1
	}
	g := blas64.General{Rows: len(x) / k, Cols: k, Stride: k, Data: x}
	for range 2 {
		gram := blas64.Symmetric{N: k, Stride: k, Uplo: blas.Upper, Data: make([]float64, k*k)}
		blas64.Syrk(blas.Trans, 1, g, 0, gram)
		t, ok := lapack64.Potrf(gram)
		if !ok || !wellConditioned(t) {
			return reflect(g, r)
		}
		kernel.Parallel(g.Rows, max(1, grainEntries/k), func(lo, hi int) {
			part := blas64.General{Rows: hi - lo, Cols: k, Stride: k, Data: x[lo*k : hi*k]}
			blas64.Trsm(blas.Right, blas.NoTrans, 1, t, part)
		})
		blas64.Trmm(blas.Left, blas.NoTrans, 1, t, r)
	}
	return r
}

// reflect is orthonormalise by Householder reflections, for what has been taken off
// already: it returns R·done.
func reflect(g, done blas64.General) blas64.General {
	k := g.Cols
	tau, size := make([]float64, k), make([]float64, 1)
	lapack64.Geqrf(g, tau, size, -1)
	work := make([]float64, int(size[0]))
	lapack64.Geqrf(g, tau, work, len(work))
	t := blas64.Triangular{N: k, Stride: k, Uplo: blas.Upper, Diag: blas.NonUnit, Data: make([]float64, k*k)}
	for i := range k {
		copy(t.Data[i*k+i:(i+1)*k], g.Data[i*k+i:(i+1)*k])
	}
	lapack64.Orgqr(g, tau, size, -1)
	work = make([]float64, int(size[0]))
	lapack64.Orgqr(g, tau, work, len(work))
	blas64.Trmm(blas.Left, blas.NoTrans, 1, t, done)
	return done
}

// turn replaces v by v Rᵀ, so that Q (v Rᵀ)ᵀ = (Q R) vᵀ.
func turn(v []float64, r blas64.General, k int) {
	t := blas64.Triangular{N: k, Stride: k, Uplo: blas.Upper, Diag: blas.NonUnit, Data: r.Data}
	kernel.Parallel(len(v)/k, max(1, grainEntries/k), func(lo, hi int) {
		blas64.Trmm(blas.Right, blas.Trans, 1, t, blas64.General{Rows: hi - lo, Cols: k, Stride: k, Data: v[lo*k : hi*k]})
	})
}
