package lab

import (
	"math"
	"testing"

	"tare/engine/tensor"
)

// Two parameters with gradients (3, 0) and (0, 4) have norm 5 together; norms of 5 and
// 15 have mean 10 and deviation √50.
func TestGradientSpread(t *testing.T) {
	h := &gradientNorms{}
	for _, scale := range []float32{1, 3} {
		for _, g := range [][]float32{{3 * scale, 0}, {0, 4 * scale}} {
			if err := h.Gradient(nil, nil, tensor.FromF32(g, 2)); err != nil {
				t.Fatal(err)
			}
		}
		if err := h.EndStep(nil); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := h.spread(), math.Sqrt(50)/10; math.Abs(got-want) > 1e-6 {
		t.Errorf("spread %g, want %g", got, want)
	}
	if got := (&gradientNorms{}).spread(); got != 0 {
		t.Errorf("spread %g of no steps", got)
	}
}
