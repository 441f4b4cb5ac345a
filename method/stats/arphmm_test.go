package stats

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"gonum.org/v1/gonum/mat"
	"pgregory.net/rapid"
)

// hmmlearn is the golden file of parity/hmm.py.
type hmmlearn struct {
	Sequences [][][]float64
	Start     struct {
		Initial           []float64
		Transition, Means [][]float64
	}
	Fits map[string]struct {
		History, Initial             []float64
		Score                        float64
		Transition, Means, Posterior [][]float64
		Covariances                  [][][]float64
		Path                         []int
	}
}

func dense(rows [][]float64) *mat.Dense {
	m := mat.NewDense(len(rows), len(rows[0]), nil)
	for i, r := range rows {
		m.SetRow(i, r)
	}
	return m
}

func near(t *testing.T, what string, got, want, tol float64) {
	t.Helper()
	if !(math.Abs(got-want) <= tol*max(1, math.Abs(want))) {
		t.Errorf("%s is %.12g, want %.12g", what, got, want)
	}
}

// At order 0 the model is hmmlearn's, iteration by iteration.
func TestOrderZeroIsHmmlearns(t *testing.T) {
	raw, err := os.ReadFile("testdata/hmmlearn.json")
	if err != nil {
		t.Fatal(err)
	}
	var g hmmlearn
	if err := json.Unmarshal(raw, &g); err != nil {
		t.Fatal(err)
	}
	var sequences []Sequence
	for _, s := range g.Sequences {
		sequences = append(sequences, Sequence{Y: dense(s)})
	}
	for kind, want := range g.Fits {
		start := &HMM{States: 3, Dim: 2, Initial: g.Start.Initial, Transition: g.Start.Transition}
		for _, m := range g.Start.Means {
			start.Coef = append(start.Coef, [][]float64{{m[0]}, {m[1]}})
			start.Cov = append(start.Cov, identity(2))
		}
		m, err := ARPHMM{States: 3, Covariance: kind, Start: start, MaxIter: len(want.History), Tol: 1e-300}.Fit(context.Background(), sequences)
		var stopped *StoppedError
		if m == nil || !errors.As(err, &stopped) {
			t.Fatal(err)
		}
		for i, v := range want.History {
			near(t, kind+" log-likelihood", m.Trace[i], v, 1e-10)
		}
		near(t, kind+" score", m.LogLikelihood, want.Score, 1e-10)
		for k := range 3 {
			near(t, kind+" π", m.Initial[k], want.Initial[k], 1e-8)
			for j := range 3 {
				near(t, kind+" A", m.Transition[k][j], want.Transition[k][j], 1e-8)
			}
			for i := range 2 {
				near(t, kind+" mean", m.Coef[k][i][0], want.Means[k][i], 1e-8)
				for j := range 2 {
					near(t, kind+" covariance", m.Cov[k][i][j], want.Covariances[k][i][j], 1e-8)
				}
			}
		}
		posterior, err := m.Posterior(sequences[1])
		if err != nil {
			t.Fatal(err)
		}
		for i, r := range want.Posterior {
			for k, v := range r {
				near(t, kind+" posterior", posterior.At(i, k), v, 1e-8)
			}
		}
		path, err := m.Viterbi(sequences[1])
		if err != nil {
			t.Fatal(err)
		}
		for i, s := range want.Path {
			if path[i] != s {
				t.Fatalf("%s: state %d at %d, hmmlearn finds %d", kind, path[i], i, s)
			}
		}
	}
}

// wander draws a sequence of a switching autoregression, and its states.
func wander(rng *rand.Rand, n, k, p, d int) (*mat.Dense, []int) {
	y, states := mat.NewDense(n, d, nil), make([]int, n)
	s := rng.IntN(k)
	for t := range n {
		if rng.Float64() < 0.1 {
			s = rng.IntN(k)
		}
		states[t] = s
		for j := range d {
			v := 2*float64(s) + (0.3+0.4*float64(s))*rng.NormFloat64()
			for l := 1; l <= min(p, t); l++ {
				v += (0.5 - 0.2*float64(s%2)) / float64(l) * y.At(t-l, j)
			}
			y.Set(t, j, v)
		}
	}
	return y, states
}

// The objective never falls, whatever is plausible, for every order, kind and ridge.
func TestLikelihoodNeverFalls(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		k, p, d := rapid.IntRange(1, 4).Draw(r, "states"), rapid.IntRange(0, 2).Draw(r, "order"), rapid.IntRange(1, 2).Draw(r, "columns")
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(r, "seed"), 1))
		var sequences []Sequence
		for range rapid.IntRange(1, 3).Draw(r, "sequences") {
			n := 60 + rng.IntN(60)
			y, _ := wander(rng, n, k, p, d)
			s := Sequence{Y: y}
			if rng.IntN(2) == 0 {
				s.Plausibility = mat.NewDense(n, k, nil)
				for t := range n {
					for j := range k {
						s.Plausibility.Set(t, j, math.Pow(rng.Float64(), 3))
					}
					s.Plausibility.Set(t, rng.IntN(k), 1)
				}
			}
			sequences = append(sequences, s)
		}
		o := ARPHMM{
			States: k, Order: p, MaxIter: 25, Seed: rng.Uint64(), LeftRight: rapid.Bool().Draw(r, "left to right"),
			Ridge:      rapid.SampledFrom([]float64{0, 0.1, 5}).Draw(r, "ridge"),
			Covariance: rapid.SampledFrom([]string{"full", "diagonal"}).Draw(r, "covariance"),
		}
		m, err := o.Fit(context.Background(), sequences)
		if errors.Is(err, ErrData) { // a state that collapsed, which is said
			return
		}
		if m == nil {
			r.Fatal(err)
		}
		for i := 1; i < len(m.Trace); i++ {
			if m.Trace[i] < m.Trace[i-1]-1e-9*math.Abs(m.Trace[i-1]) {
				r.Fatalf("iteration %d: %.15g after %.15g", i, m.Trace[i], m.Trace[i-1])
			}
		}
	})
}

// Plausibilities of 1 know nothing.
func TestAllPlausibleIsTheARHMM(t *testing.T) {
	y, _ := wander(rand.New(rand.NewPCG(3, 4)), 300, 3, 2, 2)
	ones := mat.NewDense(300, 3, nil)
	ones.Apply(func(int, int, float64) float64 { return 1 }, ones)
	o := ARPHMM{States: 3, Order: 2, MaxIter: 20, Seed: 5}
	a, _ := o.Fit(context.Background(), []Sequence{{Y: y}})
	o.Start = a
	b, _ := o.Fit(context.Background(), []Sequence{{Y: y}})
	c, _ := o.Fit(context.Background(), []Sequence{{Y: y, Plausibility: ones}})
	if a == nil || b == nil || c == nil || len(b.Trace) != len(c.Trace) {
		t.Fatal("a fit failed")
	}
	for i := range b.Trace {
		near(t, "log-likelihood", c.Trace[i], b.Trace[i], 1e-13)
	}
}

// With the states known, each state's coefficients are its least squares, and transitions
// are counted.
func TestKnownStatesAreASupervisedFit(t *testing.T) {
	const n, k, p = 400, 3, 2
	y, states := wander(rand.New(rand.NewPCG(6, 7)), n, k, p, 1)
	m, err := ARPHMM{States: k, Order: p}.Fit(context.Background(), []Sequence{{Y: y, Plausibility: OneHot(states, k)}})
	if err != nil {
		t.Fatal(err)
	}
	for s := range k {
		var x, target []float64
		var moved [k]float64
		var stays float64
		for i := p; i < n; i++ {
			if states[i] == s {
				x = append(x, 1, y.At(i-1, 0), y.At(i-2, 0))
				target = append(target, y.At(i, 0))
				if i+1 < n {
					moved[states[i+1]]++
					stays++
				}
			}
		}
		var phi mat.Dense
		if err := phi.Solve(mat.NewDense(len(target), 3, x), mat.NewDense(len(target), 1, target)); err != nil {
			t.Fatal(err)
		}
		var left float64
		for i, v := range target {
			r := v
			for j := range 3 {
				r -= phi.At(j, 0) * x[3*i+j]
			}
			left += r * r / float64(len(target))
		}
		for j := range 3 {
			near(t, "coefficient", m.Coef[s][0][j], phi.At(j, 0), 1e-9)
		}
		near(t, "variance", m.Cov[s][0][0], left, 1e-9)
		for j := range k {
			near(t, "transition", m.Transition[s][j], moved[j]/stays, 1e-12)
		}
	}
}

// log L and posteriors are those of a sum over all paths, also where scaled
// probabilities underflow.
func TestRecursionsAreSumsOverPaths(t *testing.T) {
	m := &HMM{
		States: 2, Order: 1, Dim: 1, Initial: []float64{1, 0}, Transition: [][]float64{{0.7, 0.3}, {0, 1}},
		Coef: [][][]float64{{{0, 0.5}}, {{1, -0.2}}}, Cov: [][][]float64{{{0.5}}, {{2}}},
	}
	for _, far := range []float64{1, 60} { // at 60 state 0 makes the next value e^−3600 less likely than 1 does
		y := []float64{0.3, far, 0.2, 0.9, -0.5, 0.1}
		omega := mat.NewDense(6, 2, []float64{1, 1, 1, 0.5, 1, 1, 0.3, 1, 1, 1, 1, 0.2})
		var paths, weights []float64
		n := len(y) - 1
		for code := range 1 << n {
			log := 0.0
			before := -1
			for i := range n {
				s := code >> i & 1
				if before < 0 {
					log += math.Log(m.Initial[s])
				} else {
					log += math.Log(m.Transition[before][s])
				}
				e := y[i+1] - m.Coef[s][0][0] - m.Coef[s][0][1]*y[i]
				v := m.Cov[s][0][0]
				log += -0.5*(math.Log(2*math.Pi*v)+e*e/v) + math.Log(omega.At(i+1, s))
				before = s
			}
			paths, weights = append(paths, float64(code)), append(weights, log)
		}
		total := logSum(weights)
		s := Sequence{Y: mat.NewDense(6, 1, y), Plausibility: omega}
		got, err := m.Score(s)
		if err != nil {
			t.Fatal(err)
		}
		near(t, "log L", got, total, 1e-12)
		posterior, err := m.Posterior(s)
		if err != nil {
			t.Fatal(err)
		}
		for i := range n {
			var one float64
			for c, log := range weights {
				if int(paths[c])>>i&1 == 1 {
					one += math.Exp(log - total)
				}
			}
			near(t, "posterior", posterior.At(i, 1), one, 1e-12)
		}
	}
}

func TestSamplerDrawsFromTheModel(t *testing.T) {
	m := &HMM{
		States: 1, Order: 1, Dim: 2, Initial: []float64{1}, Transition: [][]float64{{1}},
		Coef: [][][]float64{{{1, 0.5, 0}, {0, 0, 0.2}}}, Cov: [][][]float64{{{1, 0.6}, {0.6, 2}}},
	}
	s, err := m.Sampler()
	if err != nil {
		t.Fatal(err)
	}
	const n = 20000
	rng := rand.New(rand.NewPCG(1, 1))
	rows := mat.NewDense(n, 2, nil)
	lags, state := []float64{2, 0}, -1
	for i := range n {
		state = s.Next(state, lags, rows.RawRowView(i), rng)
	}
	fit, err := ARPHMM{States: 1, Order: 1}.Fit(context.Background(), []Sequence{{Y: rows}})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		for j := range 3 {
			near(t, "coefficient", fit.Coef[0][i][j], m.Coef[0][i][j], 0.05)
		}
		for j := range 2 {
			near(t, "covariance", fit.Cov[0][i][j], m.Cov[0][i][j], 0.06)
		}
	}
}

func TestBadSequencesAreNamed(t *testing.T) {
	good, _ := wander(rand.New(rand.NewPCG(8, 9)), 50, 2, 0, 2)
	hole := mat.DenseCopyOf(good)
	hole.Set(6, 1, math.NaN())
	flat := mat.NewDense(50, 2, nil)
	flat.SetCol(0, mat.Col(nil, 0, good))
	none := OneHot(make([]int, 50), 2)
	none.Set(9, 0, 0)
	for _, c := range []struct {
		o    ARPHMM
		s    []Sequence
		want string
	}{
		{ARPHMM{}, nil, "no sequence"},
		{ARPHMM{}, []Sequence{{Y: hole}}, "sequence 1, row 7, column 2 is NaN"},
		{ARPHMM{}, []Sequence{{Y: flat}}, "column 2 is constant"},
		{ARPHMM{Order: 3}, []Sequence{{Y: good}, {Y: mat.NewDense(3, 2, nil)}}, "sequence 2 has 3 rows, order 3 needs at least 4"},
		{ARPHMM{States: 2}, []Sequence{{Y: good, Plausibility: none}}, "row 10: no state is plausible"},
		{ARPHMM{}, []Sequence{{Y: good}, {Y: mat.NewDense(5, 1, nil)}}, "sequence 2 has 1 columns, want 2"},
		{ARPHMM{States: -1, Ridge: -2}, []Sequence{{Y: good}}, "-1 states"},
		{ARPHMM{Order: 30, States: 4}, []Sequence{{Y: good}}, "a ridge"},
	} {
		_, err := c.o.Fit(context.Background(), c.s)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want it to say %q", err, c.want)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := (ARPHMM{}).Fit(ctx, []Sequence{{Y: good}}); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled fit says %v", err)
	}
}

// An iteration allocates for its small matrices, and nothing for a step of time.
func TestIterationsAllocateNothingPerStep(t *testing.T) {
	allocations := func(n int) float64 {
		y, _ := wander(rand.New(rand.NewPCG(1, 2)), n, 3, 1, 2)
		o := ARPHMM{States: 3, Order: 1}.withDefaults()
		w, err := newWorkspace([]Sequence{{Y: y}}, 3, 1)
		if err != nil {
			t.Fatal(err)
		}
		m, err := o.begin(w, rand.New(rand.NewPCG(1, 1)))
		if err != nil {
			t.Fatal(err)
		}
		return testing.AllocsPerRun(3, func() {
			e, err := newEmission(m, w.mean)
			if err == nil {
				_, err = w.expect(m, e)
			}
			if err == nil {
				err = w.maximize(m, o)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	if short, long := allocations(500), allocations(4000); long > short+2 {
		t.Errorf("%v allocations for 4000 steps, %v for 500", long, short)
	}
}
