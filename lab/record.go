package lab

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// Record is one run of an experiment, as it is stored, printed with --json and
// drawn. The first nine keys are fixed; the others may grow.
type Record struct {
	Slug    string      `json:"slug"`
	Claim   string      `json:"claim"`
	Figure  Figure      `json:"figure"`
	Arms    []ArmRecord `json:"arms"`
	Verdict Verdict     `json:"verdict"`
	Rule    string      `json:"rule"`
	Commit  string      `json:"commit"`

	// Findings are the comparisons behind the verdict.
	Findings []Finding `json:"findings"`
	// Seeds are the seeds of every arm's values, in their order.
	Seeds []uint64 `json:"seeds"`
	// Quick says that this was the short version of the experiment.
	Quick bool `json:"quick"`
	// Modified says that the source differed from the commit.
	Modified bool   `json:"modified"`
	CPU      string `json:"cpu"`
	Threads  int    `json:"threads"`
	// Started is when the run was first started, Seconds the time spent in all
	// its cells, over all the sessions that an interrupted run took.
	Started time.Time `json:"started"`
	Seconds float64   `json:"seconds"`
}

// ArmRecord is one arm over all seeds. Values are the figure, one a seed;
// Trainable and Peak are the largest over the seeds, Seconds is the mean.
type ArmRecord struct {
	Name      string    `json:"name"`
	Role      Role      `json:"role"`
	Mean      float64   `json:"mean"`
	StdErr    float64   `json:"stderr"`
	Values    []float64 `json:"values"`
	Trainable int64     `json:"trainable"`
	Peak      PeakBytes `json:"peak_bytes"`
	Seconds   float64   `json:"seconds"`

	// Extra are the further figures by name, over all seeds.
	Extra map[string]Spread `json:"extra,omitempty"`
	// Curves are the curves, one a seed; a seed without a curve has an empty one.
	Curves [][]Point `json:"curves,omitempty"`
}

// PeakBytes is a measurement's peak memory with every kind present.
type PeakBytes struct {
	Weights     int64 `json:"weights"`
	Gradients   int64 `json:"gradients"`
	Optimizer   int64 `json:"optimizer"`
	Activations int64 `json:"activations"`
	Scratch     int64 `json:"scratch"`
}

// Values returns the bytes in the order of [Kinds].
func (p PeakBytes) Values() []int64 {
	return []int64{p.Weights, p.Gradients, p.Optimizer, p.Activations, p.Scratch}
}

// Total is the sum over the kinds, in bytes.
func (p PeakBytes) Total() int64 {
	return p.Weights + p.Gradients + p.Optimizer + p.Activations + p.Scratch
}

// Spread is a further figure over the seeds.
type Spread struct {
	Mean   float64   `json:"mean"`
	StdErr float64   `json:"stderr"`
	Values []float64 `json:"values"`
}

// Arm returns the arm of that name, or an error that lists the names there are.
func (r *Record) Arm(name string) (*ArmRecord, error) {
	var names []string
	for i := range r.Arms {
		if r.Arms[i].Name == name {
			return &r.Arms[i], nil
		}
		names = append(names, r.Arms[i].Name)
	}
	return nil, fmt.Errorf("lab: the record of %s has no arm %q, it has %s", r.Slug, name, joinWords(names))
}

// armRecord folds one arm's measurements, in order of seeds.
func armRecord(a Arm, ms []Measurement) ArmRecord {
	out := ArmRecord{Name: a.Name, Role: a.Role, Values: make([]float64, len(ms))}
	seconds := make([]float64, len(ms))
	curves, drawn := make([][]Point, len(ms)), false
	extra := map[string][]float64{}
	for i, m := range ms {
		out.Values[i], seconds[i] = m.Value, m.Seconds
		out.Trainable = max(out.Trainable, m.Trainable)
		out.Peak.Weights = max(out.Peak.Weights, m.Peak[Weights])
		out.Peak.Gradients = max(out.Peak.Gradients, m.Peak[Gradients])
		out.Peak.Optimizer = max(out.Peak.Optimizer, m.Peak[Optimizer])
		out.Peak.Activations = max(out.Peak.Activations, m.Peak[Activations])
		out.Peak.Scratch = max(out.Peak.Scratch, m.Peak[Scratch])
		curves[i] = m.Curve
		if curves[i] == nil {
			curves[i] = []Point{}
		}
		drawn = drawn || len(m.Curve) > 0
		for name, v := range m.Extra {
			extra[name] = append(extra[name], v)
		}
	}
	out.Mean, out.StdErr, out.Seconds = Mean(out.Values), StdErr(out.Values), Mean(seconds)
	if drawn {
		out.Curves = curves
	}
	for _, name := range slices.Sorted(maps.Keys(extra)) {
		if out.Extra == nil {
			out.Extra = map[string]Spread{}
		}
		out.Extra[name] = Spread{Mean(extra[name]), StdErr(extra[name]), extra[name]}
	}
	return out
}
