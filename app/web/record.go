package web

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"tare/lab"
	"tare/lab/catalog"
)

// WriteRecord writes a page of experiments: for each its claim, verdict and rule, the
// arms with their costs, the curves, the values seed by seed, the comparisons behind
// the verdict and where it was measured.
func WriteRecord(w io.Writer, records []*lab.Record) error {
	p := Page{Title: "Measured claims", Footer: "Written by tare reproduce. A value is mean ± one standard error over the seeds."}
	if len(records) == 1 {
		p.Title = records[0].Slug + ": a measured claim"
	}
	for _, r := range records {
		p.Sections = append(p.Sections, RecordSection(r))
	}
	return p.Write(w)
}

// RecordSection is one experiment's section of a page.
func RecordSection(r *lab.Record) Section {
	s := Section{Title: r.Slug, Badge: string(r.Verdict), Tone: tone(r.Verdict)}
	if paper, err := catalog.BySlug(r.Slug); err == nil {
		s.Title = paper.Title
	}
	s.Blocks = []Block{
		Facts{{"Claim", r.Claim}, {"Figure", withUnit(r.Figure.Name, r.Figure.Unit) + ", " + string(r.Figure.Better) + " is better"}, {"Rule", r.Rule}},
		armsTable(r),
	}
	if c := curves(r); len(c.Series) > 0 {
		s.Blocks = append(s.Blocks, c)
	}
	s.Blocks = append(s.Blocks, dots(r))
	if len(r.Findings) > 0 {
		s.Blocks = append(s.Blocks, findings(r))
	}
	s.Blocks = append(s.Blocks, circumstances(r))
	return s
}

// tone is the colour of a verdict.
func tone(v lab.Verdict) string {
	switch v {
	case lab.Supported:
		return "good"
	case lab.NotSupported:
		return "bad"
	}
	return "open"
}

// armsTable is a row an arm: the figure, the further figures, what trained, the time
// and the memory by kind.
func armsTable(r *lab.Record) Table {
	t := Table{Kinds: lab.Kinds(), Columns: []Column{{Name: "arm"}, {withUnit(r.Figure.Name, r.Figure.Unit), true}}}
	extras := ExtraNames(r)
	for _, name := range extras {
		t.Columns = append(t.Columns, Column{name, true})
	}
	t.Columns = append(t.Columns, Column{"trainable", true}, Column{"time", true}, Column{"peak memory", true})
	for _, a := range r.Arms {
		row := Row{Strong: a.Role == lab.Method, Stack: a.Peak.Values(), Cells: []string{a.Name, Spread(a.Mean, a.StdErr)}}
		for _, name := range extras {
			cell := "–"
			if x, ok := a.Extra[name]; ok {
				cell = Spread(x.Mean, x.StdErr)
			}
			row.Cells = append(row.Cells, cell)
		}
		row.Cells = append(row.Cells, Count(a.Trainable), Seconds(a.Seconds), Bytes(a.Peak.Total()))
		t.Rows = append(t.Rows, row)
	}
	return t
}

// ExtraNames lists the further figures that any arm has, sorted by arm and name.
func ExtraNames(r *lab.Record) []string {
	var names []string
	seen := map[string]bool{}
	for _, a := range r.Arms {
		for _, name := range slices.Sorted(maps.Keys(a.Extra)) {
			if !seen[name] {
				seen[name] = true
				names = append(names, name)
			}
		}
	}
	return names
}

func curves(r *lab.Record) LineChart {
	c := LineChart{Caption: "Curves", XName: "step", YName: "loss"}
	if !strings.Contains(r.Figure.Name, "loss") {
		c.YName = "value"
	}
	for _, a := range r.Arms {
		s := Series{Name: a.Name}
		for _, curve := range a.Curves {
			if len(curve) == 0 {
				continue
			}
			run := make([]XY, len(curve))
			for i, p := range curve {
				run[i] = XY{float64(p.Step), p.Value}
			}
			s.Runs = append(s.Runs, run)
		}
		c.Series = append(c.Series, s)
	}
	for _, s := range c.Series {
		if len(s.Runs) > 0 {
			return c
		}
	}
	return LineChart{}
}

func dots(r *lab.Record) DotPlot {
	c := DotPlot{Caption: "Every seed", XName: withUnit(r.Figure.Name, r.Figure.Unit)}
	for _, a := range r.Arms {
		row := DotRow{Name: a.Name, Mean: a.Mean, StdErr: a.StdErr, Values: a.Values}
		for _, seed := range r.Seeds {
			row.Labels = append(row.Labels, fmt.Sprint("seed ", seed))
		}
		c.Rows = append(c.Rows, row)
	}
	return c
}

func findings(r *lab.Record) Table {
	t := Table{Columns: []Column{{"compared in", false}, {"method", false}, {"mean", true}, {"baseline", false}, {"mean", true}, {"gain", true}, {"verdict", false}},
		Note: "Gain is positive where the method is better, with the standard error of the difference."}
	for _, f := range r.Findings {
		row := Row{Cells: []string{withUnit(f.Figure.Name, f.Figure.Unit), f.Method, FigureText(f.Figure, f.MeanM), f.Baseline, FigureText(f.Figure, f.MeanB), GainText(f), string(f.Verdict)}}
		if f.Note != "" {
			row.Cells[6] += ", " + f.Note
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

// FigureText writes a value of a figure, bytes as bytes are read.
func FigureText(f lab.Figure, v float64) string {
	if f.Unit == "bytes" {
		return Bytes(int64(v))
	}
	return Number(v)
}

// GainText writes the gain of a finding with its standard error.
func GainText(f lab.Finding) string {
	if f.Figure.Unit != "bytes" {
		return signed(f.Gain, Spread(f.Gain, f.StdErr))
	}
	gain := Bytes(int64(f.Gain))
	if f.Gain < 0 {
		gain = "-" + Bytes(int64(-f.Gain))
	}
	if f.StdErr > 0 {
		gain += " ± " + Bytes(int64(f.StdErr))
	}
	return signed(f.Gain, gain)
}

func signed(v float64, text string) string {
	if v > 0 {
		return "+" + text
	}
	return text
}

func circumstances(r *lab.Record) Facts {
	commit := r.Commit
	if r.Modified {
		commit += " with changes"
	}
	seeds := strings.Trim(fmt.Sprint(r.Seeds), "[]")
	kind := "full run"
	if r.Quick {
		kind = "quick run: shorter, with fewer seeds"
	}
	return Facts{
		{"Processor", fmt.Sprintf("%s, %d threads", r.CPU, r.Threads)},
		{"Commit", commit},
		{"Started", r.Started.UTC().Format("2006-01-02 15:04 MST")},
		{"Took", Seconds(r.Seconds)},
		{"Seeds", seeds + " (" + kind + ")"},
	}
}
