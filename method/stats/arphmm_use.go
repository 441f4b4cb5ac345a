package stats

import (
	"fmt"
	"math"
	"math/rand/v2"

	"gonum.org/v1/gonum/mat"
)

// observe runs the recursions on one sequence under m.
func (m *HMM) observe(s Sequence) (*workspace, float64, error) {
	if err := m.check(); err != nil {
		return nil, 0, fmt.Errorf("stats: arphmm: model: %w: %w", ErrOptions, err)
	}
	w := &workspace{k: m.States, p: m.Order, d: m.Dim, mean: make([]float64, m.Dim)}
	if err := w.hold([]Sequence{s}); err != nil {
		return nil, 0, err
	}
	e, err := newEmission(m, w.mean)
	if err != nil {
		return nil, 0, fmt.Errorf("stats: arphmm: %w", err)
	}
	log, err := w.expect(m, e)
	if err != nil {
		return nil, 0, fmt.Errorf("stats: arphmm: %w", err)
	}
	return w, log, nil
}

// Score returns log L of a sequence.
func (m *HMM) Score(s Sequence) (float64, error) {
	_, log, err := m.observe(s)
	return log, err
}

// Posterior returns P(s_t | all of the sequence), [T − p, K]: row i is of observation
// p + i.
func (m *HMM) Posterior(s Sequence) (*mat.Dense, error) {
	w, _, err := m.observe(s)
	if err != nil {
		return nil, err
	}
	return mat.NewDense(w.rows, w.k, w.b), nil
}

// Filter returns P(s_T | y_1, …, y_T), what a forecast starts from: at the end of the
// sequence posterior and filter are one.
func (m *HMM) Filter(s Sequence) ([]float64, error) {
	w, _, err := m.observe(s)
	if err != nil {
		return nil, err
	}
	return append([]float64(nil), w.b[(w.rows-1)*w.k:]...), nil
}

// Viterbi returns the most likely path, [T − p]: entry i is the state of observation
// p + i.
func (m *HMM) Viterbi(s Sequence) ([]int, error) {
	w, _, err := m.observe(s)
	if err != nil {
		return nil, err
	}
	e, err := newEmission(m, w.mean)
	if err != nil {
		return nil, err
	}
	k := w.k
	score, next, lb := logsOf(m.Initial), make([]float64, k), make([]float64, k)
	a := make([][]float64, k)
	for i := range a {
		a[i] = logsOf(m.Transition[i])
	}
	from := make([]int, w.rows*k)
	for t := range w.rows {
		w.logRow(e, w.spans[0], t, lb)
		for j := range k {
			best := score[j]
			if t > 0 {
				best = math.Inf(-1)
				for i := range k {
					if v := score[i] + a[i][j]; v > best {
						best, from[t*k+j] = v, i
					}
				}
			}
			next[j] = best + lb[j]
		}
		score, next = next, score
	}
	path := make([]int, w.rows)
	for j := range score {
		if score[j] > score[path[w.rows-1]] {
			path[w.rows-1] = j
		}
	}
	for t := w.rows - 1; t > 0; t-- {
		path[t-1] = from[t*k+path[t]]
	}
	return path, nil
}

// Sampler draws what may come after a history.
type Sampler struct {
	m   *HMM
	low [][]float64 // [K][d d] L of Σ = L Lᵀ
}

// Sampler returns a sampler of m.
func (m *HMM) Sampler() (*Sampler, error) {
	if err := m.check(); err != nil {
		return nil, fmt.Errorf("stats: arphmm: model: %w: %w", ErrOptions, err)
	}
	s := &Sampler{m: m}
	for k := range m.States {
		var chol mat.Cholesky
		if !chol.Factorize(symmetric(m.Cov[k])) {
			return nil, fmt.Errorf("stats: arphmm: state %d: %w: its covariance is not positive definite", k, ErrData)
		}
		var low mat.TriDense
		chol.LTo(&low)
		flat := make([]float64, m.Dim*m.Dim)
		for i := range m.Dim {
			for j := range i + 1 {
				flat[i*m.Dim+j] = low.At(i, j)
			}
		}
		s.low = append(s.low, flat)
	}
	return s, nil
}

// State draws from probabilities.
func State(p []float64, rng *rand.Rand) int {
	u := rng.Float64()
	for k, v := range p {
		if u -= v; u < 0 {
			return k
		}
	}
	for k := len(p) - 1; k > 0; k-- { // the sum of p was short of 1 by rounding
		if p[k] > 0 {
			return k
		}
	}
	return 0
}

// Next draws the state after state k, and the observation y that it makes after the
// last p, lags [p d], oldest first, which it moves on by y. Where the chain begins, k
// is −1.
func (s *Sampler) Next(k int, lags, y []float64, rng *rand.Rand) int {
	m, d := s.m, s.m.Dim
	if k < 0 {
		k = State(m.Initial, rng)
	} else {
		k = State(m.Transition[k], rng)
	}
	for r := range d {
		y[r] = m.Coef[k][r][0]
		for l := 1; l <= m.Order; l++ {
			for j := range d {
				y[r] += m.Coef[k][r][1+(l-1)*d+j] * lags[(m.Order-l)*d+j]
			}
		}
	}
	for j := range d {
		z := rng.NormFloat64()
		for r := j; r < d; r++ {
			y[r] += s.low[k][r*d+j] * z
		}
	}
	if len(lags) > 0 {
		copy(lags, lags[d:])
		copy(lags[len(lags)-d:], y)
	}
	return k
}
