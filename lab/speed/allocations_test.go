package speed

import (
	"context"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"slices"
	"testing"

	"tare/engine/data"
	"tare/engine/generate"
	"tare/engine/grad"
	"tare/engine/model"
	"tare/engine/tensor/kernel"
	"tare/engine/train"
	"tare/method/optim"
)

// small is such a model's training.
func small(method string) training {
	return training{config: smallConfig(), batch: 8, length: 128, method: method}
}

// smallConfig is a llama whose loops are long enough to be split between threads.
func smallConfig() *model.Config {
	return &model.Config{ModelType: "llama", VocabSize: 512, HiddenSize: 64, IntermediateSize: 256, Layers: 2, Heads: 4, KVHeads: 2, HeadDim: 16,
		MaxPositions: 128, NormEps: 1e-5, RopeTheta: 10000, HiddenAct: "silu"}
}

// Once warm, a step allocates next to nothing: tapes, batches and optimizers use again
// what the last step has left.
func TestStepsDoNotAllocate(t *testing.T) {
	defer kernel.SetThreads(kernel.Threads())
	for _, threads := range []int{1, 2} {
		kernel.SetThreads(threads)
		for name, run := range map[string]func() error{
			"full": llamaSteps(t, "", false), "lora": llamaSteps(t, "lora", false), "paca": llamaSteps(t, "paca", false),
			"full, checkpointing": llamaSteps(t, "", true), "lora, checkpointing": llamaSteps(t, "lora", true), "paca, checkpointing": llamaSteps(t, "paca", true),
			"full, clipped": clipped(t), "mlp": mlpSteps(t), "evaluation": evaluation(t),
		} {
			objects, bytes := allocations(t, run)
			t.Logf("%s, %d threads: %d objects, %d bytes a step", name, threads, objects, bytes)
			if objects > 60 || bytes > 4<<10 {
				t.Errorf("%s, %d threads: a step allocates %d objects, %d bytes; want at most 60 and 4 KB", name, threads, objects, bytes)
			}
		}
	}
}

// allocations returns what a run allocates once several have been: the median, because
// the pools behind matrix products may lose a buffer when a thread moves to another core.
func allocations(t *testing.T, run func() error) (objects, bytes uint64) {
	t.Helper()
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // collecting empties those pools
	const warm, runs = 3, 7
	var o, b []uint64
	for i := range warm + runs {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if err := run(); err != nil {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		if i >= warm {
			o, b = append(o, after.Mallocs-before.Mallocs), append(b, after.TotalAlloc-before.TotalAlloc)
		}
	}
	slices.Sort(o)
	slices.Sort(b)
	return o[runs/2], b[runs/2]
}

// stepping returns a function that takes one more step.
func stepping(l *train.Loop) func() error {
	return func() error { return steps(context.Background(), l, 1) }
}

func llamaSteps(t testing.TB, method string, checkpointing bool) func() error {
	run := small(method)
	run.again = checkpointing
	l, err := run.loop(nil)
	if err != nil {
		t.Fatal(err)
	}
	return stepping(l)
}

// clipped holds gradients back over two micro-batches and clips them.
func clipped(t testing.TB) func() error {
	l, err := small("").loop(nil)
	if err != nil {
		t.Fatal(err)
	}
	l.Options.Accumulate, l.Options.Clip = 2, 1
	return stepping(l)
}

func mlpSteps(t testing.TB) func() error {
	m, err := model.NewMLP([]int{784, 256, 10}, 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range m.Params() {
		p.Part = grad.Whole
	}
	rng := rand.New(rand.NewPCG(2, 2))
	rows, labels := make([]float32, 512*784), make([]int32, 512)
	for i := range rows {
		rows[i] = rng.Float32()
	}
	for i := range labels {
		labels[i] = int32(rng.IntN(10))
	}
	source, err := data.NewLabelled(rows, labels, 64, 1)
	if err != nil {
		t.Fatal(err)
	}
	return stepping(&train.Loop{Task: &train.Classify{Model: m, Source: source}, Params: m.Params(), Optimizer: optim.NewAdamW(0, nil),
		Options: train.Options{LR: 1e-3}, Tape: grad.NewTape(nil)})
}

// evaluation returns a function that takes the loss of a batch, recording nothing.
func evaluation(t testing.TB) func() error {
	m, err := model.NewLlama(smallConfig(), 1)
	if err != nil {
		t.Fatal(err)
	}
	tp := grad.NewTape(nil)
	tokens, seqs := make([]int32, 256), grad.Sequences{Lengths: []int{128, 100, 28}}
	return func() error {
		tp.NoGrad(func() { model.Loss(tp, m, tokens, tokens, seqs, 1) })
		tp.Reset()
		return nil
	}
}

// BenchmarkStep is the step that tare bench times; B/op and allocs/op are its garbage.
func BenchmarkStep(b *testing.B) {
	for _, method := range []string{"", "lora", "paca"} {
		name := method
		if name == "" {
			name = "full"
		}
		b.Run(name, func(b *testing.B) {
			l, err := six.by(method).loop(nil)
			if err != nil {
				b.Fatal(err)
			}
			step := stepping(l)
			b.ReportAllocs()
			for range 3 {
				if err := step(); err != nil {
					b.Fatal(err)
				}
			}
			for b.Loop() {
				if err := step(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// A token more costs a few objects more, greedy or drawn, whatever the vocabulary: what
// is left is the growth of the cache and of the answer.
func TestTokensDoNotAllocate(t *testing.T) {
	m, err := model.NewLlama(smallConfig(), 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range []generate.Options{{}, {Temperature: 1, TopP: 0.9}} {
		run := func(tokens int) func() error {
			return func() error {
				o := o
				o.MaxTokens = tokens
				_, err := generate.Run(context.Background(), m, [][]int32{{1, 2, 3}, {4}}, o, nil)
				return err
			}
		}
		fewObjects, fewBytes := allocations(t, run(64))
		moreObjects, moreBytes := allocations(t, run(96))
		objects, bytes := (float64(moreObjects)-float64(fewObjects))/32, (float64(moreBytes)-float64(fewBytes))/32
		t.Logf("temperature %g: %.1f objects, %.0f bytes a step of two tokens", o.Temperature, objects, bytes)
		if objects > 4 || bytes > 8<<10 {
			t.Errorf("temperature %g: a step allocates %.1f objects, %.0f bytes; want at most 4 and 8 KB", o.Temperature, objects, bytes)
		}
	}
}
