package merge

import (
	"errors"
	"fmt"
	"math"
	"slices"

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
// weight is each model's wᵢ; with normalize = 0 the division is left out.
func Linear(in *Input) error {
	weights, err := weights(in, 1)
	if err != nil {
		return err
	}
	combine(in.Out, weights, in.Models)
	return nil
}

// TaskArithmetic adds scaled task vectors to the base (Ilharco et al. 2023,
// arXiv:2212.04089):
//
//	out = θ_base + λ Σ wᵢ (θᵢ − θ_base)
//
// weight is each model's wᵢ, lambda the common scale, and normalize divides by Σ wᵢ.
func TaskArithmetic(in *Input) error {
	weights, err := weights(in, 0)
	if err != nil {
		return err
	}
	lambda := float32(in.Global.Get("lambda", 1))
	var sum float32
	for i := range weights {
		weights[i] *= lambda
		sum += weights[i]
	}
	combine(in.Out, append(weights, 1-sum), append(slices.Clone(in.Models), in.Base))
	return nil
}

// combine sets out = Σ wᵢ θᵢ. Models of weight zero are left out and the sum begins
// with its first term, so that weight one on a single model gives its very bits.
func combine(out *tensor.Tensor, w []float32, models []*tensor.Tensor) {
	dst := out.F32()
	kernel.Parallel(len(dst), 1<<14, func(lo, hi int) {
		first := true
		for i, m := range models {
			switch {
			case w[i] == 0:
			case first:
				copy(dst[lo:hi], m.F32()[lo:hi])
				kernel.Scale(w[i], dst[lo:hi])
				first = false
			default:
				kernel.Axpy(w[i], m.F32()[lo:hi], dst[lo:hi])
			}
		}
		if first {
			clear(dst[lo:hi])
		}
	})
}

// weights returns the models' weights, divided by their sum when the recipe's
// normalize, whose standard value is given, is on.
func weights(in *Input, normalize float64) ([]float32, error) {
	w := make([]float32, len(in.Models))
	var sum float64
	for i, p := range in.Params {
		v := p.Get("weight", 1)
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return nil, fmt.Errorf("merge: %s: weight of model %d is %g", in.Name, i+1, v)
		}
		w[i] = float32(v)
		sum += v
	}
	if in.Global.Get("normalize", normalize) == 0 {
		return w, nil
	}
	if math.Abs(sum) < 1e-8 {
		return nil, fmt.Errorf("merge: %s: %w, so they cannot be normalised; set normalize: false or change them", in.Name, ErrWeights)
	}
	for i := range w {
		w[i] /= float32(sum)
	}
	return w, nil
}
