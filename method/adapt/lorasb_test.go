package adapt

import (
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"gonum.org/v1/gonum/mat"

	"tare/engine/grad"
	"tare/engine/model"
	"tare/engine/nn"
	"tare/engine/tensor"
	"tare/engine/train"
)

// started returns a model with LoRA-SB started from n batches of random tokens.
func started(t *testing.T, m *model.Llama, o *LoRASB, n int) *Adapter {
	t.Helper()
	a, err := Attach(m, named(t, "lora-sb"), o, testTargets, 7)
	if err != nil {
		t.Fatal(err)
	}
	o.Batches = n
	s := setupOf(m, 4)
	s.LR = 0.02
	if _, err := a.Prepare(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	return a
}

// fullGradients returns the gradient of the mean loss over the first n batches of
// setupOf by each target's whole weight, as full fine-tuning has it.
func fullGradients(t *testing.T, m *model.Llama, n int) []*mat.Dense {
	t.Helper()
	layers, err := Select(m.Linears(), testTargets)
	if err != nil {
		t.Fatal(err)
	}
	sums := map[*grad.Param]*mat.Dense{}
	var order []*grad.Param
	for _, l := range layers {
		p := l.Weight.(nn.Dense).P
		p.Part = grad.Whole
		order, sums[p] = append(order, p), mat.NewDense(p.Value.Dim(0), p.Value.Dim(1), nil)
	}
	batches, err := setupOf(m, 4).Batches(n)
	if err != nil {
		t.Fatal(err)
	}
	terms := 0
	for _, b := range batches {
		terms += b.Count()
	}
	for _, b := range batches {
		tp := grad.NewTape(nil)
		if err := tp.Backward(b.Loss(tp, float64(terms)), func(p *grad.Param, g *tensor.Tensor) error {
			if sum := sums[p]; sum != nil {
				sum.Add(sum, wide(g.F32(), g.Dim(0), g.Dim(1)))
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	var out []*mat.Dense
	for _, p := range order {
		p.Part = grad.Part{}
		out = append(out, sums[p])
	}
	return out
}

func matrix(p *grad.Param) *mat.Dense { return wide(p.Value.F32(), p.Value.Dim(0), p.Value.Dim(1)) }

// offIdentity returns the largest entry of |M − I|.
func offIdentity(m mat.Matrix) (d float64) {
	n, _ := m.Dims()
	for i := range n {
		for j := range n {
			want := 0.0
			if i == j {
				want = 1
			}
			d = math.Max(d, math.Abs(m.At(i, j)-want))
		}
	}
	return d
}

// A and B are orthonormal, and ΔW at the start is as near to the first update as its
// singular values allow (Eckart and Young): ‖ΔW₁ − ΔW‖² is the sum of those left out.
func TestLoRASBStartsAtTheBestApproximation(t *testing.T) {
	for _, first := range []string{"adamw", "sgd"} {
		for _, n := range []int{1, 3} {
			m := newTiny(t)
			g := fullGradients(t, m, n)
			o := NewLoRASB()
			o.Rank, o.First = 3, first
			a := started(t, m, o, n)
			for i, l := range a.Layers {
				w := a.Holds[i].(*coreWeight)
				var ata, btb mat.Dense
				ata.Mul(matrix(w.a), matrix(w.a).T())
				btb.Mul(matrix(w.b).T(), matrix(w.b))
				if d := max(offIdentity(&ata), offIdentity(&btb)); d > 1e-5 {
					t.Errorf("%s: A or B is %g from orthonormal", l.Name, d)
				}
				update := mat.DenseCopyOf(g[i])
				update.Apply(func(_, _ int, x float64) float64 {
					if first == "sgd" {
						return -0.02 * x
					}
					if x == 0 {
						return 0
					}
					return -math.Copysign(0.02, x)
				}, update)
				var svd mat.SVD
				svd.Factorize(update, mat.SVDNone)
				var left, all float64
				for k, s := range svd.Values(nil) {
					all += s * s
					if k >= 3 {
						left += s * s
					}
				}
				delta := tensor.New(w.Dims())
				if err := w.addDelta(delta, 1); err != nil {
					t.Fatal(err)
				}
				var rest mat.Dense
				rest.Sub(update, wide(delta.F32(), delta.Dim(0), delta.Dim(1)))
				if d := math.Pow(mat.Norm(&rest, 2), 2); math.Abs(d-left) > 1e-3*all {
					t.Errorf("%s of %d batches: %s: ‖ΔW₁ − ΔW‖² = %g, the best is %g of %g", first, n, l.Name, d, left, all)
				}
			}
			if f := o.Figures(a); !(f["share of the first update"] > 0.2 && f["share of the first update"] < 1) {
				t.Errorf("figures %v", f)
			}
		}
	}
}

// At full rank a step of plain descent on R is the full step of W, and at a low rank its
// projection BBᵀ G AᵀA.
func TestLoRASBStepsAlongTheProjectedGradient(t *testing.T) {
	for _, rank := range []int{3, 8} { // 8 is the smaller side of v_proj [8, 16]
		m := newTiny(t)
		o := NewLoRASB()
		o.Rank = rank
		a := started(t, m, o, 1)
		merged := newTiny(t) // the same start as a plain model
		for i, l := range merged.Linears() {
			w, err := nn.Materialize(m.Linears()[i].Weight)
			if err != nil {
				t.Fatal(err)
			}
			l.Weight = nn.NewDense(l.Name+".weight", w)
		}
		g := fullGradients(t, merged, 1)
		const lr = 0.1
		before := make([]*tensor.Tensor, len(a.Layers))
		for i, l := range a.Layers {
			before[i], _ = nn.Materialize(l.Weight)
		}
		descend(t, m, lr, 1)
		for i, l := range a.Layers {
			w := a.Holds[i].(*coreWeight)
			after, err := nn.Materialize(l.Weight)
			if err != nil {
				t.Fatal(err)
			}
			var rows, columns, half, step mat.Dense // BBᵀ, AᵀA
			rows.Mul(matrix(w.b), matrix(w.b).T())
			columns.Mul(matrix(w.a).T(), matrix(w.a))
			half.Mul(g[i], &columns)
			step.Mul(&rows, &half)
			step.Scale(-lr, &step)
			got := make([]float32, after.Len())
			for at := range got {
				got[at] = after.F32()[at] - before[i].F32()[at]
			}
			if d := distance(got, narrow(&step)); d > 1e-3 {
				t.Errorf("rank %d, %s: the step is %g from the projected one", rank, l.Name, d)
			}
			if out, in := l.Weight.Dims(); rank == out && out < in { // B is square: nothing of G's rows is lost
				half.Scale(-lr, &half)
				if d := distance(got, narrow(&half)); d > 1e-3 {
					t.Errorf("%s: the step is %g from the full one on A's span", l.Name, d)
				}
			}
		}
	}
}

// descend takes plain steps along the gradient of setupOf's first batch divided by s².
func descend(t *testing.T, m *model.Llama, lr float64, s float64) {
	t.Helper()
	batches, err := setupOf(m, 4).Batches(1)
	if err != nil {
		t.Fatal(err)
	}
	tp := grad.NewTape(nil)
	b := batches[0]
	if err := tp.Backward(b.Loss(tp, float64(b.Count())), func(p *grad.Param, g *tensor.Tensor) error {
		w := make([]float32, p.PartLen())
		p.Gather(w)
		for i, d := range g.F32() {
			w[i] -= float32(lr * float64(d) / (s * s))
		}
		p.Scatter(w)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// With R = S/s and the gradient over s² every s gives the same weights.
func TestLoRASBDoesNotDependOnAScale(t *testing.T) {
	var want []*tensor.Tensor
	for _, s := range []float64{1, 0.1, 16} {
		m := newTiny(t)
		o := NewLoRASB()
		o.Rank = 4
		a := started(t, m, o, 1)
		for _, h := range a.Holds {
			w := h.(*coreWeight)
			w.scale = float32(s)
			for i := range w.r.Value.F32() {
				w.r.Value.F32()[i] /= float32(s)
			}
		}
		for range 3 {
			descend(t, m, 0.1, s)
		}
		for i, l := range a.Layers {
			w, err := nn.Materialize(l.Weight)
			if err != nil {
				t.Fatal(err)
			}
			if s == 1 {
				want = append(want, w)
			} else if d := distance(w.F32(), want[i].F32()); d > 1e-5 {
				t.Errorf("s = %g: %s is %g from that of s = 1", s, l.Name, d)
			}
		}
	}
}

// While the start is looked for, no more than one layer's gradient is held, and the
// ledger is left as it was.
func TestLoRASBHoldsOneGradientAtATime(t *testing.T) {
	for n, factor := range map[int]int64{1: 1, 2: 2} { // several batches: a sum and what is added to it
		m := newTiny(t)
		o := NewLoRASB()
		o.Rank, o.Batches = 4, n
		a, err := Attach(m, named(t, "lora-sb"), o, []string{AllLinear}, 7)
		if err != nil {
			t.Fatal(err)
		}
		s := setupOf(m, 4)
		s.LR, s.Ledger = 0.02, &grad.Ledger{}
		if _, err := a.Prepare(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		var largest, all int64
		for _, l := range a.Layers {
			out, in := l.Weight.Dims()
			largest, all = max(largest, 4*int64(out*in)), all+4*int64(out*in)
		}
		if got := s.Ledger.Peak().Gradients; got != factor*largest || got > all/4 {
			t.Errorf("%d batches: %d bytes of gradients at the peak, want %d of all layers' %d", n, got, factor*largest, all)
		}
		for k := grad.Weights; k < grad.Kinds; k++ {
			if left := s.Ledger.Now(k); left != 0 {
				t.Errorf("%d bytes of %s are still held", left, k)
			}
		}
		for _, p := range m.Params() {
			if p.Trains() != slices.Contains(a.Params(), p) {
				t.Errorf("%s trains: %v", p.Name, p.Trains())
			}
		}
	}
}

// It works over packed weights, and a saved adapter opens with the same scores and looks
// at no data again.
func TestLoRASBOverPackedWeights(t *testing.T) {
	m := newTiny(t)
	pack(t, m)
	o := NewLoRASB()
	o.Rank = 4
	a := started(t, m, o, 1)
	stir(a)
	dir := filepath.Join(t.TempDir(), "adapter")
	if err := a.Save(dir, "base"); err != nil {
		t.Fatal(err)
	}
	fresh := newTiny(t)
	pack(t, fresh)
	b, err := Load(dir, fresh)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Prepare(t.Context(), Setup{Batches: func(int) ([]train.Batch, error) { panic("asked for data") }}); err != nil {
		t.Fatal(err)
	}
	if d := distance(logits(fresh), logits(m)); d != 0 {
		t.Errorf("logits differ by %g", d)
	}
}

// LoRA-XS spans the principal part of W: B A is its best approximation of that rank.
func TestLoRAXSFactorsAreOfTheWeight(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 2))
	w := tensor.New(9, 14)
	for i := range w.F32() {
		w.F32()[i] = float32(rng.NormFloat64())
	}
	l := &nn.Linear{Name: "l", Weight: nn.NewDense("l.weight", w.Clone())}
	o := NewLoRAXS()
	o.Rank = 4
	h, err := o.Attach(l, 3)
	if err != nil {
		t.Fatal(err)
	}
	core := h.(*coreWeight)
	var svd mat.SVD
	svd.Factorize(wide(w.F32(), 9, 14), mat.SVDNone)
	var left float64
	for _, s := range svd.Values(nil)[4:] {
		left += s * s
	}
	var ba, rest mat.Dense
	ba.Mul(matrix(core.b), matrix(core.a))
	rest.Sub(wide(w.F32(), 9, 14), &ba)
	if d := math.Pow(mat.Norm(&rest, 2), 2); math.Abs(d-left) > 1e-4*left {
		t.Errorf("‖W − BA‖² = %g, the best is %g", d, left)
	}
	var squares float64
	for _, x := range core.r.Value.F32() {
		squares += float64(x) * float64(x)
	}
	if d := math.Sqrt(squares / 16); d < 0.3e-5 || d > 3e-5 || core.scale != 4 {
		t.Errorf("R deviates by %g, want about 1e-5; scale %g, want 4", d, core.scale)
	}
}

func TestLoRASBSaysAllThatIsWrong(t *testing.T) {
	o := &LoRASB{Dropout: 2, First: "adam", Eta: -1, Batches: -1}
	wantErrors(t, o.Validate(), "rank 0", "dropout 2", `first_update "adam"`, "eta -1", "batches -1")
	m := newTiny(t)
	o = NewLoRASB()
	_, err := Attach(m, named(t, "lora-sb"), o, testTargets, 1)
	wantErrors(t, err, "rank 16", "v_proj [8, 16]")
	o.Rank = 4
	a, err := Attach(m, named(t, "lora-sb"), o, testTargets, 1)
	if err != nil {
		t.Fatal(err)
	}
	_, err = a.Prepare(t.Context(), setupOf(m, 1))
	wantErrors(t, err, "set eta")
}
