package optim

import (
	"math"
	"slices"
	"testing"

	"tare/engine/grad"
	"tare/engine/tensor"
	"tare/engine/tensor/kernel"
	"tare/engine/train"
)

// stored returns a parameter of n entries of value v, held in bf16.
func stored(n int, v float32) *grad.Param {
	w := tensor.NewOf(tensor.BF16, n)
	for i := range w.U16() {
		w.U16()[i] = uint16(math.Float32bits(v) >> 16)
	}
	p := grad.NewParam("w", w)
	p.Part = grad.Whole
	return p
}

func values(p *grad.Param) []float32 {
	v := make([]float32, p.Value.Len())
	if err := p.Value.ReadF32(v, 0); err != nil {
		panic(err)
	}
	return v
}

// descend takes steps of plain descent with the gradient 1 everywhere.
func descend(t *testing.T, o train.Optimizer, p *grad.Param, steps int, lr float64) {
	t.Helper()
	for range steps {
		g := make([]float32, p.PartLen())
		for i := range g {
			g[i] = 1
		}
		if err := o.Step(p, tensor.FromF32(g, p.PartShape()...), lr); err != nil {
			t.Fatal(err)
		}
	}
}

// Numbers of bf16 stand 2⁻⁸ apart below 1, so a step of 2⁻¹² from 1 would round away. A
// master copy counts the steps: after 16·n of them w is exactly 1 − n·2⁻⁸.
func TestMasterKeepsWhatRoundingTakes(t *testing.T) {
	ledger := &grad.Ledger{}
	o := &Mixed{Inner: &SGD{Ledger: ledger}, Ledger: ledger}
	p := stored(5, 1)
	descend(t, o, p, 48, 1.0/4096)
	for _, v := range values(p) {
		if v != 1-3.0/256 {
			t.Fatalf("%v after 48 steps of 2⁻¹² from 1, want %v", v, 1-3.0/256)
		}
	}
	if n := ledger.Now(grad.Optimizer); n != 4*5 {
		t.Errorf("%d bytes of state for 5 entries, want 20", n)
	}
	if err := (&SGD{}).Step(p, tensor.New(5), 0.1); err == nil {
		t.Error("an optimizer that does not round takes a bf16 parameter")
	}
}

// The mean of many roundings is the number, within four standard errors: of a number a
// fraction f of the way between its neighbours, √(f(1−f)/n) of the distance.
func TestStochasticRoundingIsUnbiased(t *testing.T) {
	const n = 1 << 16
	for _, v := range []float32{1.001, -1.0029, 0.1, 3.14159, -1e-20, 7e30, 1e-39} {
		w := make([]float32, n)
		for i := range w {
			w[i] = v
		}
		RoundStochastic(w, 42)
		low := math.Float32frombits(math.Float32bits(v) &^ 0xffff)
		high := math.Float32frombits(math.Float32bits(v)&^0xffff + 0x10000)
		step := float64(high) - float64(low)
		f := (float64(v) - float64(low)) / step
		var mean float64
		for _, r := range w {
			if r != low && r != high {
				t.Fatalf("%v rounds to %v, neighbours are %v and %v", v, r, low, high)
			}
			mean += (float64(r) - float64(low)) / step / n
		}
		if se := math.Sqrt(f * (1 - f) / n); math.Abs(mean-f) > 4*se {
			t.Errorf("%v: rounded up in %.4f of the cases, want %.4f ± %.4f", v, mean, f, se)
		}
	}
	exact := []float32{0, 1, -2.5, float32(math.Inf(1)), math.MaxFloat32}
	was := slices.Clone(exact)
	RoundStochastic(exact, 7)
	if !slices.Equal(exact[:4], was[:4]) || math.IsInf(float64(exact[4]), 0) {
		t.Errorf("%v became %v", was, exact)
	}
}

// Descent by 100 steps of 10⁻³ from 1 ends at 0.9 in the mean, and at the same bits for
// the same seed, whatever the threads.
func TestStochasticDescent(t *testing.T) {
	const n, steps = 20000, 100
	run := func(seed uint64) []float32 {
		p := stored(n, 1)
		ledger := &grad.Ledger{}
		descend(t, &Mixed{Inner: &SGD{}, Stochastic: true, Seed: seed, Ledger: ledger}, p, steps, 1e-3)
		if ledger.Now(grad.Optimizer) != 0 {
			t.Errorf("%d bytes of state", ledger.Now(grad.Optimizer))
		}
		return values(p)
	}
	w := run(3)
	var mean, squares float64
	for _, v := range w {
		mean += float64(v) / n
	}
	for _, v := range w {
		squares += (float64(v) - mean) * (float64(v) - mean)
	}
	if se := math.Sqrt(squares / n / n); math.Abs(mean-0.9) > 4*se {
		t.Errorf("mean %v ± %v, want 0.9", mean, se)
	}
	if !slices.Equal(w, run(3)) {
		t.Error("the same seed gives other bits")
	}
	if slices.Equal(w, run(4)) {
		t.Error("another seed gives the same bits")
	}
	threads := kernel.Threads()
	defer kernel.SetThreads(threads)
	kernel.SetThreads(1)
	if !slices.Equal(w, run(3)) {
		t.Error("one thread gives other bits")
	}
}

// A state that is saved after some steps goes on to the same bits.
func TestMixedResumes(t *testing.T) {
	for _, stochastic := range []bool{false, true} {
		fresh := func() *Mixed { return &Mixed{Inner: NewAdamW(0.01, nil), Stochastic: stochastic, Seed: 5} }
		straight, p := fresh(), stored(37, 0.7)
		descend(t, straight, p, 30, 1e-3)
		first, q := fresh(), stored(37, 0.7)
		descend(t, first, q, 11, 1e-3)
		second, again := fresh(), grad.NewParam("w", q.Value.Clone())
		again.Part = grad.Whole
		if err := second.Restore(first.State()); err != nil {
			t.Fatal(err)
		}
		descend(t, second, again, 19, 1e-3)
		if !slices.Equal(p.Value.U16(), again.Value.U16()) {
			t.Errorf("stochastic %v: other bits after resuming", stochastic)
		}
		other := &Mixed{Inner: NewAdamW(0, nil), Stochastic: !stochastic}
		if err := other.Restore(first.State()); err == nil {
			t.Errorf("stochastic %v: the state of the other kind is taken", stochastic)
		}
	}
}

// Columns of a bf16 matrix train; when others do, those that stay keep their master's
// digits and new ones begin at the matrix's values.
func TestMixedFollowsParts(t *testing.T) {
	w := tensor.NewOf(tensor.BF16, 2, 3)
	if err := w.WriteF32([]float32{1, 2, 3, 4, 5, 6}, 0); err != nil {
		t.Fatal(err)
	}
	p := grad.NewParam("w", w)
	p.Part = grad.ColumnsOf([]int{0, 2})
	o := &Mixed{Inner: &SGD{}}
	descend(t, o, p, 1, 1.0/4096)
	from := p.Part
	p.Part = grad.ColumnsOf([]int{0, 1})
	if err := o.Reindex(p, from); err != nil {
		t.Fatal(err)
	}
	if got, want := o.masters["w"].F32(), []float32{1 - 1.0/4096, 2, 4 - 1.0/4096, 5}; !slices.Equal(got, want) {
		t.Errorf("master %v, want %v", got, want)
	}
	if got := values(p); !slices.Equal(got, []float32{1, 2, 3, 4, 5, 6}) {
		t.Errorf("matrix %v", got)
	}
	descend(t, o, p, 127, 1.0/4096)
	if got := values(p); got[0] != 1-128.0/4096 || got[2] != 3 {
		t.Errorf("matrix %v", got)
	}
}
