package compare

import (
	"context"
	"encoding/json"

	"tare/engine/grad"
)

// The kinds of tasks.
const (
	kindBase  = "base"  // measure the base as it is
	kindSize  = "size"  // find a method's size by how many entries train; needs no data
	kindPlan  = "plan"  // see that a method runs, and find its steps, and its size by memory
	kindTrial = "trial" // try a learning rate on the validation split
	kindRun   = "run"   // tune and measure on the test split
)

// Task is what one worker does. Everything but the base's place and the seed says what
// the result depends on.
type Task struct {
	Kind    string   `json:"kind"`
	Base    string   `json:"base,omitempty"` // path
	Data    Data     `json:"data"`
	Source  string   `json:"source,omitempty"`
	Method  Method   `json:"method"`
	Targets []string `json:"targets,omitempty"`
	Budget  Budget   `json:"budget"` // of a size or a plan
	Seed    uint64   `json:"seed"`
}

// Result is what a worker found.
type Result struct {
	// Unfit says why the method cannot run on this base within the budget.
	Unfit string `json:"unfit,omitempty"`
	// Diverged says what ended a run early.
	Diverged string `json:"diverged,omitempty"`

	// Of a size or a plan: the settings with the size chosen, the steps, and what is to be said.
	Options map[string]string `json:"options,omitempty"`
	Steps   int               `json:"steps,omitempty"`
	Note    string            `json:"note,omitempty"`

	Loss        float64            `json:"loss"` // nats a token
	Score       *float64           `json:"score,omitempty"`
	SourceLoss  *float64           `json:"source_loss,omitempty"`
	Trainable   int64              `json:"trainable"`
	Peak        grad.Peak          `json:"peak_bytes"`
	StepSeconds float64            `json:"step_seconds"`
	Seconds     float64            `json:"seconds"` // of training, the method's look at data included
	MergeError  *float64           `json:"merge_error,omitempty"`
	MergeNote   string             `json:"merge_note,omitempty"`
	Figures     map[string]float64 `json:"figures,omitempty"`
	Curve       []float64          `json:"curve,omitempty"`
}

// Key says which results are the same work: times are comparable on one processor only,
// and values for one version of the source.
type Key struct {
	Base, Data string // hashes
	Task       string // the task's settings as JSON
	Seed       uint64
	Commit     string
	CPU        string
}

// Store keeps what was measured. lab/record implements it on SQLite.
type Store interface {
	// Measured returns a result's JSON, nil where there is none.
	Measured(ctx context.Context, k Key) ([]byte, error)
	// KeepMeasured keeps one.
	KeepMeasured(ctx context.Context, k Key, result []byte) error
}

// settings is the task without what the key holds elsewhere.
func (t Task) settings() (string, error) {
	t.Base, t.Seed = "", 0
	raw, err := json.Marshal(t)
	return string(raw), err
}
