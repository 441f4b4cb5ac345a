package lab

import (
	"fmt"
	"math"
	"slices"
)

// The kinds of memory a measurement tells apart, as they stand in a record.
const (
	Weights     = "weights"
	Gradients   = "gradients"
	Optimizer   = "optimizer"
	Activations = "activations"
	Scratch     = "scratch"
)

// Kinds returns the kinds of memory in the order they are shown.
func Kinds() []string {
	return []string{Weights, Gradients, Optimizer, Activations, Scratch}
}

// Point is one point of a curve: a value at a step.
type Point struct {
	Step  int     `json:"step"`
	Value float64 `json:"value"`
}

// Measurement is what one arm gave for one seed. Value is the experiment's
// figure; Trainable counts parameters; Peak holds the peak bytes of each kind
// of memory (see [Kinds]; a missing kind counts as 0); Seconds is the wall
// time that the arm thinks worth comparing, left at 0 the harness puts the
// whole cell's; Curve is drawn, and never judged; Extra holds further figures
// by name, which every arm and seed of an experiment should fill alike.
type Measurement struct {
	Value     float64            `json:"value"`
	Trainable int64              `json:"trainable"`
	Peak      map[string]int64   `json:"peak"`
	Seconds   float64            `json:"seconds"`
	Curve     []Point            `json:"curve,omitempty"`
	Extra     map[string]float64 `json:"extra,omitempty"`
}

// PeakTotal is the sum of the peaks over all kinds, in bytes. Kinds may peak
// at different moments, so this bounds the joint peak from above; where the
// joint peak itself matters an arm puts it in Extra.
func (m Measurement) PeakTotal() int64 {
	var sum int64
	for _, b := range m.Peak {
		sum += b
	}
	return sum
}

// check refuses what a record cannot hold: numbers that are not finite and
// kinds of memory that nobody knows.
func (m Measurement) check() error {
	finite := func(what string, v float64) error {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return fmt.Errorf("%s is %v: %w", what, v, ErrNotFinite)
		}
		return nil
	}
	if err := finite("its value", m.Value); err != nil {
		return err
	}
	if err := finite("its seconds", m.Seconds); err != nil {
		return err
	}
	for name, v := range m.Extra {
		if err := finite(fmt.Sprintf("its figure %q", name), v); err != nil {
			return err
		}
	}
	for _, p := range m.Curve {
		if err := finite(fmt.Sprintf("its curve at step %d", p.Step), p.Value); err != nil {
			return err
		}
	}
	for kind := range m.Peak {
		if !slices.Contains(Kinds(), kind) {
			return fmt.Errorf("its peak has the unknown kind %q, known are %v", kind, Kinds())
		}
	}
	return nil
}

// Reader picks one figure out of a measurement: which figure it is, and how to
// read it. The second result of Read is false where the measurement lacks it.
type Reader struct {
	Figure Figure
	Read   func(Measurement) (float64, bool)
}

// OfSeconds reads the wall time, in seconds; lower is better.
func OfSeconds() Reader {
	return Reader{Figure{"time", "s", Lower}, func(m Measurement) (float64, bool) { return m.Seconds, true }}
}

// OfPeak reads the peak memory in bytes, lower is better: of the kinds named,
// or of all kinds when none is.
func OfPeak(kinds ...string) Reader {
	name := "peak memory"
	if len(kinds) > 0 {
		name = fmt.Sprintf("peak memory for %s", joinWords(kinds))
	}
	return Reader{Figure{name, "bytes", Lower}, func(m Measurement) (float64, bool) {
		if len(kinds) == 0 {
			return float64(m.PeakTotal()), true
		}
		var sum int64
		for _, k := range kinds {
			sum += m.Peak[k]
		}
		return float64(sum), true
	}}
}

// OfTrainable reads the number of trainable parameters; lower is better.
func OfTrainable() Reader {
	return Reader{Figure{"trainable parameters", "", Lower}, func(m Measurement) (float64, bool) {
		return float64(m.Trainable), true
	}}
}

// OfExtra reads the further figure of f's name.
func OfExtra(f Figure) Reader {
	return Reader{f, func(m Measurement) (float64, bool) { v, ok := m.Extra[f.Name]; return v, ok }}
}

// ofValue reads the experiment's own figure.
func ofValue(f Figure) Reader {
	return Reader{f, func(m Measurement) (float64, bool) { return m.Value, true }}
}
