package merge

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"tare/engine/checkpoint"
)

// ErrMismatch marks models that are not of one shape and so cannot be merged.
var ErrMismatch = errors.New("the models do not match")

// RunOptions says how a merge runs. The zero value will do.
type RunOptions struct {
	Progress   func(done, total int64, tensor string) // in parameters of the merged model
	Resumed    func(files, all int)                   // told when an interrupted run of the same merge is gone on with
	ShardBytes int64                                  // most bytes in one file; 0 means 5 GB
	Buffer     int64                                  // most bytes of buffers; 0 means 64 MiB
	Seed       uint64                                 // of methods that drop at random
	Overwrite  bool                                   // replace a model folder at the output
	DryRun     bool                                   // check and plan, write nothing
}

// standardBuffer keeps pieces near the caches: larger ones are slower.
const standardBuffer = 64 << 20

// Run merges the recipe's models into a new model folder at outDir. Tensors stream
// piece by piece through buffers of fixed size: large ones are cut, the next piece is
// read while one is merged. All is computed in f32 and rounded once. The folder
// appears when it is whole.
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
	for _, step := range []func() error{m.open, m.checkConfigs, m.checkTokenizers, m.chooseChat, m.plan} {
		if err := step(); err != nil {
			return Report{}, err
		}
	}
	report, err := m.report()
	if err != nil || o.DryRun {
		return report, err
	}
	if err := m.write(ctx, &report); err != nil {
		return Report{}, err
	}
	report.Seconds = time.Since(started).Seconds()
	return report, nil
}

// merger is one run.
type merger struct {
	recipe Recipe
	out    string
	o      RunOptions

	opened []*input
	lead   *input // the base, else the first model: its configuration and files are kept
	align  *alignment
	chat   string // the chat template's text; empty keeps the tokenizer's own

	jobs     []job
	piece    int // most entries of a piece
	warnings []string
}

// input is an open model.
type input struct {
	name    string // as the recipe writes it
	path    string
	adapter *adapter // laid over the model; nil for none
	*checkpoint.Folder
}

func (m *merger) close() {
	for _, in := range m.opened {
		in.Close()
		if in.adapter != nil {
			in.adapter.Close()
		}
	}
}

// open opens every model once.
func (m *merger) open() (err error) {
	r := &m.recipe
	if r.Method.Merge == nil || len(r.Slices) == 0 {
		return fmt.Errorf("merge: %w: it names no method or no models", ErrRecipe)
	}
	if r.Base != "" {
		if m.lead, err = m.model(r.Base); err != nil {
			return err
		}
	}
	for i := range r.Slices {
		for _, s := range r.Slices[i].Sources {
			in, err := m.model(s.Model)
			if err != nil {
				return err
			}
			if m.lead == nil {
				m.lead = in
			}
		}
	}
	for _, in := range m.opened {
		if same(in.Dir, m.out) || in.adapter != nil && same(in.adapter.dir, m.out) {
			return fmt.Errorf("merge: %s is the model %s of the recipe; choose another output folder", m.out, in.name)
		}
	}
	return nil
}

// model returns the model of a name, opened once.
func (m *merger) model(name string) (*input, error) {
	path := m.recipe.resolve(name)
	for _, in := range m.opened {
		if in.path == path {
			return in, nil
		}
	}
	folder, err := checkpoint.OpenFolder(path)
	in := &input{name: name, path: path, Folder: folder}
	if model, lora, both := strings.Cut(name, "+"); errors.Is(err, fs.ErrNotExist) && both {
		if in.Folder, err = checkpoint.OpenFolder(m.recipe.resolve(model)); err == nil {
			if in.adapter, err = openAdapter(m.recipe.resolve(lora), in.Folder); err != nil {
				in.Folder.Close()
			}
		}
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("merge: model %s: models are folders on disk, named from the recipe's folder: %w", name, err)
	case err != nil:
		return nil, fmt.Errorf("merge: model %s: %w", name, err)
	}
	m.opened = append(m.opened, in)
	return in, nil
}

// same reports whether two paths are one place.
func same(a, b string) bool {
	x, errA := os.Stat(a)
	y, errB := os.Stat(b)
	return errA == nil && errB == nil && os.SameFile(x, y)
}

// write streams all tensors into a new folder and adds the files that make it a
// model. Files of weights that an interrupted run of the same merge has finished are
// kept.
func (m *merger) write(ctx context.Context, report *Report) error {
	specs := make([]checkpoint.Spec, len(m.jobs))
	for i, j := range m.jobs {
		specs[i] = checkpoint.Spec{Name: j.name, DType: j.stored, Shape: j.shape}
	}
	w, err := checkpoint.CreateFolder(m.out, specs, checkpoint.FolderOptions{ShardBytes: m.o.ShardBytes, Overwrite: m.o.Overwrite, Resume: m.mark(report, specs)})
	if err != nil {
		return fmt.Errorf("merge: %w", err)
	}
	defer w.Abort()
	done, files, all := w.Done()
	if report.Resumed = files; files > 0 && m.o.Resumed != nil {
		m.o.Resumed(files, all)
	}
	left := m.jobs
	m.jobs = m.jobs[done:]
	err = m.stream(ctx, w)
	m.jobs = left
	if err == nil {
		err = ctx.Err()
	}
	if ctx.Err() != nil {
		if files := w.Suspend(); files > 0 {
			return fmt.Errorf("merge: stopped, %d of %d files of weights are finished and the same merge goes on from there: %w", files, all, err)
		}
		return fmt.Errorf("merge: stopped before the end, nothing is written: %w", err)
	}
	if err != nil {
		return err
	}
	if err := m.writeFiles(w, *report); err != nil {
		return fmt.Errorf("merge: %w", err)
	}
	if err := w.Close(); err != nil {
		return fmt.Errorf("merge: %w", err)
	}
	return nil
}

// mark is a fingerprint of all that settles the bytes of the merged weights.
func (m *merger) mark(report *Report, specs []checkpoint.Spec) string {
	h := sha256.New()
	fmt.Fprintln(h, "tare merge 1", m.recipe.Text, m.o.Seed, m.o.ShardBytes, specs)
	for _, in := range report.Inputs {
		fmt.Fprintln(h, in.Model, in.Files)
	}
	return hex.EncodeToString(h.Sum(nil))
}
