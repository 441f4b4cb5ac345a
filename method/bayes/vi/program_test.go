package vi_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"tare/engine/grad"
	"tare/method/bayes/vi"
)

func constant(tp *grad.Tape, v ...float32) *grad.Value { return tp.Const(v, 1, len(v)) }

// mixture is a model of a class, a number that depends on it and a bit that depends on the
// number, with an observation of their sum, and a guide of the same form. Parameters are
// the classes' logits, their means, one log scale and the bit's slope.
type mixture struct{ class, number, bit vi.Strategy }

var mixtureParams = [][]float64{{0.2, -0.4, 0.5}, {-1, 0.3, 0.8}, {-0.3}, {0.7}}

const observed = 0.5

func (m mixture) model(t *vi.Trace) {
	tp := t.Tape()
	zero := constant(tp, 0)
	c := t.Sample("class", vi.Categorical{Logits: constant(tp, 0, 0, 0)}, m.class)
	z := t.Sample("number", vi.Normal{Mean: tp.Add(c, constant(tp, -1)), LogScale: zero}, m.number)
	b := t.Sample("bit", vi.Bernoulli{Logits: z}, m.bit)
	t.Observe("sum", vi.Normal{Mean: tp.Add(z, b), LogScale: zero}, constant(tp, observed))
}

func (m mixture) guide(p []*grad.Value) vi.Func {
	return func(t *vi.Trace) {
		tp := t.Tape()
		c := t.Sample("class", vi.Categorical{Logits: p[0]}, m.class)
		mean := tp.SumCols(tp.Mul(vi.OneHot(tp, c, 3), p[1]))
		z := t.Sample("number", vi.Normal{Mean: mean, LogScale: p[2]}, m.number)
		t.Sample("bit", vi.Bernoulli{Logits: tp.Mul(z, p[3])}, m.bit)
	}
}

func logNormal(x, mean, logScale float64) float64 {
	u := (x - mean) / math.Exp(logScale)
	return -u*u/2 - logScale - math.Log(2*math.Pi)/2
}

func logBit(b, l float64) float64 { return b*l - math.Log1p(math.Exp(l)) }

// over integrates f(class, number, bit, log p, log q) over all choices: sums over the
// discrete ones, the trapezoidal rule over the number.
func (m mixture) over(p []float64, f func(logp, logq float64) float64) float64 {
	var total, norm float64
	for _, l := range p[:3] {
		norm += math.Exp(l)
	}
	const step = 0.02
	for c := range 3 {
		for z := -9.0; z <= 9; z += step {
			for _, b := range []float64{0, 1} {
				logp := -math.Log(3) + logNormal(z, float64(c)-1, 0) + logBit(b, z) + logNormal(observed, z+b, 0)
				logq := p[c] - math.Log(norm) + logNormal(z, p[3+c], p[6]) + logBit(b, z*p[7])
				total += step * f(logp, logq)
			}
		}
	}
	return total
}

func flat(params [][]float64) []float64 {
	var out []float64
	for _, p := range params {
		out = append(out, p...)
	}
	return out
}

// All ways to combine strategies give the gradient of the same ELBO.
func TestStrategiesCompose(t *testing.T) {
	elbo := func(p []float64) float64 {
		return mixture{}.over(p, func(logp, logq float64) float64 { return math.Exp(logq) * (logp - logq) })
	}
	at := flat(mixtureParams)
	value, slope := elbo(at), slopes(elbo, at)
	for _, class := range []string{"reinforce", "enum", "mvd"} {
		for _, number := range []string{"reparam", "other rows", "mvd"} {
			for _, bit := range []string{"other rows", "enum", "mvd"} {
				t.Run(fmt.Sprint(class, "/", number, "/", bit), func(t *testing.T) {
					m := mixture{strategies[class](), strategies[number](), strategies[bit]()}
					estimateOf(t, 2000, 2, mixtureParams, func(_ *grad.Tape, p []*grad.Value) vi.Objective {
						return vi.ELBO(vi.Func(m.model), m.guide(p))
					}).agrees(t, value, slope)
				})
			}
		}
	}
}

// Objectives of one's own: the sleep phase, a bound by χ², and the symmetric divergence.
func TestObjectivesOfOnesOwn(t *testing.T) {
	m := mixture{vi.Enum, vi.Reparam, vi.Enum}
	at := flat(mixtureParams)
	cases := []struct {
		name      string
		objective func(model, guide vi.Program) vi.Objective
		exact     func(logp, logq float64) float64
	}{
		{
			// E_p log q over the model's own draws, without the observation
			"sleep",
			func(_, guide vi.Program) vi.Objective {
				dream := vi.Func(func(t *vi.Trace) {
					tp := t.Tape()
					c := t.Sample("class", vi.Categorical{Logits: constant(tp, 0, 0, 0)}, vi.Enum)
					z := t.Sample("number", vi.Normal{Mean: tp.Add(c, constant(tp, -1)), LogScale: constant(tp, 0)}, vi.Reparam)
					t.Sample("bit", vi.Bernoulli{Logits: z}, vi.Enum)
				})
				return func(r *vi.Run) *grad.Value {
					x, _ := dream.Simulate(r)
					return guide.Density(r, x)
				}
			},
			nil,
		},
		{
			"chi squared",
			func(model, guide vi.Program) vi.Objective {
				return func(r *vi.Run) *grad.Value {
					x, q := guide.Simulate(r)
					w := r.Tape().Exp(r.Tape().Sub(model.Density(r, x), q))
					return r.Tape().Mul(w, w)
				}
			},
			func(logp, logq float64) float64 { return math.Exp(2*logp - logq) },
		},
		{
			"half way to the reverse",
			func(model, guide vi.Program) vi.Objective {
				return func(r *vi.Run) *grad.Value {
					x, q := guide.Simulate(r)
					tp := r.Tape()
					l := tp.Sub(model.Density(r, x), q)
					return tp.Mul(tp.Add(tp.Exp(l), constant(tp, -1)), l) // E_q (w − 1) log w
				}
			},
			func(logp, logq float64) float64 { return (math.Exp(logp) - math.Exp(logq)) * (logp - logq) },
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			exact := func(p []float64) float64 { return m.over(p, c.exact) }
			if c.exact == nil {
				exact = m.dreamt
			}
			estimateOf(t, 8000, 3, mixtureParams, func(_ *grad.Tape, p []*grad.Value) vi.Objective {
				return c.objective(vi.Func(m.model), m.guide(p))
			}).agrees(t, exact(at), slopes(exact, at))
		})
	}
}

// dreamt is E log q over draws from the prior.
func (m mixture) dreamt(p []float64) (total float64) {
	var norm float64
	for _, l := range p[:3] {
		norm += math.Exp(l)
	}
	const step = 0.02
	for c := range 3 {
		for z := -9.0; z <= 9; z += step {
			for _, b := range []float64{0, 1} {
				prior := -math.Log(3) + logNormal(z, float64(c)-1, 0) + logBit(b, z)
				total += step * math.Exp(prior) * (p[c] - math.Log(norm) + logNormal(z, p[3+c], p[6]) + logBit(b, z*p[7]))
			}
		}
	}
	return total
}

// NumPyro's estimators of the same bounds, within 4 standard errors of the difference.
func TestAgreesWithNumPyro(t *testing.T) {
	raw, err := os.ReadFile("testdata/elbo.json")
	if err != nil {
		t.Fatal(err)
	}
	var golden map[string]struct{ Mean, SE []float64 }
	if err := json.Unmarshal(raw, &golden); err != nil {
		t.Fatal(err)
	}
	points := []float32{1, 0.3, -0.7, 1.5, -1.1, -0.5, 1.2, 0.4, 0.1, -0.9} // transposed
	logistic := vi.Func(func(t *vi.Trace) {
		tp := t.Tape()
		z := t.Sample("z", vi.Normal{Mean: constant(tp, 0, 0), LogScale: constant(tp, 0)}, vi.Reparam)
		logits := tp.MatMul(z, tp.Const(points, 2, 5), false, false)
		t.Observe("y", vi.Bernoulli{Logits: logits}, constant(tp, 1, 0, 0, 1, 1))
	})
	normal := func(s vi.Strategy) func(p []*grad.Value) vi.Func {
		return func(p []*grad.Value) vi.Func {
			return func(t *vi.Trace) { t.Sample("z", vi.Normal{Mean: p[0], LogScale: p[1]}, s) }
		}
	}
	hidden := vi.Func(func(t *vi.Trace) {
		tp := t.Tape()
		b := t.Sample("b", vi.Bernoulli{Logits: constant(tp, 0.5, -0.5)}, vi.Enum)
		z := t.Sample("z", vi.Normal{Mean: tp.Slice(b, 0, 1), LogScale: constant(tp, 0)}, vi.Reparam)
		mean := tp.Add(z, tp.Scale(tp.Slice(b, 1, 2), 2))
		t.Observe("y", vi.Normal{Mean: mean, LogScale: constant(tp, float32(math.Log(0.5)))}, constant(tp, 1.3))
	})
	independent := func(bits vi.Strategy) func(p []*grad.Value) vi.Func {
		return func(p []*grad.Value) vi.Func {
			return func(t *vi.Trace) {
				t.Sample("b", vi.Bernoulli{Logits: p[0]}, bits)
				t.Sample("z", vi.Normal{Mean: p[1], LogScale: p[2]}, vi.Reparam)
			}
		}
	}
	a, b := [][]float64{{0.2, -0.1}, {-0.3, 0.2}}, [][]float64{{0.1, 0.4}, {0.6}, {-0.5}}
	for _, c := range []struct {
		name, golden string
		params       [][]float64
		objective    func(p []*grad.Value) vi.Objective
	}{
		{"logistic", "logistic_elbo", a, func(p []*grad.Value) vi.Objective { return vi.ELBO(logistic, normal(vi.Reparam)(p)) }},
		{"logistic, mvd", "logistic_elbo", a, func(p []*grad.Value) vi.Objective { return vi.ELBO(logistic, normal(vi.MVD)(p)) }},
		{"logistic, 5 draws", "logistic_iwelbo5", a, func(p []*grad.Value) vi.Objective { return vi.IWELBO(logistic, normal(vi.Reparam)(p), 5) }},
		{"switch, enum", "switch_elbo", b, func(p []*grad.Value) vi.Objective { return vi.ELBO(hidden, independent(vi.Enum)(p)) }},
		{"switch, reinforce", "switch_elbo", b, func(p []*grad.Value) vi.Objective { return vi.ELBO(hidden, independent(vi.Reinforce)(p)) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := estimateOf(t, 20000, 4, c.params, func(_ *grad.Tape, p []*grad.Value) vi.Objective { return c.objective(p) })
			want := golden[c.golden]
			agrees(t, "value", got.value, math.Hypot(got.valueErr, want.SE[0]), want.Mean[0])
			for i := range got.grad {
				agrees(t, fmt.Sprint("gradient ", i), got.grad[i], math.Hypot(got.gradErr[i], want.SE[i+1]), want.Mean[i+1])
			}
		})
	}
}

// More draws give a better bound, and none is above log p(y).
func TestBoundsRiseWithDraws(t *testing.T) {
	m := mixture{vi.Reinforce, vi.Reparam, vi.Reinforce}
	at := flat(mixtureParams)
	evidence := math.Log(m.over(at, func(logp, _ float64) float64 { return math.Exp(logp) }))
	last := math.Inf(-1)
	for _, n := range []int{1, 2, 8, 32} {
		e := estimateOf(t, 4000, 5, mixtureParams, func(_ *grad.Tape, p []*grad.Value) vi.Objective {
			return vi.IWELBO(vi.Func(m.model), m.guide(p), n)
		})
		if e.value <= last || e.value > evidence+4*e.valueErr {
			t.Errorf("%d draws: %.4f ± %.4f after %.4f, log evidence %.4f", n, e.value, e.valueErr, last, evidence)
		}
		last = e.value
	}
}

// run is one estimate at two rows without parameters.
func run(o vi.Objective) (*grad.Value, error) {
	e := vi.Estimator{Tape: grad.NewTape(nil), Rows: 2, Rand: rand.New(rand.NewPCG(1, 2))}
	return e.Surrogate(o)
}

func TestFaultsAreNamed(t *testing.T) {
	sample := func(f func(t *vi.Trace)) vi.Objective {
		return func(r *vi.Run) *grad.Value {
			_, logp := vi.Func(f).Simulate(r)
			return logp
		}
	}
	zero := func(t *vi.Trace) *grad.Value { return constant(t.Tape(), 0) }
	odd := 0
	var bad float32 = float32(math.NaN())
	for _, c := range []struct {
		name  string
		o     vi.Objective
		want  error
		words []string
	}{
		{"discrete, reparameterised", sample(func(t *vi.Trace) { t.Sample("coin", vi.Bernoulli{Logits: zero(t)}, vi.Reparam) }),
			vi.ErrStrategy, []string{`"coin"`, "REPARAM", "Bernoulli", "ENUM"}},
		{"count, reparameterised", sample(func(t *vi.Trace) { t.Sample("n", vi.Poisson{LogRate: zero(t)}, vi.Reparam) }),
			vi.ErrStrategy, []string{`"n"`, "MVD or REINFORCE"}},
		{"continuous, enumerated", sample(func(t *vi.Trace) { t.Sample("z", vi.Normal{Mean: zero(t), LogScale: zero(t)}, vi.Enum) }),
			vi.ErrStrategy, []string{`"z"`, "ENUM", "Normal"}},
		{"density", sample(func(t *vi.Trace) {
			t.Observe("y", vi.Normal{Mean: constant(t.Tape(), bad), LogScale: zero(t)}, constant(t.Tape(), 1.5))
		}), vi.ErrDensity, []string{`"y"`, "NaN", "row 0", "1.5"}},
		{"density that overflows", sample(func(t *vi.Trace) {
			t.Observe("y", vi.Normal{Mean: zero(t), LogScale: constant(t.Tape(), -80)}, constant(t.Tape(), 3))
		}), vi.ErrDensity, []string{`"y"`, "-Inf"}},
		{"density in a phantom's run", func(r *vi.Run) *grad.Value {
			x, _ := vi.Func(func(t *vi.Trace) { t.Sample("x", vi.Exponential{LogRate: zero(t)}, vi.MVD) }).Simulate(r)
			if odd++; odd > 1 {
				return constant(r.Tape(), bad)
			}
			return x["x"]
		}, vi.ErrDensity, []string{"NaN"}},
		{"support", sample(func(t *vi.Trace) { t.Observe("y", vi.Bernoulli{Logits: zero(t)}, constant(t.Tape(), 0.25)) }),
			vi.ErrSupport, []string{`"y"`, "0.25", "row 0"}},
		{"twice", sample(func(t *vi.Trace) {
			t.Sample("z", vi.Normal{Mean: zero(t), LogScale: zero(t)}, vi.Reparam)
			t.Sample("z", vi.Normal{Mean: zero(t), LogScale: zero(t)}, vi.Reparam)
		}), vi.ErrAddress, []string{`"z"`, "twice"}},
		{"missing", func(r *vi.Run) *grad.Value {
			return vi.Func(func(t *vi.Trace) { t.Sample("z", vi.Bernoulli{Logits: zero(t)}, vi.Enum) }).Density(r, vi.Choices{"x": constant(r.Tape(), 1)})
		}, vi.ErrAddress, []string{`"z"`, `"x"`}},
		{"left over", func(r *vi.Run) *grad.Value {
			return vi.Func(func(t *vi.Trace) {}).Density(r, vi.Choices{"x": constant(r.Tape(), 1)})
		}, vi.ErrAddress, []string{`"x"`}},
		{"changing", sample(func(t *vi.Trace) {
			odd++
			t.Sample(fmt.Sprint("bit", odd), vi.Bernoulli{Logits: zero(t)}, vi.Enum)
		}), vi.ErrReplay, []string{"bit"}},
		{"too much to enumerate", sample(func(t *vi.Trace) {
			t.Sample("bits", vi.Bernoulli{Logits: t.Tape().Const(make([]float32, 24), 1, 24)}, vi.Enum)
		}), vi.ErrSetting, []string{"Runs"}},
		{"a matrix of costs", func(r *vi.Run) *grad.Value { return constant(r.Tape(), 1, 2) }, vi.ErrSetting, []string{"column of 2 rows"}},
		{"no draws", vi.IWELBO(vi.Func(func(*vi.Trace) {}), vi.Func(func(*vi.Trace) {}), 0), vi.ErrSetting, []string{"0 draws"}},
	} {
		odd = 0
		v, err := run(c.o)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, %v, want %v", c.name, v, err, c.want)
			continue
		}
		for _, w := range c.words {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %q does not say %q", c.name, err, w)
			}
		}
	}
	if _, err := (&vi.Estimator{}).Surrogate(nil); !errors.Is(err, vi.ErrSetting) {
		t.Errorf("an empty estimator: %v", err)
	}
}

// A failure while nothing is recorded leaves the tape recording.
func TestTapeRecordsAfterAFailure(t *testing.T) {
	tp := grad.NewTape(nil)
	e := vi.Estimator{Tape: tp, Rows: 1, Rand: rand.New(rand.NewPCG(1, 1))}
	runs := 0
	_, err := e.Surrogate(func(r *vi.Run) *grad.Value {
		vi.Func(func(t *vi.Trace) { t.Sample("x", vi.Bernoulli{Logits: constant(tp, 0)}, vi.MVD) }).Simulate(r)
		if runs++; runs > 1 {
			r.Fail(errors.New("enough"))
		}
		return constant(tp, 1)
	})
	if err == nil || !tp.Recording() {
		t.Errorf("%v, recording %t", err, tp.Recording())
	}
}
