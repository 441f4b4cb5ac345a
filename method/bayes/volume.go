package bayes

import (
	"fmt"
	"math"
	"math/rand/v2"

	"gonum.org/v1/gonum/floats"
)

// LocalVolume estimates the weight of a hypothesis in a continuous class by how flat the loss
// is around it. For the prior N(0, σ²I) on θ ∈ R^d and a centre θ̂,
//
//	W_ε = P(θ : L(θ) ≤ L(θ̂) + ε along the ray from θ̂)
//	    = E_u ∫_0^{r(u)} (2πσ²)^{−d/2} exp(−‖θ̂ + r u‖²/2σ²) S_d r^{d−1} dr
//
// where u is uniform on the sphere, S_d its area, and r(u) the first radius at which the loss
// has grown by ε. The mean is over random directions; in many dimensions few of them carry
// it, so that the estimate is of a part of the volume and −log W an upper estimate, as is
// the bound on the regret that it gives.
type LocalVolume struct {
	Sigma      float64 // of the prior
	Epsilon    float64 // by which the loss may grow, in nats a point
	Directions int     // 0 is 50
	Seed       uint64
}

// Estimate returns log W_ε for the loss at theta, and the standard error of W over W, which
// near 1 says that a single direction carries the estimate.
func (o *LocalVolume) Estimate(theta []float64, loss func(theta []float64) (float64, error)) (logWeight, relative float64, err error) {
	directions := o.Directions
	if directions == 0 {
		directions = 50
	}
	if !(o.Sigma > 0) || !(o.Epsilon > 0) || directions < 2 || len(theta) == 0 {
		return 0, 0, optionsError("local volume", []string{fmt.Sprintf("sigma %g, epsilon %g, %d directions, %d parameters: want positive numbers and at least 2 directions", o.Sigma, o.Epsilon, directions, len(theta))})
	}
	rng := rand.New(rand.NewPCG(o.Seed, 0x766f6c))
	base, err := loss(theta)
	if err != nil {
		return 0, 0, err
	}
	rays := make([]float64, directions)
	u, at := make([]float64, len(theta)), make([]float64, len(theta))
	for k := range rays {
		for i := range u {
			u[i] = rng.NormFloat64()
		}
		floats.Scale(1/floats.Norm(u, 2), u)
		radius, err := o.radius(func(r float64) (float64, error) {
			floats.AddScaledTo(at, theta, r, u)
			l, err := loss(at)
			return l - base, err
		}, math.Sqrt(float64(len(theta))))
		if err != nil {
			return 0, 0, err
		}
		rays[k] = o.ray(theta, u, radius)
	}
	logWeight = logSumExp(rays) - math.Log(float64(directions))
	var squares float64
	for _, v := range rays {
		d := math.Exp(v-logWeight) - 1
		squares += d * d
	}
	return logWeight, math.Sqrt(squares / float64(directions*(directions-1))), nil
}

// radius finds where the loss has grown by ε, by doubling from a small radius and halving
// the last interval. The prior has next to nothing beyond 10 σ√d.
func (o *LocalVolume) radius(growth func(r float64) (float64, error), root float64) (float64, error) {
	far := 10 * o.Sigma * root
	lo, hi := 0.0, far/1024
	for {
		g, err := growth(hi)
		if err != nil {
			return 0, err
		}
		if !(g <= o.Epsilon) { // NaN is outside as well
			break
		}
		if lo = hi; hi >= far {
			return far, nil
		}
		hi *= 2
	}
	for range 30 {
		mid := (lo + hi) / 2
		g, err := growth(mid)
		if err != nil {
			return 0, err
		}
		if g <= o.Epsilon {
			lo = mid
		} else {
			hi = mid
		}
	}
	return lo, nil
}

// ray is the logarithm of the prior's mass along a ray up to a radius, by the midpoint rule.
// With a = θ̂ᵀu, ‖θ̂ + r u‖² = (r + a)² + ‖θ̂‖² − a².
func (o *LocalVolume) ray(theta, u []float64, radius float64) float64 {
	const cells = 2000
	d, s2 := float64(len(theta)), o.Sigma*o.Sigma
	a, square := floats.Dot(theta, u), floats.Dot(theta, theta)
	// log of the sphere's area over the Gaussian's constant: 2π^{d/2}/Γ(d/2) / (2πσ²)^{d/2}
	constant := math.Ln2 - logGamma(d/2) - d/2*math.Log(2*s2)
	terms := make([]float64, cells)
	for i := range terms {
		r := (float64(i) + 0.5) * radius / cells
		terms[i] = constant + (d-1)*math.Log(r) - (r*r+2*r*a+square)/(2*s2)
	}
	return logSumExp(terms) + math.Log(radius/cells)
}
