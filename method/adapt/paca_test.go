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
