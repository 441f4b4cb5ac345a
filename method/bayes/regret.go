package bayes

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// WeightBound is the bound on the expected regret of a mixture over n outcomes, and the ε
// that attains it,
//
//	min_ε [ −log W_ε + n ε ],   W_ε = Σ { w(θ) : KL(p*‖p_θ) ≤ ε }
//
// for the prior weights of a class, which are made to sum to 1, and the divergences of its
// hypotheses from the truth, in nats for an outcome. Only ε at one of the divergences can be
// the best. A hypothesis that excludes what the truth allows has divergence +Inf.
func WeightBound(prior, divergence []float64, n int) (bound, epsilon float64, err error) {
	order, total, err := byDivergence(prior, divergence, n)
	if err != nil {
		return 0, 0, err
	}
	bound, epsilon = math.Inf(1), math.Inf(1)
	var weight float64
	for at, i := range order {
		weight += prior[i] / total
		if at+1 < len(order) && divergence[order[at+1]] == divergence[i] {
			continue
		}
		if b := -math.Log(weight) + times(n, divergence[i]); b < bound {
			bound, epsilon = b, divergence[i]
		}
	}
	return max(bound, 0), epsilon, nil
}

// SoftBound is −log Σ_θ w(θ) exp(−n KL(p*‖p_θ)), which bounds the expected regret as well,
// by Jensen's inequality: the regret is concave in the hypotheses' losses. It is never above
// [WeightBound], whose sum it takes over all ε at once.
func SoftBound(prior, divergence []float64, n int) (float64, error) {
	_, total, err := byDivergence(prior, divergence, n)
	if err != nil {
		return 0, err
	}
	terms := make([]float64, len(prior))
	for i, w := range prior {
		terms[i] = math.Log(w/total) - times(n, divergence[i])
	}
	return max(-logSumExp(terms), 0), nil
}

// times is n·v, and 0 for n = 0 even where v is infinite.
func times(n int, v float64) float64 {
	if n == 0 {
		return 0
	}
	return float64(n) * v
}

// byDivergence checks a prior with its divergences and orders the hypotheses, the nearest
// first.
func byDivergence(prior, divergence []float64, n int) (order []int, total float64, err error) {
	var wrong []string
	if len(prior) != len(divergence) || n < 0 {
		wrong = append(wrong, fmt.Sprintf("%d prior weights, %d divergences, %d outcomes", len(prior), len(divergence), n))
		return nil, 0, optionsError("bound", wrong)
	}
	for i, w := range prior {
		if !(w >= 0) || math.IsInf(w, 0) || !(divergence[i] >= 0) {
			wrong = append(wrong, fmt.Sprintf("hypothesis %d has prior weight %g and divergence %g, want 0 or more", i+1, w, divergence[i]))
			break
		}
		total += w
		if w > 0 {
			order = append(order, i)
		}
	}
	if wrong == nil && !(total > 0) {
		wrong = append(wrong, "no hypothesis has weight")
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(divergence[a], divergence[b]) })
	return order, total, optionsError("bound", wrong)
}

// PredictionBound turns a bound on the regret of n outcomes into one on a single prediction:
// [MixtureFit.Averages] has an expected divergence from the truth of at most bound/n, and
// by Pinsker's inequality an expected total variation of at most √(bound/2n).
func PredictionBound(bound float64, n int) (divergence, variation float64) {
	return bound / float64(n), math.Sqrt(bound / (2 * float64(n)))
}

// Divergence is KL(p‖q) = Σ p log(p/q) in nats, +Inf where q excludes what p allows.
func Divergence(p, q []float64) float64 {
	var sum float64
	for i, a := range p {
		if a > 0 {
			sum += a * math.Log(a/q[i])
		}
	}
	return max(sum, 0)
}

// Divergences returns KL(p*‖p_θ) for each hypothesis of a class, averaged over inputs xs
// with the same weight; truth gives p*(·|x). Without inputs xs holds a single nil.
func Divergences(c Class, truth func(x []float64) []float64, xs [][]float64) []float64 {
	k, m := c.Len(), c.Outcomes()
	table, out := make([]float64, k*m), make([]float64, k)
	for _, x := range xs {
		c.LogProbabilities(table, x)
		p := truth(x)
		for i := range out {
			var d float64
			for y, a := range p {
				if a > 0 {
					d += a * (math.Log(a) - table[i*m+y])
				}
			}
			out[i] += max(d, 0) / float64(len(xs))
		}
	}
	return out
}
