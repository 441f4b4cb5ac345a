package adapt

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sort"
	"testing"

	"tare/engine/grad"
	"tare/engine/model"
	"tare/engine/nn"
	"tare/engine/tensor"
	"tare/engine/train"
	"tare/method/optim"
)

// With density 1 LIFT, and any choice of entries, is full fine-tuning of W, to the bit,
// choices in between and all.
func TestAllEntriesAreFullTuning(t *testing.T) {
	whole := newTiny(t)
	for _, p := range whole.Params() {
		p.Part = grad.Part{}
	}
	for _, l := range whole.Linears() {
		l.Weight.Params()[0].Part = grad.Whole
	}
	want := steps(t, whole, 6)
	for name, o := range map[string]Options{"lift": &LIFT{Density: 1, Interval: 2}, "sparse": &Sparse{Density: 1, Choice: "random"}} {
		m := newTiny(t)
		a, err := Attach(m, named(t, name), o, nil, 1)
		if err != nil {
			t.Fatal(err)
		}
		train6(t, m, a, &optim.AdamW{Decay: 0.1})
		for i, l := range m.Linears() {
			if got := l.Weight.Params()[0].Value.F32(); !slices.Equal(got, want[i]) {
				t.Errorf("%s: %s differs by %g", name, l.Name, distance(got, want[i]))
			}
		}
	}
}

// train6 trains six steps with the method's hooks.
func train6(t *testing.T, m *model.Llama, a *Adapter, o train.Optimizer) *grad.Ledger {
	t.Helper()
	ledger := &grad.Ledger{}
	if w, ok := o.(*optim.AdamW); ok {
		w.Ledger = ledger
	}
	hooks, err := a.Prepare(t.Context(), Setup{Model: m, Steps: 6, Seed: 1, Batches: func(n int) ([]train.Batch, error) {
		return slices.Repeat([]train.Batch{repeat{m}}, n), nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	loop := &train.Loop{Task: repeat{m}, Params: m.Params(), Optimizer: o, Tape: grad.NewTape(ledger), Hooks: hooks, Options: train.Options{Steps: 6, LR: 1e-3}}
	if err := loop.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	return ledger
}

// The chosen entries are those of the truncation that is known in closed form.
func TestLIFTChoosesThePrincipalEntries(t *testing.T) {
	const out, in, k, m = 60, 90, 3, 200
	s := []float64{9, 8, 7, 2, 1.5, 1.2, 1, 0.9}
	var want []int
	low := known(out, in, s[:k]).F32()
	order := make([]int, out*in)
	for i := range order {
		order[i] = i
	}
	sort.SliceStable(order, func(a, b int) bool {
		return math.Abs(float64(low[order[a]])) > math.Abs(float64(low[order[b]]))
	})
	want = slices.Sorted(slices.Values(order[:m]))
	for _, exact := range []bool{true, false} {
		t.Run(fmt.Sprint("exact ", exact), func(t *testing.T) {
			w := known(out, in, s)
			o := &LIFT{Density: float64(m) / (out * in), FilterRank: k, Exact: exact}
			got, err := o.choose(w, 3)
			if err != nil {
				t.Fatal(err)
			}
			both := 0
			for _, at := range got {
				if _, ok := slices.BinarySearch(want, at); ok {
					both++
				}
			}
			// Entries that are equal but for rounding may change places.
			if len(got) != m || both < m-2 {
				t.Errorf("%d entries, %d of them the largest %d of the truncation", len(got), both, m)
			}
			var plain int
			for _, at := range topEntries(magnitudes(w.F32()), m) {
				if _, ok := slices.BinarySearch(want, at); ok {
					plain++
				}
			}
			if plain > m*9/10 {
				t.Errorf("the largest entries of W are %d of these: the case tells nothing", plain)
			}
			if o.Seconds <= 0 {
				t.Error("choosing took no time")
			}
		})
	}
}

// The optimizer holds two f32 moments for each of the m entries, whatever is chosen anew.
func TestLIFTStateIsTwoMomentsAnEntry(t *testing.T) {
	m := newTiny(t)
	o := &LIFT{Density: 0.1, Interval: 2}
	a, err := Attach(m, named(t, "lift"), o, nil, 1)
	if err != nil {
		t.Fatal(err)
	}
	before := map[string][]int{}
	for _, p := range a.Params() {
		before[p.Name] = p.Flat()
	}
	ledger := train6(t, m, a, &optim.AdamW{})
	var entries, moved, left int64
	for i, l := range a.Layers {
		out, in := l.Weight.Dims()
		entries += int64(math.Round(0.1 * float64(out*in)))
		s := a.Holds[i].(*sparse)
		left += int64(len(s.left))
		for _, at := range before[s.p.Name] {
			if _, ok := slices.BinarySearch(s.p.Flat(), at); !ok {
				moved++
				if _, ok := slices.BinarySearch(s.left, at); !ok {
					t.Errorf("%s: entry %d has left and is forgotten", l.Name, at)
				}
			}
		}
	}
	if got := ledger.Now(grad.Optimizer); got != 8*entries {
		t.Errorf("%d bytes of optimizer state for %d entries, want 8 each", got, entries)
	}
	if moved == 0 || left < moved {
		t.Errorf("%d entries left the first choice, %d are known to have", moved, left)
	}
}

func TestTopEntries(t *testing.T) {
	score := []float32{3, 1, 5, 3, 0, 3, 9, 5}
	for m, want := range map[int][]int{1: {6}, 2: {2, 6}, 3: {2, 6, 7}, 4: {0, 2, 6, 7}, 5: {0, 2, 3, 6, 7}, 8: {0, 1, 2, 3, 4, 5, 6, 7}} {
		if got := topEntries(score, m); !slices.Equal(got, want) {
			t.Errorf("largest %d of %v: %v, want %v", m, score, got, want)
		}
	}
	// A long one with many equal scores against a sort.
	long := make([]float32, 5000)
	for i := range long {
		long[i] = float32(i * 7919 % 97)
	}
	order := make([]int, len(long))
	for i := range order {
		order[i] = i
	}
	sort.SliceStable(order, func(a, b int) bool { return long[order[a]] > long[order[b]] })
	if got := topEntries(long, 1234); !slices.Equal(got, slices.Sorted(slices.Values(order[:1234]))) {
		t.Error("the largest 1234 of 5000 are wrong")
	}
}

func TestSparseChoices(t *testing.T) {
	w := tensor.FromF32([]float32{1, -9, 2, 8, 0, -3}, 2, 3)
	at := func(o Options, seed uint64) []int {
		a, err := o.Attach(&nn.Linear{Name: "w", Weight: nn.NewDense("w.weight", w)}, seed)
		if err != nil {
			t.Fatal(err)
		}
		return a.Params()[0].Flat()
	}
	if got := at(&Sparse{Density: 0.5, Choice: "magnitude"}, 1); !slices.Equal(got, []int{1, 3, 5}) {
		t.Errorf("entries %v, want those of −9, 8 and −3: 1, 3, 5", got)
	}
	drawn := map[string]bool{}
	for seed := range uint64(20) {
		drawn[fmt.Sprint(at(&Sparse{Density: 0.5, Choice: "random"}, seed))] = true
	}
	if len(drawn) < 5 {
		t.Errorf("20 seeds draw %d different sets", len(drawn))
	}
}
