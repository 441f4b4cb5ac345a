package model

import (
	"tare/engine/data"
	"tare/engine/grad"
	"tare/engine/nn"
)

// Inputs is a batch of what encoders and classifiers read: texts or images.
type Inputs struct {
	Tokens []int32        // rows are sequences one below another
	Types  []int32        // segment of each token; nil for all 0
	Seqs   grad.Sequences // how the tokens divide; no padding stands between them
	Pixels []float32      // [images, channels, height, width]
}

// InputsOf returns samples as a batch.
func InputsOf(s *data.Samples) Inputs {
	in := Inputs{Pixels: s.Pixels}
	for _, text := range s.Tokens {
		in.Tokens = append(in.Tokens, text...)
		in.Seqs.Lengths = append(in.Seqs.Lengths, len(text))
	}
	return in
}

// Encoder turns texts into hidden states, every token seeing its whole text.
type Encoder interface {
	Network
	// Encode returns the final hidden states [tokens, d].
	Encode(tp *grad.Tape, in Inputs) *grad.Value
}

// MaskedLM is an encoder that fills in masked tokens.
type MaskedLM interface {
	Encoder
	// Logits returns the scores [n, vocab] of hidden states.
	Logits(tp *grad.Tape, x *grad.Value) *grad.Value
}

// Classifier tells classes of texts or images apart.
type Classifier interface {
	Network
	// Classify returns the scores [sequences or images, labels].
	Classify(tp *grad.Tape, in Inputs) *grad.Value
}

// MaskedLoss is Loss of an encoder that fills in the targets; −1 has no loss.
func MaskedLoss(tp *grad.Tape, m MaskedLM, in Inputs, targets []int32, denom float64) *grad.Value {
	return tp.Scope(func() *grad.Value {
		x := tp.Scope(func() *grad.Value { return m.Encode(tp, in) })
		return tp.ChunkedCrossEntropy(x, targets, denom, m.Info().VocabSize, logitBytes, m.Logits)
	})
}

// ClassLoss returns the summed cross-entropy in nats of the labels over denom [1, 1].
func ClassLoss(tp *grad.Tape, m Classifier, in Inputs, labels []int32, denom float64) *grad.Value {
	return tp.CrossEntropy(m.Classify(tp, in), labels, denom)
}

// EncoderBlock is one layer of an encoder: attention in both directions and an MLP of
// two layers, with a LayerNorm after each (Bert) or before each (ViT).
type EncoderBlock struct {
	Q, K, V, O             *nn.Linear
	AttentionNorm, MLPNorm *nn.LayerNorm
	Up, Down               *nn.Linear

	heads     grad.Heads
	act       func(*grad.Tape, *grad.Value) *grad.Value
	normFirst bool
}

// Apply returns the block's output for x [n, d]; encoders have no cache.
func (b *EncoderBlock) Apply(tp *grad.Tape, x *grad.Value, seqs grad.Sequences, _ *Cache) *grad.Value {
	x = residual(tp, x, b.AttentionNorm, b.normFirst, func(h *grad.Value) *grad.Value {
		q, k, v := b.Q.Apply(tp, h), b.K.Apply(tp, h), b.V.Apply(tp, h)
		return b.O.Apply(tp, tp.Attention(q, k, v, b.heads, seqs))
	})
	return residual(tp, x, b.MLPNorm, b.normFirst, func(h *grad.Value) *grad.Value {
		return b.Down.Apply(tp, b.act(tp, b.Up.Apply(tp, h)))
	})
}

// Linears returns the block's layers in the order that data meets them.
func (b *EncoderBlock) Linears() []*nn.Linear {
	return []*nn.Linear{b.Q, b.K, b.V, b.O, b.Up, b.Down}
}

// bidirectional returns the shape of layer i's attention in an encoder.
func (c *Config) bidirectional(i int) grad.Heads {
	h := c.heads(i)
	h.Window, h.Bidirectional = 0, true
	return h
}

// firstRows returns the rows of x [n, d] that begin a sequence.
func firstRows(tp *grad.Tape, x *grad.Value, seqs grad.Sequences) *grad.Value {
	at, row := make([]int, len(seqs.Lengths)), 0
	for i, n := range seqs.Lengths {
		at[i] = row
		row += n
	}
	return tp.GatherRows(x, at)
}
