package fitting

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"gonum.org/v1/gonum/mat"

	"tare/method/stats"
)

// Format names the layout of a model's file.
const Format = "tare-fit-1"

// Fitted is a model with all that applies it to another table, as its file stores it.
type Fitted struct {
	Format    string          `json:"format"`
	Method    string          `json:"method"`
	Options   json.RawMessage `json:"options"`
	Coding    *Coding         `json:"coding"`
	Rows      Rows            `json:"rows"`
	Notes     []string        `json:"notes"`           // how columns were coded, rows divided
	Train     *Scores         `json:"train,omitempty"` // nil where the method predicts no response
	Test      *Scores         `json:"test,omitempty"`
	Bootstrap *Bootstrap      `json:"bootstrap,omitempty"`
	Seconds   float64         `json:"seconds"`
	Model     json.RawMessage `json:"model"`

	model   Model
	method  Method
	figures []Figure
}

// Rows counts the rows of a table.
type Rows struct {
	Read    int `json:"read"`
	Dropped int `json:"dropped"` // for missing values
	Train   int `json:"train"`
	Test    int `json:"test"`
}

// Validate says all that is wrong at once.
func (r Recipe) Validate() error {
	var wrong []error
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }
	if !(r.Test >= 0 && r.Test < 1) {
		say("--test is %g, want 0 or more and less than 1", r.Test)
	}
	if r.Bootstrap < 0 || r.Bootstrap > 0 && r.Bootstrap < 20 {
		say("--bootstrap is %d, want 0 or at least 20: fewer say nothing of an interval", r.Bootstrap)
	}
	if !(r.Level > 0 && r.Level < 1) {
		say("--level is %g, want between 0 and 1", r.Level)
	}
	if !slices.Contains([]string{MissingRefuse, MissingDrop, MissingMean, MissingMedian}, r.Missing) {
		say("--missing is %q, want refuse, drop, mean or median", r.Missing)
	}
	if wrong == nil {
		return nil
	}
	return fmt.Errorf("fitting: %w: %w", ErrFormula, errors.Join(wrong...))
}

// Fit fits a method to a table: it settles the coding, keeps rows out, fits, predicts the
// rows kept out, and draws resamples.
func Fit(ctx context.Context, t *Sheet, m Method, o Options, r Recipe, run Run) (*Fitted, error) {
	began := time.Now()
	if err := errors.Join(r.Validate(), o.Validate()); err != nil {
		return nil, err
	}
	if run.Progress == nil {
		run.Progress = func(int, int, string) {}
	}
	c, err := learn(t, r, m.Takes)
	if err != nil {
		return nil, err
	}
	rows, err := c.usable(t, true)
	if err != nil {
		return nil, err
	}
	if m.Takes.Response == NoResponse {
		r.Test = 0 // nothing is predicted that could be compared
	}
	trainRows, testRows, err := c.divide(t, rows, r.Test, run.Seed)
	if err != nil {
		return nil, err
	}
	if err := c.settle(t, trainRows); err != nil {
		return nil, err
	}
	train, err := c.problem(t, trainRows, true)
	if err != nil {
		return nil, err
	}
	f := &Fitted{Format: Format, Method: m.Name, Coding: c, method: m,
		Rows: Rows{len(t.Lines), len(t.Lines) - len(rows), len(trainRows), len(testRows)}}
	if f.model, err = o.Fit(ctx, train, run); err != nil {
		return nil, named(err, train)
	}
	if err := f.examine(t, train, testRows); err != nil {
		return nil, err
	}
	if r.Bootstrap > 0 {
		if f.Bootstrap, err = bootstrap(ctx, f.model, train, r, run); err != nil {
			return nil, err
		}
	}
	f.Notes = slices.Concat(c.notes(t), f.divided(r), f.Notes)
	if f.Options, err = json.Marshal(o); err != nil {
		return nil, fmt.Errorf("fitting: %s: options: %w", m.Name, err)
	}
	if f.Model, err = json.Marshal(f.model); err != nil {
		return nil, fmt.Errorf("fitting: %s: model: %w", m.Name, err)
	}
	f.Seconds = time.Since(began).Seconds()
	return f, nil
}

// examine predicts the rows fitted and those kept out.
func (f *Fitted) examine(t *Sheet, train *Problem, testRows []int) error {
	if own, ok := f.model.(Illustrated); ok {
		f.figures = own.Figures()
	}
	predictor, ok := f.model.(Predictor)
	if !ok || train.Y == nil {
		return nil
	}
	said, err := predictor.Predict(train)
	if err != nil {
		return named(err, train)
	}
	f.Train = scoresOf(said, train)
	shown, from := said, train
	if len(testRows) > 0 {
		test, err := f.Coding.problem(t, testRows, true)
		if err != nil {
			return err
		}
		if shown, err = predictor.Predict(test); err != nil {
			return named(err, test)
		}
		f.Test, from = scoresOf(shown, test), test
		f.Notes = append(f.Notes, shown.Notes...)
	}
	f.figures = append(f.figures, examined(shown, from, len(testRows) > 0)...)
	return nil
}

// divide keeps a share of the rows out: of each class, of each sequence as a whole, or of
// all.
func (c *Coding) divide(t *Sheet, rows []int, share float64, seed uint64) (train, test []int, err error) {
	if share == 0 {
		return rows, nil, nil
	}
	rng := rand.New(rand.NewPCG(seed, 0x74657374))
	by := ""
	switch {
	case c.Group != "":
		by = c.Group
	case c.Classes != nil:
		by = c.Response
	}
	parts := map[string][]int{}
	var order []string
	at := -1
	if by != "" {
		if at, err = t.column(by); err != nil {
			return nil, nil, err
		}
	} else if c.Time != "" { // one sequence: its end is kept out
		kept := max(1, int(share*float64(len(rows))+0.5))
		return rows[:len(rows)-kept], rows[len(rows)-kept:], nil
	}
	for _, row := range rows {
		name := ""
		if at >= 0 {
			name = t.Cells[at][row]
		}
		if parts[name] == nil {
			order = append(order, name)
		}
		parts[name] = append(parts[name], row)
	}
	out := map[int]bool{}
	if c.Group != "" {
		rng.Shuffle(len(order), func(a, b int) { order[a], order[b] = order[b], order[a] })
		for _, name := range order[:int(share*float64(len(order))+0.5)] {
			for _, row := range parts[name] {
				out[row] = true
			}
		}
	} else {
		for _, name := range order {
			part := parts[name]
			rng.Shuffle(len(part), func(a, b int) { part[a], part[b] = part[b], part[a] })
			for _, row := range part[:int(share*float64(len(part))+0.5)] {
				out[row] = true
			}
		}
	}
	for _, row := range rows {
		if out[row] {
			test = append(test, row)
		} else {
			train = append(train, row)
		}
	}
	if len(train) == 0 {
		return nil, nil, fmt.Errorf("fitting: %s: %w: keeping %g of the rows out leaves none to fit", t.Path, ErrTable, share)
	}
	return train, test, nil
}

// notes says how the table was coded.
func (c *Coding) notes(t *Sheet) []string {
	var out []string
	if c.Classes != nil {
		out = append(out, fmt.Sprintf("response %s: %d classes in the order %s", c.Response, len(c.Classes), joined(c.Classes, " < ")))
	}
	for _, s := range c.Sources {
		if s.Levels != nil && c.Columns != Keys {
			out = append(out, fmt.Sprintf("%s: a category of %d levels, indicators against %s", s.Name, len(s.Levels), s.Levels[0]))
		}
		if s.Fill != nil {
			at, err := t.column(s.Name)
			if err == nil && slices.Contains(t.Cells[at], "") {
				out = append(out, fmt.Sprintf("%s: missing values are %.6g, the %s of the rows fitted", s.Name, *s.Fill, c.Missing))
			}
		}
	}
	switch {
	case c.Scaled:
		out = append(out, "columns are standardised: coefficients are per standard deviation over the rows fitted")
	case c.Columns == Numbers:
		out = append(out, "columns are not standardised: coefficients are per unit")
	}
	return out
}

// divided says how the rows were divided.
func (f *Fitted) divided(r Recipe) []string {
	var out []string
	if f.Rows.Dropped > 0 {
		out = append(out, fmt.Sprintf("%d of %d rows lack a value and were dropped", f.Rows.Dropped, f.Rows.Read))
	}
	if f.Rows.Test == 0 {
		return append(out, fmt.Sprintf("fitted to %d rows, none kept out", f.Rows.Train))
	}
	how := "at random"
	switch {
	case f.Coding.Group != "":
		how = "whole sequences at random"
	case f.Coding.Classes != nil:
		how = "at random within each class"
	case f.Coding.Time != "":
		how = "the last ones"
	}
	return append(out, fmt.Sprintf("fitted to %d rows, %d kept out (%s)", f.Rows.Train, f.Rows.Test, how))
}

func joined(words []string, by string) string {
	const most = 12
	out := ""
	for i, w := range words {
		if i == most {
			return out + by + "…"
		}
		if i > 0 {
			out += by
		}
		out += w
	}
	return out
}

// Rows returns a problem of some rows, in their order.
func (p *Problem) Rows(rows []int) *Problem {
	q := *p
	q.Lines, q.Y, q.Group = nil, nil, nil
	q.X = mat.NewDense(len(rows), len(p.Names), nil)
	for i, at := range rows {
		copy(q.X.RawRowView(i), p.X.RawRowView(at))
		q.Lines = append(q.Lines, p.Lines[at])
		if p.Y != nil {
			q.Y = append(q.Y, p.Y[at])
		}
		if p.Group != nil {
			q.Group = append(q.Group, p.Group[at])
		}
	}
	return &q
}

// named says of a fault which line, column and class of the file it speaks of.
func named(err error, p *Problem) error {
	var column *stats.ColumnError
	var row *stats.RowError
	var class *stats.ClassError
	switch {
	case errors.As(err, &column) && column.Column < len(p.Names):
		other := ""
		if column.Other >= 0 {
			other = fmt.Sprintf(" %q", p.Names[column.Other])
		}
		return fmt.Errorf("fitting: %w: column %q %s%s", ErrData, p.Names[column.Column], column.Reason, other)
	case errors.As(err, &row) && row.Row < len(p.Lines):
		if row.Column < 0 || row.Column >= len(p.Names) {
			return fmt.Errorf("fitting: %w: line %d %s", ErrData, p.Lines[row.Row], row.Reason)
		}
		return fmt.Errorf("fitting: %w: line %d, column %q: %g %s", ErrData, p.Lines[row.Row], p.Names[row.Column], row.Value, row.Reason)
	case errors.As(err, &class) && class.Class < len(p.Classes):
		return fmt.Errorf("fitting: %w: class %q %s", ErrData, p.Classes[class.Class], class.Reason)
	}
	return err
}
