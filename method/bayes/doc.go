// Package bayes holds learners that keep a distribution over what they do not know.
// Mixtures and ensembles weigh hypotheses by how well they foretold the data: exactly over
// finite classes, Dirichlet priors and context trees, by Langevin dynamics over networks;
// their log loss is held against the bound that the weight of the good hypotheses gives.
// Variational inference, which fits a distribution that is a program by the gradient of an
// objective that is one too, is package vi in this one's folder.
//
// A method is a struct of options whose Fit returns what it learnt as a struct of results.
// Losses and bounds are in nats, random numbers come from a seed.
package bayes

import (
	"errors"
	"fmt"
	"math"
	"strings"
)

// ErrOptions marks settings that are out of their range.
var ErrOptions = errors.New("wrong options")

// ErrData is what every fault of the data wraps.
var ErrData = errors.New("unfit data")

// optionsError says all that is wrong with a method's settings at once, or is nil.
func optionsError(method string, wrong []string) error {
	if len(wrong) == 0 {
		return nil
	}
	return fmt.Errorf("bayes: %s: %w: %s", method, ErrOptions, strings.Join(wrong, "; "))
}

// logSumExp is log Σ exp(v), which no single large value overflows; −∞ of nothing.
func logSumExp(v []float64) float64 {
	top := math.Inf(-1)
	for _, x := range v {
		top = max(top, x)
	}
	if math.IsInf(top, 0) {
		return top
	}
	var sum float64
	for _, x := range v {
		sum += math.Exp(x - top)
	}
	return top + math.Log(sum)
}
