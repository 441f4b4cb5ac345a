package stats

import (
	"math"

	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"
)

// minimise finds the step that minimises the model with the penalty,
//
//	gᵀd + ½ dᵀHd + Σ c|δ + d|.
//
// Without a penalty it is −H⁻¹g. With one, some sweeps of coordinate descent find most of
// the signs, and a search over signs (Lee et al. 2006) finishes: for given signs the
// minimum is a linear system's solution; a coefficient that would cross 0 on the way stays
// there, and one at 0 whose gradient exceeds its price joins.
func (s *newtonModel) minimise(f *ordinalFit) error {
	const sweeps = 20
	s.price = make([]float64, len(s.grad))
	s.start = make([]float64, len(s.grad))
	priced := false
	for q, at := range s.coords {
		s.price[f.cuts+q], s.start[f.cuts+q] = f.price[at], f.delta[at]
		priced = priced || f.price[at] > 0
	}
	if priced {
		s.descend(sweeps, 0.01*f.Tol)
		if !s.search(0.1 * f.Tol) {
			s.descend(100*sweeps, 0.01*f.Tol)
		}
		return nil
	}
	all := make([]int, len(s.grad))
	for q := range all {
		all[q] = q
	}
	d, ok := s.solveFor(all, s.grad)
	if !ok {
		copy(s.step, s.start)
		return f.separated(s)
	}
	copy(s.step, d)
	return nil
}

// solveFor solves H_SS d = −r for the coefficients in S; ok is false where H_SS is not
// positive definite.
func (s *newtonModel) solveFor(set []int, r []float64) (d []float64, ok bool) {
	size, k := len(s.grad), len(set)
	h := mat.NewSymDense(k, nil)
	rhs := mat.NewVecDense(k, nil)
	for a, q := range set {
		rhs.SetVec(a, -r[q])
		for b := a; b < k; b++ {
			h.SetSym(a, b, s.h[q*size+set[b]])
		}
	}
	var chol mat.Cholesky
	if !chol.Factorize(h) {
		return nil, false
	}
	var out mat.VecDense
	if err := chol.SolveVecTo(&out, rhs); err != nil {
		if c, poor := err.(mat.Condition); !poor || math.IsInf(float64(c), 1) {
			return nil, false
		}
	}
	return out.RawVector().Data, true
}

// descend is cyclic coordinate descent, up to a number of sweeps or until none changes
// its gradient by tol.
func (s *newtonModel) descend(sweeps int, tol float64) {
	size := len(s.grad)
	v := s.gradient()
	for range sweeps {
		most := 0.0
		for q := range size {
			h := s.h[q*size+q]
			if h <= 0 {
				continue
			}
			old := s.start[q] + s.step[q]
			change := soft(old-v[q]/h, s.price[q]/h) - old
			if change == 0 {
				continue
			}
			s.step[q] += change
			if s.start[q]+s.step[q] == 0 || old+change == 0 {
				s.step[q] = -s.start[q]
			}
			floats.AddScaled(v, change, s.h[q*size:(q+1)*size])
			most = math.Max(most, h*math.Abs(change))
		}
		if most <= tol {
			return
		}
	}
}

// gradient is g + Hd.
func (s *newtonModel) gradient() []float64 {
	size := len(s.grad)
	v := append([]float64(nil), s.grad...)
	for q, d := range s.step {
		if d != 0 {
			floats.AddScaled(v, d, s.h[q*size:(q+1)*size])
		}
	}
	return v
}

// search ends the minimisation over signs; it says false where a linear system is
// singular or the signs do not settle.
func (s *newtonModel) search(tol float64) bool {
	sign := make([]float64, len(s.grad))
	for q := range sign {
		if v := s.start[q] + s.step[q]; v != 0 && s.price[q] > 0 {
			sign[q] = math.Copysign(1, v)
		}
	}
	for range 20 * (10 + len(sign)) {
		v := s.gradient()
		var set []int
		for q, c := range s.price {
			if c == 0 || sign[q] != 0 {
				set = append(set, q)
				v[q] += c * sign[q]
			}
		}
		d, ok := s.solveFor(set, v)
		if !ok {
			return false
		}
		if !s.move(set, d, sign) && !s.join(sign, tol) {
			return true
		}
	}
	return false
}

// move goes along d up to the first coefficient that reaches 0, which it leaves there;
// it says whether there was one.
func (s *newtonModel) move(set []int, d, sign []float64) (stopped bool) {
	t, first := 1.0, -1
	for a, q := range set {
		at := s.start[q] + s.step[q]
		if sign[q] != 0 && (at+d[a])*sign[q] < 0 {
			if reach := -at / d[a]; reach < t {
				t, first = reach, q
			}
		}
	}
	for a, q := range set {
		s.step[q] += t * d[a]
	}
	if first >= 0 {
		s.step[first] = -s.start[first]
		sign[first] = 0
	}
	return first >= 0
}

// join gives a sign to the coefficient at 0 whose gradient exceeds its price most.
func (s *newtonModel) join(sign []float64, tol float64) bool {
	worst, at := tol, -1
	v := s.gradient()
	for q, c := range s.price {
		if sign[q] == 0 && c > 0 && math.Abs(v[q])-c > worst {
			worst, at = math.Abs(v[q])-c, q
		}
	}
	if at >= 0 {
		sign[at] = -math.Copysign(1, v[at])
	}
	return at >= 0
}

// soft is the soft threshold, sign(z)·max(|z| − c, 0).
func soft(z, c float64) float64 {
	switch {
	case z > c:
		return z - c
	case z < -c:
		return z + c
	}
	return 0
}
