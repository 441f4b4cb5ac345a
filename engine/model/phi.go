package model

import (
	"fmt"

	"tare/engine/grad"
	"tare/engine/nn"
)

// Phi is Microsoft's small decoder: one LayerNorm before attention and MLP, which run
// side by side; part of each head's columns are rotated; biases everywhere. (Li et al.
// 2023, arXiv:2309.05463.)
type Phi struct {
	stack
	Embed  *nn.Embedding
	Layers []*PhiBlock
	Norm   *nn.LayerNorm
	Head   *nn.Linear

	rotary *rotary
}

// PhiBlock is one layer of a Phi.
type PhiBlock struct {
	Norm         *nn.LayerNorm
	Q, K, V, O   *nn.Linear
	QNorm, KNorm *nn.LayerNorm // over each head; usually nil
	Up, Down     *nn.Linear

	index  int
	heads  grad.Heads
	act    func(*grad.Tape, *grad.Value) *grad.Value
	rotary *grad.Rotary
}

func phiConfig(c *Config) {
	c.NormEps = 1e-5
	c.read("layer_norm_eps", &c.NormEps)
	if !c.has("hidden_act") {
		c.HiddenAct = "gelu_new"
	}
	if !c.has("partial_rotary_factor") {
		c.PartialRotary = 0.5
	}
}

func newPhi(c *Config, b *builder) Causal {
	m := &Phi{rotary: newRotary(c, c.RopeTheta, c.RopeScaling)}
	d, kv, q := c.HiddenSize, c.KVHeads*c.HeadDim, c.Heads*c.HeadDim
	var normHeads bool
	c.read("qk_layernorm", &normHeads)
	m.Embed = b.embedding("model.embed_tokens", c.VocabSize, d)
	for i := range c.Layers {
		at := fmt.Sprintf("model.layers.%d.", i)
		l := &PhiBlock{index: i, heads: c.heads(i), act: activations[c.HiddenAct], rotary: &m.rotary.Rotary}
		l.Norm = b.layerNorm(at+"input_layernorm", d)
		l.Q = b.layer(at+"self_attn.q_proj", q, d, true)
		l.K = b.layer(at+"self_attn.k_proj", kv, d, true)
		l.V = b.layer(at+"self_attn.v_proj", kv, d, true)
		l.O = b.layer(at+"self_attn.dense", d, q, true)
		if normHeads {
			l.QNorm = b.layerNorm(at+"self_attn.q_layernorm", c.HeadDim)
			l.KNorm = b.layerNorm(at+"self_attn.k_layernorm", c.HeadDim)
		}
		l.Up = b.layer(at+"mlp.fc1", c.IntermediateSize, d, true)
		l.Down = b.layer(at+"mlp.fc2", d, c.IntermediateSize, true)
		m.Layers = append(m.Layers, l)
		b.block(l)
	}
	m.Norm = b.layerNorm("model.final_layernorm", d)
	m.Head = b.head(m.Embed.Table, d, true)
	m.stack = b.stack
	return m
}

// Hidden implements Causal.
func (m *Phi) Hidden(tp *grad.Tape, tokens []int32, seqs grad.Sequences, cache *Cache) *grad.Value {
	m.rotary.reach(seqs)
	return m.Norm.Apply(tp, m.through(tp, m.Embed.Apply(tp, tokens), seqs, cache))
}

// Logits implements Causal.
func (m *Phi) Logits(tp *grad.Tape, x *grad.Value) *grad.Value { return m.Head.Apply(tp, x) }

// Apply returns the block's output for x [n, d].
func (b *PhiBlock) Apply(tp *grad.Tape, x *grad.Value, seqs grad.Sequences, cache *Cache) *grad.Value {
	return tp.Scope(func() *grad.Value {
		h := b.Norm.Apply(tp, x)
		y := tp.AddTo(x, b.attention(tp, h, seqs, cache))
		return tp.AddTo(y, b.Down.Apply(tp, b.act(tp, b.Up.Apply(tp, h))))
	})
}

func (b *PhiBlock) attention(tp *grad.Tape, h *grad.Value, seqs grad.Sequences, cache *Cache) *grad.Value {
	q, k := b.Q.Apply(tp, h), b.K.Apply(tp, h)
	if b.QNorm != nil {
		q, k = perHead(tp, b.QNorm, q, q.Cols/b.heads.Q), perHead(tp, b.KNorm, k, k.Cols/b.heads.KV)
	}
	q, k = tp.RoPE(q, b.heads.Q, b.rotary, seqs), tp.RoPE(k, b.heads.KV, b.rotary, seqs)
	return b.O.Apply(tp, attend(tp, q, k, b.V.Apply(tp, h), b.heads, seqs, cache, b.index))
}

// Linears returns the block's layers in the order that data meets them.
func (b *PhiBlock) Linears() []*nn.Linear {
	return []*nn.Linear{b.Q, b.K, b.V, b.O, b.Up, b.Down}
}
