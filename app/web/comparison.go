package web

import (
	"cmp"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"tare/engine/grad"
	"tare/lab"
	"tare/lab/compare"
)

// WriteComparison writes a page of methods side by side: the table, for each data set
// the plots of quality against cost and every seed, memory by kind and how it was run.
func WriteComparison(w io.Writer, c *compare.Comparison) error {
	p := Page{
		Title:  "Methods side by side",
		Broad:  true,
		Lead:   comparisonLead(c),
		Footer: "Written by tare compare. A value is mean ± one standard error over the seeds.",
	}
	p.Sections = append(p.Sections, Section{Title: "What they learnt and what it took", Blocks: []Block{withStacks(ComparisonTable(c), c)}})
	for i, set := range c.Sets {
		p.Sections = append(p.Sections, setSection(c, i, set))
	}
	p.Sections = append(p.Sections,
		Section{Title: "Memory by kind", Blocks: []Block{ComparisonMemory(c)}},
		Section{Title: "How it was run", Blocks: []Block{settingsTable(c), comparisonFacts(c)}})
	return p.Write(w)
}

func comparisonLead(c *compare.Comparison) string {
	var sets []string
	for _, s := range c.Sets {
		sets = append(sets, setName(s.Name))
	}
	return fmt.Sprintf("%d ways to tune a model of %s parameters on %s. %s",
		len(c.Rows), Count(c.Parameters), strings.Join(sets, " and "), sentence(budgetText(c.Budget))+".")
}

func sentence(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

func budgetText(b compare.Budget) string {
	var parts []string
	if b.Trainable > 0 {
		parts = append(parts, "every method's rank is the one that comes nearest to "+Count(b.Trainable)+" trained entries")
	}
	if b.Peak > 0 {
		parts = append(parts, "every method's rank is the largest whose training step stays within "+Bytes(b.Peak))
	}
	if b.Seconds > 0 {
		parts = append(parts, "every method trains for "+Seconds(b.Seconds))
	}
	return strings.Join(parts, ", and ")
}

// setName is a data set's name without where it lies.
func setName(name string) string {
	name = strings.TrimPrefix(name, "bundled:")
	return strings.TrimSuffix(filepath.Base(name), filepath.Ext(name))
}

// sorted returns the rows by their loss on the first set that they were measured on,
// those without figures last.
func sorted(c *compare.Comparison) []*compare.Row {
	rows := make([]*compare.Row, len(c.Rows))
	for i := range c.Rows {
		rows[i] = &c.Rows[i]
	}
	slices.SortStableFunc(rows, func(a, b *compare.Row) int {
		for i := range a.On {
			x, y := &a.On[i], &b.On[i]
			switch {
			case x.Measured() && y.Measured():
				return cmp.Compare(x.Loss.Mean, y.Loss.Mean)
			case x.Measured():
				return -1
			case y.Measured():
				return 1
			}
		}
		return 0
	})
	return rows
}

// costs is the first cell of a row with figures, which its costs are taken from; nil
// for none.
func costs(r *compare.Row) *compare.Cell {
	for i := range r.On {
		if r.On[i].Measured() {
			return &r.On[i]
		}
	}
	return nil
}

// why joins the reasons for a row's missing figures.
func why(r *compare.Row) string {
	var out []string
	for _, c := range r.On {
		if c.Why != "" && !slices.Contains(out, c.Why) {
			out = append(out, c.Why)
		}
	}
	return strings.Join(out, "; ")
}

// ComparisonTable is a row a method under one for the base: quality on every set, then
// cost on the first.
func ComparisonTable(c *compare.Comparison) Table {
	t := Table{Columns: []Column{{Name: "method"}, {"trained", true}}}
	base := Row{Strong: true, Cells: []string{"base", "–"}}
	for _, s := range c.Sets {
		name := setName(s.Name)
		t.Columns = append(t.Columns, Column{name + " loss", true})
		base.Cells = append(base.Cells, orDash(s.Loss != 0, Number(s.Loss)))
		if s.Score != nil {
			t.Columns = append(t.Columns, Column{name + " exact, %", true})
			base.Cells = append(base.Cells, Number(100**s.Score))
		}
		if s.SourceLoss != nil {
			t.Columns = append(t.Columns, Column{"source loss after", true})
			base.Cells = append(base.Cells, Number(*s.SourceLoss))
		}
	}
	t.Columns = append(t.Columns, Column{"step", true}, Column{"peak memory", true}, Column{"merge error", true})
	base.Cells = append(base.Cells, "–", "–", "–")
	t.Rows = append(t.Rows, base)
	for _, r := range sorted(c) {
		t.Rows = append(t.Rows, comparisonRow(c, r))
	}
	t.Note = comparisonNote(c)
	return t
}

func comparisonRow(c *compare.Comparison, r *compare.Row) Row {
	cost := costs(r)
	if cost == nil {
		return Row{Cells: []string{r.Name}, Span: why(r)}
	}
	cells := []string{r.Name, Count(cost.Trainable)}
	for i, s := range c.Sets {
		cell := &r.On[i]
		cells = append(cells, orDash(cell.Measured(), Spread(cell.Loss.Mean, cell.Loss.StdErr)))
		if s.Score != nil {
			cells = append(cells, spreadOf(cell.Score, 100))
		}
		if s.SourceLoss != nil {
			cells = append(cells, spreadOf(cell.SourceLoss, 1))
		}
	}
	merge := "–"
	switch e := cost.MergeError; {
	case e != nil && *e == 0:
		merge = "0"
	case e != nil:
		merge = fmt.Sprintf("%.1e", *e)
	}
	return Row{Cells: append(cells, Seconds(cost.StepSeconds.Mean), Bytes(cost.Peak.Total), merge)}
}

func orDash(ok bool, text string) string {
	if ok {
		return text
	}
	return "–"
}

func spreadOf(s *lab.Spread, times float64) string {
	if s == nil {
		return "–"
	}
	return Spread(times*s.Mean, times*s.StdErr)
}

func comparisonNote(c *compare.Comparison) string {
	seeds := "Of one seed"
	if c.Seeds > 1 {
		seeds = fmt.Sprintf("Mean ± standard error over %d seeds", c.Seeds)
	}
	note := fmt.Sprintf("%s; losses are nats a token of text that was not trained on. Step and memory are of one thread", seeds)
	if len(c.Sets) > 1 {
		note += ", on " + setName(c.Sets[0].Name)
	}
	note += ". Merge error is the largest change of a logit when the adapter is folded into the weights."
	if c.Source != "" {
		note += " Source loss is on the text of the base's own domain: what it rose by was forgotten."
	}
	return note
}

// withStacks puts the memory by kind beside the rows that have it.
func withStacks(t Table, c *compare.Comparison) Table {
	t.Kinds = lab.Kinds()
	for i, r := range sorted(c) {
		if cost := costs(r); cost != nil {
			t.Rows[i+1].Stack = kindsOf(cost.Peak)
		}
	}
	return t
}

func kindsOf(p grad.Peak) []int64 {
	return []int64{p.Weights, p.Gradients, p.Optimizer, p.Activations, p.Scratch}
}

// ComparisonMemory is the peak of every kind of memory.
func ComparisonMemory(c *compare.Comparison) Table {
	t := Table{Columns: []Column{{Name: "method"}}}
	for _, k := range lab.Kinds() {
		t.Columns = append(t.Columns, Column{k, true})
	}
	t.Columns = append(t.Columns, Column{"together", true})
	for _, r := range sorted(c) {
		cost := costs(r)
		if cost == nil {
			continue
		}
		row := Row{Cells: []string{r.Name}}
		for _, n := range append(kindsOf(cost.Peak), cost.Peak.Total) {
			row.Cells = append(row.Cells, Bytes(n))
		}
		t.Rows = append(t.Rows, row)
	}
	t.Note = "Peaks by the ledger. The kinds peak at different moments, so that together they take less than their sum."
	return t
}

// setSection is the plots and seeds of one data set.
func setSection(c *compare.Comparison, i int, set compare.SetResult) Section {
	name := setName(set.Name)
	s := Section{Title: sentence(name)}
	axes := []struct {
		plot Scatter
		x    func(*compare.Cell) float64
	}{
		{Scatter{Caption: "Loss against trained entries", XName: "trained entries", XText: countTick}, func(c *compare.Cell) float64 { return float64(c.Trainable) }},
		{Scatter{Caption: "Loss against peak memory", XName: "peak memory (MiB)"}, func(c *compare.Cell) float64 { return float64(c.Peak.Total) / (1 << 20) }},
		{Scatter{Caption: "Loss against time", XName: "time of training (s)"}, func(c *compare.Cell) float64 { return c.Seconds.Mean }},
		{Scatter{Caption: "Loss against what was forgotten", XName: "source loss after (nats)"}, func(c *compare.Cell) float64 {
			if c.SourceLoss == nil {
				return 0
			}
			return c.SourceLoss.Mean
		}},
	}
	if set.SourceLoss == nil {
		axes = axes[:3]
	}
	var plots Plots
	dots := DotPlot{Caption: "Every seed", XName: name + " loss (nats)"}
	for _, a := range axes {
		a.plot.YName = name + " loss (nats)"
		plots = append(plots, a.plot)
	}
	for _, r := range sorted(c) {
		cell := &r.On[i]
		if !cell.Measured() {
			continue
		}
		for k, a := range axes {
			plots[k].Points = append(plots[k].Points, ScatterPoint{Name: r.Name, X: a.x(cell), Y: cell.Loss.Mean, E: cell.Loss.StdErr})
		}
		dots.Rows = append(dots.Rows, DotRow{Name: r.Name, Mean: cell.Loss.Mean, StdErr: cell.Loss.StdErr, Values: cell.Loss.Values})
	}
	s.Blocks = []Block{Text("A method on the line is beaten by none in both directions. Less is better in both."), plots, dots}
	return s
}

// countTick writes a round count without its empty places.
func countTick(v float64) string {
	return strings.NewReplacer(".00 ", " ", ".0 ", " ").Replace(Count(int64(v)))
}

// settingsTable says what each method ran with on each set.
func settingsTable(c *compare.Comparison) Table {
	t := Table{Columns: []Column{{Name: "method"}, {Name: "settings"}}}
	for _, s := range c.Sets {
		t.Columns = append(t.Columns, Column{setName(s.Name) + ": rate", true}, Column{"steps", true}, Column{"time", true})
	}
	t.Columns = append(t.Columns, Column{Name: "remarks"})
	for _, r := range sorted(c) {
		if costs(r) == nil {
			continue
		}
		row := Row{Cells: []string{r.Name, r.Settings}}
		var remarks []string
		for _, cell := range r.On {
			if !cell.Measured() {
				row.Cells = append(row.Cells, "–", "–", "–")
				remarks = append(remarks, cell.Why)
				continue
			}
			row.Cells = append(row.Cells, fmt.Sprintf("%g", cell.LR), fmt.Sprint(cell.Steps), Seconds(cell.Seconds.Mean))
			remarks = append(append(remarks, cell.Failed...), cell.Note, cell.MergeNote)
		}
		remarks = slices.DeleteFunc(remarks, func(s string) bool { return s == "" })
		slices.Sort(remarks)
		row.Cells = append(row.Cells, strings.Join(slices.Compact(remarks), "; "))
		t.Rows = append(t.Rows, row)
	}
	t.Note = "Rates are chosen for each method and set on the validation split with seed 0, unless the recipe names them. Time is of all steps and of the method's look at the data before them."
	return t
}

func comparisonFacts(c *compare.Comparison) Facts {
	commit := c.Commit
	if c.Modified {
		commit += " with changes"
	}
	f := Facts{
		{"Base", fmt.Sprintf("%s parameters, hash %.12s", Count(c.Parameters), c.BaseHash)},
		{"Budget", budgetText(c.Budget)},
	}
	for _, s := range c.Sets {
		f = append(f, Fact{sentence(setName(s.Name)), fmt.Sprintf("%d sequences of %d tokens a step", s.Batch, s.SeqLen)})
	}
	return append(f,
		Fact{"Processor", fmt.Sprintf("%s, %d workers of one thread", c.CPU, c.Workers)},
		Fact{"Commit", commit},
		Fact{"Started", c.Started.UTC().Format("2006-01-02 15:04 MST")})
}
