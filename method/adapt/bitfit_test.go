package adapt

import (
	"strings"
	"testing"

	"tare/engine/model"
	"tare/engine/train"
)

func TestBitFitNeedsBiases(t *testing.T) {
	m := newTiny(t)
	if _, err := Attach(m, named(t, "bitfit"), NewBitFit(), nil, 1); err == nil || !strings.Contains(err.Error(), "no biases") || !strings.Contains(err.Error(), "norms=true") {
		t.Errorf("over a llama: %v", err)
	}
}

// A GPT-2 of width d, MLP width 4d and two layers has biases of 3d, d, 4d and d in each
// layer, and five norms with a bias and a weight of d each.
func TestBitFitCounts(t *testing.T) {
	const d = 16
	c, err := model.ParseConfig([]byte(`{"model_type": "gpt2", "vocab_size": 37, "n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 32}`))
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		o       *BitFit
		targets []string
		want    int64
	}{
		{&BitFit{}, nil, 2*9*d + 5*d},
		{&BitFit{Norms: true}, nil, 2*9*d + 2*5*d},
		{&BitFit{}, []string{"c_attn"}, 2*3*d + 5*d},
	} {
		m, err := model.New(c, 1)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Attach(m, named(t, "bitfit"), x.o, x.targets, 1); err != nil {
			t.Fatal(err)
		}
		if got := train.Trainable(m.Params()); got != x.want {
			t.Errorf("%+v on %v: %d entries train, want %d", *x.o, x.targets, got, x.want)
		}
	}
}
