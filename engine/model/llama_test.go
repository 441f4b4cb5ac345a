package model

import (
	"math"
	"testing"

	"tare/engine/grad"
	"tare/engine/tensor"
)

func tiny() *Config {
	return &Config{ModelType: "llama", VocabSize: 37, HiddenSize: 16, IntermediateSize: 24, Layers: 2, Heads: 4, KVHeads: 2, HeadDim: 4,
		MaxPositions: 64, NormEps: 1e-5, RopeTheta: 10000, HiddenAct: "silu", TieEmbeddings: true}
}

func sample() (tokens, targets []int32, seqs grad.Sequences) {
	tokens = []int32{1, 5, 9, 30, 2, 7, 7, 3, 36, 0, 11}
	targets = []int32{5, 9, 30, 2, -1, 7, 3, 36, 0, 11, 12}
	return tokens, targets, grad.Sequences{Lengths: []int{5, 6}}
}

// spread draws larger weights than training starts from, so that every path has a
// gradient that finite differences can see.
func spread(m *Llama) {
	for _, p := range m.Params() {
		for i, v := range p.Value.F32() {
			if len(p.Value.Shape()) == 1 {
				p.Value.F32()[i] = 1 + 0.1*float32(math.Sin(float64(i)))
			} else {
				p.Value.F32()[i] = 10 * v
			}
		}
	}
}

func TestGradientsMatchFiniteDifferences(t *testing.T) {
	m, err := NewLlama(tiny(), 1)
	if err != nil {
		t.Fatal(err)
	}
	spread(m)
	tokens, targets, seqs := sample()
	ledger := &grad.Ledger{}
	tp := grad.NewTape(ledger)
	for i, p := range m.Params() {
		cols := p.Value.Shape()[len(p.Value.Shape())-1]
		switch {
		case i%4 == 1 && len(p.Value.Shape()) > 1 && i > 0:
			p.Part = grad.ColumnsOf([]int{3, 0, cols - 1})
		case i%4 == 2 && len(p.Value.Shape()) > 1:
			p.Part = grad.RowsOf([]int{1, 5})
		case i%4 == 3 && len(p.Value.Shape()) > 1:
			p.Part = grad.EntriesOf([]int{2, cols + 1, 7})
		default:
			p.Part = grad.Whole
		}
	}
	got := map[string][]float32{}
	loss := Loss(tp, m, tokens, targets, seqs, 10)
	if err := tp.Backward(loss, func(p *grad.Param, g *tensor.Tensor) error {
		if got[p.Name] != nil {
			t.Errorf("%s handed over twice", p.Name)
		}
		got[p.Name] = append([]float32(nil), g.F32()...)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for k := grad.Weights; k < grad.Kinds; k++ {
		if n := ledger.Now(k); n != 0 {
			t.Errorf("%d bytes of %s are still held after Backward", n, k)
		}
	}
	eval := func() float64 {
		var v float64
		tp.NoGrad(func() { v = float64(Loss(tp, m, tokens, targets, seqs, 10).Data[0]) })
		tp.Reset()
		return v
	}
	for _, p := range m.Params() {
		g := got[p.Name]
		if len(g) != p.PartLen() {
			t.Fatalf("%s: gradient of %d entries, want %d", p.Name, len(g), p.PartLen())
		}
		w := make([]float32, len(g))
		p.Gather(w)
		for i := 0; i < len(g); i += 1 + len(g)/7 {
			const h = 1e-2
			old := w[i]
			w[i] = old + h
			p.Scatter(w)
			up := eval()
			w[i] = old - h
			p.Scatter(w)
			down := eval()
			w[i] = old
			p.Scatter(w)
			want := (up - down) / (2 * h)
			if math.Abs(want-float64(g[i])) > 2e-3*(1+math.Abs(want)) {
				t.Errorf("%s[%d] (%v): gradient %g, finite difference %g", p.Name, i, p.Part.Kind, g[i], want)
			}
		}
	}
}

// Recomputing blocks must not change a bit of the gradients, and must keep less.
func TestCheckpointingGivesTheSameGradients(t *testing.T) {
	tokens, targets, seqs := sample()
	gradients := func(checkpointing bool) (map[string][]float32, int64) {
		m, err := NewLlama(tiny(), 1)
		if err != nil {
			t.Fatal(err)
		}
		spread(m)
		m.Checkpointing = checkpointing
		for _, p := range m.Params() {
			p.Part = grad.Whole
		}
		ledger := &grad.Ledger{}
		tp := grad.NewTape(ledger)
		got := map[string][]float32{}
		if err := tp.Backward(Loss(tp, m, tokens, targets, seqs, 10), func(p *grad.Param, g *tensor.Tensor) error {
			got[p.Name] = append([]float32(nil), g.F32()...)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return got, ledger.Peak().Activations
	}
	plain, kept := gradients(false)
	again, less := gradients(true)
	for name, g := range plain {
		for i, v := range g {
			if again[name][i] != v {
				t.Fatalf("%s[%d]: %g with checkpointing, %g without", name, i, again[name][i], v)
			}
		}
	}
	if less >= kept {
		t.Errorf("activations peak at %d bytes with checkpointing, %d without", less, kept)
	}
}
