// Package model builds networks from a checkpoint's config.json and its tensors.
// A model is layers in the order that data flows, readable top to bottom; which
// Weight a layer holds is not its business. Reading and writing folders is the
// checkpoint package's; training is train's.
package model

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"sort"
	"strings"

	"tare/engine/grad"
)

// ErrConfig marks a config.json that is malformed or describes what this package
// does not build.
var ErrConfig = errors.New("model: bad config.json")

// Config is what a Hugging Face config.json says of a model's shape, under the names
// that llama's file has; the completions of other families translate theirs. Raw keeps
// the whole document, to be written back beside new weights.
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
	MaxWindowLayers  int          `json:"max_window_layers,omitempty"` // layers before it see everything
	LayerTypes       []string     `json:"layer_types,omitempty"`       // full_attention or sliding_attention, by layer
	PartialRotary    float64      `json:"partial_rotary_factor,omitempty"`

	// Labels is how many classes a classifier tells apart.
	Labels int `json:"-"`
	// Image is the shape of what an image model sees; nil for text.
	Image *ImageShape `json:"-"`

	Raw map[string]json.RawMessage `json:"-"`

	learned        bool          // positions are learned, not rotated, and the heads divide the width
	positionOffset int           // rows of the position table before position 0
	localTheta     float64       // rope_theta of the sliding layers, where they have their own
	scoreScale     float64       // of attention scores; 0 means 1/√head_dim
	sizes          []LayerSize   // of layers that differ; nil where all are alike
	pruned         map[int][]int // heads that have left a layer, under their first numbers
	badKeys        []string
}

// ImageShape is the square images that a model takes, cut into square patches.
type ImageShape struct{ Size, Patch, Channels int }

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

// ParseConfig reads and checks a config.json.
func ParseConfig(data []byte) (*Config, error) {
	c := &Config{HiddenAct: "silu", NormEps: 1e-6, RopeTheta: 10000, MaxPositions: 2048}
	if err := json.Unmarshal(data, &c.Raw); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrConfig, err)
	}
	single, lists, err := takeLists(data, c.Raw)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrConfig, err)
	}
	if err := json.Unmarshal(single, c); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrConfig, err)
	}
	f, known := families[c.ModelType]
	if !known {
		return nil, fmt.Errorf("%w: model_type %q is not known (known: %s)", ErrConfig, c.ModelType, strings.Join(Types(), ", "))
	}
	f.complete(c)
	if c.KVHeads == 0 {
		c.KVHeads = c.Heads
	}
	if c.HeadDim == 0 && c.Heads > 0 {
		c.HeadDim = c.HiddenSize / c.Heads
	}
	c.read("dtype", &c.TorchDType) // the newer name of torch_dtype
	c.readRope()
	c.readSizes(lists, f)
	return c, c.Check()
}

// has reports whether the file gives key a value.
func (c *Config) has(key string) bool {
	v, ok := c.Raw[key]
	return ok && string(v) != "null"
}

// read sets *dst to the file's value of key, if there is one.
func (c *Config) read(key string, dst any) {
	if c.has(key) && json.Unmarshal(c.Raw[key], dst) != nil {
		c.badKeys = append(c.badKeys, fmt.Sprintf("%s = %s", key, c.Raw[key]))
	}
}

// readLabels sets how many classes the file names; transformers leaves two unsaid.
func (c *Config) readLabels() {
	c.Labels = 2
	c.read("num_labels", &c.Labels)
	var names map[string]string
	if c.read("id2label", &names); len(names) > 0 {
		c.Labels = len(names)
	}
}

// is reports whether the file names an architecture that ends so.
func (c *Config) is(architecture string) bool {
	return len(c.Architectures) > 0 && strings.HasSuffix(c.Architectures[0], architecture)
}

// window returns how many positions layer i's rows see, 0 for all before them.
func (c *Config) window(i int) int {
	switch {
	case c.SlidingWindow == nil, c.UseSlidingWindow != nil && !*c.UseSlidingWindow:
		return 0
	case i < len(c.LayerTypes):
		if c.LayerTypes[i] != "sliding_attention" {
			return 0
		}
	case i < c.MaxWindowLayers:
		return 0
	}
	return *c.SlidingWindow
}

// heads returns the shape of layer i's attention.
func (c *Config) heads(i int) grad.Heads {
	scale := c.scoreScale
	if scale == 0 {
		scale = 1 / math.Sqrt(float64(c.HeadDim))
	}
	size := c.LayerSize(i)
	return grad.Heads{Q: size.Heads, KV: size.KVHeads, Scale: float32(scale), Window: c.window(i)}
}

// rotaryDim returns how many columns of each head are rotated.
func (c *Config) rotaryDim() int {
	if c.PartialRotary == 0 {
		return c.HeadDim
	}
	return int(float64(c.HeadDim) * c.PartialRotary)
}

// Check reports every value that no model can be built from.
func (c *Config) Check() error {
	wrong := append([]string(nil), c.badKeys...)
	need := func(name string, v, limit int) {
		if v <= 0 || v > limit {
			wrong = append(wrong, fmt.Sprintf("%s = %d (want 1 to %d)", name, v, limit))
		}
	}
	if c.Image == nil {
		need("vocab_size", c.VocabSize, 1<<24)
	}
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
	if c.learned {
		if c.Heads > 0 && c.HiddenSize%c.Heads != 0 {
			wrong = append(wrong, fmt.Sprintf("hidden_size = %d is not a multiple of num_attention_heads = %d", c.HiddenSize, c.Heads))
		}
	} else if d := c.rotaryDim(); d%2 != 0 || d > c.HeadDim || d < 0 {
		wrong = append(wrong, fmt.Sprintf("%d of head_dim = %d columns cannot be rotated in pairs", d, c.HeadDim))
	}
	if activations[c.HiddenAct] == nil {
		wrong = append(wrong, fmt.Sprintf("hidden_act = %q (known: %s)", c.HiddenAct, strings.Join(slices.Sorted(maps.Keys(activations)), ", ")))
	}
	wrong = append(wrong, c.wrongSizes()...)
	if len(c.LayerTypes) > 0 && len(c.LayerTypes) != c.Layers {
		wrong = append(wrong, fmt.Sprintf("layer_types has %d entries for %d layers", len(c.LayerTypes), c.Layers))
	}
	if w := c.SlidingWindow; w != nil && *w < 1 {
		wrong = append(wrong, fmt.Sprintf("sliding_window = %d (want 1 or more)", *w))
	}
	if im := c.Image; im != nil {
		need("image_size", im.Size, 1<<14)
		need("patch_size", im.Patch, max(1, im.Size))
		need("num_channels", im.Channels, 1<<10)
	}
	for name, v := range map[string]float64{"rms_norm_eps": c.NormEps, "rope_theta": c.RopeTheta} {
		if !(v > 0) || math.IsInf(v, 0) {
			wrong = append(wrong, fmt.Sprintf("%s = %g (want a positive number)", name, v))
		}
	}
	wrong = append(wrong, c.RopeScaling.wrong()...)
	if len(wrong) > 0 {
		sort.Strings(wrong)
		return fmt.Errorf("%w: %s", ErrConfig, strings.Join(wrong, "; "))
	}
	return nil
}

// JSON returns the document to store beside the weights: the original's keys where
// there was one, with the fields this package knows brought up to date.
func (c *Config) JSON() ([]byte, error) {
	if c.Raw == nil && !families[c.ModelType].llamaKeys {
		return nil, fmt.Errorf("model: a %q config.json has keys of its own: start from a document of that type with ParseConfig", c.ModelType)
	}
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
	if err := c.writeSizes(doc); err != nil {
		return nil, err
	}
	out, err := json.MarshalIndent(doc, "", "  ")
	return append(out, '\n'), err
}
