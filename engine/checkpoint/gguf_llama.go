package checkpoint

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"strings"

	"tare/engine/tensor"
)

// llamaGGUF shows a GGUF file of a llama-like model as a Hugging Face folder would:
// tensors under their names and in their order of rows, and the files beside them made
// from the metadata. A file of another architecture keeps its names.
type llamaGGUF struct {
	*GGUF
	arch   string
	family ggufFamily
	names  []string
	stored map[string]string // the file's name of each tensor
}

// ggufFamily is what sets an architecture apart.
type ggufFamily struct {
	modelType, class string
	// interleaved says that rows of q and k stand as rotary pairs (0, 1), (2, 3), …;
	// Hugging Face's pair row i with row i + half.
	interleaved bool
}

// ggufFamilies are the architectures whose tensors have llama's names.
var ggufFamilies = map[string]ggufFamily{
	"llama": {"llama", "LlamaForCausalLM", true},
	"qwen2": {"qwen2", "Qwen2ForCausalLM", false},
	"qwen3": {"qwen3", "Qwen3ForCausalLM", false},
}

// The names of tensors in a GGUF file and in a folder; those of a layer stand behind
// blk.N. and model.layers.N.
var (
	modelNames = [][2]string{
		{"token_embd", "model.embed_tokens"},
		{"output_norm", "model.norm"},
		{"output", "lm_head"},
	}
	layerNames = [][2]string{
		{"attn_norm", "input_layernorm"},
		{"attn_q", "self_attn.q_proj"},
		{"attn_k", "self_attn.k_proj"},
		{"attn_v", "self_attn.v_proj"},
		{"attn_output", "self_attn.o_proj"},
		{"attn_q_norm", "self_attn.q_norm"},
		{"attn_k_norm", "self_attn.k_norm"},
		{"ffn_norm", "post_attention_layernorm"},
		{"ffn_gate", "mlp.gate_proj"},
		{"ffn_up", "mlp.up_proj"},
		{"ffn_down", "mlp.down_proj"},
	}
)

const (
	ggufLayer   = "blk."
	folderLayer = "model.layers."
	ropeFactors = "rope_freqs.weight" // Llama 3's stretching of each frequency
)

// rename translates a tensor's name: from column 0 of the tables to 1 for a folder's
// name, from 1 to 0 for a GGUF file's.
func rename(name string, from, to int) (string, bool) {
	layers := [2]string{ggufLayer, folderLayer}
	dot := strings.LastIndexByte(name, '.')
	if dot < 0 || name[dot:] != ".weight" && name[dot:] != ".bias" {
		return "", false
	}
	stem, suffix, table, prefix := name[:dot], name[dot:], modelNames, ""
	if rest, ok := strings.CutPrefix(stem, layers[from]); ok {
		number, part, ok := strings.Cut(rest, ".")
		if !ok || number == "" || strings.Trim(number, "0123456789") != "" {
			return "", false
		}
		stem, table, prefix = part, layerNames, layers[to]+number+"."
	}
	for _, row := range table {
		if row[from] == stem {
			return prefix + row[to] + suffix, true
		}
	}
	return "", false
}

// openLlamaGGUF opens a GGUF file as a folder.
func openLlamaGGUF(path string) (*llamaGGUF, error) {
	g, err := OpenGGUF(path)
	if err != nil {
		return nil, err
	}
	l, err := newLlamaGGUF(g)
	if err != nil {
		g.Close()
		return nil, err
	}
	return l, nil
}

func newLlamaGGUF(g *GGUF) (*llamaGGUF, error) {
	l := &llamaGGUF{GGUF: g, stored: map[string]string{}}
	if n, ok := g.number("split.count"); ok && n > 1 {
		return nil, malformed(g.name, "this is one of %d parts of a model; join them with llama-gguf-split --merge", n)
	}
	l.arch, _ = g.text("general.architecture")
	family, known := ggufFamilies[l.arch]
	l.family = family
	for _, name := range g.Names() {
		to := name
		if known && name == ropeFactors {
			continue // goes into config.json
		}
		if renamed, ok := rename(name, 0, 1); ok && known {
			to = renamed
		}
		if other, twice := l.stored[to]; twice {
			return nil, malformed(g.name, "tensors %q and %q are the same %q", other, name, to)
		}
		l.stored[to] = name
		l.names = append(l.names, to)
	}
	return l, nil
}

// Names returns the tensors' names in the order of their data.
func (l *llamaGGUF) Names() []string { return l.names }

// Info returns what Tensor will give.
func (l *llamaGGUF) Info(name string) (Info, bool) {
	stored, ok := l.stored[name]
	if !ok {
		return Info{}, false
	}
	info, ok := l.GGUF.Info(stored)
	info.Name = name
	return info, ok
}

// Tensor returns a tensor with its rows in the order of a folder.
func (l *llamaGGUF) Tensor(name string) (*tensor.Tensor, error) {
	stored, ok := l.stored[name]
	if !ok {
		return nil, missing(l.name, "no tensor %q among its %d", name, len(l.names))
	}
	t, err := l.GGUF.Tensor(stored)
	if err != nil {
		return nil, err
	}
	if heads := l.rotaryHeads(name); heads > 0 {
		if t, err = permuteRotary(t, heads, false); err != nil {
			return nil, malformed(l.name, "tensor %q: %v", stored, err)
		}
	}
	return t, nil
}

// rotaryHeads returns the number of heads of a tensor whose rows stand interleaved,
// 0 for others.
func (l *llamaGGUF) rotaryHeads(name string) int {
	if !l.family.interleaved {
		return 0
	}
	heads, _ := l.number(l.arch + ".attention.head_count")
	kv, ok := l.number(l.arch + ".attention.head_count_kv")
	if !ok {
		kv = heads
	}
	return rotaryHeadsOf(name, heads, kv)
}

func rotaryHeadsOf(name string, heads, kv int) int {
	switch {
	case strings.Contains(name, ".self_attn.q_proj."):
		return heads
	case strings.Contains(name, ".self_attn.k_proj."):
		return kv
	}
	return 0
}

// permuteRotary returns a copy with the rows of each head reordered: row 2i+h of a
// GGUF file's is row h·d/2+i of a folder's, for h = 0, 1 and heads of d rows.
func permuteRotary(t *tensor.Tensor, heads int, interleave bool) (*tensor.Tensor, error) {
	if len(t.Shape()) == 0 || t.Dim(0)%(2*heads) != 0 {
		return nil, fmt.Errorf("%v does not divide into %d heads of an even number of rows", t.Shape(), heads)
	}
	out := tensor.NewOf(t.DType(), t.Shape()...)
	d := t.Dim(0) / heads
	if t.Len() == 0 {
		return out, nil
	}
	row := len(t.Bytes()) / t.Dim(0)
	for r := range t.Dim(0) {
		head, at := r/d*d, r%d
		to, from := head+at%2*(d/2)+at/2, r
		if interleave {
			to, from = from, to
		}
		copy(out.Bytes()[to*row:(to+1)*row], t.Bytes()[from*row:(from+1)*row])
	}
	return out, nil
}

// file makes one of the files that a folder has beside the weights.
func (l *llamaGGUF) file(name string) ([]byte, error) {
	var doc any
	var err error
	switch name {
	case configName:
		doc, err = l.config()
	case "tokenizer.json":
		doc, err = l.tokenizer()
	case "tokenizer_config.json":
		doc = l.tokenizerConfig()
	case "generation_config.json":
		doc = l.generationConfig()
	default:
		err = fs.ErrNotExist
	}
	if err == nil && doc == nil {
		err = fmt.Errorf("the metadata has nothing for it: %w", fs.ErrNotExist)
	}
	if err != nil {
		return nil, fmt.Errorf("checkpoint: %s: %s: %w", l.name, name, err)
	}
	return jsonText(doc)
}

// jsonText writes a document as Hugging Face's files are: indented, text unescaped.
func jsonText(doc any) ([]byte, error) {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(doc); err != nil {
		return nil, fmt.Errorf("checkpoint: %w", err)
	}
	return []byte(b.String()), nil
}

// text returns a string of the metadata.
func (g *GGUF) text(key string) (string, bool) {
	v, _ := g.Value(key)
	s, ok := v.(string)
	return s, ok
}

// number returns a count of the metadata: of any integer type, or a list in which all
// are the same.
func (g *GGUF) number(key string) (int, bool) {
	v, ok := g.Value(key)
	if !ok {
		return 0, false
	}
	const most = 1 << 31
	switch n := v.(type) {
	case uint8:
		return int(n), true
	case uint16:
		return int(n), true
	case uint32:
		return int(n), n < most
	case uint64:
		return int(n), n < most
	case int32:
		return int(n), n >= 0
	case int64:
		return int(n), n >= 0 && n < most
	case []int32:
		return same(n)
	case []uint32:
		return same(n)
	}
	return 0, false
}

func same[T int32 | uint32](list []T) (int, bool) {
	if len(list) == 0 || int64(list[0]) < 0 || int64(list[0]) >= 1<<31 {
		return 0, false
	}
	for _, v := range list {
		if v != list[0] {
			return 0, false
		}
	}
	return int(list[0]), true
}

// float returns a number of the metadata that may have a fraction.
func (g *GGUF) float(key string) (float32, bool) {
	v, _ := g.Value(key)
	switch n := v.(type) {
	case float32:
		return n, true
	case float64:
		return float32(n), true
	}
	return 0, false
}
