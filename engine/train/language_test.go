package train

import (
	"math"
	"testing"

	"tare/engine/data"
	"tare/engine/grad"
	"tare/engine/model"
)

// given is a Source of the given batches, one after the other.
type given struct {
	batches []*data.Batch
	at      int
}

func (g *given) Next() (*data.Batch, error) {
	g.at++
	return g.batches[(g.at-1)%len(g.batches)], nil
}
func (g *given) State() ([]byte, error) { return nil, nil }
func (g *given) Restore([]byte) error   { return nil }

func document(from, n int) ([]int32, []int32) {
	tokens, targets := make([]int32, n), make([]int32, n)
	for i := range n {
		tokens[i], targets[i] = int32((from+i*i)%11), int32((from+(i+1)*(i+1))%11)
	}
	targets[n-1] = -1
	return tokens, targets
}

func pack(docs ...[2]int) *data.Batch {
	b := &data.Batch{}
	for _, d := range docs {
		x, y := document(d[0], d[1])
		b.Tokens, b.Targets, b.Lengths = append(b.Tokens, x...), append(b.Targets, y...), append(b.Lengths, len(x))
	}
	return b
}

func tiny(t *testing.T) model.Causal {
	m, err := model.NewLlama(&model.Config{ModelType: "llama", VocabSize: 11, HiddenSize: 16, IntermediateSize: 24, Layers: 2,
		Heads: 2, KVHeads: 1, HeadDim: 8, MaxPositions: 32, NormEps: 1e-5, RopeTheta: 10000, HiddenAct: "silu"}, 3)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range m.Params() {
		p.Part = grad.Whole
	}
	return m
}

// The loss of documents packed into one batch is the sum of what each has alone: none
// sees another.
func TestPackedDocumentsDoNotSeeEachOther(t *testing.T) {
	m := tiny(t)
	loss := func(b *data.Batch) float64 {
		tp := grad.NewTape(nil)
		var v float64
		tp.NoGrad(func() { v = float64(languageBatch{m, b}.Loss(tp, 1).Data[0]) })
		return v
	}
	docs := [][2]int{{0, 7}, {3, 12}, {5, 2}, {1, 9}}
	var sum float64
	for _, d := range docs {
		sum += loss(pack(d))
	}
	if got := loss(pack(docs...)); math.Abs(got-sum) > 1e-5*sum {
		t.Errorf("packed %v, one by one %v", got, sum)
	}
}

// Two micro-batches of 6 and 28 targets give the step that one batch of both gives: every
// token weighs the same.
func TestAccumulationWeighsTokensEqually(t *testing.T) {
	run := func(batches ...*data.Batch) (model.Causal, float64) {
		m := tiny(t)
		l := &Loop{Task: &Language{Model: m, Source: &given{batches: batches}}, Params: m.Params(), Optimizer: descent{},
			Options: Options{Steps: 1, LR: 0.5, Accumulate: len(batches)}, Tape: grad.NewTape(nil)}
		if err := l.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if l.Count != 34 {
			t.Fatalf("%d targets, want 34", l.Count)
		}
		return m, l.Loss
	}
	short, long := [][2]int{{0, 7}}, [][2]int{{3, 12}, {5, 18}}
	apart, lossApart := run(pack(short...), pack(long...))
	whole, lossWhole := run(pack(append(short, long...)...))
	if math.Abs(lossApart-lossWhole) > 1e-6*lossWhole {
		t.Errorf("loss %v in two, %v in one", lossApart, lossWhole)
	}
	want := whole.Params()
	for i, p := range apart.Params() {
		for k, w := range p.Value.F32() {
			if math.Abs(float64(w-want[i].Value.F32()[k])) > 1e-6 {
				t.Fatalf("%s[%d] is %v in two, %v in one", p.Name, k, w, want[i].Value.F32()[k])
			}
		}
	}
}
