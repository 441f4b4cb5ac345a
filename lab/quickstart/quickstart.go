// Package quickstart is the main job in one piece, on what the binary carries: tune
// the bundled checkpoint on a second text domain in five ways, tune it on arithmetic,
// quantize it, merge two tunes, and measure all of them on text that none has seen.
// It only calls what the verbs call.
package quickstart

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"tare/engine/checkpoint"
	"tare/engine/data"
	"tare/engine/eval"
	"tare/engine/grad"
	"tare/engine/model"
	"tare/engine/tensor"
	"tare/engine/text"
	"tare/lab/bundle"
	"tare/lab/tuning"
	"tare/method/adapt"
	"tare/method/merge"
	"tare/method/quant"
)

// Row is one model of the result.
type Row struct {
	Name  string `json:"name"`
	Group string `json:"group"` // Base, Tuned, Compressed or Merged
	Path  string `json:"path"`  // where it stands; empty for the base
	// Opticks and Source are the losses in nats a token on the tuning domain and on
	// the domain the base was trained on; Arithmetic is the share of right answers.
	Opticks    float64 `json:"opticks_loss"`
	Source     float64 `json:"source_loss"`
	Arithmetic float64 `json:"arithmetic_exact"`
	Bytes      int64   `json:"bytes"` // of the tensors on the disk
	// The rest is known of tuned models only.
	Trainable int64     `json:"trainable,omitempty"`
	Seconds   float64   `json:"seconds,omitempty"`
	Peak      grad.Peak `json:"peak_bytes"`
	Curve     []float64 `json:"curve,omitempty"` // training loss by step
	Task      string    `json:"task,omitempty"`  // what it was tuned on
}

// What models are tuned on.
const (
	OnOpticks    = "opticks"
	OnArithmetic = "arithmetic"
)

// The groups of rows.
const (
	Base       = "base"
	Tuned      = "tuned"
	Compressed = "quantized"
	Merged     = "merged"
)

// Result is what the job found.
type Result struct {
	Rows    []Row   `json:"rows"`
	Seconds float64 `json:"seconds"`
}

// Watch is told what is under way: step of steps within a piece of work.
type Watch func(what string, step, steps int)

// way is one way to tune on the second domain.
type way struct {
	name    string
	method  string
	options map[string]string
	lr      float64
}

// ways gives every adapter about 170 thousand trained entries, LoRA's at rank 8.
func ways() []way {
	return []way{
		{"full", tuning.Full, nil, 0.002},
		{"lora", "lora", map[string]string{"rank": "8"}, 0.008},
		{"bone", "bone", map[string]string{"rank": "16"}, 0.006},
		{"bat", "bat", map[string]string{"rank": "16"}, 0.006},
		{"paca", "paca", map[string]string{"rank": "16"}, 0.006},
	}
}

// settings are the sizes of the job.
type settings struct {
	steps, batch, seqLen      int // of tuning on the second domain
	mathSteps, mathBatch      int // of tuning on the word problems
	mathProblems              int // to learn from
	questions                 int // to answer
	opticksBytes, sourceBytes int // of the domains' held-out texts; 0 means all
}

// standard is a job of some two minutes.
func standard() settings {
	return settings{
		steps: 60, batch: 8, seqLen: 128, mathSteps: 500, mathBatch: 32, mathProblems: 8000, questions: 100, sourceBytes: 60_000,
	}
}

// job is one run of the main job.
type job struct {
	ctx    context.Context
	dir    string
	seed   uint64
	watch  Watch
	set    settings
	folder *checkpoint.Folder
	tok    *text.Tokenizer
	result Result

	opticks, source []*data.Batch
	problems        []eval.Question
}

// Run does the job, writing models below dir, which it makes.
func Run(ctx context.Context, dir string, seed uint64, watch Watch) (*Result, error) {
	return run(ctx, dir, seed, watch, standard())
}

func run(ctx context.Context, dir string, seed uint64, watch Watch, set settings) (*Result, error) {
	began := time.Now()
	j := &job{ctx: ctx, dir: dir, seed: seed, watch: watch, set: set}
	if err := j.open(); err != nil {
		return nil, err
	}
	defer j.folder.Close()
	if err := j.base(); err != nil {
		return nil, err
	}
	for _, w := range ways() {
		if err := j.tune(w); err != nil {
			return nil, fmt.Errorf("quickstart: %s: %w", w.name, err)
		}
	}
	for _, step := range []func() error{j.arithmetic, j.quantize, j.merge} {
		if err := step(); err != nil {
			return nil, fmt.Errorf("quickstart: %w", err)
		}
	}
	j.result.Seconds = time.Since(began).Seconds()
	return &j.result, nil
}

func (j *job) open() error {
	if err := os.MkdirAll(j.dir, 0o777); err != nil {
		return fmt.Errorf("quickstart: %w", err)
	}
	path, err := bundle.Folder()
	if err != nil {
		return err
	}
	if j.folder, err = checkpoint.OpenFolder(path); err != nil {
		return err
	}
	raw, err := j.folder.Read("tokenizer.json")
	if err != nil {
		return err
	}
	if j.tok, err = text.Parse(raw); err != nil {
		return err
	}
	if j.opticks, err = j.heldOut(bundle.Opticks(bundle.Test), j.set.opticksBytes); err != nil {
		return err
	}
	if j.source, err = j.heldOut(bundle.Source(bundle.Test), j.set.sourceBytes); err != nil {
		return err
	}
	_, _, test := bundle.ArithmeticSplits(0, 0, j.set.questions)
	for _, p := range test {
		j.problems = append(j.problems, eval.Question{Prompt: p.Prompt(), Answer: p.Completion()})
	}
	return nil
}

// heldOut returns the first bytes of a text, or all, in batches.
func (j *job) heldOut(text string, bytes int) ([]*data.Batch, error) {
	if bytes > 0 {
		text = text[:bytes]
	}
	return data.WindowBatches(j.tok.EncodeOrdinary(text), j.set.seqLen, 16)
}

// add measures a model and appends its row.
func (j *job) add(r Row, m model.Causal) error {
	opticks, err := eval.Loss(j.ctx, m, j.opticks, 0, nil)
	if err != nil {
		return err
	}
	source, err := eval.Loss(j.ctx, m, j.source, 0, nil)
	if err != nil {
		return err
	}
	r.Opticks, r.Source = opticks.Loss, source.Loss
	if r.Arithmetic, err = eval.ExactMatch(j.ctx, m, j.tok, j.problems, nil); err != nil {
		return err
	}
	j.result.Rows = append(j.result.Rows, r)
	return nil
}

// addFolder measures the model of a folder.
func (j *job) addFolder(r Row) error {
	f, err := checkpoint.OpenFolder(r.Path)
	if err != nil {
		return err
	}
	defer f.Close()
	m, err := model.Load(f.Config, f, model.LoadOptions{Keep: true})
	if err != nil {
		return err
	}
	r.Bytes = tensorBytes(f)
	return j.add(r, m)
}

func tensorBytes(f *checkpoint.Folder) int64 {
	var n int64
	for _, name := range f.Names() {
		info, _ := f.Info(name)
		n += info.Bytes
	}
	return n
}

func (j *job) base() error {
	j.watch("measure the base", 0, 1)
	m, err := model.Load(j.folder.Config, j.folder, model.LoadOptions{Keep: true})
	if err != nil {
		return err
	}
	return j.add(Row{Name: "base", Group: Base, Bytes: tensorBytes(j.folder)}, m)
}

// tune tunes in one way on Opticks and saves what came of it: an adapter, or the model
// when everything trained.
func (j *job) tune(w way) error {
	r := tuning.Default()
	r.Method, r.Options, r.LR, r.Steps, r.Batch, r.SeqLen = w.method, w.options, w.lr, j.set.steps, j.set.batch, j.set.seqLen
	d, err := tuning.TextData(j.tok, bundle.Opticks(bundle.Train), "", r, j.seed)
	if err != nil {
		return err
	}
	return j.train(w.name, OnOpticks, r, d)
}

// arithmetic tunes everything on the word problems.
func (j *job) arithmetic() error {
	r := tuning.Default()
	r.Method, r.LR, r.Steps, r.Batch = tuning.Full, 0.001, j.set.mathSteps, j.set.mathBatch
	train, _, _ := bundle.ArithmeticSplits(j.set.mathProblems, 0, j.set.questions)
	d, err := tuning.RecordData(j.tok, bundle.Records(train), nil, r, -1, j.seed)
	if err != nil {
		return err
	}
	return j.train("full on arithmetic", OnArithmetic, r, d)
}

func (j *job) train(name, task string, r tuning.Recipe, d tuning.Data) error {
	run, err := tuning.New(r, j.folder, d, j.seed)
	if err != nil {
		return err
	}
	if err := run.Train(j.ctx, tuning.Watch{Step: func(run *tuning.Run) { j.watch("tune "+name, run.Loop.Step, r.Steps) }}); err != nil {
		return err
	}
	row := Row{
		Name: name, Group: Tuned, Path: filepath.Join(j.dir, task+"-"+r.Method), Trainable: run.Trainable, Seconds: run.Seconds,
		Peak: run.Ledger.Peak(), Curve: run.Curve, Task: task,
	}
	if run.Adapter == nil {
		err = tuning.SaveModel(row.Path, run.Model, tensor.BF16, j.folder, nil, true)
		row.Bytes = tensorBytes(j.folder)
	} else {
		err = run.Adapter.Save(row.Path, j.folder.Dir)
		row.Bytes = adapterBytes(run.Adapter)
	}
	if err != nil {
		return err
	}
	return j.add(row, run.Model)
}

func adapterBytes(a *adapt.Adapter) int64 {
	var n int64
	for _, h := range a.Holds {
		for _, s := range h.State() {
			n += int64(len(s.Tensor.Bytes()))
		}
	}
	return n
}

// quantize rounds the base and the full tune to 4 bits.
func (j *job) quantize() error {
	for _, what := range []struct{ name, path string }{
		{"base in 4 bits", j.folder.Dir}, {"full in 4 bits", filepath.Join(j.dir, "opticks-full")},
	} {
		j.watch("quantize "+what.name, 0, 1)
		src, err := checkpoint.OpenFolder(what.path)
		if err != nil {
			return err
		}
		out := filepath.Join(j.dir, filepath.Base(what.path)+"-q4")
		if what.path == j.folder.Dir {
			out = filepath.Join(j.dir, "base-q4")
		}
		o := quant.CheckpointOptions{Options: quant.Options{Bits: 4, Group: 64}, Overwrite: true}
		_, err = quant.Checkpoint(j.ctx, src, out, &quant.RTN{Group: o.Group}, o)
		src.Close()
		if err != nil {
			return err
		}
		if err := j.addFolder(Row{Name: what.name, Group: Compressed, Path: out}); err != nil {
			return err
		}
	}
	return nil
}

// merge adds the task vectors of the two full tunes to the base.
func (j *job) merge() error {
	j.watch("merge", 0, 1)
	recipe, err := merge.ParseRecipe([]byte(fmt.Sprintf(`
merge_method: task_arithmetic
base_model: %q
models:
  - model: %q
    parameters: {weight: 1}
  - model: %q
    parameters: {weight: 1}
dtype: bfloat16
`, j.folder.Dir, filepath.Join(j.dir, "opticks-full"), filepath.Join(j.dir, "arithmetic-full"))))
	if err != nil {
		return err
	}
	out := filepath.Join(j.dir, "merged")
	if _, err := merge.Run(j.ctx, recipe, out, merge.RunOptions{Overwrite: true}); err != nil {
		return err
	}
	return j.addFolder(Row{Name: "opticks + arithmetic", Group: Merged, Path: out})
}
