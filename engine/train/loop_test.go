package train

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"tare/engine/data"
	"tare/engine/grad"
	"tare/engine/model"
	"tare/engine/tensor"
)

// bowl is a Task with the loss ½ Σ a (w − b)² over its parameters, one batch like the
// other: the gradient is a (w − b). From step bad on, counted in batches, the loss is NaN.
type bowl struct {
	params []*grad.Param
	a, b   [][]float32
	bad    int
	given  int
}

// newBowl returns a bowl over w [2, 2] and v [3].
func newBowl() *bowl {
	w := grad.NewParam("w", tensor.FromF32([]float32{1, -2, 3, 0.5}, 2, 2))
	v := grad.NewParam("v", tensor.FromF32([]float32{-1, 4, 2}, 3))
	w.Part, v.Part = grad.Whole, grad.Whole
	return &bowl{
		params: []*grad.Param{w, v},
		a:      [][]float32{{1, 2, 0.5, 3}, {0.25, 1, 2}}, b: [][]float32{{0, 1, -1, 2}, {1, 1, 0}},
	}
}

func (q *bowl) Next() (Batch, error) {
	q.given++
	return bowlBatch{q, q.given == q.bad}, nil
}
func (q *bowl) State() ([]byte, error) { return fmt.Append(nil, q.given), nil }
func (q *bowl) Restore(b []byte) error { _, err := fmt.Sscan(string(b), &q.given); return err }

type bowlBatch struct {
	*bowl
	bad bool
}

func (bowlBatch) Count() int { return 1 }

func (q bowlBatch) Loss(tp *grad.Tape, denom float64) *grad.Value {
	loss := tp.Const([]float32{0}, 1, 1)
	for i, p := range q.params {
		w := tp.Use(p)
		d := tp.Sub(w, tp.Const(q.b[i], w.Rows, w.Cols))
		loss = tp.Add(loss, tp.Sum(tp.Mul(tp.Mul(d, d), tp.Const(q.a[i], w.Rows, w.Cols))))
	}
	if q.bad {
		loss = tp.Add(loss, tp.Const([]float32{float32(math.NaN())}, 1, 1))
	}
	return tp.Scale(loss, float32(0.5/denom))
}

// gradient returns a (w − b) in float64 for all parameters, one after another.
func (q *bowl) gradient() (g []float64) {
	for i, p := range q.params {
		for k, w := range p.Value.F32() {
			g = append(g, float64(q.a[i][k])*(float64(w)-float64(q.b[i][k])))
		}
	}
	return g
}

func (q *bowl) values() (w []float64) {
	for _, p := range q.params {
		for _, v := range p.Value.F32() {
			w = append(w, float64(v))
		}
	}
	return w
}

func (q *bowl) loop(o Options, hooks ...any) *Loop {
	return &Loop{Task: q, Params: q.params, Optimizer: descent{}, Options: o, Hooks: hooks, Tape: grad.NewTape(&grad.Ledger{})}
}

func norm(g []float64) float64 {
	var s float64
	for _, v := range g {
		s += v * v
	}
	return math.Sqrt(s)
}

func checkNear(t *testing.T, what string, got, want []float64, tolerance float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d values, want %d", what, len(got), len(want))
	}
	for i := range got {
		if !(math.Abs(got[i]-want[i]) <= tolerance*(1+math.Abs(want[i]))) {
			t.Errorf("%s: value %d is %g, want %g", what, i, got[i], want[i])
		}
	}
}

// Gradient descent in a bowl is w = b + (1 − η a)ᵏ (w₀ − b) after k steps.
func TestDescentInABowl(t *testing.T) {
	const steps, lr = 30, 0.2
	q := newBowl()
	want := q.values()
	at := 0
	for i := range q.params {
		for k, a := range q.a[i] {
			b := float64(q.b[i][k])
			want[at] = b + math.Pow(1-lr*float64(a), steps)*(want[at]-b)
			at++
		}
	}
	l := q.loop(Options{Steps: steps, LR: lr})
	if err := l.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	checkNear(t, "after 30 steps", q.values(), want, 1e-6)
	if l.Step != steps || l.LR != lr || l.Count != 1 {
		t.Errorf("step %d, rate %g, count %d", l.Step, l.LR, l.Count)
	}
}

// gradients collects what the optimizer will see.
type gradients []float64

func (g *gradients) Gradient(_ *Loop, _ *grad.Param, d *tensor.Tensor) error {
	for _, v := range d.F32() {
		*g = append(*g, float64(v))
	}
	return nil
}

// A gradient of all parameters that is longer than the bound gets its length and keeps
// its direction; a shorter one is left alone.
func TestClip(t *testing.T) {
	const lr = 0.1
	full := norm(newBowl().gradient())
	for _, clip := range []float64{0.01, 1, full / 2, full * 1.001, 100} {
		q := newBowl()
		before, g := q.values(), q.gradient()
		var seen gradients
		l := q.loop(Options{Steps: 1, LR: lr, Clip: clip}, &seen)
		if err := l.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		scale := math.Min(1, clip/full)
		want, moved := make([]float64, len(g)), make([]float64, len(g))
		for i := range g {
			want[i], moved[i] = scale*g[i], before[i]-lr*scale*g[i]
		}
		what := fmt.Sprintf("clip %g", clip)
		checkNear(t, what+": gradient", seen, want, 1e-6)
		checkNear(t, what+": weights", q.values(), moved, 1e-6)
		if n := norm(seen); n > clip*(1+1e-6) || clip < full && n < clip*(1-2e-6)-1e-6 {
			t.Errorf("%s: the norm is %g", what, n)
		}
		if math.Abs(l.Norm-full) > 1e-5 {
			t.Errorf("%s: %g is reported as the norm before, want %g", what, l.Norm, full)
		}
	}
}

// points is a Task over batches of labelled points, given in turn.
type points struct {
	m       *model.MLP
	batches []pointBatch
	given   int
}

type pointBatch struct {
	m      *model.MLP
	x      []float32
	labels []int32
}

func (p *points) Next() (Batch, error) {
	b := p.batches[p.given%len(p.batches)]
	p.given++
	return b, nil
}
func (p *points) State() ([]byte, error) { return nil, nil }
func (p *points) Restore([]byte) error   { return nil }

func (b pointBatch) Count() (n int) {
	for _, label := range b.labels {
		if label >= 0 {
			n++
		}
	}
	return n
}

func (b pointBatch) Loss(tp *grad.Tape, denom float64) *grad.Value {
	return b.m.Loss(tp, tp.Const(b.x, len(b.labels), len(b.x)/len(b.labels)), b.labels, denom)
}

// newPoints returns a network and 8 points, one of which has no label, in batches of
// these sizes.
func newPoints(t *testing.T, sizes ...int) (*points, *model.MLP) {
	t.Helper()
	m, err := model.NewMLP([]int{6, 9, 4}, 3)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range m.Params() {
		p.Part = grad.Whole
	}
	rng := rand.New(rand.NewPCG(1, 2))
	task := &points{m: m}
	for _, n := range sizes {
		b := pointBatch{m: m}
		for range n {
			for range 6 {
				b.x = append(b.x, float32(rng.NormFloat64()))
			}
			b.labels = append(b.labels, int32(rng.IntN(4)))
		}
		task.batches = append(task.batches, b)
	}
	task.batches[0].labels[0] = -1
	return task, m
}

// Micro-batches of unequal size make the step that all their rows make together: the
// mean is over rows with a label, not over batches.
func TestAccumulationEqualsOneBatch(t *testing.T) {
	for _, clip := range []float64{0, 0.3} {
		run := func(sizes ...int) (*Loop, []float64) {
			task, m := newPoints(t, sizes...)
			l := &Loop{Task: task, Params: m.Params(), Optimizer: descent{}, Tape: grad.NewTape(nil),
				Options: Options{Steps: 10, LR: 0.5, Accumulate: len(sizes), Clip: clip}}
			if err := l.Run(t.Context()); err != nil {
				t.Fatal(err)
			}
			return l, (&bowl{params: m.Params()}).values()
		}
		one, want := run(8)
		many, got := run(3, 1, 4)
		checkNear(t, fmt.Sprintf("clip %g: weights", clip), got, want, 2e-6)
		if many.Count != 7 || one.Count != 7 || math.Abs(many.Loss-one.Loss) > 1e-6 {
			t.Errorf("clip %g: loss %g of %d rows, in one batch %g of %d", clip, many.Loss, many.Count, one.Loss, one.Count)
		}
	}
}

// Without clipping and accumulation one parameter's gradient exists at a time.
func TestFusedUpdatesHoldOneGradient(t *testing.T) {
	largest := func(params []*grad.Param) (most, all int64) {
		for _, p := range params {
			most, all = max(most, 4*int64(p.PartLen())), all+4*int64(p.PartLen())
		}
		return most, all
	}
	task, mlp := newPoints(t, 4, 4)
	llama, err := model.New(&model.Config{
		ModelType: "llama", VocabSize: 50, HiddenSize: 16, IntermediateSize: 24, Layers: 2, Heads: 2, KVHeads: 2, HeadDim: 8,
		MaxPositions: 32, NormEps: 1e-5, RopeTheta: 1e4, HiddenAct: "silu",
	}, 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range llama.Params() {
		p.Part = grad.Whole
	}
	ids := make([]int32, 200)
	for i := range ids {
		ids[i] = int32(i * i % 50)
	}
	windows, err := data.NewWindows(ids, 16, 2, 1)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		task   Task
		params []*grad.Param
	}{"mlp": {task, mlp.Params()}, "llama": {&Language{llama, windows}, llama.Params()}} {
		most, all := largest(c.params)
		for _, accumulate := range []int{1, 2} {
			ledger := &grad.Ledger{}
			l := &Loop{Task: c.task, Params: c.params, Optimizer: descent{}, Tape: grad.NewTape(ledger),
				Options: Options{Steps: 3, LR: 0.01, Accumulate: accumulate}}
			if err := l.Run(t.Context()); err != nil {
				t.Fatal(err)
			}
			peak := ledger.Peak().Gradients
			if accumulate == 1 && peak != most {
				t.Errorf("%s: %d bytes of gradients at the peak, the largest parameter's are %d", name, peak, most)
			}
			if accumulate == 2 && (peak < all || peak > all+most) {
				t.Errorf("%s: %d bytes of gradients at the peak, held are %d", name, peak, all)
			}
			for k := range grad.Kinds {
				if n := ledger.Now(k); n != 0 && k != grad.Gradients {
					t.Errorf("%s: %d bytes of %s are left", name, n, k)
				}
			}
		}
	}
}

// A loss that is no number ends the run before anything moves, whichever micro-batch it
// is of; and what the step's earlier ones left is forgotten.
func TestDivergedLoss(t *testing.T) {
	const lr = 0.125
	for name, c := range map[string]struct {
		o   Options
		bad int // the batch with the loss that is NaN, in the third step
	}{
		"fused":      {Options{Steps: 9, LR: lr}, 3},
		"clipped":    {Options{Steps: 9, LR: lr, Clip: 1e6}, 3},
		"accumulate": {Options{Steps: 9, LR: lr, Accumulate: 3}, 9},
	} {
		q := newBowl()
		q.bad = c.bad
		var before []float64
		l := q.loop(c.o, after(func(*Loop) { before = q.values() }))
		err := l.Run(t.Context())
		if !errors.Is(err, ErrDiverged) || !strings.Contains(err.Error(), "step 3") || !strings.Contains(err.Error(), "0.125") {
			t.Fatalf("%s: %v, want an error that names step 3 and rate 0.125", name, err)
		}
		if l.Step != 2 || !slices.Equal(q.values(), before) {
			t.Errorf("%s: the parameters moved in a step that diverged", name)
		}
		for _, k := range []grad.Kind{grad.Activations, grad.Scratch} {
			if n := l.Tape.Ledger.Now(k); n != 0 {
				t.Errorf("%s: %d bytes of %s are left", name, n, k)
			}
		}
		// The next batches are sound: the step that follows is a plain one.
		want := q.values()
		for i, g := range q.gradient() {
			want[i] -= lr * g
		}
		l.Options.Steps = 3
		if err := l.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		checkNear(t, name+": the step after", q.values(), want, 1e-6)
	}
}

// root is a Task with the loss Σ √w, whose gradient at zero is infinite.
type root struct{ slope }

func (r root) Next() (Batch, error) { return r, nil }
func (r root) Loss(tp *grad.Tape, denom float64) *grad.Value {
	return tp.Sum(tp.Sqrt(tp.Use(r.w)))
}

func TestDivergedGradient(t *testing.T) {
	w := grad.NewParam("w", tensor.FromF32([]float32{4, 0}, 1, 2))
	w.Part = grad.Whole
	l := &Loop{Task: root{slope{w}}, Params: []*grad.Param{w}, Optimizer: descent{}, Options: Options{Steps: 1, LR: 0.1, Clip: 1}, Tape: grad.NewTape(nil)}
	if err := l.Run(t.Context()); !errors.Is(err, ErrDiverged) || !strings.Contains(err.Error(), "gradient") {
		t.Errorf("%v, want an error about the gradient", err)
	}
	if got := w.Value.F32(); got[0] != 4 || got[1] != 0 {
		t.Errorf("the parameter became %v", got)
	}
}

// A part that doesn't fit its parameter is found before the first step.
func TestRunChecksTheParts(t *testing.T) {
	q := newBowl()
	q.params[1].Part = grad.EntriesOf([]int{3})
	if err := q.loop(Options{Steps: 1}).Run(t.Context()); err == nil || !strings.Contains(err.Error(), "v") || q.given != 0 {
		t.Errorf("%v after %d batches", err, q.given)
	}
}

// The rate of a parameter can be scaled by LRScale.
func TestRateByParameter(t *testing.T) {
	q := newBowl()
	want, g := q.values(), q.gradient()
	for i := range g {
		rate := 0.1
		if i >= 4 { // v
			rate = 0.025
		}
		want[i] -= rate * g[i]
	}
	l := q.loop(Options{Steps: 1, LR: 0.1, LRScale: func(p *grad.Param) float64 {
		if p.Name == "v" {
			return 0.25
		}
		return 1
	}})
	if err := l.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	checkNear(t, "weights", q.values(), want, 1e-6)
}
