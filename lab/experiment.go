package lab

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// Direction says which way a figure improves.
type Direction string

// The two directions of a figure, as they stand in a record.
const (
	Lower  Direction = "lower"
	Higher Direction = "higher"
)

// Figure is the quantity a claim is about: its name, its unit ("" when it has
// none) and the direction that is better.
type Figure struct {
	Name   string    `json:"name"`
	Unit   string    `json:"unit"`
	Better Direction `json:"better"`
}

// Role tells the paper's method from what it is compared with.
type Role string

// The roles an arm can have.
const (
	Method   Role = "method"
	Baseline Role = "baseline"
)

// Arm is one competitor of an experiment. Run trains or computes it once from
// one seed and returns what was measured; it must honour ctx, draw all its
// randomness from seed, and give the same measurement (times aside) for the
// same seed.
type Arm struct {
	Name string
	Role Role
	Run  func(ctx context.Context, e Env, seed uint64) (Measurement, error)
}

// Experiment is what a paper claims and how it is checked. Slug is the paper's
// slug in the catalog. Seeds is the number of seeds of a full run, QuickSeeds
// that of a quick one; both count from seed 1, because seed 0 is the one that
// settings such as learning rates are chosen on.
type Experiment struct {
	Slug       string
	Claim      string
	Figure     Figure
	Arms       []Arm
	Seeds      int
	QuickSeeds int
	Rule       Rule
}

// ErrExperiment marks an experiment that is put together wrongly: a
// programming error in its file, found before anything runs.
var ErrExperiment = errors.New("experiment is not well formed")

// Validate says everything that is wrong with x at once, as one error that
// wraps [ErrExperiment], or nil.
func (x Experiment) Validate() error {
	var wrong []string
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	if x.Slug == "" {
		say("it has no slug")
	}
	if x.Figure.Name == "" {
		say("its figure has no name")
	}
	if b := x.Figure.Better; b != Lower && b != Higher {
		say("its figure's better is %q, not %q or %q", b, Lower, Higher)
	}
	if x.Seeds < 1 || x.QuickSeeds < 1 {
		say("it wants %d seeds and %d quick seeds, both must be at least 1", x.Seeds, x.QuickSeeds)
	}
	names, roles := map[string]bool{}, map[Role]int{}
	for i, a := range x.Arms {
		if a.Name == "" || a.Run == nil {
			say("arm %d has no name or no Run", i)
		}
		if names[a.Name] {
			say("two arms are called %q", a.Name)
		}
		if a.Role != Method && a.Role != Baseline {
			say("arm %q has role %q, not %q or %q", a.Name, a.Role, Method, Baseline)
		}
		names[a.Name] = true
		roles[a.Role]++
	}
	if roles[Method] == 0 || roles[Baseline] == 0 {
		say("it has %d method and %d baseline arms, both must be at least 1", roles[Method], roles[Baseline])
	}
	if x.Rule == nil {
		say("it has no rule")
	} else {
		for _, n := range x.Rule.arms() {
			if !names[n] {
				say("its rule speaks of arm %q, which it does not have", n)
			}
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	return fmt.Errorf("lab: %s: %w: %s", x.Slug, ErrExperiment, strings.Join(wrong, "; "))
}

// Env is what an arm may know about the run it is part of. The functions are
// never nil inside [Run]; the methods below also work on a zero Env, so an
// experiment's own tests need not fill it in.
type Env struct {
	// Quick asks for the short version of the measurement: the whole
	// experiment within a minute.
	Quick bool
	// Progress takes how far this cell is: step of steps, and a short note
	// such as "loss 2.31".
	Progress func(step, steps int, note string)
	// Log takes one line, formatted as by fmt.Sprintf, that is worth reading
	// after the run.
	Log func(format string, args ...any)

	shelf    *Shelf
	textOnly bool // leaves the tune test's word problems out
}

// Step reports progress where someone listens.
func (e Env) Step(step, steps int, note string) {
	if e.Progress != nil {
		e.Progress(step, steps, note)
	}
}

// Logf logs a line where someone listens.
func (e Env) Logf(format string, args ...any) {
	if e.Log != nil {
		e.Log(format, args...)
	}
}

// Pick returns full, or quick when the run is a quick one.
func (e Env) Pick(full, quick int) int {
	if e.Quick {
		return quick
	}
	return full
}
