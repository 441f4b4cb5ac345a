package model

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
)

// LayerSize is the part of a block's shape that may differ from layer to layer, once
// heads and channels have been removed.
type LayerSize struct {
	Heads    int `json:"heads"`    // of queries
	KVHeads  int `json:"kv_heads"` // of keys and values
	Channels int `json:"channels"` // of the MLP
}

// The keys of config.json that hold a number, or a list of one number a layer. With
// numbers, which is how layers of one size are written, transformers opens the model;
// it refuses lists, as a llama there has one size only. Tare opens both. The heads of
// encoders are written as transformers does: pruned_heads names those that have left,
// layer by layer, and num_attention_heads stays.
const (
	channelsKey = "intermediate_size"
	headsKey    = "num_attention_heads"
	kvHeadsKey  = "num_key_value_heads"
	prunedKey   = "pruned_heads"
)

// LayerSize returns the size of layer i.
func (c *Config) LayerSize(i int) LayerSize {
	if i < len(c.sizes) {
		return c.sizes[i]
	}
	return LayerSize{c.Heads, c.KVHeads, c.IntermediateSize}
}

// Uneven reports whether layers differ in size; the configuration's own numbers are the
// largest then.
func (c *Config) Uneven() bool {
	for i := range c.sizes {
		if c.sizes[i] != c.sizes[0] {
			return true
		}
	}
	return false
}

// takeLists returns the document with the largest number in the place of every list of
// sizes, and the lists.
func takeLists(data []byte, raw map[string]json.RawMessage) (single []byte, lists map[string][]int, err error) {
	lists = map[string][]int{}
	for _, key := range []string{channelsKey, headsKey, kvHeadsKey} {
		var list []int
		if json.Unmarshal(raw[key], &list) == nil && len(list) > 0 {
			lists[key] = list
		}
	}
	if len(lists) == 0 {
		return data, nil, nil
	}
	doc := maps.Clone(raw)
	for key, list := range lists {
		doc[key] = json.RawMessage(strconv.Itoa(slices.Max(list)))
	}
	single, err = json.Marshal(doc)
	return single, lists, err
}

// readSizes takes the lists of the file and its pruned heads.
func (c *Config) readSizes(lists map[string][]int, f family) {
	var pruned map[string][]int
	if c.read(prunedKey, &pruned); len(lists) == 0 && len(pruned) == 0 {
		return
	}
	bad := func(format string, args ...any) { c.badKeys = append(c.badKeys, fmt.Sprintf(format, args...)) }
	if !f.uneven {
		bad("layers that differ in size (the layers of %s all have one)", c.ModelType)
		return
	}
	if c.Layers < 1 || c.Layers > 1<<12 {
		return // Check says so
	}
	sizes := make([]LayerSize, c.Layers)
	for i := range sizes {
		sizes[i] = c.LayerSize(i)
	}
	for key, list := range lists {
		if len(list) != c.Layers {
			bad("%s has %d entries for %d layers", key, len(list), c.Layers)
			return
		}
		for i, n := range list {
			switch key {
			case channelsKey:
				sizes[i].Channels = n
			case headsKey:
				sizes[i].Heads = n
			default:
				sizes[i].KVHeads = n
			}
		}
	}
	if !c.has(kvHeadsKey) {
		for i := range sizes {
			sizes[i].KVHeads = sizes[i].Heads
		}
	}
	if f.llamaKeys {
		if len(pruned) > 0 {
			bad("%s (known of encoders)", prunedKey)
		}
		if (lists[headsKey] != nil || lists[kvHeadsKey] != nil) && !c.has("head_dim") {
			bad("head_dim is missing, which %s of each layer asks for", headsKey)
		}
	} else if lists[headsKey] != nil || lists[kvHeadsKey] != nil {
		bad("%s is a list (the heads that have left an encoder's layers are named by %s)", headsKey, prunedKey)
	}
	c.sizes = sizes
	c.readPruned(pruned)
}

// readPruned notes the heads that have left.
func (c *Config) readPruned(pruned map[string][]int) {
	c.pruned = map[int][]int{}
	for _, key := range slices.Sorted(maps.Keys(pruned)) {
		i, err := strconv.Atoi(key)
		heads := slices.Clone(pruned[key])
		slices.Sort(heads)
		heads = slices.Compact(heads)
		if err != nil || i < 0 || i >= c.Layers || len(heads) > 0 && (heads[0] < 0 || heads[len(heads)-1] >= c.Heads) {
			c.badKeys = append(c.badKeys, fmt.Sprintf("%s of layer %q is %v (want heads below %d in layers below %d)", prunedKey, key, pruned[key], c.Heads, c.Layers))
			return
		}
		c.pruned[i] = heads
		c.sizes[i].Heads = c.Heads - len(heads)
		c.sizes[i].KVHeads = c.sizes[i].Heads
	}
}

// wrongSizes says what is wrong with the sizes of single layers.
func (c *Config) wrongSizes() (wrong []string) {
	for i, s := range c.sizes {
		if s.Heads < 1 || s.KVHeads < 1 || s.Channels < 1 || s.Heads > 1<<12 || s.Channels > 1<<20 || s.Heads%max(s.KVHeads, 1) != 0 {
			wrong = append(wrong, fmt.Sprintf("layer %d has %d heads, %d for keys and values, %d channels (want 1 or more, the first a multiple of the second)", i, s.Heads, s.KVHeads, s.Channels))
		}
	}
	return wrong
}

// setSizes makes sizes those of the layers, and the largest the model's own.
func (c *Config) setSizes(sizes []LayerSize) {
	c.sizes = sizes
	c.IntermediateSize = greatest(sizes, func(s LayerSize) int { return s.Channels })
	if families[c.ModelType].llamaKeys {
		c.Heads = greatest(sizes, func(s LayerSize) int { return s.Heads })
		c.KVHeads = greatest(sizes, func(s LayerSize) int { return s.KVHeads })
	}
}

func greatest(sizes []LayerSize, of func(LayerSize) int) int {
	n := 0
	for _, s := range sizes {
		n = max(n, of(s))
	}
	return n
}

// writeSizes puts the sizes of the layers into a document, where they have been set.
func (c *Config) writeSizes(doc map[string]json.RawMessage) error {
	if c.sizes == nil {
		return nil
	}
	values := map[string]any{channelsKey: c.compact(func(s LayerSize) int { return s.Channels })}
	if families[c.ModelType].llamaKeys {
		values[headsKey] = c.compact(func(s LayerSize) int { return s.Heads })
		values[kvHeadsKey] = c.compact(func(s LayerSize) int { return s.KVHeads })
		values["head_dim"] = c.HeadDim
	} else if len(c.pruned) > 0 {
		values[prunedKey] = c.pruned
	}
	for key, v := range values {
		text, err := json.Marshal(v)
		if err != nil {
			return err
		}
		doc[key] = text
	}
	return nil
}

// compact returns the number that all layers have in common, or the list of theirs.
func (c *Config) compact(of func(LayerSize) int) any {
	list := make([]int, len(c.sizes))
	for i, s := range c.sizes {
		list[i] = of(s)
	}
	if slices.Min(list) == slices.Max(list) {
		return list[0]
	}
	return list
}
