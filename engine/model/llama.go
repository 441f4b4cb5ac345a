package model

import (
	"fmt"
	"math"
	"math/rand/v2"

	"tare/engine/grad"
	"tare/engine/nn"
	"tare/engine/tensor"
)

// Llama is a decoder of the llama family: pre-norm blocks of rotary attention with
// grouped queries and a gated MLP. Mistral, Qwen2 and SmolLM differ in biases,
// tied embeddings and sizes only. (Touvron et al. 2023, arXiv:2302.13971.)
type Llama struct {
	Config *Config
	Embed  *nn.Embedding
	Layers []*LlamaBlock
	Norm   *nn.RMSNorm
	Head   *nn.Linear // shares Embed's table when embeddings are tied
	// Checkpointing keeps only each block's input for the backward pass and runs the
	// block again there (Chen et al. 2016, arXiv:1604.06174).
	Checkpointing bool

	rotary *grad.Rotary
}

// LlamaBlock is one layer of a Llama.
type LlamaBlock struct {
	AttentionNorm, MLPNorm *nn.RMSNorm
	Q, K, V, O             *nn.Linear
	Gate, Up, Down         *nn.Linear

	index  int
	heads  grad.Heads
	rotary *grad.Rotary
}

// source yields a model's tensors by name, in the type they are to be held in.
type source func(name string, shape ...int) (*tensor.Tensor, error)

// newLlama builds the network of c over the tensors of src.
func newLlama(c *Config, src source, linear func(name string, out, in int) (nn.Weight, error)) (*Llama, error) {
	m := &Llama{Config: c, rotary: newRotary(c)}
	b := builder{src: src, linear: linear}
	d, kv, q := c.HiddenSize, c.KVHeads*c.HeadDim, c.Heads*c.HeadDim
	table := b.param("model.embed_tokens.weight", c.VocabSize, d)
	m.Embed = &nn.Embedding{Table: table}
	oBias := c.AttentionBias && c.ModelType != "qwen2"
	for i := range c.Layers {
		at := fmt.Sprintf("model.layers.%d.", i)
		m.Layers = append(m.Layers, &LlamaBlock{
			AttentionNorm: b.norm(at+"input_layernorm.weight", c),
			Q:             b.layer(at+"self_attn.q_proj", q, d, c.AttentionBias),
			K:             b.layer(at+"self_attn.k_proj", kv, d, c.AttentionBias),
			V:             b.layer(at+"self_attn.v_proj", kv, d, c.AttentionBias),
			O:             b.layer(at+"self_attn.o_proj", d, q, oBias),
			MLPNorm:       b.norm(at+"post_attention_layernorm.weight", c),
			Gate:          b.layer(at+"mlp.gate_proj", c.IntermediateSize, d, c.MLPBias),
			Up:            b.layer(at+"mlp.up_proj", c.IntermediateSize, d, c.MLPBias),
			Down:          b.layer(at+"mlp.down_proj", d, c.IntermediateSize, c.MLPBias),
			index:         i,
			heads:         grad.Heads{Q: c.Heads, KV: c.KVHeads, Scale: float32(1 / math.Sqrt(float64(c.HeadDim)))},
			rotary:        m.rotary,
		})
	}
	m.Norm = b.norm("model.norm.weight", c)
	if c.TieEmbeddings {
		m.Head = &nn.Linear{Name: "lm_head", Weight: nn.Dense{P: table}}
	} else {
		m.Head = b.layer("lm_head", c.VocabSize, d, false)
	}
	return m, b.err
}

// builder remembers the first error, so that construction reads as a list.
type builder struct {
	src    source
	linear func(name string, out, in int) (nn.Weight, error)
	err    error
}

func (b *builder) param(name string, shape ...int) *grad.Param {
	if b.err != nil {
		return nil
	}
	t, err := b.src(name, shape...)
	if err != nil {
		b.err = err
		return nil
	}
	return grad.NewParam(name, t)
}

func (b *builder) norm(name string, c *Config) *nn.RMSNorm {
	return &nn.RMSNorm{Weight: b.param(name, c.HiddenSize), Eps: float32(c.NormEps)}
}

func (b *builder) layer(name string, out, in int, bias bool) *nn.Linear {
	l := &nn.Linear{Name: name}
	if b.err != nil {
		return l
	}
	l.Weight, b.err = b.linear(name, out, in)
	if bias {
		l.Bias = b.param(name+".bias", out)
	}
	return l
}

// newRotary starts with the angles of the first positions; grow adds more.
func newRotary(c *Config) *grad.Rotary { return &grad.Rotary{Dim: c.HeadDim} }

// grow makes the rotary table reach positions, doubling so that decoding does not
// rebuild it at every token.
func (m *Llama) grow(positions int) {
	half := m.rotary.Dim / 2
	if positions*half <= len(m.rotary.Cos) {
		return
	}
	positions = min(m.Config.MaxPositions, max(256, 2*positions))
	freq := m.Config.frequencies()
	cos, sin := make([]float32, positions*half), make([]float32, positions*half)
	for t := range positions {
		for i, f := range freq {
			s, c := math.Sincos(float64(t) * f)
			cos[t*half+i], sin[t*half+i] = float32(c), float32(s)
		}
	}
	m.rotary.Cos, m.rotary.Sin = cos, sin
}

// Hidden returns the final normalised hidden states [n, d] of the tokens, which
// are sequences one after another. With a cache, each sequence's keys and values
// are appended to it and its earlier ones attended to.
func (m *Llama) Hidden(tp *grad.Tape, tokens []int32, seqs grad.Sequences, cache *Cache) *grad.Value {
	reach := 0
	for i, n := range seqs.Lengths {
		reach = max(reach, seqs.Offset(i)+n)
	}
	m.grow(reach)
	x := m.Embed.Apply(tp, tokens)
	for _, b := range m.Layers {
		if m.Checkpointing && cache == nil {
			x = tp.Checkpoint(x, func(tp *grad.Tape, x *grad.Value) *grad.Value { return b.Apply(tp, x, seqs, nil) })
			continue
		}
		x = b.Apply(tp, x, seqs, cache)
	}
	return m.Norm.Apply(tp, x)
}

// Logits returns the head's scores [n, vocab] of hidden states x [n, d].
func (m *Llama) Logits(tp *grad.Tape, x *grad.Value) *grad.Value { return m.Head.Apply(tp, x) }

// Apply returns the block's output for x [n, d].
func (b *LlamaBlock) Apply(tp *grad.Tape, x *grad.Value, seqs grad.Sequences, cache *Cache) *grad.Value {
	x = tp.Scope(func() *grad.Value { return tp.AddTo(x, b.attention(tp, b.AttentionNorm.Apply(tp, x), seqs, cache)) })
	return tp.Scope(func() *grad.Value {
		h := b.MLPNorm.Apply(tp, x)
		return tp.AddTo(x, b.Down.Apply(tp, tp.SiLUMul(b.Gate.Apply(tp, h), b.Up.Apply(tp, h))))
	})
}

func (b *LlamaBlock) attention(tp *grad.Tape, h *grad.Value, seqs grad.Sequences, cache *Cache) *grad.Value {
	q := tp.RoPE(b.Q.Apply(tp, h), b.heads.Q, b.rotary, seqs)
	k := tp.RoPE(b.K.Apply(tp, h), b.heads.KV, b.rotary, seqs)
	v := b.V.Apply(tp, h)
	if cache == nil {
		return b.O.Apply(tp, tp.Attention(q, k, v, b.heads, seqs))
	}
	keys, values := cache.append(b.index, k, v, seqs)
	return b.O.Apply(tp, tp.AttendCached(q, keys, values, k.Cols, b.heads, seqs))
}

// Linears returns the block's layers in the order that data meets them.
func (b *LlamaBlock) Linears() []*nn.Linear {
	return []*nn.Linear{b.Q, b.K, b.V, b.O, b.Gate, b.Up, b.Down}
}

// Linears returns every linear layer with a matrix of its own, in order: the head
// is among them unless it shares the embedding's table.
func (m *Llama) Linears() []*nn.Linear {
	var ls []*nn.Linear
	for _, b := range m.Layers {
		ls = append(ls, b.Linears()...)
	}
	if !m.Config.TieEmbeddings {
		ls = append(ls, m.Head)
	}
	return ls
}

// Params returns every parameter once, in checkpoint order, with those that
// methods put into the layers.
func (m *Llama) Params() []*grad.Param {
	ps := []*grad.Param{m.Embed.Table}
	for _, b := range m.Layers {
		ps = append(ps, b.AttentionNorm.Weight)
		for _, l := range b.Linears()[:4] {
			ps = append(ps, l.Params()...)
		}
		ps = append(ps, b.MLPNorm.Weight)
		for _, l := range b.Linears()[4:] {
			ps = append(ps, l.Params()...)
		}
	}
	ps = append(ps, m.Norm.Weight)
	if !m.Config.TieEmbeddings {
		ps = append(ps, m.Head.Params()...)
	}
	return ps
}

// Blocks returns the layers between embedding and head, for methods that work
// through a model one block at a time.
func (m *Llama) Blocks() []Block {
	bs := make([]Block, len(m.Layers))
	for i, b := range m.Layers {
		bs[i] = b
	}
	return bs
}

// Info returns the sizes that callers of any causal model need.
func (m *Llama) Info() *Config { return m.Config }

// NewLlama returns a model with fresh weights drawn as GPT-2 does: normal with
// standard deviation 0.02, output projections of residual branches shrunk by
// 1/√(2·layers), norms one, biases zero.
func NewLlama(c *Config, seed uint64) (*Llama, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	rng := rand.New(rand.NewPCG(seed, 0x7461726500000000))
	src := func(name string, shape ...int) (*tensor.Tensor, error) {
		t := tensor.New(shape...)
		fill(t.F32(), name, c.Layers, len(shape), rng)
		return t, nil
	}
	return newLlama(c, src, func(name string, out, in int) (nn.Weight, error) {
		t, err := src(name+".weight", out, in)
		return nn.NewDense(name+".weight", t), err
	})
}

// LinearSpec is the name and shape of a linear layer.
type LinearSpec struct {
	Name    string
	Out, In int
}

// Layout lists the linear layers that a model of this configuration has, without
// building it, for work that streams through a checkpoint.
func Layout(c *Config) ([]LinearSpec, error) {
	var specs []LinearSpec
	_, err := newLlama(c,
		func(string, ...int) (*tensor.Tensor, error) { return &tensor.Tensor{}, nil },
		func(name string, out, in int) (nn.Weight, error) {
			specs = append(specs, LinearSpec{name, out, in})
			return nil, nil
		})
	return specs, err
}
