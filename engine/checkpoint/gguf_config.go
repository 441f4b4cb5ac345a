package checkpoint

import (
	"encoding/json"
	"fmt"
	"math"
	"path/filepath"
)

// config makes config.json of the metadata. What this program does not build still
// gets a config.json that names its architecture.
func (l *llamaGGUF) config() (map[string]any, error) {
	if l.family.modelType == "" {
		return map[string]any{"model_type": l.arch}, nil
	}
	doc := map[string]any{
		"architectures": []string{l.family.class}, "model_type": l.family.modelType, "hidden_act": "silu", "torch_dtype": "float32",
	}
	need := func(key string) (int, error) {
		n, ok := l.number(l.arch + "." + key)
		if !ok || n == 0 {
			return 0, malformed(l.name, "the metadata has no %s.%s, or one that differs by layer, which is not read", l.arch, key)
		}
		return n, nil
	}
	for key, name := range map[string]string{
		"block_count": "num_hidden_layers", "context_length": "max_position_embeddings", "embedding_length": "hidden_size",
		"feed_forward_length": "intermediate_size", "attention.head_count": "num_attention_heads",
	} {
		n, err := need(key)
		if err != nil {
			return nil, err
		}
		doc[name] = n
	}
	if n, ok := l.number(l.arch + ".expert_count"); ok && n > 0 {
		return nil, malformed(l.name, "the model has %d experts a layer, which are not read", n)
	}
	heads, hidden := doc["num_attention_heads"].(int), doc["hidden_size"].(int)
	doc["num_key_value_heads"] = heads
	if _, ok := l.Value(l.arch + ".attention.head_count_kv"); ok {
		kv, err := need("attention.head_count_kv")
		if err != nil {
			return nil, err
		}
		doc["num_key_value_heads"] = kv
	}
	headDim := hidden / heads
	if n, ok := l.number(l.arch + ".attention.key_length"); ok {
		headDim = n
	}
	if n, ok := l.number(l.arch + ".rope.dimension_count"); ok && n != headDim {
		return nil, malformed(l.name, "%d of the %d columns of a head turn with the position, want all", n, headDim)
	}
	doc["head_dim"] = headDim
	embedding, ok := l.Info("model.embed_tokens.weight")
	if !ok || len(embedding.Shape) != 2 {
		return nil, malformed(l.name, "there is no tensor token_embd.weight [vocabulary, width]")
	}
	doc["vocab_size"] = embedding.Shape[0]
	doc["rms_norm_eps"] = float32(1e-6)
	if eps, ok := l.float(l.arch + ".attention.layer_norm_rms_epsilon"); ok {
		doc["rms_norm_eps"] = eps
	}
	theta := float32(10000)
	if t, ok := l.float(l.arch + ".rope.freq_base"); ok {
		theta = t
	}
	doc["rope_theta"] = theta
	_, hasHead := l.stored["lm_head.weight"]
	doc["tie_word_embeddings"] = !hasHead
	if l.family.modelType != "qwen2" { // which has biases without saying so
		_, doc["attention_bias"] = l.stored[folderLayer+"0.self_attn.q_proj.bias"]
	}
	_, doc["mlp_bias"] = l.stored[folderLayer+"0.mlp.up_proj.bias"]
	for key, name := range map[string]string{"bos": "bos_token_id", "eos": "eos_token_id", "padding": "pad_token_id"} {
		if id, ok := l.number("tokenizer.ggml." + key + "_token_id"); ok {
			doc[name] = id
		}
	}
	scaling, err := l.ropeScaling(headDim, float64(theta))
	if scaling != nil {
		doc["rope_scaling"] = scaling
	}
	return doc, err
}

// llama3Rope are the settings of all models that have rope_freqs.weight, which holds
// only what comes of them.
var llama3Rope = ropeSettings{Type: "llama3", Low: 1, High: 4, Original: 8192}

// ropeSettings are those of config.json's rope_scaling, and of the rope_parameters in
// which newer files have them.
type ropeSettings struct {
	Type     string  `json:"rope_type"`
	OldType  string  `json:"type,omitempty"`
	Factor   float64 `json:"factor"`
	Low      float64 `json:"low_freq_factor,omitempty"`
	High     float64 `json:"high_freq_factor,omitempty"`
	Original int     `json:"original_max_position_embeddings,omitempty"`
	Theta    float64 `json:"rope_theta,omitempty"`
}

// factors returns by what Llama 3 divides each frequency: 1 for wavelengths shorter than
// original/high, the factor for those longer than original/low, blended between.
func (s ropeSettings) factors(headDim int, theta float64) []float32 {
	f := make([]float32, headDim/2)
	for i := range f {
		turns := float64(s.Original) / (2 * math.Pi * math.Pow(theta, 2*float64(i)/float64(headDim)))
		smooth := min(1, max(0, (turns-s.Low)/(s.High-s.Low)))
		f[i] = float32(1 / ((1-smooth)/s.Factor + smooth))
	}
	return f
}

func (l *llamaGGUF) ropeScaling(headDim int, theta float64) (any, error) {
	kind, _ := l.text(l.arch + ".rope.scaling.type")
	factor, ok := l.float(l.arch + ".rope.scaling.factor")
	if !ok {
		factor, ok = l.float(l.arch + ".rope.scale_linear")
	}
	if ok && kind == "" {
		kind = "linear"
	}
	if _, there := l.index[ropeFactors]; !there {
		if kind == "" || kind == "none" {
			return nil, nil
		}
		return map[string]any{"rope_type": kind, "factor": factor}, nil
	}
	t, err := l.GGUF.Tensor(ropeFactors)
	if err != nil {
		return nil, err
	}
	stored, err := t.Float32s()
	if err != nil {
		return nil, err
	}
	s := llama3Rope
	for _, v := range stored {
		s.Factor = max(s.Factor, float64(v))
	}
	agree := len(stored) == headDim/2 && kind != "yarn"
	if agree {
		for i, want := range s.factors(headDim, theta) {
			agree = agree && math.Abs(float64(stored[i]-want)) <= 1e-3*float64(want)
		}
	}
	if !agree {
		return nil, malformed(l.name, "%s stretches positions in another way than Llama 3, which is not read", ropeFactors)
	}
	return s, nil
}

// generationConfig makes generation_config.json.
func (l *llamaGGUF) generationConfig() any {
	doc := map[string]any{}
	for key, name := range map[string]string{"bos": "bos_token_id", "eos": "eos_token_id", "padding": "pad_token_id"} {
		if id, ok := l.number("tokenizer.ggml." + key + "_token_id"); ok {
			doc[name] = id
		}
	}
	if len(doc) == 0 {
		return nil
	}
	return doc
}

// hfConfig is what a GGUF file takes from config.json.
type hfConfig struct {
	ModelType     string          `json:"model_type"`
	Hidden        int             `json:"hidden_size"`
	Intermediate  int             `json:"intermediate_size"`
	Layers        int             `json:"num_hidden_layers"`
	Heads         int             `json:"num_attention_heads"`
	KVHeads       int             `json:"num_key_value_heads"`
	HeadDim       int             `json:"head_dim"`
	Vocab         int             `json:"vocab_size"`
	Positions     int             `json:"max_position_embeddings"`
	Eps           *float64        `json:"rms_norm_eps"`
	Theta         float64         `json:"rope_theta"`
	Tied          bool            `json:"tie_word_embeddings"`
	Act           string          `json:"hidden_act"`
	Window        *int            `json:"sliding_window"`
	UseWindow     *bool           `json:"use_sliding_window"`
	PartialRotary *float64        `json:"partial_rotary_factor"`
	Scaling       *ropeSettings   `json:"rope_scaling"`
	Parameters    *ropeSettings   `json:"rope_parameters"`
	Quantization  json.RawMessage `json:"quantization_config"`
	Name          string          `json:"_name_or_path"`
	BOS           json.RawMessage `json:"bos_token_id"`
	EOS           json.RawMessage `json:"eos_token_id"`
	PAD           json.RawMessage `json:"pad_token_id"`

	arch string
}

// folderFamilies maps model types to the architectures that stand for them in GGUF.
var folderFamilies = map[string]string{
	"llama": "llama", "mistral": "llama", "smollm": "llama", "smollm2": "llama", "qwen2": "qwen2", "qwen3": "qwen3",
}

const widestHead = 1 << 16

// parseHFConfig reads config.json and refuses what a GGUF file of a llama could not say.
func parseHFConfig(src *Folder) (*hfConfig, error) {
	if src.Config == nil {
		return nil, missing(src.Dir, "there is no config.json, which says what the tensors are")
	}
	c := &hfConfig{Positions: 2048, Theta: 10000, Act: "silu"}
	if err := json.Unmarshal(src.Config, c); err != nil {
		return nil, malformed(configName, "%v", err)
	}
	var known bool
	if c.arch, known = folderFamilies[c.ModelType]; !known {
		return nil, fmt.Errorf("checkpoint: a %q has no GGUF form here (known: %v)", c.ModelType, sortedKeys(folderFamilies))
	}
	for _, s := range []*ropeSettings{c.Parameters, c.Scaling} {
		if s == nil {
			continue
		}
		if s.Type == "" {
			s.Type = s.OldType
		}
		if s.Theta > 0 {
			c.Theta = s.Theta
		}
		c.Scaling = s
	}
	if c.Scaling != nil && (c.Scaling.Type == "default" || c.Scaling.Type == "") {
		c.Scaling = nil
	}
	if c.KVHeads == 0 {
		c.KVHeads = c.Heads
	}
	switch {
	case len(c.Quantization) > 0 && string(c.Quantization) != "null":
		return nil, fmt.Errorf("checkpoint: %s is quantized already (%s); start from the original", src.Dir, c.Quantization)
	case c.Layers <= 0 || c.Hidden <= 0 || c.Heads <= 0 || c.KVHeads <= 0 || c.Intermediate <= 0:
		return nil, malformed(configName, "hidden_size, intermediate_size, num_hidden_layers and num_attention_heads must all be given")
	case c.Act != "silu":
		return nil, fmt.Errorf("checkpoint: hidden_act %q: a GGUF file of a %s always has silu", c.Act, c.arch)
	case c.PartialRotary != nil && *c.PartialRotary != 1:
		return nil, fmt.Errorf("checkpoint: partial_rotary_factor %v: a GGUF file of a %s always turns whole heads", *c.PartialRotary, c.arch)
	case c.Scaling != nil && c.Scaling.Type != "linear" && c.Scaling.Type != "llama3":
		return nil, fmt.Errorf("checkpoint: rope scaling %q is not written to GGUF (known: linear, llama3)", c.Scaling.Type)
	}
	if c.HeadDim == 0 {
		c.HeadDim = c.Hidden / c.Heads
	}
	if c.HeadDim < 0 || c.HeadDim > widestHead {
		return nil, malformed(configName, "head_dim is %d, want 1 to %d", c.HeadDim, widestHead)
	}
	// The llama of llama.cpp sees everything before a token; up to the window's length
	// that is the same.
	if c.Window != nil && *c.Window > 0 && (c.UseWindow == nil || *c.UseWindow) {
		c.Positions = min(c.Positions, *c.Window)
	}
	return c, nil
}

// fields returns the metadata about the model's shape.
func (c *hfConfig) fields(src *Folder, kind GGMLType) []GGUFField {
	name := c.Name
	if name == "" {
		name = src.Dir
	}
	eps := 1e-6
	if c.Eps != nil {
		eps = *c.Eps
	}
	fields := []GGUFField{
		{"general.architecture", c.arch},
		{"general.type", "model"},
		{"general.name", filepath.Base(name)},
		{"general.file_type", ggmlKinds[kind].file},
		{"general.quantization_version", uint32(2)},
	}
	add := func(key string, value any) { fields = append(fields, GGUFField{c.arch + "." + key, value}) }
	add("block_count", uint32(c.Layers))
	add("context_length", uint32(c.Positions))
	add("embedding_length", uint32(c.Hidden))
	add("feed_forward_length", uint32(c.Intermediate))
	add("attention.head_count", uint32(c.Heads))
	add("attention.head_count_kv", uint32(c.KVHeads))
	add("attention.key_length", uint32(c.HeadDim))
	add("attention.value_length", uint32(c.HeadDim))
	add("attention.layer_norm_rms_epsilon", float32(eps))
	add("rope.freq_base", float32(c.Theta))
	add("rope.dimension_count", uint32(c.HeadDim))
	if c.Scaling != nil && c.Scaling.Type == "linear" {
		add("rope.scaling.type", "linear")
		add("rope.scaling.factor", float32(c.Scaling.Factor))
	}
	return fields
}
