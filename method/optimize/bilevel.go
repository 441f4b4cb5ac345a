package optimize

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"gonum.org/v1/gonum/floats"
)

// Bilevel is a problem of two levels,
//
//	min Φ(x) = f(x, y*(x)),   y*(x) = argmin_y g(x, y),
//
// g strongly convex in y. Where f and g are means over data, each call answers for a sample
// of them that it draws from rng. The hypergradient is
//
//	∇Φ = ∇ₓf − ∇²ₓᵧg z,   ∇²ᵧᵧg z = ∇ᵧf,   at y = y*(x).
type Bilevel interface {
	Dims() (x, y int)
	// Upper returns f and writes ∇ₓf and ∇ᵧf.
	Upper(rng *rand.Rand, x, y, gx, gy []float64) (f float64, err error)
	// Lower writes ∇ᵧg.
	Lower(rng *rand.Rand, x, y, gy []float64) error
	// Product writes ∇²ᵧᵧg·v and ∇²ₓᵧg·v, [y] and [x], both of one sample.
	Product(rng *rand.Rand, x, y, v, hv, jv []float64) error
}

// BilevelLimits say when a solver of bilevel problems ends.
type BilevelLimits struct {
	Tol     float64 `yaml:"tol" help:"Norm of the hypergradient, as the method estimates it, at which the solution is found; 0 goes on to the limits." default:"0"`
	MaxIter int     `yaml:"max_iter" help:"Most iterations." default:"1000"`
	Budget  int     `yaml:"budget" help:"Oracle calls after which no iteration begins; 0 for any number." default:"0"`
	Seed    uint64  `yaml:"seed" help:"Of the samples." default:"1"`

	// Watch takes every iteration; may be nil.
	Watch func(BilevelStep) `yaml:"-" json:"-"`
}

func newBilevelLimits() BilevelLimits { return BilevelLimits{MaxIter: 1000, Seed: 1} }

// wrong says what is wrong with the limits, and with numbers that must be above 0 and whole
// numbers that must be at least their low.
func (o *BilevelLimits) wrong(positive map[string]float64, least ...leastInt) []string {
	var wrong []string
	if !(o.Tol >= 0) {
		wrong = append(wrong, fmt.Sprintf("tol is %g, want 0 or more", o.Tol))
	}
	for _, v := range append(least, leastInt{"max_iter", o.MaxIter, 1}, leastInt{"budget", o.Budget, 0}) {
		if v.value < v.low {
			wrong = append(wrong, fmt.Sprintf("%s is %d, want at least %d", v.name, v.value, v.low))
		}
	}
	for name, v := range positive {
		if !(v > 0) || math.IsInf(v, 1) {
			wrong = append(wrong, fmt.Sprintf("%s is %g, want a positive number", name, v))
		}
	}
	slices.Sort(wrong)
	return wrong
}

type leastInt struct {
	name       string
	value, low int
}

// share says what is wrong with a number that must be at least 0 and below 1.
func share(name string, v float64) []string {
	if v >= 0 && v < 1 {
		return nil
	}
	return []string{fmt.Sprintf("%s is %g, want at least 0 and below 1", name, v)}
}

// Oracles counts what a solver asked of a problem.
type Oracles struct {
	Upper    int `json:"upper"`
	Lower    int `json:"lower"`
	Products int `json:"products"`
}

// Calls is the number of all.
func (o Oracles) Calls() int { return o.Upper + o.Lower + o.Products }

// BilevelStep is one iteration. X and Y are the solver's own after it: read them only.
type BilevelStep struct {
	Iteration int
	Value     float64 // f on the iteration's sample, before the step of x
	Norm      float64 // of the hypergradient as estimated
	Oracles   Oracles
	X, Y      []float64
}

// BilevelResult is where a solver ended.
type BilevelResult struct {
	X          []float64 `json:"x"`
	Y          []float64 `json:"y"`
	Value      float64   `json:"value"` // f on the last sample
	Norm       float64   `json:"norm"`  // of the last hypergradient, as estimated
	Iterations int       `json:"iterations"`
	Oracles    Oracles   `json:"oracles"`
}

// bilevelRun is one run of a solver.
type bilevelRun struct {
	BilevelLimits
	method string
	p      Bilevel
	rng    *rand.Rand
	result BilevelResult
	x, y   []float64 // the result's
	gx, gy []float64 // ∇f
	hv, jv []float64 // ∇²ᵧᵧg·v, ∇²ₓᵧg·v
	lower  []float64 // ∇ᵧg
}

func (o BilevelLimits) begin(method string, p Bilevel, x, y []float64) (*bilevelRun, error) {
	n, m := p.Dims()
	if len(x) != n || len(y) != m {
		return nil, fmt.Errorf("optimize: %s: %w: the start has %d and %d numbers, the problem's x and y %d and %d", method, ErrData, len(x), len(y), n, m)
	}
	if n == 0 || m == 0 {
		return nil, fmt.Errorf("optimize: %s: %w: x has %d numbers and y %d, both need at least one", method, ErrData, n, m)
	}
	for _, v := range []struct {
		name string
		v    []float64
	}{{"x", x}, {"y", y}} {
		if i := notFinite(v.v); i >= 0 {
			return nil, fmt.Errorf("optimize: %s: %w: %s starts at %v in coordinate %d", method, ErrData, v.name, v.v[i], i)
		}
	}
	r := &bilevelRun{
		BilevelLimits: o, method: method, p: p, rng: rand.New(rand.NewPCG(o.Seed, 4)), x: slices.Clone(x), y: slices.Clone(y),
		gx: make([]float64, n), gy: make([]float64, m), hv: make([]float64, m), jv: make([]float64, n), lower: make([]float64, m),
	}
	r.result.X, r.result.Y, r.result.Norm = r.x, r.y, math.Inf(1)
	return r, nil
}

// run repeats step, which moves everything and returns the norm of the hypergradient, until
// that is the tolerance or a limit is reached.
func (r *bilevelRun) run(ctx context.Context, step func(k int) (norm float64, err error)) (*BilevelResult, error) {
	for k := 0; k < r.MaxIter && (r.Budget == 0 || r.result.Oracles.Calls() < r.Budget); k++ {
		if err := ctx.Err(); err != nil {
			return &r.result, fmt.Errorf("optimize: %s: stopped after %d iterations: %w", r.method, k, err)
		}
		norm, err := step(k)
		if err != nil {
			return &r.result, fmt.Errorf("optimize: %s: iteration %d: %w", r.method, k, err)
		}
		r.result.Norm, r.result.Iterations = norm, k+1
		if notFinite(r.x) >= 0 || notFinite(r.y) >= 0 || math.IsNaN(norm) || math.IsInf(norm, 0) {
			return &r.result, r.stopped("the iterates are no longer finite; take smaller steps")
		}
		if r.Watch != nil {
			r.Watch(BilevelStep{k, r.result.Value, norm, r.result.Oracles, r.x, r.y})
		}
		if r.Tol > 0 && norm <= r.Tol {
			return &r.result, nil
		}
	}
	if r.Tol > 0 {
		return &r.result, r.stopped("a limit is reached; raise max_iter, budget or tol")
	}
	return &r.result, nil
}

func (r *bilevelRun) stopped(why string) error {
	return &StoppedError{r.method, why, r.result.Iterations, r.result.Norm, r.Tol}
}

// upper takes ∇f at x and y.
func (r *bilevelRun) upper() (err error) {
	r.result.Oracles.Upper++
	r.result.Value, err = r.p.Upper(r.rng, r.x, r.y, r.gx, r.gy)
	return err
}

// gradient takes ∇ᵧg at x and y.
func (r *bilevelRun) gradient() error {
	r.result.Oracles.Lower++
	return r.p.Lower(r.rng, r.x, r.y, r.lower)
}

// product takes the products with v at x and y.
func (r *bilevelRun) product(v []float64) error {
	r.result.Oracles.Products++
	return r.p.Product(r.rng, r.x, r.y, v, r.hv, r.jv)
}

// descend takes steps of y along −∇ᵧg, each projected on the ball of that radius around
// where they began, 0 for no ball. If mean is not nil it takes the mean of where they led.
func (r *bilevelRun) descend(steps int, length, radius float64, mean []float64) error {
	center := slices.Clone(r.y)
	clear(mean)
	for range steps {
		if err := r.gradient(); err != nil {
			return err
		}
		floats.AddScaled(r.y, -length, r.lower)
		if far := floats.Distance(r.y, center, 2); radius > 0 && far > radius {
			for i, c := range center {
				r.y[i] = c + (r.y[i]-c)*radius/far
			}
		}
		if mean != nil {
			floats.AddScaled(mean, 1/float64(steps), r.y)
		}
	}
	return nil
}

// damp replaces v by (I − nu·∇²ᵧᵧg) v.
func (r *bilevelRun) damp(v []float64, nu float64) error {
	if err := r.product(v); err != nil {
		return err
	}
	floats.AddScaled(v, -nu, r.hv)
	return nil
}

// average replaces m by βm + (1 − β)(∇ₓf − ∇²ₓᵧg·v) for the last product's v.
func (r *bilevelRun) average(m []float64, beta float64) {
	for i := range m {
		m[i] = beta*m[i] + (1-beta)*(r.gx[i]-r.jv[i])
	}
}

// against takes the products with v, moves x by −eta·h, h = ∇ₓf − ∇²ₓᵧg·v, and returns ‖h‖.
func (r *bilevelRun) against(v []float64, eta float64) (float64, error) {
	if err := r.product(v); err != nil {
		return 0, err
	}
	floats.Sub(r.gx, r.jv)
	floats.AddScaled(r.x, -eta, r.gx)
	return floats.Norm(r.gx, 2), nil
}

// Hypergradient returns ∇Φ(x) for a y that is y*(x), and a problem that draws no samples, by
// conjugate gradients on ∇²ᵧᵧg z = ∇ᵧf to a residual of tol relative to ‖∇ᵧf‖.
func Hypergradient(ctx context.Context, p Bilevel, x, y []float64, tol float64) ([]float64, error) {
	r, err := BilevelLimits{}.begin("hypergradient", p, x, y)
	if err != nil {
		return nil, err
	}
	if err := r.upper(); err != nil {
		return nil, fmt.Errorf("optimize: hypergradient: %w", err)
	}
	left := slices.Clone(r.gy) // ∇ᵧf − ∇²ᵧᵧg z
	z, d := make([]float64, len(y)), slices.Clone(left)
	size := floats.Norm(left, 2)
	if size == 0 {
		return r.gx, nil
	}
	for k := 0; ; k++ {
		before := floats.Dot(left, left)
		if math.Sqrt(before) <= tol*size {
			break
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("optimize: hypergradient: stopped after %d iterations: %w", k, ctx.Err())
		}
		if k > 10*len(y)+100 {
			return nil, &StoppedError{"hypergradient", "the conjugate gradients do not converge; raise tol", k, math.Sqrt(before) / size, tol}
		}
		if err := r.product(d); err != nil {
			return nil, fmt.Errorf("optimize: hypergradient: %w", err)
		}
		bend := floats.Dot(d, r.hv)
		if !(bend > 0) {
			return nil, fmt.Errorf("optimize: hypergradient: %w: the lower function is not strongly convex: its curvature is %g along a direction", ErrData, bend/floats.Dot(d, d))
		}
		floats.AddScaled(z, before/bend, d)
		floats.AddScaled(left, -before/bend, r.hv)
		floats.AddScaledTo(d, left, floats.Dot(left, left)/before, d)
	}
	if err := r.product(z); err != nil {
		return nil, fmt.Errorf("optimize: hypergradient: %w", err)
	}
	floats.Sub(r.gx, r.jv)
	return r.gx, nil
}
