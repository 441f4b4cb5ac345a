package vi_test

import (
	"errors"
	"math"
	"math/rand/v2"
	"testing"

	"tare/engine/grad"
	"tare/method/bayes/vi"
)

// The densities of a program over bits sum to one, those of a marginal of it and of a
// normalized one in expectation.
func TestDensitiesSumToOne(t *testing.T) {
	joint := vi.Func(func(t *vi.Trace) {
		tp := t.Tape()
		a := t.Sample("a", vi.Bernoulli{Logits: constant(tp, 0.3, -1)}, vi.Enum)
		inner := t.Call("inner", vi.Func(func(t *vi.Trace) {
			t.Sample("b", vi.Bernoulli{Logits: tp.Scale(tp.SumCols(a), 0.7)}, vi.Enum)
		}))
		t.Sample("c", vi.Categorical{Logits: tp.Mul(inner["b"], constant(tp, 0.5, 0, -2))}, vi.Enum)
	})
	bitsOf := func(tp *grad.Tape, v int) vi.Choices {
		return vi.Choices{"a": constant(tp, float32(v&1), float32(v>>1&1)), "inner/b": constant(tp, float32(v>>2&1)), "c": constant(tp, float32(v>>3))}
	}
	sum := func(name string, p vi.Program, values int, choices func(tp *grad.Tape, v int) vi.Choices) {
		tp := grad.NewTape(nil)
		e := vi.Estimator{Tape: tp, Rows: 4000, Rand: rand.New(rand.NewPCG(1, 1))}
		total, err := e.Surrogate(func(r *vi.Run) *grad.Value {
			s := constant(tp, 0)
			for v := range values {
				s = tp.Add(s, tp.Exp(p.Density(r, choices(tp, v))))
			}
			return s
		})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		m, se := meanOf(total.Data, 0, 1)
		agrees(t, name, m, se, 1)
	}
	sum("program", joint, 24, bitsOf)
	guess := func(kept vi.Choices) vi.Program {
		return vi.Func(func(t *vi.Trace) {
			zero := constant(t.Tape(), 0)
			t.Sample("a", vi.Bernoulli{Logits: constant(t.Tape(), 0, 0)}, vi.Reinforce)
			t.Sample("inner/b", vi.Bernoulli{Logits: zero}, vi.Reinforce)
		})
	}
	c := func(tp *grad.Tape, v int) vi.Choices { return vi.Choices{"c": constant(tp, float32(v))} }
	sum("marginal", vi.Marginal{Program: joint, Keep: []string{"c"}, Proposal: guess, Particles: 3}, 3, c)

	sum("normalized", resampled(4), 3, c)
}

// resampled draws a class by n particles for a target that sums to 2.
func resampled(n int) vi.Normalize {
	proposal := vi.Func(func(t *vi.Trace) {
		t.Sample("c", vi.Categorical{Logits: constant(t.Tape(), 0, 0.2, 0.4)}, vi.Reinforce)
	})
	target := vi.Func(func(t *vi.Trace) {
		tp := t.Tape()
		x := t.Sample("c", vi.Categorical{Logits: constant(tp, 2, 0, -1)}, vi.Enum)
		half := float32(-math.Log(2 * math.Sqrt(2*math.Pi)))
		t.Observe("twice", vi.Normal{Mean: tp.Scale(x, 0), LogScale: constant(tp, half)}, constant(tp, 0))
	})
	return vi.Normalize{Target: target, Proposal: proposal, Particles: n, Choice: vi.Reinforce}
}

// What Density says of resampling is how often Simulate draws it, and Simulate's own
// estimate is unbiased by its inverse.
func TestNormalizedDensityIsThatOfItsDraws(t *testing.T) {
	const rows = 20000
	tp := grad.NewTape(nil)
	e := vi.Estimator{Tape: tp, Rows: rows, Rand: rand.New(rand.NewPCG(3, 1))}
	mean := func(o vi.Objective) (m, se float64) {
		v, err := e.Surrogate(o)
		if err != nil {
			t.Fatal(err)
		}
		return meanOf(v.Data, 0, 1)
	}
	m, se := mean(func(r *vi.Run) *grad.Value {
		_, w := resampled(2).Simulate(r)
		return tp.Exp(tp.Scale(w, -1))
	})
	agrees(t, "Σ over classes of p/p", m, se, 3)
	for class := range 3 {
		often, a := mean(func(r *vi.Run) *grad.Value {
			x, _ := resampled(2).Simulate(r)
			return tp.Slice(vi.OneHot(tp, x["c"], 3), class, class+1)
		})
		said, b := mean(func(r *vi.Run) *grad.Value {
			return tp.Exp(resampled(2).Density(r, vi.Choices{"c": constant(tp, float32(class))}))
		})
		agrees(t, "density", said, math.Hypot(a, b), often)
	}
}

// A guide that resamples has the ELBO that importance weighting has without it: value by
// value on the same draws where the choice is enumerated, and so the gradient.
func TestNormalizedGuideGivesIWELBO(t *testing.T) {
	m := mixture{vi.Reinforce, vi.Reparam, vi.Reinforce}
	at := flat(mixtureParams)
	evidence := math.Log(m.over(at, func(logp, _ float64) float64 { return math.Exp(logp) }))
	of := func(objective func(model, guide vi.Program) vi.Objective) estimate {
		return estimateOf(t, 2000, 6, mixtureParams, func(_ *grad.Tape, p []*grad.Value) vi.Objective {
			return objective(vi.Func(m.model), m.guide(p))
		})
	}
	want := of(func(model, guide vi.Program) vi.Objective { return vi.IWELBO(model, guide, 3) })
	got := of(func(model, guide vi.Program) vi.Objective {
		return vi.ELBO(model, vi.Normalize{Target: model, Proposal: guide, Particles: 3, Choice: vi.Enum})
	})
	if math.Abs(got.value-want.value) > 1e-5 || got.value > evidence {
		t.Errorf("%.6f, want %.6f and at most %.6f", got.value, want.value, evidence)
	}
	for i := range want.grad {
		if math.Abs(got.grad[i]-want.grad[i]) > 1e-4 {
			t.Errorf("gradient %d: %.6f, want %.6f", i, got.grad[i], want.grad[i])
		}
	}
	for _, choice := range []string{"reinforce", "mvd"} {
		got := of(func(model, guide vi.Program) vi.Objective {
			return vi.ELBO(model, vi.Normalize{Target: model, Proposal: guide, Particles: 3, Choice: strategies[choice]()})
		})
		for i := range want.grad {
			agrees(t, choice, got.grad[i], math.Hypot(got.gradErr[i], want.gradErr[i]), want.grad[i])
		}
	}
}

// chain draws a ~ N(μ, 1) and x|a ~ N(a, 1), so that x ~ N(μ, √2).
func chain(mean *grad.Value) vi.Func {
	return func(t *vi.Trace) {
		zero := constant(t.Tape(), 0)
		a := t.Sample("a", vi.Normal{Mean: mean, LogScale: zero}, vi.Reparam)
		t.Sample("x", vi.Normal{Mean: a, LogScale: zero}, vi.Reparam)
	}
}

// posterior of a in chain is N((μ+x)/2, √½).
func posterior(mean *grad.Value, logScale float64) func(vi.Choices) vi.Program {
	return func(kept vi.Choices) vi.Program {
		return vi.Func(func(t *vi.Trace) {
			tp := t.Tape()
			t.Sample("a", vi.Normal{Mean: tp.Scale(tp.Add(mean, kept["x"]), 0.5), LogScale: constant(tp, float32(logScale))}, vi.Reparam)
		})
	}
}

func TestMarginalEstimatesTheDensity(t *testing.T) {
	const mu, x = 0.4, 1.1
	exact := math.Exp(logNormal(x, mu, 0.5*math.Log(2)))
	for _, scale := range []float64{-0.5 * math.Log(2), -0.1} { // exact, and too wide
		marginal := func(p *grad.Value) vi.Marginal {
			return vi.Marginal{Program: chain(p), Keep: []string{"x"}, Proposal: posterior(p, scale), Particles: 2}
		}
		density := estimateOf(t, 20000, 7, [][]float64{{mu}}, func(tp *grad.Tape, p []*grad.Value) vi.Objective {
			return func(r *vi.Run) *grad.Value {
				return tp.Exp(marginal(p[0]).Density(r, vi.Choices{"x": constant(tp, x)}))
			}
		})
		slope := exact * (x - mu) / 2
		density.agrees(t, exact, []float64{slope})

		// E[1/w | x] = 1/p(x) gives E f(x)/w = ∫ f; here f = N(x; 0, 1).
		inverse := estimateOf(t, 20000, 8, [][]float64{{mu}}, func(tp *grad.Tape, p []*grad.Value) vi.Objective {
			return func(r *vi.Run) *grad.Value {
				k, w := marginal(p[0]).Simulate(r)
				zero := constant(tp, 0)
				return tp.Exp(tp.Sub(vi.Normal{Mean: zero, LogScale: zero}.LogDensity(tp, k["x"]), w))
			}
		})
		inverse.agrees(t, 1, []float64{0})
	}
}

// As a guide the marginal gives a bound that is exact with the exact proposal, and its
// ELBO with one particle is the hierarchical bound: lower by the proposal's divergence.
func TestHierarchicalBound(t *testing.T) {
	const mu = 0.4
	// −KL(N(μ, √2), N(0, 1)) and ∂/∂μ of it
	elbo := 0.5*math.Log(2) + 0.5 - 0.5*(2+mu*mu)
	// divergence of the posterior N(·, √½) from N(·, e^s), whichever x
	const s = -0.1
	kl := s + 0.5*math.Log(2) + 0.25*math.Exp(-2*s) - 0.5
	model := vi.Func(func(t *vi.Trace) {
		zero := constant(t.Tape(), 0)
		t.Sample("x", vi.Normal{Mean: zero, LogScale: zero}, vi.Reparam)
	})
	bound := func(scale float64, particles int) estimate {
		return estimateOf(t, 10000, 9, [][]float64{{mu}}, func(_ *grad.Tape, p []*grad.Value) vi.Objective {
			return vi.ELBO(model, vi.Marginal{Program: chain(p[0]), Keep: []string{"x"}, Proposal: posterior(p[0], scale), Particles: particles})
		})
	}
	bound(-0.5*math.Log(2), 1).agrees(t, elbo, []float64{-mu})
	one, eight := bound(s, 1), bound(s, 8)
	one.agrees(t, elbo-kl, []float64{-mu})
	if !(eight.value > one.value) || eight.value > elbo+4*eight.valueErr {
		t.Errorf("eight particles %.4f, one %.4f, exact %.4f", eight.value, one.value, elbo)
	}
}

func TestMarginalFaults(t *testing.T) {
	zero := func(r *vi.Run) *grad.Value { return constant(r.Tape(), 0) }
	for name, o := range map[string]vi.Objective{
		"kept but not made": func(r *vi.Run) *grad.Value {
			_, w := vi.Marginal{Program: chain(zero(r)), Keep: []string{"y"}, Proposal: posterior(zero(r), 0)}.Simulate(r)
			return w
		},
		"proposed in one program, not in the other": func(r *vi.Run) *grad.Value {
			none := func(vi.Choices) vi.Program { return vi.Func(func(*vi.Trace) {}) }
			_, w := vi.Marginal{Program: chain(zero(r)), Keep: []string{"x"}, Proposal: none}.Simulate(r)
			return w
		},
	} {
		if _, err := run(o); !errors.Is(err, vi.ErrAddress) {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := run(func(r *vi.Run) *grad.Value {
		return vi.Normalize{Target: chain(zero(r)), Proposal: chain(zero(r)), Particles: -1}.Density(r, vi.Choices{"a": zero(r), "x": zero(r)})
	})
	if !errors.Is(err, vi.ErrSetting) {
		t.Errorf("−1 particles: %v", err)
	}
}
