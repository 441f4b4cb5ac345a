package web

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"tare/engine/grad"
	"tare/lab"
	"tare/lab/compare"
)

// sampleComparison has rows with and without figures, and names that crowd.
func sampleComparison() *compare.Comparison {
	spread := func(mean, e float64) lab.Spread {
		return lab.Spread{Mean: mean, StdErr: e, Values: []float64{mean - e, mean + e}}
	}
	source, exact, merge, none := spread(3.6, 0.02), spread(0.125, 0.01), 2.1e-5, 0.0
	before, right := 2.887, 0.0
	c := &compare.Comparison{
		Base: "b", BaseHash: "0123456789abcdef", Parameters: 2_828_736, Budget: compare.Budget{Trainable: 165_888}, Seeds: 2, Source: "bundled:source",
		Sets: []compare.SetResult{{Data: compare.Data{Name: "bundled:opticks", Batch: 8, SeqLen: 128, Steps: 60}, Loss: 4.89, SourceLoss: &before},
			{Data: compare.Data{Name: "some/sums.jsonl", Batch: 4, SeqLen: 64, Steps: 80}, Loss: 3.1, Score: &right, SourceLoss: &before}},
		Commit: "abc", CPU: "Some CPU", Workers: 2, Started: time.Date(2025, 3, 4, 5, 6, 7, 0, time.UTC),
	}
	for i := range 20 {
		r := compare.Row{Name: fmt.Sprintf("method%d", i), Settings: "rank=8"}
		for range c.Sets {
			cell := compare.Cell{LR: 0.004, Steps: 60, Loss: spread(3.4+0.5*math.Abs(math.Sin(float64(i))), 0.01), SourceLoss: &source, Trainable: 160_000 + int64(i*i)*10,
				Peak: grad.Peak{Weights: 11 << 20, Optimizer: 2 << 20, Activations: int64(60+i%5) << 20, Total: int64(80+i%5) << 20}, StepSeconds: spread(0.1, 0.001), Seconds: spread(6+float64(i%7), 0.1), MergeError: &merge}
			r.On = append(r.On, cell)
		}
		r.On[1].Score = &exact
		c.Rows = append(c.Rows, r)
	}
	c.Rows[0].Name, c.Rows[0].Settings = "full", ""
	for i := range c.Rows[0].On {
		c.Rows[0].On[i].Trainable, c.Rows[0].On[i].Loss, c.Rows[0].On[i].MergeError = c.Parameters, spread(3.05, 0.02), nil
	}
	c.Rows[1].On[0].MergeError = &none
	c.Rows = append(c.Rows, compare.Row{Name: "odd<one>", On: []compare.Cell{{Why: "it needs biases & there are none"}, {Why: "it needs biases & there are none"}}})
	return c
}

// The page's structure: its sections, tables and plots, and no request to elsewhere.
func TestComparisonPage(t *testing.T) {
	var page bytes.Buffer
	c := sampleComparison()
	if err := WriteComparison(&page, c); err != nil {
		t.Fatal(err)
	}
	if path := os.Getenv("TARE_SAMPLE_PAGE"); path != "" {
		if err := os.WriteFile(path, page.Bytes(), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	html := page.String()
	wellFormed(t, html)
	var got []string
	for _, m := range regexp.MustCompile(`<h2>([^<]*)|<(table|dl|div class="plots"|figcaption)>(?:([^<]+)</figcaption>)?`).FindAllStringSubmatch(html, -1) {
		got = append(got, strings.Trim(m[1]+" "+m[2]+" "+m[3], " "))
	}
	plots := []string{`div class="plots"`, "figcaption Loss against trained entries", "figcaption Loss against peak memory", "figcaption Loss against time",
		"figcaption Loss against what was forgotten", "figcaption Every seed"}
	want := []string{"What they learnt and what it took", "table"}
	for _, set := range []string{"Opticks", "Sums"} {
		want = append(append(want, set), plots...)
	}
	want = append(want, "Memory by kind", "table", "How it was run", "table", "dl")
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the page is\n%q, want\n%q", got, want)
	}
	for _, text := range []string{"odd&lt;one&gt;", `colspan="10">it needs biases &amp; there are none`, "3.050 ± 0.020", "12.5 ± 1.0", "2.1e-05", "2 workers of one thread", "nearest to 165.9 k"} {
		if !strings.Contains(html, text) {
			t.Errorf("the page does not say %q", text)
		}
	}
	for _, outside := range []string{"http://", "https://", "<script", "src=", "@import", "url("} {
		if strings.Contains(html, outside) {
			t.Errorf("the page asks for something from elsewhere: %q", outside)
		}
	}
	// 20 methods are measured: a dot each in 8 plots, and two for their seeds in 2.
	if n := strings.Count(html, "<circle"); n != 8*20+2*40 {
		t.Errorf("%d dots, want %d", n, 8*20+2*40)
	}
	// Every name stands in every plot and every plot of seeds.
	if n := strings.Count(html, ">method7</text>"); n != 10 {
		t.Errorf("a crowded name stands in %d plots, want 10", n)
	}
	// Sorted by loss: full is first below the base.
	table := ComparisonTable(c)
	if table.Rows[0].Cells[0] != "base" || table.Rows[1].Cells[0] != "full" || table.Rows[21].Span == "" {
		t.Errorf("rows %v", table.Rows)
	}
}

func TestFrontIsBeatenByNone(t *testing.T) {
	points := []ScatterPoint{{"a", 3, 1, 0}, {"b", 1, 4, 0}, {"c", 2, 2, 0}, {"d", 2, 3, 0}, {"e", 4, 1, 0}, {"f", 1, 5, 0}}
	// d is beaten by c, e by a (as good and cheaper), f by b.
	if got, want := front(points), []int{1, 2, 0}; !reflect.DeepEqual(got, want) {
		t.Errorf("front %v, want %v", got, want)
	}
}

func TestLogTicks(t *testing.T) {
	for _, c := range []struct {
		lo, hi float64
		want   []float64
	}{
		{3, 60, []float64{5, 10, 20, 50}}, {1, 10, []float64{1, 2, 5, 10}}, {1, 1e4, []float64{1, 10, 100, 1000, 10000}},
	} {
		got := logTicks(c.lo, c.hi)
		if len(got) != len(c.want) {
			t.Errorf("%g to %g: %v, want %v", c.lo, c.hi, got, c.want)
			continue
		}
		for i := range got {
			if math.Abs(got[i]/c.want[i]-1) > 1e-9 {
				t.Errorf("%g to %g: %v, want %v", c.lo, c.hi, got, c.want)
			}
		}
	}
}
