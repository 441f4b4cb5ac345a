package stats

import (
	"fmt"
	"math"

	"gonum.org/v1/gonum/mat"
)

// Ordinal is a fitted model of classes 1 … K in an order, K = 2 included:
//
//	P(y ≤ k | x) = σ(α_k + β_kᵀx),  k = 1 … K−1.
//
// Proportional odds has one β for all k, which is stored K−1 times.
type Ordinal struct {
	Alpha []float64   `json:"alpha"` // [K−1]
	Beta  [][]float64 `json:"beta"`  // [K−1][p]

	LogLikelihood float64 `json:"log_likelihood"` // of the rows it was fitted to
	Residual      float64 `json:"residual"`       // largest violation of the optimum's conditions
	Iterations    int     `json:"iterations"`
}

// Classes returns K.
func (m *Ordinal) Classes() int { return len(m.Alpha) + 1 }

// Probabilities returns P(y = k | x) for each row of x, [n, K]. Where a row's α_k + β_kᵀx
// do not increase with k, which separate β allow far from the data, each is raised to the
// largest before it: the class between has probability 0 and the row still sums to 1.
// clipped counts these rows.
func (m *Ordinal) Probabilities(x *mat.Dense) (p *mat.Dense, clipped int, err error) {
	n, width := x.Dims()
	if len(m.Beta) == 0 || width != len(m.Beta[0]) {
		return nil, 0, fmt.Errorf("stats: the model has %d columns, the rows have %d", m.width(), width)
	}
	if err := finite(x); err != nil {
		return nil, 0, err
	}
	cuts := len(m.Alpha)
	p = mat.NewDense(n, cuts+1, nil)
	for i := range n {
		row, out := x.RawRowView(i), p.RawRowView(i)
		below, ok := math.Inf(-1), true
		for k := range cuts {
			eta := m.Alpha[k]
			for j, b := range m.Beta[k] {
				eta += b * row[j]
			}
			if eta < below {
				eta, ok = below, false
			}
			out[k] = between(below, eta)
			below = eta
		}
		out[cuts] = sigmoid(-below)
		if !ok {
			clipped++
		}
	}
	return p, clipped, nil
}

func (m *Ordinal) width() int {
	if len(m.Beta) == 0 {
		return 0
	}
	return len(m.Beta[0])
}

// Predict returns the likeliest class of each row, from 0.
func (m *Ordinal) Predict(x *mat.Dense) ([]int, error) {
	p, _, err := m.Probabilities(x)
	if err != nil {
		return nil, err
	}
	n, _ := p.Dims()
	out := make([]int, n)
	for i := range out {
		row := p.RawRowView(i)
		for k, v := range row {
			if v > row[out[i]] {
				out[i] = k
			}
		}
	}
	return out, nil
}

// sigmoid is σ(t) = 1 / (1 + e^−t).
func sigmoid(t float64) float64 {
	if t >= 0 {
		return 1 / (1 + math.Exp(-t))
	}
	e := math.Exp(t)
	return e / (1 + e)
}

// softplus is log(1 + e^t) = −log σ(−t).
func softplus(t float64) float64 {
	if t > 0 {
		return t + math.Log1p(math.Exp(-t))
	}
	return math.Log1p(math.Exp(t))
}

// between is σ(a) − σ(b) for a ≥ b without cancellation:
//
//	σ(a) − σ(b) = σ(a) σ(−b) (1 − e^(b−a)).
func between(b, a float64) float64 {
	if math.IsInf(b, -1) {
		return sigmoid(a)
	}
	return sigmoid(a) * sigmoid(-b) * -math.Expm1(b-a)
}
