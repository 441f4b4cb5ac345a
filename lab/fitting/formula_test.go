package fitting

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestFormulas(t *testing.T) {
	all := []string{"y", "a", "b", "c", "odd name", "x-1"}
	for _, c := range []struct{ text, response, want string }{
		{"", "y", "y: a b c odd name x-1"},
		{"y ~ a + b", "", "y: a b"},
		{"y~a,b", "y", "y: a b"},
		{". - c - `odd name`", "y", "y: a b x-1"},
		{"- c", "y", "y: a b odd name x-1"},
		{"y ~ . + log(a) - `x-1`", "", "y: a b c odd name log(a)"},
		{"y ~ a*b", "", "y: a b a:b"},
		{"y ~ a:log(b):c", "", "y: a:log(b):c"},
		{"y ~ `odd name` + sqrt(`x-1`)", "", "y: odd name sqrt(x-1)"},
		{"y ~ a + a", "", "y: a"},
		{"a + b", "", ": a b"},
	} {
		response, terms, err := ParseFormula(c.text, c.response, all)
		var words []string
		for _, term := range terms {
			words = append(words, term.String())
		}
		if got := fmt.Sprintf("%s: %s", response, strings.Join(words, " ")); err != nil || got != c.want {
			t.Errorf("%q: %q, %v, want %q", c.text, got, err, c.want)
		}
	}
	for _, text := range []string{"y ~ a +", "y ~ - .", "y ~ exp(a)", "y ~ log(log(a))", "y ~ 1 + a", "y ~ a - b", "y ~ (a", "z ~ a", "y ~ a b`"} {
		if _, _, err := ParseFormula(text, "y", all); !errors.Is(err, ErrFormula) {
			t.Errorf("%q: %v, want a wrong formula", text, err)
		}
	}
}

func FuzzFormula(f *testing.F) {
	f.Add("y ~ a*b:log(`c d`) - e, .")
	f.Fuzz(func(t *testing.T, text string) {
		_, _, err := ParseFormula(text, "", []string{"a", "b"})
		if err != nil && !errors.Is(err, ErrFormula) {
			t.Errorf("%q: %v", text, err)
		}
	})
}
