package model

import (
	"fmt"
	"math"
	"math/rand/v2"

	"tare/engine/grad"
	"tare/engine/nn"
)

// RNNOptions shapes an RNN.
type RNNOptions struct {
	Cell   nn.Cell
	Vocab  int // tokens that the encoder embeds; 0 means that inputs are rows of Width numbers
	Width  int // of an embedded token, or of an input row
	Hidden int // size of each layer's state
	Layers int
	Out    int // scores of a state: the vocabulary of a language model, or classes
}

// Validate says what no network can be built from.
func (o RNNOptions) Validate() error {
	if o.Vocab < 0 || o.Width < 1 || o.Hidden < 1 || o.Layers < 1 || o.Out < 1 {
		return fmt.Errorf("model: an RNN of %+v: every size must be at least 1, vocab 0 or more", o)
	}
	if o.Cell > nn.GRU {
		return fmt.Errorf("model: an RNN of %v", o.Cell)
	}
	return nil
}

// RNN is stacked recurrent layers under a linear decoder: a language model by the
// scores of every state, a classifier of sequences by those of the last. Names are
// those of PyTorch's RNN, LSTM and GRU as the field rnn of a module: encoder.weight,
// rnn.weight_ih_l0, …, decoder.weight.
type RNN struct {
	Options RNNOptions
	slots
	encoder       *nn.Embedding // nil where inputs are rows of numbers
	layers        []*rnnLayer
	decoder       *nn.Linear
	checkpointing bool
}

// rnnLayer is one recurrent layer as a Block.
type rnnLayer struct {
	nn.Recurrent
	index int
}

// NewRNN returns a network with random weights, all frozen: set Part to train.
// Recurrent matrices are U(−1/√h, 1/√h), as PyTorch's.
func NewRNN(o RNNOptions, seed uint64) (*RNN, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	rng := rand.New(rand.NewPCG(seed, 0))
	m := &RNN{Options: o}
	if o.Vocab > 0 {
		l := m.matrix("encoder", "encoder.weight", "", o.Vocab, o.Width, 1, rng)
		table := l.Weight.(nn.Dense).P
		m.slots[0] = slot{name: table.Name, shape: table.Value.Shape(), param: table}
		m.encoder = &nn.Embedding{Table: table}
	}
	rows, in := o.Cell.Gates()*o.Hidden, o.Width
	bound := 1 / math.Sqrt(float64(o.Hidden))
	for i := range o.Layers {
		half := func(part string, in int) *nn.Linear {
			weight, bias := fmt.Sprintf("rnn.weight_%s_l%d", part, i), fmt.Sprintf("rnn.bias_%s_l%d", part, i)
			l := m.matrix(weight, weight, bias, rows, in, 0, rng)
			for _, p := range l.Params() {
				for k := range p.Value.F32() {
					p.Value.F32()[k] = float32(bound * (2*rng.Float64() - 1))
				}
			}
			return l
		}
		m.layers = append(m.layers, &rnnLayer{nn.Recurrent{Cell: o.Cell, Input: half("ih", in), State: half("hh", o.Hidden)}, i})
		in = o.Hidden
	}
	m.decoder = m.layer("decoder", o.Out, o.Hidden, rng)
	return m, nil
}

// Info returns the sizes that callers of any model need.
func (m *RNN) Info() *Config {
	return &Config{ModelType: m.Options.Cell.String(), VocabSize: m.Options.Out, HiddenSize: m.Options.Hidden, Layers: m.Options.Layers, MaxPositions: math.MaxInt32}
}

// SetCheckpointing says whether the backward pass runs layers again to save memory.
func (m *RNN) SetCheckpointing(on bool) { m.checkpointing = on }

// Blocks returns the recurrent layers in order.
func (m *RNN) Blocks() []Block {
	blocks := make([]Block, len(m.layers))
	for i, l := range m.layers {
		blocks[i] = l
	}
	return blocks
}

// Apply implements Block: x and the result are sequences one below another.
func (l *rnnLayer) Apply(tp *grad.Tape, x *grad.Value, seqs grad.Sequences, cache *Cache) *grad.Value {
	s := nn.NewSteps(seqs.Lengths)
	return tp.Scope(func() *grad.Value {
		return tp.GatherRows(l.Recurrent.Apply(tp, tp.GatherRows(x, s.Order), s, l.memory(cache)), s.Inverse)
	})
}

// memory returns the layer's part of the cache, which holds states as keys and an
// LSTM's memory as values.
func (l *rnnLayer) memory(cache *Cache) *nn.Memory {
	if cache == nil {
		return nil
	}
	return &nn.Memory{H: cache.keys[l.index], C: cache.values[l.index]}
}

// Hidden returns the last layer's states [n, hidden] after each token. A cache, made
// by NewCache for as many layers, carries the states on.
func (m *RNN) Hidden(tp *grad.Tape, tokens []int32, seqs grad.Sequences, cache *Cache) *grad.Value {
	if m.encoder == nil {
		panic("model: an RNN without encoder takes rows of numbers: use States")
	}
	return m.States(tp, m.encoder.Apply(tp, tokens), seqs, cache)
}

// States returns the last layer's states [n, hidden] after each row of x [n, width].
func (m *RNN) States(tp *grad.Tape, x *grad.Value, seqs grad.Sequences, cache *Cache) *grad.Value {
	s := nn.NewSteps(seqs.Lengths)
	return tp.Scope(func() *grad.Value {
		x := tp.GatherRows(x, s.Order)
		for _, l := range m.layers {
			apply := func(tp *grad.Tape, x *grad.Value) *grad.Value {
				return l.Recurrent.Apply(tp, x, s, l.memory(cache))
			}
			if m.checkpointing && cache == nil {
				x = tp.Checkpoint(x, apply)
			} else {
				x = apply(tp, x)
			}
		}
		return tp.GatherRows(x, s.Inverse)
	})
}

// Logits returns the decoder's scores [n, out] of states.
func (m *RNN) Logits(tp *grad.Tape, x *grad.Value) *grad.Value { return m.decoder.Apply(tp, x) }

// Last returns the states after each sequence's last row [sequences, hidden].
func (m *RNN) Last(tp *grad.Tape, states *grad.Value, seqs grad.Sequences) *grad.Value {
	var last []int
	row := -1
	for _, n := range seqs.Lengths {
		row += n
		last = append(last, row)
	}
	return tp.GatherRows(states, last)
}

// Rows classifies rows of numbers that are sequences of the RNN's input rows laid end
// to end, such as an image read row by row.
type Rows struct{ *RNN }

// Logits returns the scores [n, out] of x [n, steps·width].
func (m Rows) Logits(tp *grad.Tape, x *grad.Value) *grad.Value {
	width := m.Options.Width
	seqs := grad.Sequences{Lengths: make([]int, x.Rows)}
	for i := range seqs.Lengths {
		seqs.Lengths[i] = x.Cols / width
	}
	in := x
	if x.Needs() {
		in = tp.Reshape(x, x.Rows*x.Cols/width, width)
	} else {
		in = tp.Const(x.Data, x.Rows*x.Cols/width, width)
	}
	return m.RNN.Logits(tp, m.Last(tp, m.States(tp, in, seqs, nil), seqs))
}
