package fitting

import (
	"context"
	"errors"
	"fmt"

	"tare/method/optimize"
)

// completionOptions are those of matrix completion, with defaults for ratings.
type completionOptions struct {
	optimize.MatrixCompletion `yaml:",inline"`
}

func newCompletionOptions() *completionOptions {
	o := &completionOptions{*optimize.NewMatrixCompletion()}
	o.Rank, o.Ridge, o.Centre, o.Tol = 2, 10, true, 1e-3
	return o
}

// Fit implements Options: the two columns name the rows and the columns of the matrix, the
// response its entries.
func (o *completionOptions) Fit(ctx context.Context, p *Problem, r Run) (Model, error) {
	if len(p.Names) != 2 {
		return nil, fmt.Errorf("fitting: %w: a matrix has entries by two columns, the formula names %d; say --formula 'rating ~ user + item'", ErrData, len(p.Names))
	}
	m := &completionModel{Names: p.Names, Entry: p.Response}
	var size [2]int
	for side := range 2 {
		m.Place[side], size[side] = places(p, side)
	}
	o.Seed = r.Seed
	again := o.MatrixCompletion
	again.Trace = func(s optimize.Sweep) {
		r.Progress(s.Number, again.Sweeps, fmt.Sprintf("RMSE %.4g, gradient %.1e", s.RMSE, s.Residual))
	}
	c, err := again.Fit(ctx, size[0], size[1], m.entries(p))
	var stopped *optimize.StoppedError
	if errors.As(err, &stopped) && c != nil {
		m.Stopped = fmt.Sprintf("before the tolerance of %g", stopped.Tol)
	} else if err != nil {
		return nil, err
	}
	m.Completion = *c
	return m, nil
}

// places numbers the levels that have an entry among the rows fitted; others are −1.
func places(p *Problem, side int) (place []int, size int) {
	place = make([]int, len(p.Levels[side]))
	for i := range place {
		place[i] = -1
	}
	for i := range p.Lines {
		place[int(p.X.At(i, side))] = 0
	}
	for i, there := range place {
		if there == 0 {
			place[i] = size
			size++
		}
	}
	return place, size
}

// completionModel is a completed matrix.
type completionModel struct {
	Names   []string `json:"names"`
	Entry   string   `json:"entry"`
	Place   [2][]int `json:"place"` // of each level in the matrix, −1 where it had no entry
	Stopped string   `json:"stopped,omitempty"`
	optimize.Completion
}

// entries are a table's; of levels without a place row or column is −1.
func (m *completionModel) entries(p *Problem) []optimize.Entry {
	out := make([]optimize.Entry, len(p.Lines))
	for i := range out {
		out[i].Row, out[i].Column = int32(m.Place[0][int(p.X.At(i, 0))]), int32(m.Place[1][int(p.X.At(i, 1))])
		if p.Y != nil {
			out[i].Value = p.Y[i]
		}
	}
	return out
}

// Predict implements Predictor. Where a row or column of the matrix had no entry among the
// rows fitted the prediction is their mean.
func (m *completionModel) Predict(p *Problem) (*Prediction, error) {
	out := &Prediction{Columns: []string{m.Entry}}
	unknown := 0
	for _, e := range m.entries(p) {
		v := m.Mean
		if e.Row >= 0 && e.Column >= 0 {
			v = m.At(int(e.Row), int(e.Column))
		} else {
			unknown++
		}
		out.Values = append(out.Values, []float64{v})
	}
	if unknown > 0 {
		out.Notes = []string{fmt.Sprintf("%d of %d rows are of a %s or %s without an entry among the rows fitted: the prediction is their mean, %.4g", unknown, len(p.Lines), m.Names[0], m.Names[1], m.Mean)}
	}
	return out, nil
}

// Tables implements Model.
func (m *completionModel) Tables() []Table {
	t := Table{Title: fmt.Sprintf("A matrix of %d %s by %d %s, rank %d", m.Rows, m.Names[0], m.Columns, m.Names[1], m.Rank),
		Header: []string{"", " value"}, Rows: [][]string{
			{"mean taken away", fmt.Sprintf("%.4g", m.Mean)},
			{"RMSE of the entries fitted", fmt.Sprintf("%.4g", m.RMSE)},
			{"sweeps", fmt.Sprint(len(m.Sweeps))},
			{"gradient left", fmt.Sprintf("%.1e", m.Residual)},
		}}
	if m.Stopped != "" {
		t.Rows = append(t.Rows, []string{"stopped", m.Stopped})
	}
	return []Table{t}
}

// Figures implements Illustrated.
func (m *completionModel) Figures() []Figure {
	var s Series
	for _, sweep := range m.Sweeps {
		s.X, s.Y = append(s.X, float64(sweep.Number)), append(s.Y, sweep.RMSE)
	}
	return []Figure{{Name: "sweeps", Title: "Error of the entries fitted by sweep", X: "sweep", Y: "RMSE", Lines: []Series{s}}}
}
