package grad

import (
	"strings"
	"testing"

	"tare/engine/tensor"
)

// Unruled is an operation whose author forgot the tangent.
func (tp *Tape) Unruled(x *Value) *Value {
	z := tp.newValue(x.Rows, x.Cols)
	copy(z.Data, x.Data)
	if tp.needsAny(x) {
		tp.record(z, nil, func(dz []float32) { tp.contribute(x, 1, dz) })
	}
	return z
}

// An operation without a rule is an error that names it, not a tangent of zero.
func TestUnruledOperationIsNamed(t *testing.T) {
	w := NewParam("w", tensor.FromF32([]float32{1, 2}, 1, 2))
	w.Part = Whole
	f := func(tp *Tape) *Value {
		return tp.Sum(tp.Scope(func() *Value { return tp.Unruled(tp.Scale(tp.Use(w), 2)) }))
	}
	v := Direction{w: tensor.FromF32([]float32{1, 1}, 1, 2)}
	ledger := &Ledger{}
	tp := NewTape(ledger)
	if _, _, err := tp.JVP(f, v); err == nil || !strings.Contains(err.Error(), "Unruled") {
		t.Errorf("JVP: %v", err)
	}
	if _, _, err := tp.HVP(f, v, nil); err == nil || !strings.Contains(err.Error(), "Unruled") {
		t.Errorf("HVP: %v", err)
	}
	for k := range Kinds {
		if n := ledger.Now(k); n != 0 {
			t.Errorf("%d bytes of %s still held", n, k)
		}
	}
	if w.uses != 0 {
		t.Errorf("%d uses left", w.uses)
	}
}
