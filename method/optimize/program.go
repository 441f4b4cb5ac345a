package optimize

import (
	"fmt"
	"math"

	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"
)

// Program is a problem min f(x) subject to c(x) = 0, f: Rⁿ → R and c: Rⁿ → Rᵐ twice
// differentiable. Matrices are lists of elements; those at the same place add up.
type Program interface {
	Dims() (n, m int)
	Objective(x []float64) float64
	Gradient(dst, x []float64)                                // dst [n] = ∇f
	Constraints(dst, x []float64)                             // dst [m] = c
	Jacobian(x []float64) []Entry                             // G = ∇c, [m, n]
	Hessian(x []float64, s float64, lambda []float64) []Entry // s∇²f + Σ λ_i∇²c_i, [n, n], both triangles
}

// Convex is a [Program] that may say that f is convex and c linear.
type Convex interface{ Convex() bool }

// ValueError is a program that is not finite where it was asked.
type ValueError struct {
	What  string // such as "the objective"
	Index int    // from 0; negative where there is one alone
	Value float64
}

// Error numbers constraints and variables from 1.
func (e *ValueError) Error() string {
	if e.Index < 0 {
		return fmt.Sprintf("optimize: at the start %s is %g", e.What, e.Value)
	}
	return fmt.Sprintf("optimize: at the start %s %d is %g", e.What, e.Index+1, e.Value)
}

// Unwrap returns [ErrData].
func (e *ValueError) Unwrap() error { return ErrData }

// RankError is a Jacobian whose rows depend on one another, so that multipliers are not
// unique.
type RankError struct {
	Row  int     // from 0, of the first that depends on those before it
	Left float64 // what is left of it, relative
}

// Error numbers the constraint from 1.
func (e *RankError) Error() string {
	return fmt.Sprintf("optimize: the Jacobian loses rank: constraint %d depends on those before it (%.2g of its gradient is left); leave it out, or start elsewhere", e.Row+1, e.Left)
}

// Unwrap returns [ErrData].
func (e *RankError) Unwrap() error { return ErrData }

// InfeasibleError is a point at which the constraints are violated and no direction lowers
// the violation.
type InfeasibleError struct {
	Violation float64 // ‖c‖
	Slope     float64 // ‖Gᵀc‖
}

// Error says how far it is from feasible.
func (e *InfeasibleError) Error() string {
	return fmt.Sprintf("optimize: the constraints cannot be met from here: their norm stays at %.3g, where its slope is %.2g; start elsewhere, or relax them", e.Violation, e.Slope)
}

// Unwrap returns [ErrData].
func (e *InfeasibleError) Unwrap() error { return ErrData }

// point is a program at (x, λ): L = f + λᵀc.
type point struct {
	x, lambda []float64
	f         float64
	c         []float64 // [m]
	g         *sparse   // G [m, n]
	slope     []float64 // ∇ₓL = ∇f + Gᵀλ, [n]
	w         []float64 // G∇ₓL, [m]
}

// at evaluates a program.
func at(p Program, x, lambda []float64) *point {
	n, m := p.Dims()
	q := &point{x: x, lambda: lambda, c: make([]float64, m), slope: make([]float64, n), w: make([]float64, m)}
	q.f = p.Objective(x)
	p.Constraints(q.c, x)
	p.Gradient(q.slope, x)
	q.g = matrix(m, p.Jacobian(x))
	q.g.addTransposed(q.slope, 1, lambda)
	q.g.addTo(q.w, 1, q.slope)
	return q
}

func matrix(rows int, entries []Entry) *sparse {
	return newSparse(rows, entries, false, 0, func(int) bool { return true })
}

// addTo sets y += s m x.
func (m *sparse) addTo(y []float64, s float64, x []float64) {
	for i := range y {
		index, value := m.row(i)
		for e, j := range index {
			y[i] += s * value[e] * x[j]
		}
	}
}

// addTransposed sets y += s mᵀ x.
func (m *sparse) addTransposed(y []float64, s float64, x []float64) {
	for i, v := range x {
		index, value := m.row(i)
		for e, j := range index {
			y[j] += s * value[e] * v
		}
	}
}

// dense returns the matrix with all its elements.
func (m *sparse) dense(columns int) *mat.Dense {
	d := mat.NewDense(m.rows(), columns, nil)
	for i := range m.rows() {
		index, value := m.row(i)
		for e, j := range index {
			d.Set(i, int(j), d.At(i, int(j))+value[e])
		}
	}
	return d
}

// residual is ‖(∇ₓL, c)‖, which is zero at a solution.
func (q *point) residual() float64 { return math.Hypot(floats.Norm(q.slope, 2), floats.Norm(q.c, 2)) }

// merit is the exact augmented Lagrangian L + (μ/2)‖c‖² + (ν/2)‖G∇ₓL‖².
func (q *point) merit(mu, nu float64) float64 {
	return q.f + floats.Dot(q.lambda, q.c) + mu/2*floats.Dot(q.c, q.c) + nu/2*floats.Dot(q.w, q.w)
}

// meritGradient returns the merit's gradient in x and in λ, with H = ∇²ₓL and w = G∇ₓL:
//
//	∇ₓ = ∇ₓL + μGᵀc + ν(H Gᵀw + Σ wᵢ∇²cᵢ ∇ₓL),   ∇_λ = c + νG Gᵀw.
func (q *point) meritGradient(p Program, h *sparse, mu, nu float64) (gx, gl []float64) {
	gx, gl = append([]float64(nil), q.slope...), append([]float64(nil), q.c...)
	q.g.addTransposed(gx, mu, q.c)
	back := make([]float64, len(gx)) // Gᵀw
	q.g.addTransposed(back, 1, q.w)
	h.addTo(gx, nu, back)
	matrix(len(gx), p.Hessian(q.x, 0, q.w)).addTo(gx, nu, q.slope)
	q.g.addTo(gl, nu, back)
	return gx, gl
}

// finite says whether the merit can be computed.
func (q *point) finite() bool {
	return !math.IsNaN(q.f+floats.Sum(q.c)+floats.Sum(q.slope)) && !math.IsInf(math.Abs(q.f)+floats.Norm(q.c, 1)+floats.Norm(q.slope, 1), 0)
}

// fault names what is not finite.
func (q *point) fault() error {
	if math.IsNaN(q.f) || math.IsInf(q.f, 0) {
		return &ValueError{"the objective", -1, q.f}
	}
	if i := notFinite(q.c); i >= 0 {
		return &ValueError{"constraint", i, q.c[i]}
	}
	if i := notFinite(q.slope); i >= 0 {
		return &ValueError{"the derivative of objective and constraints by variable", i, q.slope[i]}
	}
	return nil
}

// rankLoss is how much of a row of G must be left, relative to it, when the rows before it
// are taken away.
const rankLoss = 1e-8

// rankFault returns a RankError where the rows of G depend on one another, by Gram and
// Schmidt's process, twice.
func (q *point) rankFault() error {
	m, n := len(q.c), len(q.x)
	if m > n {
		return &RankError{n, 0}
	}
	if m == 0 {
		return nil
	}
	g := q.g.dense(n)
	for i := range m {
		row := g.RawRowView(i)
		before := floats.Norm(row, 2)
		for range 2 {
			for k := range i {
				floats.AddScaled(row, -floats.Dot(row, g.RawRowView(k)), g.RawRowView(k))
			}
		}
		left := floats.Norm(row, 2)
		if !(left > rankLoss*before) {
			return &RankError{i, left / max(before, math.SmallestNonzeroFloat64)}
		}
		floats.Scale(1/left, row)
	}
	return nil
}

// trouble says what of the program may be why a solver does not get on here, or nil.
func (q *point) trouble() error {
	back := make([]float64, len(q.x))
	q.g.addTransposed(back, 1, q.c)
	if violation, slope := floats.Norm(q.c, 2), floats.Norm(back, 2); violation > 1e-6 && slope <= 1e-3*violation*min(violation, 1) {
		return &InfeasibleError{violation, slope}
	}
	return q.rankFault()
}

// multipliers returns the λ of least ‖∇f + Gᵀλ‖; the point's λ must be zero.
func (q *point) multipliers() []float64 {
	m, n := len(q.c), len(q.x)
	lambda := make([]float64, m)
	if m == 0 {
		return lambda
	}
	var qr mat.QR
	qr.Factorize(q.g.dense(n).T())
	b := mat.NewDense(n, 1, append([]float64(nil), q.slope...))
	var out mat.Dense
	if err := qr.SolveTo(&out, false, b); err != nil {
		return lambda
	}
	for i := range lambda {
		lambda[i] = -out.At(i, 0)
	}
	return lambda
}

// bend returns how much is to be added to the diagonal of h = ∇²ₓL so that it is positive on
// the null space of G.
func (q *point) bend(h *sparse) float64 {
	n, m := len(q.x), len(q.c)
	if m >= n {
		return 0
	}
	var basis mat.Dense
	if m > 0 {
		var qr mat.QR
		qr.Factorize(q.g.dense(n).T())
		var whole mat.Dense
		qr.QTo(&whole)
		basis.CloneFrom(whole.Slice(0, n, m, n))
	} else {
		basis = *mat.NewDense(n, n, nil)
		for i := range n {
			basis.Set(i, i, 1)
		}
	}
	var half, reduced mat.Dense
	half.Mul(h.dense(n), &basis)
	reduced.Mul(basis.T(), &half)
	symmetric := mat.NewSymDense(n-m, nil)
	for i := range n - m {
		for j := i; j < n-m; j++ {
			symmetric.SetSym(i, j, (reduced.At(i, j)+reduced.At(j, i))/2)
		}
	}
	var e mat.EigenSym
	if !e.Factorize(symmetric, false) {
		return leastGamma
	}
	values := e.Values(nil)
	if least := values[0]; least <= 1e-12*math.Abs(values[n-m-1]) {
		return max(-2*least, leastGamma)
	}
	return 0
}
