package vi_test

import (
	"fmt"
	"math"
	"math/rand/v2"

	"tare/engine/grad"
	"tare/engine/tensor"
	"tare/method/bayes/vi"
)

// A guide is fitted to what is known of z ~ N(0, 1) after z + noise was seen to be 2, which
// is N(1, √½).
func ExampleELBO() {
	tp := grad.NewTape(nil)
	mean, scale := grad.NewParam("mean", tensor.New(1, 1)), grad.NewParam("scale", tensor.New(1, 1))
	mean.Part, scale.Part = grad.Whole, grad.Whole
	e := vi.Estimator{Tape: tp, Rows: 100, Rand: rand.New(rand.NewPCG(1, 2))}
	for range 300 {
		zero := tp.Const([]float32{0}, 1, 1)
		model := vi.Func(func(t *vi.Trace) {
			z := t.Sample("z", vi.Normal{Mean: zero, LogScale: zero}, vi.Reparam)
			t.Observe("y", vi.Normal{Mean: z, LogScale: zero}, tp.Const([]float32{2}, 1, 1))
		})
		guide := vi.Func(func(t *vi.Trace) {
			t.Sample("z", vi.Normal{Mean: tp.Use(mean), LogScale: tp.Use(scale)}, vi.Reparam)
		})
		bound, err := e.Surrogate(vi.ELBO(model, guide))
		if err != nil {
			fmt.Println(err)
			return
		}
		err = tp.Backward(tp.Mean(bound), func(p *grad.Param, g *tensor.Tensor) error {
			p.Value.F32()[0] += 0.05 * g.F32()[0]
			return nil
		})
		if err != nil {
			fmt.Println(err)
			return
		}
	}
	fmt.Printf("N(%.1f, %.1f)\n", mean.Value.F32()[0], math.Exp(float64(scale.Value.F32()[0])))
	// Output: N(1.0, 0.7)
}

// A discrete choice has no reparameterisation.
func ExampleEstimator_Surrogate() {
	tp := grad.NewTape(nil)
	coin := vi.Func(func(t *vi.Trace) {
		t.Sample("coin", vi.Bernoulli{Logits: tp.Const([]float32{0}, 1, 1)}, vi.Reparam)
	})
	e := vi.Estimator{Tape: tp, Rows: 1, Rand: rand.New(rand.NewPCG(1, 2))}
	_, err := e.Surrogate(vi.ELBO(coin, coin))
	fmt.Println(err)
	// Output: vi: choice "coin": REPARAM of vi.Bernoulli, use ENUM, MVD or REINFORCE: gradient strategy does not fit the distribution
}
