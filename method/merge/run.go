package merge

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"tare/engine/checkpoint"
	"tare/engine/tensor"
)

// ErrMismatch marks models that are not of one shape and so cannot be merged.
var ErrMismatch = errors.New("the models do not match")

// RunOptions says how a merge runs. The zero value will do.
type RunOptions struct {
	Progress   func(done, total int64, tensor string) // in parameters of the merged model
	ShardBytes int64                                  // most bytes in one file; 0 means 5 GB
	Buffer     int64                                  // most bytes of buffers; 0 means 256 MiB
	Overwrite  bool                                   // replace a model folder at the output
	DryRun     bool                                   // check and plan, write nothing
}

const standardBuffer = 256 << 20

// Run merges the recipe's models into a new model folder at outDir. Tensors stream
// piece by piece through buffers of fixed size: large ones are cut into rows, the
// next piece is read while one is merged. All is computed in f32 and rounded once.
// The folder appears when it is whole.
func Run(ctx context.Context, r *Recipe, outDir string, o RunOptions) (Report, error) {
	started := time.Now()
	out, err := filepath.Abs(outDir)
	if err != nil {
		return Report{}, fmt.Errorf("merge: %w", err)
	}
	m := &merger{recipe: *r, out: out, o: o}
	if m.o.Buffer <= 0 {
		m.o.Buffer = standardBuffer
	}
	defer m.close()
	if err := m.open(); err != nil {
		return Report{}, err
	}
	if err := m.check(); err != nil {
		return Report{}, err
	}
	m.plan()
	report, err := m.report()
	if err != nil || o.DryRun {
		return report, err
	}
	if err := m.write(ctx, report); err != nil {
		return Report{}, err
	}
	report.Seconds = time.Since(started).Seconds()
	return report, nil
}

// merger is one run.
type merger struct {
	recipe Recipe // its Models without the base where the method adds changes to it
	out    string
	o      RunOptions

	opened []*input
	models []*input // as recipe.Models
	base   *input   // nil for none
	lead   *input   // the base, else the first model: its configuration and files are kept

	jobs     []job
	piece    int // most elements of a piece
	warnings []string
}

// input is an open model.
type input struct {
	name string // as the recipe writes it
	path string
	*checkpoint.Folder
}

// job is one tensor of the merged model.
type job struct {
	name   string
	shape  []int
	n      int
	stored tensor.DType
	copied bool // not floating-point: taken over as it is
	depth  float64
}

func (m *merger) close() {
	for _, in := range m.opened {
		in.Close()
	}
}

// open opens every model once.
func (m *merger) open() (err error) {
	r := &m.recipe
	switch {
	case r.Method.Merge == nil || len(r.Models) == 0:
		return fmt.Errorf("merge: %w: it names no method or no models", ErrRecipe)
	case r.Method.NeedsBase && r.Base == "":
		return fmt.Errorf("merge: %w: %s needs a base_model", ErrRecipe, r.Method.Name)
	}
	if r.Base != "" {
		if m.base, err = m.openModel(r.Base); err != nil {
			return err
		}
	}
	var sources []Source
	for _, s := range r.Models {
		in, err := m.openModel(s.Model)
		if err != nil {
			return err
		}
		if in == m.base && r.Method.NeedsBase {
			continue // its change from itself is zero
		}
		m.models = append(m.models, in)
		sources = append(sources, s)
	}
	if r.Models = sources; len(sources) == 0 {
		return fmt.Errorf("merge: %w: models lists none beside the base %s", ErrRecipe, r.Base)
	}
	if m.lead = m.base; m.lead == nil {
		m.lead = m.models[0]
	}
	for _, in := range m.opened {
		if same(in.Dir, m.out) {
			return fmt.Errorf("merge: %s is the model %s of the recipe; choose another output folder", m.out, in.name)
		}
	}
	return nil
}

func (m *merger) openModel(name string) (*input, error) {
	path := m.recipe.resolve(name)
	for _, in := range m.opened {
		if in.path == path {
			return in, nil
		}
	}
	folder, err := checkpoint.OpenFolder(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && strings.Contains(name, "+"):
		return nil, fmt.Errorf("merge: model %s: a model with an adapter cannot be merged as it is; merge the adapter into its base first: %w", name, err)
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("merge: model %s: models are folders on disk, named from the recipe's folder: %w", name, err)
	case err != nil:
		return nil, fmt.Errorf("merge: model %s: %w", name, err)
	}
	in := &input{name: name, path: path, Folder: folder}
	m.opened = append(m.opened, in)
	return in, nil
}

// same reports whether two paths are one place.
func same(a, b string) bool {
	x, errA := os.Stat(a)
	y, errB := os.Stat(b)
	return errA == nil && errB == nil && os.SameFile(x, y)
}

// check refuses models that do not match: other tensors, shapes, kinds or
// architectures. It names the first few differences.
func (m *merger) check() error {
	const most = 8
	var errs []error
	for _, in := range m.opened {
		if in != m.lead {
			errs = append(errs, m.differences(in)...)
		}
	}
	if more := len(errs) - most; more > 0 {
		errs = append(errs[:most], fmt.Errorf("merge: %w: %d more differences", ErrMismatch, more))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if err := m.checkConfigs(); err != nil {
		return err
	}
	return m.checkTokenizers()
}

// differences lists how a model's tensors differ from the lead's.
func (m *merger) differences(in *input) (errs []error) {
	add := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("merge: %w: "+format, append([]any{ErrMismatch}, args...)...))
	}
	for _, name := range m.lead.Names() {
		want, _ := m.lead.Info(name)
		got, ok := in.Info(name)
		switch {
		case !ok:
			add("model %s lacks tensor %q, which %s has", in.name, name, m.lead.name)
		case !slices.Equal(got.Shape, want.Shape):
			add("tensor %q is %v in %s and %v in %s", name, want.Shape, m.lead.name, got.Shape, in.name)
		case want.DType.IsFloat() != got.DType.IsFloat():
			add("tensor %q is %s in %s and %s in %s", name, want.DType, m.lead.name, got.DType, in.name)
		case !want.DType.IsFloat():
			if err := m.sameBytes(in, name); err != nil {
				errs = append(errs, err)
			}
		}
	}
	for _, name := range in.Names() {
		if _, ok := m.lead.Info(name); !ok {
			add("model %s lacks tensor %q, which %s has", m.lead.name, name, in.name)
		}
	}
	return errs
}

// sameBytes refuses whole numbers that differ: there is no merging them.
func (m *merger) sameBytes(in *input, name string) error {
	a, err := m.lead.Tensor(name)
	if err != nil {
		return err
	}
	b, err := in.Tensor(name)
	if err != nil {
		return err
	}
	if a.DType() != b.DType() || !bytes.Equal(a.Bytes(), b.Bytes()) {
		return fmt.Errorf("merge: %w: tensor %q is %s, which cannot be merged, and differs between %s and %s",
			ErrMismatch, name, a.DType(), m.lead.name, in.name)
	}
	return nil
}

// plan lists the merged model's tensors and sets the pieces' size.
func (m *merger) plan() {
	names := m.lead.Names()
	depth := depths(names)
	largest := 0
	for _, name := range names {
		info, _ := m.models[0].Info(name)
		j := job{name: name, shape: info.Shape, n: 1, stored: info.DType, copied: !info.DType.IsFloat(), depth: depth[name]}
		for _, d := range info.Shape {
			j.n *= d
		}
		if !j.copied {
			j.stored = m.recipe.storedAs(info.DType)
			largest = max(largest, j.n)
		}
		m.jobs = append(m.jobs, j)
	}
	m.piece = min(largest, max(1, int(m.o.Buffer/m.bytesPerElement())))
}

// bytesPerElement is what one element of a piece takes: the inputs twice over, as
// one piece is read while another is merged, the result in f32 and as it is stored.
func (m *merger) bytesPerElement() int64 {
	inputs := len(m.models)
	if m.base != nil {
		inputs++
	}
	const f32, slots, stored = 4, 2, 2
	return int64(inputs*f32*slots + f32 + stored)
}

// storedAs returns the type that a tensor of the first model is stored as.
func (r *Recipe) storedAs(own tensor.DType) tensor.DType {
	for _, name := range []string{r.OutDType, r.DType} {
		if d, err := tensor.ParseDType(name); err == nil {
			return d
		}
	}
	if own == tensor.F64 {
		return tensor.F32 // what it is computed in
	}
	return own
}

// write streams all tensors into a new folder and adds the files that make it a
// model.
func (m *merger) write(ctx context.Context, report Report) error {
	specs := make([]checkpoint.Spec, len(m.jobs))
	for i, j := range m.jobs {
		specs[i] = checkpoint.Spec{Name: j.name, DType: j.stored, Shape: j.shape}
	}
	w, err := checkpoint.CreateFolder(m.out, specs, checkpoint.FolderOptions{ShardBytes: m.o.ShardBytes, Overwrite: m.o.Overwrite})
	if err != nil {
		return fmt.Errorf("merge: %w", err)
	}
	defer w.Abort()
	if err := m.stream(ctx, w); err != nil {
		return err
	}
	if err := m.writeFiles(w, report); err != nil {
		return fmt.Errorf("merge: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("merge: stopped before the end, nothing is written: %w", err)
	}
	if err := w.Close(); err != nil {
		return fmt.Errorf("merge: %w", err)
	}
	return nil
}

// writeFiles writes what stands beside the weights.
func (m *merger) writeFiles(w *checkpoint.FolderWriter, report Report) error {
	config, err := m.config()
	if err != nil {
		return err
	}
	if config != nil {
		if err := w.File("config.json", config); err != nil {
			return err
		}
	}
	if err := w.CopyFrom(m.tokenizerFrom().Folder, checkpoint.AuxiliaryFiles()...); err != nil {
		return err
	}
	provenance, err := m.provenance(report)
	if err != nil {
		return err
	}
	if err := w.File(ProvenanceFile, provenance); err != nil {
		return err
	}
	return w.File("README.md", m.card(filepath.Base(m.out), report))
}
