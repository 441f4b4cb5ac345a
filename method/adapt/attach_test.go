package adapt

import (
	"errors"
	"strings"
	"testing"

	"tare/engine/nn"
)

func TestImpossibleTargetsAndRanks(t *testing.T) {
	for name, c := range map[string]struct {
		o       Options
		targets []string
		says    string
	}{
		"no such target":  {NewLoRA(), []string{"q_proj", "c_attn"}, `"c_attn" matches no layer (the model has: down_proj`},
		"part of a name":  {NewLoRA(), []string{"proj"}, `"proj"`},
		"broken pattern":  {NewLoRA(), []string{"q_proj("}, "q_proj("},
		"lora too large":  {&LoRA{Rank: 9, Alpha: 1}, []string{"v_proj"}, "rank 9 is larger than layer model.layers.0.self_attn.v_proj [8, 16]"},
		"bone too large":  {&Bone{Rank: 17}, []string{"v_proj"}, "rank 17"},
		"paca too large":  {&PaCA{Rank: 17, Choice: "random"}, []string{"down_proj", "v_proj"}, "rank 17"},
		"bat not a part":  {&Bat{Rank: 3}, []string{"v_proj"}, "does not divide"},
		"dora too large":  {&DoRA{Rank: 9, Alpha: 1}, []string{"v_proj"}, "dora: rank 9"},
		"pissa too large": {&PiSSA{Rank: 9}, []string{"q_proj", "v_proj"}, "pissa: rank 9"},
		"pissa negative":  {&PiSSA{Rank: 1, Alpha: -1}, []string{"v_proj"}, "alpha -1"},
		"lora of nothing": {&LoRA{Rank: 0}, []string{"v_proj"}, "rank 0"},
		"bad dropout":     {&LoRA{Rank: 1, Dropout: 1}, []string{"v_proj"}, "dropout 1"},
		"lift filter":     {&LIFT{Density: 0.1, FilterRank: 9}, []string{"v_proj"}, "lift: filter: rank 9"},
		"lift of nothing": {&LIFT{}, []string{"v_proj"}, "density 0"},
		"sparse choice":   {&Sparse{Rank: 1, Choice: "best"}, []string{"v_proj"}, `"best"`},
		"s2ft of q":       {NewS2FT(), []string{"v_proj", "q_proj"}, "q_proj has no heads or channels"},
		"bad choice":      {&PaCA{Rank: 1, Choice: "best"}, []string{"v_proj"}, `"best"`},
	} {
		t.Run(name, func(t *testing.T) {
			m := newTiny(t)
			for _, p := range m.Params() {
				p.Part.Kind = 1
			}
			_, err := Attach(m, Method{Name: "x"}, c.o, c.targets, 1)
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %v, want one that says %s", err, c.says)
			}
			if strings.Contains(name, "target") && !errors.Is(err, ErrNoTarget) {
				t.Errorf("not an ErrNoTarget: %v", err)
			}
			for _, p := range m.Params() {
				if p.Part.Kind != 1 || p.Part.Index != nil {
					t.Errorf("%s is left with part %v", p.Name, p.Part)
				}
			}
			for _, l := range m.Linears() {
				if _, ok := l.Weight.(nn.Dense); !ok {
					t.Errorf("%s is left as %T", l.Name, l.Weight)
				}
			}
		})
	}
}

func TestSelect(t *testing.T) {
	m := newTiny(t)
	for _, c := range []struct {
		targets []string
		want    int
	}{
		{nil, 14}, {[]string{AllLinear}, 14}, {[]string{"q_proj"}, 2}, {[]string{"self_attn.q_proj"}, 2}, {[]string{"q_proj", "mlp.up_proj"}, 4},
		{[]string{"model.layers.1.mlp.up_proj"}, 1}, {[]string{`.*\.1\..*_proj`}, 7}, {[]string{`model\.layers\.[01]\.mlp\.(up|gate)_proj`}, 4},
	} {
		if got, err := Select(m.Linears(), c.targets); err != nil || len(got) != c.want {
			t.Errorf("%v: %d layers, %v; want %d", c.targets, len(got), err, c.want)
		}
	}
}
