package cli

import (
	"slices"
	"testing"

	"tare/engine/model"
)

// Layers that differ are told one by one, and the largest as the model's own.
func TestDescribeLayersThatDiffer(t *testing.T) {
	c := describe([]byte(`{"model_type": "llama", "vocab_size": 9, "hidden_size": 8, "num_hidden_layers": 2, "head_dim": 4,
		"intermediate_size": [6, 4], "num_attention_heads": [2, 4], "num_key_value_heads": [1, 2]}`))
	want := []model.LayerSize{{Heads: 2, KVHeads: 1, Channels: 6}, {Heads: 4, KVHeads: 2, Channels: 4}}
	if c.Problem != "" || !slices.Equal(c.Sizes, want) || c.Heads != 4 || c.KVHeads != 2 || c.Intermediate != 6 || c.Hidden != 8 {
		t.Errorf("described as %+v", c)
	}
}
