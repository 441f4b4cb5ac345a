package model

import (
	"fmt"

	"tare/engine/grad"
	"tare/engine/nn"
)

// GPT2 is OpenAI's decoder: learned positions, pre-norm blocks with LayerNorm, one
// layer for queries, keys and values, an MLP of two layers, tied embeddings. (Radford et
// al. 2019, "Language models are unsupervised multitask learners".) Its files hold the
// blocks' matrices as [in, out].
type GPT2 struct {
	stack
	Embed, Positions *nn.Embedding
	Layers           []*GPT2Block
	Norm             *nn.LayerNorm
	Head             *nn.Linear // shares Embed's table when embeddings are tied
}

// GPT2Block is one layer of a GPT2.
type GPT2Block struct {
	AttentionNorm, MLPNorm *nn.LayerNorm
	QKV, O                 *nn.Linear // QKV's rows are those of q, k and v, one below another
	Up, Down               *nn.Linear

	index int
	heads grad.Heads
	act   func(*grad.Tape, *grad.Value) *grad.Value
}

func gpt2Config(c *Config) {
	c.HiddenAct, c.NormEps, c.TieEmbeddings, c.MaxPositions, c.learned = "gelu_new", 1e-5, true, 1024, true
	c.read("n_embd", &c.HiddenSize)
	c.read("n_layer", &c.Layers)
	c.read("n_head", &c.Heads)
	c.read("n_positions", &c.MaxPositions)
	c.read("activation_function", &c.HiddenAct)
	c.read("layer_norm_epsilon", &c.NormEps)
	c.read("tie_word_embeddings", &c.TieEmbeddings)
	c.IntermediateSize = 4 * c.HiddenSize
	c.read("n_inner", &c.IntermediateSize)
	scaled := true
	if c.read("scale_attn_weights", &scaled); !scaled {
		c.scoreScale = 1
	}
}

func newGPT2(c *Config, b *builder) Causal {
	m := &GPT2{}
	d := c.HiddenSize
	conv1D := func(name string, out, in int) *nn.Linear {
		return b.linear(LinearSpec{Name: name, Out: out, In: in, Transposed: true}, true)
	}
	m.Embed = b.embedding("transformer.wte", c.VocabSize, d)
	m.Positions = b.embedding("transformer.wpe", c.MaxPositions, d)
	var byDepth bool
	c.read("scale_attn_by_inverse_layer_idx", &byDepth)
	for i := range c.Layers {
		at := fmt.Sprintf("transformer.h.%d.", i)
		l := &GPT2Block{index: i, heads: c.heads(i), act: activations[c.HiddenAct]}
		if byDepth {
			l.heads.Scale /= float32(i + 1)
		}
		l.AttentionNorm = b.layerNorm(at+"ln_1", d)
		l.QKV = conv1D(at+"attn.c_attn", 3*d, d)
		l.O = conv1D(at+"attn.c_proj", d, d)
		l.MLPNorm = b.layerNorm(at+"ln_2", d)
		l.Up = conv1D(at+"mlp.c_fc", c.IntermediateSize, d)
		l.Down = conv1D(at+"mlp.c_proj", d, c.IntermediateSize)
		m.Layers = append(m.Layers, l)
		b.block(l)
	}
	m.Norm = b.layerNorm("transformer.ln_f", d)
	m.Head = b.head(m.Embed.Table, d, false)
	m.stack = b.stack
	return m
}

// Hidden implements Causal.
func (m *GPT2) Hidden(tp *grad.Tape, tokens []int32, seqs grad.Sequences, cache *Cache) *grad.Value {
	x := tp.AddTo(m.Embed.Apply(tp, tokens), m.Positions.Apply(tp, positions(seqs, 0)))
	return m.Norm.Apply(tp, m.through(tp, x, seqs, cache))
}

// Logits implements Causal.
func (m *GPT2) Logits(tp *grad.Tape, x *grad.Value) *grad.Value { return m.Head.Apply(tp, x) }

// Apply returns the block's output for x [n, d].
func (b *GPT2Block) Apply(tp *grad.Tape, x *grad.Value, seqs grad.Sequences, cache *Cache) *grad.Value {
	x = tp.Scope(func() *grad.Value {
		qkv := b.QKV.Apply(tp, b.AttentionNorm.Apply(tp, x))
		q, k, v := tp.Slice(qkv, 0, x.Cols), tp.Slice(qkv, x.Cols, 2*x.Cols), tp.Slice(qkv, 2*x.Cols, 3*x.Cols)
		return tp.AddTo(x, b.O.Apply(tp, attend(tp, q, k, v, b.heads, seqs, cache, b.index)))
	})
	return tp.Scope(func() *grad.Value {
		return tp.AddTo(x, b.Down.Apply(tp, b.act(tp, b.Up.Apply(tp, b.MLPNorm.Apply(tp, x)))))
	})
}

// Linears returns the block's layers in the order that data meets them.
func (b *GPT2Block) Linears() []*nn.Linear { return []*nn.Linear{b.QKV, b.O, b.Up, b.Down} }
