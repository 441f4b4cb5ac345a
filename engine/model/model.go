package model

import (
	"tare/engine/grad"
	"tare/engine/nn"
	"tare/engine/tensor"
)

// Network is what every model of this package is.
type Network interface {
	// Info returns the model's sizes.
	Info() *Config
	// Linears returns the linear layers, with stable checkpoint names.
	Linears() []*nn.Linear
	// Params returns every parameter once, in checkpoint order.
	Params() []*grad.Param
	// Blocks returns the repeated layers in order.
	Blocks() []Block
	// SetCheckpointing says whether the backward pass runs blocks again to save memory.
	SetCheckpointing(on bool)
	// Export lists the tensors of a checkpoint, floating types stored as dtype.
	Export(dtype tensor.DType) []Entry
}

// Causal is a language model that predicts the next token.
type Causal interface {
	Network
	// Hidden returns the final hidden states [n, d]; cache may be nil.
	Hidden(tp *grad.Tape, tokens []int32, seqs grad.Sequences, cache *Cache) *grad.Value
	// Logits returns the scores [n, vocab] of hidden states.
	Logits(tp *grad.Tape, x *grad.Value) *grad.Value
}

// Block is one repeated layer of a model.
type Block interface {
	Apply(tp *grad.Tape, x *grad.Value, seqs grad.Sequences, cache *Cache) *grad.Value
	Linears() []*nn.Linear
}

// logitBytes bounds the logits that exist at once while training.
const logitBytes = 4 << 20

// Loss returns the summed cross-entropy in nats of the targets over denom [1, 1].
// A target of −1 has no loss. The logits of all tokens never exist together.
func Loss(tp *grad.Tape, m Causal, tokens, targets []int32, seqs grad.Sequences, denom float64) *grad.Value {
	return tp.Scope(func() *grad.Value { // what no block holds ends with its last reader
		x := tp.Scope(func() *grad.Value { return m.Hidden(tp, tokens, seqs, nil) })
		return tp.ChunkedCrossEntropy(x, targets, denom, m.Info().VocabSize, logitBytes, m.Logits)
	})
}

// Cache holds the keys and values of sequences while they are being continued.
// Rows are appended in place; the storage of a sequence grows by doubling.
type Cache struct {
	keys, values [][][]float32 // [layer][sequence] → [positions · kv columns]
	lengths      []int
}

// NewCache returns an empty cache for n sequences of a model with that many layers.
func NewCache(layers, n int) *Cache {
	c := &Cache{lengths: make([]int, n)}
	for range layers {
		c.keys = append(c.keys, make([][]float32, n))
		c.values = append(c.values, make([][]float32, n))
	}
	return c
}

// Lengths returns the positions held of each sequence.
func (c *Cache) Lengths() []int { return c.lengths }

// Next returns the layout of a step that adds lengths[i] rows to sequence i.
func (c *Cache) Next(lengths []int) grad.Sequences {
	return grad.Sequences{Lengths: lengths, Offsets: append([]int(nil), c.lengths...)}
}

// Advance notes that a step of that layout has been run through all layers.
func (c *Cache) Advance(seqs grad.Sequences) {
	for i, n := range seqs.Lengths {
		c.lengths[i] = seqs.Offset(i) + n
	}
}

// Truncate forgets the positions of sequence i from n on.
func (c *Cache) Truncate(i, n int) { c.lengths[i] = min(n, c.lengths[i]) }

// append stores the step's keys and values of a layer and returns all it holds.
func (c *Cache) append(layer int, k, v *grad.Value, seqs grad.Sequences) (keys, values [][]float32) {
	row := 0
	for i, n := range seqs.Lengths {
		from, to, at := row*k.Cols, (row+n)*k.Cols, seqs.Offset(i)*k.Cols
		c.keys[layer][i] = append(c.keys[layer][i][:at], k.Data[from:to]...)
		c.values[layer][i] = append(c.values[layer][i][:at], v.Data[from:to]...)
		row += n
	}
	return c.keys[layer], c.values[layer]
}
