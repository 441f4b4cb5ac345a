package merge

import (
	"errors"
	"fmt"
	"math"

	"tare/engine/tensor"
	"tare/engine/tensor/kernel"
)

// ErrWeights marks model weights that cannot be normalised.
var ErrWeights = errors.New("weights sum to zero")

// Linear is the weighted average of the models (Wortsman et al. 2022,
// arXiv:2203.05482):
//
//	out = Σ wᵢ θᵢ / Σ wᵢ
//
// weight is each model's wᵢ; with normalize off the division is left out. The order of
// operations is mergekit's, products and sums fused.
func Linear(in *Input) error {
	w, sum := weights(in.Params)
	if !in.Global.on("normalize") {
		sum = 1
	}
	combine(in.Out.F32(), w, sum, in.Models)
	return nil
}

// canNormalize refuses weights that have no sum to divide by.
func canNormalize(models []Params, global Params) error {
	if _, sum := weights(models); global.on("normalize") && math.Abs(float64(sum)) < 1e-8 {
		return fmt.Errorf("%w, so they cannot be normalised; set normalize: false or change them", ErrWeights)
	}
	return nil
}

// weights returns the models' weights and their sum.
func weights(params []Params) (w []float32, sum float32) {
	w = make([]float32, len(params))
	for i, p := range params {
		w[i] = float32(p["weight"])
		sum += w[i]
	}
	return w, sum
}

// combine sets out = Σ wᵢ θᵢ / d. Models of weight zero are left out and the sum
// begins with its first term, so that weight one on a single model gives its very bits.
func combine(out []float32, w []float32, d float32, models []*tensor.Tensor) {
	fraction, _ := math.Frexp(math.Abs(float64(d)))
	exact := fraction == 0.5 // d is a power of two: a product gives what the quotient is
	spans(len(out), func(lo, hi int) {
		dst := out[lo:hi]
		first := true
		for i, m := range models {
			switch {
			case w[i] == 0:
			case first:
				copy(dst, m.F32()[lo:hi])
				if w[i] != 1 {
					kernel.Scale(w[i], dst)
				}
				first = false
			default:
				kernel.Axpy(w[i], m.F32()[lo:hi], dst)
			}
		}
		switch {
		case first:
			clear(dst)
		case d == 1:
		case exact:
			kernel.Scale(1/d, dst)
		default:
			for i := range dst {
				dst[i] /= d
			}
		}
	})
}

// Passthrough takes a tensor over, times its scale: models are built of others'
// layers this way.
func Passthrough(in *Input) error {
	combine(in.Out.F32(), []float32{float32(in.Params[0]["scale"])}, 1, in.Models[:1])
	return nil
}
