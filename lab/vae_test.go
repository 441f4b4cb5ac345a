package lab

import (
	"math"
	"math/rand/v2"
	"testing"

	"tare/engine/grad"
	"tare/engine/tensor"
	"tare/method/bayes/vi"
)

// The programmed bounds and those by hand are estimates of the same numbers: values and
// the gradient of the encoder's means agree within 4 standard errors.
func TestProgrammedBoundsAreThoseByHand(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	x := make([]float32, 4*784)
	for i := range x {
		x[i] = float32(rng.IntN(2))
	}
	const draws = 300
	moments := func(b bound) (mean, se []float64) {
		v := newVAE(1, gaussians, 3)
		var sums, squares []float64
		for range draws {
			row := []float64{0}
			value, err := v.ascend(b, x, func(p *grad.Param, g *tensor.Tensor) error {
				if p == v.heads[0].b {
					for _, d := range g.F32() {
						row = append(row, float64(d))
					}
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			row[0] = value
			if sums == nil {
				sums, squares = make([]float64, len(row)), make([]float64, len(row))
			}
			for i, d := range row {
				sums[i] += d / draws
				squares[i] += d * d / draws
			}
		}
		for i, m := range sums {
			se = append(se, math.Sqrt(max(squares[i]-m*m, 0)/draws))
		}
		return sums, se
	}
	for name, pair := range map[string][2]bound{
		"ELBO":      {programmed(vi.Reparam, 1), handCoded(1)},
		"ELBO, MVD": {programmed(vi.MVD, 1), handCoded(1)},
		"IWELBO":    {programmed(vi.Reparam, 3), handCoded(3)},
	} {
		a, sa := moments(pair[0])
		b, sb := moments(pair[1])
		for i := range a {
			if math.Abs(a[i]-b[i]) > 4*math.Hypot(sa[i], sb[i]) {
				t.Errorf("%s, figure %d: programmed %.4f ± %.4f, by hand %.4f ± %.4f", name, i, a[i], sa[i], b[i], sb[i])
			}
		}
	}
}
