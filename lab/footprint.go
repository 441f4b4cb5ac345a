package lab

import (
	"context"
	"runtime/debug"
	"slices"
	"time"

	"tare/engine/data"
	"tare/engine/model"
	"tare/lab/meminfo"
	"tare/lab/tuning"
)

// The figures of a training step of a larger model.
var (
	stepSeconds = Figure{"step at 100 M", "s", Lower}
	stepPeak    = Figure{"peak at 100 M", "bytes", Lower}
	processPeak = Figure{"process peak at 100 M", "bytes", Lower}
)

// footprint is what a training step of a model of 100 million parameters takes: the
// median seconds of a step, the ledger's joint peak, and how far the process's own
// peak rose over what it held before the model was made (0 where the system does not
// tell).
type footprint struct{ seconds, peak, process float64 }

// footprintRank is the rank of every method that has one.
const footprintRank = 16

// footprintShape has 97 million parameters; the quick form 9 million.
func footprintShape(quick bool) model.Config {
	c := model.Config{
		ModelType: "llama", VocabSize: 16384, HiddenSize: 768, IntermediateSize: 2048, Layers: 12, Heads: 12, KVHeads: 12, HeadDim: 64,
		MaxPositions: 512, NormEps: 1e-5, RopeTheta: 10000, HiddenAct: "silu", TieEmbeddings: true,
	}
	if quick {
		c.VocabSize, c.HiddenSize, c.IntermediateSize, c.Layers, c.Heads, c.KVHeads = 4096, 256, 1024, 6, 4, 4
	}
	return c
}

// footprintArms makes arms that run the tune test and measure the footprint.
func footprintArms(list ...tuneArm) []Arm {
	out := make([]Arm, len(list))
	for i, a := range list {
		out[i] = a.with(footprintPart(a.method))
	}
	return out
}

// footprintPart adds the figures of a step of the larger model.
func footprintPart(method string) part {
	return figuresPart(func(ctx context.Context, e Env, seed uint64) (map[string]float64, error) {
		f, err := footprintOf(ctx, e, method, seed)
		figures := map[string]float64{stepSeconds.Name: f.seconds, stepPeak.Name: f.peak}
		if f.process > 0 {
			figures[processPeak.Name] = f.process
		}
		return figures, err
	})
}

// footprintOf measures a method on random weights and tokens, which cost what real
// ones do: one step to warm up, then the timed ones.
func footprintOf(ctx context.Context, e Env, method string, seed uint64) (footprint, error) {
	debug.FreeOSMemory()
	tells := meminfo.ResetPeak()
	before, _ := meminfo.Peak()
	c := footprintShape(e.Quick)
	m, err := model.NewLlama(&c, seed)
	if err != nil {
		return footprint{}, err
	}
	a := tuneArm{method: method, rank: footprintRank}
	if method == tuning.Full {
		a.rank = 0
	}
	timed := e.Pick(3, 2)
	const batch = 2
	r := a.recipe(1e-4, 1+timed, batch, c.MaxPositions)
	ids := make([]int32, 8*batch*c.MaxPositions)
	for i := range ids {
		ids[i] = int32((uint64(i)*2654435761 + seed) % uint64(c.VocabSize))
	}
	source, err := data.NewWindows(ids, r.SeqLen, r.Batch, seed)
	if err != nil {
		return footprint{}, err
	}
	run, err := tuning.NewFrom(r, m, tuning.Data{Train: source}, seed)
	if err != nil {
		return footprint{}, err
	}
	var times []float64
	last := time.Now()
	err = run.Train(ctx, tuning.Watch{Step: func(run *tuning.Run) {
		times = append(times, time.Since(last).Seconds())
		last = time.Now()
		e.Step(run.Loop.Step, r.Steps, "100 M")
	}})
	if err != nil {
		return footprint{}, err
	}
	times = times[1:]
	slices.Sort(times)
	f := footprint{seconds: times[len(times)/2], peak: float64(run.Ledger.Peak().Total)}
	if after, ok := meminfo.Peak(); ok && tells && after > before {
		f.process = float64(after - before)
	}
	return f, nil
}
