// Package compare runs adaptation methods side by side: on the same base and data, at
// the same budget, with several seeds, each cell in a process of its own. What was
// measured is kept under everything that it depends on, so that a comparison that was
// interrupted, or that gets one method more, only runs what is missing.
//
// A cell's worker is Do; Run plans the cells, starts workers and folds what they found.
package compare

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"tare/engine/nearest"
	"tare/lab/tuning"
	"tare/method/adapt"
)

// ErrRecipe marks a comparison that asks for something impossible.
var ErrRecipe = errors.New("bad comparison")

// All stands for full fine-tuning and every row of adapt.Methods.
const All = "all"

// Recipe is what is compared, on what, at which budget.
type Recipe struct {
	Base    string // path of a model
	Data    []Data
	Methods []Method
	Targets []string // layers to adapt, as in tuning.Recipe
	Budget  Budget
	Seeds   int     // of every method, counted from 1; seed 0 chooses learning rates
	LR      float64 // of methods without one of their own; 0 chooses it on the validation split
	Source  string  // text whose loss before and after tells what was forgotten; empty for none
}

// Data is what a model is tuned on.
type Data struct {
	Name   string `yaml:"-" json:"name"`
	Batch  int    `yaml:"batch" json:"batch"`     // sequences in a step
	SeqLen int    `yaml:"seq_len" json:"seq_len"` // tokens in a sequence
	Steps  int    `yaml:"steps" json:"steps"`     // of a run, where the budget does not say
}

// Method is a way to tune with settings of its own.
type Method struct {
	Name    string            `json:"name"` // tuning.Full, or a row of adapt.Methods
	Options map[string]string `json:"options,omitempty"`
	LR      float64           `json:"lr,omitempty"` // 0 for the recipe's
}

// Budget is what every method may use. Trainable and Peak choose a method's rank, and
// exclude one another; where both are 0, methods get as many trained entries as LoRA at
// its default rank. Seconds replaces the data's number of steps.
type Budget struct {
	Trainable int64   `json:"trainable,omitempty"` // trained entries
	Peak      int64   `json:"peak,omitempty"`      // bytes, by the ledger
	Seconds   float64 `json:"seconds,omitempty"`   // of training
}

// ParseMethod reads "lora", "lora rank=8 lr=0.001" or "all".
func ParseMethod(s string) ([]Method, error) {
	name, settings, err := split("method", s)
	if err != nil {
		return nil, err
	}
	known := known()
	switch {
	case name == All && len(settings) > 0:
		return nil, fmt.Errorf("compare: %w: %q takes no settings, because no two methods have the same; name the method that they are for", ErrRecipe, All)
	case name == All:
		all := make([]Method, len(known))
		for i, k := range known {
			all[i].Name = k
		}
		return all, nil
	case !slices.Contains(known, name):
		return nil, unknown("method", name, append(known, All))
	}
	m := Method{Name: name, Options: settings}
	if text, ok := settings["lr"]; ok {
		var n int
		if n, err = fmt.Sscanf(text+"\n", "%g\n", &m.LR); n != 1 || err != nil || !(m.LR > 0) || math.IsInf(m.LR, 0) {
			return nil, fmt.Errorf("compare: %w: %s: lr is %q, want a positive number", ErrRecipe, name, text)
		}
		delete(settings, "lr")
	}
	r := tuning.Default()
	r.Method, r.Options = m.Name, m.Options
	if err := r.Validate(); err != nil {
		return nil, fmt.Errorf("compare: %w: %w", ErrRecipe, err)
	}
	return []Method{m}, nil
}

// known lists the methods that can be compared.
func known() []string {
	names := []string{tuning.Full}
	for _, m := range adapt.Methods() {
		names = append(names, m.Name)
	}
	return names
}

// ParseData reads "book.txt" or "book.txt batch=8 seq_len=128 steps=100". What it does
// not say is d's; the sets inside the program have settings of their own.
func ParseData(s string, d Data) (Data, error) {
	name, settings, err := split("data", s)
	if err != nil {
		return d, err
	}
	if own, ok := bundledSettings[name]; ok {
		d.Batch, d.SeqLen, d.Steps = either(d.Batch, own.Batch), either(d.SeqLen, own.SeqLen), either(d.Steps, own.Steps)
	}
	d.Batch, d.SeqLen, d.Steps = either(d.Batch, 8), either(d.SeqLen, 128), either(d.Steps, 100)
	d.Name = name
	if err := tuning.SetOptions(&d, settings); err != nil {
		return d, fmt.Errorf("compare: %w: data %s: %w", ErrRecipe, name, err)
	}
	return d, nil
}

func either(v, standard int) int {
	if v != 0 {
		return v
	}
	return standard
}

// split cuts "NAME key=value …" into its parts.
func split(what, s string) (name string, settings map[string]string, err error) {
	words := strings.Fields(s)
	if len(words) == 0 {
		return "", nil, fmt.Errorf("compare: %w: an empty name stands among %s", ErrRecipe, what)
	}
	settings = map[string]string{}
	for _, w := range words[1:] {
		key, value, ok := strings.Cut(w, "=")
		if !ok || key == "" || value == "" {
			return "", nil, fmt.Errorf("compare: %w: %s %q: %q is no setting; write key=value", ErrRecipe, what, s, w)
		}
		if _, twice := settings[key]; twice {
			return "", nil, fmt.Errorf("compare: %w: %s %q sets %s twice", ErrRecipe, what, s, key)
		}
		settings[key] = value
	}
	return words[0], settings, nil
}

func unknown(what, word string, known []string) error {
	if near := nearest.Of(word, known); near != "" {
		return fmt.Errorf("compare: %w: unknown %s %q, did you mean %q?", ErrRecipe, what, word, near)
	}
	return fmt.Errorf("compare: %w: unknown %s %q (known: %s)", ErrRecipe, what, word, strings.Join(known, ", "))
}

// Validate says all that is wrong at once, as one error that wraps ErrRecipe.
func (r *Recipe) Validate() error {
	var wrong []string
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	if len(r.Data) == 0 {
		say("there is no data")
	}
	if len(r.Methods) == 0 {
		say("there is no method")
	}
	for i, d := range r.Data {
		if d.Batch < 1 || d.SeqLen < 2 || d.Steps < 1 {
			say("data %s: batch is %d, seq_len %d, steps %d; want at least 1, 2, 1", d.Name, d.Batch, d.SeqLen, d.Steps)
		}
		if slices.ContainsFunc(r.Data[:i], func(o Data) bool { return o.Name == d.Name }) {
			say("data %s is named twice", d.Name)
		}
	}
	for i, m := range r.Methods {
		if slices.ContainsFunc(r.Methods[:i], func(o Method) bool { return o.label() == m.label() }) {
			say("method %s is named twice", m.label())
		}
	}
	if r.Seeds < 1 {
		say("seeds is %d, want at least 1", r.Seeds)
	}
	if !(r.LR >= 0) || math.IsInf(r.LR, 0) {
		say("lr is %g, want a positive number or auto", r.LR)
	}
	b := r.Budget
	if b.Trainable < 0 || b.Peak < 0 || !(b.Seconds >= 0) || math.IsInf(b.Seconds, 0) {
		say("the budget is negative or not finite")
	}
	if b.Trainable > 0 && b.Peak > 0 {
		say("trainable and peak both choose the methods' sizes; give one of them")
	}
	if wrong == nil {
		return nil
	}
	return fmt.Errorf("compare: %w: %s", ErrRecipe, strings.Join(wrong, "; "))
}

// label writes a method with the settings that were asked for.
func (m Method) label() string {
	words := []string{m.Name}
	if s := settingsText(m.Options); s != "" {
		words = append(words, s)
	}
	if m.LR > 0 {
		words = append(words, fmt.Sprintf("lr=%g", m.LR))
	}
	return strings.Join(words, " ")
}

func settingsText(options map[string]string) string {
	var parts []string
	for k, v := range options {
		parts = append(parts, k+"="+v)
	}
	slices.Sort(parts)
	return strings.Join(parts, " ")
}
