package fitting

import (
	"context"
	"fmt"
	"slices"

	"tare/method/stats"
)

// partialOptions are those of partial correlations.
type partialOptions struct {
	stats.PartialCorrelation `yaml:",inline"`
}

// Fit implements Options.
func (o *partialOptions) Fit(ctx context.Context, p *Problem, r Run) (Model, error) {
	o.Seed = r.Seed
	m, err := o.PartialCorrelation.Fit(ctx, p.X)
	if err != nil {
		return nil, err
	}
	again := o.PartialCorrelation
	again.Permute = 0
	if m.Intensity > 0 {
		again.Shrink = m.Intensity
	}
	return &partialModel{Names: p.Names, Zeros: o.Zeros, PartialCorrelations: *m, again: again}, nil
}

// partialModel is what a composition's parts have to do with each other.
type partialModel struct {
	Names []string `json:"names"`
	Zeros string   `json:"zeros"`
	stats.PartialCorrelations

	again stats.PartialCorrelation
}

func (m *partialModel) pair(p stats.Pair) string { return m.Names[p.I] + " – " + m.Names[p.K] }

// Coefficients implements Refitter.
func (m *partialModel) Coefficients() []Coefficient {
	var out []Coefficient
	for _, p := range m.Pairs {
		out = append(out, Coefficient{Name: m.pair(p), Value: p.R})
	}
	return out
}

// Refit implements Refitter.
func (m *partialModel) Refit(ctx context.Context, p *Problem) (Model, error) {
	again, err := m.again.Fit(ctx, p.X)
	if err != nil {
		return nil, err
	}
	out := *m
	out.PartialCorrelations = *again
	return &out, nil
}

// Tables implements Model.
func (m *partialModel) Tables() []Table {
	parts := Table{Title: "Parts: variance of the log-ratio that the others leave", Header: []string{"part", " partial variance", " edges"}}
	for i, name := range m.Names {
		edges := 0
		for _, p := range m.Pairs {
			if p.Edge && (p.I == i || p.K == i) {
				edges++
			}
		}
		parts.Rows = append(parts.Rows, []string{name, fmt.Sprintf("%.4g", m.Variance[i]), fmt.Sprint(edges)})
	}
	pairs := Table{Title: "Partial correlations, the largest first", Header: []string{"parts", " r", " 95 % interval", " p", " q", "edge"}}
	order := slices.Clone(m.Pairs)
	slices.SortStableFunc(order, func(a, b stats.Pair) int {
		switch x, y := a.R*a.R, b.R*b.R; {
		case x > y:
			return -1
		case x < y:
			return 1
		}
		return 0
	})
	const most = 40
	for _, p := range order[:min(most, len(order))] {
		row := []string{m.pair(p), fmt.Sprintf("%.3f", p.R), "", "", "", ""}
		if p.Low != nil {
			row[2] = fmt.Sprintf("%.3f to %.3f", *p.Low, *p.High)
		}
		if p.P != nil {
			row[3], row[4] = fmt.Sprintf("%.2g", *p.P), fmt.Sprintf("%.2g", *p.Q)
		}
		if p.Edge {
			row[5] = "yes"
		}
		pairs.Rows = append(pairs.Rows, row)
	}
	if m.SingularNote != "" {
		pairs.Title += " (no p-values: " + m.SingularNote + ")"
	} else if m.Permutations == 0 {
		pairs.Title += fmt.Sprintf(" (Student's t with %d degrees of freedom)", m.Freedom)
	} else {
		pairs.Title += fmt.Sprintf(" (%d permutations)", m.Permutations)
	}
	return []Table{parts, pairs}
}

// Predict implements Predictor: how unusual a row is, and which of its parts are.
func (m *partialModel) Predict(p *Problem) (*Prediction, error) {
	distance, e, err := m.Residuals(p.X, stats.Zeros(m.Zeros))
	if err != nil {
		return nil, err
	}
	out := &Prediction{Columns: append([]string{"squared distance"}, m.Names...)}
	for i, d := range distance {
		out.Values = append(out.Values, append([]float64{d}, e.RawRowView(i)...))
	}
	return out, nil
}

// Figures implements Illustrated.
func (m *partialModel) Figures() []Figure {
	return []Figure{{Name: "partial-correlations", Title: fmt.Sprintf("Partial correlations of %d parts, %d rows", len(m.Names), m.PartialCorrelations.Rows),
		Grid: &Grid{Rows: m.Names, Columns: m.Names, Values: m.R}}}
}
