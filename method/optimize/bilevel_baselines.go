package optimize

import (
	"context"
	"slices"

	"gonum.org/v1/gonum/floats"
)

// What BO-REP is compared with.

// StocBiO takes N steps of y, sums a Neumann series for the inverse of the lower Hessian,
// with a sample for each factor, and takes a gradient step of x (Ji, Yang and Liang,
// "Bilevel Optimization: Convergence Analysis and Enhanced Design", arXiv:2010.07962):
//
//	N times  y ← y − γ ∇ᵧg
//	v = ν Σ_{q=0..Q} (I − ν∇²ᵧᵧg)^q ∇ᵧf
//	x ← x − η(∇ₓf − ∇²ₓᵧg v)
type StocBiO struct {
	Eta   float64 `yaml:"eta" help:"Step of x." default:"0.01"`
	Gamma float64 `yaml:"gamma" help:"Step of y." default:"0.01"`
	Steps int     `yaml:"steps" help:"Steps of y in an iteration." default:"3"`
	Nu    float64 `yaml:"nu" help:"Step of the series." default:"0.01"`
	Terms int     `yaml:"terms" help:"Products with the lower Hessian in the series." default:"3"`

	BilevelLimits `yaml:",inline"`
}

// NewStocBiO returns the defaults.
func NewStocBiO() *StocBiO {
	return &StocBiO{Eta: 0.01, Gamma: 0.01, Steps: 3, Nu: 0.01, Terms: 3, BilevelLimits: newBilevelLimits()}
}

// Validate says all that is wrong at once.
func (o *StocBiO) Validate() error {
	return optionsError("StocBiO", o.wrong(map[string]float64{"eta": o.Eta, "gamma": o.Gamma, "nu": o.Nu},
		leastInt{"steps", o.Steps, 1}, leastInt{"terms", o.Terms, 0}))
}

// Minimize starts at x and y. Beside a [StoppedError] it returns where it stopped.
func (o *StocBiO) Minimize(ctx context.Context, p Bilevel, x, y []float64) (*BilevelResult, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	r, err := o.begin("StocBiO", p, x, y)
	if err != nil {
		return nil, err
	}
	return r.run(ctx, func(int) (float64, error) {
		if err := r.descend(o.Steps, o.Gamma, 0, nil); err != nil {
			return 0, err
		}
		if err := r.upper(); err != nil {
			return 0, err
		}
		power, v := slices.Clone(r.gy), slices.Clone(r.gy)
		for range o.Terms {
			if err := r.damp(power, o.Nu); err != nil {
				return 0, err
			}
			floats.Add(v, power)
		}
		floats.Scale(o.Nu, v)
		return r.against(v, o.Eta)
	})
}

// TTSA takes one step of y and one of x in an iteration, on two time scales that are their
// two lengths, and draws one term of the Neumann series in the place of its sum (Hong, Wai,
// Wang and Yang, "A Two-Timescale Stochastic Algorithm Framework for Bilevel
// Optimization", arXiv:2007.05170):
//
//	y ← y − γ ∇ᵧg
//	v = Qν (I − ν∇²ᵧᵧg)^q ∇ᵧf,  q drawn from 0 … Q−1
//	x ← x − η(∇ₓf − ∇²ₓᵧg v)
type TTSA struct {
	Eta   float64 `yaml:"eta" help:"Step of x." default:"0.001"`
	Gamma float64 `yaml:"gamma" help:"Step of y." default:"0.01"`
	Nu    float64 `yaml:"nu" help:"Step of the series." default:"0.01"`
	Terms int     `yaml:"terms" help:"Terms of the series, one of which is drawn." default:"3"`

	BilevelLimits `yaml:",inline"`
}

// NewTTSA returns the defaults.
func NewTTSA() *TTSA {
	return &TTSA{Eta: 0.001, Gamma: 0.01, Nu: 0.01, Terms: 3, BilevelLimits: newBilevelLimits()}
}

// Validate says all that is wrong at once.
func (o *TTSA) Validate() error {
	return optionsError("TTSA", o.wrong(map[string]float64{"eta": o.Eta, "gamma": o.Gamma, "nu": o.Nu}, leastInt{"terms", o.Terms, 1}))
}

// Minimize starts at x and y. Beside a [StoppedError] it returns where it stopped.
func (o *TTSA) Minimize(ctx context.Context, p Bilevel, x, y []float64) (*BilevelResult, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	r, err := o.begin("TTSA", p, x, y)
	if err != nil {
		return nil, err
	}
	return r.run(ctx, func(int) (float64, error) {
		if err := r.descend(1, o.Gamma, 0, nil); err != nil {
			return 0, err
		}
		if err := r.upper(); err != nil {
			return 0, err
		}
		v := slices.Clone(r.gy)
		floats.Scale(float64(o.Terms)*o.Nu, v)
		for range r.rng.IntN(o.Terms) {
			if err := r.damp(v, o.Nu); err != nil {
				return 0, err
			}
		}
		return r.against(v, o.Eta)
	})
}

// MASOBA moves x, y and z at once, each by one step from where all three were, x along a
// moving average (Chen, Xiao and Balasubramanian, "Optimal Algorithms for Stochastic Bilevel
// Optimization under Relaxed Smoothness Conditions", arXiv:2306.12067):
//
//	x ← x − η m
//	m ← βm + (1 − β)(∇ₓf − ∇²ₓᵧg z)
//	y ← y − γ ∇ᵧg
//	z ← z − ν(∇²ᵧᵧg z − ∇ᵧf)
type MASOBA struct {
	Eta   float64 `yaml:"eta" help:"Step of x." default:"0.01"`
	Beta  float64 `yaml:"beta" help:"Share of the average that stays, below 1." default:"0.9"`
	Gamma float64 `yaml:"gamma" help:"Step of y." default:"0.01"`
	Nu    float64 `yaml:"nu" help:"Step of z." default:"0.01"`

	BilevelLimits `yaml:",inline"`
}

// NewMASOBA returns the defaults.
func NewMASOBA() *MASOBA {
	return &MASOBA{Eta: 0.01, Beta: 0.9, Gamma: 0.01, Nu: 0.01, BilevelLimits: newBilevelLimits()}
}

// Validate says all that is wrong at once.
func (o *MASOBA) Validate() error {
	wrong := o.wrong(map[string]float64{"eta": o.Eta, "gamma": o.Gamma, "nu": o.Nu})
	return optionsError("MA-SOBA", append(wrong, share("beta", o.Beta)...))
}

// Minimize starts at x and y. Beside a [StoppedError] it returns where it stopped.
func (o *MASOBA) Minimize(ctx context.Context, p Bilevel, x, y []float64) (*BilevelResult, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	r, err := o.begin("MA-SOBA", p, x, y)
	if err != nil {
		return nil, err
	}
	m, z := make([]float64, len(x)), make([]float64, len(y))
	return r.run(ctx, func(int) (float64, error) {
		for _, ask := range []func() error{r.upper, r.gradient, func() error { return r.product(z) }} {
			if err := ask(); err != nil {
				return 0, err
			}
		}
		floats.AddScaled(r.x, -o.Eta, m)
		r.average(m, o.Beta)
		floats.AddScaled(r.y, -o.Gamma, r.lower)
		for i := range z {
			z[i] -= o.Nu * (r.hv[i] - r.gy[i])
		}
		return floats.Norm(m, 2), nil
	})
}
