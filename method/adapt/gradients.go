package adapt

import (
	"context"
	"fmt"

	"tare/engine/grad"
	"tare/engine/nn"
	"tare/engine/tensor"
	"tare/engine/train"
)

// probing is a look at the gradients of the weights under an adapter, through probes
// beside them, so that they may be packed.
type probing struct {
	params []*grad.Param       // D of each layer; all are the same zeros
	layer  map[*grad.Param]int // the reverse
	tape   *grad.Tape
	denom  float64 // terms of the loss in all batches
}

// weightGradients hands the gradient of the mean loss over the batches by each layer's
// weight to take, which may change it. They come one at a time: of a single batch the
// backward pass hands over one after another; several are passed through the model once
// for each layer, and its gradients summed.
func weightGradients(ctx context.Context, a *Adapter, batches []train.Batch, ledger *grad.Ledger, take func(i int, g *tensor.Tensor) error) error {
	p := &probing{layer: map[*grad.Param]int{}, tape: grad.NewTape(ledger)}
	largest, terms := 0, 0
	for _, l := range a.Layers {
		out, in := l.Weight.Dims()
		largest = max(largest, out*in)
	}
	zeros := make([]float32, largest)
	ledger.Add(grad.Scratch, 4*int64(largest))
	defer ledger.Add(grad.Scratch, -4*int64(largest))
	for i, l := range a.Layers {
		out, in := l.Weight.Dims()
		d := grad.NewParam(l.Name+".probe", tensor.FromF32(zeros[:out*in], out, in))
		p.params, p.layer[d] = append(p.params, d), i
		defer func(w nn.Weight) { l.Weight = w }(l.Weight)
		l.Weight = probe{a.bases[i], d}
	}
	for _, b := range batches {
		terms += b.Count()
	}
	p.denom = float64(max(1, terms))
	heard := make([]bool, len(a.Layers))
	hear := func(i int, g *tensor.Tensor) error {
		heard[i] = true
		return take(i, g)
	}
	var err error
	if len(batches) == 1 {
		err = p.pass(ctx, batches[0], p.params, hear)
	} else {
		err = p.layerByLayer(ctx, batches, ledger, hear)
	}
	for i, l := range a.Layers {
		if err == nil && !heard[i] {
			err = fmt.Errorf("layer %s was given no input by the training data; leave it out of the targets", l.Name)
		}
	}
	return err
}

// pass runs one batch forward and backward with the given probes.
func (p *probing) pass(ctx context.Context, b train.Batch, on []*grad.Param, take func(i int, g *tensor.Tensor) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	for _, d := range on {
		d.Part = grad.Whole
		defer func() { d.Part = grad.Part{} }()
	}
	return p.tape.Backward(b.Loss(p.tape, p.denom), func(d *grad.Param, g *tensor.Tensor) error {
		if i, ok := p.layer[d]; ok {
			return take(i, g)
		}
		return nil
	})
}

// layerByLayer sums one layer's gradients over the batches, then the next one's.
func (p *probing) layerByLayer(ctx context.Context, batches []train.Batch, ledger *grad.Ledger, take func(i int, g *tensor.Tensor) error) error {
	for i, d := range p.params {
		sum, heard := tensor.New(d.Value.Shape()...), false
		bytes := 4 * int64(sum.Len())
		ledger.Add(grad.Gradients, bytes)
		for _, b := range batches {
			if err := p.pass(ctx, b, p.params[i:i+1], func(_ int, g *tensor.Tensor) error {
				for at, x := range g.F32() {
					sum.F32()[at] += x
				}
				heard = true
				return nil
			}); err != nil {
				return err
			}
		}
		if heard {
			if err := take(i, sum); err != nil {
				return err
			}
		}
		ledger.Add(grad.Gradients, -bytes)
	}
	return nil
}
