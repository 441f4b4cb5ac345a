package vi

import (
	"fmt"

	"tare/engine/grad"
)

// Strategy says how the gradient of an expectation over one choice is estimated. With k(x)
// for the rest of the program after a choice x of density p:
//
//	Reparam    k(g(θ, ε)), differentiated through g; for [Smooth] distributions
//	Reinforce  k(x) + (k(x) − b) ∇log p(x) with a baseline b; for all
//	Enum       Σ p(x) k(x) over all x, exact; for [Finite] ones
//	MVD        k at the points of a weak derivative; for [Measured] ones
//
// Enum and MVD run the rest once a value or phantom. For MVD that is one to three times a
// column, or once a class, and needs no gradient. Choices enumerated after one another
// multiply.
type Strategy struct {
	kind     kind
	baseline Baseline
}

type kind uint8

const (
	reparam kind = iota
	reinforce
	enum
	mvd
)

// The strategies.
var (
	Reparam   = Strategy{kind: reparam}
	Reinforce = Strategy{kind: reinforce}
	Enum      = Strategy{kind: enum}
	MVD       = Strategy{kind: mvd}
)

// ReinforceWith is Reinforce with a baseline.
func ReinforceWith(b Baseline) Strategy { return Strategy{kind: reinforce, baseline: b} }

// String is the strategy's name.
func (s Strategy) String() string {
	return [...]string{"REPARAM", "REINFORCE", "ENUM", "MVD"}[s.kind]
}

// fits says why s cannot be used with d, or nil.
func (s Strategy) fits(d Dist) error {
	var ok bool
	switch s.kind {
	case reparam:
		_, ok = d.(Smooth)
	case enum:
		_, ok = d.(Finite)
	case mvd:
		_, ok = d.(Measured)
	default:
		ok = true
	}
	if ok {
		return nil
	}
	use := "REINFORCE"
	if _, finite := d.(Finite); finite {
		use = "ENUM, MVD or REINFORCE"
	} else if _, measured := d.(Measured); measured {
		use = "MVD or REINFORCE"
	}
	return fmt.Errorf("%s of %T, use %s: %w", s, d, use, ErrStrategy)
}

// Baseline is what [Reinforce] subtracts from a choice's cost. It leaves the estimator
// unbiased as long as a row's does not depend on the row's choice.
type Baseline interface {
	// Levels writes the baseline of every row.
	Levels(dst, costs []float32)
	// Saw takes the costs once the estimate is complete.
	Saw(costs []float32)
}

// RunningMean is the mean of earlier estimates' costs, with weights that fall by Decay
// (default 0.9) from one to the next, and 0 at first. It serves one choice.
type RunningMean struct {
	Decay float64

	sum, weight float64
}

// Levels is the same for all rows.
func (b *RunningMean) Levels(dst, _ []float32) {
	var level float64
	if b.weight > 0 {
		level = b.sum / b.weight
	}
	copy(dst, filled(len(dst), float32(level)))
}

// Saw adds the mean over the rows.
func (b *RunningMean) Saw(costs []float32) {
	decay := b.Decay
	if decay == 0 {
		decay = 0.9
	}
	b.sum = decay*b.sum + (1-decay)*mean(costs)
	b.weight = decay*b.weight + 1 - decay
}

// OtherRows is the mean of the other rows' costs at the same choice: for copies of one
// problem. A single row has no baseline.
type OtherRows struct{}

// Levels leaves each row's own cost out.
func (OtherRows) Levels(dst, costs []float32) {
	clear(dst)
	n := float64(len(costs))
	if n < 2 {
		return
	}
	m := mean(costs)
	for r, own := range costs {
		dst[r] = float32((n*m - float64(own)) / (n - 1))
	}
}

// Saw keeps nothing.
func (OtherRows) Saw([]float32) {}

func mean(x []float32) float64 {
	var s float64
	for _, v := range x {
		s += float64(v)
	}
	return s / float64(len(x))
}

// scored is cost + stop(cost − b)(log p − stop(log p)): the value of the cost and the
// gradient of REINFORCE.
func (s Strategy) scored(tp *grad.Tape, cost, logp *grad.Value) *grad.Value {
	advantage := clone(cost.Data)
	if s.baseline != nil {
		levels := make([]float32, len(advantage))
		s.baseline.Levels(levels, cost.Data)
		for r, b := range levels {
			advantage[r] -= b
		}
	}
	score := tp.Sub(logp, stop(tp, logp))
	return tp.Add(cost, tp.Mul(tp.Const(advantage, cost.Rows, 1), score))
}
