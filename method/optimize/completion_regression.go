package optimize

import (
	"context"
	"math"
	"sync"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas64"
	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/lapack/lapack64"
	"gonum.org/v1/gonum/mat"

	"tare/engine/tensor/kernel"
)

const (
	// blockNumbers are gathered of the other factor at a time, 2 MB.
	blockNumbers = 1 << 18
	// innerLimit is how many iterations of conjugate gradients are tried before a
	// regression is solved exactly.
	innerLimit = 50
	// grainEntries of work is the least that goes to another thread.
	grainEntries = 1 << 12
)

// workspace is what one thread needs for its regressions. A regression is that of a row's
// values b [d] on A [d, k], the rows of the other factor at the row's columns.
type workspace struct {
	k, s     int
	index    []int32
	value    []float64
	v        []float64 // the other factor
	a        []float64 // a block of A
	y        []float64 // of a block's rows
	gathered bool      // a holds all of A

	sketch     []float64 // S A, [s, k]
	gram       blas64.Symmetric
	g, p, q, z []float64 // [k]
	squares    float64
	passes     int
}

type workspaces struct{ sync.Pool }

func newWorkspaces(k, s int) *workspaces {
	w := &workspaces{}
	w.New = func() any {
		rows := blockRows(k)
		return &workspace{k: k, s: s, a: make([]float64, rows*k), y: make([]float64, rows), sketch: make([]float64, s*k),
			gram: blas64.Symmetric{N: k, Stride: k, Uplo: blas.Upper, Data: make([]float64, k*k)},
			g:    make([]float64, k), p: make([]float64, k), q: make([]float64, k), z: make([]float64, k)}
	}
	return w
}

func blockRows(k int) int { return max(blockNumbers/k, 1) }

// solveRows makes a step in every row of u [rows, k] towards its regression on v. Its sums
// are over rows in their order, so that they do not depend on threads.
func (a *alternation) solveRows(ctx context.Context, m *sparse, u, v []float64, seed func(row int) uint64, disturb func(row int, u []float64)) (h halfSweep, err error) {
	k, rows := a.Rank, m.rows()
	found := make([][3]float64, rows) // squares, squared gradient, passes
	grain := max(1, grainEntries*rows/max(len(m.value), 1))
	kernel.Parallel(rows, grain, func(lo, hi int) {
		w := a.spaces.Get().(*workspace)
		defer a.spaces.Put(w)
		for i := lo; i < hi && ctx.Err() == nil; i++ {
			w.index, w.value = m.row(i)
			if len(w.index) == 0 {
				continue // a part of the entries has none of this row, which stays
			}
			row := u[i*k : (i+1)*k]
			if a.Solver == "exact" || len(w.index) <= w.s {
				found[i][1] = w.solveExact(row, v, a.Ridge)
			} else {
				found[i][1] = w.solveSketched(row, v, a.Ridge, a.Accuracy, seed(i))
			}
			found[i][0], found[i][2] = w.squares, float64(w.passes)
			disturb(i, row)
		}
	})
	for _, f := range found {
		h.squares += f[0]
		h.gradient += f[1]
		h.passes += f[2] / float64(rows)
	}
	h.entries, h.gradient = len(m.value), math.Sqrt(h.gradient)
	return h, ctx.Err()
}

// begin takes a row up; v is the other factor.
func (w *workspace) begin(v []float64) { w.v, w.gathered, w.passes, w.squares = v, false, 0, 0 }

// each gives f the rows of A and their values, block by block.
func (w *workspace) each(f func(a blas64.General, b []float64)) {
	w.passes++
	step := blockRows(w.k)
	for lo := 0; lo < len(w.index); lo += step {
		hi := min(lo+step, len(w.index))
		if !w.gathered {
			for r, j := range w.index[lo:hi] {
				copy(w.a[r*w.k:(r+1)*w.k], w.v[int(j)*w.k:(int(j)+1)*w.k])
			}
		}
		f(blas64.General{Rows: hi - lo, Cols: w.k, Stride: w.k, Data: w.a}, w.value[lo:hi])
	}
	w.gathered = len(w.index) <= step
}

// gradient sets g = Aᵀ(b − A u) − λu and the sum of squares of b − A u.
func (w *workspace) gradient(u []float64, ridge float64, also func(a blas64.General, b []float64)) {
	for c := range w.g {
		w.g[c] = -ridge * u[c]
	}
	w.each(func(a blas64.General, b []float64) {
		y := blas64.Vector{N: len(b), Inc: 1, Data: w.y}
		copy(w.y, b)
		blas64.Gemv(blas.NoTrans, -1, a, vector(u), 1, y)
		w.squares += blas64.Dot(y, y)
		blas64.Gemv(blas.Trans, 1, a, y, 1, vector(w.g))
		also(a, b)
	})
}

// multiply sets q = (AᵀA + λ) p.
func (w *workspace) multiply(ridge float64) {
	for c := range w.q {
		w.q[c] = ridge * w.p[c]
	}
	w.each(func(a blas64.General, b []float64) {
		y := blas64.Vector{N: len(b), Inc: 1, Data: w.y}
		blas64.Gemv(blas.NoTrans, 1, a, vector(w.p), 0, y)
		blas64.Gemv(blas.Trans, 1, a, y, 1, vector(w.q))
	})
}

func vector(x []float64) blas64.Vector { return blas64.Vector{N: len(x), Inc: 1, Data: x} }

// solveExact adds to u what solves its regression, (AᵀA + λ)⁻¹ g, and returns ‖g‖². Where A
// has fewer rows than columns or is singular u becomes the solution of least norm.
func (w *workspace) solveExact(u, v []float64, ridge float64) float64 {
	w.begin(v)
	clear(w.gram.Data)
	w.gradient(u, ridge, func(a blas64.General, _ []float64) { blas64.Syrk(blas.Trans, 1, a, 1, w.gram) })
	for c := range w.k {
		w.gram.Data[c*w.k+c] += ridge
	}
	squared := floats.Dot(w.g, w.g)
	w.correct(u, ridge)
	return squared
}

// correct solves with the matrix in gram, which it destroys.
func (w *workspace) correct(u []float64, ridge float64) {
	if ridge > 0 || len(w.index) >= w.k {
		whole := append(w.sketch[:0], w.gram.Data...) // s ≥ k
		if t, ok := lapack64.Potrf(w.gram); ok && wellConditioned(t) {
			copy(w.z, w.g)
			lapack64.Potrs(t, blas64.General{Rows: w.k, Cols: 1, Stride: 1, Data: w.z})
			floats.Add(u, w.z)
			return
		}
		copy(w.gram.Data, whole)
	}
	w.leastNorm(u)
}

// wellConditioned says whether the diagonal of a Cholesky factor spans less than 1e7, so
// that half the digits of the product are left.
func wellConditioned(t blas64.Triangular) bool {
	low, high := math.Inf(1), 0.0
	for i := range t.N {
		d := t.Data[i*t.Stride+i]
		low, high = min(low, d), max(high, d)
	}
	return low > 1e-7*high
}

// leastNorm sets u = (AᵀA + λ)⁺ Aᵀb, the solution of least norm, by eigenvalues of the
// matrix in gram.
func (w *workspace) leastNorm(u []float64) {
	clear(u)
	squares := w.squares
	w.gradient(u, 0, func(blas64.General, []float64) {})
	w.squares = squares
	var e mat.EigenSym
	if !e.Factorize(mat.NewSymDense(w.k, w.gram.Data), true) {
		return // of a matrix with no finite eigenvalues; the caller looks at the result
	}
	values := e.Values(nil)
	var q mat.Dense
	e.VectorsTo(&q)
	for c, lambda := range values {
		if lambda <= 1e-12*values[w.k-1] {
			continue
		}
		var along float64
		for r := range w.k {
			along += q.At(r, c) * w.g[r]
		}
		for r := range w.k {
			u[r] += along / lambda * q.At(r, c)
		}
	}
}

// solveSketched brings u nearer to its regression's solution: preconditioned conjugate
// gradients on (AᵀA + λ) δ = g, until gᵀW⁻¹g has fallen by accuracy², where W = (SA)ᵀSA + λ.
// S adds every row of A, with a random sign, to a random one of s rows (Clarkson and Woodruff
// 2013). It returns ‖g‖².
func (w *workspace) solveSketched(u, v []float64, ridge, accuracy float64, seed uint64) float64 {
	w.begin(v)
	clear(w.sketch)
	row := uint64(0)
	w.gradient(u, ridge, func(a blas64.General, _ []float64) {
		for i := range a.Rows {
			row++
			h := mix(seed, row)
			at := int(h>>32*uint64(w.s)>>32) * w.k
			floats.AddScaled(w.sketch[at:at+w.k], float64(h&1)*2-1, a.Data[i*w.k:(i+1)*w.k])
		}
	})
	squared := floats.Dot(w.g, w.g)
	clear(w.gram.Data)
	blas64.Syrk(blas.Trans, 1, blas64.General{Rows: w.s, Cols: w.k, Stride: w.k, Data: w.sketch}, 0, w.gram)
	for c := range w.k {
		w.gram.Data[c*w.k+c] += ridge
	}
	precondition, ok := lapack64.Potrf(w.gram)
	if !ok || !wellConditioned(precondition) || !w.conjugate(u, ridge, accuracy, precondition) {
		squares := w.squares
		w.solveExact(u, v, ridge)
		w.squares = squares
	}
	return squared
}

// conjugate runs conjugate gradients and says whether they met the accuracy.
func (w *workspace) conjugate(u []float64, ridge, accuracy float64, t blas64.Triangular) bool {
	apply := func() float64 { // z = W⁻¹ g
		copy(w.z, w.g)
		lapack64.Potrs(t, blas64.General{Rows: w.k, Cols: 1, Stride: 1, Data: w.z})
		return floats.Dot(w.g, w.z)
	}
	now := apply()
	goal := accuracy * accuracy * now
	copy(w.p, w.z)
	for range innerLimit {
		if now <= goal || now == 0 {
			return true
		}
		w.multiply(ridge)
		curvature := floats.Dot(w.p, w.q)
		if !(curvature > 0) {
			return false
		}
		floats.AddScaled(u, now/curvature, w.p)
		floats.AddScaled(w.g, -now/curvature, w.q)
		last := now
		now = apply()
		floats.AddScaledTo(w.p, w.z, now/last, w.p)
	}
	return now <= goal
}
