package train

import (
	"context"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"tare/engine/data"
	"tare/engine/grad"
	"tare/engine/model"
	"tare/engine/tensor"
)

// descent is gradient descent without state.
type descent struct{}

func (descent) Step(p *grad.Param, g *tensor.Tensor, lr float64) error {
	for i, v := range g.F32() {
		p.Value.F32()[i] -= float32(lr) * v
	}
	return nil
}
func (descent) State() State        { return nil }
func (descent) Restore(State) error { return nil }

// stripes returns images of 8×8 whose label is the row or column that is bright.
func stripes(n int) (pixels []float32, labels []int32) {
	rng := rand.New(rand.NewPCG(5, 6))
	for range n {
		image, label := make([]float32, 64), rng.IntN(4)
		for i := range image {
			image[i] = 0.3 * rng.Float32()
		}
		for i := range 8 {
			image[[]int{16 + i, 40 + i, 8*i + 2, 8*i + 5}[label]] += 1
		}
		pixels, labels = append(pixels, image...), append(labels, int32(label))
	}
	return pixels, labels
}

func newStripes(t *testing.T, steps int) (*Loop, *model.CNN) {
	t.Helper()
	m, err := model.NewCNN(model.CNNOptions{
		Images: model.Images{Height: 8, Width: 8, Channels: 1, Classes: 4}, Stages: [][]int{{6}, {8}}, Norm: "batch", Flatten: true, Dropout: 0.1,
	}, 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range m.Params() {
		p.Part = grad.Whole
	}
	pixels, labels := stripes(200)
	source, err := data.NewLabelled(pixels, labels, 16, 7)
	if err != nil {
		t.Fatal(err)
	}
	source.Change(data.Shift(8, 8, 0))
	return &Loop{
		Task: &Classify{Model: m, Source: source, Smoothing: 0.05}, Params: m.Params(), Optimizer: descent{},
		Options: Options{Steps: steps, LR: 0.1, Seed: 3}, Tape: grad.NewTape(nil),
	}, m
}

func TestClassifyLearns(t *testing.T) {
	l, m := newStripes(t, 150)
	if err := l.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	pixels, labels := stripes(100)
	scores, classes := Scores(m, pixels, 100, 33)
	right := 0
	for i, label := range labels {
		row := scores[i*classes : (i+1)*classes]
		if slices.Max(row) == row[label] {
			right++
		}
	}
	if right < 98 {
		t.Errorf("%d of 100 right, loss %v", right, l.Loss)
	}
}

// A run that is interrupted and resumed ends with the same bits, running statistics
// included.
func TestClassifyResumes(t *testing.T) {
	whole, want := newStripes(t, 40)
	if err := whole.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	half, _ := newStripes(t, 40)
	half.Hooks = []any{after(func(l *Loop) {
		if l.Step == 17 {
			stop()
		}
	})}
	if err := half.Run(ctx); err == nil {
		t.Fatal("the run was not interrupted")
	}
	path := filepath.Join(t.TempDir(), "run.safetensors")
	if err := half.Save(path); err != nil {
		t.Fatal(err)
	}
	rest, got := newStripes(t, 40)
	if err := rest.Restore(path); err != nil {
		t.Fatal(err)
	}
	if err := rest.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	for i, e := range want.Export(tensor.F32) {
		a, err := e.Read()
		if err != nil {
			t.Fatal(err)
		}
		b, err := got.Export(tensor.F32)[i].Read()
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(a.Bytes(), b.Bytes()) {
			t.Errorf("%s differs after resuming", e.Name)
		}
	}
}

type after func(*Loop)

func (f after) EndStep(l *Loop) error { f(l); return nil }

// fixed is a Classifier with the same scores for all.
type fixed []float32

func (f fixed) Logits(tp *grad.Tape, x *grad.Value) *grad.Value {
	return tp.Leaf(slices.Concat(f, f), 2, len(f))
}

// The loss is the cross-entropy to 1 − s at the label plus s/C everywhere.
func TestSmoothedLoss(t *testing.T) {
	scores := fixed{1, -2, 0.5}
	source, err := data.NewLabelled([]float32{0, 0}, []int32{1, 1}, 2, 1)
	if err != nil {
		t.Fatal(err)
	}
	const s = 0.3
	sum := math.Exp(1) + math.Exp(-2) + math.Exp(0.5)
	want := 0.0
	for c, v := range scores {
		p := float64(s) / 3
		if c == 1 {
			p += 1 - s
		}
		want -= p * (float64(v) - math.Log(sum))
	}
	task := &Classify{Model: scores, Source: source, Smoothing: s}
	b, err := task.Next()
	if err != nil {
		t.Fatal(err)
	}
	tp := grad.NewTape(nil)
	if got := b.Loss(tp, 2).Data[0]; math.Abs(float64(got)-want) > 1e-6 {
		t.Errorf("loss %v, want %v", got, want)
	}
}
