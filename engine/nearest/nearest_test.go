package nearest

import "testing"

func TestOf(t *testing.T) {
	known := []string{"learning-rate", "rank", "alpha", "seed"}
	for word, want := range map[string]string{"learning_rate": "learning-rate", "rnak": "rank", "alhpa": "alpha", "seeds": "seed",
		"learn": "learning-rate", "temperature": "", "": ""} {
		if got := Of(word, known); got != want {
			t.Errorf("Of(%q) = %q, want %q", word, got, want)
		}
	}
	// Distances known from the definition.
	for _, c := range []struct {
		a, b string
		d    int
	}{{"", "", 0}, {"abc", "", 3}, {"kitten", "sitting", 3}, {"ab", "ba", 1}, {"ca", "abc", 3}} {
		if got := edits([]rune(c.a), []rune(c.b)); got != c.d {
			t.Errorf("edits(%q, %q) = %d, want %d", c.a, c.b, got, c.d)
		}
	}
}
