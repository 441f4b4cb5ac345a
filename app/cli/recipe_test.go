package cli

import (
	"strings"
	"testing"
)

func TestRecipeValuesBecomeFlagText(t *testing.T) {
	keys, err := parseRecipe("r.yaml", []byte("lr: 0.01\nsteps: 300\ncheckpoint: true\ndata: [a.txt, b.txt]\noptions: {rank: 16, alpha: 32}\n"))
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{"lr": "0.01", "steps": "300", "checkpoint": "true", "data": "a.txt,b.txt", "options": "alpha=32;rank=16"} {
		if got, err := flagText(keys[key]); err != nil || got != want {
			t.Errorf("%s is %q (%v), want %q", key, got, err, want)
		}
	}
}

func TestBadRecipesAreRefused(t *testing.T) {
	for text, want := range map[string]string{
		"":                   "is empty",
		"lr: [":              "r.yaml",
		"- a\n- b\n":         "r.yaml",
		"steps: 1\nsteps: 2": "r.yaml",
	} {
		if _, err := parseRecipe("r.yaml", []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q gave %v, want an error with %q", text, err, want)
		}
	}
	if _, err := flagText(nil); err == nil {
		t.Error("a key without a value was accepted")
	}
}

// Whatever a recipe file holds, reading it ends in values or an error.
func FuzzRecipe(f *testing.F) {
	for _, seed := range []string{"lr: 0.01\n", "options: {rank: 16}\n", "data: [a, b]\n", "a: &x [*x]\n", "? {}\n", "\xff: 1"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		keys, err := parseRecipe("r.yaml", raw)
		if err != nil {
			return
		}
		for _, v := range keys {
			_, _ = flagText(v)
		}
	})
}
