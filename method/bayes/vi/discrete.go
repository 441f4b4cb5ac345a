package vi

import (
	"math"
	"math/rand/v2"

	"gonum.org/v1/gonum/stat/distuv"

	"tare/engine/grad"
)

// Bernoulli has independent columns of 0 and 1 with p = σ(Logits).
type Bernoulli struct{ Logits *grad.Value }

// Cols is that of the logits.
func (d Bernoulli) Cols() int { return d.Logits.Cols }

// Outside accepts 0 and 1.
func (d Bernoulli) Outside(x []float32) int {
	for i, v := range x {
		if v != 0 && v != 1 {
			return i
		}
	}
	return -1
}

// Draw draws without a gradient.
func (d Bernoulli) Draw(rng *rand.Rand, dst []float32) {
	each(dst, d.Cols(), func(r, c int) float64 {
		if rng.Float64() < 1/(1+math.Exp(-entry(d.Logits, r, c))) {
			return 1
		}
		return 0
	})
}

// LogDensity is Σ xl − log(1 + e^l).
func (d Bernoulli) LogDensity(tp *grad.Tape, x *grad.Value) *grad.Value {
	return tp.SumCols(tp.Sub(tp.Mul(x, d.Logits), tp.Softplus(d.Logits)))
}

// Values is 2^Cols; more than 2^30 count as that.
func (d Bernoulli) Values() int { return 1 << min(d.Cols(), 30) }

// Value writes the bits of v.
func (d Bernoulli) Value(v int, row []float32) {
	for c := range row {
		row[c] = float32(v >> c & 1)
	}
}

// Phantoms: ∂/∂p E k = k(x with a 1) − k(x with a 0), of which the draw is one.
func (d Bernoulli) Phantoms(tp *grad.Tape, _ *rand.Rand, x []float32) []Phantom {
	cols := d.Cols()
	rows := len(x) / cols
	p := tp.Sigmoid(d.Logits)
	var out []Phantom
	for c := range cols {
		flipped, weight, own := clone(x), make([]float32, rows), make([]float32, rows)
		for r := range rows {
			at := r*cols + c
			flipped[at] = 1 - x[at]
			own[r] = 2*x[at] - 1
			weight[r] = -own[r]
		}
		out = append(out, Phantom{Theta: column(tp, p, c), X: flipped, Weight: weight, Own: own})
	}
	return out
}

// Categorical is one number from 0 to n−1 with probabilities softmax(Logits), Logits
// [rows or 1, n].
type Categorical struct{ Logits *grad.Value }

// Cols is 1.
func (d Categorical) Cols() int { return 1 }

// Outside accepts 0 to n−1.
func (d Categorical) Outside(x []float32) int {
	return first(x, func(v float32) bool { return isCount(v) && int(v) < d.Logits.Cols })
}

// Draw picks the largest of the logits with Gumbel noise.
func (d Categorical) Draw(rng *rand.Rand, dst []float32) {
	for r := range dst {
		best := math.Inf(-1)
		for c := range d.Logits.Cols {
			if g := entry(d.Logits, r, c) - math.Log(rng.ExpFloat64()); g > best {
				dst[r], best = float32(c), g
			}
		}
	}
}

// LogDensity is l_x − log Σ e^l.
func (d Categorical) LogDensity(tp *grad.Tape, x *grad.Value) *grad.Value {
	n := d.Logits.Cols
	at := OneHot(tp, x, n)
	picked := tp.SumCols(tp.Mul(at, d.Logits))
	top := make([]float32, d.Logits.Rows)
	for r := range top {
		top[r] = float32(math.Inf(-1))
		for _, v := range d.Logits.Data[r*n : (r+1)*n] {
			top[r] = max(top[r], v)
		}
	}
	shift := tp.Const(top, len(top), 1)
	sum := tp.Add(tp.Log(tp.SumCols(tp.Exp(tp.Sub(d.Logits, shift)))), shift)
	return tp.Sub(picked, sum)
}

// Values is n.
func (d Categorical) Values() int { return d.Logits.Cols }

// Value writes v.
func (d Categorical) Value(v int, row []float32) { row[0] = float32(v) }

// Phantoms: ∂/∂p_v E k = k(v) − k(x); the second is what the gradients of all p, which sum
// to zero, leave free.
func (d Categorical) Phantoms(tp *grad.Tape, _ *rand.Rand, x []float32) []Phantom {
	p := tp.Softmax(d.Logits)
	var out []Phantom
	for v := range d.Logits.Cols {
		out = append(out, Phantom{Theta: column(tp, p, v), X: filled(len(x), float32(v)), Weight: filled(len(x), 1), Own: filled(len(x), -1)})
	}
	return out
}

// OneHot returns the rows of the unit matrix that x [rows, 1] names, as weights with
// which a program chooses for each of its copies.
func OneHot(tp *grad.Tape, x *grad.Value, n int) *grad.Value {
	at := make([]float32, x.Rows*n)
	for r := range x.Rows {
		if c := int(x.Data[r]); c >= 0 && c < n {
			at[r*n+c] = 1
		}
	}
	return tp.Const(at, x.Rows, n)
}

// Poisson has independent columns of counts with mean λ = e^LogRate.
type Poisson struct{ LogRate *grad.Value }

// Cols is that of the rate.
func (d Poisson) Cols() int { return d.LogRate.Cols }

// Outside accepts 0, 1, 2, …
func (d Poisson) Outside(x []float32) int { return first(x, isCount) }

// Draw draws without a gradient.
func (d Poisson) Draw(rng *rand.Rand, dst []float32) {
	each(dst, d.Cols(), func(r, c int) float64 {
		return distuv.Poisson{Lambda: math.Exp(entry(d.LogRate, r, c)), Src: rng}.Rand()
	})
}

// LogDensity is Σ x log λ − λ − log x!.
func (d Poisson) LogDensity(tp *grad.Tape, x *grad.Value) *grad.Value {
	factorials := make([]float32, len(x.Data))
	each(factorials, x.Cols, func(r, c int) float64 {
		v, _ := math.Lgamma(entry(x, r, c) + 1)
		return v
	})
	terms := tp.Sub(tp.Mul(x, d.LogRate), tp.Exp(d.LogRate))
	return tp.SumCols(tp.Sub(terms, tp.Const(factorials, x.Rows, x.Cols)))
}

// Phantoms: λ ∂/∂λ E k = λ E[k(x+1) − k(x)].
func (d Poisson) Phantoms(tp *grad.Tape, _ *rand.Rand, x []float32) []Phantom {
	cols := d.Cols()
	rows := len(x) / cols
	rate := tp.Exp(d.LogRate)
	var out []Phantom
	for c := range cols {
		more := clone(x)
		for r := range rows {
			more[r*cols+c]++
		}
		out = append(out, Phantom{Theta: column(tp, rate, c), X: more, Weight: filled(rows, 1), Own: filled(rows, -1)})
	}
	return out
}
