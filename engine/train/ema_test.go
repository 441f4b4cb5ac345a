package train

import (
	"math"
	"path/filepath"
	"slices"
	"testing"

	"tare/engine/grad"
	"tare/engine/tensor"
)

// slide is a Task with the loss Σ w: by gradient descent w moves by −η a step.
type slide struct{ params []*grad.Param }

func (s slide) Next() (Batch, error)   { return s, nil }
func (s slide) State() ([]byte, error) { return nil, nil }
func (s slide) Restore([]byte) error   { return nil }
func (s slide) Count() int             { return 1 }
func (s slide) Loss(tp *grad.Tape, denom float64) *grad.Value {
	loss := tp.Const([]float32{0}, 1, 1)
	for _, p := range s.params {
		// Linear by rows of ones, which lets a part of p train.
		cols := p.Value.Dim(1)
		x := tp.Const(slices.Repeat([]float32{1}, cols), 1, cols)
		loss = tp.Add(loss, tp.Sum(tp.Linear(x, p)))
	}
	return tp.Scale(loss, float32(1/denom))
}

func newSlide(steps int, hooks ...any) (*Loop, *grad.Param) {
	p := grad.NewParam("w", tensor.FromF32([]float32{1, -2, 3, 0.5, 4, 7}, 2, 3))
	p.Part = grad.Whole
	s := slide{[]*grad.Param{p}}
	return &Loop{Task: s, Params: s.params, Optimizer: descent{}, Options: Options{Steps: steps, LR: 0.25}, Hooks: hooks, Tape: grad.NewTape(&grad.Ledger{})}, p
}

// After t steps of −η the average lags behind by η d (1 − dᵗ)/(1 − d).
func TestEMAOfALine(t *testing.T) {
	const steps, d, lr = 40, 0.9, 0.25
	ledger := &grad.Ledger{}
	e := &EMA{Decay: d, Ledger: ledger}
	l, p := newSlide(steps, e)
	if err := e.Swap(l.Params); err != nil || p.Value.F32()[0] != 1 {
		t.Fatalf("before the first step the weights are %v, %v", p.Value.F32(), err)
	}
	start := slices.Clone(p.Value.F32())
	if err := l.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	end := slices.Clone(p.Value.F32())
	if err := e.Swap(l.Params); err != nil {
		t.Fatal(err)
	}
	lag := lr * d * (1 - math.Pow(d, steps)) / (1 - d)
	for i, w := range start {
		if got, want := float64(p.Value.F32()[i]), float64(w)-steps*lr+lag; math.Abs(got-want) > 1e-4 {
			t.Errorf("average %d is %v, want %v", i, got, want)
		}
	}
	if err := l.step(); err == nil {
		t.Error("a step is taken from averaged weights")
	}
	if err := e.Swap(l.Params); err != nil || !slices.Equal(p.Value.F32(), end) {
		t.Errorf("swapped back: %v, want %v, %v", p.Value.F32(), end, err)
	}
	if n := ledger.Now(grad.Optimizer); n != 24 {
		t.Errorf("%d bytes for 6 averages", n)
	}
}

// A run that is saved and resumed has the same averages, also where it has no step left.
func TestEMAResumes(t *testing.T) {
	average := func(first int) []float32 {
		e := &EMA{Decay: 0.9}
		l, p := newSlide(20, e)
		if first > 0 {
			for range first {
				if err := l.step(); err != nil {
					t.Fatal(err)
				}
			}
			path := filepath.Join(t.TempDir(), "state.safetensors")
			if err := l.Save(path); err != nil {
				t.Fatal(err)
			}
			e = &EMA{Decay: 0.9}
			l, p = newSlide(20, e)
			if err := l.Restore(path); err != nil {
				t.Fatal(err)
			}
			if err := l.Save(path); err != nil { // saved again without a step
				t.Fatal(err)
			}
			if err := l.Restore(path); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := e.Swap(l.Params); err != nil {
			t.Fatal(err)
		}
		return p.Value.F32()
	}
	want := average(0)
	for _, first := range []int{1, 7, 20} {
		if got := average(first); !slices.Equal(got, want) {
			t.Errorf("resumed after %d steps: %v, want %v", first, got, want)
		}
	}
	e := &EMA{Decay: 0.9}
	if err := e.RestoreTensors(State{{"w", tensor.New(5)}}); err != nil {
		t.Fatal(err)
	}
	l, _ := newSlide(1, e)
	if err := l.Run(t.Context()); err == nil {
		t.Error("5 averages for 6 weights are taken")
	}
}

// Where the trained part changes, an entry that stays is averaged on, one that is new
// begins at its value, and the others stay as they are.
func TestEMAFollowsParts(t *testing.T) {
	const d, lr = 0.5, 0.25
	e := &EMA{Decay: d}
	l, p := newSlide(2, e)
	l.Optimizer = still{descent{}}
	p.Part = grad.ColumnsOf([]int{0})
	if err := l.step(); err != nil {
		t.Fatal(err)
	}
	if err := l.SetPart(p, grad.ColumnsOf([]int{0, 1})); err != nil {
		t.Fatal(err)
	}
	if err := l.step(); err != nil {
		t.Fatal(err)
	}
	if err := e.Swap(l.Params); err != nil {
		t.Fatal(err)
	}
	lag := func(steps float64) float64 { return lr * d * (1 - math.Pow(d, steps)) / (1 - d) }
	want := []float64{1 - 2*lr + lag(2), -2 - lr + lag(1), 3, 0.5 - 2*lr + lag(2), 4 - lr + lag(1), 7}
	for i, w := range want {
		if got := float64(p.Value.F32()[i]); math.Abs(got-w) > 1e-6 {
			t.Errorf("entry %d is %v, want %v", i, got, w)
		}
	}
}

// still is gradient descent without state, which follows any part.
type still struct{ descent }

func (still) Step(p *grad.Param, g *tensor.Tensor, lr float64) error {
	w := make([]float32, p.PartLen())
	p.Gather(w)
	for i, d := range g.F32() {
		w[i] -= float32(lr) * d
	}
	p.Scatter(w)
	return nil
}

func (still) Reindex(*grad.Param, grad.Part) error { return nil }
