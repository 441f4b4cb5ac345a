package kernel

import (
	"math"
	"math/rand/v2"
	"testing"
)

// small64 is the value of a 16-bit pattern with the given number of fraction bits,
// from the definition.
func small64(b uint16, fraction int) float64 {
	exponentBits := 15 - fraction
	bias := 1<<(exponentBits-1) - 1
	e, f := int(b&0x7fff)>>fraction, float64(int(b)&(1<<fraction-1))
	v := 0.0
	switch {
	case e == 1<<exponentBits-1 && f != 0:
		return math.NaN()
	case e == 1<<exponentBits-1:
		v = math.Inf(1)
	case e == 0:
		v = math.Ldexp(f, 1-bias-fraction)
	default:
		v = math.Ldexp(f+float64(int(1)<<fraction), e-bias-fraction)
	}
	if b>>15 == 1 {
		v = math.Copysign(v, -1)
	}
	return v
}

// round64 finds the pattern nearest to x, ties to the even one, by searching the
// increasing values of positive patterns. An infinity stands where the next power
// of two would, as IEEE 754 has it.
func round64(x float64, fraction int) uint16 {
	a := math.Abs(x)
	infinite := uint16(1<<15 - 1<<fraction)
	value := func(b uint16) float64 {
		if b == infinite {
			return 2 * small64(infinite-1<<fraction, fraction)
		}
		return small64(b, fraction)
	}
	lo, hi := uint16(0), infinite
	for lo < hi { // the smallest pattern whose value is at least a
		mid := (lo + hi) / 2
		if value(mid) < a {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo > 0 && a < value(lo) {
		below, above := a-value(lo-1), value(lo)-a
		if below < above || below == above && lo%2 == 1 {
			lo--
		}
	}
	if math.Signbit(x) {
		lo |= 1 << 15
	}
	return lo
}

var smallTypes = []struct {
	name     string
	fraction int
	widen    func([]float32, []uint16)
	round    func([]uint16, []float32)
}{{"f16", 10, F16ToF32, F32ToF16}, {"bf16", 7, BF16ToF32, F32ToBF16}}

func TestEveryPatternWidens(t *testing.T) {
	eachPath(t, func(t *testing.T) {
		for _, c := range smallTypes {
			src, wide, back := make([]uint16, 1<<16), make([]float32, 1<<16), make([]uint16, 1<<16)
			for i := range src {
				src[i] = uint16(i)
			}
			c.widen(wide, src)
			c.round(back, wide)
			for i, v := range wide {
				want := small64(src[i], c.fraction)
				if !close64(v, want, 0, 0) || want == want && math.Signbit(want) != math.Signbit(float64(v)) {
					t.Fatalf("%s %04x: %g, want %g", c.name, i, v, want)
				}
				switch again := small64(back[i], c.fraction); {
				case want != want && again == again:
					t.Fatalf("%s: NaN %04x comes back as %g", c.name, i, again)
				case want == want && back[i] != src[i]:
					t.Fatalf("%s: %04x comes back as %04x", c.name, i, back[i])
				}
			}
		}
	})
}

// roundingCases are random numbers of all magnitudes, and every kind of tie with
// its neighbours.
func roundingCases() []float32 {
	rng := rand.New(rand.NewPCG(23, 24))
	var x []float32
	for range 20000 {
		if v := math.Float32frombits(rng.Uint32()); v == v {
			x = append(x, v)
		}
		x = append(x, float32(rng.NormFloat64()*math.Exp(rng.NormFloat64()*4)))
	}
	for range 20000 {
		b := uint32(rng.Uint32()) &^ 0xffff
		for _, tie := range []uint32{b | 0x8000, b&^0x1fff | 0x1000, b &^ 0x1fff} {
			for _, d := range []int32{-1, 0, 1} {
				if v := math.Float32frombits(tie + uint32(d)); v == v {
					x = append(x, v)
				}
			}
		}
	}
	for k := range 2100 { // halves of f16's subnormal unit, 2⁻²⁵
		x = append(x, float32(math.Ldexp(float64(k), -25)), -float32(math.Ldexp(float64(k), -25)))
	}
	return append(x, 65503.996, 65504, 65519.996, 65520, 65536, math.MaxFloat32, -math.MaxFloat32,
		float32(math.Inf(1)), float32(math.Inf(-1)), 0, float32(math.Copysign(0, -1)), math.SmallestNonzeroFloat32)
}

func TestRoundingToSixteenBits(t *testing.T) {
	x := roundingCases()
	got := make([]uint16, len(x))
	eachPath(t, func(t *testing.T) {
		for _, c := range smallTypes {
			c.round(got, x)
			for i, v := range x {
				if want := round64(float64(v), c.fraction); got[i] != want {
					t.Fatalf("%s of %g (%08x): %04x, want %04x", c.name, v, math.Float32bits(v), got[i], want)
				}
			}
		}
	})
}

func TestConversionLengths(t *testing.T) {
	const margin, mark = 9, 0x5a5a
	eachPath(t, func(t *testing.T) {
		for _, c := range smallTypes {
			for n := range 150 {
				x := noise(n)
				if n > 3 {
					x[n-2] = float32(math.NaN())
				}
				words := make([]uint16, n+2*margin)
				for i := range words {
					words[i] = mark
				}
				c.round(words[margin:margin+n], x)
				whole, wide := framed(n, func(int) float32 { return 0 })
				c.widen(wide, words[margin:])
				checkFrame(t, whole, n)
				for i := range words {
					at := i - margin
					switch {
					case at < 0 || at >= n:
						if words[i] != mark {
							t.Fatalf("%s: element %d outside a slice of %d was written", c.name, at, n)
						}
					case x[at] != x[at]:
						if wide[at] == wide[at] {
							t.Fatalf("%s: n %d: NaN at %d is lost", c.name, n, at)
						}
					case words[i] != round64(float64(x[at]), c.fraction) || float64(wide[at]) != small64(words[i], c.fraction):
						t.Fatalf("%s: n %d, element %d: %g became %04x and %g", c.name, n, at, x[at], words[i], wide[at])
					}
				}
			}
		}
	})
}

func BenchmarkF32ToBF16(b *testing.B) {
	for _, n := range benchSizes {
		x, y := noise(n), make([]uint16, n)
		benchPaths(b, n, 6*n, func() { F32ToBF16(y, x) })
	}
}

func BenchmarkBF16ToF32(b *testing.B) {
	for _, n := range benchSizes {
		x, y := make([]float32, n), make([]uint16, n)
		benchPaths(b, n, 6*n, func() { BF16ToF32(x, y) })
	}
}

func BenchmarkF32ToF16(b *testing.B) {
	n := benchSizes[0]
	x, y := noise(n), make([]uint16, n)
	benchPaths(b, n, 6*n, func() { F32ToF16(y, x) })
}
