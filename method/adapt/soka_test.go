package adapt

import (
	"math"
	"testing"

	"tare/engine/nn"
	"tare/engine/tensor"
)

// kron returns Σ c_k A_k ⊗ B_k entry by entry, A_k and B_k outer products of cosines and
// so of length 1 and orthogonal to one another.
func kron(z kronSizes, c []float64) *tensor.Tensor {
	w := tensor.New(z.o1*z.o2, z.i1*z.i2)
	for r := range z.o1 * z.o2 {
		for s := range z.i1 * z.i2 {
			var sum float64
			for k, x := range c {
				sum += x * cosine(z.o1, k, r/z.o2) * cosine(z.i1, k, s/z.i2) * cosine(z.o2, k, r%z.o2) * cosine(z.i2, k, s%z.i2)
			}
			w.F32()[r*z.i1*z.i2+s] = float32(sum)
		}
	}
	return w
}

func sokaOn(t *testing.T, o *SoKA, w *tensor.Tensor) (*sokaWeight, *nn.Linear) {
	t.Helper()
	l := &nn.Linear{Name: "w", Weight: nn.NewDense("w.weight", w.Clone())}
	hold, err := o.Attach(l, 1)
	if err != nil {
		t.Fatal(err)
	}
	return hold.(*sokaWeight), l
}

func squareSum(t *tensor.Tensor) (s float64) {
	for _, v := range t.F32() {
		s += float64(v) * float64(v)
	}
	return s
}

// W = A ⊗ B is one term, and nothing is left.
func TestSoKAOfAKroneckerProduct(t *testing.T) {
	z := kronSizes{o1: 3, o2: 5, i1: 4, i2: 2}
	w := kron(z, []float64{7})
	s, _ := sokaOn(t, &SoKA{Rank: 4, Energy: 1, Elbow: true, OutFactor: 3, InFactor: 4}, w)
	if s.rank() != 1 {
		t.Errorf("%d terms, want 1", s.rank())
	}
	if left := squareSum(s.residual); left > 1e-10 {
		t.Errorf("‖W_r‖² = %g, want 0", left)
	}
	if a, b := squareSum(s.u0), squareSum(s.v0); math.Abs(a-7) > 1e-4 || math.Abs(b-7) > 1e-4 {
		t.Errorf("the squares of the factors are %g and %g, want σ = 7 in each", a, b)
	}
}

// All terms reproduce W; k of them leave Σ_{j>k} σ_j².
func TestSoKATruncation(t *testing.T) {
	z := kronSizes{o1: 4, o2: 5, i1: 3, i2: 6}
	sigma := []float64{8, 5, 3}
	w := kron(z, sigma)
	for k := 1; k <= 3; k++ {
		s, l := sokaOn(t, &SoKA{Rank: k, Energy: 1, OutFactor: 4, InFactor: 3}, w)
		var tail float64
		for _, x := range sigma[k:] {
			tail += x * x
		}
		if left := squareSum(s.residual); s.rank() != k || math.Abs(left-tail) > 1e-4 {
			t.Errorf("%d terms leave %g, want %g", s.rank(), left, tail)
		}
		merged, err := nn.Materialize(l.Weight)
		if err != nil {
			t.Fatal(err)
		}
		if d := distance(merged.F32(), w.F32()); d > 1e-5 {
			t.Errorf("%d terms and the residual differ from W by %g", k, d)
		}
	}
	random := tensor.New(6, 8) // split as 2·3 and 4·2: R(W) [8, 6]
	for i := range random.F32() {
		random.F32()[i] = float32(math.Sin(float64(7*i*i + i)))
	}
	s, _ := sokaOn(t, &SoKA{Rank: 100, Energy: 1}, random)
	if left := squareSum(s.residual); s.rank() != 6 || left > 1e-9 {
		t.Errorf("%d terms leave %g of W, want 6 terms and nothing", s.rank(), left)
	}
}

func TestSoKAChoosesTheTerms(t *testing.T) {
	sigma := []float64{10, 9, 2, 1.5, 1, 0.5} // squares 100, 81, 4, 2.25, 1, 0.25
	total := 188.5
	for _, c := range []struct {
		name  string
		o     SoKA
		total float64
		want  int
	}{
		{"energy of two", SoKA{Rank: 6, Energy: 0.9}, total, 2},
		{"energy of all", SoKA{Rank: 6, Energy: 1}, total, 6},
		{"energy of what is not known", SoKA{Rank: 6, Energy: 0.9}, 2 * total, 6},
		{"elbow before energy", SoKA{Rank: 6, Energy: 1, Elbow: true}, total, 3}, // the chord falls by 1.9: below it by 4.2 at 2
		{"energy before elbow", SoKA{Rank: 6, Energy: 0.5, Elbow: true}, total, 1},
		{"the cap", SoKA{Rank: 2, Energy: 1, Elbow: true}, total, 2},
	} {
		if got := c.o.terms(sigma, c.total); got != c.want {
			t.Errorf("%s: %d terms, want %d", c.name, got, c.want)
		}
	}
	flat := []float64{3, 3, 3, 3}
	if got := (&SoKA{Rank: 9, Energy: 1, Elbow: true}).terms(flat, 36); got != 4 {
		t.Errorf("a straight line has an elbow at %d", got)
	}
	if got := (&SoKA{Rank: 9, Energy: 1, Elbow: true}).terms([]float64{0, 0, 0}, 0); got != 1 {
		t.Errorf("a matrix of zeros gets %d terms", got)
	}
}

func TestSoKASplitsTheDimensions(t *testing.T) {
	for _, c := range []struct {
		out, in int
		want    kronSizes
	}{{192, 192, kronSizes{12, 16, 16, 12}}, {512, 192, kronSizes{16, 32, 16, 12}}, {96, 512, kronSizes{8, 12, 32, 16}}, {7, 16, kronSizes{1, 7, 4, 4}}} {
		l := &nn.Linear{Name: "w", Weight: nn.NewDense("w.weight", tensor.New(c.out, c.in))}
		if got, err := NewSoKA().sizes(l); err != nil || got != c.want {
			t.Errorf("[%d, %d] is split as %v, %v; want %v", c.out, c.in, got, err, c.want)
		}
	}
	m := newTiny(t)
	o := NewSoKA()
	o.OutFactor, o.InFactor = 5, 9
	_, err := Attach(m, named(t, "soka"), o, []string{"q_proj"}, 1)
	wantErrors(t, err, "out_factor 5 does not divide 16 of layer model.layers.0.self_attn.q_proj [16, 16]; the nearest that does is 4", "in_factor 9", "is 8")
	wantErrors(t, (&SoKA{Energy: 2, OutFactor: -1}).Validate(), "rank 0", "energy 2", "out_factor -1")
}
