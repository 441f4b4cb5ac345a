// Package diffusion trains a DiT to draw images of classes and draws with it: denoising
// diffusion with the cosine schedule, on images of −1 to 1. The network is
// engine/model's, the loop engine/train's; what is compared stands in lab.
package diffusion

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"

	"tare/engine/data"
	"tare/engine/grad"
	"tare/engine/model"
	"tare/engine/train"
)

// alphaBar returns how much of an image's variance is left at time t of [0, 1], by the
// cosine schedule of Nichol and Dhariwal (2021, arXiv:2102.09672, equation 17).
func alphaBar(t float64) float64 {
	const s = 0.008
	f := func(t float64) float64 { c := math.Cos((t + s) / (1 + s) * math.Pi / 2); return c * c }
	return f(t) / f(0)
}

// latest is the last time that is drawn: at 1 nothing of the image is left, and the
// noise alone would not tell it.
const latest = 0.999

// Task is telling the noise ε in x_t = √ᾱ x₀ + √(1−ᾱ) ε (Ho et al. 2020,
// arXiv:2006.11239, equation 14): the loss is the mean over pixels of its squared error.
// It is a train.Task.
type Task struct {
	Model  *model.DiT
	Source *data.Labelled // of images of −1 to 1
	rng    *rand.PCG
}

// NewTask returns the task; times and noise are drawn from seed.
func NewTask(m *model.DiT, source *data.Labelled, seed uint64) *Task {
	return &Task{Model: m, Source: source, rng: rand.NewPCG(seed, 1)}
}

// taskState is what a saved run keeps.
type taskState struct {
	Source []byte `json:"source"`
	Rng    []byte `json:"rng"`
}

// State implements train.Task.
func (t *Task) State() ([]byte, error) {
	source, err := t.Source.State()
	if err != nil {
		return nil, err
	}
	rng, err := t.rng.MarshalBinary()
	if err != nil {
		return nil, err
	}
	return json.Marshal(taskState{source, rng})
}

// Restore implements train.Task.
func (t *Task) Restore(saved []byte) error {
	var s taskState
	if err := json.Unmarshal(saved, &s); err != nil {
		return fmt.Errorf("diffusion: state of a run: %w", err)
	}
	if err := t.rng.UnmarshalBinary(s.Rng); err != nil {
		return fmt.Errorf("diffusion: state of a run: %w", err)
	}
	return t.Source.Restore(s.Source)
}

// Next implements train.Task.
func (t *Task) Next() (train.Batch, error) { return t.next(), nil }

// next returns a batch: the noisy images and their noise in patches, times and classes.
func (t *Task) next() *noisy {
	images, classes := t.Source.Next()
	n, rng := len(classes), rand.New(t.rng)
	b := &noisy{model: t.Model, classes: classes, times: make([]float32, n)}
	noise := make([]float32, len(images))
	width := len(images) / n
	for i := range n {
		b.times[i] = latest * rng.Float32()
		a := alphaBar(float64(b.times[i]))
		keep, add := float32(math.Sqrt(a)), float32(math.Sqrt(1-a))
		for k := i * width; k < (i+1)*width; k++ {
			noise[k] = float32(rng.NormFloat64())
			images[k] = keep*images[k] + add*noise[k]
		}
	}
	b.x, b.noise = t.Model.Patches(images, n), t.Model.Patches(noise, n)
	return b
}

// noisy is a batch; it is a train.Batch.
type noisy struct {
	model    *model.DiT
	x, noise []float32
	times    []float32
	classes  []int32
}

// Count implements train.Batch: an image is a term.
func (b *noisy) Count() int { return len(b.times) }

// Loss implements train.Batch.
func (b *noisy) Loss(tp *grad.Tape, denom float64) *grad.Value {
	rows := len(b.times) * b.model.Tokens()
	cols := len(b.x) / rows
	d := tp.Sub(b.model.Noise(tp, tp.Const(b.x, rows, cols), b.times, b.classes), tp.Const(b.noise, rows, cols))
	pixels := float64(b.model.Tokens() * cols)
	return tp.Scale(tp.Sum(tp.Mul(d, d)), float32(1/(denom*pixels)))
}

// Draw returns an image of −1 to 1 for each class [n, channels·size·size], in steps
// passes through the network, by the deterministic sampler of Song et al. (2020,
// arXiv:2010.02502, equation 12 with σ = 0):
//
//	x̂₀ = (x_t − √(1−ᾱ_t) ε) / √ᾱ_t, cut to −1 … 1
//	x_s = √ᾱ_s x̂₀ + √(1−ᾱ_s) ε̂,  ε̂ = (x_t − √ᾱ_t x̂₀) / √(1−ᾱ_t)
func Draw(ctx context.Context, m *model.DiT, classes []int32, steps int, seed uint64) ([]float32, error) {
	n, tokens := len(classes), m.Tokens()
	o := m.Options
	rng := rand.New(rand.NewPCG(seed, 2))
	x := make([]float32, n*o.Channels*o.Height*o.Width)
	for i := range x {
		x[i] = float32(rng.NormFloat64())
	}
	x = m.Patches(x, n)
	cols := len(x) / (n * tokens)
	tp := grad.NewTape(nil)
	times := make([]float32, n)
	for step := range steps {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		t := latest * float64(steps-step) / float64(steps)
		a, b := alphaBar(t), alphaBar(t-latest/float64(steps))
		for i := range times {
			times[i] = float32(t)
		}
		tp.NoGrad(func() {
			noise := m.Noise(tp, tp.Const(x, n*tokens, cols), times, classes).Data
			for i, v := range x {
				x0 := (float64(v) - math.Sqrt(1-a)*float64(noise[i])) / math.Sqrt(a)
				x0 = min(1, max(-1, x0))
				left := (float64(v) - math.Sqrt(a)*x0) / math.Sqrt(1-a)
				x[i] = float32(math.Sqrt(b)*x0 + math.Sqrt(1-b)*left)
			}
		})
		tp.Reset()
	}
	return m.Join(x, n), nil
}
