package cli

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"time"

	"tare/app/web"
	"tare/method/quant"
)

// quantize stores a model's weights in fewer bits.
type quantize struct {
	Model     string `arg:"" help:"A model folder, a .safetensors or .gguf file, or bundled."`
	Out       string `required:"" placeholder:"DIR" help:"Folder to write the model to."`
	Method    string `default:"rtn" help:"How codes are chosen: rtn rounds to the nearest."`
	Head      bool   `help:"Quantize the output head too."`
	Overwrite bool   `help:"Replace an existing output folder."`

	quant.Options
}

// Help shows examples.
func (*quantize) Help() string {
	return `Linear layers are packed one at a time, so that memory does not grow with the model; embeddings and norms stay as they are. The other verbs read the result.

Examples:
  tare quantize bundled --out small
  tare quantize path/to/model --out small --group 32 --symmetric`
}

// quantized is the result as JSON.
type quantized struct {
	Out    string `json:"out"`
	Method string `json:"method"`
	Bits   int    `json:"bits"`
	Group  int    `json:"group"`
	quant.Report
	Seconds float64 `json:"seconds"`
}

// Run implements the verb.
func (v *quantize) Run(a *app) error {
	method, err := quant.ByName(v.Method)
	if err != nil {
		return usagef("%w", err)
	}
	if err := v.Options.Validate(); err != nil {
		return usagef("%w", err)
	}
	folder, err := openModel(v.Model)
	if err != nil {
		return err
	}
	defer folder.Close()
	if sameFile(folder.Dir, v.Out) {
		return usagef("--out %s is the model itself; choose another name", v.Out)
	}
	began := time.Now()
	p := a.progress("quantize", "bytes")
	report, err := quant.Checkpoint(a.ctx, folder, v.Out, method.New(v.Options), quant.CheckpointOptions{
		Options: v.Options, Head: v.Head, Overwrite: v.Overwrite,
		Progress: func(name string, done, total int64) { p.update(done, total, name) },
	})
	p.done()
	if err != nil {
		return err
	}
	result := quantized{v.Out, v.Method, v.Bits, v.Group, report, time.Since(began).Seconds()}
	if a.JSON {
		return a.printJSON(result)
	}
	result.print(a)
	return nil
}

// sameFile reports whether two paths are one place.
func sameFile(a, b string) bool {
	x, errA := os.Stat(a)
	y, errB := os.Stat(b)
	return errA == nil && errB == nil && os.SameFile(x, y)
}

func (r *quantized) print(a *app) {
	const shown = 10
	layers := slices.Clone(r.Layers)
	slices.SortStableFunc(layers, func(x, y quant.LayerReport) int { return cmp.Compare(y.Error, x.Error) })
	rows := [][]string{}
	for _, l := range layers[:min(shown, len(layers))] {
		rows = append(rows, []string{l.Name, fmt.Sprintf("%d × %d", l.Out, l.In), percent(l.Error)})
	}
	table(a.out, []string{"layers with the largest error", " shape", " relative error"}, rows)
	fmt.Fprintf(a.out, "\n%s: %d layers in %d bits, groups of %d; %s before, %s after (%.1f %%), in %s\n", r.Out, len(r.Layers), r.Bits, r.Group,
		bytesText(r.Before), bytesText(r.After), 100*float64(r.After)/float64(max(1, r.Before)), web.Seconds(r.Seconds))
}
