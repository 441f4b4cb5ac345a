package model

import (
	"fmt"

	"tare/engine/grad"
	"tare/engine/nn"
	"tare/engine/tensor"
)

// Groups are the parts that can leave a block whole. A head has its rows of q and its
// columns of o; the query heads that share a key and a value leave with these together,
// so that what is left is grouped as before. A channel of the MLP has a row of each of
// Up and a column of Down. What a group adds to the block passes through its columns of
// O or Down and nowhere else: a model that multiplies these by zero equals the smaller
// one.
type Groups struct {
	Q, K, V, O *nn.Linear
	Up         []*nn.Linear // gate and up, or up alone
	Down       *nn.Linear
	Heads      int // of queries
	KVHeads    int // of keys and values: as many groups leave by themselves
	Channels   int
}

// HeadColumns returns how many columns of O belong to one group of heads.
func (g Groups) HeadColumns() int {
	_, in := g.O.Weight.Dims()
	return in / g.KVHeads
}

// HeadCost and ChannelCost return how many entries leave with one group of heads and
// with one channel, biases among them.
func (g Groups) HeadCost() int {
	q, d := g.Q.Weight.Dims()
	k, _ := g.K.Weight.Dims()
	n := 2*q/g.KVHeads*d + 2*k/g.KVHeads*d
	for _, l := range []*nn.Linear{g.Q, g.K, g.V} {
		n += biasLen(l) / g.KVHeads
	}
	return n
}

// ChannelCost is HeadCost of a channel.
func (g Groups) ChannelCost() int {
	out, _ := g.Down.Weight.Dims()
	n := (1 + len(g.Up)) * out
	for _, l := range g.Up {
		n += biasLen(l) / g.Channels
	}
	return n
}

func biasLen(l *nn.Linear) int {
	if l.Bias == nil {
		return 0
	}
	return l.Bias.Value.Len()
}

// Keep says what stays of a block: groups of heads, and channels.
type Keep struct{ Heads, Channels []bool }

// Shrinker is a network that heads and channels can be taken out of.
type Shrinker interface {
	Network
	// Groups returns what can leave each block.
	Groups() ([]Groups, error)
	// Shrink removes what keep does not name, in place.
	Shrink(keep []Keep) error
}

// grouped is a block whose heads and channels can leave.
type grouped interface {
	groups() Groups
	setHeads(q, kv int)
}

func (b *LlamaBlock) groups() Groups {
	out, _ := b.Up.Weight.Dims()
	return Groups{b.Q, b.K, b.V, b.O, []*nn.Linear{b.Gate, b.Up}, b.Down, b.heads.Q, b.heads.KV, out}
}

func (b *LlamaBlock) setHeads(q, kv int) { b.heads.Q, b.heads.KV = q, kv }

func (b *EncoderBlock) groups() Groups {
	out, _ := b.Up.Weight.Dims()
	return Groups{b.Q, b.K, b.V, b.O, []*nn.Linear{b.Up}, b.Down, b.heads.Q, b.heads.KV, out}
}

func (b *EncoderBlock) setHeads(q, kv int) { b.heads.Q, b.heads.KV = q, kv }

// Groups implements Shrinker.
func (s *stack) Groups() ([]Groups, error) {
	var all []Groups
	for _, b := range s.blocks {
		g, ok := b.(grouped)
		if !ok {
			return nil, fmt.Errorf("model: heads and channels cannot be taken out of a %s (they can of: %s)", s.Config.ModelType, typesWith(func(f family) bool { return f.uneven }))
		}
		all = append(all, g.groups())
	}
	return all, nil
}

// Shrink implements Shrinker. What stays is dense and f32, with whatever wraps it
// folded in; at least one group of heads and one channel of each block must stay. The
// model's configuration tells the new sizes. On an error the model is left as it was.
func (s *stack) Shrink(keep []Keep) error {
	all, err := s.Groups()
	if err != nil {
		return err
	}
	if len(keep) != len(all) {
		return fmt.Errorf("model: shrink: what stays is said of %d blocks of %d", len(keep), len(all))
	}
	var cuts []cut
	sizes := make([]LayerSize, len(all))
	for i, g := range all {
		of, err := g.cuts(keep[i])
		if err != nil {
			return fmt.Errorf("model: shrink: layer %d: %w", i, err)
		}
		cuts = append(cuts, of...)
		heads := count(keep[i].Heads)
		sizes[i] = LayerSize{heads * (g.Heads / g.KVHeads), heads, count(keep[i].Channels)}
	}
	slim := make([]*tensor.Tensor, len(cuts))
	for i, c := range cuts {
		if slim[i], err = c.matrix(); err != nil {
			return fmt.Errorf("model: shrink: %s: %w", c.layer.Name, err)
		}
	}
	for i, c := range cuts {
		c.layer.Weight = nn.NewDense(c.layer.Name+".weight", slim[i])
		if b := c.layer.Bias; b != nil && c.rows != nil {
			b.Value = rowsOf(b.Value.F32(), 1, c.rows)
			b.Part = grad.Part{}
		}
		s.respec(c.layer)
	}
	for i, b := range s.blocks {
		b.(grouped).setHeads(sizes[i].Heads, sizes[i].KVHeads)
		s.Config.drop(i, keep[i].Heads)
	}
	s.Config.setSizes(sizes)
	return nil
}

// cut is what stays of a layer: rows, or columns.
type cut struct {
	layer         *nn.Linear
	rows, columns []int // nil for all
}

// cuts returns what stays of a block's layers.
func (g Groups) cuts(k Keep) ([]cut, error) {
	if len(k.Heads) != g.KVHeads || len(k.Channels) != g.Channels {
		return nil, fmt.Errorf("%d groups of heads and %d channels are spoken of; there are %d and %d", len(k.Heads), len(k.Channels), g.KVHeads, g.Channels)
	}
	if count(k.Heads) == 0 || count(k.Channels) == 0 {
		return nil, fmt.Errorf("%d groups of heads and %d channels are to stay; want at least one of each", count(k.Heads), count(k.Channels))
	}
	_, in := g.O.Weight.Dims()
	kv, _ := g.K.Weight.Dims()
	queries, shared, channels := kept(k.Heads, in), kept(k.Heads, kv), kept(k.Channels, g.Channels)
	cuts := []cut{{g.Q, queries, nil}, {g.K, shared, nil}, {g.V, shared, nil}, {g.O, nil, queries}, {g.Down, nil, channels}}
	for _, l := range g.Up {
		cuts = append(cuts, cut{l, channels, nil})
	}
	return cuts, nil
}

// kept returns the positions of n that stay, where each mark stands for as many of them
// as the others.
func kept(marks []bool, n int) []int {
	width := n / len(marks)
	var at []int
	for g, stays := range marks {
		if stays {
			for j := range width {
				at = append(at, g*width+j)
			}
		}
	}
	return at
}

func count(marks []bool) (n int) {
	for _, m := range marks {
		if m {
			n++
		}
	}
	return n
}

// matrix returns what stays of the layer's matrix.
func (c cut) matrix() (*tensor.Tensor, error) {
	w, err := nn.Materialize(c.layer.Weight)
	if err != nil {
		return nil, err
	}
	if c.rows != nil {
		return rowsOf(w.F32(), w.Dim(1), c.rows), nil
	}
	out, in := w.Dim(0), w.Dim(1)
	slim := tensor.New(out, len(c.columns))
	for r := range out {
		row, dst := w.F32()[r*in:(r+1)*in], slim.F32()[r*len(c.columns):]
		for i, col := range c.columns {
			dst[i] = row[col]
		}
	}
	return slim, nil
}

// rowsOf returns the rows at those positions; a vector for rows of one number.
func rowsOf(data []float32, cols int, rows []int) *tensor.Tensor {
	shape := []int{len(rows), cols}
	if cols == 1 {
		shape = shape[:1]
	}
	t := tensor.New(shape...)
	for i, r := range rows {
		copy(t.F32()[i*cols:(i+1)*cols], data[r*cols:(r+1)*cols])
	}
	return t
}

// respec notes the shape that a layer now has in a checkpoint.
func (s *stack) respec(l *nn.Linear) {
	for i := range s.parts {
		if s.parts[i].linear == l {
			s.parts[i].spec.Out, s.parts[i].spec.In = l.Weight.Dims()
		}
	}
}

// drop notes which heads leave layer i of an encoder, under the numbers that they had
// at first.
func (c *Config) drop(i int, keep []bool) {
	if families[c.ModelType].llamaKeys {
		return
	}
	if c.pruned == nil {
		c.pruned = map[int][]int{}
	}
	gone := map[int]bool{}
	for _, h := range c.pruned[i] {
		gone[h] = true
	}
	var pruned []int
	at := 0
	for h := range c.Heads {
		if !gone[h] {
			gone[h] = !keep[at]
			at++
		}
		if gone[h] {
			pruned = append(pruned, h)
		}
	}
	if len(pruned) > 0 {
		c.pruned[i] = pruned
	}
}
