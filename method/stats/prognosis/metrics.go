package prognosis

import "math"

// With d the predicted life less the true one, in cycles, late predictions are positive.
// They cost more than early ones (Saxena et al. 2008): the score is the sum of
//
//	e^{−d/13} − 1  for d < 0,    e^{d/10} − 1  for d ≥ 0.

// Score is the sum over units; 0 is best.
func Score(predicted, truth []float64) (s float64) {
	for i, p := range predicted {
		if d := p - truth[i]; d < 0 {
			s += math.Expm1(-d / 13)
		} else {
			s += math.Expm1(d / 10)
		}
	}
	return s
}

// RMSE is the root mean squared error.
func RMSE(predicted, truth []float64) float64 {
	var s float64
	for i, p := range predicted {
		s += (p - truth[i]) * (p - truth[i])
	}
	return math.Sqrt(s / float64(len(predicted)))
}

// Accuracy is the share of predictions at most 13 cycles early and 10 late: the true
// life less the predicted is in [−10, 13].
func Accuracy(predicted, truth []float64) float64 {
	var n float64
	for i, p := range predicted {
		if e := truth[i] - p; e >= -10 && e <= 13 {
			n++
		}
	}
	return n / float64(len(predicted))
}

// Coverage is the share of true lives within their intervals.
func Coverage(predictions []Prediction, truth []float64) float64 {
	var n float64
	for i, p := range predictions {
		if truth[i] >= p.Low && truth[i] <= p.High {
			n++
		}
	}
	return n / float64(len(predictions))
}
