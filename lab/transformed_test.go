package lab

import (
	"math"
	"testing"

	"tare/engine/grad"
	"tare/engine/nn"
	"tare/engine/tensor"
	"tare/engine/train"
)

// The arms have the entries of LoRA at rank 8, 4 and 2 on the bundled base's shapes, to
// within three tenths: bonds and blocks come in steps, and DoRA has its lengths besides.
func TestTransformedArmsHaveTheSameEntries(t *testing.T) {
	for _, budgets := range transformedArms() {
		for i, a := range budgets {
			var entries int64
			want := 0.0
			for _, s := range bundledShapes {
				l := &nn.Linear{Name: "w", Weight: nn.NewDense("w.weight", tensor.New(s[0], s[1]))}
				hold, err := a.attachTo(l, 1)
				if err != nil {
					t.Fatal(err)
				}
				entries += train.Trainable(hold.Params())
				want += float64(8 >> i * (s[0] + s[1]))
			}
			if ratio := float64(entries) / want; math.Abs(ratio-1) > 0.3 {
				t.Errorf("%s at budget %d has %d entries, %.2f of LoRA's", a.name, i, entries, ratio)
			}
		}
	}
}

// The change W' − W = W D + a rank-one matrix, with D a Kronecker product over the modes,
// is within a transform and a residual of rank 1, but far from rank 1 alone.
func TestFitFindsATransform(t *testing.T) {
	const out, in = 16, 24
	m := tunedMatrix{"w", tensor.New(out, in), tensor.New(out, in)}
	for i := range m.w.F32() {
		m.w.F32()[i] = float32(math.Sin(float64(7*i*i + 2*i)))
	}
	factor := func(k, a, b int) float64 { return math.Cos(float64(5*k + 3*a*a + 2*b)) } // of sizes 2, 3 and 4
	for p := range out {
		for j := range in {
			sum := float64(m.w.F32()[p*in+j]) + 0.3*math.Sin(float64(p))*math.Cos(float64(j*j))
			for x := range in {
				sum += 0.1 * float64(m.w.F32()[p*in+x]) * factor(0, x/12, j/12) * factor(1, x/4%3, j/4%3) * factor(2, x%4, j%4)
			}
			m.new.F32()[p*in+j] = float32(sum)
		}
	}
	whole := squaredDistance(m.w, m.new)
	fit := func(method string) float64 {
		r, _, err := tuneArm{method: method, rank: 1}.fitMatrix(t.Context(), m, whole, 300, fitRates, 1)
		if err != nil {
			t.Fatal(err)
		}
		return math.Sqrt(r)
	}
	low, both := fit("lora"), fit("transformed")
	if both > low/3 {
		t.Errorf("the error is %g with a transform, %g of rank 1 alone", both, low)
	}
}

// The loss is the squared distance over that of the base: 1 where nothing is learnt.
func TestFitTaskIsOneAtTheBase(t *testing.T) {
	w, target := tensor.New(3, 5), tensor.New(3, 5)
	for i := range target.F32() {
		target.F32()[i] = float32(i)
	}
	l := &nn.Linear{Name: "w", Weight: nn.NewDense("w.weight", w)}
	tp := grad.NewTape(nil)
	if got := newFitTask(l, target, squaredDistance(w, target)).Loss(tp, 1).Data[0]; math.Abs(float64(got)-1) > 1e-6 {
		t.Errorf("loss %g, want 1", got)
	}
	tp.Reset()
}
