package lab

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"gonum.org/v1/gonum/floats"

	"tare/method/optimize"
)

// matrixCompletion is the experiment of robust alternating minimisation (Gu, Song, Yin and
// Zhang 2023): the time of a sweep shall grow with the rank k as k, where exact regressions
// take k², and complete a matrix no worse. The figure is the slope of log time over log k,
// each time the least of three sweeps, on square matrices of 2,000 rows of which four fifths
// are seen, for ranks up to √1600, where the k³ of a row's preconditioner are no more than k
// for each of its entries; the same slope over the number of entries stands beside it. The error of
// completion is that of the entries not seen of a noisy matrix of rank 8, relative to their
// size. Stochastic descent has its rate chosen from a grid with seed 0.
//
// Where TARE_TABLES names a folder with InstEval.csv (73,421 ratings of lectures), the error
// of a tenth of the ratings kept out stands among the further figures: rank 2, ridge 10, the
// same for all arms.
func matrixCompletion() Experiment {
	return Experiment{
		Slug:   "robust-matrix-completion",
		Claim:  "Sketched regressions make the time of a sweep grow with the rank as k, exact ones as k², and complete no worse.",
		Figure: Figure{"growth of the time with the rank", "slope of logarithms", Lower},
		Arms: []Arm{
			{"sketched", Method, completionArm("sketched")},
			{"exact", Baseline, completionArm("exact")},
			{"sgd", Baseline, completionArm("sgd")},
		},
		Seeds: 5, QuickSeeds: 2,
		Rule: All(Beats("sketched", "exact"), Reaches("sketched", 1.25), NotWorseIn(OfExtra(completionError), "sketched", "exact")),
	}
}

// Further figures of completion.
var (
	completionError = Figure{"error of entries not seen", "", Lower}
	entriesSlope    = Figure{"growth of the time with the entries", "slope of logarithms", Lower}
	ratingsError    = Figure{"RMSE of ratings kept out", "", Lower}
)

// timedSweeps are how many sweeps the least time is taken of, after one to warm up.
const timedSweeps = 3

func completionArm(solver string) func(context.Context, Env, uint64) (Measurement, error) {
	return func(ctx context.Context, e Env, seed uint64) (Measurement, error) {
		m := Measurement{Extra: map[string]float64{}}
		n := e.Pick(2000, 500)
		ranks := []int{5, 10, 20, 40}
		if e.Quick {
			ranks = ranks[:3]
		}
		shares := []float64{0.2, 0.4, 0.8}
		steps := len(ranks) + len(shares) + 1
		timed := func(step, rank int, share float64) (float64, error) {
			e.Step(step, steps, fmt.Sprintf("rank %d, %.0f %% of the entries", rank, 100*share))
			seen, _ := drawCompletion(rand.New(rand.NewPCG(seed, uint64(rank))), n, rank, share, 0)
			return sweepSeconds(ctx, solver, n, rank, seen, seed)
		}
		var x, y []float64
		for i, k := range ranks {
			s, err := timed(i, k, 0.8)
			if err != nil {
				return m, err
			}
			m.Extra[fmt.Sprintf("seconds of a sweep, rank %d", k)] = s
			m.Seconds += s
			x, y = append(x, math.Log(float64(k))), append(y, math.Log(s))
		}
		m.Value = slope(x, y)
		x, y = nil, nil
		for i, share := range shares {
			s, err := timed(len(ranks)+i, ranks[1], share)
			if err != nil {
				return m, err
			}
			x, y = append(x, math.Log(share)), append(y, math.Log(s))
		}
		m.Extra[entriesSlope.Name] = slope(x, y)
		e.Step(steps-1, steps, "completion")
		if err := completeMatrix(ctx, e, solver, seed, &m); err != nil {
			return m, err
		}
		return m, rateLectures(ctx, solver, seed, &m)
	}
}

// drawCompletion draws a square matrix with factors of rank normal numbers over √k, and
// divides its entries, with noise, into those seen and the others.
func drawCompletion(rng *rand.Rand, n, rank int, share, noise float64) (seen, others []optimize.Entry) {
	u, v := make([]float64, n*rank), make([]float64, n*rank)
	for i := range u {
		u[i], v[i] = rng.NormFloat64()/math.Sqrt(float64(rank)), rng.NormFloat64()
	}
	for i := range n {
		for j := range n {
			entry := optimize.Entry{Row: int32(i), Column: int32(j), Value: floats.Dot(u[i*rank:(i+1)*rank], v[j*rank:(j+1)*rank])}
			if rng.Float64() < share {
				entry.Value += noise * rng.NormFloat64()
				seen = append(seen, entry)
			} else {
				others = append(others, entry)
			}
		}
	}
	return seen, others
}

// completer returns the arm's options; sgd's rate is that for entries of size 1.
func completer(solver string, rank int, seed uint64) *optimize.MatrixCompletion {
	o := optimize.NewMatrixCompletion()
	o.Solver, o.Rank, o.Seed = solver, rank, seed
	return o
}

// completed completes as far as the sweeps go.
func completed(ctx context.Context, o *optimize.MatrixCompletion, n, columns int, entries []optimize.Entry) (*optimize.Completion, error) {
	c, err := o.Fit(ctx, n, columns, entries)
	var stopped *optimize.StoppedError
	if errors.As(err, &stopped) && c != nil {
		err = nil
	}
	return c, err
}

// sweepSeconds is the least time of a sweep.
func sweepSeconds(ctx context.Context, solver string, n, rank int, entries []optimize.Entry, seed uint64) (float64, error) {
	o := completer(solver, rank, seed)
	o.Sweeps, o.Tol = timedSweeps+1, math.SmallestNonzeroFloat64
	c, err := completed(ctx, o, n, n, entries)
	if err != nil {
		return 0, err
	}
	least := math.Inf(1)
	for i := 1; i < len(c.Sweeps); i++ {
		least = min(least, c.Sweeps[i].Seconds-c.Sweeps[i-1].Seconds)
	}
	return least, nil
}

// slope is that of the line of least squares.
func slope(x, y []float64) float64 {
	mx, my := Mean(x), Mean(y)
	var xy, xx float64
	for i := range x {
		xy += (x[i] - mx) * (y[i] - my)
		xx += (x[i] - mx) * (x[i] - mx)
	}
	return xy / xx
}

// completeMatrix measures the error of entries not seen; the curve is the error of those seen
// by sweep.
func completeMatrix(ctx context.Context, e Env, solver string, seed uint64, m *Measurement) error {
	n, rank := e.Pick(500, 200), 8
	seen, others := drawCompletion(rand.New(rand.NewPCG(seed, 1)), n, rank, 0.3, 0.1)
	o := completer(solver, rank, seed)
	if solver == "sgd" {
		o.Sweeps = 200
		var err error
		if o.Rate, err = chooseRate(ctx, n, rank); err != nil {
			return err
		}
	}
	c, err := completed(ctx, o, n, n, seen)
	if err != nil {
		return err
	}
	for _, s := range c.Sweeps {
		m.Curve = append(m.Curve, Point{s.Number, s.RMSE})
	}
	m.Extra["sweeps"] = float64(len(c.Sweeps))
	m.Trainable = int64(len(c.U) + len(c.V))
	m.Peak = map[string]int64{Weights: 8 * m.Trainable}
	var size float64
	for _, entry := range others {
		size += entry.Value * entry.Value
	}
	off, err := c.RootMeanSquare(others)
	m.Extra[completionError.Name] = off / math.Sqrt(size/float64(len(others)))
	return err
}

// chooseRate is that of sgd with the least error on the matrix of seed 0.
func chooseRate(ctx context.Context, n, rank int) (best float64, err error) {
	seen, others := drawCompletion(rand.New(rand.NewPCG(0, 1)), n, rank, 0.3, 0.1)
	least := math.Inf(1)
	for _, rate := range []float64{0.003, 0.01, 0.03, 0.1} {
		o := completer("sgd", rank, 0)
		o.Rate, o.Sweeps = rate, 60
		c, err := completed(ctx, o, n, n, seen)
		if err != nil {
			if ctx.Err() != nil {
				return 0, err
			}
			continue // it diverged
		}
		if off, err := c.RootMeanSquare(others); err == nil && off < least {
			least, best = off, rate
		}
	}
	if best == 0 {
		return 0, errors.New("sgd diverges at every rate of its grid")
	}
	return best, nil
}

// rateLectures keeps a tenth of the ratings of InstEval out, where they are there.
func rateLectures(ctx context.Context, solver string, seed uint64, m *Measurement) error {
	ratings, err := lectureRatings()
	if err != nil || ratings == nil {
		return err
	}
	rng := rand.New(rand.NewPCG(seed, 2))
	rng.Shuffle(len(ratings), func(i, j int) { ratings[i], ratings[j] = ratings[j], ratings[i] })
	kept, fit := ratings[:len(ratings)/10], ratings[len(ratings)/10:]
	var places [2]map[int32]int32
	for side := range places {
		places[side] = map[int32]int32{}
	}
	number := func(side int, name int32) int32 {
		at, there := places[side][name]
		if !there {
			at = int32(len(places[side]))
			places[side][name] = at
		}
		return at
	}
	for i, e := range fit {
		fit[i].Row, fit[i].Column = number(0, e.Row), number(1, e.Column)
	}
	known := kept[:0]
	for _, e := range kept {
		row, a := places[0][e.Row]
		column, b := places[1][e.Column]
		if a && b {
			known = append(known, optimize.Entry{Row: row, Column: column, Value: e.Value})
		}
	}
	o := completer(solver, 2, seed)
	o.Ridge, o.Centre, o.Tol, o.Sweeps = 10, true, 1e-4, 60
	c, err := completed(ctx, o, len(places[0]), len(places[1]), fit)
	if err != nil {
		return fmt.Errorf("InstEval: %w", err)
	}
	m.Extra[ratingsError.Name], err = c.RootMeanSquare(known)
	return err
}

// lectureRatings reads InstEval.csv: columns s (student), d (lecturer) and y (rating). Without
// it there are none.
func lectureRatings() ([]optimize.Entry, error) {
	folder := os.Getenv("TARE_TABLES")
	if folder == "" {
		return nil, nil
	}
	f, err := os.Open(filepath.Join(folder, "InstEval.csv"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("TARE_TABLES: %w", err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	if len(rows) == 0 {
		return nil, fmt.Errorf("%s: it is empty", f.Name())
	}
	var at [3]int
	for i, name := range []string{"s", "d", "y"} {
		if at[i] = slices.Index(rows[0], name); at[i] < 0 {
			return nil, fmt.Errorf("%s: there is no column %q", f.Name(), name)
		}
	}
	var out []optimize.Entry
	for line, row := range rows[1:] {
		s, err1 := strconv.ParseInt(row[at[0]], 10, 32)
		d, err2 := strconv.ParseInt(row[at[1]], 10, 32)
		y, err3 := strconv.ParseFloat(row[at[2]], 64)
		if err := errors.Join(err1, err2, err3); err != nil {
			return nil, fmt.Errorf("%s: line %d: %w", f.Name(), line+2, err)
		}
		out = append(out, optimize.Entry{Row: int32(s), Column: int32(d), Value: y})
	}
	return out, nil
}
