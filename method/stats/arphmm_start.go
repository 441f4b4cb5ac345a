package stats

import (
	"math"
	"math/rand/v2"
)

// begin makes a model to climb from. States that may return start as clusters of the
// windows [y_{t−p}, …, y_t], found by k-means; states that follow one another as equal
// parts of every sequence. Clusters take the names of the states that ω finds most
// plausible for them. Memberships are softened, so that no state starts with less than
// its coefficients need.
func (o ARPHMM) begin(w *workspace, rng *rand.Rand) (*HMM, error) {
	k, d := w.k, w.d
	m := &HMM{States: k, Order: w.p, Dim: d, Initial: make([]float64, k), Transition: zeroRows(k, k)}
	for range k {
		m.Coef = append(m.Coef, zeroRows(d, 1+w.p*d))
		m.Cov = append(m.Cov, zeroRows(d, d))
	}
	member := w.clusters(rng)
	if o.LeftRight {
		member = w.parts()
	} else if w.omega != nil {
		w.rename(member)
	}
	clear(w.first)
	clear(w.xi)
	for row, c := range member {
		gamma := w.b[row*k : row*k+k]
		var sum float64
		for j := range gamma {
			gamma[j] = 0.1 / float64(k)
			if j == c {
				gamma[j] += 0.9
			}
			if w.omega != nil {
				gamma[j] *= w.omega[row*k+j]
			}
			sum += gamma[j]
		}
		for j := range gamma {
			gamma[j] /= sum
		}
	}
	stay := max(0.5, 1-float64(k*len(w.spans))/float64(w.rows))
	for i := range k {
		w.first[i] = 1
		if o.LeftRight && i > 0 {
			w.first[i] = 0
		}
		for j := range k {
			switch {
			case i == j && (k == 1 || o.LeftRight && i == k-1):
				w.xi[i*k+j] = 1
			case i == j:
				w.xi[i*k+j] = stay
			case o.LeftRight && j == i+1:
				w.xi[i*k+j] = 1 - stay
			case !o.LeftRight:
				w.xi[i*k+j] = (1 - stay) / float64(k-1)
			}
		}
	}
	return m, w.maximize(m, o)
}

// parts cuts every sequence into K equal parts.
func (w *workspace) parts() []int {
	member := make([]int, w.rows)
	for _, s := range w.spans {
		for i := range s.rows {
			member[s.row+i] = i * w.k / s.rows
		}
	}
	return member
}

// rename gives clusters the names of states, the most plausible pair first.
func (w *workspace) rename(member []int) {
	k := w.k
	weight := zeroRows(k, k) // [cluster][state] mean plausibility
	size := make([]float64, k)
	for row, c := range member {
		size[c]++
		for j := range k {
			weight[c][j] += w.omega[row*k+j]
		}
	}
	name, taken := make([]int, k), make([]bool, k)
	done := make([]bool, k)
	for range k {
		bestC, bestS, best := -1, -1, -1.0
		for c := range k {
			for s := range k {
				if v := weight[c][s] / max(size[c], 1); !done[c] && !taken[s] && v > best {
					bestC, bestS, best = c, s, v
				}
			}
		}
		name[bestC], done[bestC], taken[bestS] = bestS, true, true
	}
	for row, c := range member {
		member[row] = name[c]
	}
}

// clusters is k-means on windows in units of the columns' deviations: centres drawn as in
// k-means++ from at most 2000 rows, then ten rounds of Lloyd.
func (w *workspace) clusters(rng *rand.Rand) []int {
	k, q := w.k, (w.p+1)*w.d
	scale := make([]float64, q)
	for j := range scale {
		scale[j] = 1 / w.variance[j%w.d]
	}
	distance := func(a, b []float64) (s float64) {
		for j, v := range a {
			s += scale[j] * (v - b[j]) * (v - b[j])
		}
		return s
	}
	var sample [][]float64
	every := max(1, w.rows/2000)
	w.eachRow(0, w.rows, func(row int, window []float64) {
		if row%every == 0 {
			sample = append(sample, window)
		}
	})
	centres := [][]float64{append([]float64(nil), sample[rng.IntN(len(sample))]...)}
	for len(centres) < k {
		near, total := make([]float64, len(sample)), 0.0
		for i, x := range sample {
			near[i] = math.Inf(1)
			for _, c := range centres {
				near[i] = min(near[i], distance(x, c))
			}
			total += near[i]
		}
		at, pick := 0, rng.Float64()*total
		for ; at < len(near)-1 && pick >= near[at]; at++ {
			pick -= near[at]
		}
		centres = append(centres, append([]float64(nil), sample[at]...))
	}
	nearest := func(x []float64) int {
		best, least := 0, math.Inf(1)
		for c := range centres {
			if v := distance(x, centres[c]); v < least {
				best, least = c, v
			}
		}
		return best
	}
	for range 10 {
		sum, count := zeroRows(k, q), make([]float64, k)
		for _, x := range sample {
			c := nearest(x)
			count[c]++
			for j, v := range x {
				sum[c][j] += v
			}
		}
		for c := range centres {
			for j := range centres[c] {
				if count[c] > 0 {
					centres[c][j] = sum[c][j] / count[c]
				}
			}
		}
	}
	member := make([]int, w.rows)
	w.eachRow(0, w.rows, func(row int, window []float64) { member[row] = nearest(window) })
	return member
}
