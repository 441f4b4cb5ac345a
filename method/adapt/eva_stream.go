package adapt

import (
	"math"

	"gonum.org/v1/gonum/mat"

	"tare/engine/tensor"
)

// inputStream is the truncated singular value decomposition of all rows that a layer's
// input has had, less their mean, kept up to date batch by batch (Ross et al. 2008,
// "Incremental Learning for Robust Visual Tracking", section 3.1): with n rows of mean
// μ behind, and m new ones of mean ν,
//
//	[diag(σ) Vᵀ; X − ν; √(n·m/(n + m))·(μ − ν)] = U diag(σ') V'ᵀ
//
// V and σ hold the k largest triplets.
type inputStream struct {
	layers []int // that read this input
	k, in  int
	seed   uint64
	done   bool // what is needed has converged: later batches are not taken

	n       int       // rows so far
	mean    []float64 // μ
	scatter float64   // Σ ‖x − μ‖²
	sigma   []float64
	v       *mat.Dense // [in, len(sigma)]
	cosines []float64  // of each direction with itself one batch earlier; nil after the first
}

// take adds rows x [m, in].
func (s *inputStream) take(x []float32) error {
	if len(x) == 0 {
		return nil
	}
	m, in := len(x)/s.in, s.in
	nu := make([]float64, in)
	for i, v := range x {
		nu[i%in] += float64(v) / float64(m)
	}
	var rows []float32
	for c, sigma := range s.sigma { // diag(σ) Vᵀ
		for j := range in {
			rows = append(rows, float32(sigma*s.v.At(j, c)))
		}
	}
	for i, v := range x { // X − ν
		d := float64(v) - nu[i%in]
		s.scatter += d * d
		rows = append(rows, float32(d))
	}
	if s.n == 0 {
		s.mean = nu
	} else {
		f := math.Sqrt(float64(s.n) * float64(m) / float64(s.n+m))
		for j, v := range nu { // the way between the means, and the new mean
			d := f * (s.mean[j] - v)
			s.scatter += d * d
			rows = append(rows, float32(d))
			s.mean[j] += (v - s.mean[j]) * float64(m) / float64(s.n+m)
		}
	}
	s.n += m
	return s.decompose(tensor.FromF32(rows, len(rows)/in, in))
}

// decompose replaces V and σ by those of the stacked rows: exactly when there are few
// rows or columns, else from a random sketch.
func (s *inputStream) decompose(rows *tensor.Tensor) error {
	k := min(s.k, rows.Dim(0), rows.Dim(1))
	var sigma []float64
	var v *mat.Dense
	var err error
	if min(rows.Dim(0), rows.Dim(1)) > 2*(2*k+sketchExcess) {
		_, sigma, v, err = sketched(rows, k, s.seed)
	} else {
		_, sigma, v, err = decompose(wide(rows.F32(), rows.Dim(0), rows.Dim(1)), k)
	}
	if err != nil {
		return err
	}
	before := s.v
	s.sigma, s.v, s.cosines = sigma, v, nil
	if before != nil {
		_, was := before.Dims()
		for c := range min(was, k) {
			s.cosines = append(s.cosines, math.Abs(mat.Dot(before.ColView(c), v.ColView(c))))
		}
	}
	return nil
}

// converged reports whether the first r directions are there and stay.
func (s *inputStream) converged(r int, tau float64) bool {
	if len(s.cosines) < r || s.v == nil || r == 0 && s.cosines == nil {
		return false
	}
	for _, c := range s.cosines[:r] {
		if c < tau {
			return false
		}
	}
	return true
}

// shares returns the part of the variance that each direction explains, falling.
func (s *inputStream) shares() []float64 {
	shares := make([]float64, len(s.sigma))
	for c, sigma := range s.sigma {
		if s.scatter > 0 {
			shares[c] = sigma * sigma / s.scatter
		}
	}
	return shares
}

// directions returns the first r directions as rows, divided by √σ if whitened.
func (s *inputStream) directions(r int, whiten bool) *tensor.Tensor {
	a := tensor.New(r, s.in)
	for c := range r {
		by := 1.0
		if whiten && s.sigma[c] > 0 {
			by = 1 / math.Sqrt(s.sigma[c])
		}
		for j := range s.in {
			a.F32()[c*s.in+j] = float32(by * s.v.At(j, c))
		}
	}
	return a
}
