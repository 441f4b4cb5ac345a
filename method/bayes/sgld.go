package bayes

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
)

// ErrDiverged marks a chain that left the finite numbers.
var ErrDiverged = errors.New("the chain diverged")

// Potential is what a chain samples from: the posterior of parameters θ given independent
// points, whose density is ∝ exp( log p(θ) + Σ_i log p(point_i|θ) ).
type Potential interface {
	// Dim is the number of parameters.
	Dim() int
	// Points is the number N of points.
	Points() int
	// Gradient writes the gradient of log p(θ) + N/|batch| Σ_{i∈batch} log p(point_i|θ) and
	// returns the mean of −log p(point_i|θ) over the batch. A batch of nil is all points.
	Gradient(gradient, theta []float64, batch []int) (loss float64, err error)
}

// SGLD draws from a posterior by stochastic gradient descent with noise (Welling and Teh,
// "Bayesian Learning via Stochastic Gradient Langevin Dynamics", ICML 2011): with minibatches
// and steps that fall from ε to a share of it, as a polynomial,
//
//	θ ← θ + ε_t/2 · ĝ(θ) + √(ε_t τ) ξ,   ε_t = ε (1 + t/b)^(−power),   ξ ~ N(0, I)
//
// where ĝ is the gradient of the log posterior over a minibatch, see [Potential]. In terms
// of the mean loss of N points ε is 2/N of a learning rate. τ = 1 samples from the posterior
// as ε goes to 0; at fixed ε a direction of precision λ has 1/(1 − ελ/4) times its variance,
// and what minibatches add. τ = 0 is plain descent to the most probable θ.
//
// Draws are taken every thin steps after burn-in. Memory: draws · Dim numbers.
type SGLD struct {
	Step        float64 `yaml:"step" help:"First step ε, 2/N of a learning rate for the mean loss of N points." default:"1e-4"`
	Power       float64 `yaml:"power" help:"By which the steps fall; 0 keeps them, above ½ and up to 1 converges." default:"0"`
	Horizon     float64 `yaml:"horizon" help:"Steps b after which the step has fallen by the factor 2^power." default:"1000"`
	Batch       int     `yaml:"batch" help:"Points of a step; 0 takes all." default:"0"`
	Burn        int     `yaml:"burn" help:"Steps before the first draw." default:"1000"`
	Thin        int     `yaml:"thin" help:"Steps from draw to draw." default:"10"`
	Draws       int     `yaml:"draws" help:"Number of draws." default:"100"`
	Temperature float64 `yaml:"temperature" help:"τ: 1 is the posterior, less is sharper, 0 descends." default:"1"`
	Seed        uint64  `yaml:"seed" help:"Of minibatches and noise." default:"1"`

	// Trace takes every step's number, from 1, and its minibatch's mean loss; may be nil.
	Trace func(step int, loss float64) `yaml:"-"`
}

// NewSGLD returns the defaults.
func NewSGLD() *SGLD {
	return &SGLD{Step: 1e-4, Horizon: 1000, Burn: 1000, Thin: 10, Draws: 100, Temperature: 1, Seed: 1}
}

// Validate says all that is wrong at once.
func (o *SGLD) Validate() error {
	var wrong []string
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	for _, v := range []struct {
		name  string
		value float64
		zero  bool
	}{{"step", o.Step, false}, {"horizon", o.Horizon, false}, {"power", o.Power, true}, {"temperature", o.Temperature, true}} {
		if !(v.value > 0 || v.zero && v.value == 0) || math.IsInf(v.value, 0) {
			say("%s is %g, want a positive number", v.name, v.value)
		}
	}
	if o.Batch < 0 || o.Burn < 0 {
		say("batch is %d and burn %d, want 0 or more", o.Batch, o.Burn)
	}
	if o.Thin < 1 || o.Draws < 1 {
		say("thin is %d and draws %d, want at least 1", o.Thin, o.Draws)
	}
	return optionsError("SGLD", wrong)
}

// Chain is what a chain drew.
type Chain struct {
	Draws  [][]float64 // [draws][dim]
	Losses []float64   // mean loss of each step's minibatch
	Step   float64     // the last ε
}

// Sample runs a chain from start, which it does not change. Numbers that are no longer
// finite end it with ErrDiverged.
func (o *SGLD) Sample(ctx context.Context, p Potential, start []float64) (*Chain, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	d, n := p.Dim(), p.Points()
	if len(start) != d || n < 1 {
		return nil, fmt.Errorf("bayes: SGLD: %w: a start of %d numbers for %d parameters, and %d points", ErrData, len(start), d, n)
	}
	rng := rand.New(rand.NewPCG(o.Seed, 0x53474c44))
	theta, g := append([]float64(nil), start...), make([]float64, d)
	c := &Chain{}
	deck := newDeck(n, o.Batch, rng)
	for t := 1; t <= o.Burn+o.Draws*o.Thin; t++ {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("bayes: SGLD: before step %d: %w", t, err)
		}
		loss, err := p.Gradient(g, theta, deck.next())
		if err != nil {
			return nil, fmt.Errorf("bayes: SGLD: step %d: %w", t, err)
		}
		c.Step = o.Step * math.Pow(1+float64(t-1)/o.Horizon, -o.Power)
		noise := math.Sqrt(c.Step * o.Temperature)
		for i, v := range g {
			theta[i] += c.Step / 2 * v
			if noise > 0 {
				theta[i] += noise * rng.NormFloat64()
			}
			if math.IsNaN(theta[i]) || math.IsInf(theta[i], 0) {
				return nil, fmt.Errorf("bayes: SGLD: step %d: %w: parameter %d is %g after a gradient of %g; lower the step, which is %g", t, ErrDiverged, i+1, theta[i], v, c.Step)
			}
		}
		c.Losses = append(c.Losses, loss)
		if o.Trace != nil {
			o.Trace(t, loss)
		}
		if t > o.Burn && (t-o.Burn)%o.Thin == 0 {
			c.Draws = append(c.Draws, append([]float64(nil), theta...))
		}
	}
	return c, nil
}

// Moments returns mean and variance of each parameter over the draws.
func (c *Chain) Moments() (mean, variance []float64) {
	if len(c.Draws) == 0 {
		return nil, nil
	}
	mean, variance = make([]float64, len(c.Draws[0])), make([]float64, len(c.Draws[0]))
	for k, theta := range c.Draws {
		for i, v := range theta {
			delta := v - mean[i]
			mean[i] += delta / float64(k+1)
			variance[i] += delta * (v - mean[i])
		}
	}
	for i := range variance {
		variance[i] /= float64(max(len(c.Draws)-1, 1))
	}
	return mean, variance
}

// deck deals minibatches: every point once before any comes again.
type deck struct {
	order []int
	at    int
	size  int // 0 deals nil, all points
	rng   *rand.Rand
}

func newDeck(n, size int, rng *rand.Rand) *deck {
	if size >= n {
		size = 0
	}
	d := &deck{size: size, rng: rng, at: n}
	if size > 0 {
		for i := range n {
			d.order = append(d.order, i)
		}
	}
	return d
}

func (d *deck) next() []int {
	if d.size == 0 {
		return nil
	}
	if d.at+d.size > len(d.order) {
		d.rng.Shuffle(len(d.order), func(i, j int) { d.order[i], d.order[j] = d.order[j], d.order[i] })
		d.at = 0
	}
	d.at += d.size
	return d.order[d.at-d.size : d.at]
}
