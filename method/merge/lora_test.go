package merge

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tare/engine/checkpoint"
	"tare/engine/tensor"
)

// putAdapter writes a PEFT folder of small factors: of rank 1 over a matrix [2, 3].
func putAdapter(t *testing.T, dir, name, config string, tensors ...checkpoint.NamedTensor) {
	t.Helper()
	folder := filepath.Join(dir, name)
	if err := os.MkdirAll(folder, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := checkpoint.WriteFile(filepath.Join(folder, "adapter_model.safetensors"), tensors, nil); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, "adapter_config.json"), []byte(config), 0o666); err != nil {
		t.Fatal(err)
	}
}

const plainLoRA = `{"peft_type": "LORA", "r": 1, "lora_alpha": 2}`

// By hand: W + α/r B A of B = (1, 2)ᵀ and A = (1, 0, −1), stored across where the layer
// is, an embedding's always; a tensor that the adapter holds whole takes the place of
// the model's.
func TestAdapterByHand(t *testing.T) {
	dir := t.TempDir()
	ones := []float32{1, 1, 1, 1, 1, 1}
	put(t, dir, "base", named("h.0.w.weight", tensor.F32, ones, 2, 3), named("h.0.across.weight", tensor.F32, ones, 3, 2),
		named("wte.weight", tensor.F32, ones, 3, 2), named("head.weight", tensor.F32, ones, 2, 3), named("norm.weight", tensor.F32, ones[:3], 3))
	a, b := []float32{1, 0, -1}, []float32{1, 2}
	pair := func(module string) []checkpoint.NamedTensor {
		return []checkpoint.NamedTensor{named("base_model.model.transformer."+module+".lora_A.weight", tensor.F32, a, 1, 3),
			named("base_model.model.transformer."+module+".lora_B.weight", tensor.F32, b, 2, 1)}
	}
	putAdapter(t, dir, "plain", plainLoRA, append(pair("h.0.w"),
		named("base_model.model.transformer.wte.lora_embedding_A", tensor.F32, a, 1, 3), named("base_model.model.transformer.wte.lora_embedding_B", tensor.F32, b, 2, 1),
		named("base_model.model.head.weight", tensor.F32, []float32{1, 2, 3, 4, 5, 6}, 2, 3))...)
	putAdapter(t, dir, "across", `{"peft_type": "LORA", "r": 4, "lora_alpha": 8, "fan_in_fan_out": true, "rank_pattern": {"h.0.across": 1}, "use_rslora": true}`, pair("h.0.across")...)

	plain := merged(t, dir, "merge_method: passthrough\nmodels: [{model: base+plain}]", RunOptions{})
	along, across := []float32{3, 1, -1, 5, 1, -3}, []float32{3, 5, 1, 1, -1, -3}
	for name, want := range map[string][]float32{"h.0.w.weight": along, "wte.weight": across, "head.weight": {1, 2, 3, 4, 5, 6}, "norm.weight": {1, 1, 1}} {
		if got := values(t, plain, name); !sameBits(got, want) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	// α/√r with the r of the pattern: 8.
	got := values(t, merged(t, dir, "merge_method: passthrough\nmodels: [{model: base+across}]", RunOptions{}), "h.0.across.weight")
	for i, x := range across {
		if want := 1 + 4*(x-1); got[i] != want {
			t.Errorf("across: entry %d: %g, want %g", i, got[i], want)
		}
	}
}

func TestAdapterErrors(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "base", named("w.weight", tensor.F32, []float32{1, 1, 1, 1, 1, 1}, 2, 3))
	lora := func(module string, a, b int, v float32) []checkpoint.NamedTensor {
		fill := func(n int) []float32 {
			f := make([]float32, n)
			f[0] = v
			return f
		}
		return []checkpoint.NamedTensor{named("base_model.model."+module+".lora_A.weight", tensor.F32, fill(a), 1, a), named("base_model.model."+module+".lora_B.weight", tensor.F32, fill(b), b, 1)}
	}
	for want, c := range map[string]struct {
		config  string
		tensors []checkpoint.NamedTensor
	}{
		"peft_type is IA3":                   {`{"peft_type": "IA3"}`, lora("w", 3, 2, 1)},
		"use_dora":                           {`{"peft_type": "LORA", "r": 1, "lora_alpha": 1, "use_dora": true}`, lora("w", 3, 2, 1)},
		"has no lora_alpha":                  {`{"peft_type": "LORA", "r": 1}`, lora("w", 3, 2, 1)},
		"r is 0":                             {`{"peft_type": "LORA", "r": 0, "lora_alpha": 1}`, lora("w", 3, 2, 1)},
		`the model has no tensor "x.weight"`: {plainLoRA, lora("x", 3, 2, 1)},
		"do not fit tensor":                  {plainLoRA, lora("w", 4, 2, 1)},
		"lora_B.weight beside it":            {plainLoRA, lora("w", 3, 2, 1)[:1]},
		"holds NaN or Inf":                   {plainLoRA, lora("w", 3, 2, float32(math.NaN()))},
		"rank_pattern":                       {`{"peft_type": "LORA", "r": 1, "lora_alpha": 1, "rank_pattern": {"(": 2}}`, lora("w", 3, 2, 1)},
	} {
		putAdapter(t, dir, "adapter", c.config, c.tensors...)
		_, err := Run(t.Context(), recipe(t, dir, "merge_method: passthrough\nmodels: [{model: base+adapter}]"), filepath.Join(dir, "out"), RunOptions{})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "base+adapter") {
			t.Errorf("%v, want it to say %q", err, want)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "out")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the output is there: %v", err)
	}
}
