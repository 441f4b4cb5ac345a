package vi_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"tare/engine/grad"
	"tare/method/bayes/vi"
)

// estimate is what one pass over many rows says of an expectation and its gradient by the
// entries of the parameters, one after another.
type estimate struct {
	value, valueErr float64
	grad, gradErr   []float64
}

// estimateOf runs an objective once in each of rows copies, which have parameters of
// their own, so that each row gives a gradient.
func estimateOf(t *testing.T, rows int, seed uint64, params [][]float64, build func(tp *grad.Tape, p []*grad.Value) vi.Objective) estimate {
	t.Helper()
	tp := grad.NewTape(nil)
	leaves := make([]*grad.Value, len(params))
	for i, p := range params {
		data := make([]float32, rows*len(p))
		for j := range data {
			data[j] = float32(p[j%len(p)])
		}
		leaves[i] = tp.Leaf(data, rows, len(p))
	}
	e := vi.Estimator{Tape: tp, Rows: rows, Rand: rand.New(rand.NewPCG(seed, 63))}
	cost, err := e.Surrogate(build(tp, leaves))
	if err != nil {
		t.Fatal(err)
	}
	var out estimate
	out.value, out.valueErr = meanOf(cost.Data, 0, 1)
	if err := tp.Backward(tp.Sum(cost), nil); err != nil {
		t.Fatal(err)
	}
	for i, p := range params {
		g := leaves[i].Grad()
		if g == nil {
			g = make([]float32, rows*len(p))
		}
		for j := range p {
			m, s := meanOf(g, j, len(p))
			out.grad, out.gradErr = append(out.grad, m), append(out.gradErr, s)
		}
	}
	return out
}

// meanOf returns the mean of a column and its standard error.
func meanOf(x []float32, column, cols int) (mean, se float64) {
	n := float64(len(x) / cols)
	for i := column; i < len(x); i += cols {
		mean += float64(x[i]) / n
	}
	for i := column; i < len(x); i += cols {
		d := float64(x[i]) - mean
		se += d * d
	}
	return mean, math.Sqrt(se/(n-1)) / math.Sqrt(n)
}

// agrees asks for 4 standard errors, and what f32 loses.
func agrees(t *testing.T, what string, got, se, want float64) {
	t.Helper()
	if !(math.Abs(got-want) <= 4*se+2e-5*(1+math.Abs(want))) {
		t.Errorf("%s: %.6g ± %.2g, want %.6g", what, got, se, want)
	}
}

func (e estimate) agrees(t *testing.T, value float64, grad []float64) {
	t.Helper()
	agrees(t, "value", e.value, e.valueErr, value)
	for i := range grad {
		agrees(t, fmt.Sprintf("gradient %d", i), e.grad[i], e.gradErr[i], grad[i])
	}
}

// slopes are central differences.
func slopes(f func(x []float64) float64, x []float64) []float64 {
	const h = 1e-5
	out := make([]float64, len(x))
	for i := range x {
		at := append([]float64(nil), x...)
		at[i] = x[i] + h
		up := f(at)
		at[i] = x[i] - h
		out[i] = (up - f(at)) / (2 * h)
	}
	return out
}

var strategies = map[string]func() vi.Strategy{
	"reparam":      func() vi.Strategy { return vi.Reparam },
	"reinforce":    func() vi.Strategy { return vi.Reinforce },
	"other rows":   func() vi.Strategy { return vi.ReinforceWith(vi.OtherRows{}) },
	"running mean": func() vi.Strategy { return vi.ReinforceWith(&vi.RunningMean{}) },
	"enum":         func() vi.Strategy { return vi.Enum },
	"mvd":          func() vi.Strategy { return vi.MVD },
}

// power is the product of n factors x.
func power(tp *grad.Tape, x *grad.Value, n int) *grad.Value {
	y := x
	for range n - 1 {
		y = tp.Mul(y, x)
	}
	return y
}

// Each distribution with each strategy it has, against the closed form of E k(x).
func TestEstimatorsAreUnbiased(t *testing.T) {
	bits := []float64{0.3, -0.8, 1.1}
	classes := []float64{0.5, -1, 0.2, 0}
	prices := []float64{3, -1, 0.5, 2}
	sigmoid := func(l float64) float64 { return 1 / (1 + math.Exp(-l)) }
	cases := []struct {
		name       string
		params     [][]float64
		dist       func(p []*grad.Value) vi.Dist
		cost       func(tp *grad.Tape, x *grad.Value) *grad.Value
		exact      func(p []float64) float64
		strategies []string
	}{
		{
			"normal", [][]float64{{0.7}, {-0.4}},
			func(p []*grad.Value) vi.Dist { return vi.Normal{Mean: p[0], LogScale: p[1]} },
			func(tp *grad.Tape, x *grad.Value) *grad.Value { return tp.Sub(power(tp, x, 3), x) },
			func(p []float64) float64 { return math.Pow(p[0], 3) + 3*p[0]*math.Exp(2*p[1]) - p[0] },
			[]string{"reparam", "reinforce", "other rows", "running mean", "mvd"},
		},
		{
			// E (x₀x₁)² with independent columns that share a scale
			"two normals", [][]float64{{0.7, -0.3}, {0.1}},
			func(p []*grad.Value) vi.Dist { return vi.Normal{Mean: p[0], LogScale: p[1]} },
			func(tp *grad.Tape, x *grad.Value) *grad.Value {
				return power(tp, tp.Mul(tp.Slice(x, 0, 1), tp.Slice(x, 1, 2)), 2)
			},
			func(p []float64) float64 {
				v := math.Exp(2 * p[2])
				return (p[0]*p[0] + v) * (p[1]*p[1] + v)
			},
			[]string{"reparam", "reinforce", "other rows", "mvd"},
		},
		{
			"exponential", [][]float64{{0.4}},
			func(p []*grad.Value) vi.Dist { return vi.Exponential{LogRate: p[0]} },
			func(tp *grad.Tape, x *grad.Value) *grad.Value { return power(tp, x, 2) },
			func(p []float64) float64 { return 2 * math.Exp(-2*p[0]) },
			[]string{"reparam", "reinforce", "other rows", "running mean", "mvd"},
		},
		{
			"poisson", [][]float64{{0.6}},
			func(p []*grad.Value) vi.Dist { return vi.Poisson{LogRate: p[0]} },
			func(tp *grad.Tape, x *grad.Value) *grad.Value { return power(tp, x, 2) },
			func(p []float64) float64 { return math.Exp(p[0]) + math.Exp(2*p[0]) },
			[]string{"reinforce", "other rows", "running mean", "mvd"},
		},
		{
			// x₀ + 2 x₁x₂
			"bernoulli", [][]float64{bits},
			func(p []*grad.Value) vi.Dist { return vi.Bernoulli{Logits: p[0]} },
			func(tp *grad.Tape, x *grad.Value) *grad.Value {
				return tp.Add(tp.Slice(x, 0, 1), tp.Scale(tp.Mul(tp.Slice(x, 1, 2), tp.Slice(x, 2, 3)), 2))
			},
			func(p []float64) float64 { return sigmoid(p[0]) + 2*sigmoid(p[1])*sigmoid(p[2]) },
			[]string{"reinforce", "other rows", "running mean", "enum", "mvd"},
		},
		{
			"categorical", [][]float64{classes},
			func(p []*grad.Value) vi.Dist { return vi.Categorical{Logits: p[0]} },
			func(tp *grad.Tape, x *grad.Value) *grad.Value {
				price := tp.Const([]float32{3, -1, 0.5, 2}, 1, 4)
				return tp.SumCols(tp.Mul(vi.OneHot(tp, x, 4), price))
			},
			func(p []float64) float64 {
				var sum, total float64
				for i, l := range p {
					sum += math.Exp(l) * prices[i]
					total += math.Exp(l)
				}
				return sum / total
			},
			[]string{"reinforce", "other rows", "running mean", "enum", "mvd"},
		},
	}
	for _, c := range cases {
		var flat []float64
		for _, p := range c.params {
			flat = append(flat, p...)
		}
		for _, name := range c.strategies {
			t.Run(c.name+"/"+name, func(t *testing.T) {
				got := estimateOf(t, 10000, 1, c.params, func(tp *grad.Tape, p []*grad.Value) vi.Objective {
					program := vi.Func(func(tr *vi.Trace) { tr.Sample("x", c.dist(p), strategies[name]()) })
					return func(r *vi.Run) *grad.Value {
						x, _ := program.Simulate(r)
						return c.cost(r.Tape(), x["x"])
					}
				})
				got.agrees(t, c.exact(flat), slopes(c.exact, flat))
				if name == "enum" {
					for i, se := range append(got.gradErr, got.valueErr) {
						if se > 1e-7 {
							t.Errorf("enumerated, but figure %d has the standard error %g", i, se)
						}
					}
				}
			})
		}
	}
}

// Logits far out neither overflow nor lose the density of what they all but say.
func TestDensitiesFarOut(t *testing.T) {
	for _, l := range []float32{-1e4, -200, 200, 1e4} {
		tp := grad.NewTape(nil)
		bit := float32(0)
		if l > 0 {
			bit = 1
		}
		logits := tp.Const([]float32{l}, 1, 1)
		d := vi.Bernoulli{Logits: logits}
		likely, unlikely := d.LogDensity(tp, tp.Const([]float32{bit}, 1, 1)).Data[0], d.LogDensity(tp, tp.Const([]float32{1 - bit}, 1, 1)).Data[0]
		if likely != 0 || unlikely != -max(l, -l) {
			t.Errorf("logit %g: log densities %g and %g", l, likely, unlikely)
		}
		c := vi.Categorical{Logits: tp.Const([]float32{l, -l}, 1, 2)}
		if a, b := c.LogDensity(tp, tp.Const([]float32{0}, 1, 1)).Data[0], min(0, 2*l); a != b {
			t.Errorf("classes of logits %g and %g: log density of the first %g, want %g", l, -l, a, b)
		}
	}
}
