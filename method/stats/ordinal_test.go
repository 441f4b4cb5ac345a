package stats

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"testing"

	"gonum.org/v1/gonum/mat"
	"pgregory.net/rapid"
)

// drawn rows whose classes come from cuts that lie alpha apart and weights that differ by
// up to spread from cut to cut; every class has at least three rows.
func drawn(rng *rand.Rand, n, p, classes int, spread float64) (*mat.Dense, []int) {
	x, y := mat.NewDense(n, p, nil), make([]int, n)
	beta := make([][]float64, classes-1)
	for k := range beta {
		beta[k] = make([]float64, p)
		for j := range beta[k] {
			if k == 0 {
				beta[k][j] = rng.NormFloat64()
			} else {
				beta[k][j] = beta[k-1][j] + spread*(2*rng.Float64()-1)
			}
		}
	}
	for i := range n {
		row := x.RawRowView(i)
		for j := range row {
			row[j] = 2*rng.Float64() - 1
		}
		u := rng.Float64()
		for k := range classes - 1 {
			eta := float64(2*k) - 1
			for j, b := range beta[k] {
				eta += b * row[j]
			}
			if u > 1/(1+math.Exp(-eta)) {
				y[i] = k + 1
			}
		}
	}
	for k := range classes {
		for q := range 3 {
			y[k*3+q] = k
		}
	}
	return x, y
}

// meanLoss is the mean negative log-likelihood, written as the model's definition.
func meanLoss(alpha []float64, beta [][]float64, x *mat.Dense, y []int) float64 {
	var sum float64
	cumulative := func(k, i int) float64 {
		switch {
		case k < 0:
			return 0
		case k >= len(alpha):
			return 1
		}
		eta := alpha[k]
		for j, b := range beta[k] {
			eta += b * x.At(i, j)
		}
		return 1 / (1 + math.Exp(-eta))
	}
	for i, k := range y {
		sum -= math.Log(cumulative(k, i) - cumulative(k-1, i))
	}
	return sum / float64(len(y))
}

// slopeOfBeta is ∂loss/∂β_k,j by differences; with all, of the β_m for m ≥ k together,
// which is ∂loss/∂δ_k,j.
func slopeOfBeta(m *Ordinal, x *mat.Dense, y []int, k, j int, all bool) float64 {
	const h = 1e-5
	at := func(by float64) float64 {
		beta := make([][]float64, len(m.Beta))
		for q, b := range m.Beta {
			beta[q] = append([]float64(nil), b...)
			if q == k || all && q > k {
				beta[q][j] += by
			}
		}
		return meanLoss(m.Alpha, beta, x, y)
	}
	return (at(h) - at(-h)) / (2 * h)
}

func slopeOfAlpha(m *Ordinal, x *mat.Dense, y []int, k int) float64 {
	const h = 1e-5
	at := func(by float64) float64 {
		alpha := append([]float64(nil), m.Alpha...)
		alpha[k] += by
		return meanLoss(alpha, m.Beta, x, y)
	}
	return (at(h) - at(-h)) / (2 * h)
}

// With one column of zeros and ones, logistic regression's weights are the log odds of
// the table of counts.
func TestLogisticOfATable(t *testing.T) {
	count := map[[2]int]int{{0, 0}: 30, {0, 1}: 10, {1, 0}: 12, {1, 1}: 18}
	var values []float64
	var y []int
	for _, key := range [][2]int{{0, 0}, {0, 1}, {1, 0}, {1, 1}} {
		for range count[key] {
			values, y = append(values, float64(key[0])), append(y, key[1])
		}
	}
	m, err := NewLogistic().Fit(t.Context(), mat.NewDense(len(y), 1, values), y, 2)
	if err != nil {
		t.Fatal(err)
	}
	at0, slope := math.Log(30.0/10), math.Log(12.0/18)-math.Log(30.0/10)
	if math.Abs(m.Alpha[0]-at0) > 1e-7 || math.Abs(m.Beta[0][0]-slope) > 1e-7 {
		t.Errorf("α %v β %v, want %v %v", m.Alpha[0], m.Beta[0][0], at0, slope)
	}
}

// Without a price all slopes vanish, whatever the model.
func TestUnpricedSlopesVanish(t *testing.T) {
	x, y := drawn(rand.New(rand.NewPCG(1, 1)), 400, 3, 4, 0.3)
	po, err := NewProportionalOdds().Fit(t.Context(), x, y, 4)
	if err != nil {
		t.Fatal(err)
	}
	for k := range 3 {
		if s := slopeOfAlpha(po, x, y, k); math.Abs(s) > 1e-7 {
			t.Errorf("proportional odds: slope of α_%d %g", k+1, s)
		}
		if s := slopeOfBeta(po, x, y, 0, k, true); math.Abs(s) > 1e-7 {
			t.Errorf("proportional odds: slope of β,%d %g", k+1, s)
		}
	}
	free, err := NewNonProportional().Fit(t.Context(), x, y, 4)
	if err != nil {
		t.Fatal(err)
	}
	for k := range 3 {
		for j := range 3 {
			if s := slopeOfBeta(free, x, y, k, j, false); math.Abs(s) > 1e-6 {
				t.Errorf("non-proportional: slope of β_%d,%d %g", k+1, j+1, s)
			}
		}
	}
	if want := -float64(len(y)) * meanLoss(free.Alpha, free.Beta, x, y); math.Abs(free.LogLikelihood-want) > 1e-6*math.Abs(want) {
		t.Errorf("log-likelihood %v, want %v", free.LogLikelihood, want)
	}
	if free.LogLikelihood < po.LogLikelihood {
		t.Errorf("separate weights fit worse: %v < %v", free.LogLikelihood, po.LogLikelihood)
	}
}

// The conditions of PRESTO's optimum: |slope of δ| ≤ λ where δ = 0, slope = −λ sign(δ)
// elsewhere, slope of α zero. Columns are in raw units, so no scale enters.
func TestPrestoConditions(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 3))
		classes := rapid.IntRange(2, 5).Draw(t, "classes")
		p := rapid.IntRange(1, 5).Draw(t, "columns")
		x, y := drawn(rng, 150, p, classes, 0.5)
		o := NewPresto()
		o.Raw, o.Lambda = true, math.Pow(10, rapid.Float64Range(-3, -1).Draw(t, "log λ"))
		m, err := o.Fit(context.Background(), x, y, classes)
		if err != nil {
			t.Fatal(err)
		}
		if smallestGap(&m.Ordinal, x) < 1e-3 {
			t.Skip("a class's probability all but vanishes: the barrier counts")
		}
		before := make([]float64, p)
		for k, b := range m.Beta {
			if s := slopeOfAlpha(&m.Ordinal, x, y, k); math.Abs(s) > 1e-6 {
				t.Fatalf("slope of α_%d is %g", k+1, s)
			}
			for j, v := range b {
				s, delta := slopeOfBeta(&m.Ordinal, x, y, k, j, true), v-before[j]
				switch {
				case math.Abs(delta) < 1e-13 && math.Abs(s) > o.Lambda+1e-6:
					t.Fatalf("δ_%d,%d = 0, slope %g beyond λ %g", k+1, j+1, s, o.Lambda)
				case math.Abs(delta) >= 1e-13 && math.Abs(s+math.Copysign(o.Lambda, delta)) > 1e-6:
					t.Fatalf("δ_%d,%d = %g, slope %g, λ %g", k+1, j+1, delta, s, o.Lambda)
				}
			}
			before = b
		}
	})
}

// smallestGap is the least η_k − η_k−1 over rows.
func smallestGap(m *Ordinal, x *mat.Dense) float64 {
	gap := math.Inf(1)
	n, _ := x.Dims()
	for i := range n {
		for k := 1; k < len(m.Alpha); k++ {
			g := m.Alpha[k] - m.Alpha[k-1]
			for j := range m.Beta[k] {
				g += (m.Beta[k][j] - m.Beta[k-1][j]) * x.At(i, j)
			}
			gap = math.Min(gap, g)
		}
	}
	return gap
}

// A price on differences alone that is beyond all of them is proportional odds; no price
// and two classes are logistic regression.
func TestPrestoEnds(t *testing.T) {
	x, y := drawn(rand.New(rand.NewPCG(2, 2)), 300, 4, 4, 0.4)
	o := NewPresto()
	o.Base, o.Lambda = 0, 100
	m, err := o.Fit(t.Context(), x, y, 4)
	if err != nil {
		t.Fatal(err)
	}
	po, err := NewProportionalOdds().Fit(t.Context(), x, y, 4)
	if err != nil {
		t.Fatal(err)
	}
	sameOrdinal(t, "λ → ∞", &m.Ordinal, po, 1e-6)

	two := make([]int, len(y))
	for i, k := range y {
		two[i] = min(k, 1)
	}
	o = NewPresto()
	o.Lambda = 0
	if m, err = o.Fit(t.Context(), x, two, 2); err != nil {
		t.Fatal(err)
	}
	logit, err := NewLogistic().Fit(t.Context(), x, two, 2)
	if err != nil {
		t.Fatal(err)
	}
	sameOrdinal(t, "λ = 0, K = 2", &m.Ordinal, logit, 1e-6)
	o.Lambda = 1e-9
	if m, err = o.Fit(t.Context(), x, two, 2); err != nil {
		t.Fatal(err)
	}
	sameOrdinal(t, "λ → 0, K = 2", &m.Ordinal, logit, 1e-5)
}

func sameOrdinal(t *testing.T, what string, got, want *Ordinal, tol float64) {
	t.Helper()
	for k := range want.Alpha {
		if math.Abs(got.Alpha[k]-want.Alpha[k]) > tol {
			t.Errorf("%s: α_%d %v, want %v", what, k+1, got.Alpha[k], want.Alpha[k])
		}
		for j, v := range want.Beta[k] {
			if math.Abs(got.Beta[k][j]-v) > tol {
				t.Errorf("%s: β_%d,%d %v, want %v", what, k+1, j+1, got.Beta[k][j], v)
			}
		}
	}
}

// The path begins where all weights are 0, and the chosen price has the least loss.
func TestPrestoPath(t *testing.T) {
	x, y := drawn(rand.New(rand.NewPCG(5, 2)), 400, 5, 3, 0.4)
	o := NewPresto()
	o.Lambdas, o.Ratio = 12, 1e-2
	calls := 0
	o.Progress = func(done, total int) {
		if calls++; done != calls || total != 72 {
			t.Errorf("progress %d of %d at call %d", done, total, calls)
		}
	}
	m, err := o.Fit(t.Context(), x, y, 3)
	if err != nil {
		t.Fatal(err)
	}
	if m.Path[0].Nonzero != 0 || m.Path[1].Nonzero == 0 {
		t.Errorf("nonzero weights at the first two prices: %d, %d", m.Path[0].Nonzero, m.Path[1].Nonzero)
	}
	for _, pt := range m.Path {
		if pt.Lambda == m.Lambda {
			sameOrdinal(t, "the chosen", &m.Ordinal, &Ordinal{Alpha: m.Alpha, Beta: pt.Beta}, 0)
		} else if o.of(pt) < m.loss() {
			t.Errorf("λ %g has loss %g, chosen %g has %g", pt.Lambda, pt.Loss, m.Lambda, m.loss())
		}
	}
	calls = 0
	again, err := o.Fit(t.Context(), x, y, 3)
	if err != nil || again.Lambda != m.Lambda {
		t.Errorf("a second fit chose %v, %v", again.Lambda, err)
	}
}

func (m *PrestoModel) loss() float64 {
	for _, pt := range m.Path {
		if pt.Lambda == m.Lambda {
			return pt.Loss
		}
	}
	return math.NaN()
}

// The objective never rises from step to step.
func TestObjectiveFalls(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 4))
		classes := rapid.IntRange(2, 4).Draw(t, "classes")
		x, y := drawn(rng, 80, 3, classes, 1)
		o := NewPresto()
		o.Lambda = 0.01
		last, at := math.Inf(1), [2]float64{}
		o.Trace = func(s Step) {
			if now := [2]float64{s.Lambda, s.Barrier}; now != at {
				last, at = math.Inf(1), now
			}
			if s.Objective > last+1e-12 {
				t.Fatalf("step %d of λ %g: objective rose from %v to %v", s.Iteration, s.Lambda, last, s.Objective)
			}
			last = s.Objective
		}
		m, err := o.Fit(context.Background(), x, y, classes)
		if err != nil {
			t.Fatal(err)
		}
		p, clipped, err := m.Probabilities(x)
		if err != nil || clipped != 0 {
			t.Fatalf("%d rows of those fitted are clipped, %v", clipped, err)
		}
		for i := range y {
			sum := 0.0
			for _, v := range p.RawRowView(i) {
				if !(v > 0) {
					t.Fatalf("row %d: probability %g", i, v)
				}
				sum += v
			}
			if math.Abs(sum-1) > 1e-12 {
				t.Fatalf("row %d: probabilities sum to %v", i, sum)
			}
		}
	})
}

// Far from the data separate weights cross; the probabilities still are some.
func TestClippedProbabilities(t *testing.T) {
	m := Ordinal{Alpha: []float64{0, 1}, Beta: [][]float64{{1}, {-1}}}
	p, clipped, err := m.Probabilities(mat.NewDense(2, 1, []float64{0, 5}))
	if err != nil || clipped != 1 {
		t.Fatalf("%d clipped, %v", clipped, err)
	}
	want := []float64{sigmoid(5), 0, sigmoid(-5)}
	for k, v := range p.RawRowView(1) {
		if math.Abs(v-want[k]) > 1e-15 {
			t.Errorf("class %d: %v, want %v", k, v, want[k])
		}
	}
}

func TestOrdinalRefuses(t *testing.T) {
	good := func() (*mat.Dense, []int) { return drawn(rand.New(rand.NewPCG(7, 7)), 60, 3, 3, 0) }
	var column *ColumnError
	var row *RowError
	var class *ClassError
	fit := func(x *mat.Dense, y []int) error {
		_, err := NewProportionalOdds().Fit(t.Context(), x, y, 3)
		return err
	}
	x, y := good()
	for i := range y {
		x.Set(i, 1, 4.2)
	}
	if err := fit(x, y); !errors.As(err, &column) || column.Column != 1 {
		t.Errorf("constant: %v", err)
	}
	x, y = good()
	for i := range y {
		x.Set(i, 2, 3-7*x.At(i, 0))
	}
	if err := fit(x, y); !errors.As(err, &column) || column.Column != 2 || column.Other != 0 {
		t.Errorf("repeated: %v", err)
	}
	x, y = good()
	for i := range y {
		x.Set(i, 2, x.At(i, 1)-7*x.At(i, 0))
	}
	if err := fit(x, y); !errors.As(err, &column) || column.Column != 2 || column.Other != -1 {
		t.Errorf("sum of others: %v", err)
	}
	x, y = good()
	x.Set(17, 1, math.NaN())
	if err := fit(x, y); !errors.As(err, &row) || row.Row != 17 || row.Column != 1 {
		t.Errorf("NaN: %v", err)
	}
	x, y = good()
	for i := range y {
		y[i] = y[i] / 2 * 2
	}
	if err := fit(x, y); !errors.As(err, &class) || class.Class != 1 {
		t.Errorf("class without example: %v", err)
	}
	if err := fit(mat.NewDense(4, 3, nil), []int{0, 1, 2, 0}); !errors.Is(err, ErrData) {
		t.Errorf("few rows: %v", err)
	}
	o := &Presto{Lambda: math.NaN(), Choose: "luck"}
	if err := o.Validate(); !errors.Is(err, ErrOptions) {
		t.Errorf("options: %v", err)
	}
}

// A column that tells classes apart without error has no finite weight: the fit says so,
// of two classes, of three, and where only some rows are told apart.
func TestSeparation(t *testing.T) {
	x, y := drawn(rand.New(rand.NewPCG(9, 7)), 90, 3, 3, 0)
	var column *ColumnError
	for i, k := range y {
		x.Set(i, 1, float64(k)+0.1*x.At(i, 1))
	}
	if _, err := NewProportionalOdds().Fit(t.Context(), x, y, 3); !errors.As(err, &column) || column.Column != 1 {
		t.Errorf("three classes: %v", err)
	}
	if _, err := NewLogistic().Fit(t.Context(), x, y, 3); !errors.As(err, &column) || column.Column != 1 {
		t.Errorf("two classes: %v", err)
	}
	x, y = drawn(rand.New(rand.NewPCG(9, 8)), 90, 3, 3, 0)
	for i, k := range y {
		x.Set(i, 2, 0)
		if k == 2 && i%2 == 0 { // only the last class has it
			x.Set(i, 2, 1)
		}
	}
	if _, err := NewLogistic().Fit(t.Context(), x, y, 3); !errors.As(err, &column) || column.Column != 2 {
		t.Errorf("some rows: %v", err)
	}
	o := NewPresto()
	o.Lambda = 0.01
	if _, err := o.Fit(t.Context(), x, y, 3); err != nil {
		t.Errorf("with a price: %v", err)
	}
}

func TestSolverStops(t *testing.T) {
	x, y := drawn(rand.New(rand.NewPCG(11, 7)), 90, 3, 3, 0)
	o := NewProportionalOdds()
	o.MaxIter = 1
	var stopped *StoppedError
	if _, err := o.Fit(t.Context(), x, y, 3); !errors.As(err, &stopped) || stopped.Iterations != 1 || !(stopped.Residual > stopped.Tol) {
		t.Errorf("limit: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := NewPresto().Fit(ctx, x, y, 3); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
