package adapt

import (
	"context"
	"fmt"

	"tare/engine/grad"
	"tare/engine/nn"
	"tare/engine/tensor"
)

// Prepare implements Preparer: where columns are chosen by gradient, it measures those
// and chooses again. Until then the choice is random.
func (o *PaCA) Prepare(ctx context.Context, a *Adapter, s Setup) error {
	if o.Choice != "gradient" || o.stored != 0 { // a file says which columns
		return nil
	}
	sums, err := o.gradients(ctx, a, s)
	if err != nil {
		return fmt.Errorf("adapt: paca: choice by gradient: %w", err)
	}
	for i, h := range a.Holds {
		if err := h.(*paca).train(largest(sums[i], o.Rank)); err != nil {
			return err
		}
	}
	return nil
}

// gradients returns Σ ‖dL/dW[:, j]‖² over the batches for each layer's columns. The
// weights may be packed: what is differentiated is a matrix of zeros beside each of
// them, one for all layers of a shape. One whole gradient exists at a time.
func (o *PaCA) gradients(ctx context.Context, a *Adapter, s Setup) ([][]float64, error) {
	batches, err := s.Batches(o.Batches)
	if err != nil {
		return nil, err
	}
	sums, of, zeros := make([][]float64, len(a.Layers)), map[*grad.Param]int{}, map[[2]int]*tensor.Tensor{}
	for i, l := range a.Layers {
		hold, probed := a.Holds[i].(*paca), l.Weight
		part := hold.p.Part
		hold.p.Part = grad.Part{}
		defer func() { hold.p.Part, l.Weight = part, probed }()
		out, in := l.Weight.Dims()
		if zeros[[2]int{out, in}] == nil {
			zeros[[2]int{out, in}] = tensor.New(out, in)
		}
		p := grad.NewParam(l.Name, zeros[[2]int{out, in}])
		p.Part = grad.Whole
		sums[i], of[p], l.Weight = make([]float64, in), i, probe{hold.base, p}
	}
	tp := grad.NewTape(nil)
	for _, b := range batches {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := tp.Backward(b.Loss(tp, float64(max(1, b.Count()))), func(p *grad.Param, g *tensor.Tensor) error {
			columnSquares(sums[of[p]], g.F32())
			return nil
		}); err != nil {
			return nil, err
		}
	}
	return sums, nil
}

// probe is a frozen Weight whose gradient is that of the zeros beside it.
type probe struct {
	nn.Weight
	zero *grad.Param
}

// Apply implements nn.Weight.
func (w probe) Apply(tp *grad.Tape, x *grad.Value) *grad.Value {
	return tp.AddLinear(w.Weight.Apply(tp, x), x, w.zero, 1)
}

// Params implements nn.Weight.
func (w probe) Params() []*grad.Param { return append(w.Weight.Params(), w.zero) }
