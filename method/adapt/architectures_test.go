package adapt

import (
	"context"
	"errors"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tare/engine/checkpoint"
	"tare/engine/grad"
	"tare/engine/model"
	"tare/engine/train"
	"tare/method/optim"
)

// shape is a model of another architecture than the llama of the family's other tests,
// with a batch that it learns from and the scores by which it is compared.
type shape struct {
	train.Task
	net    model.Network
	scores func(tp *grad.Tape) *grad.Value
}

// shapes opens the small checkpoints of engine/model's tests: GPT-2, whose matrices are
// stored transposed and whose q, k and v are one layer, and classifiers of texts and
// images.
var shapes = map[string]func(t *testing.T, f *checkpoint.Folder) shape{
	"gpt2": func(t *testing.T, f *checkpoint.Folder) shape {
		m, err := model.LoadCausal(f.Config, f, model.LoadOptions{})
		if err != nil {
			t.Fatal(err)
		}
		scores := func(tp *grad.Tape) *grad.Value { return m.Logits(tp, m.Hidden(tp, someTokens, someSeqs, nil)) }
		loss := func(tp *grad.Tape, denom float64) *grad.Value {
			return model.Loss(tp, m, someTokens, someTargets, someSeqs, denom)
		}
		return shape{again{10, loss}, m, scores}
	},
	"bert-classes": classes, "roberta-classes": classes, "vit": classes, "deit": classes,
}

func classes(t *testing.T, f *checkpoint.Folder) shape {
	m, err := model.LoadClassifier(f.Config, f, model.LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	in := model.Inputs{Tokens: someTokens, Seqs: someSeqs}
	if s := m.Info().Image; s != nil {
		in = model.Inputs{Pixels: make([]float32, 2*s.Channels*s.Size*s.Size)}
		for i := range in.Pixels {
			in.Pixels[i] = float32(math.Sin(float64(i)))
		}
	}
	scores := func(tp *grad.Tape) *grad.Value { return m.Classify(tp, in) }
	loss := func(tp *grad.Tape, denom float64) *grad.Value {
		return model.ClassLoss(tp, m, in, []int32{1, 0}, denom)
	}
	return shape{again{2, loss}, m, scores}
}

// again is a train.Task of one batch over and over.
type again struct {
	n    int
	loss func(tp *grad.Tape, denom float64) *grad.Value
}

func (a again) Next() (train.Batch, error)                    { return a, nil }
func (a again) State() ([]byte, error)                        { return nil, nil }
func (a again) Restore([]byte) error                          { return nil }
func (a again) Count() int                                    { return a.n }
func (a again) Loss(tp *grad.Tape, denom float64) *grad.Value { return a.loss(tp, denom) }

func (s shape) logits() []float32 {
	tp := grad.NewTape(nil)
	var out []float32
	tp.NoGrad(func() { out = slices.Clone(s.scores(tp).Data) })
	tp.Reset()
	return out
}

// Every method goes on every architecture: it starts from the base, learns, and gives
// the same scores merged and loaded from a file.
func TestArchitectures(t *testing.T) {
	for name, build := range shapes {
		t.Run(name, func(t *testing.T) {
			f, err := checkpoint.OpenFolder(filepath.Join("../../engine/model/testdata/parity", name))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			for _, row := range Methods() {
				t.Run(row.Name, func(t *testing.T) { onArchitecture(t, row, func() shape { return build(t, f) }) })
			}
		})
	}
}

func onArchitecture(t *testing.T, row Method, build func() shape) {
	m := build()
	want := m.logits()
	tr := family[row.Name]
	a, err := Attach(m.net, row, tr.options(), nil, 7)
	if _, removes := tr.options().(Remover); removes && errors.Is(err, ErrFit) && strings.Contains(err.Error(), "cannot be taken out of a gpt2") {
		return // joined queries, keys and values stay whole
	}
	if err != nil {
		t.Fatal(err)
	}
	if d := distance(m.logits(), want); d > max(1e-6, tr.tolerance, tr.start) {
		t.Errorf("logits move by %g when the method is attached", d)
	}
	const steps, lr = 6, 1e-2
	hooks, err := a.Prepare(t.Context(), Setup{Model: m.net, Steps: steps, Seed: 3, LR: lr, Batches: func(n int) ([]train.Batch, error) {
		batches := make([]train.Batch, n)
		for i := range batches {
			batches[i] = m.Task.(again)
		}
		return batches, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	loop := &train.Loop{Task: m, Params: m.net.Params(), Optimizer: &optim.AdamW{}, Tape: grad.NewTape(nil), Hooks: hooks, Options: train.Options{Steps: 1, LR: lr}}
	if err := loop.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	first := loop.Loss
	loop.Options.Steps = steps
	if err := loop.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	if !(loop.Loss < first) {
		t.Errorf("%d steps bring the loss from %g to %g", steps, first, loop.Loss)
	}
	want = m.logits()
	dir := filepath.Join(t.TempDir(), "adapter")
	if err := a.Save(dir, "base/model"); err != nil {
		t.Fatal(err)
	}
	fresh := build()
	if _, err := Load(dir, fresh.net); err != nil {
		t.Fatal(err)
	}
	if d := distance(fresh.logits(), want); d > max(tr.tolerance, 1e-6) {
		t.Errorf("loaded, the logits differ by %g", d)
	}
	if err := a.Merge(); err != nil {
		t.Fatal(err)
	}
	if d := distance(m.logits(), want); d > 1e-5 {
		t.Errorf("merged, the logits differ by %g", d)
	}
}
