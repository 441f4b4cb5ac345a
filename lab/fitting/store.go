package fitting

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"tare/engine/checkpoint"
)

// ErrModel marks a file that holds no model of this program.
var ErrModel = errors.New("not a model of tare fit")

// Save writes the model as JSON, whole or not at all.
func (f *Fitted) Save(path string) error {
	raw, err := json.MarshalIndent(f, "", " ")
	if err != nil {
		return fmt.Errorf("fitting: %s: %w", path, err)
	}
	return checkpoint.WriteBytes(path, append(raw, '\n'))
}

// Load reads what Save wrote.
func Load(path string) (*Fitted, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("fitting: %w", err)
	}
	f := &Fitted{}
	if err := json.Unmarshal(raw, f); err != nil {
		return nil, fmt.Errorf("fitting: %s: %w: %w", path, ErrModel, err)
	}
	if f.Format != Format || f.Coding == nil {
		return nil, fmt.Errorf("fitting: %s: %w: its format is %q, want %q", path, ErrModel, f.Format, Format)
	}
	if f.method, err = ByName(f.Method); err != nil {
		return nil, fmt.Errorf("fitting: %s: %w: %w", path, ErrModel, err)
	}
	if err := f.Coding.check(); err != nil {
		return nil, fmt.Errorf("fitting: %s: %w: %w", path, ErrModel, err)
	}
	f.model = f.method.Model()
	if err := json.Unmarshal(f.Model, f.model); err != nil {
		return nil, fmt.Errorf("fitting: %s: %w: %w", path, ErrModel, err)
	}
	return f, nil
}

// check refuses a coding that speaks of columns and levels it does not have.
func (c *Coding) check() error {
	for _, d := range c.Design {
		if !(d.Scale > 0) {
			return fmt.Errorf("column %q has scale %g", d.Name, d.Scale)
		}
		for _, p := range d.Factors {
			if p.Source < 0 || p.Source >= len(c.Sources) || p.Level < -1 || p.Level >= max(1, len(c.Sources[p.Source].Levels)) {
				return fmt.Errorf("column %q has a factor of no column", d.Name)
			}
		}
	}
	if len(c.Design) == 0 {
		return errors.New("it has no columns")
	}
	return nil
}

// Predicted is a prediction for the rows of a table.
type Predicted struct {
	Lines   []int   `json:"lines"`
	Dropped int     `json:"dropped"`
	Scores  *Scores `json:"scores,omitempty"` // where the table has the response
	Prediction
}

// Predict applies the model to a table.
func (f *Fitted) Predict(t *Sheet) (*Predicted, error) {
	predictor, ok := f.model.(Predictor)
	if !ok {
		return nil, fmt.Errorf("fitting: %w: %s describes its rows and predicts nothing", ErrFormula, f.Method)
	}
	_, err := t.column(f.Coding.Response)
	known := f.Coding.Response != "" && err == nil
	rows, err := f.Coding.usable(t, known)
	if err != nil {
		return nil, err
	}
	p, err := f.Coding.problem(t, rows, known)
	if err != nil {
		return nil, err
	}
	said, err := predictor.Predict(p)
	if err != nil {
		return nil, named(err, p)
	}
	out := &Predicted{Lines: p.Lines, Dropped: len(t.Lines) - len(rows), Prediction: *said}
	if known {
		out.Scores = scoresOf(said, p)
	}
	return out, nil
}

// Tables are what a person reads of the model.
func (f *Fitted) Tables() []Table { return f.model.Tables() }

// Figures are the drawings: the model's own, of its predictions, and of its intervals.
func (f *Fitted) Figures() []Figure {
	out := f.figures
	if f.Bootstrap != nil {
		out = append(out, intervals(f.Bootstrap))
	}
	return out
}

// intervals draws the coefficients with their intervals, without a constant, beside which
// they would all look alike.
func intervals(b *Bootstrap) Figure {
	fig := Figure{Name: "coefficients", Title: fmt.Sprintf("Coefficients, %g %% intervals of %d resamples", 100*b.Level, b.Draws-b.Failed), X: "estimate"}
	var s Series
	for _, c := range b.Coefficients {
		if c.Name == constant {
			continue
		}
		s.X, s.Y = append(s.X, c.Value), append(s.Y, float64(len(s.Y)))
		s.Low, s.High = append(s.Low, *c.Low), append(s.High, *c.High)
		fig.Labels = append(fig.Labels, c.Name)
	}
	fig.Dots = []Series{s}
	return fig
}
