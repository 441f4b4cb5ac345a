package tensor

import (
	"math"

	"tare/engine/tensor/kernel"
)

// Stats describe the entries of a floating-point tensor. Mean, Std, Min and Max are
// over the finite ones, and all zero where there are none.
type Stats struct {
	Mean      float64 `json:"mean"`
	Std       float64 `json:"std"` // of the entries themselves: divided by their number
	Min       float64 `json:"min"`
	Max       float64 `json:"max"`
	Zeros     int     `json:"zeros"`
	NonFinite int     `json:"non_finite"`
}

// statsStep is how many entries are read at a time.
const statsStep = 1 << 16

// Stats reads the tensor once, on all threads, in pieces of fixed size whose sums
// are added in order, so that the figures are the same for any number of threads;
// ok is false for a type that is not floating-point.
func (t *Tensor) Stats() (s Stats, ok bool) {
	if !t.dtype.IsFloat() {
		return Stats{}, false
	}
	n := t.Len()
	pieces := make([]moments, (n+statsStep-1)/statsStep)
	kernel.Parallel(len(pieces), 1, func(lo, hi int) {
		buf := make([]float32, min(n, statsStep))
		for i := lo; i < hi; i++ {
			x := buf[:min(n, (i+1)*statsStep)-i*statsStep]
			_ = t.ReadF32(x, i*statsStep) // the type and the range are right
			pieces[i].add(x)
		}
	})
	var all moments
	for _, p := range pieces {
		all.join(p)
	}
	s = Stats{Mean: all.mean, Min: all.min, Max: all.max, Zeros: all.zeros, NonFinite: all.nonFinite}
	if all.n > 0 {
		s.Std = math.Sqrt(all.m2 / all.n)
	}
	return s, true
}

// moments of n finite entries: their mean and the sum of squares about it.
type moments struct {
	n, mean, m2      float64
	min, max         float64
	zeros, nonFinite int
}

// add takes the entries of a fresh piece.
func (m *moments) add(x []float32) {
	var sum, squares float64
	for _, v32 := range x {
		v := float64(v32)
		if math.IsNaN(v) || math.IsInf(v, 0) {
			m.nonFinite++
			continue
		}
		if v == 0 {
			m.zeros++
		}
		if m.n == 0 {
			m.min, m.max = v, v
		}
		m.min, m.max = min(m.min, v), max(m.max, v)
		m.n++
		sum += v
	}
	if m.n == 0 {
		return
	}
	m.mean = sum / m.n
	for _, v32 := range x {
		if v := float64(v32); !math.IsNaN(v) && !math.IsInf(v, 0) {
			squares += (v - m.mean) * (v - m.mean)
		}
	}
	m.m2 = squares
}

// join adds another piece (Chan, Golub and LeVeque 1979), with d the difference of
// the means:
//
//	mean = mean + d n₂/n,   m2 = m2 + m2₂ + d² n₁ n₂/n
func (m *moments) join(p moments) {
	m.zeros += p.zeros
	m.nonFinite += p.nonFinite
	switch {
	case p.n == 0:
		return
	case m.n == 0:
		p.zeros, p.nonFinite = m.zeros, m.nonFinite
		*m = p
		return
	}
	n, d := m.n+p.n, p.mean-m.mean
	m.m2 += p.m2 + d*d*m.n*p.n/n
	m.mean += d * p.n / n
	m.n = n
	m.min, m.max = min(m.min, p.min), max(m.max, p.max)
}
