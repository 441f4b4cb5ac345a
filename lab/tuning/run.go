package tuning

import (
	"context"
	"errors"
	"fmt"
	"time"

	"tare/engine/checkpoint"
	"tare/engine/data"
	"tare/engine/eval"
	"tare/engine/grad"
	"tare/engine/model"
	"tare/engine/nn"
	"tare/engine/tensor"
	"tare/engine/train"
	"tare/method/adapt"
	"tare/method/quant"
)

// Data is what a run learns from and what it is measured on: text, or the samples of a
// classifier.
type Data struct {
	Train data.Source
	Valid []*data.Batch // evaluation batches; nil for none
	Bytes int           // length of the text that Valid stands for; 0 if not known

	Samples *data.ShuffledSamples
	Held    *data.Samples // nil for none
}

// Run is one training run. Make it with New, then Train.
type Run struct {
	Recipe Recipe
	Model  model.Causal
	// Classifier stands in for Model where the data are samples.
	Classifier model.Classifier
	Adapter    *adapt.Adapter // nil for full fine-tuning
	Loop       *train.Loop
	Data       Data
	Ledger     *grad.Ledger
	// Trainable is how many entries train.
	Trainable int64
	// Curve holds the training loss of every step done, Evals the evaluations.
	Curve []float64
	Evals []Evaluation
	// Seconds is the time spent in training steps and in the method's look at the data
	// before them, evaluations not counted.
	Seconds float64
	Tokens  int64 // tokens with a target that were trained on

	seed     uint64
	prepared bool
	ema      *train.EMA // nil for none
	averaged bool       // the model holds the averages
	began    time.Time
}

// Evaluation is the held-out loss after a number of steps.
type Evaluation struct {
	Step int `json:"step"`
	eval.LossResult
	// Accuracy is the fraction of samples whose class is told right; nil for text.
	Accuracy *float64 `json:"accuracy,omitempty"`
}

// New loads the model of folder src and sets the run up. The folder must stay open
// while the run lives.
func New(r Recipe, src *checkpoint.Folder, d Data, seed uint64) (*Run, error) {
	if err := r.Validate(); err != nil {
		return nil, err
	}
	run := &Run{Recipe: r, Data: d, Ledger: &grad.Ledger{}}
	var err error
	o := model.LoadOptions{Keep: r.Base != BaseF32 || r.Storage != StorageF32, Ledger: run.Ledger}
	if d.Samples != nil {
		run.Classifier, err = model.LoadClassifier(src.Config, src, o)
	} else {
		run.Model, err = model.LoadCausal(src.Config, src, o)
	}
	if err != nil {
		return nil, err
	}
	return run, run.setUp(seed)
}

// Net returns the model.
func (run *Run) Net() model.Network {
	if run.Classifier != nil {
		return run.Classifier
	}
	return run.Model
}

// task returns what the loop learns.
func (run *Run) task() train.Task {
	if run.Classifier != nil {
		return &train.Sorting{Model: run.Classifier, Source: run.Data.Samples}
	}
	return &train.Language{Model: run.Model, Source: run.Data.Train}
}

// NewFrom sets a run up on a model that is in memory, such as a fresh one; its
// parameters are charged to the run's ledger.
func NewFrom(r Recipe, m model.Causal, d Data, seed uint64) (*Run, error) {
	if err := r.Validate(); err != nil {
		return nil, err
	}
	run := &Run{Recipe: r, Model: m, Data: d, Ledger: &grad.Ledger{}}
	run.Ledger.Add(grad.Weights, weightBytes(m))
	return run, run.setUp(seed)
}

func (run *Run) setUp(seed uint64) error {
	r, m := run.Recipe, run.Net()
	run.seed = seed
	if limit := m.Info().MaxPositions; r.SeqLen > limit && m.Info().Image == nil {
		return fmt.Errorf("tuning: %w: seq_len is %d, the model has %d positions; lower seq_len", ErrRecipe, r.SeqLen, limit)
	}
	if run.Classifier != nil {
		n := m.Info().Labels
		err := run.Data.Samples.CheckLabels(n)
		if err == nil && run.Data.Held != nil {
			err = run.Data.Held.CheckLabels(n)
		}
		if err != nil {
			return fmt.Errorf("tuning: %w", err)
		}
	}
	if r.Base == BaseQ4 {
		if err := run.quantizeBase(); err != nil {
			return err
		}
	}
	if err := run.attach(seed); err != nil {
		return err
	}
	if r.Storage != StorageF32 {
		if err := run.store(); err != nil {
			return err
		}
	}
	m.SetCheckpointing(r.Checkpoint)
	opt, err := r.optimizer(run.Ledger, seed)
	if err != nil {
		return err
	}
	schedule, err := train.NewSchedule(r.Schedule, r.warmup(), r.Floor)
	if err != nil {
		return err
	}
	params := m.Params()
	run.Trainable = train.Trainable(params)
	run.Loop = &train.Loop{
		Task: run.task(), Params: params, Optimizer: opt, Tape: grad.NewTape(run.Ledger),
		Options: train.Options{Steps: r.Steps, LR: r.LR, Schedule: schedule, Accumulate: r.Accumulate, Clip: r.Clip, Seed: seed},
	}
	run.Loop.Tape.BF16 = r.Precision == PrecisionBF16
	return nil
}

// Prepare lets the method look at the training data and hook itself into the loop. It
// does nothing the second time; Train calls it, and whoever restores a saved run must
// before that.
func (run *Run) Prepare(ctx context.Context) error {
	if run.prepared {
		return nil
	}
	if run.Adapter != nil {
		if err := run.prepareAdapter(ctx); err != nil {
			return err
		}
	}
	run.prepared = true
	if run.Recipe.EMA > 0 { // after the method's hooks, to see what they change
		run.ema = &train.EMA{Decay: run.Recipe.EMA, Ledger: run.Ledger}
		run.Loop.Hooks = append(run.Loop.Hooks, run.ema)
	}
	return nil
}

func (run *Run) prepareAdapter(ctx context.Context) error {
	began, before := time.Now(), weightBytes(run.Net())
	hooks, err := run.Adapter.Prepare(ctx, adapt.Setup{Model: run.Net(), Steps: run.Recipe.Steps, Seed: run.seed, LR: run.Recipe.LR, Ledger: run.Ledger, Batches: func(n int) ([]train.Batch, error) {
		return train.Peek(run.Loop.Task, n)
	}})
	if err != nil {
		return fmt.Errorf("tuning: prepare %s: %w", run.Adapter.Method.Name, err)
	}
	run.Seconds += time.Since(began).Seconds()
	run.Ledger.Add(grad.Weights, weightBytes(run.Net())-before)
	run.Loop.Hooks = append(run.Loop.Hooks, hooks...)
	run.Loop.Params = run.Net().Params()
	run.Trainable = train.Trainable(run.Loop.Params)
	return nil
}

// attach makes the method's part of the model trainable.
func (run *Run) attach(seed uint64) error {
	m := run.Net()
	if run.Recipe.Method == Full {
		for _, p := range m.Params() {
			p.Part = grad.Whole
		}
		return nil
	}
	method, options, err := run.Recipe.method()
	if err != nil {
		return fmt.Errorf("tuning: %w: %w", ErrRecipe, err)
	}
	before := weightBytes(m)
	if run.Adapter, err = adapt.Attach(m, method, options, run.Recipe.Targets, seed); err != nil {
		return err
	}
	run.Ledger.Add(grad.Weights, weightBytes(m)-before)
	return nil
}

// store turns the matrices into bfloat16; vectors (norms, biases) stay f32. The ledger's
// peaks begin anew: they tell of training, not of loading.
func (run *Run) store() error {
	before := weightBytes(run.Net())
	for _, p := range run.Net().Params() {
		if len(p.Value.Shape()) < 2 {
			continue
		}
		t, err := p.Value.To(tensor.BF16)
		if err != nil {
			return fmt.Errorf("tuning: %s: %w", p.Name, err)
		}
		if t.ReadOnly() { // mapped
			t = t.Clone()
		}
		p.Value = t
	}
	run.Ledger.Add(grad.Weights, weightBytes(run.Net())-before)
	run.Ledger.ResetPeak()
	return nil
}

// weightBytes is what a model's parameters take, packed weights not counted.
func weightBytes(m model.Network) int64 {
	var n int64
	for _, p := range m.Params() {
		n += int64(len(p.Value.Bytes()))
	}
	return n
}

// quantizeBase packs every linear layer of the blocks into 4 bits.
func (run *Run) quantizeBase() error {
	rtn := &quant.RTN{Group: 64}
	for _, b := range run.Net().Blocks() {
		for _, l := range b.Linears() {
			w, err := nn.Materialize(l.Weight)
			if err != nil {
				return fmt.Errorf("tuning: %s: %w", l.Name, err)
			}
			for _, p := range l.Weight.Params() {
				run.Ledger.Add(grad.Weights, -int64(len(p.Value.Bytes())))
			}
			if l.Weight, err = rtn.QuantizeLayer(l.Name, w, nil); err != nil {
				return fmt.Errorf("tuning: %s: %w", l.Name, err)
			}
			if p, ok := l.Weight.(*nn.Packed4); ok {
				run.Ledger.Add(grad.Weights, p.Bytes())
			}
		}
	}
	return nil
}

// Total returns how many entries the model has, the method's own included; packed
// weights count by their shape.
func (run *Run) Total() int64 {
	var n int64
	for _, p := range run.Net().Params() {
		n += int64(p.Value.Len())
	}
	for _, l := range run.Net().Linears() {
		if p, ok := l.Weight.(*nn.Packed4); ok {
			out, in := p.Dims()
			n += int64(out) * int64(in)
		}
	}
	return n
}

// Watch is told of a run's progress after every step; nil values are fine.
type Watch struct {
	Step func(run *Run)
	Eval func(run *Run, e Evaluation)
	// Save is called where the recipe says that the state is to be saved.
	Save func(run *Run) error
}

// Train runs the remaining steps, with the evaluations that the recipe asks for:
// before the first step, every EvalEvery steps, and after the last. When ctx ends it
// returns ctx's error and the run stands between two steps. Where the recipe averages
// weights, evaluations are of the averages, and the model holds them in the end.
func (run *Run) Train(ctx context.Context, w Watch) error {
	if err := run.Prepare(ctx); err != nil {
		return err
	}
	run.Loop.Hooks = append(run.Loop.Hooks, &watcher{run, w, ctx})
	defer func() { run.Loop.Hooks = run.Loop.Hooks[:len(run.Loop.Hooks)-1] }()
	if run.Loop.Step == 0 {
		if err := run.evaluate(ctx, w); err != nil {
			return err
		}
	}
	err := run.Loop.Run(ctx)
	if err != nil {
		return err
	}
	if n := len(run.Evals); n == 0 || run.Evals[n-1].Step < run.Loop.Step {
		if err := run.evaluate(ctx, w); err != nil {
			return err
		}
	}
	return run.average()
}

// average leaves the averaged weights in the model.
func (run *Run) average() error {
	if run.ema == nil || run.averaged {
		return nil
	}
	run.averaged = true
	return run.ema.Swap(run.Loop.Params)
}

// watcher is the run's own hook: it times steps, keeps the curve and evaluates.
type watcher struct {
	run *Run
	w   Watch
	ctx context.Context
}

// BeginStep implements train.StepBeginner.
func (h *watcher) BeginStep(*train.Loop) error {
	h.run.began = time.Now()
	return nil
}

// EndStep implements train.StepEnder.
func (h *watcher) EndStep(l *train.Loop) error {
	run, r := h.run, &h.run.Recipe
	run.Seconds += time.Since(run.began).Seconds()
	run.Tokens += int64(l.Count)
	run.Curve = append(run.Curve, l.Loss)
	if h.w.Step != nil {
		h.w.Step(run)
	}
	if r.SaveEvery > 0 && l.Step%r.SaveEvery == 0 && l.Step < r.Steps && h.w.Save != nil {
		if err := h.w.Save(run); err != nil {
			return err
		}
	}
	if r.EvalEvery > 0 && l.Step%r.EvalEvery == 0 && h.ctx.Err() == nil {
		if err := run.evaluate(h.ctx, h.w); !errors.Is(err, context.Canceled) {
			return err
		}
	}
	return nil
}

// evaluate measures the held-out loss. It leaves the training ledger alone.
func (run *Run) evaluate(ctx context.Context, w Watch) error {
	if len(run.Data.Valid) == 0 && run.Data.Held == nil {
		return nil
	}
	swap := func() error { return nil }
	if run.ema != nil && !run.averaged {
		swap = func() error { return run.ema.Swap(run.Loop.Params) }
	}
	if err := swap(); err != nil {
		return err
	}
	e, err := run.measure(ctx)
	if err = errors.Join(err, swap()); err != nil {
		return err
	}
	run.Evals = append(run.Evals, e)
	if w.Eval != nil {
		w.Eval(run, e)
	}
	return nil
}

// measure evaluates the model as it is.
func (run *Run) measure(ctx context.Context) (e Evaluation, err error) {
	e.Step = run.Loop.Step
	if run.Classifier == nil {
		e.LossResult, err = eval.Loss(ctx, run.Model, run.Data.Valid, run.Data.Bytes, nil)
		return e, err
	}
	var right float64
	e.LossResult, right, err = eval.Classes(ctx, run.Classifier, run.Data.Held, run.Recipe.Batch)
	e.Accuracy = &right
	return e, err
}

// Final returns the last evaluation; zero before any.
func (run *Run) Final() Evaluation {
	if len(run.Evals) == 0 {
		return Evaluation{}
	}
	return run.Evals[len(run.Evals)-1]
}

// SaveModel writes the model with everything merged as a folder, floating tensors in
// dtype; tokenizer and other files are copied from src, when it is not nil.
func SaveModel(dir string, m model.Network, dtype tensor.DType, src *checkpoint.Folder, files map[string][]byte, overwrite bool) error {
	entries := m.Export(dtype)
	specs := make([]checkpoint.Spec, len(entries))
	for i, e := range entries {
		specs[i] = checkpoint.Spec{Name: e.Name, DType: e.DType, Shape: e.Shape}
	}
	w, err := checkpoint.CreateFolder(dir, specs, checkpoint.FolderOptions{Overwrite: overwrite})
	if err != nil {
		return err
	}
	defer w.Abort()
	for _, e := range entries {
		t, err := e.Read()
		if err != nil {
			return err
		}
		if err := w.Write(t); err != nil {
			return err
		}
	}
	m.Info().TorchDType = map[tensor.DType]string{tensor.F32: "float32", tensor.BF16: "bfloat16", tensor.F16: "float16"}[dtype]
	config, err := m.Info().JSON()
	if err != nil {
		return err
	}
	if err := w.File("config.json", config); err != nil {
		return err
	}
	for name, content := range files {
		if err := w.File(name, content); err != nil {
			return err
		}
	}
	if src != nil {
		if err := w.CopyFrom(src, checkpoint.AuxiliaryFiles()...); err != nil {
			return err
		}
	}
	return w.Close()
}
