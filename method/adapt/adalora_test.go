package adapt

import (
	"context"
	"math"
	"path/filepath"
	"testing"

	"tare/engine/grad"
	"tare/engine/model"
	"tare/engine/tensor"
	"tare/engine/train"
	"tare/method/optim"
)

func TestBudgetFallsCubically(t *testing.T) {
	p := plan{begin: 10, finish: 30, steps: 100}
	for step, want := range map[int]int{0: 48, 10: 48, 40: 16 + 32/8, 70: 16, 71: 16, 100: 16} { // at 40 half the way: a half cubed
		if got := p.budget(step, 48, 16); got != want {
			t.Errorf("b(%d) = %d, want %d", step, got, want)
		}
	}
	for step := range 100 {
		if p.budget(step+1, 48, 16) > p.budget(step, 48, 16) {
			t.Errorf("the budget grows at step %d", step+1)
		}
	}
}

// ran trains an AdaLoRA with its hooks and returns it with the loss before.
func ran(t *testing.T, o *AdaLoRA, steps int, watch func(a *Adapter, l *train.Loop)) (*model.Llama, *Adapter, float64) {
	t.Helper()
	m := newTiny(t)
	a, err := Attach(m, named(t, "adalora"), o, testTargets, 7)
	if err != nil {
		t.Fatal(err)
	}
	hooks, err := a.Prepare(t.Context(), Setup{Model: m, Steps: steps})
	if err != nil {
		t.Fatal(err)
	}
	first := lossOf(m)
	loop := &train.Loop{Task: repeat{m}, Params: m.Params(), Optimizer: &optim.AdamW{}, Tape: grad.NewTape(&grad.Ledger{}),
		Options: train.Options{Steps: steps, LR: 1e-2}, Hooks: append(hooks, stepEnd(func(l *train.Loop) { watch(a, l) }))}
	if err := loop.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	if n := loop.Tape.Ledger.Now(grad.Activations); n != 0 {
		t.Errorf("%d bytes of activations are still held", n)
	}
	return m, a, first
}

type stepEnd func(*train.Loop)

func (f stepEnd) EndStep(l *train.Loop) error { f(l); return nil }

func TestTripletsArePrunedToTheBudget(t *testing.T) {
	o := NewAdaLoRA()
	o.Rank, o.Init, o.Every = 2, 4, 5
	moved := false
	var before [][]bool
	m, a, first := ran(t, o, 60, func(a *Adapter, l *train.Loop) { // begins after 6, ends at 30
		kept, zero := 0, 0
		var now [][]bool
		for _, h := range a.Holds {
			w := h.(*ada)
			kept += count(w.held())
			for k, v := range w.e.Value.F32() {
				if w.kept != nil && !w.kept[k] && v == 0 {
					zero++
				}
			}
			now = append(now, w.held())
		}
		want := 24
		if l.Step >= 30 || l.Step > 6 && l.Step%5 == 0 {
			want = o.plan.budget(l.Step, 24, 12)
		}
		if kept != want || zero != 24-want {
			t.Errorf("step %d: %d triplets in use and %d masked, want %d of 24", l.Step, kept, zero, want)
		}
		if l.Step > 30 {
			for i := range now {
				for k := range now[i] {
					moved = moved || now[i][k] != before[i][k]
				}
			}
		}
		before = now
	})
	if moved {
		t.Error("what is left changed in the last phase")
	}
	if last := lossOf(m); last > first/2 {
		t.Errorf("the loss goes from %g to %g", first, last)
	}
	want, dir := logits(m), filepath.Join(t.TempDir(), "adapter")
	if err := a.Save(dir, "base"); err != nil {
		t.Fatal(err)
	}
	fresh := newTiny(t)
	b, err := Load(dir, fresh)
	if err != nil {
		t.Fatal(err)
	}
	if d := distance(logits(fresh), want); d > 1e-6 { // sums of fewer terms
		t.Errorf("logits differ by %g after loading", d)
	}
	n := 0
	for _, h := range b.Holds {
		n += h.(*ada).rank()
	}
	if n != 12 {
		t.Errorf("%d triplets were saved, want 12", n)
	}
	f := b.Options.(Figured).Figures(b)
	if got := 2 * (f["rank of q_proj"] + f["rank of v_proj"] + f["rank of down_proj"]); math.Abs(got-12) > 1e-9 {
		t.Errorf("the mean ranks say %g triplets: %v", got, f)
	}
}

func TestConstantBudgetPrunesNothing(t *testing.T) {
	o := NewAdaLoRA()
	o.Rank, o.Init = 3, 3
	_, a, _ := ran(t, o, 20, func(*Adapter, *train.Loop) {})
	for i, h := range a.Holds {
		if w := h.(*ada); w.kept != nil || count(w.held()) != 3 {
			t.Errorf("%s: %v", a.Layers[i].Name, w.kept)
		}
	}
	if _, there := o.Config()["rank_pattern"]; there {
		t.Error("the file has a rank_pattern")
	}
}

// budgeted attaches AdaLoRA to the small model and returns its hook, ready.
func budgeted(t *testing.T, o *AdaLoRA) (*budgeter, *train.Loop) {
	t.Helper()
	m := newTiny(t)
	a, err := Attach(m, named(t, "adalora"), o, testTargets, 7)
	if err != nil {
		t.Fatal(err)
	}
	b := o.Hooks(a, Setup{Steps: 100})[0].(*budgeter)
	l := &train.Loop{Tape: grad.NewTape(nil)}
	return b, l
}

// With a constant sensitivity c, Ī_t = c(1 − β^t), and U_t = c·(1 − β)·t·β^t where both
// decays are β.
func TestImportanceOfAConstantSensitivity(t *testing.T) {
	o := NewAdaLoRA()
	o.Rank = 2
	b, l := budgeted(t, o)
	if err := b.BeginStep(l); err != nil {
		t.Fatal(err)
	}
	w := b.layers[0]
	g := tensor.New(w.e.Value.Len())
	w.e.Value.F32()[1], g.F32()[1] = -2, 3
	for range 9 {
		if err := b.Gradient(l, w.e, g); err != nil {
			t.Fatal(err)
		}
	}
	decay := math.Pow(0.85, 9)
	if got, want := b.weights[w.e].score(1), 6*(1-decay)*6*0.15*9*decay; math.Abs(got-want) > 1e-5*want {
		t.Errorf("s = %g, want %g", got, want)
	}
	if got := b.weights[w.e].score(0); got != 0 {
		t.Errorf("an entry without sensitivity has s = %g", got)
	}
}

// A triplet's score is that of its λ and the means over its column of P and row of Q;
// what falls behind is masked, and comes back when it is ahead again.
func TestTripletsComeBack(t *testing.T) {
	o := NewAdaLoRA()
	o.Rank, o.Init = 1, 2
	b, l := budgeted(t, o)
	if err := b.BeginStep(l); err != nil {
		t.Fatal(err)
	}
	set := func(m *importance, i int, s float32) { m.mean[i], m.stray[i] = s, 1 }
	for i, w := range b.layers {
		set(b.weights[w.e], 0, float32(10*i))
		set(b.weights[w.e], 1, float32(5+10*i)) // ahead in each layer, and later layers of earlier ones
		w.e.Value.F32()[0], w.e.Value.F32()[1] = 1, 1
	}
	first := b.layers[0]
	_, in := first.Dims()
	set(b.weights[first.q], in, float32(200*in)) // row 1 of Q
	set(b.weights[first.p], 2, 0)
	if s := b.scores(first); s[0] != 0 || math.Abs(s[1]-205) > 1e-9 {
		t.Errorf("scores %v, want [0 205]", s)
	}
	b.prune(6)
	check := func(want ...[2]float32) {
		t.Helper()
		for i, w := range b.layers {
			if got := [2]float32(w.e.Value.F32()); got != want[i] {
				t.Errorf("layer %d: λ = %v, want %v", i, got, want[i])
			}
		}
	}
	no, one, both := [2]float32{0, 0}, [2]float32{0, 1}, [2]float32{1, 1}
	check(one, no, no, one, both, both)
	out, _ := b.layers[1].Dims()
	set(b.weights[b.layers[1].p], 0, float32(300*out)) // P[0, 0]
	b.layers[1].e.Value.F32()[0] = 7
	b.prune(6)
	check(one, [2]float32{7, 0}, no, no, both, both)
}

// γ/(2·layers)·Σ(‖PᵀP − I‖² + ‖QQᵀ − I‖²) is 0 for orthonormal P and Q and grows by
// r·(c² − 1)² a matrix that is c times orthonormal; its gradient is γ/(2·layers)·
// 4P(PᵀP − I).
func TestPenaltyIsZeroWhenOrthonormal(t *testing.T) {
	o := NewAdaLoRA()
	o.Rank, o.Init = 2, 3
	b, l := budgeted(t, o)
	unit := func(x *tensor.Tensor, step int, c float32) { // rows or columns of the identity
		clear(x.F32())
		for k := range 3 {
			x.F32()[k*step] = c
		}
	}
	for _, w := range b.layers {
		unit(w.q.Value, w.q.Value.Dim(1)+1, 1)
		unit(w.p.Value, 3+1, 1)
	}
	penalty := func() float64 {
		defer l.Tape.Reset()
		return float64(b.Penalty(l, l.Tape).Data[0])
	}
	if got := penalty(); got != 0 {
		t.Errorf("penalty %g of orthonormal factors", got)
	}
	w := b.layers[2]
	unit(w.p.Value, 3+1, 2)
	if got, want := penalty(), 0.5/12*3*9; math.Abs(got-want) > 1e-6 {
		t.Errorf("penalty %g, want %g", got, want)
	}
	var got float32
	if err := l.Tape.Backward(b.Penalty(l, l.Tape), func(p *grad.Param, g *tensor.Tensor) error {
		if p == w.p {
			got = g.F32()[4]
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if want := 0.5 / 12 * 4 * 2 * 3; math.Abs(float64(got)-want) > 1e-6 {
		t.Errorf("gradient %g, want %g", got, want)
	}
}

func TestAdaLoRASaysAllThatIsWrong(t *testing.T) {
	o := &AdaLoRA{Rank: 4, Init: 2, Alpha: 0, Begin: 0.6, Finish: 0.5, Every: 0, Beta1: 1, Beta2: 0.5}
	wantErrors(t, o.Validate(), "init_rank 2", "alpha 0", "begin 0.6", "every 0", "beta1 1")
	o = NewAdaLoRA()
	o.Rank = 20
	m := newTiny(t)
	_, err := Attach(m, named(t, "adalora"), o, testTargets, 1)
	wantErrors(t, err, "rank 30", "q_proj")
}
