// Package nn holds layers: the Weight seam that every adaptation, quantization
// and pruning method plugs into, and the small layers that models are made of.
// Architectures are in model; methods that provide Weights are under method/.
package nn

import (
	"fmt"

	"tare/engine/grad"
	"tare/engine/tensor"
	"tare/engine/tensor/kernel"
)

// Weight is how a linear layer's matrix W [out, in] is held. Dense, packed,
// low-rank, adapted: a model never knows which, and one may wrap another.
type Weight interface {
	// Dims returns W's shape.
	Dims() (out, in int)
	// Apply returns x Wᵀ for x [n, in]. It keeps only what its trained part needs.
	Apply(tp *grad.Tape, x *grad.Value) *grad.Value
	// Dense writes W as f32 into dst [out, in], with everything that wraps it.
	Dense(dst *tensor.Tensor) error
	// Params returns every parameter inside, trained or not, the innermost first.
	Params() []*grad.Param
}

// ColumnSplitter is a Weight that can hand some of its columns over to be held
// elsewhere.
type ColumnSplitter interface {
	// SplitColumns returns the weight with the columns in index set to exactly
	// zero, and their values [out, len(index)] in f32. index is in rising order.
	SplitColumns(index []int) (rest Weight, columns *tensor.Tensor, err error)
}

// Linear is a linear layer y = x Wᵀ + b. Name is the layer's name in the
// checkpoint without ".weight"; methods find layers by it and replace Weight.
type Linear struct {
	Name   string
	Weight Weight
	Bias   *grad.Param // nil for none
	// Window is a convolution's, whose patches the columns run over: see Conv2d. That of
	// other layers is zero.
	Window grad.Window
}

// Apply returns the layer's output for x [n, in].
func (l *Linear) Apply(tp *grad.Tape, x *grad.Value) *grad.Value {
	y := l.Weight.Apply(tp, x)
	if l.Bias != nil {
		y = tp.AddBias(y, l.Bias)
	}
	return y
}

// Params returns the parameters of the weight and the bias.
func (l *Linear) Params() []*grad.Param {
	ps := l.Weight.Params()
	if l.Bias != nil {
		ps = append(ps, l.Bias)
	}
	return ps
}

// Materialize returns w's matrix as a fresh f32 tensor.
func Materialize(w Weight) (*tensor.Tensor, error) {
	out, in := w.Dims()
	t := tensor.New(out, in)
	return t, w.Dense(t)
}

// Dense is a Weight held as one matrix in any floating-point storage. What part
// of it trains is the parameter's own affair.
type Dense struct{ P *grad.Param }

// NewDense returns a frozen dense weight over value [out, in].
func NewDense(name string, value *tensor.Tensor) Dense { return Dense{grad.NewParam(name, value)} }

// Dims implements Weight.
func (d Dense) Dims() (out, in int) { return d.P.Value.Dim(0), d.P.Value.Dim(1) }

// Apply implements Weight.
func (d Dense) Apply(tp *grad.Tape, x *grad.Value) *grad.Value { return tp.Linear(x, d.P) }

// Dense implements Weight.
func (d Dense) Dense(dst *tensor.Tensor) error {
	if dst.Len() != d.P.Value.Len() {
		return fmt.Errorf("nn: %s: %v into %v", d.P.Name, d.P.Value.Shape(), dst.Shape())
	}
	return d.P.Value.ReadF32(dst.F32(), 0)
}

// Params implements Weight.
func (d Dense) Params() []*grad.Param { return []*grad.Param{d.P} }

// Packed4 is a frozen Weight in packed 4-bit groups. Products read the codes
// directly; no dense copy exists.
type Packed4 struct {
	Name string
	Q    *kernel.Q4
}

// Dims implements Weight.
func (p *Packed4) Dims() (out, in int) { return p.Q.Rows, p.Q.Cols }

// Apply implements Weight.
func (p *Packed4) Apply(tp *grad.Tape, x *grad.Value) *grad.Value {
	return tp.LinearFixed(x, kernel.Operand{Q4: p.Q, Trans: true}, p.Q.Rows, p.Q.Cols)
}

// Dense implements Weight.
func (p *Packed4) Dense(dst *tensor.Tensor) error {
	if dst.Dim(0) != p.Q.Rows || dst.Dim(1) != p.Q.Cols {
		return fmt.Errorf("nn: %s: [%d, %d] into %v", p.Name, p.Q.Rows, p.Q.Cols, dst.Shape())
	}
	data := dst.F32()
	for r := range p.Q.Rows {
		p.Q.Row(data[r*p.Q.Cols:(r+1)*p.Q.Cols], r)
	}
	return nil
}

// Params implements Weight: packed codes are not parameters.
func (p *Packed4) Params() []*grad.Param { return nil }

// Bytes returns the bytes that codes, scales and zero points take.
func (p *Packed4) Bytes() int64 {
	return int64(len(p.Q.Codes) + 2*len(p.Q.Scales) + len(p.Q.Zeros))
}

// SplitColumns implements ColumnSplitter: a column whose codes equal the zero
// points is exactly zero.
func (p *Packed4) SplitColumns(index []int) (Weight, *tensor.Tensor, error) {
	for _, c := range index {
		if c < 0 || c >= p.Q.Cols {
			return nil, nil, fmt.Errorf("nn: %s: column %d of %d", p.Name, c, p.Q.Cols)
		}
	}
	q := *p.Q
	q.Codes = append([]byte(nil), p.Q.Codes...)
	columns := tensor.New(q.Rows, len(index))
	row := make([]float32, q.Cols)
	stride, groups := q.Stride(), q.Groups()
	for r := range q.Rows {
		p.Q.Row(row, r)
		for i, c := range index {
			columns.F32()[r*len(index)+i] = row[c]
			at, zero := &q.Codes[r*stride+c/32*16+c%16], q.Zeros[r*groups+c/q.Group]
			if c%32 < 16 {
				*at = *at&0xf0 | zero
			} else {
				*at = *at&0x0f | zero<<4
			}
		}
	}
	return &Packed4{Name: p.Name, Q: &q}, columns, nil
}
