// Package model builds networks from a checkpoint's config.json and its tensors.
// A model is layers in the order that data flows, readable top to bottom; which
// Weight a layer holds is not its business. Reading and writing folders is the
// checkpoint package's; training is train's.
package model

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"sort"
	"strings"
)

// ErrConfig marks a config.json that is malformed or describes what this package
// does not build.
var ErrConfig = errors.New("model: bad config.json")

// Config is the part of a Hugging Face config.json that shapes a llama-like
// model. Raw keeps the whole document, to be written back beside new weights.
type Config struct {
	ModelType        string   `json:"model_type"`
	Architectures    []string `json:"architectures,omitempty"`
	VocabSize        int      `json:"vocab_size"`
	HiddenSize       int      `json:"hidden_size"`
	IntermediateSize int      `json:"intermediate_size"`
	Layers           int      `json:"num_hidden_layers"`
	Heads            int      `json:"num_attention_heads"`
	KVHeads          int      `json:"num_key_value_heads"`
	HeadDim          int      `json:"head_dim,omitempty"`
	MaxPositions     int      `json:"max_position_embeddings"`
	NormEps          float64  `json:"rms_norm_eps"`
	RopeTheta        float64  `json:"rope_theta"`
	TieEmbeddings    bool     `json:"tie_word_embeddings"`
	AttentionBias    bool     `json:"attention_bias"`
	MLPBias          bool     `json:"mlp_bias"`
	HiddenAct        string   `json:"hidden_act"`
	TorchDType       string   `json:"torch_dtype,omitempty"`
	BOS              *TokenID `json:"bos_token_id,omitempty"`
	EOS              *TokenID `json:"eos_token_id,omitempty"`

	RopeScaling      *RopeScaling `json:"rope_scaling,omitempty"`
	SlidingWindow    *int         `json:"sliding_window,omitempty"`
	UseSlidingWindow *bool        `json:"use_sliding_window,omitempty"`

	Raw map[string]json.RawMessage `json:"-"`
}

// RopeScaling stretches rotary positions: Type "linear" divides positions by
// Factor; "llama3" rescales low frequencies as Llama 3.1 does.
type RopeScaling struct {
	Type                 string  `json:"rope_type"`
	OldType              string  `json:"type,omitempty"`
	Factor               float64 `json:"factor"`
	LowFreqFactor        float64 `json:"low_freq_factor,omitempty"`
	HighFreqFactor       float64 `json:"high_freq_factor,omitempty"`
	OriginalMaxPositions int     `json:"original_max_position_embeddings,omitempty"`
	Theta                float64 `json:"rope_theta,omitempty"` // newer files keep it here
}

// TokenID is a token id that files write as a number or as a list of numbers.
type TokenID []int

// UnmarshalJSON accepts 2 and [2, 3].
func (t *TokenID) UnmarshalJSON(data []byte) error {
	var one int
	if json.Unmarshal(data, &one) == nil {
		*t = TokenID{one}
		return nil
	}
	return json.Unmarshal(data, (*[]int)(t))
}

// MarshalJSON writes a single id as a number.
func (t TokenID) MarshalJSON() ([]byte, error) {
	if len(t) == 1 {
		return json.Marshal(t[0])
	}
	return json.Marshal([]int(t))
}

// types lists the model types that build, with what their files leave unsaid.
var types = map[string]func(*Config){
	"llama":   func(*Config) {},
	"mistral": func(*Config) {},
	"smollm":  func(*Config) {},
	"smollm2": func(*Config) {},
	"qwen2":   func(c *Config) { c.AttentionBias = true }, // on q, k and v, not on o
}

// Types returns the model types that Load builds, sorted.
func Types() []string {
	names := make([]string, 0, len(types))
	for name := range types {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

// ParseConfig reads and checks a config.json.
func ParseConfig(data []byte) (*Config, error) {
	c := &Config{HiddenAct: "silu", NormEps: 1e-6, RopeTheta: 10000, MaxPositions: 2048}
	if err := json.Unmarshal(data, c); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrConfig, err)
	}
	if err := json.Unmarshal(data, &c.Raw); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrConfig, err)
	}
	complete, known := types[c.ModelType]
	if !known {
		return nil, fmt.Errorf("%w: model_type %q is not known (known: %s)", ErrConfig, c.ModelType, strings.Join(Types(), ", "))
	}
	complete(c)
	if c.KVHeads == 0 {
		c.KVHeads = c.Heads
	}
	if c.HeadDim == 0 && c.Heads > 0 {
		c.HeadDim = c.HiddenSize / c.Heads
	}
	var newer struct { // the newer places of rope_theta and rope_scaling, and of torch_dtype
		Rope  *RopeScaling `json:"rope_parameters"`
		DType string       `json:"dtype"`
	}
	if json.Unmarshal(data, &newer) == nil {
		if newer.Rope != nil {
			c.RopeScaling = newer.Rope
		}
		if newer.DType != "" {
			c.TorchDType = newer.DType
		}
	}
	if s := c.RopeScaling; s != nil {
		if s.Type == "" {
			s.Type = s.OldType
		}
		if s.Theta > 0 {
			c.RopeTheta = s.Theta
		}
	}
	return c, c.Check()
}

// Check reports every value that no model can be built from.
func (c *Config) Check() error {
	var wrong []string
	need := func(name string, v, limit int) {
		if v <= 0 || v > limit {
			wrong = append(wrong, fmt.Sprintf("%s = %d (want 1 to %d)", name, v, limit))
		}
	}
	need("vocab_size", c.VocabSize, 1<<24)
	need("hidden_size", c.HiddenSize, 1<<18)
	need("intermediate_size", c.IntermediateSize, 1<<20)
	need("num_hidden_layers", c.Layers, 1<<12)
	need("num_attention_heads", c.Heads, 1<<12)
	need("num_key_value_heads", c.KVHeads, 1<<12)
	need("head_dim", c.HeadDim, 1<<14)
	need("max_position_embeddings", c.MaxPositions, 1<<28)
	if c.KVHeads > 0 && c.Heads%c.KVHeads != 0 {
		wrong = append(wrong, fmt.Sprintf("num_attention_heads = %d is not a multiple of num_key_value_heads = %d", c.Heads, c.KVHeads))
	}
	if c.HeadDim%2 != 0 {
		wrong = append(wrong, fmt.Sprintf("head_dim = %d is odd", c.HeadDim))
	}
	if c.HiddenAct != "silu" && c.HiddenAct != "swish" {
		wrong = append(wrong, fmt.Sprintf("hidden_act = %q (known: silu)", c.HiddenAct))
	}
	for name, v := range map[string]float64{"rms_norm_eps": c.NormEps, "rope_theta": c.RopeTheta} {
		if !(v > 0) || math.IsInf(v, 0) {
			wrong = append(wrong, fmt.Sprintf("%s = %g (want a positive number)", name, v))
		}
	}
	if s := c.RopeScaling; s != nil {
		switch s.Type {
		case "", "default":
		case "linear", "llama3":
			if !(s.Factor >= 1) {
				wrong = append(wrong, fmt.Sprintf("rope_scaling factor = %g (want at least 1)", s.Factor))
			}
			if s.Type == "llama3" && !(s.LowFreqFactor > 0 && s.HighFreqFactor > s.LowFreqFactor && s.OriginalMaxPositions > 0) {
				wrong = append(wrong, "rope_scaling llama3 needs 0 < low_freq_factor < high_freq_factor and original_max_position_embeddings")
			}
		default:
			wrong = append(wrong, fmt.Sprintf("rope_scaling type %q (known: default, linear, llama3)", s.Type))
		}
	}
	if w := c.SlidingWindow; w != nil && (c.UseSlidingWindow == nil || *c.UseSlidingWindow) && *w < c.MaxPositions {
		// Within the window causal attention is exact, so the window bounds the positions.
		c.MaxPositions = *w
	}
	if wrong != nil {
		sort.Strings(wrong)
		return fmt.Errorf("%w: %s", ErrConfig, strings.Join(wrong, "; "))
	}
	return nil
}

// JSON returns the document to store beside the weights: the original's keys where
// there was one, with the fields this package knows brought up to date.
func (c *Config) JSON() ([]byte, error) {
	known, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	doc := map[string]json.RawMessage{}
	for k, v := range c.Raw {
		doc[k] = v
	}
	if c.Raw == nil {
		if err := json.Unmarshal(known, &doc); err != nil {
			return nil, err
		}
	} else if c.TorchDType != "" {
		key := "torch_dtype"
		if _, newer := doc["dtype"]; newer {
			key = "dtype"
			delete(doc, "torch_dtype")
		}
		if doc[key], err = json.Marshal(c.TorchDType); err != nil {
			return nil, err
		}
	}
	out, err := json.MarshalIndent(doc, "", "  ")
	return append(out, '\n'), err
}

// frequencies returns the rotary angle per position of each pair of columns.
func (c *Config) frequencies() []float64 {
	f := make([]float64, c.HeadDim/2)
	for i := range f {
		f[i] = math.Pow(c.RopeTheta, -2*float64(i)/float64(c.HeadDim))
	}
	s := c.RopeScaling
	if s == nil {
		return f
	}
	switch s.Type {
	case "linear":
		for i := range f {
			f[i] /= s.Factor
		}
	case "llama3":
		// Wavelengths longer than original/low are stretched by Factor, shorter than
		// original/high kept, and those between blended.
		for i, w := range f {
			turns := float64(s.OriginalMaxPositions) * w / (2 * math.Pi)
			blend := (turns - s.LowFreqFactor) / (s.HighFreqFactor - s.LowFreqFactor)
			blend = math.Min(1, math.Max(0, blend))
			f[i] = (1-blend)*w/s.Factor + blend*w
		}
	}
	return f
}
