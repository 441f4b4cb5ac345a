// Package train runs the loop that every method shares: micro-batches in,
// gradients through hooks and clipping to the optimizer, saved so that an
// interrupted run goes on to the same bits. Optimizers are in method/optim; what
// is trained is decided by the parameters' Parts before the loop starts.
package train

import (
	"context"
	"fmt"
	"math"

	"tare/engine/grad"
	"tare/engine/tensor"
	"tare/engine/tensor/kernel"
)

// Task yields what a step learns from.
type Task interface {
	// Next returns the next micro-batch; it starts over when the data ends.
	Next() (Batch, error)
	// State and Restore save and reload the position in the data.
	State() ([]byte, error)
	Restore([]byte) error
}

// Releaser is a Task that takes a batch back when the step is done, to use its memory
// for another. The loop calls it after the last of its hooks.
type Releaser interface{ Release(Batch) }

// Peek returns the next n micro-batches of a task and puts its position back.
func Peek(t Task, n int) ([]Batch, error) {
	state, err := t.State()
	if err != nil {
		return nil, err
	}
	batches := make([]Batch, n)
	for i := range batches {
		if batches[i], err = t.Next(); err != nil {
			return nil, err
		}
	}
	return batches, t.Restore(state)
}

// Batch is one micro-batch.
type Batch interface {
	// Count returns how many terms the loss sums, the tokens with a target.
	Count() int
	// Loss returns the sum of the terms over denom [1, 1].
	Loss(tp *grad.Tape, denom float64) *grad.Value
}

// Options shapes a run. Zero values mean what the comments say.
type Options struct {
	Steps      int     // optimizer steps
	LR         float64 // peak learning rate
	Schedule   Schedule
	Accumulate int     // micro-batches a step; 0 means 1
	Clip       float64 // largest global gradient norm; 0 means no clipping
	Seed       uint64  // of dropout
	// LRScale multiplies the rate of a parameter; nil means 1 for all.
	LRScale func(p *grad.Param) float64
}

// A hook is any value with one or more of these methods; they are called in the
// order of Loop.Hooks. An error ends the run.
type (
	// StepBeginner is called before a step's first forward pass.
	StepBeginner interface{ BeginStep(*Loop) error }
	// Penalizer adds a term to the loss of each micro-batch, or returns nil.
	Penalizer interface {
		Penalty(*Loop, *grad.Tape) *grad.Value
	}
	// GradWatcher sees each complete gradient before the optimizer, and may change it.
	GradWatcher interface {
		Gradient(*Loop, *grad.Param, *tensor.Tensor) error
	}
	// StepEnder is called after the optimizer's step; Loop.Loss is that step's.
	StepEnder interface{ EndStep(*Loop) error }
	// Stateful hooks are saved and restored with the run, under their name.
	Stateful interface {
		HookName() string
		HookState() ([]byte, error)
		RestoreHook([]byte) error
	}
	// Keeper hooks have tensors that are saved with the run, under their name. They are
	// restored before the trained parts, so that a hook which changes what trains can
	// set the parts that were saved.
	Keeper interface {
		HookName() string
		HookTensors() State
		RestoreTensors(State) error
	}
)

// AfterStep is a hook that is called after every step.
type AfterStep func(*Loop)

// EndStep implements StepEnder.
func (f AfterStep) EndStep(l *Loop) error { f(l); return nil }

// Loop trains. Fill the exported fields, then Run.
type Loop struct {
	Task      Task
	Params    []*grad.Param // all of the model's; those with a Part train
	Optimizer Optimizer
	Options   Options
	Hooks     []any
	Tape      *grad.Tape

	Step  int     // steps done
	Loss  float64 // mean loss per counted term of the last step
	LR    float64 // rate of the current step
	Norm  float64 // global gradient norm of the last step, when clipping
	Count int     // counted terms of the last step

	held    map[*grad.Param][]float32 // gradients kept for accumulation or clipping
	batches []Batch                   // of the step
	view    tensor.Tensor             // over a held gradient, for the optimizer
}

// Run steps until Options.Steps are done or ctx ends; then the loop stands between
// two steps and can be saved. The returned error is ctx's own in that case.
func (l *Loop) Run(ctx context.Context) error {
	for _, p := range l.Params {
		if err := p.Check(); err != nil {
			return err
		}
	}
	for l.Step < l.Options.Steps {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := l.step(); err != nil {
			for _, g := range l.held { // no part of a step that failed reaches a later one
				clear(g)
			}
			return err
		}
	}
	return nil
}

func (l *Loop) step() error {
	l.LR = l.Options.LR
	if l.Options.Schedule != nil {
		l.LR *= l.Options.Schedule(l.Step, l.Options.Steps)
	}
	if err := each(l.Hooks, func(h StepBeginner) error { return h.BeginStep(l) }); err != nil {
		return err
	}
	l.batches, l.Count = l.batches[:0], 0
	for range max(1, l.Options.Accumulate) {
		b, err := l.Task.Next()
		if err != nil {
			return err
		}
		l.batches = append(l.batches, b)
		l.Count += b.Count()
	}
	l.Tape.Seed(l.Options.Seed ^ uint64(l.Step+1)*0x9e3779b97f4a7c15)
	sink := l.sinkFor(len(l.batches))
	l.Loss = 0
	for _, b := range l.batches {
		loss := b.Loss(l.Tape, float64(max(1, l.Count)))
		l.Loss += float64(loss.Data[0])
		loss = l.penalize(loss, len(l.batches))
		if math.IsNaN(l.Loss) || math.IsInf(l.Loss, 0) {
			l.Tape.Reset()
			return diverged("the loss", l.Step+1, l.LR)
		}
		if err := l.Tape.Backward(loss, sink); err != nil {
			return err
		}
	}
	if err := l.applyHeld(); err != nil {
		return err
	}
	l.Step++
	err := each(l.Hooks, func(h StepEnder) error { return h.EndStep(l) })
	if t, ok := l.Task.(Releaser); ok {
		for _, b := range l.batches {
			t.Release(b)
		}
	}
	return err
}

func (l *Loop) penalize(loss *grad.Value, batches int) *grad.Value {
	for _, h := range l.Hooks {
		if p, ok := h.(Penalizer); ok {
			if term := p.Penalty(l, l.Tape); term != nil {
				loss = l.Tape.Add(loss, l.Tape.Scale(term, 1/float32(batches)))
			}
		}
	}
	return loss
}

// sinkFor updates a parameter the moment its gradient is complete, so that no two
// gradients exist at once; unless the step needs them all (several micro-batches,
// or a global norm), in which case they are held.
func (l *Loop) sinkFor(batches int) grad.Sink {
	if batches == 1 && l.Options.Clip == 0 {
		return l.apply
	}
	if l.held == nil {
		l.held = map[*grad.Param][]float32{}
	}
	return func(p *grad.Param, g *tensor.Tensor) error {
		sum, ok := l.held[p]
		if !ok {
			sum = make([]float32, g.Len())
			l.held[p] = sum
			l.Tape.Ledger.Add(grad.Gradients, 4*int64(len(sum)))
		}
		kernel.Axpy(1, g.F32(), sum)
		return nil
	}
}

// apply runs the gradient watchers and the optimizer.
func (l *Loop) apply(p *grad.Param, g *tensor.Tensor) error {
	if err := each(l.Hooks, func(h GradWatcher) error { return h.Gradient(l, p, g) }); err != nil {
		return err
	}
	lr := l.LR
	if l.Options.LRScale != nil {
		lr *= l.Options.LRScale(p)
	}
	return l.Optimizer.Step(p, g, lr)
}

// applyHeld clips and applies the held gradients in the order of Params.
func (l *Loop) applyHeld() error {
	if len(l.held) == 0 {
		return nil
	}
	scale := float32(1)
	if l.Options.Clip > 0 {
		var squares float64
		for _, p := range l.Params {
			if g, ok := l.held[p]; ok {
				squares += sumSquares(g)
			}
		}
		l.Norm = math.Sqrt(squares)
		if math.IsNaN(l.Norm) || math.IsInf(l.Norm, 0) {
			return diverged("the gradient", l.Step+1, l.LR)
		}
		scale = float32(math.Min(1, l.Options.Clip/(l.Norm+1e-6)))
	}
	for _, p := range l.Params {
		g, ok := l.held[p]
		if !ok {
			continue
		}
		kernel.Scale(scale, g)
		l.view.SetF32(g, p.PartShape()...)
		if err := l.apply(p, &l.view); err != nil {
			return err
		}
		clear(g)
	}
	return nil
}

// sumSquares adds blocks in float64, so that the norm of a large tensor keeps its
// digits.
func sumSquares(g []float32) float64 {
	const block = 1 << 12
	var s float64
	for len(g) > 0 {
		n := min(block, len(g))
		s += float64(kernel.SumSquares(g[:n]))
		g = g[n:]
	}
	return s
}

// each calls f on the hooks that have its method.
func each[H any](hooks []any, f func(H) error) error {
	for _, h := range hooks {
		if hook, ok := h.(H); ok {
			if err := f(hook); err != nil {
				return fmt.Errorf("train: %w", err)
			}
		}
	}
	return nil
}

// Trainable returns how many entries train.
func Trainable(params []*grad.Param) int64 {
	var n int64
	for _, p := range params {
		n += int64(p.PartLen())
	}
	return n
}

// Freeze stops every parameter from training.
func Freeze(params []*grad.Param) {
	for _, p := range params {
		p.Part = grad.Part{}
	}
}
