package lab

import (
	"errors"
	"io/fs"
	"strings"
	"testing"

	"tare/engine/data"
	"tare/lab/catalog"
)

func TestFoundations(t *testing.T) {
	for _, x := range Foundations() {
		if err := x.Validate(); err != nil {
			t.Error(err)
		}
		if _, err := catalog.BySlug(x.Slug); err == nil {
			t.Errorf("%s is a paper's slug", x.Slug)
		}
		if found, ok := Find(x.Slug); !ok || found.Slug != x.Slug {
			t.Errorf("%s is not found", x.Slug)
		}
	}
}

func TestMNISTNeedsItsData(t *testing.T) {
	t.Setenv("TARE_MNIST", t.TempDir())
	x, _ := Find("mnist")
	if _, err := Run(t.Context(), x, Options{Quick: true}); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "TARE_MNIST") {
		t.Errorf("error %v", err)
	}
}

// A tenth of the digits teach more than nine tenths of the others.
func TestMNISTQuick(t *testing.T) {
	if testing.Short() {
		t.Skip("trains two networks")
	}
	if _, err := data.MNIST(true); errors.Is(err, fs.ErrNotExist) {
		t.Skip("no MNIST: ", err)
	}
	x, _ := Find("mnist")
	r, err := Run(t.Context(), x, Options{Quick: true, Seeds: 1})
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range r.Arms {
		t.Logf("%s: %v %% in %.1f s", a.Name, a.Values, a.Seconds)
		if a.Mean < 90 || a.Mean > 100 {
			t.Errorf("%s: %v %% of the test digits", a.Name, a.Mean)
		}
	}
	if r.Verdict != Mixed {
		t.Errorf("a quick run's verdict is %s", r.Verdict)
	}
}

// Three seeds with the mean 98 reach 98 and no more; in a quick run nothing is judged.
func TestReaches(t *testing.T) {
	of := func(v ...float64) (ms []Measurement) {
		for _, x := range v {
			ms = append(ms, Measurement{Value: x})
		}
		return ms
	}
	acc, err := Figure{"accuracy", "%", Higher}, Figure{"error", "%", Lower}
	for _, c := range []struct {
		figure Figure
		level  float64
		quick  bool
		want   Verdict
	}{{acc, 98, false, Supported}, {acc, 98.5, false, NotSupported}, {acc, 90, true, Mixed}, {err, 98.5, false, Supported}, {err, 97, false, NotSupported}} {
		v, f := Reaches("a", c.level).judge(results{figure: c.figure, quick: c.quick, byArm: map[string][]Measurement{"a": of(97, 98, 99)}})
		if v != c.want || len(f) != 1 || f[0].Verdict != c.want || f[0].MeanM != 98 || f[0].MeanB != c.level {
			t.Errorf("%s at %g: %s, %+v", c.figure.Name, c.level, v, f)
		}
		extra := []Measurement{{Extra: map[string]float64{c.figure.Name: 97}}, {Extra: map[string]float64{c.figure.Name: 99}}}
		own := Figure{"another", "", map[Direction]Direction{Lower: Higher, Higher: Lower}[c.figure.Better]}
		if v, f := ReachesIn(OfExtra(c.figure), "a", c.level).judge(results{figure: own, quick: c.quick, byArm: map[string][]Measurement{"a": extra}}); v != c.want || f[0].Figure != c.figure {
			t.Errorf("another figure, %s at %g: %s, %+v", c.figure.Name, c.level, v, f)
		}
	}
}
