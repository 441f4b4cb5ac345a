package quant

import (
	"context"
	"math"
	"path/filepath"
	"testing"

	"tare/engine/checkpoint"
	"tare/engine/grad"
	"tare/engine/model"
	"tare/engine/nn"
)

// A checkpoint of any family is quantized layer for layer to what quantizing the loaded
// model's layers gives, also where the file holds matrices as [in, out].
func TestCheckpointOfEveryFamily(t *testing.T) {
	for _, family := range []string{"gpt2", "opt", "opt-norm-after", "phi", "gemma3", "qwen3", "mistral-window"} {
		src, err := checkpoint.OpenFolder(filepath.Join("../../engine/model/testdata/parity", family))
		if err != nil {
			t.Fatal(err)
		}
		defer src.Close()
		o := Options{Bits: 4, Group: 32}
		rtn := &RTN{Group: 32}
		out := filepath.Join(t.TempDir(), "q")
		report, err := Checkpoint(context.Background(), src, out, rtn, CheckpointOptions{Options: o})
		if err != nil {
			t.Fatalf("%s: %v", family, err)
		}
		packed, err := checkpoint.OpenFolder(out)
		if err != nil {
			t.Fatal(err)
		}
		defer packed.Close()
		got, err := model.LoadCausal(packed.Config, packed, model.LoadOptions{Keep: true})
		if err != nil {
			t.Fatalf("%s: %v", family, err)
		}
		want, err := model.LoadCausal(src.Config, src, model.LoadOptions{})
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, l := range want.Linears() {
			if l.Name == "lm_head" {
				continue
			}
			n++
			w, err := nn.Materialize(l.Weight)
			if err != nil {
				t.Fatal(err)
			}
			if l.Weight, err = rtn.QuantizeLayer(l.Name, w, nil); err != nil {
				t.Fatal(err)
			}
		}
		if n == 0 || len(report.Layers) != n {
			t.Errorf("%s: %d layers quantized, want %d", family, len(report.Layers), n)
		}
		a, b := familyLogits(got), familyLogits(want)
		for i, v := range a {
			if math.Abs(float64(v-b[i])) > 1e-5*(1+math.Abs(float64(b[i]))) {
				t.Errorf("%s: logit %d is %g from the file, %g from the model", family, i, v, b[i])
				break
			}
		}
	}
}

func familyLogits(m model.Causal) []float32 {
	tp := grad.NewTape(nil)
	var out []float32
	tp.NoGrad(func() {
		x := m.Hidden(tp, []int32{3, 9, 27, 81, 50, 7}, grad.Sequences{Lengths: []int{6}}, nil)
		out = append(out, m.Logits(tp, x).Data...)
	})
	return out
}
