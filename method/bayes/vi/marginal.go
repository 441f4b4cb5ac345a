package vi

import (
	"maps"

	"tare/engine/grad"
)

// Marginal is a program of which only the choices in Keep can be seen. The density of
// those, k, is estimated by importance sampling of the others with Particles draws from
// q(a|k) = Proposal(k),
//
//	ŵ = 1/n Σ p(k, a_i)/q(a_i|k),
//
// unbiased in Density. Simulate, which has drawn an a with k, takes it as one of the n,
// which makes E[1/ŵ | k] = 1/p(k). As a guide it gives hierarchical variational inference
// (with one particle) and its importance-weighted form.
type Marginal struct {
	Program   Program
	Keep      []string
	Proposal  func(kept Choices) Program
	Particles int // 0 means 1
}

// Simulate draws the kept choices.
func (m Marginal) Simulate(r *Run) (Choices, *grad.Value) {
	all, logp := m.Program.Simulate(r)
	others := maps.Clone(all)
	kept := Choices{}
	for _, addr := range m.Keep {
		x, ok := all[addr]
		if !ok {
			r.failf("a marginal keeps %q, which its program does not choose: %w", addr, ErrAddress)
		}
		kept[addr] = x
		delete(others, addr)
	}
	q := m.Proposal(kept)
	own := r.tp.Sub(logp, q.Density(r, others))
	return kept, LogMeanExp(r.tp, append([]*grad.Value{own}, m.weights(r, q, kept, m.particles(r)-1)...))
}

// Density estimates that of the kept choices.
func (m Marginal) Density(r *Run, kept Choices) *grad.Value {
	return LogMeanExp(r.tp, m.weights(r, m.Proposal(kept), kept, m.particles(r)))
}

// weights returns log p(k, a)/q(a) of n draws from q.
func (m Marginal) weights(r *Run, q Program, kept Choices, n int) []*grad.Value {
	out := make([]*grad.Value, n)
	for i := range out {
		others, logq := q.Simulate(r)
		all := maps.Clone(kept)
		maps.Copy(all, others)
		out[i] = r.tp.Sub(m.Program.Density(r, all), logq)
	}
	return out
}

func (m Marginal) particles(r *Run) int { return particles(r, m.Particles) }

func particles(r *Run, n int) int {
	if n < 0 {
		r.failf("%d particles, need at least 1: %w", n, ErrSetting)
	}
	return max(n, 1)
}

// Normalize is the program that draws approximately from Target, whose density p need not
// sum to one (a model with observations), by sampling importance resampling: Particles
// draws from Proposal, one of which is chosen with probability in proportion to its weight
// w_i = p(x_i)/q(x_i). The density of what is so drawn is
//
//	E[ p(x) / (1/n Σ w_i) ]
//
// over the other particles, of which one draw stands here: unbiased in Density, and with
// E[1/ŵ | x] = 1/density in Simulate, where the others are those that were drawn.
// Choice is the gradient strategy of the choice among particles, which is discrete: Enum,
// MVD or Reinforce.
type Normalize struct {
	Target    Program
	Proposal  Program
	Particles int // 0 means 1
	Choice    Strategy
}

// Simulate draws a choice. The one among particles has the address "particle".
func (m Normalize) Simulate(r *Run) (Choices, *grad.Value) {
	n := particles(r, m.Particles)
	drawn, scores, weights := make([]Choices, n), make([]*grad.Value, n), make([]*grad.Value, n)
	for i := range n {
		x, q := m.Proposal.Simulate(r)
		drawn[i], scores[i] = x, m.Target.Density(r, x)
		weights[i] = r.repeated(r.tp.Sub(scores[i], q))
	}
	total := LogMeanExp(r.tp, weights)
	if n == 1 {
		return drawn[0], r.tp.Sub(scores[0], total)
	}
	// [n, rows] → [rows, n]
	logits := r.tp.Swap(r.tp.Stack(weights...), n, r.rows, 1)
	which, _ := r.choose("particle", Categorical{logits}, m.Choice)
	chosen := Choices{}
	for addr := range drawn[0] {
		values := make([]*grad.Value, n)
		for i, x := range drawn {
			values[i] = x[addr]
			if values[i] == nil {
				r.failf("the proposal makes choice %q in one particle and not in another: %w", addr, ErrAddress)
			}
		}
		chosen[addr] = selected(r.tp, which, values)
	}
	return chosen, r.tp.Sub(selected(r.tp, which, scores), total)
}

// selected is in row r the value that which names.
func selected(tp *grad.Tape, which *grad.Value, values []*grad.Value) *grad.Value {
	var sum *grad.Value
	for i, v := range values {
		mask := make([]float32, which.Rows)
		for r := range mask {
			if int(which.Data[r]) == i {
				mask[r] = 1
			}
		}
		part := tp.Mul(tp.Const(mask, which.Rows, 1), v)
		if sum == nil {
			sum = part
		} else {
			sum = tp.Add(sum, part)
		}
	}
	return sum
}

// Density estimates that of c.
func (m Normalize) Density(r *Run, c Choices) *grad.Value {
	score := m.Target.Density(r, c)
	weights := []*grad.Value{r.tp.Sub(score, m.Proposal.Density(r, c))}
	for range particles(r, m.Particles) - 1 {
		weights = append(weights, logWeight(r, m.Target, m.Proposal))
	}
	return r.tp.Sub(score, LogMeanExp(r.tp, weights))
}
