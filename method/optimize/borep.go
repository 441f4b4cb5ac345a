package optimize

import (
	"context"
	"fmt"
	"math"
	"slices"

	"gonum.org/v1/gonum/floats"
)

// BOREP solves bilevel problems whose upper gradient need not be Lipschitz: its smoothness
// may grow with its norm, as with recurrent networks (Hao, Gong and Liu, "Bilevel
// Optimization under Unbounded Smoothness", arXiv:2401.09587). x moves by normalised
// momentum, so that no step is longer than η however steep Φ is; y is found well once, at
// x₀, and afterwards moved only in every I-th iteration; z follows the solution of
// ∇²ᵧᵧg z = ∇ᵧf:
//
//	k mod I = 0:  N times  y ← Π(y − γ ∇ᵧg),  Π on the ball of radius R around the first y
//	m ← βm + (1 − β)(∇ₓf − ∇²ₓᵧg z)
//	z ← z − ν(∇²ᵧᵧg z − ∇ᵧf)
//	x ← x − η m/‖m‖
//
// An iteration draws one sample for ∇f and one for both products with z, which one product
// of the tape gives. That finds an ε-stationary point in O(1/ε⁴) iterations up to
// logarithms, for η of order ε² and I of order 1/ε².
//
// y₀ is refined by epochs of stochastic gradient (Hazan and Kale, JMLR 15, 2014,
// Algorithm 1): epoch s takes T·2^s steps of γ/2^s within a ball of radius D/2^(s/2) around
// its start and ends at the mean of where they led.
//
// Left open by the description: N steps end at the last y, not a mean, and the update at
// k = 0 is made although y has just been refined; both as in the authors' published program.
type BOREP struct {
	Eta       float64 `yaml:"eta" help:"Length of a step of x." default:"0.01"`
	Beta      float64 `yaml:"beta" help:"Share of the momentum that stays, below 1." default:"0.9"`
	Normalize bool    `yaml:"normalize" help:"Divide the momentum by its norm." default:"true"`
	Gamma     float64 `yaml:"gamma" help:"Step of y." default:"0.01"`
	Nu        float64 `yaml:"nu" help:"Step of z." default:"0.01"`
	Period    int     `yaml:"period" help:"Iterations from one update of y to the next." default:"2"`
	Steps     int     `yaml:"steps" help:"Steps of an update of y." default:"3"`
	Radius    float64 `yaml:"radius" help:"How far an update may move y; 0 for any length." default:"1"`

	Epochs       int     `yaml:"epochs" help:"Epochs of the refinement; 0 leaves y as it starts." default:"3"`
	FirstEpoch   int     `yaml:"first_epoch" help:"Steps of its first epoch." default:"10"`
	RefineRadius float64 `yaml:"refine_radius" help:"How far its first epoch may move y; 0 for any length." default:"0"`

	BilevelLimits `yaml:",inline"`
}

// NewBOREP returns the defaults; steps, period and momentum are those of the authors'
// experiments.
func NewBOREP() *BOREP {
	return &BOREP{
		Eta: 0.01, Beta: 0.9, Normalize: true, Gamma: 0.01, Nu: 0.01, Period: 2, Steps: 3, Radius: 1,
		Epochs: 3, FirstEpoch: 10, BilevelLimits: newBilevelLimits(),
	}
}

// Validate says all that is wrong at once.
func (o *BOREP) Validate() error {
	wrong := o.wrong(map[string]float64{"eta": o.Eta, "gamma": o.Gamma, "nu": o.Nu},
		leastInt{"period", o.Period, 1}, leastInt{"steps", o.Steps, 1}, leastInt{"epochs", o.Epochs, 0}, leastInt{"first_epoch", o.FirstEpoch, 1})
	wrong = append(wrong, share("beta", o.Beta)...)
	for name, v := range map[string]float64{"radius": o.Radius, "refine_radius": o.RefineRadius} {
		if !(v >= 0) {
			wrong = append(wrong, fmt.Sprintf("%s is %g, want 0 or more", name, v))
		}
	}
	if o.Epochs > 30 {
		wrong = append(wrong, fmt.Sprintf("epochs is %d, want at most 30: each takes twice the steps of the last", o.Epochs))
	}
	slices.Sort(wrong)
	return optionsError("BO-REP", wrong)
}

// Minimize starts at x, and refines y there. Beside a [StoppedError] it returns where it
// stopped.
func (o *BOREP) Minimize(ctx context.Context, p Bilevel, x, y []float64) (*BilevelResult, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	r, err := o.begin("BO-REP", p, x, y)
	if err != nil {
		return nil, err
	}
	if err := o.refine(ctx, r); err != nil {
		return &r.result, fmt.Errorf("optimize: BO-REP: refinement: %w", err)
	}
	m, z := make([]float64, len(x)), make([]float64, len(y))
	return r.run(ctx, func(k int) (float64, error) {
		if k%o.Period == 0 {
			if err := r.descend(o.Steps, o.Gamma, o.Radius, nil); err != nil {
				return 0, err
			}
		}
		if err := r.upper(); err != nil {
			return 0, err
		}
		if err := r.product(z); err != nil {
			return 0, err
		}
		r.average(m, o.Beta)
		for i := range z {
			z[i] -= o.Nu * (r.hv[i] - r.gy[i])
		}
		norm := floats.Norm(m, 2)
		length := o.Eta
		if o.Normalize && norm > 0 {
			length /= norm
		}
		floats.AddScaled(r.x, -length, m)
		return norm, nil
	})
}

// refine moves y towards y*(x).
func (o *BOREP) refine(ctx context.Context, r *bilevelRun) error {
	mean := make([]float64, len(r.y))
	for s := range o.Epochs {
		if err := ctx.Err(); err != nil {
			return err
		}
		times := math.Ldexp(1, s)
		if err := r.descend(o.FirstEpoch<<s, o.Gamma/times, o.RefineRadius/math.Sqrt(times), mean); err != nil {
			return err
		}
		copy(r.y, mean)
	}
	return nil
}
