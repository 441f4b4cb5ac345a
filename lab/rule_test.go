package lab

import (
	"strings"
	"testing"
)

// measured makes one measurement a value.
func measured(v ...float64) []Measurement {
	out := make([]Measurement, len(v))
	for i, x := range v {
		out[i].Value = x
	}
	return out
}

func TestStandardRule(t *testing.T) {
	// {0, 2} has mean 1 and standard error 1; against a baseline without
	// spread the standard error of the difference is 1 as well.
	for _, c := range []struct {
		name     string
		better   Direction
		method   []float64
		baseline []float64
		want     Verdict
		level    Verdict // of NotWorse
	}{
		{"lower is better and it is", Lower, []float64{0, 2}, []float64{2.5, 2.5}, Supported, Supported},
		{"better by exactly one error", Lower, []float64{0, 2}, []float64{2, 2}, Mixed, Supported},
		{"worse by exactly one error", Lower, []float64{0, 2}, []float64{0, 0}, Mixed, Supported},
		{"worse by more", Lower, []float64{0, 2}, []float64{-0.5, -0.5}, NotSupported, NotSupported},
		{"higher is better and it is not", Higher, []float64{0, 2}, []float64{2.5, 2.5}, NotSupported, NotSupported},
		{"higher is better and it is", Higher, []float64{0, 2}, []float64{-0.5, -0.5}, Supported, Supported},
		{"no spread, a hair better", Higher, []float64{3, 3}, []float64{2.999, 2.999}, Supported, Supported},
		{"no spread, equal", Higher, []float64{3, 3}, []float64{3, 3}, Mixed, Supported},
		{"one seed", Higher, []float64{9}, []float64{1}, Mixed, Mixed},
	} {
		r := results{figure: Figure{"f", "", c.better}, byArm: map[string][]Measurement{
			"m": measured(c.method...), "b": measured(c.baseline...)}}
		if got, f := Beats("m", "b").judge(r); got != c.want || len(f) != 1 || f[0].Verdict != got {
			t.Errorf("%s: verdict %q with findings %+v, want %q", c.name, got, f, c.want)
		}
		if got, _ := NotWorse("m", "b").judge(r); got != c.level {
			t.Errorf("%s: not worse: verdict %q, want %q", c.name, got, c.level)
		}
	}
}

func TestRuleOverSeveralFigures(t *testing.T) {
	fill := func(seconds float64, activations int64, extra float64) []Measurement {
		m := Measurement{Seconds: seconds, Peak: map[string]int64{Weights: 10, Activations: activations},
			Extra: map[string]float64{"rank": extra}}
		return []Measurement{m, m}
	}
	r := results{figure: Figure{"loss", "", Lower}, byArm: map[string][]Measurement{
		"m": fill(1, 5, 8), "b": fill(2, 7, 4)}}
	rank := Figure{"rank", "", Higher}
	faster := BeatsIn(OfSeconds(), "m", "b")
	slower := BeatsIn(OfSeconds(), "b", "m")
	level := Beats("m", "b") // values are all zero
	for _, c := range []struct {
		name string
		rule Rule
		want Verdict
	}{
		{"time and memory", All(faster, BeatsIn(OfPeak(), "m", "b"), BeatsIn(OfPeak(Activations), "m", "b")), Supported},
		{"a further figure", BeatsIn(OfExtra(rank), "m", "b"), Supported},
		{"one half only", All(faster, slower), Mixed},
		{"no half", All(slower, BeatsIn(OfPeak(), "b", "m")), NotSupported},
		{"one open, one refuted", All(level, slower), NotSupported},
		{"one open, one held", All(level, faster), Mixed},
		{"held at comparable figure", All(faster, NotWorse("m", "b")), Supported},
		{"equal kinds", BeatsIn(OfPeak(Weights), "m", "b"), Mixed},
		{"a figure nobody measured", BeatsIn(OfExtra(Figure{"x", "", Lower}), "m", "b"), Mixed},
	} {
		if got, _ := c.rule.judge(r); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestRuleInWords(t *testing.T) {
	text := All(Beats("bone", "pissa"), BeatsIn(OfPeak(Activations, Optimizer), "bone", "lora")).describe(Figure{Name: "held-out loss"})
	for _, want := range []string{"bone is better than pissa in mean held-out loss", "(2)",
		"peak memory for activations and optimizer", "one standard error of the difference"} {
		if !strings.Contains(text, want) {
			t.Errorf("rule %q does not say %q", text, want)
		}
	}
}
