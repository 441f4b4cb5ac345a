package adapt

import (
	"testing"

	"tare/engine/grad"
	"tare/engine/nn"
	"tare/engine/tensor"
)

// With r = in the fold is the identity, so that ΔW = Dᵀ: any change of W.
func TestBoneOfFullRankIsAnyChange(t *testing.T) {
	const n, in, out = 3, 4, 5
	l := &nn.Linear{Name: "w", Weight: nn.NewDense("w.weight", tensor.New(out, in))}
	a, err := (&Bone{Rank: in}).Attach(l, 1)
	if err != nil {
		t.Fatal(err)
	}
	d := a.Params()[len(a.Params())-1].Value // D [in, out]
	x := make([]float32, n*in)
	for i := range x {
		x[i] = float32(i*i%7) - 3
	}
	for i := range d.F32() {
		d.F32()[i] = float32(i*i%11) - 5
	}
	tp := grad.NewTape(nil)
	tp.NoGrad(func() {
		y := l.Apply(tp, tp.Const(x, n, in))
		for row := range n {
			for p := range out {
				var want float32
				for j := range in {
					want += d.F32()[j*out+p] * x[row*in+j]
				}
				if got := y.Data[row*out+p]; got != want {
					t.Errorf("y[%d, %d] = %g, want %g", row, p, got, want)
				}
			}
		}
	})
	w, err := nn.Materialize(l.Weight)
	if err != nil {
		t.Fatal(err)
	}
	for p := range out {
		for j := range in {
			if got, want := w.F32()[p*in+j], d.F32()[j*out+p]; got != want {
				t.Errorf("ΔW[%d, %d] = %g, want D[%d, %d] = %g", p, j, got, j, p, want)
			}
		}
	}
}
