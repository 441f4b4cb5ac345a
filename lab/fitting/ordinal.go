package fitting

import (
	"context"
	"fmt"
	"math"
	"slices"

	"gonum.org/v1/gonum/mat"

	"tare/method/stats"
)

// ordinalFit is the Fit that the ordinal estimators share.
type ordinalFit interface {
	Validate() error
	Fit(ctx context.Context, x *mat.Dense, y []int, classes int) (*stats.Ordinal, error)
}

// The options of the ordinal models.
type (
	prestoOptions struct {
		stats.Presto `yaml:",inline"`
	}
	proportionalOptions struct {
		stats.ProportionalOdds `yaml:",inline"`
	}
	separateOptions struct {
		stats.NonProportional `yaml:",inline"`
	}
	logisticOptions struct {
		stats.Logistic `yaml:",inline"`
	}
)

// Fit implements Options.
func (o *prestoOptions) Fit(ctx context.Context, p *Problem, r Run) (Model, error) {
	e := o.Presto
	e.Seed = r.Seed
	e.Progress = func(done, total int) { r.Progress(done, total, "fits of the path") }
	m, err := e.Fit(ctx, p.X, indices(p.Y), len(p.Classes))
	if err != nil {
		return nil, err
	}
	o.Seed = r.Seed
	settings := o.Presto
	settings.Lambda = m.Lambda
	return &ordinalModel{Kind: "presto", Names: p.Names, Response: p.Response, Classes: p.Classes, PrestoModel: *m, presto: &settings}, nil
}

// Fit implements Options.
func (o *proportionalOptions) Fit(ctx context.Context, p *Problem, _ Run) (Model, error) {
	return likeliestModel(ctx, "proportional-odds", &o.ProportionalOdds, p, p.Classes)
}

// Fit implements Options.
func (o *separateOptions) Fit(ctx context.Context, p *Problem, _ Run) (Model, error) {
	return likeliestModel(ctx, "separate-odds", &o.NonProportional, p, p.Classes)
}

// Fit implements Options.
func (o *logisticOptions) Fit(ctx context.Context, p *Problem, _ Run) (Model, error) {
	classes := p.Classes
	if len(classes) > 2 {
		classes = []string{"not " + classes[len(classes)-1], classes[len(classes)-1]}
	}
	return likeliestModel(ctx, "logistic", &o.Logistic, p, classes)
}

func likeliestModel(ctx context.Context, kind string, e ordinalFit, p *Problem, classes []string) (Model, error) {
	m, err := e.Fit(ctx, p.X, indices(p.Y), len(p.Classes))
	if err != nil {
		return nil, err
	}
	return &ordinalModel{Kind: kind, Names: p.Names, Response: p.Response, Classes: classes, PrestoModel: stats.PrestoModel{Ordinal: *m}, again: e}, nil
}

func indices(y []float64) []int {
	out := make([]int, len(y))
	for i, v := range y {
		out[i] = int(v)
	}
	return out
}

// ordinalModel is a fitted ordinal model. What its weights multiply are the design's
// columns.
type ordinalModel struct {
	Kind     string   `json:"kind"`
	Names    []string `json:"names"`
	Response string   `json:"response"`
	Classes  []string `json:"classes"`
	stats.PrestoModel

	presto *stats.Presto // to refit with; nil of a model from a file
	again  ordinalFit
}

// one says whether all cuts share their weights.
func (m *ordinalModel) one() bool { return m.Kind == "proportional-odds" || len(m.Alpha) == 1 }

// cut names what a cut's probability is of.
func (m *ordinalModel) cut(k int) string { return m.Response + " ≤ " + m.Classes[k] }

// Coefficients implements Refitter: the weights of each cut, then the cuts.
func (m *ordinalModel) Coefficients() []Coefficient {
	var out []Coefficient
	for k, b := range m.Beta {
		if k > 0 && m.one() {
			break
		}
		for j, v := range b {
			name := m.Names[j]
			if !m.one() {
				name += " (" + m.cut(k) + ")"
			}
			out = append(out, Coefficient{Name: name, Value: v})
		}
	}
	for k, a := range m.Alpha {
		out = append(out, Coefficient{Name: "cut " + m.cut(k), Value: a})
	}
	return out
}

// Refit implements Refitter, at the price chosen.
func (m *ordinalModel) Refit(ctx context.Context, p *Problem) (Model, error) {
	out := *m
	if m.presto != nil {
		e := *m.presto
		e.Progress = nil
		again, err := e.Fit(ctx, p.X, indices(p.Y), len(p.Classes))
		if err != nil {
			return nil, err
		}
		out.PrestoModel = *again
		return &out, nil
	}
	again, err := m.again.Fit(ctx, p.X, indices(p.Y), len(p.Classes))
	if err != nil {
		return nil, err
	}
	out.Ordinal = *again
	return &out, nil
}

// Tables implements Model.
func (m *ordinalModel) Tables() []Table {
	head := []string{"column"}
	weights := m.Beta
	if m.one() {
		weights = m.Beta[:1]
		head = append(head, " weight")
	} else {
		for k := range m.Beta {
			head = append(head, " "+m.cut(k))
		}
	}
	t := Table{Title: fmt.Sprintf("Weights β of log odds that %s is at a class or before it", m.Response), Header: head}
	for j, name := range m.Names {
		row := []string{name}
		for _, b := range weights {
			row = append(row, fmt.Sprintf("%.4f", b[j]))
		}
		t.Rows = append(t.Rows, row)
	}
	for k, a := range m.Alpha {
		row := make([]string, len(head))
		row[0] = "cut " + m.cut(k)
		at := 1
		if !m.one() {
			at = 1 + k
		}
		row[at] = fmt.Sprintf("%.4f", a)
		t.Rows = append(t.Rows, row)
	}
	out := []Table{t}
	if len(m.Path) > 0 {
		out = append(out, m.pathTable())
	}
	return out
}

// pathTable shows the chosen price between others.
func (m *ordinalModel) pathTable() Table {
	t := Table{Title: "Prices λ, by cross-validation", Header: []string{" λ", " nonzero", " log loss", " ± s.e.", " Brier of the last class", ""}}
	every := max(1, len(m.Path)/10)
	for i, pt := range m.Path {
		mark := ""
		if pt.Lambda == m.Lambda {
			mark = "chosen"
		} else if i%every != 0 && i != len(m.Path)-1 {
			continue
		}
		t.Rows = append(t.Rows, []string{fmt.Sprintf("%.5f", pt.Lambda), fmt.Sprint(pt.Nonzero),
			fmt.Sprintf("%.4f", pt.Loss), fmt.Sprintf("%.4f", pt.LossSE), fmt.Sprintf("%.5f", pt.Brier), mark})
	}
	return t
}

// Predict implements Predictor.
func (m *ordinalModel) Predict(p *Problem) (*Prediction, error) {
	probabilities, clipped, err := m.Probabilities(p.X)
	if err != nil {
		return nil, err
	}
	out := &Prediction{Classes: m.Classes}
	for i := range p.Lines {
		out.Probabilities = append(out.Probabilities, slices.Clone(probabilities.RawRowView(i)))
	}
	if clipped > 0 {
		out.Notes = []string{fmt.Sprintf("%d of %d rows predicted are so far from those fitted that the cuts cross: the class between has probability 0", clipped, len(p.Lines))}
	}
	return out, nil
}

// Figures implements Illustrated: the path of the last cut's weights, and what the folds
// say of it.
func (m *ordinalModel) Figures() []Figure {
	if len(m.Path) == 0 {
		return nil
	}
	last := len(m.Beta) - 1
	path := Figure{Name: "path", Title: "Weights of the last cut, " + m.cut(last), X: "price λ", Y: "weight", LogX: true}
	const most = 12
	order := make([]int, len(m.Names))
	for j := range order {
		order[j] = j
	}
	end := m.Path[len(m.Path)-1].Beta[last]
	slices.SortStableFunc(order, func(a, b int) int {
		switch x, y := math.Abs(end[a]), math.Abs(end[b]); {
		case x > y:
			return -1
		case x < y:
			return 1
		}
		return 0
	})
	for at, j := range order {
		s := Series{}
		if at < most {
			s.Name = m.Names[j]
		}
		for _, pt := range m.Path {
			s.X, s.Y = append(s.X, pt.Lambda), append(s.Y, pt.Beta[last][j])
		}
		path.Lines = append(path.Lines, s)
	}
	folds := Figure{Name: "cross-validation", Title: "Log loss in the folds, ± one standard error", X: "price λ", Y: "log loss", LogX: true}
	var s Series
	low, high := math.Inf(1), math.Inf(-1)
	for _, pt := range m.Path {
		s.X, s.Y = append(s.X, pt.Lambda), append(s.Y, pt.Loss)
		s.Low, s.High = append(s.Low, pt.Loss-pt.LossSE), append(s.High, pt.Loss+pt.LossSE)
		low, high = math.Min(low, pt.Loss-pt.LossSE), math.Max(high, pt.Loss+pt.LossSE)
	}
	folds.Dots = []Series{s}
	chosen := Series{Name: "chosen", X: []float64{m.Lambda, m.Lambda}, Y: []float64{low, high}, Dashed: true}
	folds.Lines = []Series{chosen}
	return []Figure{path, folds}
}
