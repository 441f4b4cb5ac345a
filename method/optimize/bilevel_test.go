package optimize_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"gonum.org/v1/gonum/diff/fd"
	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"
	"pgregory.net/rapid"

	"tare/method/optimize"
)

// quadratic is a problem whose lower solution is known,
//
//	f = ½‖y − a‖² + ρ(x),  ρ = ½‖x‖² or Σ cosh x,   g = ½ yᵀHy − yᵀ(Bx + b),
//
// so y* = H⁻¹(Bx + b) and, with H symmetric, ∇Φ = ρ' + BᵀH⁻¹(y* − a). Noise is added to
// every number of a gradient or product.
type quadratic struct {
	h, b  *mat.Dense // [m, m], [m, n]
	c, a  *mat.VecDense
	steep bool
	noise float64
}

func newQuadratic(rng *rand.Rand, n, m int) *quadratic {
	normal := func(rows, cols int) *mat.Dense {
		d := mat.NewDense(rows, cols, nil)
		d.Apply(func(_, _ int, _ float64) float64 { return rng.NormFloat64() / math.Sqrt(float64(cols)) }, d)
		return d
	}
	q := &quadratic{h: mat.NewDense(m, m, nil), b: normal(m, n)}
	r := normal(m, m)
	q.h.Mul(r, r.T())
	for i := range m {
		q.h.Set(i, i, q.h.At(i, i)+0.5)
	}
	q.c, q.a = mat.NewVecDense(m, normal(m, 1).RawMatrix().Data), mat.NewVecDense(m, normal(m, 1).RawMatrix().Data)
	return q
}

func (q *quadratic) Dims() (x, y int) { y, x = q.b.Dims(); return x, y }

func (q *quadratic) disturb(rng *rand.Rand, v []float64) {
	if q.noise > 0 {
		for i := range v {
			v[i] += q.noise * rng.NormFloat64()
		}
	}
}

func (q *quadratic) Upper(rng *rand.Rand, x, y, gx, gy []float64) (f float64, err error) {
	for i, v := range x {
		if gx[i] = v; q.steep {
			gx[i] = math.Sinh(v)
			f += math.Cosh(v)
		} else {
			f += v * v / 2
		}
	}
	floats.SubTo(gy, y, q.a.RawVector().Data)
	f += floats.Dot(gy, gy) / 2
	q.disturb(rng, gx)
	q.disturb(rng, gy)
	return f, nil
}

func (q *quadratic) Lower(rng *rand.Rand, x, y, gy []float64) error {
	var right mat.VecDense
	right.MulVec(q.b, mat.NewVecDense(len(x), x))
	right.AddVec(&right, q.c)
	g := mat.NewVecDense(len(y), gy)
	g.MulVec(q.h, mat.NewVecDense(len(y), y))
	g.SubVec(g, &right)
	q.disturb(rng, gy)
	return nil
}

func (q *quadratic) Product(rng *rand.Rand, _, _, v, hv, jv []float64) error {
	w := mat.NewVecDense(len(v), v)
	mat.NewVecDense(len(hv), hv).MulVec(q.h, w)
	mat.NewVecDense(len(jv), jv).MulVec(q.b.T(), w)
	floats.Scale(-1, jv)
	q.disturb(rng, hv)
	q.disturb(rng, jv)
	return nil
}

// inner is y*(x).
func (q *quadratic) inner(x []float64) []float64 {
	var right, y mat.VecDense
	right.MulVec(q.b, mat.NewVecDense(len(x), x))
	right.AddVec(&right, q.c)
	if err := y.SolveVec(q.h, &right); err != nil {
		panic(err)
	}
	return y.RawVector().Data
}

func (q *quadratic) phi(x []float64) float64 {
	f, _ := q.Upper(nil, x, q.inner(x), make([]float64, len(x)), make([]float64, q.h.RawMatrix().Rows))
	return f
}

// optimum solves x + BᵀH⁻¹(H⁻¹(Bx + b) − a) = 0.
func (q *quadratic) optimum() []float64 {
	n, _ := q.Dims()
	var hb, k mat.Dense
	var hc, right, x mat.VecDense
	must(hb.Solve(q.h, q.b))
	must(hc.SolveVec(q.h, q.c))
	k.Mul(hb.T(), &hb)
	for i := range n {
		k.Set(i, i, k.At(i, i)+1)
	}
	hc.SubVec(q.a, &hc)
	right.MulVec(hb.T(), &hc)
	must(x.SolveVec(&k, &right))
	return x.RawVector().Data
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// bilevelSolver is any of the four.
type bilevelSolver interface {
	Minimize(ctx context.Context, p optimize.Bilevel, x, y []float64) (*optimize.BilevelResult, error)
	Validate() error
}

// bilevelSolvers are all four with steps for quadratics, and their limits.
func bilevelSolvers(eta float64, limits optimize.BilevelLimits) map[string]bilevelSolver {
	rep, stoc, ma, tt := optimize.NewBOREP(), optimize.NewStocBiO(), optimize.NewMASOBA(), optimize.NewTTSA()
	rep.Eta, rep.Gamma, rep.Nu, rep.BilevelLimits = eta, 0.2, 0.2, limits
	stoc.Eta, stoc.Gamma, stoc.Nu, stoc.Terms, stoc.BilevelLimits = eta, 0.2, 0.2, 40, limits
	ma.Eta, ma.Gamma, ma.Nu, ma.BilevelLimits = eta, 0.2, 0.2, limits
	tt.Eta, tt.Gamma, tt.Nu, tt.Terms, tt.BilevelLimits = eta, 0.2, 0.2, 40, limits
	return map[string]bilevelSolver{"BO-REP": rep, "StocBiO": stoc, "MA-SOBA": ma, "TTSA": tt}
}

func TestHypergradientIsThatOfPhi(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		n, m := rapid.IntRange(1, 6).Draw(t, "n"), rapid.IntRange(1, 6).Draw(t, "m")
		q := newQuadratic(rng, n, m)
		q.steep = rapid.Bool().Draw(t, "steep")
		x := make([]float64, n)
		for i := range x {
			x[i] = rng.NormFloat64()
		}
		got, err := optimize.Hypergradient(context.Background(), q, x, q.inner(x), 1e-12)
		if err != nil {
			t.Fatal(err)
		}
		want := fd.Gradient(nil, q.phi, x, &fd.Settings{Formula: fd.Central})
		if d := floats.Distance(got, want, 2); d > 1e-5*(1+floats.Norm(want, 2)) {
			t.Fatalf("hypergradient %v, differences of Φ %v", got, want)
		}
	})
}

// Where nothing is drawn and all steps are small enough, all four end at the solution: those
// without normalisation to the last digits, but for the series that StocBiO and TTSA cut off.
// TTSA draws terms, BO-REP's steps are of length η: they stay as near as their steps.
func TestBilevelSolversFindTheSolution(t *testing.T) {
	q := newQuadratic(rand.New(rand.NewPCG(3, 1)), 5, 4)
	want := q.optimum()
	start := []float64{3, -2, 1, 4, -1}
	for name, s := range bilevelSolvers(0.01, optimize.BilevelLimits{MaxIter: 5000, Seed: 1}) {
		near := map[string]float64{"MA-SOBA": 1e-8, "StocBiO": 0.02, "BO-REP": 0.2, "TTSA": 0.6}[name]
		r, err := s.Minimize(t.Context(), q, start, make([]float64, 4))
		if err != nil {
			t.Fatal(err)
		}
		if d := floats.Distance(r.X, want, 2); d > near {
			t.Errorf("%s ends %g from the solution, want %g", name, d, near)
		}
	}
	rep := bilevelSolvers(0.0005, optimize.BilevelLimits{MaxIter: 20000, Tol: 0.01, Seed: 1})["BO-REP"]
	r, err := rep.Minimize(t.Context(), q, start, make([]float64, 4))
	if err != nil {
		t.Fatal(err)
	}
	if d := floats.Distance(r.X, want, 2); d > 0.01 {
		t.Errorf("short steps end %g from the solution", d)
	}
}

// With noise in all oracles the normalised momentum still comes near.
func TestBilevelUnderNoise(t *testing.T) {
	q := newQuadratic(rand.New(rand.NewPCG(4, 1)), 5, 4)
	q.noise = 0.3
	o := optimize.NewBOREP()
	o.Eta, o.Gamma, o.Nu, o.Beta, o.MaxIter = 0.005, 0.05, 0.05, 0.95, 4000
	r, err := o.Minimize(t.Context(), q, []float64{3, -2, 1, 4, -1}, make([]float64, 4))
	if err != nil {
		t.Fatal(err)
	}
	if d := floats.Distance(r.X, q.optimum(), 2); d > 0.3 {
		t.Errorf("ends %g from the solution", d)
	}
}

// Σ cosh x is as steep as it is bent. From x = 12 a step that suits the solution throws all
// who do not normalise out of bounds; BO-REP walks down.
func TestSteepUpperFunction(t *testing.T) {
	q := newQuadratic(rand.New(rand.NewPCG(5, 1)), 2, 3)
	q.steep = true
	for name, s := range bilevelSolvers(0.05, optimize.BilevelLimits{MaxIter: 1000, Seed: 1}) {
		r, err := s.Minimize(t.Context(), q, []float64{12, -12}, make([]float64, 3))
		if name != "BO-REP" {
			var stopped *optimize.StoppedError
			if !errors.As(err, &stopped) || !strings.Contains(err.Error(), "smaller steps") {
				t.Errorf("%s: %v, want that it has left the finite numbers", name, err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		h, err := optimize.Hypergradient(t.Context(), q, r.X, q.inner(r.X), 1e-10)
		if err != nil {
			t.Fatal(err)
		}
		if n := floats.Norm(h, 2); n > 0.3 {
			t.Errorf("‖∇Φ‖ = %g at the end", n)
		}
	}
}

// What an iteration asks for is known beforehand.
func TestOracleCounts(t *testing.T) {
	q := newQuadratic(rand.New(rand.NewPCG(6, 1)), 3, 2)
	x, y := make([]float64, 3), make([]float64, 2)
	run := func(s bilevelSolver) optimize.Oracles {
		t.Helper()
		r, err := s.Minimize(t.Context(), q, x, y)
		if err != nil {
			t.Fatal(err)
		}
		return r.Oracles
	}
	for _, c := range []struct{ iterations, period, steps, epochs, first int }{
		{1, 1, 1, 0, 1}, {7, 2, 3, 0, 1}, {8, 2, 3, 3, 10}, {10, 5, 4, 1, 6}, {3, 100, 2, 2, 5},
	} {
		o := optimize.NewBOREP()
		o.MaxIter, o.Period, o.Steps, o.Epochs, o.FirstEpoch = c.iterations, c.period, c.steps, c.epochs, c.first
		refined := 0
		for s := range c.epochs {
			refined += c.first << s
		}
		updates := 0
		for k := range c.iterations {
			if k%c.period == 0 {
				updates++
			}
		}
		want := optimize.Oracles{Upper: c.iterations, Lower: refined + updates*c.steps, Products: c.iterations}
		if got := run(o); got != want {
			t.Errorf("BO-REP %+v: %+v, want %+v", c, got, want)
		}
	}
	stoc := optimize.NewStocBiO()
	stoc.MaxIter, stoc.Steps, stoc.Terms = 6, 4, 5
	if got := run(stoc); got != (optimize.Oracles{Upper: 6, Lower: 24, Products: 36}) {
		t.Errorf("StocBiO: %+v", got)
	}
	ma := optimize.NewMASOBA()
	ma.MaxIter = 6
	if got := run(ma); got != (optimize.Oracles{Upper: 6, Lower: 6, Products: 6}) {
		t.Errorf("MA-SOBA: %+v", got)
	}
	tt := optimize.NewTTSA()
	tt.MaxIter, tt.Terms = 6, 1
	if got := run(tt); got != (optimize.Oracles{Upper: 6, Lower: 6, Products: 6}) {
		t.Errorf("TTSA with one term: %+v", got)
	}
	tt.MaxIter, tt.Terms = 1000, 4 // 1.5 products of the series on average, and one with it
	if got := run(tt).Products; got < 2350 || got > 2650 {
		t.Errorf("TTSA: %d products", got)
	}
	ma.MaxIter, ma.Budget = 1000, 31
	if got := run(ma).Calls(); got != 33 {
		t.Errorf("%d calls of a budget of 31 in threes", got)
	}
}

// The series of StocBiO, and that of TTSA on average, are the Neumann series cut off.
func TestNeumannSeries(t *testing.T) {
	q := newQuadratic(rand.New(rand.NewPCG(7, 1)), 3, 3)
	x, y := []float64{1, -1, 2}, q.inner([]float64{1, -1, 2}) // y* stays where it is
	gx, power := make([]float64, 3), make([]float64, 3)
	_, _ = q.Upper(nil, x, y, gx, power)
	hv, jv, v := make([]float64, 3), make([]float64, 3), make([]float64, 3)
	const nu, terms = 0.2, 5
	for range terms {
		floats.AddScaled(v, nu, power)
		_ = q.Product(nil, x, y, power, hv, jv)
		floats.AddScaled(power, -nu, hv)
	}
	_ = q.Product(nil, x, y, v, hv, jv)
	want := floats.SubTo(make([]float64, 3), gx, jv)
	moved := func(s bilevelSolver) []float64 {
		r, err := s.Minimize(t.Context(), q, x, y)
		if err != nil {
			t.Fatal(err)
		}
		return floats.SubTo(make([]float64, 3), x, r.X)
	}
	stoc := &optimize.StocBiO{Eta: 1, Gamma: 0.1, Steps: 2, Nu: nu, Terms: terms - 1, BilevelLimits: optimize.BilevelLimits{MaxIter: 1}}
	if got := moved(stoc); floats.Distance(got, want, 2) > 1e-9 {
		t.Errorf("StocBiO's hypergradient %v, want %v", got, want)
	}
	mean := make([]float64, 3)
	square := 0.0
	const draws = 4000
	for seed := range uint64(draws) {
		tt := &optimize.TTSA{Eta: 1, Gamma: 0.1, Nu: nu, Terms: terms, BilevelLimits: optimize.BilevelLimits{MaxIter: 1, Seed: seed}}
		h := moved(tt)
		floats.AddScaled(mean, 1.0/draws, h)
		d := floats.Distance(h, want, 2)
		square += d * d / draws
	}
	if d, se := floats.Distance(mean, want, 2), math.Sqrt(square/draws); d > 4*se {
		t.Errorf("TTSA's hypergradient is %g from the series on average, standard error %g", d, se)
	}
}

func TestBilevelBadInput(t *testing.T) {
	q := newQuadratic(rand.New(rand.NewPCG(8, 1)), 2, 2)
	limits := optimize.BilevelLimits{MaxIter: 5, Seed: 1}
	good := []float64{1, 1}
	for name, s := range bilevelSolvers(0.1, limits) {
		for want, xy := range map[string][2][]float64{
			"the start has 1 and 2 numbers, the problem's x and y 2 and 2": {{1}, good},
			"y starts at NaN in coordinate 1":                              {good, {1, math.NaN()}},
			"x starts at +Inf in coordinate 0":                             {{math.Inf(1), 0}, good},
		} {
			if _, err := s.Minimize(t.Context(), q, xy[0], xy[1]); !errors.Is(err, optimize.ErrData) || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %q", name, err, want)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := s.Minimize(ctx, q, good, good); !errors.Is(err, context.Canceled) {
			t.Errorf("%s cancelled: %v", name, err)
		}
		if _, err := s.Minimize(t.Context(), failing{q}, good, good); !errors.Is(err, errNoSample) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s without samples: %v", name, err)
		}
	}
	for name, s := range bilevelSolvers(0.1, optimize.BilevelLimits{MaxIter: 5, Tol: 1e-9, Seed: 1}) {
		r, err := s.Minimize(t.Context(), q, good, good)
		var stopped *optimize.StoppedError
		if !errors.As(err, &stopped) || stopped.Iterations != 5 || stopped.Residual != r.Norm {
			t.Errorf("%s short of its tolerance: %v", name, err)
		}
	}
	for name, s := range bilevelSolvers(-1, optimize.BilevelLimits{Tol: math.NaN(), Budget: -1}) {
		err := s.Validate()
		for _, want := range []string{name, "eta is -1", "tol is NaN", "budget is -1", "max_iter is 0"} {
			if !errors.Is(err, optimize.ErrOptions) || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %q", name, err, want)
			}
		}
	}
	q.h.Scale(-1, q.h)
	if _, err := optimize.Hypergradient(t.Context(), q, good, good, 1e-6); !errors.Is(err, optimize.ErrData) || !strings.Contains(err.Error(), "strongly convex") {
		t.Errorf("a concave lower function: %v", err)
	}
}

var errNoSample = fmt.Errorf("no sample")

// failing is a problem whose lower function fails.
type failing struct{ *quadratic }

func (failing) Lower(*rand.Rand, []float64, []float64, []float64) error { return errNoSample }
