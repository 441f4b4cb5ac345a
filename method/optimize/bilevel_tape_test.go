package optimize_test

import (
	"errors"
	"math"
	"math/rand/v2"
	"testing"

	"gonum.org/v1/gonum/floats"

	"tare/engine/grad"
	"tare/engine/model"
	"tare/engine/nn"
	"tare/engine/tensor"
	"tare/method/optimize"
)

// A lower function of known derivatives: g = ½ Σ eˣⱼ yⱼ², ∂²g/∂yⱼ² = eˣⱼ, ∂²g/∂xⱼ∂yⱼ = eˣⱼ yⱼ.
func TestTapedProducts(t *testing.T) {
	x := grad.NewParam("x", tensor.FromF32([]float32{0.5, -1, 0.2}, 1, 3))
	y := grad.NewParam("y", tensor.FromF32([]float32{2, -3, 0.5}, 1, 3))
	p, err := optimize.NewTaped([]*grad.Param{x}, []*grad.Param{y},
		func(tp *grad.Tape, _ *rand.Rand) *grad.Value { return tp.Sum(tp.Use(y)) }, // without x
		func(tp *grad.Tape, _ *rand.Rand) *grad.Value {
			w := tp.Use(y)
			return tp.Scale(tp.Sum(tp.Mul(tp.Exp(tp.Use(x)), tp.Mul(w, w))), 0.5)
		})
	if err != nil {
		t.Fatal(err)
	}
	at, low := p.Values()
	v := []float64{1, 2, -1}
	dirty := func() []float64 { return []float64{9, 9, 9} }
	gy, hv, jv := dirty(), dirty(), dirty()
	if err := errors.Join(p.Lower(nil, at, low, gy), p.Product(nil, at, low, v, hv, jv)); err != nil {
		t.Fatal(err)
	}
	for j := range v {
		e := math.Exp(at[j])
		for name, pair := range map[string][2]float64{"∇ᵧg": {gy[j], e * low[j]}, "∇²ᵧᵧg v": {hv[j], e * v[j]}, "∇²ₓᵧg v": {jv[j], e * low[j] * v[j]}} {
			if math.Abs(pair[0]-pair[1]) > 1e-5 {
				t.Errorf("%s [%d] = %g, want %g", name, j, pair[0], pair[1])
			}
		}
	}
	ux, uy := dirty(), dirty()
	f, err := p.Upper(nil, at, low, ux, uy)
	if err != nil || math.Abs(f+0.5) > 1e-6 || floats.Norm(ux, 1) != 0 || floats.Distance(uy, []float64{1, 1, 1}, 2) > 1e-6 {
		t.Errorf("f = %g, ∇f = %v and %v, %v", f, ux, uy, err)
	}
}

// The hypergradient of a recurrent network's encoding, the lower level its linear head with a
// ridge, against differences of Φ along it with the head fitted anew at each side.
func TestTapedHypergradientOfAnRNN(t *testing.T) {
	for _, cell := range []nn.Cell{nn.Tanh, nn.LSTM} {
		m, err := model.NewRNN(model.RNNOptions{Cell: cell, Vocab: 7, Width: 4, Hidden: 5, Layers: 1, Out: 3}, 3)
		if err != nil {
			t.Fatal(err)
		}
		ps := m.Params()
		head := ps[len(ps)-2:]
		if head[0].Name != "decoder.weight" {
			t.Fatalf("the last parameters are %s and %s", head[0].Name, head[1].Name)
		}
		rng := rand.New(rand.NewPCG(3, 9))
		loss := func(ridge float32) optimize.Loss {
			tokens, labels := make([]int32, 24), make([]int32, 6)
			for i := range tokens {
				tokens[i] = rng.Int32N(7)
			}
			for i := range labels {
				labels[i] = rng.Int32N(3)
			}
			seqs := grad.Sequences{Lengths: []int{4, 4, 4, 4, 4, 4}}
			return func(tp *grad.Tape, _ *rand.Rand) *grad.Value {
				l := tp.CrossEntropy(m.Logits(tp, m.Last(tp, m.Hidden(tp, tokens, seqs, nil), seqs)), labels, 6)
				if ridge > 0 {
					for _, p := range head {
						w := tp.Use(p)
						l = tp.Add(l, tp.Scale(tp.Sum(tp.Mul(w, w)), ridge/2))
					}
				}
				return l
			}
		}
		p, err := optimize.NewTaped(ps[:len(ps)-2], head, loss(0), loss(0.1))
		if err != nil {
			t.Fatal(err)
		}
		x, y := p.Values()
		gx, gy := make([]float64, len(x)), make([]float64, len(y))
		fit := func(x []float64) (float64, []float64) {
			y := append([]float64(nil), y...)
			for range 400 {
				if err := p.Lower(nil, x, y, gy); err != nil {
					t.Fatal(err)
				}
				floats.AddScaled(y, -1, gy)
			}
			if n := floats.Norm(gy, 2); n > 1e-5 {
				t.Fatalf("the lower gradient is left at %g", n)
			}
			f, err := p.Upper(nil, x, y, gx, gy)
			if err != nil {
				t.Fatal(err)
			}
			return f, y
		}
		_, inner := fit(x)
		h, err := optimize.Hypergradient(t.Context(), p, x, inner, 1e-4)
		if err != nil {
			t.Fatal(err)
		}
		const step = 0.02
		norm := floats.Norm(h, 2)
		along := func(s float64) float64 {
			moved := append([]float64(nil), x...)
			floats.AddScaled(moved, s/norm, h)
			f, _ := fit(moved)
			return f
		}
		if slope := (along(step) - along(-step)) / (2 * step); math.Abs(slope-norm) > 0.01*norm {
			t.Errorf("%v: Φ rises by %g along its gradient of norm %g", cell, slope, norm)
		}
	}
}

func TestTapedBadParameters(t *testing.T) {
	x := grad.NewParam("x", tensor.New(2))
	if _, err := optimize.NewTaped([]*grad.Param{x}, []*grad.Param{x}, nil, nil); !errors.Is(err, optimize.ErrData) {
		t.Errorf("a parameter of both levels: %v", err)
	}
	stray := grad.NewParam("stray", tensor.New(1, 1))
	y := grad.NewParam("y", tensor.New(1, 1))
	use := func(tp *grad.Tape, _ *rand.Rand) *grad.Value { return tp.Add(tp.Use(y), tp.Use(stray)) }
	p, err := optimize.NewTaped([]*grad.Param{x}, []*grad.Param{y}, use, use)
	if err != nil {
		t.Fatal(err)
	}
	stray.Part = grad.Whole
	if err := p.Lower(nil, []float64{0, 0}, []float64{0}, []float64{0}); !errors.Is(err, optimize.ErrData) {
		t.Errorf("a parameter of neither level: %v", err)
	}
}
