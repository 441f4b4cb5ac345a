package fitting

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"gonum.org/v1/gonum/mat"

	"tare/method/optimize"
)

// lassoOptions are those of least squares with L1 by block coordinate descent.
type lassoOptions struct {
	optimize.BlockDescent `yaml:",inline"`

	Share float64 `yaml:"share" json:"share" help:"weight of the sum of absolute coefficients, as a share of the least at which all are 0; l1, where it is more than 0, says it outright"`
	Ridge float64 `yaml:"ridge" json:"ridge" help:"weight of half the sum of squared coefficients"`
}

func newLassoOptions() *lassoOptions {
	o := &lassoOptions{BlockDescent: *optimize.NewBlockDescent(), Share: 0.1}
	o.Rule, o.Update, o.Size = "gsc", "newton", 20
	return o
}

// Validate implements Options.
func (o *lassoOptions) Validate() error {
	var wrong error
	if !(o.Share >= 0 && o.Share <= 1) || !(o.Ridge >= 0) {
		wrong = fmt.Errorf("lasso: %w: share %v and ridge %v, want 0 to 1, and 0 or more", optimize.ErrOptions, o.Share, o.Ridge)
	}
	return errors.Join(wrong, o.BlockDescent.Validate())
}

// Fit implements Options. Columns and response are centred, which takes the place of a
// constant without a penalty.
func (o *lassoOptions) Fit(ctx context.Context, p *Problem, r Run) (Model, error) {
	n, d := p.X.Dims()
	centre, x, y := make([]float64, d), mat.DenseCopyOf(p.X), slices.Clone(p.Y)
	for j := range d {
		column := mat.Col(nil, j, x)
		centre[j] = mean(column)
		for i, v := range column {
			x.Set(i, j, v-centre[j])
		}
	}
	middle := mean(y)
	for i := range y {
		y[i] -= middle
	}
	f, err := optimize.NewLinear("squares", x, y, 0, o.Ridge)
	if err != nil {
		return nil, err
	}
	e := o.BlockDescent
	e.Seed = r.Seed
	if e.L1 == 0 {
		var top float64
		for j := range d {
			top = max(top, math.Abs(mat.Dot(x.ColView(j), mat.NewVecDense(n, y))))
		}
		e.L1 = o.Share * top
	}
	// The tolerance is of a gradient, in units of that of a column like the response.
	e.Tol *= max(mat.Norm(mat.NewVecDense(n, y), 2), 1e-300) * math.Sqrt(float64(n))
	e.Watch = func(s optimize.BlockStep) {
		if s.Iteration%100 == 0 {
			r.Progress(s.Iteration, e.MaxIter, fmt.Sprintf("%d coefficients", s.Free))
		}
	}
	result, err := e.Minimize(ctx, f, make([]float64, d))
	if err != nil {
		return nil, err
	}
	again := *o
	again.L1, again.Seed = e.L1, r.Seed
	m := &lassoModel{Names: p.Names, Response: p.Response, L1: e.L1, Weights: result.X, Constant: middle, Iterations: result.Iterations, again: &again}
	for j, w := range result.X {
		m.Constant -= w * centre[j]
	}
	return m, nil
}

func mean(v []float64) float64 {
	var s float64
	for _, x := range v {
		s += x / float64(len(v))
	}
	return s
}

// lassoModel is a fitted linear model.
type lassoModel struct {
	Names      []string  `json:"names"`
	Response   string    `json:"response"`
	L1         float64   `json:"l1"`
	Constant   float64   `json:"constant"`
	Weights    []float64 `json:"weights"`
	Iterations int       `json:"iterations"`

	again *lassoOptions
}

const constant = "constant" // the name of what is predicted where all columns are 0

// Coefficients implements Refitter.
func (m *lassoModel) Coefficients() []Coefficient {
	out := []Coefficient{{Name: constant, Value: m.Constant}}
	for j, w := range m.Weights {
		out = append(out, Coefficient{Name: m.Names[j], Value: w})
	}
	return out
}

// Refit implements Refitter.
func (m *lassoModel) Refit(ctx context.Context, p *Problem) (Model, error) {
	if m.again == nil {
		return nil, fmt.Errorf("lasso: a model read from a file does not know the settings it was fitted at")
	}
	return m.again.Fit(ctx, p, Run{Seed: m.again.Seed, Progress: func(int, int, string) {}})
}

// Tables implements Model.
func (m *lassoModel) Tables() []Table {
	t := Table{Title: fmt.Sprintf("Coefficients that are not 0, at l1 %.4g after %d iterations", m.L1, m.Iterations), Header: []string{"column", " weight"}}
	for j, w := range m.Weights {
		if w != 0 {
			t.Rows = append(t.Rows, []string{m.Names[j], fmt.Sprintf("%.6g", w)})
		}
	}
	return []Table{t}
}

// Predict implements Predictor.
func (m *lassoModel) Predict(p *Problem) (*Prediction, error) {
	out := &Prediction{Columns: []string{m.Response}}
	n, _ := p.X.Dims()
	for i := range n {
		v := m.Constant
		for j, x := range p.X.RawRowView(i) {
			v += m.Weights[j] * x
		}
		out.Values = append(out.Values, []float64{v})
	}
	return out, nil
}
