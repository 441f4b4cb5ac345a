package stats

import (
	"fmt"
	"math"

	"gonum.org/v1/gonum/mat"
)

// emission is what the densities of a model's states need:
//
//	log b_k(t) = c_k − ½ ‖W_k z_t‖²,   W_k = L_k⁻¹ [−φ_k | −Φ^{(p)} … −Φ^{(1)} | I],   Σ_k = L_k L_kᵀ
//
// where z_t = [1, y_{t−p}, …, y_t] with the observations less their mean, which lie side
// by side in memory in this order.
type emission struct {
	d, q  int         // dimensions; length of z
	w     [][]float64 // [K][d q]; row r ends at p d + r + 2
	c     []float64   // [K]
	logOf []float64   // [K] densities of one row
}

func newEmission(m *HMM, mean []float64) (*emission, error) {
	d, lags := m.Dim, m.Order*m.Dim
	e := &emission{d: d, q: 1 + lags + d, w: make([][]float64, m.States), c: make([]float64, m.States), logOf: make([]float64, m.States)}
	for k := range m.States {
		var chol mat.Cholesky
		if !chol.Factorize(symmetric(m.Cov[k])) {
			return nil, fmt.Errorf("state %d: %w: its covariance is not positive definite; fewer states, or a ridge", k, ErrData)
		}
		e.c[k] = -0.5 * (float64(d)*math.Log(2*math.Pi) + chol.LogDet())
		shape := mat.NewDense(d, e.q, nil)
		for r := range d {
			shape.Set(r, 0, -m.centred(k, r, mean))
			for l := 1; l <= m.Order; l++ {
				for j := range d {
					shape.Set(r, 1+(m.Order-l)*d+j, -m.Coef[k][r][1+(l-1)*d+j])
				}
			}
			shape.Set(r, 1+lags+r, 1)
		}
		var low mat.TriDense
		chol.LTo(&low)
		var w mat.Dense
		if err := w.Solve(&low, shape); err != nil {
			return nil, fmt.Errorf("state %d: %w: its covariance is nearly singular (%v); fewer states, or a ridge", k, ErrData, err)
		}
		e.w[k] = w.RawMatrix().Data
	}
	return e, nil
}

// centred returns the constant of row r for observations less their mean μ:
// φ' = φ + Σ_l Φ^{(l)} μ − μ.
func (m *HMM) centred(k, r int, mean []float64) float64 {
	c := m.Coef[k][r][0] - mean[r]
	for j, v := range m.Coef[k][r][1:] {
		c += v * mean[j%m.Dim]
	}
	return c
}

// logs puts log b_k of n rows into dst [n, K]; y holds their observations, of which window
// i is [i d, (i + p + 1) d).
func (e *emission) logs(dst, y []float64, n int) {
	d, q, states := e.d, e.q, len(e.w)
	for k, w := range e.w {
		c := e.c[k]
		switch {
		case q == 2: // one column of order 0
			for i, v := range y[:n] {
				u := w[0] + w[1]*v
				dst[i*states+k] = c - 0.5*u*u
			}
		case q == 3 && d == 2:
			for i := range n {
				y0, y1 := y[2*i], y[2*i+1]
				u0, u1 := w[0]+w[1]*y0, w[3]+w[4]*y0+w[5]*y1
				dst[i*states+k] = c - 0.5*(u0*u0+u1*u1)
			}
		case q == 4 && d == 3:
			w := w[:12]
			for i := range n {
				y := y[3*i : 3*i+3]
				u0, u1, u2 := w[0]+w[1]*y[0], w[4]+w[5]*y[0]+w[6]*y[1], w[8]+w[9]*y[0]+w[10]*y[1]+w[11]*y[2]
				dst[i*states+k] = c - 0.5*(u0*u0+u1*u1+u2*u2)
			}
		default:
			for i := range n {
				window := y[i*d : i*d+q-1]
				var sum float64
				for r := range d {
					row := w[r*q : r*q+q-d+r+1]
					u := row[0]
					row = row[1:]
					for j, v := range window[:len(row)] {
						u += row[j] * v
					}
					sum += u * u
				}
				dst[i*states+k] = c - 0.5*sum
			}
		}
	}
}

// penalty is what the ridge takes from the objective.
func penalty(m *HMM, ridge float64) float64 {
	if ridge == 0 {
		return 0
	}
	var sum float64
	for k := range m.States {
		a := symmetric(identity(m.Dim))
		for r := range m.Dim {
			for s := range r + 1 {
				v := a.At(r, s)
				for j := 1; j < len(m.Coef[k][r]); j++ {
					v += m.Coef[k][r][j] * m.Coef[k][s][j]
				}
				a.SetSym(r, s, v)
			}
		}
		var chol mat.Cholesky
		chol.Factorize(symmetric(m.Cov[k]))
		var x mat.Dense
		if err := chol.SolveTo(&x, a); err != nil {
			return math.Inf(1)
		}
		sum += mat.Trace(&x)
	}
	return ridge / 2 * sum
}

func symmetric(rows [][]float64) *mat.SymDense {
	s := mat.NewSymDense(len(rows), nil)
	for i, r := range rows {
		for j := i; j < len(rows); j++ {
			s.SetSym(i, j, r[j])
		}
	}
	return s
}

func identity(n int) [][]float64 {
	out := zeroRows(n, n)
	for i := range n {
		out[i][i] = 1
	}
	return out
}

// maximize puts into m the parameters that the expectations in w ask for. With weights
// γ_t(k), sums G_k = Σ_t γ_t(k) z_t z_tᵀ, x the part of z before y_t, and ridge ρ on the
// lags' diagonal,
//
//	Φ_k = G_yx (G_xx + ρ)⁻¹     Σ_k = (G_yy − G_yx (G_xx + ρ)⁻¹ G_xy + ρ I) / Σ_t γ_t(k)
//
// A state that nothing was given to keeps what it had.
func (w *workspace) maximize(m *HMM, o ARPHMM) error {
	gram := w.gram()
	var starts float64
	for _, v := range w.first {
		starts += v
	}
	for k := range m.States {
		m.Initial[k] = w.first[k] / starts
		var out float64
		for _, v := range w.xi[k*w.k : (k+1)*w.k] {
			out += v
		}
		if out > 0 {
			for j := range m.Transition[k] {
				m.Transition[k][j] = w.xi[k*w.k+j] / out
			}
		}
		if gram[k].At(0, 0) < 1e-8 {
			continue
		}
		if err := w.regress(m, k, gram[k], o); err != nil {
			return err
		}
	}
	return nil
}

// regress solves the weighted regression of one state.
func (w *workspace) regress(m *HMM, k int, g *mat.SymDense, o ARPHMM) error {
	d, a := w.d, 1+w.p*w.d
	n := g.At(0, 0)
	gxx := mat.NewSymDense(a, nil)
	gxx.CopySym(g.SliceSym(0, a))
	for j := 1; j < a; j++ {
		gxx.SetSym(j, j, gxx.At(j, j)+o.Ridge)
	}
	gxy := mat.NewDense(a, d, nil)
	for i := range a {
		for j := range d {
			gxy.Set(i, j, g.At(i, a+j))
		}
	}
	var chol mat.Cholesky
	var phi mat.Dense // Φᵀ [a, d]
	if !chol.Factorize(gxx) || chol.SolveTo(&phi, gxy) != nil {
		return fmt.Errorf("state %d: %w: the %.3g observations that it is given do not determine its %d coefficients a column; fewer states, a lower order, or a ridge",
			k, ErrData, n, a)
	}
	for r := range d {
		for s := range d {
			v := g.At(a+r, a+s)
			for i := range a {
				v -= gxy.At(i, r) * phi.At(i, s)
			}
			switch {
			case r == s:
				v = (v + o.Ridge) / n
				if !(v > 1e-12*w.variance[r]) {
					return fmt.Errorf("state %d: %w: it has shrunk to %.3g observations without variance in column %d; fewer states, or a ridge", k, ErrData, n, r+1)
				}
			case o.Covariance == "diagonal":
				v = 0
			default:
				v /= n
			}
			m.Cov[k][r][s] = v
		}
		for l := 1; l <= w.p; l++ {
			for j := range d {
				m.Coef[k][r][1+(l-1)*d+j] = phi.At(1+(w.p-l)*d+j, r)
			}
		}
		// φ = φ' + μ − Σ_l Φ^{(l)} μ
		m.Coef[k][r][0] = 0
		m.Coef[k][r][0] = phi.At(0, r) - m.centred(k, r, w.mean)
	}
	return nil
}
