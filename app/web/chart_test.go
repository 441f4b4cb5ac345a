package web

import (
	"math"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

func TestScale(t *testing.T) {
	for _, c := range []struct {
		lo, hi float64
		n      int
		ticks  []float64
		labels []string
	}{
		{0, 10, 5, []float64{0, 2, 4, 6, 8, 10}, []string{"0", "2", "4", "6", "8", "10"}},
		{1.497, 1.536, 8, []float64{1.495, 1.5, 1.505, 1.51, 1.515, 1.52, 1.525, 1.53, 1.535, 1.54}, []string{"1.495", "1.500", "1.505", "1.510", "1.515", "1.520", "1.525", "1.530", "1.535", "1.540"}},
		{-3, 7, 4, []float64{-5, 0, 5, 10}, []string{"-5", "0", "5", "10"}},
		{0, 0.3, 3, []float64{0, 0.1, 0.2, 0.3}, []string{"0.0", "0.1", "0.2", "0.3"}},
	} {
		s := newScale(c.lo, c.hi, c.n)
		got := s.ticks()
		if len(got) != len(c.ticks) {
			t.Errorf("[%g, %g]: ticks %v, want %v", c.lo, c.hi, got, c.ticks)
			continue
		}
		for i, v := range got {
			if math.Abs(v-c.ticks[i]) > 1e-9 || s.label(v) != c.labels[i] {
				t.Errorf("[%g, %g]: tick %d is %g %q, want %g %q", c.lo, c.hi, i, v, s.label(v), c.ticks[i], c.labels[i])
			}
		}
	}
	// A single value has room on both sides.
	if s := newScale(4, 4, 6); !(s.lo < 4 && s.hi > 4) {
		t.Errorf("around 4: [%g, %g]", s.lo, s.hi)
	}
	if s := newScale(0, 0, 6); !(s.lo < 0 && s.hi > 0) {
		t.Errorf("around 0: [%g, %g]", s.lo, s.hi)
	}
}

func TestLinePoints(t *testing.T) {
	// x runs 0 to 100 and y 0 to 10, both exactly tick to tick.
	c := LineChart{XName: "x", YName: "y", Series: []Series{{Name: "a", Runs: [][]XY{{{0, 0}, {50, 5}, {100, 10}}, {{0, 2}, {50, 3}, {100, 10}}}}}}
	f, ok := c.frame()
	if !ok {
		t.Fatal("no frame")
	}
	svg := string(c.markup())
	// The left edge leaves 28 for the axis name and two letters for "10".
	left, right, top, bottom := 28+2*letter, float64(chartWidth-marginRight), float64(marginTop), float64(lineHeight-marginBelow)
	if f.left != left || f.right != right || f.top != top || f.bottom != bottom {
		t.Fatalf("frame %+v", f)
	}
	at := func(x, y float64) string {
		return px(left+(right-left)*x/100) + "," + px(bottom-(bottom-top)*y/10)
	}
	for _, want := range []string{
		`<polyline class="thin s0" points="` + at(0, 0) + " " + at(50, 5) + " " + at(100, 10) + `"/>`,
		`<polyline class="mean s0" points="` + at(0, 1) + " " + at(50, 4) + " " + at(100, 10) + `"/>`,
	} {
		if !strings.Contains(svg, want) {
			t.Errorf("no %s in\n%s", want, svg)
		}
	}
	if at(0, 0) != "41.6,256" || at(100, 10) != "744,12" {
		t.Errorf("corners %s and %s", at(0, 0), at(100, 10))
	}
}

func TestMeanRun(t *testing.T) {
	got := meanRun([][]XY{{{1, 2}, {2, 4}, {3, 9}}, {{2, 6}, {1, 4}}})
	if want := []XY{{1, 3}, {2, 5}}; !reflect.DeepEqual(got, want) { // step 3 is in one run only
		t.Errorf("mean %v, want %v", got, want)
	}
}

func TestThinnedKeepsTheEnds(t *testing.T) {
	run := make([]XY, 12345)
	for i := range run {
		run[i].X = float64(i)
	}
	got := thinned(run)
	if len(got) > most+1 || got[0].X != 0 || got[len(got)-1].X != 12344 {
		t.Errorf("%d points from %g to %g", len(got), got[0].X, got[len(got)-1].X)
	}
}

func TestDotPlaces(t *testing.T) {
	c := DotPlot{XName: "v", Rows: []DotRow{{Name: "a", Mean: 5, StdErr: 5, Values: []float64{0, 10}, Labels: []string{"seed 1"}}, {Name: "b", Mean: 2.5, Values: []float64{2.5}}}}
	svg := string(c.markup())
	left, right := 14+letter, float64(chartWidth-marginRight-8)
	for _, want := range []string{
		`class="bar s0" x1="` + px(left) + `" y1="29" x2="` + px(right) + `" y2="29"`, // one error to both sides, mid row
		`cx="` + px(left) + `" cy="26" r="3.5"><title>seed 1: 0</title>`,
		`cx="` + px(right) + `" cy="32" r="3.5"><title>10.00</title>`,
		`cx="` + px(left+(right-left)/4) + `" cy="63" r="3.5"><title>2.500</title>`,
	} {
		if !strings.Contains(svg, want) {
			t.Errorf("no %s in\n%s", want, svg)
		}
	}
}

func TestStackFillsItsShare(t *testing.T) {
	got := string(stack([]Part{{"weights", 6}, {"gradients", 0}, {"scratch", 1}}, 13))
	widths := regexp.MustCompile(`x="([\d.]+)" y="0" width="([\d.]+)"`).FindAllStringSubmatch(got, -1)
	if len(widths) != 2 || widths[0][1] != "0" || widths[0][2] != "60" || widths[1][1] != "60" || widths[1][2] != "10" {
		t.Errorf("%v in %s", widths, got)
	}
}

func TestNothingToDraw(t *testing.T) {
	if got := (LineChart{Series: []Series{{Name: "a"}}}).markup(); got != "" {
		t.Errorf("a chart of nothing: %s", got)
	}
	if got := (DotPlot{}).markup(); got != "" {
		t.Errorf("a plot of nothing: %s", got)
	}
}
