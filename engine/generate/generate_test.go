package generate_test

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"tare/engine/generate"
	"tare/engine/grad"
	"tare/engine/model"
)

const vocab, positions = 41, 24

// newLlama returns a small model with weights so large that no two scores are near.
func newLlama(t *testing.T) model.Causal {
	t.Helper()
	m, err := model.New(&model.Config{
		ModelType: "llama", VocabSize: vocab, HiddenSize: 16, IntermediateSize: 24, Layers: 2, Heads: 4, KVHeads: 2, HeadDim: 4,
		MaxPositions: positions, NormEps: 1e-5, RopeTheta: 1e4, HiddenAct: "silu",
	}, 5)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range m.Params() {
		if len(p.Value.Shape()) > 1 {
			for i := range p.Value.F32() {
				p.Value.F32()[i] *= 25
			}
		}
	}
	return m
}

// lastScores runs a whole sequence without a cache and returns its last row of scores.
func lastScores(m model.Causal, tokens []int32) []float32 {
	tp := grad.NewTape(nil)
	var last []float32
	tp.NoGrad(func() {
		x := m.Hidden(tp, tokens, grad.Sequences{Lengths: []int{len(tokens)}}, nil)
		y := m.Logits(tp, x)
		last = slices.Clone(y.Data[(y.Rows-1)*y.Cols:])
	})
	tp.Reset()
	return last
}

func prompts() [][]int32 {
	return [][]int32{{3, 14, 15, 9, 2, 6}, {7}, {40, 0, 1, 33, 5, 8, 8, 8, 21, 30, 11}, {12, 13}}
}

// Greedy decoding with the cache is the chain of largest scores, each found by running
// all that came before.
func TestGreedyIsTheChainOfLargestScores(t *testing.T) {
	m := newLlama(t)
	got, err := generate.Run(t.Context(), m, prompts(), generate.Options{MaxTokens: 10}, nil)
	if err != nil {
		t.Fatal(err)
	}
	different := map[int32]bool{}
	for i, p := range prompts() {
		all := slices.Clone(p)
		for range 10 {
			scores := lastScores(m, all)
			best := slices.Index(scores, slices.Max(scores))
			all = append(all, int32(best))
		}
		if want := all[len(p):]; !slices.Equal(got[i], want) {
			t.Errorf("prompt %d: %v, want %v", i, got[i], want)
		}
		for _, id := range got[i] {
			different[id] = true
		}
	}
	if len(different) < 4 {
		t.Errorf("the chains have %d different tokens: they prove little", len(different))
	}
}

// However the sequences of a batch end, each goes on as it does alone.
func TestBatchEqualsSingle(t *testing.T) {
	m := newLlama(t)
	free, err := generate.Run(t.Context(), m, prompts(), generate.Options{MaxTokens: 12}, nil)
	if err != nil {
		t.Fatal(err)
	}
	// The first sequence stops at its fourth token, the third is ended by emit after two.
	stop := free[0][3]
	o := generate.Options{MaxTokens: 12, Stop: []int32{stop}}
	until := func(counts []int) func(int, int32) bool {
		return func(seq int, _ int32) bool { counts[seq]++; return counts[seq] != 2 }
	}
	counts := make([]int, 4)
	third := until(counts)
	batch, err := generate.Run(t.Context(), m, prompts(), o, func(seq int, id int32) bool { return seq != 2 || third(seq, id) })
	if err != nil {
		t.Fatal(err)
	}
	lengths := map[int]bool{}
	for i, p := range prompts() {
		var emit func(int, int32) bool
		if i == 2 {
			emit = until(make([]int, 1))
		}
		alone, err := generate.Run(t.Context(), m, [][]int32{p}, o, emit)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(alone[0], batch[i]) {
			t.Errorf("prompt %d: %v in the batch, %v alone", i, batch[i], alone[0])
		}
		want := free[i]
		if at := slices.Index(want, stop); at >= 0 {
			want = want[:at+1] // what stops a sequence stays in it
		}
		if i == 2 {
			want = want[:min(2, len(want))]
		}
		if !slices.Equal(batch[i], want) {
			t.Errorf("prompt %d: %v, want %v", i, batch[i], want)
		}
		lengths[len(batch[i])] = true
	}
	if len(lengths) < 2 {
		t.Error("all sequences end together: that proves little")
	}
}

// Drawn tokens depend on the seed and on the sequence's place, and not on its
// neighbours.
func TestSeeds(t *testing.T) {
	m := newLlama(t)
	run := func(seed uint64, prompts ...[]int32) [][]int32 {
		out, err := generate.Run(t.Context(), m, prompts, generate.Options{MaxTokens: 12, Temperature: 3, Seed: seed}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	p := prompts()
	batch := run(1, p[0], p[0], p[3])
	if again := run(1, p[0], p[0], p[3]); !slices.EqualFunc(batch, again, slices.Equal) {
		t.Error("the same seed gives other tokens")
	}
	if alone := run(1, p[0]); !slices.Equal(alone[0], batch[0]) {
		t.Errorf("%v beside others, %v alone", batch[0], alone[0])
	}
	if slices.Equal(batch[0], batch[1]) {
		t.Error("two sequences of one prompt draw the same numbers")
	}
	if other := run(2, p[0]); slices.Equal(other[0], batch[0]) {
		t.Error("another seed gives the same tokens")
	}
}

// scripted is a model with the given scores after every token. It notes how far its
// positions reach.
type scripted struct {
	model.Causal
	scores []float32
	reach  int
	steps  int
}

func (m *scripted) Info() *model.Config {
	return &model.Config{VocabSize: len(m.scores), MaxPositions: positions}
}
func (m *scripted) Blocks() []model.Block { return nil }
func (m *scripted) Hidden(tp *grad.Tape, tokens []int32, seqs grad.Sequences, _ *model.Cache) *grad.Value {
	m.steps++
	for i, n := range seqs.Lengths {
		m.reach = max(m.reach, seqs.Offset(i)+n)
	}
	return tp.Const(make([]float32, len(tokens)), len(tokens), 1)
}
func (m *scripted) Logits(tp *grad.Tape, x *grad.Value) *grad.Value {
	return tp.Const(slices.Repeat(m.scores, x.Rows), x.Rows, len(m.scores))
}

// Run draws from the distribution that the options make of the model's scores.
func TestRunFrequencies(t *testing.T) {
	m := &scripted{scores: []float32{0.5, -1, 2, 1, 0}}
	o := generate.Options{MaxTokens: 20, Temperature: 0.8, TopK: 4, TopP: 0.9, Seed: 4}
	counts, n := make([]int, 5), 0
	out, err := generate.Run(t.Context(), m, slices.Repeat([][]int32{{1}}, 500), o, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, seq := range out {
		for _, id := range seq {
			counts[id]++
			n++
		}
	}
	if n != 500*20 {
		t.Fatalf("%d tokens", n)
	}
	for i, p := range exact(m.scores, o) {
		got, bound := float64(counts[i])/float64(n), 4*math.Sqrt(p*(1-p)/float64(n))
		if math.Abs(got-p) > bound {
			t.Errorf("token %d comes in %.4f of draws, want %.4f ± %.4f", i, got, p, bound)
		}
	}
}

// A prompt must leave a position; the answer ends where positions do.
func TestPositions(t *testing.T) {
	long := func(n int) []int32 { return make([]int32, n) }
	for _, n := range []int{1, 5, positions - 2, positions - 1} {
		m := &scripted{scores: []float32{0, 1}}
		out, err := generate.Run(t.Context(), m, [][]int32{long(n), {1}}, generate.Options{MaxTokens: 1000}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if len(out[0]) != positions-n || len(out[1]) != positions-1 || m.reach >= positions {
			t.Errorf("a prompt of %d: %d and %d tokens, positions up to %d of %d", n, len(out[0]), len(out[1]), m.reach, positions)
		}
	}
	for _, n := range []int{0, positions, positions + 1} {
		m := &scripted{scores: []float32{0, 1}}
		_, err := generate.Run(t.Context(), m, [][]int32{{1}, long(n)}, generate.Options{}, nil)
		if !errors.Is(err, generate.ErrTooLong) || !strings.Contains(err.Error(), "prompt 1") || m.steps != 0 {
			t.Errorf("a prompt of %d: %v after %d steps", n, err, m.steps)
		}
	}
}

func TestHowMuchIsGenerated(t *testing.T) {
	m := &wide{scripted{scores: []float32{0, 1}}}
	out, err := generate.Run(t.Context(), m, [][]int32{{1}}, generate.Options{}, nil)
	if err != nil || len(out[0]) != 64 {
		t.Errorf("%d tokens, want the default of 64: %v", len(out[0]), err)
	}
	if out, err = generate.Run(t.Context(), m, nil, generate.Options{}, nil); err != nil || len(out) != 0 {
		t.Errorf("no prompts: %v, %v", out, err)
	}
	// Nothing runs once all sequences have stopped.
	m.steps = 0
	if _, err = generate.Run(t.Context(), m, [][]int32{{1}, {0}}, generate.Options{Stop: []int32{5, 1}}, nil); err != nil || m.steps != 1 {
		t.Errorf("%d steps for sequences that stop at the first: %v", m.steps, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	out, err = generate.Run(ctx, m, [][]int32{{1}}, generate.Options{}, func(_ int, _ int32) bool { cancel(); return true })
	if !errors.Is(err, context.Canceled) || len(out[0]) != 1 {
		t.Errorf("cancelled at the first token: %v, %v", out, err)
	}
}

// wide has positions for all.
type wide struct{ scripted }

func (*wide) Info() *model.Config { return &model.Config{VocabSize: 2, MaxPositions: 1 << 20} }

func TestValidate(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	for _, o := range []generate.Options{
		{MaxTokens: -1}, {TopK: -1}, {Temperature: -0.1}, {Temperature: nan}, {Temperature: inf}, {TopP: -0.1}, {TopP: 1.1}, {TopP: nan},
	} {
		if o.Validate() == nil {
			t.Errorf("%+v is taken", o)
		}
		if _, err := generate.Run(t.Context(), &scripted{scores: []float32{1}}, [][]int32{{0}}, o, nil); err == nil {
			t.Errorf("%+v runs", o)
		}
	}
	for _, o := range []generate.Options{{}, {MaxTokens: 1, TopK: 1, Temperature: 100, TopP: 1}} {
		if err := o.Validate(); err != nil {
			t.Errorf("%+v: %v", o, err)
		}
	}
}
