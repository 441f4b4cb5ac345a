package model

import (
	"fmt"
	"slices"

	"tare/engine/grad"
	"tare/engine/nn"
	"tare/engine/tensor"
)

// stack is what all networks have: their parts in checkpoint order, and the repeated
// blocks among them.
type stack struct {
	Config *Config
	// Checkpointing keeps only each block's input for the backward pass and runs the
	// block again there (Chen et al. 2016, arXiv:1604.06174).
	Checkpointing bool

	parts  []part
	blocks []Block
}

// part is a parameter that stands alone, or a linear layer.
type part struct {
	param  *grad.Param
	linear *nn.Linear
	spec   LinearSpec // of linear
	shape  []int      // of param in the checkpoint
}

// LinearSpec is the name and shape of a linear layer.
type LinearSpec struct {
	Name    string
	Out, In int
	// Transposed says that the checkpoint holds the matrix as [In, Out].
	Transposed bool
}

// Shape returns the matrix's shape in a checkpoint.
func (s LinearSpec) Shape() []int {
	if s.Transposed {
		return []int{s.In, s.Out}
	}
	return []int{s.Out, s.In}
}

// Matrix returns a checkpoint's tensor as the f32 matrix [Out, In].
func (s LinearSpec) Matrix(t *tensor.Tensor) (*tensor.Tensor, error) {
	full, err := t.To(tensor.F32)
	if err != nil {
		return nil, fmt.Errorf("model: %s: %w", s.Name, err)
	}
	if s.Transposed {
		full = transpose(full)
	}
	return full, nil
}

func transpose(t *tensor.Tensor) *tensor.Tensor {
	rows, cols := t.Dim(0), t.Dim(1)
	out := tensor.New(cols, rows)
	from, to := t.F32(), out.F32()
	for r := range rows {
		for c, v := range from[r*cols : (r+1)*cols] {
			to[c*rows+r] = v
		}
	}
	return out
}

// Info returns the sizes that callers of any model need.
func (s *stack) Info() *Config { return s.Config }

// SetCheckpointing says whether the backward pass runs blocks again to save memory.
func (s *stack) SetCheckpointing(on bool) { s.Checkpointing = on }

// Blocks returns the repeated layers in order, for methods that work through a model
// one block at a time.
func (s *stack) Blocks() []Block { return s.blocks }

// Linears returns every linear layer with a matrix of its own, in order: the head is
// among them unless it shares the embedding's table.
func (s *stack) Linears() []*nn.Linear {
	var ls []*nn.Linear
	for _, p := range s.parts {
		if p.linear != nil {
			ls = append(ls, p.linear)
		}
	}
	return ls
}

// Params returns every parameter once, in checkpoint order, with those that methods
// put into the layers.
func (s *stack) Params() []*grad.Param {
	var ps []*grad.Param
	for _, p := range s.parts {
		if p.linear != nil {
			ps = append(ps, p.linear.Params()...)
		} else {
			ps = append(ps, p.param)
		}
	}
	return ps
}

// inventory returns the parts.
func (s *stack) inventory() []part { return s.parts }

// through runs x through the blocks.
func (s *stack) through(tp *grad.Tape, x *grad.Value, seqs grad.Sequences, cache *Cache) *grad.Value {
	for _, b := range s.blocks {
		if s.Checkpointing && cache == nil {
			x = tp.Checkpoint(x, func(tp *grad.Tape, x *grad.Value) *grad.Value { return b.Apply(tp, x, seqs, nil) })
			continue
		}
		x = b.Apply(tp, x, seqs, cache)
	}
	return x
}

// attend is one layer's attention; with a cache, the step's keys and values are appended
// to it and the earlier ones attended to.
func attend(tp *grad.Tape, q, k, v *grad.Value, heads grad.Heads, seqs grad.Sequences, cache *Cache, layer int) *grad.Value {
	if cache == nil {
		return tp.Attention(q, k, v, heads, seqs)
	}
	keys, values := cache.append(layer, k, v, seqs)
	return tp.AttendCached(q, keys, values, k.Cols, heads, seqs)
}

// norm is a layer that normalises rows.
type norm interface {
	Apply(tp *grad.Tape, x *grad.Value) *grad.Value
}

// residual returns x + f(norm(x)), or norm(x + f(x)).
func residual(tp *grad.Tape, x *grad.Value, by norm, first bool, f func(h *grad.Value) *grad.Value) *grad.Value {
	return tp.Scope(func() *grad.Value {
		if first {
			return tp.AddTo(x, f(by.Apply(tp, x)))
		}
		return by.Apply(tp, tp.AddTo(x, f(x)))
	})
}

// perHead normalises each head of x [n, heads·d], d columns wide.
func perHead(tp *grad.Tape, by norm, x *grad.Value, d int) *grad.Value {
	rows, cols := x.Rows, x.Cols
	return tp.Reshape(by.Apply(tp, tp.Reshape(x, rows*cols/d, d)), rows, cols)
}

// positions returns the position of every row, counted from first.
func positions(seqs grad.Sequences, first int) []int32 {
	var at []int32
	for i, n := range seqs.Lengths {
		for t := range n {
			at = append(at, int32(first+seqs.Offset(i)+t))
		}
	}
	return at
}

// builder makes a network's parts over tensors from somewhere. It remembers the first
// error, so that construction reads as a list.
type builder struct {
	stack
	from source
	err  error
}

// source yields a network's tensors, in the type they are to be held in. The shape is
// the checkpoint's.
type source interface {
	tensor(name string, shape ...int) (*tensor.Tensor, error)
	linear(s LinearSpec) (nn.Weight, error)
}

// param adds a parameter of that shape.
func (b *builder) param(name string, shape ...int) *grad.Param {
	return b.paramAs(shape, name, shape...)
}

// paramAs adds a parameter that the model holds in another shape than the checkpoint.
func (b *builder) paramAs(held []int, name string, shape ...int) *grad.Param {
	p := b.read(name, shape...)
	if len(held) != len(shape) && p.Value.Len() > 0 {
		p.Value = p.Value.Reshape(held...)
	}
	b.parts = append(b.parts, part{param: p, shape: shape})
	return p
}

func (b *builder) read(name string, shape ...int) *grad.Param {
	t := &tensor.Tensor{}
	if b.err == nil {
		if t, b.err = b.from.tensor(name, shape...); b.err != nil {
			t = &tensor.Tensor{}
		}
	}
	return grad.NewParam(name, t)
}

func (b *builder) embedding(name string, rows, d int) *nn.Embedding {
	return &nn.Embedding{Table: b.param(name+".weight", rows, d)}
}

func (b *builder) rmsNorm(name string, d int) *nn.RMSNorm {
	return &nn.RMSNorm{Weight: b.param(name+".weight", d), Eps: float32(b.Config.NormEps)}
}

func (b *builder) layerNorm(name string, d int) *nn.LayerNorm {
	return &nn.LayerNorm{Weight: b.param(name+".weight", d), Bias: b.param(name+".bias", d), Eps: float32(b.Config.NormEps)}
}

// layer adds a linear layer.
func (b *builder) layer(name string, out, in int, bias bool) *nn.Linear {
	return b.linear(LinearSpec{Name: name, Out: out, In: in}, bias)
}

func (b *builder) linear(s LinearSpec, bias bool) *nn.Linear {
	l := &nn.Linear{Name: s.Name}
	b.parts = append(b.parts, part{linear: l, spec: s})
	if b.err != nil {
		return l
	}
	l.Weight, b.err = b.from.linear(s)
	if bias {
		l.Bias = b.read(s.Name+".bias", s.Out)
	}
	return l
}

// head adds lm_head, or, when embeddings are tied, makes it of the table. Beside packed
// layers a dense head may be read in 8 bits.
func (b *builder) head(table *grad.Param, d int, bias bool) *nn.Linear {
	packed := b.packed()
	if !b.Config.TieEmbeddings {
		l := b.layer("lm_head", b.Config.VocabSize, d, bias)
		if w, ok := l.Weight.(nn.Dense); ok {
			w.P.Int8 = packed
		}
		return l
	}
	table.Int8 = packed
	l := &nn.Linear{Name: "lm_head", Weight: nn.Dense{P: table}}
	if bias {
		l.Bias = b.param("lm_head.bias", b.Config.VocabSize)
	}
	return l
}

// packed reports whether some layer is.
func (b *builder) packed() bool {
	return slices.ContainsFunc(b.Linears(), func(l *nn.Linear) bool {
		_, ok := l.Weight.(*nn.Packed4)
		return ok
	})
}

// block adds a repeated layer, whose parts have been added.
func (b *builder) block(x Block) { b.blocks = append(b.blocks, x) }

// outline is a source without tensors, for asking what a network has.
type outline struct{}

func (outline) tensor(string, ...int) (*tensor.Tensor, error) { return &tensor.Tensor{}, nil }
func (outline) linear(LinearSpec) (nn.Weight, error)          { return nil, nil }
