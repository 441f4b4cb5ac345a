package compare

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"tare/engine/checkpoint"
	"tare/engine/data"
	"tare/engine/eval"
	"tare/engine/grad"
	"tare/engine/model"
	"tare/engine/text"
	"tare/lab/tuning"
	"tare/method/adapt"
)

// desk is an open base with the data of one task.
type desk struct {
	task   Task
	folder *checkpoint.Folder
	tok    *text.Tokenizer
	set    *set
	source []*data.Batch // nil for none
}

// Do does one task in this process.
func Do(ctx context.Context, t Task) (Result, error) {
	k := &desk{task: t}
	if err := k.open(); err != nil {
		return Result{}, err
	}
	defer k.folder.Close()
	switch t.Kind {
	case kindBase:
		return k.base(ctx)
	case kindSize:
		return k.fit(ctx)
	case kindPlan:
		return k.plan(ctx)
	case kindTrial, kindRun:
		return k.run(ctx)
	}
	return Result{}, fmt.Errorf("compare: no kind of task is called %q", t.Kind)
}

func (k *desk) open() (err error) {
	if k.folder, k.tok, _, err = openBase(k.task.Base); err != nil {
		return err
	}
	if k.task.Kind == kindSize {
		return nil
	}
	if k.set, err = openSet(k.task.Data.Name); err == nil && k.task.Source != "" {
		err = k.openSource()
	}
	if err != nil {
		k.folder.Close()
	}
	return err
}

func (k *desk) openSource() error {
	const batch = 16
	t, err := openSource(k.task.Source)
	if err != nil {
		return err
	}
	if k.source, err = data.WindowBatches(k.tok.EncodeOrdinary(t), k.task.Data.SeqLen, batch); err != nil {
		return fmt.Errorf("compare: source %s: %w", k.task.Source, err)
	}
	return nil
}

// openBase opens a model's files and its tokenizer.
func openBase(path string) (*checkpoint.Folder, *text.Tokenizer, []byte, error) {
	f, err := checkpoint.OpenFolder(path)
	if err != nil {
		return nil, nil, nil, err
	}
	raw, err := f.Read("tokenizer.json")
	if err == nil && f.Config == nil {
		err = fmt.Errorf("compare: %s has no config.json: %w", path, model.ErrConfig)
	}
	var tok *text.Tokenizer
	if err == nil {
		tok, err = text.Parse(raw)
	}
	if err != nil {
		f.Close()
		return nil, nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	return f, tok, raw, nil
}

// base measures the base as it is.
func (k *desk) base(ctx context.Context) (Result, error) {
	m, err := model.LoadCausal(k.folder.Config, k.folder, model.LoadOptions{Keep: true})
	if err != nil {
		return Result{}, err
	}
	var r Result
	return r, k.score(ctx, m, k.set.test, &r)
}

// score fills in what a model knows.
func (k *desk) score(ctx context.Context, m model.Causal, p part, r *Result) error {
	batches, err := p.batches(k.tok, k.task.Data)
	if err != nil {
		return fmt.Errorf("compare: %s: %w", k.set.name, err)
	}
	loss, err := eval.Loss(ctx, m, batches, 0, nil)
	if err != nil {
		return err
	}
	if r.Loss = loss.Loss; k.task.Kind == kindTrial {
		return nil
	}
	if k.source != nil {
		source, err := eval.Loss(ctx, m, k.source, 0, nil)
		if err != nil {
			return err
		}
		r.SourceLoss = &source.Loss
	}
	if q := p.questions(); len(q) > 0 {
		right, err := eval.ExactMatch(ctx, m, k.tok, q, nil)
		if err != nil {
			return err
		}
		r.Score = &right
	}
	return nil
}

// recipe is how the task's method trains.
func (k *desk) recipe() tuning.Recipe {
	r := tuning.Default()
	t := k.task
	r.Method, r.Options, r.Targets = t.Method.Name, t.Method.Options, t.Targets
	if r.Method == tuning.Full {
		r.Targets = nil
	}
	r.Batch, r.SeqLen, r.Steps = t.Data.Batch, t.Data.SeqLen, t.Data.Steps
	if t.Method.LR > 0 {
		r.LR = t.Method.LR
	}
	return r
}

// new sets a run up.
func (k *desk) new(r tuning.Recipe) (*tuning.Run, error) {
	d, err := k.set.source(k.tok, r, k.task.Seed)
	if err != nil {
		return nil, err
	}
	return tuning.New(r, k.folder, d, k.task.Seed)
}

// run tunes with the task's settings and measures: a trial on the validation part, a run
// on the test part with all there is to know.
func (k *desk) run(ctx context.Context) (Result, error) {
	run, err := k.new(k.recipe())
	if err != nil {
		return Result{}, err
	}
	if err := run.Prepare(ctx); err != nil {
		return Result{}, err
	}
	look := run.Seconds
	err = run.Train(ctx, tuning.Watch{})
	if ctx.Err() != nil {
		return Result{}, ctx.Err()
	} else if err != nil {
		return Result{Diverged: err.Error(), Trainable: run.Trainable}, nil
	}
	r := Result{Trainable: run.Trainable, Peak: run.Ledger.Peak(), Seconds: run.Seconds, StepSeconds: (run.Seconds - look) / float64(len(run.Curve))}
	part := k.set.test
	if k.task.Kind == kindTrial {
		part = k.set.valid
	} else {
		r.Curve = run.Curve
	}
	if err := k.score(ctx, run.Model, part, &r); err != nil {
		return Result{}, err
	}
	if math.IsNaN(r.Loss) || math.IsInf(r.Loss, 0) {
		return Result{Diverged: fmt.Sprintf("the held-out loss is %v", r.Loss), Trainable: run.Trainable}, nil
	}
	if k.task.Kind == kindRun && run.Adapter != nil {
		err = k.finish(run, &r)
	}
	return r, err
}

// finish reads the method's own figures and merges it, which ends it.
func (k *desk) finish(run *tuning.Run, r *Result) error {
	if f, ok := run.Adapter.Options.(adapt.Figured); ok {
		r.Figures = maps.Clone(f.Figures(run.Adapter))
		maps.DeleteFunc(r.Figures, func(_ string, v float64) bool { return math.IsNaN(v) || math.IsInf(v, 0) })
	}
	batches, err := k.set.test.batches(k.tok, k.task.Data)
	if err != nil {
		return err
	}
	before := logits(run.Model, batches[0])
	if err := run.Adapter.Merge(); err != nil {
		r.MergeNote = err.Error()
		return nil
	}
	var worst float64
	for i, v := range logits(run.Model, batches[0]) {
		worst = max(worst, math.Abs(float64(v)-float64(before[i])))
	}
	r.MergeError = &worst
	return nil
}

// logits returns a model's scores of the first sequence of a batch.
func logits(m model.Causal, b *data.Batch) []float32 {
	tp := grad.NewTape(nil)
	defer tp.Reset()
	var out []float32
	n := b.Lengths[0]
	tp.NoGrad(func() {
		out = slices.Clone(m.Logits(tp, m.Hidden(tp, b.Tokens[:n], grad.Sequences{Lengths: []int{n}}, nil)).Data)
	})
	return out
}

// probe trains some steps and returns what they took: the median seconds of those after
// the first, which warms up.
func (k *desk) probe(ctx context.Context, r tuning.Recipe, steps int) (Result, error) {
	r.Steps = 1 + steps
	run, err := k.new(r)
	if err != nil {
		return Result{}, err
	}
	if err := run.Prepare(ctx); err != nil {
		return Result{}, err
	}
	look := run.Seconds
	var times []float64
	last := time.Now()
	err = run.Train(ctx, tuning.Watch{Step: func(*tuning.Run) {
		times = append(times, time.Since(last).Seconds())
		last = time.Now()
	}})
	if err != nil {
		return Result{}, err
	}
	times = times[1:]
	slices.Sort(times)
	return Result{Trainable: run.Trainable, Peak: run.Ledger.Peak(), StepSeconds: times[len(times)/2], Seconds: look}, nil
}
