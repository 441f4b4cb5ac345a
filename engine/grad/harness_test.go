package grad_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"tare/engine/grad"
	"tare/engine/tensor"
)

// input is a matrix that an operation reads.
type input struct {
	rows, cols int
	draw       func(r *rand.Rand) float64 // nil: normal
	frozen     bool                       // no gradient is asked for
}

// weight is a parameter that an operation reads.
type weight struct {
	shape []int
	part  grad.Part
	dtype tensor.DType
}

// opCase compares one operation with a plain float64 evaluation of its formula.
// ref sees the inputs and then the parameters, each row-major.
type opCase struct {
	name    string
	in      []input
	weights []weight
	tape    func(tp *grad.Tape, x []*grad.Value, p []*grad.Param) *grad.Value
	ref     func(x [][]float64) []float64
}

func newRand(seed string) *rand.Rand {
	h := uint64(14695981039346656037)
	for _, c := range seed {
		h = (h ^ uint64(c)) * 1099511628211
	}
	return rand.New(rand.NewPCG(h, 7))
}

func normal(r *rand.Rand, n int, scale float64) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(scale * r.NormFloat64())
	}
	return v
}

func wide(v []float32) []float64 {
	w := make([]float64, len(v))
	for i, x := range v {
		w[i] = float64(x)
	}
	return w
}

// away draws numbers that keep a distance from 0, where some operations bend.
func away(r *rand.Rand) float64 {
	v := 0.05 + math.Abs(r.NormFloat64())
	if r.IntN(2) == 0 {
		return -v
	}
	return v
}

func positive(r *rand.Rand) float64 { return 0.2 + math.Abs(r.NormFloat64()) }

// leaves is what one run of a case works on.
type leaves struct {
	data   [][]float32
	params []*grad.Param
	wide   [][]float64
}

func (c opCase) make(t *testing.T) leaves {
	t.Helper()
	r := newRand(c.name)
	var l leaves
	for _, in := range c.in {
		draw := in.draw
		if draw == nil {
			draw = (*rand.Rand).NormFloat64
		}
		d := make([]float32, in.rows*in.cols)
		for i := range d {
			d[i] = float32(draw(r))
		}
		l.data = append(l.data, d)
		l.wide = append(l.wide, wide(d))
	}
	for i, w := range c.weights {
		n := 1
		for _, d := range w.shape {
			n *= d
		}
		p := newParam(t, fmt.Sprintf("p%d", i), normal(r, n, 0.5), w.dtype, w.shape...)
		p.Part = w.part
		l.params = append(l.params, p)
		l.wide = append(l.wide, wide(float32s(t, p.Value)))
	}
	return l
}

func newParam(t *testing.T, name string, data []float32, dtype tensor.DType, shape ...int) *grad.Param {
	t.Helper()
	v, err := tensor.FromF32(data, shape...).To(dtype)
	if err != nil {
		t.Fatal(err)
	}
	return grad.NewParam(name, v)
}

func float32s(t *testing.T, x *tensor.Tensor) []float32 {
	t.Helper()
	v, err := x.Float32s()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// variant is a way of calling an operation that must not change what it computes.
type variant struct {
	name   string
	factor float64 // how often the operation stands in the loss
	only   func(c opCase) bool
	call   func(c opCase, tp *grad.Tape, x []*grad.Value, p []*grad.Param) *grad.Value
}

func owned(tp *grad.Tape, x []*grad.Value) []*grad.Value {
	var o []*grad.Value
	for _, v := range x {
		o = append(o, tp.Scale(v, 1))
	}
	return o
}

func one(c opCase) bool { return len(c.in) == 1 }

var variants = []variant{
	{name: "leaf", factor: 1, call: func(c opCase, tp *grad.Tape, x []*grad.Value, p []*grad.Param) *grad.Value {
		return c.tape(tp, x, p)
	}},
	{name: "owned", factor: 1, call: func(c opCase, tp *grad.Tape, x []*grad.Value, p []*grad.Param) *grad.Value {
		return c.tape(tp, owned(tp, x), p)
	}},
	{name: "scoped", factor: 1, call: func(c opCase, tp *grad.Tape, x []*grad.Value, p []*grad.Param) *grad.Value {
		return tp.Scope(func() *grad.Value { return tp.Scale(c.tape(tp, owned(tp, x), p), 1) })
	}},
	{name: "twice", factor: 2, call: func(c opCase, tp *grad.Tape, x []*grad.Value, p []*grad.Param) *grad.Value {
		a := c.tape(tp, x, p)
		return tp.Add(a, c.tape(tp, x, p))
	}},
	{name: "checkpoint", factor: 1, only: one, call: func(c opCase, tp *grad.Tape, x []*grad.Value, p []*grad.Param) *grad.Value {
		return tp.Checkpoint(tp.Scale(x[0], 1), func(tp *grad.Tape, x *grad.Value) *grad.Value {
			return c.tape(tp, []*grad.Value{x}, p)
		})
	}},
	{name: "checkpoint in checkpoint", factor: 1, only: one, call: func(c opCase, tp *grad.Tape, x []*grad.Value, p []*grad.Param) *grad.Value {
		return tp.Checkpoint(tp.Scale(x[0], 1), func(tp *grad.Tape, x *grad.Value) *grad.Value {
			return tp.Checkpoint(tp.Scale(x, 1), func(tp *grad.Tape, x *grad.Value) *grad.Value {
				return c.tape(tp, []*grad.Value{x}, p)
			})
		})
	}},
}

// result of one backward pass: gradients of leaves (nil for frozen ones) and, by
// parameter, of the trained part.
type result struct {
	out    []float32
	leaves [][]float32
	params map[*grad.Param][]float32
}

// differentiate runs a case with upstream gradient u.
func differentiate(t *testing.T, c opCase, v variant, l leaves, u []float32) result {
	t.Helper()
	ledger := &grad.Ledger{}
	tp := grad.NewTape(ledger)
	res := result{params: map[*grad.Param][]float32{}}
	var x []*grad.Value
	for i, in := range c.in {
		data := append([]float32(nil), l.data[i]...) // some operations overwrite their input
		if in.frozen {
			x = append(x, tp.Const(data, in.rows, in.cols))
		} else {
			x = append(x, tp.Leaf(data, in.rows, in.cols))
		}
	}
	out := v.call(c, tp, x, l.params)
	res.out = append([]float32(nil), out.Data...)
	loss := tp.Sum(tp.Mul(out, tp.Const(u, out.Rows, out.Cols)))
	err := tp.Backward(loss, func(p *grad.Param, g *tensor.Tensor) error {
		if _, again := res.params[p]; again {
			t.Errorf("%s handed over twice", p.Name)
		}
		if fmt.Sprint(g.Shape()) != fmt.Sprint(p.PartShape()) {
			t.Errorf("%s: gradient %v for part %v", p.Name, g.Shape(), p.PartShape())
		}
		res.params[p] = append([]float32(nil), g.F32()...)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, leaf := range x {
		res.leaves = append(res.leaves, leaf.Grad())
	}
	mustBeClean(t, ledger)
	return res
}

func mustBeClean(t *testing.T, l *grad.Ledger) {
	t.Helper()
	for k := range grad.Kinds {
		if n := l.Now(k); n != 0 {
			t.Errorf("%d bytes of %s still held", n, k)
		}
	}
}

// check compares a case with its reference: the forward values, and the gradient
// and the Hessian against central differences of the reference at a sample of entries.
func (c opCase) check(t *testing.T) {
	t.Run(c.name, func(t *testing.T) {
		l := c.make(t)
		want := c.ref(l.wide)
		u := normal(newRand(c.name+"/upstream"), len(want), 1)
		base := differentiate(t, c, variants[0], l, u)
		near(t, "forward", base.out, want, 1e-5)
		c.checkGradient(t, l, u, base)
		c.checkTangents(t, l, u)
		for _, v := range variants[1:] {
			if v.only != nil && !v.only(c) {
				continue
			}
			got := differentiate(t, c, v, l, u)
			for i := range c.in {
				near(t, fmt.Sprintf("%s: input %d", v.name, i), got.leaves[i], scaled(base.leaves[i], v.factor), 1e-5)
			}
			for i, p := range l.params {
				near(t, fmt.Sprintf("%s: parameter %d", v.name, i), got.params[p], scaled(base.params[p], v.factor), 1e-5)
			}
		}
	})
}

func scaled(v []float32, f float64) []float64 {
	w := wide(v)
	for i := range w {
		w[i] *= f
	}
	return w
}

func (c opCase) checkGradient(t *testing.T, l leaves, u []float32, got result) {
	t.Helper()
	r := newRand(c.name + "/sample")
	for i, in := range c.in {
		if in.frozen {
			if got.leaves[i] != nil {
				t.Errorf("input %d is frozen but has a gradient", i)
			}
			continue
		}
		nearSample(t, fmt.Sprintf("gradient of input %d", i), r, got.leaves[i], func(e int) float64 { return c.difference(l, i, e, u) })
	}
	for i, p := range l.params {
		if !p.Trains() {
			if _, ok := got.params[p]; ok {
				t.Errorf("parameter %d is frozen but has a gradient", i)
			}
			continue
		}
		at := positions(p)
		nearSample(t, fmt.Sprintf("gradient of parameter %d", i), r, got.params[p], func(e int) float64 { return c.difference(l, len(c.in)+i, at[e], u) })
	}
}

// positions lists the flat position in the parameter of each entry of its part.
func positions(p *grad.Param) []int {
	keep := p.Value.Clone()
	v := p.Value.F32()
	for i := range v {
		v[i] = float32(i)
	}
	part := make([]float32, p.PartLen())
	p.Gather(part)
	copy(v, keep.F32())
	at := make([]int, len(part))
	for i, x := range part {
		at[i] = int(x)
	}
	return at
}

// difference is the central difference of Σ u·ref by entry e of operand i.
func (c opCase) difference(l leaves, i, e int, u []float32) float64 {
	const h = 1e-6
	x := l.wide[i]
	at := x[e]
	var f [2]float64
	for k, d := range []float64{h, -h} {
		x[e] = at + d
		for j, v := range c.ref(l.wide) {
			f[k] += float64(u[j]) * v
		}
	}
	x[e] = at
	return (f[0] - f[1]) / (2 * h)
}

// nearSample compares up to 24 entries, with an error relative to the largest.
func nearSample(t *testing.T, what string, r *rand.Rand, got []float32, want func(e int) float64) {
	t.Helper()
	if len(got) == 0 {
		t.Errorf("%s: none", what)
		return
	}
	var g []float32
	var w []float64
	for _, e := range r.Perm(len(got))[:min(24, len(got))] {
		g, w = append(g, got[e]), append(w, want(e))
	}
	near(t, what, g, w, 1e-4)
}

// near compares with an error relative to the largest expected magnitude.
func near(t *testing.T, what string, got []float32, want []float64, tol float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%s: %d values, want %d", what, len(got), len(want))
		return
	}
	top := 1e-6
	for _, w := range want {
		top = math.Max(top, math.Abs(w))
	}
	for i, w := range want {
		if d := math.Abs(float64(got[i]) - w); !(d <= tol*top) {
			t.Errorf("%s: entry %d of %d is %g, want %g (scale %g)", what, i, len(want), got[i], w, top)
			return
		}
	}
}

func run(t *testing.T, cases []opCase) {
	t.Helper()
	for _, c := range cases {
		c.check(t)
	}
}
