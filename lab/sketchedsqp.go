package lab

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"tare/engine/data"
	"tare/method/optimize"
	"tare/method/optimize/programs"
)

// sketchedSQP is the experiment of sketched augmented-Lagrangian Newton (Hong et al. 2023): with
// Newton systems solved by random sketches to a tenth, solutions to a residual of 10⁻⁴ shall
// take fewer operations than with systems solved exactly (LU) or by GMRES to the same tenth.
// The figure is the decimal logarithm of the inner solver's operations, averaged over 31
// problems of CUTEst from their published starts, moved by 1 %; further figures are the same
// for logistic regression of MNIST's threes and eights under ten random linear constraints,
// and for the control of a Poisson equation. A problem that is not solved counts with the
// operations that were spent on it. How superlinear convergence is with sharpened accuracy
// stands beside it: log r₊/log r of the residuals r below 10⁻², its median over the programs.
func sketchedSQP() Experiment {
	const method = "kaczmarz"
	rule := []Rule{}
	for _, baseline := range []string{"lu", "gmres"} {
		rule = append(rule, Beats(method, baseline), BeatsIn(OfExtra(logisticFlops), method, baseline), BeatsIn(OfExtra(poissonFlops), method, baseline))
	}
	return Experiment{
		Slug:   "sketched-sqp",
		Claim:  "Solving each Newton system of a constrained problem by random sketches, only as well as needed, takes fewer operations than deterministic solvers.",
		Figure: Figure{"log10 of operations on CUTEst", "", Lower},
		Arms: []Arm{
			{method, Method, newtonArm("sketch", "kaczmarz")},
			{"gaussian", Method, newtonArm("sketch", "gaussian")},
			{"sparse", Method, newtonArm("sketch", "sparse")},
			{"lu", Baseline, newtonArm("lu", "")},
			{"gmres", Baseline, newtonArm("gmres", "")},
		},
		Seeds: 5, QuickSeeds: 2,
		Rule: All(rule...),
	}
}

// Further figures of constrained programs.
var (
	logisticFlops   = Figure{"log10 of operations on logistic regression", "", Lower}
	poissonFlops    = Figure{"log10 of operations on Poisson control", "", Lower}
	logisticSeconds = Figure{"time of logistic regression", "s", Lower}
	poissonSeconds  = Figure{"time of Poisson control", "s", Lower}
	solvedShare     = Figure{"problems solved", "", Higher}
	knownShare      = Figure{"known optimum found", "", Higher}
	orderReached    = Figure{"order of convergence, sharpened", "", Higher}
)

func newtonArm(inner, sketch string) func(context.Context, Env, uint64) (Measurement, error) {
	return func(ctx context.Context, e Env, seed uint64) (Measurement, error) {
		m := Measurement{Extra: map[string]float64{}}
		options := func() *optimize.SketchedSQP {
			o := optimize.NewSketchedSQP()
			o.Inner, o.Tol, o.Seed, o.MaxIter, o.Passes = inner, 1e-4, seed, 200, 200
			if sketch != "" {
				o.Sketch = sketch
			}
			return o
		}
		if err := measureCutest(ctx, e, options, seed, &m); err != nil {
			return m, err
		}
		digits, err := threesAndEights(e.Pick(2000, 500), seed)
		if err != nil {
			return m, err
		}
		n, _ := digits.Dims()
		e.Step(2, 4, "logistic regression")
		flops, seconds, err := newtonCost(ctx, options(), digits, make([]float64, n))
		if err != nil {
			return m, err
		}
		m.Extra[logisticFlops.Name], m.Extra[logisticSeconds.Name] = math.Log10(flops), seconds
		m.Seconds += seconds
		e.Step(3, 4, "Poisson control")
		control := &programs.Poisson{Side: e.Pick(12, 6), Alpha: 0.01}
		n, _ = control.Dims()
		flops, seconds, err = newtonCost(ctx, options(), control, poissonStart(n, seed))
		if err != nil {
			return m, err
		}
		m.Extra[poissonFlops.Name], m.Extra[poissonSeconds.Name] = math.Log10(flops), seconds
		m.Seconds += seconds
		return m, nil
	}
}

// newtonCost minimises and returns what it took; to end before the tolerance is no error.
func newtonCost(ctx context.Context, o *optimize.SketchedSQP, p optimize.Program, x []float64) (flops, seconds float64, err error) {
	begun := time.Now()
	s, err := o.Minimize(ctx, p, x)
	if err = unlessUnsolved(ctx, s, err); err != nil {
		return 0, 0, err
	}
	return max(s.Flops, 1), time.Since(begun).Seconds(), nil
}

// unlessUnsolved is nil where a solver ended somewhere on its own.
func unlessUnsolved(ctx context.Context, s *optimize.Solution, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if s != nil {
		return nil
	}
	return err
}

// measureCutest runs the small problems twice: for operations, and with sharpened accuracy for
// the order of convergence.
func measureCutest(ctx context.Context, e Env, options func() *optimize.SketchedSQP, seed uint64, m *Measurement) error {
	all := programs.Cutest()
	rng := rand.New(rand.NewPCG(seed, 56))
	var orders []float64
	for i, p := range all {
		e.Step(0, 4, p.Name)
		x := append([]float64(nil), p.Start...)
		for j := range x {
			x[j] += 0.01 * (1 + math.Abs(x[j])) * rng.NormFloat64()
		}
		begun := time.Now()
		s, err := options().Minimize(ctx, p, x)
		if err := unlessUnsolved(ctx, s, err); err != nil {
			return fmt.Errorf("%s: %w", p.Name, err)
		}
		m.Seconds += time.Since(begun).Seconds()
		m.Value += math.Log10(max(s.Flops, 1)) / float64(len(all))
		if err == nil {
			m.Extra[solvedShare.Name] += 1 / float64(len(all))
			if math.Abs(s.Objective-p.Optimum) < 1e-2*(1+math.Abs(p.Optimum)) {
				m.Extra[knownShare.Name] += 1 / float64(len(all))
			}
		}
		if p.Name == "HS77" {
			for _, step := range s.Steps {
				m.Curve = append(m.Curve, Point{step.Number, math.Log10(step.Residual)})
			}
		}
		o := options()
		o.Schedule, o.Tol = "sharpen", 1e-8
		s, err = o.Minimize(ctx, all[i], x)
		if err := unlessUnsolved(ctx, s, err); err != nil {
			return fmt.Errorf("%s: %w", p.Name, err)
		}
		if order, ok := convergenceOrder(s); ok && err == nil {
			orders = append(orders, order)
		}
	}
	if len(orders) > 0 {
		slices.Sort(orders)
		m.Extra[orderReached.Name] = orders[len(orders)/2]
	}
	return nil
}

// convergenceOrder is the largest log r₊/log r of residuals below 10⁻².
func convergenceOrder(s *optimize.Solution) (order float64, ok bool) {
	for i := 1; i < len(s.Steps); i++ {
		if r := s.Steps[i-1].Residual; r < 1e-2 {
			order, ok = max(order, math.Log(s.Steps[i].Residual)/math.Log(r)), true
		}
	}
	return order, ok
}

// threesAndEights is the regression on digits of 7×7 points, each the mean of 16, without
// those that are always empty.
func threesAndEights(n int, seed uint64) (*programs.Logistic, error) {
	images, err := data.MNIST(true)
	if err != nil {
		return nil, noDigits(err)
	}
	var rows [][]float64
	var classes []float64
	for i := 0; i < images.N && len(rows) < n; i++ {
		if l := images.Labels[i]; l != 3 && l != 8 {
			continue
		}
		rows = append(rows, coarse(images, i))
		classes = append(classes, map[int32]float64{3: -1, 8: 1}[images.Labels[i]])
	}
	return programs.NewLogistic(varying(rows), classes, 1e-3, 10, rand.New(rand.NewPCG(seed, 57)))
}

// coarse returns the means of squares of 4×4 pixels.
func coarse(images *data.Images, i int) []float64 {
	side := images.Cols / 4
	out := make([]float64, side*images.Rows/4)
	pixels := images.Pixels[i*images.Rows*images.Cols:]
	for r := range images.Rows {
		for c := range images.Cols {
			out[r/4*side+c/4] += float64(pixels[r*images.Cols+c]) / 16
		}
	}
	return out
}

// varying leaves columns out that are the same in all rows, and adds one of ones.
func varying(rows [][]float64) [][]float64 {
	out := make([][]float64, len(rows))
	for i := range out {
		out[i] = []float64{1}
	}
	for j := range rows[0] {
		differs := false
		for _, row := range rows {
			differs = differs || row[j] != rows[0][j]
		}
		for i := range out {
			if differs {
				out[i] = append(out[i], rows[i][j])
			}
		}
	}
	return out
}

// poissonStart is a start of small normal numbers.
func poissonStart(n int, seed uint64) []float64 {
	rng := rand.New(rand.NewPCG(seed, 58))
	x := make([]float64, n)
	for i := range x {
		x[i] = 0.1 * rng.NormFloat64()
	}
	return x
}
