package merge

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// ErrRecipe marks a recipe that cannot be read or asks for what does not exist.
var ErrRecipe = errors.New("invalid recipe")

// Recipe says what is merged and how: mergekit's YAML as a value.
type Recipe struct {
	Method     Method
	Models     []Source
	Base       string             // path of the base model; empty for none
	Parameters map[string]Setting // for all models, and those of the whole merge
	DType      string             // stored type, a safetensors name; empty keeps the first model's
	OutDType   string             // stored type where it differs from DType
	Tokenizer  string             // "", "base" or the path of the model whose tokenizer is kept
	Text       string             // the recipe as it was written
	Dir        string             // folder that relative paths start from
}

// Source is one model of a recipe with its own parameters.
type Source struct {
	Model      string
	Parameters map[string]Setting
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

// params evaluates the recipe for one tensor: what each model's settings say, else
// what the common ones say, else nothing, so that the method's standard holds.
func (r *Recipe) params(tensor string, t float64) (models []Params, global Params) {
	models, global = make([]Params, len(r.Models)), Params{}
	for i := range models {
		models[i] = Params{}
	}
	for name, byModel := range r.Method.Known {
		common, isSet := r.Parameters[name].At(tensor, t)
		if !byModel {
			if isSet {
				global[name] = common
			}
			continue
		}
		for i, m := range r.Models {
			if v, ok := m.Parameters[name].At(tensor, t); ok {
				models[i][name] = v
			} else if isSet {
				models[i][name] = common
			}
		}
	}
	return models, global
}

// resolve returns the place of a model on disk.
func (r *Recipe) resolve(model string) string {
	if filepath.IsAbs(model) {
		return filepath.Clean(model)
	}
	return filepath.Join(r.Dir, model)
}

// depths gives every tensor its place between the first layer, 0, and the last, 1.
// The layer is the first number among the parts of its name, counted within the
// tensors that share what stands before it; a lone layer lies at 1. Outside the
// layers, embeddings lie at 0 and all else at 1.
func depths(names []string) map[string]float64 {
	last := map[string]int{}
	for _, name := range names {
		if stack, layer, ok := layerOf(name); ok {
			last[stack] = max(last[stack], layer)
		}
	}
	t := make(map[string]float64, len(names))
	for _, name := range names {
		stack, layer, ok := layerOf(name)
		switch {
		case ok && last[stack] > 0:
			t[name] = float64(layer) / float64(last[stack])
		case !ok && isEmbedding(name):
			t[name] = 0
		default:
			t[name] = 1
		}
	}
	return t
}

// layerOf cuts model.layers.7.mlp.weight into model.layers and 7.
func layerOf(name string) (stack string, layer int, ok bool) {
	const most = 6 // digits of a layer's number
	start := 0
	for part := range strings.SplitSeq(name, ".") {
		if n, isNumber := number(part); isNumber && len(part) <= most {
			return name[:start], n, true
		}
		start += len(part) + 1
	}
	return "", 0, false
}

func number(s string) (n int, ok bool) {
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return n, s != ""
}

func isEmbedding(name string) bool {
	for _, word := range []string{"embed", "wte", "wpe", "shared"} {
		if strings.Contains(name, word) {
			return true
		}
	}
	return false
}
