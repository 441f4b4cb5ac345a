package adapt

import (
	"errors"
	"fmt"
	"math/rand/v2"

	"gonum.org/v1/gonum/lapack/lapack64"
	"gonum.org/v1/gonum/mat"

	"tare/engine/checkpoint"
	"tare/engine/grad"
	"tare/engine/nn"
	"tare/engine/tensor"
)

// exactSVD is the largest smaller side of a matrix that is decomposed exactly: about
// two seconds at 512.
const exactSVD = 512

// The randomized decomposition's excess columns (beside as many again as the rank) and
// power iterations: Halko et al. 2011, arXiv:0909.4061, algorithms 4.4 and 5.1.
const (
	sketchExcess = 10
	sketchPowers = 4
)

var errSVD = errors.New("the singular value decomposition does not converge")

// finite returns the matrix of a layer to decompose in f32, and refuses one with a NaN or an infinity.
func finite(method string, l *nn.Linear) (*tensor.Tensor, error) {
	w, err := nn.Materialize(l.Weight)
	if err != nil {
		return nil, fmt.Errorf("adapt: %s: layer %s: %w", method, l.Name, err)
	}
	if at := w.FirstNonFinite(); at >= 0 {
		return nil, fmt.Errorf("adapt: %s: layer %s: entry %d is NaN or Inf: %w", method, l.Name, at, checkpoint.ErrNonFinite)
	}
	return w, nil
}

// principal returns the r largest singular triplets of w, W ≈ U diag(s) Vᵀ with
// w [out, in], U [out, r], V [in, r]: exactly when the smaller side is at most
// exactSVD, else from a random sketch that the seed draws.
func principal(w *tensor.Tensor, r int, seed uint64) (u *mat.Dense, s []float64, v *mat.Dense, err error) {
	out, in := w.Dim(0), w.Dim(1)
	if min(out, in) > exactSVD {
		return sketched(w, r, seed)
	}
	return decompose(wide(w.F32(), out, in), r)
}

// decompose returns the r largest singular triplets of m.
func decompose(m *mat.Dense, r int) (u *mat.Dense, s []float64, v *mat.Dense, err error) {
	var svd mat.SVD
	if !svd.Factorize(m, mat.SVDThin) {
		return nil, nil, nil, errSVD
	}
	u, v = &mat.Dense{}, &mat.Dense{}
	svd.UTo(u)
	svd.VTo(v)
	out, in := m.Dims()
	return u.Slice(0, out, 0, r).(*mat.Dense), svd.Values(nil)[:r], v.Slice(0, in, 0, r).(*mat.Dense), nil
}

// sketched finds an orthonormal Q [out, k] that holds W's principal columns, and
// decomposes the small Wᵀ Q = V diag(s) Xᵀ, so that U = Q X. Products with W are in
// f32, everything else in float64.
func sketched(w *tensor.Tensor, r int, seed uint64) (u *mat.Dense, s []float64, v *mat.Dense, err error) {
	out, in := w.Dim(0), w.Dim(1)
	k := min(2*r+sketchExcess, out, in)
	rng := rand.New(rand.NewPCG(seed, 1))
	z := mat.NewDense(in, k, nil)
	for i := range in * k {
		z.RawMatrix().Data[i] = rng.NormFloat64()
	}
	q := orthonormal(times(w, false, z))
	for range sketchPowers {
		q = orthonormal(times(w, false, orthonormal(times(w, true, q))))
	}
	v, s, x, err := decompose(times(w, true, q), r)
	if err != nil {
		return nil, nil, nil, err
	}
	u = &mat.Dense{}
	u.Mul(q, x)
	return u, s, v, nil
}

// times returns W m, or Wᵀ m.
func times(w *tensor.Tensor, trans bool, m *mat.Dense) *mat.Dense {
	rows, cols := m.Dims()
	var y *mat.Dense
	tp := grad.NewTape(nil)
	tp.NoGrad(func() {
		v := tp.MatMul(tp.Const(w.F32(), w.Dim(0), w.Dim(1)), tp.Const(narrow(m), rows, cols), trans, false)
		y = wide(v.Data, v.Rows, v.Cols)
	})
	tp.Reset()
	return y
}

// orthonormal replaces m's columns by an orthonormal basis of their span and returns m.
func orthonormal(m *mat.Dense) *mat.Dense {
	a := m.RawMatrix()
	tau, work := make([]float64, a.Cols), make([]float64, 64*a.Cols)
	lapack64.Geqrf(a, tau, work, len(work))
	lapack64.Orgqr(a, tau, work, len(work))
	return m
}

// wide returns f32 data as a float64 matrix, narrow the reverse.

func wide(data []float32, rows, cols int) *mat.Dense {
	m := mat.NewDense(rows, cols, nil)
	for i, v := range data {
		m.RawMatrix().Data[i] = float64(v)
	}
	return m
}

func narrow(m *mat.Dense) []float32 {
	rows, cols := m.Dims()
	data := make([]float32, 0, rows*cols)
	for i := range rows {
		for _, v := range m.RawRowView(i) {
			data = append(data, float32(v))
		}
	}
	return data
}
