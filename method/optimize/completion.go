package optimize

import (
	"context"
	"fmt"
	"math"
	"time"

	"gonum.org/v1/gonum/floats"
)

// MatrixCompletion finds a matrix of rank k from some of its entries, by alternating
// minimisation whose regressions are only solved roughly (Gu, Song, Yin and Zhang, "Low
// Rank Matrix Completion via Robust Alternating Minimization in Nearly Linear Time",
// arXiv:2302.11068). With Ω the observed entries of M [m, n], V [n, k] and Ω_i those of
// row i, a half sweep solves for every row
//
//	u_i = argmin_u ‖V[Ω_i, :] u − M[i, Ω_i]‖² + λ‖u‖²
//
// and the other half does the same for the columns. Exactly, that takes |Ω_i|k² + k³. The
// sketched solver makes a preconditioner RᵀR = (SA)ᵀSA of a sparse sketch S of A = V[Ω_i, :]
// with s = oversample·k rows, and runs conjugate gradients from where the last sweep ended
// until the residual has fallen by the factor accuracy: |Ω_i|k for a pass, a few passes,
// and k³. Rows with at most s entries are solved exactly. The errors that remain are what
// the paper shows alternating minimisation to bear.
//
// The start is the leading right singular vectors of P_Ω(M)·mn/|Ω|, by subspace iteration;
// rows of norm above 2μ√(k/n) are set to zero, which no incoherent matrix has, and the rest
// is made orthonormal again. Without ridge the factor just solved is made orthonormal after
// each half sweep, and the other one turned with it so that the product stays.
//
// Memory: 24 bytes an entry, 8 a number of the factors, and 2 MB a thread.
type MatrixCompletion struct {
	Rank        int     `yaml:"rank" help:"Rank of the matrix." default:"10"`
	Solver      string  `yaml:"solver" help:"Of the regressions: sketched or exact; or sgd, stochastic gradient descent in their place." default:"sketched"`
	Accuracy    float64 `yaml:"accuracy" help:"Factor by which a sketched regression lowers its residual, below 1." default:"0.1"`
	Oversample  int     `yaml:"oversample" help:"Rows of a sketch for each column." default:"4"`
	Ridge       float64 `yaml:"ridge" help:"Price of the squared norm of both factors." default:"0"`
	Centre      bool    `yaml:"centre" help:"Take the mean of the observed entries away first."`
	Sweeps      int     `yaml:"sweeps" help:"Most passes over rows and columns." default:"100"`
	Tol         float64 `yaml:"tol" help:"Largest gradient in either factor, relative to the observed entries, the other factor's columns of length 1." default:"1e-6"`
	Incoherence float64 `yaml:"incoherence" help:"What clipping at the start takes for μ; 0 does not clip." default:"3"`
	Split       int     `yaml:"split" help:"Parts of the entries, drawn at random, that half sweeps use in turn; 0 and 1 use all." default:"0"`
	Rate        float64 `yaml:"rate" help:"Step of sgd." default:"0.01"`
	Seed        uint64  `yaml:"seed" help:"Of the start, the sketches, the split and the order of sgd." default:"1"`

	// Trace takes every sweep; may be nil.
	Trace func(Sweep) `yaml:"-" json:"-"`
	// Disturb may change what a regression gave for a row, or with columns for a column, so
	// that the effect of errors can be studied; may be nil. It is called from several
	// goroutines.
	Disturb func(sweep int, columns bool, row int, u []float64) `yaml:"-" json:"-"`
}

// NewMatrixCompletion returns the defaults.
func NewMatrixCompletion() *MatrixCompletion {
	return &MatrixCompletion{Rank: 10, Solver: "sketched", Accuracy: 0.1, Oversample: 4, Sweeps: 100, Tol: 1e-6, Incoherence: 3, Rate: 0.01, Seed: 1}
}

// Validate says all that is wrong at once.
func (o *MatrixCompletion) Validate() error {
	var wrong []string
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	if o.Rank < 1 {
		say("rank is %d, want at least 1", o.Rank)
	}
	if o.Solver != "sketched" && o.Solver != "exact" && o.Solver != "sgd" {
		say("solver is %q, want sketched, exact or sgd", o.Solver)
	}
	if !(o.Accuracy > 0 && o.Accuracy < 1) {
		say("accuracy is %g, want above 0 and below 1", o.Accuracy)
	}
	if o.Oversample < 2 {
		say("oversample is %d, want at least 2", o.Oversample)
	}
	for _, v := range []struct {
		name  string
		value float64
	}{{"ridge", o.Ridge}, {"incoherence", o.Incoherence}} {
		if !(v.value >= 0) || math.IsInf(v.value, 0) {
			say("%s is %g, want 0 or a positive number", v.name, v.value)
		}
	}
	if o.Sweeps < 1 {
		say("sweeps is %d, want at least 1", o.Sweeps)
	}
	if !(o.Tol > 0) {
		say("tol is %g, want a positive number", o.Tol)
	}
	if o.Split < 0 {
		say("split is %d, want 0 or a number of parts", o.Split)
	}
	if !(o.Rate > 0) {
		say("rate is %g, want a positive number", o.Rate)
	}
	return optionsError("matrix completion", wrong)
}

// Sweep is one pass over the rows and the columns.
type Sweep struct {
	Number   int     `json:"number"`
	RMSE     float64 `json:"rmse"`     // on the entries used, before the columns were solved; of sgd as it went
	Residual float64 `json:"residual"` // the larger gradient of the two halves, each before its step
	Passes   float64 `json:"passes"`   // over the entries that a row's solver made, on average
	Seconds  float64 `json:"seconds"`  // since the start of the first sweep
}

// Completion is a completed matrix: Mean + U Vᵀ.
type Completion struct {
	Rows    int       `json:"rows"`
	Columns int       `json:"columns"`
	Rank    int       `json:"rank"`
	Mean    float64   `json:"mean"` // 0 unless centred
	U       []float64 `json:"u"`    // [rows, rank]
	V       []float64 `json:"v"`    // [columns, rank]; orthonormal columns where there is no ridge

	RMSE     float64 `json:"rmse"` // on the observed entries
	Residual float64 `json:"residual"`
	Sweeps   []Sweep `json:"sweeps"`
}

// At returns the entry of a row and a column, from 0. Rows and columns out of range are
// programmer errors.
func (c *Completion) At(row, column int) float64 {
	return c.Mean + floats.Dot(c.U[row*c.Rank:(row+1)*c.Rank], c.V[column*c.Rank:(column+1)*c.Rank])
}

// Predict returns an entry for each of the given ones, whose values it does not read.
func (c *Completion) Predict(entries []Entry) ([]float64, error) {
	out := make([]float64, len(entries))
	for i, e := range entries {
		if e.Row < 0 || int(e.Row) >= c.Rows || e.Column < 0 || int(e.Column) >= c.Columns {
			return nil, fmt.Errorf("optimize: entry %d is of row %d, column %d; the matrix has %d rows, %d columns", i+1, e.Row+1, e.Column+1, c.Rows, c.Columns)
		}
		out[i] = c.At(int(e.Row), int(e.Column))
	}
	return out, nil
}

// RootMeanSquare is the root of the mean squared distance to the given entries.
func (c *Completion) RootMeanSquare(entries []Entry) (float64, error) {
	p, err := c.Predict(entries)
	if err != nil || len(p) == 0 {
		return 0, err
	}
	var sum float64
	for i, e := range entries {
		sum += (p[i] - e.Value) * (p[i] - e.Value)
	}
	return math.Sqrt(sum / float64(len(entries))), nil
}

// Fit completes a matrix of the given size. An entry that stands several times counts as
// often. A row or column without entries is an [EmptyError]. Where the limit of sweeps
// comes first the completion is returned beside a [StoppedError].
func (o *MatrixCompletion) Fit(ctx context.Context, rows, columns int, entries []Entry) (*Completion, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if o.Rank > min(rows, columns) {
		return nil, optionsError("matrix completion", []string{fmt.Sprintf("rank is %d, the matrix has %d rows, %d columns", o.Rank, rows, columns)})
	}
	if err := checkEntries(rows, columns, entries); err != nil {
		return nil, err
	}
	c := &Completion{Rows: rows, Columns: columns, Rank: o.Rank, U: make([]float64, rows*o.Rank), V: make([]float64, columns*o.Rank)}
	if o.Centre {
		for i, e := range entries {
			c.Mean += (e.Value - c.Mean) / float64(i+1)
		}
	}
	var err error
	if o.Solver == "sgd" {
		err = o.descend(ctx, c, entries)
	} else {
		a := newAlternation(o, c, entries)
		err = a.run(ctx)
	}
	if c.Sweeps == nil && err != nil {
		return nil, err
	}
	c.RMSE, _ = c.RootMeanSquare(entries)
	return c, err
}

// alternation is one run of alternating minimisation.
type alternation struct {
	*MatrixCompletion
	c      *Completion
	parts  []part
	spaces *workspaces
	norm   float64 // ‖P_Ω(M)‖ over all entries
	count  int     // |Ω|
}

// part is a share of the entries, by rows and by columns.
type part struct{ rows, columns *sparse }

func newAlternation(o *MatrixCompletion, c *Completion, entries []Entry) *alternation {
	a := &alternation{MatrixCompletion: o, c: c, spaces: newWorkspaces(o.Rank, o.Oversample*o.Rank), count: len(entries)}
	for p := range max(o.Split, 1) {
		chosen := func(i int) bool { return true }
		if o.Split > 1 {
			chosen = func(i int) bool { return mix(o.Seed, uint64(i))%uint64(o.Split) == uint64(p) }
		}
		a.parts = append(a.parts, part{newSparse(c.Rows, entries, false, c.Mean, chosen), newSparse(c.Columns, entries, true, c.Mean, chosen)})
	}
	var squares float64
	for _, e := range entries {
		squares += (e.Value - c.Mean) * (e.Value - c.Mean)
	}
	a.norm = math.Sqrt(squares)
	return a
}

func (a *alternation) run(ctx context.Context) error {
	begun := time.Now()
	if a.norm == 0 {
		return nil // every entry is the mean, or 0
	}
	if err := a.start(ctx); err != nil {
		return fmt.Errorf("optimize: matrix completion: %w", err)
	}
	for t := 1; t <= a.Sweeps; t++ {
		first, err := a.half(ctx, t, false)
		if err != nil {
			return fmt.Errorf("optimize: matrix completion: sweep %d: %w", t, err)
		}
		second, err := a.half(ctx, t, true)
		if err != nil {
			return fmt.Errorf("optimize: matrix completion: sweep %d: %w", t, err)
		}
		s := Sweep{Number: t, RMSE: math.Sqrt(second.squares / float64(second.entries)), Residual: max(first.gradient, second.gradient),
			Passes: (first.passes + second.passes) / 2, Seconds: time.Since(begun).Seconds()}
		a.c.Sweeps = append(a.c.Sweeps, s)
		a.c.Residual = s.Residual
		if a.Trace != nil {
			a.Trace(s)
		}
		if s.Residual <= a.Tol {
			return nil
		}
	}
	return &StoppedError{"matrix completion", "this is the limit of sweeps; allow more, or a larger tolerance", a.Sweeps, a.c.Residual, a.Tol}
}

// halfSweep is what one half found before its step, and what the step took.
type halfSweep struct {
	entries  int
	squares  float64 // Σ of squared errors
	gradient float64 // relative
	passes   float64
}

// half solves all rows, or all columns, and makes their factor orthonormal.
func (a *alternation) half(ctx context.Context, sweep int, columns bool) (halfSweep, error) {
	n := 2*sweep - 2
	u, v, m := a.c.U, a.c.V, a.parts[n%len(a.parts)].rows
	if columns {
		n++
		u, v, m = a.c.V, a.c.U, a.parts[n%len(a.parts)].columns
	}
	h, err := a.solveRows(ctx, m, u, v, func(row int) uint64 { return mix(a.Seed^uint64(n)<<40, uint64(row)) }, func(row int, u []float64) {
		if a.Disturb != nil {
			a.Disturb(sweep, columns, row, u)
		}
	})
	if err != nil {
		return h, err
	}
	scale := a.norm * math.Sqrt(float64(len(m.value))/float64(a.count))
	if a.Ridge > 0 {
		scale *= max(floats.Norm(v, 2)/math.Sqrt(float64(a.Rank)), math.SmallestNonzeroFloat64)
	}
	h.gradient /= scale
	if i := notFinite(u); i >= 0 {
		return h, fmt.Errorf("a regression gave %g for row %d, columns %t: %w", u[i], i/a.Rank+1, columns, ErrData)
	}
	if a.Ridge == 0 {
		turn(v, orthonormalise(u, a.Rank), a.Rank)
	}
	return h, nil
}

func notFinite(x []float64) int {
	for i, v := range x {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return i
		}
	}
	return -1
}
