package optimize

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"testing"

	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"
	"pgregory.net/rapid"

	"tare/engine/tensor/kernel"
)

// lowRank draws a matrix of a rank with normal factors, and each of its entries with a
// chance, noise added to those drawn.
func lowRank(rng *rand.Rand, rows, columns, rank int, chance, noise float64) (*mat.Dense, []Entry) {
	u, v := mat.NewDense(rows, rank, nil), mat.NewDense(columns, rank, nil)
	for _, f := range []*mat.Dense{u, v} {
		f.Apply(func(_, _ int, _ float64) float64 { return rng.NormFloat64() }, f)
	}
	m := new(mat.Dense)
	m.Mul(u, v.T())
	var entries []Entry
	for i := range rows {
		for j := range columns {
			if rng.Float64() < chance {
				entries = append(entries, Entry{int32(i), int32(j), m.At(i, j) + noise*rng.NormFloat64()})
			}
		}
	}
	return m, entries
}

// farthest is the largest distance of a completion from a matrix, relative to the latter's
// largest entry.
func farthest(c *Completion, m *mat.Dense) float64 {
	var far, size float64
	for i := range c.Rows {
		for j := range c.Columns {
			far = max(far, math.Abs(c.At(i, j)-m.At(i, j)))
			size = max(size, math.Abs(m.At(i, j)))
		}
	}
	return far / size
}

func complete(t *testing.T, o *MatrixCompletion, rows, columns int, entries []Entry) *Completion {
	t.Helper()
	c, err := o.Fit(t.Context(), rows, columns, entries)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func completion(solver string, rank int, tol float64) *MatrixCompletion {
	o := NewMatrixCompletion()
	o.Solver, o.Rank, o.Tol = solver, rank, tol
	return o
}

// Without noise a matrix of the rank asked for comes back to the last digits.
func TestCompletionRecoversExactly(t *testing.T) {
	m, entries := lowRank(rand.New(rand.NewPCG(1, 1)), 120, 90, 3, 0.4, 0)
	for _, solver := range []string{"exact", "sketched"} {
		c := complete(t, completion(solver, 3, 1e-12), 120, 90, entries)
		if far := farthest(c, m); far > 1e-10 {
			t.Errorf("%s: off by %g of the largest entry", solver, far)
		}
		if n := len(c.Sweeps); n > 40 {
			t.Errorf("%s: %d sweeps", solver, n)
		}
	}
	o := completion("sketched", 3, 1e-12)
	o.Split = 2
	if far := farthest(complete(t, o, 120, 90, entries), m); far > 1e-10 {
		t.Errorf("split in two: off by %g", far)
	}
}

// The error falls geometrically: by a sweep at most half remains, once it is below 1 %.
func TestCompletionConvergesGeometrically(t *testing.T) {
	_, entries := lowRank(rand.New(rand.NewPCG(2, 1)), 150, 150, 3, 0.5, 0)
	c := complete(t, completion("sketched", 3, 1e-11), 150, 150, entries)
	for i := 1; i < len(c.Sweeps); i++ {
		if last := c.Sweeps[i-1].Residual; last < 1e-2 && c.Sweeps[i].Residual > last/2 {
			t.Errorf("sweep %d: %g after %g", i+1, c.Sweeps[i].Residual, last)
		}
	}
}

// However roughly regressions are solved, both solvers end at the fixed point of exact
// steps.
func TestCompletionEndsAtTheExactFixedPoint(t *testing.T) {
	_, entries := lowRank(rand.New(rand.NewPCG(3, 1)), 100, 80, 3, 0.5, 0.3)
	for _, ridge := range []float64{0, 0.5} {
		exact := completion("exact", 3, 1e-12)
		exact.Ridge = ridge
		exact.Sweeps = 2000
		want := complete(t, exact, 100, 80, entries)
		for _, accuracy := range []float64{0.5, 1e-2, 1e-8} {
			o := completion("sketched", 3, 1e-12)
			o.Ridge, o.Accuracy, o.Sweeps = ridge, accuracy, 2000
			c := complete(t, o, 100, 80, entries)
			for i := range 100 {
				for j := range 80 {
					if d := math.Abs(c.At(i, j) - want.At(i, j)); d > 1e-8 {
						t.Fatalf("ridge %g, accuracy %g: entry %d, %d off by %g", ridge, accuracy, i, j, d)
					}
				}
			}
		}
	}
}

// With an accuracy near rounding a sketched sweep is the exact one, sweep by sweep.
func TestSketchedSweepsBecomeExact(t *testing.T) {
	_, entries := lowRank(rand.New(rand.NewPCG(4, 1)), 100, 80, 3, 0.5, 0.3)
	var curves [2][]Sweep
	for i, solver := range []string{"exact", "sketched"} {
		o := completion(solver, 3, 1e-9)
		o.Accuracy, o.Sweeps = 1e-13, 8
		c, _ := o.Fit(t.Context(), 100, 80, entries)
		curves[i] = c.Sweeps
	}
	for i := range curves[0] {
		if a, b := curves[0][i].RMSE, curves[1][i].RMSE; math.Abs(a-b) > 1e-10 {
			t.Errorf("sweep %d: error %.15g and %.15g", i+1, a, b)
		}
	}
}

// At the end no factor has a gradient: Σ over a row's entries of (M_ij − u·v) v_j = λu.
func TestCompletionIsStationary(t *testing.T) {
	_, entries := lowRank(rand.New(rand.NewPCG(5, 1)), 60, 50, 2, 0.5, 0.5)
	o := completion("sketched", 2, 1e-10)
	o.Ridge, o.Sweeps, o.Centre = 0.3, 2000, true
	c := complete(t, o, 60, 50, entries)
	gu, gv := make([]float64, len(c.U)), make([]float64, len(c.V))
	floats.AddScaled(gu, -o.Ridge, c.U)
	floats.AddScaled(gv, -o.Ridge, c.V)
	for _, e := range entries {
		i, j := int(e.Row)*2, int(e.Column)*2
		off := e.Value - c.At(int(e.Row), int(e.Column))
		floats.AddScaled(gu[i:i+2], off, c.V[j:j+2])
		floats.AddScaled(gv[j:j+2], off, c.U[i:i+2])
	}
	if g := floats.Norm(gu, math.Inf(1)) + floats.Norm(gv, math.Inf(1)); g > 1e-6 {
		t.Errorf("gradient %g", g)
	}
}

// Exact steps never raise the penalised error, nor do sketched ones.
func TestCompletionDescends(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		_, entries := lowRank(rng, 25, 20, 2, 0.7, 0.5)
		o := completion(rapid.SampledFrom([]string{"exact", "sketched"}).Draw(t, "solver"), 2, 1e-6)
		o.Oversample, o.Sweeps = 2, 12
		c, err := o.Fit(context.Background(), 25, 20, entries)
		if errors.Is(err, ErrData) {
			t.Skip(err)
		}
		for i := 1; i < len(c.Sweeps); i++ {
			if a, b := c.Sweeps[i-1].RMSE, c.Sweeps[i].RMSE; b > a*(1+1e-12) {
				t.Fatalf("sweep %d: error %g after %g", i+1, b, a)
			}
		}
	})
}

// Errors of 1 % of each regression's size, whatever their direction, leave an error of that
// order; errors that vanish leave none.
func TestCompletionBearsErrors(t *testing.T) {
	m, entries := lowRank(rand.New(rand.NewPCG(6, 1)), 120, 100, 3, 0.5, 0)
	for _, c := range []struct {
		name  string
		size  func(sweep int) float64
		limit float64
	}{
		{"lasting", func(int) float64 { return 0.01 }, 0.1},
		{"falling", func(sweep int) float64 { return math.Pow(0.3, float64(sweep)) }, 1e-9},
	} {
		o := completion("sketched", 3, 1e-12)
		o.Sweeps = 40
		o.Disturb = func(sweep int, columns bool, row int, u []float64) {
			for i, v := range u { // towards the next coordinate, always the same way
				u[i] = v + c.size(sweep)*math.Abs(u[(i+1)%len(u)])
			}
		}
		got, err := o.Fit(t.Context(), 120, 100, entries)
		var stopped *StoppedError
		if err != nil && !errors.As(err, &stopped) {
			t.Fatal(err)
		}
		if far := farthest(got, m); far > c.limit {
			t.Errorf("%s errors: off by %g", c.name, far)
		}
	}
}

// numpy's alternating least squares ends at the same matrix: parity/completion.py.
func TestCompletionMatchesNumPy(t *testing.T) {
	raw, err := os.ReadFile("testdata/completion.json")
	if err != nil {
		t.Fatal(err)
	}
	var golden struct {
		Rows, Columns, Rank int
		Ridge               float64
		Entries             [][3]float64
		Completed           [][]float64
		Objective           float64
	}
	if err := json.Unmarshal(raw, &golden); err != nil {
		t.Fatal(err)
	}
	var entries []Entry
	for _, e := range golden.Entries {
		entries = append(entries, Entry{int32(e[0]), int32(e[1]), e[2]})
	}
	for _, solver := range []string{"exact", "sketched"} {
		o := completion(solver, golden.Rank, 1e-12)
		o.Ridge, o.Sweeps = golden.Ridge, 5000
		c := complete(t, o, golden.Rows, golden.Columns, entries)
		for i, row := range golden.Completed {
			for j, want := range row {
				if d := math.Abs(c.At(i, j) - want); d > 1e-8 {
					t.Fatalf("%s: entry %d, %d is %g, numpy's %g", solver, i, j, c.At(i, j), want)
				}
			}
		}
		objective := golden.Ridge * (floats.Dot(c.U, c.U) + floats.Dot(c.V, c.V))
		for _, e := range entries {
			d := e.Value - c.At(int(e.Row), int(e.Column))
			objective += d * d
		}
		if math.Abs(objective-golden.Objective) > 1e-8 {
			t.Errorf("%s: objective %.12g, numpy's %.12g", solver, objective, golden.Objective)
		}
	}
}

func TestStochasticDescentCompletes(t *testing.T) {
	m, entries := lowRank(rand.New(rand.NewPCG(7, 1)), 60, 50, 2, 0.6, 0)
	o := completion("sgd", 2, 1e-9)
	o.Rate, o.Sweeps = 0.05, 300
	c, err := o.Fit(t.Context(), 60, 50, entries)
	if c == nil {
		t.Fatal(err)
	}
	if far := farthest(c, m); far > 1e-2 {
		t.Errorf("off by %g", far)
	}
	o.Rate = 100
	var stopped *StoppedError
	if _, err := o.Fit(t.Context(), 60, 50, entries); !errors.As(err, &stopped) || !strings.Contains(err.Error(), "rate") {
		t.Errorf("a rate of 100: %v", err)
	}
}

// The same seed gives the same bits on any number of threads.
func TestCompletionDoesNotDependOnThreads(t *testing.T) {
	defer kernel.SetThreads(kernel.Threads())
	_, entries := lowRank(rand.New(rand.NewPCG(8, 1)), 400, 300, 4, 0.3, 0.1)
	var last *Completion
	for _, threads := range []int{1, 2} {
		kernel.SetThreads(threads)
		o := completion("sketched", 4, 1e-6)
		c := complete(t, o, 400, 300, entries)
		if last != nil && !floats.Equal(c.U, last.U) {
			t.Error("factors differ between one thread and two")
		}
		last = c
	}
}

// Rows with fewer entries than the rank are completed by the solution of least norm, a
// vanishing matrix by zeros.
func TestCompletionOfLittle(t *testing.T) {
	_, entries := lowRank(rand.New(rand.NewPCG(9, 1)), 40, 40, 3, 0.5, 0)
	entries = append(entries, Entry{40, 7, 2})
	c, err := completion("exact", 3, 1e-6).Fit(t.Context(), 41, 40, entries)
	if c == nil {
		t.Fatal(err)
	}
	if got := c.At(40, 7); math.Abs(got-2) > 1e-6 {
		t.Errorf("a lone entry of 2 is completed to %g", got)
	}
	zero := []Entry{{0, 0, 0}, {1, 1, 0}, {0, 1, 0}}
	if c := complete(t, completion("sketched", 1, 1e-6), 2, 2, zero); c.At(1, 0) != 0 {
		t.Errorf("a matrix of zeros is completed with %g", c.At(1, 0))
	}
}

func TestCompletionRefuses(t *testing.T) {
	good := []Entry{{0, 0, 1}, {1, 1, 2}, {1, 0, 3}}
	with := func(e ...Entry) []Entry { return append(good[:3:3], e...) }
	for _, c := range []struct {
		name    string
		change  func(o *MatrixCompletion)
		entries []Entry
		mark    error
		says    string
	}{
		{"an empty column", nil, good, ErrData, "column 3 has no observed entry"},
		{"no number", nil, with(Entry{0, 2, math.NaN()}), ErrData, "entry 4, row 1, column 3: NaN is not a finite number"},
		{"infinity", nil, with(Entry{0, 2, math.Inf(1)}), ErrData, "+Inf"},
		{"a row outside", nil, with(Entry{2, 2, 1}), ErrData, "row 3"},
		{"a negative column", nil, with(Entry{1, -1, 1}), ErrData, "outside"},
		{"no entries", nil, nil, ErrData, "row 1"},
		{"rank", func(o *MatrixCompletion) { o.Rank = 4 }, with(Entry{0, 2, 1}), ErrOptions, "rank is 4"},
		{"everything", func(o *MatrixCompletion) { *o = MatrixCompletion{Solver: "qr", Accuracy: 2, Ridge: -1, Split: -1} }, good, ErrOptions, "accuracy is 2"},
	} {
		o := completion("sketched", 1, 1e-6)
		if c.change != nil {
			c.change(o)
		}
		_, err := o.Fit(t.Context(), 2, 3, c.entries)
		if !errors.Is(err, c.mark) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	var empty *EmptyError
	if _, err := completion("sketched", 1, 1e-6).Fit(t.Context(), 2, 3, good); !errors.As(err, &empty) || !empty.Column || empty.Index != 2 {
		t.Errorf("%v", empty)
	}
}

func TestCompletionStops(t *testing.T) {
	_, entries := lowRank(rand.New(rand.NewPCG(10, 1)), 40, 40, 3, 0.5, 0.1)
	o := completion("sketched", 3, 1e-12)
	o.Sweeps = 2
	var stopped *StoppedError
	c, err := o.Fit(t.Context(), 40, 40, entries)
	if !errors.As(err, &stopped) || stopped.Iterations != 2 || !(stopped.Residual > 1e-12) || c == nil {
		t.Errorf("at the limit: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	o.Sweeps = 1000
	o.Trace = func(Sweep) { cancel() }
	if _, err := o.Fit(ctx, 40, 40, entries); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// orthonormalise gives QR = x with orthonormal Q, by either way.
func TestOrthonormalise(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, 1))
	for _, loss := range []float64{1, 1e-9, 0} {
		x := make([]float64, 50*4)
		for i := range x {
			x[i] = rng.NormFloat64()
			if i%4 == 3 {
				x[i] = x[i-1] + loss*x[i]
			}
		}
		q := append([]float64(nil), x...)
		r := orthonormalise(q, 4)
		var product, gram mat.Dense
		qm := mat.NewDense(50, 4, q)
		product.Mul(qm, mat.NewDense(4, 4, r.Data))
		gram.Mul(qm.T(), qm)
		if !mat.EqualApprox(&product, mat.NewDense(50, 4, x), 1e-12) || !mat.EqualApprox(&gram, mat.NewDiagDense(4, []float64{1, 1, 1, 1}), 1e-12) {
			t.Errorf("columns %g from dependent: no QR decomposition", loss)
		}
	}
}

// The time of a sweep for each entry and rank, which stays the same where it is linear in
// both, and the memory that the program has taken from the system. The last case, of 10⁷
// entries, takes some seconds and half a gigabyte.
func BenchmarkCompletion(b *testing.B) {
	for _, c := range []struct{ rows, each, rank int }{{2000, 100, 10}, {8000, 100, 10}, {2000, 400, 10}, {2000, 400, 20}, {100000, 100, 10}} {
		for _, solver := range []string{"sketched", "exact"} {
			b.Run(fmt.Sprintf("%s/entries=%d/rank=%d", solver, c.rows*c.each, c.rank), func(b *testing.B) {
				entries := sparseLowRank(c.rows, c.each, c.rank)
				o := completion(solver, c.rank, 1e-15)
				o.Sweeps = 3
				var seconds float64
				for b.Loop() {
					m, _ := o.Fit(b.Context(), c.rows, c.rows, entries)
					seconds += m.Sweeps[2].Seconds - m.Sweeps[0].Seconds
				}
				var mem runtime.MemStats
				runtime.ReadMemStats(&mem)
				b.ReportMetric(1e9*seconds/2/float64(b.N*len(entries)*c.rank), "ns/entry/rank")
				b.ReportMetric(float64(mem.Sys)/1e6, "MB-of-system")
			})
		}
	}
}

// sparseLowRank draws entries of a square matrix of a rank, as many in each row.
func sparseLowRank(rows, each, rank int) []Entry {
	rng := rand.New(rand.NewPCG(28, 2))
	u, v := make([]float64, rows*rank), make([]float64, rows*rank)
	for i := range u {
		u[i], v[i] = rng.NormFloat64(), rng.NormFloat64()
	}
	entries := make([]Entry, 0, rows*each)
	for i := range rows {
		for e := range each {
			j := (i + e*e*31 + rng.IntN(rows)) % rows
			if e == 0 {
				j = i // so that no column is empty
			}
			entries = append(entries, Entry{int32(i), int32(j), floats.Dot(u[i*rank:(i+1)*rank], v[j*rank:(j+1)*rank])})
		}
	}
	return entries
}
