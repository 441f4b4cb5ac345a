package fitting

import (
	"context"
	"errors"
	"fmt"

	"gonum.org/v1/gonum/mat"

	"tare/method/stats"
)

// arphmmOptions are those of the autoregressive hidden Markov model.
type arphmmOptions struct {
	stats.ARPHMM `yaml:",inline"`

	Degrading float64 `yaml:"degrading" json:"degrading" help:"each sequence runs to failure, and its states are stages of wear, plausible within about this share of a life; 0 knows nothing"`
}

// Fit implements Options.
func (o *arphmmOptions) Fit(ctx context.Context, p *Problem, r Run) (Model, error) {
	o.Seed = r.Seed
	e := o.ARPHMM
	e.Progress = func(iteration int, objective float64) {
		r.Progress(iteration, e.MaxIter, fmt.Sprintf("log-likelihood %.6g", objective))
	}
	var sequences []stats.Sequence
	for _, rows := range sequenceRows(p) {
		s := stats.Sequence{Y: rowsOf(p.X, rows)}
		if o.Degrading > 0 {
			var err error
			if s.Plausibility, err = stats.Degrading(len(rows), e.States, o.Degrading); err != nil {
				return nil, err
			}
		}
		sequences = append(sequences, s)
	}
	m, err := e.Fit(ctx, sequences)
	var stopped *stats.StoppedError
	if err != nil && !errors.As(err, &stopped) {
		return nil, err
	}
	model := &arphmmModel{Names: p.Names, HMM: *m}
	if stopped != nil {
		model.Stopped = stopped.Error()
	}
	return model, nil
}

// sequenceRows lists the rows of each sequence in their order; without groups all are one.
func sequenceRows(p *Problem) [][]int {
	n, _ := p.X.Dims()
	out := make([][]int, max(1, len(p.Groups)))
	for i := range n {
		g := 0
		if p.Group != nil {
			g = p.Group[i]
		}
		out[g] = append(out[g], i)
	}
	kept := out[:0]
	for _, rows := range out {
		if len(rows) > 0 {
			kept = append(kept, rows)
		}
	}
	return kept
}

func rowsOf(x *mat.Dense, rows []int) *mat.Dense {
	_, d := x.Dims()
	y := mat.NewDense(len(rows), d, nil)
	for t, i := range rows {
		y.SetRow(t, x.RawRowView(i))
	}
	return y
}

// arphmmModel is a fitted hidden Markov model. What it emits are the design's columns.
type arphmmModel struct {
	Names   []string `json:"names"`
	Stopped string   `json:"stopped,omitempty"` // why it ended early
	stats.HMM
}

// Tables implements Model.
func (m *arphmmModel) Tables() []Table {
	title := fmt.Sprintf("States: log-likelihood %.6g after %d iterations", m.LogLikelihood, m.Iterations)
	if m.Stopped != "" {
		title += " (" + m.Stopped + ")"
	}
	states := Table{Title: title, Header: []string{"from state", " at the start"}}
	for k := range m.States {
		states.Header = append(states.Header, fmt.Sprintf(" to %d", k))
	}
	emissions := Table{Title: "Emissions", Header: []string{"state", "column", " constant"}}
	for l := 1; l <= m.Order; l++ {
		for _, name := range m.Names {
			emissions.Header = append(emissions.Header, fmt.Sprintf(" %s, %d back", name, l))
		}
	}
	emissions.Header = append(emissions.Header, " variance")
	for k := range m.States {
		row := []string{fmt.Sprint(k), fmt.Sprintf("%.3f", m.Initial[k])}
		for _, v := range m.Transition[k] {
			row = append(row, fmt.Sprintf("%.4f", v))
		}
		states.Rows = append(states.Rows, row)
		for j, name := range m.Names {
			row := []string{fmt.Sprint(k), name}
			for _, v := range append(m.Coef[k][j][:len(m.Coef[k][j]):len(m.Coef[k][j])], m.Cov[k][j][j]) {
				row = append(row, fmt.Sprintf("%.4g", v))
			}
			emissions.Rows = append(emissions.Rows, row)
		}
	}
	return []Table{states, emissions}
}

// Predict implements Predictor: the most probable state of each row, given all of its
// sequence, and the probabilities of all. The first rows of a sequence, which the
// model's order takes as given, have none: state −1.
func (m *arphmmModel) Predict(p *Problem) (*Prediction, error) {
	out := &Prediction{Columns: []string{"state"}}
	for k := range m.States {
		out.Columns = append(out.Columns, fmt.Sprintf("p(state %d)", k))
	}
	n, _ := p.X.Dims()
	out.Values = make([][]float64, n)
	for i := range out.Values {
		out.Values[i] = make([]float64, 1+m.States)
		out.Values[i][0] = -1
	}
	for _, rows := range sequenceRows(p) {
		posterior, err := m.Posterior(stats.Sequence{Y: rowsOf(p.X, rows)})
		if err != nil {
			return nil, err
		}
		for t, i := range rows[m.Order:] {
			row := out.Values[i]
			copy(row[1:], posterior.RawRowView(t))
			best := 0
			for k := range m.States {
				if row[1+k] > row[1+best] {
					best = k
				}
			}
			row[0] = float64(best)
		}
	}
	if m.Order > 0 {
		out.Notes = append(out.Notes, fmt.Sprintf("the first %d rows of each sequence have no state (−1): the model's order takes them as given", m.Order))
	}
	return out, nil
}

// Figures implements Illustrated.
func (m *arphmmModel) Figures() []Figure {
	x := make([]float64, len(m.Trace))
	for i := range x {
		x[i] = float64(i)
	}
	return []Figure{{Name: "likelihood", Title: "EM", X: "iteration", Y: "log-likelihood", Lines: []Series{{Name: "objective", X: x, Y: m.Trace}}}}
}
