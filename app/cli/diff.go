package cli

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"tare/app/web"
	"tare/method/merge"
)

// diff shows what changed between two checkpoints.
type diff struct {
	A         string  `arg:"" help:"The first checkpoint: a folder, a .safetensors or .gguf file, or bundled."`
	B         string  `arg:"" help:"The second one."`
	Spectrum  bool    `help:"The rank of each matrix's change and the overlap of the principal subspaces as well."`
	Rank      int     `default:"8" help:"Dimensions of the subspaces that --spectrum compares."`
	Tolerance float64 `default:"1e-5" help:"An entry counts as changed when it moved by more than this."`
	Top       int     `default:"20" help:"Rows of the table, those that changed most; 0 means all."`
}

// Help shows examples.
func (*diff) Help() string {
	return `For every tensor: how many entries changed, the norm of the change over the norm of the first tensor, and the angle. Tensors stream, so that size does not matter.

Examples:
  tare diff path/to/base path/to/tuned
  tare diff path/to/base path/to/tuned --spectrum --json`
}

// differences is the result as JSON.
type differences struct {
	A       string             `json:"a"`
	B       string             `json:"b"`
	Tensors []merge.TensorDiff `json:"tensors"`
	Kinds   []groupDiff        `json:"kinds"`
	Layers  []groupDiff        `json:"layers"`
	Total   groupDiff          `json:"total"`
}

// groupDiff is how a set of tensors differs, taken as one long vector.
type groupDiff struct {
	Name     string  `json:"name"`
	Tensors  int     `json:"tensors"`
	Changed  float64 `json:"changed"`
	Relative float64 `json:"relative"`

	entries, changed, squareA, squareDelta float64
}

// Run implements the verb.
func (v *diff) Run(a *app) error {
	if v.Rank < 1 || v.Top < 0 || !(v.Tolerance >= 0) || math.IsInf(v.Tolerance, 0) {
		return usagef("--rank %d, --top %d, --tolerance %g: want at least 1, 0 and 0", v.Rank, v.Top, v.Tolerance)
	}
	folderA, err := openModel(v.A)
	if err != nil {
		return err
	}
	defer folderA.Close()
	folderB, err := openModel(v.B)
	if err != nil {
		return err
	}
	defer folderB.Close()
	p := a.progress("diff", "tensors")
	tensors, err := merge.Diff(a.ctx, folderA, folderB, merge.DiffOptions{
		Tolerance: v.Tolerance, Spectrum: v.Spectrum, Rank: v.Rank,
		Progress: func(done, total int, name string) { p.update(int64(done), int64(total), name) },
	})
	p.done()
	if err != nil {
		return err
	}
	slices.SortStableFunc(tensors, func(x, y merge.TensorDiff) int {
		if (x.Note != "" || x.Only != "") != (y.Note != "" || y.Only != "") {
			return map[bool]int{true: -1, false: 1}[x.Note != "" || x.Only != ""] // what could not be measured comes first
		}
		return cmp.Compare(y.Relative, x.Relative)
	})
	d := &differences{A: v.A, B: v.B, Tensors: tensors}
	d.group()
	if a.JSON {
		return a.printJSON(d)
	}
	d.print(a, v)
	return nil
}

// group adds the tensors up by the last part of the layer's name, by layer, and all.
func (d *differences) group() {
	kinds, layers := map[string]*groupDiff{}, map[string]*groupDiff{}
	d.Total.Name = "all"
	for i := range d.Tensors {
		t := &d.Tensors[i]
		if t.Only != "" || t.ShapeB != nil {
			continue
		}
		d.Total.add(t)
		addTo(kinds, kindOf(t.Name), t)
		if layer := layerNumber(t.Name); layer >= 0 {
			addTo(layers, strconv.Itoa(layer), t)
		}
	}
	d.Total.finish()
	d.Kinds, d.Layers = finished(kinds), finished(layers)
	slices.SortFunc(d.Kinds, func(x, y groupDiff) int {
		return cmp.Or(cmp.Compare(y.Relative, x.Relative), cmp.Compare(x.Name, y.Name))
	})
	slices.SortFunc(d.Layers, func(x, y groupDiff) int {
		return cmp.Or(cmp.Compare(len(x.Name), len(y.Name)), cmp.Compare(x.Name, y.Name))
	})
}

func addTo(groups map[string]*groupDiff, name string, t *merge.TensorDiff) {
	if groups[name] == nil {
		groups[name] = &groupDiff{Name: name}
	}
	groups[name].add(t)
}

func (g *groupDiff) add(t *merge.TensorDiff) {
	n := 1.0
	for _, s := range t.Shape {
		n *= float64(s)
	}
	g.Tensors++
	g.entries += n
	g.changed += n * t.Changed
	g.squareA += t.NormA * t.NormA
	g.squareDelta += t.NormDelta * t.NormDelta
}

func (g *groupDiff) finish() {
	if g.entries > 0 {
		g.Changed = g.changed / g.entries
	}
	if g.squareA > 0 {
		g.Relative = math.Sqrt(g.squareDelta / g.squareA)
	}
}

func finished(groups map[string]*groupDiff) []groupDiff {
	out := []groupDiff{}
	for _, g := range groups {
		g.finish()
		out = append(out, *g)
	}
	return out
}

// kindOf returns q_proj for model.layers.7.self_attn.q_proj.weight.
func kindOf(name string) string {
	parts := strings.Split(name, ".")
	if n := len(parts); n > 1 {
		switch parts[n-1] {
		case "weight":
			return parts[n-2]
		case "bias":
			return parts[n-2] + " bias"
		}
	}
	return parts[len(parts)-1]
}

// layerNumber returns 7 for model.layers.7.mlp.up_proj.weight, -1 where there is no
// number.
func layerNumber(name string) int {
	for part := range strings.SplitSeq(name, ".") {
		if n, err := strconv.Atoi(part); err == nil && n >= 0 {
			return n
		}
	}
	return -1
}

func (d *differences) print(a *app, v *diff) {
	header := []string{"tensor", " shape", " changed", " relative", " cosine", " largest"}
	if v.Spectrum {
		header = append(header, " rank", " overlap")
	}
	header = append(header, "remark")
	shown := d.Tensors
	if v.Top > 0 && len(shown) > v.Top {
		shown = shown[:v.Top]
	}
	var rows [][]string
	for _, t := range shown {
		row := []string{t.Name, shapeText(t.Shape)}
		if t.Only != "" || t.ShapeB != nil {
			row = append(row, "–", "–", "–", "–")
		} else {
			row = append(row, percent(t.Changed), web.Number(t.Relative), fmt.Sprintf("%.6f", t.Cosine), web.Number(t.MaxDelta))
		}
		if s := t.Spectrum; s != nil {
			row = append(row, fmt.Sprintf("%d of %d", s.Rank, s.Full), fmt.Sprintf("%.4f", s.Overlap))
		} else if v.Spectrum {
			row = append(row, "–", "–")
		}
		rows = append(rows, append(row, remarkOn(t)))
	}
	table(a.out, header, rows)
	if hidden := len(d.Tensors) - len(shown); hidden > 0 {
		fmt.Fprintf(a.out, "and %d tensors that changed no more; --top 0 shows all\n", hidden)
	}
	for _, part := range []struct {
		name   string
		groups []groupDiff
	}{{"kind", d.Kinds}, {"layer", append(d.Layers, d.Total)}} {
		rows := make([][]string, len(part.groups))
		for i, g := range part.groups {
			rows[i] = []string{g.Name, fmt.Sprint(g.Tensors), percent(g.Changed), web.Number(g.Relative)}
		}
		fmt.Fprintln(a.out)
		table(a.out, []string{part.name, " tensors", " changed", " relative"}, rows)
	}
}

func remarkOn(t merge.TensorDiff) string {
	switch {
	case t.Only == "a":
		return "only in the first"
	case t.Only == "b":
		return "only in the second"
	case t.ShapeB != nil:
		return "is " + shapeText(t.ShapeB) + " in the second"
	}
	return t.Note
}

func percent(v float64) string { return fmt.Sprintf("%.2f %%", 100*v) }
