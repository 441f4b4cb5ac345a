package optimize

import (
	"fmt"
	"math"
	"slices"

	"gonum.org/v1/gonum/mat"
)

// move takes the step of a block and notes what it had to bring.
func (s *descent) move(step *BlockStep) error {
	block := step.Block
	s.block(len(block))
	switch {
	case s.o.Tree:
		step.Bound = s.messages(block)
	case s.o.Update == "gradient":
		step.Bound = s.proximal(block)
	case s.o.Update == "matrix":
		s.f.Bound(s.h, block)
		step.Bound = s.minimizeModel(block)
	case s.o.constrained():
		return s.twoMetric(step)
	default:
		return s.newton(step)
	}
	s.take(block, s.bd)
	s.result.Value = s.value()
	return nil
}

// take moves x and f.
func (s *descent) take(block []int, d []float64) {
	s.f.Move(block, d)
	for j, i := range block {
		s.x[i] = s.o.snap(i, s.x[i], s.x[i]+d[j])
	}
}

// snap puts a coordinate that moved to a bound, but for rounding, on it.
func (o *BlockDescent) snap(i int, from, to float64) float64 {
	for _, bounds := range [][]float64{o.Lower, o.Upper} {
		if bounds != nil && math.Abs(to-bounds[i]) <= 1e-15*(math.Abs(from)+math.Abs(bounds[i])) {
			return bounds[i]
		}
	}
	return to
}

// proximal is the step under L_b: −g_b / L_b, and its proximal form. F falls by at least
// the bound's promise, ‖g_b‖² / 2 L_b where there is neither L1 nor bounds.
func (s *descent) proximal(block []int) (promise float64) {
	l := 0.0
	if s.consts != nil {
		for b, other := range s.fixed {
			if &other[0] == &block[0] {
				l = s.consts[b]
			}
		}
	} else {
		l = s.lipschitz(block)
	}
	for j, i := range block {
		promise += s.promise(i, l)
		s.bd[j] = s.o.prox(i, s.x[i]-s.g[i]/l, l) - s.x[i]
	}
	return promise
}

// minimizeModel puts into bd the minimiser of g_bᵀ d + ½ dᵀ H d with L1 and bounds, H in
// s.h, and returns how far that is under 0. Without L1 and bounds it is −H⁻¹ g_b; with
// them it is found by cyclic coordinate descent.
func (s *descent) minimizeModel(block []int) float64 {
	b := len(block)
	if !s.o.constrained() {
		solve(s.h, b, s.bd, s.part(block))
		var sum float64
		for j, i := range block {
			s.bd[j] = -s.bd[j]
			sum -= s.bd[j] * s.g[i]
		}
		return sum / 2
	}
	clear(s.bd)
	r := s.part(block) // g + H d
	for range 100 {
		var moved float64
		for j, i := range block {
			l := s.h[j*b+j]
			v := s.o.prox(i, s.x[i]+s.bd[j]-r[j]/l, l) - s.x[i]
			by := v - s.bd[j]
			if by == 0 {
				continue
			}
			s.bd[j] = v
			moved = max(moved, math.Abs(by)*l)
			for m := range r {
				r[m] += by * s.h[j*b+m]
			}
		}
		if moved <= 1e-3*s.o.Tol {
			break
		}
	}
	var sum float64
	for j, i := range block {
		sum -= (s.g[i]+r[j])*s.bd[j]/2 + s.o.L1*(math.Abs(s.x[i]+s.bd[j])-math.Abs(s.x[i]))
	}
	return sum
}

// part is a block's gradient.
func (s *descent) part(block []int) []float64 {
	g := make([]float64, len(block))
	for j, i := range block {
		g[j] = s.g[i]
	}
	return g
}

// solve puts H⁻¹ g into d. A matrix that is not positive definite, as of columns that
// depend on one another, gets the least multiple of its diagonal that makes it so, from
// 1e-12 in steps of 100.
func solve(h []float64, b int, d, g []float64) {
	m := mat.NewSymDense(b, slices.Clone(h))
	for extra := 0.0; ; extra = max(1e-12, 100*extra) {
		for j := range b {
			m.SetSym(j, j, h[j*b+j]*(1+extra)+extra*1e-300)
		}
		var chol mat.Cholesky
		if !chol.Factorize(m) {
			if extra > 1e6 {
				copy(d, g)
				return
			}
			continue
		}
		// A poor condition is worse progress, no fault: the step is checked by its value.
		_ = chol.SolveVecTo(mat.NewVecDense(b, d), mat.NewVecDense(b, g))
		return
	}
}

// armijo is the share of the directional derivative that a Newton step has to bring.
const armijo = 1e-4

// rounding is how far F, a sum of many terms, may be off as a share of itself.
const rounding = 1e-13

// halvings is how often a step is cut before a line search gives up.
const halvings = 50

// newton is one Newton step on the block, or with exact as many as it takes.
func (s *descent) newton(step *BlockStep) error {
	block := step.Block
	g := s.part(block)
	var first float64
	for _, v := range g {
		first = max(first, math.Abs(v))
	}
	for round := range 50 {
		s.f.Hessian(s.h, block)
		solve(s.h, len(block), s.bd, g)
		var slope float64
		for j := range s.bd {
			s.bd[j] = -s.bd[j]
			slope += s.bd[j] * g[j]
		}
		t, brought, err := s.search(block, slope)
		if err != nil {
			if round > 0 {
				return nil // rounding ends what exact may still gain
			}
			return err
		}
		step.Bound += brought
		if round == 0 {
			step.Length = t
		}
		if s.o.Update == "newton" {
			return nil
		}
		s.f.Gradient(g, block)
		var left float64
		for _, v := range g {
			left = max(left, math.Abs(v))
		}
		if left <= max(1e-10*first, 1e-3*s.o.Tol) {
			return nil
		}
	}
	return nil
}

// search halves the step in bd until F falls by armijo's share of the slope, and takes it.
// Where a whole step's promise is within rounding of F it is taken as it is, as long as F
// does not rise by more than that.
func (s *descent) search(block []int, slope float64) (t, brought float64, err error) {
	before := s.result.Value
	slack := rounding * (1 + math.Abs(before))
	trial := slices.Clone(s.bd)
	for t = 1.0; ; t /= 2 {
		s.take(block, trial)
		s.result.Value = s.value()
		brought = -armijo * t * slope
		if s.result.Value <= before-brought || -slope < slack && s.result.Value <= before+slack {
			return t, min(brought, max(0, before-s.result.Value)), nil
		}
		for j := range trial {
			trial[j] = -trial[j]
		}
		s.take(block, trial)
		s.result.Value = before
		if t < math.Pow(2, -halvings) {
			return t, 0, &StoppedError{"block descent", "no part of a Newton step lowers the value any more", s.result.Iterations, s.residual(), s.o.Tol}
		}
		for j := range trial {
			trial[j] = t / 2 * s.bd[j]
		}
	}
}

// twoMetric is the projected Newton step: coordinates of the block that are at a bound or
// at 0 and whose gradient holds them there stay; the others take the Newton step of their
// face, on which L1 is linear, and are projected on bounds or on the orthant of their
// signs. The path is searched for a decrease of armijo's share (Bertsekas 1982).
func (s *descent) twoMetric(step *BlockStep) error {
	var free []int
	var g, sign []float64
	for _, i := range step.Block {
		if !s.o.isFree(i, s.x[i]) && s.promise(i, s.lip[i]) == 0 {
			continue
		}
		free = append(free, i)
		slope, side := s.g[i], 0.0
		if s.o.L1 > 0 {
			if side = math.Copysign(1, s.x[i]); s.x[i] == 0 {
				side = -math.Copysign(1, s.g[i])
			}
			slope += side * s.o.L1
		}
		g, sign = append(g, slope), append(sign, side)
	}
	if len(free) == 0 {
		step.Block = free
		return nil
	}
	b := len(free)
	s.block(b)
	s.f.Hessian(s.h, free)
	d := make([]float64, b)
	solve(s.h, b, d, g)
	trial := make([]float64, b)
	before := s.result.Value
	slack := rounding * (1 + math.Abs(before))
	project := func(t float64, direction []float64) (slope float64) {
		for j, i := range free {
			v := s.x[i] - t*direction[j]
			if s.o.L1 > 0 && v*sign[j] < 0 {
				v = 0
			}
			trial[j] = s.o.clip(i, v) - s.x[i]
			slope += g[j] * trial[j]
		}
		return slope
	}
	try := func(t float64, direction []float64) bool {
		slope := project(t, direction)
		at := s.values(free)
		s.take(free, trial)
		s.result.Value = s.value()
		if slope < 0 && (s.result.Value <= before+armijo*slope || -slope < slack && s.result.Value <= before+slack) {
			step.Bound, step.Length = min(-armijo*slope, max(0, before-s.result.Value)), t
			return true
		}
		for j := range trial {
			trial[j] = -trial[j]
		}
		s.f.Move(free, trial)
		for j, i := range free {
			s.x[i] = at[j]
		}
		s.result.Value = before
		return false
	}
	for t := 1.0; t > 1e-6; t /= 2 {
		if try(t, d) {
			return nil
		}
	}
	// Projection may turn a Newton direction uphill; the scaled gradient's cannot.
	for j, i := range free {
		d[j] = g[j] / s.lip[i]
	}
	if project(1, d) == 0 { // the block is at its minimum
		return nil
	}
	for t := 1.0; t > math.Pow(2, -halvings); t /= 2 {
		if try(t, d) {
			return nil
		}
	}
	return &StoppedError{"block descent", "no part of a projected step lowers the value any more", s.result.Iterations, s.residual(), s.o.Tol}
}

func (s *descent) values(block []int) []float64 {
	v := make([]float64, len(block))
	for j, i := range block {
		v[j] = s.x[i]
	}
	return v
}

// messages puts the exact step of a forest into bd and returns what it brings,
// ½ g_bᵀ H_b⁻¹ g_b.
func (s *descent) messages(block []int) float64 {
	solveForest(s.f.(Sparse), block, s.bd, s.part(block))
	var sum float64
	for j, i := range block {
		s.bd[j] = -s.bd[j]
		sum -= s.bd[j] * s.g[i]
	}
	return sum / 2
}

// String names a descent by what tells it from others.
func (o BlockDescent) String() string {
	o = o.withDefaults()
	kind := fmt.Sprintf("%s %s of %d", o.Blocks, o.Update, o.Size)
	if o.Tree {
		kind = o.Blocks + " trees"
	}
	return o.Rule + ", " + kind
}
