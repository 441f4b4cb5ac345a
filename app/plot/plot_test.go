package plot

import (
	"bytes"
	"encoding/xml"
	"image/png"
	"io"
	"math"
	"strings"
	"testing"

	"tare/lab/fitting"
)

func samples() []fitting.Figure {
	bars := fitting.Series{Name: "b", X: []float64{.1, .5, 2}, Y: []float64{1, 2, 3}, Low: []float64{.5, 1, 2}, High: []float64{2, 3, 9}}
	return []fitting.Figure{
		{Name: "axes", Title: "T", X: "x", Y: "y", LogX: true, Dots: []fitting.Series{bars}, Lines: []fitting.Series{{Name: "l", X: []float64{1, 2}, Y: []float64{0, 1}, Dashed: true}}},
		{Name: "rows", Title: "T", Labels: []string{"first", "second", "third"}, Dots: []fitting.Series{{X: []float64{1, 2, 3}, Y: []float64{0, 1, 2}, Low: []float64{0, 1, 2}, High: []float64{2, 3, 9}}}},
		{Name: "grid", Title: "T", Grid: &fitting.Grid{Rows: []string{"p", "q"}, Columns: []string{"p", "q"}, Values: [][]float64{{1, -.5}, {-.5, 1}}}},
	}
}

func TestFiguresAreImages(t *testing.T) {
	for _, f := range samples() {
		raw, err := Draw(f, "png")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := png.Decode(bytes.NewReader(raw)); err != nil {
			t.Errorf("%s: %v", f.Name, err)
		}
		if raw, err = Draw(f, "svg"); err != nil {
			t.Fatal(err)
		}
		for d := xml.NewDecoder(bytes.NewReader(raw)); ; {
			if _, err := d.Token(); err == io.EOF {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", f.Name, err)
			}
		}
		for _, l := range f.Labels {
			if !strings.Contains(string(raw), l) {
				t.Errorf("%s: no label %q", f.Name, l)
			}
		}
	}
	if _, err := Draw(samples()[0], "gif"); err == nil {
		t.Error("a format that is not known is drawn")
	}
	if _, err := Draw(fitting.Figure{Name: "nan", Dots: []fitting.Series{{X: []float64{math.NaN()}, Y: []float64{1}}}}, "svg"); err == nil {
		t.Error("a dot at no place is drawn")
	}
}

func TestWritten(t *testing.T) {
	path, err := Write(t.TempDir(), samples()[2], "svg")
	if err != nil || !strings.HasSuffix(path, "grid.svg") {
		t.Errorf("%s, %v", path, err)
	}
}
