package stats

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"

	"gonum.org/v1/gonum/mat"
)

// ARPHMM fits the autoregressive partially hidden Markov model of Juesas, Ramasso,
// Drujont and Placet (2021). With K states, transitions A and initial probabilities π,
//
//	y_t | s_t = k  ~  N( Φ_k [1, y_{t−1}, …, y_{t−p}], Σ_k ).
//
// What is known of the states beforehand are plausibilities ω_t(k) in [0, 1]. They weigh
// the states' likelihoods, b_k(t) ω_t(k), in the expectations of EM, and nowhere else;
// with γ and ξ computed from these products, π, A, Φ and Σ have the usual updates, and
//
//	L = Σ over paths of π_{s_1} Π_t A_{s_{t−1} s_t} b_{s_t}(t) ω_t(s_t)
//
// never falls. ω ≡ 1 knows nothing and is the ARHMM; p = 0 the hidden Markov model with
// Gaussian emissions; ω with a single 1 in every row fits the states apart.
//
// The chain begins at observation p + 1 of a sequence: the first p are what it is
// conditioned on, and their plausibilities say nothing.
//
// An iteration costs O(T K (K + q²)), q = (p + 1) d, and memory is O(T K).
type ARPHMM struct {
	States     int     `yaml:"states" json:"states" help:"hidden states" default:"3"`
	Order      int     `yaml:"order" json:"order" help:"past observations that the next depends on" default:"0"`
	Covariance string  `yaml:"covariance" json:"covariance" help:"full or diagonal" default:"full"`
	LeftRight  bool    `yaml:"left_right" json:"left_right" help:"states follow one another and do not return"`
	Ridge      float64 `yaml:"ridge" json:"ridge" help:"weight of a penalty on small covariances and large autoregression" default:"0"`
	Tol        float64 `yaml:"tol" json:"tol" help:"stop when an iteration adds less than this to the log-likelihood of an observation" default:"1e-7"`
	MaxIter    int     `yaml:"max_iter" json:"max_iter" help:"at most so many iterations" default:"200"`
	Starts     int     `yaml:"starts" json:"starts" help:"starting points, of which the best end counts" default:"1"`
	Seed       uint64  `yaml:"-" json:"-"` // of the starting points

	// Start, if set, is where EM begins instead of at a point made from the data. Its
	// zeros in Initial and Transition stay.
	Start *HMM `yaml:"-" json:"-"`
	// Progress, if set, takes the objective after each iteration.
	Progress func(iteration int, objective float64) `yaml:"-" json:"-"`
}

// Sequence is one realisation: observations in the order of time, and what is known of
// the states that they were made in.
type Sequence struct {
	Y            *mat.Dense // [T, d]
	Plausibility *mat.Dense // [T, K] in [0, 1]; nil knows nothing
}

// HMM is a fitted model. Its fields are what a file holds of it.
type HMM struct {
	States     int           `json:"states"`
	Order      int           `json:"order"`
	Dim        int           `json:"dim"`
	Initial    []float64     `json:"initial"`    // π [K]
	Transition [][]float64   `json:"transition"` // A [K][K], rows sum to 1
	Coef       [][][]float64 `json:"coef"`       // Φ [K][d][1 + p d]: the constant, then y_{t−1}, …, y_{t−p}
	Cov        [][][]float64 `json:"covariance"` // Σ [K][d][d]

	LogLikelihood float64   `json:"log_likelihood"` // log L of what it was fitted to
	Trace         []float64 `json:"trace,omitempty"`
	Iterations    int       `json:"iterations"`
	Converged     bool      `json:"converged"`
}

// NewARPHMM returns the defaults.
func NewARPHMM() *ARPHMM {
	o := ARPHMM{}.withDefaults()
	return &o
}

// withDefaults fills in what was left at zero.
func (o ARPHMM) withDefaults() ARPHMM {
	if o.States == 0 {
		o.States = 3
	}
	if o.Covariance == "" {
		o.Covariance = "full"
	}
	if o.Tol == 0 {
		o.Tol = 1e-7
	}
	if o.MaxIter == 0 {
		o.MaxIter = 200
	}
	if o.Starts == 0 {
		o.Starts = 1
	}
	return o
}

// Validate says all that is wrong with the settings at once.
func (o ARPHMM) Validate() error {
	o = o.withDefaults()
	var wrong []string
	say := func(bad bool, format string, args ...any) {
		if bad {
			wrong = append(wrong, fmt.Sprintf(format, args...))
		}
	}
	say(o.States < 1, "%d states, want at least 1", o.States)
	say(o.Order < 0, "order %d, want 0 or more", o.Order)
	say(o.Covariance != "full" && o.Covariance != "diagonal", "covariance %q, want full or diagonal", o.Covariance)
	say(!(o.Ridge >= 0) || math.IsInf(o.Ridge, 1), "ridge %v, want 0 or more", o.Ridge)
	say(!(o.Tol > 0), "tolerance %v, want more than 0", o.Tol)
	say(o.MaxIter < 1, "%d iterations, want at least 1", o.MaxIter)
	say(o.Starts < 1, "%d starts, want at least 1", o.Starts)
	if s := o.Start; s != nil {
		say(s.States != o.States || s.Order != o.Order, "a start of %d states and order %d for a model of %d and %d", s.States, s.Order, o.States, o.Order)
		if err := s.check(); err != nil {
			say(true, "start: %v", err)
		}
	}
	if wrong == nil {
		return nil
	}
	return fmt.Errorf("stats: arphmm: %w: %s", ErrOptions, strings.Join(wrong, "; "))
}

// Fit returns the model at a stationary point, or, beside a [StoppedError], the one that
// the limit of iterations left it at. It maximises log L, minus the ridge's penalty where there is one,
//
//	ridge/2 · Σ_k tr Σ_k⁻¹ (I + Σ_l Φ_k^{(l)} Φ_k^{(l)}ᵀ),   Φ^{(l)} the matrix of lag l,
//
// under which a state of few observations keeps a covariance and M-steps stay exact.
func (o ARPHMM) Fit(ctx context.Context, sequences []Sequence) (*HMM, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	o = o.withDefaults()
	w, err := newWorkspace(sequences, o.States, o.Order)
	if err != nil {
		return nil, err
	}
	if o.Start != nil {
		return o.climb(ctx, w, o.Start.clone())
	}
	var best *HMM
	var stopped, failed error
	for start := range o.Starts {
		m, err := o.begin(w, rand.New(rand.NewPCG(o.Seed, uint64(start))))
		if err == nil {
			m, err = o.climb(ctx, w, m)
		}
		switch {
		case ctx.Err() != nil:
			return nil, err
		case m == nil:
			failed = err
		case best == nil || last(m.Trace) > last(best.Trace):
			best, stopped = m, err
		}
	}
	if best == nil {
		return nil, failed
	}
	return best, stopped
}

func last(v []float64) float64 { return v[len(v)-1] }

// climb runs EM from m, which it changes.
func (o ARPHMM) climb(ctx context.Context, w *workspace, m *HMM) (*HMM, error) {
	m.Trace = nil
	before := math.Inf(-1)
	for m.Iterations = 0; ; m.Iterations++ {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("stats: arphmm: stopped after %d iterations at log-likelihood %.6g: %w", m.Iterations, before, err)
		}
		e, err := newEmission(m, w.mean)
		if err != nil {
			return nil, fmt.Errorf("stats: arphmm: iteration %d: %w", m.Iterations, err)
		}
		if m.LogLikelihood, err = w.expect(m, e); err != nil {
			return nil, fmt.Errorf("stats: arphmm: iteration %d: %w", m.Iterations, err)
		}
		now := m.LogLikelihood - penalty(m, o.Ridge)
		m.Trace = append(m.Trace, now)
		if o.Progress != nil {
			o.Progress(m.Iterations, now)
		}
		gain := (now - before) / float64(w.rows)
		if m.Converged = gain < o.Tol; m.Converged {
			return m, nil
		}
		if m.Iterations == o.MaxIter {
			return m, &StoppedError{"arphmm", "the limit of iterations is reached, and the last added the residual to the log-likelihood of an observation; raise max_iter or tol", m.Iterations, gain, o.Tol}
		}
		before = now
		if err := w.maximize(m, o); err != nil {
			return nil, fmt.Errorf("stats: arphmm: iteration %d: %w", m.Iterations+1, err)
		}
	}
}

// check says what keeps m from being a model.
func (m *HMM) check() error {
	k, d := m.States, m.Dim
	if k < 1 || d < 1 || m.Order < 0 || len(m.Initial) != k || len(m.Transition) != k || len(m.Coef) != k || len(m.Cov) != k {
		return fmt.Errorf("%d states of order %d in %d dimensions with %d initial probabilities, %d rows of transitions, %d of coefficients and %d covariances",
			k, m.Order, d, len(m.Initial), len(m.Transition), len(m.Coef), len(m.Cov))
	}
	if err := checkProbabilities("initial probabilities", m.Initial, k); err != nil {
		return err
	}
	for i := range k {
		if err := checkProbabilities(fmt.Sprintf("transitions from state %d", i), m.Transition[i], k); err != nil {
			return err
		}
		if len(m.Coef[i]) != d || len(m.Cov[i]) != d {
			return fmt.Errorf("state %d has %d rows of coefficients and %d of covariances, want %d", i, len(m.Coef[i]), len(m.Cov[i]), d)
		}
		for r := range d {
			if len(m.Coef[i][r]) != 1+m.Order*d || len(m.Cov[i][r]) != d {
				return fmt.Errorf("state %d, row %d has %d coefficients and %d covariances, want %d and %d", i, r, len(m.Coef[i][r]), len(m.Cov[i][r]), 1+m.Order*d, d)
			}
		}
	}
	return nil
}

func checkProbabilities(what string, p []float64, n int) error {
	var sum float64
	for _, v := range p {
		if !(v >= 0) {
			return fmt.Errorf("%s hold %v", what, v)
		}
		sum += v
	}
	if len(p) != n || math.Abs(sum-1) > 1e-6 {
		return fmt.Errorf("%s are %d that sum to %v, want %d that sum to 1", what, len(p), sum, n)
	}
	return nil
}

func (m *HMM) clone() *HMM {
	c := *m
	c.Initial, c.Transition = append([]float64(nil), m.Initial...), rowsOf(m.Transition)
	c.Coef, c.Cov = make([][][]float64, m.States), make([][][]float64, m.States)
	for k := range m.States {
		c.Coef[k], c.Cov[k] = rowsOf(m.Coef[k]), rowsOf(m.Cov[k])
	}
	return &c
}

func rowsOf(a [][]float64) [][]float64 {
	out := make([][]float64, len(a))
	for i, r := range a {
		out[i] = append([]float64(nil), r...)
	}
	return out
}

// zeroRows makes n rows of m zeros.
func zeroRows(n, m int) [][]float64 {
	out := make([][]float64, n)
	for i := range out {
		out[i] = make([]float64, m)
	}
	return out
}
