package kernel

import (
	"math"
	"math/rand/v2"
	"testing"
)

// normRow is a row with what its normalization needs, in both precisions.
type normRow struct {
	x, w, b, dy         []float32
	x64, w64, b64, dy64 []float64
}

func drawRow(rng *rand.Rand, n int, offset float64) normRow {
	draw := func(shift float64) ([]float32, []float64) {
		_, v := framed(n, func(int) float32 { return float32(rng.NormFloat64() + shift) })
		w := make([]float64, n)
		for i := range v {
			w[i] = float64(v[i])
		}
		return v, w
	}
	var r normRow
	r.x, r.x64 = draw(offset)
	r.w, r.w64 = draw(1)
	r.b, r.b64 = draw(0)
	r.dy, r.dy64 = draw(0)
	return r
}

const normEps = 1e-5

// rms64 and layer64 are the definitions, for one row.
func rms64(x, w []float64) []float64 {
	var q float64
	for _, v := range x {
		q += v * v
	}
	r := 1 / math.Sqrt(q/float64(len(x))+normEps)
	y := make([]float64, len(x))
	for i, v := range x {
		y[i] = v * r * w[i]
	}
	return y
}

func layer64(x, w, b []float64) []float64 {
	var m, q float64
	for _, v := range x {
		m += v / float64(len(x))
	}
	for _, v := range x {
		q += (v - m) * (v - m) / float64(len(x))
	}
	r := 1 / math.Sqrt(q+normEps)
	y := make([]float64, len(x))
	for i, v := range x {
		y[i] = (v-m)*r*w[i] + b[i]
	}
	return y
}

// slope64 is the derivative of Σ dy·f(v) by v[i], by central differences.
func slope64(v, dy []float64, i int, f func() []float64) float64 {
	const h = 1e-5
	total := func() (s float64) {
		for j, y := range f() {
			s += dy[j] * y
		}
		return s
	}
	was := v[i]
	v[i] = was + h
	up := total()
	v[i] = was - h
	down := total()
	v[i] = was
	return (up - down) / (2 * h)
}

func checkClose(t *testing.T, what string, got []float32, want []float64, abs float64) {
	t.Helper()
	for i, v := range got {
		if !close64(v, want[i], 8*ulp, abs) {
			t.Fatalf("%s: element %d of %d: %g, want %g", what, i, len(got), v, want[i])
		}
	}
}

func TestNorms(t *testing.T) {
	eachPath(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(13, 14))
		for _, n := range sizes()[1:] {
			r := drawRow(rng, n, 0)
			whole, y := framed(n, func(int) float32 { return 0 })
			RMSNorm(y, r.x, r.w, normEps)
			checkFrame(t, whole, n)
			checkClose(t, "RMSNorm", y, rms64(r.x64, r.w64), 1e-7)
			x := append([]float32(nil), r.x...)
			RMSNorm(x, x, r.w, normEps)
			sameBits(t, "RMSNorm in place", x, y)

			LayerNorm(y, r.x, r.w, r.b, normEps)
			checkFrame(t, whole, n)
			checkClose(t, "LayerNorm", y, layer64(r.x64, r.w64, r.b64), 3e-6)
			x = append(x[:0], r.x...)
			LayerNorm(x, x, r.w, r.b, normEps)
			sameBits(t, "LayerNorm in place", x, y)
		}
	})
}

// TestLayerNormOfLargeMean: subtracting before squaring keeps the variance.
func TestLayerNormOfLargeMean(t *testing.T) {
	eachPath(t, func(t *testing.T) {
		r := drawRow(rand.New(rand.NewPCG(15, 16)), 333, 1000)
		y := make([]float32, 333)
		LayerNorm(y, r.x, r.w, nil, normEps)
		checkClose(t, "LayerNorm", y, layer64(r.x64, r.w64, make([]float64, 333)), 2e-3)
	})
}

func TestNormGradients(t *testing.T) {
	eachPath(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(17, 18))
		for _, n := range []int{1, 2, 7, 8, 15, 16, 17, 33, 63, 67, 130} {
			r := drawRow(rng, n, 0.3)
			rms := func() []float64 { return rms64(r.x64, r.w64) }
			layer := func() []float64 { return layer64(r.x64, r.w64, r.b64) }
			var want [5][]float64
			for i := range n {
				want[0] = append(want[0], slope64(r.x64, r.dy64, i, rms))
				want[1] = append(want[1], 1+slope64(r.w64, r.dy64, i, rms))
				want[2] = append(want[2], slope64(r.x64, r.dy64, i, layer))
				want[3] = append(want[3], 1+slope64(r.w64, r.dy64, i, layer))
				want[4] = append(want[4], 1+slope64(r.b64, r.dy64, i, layer))
			}
			ones := func() ([]float32, []float32) { return framed(n, func(int) float32 { return 1 }) }
			const abs = 3e-5 // of a derivative by differences; single rows of equal entries have slopes up to 1/√eps

			y := make([]float32, n)
			rstd := RMSNorm(y, r.x, r.w, normEps)
			wx, dx := ones()
			ww, dw := ones()
			RMSNormBackward(dx, dw, r.dy, r.x, r.w, rstd)
			checkFrame(t, wx, n)
			checkFrame(t, ww, n)
			checkClose(t, "RMSNorm dx", dx, want[0], abs)
			checkClose(t, "RMSNorm dw", dw, want[1], abs)
			dy := append([]float32(nil), r.dy...)
			RMSNormBackward(dy, nil, dy, r.x, r.w, rstd)
			sameBits(t, "RMSNorm dx in place", dy, dx)

			mean, rstd := LayerNorm(y, r.x, r.w, r.b, normEps)
			wx, dx = ones()
			ww, dw = ones()
			wb, db := ones()
			LayerNormBackward(dx, dw, db, r.dy, r.x, r.w, mean, rstd)
			checkFrame(t, wx, n)
			checkFrame(t, ww, n)
			checkFrame(t, wb, n)
			if n > 2 { // fewer leave nothing of x but rounding, times 1/√eps
				checkClose(t, "LayerNorm dx", dx, want[2], abs)
			}
			checkClose(t, "LayerNorm dw", dw, want[3], abs)
			checkClose(t, "LayerNorm db", db, want[4], abs)
			dy = append(dy[:0], r.dy...)
			LayerNormBackward(dy, nil, nil, dy, r.x, r.w, mean, rstd)
			sameBits(t, "LayerNorm dx in place", dy, dx)
		}
	})
}

// TestRoPE: a rotation by complex multiplication, and back.
func TestRoPE(t *testing.T) {
	eachPath(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(19, 20))
		for h := range 70 {
			whole, x := framed(2*h, func(int) float32 { return float32(rng.NormFloat64()) })
			was := append([]float32(nil), x...)
			cos, sin, back := make([]float32, h), make([]float32, h), make([]float32, h)
			for i := range cos {
				s, c := math.Sincos(rng.Float64() * 100)
				cos[i], sin[i], back[i] = float32(c), float32(s), -float32(s)
			}
			RoPE(x, cos, sin)
			checkFrame(t, whole, 2*h)
			for i := range h {
				z := complex(float64(was[i]), float64(was[i+h])) * complex(float64(cos[i]), float64(sin[i]))
				if !close64(x[i], real(z), ulp, 1e-6) || !close64(x[i+h], imag(z), ulp, 1e-6) {
					t.Fatalf("h %d, pair %d: %g, %g, want %g", h, i, x[i], x[i+h], z)
				}
			}
			RoPE(x, cos, back)
			for i := range x {
				if !close64(x[i], float64(was[i]), 0, 2e-6) {
					t.Fatalf("h %d: rotated there and back, element %d is %g, was %g", h, i, x[i], was[i])
				}
			}
		}
	})
}

func BenchmarkRMSNorm(b *testing.B) {
	for _, n := range []int{256, 4096} {
		x, w, y := noise(n), noise(n), make([]float32, n)
		benchPaths(b, n, 8*n, func() { RMSNorm(y, x, w, normEps) })
	}
}

func BenchmarkRMSNormBackward(b *testing.B) {
	for _, n := range []int{256, 4096} {
		x, w, dy, dw, dx := noise(n), noise(n), noise(n), noise(n), make([]float32, n)
		benchPaths(b, n, 20*n, func() { RMSNormBackward(dx, dw, dy, x, w, 1e-6) })
	}
}
