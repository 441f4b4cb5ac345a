package model

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"

	"tare/engine/nn"
	"tare/engine/tensor"
)

// New returns a language model with fresh weights drawn as GPT-2 does: normal with
// standard deviation 0.02, output projections of residual branches shrunk by
// 1/√(2·layers), norms one, biases zero.
func New(c *Config, seed uint64) (Causal, error) {
	return drawn(c, seed, "language model", func(f family) func(*Config, *builder) Causal { return f.causal })
}

// NewClassifier returns a classifier of texts or images with weights drawn as New draws.
func NewClassifier(c *Config, seed uint64) (Classifier, error) {
	return drawn(c, seed, "classifier", func(f family) func(*Config, *builder) Classifier { return f.classifier })
}

func drawn[M any](c *Config, seed uint64, kind string, newModel func(family) func(*Config, *builder) M) (m M, err error) {
	build := newModel(families[c.ModelType])
	if build == nil {
		return m, fmt.Errorf("%w: model_type %q makes no %s (these do: %s)", ErrConfig, c.ModelType, kind, typesWith(func(f family) bool { return newModel(f) != nil }))
	}
	if err := c.Check(); err != nil {
		return m, err
	}
	b := &builder{stack: stack{Config: c}, from: &fresh{c, rand.New(rand.NewPCG(seed, 0x7461726500000000))}}
	m = build(c, b)
	return m, b.err
}

// fresh is a source of drawn weights.
type fresh struct {
	c   *Config
	rng *rand.Rand
}

func (f *fresh) tensor(name string, shape ...int) (*tensor.Tensor, error) {
	t := tensor.New(shape...)
	dst := t.F32()
	switch {
	case strings.HasSuffix(name, ".bias"):
	case len(shape) == 1 && f.c.ModelType == "gemma3_text": // its norms multiply by 1 + weight
	case len(shape) == 1:
		for i := range dst {
			dst[i] = 1
		}
	default:
		std := 0.02
		if isResidual(name) {
			std /= math.Sqrt(2 * float64(f.c.Layers))
		}
		for i := range dst {
			dst[i] = float32(std * f.rng.NormFloat64())
		}
	}
	return t, nil
}

func (f *fresh) linear(s LinearSpec) (nn.Weight, error) {
	t, err := f.tensor(s.Name+".weight", s.Out, s.In)
	return nn.NewDense(s.Name+".weight", t), err
}

// isResidual reports whether a matrix writes into the residual stream.
func isResidual(name string) bool {
	for _, end := range []string{"o_proj", "down_proj", "c_proj", "out_proj", "self_attn.dense", "fc2"} {
		if strings.HasSuffix(name, end+".weight") {
			return true
		}
	}
	return false
}
