package stats

import (
	"math"

	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"
)

// unrelated is the target of shrinkage: Γ of parts that are independent before they become
// shares, with the diagonal of the given Γ where that is possible. With G = I − 11ᵀ/D and
// v the variances of the logs,
//
//	(G·diag(v)·G)_ii = v_i (1 − 2/D) + Σv/D²,
//
// whose sum gives Σv = Σγ_ii / (1 − 1/D), and then v_i, held above a hundredth of their
// mean.
func unrelated(gamma *mat.SymDense) *mat.SymDense {
	d := gamma.SymmetricDim()
	size := float64(d)
	total := mat.Trace(gamma) / (1 - 1/size)
	v := make([]float64, d)
	for i := range v {
		v[i] = math.Max((gamma.At(i, i)-total/(size*size))/(1-2/size), 0.01*total/size)
	}
	total = floats.Sum(v)
	t := mat.NewSymDense(d, nil)
	for a := range d {
		for b := a; b < d; b++ {
			x := total/(size*size) - (v[a]+v[b])/size
			if a == b {
				x += v[a]
			}
			t.SetSym(a, b, x)
		}
	}
	return t
}

// shrinkage estimates how far to go from Γ to a target T, by Schäfer and Strimmer (2005):
// the variance of Γ's entries over their squared distance,
//
//	Σ_{i≠k} Var(γ_ik) / Σ_{i≠k} (γ_ik − t_ik)²,
//
// held to [0, 1]. The variance is of a mean over rows of w = (z_i − z̄_i)(z_k − z̄_k).
func shrinkage(c *Composition, gamma, target *mat.SymDense) float64 {
	rows, d := c.CLR.Dims()
	n := float64(rows)
	var spread, distance float64
	for a := range d {
		for b := range a {
			mean := gamma.At(a, b) * (n - 1) / n
			var ss float64
			for i := range rows {
				w := (c.CLR.At(i, a) - c.Mean[a]) * (c.CLR.At(i, b) - c.Mean[b])
				ss += (w - mean) * (w - mean)
			}
			spread += n / math.Pow(n-1, 3) * ss
			distance += square(gamma.At(a, b) - target.At(a, b))
		}
	}
	if distance == 0 {
		return 1
	}
	return math.Min(1, spread/distance)
}

// blend is (1 − s)·a + s·b.
func blend(a, b *mat.SymDense, s float64) *mat.SymDense {
	var x, y, out mat.SymDense
	x.ScaleSym(1-s, a)
	y.ScaleSym(s, b)
	out.AddSym(&x, &y)
	return &out
}
