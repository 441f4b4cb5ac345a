package bayes

import (
	"fmt"
	"math"
)

// Dirichlet is the mixture over all distributions θ on m letters, by the density
// ∝ Π θ_i^{α_i − 1}. Its probabilities have closed forms, with counts a_i and n = Σ a_i:
//
//	next letter i   (a_i + α_i) / (n + Σ α)
//	a sequence      Γ(Σα)/Γ(n + Σα) Π Γ(a_i + α_i)/Γ(α_i)
//
// α = 1 is Laplace's rule of succession, α = ½ the estimator of Krichevsky and Trofimov
// (1981), whose loss exceeds that of the best θ by at most (m−1)/2 log n + log m on every
// sequence; see [KTBound].
type Dirichlet []float64

// KT is the estimator of Krichevsky and Trofimov on m letters.
func KT(m int) Dirichlet {
	d := make(Dirichlet, max(m, 0))
	for i := range d {
		d[i] = 0.5
	}
	return d
}

// Predict returns the probabilities of the next letter after counts a.
func (d Dirichlet) Predict(a []float64) ([]float64, error) {
	if err := d.check(a); err != nil {
		return nil, err
	}
	var total float64
	for i, v := range a {
		total += v + d[i]
	}
	p := make([]float64, len(d))
	for i, v := range a {
		p[i] = (v + d[i]) / total
	}
	return p, nil
}

// LogProbability is that of a sequence with counts a, in its order.
func (d Dirichlet) LogProbability(a []float64) (float64, error) {
	if err := d.check(a); err != nil {
		return 0, err
	}
	var sum, n, alpha float64
	for i, v := range a {
		sum += logGamma(v+d[i]) - logGamma(d[i])
		n, alpha = n+v, alpha+d[i]
	}
	return sum + logGamma(alpha) - logGamma(n+alpha), nil
}

func (d Dirichlet) check(a []float64) error {
	if len(d) < 2 {
		return optionsError("Dirichlet", []string{fmt.Sprintf("%d letters, want at least 2", len(d))})
	}
	for i, v := range d {
		if !(v > 0) || math.IsInf(v, 0) {
			return optionsError("Dirichlet", []string{fmt.Sprintf("α of letter %d is %g, want a positive number", i+1, v)})
		}
	}
	if len(a) != len(d) {
		return fmt.Errorf("bayes: Dirichlet: %w: counts of %d letters, α of %d", ErrData, len(a), len(d))
	}
	for i, v := range a {
		if !(v >= 0) || math.IsInf(v, 0) {
			return fmt.Errorf("bayes: Dirichlet: %w: letter %d counts %g, want 0 or more", ErrData, i+1, v)
		}
	}
	return nil
}

func logGamma(x float64) float64 {
	v, _ := math.Lgamma(x)
	return v
}

// KTBound is the most by which the loss of [KT] on m letters exceeds that of the best fixed
// distribution on a sequence of length n: (m−1)/2 log n + log m, and 0 for n = 0. (Tjalkens,
// Shtarkov and Willems 1993; for m = 2 Willems, Shtarkov and Tjalkens 1995, lemma 1.)
func KTBound(m, n int) float64 {
	if n == 0 {
		return 0
	}
	return float64(m-1)/2*math.Log(float64(n)) + math.Log(float64(m))
}

// Entropy is the loss, in nats, of the best fixed distribution on a sequence with counts a:
// n log n − Σ a_i log a_i.
func Entropy(a []float64) float64 {
	var n, sum float64
	for _, v := range a {
		n += v
		if v > 0 {
			sum += v * math.Log(v)
		}
	}
	if n == 0 {
		return 0
	}
	return max(n*math.Log(n)-sum, 0)
}
