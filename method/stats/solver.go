package stats

import (
	"fmt"
	"math"
	"strings"

	"gonum.org/v1/gonum/mat"
)

// Faults of the data are a [ColumnError], a [RowError] or a [ClassError], which number what
// they speak of, so that who read a file can name it.

// Solver says how long a solver works, and who watches.
type Solver struct {
	Tol     float64 `yaml:"tol" json:"tol" help:"Largest violation of the conditions of an optimum, in units of the mean loss for a column of standard deviation 1." default:"1e-8"`
	MaxIter int     `yaml:"max_iter" json:"max_iter" help:"Most Newton steps for one penalty." default:"200"`

	// Trace takes every step; may be nil.
	Trace func(Step) `yaml:"-" json:"-"`
}

// NewSolver returns the defaults.
func NewSolver() Solver { return Solver{Tol: 1e-8, MaxIter: 200} }

// wrong lists what is wrong with the settings.
func (s Solver) wrong() []string {
	var w []string
	if !(s.Tol > 0) {
		w = append(w, fmt.Sprintf("tol is %g, want a positive number", s.Tol))
	}
	if s.MaxIter < 1 {
		w = append(w, fmt.Sprintf("max_iter is %d, want at least 1", s.MaxIter))
	}
	return w
}

// Step is one step of a solver: the objective after it, and how far from the conditions
// of an optimum it began.
type Step struct {
	Iteration int
	Lambda    float64
	Barrier   float64
	Objective float64
	Residual  float64
	Length    float64 // of the step, 1 for a whole Newton step
	Active    int     // coefficients that are in play
}

func optionsError(method string, wrong []string) error {
	if len(wrong) == 0 {
		return nil
	}
	return fmt.Errorf("stats: %s: %w: %s", method, ErrOptions, strings.Join(wrong, "; "))
}

// ColumnError is a column that a method cannot use.
type ColumnError struct {
	Column int // from 0
	Other  int // the column that it repeats, else −1
	Reason string
}

// Error numbers the column from 1.
func (e *ColumnError) Error() string {
	if e.Other >= 0 {
		return fmt.Sprintf("stats: column %d %s column %d", e.Column+1, e.Reason, e.Other+1)
	}
	return fmt.Sprintf("stats: column %d %s", e.Column+1, e.Reason)
}

// Unwrap returns [ErrData].
func (e *ColumnError) Unwrap() error { return ErrData }

// RowError is a value, or with a negative column a row, that a method cannot use.
type RowError struct {
	Row, Column int // from 0
	Value       float64
	Reason      string
}

// Error numbers row and column from 1.
func (e *RowError) Error() string {
	if e.Column < 0 {
		return fmt.Sprintf("stats: row %d %s", e.Row+1, e.Reason)
	}
	return fmt.Sprintf("stats: row %d, column %d: %g %s", e.Row+1, e.Column+1, e.Value, e.Reason)
}

// Unwrap returns [ErrData].
func (e *RowError) Unwrap() error { return ErrData }

// ClassError is a class of the response that a method cannot use.
type ClassError struct {
	Class  int // from 0
	Reason string
}

// Error numbers the class from 1.
func (e *ClassError) Error() string { return fmt.Sprintf("stats: class %d %s", e.Class+1, e.Reason) }

// Unwrap returns [ErrData].
func (e *ClassError) Unwrap() error { return ErrData }

// finite refuses a matrix with a value that is not a number or infinite.
func finite(x *mat.Dense) error {
	n, p := x.Dims()
	for i := range n {
		for j, v := range x.RawRowView(i)[:p] {
			if math.IsNaN(v) || math.IsInf(v, 0) {
				return &RowError{i, j, v, "is not a finite number"}
			}
		}
	}
	return nil
}
