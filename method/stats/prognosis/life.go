package prognosis

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"gonum.org/v1/gonum/mat"

	"tare/method/stats"
)

// Prediction is a remaining useful life in cycles, with the ends of its interval.
type Prediction struct{ Life, Low, High float64 }

// Simulated predicts by the model of the indicator: from the states that the unit's
// history makes likely it draws how the indicator may go on, until it falls to the
// threshold. The life is the median over Draws, the interval 5 % to 95 % of them.
type Simulated struct {
	Model     *stats.HMM // of the indicator
	Threshold float64    // the indicator's value at failure
	Draws     int        // (500)
	Horizon   int        // a draw that lasts longer counts as this long (500)
	Seed      uint64
}

// Threshold is the mean of the indicators' last values, over units that failed.
func Threshold(indicators [][]float64) float64 {
	var sum float64
	for _, h := range indicators {
		sum += h[len(h)-1]
	}
	return sum / float64(len(indicators))
}

// Predict predicts a unit's life from its indicator.
func (p Simulated) Predict(ctx context.Context, indicator []float64) (Prediction, error) {
	if p.Draws == 0 {
		p.Draws = 500
	}
	if p.Horizon == 0 {
		p.Horizon = 500
	}
	filter, err := p.Model.Filter(stats.Sequence{Y: column(indicator)})
	if err != nil {
		return Prediction{}, fmt.Errorf("prognosis: %w", err)
	}
	sampler, err := p.Model.Sampler()
	if err != nil {
		return Prediction{}, fmt.Errorf("prognosis: %w", err)
	}
	rng := rand.New(rand.NewPCG(p.Seed, uint64(len(indicator))))
	lives := make([]float64, p.Draws)
	lags, y := make([]float64, p.Model.Order), make([]float64, 1)
	for i := range lives {
		if err := ctx.Err(); err != nil {
			return Prediction{}, fmt.Errorf("prognosis: stopped after %d of %d draws: %w", i, p.Draws, err)
		}
		copy(lags, indicator[len(indicator)-p.Model.Order:])
		state := stats.State(filter, rng)
		life := 0
		for life < p.Horizon {
			life++
			if state = sampler.Next(state, lags, y, rng); y[0] <= p.Threshold {
				break
			}
		}
		lives[i] = float64(life)
	}
	return summary(lives), nil
}

// Similar predicts by the likeness of histories: the last Window rows of the unit are
// laid along every unit that failed, and each of those votes for the life that it had
// left where it is nearest,
//
//	weight = exp( −½ (distance / (2 · least distance))² ),   distance = root mean square.
//
// The life is the weighted median of the votes, the interval 5 % to 95 % of their weight.
// Rows may be the indicator itself, or the probabilities of a model's states.
type Similar struct {
	Window  int          // rows (30)
	Library []*mat.Dense // of units that failed, [T, d] each
}

// Predict predicts a unit's life from its rows.
func (p Similar) Predict(rows *mat.Dense) (Prediction, error) {
	if p.Window == 0 {
		p.Window = 30
	}
	n, d := rows.Dims()
	window := min(p.Window, n)
	var lives, distances []float64
	least := math.Inf(1)
	for i, past := range p.Library {
		m, width := past.Dims()
		if width != d {
			return Prediction{}, fmt.Errorf("prognosis: %w: unit %d of the library has %d columns, want %d", ErrData, i+1, width, d)
		}
		best, at := math.Inf(1), -1
		for end := window; end <= m; end++ {
			var s float64
			for r := range window {
				a, b := rows.RawRowView(n-window+r), past.RawRowView(end-window+r)
				for j, v := range a {
					s += (v - b[j]) * (v - b[j])
				}
			}
			if s < best {
				best, at = s, end
			}
		}
		if at < 0 {
			continue // it did not last as long as the window
		}
		lives, distances = append(lives, float64(m-at)), append(distances, math.Sqrt(best/float64(window*d)))
		least = min(least, distances[len(distances)-1])
	}
	if lives == nil {
		return Prediction{}, fmt.Errorf("prognosis: %w: no unit of the library lasted %d rows", ErrData, window)
	}
	weights := make([]float64, len(lives))
	for i, v := range distances {
		z := v / max(2*least, 1e-12)
		weights[i] = math.Exp(-z * z / 2)
	}
	return Prediction{quantile(lives, weights, 0.5), quantile(lives, weights, 0.05), quantile(lives, weights, 0.95)}, nil
}

func summary(lives []float64) Prediction {
	ones := make([]float64, len(lives))
	for i := range ones {
		ones[i] = 1
	}
	return Prediction{quantile(lives, ones, 0.5), quantile(lives, ones, 0.05), quantile(lives, ones, 0.95)}
}

// quantile is the least value that q of the weight is at or under.
func quantile(values, weights []float64, q float64) float64 {
	order := make([]int, len(values))
	var total float64
	for i := range order {
		order[i] = i
		total += weights[i]
	}
	slices.SortStableFunc(order, func(a, b int) int {
		switch {
		case values[a] < values[b]:
			return -1
		case values[a] > values[b]:
			return 1
		}
		return 0
	})
	var sum float64
	for _, i := range order {
		if sum += weights[i]; sum >= q*total {
			return values[i]
		}
	}
	return values[order[len(order)-1]]
}

// column is a sequence of single values as rows.
func column(v []float64) *mat.Dense { return mat.NewDense(len(v), 1, slices.Clone(v)) }
