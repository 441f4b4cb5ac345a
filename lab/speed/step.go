package speed

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"

	"tare/engine/data"
	"tare/engine/grad"
	"tare/engine/model"
	"tare/engine/train"
	"tare/method/adapt"
	"tare/method/optim"
)

// stepRank is the rank of adapters, and how many columns of a layer PaCA trains.
const stepRank = 8

// training is what is trained a step: a llama on random tokens, batch sequences of
// length, all of it or through an adapter.
type training struct {
	config        *model.Config
	batch, length int
	method        string // an adapter's name, "" to train everything
	bf16          bool   // matrix products of bfloat16 operands
	again         bool   // the backward pass runs blocks again instead of keeping their activations
}

// The two models whose steps are timed, of 6.3 and 58.5 million parameters.
var (
	six   = training{config: stepConfig(4, 256, 1024, 4096, 128), batch: 8, length: 128}
	sixty = training{config: stepConfig(8, 512, 1408, 32000, 256), batch: 4, length: 256}
)

func stepConfig(layers, d, ff, vocab, length int) *model.Config {
	return &model.Config{ModelType: "llama", VocabSize: vocab, HiddenSize: d, IntermediateSize: ff, Layers: layers, Heads: d / 64, KVHeads: d / 64, HeadDim: 64,
		MaxPositions: length, NormEps: 1e-5, RopeTheta: 10000, HiddenAct: "silu"}
}

// by returns t trained through an adapter.
func (t training) by(method string) training { t.method = method; return t }

// rounded returns t with products of bfloat16 operands.
func (t training) rounded() training { t.bf16 = true; return t }

// checkpointed returns t with blocks that run again in the backward pass.
func (t training) checkpointed() training { t.again = true; return t }

// shape describes t in a table.
func (t training) shape() string {
	c := t.config
	text := fmt.Sprintf("%d layers, d %d, ff %d, vocab %d, batch %dx%d", c.Layers, c.HiddenSize, c.IntermediateSize, c.VocabSize, t.batch, t.length)
	if t.bf16 {
		text += ", bf16 products"
	}
	if t.again {
		text += ", checkpointing"
	}
	return text
}

// noun says what a step is of.
func (t training) noun() string {
	if t.method == "" {
		return "step"
	}
	return t.method + " step"
}

// arguments describe t to the script of its peer.
func (t training) arguments(threads int) []string {
	c := t.config
	args := []string{"--layers", strconv.Itoa(c.Layers), "--d", strconv.Itoa(c.HiddenSize), "--heads", strconv.Itoa(c.Heads), "--ff", strconv.Itoa(c.IntermediateSize),
		"--vocab", strconv.Itoa(c.VocabSize), "--batch", strconv.Itoa(t.batch), "--seq", strconv.Itoa(t.length), "--threads", strconv.Itoa(threads)}
	if t.method != "" {
		args = append(args, "--lora", strconv.Itoa(stepRank))
	}
	return args
}

// loop returns a loop over random tokens, as a program that trains has it.
func (t training) loop(ledger *grad.Ledger) (*train.Loop, error) {
	m, err := model.NewLlama(t.config, 1)
	if err != nil {
		return nil, err
	}
	m.SetCheckpointing(t.again)
	if err := choose(m, t.method); err != nil {
		return nil, err
	}
	rng := rand.New(rand.NewPCG(1, 1))
	ids := make([]int32, 64*t.batch*t.length+1)
	for i := range ids {
		ids[i] = int32(rng.IntN(t.config.VocabSize))
	}
	source, err := data.NewWindows(ids, t.length, t.batch, 1)
	if err != nil {
		return nil, err
	}
	tape := grad.NewTape(ledger)
	tape.BF16 = t.bf16
	return &train.Loop{
		Task: &train.Language{Model: m, Source: source}, Params: m.Params(), Optimizer: optim.NewAdamW(0.01, ledger),
		Options: train.Options{LR: 1e-3}, Tape: tape,
	}, nil
}

// steps makes loop do n steps more.
func steps(ctx context.Context, loop *train.Loop, n int) error {
	loop.Options.Steps = loop.Step + n
	return loop.Run(ctx)
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

// stepJobs times each model in f32, and with bfloat16 products beside the faster of
// PyTorch's f32 and its autocast.
func stepJobs(_ Options, threads []int) []job {
	var jobs []job
	all := threads[len(threads)-1]
	for _, t := range []training{six, sixty} {
		exact, cast := &torch{training: t}, &torch{training: t, autocast: true}
		jobs = append(jobs,
			t.job(threads, func(ctx context.Context, h *host) ([]*runner, error) { return exact.runners(ctx, h, all, false) }),
			t.rounded().job(threads, func(ctx context.Context, h *host) ([]*runner, error) {
				f32, err := exact.runners(ctx, h, all, true)
				if err != nil {
					return nil, err
				}
				bf16, err := cast.runners(ctx, h, all, true)
				return append(f32[len(f32)-1:], bf16...), err
			}))
	}
	return jobs
}

// PEFT's LoRA is the peer of LoRA alone: PEFT has no PaCA.
func loraJobs(_ Options, threads []int) []job {
	var jobs []job
	for _, t := range []training{six.by("lora"), sixty.by("lora")} {
		peer := &torch{training: t}
		jobs = append(jobs, t.job(threads, func(ctx context.Context, h *host) ([]*runner, error) {
			return peer.runners(ctx, h, threads[len(threads)-1], true)
		}))
	}
	return jobs
}

func pacaJobs(_ Options, threads []int) []job {
	return []job{six.by("paca").job(threads, nil), sixty.by("paca").job(threads, nil)}
}

// job times a step of t on all threads.
func (t training) job(threads []int, peers func(context.Context, *host) ([]*runner, error)) job {
	j := job{threads: threads[len(threads)-1], unit: "step", amount: 1, shape: t.shape(), peers: peers}
	j.prepare = func(ctx context.Context, _ *host) (func() error, func(), error) {
		loop, err := t.loop(nil)
		if err != nil {
			return nil, nil, err
		}
		return func() error { return steps(ctx, loop, 1) }, nil, nil
	}
	return j
}
