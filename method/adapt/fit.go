package adapt

import (
	"math"

	"tare/engine/nn"
	"tare/engine/tensor"
)

// Fitter is an Attached with a closed form for part of what it trains: Fit sets that
// part so that the merged matrix comes nearest to target, or near it, with all else
// left as it is.
type Fitter interface {
	Fit(target *tensor.Tensor) error
}

// Fit takes the best low-rank part of what the base leaves of target (Eckart and Young):
// with target − W = U S Vᵀ, A = √(S_r/s) V_rᵀ and B = U_r √(S_r/s).
func (w *loraWeight) Fit(target *tensor.Tensor) error {
	left, err := nn.Materialize(w.base)
	if err != nil {
		return err
	}
	for i, v := range target.F32() {
		left.F32()[i] = v - left.F32()[i]
	}
	r, in := w.a.Value.Dim(0), w.a.Value.Dim(1)
	u, sigma, v, err := principal(left, r, 0)
	if err != nil {
		return err
	}
	for k, s := range sigma {
		root := math.Sqrt(s / float64(w.scale))
		for i := range in {
			w.a.Value.F32()[k*in+i] = float32(root * v.At(i, k))
		}
		for p := range target.Dim(0) {
			w.b.Value.F32()[p*r+k] = float32(root * u.At(p, k))
		}
	}
	return nil
}

// Fit takes LoRA's best pair and the lengths of target's rows: not the nearest there is,
// but the directions change little by the lengths.
func (w *doraWeight) Fit(target *tensor.Tensor) error {
	if err := w.loraWeight.Fit(target); err != nil {
		return err
	}
	for p, q := range rowSquares(target) {
		w.m.Value.F32()[p] = float32(math.Sqrt(q))
	}
	return nil
}

// Fit sets the residual to the best one for the transform, if it is a low-rank one.
func (t transformed) Fit(target *tensor.Tensor) error {
	if f, ok := t[len(t)-1].(Fitter); ok {
		return f.Fit(target)
	}
	return nil
}
