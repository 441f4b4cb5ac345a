package model

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"

	"tare/engine/checkpoint"
	"tare/engine/grad"
)

// The folders under testdata/parity were saved by transformers, and golden.safetensors
// in each holds the logits that it computes: see parity/models.py.

// parityTolerance bounds a logit's difference over the largest logit. Two f32
// computations of these models that sum in different orders differ by about 1e-6.
const parityTolerance = 1e-5

// golden is sequences of tokens with the logits [tokens, vocab] of each.
type golden struct {
	ids    [][]int32
	logits [][]float32
}

func readGolden(t *testing.T, path string) golden {
	t.Helper()
	f, err := checkpoint.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var g golden
	for i := range 2 {
		ids, err := f.Tensor(fmt.Sprintf("ids.%d", i))
		if err != nil {
			t.Fatal(err)
		}
		logits, err := f.Tensor(fmt.Sprintf("logits.%d", i))
		if err != nil {
			t.Fatal(err)
		}
		seq := make([]int32, ids.Len())
		for j, id := range ids.I64() {
			seq[j] = int32(id)
		}
		g.ids = append(g.ids, seq)
		g.logits = append(g.logits, append([]float32(nil), logits.F32()...))
	}
	return g
}

// joined returns sequence 0's entries and then sequence 1's.
func joined[T any](parts [][]T) []T { return append(append([]T(nil), parts[0]...), parts[1]...) }

// difference returns the largest difference over want's largest magnitude.
func difference(t *testing.T, got, want []float32) float64 {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d logits, want %d", len(got), len(want))
	}
	var diff, size float64
	for i, w := range want {
		d := math.Abs(float64(got[i]) - float64(w))
		if math.IsNaN(d) {
			return math.Inf(1)
		}
		diff, size = max(diff, d), max(size, math.Abs(float64(w)))
	}
	return diff / size
}

// eachParity runs f on every folder, its weights held as f32 and as they are stored.
func eachParity(t *testing.T, f func(t *testing.T, m *Llama, g golden)) {
	paths, err := filepath.Glob("testdata/parity/*/config.json")
	if err != nil || len(paths) == 0 {
		t.Fatalf("testdata/parity has no checkpoints (%v)", err)
	}
	for _, path := range paths {
		dir := filepath.Dir(path)
		for _, keep := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/keep=%v", filepath.Base(dir), keep), func(t *testing.T) {
				src, err := checkpoint.OpenFolder(dir)
				if err != nil {
					t.Fatal(err)
				}
				defer src.Close()
				m, err := Load(src.Config, src, LoadOptions{Keep: keep})
				if err != nil {
					t.Fatal(err)
				}
				f(t, m, readGolden(t, filepath.Join(dir, "golden.safetensors")))
			})
		}
	}
}

func TestLogitsMatchTransformers(t *testing.T) {
	eachParity(t, func(t *testing.T, m *Llama, g golden) {
		tp := grad.NewTape(nil)
		seqs := grad.Sequences{Lengths: []int{len(g.ids[0]), len(g.ids[1])}}
		tp.NoGrad(func() {
			got := m.Logits(tp, m.Hidden(tp, joined(g.ids), seqs, nil))
			if d := difference(t, got.Data, joined(g.logits)); d > parityTolerance {
				t.Errorf("logits differ from transformers' by %.2g of the largest", d)
			}
		})
	})
}

// The cache must give the same logits however a sequence is cut: here a first part of
// another length in each sequence, and then token by token.
func TestCachedLogitsMatchTransformers(t *testing.T) {
	eachParity(t, func(t *testing.T, m *Llama, g golden) {
		v := m.Config.VocabSize
		cache := NewCache(len(m.Layers), 2)
		tp := grad.NewTape(nil)
		step := func(lengths ...int) {
			var tokens [][]int32
			var want [][]float32
			for i, n := range lengths {
				at := cache.Lengths()[i]
				tokens = append(tokens, g.ids[i][at:at+n])
				want = append(want, g.logits[i][at*v:(at+n)*v])
			}
			seqs := cache.Next(lengths)
			tp.NoGrad(func() {
				got := m.Logits(tp, m.Hidden(tp, joined(tokens), seqs, cache))
				if d := difference(t, got.Data, joined(want)); d > parityTolerance {
					t.Errorf("at position %d: logits differ from transformers' by %.2g of the largest", cache.Lengths()[0], d)
				}
			})
			tp.Reset()
			cache.Advance(seqs)
		}
		n := len(g.ids[0])
		first := 7
		step(first, len(g.ids[1])-n+first)
		for range n - first {
			step(1, 1)
		}
	})
}

// A checkpoint written from a loaded model holds the tensors that transformers wrote,
// to the bit where the type is the same.
func TestExportIsTransformersFile(t *testing.T) {
	eachParity(t, func(t *testing.T, m *Llama, _ golden) {
		dir := filepath.Join("testdata/parity", filepath.Base(filepath.Dir(t.Name())))
		src, err := checkpoint.Open(filepath.Join(dir, "model.safetensors"))
		if err != nil {
			t.Fatal(err)
		}
		defer src.Close()
		left := map[string]bool{}
		for _, name := range src.Names() {
			left[name] = true
		}
		info, _ := src.Info("model.norm.weight")
		for _, e := range m.Export(info.DType) {
			want, err := src.Tensor(e.Name)
			if err != nil {
				t.Fatal(err)
			}
			got, err := e.Read()
			if err != nil {
				t.Fatal(err)
			}
			if string(got.Bytes()) != string(want.Bytes()) || fmt.Sprint(got.Shape(), e.Shape) != fmt.Sprint(want.Shape(), want.Shape()) {
				t.Errorf("%s %v differs from the file's %v", e.Name, got.Shape(), want.Shape())
			}
			delete(left, e.Name)
		}
		if len(left) > 0 {
			t.Errorf("not exported: %v", left)
		}
	})
}

func TestConfigKeepsTheDTypeThatItsFileNames(t *testing.T) {
	data, err := os.ReadFile("testdata/parity/smollm2-bf16/config.json") // names it dtype, as newer files do
	if err != nil {
		t.Fatal(err)
	}
	c, err := ParseConfig(data)
	if err != nil {
		t.Fatal(err)
	}
	if c.TorchDType != "bfloat16" {
		t.Errorf("dtype %q, want bfloat16", c.TorchDType)
	}
	c.TorchDType = "float32"
	out, err := c.JSON()
	if err != nil {
		t.Fatal(err)
	}
	back, err := ParseConfig(out)
	if err != nil {
		t.Fatal(err)
	}
	if back.TorchDType != "float32" {
		t.Errorf("after a change to float32 the file says %q", back.TorchDType)
	}
}

// Newer versions of transformers keep rope_theta and rope_scaling in rope_parameters.
func TestNewerConfigGivesTheSameLogits(t *testing.T) {
	const dir = "testdata/parity/llama-tied-llama3"
	const newer = `{
		"architectures": ["LlamaForCausalLM"], "model_type": "llama", "dtype": "float32", "transformers_version": "5.24.0",
		"vocab_size": 96, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
		"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "hidden_act": "silu", "rms_norm_eps": 1e-06,
		"max_position_embeddings": 256, "tie_word_embeddings": true, "attention_bias": false, "mlp_bias": false,
		"rope_parameters": {
			"rope_theta": 10000.0, "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
			"high_freq_factor": 4.0, "original_max_position_embeddings": 128
		}
	}`
	src, err := checkpoint.OpenFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	m, err := Load([]byte(newer), src, LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	g := readGolden(t, filepath.Join(dir, "golden.safetensors"))
	tp := grad.NewTape(nil)
	tp.NoGrad(func() {
		got := m.Logits(tp, m.Hidden(tp, g.ids[0], grad.Sequences{Lengths: []int{len(g.ids[0])}}, nil))
		if d := difference(t, got.Data, g.logits[0]); d > parityTolerance {
			t.Errorf("logits differ from transformers' by %.2g of the largest", d)
		}
	})
}
