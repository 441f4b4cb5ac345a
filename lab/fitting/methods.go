// Package fitting is what tare fit and tare predict do: it reads a table, makes numbers
// of the columns that a statistical method takes, fits it, measures it on rows that were
// kept out, and stores the model with all that is needed to apply it to another table.
//
// The methods are in method/stats, method/optimize and method/bayes. What they have in
// common here is a row of Methods and a file of this package that hands their Fit the
// columns and shows what came of it.
package fitting

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"gonum.org/v1/gonum/mat"

	"tare/engine/nearest"
	"tare/method/bayes"
	"tare/method/stats"
)

// Method is one row of the list.
type Method struct {
	Name  string         // as the command line says it
	Slug  string         // its page in the catalog; empty for a baseline
	Help  string         // one line: what it fits
	Takes Takes          // the columns it takes
	New   func() Options // options with their defaults
	Model func() Model   // an empty model, which a file's JSON is read into
}

// Methods lists what tare fit fits.
func Methods() []Method {
	return []Method{
		{"presto", "presto", "Ordinal regression that shrinks towards proportional odds, for a rare last class.", Takes{Response: Ordered},
			func() Options { return &prestoOptions{*stats.NewPresto()} }, func() Model { return &ordinalModel{} }},
		{"proportional-odds", "", "Ordinal regression with one set of weights.", Takes{Response: Ordered},
			func() Options { return &proportionalOptions{*stats.NewProportionalOdds()} }, func() Model { return &ordinalModel{} }},
		{"separate-odds", "", "Ordinal regression with weights for each cut.", Takes{Response: Ordered},
			func() Options { return &separateOptions{*stats.NewNonProportional()} }, func() Model { return &ordinalModel{} }},
		{"logistic", "", "Logistic regression of the last class against all others.", Takes{Response: Ordered},
			func() Options { return &logisticOptions{*stats.NewLogistic()} }, func() Model { return &ordinalModel{} }},
		{"partial-correlation", "compositional-partial-correlation", "Partial correlations of the parts of a whole.", Takes{Columns: Parts},
			func() Options { return &partialOptions{*stats.NewPartialCorrelation()} }, func() Model { return &partialModel{} }},
		{"arphmm", "arphmm", "Autoregressive hidden Markov model; rows in the order of time.", Takes{Sequence: true},
			func() Options { return &arphmmOptions{ARPHMM: *stats.NewARPHMM()} }, func() Model { return &arphmmModel{} }},
		{"lasso", "block-coordinate-descent", "Least squares with few coefficients, by block coordinate descent.", Takes{Response: Number},
			func() Options { return newLassoOptions() }, func() Model { return &lassoModel{} }},
		{"matrix-completion", "robust-matrix-completion", "A low-rank matrix from some of its entries, such as ratings by user and item.", Takes{Response: Number, Columns: Keys},
			func() Options { return newCompletionOptions() }, func() Model { return &completionModel{} }},
		{"context-tree", "universality-lens", "What comes next in sequences of symbols, by all context trees at once; rows in the order of time.", Takes{Columns: Keys, Sequence: true},
			func() Options { return &contextOptions{*bayes.NewContextTree(2)} }, func() Model { return &contextModel{} }},
	}
}

// ErrMethod marks the name of a method that is not in the list.
var ErrMethod = errors.New("unknown method")

// ByName returns the method with that name.
func ByName(name string) (Method, error) {
	var known []string
	for _, m := range Methods() {
		if m.Name == name {
			return m, nil
		}
		known = append(known, m.Name)
	}
	if near := nearest.Of(strings.ToLower(name), known); near != "" {
		return Method{}, fmt.Errorf("fitting: %w %q, did you mean %q?", ErrMethod, name, near)
	}
	return Method{}, fmt.Errorf("fitting: %w %q (known: %s)", ErrMethod, name, strings.Join(known, ", "))
}

// Response says what a method predicts.
type Response int

// The kinds of response.
const (
	NoResponse Response = iota
	Number              // any finite number
	Binary              // two levels
	Ordered             // levels in an order
)

// Columns says what the other columns are to a method.
type Columns int

// The kinds of columns.
const (
	Numbers Columns = iota // numbers, indicators for words; standardised unless told not to
	Parts                  // amounts of the parts of a whole, as they stand in the file
	Keys                   // each column names things, as the rows and columns of a matrix
)

// Takes says which columns a method takes.
type Takes struct {
	Response Response
	Columns  Columns
	Sequence bool // rows are in the order of time; --group tells the sequences apart
}

// Problem is a table in numbers: what a method fits, or predicts for.
type Problem struct {
	Lines    []int      // of the file that each row came from, for messages
	Names    []string   // of the columns of X
	X        *mat.Dense // [n, p]; of Keys, indices into Levels
	Levels   [][]string // of Keys, each column's; else nil
	Response string     // its name
	Y        []float64  // [n]; of Binary and Ordered, indices into Classes; nil where there is no response
	Classes  []string   // of the response, in their order
	Group    []int      // [n] which sequence a row is of, from 0; nil without --group
	Groups   []string   // the sequences' names
}

// Run is what surrounds a fit.
type Run struct {
	Seed     uint64
	Progress func(done, total int, note string) // never nil
}

// Options are a method's settings: a pointer to a struct whose fields carry yaml and
// help tags, which -o and recipes set by the yaml names.
type Options interface {
	// Validate says all that is wrong at once.
	Validate() error
	// Fit fits the method. Faults of the data wrap [ErrData] and name line, column and
	// value.
	Fit(ctx context.Context, p *Problem, r Run) (Model, error)
}

// ErrData marks a table that a method cannot fit.
var ErrData = errors.New("the data do not allow this fit")

// Model is a fitted method. Its exported fields are what the file stores, as JSON.
type Model interface {
	// Tables are what a person reads of it.
	Tables() []Table
}

// Predictor is a Model that says something of new rows.
type Predictor interface {
	Predict(p *Problem) (*Prediction, error)
}

// Refitter is a Model that can be fitted to other rows at the settings that were chosen
// the first time; the bootstrap draws rows and calls it.
type Refitter interface {
	Model
	Refit(ctx context.Context, p *Problem) (Model, error)
	// Coefficients are the numbers that get intervals, in an order that refits keep.
	Coefficients() []Coefficient
}

// Illustrated is a Model with drawings of its own.
type Illustrated interface {
	Figures() []Figure
}

// Coefficient is one estimated number. Low and High are the ends of its bootstrap
// interval, nil where none was asked for.
type Coefficient struct {
	Name  string   `json:"name"`
	Value float64  `json:"value"`
	Low   *float64 `json:"low,omitempty"`
	High  *float64 `json:"high,omitempty"`
}

// Prediction is what a model says of rows: classes with their probabilities, or columns
// of numbers, of which the first is the prediction of the response.
type Prediction struct {
	Classes       []string    `json:"classes,omitempty"`
	Probabilities [][]float64 `json:"probabilities,omitempty"` // [n][classes]
	Columns       []string    `json:"columns,omitempty"`
	Values        [][]float64 `json:"values,omitempty"` // [n][columns]
	Notes         []string    `json:"notes,omitempty"`  // such as how many rows were clipped
}

// Table is a piece of a report. A header that begins with a space is of numbers, which
// align to the right.
type Table struct {
	Title  string     `json:"title"`
	Header []string   `json:"header"`
	Rows   [][]string `json:"rows"`
}

// Figure is a drawing in data: lines and points on two axes, or a Grid of shades.
type Figure struct {
	Name  string   `json:"name"` // of the file, without extension
	Title string   `json:"title"`
	X, Y  string   `json:"-"` // axis labels
	LogX  bool     `json:"-"`
	LogY  bool     `json:"-"`
	Lines []Series `json:"-"`
	Dots  []Series `json:"-"`
	Grid  *Grid    `json:"-"`

	Labels []string `json:"-"` // of the dots, from the top, which then lie in rows
}

// Series is a line or a set of dots; Low and High, where there are any, are the ends of
// bars through the dots.
type Series struct {
	Name      string
	X, Y      []float64
	Low, High []float64
	Dashed    bool
}

// Grid is a matrix of shades from -1 to 1, as of correlations.
type Grid struct {
	Rows, Columns []string
	Values        [][]float64
}
