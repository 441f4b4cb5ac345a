package model

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"tare/engine/grad"
	"tare/engine/nn"
	"tare/engine/tensor"
	"tare/engine/tensor/kernel"
)

// Tensors is where a model's weights come from: a checkpoint file or folder.
type Tensors interface {
	Names() []string
	Tensor(name string) (*tensor.Tensor, error)
}

// Errors of weights that do not fit the configuration.
var (
	ErrMissing   = errors.New("tensor is missing")
	ErrShape     = errors.New("tensor has another shape than config.json says")
	ErrNonFinite = errors.New("weights are not finite")

	errNotLlama = errors.New("model: not a model of the llama family")
)

// LoadOptions says how weights are held.
type LoadOptions struct {
	// Keep leaves matrices in the checkpoint's storage (mapped, not copied);
	// otherwise they become f32 on the heap, which training in place needs.
	Keep bool
	// Ledger, if set, is charged for the weights.
	Ledger *grad.Ledger
}

// Load builds a model of the llama family; see LoadCausal.
func Load(config []byte, src Tensors, o LoadOptions) (*Llama, error) {
	m, err := LoadCausal(config, src, o)
	if err != nil {
		return nil, err
	}
	llama, ok := m.(*Llama)
	if !ok {
		return nil, fmt.Errorf("%w: %s", errNotLlama, m.Info().ModelType)
	}
	return llama, nil
}

// LoadCausal builds the language model that config describes over the tensors of src.
// Weights that hold NaN or Inf are refused. The tensors of src must outlive the model.
func LoadCausal(config []byte, src Tensors, o LoadOptions) (Causal, error) {
	return load(config, src, o, "language model that predicts the next token", func(f family) func(*Config, *builder) Causal { return f.causal })
}

// LoadEncoder builds the encoder that config describes, without a head; see LoadCausal.
func LoadEncoder(config []byte, src Tensors, o LoadOptions) (Encoder, error) {
	return load(config, src, o, "text encoder", func(f family) func(*Config, *builder) Encoder { return f.encoder })
}

// LoadMaskedLM builds an encoder with the head that fills in masked tokens; see
// LoadCausal.
func LoadMaskedLM(config []byte, src Tensors, o LoadOptions) (MaskedLM, error) {
	return load(config, src, o, "language model that fills in masked tokens", func(f family) func(*Config, *builder) MaskedLM { return f.masked })
}

// LoadClassifier builds the classifier of texts or images that config describes; see
// LoadCausal.
func LoadClassifier(config []byte, src Tensors, o LoadOptions) (Classifier, error) {
	return load(config, src, o, "classifier", func(f family) func(*Config, *builder) Classifier { return f.classifier })
}

// load builds one kind of network. what names the kind.
func load[M any](config []byte, src Tensors, o LoadOptions, what string, kind func(family) func(*Config, *builder) M) (none M, err error) {
	c, err := ParseConfig(config)
	if err != nil {
		return none, err
	}
	f := families[c.ModelType]
	build := kind(f)
	if build == nil {
		return none, fmt.Errorf("%w: model_type %q makes no %s (these do: %s)", ErrConfig, c.ModelType, what, typesWith(func(f family) bool { return kind(f) != nil }))
	}
	l := &loader{src: src, o: o, stored: newStored(f, src.Names()), used: map[string]bool{}, group: savedGroup(c)}
	// Files of some families leave lm_head out although config.json does not say that
	// it is tied.
	if f.causal != nil && !c.TieEmbeddings && !l.stored.have["lm_head.weight"] && !l.stored.have["lm_head"+codesName] {
		c.TieEmbeddings = true
		c.Raw["tie_word_embeddings"] = json.RawMessage("true")
	}
	b := &builder{stack: stack{Config: c}, from: l}
	m := build(c, b)
	if b.err != nil {
		return none, b.err
	}
	if err := c.Check(); err != nil { // keys that only building reads
		return none, err
	}
	return m, l.unknown(f, c)
}

// stored finds tensors in a checkpoint by the names that a network has for them.
type stored struct {
	prefix string
	have   map[string]bool
}

func newStored(f family, names []string) stored {
	s := stored{f.prefix, map[string]bool{}}
	for _, name := range names {
		s.have[name] = true
	}
	return s
}

// name returns a tensor's name in the checkpoint: with or without the family's prefix,
// and with the older names of a LayerNorm's vectors.
func (s stored) name(name string) string {
	if s.have[name] {
		return name
	}
	older := name
	if stem, ok := strings.CutSuffix(name, "LayerNorm.weight"); ok {
		older = stem + "LayerNorm.gamma"
	} else if stem, ok := strings.CutSuffix(name, "LayerNorm.bias"); ok {
		older = stem + "LayerNorm.beta"
	}
	bare, long := strings.TrimPrefix(name, s.prefix), strings.TrimPrefix(older, s.prefix)
	for _, other := range []string{bare, s.prefix + name, older, long, s.prefix + older} {
		if s.have[other] {
			return other
		}
	}
	return name
}

// loader is the source of a network that a checkpoint holds.
type loader struct {
	src    Tensors
	o      LoadOptions
	stored stored
	used   map[string]bool
	group  int // weights a scale of packed layers; 0 if config.json does not say
}

// read returns a checked tensor as it is stored.
func (l *loader) read(name string, shape []int) (*tensor.Tensor, error) {
	at := l.stored.name(name)
	if !l.stored.have[at] {
		return nil, fmt.Errorf("model: %s: %w; the checkpoint has %d tensors, config.json asks for this one", name, ErrMissing, len(l.stored.have))
	}
	l.used[at] = true
	t, err := l.src.Tensor(at)
	if err != nil {
		return nil, err
	}
	if !slices.Equal(t.Shape(), shape) {
		return nil, fmt.Errorf("model: %s: %w: %v, want %v", at, ErrShape, t.Shape(), shape)
	}
	if !t.DType().IsFloat() {
		return nil, fmt.Errorf("model: %s is %s, want a floating-point type", at, t.DType())
	}
	if i := t.FirstNonFinite(); i >= 0 {
		return nil, fmt.Errorf("model: %s: %w: entry %v is NaN or Inf; the file is damaged or training diverged", at, ErrNonFinite, position(i, shape))
	}
	return t, nil
}

// tensor returns a tensor as f32, or as it is stored when it is a matrix and may be
// kept.
func (l *loader) tensor(name string, shape ...int) (*tensor.Tensor, error) {
	t, err := l.read(name, shape)
	if err != nil {
		return nil, err
	}
	if l.keeps(t) {
		l.o.Ledger.Add(grad.Weights, int64(len(t.Bytes())))
		return t, nil
	}
	out := tensor.New(shape...)
	l.o.Ledger.Add(grad.Weights, int64(len(out.Bytes())))
	return out, t.ReadF32(out.F32(), 0)
}

// keeps reports whether a tensor is held in the checkpoint's type.
func (l *loader) keeps(t *tensor.Tensor) bool {
	return l.o.Keep && len(t.Shape()) > 1 && t.DType() != tensor.F64
}

// matrix returns a dense layer's matrix [out, in].
func (l *loader) matrix(s LinearSpec) (*tensor.Tensor, error) {
	if !s.Transposed {
		return l.tensor(s.Name+".weight", s.Out, s.In)
	}
	t, err := l.read(s.Name+".weight", s.Shape())
	if err != nil {
		return nil, err
	}
	m, err := s.Matrix(t)
	if err != nil {
		return nil, err
	}
	if l.keeps(t) {
		if m, err = m.To(t.DType()); err != nil {
			return nil, err
		}
	}
	l.o.Ledger.Add(grad.Weights, int64(len(m.Bytes())))
	return m, nil
}

func position(i int, shape []int) []int {
	at := make([]int, len(shape))
	for d := len(shape) - 1; d >= 0; d-- {
		at[d] = i % shape[d]
		i /= shape[d]
	}
	return at
}

// The tensors that hold a packed 4-bit weight, after the layer's name.
const (
	codesName  = ".q4_codes"  // U8 [out, ceil(in/32)·16]
	scalesName = ".q4_scales" // F16 [out, groups]
	zerosName  = ".q4_zeros"  // U8 [out, groups]
)

// linear returns a layer's weight: packed where the checkpoint holds codes, dense
// otherwise.
func (l *loader) linear(s LinearSpec) (nn.Weight, error) {
	name, out, in := s.Name, s.Out, s.In
	if !l.stored.have[l.stored.name(name+codesName)] {
		t, err := l.matrix(s)
		if err != nil {
			return nil, err
		}
		return nn.NewDense(name+".weight", t), nil
	}
	var parts [3]*tensor.Tensor
	for i, suffix := range []string{codesName, scalesName, zerosName} {
		at := l.stored.name(name + suffix)
		l.used[at] = true
		t, err := l.src.Tensor(at)
		if err != nil {
			return nil, fmt.Errorf("model: %s: %w", name, err)
		}
		if len(t.Shape()) != 2 || t.Dim(0) != out {
			return nil, fmt.Errorf("model: %s%s: %w: %v, want %d rows", name, suffix, ErrShape, t.Shape(), out)
		}
		parts[i] = t
	}
	codes, scales, zeros := parts[0], parts[1], parts[2]
	group := l.group
	if group == 0 || (in+group-1)/group != scales.Dim(1) {
		group = groupSize(in, scales.Dim(1))
	}
	q := &kernel.Q4{Rows: out, Cols: in, Group: group, Codes: codes.Bytes(), Scales: scales.U16(), Zeros: zeros.Bytes()}
	if err := q.Check(); err != nil {
		return nil, fmt.Errorf("model: %s: %w: %v", name, ErrShape, err)
	}
	if i := scales.FirstNonFinite(); i >= 0 {
		return nil, fmt.Errorf("model: %s%s: %w: entry %v", name, scalesName, ErrNonFinite, position(i, scales.Shape()))
	}
	w := &nn.Packed4{Name: name, Q: q}
	l.o.Ledger.Add(grad.Weights, w.Bytes())
	return w, nil
}

// savedGroup returns the group_size of config.json's quantization_config, 0 for none.
func savedGroup(c *Config) int {
	var q struct {
		Group int `json:"group_size"`
	}
	if json.Unmarshal(c.Raw["quantization_config"], &q) != nil || q.Group < 32 || q.Group > 1<<20 || q.Group%32 != 0 {
		return 0
	}
	return q.Group
}

// groupSize returns the smallest multiple of 32 that cuts in columns into that many
// groups.
func groupSize(in, groups int) int {
	for g := 32; g < in+32; g += 32 {
		if (in+g-1)/g == groups {
			return g
		}
	}
	return 32
}

// unknown refuses tensors that the network has no place for: they would be lost.
func (l *loader) unknown(f family, c *Config) error {
	var left []string
	for name := range l.stored.have {
		// Files of some families carry a tied head twice.
		if !l.used[name] && !f.isSpare(name) && !(c.TieEmbeddings && name == "lm_head.weight") {
			left = append(left, name)
		}
	}
	if left == nil {
		return nil
	}
	slices.Sort(left)
	return fmt.Errorf("model: the checkpoint has %d tensors that a %s of this config.json has no place for, the first %q; if it has biases or more layers, config.json must say so", len(left), c.ModelType, left[0])
}
