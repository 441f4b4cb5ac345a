package optim

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"tare/engine/grad"
	"tare/engine/tensor"
	"tare/engine/train"
)

// parts are the pieces of a matrix [13, 37] that the tests train.
var parts = map[string]grad.Part{
	"whole":   grad.Whole,
	"rows":    grad.RowsOf([]int{0, 3, 12}),
	"columns": grad.ColumnsOf([]int{1, 17, 18, 36}),
	"entries": grad.EntriesOf([]int{0, 5, 40, 41, 479, 480}),
}

// newParam returns a parameter of that shape with values of both signs.
func newParam(part grad.Part, shape ...int) *grad.Param {
	p := grad.NewParam("layer.weight", tensor.New(shape...))
	for i := range p.Value.F32() {
		p.Value.F32()[i] = float32(math.Sin(float64(3 * i)))
	}
	p.Part = part
	return p
}

// gradient is that of an entry at a step, the same for both sides of a comparison: it
// turns and its size is another for each entry.
func gradient(at, step int) float32 {
	return float32(math.Cos(float64(at)+float64(step)/7) * math.Exp(float64(at%9-6)))
}

// take does steps from first to last.
func take(t *testing.T, o train.Optimizer, p *grad.Param, first, last int, rate func(step int) float64) {
	t.Helper()
	at := p.Flat()
	for step := first; step <= last; step++ {
		g := tensor.New(p.PartShape()...)
		for i := range at {
			g.F32()[i] = gradient(at[i], step)
		}
		if err := o.Step(p, g, rate(step)); err != nil {
			t.Fatal(err)
		}
	}
}

// falling is a rate that changes, as a schedule's does.
func falling(step int) float64 { return 0.02 / math.Sqrt(float64(step)) }

// rule is an optimizer on one number in float64: what w becomes by g at a step.
type rule func(w, g, rate float64, step int) float64

// adamRule is algorithm 2 of arXiv:1711.05101 with the rate before the decay as well, as
// PyTorch has it.
func adamRule(beta1, beta2, eps, decay float64) rule {
	var m, v float64
	return func(w, g, rate float64, step int) float64 {
		m = beta1*m + (1-beta1)*g
		v = beta2*v + (1-beta2)*g*g
		mean, square := m/(1-math.Pow(beta1, float64(step))), v/(1-math.Pow(beta2, float64(step)))
		return w - rate*decay*w - rate*mean/(math.Sqrt(square)+eps)
	}
}

// sgdRule sums the whole history instead of keeping a velocity: b = Σ µᵗ⁻ˢ (g + decay·w).
func sgdRule(momentum, decay float64) rule {
	var past []float64
	return func(w, g, rate float64, step int) float64 {
		past = append(past, g+decay*w)
		var b float64
		for s, d := range past {
			b += math.Pow(momentum, float64(len(past)-1-s)) * d
		}
		return w - rate*b
	}
}

// Fifty steps are those of the formulas in float64, in whichever part trains; the rest
// keeps its bits.
func TestFiftySteps(t *testing.T) {
	const steps = 50
	for name, c := range map[string]struct {
		method string
		o      Options
		rule   func(decays bool) rule
	}{
		"adamw":                {"adamw", Options{}, func(bool) rule { return adamRule(0.9, 0.999, 1e-8, 0) }},
		"adamw with decay":     {"adamw", Options{Decay: 0.3}, func(d bool) rule { return adamRule(0.9, 0.999, 1e-8, pick(d, 0.3)) }},
		"adamw, other betas":   {"adamw", Options{Beta1: 0.5, Beta2: 0.9, Eps: 1e-3, Decay: 0.1}, func(d bool) rule { return adamRule(0.5, 0.9, 1e-3, pick(d, 0.1)) }},
		"sgd":                  {"sgd", Options{}, func(bool) rule { return sgdRule(0, 0) }},
		"sgd with decay":       {"sgd", Options{Decay: 0.3}, func(d bool) rule { return sgdRule(0, pick(d, 0.3)) }},
		"sgd with momentum":    {"sgd", Options{Momentum: 0.9}, func(bool) rule { return sgdRule(0.9, 0) }},
		"sgd, momentum, decay": {"sgd", Options{Momentum: 0.8, Decay: 0.3}, func(d bool) rule { return sgdRule(0.8, pick(d, 0.3)) }},
	} {
		method, err := ByName(c.method)
		if err != nil {
			t.Fatal(err)
		}
		for part := range parts {
			for _, decays := range []bool{true, false} {
				what := fmt.Sprintf("%s, %s, decays %v", name, part, decays)
				p := newParam(parts[part], 13, 37)
				p.Decay = decays
				want := make([]float64, p.Value.Len())
				for i, w := range p.Value.F32() {
					want[i] = float64(w)
				}
				for _, at := range p.Flat() {
					r := c.rule(decays)
					for step := 1; step <= steps; step++ {
						want[at] = r(want[at], float64(gradient(at, step)), falling(step), step)
					}
				}
				take(t, method.New(c.o, nil), p, 1, steps, falling)
				checkValues(t, what, p, want)
			}
		}
	}
}

func pick(yes bool, v float64) float64 {
	if yes {
		return v
	}
	return 0
}

// checkValues wants trained entries to f32 rounding of some fifty sums, others exactly.
func checkValues(t *testing.T, what string, p *grad.Param, want []float64) {
	t.Helper()
	trained := p.Flat()
	for i, w := range p.Value.F32() {
		tolerance := 0.0
		if _, ok := slices.BinarySearch(trained, i); ok {
			tolerance = 3e-6 * (1 + math.Abs(want[i]))
		}
		if !(math.Abs(float64(w)-want[i]) <= tolerance) {
			t.Fatalf("%s: entry %d is %g, want %g", what, i, w, want[i])
		}
	}
}

// A parameter that is large enough to be cut for several threads is stepped as small
// ones are.
func TestLargeParameter(t *testing.T) {
	for _, m := range Methods() {
		o := Options{Momentum: 0.9, Decay: 0.1}
		large := newParam(grad.Whole, 211, 157) // 2·2¹⁴ and some
		take(t, m.New(o, nil), large, 1, 3, falling)
		row := newParam(grad.RowsOf([]int{200}), 211, 157)
		take(t, m.New(o, nil), row, 1, 3, falling)
		if a, b := large.Value.Rows(200, 201).Bytes(), row.Value.Rows(200, 201).Bytes(); !slices.Equal(a, b) {
			t.Errorf("%s: row 200 differs when all rows train", m.Name)
		}
	}
}

// The first step of Adam goes by the rate against the sign of the gradient, whatever its
// size: m/c1 = g and √(v/c2) = |g|, so it is η·|g|/(|g| + ε).
func TestFirstAdamStepIsTheSign(t *testing.T) {
	const rate = 0.01
	for _, o := range []*AdamW{{}, NewAdamW(0, nil), {Beta1: 0.7, Beta2: 0.95}, {Eps: 1e-3}} {
		eps := o.Eps
		if eps == 0 {
			eps = 1e-8
		}
		sizes := []float32{1e-12, 1e-8, 1e-5, 0.02, 1, 77, 1e9}
		var g []float32
		for _, v := range sizes {
			g = append(g, v, -v)
		}
		g = append(g, 0)
		p := grad.NewParam("w", tensor.New(len(g)))
		p.Part = grad.Whole
		if err := o.Step(p, tensor.FromF32(slices.Clone(g), len(g)), rate); err != nil {
			t.Fatal(err)
		}
		for i, v := range g {
			d := float64(v)
			want := -rate * d / (math.Abs(d) + eps)
			if got := float64(p.Value.F32()[i]); math.Abs(got-want) > 1e-6*math.Abs(want) {
				t.Errorf("β %g, %g, ε %g: a gradient of %g moves by %g, want %g", o.Beta1, o.Beta2, eps, v, got, want)
			}
		}
	}
}

// The zero value has the defaults that the fields name.
func TestDefaults(t *testing.T) {
	run := func(o train.Optimizer) []byte {
		p := newParam(grad.Whole, 13, 37)
		take(t, o, p, 1, 5, falling)
		return p.Value.Bytes()
	}
	want := run(&AdamW{Beta1: 0.9, Beta2: 0.999, Eps: 1e-8})
	if !slices.Equal(run(&AdamW{}), want) || !slices.Equal(run(NewAdamW(0, nil)), want) {
		t.Error("the zero value is not Adam with 0.9, 0.999 and 1e-8")
	}
}

func TestByNameListsTheKnown(t *testing.T) {
	_, err := ByName("adam")
	if err == nil {
		t.Fatal("an unknown optimizer is found")
	}
	for _, m := range Methods() {
		if !strings.Contains(err.Error(), m.Name) {
			t.Errorf("%q does not name %s", err, m.Name)
		}
	}
}
