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
)

// LoadOptions says how weights are held.
type LoadOptions struct {
	// Keep leaves matrices in the checkpoint's storage (mapped, not copied);
	// otherwise they become f32 on the heap, which training in place needs.
	Keep bool
	// Ledger, if set, is charged for the weights.
	Ledger *grad.Ledger
}

// Load builds the model that config describes over the tensors of src. Weights that
// hold NaN or Inf are refused. The tensors of src must outlive the model.
func Load(config []byte, src Tensors, o LoadOptions) (*Llama, error) {
	c, err := ParseConfig(config)
	if err != nil {
		return nil, err
	}
	l := loader{src: src, o: o, have: map[string]bool{}, group: savedGroup(c)}
	for _, name := range src.Names() {
		l.have[name] = true
	}
	// Files of some families carry tied heads twice; others leave lm_head out
	// although config.json does not say that it is tied.
	if !c.TieEmbeddings && !l.have["lm_head.weight"] && !l.have["lm_head"+codesName] {
		c.TieEmbeddings = true
	}
	m, err := newLlama(c, l.tensor, l.linear)
	if err != nil {
		return nil, err
	}
	return m, l.unknown(m)
}

type loader struct {
	src   Tensors
	o     LoadOptions
	have  map[string]bool
	group int // weights a scale of packed layers; 0 if config.json does not say
}

// tensor returns a tensor as f32, or as it is stored when it is a matrix and may be
// kept.
func (l *loader) tensor(name string, shape ...int) (*tensor.Tensor, error) {
	if !l.have[name] {
		return nil, fmt.Errorf("model: %s: %w; the checkpoint has %d tensors, config.json asks for this one", name, ErrMissing, len(l.have))
	}
	t, err := l.src.Tensor(name)
	if err != nil {
		return nil, err
	}
	if !slices.Equal(t.Shape(), shape) {
		return nil, fmt.Errorf("model: %s: %w: %v, want %v", name, ErrShape, t.Shape(), shape)
	}
	if !t.DType().IsFloat() {
		return nil, fmt.Errorf("model: %s is %s, want a floating-point type", name, t.DType())
	}
	if i := t.FirstNonFinite(); i >= 0 {
		return nil, fmt.Errorf("model: %s: %w: entry %v is NaN or Inf; the file is damaged or training diverged", name, ErrNonFinite, position(i, shape))
	}
	if l.o.Keep && len(shape) == 2 && t.DType() != tensor.F64 {
		l.o.Ledger.Add(grad.Weights, int64(len(t.Bytes())))
		return t, nil
	}
	out := tensor.New(shape...)
	l.o.Ledger.Add(grad.Weights, int64(len(out.Bytes())))
	return out, t.ReadF32(out.F32(), 0)
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
func (l *loader) linear(name string, out, in int) (nn.Weight, error) {
	if !l.have[name+codesName] {
		t, err := l.tensor(name+".weight", out, in)
		if err != nil {
			return nil, err
		}
		return nn.NewDense(name+".weight", t), nil
	}
	var parts [3]*tensor.Tensor
	for i, suffix := range []string{codesName, scalesName, zerosName} {
		t, err := l.src.Tensor(name + suffix)
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

// unknown refuses tensors that the model has no place for: they would be lost.
func (l *loader) unknown(m *Llama) error {
	for _, p := range m.Params() {
		delete(l.have, p.Name)
	}
	for _, lin := range m.Linears() {
		for _, suffix := range []string{codesName, scalesName, zerosName} {
			delete(l.have, lin.Name+suffix)
		}
	}
	delete(l.have, "lm_head.weight")
	var left []string
	for name := range l.have {
		if !strings.HasSuffix(name, ".rotary_emb.inv_freq") {
			left = append(left, name)
		}
	}
	if left == nil {
		return nil
	}
	slices.Sort(left)
	return fmt.Errorf("model: the checkpoint has %d tensors that a %s of this config.json has no place for, the first %q; if it has biases or more layers, config.json must say so", len(left), m.Config.ModelType, left[0])
}

// Entry is one tensor of a model as a checkpoint stores it.
type Entry struct {
	Name  string
	DType tensor.DType
	Shape []int
	// Read returns the tensor, converted; it may share the model's storage.
	Read func() (*tensor.Tensor, error)
}

// Export lists the tensors that a checkpoint of m holds, in order, with floating
// types stored as dtype. Adapted weights are folded in; packed ones stay packed.
func (m *Llama) Export(dtype tensor.DType) []Entry {
	var entries []Entry
	param := func(p *grad.Param) {
		entries = append(entries, Entry{p.Name, dtype, p.Value.Shape(), func() (*tensor.Tensor, error) { return p.Value.To(dtype) }})
	}
	linears := func(ls ...*nn.Linear) {
		for _, l := range ls {
			entries = append(entries, exportLinear(l, dtype)...)
		}
	}
	param(m.Embed.Table)
	for _, b := range m.Layers {
		param(b.AttentionNorm.Weight)
		linears(b.Q, b.K, b.V, b.O)
		param(b.MLPNorm.Weight)
		linears(b.Gate, b.Up, b.Down)
	}
	param(m.Norm.Weight)
	if !m.Config.TieEmbeddings {
		linears(m.Head)
	}
	return entries
}

func exportLinear(l *nn.Linear, dtype tensor.DType) []Entry {
	var entries []Entry
	if q, ok := l.Weight.(*nn.Packed4); ok {
		entries = packedEntries(l.Name, q.Q)
	} else {
		out, in := l.Weight.Dims()
		entries = []Entry{{l.Name + ".weight", dtype, []int{out, in}, func() (*tensor.Tensor, error) {
			if d, ok := l.Weight.(nn.Dense); ok {
				return d.P.Value.To(dtype)
			}
			t, err := nn.Materialize(l.Weight)
			if err != nil {
				return nil, fmt.Errorf("model: %s: %w", l.Name, err)
			}
			return t.To(dtype)
		}}}
	}
	if b := l.Bias; b != nil {
		entries = append(entries, Entry{b.Name, dtype, b.Value.Shape(), func() (*tensor.Tensor, error) { return b.Value.To(dtype) }})
	}
	return entries
}

func packedEntries(name string, q *kernel.Q4) []Entry {
	entry := func(suffix string, dtype tensor.DType, data []byte) Entry {
		shape := []int{q.Rows, len(data) / q.Rows / dtype.Size()}
		return Entry{name + suffix, dtype, shape, func() (*tensor.Tensor, error) { return tensor.FromBytes(dtype, data, shape...) }}
	}
	return []Entry{
		entry(codesName, tensor.U8, q.Codes),
		entry(scalesName, tensor.F16, tensor.BytesOfU16(q.Scales)),
		entry(zerosName, tensor.U8, q.Zeros),
	}
}
