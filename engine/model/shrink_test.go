package model

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"tare/engine/grad"
	"tare/engine/nn"
	"tare/engine/tensor"
)

// silence multiplies what keep leaves out by zero, in the columns that the group's
// output passes through.
func silence(t *testing.T, all []Groups, keep []Keep) {
	t.Helper()
	zero := func(l *nn.Linear, marks []bool) {
		w, err := nn.Materialize(l.Weight)
		if err != nil {
			t.Fatal(err)
		}
		out, in := l.Weight.Dims()
		for g, stays := range marks {
			for c := g * in / len(marks); !stays && c < (g+1)*in/len(marks); c++ {
				for r := range out {
					w.F32()[r*in+c] = 0
				}
			}
		}
		l.Weight = nn.NewDense(l.Name+".weight", w)
	}
	for i, g := range all {
		zero(g.O, keep[i].Heads)
		zero(g.Down, keep[i].Channels)
	}
}

// uneven keeps another number of heads and channels in each block; even the same.
func uneven(all []Groups) []Keep {
	keep := even(all)
	keep[0].Heads[0], keep[0].Channels[1] = true, false
	return keep
}

func even(all []Groups) []Keep {
	keep := make([]Keep, len(all))
	for i, g := range all {
		for h := range g.KVHeads {
			keep[i].Heads = append(keep[i].Heads, h != i%2)
		}
		for c := range g.Channels {
			keep[i].Channels = append(keep[i].Channels, c%3 != i%2)
		}
	}
	return keep
}

func scores(m Network, g golden) []float32 {
	tp := grad.NewTape(nil)
	var out []float32
	tp.NoGrad(func() {
		in := g.inputs()
		switch m := m.(type) {
		case Causal:
			out = slices.Clone(m.Logits(tp, m.Hidden(tp, in.Tokens, in.Seqs, nil)).Data)
		case MaskedLM:
			out = slices.Clone(m.Logits(tp, m.Encode(tp, in)).Data)
		case Classifier:
			out = slices.Clone(m.Classify(tp, in).Data)
		}
	})
	tp.Reset()
	return out
}

func entriesOf(m Network) (n int) {
	for _, p := range m.Params() {
		n += p.Value.Len()
	}
	return n
}

// exported is a model's own export as a checkpoint.
func exported(t *testing.T, m Network) (config []byte, out *renamed) {
	t.Helper()
	config, err := m.Info().JSON()
	if err != nil {
		t.Fatal(err)
	}
	out = &renamed{tensors: map[string]*tensor.Tensor{}}
	for _, e := range m.Export(tensor.F32) {
		x, err := e.Read()
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(x.Shape(), e.Shape) {
			t.Errorf("%s is %v, its entry says %v", e.Name, x.Shape(), e.Shape)
		}
		out.add(e.Name, x)
	}
	return config, out
}

// reload opens a network of the same kind.
func reload(t *testing.T, m Network, config []byte, src Tensors) Network {
	t.Helper()
	var again Network
	var err error
	switch m.(type) {
	case Causal:
		again, err = LoadCausal(config, src, LoadOptions{})
	case MaskedLM:
		again, err = LoadMaskedLM(config, src, LoadOptions{})
	default:
		again, err = LoadClassifier(config, src, LoadOptions{})
	}
	if err != nil {
		t.Fatal(err)
	}
	return again
}

// A shrunk model gives the logits of the one whose heads and channels are multiplied
// by zero, has as many entries fewer as the groups cost, and opens again from what it
// exports; and may be shrunk again.
func TestShrunkEqualsSilenced(t *testing.T) {
	eachNetwork(t, func(t *testing.T, dir string, m Network, g golden) {
		s, ok := m.(Shrinker)
		if !ok {
			return
		}
		if !families[m.Info().ModelType].uneven {
			if _, err := s.Groups(); err == nil || !strings.Contains(err.Error(), "cannot be taken out of a "+m.Info().ModelType) {
				t.Errorf("groups of it: %v", err)
			}
			return
		}
		for round, choose := range []func([]Groups) []Keep{uneven, func(all []Groups) []Keep {
			keep := even(all)
			for i := range keep {
				if len(keep[i].Heads) == 1 { // no more can leave
					keep[i].Heads[0] = true
				}
			}
			return keep
		}} {
			all, err := s.Groups()
			if err != nil {
				t.Fatal(err)
			}
			keep, promised := choose(all), entriesOf(m)
			for i, k := range keep {
				promised -= (len(k.Heads)-count(k.Heads))*all[i].HeadCost() + (len(k.Channels)-count(k.Channels))*all[i].ChannelCost()
			}
			silence(t, all, keep)
			want := scores(m, g)
			if err := s.Shrink(keep); err != nil {
				t.Fatal(err)
			}
			if d := difference(t, scores(m, g), want); d > 1e-5 {
				t.Errorf("round %d: logits differ from the silenced model's by %.2g", round, d)
			}
			if n := entriesOf(m); n != promised {
				t.Errorf("round %d: %d entries are left, want %d", round, n, promised)
			}
			config, src := exported(t, m)
			again := reload(t, m, config, src)
			if d := difference(t, scores(again, g), want); d > 1e-5 {
				t.Errorf("round %d: logits differ by %.2g after opening what was exported", round, d)
			}
			m, s = again, again.(Shrinker)
		}
	})
}

// Layers of one size are written as numbers, which transformers reads, others as lists.
func TestSizesInConfig(t *testing.T) {
	for _, c := range []struct {
		choose              func([]Groups) []Keep
		heads, kv, channels string
	}{{even, "2", "1", "16"}, {uneven, "[4,2]", "[2,1]", "[15,16]"}} {
		m, err := NewLlama(tiny(), 1)
		if err != nil {
			t.Fatal(err)
		}
		all, err := m.Groups()
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Shrink(c.choose(all)); err != nil {
			t.Fatal(err)
		}
		text, err := m.Config.JSON()
		if err != nil {
			t.Fatal(err)
		}
		var doc map[string]json.RawMessage
		if err := json.Unmarshal(text, &doc); err != nil {
			t.Fatal(err)
		}
		for key, want := range map[string]string{headsKey: c.heads, kvHeadsKey: c.kv, channelsKey: c.channels, "head_dim": "4", "hidden_size": "16"} {
			if got := strings.Join(strings.Fields(string(doc[key])), ""); got != want {
				t.Errorf("%s is %s, want %s", key, got, want)
			}
		}
	}
}

func TestShrinkRefuses(t *testing.T) {
	m, err := NewLlama(tiny(), 1)
	if err != nil {
		t.Fatal(err)
	}
	all, _ := m.Groups()
	none := even(all)
	none[1].Heads = make([]bool, 2)
	short := even(all)
	short[0].Channels = short[0].Channels[1:]
	for want, keep := range map[string][]Keep{
		"1 blocks of 2": even(all)[:1], "layer 1: 0 groups of heads": none, "layer 0: 2 groups of heads and 23 channels": short,
	} {
		before := entriesOf(m)
		if err := m.Shrink(keep); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
		if entriesOf(m) != before {
			t.Error("the model has changed")
		}
	}
}

func TestConfigRefusesWrongSizes(t *testing.T) {
	const llama = `{"model_type": "llama", "vocab_size": 9, "hidden_size": 8, "num_hidden_layers": 2, "intermediate_size": `
	const bert = `{"model_type": "bert", "vocab_size": 9, "hidden_size": 8, "num_hidden_layers": 2, "intermediate_size": 8, "num_attention_heads": `
	for doc, want := range map[string]string{
		llama + `[4], "num_attention_heads": 2}`:                                                      "has 1 entries for 2 layers",
		llama + `[4, 0], "num_attention_heads": 2}`:                                                   "0 channels",
		llama + `4, "num_attention_heads": [2, 1], "num_key_value_heads": [1, 1]}`:                    "head_dim is missing",
		llama + `4, "head_dim": 4, "num_attention_heads": [2, 3], "num_key_value_heads": [2, 2]}`:     "3 heads, 2 for keys and values",
		llama + `4, "num_attention_heads": 2, "pruned_heads": {"0": [1]}}`:                            "pruned_heads (known of encoders)",
		bert + `2, "pruned_heads": {"0": [0, 1]}}`:                                                    "layer 0 has 0 heads",
		bert + `2, "pruned_heads": {"2": [0]}}`:                                                       `layer "2"`,
		bert + `2, "pruned_heads": {"1": [2]}}`:                                                       "heads below 2",
		bert + `[2, 1]}`:                                                                              "named by pruned_heads",
		strings.Replace(llama, "llama", "opt", 1) + `[4, 4], "ffn_dim": 4, "num_attention_heads": 2}`: "the layers of opt all have one",
	} {
		if _, err := ParseConfig([]byte(doc)); !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", doc, err, want)
		}
	}
}
