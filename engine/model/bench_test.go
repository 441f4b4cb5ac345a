package model

import (
	"math/rand/v2"
	"testing"

	"tare/engine/grad"
	"tare/engine/tensor"
	"tare/engine/tensor/kernel"
)

// BenchmarkStep is a whole training step of a small llama with AdamW fused into the
// backward pass: 4 layers, width 256, 8 sequences of 128 tokens.
func BenchmarkStep(b *testing.B) {
	c := &Config{ModelType: "llama", VocabSize: 4096, HiddenSize: 256, IntermediateSize: 1024, Layers: 4, Heads: 4, KVHeads: 4, HeadDim: 64,
		MaxPositions: 128, NormEps: 1e-5, RopeTheta: 10000, HiddenAct: "silu"}
	m, err := NewLlama(c, 1)
	if err != nil {
		b.Fatal(err)
	}
	type state struct{ m, v []float32 }
	moments := map[*grad.Param]state{}
	for _, p := range m.Params() {
		p.Part = grad.Whole
		moments[p] = state{make([]float32, p.PartLen()), make([]float32, p.PartLen())}
	}
	rng := rand.New(rand.NewPCG(1, 1))
	tokens, targets := make([]int32, 1024), make([]int32, 1024)
	for i := range tokens {
		tokens[i], targets[i] = int32(rng.IntN(4096)), int32(rng.IntN(4096))
	}
	seqs := grad.Sequences{Lengths: []int{128, 128, 128, 128, 128, 128, 128, 128}}
	tp := grad.NewTape(nil)
	b.ReportAllocs()
	for b.Loop() {
		loss := Loss(tp, m, tokens, targets, seqs, 1024)
		if err := tp.Backward(loss, func(p *grad.Param, g *tensor.Tensor) error {
			s, w, d := moments[p], p.Value.F32(), g.F32()
			kernel.Parallel(len(w), 1<<14, func(lo, hi int) {
				kernel.AdamW(w[lo:hi], d[lo:hi], s.m[lo:hi], s.v[lo:hi], 1e-4, 0.9, 0.999, 1e-8, 0.01, 0.1, 0.1)
			})
			return nil
		}); err != nil {
			b.Fatal(err)
		}
	}
}
