package checkpoint

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"tare/engine/tensor"
)

// tinyFields are the metadata of a llama of one layer: width 8, 2 heads of 4, 1 for keys.
var tinyFields = []GGUFField{
	{"general.architecture", "llama"},
	{"llama.block_count", uint32(1)}, {"llama.context_length", uint32(16)}, {"llama.embedding_length", uint32(8)},
	{"llama.feed_forward_length", uint32(12)}, {"llama.attention.head_count", uint32(2)}, {"llama.attention.head_count_kv", uint32(1)},
	{"llama.attention.layer_norm_rms_epsilon", float32(1e-5)}, {"llama.rope.freq_base", float32(5000)},
	{"tokenizer.ggml.model", "gpt2"}, {"tokenizer.ggml.pre", "smollm"}, {"tokenizer.ggml.tokens", []string{"<s>", "a", "b", "ab", "[PAD4]"}},
	{"tokenizer.ggml.token_type", []int32{3, 1, 1, 1, 5}}, {"tokenizer.ggml.merges", []string{"a b"}},
	{"tokenizer.ggml.bos_token_id", uint32(0)}, {"tokenizer.ggml.add_bos_token", true}, {"tokenizer.chat_template", "{{ messages }}"},
}

// writeTiny writes a llama whose entries count up from 0 in each tensor.
func writeTiny(t testing.TB, fields []GGUFField, extra ...GGUFSpec) string {
	t.Helper()
	specs := append([]GGUFSpec{
		{"token_embd.weight", GGMLF16, []int{5, 8}}, {"output_norm.weight", GGMLF32, []int{8}},
		{"blk.0.attn_q.weight", GGMLF32, []int{8, 8}}, {"blk.0.attn_k.weight", GGMLF32, []int{4, 8}}, {"blk.0.attn_v.weight", GGMLF32, []int{4, 8}},
	}, extra...)
	path := filepath.Join(t.TempDir(), "tiny.gguf")
	w, err := CreateGGUF(path, fields, specs)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range specs {
		x := tensor.New(s.Shape...)
		for i := range x.F32() {
			x.F32()[i] = float32(i)
		}
		if err := w.Write(x); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func openTiny(t *testing.T, path string) *Folder {
	t.Helper()
	f, err := OpenFolder(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestGGUFAsFolder(t *testing.T) {
	f := openTiny(t, writeTiny(t, tinyFields))
	want := []string{"model.embed_tokens.weight", "model.norm.weight", "model.layers.0.self_attn.q_proj.weight", "model.layers.0.self_attn.k_proj.weight", "model.layers.0.self_attn.v_proj.weight"}
	if !slices.Equal(f.Names(), want) {
		t.Errorf("tensors %v, want %v", f.Names(), want)
	}
	// Rotary pairs (0,1), (2,3) of a head of four become (0,2), (1,3): its rows 0, 2, 1, 3.
	for name, rows := range map[string][]int{want[2]: {0, 2, 1, 3, 4, 6, 5, 7}, want[3]: {0, 2, 1, 3}, want[4]: {0, 1, 2, 3}} {
		x, err := f.Tensor(name)
		if err != nil {
			t.Fatal(err)
		}
		for i, row := range rows {
			if got := x.F32()[i*8] / 8; got != float32(row) {
				t.Errorf("%s: row %d is the file's %v, want %d", name, i, got, row)
			}
		}
	}
	var c map[string]any
	if err := json.Unmarshal(f.Config, &c); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]any{"model_type": "llama", "hidden_size": 8.0, "head_dim": 4.0, "num_key_value_heads": 1.0, "vocab_size": 5.0,
		"rms_norm_eps": 1e-5, "rope_theta": 5000.0, "tie_word_embeddings": true, "bos_token_id": 0.0} {
		if c[key] != want {
			t.Errorf("config.json: %s is %v, want %v", key, c[key], want)
		}
	}
	raw, err := f.Read("tokenizer.json")
	if err != nil {
		t.Fatal(err)
	}
	var tok struct {
		Added []struct{ Content string } `json:"added_tokens"`
		Model struct{ Vocab map[string]int }
	}
	if err := json.Unmarshal(raw, &tok); err != nil {
		t.Fatal(err)
	}
	if len(tok.Model.Vocab) != 4 || tok.Model.Vocab["ab"] != 3 || len(tok.Added) != 1 || tok.Added[0].Content != "<s>" {
		t.Errorf("tokenizer.json: %s", raw)
	}
	if _, err := f.Read("merges.txt"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("merges.txt: %v, want fs.ErrNotExist", err)
	}
}

func TestUnknownArchitectureKeepsItsNames(t *testing.T) {
	f := openTiny(t, writeTiny(t, []GGUFField{{"general.architecture", "mamba"}}))
	if f.Names()[0] != "token_embd.weight" || string(f.Config) != "{\n  \"model_type\": \"mamba\"\n}\n" {
		t.Errorf("%v, %s", f.Names(), f.Config)
	}
}

func TestGGUFThatIsNoWholeModel(t *testing.T) {
	without := func(key string) []GGUFField {
		return slices.DeleteFunc(slices.Clone(tinyFields), func(f GGUFField) bool { return f.Key == key })
	}
	for name, fields := range map[string][]GGUFField{
		"no width":        without("llama.embedding_length"),
		"half a rotation": append(without(""), GGUFField{"llama.rope.dimension_count", uint32(2)}),
		"experts":         append(without(""), GGUFField{"llama.expert_count", uint32(8)}),
		"a part":          append(without(""), GGUFField{"split.count", uint16(2)}),
		"layers differ":   append(without("llama.attention.head_count_kv"), GGUFField{"llama.attention.head_count_kv", []int32{1, 2}}),
	} {
		if _, err := OpenFolder(writeTiny(t, fields)); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v, want ErrFormat", name, err)
		}
	}
	for key, value := range map[string]any{"tokenizer.ggml.pre": "nonesuch", "tokenizer.ggml.model": "bert", "tokenizer.ggml.merges": "a b", "tokenizer.ggml.tokens": "a"} {
		f := openTiny(t, writeTiny(t, append(without(key), GGUFField{key, value})))
		if _, err := f.Read("tokenizer.json"); !errors.Is(err, ErrFormat) {
			t.Errorf("%s = %v: %v, want ErrFormat", key, value, err)
		}
	}
}

// Llama 3 divides a frequency by the factor where it turns less than once in the
// original length, by 1 where it turns more than four times.
func TestLlama3Factors(t *testing.T) {
	s := llama3Rope
	s.Factor = 8
	f := s.factors(128, 500000)
	for i, got := range f {
		turns := 8192 * math.Pow(500000, -float64(i)/64) / (2 * math.Pi)
		switch {
		case turns > 4 && got != 1, turns < 1 && got != 8, got < 1 || got > 8:
			t.Errorf("frequency %d turns %.3f times and is divided by %v", i, turns, got)
		}
	}
	if f[0] != 1 || f[63] != 8 {
		t.Errorf("the first is divided by %v, the last by %v", f[0], f[63])
	}
	foreign := writeTiny(t, tinyFields, GGUFSpec{ropeFactors, GGMLF32, []int{2}}) // 0 and 1
	if _, err := OpenFolder(foreign); !errors.Is(err, ErrFormat) {
		t.Errorf("factors of another kind: %v, want ErrFormat", err)
	}
}

// SentencePiece joins the pair whose piece has the best score.
func TestMergesOfScores(t *testing.T) {
	tokens := []string{"<s>", "a", "b", "c", "bc", "ab", "abc"}
	got := mergesOf(tokens, []int32{3, 1, 1, 1, 1, 1, 1}, []float32{0, -9, -9, -9, -1, -2, -3})
	want := [][2]string{{"b", "c"}, {"a", "b"}, {"a", "bc"}, {"ab", "c"}}
	if !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestWriteGGUFRefuses(t *testing.T) {
	path := writeTiny(t, tinyFields)
	out := filepath.Join(t.TempDir(), "out.gguf")
	src := openTiny(t, path)
	if err := WriteGGUF(t.Context(), out, src, ConvertOptions{Type: GGMLQ6_K}); err == nil {
		t.Error("Q6_K was written")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := WriteGGUF(ctx, out, src, ConvertOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("called off: %v", err)
	}
	for change, config := range map[string]string{
		"another architecture": `{"model_type": "mamba"}`,
		"another activation":   `{"model_type": "llama", "hidden_act": "gelu", "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2}`,
		"packed":               `{"model_type": "llama", "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2, "quantization_config": {"bits": 4}}`,
		"no shape":             `{"model_type": "llama"}`,
		"no JSON":              `{`,
	} {
		src.Config = []byte(config)
		if err := WriteGGUF(t.Context(), out, src, ConvertOptions{}); err == nil {
			t.Errorf("%s: no error", change)
		}
	}
	if left, _ := os.ReadDir(filepath.Dir(out)); len(left) > 0 {
		t.Errorf("%v is left behind", left)
	}
}
