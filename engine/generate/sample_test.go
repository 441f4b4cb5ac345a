package generate_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"tare/engine/generate"
)

// exact returns the probabilities that the options give: the softmax at the temperature,
// of which the k likeliest are kept, of which as few of the likeliest as make up p.
func exact(logits []float32, o generate.Options) []float64 {
	probs := make([]float64, len(logits))
	order := make([]int, len(logits))
	for i, v := range logits {
		probs[i], order[i] = math.Exp(float64(v)/o.Temperature), i
	}
	slices.SortFunc(order, func(a, b int) int { return int(math.Copysign(1, float64(logits[b]-logits[a]))) })
	if o.TopK > 0 && o.TopK < len(order) {
		for _, i := range order[o.TopK:] {
			probs[i] = 0
		}
	}
	normalise(probs)
	if o.TopP > 0 {
		mass := 0.0
		for _, i := range order {
			if mass >= o.TopP {
				probs[i] = 0
			}
			mass += probs[i]
		}
	}
	normalise(probs)
	return probs
}

func normalise(p []float64) {
	var sum float64
	for _, v := range p {
		sum += v
	}
	for i := range p {
		p[i] /= sum
	}
}

// Tokens come as often as the exact distribution says, to four standard errors, and those
// that are cut off never.
func TestSampleFrequencies(t *testing.T) {
	const draws = 20_000
	logits := []float32{0.3, 2, -1, 1.1, 0.9, -4, 1.6, 0} // no two alike
	for _, o := range []generate.Options{
		{Temperature: 1},
		{Temperature: 0.5},
		{Temperature: 3},
		{Temperature: 1, TopK: 3},
		{Temperature: 2, TopK: 2},
		{Temperature: 1, TopK: 100},
		{Temperature: 1, TopP: 0.6},
		{Temperature: 1, TopP: 0.95},
		{Temperature: 1, TopP: 1},
		{Temperature: 2, TopP: 0.5},
		{Temperature: 1, TopP: 1e-9},
		{Temperature: 1.5, TopK: 4, TopP: 0.7},
	} {
		rng, counts, before := rand.New(rand.NewPCG(11, 12)), make([]int, len(logits)), slices.Clone(logits)
		for range draws {
			counts[generate.Sample(logits, o, rng)]++
		}
		if !slices.Equal(logits, before) {
			t.Fatalf("%+v: the scores changed", o)
		}
		for i, p := range exact(logits, o) {
			got, bound := float64(counts[i])/draws, 4*math.Sqrt(p*(1-p)/draws)
			if math.Abs(got-p) > bound {
				t.Errorf("%+v: token %d comes in %.4f of draws, want %.4f ± %.4f", o, i, got, p, bound)
			}
		}
	}
}

// Temperature zero and a top-k of one take the largest score, the first of equal ones,
// and draw no number.
func TestGreedySample(t *testing.T) {
	for _, c := range []struct {
		logits []float32
		want   int32
	}{{[]float32{1, 3, 2}, 1}, {[]float32{-5}, 0}, {[]float32{2, 7, 7, 1, 7}, 1}, {[]float32{float32(math.Inf(-1)), -1e30}, 1}} {
		for _, o := range []generate.Options{{}, {TopK: 3, TopP: 0.5}, {Temperature: 5, TopK: 1}} {
			if got := generate.Sample(c.logits, o, nil); got != c.want {
				t.Errorf("%+v of %v: %d, want %d", o, c.logits, got, c.want)
			}
		}
	}
}

// Scores so far apart that e^score overflows, and tokens forbidden by −∞, are no matter.
func TestSampleOfLargeScores(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	logits := []float32{3e38, -3e38, float32(math.Inf(-1)), 3e38}
	seen := [4]int{}
	for range 1000 {
		seen[generate.Sample(logits, generate.Options{Temperature: 0.01}, rng)]++
	}
	if seen[1]+seen[2] != 0 || seen[0] < 400 || seen[3] < 400 {
		t.Errorf("%v of 1000 draws, want half for each of the two largest", seen)
	}
}
