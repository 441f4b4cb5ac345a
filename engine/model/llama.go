package model

import (
	"fmt"

	"tare/engine/grad"
	"tare/engine/nn"
)

// Llama is a decoder of the llama family: pre-norm blocks of rotary attention with
// grouped queries and a gated MLP. Mistral, Qwen2, Qwen3 and SmolLM differ in biases,
// windows, normalised queries and keys, and sizes only. (Touvron et al. 2023, arXiv:2302.13971.)
type Llama struct {
	stack
	Embed  *nn.Embedding
	Layers []*LlamaBlock
	Norm   *nn.RMSNorm
	Head   *nn.Linear // shares Embed's table when embeddings are tied

	rotary *rotary
}

// LlamaBlock is one layer of a Llama.
type LlamaBlock struct {
	AttentionNorm, MLPNorm *nn.RMSNorm
	Q, K, V, O             *nn.Linear
	QNorm, KNorm           *nn.RMSNorm // over each head; nil but in Qwen3
	Gate, Up, Down         *nn.Linear

	index  int
	heads  grad.Heads
	rotary *grad.Rotary
}

func llamaConfig(c *Config) { c.SlidingWindow = nil }

// mistralConfig: a file without sliding_window has the first Mistral's.
func mistralConfig(c *Config) {
	if _, said := c.Raw["sliding_window"]; !said {
		w := 4096
		c.SlidingWindow = &w
	}
}

// qwen2Config: biases stand on q, k and v, not on o.
func qwen2Config(c *Config) {
	c.AttentionBias = true
	qwenWindows(c)
}

func qwen3Config(c *Config) {
	if c.HeadDim == 0 {
		c.HeadDim = 128
	}
	qwenWindows(c)
}

// qwenWindows: the window is off unless the file turns it on, and then begins at a
// layer.
func qwenWindows(c *Config) {
	if c.UseSlidingWindow == nil || !*c.UseSlidingWindow {
		c.SlidingWindow = nil
	}
	if !c.has("max_window_layers") {
		c.MaxWindowLayers = 28
	}
}

// newLlama builds the network of c.
func newLlama(c *Config, b *builder) Causal {
	m := &Llama{rotary: newRotary(c, c.RopeTheta, c.RopeScaling)}
	d := c.HiddenSize
	m.Embed = b.embedding("model.embed_tokens", c.VocabSize, d)
	oBias := c.AttentionBias && c.ModelType != "qwen2"
	for i := range c.Layers {
		at, size := fmt.Sprintf("model.layers.%d.", i), c.LayerSize(i)
		kv, q, channels := size.KVHeads*c.HeadDim, size.Heads*c.HeadDim, size.Channels
		l := &LlamaBlock{index: i, heads: c.heads(i), rotary: &m.rotary.Rotary}
		l.AttentionNorm = b.rmsNorm(at+"input_layernorm", d)
		l.Q = b.layer(at+"self_attn.q_proj", q, d, c.AttentionBias)
		l.K = b.layer(at+"self_attn.k_proj", kv, d, c.AttentionBias)
		l.V = b.layer(at+"self_attn.v_proj", kv, d, c.AttentionBias)
		l.O = b.layer(at+"self_attn.o_proj", d, q, oBias)
		if c.ModelType == "qwen3" {
			l.QNorm = b.rmsNorm(at+"self_attn.q_norm", c.HeadDim)
			l.KNorm = b.rmsNorm(at+"self_attn.k_norm", c.HeadDim)
		}
		l.MLPNorm = b.rmsNorm(at+"post_attention_layernorm", d)
		l.Gate = b.layer(at+"mlp.gate_proj", channels, d, c.MLPBias)
		l.Up = b.layer(at+"mlp.up_proj", channels, d, c.MLPBias)
		l.Down = b.layer(at+"mlp.down_proj", d, channels, c.MLPBias)
		m.Layers = append(m.Layers, l)
		b.block(l)
	}
	m.Norm = b.rmsNorm("model.norm", d)
	m.Head = b.head(m.Embed.Table, d, false)
	m.stack = b.stack
	return m
}

// Hidden returns the final normalised hidden states [n, d] of the tokens, which
// are sequences one after another. With a cache, each sequence's keys and values
// are appended to it and its earlier ones attended to.
func (m *Llama) Hidden(tp *grad.Tape, tokens []int32, seqs grad.Sequences, cache *Cache) *grad.Value {
	m.rotary.reach(seqs)
	x := m.through(tp, m.Embed.Apply(tp, tokens), seqs, cache)
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
	q, k := b.Q.Apply(tp, h), b.K.Apply(tp, h)
	if b.QNorm != nil {
		q, k = perHead(tp, b.QNorm, q, q.Cols/b.heads.Q), perHead(tp, b.KNorm, k, k.Cols/b.heads.KV)
	}
	q, k = tp.RoPE(q, b.heads.Q, b.rotary, seqs), tp.RoPE(k, b.heads.KV, b.rotary, seqs)
	return b.O.Apply(tp, attend(tp, q, k, b.V.Apply(tp, h), b.heads, seqs, cache, b.index))
}

// Linears returns the block's layers in the order that data meets them.
func (b *LlamaBlock) Linears() []*nn.Linear {
	return []*nn.Linear{b.Q, b.K, b.V, b.O, b.Gate, b.Up, b.Down}
}

// NewLlama returns a model of the llama family with fresh weights; see New.
func NewLlama(c *Config, seed uint64) (*Llama, error) {
	m, err := New(c, seed)
	if err != nil {
		return nil, err
	}
	llama, ok := m.(*Llama)
	if !ok {
		return nil, fmt.Errorf("%w: %s", errNotLlama, c.ModelType)
	}
	return llama, nil
}
