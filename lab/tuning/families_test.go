package tuning

import (
	"math"
	"path/filepath"
	"testing"

	"tare/engine/checkpoint"
	"tare/engine/data"
	"tare/engine/eval"
	"tare/engine/model"
	"tare/engine/tensor"
)

// Every family of language models tunes, and what is saved is what was tuned.
func TestEveryFamilyTunes(t *testing.T) {
	ids := make([]int32, 600)
	for i := range ids {
		ids[i] = int32(3 + i*i%7)
	}
	for _, family := range []string{"llama", "qwen3", "mistral-window", "phi", "gemma3", "gpt2", "gpt2-scaled-bf16", "opt-norm-after"} {
		for _, method := range []string{Full, "lora", "paca"} {
			t.Run(family+"/"+method, func(t *testing.T) {
				src, err := checkpoint.OpenFolder(filepath.Join("../../engine/model/testdata/parity", family))
				if err != nil {
					t.Fatal(err)
				}
				defer src.Close()
				r := Default()
				r.Method, r.Steps, r.Batch, r.SeqLen, r.LR, r.Checkpoint = method, 12, 4, 16, 1e-2, true
				if method != Full {
					r.Options = map[string]string{"rank": "4"}
				}
				if method == "lora" {
					r.Base = BaseStored
				}
				train, err := data.NewWindows(ids, r.SeqLen, r.Batch, 1)
				if err != nil {
					t.Fatal(err)
				}
				valid, err := data.WindowBatches(ids[:100], r.SeqLen, r.Batch)
				if err != nil {
					t.Fatal(err)
				}
				run, err := New(r, src, Data{Train: train, Valid: valid}, 7)
				if err != nil {
					t.Fatal(err)
				}
				if err := run.Train(t.Context(), Watch{}); err != nil {
					t.Fatal(err)
				}
				if before, after := run.Evals[0].Loss, run.Final().Loss; !(after < 0.95*before) {
					t.Errorf("loss %g before, %g after", before, after)
				}
				dir := filepath.Join(t.TempDir(), "tuned")
				if err := SaveModel(dir, run.Model, tensor.F32, src, nil, false); err != nil {
					t.Fatal(err)
				}
				saved, err := checkpoint.OpenFolder(dir)
				if err != nil {
					t.Fatal(err)
				}
				defer saved.Close()
				m, err := model.LoadCausal(saved.Config, saved, model.LoadOptions{})
				if err != nil {
					t.Fatal(err)
				}
				got, err := eval.Loss(t.Context(), m, valid, 0, nil)
				if err != nil {
					t.Fatal(err)
				}
				if math.Abs(got.Loss-run.Final().Loss) > 1e-4*run.Final().Loss {
					t.Errorf("the saved model's loss is %g, the tuned one's %g", got.Loss, run.Final().Loss)
				}
			})
		}
	}
}
