package model

import (
	"math"
	"os"
	"path/filepath"
	"testing"

	"tare/engine/checkpoint"
	"tare/engine/grad"
)

// parityTolerance bounds a logit's difference over the largest logit. Two f32
// computations of these models that sum in different orders differ by about 1e-6.
const parityTolerance = 1e-5

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

// The cache must give the same logits however a sequence is cut: here a first part of
// another length in each sequence, and then token by token.
func TestCachedLogitsMatchTransformers(t *testing.T) {
	eachParity(t, func(t *testing.T, m Causal, g golden) {
		v := m.Info().VocabSize
		cache := NewCache(len(m.Blocks()), 2)
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
