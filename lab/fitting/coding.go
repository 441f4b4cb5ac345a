package fitting

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"gonum.org/v1/gonum/mat"
	"gonum.org/v1/gonum/stat"

	"tare/engine/nearest"
)

// The ways of dealing with missing values.
const (
	MissingRefuse = "refuse"
	MissingDrop   = "drop"
	MissingMean   = "mean"
	MissingMedian = "median"
)

// Coding is how a table becomes numbers: learnt from the rows that a model is fitted to,
// stored with it, and applied to any other table.
//
// A column of numbers is taken as it is. A column of words, or one that is said to be a
// category, becomes an indicator for each level but the first in order, which the model's
// intercepts stand for. Missing values are refused, their rows dropped, or imputed: a
// number by the column's mean or median, a word by the level "(missing)".
type Coding struct {
	Response string   `json:"response,omitempty"`
	Classes  []string `json:"classes,omitempty"` // of the response, in order
	Sources  []Source `json:"sources"`
	Design   []Design `json:"design"` // the columns of X
	Missing  string   `json:"missing"`
	Scaled   bool     `json:"standardised"`
	Group    string   `json:"group,omitempty"`
	Time     string   `json:"time,omitempty"`
	Columns  Columns  `json:"columns"`
}

// Source is a column of the table.
type Source struct {
	Name   string   `json:"name"`
	Levels []string `json:"levels,omitempty"` // of a category, in order
	Fill   *float64 `json:"fill,omitempty"`   // what stands for a missing number
}

// missingLevel is the level of a category that stands for no value, where these are imputed.
const missingLevel = "(missing)"

// Design is a column of X: a product of numbers and indicators.
type Design struct {
	Name    string  `json:"name"`
	Factors []Piece `json:"factors"`
	Mean    float64 `json:"mean"`  // taken off,
	Scale   float64 `json:"scale"` // and divided by: 0 and 1 without standardisation
}

// Piece is a factor of a design column: a number under a function, or whether a category
// is at a level.
type Piece struct {
	Source   int    `json:"source"`
	Function string `json:"function,omitempty"`
	Level    int    `json:"level"` // −1 of a number
}

// Recipe says what of a table is fitted, and how the fit is examined.
type Recipe struct {
	Response   string   `yaml:"response" help:"Column to predict."`
	Formula    string   `yaml:"formula" help:"Choice of columns, as 'y ~ a + log(b) + c:d - e'; a dot stands for all others. Without it all columns are taken."`
	Order      []string `yaml:"order" help:"The response's classes in their order, the rarest last; without it numbers go by size and words by the alphabet."`
	Categories []string `yaml:"categories" help:"Columns whose numbers are names of categories."`
	Missing    string   `yaml:"missing" default:"refuse" enum:"refuse,drop,mean,median" help:"Missing values (empty, NA, NaN, null): refuse them, drop their rows, or put the mean or median; words then have a level of their own."`
	Scale      bool     `yaml:"standardise" name:"standardise" default:"true" negatable:"" help:"Take from each column its mean over the rows fitted and divide by its standard deviation; parts and keys stay."`
	Group      string   `yaml:"group" help:"Column that tells sequences apart."`
	Time       string   `yaml:"time" help:"Column that orders a sequence's rows; without it they are in order."`
	Test       float64  `yaml:"test" default:"0.2" help:"Share of the rows that are kept out and predicted; 0 keeps none."`
	Bootstrap  int      `yaml:"bootstrap" default:"0" help:"Resamples of the rows that coefficients' intervals are from; 0 gives none."`
	Level      float64  `yaml:"level" default:"0.95" help:"Share of the resamples that an interval holds."`
}

// learn settles how the table's rows become numbers.
func learn(t *Sheet, r Recipe, takes Takes) (*Coding, error) {
	response, terms, err := ParseFormula(r.Formula, r.Response, t.Names)
	if err != nil {
		return nil, err
	}
	c := &Coding{Missing: r.Missing, Scaled: r.Scale && takes.Columns == Numbers, Group: r.Group, Time: r.Time, Columns: takes.Columns}
	switch {
	case takes.Response == NoResponse && response != "":
		return nil, fmt.Errorf("fitting: %w: the method predicts no column; leave out the response %q", ErrFormula, response)
	case takes.Response != NoResponse && response == "":
		return nil, fmt.Errorf("fitting: %w: name the column to predict with --response", ErrFormula)
	case response != "":
		if _, err := t.column(response); err != nil {
			return nil, err
		}
		c.Response = response
	}
	for _, name := range []string{r.Group, r.Time} {
		if name == "" {
			continue
		}
		if !takes.Sequence {
			return nil, fmt.Errorf("fitting: %w: the method takes no sequences; leave out --group and --time", ErrFormula)
		}
		if _, err := t.column(name); err != nil {
			return nil, err
		}
		terms = slices.DeleteFunc(terms, func(u Term) bool { return len(u) == 1 && u[0].Column == name })
	}
	if err := c.learnResponse(t, r, takes); err != nil {
		return nil, err
	}
	for _, term := range terms {
		if err := c.addTerm(t, r, term); err != nil {
			return nil, err
		}
	}
	if len(c.Design) == 0 {
		return nil, fmt.Errorf("fitting: %s: %w: no columns are left to fit", t.Path, ErrTable)
	}
	return c, nil
}

// learnResponse finds the classes of a response that has some.
func (c *Coding) learnResponse(t *Sheet, r Recipe, takes Takes) error {
	if takes.Response != Binary && takes.Response != Ordered {
		if len(r.Order) > 0 {
			return fmt.Errorf("fitting: %w: the method's response has no classes; leave out --order", ErrFormula)
		}
		return nil
	}
	at, _ := t.column(c.Response)
	c.Classes = levelsOf(t.Cells[at])
	if len(r.Order) > 0 {
		for i, v := range t.Cells[at] {
			if v != "" && !slices.Contains(r.Order, v) {
				return fmt.Errorf("fitting: %s: %w: line %d, column %q: %q is not among the classes %s", t.Path, ErrTable, t.Lines[i], c.Response, v, strings.Join(r.Order, ", "))
			}
		}
		for i, v := range r.Order {
			if !slices.Contains(c.Classes, v) {
				return fmt.Errorf("fitting: %s: %w: class %q of the response %q has no example", t.Path, ErrTable, v, c.Response)
			}
			if slices.Contains(r.Order[:i], v) {
				return fmt.Errorf("fitting: %w: class %q is twice in --order", ErrFormula, v)
			}
		}
		c.Classes = slices.Clone(r.Order)
	}
	const most = 100
	switch n := len(c.Classes); {
	case n < 2:
		return fmt.Errorf("fitting: %s: %w: the response %q has %d class, two are needed", t.Path, ErrTable, c.Response, n)
	case takes.Response == Binary && n > 2:
		return fmt.Errorf("fitting: %s: %w: the response %q has %d classes, the method takes two", t.Path, ErrTable, c.Response, n)
	case n > most:
		return fmt.Errorf("fitting: %s: %w: the response %q has %d values, more than the %d classes that a method of classes takes", t.Path, ErrTable, c.Response, n, most)
	}
	return nil
}

// levelsOf returns the values of a column that are there, numbers by size, words by the
// alphabet.
func levelsOf(cells []string) []string {
	seen := map[string]bool{}
	numbers := true
	for _, v := range cells {
		if v == "" || seen[v] {
			continue
		}
		seen[v] = true
		if _, err := strconv.ParseFloat(v, 64); err != nil {
			numbers = false
		}
	}
	out := make([]string, 0, len(seen))
	for v := range seen {
		out = append(out, v)
	}
	slices.SortFunc(out, func(a, b string) int {
		if numbers {
			x, _ := strconv.ParseFloat(a, 64)
			y, _ := strconv.ParseFloat(b, 64)
			switch {
			case x < y:
				return -1
			case x > y:
				return 1
			}
		}
		return strings.Compare(a, b)
	})
	return out
}

// addTerm adds a term's columns to the design.
func (c *Coding) addTerm(t *Sheet, r Recipe, term Term) error {
	columns := []Design{{Name: "", Scale: 1}}
	for _, f := range term {
		source, err := c.source(t, r, f)
		if err != nil {
			return err
		}
		var next []Design
		for _, d := range columns {
			for _, p := range c.pieces(source, f) {
				name := f.String()
				if p.Level >= 0 && c.Columns != Keys {
					name += "=" + c.Sources[source].Levels[p.Level]
				}
				if d.Name != "" {
					name = d.Name + ":" + name
				}
				next = append(next, Design{Name: name, Factors: append(slices.Clone(d.Factors), p), Scale: 1})
			}
		}
		columns = next
	}
	if len(columns) == 0 {
		return fmt.Errorf("fitting: %s: %w: column %q has one value (%q); leave it out with - %s", t.Path, ErrTable, term[0].Column, firstCell(t, term[0].Column), term[0].Column)
	}
	c.Design = append(c.Design, columns...)
	return nil
}

func firstCell(t *Sheet, name string) string {
	at, err := t.column(name)
	if err != nil {
		return ""
	}
	return t.Cells[at][0]
}

// pieces are what a source puts into a product: its number, or an indicator for each
// level but the first.
func (c *Coding) pieces(source int, f Factor) []Piece {
	levels := c.Sources[source].Levels
	if levels == nil || c.Columns == Keys {
		return []Piece{{Source: source, Function: f.Function, Level: -1}}
	}
	var out []Piece
	for l := 1; l < len(levels); l++ {
		out = append(out, Piece{Source: source, Level: l})
	}
	return out
}

// source returns the place of a factor's column among the sources, which it joins.
func (c *Coding) source(t *Sheet, r Recipe, f Factor) (int, error) {
	if i := slices.IndexFunc(c.Sources, func(s Source) bool { return s.Name == f.Column }); i >= 0 {
		return i, nil
	}
	at, err := t.column(f.Column)
	if err != nil {
		return 0, err
	}
	if f.Column == c.Response {
		return 0, fmt.Errorf("fitting: %w: %q is the response and cannot explain itself", ErrFormula, f.Column)
	}
	s := Source{Name: f.Column}
	words := firstWord(t.Cells[at])
	category := c.Columns == Keys || words >= 0 || slices.Contains(r.Categories, f.Column)
	if category && c.Columns == Parts {
		return 0, fmt.Errorf("fitting: %s: %w: line %d, column %q: %q is no number; leave out columns that are not parts, as with --formula '. - %s'", t.Path, ErrTable, t.Lines[max(0, words)], f.Column, t.Cells[at][max(0, words)], f.Column)
	}
	if category && f.Function != "" {
		return 0, fmt.Errorf("fitting: %s: %w: %s: line %d: %q is no number", t.Path, ErrTable, f, t.Lines[max(0, words)], t.Cells[at][max(0, words)])
	}
	if category {
		s.Levels = levelsOf(t.Cells[at])
		if r.Missing != MissingRefuse && r.Missing != MissingDrop && slices.Contains(t.Cells[at], "") {
			s.Levels = append(s.Levels, missingLevel)
		}
		const most = 1000
		if len(s.Levels) > most && c.Columns != Keys {
			return 0, fmt.Errorf("fitting: %s: %w: column %q has %d different words; leave it out with - %s", t.Path, ErrTable, f.Column, len(s.Levels), f.Column)
		}
	}
	c.Sources = append(c.Sources, s)
	return len(c.Sources) - 1, nil
}

// firstWord is the first row whose cell is neither a number nor missing, or −1.
func firstWord(cells []string) int {
	return slices.IndexFunc(cells, func(v string) bool {
		if v == "" {
			return false
		}
		_, err := strconv.ParseFloat(v, 64)
		return err != nil
	})
}

// imputed says whether missing values are filled.
func (c *Coding) imputed() bool { return c.Missing == MissingMean || c.Missing == MissingMedian }

// settle learns from the rows fitted what missing numbers become, and how columns are
// standardised.
func (c *Coding) settle(t *Sheet, rows []int) error {
	for i := range c.Sources {
		s := &c.Sources[i]
		if s.Levels != nil || !c.imputed() {
			continue
		}
		at, err := t.column(s.Name)
		if err != nil {
			return err
		}
		var there []float64
		for _, row := range rows {
			if v, err := strconv.ParseFloat(t.Cells[at][row], 64); err == nil && !math.IsInf(v, 0) {
				there = append(there, v)
			}
		}
		if len(there) == 0 {
			return fmt.Errorf("fitting: %s: %w: column %q has no value among the rows fitted", t.Path, ErrTable, s.Name)
		}
		fill := stat.Mean(there, nil)
		if c.Missing == MissingMedian {
			slices.Sort(there)
			fill = (there[(len(there)-1)/2] + there[len(there)/2]) / 2
		}
		s.Fill = &fill
	}
	if !c.Scaled {
		return nil
	}
	x, err := c.design(t, rows)
	if err != nil {
		return err
	}
	for j := range c.Design {
		mean, sd := stat.MeanStdDev(mat.Col(nil, j, x), nil)
		if !(sd > 1e-12*(1+math.Abs(mean))) {
			return fmt.Errorf("fitting: %s: %w: column %q is constant (%g) over the rows fitted; leave it out", t.Path, ErrTable, c.Design[j].Name, mean)
		}
		c.Design[j].Mean, c.Design[j].Scale = mean, sd
	}
	return nil
}

// usable returns the rows without missing values, where these are dropped, else all;
// with, also those whose response is missing go.
func (c *Coding) usable(t *Sheet, response bool) ([]int, error) {
	var rows, places []int
	for _, s := range c.Sources {
		at, err := t.column(s.Name)
		if err != nil {
			return nil, err
		}
		places = append(places, at)
	}
	if response && c.Response != "" {
		at, err := t.column(c.Response)
		if err != nil {
			return nil, err
		}
		places = append(places, at)
	}
	for i := range t.Lines {
		if c.Missing != MissingDrop || !slices.ContainsFunc(places, func(at int) bool { return t.Cells[at][i] == "" }) {
			rows = append(rows, i)
		}
	}
	if len(rows) == 0 {
		return nil, fmt.Errorf("fitting: %s: %w: every row lacks a value", t.Path, ErrTable)
	}
	return rows, nil
}

// problem makes numbers of rows of a table.
func (c *Coding) problem(t *Sheet, rows []int, response bool) (*Problem, error) {
	p := &Problem{Response: c.Response, Classes: c.Classes}
	for _, d := range c.Design {
		p.Names = append(p.Names, d.Name)
	}
	if c.Columns == Keys {
		for _, s := range c.Sources {
			p.Levels = append(p.Levels, s.Levels)
		}
	}
	rows, err := c.sequences(t, rows, p)
	if err != nil {
		return nil, err
	}
	for _, row := range rows {
		p.Lines = append(p.Lines, t.Lines[row])
	}
	if p.X, err = c.design(t, rows); err != nil {
		return nil, err
	}
	if response && c.Response != "" {
		p.Y, err = c.response(t, rows)
	}
	return p, err
}

// design returns X for rows.
func (c *Coding) design(t *Sheet, rows []int) (*mat.Dense, error) {
	columns := make([][]float64, len(c.Sources))
	for i := range c.Sources {
		var err error
		if columns[i], err = c.numbers(t, rows, i); err != nil {
			return nil, err
		}
	}
	x := mat.NewDense(len(rows), len(c.Design), nil)
	for q, row := range rows {
		out := x.RawRowView(q)
		for j, d := range c.Design {
			v := 1.0
			for _, f := range d.Factors {
				u, err := f.value(columns[f.Source][q])
				if err != nil {
					return nil, fmt.Errorf("fitting: %s: %w: line %d, column %q: %w", t.Path, ErrTable, t.Lines[row], c.Sources[f.Source].Name, err)
				}
				v *= u
			}
			out[j] = (v - d.Mean) / d.Scale
		}
	}
	return x, nil
}

// value is what the piece makes of a number, or of a level's index.
func (p Piece) value(v float64) (float64, error) {
	if p.Level >= 0 {
		if int(v) == p.Level {
			return 1, nil
		}
		return 0, nil
	}
	switch p.Function {
	case "log":
		if v <= 0 {
			return 0, fmt.Errorf("%g has no logarithm", v)
		}
		return math.Log(v), nil
	case "sqrt":
		if v < 0 {
			return 0, fmt.Errorf("%g has no square root", v)
		}
		return math.Sqrt(v), nil
	case "square":
		return v * v, nil
	}
	return v, nil
}

// numbers reads a source's cells: a number, or the index of a level.
func (c *Coding) numbers(t *Sheet, rows []int, source int) ([]float64, error) {
	s := c.Sources[source]
	at, err := t.column(s.Name)
	if err != nil {
		return nil, err
	}
	index := map[string]int{}
	for l, name := range s.Levels {
		index[name] = l
	}
	out := make([]float64, len(rows))
	for q, row := range rows {
		cell := t.Cells[at][row]
		fail := func(format string, args ...any) error {
			return fmt.Errorf("fitting: %s: %w: line %d, column %q: %s", t.Path, ErrTable, t.Lines[row], s.Name, fmt.Sprintf(format, args...))
		}
		switch {
		case cell == "" && s.Levels != nil && slices.Contains(s.Levels, missingLevel):
			cell = missingLevel
		case cell == "" && s.Levels == nil && s.Fill != nil:
			out[q] = *s.Fill
			continue
		case cell == "":
			return nil, fail("the value is missing; drop such rows or impute with --missing drop, mean or median")
		}
		if s.Levels != nil {
			level, known := index[cell]
			if !known {
				if near := nearest.Of(cell, s.Levels); near != "" {
					return nil, fail("%q is not among the levels that were fitted; did you mean %q?", cell, near)
				}
				return nil, fail("%q is not among the levels that were fitted", cell)
			}
			out[q] = float64(level)
			continue
		}
		v, err := strconv.ParseFloat(cell, 64)
		switch {
		case err != nil && !math.IsInf(v, 0):
			return nil, fail("%q is no number", cell)
		case math.IsNaN(v) || math.IsInf(v, 0):
			return nil, fail("%s is not a finite number", cell)
		}
		out[q] = v
	}
	return out, nil
}

// response reads the response: a number, or the index of a class.
func (c *Coding) response(t *Sheet, rows []int) ([]float64, error) {
	at, err := t.column(c.Response)
	if err != nil {
		return nil, err
	}
	out := make([]float64, len(rows))
	for q, row := range rows {
		cell := t.Cells[at][row]
		fail := func(format string, args ...any) error {
			return fmt.Errorf("fitting: %s: %w: line %d, response %q: %s", t.Path, ErrTable, t.Lines[row], c.Response, fmt.Sprintf(format, args...))
		}
		if cell == "" {
			return nil, fail("the value is missing; a response is not imputed: drop such rows with --missing drop")
		}
		if c.Classes != nil {
			k := slices.Index(c.Classes, cell)
			if k < 0 {
				return nil, fail("%q is not among the classes %s", cell, strings.Join(c.Classes, ", "))
			}
			out[q] = float64(k)
			continue
		}
		v, err := strconv.ParseFloat(cell, 64)
		if err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
			return nil, fail("%q is not a finite number", cell)
		}
		out[q] = v
	}
	return out, nil
}

// sequences orders rows by sequence and time, and numbers the sequences.
func (c *Coding) sequences(t *Sheet, rows []int, p *Problem) ([]int, error) {
	rows = slices.Clone(rows)
	if c.Group == "" && c.Time == "" {
		return rows, nil
	}
	of := func(int) int { return 0 }
	p.Groups = []string{""}
	if c.Group != "" {
		at, err := t.column(c.Group)
		if err != nil {
			return nil, err
		}
		place := map[string]int{}
		p.Groups = nil
		for _, row := range rows {
			if name := t.Cells[at][row]; place[name] == 0 {
				p.Groups = append(p.Groups, name)
				place[name] = len(p.Groups)
			}
		}
		of = func(row int) int { return place[t.Cells[at][row]] - 1 }
	}
	when := map[int]float64{}
	if c.Time != "" {
		at, err := t.column(c.Time)
		if err != nil {
			return nil, err
		}
		for _, row := range rows {
			v, err := strconv.ParseFloat(t.Cells[at][row], 64)
			if err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
				return nil, fmt.Errorf("fitting: %s: %w: line %d, column %q: %q is no time", t.Path, ErrTable, t.Lines[row], c.Time, t.Cells[at][row])
			}
			when[row] = v
		}
	}
	slices.SortStableFunc(rows, func(a, b int) int {
		if g := of(a) - of(b); g != 0 {
			return g
		}
		switch {
		case when[a] < when[b]:
			return -1
		case when[a] > when[b]:
			return 1
		}
		return 0
	})
	for _, row := range rows {
		p.Group = append(p.Group, of(row))
	}
	return rows, nil
}
