package jinja

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// golden is what parity/chat.py recorded of the reference: a text, or none where it
// has an error.
func golden(t testing.TB) (variables any, templates [][2]*string) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", "golden.json"))
	if err != nil {
		t.Fatal(err)
	}
	var g struct {
		Variables json.RawMessage `json:"variables"`
		Templates [][2]*string    `json:"templates"`
	}
	if err := json.Unmarshal(raw, &g); err != nil {
		t.Fatal(err)
	}
	if variables, err = FromJSON(g.Variables); err != nil {
		t.Fatal(err)
	}
	return variables, g.Templates
}

func variablesOf(d *Dict) map[string]any { return d.values }

func TestTextIsTheReferences(t *testing.T) {
	variables, templates := golden(t)
	for _, row := range templates {
		got := ""
		tmpl, err := Parse(*row[0])
		if err == nil {
			got, err = tmpl.Render(variablesOf(variables.(*Dict)), time.Time{})
		}
		switch {
		case row[1] == nil && err == nil:
			t.Errorf("%q gives %q, want an error", *row[0], got)
		case row[1] == nil && !errors.Is(err, ErrSyntax) && !errors.Is(err, ErrRender):
			t.Errorf("%q: %v is neither ErrSyntax nor ErrRender", *row[0], err)
		case row[1] == nil && !strings.Contains(err.Error(), "line 1:"):
			t.Errorf("%q: %v names no line", *row[0], err)
		case row[1] != nil && (err != nil || got != *row[1]):
			t.Errorf("%q gives %q, %v, want %q", *row[0], got, err, *row[1])
		}
	}
}

func TestErrorsNameTheLine(t *testing.T) {
	for source, want := range map[string]string{
		"a\n{% if x %}\n{{ y.z }}\n{% endif %}":               `line 3: "y" is undefined, so it has no "z"`,
		"a\nb {{ x |\n nothing }}":                            `line 3: the filter "nothing" is not supported (known: abs, `,
		"\n\n{% for x in [1] %}":                              `line 3: the template ends, "endfor" is missing`,
		"{% set x = '\n\n' %}\n{{ raise_exception('alas') }}": `line 4: alas`,
		"{% include 'x' %}":                                   `line 1: the statement "include" is not supported`,
	} {
		tmpl, err := Parse(source)
		if err == nil {
			_, err = tmpl.Render(map[string]any{"x": true}, time.Time{})
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", source, err, want)
		}
	}
}

func TestRenderingEnds(t *testing.T) {
	for _, source := range []string{
		"{% for a in range(100000) %}{% for b in range(100000) %}{{ a }}{% endfor %}{% endfor %}",
		"{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
		"{{ 'a' * 1000000000000 }}", "{{ ('a' * 1000000).replace('a', 'b' * 1000000) }}",
		"{% set ns = namespace(s='abcdefgh') %}{% for i in range(1000) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
		"{% set ns = namespace(l=[]) %}{% for i in range(100000) %}{% set ns.l = ns.l + ['a' * 10000000 ~ i] %}{% endfor %}",
		"{{ range(10000000000) }}", "{{ " + strings.Repeat("1+", 100000) + "1 }}",
	} {
		tmpl, err := Parse(source)
		if err != nil {
			t.Errorf("%.60q: %v", source, err)
			continue
		}
		if _, err := tmpl.Render(nil, time.Time{}); !errors.Is(err, ErrRender) {
			t.Errorf("%.60q: %v, want ErrRender", source, err)
		}
	}
	for _, open := range []string{"(", "[", "{% if true %}", "{{ -", "not ", "{'a':"} {
		if _, err := Parse("{{ " + strings.Repeat(open, 100000)); !errors.Is(err, ErrSyntax) {
			t.Errorf("%q many times: %v, want ErrSyntax", open, err)
		}
	}
}

func TestDates(t *testing.T) {
	tmpl, err := Parse("{{ strftime_now('%d %b %Y, %A %H:%M %% %Q') }}")
	if err != nil {
		t.Fatal(err)
	}
	got, err := tmpl.Render(nil, time.Date(2024, 7, 6, 15, 4, 5, 0, time.UTC))
	if want := "06 Jul 2024, Saturday 15:04 % %Q"; err != nil || got != want {
		t.Errorf("%q, %v, want %q", got, err, want)
	}
}

func FuzzTemplate(f *testing.F) {
	variables, templates := golden(f)
	for _, row := range templates {
		f.Add(*row[0])
	}
	f.Fuzz(func(t *testing.T, source string) {
		tmpl, err := Parse(source)
		if err != nil {
			if !errors.Is(err, ErrSyntax) {
				t.Fatalf("%v is not ErrSyntax", err)
			}
			return
		}
		if _, err := tmpl.Render(variablesOf(variables.(*Dict)), time.Time{}); err != nil && !errors.Is(err, ErrRender) {
			t.Fatalf("%v is not ErrRender", err)
		}
	})
}
