package grad_test

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"tare/engine/grad"
	"tare/engine/tensor"
)

// moves is a direction for every operand of a case; nil stands still.
type moves struct {
	leaves    [][]float32
	direction grad.Direction
	wide      [][]float64 // of inputs and then of whole parameters, as leaves.wide
}

func (c opCase) moves(l leaves) moves {
	r := newRand(c.name + "/direction")
	m := moves{direction: grad.Direction{}}
	for i, in := range c.in {
		if in.frozen {
			m.leaves, m.wide = append(m.leaves, nil), append(m.wide, nil)
			continue
		}
		v := normal(r, len(l.data[i]), 1)
		m.leaves, m.wide = append(m.leaves, v), append(m.wide, wide(v))
	}
	for i, p := range l.params {
		if !p.Trains() {
			m.wide = append(m.wide, nil)
			continue
		}
		v := normal(r, p.PartLen(), 1)
		m.direction[p] = tensor.FromF32(v, p.PartShape()...)
		whole := make([]float64, len(l.wide[len(c.in)+i]))
		for k, at := range positions(p) {
			whole[at] = float64(v[k])
		}
		m.wide = append(m.wide, whole)
	}
	return m
}

// along returns Σ u·ref where operand i's entry e moves by d and all move by s along m.
func (c opCase) along(l leaves, m moves, u []float32, s float64, i, e int, d float64) float64 {
	x := make([][]float64, len(l.wide))
	for k, w := range l.wide {
		x[k] = append([]float64(nil), w...)
		for j, v := range m.wide[k] {
			x[k][j] += s * v
		}
	}
	x[i][e] += d
	var sum float64
	for j, v := range c.ref(x) {
		sum += float64(u[j]) * v
	}
	return sum
}

// loss returns the function Σ u·op of a case, and where it puts its leaves.
func (c opCase) loss(v variant, l leaves, m moves, u []float32) (f func(tp *grad.Tape) *grad.Value, leaves *[]*grad.Value) {
	leaves = new([]*grad.Value)
	return func(tp *grad.Tape) *grad.Value {
		var x []*grad.Value
		for i, in := range c.in {
			data := append([]float32(nil), l.data[i]...)
			if in.frozen {
				x = append(x, tp.Const(data, in.rows, in.cols))
				continue
			}
			leaf := tp.Leaf(data, in.rows, in.cols)
			tp.Move(leaf, m.leaves[i])
			x = append(x, leaf)
		}
		*leaves = x
		out := v.call(c, tp, x, l.params)
		return tp.Sum(tp.Mul(out, tp.Const(u, out.Rows, out.Cols)))
	}, leaves
}

// secondOrder is what one Hessian-vector product gives.
type secondOrder struct {
	slope  float64
	leaves [][]float32
	params map[*grad.Param][]float32
}

func (c opCase) hvp(t *testing.T, v variant, l leaves, m moves, u []float32) secondOrder {
	t.Helper()
	ledger := &grad.Ledger{}
	tp := grad.NewTape(ledger)
	f, x := c.loss(v, l, m, u)
	_, forward, err := tp.JVP(f, m.direction)
	if err != nil {
		t.Fatal(err)
	}
	mustBeClean(t, ledger)
	res := secondOrder{params: map[*grad.Param][]float32{}}
	_, res.slope, err = tp.HVP(f, m.direction, func(p *grad.Param, g *tensor.Tensor) error {
		if _, again := res.params[p]; again {
			t.Errorf("%s handed over twice", p.Name)
		}
		res.params[p] = append([]float32(nil), g.F32()...)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	mustBeClean(t, ledger)
	if math.Abs(forward-res.slope) > 1e-5*(1+math.Abs(forward)) {
		t.Errorf("%s: slope %g by JVP, %g by HVP", v.name, forward, res.slope)
	}
	for i, leaf := range *x {
		g := leaf.Grad()
		if g == nil && !c.in[i].frozen {
			g = make([]float32, len(leaf.Data))
		}
		res.leaves = append(res.leaves, g)
	}
	return res
}

// checkTangents compares the slope and the Hessian-vector product of Σ u·op with
// first and second differences of the reference.
func (c opCase) checkTangents(t *testing.T, l leaves, u []float32) {
	t.Helper()
	m := c.moves(l)
	base := c.hvp(t, variants[0], l, m, u)
	const h = 1e-4
	want := (c.along(l, m, u, h, 0, 0, 0) - c.along(l, m, u, -h, 0, 0, 0)) / (2 * h)
	if math.Abs(base.slope-want) > 1e-4*(1+math.Abs(want)) {
		t.Errorf("slope %g, want %g", base.slope, want)
	}
	r := newRand(c.name + "/second")
	for i := range c.in {
		if !c.in[i].frozen {
			c.nearSecond(t, fmt.Sprintf("Hessian by input %d", i), r, base.leaves[i], l, m, u, i, nil)
		}
	}
	for i, p := range l.params {
		if p.Trains() {
			c.nearSecond(t, fmt.Sprintf("Hessian by parameter %d", i), r, base.params[p], l, m, u, len(c.in)+i, positions(p))
		}
	}
	for _, v := range variants[1:] {
		if v.only != nil && !v.only(c) {
			continue
		}
		got := c.hvp(t, v, l, m, u)
		for i := range c.in {
			nearFloor(t, fmt.Sprintf("%s: Hessian by input %d", v.name, i), got.leaves[i], scaled(base.leaves[i], v.factor), 1e-5)
		}
		for i, p := range l.params {
			nearFloor(t, fmt.Sprintf("%s: Hessian by parameter %d", v.name, i), got.params[p], scaled(base.params[p], v.factor), 1e-5)
		}
	}
}

// nearSecond compares up to 6 entries with (∂/∂e)(d/ds) of the reference.
func (c opCase) nearSecond(t *testing.T, what string, r *rand.Rand, got []float32, l leaves, m moves, u []float32, i int, at []int) {
	t.Helper()
	const h = 2e-4
	var g []float32
	var w []float64
	for _, k := range r.Perm(len(got))[:min(6, len(got))] {
		e := k
		if at != nil {
			e = at[k]
		}
		d := func(s, d float64) float64 { return c.along(l, m, u, s, i, e, d) }
		g, w = append(g, got[k]), append(w, (d(h, h)-d(h, -h)-d(-h, h)+d(-h, -h))/(4*h*h))
	}
	nearFloor(t, what, g, w, 3e-4)
}

// nearFloor is near with an error relative to 1 at least.
func nearFloor(t *testing.T, what string, got []float32, want []float64, tol float64) {
	t.Helper()
	top := 1.0
	for _, w := range want {
		top = math.Max(top, math.Abs(w))
	}
	if len(got) != len(want) {
		t.Errorf("%s: %d values, want %d", what, len(got), len(want))
		return
	}
	for i, w := range want {
		if d := math.Abs(float64(got[i]) - w); !(d <= tol*top) {
			t.Errorf("%s: entry %d of %d is %g, want %g (scale %g)", what, i, len(want), got[i], w, top)
			return
		}
	}
}

// A direction of a parameter that stands still, one of the wrong shape, a loss that is
// no number, a cache: each is an error that says so, and the tape works on.
func TestTangentErrors(t *testing.T) {
	still := newParam(t, "still", make([]float32, 4), tensor.F32, 2, 2)
	w := newParam(t, "w", []float32{1, 2, 3, 4}, tensor.F32, 2, 2)
	w.Part = grad.Whole
	v := grad.Direction{w: tensor.FromF32([]float32{1, 0, 0, 0}, 2, 2)}
	square := func(tp *grad.Tape) *grad.Value { x := tp.Use(w); return tp.Sum(tp.Mul(x, x)) }
	for want, f := range map[string]func(tp *grad.Tape) error{
		"does not train": func(tp *grad.Tape) error {
			_, _, err := tp.JVP(square, grad.Direction{still: tensor.New(2, 2)})
			return err
		},
		"want f32 of the part's shape": func(tp *grad.Tape) error {
			_, _, err := tp.JVP(square, grad.Direction{w: tensor.New(3)})
			return err
		},
		"want a scalar": func(tp *grad.Tape) error {
			_, _, err := tp.HVP(func(tp *grad.Tape) *grad.Value { return tp.Scale(tp.Use(w), 2) }, v, nil)
			return err
		},
		"AttendCached": func(tp *grad.Tape) error {
			_, _, err := tp.HVP(func(tp *grad.Tape) *grad.Value {
				x := tp.Use(w)
				return tp.Sum(tp.AttendCached(x, [][]float32{x.Data}, [][]float32{x.Data}, 2, grad.Heads{Q: 1, KV: 1, Scale: 1}, grad.Sequences{Lengths: []int{2}}))
			}, v, nil)
			return err
		},
		"make it a Leaf": func(tp *grad.Tape) error {
			_, _, err := tp.JVP(func(tp *grad.Tape) *grad.Value {
				x := tp.Const([]float32{1}, 1, 1)
				tp.Move(x, []float32{1})
				return tp.Sum(x)
			}, nil)
			return err
		},
		"inside of another": func(tp *grad.Tape) error {
			var inner error
			_, _, err := tp.JVP(func(tp *grad.Tape) *grad.Value { _, _, inner = tp.JVP(square, v); return square(tp) }, v)
			return errors.Join(inner, err)
		},
	} {
		tp := grad.NewTape(nil)
		if err := f(tp); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
		value, slope, err := tp.JVP(square, v)
		if err != nil || value != 30 || slope != 2 {
			t.Errorf("after %q: %v, %v, %v; want 30, 2", want, value, slope, err)
		}
	}
}

// What NoGrad computes has no gradient and so no tangent either.
func TestTangentStopsAtNoGrad(t *testing.T) {
	w := newParam(t, "w", []float32{3}, tensor.F32, 1)
	w.Part = grad.Whole
	_, slope, err := grad.NewTape(nil).JVP(func(tp *grad.Tape) *grad.Value {
		var still *grad.Value
		tp.NoGrad(func() { still = tp.Scale(tp.Use(w), 1) })
		return tp.Mul(tp.Use(w), still)
	}, grad.Direction{w: tensor.FromF32([]float32{1}, 1)})
	if err != nil || slope != 3 {
		t.Errorf("slope %v, %v; want 3", slope, err)
	}
}

// A parameter that ⟨∇L, v⟩ does not depend on is handed over as zeros.
func TestHVPOfLinearLossIsZero(t *testing.T) {
	w := newParam(t, "w", []float32{3, 4}, tensor.F32, 2)
	w.Part = grad.EntriesOf([]int{1})
	got := []float32{1}
	x := tensor.FromF32([]float32{1}, 1)
	_, slope, err := grad.NewTape(nil).HVP(func(tp *grad.Tape) *grad.Value { return tp.Sum(tp.AddBias(tp.Const([]float32{1, 2}, 1, 2), w)) },
		grad.Direction{w: x}, func(_ *grad.Param, g *tensor.Tensor) error { got = append([]float32(nil), g.F32()...); return nil })
	if err != nil || slope != 1 || len(got) != 1 || got[0] != 0 {
		t.Errorf("slope %v, product %v, %v", slope, got, err)
	}
}
