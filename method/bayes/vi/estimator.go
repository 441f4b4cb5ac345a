package vi

import (
	"fmt"
	"math/rand/v2"

	"tare/engine/grad"
)

// Objective is a program that returns one cost a row [rows, 1] (or [1, 1] for all rows),
// whose expectation over the choices that r makes is what is differentiated.
type Objective func(r *Run) *grad.Value

// Estimator turns objectives into estimates of their value and gradient.
type Estimator struct {
	Tape *grad.Tape
	Rows int // copies of the program that run at once
	Rand *rand.Rand
	Runs int // most runs of the objective in one estimate; 0 means 65536
}

// Surrogate returns a column [Rows, 1] on the tape. Each entry is an unbiased estimate of
// the objective's expectation in its row, and the gradient of the entry one of the
// gradient of that expectation: reduce it by Mean or Sum and go Backward.
//
// An error leaves the tape empty.
func (e *Estimator) Surrogate(o Objective) (cost *grad.Value, err error) {
	if e.Tape == nil || e.Rand == nil || e.Rows < 1 {
		return nil, fmt.Errorf("vi: an estimator needs a tape, a source of random numbers and at least 1 row, it has %d: %w", e.Rows, ErrSetting)
	}
	s := &search{Estimator: e, objective: o, key: e.Rand.Uint64(), left: e.Runs}
	if s.left <= 0 {
		s.left = 1 << 16
	}
	if err := guarded(func() { cost = s.explore(nil, 0, false) }); err != nil {
		e.Tape.Reset()
		return nil, fmt.Errorf("vi: %w", err)
	}
	for _, saw := range s.saw {
		saw()
	}
	return cost, nil
}

// failure carries an error out of a program.
type failure struct{ err error }

// guarded returns the error with which a program under f fails.
func guarded(f func()) (err error) {
	defer func() {
		switch p := recover().(type) {
		case nil:
		case failure:
			err = p.err
		default:
			panic(p)
		}
	}()
	f()
	return nil
}

// search is one estimate: a walk through the tree of the enumerated choices.
type search struct {
	*Estimator
	objective Objective
	key       uint64 // of the noise: a choice of the same depth has the same in all runs
	left      int    // runs that are still allowed
	saw       []func()
}

// site is a choice that a run has made.
type site struct {
	addr     string
	dist     Dist
	strategy Strategy
	raw      []float32   // the noise for Reparam, else the draw
	logp     *grad.Value // of the draw
	rng      *rand.Rand  // of the site, behind its draw
}

// explore runs the objective with the first choices replayed and returns the estimate of
// what follows them. Where only the value is wanted, choices are not differentiated.
func (s *search) explore(replayed []site, from int, valueOnly bool) *grad.Value {
	s.afford(1)
	s.left--
	r := &Run{tp: s.Tape, rows: s.Rows, key: s.key, replayed: replayed}
	cost := s.objective(r)
	if len(r.sites) < len(replayed) {
		panic(failure{fmt.Errorf("a run ends before it has made %q again: %w", replayed[len(r.sites)].addr, ErrReplay)})
	}
	cost = r.asColumn(cost)
	for i := len(r.sites) - 1; i >= from; i-- {
		cost = s.fold(r.sites, i, cost, valueOnly)
	}
	return cost
}

// afford fails where there are not n runs left.
func (s *search) afford(n int) {
	if s.left < n {
		panic(failure{fmt.Errorf("one estimate takes more runs of the objective than allowed: enumerate fewer choices, or raise Runs: %w", ErrSetting)})
	}
}

// fold returns the estimate of what follows the choices before i, from cost, the one of
// what follows choice i as it was made.
func (s *search) fold(sites []site, i int, cost *grad.Value, valueOnly bool) *grad.Value {
	at := &sites[i]
	elsewhere := func(raw []float32, valueOnly bool) *grad.Value {
		other := *at
		other.raw = raw
		return s.explore(append(sites[:i:i], other), i+1, valueOnly)
	}
	switch kind := at.strategy.kind; {
	case kind == enum:
		return s.enumerated(at, cost, func(raw []float32) *grad.Value { return elsewhere(raw, valueOnly) })
	case valueOnly:
	case kind == reinforce:
		if b := at.strategy.baseline; b != nil {
			costs := clone(cost.Data)
			s.saw = append(s.saw, func() { b.Saw(costs) })
		}
		return at.strategy.scored(s.Tape, cost, at.logp)
	case kind == mvd:
		return s.measured(at, cost, func(raw []float32) *grad.Value { return s.quietly(func() *grad.Value { return elsewhere(raw, true) }) })
	}
	return cost
}

// enumerated is Σ_v p(v) k(v), where the run has made the first value.
func (s *search) enumerated(at *site, cost *grad.Value, rest func(raw []float32) *grad.Value) *grad.Value {
	tp, d := s.Tape, at.dist.(Finite)
	total := tp.Mul(tp.Exp(at.logp), cost)
	s.afford(d.Values() - 1)
	for v := 1; v < d.Values(); v++ {
		raw := everywhere(d, v, s.Rows, at.dist.Cols())
		logp := scoreOf(at.addr, at.dist, tp, tp.Const(raw, s.Rows, at.dist.Cols()))
		total = tp.Add(total, tp.Mul(tp.Exp(logp), rest(raw)))
	}
	return total
}

// everywhere is value v in all rows.
func everywhere(d Finite, v, rows, cols int) []float32 {
	raw := make([]float32, rows*cols)
	for r := range rows {
		d.Value(v, raw[r*cols:(r+1)*cols])
	}
	return raw
}

// measured adds to the cost Σ stop(c)(θ − stop(θ)), c = Weight k(X) + Own k(x).
func (s *search) measured(at *site, cost *grad.Value, rest func(raw []float32) *grad.Value) *grad.Value {
	tp := s.Tape
	own := clone(cost.Data)
	for _, p := range at.dist.(Measured).Phantoms(tp, at.rng, at.raw) {
		there := rest(p.X)
		slope := make([]float32, s.Rows)
		for r := range slope {
			slope[r] = p.Weight[r] * there.Data[r]
			if p.Own != nil {
				slope[r] += p.Own[r] * own[r]
			}
		}
		cost = tp.Add(cost, tp.Mul(tp.Const(slope, s.Rows, 1), tp.Sub(p.Theta, stop(tp, p.Theta))))
	}
	return cost
}

// quietly runs f without recording. The tape records again also when f fails.
func (s *search) quietly(f func() *grad.Value) (v *grad.Value) {
	var err error
	s.Tape.NoGrad(func() { err = guarded(func() { v = f() }) })
	if err != nil {
		panic(failure{err})
	}
	return v
}
