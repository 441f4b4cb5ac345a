package model

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"tare/engine/grad"
)

// family is what sets one model_type apart: what its config.json leaves unsaid or says
// in words of its own, and the networks that are built of it.
type family struct {
	// prefix stands before the names of all layers but the head. Files of the network
	// without a head leave it out.
	prefix   string
	complete func(*Config)
	// llamaKeys says that config.json is Config's fields, under their names.
	llamaKeys bool
	// uneven says that layers may differ in heads and in channels of the MLP: see
	// LayerSize.
	uneven bool
	// The networks; nil where the family has no such one.
	causal     func(*Config, *builder) Causal
	encoder    func(*Config, *builder) Encoder
	masked     func(*Config, *builder) MaskedLM
	classifier func(*Config, *builder) Classifier
	// spare names what files may hold that no network here uses, by the ends of names
	// or, with a dot last, by their beginnings.
	spare []string
}

// families is every model_type that this package builds.
var families = map[string]family{
	"llama":       {prefix: "model.", complete: llamaConfig, llamaKeys: true, uneven: true, causal: newLlama, spare: llamaSpare},
	"smollm":      {prefix: "model.", complete: llamaConfig, llamaKeys: true, uneven: true, causal: newLlama, spare: llamaSpare},
	"smollm2":     {prefix: "model.", complete: llamaConfig, llamaKeys: true, uneven: true, causal: newLlama, spare: llamaSpare},
	"mistral":     {prefix: "model.", complete: mistralConfig, llamaKeys: true, uneven: true, causal: newLlama, spare: llamaSpare},
	"qwen2":       {prefix: "model.", complete: qwen2Config, llamaKeys: true, uneven: true, causal: newLlama, spare: llamaSpare},
	"qwen3":       {prefix: "model.", complete: qwen3Config, llamaKeys: true, uneven: true, causal: newLlama, spare: llamaSpare},
	"phi":         {prefix: "model.", complete: phiConfig, causal: newPhi, spare: llamaSpare},
	"gemma3_text": {prefix: "model.", complete: gemmaConfig, causal: newGemma, spare: llamaSpare},
	"gpt2":        {prefix: "transformer.", complete: gpt2Config, causal: newGPT2, spare: []string{".attn.bias", ".attn.masked_bias"}},
	"opt":         {prefix: "model.", complete: optConfig, causal: newOPT},
	"bert":        {prefix: "bert.", complete: bertConfig, uneven: true, encoder: newBert, masked: newBertMasked, classifier: newBertClassifier, spare: bertSpare},
	"roberta":     {prefix: "roberta.", complete: robertaConfig, uneven: true, encoder: newBert, masked: newBertMasked, classifier: newBertClassifier, spare: bertSpare},
	"vit":         {prefix: "vit.", complete: vitConfig, uneven: true, classifier: newViTClassifier},
	"deit":        {prefix: "deit.", complete: vitConfig, uneven: true, classifier: newViTClassifier},
}

var (
	llamaSpare = []string{".rotary_emb.inv_freq"}
	// A whole model's file serves to load a part of it.
	bertSpare = []string{".position_ids", "pooler.", ".pooler.dense.weight", ".pooler.dense.bias", "cls.", "classifier.", "lm_head."}
)

// Types returns the model types that this package builds, sorted.
func Types() []string { return slices.Sorted(maps.Keys(families)) }

// Classifies reports whether the checkpoint of this configuration tells classes: it has
// a head for them.
func (c *Config) Classifies() bool {
	f := families[c.ModelType]
	return f.classifier != nil && (f.encoder == nil || c.is("ForSequenceClassification"))
}

// LabelNames returns the names that the file gives to the classes, which may be none.
func (c *Config) LabelNames() []string {
	var byNumber map[string]string
	c.read("id2label", &byNumber)
	names := make([]string, c.Labels)
	for number, name := range byNumber {
		if i, err := strconv.Atoi(number); err == nil && i >= 0 && i < len(names) {
			names[i] = name
		}
	}
	return names
}

// typesWith returns the model types of which have says that they have a network.
func typesWith(have func(family) bool) string {
	var names []string
	for _, name := range Types() {
		if have(families[name]) {
			names = append(names, name)
		}
	}
	return strings.Join(names, ", ")
}

// isSpare reports whether files may hold a tensor that no network uses.
func (f family) isSpare(name string) bool {
	return slices.ContainsFunc(f.spare, func(s string) bool {
		if strings.HasSuffix(s, ".") {
			return strings.HasPrefix(name, s)
		}
		return strings.HasSuffix(name, s)
	})
}

// activations are the functions between the layers of an MLP, by the names that
// config.json has for them.
var activations = map[string]func(*grad.Tape, *grad.Value) *grad.Value{
	"silu":              (*grad.Tape).SiLU,
	"swish":             (*grad.Tape).SiLU,
	"relu":              (*grad.Tape).ReLU,
	"tanh":              (*grad.Tape).Tanh,
	"gelu":              (*grad.Tape).GELU,
	"gelu_new":          (*grad.Tape).GELUTanh,
	"gelu_pytorch_tanh": (*grad.Tape).GELUTanh,
}

// Layout lists the linear layers that a model of this configuration has, without
// building it, for work that streams through a checkpoint.
func Layout(c *Config) ([]LinearSpec, error) { return LayoutIn(c, nil) }

// LayoutIn lists them under the names that they have in a checkpoint of these tensors,
// where the family's prefix may be missing.
func LayoutIn(c *Config, names []string) ([]LinearSpec, error) {
	f, known := families[c.ModelType]
	if !known {
		return nil, fmt.Errorf("%w: model_type %q is not known (known: %s)", ErrConfig, c.ModelType, strings.Join(Types(), ", "))
	}
	b := &builder{stack: stack{Config: c}, from: outline{}}
	switch {
	case f.causal != nil:
		f.causal(c, b)
	case f.masked != nil && (c.is("ForMaskedLM") || c.is("ForPreTraining")):
		f.masked(c, b)
	case c.Classifies():
		f.classifier(c, b)
	default:
		f.encoder(c, b)
	}
	if b.err != nil {
		return nil, b.err
	}
	stored := newStored(f, names)
	specs := make([]LinearSpec, 0, len(b.parts))
	for _, p := range b.parts {
		if p.linear != nil {
			s := p.spec
			if names != nil {
				s.Name = strings.TrimSuffix(stored.name(s.Name+".weight"), ".weight")
			}
			specs = append(specs, s)
		}
	}
	return specs, nil
}
