package model

import (
	"fmt"
	"math"

	"tare/engine/grad"
	"tare/engine/nn"
)

// Gemma is the text decoder of Gemma 3: embeddings scaled by √d, norms before and after
// each half of a block, normalised queries and keys, a GELU-gated MLP, and layers that
// see a window only, with a rotary base of their own, between layers that see all.
// (Gemma Team 2025, arXiv:2503.19786.)
type Gemma struct {
	stack
	Embed  *nn.Embedding
	Layers []*GemmaBlock
	Norm   *nn.RMSNorm
	Head   *nn.Linear // shares Embed's table when embeddings are tied

	global, local *rotary
}

// GemmaBlock is one layer of a Gemma.
type GemmaBlock struct {
	AttentionNorm, AfterAttention *nn.RMSNorm
	Q, K, V, O                    *nn.Linear
	QNorm, KNorm                  *nn.RMSNorm // over each head
	MLPNorm, AfterMLP             *nn.RMSNorm
	Gate, Up, Down                *nn.Linear

	index  int
	heads  grad.Heads
	act    func(*grad.Tape, *grad.Value) *grad.Value
	rotary *grad.Rotary
}

func gemmaConfig(c *Config) {
	c.HiddenAct, c.TieEmbeddings, c.localTheta = "gelu_pytorch_tanh", true, 10000
	c.read("hidden_activation", &c.HiddenAct)
	c.read("tie_word_embeddings", &c.TieEmbeddings)
	c.read("rope_local_base_freq", &c.localTheta)
	if !c.has("rope_theta") {
		c.RopeTheta = 1e6
	}
	if c.HeadDim == 0 {
		c.HeadDim = 256
	}
	scale := 256.0
	c.read("query_pre_attn_scalar", &scale)
	c.scoreScale = 1 / math.Sqrt(scale)
	if !c.has("sliding_window") {
		w := 4096
		c.SlidingWindow = &w
	}
	if c.LayerTypes == nil {
		pattern := 6
		c.read("sliding_window_pattern", &pattern)
		for i := range min(max(c.Layers, 0), 1<<12) {
			kind := "sliding_attention"
			if (i+1)%max(pattern, 1) == 0 {
				kind = "full_attention"
			}
			c.LayerTypes = append(c.LayerTypes, kind)
		}
	}
	for _, key := range []string{"final_logit_softcapping", "attn_logit_softcapping"} {
		if c.has(key) {
			c.badKeys = append(c.badKeys, fmt.Sprintf("%s = %s (want null)", key, c.Raw[key]))
		}
	}
	if !(scale > 0) || !(c.localTheta > 0) {
		c.badKeys = append(c.badKeys, fmt.Sprintf("query_pre_attn_scalar = %g, rope_local_base_freq = %g (want positive numbers)", scale, c.localTheta))
	}
}

func newGemma(c *Config, b *builder) Causal {
	m := &Gemma{global: newRotary(c, c.RopeTheta, c.RopeScaling), local: newRotary(c, c.localTheta, nil)}
	d, kv, q := c.HiddenSize, c.KVHeads*c.HeadDim, c.Heads*c.HeadDim
	norm := func(name string, d int) *nn.RMSNorm {
		n := b.rmsNorm(name, d)
		n.PlusOne = true
		return n
	}
	m.Embed = b.embedding("model.embed_tokens", c.VocabSize, d)
	for i := range c.Layers {
		at := fmt.Sprintf("model.layers.%d.", i)
		l := &GemmaBlock{index: i, heads: c.heads(i), act: activations[c.HiddenAct], rotary: &m.global.Rotary}
		if l.heads.Window > 0 {
			l.rotary = &m.local.Rotary
		}
		l.AttentionNorm = norm(at+"input_layernorm", d)
		l.Q = b.layer(at+"self_attn.q_proj", q, d, c.AttentionBias)
		l.K = b.layer(at+"self_attn.k_proj", kv, d, c.AttentionBias)
		l.V = b.layer(at+"self_attn.v_proj", kv, d, c.AttentionBias)
		l.O = b.layer(at+"self_attn.o_proj", d, q, c.AttentionBias)
		l.QNorm = norm(at+"self_attn.q_norm", c.HeadDim)
		l.KNorm = norm(at+"self_attn.k_norm", c.HeadDim)
		l.AfterAttention = norm(at+"post_attention_layernorm", d)
		l.MLPNorm = norm(at+"pre_feedforward_layernorm", d)
		l.Gate = b.layer(at+"mlp.gate_proj", c.IntermediateSize, d, false)
		l.Up = b.layer(at+"mlp.up_proj", c.IntermediateSize, d, false)
		l.Down = b.layer(at+"mlp.down_proj", d, c.IntermediateSize, false)
		l.AfterMLP = norm(at+"post_feedforward_layernorm", d)
		m.Layers = append(m.Layers, l)
		b.block(l)
	}
	m.Norm = norm("model.norm", d)
	m.Head = b.head(m.Embed.Table, d, false)
	m.stack = b.stack
	return m
}

// Hidden implements Causal.
func (m *Gemma) Hidden(tp *grad.Tape, tokens []int32, seqs grad.Sequences, cache *Cache) *grad.Value {
	m.global.reach(seqs)
	m.local.reach(seqs)
	x := tp.Scale(m.Embed.Apply(tp, tokens), float32(math.Sqrt(float64(m.Config.HiddenSize))))
	return m.Norm.Apply(tp, m.through(tp, x, seqs, cache))
}

// Logits implements Causal.
func (m *Gemma) Logits(tp *grad.Tape, x *grad.Value) *grad.Value { return m.Head.Apply(tp, x) }

// Apply returns the block's output for x [n, d].
func (b *GemmaBlock) Apply(tp *grad.Tape, x *grad.Value, seqs grad.Sequences, cache *Cache) *grad.Value {
	x = tp.Scope(func() *grad.Value {
		return tp.AddTo(x, b.AfterAttention.Apply(tp, b.attention(tp, b.AttentionNorm.Apply(tp, x), seqs, cache)))
	})
	return tp.Scope(func() *grad.Value {
		h := b.MLPNorm.Apply(tp, x)
		h = tp.Mul(b.act(tp, b.Gate.Apply(tp, h)), b.Up.Apply(tp, h))
		return tp.AddTo(x, b.AfterMLP.Apply(tp, b.Down.Apply(tp, h)))
	})
}

func (b *GemmaBlock) attention(tp *grad.Tape, h *grad.Value, seqs grad.Sequences, cache *Cache) *grad.Value {
	q, k := b.Q.Apply(tp, h), b.K.Apply(tp, h)
	q = tp.RoPE(perHead(tp, b.QNorm, q, q.Cols/b.heads.Q), b.heads.Q, b.rotary, seqs)
	k = tp.RoPE(perHead(tp, b.KNorm, k, k.Cols/b.heads.KV), b.heads.KV, b.rotary, seqs)
	return b.O.Apply(tp, attend(tp, q, k, b.V.Apply(tp, h), b.heads, seqs, cache, b.index))
}

// Linears returns the block's layers in the order that data meets them.
func (b *GemmaBlock) Linears() []*nn.Linear {
	return []*nn.Linear{b.Q, b.K, b.V, b.O, b.Gate, b.Up, b.Down}
}
