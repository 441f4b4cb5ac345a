package grad_test

import (
	"maps"
	"math"
	"slices"
	"testing"

	"tare/engine/grad"
	"tare/engine/tensor"
)

func (n *network) hvp(t *testing.T, tp *grad.Tape, v gradient) (value, slope float64, hv gradient) {
	t.Helper()
	hv = gradient{}
	value, slope, err := tp.HVP(n.loss, v.direction(), hv.take)
	if err != nil {
		t.Fatal(err)
	}
	return value, slope, hv
}

// nearGradient compares with an error relative to the whole norm.
func nearGradient(t *testing.T, what string, got, want gradient, tol float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%s: %d parameters, want %d", what, len(got), len(want))
	}
	var off float64
	for p, w := range want {
		for i, v := range w {
			d := float64(got[p][i] - v)
			off += d * d
		}
	}
	if norm := math.Sqrt(dot(want, want)); !(math.Sqrt(off) <= tol*norm) {
		t.Errorf("%s: off by %.3g of %.3g", what, math.Sqrt(off), norm)
	}
}

// H v is the derivative of the gradient along v, and H is symmetric; the slope is ⟨∇L, v⟩.
func TestHVPOfModels(t *testing.T) {
	for name, n := range tiny(t) {
		t.Run(name, func(t *testing.T) {
			ledger := &grad.Ledger{}
			tp := grad.NewTape(ledger)
			value, g := n.gradient(t, tp)
			r := newRand(name)
			u, v := n.random(r), n.random(r)
			_, _, hu := n.hvp(t, tp, u)
			again, slope, hv := n.hvp(t, tp, v)
			near(t, "value and slope", []float32{float32(again), float32(slope)}, []float64{value, dot(g, v)}, 1e-5)
			_, forward, err := tp.JVP(n.loss, v.direction())
			near(t, "slope by JVP", []float32{float32(forward)}, []float64{slope}, 1e-5)
			if err != nil {
				t.Error(err)
			}
			near(t, "uᵀHv", []float32{float32(dot(u, hv))}, []float64{dot(v, hu)}, 1e-4)
			mustBeClean(t, ledger)

			const h = 4e-4 // beyond it windows of the max pool change their winner
			at := n.values()
			shift(at, v, h)
			_, up := n.gradient(t, tp)
			shift(at, v, -h)
			_, down := n.gradient(t, tp)
			shift(at, v, 0)
			want := gradient{}
			for p, x := range up {
				want[p] = make([]float32, len(x))
				for i := range x {
					want[p][i] = (x[i] - down[p][i]) / (2 * h)
				}
			}
			nearGradient(t, "Hv", hv, want, 2e-3)
		})
	}
}

// The gradient of ½‖∇L‖² is H ∇L.
func TestGradientOfGradientNorm(t *testing.T) {
	n := recurrent(t, 5, 6)
	tp := grad.NewTape(nil)
	_, g := n.gradient(t, tp)
	_, _, hg := n.hvp(t, tp, g)
	v, at := n.random(newRand("norm")), n.values()
	const h = 1e-3
	penalty := func(h float64) float64 {
		shift(at, v, h)
		_, g := n.gradient(t, tp)
		return dot(g, g) / 2
	}
	want := (penalty(h) - penalty(-h)) / (2 * h)
	near(t, "derivative of the penalty", []float32{float32(dot(hg, v))}, []float64{want}, 1e-3)
}

// A penalty ½‖∇ₓL‖² on the gradient by the input, added to the loss: with v = ∇ₓL held
// fixed, ∇(L + λ L̇) is its gradient.
func TestInputGradientPenalty(t *testing.T) {
	const rows, d, lambda = 4, 5, 0.7
	n := &network{r: newRand("penalty")}
	w1, b1 := n.add(t, grad.Whole, 0.5, 0, 9, d), n.add(t, grad.Whole, 0.2, 0, 9)
	w2 := n.add(t, grad.ColumnsOf([]int{0, 3, 8}), 0.5, 0, 3, 9)
	data, targets := normal(n.r, rows*d, 1), n.labels(rows, 3)
	tp := grad.NewTape(nil)
	var x *grad.Value
	var v []float32
	loss := func(tp *grad.Tape) *grad.Value {
		x = tp.Leaf(data, rows, d)
		if v != nil {
			tp.Move(x, v)
		}
		return tp.CrossEntropy(tp.Linear(tp.Tanh(tp.AddBias(tp.Linear(x, w1), b1)), w2), targets, rows)
	}
	n.loss = loss
	total := func() float64 {
		v = nil
		value, _ := n.gradient(t, tp)
		v = append([]float32(nil), x.Grad()...)
		for _, e := range v {
			value += lambda / 2 * float64(e) * float64(e)
		}
		return value
	}
	total()
	value, slope, err := tp.Along(loss, nil)
	if err != nil {
		t.Fatal(err)
	}
	got := gradient{}
	if err := tp.Backward(tp.Add(value, tp.Scale(slope, lambda)), got.take); err != nil {
		t.Fatal(err)
	}
	r, at := newRand("along"), n.values()
	for range 3 {
		const h = 1e-2
		u := n.random(r)
		shift(at, u, h)
		up := total()
		shift(at, u, -h)
		down := total()
		shift(at, u, 0)
		want := (up - down) / (2 * h)
		if d, scale := math.Abs(dot(got, u)-want), math.Sqrt(dot(got, got)*dot(u, u)); d > 1e-3*scale {
			t.Errorf("derivative %g, want %g (scale %g)", dot(got, u), want, scale)
		}
	}
}

// Mixed derivatives: for L = ½ Σ e^λ (w − a)², ∂²L/∂λ∂w v = Σ e^λ (w − a) v, which is
// what a hypergradient by λ needs of the inner problem; and ∂²L/∂w² v = e^λ v.
func TestMixedDerivatives(t *testing.T) {
	w := newParam(t, "w", []float32{1, -2, 0.5}, tensor.F32, 1, 3)
	lambda := newParam(t, "λ", []float32{0.3}, tensor.F32, 1, 1)
	w.Part, lambda.Part = grad.Whole, grad.Whole
	v := []float32{0.4, 1, -2}
	got := gradient{}
	_, _, err := grad.NewTape(nil).HVP(func(tp *grad.Tape) *grad.Value {
		d := tp.Sub(tp.Use(w), tp.Const([]float32{0, 1, 2}, 1, 3))
		return tp.Scale(tp.Sum(tp.Mul(tp.Exp(tp.Use(lambda)), tp.Mul(d, d))), 0.5)
	}, grad.Direction{w: tensor.FromF32(v, 1, 3)}, got.take)
	if err != nil {
		t.Fatal(err)
	}
	e := math.Exp(float64(float32(0.3)))
	near(t, "by λ", got[lambda], []float64{e * (1*0.4 + -3*1 + -1.5*-2)}, 1e-5)
	near(t, "by w", got[w], []float64{0.4 * e, e, -2 * e}, 1e-5)
}

// A chunked loss has the second derivatives of a plain one.
func TestHVPOfChunkedCrossEntropy(t *testing.T) {
	n := &network{r: newRand("chunks")}
	w := n.add(t, grad.Whole, 0.5, 0, 9, 5)
	x, targets := normal(n.r, 40*5, 1), n.labels(40, 9)
	targets[3], targets[39] = -1, -1
	v := n.random(n.r)
	chunked := func(tp *grad.Tape) *grad.Value {
		return tp.ChunkedCrossEntropy(tp.Leaf(x, 40, 5), targets, 38, 9, 1, func(tp *grad.Tape, x *grad.Value) *grad.Value { return tp.Linear(x, w) })
	}
	plain := func(tp *grad.Tape) *grad.Value {
		return tp.CrossEntropy(tp.Linear(tp.Leaf(x, 40, 5), w), targets, 38)
	}
	tp := grad.NewTape(nil)
	n.loss = chunked
	_, _, a := n.hvp(t, tp, v)
	n.loss = plain
	_, _, b := n.hvp(t, tp, v)
	nearGradient(t, "chunked", a, b, 1e-6)
}

// Derivatives leave the running statistics alone.
func TestHVPLeavesRunningStatistics(t *testing.T) {
	run := grad.Running{Mean: []float32{1}, Var: []float32{2}, Momentum: 0.5}
	w, b := newParam(t, "w", []float32{1}, 0, 1), newParam(t, "b", []float32{0}, 0, 1)
	w.Part = grad.Whole
	if _, _, err := grad.NewTape(nil).JVP(func(tp *grad.Tape) *grad.Value {
		return tp.Sum(tp.BatchNorm(tp.Const([]float32{3, 5}, 2, 1), w, b, run, normEps, true))
	}, nil); err != nil || run.Mean[0] != 1 || run.Var[0] != 2 {
		t.Errorf("mean %v, variance %v, %v", run.Mean, run.Var, err)
	}
}

func crossEntropyRef(x []float64, targets []int32, cols int) (sum float64) {
	p := softmaxRows(x, cols)
	for r, target := range targets {
		if target >= 0 {
			sum -= math.Log(p[r*cols+int(target)])
		}
	}
	return sum
}

func TestCrossEntropy(t *testing.T) {
	for _, cols := range []int{1, 7, 65} {
		targets := make([]int32, 6)
		for i := range targets {
			targets[i] = int32(i * 5 % cols)
		}
		targets[2] = -1
		opCase{
			name: "CrossEntropy", in: []input{{rows: 6, cols: cols, draw: positive}},
			tape: func(tp *grad.Tape, x []*grad.Value, _ []*grad.Param) *grad.Value {
				z := tp.Add(tp.CrossEntropy(tp.Scale(x[0], 1), targets, 5), tp.Const([]float32{1}, 1, 1))
				return tp.Mul(z, z) // and what reaches the loss is not 1
			},
			ref: func(x [][]float64) []float64 {
				l := 1 + crossEntropyRef(x[0], targets, cols)/5
				return []float64{l * l}
			},
		}.checkOnce(t)
	}
}

// checkOnce is check for an operation that ends a tape.
func (c opCase) checkOnce(t *testing.T) {
	all := slices.Clone(variants)
	defer func() { variants = all }()
	variants = slices.DeleteFunc(slices.Clone(variants), func(v variant) bool { return v.name == "twice" })
	c.check(t)
}

// Every network's parameters that train are handed over once each.
func TestHVPHandsOverEveryParameter(t *testing.T) {
	for name, n := range tiny(t) {
		_, _, hv := n.hvp(t, grad.NewTape(nil), n.random(n.r))
		trained := slices.DeleteFunc(slices.Clone(n.params), func(p *grad.Param) bool { return !p.Trains() })
		if len(hv) != len(trained) {
			t.Errorf("%s: %d of %d parameters: %v", name, len(hv), len(trained), slices.Collect(maps.Keys(hv)))
		}
	}
}
