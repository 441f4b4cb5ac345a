package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"tare/app/web"
	"tare/lab/compare"
)

// compareVerb runs adaptation methods side by side.
type compareVerb struct {
	Model     string     `arg:"" optional:"" help:"The base: a model folder, a .safetensors or .gguf file, or bundled (the default)."`
	File      recipeFile `name:"recipe" placeholder:"FILE" help:"YAML file of these flags, as key: value with underscores; model and all others."`
	Data      []string   `default:"bundled:opticks,bundled:arithmetic" placeholder:"DATA" help:"Text, or JSON lines of prompts and completions, or bundled:opticks, bundled:arithmetic, bundled:source; each with settings of its own, as in \"book.txt steps=100 batch=8 seq_len=128\" (${default})."`
	Methods   []string   `default:"all" placeholder:"METHOD" help:"full or one of ${methods}, each with settings of its own, as in \"lora rank=8 lr=0.001\"; all for every one (${default})."`
	Targets   []string   `placeholder:"LAYER" help:"Layers to adapt, by the last part of their name; each method's own choice without it."`
	Trainable int64      `placeholder:"N" help:"Budget: trained entries. Every method's rank is chosen to come nearest. Without a budget it is what lora trains at its default rank."`
	Peak      size       `placeholder:"SIZE" help:"Budget: memory of a training step, by the ledger. Every method gets the largest rank that fits."`
	Seconds   float64    `placeholder:"S" help:"Budget: seconds of training, instead of a number of steps."`
	Seeds     int        `default:"3" help:"Seeds of every method (${default})."`
	LR        string     `name:"lr" default:"auto" help:"Learning rate, or auto to choose one for each method on the validation split (${default})."`
	Steps     int        `placeholder:"N" help:"Steps on data that does not say its own."`
	Batch     int        `placeholder:"N" help:"Sequences in a step on data that does not say its own."`
	SeqLen    int        `placeholder:"N" help:"Tokens in a sequence on data that does not say its own."`
	Source    string     `placeholder:"FILE" help:"Text that tells what was forgotten; for the bundled base its source domain, otherwise none."`
	Workers   int        `placeholder:"N" help:"Processes at once, of one thread each; 0 means one a core." default:"0"`
	Report    string     `placeholder:"FILE" help:"HTML page to write; without it one beside the records."`
}

// Help shows examples.
func (*compareVerb) Help() string {
	return `Every method is tuned on the same base and data at the same budget, with a learning rate chosen on the validation split with seed 0, and measured on the test split with every seed: held-out loss, exact answers where the data has answers, memory and time of a step, what merging changes, what was forgotten. The last twentieth of a file is its test split and the one before it its validation split.

Cells run in processes of one thread, as many as there are cores and as fit into --memory. What is measured is kept in the folder TARE_STATE, else in the user's state folder, under the base, the data, the settings, the seed, the commit and the processor, so that the same command goes on after Ctrl-C, and a further method only costs itself.

Examples:
  tare compare
  tare compare --methods full,lora,paca --data bundled:opticks --seeds 2
  tare compare path/to/model --data book.txt --methods "lora rank=8,lora rank=32,dora" --seconds 60
  tare compare --peak 90MiB --methods lora,paca,s2ft
  tare compare --recipe compare.yaml --json > compare.json`
}

// Run implements the verb.
func (v *compareVerb) Run(a *app) error {
	r, err := v.recipe()
	if err != nil {
		return err
	}
	store, err := openRecords()
	if err != nil {
		return err
	}
	defer store.Close()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	p := a.progress("compare", "cells")
	c, err := compare.Run(a.ctx, r, compare.Options{
		Worker:  func() *exec.Cmd { return exec.Command(self, "compare-worker", "--threads", "1") },
		Workers: v.Workers, Memory: int64(a.Memory), Store: store,
		Progress: func(done, total int, note string) { p.update(int64(done), int64(total), note) },
		Log:      func(line string) { p.say("%s", line) },
	})
	p.done()
	if err != nil {
		return err
	}
	return v.report(a, c)
}

// recipe reads the flags.
func (v *compareVerb) recipe() (compare.Recipe, error) {
	name, err := v.File.text(v.Model, "model")
	if err != nil {
		return compare.Recipe{}, err
	}
	if name == "" {
		name = bundled
	}
	r := compare.Recipe{Targets: v.Targets, Seeds: v.Seeds, Source: v.Source,
		Budget: compare.Budget{Trainable: v.Trainable, Peak: int64(v.Peak), Seconds: v.Seconds}}
	if r.Source == "" && name == bundled {
		r.Source = compare.SourceText
	}
	if v.Workers < 0 {
		return r, usagef("--workers %d, want 0 or more", v.Workers)
	}
	if v.LR != "auto" {
		if r.LR, err = strconv.ParseFloat(v.LR, 64); err != nil || !(r.LR > 0) {
			return r, usagef("--lr %q, want a positive number or auto", v.LR)
		}
	}
	for _, text := range v.Data {
		d, err := compare.ParseData(text, compare.Data{Batch: v.Batch, SeqLen: v.SeqLen, Steps: v.Steps})
		if err != nil {
			return r, err
		}
		r.Data = append(r.Data, d)
	}
	for _, text := range v.Methods {
		m, err := compare.ParseMethod(text)
		if err != nil {
			return r, err
		}
		r.Methods = append(r.Methods, m...)
	}
	if err := r.Validate(); err != nil {
		return r, err
	}
	r.Base, err = resolveModel(name)
	return r, err
}

// report writes the page and prints the table, or JSON. Cells that broke are told after
// all that was measured.
func (v *compareVerb) report(a *app, c *compare.Comparison) error {
	path := v.Report
	if path == "" {
		dir, err := stateDir()
		if err != nil {
			return err
		}
		path = filepath.Join(dir, "reports", "compare.html")
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
	}
	if err := writePage(path, func(w io.Writer) error { return web.WriteComparison(w, c) }); err != nil {
		return err
	}
	if a.JSON {
		if err := a.printJSON(c); err != nil {
			return err
		}
	} else {
		printComparison(a, c)
	}
	a.remark("Report with plots: %s", path)
	if n := len(c.Broken); n > 0 {
		return fmt.Errorf("%d cells are missing, the first: %s; the same command tries them again", n, c.Broken[0])
	}
	return nil
}

// printComparison prints what the methods learnt and what it took, and memory by kind.
func printComparison(a *app, c *compare.Comparison) {
	printTable(a, web.ComparisonTable(c))
	fmt.Fprintln(a.out)
	printTable(a, web.ComparisonMemory(c))
}

// printTable prints a page's table; reasons that span columns and its note stand below.
func printTable(a *app, t web.Table) {
	header := make([]string, len(t.Columns))
	for i, col := range t.Columns {
		if header[i] = col.Name; col.Number {
			header[i] = " " + col.Name
		}
	}
	var rows [][]string
	var reasons []string
	for _, r := range t.Rows {
		row := r.Cells
		if r.Span != "" {
			reasons = append(reasons, fmt.Sprintf("%s: %s", r.Cells[0], r.Span))
			row = append([]string{}, r.Cells...)
			for len(row) < len(header) {
				row = append(row, "–")
			}
		}
		rows = append(rows, row)
	}
	table(a.out, header, rows)
	fmt.Fprintf(a.out, "\n%s\n", indent(t.Note, 0, 96))
	for _, why := range reasons {
		fmt.Fprintf(a.out, "%s\n", indent(why, 2, 96))
	}
}

// compareWorker does one cell of a comparison: it is started by tare compare.
type compareWorker struct{}

// Help says who calls it.
func (*compareWorker) Help() string {
	return `Reads a cell of a comparison from standard input as JSON and writes what it measured. tare compare starts it.

Examples:
  tare compare-worker < cell.json`
}

// Run implements the verb.
func (*compareWorker) Run(a *app) error {
	err := compare.Work(a.ctx, a.in, a.out)
	if errors.Is(err, context.Canceled) {
		return context.Canceled
	}
	return err
}
