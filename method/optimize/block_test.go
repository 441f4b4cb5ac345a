package optimize

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"gonum.org/v1/gonum/mat"
	"pgregory.net/rapid"
)

// linear draws a linear model.
func linear(t testing.TB, loss string, m, p, classes int, ridge float64, seed uint64) *Linear {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 2))
	a := mat.NewDense(m, p, nil)
	y := make([]float64, m)
	for r := range m {
		for j := range p {
			if rng.Float64() < 0.7 {
				a.Set(r, j, rng.NormFloat64()*(0.5+float64(j%3)))
			}
		}
		switch loss {
		case "squares":
			y[r] = rng.NormFloat64() + a.At(r, 0) - 2*a.At(r, p-1)
		case "logistic":
			y[r] = math.Copysign(1, a.At(r, 0)+rng.NormFloat64())
		default:
			y[r] = float64(rng.IntN(classes))
		}
	}
	f, err := NewLinear(loss, a, y, classes, ridge)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// lattice is label propagation on a side × side grid.
func lattice(t testing.TB, side, labels int, seed uint64) *Quadratic {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 3))
	var edges []Pair
	for i := range side * side {
		if i%side+1 < side {
			edges = append(edges, Pair{i, i + 1, 0.5 + rng.Float64()})
		}
		if i+side < side*side {
			edges = append(edges, Pair{i, i + side, 0.5 + rng.Float64()})
		}
	}
	known := map[int]float64{}
	for len(known) < labels {
		known[rng.IntN(side*side)] = float64(1 - 2*rng.IntN(2))
	}
	q, _, err := Propagate(side*side, edges, known)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func everything(n int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	return all
}

// functions are small ones of every kind.
func functions(t testing.TB) map[string]Smooth {
	return map[string]Smooth{
		"squares":  linear(t, "squares", 30, 10, 0, 1, 1),
		"logistic": linear(t, "logistic", 30, 8, 0, 2, 2),
		"softmax":  linear(t, "softmax", 24, 4, 3, 2, 3),
		"lattice":  lattice(t, 5, 8, 4),
	}
}

// Gradients and Hessians are those of finite differences, the bound is above the Hessian,
// and moving in parts is being reset.
func TestFunctions(t *testing.T) {
	for name, f := range functions(t) {
		n := f.Dim()
		rng := rand.New(rand.NewPCG(7, 7))
		x, g, h, bound := make([]float64, n), make([]float64, n), make([]float64, n*n), make([]float64, n*n)
		for i := range x {
			x[i] = 0.3 * rng.NormFloat64()
		}
		f.Reset(x)
		value := f.Value()
		f.Gradient(g, everything(n))
		f.Hessian(h, everything(n))
		f.Bound(bound, everything(n))
		up, down := make([]float64, n), make([]float64, n)
		const eps = 1e-5
		for i := range n {
			f.Move([]int{i}, []float64{eps})
			vu := f.Value()
			f.Gradient(up, everything(n))
			f.Move([]int{i}, []float64{-2 * eps})
			vd := f.Value()
			f.Gradient(down, everything(n))
			f.Move([]int{i}, []float64{eps})
			if d := (vu - vd) / (2 * eps); math.Abs(d-g[i]) > 1e-6*(1+math.Abs(d)) {
				t.Errorf("%s: gradient %d is %v, differences give %v", name, i, g[i], d)
			}
			for j := range n {
				if d := (up[j] - down[j]) / (2 * eps); math.Abs(d-h[i*n+j]) > 1e-6*(1+math.Abs(d)) {
					t.Errorf("%s: Hessian %d, %d is %v, differences give %v", name, i, j, h[i*n+j], d)
				}
			}
		}
		if math.Abs(f.Value()-value) > 1e-12*(1+math.Abs(value)) {
			t.Errorf("%s: moving there and back changes the value from %v to %v", name, value, f.Value())
		}
		gap := mat.NewSymDense(n, nil)
		for i := range n {
			for j := range i + 1 {
				gap.SetSym(i, j, bound[i*n+j]-h[i*n+j])
			}
		}
		var eigen mat.EigenSym
		eigen.Factorize(gap, false)
		if least := slices.Min(eigen.Values(nil)); least < -1e-9 {
			t.Errorf("%s: the bound less the Hessian has eigenvalue %v", name, least)
		}
		d, times := []float64{0.5, -2}, make([]float64, n)
		f.BoundTimes(times, []int{3, 1}, d)
		for i := range n {
			if want := bound[i*n+3]*d[0] + bound[i*n+1]*d[1]; math.Abs(times[i]-want) > 1e-10*(1+math.Abs(want)) {
				t.Errorf("%s: the bound's product has %v at %d, want %v", name, times[i], i, want)
			}
		}
	}
}

// Every rule with all blocks and updates falls by at least its bound at each step and
// ends at the minimum that Newton's method on all coordinates finds.
func TestEveryDescentKeepsItsPromise(t *testing.T) {
	for name, f := range functions(t) {
		n := f.Dim()
		whole := BlockDescent{Update: "newton", Size: n, Tol: 1e-10}
		best, err := whole.Minimize(context.Background(), f, make([]float64, n))
		if err != nil {
			t.Fatal(name, err)
		}
		for _, rule := range blockRules {
			for _, blocks := range blockKinds {
				if blocks != "variable" && blocks != "average" && rule != "gsl" {
					continue
				}
				for _, update := range append(blockUpdates, "tree") {
					o := BlockDescent{Rule: rule, Blocks: blocks, Update: update, Size: 3, Seed: 9, Tol: 1e-4, MaxIter: 20000}
					if update == "tree" {
						o.Update, o.Tree = "", true
						if name != "lattice" || strings.HasPrefix(rule, "bgs-q") {
							continue
						}
					}
					keepsPromise(t, name+", "+o.String(), o, f, make([]float64, n), best.Value)
				}
			}
		}
	}
}

func keepsPromise(t testing.TB, name string, o BlockDescent, f Smooth, x []float64, best float64) *BlockResult {
	t.Helper()
	o.Watch = func(s BlockStep) {
		slack := 1e-12 * (1 + math.Abs(s.Before))
		if s.Bound < -slack || s.Value > s.Before-s.Bound+slack {
			t.Fatalf("%s: step %d from %.15g to %.15g, it had to fall by %.3g", name, s.Iteration, s.Before, s.Value, s.Bound)
		}
	}
	r, err := o.Minimize(context.Background(), f, x)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if math.Abs(r.Value-best) > 1e-7*(1+math.Abs(best)) {
		t.Errorf("%s: ends at %.12g, the minimum is %.12g", name, r.Value, best)
	}
	return r
}

// With L1 and with bounds the promises hold as well, and all descents end at one value.
func TestPromisesWithL1AndBounds(t *testing.T) {
	for name, f := range functions(t) {
		n := f.Dim()
		low, high := make([]float64, n), make([]float64, n)
		for i := range n {
			low[i], high[i] = -0.1*float64(i%2)-0.05, 0.2
		}
		for kind, o := range map[string]BlockDescent{"l1": {L1: 0.8}, "bounds": {Lower: low, Upper: high}, "below": {Lower: low}} {
			o.Rule, o.Update, o.Size, o.Tol, o.MaxIter = "gsc", "newton", n, 1e-10, 20000
			best, err := o.Minimize(context.Background(), f, make([]float64, n))
			if err != nil {
				t.Fatal(name, kind, err)
			}
			for _, rule := range blockRules {
				for _, blocks := range []string{"variable", "sorted"} {
					for _, update := range []string{"gradient", "matrix", "newton"} {
						o.Rule, o.Blocks, o.Update, o.Size, o.Tol = rule, blocks, update, 3, 1e-4
						keepsPromise(t, fmt.Sprint(name, ", ", kind, ", ", o), o, f, make([]float64, n), best.Value)
					}
				}
			}
		}
	}
}

// Messages on a random forest solve what a dense factorisation solves.
func TestMessagesAreADenseSolve(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		n := rapid.IntRange(1, 30).Draw(r, "nodes")
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(r, "seed"), 5))
		var entries []Pair
		for i := range n {
			entries = append(entries, Pair{i, i, 0.1 + rng.Float64()})
			for j := range i {
				if rng.Float64() < 0.2 {
					w := rng.Float64()
					entries = append(entries, Pair{i, i, w}, Pair{j, j, w}, Pair{i, j, -w})
				}
			}
		}
		q, err := NewQuadratic(n, entries, make([]float64, n), 0)
		if err != nil {
			r.Fatal(err)
		}
		block, rest := forest(q, rng.Perm(n))
		for _, i := range rest { // none of those left out could have been let in
			if taken, _ := forest(q, append(slices.Clone(block), i)); len(taken) > len(block) {
				r.Fatalf("coordinate %d fits the forest %v", i, block)
			}
		}
		edges := 0
		b := len(block)
		h, g, got := make([]float64, b*b), make([]float64, b), make([]float64, b)
		q.Bound(h, block)
		for i := range b {
			g[i] = rng.NormFloat64()
			for j := range i {
				if h[i*b+j] != 0 {
					edges++
				}
			}
		}
		if edges >= b {
			r.Fatalf("%d edges among %d coordinates are no forest", edges, b)
		}
		solveForest(q, block, got, g)
		var want mat.VecDense
		if err := want.SolveVec(mat.NewDense(b, b, h), mat.NewVecDense(b, g)); err != nil {
			r.Fatal(err)
		}
		for i := range b {
			if math.Abs(got[i]-want.AtVec(i)) > 1e-9*(1+math.Abs(want.AtVec(i))) {
				r.Fatalf("messages give %v at %d, elimination %v", got[i], i, want.AtVec(i))
			}
		}
	})
}

// sparseProblem is least squares with a sparse truth.
func sparseProblem(t testing.TB, seed uint64) (f *Linear, a *mat.Dense, y []float64) {
	rng := rand.New(rand.NewPCG(seed, 11))
	const m, p = 120, 60
	a = mat.NewDense(m, p, nil)
	a.Apply(func(int, int, float64) float64 { return rng.NormFloat64() / math.Sqrt(m) }, a)
	y = make([]float64, m)
	for r := range y {
		y[r] = 0.05 * rng.NormFloat64()
		for j := range 8 {
			y[r] += float64(1-2*(j%2)) * (1 + float64(j)/4) * a.At(r, 7*j)
		}
	}
	f, err := NewLinear("squares", a, y, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	return f, a, y
}

// lasso is the solution by proximal gradient steps on all coordinates, written apart from
// what it checks.
func lasso(a *mat.Dense, y []float64, l1 float64) []float64 {
	m, p := a.Dims()
	var gram mat.Dense
	gram.Mul(a.T(), a)
	l := mat.Norm(&gram, 2)
	x, r, g := mat.NewVecDense(p, nil), mat.NewVecDense(m, nil), mat.NewVecDense(p, nil)
	for range 5000 {
		r.MulVec(a, x)
		r.SubVec(r, mat.NewVecDense(m, slices.Clone(y)))
		g.MulVec(a.T(), r)
		for j := range p {
			v := x.AtVec(j) - g.AtVec(j)/l
			x.SetVec(j, math.Copysign(max(math.Abs(v)-l1/l, 0), v))
		}
	}
	return x.RawVector().Data
}

// The coordinates that are found free are those of the solution, for good, after finitely
// many steps, and from then on Newton's residuals fall superlinearly.
func TestSupportIsIdentified(t *testing.T) {
	f, a, y := sparseProblem(t, 1)
	const l1 = 0.15
	want := lasso(a, y, l1)
	for _, o := range []BlockDescent{
		{Rule: "cyclic", Update: "gradient"}, {Rule: "random", Update: "gradient", Blocks: "random"}, {Rule: "gsc", Update: "matrix"},
		{Rule: "bgs-q", Update: "matrix"}, {Rule: "gsl", Update: "newton", Size: 20},
	} {
		o.L1, o.Tol = l1, 1e-9
		r, err := o.Minimize(context.Background(), f, make([]float64, f.Dim()))
		if err != nil {
			t.Fatal(o, err)
		}
		for i, v := range r.X {
			if (v == 0) != (want[i] == 0) || math.Abs(v-want[i]) > 1e-6 {
				t.Errorf("%v: coordinate %d is %v, want %v", o, i, v, want[i])
			}
		}
		if r.Identified <= 0 || r.Identified >= r.Iterations && o.Update == "gradient" {
			t.Errorf("%v: identified at %d of %d iterations", o, r.Identified, r.Iterations)
		}
	}
}

func TestNewtonIsSuperlinearOnceIdentified(t *testing.T) {
	f := linear(t, "logistic", 150, 30, 0, 0.01, 6)
	var left []float64
	o := BlockDescent{Rule: "gsc", Update: "newton", Size: 30, L1: 4, Tol: 1e-12}
	identified := 0
	n := f.Dim()
	free, g := 0, make([]float64, n)
	o.Watch = func(s BlockStep) {
		if s.Free != free {
			free, identified = s.Free, s.Iteration
		}
		f.Gradient(g, everything(n))
		var worst float64
		for i, v := range g {
			if f.x[i] != 0 {
				worst = max(worst, math.Abs(v+math.Copysign(o.L1, f.x[i])))
			}
		}
		left = append(left, worst)
	}
	r, err := o.Minimize(context.Background(), f, make([]float64, n))
	if err != nil {
		t.Fatal(err)
	}
	if free == 0 || free == n {
		t.Fatalf("%d of %d coordinates are free: nothing to identify", free, n)
	}
	left = left[identified:]
	if len(left) < 2 || r.Iterations > 30 {
		t.Fatalf("%d iterations, residuals %.3g", r.Iterations, left)
	}
	for i := 1; i < len(left); i++ {
		if left[i] > 10*math.Pow(left[i-1], 1.5) && left[i] > 1e-11 {
			t.Errorf("residuals %.3g on the face do not fall superlinearly", left)
		}
	}
}

func TestBadProblemsAreNamed(t *testing.T) {
	f := lattice(t, 4, 3, 1)
	n := f.Dim()
	zero, _ := NewLinear("squares", mat.NewDense(2, 2, []float64{1, 0, 1, 0}), []float64{1, 2}, 0, 0)
	for _, c := range []struct {
		o    BlockDescent
		f    Smooth
		x    []float64
		kind error
		want string
	}{
		{BlockDescent{Rule: "best", Size: -1}, f, make([]float64, n), ErrOptions, `rule "best", want one of random`},
		{BlockDescent{Tree: true, L1: 1}, f, make([]float64, n), ErrOptions, "trees with l1"},
		{BlockDescent{Tree: true}, linear(t, "squares", 5, 3, 0, 1, 1), make([]float64, 3), ErrData, "sparse Hessian"},
		{BlockDescent{}, f, make([]float64, 2), ErrData, "a start of 2"},
		{BlockDescent{}, zero, make([]float64, 2), ErrData, "coordinate 1 has second derivatives up to 0"},
	} {
		if _, err := c.o.Minimize(context.Background(), c.f, c.x); !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want it to say %q", err, c.want)
		}
	}
	if _, err := NewLinear("logistic", mat.NewDense(2, 1, []float64{1, 2}), []float64{1, 0}, 0, 0); !errors.Is(err, ErrData) || !strings.Contains(err.Error(), "row 2 has response 0") {
		t.Errorf("a response of 0 says %v", err)
	}
	var stopped *StoppedError
	r, err := BlockDescent{MaxIter: 2}.Minimize(context.Background(), f, make([]float64, n))
	if !errors.As(err, &stopped) || r == nil || stopped.Residual != r.Residual {
		t.Errorf("two iterations give %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := (BlockDescent{}).Minimize(ctx, f, make([]float64, n)); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled descent says %v", err)
	}
}
