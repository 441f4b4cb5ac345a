package tuning

import (
	"bytes"
	"math"
	"path/filepath"
	"testing"

	"tare/engine/checkpoint"
	"tare/engine/data"
	"tare/engine/eval"
	"tare/engine/model"
	"tare/engine/tensor"
)

// S²FT permutes heads and channels while it trains; the checkpoint that is written
// afterwards is in the original order: what did not train has the bytes it had.
func TestS2FTWritesTheOriginalOrder(t *testing.T) {
	ids := make([]int32, 600)
	for i := range ids {
		ids[i] = int32(3 + i*i%7)
	}
	for _, family := range []string{"llama", "qwen2", "phi", "opt"} {
		t.Run(family, func(t *testing.T) {
			src, err := checkpoint.OpenFolder(filepath.Join("../../engine/model/testdata/parity", family))
			if err != nil {
				t.Fatal(err)
			}
			defer src.Close()
			r := Default()
			r.Method, r.Steps, r.Batch, r.SeqLen, r.LR, r.Options = "s2ft", 12, 4, 16, 1e-2, map[string]string{"ratio": "0.5", "choice": "activation"}
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
			trained := map[string]bool{}
			for _, l := range run.Adapter.Layers {
				trained[l.Name+".weight"] = true
			}
			for _, name := range saved.Names() {
				now, err := saved.Tensor(name)
				if err != nil {
					t.Fatal(err)
				}
				was, err := src.Tensor(name)
				if err != nil {
					t.Fatal(err)
				}
				if was, err = was.To(tensor.F32); err != nil {
					t.Fatal(err)
				}
				if same := bytes.Equal(now.Bytes(), was.Bytes()); same == trained[name] {
					t.Errorf("%s: changed %v, trained %v", name, !same, trained[name])
				}
			}
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
