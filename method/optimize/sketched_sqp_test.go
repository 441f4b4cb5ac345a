package optimize_test

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"gonum.org/v1/gonum/diff/fd"
	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"
	"pgregory.net/rapid"

	"tare/method/optimize"
	"tare/method/optimize/programs"
)

// solvers are the inner solvers, sketches by their name.
var solvers = []string{"lu", "gmres", "kaczmarz", "gaussian", "sparse"}

func newton(solver string, tol float64) *optimize.SketchedSQP {
	o := optimize.NewSketchedSQP()
	o.Inner, o.Tol = solver, tol
	if solver != "lu" && solver != "gmres" {
		o.Inner, o.Sketch = "sketch", solver
	}
	return o
}

func minimize(t *testing.T, o *optimize.SketchedSQP, p optimize.Program, x []float64) *optimize.Solution {
	t.Helper()
	s, err := o.Minimize(t.Context(), p, x)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func formula(t *testing.T, name string) *programs.Formula {
	t.Helper()
	for _, p := range programs.Cutest() {
		if p.Name == name {
			return p
		}
	}
	t.Fatal("no problem ", name)
	return nil
}

// Every inner solver comes from the published starts to the published optima. From the start
// of BYRDSPHR, where the Jacobian has a condition of 10⁵, exact steps fail.
func TestKnownOptima(t *testing.T) {
	for _, solver := range solvers {
		for _, p := range programs.Cutest() {
			if p.Name == "BYRDSPHR" && (solver == "lu" || solver == "gmres") {
				continue
			}
			s, err := newton(solver, 1e-6).Minimize(t.Context(), p, p.Start)
			if err != nil {
				t.Errorf("%s, %s: %v", solver, p.Name, err)
				continue
			}
			if off := math.Abs(s.Objective - p.Optimum); off > 1e-6*(1+math.Abs(p.Optimum)) {
				t.Errorf("%s, %s: found %.9g, known is %.9g", solver, p.Name, s.Objective, p.Optimum)
			}
		}
	}
}

// The gradient of the merit agrees with central differences.
func TestMeritGradient(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 56))
	for _, name := range []string{"HS7", "HS40", "HS56", "HS77", "HS100LNP", "BT12"} {
		p := formula(t, name)
		n, m := p.Dims()
		z := append(append([]float64(nil), p.Start...), make([]float64, m)...)
		for i := range z {
			z[i] += 0.2 * rng.NormFloat64()
		}
		_, gx, gl := optimize.Merit(p, z[:n], z[n:], 3, 0.2)
		want := fd.Gradient(nil, func(z []float64) float64 {
			v, _, _ := optimize.Merit(p, z[:n], z[n:], 3, 0.2)
			return v
		}, z, &fd.Settings{Formula: fd.Central})
		got := append(gx, gl...)
		if !floats.EqualApprox(got, want, 1e-5*(1+floats.Norm(want, math.Inf(1)))) {
			t.Errorf("%s: %v, differences give %v", name, got, want)
		}
	}
}

// kkt solves for a Newton step by the null space of G: Δx = Y p + Z q with G Y p = −c and
// ZᵀHZ q = −Zᵀ(∇f + H Y p), which needs no multipliers.
func kkt(t *testing.T, p optimize.Program, x, lambda []float64) []float64 {
	t.Helper()
	n, m := p.Dims()
	dense := func(rows int, entries []optimize.Entry) *mat.Dense {
		d := mat.NewDense(rows, n, nil)
		for _, e := range entries {
			d.Set(int(e.Row), int(e.Column), d.At(int(e.Row), int(e.Column))+e.Value)
		}
		return d
	}
	g, h := dense(m, p.Jacobian(x)), dense(n, p.Hessian(x, 1, lambda))
	c, f := mat.NewDense(m, 1, nil), mat.NewDense(n, 1, nil)
	p.Constraints(c.RawMatrix().Data, x)
	p.Gradient(f.RawMatrix().Data, x)
	var qr mat.QR
	qr.Factorize(g.T())
	var q mat.Dense
	qr.QTo(&q)
	y, z := q.Slice(0, n, 0, m), q.Slice(0, n, m, n)
	var gy, a, normal, hn, right, zh, zhz, b, along, step mat.Dense
	gy.Mul(g, y)
	c.Scale(-1, c)
	if err := a.Solve(&gy, c); err != nil {
		t.Fatal(err)
	}
	normal.Mul(y, &a)
	hn.Mul(h, &normal)
	hn.Add(&hn, f)
	right.Mul(z.T(), &hn)
	right.Scale(-1, &right)
	zh.Mul(z.T(), h)
	zhz.Mul(&zh, z)
	if err := b.Solve(&zhz, &right); err != nil {
		t.Fatal(err)
	}
	along.Mul(z, &b)
	step.Add(&normal, &along)
	return step.RawMatrix().Data
}

// With exact inner solves, and with sketched ones of high accuracy, a step is that of
// sequential quadratic programming.
func TestExactInnerSolvesAreNewtonSteps(t *testing.T) {
	for _, name := range []string{"HS40", "HS42", "HS77", "HS78", "HS79", "HS100LNP"} {
		p := formula(t, name)
		// The second step is compared: its start has the multipliers that the first left.
		o := newton("lu", 1e-12)
		o.MaxIter = 1
		first, _ := o.Minimize(t.Context(), p, p.Start)
		o.MaxIter = 2
		second, _ := o.Minimize(t.Context(), p, p.Start)
		s := second.Steps[1]
		if s.Gamma != 0 {
			continue
		}
		want := append([]float64(nil), first.X...)
		floats.AddScaled(want, s.Length, kkt(t, p, first.X, first.Lambda))
		if !floats.EqualApprox(second.X, want, 1e-9*(1+floats.Norm(want, 2))) {
			t.Errorf("%s: step to %v, Newton's goes to %v", name, second.X, want)
		}
		for _, solver := range solvers[1:] {
			o := newton(solver, 1e-12)
			o.Theta, o.MaxIter = 1e-10, 2
			got, _ := o.Minimize(t.Context(), p, p.Start)
			if !floats.EqualApprox(got.X, second.X, 1e-6*(1+floats.Norm(want, 2))) {
				t.Errorf("%s, %s: step to %v, exactly %v", name, solver, got.X, second.X)
			}
		}
	}
}

// regular are problems with a positive reduced Hessian at the solution.
var regular = []string{"HS7", "HS9", "HS39", "HS40", "HS42", "HS56", "HS77", "HS78", "HS79", "HS100LNP", "HS111LNP", "BT2", "BT5", "MARATOS"}

// Near the solution whole steps are taken, also where l1 merits refuse them (MARATOS).
func TestUnitStepsLocally(t *testing.T) {
	for _, solver := range solvers {
		for _, name := range regular {
			p := formula(t, name)
			for _, s := range minimize(t, newton(solver, 1e-8), p, p.Start).Steps {
				if s.Residual < 1e-3 && s.Length != 1 {
					t.Errorf("%s, %s: step %d of length %g at residual %g", solver, name, s.Number, s.Length, s.Residual)
				}
			}
		}
	}
}

// With sharpened accuracy the residual falls at least as its power 1.5, with constant accuracy
// linearly.
func TestConvergence(t *testing.T) {
	for _, solver := range []string{"lu", "kaczmarz", "gaussian"} {
		for _, name := range regular {
			p := formula(t, name)
			o := newton(solver, 1e-9)
			o.Schedule = "sharpen"
			steps := minimize(t, o, p, p.Start).Steps
			for i := 1; i < len(steps); i++ {
				if a, b := steps[i-1].Residual, steps[i].Residual; a < 1e-3 && b > 1e3*math.Pow(a, 1.5) {
					t.Errorf("%s, %s: residual %g after %g", solver, name, b, a)
				}
			}
		}
	}
	// Of a quadratic program a step leaves what the inner solver left.
	for _, solver := range solvers {
		p := formula(t, "GENHS28")
		o := newton(solver, 1e-9)
		o.Theta = 0.2
		steps := minimize(t, o, p, p.Start).Steps
		for i := 1; i < len(steps); i++ {
			if steps[i].Residual > 0.2*steps[i-1].Residual*(1+1e-6) {
				t.Errorf("%s: of a quadratic program %g of the residual is left, the accuracy is 0.2", solver, steps[i].Residual/steps[i-1].Residual)
			}
		}
	}
}

// Every step lowers the merit that it was found for, by its share of the promised descent,
// from any start.
func TestMeritFalls(t *testing.T) {
	all := programs.Cutest()
	rapid.Check(t, func(t *rapid.T) {
		p := all[rapid.IntRange(0, len(all)-1).Draw(t, "problem")]
		o := newton(rapid.SampledFrom(solvers).Draw(t, "solver"), 1e-5)
		o.Seed = rapid.Uint64().Draw(t, "seed")
		o.MaxIter, o.Passes = 30, 50
		x := append([]float64(nil), p.Start...)
		for i := range x {
			x[i] += rapid.Float64Range(-0.3, 0.3).Draw(t, "shift")
		}
		s, _ := o.Minimize(context.Background(), p, x)
		if s == nil {
			t.Skip("no start")
		}
		for _, step := range s.Steps {
			rounding := 1e-12 * (1 + math.Abs(step.Merit))
			if step.Descent >= 0 || step.After > step.Merit+o.Armijo*step.Length*step.Descent+rounding {
				t.Fatalf("%s: step %d from %g to %g, slope %g", p.Name, step.Number, step.Merit, step.After, step.Descent)
			}
		}
	})
}

func TestPoissonControl(t *testing.T) {
	p := &programs.Poisson{Side: 5, Alpha: 0.01}
	x, f := p.Solution()
	for _, solver := range solvers {
		o := newton(solver, 1e-9)
		s := minimize(t, o, p, make([]float64, len(x)))
		if math.Abs(s.Objective-f) > 1e-7 || !floats.EqualApprox(s.X, x, 1e-4) {
			t.Errorf("%s: objective %.12g, closed form %.12g", solver, s.Objective, f)
		}
	}
}

// Of logistic regression the gradient ends in the range of the constraints' rows.
func TestConstrainedLogistic(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 56))
	z, y := make([][]float64, 200), make([]float64, 200)
	for i := range z {
		z[i] = make([]float64, 10)
		for j := range z[i] {
			z[i][j] = rng.NormFloat64()
		}
		y[i] = math.Copysign(1, z[i][0]+rng.NormFloat64())
	}
	p, err := programs.NewLogistic(z, y, 0, 3, rng)
	if err != nil {
		t.Fatal(err)
	}
	var first []float64
	for _, solver := range solvers {
		s := minimize(t, newton(solver, 1e-9), p, make([]float64, 10))
		g, c := make([]float64, 10), make([]float64, 3)
		p.Gradient(g, s.X)
		p.Constraints(c, s.X)
		for i, a := range p.A {
			floats.AddScaled(g, s.Lambda[i], a)
		}
		if floats.Norm(g, 2) > 1e-8 || floats.Norm(c, 2) > 1e-8 {
			t.Errorf("%s: gradient %g, constraints %g", solver, floats.Norm(g, 2), floats.Norm(c, 2))
		}
		if first == nil {
			first = s.X
		} else if !floats.EqualApprox(s.X, first, 1e-5) {
			t.Errorf("%s ends elsewhere", solver)
		}
	}
	if _, err := programs.NewLogistic(nil, nil, 0, 1, rng); !errors.Is(err, optimize.ErrData) {
		t.Errorf("no rows: %v", err)
	}
}

// plain is a program of formulas.
func plain(start []float64, f func(x []programs.Jet) programs.Jet, c ...func(x []programs.Jet) programs.Jet) *programs.Formula {
	return &programs.Formula{Start: start, F: f, C: func(x []programs.Jet) []programs.Jet {
		var out []programs.Jet
		for _, c := range c {
			out = append(out, c(x))
		}
		return out
	}}
}

func TestMinimizeRefuses(t *testing.T) {
	square := func(x []programs.Jet) programs.Jet { return x[0].Mul(x[0]).Add(x[1].Mul(x[1])) }
	line := func(shift float64) func(x []programs.Jet) programs.Jet {
		return func(x []programs.Jet) programs.Jet { return x[0].Add(x[1]).Plus(shift) }
	}
	logarithm := func(x []programs.Jet) programs.Jet { return x[0].Log() }
	for _, c := range []struct {
		name string
		p    *programs.Formula
		as   any
		says string
	}{
		{"published start of HS61", programs.HS61(), new(*optimize.RankError), "constraint 2"},
		{"the same constraint twice", plain([]float64{1, 1}, square, line(-1), line(-1)), new(*optimize.RankError), "constraint 2"},
		{"more constraints than variables", plain([]float64{1, 1}, square, line(1), logarithm, line(2)), new(*optimize.RankError), "constraint 3"},
		{"x² + y² + 1 = 0", plain([]float64{1, 2}, line(0), func(x []programs.Jet) programs.Jet { return square(x).Plus(1) }), new(*optimize.InfeasibleError), "cannot be met"},
		{"logarithm of −1", plain([]float64{-1, 1}, logarithm, line(0)), new(*optimize.ValueError), "the objective is NaN"},
		{"a constraint of no number", plain([]float64{-1, 1}, square, logarithm), new(*optimize.ValueError), "constraint 1 is NaN"},
		{"a start of no number", plain([]float64{1, math.Inf(1)}, square, line(0)), new(*optimize.ValueError), "the objective is +Inf"},
	} {
		for _, solver := range solvers {
			_, err := newton(solver, 1e-8).Minimize(t.Context(), c.p, c.p.Start)
			if err == nil || !errors.As(err, c.as) || !errors.Is(err, optimize.ErrData) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s, %s: %v", c.name, solver, err)
			}
		}
	}
	p := formula(t, "HS7")
	if _, err := newton("lu", 1e-8).Minimize(t.Context(), p, []float64{1}); !errors.Is(err, optimize.ErrData) {
		t.Errorf("a short start: %v", err)
	}
	o := &optimize.SketchedSQP{Inner: "cg", Theta: 2}
	if _, err := o.Minimize(t.Context(), p, p.Start); !errors.Is(err, optimize.ErrOptions) || !strings.Contains(err.Error(), "theta is 2") || !strings.Contains(err.Error(), "passes is 0") {
		t.Errorf("%v", err)
	}
}

func TestMinimizeStops(t *testing.T) {
	p := formula(t, "HS77")
	o := newton("kaczmarz", 1e-10)
	o.MaxIter = 2
	s, err := o.Minimize(t.Context(), p, p.Start)
	var stopped *optimize.StoppedError
	if !errors.As(err, &stopped) || stopped.Iterations != 2 || len(s.Steps) != 2 || stopped.Residual != s.Residual {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	o.MaxIter = 100
	o.Trace = func(optimize.NewtonStep) { cancel() }
	if _, err := o.Minimize(ctx, p, p.Start); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	// Without constraints it is Newton's method.
	free := plain([]float64{3, -1}, func(x []programs.Jet) programs.Jet { return x[0].Plus(-1).Pow(4).Add(x[0].Mul(x[1]).Plus(-2).Pow(2)) })
	if s := minimize(t, newton("lu", 1e-8), free, free.Start); math.Abs(s.Objective) > 1e-8 {
		t.Errorf("unconstrained: %g", s.Objective)
	}
}
