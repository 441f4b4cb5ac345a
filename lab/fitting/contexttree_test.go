package fitting

import (
	"errors"
	"math"
	"path/filepath"
	"strings"
	"testing"
)

// traffic is two sequences of lights, whose order a past of two tells.
func traffic() string {
	var b strings.Builder
	b.WriteString("crossing,light\n")
	for i := range 400 {
		light := []string{"green", "amber", "red", "amber"}[i%4]
		b.WriteString([]string{"east", "west"}[i/200] + "," + light + "\n")
	}
	return b.String()
}

// A period is learnt, stored, and foretold by the file's model as by the fitted one.
func TestContextTreeForetellsLights(t *testing.T) {
	f, err := fitted(t, "context-tree", traffic(), Recipe{Formula: "light", Group: "crossing"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	m := f.model.(*contextModel)
	if m.Bits > 0.2 || math.Abs(m.Alone-1.5) > 0.1 {
		t.Errorf("%g bits a symbol, %g without a past, want few and 1.5", m.Bits, m.Alone)
	}
	path := filepath.Join(t.TempDir(), "lights.json")
	if err := f.Save(path); err != nil {
		t.Fatal(err)
	}
	loaded, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	sheet, err := ReadSheet(written(t, "crossing,light\nnorth,green\nnorth,amber\nnorth,red\nnorth,amber\nnorth,green\n"))
	if err != nil {
		t.Fatal(err)
	}
	said, err := loaded.Predict(sheet)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"green", "amber", "red", "amber", "green"} {
		if got := said.Likeliest(i); got != want {
			t.Errorf("row %d is foretold as %s, it is %s", i, got, want)
		}
	}
	tables := f.Tables()
	if len(tables) != 2 || len(f.Figures()) != 1 {
		t.Errorf("%d tables and %d figures", len(tables), len(f.Figures()))
	}
	for _, row := range tables[1].Rows {
		if row[0] == "green amber" && !strings.HasPrefix(row[2], "red 0.9") {
			t.Errorf("after green amber comes %s", row[2])
		}
	}
}

func TestContextTreeRefusesTables(t *testing.T) {
	for name, c := range map[string]struct {
		text, formula string
		options       map[string]string
		is            error
	}{
		"two columns":      {"a,b\n1,2\n2,1\n", "a + b", nil, ErrData},
		"one value":        {"a\nx\nx\n", "a", nil, ErrData},
		"a missing symbol": {"a,b\nx,1\n,1\n", "a", nil, ErrTable},
		"an unknown code":  {"a\nx\ny\n", "a", map[string]string{"code": "words"}, nil},
	} {
		_, err := fitted(t, "context-tree", c.text, Recipe{Formula: c.formula}, c.options)
		if c.is == nil {
			c.is = UsageErrors()[len(UsageErrors())-1]
		}
		if !errors.Is(err, c.is) {
			t.Errorf("%s: %v, want %v", name, err, c.is)
		}
	}
}
