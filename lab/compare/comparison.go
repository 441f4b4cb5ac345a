package compare

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"tare/engine/grad"
	"tare/lab"
)

// Comparison is what Run found, as --json prints it.
type Comparison struct {
	Base       string      `json:"base"`
	BaseHash   string      `json:"base_hash"`
	Parameters int64       `json:"parameters"`
	Targets    []string    `json:"targets,omitempty"`
	Budget     Budget      `json:"budget"`
	Seeds      int         `json:"seeds"`
	Source     string      `json:"source,omitempty"`
	Sets       []SetResult `json:"data"`
	Rows       []Row       `json:"rows"`
	Broken     []string    `json:"broken,omitempty"` // cells whose worker died or failed, and why

	Commit   string    `json:"commit"`
	Modified bool      `json:"modified"`
	CPU      string    `json:"cpu"`
	Workers  int       `json:"workers"` // of one thread each
	Started  time.Time `json:"started"`
	Seconds  float64   `json:"seconds"` // of workers in this call
}

// SetResult is a data set and what the base knows of it.
type SetResult struct {
	Data
	Loss       float64  `json:"loss_before"`
	Score      *float64 `json:"score_before,omitempty"`
	SourceLoss *float64 `json:"source_loss_before,omitempty"`
}

// Row is a method on every set. Name is the method with the settings that were asked for.
type Row struct {
	Name     string `json:"name"`
	Method   string `json:"method"`
	Settings string `json:"settings"`
	On       []Cell `json:"on"`

	asked Method
}

// Cell is a method on one set, over all seeds that ended well. Peak is the largest of
// each kind, MergeError the largest difference of a logit.
type Cell struct {
	Set      string            `json:"data"`
	Why      string            `json:"why,omitempty"`    // it has no figures
	Failed   []string          `json:"failed,omitempty"` // seeds without figures
	Settings map[string]string `json:"options,omitempty"`
	Note     string            `json:"note,omitempty"`
	LR       float64           `json:"lr,omitempty"`
	Steps    int               `json:"steps,omitempty"`

	Loss        lab.Spread            `json:"loss"`
	Score       *lab.Spread           `json:"score,omitempty"`
	SourceLoss  *lab.Spread           `json:"source_loss_after,omitempty"`
	Trainable   int64                 `json:"trainable"`
	Peak        grad.Peak             `json:"peak_bytes"`
	StepSeconds lab.Spread            `json:"step_seconds"`
	Seconds     lab.Spread            `json:"seconds"`
	MergeError  *float64              `json:"merge_error,omitempty"`
	MergeNote   string                `json:"merge_note,omitempty"`
	Figures     map[string]lab.Spread `json:"figures,omitempty"`
	Curves      [][]float64           `json:"curves,omitempty"`
}

// Measured reports whether any seed gave figures.
func (c *Cell) Measured() bool { return len(c.Loss.Values) > 0 }

// settle takes the row's settings from its plans, which may differ from set to set.
func (r *Row) settle() {
	var texts []string
	for _, c := range r.On {
		if t := settingsText(c.Settings); t != "" && !slices.Contains(texts, t) {
			texts = append(texts, t)
		}
	}
	if len(texts) == 0 {
		texts = append(texts, settingsText(r.asked.Options))
	}
	r.Settings = strings.Join(texts, ", ")
}

// failed notes what befell the cell. Only the end of ctx, or of the store, is an error
// of the whole comparison.
func (c *Cell) failed(ctx context.Context, err error, unfit string) (Cell, error) {
	switch {
	case ctx.Err() != nil:
		return *c, context.Cause(ctx)
	case errors.Is(err, errStore):
		return *c, err
	case err != nil && !c.Measured():
		c.Why = err.Error()
	case unfit != "":
		c.Why = unfit
	}
	return *c, nil
}

// fold takes the figures of all seeds.
func (c *Cell) fold(results []Result, errs []error) {
	var loss, score, source, step, seconds []float64
	figures := map[string][]float64{}
	for i, r := range results {
		switch {
		case errs[i] != nil:
			c.Failed = append(c.Failed, fmt.Sprintf("seed %d: %v", i+1, errs[i]))
			continue
		case r.Diverged != "":
			c.Failed = append(c.Failed, fmt.Sprintf("seed %d: %s", i+1, r.Diverged))
			continue
		}
		loss, step, seconds = append(loss, r.Loss), append(step, r.StepSeconds), append(seconds, r.Seconds)
		if r.Score != nil {
			score = append(score, *r.Score)
		}
		if r.SourceLoss != nil {
			source = append(source, *r.SourceLoss)
		}
		if r.MergeError != nil && (c.MergeError == nil || *r.MergeError > *c.MergeError) {
			c.MergeError = r.MergeError
		}
		if r.MergeNote != "" {
			c.MergeNote = r.MergeNote
		}
		for name, v := range r.Figures {
			figures[name] = append(figures[name], v)
		}
		c.Trainable, c.Peak = max(c.Trainable, r.Trainable), larger(c.Peak, r.Peak)
		c.Curves = append(c.Curves, r.Curve)
	}
	if len(loss) == 0 {
		c.Why = strings.Join(c.Failed, "; ")
		return
	}
	c.Loss, c.StepSeconds, c.Seconds = spread(loss), spread(step), spread(seconds)
	if score != nil {
		s := spread(score)
		c.Score = &s
	}
	if source != nil {
		s := spread(source)
		c.SourceLoss = &s
	}
	for name, v := range figures {
		if c.Figures == nil {
			c.Figures = map[string]lab.Spread{}
		}
		c.Figures[name] = spread(v)
	}
}

func spread(v []float64) lab.Spread {
	return lab.Spread{Mean: lab.Mean(v), StdErr: lab.StdErr(v), Values: v}
}

// larger is the larger of each kind.
func larger(a, b grad.Peak) grad.Peak {
	return grad.Peak{
		Weights: max(a.Weights, b.Weights), Gradients: max(a.Gradients, b.Gradients), Optimizer: max(a.Optimizer, b.Optimizer),
		Activations: max(a.Activations, b.Activations), Scratch: max(a.Scratch, b.Scratch), Total: max(a.Total, b.Total),
	}
}
