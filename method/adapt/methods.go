// Package adapt holds the methods that fine-tune a model through few weights. A
// method is one file: its options, the Weight it puts into a layer or the part of
// the layer it trains, and what an adapter file of it stores. Methods lists them;
// Attach puts one on a model, Save and Load write and read PEFT folders.
//
// The loop that trains is engine/train; comparisons are in lab.
package adapt

import (
	"fmt"
	"slices"
	"strings"

	"tare/engine/grad"
	"tare/engine/nn"
	"tare/engine/tensor"
)

// Method is one row of the family.
type Method struct {
	Name string         // as recipes and flags say it
	Slug string         // its page in the catalog; empty for a baseline
	PEFT []string       // the peft_type values of files it reads; the first is written. None where files are another method's
	New  func() Options // options with their defaults
}

// Methods lists the family.
func Methods() []Method {
	return []Method{
		{"lora", "", []string{"LORA"}, func() Options { return NewLoRA() }},
		{"dora", "", []string{"LORA"}, func() Options { return NewDoRA() }},
		{"pissa", "", []string{"LORA"}, func() Options { return NewPiSSA() }},
		{"sorsa", "sorsa", []string{"SORSA"}, func() Options { return NewSORSA() }},
		{"soka", "soka", []string{"SOKA"}, func() Options { return NewSoKA() }},
		{"flora", "flora", []string{"FLORA"}, func() Options { return NewFLoRA() }},
		{"transformed", "transformed-low-rank", []string{"TRANSFORMED"}, func() Options { return NewTransformed() }},
		{"eva", "eva", []string{"LORA"}, func() Options { return NewEVA() }},
		{"adalora", "adalora", []string{"ADALORA"}, func() Options { return NewAdaLoRA() }},
		{"bone", "bone", []string{"BONE", "MISS"}, func() Options { return NewBone() }},
		{"bat", "bone", []string{"BONE"}, func() Options { return NewBat() }},
		{"lift", "lift", []string{"LIFT"}, func() Options { return NewLIFT() }},
		{"sparse", "", []string{"SPARSE"}, func() Options { return NewSparse() }},
		{"randlora", "randlora", []string{"RANDLORA"}, func() Options { return NewRandLoRA() }},
		{"vera", "", []string{"VERA"}, func() Options { return NewVeRA() }},
		{"lora-xs", "", []string{"LORA_XS"}, func() Options { return NewLoRAXS() }},
		{"lora-sb", "lora-sb", []string{"LORA_SB"}, func() Options { return NewLoRASB() }},
		{"s2ft", "s2ft", []string{"S2FT"}, func() Options { return NewS2FT() }},
		{"dsee", "dsee", []string{"DSEE"}, func() Options { return NewDSEE() }},
		{"magnitude", "", []string{"MAGNITUDE"}, func() Options { return NewMagnitude() }},
		{"atp", "atp", []string{"ATP"}, func() Options { return NewATP() }},
		{"twostage", "", []string{"TWOSTAGE"}, func() Options { return NewTwoStage() }},
		{"paca", "paca", []string{"PACA"}, func() Options { return NewPaCA() }},
		{"ist", "ist", nil, func() Options { return NewIST() }},
		{"bitfit", "", []string{"BITFIT"}, func() Options { return NewBitFit() }},
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
	return Method{}, fmt.Errorf("adapt: method %q is not known (known: %s)", name, strings.Join(known, ", "))
}

// Options are a method's settings: a struct whose fields carry yaml and help tags.
type Options interface {
	// Validate says all that is wrong at once.
	Validate() error
	// Attach puts the method on one layer, whose weight is frozen. seed differs from
	// layer to layer. A layer that has nothing for the method gets none: nil.
	Attach(l *nn.Linear, seed uint64) (Attached, error)
	// Config returns the method's own keys of adapter_config.json.
	Config() map[string]any
	// SetConfig takes them from a file, and refuses what the method cannot do.
	SetConfig(map[string]any) error
}

// Attached is a method's hold on one layer.
type Attached interface {
	// Params returns what trains.
	Params() []*grad.Param
	// State returns live tensors to save, named as the file names them after the
	// layer's name.
	State() []Named
	// Restore takes the tensors of a file.
	Restore(state map[string]*tensor.Tensor) error
}

// Companion is an Options that also trains parameters which are no linear layer's, such
// as norms. They train whole.
type Companion interface {
	Beside(m Model) ([]*grad.Param, error)
}

// Named is a tensor of an adapter file; Name follows the layer's name and a dot.
type Named struct {
	Name   string
	Tensor *tensor.Tensor
}

// Unmerger is an Attached that can take its own change out of a merged matrix.
type Unmerger interface {
	// Unmerge turns W + ΔW in w back into W.
	Unmerge(w *tensor.Tensor) error
}

// checkRank refuses a rank that the layer has no room for.
func checkRank(method string, l *nn.Linear, r, limit int) error {
	if r > limit {
		out, in := l.Weight.Dims()
		return fmt.Errorf("adapt: %s: rank %d is larger than layer %s [%d, %d] allows (at most %d); lower the rank or leave the layer out of the targets", method, r, l.Name, out, in, limit)
	}
	return nil
}

// restore copies a file's tensor of that name into dst, checking its shape.
func restore(dst *tensor.Tensor, state map[string]*tensor.Tensor, names ...string) error {
	for _, name := range names {
		t, ok := state[name]
		if !ok {
			continue
		}
		if !slices.Equal(t.Shape(), dst.Shape()) {
			return fmt.Errorf("adapt: %s has shape %v, want %v", name, t.Shape(), dst.Shape())
		}
		return t.ReadF32(dst.F32(), 0)
	}
	return fmt.Errorf("adapt: the file has no %s", strings.Join(names, " or "))
}
