package adapt

import "testing"

// What PEFT's get_pattern_key does: re.match(rf"(.*\.)?({key})$", name).
func TestPatternsFitNamesAsInPEFT(t *testing.T) {
	const layer = "model.layers.1.self_attn.q_proj"
	for key, fits := range map[string]bool{
		layer:                                 true,
		"q_proj":                              true,
		"self_attn.q_proj":                    true,
		"layers.1.self_attn.q_proj":           true,
		"proj":                                false,
		"1.self_attn":                         false,
		"layers.11.self_attn.q_proj":          false,
		`layers\.[01]\.self_attn\.(q|v)_proj`: true,
		`model\.layers\.\d+\..*`:              true,
		`.*k_proj`:                            false,
		`k_proj|q_proj`:                       true,
		`^q_proj`:                             false,
	} {
		got, err := patternFor(map[string]int{key: 5}, layer, 8)
		if err != nil || (got == 5) != fits {
			t.Errorf("%s: rank %d, error %v; fits should be %v", key, got, err, fits)
		}
	}
	if got, err := patternFor(map[string]int{"q_proj": 3, ".*attn.*": 3}, layer, 8); got != 3 || err != nil {
		t.Errorf("two keys that agree: %d, %v", got, err)
	}
	if _, err := patternFor(map[string]int{"q_proj": 3, ".*attn.*": 4}, layer, 8); err == nil {
		t.Error("two keys that disagree are taken")
	}
}

func TestLayersHaveTheirOwnRankAndScale(t *testing.T) {
	m := newTiny(t)
	o := &LoRA{Rank: 4, Alpha: 8, RankPattern: map[string]int{"layers.1.self_attn.v_proj": 2, "down_proj": 6}, AlphaPattern: map[string]float64{"down_proj": 3}}
	a, err := Attach(m, named(t, "lora"), o, testTargets, 1)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []struct {
		rank  int
		scale float32
	}{{4, 2}, {4, 2}, {6, 0.5}, {4, 2}, {2, 4}, {6, 0.5}} {
		w := a.Holds[i].(*loraWeight)
		if w.a.Value.Dim(0) != want.rank || w.b.Value.Dim(1) != want.rank || w.scale != want.scale {
			t.Errorf("%s: A %v, B %v, scale %g; want rank %d, scale %g", a.Layers[i].Name, w.a.Value.Shape(), w.b.Value.Shape(), w.scale, want.rank, want.scale)
		}
	}
	stir(a)
	want := logits(m)
	dir := t.TempDir() + "/adapter"
	if err := a.Save(dir, "base"); err != nil {
		t.Fatal(err)
	}
	fresh := newTiny(t)
	if _, err := Load(dir, fresh); err != nil {
		t.Fatal(err)
	}
	if d := distance(logits(fresh), want); d != 0 {
		t.Errorf("logits differ by %g after loading", d)
	}
}
