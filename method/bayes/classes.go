package bayes

import (
	"fmt"
	"math"
)

// Coins is the class of coins with sides 0 and 1 whose probabilities of a 1 stand on a grid:
// (i + ½)/n for i < n. It takes no inputs.
type Coins int

// Len implements [Class].
func (c Coins) Len() int { return int(c) }

// Outcomes implements [Class].
func (c Coins) Outcomes() int { return 2 }

// LogProbabilities implements [Class].
func (c Coins) LogProbabilities(out, _ []float64) {
	for i := range int(c) {
		p := (float64(i) + 0.5) / float64(c)
		out[2*i], out[2*i+1] = math.Log1p(-p), math.Log(p)
	}
}

// QuantisedNets is the class of all networks of one hidden layer whose weights are from a
// few levels L, for inputs x [d] and two outcomes:
//
//	log-odds of 1 = s Σ_j v_j tanh(s Σ_i U_ji x_i),   U [h, d], v [h], entries in L
//
// It has |L|^(h(d+1)) members, many of which are the same function: a function that needs
// few weights is written by many networks, which is the weight it has under a uniform prior.
type QuantisedNets struct {
	inputs, hidden int
	levels         []float64
	scale          float64
	units          [][]float64 // every way to weigh the inputs of a hidden unit
}

// most bounds a class that is to be enumerated for each outcome.
const mostNets = 1 << 22

// NewQuantisedNets returns the class; one with more than 4 million networks is refused.
func NewQuantisedNets(inputs, hidden int, levels []float64, scale float64) (*QuantisedNets, error) {
	var wrong []string
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	if inputs < 1 || hidden < 1 {
		say("%d inputs and %d hidden units, want at least 1", inputs, hidden)
	}
	if len(levels) < 2 {
		say("%d levels, want at least 2", len(levels))
	}
	for _, v := range append([]float64{scale}, levels...) {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			say("%g among scale and levels", v)
		}
	}
	if wrong == nil {
		if n := math.Pow(float64(len(levels)), float64(hidden*(inputs+1))); n > mostNets {
			say("%.3g networks, at most %d can be enumerated: take fewer inputs, hidden units or levels", n, mostNets)
		}
	}
	if err := optionsError("quantised nets", wrong); err != nil {
		return nil, err
	}
	c := &QuantisedNets{inputs: inputs, hidden: hidden, levels: levels, scale: scale}
	n := power(len(levels), inputs)
	for u := range n {
		w := make([]float64, inputs)
		for i, rest := 0, u; i < inputs; i, rest = i+1, rest/len(levels) {
			w[i] = levels[rest%len(levels)]
		}
		c.units = append(c.units, w)
	}
	return c, nil
}

func power(base, exponent int) int {
	n := 1
	for range exponent {
		n *= base
	}
	return n
}

// Len implements [Class].
func (c *QuantisedNets) Len() int { return power(len(c.levels), c.hidden*(c.inputs+1)) }

// Outcomes implements [Class].
func (c *QuantisedNets) Outcomes() int { return 2 }

// LogProbabilities implements [Class]. A hidden unit's output, weighed by its v, takes
// |L|^(d+1) values; a network's log-odds are a sum of h of these, which are built up unit by
// unit, the last unit fastest.
func (c *QuantisedNets) LogProbabilities(out, x []float64) {
	var unit []float64
	for _, w := range c.units {
		var a float64
		for i, v := range w {
			a += v * x[i]
		}
		a = math.Tanh(c.scale * a)
		for _, v := range c.levels {
			unit = append(unit, c.scale*v*a)
		}
	}
	odds := []float64{0}
	for range c.hidden {
		next := make([]float64, 0, len(odds)*len(unit))
		for _, a := range odds {
			for _, b := range unit {
				next = append(next, a+b)
			}
		}
		odds = next
	}
	for i, a := range odds {
		// log σ(−a) and log σ(a)
		soft := math.Log1p(math.Exp(-math.Abs(a)))
		out[2*i], out[2*i+1] = -max(a, 0)-soft, -max(-a, 0)-soft
	}
}
