package stats

import (
	"context"
	"fmt"
	"math"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas64"
	"gonum.org/v1/gonum/floats"
)

// The solver of all ordinal models: proximal Newton on α and the differences δ of the
// weights,
//
//	β_k = δ_1 + … + δ_k,  η_ik = α_k + β_kᵀx_i,
//	F = −(1/n) Σ_i log(σ(η_i,y) − σ(η_i,y−1)) + Σ c_m |δ_m|,
//
// where c_m is infinite for differences that are held at 0. With g = η_k − η_k−1,
//
//	log(σ(η_k) − σ(η_k−1)) = log σ(η_k) + log σ(−η_k−1) + log(1 − e^−g),
//
// so that the loss is convex wherever all g are positive, and a row has a Hessian in η of
// three diagonals. The last term also serves as barrier: with weight τ it is added for
// the classes that a row is not of, which keeps every class's probability positive on
// the rows fitted.
//
// A step minimises the quadratic model with the penalty, and its length is found by
// backtracking from the longest that keeps g positive. Only coefficients in play are in
// the model: those that are not 0 and those whose gradient exceeds their price. Where a
// step runs into the boundary, τ is raised and lowered again a hundredfold at a time, so
// that the steps follow the centre of what is allowed.

// barrier is τ at the end, which keeps the mean loss within as much of its optimum;
// firstBarrier is where the way to it begins.
const (
	barrier      = 1e-7
	firstBarrier = 1e-4
)

// ordinalFit is one run of the solver; penalties may change between calls of solve, which
// starts where the last one ended.
type ordinalFit struct {
	*ordinalRows
	Solver
	method string
	price  []float64 // c, [cuts, p]: by m, then by column
	tau    float64

	alpha  []float64 // [cuts]
	delta  []float64 // [cuts, p]
	eta    []float64 // [n, cuts]
	u      []float64 // [n, cuts] ∂loss/∂η, then its sums over k ≥ m
	d, o   []float64 // [n, cuts] the Hessian's diagonal, and what stands beside it
	gAlpha []float64 // [cuts]
	gDelta []float64 // [cuts, p]

	lambda    float64 // for the trace
	objective float64
	residual  float64
	steps     int
}

func newOrdinalFit(r *ordinalRows, s Solver, method string) *ordinalFit {
	rows := r.n * r.cuts
	f := &ordinalFit{ordinalRows: r, Solver: s, method: method,
		price: make([]float64, r.cuts*r.p), alpha: r.nullAlpha(), delta: make([]float64, r.cuts*r.p),
		eta: make([]float64, rows), u: make([]float64, rows), d: make([]float64, rows), o: make([]float64, rows),
		gAlpha: make([]float64, r.cuts), gDelta: make([]float64, r.cuts*r.p)}
	for i := range r.n {
		copy(f.eta[i*r.cuts:], f.alpha)
	}
	return f
}

// hold fixes the differences between weights at 0, or frees them.
func (f *ordinalFit) hold(held bool) {
	f.tau = barrier
	if held || f.cuts == 1 {
		f.tau = 0 // cuts that are in order for one row are for all
	}
	for m := 1; m < f.cuts; m++ {
		for j := range f.p {
			f.price[m*f.p+j] = 0
			if held {
				f.price[m*f.p+j] = math.Inf(1)
			}
		}
	}
}

// loss is the mean loss at η + t·dη, +Inf where an order is broken.
func (f *ordinalFit) loss(t float64, deta []float64) float64 {
	var sum float64
	at := make([]float64, f.cuts)
	for i, c := range f.y {
		copy(at, f.eta[i*f.cuts:(i+1)*f.cuts])
		if deta != nil {
			floats.AddScaled(at, t, deta[i*f.cuts:(i+1)*f.cuts])
		}
		if c < f.cuts {
			sum += softplus(-at[c])
		}
		if c > 0 {
			sum += softplus(at[c-1])
		}
		for k := 1; k < f.cuts; k++ {
			w := f.tau
			if k == c {
				w++
			}
			if w == 0 {
				continue
			}
			g := at[k] - at[k-1]
			if g <= 0 {
				return math.Inf(1)
			}
			sum -= w * math.Log(-math.Expm1(-g))
		}
	}
	return sum / float64(f.n)
}

// derivatives fills u, d and o, and the gradients.
func (f *ordinalFit) derivatives() {
	for i, c := range f.y {
		at, u := f.eta[i*f.cuts:(i+1)*f.cuts], f.u[i*f.cuts:(i+1)*f.cuts]
		d, o := f.d[i*f.cuts:(i+1)*f.cuts], f.o[i*f.cuts:(i+1)*f.cuts]
		clear(u)
		clear(d)
		clear(o)
		if c < f.cuts {
			s := sigmoid(at[c])
			u[c] -= sigmoid(-at[c])
			d[c] += s * (1 - s)
		}
		if c > 0 {
			s := sigmoid(at[c-1])
			u[c-1] += s
			d[c-1] += s * (1 - s)
		}
		for k := 1; k < f.cuts; k++ {
			w := f.tau
			if k == c {
				w++
			}
			if w == 0 {
				continue
			}
			r := 1 / math.Expm1(at[k]-at[k-1]) // −d/dg log(1 − e^−g), whose slope is −r(1 + r)
			u[k] -= w * r
			u[k-1] += w * r
			h := w * r * (1 + r)
			d[k] += h
			d[k-1] += h
			o[k-1] -= h
		}
	}
	f.gradients()
}

// gradients sums u to the gradients of the mean loss.
func (f *ordinalFit) gradients() {
	clear(f.gAlpha)
	for i := range f.n {
		u := f.u[i*f.cuts : (i+1)*f.cuts]
		floats.AddScaled(f.gAlpha, 1/float64(f.n), u)
		for k := f.cuts - 2; k >= 0; k-- {
			u[k] += u[k+1] // δ_m enters all η_k with k ≥ m
		}
	}
	if f.p == 0 {
		return
	}
	blas64.Gemm(blas.Trans, blas.NoTrans, 1/float64(f.n),
		blas64.General{Rows: f.n, Cols: f.cuts, Stride: f.cuts, Data: f.u},
		blas64.General{Rows: f.n, Cols: f.p, Stride: f.p, Data: f.x}, 0,
		blas64.General{Rows: f.cuts, Cols: f.p, Stride: f.p, Data: f.gDelta})
}

// violation is the distance of −gradient from the penalty's slopes at δ.
func (f *ordinalFit) violation(at int) float64 {
	g, c := f.gDelta[at], f.price[at]
	switch v := f.delta[at]; {
	case math.IsInf(c, 1):
		return 0
	case v > 0:
		return math.Abs(g + c)
	case v < 0:
		return math.Abs(g - c)
	}
	return math.Max(0, math.Abs(g)-c)
}

// worst returns the largest violation.
func (f *ordinalFit) worst() float64 {
	v := floats.Norm(f.gAlpha, math.Inf(1))
	for at := range f.delta {
		v = math.Max(v, f.violation(at))
	}
	return v
}

// penalty is Σ c|δ|.
func (f *ordinalFit) penalty() float64 {
	var sum float64
	for at, v := range f.delta {
		if v != 0 {
			sum += f.price[at] * math.Abs(v)
		}
	}
	return sum
}

// solve runs Newton steps until the conditions of an optimum hold to the tolerance.
func (f *ordinalFit) solve(ctx context.Context) error {
	f.steps = 0
	blocked, err := f.newton(ctx, f.Tol, f.tau > 0)
	if blocked {
		for f.tau = firstBarrier; err == nil && f.tau > barrier; f.tau /= 100 {
			_, err = f.newton(ctx, math.Max(f.Tol, f.tau/10), false)
		}
		if f.tau = barrier; err == nil {
			_, err = f.newton(ctx, f.Tol, false)
		}
	}
	if err != nil {
		return err
	}
	return f.bounded()
}

// newton steps at one τ until the residual is tol. With yield it ends, blocked, at the
// first step that the boundary shortens.
func (f *ordinalFit) newton(ctx context.Context, tol float64, yield bool) (blocked bool, err error) {
	f.objective = f.loss(0, nil) + f.penalty()
	for began := f.steps; ; f.steps++ {
		if err := ctx.Err(); err != nil {
			return false, fmt.Errorf("stats: %s: stopped after %d steps: %w", f.method, f.steps, err)
		}
		f.derivatives()
		f.residual = f.worst()
		if f.residual <= tol {
			return false, nil
		}
		if f.steps-began == f.MaxIter {
			return false, &StoppedError{f.method, "the iteration limit is reached; raise max_iter or tol", f.steps, f.residual, tol}
		}
		s := f.model()
		if err := s.minimise(f); err != nil {
			return false, err
		}
		deta := f.direction(s)
		longest := math.Min(1, toBoundary*f.room(deta))
		if yield && longest < 1 {
			return true, nil
		}
		length, err := f.advance(s, deta, longest)
		if err != nil {
			return false, err
		}
		if f.Trace != nil {
			f.Trace(Step{f.steps + 1, f.lambda, f.tau, f.objective, f.residual, length, len(s.coords)})
		}
	}
}

// toBoundary is how much of the way to where an order breaks a step may go.
const toBoundary = 0.99

// bounded refuses weights that are on their way to infinity: the gradient has vanished, and
// yet a Newton step still moves some row's η by much, because the loss falls like e^−η.
func (f *ordinalFit) bounded() error {
	for at := range f.delta {
		if f.price[at] != 0 && !math.IsInf(f.price[at], 1) {
			return nil // penalised weights are finite
		}
	}
	s := f.model()
	if err := s.minimise(f); err != nil {
		return err
	}
	const moves = 0.1
	if far := floats.Norm(f.direction(s), math.Inf(1)); far < moves {
		return nil
	}
	return f.separated(s)
}

// separated names the column whose weight moves most.
func (f *ordinalFit) separated(s *newtonModel) error {
	worst, column := 0.0, 0
	for q, at := range s.coords {
		if v := math.Abs(s.step[f.cuts+q]); v > worst {
			worst, column = v, at%f.p
		}
	}
	return &ColumnError{column, -1, "separates classes without error, alone or with others, so that its weight has no finite estimate; leave it out, merge classes, or fit with a penalty"}
}

// direction returns dη of a step.
func (f *ordinalFit) direction(s *newtonModel) []float64 {
	deta := make([]float64, f.n*f.cuts)
	beta := make([]float64, f.cuts*f.p)
	for q, at := range s.coords {
		beta[at] = s.step[f.cuts+q]
	}
	for at := f.p; at < len(beta); at++ {
		beta[at] += beta[at-f.p]
	}
	for i := range f.n {
		copy(deta[i*f.cuts:], s.step[:f.cuts])
	}
	if f.p > 0 {
		blas64.Gemm(blas.NoTrans, blas.Trans, 1,
			blas64.General{Rows: f.n, Cols: f.p, Stride: f.p, Data: f.x},
			blas64.General{Rows: f.cuts, Cols: f.p, Stride: f.p, Data: beta}, 1,
			blas64.General{Rows: f.n, Cols: f.cuts, Stride: f.cuts, Data: deta})
	}
	return deta
}

// advance takes the step at a length that lowers the objective enough, by Armijo's rule,
// starting at t.
func (f *ordinalFit) advance(s *newtonModel, deta []float64, t float64) (float64, error) {
	const (
		enough   = 1e-4 // of the decrease that the model's slope foretells
		halvings = 60
	)
	slope := floats.Dot(s.grad, s.step)
	for q, at := range s.coords {
		if c := f.price[at]; c > 0 {
			slope += c * (math.Abs(f.delta[at]+s.step[f.cuts+q]) - math.Abs(f.delta[at]))
		}
	}
	before := append([]float64(nil), f.delta...)
	for range halvings {
		for q, at := range s.coords {
			f.delta[at] = before[at] + t*s.step[f.cuts+q]
		}
		value := f.loss(t, deta) + f.penalty()
		// Near the optimum the decrease drowns in rounding.
		if value <= f.objective+enough*t*slope+1e-14*math.Abs(f.objective) {
			floats.AddScaled(f.alpha, t, s.step[:f.cuts])
			floats.AddScaled(f.eta, t, deta)
			f.objective = value
			return t, nil
		}
		t /= 2
	}
	copy(f.delta, before)
	return 0, &StoppedError{f.method, "no step lowers the objective any more", f.steps, f.residual, f.Tol}
}

// room is how far along dη the order of η holds in all rows that the loss asks it of.
func (f *ordinalFit) room(deta []float64) float64 {
	room := math.Inf(1)
	for i, c := range f.y {
		for k := 1; k < f.cuts; k++ {
			if f.tau == 0 && k != c {
				continue
			}
			at := i*f.cuts + k
			if fall := deta[at-1] - deta[at]; fall > 0 {
				room = math.Min(room, (f.eta[at]-f.eta[at-1])/fall)
			}
		}
	}
	return room
}

// result returns the model in the columns' own units.
func (f *ordinalFit) result() Ordinal {
	m := Ordinal{Alpha: append([]float64(nil), f.alpha...), Residual: f.residual, Iterations: f.steps}
	tau := f.tau
	f.tau = 0
	m.LogLikelihood = -float64(f.n) * f.loss(0, nil)
	f.tau = tau
	sum := make([]float64, f.p)
	for k := range f.cuts {
		floats.Add(sum, f.delta[k*f.p:(k+1)*f.p])
		b := make([]float64, f.p)
		floats.DivTo(b, sum, f.scale)
		m.Alpha[k] -= floats.Dot(b, f.centre)
		m.Beta = append(m.Beta, b)
	}
	return m
}

// newtonModel is the quadratic model of the mean loss in α and the coefficients in play.
type newtonModel struct {
	coords []int     // places in delta, by m
	grad   []float64 // [cuts + coords]
	h      []float64 // [cuts + coords]²
	step   []float64
	price  []float64 // c of each, 0 for α
	start  []float64 // δ of each, 0 for α
}

// model builds the quadratic model at η. With W_i the Hessian in η of row i, δ_m and δ_m'
// (m ≤ m') have Σ_i x_i x_iᵀ Σ_{k≥m, k'≥m'} W_i,kk' / n.
func (f *ordinalFit) model() *newtonModel {
	s := &newtonModel{}
	start := make([]int, f.cuts+1) // where each m begins in coords
	for m := range f.cuts {
		start[m] = len(s.coords)
		for at := m * f.p; at < (m+1)*f.p; at++ {
			if f.delta[at] != 0 || f.violation(at) > 0 || f.price[at] == 0 {
				s.coords = append(s.coords, at)
			}
		}
	}
	start[f.cuts] = len(s.coords)
	size := f.cuts + len(s.coords)
	s.grad, s.h, s.step = make([]float64, size), make([]float64, size*size), make([]float64, size)
	copy(s.grad, f.gAlpha)
	for q, at := range s.coords {
		s.grad[f.cuts+q] = f.gDelta[at]
	}
	f.alphaBlock(s, start)
	parts := make([][]float64, f.cuts)
	for m := range parts {
		parts[m] = f.gather(s.coords[start[m]:start[m+1]])
	}
	same, cross := make([]float64, f.n), make([]float64, f.n)
	for m := f.cuts - 1; m >= 0; m-- { // m is the later one, m'
		for i := range f.n {
			at := i*f.cuts + m
			same[i] += f.d[at]
			if m+1 < f.cuts {
				same[i] += 2 * f.o[at]
			}
			cross[i] = same[i]
			if m > 0 {
				cross[i] += f.o[at-1]
			}
		}
		for before := 0; before <= m; before++ {
			w := cross
			if before == m {
				w = same
			}
			a, b := f.cuts+start[before], f.cuts+start[m]
			if rows, columns := start[before+1]-start[before], start[m+1]-start[m]; rows > 0 && columns > 0 {
				weightedGram(s.h[a*size+b:], size, f.n, parts[before], rows, w, parts[m], columns)
			}
		}
	}
	for a := range size {
		for b := range a {
			s.h[a*size+b] = s.h[b*size+a]
		}
	}
	return s
}

// alphaBlock fills the rows of α.
func (f *ordinalFit) alphaBlock(s *newtonModel, start []int) {
	size := f.cuts + len(s.coords)
	inv := 1 / float64(f.n)
	w := make([]float64, f.n)
	for k := range f.cuts {
		for i := range f.n {
			s.h[k*size+k] += inv * f.d[i*f.cuts+k]
			if k+1 < f.cuts {
				s.h[k*size+k+1] += inv * f.o[i*f.cuts+k]
			}
		}
		for m := range f.cuts {
			if start[m] == start[m+1] || m > k+1 {
				continue
			}
			for i := range f.n { // Σ_{k'≥m} W_kk'
				at := i*f.cuts + k
				w[i] = 0
				if k >= m {
					w[i] = f.d[at]
				}
				if k+1 < f.cuts {
					w[i] += f.o[at]
				}
				if k-1 >= m {
					w[i] += f.o[at-1]
				}
			}
			for q := start[m]; q < start[m+1]; q++ {
				s.h[k*size+f.cuts+q] = inv * floats.Dot(w, f.column(s.coords[q]%f.p))
			}
		}
	}
}

// gather puts the columns of coordinates one after another.
func (f *ordinalFit) gather(coords []int) []float64 {
	if len(coords) == f.p {
		return f.columns
	}
	out := make([]float64, 0, f.n*len(coords))
	for _, at := range coords {
		out = append(out, f.column(at%f.p)...)
	}
	return out
}

// weightedGram sets dst [ca, cb] of that stride to a diag(w) bᵀ / n, for a [ca, n] and
// b [cb, n]; w nil means ones.
func weightedGram(dst []float64, stride, n int, a []float64, ca int, w, b []float64, cb int) {
	scaled := b
	if w != nil {
		scaled = make([]float64, n*cb)
		for j := range cb {
			floats.MulTo(scaled[j*n:(j+1)*n], w, b[j*n:(j+1)*n])
		}
	}
	blas64.Gemm(blas.NoTrans, blas.Trans, 1/float64(n),
		blas64.General{Rows: ca, Cols: n, Stride: n, Data: a},
		blas64.General{Rows: cb, Cols: n, Stride: n, Data: scaled}, 0,
		blas64.General{Rows: ca, Cols: cb, Stride: stride, Data: dst})
}
