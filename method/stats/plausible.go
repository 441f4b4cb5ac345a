package stats

import (
	"fmt"
	"math"

	"gonum.org/v1/gonum/mat"
)

// Segment is what an expert says of a stretch of a sequence: from row From up to and
// without row To, State is sure, and every other state as plausible as Other.
type Segment struct {
	From, To int
	State    int
	Other    float64 // in [0, 1]: 0 excludes the others, 1 says nothing
}

// Plausible makes plausibilities [n, K] of segments; rows that none covers know nothing,
// and of segments that overlap the later one counts.
func Plausible(n, states int, segments []Segment) (*mat.Dense, error) {
	omega := mat.NewDense(n, states, nil)
	for t := range n {
		for k := range states {
			omega.Set(t, k, 1)
		}
	}
	for i, s := range segments {
		if s.From < 0 || s.To > n || s.From > s.To || s.State < 0 || s.State >= states || !(s.Other >= 0 && s.Other <= 1) {
			return nil, fmt.Errorf("stats: %w: segment %d, %+v, does not fit %d rows and %d states", ErrData, i+1, s, n, states)
		}
		for t := s.From; t < s.To; t++ {
			for k := range states {
				omega.Set(t, k, s.Other)
			}
			omega.Set(t, s.State, 1)
		}
	}
	return omega, nil
}

// OneHot makes plausibilities that know every state; those of a supervised fit.
func OneHot(path []int, states int) *mat.Dense {
	omega := mat.NewDense(len(path), states, nil)
	for t, k := range path {
		omega.Set(t, k, 1)
	}
	return omega
}

// Degrading makes plausibilities [n, K] of a unit that runs to failure: the states are
// stages of wear, of about equal length, and state k is the more plausible the nearer the
// life u = (t + ½)/n is to its middle,
//
//	ω_t(k) = exp( −½ ((u − (k + ½)/K) / width)² ) / its largest over k
//
// A width of 1/K or more is a loose opinion.
func Degrading(n, states int, width float64) (*mat.Dense, error) {
	if n < 1 || states < 1 || !(width > 0) {
		return nil, fmt.Errorf("stats: %w: plausibilities of %d rows, %d states and width %v", ErrData, n, states, width)
	}
	omega := mat.NewDense(n, states, nil)
	for t := range n {
		row, top := omega.RawRowView(t), math.Inf(-1)
		for k := range row {
			z := ((float64(t)+0.5)/float64(n) - (float64(k)+0.5)/float64(states)) / width
			row[k] = -z * z / 2
			top = max(top, row[k])
		}
		for k := range row {
			row[k] = math.Exp(row[k] - top)
		}
	}
	return omega, nil
}
