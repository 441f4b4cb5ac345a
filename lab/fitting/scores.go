package fitting

import (
	"fmt"
	"math"
	"slices"
)

// Scores compare predictions with what happened. Of classes: the mean negative
// log-likelihood, the share of rows whose likeliest class is right, and of the last
// class, the rare one, the squared error of its probability (Brier), its share, and the
// mean probability that was given to it. Of numbers: the root of the mean squared error,
// the mean absolute error, and the share of the variance explained.
type Scores struct {
	Rows      int      `json:"rows"`
	LogLoss   *float64 `json:"log_loss,omitempty"`
	Accuracy  *float64 `json:"accuracy,omitempty"`
	Brier     *float64 `json:"last_class_brier,omitempty"`
	Share     *float64 `json:"last_class_share,omitempty"`
	Predicted *float64 `json:"last_class_predicted,omitempty"`
	RMSE      *float64 `json:"rmse,omitempty"`
	MAE       *float64 `json:"mae,omitempty"`
	R2        *float64 `json:"r2,omitempty"`
}

// leastProbability stands for 0 in a logarithm.
const leastProbability = 1e-12

func scoresOf(s *Prediction, p *Problem) *Scores {
	if s.Classes != nil {
		return classScores(s, p)
	}
	return numberScores(s, p)
}

// classScores takes the prediction's classes: those of the response, or the rest and the
// last.
func classScores(s *Prediction, p *Problem) *Scores {
	var loss, right, brier, share, said float64
	n := float64(len(p.Y))
	last := len(s.Classes) - 1
	for i, y := range p.Y {
		k := min(int(y), last)
		if last == 1 && len(p.Classes) > 2 {
			k = 0
			if int(y) == len(p.Classes)-1 {
				k = 1
			}
		}
		row := s.Probabilities[i]
		loss -= math.Log(math.Max(row[k], leastProbability)) / n
		if likeliest(row) == k {
			right += 1 / n
		}
		hit := 0.0
		if k == last {
			hit = 1
		}
		brier += (row[last] - hit) * (row[last] - hit) / n
		share += hit / n
		said += row[last] / n
	}
	return &Scores{Rows: len(p.Y), LogLoss: &loss, Accuracy: &right, Brier: &brier, Share: &share, Predicted: &said}
}

func likeliest(row []float64) int {
	best := 0
	for k, v := range row {
		if v > row[best] {
			best = k
		}
	}
	return best
}

func numberScores(s *Prediction, p *Problem) *Scores {
	var ss, abs, mean, total float64
	n := float64(len(p.Y))
	for i, y := range p.Y {
		e := y - s.Values[i][0]
		ss += e * e
		abs += math.Abs(e) / n
		mean += y / n
	}
	for _, y := range p.Y {
		total += (y - mean) * (y - mean)
	}
	rmse := math.Sqrt(ss / n)
	out := &Scores{Rows: len(p.Y), RMSE: &rmse, MAE: &abs}
	if total > 0 {
		r2 := 1 - ss/total
		out.R2 = &r2
	}
	return out
}

// examined draws what predictions say against what happened.
func examined(s *Prediction, p *Problem, keptOut bool) []Figure {
	which := "rows fitted"
	if keptOut {
		which = "rows kept out"
	}
	if s.Classes != nil {
		return []Figure{calibration(s, p, which)}
	}
	var x []float64
	for i := range p.Y {
		x = append(x, s.Values[i][0])
	}
	low, high := min(slices.Min(x), slices.Min(p.Y)), max(slices.Max(x), slices.Max(p.Y))
	return []Figure{{
		Name: "predicted", Title: fmt.Sprintf("Predicted and observed, %d %s", len(x), which),
		X: "predicted " + p.Response, Y: "observed " + p.Response,
		Dots:  []Series{{X: x, Y: p.Y}},
		Lines: []Series{{Name: "equal", X: []float64{low, high}, Y: []float64{low, high}, Dashed: true}},
	}}
}

// calibration bins rows by the probability of the last class, as many rows a bin, and
// sets the mean probability against the share that was of it, with Wilson's interval.
func calibration(s *Prediction, p *Problem, which string) Figure {
	const bins = 10
	last := len(s.Classes) - 1
	order := make([]int, len(p.Y))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		switch x, y := s.Probabilities[a][last], s.Probabilities[b][last]; {
		case x < y:
			return -1
		case x > y:
			return 1
		}
		return 0
	})
	var dots Series
	k := min(bins, len(order))
	top := 0.0
	for b := range k {
		rows := order[b*len(order)/k : (b+1)*len(order)/k]
		n := float64(len(rows))
		var said, hits float64
		for _, i := range rows {
			said += s.Probabilities[i][last] / n
			if int(p.Y[i]) == len(p.Classes)-1 {
				hits++
			}
		}
		low, high := wilson(hits, n)
		dots.X, dots.Y = append(dots.X, said), append(dots.Y, hits/n)
		dots.Low, dots.High = append(dots.Low, low), append(dots.High, high)
		top = max(top, said, high)
	}
	return Figure{
		Name: "calibration", Title: fmt.Sprintf("Calibration of %s = %s, %d %s", p.Response, p.Classes[len(p.Classes)-1], len(p.Y), which),
		X: "predicted probability", Y: "observed share, 95 % interval", Dots: []Series{dots},
		Lines: []Series{{Name: "calibrated", X: []float64{0, top}, Y: []float64{0, top}, Dashed: true}},
	}
}

// wilson is the 95 % interval of a share (Wilson 1927).
func wilson(hits, n float64) (low, high float64) {
	const z = 1.959963984540054
	share := hits / n
	centre := (share + z*z/(2*n)) / (1 + z*z/n)
	half := z / (1 + z*z/n) * math.Sqrt(share*(1-share)/n+z*z/(4*n*n))
	return math.Max(0, centre-half), math.Min(1, centre+half)
}
