package train

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tare/engine/checkpoint"
	"tare/engine/grad"
	"tare/engine/tensor"
)

// heavy is gradient descent with a velocity of half a life.
type heavy struct{ v map[string]*tensor.Tensor }

func (o *heavy) Step(p *grad.Param, g *tensor.Tensor, lr float64) error {
	if o.v == nil {
		o.v = map[string]*tensor.Tensor{}
	}
	if o.v[p.Name] == nil {
		o.v[p.Name] = tensor.New(g.Shape()...)
	}
	v, w := o.v[p.Name].F32(), make([]float32, p.PartLen())
	p.Gather(w)
	for i, d := range g.F32() {
		v[i] = v[i]/2 + d
		w[i] -= float32(lr) * v[i]
	}
	p.Scatter(w)
	return nil
}

func (o *heavy) State() (s State) {
	for _, name := range []string{"w", "v", "c"} {
		if o.v[name] != nil {
			s = append(s, Named{name, o.v[name]})
		}
	}
	return s
}

func (o *heavy) Restore(s State) error {
	o.v = map[string]*tensor.Tensor{}
	for _, n := range s {
		o.v[n.Name] = n.Tensor.Clone()
	}
	return nil
}

// tide is a hook whose pull on the rate grows with what it has seen: it is Stateful, a
// Keeper, and without its state a resumed run goes elsewhere.
type tide struct {
	steps int
	seen  *tensor.Tensor
}

func (h *tide) Gradient(_ *Loop, _ *grad.Param, g *tensor.Tensor) error {
	for i := range g.F32() {
		h.seen.F32()[0] += g.F32()[i]
		g.F32()[i] *= 1 + float32(h.steps)/64 + h.seen.F32()[0]/1024
	}
	return nil
}
func (h *tide) EndStep(*Loop) error          { h.steps++; return nil }
func (h *tide) HookName() string             { return "tide" }
func (h *tide) HookState() ([]byte, error)   { return []byte{byte(h.steps)}, nil }
func (h *tide) RestoreHook(b []byte) error   { h.steps = int(b[0]); return nil }
func (h *tide) HookTensors() State           { return State{{"seen", h.seen}} }
func (h *tide) RestoreTensors(s State) error { h.seen = s[0].Tensor.Clone(); return nil }

// newSaved returns a loop over a bowl of whose matrix a column trains.
func newSaved(steps int) (*Loop, *bowl) {
	q := newBowl()
	// Use takes whole parameters alone, so the part is of a third one that Linear uses.
	c := grad.NewParam("c", tensor.FromF32([]float32{1, 2, 3, 4, 5, 6}, 2, 3))
	c.Part = grad.ColumnsOf([]int{1})
	s, err := NewSchedule("cosine", 3, 0.1)
	if err != nil {
		panic(err)
	}
	l := q.loop(Options{Steps: steps, LR: 0.1, Schedule: s, Clip: 2}, &tide{seen: tensor.New(1)}, drag{c})
	l.Params = append(slices.Clone(q.params), c)
	l.Optimizer = &heavy{}
	return l, q
}

// drag is a Penalizer with the gradient 2, 2 of a column: the penalty is x cᵀ with x = 2.
type drag struct{ c *grad.Param }

func (h drag) Penalty(_ *Loop, tp *grad.Tape) *grad.Value {
	return tp.Sum(tp.Linear(tp.Const([]float32{2, 2, 2}, 1, 3), h.c))
}

// A run that is stopped, saved and resumed in a loop of its own ends with the same bits
// as one that was not.
func TestResumeToTheSameBits(t *testing.T) {
	const steps = 12
	whole, _ := newSaved(steps)
	if err := whole.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if c := whole.Params[2].Value.F32(); c[0] != 1 || c[1] == 2 || c[2] != 3 {
		t.Fatalf("of %v the second column was to train", c)
	}
	path := filepath.Join(t.TempDir(), "run.safetensors")
	for stop := range steps {
		ctx, cancel := context.WithCancel(t.Context())
		first, _ := newSaved(steps)
		if stop == 0 {
			cancel()
		}
		first.Hooks = append(first.Hooks, after(func(l *Loop) {
			if l.Step == stop {
				cancel()
			}
		}))
		if err := first.Run(ctx); !errors.Is(err, context.Canceled) || first.Step != stop {
			t.Fatalf("%v after %d steps, want to be interrupted after %d", err, first.Step, stop)
		}
		if err := first.Save(path); err != nil {
			t.Fatal(err)
		}
		second, task := newSaved(steps)
		if err := second.Restore(path); err != nil {
			t.Fatal(err)
		}
		if second.Step != stop || task.given != stop {
			t.Fatalf("resumed at step %d and batch %d, want %d", second.Step, task.given, stop)
		}
		if err := second.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		for i, p := range whole.Params {
			if !slices.Equal(p.Value.Bytes(), second.Params[i].Value.Bytes()) {
				t.Errorf("resumed after step %d, %s is %v, want %v", stop, p.Name, second.Params[i].Value.F32(), p.Value.F32())
			}
		}
	}
}

// saved runs two steps and saves them.
func saved(t *testing.T) string {
	t.Helper()
	l, _ := newSaved(5)
	l.Options.Steps = 2
	if err := l.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.Options.Steps = 5
	path := filepath.Join(t.TempDir(), "run.safetensors")
	if err := l.Save(path); err != nil {
		t.Fatal(err)
	}
	return path
}

// The file of another run is refused, and the error says what is different.
func TestRestoreRefusesAnotherRun(t *testing.T) {
	path := saved(t)
	for name, c := range map[string]struct {
		change func(*Loop)
		says   []string
		is     error
	}{
		"steps":     {func(l *Loop) { l.Options.Steps = 7 }, []string{path, "5 steps", "7"}, nil},
		"optimizer": {func(l *Loop) { l.Optimizer = descent{} }, []string{path, "heavy", "descent"}, nil},
		"name":      {func(l *Loop) { l.Params[0].Name = "u" }, []string{"u did not train"}, checkpoint.ErrMissing},
		"more":      {func(l *Loop) { l.Params[2].Part = grad.Part{} }, []string{"c trained in the saved run"}, nil},
		"shape":     {func(l *Loop) { l.Params[1].Value = tensor.New(4) }, []string{"v", "[3]", "[4]"}, nil},
		"columns":   {func(l *Loop) { l.Params[2].Part = grad.ColumnsOf([]int{2}) }, []string{"c", "other", "columns"}, nil},
		"kind":      {func(l *Loop) { l.Params[2].Part = grad.EntriesOf([]int{1, 4}) }, []string{"c", "entries"}, nil},
		"data":      {func(l *Loop) { l.Task = picky{l.Task} }, []string{path, "position in the data", "of other data"}, errPicky},
	} {
		l, _ := newSaved(5)
		c.change(l)
		err := l.Restore(path)
		if err == nil {
			t.Errorf("%s: restored", name)
			continue
		}
		for _, s := range c.says {
			if !strings.Contains(err.Error(), s) {
				t.Errorf("%s: %q does not say %q", name, err, s)
			}
		}
		if c.is != nil && !errors.Is(err, c.is) {
			t.Errorf("%s: %v is not %v", name, err, c.is)
		}
		if l.Step != 0 {
			t.Errorf("%s: stands at step %d after refusing", name, l.Step)
		}
	}
}

var errPicky = errors.New("the state is of other data")

type picky struct{ Task }

func (picky) Restore([]byte) error { return errPicky }

// A checkpoint that is no saved run is refused as one.
func TestRestoreRefusesACheckpoint(t *testing.T) {
	path := filepath.Join(t.TempDir(), "model.safetensors")
	for name, meta := range map[string]map[string]string{
		"no metadata": nil, "a model's": {"format": "pt"}, "no number": {stepKey: "two", stepsKey: "5"}, "negative": {stepKey: "-1", stepsKey: "5"},
	} {
		if err := checkpoint.WriteFile(path, []checkpoint.NamedTensor{{Name: "w", Tensor: tensor.New(2)}}, meta); err != nil {
			t.Fatal(err)
		}
		l, _ := newSaved(5)
		if err := l.Restore(path); !errors.Is(err, checkpoint.ErrFormat) || !strings.Contains(err.Error(), "no saved run") {
			t.Errorf("%s: %v", name, err)
		}
	}
	l, _ := newSaved(5)
	if err := l.Restore(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
}

// A file that ends early is malformed wherever it ends, and nothing is restored of it.
func TestRestoreRefusesATruncatedFile(t *testing.T) {
	path := saved(t)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []float64{0, 0.001, 0.1, 0.5, 0.9, 0.99, 1} {
		n := min(int(math.Floor(part*float64(len(whole)))), len(whole)-1)
		if err := os.WriteFile(path, whole[:n], 0o666); err != nil {
			t.Fatal(err)
		}
		l, q := newSaved(5)
		before := q.values()
		if err := l.Restore(path); !errors.Is(err, checkpoint.ErrFormat) || !strings.Contains(err.Error(), filepath.Base(path)) {
			t.Errorf("%d of %d bytes: %v", n, len(whole), err)
		}
		if !slices.Equal(q.values(), before) || l.Step != 0 {
			t.Errorf("%d of %d bytes: something was restored", n, len(whole))
		}
	}
}

// A save that fails leaves the older file and nothing else.
func TestFailedSaveLeavesTheOlderFile(t *testing.T) {
	path := saved(t)
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	l, _ := newSaved(5)
	l.Task = speechless{l.Task}
	if err := l.Save(path); !errors.Is(err, errPicky) {
		t.Fatalf("%v, want the task's error", err)
	}
	after, err := os.ReadFile(path)
	if err != nil || !slices.Equal(before, after) {
		t.Errorf("the older file changed: %v", err)
	}
	if all, _ := os.ReadDir(filepath.Dir(path)); len(all) != 1 {
		t.Errorf("%d files are left, want the one", len(all))
	}
}

type speechless struct{ Task }

func (speechless) State() ([]byte, error) { return nil, errPicky }
