package model

import (
	"fmt"

	"tare/engine/grad"
	"tare/engine/nn"
	"tare/engine/tensor"
	"tare/engine/tensor/kernel"
)

// Entry is one tensor of a model as a checkpoint stores it.
type Entry struct {
	Name  string
	DType tensor.DType
	Shape []int
	// Read returns the tensor, converted; it may share the model's storage.
	Read func() (*tensor.Tensor, error)
}

// Export lists the tensors that a checkpoint of the model holds, in order, with
// floating types stored as dtype. Adapted weights are folded in; packed ones stay packed.
func (s *stack) Export(dtype tensor.DType) []Entry {
	var entries []Entry
	for _, p := range s.parts {
		if p.linear == nil {
			entries = append(entries, exportParam(p.param, dtype, p.shape))
			continue
		}
		entries = append(entries, exportWeight(p.linear, p.spec, dtype)...)
		if b := p.linear.Bias; b != nil {
			entries = append(entries, exportParam(b, dtype, b.Value.Shape()))
		}
	}
	return entries
}

func exportParam(p *grad.Param, dtype tensor.DType, shape []int) Entry {
	return Entry{p.Name, dtype, shape, func() (*tensor.Tensor, error) {
		t, err := p.Value.To(dtype)
		if err != nil {
			return nil, fmt.Errorf("model: %s: %w", p.Name, err)
		}
		return t.Reshape(shape...), nil
	}}
}

func exportWeight(l *nn.Linear, s LinearSpec, dtype tensor.DType) []Entry {
	if q, ok := l.Weight.(*nn.Packed4); ok {
		return packedEntries(l.Name, q.Q)
	}
	return []Entry{{l.Name + ".weight", dtype, s.Shape(), func() (*tensor.Tensor, error) {
		if d, ok := l.Weight.(nn.Dense); ok && !s.Transposed {
			return d.P.Value.To(dtype)
		}
		t, err := nn.Materialize(l.Weight)
		if err != nil {
			return nil, fmt.Errorf("model: %s: %w", l.Name, err)
		}
		if s.Transposed {
			t = transpose(t)
		}
		return t.To(dtype)
	}}}
}

func packedEntries(name string, q *kernel.Q4) []Entry {
	entry := func(suffix string, dtype tensor.DType, data []byte) Entry {
		shape := []int{q.Rows, len(data) / q.Rows / dtype.Size()}
		return Entry{name + suffix, dtype, shape, func() (*tensor.Tensor, error) { return tensor.FromBytes(dtype, data, shape...) }}
	}
	return []Entry{
		entry(codesName, tensor.U8, q.Codes),
		entry(scalesName, tensor.F16, tensor.BytesOfU16(q.Scales)),
		entry(zerosName, tensor.U8, q.Zeros),
	}
}
