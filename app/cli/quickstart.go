package cli

import (
	"fmt"
	"path/filepath"
	"time"

	"tare/app/web"
	"tare/engine/tensor/kernel"
	"tare/lab"
	"tare/lab/quickstart"
)

// quickstartVerb is the main job on what the binary carries.
type quickstartVerb struct {
	Out string `default:"tare-quickstart" placeholder:"DIR" help:"Folder for the report and the models that are made."`
}

// Help shows examples.
func (*quickstartVerb) Help() string {
	return `Tunes the bundled checkpoint on Newton's Opticks in five ways and on word problems, rounds two models to 4 bits, merges two tunes, measures all on held-out text, prints a table and writes an HTML report. It needs no files and about a minute.

Examples:
  tare quickstart
  tare quickstart --out /tmp/first --json`
}

// Run implements the verb.
func (v *quickstartVerb) Run(a *app) error {
	p := a.progress("quickstart", "steps")
	var under string
	res, err := quickstart.Run(a.ctx, v.Out, a.Seed, func(what string, step, steps int) {
		if what != under {
			under = what
			p.done()
			p = a.progress(what, "steps")
			a.remark("· %s", what)
		}
		p.update(int64(step), int64(steps), "")
	})
	p.done()
	if err != nil {
		return err
	}
	report := filepath.Join(v.Out, "report.html")
	if err := writeReport(report, res); err != nil {
		return err
	}
	if a.JSON {
		return a.printJSON(res)
	}
	printQuickstart(a, res)
	fmt.Fprintf(a.out, "\n%s in all. The report is %s; the models stand beside it, for example:\n  tare inspect %s\n  tare diff bundled %s\n",
		time.Duration(res.Seconds*float64(time.Second)).Round(time.Second), report, filepath.Join(v.Out, "merged"), filepath.Join(v.Out, "opticks-full"))
	return nil
}

// printQuickstart prints what the models know, and what tuning them took.
func printQuickstart(a *app, res *quickstart.Result) {
	rows := make([][]string, len(res.Rows))
	for i, r := range res.Rows {
		rows[i] = modelCells(r)
	}
	table(a.out, []string{"model", "kind", " Opticks loss", " source loss", " arithmetic", " size"}, rows)
	fmt.Fprintln(a.out)
	rows = nil
	for _, r := range res.Rows {
		if r.Group == quickstart.Tuned {
			k := r.Peak
			rows = append(rows, []string{r.Name, countText(r.Trainable), fmt.Sprintf("%.1f", r.Seconds), bytesText(k.Weights), bytesText(k.Gradients),
				bytesText(k.Optimizer), bytesText(k.Activations), bytesText(k.Scratch), bytesText(k.Total)})
		}
	}
	table(a.out, []string{"tuning", " trainable", " seconds", " weights", " gradients", " optimizer", " activations", " scratch", " peak memory"}, rows)
}

func modelCells(r quickstart.Row) []string {
	return []string{r.Name, r.Group, fmt.Sprintf("%.4f", r.Opticks), fmt.Sprintf("%.4f", r.Source), percent(r.Arithmetic), bytesText(r.Bytes)}
}

// writeReport writes the HTML page.
func writeReport(path string, res *quickstart.Result) error {
	models := web.Table{
		Columns: []web.Column{{Name: "model"}, {Name: "kind"}, {Name: "Opticks loss", Number: true}, {Name: "source loss", Number: true}, {Name: "arithmetic", Number: true}, {Name: "size", Number: true}},
		Note:    "Losses are nats a token on text that no model has seen; lower is better. Arithmetic is the share of word problems answered exactly.",
	}
	tuning := web.Table{Kinds: lab.Kinds(), Columns: []web.Column{{Name: "model"}, {Name: "trainable", Number: true}, {Name: "time", Number: true}, {Name: "peak memory", Number: true}}}
	curves := web.LineChart{Caption: "Training loss on Opticks", XName: "step", YName: "loss"}
	for _, r := range res.Rows {
		models.Rows = append(models.Rows, web.Row{Cells: modelCells(r), Strong: r.Group == quickstart.Base})
		if r.Group != quickstart.Tuned {
			continue
		}
		k := r.Peak
		tuning.Rows = append(tuning.Rows, web.Row{
			Cells: []string{r.Name, web.Count(r.Trainable), web.Seconds(r.Seconds), web.Bytes(k.Total)},
			Stack: []int64{k.Weights, k.Gradients, k.Optimizer, k.Activations, k.Scratch},
		})
		if r.Task != quickstart.OnOpticks { // another task's losses have another scale
			continue
		}
		run := make([]web.XY, len(r.Curve))
		for i, loss := range r.Curve {
			run[i] = web.XY{X: float64(i + 1), Y: loss}
		}
		curves.Series = append(curves.Series, web.Series{Name: r.Name, Runs: [][]web.XY{run}})
	}
	page := web.Page{
		Title: "Tare quickstart",
		Lead:  "One small checkpoint, tuned on Newton's Opticks in five ways and on arithmetic, quantized and merged; all measured on held-out text.",
		Sections: []web.Section{
			{Title: "What the models know", Blocks: []web.Block{models}},
			{Title: "What tuning took", Blocks: []web.Block{tuning, curves}},
			{Title: "Where it ran", Blocks: []web.Block{web.Facts{{Name: "Processor", Value: lab.CPU()}, {Name: "Kernels", Value: kernel.Info()},
				{Name: "Threads", Value: fmt.Sprint(kernel.Threads())}, {Name: "Date", Value: time.Now().Format("2006-01-02 15:04")}}}},
		},
	}
	return writePage(path, page.Write)
}
