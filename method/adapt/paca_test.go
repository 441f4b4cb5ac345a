package adapt

import (
	"context"
	"math"
	"slices"
	"testing"

	"tare/engine/grad"
	"tare/engine/model"
	"tare/engine/nn"
	"tare/engine/tensor"
	"tare/engine/train"
	"tare/method/optim"
	"tare/method/quant"
)

// steps trains m and returns the weights of its layers.
func steps(t *testing.T, m *model.Llama, n int) [][]float32 {
	t.Helper()
	loop := &train.Loop{Task: repeat{m}, Params: m.Params(), Optimizer: &optim.AdamW{Decay: 0.1}, Tape: grad.NewTape(nil), Options: train.Options{Steps: n, LR: 1e-3}}
	if err := loop.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	var ws [][]float32
	for _, l := range m.Linears() {
		w, err := nn.Materialize(l.Weight)
		if err != nil {
			t.Fatal(err)
		}
		ws = append(ws, w.F32())
	}
	return ws
}

// With every column chosen PaCA is full fine-tuning of W, to the bit.
func TestPaCAOfAllColumnsIsFullTuning(t *testing.T) {
	whole, partial := newTiny(t), newTiny(t)
	for _, p := range whole.Params() {
		p.Part = grad.Part{}
	}
	for _, l := range whole.Linears() {
		if _, in := l.Weight.Dims(); in == 16 {
			l.Weight.Params()[0].Part = grad.Whole
		}
	}
	if _, err := Attach(partial, named(t, "paca"), &PaCA{Rank: 16, Choice: "random"}, []string{"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj"}, 1); err != nil {
		t.Fatal(err)
	}
	want, got := steps(t, whole, 5), steps(t, partial, 5)
	for i := range want {
		if !slices.Equal(got[i], want[i]) {
			t.Errorf("%s differs by %g", whole.Linears()[i].Name, distance(got[i], want[i]))
		}
	}
}

// Of an input [n, in] nothing but the r chosen columns is kept: 4·n·r bytes.
func TestPaCAKeepsItsColumnsOnly(t *testing.T) {
	const n, in, out, r = 32, 24, 16, 5
	l := &nn.Linear{Name: "w", Weight: nn.NewDense("w.weight", tensor.New(out, in))}
	if _, err := (&PaCA{Rank: r, Choice: "random"}).Attach(l, 1); err != nil {
		t.Fatal(err)
	}
	ledger := &grad.Ledger{}
	tp := grad.NewTape(ledger)
	x := tp.Const(make([]float32, n*in), n, in)
	y := l.Apply(tp, x)
	if got, want := ledger.Now(grad.Activations)-4*int64(y.Rows*y.Cols), int64(4*n*r); got != want {
		t.Errorf("%d bytes of activations are kept beside the output, want 4·n·r = %d", got, want)
	}
	tp.Reset()
	if got := ledger.Now(grad.Activations); got != 0 {
		t.Errorf("%d bytes are held after Reset", got)
	}
}

func TestPaCAChoosesTheLargestColumns(t *testing.T) {
	w := tensor.New(3, 6)
	for row := range 3 {
		for col, scale := range []float32{1, 5, 2, 9, 0, 7} {
			w.F32()[row*6+col] = scale * float32(math.Pow(-1, float64(row)))
		}
	}
	l := &nn.Linear{Name: "w", Weight: nn.NewDense("w.weight", w)}
	a, err := (&PaCA{Rank: 3, Choice: "norm"}).Attach(l, 1)
	if err != nil {
		t.Fatal(err)
	}
	if got := a.Params()[0].Part; !slices.Equal(got.Index, []int{1, 3, 5}) {
		t.Errorf("columns %v, want those of norm 5, 9 and 7: 1, 3, 5", got.Index)
	}
}

// The columns of largest gradient are those that whole gradients say, over a dense and
// a packed base, and the function stays the base's.
func TestPaCAChoosesByGradient(t *testing.T) {
	for _, packed := range []bool{false, true} {
		build := func() *model.Llama {
			m := newTiny(t)
			if packed {
				pack(t, m)
			}
			return m
		}
		whole := build()
		squares := map[string][]float64{}
		for _, l := range whole.Linears() { // the same function with dense weights, all of which train
			w, err := nn.Materialize(l.Weight)
			if err != nil {
				t.Fatal(err)
			}
			d := nn.NewDense(l.Name, w)
			d.P.Part, l.Weight = grad.Whole, d
		}
		tp := grad.NewTape(nil)
		if err := tp.Backward(repeat{whole}.Loss(tp, 10), func(p *grad.Param, g *tensor.Tensor) error {
			sums := make([]float64, p.Value.Dim(len(p.Value.Shape())-1))
			for i, v := range g.F32() {
				sums[i%len(sums)] += float64(v) * float64(v)
			}
			squares[p.Name] = sums
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		m := build()
		want := logits(m)
		o := &PaCA{Rank: 3, Choice: "gradient", Batches: 2}
		a, err := Attach(m, named(t, "paca"), o, testTargets, 7)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := a.Prepare(t.Context(), Setup{Model: m, Batches: func(n int) ([]train.Batch, error) { return []train.Batch{repeat{m}, repeat{m}}[:n], nil }}); err != nil {
			t.Fatal(err)
		}
		for i, l := range a.Layers {
			index := a.Holds[i].(*paca).index
			if len(index) != 3 || a.Params()[i].PartLen() == 0 {
				t.Errorf("%s: columns %v, %d entries train", l.Name, index, a.Params()[i].PartLen())
			}
			least := math.Inf(1)
			for _, c := range index {
				least = math.Min(least, squares[l.Name][c])
			}
			for c, s := range squares[l.Name] {
				if !slices.Contains(index, c) && s > least*(1+1e-4) {
					t.Errorf("%s: column %d of gradient %g is left out, the least of %v is %g", l.Name, c, s, index, least)
				}
			}
		}
		if d := distance(logits(m), want); d > 1e-6 {
			t.Errorf("the choice moves the logits by %g", d)
		}
	}
}

// Over a packed base y = Q(W without C) x + P x_C: the product of the codes alone has
// nothing of the columns C, P is their values, and of x only its columns C are kept.
func TestPaCAOverFourBits(t *testing.T) {
	const n, in, out, r = 6, 64, 16, 5
	w := tensor.New(out, in)
	for i := range w.F32() {
		w.F32()[i] = float32(math.Sin(float64(3 * i)))
	}
	packed, err := (&quant.RTN{Group: 32}).QuantizeLayer("w", w, nil)
	if err != nil {
		t.Fatal(err)
	}
	rounded, err := nn.Materialize(packed)
	if err != nil {
		t.Fatal(err)
	}
	l := &nn.Linear{Name: "w", Weight: packed}
	a, err := (&PaCA{Rank: r, Choice: "random"}).Attach(l, 1)
	if err != nil {
		t.Fatal(err)
	}
	split := l.Weight.(*splitWeight)
	if _, ok := split.rest.(*nn.Packed4); !ok {
		t.Errorf("the rest is held as %T", split.rest)
	}
	rest, err := nn.Materialize(split.rest)
	if err != nil {
		t.Fatal(err)
	}
	for row := range out {
		for c := range in {
			wantRest := rounded.F32()[row*in+c]
			if i := slices.Index(split.index, c); i >= 0 {
				if got := split.p.Value.F32()[row*r+i]; got != wantRest {
					t.Errorf("P[%d, %d] is %g, want %g", row, i, got, wantRest)
				}
				wantRest = 0
			}
			if got := rest.F32()[row*in+c]; got != wantRest {
				t.Errorf("the rest has %g at [%d, %d], want %g", got, row, c, wantRest)
			}
		}
	}
	stir(&Adapter{Holds: []Attached{a}}) // P moves in f32, off the grid of 4 bits
	ledger := &grad.Ledger{}
	tp := grad.NewTape(ledger)
	x := make([]float32, n*in)
	for i := range x {
		x[i] = float32(math.Cos(float64(i)))
	}
	y := l.Apply(tp, tp.Const(x, n, in))
	for i := range n {
		for row := range out {
			var want float64
			for c := range in {
				v := rest.F32()[row*in+c]
				if k := slices.Index(split.index, c); k >= 0 {
					v = split.p.Value.F32()[row*r+k]
				}
				want += float64(v) * float64(x[i*in+c])
			}
			if got := float64(y.Data[i*out+row]); math.Abs(got-want) > 1e-4*(1+math.Abs(want)) {
				t.Errorf("y[%d, %d] is %g, want %g", i, row, got, want)
			}
		}
	}
	if got, want := ledger.Now(grad.Activations)-4*int64(n*out), int64(4*n*r); got != want {
		t.Errorf("%d bytes of activations are kept beside the output, want 4·n·r = %d", got, want)
	}
	tp.Reset()
}
