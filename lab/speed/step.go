package speed

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"

	"tare/bench"
	"tare/engine/data"
	"tare/engine/grad"
	"tare/engine/model"
	"tare/engine/train"
	"tare/method/adapt"
	"tare/method/optim"
)

// The model whose step is timed, 6.3 M parameters, and its batch.
const (
	stepBatch, stepLength = 8, 128
	stepRank              = 8
)

func stepConfig() *model.Config {
	return &model.Config{ModelType: "llama", VocabSize: 4096, HiddenSize: 256, IntermediateSize: 1024, Layers: 4, Heads: 4, KVHeads: 4, HeadDim: 64,
		MaxPositions: stepLength, NormEps: 1e-5, RopeTheta: 10000, HiddenAct: "silu"}
}

func stepJobs(_ Options, threads []int) []job { return trainingJobs(threads, "", false) }

// PEFT's LoRA is the peer of LoRA alone: PEFT has no PaCA.
func loraJobs(_ Options, threads []int) []job { return trainingJobs(threads, "lora", false) }
func pacaJobs(_ Options, threads []int) []job { return trainingJobs(threads, "paca", true) }

// trainingJobs times a step on all threads. method is an adapter's, or "" to train
// everything.
func trainingJobs(threads []int, method string, alone bool) []job {
	c := stepConfig()
	all := threads[len(threads)-1]
	j := job{threads: all, unit: "step", amount: 1,
		shape: fmt.Sprintf("%d layers, d %d, ff %d, vocab %d, batch %dx%d", c.Layers, c.HiddenSize, c.IntermediateSize, c.VocabSize, stepBatch, stepLength)}
	j.prepare = func(ctx context.Context, _ *host) (func() error, func(), error) {
		loop, err := trainingLoop(method)
		if err != nil {
			return nil, nil, err
		}
		return func() error {
			loop.Options.Steps = loop.Step + 1
			return loop.Run(ctx)
		}, nil, nil
	}
	if alone {
		return []job{j}
	}
	j.peers = func(ctx context.Context, h *host) ([]*runner, error) {
		args := []string{"--layers", strconv.Itoa(c.Layers), "--d", strconv.Itoa(c.HiddenSize), "--heads", strconv.Itoa(c.Heads), "--ff", strconv.Itoa(c.IntermediateSize),
			"--vocab", strconv.Itoa(c.VocabSize), "--batch", strconv.Itoa(stepBatch), "--seq", strconv.Itoa(stepLength), "--threads", strconv.Itoa(all)}
		if method != "" {
			args = append(args, "--lora", strconv.Itoa(stepRank))
		}
		if h.o.Quick {
			args = append(args, "--tries", "1")
		}
		if h.o.Log != nil {
			h.o.Log("PyTorch: trying which of its settings are fastest here")
		}
		server, err := h.start(ctx, "torch_step.py", bench.TorchStep, args...)
		if err != nil {
			return nil, err
		}
		var peers []*runner
		for i := range server.Peers {
			peers = append(peers, server.runner(i, j.amount, map[string]any{"peer": i, "seconds": h.seconds}))
		}
		peers[0].close = server.close
		return peers, nil
	}
	return []job{j}
}

// trainingLoop returns a loop over random tokens, as a program that trains has it.
func trainingLoop(method string) (*train.Loop, error) {
	c := stepConfig()
	m, err := model.NewLlama(c, 1)
	if err != nil {
		return nil, err
	}
	if err := choose(m, method); err != nil {
		return nil, err
	}
	rng := rand.New(rand.NewPCG(1, 1))
	ids := make([]int32, 64*stepBatch*stepLength+1)
	for i := range ids {
		ids[i] = int32(rng.IntN(c.VocabSize))
	}
	source, err := data.NewWindows(ids, stepLength, stepBatch, 1)
	if err != nil {
		return nil, err
	}
	return &train.Loop{
		Task: &train.Language{Model: m, Source: source}, Params: m.Params(), Optimizer: optim.NewAdamW(0.01, nil),
		Options: train.Options{LR: 1e-3}, Tape: grad.NewTape(nil),
	}, nil
}

// choose lets everything train, or an adapter on all linear layers.
func choose(m *model.Llama, method string) error {
	var o adapt.Options
	switch method {
	case "":
		for _, p := range m.Params() {
			p.Part = grad.Whole
		}
		return nil
	case "lora":
		o = &adapt.LoRA{Rank: stepRank, Alpha: 2 * stepRank}
	case "paca":
		o = &adapt.PaCA{Rank: stepRank, Choice: "random"}
	}
	row, err := adapt.ByName(method)
	if err != nil {
		return err
	}
	_, err = adapt.Attach(m, row, o, []string{adapt.AllLinear}, 1)
	return err
}
