package adapt

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"

	"tare/engine/grad"
	"tare/engine/nn"
	"tare/engine/tensor"
	"tare/engine/train"
)

// score returns the channels' squared scores as far as they are known before training:
// by weight, or random.
func (o *S2FT) score(c *coupling, seed uint64) ([]float64, error) {
	if o.Choice == "weight" {
		return c.weights()
	}
	rng := rand.New(rand.NewPCG(seedFor(seed, c.columns.Name), 0))
	score := make([]float64, c.heads*c.width)
	for i := range score {
		score[i] = rng.Float64()
	}
	return score, nil
}

// weights returns the channels' ‖W[:, j]‖².
func (c *coupling) weights() ([]float64, error) {
	w, err := nn.Materialize(c.columns.Weight)
	if err != nil {
		return nil, fmt.Errorf("adapt: s2ft: layer %s: %w", c.columns.Name, err)
	}
	return columnSquares(make([]float64, w.Dim(1)), w.F32()), nil
}

// columnSquares adds the squares of each column of x [n, len(sums)] to sums.
func columnSquares(sums []float64, x []float32) []float64 {
	for len(x) > 0 {
		for j, v := range x[:len(sums)] {
			sums[j] += float64(v) * float64(v)
		}
		x = x[len(sums):]
	}
	return sums
}

// sort orders the heads: groups by their whole score, heads within their group by
// theirs, a head's score being the sum of its channels'.
func (c *coupling) sort(score []float64, small bool) {
	if small {
		for j := range score {
			score[j] = -score[j]
		}
	}
	each := c.heads / c.groups
	head, group := make([]float64, c.heads), make([]float64, c.groups)
	for j, v := range score {
		head[j/c.width] += v
		group[j/c.width/each] += v
	}
	c.order = make([]int, c.heads)
	for i := range c.order {
		c.order[i] = i
	}
	slices.SortStableFunc(c.order, func(a, b int) int {
		if a/each != b/each {
			return cmp.Or(cmp.Compare(group[b/each], group[a/each]), cmp.Compare(a, b))
		}
		return cmp.Compare(head[b], head[a])
	})
}

// groupOrder returns the groups in the order of their heads.
func (c *coupling) groupOrder() []int {
	each := c.heads / c.groups
	order := make([]int, c.groups)
	for g := range order {
		order[g] = c.order[g*each] / each
	}
	return order
}

// chosen returns the positions that train, in the order of the heads: columns of
// c.columns, or rows of a layer before.
func (c *coupling) chosen(rows bool) []int {
	if rows {
		return spread(c.groupOrder()[:c.shared(c.count)], c.width)
	}
	return spread(c.order[:c.count], c.width)
}

// spread returns the positions of units that are width wide.
func spread(units []int, width int) []int {
	index := make([]int, 0, len(units)*width)
	for _, u := range units {
		for i := range width {
			index = append(index, u*width+i)
		}
	}
	return index
}

// Prepare implements Preparer: where heads and channels are chosen by activations or
// gradients, it measures those and chooses again. Until then the choice is random.
func (o *S2FT) Prepare(ctx context.Context, a *Adapter, s Setup) error {
	if o.fromFile || o.Choice == "random" || o.Choice == "weight" {
		return nil
	}
	cs := a.couplings()
	batches, err := s.Batches(o.Batches)
	if err != nil {
		return err
	}
	var scores [][]float64
	if o.Choice == "gradient" {
		scores, err = gradients(ctx, cs, batches)
	} else {
		scores, err = activations(ctx, cs, batches)
	}
	if err != nil {
		return err
	}
	for i, c := range cs {
		if o.Choice == "product" { // ‖W[:, j]‖·‖x_j‖, squared
			w, err := c.weights()
			if err != nil {
				return err
			}
			for j := range w {
				scores[i][j] *= w[j]
			}
		}
		c.sort(scores[i], o.End == "small")
		for _, h := range c.holds {
			if err := h.train(c.chosen(h.rows)); err != nil {
				return err
			}
		}
	}
	return nil
}

// couplings returns those that an S²FT adapter trains in.
func (a *Adapter) couplings() []*coupling {
	var cs []*coupling
	for _, h := range a.Holds {
		if c := h.(*slice).c; !slices.Contains(cs, c) {
			cs = append(cs, c)
		}
	}
	return cs
}

// activations returns Σ x_j² over the batches for each coupling's channels.
func activations(ctx context.Context, cs []*coupling, batches []train.Batch) ([][]float64, error) {
	sums := make([][]float64, len(cs))
	for i, c := range cs {
		sums[i] = make([]float64, c.heads*c.width)
		c.columns.Weight = &recording{c.columns.Weight, sums[i]}
		defer func() { c.columns.Weight = c.columns.Weight.(*recording).Weight }()
	}
	tp := grad.NewTape(nil)
	for _, b := range batches {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		tp.NoGrad(func() { b.Loss(tp, 1) })
		tp.Reset()
	}
	return sums, nil
}

// recording is a Weight that adds the squares of its inputs to sums.
type recording struct {
	nn.Weight
	sums []float64
}

func (w *recording) Apply(tp *grad.Tape, x *grad.Value) *grad.Value {
	columnSquares(w.sums, x.Data)
	return w.Weight.Apply(tp, x)
}

// gradients returns Σ ‖dL/dW[:, j]‖² over the batches for each coupling's channels. One
// whole gradient exists at a time.
func gradients(ctx context.Context, cs []*coupling, batches []train.Batch) ([][]float64, error) {
	sums, of := make([][]float64, len(cs)), map[*grad.Param]int{}
	for i, c := range cs {
		d, err := denseOf(c.columns)
		if err != nil {
			return nil, fmt.Errorf("adapt: s2ft: choice by gradient: %w", err)
		}
		part := d.P.Part
		d.P.Part = grad.Whole
		defer func() { d.P.Part = part }()
		sums[i], of[d.P] = make([]float64, c.heads*c.width), i
	}
	tp := grad.NewTape(nil)
	for _, b := range batches {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		err := tp.Backward(b.Loss(tp, float64(max(1, b.Count()))), func(p *grad.Param, g *tensor.Tensor) error {
			if i, ok := of[p]; ok {
				columnSquares(sums[i], g.F32())
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return sums, nil
}

// denseOf returns a layer's weight as one that trains in place.
func denseOf(l *nn.Linear) (nn.Dense, error) {
	w := l.Weight
	if s, ok := w.(*sliceWeight); ok {
		w = s.Weight
	}
	d, ok := w.(nn.Dense)
	if !ok || d.P.Value.DType() != tensor.F32 || d.P.Value.ReadOnly() {
		return d, fmt.Errorf("layer %s is not held as f32 that can be written; load the base as f32", l.Name)
	}
	return d, nil
}
