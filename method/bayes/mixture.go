package bayes

import (
	"context"
	"fmt"
	"math"
	"slices"

	"gonum.org/v1/gonum/mat"
)

// Class is a finite set of hypotheses about outcomes 0 … Outcomes()−1. A hypothesis θ gives
// p_θ(y|x) and learns nothing itself.
type Class interface {
	// Len is the number of hypotheses.
	Len() int
	// Outcomes is the number of outcomes.
	Outcomes() int
	// LogProbabilities writes log p_θ(y|x) for every θ and y, at [θ·Outcomes() + y]. x is
	// nil where there are no inputs.
	LogProbabilities(out, x []float64)
}

// Mixture foretells by all hypotheses of a class at once (Feder, Urbanke and Fogel, "The
// Universality Lens", arXiv:2506.07661). With prior weights w,
//
//	q(y_t | x_t, past) = Σ_θ w_t(θ) p_θ(y_t|x_t)
//	w_{t+1}(θ) ∝ w_t(θ) p_θ(y_t|x_t)
//
// which is Bayes' rule, computed exactly, in logarithms. Where p* makes the outcomes the
// expected regret of n of them, Σ_t log p*(y_t|x_t) − log q(y_t|x_t, past), is at most
//
//	min_ε [ −log W_ε + n ε ],   W_ε = w{θ : KL(p*‖p_θ) ≤ ε}
//
// see [WeightBound]: what counts is the weight of what is near the truth, not how many
// hypotheses there are. Memory is three numbers a hypothesis, work one pass over the class
// for each outcome.
type Mixture struct {
	Class Class
	Prior []float64 // weights, made to sum to 1; nil is uniform
	// Trace takes each step's number, from 1, and its loss −log q; may be nil.
	Trace func(n int, loss float64)
}

// MixtureFit is what a mixture learnt.
type MixtureFit struct {
	Losses     []float64 // −log q of each outcome when it came
	Loss       float64   // their sum, which is −log of the evidence
	Prior      []float64
	Weights    []float64 // of the hypotheses after the last outcome
	Averaged   []float64 // mean of the weights before each outcome, see Averages
	Hypotheses []float64 // each hypothesis' own loss

	class Class
}

// Fit weighs the class by outcomes y [n], which come in their order; x [n, d] are inputs, or
// nil. An outcome that no hypothesis allows is an [OutcomeError].
func (o *Mixture) Fit(ctx context.Context, x *mat.Dense, y []int) (*MixtureFit, error) {
	logW, err := o.start(x, y)
	if err != nil {
		return nil, err
	}
	k, m := len(logW), o.Class.Outcomes()
	w := exponentials(logW)
	f := &MixtureFit{Losses: make([]float64, len(y)), Prior: slices.Clone(w), Weights: w, Averaged: make([]float64, k), Hypotheses: make([]float64, k), class: o.Class}
	table, joint := make([]float64, k*m), make([]float64, k)
	for t, outcome := range y {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("bayes: mixture: after %d of %d outcomes: %w", t, len(y), err)
		}
		o.Class.LogProbabilities(table, rowOf(x, t))
		for i := range joint {
			p := table[i*m+outcome]
			if math.IsNaN(p) || p > 1e-9 {
				return nil, &OutcomeError{t, outcome, fmt.Sprintf("has log probability %g under hypothesis %d, want 0 or less", p, i+1)}
			}
			f.Averaged[i] += w[i] / float64(len(y))
			f.Hypotheses[i] -= p
			joint[i] = logW[i] + p
		}
		evidence := bayesRule(w, logW, joint)
		if math.IsInf(evidence, -1) {
			return nil, &OutcomeError{t, outcome, "is impossible under every hypothesis that is left"}
		}
		f.Losses[t] = -evidence
		f.Loss -= evidence
		if o.Trace != nil {
			o.Trace(t+1, -evidence)
		}
	}
	return f, nil
}

// bayesRule writes the weights of joint probabilities log w p, and their logarithms, and
// returns log Σ w p. Each exponential is taken once: they are most of the work.
func bayesRule(w, logW, joint []float64) float64 {
	top, sum := slices.Max(joint), 0.0
	if math.IsInf(top, -1) {
		return top
	}
	for i, v := range joint {
		w[i] = math.Exp(v - top)
		sum += w[i]
	}
	evidence := top + math.Log(sum)
	for i, v := range joint {
		w[i] /= sum
		logW[i] = v - evidence
	}
	return evidence
}

// start checks what was asked for and returns the logarithms of the prior.
func (o *Mixture) start(x *mat.Dense, y []int) ([]float64, error) {
	var wrong []string
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	if o.Class == nil || o.Class.Len() < 1 || o.Class.Outcomes() < 2 {
		say("the class is missing, empty, or has fewer than 2 outcomes")
		return nil, optionsError("mixture", wrong)
	}
	k := o.Class.Len()
	logW := make([]float64, k)
	if o.Prior != nil && len(o.Prior) != k {
		say("the prior has %d weights, the class %d hypotheses", len(o.Prior), k)
	}
	for i, w := range o.Prior {
		if !(w >= 0) || math.IsInf(w, 0) {
			say("prior weight %d is %g, want 0 or a positive number", i+1, w)
			break
		}
		if i < k {
			logW[i] = math.Log(w)
		}
	}
	total := logSumExp(logW)
	if math.IsInf(total, -1) {
		say("all prior weights are 0")
	}
	if err := optionsError("mixture", wrong); err != nil {
		return nil, err
	}
	for i := range logW {
		logW[i] -= total
	}
	if len(y) == 0 {
		return nil, fmt.Errorf("bayes: mixture: %w: no outcomes", ErrData)
	}
	if x != nil {
		if n, _ := x.Dims(); n != len(y) {
			return nil, fmt.Errorf("bayes: mixture: %w: %d rows of inputs, %d outcomes", ErrData, n, len(y))
		}
		if err := finite(x); err != nil {
			return nil, err
		}
	}
	for t, v := range y {
		if v < 0 || v >= o.Class.Outcomes() {
			return nil, &OutcomeError{t, v, fmt.Sprintf("is none of the %d outcomes, which count from 0", o.Class.Outcomes())}
		}
	}
	return logW, nil
}

// Predict returns q(y|x) for every outcome, after all that was seen.
func (f *MixtureFit) Predict(x []float64) []float64 { return f.mixed(f.Weights, x) }

// Averages returns the mean over t of what the mixture said of x before its t-th outcome.
// As KL(p*‖·) is convex, where outcomes are independent given the inputs its expected
// divergence from the truth is at most 1/n of the bound on the regret, which a mixture's
// last prediction alone is not promised.
func (f *MixtureFit) Averages(x []float64) []float64 { return f.mixed(f.Averaged, x) }

func (f *MixtureFit) mixed(weights, x []float64) []float64 {
	m := f.class.Outcomes()
	table, q := make([]float64, len(weights)*m), make([]float64, m)
	f.class.LogProbabilities(table, x)
	for i, w := range weights {
		for y := range q {
			q[y] += w * math.Exp(table[i*m+y])
		}
	}
	return q
}

// Regret is the loss over that of one hypothesis; never more than −log of its prior weight.
func (f *MixtureFit) Regret(hypothesis int) float64 { return f.Loss - f.Hypotheses[hypothesis] }

// Best is the hypothesis with the least loss; of several the first.
func (f *MixtureFit) Best() int {
	best := 0
	for i, l := range f.Hypotheses {
		if l < f.Hypotheses[best] {
			best = i
		}
	}
	return best
}

func exponentials(logs []float64) []float64 {
	out := make([]float64, len(logs))
	for i, v := range logs {
		out[i] = math.Exp(v)
	}
	return out
}

func rowOf(x *mat.Dense, i int) []float64 {
	if x == nil {
		return nil
	}
	return x.RawRowView(i)
}

// finite refuses a matrix with a value that is not a number or infinite.
func finite(x *mat.Dense) error {
	n, d := x.Dims()
	for i := range n {
		for j, v := range x.RawRowView(i)[:d] {
			if math.IsNaN(v) || math.IsInf(v, 0) {
				return &RowError{i, j, v, "is not a finite number"}
			}
		}
	}
	return nil
}

// OutcomeError is an outcome that a method cannot use.
type OutcomeError struct {
	Row     int // from 0
	Outcome int
	Reason  string
}

// Error numbers the row from 1.
func (e *OutcomeError) Error() string {
	return fmt.Sprintf("bayes: outcome %d, which is %d, %s", e.Row+1, e.Outcome, e.Reason)
}

// Unwrap returns [ErrData].
func (e *OutcomeError) Unwrap() error { return ErrData }

// RowError is an input that a method cannot use.
type RowError struct {
	Row, Column int // from 0
	Value       float64
	Reason      string
}

// Error numbers row and column from 1.
func (e *RowError) Error() string {
	return fmt.Sprintf("bayes: row %d, column %d: %g %s", e.Row+1, e.Column+1, e.Value, e.Reason)
}

// Unwrap returns [ErrData].
func (e *RowError) Unwrap() error { return ErrData }
