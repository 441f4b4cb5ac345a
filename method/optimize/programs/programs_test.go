package programs

import (
	"math"
	"math/rand/v2"
	"testing"

	"gonum.org/v1/gonum/diff/fd"
	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"

	"tare/method/optimize"
)

// named are all problems at points near their starts.
func named(t *testing.T) (names []string, programs []optimize.Program, at [][]float64) {
	rng := rand.New(rand.NewPCG(56, 1))
	add := func(name string, p optimize.Program, x []float64) {
		x = append([]float64(nil), x...)
		for i := range x {
			x[i] += 0.1 * rng.NormFloat64()
		}
		names, programs, at = append(names, name), append(programs, p), append(at, x)
	}
	for _, p := range append(Cutest(), HS61()) {
		add(p.Name, p, p.Start)
	}
	add("Poisson", &Poisson{Side: 3, Alpha: 0.1}, make([]float64, 18))
	z, y := make([][]float64, 20), make([]float64, 20)
	for i := range z {
		z[i] = []float64{1, rng.NormFloat64(), rng.NormFloat64(), rng.NormFloat64()}
		y[i] = float64(rng.IntN(2))*2 - 1
	}
	l, err := NewLogistic(z, y, 0.1, 2, rng)
	if err != nil {
		t.Fatal(err)
	}
	add("logistic", l, make([]float64, 4))
	return names, programs, at
}

func dense(rows, columns int, entries []optimize.Entry) *mat.Dense {
	m := mat.NewDense(rows, columns, nil)
	for _, e := range entries {
		m.Set(int(e.Row), int(e.Column), m.At(int(e.Row), int(e.Column))+e.Value)
	}
	return m
}

// Every gradient, Jacobian and Hessian agrees with central differences of what it is the
// derivative of.
func TestDerivatives(t *testing.T) {
	names, programs, points := named(t)
	central := &fd.JacobianSettings{Formula: fd.Central}
	for k, p := range programs {
		n, m := p.Dims()
		x := points[k]
		lambda := make([]float64, m)
		for i := range lambda {
			lambda[i] = float64(i+1) / 2
		}
		near := func(what string, got, want mat.Matrix) {
			var d mat.Dense
			d.Sub(got, want)
			if off := mat.Max(absolute(&d)); off > 1e-4*(1+mat.Max(absolute(mat.DenseCopyOf(want)))) {
				t.Errorf("%s: %s off by %g", names[k], what, off)
			}
		}
		g := make([]float64, n)
		p.Gradient(g, x)
		near("gradient", mat.NewDense(1, n, g), mat.NewDense(1, n, fd.Gradient(nil, p.Objective, x, &fd.Settings{Formula: fd.Central})))
		want := mat.NewDense(m, n, nil)
		fd.Jacobian(want, p.Constraints, x, central)
		near("Jacobian", dense(m, n, p.Jacobian(x)), want)
		want = mat.NewDense(n, n, nil)
		fd.Jacobian(want, func(dst, x []float64) {
			p.Gradient(dst, x)
			floats.Scale(3, dst)
			for _, e := range p.Jacobian(x) {
				dst[e.Column] += lambda[e.Row] * e.Value
			}
		}, x, central)
		near("Hessian", dense(n, n, p.Hessian(x, 3, lambda)), want)
	}
}

func absolute(m *mat.Dense) *mat.Dense {
	m.Apply(func(_, _ int, v float64) float64 { return math.Abs(v) }, m)
	return m
}

// The solution of the control problem fulfils its equations, and nothing near it that does
// is better.
func TestPoissonSolution(t *testing.T) {
	p := &Poisson{Side: 6, Alpha: 0.01}
	x, f := p.Solution()
	n, m := p.Dims()
	c := make([]float64, m)
	p.Constraints(c, x)
	if floats.Norm(c, math.Inf(1)) > 1e-14 || math.Abs(p.Objective(x)-f) > 1e-14 {
		t.Errorf("constraints %g, objective %g, closed form %g", floats.Norm(c, 2), p.Objective(x), f)
	}
	// ∇f is in the range of Gᵀ.
	g := make([]float64, n)
	p.Gradient(g, x)
	var lambda, back mat.Dense
	gt := dense(m, n, p.Jacobian(x)).T()
	if err := lambda.Solve(gt, mat.NewDense(n, 1, g)); err != nil {
		t.Fatal(err)
	}
	back.Mul(gt, &lambda)
	if !mat.EqualApprox(&back, mat.NewDense(n, 1, g), 1e-12) {
		t.Error("the solution is not stationary")
	}
}

func TestNames(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range Cutest() {
		if seen[p.Name] {
			t.Errorf("%s stands twice", p.Name)
		}
		seen[p.Name] = true
	}
	if len(seen) < 20 {
		t.Errorf("%d problems, want at least 20", len(seen))
	}
}
