package vi

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"

	"tare/engine/grad"
)

// Run is one run of an objective.
type Run struct {
	tp       *grad.Tape
	rows     int
	key      uint64
	replayed []site
	sites    []site
}

// Tape is where the run's values are.
func (r *Run) Tape() *grad.Tape { return r.tp }

// Rows is how many copies run at once.
func (r *Run) Rows() int { return r.rows }

// Fail ends the estimate with an error.
func (r *Run) Fail(err error) { panic(failure{err}) }

func (r *Run) failf(format string, args ...any) { r.Fail(fmt.Errorf(format, args...)) }

// Choices are the values that a program has chosen, by address.
type Choices map[string]*grad.Value

// addresses lists them in order.
func (c Choices) addresses() []string { return slices.Sorted(maps.Keys(c)) }

// Program is what can be sampled from and scored. The density may be an estimate: then
// what Density returns is the logarithm of an unbiased one of p(c), and what Simulate
// returns that of a w with E[1/w | c] = 1/p(c), as with [Marginal] and [Normalize].
type Program interface {
	Simulate(r *Run) (Choices, *grad.Value)
	Density(r *Run, c Choices) *grad.Value
}

// choose makes the next choice and returns it with its log density.
func (r *Run) choose(addr string, d Dist, s Strategy) (x, logp *grad.Value) {
	if err := s.fits(d); err != nil {
		r.failf("choice %q: %w", addr, err)
	}
	i := len(r.sites)
	at := site{addr: addr, dist: d, strategy: s, rng: stream(r.key, i)}
	n := r.rows * d.Cols()
	if i < len(r.replayed) {
		was := r.replayed[i]
		if was.addr != addr || was.strategy.kind != s.kind || len(was.raw) != n {
			r.failf("choice %q was %q (%s) in the run before: %w", addr, was.addr, was.strategy, ErrReplay)
		}
		at.raw, at.rng = was.raw, was.rng
	} else {
		at.raw = make([]float32, n)
		switch s.kind {
		case reparam:
			d.(Smooth).Noise(at.rng, at.raw)
		case enum:
			at.raw = everywhere(d.(Finite), 0, r.rows, d.Cols())
		default:
			d.Draw(at.rng, at.raw)
		}
	}
	x = r.tp.Const(at.raw, r.rows, d.Cols())
	if s.kind == reparam {
		x = d.(Smooth).Transform(r.tp, x)
	}
	at.logp = scoreOf(addr, d, r.tp, x)
	r.sites = append(r.sites, at)
	return x, at.logp
}

// stream is the source of choice i's random numbers, so that runs which differ in an
// earlier choice share those of later ones and their difference has less noise.
func stream(key uint64, i int) *rand.Rand {
	return rand.New(rand.NewPCG(key, uint64(i+1)*0x9e3779b97f4a7c15))
}

// scoreOf returns the log density of x, which must be finite.
func scoreOf(addr string, d Dist, tp *grad.Tape, x *grad.Value) *grad.Value {
	if i := d.Outside(x.Data); i >= 0 {
		panic(failure{fmt.Errorf("choice %q: %v in row %d, column %d is no value of %T: %w", addr, x.Data[i], i/x.Cols, i%x.Cols, d, ErrSupport)})
	}
	logp := d.LogDensity(tp, x)
	if i := first(logp.Data, isFinite); i >= 0 {
		panic(failure{fmt.Errorf("choice %q: the log density under %T is %v in row %d, at %v: %w", addr, d, logp.Data[i], i,
			x.Data[i%x.Rows*x.Cols:][:x.Cols], ErrDensity)})
	}
	return logp
}

// asColumn checks the cost of an objective.
func (r *Run) asColumn(cost *grad.Value) *grad.Value {
	if cost == nil || cost.Cols != 1 || cost.Rows != 1 && cost.Rows != r.rows {
		r.failf("the objective must return a column of %d rows: %w", r.rows, ErrSetting)
	}
	if i := first(cost.Data, isFinite); i >= 0 {
		r.failf("the objective is %v in row %d: %w", cost.Data[i], i, ErrDensity)
	}
	return r.repeated(cost)
}

// repeated is v [rows or 1, 1] in all rows.
func (r *Run) repeated(v *grad.Value) *grad.Value {
	if v.Rows == r.rows {
		return v
	}
	return r.tp.Add(v, r.tp.Const(make([]float32, r.rows), r.rows, 1))
}
