package adapt

import (
	"math"
	"math/rand/v2"
	"testing"

	"tare/engine/grad"
	"tare/engine/nn"
	"tare/engine/tensor"
	"tare/method/quant"
)

// doraCase is one layer in float64: the formula written out, W + s·B A and all.
type doraCase struct {
	w, a, b, x, c    [][]float64 // W [out, in], A [r, in], B [out, r], x [n, in], c [n, out]
	m                []float64
	s                float64
	layer            *nn.Linear
	hold             *doraWeight
	n, out, in, rank int
}

// newDoRACase attaches DoRA to a random layer, packed to 4 bits if asked, and moves
// what trains.
func newDoRACase(t *testing.T, packed bool) *doraCase {
	t.Helper()
	c := &doraCase{n: 5, out: 6, in: 9, rank: 3, s: 0.5}
	rng := rand.New(rand.NewPCG(1, 1))
	random := func(x *tensor.Tensor) {
		for i := range x.F32() {
			x.F32()[i] = float32(rng.NormFloat64())
		}
	}
	w := tensor.New(c.out, c.in)
	random(w)
	c.layer = &nn.Linear{Name: "w", Weight: nn.NewDense("w.weight", w)}
	if packed {
		var err error
		if c.layer.Weight, err = (&quant.RTN{Group: 32}).QuantizeLayer("w", w, nil); err != nil {
			t.Fatal(err)
		}
		if w, err = nn.Materialize(c.layer.Weight); err != nil {
			t.Fatal(err)
		}
	}
	hold, err := (&DoRA{Rank: c.rank, Alpha: c.s * float64(c.rank)}).Attach(c.layer, 1)
	if err != nil {
		t.Fatal(err)
	}
	c.hold = hold.(*doraWeight)
	for _, p := range []*grad.Param{c.hold.a, c.hold.b, c.hold.m} {
		random(p.Value)
	}
	x, weights := tensor.New(c.n, c.in), tensor.New(c.n, c.out)
	random(x)
	random(weights)
	c.w, c.a, c.b, c.x, c.c = rows64(w), rows64(c.hold.a.Value), rows64(c.hold.b.Value), rows64(x), rows64(weights)
	c.m = rows64(tensor.FromF32(c.hold.m.Value.F32(), 1, c.out))[0]
	return c
}

func rows64(t *tensor.Tensor) [][]float64 {
	rows := make([][]float64, t.Dim(0))
	for i := range rows {
		for _, v := range t.F32()[i*t.Dim(1) : (i+1)*t.Dim(1)] {
			rows[i] = append(rows[i], float64(v))
		}
	}
	return rows
}

func flat32(rows [][]float64) []float32 {
	var data []float32
	for _, row := range rows {
		for _, v := range row {
			data = append(data, float32(v))
		}
	}
	return data
}

// direction returns V = W + s·B A and the lengths of its rows.
func (c *doraCase) direction() (v [][]float64, lengths []float64) {
	for p := range c.out {
		row, square := make([]float64, c.in), 0.0
		for j := range row {
			row[j] = c.w[p][j]
			for k := range c.rank {
				row[j] += c.s * c.b[p][k] * c.a[k][j]
			}
			square += row[j] * row[j]
		}
		v, lengths = append(v, row), append(lengths, math.Sqrt(square))
	}
	return v, lengths
}

// output returns y = m/lengths ⊙ V x for lengths that are held.
func (c *doraCase) output(lengths []float64) [][]float64 {
	v, _ := c.direction()
	y := make([][]float64, c.n)
	for i := range y {
		for p := range c.out {
			var dot float64
			for j := range c.in {
				dot += v[p][j] * c.x[i][j]
			}
			y[i] = append(y[i], c.m[p]/lengths[p]*dot)
		}
	}
	return y
}

// loss returns Σ c ⊙ y.
func (c *doraCase) loss(lengths []float64) (sum float64) {
	for i, row := range c.output(lengths) {
		for p, y := range row {
			sum += c.c[i][p] * y
		}
	}
	return sum
}

func bases(t *testing.T, test func(t *testing.T, c *doraCase)) {
	t.Run("dense", func(t *testing.T) { test(t, newDoRACase(t, false)) })
	t.Run("packed", func(t *testing.T) { test(t, newDoRACase(t, true)) })
}

func TestDoRAIsItsFormula(t *testing.T) {
	bases(t, func(t *testing.T, c *doraCase) {
		v, lengths := c.direction()
		tp := grad.NewTape(nil)
		y := c.layer.Apply(tp, tp.Const(flat32(c.x), c.n, c.in))
		if d := distance(y.Data, flat32(c.output(lengths))); d > 2e-6 {
			t.Errorf("the output differs by %g", d)
		}
		for p := range v {
			for j := range v[p] {
				v[p][j] *= c.m[p] / lengths[p]
			}
		}
		got, err := nn.Materialize(c.layer.Weight)
		if err != nil {
			t.Fatal(err)
		}
		if d := distance(got.F32(), flat32(v)); d > 1e-6 {
			t.Errorf("the merged weight differs by %g", d)
		}
	})
}

// Gradients are those of the formula with the lengths held at their present values.
func TestDoRAGradientHoldsTheLengths(t *testing.T) {
	bases(t, func(t *testing.T, c *doraCase) {
		_, held := c.direction()
		tp := grad.NewTape(nil)
		x := tp.Leaf(flat32(c.x), c.n, c.in)
		got := map[*grad.Param][]float32{}
		loss := tp.Sum(tp.Mul(c.layer.Apply(tp, x), tp.Const(flat32(c.c), c.n, c.out)))
		if err := tp.Backward(loss, func(p *grad.Param, g *tensor.Tensor) error {
			got[p] = append([]float32(nil), g.F32()...)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		for name, of := range map[string]struct {
			at   [][]float64
			grad []float32
		}{
			"A": {c.a, got[c.hold.a]}, "B": {c.b, got[c.hold.b]}, "m": {[][]float64{c.m}, got[c.hold.m]}, "x": {c.x, x.Grad()},
		} {
			var want []float32
			for _, row := range of.at {
				for j, old := range row {
					const h = 1e-3 // the loss is linear in every single entry
					row[j] = old + h
					up := c.loss(held)
					row[j] = old - h
					want = append(want, float32((up-c.loss(held))/(2*h)))
					row[j] = old
				}
			}
			if len(of.grad) != len(want) {
				t.Errorf("%s: %d gradients, want %d", name, len(of.grad), len(want))
			} else if d := distance(of.grad, want); d > 1e-5 {
				t.Errorf("%s: the gradient differs by %g", name, d)
			}
		}
	})
}

// A row of zeros has no direction. It stays zero, and nothing becomes NaN.
func TestDoRAOverARowOfZeros(t *testing.T) {
	w := tensor.FromF32([]float32{1, 2, 0, 0}, 2, 2)
	l := &nn.Linear{Name: "w", Weight: nn.NewDense("w.weight", w)}
	hold, err := (&DoRA{Rank: 1, Alpha: 1}).Attach(l, 1)
	if err != nil {
		t.Fatal(err)
	}
	tp := grad.NewTape(nil)
	y := l.Apply(tp, tp.Const([]float32{3, 4}, 1, 2))
	if y.Data[1] != 0 || math.Abs(float64(y.Data[0])-11) > 1e-5 {
		t.Errorf("y = %v, want 11 and 0", y.Data)
	}
	merged, err := nn.Materialize(l.Weight)
	if err != nil {
		t.Fatal(err)
	}
	if err := hold.(Unmerger).Unmerge(merged); err != nil {
		t.Fatal(err)
	}
	if d := distance(merged.F32(), w.F32()); d > 1e-6 {
		t.Errorf("unmerged: %v", merged.F32())
	}
}
