package adapt

import (
	"errors"
	"fmt"
	"math"

	"tare/engine/grad"
	"tare/engine/nn"
	"tare/engine/tensor"
)

// DoRA trains the lengths of a weight's rows apart from their directions, which a
// low-rank product turns (Liu et al. 2024, "DoRA: Weight-Decomposed Low-Rank
// Adaptation", arXiv:2402.09353):
//
//	y = m/‖V‖ ⊙ V x,   V = W + s·B A,   m [out],  A [r, in],  B [out, r]
//
// ‖V‖ holds the lengths of V's rows; m starts at ‖W‖ and B at zero, so that training
// starts from the base. The backward pass takes ‖V‖ as a constant (section 4.3). V is
// never formed:
//
//	‖V_p‖² = ‖W_p‖² + 2s·B_p·(W Aᵀ + s/2·B A Aᵀ)_p
//
// with ‖W_p‖² computed once. Against LoRA a pass costs one more product of W with r
// rows, and V x [n, out] is kept for the gradient of m. Options are LoRA's. Trained
// entries: r·(in + out) + out a layer.
type DoRA LoRA

// NewDoRA returns the defaults: rank 8, alpha 16.
func NewDoRA() *DoRA { return (*DoRA)(NewLoRA()) }

// Validate implements Options.
func (o *DoRA) Validate() error { return (*LoRA)(o).validate("dora") }

// Attach implements Options.
func (o *DoRA) Attach(l *nn.Linear, seed uint64) (Attached, error) {
	pair, err := (*LoRA)(o).pair("dora", l, seed)
	if err != nil {
		return nil, err
	}
	base, err := nn.Materialize(l.Weight)
	if err != nil {
		return nil, fmt.Errorf("adapt: dora: layer %s: %w", l.Name, err)
	}
	w := &doraWeight{loraWeight: pair, squares: rowSquares(base)}
	m := tensor.New(len(w.squares))
	for p, q := range w.squares {
		m.F32()[p] = float32(math.Sqrt(q))
	}
	w.m = grad.NewParam(l.Name+".lora_magnitude_vector", m)
	w.m.Part = grad.Whole
	l.Weight = w
	return w, nil
}

// rowSquares returns ‖W_p‖² for every row of w [out, in].
func rowSquares(w *tensor.Tensor) []float64 {
	squares, in := make([]float64, w.Dim(0)), w.Dim(1)
	for p := range squares {
		for _, v := range w.F32()[p*in : (p+1)*in] {
			squares[p] += float64(v) * float64(v)
		}
	}
	return squares
}

// Config implements Options.
func (o *DoRA) Config() map[string]any {
	c := (*LoRA)(o).Config()
	c["use_dora"] = true
	return c
}

// SetConfig implements Options.
func (o *DoRA) SetConfig(c map[string]any) error {
	if !truth(c, "use_dora") {
		return errors.New("adapt: dora: use_dora is not set")
	}
	if err := basePlain("dora", c); err != nil {
		return err
	}
	return (*LoRA)(o).setConfig("dora", c)
}

// doraWeight is a Weight that scales the rows of W + s·B A to the lengths m.
type doraWeight struct {
	*loraWeight
	m       *grad.Param // [out]
	squares []float64   // ‖W_p‖²
}

func (w *doraWeight) Apply(tp *grad.Tape, x *grad.Value) *grad.Value {
	y := w.loraWeight.Apply(tp, x)                       // V x [n, out]
	return tp.Mul(y, tp.Mul(tp.Use(w.m), w.inverse(tp))) // m/‖V‖ ⊙ V x
}

// inverse returns 1/‖V_p‖ as a constant [1, out]; 0 for a row of zeros.
func (w *doraWeight) inverse(tp *grad.Tape) (inv *grad.Value) {
	a, b := w.a.Value, w.b.Value
	r, out := a.Dim(0), b.Dim(0)
	return tp.Scope(func() *grad.Value {
		tp.NoGrad(func() {
			av, bv := tp.Const(a.F32(), r, a.Dim(1)), tp.Const(b.F32(), out, r)
			wa := w.base.Apply(tp, av)                                                               // A Wᵀ [r, out]
			sum := tp.AddMatMul(wa, tp.MatMul(av, av, false, true), bv, false, true, w.scale/2).Data // + s/2·A Aᵀ Bᵀ
			inv, _ = tp.Fill(1, out, func(dst []float32) error {
				for p := range dst {
					var dot float64
					for k := range r {
						dot += float64(bv.Data[p*r+k]) * float64(sum[k*out+p])
					}
					dst[p] = 0
					if q := w.squares[p] + 2*float64(w.scale)*dot; q > 0 {
						dst[p] = float32(1 / math.Sqrt(q))
					}
				}
				return nil
			})
		})
		return inv
	})
}

func (w *doraWeight) Dense(dst *tensor.Tensor) error {
	if err := w.loraWeight.Dense(dst); err != nil {
		return err
	}
	for p, q := range rowSquares(dst) {
		if q > 0 {
			scaleRow(dst, p, float64(w.m.Value.F32()[p])/math.Sqrt(q))
		}
	}
	return nil
}

func scaleRow(t *tensor.Tensor, p int, by float64) {
	in := t.Dim(1)
	for i, v := range t.F32()[p*in : (p+1)*in] {
		t.F32()[p*in+i] = float32(by * float64(v))
	}
}

func (w *doraWeight) Params() []*grad.Param { return append(w.loraWeight.Params(), w.m) }

func (w *doraWeight) State() []Named {
	return append(w.loraWeight.State(), Named{"lora_magnitude_vector", w.m.Value})
}

func (w *doraWeight) Restore(state map[string]*tensor.Tensor) error {
	if err := w.loraWeight.Restore(state); err != nil {
		return err
	}
	return restore(w.m.Value, state, "lora_magnitude_vector")
}

// Unmerge divides by m/‖V‖ and takes s·B A away.
func (w *doraWeight) Unmerge(t *tensor.Tensor) error {
	tp := grad.NewTape(nil)
	defer tp.Reset()
	for p, inv := range w.inverse(tp).Data {
		m := w.m.Value.F32()[p]
		switch {
		case inv == 0: // a row of zeros was left as it is
		case m == 0:
			return fmt.Errorf("adapt: dora: %s[%d] is 0, so that the row of W cannot be told from the merged one", w.m.Name, p)
		default:
			scaleRow(t, p, 1/(float64(m)*float64(inv)))
		}
	}
	return w.loraWeight.Unmerge(t)
}
