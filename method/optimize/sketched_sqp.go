package optimize

import (
	"context"
	"fmt"
	"math"

	"gonum.org/v1/gonum/floats"
)

// SketchedSQP solves min f(x) subject to c(x) = 0 by Newton's method on the Lagrangian, each
// system solved by randomized sketching only as far as its step needs (Hong, Na, Mahoney and
// Kolar, "Constrained Optimization via Exact Augmented Lagrangian and Randomized Iterative
// Sketching", arXiv:2305.18379). With L = f + λᵀc, G = ∇c and B = ∇²ₓL + γI,
//
//	[B  Gᵀ] [Δx]     [∇ₓL]
//	[G  0 ] [Δλ] = − [ c ]
//
// is solved to a residual ‖r‖ ≤ θδ‖(∇ₓL, c)‖. The step goes down the exact augmented
// Lagrangian M = L + (μ/2)‖c‖² + (ν/2)‖G∇ₓL‖², whose minimiser is the solution for μ large
// and ν small enough, so that full steps are taken near it. It must promise
//
//	∇MᵀΔ ≤ −(ν/4)(‖G∇ₓL‖² + ‖c‖²) − κ‖Δx‖²,
//
// where the paper has −(ν/2)‖(∇ₓL, c)‖²: what the merit can see of ∇ₓL is G∇ₓL. Where it
// does not, δ is divided by ρ⁴ and the same system solved further; once that has been to 1 %,
// μ is multiplied by ρ² and ν divided by ρ as well. These stay. γ is 0 where ∇²ₓL is positive
// on the null space of G, and else turns its least eigenvalue λ there into |λ|. That takes n³,
// the same for all inner solvers, and is left out for programs that say they are convex (see
// [Convex]). Where a system cannot be solved to 1 % γ grows.
//
// With schedule "sharpen" θ is at most the residual ‖(∇ₓL, c)‖, which makes convergence
// superlinear; with "constant" it is linear. The inner solvers lu and gmres are baselines.
type SketchedSQP struct {
	Inner    string  `yaml:"inner" help:"Solver of the Newton systems: sketch, or exactly lu, or gmres." default:"sketch"`
	Sketch   string  `yaml:"sketch" help:"kaczmarz (blocks of rows), gaussian (random sums of all rows) or sparse (each row in one sum, with a random sign)." default:"kaczmarz"`
	Block    int     `yaml:"block" help:"Rows of a sketch at first; 0 takes an eighth of the system. It doubles where a pass does not halve the residual." default:"0"`
	Theta    float64 `yaml:"theta" help:"Accuracy of a Newton system, relative to its right side, below 1." default:"0.1"`
	Schedule string  `yaml:"schedule" help:"constant, or sharpen: theta falls with the residual." default:"constant"`
	Mu       float64 `yaml:"mu" help:"First price of the squared constraints." default:"1"`
	Nu       float64 `yaml:"nu" help:"First price of the squared G∇L." default:"0.1"`
	Rho      float64 `yaml:"rho" help:"Factor by which they are adapted, above 1." default:"2"`
	Armijo   float64 `yaml:"armijo" help:"Share of the promised descent that a step must bring, below a half." default:"0.0001"`
	Tol      float64 `yaml:"tol" help:"Residual at which the solution is found." default:"1e-8"`
	MaxIter  int     `yaml:"max_iter" help:"Most Newton steps." default:"500"`
	Passes   int     `yaml:"passes" help:"Most passes of an inner solver over a system." default:"1000"`
	Seed     uint64  `yaml:"seed" help:"Of the sketches." default:"1"`

	// Trace takes every step; may be nil.
	Trace func(NewtonStep) `yaml:"-" json:"-"`
}

// NewSketchedSQP returns the defaults.
func NewSketchedSQP() *SketchedSQP {
	return &SketchedSQP{Inner: "sketch", Sketch: "kaczmarz", Theta: 0.1, Schedule: "constant", Mu: 1, Nu: 0.1, Rho: 2, Armijo: 1e-4, Tol: 1e-8, MaxIter: 500, Passes: 1000, Seed: 1}
}

// Validate says all that is wrong at once.
func (o *SketchedSQP) Validate() error {
	var wrong []string
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	among := func(name, value string, known ...string) {
		for _, k := range known {
			if k == value {
				return
			}
		}
		say("%s is %q, want one of %v", name, value, known)
	}
	among("inner", o.Inner, "sketch", "lu", "gmres")
	among("sketch", o.Sketch, "kaczmarz", "gaussian", "sparse")
	among("schedule", o.Schedule, "constant", "sharpen")
	for _, v := range []struct {
		name          string
		value, lo, hi float64
	}{{"theta", o.Theta, 0, 1}, {"mu", o.Mu, 0, math.Inf(1)}, {"nu", o.Nu, 0, math.Inf(1)}, {"rho", o.Rho, 1, math.Inf(1)},
		{"armijo", o.Armijo, 0, 0.5}, {"tol", o.Tol, 0, math.Inf(1)}} {
		if !(v.value > v.lo && v.value < v.hi) {
			say("%s is %g, want above %g and below %g", v.name, v.value, v.lo, v.hi)
		}
	}
	for _, v := range []struct {
		name       string
		value, low int
	}{{"block", o.Block, 0}, {"max_iter", o.MaxIter, 1}, {"passes", o.Passes, 1}} {
		if v.value < v.low {
			say("%s is %d, want at least %d", v.name, v.value, v.low)
		}
	}
	return optionsError("sketched SQP", wrong)
}

// NewtonStep is one step: where it began, and how it was found.
type NewtonStep struct {
	Number   int     `json:"number"`
	Residual float64 `json:"residual"` // ‖(∇ₓL, c)‖ before the step
	Merit    float64 `json:"merit"`    // before the step, at its μ and ν
	After    float64 `json:"after"`    // the merit after it, at the same
	Descent  float64 `json:"descent"`  // ∇MᵀΔ
	Inner    float64 `json:"inner"`    // the system's residual, relative
	Length   float64 `json:"length"`   // 1 for the whole step
	Mu       float64 `json:"mu"`
	Nu       float64 `json:"nu"`
	Gamma    float64 `json:"gamma"`
	Flops    float64 `json:"flops"` // of the inner solver, so far
}

// Solution is where the method ended.
type Solution struct {
	X         []float64    `json:"x"`
	Lambda    []float64    `json:"lambda"`
	Objective float64      `json:"objective"`
	Residual  float64      `json:"residual"` // ‖(∇ₓL, c)‖
	Steps     []NewtonStep `json:"steps"`
	Flops     float64      `json:"flops"` // of the inner solver: additions and multiplications
}

const (
	leastDelta     = 1e-12
	leastGamma     = 1e-4
	mostGamma      = 1e12
	roughly        = 1e-2 // an inner accuracy at which what is wrong is the penalties
	curvature      = 1e-8 // κ
	mostAttempts   = 40   // at a direction
	shortestLength = 1e-12
)

// Minimize starts at x, with the multipliers of least ‖∇ₓL‖ there. Where it ends before its
// tolerance the error is an [InfeasibleError] or a [RankError] if the program is why, else a
// [StoppedError]; the point reached is returned beside it.
func (o *SketchedSQP) Minimize(ctx context.Context, p Program, x []float64) (*Solution, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	n, m := p.Dims()
	if len(x) != n {
		return nil, fmt.Errorf("optimize: sketched SQP: the start has %d numbers, the program %d variables: %w", len(x), n, ErrData)
	}
	here := at(p, append([]float64(nil), x...), make([]float64, m))
	if err := here.fault(); err != nil {
		return nil, err
	}
	if err := here.rankFault(); err != nil {
		return nil, err
	}
	r := &newtonRun{SketchedSQP: o, p: p, here: at(p, here.x, here.multipliers()), mu: o.Mu, nu: o.Nu, delta: 1}
	r.inner = o.solver(n + m)
	err := r.run(ctx)
	s := &Solution{X: r.here.x, Lambda: r.here.lambda, Objective: r.here.f, Residual: r.here.residual(), Steps: r.steps, Flops: r.flops}
	return s, err
}

// newtonRun is one run of the method.
type newtonRun struct {
	*SketchedSQP
	p             Program
	inner         innerSolver
	here          *point
	mu, nu, delta float64
	steps         []NewtonStep
	flops         float64
}

func (r *newtonRun) run(ctx context.Context) error {
	for i := 1; ; i++ {
		residual := r.here.residual()
		if residual <= r.Tol {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("optimize: sketched SQP: step %d: %w", i, err)
		}
		if i > r.MaxIter {
			return r.stop("this is the limit of steps; allow more, or a larger tolerance")
		}
		s := NewtonStep{Number: i, Residual: residual}
		delta, err := r.direction(ctx, &s)
		if err != nil {
			return err
		}
		if !r.search(delta, &s) {
			return r.stop("no step along the direction found lowers the merit")
		}
		r.steps = append(r.steps, s)
		if r.Trace != nil {
			r.Trace(s)
		}
	}
}

// stop is the error for ending here.
func (r *newtonRun) stop(why string) error {
	if err := r.here.trouble(); err != nil {
		return err
	}
	return &StoppedError{"sketched SQP", why, len(r.steps), r.here.residual(), r.Tol}
}

// direction finds Δ, [n + m], of enough descent.
func (r *newtonRun) direction(ctx context.Context, s *NewtonStep) ([]float64, error) {
	q := r.here
	n, m := len(q.x), len(q.c)
	hessian := r.p.Hessian(q.x, 1, q.lambda)
	h := matrix(n, hessian)
	theta := r.Theta
	if r.Schedule == "sharpen" {
		theta = min(theta, s.Residual)
	}
	s.Gamma = 0
	if c, ok := r.p.(Convex); !ok || !c.Convex() {
		s.Gamma = q.bend(h)
	}
	system := newSystem(hessian, q, s.Gamma)
	z := make([]float64, n+m)
	for range mostAttempts {
		r.flops -= system.flops
		tol := max(theta*r.delta, leastDelta) * s.Residual
		left, err := r.inner.solve(ctx, system, z, tol)
		r.flops += system.flops
		if ctx.Err() != nil {
			return nil, fmt.Errorf("optimize: sketched SQP: step %d: %w", s.Number, ctx.Err())
		}
		if err != nil || notFinite(z) >= 0 || left > max(tol, roughly*s.Residual) {
			if s.Gamma = max(8*s.Gamma, leastGamma); s.Gamma > mostGamma {
				return nil, r.stop("a Newton system is singular")
			}
			system = system.with(hessian, q, s.Gamma)
			clear(z)
			continue
		}
		gx, gl := q.meritGradient(r.p, h, r.mu, r.nu)
		s.Descent = floats.Dot(gx, z[:n]) + floats.Dot(gl, z[n:])
		s.Inner = left / s.Residual
		s.Mu, s.Nu = r.mu, r.nu
		if s.Descent <= -r.nu/4*(floats.Dot(q.w, q.w)+floats.Dot(q.c, q.c))-curvature*floats.Dot(z[:n], z[:n]) {
			return z, nil
		}
		r.delta = max(r.delta/math.Pow(r.Rho, 4), leastDelta)
		if s.Inner <= roughly {
			r.mu, r.nu = r.mu*r.Rho*r.Rho, r.nu/r.Rho
		}
	}
	return nil, r.stop("no direction promises enough descent")
}

// search halves the step until the merit falls enough, and moves there.
func (r *newtonRun) search(delta []float64, s *NewtonStep) bool {
	q, n := r.here, len(r.here.x)
	s.Merit = q.merit(r.mu, r.nu)
	rounding := 1e-13 * (1 + math.Abs(s.Merit) + math.Abs(q.f))
	s.Flops = r.flops
	for length := 1.0; length > shortestLength; length /= 2 {
		x, lambda := append([]float64(nil), q.x...), append([]float64(nil), q.lambda...)
		floats.AddScaled(x, length, delta[:n])
		floats.AddScaled(lambda, length, delta[n:])
		next := at(r.p, x, lambda)
		if !next.finite() {
			continue
		}
		after, goal := next.merit(r.mu, r.nu), r.Armijo*length*s.Descent
		// Where the promise is below what rounding leaves of the merit the residual decides.
		if after <= s.Merit+goal || -goal < rounding && after <= s.Merit+rounding && next.residual() < s.Residual {
			s.Length, s.After, r.here = length, after, next
			return true
		}
	}
	return false
}
