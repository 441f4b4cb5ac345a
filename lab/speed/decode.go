package speed

import (
	"context"
	"fmt"

	"tare/engine/generate"
	"tare/engine/model"
	"tare/engine/nn"
	"tare/engine/tensor"
	"tare/engine/tensor/kernel"
	"tare/method/quant"
)

// models are the random models of a run, built when first asked for.
type models struct{ base *model.Llama }

// largeConfig is a llama of 97.5 M parameters.
func largeConfig() *model.Config {
	return &model.Config{ModelType: "llama", Architectures: []string{"LlamaForCausalLM"}, VocabSize: 16384, HiddenSize: 768, IntermediateSize: 2048, Layers: 12,
		Heads: 12, KVHeads: 12, HeadDim: 64, MaxPositions: 1024, NormEps: 1e-5, RopeTheta: 10000, TieEmbeddings: true, HiddenAct: "silu"}
}

// large returns the f32 model with random weights.
func (m *models) large() (*model.Llama, error) {
	var err error
	if m.base == nil {
		m.base, err = model.NewLlama(largeConfig(), 1)
	}
	return m.base, err
}

// held are a model's tensors in memory.
type held struct {
	names   []string
	tensors map[string]*tensor.Tensor
}

// Names implements model.Tensors.
func (h *held) Names() []string { return h.names }

// Tensor implements model.Tensors.
func (h *held) Tensor(name string) (*tensor.Tensor, error) { return h.tensors[name], nil }

// as returns the large model held as f32, bf16, or in 4-bit groups of 64 with the
// head, which the embedding shares, in bf16, of which decoding reads a copy in 8 bits.
func (m *models) as(storage string) (*model.Llama, error) {
	base, err := m.large()
	if err != nil || storage == "f32" {
		return base, err
	}
	src := &held{tensors: map[string]*tensor.Tensor{}}
	for _, e := range base.Export(tensor.BF16) {
		t, err := e.Read()
		if err != nil {
			return nil, err
		}
		src.names = append(src.names, e.Name)
		src.tensors[e.Name] = t
	}
	config, err := base.Config.JSON()
	if err != nil {
		return nil, err
	}
	l, err := model.Load(config, src, model.LoadOptions{Keep: true})
	if err != nil || storage == "bf16" {
		return l, err
	}
	for _, linear := range l.Linears() {
		w, err := nn.Materialize(linear.Weight)
		if err != nil {
			return nil, err
		}
		if linear.Weight, err = (&quant.RTN{Group: 64}).QuantizeLayer(linear.Name, w, nil); err != nil {
			return nil, err
		}
	}
	l.Embed.Table.Int8 = true // as in a checkpoint of packed layers
	return l, nil
}

// decodeTokens are decoded in a step, from a prompt of one token.
const decodeTokens = 32

func decodeJobs(_ Options, threads []int) []job {
	var jobs []job
	for _, storage := range []string{"f32", "bf16", "4-bit"} {
		for _, batch := range []int{1, 8} {
			var m *model.Llama
			j := job{threads: threads[len(threads)-1], unit: "token", amount: float64(decodeTokens * batch),
				shape: fmt.Sprintf("97 M parameters, %s, batch %d", storage, batch)}
			j.prepare = func(ctx context.Context, h *host) (func() error, func(), error) {
				var err error
				if m, err = h.scratch.as(storage); err != nil {
					return nil, nil, err
				}
				prompts := make([][]int32, batch)
				for i := range prompts {
					prompts[i] = []int32{int32(i + 1)}
				}
				return func() error {
					_, err := generate.Run(ctx, m, prompts, generate.Options{MaxTokens: decodeTokens}, nil)
					return err
				}, nil, nil
			}
			j.peers = func(ctx context.Context, h *host) ([]*runner, error) {
				return h.llamaRunners(ctx, storage, batch, j.threads)
			}
			j.weights = func() int64 { return decodeTokens * weightBytes(m) }
			jobs = append(jobs, j)
		}
	}
	return jobs
}

// weightBytes is what one pass of decoding reads: every linear layer and the head.
func weightBytes(m *model.Llama) int64 {
	linears := m.Linears()
	if m.Config.TieEmbeddings {
		linears = append(linears, m.Head)
	}
	var n int64
	for _, l := range linears {
		if q, ok := l.Weight.(*nn.Packed4); ok {
			n += q.Bytes()
			continue
		}
		for _, p := range l.Weight.Params() {
			if b := p.InBytes(); b != nil {
				n += b.Size()
				continue
			}
			n += int64(len(p.Value.Bytes()))
		}
	}
	return n
}

// memoryFloats is larger than the caches are.
const memoryFloats = 128 << 20

func memoryJobs(_ Options, threads []int) []job {
	var jobs []job
	for _, t := range threads {
		jobs = append(jobs, job{threads: t, unit: "GB", amount: 4 * memoryFloats / 1e9, shape: fmt.Sprintf("%d MB", 4*memoryFloats>>20),
			prepare: func(context.Context, *host) (func() error, func(), error) { return readMemory(), nil, nil }})
	}
	return jobs
}

// memoryGauge measures what memory gives beside a case.
func (h *host) memoryGauge(ctx context.Context) *runner {
	return &runner{name: "memory", gauge: true, sample: h.sampler(ctx, readMemory(), 4*memoryFloats/1e9)}
}

// readMemory returns a step that reads a large buffer once on all threads.
func readMemory() func() error {
	buf := make([]float32, memoryFloats)
	for i := 0; i < len(buf); i += 1024 {
		buf[i] = 1 // a page that was never written is not in memory
	}
	return func() error {
		kernel.Parallel(len(buf), 1<<16, func(lo, hi int) { kernel.AbsMax(buf[lo:hi]) })
		return nil
	}
}
