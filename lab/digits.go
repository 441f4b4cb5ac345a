package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"tare/engine/data"
	"tare/engine/grad"
	"tare/engine/train"
	"tare/method/adapt"
	"tare/method/optim"
)

// What the experiments on handwritten digits share.

// readDigits returns MNIST's training and test images.
func readDigits() (training, test *data.Images, err error) {
	if training, err = data.MNIST(true); err != nil {
		return nil, nil, noDigits(err)
	}
	if test, err = data.MNIST(false); err != nil {
		return nil, nil, noDigits(err)
	}
	return training, test, nil
}

func noDigits(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the data is missing: set TARE_MNIST to a folder with MNIST's four files, gzipped or not: %w", err)
	}
	return err
}

func firstImages(m *data.Images, n int) *data.Images { return imagesFrom(m, 0, min(n, m.N)) }

func lastImages(m *data.Images, n int) *data.Images { return imagesFrom(m, m.N-n, m.N) }

func imagesFrom(m *data.Images, lo, hi int) *data.Images {
	part, width := *m, len(m.Pixels)/m.N
	part.N, part.Pixels, part.Labels = hi-lo, m.Pixels[lo*width:hi*width], m.Labels[lo:hi]
	return &part
}

// imagesOf returns the first n images whose labels are wanted.
func imagesOf(m *data.Images, n int, want func(label int32) bool) *data.Images {
	var at []int
	for i := 0; i < m.N && len(at) < n; i++ {
		if want(m.Labels[i]) {
			at = append(at, i)
		}
	}
	return pickImages(m, at)
}

// pickImages returns the images at those places.
func pickImages(m *data.Images, at []int) *data.Images {
	part, width := *m, len(m.Pixels)/m.N
	part.N, part.Pixels, part.Labels = len(at), nil, nil
	for _, i := range at {
		part.Pixels = append(part.Pixels, m.Pixels[i*width:(i+1)*width]...)
		part.Labels = append(part.Labels, m.Labels[i])
	}
	return &part
}

// opened keeps what takes training to make, once for a program and length.
type opened[T any] struct {
	mu   sync.Mutex
	held map[bool]T // by Quick
}

func (o *opened[T]) get(e Env, open func() (T, error)) (T, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if t, ok := o.held[e.Quick]; ok {
		return t, nil
	}
	t, err := open()
	if err == nil {
		if o.held == nil {
			o.held = map[bool]T{}
		}
		o.held[e.Quick] = t
	}
	return t, err
}

// imageRun is how a run on images goes.
type imageRun struct {
	lr, floor    float64 // peak of a cosine, and what part of it is left in the end
	steps, batch int
	seed         uint64
	note         string // what it is, for progress
}

// train trains what trains of m at the task, and the method's hooks with it.
func (r imageRun) train(ctx context.Context, e Env, m adapt.Model, task train.Task, a *adapt.Adapter) error {
	schedule, err := train.NewSchedule("cosine", r.steps/20, r.floor)
	if err != nil {
		return err
	}
	loop := train.Loop{
		Task: task, Params: m.Params(), Optimizer: optim.NewAdamW(0, nil), Tape: grad.NewTape(nil),
		Options: train.Options{Steps: r.steps, LR: r.lr, Schedule: schedule, Clip: 1, Seed: r.seed},
	}
	if a != nil {
		loop.Hooks, err = a.Prepare(ctx, adapt.Setup{Model: m, Steps: r.steps, Seed: r.seed, LR: r.lr, Batches: func(n int) ([]train.Batch, error) {
			return train.Peek(task, n)
		}})
		if err != nil {
			return err
		}
		loop.Params = m.Params() // what trains may be new
	}
	loop.Hooks = append(loop.Hooks, train.AfterStep(func(l *train.Loop) {
		e.Step(l.Step, r.steps, fmt.Sprintf("%s, loss %.4f", r.note, l.Loss))
	}))
	return loop.Run(ctx)
}
