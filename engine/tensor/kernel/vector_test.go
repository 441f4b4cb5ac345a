package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// sizes are every length up to four registers and a few longer odd ones.
func sizes() []int {
	var s []int
	for n := range 68 {
		s = append(s, n)
	}
	return append(s, 127, 255, 1001, 4099)
}

// specials are the values that arithmetic treats specially.
var specials = []float32{
	float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1)), 0, float32(math.Copysign(0, -1)),
	1e-40, -1e-40, math.SmallestNonzeroFloat32, -math.SmallestNonzeroFloat32, math.MaxFloat32, -math.MaxFloat32,
	88.72, 88.73, 89.5, -87.3, -87.4, -103.9, -104.5, -150, 1, -1, 1e-3, -1e-3, 0x1p-126, 3e-5,
}

// close64 tells whether got is want up to rel·|want| + abs; NaN is only NaN.
func close64(got float32, want, rel, abs float64) bool {
	if math.IsNaN(want) || math.IsNaN(float64(got)) {
		return math.IsNaN(want) && got != got
	}
	if r := float32(want); math.IsInf(float64(r), 0) || math.IsInf(float64(got), 0) {
		// A rounding away from the largest number is an infinity.
		return r == got || math.Abs(want) > math.MaxFloat32*(1-rel) && math.Signbit(want) == math.Signbit(float64(got))
	}
	return math.Abs(float64(got)-want) <= rel*math.Abs(want)+abs
}

const canary = 12345.5

// framed returns n numbers from draw at an odd place between canaries.
func framed(n int, draw func(i int) float32) (whole, inner []float32) {
	const margin = 35
	whole = make([]float32, n+2*margin)
	for i := range whole {
		whole[i] = canary
	}
	inner = whole[margin : margin+n : margin+n]
	for i := range inner {
		inner[i] = draw(i)
	}
	return whole, inner
}

func checkFrame(t *testing.T, whole []float32, n int) {
	t.Helper()
	for i, v := range whole {
		if (i < 35 || i >= 35+n) && v != canary {
			t.Fatalf("element %d outside a slice of %d was written", i-35, n)
		}
	}
}

// elementwise is an operation dst[i] = f(in[0][i], in[1][i], …) with the bounds of
// its error against float64.
type elementwise struct {
	name     string
	inputs   int
	run      func(dst []float32, in [][]float32)
	want     func(v []float64) float64
	rel, abs float64
	special  bool // inputs are also special values, else normal numbers
	first    bool // only the last input is special
}

// check compares with float64, in place and out of place, and demands the same bits
// for an element wherever it lies.
func (op elementwise) check(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, n := range sizes() {
		var in [][]float32
		for k := range op.inputs {
			_, x := framed(n, func(int) float32 {
				v := float32(rng.NormFloat64()) * []float32{1, 1, 5, 30}[rng.IntN(4)]
				if op.special && rng.IntN(3) == 0 && (!op.first || k == op.inputs-1) {
					v = specials[rng.IntN(len(specials))]
				}
				return v
			})
			in = append(in, x)
		}
		whole, dst := framed(n, func(int) float32 { return -7 })
		op.run(dst, in)
		checkFrame(t, whole, n)
		for i, got := range dst {
			v := make([]float64, op.inputs)
			for k := range v {
				v[k] = float64(in[k][i])
			}
			if want := op.want(v); !close64(got, want, op.rel, op.abs) {
				t.Fatalf("%s: n %d, element %d of %v: %g, want %g", op.name, n, i, v, got, want)
			}
		}
		if n > 0 {
			op.checkPlace(t, rng, dst, in)
		}
		inPlace := append([]float32(nil), in[0]...)
		op.run(inPlace, append([][]float32{inPlace}, in[1:]...))
		sameBits(t, op.name+" in place", inPlace, dst)
	}
}

// checkPlace runs a part of the slices and expects the bits of the whole.
func (op elementwise) checkPlace(t *testing.T, rng *rand.Rand, dst []float32, in [][]float32) {
	lo := rng.IntN(len(dst))
	hi := lo + rng.IntN(len(dst)-lo+1)
	parts := make([][]float32, len(in))
	for k := range in {
		parts[k] = in[k][lo:hi]
	}
	got := make([]float32, hi-lo)
	op.run(got, parts)
	sameBits(t, op.name+" in part", got, dst[lo:hi])
}

func sameBits(t *testing.T, what string, got, want []float32) {
	t.Helper()
	for i := range want {
		if math.Float32bits(got[i]) != math.Float32bits(want[i]) && (got[i] == got[i] || want[i] == want[i]) {
			t.Fatalf("%s: element %d of %d: %x, want the bits of %x", what, i, len(want), got[i], want[i])
		}
	}
}

const ulp = 1.0 / (1 << 23)

func TestArithmetic(t *testing.T) {
	const alpha = float32(1.7)
	ops := []elementwise{
		{name: "Add", inputs: 2, rel: ulp, special: true,
			run:  func(d []float32, in [][]float32) { Add(d, in[0], in[1]) },
			want: func(v []float64) float64 { return v[0] + v[1] }},
		{name: "Sub", inputs: 2, rel: ulp, special: true,
			run:  func(d []float32, in [][]float32) { Sub(d, in[0], in[1]) },
			want: func(v []float64) float64 { return v[0] - v[1] }},
		{name: "Mul", inputs: 2, rel: ulp, abs: 1e-45, special: true,
			run:  func(d []float32, in [][]float32) { Mul(d, in[0], in[1]) },
			want: func(v []float64) float64 { return v[0] * v[1] }},
		{name: "Scale", inputs: 1, rel: ulp, abs: 1e-45, special: true,
			run:  func(d []float32, in [][]float32) { copy(d, in[0]); Scale(alpha, d) },
			want: func(v []float64) float64 { return float64(alpha) * v[0] }},
		{name: "Axpy", inputs: 2, abs: 200 * ulp,
			run:  func(d []float32, in [][]float32) { copy(d, in[0]); Axpy(alpha, in[1], d) },
			want: func(v []float64) float64 { return v[0] + float64(alpha)*v[1] }},
		{name: "MulAdd", inputs: 3, abs: 20000 * ulp,
			run:  func(d []float32, in [][]float32) { copy(d, in[0]); MulAdd(d, in[1], in[2]) },
			want: func(v []float64) float64 { return v[0] + v[1]*v[2] }},
	}
	eachPath(t, func(t *testing.T) {
		for _, op := range ops {
			op.check(t)
		}
	})
}

// TestSums bounds the error by n/64 roundings and a few of the sum of magnitudes;
// the value must not depend on where the slice lies.
func TestSums(t *testing.T) {
	eachPath(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(3, 4))
		draw := func(int) float32 { return float32(rng.NormFloat64()) }
		for _, n := range append(sizes(), 100003) {
			_, x := framed(n, draw)
			_, y := framed(n, draw)
			var s, m, d, md, q float64
			for i := range x {
				a, b := float64(x[i]), float64(y[i])
				s, m, d, md, q = s+a, m+math.Abs(a), d+a*b, md+math.Abs(a*b), q+a*a
			}
			bound := ulp * (4 + math.Sqrt(float64(n))/16)
			for _, c := range []struct {
				name       string
				f          func(x, y []float32) float32
				want, size float64
			}{
				{"Sum", func(x, _ []float32) float32 { return Sum(x) }, s, m},
				{"Dot", Dot, d, md},
				{"SumSquares", func(x, _ []float32) float32 { return SumSquares(x) }, q, q},
			} {
				got := c.f(x, y)
				if !close64(got, c.want, 0, bound*c.size) {
					t.Fatalf("%s of %d: %g, want %g", c.name, n, got, c.want)
				}
				if again := c.f(append([]float32(nil), x...), append([]float32(nil), y...)); again != got {
					t.Fatalf("%s of %d: %x at one place, %x at another", c.name, n, got, again)
				}
			}
		}
	})
}

func TestSumsKeepSpecialValues(t *testing.T) {
	inf := float32(math.Inf(1))
	eachPath(t, func(t *testing.T) {
		for _, n := range []int{1, 7, 16, 33, 64, 99} {
			for at := range n {
				x := make([]float32, n)
				x[at] = inf
				if Sum(x) != inf || SumSquares(x) != inf {
					t.Fatalf("an infinity at %d of %d is lost", at, n)
				}
				x[at] = float32(math.NaN())
				if s, q, d := Sum(x), SumSquares(x), Dot(x, make([]float32, n)); s == s || q == q || d == d {
					t.Fatalf("NaN at %d of %d is lost", at, n)
				}
			}
		}
	})
}

func TestExtremes(t *testing.T) {
	eachPath(t, func(t *testing.T) {
		if m := Max(nil); !math.IsInf(float64(m), -1) {
			t.Errorf("Max of nothing is %g", m)
		}
		if m := AbsMax(nil); m != 0 {
			t.Errorf("AbsMax of nothing is %g", m)
		}
		rng := rand.New(rand.NewPCG(5, 6))
		for _, n := range sizes()[1:] {
			_, x := framed(n, func(int) float32 { return float32(rng.NormFloat64()) - 4 })
			at := rng.IntN(n)
			x[at] = 3
			if m := Max(x); m != 3 {
				t.Fatalf("Max of %d: %g, want 3", n, m)
			}
			x[at] = -300
			if m := AbsMax(x); m != 300 {
				t.Fatalf("AbsMax of %d: %g, want 300", n, m)
			}
			for _, nan := range []uint32{0x7fc00000, 0xffc00000, 0x7f800001, 0xffffffff} {
				x[at] = math.Float32frombits(nan)
				if m, a := Max(x), AbsMax(x); m == m || a == a {
					t.Fatalf("NaN %x at %d of %d: Max %g, AbsMax %g", nan, at, n, m, a)
				}
			}
			for i := range x {
				x[i] = float32(math.Inf(-1))
			}
			if m, a := Max(x), AbsMax(x); !math.IsInf(float64(m), -1) || !math.IsInf(float64(a), 1) {
				t.Fatalf("of %d negative infinities: Max %g, AbsMax %g", n, m, a)
			}
		}
	})
}

func TestShortSlicesPanic(t *testing.T) {
	long, short := make([]float32, 40), make([]float32, 39)
	words := make([]uint16, 39)
	eachPath(t, func(t *testing.T) {
		for name, f := range map[string]func(){
			"Dot":             func() { Dot(long, short) },
			"Axpy":            func() { Axpy(1, long, short) },
			"Add":             func() { Add(long, long, short) },
			"Exp":             func() { Exp(long, short) },
			"SiLUMulBackward": func() { SiLUMulBackward(long, long, long, long, short) },
			"AttentionGrad":   func() { AttentionGrad(long, short, 0, 1) },
			"RMSNorm":         func() { RMSNorm(long, long, short, 0) },
			"RMSNormBackward": func() { RMSNormBackward(long, short, long, long, long, 1) },
			"LayerNorm":       func() { LayerNorm(long, long, long, short, 0) },
			"RoPE":            func() { RoPE(long, short[:19:19], long) },
			"AdamW":           func() { AdamW(long, long, short, long, 1, 0, 0, 0, 0, 1, 1) },
			"BF16ToF32":       func() { BF16ToF32(long, words) },
			"F32ToF16":        func() { F32ToF16(words, short[:38:38]) },
		} {
			func() {
				defer func() {
					if recover() == nil {
						t.Errorf("%s accepts a slice that is too short", name)
					}
				}()
				f()
			}()
		}
	})
}

// benchPaths measures f on every path, bytes being what one call moves.
func benchPaths(b *testing.B, elements, bytes int, f func()) {
	was := Path()
	defer func() { _ = SetPath(was) }()
	for _, name := range Paths() {
		b.Run(fmt.Sprintf("%s/%d", name, elements), func(b *testing.B) {
			if err := SetPath(name); err != nil {
				b.Fatal(err)
			}
			f() // touches fresh pages
			b.SetBytes(int64(bytes))
			for b.Loop() {
				f()
			}
			b.ReportMetric(float64(elements)*float64(b.N)/float64(b.Elapsed().Nanoseconds()), "elem/ns")
		})
	}
}

// benchSizes fit the nearest cache, and none.
var benchSizes = []int{1024, 1 << 22}

func noise(n int) []float32 {
	rng := rand.New(rand.NewPCG(7, 8))
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(rng.NormFloat64())
	}
	return x
}

func BenchmarkDot(b *testing.B) {
	for _, n := range benchSizes {
		x, y := noise(n), noise(n)
		benchPaths(b, n, 8*n, func() { Dot(x, y) })
	}
}

func BenchmarkAxpy(b *testing.B) {
	for _, n := range benchSizes {
		x, y := noise(n), noise(n)
		benchPaths(b, n, 12*n, func() { Axpy(1e-9, x, y) })
	}
}

func BenchmarkMax(b *testing.B) {
	for _, n := range benchSizes {
		x := noise(n)
		benchPaths(b, n, 4*n, func() { Max(x) })
	}
}
