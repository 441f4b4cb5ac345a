package nn

import (
	"fmt"
	"slices"

	"tare/engine/grad"
)

// Cell says how a recurrent layer goes from one state to the next.
type Cell uint8

// The cells, as PyTorch defines them.
const (
	Tanh Cell = iota // h' = tanh(W x + b + V h + c)   (Elman 1990)
	ReLU             // the same with max(0, ·)
	LSTM             // Hochreiter and Schmidhuber 1997; gates i, f, g, o
	GRU              // Cho et al. 2014; gates r, z, n
)

var cellNames = [...]string{"rnn_tanh", "rnn_relu", "lstm", "gru"}

// String returns the name that configurations use.
func (c Cell) String() string {
	if int(c) < len(cellNames) {
		return cellNames[c]
	}
	return fmt.Sprintf("Cell(%d)", uint8(c))
}

// ParseCell returns the cell of that name.
func ParseCell(name string) (Cell, error) {
	if i := slices.Index(cellNames[:], name); i >= 0 {
		return Cell(i), nil
	}
	return 0, fmt.Errorf("nn: cell %q is not known (known: %v)", name, cellNames)
}

// Gates returns the rows of a cell's matrices over the size of its state.
func (c Cell) Gates() int { return [...]int{1, 1, 4, 3}[c] }

// Steps lays sequences out by time: all first rows, then all second rows, and so on,
// longer sequences first, so that those still running are the first rows of a step.
type Steps struct {
	Order   []int // row of the sequences at each place of the layout
	Inverse []int // place of each row
	Counts  []int // sequences still running at each time
	Seqs    []int // which sequence is at each place of a step
}

// NewSteps lays out sequences of those lengths, which stand one below another.
func NewSteps(lengths []int) *Steps {
	s := &Steps{}
	starts, rows := make([]int, len(lengths)), 0
	for i, n := range lengths {
		starts[i] = rows
		rows += n
		if n > 0 {
			s.Seqs = append(s.Seqs, i)
		}
	}
	slices.SortStableFunc(s.Seqs, func(a, b int) int { return lengths[b] - lengths[a] })
	s.Inverse = make([]int, rows)
	for t := 0; len(s.Order) < rows; t++ {
		running := 0
		for _, q := range s.Seqs {
			if lengths[q] <= t {
				break
			}
			s.Inverse[starts[q]+t] = len(s.Order)
			s.Order = append(s.Order, starts[q]+t)
			running++
		}
		s.Counts = append(s.Counts, running)
	}
	return s
}

// Memory is the state of sequences between calls: H[i] and, of an LSTM, C[i] [h], nil
// before the first call.
type Memory struct{ H, C [][]float32 }

// Recurrent is one layer of a recurrent network. Input is applied to all rows at
// once, State a step at a time.
type Recurrent struct {
	Cell  Cell
	Input *Linear // [gates·h, in], "weight_ih_l0" with "bias_ih_l0"
	State *Linear // [gates·h, h], "weight_hh_l0" with "bias_hh_l0"
}

// Linears returns the layer's two matrices.
func (r *Recurrent) Linears() []*Linear { return []*Linear{r.Input, r.State} }

// Apply returns the states [n, h] after each row of x [n, in], both laid out by s. The
// states begin at m's, or at zero, and m takes the last ones; m may be nil. What m
// holds is no part of the gradient.
func (r *Recurrent) Apply(tp *grad.Tape, x *grad.Value, s *Steps, m *Memory) *grad.Value {
	_, size := r.State.Weight.Dims()
	return tp.Scope(func() *grad.Value {
		in := r.Input.Apply(tp, x)
		h := tp.Const(m.begin(s, size, false), len(s.Seqs), size)
		c := tp.Const(m.begin(s, size, true), len(s.Seqs), size)
		states := make([]*grad.Value, len(s.Counts))
		at := 0
		for t, n := range s.Counts {
			if n < h.Rows {
				h, c = tp.Range(h, 0, n), tp.Range(c, 0, n)
			}
			g := tp.Range(in, at, at+n)
			h, c = r.step(tp, g, h, c)
			states[t] = h
			at += n
			m.take(s, t, h, c)
		}
		return tp.Stack(states...)
	})
}

// step returns the state and memory after the inputs' part x of one step.
func (r *Recurrent) step(tp *grad.Tape, x, h, c *grad.Value) (*grad.Value, *grad.Value) {
	s := r.State.Apply(tp, h)
	switch r.Cell {
	case LSTM:
		gates := tp.LSTMGates(tp.AddTo(x, s))
		c = tp.LSTMCell(gates, c)
		return tp.LSTMOut(gates, c), c
	case GRU:
		return tp.GRUCell(x, s, h), c
	case ReLU:
		return tp.ReLU(tp.AddTo(x, s)), c
	}
	return tp.Tanh(tp.AddTo(x, s)), c
}

// begin returns the states that the sequences of s start from [len(s.Seqs), size].
func (m *Memory) begin(s *Steps, size int, cells bool) []float32 {
	out := make([]float32, len(s.Seqs)*size)
	if m == nil {
		return out
	}
	from := m.H
	if cells {
		from = m.C
	}
	for i, q := range s.Seqs {
		copy(out[i*size:(i+1)*size], from[q])
	}
	return out
}

// take stores the states of the sequences that end at time t.
func (m *Memory) take(s *Steps, t int, h, c *grad.Value) {
	if m == nil {
		return
	}
	going := 0
	if t+1 < len(s.Counts) {
		going = s.Counts[t+1]
	}
	for i := going; i < s.Counts[t]; i++ {
		q := s.Seqs[i]
		m.H[q] = append(m.H[q][:0], h.Data[i*h.Cols:(i+1)*h.Cols]...)
		m.C[q] = append(m.C[q][:0], c.Data[i*c.Cols:(i+1)*c.Cols]...)
	}
}
