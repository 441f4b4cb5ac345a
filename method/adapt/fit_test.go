package adapt

import (
	"math"
	"testing"

	"tare/engine/nn"
	"tare/engine/tensor"
)

// Of W + Σ σ_k u_k v_kᵀ a pair of rank r leaves Σ_{k>r} σ_k², whatever its scale, and a
// residual over a transform leaves no more than that of the turned weight.
func TestFitLeavesTheTail(t *testing.T) {
	const out, in = 12, 16
	sigma := []float64{6, 4, 2, 1}
	change := known(out, in, sigma)
	base, target := tensor.New(out, in), tensor.New(out, in)
	for i := range base.F32() {
		base.F32()[i] = float32(math.Sin(float64(3*i*i + i)))
		target.F32()[i] = base.F32()[i] + change.F32()[i]
	}
	left := func(o Options) (sum float64) {
		l := &nn.Linear{Name: "w", Weight: nn.NewDense("w.weight", base.Clone())}
		hold, err := o.Attach(l, 1)
		if err != nil {
			t.Fatal(err)
		}
		if err := hold.(Fitter).Fit(target); err != nil {
			t.Fatal(err)
		}
		merged, err := nn.Materialize(l.Weight)
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range merged.F32() {
			sum += math.Pow(float64(v)-float64(target.F32()[i]), 2)
		}
		return sum
	}
	for _, o := range []Options{&LoRA{Rank: 2, Alpha: 2}, &LoRA{Rank: 2, Alpha: 7}, &Transformed{Transform: ringed, Residual: lowRank, Rank: 2, Alpha: 3, Modes: 2, Bond: 2}} {
		if got := left(o); math.Abs(got-5) > 1e-3 {
			t.Errorf("%T leaves %g, want 2² + 1²", o, got)
		}
	}
	if got := left(&Transformed{Transform: ringed, Residual: absent, Modes: 2, Bond: 2}); math.Abs(got-57) > 1e-2 {
		t.Errorf("no residual leaves %g, want all of it", got)
	}
	if got := left(&DoRA{Rank: 4, Alpha: 4}); got > 1e-6 {
		t.Errorf("DoRA of the whole rank leaves %g, want nothing", got)
	}
}
