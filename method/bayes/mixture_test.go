package bayes

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"testing"

	"gonum.org/v1/gonum/mat"
	"pgregory.net/rapid"
)

// failer is what tests and property tests have in common.
type failer interface {
	Helper()
	Errorf(format string, args ...any)
}

// near fails unless the two are the same but for a share of tol.
func near(t failer, what string, got, want, tol float64) {
	t.Helper()
	if !(math.Abs(got-want) <= tol*(1+math.Abs(want))) {
		t.Errorf("%s is %.12g, want %.12g", what, got, want)
	}
}

// drawTable draws a class of conditional distributions with its prior.
func drawTable(r *rapid.T, inputs, outcomes int) (*Table, [][]float64, []float64) {
	k := rapid.IntRange(1, 6).Draw(r, "hypotheses")
	var all [][]float64
	prior := make([]float64, k)
	for i := range k {
		prior[i] = rapid.Float64Range(0.01, 1).Draw(r, "weight")
		var h []float64
		for range inputs {
			sum, at := 0.0, len(h)
			for range outcomes {
				h = append(h, rapid.Float64Range(0.01, 1).Draw(r, "p"))
				sum += h[len(h)-1]
			}
			for j := at; j < len(h); j++ {
				h[j] /= sum
			}
		}
		all = append(all, h)
	}
	c, err := NewTable(inputs, outcomes, all)
	if err != nil {
		r.Fatal(err)
	}
	return c, all, prior
}

// The evidence is Σ w(θ) p_θ(data), and no sequence makes the regret against a hypothesis
// exceed −log of its weight.
func TestMixtureIsTheWeightedSum(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		inputs, outcomes := rapid.IntRange(1, 3).Draw(r, "inputs"), rapid.IntRange(2, 4).Draw(r, "outcomes")
		c, hypotheses, prior := drawTable(r, inputs, outcomes)
		n := rapid.IntRange(1, 30).Draw(r, "n")
		x, y := mat.NewDense(n, 1, nil), make([]int, n)
		for i := range n {
			x.Set(i, 0, float64(rapid.IntRange(0, inputs-1).Draw(r, "x")))
			y[i] = rapid.IntRange(0, outcomes-1).Draw(r, "y")
		}
		f, err := (&Mixture{Class: c, Prior: prior}).Fit(context.Background(), x, y)
		if err != nil {
			r.Fatal(err)
		}
		evidence, total := 0.0, 0.0
		joint := make([]float64, len(prior))
		for i, h := range hypotheses {
			joint[i] = prior[i]
			total += prior[i]
			for s := range n {
				joint[i] *= h[int(x.At(s, 0))*outcomes+y[s]]
			}
			evidence += joint[i]
		}
		near(r, "loss", f.Loss, -math.Log(evidence/total), 1e-10)
		sum := 0.0
		for i := range joint {
			near(r, "posterior", f.Weights[i], joint[i]/evidence, 1e-10)
			sum += f.Averaged[i]
			if bound := -math.Log(prior[i] / total); f.Regret(i) > bound+1e-9 {
				r.Errorf("regret %g against hypothesis %d of weight %g", f.Regret(i), i, prior[i]/total)
			}
		}
		near(r, "sum of averaged weights", sum, 1, 1e-10)
		near(r, "sum of a prediction", sumOf(f.Predict([]float64{0})), 1, 1e-10)
	})
}

func sumOf(v []float64) float64 {
	var s float64
	for _, x := range v {
		s += x
	}
	return s
}

// Over a fine grid of coins the mixture is Laplace's rule: a sequence with a zeros and b ones
// has probability a! b! / (a+b+1)!.
func TestCoinsAreLaplacesRule(t *testing.T) {
	y := []int{0, 1, 1, 0, 1, 1, 1, 0, 1, 1}
	f, err := (&Mixture{Class: Coins(2000)}).Fit(context.Background(), nil, y)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "loss", f.Loss, math.Log(11*120), 1e-6) // 3! 7!/11! = 1/1320
	near(t, "next", f.Predict(nil)[1], 8./12, 1e-6)
	if best := (float64(f.Best()) + 0.5) / 2000; math.Abs(best-0.7) > 1e-3 {
		t.Errorf("the best coin has %g, 7 of 10 are ones", best)
	}
}

// Summed over all sequences, weighed by the truth, the regret is within the soft bound, that
// within the weight bound, and the averaged prediction within 1/n of it.
func TestExpectedRegretIsWithinTheBounds(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		c, _, prior := drawTable(r, 1, 2)
		p := rapid.Float64Range(0.02, 0.98).Draw(r, "truth")
		truth := []float64{1 - p, p}
		n := rapid.IntRange(1, 7).Draw(r, "n")
		kl := Divergences(c, func([]float64) []float64 { return truth }, [][]float64{{0}})
		weight, _, err := WeightBound(prior, kl, n)
		if err != nil {
			r.Fatal(err)
		}
		soft, err := SoftBound(prior, kl, n)
		if err != nil {
			r.Fatal(err)
		}
		var regret, averaged float64
		for s := range 1 << n {
			y, prob := make([]int, n), 1.0
			for i := range y {
				y[i] = s >> i & 1
				prob *= truth[y[i]]
			}
			f, err := (&Mixture{Class: c, Prior: prior}).Fit(context.Background(), mat.NewDense(n, 1, nil), y)
			if err != nil {
				r.Fatal(err)
			}
			regret += prob * (f.Loss + math.Log(prob))
			averaged += prob * Divergence(truth, f.Averages([]float64{0}))
		}
		one, _ := PredictionBound(soft, n)
		if regret > soft+1e-9 || soft > weight+1e-9 || averaged > one+1e-9 {
			r.Errorf("regret %g, soft bound %g, weight bound %g; averaged prediction %g, bound %g", regret, soft, weight, averaged, one)
		}
	})
}

// The bound is the least over any ε, tried one by one.
func TestWeightBoundIsTheLeast(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	prior, kl := make([]float64, 50), make([]float64, 50)
	for i := range prior {
		prior[i], kl[i] = rng.Float64(), math.Floor(8*rng.Float64())/8
	}
	for _, n := range []int{0, 1, 10, 1000} {
		got, _, err := WeightBound(prior, kl, n)
		if err != nil {
			t.Fatal(err)
		}
		want := math.Inf(1)
		for eps := 0.; eps <= 1; eps += 1. / 1024 {
			w := 0.0
			for i, d := range kl {
				if d <= eps {
					w += prior[i] / sumOf(prior)
				}
			}
			want = min(want, -math.Log(w)+float64(n)*eps)
		}
		near(t, "bound", got, want, 1e-12)
	}
}

// A network with weights of 0 or on one unit is many networks; putting these together
// changes no prediction.
func TestDistinctFunctionsMixTheSame(t *testing.T) {
	c, err := NewQuantisedNets(3, 2, []float64{-1, 0, 1}, 2)
	if err != nil {
		t.Fatal(err)
	}
	if c.Len() != 6561 {
		t.Fatalf("%d networks, want 3^8", c.Len())
	}
	xs := [][]float64{{1, -1, -1}, {1, -1, 1}, {1, 1, -1}, {1, 1, 1}}
	table, weights := Distinct(c, xs)
	if table.Len() > 1000 {
		t.Errorf("%d distinct functions of %d networks", table.Len(), c.Len())
	}
	near(t, "sum of weights", sumOf(weights), 1, 1e-12)
	rng := rand.New(rand.NewPCG(2, 2))
	n := 40
	x, at, y := mat.NewDense(n, 3, nil), mat.NewDense(n, 1, nil), make([]int, n)
	for i := range n {
		k := rng.IntN(4)
		x.SetRow(i, xs[k])
		at.Set(i, 0, float64(k))
		y[i] = rng.IntN(2)
	}
	all, err := (&Mixture{Class: c}).Fit(context.Background(), x, y)
	if err != nil {
		t.Fatal(err)
	}
	few, err := (&Mixture{Class: table, Prior: weights}).Fit(context.Background(), at, y)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "loss", few.Loss, all.Loss, 1e-8)
	near(t, "prediction", few.Predict([]float64{2})[1], all.Predict(xs[2])[1], 1e-7)
	// One network by hand: U of unit 1 is (−1, 0, 1), of unit 2 (0, 1, 1), v (1, −1).
	out := make([]float64, 2*c.Len())
	unit := func(u0, u1, u2, v int) int { return 3*(u0+1+3*(u1+1)+9*(u2+1)) + v + 1 }
	c.LogProbabilities(out, []float64{0.3, -0.2, 0.9})
	odds := 2*math.Tanh(2*(-0.3+0.9)) - 2*math.Tanh(2*(-0.2+0.9))
	near(t, "log probability", out[2*(27*3*unit(-1, 0, 1, 1)+unit(0, 1, 1, -1))+1], -math.Log1p(math.Exp(-odds)), 1e-12)
}

func TestMixtureRefuses(t *testing.T) {
	ctx := context.Background()
	certain, err := NewTable(1, 2, [][]float64{{1, 0}})
	if err != nil {
		t.Fatal(err)
	}
	fit := func(m Mixture, x *mat.Dense, y ...int) error { _, err := m.Fit(ctx, x, y); return err }
	_, grid := NewQuantisedNets(10, 10, []float64{-1, 1}, 1)
	_, levels := NewQuantisedNets(2, 1, []float64{1}, math.NaN())
	_, table := NewTable(1, 2, [][]float64{{0.5, 0.6}})
	_, _, prior := WeightBound([]float64{0, 0}, []float64{1, 1}, 5)
	for name, c := range map[string]struct{ err, is error }{
		"no class":             {fit(Mixture{}, nil, 1), ErrOptions},
		"prior's length":       {fit(Mixture{Class: Coins(3), Prior: []float64{1}}, nil, 1), ErrOptions},
		"negative prior":       {fit(Mixture{Class: Coins(2), Prior: []float64{1, -1}}, nil, 1), ErrOptions},
		"prior of nothing":     {fit(Mixture{Class: Coins(2), Prior: []float64{0, 0}}, nil, 1), ErrOptions},
		"no outcomes":          {fit(Mixture{Class: Coins(2)}, nil), ErrData},
		"unknown outcome":      {fit(Mixture{Class: Coins(2)}, nil, 0, 2), ErrData},
		"impossible outcome":   {fit(Mixture{Class: certain}, mat.NewDense(1, 1, nil), 1), ErrData},
		"an input of no table": {fit(Mixture{Class: certain}, mat.NewDense(1, 1, []float64{4}), 0), ErrData},
		"inputs' number":       {fit(Mixture{Class: certain}, mat.NewDense(2, 1, nil), 0), ErrData},
		"inputs not finite":    {fit(Mixture{Class: certain}, mat.NewDense(1, 1, []float64{math.NaN()}), 0), ErrData},
		"too many networks":    {grid, ErrOptions},
		"levels":               {levels, ErrOptions},
		"no probabilities":     {table, ErrOptions},
		"bound without prior":  {prior, ErrOptions},
	} {
		if !errors.Is(c.err, c.is) {
			t.Errorf("%s: %v, want %v", name, c.err, c.is)
		}
	}
	var outcome *OutcomeError
	if err := fit(Mixture{Class: certain}, mat.NewDense(2, 1, nil), 0, 1); !errors.As(err, &outcome) || outcome.Row != 1 {
		t.Errorf("%v, want the second outcome named", err)
	}
	stopped, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := (&Mixture{Class: Coins(2)}).Fit(stopped, nil, []int{1}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v after cancelling", err)
	}
}
