// Package merge holds the methods that make one model of several. A method is a
// function of one tensor's versions; streaming over checkpoints with bounded
// memory, recipes and file formats are Run's and Recipe's work.
package merge

import (
	"fmt"
	"strings"

	"tare/engine/tensor"
)

// Input is one tensor of a merge: its version in each model, in the recipe's order,
// and in the base model, nil where the recipe names none. All are f32 and of one
// shape; a method may write to none of them but Out.
type Input struct {
	Name   string
	Base   *tensor.Tensor
	Models []*tensor.Tensor
	// Params holds each model's parameters for this tensor, with the recipe's global
	// ones filled in.
	Params []Params
	Global Params
	Out    *tensor.Tensor
}

// Params are a recipe's numbers and switches by name.
type Params map[string]float64

// Get returns a parameter or its standard value.
func (p Params) Get(name string, standard float64) float64 {
	if v, ok := p[name]; ok {
		return v
	}
	return standard
}

// Method is one row of the family.
type Method struct {
	Name      string // as mergekit's merge_method says it
	Slug      string // its page in the catalog; empty for a baseline
	NeedsBase bool
	// Known lists the parameters it reads, with whether they are given by model.
	Known map[string]bool
	// Merge writes the merged tensor to in.Out.
	Merge func(in *Input) error
}

// Methods lists the family.
func Methods() []Method {
	return []Method{
		{"linear", "", false, map[string]bool{"weight": true, "normalize": false}, Linear},
		{"task_arithmetic", "", true, map[string]bool{"weight": true, "lambda": false, "normalize": false}, TaskArithmetic},
	}
}

// ByName returns the method with that name.
func ByName(name string) (Method, error) {
	var known []string
	for _, m := range Methods() {
		if m.Name == name {
			return m, nil
		}
		known = append(known, m.Name)
	}
	return Method{}, fmt.Errorf("merge: merge_method %q is not known (known: %s)", name, strings.Join(known, ", "))
}
