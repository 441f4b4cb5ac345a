package model

import (
	"fmt"

	"tare/engine/grad"
	"tare/engine/nn"
)

// OPT is Meta's decoder of GPT-3's shape: learned positions, LayerNorm before each half
// of a block (after it in the 350M model, which also has narrower embeddings), ReLU.
// (Zhang et al. 2022, arXiv:2205.01068.)
type OPT struct {
	stack
	Embed, Positions *nn.Embedding
	In, Out          *nn.Linear // between the embeddings' width and the blocks'; nil where they agree
	Layers           []*OPTBlock
	Norm             *nn.LayerNorm // nil where blocks end with theirs
	Head             *nn.Linear    // shares Embed's table when embeddings are tied
}

// OPTBlock is one layer of an OPT.
type OPTBlock struct {
	AttentionNorm, MLPNorm *nn.LayerNorm
	Q, K, V, O             *nn.Linear
	Up, Down               *nn.Linear

	index     int
	heads     grad.Heads
	act       func(*grad.Tape, *grad.Value) *grad.Value
	normFirst bool
}

func optConfig(c *Config) {
	c.HiddenAct, c.NormEps, c.TieEmbeddings, c.learned, c.positionOffset = "relu", 1e-5, true, true, 2
	c.read("ffn_dim", &c.IntermediateSize)
	c.read("activation_function", &c.HiddenAct)
	c.read("tie_word_embeddings", &c.TieEmbeddings)
	affine := true
	if c.read("layer_norm_elementwise_affine", &affine); !affine {
		c.badKeys = append(c.badKeys, "layer_norm_elementwise_affine = false (want true)")
	}
	width := c.HiddenSize
	if c.read("word_embed_proj_dim", &width); width < 1 || width > 1<<18 {
		c.badKeys = append(c.badKeys, fmt.Sprintf("word_embed_proj_dim = %d (want 1 to %d)", width, 1<<18))
	}
}

func newOPT(c *Config, b *builder) Causal {
	m := &OPT{}
	d, width, bias, normFirst, noNorm := c.HiddenSize, c.HiddenSize, true, true, false
	c.read("word_embed_proj_dim", &width)
	c.read("enable_bias", &bias)
	c.read("do_layer_norm_before", &normFirst)
	c.read("_remove_final_layer_norm", &noNorm)
	m.Embed = b.embedding("model.decoder.embed_tokens", c.VocabSize, width)
	m.Positions = b.embedding("model.decoder.embed_positions", c.positionOffset+c.MaxPositions, d)
	if width != d {
		m.In = b.layer("model.decoder.project_in", d, width, false)
	}
	for i := range c.Layers {
		at := fmt.Sprintf("model.decoder.layers.%d.", i)
		l := &OPTBlock{index: i, heads: c.heads(i), act: activations[c.HiddenAct], normFirst: normFirst}
		l.AttentionNorm = b.layerNorm(at+"self_attn_layer_norm", d)
		l.Q = b.layer(at+"self_attn.q_proj", d, d, bias)
		l.K = b.layer(at+"self_attn.k_proj", d, d, bias)
		l.V = b.layer(at+"self_attn.v_proj", d, d, bias)
		l.O = b.layer(at+"self_attn.out_proj", d, d, bias)
		l.MLPNorm = b.layerNorm(at+"final_layer_norm", d)
		l.Up = b.layer(at+"fc1", c.IntermediateSize, d, bias)
		l.Down = b.layer(at+"fc2", d, c.IntermediateSize, bias)
		m.Layers = append(m.Layers, l)
		b.block(l)
	}
	if normFirst && !noNorm {
		m.Norm = b.layerNorm("model.decoder.final_layer_norm", d)
	}
	if width != d {
		m.Out = b.layer("model.decoder.project_out", width, d, false)
	}
	m.Head = b.head(m.Embed.Table, width, false)
	m.stack = b.stack
	return m
}

// Hidden implements Causal.
func (m *OPT) Hidden(tp *grad.Tape, tokens []int32, seqs grad.Sequences, cache *Cache) *grad.Value {
	x := m.Embed.Apply(tp, tokens)
	if m.In != nil {
		x = m.In.Apply(tp, x)
	}
	x = tp.AddTo(x, m.Positions.Apply(tp, positions(seqs, m.Config.positionOffset)))
	x = m.through(tp, x, seqs, cache)
	if m.Norm != nil {
		x = m.Norm.Apply(tp, x)
	}
	if m.Out != nil {
		x = m.Out.Apply(tp, x)
	}
	return x
}

// Logits implements Causal.
func (m *OPT) Logits(tp *grad.Tape, x *grad.Value) *grad.Value { return m.Head.Apply(tp, x) }

// Apply returns the block's output for x [n, d].
func (b *OPTBlock) Apply(tp *grad.Tape, x *grad.Value, seqs grad.Sequences, cache *Cache) *grad.Value {
	x = residual(tp, x, b.AttentionNorm, b.normFirst, func(h *grad.Value) *grad.Value {
		q, k, v := b.Q.Apply(tp, h), b.K.Apply(tp, h), b.V.Apply(tp, h)
		return b.O.Apply(tp, attend(tp, q, k, v, b.heads, seqs, cache, b.index))
	})
	return residual(tp, x, b.MLPNorm, b.normFirst, func(h *grad.Value) *grad.Value {
		return b.Down.Apply(tp, b.act(tp, b.Up.Apply(tp, h)))
	})
}

// Linears returns the block's layers in the order that data meets them.
func (b *OPTBlock) Linears() []*nn.Linear {
	return []*nn.Linear{b.Q, b.K, b.V, b.O, b.Up, b.Down}
}
