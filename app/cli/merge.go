package cli

import (
	"fmt"

	"tare/app/web"
	"tare/method/merge"
)

// mergeVerb makes one model of several.
type mergeVerb struct {
	Recipe    string `arg:"" placeholder:"RECIPE" help:"A mergekit recipe, YAML; its models are folders, named from the recipe's own."`
	Out       string `placeholder:"DIR" help:"Folder to write the model to."`
	DryRun    bool   `help:"Check the recipe and its models and show the plan; write nothing."`
	Overwrite bool   `help:"Replace an existing output folder."`
}

// Help shows examples.
func (*mergeVerb) Help() string {
	return `Tensors stream through buffers of fixed size, so that memory does not grow with the models. A recipe:

  merge_method: task_arithmetic
  base_model: base
  models:
    - model: one
      parameters: {weight: 0.6}
    - model: two
      parameters: {weight: 0.4}

Examples:
  tare merge recipe.yaml --out merged --dry-run
  tare merge recipe.yaml --out merged`
}

// Run implements the verb.
func (v *mergeVerb) Run(a *app) error {
	if v.Out == "" && !v.DryRun {
		return usagef("missing flags: --out=DIR")
	}
	recipe, err := merge.LoadRecipe(v.Recipe)
	if err != nil {
		return err
	}
	p := a.progress("merge", "parameters")
	report, err := merge.Run(a.ctx, recipe, v.Out, merge.RunOptions{Buffer: int64(a.Memory) / 2,
		DryRun: v.DryRun, Overwrite: v.Overwrite,
		Progress: func(done, total int64, name string) { p.update(done, total, name) },
	})
	p.done()
	if err != nil {
		return err
	}
	if a.JSON {
		return a.printJSON(report)
	}
	printMerge(a, report)
	return nil
}

func printMerge(a *app, r merge.Report) {
	var rows [][]string
	for _, in := range r.Inputs {
		role := "merged"
		if in.Base {
			role = "base"
		}
		rows = append(rows, []string{in.Model, role, fmt.Sprint(in.Tensors), bytesText(in.Bytes)})
	}
	table(a.out, []string{"model", "role", " tensors", " bytes"}, rows)
	for _, w := range r.Warnings {
		a.remark("Note: %s.", w)
	}
	fmt.Fprintln(a.out)
	what := fmt.Sprintf("%d tensors, %s parameters, %s, by %s", r.Tensors, countText(r.Parameters), bytesText(r.OutputBytes), r.Method)
	if r.DryRun {
		rows = nil
		for _, t := range r.Plan {
			rows = append(rows, []string{t.Name, t.DType, shapeText(t.Shape), fmt.Sprint(t.Pieces)})
		}
		table(a.out, []string{"tensor", "dtype", " shape", " pieces"}, rows)
		fmt.Fprintf(a.out, "\nplan: %s, with buffers of %s; nothing is written\n", what, bytesText(r.BufferBytes))
		return
	}
	fmt.Fprintf(a.out, "%s: %s, in %s\n", r.Output, what, web.Seconds(r.Seconds))
}
