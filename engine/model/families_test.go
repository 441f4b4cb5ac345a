package model

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tare/engine/checkpoint"
	"tare/engine/grad"
	"tare/engine/tensor"
)

// renamed is a checkpoint under other names.
type renamed struct {
	names   []string
	tensors map[string]*tensor.Tensor
}

func (r *renamed) Names() []string { return r.names }

func (r *renamed) Tensor(name string) (*tensor.Tensor, error) { return r.tensors[name], nil }

func (r *renamed) add(name string, t *tensor.Tensor) {
	r.names = append(r.names, name)
	r.tensors[name] = t
}

// rename returns a parity checkpoint with every name changed by f; "" leaves it out.
func rename(t *testing.T, dir string, f func(string) string) (config []byte, out *renamed) {
	t.Helper()
	src, err := checkpoint.OpenFolder(filepath.Join("testdata/parity", dir))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { src.Close() })
	out = &renamed{tensors: map[string]*tensor.Tensor{}}
	for _, name := range src.Names() {
		x, err := src.Tensor(name)
		if err != nil {
			t.Fatal(err)
		}
		if to := f(name); to != "" {
			out.add(to, x)
		}
	}
	return src.Config, out
}

// OpenAI's GPT-2 files lack the prefix and hold the masks as tensors.
func TestCheckpointWithoutPrefix(t *testing.T) {
	config, src := rename(t, "gpt2", func(name string) string { return strings.TrimPrefix(name, "transformer.") })
	src.add("h.0.attn.bias", tensor.New(1, 1, 96, 96))
	m, err := LoadCausal(config, src, LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	g := readGolden(t, "testdata/parity/gpt2/golden.safetensors")
	tp := grad.NewTape(nil)
	tp.NoGrad(func() {
		got := m.Logits(tp, m.Hidden(tp, joined(g.ids), g.inputs().Seqs, nil))
		if d := difference(t, got.Data, joined(g.logits)); d > parityTolerance {
			t.Errorf("logits differ from transformers' by %.2g of the largest", d)
		}
	})
	if name := m.Linears()[0].Name; name != "transformer.h.0.attn.c_attn" {
		t.Errorf("the first layer is called %q", name)
	}
	specs, err := LayoutIn(m.Info(), src.Names())
	if err != nil {
		t.Fatal(err)
	}
	if s := specs[0]; s.Name != "h.0.attn.c_attn" || !slices.Equal(s.Shape(), []int{32, 96}) {
		t.Errorf("in the file the first layer is %q %v", s.Name, s.Shape())
	}
}

// The encoder alone loads from the file of a model with a head, from one without a
// prefix, and under the names that Google's files have.
func TestEncoderOfAnyFile(t *testing.T) {
	g := readGolden(t, "testdata/parity/bert/golden.safetensors")
	var want []float32
	for i, f := range []func(string) string{
		func(name string) string { return name },
		func(name string) string {
			rest, ours := strings.CutPrefix(name, "bert.")
			if !ours {
				return ""
			}
			return rest
		},
		func(name string) string {
			return strings.NewReplacer("LayerNorm.weight", "LayerNorm.gamma", "LayerNorm.bias", "LayerNorm.beta").Replace(name)
		},
	} {
		config, src := rename(t, "bert", f)
		m, err := LoadEncoder(config, src, LoadOptions{})
		if err != nil {
			t.Fatal(err)
		}
		tp := grad.NewTape(nil)
		tp.NoGrad(func() {
			got := m.Encode(tp, g.inputs()).Data
			if i == 0 {
				want = append(want, got...)
			} else if !slices.Equal(got, want) {
				t.Errorf("file %d gives other hidden states", i)
			}
		})
	}
}

func TestNetworkThatAFamilyLacks(t *testing.T) {
	config, src := rename(t, "bert", func(name string) string { return name })
	_, err := LoadCausal(config, src, LoadOptions{})
	if !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), "gemma3_text, gpt2, llama") || strings.Contains(err.Error(), "roberta") {
		t.Errorf("LoadCausal of a bert: %v", err)
	}
	if _, err := LoadClassifier(config, src, LoadOptions{}); !errors.Is(err, ErrMissing) {
		t.Errorf("LoadClassifier of a file without a classifier: %v", err)
	}
	config, src = rename(t, "gpt2", func(name string) string { return name })
	if _, err := Load(config, src, LoadOptions{}); err == nil {
		t.Error("Load makes a Llama of a gpt2")
	}
	if _, err := LoadEncoder(config, src, LoadOptions{}); !errors.Is(err, ErrConfig) {
		t.Errorf("LoadEncoder of a gpt2: %v", err)
	}
}

func TestTensorWithoutAPlaceIsRefused(t *testing.T) {
	for _, dir := range []string{"gpt2", "opt", "phi", "gemma3", "qwen3"} {
		config, src := rename(t, dir, func(name string) string { return name })
		src.add("model.layers.9.extra.weight", tensor.New(2, 2))
		if _, err := LoadCausal(config, src, LoadOptions{}); err == nil || !strings.Contains(err.Error(), "model.layers.9.extra.weight") {
			t.Errorf("%s: %v", dir, err)
		}
	}
}

func TestConfigsThatCannotBeBuilt(t *testing.T) {
	for _, c := range []struct{ dir, key, value, says string }{
		{"gpt2", "model_type", `"gpt3"`, "gemma3_text, gpt2, llama"},
		{"gpt2", "activation_function", `"mish"`, "gelu_new"},
		{"gpt2", "n_embd", `"many"`, "n_embd"},
		{"gpt2", "n_layer", `-1`, "num_hidden_layers = -1"},
		{"gpt2", "n_head", `5`, "multiple of num_attention_heads"},
		{"opt", "word_embed_proj_dim", `-3`, "word_embed_proj_dim"},
		{"roberta", "pad_token_id", `-3`, "pad_token_id"},
		{"opt", "layer_norm_elementwise_affine", `false`, "layer_norm_elementwise_affine"},
		{"phi", "partial_rotary_factor", `0.4`, "rotated in pairs"},
		{"phi", "partial_rotary_factor", `3`, "rotated in pairs"},
		{"gemma3", "final_logit_softcapping", `30.0`, "final_logit_softcapping"},
		{"gemma3", "layer_types", `["full_attention"]`, "layer_types"},
		{"gemma3", "query_pre_attn_scalar", `0`, "query_pre_attn_scalar"},
		{"gemma3", "num_hidden_layers", `1000000000`, "num_hidden_layers"},
		{"mistral-window", "sliding_window", `0`, "sliding_window"},
		{"bert", "position_embedding_type", `"relative_key"`, "position_embedding_type"},
		{"roberta", "max_position_embeddings", `2`, "max_position_embeddings"},
		{"vit", "patch_size", `0`, "patch_size"},
		{"vit", "patch_size", `13`, "patch_size"},
		{"vit", "image_size", `1e9`, "image_size"},
	} {
		data, err := os.ReadFile(filepath.Join("testdata/parity", c.dir, "config.json"))
		if err != nil {
			t.Fatal(err)
		}
		doc := map[string]json.RawMessage{}
		if err := json.Unmarshal(data, &doc); err != nil {
			t.Fatal(err)
		}
		doc[c.key] = json.RawMessage(c.value)
		if data, err = json.Marshal(doc); err != nil {
			t.Fatal(err)
		}
		if _, err := ParseConfig(data); !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s with %s = %s: %v", c.dir, c.key, c.value, err)
		}
	}
}

// A fresh model of every family starts near the uniform distribution: ln(vocab) nats.
func TestFreshModelsKnowNothing(t *testing.T) {
	for _, dir := range []string{"llama", "qwen3", "phi", "gemma3", "gpt2", "opt"} {
		data, err := os.ReadFile(filepath.Join("testdata/parity", dir, "config.json"))
		if err != nil {
			t.Fatal(err)
		}
		c, err := ParseConfig(data)
		if err != nil {
			t.Fatal(err)
		}
		m, err := New(c, 1)
		if err != nil {
			t.Fatal(err)
		}
		g := readGolden(t, filepath.Join("testdata/parity", dir, "golden.safetensors"))
		tp := grad.NewTape(nil)
		tp.NoGrad(func() {
			if loss := lossOf(tp, m, g).Data[0]; loss < 4.4 || loss > 4.75 { // ln 96 = 4.56
				t.Errorf("%s: a fresh model's loss is %g", dir, loss)
			}
		})
		doc, err := c.JSON()
		if err != nil {
			t.Fatal(err)
		}
		if back, err := ParseConfig(doc); err != nil || back.HiddenSize != c.HiddenSize || back.Layers != c.Layers {
			t.Errorf("%s: its config.json does not read back: %v", dir, err)
		}
	}
}

// A file without a head is a tied model, and the config.json written for it says so.
func TestMissingHeadIsTied(t *testing.T) {
	config, src := rename(t, "llama", func(name string) string {
		if name == "lm_head.weight" {
			return ""
		}
		return name
	})
	m, err := LoadCausal(config, src, LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	doc, err := m.Info().JSON()
	if err != nil {
		t.Fatal(err)
	}
	if back, err := ParseConfig(doc); err != nil || !back.TieEmbeddings {
		t.Errorf("tie_word_embeddings is lost (%v)", err)
	}
}

// Newer files keep Gemma's two rotary bases in rope_parameters.
func TestRopeParametersByKindOfLayer(t *testing.T) {
	data, err := os.ReadFile("testdata/parity/gemma3/config.json")
	if err != nil {
		t.Fatal(err)
	}
	doc := map[string]json.RawMessage{}
	if err := json.Unmarshal(data, &doc); err != nil {
		t.Fatal(err)
	}
	delete(doc, "rope_theta")
	delete(doc, "rope_local_base_freq")
	doc["rope_parameters"] = json.RawMessage(`{"full_attention": {"rope_type": "default", "rope_theta": 1000000.0}, "sliding_attention": {"rope_type": "default", "rope_theta": 100.0}}`)
	if data, err = json.Marshal(doc); err != nil {
		t.Fatal(err)
	}
	c, err := ParseConfig(data)
	if err != nil {
		t.Fatal(err)
	}
	if c.RopeTheta != 1e6 || c.localTheta != 100 {
		t.Errorf("bases %g and %g, want 1e6 and 100", c.RopeTheta, c.localTheta)
	}
}
