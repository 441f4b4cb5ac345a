package kernel

import (
	"math"
	"math/rand/v2"
	"testing"
)

func sigmoid64(x float64) float64 { return 1 / (1 + math.Exp(-x)) }

// bell64 is the normal density.
func bell64(x float64) float64 { return math.Exp(-x*x/2) / math.Sqrt(2*math.Pi) }

func normal64(x float64) float64 { return math.Erfc(-x/math.Sqrt2) / 2 }

// bounded64 keeps x where derivatives still bend.
func bounded64(x float64) float64 {
	if math.IsNaN(x) {
		return x
	}
	return math.Max(-40, math.Min(40, x))
}

func tanhSlope64(x float64) float64 {
	u := math.Sqrt(2/math.Pi) * (x + 0.044715*x*x*x)
	t := math.Tanh(u)
	return 0.5*(1+t) + 0.5*x*(1-t*t)*math.Sqrt(2/math.Pi)*(1+3*0.044715*x*x)
}

// TestActivations: bounds are the relative error (3 ulp where not said) and an
// absolute one for what cancels.
func TestActivations(t *testing.T) {
	one := func(name string, rel, abs float64, f func(dst, x []float32), want func(x float64) float64) elementwise {
		return elementwise{name: name, inputs: 1, rel: rel, abs: abs, special: true,
			run:  func(d []float32, in [][]float32) { f(d, in[0]) },
			want: func(v []float64) float64 { return want(v[0]) }}
	}
	slope := func(name string, rel, abs float64, f func(dx, dy, x []float32), want func(x float64) float64) elementwise {
		return elementwise{name: name, inputs: 2, rel: rel, abs: abs, special: true, first: true,
			run:  func(d []float32, in [][]float32) { f(d, in[0], in[1]) },
			want: func(v []float64) float64 { return v[0] * want(v[1]) }}
	}
	const tiny = 3e-45 // two of the smallest numbers
	ops := []elementwise{
		one("Exp", 2*ulp, tiny, Exp, math.Exp),
		one("Sigmoid", 3*ulp, tiny, Sigmoid, sigmoid64),
		one("Tanh", 3*ulp, 0, Tanh, math.Tanh),
		one("ReLU", 0, 0, ReLU, func(x float64) float64 { return math.Max(x, 0) }),
		one("SiLU", 3*ulp, 3e-43, SiLU, func(x float64) float64 { return x * sigmoid64(x) }),
		one("GELU", 4*ulp, 1e-7, GELU, func(x float64) float64 { return x * normal64(x) }),
		one("GELUTanh", 4*ulp, 1e-7, GELUTanh, func(x float64) float64 {
			return 0.5 * x * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(x+0.044715*x*x*x)))
		}),
		slope("SigmoidBackward", 2*ulp, 1e-45, func(dx, dy, x []float32) { SigmoidBackward(dx, dy, x) },
			func(y float64) float64 { return float64(float32(y * float64(float32(1-y)))) }),
		slope("ReLUBackward", 0, 0, ReLUBackward, func(x float64) float64 {
			if x > 0 {
				return 1
			}
			return 0
		}),
		slope("SiLUBackward", 3*ulp, 1e-5, SiLUBackward, func(x float64) float64 {
			s := sigmoid64(x)
			return s * (1 + x*(1-s))
		}),
		slope("GELUBackward", 3*ulp, 1e-5, GELUBackward, func(x float64) float64 {
			x = bounded64(x)
			return normal64(x) + x*bell64(x)
		}),
		slope("GELUTanhBackward", 3*ulp, 1e-5, GELUTanhBackward, func(x float64) float64 { return tanhSlope64(bounded64(x)) }),
		{name: "TanhBackward", inputs: 2, rel: 2 * ulp, abs: 1e-2,
			run:  func(d []float32, in [][]float32) { TanhBackward(d, in[0], in[1]) },
			want: func(v []float64) float64 { return v[0] * (1 - v[1]*v[1]) }},
		{name: "SiLUMul", inputs: 2, rel: 4 * ulp, abs: 1e-40, special: true, first: true,
			run:  func(d []float32, in [][]float32) { SiLUMul(d, in[1], in[0]) },
			want: func(v []float64) float64 { return float64(float32(v[1]*sigmoid64(v[1]))) * v[0] }},
		{name: "SiLUMulBackward dgate", inputs: 3, rel: 3 * ulp, abs: 2e-4,
			run: func(d []float32, in [][]float32) { SiLUMulBackward(d, make([]float32, len(d)), in[0], in[1], in[2]) },
			want: func(v []float64) float64 {
				s := sigmoid64(v[1])
				return v[0] * v[2] * (s * (1 + v[1]*(1-s)))
			}},
		{name: "SiLUMulBackward dup", inputs: 2, rel: 4 * ulp, abs: 1e-40,
			run: func(d []float32, in [][]float32) {
				SiLUMulBackward(make([]float32, len(d)), d, in[0], in[1], make([]float32, len(d)))
			},
			want: func(v []float64) float64 { return v[0] * v[1] * sigmoid64(v[1]) }},
		{name: "AttentionGrad", inputs: 2, rel: 3 * ulp, abs: 1e-4,
			run: func(d []float32, in [][]float32) {
				ds := append([]float32(nil), in[0]...)
				AttentionGrad(ds, in[1], 0.3, 0.125)
				copy(d, ds)
			},
			want: func(v []float64) float64 { return 0.125 * v[1] * (v[0] - float64(float32(0.3))) }},
	}
	eachPath(t, func(t *testing.T) {
		for _, op := range ops {
			op.check(t)
		}
	})
}

// TestUnitsInLastPlace goes through all magnitudes of float32 in small steps.
func TestUnitsInLastPlace(t *testing.T) {
	const step = 9973
	x := make([]float32, 0, 1<<32/step+1)
	for b := uint64(0); b < 1<<32; b += step {
		if v := math.Float32frombits(uint32(b)); v == v && math.Abs(float64(v)) < 200 {
			x = append(x, v)
		}
	}
	y := make([]float32, len(x))
	eachPath(t, func(t *testing.T) {
		for _, c := range []struct {
			name  string
			f     func(dst, x []float32)
			want  func(float64) float64
			bound float64
		}{{"Exp", Exp, math.Exp, 1}, {"Sigmoid", Sigmoid, sigmoid64, 2.5}, {"Tanh", Tanh, math.Tanh, 2.5}} {
			c.f(y, x)
			worst, at := 0.0, float32(0)
			for i, v := range x {
				want := c.want(float64(v))
				if math.IsInf(float64(float32(want)), 0) {
					if !math.IsInf(float64(y[i]), 1) {
						t.Fatalf("%s(%g) is %g, not infinite", c.name, v, y[i])
					}
					continue
				}
				r := math.Abs(want)
				unit := max(math.Ldexp(1, math.Ilogb(r)-23), math.SmallestNonzeroFloat32)
				if d := math.Abs(float64(y[i])-want) / unit; d > worst {
					worst, at = d, v
				}
			}
			t.Logf("%s: at most %.2f units in the last place, at %g", c.name, worst, at)
			if worst > c.bound {
				t.Errorf("%s(%g) is off by %.2f units in the last place", c.name, at, worst)
			}
		}
	})
}

func TestExpSum(t *testing.T) {
	inf := float32(math.Inf(1))
	eachPath(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(9, 10))
		for _, n := range sizes() {
			whole, x := framed(n, func(int) float32 {
				if rng.IntN(5) == 0 {
					return -inf
				}
				return float32(rng.NormFloat64()) * 20
			})
			shift := Max(x)
			var sum float64
			want := make([]float64, n)
			for i, v := range x {
				if v > -inf {
					want[i] = math.Exp(float64(v - shift))
				}
				sum += want[i]
			}
			got := ExpSum(x, x, shift) // in place
			checkFrame(t, whole, n)
			for i, v := range x {
				if !close64(v, want[i], 2*ulp, 3e-45) || want[i] == 0 && v != 0 {
					t.Fatalf("n %d, element %d: %g, want %g", n, i, v, want[i])
				}
			}
			if !close64(got, sum, 6*ulp, 0) {
				t.Fatalf("n %d: sum %g, want %g", n, got, sum)
			}
		}
		x := []float32{-inf, -inf, -inf}
		if s := ExpSum(x, x, -inf); s != 0 || x[1] != 0 {
			t.Errorf("of negative infinities less themselves: sum %g, element %g", s, x[1])
		}
		x = []float32{1, float32(math.NaN())}
		if s := ExpSum(x, x, 1); s == s || x[1] == x[1] || x[0] != 1 {
			t.Errorf("NaN is lost: sum %g, elements %g", s, x)
		}
	})
}

// TestVectorPathsAgree: with AVX2 and AVX-512 the same operations are rounded the
// same, so elementwise results have the same bits.
func TestVectorPathsAgree(t *testing.T) {
	if len(Paths()) < 3 {
		t.Skip("this processor has fewer than two vector paths")
	}
	was := Path()
	defer func() { _ = SetPath(was) }()
	rng := rand.New(rand.NewPCG(11, 12))
	x, y := make([]float32, 5003), noise(5003)
	for i := range x {
		x[i] = float32(rng.NormFloat64()) * 40
	}
	copy(x, specials)
	for name, f := range map[string]func(dst []float32){
		"Exp": func(d []float32) { Exp(d, x) }, "Sigmoid": func(d []float32) { Sigmoid(d, x) },
		"Tanh": func(d []float32) { Tanh(d, x) }, "SiLU": func(d []float32) { SiLU(d, x) },
		"GELU": func(d []float32) { GELU(d, x) }, "GELUTanh": func(d []float32) { GELUTanh(d, x) },
		"GELUBackward":     func(d []float32) { GELUBackward(d, y, x) },
		"GELUTanhBackward": func(d []float32) { GELUTanhBackward(d, y, x) },
		"SiLUMulBackward":  func(d []float32) { SiLUMulBackward(d, make([]float32, len(d)), y, x, y) },
	} {
		var out [2][]float32
		for i, path := range Paths()[:2] {
			if err := SetPath(path); err != nil {
				t.Fatal(err)
			}
			out[i] = make([]float32, len(x))
			f(out[i])
		}
		sameBits(t, name, out[1], out[0])
	}
}

// The gradients of a gated MLP may be written over its inputs.
func TestSiLUMulBackwardInPlace(t *testing.T) {
	eachPath(t, func(t *testing.T) {
		for _, n := range []int{0, 1, 7, 16, 17, 31, 33, 64, 100, 1003} {
			gate, up, dy := noise(n), noise(n), noise(n)
			dgate, dup := make([]float32, n), make([]float32, n)
			SiLUMulBackward(dgate, dup, dy, gate, up)
			SiLUMulBackward(gate, up, dy, gate, up)
			sameBits(t, "dgate", gate, dgate)
			sameBits(t, "dup", up, dup)
		}
	})
}

func BenchmarkExpSum(b *testing.B) {
	for _, n := range benchSizes {
		x, y := noise(n), make([]float32, n)
		benchPaths(b, n, 8*n, func() { ExpSum(y, x, 4) })
	}
}

func BenchmarkSiLUMul(b *testing.B) {
	for _, n := range benchSizes {
		g, u, y := noise(n), noise(n), make([]float32, n)
		benchPaths(b, n, 12*n, func() { SiLUMul(y, g, u) })
	}
}

func BenchmarkSiLUMulBackward(b *testing.B) {
	for _, n := range benchSizes {
		d, g, u, dg, du := noise(n), noise(n), noise(n), make([]float32, n), make([]float32, n)
		benchPaths(b, n, 20*n, func() { SiLUMulBackward(dg, du, d, g, u) })
	}
}

func BenchmarkGELU(b *testing.B) {
	n := benchSizes[0]
	x, y := noise(n), make([]float32, n)
	benchPaths(b, n, 8*n, func() { GELU(y, x) })
}

func BenchmarkTanh(b *testing.B) {
	n := benchSizes[0]
	x, y := noise(n), make([]float32, n)
	benchPaths(b, n, 8*n, func() { Tanh(y, x) })
}
