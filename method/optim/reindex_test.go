package optim

import (
	"math"
	"slices"
	"testing"

	"tare/engine/grad"
	"tare/engine/tensor"
	"tare/engine/train"
)

// A parameter of which entries 0 and 2 train for two steps, then 2 and 3: entry 2 ends
// as if nothing had changed, entry 3 as plain arithmetic says that starts with zero
// state at the third step, entry 0 stays.
func TestReindexKeepsTheStateOfEntriesThatStay(t *testing.T) {
	const lr, b1, b2, eps = 0.1, 0.9, 0.999, 1e-8
	gradient := func(at, step int) float32 { return float32(at+1) * float32(step*step) / 10 }
	for name, c := range map[string]struct {
		make  func(l *grad.Ledger) train.Optimizer
		third func() float64 // what the third step takes off entry 3
		bytes int64          // of state for an entry
	}{
		"adamw": {func(l *grad.Ledger) train.Optimizer { return NewAdamW(0, l) }, func() float64 {
			g := float64(gradient(3, 3))
			m, v := (1-b1)*g/(1-math.Pow(b1, 3)), (1-b2)*g*g/(1-math.Pow(b2, 3))
			return lr * m / (math.Sqrt(v) + eps)
		}, 8},
		"sgd": {func(l *grad.Ledger) train.Optimizer { return &SGD{Momentum: 0.9, Ledger: l} }, func() float64 { return lr * float64(gradient(3, 3)) }, 4},
	} {
		run := func(change bool) ([]float32, *grad.Ledger) {
			ledger := &grad.Ledger{}
			o := c.make(ledger)
			p := grad.NewParam("w", tensor.FromF32([]float32{1, 2, 3, 4, 5}, 5))
			p.Part = grad.EntriesOf([]int{0, 2})
			for step := 1; step <= 3; step++ {
				if step == 3 && change {
					from := p.Part
					p.Part = grad.EntriesOf([]int{2, 3, 4})
					if err := o.(train.Reindexer).Reindex(p, from); err != nil {
						t.Fatal(err)
					}
				}
				g := make([]float32, p.PartLen())
				for i, at := range p.Part.Index {
					g[i] = gradient(at, step)
				}
				if err := o.Step(p, tensor.FromF32(g, len(g)), lr); err != nil {
					t.Fatal(err)
				}
			}
			return slices.Clone(p.Value.F32()), ledger
		}
		plain, _ := run(false)
		got, ledger := run(true)
		if got[2] != plain[2] {
			t.Errorf("%s: entry 2 is %g, %g if the part had stayed", name, got[2], plain[2])
		}
		if want := 4 - c.third(); math.Abs(float64(got[3])-want) > 1e-5 {
			t.Errorf("%s: entry 3 is %g, want %g", name, got[3], want)
		}
		if got[0] == 1 || got[0] == plain[0] {
			t.Errorf("%s: entry 0 is %g, want what two of three steps made of it", name, got[0])
		}
		if n := ledger.Now(grad.Optimizer); n != 3*c.bytes {
			t.Errorf("%s: %d bytes of state for 3 entries", name, n)
		}
	}
}
