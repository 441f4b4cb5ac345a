package kernel

import (
	"math"
	"math/rand/v2"
	"testing"
)

// adamW64 is the rule as the paper (arXiv:1711.05101) has it, on one number.
func adamW64(w, g, m, v, lr, beta1, beta2, eps, decay, c1, c2 float64) (w1, m1, v1 float64) {
	m = beta1*m + (1-beta1)*g
	v = beta2*v + (1-beta2)*g*g
	return w - lr*decay*w - lr*(m/c1)/(math.Sqrt(v/c2)+eps), m, v
}

func TestAdamW(t *testing.T) {
	const lr, beta1, beta2, eps, decay = 1e-3, 0.9, 0.999, 1e-8, 0.1
	eachPath(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(21, 22))
		draw := func(int) float32 { return float32(rng.NormFloat64()) }
		for _, n := range sizes() {
			ww, w := framed(n, draw)
			_, g := framed(n, func(i int) float32 {
				if i%5 == 4 {
					return 0 // whose moments stay 0: eps alone keeps the quotient finite
				}
				return draw(i)
			})
			wm, m := framed(n, func(int) float32 { return 0 })
			wv, v := framed(n, func(int) float32 { return 0 })
			w64, m64, v64 := make([]float64, n), make([]float64, n), make([]float64, n)
			for i := range w {
				w64[i] = float64(w[i])
			}
			for step := 1.0; step <= 3; step++ {
				c1, c2 := 1-math.Pow(beta1, step), 1-math.Pow(beta2, step)
				AdamW(w, g, m, v, lr, beta1, beta2, eps, decay, float32(c1), float32(c2))
				for i := range w {
					w64[i], m64[i], v64[i] = adamW64(w64[i], float64(g[i]), m64[i], v64[i], lr, beta1, beta2, eps, decay, c1, c2)
				}
			}
			checkFrame(t, ww, n)
			checkFrame(t, wm, n)
			checkFrame(t, wv, n)
			for i := range w {
				// 1−beta2 in float32 is off by 1.3e-5 of itself.
				if !close64(w[i], w64[i], 4*ulp, 2e-7) || !close64(m[i], m64[i], 1e-6, 1e-7) || !close64(v[i], v64[i], 3e-5, 0) {
					t.Fatalf("n %d, element %d: w %g m %g v %g, want %g %g %g", n, i, w[i], m[i], v[i], w64[i], m64[i], v64[i])
				}
			}
		}
	})
}

// TestAdamWInParts: work is split between threads anywhere.
func TestAdamWInParts(t *testing.T) {
	eachPath(t, func(t *testing.T) {
		const n = 203
		run := func(cuts ...int) []float32 {
			w, g, m, v := noise(n), noise(n), noise(n), make([]float32, n)
			for i := 0; i+1 < len(cuts); i++ {
				a, b := cuts[i], cuts[i+1]
				AdamW(w[a:b], g[a:b], m[a:b], v[a:b], 1e-2, 0.9, 0.99, 1e-8, 0.01, 0.1, 0.01)
			}
			return w
		}
		sameBits(t, "AdamW in parts", run(0, 1, 18, 101, 102, 190, n), run(0, n))
	})
}

func BenchmarkAdamW(b *testing.B) {
	for _, n := range benchSizes {
		w, g, m, v := noise(n), noise(n), noise(n), make([]float32, n)
		benchPaths(b, n, 28*n, func() { AdamW(w, g, m, v, 1e-6, 0.9, 0.999, 1e-8, 0.01, 0.5, 0.5) })
	}
}
