package tuning

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"tare/engine/checkpoint"
	"tare/engine/data"
)

// classifierRun sets a run on a small BERT up, over texts of three classes.
func classifierRun(t *testing.T, label int32) (*Run, error) {
	t.Helper()
	f, err := checkpoint.OpenFolder("../../engine/model/testdata/parity/bert-classes")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	s := &data.Samples{}
	for i := range int32(30) {
		s.Tokens, s.Labels = append(s.Tokens, []int32{1, 3 + i%3, 10 + i, 2}[:3+i%2]), append(s.Labels, i%3)
	}
	s.Labels[29] = label
	kept, held := s.HoldOut(5)
	r := Default()
	r.Options, r.Steps, r.Batch, r.SeqLen, r.LR, r.Warmup = map[string]string{"rank": "4", "dropout": "0.2"}, 30, 4, 16, 3e-3, 2
	d, err := SampleData(kept, held, r, 7)
	if err != nil {
		t.Fatal(err)
	}
	return New(r, f, d, 7)
}

// A classifier's run goes on to the same bits, and its head trains with the adapter.
func TestClassifierResumes(t *testing.T) {
	straight, err := classifierRun(t, 2)
	if err != nil {
		t.Fatal(err)
	}
	if err := straight.Train(t.Context(), Watch{}); err != nil {
		t.Fatal(err)
	}
	before, after := straight.Evals[0], straight.Final()
	if !(after.Loss < before.Loss) || after.Accuracy == nil || after.Tokens != 6 {
		t.Errorf("%+v before, %+v after", before, after)
	}
	first, err := classifierRun(t, 2)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if err := first.Train(ctx, Watch{Step: func(run *Run) {
		if run.Loop.Step == 11 {
			cancel()
		}
	}}); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	state := filepath.Join(t.TempDir(), "state.safetensors")
	if err := first.Loop.Save(state); err != nil {
		t.Fatal(err)
	}
	second, err := classifierRun(t, 2)
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := second.Loop.Restore(state); err != nil {
		t.Fatal(err)
	}
	if err := second.Train(t.Context(), Watch{}); err != nil {
		t.Fatal(err)
	}
	head := false
	want := straight.Classifier.Params()
	for i, p := range second.Classifier.Params() {
		head = head || p.Name == "classifier.weight" && p.Trains()
		if p.Trains() && !bytes.Equal(p.Value.Bytes(), want[i].Value.Bytes()) {
			t.Fatalf("%s has other bits after resuming than without", p.Name)
		}
	}
	if !head {
		t.Error("the head does not train")
	}
}

func TestClassifierRefusesAnUnknownClass(t *testing.T) {
	if _, err := classifierRun(t, 3); !errors.Is(err, data.ErrFormat) || !strings.Contains(err.Error(), "label 3, the model has 3 classes") {
		t.Errorf("error %v", err)
	}
}
