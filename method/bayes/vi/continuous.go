package vi

import (
	"math"
	"math/rand/v2"

	"tare/engine/grad"
)

// Normal has independent columns with mean μ = Mean and standard deviation σ = e^LogScale.
type Normal struct{ Mean, LogScale *grad.Value }

// Cols is the wider of the parameters.
func (d Normal) Cols() int { return max(d.Mean.Cols, d.LogScale.Cols) }

// Outside accepts every finite number.
func (d Normal) Outside(x []float32) int { return first(x, isFinite) }

// Noise draws ε ~ N(0, 1).
func (d Normal) Noise(rng *rand.Rand, dst []float32) {
	for i := range dst {
		dst[i] = float32(rng.NormFloat64())
	}
}

// Transform returns μ + σε.
func (d Normal) Transform(tp *grad.Tape, noise *grad.Value) *grad.Value {
	return tp.Add(d.Mean, tp.Mul(noise, tp.Exp(d.LogScale)))
}

// Draw draws without a gradient.
func (d Normal) Draw(rng *rand.Rand, dst []float32) {
	each(dst, d.Cols(), func(r, c int) float64 {
		return entry(d.Mean, r, c) + math.Exp(entry(d.LogScale, r, c))*rng.NormFloat64()
	})
}

// LogDensity is −Σ u²/2 + log σ + log(2π)/2 with u = (x−μ)/σ.
func (d Normal) LogDensity(tp *grad.Tape, x *grad.Value) *grad.Value {
	u := tp.Mul(tp.Sub(x, d.Mean), tp.Exp(tp.Scale(d.LogScale, -1)))
	squares := tp.Scale(tp.SumCols(tp.Mul(u, u)), -0.5)
	constant := scalar(tp, -0.5*math.Log(2*math.Pi)*float64(u.Cols))
	return tp.Add(tp.Sub(squares, sumTo(tp, d.LogScale, u.Cols)), constant)
}

// Phantoms follows Mohamed, Rosca, Figurnov and Mnih (2020), table 1, with W ~ Rayleigh and
// M a double-sided Maxwell:
//
//	∂/∂μ E k = E[k(μ+σW) − k(μ−σW)] / (σ√(2π)),   σ ∂/∂σ E k = E[k(μ+σM) − k(x)].
//
// M is drawn with the x that it is compared to: from u = MU with U uniform it follows that
// M² = u² + 2E with E ~ Exp(1), and M has the sign of u.
func (d Normal) Phantoms(tp *grad.Tape, rng *rand.Rand, x []float32) []Phantom {
	cols := d.Cols()
	rows := len(x) / cols
	var out []Phantom
	for c := range cols {
		up, down, wide := clone(x), clone(x), clone(x)
		plus, minus := make([]float32, rows), make([]float32, rows)
		for r := range rows {
			m, s := entry(d.Mean, r, c), math.Exp(entry(d.LogScale, r, c))
			at := r*cols + c
			w := math.Sqrt(2 * rng.ExpFloat64())
			up[at], down[at] = float32(m+s*w), float32(m-s*w)
			plus[r] = float32(1 / (s * math.Sqrt(2*math.Pi)))
			minus[r] = -plus[r]
			u := (float64(x[at]) - m) / s
			wide[at] = float32(m + s*math.Copysign(math.Sqrt(u*u+2*rng.ExpFloat64()), u))
		}
		mean, scale := column(tp, d.Mean, c), column(tp, d.LogScale, c)
		out = append(out, Phantom{Theta: mean, X: up, Weight: plus}, Phantom{Theta: mean, X: down, Weight: minus},
			Phantom{Theta: scale, X: wide, Weight: filled(rows, 1), Own: filled(rows, -1)})
	}
	return out
}

func clone(x []float32) []float32 { return append([]float32(nil), x...) }

// Exponential has independent columns with rate λ = e^LogRate.
type Exponential struct{ LogRate *grad.Value }

// Cols is that of the rate.
func (d Exponential) Cols() int { return d.LogRate.Cols }

// Outside accepts finite numbers that are not negative.
func (d Exponential) Outside(x []float32) int {
	return first(x, func(v float32) bool { return v >= 0 && isFinite(v) })
}

// Noise draws ε ~ Exp(1).
func (d Exponential) Noise(rng *rand.Rand, dst []float32) {
	for i := range dst {
		dst[i] = float32(rng.ExpFloat64())
	}
}

// Transform returns ε/λ.
func (d Exponential) Transform(tp *grad.Tape, noise *grad.Value) *grad.Value {
	return tp.Mul(noise, tp.Exp(tp.Scale(d.LogRate, -1)))
}

// Draw draws without a gradient.
func (d Exponential) Draw(rng *rand.Rand, dst []float32) {
	each(dst, d.Cols(), func(r, c int) float64 { return rng.ExpFloat64() / math.Exp(entry(d.LogRate, r, c)) })
}

// LogDensity is Σ log λ − λx.
func (d Exponential) LogDensity(tp *grad.Tape, x *grad.Value) *grad.Value {
	return tp.SumCols(tp.Sub(d.LogRate, tp.Mul(tp.Exp(d.LogRate), x)))
}

// Phantoms: λ ∂/∂λ E k = E[k(x) − k(x + x')] with x' drawn as x is, for ∂(λe^−λx)/∂λ is
// 1/λ times the density of x less that of x + x'.
func (d Exponential) Phantoms(tp *grad.Tape, rng *rand.Rand, x []float32) []Phantom {
	cols := d.Cols()
	rows := len(x) / cols
	var out []Phantom
	for c := range cols {
		longer := clone(x)
		for r := range rows {
			longer[r*cols+c] += float32(rng.ExpFloat64() / math.Exp(entry(d.LogRate, r, c)))
		}
		out = append(out, Phantom{Theta: column(tp, d.LogRate, c), X: longer, Weight: filled(rows, -1), Own: filled(rows, 1)})
	}
	return out
}
