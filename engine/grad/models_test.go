package grad_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"tare/engine/grad"
	"tare/engine/tensor"
)

// network is a small model over fixed data.
type network struct {
	params []*grad.Param
	seqs   grad.Sequences // its samples
	loss   func(tp *grad.Tape) *grad.Value
	alone  func(s int) // leaves only sample s in the loss
	r      *rand.Rand
}

// add returns a new parameter of which part trains.
func (n *network) add(t *testing.T, part grad.Part, scale, shift float64, shape ...int) *grad.Param {
	t.Helper()
	size := 1
	for _, d := range shape {
		size *= d
	}
	data := normal(n.r, size, scale)
	for i := range data {
		data[i] += float32(shift)
	}
	p := newParam(t, fmt.Sprintf("p%d", len(n.params)), data, tensor.F32, shape...)
	p.Part = part
	n.params = append(n.params, p)
	return p
}

func (n *network) labels(count, classes int) []int32 {
	v := make([]int32, count)
	for i := range v {
		v[i] = int32(n.r.IntN(classes))
	}
	return v
}

type llamaSize struct {
	vocab, d, ff, q, kv, layers int
	lengths                     []int
	plain                       bool // every parameter trains whole, nothing is dropped
}

// llama is a decoder with grouped queries, rotary positions, tied embeddings,
// checkpointed blocks, dropout and a chunked loss; of some of its parameters a part
// trains.
func llama(t *testing.T, s llamaSize) *network {
	t.Helper()
	n := &network{r: newRand(fmt.Sprint(s)), seqs: grad.Sequences{Lengths: s.lengths}}
	part := func(p grad.Part) grad.Part {
		if s.plain {
			return grad.Whole
		}
		return p
	}
	hd := s.d / s.q
	scale := 1 / math.Sqrt(float64(s.d))
	embed := n.add(t, grad.Whole, 1, 0, s.vocab, s.d)
	rot := &grad.Rotary{Dim: hd}
	for pos := range 1024 {
		for i := range hd / 2 {
			sin, cos := math.Sincos(float64(pos) * math.Pow(100, -2*float64(i)/float64(hd)))
			rot.Cos, rot.Sin = append(rot.Cos, float32(cos)), append(rot.Sin, float32(sin))
		}
	}
	type block struct{ norm1, q, k, v, o, bias, norm2, gate, up, down *grad.Param }
	var blocks []block
	for range s.layers {
		blocks = append(blocks, block{
			n.add(t, grad.Whole, 0.1, 1, s.d),
			n.add(t, grad.Whole, scale, 0, s.d, s.d),
			n.add(t, part(grad.RowsOf([]int{0, 3})), scale, 0, s.kv*hd, s.d),
			n.add(t, part(grad.ColumnsOf([]int{1, 4, 5})), scale, 0, s.kv*hd, s.d),
			n.add(t, grad.Whole, scale, 0, s.d, s.d),
			n.add(t, part(grad.EntriesOf([]int{2, 5})), 0.1, 0, s.d),
			n.add(t, part(grad.EntriesOf([]int{0, 6})), 0.1, 1, s.d),
			n.add(t, part(grad.EntriesOf([]int{3, 17, 40})), scale, 0, s.ff, s.d),
			n.add(t, part(grad.Part{}), scale, 0, s.ff, s.d),
			n.add(t, grad.Whole, scale, 0, s.d, s.ff),
		})
	}
	final := n.add(t, grad.Whole, 0.1, 1, s.d)
	rows := n.seqs.Rows()
	ids, targets := n.labels(rows, s.vocab), n.labels(rows, s.vocab)
	targets[1] = -1
	heads := grad.Heads{Q: s.q, KV: s.kv, Scale: float32(1 / math.Sqrt(float64(hd)))}
	n.loss = func(tp *grad.Tape) *grad.Value {
		tp.Seed(11)
		x := tp.Embed(ids, embed)
		for i, b := range blocks {
			apply := func(tp *grad.Tape, x *grad.Value) *grad.Value {
				x = tp.Scope(func() *grad.Value {
					y := tp.RMSNorm(x, b.norm1, normEps)
					q := tp.RoPE(tp.Linear(y, b.q), s.q, rot, n.seqs)
					k := tp.RoPE(tp.Linear(y, b.k), s.kv, rot, n.seqs)
					a := tp.Attention(q, k, tp.Linear(y, b.v), heads, n.seqs)
					return tp.AddTo(x, tp.AddBias(tp.Linear(a, b.o), b.bias))
				})
				return tp.Scope(func() *grad.Value {
					y := tp.RMSNorm(x, b.norm2, normEps)
					y = tp.Linear(tp.SiLUMul(tp.Linear(y, b.gate), tp.Linear(y, b.up)), b.down)
					if !s.plain {
						y = tp.Dropout(y, 0.3)
					}
					return tp.AddTo(x, y)
				})
			}
			if i%2 == 0 {
				x = tp.Checkpoint(x, apply)
			} else {
				x = apply(tp, x)
			}
		}
		x = tp.RMSNorm(x, final, normEps)
		return tp.ChunkedCrossEntropy(x, targets, float64(rows), s.vocab, 1, func(tp *grad.Tape, x *grad.Value) *grad.Value { return tp.Linear(x, embed) })
	}
	return n
}

// convnet has a batch norm and a group norm, a grouped and a depthwise convolution, both
// kinds of pool and two linear layers; images with their channels as columns.
func convnet(t *testing.T, images, side, width int, norms bool) *network {
	t.Helper()
	n := &network{r: newRand(fmt.Sprint("convnet", images, side, width))}
	g := grad.Grid{Images: images, Height: side, Width: side}
	for range images {
		n.seqs.Lengths = append(n.seqs.Lengths, 1)
	}
	const classes = 5
	k1 := n.add(t, grad.Whole, 0.3, 0, width, 9*2)
	b1 := n.add(t, grad.Whole, 0.1, 0, width)
	w1, c1 := n.add(t, grad.Whole, 0.1, 1, width), n.add(t, grad.Whole, 0.1, 0, width)
	k2 := n.add(t, grad.Whole, 0.3, 0, width, 9*width/2)
	k3 := n.add(t, grad.Whole, 0.3, 0, width, 9)
	w2, c2 := n.add(t, grad.ColumnsOf([]int{0, 2}), 0.1, 1, width), n.add(t, grad.Whole, 0.1, 0, width)
	k4 := n.add(t, grad.Whole, 0.3, 0, width, 4*width)
	fc := n.add(t, grad.Whole, 0.3, 0, 2*width, width)
	head := n.add(t, grad.Whole, 0.3, 0, classes, 2*width)
	if !norms { // what is seen of a sample alone
		for _, p := range []*grad.Param{w1, c1, k2, k3, w2, c2} {
			p.Part = grad.Part{}
		}
	}
	run := grad.Running{Mean: make([]float32, width), Var: make([]float32, width), Momentum: 0.1}
	pixels := normal(n.r, g.Rows()*2, 1)
	all := n.labels(images, classes)
	targets := slices.Clone(all)
	n.alone = func(s int) {
		for i := range targets {
			targets[i] = -1
		}
		targets[s] = all[s]
	}
	n.loss = func(tp *grad.Tape) *grad.Value {
		x := tp.AddBias(tp.Conv2d(tp.Const(pixels, g.Rows(), 2), k1, g, grad.Square(3, 1, 1)), b1)
		if norms {
			x = tp.GELU(tp.BatchNorm(x, w1, c1, run, normEps, true))
			grouped := grad.Square(3, 1, 1)
			grouped.Groups = 2
			x = tp.Conv2d(x, k2, g, grouped)
			grouped.Groups = width
			x = tp.SiLU(tp.GroupNorm(tp.Conv2d(x, k3, g, grouped), w2, c2, g, width/2, normEps))
		}
		pool := grad.Square(2, 2, 0)
		x = tp.MaxPool(x, g, pool)
		at := pool.Out(g)
		down := grad.Square(2, 2, 0)
		x = tp.GELUTanh(tp.Conv2d(x, k4, at, down))
		x = tp.GlobalAvgPool(x, down.Out(at))
		return tp.CrossEntropy(tp.Linear(tp.Tanh(tp.Linear(x, fc)), head), targets, float64(images))
	}
	return n
}

// recurrent is one LSTM step and one GRU step over a batch.
func recurrent(t *testing.T, rows, h int) *network {
	t.Helper()
	n := &network{r: newRand(fmt.Sprint("recurrent", rows, h))}
	w1, w2 := n.add(t, grad.Whole, 0.4, 0, 4*h, h), n.add(t, grad.Whole, 0.4, 0, 3*h, h)
	w3, head := n.add(t, grad.Whole, 0.4, 0, 3*h, h), n.add(t, grad.Whole, 0.4, 0, 7, h)
	w, b := n.add(t, grad.Whole, 0.1, 1, h), n.add(t, grad.Whole, 0.1, 0, h)
	x0, c0 := normal(n.r, rows*h, 1), normal(n.r, rows*h, 1)
	targets := n.labels(rows, 7)
	n.loss = func(tp *grad.Tape) *grad.Value {
		x := tp.Const(x0, rows, h)
		a := tp.LSTMGates(tp.Linear(x, w1))
		c := tp.LSTMCell(a, tp.Const(c0, rows, h))
		y := tp.LSTMOut(a, c)
		y = tp.LayerNorm(tp.GRUCell(tp.Linear(y, w2), tp.Linear(c, w3), y), w, b, normEps)
		return tp.CrossEntropy(tp.Linear(y, head), targets, float64(rows))
	}
	return n
}

// tiny are the networks that second derivatives are checked on.
func tiny(t *testing.T) map[string]*network {
	return map[string]*network{
		"llama":     llama(t, llamaSize{vocab: 19, d: 8, ff: 12, q: 4, kv: 2, layers: 2, lengths: []int{7, 1, 12}}),
		"convnet":   convnet(t, 3, 8, 4, true),
		"recurrent": recurrent(t, 5, 6),
	}
}

// gradient is a vector over all trained parameters.
type gradient map[*grad.Param][]float32

func (n *network) gradient(t *testing.T, tp *grad.Tape) (float64, gradient) {
	t.Helper()
	g := gradient{}
	loss := n.loss(tp)
	value := float64(loss.Data[0])
	if err := tp.Backward(loss, g.take); err != nil {
		t.Fatal(err)
	}
	return value, g
}

func (g gradient) take(p *grad.Param, d *tensor.Tensor) error {
	g[p] = append([]float32(nil), d.F32()...)
	return nil
}

func (g gradient) direction() grad.Direction {
	v := grad.Direction{}
	for p, d := range g {
		v[p] = tensor.FromF32(d, p.PartShape()...)
	}
	return v
}

func (n *network) random(r *rand.Rand) gradient {
	g := gradient{}
	for _, p := range n.params {
		if p.Trains() {
			g[p] = normal(r, p.PartLen(), 1)
		}
	}
	return g
}

func dot(a, b gradient) (s float64) {
	for p, x := range a {
		for i, v := range x {
			s += float64(v) * float64(b[p][i])
		}
	}
	return s
}

// shift moves the parameters to at + h·v.
func shift(at, v gradient, h float64) {
	for p, x := range at {
		moved := make([]float32, len(x))
		for i := range x {
			moved[i] = float32(float64(x[i]) + h*float64(v[p][i]))
		}
		p.Scatter(moved)
	}
}

func (n *network) values() gradient {
	g := gradient{}
	for _, p := range n.params {
		if p.Trains() {
			g[p] = make([]float32, p.PartLen())
			p.Gather(g[p])
		}
	}
	return g
}
