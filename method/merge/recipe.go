package merge

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
)

// ErrRecipe marks a recipe that cannot be read or asks for what does not exist.
var ErrRecipe = errors.New("invalid recipe")

// Recipe says what is merged and how: mergekit's YAML as a value.
type Recipe struct {
	Method     Method
	Slices     []Slice            // one of whole models where the recipe lists models
	Base       string             // the base model; empty for none
	Parameters map[string]Setting // for all models, and those of the whole merge
	DType      string             // stored type, a safetensors name; empty keeps that of the inputs
	OutDType   string             // stored type where it differs from DType
	Tokenizer  Tokenizer
	Chat       string // chat template: "", "auto", the name of a known one or its text
	Text       string // the recipe as it was written
	Dir        string // folder that relative paths start from
}

// Slice is a run of layers of the merged model.
type Slice struct {
	Sources    []Source
	Base       string // instead of the recipe's
	Parameters map[string]Setting
}

// Source is one model of a slice with its own parameters. Its model is a folder, or a
// folder and that of an adapter with a plus sign between them.
type Source struct {
	Model      string
	Layers     *[2]int // from, and up to without; nil for all
	Parameters map[string]Setting
}

// Tokenizer says whose tokenizer the merged model has.
type Tokenizer struct {
	Source   string // "" (the base's, embeddings as they are), "base", "union" or a model
	Tokens   []TokenRule
	Multiple int // rows of embeddings are padded to a multiple of it with their mean; 0 for no padding
}

// TokenRule says where the embedding of one token comes from.
type TokenRule struct {
	Token string
	Model string // whose embedding; empty for zeros
	Of    string // of this token there; empty for the same
	ID    int    // or of this row, where not negative
	Force bool   // in all models, also those that have the token
}

// Setting is a parameter's value: the first rule that matches the tensor's name.
type Setting []Rule

// Rule gives the tensors whose names contain Filter a value; an empty filter and
// "*" match all. Several values are a gradient, interpolated over the layers.
type Rule struct {
	Filter string
	Values []float64
}

// LoadRecipe reads the recipe at path; its models lie relative to its folder.
func LoadRecipe(path string) (*Recipe, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("merge: recipe: %w", err)
	}
	r, err := ParseRecipe(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	r.Dir = filepath.Dir(path)
	return r, nil
}

// At returns the value for a tensor at depth t, 0 at the first layer and 1 at the
// last; false when no rule matches its name. A gradient v₀ … vₙ₋₁ is piecewise
// linear in t:
//
//	s = t (n − 1),   i = ⌊s⌋,   value = (1 − (s − i)) vᵢ + (s − i) vᵢ₊₁
func (s Setting) At(tensor string, t float64) (float64, bool) {
	for _, r := range s {
		if r.Filter != "" && r.Filter != "*" && !strings.Contains(tensor, r.Filter) {
			continue
		}
		x := t * float64(len(r.Values)-1)
		i := int(x)
		next := min(len(r.Values)-1, i+1)
		frac := x - float64(i)
		return (1-frac)*r.Values[i] + frac*r.Values[next], true
	}
	return 0, false
}

// base returns the base model of a slice.
func (r *Recipe) base(s *Slice) string {
	if s.Base != "" {
		return s.Base
	}
	return r.Base
}

// params evaluates the recipe for one tensor, named as each source names it: what a
// source says of a parameter, else what its slice does, else the recipe, else the
// method's standard.
func (r *Recipe) params(s *Slice, tensor string, sources []*Source, names []string, t float64) (models []Params, global Params, err error) {
	models, global = make([]Params, len(sources)), Params{}
	for i := range models {
		models[i] = Params{}
	}
	for _, p := range r.Method.Params {
		if !p.ByModel {
			global[p.Name], err = p.value(tensor, t, s.Parameters, r.Parameters)
			if err != nil {
				return nil, nil, err
			}
			continue
		}
		for i, source := range sources {
			models[i][p.Name], err = p.value(names[i], t, source.Parameters, s.Parameters, r.Parameters)
			if err != nil {
				return nil, nil, fmt.Errorf("%w, for model %s", err, source.Model)
			}
		}
	}
	if r.Method.Check != nil {
		if err := r.Method.Check(models, global); err != nil {
			return nil, nil, fmt.Errorf("merge: %s: %w", tensor, err)
		}
	}
	return models, global, nil
}

// value returns what the first of the settings that speaks of the tensor says.
func (p Param) value(tensor string, t float64, settings ...map[string]Setting) (float64, error) {
	for _, s := range settings {
		v, ok := s[p.Name].At(tensor, t)
		switch {
		case !ok:
		case v < p.Min || v > p.Max:
			return 0, fmt.Errorf("merge: %w: %s: %s is %g, want %g to %g", ErrRecipe, tensor, p.Name, v, p.Min, p.Max)
		default:
			return v, nil
		}
	}
	if math.IsNaN(p.Standard) {
		return 0, fmt.Errorf("merge: %w: %s: no value of %s (%s)", ErrRecipe, tensor, p.Name, p.About)
	}
	return p.Standard, nil
}

// sameModel reports whether two texts name one model.
func sameModel(a, b string) bool {
	return a == b || a != "" && b != "" && filepath.Clean(a) == filepath.Clean(b)
}

// resolve returns the place of a model on disk.
func (r *Recipe) resolve(model string) string {
	if filepath.IsAbs(model) {
		return filepath.Clean(model)
	}
	return filepath.Join(r.Dir, model)
}
