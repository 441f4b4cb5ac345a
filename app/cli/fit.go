package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"tare/app/plot"
	"tare/lab/fitting"
	"tare/lab/tuning"
)

// fit fits a statistical model to a table.
type fit struct {
	Method    string            `arg:"" optional:"" help:"One of ${fits}."`
	Data      string            `arg:"" optional:"" help:"The table: .csv or .tsv with a head line, .jsonl, .json or .parquet."`
	File      recipeFile        `name:"recipe" placeholder:"FILE" help:"YAML file of these flags, as key: value with underscores; method, data and all others."`
	Options   map[string]string `short:"o" placeholder:"KEY=VALUE" help:"The method's own settings, such as -o lambda=0.01; tare fit METHOD --settings lists them."`
	Settings  bool              `help:"List the method's own settings and end."`
	Out       string            `placeholder:"FILE" help:"File to write the model to, as JSON, for tare predict."`
	Plots     string            `placeholder:"DIR" help:"Folder to draw the figures into."`
	Format    string            `default:"svg" enum:"svg,png" help:"Of the figures: svg, png."`
	Overwrite bool              `help:"Replace an existing --out."`

	fitting.Recipe `group:"Fitting"`
}

// Help shows examples.
func (*fit) Help() string {
	return `Columns of words become indicators against their first level; the report says how each column was coded. Rows that are kept out are drawn within each class. What a method takes, and its settings, stand in docs/fit.md.

Examples:
  tare fit presto survey.csv --response pain --out model.json --plots figures
  tare fit presto survey.csv --formula 'pain ~ . + log(dose) + age:sex - id' --order none,some,severe --bootstrap 200
  tare fit proportional-odds survey.csv --response pain --missing median --test 0
  tare fit partial-correlation oxides.csv --formula '. - type' -o zeros=replace
  tare predict model.json new.csv --out predictions.csv`
}

// fitReport is the result as JSON.
type fitReport struct {
	*fitting.Fitted
	Out    string          `json:"out,omitempty"`
	Plots  []string        `json:"plots,omitempty"`
	Tables []fitting.Table `json:"tables"`
}

// Run implements the verb.
func (v *fit) Run(a *app) error {
	method, err := v.File.text(v.Method, "method")
	if err != nil {
		return err
	}
	if v.Data, err = v.File.text(v.Data, "data"); err != nil {
		return err
	}
	if method == "" {
		return usagef("name a method: tare fit METHOD TABLE")
	}
	m, err := fitting.ByName(method)
	if err != nil {
		return err
	}
	o := m.New()
	if err := tuning.SetOptions(o, v.Options); err != nil {
		return usagef("%s: %w", m.Name, err)
	}
	if v.Settings {
		return v.settings(a, o)
	}
	if v.Data == "" {
		return usagef("name a table: tare fit %s TABLE", method)
	}
	if err := v.outputs(); err != nil {
		return err
	}
	t, err := fitting.ReadSheet(v.Data)
	if err != nil {
		return err
	}
	p := a.progress("fit", "fits")
	what := ""
	f, err := fitting.Fit(a.ctx, t, m, o, v.Recipe, fitting.Run{Seed: a.Seed, Progress: func(done, total int, note string) {
		if note != what { // a bar for each piece of work
			p.done()
			p, what = a.progress("fit", note), note
		}
		p.update(int64(done), int64(total), "")
	}})
	p.done()
	if err != nil {
		return err
	}
	r := fitReport{Fitted: f, Out: v.Out, Tables: f.Tables()}
	if v.Plots != "" {
		if r.Plots, err = drawAll(v.Plots, v.Format, f.Figures()); err != nil {
			return err
		}
	}
	if v.Out != "" {
		if err := f.Save(v.Out); err != nil {
			return err
		}
	}
	if a.JSON {
		return a.printJSON(r)
	}
	r.print(a)
	return nil
}

// outputs refuses, before anything is fitted, places that cannot be written to.
func (v *fit) outputs() error {
	if v.Out != "" {
		if sameFile(v.Out, v.Data) {
			return usagef("--out %s is the table itself; choose another name", v.Out)
		}
		if _, err := os.Stat(v.Out); err == nil && !v.Overwrite {
			return usagef("--out %s exists; choose another name or --overwrite", v.Out)
		}
		if dir := filepath.Dir(v.Out); dir != "." {
			if st, err := os.Stat(dir); err != nil || !st.IsDir() {
				return usagef("--out %s: there is no folder %s", v.Out, dir)
			}
		}
	}
	if v.Plots != "" {
		if err := os.MkdirAll(v.Plots, 0o777); err != nil {
			return usagef("--plots: %w", err)
		}
	}
	return nil
}

// settings lists a method's options.
func (v *fit) settings(a *app, o fitting.Options) error {
	list := fitting.Settings(o)
	if a.JSON {
		return a.printJSON(list)
	}
	var rows [][]string
	for _, s := range list {
		rows = append(rows, []string{s.Name, s.Value, s.Help})
	}
	table(a.out, []string{"setting", "default", "what it is"}, rows)
	return nil
}

// drawAll draws figures and returns their paths.
func drawAll(dir, format string, figures []fitting.Figure) ([]string, error) {
	var out []string
	for _, f := range figures {
		path, err := plot.Write(dir, f, format)
		if err != nil {
			return out, err
		}
		out = append(out, path)
	}
	return out, nil
}

func (r *fitReport) print(a *app) {
	for _, t := range r.Tables {
		fmt.Fprintf(a.out, "%s\n", t.Title)
		table(a.out, t.Header, t.Rows)
		fmt.Fprintln(a.out)
	}
	if r.Train != nil {
		printScores(a, [][2]any{{"rows fitted", r.Train}, {"rows kept out", r.Test}})
	}
	if b := r.Bootstrap; b != nil {
		fmt.Fprintf(a.out, "Intervals of %g %% from %d resamples", 100*b.Level, b.Draws-b.Failed)
		if b.Failed > 0 {
			fmt.Fprintf(a.out, " (%d more could not be fitted)", b.Failed)
		}
		fmt.Fprintln(a.out)
		var rows [][]string
		for _, c := range b.Coefficients {
			rows = append(rows, []string{c.Name, fmt.Sprintf("%.4f", c.Value), fmt.Sprintf("%.4f", *c.Low), fmt.Sprintf("%.4f", *c.High)})
		}
		table(a.out, []string{"coefficient", " estimate", " low", " high"}, rows)
		fmt.Fprintln(a.out)
	}
	for _, n := range r.Notes {
		fmt.Fprintln(a.out, "- "+n)
	}
	if r.Out != "" {
		fmt.Fprintf(a.out, "written to %s\n", r.Out)
	}
	if len(r.Plots) > 0 {
		fmt.Fprintf(a.out, "drawn: %s\n", strings.Join(r.Plots, ", "))
	}
}

// printScores prints rows of scores; a nil one is left out.
func printScores(a *app, list [][2]any) {
	var rows [][]string
	var head []string
	for _, pair := range list {
		s := pair[1].(*fitting.Scores)
		if s == nil {
			continue
		}
		row := []string{pair[0].(string), fmt.Sprint(s.Rows)}
		head = []string{"", " rows"}
		for _, c := range []struct {
			name string
			v    *float64
		}{{" log loss", s.LogLoss}, {" accuracy", s.Accuracy}, {" last class: share", s.Share}, {" predicted", s.Predicted}, {" Brier", s.Brier},
			{" RMSE", s.RMSE}, {" MAE", s.MAE}, {" R²", s.R2}} {
			if c.v != nil {
				head, row = append(head, c.name), append(row, fmt.Sprintf("%.4f", *c.v))
			}
		}
		rows = append(rows, row)
	}
	table(a.out, head, rows)
	fmt.Fprintln(a.out)
}
