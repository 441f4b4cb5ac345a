package cli

import (
	"fmt"
	"strings"

	"tare/app/web"
	"tare/method/merge"
)

// mergeVerb makes one model of several.
type mergeVerb struct {
	Recipe    string `arg:"" placeholder:"RECIPE" help:"A mergekit recipe, YAML; its models are folders, named from the recipe's own."`
	Out       string `placeholder:"DIR" help:"Folder to write the model to."`
	ShardSize size   `placeholder:"SIZE" help:"Most bytes in one file of weights; an interrupted merge goes on from the last whole one." default:"5GB"`
	DryRun    bool   `help:"Check the recipe and its models and show the plan, its size and the memory that it will take; write nothing."`
	Overwrite bool   `help:"Replace an existing output folder."`
}

// Help shows examples.
func (*mergeVerb) Help() string {
	return `Tensors stream through buffers of fixed size, so that memory does not grow with the models. A model is a folder, or a folder and a LoRA adapter as model+adapter. Methods: ` + strings.Join(methodNames(), ", ") + `. A recipe:

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
		ShardBytes: int64(v.ShardSize), Seed: a.Seed, DryRun: v.DryRun, Overwrite: v.Overwrite,
		Progress: func(done, total int64, name string) { p.update(done, total, name) },
		Resumed: func(files, all int) {
			a.remark("Note: an interrupted run of this merge is gone on with; %d of %d files were finished.", files, all)
		},
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

func methodNames() (names []string) {
	for _, m := range merge.Methods() {
		names = append(names, m.Name)
	}
	return names
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
		fmt.Fprintf(a.out, "\nplan: %s, with buffers of %s, %s of memory in all; nothing is written\n", what, bytesText(r.BufferBytes), bytesText(r.MemoryBytes))
		return
	}
	fmt.Fprintf(a.out, "%s: %s, in %s\n", r.Output, what, web.Seconds(r.Seconds))
}
