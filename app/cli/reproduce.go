package cli

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"tare/app/web"
	"tare/engine/checkpoint"
	"tare/lab"
	"tare/lab/catalog"
	"tare/lab/record"
)

// reproduce measures papers' claims.
type reproduce struct {
	Slugs  []string `arg:"" name:"slug" help:"Papers, by their names in the catalog; or mnist, the engine's own test."`
	Quick  bool     `help:"The short version, within a minute: fewer steps and seeds."`
	Seeds  int      `placeholder:"N" help:"Number of seeds, instead of the experiment's own."`
	Resume bool     `help:"Go on with the interrupted run of these settings, with what earlier runs of this version measured."`
	Report string   `placeholder:"FILE" help:"HTML page to write; without it one beside the records."`
}

// Help shows examples.
func (*reproduce) Help() string {
	return `The paper's method and its baselines run with the same budget, seed after seed, and a rule that was written before the run gives the verdict. Arms that several of the papers have run once for all of them. Records are kept in the folder TARE_STATE, else in the user's state folder.

Examples:
  tare reproduce paca --quick
  tare reproduce bone paca --json > records.json
  tare reproduce paca --seeds 5 --report paca.html
  tare reproduce mnist`
}

// Run implements the verb.
func (v *reproduce) Run(a *app) error {
	if v.Seeds < 0 {
		return usagef("--seeds %d, want 1 or more", v.Seeds)
	}
	experiments, err := v.experiments()
	if err != nil {
		return err
	}
	return v.run(a, experiments)
}

// run measures the experiments one after the other and prints what they found.
func (v *reproduce) run(a *app, experiments []lab.Experiment) error {
	store, err := openRecords()
	if err != nil {
		return err
	}
	defer store.Close()
	shelf := &lab.Shelf{Store: store, Recall: v.Resume}
	var records []*lab.Record
	for _, x := range experiments {
		r, err := v.measure(a, x, store, shelf)
		if err != nil {
			return err
		}
		if records = append(records, r); !a.JSON {
			printRecord(a, r)
		}
	}
	if err := v.report(a, records); err != nil {
		return err
	}
	switch {
	case !a.JSON:
		return nil
	case len(records) == 1:
		return a.printJSON(records[0])
	}
	return a.printJSON(records)
}

// experiments finds what was asked for, all of it before anything runs.
func (v *reproduce) experiments() ([]lab.Experiment, error) {
	var out []lab.Experiment
	seen := map[string]bool{}
	for _, slug := range v.Slugs {
		x, ok := lab.Find(slug)
		if !ok {
			p, err := catalog.BySlug(slug)
			if err != nil {
				return nil, err
			}
			return nil, usagef("%s is %s and has no experiment to run yet; those that have: %s", slug, p.State, runnable())
		}
		if !seen[slug] {
			seen[slug] = true
			out = append(out, x)
		}
	}
	return out, nil
}

func runnable() string {
	var slugs []string
	for _, x := range append(lab.Experiments(), lab.Foundations()...) {
		slugs = append(slugs, x.Slug)
	}
	if slugs == nil {
		return "none"
	}
	return strings.Join(slugs, ", ")
}

// measure runs one experiment with progress in hundredths of its cells.
func (v *reproduce) measure(a *app, x lab.Experiment, store *record.Store, shelf *lab.Shelf) (*lab.Record, error) {
	p := a.progress(x.Slug, "%")
	defer p.done()
	return lab.Run(a.ctx, x, lab.Options{
		Quick: v.Quick, Seeds: v.Seeds, Store: store, Resume: v.Resume, Shelf: shelf,
		Progress: func(e lab.Event) {
			part := float64(e.Cell - 1)
			if e.Steps > 0 {
				part += float64(e.Step) / float64(e.Steps)
			}
			note := fmt.Sprintf("(%s, seed %d", e.Arm, e.Seed)
			if e.Note != "" {
				note += ", " + e.Note
			}
			p.update(int64(100*part/float64(e.Cells)), 100, note+")")
		},
		Log: func(line string) { p.say("%s", line) },
	})
}

// report writes the page.
func (v *reproduce) report(a *app, records []*lab.Record) error {
	path := v.Report
	if path == "" {
		dir, err := stateDir()
		if err != nil {
			return err
		}
		name := records[0].Slug
		if len(records) > 1 {
			name = fmt.Sprintf("%s-and-%d-more", name, len(records)-1)
		}
		path = filepath.Join(dir, "reports", name+".html")
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
	}
	if err := writePage(path, func(w io.Writer) error { return web.WriteRecord(w, records) }); err != nil {
		return err
	}
	a.remark("Report with curves: %s", path)
	return nil
}

// writePage puts a page into a file, whole or not at all.
func writePage(path string, write func(io.Writer) error) error {
	var page bytes.Buffer
	if err := write(&page); err != nil {
		return err
	}
	if err := checkpoint.WriteBytes(path, page.Bytes()); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return nil
}

// printRecord writes the table, the comparisons and the verdict.
func printRecord(a *app, r *lab.Record) {
	fmt.Fprintf(a.out, "%s: %s\n\n", r.Slug, indent(r.Claim, 0, 96))
	header := []string{"arm", "role", " " + unitText(r.Figure)}
	extras := web.ExtraNames(r)
	for _, name := range extras {
		header = append(header, " "+name)
	}
	header = append(header, " trainable", " peak", " time")
	var rows [][]string
	for _, arm := range r.Arms {
		row := []string{arm.Name, string(arm.Role), web.Spread(arm.Mean, arm.StdErr)}
		for _, name := range extras {
			cell := "–"
			if x, ok := arm.Extra[name]; ok {
				cell = web.Spread(x.Mean, x.StdErr)
			}
			row = append(row, cell)
		}
		rows = append(rows, append(row, countText(arm.Trainable), bytesText(arm.Peak.Total()), web.Seconds(arm.Seconds)))
	}
	table(a.out, header, rows)
	fmt.Fprintf(a.out, "mean ± standard error over %d seeds; %s is better\n\n", len(r.Seeds), r.Figure.Better)
	for _, f := range r.Findings {
		fmt.Fprintf(a.out, "%s, %s against %s: %s against %s, gain %s: %s", f.Figure.Name, f.Method, f.Baseline,
			web.FigureText(f.Figure, f.MeanM), web.FigureText(f.Figure, f.MeanB), web.GainText(f), f.Verdict)
		if f.Note != "" {
			fmt.Fprintf(a.out, " (%s)", f.Note)
		}
		fmt.Fprintln(a.out)
	}
	fmt.Fprintf(a.out, "\nVerdict: %s\nRule: %s\n\n", r.Verdict, indent(r.Rule, 6, 96))
}
